"""A proposer asked about several worlds at once.

Every limit holds in every world that counts: what a world adds to a sum, problem by problem, is a row of its own beside those of
the scenario as it is, unless another row is at least as strict everywhere. The objective is the worst of theirs, which is no sum.
For weights of the worlds it is at least the weighted one, and for the right weights the best policies are the same; they are those
of a matrix game between the policies proposed so far and the worlds, so each answer gives the weights of the next question
(cutting planes: Kelley, 1960; McMahan, Gordon and Blum, 2003), until the bound is met.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linprog

from ttc_sim.base.draws import F64, I64
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal, Proposer, Question
from ttc_sim.optimizer.robust.judging import Over
from ttc_sim.optimizer.robust.worlds import PlannedWorld
from ttc_sim.scenario import Targets

_WEIGHTINGS = 6  # of the worlds that are tried
_ALIKE = 2e-3  # relative gap between the worst world's objective and the bound, which proposers leave anyway
_BETWEEN = 3  # policies tried that are the best for no weights
_SUBSETS = 3  # choices of the worlds that must hold, where not all must
_CORRECTIONS = 3  # of limits in worlds where other scores send problems elsewhere


@dataclass(frozen=True)
class WorldsQuestion(Question):
    """A question about the scenario as it is, and what is broken of each objective in every world.

    Attributes:
        late_in: per world, as ``late``, for the world's own problems.
    """

    late_in: tuple[F64, ...] = ()


@dataclass(frozen=True)
class Expected:
    """What a proposal is expected to come to in one world.

    Attributes:
        sums: by limit, what it comes to, of accuracy its negative; most: by limit, that it may come to.
    """

    accuracy: float
    cost_usd_per_request: float
    sums: Mapping[str, float]
    most: Mapping[str, float]

    @property
    def excess(self) -> dict[str, float]:
        """By limit that is missed, by how much, relative to it."""
        return {
            name: (value - self.most[name]) / max(abs(self.most[name]), 1e-9)
            for name, value in self.sums.items()
            if value > self.most[name] + 1e-9
        }


@dataclass(frozen=True)
class _Row:
    """One sum with its limit: of a figure, in a world.

    Attributes:
        values: (V, P) what each arm adds to it for each problem; most: that it may come to.
    """

    figure: str
    world: int
    values: F64
    most: float

    def implied_by(self, other: _Row) -> bool:
        """Whether it is kept wherever the other is."""
        slack = self.values - other.values
        return self.most >= other.most and not (slack > 1e-12).any()  # NaN where not offered


class InWorlds:
    """The worlds of a question: their rows, and what a proposal comes to in them.

    Args:
        worlds: the scenario as it is first; targets: of the task, from which each world's own limits follow.
    """

    def __init__(self, worlds: Sequence[PlannedWorld], over: Over, targets: Targets) -> None:
        self.worlds, self.over = worlds, over
        own = [one.task.limits_of(targets) for one in worlds]
        # A limit of a day is one of each request at the world's own rate.
        self.times_cost = [_ratio(one.cost_usd_per_request, own[0].cost_usd_per_request) for one in own]
        self.times_late = [{name: _ratio(one.late[name], own[0].late[name]) for name in own[0].late} for one in own]
        self.subsets: list[tuple[int, ...]] = []

    def limits(self, limits: Limits, world: int) -> Limits:
        """Limits of a search as they are in one world."""
        times = self.times_late[world]
        cost = limits.cost_usd_per_request
        return replace(
            limits,
            cost_usd_per_request=None if cost is None else cost * self.times_cost[world],
            late={name: most * times.get(name, 1.0) for name, most in limits.late.items()},
        )

    def share(self, question: Question, world: int) -> F64:
        """(P,) times which a problem's weight in the question counts in a world, so that all weights add up to as much."""
        share = self.worlds[world].share
        total = float(question.weight @ share)
        return share * (float(question.weight.sum()) / total) if total > 0 else share

    def pools_usd(self, world: int, replicas: Mapping[str, int]) -> float:
        """Bill of replicas for each request in a world."""
        return self.worlds[world].task.pools_usd_per_request(replicas) if replicas else 0.0

    def rows(self, question: WorldsQuestion, kept: Sequence[int], room: Mapping[tuple[str, int], float]) -> list[_Row]:
        """Limits of the question in the worlds that must keep them, without those that others imply.

        Args:
            room: by figure and world, how much less is allowed.
        """
        found: list[_Row] = []
        for world in kept:
            one, limits, share = self.worlds[world], self.limits(question.limits, world), self.share(question, world)
            asked: list[tuple[str, F64, float]] = []
            if limits.accuracy is not None:
                asked.append(("accuracy", 1 - one.correct, 1 - limits.accuracy))
            if limits.cost_usd_per_request is not None:
                pools = 0.0
                if question.replicas is not None:
                    pools = self.pools_usd(world, {name: min(sizes) for name, sizes in question.replicas.items()})
                asked.append(("cost_usd_per_request", one.api_cost_usd, limits.cost_usd_per_request - pools))
            late = question.late_in[world]
            asked += [(name, late[k][:, one.at], most) for k, (name, most) in enumerate(limits.late.items())]
            if limits.timeout_rate is not None:
                asked.append(("timeout_rate", late[-1][:, one.at], limits.timeout_rate))
            found += [
                _Row(name, world, values * share, most - room.get((name, world), 0.0)) for name, values, most in asked
            ]
        left: list[_Row] = []
        for figure in dict.fromkeys(row.figure for row in found):
            strict = sorted((row for row in found if row.figure == figure), key=_strictness)
            for row in strict:
                if not any(row.implied_by(other) for other in left if other.figure == figure):
                    left.append(row)
        return left

    def expected(self, question: WorldsQuestion, proposal: Proposal, world: int, arm: I64) -> Expected:
        """What a proposal comes to in a world, on the problems and weights of the question.

        Args:
            arm: (P,) that it sends each problem to.
        """
        one, limits = self.worlds[world], self.limits(question.limits, world)
        weight, at = question.weight * self.share(question, world), np.arange(len(arm))
        accuracy = float(one.correct[arm, at] @ weight)
        cost = float(one.api_cost_usd[arm, at] @ weight) + self.pools_usd(world, proposal.replicas)
        late = question.late_in[world]
        asked = [
            (name, float(late[k][:, one.at][arm, at] @ weight), most)
            for k, (name, most) in enumerate(limits.late.items())
        ]
        if limits.timeout_rate is not None:
            asked.append(("timeout_rate", float(late[-1][:, one.at][arm, at] @ weight), limits.timeout_rate))
        if limits.cost_usd_per_request is not None:
            asked.append(("cost_usd_per_request", cost, limits.cost_usd_per_request))
        if limits.accuracy is not None:
            asked.append(("accuracy", -accuracy, -limits.accuracy))
        return Expected(
            accuracy, cost, {name: value for name, value, _ in asked}, {name: most for name, _, most in asked}
        )

    def sent(self, proposal: Proposal, world: int, arm: I64) -> I64:
        """(P,) arms that a proposal sends the problems to in a world.

        Args:
            arm: to which in the scenario as it is.
        """
        one = self.worlds[world]
        return arm if one.routed_alike else proposal.choose(one.task.population, one.task.model.arm_names)[one.at]

    def fewest(self) -> list[tuple[int, ...]]:
        """Worlds of which enough make up the share: no world of such a choice can be left out."""
        weighty = [k for k, weight in enumerate(self.over.weights) if weight > 0]
        if self.over.share >= 1:
            return [tuple(weighty)]
        asked = self.over.share * sum(self.over.weights) * (1 - 1e-9)

        def enough(some: Sequence[int]) -> bool:
            return sum(self.over.weights[k] for k in some) >= asked

        return [
            some
            for size in range(1, len(weighty) + 1)
            for some in itertools.combinations(weighty, size)
            if enough(some) and not any(enough([k for k in some if k != left]) for left in some)
        ]


