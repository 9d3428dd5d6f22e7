"""How much of a choice's promise is only hindsight: it was made on the very problems that it is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.progress import Progress, counted, silent
from ttc_sim.optimizer.folds import deal_out, deal_out_by_source, short_of_clusters
from ttc_sim.optimizer.margins import NO_MARGIN, Margin, margin_of
from ttc_sim.optimizer.proposing.proposal import Limits, Proposer
from ttc_sim.optimizer.task import PlanningTask, Timing
from ttc_sim.scenario import Targets
from ttc_sim.simulation.pooling import Part
from ttc_sim.simulation.summary import Summary

FOLDS = 4  # parts of the problems, each held out once


@dataclass(frozen=True)
class HeldOut:
    """What a way of choosing came to on each problem when the choice was made without it.

    Attributes:
        correct: (P,) chance of a right answer; cost_usd: (P,) bill of API calls and of the pools per request.
        arm: (P,) index of the arm that was chosen; ``None`` where nothing was.
    """

    correct: F64
    cost_usd: F64
    arm: I64 | None = None


@dataclass(frozen=True)
class Optimism:
    """How much better a choice looks on the problems that it was made on than on problems kept from it.

    Attributes:
        accuracy: at least 0; cost_usd_per_request: at most 0.
        held_out: what it came to on problems kept from it; margin: how uncertain a choice of that kind is besides.
    """

    accuracy: float
    cost_usd_per_request: float
    held_out: HeldOut
    margin: Margin = NO_MARGIN

    @classmethod
    def none(cls, problems: int) -> Optimism:
        """Of a choice by no outcome, such as one arm for all, or by lengths that every run draws anew."""
        return cls(0.0, 0.0, HeldOut(np.zeros(problems), np.zeros(problems)))

    def allowed_for(self, limits: Limits, targets: Targets | None = None) -> Limits:
        """Limits that hold once the optimism is taken off; with the confidences of targets, if there are any."""
        if limits.accuracy is not None:
            limits = replace(limits, accuracy=limits.accuracy + self.accuracy)
        if limits.cost_usd_per_request is not None:
            allowed = limits.cost_usd_per_request + self.cost_usd_per_request
            limits = replace(limits, cost_usd_per_request=max(allowed, 0.0))
        return limits if targets is None else self.margin.allowed_for(limits, targets)

    def taken_off(self, summary: Summary) -> Summary:
        """The figures without it."""
        per_day = -self.cost_usd_per_request * summary.rate_per_s * 86400

        def corrected(name: str, figure: Estimate) -> Estimate:
            if name == "accuracy":
                return figure.shifted(-self.accuracy).clipped(0, 1)
            return figure.shifted(-self.cost_usd_per_request)

        def times(name: str, whole: Estimate | None) -> float:
            return corrected(name, whole).value / whole.value if whole is not None and whole.value > 0 else 1.0

        # Each part by the same factor, so that they still add up to the whole.
        right, paid = times("accuracy", summary.accuracy), times("cost_usd_per_request", summary.cost_usd_per_request)

        def of(parts: Mapping[str, Part]) -> dict[str, Part]:
            return {
                name: replace(
                    part,
                    accuracy=None if part.accuracy is None else part.accuracy.scaled(right),
                    cost_usd_per_request=part.cost_usd_per_request.scaled(paid),
                )
                for name, part in parts.items()
            }

        asked = dict(summary.asked)
        ratio = asked.get("accuracy_per_usd")
        if ratio is not None and ratio.figure is not None and paid > 0:
            asked["accuracy_per_usd"] = replace(ratio, figure=ratio.figure.scaled(right / paid))
        return replace(
            summary,
            asked=asked,
            accuracy=None if summary.accuracy is None else corrected("accuracy", summary.accuracy),
            cost_usd_per_request=corrected("cost_usd_per_request", summary.cost_usd_per_request),
            cost_usd_per_day=summary.cost_usd_per_day.shifted(per_day),
            same_types={name: corrected(name, figure) for name, figure in summary.same_types.items()},
            per_arm=of(summary.per_arm),
            per_source=of(summary.per_source),
            per_band=of(summary.per_band),
        )

    def as_json(self) -> dict[str, float]:
        """Plain mapping."""
        return {"accuracy": self.accuracy, "cost_usd_per_request": self.cost_usd_per_request}


def measure_optimism(
    task: PlanningTask, proposer: Proposer, limits: Limits, timing: Timing, say: Progress = silent
) -> Optimism:
    """Choose on some problems, look at the others.

    Whole clusters are held out together. Each is held out once, so that what the folds differ in by chance cancels.

    Raises:
        InputError: a source all of whose problems would be held out at once.
    """
    population = task.population
    if task.traffic_alone:
        return Optimism.none(len(population))
    fold = _folds(task)
    weight = population.weight
    held_out = HeldOut(np.zeros(len(population)), np.zeros(len(population)), np.zeros(len(population), dtype=np.int64))
    assert held_out.arm is not None
    seen = {"accuracy": 0.0, "cost_usd_per_request": 0.0}
    unseen, margin = dict(seen), NO_MARGIN
    for k in counted(range(FOLDS), say, "measuring optimism", "parts of the problems left out"):
        here = fold == k
        train = _renormalized(np.where(here, 0.0, weight), population.source, population.share)
        proposal = proposer.propose(task.question(limits, timing, weight=train))
        arm = proposal.choose(population, task.model.arm_names)
        expected, held_out.arm[here] = task.expectations.under(arm), arm[here]
        margin = margin_of(population, task.targets, expected) if k == 0 else margin
        held_out.correct[here] = expected["correct"][here]
        held_out.cost_usd[here] = expected["api_cost_usd"][here] + task.pools_usd_per_request(proposal.replicas)
        kept_from_it = np.where(here, weight, 0.0)
        for name, key in (("accuracy", "correct"), ("cost_usd_per_request", "api_cost_usd")):
            seen[name] += float(expected[key] @ train) / FOLDS
            unseen[name] += float(expected[key] @ kept_from_it)
    return Optimism(
        accuracy=max(0.0, seen["accuracy"] - unseen["accuracy"]),
        cost_usd_per_request=min(0.0, seen["cost_usd_per_request"] - unseen["cost_usd_per_request"]),
        held_out=held_out,
        margin=margin,
    )


def _folds(task: PlanningTask) -> I64:
    """(P,) part of each problem: of every source, some problems must be left to choose on."""
    population = task.population
    lots = uniforms(0, "folds", int(population.cluster.max()) + 1)[:, 0]
    fold = deal_out(population, FOLDS, lots)
    if short_of_clusters(population, fold, FOLDS, inside=0, outside=1):
        fold = deal_out_by_source(population, FOLDS, lots)
    for name, clusters in short_of_clusters(population, fold, FOLDS, inside=0, outside=1):
        raise InputError(
            task.model.scenario.path,
            f"workload.sources.{name}",
            f"problems of {clusters} cluster{'s' if clusters > 1 else ''}",
            "problems of several task types, or several problems, so that some can be kept from the choice to judge it by",
        )
    return fold


def _renormalized(weight: F64, source: I64, share: F64) -> F64:
    """Weights that again give each source its share."""
    total = np.bincount(source, weights=weight, minlength=len(share))
    return weight * (share / np.maximum(total, 1e-12))[source]
