"""The best that could have been planned, had the problems been known."""

from __future__ import annotations

from ttc_sim.optimizer.proposing import PROPOSERS
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model


def best_in_hindsight(model: Model) -> dict[str, object] | None:
    """The best policy of the model's search space on its own problems, by expectation; ``None`` if targets cannot be met.

    It knows the outcomes it is judged on, so no plan made beforehand can be expected to reach it.
    """
    targets = model.scenario.targets
    assert targets is not None
    task = PlanningTask.of(expect_arms(expanded_model(model)), targets)
    timing = task.timing()
    question = task.question(task.limits(), timing)
    proposals = [start(task.expectations, timing.waiting).propose(question) for start in PROPOSERS.values()]
    within = [proposal for proposal in proposals if not proposal.excess]
    if not within:
        return None
    sign = 1.0 if targets.minimize == "cost" else -1.0
    best = min(within, key=lambda one: sign * (one.cost_usd_per_request if sign > 0 else one.accuracy))
    return {
        "policy": best.notation,
        "replicas": dict(best.replicas),
        "accuracy": best.accuracy,
        "cost_usd_per_request": best.cost_usd_per_request,
    }
