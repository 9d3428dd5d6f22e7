"""Sequential tests of a plan at work: they may be looked at every day, and find what really broke."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ttc_sim.base.draws import F64
from ttc_sim.deploying.monitoring.moved import alike
from ttc_sim.deploying.monitoring.sequences import (
    Blocks,
    confidence_sequence,
    in_blocks,
    quantile_sequence,
)

DAY, HOUR = 86400.0, 3600.0
ALPHA = 0.1
Made = Callable[[np.random.Generator, int], tuple[F64, F64]]


def arrivals(rng: np.random.Generator, days: int, a_day: int = 400) -> F64:
    """More by day than by night."""
    t = np.sort(rng.uniform(0, days * DAY, 2 * a_day * days))
    return t[rng.uniform(size=len(t)) < 0.5 * (1 + 0.8 * np.sin(2 * np.pi * t / DAY))]


def right(rng: np.random.Generator, days: int, chance: float = 0.65) -> tuple[F64, F64]:
    t = arrivals(rng, days)
    return t, (rng.uniform(size=len(t)) < chance).astype(np.float64)


def dollars(rng: np.random.Generator, days: int, times: float = 1.0) -> tuple[F64, F64]:
    t = arrivals(rng, days)
    return t, times * np.exp(1.6 * rng.normal(size=len(t)) - 1.6**2 / 2)


def rare(rng: np.random.Generator, days: int) -> tuple[F64, F64]:
    t = arrivals(rng, days)
    return t, (rng.uniform(size=len(t)) < 0.004).astype(np.float64)


def late_when_busy(rng: np.random.Generator, days: int) -> tuple[F64, F64]:
    t = arrivals(rng, days)
    chance = 0.05 * (1 + np.sin(2 * np.pi * t / DAY))  # of requests in the mean 0.05 (1 + 0.8 / 2)
    return t, (rng.uniform(size=len(t)) < chance).astype(np.float64)


def in_bad_spells(rng: np.random.Generator, days: int) -> tuple[F64, F64]:
    """Twenty minutes in which most fail, four times a day: of requests in the mean 0.01 + 0.6 (1 - exp(-4 / 72))."""
    t = arrivals(rng, days)
    begins = rng.uniform(-1200.0, days * DAY, rng.poisson(4 * days * (1 + 1200 / (days * DAY))))
    bad = ((t[:, None] > begins) & (t[:, None] < begins + 1200.0)).any(axis=1)
    return t, (rng.uniform(size=len(t)) < np.where(bad, 0.61, 0.01)).astype(np.float64)


def wrong_at_any_look(made: Made, mean: float, days: int, variance: float, most: float) -> tuple[float, float, float]:
    """Shares of logs of which, on some day, the figure was said to be too high, or too low; and the widths at the end."""
    high = low = 0
    widths = []
    for k in range(100):
        at, values = made(np.random.default_rng(k), days)
        blocks = in_blocks(at, values, np.ones(len(at)), HOUR)
        looks = [confidence_sequence(blocks.until(day * DAY), ALPHA, variance, most=most) for day in range(1, days + 1)]
        high += any(one.low > mean for one in looks)
        low += any(one.high < mean for one in looks)
        widths.append(looks[-1].high - looks[-1].low)
    return high / 100, low / 100, float(np.median(widths))


@pytest.mark.parametrize(
    ("made", "mean", "variance", "most", "skewed"),
    [
        (right, 0.65, 0.23, 1.0, False),
        (dollars, 1.0, 12.0, np.inf, True),
        (rare, 0.004, 0.004, 1.0, True),
        (late_when_busy, 0.07, 0.065, 1.0, False),
        (in_bad_spells, 0.01 + 0.6 * (1 - np.exp(-4 / 72)), 0.05, 1.0, True),
    ],
)
def test_false_alarms_over_many_looks(made: Made, mean: float, variance: float, most: float, skewed: bool) -> None:
    high, low, width = wrong_at_any_look(made, mean, 8, variance, most)
    # Of 100 logs, more than 8 by chance with a chance of 3% where 5 are to be expected.
    assert high <= ALPHA / 2 + 0.03
    if not skewed:  # what is as often above as below; else only that it is too high is said to be safe
        assert low <= ALPHA / 2 + 0.03
    assert high + low <= ALPHA + 0.05
    assert 0 < width < 2 * mean


def test_looking_every_day_with_usual_intervals_would_raise_false_alarms() -> None:
    """The same logs, by the usual interval for independent requests: that is what the sequences are for."""
    alarms = 0
    for k in range(100):
        at, values = in_bad_spells(np.random.default_rng(k), 8)
        upto = np.searchsorted(at, DAY * np.arange(1, 9))
        means = np.array([values[:n].mean() for n in upto])
        alarms += bool((means - 1.645 * np.sqrt(means * (1 - means) / upto) > 0.01 + 0.6 * (1 - np.exp(-4 / 72))).any())
    assert alarms / 100 > 3 * ALPHA


@pytest.mark.parametrize(
    ("made", "promised", "days"), [(lambda r, d: right(r, d, 0.52), 0.6, 5), (lambda r, d: dollars(r, d, 1.5), 1.0, 6)]
)
def test_what_broke_is_found_in_days(made: Made, promised: float, days: int) -> None:
    found = []
    for k in range(40):
        at, values = made(np.random.default_rng(1000 + k), 8)
        blocks = in_blocks(at, values, np.ones(len(at)), HOUR)
        looks = [confidence_sequence(blocks.until(d * DAY), 0.05 / 8, float(values.var())) for d in range(1, 9)]
        beyond = [d for d, one in enumerate(looks, start=1) if one.low > promised or one.high < promised]
        found.append(beyond[0] if beyond else 99)
    assert np.median(found) <= days
    assert np.quantile(found, 0.9) <= days + 2


def test_nothing_is_said_of_too_few_blocks() -> None:
    for count in (1, 5):
        blocks = Blocks(np.full(count, 100.0), np.full(count, 100.0), np.arange(float(count), dtype=np.float64))
        found = confidence_sequence(blocks, 0.05, 0.25, most=1.0)
        assert (found.value, found.low, found.high) == (1.0, 0.0, 1.0)
    nothing = confidence_sequence(in_blocks(np.zeros(1), np.ones(1), np.ones(1), HOUR), 0.05, 0.25, most=1.0)
    assert (nothing.low, nothing.high) == (0.0, 1.0)


def test_blocks_hold_everything_but_what_is_left_over() -> None:
    rng = np.random.default_rng(5)
    at = np.sort(rng.uniform(0, 4 * DAY, 900))
    values = rng.exponential(size=900)
    blocks = in_blocks(at, values, np.ones(900), HOUR, least=30)
    assert (blocks.size >= 30).all()
    held = at < blocks.end_s[-1]
    assert blocks.size.sum() == held.sum()
    assert blocks.total.sum() == pytest.approx(values[held].sum(), rel=1e-12)
    assert 900 - blocks.size.sum() < 30 + 900 / (4 * 24) * 3
    later = in_blocks(np.append(at, 4.01 * DAY), np.append(values, 1.0), np.ones(901), HOUR, least=30)
    k = blocks.count  # what is added later changes no block that was whole
    assert np.array_equal(later.total[:k], blocks.total)


def test_quantiles_are_covered_at_the_end_of_any_day() -> None:
    missed = 0
    truth = float(np.exp(1.2815515594600038))  # 90th percentile of a log-normal law
    for k in range(60):
        rng = np.random.default_rng(k)
        at = arrivals(rng, 6)
        values = np.exp(rng.normal(size=len(at)))
        found = [quantile_sequence(at, values, at < day * DAY, 0.9, HOUR, ALPHA) for day in (2, 4, 6)]
        missed += any(not one.low <= truth <= one.high for one in found)
        assert found[-1].low < found[-1].value < found[-1].high < 3 * truth
    assert missed / 60 <= ALPHA + 0.06


def test_requests_that_are_alike_count_for_fewer() -> None:
    rng = np.random.default_rng(3)
    at = np.sort(rng.uniform(0, 10 * DAY, 4000))
    alone = rng.normal(size=4000)
    assert alike(at, alone, HOUR) == pytest.approx(1.0, abs=0.25)
    block = np.floor(at / HOUR).astype(int)
    shared = rng.normal(size=block.max() + 1)[block]
    sizes = np.bincount(block)
    # All of a block the same: each counts as often as there are in its block.
    assert alike(at, shared, HOUR) == pytest.approx((sizes**2).sum() / sizes.sum(), rel=0.25)
