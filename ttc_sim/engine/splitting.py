"""Prefill and decode apart, in the reference engine: a prompt is taken in by one replica and answered by another.

As vLLM does it with its NIXL connector (0.19: ``do_remote_decode``, ``do_remote_prefill``; Dynamo and llm-d send requests so too):

* A stage's prompt is taken in once, on a prefill replica, as a request for a single token. That token is not used. The replica
  keeps the prompt's KV blocks, which nobody else can have, until they have been fetched.
* Whoever sends requests on then chooses the decode replica, by what is on those at that moment, and the stage waits there behind
  others.
* As an iteration begins, where nobody is left in the replica's queue, fewer than ``max_num_seqs`` run and there are blocks for
  all of the next prompt, but for what is in the replica's own cache, these are taken, and what belongs into them is fetched: all
  layers, after prefill has ended. A replica fetches, and another sends, one prompt after another. Iterations go on meanwhile.
* When they are there, the blocks of prefill are free. The stage's first sample goes into the batch before all that wait in the
  queue: its last prompt token is computed again and yields the first token. Its other samples join the queue, where they find the
  prompt's full blocks. What is preempted is computed again where it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

import simpy

from ttc_sim.engine.clock import CLIENTS_ACT, CLIENTS_GIVE_UP, SERVERS_END
from ttc_sim.engine.kv_cache import blocks_for
from ttc_sim.engine.recording import Recorder
from ttc_sim.engine.replica import Others, Replica, Stage, _Sequence
from ttc_sim.engine.work import NEVER, REJECTED, TIMED_OUT
from ttc_sim.scenario import GpuPool
from ttc_sim.serving.step_time import StepTable

LANDS = 1 << 39
"""Of what servers end at one instant, transfers come after iterations and calls, in the order in which they were begun."""


@dataclass(eq=False)
class Prompt:
    """A stage whose prompt has been taken in: ``held`` there until it is ``here``; ``gone``: its client gave up meanwhile."""

    stage: Stage
    source: PrefillReplica
    held: _Sequence
    here: bool = False
    gone: bool = False


class PrefillReplica(Replica):
    """One that takes prompts in, and keeps their blocks until they have been fetched."""

    link_s = -math.inf  # until when it sends

    def drop(self, stage: Stage) -> None:
        """As any; those behind it may have room now."""
        super().drop(stage)
        if self.waiting:
            self.wake()

    def let_go(self, sequence: _Sequence) -> None:
        """Free the blocks of a prompt that it has kept."""
        self._release(sequence)
        if self.waiting:
            self.wake()
        self.note()

    def _finish(self) -> None:
        """Prompts that are whole leave the batch, but keep their blocks."""
        for sequence, tokens in self.batch.items():
            sequence.computed += tokens
            sequence.prefilled = max(sequence.prefilled, min(sequence.computed, sequence.stage.prompt))
        for sequence in [sequence for sequence in self.running if sequence.dropped]:
            self._leave(sequence)
        for sequence in [sequence for sequence in self.running if sequence.computed == sequence.length]:
            self.record(sequence)
            self.running.remove(sequence)
            sequence.stage.done.succeed()
        self.batch = {}


class DecodeReplica(Replica):
    """One that answers what was taken in elsewhere: ``coming`` wait for blocks, ``moving`` are fetched, ``ready`` are here."""

    def __init__(
        self,
        recorder: Recorder,
        pool: GpuPool,
        table: StepTable,
        number: int,
        deployment: int,
        ranks: Others | None = None,
    ) -> None:
        self.coming: list[Prompt] = []
        self.moving: list[Prompt] = []
        self.ready: list[_Sequence] = []
        self.link_s = -math.inf  # until when it fetches
        super().__init__(recorder, pool, table, number, deployment, ranks)

    @property
    def unfinished(self) -> int:
        """Sequences in the queue and the batch, or on their way here."""
        on_their_way = sum(len(one.stage.tokens) for one in [*self.coming, *self.moving])
        return super().unfinished + on_their_way + len(self.ready)

    @property
    def kv_demand(self) -> int:
        """As any, with those on their way."""
        more = sum(len(one.stage.tokens) * blocks_for(one.stage.prompt) for one in self.coming)
        more += sum((len(one.stage.tokens) - 1) * blocks_for(one.stage.prompt) for one in self.moving)
        return super().kv_demand + more

    def receive(self, prompt: Prompt) -> None:
        """Let a stage wait for its prompt's blocks."""
        self._sequences_of(prompt.stage)[0].prefilled = prompt.stage.prompt
        self.coming.append(prompt)
        self.wake()
        self.note()

    def give_up(self, prompt: Prompt) -> None:
        """The client has given up; what is being fetched is fetched to its end."""
        if prompt.here:
            self.drop(prompt.stage)
        elif prompt in self.coming:
            self.coming.remove(prompt)
            prompt.source.let_go(prompt.held)
        else:
            prompt.gone = True
        if self.unfinished:
            self.wake()
        self.note()

    def _leave(self, sequence: _Sequence) -> None:
        """As any, from those that are ready too."""
        if sequence in self.ready:
            self.ready.remove(sequence)
            self.running.append(sequence)
        super()._leave(sequence)

    def _before_queue(self, budget: int) -> int:
        """Admit those whose prompts are here."""
        while self.ready and budget > 0 and len(self.running) < self.pool.max_num_seqs:
            sequence = self.ready.pop(0)
            self.running.append(sequence)
            self.batch[sequence] = 1
            self._share(sequence, sequence.length)
            budget -= 1
        return budget

    def _after_queue(self) -> None:
        """Fetch prompts, as long as there is room for all of the next."""
        while self.coming:
            stage = self.coming[0].stage
            if not self._find_room(stage.sequences[0], stage.prompt, stage.prompt):
                break
            self._fetch(self.coming.pop(0))

    def _fetch(self, prompt: Prompt) -> None:
        recorder, moved, source = self.recorder, self.pool.kv_transfer, prompt.source
        assert moved is not None
        self.moving.append(prompt)
        sequence = prompt.stage.sequences[0]
        begun_s = max(float(recorder.env.now), self.link_s, source.link_s)
        over_s = begun_s + (sequence.blocks - sequence.shared) * moved.seconds_per_block
        self.link_s = source.link_s = over_s
        number = LANDS + recorder.transfers
        recorder.transfers += 1
        recorder.env.at(over_s + moved.latency_s, SERVERS_END, number, lambda _: self._land(prompt))

    def _land(self, prompt: Prompt) -> None:
        stage = prompt.stage
        first, *others = stage.sequences
        self.moving.remove(prompt)
        prompt.source.let_go(prompt.held)
        if prompt.gone:
            self._release(first)
        else:
            prompt.here = True
            first.computed = stage.prompt - 1
            self._share(first, first.computed)
            self.ready.append(first)
            for sequence in others:
                self._enqueue(sequence, first=False)
        if self.unfinished:
            self.wake()
        self.note()


