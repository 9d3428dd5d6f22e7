"""Renewal processes, and rates that change over time."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from scipy.special import expit, gammainccinv, gammaincinv, gammaln, ndtri

from ttc_sim.base.draws import F64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.scenario import ClosedLoop, Even, Piecewise, Poisson, Renewal, Shape
from ttc_sim.workload.clock import of_shape
from ttc_sim.workload.traffic import Traffic

Family = Literal["gamma", "weibull"]


_NEARLY_EVEN = (
    0.01  # below this coefficient of variation differences of ln Gamma lose digits, and their series does not
)
_ZETA = (np.pi**2 / 6, 1.2020569031595943, np.pi**4 / 90, 1.0369277551433700, np.pi**6 / 945, 1.0083492773819228)


@lru_cache(maxsize=4096)
def weibull_shape(cv: float) -> float:
    """Shape of the Weibull distribution with that coefficient of variation.

    Solves ``Gamma(1 + 2/k) / Gamma(1 + 1/k)**2 = 1 + cv**2``; infinite where ``cv**2`` is too small for a float.

    >>> round(weibull_shape(1.0), 9), round(weibull_shape(1e-6) * 1e-6, 6)
    (1.0, 1.28255)
    """
    if cv < _NEARLY_EVEN:
        # ln Gamma(1 + x) = -gamma x + zeta(2) x^2 / 2 - zeta(3) x^3 / 3 + ..., and x = 1/k is near cv sqrt(6) / pi.
        weights = [(-1.0) ** n * zeta * (2**n - 2) / n for n, zeta in enumerate(_ZETA, 2)]
        x = cv * np.sqrt(6) / np.pi
        for _ in range(20):
            x = float(np.sqrt(np.log1p(cv * cv) / sum(weight * x**n for n, weight in enumerate(weights))))
        return np.inf if x == 0 else 1 / x

    def gap(log_shape: float) -> float:
        k = float(np.exp(log_shape))
        return float(gammaln(1 + 2 / k) - 2 * gammaln(1 + 1 / k) - np.log1p(cv * cv))

    return float(np.exp(brentq(gap, np.log(0.02), np.log(200.0), xtol=1e-14)))


def gamma_shape(cv: float) -> float:
    """Shape of the Gamma distribution with that coefficient of variation."""
    return 1.0 / max(cv * cv, 1e-300)


def gaps(family: Family, shape: float, u: F64) -> F64:
    """Gaps of mean 1 of a Gamma or Weibull law, by its inverse distribution function.

    A Gamma law of very small shape puts most of its mass below the smallest float: such gaps are 0, requests that arrive
    together, which is what that law means. Draws have 52 bits, so that the longest gap is the law's quantile at ``1 - 2**-53``;
    what lies beyond is less than a part in 1e8 of the mean up to a coefficient of variation of 50.
    """
    if family == "weibull":
        scale = np.exp(-gammaln(1 + 1 / shape))
        return np.asarray(scale * (-np.log1p(-u)) ** (1 / shape))
    if shape == 1.0:
        return -np.log1p(-u)
    return np.asarray(gammaincinv(shape, u) / shape)


def gap_met(family: Family, shape: float, u: F64) -> F64:
    """The gap that an arbitrary moment falls into, in means of all gaps: a long one is met the more often the longer it is.

    Its density is that of the gaps times their length: Gamma of the next shape, or a root of a Gamma for Weibull (D. R. Cox,
    Renewal Theory, 1962, section 5.4). The mean is 1 plus the squared coefficient of variation.
    """
    if family == "weibull":
        scale = np.exp(-gammaln(1 + 1 / shape))
        return np.asarray(scale * gammaincinv(1 + 1 / shape, u) ** (1 / shape))
    return np.asarray(gammaincinv(shape + 1, u) / shape)


_WILSON_HILFERTY = 1e10  # from this shape on their cube of a normal is the Gamma law to the last digit
_LOGITS = 37.0  # beyond any double between 0 and 1, but for the smallest, that a generator gives


@lru_cache(maxsize=4096)
def _log_gamma_quantiles(shape: float) -> CubicSpline:
    """Logarithm of the quantiles of a Gamma law of scale 1, over the logit of the probability.

    Takes a tenth of the time of inverting the distribution function at each, and is within one part in ten million of it.
    """
    knots = np.linspace(-_LOGITS, _LOGITS, 4097)
    below = expit(knots)
    quantile = np.where(knots < 0, gammaincinv(shape, below), gammainccinv(shape, expit(-knots)))
    # Where the law's mass lies below the smallest floats, its distribution function is a power.
    power = (np.log(below) + gammaln(shape + 1)) / shape
    small = quantile < 1e-290
    return CubicSpline(knots, np.where(small, power, np.log(np.where(small, 1.0, quantile))))


def gamma_gaps(shape: float, u: F64) -> F64:
    """As :func:`gaps`, for many gaps of one Gamma law."""
    if shape > _WILSON_HILFERTY:
        cv = 1 / np.sqrt(shape)
        return np.asarray((1 - cv * cv / 9 + ndtri(u) * cv / 3) ** 3)
    logit = np.log(np.maximum(u, 1e-300)) - np.log1p(-u)
    return np.asarray(np.exp(_log_gamma_quantiles(shape)(np.maximum(logit, -_LOGITS))) / shape)


def unit_arrivals(family: Family, cv: float, count: int, seed: int, stream: str) -> F64:
    """Arrival times of a renewal process of rate 1.

    The first gap is an ordinary one: the process starts as if a request had arrived at 0, the same for every policy.
    """
    shape = weibull_shape(cv) if family == "weibull" else gamma_shape(cv)
    u = uniforms(seed, stream, count)[:, 0]
    return np.cumsum(gamma_gaps(shape, u) if family == "gamma" and shape != 1.0 else gaps(family, shape, u))


def renewal(family: Family, rate_per_s: float, cv: float, requests: int, seed: int, run: str) -> Traffic:
    """Independent gaps of mean ``1 / rate_per_s`` and coefficient of variation ``cv``."""
    arrival_s = unit_arrivals(family, cv, requests, seed, f"arrivals/{run}") / rate_per_s
    return Traffic(arrival_s, np.zeros(requests, dtype=np.int64), None, None, None, None, rate_per_s)


def even(rate_per_s: float, requests: int) -> Traffic:
    """One request every ``1 / rate_per_s`` seconds, the first after one such gap."""
    arrival_s = np.arange(1, requests + 1) / rate_per_s
    return Traffic(arrival_s, np.zeros(requests, dtype=np.int64), None, None, None, None, rate_per_s)


def shaped(arrivals: Poisson | Renewal | Even, shape: Shape, requests: int, seed: int, run: str) -> Traffic:
    """The same process on the clock of the rate that changes: gaps are as even or as bursty in busy as in quiet times, counted in
    requests.

    Its mean rate is that of a day or a week or, of one that grows, that at which so many requests are expected. At a rate that
    shrinks, those that never come arrive at infinity.
    """
    clock = of_shape(shape, arrivals.rate_per_s)
    if isinstance(arrivals, Even):
        expected = np.arange(1.0, requests + 1)
    elif isinstance(arrivals, Poisson):
        expected = unit_arrivals("gamma", 1.0, requests, seed, f"arrivals/{run}")
    else:
        expected = unit_arrivals(arrivals.process, arrivals.cv, requests, seed, f"arrivals/{run}")
    arrival_s = clock.moments(expected)
    rate_per_s = arrivals.rate_per_s
    if clock.growth_per_s:
        rate_per_s = requests / float(clock.moments(np.array([float(requests)]))[0])
    return Traffic.of(arrival_s, rate_per_s)


def piecewise(arrivals: Piecewise, requests: int, seed: int, run: str, *, where: str) -> Traffic:
    """Rates that hold for a while each, over and over: a unit-rate process run on the clock of the cumulative rate.

    With ``cv`` 1 this is the exact inhomogeneous Poisson process; with another, bursts are as strong in busy as in quiet
    times, counted in requests.

    Raises:
        InputError: rates that are all zero.
    """
    duration = np.array([step.duration_s for step in arrivals.steps])
    rate = np.array([step.rate_per_s for step in arrivals.steps])
    per_cycle = float(duration @ rate)
    if per_cycle <= 0:
        raise InputError(where, "workload.arrivals.steps", rate.tolist(), "at least one rate above 0")
    operational = unit_arrivals("gamma", arrivals.cv, requests, seed, f"arrivals/{run}")
    cycle, within = np.divmod(operational, per_cycle)
    mass = np.concatenate([[0.0], np.cumsum(duration * rate)])
    start = np.concatenate([[0.0], np.cumsum(duration)])
    step = np.minimum(np.searchsorted(mass, within, side="right") - 1, len(rate) - 1)
    into = (within - mass[step]) / np.where(rate[step] > 0, rate[step], 1.0)
    arrival_s = np.maximum.accumulate(cycle * duration.sum() + start[step] + np.minimum(into, duration[step]))
    none = np.zeros(requests, dtype=np.int64)
    return Traffic(arrival_s, none, None, None, None, None, per_cycle / float(duration.sum()))


def closed_loop(loop: ClosedLoop, requests: int, seed: int, run: str, *, where: str) -> Traffic:
    """Users that each send the next request when the last is answered; think times are exponential.

    Raises:
        InputError: fewer requests than users, some of whom would never send one.
    """
    if requests < loop.users:
        expected = f"at most {requests:,}, the requests of a run: every user sends at least one"
        raise InputError(where, "workload.arrivals.users", loop.users, expected)
    think_s = -loop.think_s * np.log(uniforms(seed, f"think/{run}", requests)[:, 0])
    arrival_s = np.full(requests, np.nan)
    arrival_s[: loop.users] = np.sort(think_s[: loop.users])
    index = np.arange(requests, dtype=np.int64)
    return Traffic(
        arrival_s=arrival_s,
        client=index % loop.users,
        prompt_tokens=None,
        reasoning_tokens=None,
        visible_tokens=None,
        prefix_id=None,
        rate_per_s=float("nan"),
        after=np.where(index < loop.users, -1, index - loop.users),
        think_s=think_s,
    )
