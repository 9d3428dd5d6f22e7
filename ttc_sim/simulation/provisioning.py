"""How many replicas of a pool were provided over time, and how long they were busy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.engine.fleet import PROVISIONED, level_seconds
from ttc_sim.engine.work import EngineResult, prefill_busy_s
from ttc_sim.scenario import GpuPool


@dataclass(frozen=True)
class Provisioned:
    """Replicas of one pool, from the start-up of each to the end of its draining, over the time that is paid for.

    Attributes:
        replicas: in the mean; most_replicas: at any one time.
        provisioned_gpu_hours: GPUs times hours that were paid for, busy or not.
        busy_gpu_hours: GPUs times hours in which a replica had anything to do, over the whole run. That ends with its last answer,
            and what is paid for with the traffic, so that a run of few requests may be busy for longer than is paid for.
    """

    replicas: float
    most_replicas: int
    provisioned_gpu_hours: float
    busy_gpu_hours: float


class ReplicasOverTime:
    """Number of replicas of one pool that are provided.

    After the end of a run it stays what it was.
    """

    def __init__(self, pool: GpuPool, d: int, result: EngineResult) -> None:
        self.times, self.levels = np.array([-np.inf]), np.array([pool.replicas])
        if pool.changes and result.fleet is not None:
            times, levels = result.fleet.level(d, PROVISIONED)
            here = times <= result.end_s
            self.times, self.levels = times[here], levels[here]

    def within(self, from_s: float, to_s: float) -> tuple[float, int]:
        """Mean and most over a stretch."""
        first = int(np.searchsorted(self.times, from_s, side="right")) - 1
        last = max(int(np.searchsorted(self.times, to_s, side="left")), first + 1)
        levels = self.levels[first:last]
        least = int(levels.min())
        more_s = float(self.seconds(np.array([from_s]), np.array([to_s]), least)[0])
        return (least + more_s / (to_s - from_s) if more_s else float(least)), int(levels.max())

    def seconds(self, begins: F64, ends: F64, less: int = 0, each: float = 1.0) -> F64:
        """Replicas, but for so many, times seconds of each stretch, times what each counts."""
        if len(self.levels) == 1:
            return np.asarray(np.maximum(ends - begins, 0.0) * ((int(self.levels[0]) - less) * each))
        return level_seconds(self.times, self.levels - less, begins, np.maximum(ends, begins)) * each


def busy_of_both(pool: GpuPool, d: int, results: Sequence[EngineResult]) -> tuple[float, float]:
    """Shares of the time from first arrivals to last answers that replicas for prefill, and for decode, were busy."""
    stood_s = sum(one.end_s - float(np.nanmin(one.arrival_s, initial=one.end_s)) for one in results)
    taking_in_s = sum(prefill_busy_s(one, d) for one in results)
    answering_s = sum(float(one.busy_s[d]) for one in results) - taking_in_s
    servers = max(pool.servers - pool.replicas, 1), pool.replicas
    shares = [
        s / (count * stood_s) if stood_s > 0 else 0.0
        for s, count in zip((taking_in_s, answering_s), servers, strict=True)
    ]
    return shares[0], shares[1]
