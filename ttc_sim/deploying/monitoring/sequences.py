"""Confidence sequences: intervals that hold at every look at once, however often somebody looks.

Requests do not arrive independently of one another: they come in bursts, wait in the same queues, and meet the same outage. So
what is added up is not requests but blocks of the clock, an hour each unless told otherwise, with whatever happened in them. Let
S_b be what a block's requests add up to (dollars, late ones, right ones), n_b how many they are, and m a figure a request. If m is
true, D_b = S_b - n_b m is as likely to be so much above 0 as below, whatever came before; for any such differences
exp(l sum D_b - l^2 sum D_b^2 / 2) is a supermartingale (de la Pena 1999, Annals of Probability 27, lemma 6.1; Howard, Ramdas,
McAuliffe and Sekhon 2020, Probability Surveys 17, table 3), and mixed over a normal l it gives a bound that the sum crosses with
probability alpha at most, ever (Robbins 1970; Howard et al. 2021, Annals of Statistics 49, equation 14):

    |sum D_b| <= sqrt((V + r) (log((V + r) / r) + 2 log(1 / alpha))),    V = sum D_b^2.

Blocks are not quite symmetric. Sums of thirty requests and more nearly are, so that it holds asymptotically (Waudby-Smith, Arbour,
Sinha, Kennedy and Ramdas 2024, Annals of Statistics 52); and where single values are far above the mean, as costs, seconds and
rare timeouts are, it errs on the safe side where it says that a figure is too high. What is assumed: that a block tells nothing of
the next but for its length and the hour of the day; swings within a day widen V more than they move the sum (tested).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate

LEAST = 30
"""Requests of a block; shorter ones are put together until they have as many."""
_NARROWEST_AT = 48  # blocks after which intervals are about as narrow as this kind can be: two days of hours
_GRID = 400
_FINER, _STEPS = 33, 6


@dataclass(frozen=True)
class Blocks:
    """What came in ``b`` stretches of the clock.

    Attributes:
        total: (b,) sum of what is looked at; size: (b,) requests (or days) that it is divided by; end_s: (b,) when each ends.
    """

    total: F64
    size: F64
    end_s: F64

    @property
    def count(self) -> int:
        """Of the blocks."""
        return len(self.total)

    def until(self, at_s: float) -> Blocks:
        """Those that have ended by then."""
        keep = self.end_s <= at_s
        return Blocks(self.total[keep], self.size[keep], self.end_s[keep])


def in_blocks(
    at_s: F64, values: F64, size: F64, block_s: float, *, least: float = LEAST, per_block: F64 | None = None
) -> Blocks:
    """Requests in stretches of the clock, with at least so many in each; what is left over at the end is in none.

    Args:
        at_s: (n,) when each was sent, ascending; values: (n,) that are added up; size: (n,) what each counts for.
        block_s: seconds of a block, from 0 on the clock.
        per_block: (blocks between the first and the last request,) added to each, such as what pools cost meanwhile.
    """
    if not len(at_s):
        return Blocks(np.zeros(0), np.zeros(0), np.zeros(0))
    block = np.floor(at_s / block_s).astype(np.int64)
    first = int(block[0])
    here = block - first
    count = int(here[-1]) + 1
    total: F64 = np.asarray(np.bincount(here, values, count), dtype=np.float64)
    sizes: F64 = np.asarray(np.bincount(here, size, count), dtype=np.float64)
    if per_block is not None:
        total = total + per_block
    ends: F64 = np.asarray((first + 1.0 + np.arange(count)) * block_s, dtype=np.float64)
    if least <= 0:
        return Blocks(total, sizes, ends)
    starts, enough = [0], 0.0
    for k, one in enumerate(sizes.tolist()):
        enough += one
        if enough >= least:
            starts.append(k + 1)
            enough = 0.0
    whole: I64 = np.asarray(starts[:-1], dtype=np.int64)
    if not len(whole):
        return Blocks(np.zeros(0), np.zeros(0), np.zeros(0))
    last = starts[-1]
    return Blocks(
        np.add.reduceat(total[:last], whole), np.add.reduceat(sizes[:last], whole), ends[np.asarray(starts[1:]) - 1]
    )


def confidence_sequence(
    blocks: Blocks, alpha: float, variance: float, *, least: float = 0.0, most: float = math.inf
) -> Estimate:
    """The figure, total over size, and the interval that the whole sequence of them keeps with probability 1 - alpha.

    Args:
        variance: of one request's value, about; what it is makes intervals narrower or wider, but valid they are with any.
        least, most: that the figure can be; all of it where the blocks are too few to say anything.

    >>> one = Blocks(np.full(40, 50.0), np.full(40, 100.0), np.arange(40.0))
    >>> found = confidence_sequence(one, 0.05, 0.25, most=1.0)
    >>> found.value, 0.4 < found.low < 0.5 < found.high < 0.6
    (0.5, True)
    """
    size = float(blocks.size.sum())
    if size <= 0:
        return Estimate(math.nan, least, most)
    value = float(blocks.total.sum()) / size
    bound = _Bound(blocks, alpha, variance)
    low = _least_accepted(bound, least, value)
    bounded = math.isfinite(most)
    high = -_least_accepted(lambda m: bound(-m), -most, -value) if bounded else _first_refused(bound, value)
    return Estimate(value, min(low, value), max(high, value))


class _Bound:
    """How far above the bound the sum is if the figure were m: above 0, m is refused."""

    def __init__(self, blocks: Blocks, alpha: float, variance: float) -> None:
        self.sums = float(blocks.total.sum()), float(blocks.size.sum())
        self.squares = tuple(
            float(x @ y)
            for x, y in ((blocks.total, blocks.total), (blocks.total, blocks.size), (blocks.size, blocks.size))
        )
        sure = 2 * math.log(1 / alpha)
        # Fixed by the first block alone, so that no later look changes it.
        guess = max(variance, 1e-300) * max(float(blocks.size[0]), 1e-300) * _NARROWEST_AT
        self.sure, self.narrow = sure, guess / (sure + math.log1p(sure))

    def __call__(self, m: F64 | float) -> F64:
        m = np.asarray(m, dtype=np.float64)
        v = np.maximum(self.squares[0] - 2 * self.squares[1] * m + self.squares[2] * m**2, 0.0)
        grown = v + self.narrow
        return np.asarray((self.sums[0] - self.sums[1] * m) ** 2 - grown * (np.log(grown / self.narrow) + self.sure))


def _least_accepted(bound: object, least: float, value: float) -> float:
    """The least figure from ``least`` to ``value`` that is not refused."""
    assert callable(bound)
    grid = np.linspace(least, value, _GRID)
    accepted = np.flatnonzero(bound(grid) <= 0)
    if not len(accepted):
        return value
    k = int(accepted[0])
    if k == 0:
        return least
    return _between(bound, float(grid[k - 1]), float(grid[k]))


def _first_refused(bound: _Bound, value: float) -> float:
    """Where figures above ``value`` begin to be refused; without end if none is."""
    half = math.sqrt(max(-float(bound(value)), 0.0)) / bound.sums[1]
    grid = value + np.linspace(0.0, 20 * half, 10 * _GRID)
    refused = np.flatnonzero(bound(grid) > 0)
    if not len(refused):
        return math.inf
    k = int(refused[0])
    return value if k == 0 else _between(bound, float(grid[k]), float(grid[k - 1]))


def _between(bound: object, refused: float, accepted: float) -> float:
    """Where refusing ends, on finer and finer grids."""
    assert callable(bound)
    for _ in range(_STEPS):
        grid = np.linspace(refused, accepted, _FINER)
        first = max(int(np.argmax(bound(grid) <= 0)), 1)
        refused, accepted = float(grid[first - 1]), float(grid[first])
    return accepted


def quantile_sequence(
    at_s: F64, values: F64, known: NDArray[np.bool_], part: float, block_s: float, alpha: float, most: float = math.inf
) -> Estimate:
    """A quantile, and its interval by the same sequence: of what share of requests is above a value (Howard and Ramdas 2022,
    Bernoulli 28).

    Args:
        known: (n,) requests that count; part: of them that are at most the quantile; most: that a value can be.
    """
    at_s, values = at_s[known], values[known]
    if not len(values):
        return Estimate(math.nan, 0.0, most)
    ordered = np.unique(values)
    value = float(np.quantile(values, part, method="inverted_cdf"))
    ones = np.ones(len(values))

    def later(x: float) -> Estimate:
        found = in_blocks(at_s, (values > x).astype(np.float64), ones, block_s)
        if not found.count:
            return Estimate(1 - part, 0.0, 1.0)
        return confidence_sequence(found, alpha, part * (1 - part), most=1.0)

    # The share that is later falls with x: surely more than 1 - part below the low end, surely fewer above the high one.
    low = _turn(ordered, lambda x: later(x).low <= 1 - part)
    high = _turn(ordered, lambda x: later(x).high < 1 - part)
    ends = 0.0 if low == 0 else float(ordered[low]), most if high == len(ordered) else float(ordered[high])
    return Estimate(value, min(ends[0], value), max(ends[1], value))


def _turn(ordered: F64, test: object) -> int:
    """First of the ascending values for which a test holds that holds of all after it."""
    assert callable(test)
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if test(float(ordered[middle])):
            high = middle
        else:
            low = middle + 1
    return low


def first_time(verdicts: Sequence[bool], at_s: Sequence[float]) -> float | None:
    """When something was first so; ``None``: never."""
    return next((at for holds, at in zip(verdicts, at_s, strict=True) if holds), None)


__all__ = ["LEAST", "Blocks", "confidence_sequence", "first_time", "in_blocks", "quantile_sequence"]
