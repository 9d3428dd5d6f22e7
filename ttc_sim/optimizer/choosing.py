"""The best policy of each kind so far, for traffic without problems: what is simulated, what is kept, which kind is the plan."""

from __future__ import annotations

from collections.abc import Sequence

from ttc_sim.base.progress import Progress
from ttc_sim.optimizer.capacities import SEARCH_RUNS
from ttc_sim.optimizer.looking import Learnt, Simulated, simulate_proposal
from ttc_sim.optimizer.optimism import Optimism
from ttc_sim.optimizer.proposing.proposal import Proposal
from ttc_sim.optimizer.searching import NEAR_MISSES, VERIFICATIONS, within_noise
from ttc_sim.optimizer.task import PlanningTask

_BETTER = 1e-6  # relative gain by which a kind of policy must be better than the simpler ones


class Choosing:
    """What stays the same from one kind of policy to the next, and what is learnt on the way.

    Attributes:
        task: what is to be planned; say: called with a line about each step.
        found: by kind, in the order that they were searched in, the best on fresh seeds.
        looked: all that was simulated before; verified: all that was simulated on fresh seeds.
    """

    def __init__(self, task: PlanningTask, say: Progress) -> None:
        self.task, self.say, self.targets = task, say, task.targets
        self.found: dict[str, Simulated] = {}
        self.looked: list[Simulated] = []
        self.verified: list[Simulated] = []
        self.learnt = Learnt(task.limits(), task.timing(), Optimism.none(len(task.population)))

    @property
    def fastest(self) -> bool:
        """Whether what is made best of follows from times, and not cost."""
        return self.targets.timed

    def look(self, proposal: Proposal) -> Simulated:
        """Simulate a proposal on the requests that are searched by."""
        seen, self.learnt = simulate_proposal(self.task, proposal, self.learnt, "search", SEARCH_RUNS)
        self.looked.append(seen)
        return seen

    def verify(self, proposal: Proposal, kind: str) -> Simulated:
        """Simulate a proposal on fresh seeds; the better of it and the best of its kind is kept."""
        runs = self.task.model.scenario.replications
        seen, self.learnt = simulate_proposal(self.task, proposal, self.learnt, "verify", runs)
        self.verified.append(seen)
        self.keep(seen, kind)
        return seen

    def verify_best(self, looked: Sequence[Simulated], kind: str) -> Simulated:
        """Of what was looked at, the best that holds on fresh seeds too, beside what would be better and missed by no more than
        noise; the nearest, if none holds."""
        tried: list[Simulated] = []
        for one in sorted(looked, key=self.rank)[:VERIFICATIONS]:
            tried.append(self.verify(one.proposal, kind))
            if tried[-1].meets_targets:
                break
        most = self.value(min(tried, key=self.rank))
        near = [one for one in looked if not one.meets_targets and within_noise(one) and self.value(one) < most]
        near.sort(key=lambda one: one.largest_miss)
        tried += [self.verify(one.proposal, kind) for one in near[:NEAR_MISSES]]
        return min(tried, key=self.rank)

    def keep(self, seen: Simulated, kind: str) -> None:
        """Keep what was verified if it is the best of its kind."""
        held = self.found.get(kind)
        if held is None or self.rank(seen) < self.rank(held):
            self.found[kind] = seen

    def rank(self, seen: Simulated) -> tuple[float, float, float]:
        """Lower is better."""
        return seen.rank(self.targets)

    def value(self, seen: Simulated) -> float:
        """What is made least."""
        return self.rank(seen)[1]

    @property
    def best(self) -> Simulated | None:
        """The best of all kinds that holds all targets."""
        held = [one for one in self.found.values() if one.meets_targets]
        return min(held, key=self.rank, default=None)

    @property
    def chosen(self) -> str:
        """The kind that is the plan: of kinds that are alike the one that was searched first."""
        (chosen, best), *others = self.found.items()
        for kind, one in others:
            if self._betters(one, best):
                chosen, best = kind, one
        return chosen

    def _betters(self, one: Simulated, other: Simulated) -> bool:
        """Whether it misses by less or, alike in that, is better in what is made least, by more than rounding."""
        for mine, its in zip(self.rank(one)[:2], self.rank(other)[:2], strict=True):
            if abs(mine - its) > _BETTER * max(abs(its), 1e-12):
                return mine < its
        return False
