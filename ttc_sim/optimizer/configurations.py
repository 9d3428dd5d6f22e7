"""Tiers of endpoints, and calls or sequences at once: which of them are best, by simulation.

With a tier and a concurrency for each deployment the rest is planned as always, and what the best policy costs, latency left aside,
is a bound: no plan with these is cheaper. So combinations are tried from the cheapest bound on, until the next is no better than
the best that was seen to hold (best-first branch and bound). Where many are left, the one in the middle is tried first: what fails
rules out all whose limits are no higher, what holds all that cost more. They are compared by the simplest kind of policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from ttc_sim.base.progress import Progress, Step, silent
from ttc_sim.optimizer.capacities import improves, objective
from ttc_sim.optimizer.choosing import Choosing
from ttc_sim.optimizer.live_load import live_proposals
from ttc_sim.optimizer.looking import Simulated
from ttc_sim.optimizer.optimism import Optimism, measure_optimism
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing import PROPOSERS
from ttc_sim.optimizer.proposing.bands import BandsProposer
from ttc_sim.optimizer.proposing.proposal import Proposal
from ttc_sim.optimizer.searching import Found, search
from ttc_sim.optimizer.session_kinds import kinds_of
from ttc_sim.optimizer.space import load_model_like
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.traffic_alone import as_population
from ttc_sim.scenario import Api, Scenario, Targets, read_mapping
from ttc_sim.scenario.tiers import LIMITS, TIMES, concurrency_key, keys_of_tier
from ttc_sim.simulation.expectations import Expectations, expect_arms
from ttc_sim.simulation.model import Model, load_model

_FEW = 3  # combinations that are tried from the cheapest on; of more, the middle first
_SEARCHES = 40  # most combinations for which a plan is searched
_STAGE = "choosing tiers and concurrency"
_KIND = "bands"  # of policy, by which they are compared


@dataclass(frozen=True)
class Configuration:
    """A tier and a concurrency for each deployment that has any to choose from.

    Attributes:
        label: in words; scenario: with them.
        chosen: names of the deployments that they are of.
    """

    label: str
    scenario: Scenario
    chosen: tuple[str, ...]

    @property
    def limits(self) -> tuple[float, ...]:
        """Of every endpoint that is chosen for; infinity where there is none."""
        given = (getattr(item, key) for item in self._items if isinstance(item, Api) for key in LIMITS)
        return tuple(float("inf") if one is None else float(one) for one in given)

    @property
    def besides(self) -> tuple[object, ...]:
        """What a higher limit cannot make up for: times of endpoints, sequences in a batch."""
        return tuple(
            tuple(getattr(item, key) for key in TIMES) if isinstance(item, Api) else item.max_num_seqs
            for item in self._items
        )

    @property
    def expected_by(self) -> tuple[object, ...]:
        """What expectations over the measured attempts depend on."""
        return tuple(item.price.factor if isinstance(item, Api) else item.max_num_seqs for item in self._items)

    @property
    def _items(self) -> list[Any]:
        return [self.scenario.deployments[name] for name in self.chosen]

    def within(self, other: Configuration) -> bool:
        """Whether no limit is higher than the other's, and all else that has to do with time is alike."""
        lower = all(mine <= its for mine, its in zip(self.limits, other.limits, strict=True))
        return lower and self.besides == other.besides


def configurations_of(scenario: Scenario) -> Iterator[Configuration]:
    """Every combination of tiers and concurrency that may be chosen; the scenario as it is, if there is nothing to choose."""
    choices = list(_choices(scenario))
    raw = scenario.model_dump(mode="python", exclude={"path"})
    names = tuple(dict.fromkeys(name for name, _ in choices))
    for picked in product(*(options for _, options in choices)):
        deployments = {name: dict(item) for name, item in raw["deployments"].items()}
        for (name, _), (_, keys) in zip(choices, picked, strict=True):
            deployments[name] |= keys
        one = read_mapping({**raw, "deployments": deployments}, scenario.path, scenario.code) if choices else scenario
        said = [f"{name} {label}" for (name, _), (label, _) in zip(choices, picked, strict=True)]
        yield Configuration(", ".join(said), one, names)


