"""What a kind of policy gains over the simplest, on problems kept from both."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ttc_sim.base.estimates import Estimate, Resampler
from ttc_sim.optimizer.optimism import HeldOut
from ttc_sim.optimizer.task import PlanningTask


@dataclass(frozen=True)
class Gain:
    """What a kind of policy (``Utility``) gains over the simplest (bands), on problems kept from both choices.

    Attributes:
        value: in ``unit``: US dollars saved per request at equal accuracy where cost is minimized, else accuracy at equal cost; a
            difference in the other figure is turned into this one at the plan's own price of accuracy. low, high: 95%.
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


def gain_of(task: PlanningTask, simplest: HeldOut, other: HeldOut, price_of_accuracy: float) -> Gain:
    """Compare both on the same problems, each with the choice that was made without it, and resample clusters.

    Args:
        price_of_accuracy: US dollars that a right answer is worth.
    """
    population = task.population
    right = other.correct - simplest.correct
    saved = simplest.cost_usd - other.cost_usd
    if task.targets.cheapest:
        gained, unit = saved + price_of_accuracy * right, "usd_per_request"
    else:
        gained, unit = right + saved / max(price_of_accuracy, 1e-12), "accuracy"
    value, resampled = Resampler.of(population.cluster).mean(gained, population.source, population.share)
    around = Estimate.around(value, float(resampled.std()))
    return Gain(around.value, around.low, around.high, unit)
