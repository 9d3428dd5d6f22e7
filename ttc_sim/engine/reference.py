"""The reference engine: SimPy processes, one iteration of the server's loop at a time.

What it means:

* A request runs its stages one after another; the samples of a stage start together on one replica, and the stage ends when
  as many as it needs have ended. The client gives up ``timeout_s`` (of the deployment it is at) after the request arrived.
* A **GPU pool** is replicas of vLLM V1's loop (:mod:`ttc_sim.engine.replica`) behind a load balancer. A request that could
  never fit into the KV cache, or that finds the queue full, is rejected. A request that has timed out leaves the queue at
  once and the batch at the end of the iteration in progress, with the tokens it has had.
* An **API endpoint** takes a stage as one call with n choices: the prompt is billed once. A call that finds a rate limit or
  the concurrency exhausted is answered 429 and the client calls again after a backoff. An accepted call runs to its end and is
  billed in full, whether or not the client still waits.

At one instant the clients react in the order in which the servers answered, and only then do servers begin iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import simpy

from ttc_sim.engine.recording import Recorder
from ttc_sim.engine.replica import Replica, Stage
from ttc_sim.engine.work import (
    COMPLETED,
    REJECTED,
    TIMED_OUT,
    EngineResult,
    Work,
    capacity,
    check_work,
    end_of_run,
    pick_live,
)
from ttc_sim.policies import LiveRule, Load
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.serving.api_limits import ApiLimits, backoff_s
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.step_time import StepTable

Route = Callable[[int, Load], int]
Process = Generator[simpy.Event, Any, None]


def run(
    works: Sequence[Work],
    names: Sequence[str],
    deployments: Sequence[Api | GpuPool],
    route: Route | LiveRule | None = None,
    until_s: float | None = None,
    watch: Callable[[Replica], None] | None = None,
    tables: Sequence[StepTable | None] | None = None,
) -> EngineResult:
    """Run all requests to their end.

    Args:
        works: one, or with ``route`` one per arm over the same requests.
        names: of the deployments, for ``Load``.
        deployments: that ``Work.deployment`` indexes.
        route: called as each request arrives; says which of ``works`` is carried out for it.
        until_s: stop the clock here; requests not finished by then are in flight.
        watch: called at the beginning and end of every iteration of every replica.
        tables: step times by deployment, instead of the pools' own.

    Returns:
        Times, tokens and status of every request.

    Raises:
        ValueError: work that no engine could carry out.
    """
    for work in works:
        check_work(work)
    return Simulation(works, names, deployments, route, watch, tables).run(until_s)


class Simulation(Recorder):
    """State of one run: the clients' side, and where the servers record what they did."""

    def __init__(
        self,
        works: Sequence[Work],
        names: Sequence[str],
        deployments: Sequence[Api | GpuPool],
        route: Route | LiveRule | None,
        watch: Callable[[Replica], None] | None,
        tables: Sequence[StepTable | None] | None,
    ) -> None:
        super().__init__(works, watch)
        self.names, self.deployments, self.route = names, deployments, route
        self.servers: list[_Pool | _Endpoint] = [
            _Pool(self, item, table or pool_table(item)) if isinstance(item, GpuPool) else _Endpoint(self, item)
            for item, table in zip(deployments, tables or [None] * len(deployments), strict=True)
        ]
        self.next_of = np.full(works[0].requests, -1, dtype=np.int64)
        after = works[0].after
        if after is not None:
            self.next_of[after[after >= 0]] = np.flatnonzero(after >= 0)

    def run(self, until_s: float | None) -> EngineResult:
        """Run to the end of all events, or of the clock."""
        self.env.process(self._arrivals())
        self.env.run(until=until_s)
        for server in self.servers:
            server.close()
        return EngineResult(
            status=self.status,
            arm=self.arm,
            arrival_s=self.arrival_s,
            started_s=self.started_s,
            first_token_s=self.first_token_s,
            finished_s=self.finished_s,
            retries=self.retries,
            preemptions=self.preemptions,
            generated_tokens=tuple(self.generated),
            prefilled_tokens=tuple(self.prefilled),
            cached_tokens=tuple(self.cached),
            busy_s=np.array([server.busy_s for server in self.servers]),
            end_s=end_of_run(self.finished_s, until_s),
        )

    def _arrivals(self) -> Process:
        work, env = self.works[0], self.env
        for request, arrival_s in enumerate(work.arrival_s.tolist()):
            if work.after is not None and work.after[request] >= 0:
                continue
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

    def _choose(self, request: int) -> int:
        if isinstance(self.route, LiveRule):
            choices = self.route.arms[request]
            at = np.array([self.works[arm].deployment[self.works[arm].stage_start[request]] for arm in choices])
            waiting = np.array([server.waiting for server in self.servers], dtype=np.int64)
            in_progress = np.array([server.in_progress for server in self.servers], dtype=np.int64)
            most = np.array([capacity(item) for item in self.deployments])
            overflow = self.route.kind == "overflow"
            return int(choices[pick_live(overflow, self.route.limit, len(at), at, waiting, in_progress, most)])
        return 0 if self.route is None else self.route(request, self._load())

    def _request(self, request: int) -> Process:
        self.arm[request] = self._choose(request)
        arm = int(self.arm[request])
        work = self.works[arm]
        status = COMPLETED
        for stage in range(work.stage_start[request], work.stage_start[request + 1]):
            status = yield from self.servers[work.deployment[stage]].serve(request, arm, stage)
            if status != COMPLETED:
                break
        self.status[request] = status
        self.finished_s[request] = self.env.now
        if self.next_of[request] >= 0:
            self.env.process(self._next(int(self.next_of[request])))

    def _next(self, request: int) -> Process:
        think_s = self.works[0].think_s
        assert think_s is not None
        yield self.env.timeout(float(think_s[request]))
        self.arrival_s[request] = self.env.now
        yield from self._request(request)

    def seconds_left(self, request: int, timeout_s: float | None) -> float:
        """Until the client gives up."""
        if timeout_s is None:
            return float("inf")
        return float(self.arrival_s[request]) + timeout_s - float(self.env.now)