@dataclass(frozen=True)
class ProposerForWorlds:
    """Proposes what is best by the worst of the worlds that count, with the limits kept in each of them.

    Attributes:
        inner: that proposes for one world.
    """

    inner: Proposer
    worlds: InWorlds
    _weights: dict[tuple[int, ...], F64] = field(default_factory=dict, compare=False, repr=False)
    _room: dict[tuple[str, int], float] = field(default_factory=dict, compare=False, repr=False)

    def propose(self, question: Question) -> Proposal:
        """The best within the limits or, if there is none, one that misses them by least.

        Its cost and accuracy are those of the worlds where they are worst, among those that it was made for.
        """
        assert isinstance(question, WorldsQuestion)
        if not self.worlds.subsets:
            self.worlds.subsets[:] = self._promising(question)
        found = [self._for_all(question, kept) for kept in self.worlds.subsets]
        return min(found, key=lambda one: _rank(one, question))

    def _promising(self, question: WorldsQuestion) -> list[tuple[int, ...]]:
        """The choices of worlds that must hold whose hardest world is the easiest."""
        subsets = self.worlds.fewest()
        if len(subsets) <= _SUBSETS:
            return subsets
        alone = {k: _rank(self._for_all(question, (k,)), question) for k in sorted(set(itertools.chain(*subsets)))}
        return sorted(subsets, key=lambda some: (sorted((alone[k] for k in some), reverse=True), some))[:_SUBSETS]

    def _for_all(self, question: WorldsQuestion, kept: tuple[int, ...]) -> Proposal:
        """The best by the worst of these worlds."""
        seen: list[tuple[Proposal, F64]] = []
        weights = self._weights[kept] if kept in self._weights else self._first(question, kept)
        bound = -math.inf

        def worst() -> float:
            return min(float(each.max()) for one, each in seen if not one.excess)

        for _ in range(_WEIGHTINGS):
            proposal, objectives = self._weighted(question, kept, weights)
            again = any(np.allclose(objectives, each) for _, each in seen)
            seen.append((proposal, objectives))
            if len(kept) == 1 or proposal.excess or again:
                break
            self._weights[kept] = weights
            bound = max(bound, float(weights @ objectives))
            if worst() - bound <= _ALIKE * abs(worst()):
                break
            weights = _game(np.array([each for one, each in seen if not one.excess]))
        best = min((one for one, _ in seen), key=lambda one: _rank(one, question))
        for _ in range(_BETWEEN):  # a policy between those that are best for some weights
            if best.excess or len(kept) == 1 or worst() - bound <= _ALIKE * abs(worst()):
                break
            proposal, objectives = self._weighted(question, kept, self._weights[kept], below=(worst(), best.replicas))
            if proposal.excess or float(objectives.max()) >= worst():
                break
            seen.append((proposal, objectives))
            best = proposal
        return best

    def _first(self, question: WorldsQuestion, kept: tuple[int, ...]) -> F64:
        """All weight on the world where the objective is worst for all arms together."""
        means = [self._mean_objective(question, world) for world in kept]
        weights = np.zeros(len(kept))
        weights[int(np.argmax(means))] = 1.0
        return weights

    def _mean_objective(self, question: WorldsQuestion, world: int) -> float:
        one = self.worlds.worlds[world]
        values = one.api_cost_usd if question.targets.maximize is None else -one.correct
        return float(np.nanmean(values, axis=0) @ (question.weight * one.share))

    def _weighted(
        self,
        question: WorldsQuestion,
        kept: tuple[int, ...],
        weights: F64,
        below: tuple[float, Mapping[str, int]] | None = None,
    ) -> tuple[Proposal, F64]:
        """The best by the weighted objective, as a proposal with its figures over the worlds; and its objective in each.

        Args:
            below: that the objective must be better than in every world, and replicas that go with it.
        """
        tried = []
        for _ in range(_CORRECTIONS):
            proposal = self.inner.propose(self._combined(question, kept, weights, self._room, below))
            arm = proposal.choose(question.expectations.population, question.expectations.model.arm_names)
            expected = []
            for world in kept:
                sent = self.worlds.sent(proposal, world, arm)
                expected.append(self.worlds.expected(question, proposal, world, sent))
                if sent is not arm:
                    # Rows count each problem where the scenario as it is sends it.
                    believed = self.worlds.expected(question, proposal, world, arm).sums
                    self._room.update(
                        {(name, world): value - believed[name] for name, value in expected[-1].sums.items()}
                    )
            excess: dict[str, float] = {}
            for said in (proposal.excess, *(one.excess for one in expected if not proposal.excess)):
                for name, miss in said.items():
                    name = name.split(_IN)[0]
                    excess[name] = max(miss, excess.get(name, 0.0))
            accuracy = min(one.accuracy for one in expected)
            cost = max(one.cost_usd_per_request for one in expected)
            tried.append((replace(proposal, accuracy=accuracy, cost_usd_per_request=cost, excess=excess), expected))
            if proposal.excess or not excess:
                break
        made, expected = min(tried, key=lambda one: _rank(one[0], question))
        cheapest = question.targets.maximize is None
        return made, np.array([one.cost_usd_per_request if cheapest else -one.accuracy for one in expected])

    def _combined(
        self,
        question: WorldsQuestion,
        kept: tuple[int, ...],
        weights: F64,
        room: Mapping[tuple[str, int], float],
        below: tuple[float, Mapping[str, int]] | None,
    ) -> Question:
        """One question with a row for each limit and world, and the weighted objective."""
        worlds, limits, cheapest = self.worlds.worlds, question.limits, question.targets.maximize is None
        rows = self.worlds.rows(question, kept, room)
        shares = {world: self.worlds.share(question, world) for world in kept}
        figures = {
            name: [row for row in rows if row.figure == name] for name in dict.fromkeys(row.figure for row in rows)
        }
        counted = [(world, weight) for world, weight in zip(kept, weights.tolist(), strict=True) if weight > 1e-9]

        def mixed(values: Sequence[F64]) -> F64:
            return sum(
                (weight * one for (_, weight), one in zip(counted, values, strict=True)),
                start=np.zeros(values[0].shape),
            )

        correct = mixed([worlds[world].correct * shares[world] for world, _ in counted])
        cost = mixed([worlds[world].api_cost_usd * shares[world] for world, _ in counted])
        per_s = 1.0 / sum(weight / worlds[world].task.rate_per_s for world, weight in counted)
        # The strictest row of a figure stands where that of one world would; the others are objectives beside it.
        accuracy, most_usd = limits.accuracy, limits.cost_usd_per_request
        extra: list[_Row] = []
        late: dict[str, float] = {}
        tables: list[F64] = []
        if accuracy is not None:
            first, *others = figures["accuracy"]
            if cheapest:
                correct, accuracy = 1 - first.values, 1 - first.most
            else:
                others = [first, *others]
                accuracy = None
            extra += others
        if most_usd is not None:
            first, *others = figures["cost_usd_per_request"]
            if cheapest:
                extra += [first, *others]
                most_usd = None
            else:
                world = first.world
                own = self.worlds.limits(limits, world).cost_usd_per_request
                most_usd = None if own is None else own - room.get((first.figure, world), 0.0)
                cost, per_s = first.values, worlds[world].task.rate_per_s
                extra += others
        for name in limits.late:
            first, *others = figures[name]
            late[name] = first.most
            tables.append(first.values)
            extra += others
        timeout_rate, timeouts = limits.timeout_rate, question.late_in[kept[0]][-1][:, worlds[kept[0]].at]
        if timeout_rate is not None:
            first, *others = figures["timeout_rate"]
            timeout_rate, timeouts = first.most, first.values
            extra += others
        if below is not None:
            bar, replicas = below[0] - _ALIKE * abs(below[0]), below[1]
            for world in kept:
                values, most = (1 - worlds[world].correct) * shares[world], 1 + bar
                if cheapest:
                    values, most = (
                        worlds[world].api_cost_usd * shares[world],
                        bar - self.worlds.pools_usd(world, replicas),
                    )
                extra.append(_Row("objective", world, values, most))
        for row in extra:
            late[f"{row.figure}{_IN}{worlds[row.world].name}"] = row.most
            tables.append(row.values)
        load = np.max([worlds[world].load * shares[world] for world in kept], axis=0) / per_s
        shut = np.isnan(question.expectations.correct)
        expectations = replace(
            question.expectations,
            correct=np.where(shut, np.nan, correct),
            api_cost_usd=np.where(shut, np.nan, cost),
            gpu_s=np.where(shut, np.nan, load),
        )
        asked = Question(**{name: getattr(question, name) for name in Question.__dataclass_fields__})
        return replace(
            asked,
            expectations=expectations,
            limits=replace(
                limits, accuracy=accuracy, cost_usd_per_request=most_usd, late=late, timeout_rate=timeout_rate
            ),
            late=np.array([*tables, timeouts]),
            rate_per_s=per_s,
        )


