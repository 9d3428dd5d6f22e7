"""How the best policy of one kind is found: propose, look, tighten, verify.

A proposer gives the best policy by expectation over the measured attempts, before any queue. Simulation looks at it. What it misses
there tightens the limits that the next proposal must keep to. The best is verified on fresh seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ttc_sim.optimizer.looking import Learnt, Simulated, simulate_proposal
from ttc_sim.optimizer.optimism import measure_optimism
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing.proposal import Limits, Proposer
from ttc_sim.optimizer.task import PlanningTask, Progress, Timing
from ttc_sim.scenario import GpuPool

ROUNDS = 8  # proposals tried before giving up on a latency target
SEARCH_RUNS = 2  # independent runs behind each look at a proposal
VERIFICATIONS = 3  # tries to find a proposal that holds on fresh seeds too


@dataclass(frozen=True)
class Found:
    """What a search ended with.

    Attributes:
        proposer: that was asked; verified: its best proposal, on fresh seeds; learnt: by the end of the search.
    """

    proposer: Proposer
    verified: Simulated
    learnt: Learnt


def search(task: PlanningTask, proposer: Proposer, timing: Timing, say: Progress = lambda _: None) -> Found:
    """Find the best policy that the proposer can propose.

    Args:
        timing: what is believed of times before the first proposal.
    """
    limits = task.limits()
    optimism = measure_optimism(task, proposer, limits, timing, say)
    learnt = Learnt(optimism.allowed_for(limits), timing, optimism)
    best, learnt = _propose_and_look(task, proposer, learnt, say)
    verified, learnt = _verify(task, proposer, best, learnt, say)
    return Found(proposer, verified, learnt)


def _propose_and_look(
    task: PlanningTask, proposer: Proposer, learnt: Learnt, say: Progress
) -> tuple[Simulated, Learnt]:
    """Propose, look, tighten what was missed, until the targets hold or there is nothing left to try."""
    best: Simulated | None = None
    tried: set[str] = set()
    for round_ in range(ROUNDS):
        proposal = proposer.propose(task.question(learnt.limits, learnt.timing))
        key = repr((proposal.policy, sorted(proposal.replicas.items())))
        if proposal.excess and best is not None:
            break  # the tightened program has no solution: the best so far is the nearest
        if key in tried and best is not None and best.meets_targets:
            break
        tried.add(key)
        seen, learnt = simulate_proposal(task, proposal, learnt, "search", SEARCH_RUNS)
        say(f"proposal {round_ + 1}: {figures_in_brief(seen.summary)}")
        if best is None or seen.rank(task.targets) < best.rank(task.targets):
            best = seen
        if proposal.excess:
            break
        if seen.largest_miss > 0.0:
            learnt = replace(learnt, limits=tightened(learnt.limits, seen))
    assert best is not None
    return best, learnt


def _verify(
    task: PlanningTask, proposer: Proposer, found: Simulated, learnt: Learnt, say: Progress
) -> tuple[Simulated, Learnt]:
    """Look again on fresh seeds, with more runs; a plan that misses there by a little is tightened and tried again."""
    runs, requests = task.model.scenario.replications, task.model.scenario.workload.requests
    best: Simulated | None = None
    for attempt in range(VERIFICATIONS):
        say(f"verifying on fresh seeds: {runs} runs of {requests:,} requests")
        verified, learnt = simulate_proposal(task, found.proposal, learnt, "verify", runs)
        if best is None or verified.rank(task.targets) < best.rank(task.targets):
            best = verified
        known_to_miss = found.proposal.excess or found.largest_miss > 0.0
        if verified.meets_targets or known_to_miss or attempt == VERIFICATIONS - 1:
            break
        learnt = replace(learnt, limits=tightened(learnt.limits, verified))
        proposal = proposer.propose(task.question(learnt.limits, learnt.timing))
        if proposal.excess:
            break
        found, learnt = simulate_proposal(task, proposal, learnt, "search", SEARCH_RUNS)
    assert best is not None
    return best, learnt


def tightened(limits: Limits, simulated: Simulated) -> Limits:
    """The limits, moved by what simulation saw missing."""
    for check in simulated.checks:
        if check.holds:
            continue
        gap = abs(check.promised.value - check.bound)
        if check.name == "accuracy" and limits.accuracy is not None:
            limits = replace(limits, accuracy=limits.accuracy + 1.05 * gap + 1e-4)
        elif check.name == "cost_usd_per_request" and limits.cost_usd_per_request is not None:
            limits = replace(limits, cost_usd_per_request=max(limits.cost_usd_per_request - 1.05 * gap, 0.0))
        elif check.name in limits.late:
            excess = min(max(check.bound / check.promised.value, 0.5), 0.97)
            limits = replace(limits, late={**limits.late, check.name: limits.late[check.name] * excess})
            if _uses_pools(simulated):
                limits = replace(limits, utilization=limits.utilization * 0.9)
        elif check.name == "timeout_rate" and limits.timeout_rate is not None:
            limits = replace(limits, timeout_rate=limits.timeout_rate * 0.7, utilization=limits.utilization * 0.9)
    return limits


def _uses_pools(simulated: Simulated) -> bool:
    """Whether any request went to an arm on a GPU pool."""
    model = simulated.model
    return any(
        arm.name in simulated.summary.per_arm and isinstance(model.deployments[arm.deployment], GpuPool)
        for arm in model.arms
    )
