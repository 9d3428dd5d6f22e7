"""A proposal, simulated: what it comes to once requests queue, beside the targets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ttc_sim.optimizer.novelty import widened_for_novelty
from ttc_sim.optimizer.optimism import Optimism
from ttc_sim.optimizer.promises import TargetCheck, check_targets
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal
from ttc_sim.optimizer.space import load_model_like, with_decisions
from ttc_sim.optimizer.task import PlanningTask, Timing
from ttc_sim.scenario import Targets
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize


@dataclass(frozen=True)
class Learnt:
    """What a search has learnt so far; each of its steps hands on the next.

    Attributes:
        limits: for the next proposal; timing: of the arms; optimism: of choices such as its own.
    """

    limits: Limits
    timing: Timing
    optimism: Optimism


@dataclass(frozen=True)
class Simulated:
    """A proposal and what simulation says of it.

    Attributes:
        model: of the scenario with the proposal's policy and replicas.
        summary: figures, corrected for optimism, with intervals that allow for novel traffic.
        checks: every target beside its figure.
    """

    proposal: Proposal
    model: Model
    summary: Summary
    checks: tuple[TargetCheck, ...]

    @property
    def meets_targets(self) -> bool:
        """Whether every target holds."""
        return all(check.holds for check in self.checks)

    @property
    def status(self) -> str:
        """``"met"`` if all targets hold, else ``"nearest"``."""
        return "met" if self.meets_targets else "nearest"

    @property
    def largest_miss(self) -> float:
        """Largest relative miss of a target; 0 if all hold."""
        return max([check.miss for check in self.checks], default=0.0)

    def rank(self, targets: Targets) -> tuple[float, float, float]:
        """Misses first, then the objective; of two that are alike in that, the cheaper or the more accurate. Lower is better."""
        cost = self.summary.cost_usd_per_request.value
        wrong = -self.summary.accuracy.value if self.summary.accuracy is not None else math.inf
        return (self.largest_miss, cost, wrong) if targets.maximize is None else (self.largest_miss, wrong, cost)


def simulate_proposal(
    task: PlanningTask, proposal: Proposal, learnt: Learnt, purpose: str, runs: int
) -> tuple[Simulated, Learnt]:
    """Simulate a proposal, and learn how long requests wait.

    Args:
        purpose: keeps the draws of a search apart from those that verify it; runs: independent runs.

    Returns:
        What simulation says of it; and what has been learnt, with the times that the pools gave.
    """
    decided = with_decisions(task.model.scenario, proposal.notation, proposal.replicas, proposal.responses)
    model = load_model_like(task.model, decided)
    done = [run_once(model, proposal.policy, draw(model, k, purpose=purpose)) for k in range(runs)]
    expected = task.expectations.under(proposal.choose(task.population, task.model.arm_names))
    summary = learnt.optimism.taken_off(summarize(model, done, expected=expected))
    summary = widened_for_novelty(summary, task.novelty, task.population, expected)
    simulated = Simulated(proposal, model, summary, check_targets(summary, task.targets))
    return simulated, replace(learnt, timing=learnt.timing.after(model, done))
