"""Two simulations of the same requests, side by side: how uncertain the difference of two of their means is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import NONE, Variance
from ttc_sim.base.small_numbers import distinct, numbered
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.uncertainty import Influence, swing_of

_ROUNDING = 1e-9  # relative; what ends as long after other arrivals differs by no more
Leaning = tuple[float, float]
"""What a figure changes by with less load, and with more."""


class Pair:
    """Two simulations of the same draws.

    Attributes:
        in_step: whether the same requests come at the same problems, so that they can be subtracted one by one.
        same_course: whether every request also ends the same way at the same time.
        replay: whether nothing in either is random.
    """

    def __init__(self, before: Pooled, after: Pooled) -> None:
        self.before, self.after = before, after
        self.in_step = before.count == after.count and len(before.runs) == len(after.runs)
        self.in_step = self.in_step and _same_problems(before, after) and _same_turns(before, after)
        if before.row is not None and after.row is not None:
            self.in_step = self.in_step and np.array_equal(before.row, after.row)
        self.same_course = self.in_step and np.array_equal(before.status, after.status)
        for name in ("latency", "ttft", "tpot"):
            mine, others = getattr(before, name), getattr(after, name)
            self.same_course = self.same_course and np.allclose(mine, others, rtol=_ROUNDING, atol=1e-9, equal_nan=True)
        self.replay = before.replay and after.replay
        self.cluster = _clusters(before, after)

    @property
    def both(self) -> tuple[Pooled, Pooled]:
        """The one before, and the one after."""
        return self.before, self.after

    def difference(self, influences: Sequence[Influence], times: tuple[float, float] = (1.0, 1.0)) -> Difference:
        """What requests and problems add to the deviation of the difference of two means, before and after, each so many times."""
        signed = (-times[0], times[1])
        parts = [
            _parts_of(one, influence, factor)
            for one, influence, factor in zip(self.both, influences, signed, strict=True)
        ]
        numbers = self._units
        if self.in_step:  # one by one, so that what is alike cancels to the digit
            chance, problems, own = (one + other for one, other in zip(*parts, strict=True))
            return Difference(self, chance, problems, numbers[0], own)
        chance, problems, own = (np.concatenate(pair) for pair in zip(*parts, strict=True))
        return Difference(self, chance, problems, np.concatenate(numbers), own)

    @cached_property
    def _units(self) -> list[I64]:
        """Of both, what each problem, and then each request, is resampled with."""
        return [
            np.empty(0, dtype=np.int64) if one.row is None else np.concatenate([cluster, cluster[one.row]])
            for one, cluster in zip(self.both, self.cluster, strict=True)
        ]

    def changed_units(self, requests: NDArray[np.bool_], problems: NDArray[np.bool_] | None) -> int:
        """How many of what is resampled together (or requests, without problems) are among some requests and problems, in step."""
        row, cluster = self.before.row, self.cluster[0]
        if row is None:
            return int(requests.sum())
        changed = cluster[row[requests]]
        return distinct(changed if problems is None else np.concatenate([changed, cluster[problems]]))

    def of_runs(self, chance: F64, scale: float) -> Variance:
        """Between runs, of what each request adds; ``scale``: what a single run leaves uncertain."""
        if not chance.any():
            return NONE
        groups = min(one.groups for one in self.both)
        if groups < 2:
            return Variance(scale**2)
        run = [one.in_groups(groups) for one in self.both]
        by_neighbours = any(one.by_neighbours for one in self.both)
        between = intervals.of_neighbours if by_neighbours else intervals.of_runs
        found = between(chance, run[0] if self.in_step else np.concatenate(run), groups)
        if self.before.row is not None:
            return found
        if self.in_step:
            return found.plus(self.before.of_recorded(chance, np.arange(len(chance)), scale))
        for one, part in zip(self.both, np.split(chance, [self.before.count]), strict=True):
            found = found.plus(one.of_recorded(part, np.arange(len(part)), scale))
        return found

    def swung(
        self, rest: Estimate, leaning: Sequence[Leaning], difference: Difference, error: float, most: float
    ) -> Estimate:
        """The interval of a difference, with what the load does to the one less what it does to the other.

        Args:
            rest: the interval, were the load known; error: the variance of it.
            leaning: of the figure before, and after; most: that the difference can be, either way.
        """
        less, more = (leaning[1][k] - leaning[0][k] for k in (0, 1))
        together = self._with_load(difference, error)
        return intervals.swung(rest, swing_of(less, more, together), least=-most, most=most)

    def _with_load(self, difference: Difference, error: float) -> float:
        """How much a difference's error goes with that of the load, -1 to 1."""
        for one in self.both:
            if self.in_step and one.load is not None and error > 0:
                load = np.concatenate([np.zeros(len(self.cluster[0])), one.load])
                together = intervals.covariance(difference.problems, load, difference.unit)
                size = float(np.sqrt(error * one.of_load.value))
                return (together - float(difference.own @ one.load)) / size if size > 0 else 0.0
        return 0.0


