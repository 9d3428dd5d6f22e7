"""What a plan's parts are worth: the predictor, the policy ``Utility`` over bands, and what novel traffic does to promises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64
from ttc_sim.base.estimates import Estimate, Resampler
from ttc_sim.optimizer.program import Limits, Proposal
from ttc_sim.optimizer.relaxed import Sums, optimum, sums
from ttc_sim.policies import NOVEL, NOVELTY, Utility
from ttc_sim.scenario import Targets
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.simulation.summary import Summary
from ttc_sim.workload.population import Population

# ------------------------------------------------------------------------------------------ Utility over bands


@dataclass(frozen=True)
class HeldOut:
    """What a way of choosing came to on each problem when the choice was made without it.

    Attributes:
        correct: (P,) chance of a right answer; cost_usd: (P,) bill of API calls and of the pools per request.
    """

    correct: F64
    cost_usd: F64

    @classmethod
    def nothing(cls, population: Population) -> HeldOut:
        """Still to be filled."""
        return cls(np.zeros(len(population)), np.zeros(len(population)))

    def put(self, rows: NDArray[np.bool_], expected: Mapping[str, F64], pools_usd: float) -> None:
        """Fill in the problems that a choice was made without."""
        self.correct[rows] = expected["correct"][rows]
        self.cost_usd[rows] = expected["api_cost_usd"][rows] + pools_usd


@dataclass(frozen=True)
class Gain:
    """What ``Utility`` gains over bands, on problems kept from both choices.

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


def gain_of(expectations: Expectations, targets: Targets, bands: HeldOut, utility: HeldOut, proposal: Proposal) -> Gain:
    """Compare both on the same problems, each with the choice that was made without it, and resample clusters."""
    population = expectations.population
    price = next(one.price_of_accuracy for one in proposal.policy.policies.values() if isinstance(one, Utility))
    right = utility.correct - bands.correct
    saved = bands.cost_usd - utility.cost_usd
    if targets.minimize == "cost":
        gained, unit = saved + price * right, "usd_per_request"
    else:
        gained, unit = right + saved / max(price, 1e-12), "accuracy"
    value, resampled = Resampler.of(population.cluster).mean(gained, population.source, population.share)
    around = Estimate.around(value, float(resampled.std()))
    return Gain(around.value, around.low, around.high, unit)


# ---------------------------------------------------------------------------------------------- the predictor


@dataclass(frozen=True)
class Reached:
    """What another predictor would reach: ``None`` where no choice of arms keeps the limits."""

    cost_usd_at_same_accuracy: float | None
    accuracy_at_same_cost: float | None


@dataclass(frozen=True)
class PredictorWorth:
    """The plan between no predictor and a perfect one, by expectation over measured attempts, before any queue.

    Attributes:
        accuracy, cost_usd_per_request: of the plan, corrected for optimism.
        perfect: knows how often each arm solved each problem and what that cost. Where a problem has one attempt a model, that
            knows its luck too, which no predictor can.
        none: sends each source's requests to the best mixture of arms, whatever is predicted. Neither is corrected for optimism,
            so that on few problems what the predictor saves is rather more than is said.
        usd_per_day: what the predictor saves beside none at the plan's accuracy; perfect_usd_per_day: what a perfect one would
            save beside the plan; ``None`` where either is out of reach.
    """

    accuracy: float
    cost_usd_per_request: float
    perfect: Reached
    none: Reached
    usd_per_day: float | None
    perfect_usd_per_day: float | None

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return asdict(self)


