"""Which policy on which replicas is fastest, or has most requests within their objectives: simulation decides.

How long requests wait follows from the load, which no program knows. So nothing that a program says of times is a bound, and
numbers of replicas are not ruled out by it: those that no pool can be made larger of for the money are looked at first, and from
the best of them the numbers beside it, as long as they are better. At each, the program is asked again with the times that its
last answer gave in simulation, then with pools loaded less, and with pools taken for slower than they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

from ttc_sim.base.progress import Progress, Step, silent
from ttc_sim.optimizer.capacities import LOOKS, SEARCH_RUNS, affordable, pools_and_sizes, replicas_in_words
from ttc_sim.optimizer.looking import Learnt, Looks, Simulated, simulate_proposal
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal, Proposer
from ttc_sim.optimizer.task import PlanningTask, Timing
from ttc_sim.optimizer.tightening import tightened

_TRIES = 3  # proposals at one combination, each with the times that the one before gave
_STARTS = 4  # largest combinations that are looked at before those beside the best
_LOADED = (0.8, 0.6)  # of what a pool may be loaded, tried at the best combination
_SLOWER = (1.5,)  # times as slow as pools were, tried there too

Replicas = Mapping[str, int]


def look_at_speeds(
    task: PlanningTask,
    proposer: Proposer,
    limits: Limits,
    learnt: Learnt,
    looks: Looks,
    say: Progress = silent,
    *,
    once: bool = False,
) -> Learnt:
    """Look at policies and numbers of replicas until none beside the best is better.

    Args:
        limits: that every proposal must keep to, before anything was simulated.
        looks: what was simulated so far; what is simulated here is added.
        once: look at one proposal alone, on as many replicas as may be.
    """
    search = _SpeedSearch(task, proposer, limits, learnt, looks, say)
    if once:
        search.visit(search.largest()[-1], tries=1)
    else:
        search.run()
    return search.learnt


class _SpeedSearch:
    """What stays the same from one combination to the next, and what is learnt on the way."""

    def __init__(
        self, task: PlanningTask, proposer: Proposer, limits: Limits, learnt: Learnt, looks: Looks, say: Progress
    ) -> None:
        self.task, self.proposer, self.limits, self.looks, self.say = task, proposer, limits, looks, say
        self.learnt = learnt
        self.sizes = pools_and_sizes(task)
        self.visited: set[tuple[int, ...]] = set()
        self.looked = 0

    def run(self) -> None:
        """Look at the largest combinations, then beside the best."""
        largest = self.largest()
        for at in largest[:: -(-len(largest) // _STARTS)]:
            self.visit(at)
        while self.looked < LOOKS:
            beside = [at for at in self.beside(self.place(self.best)) if at not in self.visited]
            if not beside:
                break
            before = self.best
            for at in beside:
                self.visit(at)
            if self.best is before:
                break
        if self.sizes:
            self.refine(self.best.proposal.replicas)

    @property
    def best(self) -> Simulated:
        return self.looks.believed[0]

    def replicas(self, at: tuple[int, ...]) -> dict[str, int]:
        """The numbers of a combination, by which of a pool's numbers it has; the first is none."""
        counts = {name: sizes[k] for (name, sizes), k in zip(self.sizes.items(), at, strict=True)}
        return {name: count for name, count in counts.items() if count}

    def place(self, seen: Simulated) -> tuple[int, ...]:
        return tuple(sizes.index(seen.proposal.replicas.get(name, 0)) for name, sizes in self.sizes.items())

    def largest(self) -> list[tuple[int, ...]]:
        """Combinations that no pool can be made larger of; all others are no faster, but leave more money for endpoints."""
        every = [
            at
            for at in product(*(range(len(sizes)) for sizes in self.sizes.values()))
            if affordable(self.task, self.replicas(at))
        ]
        known = set(every)
        return [at for at in every if not any((*at[:k], n + 1, *at[k + 1 :]) in known for k, n in enumerate(at))] or [
            tuple(len(sizes) - 1 for sizes in self.sizes.values())
        ]

    def beside(self, at: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Combinations with a step more, or less, of one pool, or one of each for another."""
        steps = [step for step in product((-1, 0, 1), repeat=len(at)) if any(step)]
        lists = list(self.sizes.values())
        for step in steps if len(at) <= 2 else [one for one in steps if sum(map(abs, one)) == 1]:
            moved = tuple(n + one for n, one in zip(at, step, strict=True))
            if all(0 <= n < len(sizes) for n, sizes in zip(moved, lists, strict=True)) and affordable(
                self.task, self.replicas(moved)
            ):
                yield moved

    def visit(self, at: tuple[int, ...], tries: int = _TRIES) -> None:
        """Find the best policy on these replicas."""
        self.visited.add(at)
        replicas, limits = self.replicas(at), self.limits
        tried: list[Proposal] = []
        for _ in range(tries):
            proposal = self.propose(limits, replicas, self.learnt.timing.at(replicas))
            if self.looked >= LOOKS or any(one.notation == proposal.notation for one in tried):
                return
            tried.append(proposal)
            seen = self.look(proposal)
            if proposal.excess:
                return
            if not seen.meets_targets:
                limits = tightened(limits, seen)
            elif not replicas:
                return  # endpoints are as fast whatever they are sent
            if seen.meets_targets and self.best is seen:
                self.learnt = replace(self.learnt, limits=limits)

    def refine(self, replicas: Replicas) -> None:
        """At the best combination, with pools that are loaded less or are taken for slower."""
        limits = self.learnt.limits
        timing = self.learnt.timing.at(replicas)
        for part in _LOADED:
            proposal = self.propose(replace(limits, utilization=limits.utilization * part), replicas, timing)
            if not proposal.excess:
                self.look(proposal)
        for times in _SLOWER:
            proposal = self.propose(limits, replicas, timing.slower(times))
            if not proposal.excess:
                self.look(proposal)

    def propose(self, limits: Limits, replicas: Replicas, timing: Timing) -> Proposal:
        return self.proposer.propose(self.task.question(limits, timing, replicas=replicas))

    def look(self, proposal: Proposal) -> Simulated:
        """Simulate a proposal that was not simulated before."""
        known = self.looks.get(proposal)
        if known is not None:
            return known
        seen, self.learnt = simulate_proposal(self.task, proposal, self.learnt, "search", SEARCH_RUNS)
        self.looks.add(seen)
        self.looked += 1
        taken = replicas_in_words(self.task, proposal.replicas)
        self.say(Step("looking at speed", detail=f"look {len(self.looks)} ({taken}): {figures_in_brief(seen.summary)}"))
        return seen
