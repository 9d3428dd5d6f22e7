"""Numbers from ranges, such as caps: a few of them first, then closer and closer around those that the best policies use.

A range stands for more numbers than can be tried. So policies are proposed with its rungs, which lie a factor of up to 3.2 apart.
Each group of problems that a proposal sends to one arm may then go to neighbouring numbers halfway (on a logarithmic scale), until
those on both sides are within 5%: for given groups that is a program of a few variables. All of it is by expectation, before any
queue; the numbers that come of it are searched among, simulated and verified like any others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ttc_sim.base.progress import Progress, silent
from ttc_sim.optimizer.known_arms import KnownArms, Numbers
from ttc_sim.optimizer.margins import margin_of
from ttc_sim.optimizer.proposing import PROPOSERS
from ttc_sim.optimizer.proposing.bands import BandsProposer, candidate_scores
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal, Question
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.policies import Always
from ttc_sim.scenario import Targets
from ttc_sim.simulation.expectations import Expectations, expect_arms
from ttc_sim.simulation.expected_times import first_guess
from ttc_sim.simulation.model import Model

CLOSE = 1.05
"""Neighbouring numbers of a range are tried until they differ by no more than this, as a factor."""
_MORE = 1  # numbers of a family more than its rungs
_BANDS = 5  # of a score, that problems are told apart by
_ROUNDS = 16  # halvings at most: a factor of a million takes nine


def expectations_of_space(
    model: Model, targets: Targets, say: Progress = silent, prepared: Callable[[Model], Model] = lambda one: one
) -> Expectations:
    """What every arm of the search space makes of every problem; of ranges, numbers close to those that the best policies use.

    Args:
        model: of the scenario as it was written.
        prepared: what becomes of a model before anything is expected of it: traffic without problems has no population of its own.
    """
    space = KnownArms.of(model, targets, prepared)
    if not any(family.spans for family in space.families):
        return expect_arms(prepared(expanded_model(model)))
    return _Refining(space, space.expectations(space.numbers), say).run()


@dataclass(frozen=True)
class _Group:
    """Problems that go to the same arm: (P,) which, and of which family and with which numbers that arm is.

    Attributes:
        rung: the numbers that they went to before any closer look.
    """

    here: np.ndarray[tuple[int], np.dtype[np.bool_]]
    family: int
    numbers: Numbers
    rung: Numbers


class _Refining:
    """Proposals with the rungs, and the numbers that are tried around what they use."""

    between: dict[str, tuple[str, str]]

    def __init__(self, space: KnownArms, whole: Expectations, say: Progress) -> None:
        self.space, self.whole, self.say = space, whole, say
        self.task = PlanningTask.of(whole, space.targets)
        self.tried = [set(some) for some in space.numbers]
        self.between = {}
        self.alike = all(target.source is None for target in space.targets.asked())
        # What is cheapest at the accuracy asked for, or where no more is cut off than may be, is fast too.
        plain = space.targets.maximize in (None, "accuracy") and not space.targets.fastest
        changes = {"minimize": "cost", "maximize": None, "frontier": None}
        self.targets = space.targets if plain else space.targets.model_copy(update=changes)

    def run(self) -> Expectations:
        """What is expected of the arms to search among."""
        groups = [group for start in self.starts() for group in self.refined(start) if group.numbers]
        weight = self.whole.population.weight
        groups.sort(key=lambda group: -float(weight[group.here].sum()))
        kept = [dict.fromkeys(some) for some in self.space.numbers]
        found: list[dict[Numbers, None]] = [{} for _ in kept]
        more = [_MORE] * len(kept)
        for group in groups:
            f = group.family
            if group.rung in kept[f]:  # what is close to it takes the place of a rung
                del kept[f][group.rung]
            elif any(_alike(group.numbers, one) for one in found[f]) or not more[f]:
                continue
            else:
                more[f] -= 1
            found[f][group.numbers] = None
        for f, some in enumerate(found):
            kept[f] |= some
            if self.task.traffic_alone:
                kept[f] |= dict.fromkeys(self.neighbours(f, some))
        closer = [(self.space.families[f].variant(one)) for f, some in enumerate(found) for one in some]
        if closer:
            names = ", ".join(variant.name for variant in closer if variant is not None)
            self.say(f"looked closer at ranges around what would be used: {names}")
        return self.space.expectations([sorted(some) for some in kept])

    def starts(self) -> Iterator[list[_Group]]:
        """Groups of problems that go to the same arm, by the best policy of each kind with the rungs."""
        whole, waiting = self.whole, first_guess(self.whole.model)
        limits = self.limits
        if not self.task.traffic_alone:
            scenario = whole.model.scenario
            # Which problems go together need not be known to a hair, and a program takes long over many bands.
            coarse = scenario.search.model_copy(update={"bands": min(scenario.search.bands, _BANDS)})
            few = replace(whole, model=replace(whole.model, scenario=scenario.model_copy(update={"search": coarse})))
            for start in PROPOSERS.values():
                yield self.groups(start(few, waiting).propose(self.question(few, limits)))
            return
        everything = np.ones(len(whole.population), dtype=np.bool_)
        for f, family in enumerate(self.space.families):
            if family.spans:
                first = self.space.numbers[f][0]
                (group,) = self.best([_Group(everything, f, first, first)], limits)
                yield [replace(group, rung=group.numbers)]
        scores = tuple(candidate_scores(whole, whole.model.scenario.search))
        if scores:
            yield self.groups(BandsProposer(scores).propose(self.question(whole, limits)))

    @cached_property
    def limits(self) -> Limits:
        """The targets with the margins that a search starts with, but for its optimism."""
        limits, whole = self.task.limits(), self.whole
        if self.task.traffic_alone:
            return limits
        mean = np.where(np.isnan(whole.correct), 0.0, whole.correct) @ whole.population.weight
        offered = whole.offered[:, whole.population.source]
        best = np.where(offered, mean[:, None], -1.0).argmax(axis=0)
        margin = margin_of(whole.population, self.space.targets, whole.under(best))
        return margin.allowed_for(limits, self.space.targets)

    def question(self, expectations: Expectations, limits: Limits) -> Question:
        """What to ask a proposer, by what is believed of times before any simulation."""
        late = np.stack([self.space.late[arm.name] for arm in expectations.model.arms], axis=1)
        weight, rate_per_s = self.whole.population.weight, self.task.rate_per_s
        return Question(expectations, self.targets, limits, late, weight, rate_per_s)

    def groups(self, proposal: Proposal) -> list[_Group]:
        """Problems that a proposal sends to the same arm; of each source apart, where it tells sources apart."""
        population, names = self.whole.population, self.whole.model.arm_names
        place = {
            variant.name: (f, one)
            for f, some in enumerate(self.space.numbers)
            for one in some
            if (variant := self.space.families[f].variant(one)) is not None
        }
        arm = proposal.choose(population, names)
        source = np.zeros_like(arm) if len(set(proposal.notation.values())) == 1 else population.source
        pairs = np.unique(np.stack([source, arm]), axis=1).T
        return [_Group((source == s) & (arm == v), *place[names[v]], place[names[v]][1]) for s, v in pairs]

    def refined(self, groups: list[_Group]) -> list[_Group]:
        """The same groups with the best numbers, between neighbours that are close on both sides."""
        limits = self.limits
        for _ in range(_ROUNDS):
            halfway = [(group.family, one) for group in groups for one in self.halfway(group)]
            if not halfway:
                break
            for f, one in halfway:
                self.tried[f].add(one)
            groups = self.best(groups, limits)
        return groups

    def halfway(self, group: _Group) -> Iterator[Numbers]:
        """Numbers between a group's own and the nearest that were tried on either side, if those are not close."""
        for place, number in enumerate(group.numbers):
            for other in self.beside(group.family, group.numbers, place):
                between = round(math.sqrt(max(number, 1) * max(other, 1)))
                apart = max(number, other, 1) / max(min(number, other), 1)
                if apart > CLOSE and min(number, other) < between < max(number, other):
                    made = _replaced(group.numbers, place, between)
                    if self.space.families[group.family].variant(made) is not None:
                        self.note(group.family, made, (group.numbers, _replaced(group.numbers, place, other)))
                        yield made

    def note(self, f: int, made: Numbers, others: tuple[Numbers, Numbers]) -> None:
        """Remember that numbers lie halfway between others: how often they are late is taken from those."""
        names = [
            variant.name for one in (made, *others) if (variant := self.space.families[f].variant(one)) is not None
        ]
        if self.alike and len(names) == 3 and all(name in self.space.late for name in names[1:]):
            self.between[names[0]] = (names[1], names[2])

    def beside(self, f: int, numbers: Numbers, place: int) -> list[int]:
        """The nearest number below and above, in one place, that was tried with the same numbers in the others."""
        own = numbers[place]
        along = [one[place] for one in self.tried[f] if _without(one, place) == _without(numbers, place)]
        below, above = [n for n in along if n < own], [n for n in along if n > own]
        return [*([max(below)] if below else []), *([min(above)] if above else [])]

    def neighbours(self, f: int, found: Iterable[Numbers]) -> set[Numbers]:
        """The nearest that were tried beside numbers that were found."""
        return {
            _replaced(one, place, other)
            for one in found
            for place in range(len(one))
            for other in self.beside(f, one, place)
        }

    def best(self, groups: list[_Group], limits: Limits) -> list[_Group]:
        """Groups with the best numbers that were tried: a program with a choice for each group."""
        some: list[set[Numbers]] = [set() for _ in self.tried]
        for group in groups:
            some[group.family] |= self.tried[group.family]
        expectations = self.space.expectations([sorted(ones) for ones in some], self.between)
        place = {
            variant.name: (f, one)
            for f, ones in enumerate(some)
            for one in ones
            if (variant := self.space.families[f].variant(one)) is not None
        }
        names = expectations.model.arm_names
        of_group = np.zeros(len(expectations.population), dtype=np.int64)
        able = np.zeros((len(names), len(groups)), dtype=np.bool_)
        for g, group in enumerate(groups):
            of_group[group.here] = g
            known = ~np.isnan(expectations.correct[:, group.here]).any(axis=1)
            able[:, g] = known & np.array([name in place and place[name][0] == group.family for name in names])
        apart = replace(
            expectations.population, sources=tuple(f"group {g}" for g in range(len(groups))), source=of_group
        )
        of_groups = replace(expectations, model=replace(expectations.model, population=apart), offered=able)
        policies = BandsProposer(()).propose(self.question(of_groups, limits)).policy.policies
        chosen = []
        for g, group in enumerate(groups):
            one = policies[f"group {g}"]
            assert isinstance(one, Always)
            chosen.append(replace(group, numbers=place[one.arm][1]))
        return chosen


def _replaced(numbers: Numbers, place: int, number: int) -> Numbers:
    return (*numbers[:place], number, *numbers[place + 1 :])


def _without(numbers: Numbers, place: int) -> Numbers:
    return (*numbers[:place], *numbers[place + 1 :])


def _alike(one: Numbers, other: Numbers) -> bool:
    """Whether they are as close as neighbours are at the end."""
    return all(max(a, b, 1) <= CLOSE * max(min(a, b), 1) for a, b in zip(one, other, strict=True))
