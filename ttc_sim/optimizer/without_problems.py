"""Plans for traffic without problems: caps, arms and capacity by cost, latency and answers cut off; accuracy is unknown.

Three kinds of policy are searched, from the simplest on: one arm for all, bands of the prompt's length, two arms by live load. A
kind is the plan only if it is better than all that are simpler. Every one is simulated on the same requests.
"""

from __future__ import annotations

from dataclasses import replace

from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.baselines import always_proposals, uncapped_proposal
from ttc_sim.optimizer.choosing import Choosing
from ttc_sim.optimizer.confidence_costs import costs_of, levels_beside
from ttc_sim.optimizer.configurations import configurations_of, configured
from ttc_sim.optimizer.dropping import may_drop
from ttc_sim.optimizer.looking import Simulated
from ttc_sim.optimizer.plan import Alternative, Plan
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.space import expanded_model, left_to_capacity
from ttc_sim.optimizer.task import Progress, proposed_without
from ttc_sim.optimizer.traffic_kinds import KINDS, ONE_ARM
from ttc_sim.scenario import Targets
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.summary import Summary

_UNKNOWN = (
    "no problems stand behind these requests, so nothing is known of accuracy, and no arm was chosen or left out for it: there is "
    "no frontier of accuracy and cost, no gain in right answers, and nothing to say of a predictor's worth"
)


def plan_for_traffic(model: Model, targets: Targets, progress: Progress = lambda _: None) -> Plan:
    """Search for each kind of policy at its best, and choose among them and the baselines.

    Raises:
        InputError: a target is missing without which the lowest cap, or dropping requests, would be best; requests without lengths;
            no arm that they may be sent to.
    """
    whole = expanded_model(model)
    for one in configurations_of(whole.scenario):
        _check_asked(replace(whole, scenario=one.scenario), targets)
    choosing = Choosing(configured(model, targets, progress).task, progress)
    for look in KINDS:
        look(choosing)
    others = _of_other_confidences(choosing)
    baselines = _baselines(choosing)
    plan = choosing.found[choosing.chosen]
    objective = "cost_usd_per_request" if targets.cheapest else str(targets.minimize)
    return Plan(
        status=plan.status,
        binding=tuple(check.name for check in plan.checks if not check.holds),
        scenario=plan.model.scenario,
        predicted=replace(
            plan.summary,
            notes=(*plan.summary.notes, _UNKNOWN, *left_to_capacity(model.scenario), *proposed_without(plan.model)),
        ),
        checks=plan.checks,
        baselines=baselines,
        frontier=(),
        optimism={},
        alternatives={
            kind: Alternative(one.proposal.notation, one.status, one.summary, one is plan, objective)
            for kind, one in choosing.found.items()
        },
        gain=None,
        worth=None,
        novelty=None,
        confidence_costs=costs_of(targets, plan, others),
        highest_confidence=max(one.chance for one in [plan, *others]),
    )


def _of_other_confidences(choosing: Choosing) -> list[Simulated]:
    """The best plans for other confidences than the one asked for; what was simulated already is not simulated again."""
    choosing.say("looking at what confidence costs")
    others = []
    for level in levels_beside(choosing.targets):
        task = replace(choosing.task, targets=choosing.targets.with_confidence(level))
        beside = Choosing(task, lambda _: None)
        for look in KINDS:
            look(beside)
        seen = beside.found[beside.chosen].judged_by(choosing.targets)
        choosing.keep(seen, beside.chosen)
        others.append(seen)
    return [*others, *choosing.found.values()]


def _baselines(choosing: Choosing) -> dict[str, Summary]:
    """Always one arm, and the plan without its caps, on the requests that the plan was verified on; the plan, if one is better."""
    choosing.say("comparing with the baselines on the same requests")
    baselines = {}
    for name, proposal in always_proposals(choosing.task).items():
        baselines[name] = choosing.verify(proposal, ONE_ARM).summary
        choosing.say(f"{name}: {figures_in_brief(baselines[name])}")
    kind = choosing.chosen
    plan = choosing.found[kind].proposal
    uncapped = None if plan.policy.looks_at_load else uncapped_proposal(choosing.task, plan)
    if uncapped is not None:
        baselines["uncapped"] = choosing.verify(uncapped, kind).summary
    return baselines


def _check_asked(model: Model, targets: Targets) -> None:
    """Where a lower cap, or a dropped request, makes a plan cheaper and nothing speaks against it, no plan is worth its name."""
    path = model.scenario.path
    caps = {arm.strategy.attempt_cap for arm in model.arms}
    if targets.cut_off_rate is None and len(caps) > 1:
        expected = "most answers that caps may cut off, such as 0.01: without it the lowest cap always wins"
        raise InputError(path, "targets.cut_off_rate", None, expected)
    if targets.timeout_rate is not None or targets.goodput is not None:
        return
    for target, (name, key) in may_drop(model.scenario.deployments).items():
        if getattr(targets, target) is None:
            expected = (
                f"most requests that may get no answer, such as 0.01: deployment {name} may drop some by its {key}, and without it "
                f"(or {target}) nothing speaks against that"
            )
            raise InputError(path, "targets.timeout_rate", None, expected)
