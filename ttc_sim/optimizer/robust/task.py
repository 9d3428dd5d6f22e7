"""The search's task where there are several worlds: its questions are about all of them, and simulation looks at all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ttc_sim.base.draws import F64
from ttc_sim.optimizer.looking import Learnt, Simulated, simulate_proposal
from ttc_sim.optimizer.optimism import Optimism
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal, Proposer, Question, most_usd_per_request
from ttc_sim.optimizer.robust.judging import NO_WORLDS, Over, SimulatedInWorlds
from ttc_sim.optimizer.robust.proposing import InWorlds, ProposerForWorlds, WorldsQuestion
from ttc_sim.optimizer.robust.worlds import PlannedWorld
from ttc_sim.optimizer.task import PlanningTask, Timing
from ttc_sim.scenario import Targets
from ttc_sim.simulation.expected_times import Waiting


@dataclass(frozen=True)
class WorldsTiming(Timing):
    """What is believed of times in every world; by itself it is that of the scenario as it is.

    Attributes:
        parts: of each world.
    """

    parts: tuple[Timing, ...] = ()

    def at(self, replicas: Mapping[str, int]) -> WorldsTiming:
        """What is believed at these numbers of replicas, in every world."""
        return self.of([one.at(replicas) for one in self.parts], self.targets)

    def after(self, seen: Mapping[tuple[str, int], Waiting]) -> WorldsTiming:
        """The same with the times that pools gave in the scenario as it is."""
        return self.of([self.parts[0].after(seen), *self.parts[1:]], self.targets)

    @classmethod
    def of(cls, parts: Sequence[Timing], targets: Targets) -> WorldsTiming:
        """Every world's, together."""
        base = parts[0]
        made = cls(base.expectations, targets, base.waiting, base.seen, parts=tuple(parts))
        if targets is base.targets and "late" in base.__dict__:
            made.__dict__["late"] = base.late
        return made

    def late_in(self, world: int) -> F64:
        """What is broken of each objective in one world."""
        part = self.parts[world]
        return part.late if part.targets is self.targets else replace(part, targets=self.targets).late


@dataclass(frozen=True)
class WorldsTask(PlanningTask):
    """What is to be planned for several worlds.

    Attributes:
        worlds: the scenario as it is first; over: by which of them a plan is judged.
    """

    worlds: tuple[PlannedWorld, ...] = ()
    over: Over = NO_WORLDS

    @classmethod
    def over_worlds(cls, worlds: Sequence[PlannedWorld], share: float) -> WorldsTask:
        """All worlds of one plan, the scenario as it is first."""
        base = worlds[0].task
        over = Over(tuple(one.name for one in worlds), tuple(one.weight for one in worlds), share)
        return cls(
            base.expectations,
            base.targets,
            base.rate_per_s,
            base.novelty,
            busiest=base.busiest,
            carried_out=base.carried_out,
            simulator=simulate_in_worlds,
            worlds=tuple(worlds),
            over=over,
        )

    def timing(self) -> Timing:
        """What is believed of times before anything was simulated."""
        return WorldsTiming.of([replace(one.task, targets=self.targets).timing() for one in self.worlds], self.targets)

    def asking(self, proposer: Proposer) -> Proposer:
        """The proposer, asked about all worlds at once."""
        return ProposerForWorlds(proposer, InWorlds(self.worlds, self.over, self.targets))

    def question(
        self,
        limits: Limits,
        timing: Timing,
        *,
        weight: F64 | None = None,
        targets: Targets | None = None,
        replicas: Mapping[str, int] | None = None,
    ) -> Question:
        """What to ask a proposer: the question about the scenario as it is, and what it is in the other worlds."""
        plain = super().question(limits, timing, weight=weight, targets=targets, replicas=replicas)
        assert isinstance(timing, WorldsTiming)
        return WorldsQuestion(
            **{name: getattr(plain, name) for name in Question.__dataclass_fields__},
            late_in=tuple(timing.late_in(k) for k in range(len(self.worlds))),
        )

    @property
    def most_usd_per_request(self) -> float | None:
        """What a request may cost at most, in the worlds that count: where not all do, in any of them."""
        most = [most_usd_per_request(self.targets, one.task.rate_per_s) for one in self.worlds if one.weight > 0]
        known = [one for one in most if one is not None]
        if not known:
            return None
        return min(known) if self.over.share >= 1 else max(known)

    def pools_usd_per_request(self, replicas: Mapping[str, int]) -> float:
        """Bill of these replicas, US dollars per request, over the worlds: no plan on them costs less by what it is judged by."""
        if not replicas:
            return 0.0
        return self.over.of([one.task.pools_usd_per_request(replicas) for one in self.worlds])


def simulate_in_worlds(
    task: WorldsTask, proposal: Proposal, learnt: Learnt, purpose: str, runs: int
) -> tuple[Simulated, Learnt]:
    """Simulate a proposal in every world; as :func:`ttc_sim.optimizer.looking.simulate_proposal`."""
    assert isinstance(learnt.timing, WorldsTiming)
    parts, times = [], []
    for world, timing in zip(task.worlds, learnt.timing.parts, strict=True):
        own = replace(world.task, targets=task.targets)
        known = replace(learnt, timing=timing, optimism=_in_world(learnt.optimism, task, world, proposal))
        seen, after = simulate_proposal(own, proposal, known, purpose, runs)
        parts.append(seen)
        times.append(after.timing)
    seen = SimulatedInWorlds.of(parts, task.over, task.targets)
    return seen, replace(learnt, timing=WorldsTiming.of(times, learnt.timing.targets))


def _in_world(optimism: Optimism, task: WorldsTask, world: PlannedWorld, proposal: Proposal) -> Optimism:
    """Optimism of cost grows with the bill of API calls that it is of; that of accuracy is taken to be the same."""
    if optimism.cost_usd_per_request == 0 or world is task.worlds[0]:
        return optimism
    bills = []
    for one in (task.worlds[0].task, world.task):
        arm = proposal.choose(one.population, one.model.arm_names)
        bills.append(float(one.expectations.under(arm)["api_cost_usd"] @ one.population.weight))
    base, other = bills
    factor = other / base if base > 0 else 1.0
    return replace(optimism, cost_usd_per_request=factor * optimism.cost_usd_per_request)


__all__ = ["WorldsTask", "WorldsTiming", "simulate_in_worlds"]
