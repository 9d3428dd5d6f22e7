"""Hard budgets a day, as a gateway keeps them: what it asks and counts, the same for both engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.times import DAY_S

NANOS = 1e9
"""Money is counted in whole billionths of a US dollar, so that ten bills of $0.10 are a dollar in any order."""
MOST_NANOS = 1 << 61
MOST_DAYS = 200_000

# What becomes of a request that finds a budget exhausted: the larger is the stricter. Of a request all that befell it, as bits.
DEGRADE, QUEUE, REFUSE = 1, 2, 4


@dataclass(frozen=True)
class Budgets:
    """Of ``n`` requests, ``b`` budgets and the works that an engine is offered.

    A request that comes is sent on unless its work ``spends`` and a budget of its own is exhausted: spent to its limit, or beyond
    it, since the day began. What it spends itself is counted call by call, when the provider is done with a call.

    Attributes:
        limit: (b,) billionths of a US dollar a day, above 0.
        rule: (b,) ``DEGRADE``, ``QUEUE`` or ``REFUSE``: what becomes of requests once it is exhausted; the strictest of several.
        of: (n, 2) budgets that a request counts in, -1 for none; where both say ``DEGRADE``, the second does.
        to: (n, 2) work that it is carried out instead then; -1 where there is none.
        spends: (works, n) whether what the work sends anything to may cost anything.
        prices: per work, (stages, prices, :data:`PARTS`) billionths of a US dollar: of the whole prompt as if none of it were in a
            cache, of a hidden and of a visible token, how much less a token costs that was found in a cache, and how much more
            one that it was made to keep, and what a call comes to at the least.
        first_turn_s: when the first day ends, on the clock of the arrivals, above 0; each further one lasts :data:`DAY_S`.
        clock: when which prices hold, as :func:`prices_at` reads it.
    """

    limit: I64
    rule: I64
    of: I64
    to: I64
    spends: NDArray[np.bool_]
    prices: tuple[F64, ...]
    first_turn_s: float = DAY_S
    clock: F64 = field(default_factory=lambda: clock_of(0.0, np.zeros(0), np.zeros(1)))

    def of_requests(self, request: I64, stages: Sequence[I64]) -> Budgets:
        """Of these requests, each any number of times, with these stages of each work."""
        return replace(
            self,
            of=self.of[request],
            to=self.to[request],
            spends=self.spends[:, request],
            prices=tuple(prices[at] for prices, at in zip(self.prices, stages, strict=True)),
        )


@dataclass(frozen=True)
class Spending:
    """What a gateway counted, and what it did.

    Attributes:
        done: (n,) bits of ``DEGRADE``, ``QUEUE`` and ``REFUSE``; 0: sent on as it came.
        sent_s: (n,) when it was sent on; NaN if it never was.
        chosen: (n,) work that it would have been carried out by.
        spent: (days, b) billionths of a US dollar, up to the last day in which anything was spent.
        exhausted_s: (days, b) when each budget was; NaN if it was not.
        spent_over: (intervals, b) the same in each interval of the clock; ``None`` if those were not recorded.
    """

    done: NDArray[np.int8]
    sent_s: F64
    chosen: I64
    spent: I64
    exhausted_s: F64
    spent_over: I64 | None = None


def nanos_of(usd: float) -> int:
    """A limit in billionths of a US dollar, at least one.

    >>> nanos_of(0.1), nanos_of(1e-12)
    (100000000, 1)
    """
    return min(max(round(usd * NANOS), 1), MOST_NANOS)


PARTS = 6
"""Figures of each price."""


@register_jitable  # type: ignore[untyped-decorator]
def bill_of(prices: F64, first: int, empty: bool, hidden: int, visible: int, cached: int, written: int) -> int:
    """Billionths of a US dollar that a call comes to, rounded to a whole one.

    Args:
        prices: :data:`PARTS` of them, from ``first`` on; empty: whether the call took its prompt in not at all.
    """
    if empty:
        return 0
    usd = prices[first] + hidden * prices[first + 1] + visible * prices[first + 2]
    usd += written * prices[first + 4] - cached * prices[first + 3]
    return int(min(np.floor(max(usd, prices[first + 5], 0.0) + 0.5), 1.0 * MOST_NANOS))


def clock_of(origin_s: float, days_s: F64, hours_s: F64, period_s: float = DAY_S) -> F64:
    """When prices change.

    Args:
        origin_s: any midnight, on the run's clock; days_s: when days begin that have other prices than those before, in order.
        hours_s: seconds after that midnight from which on prices hold, in order, the first is 0; period_s: after which they do so
            again.
    """
    return np.concatenate([[origin_s, period_s, len(days_s), len(hours_s)], days_s, hours_s]).astype(np.float64)


@register_jitable  # type: ignore[untyped-decorator]
def prices_at(clock: F64, at_s: float) -> int:
    """Number of the prices that hold at a moment, by days and then by hours; ``clock`` as of :func:`clock_of`."""
    days, hours = int(clock[2]), int(clock[3])
    row = 0
    while row < days and clock[4 + row] <= at_s:
        row += 1
    since = at_s - clock[0]
    since -= clock[1] * np.floor(since / clock[1])
    column = hours - 1
    while column > 0 and clock[4 + days + column] > since:
        column -= 1
    return row * hours + column


@register_jitable  # type: ignore[untyped-decorator]
def prices_of(clock: F64) -> int:
    """How many prices there are."""
    return int((1 + clock[2]) * clock[3])


def check_days(days: int) -> None:
    """Refuse more days than anybody looks at.

    Raises:
        InputError: too many.
    """
    if days > MOST_DAYS:
        raise InputError("run", "days", days, f"at most {MOST_DAYS:,} days, where a budget is counted by the day")


def check_budgets(budgets: Budgets | None, works: int, requests: int) -> None:
    """Refuse budgets of other works or requests.

    Raises:
        ValueError: another shape, no time before the first day ends, or no work to be degraded to.
    """
    if budgets is None:
        return
    count = len(budgets.limit)
    if budgets.of.shape != (requests, 2) or budgets.to.shape != (requests, 2):
        raise ValueError(f"of and to must be ({requests}, 2) numbers of budgets and works, -1 for none")
    if budgets.spends.shape != (works, requests) or len(budgets.prices) != works:
        raise ValueError(f"spends and prices must be of {works} works and {requests} requests")
    if len(budgets.rule) != count or (budgets.of >= count).any() or (budgets.to >= works).any():
        raise ValueError("of, to and rule name a budget or a work that is not there")
    if any(prices.shape[1:] != (prices_of(budgets.clock), PARTS) for prices in budgets.prices):
        raise ValueError(f"prices must be (stages, {prices_of(budgets.clock)}, {PARTS}), as the clock has it")
    if not budgets.first_turn_s > 0 or (budgets.limit < 1).any():
        raise ValueError("first_turn_s and limit must be above 0")
    there = budgets.of >= 0
    if (budgets.to[there & (budgets.rule[budgets.of] == DEGRADE)] < 0).any():
        raise ValueError("to: a budget that degrades needs a work for it")


def spending_of(
    done: NDArray[np.int8], sent_s: F64, chosen: I64, spent: I64, exhausted_s: F64, spent_over: I64 | None
) -> Spending:
    """What was written down, without days at the end in which nothing was spent."""
    some = np.flatnonzero(spent.any(axis=1))
    days = int(some[-1]) + 1 if len(some) else 0
    return Spending(done, sent_s, chosen, spent[:days], exhausted_s[:days], spent_over)


class Ledger:
    """The gateway of the reference engine: what each budget has come to today."""

    def __init__(self, budgets: Budgets, requests: int, interval_s: float | None) -> None:
        self.budgets, self.interval_s = budgets, interval_s
        self.day, self.turn_s = 0, budgets.first_turn_s
        self.spent: dict[tuple[int, int], int] = {}
        self.exhausted_s: dict[tuple[int, int], float] = {}
        self.spent_over: dict[tuple[int, int], int] = {}
        self.done = np.zeros(requests, dtype=np.int8)
        self.sent_s = np.full(requests, np.nan)
        self.chosen = np.zeros(requests, dtype=np.int64)

    def look_at(self, now_s: float) -> None:
        """Go on to the day that a moment lies in; its end belongs to the next."""
        while self.turn_s <= now_s:
            self.day += 1
            check_days(self.day + 1)
            self.turn_s = self.budgets.first_turn_s + self.day * DAY_S

    def rule_for(self, request: int, work: int) -> tuple[int, int]:
        """What becomes of a request that comes now, 0 for nothing, and what it is degraded to."""
        found = 0, -1
        if self.budgets.spends[work, request]:
            for budget, to in zip(self.budgets.of[request].tolist(), self.budgets.to[request].tolist(), strict=True):
                rule = int(self.budgets.rule[budget])
                exhausted = budget >= 0 and self.spent.get((self.day, budget), 0) >= self.budgets.limit[budget]
                if exhausted and rule >= found[0]:
                    found = rule, to
        return found

    def count(self, request: int, nanos: int, now_s: float, interval: int | None) -> None:
        """A provider is done with a call of a request."""
        self.look_at(now_s)
        for budget in self.budgets.of[request].tolist():
            if budget < 0 or not nanos:
                continue
            at = self.day, budget
            before = self.spent.get(at, 0)
            self.spent[at] = min(before + nanos, MOST_NANOS)
            if before < self.budgets.limit[budget] <= self.spent[at]:
                self.exhausted_s[at] = now_s
            if interval is not None:
                self.spent_over[interval, budget] = self.spent_over.get((interval, budget), 0) + nanos

    def found(self) -> Spending:
        """All of it."""
        count = len(self.budgets.limit)
        spent = np.zeros((self.day + 1, count), dtype=np.int64)
        exhausted_s = np.full(spent.shape, np.nan)
        for at, nanos in self.spent.items():
            spent[at] = nanos
        for at, moment_s in self.exhausted_s.items():
            exhausted_s[at] = moment_s
        over = None
        if self.interval_s is not None:
            over = np.zeros((max((k for k, _ in self.spent_over), default=-1) + 1, count), dtype=np.int64)
            for at, nanos in self.spent_over.items():
                over[at] = nanos
        return spending_of(self.done, self.sent_s, self.chosen, spent, exhausted_s, over)


__all__ = [
    "DEGRADE",
    "MOST_DAYS",
    "NANOS",
    "PARTS",
    "QUEUE",
    "REFUSE",
    "Budgets",
    "Ledger",
    "Spending",
    "bill_of",
    "check_budgets",
    "check_days",
    "nanos_of",
    "spending_of",
]
