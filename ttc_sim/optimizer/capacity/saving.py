"""What autoscaling saves beside the cheapest fixed numbers, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ttc_sim.scenario import Autoscaling
from ttc_sim.simulation.pooling import HOUR_S
from ttc_sim.simulation.result import Result


@dataclass(frozen=True)
class Candidate:
    """One way of autoscaling that was to be tried.

    Attributes:
        pool, autoscaling: which; replicas: at the start.
        least_usd_per_day: of all pools, at least, by formula; usd_per_day: on the search's runs, if the targets hold there.
        meets: whether they do; ``None`` where that price, or what others came to, was enough to leave it.
    """

    pool: str
    autoscaling: Autoscaling
    replicas: int
    least_usd_per_day: float
    usd_per_day: float | None
    meets: bool | None

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {**vars(self), "autoscaling": self.autoscaling.model_dump(mode="json", exclude_none=True)}


@dataclass(frozen=True)
class PerfectSchedule:
    """What a schedule by the hour of the day could be if the day were known beforehand: no real one saves more.

    Its replicas are there on the hour and gone on the hour, and it is made for the very requests that it serves.

    Attributes:
        replicas: (24,) of each hour; fixed: the number that is enough all day; mean: over the time that runs are paid for.
        saves_usd_per_day: beside the fixed number.
    """

    replicas: tuple[int, ...]
    fixed: int
    mean: float
    saves_usd_per_day: float

    @property
    def saves_share(self) -> float:
        """Of the fixed number."""
        return 1 - self.mean / self.fixed

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {**vars(self), "replicas": list(self.replicas), "saves_share": self.saves_share}


@dataclass(frozen=True)
class Served:
    """What replicas come to on fresh runs.

    Attributes:
        replicas: by pool, in the mean; usd_per_day: of all pools.
        goodput: share of requests within their objectives; ``None`` without such.
        worst_hour_latency_p99_s: of the hour in which it is longest; ``None`` where hours were not kept.
        provisioned_gpu_hours, busy_gpu_hours: of a run, all pools together.
    """

    replicas: Mapping[str, float]
    usd_per_day: float
    goodput: float | None
    worst_hour_latency_p99_s: float | None
    provisioned_gpu_hours: float
    busy_gpu_hours: float

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {**vars(self), "replicas": dict(self.replicas)}


@dataclass(frozen=True)
class Saving:
    """Autoscaling beside fixed numbers, on the same fresh runs.

    Attributes:
        chosen: whether it is cheaper and meets the targets; if not, the plan is the fixed numbers, and it saves nothing.
        fixed: the cheapest fixed numbers; plan: what was chosen.
        perfect: by pool, what a schedule by the hour saves at most, with foresight; without pools whose arrivals are not known
            beforehand, or that take longer than half an hour to start.
        candidates: all that were to be tried.
        lasts_s: for which a run is paid, in the mean; dollars a day are those of that time.
    """

    chosen: bool
    fixed: Served
    plan: Served
    perfect: Mapping[str, PerfectSchedule]
    candidates: tuple[Candidate, ...]
    lasts_s: float

    @property
    def saves_usd_per_day(self) -> float:
        """Beside the fixed numbers."""
        return self.fixed.usd_per_day - self.plan.usd_per_day

    @property
    def saves_share(self) -> float:
        """Of the price of the fixed numbers."""
        return self.saves_usd_per_day / self.fixed.usd_per_day if self.fixed.usd_per_day else 0.0

    @property
    def goodput_difference(self) -> float | None:
        """Below 0 where it costs goodput."""
        return _less(self.plan.goodput, self.fixed.goodput)

    @property
    def worst_hour_difference_s(self) -> float | None:
        """By how much the p99 of the worst hour is longer."""
        return _less(self.plan.worst_hour_latency_p99_s, self.fixed.worst_hour_latency_p99_s)

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "chosen": self.chosen,
            "lasts_s": self.lasts_s,
            "saves_usd_per_day": self.saves_usd_per_day,
            "saves_share": self.saves_share,
            "goodput_difference": self.goodput_difference,
            "worst_hour_latency_p99_difference_s": self.worst_hour_difference_s,
            "fixed": self.fixed.as_json(),
            "plan": self.plan.as_json(),
            "perfect_hourly_schedule": {name: one.as_json() for name, one in self.perfect.items()},
            "candidates": [one.as_json() for one in self.candidates],
        }


def served(result: Result, pools: Mapping[str, float], hours: bool) -> Served:
    """What fresh runs came to.

    Args:
        pools: price of a replica a day, by name; hours: whether they were kept by hour.
    """
    summary = result.summary()
    provided = {name: summary.provisioned[name] for name in pools if name in summary.provisioned}
    worst = result.tables_over_time(HOUR_S).all["latency_p99_s"].max() if hours else None
    return Served(
        replicas={name: one.replicas for name, one in provided.items()},
        usd_per_day=sum(one.replicas * pools[name] for name, one in provided.items()),
        goodput=None if summary.goodput is None else summary.goodput.value,
        worst_hour_latency_p99_s=None if worst is None else float(worst),  # type: ignore[arg-type]
        provisioned_gpu_hours=sum(one.provisioned_gpu_hours for one in provided.values()),
        busy_gpu_hours=sum(one.busy_gpu_hours for one in provided.values()),
    )


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
