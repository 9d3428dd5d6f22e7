"""Plans that cannot be told apart, and the simplest of them.

Every simpler policy that was simulated on the plan's requests and holds all targets is compared with the best, request by request
and problem by problem. Where the best gains no more than noise, both are said to be alike. The simplest of those is the plan that
are also known to be as good: a standard error beside what is seen, it gives away no more than two points of accuracy, or 2% of the
cost. Of few problems much cannot be told apart that is not alike. Between bands and ``Utility`` :mod:`ttc_sim.optimizer.gain`
decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.progress import Progress, Step
from ttc_sim.optimizer.looking import Learnt, Simulated, key_of, run_proposal, simulate_proposal
from ttc_sim.optimizer.promises import as_mapping, figures_in_brief
from ttc_sim.optimizer.proposing.bands import BandsProposer
from ttc_sim.optimizer.proposing.proposal import Proposal, Proposer
from ttc_sim.optimizer.task import PlanningTask, without_arms
from ttc_sim.policies import Always, Banded, Policy, Threshold, follows_sessions
from ttc_sim.scenario import Targets
from ttc_sim.scenario.targets import FLOORS
from ttc_sim.simulation.differences import compare
from ttc_sim.simulation.pooling import Pooled

STAGE = "looking for a simpler plan that is as good"
"""As progress is told of it."""
STATIC, BANDS, SESSIONS, UTILITY, LIVE = range(5)
"""Kinds of policy, from the simplest on: one arm for each source, bands of one score, what follows sessions, a weighing of all
arms, or live load."""
_KINDS = ("one arm for each source", "bands", "sessions followed", "Utility", "live load")
_COST = "cost_usd_per_request"
_MOST_TIED = 8  # that are told of
_POINTS, _PART = 0.02, 0.02
"""Share of right answers, and part of a cost or a time, that a simpler plan may give away in practice."""


@dataclass(frozen=True, order=True)
class Simplicity:
    """How simple a policy is to run and to read: the first that differs decides, and less is simpler.

    Attributes:
        kind: :data:`STATIC`, :data:`BANDS`, :data:`SESSIONS`, :data:`UTILITY` or :data:`LIVE`: sessions to remember, a predictor or
            live load is one more thing to run.
        deployments, arms: that requests are sent to; bands: of all sources together.
    """

    kind: int
    deployments: int
    arms: int
    bands: int

    @property
    def words(self) -> str:
        """In a few words."""
        several = [(self.deployments, "deployment"), (self.arms, "arm")]
        several += [(self.bands, "band")] if self.kind == BANDS else []
        return ", ".join(
            [_KINDS[self.kind], *(f"{count} {what}{'' if count == 1 else 's'}" for count, what in several)]
        )


@dataclass(frozen=True)
class Tied:
    """A policy that holds all targets and cannot be told from the best.

    Attributes:
        policy, replicas: as a scenario says them; simplicity: of it.
        figures: accuracy, cost and the objective, as far as they are known, with their intervals.
        difference: of the objective, paired, less that of the best: ``None`` of the best itself.
        is_plan: whether it was taken.
    """

    policy: Mapping[str, str]
    replicas: Mapping[str, int]
    simplicity: Simplicity
    figures: Mapping[str, Estimate]
    difference: Estimate | None
    is_plan: bool

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "policy": dict(self.policy),
            "replicas": dict(self.replicas),
            "simplicity": {**asdict(self.simplicity), "kind": _KINDS[self.simplicity.kind]},
            **{name: as_mapping(figure) for name, figure in self.figures.items()},
            "difference": None if self.difference is None else as_mapping(self.difference),
            "is_plan": self.is_plan,
        }


@dataclass(frozen=True)
class Beside:
    """A simpler policy beside the best.

    Attributes:
        seen: the policy, simulated; simplicity: of it.
        objective: difference of the objective, paired, less that of the best.
        worse: by figure, the objective, accuracy and cost as far as they are known: by how much it is worse, paired.
        most: by how much it may be, to be as good in practice.
    """

    seen: Simulated
    simplicity: Simplicity
    objective: Estimate
    worse: Mapping[str, Estimate]
    most: Mapping[str, float]

    @property
    def alike(self) -> bool:
        """Whether it is worse by no more than noise, in every figure."""
        return math.isfinite(self.objective.value) and all(one.low <= 0 for one in self.worse.values())

    @property
    def as_good(self) -> bool:
        """Whether it is alike, and a standard error more than what is seen is still next to nothing: that two policies cannot be
        told apart may also mean that little is known of either."""
        return self.alike and all(one.value + one.sd <= self.most[name] for name, one in self.worse.items())


@dataclass(frozen=True)
class Simplest:
    """The best, and the simplest that cannot be told from it.

    Attributes:
        objective: name of the figure that is made best of; ``None`` where no differences of it are known.
        best: of the chosen kind; plan: that was taken, with its requests; beside: simpler ones, compared.
        farther: simpler ones that are so much worse that there was nothing to compare.
    """

    objective: str | None
    best: Simulated
    plan: Simulated
    pooled: Pooled
    beside: tuple[Beside, ...] = ()
    farther: tuple[Simulated, ...] = ()

    @property
    def simplicity(self) -> Simplicity:
        """Of the plan."""
        return simplicity_of(self.plan)

    def tied(self) -> tuple[Tied, ...]:
        """The best and those that cannot be told from it, the simplest first; nothing where it stands alone."""
        alike = sorted((one for one in self.beside if one.alike), key=lambda one: one.simplicity)
        if not alike:
            return ()
        told = [one for k, one in enumerate(alike) if k < _MOST_TIED or one.seen is self.plan]
        rows = [self._row(one.seen, one.objective) for one in told]
        return (*rows, self._row(self.best, None))

    def _row(self, seen: Simulated, difference: Estimate | None) -> Tied:
        summary = seen.summary
        names = dict.fromkeys(("accuracy", _COST, str(self.objective)))
        figures = {name: found for name in names if (found := summary.quantity(name)) is not None}
        policy = seen.proposal.notation
        is_plan = seen is self.plan
        return Tied(policy, summary.replicas, simplicity_of(seen), figures, difference, is_plan)


def objective_of(targets: Targets) -> str | None:
    """Name of the figure that is made best of; ``None`` where it is none whose difference is known."""
    return None if targets.maximize == "accuracy_per_usd" or not targets.made_best else targets.objective


def simplicity_of(seen: Simulated) -> Simplicity:
    """Of a policy, by what requests are really sent to."""
    model, summary = seen.model, seen.summary
    parts = list(seen.proposal.policy.policies.values())
    arms = [name for name, part in summary.per_arm.items() if part.share > 0 or (part.answered_share or 0) > 0]
    deployments = {model.arms[model.arm_names.index(name)].deployment for name in arms}
    return Simplicity(max(map(_kind, parts)), len(deployments), len(arms), sum(map(_bands, parts)))


def _kind(policy: Policy) -> int:
    if policy.looks_at_load:
        return LIVE
    if isinstance(policy, Always):
        return STATIC
    if isinstance(policy, (Banded, Threshold)):
        return BANDS
    return SESSIONS if follows_sessions(policy) else UTILITY


def _bands(policy: Policy) -> int:
    return len(policy.arms) if isinstance(policy, Banded) else 2 if isinstance(policy, Threshold) else 1


def pooled_of(task: PlanningTask, seen: Simulated) -> Pooled:
    """The requests of what was verified, which are simulated again: they were not kept."""
    proposal, runs = seen.proposal, task.model.scenario.replications
    arm = proposal.choose(task.population, task.model.arm_names)
    done = run_proposal(task, proposal.policy, proposal.replicas, proposal.responses, "verify", runs)
    return Pooled(done.model, done.runs, task.expectations.under(arm))


def simplest_of(task: PlanningTask, best: Simulated, verified: Iterable[Simulated], say: Progress) -> Simplest:
    """Compare the best of a kind with all that is simpler and holds the targets too, and take the simplest that is as good.

    Args:
        verified: what was simulated on the requests of plans.
    """
    objective, pooled = objective_of(task.targets), pooled_of(task, best)
    if objective is None or not best.meets_targets:
        return Simplest(objective, best, best, pooled)
    own = simplicity_of(best)
    simpler = {key_of(one.proposal): one for one in verified if one.meets_targets and simplicity_of(one) < own}
    farther = tuple(one for one in simpler.values() if _apart(objective, best, one))
    beside, of_its = [], {}
    for key, one in simpler.items():
        if any(one is other for other in farther):
            continue
        of_its[key] = pooled_of(task, one)
        beside.append(_beside(objective, pooled, of_its[key], best, one))
    as_good = [one for one in beside if one.as_good]
    if not as_good:
        return Simplest(objective, best, best, pooled, tuple(beside), farther)
    plan = min(as_good, key=lambda one: (one.simplicity, one.seen.rank(task.targets))).seen
    say(Step(STAGE, detail=f"as good, {simplicity_of(plan).words}: {figures_in_brief(plan.summary)}"))
    return Simplest(objective, best, plan, of_its[key_of(plan.proposal)], tuple(beside), farther)


def _apart(objective: str, best: Simulated, other: Simulated) -> bool:
    """Whether two are so far apart that even unpaired intervals do not meet: paired, they are farther."""
    mine, its = best.summary.quantity(objective), other.summary.quantity(objective)
    if mine is None or its is None or not math.isfinite(its.value):
        return True
    return its.high < mine.low if objective in FLOORS else its.low > mine.high


def _beside(objective: str, before: Pooled, after: Pooled, best: Simulated, other: Simulated) -> Beside:
    names = tuple(dict.fromkeys((objective, "accuracy", _COST)))
    found = compare(before, after, best.summary, other.summary, names)
    worse = {name: _turned(one.difference) if name in FLOORS else one.difference for name, one in found.items()}
    most = {name: _POINTS if name in FLOORS else _PART * abs(one.before.value) for name, one in found.items()}
    difference = found[objective].difference if objective in found else Estimate(math.nan, math.nan, math.nan)
    return Beside(other, simplicity_of(other), difference, worse, most)


def _turned(difference: Estimate) -> Estimate:
    """So that more is worse."""
    return Estimate(-difference.value, -difference.high, -difference.low)


def simpler_proposals(task: PlanningTask, proposer: Proposer, learnt: Learnt, best: Simulated) -> Iterator[Proposal]:
    """The best of fewer bands, and of one deployment less, within the limits that the search ended with."""
    question = task.question(learnt.limits, learnt.timing)
    scenario = task.model.scenario
    if isinstance(proposer, BandsProposer):
        most = max(_bands(one) for one in best.proposal.policy.policies.values())
        for bands in range(most - 1, 0, -1):
            search = scenario.search.model_copy(update={"max_bands": bands})
            model = replace(task.model, scenario=scenario.model_copy(update={"search": search}))
            yield proposer.propose(replace(question, expectations=replace(task.expectations, model=model)))
    arms = [task.model.arms[task.model.arm_names.index(name)] for name in best.summary.per_arm]
    used = sorted({arm.deployment for arm in arms})
    for deployment in used if len(used) > 1 else ():
        shut = np.array([arm.deployment == deployment for arm in task.model.arms])
        rest = without_arms(question.expectations, shut)
        if rest.offered.any(axis=0).all():
            yield proposer.propose(replace(question, expectations=rest))


def look_at_simpler(
    task: PlanningTask, proposer: Proposer, learnt: Learnt, best: Simulated, known: Iterable[Simulated], say: Progress
) -> list[Simulated]:
    """Simulate simpler proposals that promise to come near the best; those that are known are not simulated again."""
    if not best.meets_targets or objective_of(task.targets) is None:
        return []
    seen = {key_of(one.proposal) for one in known}
    looked: list[Simulated] = []
    for proposal in simpler_proposals(task, proposer, learnt, best):
        if key_of(proposal) in seen or proposal.excess or not _promising(task, learnt, best, proposal):
            continue
        seen.add(key_of(proposal))
        one, learnt = simulate_proposal(task, proposal, learnt, "verify", task.model.scenario.replications)
        looked.append(one)
        say(Step(STAGE, detail=f"{simplicity_of(one).words}: {figures_in_brief(one.summary)}"))
    return looked


def _promising(task: PlanningTask, learnt: Learnt, best: Simulated, proposal: Proposal) -> bool:
    """Whether what is expected of a proposal, before any queue, lies within the interval of the best."""
    if task.targets.maximize is not None:
        accuracy = best.summary.accuracy
        return accuracy is None or proposal.accuracy - learnt.optimism.accuracy >= accuracy.low
    cost = best.summary.cost_usd_per_request
    expected = proposal.cost_usd_per_request - learnt.optimism.cost_usd_per_request
    return task.targets.fastest or expected <= cost.high
