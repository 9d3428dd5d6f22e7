"""The cheapest policy at each level of accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.optimizer.looking import Simulated
from ttc_sim.optimizer.plan import FrontierPoint
from ttc_sim.optimizer.promises import BALANCED, TargetCheck, check_targets
from ttc_sim.optimizer.proposing.proposal import CHEAPEST, MOST_ACCURATE, Proposal
from ttc_sim.optimizer.searching import Found
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.scenario import Targets
from ttc_sim.simulation.summary import Summary

POINTS = 9


@dataclass(frozen=True)
class Promise:
    """A proposal on the frontier, and what it promises once optimism is taken off, before any queue."""

    proposal: Proposal
    accuracy: float
    cost_usd_per_request: float

    def beats(self, plan: Simulated, targets: Targets, most_usd: float | None) -> bool:
        """Whether, did it hold, it would be the better plan; ``most_usd``: that a request may cost, if that is limited."""
        asked = (
            0.0
            if targets.accuracy is None
            else max(targets.accuracy - self.accuracy, 0.0) / max(targets.accuracy, 1e-9),
            0.0 if most_usd is None else max(self.cost_usd_per_request / most_usd - 1, 0.0),
        )
        cost, accuracy = self.cost_usd_per_request, self.accuracy
        rank = (max(asked), cost, -accuracy) if targets.maximize is None else (max(asked), -accuracy, cost)
        return rank < plan.rank(targets)


def promises_of(task: PlanningTask, found: Found) -> list[Promise]:
    """The cheapest proposals at evenly spaced levels of accuracy, with the latency limits that the search ended with."""
    proposer, learnt = found.proposer, found.learnt
    free = replace(learnt.limits, accuracy=None, cost_usd_per_request=None)
    low, high = (
        proposer.propose(task.question(free, learnt.timing, targets=targets)) for targets in (CHEAPEST, MOST_ACCURATE)
    )
    promised: list[Promise] = []
    for level in np.linspace(low.accuracy, high.accuracy - 1e-4, POINTS):
        limits = replace(free, accuracy=float(level))
        proposal = proposer.propose(task.question(limits, learnt.timing, targets=CHEAPEST))
        if proposal.excess or (promised and proposal.notation == promised[-1].proposal.notation):
            continue
        optimism = learnt.optimism
        promised.append(
            Promise(
                proposal,
                proposal.accuracy - optimism.accuracy,
                proposal.cost_usd_per_request - optimism.cost_usd_per_request,
            )
        )
    return promised


def frontier_of(
    promised: Iterable[Promise], looked: Sequence[Simulated], beside: Iterable[Summary], targets: Targets
) -> tuple[FrontierPoint, ...]:
    """The points to print: what was simulated by its simulated figures, if it keeps the latency targets; none that is dominated.

    What misses the latency targets is on no frontier and dominates nothing there.

    Args:
        looked: promises that were simulated, and the plan; beside: figures that are printed beside the frontier.
    """

    def in_time(checks: Iterable[TargetCheck]) -> bool:
        return all(check.holds for check in checks if check.name not in BALANCED)

    points = []
    for one in promised:
        seen = next((seen for seen in looked if seen.proposal == one.proposal), None)
        if seen is None:
            points.append(FrontierPoint(one.accuracy, one.cost_usd_per_request, repr(one.proposal.notation)))
    for seen in looked:
        accuracy = seen.summary.accuracy
        if in_time(seen.checks) and accuracy is not None:
            cost = seen.summary.cost_usd_per_request.value
            points.append(FrontierPoint(accuracy.value, cost, repr(seen.proposal.notation), simulated=True))
    known = [
        (s.accuracy.value, s.cost_usd_per_request.value)
        for s in beside
        if s.accuracy is not None and in_time(check_targets(s, targets))
    ]
    rivals = [*known, *((p.accuracy, p.cost_usd_per_request) for p in points)]
    kept = {
        (p.cost_usd_per_request, p.accuracy): p
        for p in points
        if not any(
            accuracy >= p.accuracy
            and cost <= p.cost_usd_per_request
            and (accuracy, cost) != (p.accuracy, p.cost_usd_per_request)
            for accuracy, cost in rivals
        )
    }
    return tuple(kept[key] for key in sorted(kept))
