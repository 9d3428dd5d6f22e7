"""Targets as what a proposer can limit: sums over problems of what each arm is expected to break.

A percentile is a limit on the share of requests that take longer, goodput one on the share that is not good, the accuracy of a
source one on the share that is wrong: each is a sum over problems of the arm that they are sent to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.optimizer.proposing.budgets import budget_targets
from ttc_sim.scenario import Slo, Target, Targets
from ttc_sim.scenario.targets import percentile_of
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.simulation.expected_times import Most, Waiting, broken_share, waits_for_pools

_NONE = Slo(latency_s=1e300)
_DECADES = np.geomspace(1e-4, 1e5, 10)  # seconds between which all percentiles are looked for
_POINTS = 10  # seconds within each decade that a percentile may lie in
_OF_ALL = ("accuracy", "cost_usd_per_request", "cost_usd_per_day", "timeout_rate", "cut_off_rate")


@dataclass(frozen=True)
class Objective:
    """What may be broken so often at most.

    Attributes:
        target: that it stands for; most: share of its requests, or US dollars of API calls a request.
    """

    target: Target
    most: float


@dataclass(frozen=True)
class Goal:
    """What a program makes least: a sum over problems of US dollars, wrong answers and what is broken of one objective.

    Attributes:
        usd, right, broken: by how much each counts; right answers count the other way.
    """

    usd: float = 0.0
    right: float = 0.0
    broken: float = 0.0


@dataclass(frozen=True)
class Slowness:
    """How often each arm takes longer than some seconds for each problem.

    Attributes:
        most: share of the requests that may be later than a percentile.
        seconds: (T,) ascending; share: (T, V, P), NaN where not offered.
    """

    most: float
    seconds: F64
    share: F64

    def at(self, seconds: float) -> F64:
        """(V, P) chances to take longer than that, between those that were worked out."""
        place = float(np.interp(np.log(seconds), np.log(self.seconds), np.arange(len(self.seconds))))
        k = min(int(place), len(self.seconds) - 2)
        return np.asarray((k + 1 - place) * self.share[k] + (place - k) * self.share[k + 1])

    def percentile(self, arm: I64, weight: F64) -> float:
        """Seconds that no more than ``most`` of the requests take longer than, where each problem goes to one arm, (P,)."""
        later = self.share[:, arm, np.arange(len(arm))] @ weight
        falling = np.minimum.accumulate(later)
        if falling[-1] > self.most:
            return float(self.seconds[-1])
        k = int(np.argmax(falling <= self.most))
        if k == 0:
            return float(self.seconds[0])
        part = (falling[k - 1] - self.most) / (falling[k - 1] - falling[k])
        return float(np.exp(np.interp(part, [0.0, 1.0], np.log(self.seconds[k - 1 : k + 1]))))


def slowness_of(
    expectations: Expectations, key: str, waiting: Mapping[str, Waiting], before: Slowness | None = None
) -> Slowness:
    """How often each arm takes longer than what a percentile may come to, at as many seconds as tell it to a percent or so.

    Args:
        key: of the percentile, such as ``latency_p95_s``.
        before: the same at other times of the pools, of which arms that use none are taken.
    """
    time, part = percentile_of(key) or ("latency", 0.5)
    weight, most = expectations.population.weight, 1 - part
    arms = [v for v in range(len(expectations.model.arms)) if before is None or waits_for_pools(expectations, v)]

    def shares(seconds: F64) -> F64:
        limits = [_no_longer_than(time, float(one)) for one in seconds]
        # A few at a time: the more times to the first token an endpoint's speeds must tell apart, the more of them there are.
        groups = [limits[k : k + 4] for k in range(0, len(limits), 4)]
        sources = len(expectations.population.sources)
        return np.concatenate(
            [broken_share(expectations, [[one] * sources for one in group], waiting, arms) for group in groups]
        )

    if before is not None:
        share = before.share.copy()
        share[:, arms] = shares(before.seconds)[:, arms]
        return Slowness(most, before.seconds, share)
    rough = shares(_DECADES)
    best = np.nanmin(rough, axis=1) @ weight
    offered = (~np.isnan(rough[0])) @ weight
    worst = (np.nan_to_num(rough) @ weight / np.maximum(offered, 1e-12)).max(axis=1)
    low = max(int(np.count_nonzero(best > most)) - 1, 0)
    high = min(int(np.count_nonzero(worst > most)), len(_DECADES) - 1)
    # Pools may turn out to be faster, or slower, than they are taken for.
    if any(waits_for_pools(expectations, v) for v in range(len(expectations.model.arms))):
        low, high = max(low - 1, 0), min(high + 1, len(_DECADES) - 1)
    seconds = np.geomspace(_DECADES[low], _DECADES[max(high, low + 1)], _POINTS * max(high - low, 1))
    return Slowness(most, seconds, shares(seconds))


def bad_share(expectations: Expectations, targets: Targets, waiting: Mapping[str, Waiting]) -> F64:
    """(V, P) chance that a request is not answered within its service-level objectives: what goodput has not."""
    limits = [_slo_of(targets, name) for name in expectations.population.sources]
    return np.asarray(broken_share(expectations, [limits], waiting)[0])


def objectives_of(targets: Targets, usd_per_day: float, budgets: Iterable[Target] = ()) -> dict[str, Objective]:
    """By name, the targets that are limits of their own; not those of all requests on accuracy, cost and timeouts, which have
    theirs, nor on rejections and failures, of which nothing is known before simulation.

    Args:
        usd_per_day: what one US dollar a request comes to in a day, of all requests.
        budgets: hard ones (:func:`ttc_sim.optimizer.proposing.budgets.budget_targets`), beside them.
    """
    found = {}
    asked = [
        one
        for one in targets.asked()
        if one.key not in ("rejected_rate", "failed_rate") and (one.source is not None or one.key not in _OF_ALL)
    ]
    for target in (*asked, *budgets):
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
    budgets = budget_targets(expectations.model.scenario)
    asked = [one.target for one in objectives_of(targets, 1.0, budgets).values()]
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
        return _no_longer_than(target.percentile[0], target.bound)
    if target.key != "goodput":
        return Most(answered=True)
    return _slo_of(targets, source)


def _no_longer_than(time: str, seconds: float) -> Most:
    if time == "latency":
        return Most(latency_s=seconds)
    return Most(ttft_s=seconds) if time == "ttft" else Most(tpot_s=seconds)


def _slo_of(targets: Targets, source: str) -> Most:
    slo = targets.slo_of(source) or _NONE
    latency_s, ttft_s, tpot_s = (np.inf if one is None else one for one in (slo.latency_s, slo.ttft_s, slo.tpot_s))
    return Most(latency_s, ttft_s, tpot_s, answered=True)
