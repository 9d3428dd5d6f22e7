"""The reference engine: SimPy processes, one iteration of the server's loop at a time.

What it means:

* A request runs its stages one after another; the samples of a stage start together and the stage ends with the last.
  The client gives up ``timeout_s`` (of the deployment it is at) after the request arrived.
* A **GPU pool** is replicas of vLLM V1's loop, without KV limits. A request goes to the replica with the fewest unfinished
  sequences. Each iteration first gives every running sequence one token, then spends what is left of
  ``max_num_batched_tokens`` on prefill: prompts already begun, then waiting requests in order of arrival while
  ``max_num_seqs`` has room for all their samples. The samples of a request share its prompt, which is prefilled once; the
  iteration that completes it also yields the first token of each. A sequence of N output tokens so takes its prefill and
  N - 1 further iterations. A request that has timed out leaves the batch between two iterations; what was generated for it
  by then counts.
* An **API endpoint** takes a stage as one call with n choices: the prompt is billed once. A call that finds a rate limit or
  the concurrency exhausted is answered 429 and the client calls again after a backoff. An accepted call runs to its end and is
  billed in full, whether or not the client still waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np
import simpy

from ttc_sim.engine.work import COMPLETED, IN_FLIGHT, REJECTED, TIMED_OUT, EngineResult, Work
from ttc_sim.policies import Load
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.serving.api_limits import ApiLimits, backoff_s
from ttc_sim.serving.step_time import Linear

Route = Callable[[int, Load], int]
Process = Generator[simpy.Event, Any, None]


def run(
    works: Sequence[Work],
    names: Sequence[str],
    deployments: Sequence[Api | GpuPool],
    route: Route | None = None,
    until_s: float | None = None,
) -> EngineResult:
    """Run all requests to their end.

    Args:
        works: one, or with ``route`` one per arm over the same requests.
        names: of the deployments, for ``Load``.
        deployments: that ``Work.deployment`` indexes.
        route: called as each request arrives; says which of ``works`` is carried out for it.
        until_s: stop the clock here; requests not finished by then are in flight.

    Returns:
        Times, tokens and status of every request.
    """
    return _Simulation(works, names, deployments, route).run(until_s)


@dataclass(eq=False)
class _Group:
    """The samples of one stage on a replica."""

    request: int
    prompt: int
    first_sample: int
    tokens: list[int]
    done: simpy.Event
    prefilled: int = 0
    started_at: int = -1  # iteration at whose end the first tokens came
    unfinished: int = 0
    dropped: bool = False


class _Simulation:
    """State of one run."""

    def __init__(
        self, works: Sequence[Work], names: Sequence[str], deployments: Sequence[Api | GpuPool], route: Route | None
    ) -> None:
        n = works[0].requests
        self.env = simpy.Environment()
        self.works, self.names, self.deployments, self.route = works, names, deployments, route
        self.status = np.full(n, IN_FLIGHT, dtype=np.int8)
        self.arm = np.zeros(n, dtype=np.int64)
        self.started_s, self.first_token_s, self.finished_s = (np.full(n, np.nan) for _ in range(3))
        self.retries = np.zeros(n, dtype=np.int64)
        self.generated = [np.zeros(work.samples, dtype=np.int64) for work in works]
        self.prefilled = [np.zeros(len(work.deployment), dtype=np.int64) for work in works]
        self.servers: list[_Pool | _Endpoint] = [
            _Pool(self, item) if isinstance(item, GpuPool) else _Endpoint(self, item) for item in deployments
        ]

    def run(self, until_s: float | None) -> EngineResult:
        self.env.process(self._arrivals())
        self.env.run(until=until_s)
        for server in self.servers:
            server.close()
        return EngineResult(
            status=self.status,
            arm=self.arm,
            started_s=self.started_s,
            first_token_s=self.first_token_s,
            finished_s=self.finished_s,
            retries=self.retries,
            generated_tokens=tuple(self.generated),
            prefilled_tokens=tuple(self.prefilled),
            busy_s=np.array([server.busy_s for server in self.servers]),
            end_s=float(self.env.now),
        )

    def _arrivals(self) -> Process:
        env = self.env
        for request, arrival_s in enumerate(self.works[0].arrival_s.tolist()):
            if arrival_s > env.now:
                yield env.timeout(arrival_s - env.now)
            env.process(self._request(request))

    def _load(self) -> Load:
        pairs = list(zip(self.names, self.servers, strict=True))
        return Load(
            now_s=float(self.env.now),
            in_progress={name: server.in_progress for name, server in pairs},
            waiting={name: server.waiting for name, server in pairs},
        )

    def _request(self, request: int) -> Process:
        if self.route is not None:
            self.arm[request] = self.route(request, self._load())
        work = self.works[self.arm[request]]
        status = COMPLETED
        for stage in range(work.stage_start[request], work.stage_start[request + 1]):
            server = self.servers[work.deployment[stage]]
            status = yield from server.serve(request, stage, work, int(self.arm[request]))
            if status != COMPLETED:
                break
        self.status[request] = status
        self.finished_s[request] = self.env.now

    def seconds_left(self, request: int, timeout_s: float | None) -> float:
        """Until the client gives up."""
        if timeout_s is None:
            return float("inf")
        return float(self.works[0].arrival_s[request]) + timeout_s - float(self.env.now)


class _Pool:
    """Replicas behind a least-outstanding load balancer."""

    def __init__(self, simulation: _Simulation, pool: GpuPool) -> None:
        self.simulation, self.pool = simulation, pool
        self.replicas = [_Replica(simulation, pool) for _ in range(pool.replicas)]

    @property
    def in_progress(self) -> int:
        return sum(len(replica.running) + len(replica.prefilling) for replica in self.replicas)

    @property
    def waiting(self) -> int:
        return sum(len(replica.queue) for replica in self.replicas)

    @property
    def busy_s(self) -> float:
        return sum(replica.busy_s for replica in self.replicas)

    def serve(self, request: int, stage: int, work: Work, arm: int) -> Generator[simpy.Event, Any, int]:
        env, pool = self.simulation.env, self.pool
        lo, hi = int(work.sample_start[stage]), int(work.sample_start[stage + 1])
        if hi - lo > pool.max_num_seqs:
            return REJECTED
        replica = min(self.replicas, key=lambda one: one.unfinished)
        if pool.queue_limit is not None and len(replica.queue) >= pool.queue_limit and not replica.has_room(hi - lo):
            return REJECTED
        tokens = (work.reasoning_tokens[lo:hi] + work.visible_tokens[lo:hi]).tolist()
        group = _Group(request, int(work.prompt_tokens[stage]), lo, tokens, env.event())
        replica.submit(group)
        left_s = self.simulation.seconds_left(request, pool.timeout_s)
        if left_s == float("inf"):
            yield group.done
        else:
            yield group.done | env.timeout(max(left_s, 0.0))
        timed_out = not group.done.triggered
        if timed_out:
            replica.drop(group)
        self.simulation.prefilled[arm][stage] = group.prefilled
        self.simulation.generated[arm][lo:hi] = replica.generated(group)
        return TIMED_OUT if timed_out else COMPLETED

    def close(self) -> None:
        """Count what requests in flight have had so far."""
        simulation = self.simulation
        for replica in self.replicas:
            for group in [*replica.running, *replica.prefilling]:
                arm = int(simulation.arm[group.request])
                work = simulation.works[arm]
                stage = int(np.searchsorted(work.sample_start, group.first_sample, side="right")) - 1
                simulation.prefilled[arm][stage] = group.prefilled
                lo = group.first_sample
                simulation.generated[arm][lo : lo + len(group.tokens)] = replica.generated(group)


class _Replica:
    """One server's loop. Iterations in which nobody joins or leaves cost the same few operations, whatever the batch."""

    def __init__(self, simulation: _Simulation, pool: GpuPool) -> None:
        self.simulation, self.pool = simulation, pool
        self.step = Linear(pool.step_time)
        self.queue: deque[_Group] = deque()
        self.prefilling: deque[_Group] = deque()
        self.running: set[_Group] = set()
        self.ends: list[tuple[int, int, _Group]] = []  # (iteration at whose end a sequence finishes, order, group)
        self.iteration = 0
        self.decoding = 0  # sequences that get a token in every iteration
        self.kv_tokens = 0  # that those sequences hold
        self.admitted = 0  # sequences in the batch, decoding or prefilling
        self.unfinished = 0  # sequences in the batch or the queue
        self.order = 0
        self.busy_s = 0.0
        self.asleep = True

    def has_room(self, samples: int) -> bool:
        return not self.queue and self.admitted + samples <= self.pool.max_num_seqs

    def submit(self, group: _Group) -> None:
        self.queue.append(group)
        self.unfinished += len(group.tokens)
        if self.asleep:
            self.asleep = False
            self.simulation.env.process(self._loop())

    def generated(self, group: _Group) -> list[int]:
        """Output tokens that each sample has had."""
        if group.started_at < 0:
            return [0] * len(group.tokens)
        given = self.iteration - group.started_at + 1
        return [min(tokens, given) for tokens in group.tokens]

    def drop(self, group: _Group) -> None:
        """Take a request out; it keeps the tokens it has had."""
        tokens = self.generated(group)
        group.dropped = True
        if group in self.running:
            self.running.discard(group)
            for total, had in zip(group.tokens, tokens, strict=True):
                if had < total:
                    self.decoding -= 1
                    self.kv_tokens -= group.prompt + had
                    self.admitted -= 1
                    self.unfinished -= 1
        else:
            if group in self.prefilling:
                self.prefilling.remove(group)
                self.admitted -= len(group.tokens)
            else:
                self.queue.remove(group)
            self.unfinished -= len(group.tokens)

    def _loop(self) -> Process:
        env, pool = self.simulation.env, self.pool
        while self.unfinished:
            decoding, budget = self.decoding, pool.max_num_batched_tokens - self.decoding
            chunks = self._plan_prefill(budget) if (self.queue or self.prefilling) and budget > 0 else []
            prefill = sum(tokens for _, tokens in chunks)
            duration_s = self.step.seconds(prefill, decoding, self.kv_tokens)
            yield env.timeout(duration_s)
            self.busy_s += duration_s
            self.iteration += 1
            # Requests that timed out meanwhile have already been taken out of the counts.
            self.kv_tokens += self.decoding
            ends = self.ends
            while ends and ends[0][0] <= self.iteration:
                self._finish_sequence(heappop(ends))
            for group, tokens in chunks:
                if not group.dropped:
                    self._take_in(group, tokens)
        self.asleep = True

    def _plan_prefill(self, budget: int) -> list[tuple[_Group, int]]:
        """Prompt chunks of this iteration: those begun first, then whoever waits and fits."""
        now_s = self.simulation.env.now
        chunks: list[tuple[_Group, int]] = []
        for group in self.prefilling:
            if budget <= 0:
                return chunks
            tokens = min(budget, group.prompt - group.prefilled)
            chunks.append((group, tokens))
            budget -= tokens
        while self.queue and budget > 0 and self.admitted + len(self.queue[0].tokens) <= self.pool.max_num_seqs:
            group = self.queue.popleft()
            self.admitted += len(group.tokens)
            self.prefilling.append(group)
            if np.isnan(self.simulation.started_s[group.request]):
                self.simulation.started_s[group.request] = now_s
            tokens = min(budget, group.prompt)
            chunks.append((group, tokens))
            budget -= tokens
        return chunks

    def _take_in(self, group: _Group, tokens: int) -> None:
        group.prefilled += tokens
        if group.prefilled < group.prompt:
            return
        self.prefilling.remove(group)
        self.running.add(group)
        group.started_at = self.iteration
        group.unfinished = len(group.tokens)
        if np.isnan(self.simulation.first_token_s[group.request]):
            self.simulation.first_token_s[group.request] = self.simulation.env.now
        for total in group.tokens:
            self.decoding += 1
            self.kv_tokens += group.prompt + 1
            end = (self.iteration + total - 1, self.order, group)
            self.order += 1
            if total == 1:
                self._finish_sequence(end)
            else:
                heappush(self.ends, end)

    def _finish_sequence(self, end: tuple[int, int, _Group]) -> None:
        group = end[2]
        if group.dropped:
            return
        self.decoding -= 1
        self.kv_tokens -= group.prompt + end[0] - group.started_at + 1
        self.admitted -= 1
        self.unfinished -= 1
        group.unfinished -= 1
        if group.unfinished == 0:
            self.running.discard(group)
            group.done.succeed()


