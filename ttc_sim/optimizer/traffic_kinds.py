"""The searches for traffic without problems, a kind of policy each: one arm for all, bands of prompt length, live load."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ttc_sim.base.progress import Counting, Step
from ttc_sim.optimizer.choosing import Choosing
from ttc_sim.optimizer.live_load import few_sizes, live_proposals
from ttc_sim.optimizer.looking import Simulated
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing.bands import BandsProposer, candidate_scores
from ttc_sim.optimizer.proposing.proposal import Proposal, Proposer, allowed_replicas
from ttc_sim.optimizer.searching import Found, nearer, search
from ttc_sim.optimizer.space import base_arm
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.tightening import between
from ttc_sim.optimizer.traffic_alone import SOURCE
from ttc_sim.policies import Always, PerSource
from ttc_sim.scenario import has_fixed_cost
from ttc_sim.simulation.model import ResolvedArm

ONE_ARM, BY_LENGTH, BY_LOAD = "one arm", "prompt length", "live load"
_FEW = 6  # numbers of replicas that are all simulated; of more, as many as it takes to find the fewest that hold
_LIVE_LOOKS = 60  # most policies by live load that are simulated
_HALVINGS = 4  # of the limits, or the latency, that bands are asked for
_CLOSE = 0.01  # relative difference of latencies that is not halved any more
_SLACK = 1.1  # what is expected of the rows that are summed over may be that far off what comes in the runs


# ------------------------------------------------------------------------------------------------------- one arm for all


def look_at_one_arm(choosing: Choosing) -> None:
    """Each arm alone, under the lowest cap that cuts off no more than may be; on the same replicas, where a cap saves nothing,
    also under higher ones. Where none holds the targets, under every cap."""
    task, asked = choosing.task, choosing.targets.cut_off_rate
    offered = task.expectations.offered[:, 0]
    by_base: dict[str, list[ResolvedArm]] = {}
    for arm in sorted((arm for arm, here in zip(task.model.arms, offered, strict=True) if here), key=_cap):
        by_base.setdefault(base_arm(arm.name), []).append(arm)
    tell = Counting(choosing.say, "everything to one arm", len(by_base), "arms")
    for number, (base, variants) in enumerate(by_base.items()):
        tell(number, base)
        able = [arm for arm in variants if asked is None or _cut_off(task, arm) <= _SLACK * asked + 1e-9]
        served = seen = None
        for arm in able or variants[-1:]:
            served, seen = arm, choosing.verify_best(_look_alone(choosing, arm), ONE_ARM)
            if not any(check.name == "cut_off_rate" and not check.holds for check in seen.checks):
                break
        assert served is not None
        assert seen is not None
        for higher in able[able.index(served) + 1 :] if able and seen.proposal.replicas else ():
            choosing.verify(_always(task, higher, seen.proposal.replicas), ONE_ARM)
    if choosing.best is None:
        for arm in (arm for variants in by_base.values() for arm in variants):
            choosing.verify_best(_look_alone(choosing, arm), ONE_ARM)


def _look_alone(choosing: Choosing, arm: ResolvedArm) -> list[Simulated]:
    """One arm for all on numbers of replicas, the fewest that hold among them."""
    options = _sizes(choosing, arm)
    if len(options) <= _FEW or choosing.fastest:
        return [choosing.look(one) for one in options]
    looked, low, high = [], 0, len(options) - 1
    while low < high:  # more replicas are no slower
        middle = (low + high) // 2
        looked.append(choosing.look(options[middle]))
        low, high = (low, middle) if looked[-1].meets_targets else (middle + 1, high)
    return [*looked, *(choosing.look(one) for one in options[max(low - 1, 0) : low + 2])]


def _sizes(choosing: Choosing, arm: ResolvedArm) -> list[Proposal]:
    """One arm for all on each number of replicas that carries its load and may be paid, or on what comes nearest to that."""
    task, most = choosing.task, choosing.targets.cost_usd_per_request
    name = task.model.deployment_names[arm.deployment]
    if not has_fixed_cost(task.model.deployments[arm.deployment]):
        return [_always(task, arm, {})]
    sizes = few_sizes(task, name) if choosing.fastest else allowed_replicas(task.model, name)
    load = float(task.expectations.gpu_s[_index(task, arm)] @ task.population.weight) * task.rate_per_s
    carrying = [size for size in sizes if size * task.model.scenario.search.utilization >= load] or [sizes[-1]]
    paid = [size for size in carrying if most is None or task.pools_usd_per_request({name: size}) <= most]
    return [_always(task, arm, {name: size}) for size in paid or carrying[:1]]


def _always(task: PlanningTask, arm: ResolvedArm, replicas: Mapping[str, int]) -> Proposal:
    """One arm for all, on these replicas."""
    pools = task.pools_usd_per_request(replicas) if replicas else 0.0
    return Proposal(
        policy=PerSource({SOURCE: Always(arm.name)}),
        replicas=replicas,
        accuracy=1.0 - _cut_off(task, arm),
        cost_usd_per_request=float(task.expectations.api_cost_usd[_index(task, arm)] @ task.population.weight) + pools,
        excess={},
    )


def _cut_off(task: PlanningTask, arm: ResolvedArm) -> float:
    """Share of the answers that an arm's cap is expected to cut off."""
    return 1.0 - float(task.expectations.correct[_index(task, arm)] @ task.population.weight)


