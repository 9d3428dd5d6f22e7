"""Targets as what a proposer can limit: sums over problems of what each arm is expected to break.

A percentile is a limit on the share of requests that take longer, goodput one on the share that is not good, the accuracy of a
source one on the share that is wrong: each is a sum over problems of the arm that they are sent to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.scenario import Slo, Target, Targets
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.simulation.expected_times import Most, Waiting, broken_share

_NONE = Slo(latency_s=1e300)
_OF_ALL = ("accuracy", "cost_usd_per_request", "cost_usd_per_day", "timeout_rate", "cut_off_rate")


@dataclass(frozen=True)
class Objective:
    """What may be broken so often at most.

    Attributes:
        target: that it stands for; most: share of its requests, or US dollars of API calls a request.
    """

    target: Target
    most: float


def objectives_of(targets: Targets, usd_per_day: float) -> dict[str, Objective]:
    """By name, the targets that are limits of their own; not those of all requests on accuracy, cost and timeouts, which have
    theirs, nor on rejections and failures, of which nothing is known before simulation.

    Args:
        usd_per_day: what one US dollar a request comes to in a day, of all requests.
    """
    found = {}
    for target in targets.asked():
        if target.key in ("rejected_rate", "failed_rate") or (target.source is None and target.key in _OF_ALL):
            continue
        most = target.bound
        if target.percentile is not None:
            most = 1 - target.percentile[1]
        elif target.at_least:
            most = 1 - target.bound
        elif target.key == "cost_usd_per_day":
            most = target.bound / usd_per_day
        found[target.name] = Objective(target, most)
    return found


def broken_by_arm(
    expectations: Expectations,
    targets: Targets,
    waiting: Mapping[str, Waiting],
    only: Collection[int] | None = None,
) -> F64:
    """(objectives + 1, V, P) what each arm is expected to break for each problem, timeouts last; NaN where not offered.

    Those of a source are 0 for problems of others, and count as many times more as it is a part of all. Of arms that are not
    ``only``, if those are given, it is NaN.
    """
    population = expectations.population
    asked = [one.target for one in objectives_of(targets, 1.0).values()]
    limits = [[_most(targets, one, name) for name in population.sources] for one in asked]
    found = broken_share(expectations, [*limits, [Most(answered=True)] * len(population.sources)], waiting, only)
    for k, target in enumerate(asked):
        here = np.ones(len(population), dtype=np.bool_)
        times = 1.0
        if target.source is not None:
            s = population.sources.index(target.source) if target.source in population.sources else -1
            here = population.source == s
            times = 1.0 / float(population.share[s]) if s >= 0 else 0.0
        values = found[k]
        if target.key == "accuracy":
            values = 1 - expectations.correct
        elif target.key in ("cost_usd_per_request", "cost_usd_per_day"):
            # That of a day is not divided by the source's part: it is of the source's own requests.
            values, times = expectations.api_cost_usd, times if target.key == "cost_usd_per_request" else 1.0
        found[k] = np.where(np.isnan(found[k]), np.nan, np.where(here, times * values, 0.0))
    return found


def _most(targets: Targets, target: Target, source: str) -> Most | None:
    """What a request of a source must keep to."""
    if target.source not in (None, source):
        return None
    if target.percentile is not None:
        time = target.percentile[0]
        if time == "latency":
            return Most(latency_s=target.bound)
        return Most(ttft_s=target.bound) if time == "ttft" else Most(tpot_s=target.bound)
    if target.key != "goodput":
        return Most(answered=True)
    slo = targets.slo_of(source) or _NONE
    latency_s, ttft_s, tpot_s = (np.inf if one is None else one for one in (slo.latency_s, slo.ttft_s, slo.tpot_s))
    return Most(latency_s, ttft_s, tpot_s, answered=True)
