"""The best of one figure at each level of another: what two objectives cost each other.

The one is made best of, as plans are, with the other held to a level; a few levels from where that is best to where it need not be
held. All that is proposed is simulated on the requests that plans are verified on, and no point is printed that another beats in
both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.times import DAY_S
from ttc_sim.optimizer.capacities import affordable, pools_and_sizes
from ttc_sim.optimizer.looking import Learnt, Simulated
from ttc_sim.optimizer.plan import FrontierPoint
from ttc_sim.optimizer.promises import check_targets
from ttc_sim.optimizer.proposing.objectives import objectives_of
from ttc_sim.optimizer.proposing.proposal import CHEAPEST, MOST_ACCURATE, Limits, Proposal, Question
from ttc_sim.optimizer.searching import Found
from ttc_sim.optimizer.task import PlanningTask, Timing
from ttc_sim.scenario import Targets
from ttc_sim.scenario.targets import FLOORS, USD, figure_of_objective
from ttc_sim.simulation.summary import Summary

POINTS = 9
_DEFAULT = ("cost", "accuracy")
_TIMED_LEVELS = 6  # where either figure follows from times, and each level is tried on several numbers of replicas
_CAPACITIES = 3
_ALIKE = 2e-3  # relative difference below which two points are one to a reader
_EASIEST = ("cost_usd_per_request", "accuracy", "goodput")  # to make best of, from the first on; percentiles last


@dataclass(frozen=True)
class Axes:
    """Two figures that are traded for one another, by their names."""

    names: tuple[str, str]

    @classmethod
    def of(cls, targets: Targets) -> Axes:
        """Those that the targets name; cost and accuracy if they name none."""
        first, second = targets.frontier or _DEFAULT
        return cls((figure_of_objective(first), figure_of_objective(second)))

    @property
    def made_best(self) -> str:
        """Which of the two a program makes best of; the other is held to levels."""
        return min(self.names, key=lambda name: _EASIEST.index(name) if name in _EASIEST else len(_EASIEST))

    @property
    def held(self) -> str:
        """The other one."""
        return next(name for name in self.names if name != self.made_best)

    @property
    def timed(self) -> bool:
        """Whether either follows from how long requests take."""
        return any(name not in ("accuracy", "cost_usd_per_request") for name in self.names)

    def traded(self, target: str) -> bool:
        """Whether a target is on one of the two, so that it is not kept along the frontier."""
        named = {*self.names, *(USD if "cost_usd_per_request" in self.names else ())}
        return target in named

    def without_traded(self, targets: Targets) -> Targets:
        """The same without bounds on the two, an objective or a frontier."""
        bounds: dict[str, None] = {key: None for key, _ in targets.bounds() if self.traded(key)}
        return targets.model_copy(update={**bounds, "minimize": None, "maximize": None, "frontier": None})

    def figures(self, summary: Summary) -> tuple[Estimate, Estimate] | None:
        """Both figures; ``None`` where either is unknown."""
        found = [summary.quantity(name) for name in self.names]
        first, second = found
        if first is None or second is None or not np.isfinite([first.value, second.value]).all():
            return None
        return first, second

    def losses(self, summary: Summary) -> tuple[float, float] | None:
        """Both, the lower the better."""
        both = self.figures(summary)
        if both is None:
            return None
        signs = [-1.0 if name in FLOORS else 1.0 for name in self.names]
        return signs[0] * both[0].value, signs[1] * both[1].value

    def keeps_the_rest(self, summary: Summary, targets: Targets) -> bool:
        """Whether all targets hold but those on the two."""
        return all(check.holds for check in check_targets(summary, targets) if not self.traded(check.name))


def proposals_along(task: PlanningTask, found: Found) -> list[Proposal]:
    """Policies at evenly spaced levels of the one figure, each the best in the other, as the search's limits have the rest."""
    axes = Axes.of(task.targets)
    if not axes.timed:
        return _by_accuracy(task, found)
    proposed: dict[object, Proposal] = {}
    for replicas in _capacities(task):
        for proposal in _at_levels(task, found, axes, replicas):
            proposed.setdefault(repr((proposal.policy, sorted(proposal.replicas.items()))), proposal)
    return list(proposed.values())


