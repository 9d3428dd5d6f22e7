"""What one simulation comes to beside another of the same requests: paired differences, with 95% intervals.

Both have the same draws, so that what is uncertain of the one is mostly uncertain of the other the same way, and cancels. A mean's
difference is uncertain by what each request and each problem adds to it in the one less in the other, between runs and between
problems or task types. A quantile's is that of two quantile functions, read at shares that vary together as those of the requests
beyond them do (R. S. Woodruff, 1952, for a single one). What the load does to waits, where other problems would ask for more of
what is shared, is what it does to the one less what it does to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import ndtri

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, uniforms
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import Variance
from ttc_sim.base.small_numbers import among
from ttc_sim.engine.work import COMPLETED
from ttc_sim.simulation import session_figures
from ttc_sim.simulation.other_load import OtherLoad
from ttc_sim.simulation.pairing import Leaning, Pair
from ttc_sim.simulation.pooling import ENDS, QUANTILES, UNKNOWN, Pooled, TimeName, Times, quantile
from ttc_sim.simulation.session_accuracy import difference_of_accuracy
from ttc_sim.simulation.summary import Summary, served_per_s, usd_per_day
from ttc_sim.simulation.uncertainty import Bools, Influence

DAYS_PER_MONTH = 30
EXACTLY_NONE = Estimate(0.0, 0.0, 0.0)
_PER_DAY = 86400.0
_DRAWS = 4000
_ROUNDING = 1e-12  # relative
_TELLING = 6  # that all go one way by chance once in 32 times (the sign test)
_TIMES: tuple[TimeName, ...] = ("ttft", "tpot", "latency")


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
    if (of := summary.sessions) is not None:
        found |= {"usd_per_session": of.usd, "cached_share": of.cached_share, "switches_per_session": of.switches}
    return {name: figure for name, figure in found.items() if figure is not None and np.isfinite(figure.value)}


def in_brief(pooled: Pooled) -> tuple[dict[str, Estimate], float]:
    """A few of the figures of :func:`ttc_sim.simulation.summary.summarize_pooled` by name, in a fraction of the time: accuracy, US
    dollars, median and 95th percentile of latency, share not answered, where they are known; and requests served per second."""
    everyone, latency, rate_per_s = pooled.all, pooled.of_name("latency"), served_per_s(pooled.runs)
    accuracy, cost = pooled.accuracy(everyone), pooled.cost_usd(everyone)
    cost_usd = intervals.mean(cost.value, cost.variance)
    per_day = usd_per_day(pooled, cost_usd, rate_per_s)
    times = [(UNKNOWN, False)] * 2
    if latency.known.any():
        times = pooled.quantiles(latency, everyone.requests, [QUANTILES["p50"], QUANTILES["p95"]])
    found = {
        "accuracy": UNKNOWN if accuracy is None else accuracy[0],
        "cost_usd_per_request": cost_usd,
        "cost_usd_per_day": per_day,
        "cost_usd_per_month": per_day.scaled(DAYS_PER_MONTH),
        "latency_p50_s": times[0][0],
        "latency_p95_s": times[1][0],
        "timeout_rate": pooled.rate(*ENDS["timeout_rate"]),
    }
    return {name: figure for name, figure in found.items() if np.isfinite(figure.value)}, rate_per_s


def values_in_brief(pooled: Pooled) -> dict[str, float]:
    """The values of :func:`in_brief` alone, which do not wait for their intervals."""
    everyone, latency, rate_per_s = pooled.all, pooled.of_name("latency"), served_per_s(pooled.runs)
    usd, _, _ = pooled.parts_of_cost(everyone)
    accuracy, times = np.nan, [np.nan, np.nan]
    if pooled.row is not None and not np.isnan(pooled.correct).any():
        accuracy = pooled.parts_of_mean("correct", pooled.correct, pooled.planned_correct, everyone, share=True)[0]
    if latency.known.any():
        ordered = pooled.in_order(latency)
        times = [intervals.at_share(ordered, QUANTILES[key]) for key in ("p50", "p95")]
    lasts = pooled.runs[0].draws.traffic.lasts_s is not None
    per_day = pooled.usd_per_day(rate_per_s).value if lasts else usd * (rate_per_s * _PER_DAY)
    found = {
        "accuracy": min(max(accuracy, 0.0), 1.0),
        "cost_usd_per_request": usd,
        "cost_usd_per_day": per_day,
        "cost_usd_per_month": per_day * DAYS_PER_MONTH,
        "latency_p50_s": times[0],
        "latency_p95_s": times[1],
        "timeout_rate": float(among(pooled.status, ENDS["timeout_rate"]).mean()),
    }
    return {name: value for name, value in found.items() if np.isfinite(value)}


def compare(
    before: Pooled, after: Pooled, one: Summary, other: Summary, names: Collection[str] | None = None
) -> dict[str, Compared]:
    """Every figure that both have, by name; what comes to the same in every request and problem differs by exactly 0.

    Args:
        before, after: requests of the same draws; one, other: what each comes to; names: of the figures, all if left out.
    """
    found = {name: figure for name, figure in figures(one).items() if names is None or name in names}
    return compare_figures(before, after, found, figures(other), (one.rate_per_s, other.rate_per_s))


def compare_figures(
    before: Pooled,
    after: Pooled,
    first: Mapping[str, Estimate],
    second: Mapping[str, Estimate],
    rates_per_s: tuple[float, float],
) -> dict[str, Compared]:
    """The same of some figures alone; ``rates_per_s``: requests that are served, before and after."""
    pair, rates = Pair(before, after), (rates_per_s[0] * _PER_DAY, rates_per_s[1] * _PER_DAY)
    found: dict[str, Compared] = {}
    for name, figure in first.items():
        if name not in second:
            continue
        if name == "cost_usd_per_month" and "cost_usd_per_day" in found:  # as many times all of it
            difference = found["cost_usd_per_day"].difference.scaled(DAYS_PER_MONTH)
        else:
            difference = _difference(pair, name, rates, figure, second[name])
        found[name] = Compared(figure, second[name], difference)
    return found


def _difference(pair: Pair, name: str, rates: tuple[float, float], before: Estimate, after: Estimate) -> Estimate:
    """Of one figure; ``rates``: requests a day of both."""
    value = after.value - before.value
    if abs(value) <= _ROUNDING * (abs(before.value) + abs(after.value)):
        value = 0.0
    if name == "accuracy":
        return _of_accuracy(pair, value)
    if name.startswith("cost_usd_per_"):
        days = {"request": None, "day": 1, "month": DAYS_PER_MONTH}[name.removeprefix("cost_usd_per_")]
        return _of_cost(pair, value, (1.0, 1.0) if days is None else (days * rates[0], days * rates[1]))
    if name in session_figures.COMPARED:
        parts = [session_figures.parts_of(one, name) for one in pair.both]
        side = _side(pair, name, [session_figures.summed(one, name) for one in pair.both], (1.0, 1.0))
        return _of_parts(pair, value, parts, [(0.0, 0.0)] * 2, side, (1.0, 1.0))
    if name.endswith("_tokens_per_request"):
        return _of_tokens(pair, value, name.removesuffix("_tokens_per_request"))
    if name in ENDS:
        ends = ENDS[name]
        happened = [among(one.status, ends) for one in pair.both]
        return _of_share(pair, value, happened, lambda _, other: among(other.status, ends))
    if name == "goodput":
        good = [one.good for one in pair.both if one.good is not None]
        return _of_share(pair, value, good, lambda one, other: one.good_with(other))
    if name == "cut_off_rate":
        cut = [np.zeros(one.count, dtype=np.bool_) if one.cut_off is None else one.cut_off for one in pair.both]
        return _of_share(pair, value, cut, None)  # without problems no load is tried but the one that came
    time, _, key = name.removesuffix("_s").partition("_")
    which = next(one for one in _TIMES if one == time)
    if key == "mean":
        return _of_mean_time(pair, value, which)
    return _of_quantile(pair, value, which, QUANTILES[key], (before, after))


# ----------------------------------------------------------------------------------------------------------------- means


def _of_accuracy(pair: Pair, value: float) -> Estimate:
    before, after = pair.before.ended, pair.after.ended
    if before is not None and after is not None:
        of_both, alike = difference_of_accuracy((before, pair.before.correct), (after, pair.after.correct))
        return EXACTLY_NONE if alike else _around(value, of_both).clipped(-1.0, 1.0)
    parts = [one.parts_of_mean("correct", one.correct, one.planned_correct, one.all, share=True) for one in pair.both]
    difference = pair.difference([influence for _, influence, _ in parts])
    if pair.same_course and difference.is_none:
        return EXACTLY_NONE
    fitted = pair.after.doubt(pair.after.all) - pair.before.doubt(pair.before.all)
    variance = difference.variance_of_share(_scale(parts)).plus(Variance(fitted**2))
    leaning = [
        one.leaning(one.lost(one.all, None), partial(one.lost, one.all)) if one.other_loads else (0.0, 0.0)
        for one in pair.both
    ]
    found = pair.swung(_around(value, variance), leaning, difference, variance.value, 1.0)
    side = _side(pair, "correct", [one.correct for one in pair.both], (1.0, 1.0))
    return _on_its_side(found, side) if min(found.low * side, found.high * side) < 0 else found


def _of_cost(pair: Pair, value: float, times: tuple[float, float]) -> Estimate:
    parts, lost = [], []
    for one in pair.both:
        planned = one.planned_api_cost
        part = one.parts_of_mean(
            "api_cost_usd", one.api_cost, planned, one.all, beside=one.pool_cost, fixed=one.fixed_cost
        )
        parts.append(part)
        lost.append(_lost(one, one.api_cost, planned))
    side = _side(pair, "api_cost_usd", [one.cost for one in pair.both], times)
    return _of_parts(pair, value, parts, lost, side, times)


def _of_tokens(pair: Pair, value: float, name: str) -> Estimate:
    tokens = [one.tokens_named(name) for one in pair.both]
    parts = [one.parts_of_mean(name, *each, one.all) for one, each in zip(pair.both, tokens, strict=True)]
    lost = [_lost(one, *each) for one, each in zip(pair.both, tokens, strict=True)]
    side = _side(pair, name, [made for made, _ in tokens], (1.0, 1.0))
    return _of_parts(pair, value, parts, lost, side, (1.0, 1.0))


def _of_parts(
    pair: Pair,
    value: float,
    parts: Sequence[tuple[float, Influence, float]],
    lost: Sequence[Leaning],
    side: int,
    times: tuple[float, float],
) -> Estimate:
    difference = pair.difference([influence for _, influence, _ in parts], times)
    if value == 0 and difference.is_none:
        return EXACTLY_NONE
    variance = difference.variance(_scale(parts, times))
    leaning = [(factor * less, factor * more) for factor, (less, more) in zip(times, lost, strict=True)]
    rest = _on_its_side(_around(value, variance), side)
    return pair.swung(rest, leaning, difference, variance.value, np.inf)


def _scale(parts: Sequence[tuple[float, Influence, float]], times: tuple[float, float] = (1.0, 1.0)) -> float:
    """What a single run or problem leaves uncertain of a difference."""
    return float(np.hypot(times[0] * parts[0][2], times[1] * parts[1][2]))


def _lost(one: Pooled, values: F64, planned: F64) -> Leaning:
    """What requests that end early take off a mean with less load and with more: of each as much as in the first run."""
    if not one.other_loads:
        return 0.0, 0.0
    n = len(one.runs[0].arm)
    asked, lost = float(planned[:n][one.status[:n] != COMPLETED].sum()), float((planned - values)[:n].sum())
    part = lost / asked if asked > 0 else 1.0

    def with_load(other: OtherLoad) -> float:
        return -part * float((planned[other.request] * (other.status != COMPLETED)).mean())

    return one.leaning(-lost / n, with_load)


def _side(pair: Pair, name: str, values: Sequence[F64], times: tuple[float, float]) -> int:
    """1 if every request and every problem has at least as much after as before, -1 if at most as much, else 0.

    So it is by chance, too, where few problems change at all: then 0, unless tokens are the same and the prices are not.

    Args:
        name: key of what is expected of problems; values: (n,) of each request, before and after, each so many ``times``.
    """
    if not pair.in_step:
        return 0
    apart, expected = times[1] * values[1] - times[0] * values[0], None
    one, other = pair.before.expected, pair.after.expected
    if one is not None and other is not None:
        expected = times[1] * other[name] - times[0] * one[name]
    every = apart if expected is None else np.concatenate([apart, expected])
    slack = _ROUNDING * float(np.abs(every).max(initial=0.0))
    side = int((every >= -slack).all()) - int((every <= slack).all())
    same_tokens = np.array_equal(pair.before.tokens, pair.after.tokens) and np.array_equal(
        pair.before.arm, pair.after.arm
    )
    if name == "api_cost_usd" and pair.same_course and same_tokens:
        return side
    changed = None if expected is None else np.abs(expected) > slack
    return side if pair.changed_units(np.abs(apart) > slack, changed) >= _TELLING else 0


def _around(value: float, variance: Variance) -> Estimate:
    return Estimate(value, value - variance.half, value + variance.half)


def _on_its_side(found: Estimate, side: int) -> Estimate:
    """The interval of a mean of what is never on the other side of 0: as :func:`ttc_sim.base.intervals.mean` has it, but that its
    far end is bounded (to the second order the same)."""
    size, half = abs(found.value), (found.high - found.low) / 2
    if found.value * side <= 0 or not np.isfinite(half):
        return found
    root = half / (2 * size)
    near, far = size / (1 + root) ** 2, size * (1 + 2 * root + 3 * root**2)
    low, high = sorted((side * near, side * far))
    return Estimate(found.value, low, high)


# ---------------------------------------------------------------------------------------------------------------- shares


def _of_share(
    pair: Pair, value: float, happened: Sequence[Bools], with_load: Callable[[Pooled, OtherLoad], Bools] | None
) -> Estimate:
    """Of the share of the requests to which something happened, before and after; ``with_load``: the same with another load."""
    values = [one.astype(np.float64) for one in happened]
    difference = pair.difference([one.influence(x, one.all.requests) for one, x in zip(pair.both, values, strict=True)])
    if pair.same_course and difference.is_none and value == 0:
        return EXACTLY_NONE
    variance = difference.variance_of_share(float(np.sqrt(sum(x.mean() * (1 - x.mean()) for x in values))))
    if pair.in_step and not pair.replay:
        # A few that happen to be as many in each run vary at least like independent ones.
        differ = values[1] - values[0]
        variance = Variance(max(variance.value, float(differ.var()) / len(differ)), variance.df)
    leaning = []
    for one, x in zip(pair.both, values, strict=True):
        first = float(x[: len(one.runs[0].arm)].mean())

        def after(other: OtherLoad, one: Pooled = one, first: float = first) -> float:
            return first if with_load is None else float(with_load(one, other).mean())

        leaning.append(one.leaning(first, after))
    return pair.swung(_around(value, variance), leaning, difference, variance.value, 1.0)


# ----------------------------------------------------------------------------------------------------------------- times


def _of_mean_time(pair: Pair, value: float, name: TimeName) -> Estimate:
    times = [one.of_name(name) for one in pair.both]
    influences = [one.influence(x.values[x.known], x.known) for one, x in zip(pair.both, times, strict=True)]
    difference = pair.difference(influences)
    if pair.same_course:
        return EXACTLY_NONE
    first, second = (float(x.values[x.known].mean()) for x in times)
    variance = difference.variance(float(np.hypot(first, second)))
    leaning = [_leaning(one, x, _mean) for one, x in zip(pair.both, times, strict=True)]
    return pair.swung(_around(value, variance), leaning, difference, variance.value, _longest(pair))


def _mean(seconds: F64) -> float:
    return float(seconds.mean())


def _leaning(one: Pooled, times: Times, figure: Callable[[F64], float]) -> Leaning:
    loads = one.with_loads(times, one.all.requests, figure)
    return (0.0, 0.0) if loads is None else one.leaning(*loads)


def _longest(pair: Pair) -> float:
    return max(one.most_s for one in pair.both)


def _of_quantile(pair: Pair, value: float, name: TimeName, part: float, alone: tuple[Estimate, Estimate]) -> Estimate:
    """Of a quantile of seconds; ``alone``: both with their intervals."""
    if pair.same_course:
        return EXACTLY_NONE
    times = [one.of_name(name) for one in pair.both]
    ordered, variances, influences = [], [], []
    for one, x in zip(pair.both, times, strict=True):
        kept, _, variance, influence = one.beyond(x, x.known, part)
        ordered.append(kept)
        variances.append(variance)
        influences.append(influence)
    difference = pair.difference(influences)
    # Where hardly a request is beyond the one and not the other, one more of them is as likely as not.
    apart = difference.variance(1.0).value + (0.0 if pair.replay else 1 / min(map(len, ordered)) ** 2)
    errors = float(np.sqrt(variances[0].value * variances[1].value))
    together = (variances[0].value + variances[1].value - apart) / 2
    correlation = float(np.clip(together / errors, -1.0, 1.0)) if errors > 0 else 0.0
    units = [one.units(x.known) for one, x in zip(pair.both, times, strict=True)]
    normal = ndtri(uniforms(0, "paired quantiles", _DRAWS, 2))
    scores = normal[:, 0], correlation * normal[:, 0] + np.sqrt(1 - correlation**2) * normal[:, 1]
    read = []
    for kept, variance, unit, score in zip(ordered, variances, units, scores, strict=True):
        share = intervals.shares_below(part, variance, unit, score)
        read.append(kept[np.clip(np.ceil(share * len(kept) - 1e-9).astype(np.int64) - 1, 0, len(kept) - 1)])
    seconds = read[1] - read[0]
    seconds[np.abs(seconds) <= _ROUNDING * (read[0] + read[1])] = 0.0
    low, high = (float(x) for x in np.quantile(seconds, (0.025, 0.975)))
    leaning = [
        one.once((name, part, "leaning"), partial(_leaning, one, x, partial(quantile, part=part)))
        for one, x in zip(pair.both, times, strict=True)
    ]
    found = pair.swung(Estimate(value, min(low, value), max(high, value)), leaning, difference, apart, _longest(pair))
    ends = [intervals.open_ends(part, variance, unit) for variance, unit in zip(variances, units, strict=True)]
    if ends[1][0] or ends[0][1]:
        found = Estimate(value, -pair.before.most_s, found.high)
    if ends[1][1] or ends[0][0]:
        found = Estimate(value, found.low, pair.after.most_s)
    # Of tails that are hardly alike the pairing says no more than each alone.
    unpaired = _unpaired(*alone, value)
    narrower = unpaired.high - unpaired.low < found.high - found.low
    return unpaired if correlation >= 0 and narrower else found


def _unpaired(before: Estimate, after: Estimate, value: float) -> Estimate:
    """The difference of two figures that know nothing of each other: squares of distances add up (Zou and Donner, 2008)."""
    low = np.hypot(after.value - after.low, before.high - before.value)
    high = np.hypot(after.high - after.value, before.value - before.low)
    return Estimate(value, value - float(low), value + float(high))


__all__ = ["DAYS_PER_MONTH", "EXACTLY_NONE", "Compared", "compare", "compare_figures", "figures", "in_brief"]
