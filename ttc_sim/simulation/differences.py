"""What one simulation comes to beside another of the same requests: paired differences, with 95% intervals.

Both have the same draws, so that what is uncertain of the one is mostly uncertain of the other the same way, and cancels. A mean's
difference is uncertain by what each request and each problem adds to it in the one less in the other (:class:`Influence`): between
runs, and between problems or task types that are a sample together. A quantile's is that of two quantile functions, read at shares
that vary together as those of the requests beyond them do (R. S. Woodruff, 1952, for a single one). What the load does to waits, where
other problems would ask for more of what is shared, is what it does to the one less what it does to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import ndtri

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import NONE, Variance
from ttc_sim.simulation.other_load import OtherLoad
from ttc_sim.simulation.pooling import ENDS, QUANTILES, UNKNOWN, Pooled, TimeName, quantile
from ttc_sim.simulation.summary import Summary
from ttc_sim.simulation.uncertainty import Bools, Influence, swing_of

DAYS_PER_MONTH = 30
_PER_DAY = 86400.0
_DRAWS = 4000
_ROUNDING = 1e-12  # relative
_TIMES: tuple[TimeName, ...] = ("ttft", "tpot", "latency")
_EXACT = Estimate(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Compared:
    """One figure: before, after, and the difference, each with its interval of 95%."""

    before: Estimate
    after: Estimate
    difference: Estimate

    @property
    def more_than_noise(self) -> bool:
        """Whether the interval of the difference lies on one side of 0."""
        return self.difference.low > 0 or self.difference.high < 0


def figures(summary: Summary) -> dict[str, Estimate]:
    """Figures of one simulation by name, those that are known: US dollars, tokens, seconds, shares of the requests."""
    per_day = summary.cost_usd_per_day
    found: dict[str, Estimate | None] = {
        "accuracy": summary.accuracy,
        "cost_usd_per_request": summary.cost_usd_per_request,
        "cost_usd_per_day": per_day,
        "cost_usd_per_month": per_day.scaled(DAYS_PER_MONTH),
        **{f"{name}_tokens_per_request": figure for name, figure in summary.tokens_per_request.items()},
    }
    for name, times in (("ttft", summary.ttft_s), ("tpot", summary.tpot_s), ("latency", summary.latency_s)):
        found |= {f"{name}_{key}_s": figure for key, figure in times.items()}
    found |= {"goodput": summary.goodput, **{name: summary.quantity(name) for name in (*ENDS, "cut_off_rate")}}
    return {name: figure for name, figure in found.items() if figure is not None and np.isfinite(figure.value)}


def compare(before: Pooled, after: Pooled, one: Summary, other: Summary) -> dict[str, Compared]:
    """Every figure that both have.

    Args:
        before, after: requests of the same draws; one, other: what each comes to.
    """
    pair, first, second = _Pair(before, after), figures(one), figures(other)
    rates = (one.rate_per_s * _PER_DAY, other.rate_per_s * _PER_DAY)
    return {
        name: Compared(figure, second[name], pair.bounds(name, rates, _apart(figure.value, second[name].value)))
        for name, figure in first.items()
        if name in second
    }


def _apart(before: float, after: float) -> float:
    """The difference; 0 where it is a matter of rounding."""
    apart = after - before
    return 0.0 if abs(apart) <= _ROUNDING * (abs(before) + abs(after)) else apart


class _Pair:
    """Two simulations side by side."""

    def __init__(self, before: Pooled, after: Pooled) -> None:
        self.before, self.after = before, after
        self.same_problems = _same_problems(before, after)
        self.in_step = before.count == after.count and len(before.runs) == len(after.runs) and self.same_problems
        if self.in_step and before.row is not None and after.row is not None:
            self.in_step = np.array_equal(before.row, after.row)
        self.cluster = _clusters(before, after)
        self.same_course = self.in_step and all(
            np.array_equal(a, b, equal_nan=True)
            for a, b in ((before.status, after.status), (before.latency, after.latency), (before.ttft, after.ttft))
        )

    def bounds(self, name: str, rates: tuple[float, float], value: float) -> Estimate:
        """The difference of a figure, ``value``, with its interval."""
        if name == "accuracy":
            return self._of_accuracy(value)
        if name.startswith("cost_usd_per_"):
            times = {"request": (1.0, 1.0), "day": rates, "month": (DAYS_PER_MONTH * rates[0], DAYS_PER_MONTH * rates[1])}
            return self._of_cost(value, times[name.removeprefix("cost_usd_per_")])
        if name.endswith("_tokens_per_request"):
            return self._of_tokens(name.removesuffix("_tokens_per_request"), value)
        if name in ENDS:
            ends = ENDS[name]
            return self._of_share(value, *(np.isin(one.status, ends) for one in self.both), lambda _, o: np.isin(o.status, ends))
        if name == "goodput":
            before, after = (one.good for one in self.both)
            assert before is not None
            assert after is not None
            return self._of_share(value, before, after, lambda one, o: one.good_with(o))
        if name == "cut_off_rate":
            # Without problems no load is tried but the one that came.
            none = np.zeros(0, dtype=np.bool_)
            cut = [np.zeros(one.count, dtype=np.bool_) if one.cut_off is None else one.cut_off for one in self.both]
            return self._of_share(value, *cut, lambda *_: none)
        time, _, key = name.removesuffix("_s").partition("_")
        which = next(one for one in _TIMES if one == time)
        return self._of_mean_time(which, value) if key == "mean" else self._of_quantile(which, QUANTILES[key], value)

    @property
    def both(self) -> tuple[Pooled, Pooled]:
        """The one before, and the one after."""
        return self.before, self.after

    # --------------------------------------------------------------------------------------------------------- means

    def _of_accuracy(self, value: float) -> Estimate:
        parts = [
            one.parts_of_mean("correct", one.correct, one.planned_correct, one.all, share=True) for one in self.both
        ]
        difference = self._difference(parts[0][1], parts[1][1])
        if self.same_course and difference.is_none:
            return _EXACT
        fitted = self.after.doubt(self.after.all) - self.before.doubt(self.before.all)
        variance = difference.variance(float(np.hypot(parts[0][2], parts[1][2]))).plus(Variance(fitted**2))
        leaning = [
            one.leaning(one.lost(one.all, None), partial(one.lost, one.all)) if one.other_loads else (0.0, 0.0)
            for one in self.both
        ]
        found = self._around(value, self._or_one_more(variance), leaning, difference, most=1.0)
        one_way = self._one_way("correct", (self.before.correct, self.after.correct), (1.0, 1.0))
        return _on_its_side(found, one_way, only_if_beyond=True)

    def _of_cost(self, value: float, times: tuple[float, float]) -> Estimate:
        parts = [
            one.parts_of_mean(
                "api_cost_usd", one.api_cost, one.planned_api_cost, one.all, beside=one.pool_cost, fixed=one.fixed_cost
            )
            for one in self.both
        ]
        return self._of_parts(parts, value, times, self._one_way("api_cost_usd", (self.before.cost, self.after.cost), times))

    def _of_tokens(self, name: str, value: float) -> Estimate:
        parts = [one.parts_of_mean(name, *one.tokens_named(name), one.all) for one in self.both]
        tokens = self.before.tokens_named(name)[0], self.after.tokens_named(name)[0]
        return self._of_parts(parts, value, (1.0, 1.0), self._one_way(name, tokens, (1.0, 1.0)))

    def _of_parts(
        self, parts: list[tuple[float, Influence, float]], value: float, times: tuple[float, float], one_way: int
    ) -> Estimate:
        difference = self._difference(parts[0][1], parts[1][1], times)
        if value == 0 and difference.is_none:
            return _EXACT
        scale = float(np.hypot(times[0] * parts[0][2], times[1] * parts[1][2]))
        return _on_its_side(_of(value, difference.variance(scale)), one_way)

    def _one_way(self, name: str, values: tuple[F64, F64], times: tuple[float, float]) -> int:
        """1 if every request and every problem has at least as much after as before, -1 if at most, else 0.

        Args:
            name: key of what is expected of problems; values: (n,) of each request, before and after, each so many ``times``.
        """
        if not self.in_step:
            return 0
        pairs = [values]
        if self.before.expected is not None and self.after.expected is not None:
            pairs.append((self.before.expected[name], self.after.expected[name]))
        apart = np.concatenate([times[1] * after - times[0] * before for before, after in pairs])
        slack = _ROUNDING * float(np.abs(apart).max(initial=0.0))
        return int((apart >= -slack).all()) - int((apart <= slack).all())

    def _of_mean_time(self, name: TimeName, value: float) -> Estimate:
        parts, leaning = [], []
        for one in self.both:
            times = one.of_name(name)
            parts.append(one.influence(times.values[times.known], times.known))
            loads = one.with_loads(times, one.all.requests, lambda seconds: float(seconds.mean()))
            leaning.append((0.0, 0.0) if loads is None else one.leaning(*loads))
        difference = self._difference(*parts)
        if value == 0 and difference.is_none:
            return _EXACT
        scale = float(np.hypot(*(float(np.nanmean(one.of_name(name).values)) for one in self.both)))
        return self._around(value, difference.variance(scale), leaning, difference, most=self._longest)

    # -------------------------------------------------------------------------------------------------------- shares

    def _of_share(
        self, value: float, before: Bools, after: Bools, with_load: Callable[[Pooled, OtherLoad], Bools]
    ) -> Estimate:
        """Of the share of the requests to which something happened; ``with_load``: the same with another load."""
        happened = before.astype(np.float64), after.astype(np.float64)
        everyone = [one.all.requests for one in self.both]
        difference = self._difference(*(one.influence(x, k) for one, x, k in zip(self.both, happened, everyone, strict=True)))
        if self.same_course and difference.is_none and value == 0:
            return _EXACT
        variance = difference.variance(float(np.hypot(*(np.sqrt(x.mean() * (1 - x.mean())) for x in happened))))
        if self.in_step and not self._replay:
            # A few that happen to be as many in each run vary at least like independent ones.
            differ = happened[1] - happened[0]
            variance = Variance(max(variance.value, float(differ.var()) / len(differ)), variance.df)
        leaning = []
        for one, x in zip(self.both, happened, strict=True):
            first = float(x[: len(one.runs[0].arm)].mean())

            def then(other: OtherLoad, one: Pooled = one, first: float = first) -> float:
                values = with_load(one, other)
                return float(values.mean()) if len(values) else first

            leaning.append(one.leaning(first, then))
        return self._around(value, self._or_one_more(variance), leaning, difference, most=1.0)

    def _or_one_more(self, variance: Variance) -> Variance:
        """With one problem (or request) more of which all changes: where none was seen to, few say little."""
        if self._replay:
            return variance
        units = min(one.count if one.row is None else len(np.unique(one.row)) for one in self.both)
        return Variance(variance.value + 1 / units**2, variance.df)

    # ----------------------------------------------------------------------------------------------------- quantiles

    def _of_quantile(self, name: TimeName, part: float, value: float) -> Estimate:
        times = [one.of_name(name) for one in self.both]
        if self.in_step and np.array_equal(
            *(np.where(one.known, one.values, np.nan) for one in times), equal_nan=True
        ):
            return _EXACT
        ordered, variances, influences, units, leaning = [], [], [], [], []
        for one, mine in zip(self.both, times, strict=True):
            kept = np.sort(mine.values[mine.known])
            tail, variance = one.tail(mine.values[mine.known], mine.known, intervals.at_share(kept, part))
            ordered.append(kept)
            variances.append(variance)
            influences.append(one.influence(tail, mine.known))
            units.append(one.units(mine.known))
            loads = one.with_loads(mine, one.all.requests, partial(quantile, part=part))
            leaning.append((0.0, 0.0) if loads is None else one.leaning(*loads))
        difference = self._difference(*influences)
        apart = difference.variance(1.0).value
        together = (variances[0].value + variances[1].value - apart) / 2
        errors = float(np.sqrt(variances[0].value * variances[1].value))
        correlation = float(np.clip(together / errors, -1.0, 1.0)) if errors > 0 else 0.0
        normal = ndtri(uniforms(0, "paired quantiles", _DRAWS, 2))
        scores = normal[:, 0], correlation * normal[:, 0] + np.sqrt(1 - correlation**2) * normal[:, 1]
        read = []
        for kept, variance, unit, score in zip(ordered, variances, units, scores, strict=True):
            share = intervals.shares_below(part, variance, unit, score)
            place = np.clip(np.ceil(share * len(kept) - 1e-9).astype(np.int64) - 1, 0, len(kept) - 1)
            read.append(kept[place])
        apart_s = read[1] - read[0]
        apart_s[np.abs(apart_s) <= _ROUNDING * (read[0] + read[1])] = 0.0
        low, high = (float(x) for x in np.quantile(apart_s, (0.025, 0.975)))
        rest = Estimate(value, min(low, value), max(high, value))
        found = self._swung(rest, leaning, difference, apart, self._longest)
        ends = [intervals.open_ends(part, variance, unit) for variance, unit in zip(variances, units, strict=True)]
        if ends[1][0] or ends[0][1]:
            found = Estimate(value, -self.before.most_s, found.high)
        if ends[1][1] or ends[0][0]:
            found = Estimate(value, found.low, self.after.most_s)
        return found

    @property
    def _longest(self) -> float:
        return max(self.before.most_s, self.after.most_s)

    # ---------------------------------------------------------------------------------------------------------- both

    @property
    def _replay(self) -> bool:
        return self.before.replay and self.after.replay

    def _difference(self, before: Influence, after: Influence, times: tuple[float, float] = (1.0, 1.0)) -> _Difference:
        """What requests and problems add to the deviation of the difference of two means, each so many times."""
        given = ((self.before, before, -times[0]), (self.after, after, times[1]))
        if self.in_step:
            count, population = self.before.count, self.before.model.population
            chance, more = np.zeros(count), np.zeros(count)
            expected = np.zeros(0 if population is None else len(population))
            for one, influence, factor in given:
                if not one.replay:
                    chance[influence.at] += factor * influence.by_chance
                if influence.of_problems is not None:
                    more[influence.at] += factor * influence.of_problems
                expected[influence.rows] += factor * influence.expected
            row, cluster = self.before.row, self.cluster[0]
            units = np.empty(0, dtype=np.int64) if row is None else np.concatenate([cluster, cluster[row]])
            parts = np.empty(0) if row is None else np.concatenate([expected, more])
            own = more
        else:
            chances, pieces, of = [], [], []
            owns = []
            for (one, influence, factor), cluster in zip(given, self.cluster, strict=True):
                whole, mine = np.zeros(one.count), np.zeros(one.count)
                if not one.replay:
                    whole[influence.at] = factor * influence.by_chance
                chances.append(whole)
                if one.row is None:
                    continue
                if influence.of_problems is not None:
                    mine[influence.at] = factor * influence.of_problems
                pieces += [factor * influence.expected, mine]
                of += [cluster[influence.rows], cluster[one.row]]
                owns.append(mine)
            chance = np.concatenate(chances)
            parts = np.concatenate(pieces) if pieces else np.empty(0)
            units = np.concatenate(of) if of else np.empty(0, dtype=np.int64)
            own = np.concatenate(owns) if owns else np.empty(0)
        return _Difference(self, chance, parts, units, own)

    def of_runs(self, chance: F64, scale: float) -> Variance:
        """Between runs, of what each request adds."""
        if not chance.any():
            return NONE
        groups = min(one.groups for one in self.both)
        if groups < 2:
            return Variance(scale**2)
        run = [
            one.run if one.groups == groups else np.arange(one.count) * groups // one.count for one in self.both
        ]
        by_neighbours = any(one.by_neighbours for one in self.both)
        between = intervals.of_neighbours if by_neighbours else intervals.of_runs
        return between(chance, run[0] if self.in_step else np.concatenate(run), groups)

    def _around(
        self,
        value: float,
        variance: Variance,
        leaning: list[tuple[float, float]],
        difference: _Difference,
        most: float,
    ) -> Estimate:
        return self._swung(_of(value, variance), leaning, difference, variance.value, most)

    def _swung(
        self, rest: Estimate, leaning: list[tuple[float, float]], difference: _Difference, error: float, most: float
    ) -> Estimate:
        less, more = (leaning[1][k] - leaning[0][k] for k in (0, 1))
        together = self._with_load(difference, error)
        return intervals.swung(rest, swing_of(less, more, together), least=-most, most=most)

    def _with_load(self, difference: _Difference, error: float) -> float:
        """How much a difference's error goes with that of the load."""
        one = next((one for one in self.both if one.load is not None), None)
        if not self.in_step or one is None or one.load is None or one.row is None or error <= 0:
            return 0.0
        cluster = self.cluster[0]
        load = np.concatenate([np.zeros(len(cluster)), one.load])
        together = intervals.covariance(difference.parts, load, difference.units) - float(difference.own @ one.load)
        size = float(np.sqrt(error * one.of_load.value))
        return together / size if size > 0 else 0.0


