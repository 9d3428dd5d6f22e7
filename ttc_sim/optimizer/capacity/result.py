"""What :func:`ttc_sim.capacity` gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ttc_sim.base.arguments import location
from ttc_sim.base.display import Displayed
from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.capacity.hardware import Refused
from ttc_sim.optimizer.capacity.paying import Apart
from ttc_sim.optimizer.capacity.saving import Saving
from ttc_sim.optimizer.plan import write_plan
from ttc_sim.optimizer.promises import TargetVerdict
from ttc_sim.scenario import Autoscaling, Scenario, Targets
from ttc_sim.simulation.over_time import OverTime
from ttc_sim.simulation.result import Result
from ttc_sim.simulation.summary import Summary

_OF_POOLS = ("utilisation", "running", "waiting", "kv_share", "replicas", "provisioned_gpu_hours")
_HOURLY = ("latency_p99_s", "ttft_p99_s", "tpot_p99_s", "goodput")


@dataclass(frozen=True)
class PoolPlan:
    """What one pool is to be.

    Attributes:
        gpu, tensor_parallel, data_parallel, precision, option: of a replica, as far as that was chosen or said.
        draft_tokens: verified of each sequence in each step; 0 for plain decoding.
        replicas: how many, with autoscaling at most; gpus: of them all.
        lower_bound: replicas of this hardware, of a fixed number, that conservation of work says are certainly needed.
        usd_per_day: of all replicas; with autoscaling of those that were provided on fresh runs.
        autoscaling: how many there are over time; ``None`` for a fixed number.
        provisioned_gpu_hours: of a run, in the mean of the fresh ones; busy_gpu_hours: of these, with anything to do.
        prefill: replicas beside these that take prompts in apart; prefill_gpus: of all of them, as far as that is said.
    """

    gpu: str | None
    tensor_parallel: int
    data_parallel: int
    precision: str | None
    option: str | None
    replicas: int
    lower_bound: int
    usd_per_day: float
    autoscaling: Autoscaling | None
    provisioned_gpu_hours: float
    busy_gpu_hours: float
    draft_tokens: int = 0
    prefill: int = 0
    prefill_gpus: int = 0

    @property
    def gpus(self) -> int:
        """GPUs of all replicas, and of those that take prompts in."""
        return self.replicas * self.tensor_parallel * self.data_parallel + self.prefill_gpus

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        scaled = None if self.autoscaling is None else self.autoscaling.model_dump(mode="json", exclude_none=True)
        return {**vars(self), "autoscaling": scaled, "gpus": self.gpus}


@dataclass(frozen=True)
class Fewer:
    """A pool with so many replicas fewer, from the beginning.

    Attributes:
        failed: how many; replicas: that are left.
        figures: of each target on times or shares, by name.
        missed: targets that no longer hold.
    """

    failed: int
    replicas: int
    figures: Mapping[str, float]
    missed: tuple[str, ...]

    def as_json(self, targets: Targets) -> dict[str, object]:
        """Plain mapping: each target with its figure, and whether it still holds."""
        by_name = {one.name: one for one in targets.asked()}
        held = [
            {"name": name, "bound": by_name[name].bound, "value": value, "holds": name not in self.missed}
            for name, value in self.figures.items()
        ]
        return {"failed": self.failed, "replicas": self.replicas, "missed": list(self.missed), "targets": held}


@dataclass(frozen=True)
class Headroom:
    """What a pool can lose.

    Attributes:
        may_fail: replicas that may be missing, of this pool alone, with all targets still kept.
        fewer: what it comes to with 1, 2, ... fewer, up to one more than may be missing.
    """

    may_fail: int
    fewer: tuple[Fewer, ...]


@dataclass(frozen=True)
class Capacity(Displayed):
    """The cheapest replicas that meet the targets, or those that come nearest.

    Attributes:
        status: ``"met"``: the targets hold on fresh runs, by the whole of their 95% intervals; ``"unknown"``: a bound lies inside
            its figure's interval; ``"not met"``: nothing within budget and search space meets them, or fresh runs refute it.
        binding: targets that one replica fewer of a pool would miss; where they are not met, those that are missed.
        near_tie: whether chance may decide between this number and one more or fewer.
        pools: by name; unused: pools that nothing is sent to.
        usd_per_day: of all pools; lower_bound_usd_per_day: what no fixed numbers of the search space can be cheaper than.
        scenario: complete, with these pools and the policy.
        result: fresh runs of it; summary: their figures; verdicts: every target beside its figure.
        headroom: by pool.
        apart: of pools for which it was to be chosen, whether prefill and decode apart pays.
        refused: hardware that was not tried, with the reason.
        autoscaling: what it saves beside fixed numbers, and costs; ``None`` where none was to be tried, or no fixed numbers hold.
        tried, ruled_out: kinds of hardware that were simulated, and that the bound alone showed to be dearer.
        day: the runs by hour; ``None`` where there are too many hours and they were not asked for.
    """

    status: str
    binding: tuple[str, ...]
    near_tie: bool
    pools: Mapping[str, PoolPlan]
    unused: tuple[str, ...]
    usd_per_day: float
    lower_bound_usd_per_day: float
    scenario: Scenario
    result: Result
    verdicts: tuple[TargetVerdict, ...]
    headroom: Mapping[str, Headroom]
    autoscaling: Saving | None
    apart: Mapping[str, Apart]
    refused: tuple[Refused, ...]
    tried: int
    ruled_out: int
    day: OverTime | None

    @property
    def summary(self) -> Summary:
        """Figures with 95% intervals, of fresh runs."""
        return self.result.summary()

    @property
    def hours(self) -> list[dict[str, object]]:
        """Hour by hour: what arrives, runs and waits, how busy the pools are, 99th percentiles, goodput and dollars."""
        if self.day is None:
            return []
        rows = []
        for row in self.day.all.iter_rows(named=True):
            here = self.day.deployments.filter(pl.col("interval") == row["interval"])
            pools = {
                one["deployment"]: {
                    **{key: one[key] for key in (*_OF_POOLS, *_HOURLY)},
                    "queue": one["waiting"],
                }
                for one in here.iter_rows(named=True)
                if one["deployment"] in self.pools
            }
            busy = [float(one["utilisation"]) for one in pools.values() if one["utilisation"] is not None]
            rows.append(
                {
                    "hour": row["interval"],
                    "arrivals": row["arrivals"],
                    "utilisation": max(busy, default=None),
                    "queue": row["waiting"],
                    **{key: row[key] for key in ("running", "waiting", *_HOURLY, "usd")},
                    "pools": pools,
                }
            )
        return rows

    def __repr__(self) -> str:
        fewest = {name: one.autoscaling.least for name, one in self.pools.items() if one.autoscaling is not None}
        of = ", ".join(
            f"{name} x{one.replicas}" if name not in fewest else f"{name} x{fewest[name]} to {one.replicas}"
            for name, one in self.pools.items()
        )
        said = {"met": "meets its targets", "unknown": "near its targets", "not met": "misses its targets"}
        missed = f" ({', '.join(self.binding)})" if self.status == "not met" else ""
        return f"<Capacity for {self.scenario.name}: {of}, ${self.usd_per_day:,.0f} a day; {said[self.status]}{missed}>"

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON: the summary's keys, and status, binding, pools, headroom, hours, ..."""
        targets = self.scenario.targets
        assert targets is not None
        return {
            "status": self.status,
            "binding": list(self.binding),
            "near_tie": self.near_tie,
            "pools": {name: one.as_json() for name, one in self.pools.items()},
            "unused": list(self.unused),
            "usd_per_day": self.usd_per_day,
            "lower_bound_usd_per_day": self.lower_bound_usd_per_day,
            **self.summary.as_json(),
            "policy": self.scenario.policy,
            "targets": [one.as_json() for one in self.verdicts],
            "headroom": {
                name: {"may_fail": one.may_fail, "fewer": [few.as_json(targets) for few in one.fewer]}
                for name, one in self.headroom.items()
            },
            "autoscaling": None if self.autoscaling is None else self.autoscaling.as_json(),
            "apart": {name: one.as_json() for name, one in self.apart.items()},
            "refused": [vars(one) for one in self.refused],
            "tried": self.tried,
            "ruled_out": self.ruled_out,
            "hours": self.hours,
        }

    def save(self, path: str | Path) -> None:
        """Write it as a plan, which ``ttc-sim simulate`` and :func:`ttc_sim.load_plan` take; all at once.

        Raises:
            InputError: no place for it, as for :meth:`ttc_sim.Plan.save`.
        """
        path = location("Capacity.save", "path", path, "a file to write to")
        if path.is_dir():
            raise InputError("Capacity.save", "path", str(path), "a file to write to")
        status = "nearest" if self.status == "not met" else "met"
        missed = self.binding if status == "nearest" else ()
        write_plan(path, self.scenario, status, missed, self.summary, {})
