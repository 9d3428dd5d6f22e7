"""US dollars per token of each kind, and what calls come to at them."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.times import DAY_S, WEEK_S
from ttc_sim.scenario.shapes import WEEKDAYS

MILLION = 1_000_000
KINDS = ("input", "cached_input", "cache_write", "reasoning", "output")
_OF_CALLS = ("call", "least")


@dataclass(frozen=True)
class LongPrompts:
    """US dollars per token of each kind for calls whose whole prompt is longer than ``above`` tokens."""

    above: int
    input: float
    cached_input: float
    reasoning: float
    output: float
    cache_write: float | None = None

    def __post_init__(self) -> None:
        if self.cache_write is None:
            object.__setattr__(self, "cache_write", self.input)


@dataclass(frozen=True)
class Schedule:
    """When which of several prices hold.

    Attributes:
        begins: moment of UTC at which the run's clock stands at 0.
        days: days of UTC from which on other prices hold, in order, after that of ``begins``.
        clock_s: seconds after midnight of UTC (of a Monday's, where weekdays differ) from which on they do, in order; the first is
            0. So it goes each day, or each week.
        which: number of the prices, by days (those before the first of ``days`` come first) and then by ``clock_s``.
        prices: the prices, each the same at all times; shares: of the run's requests that they are for.
    """

    begins: datetime.datetime
    days: tuple[datetime.date, ...]
    clock_s: tuple[float, ...]
    which: tuple[tuple[int, ...], ...]
    prices: tuple[TokenPrices, ...]
    shares: tuple[float, ...]
    weekly: bool = False

    @property
    def midnight_s(self) -> float:
        """The midnight of UTC before the run begins, on the run's clock."""
        at = self.begins
        return -(3600.0 * at.hour + 60.0 * at.minute + at.second + at.microsecond / 1e6)

    @property
    def origin_s(self) -> float:
        """That of a Monday, where weekdays differ."""
        return self.midnight_s - (DAY_S * self.begins.weekday() if self.weekly else 0.0)

    @property
    def period_s(self) -> float:
        """After which ``clock_s`` begins anew: a day, or a week where weekdays differ."""
        return WEEK_S if self.weekly else DAY_S

    @property
    def days_s(self) -> F64:
        """When each of ``days`` begins, on the run's clock."""
        first = self.begins.date().toordinal()
        return np.array([self.midnight_s + DAY_S * (day.toordinal() - first) for day in self.days])

    def at(self, at_s: ArrayLike) -> I64:
        """Number of the prices that hold at moments of the run's clock; NaN is taken for its beginning."""
        moment = np.nan_to_num(np.asarray(at_s, dtype=np.float64))
        since = moment - self.origin_s
        since = since - self.period_s * np.floor(since / self.period_s)
        row = np.searchsorted(self.days_s, moment, side="right")
        column = np.searchsorted(np.array(self.clock_s), since, side="right") - 1
        return np.asarray(np.array(self.which, dtype=np.int64)[row, column])

    def on_clock(self, days_s: F64, clock_s: F64) -> I64:
        """Numbers of the prices that hold between other such times, by days and then by ``clock_s``."""
        row = np.searchsorted(self.days_s, np.concatenate([[-np.inf], days_s]), side="right")
        since = clock_s - self.period_s * np.floor(clock_s / self.period_s)
        column = np.searchsorted(np.array(self.clock_s), since, side="right") - 1
        return np.asarray(np.array(self.which, dtype=np.int64)[row][:, column].reshape(-1))

    def on_average_at(self, at_s: F64) -> Schedule:
        """The same, with the shares that moments have."""
        known = at_s[~np.isnan(at_s)]
        counts = np.bincount(self.at(known), minlength=len(self.prices)) if len(known) else np.array(self.shares)
        return replace(self, shares=tuple((counts / counts.sum()).tolist()))


@dataclass(frozen=True)
class TokenPrices:
    """US dollars per token of each kind, and where they come from.

    ``cache_write``: of prompt tokens that a cache was made to keep; as ``input`` if left out. ``long_prompts``: other prices of all
    tokens of a call, by the length of its prompt, in ascending order; the last that applies does. ``call``: US dollars of each
    call, whatever its length; ``least``: what a call comes to at the least. ``caveats``: what of the provider's prices no bill here
    knows of, in words. ``schedule``: prices at other times; those here hold when the run begins.

    >>> TokenPrices(3e-6, 3e-7, 15e-6, 15e-6, "stated").cost_usd(1000, 0, 2000, 100)
    0.0345
    """

    input: float
    cached_input: float
    reasoning: float
    output: float
    origin: str
    long_prompts: tuple[LongPrompts, ...] = ()
    call: float = 0.0
    caveats: tuple[str, ...] = ()
    cache_write: float | None = None
    least: float = 0.0
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        if self.cache_write is None:
            object.__setattr__(self, "cache_write", self.input)
        for name in (*KINDS, *_OF_CALLS):
            price = getattr(self, name)
            if isinstance(price, bool) or not isinstance(price, Real) or not 0 <= float(price) < math.inf:
                raise InputError(
                    "TokenPrices", name, price, f"US dollars per {'call' if name in _OF_CALLS else 'token'}, at least 0"
                )

    # --------------------------------------------------------------------------------------------------------- bills

    def cost_usd(
        self,
        prompt: ArrayLike,
        cached: ArrayLike,
        reasoning: ArrayLike,
        visible: ArrayLike,
        calls: ArrayLike = 1,
        *,
        written: ArrayLike = 0,
        at_s: ArrayLike | None = None,
    ) -> F64 | float:
        """US dollars of so many prompt tokens (``cached`` of them cached), reasoning and visible tokens.

        Args:
            prompt, cached, reasoning, visible: tokens of all calls together; written: those of the prompt that a cache was made to
                keep, none of them among the cached.
            calls: that they are shared out to evenly; what a token costs depends on how long the prompt of one is.
            at_s: when, on the run's clock; without it, where prices change, their mean over the run's requests.
        """
        if self.schedule is not None:
            return self._over_times("cost_usd", (prompt, cached, reasoning, visible, calls), {"written": written}, at_s)
        prompt, cached = np.asarray(prompt, dtype=np.float64), np.asarray(cached, dtype=np.float64)
        written = np.asarray(written, dtype=np.float64)
        each = {kind: self.each(kind, prompt, calls) for kind in KINDS}
        cost = (prompt - cached - written) * each["input"] + cached * each["cached_input"]
        if written.any():
            cost = cost + written * each["cache_write"]
        cost = cost + np.asarray(reasoning) * each["reasoning"] + np.asarray(visible) * each["output"]
        if self.call or self.least:  # a call without a prompt was turned away
            many = np.where(prompt > 0, np.asarray(calls, dtype=np.float64), 0.0)
            cost = np.asarray(np.maximum(cost + self.call * many, self.least * many))
        return cost if cost.ndim else float(cost)

    def output_usd(
        self,
        kind: Literal["reasoning", "output"],
        prompt: ArrayLike,
        tokens: ArrayLike,
        calls: ArrayLike = 1,
        *,
        at_s: ArrayLike | None = None,
    ) -> F64:
        """Of that, what the reasoning tokens cost, or the visible ones (``output``)."""
        if self.schedule is not None:
            return np.asarray(self._over_times("output_usd", (prompt, tokens, calls), {}, at_s, kind))
        return np.asarray(self.each(kind, np.asarray(prompt, dtype=np.float64), calls) * np.asarray(tokens))

    def each(self, kind: str, prompt: F64, calls: ArrayLike) -> F64 | float:
        """US dollars of a token of one kind when the run begins, by the prompt that it is generated for."""
        price: float | F64 = getattr(self, kind)
        if self.long_prompts:
            prices = np.array([price, *(getattr(one, kind) for one in self.long_prompts)])
            length = prompt / np.asarray(calls)
            price = np.asarray(prices[np.searchsorted([one.above for one in self.long_prompts], length)])
        return price

    def _over_times(
        self, name: str, given: tuple[ArrayLike, ...], named: dict[str, ArrayLike], at_s: ArrayLike | None, *first: str
    ) -> F64 | float:
        """A method of each of the prices: of those that hold at a time, or their mean; ``first``: its words before the numbers."""
        assert self.schedule is not None
        schedule = self.schedule
        if at_s is None:
            used = [(share, one) for share, one in zip(schedule.shares, schedule.prices, strict=True) if share]
            found = sum(share * np.asarray(getattr(one, name)(*first, *given, **named)) for share, one in used)
        else:
            which = schedule.at(at_s)
            found = np.zeros(np.broadcast_shapes(which.shape, *(np.shape(x) for x in (*given, *named.values()))))
            for k in np.unique(which).tolist():
                found = np.where(which == k, getattr(schedule.prices[k], name)(*first, *given, **named), found)
        return found if np.ndim(found) else float(found)

    # ------------------------------------------------------------------------------------------------------- questions

    @property
    def at_all_times(self) -> tuple[TokenPrices, ...]:
        """The prices that hold at some time, each the same at all times."""
        return (self,) if self.schedule is None else self.schedule.prices

    def at_moment(self, moment: datetime.datetime) -> TokenPrices:
        """The prices that hold at a moment."""
        if self.schedule is None:
            return self
        return self.schedule.prices[int(self.schedule.at((moment - self.schedule.begins).total_seconds()))]

    @property
    def now(self) -> TokenPrices:
        """The prices that hold at this moment."""
        return self if self.schedule is None else self.at_moment(datetime.datetime.now(datetime.UTC))

    @property
    def free(self) -> bool:
        """Whether no token of any kind, and no call, ever costs anything."""
        return not any(
            one.call or one.least or any(getattr(tier, kind) for tier in (one, *one.long_prompts) for kind in KINDS)
            for one in self.at_all_times
        )

    @property
    def by_call(self) -> bool:
        """Whether what a call costs is not in proportion to its tokens."""
        return any(bool(one.long_prompts or one.call or one.least) for one in self.at_all_times)

    def times(self, factor: float) -> TokenPrices:
        """All of them times a factor."""

        def scaled(one: TokenPrices | LongPrompts, kinds: tuple[str, ...]) -> dict[str, Any]:
            return {kind: factor * getattr(one, kind) for kind in kinds}

        schedule = self.schedule
        if schedule is not None:
            schedule = replace(schedule, prices=tuple(one.times(factor) for one in schedule.prices))
        return replace(
            self,
            **scaled(self, (*KINDS, *_OF_CALLS)),
            origin=f"{self.origin}, times {factor:g}",
            long_prompts=tuple(LongPrompts(one.above, **scaled(one, KINDS)) for one in self.long_prompts),
            schedule=schedule,
        )

    # ----------------------------------------------------------------------------------------------------------- words

    @property
    def in_words(self) -> str:
        """US dollars per million tokens, and where they come from.

        >>> TokenPrices(3e-6, 3e-7, 15e-6, 15e-6, "stated").in_words
        '$3 in, $0.3 cached, $15 out per million tokens (stated)'
        """
        rates = self._rates_in_words
        if self.schedule is not None:
            rates = "; ".join(f"{when} {one._rates_in_words}" for when, one in spans(self.schedule))
        return "; ".join([f"{rates} ({self.origin})", *self.caveats])

    @property
    def _rates_in_words(self) -> str:
        said = _in_words(self)
        said += "".join(
            f"; {_in_words(one)} where the prompt is longer than {one.above:,}" for one in self.long_prompts
        )
        said += " per million tokens"
        said += f", and ${1000 * self.call:.6g} per 1,000 calls" if self.call else ""
        return said + (f", at least ${self.least:.6g} a call" if self.least else "")

    def as_json(self) -> dict[str, object]:
        """US dollars per million tokens, and where they come from."""
        found: dict[str, object] = {**self._rates_as_json(), "origin": self.origin, "caveats": list(self.caveats)}
        if self.schedule is not None:
            found["clock_begins"] = self.schedule.begins.isoformat()
            found["schedule"] = [{"when": when, **one._rates_as_json()} for when, one in spans(self.schedule)]
        return found

    def _rates_as_json(self) -> dict[str, object]:
        tiers = [{"prompt_tokens_above": one.above, **_per_million(one)} for one in self.long_prompts]
        of_call = {"usd_per_call": self.call} if self.call else {}
        of_call |= {"least_usd_per_call": self.least} if self.least else {}
        return {**_per_million(self), **of_call, "long_prompts": tiers}


def spans(schedule: Schedule) -> list[tuple[str, TokenPrices]]:
    """When which prices hold, in words: of each stretch of days, the hours of each prices."""
    found = []
    for row, numbers in enumerate(schedule.which):
        days = [] if row == 0 else [f"from {schedule.days[row - 1]} on"]
        if row < len(schedule.days):
            days.append(f"before {schedule.days[row]}")
        for number in dict.fromkeys(numbers):
            hours = [] if len(set(numbers)) == 1 else [f"at {_hours(schedule, numbers, number)} UTC"]
            found.append((" ".join([*days, *hours]) or "at all times", schedule.prices[number]))
    return found


def _hours(schedule: Schedule, numbers: tuple[int, ...], number: int) -> str:
    """When, of a day or of a week, one of the prices holds."""
    edges = [*schedule.clock_s, schedule.period_s]
    of_day: dict[int, list[tuple[float, float]]] = {}
    for k, one in enumerate(numbers):
        if one == number:
            day, begin = divmod(edges[k], DAY_S)
            hours, ends = of_day.setdefault(int(day), []), edges[k + 1] - day * DAY_S
            if hours and hours[-1][1] == begin:
                begin = hours.pop()[0]
            hours.append((begin, ends))
    said = {day: " and ".join(f"{_clock(a)} to {_clock(b)}" for a, b in hours) for day, hours in of_day.items()}
    if not schedule.weekly:
        return said[0]
    parts = []
    for words in dict.fromkeys(said.values()):
        days = [day for day, one in said.items() if one == words]
        named = [WEEKDAYS[day].capitalize() for day in days]
        in_a_row = len(days) > 2 and days == list(range(days[0], days[0] + len(days)))
        parts.append(f"{words} ({f'{named[0]} to {named[-1]}' if in_a_row else ', '.join(named)})")
    return " and ".join(parts)


def _clock(second: float) -> str:
    minutes = round(second / 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _per_million(prices: TokenPrices | LongPrompts) -> dict[str, object]:
    return {f"{kind}_usd_per_mtok": float(f"{getattr(prices, kind) * MILLION:.12g}") for kind in KINDS}


def _in_words(prices: TokenPrices | LongPrompts) -> str:
    """Cached tokens, those written to a cache and reasoning where they have a price of their own."""
    said = {kind: f"${getattr(prices, kind) * MILLION:.6g}" for kind in KINDS}
    parts = [f"{said['input']} in"]
    parts += [f"{said['cached_input']} cached"] if prices.cached_input != prices.input else []
    parts += [f"{said['cache_write']} written to its cache"] if prices.cache_write != prices.input else []
    parts += [f"{said['reasoning']} thinking"] if prices.reasoning != prices.output else []
    return ", ".join([*parts, f"{said['output']} out"])


__all__ = ["KINDS", "MILLION", "LongPrompts", "Schedule", "TokenPrices", "spans"]
