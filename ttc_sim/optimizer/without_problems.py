"""Plans for traffic without problems: caps, arms and capacity by cost, latency and answers cut off; accuracy is unknown.

Three kinds of policy are searched, from the simplest on: one arm for all, bands of the prompt's length, two arms by live load. A
kind is the plan only if it is better than all that are simpler. Every one is simulated on the same requests. Of sessions policies
that follow their turns take the place of bands (:mod:`ttc_sim.optimizer.session_kinds`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Counting, Progress, Step, counted, silent
from ttc_sim.optimizer.baselines import always_proposals, uncapped_proposal
from ttc_sim.optimizer.choosing import Choosing
from ttc_sim.optimizer.confidence_costs import costs_of, levels_beside
from ttc_sim.optimizer.configurations import configurations_of, configured
from ttc_sim.optimizer.dropping import may_drop
from ttc_sim.optimizer.frontier import Axes, frontier_of, objective_of, thinned
from ttc_sim.optimizer.health.examine import examine
from ttc_sim.optimizer.health.subject import Subject
from ttc_sim.optimizer.looking import Simulated
from ttc_sim.optimizer.plan import Alternative, Plan
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing.proposal import Proposal
from ttc_sim.optimizer.refining import expectations_of_space
from ttc_sim.optimizer.session_kinds import BY_SESSION, NOT_BY_LOAD, NOT_SEARCHED, kinds_of, wants_accuracy
from ttc_sim.optimizer.simpler import LIVE, STATIC, Simplest, simplest_of, simplicity_of
from ttc_sim.optimizer.space import expanded_model, left_to_capacity
from ttc_sim.optimizer.taking import is_better
from ttc_sim.optimizer.task import PlanningTask, proposed_without
from ttc_sim.optimizer.traffic_alone import as_population
from ttc_sim.optimizer.traffic_kinds import BY_LENGTH, BY_LOAD, ONE_ARM
from ttc_sim.policies import Always
from ttc_sim.scenario import Scenario, Targets
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.summary import Summary
from ttc_sim.simulation.turn_lengths import may_be_live

_LEVELS = 3  # of the one figure of a frontier that the other is made best of at, between its ends
_UNKNOWN = (
    "no problems stand behind these requests, so nothing is known of accuracy, and no arm was chosen or left out for it: there is "
    "no frontier of accuracy and cost, no gain in right answers, and nothing to say of a predictor's worth"
)


def plan_for_traffic(model: Model, targets: Targets, progress: Progress = silent) -> Plan:
    """Search for each kind of policy at its best, and choose among them and the baselines.

    Raises:
        InputError: a target is missing without which the lowest cap, or dropping requests, would be best; requests without lengths;
            no arm that they may be sent to.
    """
    return plan_traffic(traffic_task(model, targets, progress), model.scenario, progress)[0]


def traffic_task(model: Model, targets: Targets, progress: Progress = silent, *, refined: bool = True) -> PlanningTask:
    """What is to be planned.

    Args:
        refined: whether numbers from ranges are looked at closer than the ranges' rungs.

    Raises:
        InputError: as :func:`plan_for_traffic`.
    """
    whole = expanded_model(model)
    for one in configurations_of(whole.scenario):
        _check_asked(replace(whole, scenario=one.scenario), targets)
    if refined:
        return configured(expectations_of_space(model, targets, progress, as_population), targets, progress).task
    return PlanningTask.of(expect_arms(as_population(whole)), targets)


def plan_traffic(
    task: PlanningTask,
    scenario: Scenario,
    progress: Progress = silent,
    beside: Mapping[str, Proposal] | None = None,
) -> tuple[Plan, Simulated]:
    """The same for a task: the plan, and what simulation says of it.

    Args:
        scenario: that was asked for; beside: by kind, a proposal that may be its best too.
    """
    targets, choosing = task.targets, Choosing(task, progress)
    for look in kinds_of(task):
        look(choosing)
    for kind, proposal in (beside or {}).items():
        choosing.verify(proposal, kind)
    others = _of_other_confidences(choosing)
    baselines = _baselines(choosing)
    along = [] if targets.frontier is None else _along_frontier(choosing)
    simplest = _the_simplest(choosing)
    plan = simplest.plan
    surest = max(one.chance for one in [plan, *others])
    others = [
        one for one in others if one is plan or not one.meets_targets or choosing.rank(one) >= choosing.rank(plan)
    ]
    frontier = () if targets.frontier is None else frontier_of(plan, [*along, *others], baselines.values(), targets)
    objective = "cost_usd_per_request" if targets.cheapest else targets.objective
    made = Plan(
        status=plan.status,
        binding=tuple(check.name for check in plan.checks if not check.holds),
        scenario=plan.model.scenario,
        predicted=replace(
            plan.summary,
            notes=(
                *plan.summary.notes,
                *((NOT_BY_LOAD,) if task.of_sessions and not may_be_live(task.model) else ()),
                *((_UNKNOWN,) if plan.summary.accuracy is None else (NOT_SEARCHED,) if wants_accuracy(task) else ()),
                *left_to_capacity(scenario),
                *proposed_without(plan.model),
            ),
        ),
        checks=plan.checks,
        baselines=baselines,
        frontier=frontier,
        optimism={},
        alternatives={
            kind: Alternative(
                one.proposal.notation,
                "within noise" if is_better(one, plan, targets) else one.status,
                one.summary,
                one is plan,
                objective,
            )
            for kind, one in choosing.found.items()
        },
        gain=None,
        worth=None,
        novelty=None,
        confidence_costs=costs_of(targets, plan, others),
        highest_confidence=surest,
        tied=simplest.tied(),
        health=examine(_examined(choosing, simplest, surest)),
    )
    return made, plan


def _the_simplest(choosing: Choosing) -> Simplest:
    """The simplest of all kinds that is as good as the best is the plan."""
    kind = choosing.chosen
    verified = [*choosing.verified, *choosing.found.values()]
    simplest = simplest_of(choosing.task, choosing.found[kind], verified, choosing.say)
    if simplest.plan is not simplest.best:
        between = BY_SESSION if choosing.task.of_sessions else BY_LENGTH
        name = {STATIC: ONE_ARM, LIVE: BY_LOAD}.get(simplicity_of(simplest.plan).kind, between)
        choosing.found[name] = simplest.plan
    return simplest


def _examined(choosing: Choosing, simplest: Simplest, highest: float) -> Subject:
    """The plan, for its checks: on its own traffic, where it says for all sources what it does."""
    plan = simplest.plan
    policy = choosing.task.for_all(plan.proposal.policy)
    return Subject(simplest.pooled, policy, plan.summary, plan.checks, highest, None, simplest)


def _of_other_confidences(choosing: Choosing) -> list[Simulated]:
    """The best plans for other confidences than the one asked for; what was simulated already is not simulated again."""
    others = []
    for level in counted(levels_beside(choosing.targets), choosing.say, "looking at what confidence costs", "levels"):
        task = replace(choosing.task, targets=choosing.targets.with_confidence(level))
        beside = Choosing(task, silent)
        for look in kinds_of(task):
            look(beside)
        seen = beside.found[beside.chosen].judged_by(choosing.targets)
        choosing.keep(seen, beside.chosen)
        others.append(seen)
    return [*others, *choosing.found.values()]


def _along_frontier(choosing: Choosing) -> list[Simulated]:
    """What may be on the frontier, on the requests that plans are verified on: each figure at its best, and levels between."""
    choosing.say(Step("drawing the frontier"))
    axes, targets, looked = Axes.of(choosing.targets), choosing.targets, [*choosing.looked]
    free = axes.without_traded(targets)

    def look_at(aimed: Targets) -> None:
        beside = Choosing(replace(choosing.task, targets=aimed), silent)
        for look in kinds_of(beside.task):
            look(beside)
        looked.extend(beside.looked)
        looked.extend(beside.found.values())

    for name in axes.names:
        look_at(free.model_copy(update=objective_of(name)))
    ends = [losses[axes.names.index(axes.held)] for one in looked if (losses := axes.losses(one.summary)) is not None]
    for level in np.linspace(min(ends), max(ends), _LEVELS + 2)[1:-1].tolist() if ends else ():
        held = free.at_level(axes.held, abs(float(level)))
        look_at(held.model_copy(update=objective_of(axes.made_best)))
    return [choosing.verify(one.proposal, _kind_of(choosing, one)) for one in thinned(looked, targets)]


def _kind_of(choosing: Choosing, seen: Simulated) -> str:
    policy = seen.proposal.policy
    if policy.looks_at_load:
        return BY_LOAD
    if all(isinstance(one, Always) for one in policy.policies.values()):
        return ONE_ARM
    return BY_SESSION if choosing.task.of_sessions else BY_LENGTH


def _baselines(choosing: Choosing) -> dict[str, Summary]:
    """Always one arm, and the plan without its caps, on the requests that the plan was verified on; the plan, if one is better."""
    baselines: dict[str, Summary] = {}
    proposals = always_proposals(choosing.task)
    tell = Counting(choosing.say, "comparing with the baselines on the same requests", len(proposals), "baselines")
    for name, proposal in proposals.items():
        baselines[name] = choosing.verify(proposal, ONE_ARM).summary
        tell(len(baselines), f"{name}: {figures_in_brief(baselines[name])}")
    kind = choosing.chosen
    plan = choosing.found[kind].proposal
    uncapped = None if plan.policy.looks_at_load else uncapped_proposal(choosing.task, plan)
    if uncapped is not None:
        baselines["uncapped"] = choosing.verify(uncapped, kind).summary
    return baselines


def _check_asked(model: Model, targets: Targets) -> None:
    """Where a lower cap, or a dropped request, makes a plan cheaper and nothing speaks against it, no plan is worth its name."""
    path, shorter = model.scenario.path, model.scenario.search.compact
    made_best = (targets.accuracy, *(name for name in targets.made_best if name.startswith("accuracy")))
    if shorter is not None and model.instances is not None and any(one is not None for one in made_best):
        expected = "none where accuracy counts: how right a session is whose context was made shorter was not measured"
        raise InputError(path, "search.compact", shorter.model_dump(), expected)
    caps = {arm.strategy.attempt_cap for arm in model.arms}
    if targets.cut_off_rate is None and len(caps) > 1:
        expected = "most answers that caps may cut off, such as 0.01: without it the lowest cap always wins"
        raise InputError(path, "targets.cut_off_rate", None, expected)
    if targets.timeout_rate is not None or targets.goodput is not None or targets.maximize == "goodput":
        return
    budget = model.scenario.budget
    refuses = budget is not None and any(one.at_end == "refuse" for one in budget.of_all.values())
    if refuses and targets.rejected_rate is None:
        expected = (
            "most requests that may get no answer, such as 0.01: without it (or rejected_rate) a budget may refuse all"
        )
        raise InputError(path, "targets.timeout_rate", None, expected)
    for target, (name, key) in may_drop(model.scenario.deployments).items():
        if getattr(targets, target) is None:
            expected = (
                f"most requests that may get no answer, such as 0.01: deployment {name} may drop some by its {key}, and without it "
                f"(or {target}) nothing speaks against that"
            )
            raise InputError(path, "targets.timeout_rate", None, expected)