def replica_kind(pool: GpuPool, prefills: bool) -> type[Replica]:
    """What a pool's replicas are; ``prefills``: they take in the prompts of another."""
    return PrefillReplica if prefills else Replica if pool.prefill is None else DecodeReplica


class _Pool(Protocol):
    """Replicas behind a load balancer, as :mod:`ttc_sim.engine.reference` has them."""

    simulation: Any

    @property
    def replicas(self) -> list[Any]:
        """Those that answer."""


def serve_apart(
    pool: _Pool,
    choose_prefill: Callable[[Stage], Any],
    choose_decode: Callable[[Stage], Any],
    of: tuple[int, int, int],
) -> Generator[simpy.Event, Any, int]:
    """A stage's way over both sides of a pool; returns what becomes of it.

    Args:
        choose_prefill, choose_decode: the replica that a stage goes to, of each side.
        of: request, arm and number of the stage.
    """
    simulation, request = pool.simulation, of[0]
    env, work = simulation.env, simulation.works[of[1]]
    gives_up_s = simulation.gives_up_at(request, pool)
    if gives_up_s <= env.now:
        return TIMED_OUT
    stage, taken_in = (Stage(work, *of, env.event()) for _ in range(2))
    taken_in.tokens, taken_in.needed = [1], 1
    source = choose_prefill(taken_in)
    if not source.ever_fits(taken_in) or not pool.replicas[0].ever_fits(stage):
        return NEVER
    if not source.has_room(taken_in):
        return REJECTED
    simulation.held[request] = taken_in
    source.submit(taken_in)
    yield from _in_time(env, taken_in.done, gives_up_s, request)
    if not taken_in.done.triggered:
        source.drop(taken_in)
        return TIMED_OUT
    held = taken_in.sequences[0]
    if gives_up_s <= env.now:
        yield env.at(gives_up_s, CLIENTS_GIVE_UP, request)
        source.let_go(held)
        return TIMED_OUT
    yield env.at(env.now, CLIENTS_ACT, request)
    prompt, target = Prompt(stage, source, held), choose_decode(stage)
    simulation.held[request] = stage
    target.receive(prompt)
    yield from _in_time(env, stage.done, gives_up_s, request)
    if stage.done.triggered:
        status: int = yield from simulation.answered(stage, gives_up_s)
        return status
    target.give_up(prompt)
    return TIMED_OUT


def _in_time(env: Any, done: simpy.Event, gives_up_s: float, request: int) -> Generator[simpy.Event, Any, None]:
    yield done if gives_up_s == math.inf else done | env.at(gives_up_s, CLIENTS_GIVE_UP, request)


__all__ = ["LANDS", "DecodeReplica", "PrefillReplica", "Prompt", "replica_kind", "serve_apart"]
