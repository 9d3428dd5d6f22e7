"""How long the pools of a run, and endpoints with a fixed fee, are paid for."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ttc_sim.engine.work import EngineResult
from ttc_sim.scenario import Clients, ClosedLoop, Even, Piecewise, Poisson, Renewal, Trace, Workload
from ttc_sim.scenario.traffic import Arrivals
from ttc_sim.workload import Traffic
from ttc_sim.workload.clock import of_shape


def paid_seconds(
    workload: Workload, traffic: Traffic, result: EngineResult, on_pool: NDArray[np.bool_], behind: bool
) -> float:
    """Seconds for which the pools in use are provided, and paid for, to serve the requests of one run.

    Pools are provided from the first arrival to the last answer that one of them gives. That is what a trace is billed, and pools
    that are still behind as the last request arrives. Otherwise the requests of a run are a stretch of traffic that goes on, and
    share the pools with those before and after them: they are not charged for the pools' filling and draining, so that the bill of
    a request does not depend on how many of them were simulated:

    * at a rate, or in steps of rates: the time in which so many requests come, in the mean;
    * from measured clients: from the first to the last arrival, and one mean gap;
    * from users who wait for their answers: the time that so many take at the rate at which the middle half was answered or, where
      replicas come and go, so that no half is like the other, from the first arrival to the last answer;
    * from several processes: the time in which so many of all of them come, in the mean.

    Where a duration was asked for, that is what is paid, from the start of the clock on; longer, if a pool is behind at its end.

    Args:
        workload: as the scenario says; traffic: those of the run.
        on_pool: (n,) whether a stage of the request belongs to a GPU pool.
        behind: whether a pool was still behind as the last request arrived.
    """
    first_s, last_s = float(np.nanmin(result.arrival_s)), float(np.nanmax(result.arrival_s))
    answered_s = max(float(np.max(result.finished_s[on_pool], initial=last_s)), last_s)
    if traffic.lasts_s is not None:
        return max(answered_s, traffic.lasts_s) if behind else traffic.lasts_s
    arrivals = _only(workload)
    if isinstance(arrivals, ClosedLoop):
        changed = result.fleet is not None and len(result.fleet.at_s) > 0
        return (0.0 if changed else _of_users(result, len(result.arrival_s))) or answered_s - first_s
    if isinstance(arrivals, Trace) or behind:
        return answered_s - first_s
    return seconds_of_arrivals(workload, traffic)


def seconds_of_fees(workload: Workload, traffic: Traffic, pools_s: float) -> float:
    """Seconds for which the fixed fees of endpoints are paid where no pool is: those that so many requests take at their rate.

    So a fee adds itself to the cost of a day, and its share of a day's requests to the cost of each, and changes nothing else.

    Args:
        pools_s: for which pools would be paid. So are fees of users who wait for their answers, of traffic that lasts for as long
            as was asked for, and of requests that all come at one instant.
    """
    known = math.isfinite(traffic.rate_per_s) and traffic.rate_per_s > 0
    if workload.has_users or traffic.lasts_s is not None or not known:
        return pools_s
    return len(traffic.arrival_s) / traffic.rate_per_s


def _only(workload: Workload) -> Arrivals | None:
    """The process that all requests come by, or the sessions that they are of; ``None`` of several."""
    processes = workload.processes
    return processes[0].begins if len(processes) == 1 else None


def paid_from(workload: Workload, traffic: Traffic, result: EngineResult, behind: bool) -> float:
    """When those seconds begin: at the first arrival, or with the clock where they are the arrivals' own."""
    arrivals = _only(workload)
    if traffic.lasts_s is not None:
        return 0.0
    if behind or isinstance(arrivals, (Trace, Clients, ClosedLoop)):
        return float(np.nanmin(result.arrival_s))
    return 0.0


def seconds_of_arrivals(workload: Workload, traffic: Traffic) -> float:
    """Seconds for which pools that keep up are paid for, as far as can be said before anything is served; NaN of a closed loop.

    Of a trace it is the time from the first to the last arrival, so 0 where all come at one instant.
    """
    n: float = len(traffic.arrival_s)
    if traffic.lasts_s is not None:
        return traffic.lasts_s
    arrivals = _only(workload)
    shape = getattr(arrivals, "shape", None)
    if traffic.session is not None and (isinstance(arrivals, Piecewise) or shape is not None):
        if shape is not None and shape.growth_per_week:
            return n / traffic.rate_per_s
        n *= _mean_rate(arrivals) / traffic.rate_per_s  # sessions that so many requests are of, in the mean
    if isinstance(arrivals, Piecewise):
        return _of_steps(arrivals, n)
    if isinstance(arrivals, (Poisson, Renewal, Even)) and arrivals.shape is not None:
        return float(of_shape(arrivals.shape, arrivals.rate_per_s).moments(np.array([float(n)]))[0])
    if isinstance(arrivals, (Clients, Trace)):
        span_s = float(np.max(traffic.arrival_s) - np.min(traffic.arrival_s))
        if isinstance(arrivals, Trace):
            return span_s
        if n > 1:
            return span_s * n / (n - 1)
    return n / traffic.rate_per_s


def _of_users(result: EngineResult, n: int) -> float:
    """By the middle half of the answers, those at one instant all or none; 0 where it takes no time."""
    answered_s = np.sort(result.finished_s)
    low_s, high_s = answered_s[n // 4], answered_s[(3 * n) // 4]
    inside = int(((answered_s > low_s) & (answered_s <= high_s)).sum())
    return n * float(high_s - low_s) / inside if inside else 0.0


def _mean_rate(arrivals: Arrivals | None) -> float:
    if isinstance(arrivals, Piecewise):
        steps = arrivals.steps
        return sum(one.duration_s * one.rate_per_s for one in steps) / sum(one.duration_s for one in steps)
    return float(getattr(arrivals, "rate_per_s", math.nan))


def _of_steps(arrivals: Piecewise, n: float) -> float:
    duration_s = np.array([step.duration_s for step in arrivals.steps])
    come = np.cumsum([0.0, *(step.duration_s * step.rate_per_s for step in arrivals.steps)])
    cycles, left = divmod(n, float(come[-1]))
    into_s = float(np.interp(left, come, np.cumsum([0.0, *duration_s]))) if left else 0.0
    return cycles * float(duration_s.sum()) + into_s