def _choices(scenario: Scenario) -> Iterator[tuple[str, list[tuple[str, Mapping[str, Any]]]]]:
    """Deployments with what they may be, in words and as the keys that this decides."""
    for name, tiers in scenario.search.tiers.items():
        own = scenario.deployments[name]
        assert isinstance(own, Api)
        yield name, [(f"on {tier.name}", _plain(keys_of_tier(tier, tiers, own))) for tier in tiers]
    for name, numbers in scenario.search.concurrency.items():
        key = concurrency_key(scenario.deployments[name])
        yield name, [(f"with {key} {number:,}", {key: number}) for number in sorted(numbers)]


def _plain(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.model_dump(mode="python") if hasattr(value, "model_dump") else value for key, value in keys.items()
    }


@dataclass(frozen=True)
class Configured:
    """What is to be planned, with the best tiers and concurrency.

    Attributes:
        found: by kind of policy, what was searched for with them already.
    """

    task: PlanningTask
    found: Mapping[str, Found] = field(default_factory=dict)


def configured(expectations: Expectations, targets: Targets, say: Progress = silent) -> Configured:
    """Choose tiers and concurrency.

    Args:
        expectations: of every arm of the search space, with the tiers and concurrency that deployments have themselves.

    Raises:
        InputError: what :meth:`PlanningTask.of` refuses.
    """
    configurations = list(configurations_of(expectations.model.scenario))
    if len(configurations) == 1 and configurations[0].scenario is expectations.model.scenario:
        return Configured(PlanningTask.of(expectations, targets))
    tasks = _Tasks(expectations.model, targets)
    if len(configurations) == 1:
        return Configured(tasks.of(configurations[0]))
    say(Step(_STAGE, detail=f"{len(configurations)} combinations"))
    return _ConfigurationSearch(tasks, configurations, say).best()


class _Tasks:
    """What is to be planned with each of the configurations; what is expected of arms is worked out once where it is the same."""

    def __init__(self, whole: Model, targets: Targets) -> None:
        self.whole, self.targets = whole, targets
        self.known: dict[tuple[object, ...], Expectations] = {}

    def of(self, one: Configuration) -> PlanningTask:
        alone = not one.scenario.workload.has_problems
        model = as_population(load_model(one.scenario)) if alone else load_model_like(self.whole, one.scenario)
        key = one.expected_by
        found = self.known.get(key)
        expectations = expect_arms(model) if found is None else replace(found, model=model)
        self.known[key] = expectations
        return PlanningTask.of(expectations, self.targets)


@dataclass
class _Node:
    """One configuration.

    Attributes:
        number: of the configuration, from 0; task: what is to be planned with it.
        bound: proposals that cost no more than any plan; none where nothing bounds what is made least.
    """

    number: int
    configuration: Configuration
    task: PlanningTask
    bound: tuple[Proposal, ...]

    @property
    def excess(self) -> float:
        """By how much limits are missed even so."""
        return min((sum(one.excess.values()) for one in self.bound), default=0.0)

    def order(self, targets: Targets) -> tuple[object, ...]:
        """The cheapest bound first, of those alike the lowest limits."""
        first = min((objective(one, targets) for one in self.bound), default=(0.0, 0.0))
        return first, self.configuration.limits, self.number


