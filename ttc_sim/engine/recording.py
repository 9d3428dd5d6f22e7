"""Where the reference engine's servers write down what they did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.engine.clock import Clock
from ttc_sim.engine.work import IN_FLIGHT, LEVELS, MOST_INTERVALS, Work, check_count, interval_of, levels_over_time


class Levels:
    """How many are there over time: changes of each interval of the clock, as :func:`levels_over_time` takes them."""

    def __init__(self, interval_s: float, deployments: int) -> None:
        self.interval_s, self.deployments = interval_s, deployments
        self.changes: list[F64] = []

    def change(self, deployment: int, level: int, by: int, at_s: float) -> None:
        """From this moment on there are so many more."""
        if not by:
            return
        # Those beyond are all refused, and far beyond them no number of intervals is exact.
        k = interval_of(min(at_s, MOST_INTERVALS * self.interval_s), self.interval_s)
        check_count(k + 1, self.interval_s)
        while len(self.changes) <= k:
            self.changes.append(np.zeros((self.deployments, len(LEVELS), 2)))
        self.changes[k][deployment, level] += (by, by * ((k + 1) * self.interval_s - at_s))

    def found(self) -> F64:
        """(intervals, deployments, levels) level times seconds."""
        none = np.zeros((0, self.deployments, len(LEVELS), 2))
        return levels_over_time(np.stack(self.changes) if self.changes else none, self.interval_s)


class Recorder:
    """Times, tokens and status of every request so far, on one clock.

    Args:
        works: one, or one per arm over the same requests.
        watch: called with a replica at the beginning and end of every iteration of it.
        levels: where it is written down how many are there over time, if that is asked for.
    """

    def __init__(
        self, works: Sequence[Work], watch: Callable[[Any], None] | None, levels: Levels | None = None
    ) -> None:
        n = works[0].requests
        self.env = Clock()
        self.works, self.watch, self.levels = works, watch, levels
        self.status = np.full(n, IN_FLIGHT, dtype=np.int8)
        self.unfinished = n
        self.transfers = 0  # of KV caches, begun so far
        self.arm, self.retries, self.preemptions = (np.zeros(n, dtype=np.int32) for _ in range(3))
        self.started_s, self.first_token_s, self.finished_s = (np.full(n, np.nan) for _ in range(3))
        first = works[0]
        self.arrival_s = (
            first.arrival_s.copy() if first.after is None else np.where(first.after < 0, first.arrival_s, np.nan)
        )
        self.generated = [np.zeros(work.samples, dtype=np.int64) for work in works]
        self.prefilled = [np.zeros(len(work.deployment), dtype=np.int64) for work in works]
        self.cached = [np.zeros(len(work.deployment), dtype=np.int64) for work in works]
        self.written = [np.zeros(len(work.deployment), dtype=np.int64) for work in works]
        # Of each, in order: deployment, moment, and how long the request had waited for it; of repeated attempts each has its own.
        self.first_tokens: list[tuple[int, float, float]] = []
        # Likewise of attempts that were made again.
        self.lost_generated, self.lost_reasoning = (
            [np.zeros(work.samples, dtype=np.int64) for work in works] for _ in range(2)
        )
        self.lost_prefilled, self.lost_cached, self.lost_written, self.lost_attempts = (
            [np.zeros(len(work.deployment), dtype=np.int64) for work in works] for _ in range(4)
        )

    def lose_output(self, arm: int, sample: int, tokens: int) -> None:
        """Count tokens that a sample has had as lost."""
        self.lost_generated[arm][sample] += tokens
        self.lost_reasoning[arm][sample] += min(tokens, int(self.works[arm].reasoning_tokens[sample]))
