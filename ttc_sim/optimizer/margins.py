"""How far a proposal must stay clear of its targets, so that they hold with the confidence that was asked for.

A proposer knows expectations alone. So its limits start from how uncertain the problems leave the figures of such proposals, and
what simulation says of the targets' chances tightens them from there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64
from ttc_sim.base.estimates import Z95
from ttc_sim.optimizer.chances import quantile_of
from ttc_sim.optimizer.proposing.proposal import Limits
from ttc_sim.scenario import Targets
from ttc_sim.scenario.targets import USD
from ttc_sim.simulation.summary import Summary
from ttc_sim.workload.population import Population

_RATHER_MORE = 1.03  # of the margin: what is missed by next to nothing is looked at over and over, and what is too much is paid for


@dataclass(frozen=True)
class Margin:
    """Standard errors of accuracy and cost, by the problems that were measured, of proposals such as a search makes."""

    accuracy: float = 0.0
    cost_usd_per_request: float = 0.0

    def allowed_for(self, limits: Limits, targets: Targets) -> Limits:
        """Limits that leave as much room as the targets' confidences ask for."""
        accuracy, cost = (_RATHER_MORE * quantile_of(one) for one in _confidences(targets))
        if limits.accuracy is not None:
            limits = replace(limits, accuracy=limits.accuracy + accuracy * self.accuracy)
        if limits.cost_usd_per_request is not None:
            allowed = limits.cost_usd_per_request - cost * self.cost_usd_per_request
            limits = replace(limits, cost_usd_per_request=max(allowed, 0.0))
        return limits

    def raised_by(self, summary: Summary) -> Margin:
        """The same, or what the intervals of figures say, if that is more."""
        accuracy = 0.0 if summary.accuracy is None else (summary.accuracy.value - summary.accuracy.low) / Z95
        cost = (summary.cost_usd_per_request.high - summary.cost_usd_per_request.value) / Z95
        return Margin(
            max(self.accuracy, accuracy), max(self.cost_usd_per_request, cost if math.isfinite(cost) else 0.0)
        )


NO_MARGIN = Margin()


def margin_of(population: Population, targets: Targets, expected: Mapping[str, F64]) -> Margin:
    """How uncertain the problems leave a choice of arms.

    Args:
        expected: per problem, under that choice: ``correct``, ``correct_doubt`` and ``api_cost_usd``.
    """
    known = targets.generalize == "known"
    doubt = float(expected["correct_doubt"] @ population.weight)
    accuracy = math.hypot(_error(population, expected["correct"], known), doubt)
    return Margin(accuracy, _error(population, expected["api_cost_usd"], known))


def _confidences(targets: Targets) -> tuple[float, float]:
    """Of the targets of all requests on accuracy and on cost; a half where there is none."""
    asked = {target.key: target.confidence for target in targets.asked() if target.source is None}
    return asked.get("accuracy", 0.5), max((asked[key] for key in USD if key in asked), default=0.5)


def _error(population: Population, values: F64, known: bool) -> float:
    """Standard error of a mean over problems such as those that were measured; ``known``: of the same kinds."""
    mean = np.bincount(population.source, weights=population.weight * values) / population.share
    influence, kind = population.weight * (values - mean[population.source]), None
    if known:
        kind = np.zeros(int(population.cluster.max()) + 1, dtype=np.int64)
        kind[population.cluster] = np.unique(population.group, return_inverse=True)[1]
    return math.sqrt(intervals.of_units(influence, population.cluster, kind).value)
