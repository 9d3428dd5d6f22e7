"""95% intervals from variances: of means, of shares and of quantiles.

A figure is uncertain for two reasons, and each has a variance of its own: the problems measured are a sample of those that will
come, and a run is one of many that could have been. Each variance is estimated from so many independent things, and says so by its
degrees of freedom; their sum has those of Welch and Satterthwaite, and the interval is Student's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc, ndtr, stdtrit

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Z95, Estimate

_TAIL = 0.025  # on each side of an interval of 95%
_ENDLESS = 1e12  # independent things, so many that nothing is left uncertain
_SCORES = np.linspace(-4.0, 4.0, 33)
_ROUNDING = 1e-12  # relative to the values, below which a standard error is a matter of rounding


@dataclass(frozen=True)
class Variance:
    """Variance of a figure, and from how many independent things it was estimated, less one.

    >>> round(Variance(4.0, 4).quantile, 3)
    2.776
    """

    value: float
    df: float = math.inf

    @property
    def quantile(self) -> float:
        """Half an interval of 95%, in standard errors."""
        return float(stdtrit(self.df, 0.975)) if math.isfinite(self.df) else Z95

    @property
    def half(self) -> float:
        """Half an interval of 95%."""
        return self.quantile * math.sqrt(self.value)

    def plus(self, other: Variance) -> Variance:
        """Of the sum of independent errors."""
        total = self.value + other.value
        if total <= 0 or not math.isfinite(total):
            return Variance(total, min(self.df, other.df))
        return Variance(total, total**2 / (self.value**2 / self.df + other.value**2 / other.df or math.ulp(0.0)))


NONE = Variance(0.0)


def of_units(
    influence: F64,
    unit: I64,
    stratum: I64 | None = None,
    *,
    scale: float = 0.0,
    own: float = 0.0,
    one_more: bool = False,
) -> Variance:
    """Variance of a figure whose rows belong to units that are a random sample, within each stratum if there are several.

    A single unit in each stratum says nothing of how units differ: they are then taken to differ by as much as ``scale``.

    Args:
        influence: (n,) what each row adds to the figure's deviation; unit: (n,) its unit, 0 to k - 1.
        stratum: (k,) of each unit.
        scale: standard error that a single unit would leave.
        own: part of the sums' squares that is the rows' own, not their unit's.
        one_more: count one unit more that is off by as much as ``scale``, so that few units that happen to be alike claim little.
    """
    present = np.bincount(unit) > 0
    total = np.bincount(unit, weights=influence)[present]
    stratum = np.zeros(len(total), dtype=np.int64) if stratum is None else stratum[: len(present)][present]
    size = np.bincount(stratum)
    mean = np.bincount(stratum, weights=total) / np.maximum(size, 1)
    deviation = total - mean[stratum]
    squares = np.bincount(stratum, weights=deviation**2)
    several = size > 1
    df = float((size[several] - 1).sum())
    if df == 0:
        return Variance(scale**2)
    if (whole := float(squares.sum())) > 0:
        # A variance that rests on a few units far off is itself as uncertain as one of fewer units.
        kurtosis = len(total) * float(
            ((deviation**2 / whole) ** 2).sum()
        )  # fourth powers of small figures would vanish
        df = max(min(df, 2 * len(total) / max(kurtosis - 1, 1e-9)), 1.0)
    found = _unless_rounding(float((squares[several] * size[several] / (size[several] - 1)).sum()), df, influence)
    return Variance(max(found.value - own, 0.0) + one_more * (scale / 2 / len(total)) ** 2, df)


def covariance(one: F64, other: F64, unit: I64) -> float:
    """Covariance of two figures whose rows belong to units that are a random sample.

    Args:
        one, other: (n,) what each row adds to the figure's deviation; unit: (n,) its unit, 0 to k - 1.
    """
    present = np.bincount(unit) > 0
    a, b = (np.bincount(unit, weights=influence)[present] for influence in (one, other))
    return float((a - a.mean()) @ (b - b.mean())) * len(a) / max(len(a) - 1, 1)


def of_runs(influence: F64, run: I64, runs: int) -> Variance:
    """Variance of a figure of several independent runs, or of batches of one that may stand for them.

    Args:
        influence: (n,) what each row adds to the figure's deviation; run: (n,) its run, below ``runs``, which is at least 2.
    """
    total = np.bincount(run, weights=influence, minlength=runs)
    return _unless_rounding(float(((total - total.mean()) ** 2).sum()) * runs / (runs - 1), runs - 1, influence)


def of_neighbours(influence: F64, batch: I64, batches: int) -> Variance:
    """As :func:`of_runs`, from batches of one run whose load changes with the time of day: by how each differs from the next."""
    total = np.bincount(batch, weights=influence, minlength=batches)
    value = float((np.diff(total) ** 2).sum()) / 2 * batches / (batches - 1)
    return _unless_rounding(
        value, max(2 * (batches - 1) / 3, 1.0), influence
    )  # neighbouring differences are not independent


def _unless_rounding(value: float, df: float, influence: F64) -> Variance:
    size = float(np.abs(influence).sum())
    return Variance(0.0, df) if value <= (_ROUNDING * size) ** 2 else Variance(value, df)


def mean(value: float, variance: Variance, most: float = math.inf) -> Estimate:
    """A mean of what is never negative, and its interval: as far down as up for one over its root.

    Means of seconds, tokens and dollars, a few of which are large, err more often and farther below the truth than above it; so
    little may be known of them that nothing bounds them from above.

    Args:
        most: that it can be.
    """
    if value <= 0:
        return Estimate(value, value, value)
    half = variance.half / (2 * value)
    high = value / (1 - half) ** 2 if half < 1 else math.inf
    return Estimate(value, value / (1 + half) ** 2, high).clipped(0.0, most)


def share(value: float, variance: Variance, units: float) -> Estimate:
    """A share and Wilson's interval, in which 3 of 3 is not sure.

    E. B. Wilson (1927), on the number of independent things that would give this variance (L. Kish's effective sample size).

    Args:
        value: 0 to 1.
        units: independent things behind a share that cannot be seen to vary, as one of 0 or 1; infinity where it repeats exactly.
    """
    size = _trials(value, variance, units)
    if not math.isfinite(size):
        return Estimate(value, value, value)
    low, high = wilson(value, Z95**2 / size)
    return Estimate(value, min(max(low, 0.0), value), max(min(high, 1.0), value))


def _trials(value: float, variance: Variance, units: float) -> float:
    """Independent things, in endless supply, that would say as much of a share as its variance with its degrees of freedom."""
    if variance.value > 0 and 0 < value < 1:
        return value * (1 - value) / variance.half**2 * Z95**2
    return units


def wilson(value: float, z2: float) -> tuple[float, float]:
    """Ends of Wilson's interval of a share; ``z2``: the squared quantile over the number of trials."""
    half = math.sqrt(z2 * (value * (1 - value) + z2 / 4))
    return (value + z2 / 2 - half) / (1 + z2), (value + z2 / 2 + half) / (1 + z2)


def quantile(ordered: F64, wanted: float, variance: Variance, units: float) -> Estimate:
    """A quantile of ordered values, and the values between which it lies: order statistics of as many independent ones.

    Of n independent values the j-th lies below the quantile with the probability that at least j of n do (W. R. Thompson, 1936); n
    is here what would leave the share below the quantile as uncertain as it is (R. S. Woodruff, 1952; L. Kish). The interval never
    leaves the values seen, see :func:`open_ended`.

    Args:
        variance: of the share of values that are at most the quantile.
        units: independent things behind a share that cannot be seen to vary.
    """
    value, size = at_share(ordered, wanted), _trials(wanted, variance, units)
    if size > _ENDLESS:
        return Estimate(value, value, value)
    low, high = float(ordered[0]), float(ordered[-1])
    if (1 - wanted) ** size < _TAIL:
        low = float(ordered[int(max(_rank(wanted, size, 1 - _TAIL) - 1, 0.0) / size * len(ordered) + 1e-9)])
    if wanted**size < _TAIL:
        high = at_share(ordered, _rank(wanted, size, _TAIL) / size)
    return Estimate(value, min(low, value), max(high, value))


@lru_cache(maxsize=4096)  # a figure is compared with others many times
def _rank(wanted: float, size: float, probability: float) -> float:
    """Which of ``size`` independent values, in order and between them, lies below a quantile with that probability."""
    if wanted**size >= probability:
        return size
    return float(brentq(lambda j: betainc(j, size - j + 1, wanted) - probability, 1e-9, size))


def open_ended(
    found: Estimate, wanted: float, variance: Variance, units: float, least: float = 0.0, most: float = math.inf
) -> Estimate:
    """A quantile's interval with the ends open, at what is possible, that so few independent things cannot tell.

    The largest of n values lies below a quantile with probability ``wanted ** n``: only from 72 on does it bound the 95th
    percentile by 97.5%, only from 368 on the 99th.

    Args:
        wanted, variance, units: as of :func:`quantile`.
        least, most: that it can be.
    """
    low, high = open_ends(wanted, variance, units)
    return Estimate(found.value, least if low else found.low, max(most, found.high) if high else found.high)


def open_ends(wanted: float, variance: Variance, units: float) -> tuple[bool, bool]:
    """Whether so few independent things cannot bound a quantile from below, and from above."""
    size = _trials(wanted, variance, units)
    return (1 - wanted) ** size >= _TAIL, wanted**size >= _TAIL


def shares_below(wanted: float, variance: Variance, units: float, normal: F64) -> F64:
    """Shares of the values seen that may lie below a quantile, at standard normal scores.

    At the scores of 95% those between which :func:`quantile` has its interval.

    Args:
        wanted, variance, units: as of :func:`quantile`.

    >>> shares_below(0.5, Variance(0.0025), 100, np.array([-1.96, 0.0, 1.96])).round(2).tolist()
    [0.4, 0.5, 0.6]
    """
    size = _trials(wanted, variance, units)
    if size > _ENDLESS:
        return np.full(len(normal), wanted)
    above = ndtr(-_SCORES)
    rank = np.array([_rank(wanted, size, float(part)) for part in above])
    return np.asarray(np.interp(normal, _SCORES, np.clip((rank - above) / size, 0.0, 1.0)))


def at_share(ordered: F64, part: float) -> float:
    """The least of the ordered values that at least such a part of them does not exceed."""
    return float(ordered[place(len(ordered), part)])


def place(n: int, part: float) -> int:
    """Index of that value among ``n`` in order."""
    return min(max(math.ceil(part * n - 1e-9) - 1, 0), n - 1)


@dataclass(frozen=True)
class Swing:
    """What else a figure depends on: how far it falls and rises at the ends of that one's interval of 95%, and how much that goes
    with the rest of its error.

    Attributes:
        down, up: at least 0; correlation: -1 to 1.
    """

    down: float
    up: float
    correlation: float


STILL = Swing(0.0, 0.0, 0.0)


def swung(rest: Estimate, swing: Swing, least: float = 0.0, most: float = math.inf) -> Estimate:
    """The interval of a figure that depends on something else too: squares of distances add up, each side for itself.

    G. Y. Zou and A. Donner (2008), "Construction of confidence limits about effect measures".

    Args:
        rest: the interval, were that other thing known.
        least, most: that the figure can be.
    """

    def side(one: float, other: float) -> float:
        if other == 0 or math.isinf(one):
            return one
        return math.sqrt(max(one * one + other * other + 2 * swing.correlation * one * other, 0.0))

    low, high = side(rest.value - rest.low, swing.down), side(rest.high - rest.value, swing.up)
    return Estimate(rest.value, rest.value - low, rest.value + high).clipped(least, most)


def for_few(figure: Estimate, independent: int) -> Estimate:
    """The same estimate with an interval for so few independent clusters: Student's, as wide as can be for a single one.

    Resampling few clusters understates how they vary, by the root of ``k / (k - 1)``.
    """
    if independent < 2:
        return Estimate(figure.value, -float("inf"), float("inf"))
    wider = float(stdtrit(independent - 1, 0.975)) / Z95 * (independent / (independent - 1)) ** 0.5
    low, high = (figure.value + wider * (end - figure.value) for end in (figure.low, figure.high))
    return Estimate(figure.value, low, high)