@dataclass(frozen=True)
class _Difference:
    """What requests add by chance; what problems and requests add by problems, with the sample's unit of each, and of that what
    is the requests' own."""

    pair: _Pair
    chance: F64
    parts: F64
    units: I64
    own: F64

    @property
    def is_none(self) -> bool:
        return not self.chance.any() and not self.parts.any()

    def variance(self, scale: float) -> Variance:
        """Between runs and between problems; ``scale``: what a single one leaves uncertain."""
        run = self.pair.of_runs(self.chance, scale)
        if not self.parts.any():
            return run
        return run.plus(intervals.of_units(self.parts, self.units, scale=scale, own=float(self.own @ self.own)))


def _of(value: float, variance: Variance) -> Estimate:
    return Estimate(value, value - variance.half, value + variance.half)


def _on_its_side(found: Estimate, one_way: int, *, only_if_beyond: bool = False) -> Estimate:
    """The interval of a mean of what is never on the other side of 0: as :func:`ttc_sim.base.intervals.mean` has it, but that its
    far end is bounded (to the second order the same).

    Args:
        one_way: 1 or -1, the side; 0: none. only_if_beyond: leave an interval that keeps to its side as it is.
    """
    size = abs(found.value)
    half = (found.high - found.low) / 2
    if one_way == 0 or size == 0 or found.value * one_way < 0 or not np.isfinite(half):
        return found
    if only_if_beyond and min(found.low * one_way, found.high * one_way) >= 0:
        return found
    root = half / (2 * size)
    near, far = size / (1 + root) ** 2, size * (1 + 2 * root + 3 * root**2)
    return Estimate(found.value, *sorted((one_way * near, one_way * far)))


def _same_problems(before: Pooled, after: Pooled) -> bool:
    one, other = before.model.population, after.model.population
    if one is None or other is None:
        return one is other
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("problem", "source", "cluster")
    )


def _clusters(before: Pooled, after: Pooled) -> tuple[I64, I64]:
    """(P,) of both: numbers of what is resampled together, the same where it is the same."""
    names = [_names_of_clusters(one) for one in (before, after)]
    number = np.unique(np.concatenate(names), return_inverse=True)[1].astype(np.int64)
    return number[: len(names[0])], number[len(names[0]) :]


def _names_of_clusters(one: Pooled) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    population = one.model.population
    if population is None:
        return np.empty(0, dtype=np.str_)
    return population.group if one.whole_types else population.problem


__all__ = ["DAYS_PER_MONTH", "Compared", "compare", "figures"]
