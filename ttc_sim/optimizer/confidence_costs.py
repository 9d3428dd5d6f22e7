"""What confidence costs: the best plan that holds all targets with one chance after another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.progress import Progress, Step, silent
from ttc_sim.optimizer.looking import Simulated, simulate_proposal
from ttc_sim.optimizer.promises import as_mapping, figures_in_brief
from ttc_sim.optimizer.searching import Found
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.tightening import tightened
from ttc_sim.scenario import Targets
from ttc_sim.simulation.pooling import UNKNOWN

LEVELS = (0.5, 0.8, 0.95)
"""Chances that every plan tells the cost of, beside its own."""
_ROUNDS = 3  # proposals tried for each


@dataclass(frozen=True)
class ConfidenceCost:
    """The best plan that was found to hold all targets with one chance.

    Attributes:
        confidence: with which each target is to hold; ``None`` for the plan's own row where its targets ask for several.
        status: ``"met"``, or ``"nearest"`` where no plan was found to hold them all: figures are then of the nearest.
        chances: with which each target holds, by its name.
        policy, replicas: of the plan; accuracy, cost_usd_per_request, latency_p95_s: its figures.
        objective: name and figure of what is made best of, where that is none of these.
    """

    confidence: float | None
    status: str
    chances: Mapping[str, float]
    policy: Mapping[str, str] | str
    replicas: Mapping[str, int]
    accuracy: Estimate | None
    cost_usd_per_request: Estimate
    latency_p95_s: Estimate
    objective: tuple[str, Estimate] | None = None

    @classmethod
    def of(cls, confidence: float | None, seen: Simulated) -> ConfidenceCost:
        """That of what was simulated, beside targets of that confidence."""
        summary, policy = seen.summary, seen.model.scenario.policy
        assert policy is not None
        cost, p95 = summary.cost_usd_per_request, summary.latency_s["p95"]
        chances = {check.name: check.chance for check in seen.checks}
        targets, objective = seen.model.scenario.targets, None
        if targets is not None and not (
            targets.cheapest or targets.most_accurate or targets.objective == "latency_p95_s"
        ):
            objective = targets.objective, summary.quantity(targets.objective) or UNKNOWN
        return cls(confidence, seen.status, chances, policy, summary.replicas, summary.accuracy, cost, p95, objective)

    @property
    def chance(self) -> float:
        """Of the target that is least sure to hold."""
        return min(self.chances.values(), default=1.0)

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "confidence": self.confidence,
            "status": self.status,
            "chances": dict(self.chances),
            "policy": dict(self.policy) if isinstance(self.policy, Mapping) else self.policy,
            "replicas": dict(self.replicas),
            "accuracy": None if self.accuracy is None else as_mapping(self.accuracy),
            "cost_usd_per_request": as_mapping(self.cost_usd_per_request),
            "latency_p95_s": as_mapping(self.latency_p95_s),
            **({} if self.objective is None else {self.objective[0]: as_mapping(self.objective[1])}),
        }


def confidence_of(targets: Targets) -> float | None:
    """The one that all targets are asked for with; ``None`` if that is not one."""
    asked = {target.confidence for target in targets.asked()}
    return asked.pop() if len(asked) == 1 else None


def levels_beside(targets: Targets) -> list[float]:
    """Confidences to tell the cost of, beside that which was asked for."""
    return [level for level in LEVELS if level != confidence_of(targets)] if targets.asked() else []


def look_at_confidences(task: PlanningTask, found: Found, say: Progress = silent) -> list[Simulated]:
    """Propose and simulate plans for other confidences than the one asked for, with what a search has learnt.

    Where the targets cannot be met, lower confidences alone, halving in on the highest that can be had.
    """
    targets, own = task.targets, max((one.confidence for one in task.targets.asked()), default=0.5)
    looked: list[Simulated] = []
    if found.verified.meets_targets:
        for level in levels_beside(targets):
            looked += _look(task, found, targets.with_confidence(level), level > own, say)
        return looked
    low, high = 0.5, own
    for at in (0.5, 0.8, *[None] * _ROUNDS):
        confidence = (low + high) / 2 if at is None else at
        if not low <= confidence < high or high - low < 0.01:
            continue
        seen = _look(task, found, targets.with_confidence(confidence), False, say)
        looked += seen
        reached = max(one.chance for one in [found.verified, *looked])
        if reached < 0.5:
            break
        low = max(low, min(reached, high))
        if reached < confidence:
            high = confidence
    return looked


def _look(task: PlanningTask, found: Found, targets: Targets, higher: bool, say: Progress) -> list[Simulated]:
    """A few proposals for other targets, each simulated on the requests that plans are verified on."""
    learnt, runs = found.learnt, task.model.scenario.replications
    start = task.limits_of(targets)
    limits = learnt.optimism.allowed_for(start, targets)
    if higher:  # no less room than the plan needed already
        limits = replace(
            limits,
            late=learnt.limits.late,
            timeout_rate=learnt.limits.timeout_rate,
            utilization=learnt.limits.utilization,
        )
    looked: list[Simulated] = []
    # More replicas are faster, which no program knows: where time is what is made best of, it is on those of the plan.
    replicas = found.verified.proposal.replicas if targets.timed else None
    for _ in range(_ROUNDS):
        proposal = found.proposer.propose(task.question(limits, learnt.timing, replicas=replicas))
        if any(
            seen.proposal.notation == proposal.notation and seen.proposal.replicas == proposal.replicas
            for seen in looked
        ):
            break
        seen, learnt = simulate_proposal(task, proposal, learnt, "verify", runs)
        looked.append(seen.judged_by(targets))
        told = f"confidence {targets.confidence:.4g}: {figures_in_brief(seen.summary)}"
        say(Step("looking at what confidence costs", detail=told))
        if proposal.excess or looked[-1].meets_targets:
            break
        limits = tightened(limits, looked[-1])
    return looked


def costs_of(targets: Targets, plan: Simulated, others: Iterable[Simulated]) -> tuple[ConfidenceCost, ...]:
    """The best of all that was simulated, for each confidence; for the plan's own that is the plan.

    What holds with more confidence holds with less too, so that no row is better than one above it.
    """
    if not targets.asked():
        return ()
    own, seen = confidence_of(targets), [plan, *others]
    asked = {level: targets.with_confidence(level) for level in levels_beside(targets)}
    if not plan.meets_targets:
        surest = max(one.chance for one in seen)
        level = math.floor(100 * surest) / 100
        asked = {at: some for at, some in asked.items() if at <= surest}
        if level > 0.5 and level != own:
            asked[level] = targets.with_confidence(level)
    rows = [ConfidenceCost.of(own, plan)]
    for level, some in asked.items():
        best = min((one.judged_by(some) for one in seen), key=lambda one: one.rank(some))
        rows.append(ConfidenceCost.of(level, best))
    return tuple(sorted(rows, key=lambda row: row.chance if row.confidence is None else row.confidence))
