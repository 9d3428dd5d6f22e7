"""What a kind of policy gains over the simplest, on problems kept from both."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.base.estimates import Estimate, Resampler
from ttc_sim.optimizer.optimism import HeldOut
from ttc_sim.optimizer.task import PlanningTask, Timing


@dataclass(frozen=True)
class Gain:
    """What a kind of policy (``Utility``) gains over the simplest (bands), on problems kept from both choices.

    Attributes:
        value: in ``unit``: US dollars saved per request at equal accuracy where cost is minimized, or right answers per dollar are
            maximized; accuracy at equal cost where that is; a difference in the other figure is turned into this one at the plan's
            own price of accuracy. Where a percentile is minimized, share of requests more that are done within that of the
            simplest; of goodput, share more that meets its objectives. low, high: 95%.
        more_than_noise: whether the interval lies above 0.
    """

    value: float
    low: float
    high: float
    unit: str

    @property
    def more_than_noise(self) -> bool:
        """Whether the interval lies above 0."""
        return self.low > 0

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {**asdict(self), "more_than_noise": self.more_than_noise}


def gain_of(
    task: PlanningTask, simplest: HeldOut, other: HeldOut, price_of_accuracy: float, timing: Timing | None = None
) -> Gain:
    """Compare both on the same problems, each with the choice that was made without it, and resample clusters.

    Args:
        price_of_accuracy: US dollars that a right answer is worth.
        timing: what is believed of times, where what is made best of follows from them.
    """
    population = task.population
    right = other.correct - simplest.correct
    saved = simplest.cost_usd - other.cost_usd
    if task.targets.timed:
        gained, unit = _sooner(task, simplest, other, timing or task.timing())
    elif not task.targets.most_accurate:
        gained, unit = saved + price_of_accuracy * right, "usd_per_request"
    else:
        gained, unit = right + saved / max(price_of_accuracy, 1e-12), "accuracy"
    value, resampled = Resampler.of(population.cluster).mean(gained, population.source, population.share)
    around = Estimate.around(value, float(resampled.std()))
    return Gain(around.value, around.low, around.high, unit)


def _sooner(task: PlanningTask, simplest: HeldOut, other: HeldOut, timing: Timing) -> tuple[F64, str]:
    """(P,) By how much fewer of the requests for each problem are late, or outside of their objectives; and the unit."""
    assert simplest.arm is not None
    assert other.arm is not None
    late, unit = timing.bad(task.targets), "goodput"
    slowness = timing.slowness(task.targets)
    if slowness is not None:
        late, unit = slowness.at(slowness.percentile(simplest.arm, task.population.weight)), "share_in_time"
    assert late is not None
    at = np.arange(len(simplest.arm))
    return late[simplest.arm, at] - late[other.arm, at], unit
