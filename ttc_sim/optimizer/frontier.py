"""The cheapest policy at each level of accuracy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ttc_sim.optimizer.plan import FrontierPoint
from ttc_sim.optimizer.proposing.proposal import CHEAPEST, MOST_ACCURATE
from ttc_sim.optimizer.searching import Found
from ttc_sim.optimizer.task import PlanningTask

POINTS = 9


def frontier_of(task: PlanningTask, found: Found) -> tuple[FrontierPoint, ...]:
    """Cheapest cost at evenly spaced levels of accuracy, with the latency limits that the search ended with."""
    proposer, learnt = found.proposer, found.learnt
    free = replace(learnt.limits, accuracy=None, cost_usd_per_request=None)
    low, high = (
        proposer.propose(task.question(free, learnt.timing, targets=targets)) for targets in (CHEAPEST, MOST_ACCURATE)
    )
    points: list[FrontierPoint] = []
    for level in np.linspace(low.accuracy, high.accuracy - 1e-4, POINTS):
        limits = replace(free, accuracy=float(level))
        proposal = proposer.propose(task.question(limits, learnt.timing, targets=CHEAPEST))
        if proposal.excess:
            continue
        point = FrontierPoint(
            accuracy=proposal.accuracy - learnt.optimism.accuracy,
            cost_usd_per_request=proposal.cost_usd_per_request - learnt.optimism.cost_usd_per_request,
            policy=repr(proposal.notation),
        )
        if not points or point.policy != points[-1].policy:
            points.append(point)
    return tuple(points)
