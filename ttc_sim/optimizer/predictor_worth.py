"""What a plan's predictor is worth: what none, and a perfect one, would reach."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from ttc_sim.optimizer.optimism import Optimism
from ttc_sim.optimizer.proposing.mixtures import ArmSums, best_mixture, sums_by_arm
from ttc_sim.optimizer.proposing.proposal import CHEAPEST, MOST_ACCURATE, Proposal, Question


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


def predictor_worth(question: Question, proposal: Proposal, optimism: Optimism) -> PredictorWorth:
    """Solve the plan's program once with a choice for each problem, once with a mixture for each source.

    Limits that the plan itself misses are loosened to what it keeps, so that all three are held to the same.

    Args:
        question: that the plan's proposal answers, with the limits that its search ended with.
    """
    population, limits = question.expectations.population, question.limits
    table = sums_by_arm(question)
    own = table.of_choice(proposal.choose(population, question.expectations.model.arm_names))
    late = {name: max(most, float(own[2 + k])) for k, (name, most) in enumerate(limits.late.items())}
    timeout = None if limits.timeout_rate is None else max(limits.timeout_rate, float(own[1 + len(table.late)]))
    accuracy = proposal.accuracy - optimism.accuracy
    cost = proposal.cost_usd_per_request - optimism.cost_usd_per_request
    free = replace(limits, accuracy=None, cost_usd_per_request=None, late=late, timeout_rate=timeout)

    def reached(by: ArmSums) -> Reached:
        cheapest = best_mixture(by, CHEAPEST, replace(free, accuracy=accuracy))
        best = best_mixture(by, MOST_ACCURATE, replace(free, cost_usd_per_request=cost))
        return Reached(
            None if cheapest is None else cheapest.cost_usd_per_request, None if best is None else best.accuracy
        )

    perfect, none = reached(table), reached(table.grouped(population.source))

    def per_day(dear: float | None, cheap: float | None) -> float | None:
        return None if dear is None or cheap is None else (dear - cheap) * question.rate_per_s * 86400

    return PredictorWorth(
        accuracy=accuracy,
        cost_usd_per_request=cost,
        perfect=perfect,
        none=none,
        usd_per_day=per_day(none.cost_usd_at_same_accuracy, cost),
        perfect_usd_per_day=per_day(cost, perfect.cost_usd_at_same_accuracy),
    )