def _index(task: PlanningTask, arm: ResolvedArm) -> int:
    return task.model.arm_names.index(arm.name)


def _cap(arm: ResolvedArm) -> float:
    cap = arm.strategy.attempt_cap
    return math.inf if cap is None else float(cap)


# ------------------------------------------------------------------------------------------------------- prompt length


def look_at_lengths(choosing: Choosing) -> None:
    """Bands of the prompt's length, where prompts differ and there is a choice.

    Raises:
        InputError: ``search.scores`` names a prediction: of this traffic there is none.
    """
    task = choosing.task
    scores = tuple(candidate_scores(task.expectations, task.model.scenario.search))
    proposer = task.asking(BandsProposer(scores))
    alike = len(np.unique(task.population.prompt_tokens)) == 1
    if alike or not scores or task.expectations.offered[:, 0].sum() < 2:
        return
    if choosing.fastest:
        _fastest_by_length(choosing, proposer)
        return
    choosing.say(Step("bands of prompt length"))
    found = search(task, proposer, choosing.learnt.timing, choosing.say)
    if choosing.best is None and not found.verified.meets_targets:
        found = nearer(task, found, choosing.say)
    choosing.keep(found.verified, BY_LENGTH)
    _loosen(choosing, proposer, found)


def _loosen(choosing: Choosing, proposer: Proposer, found: Found) -> None:
    """Between the targets as they stand and the limits that a search ended with, which may have been tightened by too much."""
    loose, tight, looked = choosing.task.limits(), found.learnt.limits, list[Simulated]()
    if loose == tight or not found.verified.meets_targets:
        return
    for _ in range(_HALVINGS):
        middle = between(loose, tight)
        proposal = proposer.propose(choosing.task.question(middle, found.learnt.timing))
        if proposal.excess:
            break
        looked.append(choosing.look(proposal))
        loose, tight = (loose, middle) if looked[-1].meets_targets else (middle, tight)
    if looked:
        choosing.verify_best(looked, BY_LENGTH)


def _fastest_by_length(choosing: Choosing, proposer: Proposer) -> None:
    """The least latency, or the most goodput, at which bands hold all else, halved in on: for each level, the cheapest bands."""
    targets, looked, name = choosing.targets, list[Simulated](), choosing.targets.objective

    def cheapest(level: float | None) -> Simulated:
        changed = targets if level is None else targets.at_level(name, level)
        task = replace(choosing.task, targets=changed.model_copy(update={"minimize": "cost", "maximize": None}))
        found = search(task, proposer, task.timing().after(choosing.learnt.timing.seen), choosing.say)
        if level is None and not found.verified.meets_targets:
            found = nearer(task, found, choosing.say)
        looked.extend(one.judged_by(choosing.targets) for one in found.looks.searched.values())
        choosing.keep(found.verified.judged_by(choosing.targets), BY_LENGTH)
        return found.verified

    held = choosing.best or cheapest(None)
    # Goodput counts as its negative: the lower the better.
    sign = -1.0 if targets.maximize is not None else 1.0
    low, high = (-1.0 if sign < 0 else 0.0), choosing.value(held)
    for _ in range(_HALVINGS if held.meets_targets else 0):
        level = (low + high) / 2
        choosing.say(Step("bands of prompt length", detail=f"at {name} {sign * level:.3g}"))
        seen = cheapest(sign * level)
        low, high = (low, min(level, choosing.value(seen))) if seen.meets_targets else (level, high)
        if high - low <= _CLOSE * abs(high):
            break
    choosing.looked.extend(looked)
    if looked:
        choosing.verify_best(looked, BY_LENGTH)


# ----------------------------------------------------------------------------------------------------------- live load


def look_at_live_load(choosing: Choosing) -> None:
    """Two arms by live load, as long as what is listed may still be better than the best of the simpler kinds."""
    most, held, looked = choosing.targets.cost_usd_per_request, choosing.best, list[Simulated]()
    proposals = live_proposals(choosing.task, choosing.learnt.timing)
    if most is not None and held is not None:
        proposals = [one for one in proposals if one.cost_usd_per_request <= most]
    for one in proposals[:_LIVE_LOOKS]:
        if choosing.targets.cheapest and held is not None and one.cost_usd_per_request >= _SLACK * _usd(held):
            break  # it costs about that at least
        looked.append(choosing.look(one))
        told = f"{next(iter(one.notation.values()))}: {figures_in_brief(looked[-1].summary)}"
        choosing.say(Step("by live load", detail=told))
        if looked[-1].meets_targets and (held is None or choosing.rank(looked[-1]) < choosing.rank(held)):
            held = looked[-1]
    if looked:
        choosing.verify_best(looked, BY_LOAD)


def _usd(seen: Simulated) -> float:
    return seen.summary.cost_usd_per_request.value


KINDS = (look_at_one_arm, look_at_lengths, look_at_live_load)
"""All of them, from the simplest on."""
