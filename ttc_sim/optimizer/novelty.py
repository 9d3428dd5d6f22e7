"""Traffic that the predictor has seen nothing like, and what it does to a plan's promises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.base.estimates import Z95, Estimate
from ttc_sim.policies import NOVEL, NOVELTY
from ttc_sim.simulation.summary import Summary
from ttc_sim.workload.population import Population


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


def widened_for_novelty(
    summary: Summary, novelty: Novelty | None, population: Population, expected: Mapping[str, F64]
) -> Summary:
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
    wider = None if accuracy is None else more(accuracy, expected["correct"]).clipped(0, 1)
    asked = dict(summary.asked)
    ratio = asked.get("accuracy_per_usd")
    if ratio is not None and ratio.figure is not None and accuracy is not None and wider is not None:
        asked["accuracy_per_usd"] = replace(
            ratio, figure=_widened(ratio.figure, (accuracy, wider), (summary.cost_usd_per_request, cost))
        )
    return replace(
        summary,
        asked=asked,
        accuracy=wider,
        cost_usd_per_request=cost,
        cost_usd_per_day=Estimate(*(x * daily for x in (cost.value, cost.low, cost.high))),
        notes=(*summary.notes, note),
    )


def _widened(ratio: Estimate, *parts: tuple[Estimate, Estimate]) -> Estimate:
    """A ratio whose two parts have become more uncertain, each relative to itself, as if by chances of their own."""
    more = sum(
        (after.sd / after.value) ** 2 - (before.sd / before.value) ** 2 for before, after in parts if before.value > 0
    )
    low, high = (
        math.sqrt(max(side**2 + (Z95 * ratio.value) ** 2 * more, 0.0))
        for side in (ratio.value - ratio.low, ratio.high - ratio.value)
    )
    return Estimate(ratio.value, ratio.value - low, ratio.value + high).clipped(0)