class _Endpoint:
    """An API behind rate limits."""

    def __init__(self, simulation: _Simulation, api: Api) -> None:
        self.simulation, self.api = simulation, api
        self.limits = ApiLimits(api)
        self.waiting = 0
        self.busy_s = 0.0
        self.busy_since_s = 0.0
        self.calls: set[tuple[int, int]] = set()

    @property
    def in_progress(self) -> int:
        return self.limits.in_progress

    def serve(self, request: int, stage: int, work: Work, arm: int) -> Generator[simpy.Event, Any, int]:
        simulation, env, api = self.simulation, self.simulation.env, self.api
        lo, hi = int(work.sample_start[stage]), int(work.sample_start[stage + 1])
        tokens = work.reasoning_tokens[lo:hi] + work.visible_tokens[lo:hi]
        asked = int(work.prompt_tokens[stage] + tokens.sum())
        if self.limits.never(asked):
            return REJECTED
        attempt = 0
        while not self.limits.admit(asked, float(env.now)):
            if attempt == api.retry.retries:
                return REJECTED
            wait_s = backoff_s(api.retry, attempt, float(work.backoff[request, attempt]))
            left_s = simulation.seconds_left(request, api.timeout_s)
            self.waiting += 1
            yield env.timeout(max(min(wait_s, left_s), 0.0))
            self.waiting -= 1
            if left_s <= wait_s:
                return TIMED_OUT
            attempt += 1
            simulation.retries[request] += 1
        if np.isnan(simulation.started_s[request]):
            simulation.started_s[request] = env.now
        took_s = work.first_token_s[lo:hi] + (tokens - 1) * work.per_token_s[lo:hi]
        env.process(self._call(request, stage, work, arm, float(took_s.max())))
        left_s = simulation.seconds_left(request, api.timeout_s)
        first_s, last_s = float(work.first_token_s[lo:hi].min()), float(took_s.max())
        if np.isnan(simulation.first_token_s[request]) and first_s <= left_s:
            simulation.first_token_s[request] = env.now + first_s
        yield env.timeout(max(min(last_s, left_s), 0.0))
        return COMPLETED if last_s <= left_s else TIMED_OUT

    def _call(self, request: int, stage: int, work: Work, arm: int, last_s: float) -> Process:
        """The provider's side: goes on to the end and bills all of it, whether or not the client still waits."""
        simulation, env = self.simulation, self.simulation.env
        if self.limits.in_progress == 1:
            self.busy_since_s = float(env.now)
        lo, hi = int(work.sample_start[stage]), int(work.sample_start[stage + 1])
        simulation.prefilled[arm][stage] = work.prompt_tokens[stage]
        simulation.generated[arm][lo:hi] = work.reasoning_tokens[lo:hi] + work.visible_tokens[lo:hi]
        yield env.timeout(last_s)
        self.limits.in_progress -= 1
        if self.limits.in_progress == 0:
            self.busy_s += float(env.now) - self.busy_since_s

    def close(self) -> None:
        """Calls in progress count as billed in full: the provider will finish them."""
        if self.limits.in_progress:
            self.busy_s += float(self.simulation.env.now) - self.busy_since_s
