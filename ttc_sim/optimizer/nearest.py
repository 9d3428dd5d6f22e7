"""The plan that misses its targets by the least.

Every target is missed by at most a share ``m`` of its bound if and only if all targets, loosened by that share, hold. So the least
share at which they do is bisected, each time with the best policy for the loosened targets.
"""

from __future__ import annotations

from dataclasses import replace

from ttc_sim.base.progress import Progress, Step, silent
from ttc_sim.optimizer.looking import Learnt, Looks, simulate_proposal
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing.proposal import Proposer, allowed_replicas
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.scenario import Targets, has_fixed_cost

_STEPS = 6
_RUNS = 2
_UNKNOWN = 1e300  # by how much a target is missed of which nothing is known


def look_for_the_nearest(
    task: PlanningTask, proposer: Proposer, learnt: Learnt, looks: Looks, say: Progress = silent
) -> Learnt:
    """Simulate the best policies for targets that are loosened alike, as little as will do."""
    pools = [name for name, item in task.model.scenario.deployments.items() if has_fixed_cost(item)]
    most = {name: allowed_replicas(task.model, name)[-1] for name in pools}
    # The fastest is on the most replicas, unless their bill is limited.
    replicas = most if task.most_usd_per_request is None and pools else None
    low, high = 0.0, min(looks.believed[0].largest_miss, _UNKNOWN)
    for _ in range(_STEPS):
        share = (low + high) / 2
        targets = loosened(task.targets, share)
        timing = learnt.timing if replicas is None else learnt.timing.at(replicas)
        timing = replace(timing, targets=targets)
        limits = task.limits_of(targets)
        limits = learnt.optimism.allowed_for(limits, targets)
        proposal = proposer.propose(task.question(limits, timing, targets=targets, replicas=replicas))
        seen = looks.get(proposal)
        if seen is None:
            seen, after = simulate_proposal(task, proposal, learnt, "search", _RUNS)
            learnt = replace(learnt, timing=replace(after.timing, targets=learnt.timing.targets))
            looks.add(seen)
            told = f"targets loosened by {share:.1%}: {figures_in_brief(seen.summary)}"
            say(Step("looking for what comes nearest", detail=told))
        high = min(high, seen.largest_miss)
        if seen.largest_miss > share:
            low = share
        if high - low < 1e-3:
            break
    return learnt


def loosened(targets: Targets, share: float) -> Targets:
    """Targets with every bound moved by this share of itself."""
    moved = {}
    for target in targets.asked():
        bound = target.bound * (1 - share if target.at_least else 1 + share)
        moved[target.name] = min(max(bound, 0.0), 1.0) if target.is_share else bound
    return targets.with_bounds(moved)
