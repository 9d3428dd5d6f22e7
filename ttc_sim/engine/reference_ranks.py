"""Data-parallel ranks of one replica in the reference engine, see :mod:`ttc_sim.engine.ranks`."""

from __future__ import annotations

from dataclasses import dataclass

import simpy

from ttc_sim.engine.ranks import HEARD_EVERY_S, WAITING_COUNTS, iterations_slowest, step_together, tokens_together
from ttc_sim.engine.replica import Replica, Stage
from ttc_sim.scenario import GpuPool
from ttc_sim.serving.step_time import StepTable, line_seconds


@dataclass
class _Line:
    """Decode iterations of the same batches, as of one replica; ``batches`` of each rank."""

    batches: list[object]
    begun_s: float
    first_s: float
    more_s: float
    most: int
    iterations: int = 0


class Ranks:
    """The ranks of one replica in the reference engine.

    Args:
        pool: of the replica.
        table: step times of one rank, and what they share.
    """

    def __init__(self, pool: GpuPool, table: StepTable) -> None:
        self.pool, self.shared_s, self.verified = pool, table.shared_s, table.verified
        self.together = step_together(pool, table)
        self.all: list[Replica] = []
        self.ends_s = -1.0  # of the iteration in progress, or the last one
        self.line: _Line | None = None
        self.planned: dict[int, simpy.Event] = {}
        self.turn = 0
        self.seen: list[list[int]] = []
        self.seen_s = -HEARD_EVERY_S

    @property
    def unfinished(self) -> int:
        """Sequences in the queues and the batches."""
        return sum(one.unfinished for one in self.all)

    @property
    def kv_demand(self) -> int:
        """Of all ranks."""
        return sum(one.kv_demand for one in self.all)

    def holds(self, stage: Stage) -> int:
        """Leading tokens of the stage's prompt that are in the cache of one of the ranks, not of each."""
        return max(one.holds(stage) for one in self.all)

    def choose(self, now_s: float, samples: int) -> Replica:
        """The rank that a stage of so many samples goes to."""
        if not self.together:
            self.turn += 1
            return self.all[(self.turn - 1) % len(self.all)]
        if not self.seen or now_s >= self.seen_s + HEARD_EVERY_S:
            self.seen = [[len(one.waiting), len(one.running)] for one in self.all]
            self.seen_s = now_s
        at = min(range(len(self.all)), key=lambda k: WAITING_COUNTS * self.seen[k][0] + self.seen[k][1])
        self.seen[at][0] += samples
        return self.all[at]

    def begins_at(self, now_s: float) -> float:
        """When one that has had nothing to do begins: with the others."""
        return max(self.ends_s, now_s) if self.together else now_s

    def join(self, rank: Replica) -> simpy.Event:
        """The rank's batch is filled; what happens once all have theirs gives the end of the iteration."""
        event = simpy.Event(rank.recorder.env)
        self.planned[self.all.index(rank)] = event
        self.look(rank)
        return event

    def look(self, rank: Replica) -> None:
        """Begin the iteration if this rank, which has its batch or nothing to do, is the last to be looked at."""
        after = self.all[self.all.index(rank) + 1 :]
        if all(one.asleep for one in after) and self.planned:
            self.ends_s = self._ends_at(float(rank.recorder.env.now))
            planned, self.planned = self.planned, {}
            for _, event in sorted(planned.items()):
                event.succeed(self.ends_s)

    def _ends_at(self, now_s: float) -> float:
        ranks = [self.all[k] for k in sorted(self.planned)]
        batches: list[object] = [one.batch.keys() if k in self.planned else None for k, one in enumerate(self.all)]
        of = [one.batch_now() for one in ranks]
        prefill = any(one.prefill for one in of)
        line = self.line
        if prefill or line is None or line.batches != batches or line.iterations == line.most:
            alone = [(one.seconds_of(batch), one) for one, batch in zip(ranks, of, strict=True)]
            sizes = [one.prefill + one.decoding * self.verified for one in of]
            limits = self.pool.max_num_seqs, self.pool.max_num_batched_tokens
            idle = len(self.all) - len(ranks)
            tokens = tokens_together(max(sizes), sum(sizes), idle, len(self.all), *limits)
            shared_s = float(self.shared_s[tokens])
            if prefill:
                self.line = None
                return now_s + (max(seconds for seconds, _ in alone) + shared_s)
            lines = [one.line_of(batch) for one, batch in zip(ranks, of, strict=True)]
            first_s, more_s = max((seconds, line[0]) for (seconds, _), line in zip(alone, lines, strict=True))
            most = min(line[1] for line in lines)
            for (seconds, _), (more, _) in zip(alone, lines, strict=True):
                most = min(most, iterations_slowest(first_s, more_s, seconds, more))
            line = self.line = _Line(batches, now_s, first_s + shared_s, more_s, most)
        line.iterations += 1
        return line.begun_s + line_seconds(line.first_s, line.more_s, line.iterations)