class _Pool:
    """Replicas behind a load balancer."""

    def __init__(self, simulation: Simulation, pool: GpuPool, table: StepTable) -> None:
        self.simulation, self.pool = simulation, pool
        self.replicas = [Replica(simulation, pool, table) for _ in range(pool.replicas)]
        self.turn = 0

    @property
    def in_progress(self) -> int:
        return sum(len(replica.running) for replica in self.replicas)

    @property
    def waiting(self) -> int:
        return sum(len(replica.waiting) for replica in self.replicas)

    @property
    def busy_s(self) -> float:
        return sum(replica.busy_s for replica in self.replicas)

    def serve(self, request: int, arm: int, number: int) -> Generator[simpy.Event, Any, int]:
        env, work = self.simulation.env, self.simulation.works[arm]
        left_s = self.simulation.seconds_left(request, self.pool.timeout_s)
        if left_s <= 0:
            return TIMED_OUT
        stage = Stage(work, request, arm, number, env.event())
        replica = self._balance(stage)
        if not replica.accepts(stage):
            return REJECTED
        replica.submit(stage)
        if left_s == float("inf"):
            yield stage.done
        else:
            yield stage.done | env.timeout(left_s)
        if stage.done.triggered:
            return COMPLETED
        replica.drop(stage)
        return TIMED_OUT

    def _balance(self, stage: Stage) -> Replica:
        kind, replicas = self.pool.load_balancer, self.replicas
        if kind == "round_robin":
            self.turn += 1
            return replicas[(self.turn - 1) % len(replicas)]
        if kind == "session" and stage.prefix_id >= 0:
            return replicas[stage.prefix_id % len(replicas)]
        if kind == "least_kv":
            return min(replicas, key=lambda one: (one.kv_demand, one.unfinished))
        return min(replicas, key=lambda one: one.unfinished)

    def close(self) -> None:
        """Record what requests in flight have had so far."""
        for replica in self.replicas:
            for sequence in [*replica.running, *replica.waiting]:
                replica.record(sequence)


class _Endpoint:
    """An API behind rate limits."""

    def __init__(self, simulation: Simulation, api: Api) -> None:
        self.simulation, self.api = simulation, api
        self.limits = ApiLimits(api)
        self.waiting = 0
        self.busy_s = 0.0
        self.busy_since_s = 0.0

    @property
    def in_progress(self) -> int:
        return self.limits.in_progress

    def serve(self, request: int, arm: int, stage: int) -> Generator[simpy.Event, Any, int]:
        simulation, env, api = self.simulation, self.simulation.env, self.api
        work = simulation.works[arm]
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
        took_s = np.sort(work.first_token_s[lo:hi] + (tokens - 1) * work.per_token_s[lo:hi])
        needed = hi - lo if work.needed is None else int(work.needed[stage])
        self._accept(arm, stage, float(took_s[-1]))
        left_s = simulation.seconds_left(request, api.timeout_s)
        first_s, last_s = float(work.first_token_s[lo:hi].min()), float(took_s[needed - 1])
        if np.isnan(simulation.first_token_s[request]) and first_s <= left_s:
            simulation.first_token_s[request] = env.now + first_s
        yield env.timeout(max(min(last_s, left_s), 0.0))
        return COMPLETED if last_s <= left_s else TIMED_OUT

    def _accept(self, arm: int, stage: int, last_s: float) -> None:
        """The provider's side: goes on to the end and bills all of it, whether or not the client still waits."""
        simulation, env = self.simulation, self.simulation.env
        work = simulation.works[arm]
        if self.limits.in_progress == 1:
            self.busy_since_s = float(env.now)
        lo, hi = int(work.sample_start[stage]), int(work.sample_start[stage + 1])
        simulation.prefilled[arm][stage] = work.prompt_tokens[stage]
        simulation.generated[arm][lo:hi] = work.reasoning_tokens[lo:hi] + work.visible_tokens[lo:hi]

        def release(_: simpy.Event) -> None:
            self.limits.in_progress -= 1
            if self.limits.in_progress == 0:
                self.busy_s += float(env.now) - self.busy_since_s

        callbacks = env.timeout(last_s).callbacks
        assert callbacks is not None
        callbacks.append(release)

    def close(self) -> None:
        """Calls in progress count as billed in full: the provider will finish them."""
        if self.limits.in_progress:
            self.busy_s += float(self.simulation.env.now) - self.busy_since_s