def _by_accuracy(task: PlanningTask, found: Found) -> list[Proposal]:
    """The cheapest at each level of accuracy, with the latency limits that the search ended with."""
    proposer, learnt = found.proposer, found.learnt
    free = replace(learnt.limits, accuracy=None, cost_usd_per_request=None)
    low, high = (
        proposer.propose(task.question(free, learnt.timing, targets=targets)) for targets in (CHEAPEST, MOST_ACCURATE)
    )
    proposed: list[Proposal] = []
    for level in np.linspace(low.accuracy, high.accuracy - 1e-4, POINTS):
        limits = replace(free, accuracy=float(level))
        proposal = proposer.propose(task.question(limits, learnt.timing, targets=CHEAPEST))
        if not proposal.excess and (not proposed or proposal.notation != proposed[-1].notation):
            proposed.append(proposal)
    return proposed


def _capacities(task: PlanningTask) -> list[Mapping[str, int]]:
    """A few numbers of replicas that all requests can be served on, from few to many."""
    sizes = pools_and_sizes(task)
    if not sizes:
        return [{}]
    most = max(len(one) for one in sizes.values())
    found: dict[object, Mapping[str, int]] = {}
    for step in np.linspace(0, 1, most):
        counts = {name: one[round(step * (len(one) - 1))] for name, one in sizes.items()}
        replicas = {name: count for name, count in counts.items() if count}
        if affordable(task, replicas):
            found[repr(replicas)] = replicas
    every = list(found.values())
    kept = np.linspace(0, len(every) - 1, min(_CAPACITIES, len(every))).round().astype(int).tolist()
    return [every[k] for k in dict.fromkeys(kept)]


def _at_levels(task: PlanningTask, found: Found, axes: Axes, replicas: Mapping[str, int]) -> Iterator[Proposal]:
    """The best of one figure at levels of the other, on these replicas."""
    free = axes.without_traded(task.targets)

    def best(made_best: str, level: float | None) -> Proposal:
        targets = free if level is None else free.at_level(axes.held, level)
        targets = targets.model_copy(update=objective_of(made_best))
        timing = replace(found.learnt.timing.at(replicas), targets=targets)
        limits = _limits(task, found, targets, axes)
        return found.proposer.propose(task.question(limits, timing, targets=targets, replicas=replicas))

    ends = [best(axes.held, None), best(axes.made_best, None)]
    if any(one.excess for one in ends):
        return
    yield from ends
    timing = found.learnt.timing.at(replicas)
    low, high = (_expected(task, timing, free, axes.held, one) for one in ends)
    if low == high:
        return
    between = np.geomspace if min(low, high) > 0 and axes.held not in FLOORS else np.linspace
    for level in between(low, high, _TIMED_LEVELS)[1:-1].tolist():
        proposal = best(axes.made_best, float(level))
        if not proposal.excess:
            yield proposal


def objective_of(figure: str) -> dict[str, str | None]:
    """Keys of the targets that make a figure best of."""
    if figure in FLOORS:
        return {"maximize": figure, "minimize": None}
    return {"minimize": "cost" if figure == "cost_usd_per_request" else figure, "maximize": None}


def as_good_as(task: PlanningTask, learnt: Learnt, proposal: Proposal) -> Question:
    """A question whose answers are held to what a proposal reaches where time is made best of, besides the search's limits."""
    targets, limits, timing = task.targets, learnt.limits, learnt.timing
    if targets.timed:
        level = _expected(task, timing, targets, targets.objective, proposal)
        targets = targets.at_level(targets.objective, min(level, 1.0) if targets.objective in FLOORS else level)
        timing = replace(timing, targets=targets)
        late = objectives_of(targets, task.rate_per_s * DAY_S)
        limits = replace(limits, late={name: limits.late.get(name, one.most) for name, one in late.items()})
    return task.question(limits, timing, targets=CHEAPEST)