_IN = " in world "


def _ratio(one: float | None, base: float | None) -> float:
    return one / base if one is not None and base and math.isfinite(base) else 1.0


def _strictness(row: _Row) -> tuple[float, int]:
    """The row that is the hardest to keep first, by the means over all arms and problems."""
    mean = float(np.nanmean(row.values))
    return (-mean / row.most if row.most > 0 else -math.inf), row.world


def _rank(proposal: Proposal, question: Question) -> tuple[float, float]:
    """Limits missed first, then the worst world's objective; lower is better."""
    objective = proposal.cost_usd_per_request if question.targets.maximize is None else -proposal.accuracy
    return sum(proposal.excess.values()), objective


def _game(objectives: F64) -> F64:
    """Weights of the worlds under which the best of the policies is as bad as can be.

    Args:
        objectives: (policies, worlds).
    """
    policies, worlds = objectives.shape
    unit = float(np.abs(objectives).max()) or 1.0
    found = linprog(
        np.concatenate([np.zeros(worlds), [-1.0]]),
        A_ub=np.hstack([-objectives / unit, np.ones((policies, 1))]),
        b_ub=np.zeros(policies),
        A_eq=np.concatenate([np.ones(worlds), [0.0]])[None],
        b_eq=np.ones(1),
        bounds=[*[(0.0, 1.0)] * worlds, (None, None)],
        method="highs",
    )
    assert found.x is not None, "a game always has a value"
    weights: F64 = np.clip(np.asarray(found.x, dtype=np.float64)[:worlds], 0.0, None)
    weights /= weights.sum()
    return weights


__all__ = ["InWorlds", "ProposerForWorlds", "WorldsQuestion"]
