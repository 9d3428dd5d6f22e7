"""Where the reference engine's servers write down what they did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ttc_sim.engine.clock import Clock
from ttc_sim.engine.work import IN_FLIGHT, Work


class Recorder:
    """Times, tokens and status of every request so far, on one clock.

    Args:
        works: one, or one per arm over the same requests.
        watch: called with a replica at the beginning and end of every iteration of it.
    """

    def __init__(self, works: Sequence[Work], watch: Callable[[Any], None] | None) -> None:
        n = works[0].requests
        self.env = Clock()
        self.works, self.watch = works, watch
        self.status = np.full(n, IN_FLIGHT, dtype=np.int8)
        self.arm, self.retries, self.preemptions = (np.zeros(n, dtype=np.int32) for _ in range(3))
        self.started_s, self.first_token_s, self.finished_s = (np.full(n, np.nan) for _ in range(3))
        first = works[0]
        self.arrival_s = (
            first.arrival_s.copy() if first.after is None else np.where(first.after < 0, first.arrival_s, np.nan)
        )
        self.generated = [np.zeros(work.samples, dtype=np.int64) for work in works]
        self.prefilled = [np.zeros(len(work.deployment), dtype=np.int64) for work in works]
        self.cached = [np.zeros(len(work.deployment), dtype=np.int64) for work in works]