class _ConfigurationSearch:
    """What is left to be tried, and what was seen to hold."""

    def __init__(self, tasks: _Tasks, configurations: list[Configuration], say: Progress) -> None:
        self.targets, self.say = tasks.targets, say
        all_tasks = [tasks.of(one) for one in configurations]
        parts = enumerate(zip(configurations, all_tasks, strict=True))
        self.left = [_Node(number, one, task, _bound(task)) for number, (one, task) in parts]
        self.seen: list[tuple[_Node, Simulated]] = []
        self.failed: list[Configuration] = []
        self.found: dict[int, Found] = {}
        self.optimism: dict[tuple[object, ...], Optimism] = {}

    def best(self) -> Configured:
        """With the configuration whose best plan is best."""
        possible = [node for node in self.left if not node.excess]
        # Where limits cannot all be kept, whatever the latency, the one that misses them by least stands for the others.
        self.left = possible or [min(self.left, key=lambda node: (node.excess, node.order(self.targets)))]
        count = len(self.left)
        while len(self.seen) < _SEARCHES:
            self.left = sorted(filter(self.promising, self.left), key=lambda node: node.order(self.targets))
            if not self.left:
                break
            self.try_out(self.next())
        if self.left:
            self.say(f"{len(self.left)} of {count} combinations were not tried: {len(self.seen)} others were")
        node, seen = min(self.seen, key=lambda one: one[1].rank(self.targets))
        held = "the best that holds" if seen.meets_targets else "the nearest"
        self.say(f"{node.configuration.label}: {held} of {len(self.seen)} that were tried")
        found = self.found.get(node.number)
        return Configured(node.task, {} if found is None else {_KIND: found})

    def next(self) -> _Node:
        """Of the cheapest bound or, of many, of the middle one; of those alike in that the lowest limits, which are enough if they
        hold."""
        bounds = [node.order(self.targets)[0] for node in self.left]
        distinct = list(dict.fromkeys(bounds))
        return self.left.pop(bounds.index(distinct[len(distinct) // 2 if len(self.left) > _FEW else 0]))

    @property
    def held(self) -> Simulated | None:
        """The best that was seen to hold."""
        held = [seen for _, seen in self.seen if seen.meets_targets]
        return min(held, key=lambda one: one.rank(self.targets), default=None)

    def promising(self, node: _Node) -> bool:
        """Whether a plan with it may hold, and be better than the best so far."""
        if any(node.configuration.within(failed) for failed in self.failed):
            return False
        held = self.held
        if held is None or not node.bound:
            return True
        best = held.proposal
        if node.task.traffic_alone:  # whose proposals by live load promise only that they cost no less
            best = replace(best, cost_usd_per_request=held.rank(self.targets)[1])
        return any(improves(one, best, self.targets) for one in node.bound)

    def try_out(self, node: _Node) -> None:
        """Search for the best plan with it."""
        label = node.configuration.label
        seen = self.best_plan(node, lambda line: self.say(Step(_STAGE, detail=f"{label}: {line}")))
        self.seen.append((node, seen))
        held = "holds" if seen.meets_targets else "misses its targets"
        self.say(Step(_STAGE, detail=f"{label}: {held}, {figures_in_brief(seen.summary)}"))
        if not seen.meets_targets and node.task.most_usd_per_request is None:
            self.failed.append(node.configuration)

    def best_plan(self, node: _Node, say: Progress) -> Simulated:
        """The best plan with a configuration, of the kinds that are searched first, if it may be better than the best so far."""
        task, held, alike = node.task, self.held, node.configuration.expected_by
        if task.traffic_alone:
            choosing = Choosing(task, say)
            for look in kinds_of(task):
                look(choosing)
            return choosing.found[choosing.chosen]
        timing = task.timing()
        proposer = PROPOSERS[_KIND](task.expectations, timing.waiting)
        optimism = self.optimism.get(alike) or measure_optimism(task, proposer, task.limits(), timing, say)
        better_than = None if held is None else held.proposal
        found = search(task, proposer, timing, say, optimism=optimism, better_than=better_than)
        if alike not in self.optimism:  # of others it is only much the same: their fees differ
            self.optimism[alike] = optimism
            self.found[node.number] = found
        return found.verified


def _bound(task: PlanningTask) -> tuple[Proposal, ...]:
    """The best policies by expectation, latency left aside."""
    if task.targets.timed:
        return ()
    proposer = BandsProposer.starting(task.expectations, {})
    timing = task.timing()
    limits = replace(task.limits(), late={}, timeout_rate=None)
    if not task.traffic_alone:
        return (proposer.propose(task.question(limits, timing)),)
    by_load = live_proposals(task, timing)[:1]  # the cheapest
    return (proposer.propose(task.question(replace(limits, utilization=1.0), timing)), *by_load)
