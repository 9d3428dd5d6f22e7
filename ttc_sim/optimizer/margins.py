"""How far a proposal must stay clear of its targets, so that they hold with the confidence that was asked for.

A proposer knows expectations alone. So its limits start from the interval that the figures of its first proposal have, and what
simulation says of the targets' chances tightens them from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64
from ttc_sim.optimizer.chances import quantile_of
from ttc_sim.optimizer.proposing.proposal import Limits, Proposer
from ttc_sim.optimizer.task import PlanningTask, Timing
from ttc_sim.scenario import Targets
from ttc_sim.scenario.targets import USD

_RATHER_LESS = 0.95  # of the margin: what is too little is found by simulation, what is too much is paid for


@dataclass(frozen=True)
class Margin:
    """Standard errors of accuracy and cost, by the problems that were measured, of proposals such as a search makes."""

    accuracy: float = 0.0
    cost_usd_per_request: float = 0.0

    def allowed_for(self, limits: Limits, targets: Targets) -> Limits:
        """Limits that leave as much room as the targets' confidences ask for."""
        accuracy, cost = (_RATHER_LESS * quantile_of(one) for one in _confidences(targets))
        if limits.accuracy is not None:
            limits = replace(limits, accuracy=limits.accuracy + accuracy * self.accuracy)
        if limits.cost_usd_per_request is not None:
            allowed = limits.cost_usd_per_request - cost * self.cost_usd_per_request
            limits = replace(limits, cost_usd_per_request=max(allowed, 0.0))
        return limits


NO_MARGIN = Margin()


def margin_of(task: PlanningTask, proposer: Proposer, limits: Limits, timing: Timing) -> Margin:
    """How uncertain the best proposal for the targets as they stand is."""
    if task.traffic_alone or max(_confidences(task.targets)) == 0.5:
        return NO_MARGIN
    proposal = proposer.propose(task.question(limits, timing))
    expected = task.expectations.under(proposal.choose(task.population, task.model.arm_names))
    doubt = float(expected["correct_doubt"] @ task.population.weight)
    accuracy = math.hypot(_error(task, expected["correct"]), doubt)
    return Margin(accuracy, _error(task, expected["api_cost_usd"]))


def _confidences(targets: Targets) -> tuple[float, float]:
    """Of the targets of all requests on accuracy and on cost; a half where there is none."""
    asked = {target.key: target.confidence for target in targets.asked() if target.source is None}
    return asked.get("accuracy", 0.5), max((asked[key] for key in USD if key in asked), default=0.5)


def _error(task: PlanningTask, values: F64) -> float:
    """Standard error of a mean over problems such as those that were measured."""
    population = task.population
    mean = np.bincount(population.source, weights=population.weight * values) / population.share
    influence, unit, kind = population.weight * (values - mean[population.source]), population.cluster, None
    if task.targets.generalize == "known":
        group = np.unique(population.group, return_inverse=True)[1]
        kind = np.zeros(int(unit.max()) + 1, dtype=np.int64)
        kind[unit] = group
    return math.sqrt(intervals.of_units(influence, unit, kind).value)
