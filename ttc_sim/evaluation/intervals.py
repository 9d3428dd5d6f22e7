"""Intervals of means over problems that stay wide where little was measured: one problem, or all of them alike."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from ttc_sim.base.draws import F64
from ttc_sim.base.estimates import Z95, Estimate, Resampler
from ttc_sim.base.intervals import of_units, wilson


def share_interval(values: F64, table: Resampler, doubt: float = 0.0) -> Estimate:
    """Mean of shares (0 to 1) over problems, with a 95% interval.

    Wilson's interval (1927) of as many trials as clusters say as much as. A cluster of problems that says no more than one trial
    of all or nothing is the worst there can be; how much more it says is what the variance between clusters falls short of that,
    with one such cluster more, so that few clusters, or clusters that are all 0 or all 1, cannot claim it.

    Args:
        values: (P,) of the problems; table: the clusters that they are resampled by.
        doubt: standard error of what was modelled, not measured.

    >>> one = share_interval(np.ones(1), Resampler.of(np.zeros(1, dtype=np.int64)))
    >>> round(one.low, 2), one.value, round(one.high, 2)
    (0.21, 1.0, 1.0)
    """
    value, variance, clusters = _resampled(values, table)
    value = min(max(value, 0.0), 1.0)
    found, worst = (clusters - 1) * variance * clusters, (clusters - 1) * value * (1 - value)
    ratio = min((found + 0.25) / (worst + 0.25), 1.0)
    # Of few clusters the variance is little known either, but no variance is worse than the worst.
    z2 = min(float(stdtrit(clusters, 0.975)) ** 2, Z95**2 / ratio)
    trials = clusters / ratio
    return _doubted(value, *wilson(value, z2 / trials), doubt).clipped(0, 1)


def mean_interval(values: F64, table: Resampler, doubt: float = 0.0) -> Estimate:
    """Mean of numbers above 0 over problems, with a 95% interval.

    Student's t for the logarithm of the mean, as lengths and bills are skewed: more lies above the mean than below. The variance
    between clusters is taken with one more cluster that is as far from the mean as that is from 0, so that one problem alone says
    little; where few clusters are far off, with the degrees of freedom of as few.

    Args:
        values: (P,) of the problems; table: the clusters that they are resampled by.
        doubt: standard error of what was modelled, not measured.

    >>> one = mean_interval(np.array([500.0]), Resampler.of(np.zeros(1, dtype=np.int64)))
    >>> one.low < 5 < 5000 < one.high
    True
    """
    value, variance, clusters = _resampled(values, table)
    if value <= 0:
        return Estimate(value, value, value)
    spread = ((clusters - 1) * variance * clusters / value**2 + 1) / clusters
    df = min(clusters, of_units(values - value, table.cluster).df)
    half = float(stdtrit(df, 0.975) * np.sqrt(spread / clusters))
    return _doubted(value, value * np.exp(-half), value * np.exp(min(half, 50.0)), doubt).clipped(0)


def _resampled(values: F64, table: Resampler) -> tuple[float, float, int]:
    """Mean, its variance by resampling (with all degrees of freedom), and the number of clusters."""
    value, resampled = table.mean(values, np.zeros(len(values), dtype=np.int64), np.ones(1))
    clusters = len(np.unique(table.cluster))
    return value, float(resampled.var()) * clusters / max(clusters - 1, 1), clusters


def _doubted(value: float, low: float, high: float, doubt: float) -> Estimate:
    return Estimate(
        value, value - float(np.hypot(value - low, Z95 * doubt)), value + float(np.hypot(high - value, Z95 * doubt))
    )