def predictor_worth(
    expectations: Expectations,
    late: F64,
    targets: Targets,
    limits: Limits,
    rate_per_s: float,
    proposal: Proposal,
    optimism: Mapping[str, float],
) -> PredictorWorth:
    """Solve the plan's program once with a choice for each problem, once with a mixture for each source.

    Limits that the plan itself misses are loosened to what it keeps, so that all three are held to the same.
    """
    population = expectations.population
    table = sums(expectations, late, population.weight, rate_per_s)
    own = table.of(proposal.choose(population, expectations.model.arm_names))
    kept = {name: max(most, float(own[2 + k])) for k, (name, most) in enumerate(limits.late.items())}
    timeout = None if limits.timeout_rate is None else max(limits.timeout_rate, float(own[1 + len(table.late)]))
    accuracy = proposal.accuracy - optimism["accuracy"]
    cost = proposal.cost_usd_per_request - optimism["cost_usd_per_request"]
    free = replace(limits, accuracy=None, cost_usd_per_request=None, late=kept, timeout_rate=timeout)

    def reached(by: Sums) -> Reached:
        cheapest = optimum(by, Targets(minimize="cost", accuracy=accuracy), replace(free, accuracy=accuracy))
        best = optimum(by, Targets(maximize="accuracy"), replace(free, cost_usd_per_request=cost))
        return Reached(
            None if cheapest is None else cheapest.cost_usd_per_request, None if best is None else best.accuracy
        )

    perfect, none = reached(table), reached(table.by(population.source))

    def per_day(dear: float | None, cheap: float | None) -> float | None:
        return None if dear is None or cheap is None else (dear - cheap) * rate_per_s * 86400

    return PredictorWorth(
        accuracy=accuracy,
        cost_usd_per_request=cost,
        perfect=perfect,
        none=none,
        usd_per_day=per_day(none.cost_usd_at_same_accuracy, cost),
        perfect_usd_per_day=per_day(cost, perfect.cost_usd_at_same_accuracy),
    )


# ---------------------------------------------------------------------------------------------- novel traffic


@dataclass(frozen=True)
class Novelty:
    """Traffic that the predictor has seen nothing like.

    Attributes:
        share: of requests with a novelty of at least ``NOVEL``.
        kinds: task types or categories among them.
    """

    share: float
    kinds: int


def novelty_of(population: Population) -> Novelty | None:
    """How much of the traffic is novel; ``None`` where that is not scored."""
    if NOVELTY not in population.scores:
        return None
    novel = population.scores[NOVELTY] >= NOVEL
    return Novelty(float(population.weight[novel].sum()), len(np.unique(population.group[novel])))


def widened(summary: Summary, novelty: Novelty | None, population: Population, expected: Mapping[str, F64]) -> Summary:
    """The summary with wider intervals of accuracy and cost where part of the traffic is novel.

    Of novel kinds (task types, categories) some were measured, but tomorrow's are others. So their part counts as if all of it
    were of one kind, drawn from those measured: its variance is that between kinds, at their share of the traffic.
    """
    if novelty is None or novelty.share == 0:
        return summary
    rows = population.scores[NOVELTY] >= NOVEL
    kind = np.unique(population.group[rows], return_inverse=True)[1]
    weight = population.weight[rows]
    per_kind = np.bincount(kind, weights=weight)

    def more(figure: Estimate, values: F64) -> Estimate:
        mean = np.bincount(kind, weights=weight * values[rows]) / per_kind
        overall = float(mean @ per_kind) / float(per_kind.sum())
        between = math.sqrt(float(per_kind @ (mean - overall) ** 2) / float(per_kind.sum()))
        sd = math.hypot(figure.sd, novelty.share * between)
        return Estimate.around(figure.value, sd)

    cost = more(summary.cost_usd_per_request, expected["api_cost_usd"]).clipped(0)
    daily = summary.rate_per_s * 86400
    note = (
        f"{novelty.share:.1%} of the requests are farther from what the predictor was trained on than 95% of new problems of known "
        f"kinds ({novelty.kinds} kinds, novelty of at least {NOVEL:g}): intervals of accuracy and cost count them as if all were "
        "of one kind yet unseen"
    )
    accuracy = summary.accuracy
    return replace(
        summary,
        accuracy=None if accuracy is None else more(accuracy, expected["correct"]).clipped(0, 1),
        cost_usd_per_request=cost,
        cost_usd_per_day=Estimate(*(x * daily for x in (cost.value, cost.low, cost.high))),
        notes=(*summary.notes, note),
    )
