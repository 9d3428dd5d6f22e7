"""With what chance a target holds, given how uncertain its figure is.

A figure and its interval of 95% say how far the figure may be off on either side. What that leaves of a target's chance depends on
what the figure is: a share, a mean of what is never negative, or a percentile, which holds where few enough requests are later.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from scipy.special import betainc

from ttc_sim.base.estimates import Z95, Estimate
from ttc_sim.scenario import Target
from ttc_sim.simulation.summary import Summary


def quantile_of(confidence: float) -> float:
    """Standard errors that a figure must stay clear of its bound by, to hold with that chance.

    >>> round(quantile_of(0.5), 3), round(quantile_of(0.95), 3)
    (0.0, 1.645)
    """
    return NormalDist().inv_cdf(confidence)


def chance_of(summary: Summary, target: Target, figure: Estimate) -> float:
    """Chance that a target holds, 0 to 1; at least a half if and only if its figure keeps it.

    Args:
        figure: that the target is about, with its interval of 95%.
    """
    if math.isnan(figure.value):
        return 0.0
    keeps = figure.value >= target.bound if target.at_least else figure.value <= target.bound
    asked = summary.asked.get(target.name)
    if target.percentile is not None and asked is not None and asked.late is not None and asked.bound == target.bound:
        chance = chance_of_at_most(asked.late, 1 - target.percentile[1])
    elif target.is_share:
        chance = chance_of_at_most(figure, target.bound)
        chance = 1 - chance if target.at_least else chance
    else:
        chance = _chance_of_mean(figure, target.bound)
    return max(chance, 0.5) if keeps else min(chance, math.nextafter(0.5, 0))


def chance_of_at_most(share: Estimate, most: float) -> float:
    """Chance that a share is at most so much.

    H. Jeffreys' beta distribution on as many trials as would give Wilson's interval of that width: of one-sided limits of shares
    those that are neither too sure of few cases nor too unsure (T. T. Cai, 2005).

    >>> chance_of_at_most(Estimate(0.0, 0.0, 0.0), 0.01)
    1.0
    >>> round(chance_of_at_most(Estimate(0.0, 0.0, 0.0631), 0.02), 2)  # none of 57
    0.87
    """
    value, end = share.value, share.high if share.value <= most else share.low
    if abs(end - value) <= 1e-12:
        end = share.low if share.value <= most else share.high  # that end is cut off at 0 or 1
        if abs(end - value) <= 1e-12:
            return float(value <= most)
    if most <= 0 or most >= 1:
        return float(most >= 1)
    trials = Z95**2 * max(end * (1 - end), 0.0) / (end - value) ** 2
    # An interval that reaches to 0 or 1 says no more of the trials than that there are few.
    trials = max(trials, Z95**2 * max(value * (1 - value), 1e-12) / (end - value) ** 2 if end in (0.0, 1.0) else 0.0)
    return float(betainc(trials * value + 0.5, trials * (1 - value) + 0.5, most))


def _chance_of_mean(figure: Estimate, most: float) -> float:
    """Chance that a mean of what is never negative is at most so much: normal in one over its root, as its interval is."""
    value, low, high = figure.value, figure.low, figure.high
    if value <= 0 or most <= 0:
        return float(value <= most)
    off = 1 - math.sqrt(value / most)
    half = 1 - math.sqrt(value / high) if off >= 0 else math.sqrt(value / low) - 1 if low > 0 else math.inf
    if half <= 1e-12:
        return float(off >= -1e-9)
    return NormalDist().cdf(Z95 * off / half)
