"""What was where over time in one run: levels from the engine, requests and bills by deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.work import BUSY, EngineResult, interval_of
from ttc_sim.scenario import GpuPool
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.provisioning import ReplicasOverTime
from ttc_sim.simulation.taken import Taken


@dataclass(frozen=True)
class Timeline:
    """One run in intervals of the clock, from 0 on; ``D`` deployments, ``n`` requests.

    Attributes:
        interval_s: how long each is.
        levels_s: (intervals, D, 4) of the engine (:attr:`ttc_sim.engine.work.EngineResult.levels_s`).
        sent: (D, n) whether a stage of a request belongs there; api_usd: (D, n) its bill there.
        replicas: of each pool in use over time.
        usd_per_replica_s: (D,) what a replica of it costs while it is paid for: ``paid_s`` seconds from ``paid_from_s`` on;
            fee_usd_per_s: (D,) likewise the fixed fee of an endpoint.
        end_s: when the run ends: the last answer, or the end of what is paid for.
        spent_over: (intervals, budgets) billionths of a US dollar that budgets counted in each; ``None`` without any.
    """

    interval_s: float
    levels_s: F64
    sent: NDArray[np.bool_]
    api_usd: F64
    replicas: Mapping[int, ReplicasOverTime]
    usd_per_replica_s: F64
    fee_usd_per_s: F64
    paid_from_s: float
    paid_s: float
    end_s: float
    spent_over: I64 | None = None

    @property
    def intervals(self) -> int:
        """How many the run has, the last of them perhaps begun only."""
        last = int(interval_of(self.end_s, self.interval_s))
        return last + int(last * self.interval_s < self.end_s or last == 0)

    @property
    def usd(self) -> F64:
        """(intervals, D) bill of the pools, and fixed fees, in each interval."""
        begins, ends = self._paid
        fees = np.maximum(ends - begins, 0.0)[:, None] * self.fee_usd_per_s
        return np.asarray(self._of_pools(begins, ends, self.usd_per_replica_s) + fees)

    @property
    def paid_replica_s(self) -> F64:
        """(intervals, D) replicas times seconds of each that are paid for."""
        return self._of_pools(*self._paid, np.ones_like(self.usd_per_replica_s))

    @property
    def replica_s(self) -> F64:
        """(intervals, D) replicas that were provided, times seconds that the run lasted."""
        begins = self._begins
        return self._of_pools(begins, np.minimum(begins + self.interval_s, self.end_s), np.ones(len(self.sent)))

    @property
    def _begins(self) -> F64:
        return np.asarray(np.arange(self.intervals) * self.interval_s, dtype=np.float64)

    @property
    def _paid(self) -> tuple[F64, F64]:
        ends = np.minimum(self._begins + self.interval_s, self.paid_from_s + self.paid_s)
        return np.maximum(self._begins, self.paid_from_s), ends

    def _of_pools(self, begins: F64, ends: F64, each: F64) -> F64:
        """(intervals, D) replicas times seconds from ``begins`` to ``ends``, times what each counts."""
        found = np.zeros((len(begins), len(each)))
        for d, one in self.replicas.items():
            found[:, d] = one.seconds(begins, ends, each=float(each[d]))
        return found

    @property
    def lasts_s(self) -> F64:
        """(intervals,) seconds of each that the run lasted."""
        begins = np.arange(self.intervals) * self.interval_s
        return np.asarray(np.minimum(begins + self.interval_s, self.end_s) - begins)


def timeline(
    model: Model,
    taken: Taken,
    result: EngineResult,
    interval_s: float,
    replicas: Mapping[str, int],
    fees_usd_per_hour: Mapping[str, float],
    paid: tuple[float, float],
) -> Timeline:
    """The run in intervals.

    Args:
        result: of an engine that recorded levels over ``interval_s``.
        replicas: of the pools in use, at most; fees_usd_per_hour: of the endpoints in use that have one.
        paid: from when on, and for how many seconds, both are paid for.
    """
    assert result.levels_s is not None
    per_s = np.zeros(len(model.deployments))
    over_time = {}
    for d, (name, item) in enumerate(zip(model.deployment_names, model.deployments, strict=True)):
        if isinstance(item, GpuPool) and name in replicas:
            per_s[d] = item.hourly_usd / 3600.0
            over_time[d] = ReplicasOverTime(item, d, result)
    fees = np.array([fees_usd_per_hour.get(name, 0.0) / 3600.0 for name in model.deployment_names])
    lasts = over_time or fees_usd_per_hour or model.scenario.workload.duration_s
    end_s = max(float(np.max(result.finished_s)), sum(paid) if lasts else 0.0)
    levels = result.levels_s
    last = int(interval_of(end_s, interval_s))
    if len(levels) > last + 1:  # calls, or steps of a server, that run on for no client
        end_s = len(levels) * interval_s
    elif len(levels) == last + 1:
        # Those that end in the same interval: it lasts at least as long as a deployment was at work in it.
        begins_s, ends_s = last * interval_s, end_s
        for d, (name, item) in enumerate(zip(model.deployment_names, model.deployments, strict=True)):
            busy_s = float(levels[last, d, BUSY])
            if d in over_time and item.changes:  # type: ignore[union-attr]
                there_s = float(over_time[d].seconds(np.array([begins_s]), np.array([end_s]))[0])
                ends_s = max(ends_s, end_s + (busy_s - there_s) / int(over_time[d].levels[-1]))
            else:
                most = item.servers if isinstance(item, GpuPool) else replicas.get(name, 1)
                ends_s = max(ends_s, begins_s + busy_s / most)
        end_s = min(ends_s, (last + 1) * interval_s)
    over = None if result.spending is None else result.spending.spent_over
    return Timeline(interval_s, levels, taken.sent, taken.api_usd, over_time, per_s, fees, *paid, end_s, over)
