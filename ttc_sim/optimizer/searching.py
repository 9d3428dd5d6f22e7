"""How the best policy of one kind is found: propose, look, tighten, look at other capacities, verify.

A proposer gives the best policy by expectation over the measured attempts, before any queue. Simulation looks at it. What it misses
there tightens the limits that the next proposal must keep to. How many replicas it takes is decided by simulation too. The best is
verified on fresh seeds, beside what missed the targets by no more than noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ttc_sim.base.progress import Progress, Step, silent
from ttc_sim.optimizer.capacities import SEARCH_RUNS, improves, look_at_capacities
from ttc_sim.optimizer.looking import Learnt, Looks, Simulated, simulate_proposal
from ttc_sim.optimizer.nearest import look_for_the_nearest
from ttc_sim.optimizer.optimism import Optimism, measure_optimism
from ttc_sim.optimizer.promises import BALANCED, figures_in_brief
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal, Proposer
from ttc_sim.optimizer.speeds import look_at_speeds
from ttc_sim.optimizer.task import PlanningTask, Timing
from ttc_sim.optimizer.tightening import tightened
from ttc_sim.scenario import Targets

ROUNDS = 8  # proposals tried before giving up on a latency target
VERIFICATIONS = 3  # tries to find a proposal that holds on fresh seeds too
NEAR_MISSES = 3  # better looks that missed by no more than noise, verified too
_NOISE = 0.03  # relative miss that may be noise, whatever a few runs say of it


@dataclass(frozen=True)
class Found:
    """What a search ended with.

    Attributes:
        proposer: that was asked; verified: its best proposal, on fresh seeds; learnt: by the end of the search.
        looks: all that was simulated.
    """

    proposer: Proposer
    verified: Simulated
    learnt: Learnt
    looks: Looks


def search(
    task: PlanningTask,
    proposer: Proposer,
    timing: Timing,
    say: Progress = silent,
    *,
    optimism: Optimism | None = None,
    better_than: Proposal | None = None,
) -> Found:
    """Find the best policy that the proposer can propose.

    Args:
        timing: what is believed of times before the first proposal.
        optimism: of such a choice, measured if left out.
        better_than: what is not better by expectation is of no use and not looked for.
    """
    limits = task.limits()
    optimism = measure_optimism(task, proposer, limits, timing, say) if optimism is None else optimism
    allowed = optimism.allowed_for(limits, task.targets)
    looks = Looks(task.targets)
    learnt = Learnt(allowed, timing, optimism)
    if task.targets.timed:
        learnt = look_at_speeds(task, proposer, allowed, learnt, looks, say, once=True)
    else:
        learnt = _propose_and_look(task, proposer, learnt, looks, say, better_than)
    # Simulation knows more that is uncertain than the problems.
    seen = next(reversed(looks.searched.values()))
    learnt = replace(learnt, optimism=replace(optimism, margin=optimism.margin.raised_by(seen.summary)))
    allowed = learnt.optimism.allowed_for(limits, task.targets)
    if task.targets.timed:
        learnt = look_at_speeds(task, proposer, allowed, learnt, looks, say)
    else:
        learnt = look_at_capacities(task, proposer, allowed, learnt, looks, say, better_than)
    learnt = _verify(task, proposer, allowed, learnt, looks, say, better_than)
    verified = looks.best_verified
    assert verified is not None
    learnt = replace(learnt, timing=learnt.timing.at(verified.proposal.replicas))
    return Found(proposer, verified, learnt, looks)


def nearer(task: PlanningTask, found: Found, say: Progress = silent) -> Found:
    """What was found, or what misses the targets by less, where they cannot all be met."""
    looks, before = found.looks, found.learnt
    learnt = look_for_the_nearest(task, found.proposer, before, looks, say)
    for _ in range(VERIFICATIONS):
        nearest = looks.believed[0]
        if nearest is looks.best_verified:
            break
        _, learnt = verify_proposal(task, nearest, learnt, looks, say)
    verified = looks.best_verified
    assert verified is not None
    return replace(found, verified=verified, learnt=learnt)


def verify_proposal(
    task: PlanningTask, seen: Simulated, learnt: Learnt, looks: Looks, say: Progress
) -> tuple[Simulated, Learnt]:
    """Look again on fresh seeds, with as many runs as the scenario has."""
    runs, extent = task.model.scenario.replications, task.model.scenario.workload.extent
    say(Step("verifying on fresh seeds", detail=f"{runs} runs of {extent}"))
    verified, learnt = simulate_proposal(task, seen.proposal, learnt, "verify", runs)
    looks.add(verified, verified=True)
    return verified, learnt


def _propose_and_look(
    task: PlanningTask,
    proposer: Proposer,
    learnt: Learnt,
    looks: Looks,
    say: Progress,
    better_than: Proposal | None = None,
) -> Learnt:
    """Propose, look, tighten what was missed, until the targets hold or there is nothing left to try."""
    for round_ in range(ROUNDS):
        proposal = proposer.propose(task.question(learnt.limits, learnt.timing))
        if proposal.excess and len(looks):
            break  # the tightened program has no solution: the best so far is the nearest
        if better_than is not None and len(looks) and not improves(proposal, better_than, task.targets):
            break
        known = looks.get(proposal)
        if known is not None and looks.best is not None:
            break
        seen, learnt = simulate_proposal(task, proposal, learnt, "search", SEARCH_RUNS)
        looks.add(seen)
        say(Step("proposing", detail=f"proposal {round_ + 1}: {figures_in_brief(seen.summary)}"))
        if proposal.excess:
            break
        if seen.largest_miss > 0.0:
            learnt = replace(learnt, limits=tightened(learnt.limits, seen))
    return learnt


def _verify(
    task: PlanningTask,
    proposer: Proposer,
    limits: Limits,
    learnt: Learnt,
    looks: Looks,
    say: Progress,
    better_than: Proposal | None = None,
) -> Learnt:
    """Verify the best; where it misses on fresh seeds, search on with that known.

    Args:
        limits: before anything was tightened.
    """
    if looks.best is None:  # known to miss: the nearest
        _, learnt = verify_proposal(task, looks.believed[0], learnt, looks, say)
        return learnt
    for attempt in range(VERIFICATIONS):
        best = looks.best
        if best is None:
            break
        verified, learnt = verify_proposal(task, best, learnt, looks, say)
        if verified.meets_targets:
            return _verify_near_misses(task, learnt, looks, say)
        if attempt == VERIFICATIONS - 1:
            break
        learnt = replace(learnt, limits=tightened(learnt.limits, verified))
        if task.targets.timed:
            learnt = look_at_speeds(task, proposer, learnt.limits, learnt, looks, say)
            continue
        proposal = proposer.propose(task.question(learnt.limits, learnt.timing))
        if not proposal.excess and looks.get(proposal) is None:
            seen, learnt = simulate_proposal(task, proposal, learnt, "search", SEARCH_RUNS)
            looks.add(seen)
        learnt = look_at_capacities(task, proposer, limits, learnt, looks, say, better_than)
    return learnt


def _verify_near_misses(task: PlanningTask, learnt: Learnt, looks: Looks, say: Progress) -> Learnt:
    """Verify what would be better than the best, and missed a target by no more than noise."""
    for _ in range(NEAR_MISSES):
        best = looks.best_verified
        assert best is not None
        near = [
            one
            for key, one in looks.searched.items()
            if key not in looks.verified and within_noise(one) and _promises_more(one, best, task.targets)
        ]
        if not near:
            break
        first = min(near, key=lambda one: one.largest_miss)
        _, learnt = verify_proposal(task, first, learnt, looks, say)
    return learnt


def _promises_more(one: Simulated, best: Simulated, targets: Targets) -> bool:
    """Whether it may be better than the best: by expectation or, of what follows from times, as it was simulated."""
    if targets.timed:
        return one.rank(targets)[1] < best.rank(targets)[1]
    return improves(one.proposal, best.proposal, targets)


def within_noise(seen: Simulated) -> bool:
    """Whether a few runs more may show that the targets hold."""
    return all(
        check.holds or check.miss <= max(_NOISE, check.promised.sd / max(abs(check.bound), 1e-9))
        for check in seen.checks
        if check.name not in BALANCED
    ) and all(check.holds for check in seen.checks if check.name in BALANCED)