@dataclass(frozen=True)
class Difference:
    """What is added to the deviation of a difference.

    Attributes:
        chance: by each request, between runs.
        problems: by each problem, and then by each request for its problem; unit: what is resampled together, of each.
        own: by each request for its problem.
    """

    pair: Pair
    chance: F64
    problems: F64
    unit: I64
    own: F64

    @property
    def is_none(self) -> bool:
        """Whether every request and problem comes to the same."""
        return not self.chance.any() and not self.problems.any()

    def variance(self, scale: float) -> Variance:
        """Between runs and between problems; ``scale``: what a single one leaves uncertain."""
        run = self.pair.of_runs(self.chance, scale)
        if not self.problems.any():
            return run
        # Sums over a problem's requests vary by the requests too, which is already in the variance between runs.
        found = intervals.of_units(self.problems, self.unit, scale=scale, own=float(self.own @ self.own))
        if found.value <= 0:
            return run
        # A few problems may make most of a difference; one more of them, as far off, is as likely as not.
        farthest = float((np.bincount(self.unit, weights=self.problems) ** 2).max())
        return run.plus(Variance(found.value + farthest, found.df))

    def variance_of_share(self, scale: float) -> Variance:
        """The same of a share: where nothing was seen to change, that of one problem (or request) of which all does."""
        found = self.variance(scale)
        if self.pair.replay or found.value > 0:
            return found
        units = min(one.count if one.row is None else distinct(one.row) for one in self.pair.both)
        return Variance(1 / units**2)


def _parts_of(one: Pooled, influence: Influence, factor: float) -> tuple[F64, F64, F64]:
    """(n,) by chance; (P + n,) of problems, or none without any; and the requests' own part of that, (n,)."""
    whole = len(influence.at) == one.count
    chance, own = np.zeros(one.count), np.zeros(one.count)
    if not one.replay and whole:
        chance = factor * influence.by_chance
    elif not one.replay:
        chance[influence.at] = factor * influence.by_chance
    population = one.model.population
    if population is None:
        return chance, np.empty(0), own
    expected = np.zeros(len(population))
    expected[influence.rows] = factor * influence.expected
    if influence.of_problems is not None and whole:
        own = factor * influence.of_problems
    elif influence.of_problems is not None:
        own[influence.at] = factor * influence.of_problems
    return chance, np.concatenate([expected, own]), own


def _same_problems(before: Pooled, after: Pooled) -> bool:
    one, other = before.model.population, after.model.population
    if one is None or other is None or one is other:
        return one is other
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("problem", "source", "cluster"))


def _same_turns(before: Pooled, after: Pooled) -> bool:
    """Whether the same turns are sent, where sessions have ended or contexts are made shorter."""
    for one, other in ((run.draws, also.draws) for run, also in zip(before.runs, after.runs, strict=True)):
        if one.ended != other.ended:
            return False
        both = one.traffic, other.traffic
        differ = one.ended or any(each.summary is not None for each in both)
        if differ and not all(
            np.array_equal(*(getattr(each, name) for each in both)) for name in ("session", "turn", "summary")
        ):
            return False
    return True


def _clusters(before: Pooled, after: Pooled) -> tuple[I64, I64]:
    """(P,) of both: numbers of what is resampled together, the same where it is the same."""
    names = [_names_of_clusters(one) for one in (before, after)]
    if names[0] is names[1]:
        return numbered(names[0]), numbered(names[0])
    number = np.unique(np.concatenate(names), return_inverse=True)[1].astype(np.int64)
    return number[: len(names[0])], number[len(names[0]) :]


def _names_of_clusters(one: Pooled) -> NDArray[np.str_]:
    population = one.model.population
    if population is None:
        return np.empty(0, dtype=np.str_)
    return population.group if one.whole_types else population.problem


__all__ = ["Difference", "Leaning", "Pair"]
