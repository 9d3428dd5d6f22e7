"""Rates that change: how many arrivals are expected until a moment, and until when so many are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.scenario import Piecewise, Shape

HOUR_S, WEEK_S = 3600.0, 604800.0
_NO_GROWTH = 1e-15  # a week: less is lost among the digits of a time, whatever the run


@dataclass(frozen=True)
class Clock:
    """Rates that hold for a while each, over and over, all of them growing alike.

    A process of unit rate whose times are read as numbers of expected arrivals, and turned into moments by :meth:`moments`, is the
    exact process of that rate: inhomogeneous Poisson where the one of unit rate is Poisson (E. Çinlar, Introduction to Stochastic
    Processes, 1975, section 4.7).

    Attributes:
        lasts_s: (k,) seconds that each rate holds for; rate_per_s: (k,) at the start, one of them above 0.
        growth_per_s: growth of the logarithm of the rates.

    >>> clock = Clock(np.array([60.0, 60.0]), np.array([1.0, 0.0]))
    >>> clock.expected(150.0), clock.moments(np.array([30.0, 61.0]))
    (90.0, array([ 30., 121.]))
    """

    lasts_s: F64
    rate_per_s: F64
    growth_per_s: float = 0.0

    @cached_property
    def cycle_s(self) -> float:
        """Seconds until it starts over."""
        return float(self.lasts_s.sum())

    @cached_property
    def mean_per_s(self) -> float:
        """Mean rate over a cycle, before growth."""
        return float(self.lasts_s @ self.rate_per_s) / self.cycle_s

    @cached_property
    def _begins_s(self) -> F64:
        return np.concatenate([[0.0], np.cumsum(self.lasts_s)[:-1]])

    @cached_property
    def _upto(self) -> F64:
        """(k + 1,) expected in the first cycle until each rate begins, and until its end."""
        masses = self.rate_per_s * np.exp(self.growth_per_s * self._begins_s) * self._grown(self.lasts_s)
        return np.concatenate([[0.0], np.cumsum(masses)])

    def _grown(self, seconds: F64) -> F64:
        """Seconds, each counted by how much larger the rate is by then."""
        return np.expm1(self.growth_per_s * seconds) / self.growth_per_s if self.growth_per_s else seconds

    def _cycles(self, count: F64) -> F64:
        """Arrivals expected in so many whole cycles."""
        each, of_cycle = float(self._upto[-1]), self.growth_per_s * self.cycle_s
        return each * (np.expm1(of_cycle * count) / math.expm1(of_cycle) if of_cycle else count)

    def expected(self, at_s: float) -> float:
        """Arrivals expected before a moment; infinite where growth makes them more than can be written."""
        with np.errstate(over="ignore"):
            cycle, within = np.divmod(at_s, self.cycle_s)
            k = int(np.searchsorted(self._begins_s, within, side="right")) - 1
            begun = float(self._grown(within - self._begins_s[k])) * float(
                np.exp(self.growth_per_s * self._begins_s[k])
            )
            inside = float(self._upto[k]) + float(self.rate_per_s[k]) * begun
            whole = float(self._cycles(cycle))
            if not inside or math.isinf(whole):
                return whole
            return whole + float(np.exp(self.growth_per_s * self.cycle_s * cycle)) * inside

    def moments(self, expected: F64) -> F64:
        """When so many arrivals are expected, each; infinite where a shrinking rate never comes to it."""
        each, of_cycle = float(self._upto[-1]), self.growth_per_s * self.cycle_s
        if of_cycle:
            done = expected * (math.expm1(of_cycle) / each)
            with np.errstate(divide="ignore", invalid="ignore"):
                cycle = np.floor(np.where(done > -1, np.log1p(np.maximum(done, -1.0)), np.nan) / of_cycle)
            cycle = np.maximum(cycle, 0.0)
            cycle += self._cycles(cycle + 1) <= expected  # of rounding
            cycle -= self._cycles(cycle) > expected
            within = (expected - self._cycles(cycle)) * np.exp(-of_cycle * cycle)
        else:
            cycle, within = np.divmod(expected, each)
        last = int(np.flatnonzero(self.rate_per_s)[-1])  # none comes in what follows it
        k = np.minimum(np.searchsorted(self._upto, within, side="right") - 1, last)
        into = (within - self._upto[k]) / np.where(self.rate_per_s > 0, self.rate_per_s, 1.0)[k]
        if self.growth_per_s:
            into = np.log1p(self.growth_per_s * into * np.exp(-self.growth_per_s * self._begins_s)[k])
            into /= self.growth_per_s
        at_s = cycle * self.cycle_s + self._begins_s[k] + np.minimum(into, self.lasts_s[k])
        return np.where(np.isnan(at_s), np.inf, np.maximum.accumulate(at_s))


def of_shape(shape: Shape, rate_per_s: float) -> Clock:
    """A rate over the hours, days and weeks of a run."""
    factors = np.array(shape.factors)
    first, into = divmod(shape.starts_h, 1.0)
    rate = rate_per_s * np.roll(factors, -int(first))
    lasts_s = np.full(len(rate), HOUR_S)
    if into:  # the hour that the run begins in ends a cycle too
        rate = np.append(rate, rate[0])
        lasts_s = np.append(lasts_s, into * HOUR_S)
        lasts_s[0] -= lasts_s[-1]
    growth = math.log1p(shape.growth_per_week)
    return Clock(lasts_s, rate, growth / WEEK_S if abs(growth) > _NO_GROWTH else 0.0)


def of_steps(arrivals: Piecewise) -> Clock:
    """The steps of a rate that is said step by step."""
    steps = arrivals.steps
    return Clock(np.array([step.duration_s for step in steps]), np.array([step.rate_per_s for step in steps]))
