"""How many replicas of each pool, and which endpoints with a fixed fee are paid for: simulation decides.

For given numbers of replicas the best policy is a program without any choice of capacity, and what it costs is a bound: no plan on
these replicas is cheaper. So numbers are tried from the cheapest bound on, until the next bound is no better than the best that
was seen to hold (best-first branch and bound). Where many are left, the one in the middle is looked at first, which on a single
pool is bisection: what fails rules out all that have no more replicas of any pool, what holds rules out all that cost more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ttc_sim.base.progress import Progress, Step, silent
from ttc_sim.optimizer.looking import Learnt, Looks, Simulated, simulate_proposal
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal, Proposer, allowed_replicas
from ttc_sim.optimizer.task import PlanningTask, shut_without
from ttc_sim.optimizer.tightening import between, tightened
from ttc_sim.scenario import GpuPool, Targets, has_fixed_cost

SEARCH_RUNS = 2  # independent runs behind each look at a proposal
LOOKS = 60  # most proposals simulated for one kind of policy
PROGRAMS = 120  # most programs solved for one kind of policy
_COMBINATIONS = 4096  # of numbers of replicas; of longer lists every so manieth is tried first
_MOST_NODES = 100_000  # that are looked through, where pools are so many that leaving numbers out does not help
_FEW = 6  # combinations that are tried from the cheapest on; of more, the middle first
_TIGHTENINGS = 5  # proposals tried at one combination before it is given up
_REFINEMENTS = 3  # halvings between limits that were too loose and limits that hold
_ALIKE = 1e-6  # relative difference below which one objective is no better than another


def objective(proposal: Proposal, targets: Targets) -> tuple[float, float]:
    """What is made best of, by expectation, the lower the better; of two alike the cheaper, or the more accurate, is better."""
    cost, wrong = proposal.cost_usd_per_request, -proposal.accuracy
    if targets.cheapest:
        return cost, wrong
    if targets.most_accurate:
        return wrong, cost
    if targets.maximize == "accuracy_per_usd":
        return (wrong / cost if cost > 0 else -math.inf), wrong
    return proposal.value, cost


def improves(proposal: Proposal, best: Proposal | None, targets: Targets) -> bool:
    """Whether one proposal is better than another by expectation, by more than rounding."""
    if best is None:
        return True
    (mine, second), (other, its_second) = objective(proposal, targets), objective(best, targets)
    margin = _ALIKE * max(abs(other), 1e-12)
    if not targets.most_accurate:
        return mine < other - margin
    return mine < other - margin or (mine <= other and second < its_second - _ALIKE * max(its_second, 1e-12))


@dataclass
class _Node:
    """One combination of numbers of replicas.

    Attributes:
        replicas: of the pools that are open; bound: of the objective, at least.
        proposal: the best on these replicas, latency left aside, once it is known.
    """

    replicas: Mapping[str, int]
    bound: tuple[float, float]
    proposal: Proposal | None = None

    def within(self, others: Mapping[str, int]) -> bool:
        """Whether these are no more replicas of any pool than the others."""
        return all(count <= others.get(name, 0) for name, count in self.replicas.items())


def look_at_capacities(
    task: PlanningTask,
    proposer: Proposer,
    limits: Limits,
    learnt: Learnt,
    looks: Looks,
    say: Progress = silent,
    better_than: Proposal | None = None,
) -> Learnt:
    """Look at numbers of replicas until none is left that promises more than the best that was seen to hold.

    Args:
        limits: that every proposal must keep to, before anything was simulated.
        looks: what was simulated so far; what is simulated here is added.
        better_than: what is not better by expectation is not looked at; as if it had been seen to hold.

    Returns:
        What has been learnt; its limits are those of the best proposal if it was found here.
    """
    names = _pools(task)
    if not names:
        return learnt
    search = _CapacitySearch(task, proposer, limits, learnt, looks, say, better_than)
    lists = _thinned([allowed_replicas(task.model, name) for name in names])
    if (many := math.prod(len(some) + 1 for some in lists)) > _MOST_NODES:
        say(f"{many:,} combinations of open pools are too many to look at: replicas are as they were proposed")
        return learnt
    search.run(_nodes(task, names, lists))
    best = looks.best
    full = [allowed_replicas(task.model, name) for name in names]
    if best is not None and lists != full:  # numbers left out beside those of the best
        held = [best.proposal.replicas.get(name, 0) for name in names]
        close = [
            [n for n in whole if _below(some, most) < n <= most]
            for most, whole, some in zip(held, full, lists, strict=True)
        ]
        search.run(_nodes(task, names, _thinned(close)))
    return search.learnt


class _CapacitySearch:
    """What stays the same from one combination to the next, and what is learnt on the way."""

    def __init__(
        self,
        task: PlanningTask,
        proposer: Proposer,
        limits: Limits,
        learnt: Learnt,
        looks: Looks,
        say: Progress,
        better_than: Proposal | None,
    ) -> None:
        self.better_than = better_than
        self.task, self.proposer, self.limits, self.looks, self.say = task, proposer, limits, looks, say
        self.learnt = learnt
        self.targets = task.targets
        self.looked = self.solved = 0
        self.failed: list[Mapping[str, int]] = []

    @property
    def exhausted(self) -> bool:
        return self.looked >= LOOKS or self.solved >= PROGRAMS

    @property
    def best(self) -> Proposal | None:
        held = self.looks.best
        if held is not None and (self.better_than is None or improves(held.proposal, self.better_than, self.targets)):
            return held.proposal
        return self.better_than

    def run(self, nodes: list[_Node]) -> None:
        """Look at the nodes, most promising first."""
        if self.best is not None:
            root = self.propose(replace(self.limits, late={}, timeout_rate=None), None)
            if not root.excess and not improves(root, self.best, self.targets):
                return  # no capacity promises more
        elif nodes:  # nothing holds so far: before this is said, the most capacity is looked at
            most = max(nodes, key=lambda node: (len(node.replicas), sum(node.replicas.values())))
            nodes.remove(most)
            self.visit(most)
        while nodes and not self.exhausted:
            nodes = [node for node in nodes if self.promising(node)]
            nodes.sort(key=lambda node: (node.bound, sorted(node.replicas.items())))
            if not nodes:
                break
            node = nodes[len(nodes) // 2 if len(nodes) > _FEW else 0]
            if node.proposal is None and len(nodes) <= _FEW:
                self.solve(node)
                continue
            nodes.remove(node)
            self.visit(node)
        if nodes and self.exhausted:
            self.say(f"{len(nodes)} combinations of replicas were not looked at: {self.looked} others were")

    def promising(self, node: _Node) -> bool:
        """Whether it may hold something better than the best so far."""
        if any(node.within(failed) for failed in self.failed):
            return False
        if node.proposal is not None:
            return not node.proposal.excess and improves(node.proposal, self.best, self.targets)
        if self.best is None:
            return True
        bound, held = node.bound[0], objective(self.best, self.targets)[0]
        return bound < held - _ALIKE * max(abs(held), 1e-12) or self.targets.most_accurate

    def propose(self, limits: Limits, replicas: Mapping[str, int] | None) -> Proposal:
        self.solved += 1
        timing = self.learnt.timing if replicas is None else self.learnt.timing.at(replicas)
        return self.proposer.propose(self.task.question(limits, timing, replicas=replicas))

    def solve(self, node: _Node) -> Proposal:
        """The best policy on these replicas, latency left aside: what it comes to bounds all others."""
        if node.proposal is None:
            node.proposal = self.propose(replace(self.limits, late={}, timeout_rate=None), node.replicas)
            node.bound = objective(node.proposal, self.targets)
            if node.proposal.excess:
                self.gave_up(node)
        return node.proposal

    def gave_up(self, node: _Node) -> None:
        """Nothing holds on these replicas, so nothing does on fewer; a limit on cost may be why, and then fewer may do."""
        if self.task.most_usd_per_request is None:
            self.failed.append(node.replicas)

    def visit(self, node: _Node) -> None:
        """Find the best policy on these replicas that keeps the targets in simulation, if it can beat the best so far."""
        proposal = self.solve(node)
        if proposal.excess or not improves(proposal, self.best, self.targets):
            return
        held_before = self.looks.best
        limits, loose = self.limits, None
        for _ in range(_TIGHTENINGS):
            if self.exhausted:
                return
            seen = self.look(proposal)
            if seen.meets_targets:
                if self.looks.best is not held_before:
                    self.learnt = replace(self.learnt, limits=limits)
                    if loose is not None:
                        self.refine(node, loose, limits)
                return
            if proposal.excess:
                break  # the fastest that there is
            loose, limits = limits, tightened(limits, seen)
            proposal = self.propose(limits, node.replicas)
            if not proposal.excess and not improves(proposal, self.best, self.targets):
                return
        self.gave_up(node)

    def refine(self, node: _Node, loose: Limits, tight: Limits) -> None:
        """Between limits that were too loose and limits that were kept, the loosest that are kept in simulation."""
        for _ in range(_REFINEMENTS):
            if self.exhausted:
                return
            middle = between(loose, tight)
            proposal = self.propose(middle, node.replicas)
            if not proposal.excess and not improves(proposal, self.best, self.targets):
                tight = middle
                continue
            if not proposal.excess and self.look(proposal).meets_targets:
                tight = middle
                self.learnt = replace(self.learnt, limits=middle)
            else:
                loose = middle

    def look(self, proposal: Proposal) -> Simulated:
        """Simulate a proposal that was not simulated before."""
        known = self.looks.get(proposal)
        if known is not None:
            return known
        seen, self.learnt = simulate_proposal(self.task, proposal, self.learnt, "search", SEARCH_RUNS)
        self.looks.add(seen)
        self.looked += 1
        taken = replicas_in_words(self.task, proposal.replicas)
        self.say(
            Step("looking at capacity", detail=f"look {len(self.looks)} ({taken}): {figures_in_brief(seen.summary)}")
        )
        return seen


def replicas_in_words(task: PlanningTask, replicas: Mapping[str, int]) -> str:
    """Pools with their numbers, and endpoints whose fee is paid."""
    items = task.model.scenario.deployments
    taken = [f"{name} x{count}" if isinstance(items[name], GpuPool) else name for name, count in replicas.items()]
    return ", ".join(taken) or "no pool"


def _pools(task: PlanningTask) -> list[str]:
    return [name for name, item in task.model.scenario.deployments.items() if has_fixed_cost(item)]


def pools_and_sizes(task: PlanningTask) -> dict[str, tuple[int, ...]]:
    """Numbers of replicas to choose from of each pool, none first; of very many combinations some."""
    names = _pools(task)
    lists = _thinned([allowed_replicas(task.model, name) for name in names])
    return {name: (0, *sizes) for name, sizes in zip(names, lists, strict=True)}


def affordable(task: PlanningTask, replicas: Mapping[str, int]) -> bool:
    """Whether every source can be served on these replicas, and their bill alone is no more than a request may cost."""
    if not task.expectations.offered[~shut_without(task.model, replicas)].any(axis=0).all():
        return False
    most = task.most_usd_per_request
    return most is None or not replicas or task.pools_usd_per_request(replicas) <= most


def _nodes(task: PlanningTask, names: Sequence[str], lists: Sequence[Sequence[int]]) -> list[_Node]:
    """Every combination on which every source can be served, with a bound that needs no program."""
    nodes = []
    for counts in product(*((0, *some) for some in lists)):
        replicas = {name: count for name, count in zip(names, counts, strict=True) if count}
        if not affordable(task, replicas):
            continue
        pools = task.pools_usd_per_request(replicas)
        bound = (pools, -1.0) if task.targets.cheapest else (-1.0, pools)
        if task.targets.maximize == "accuracy_per_usd":
            bound = (-1.0 / pools if pools > 0 else -math.inf, pools)
        nodes.append(_Node(replicas, bound))
    return nodes


def _thinned(lists: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """The lists with so few numbers, the last among them, that there are not too many combinations."""
    thin = [tuple(some) for some in lists]
    while math.prod(len(some) + 1 for some in thin) > _COMBINATIONS and max(map(len, thin)) > 1:
        k = int(np.argmax([len(some) for some in thin]))
        thin[k] = tuple(thin[k][::-1][::2][::-1])
    return thin


def _below(numbers: Sequence[int], count: int) -> int:
    """The greatest of the numbers below ``count``; 0 if there is none."""
    return max((n for n in numbers if n < count), default=0)