def _limits(task: PlanningTask, found: Found, targets: Targets, axes: Axes) -> Limits:
    """What a program must keep to for these targets: of those that the search had too, as it ended with them."""
    ended = found.learnt.limits
    late = {
        name: ended.late.get(name, one.most) for name, one in objectives_of(targets, task.rate_per_s * DAY_S).items()
    }
    return replace(
        ended,
        late=late,
        accuracy=targets.accuracy if axes.traded("accuracy") else ended.accuracy,
        cost_usd_per_request=(
            targets.cost_usd_per_request if axes.traded("cost_usd_per_request") else ended.cost_usd_per_request
        ),
    )


def _expected(task: PlanningTask, timing: Timing, targets: Targets, figure: str, proposal: Proposal) -> float:
    """A figure of a proposal, before any queue."""
    if figure in ("accuracy", "cost_usd_per_request"):
        return proposal.accuracy if figure == "accuracy" else proposal.cost_usd_per_request
    targets = targets.model_copy(update=objective_of(figure))
    question = task.question(Limits(), timing, targets=targets)
    arm = proposal.choose(task.population, task.model.arm_names)
    value = question.value(arm, proposal.accuracy, proposal.cost_usd_per_request)
    return -value if figure in FLOORS else value


def thinned(
    seen: Iterable[Simulated], targets: Targets, beside: Iterable[Summary] = (), plan: Simulated | None = None
) -> list[Simulated]:
    """Of what keeps all targets but those on the two figures, and no other beats in both, no more than so many, as far apart as can
    be; by the first figure, from its best on.

    Args:
        beside: figures that beat too, and are not among them; plan: one that is not left out for being near another.
    """
    axes = Axes.of(targets)
    points: dict[tuple[float, float], Simulated] = {}
    for one in seen:
        losses = axes.losses(one.summary)
        if losses is not None and axes.keeps_the_rest(one.summary, targets):
            points.setdefault(losses, one)
    known = [losses for one in beside if (losses := axes.losses(one)) and axes.keeps_the_rest(one, targets)]
    rivals = [*known, *points]
    best = _apart([losses for losses in points if not any(_beats(other, losses) for other in rivals)], points, plan)
    if len(best) > POINTS:
        # Evenly along the frontier, each figure in terms of its range.
        at = np.array(best)
        steps = np.hypot(*(np.diff(at, axis=0) / np.maximum(np.ptp(at, axis=0), 1e-300)).T)
        along = np.concatenate([[0.0], np.cumsum(steps)])
        wanted = np.linspace(0, along[-1], POINTS)
        kept = {int(k) for k in np.abs(along[:, None] - wanted).argmin(axis=0)}
        kept |= {k for k, losses in enumerate(best) if points[losses] is plan}
        best = [best[k] for k in sorted(kept)]
    return [points[losses] for losses in best]


def _apart(
    losses: list[tuple[float, float]], points: Mapping[tuple[float, float], Simulated], plan: Simulated | None
) -> list[tuple[float, float]]:
    """In order, without those that a table cannot tell from the one before, or from the plan."""
    kept: list[tuple[float, float]] = []
    for one in sorted(losses):
        if not kept or not np.allclose(one, kept[-1], rtol=_ALIKE, atol=0.0):
            kept.append(one)
        elif points[one] is plan:
            kept[-1] = one
    return kept


def frontier_of(
    plan: Simulated, others: Iterable[Simulated], beside: Iterable[Summary], targets: Targets
) -> tuple[FrontierPoint, ...]:
    """The points to print, the plan among them unless something that is printed beats it in both figures.

    What misses the other targets is on no frontier and beats nothing there.

    Args:
        others: all that was simulated as plans are verified; beside: figures that are printed beside the frontier.
    """
    every = [plan, *(one.judged_by(targets) for one in others)]
    names = Axes.of(targets).names
    return tuple(FrontierPoint(names, one) for one in thinned(every, targets, beside, plan))


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether it is no worse in both figures, and better in one."""
    return one[0] <= other[0] and one[1] <= other[1] and one != other
