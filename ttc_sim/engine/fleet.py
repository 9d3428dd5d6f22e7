"""Replicas' lives, as both engines have them: states, draws of failures, and the arithmetic of autoscaling.

A pool has as many places for replicas as it may have at one time. Autoscaling follows Kubernetes' HorizontalPodAutoscaler
(``pkg/controller/podautoscaler``): the number wanted is what is needed to bring the metric to its target, rounded up, unless it is
within the tolerance; of what was wanted lately the most cautious counts; steps and bounds come last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.scenario.fleet import RULES

OFF, STARTING, IN_SERVICE, DRAINING, UNDER_REPAIR = range(5)
# What happens to replicas at one instant, in this order; of one kind by number of the replica or the deployment.
FAIL, REPAIRED, READY, DECIDE = range(4)
FIXED, SCHEDULE, CONCURRENCY, UTILISATION, QUEUE, TTFT = range(6)
MOST_LOOKS = 20_000_000

_INTEGERS = (
    "rule least most wanted serving active looks_mean looks_up looks_down step_up step_down ring ring_size look steps first_step"
    " heard_from at_random"
)
_FLOATS = "target tolerance every_s start_s cooldown_up_s cooldown_down_s changed_s cycle_s percentile window_s"
# Of each deployment: its rule; how many are wanted, in service, and these with those that start; its rings of looks.
FLEET = np.dtype([(name, np.int64) for name in _INTEGERS.split()] + [(name, np.float64) for name in _FLOATS.split()])


def order_of(what: int, number: int) -> int:
    """Of what happens to replicas at one instant, the lowest comes first."""
    return what << 32 | number


@dataclass(frozen=True)
class FailureTimes:
    """Draws of random failures: for each replica, how long it serves each time, and how long it is repaired after that.

    Args:
        seed, label: of the run, as for :func:`ttc_sim.base.draws.uniforms`.
    """

    seed: int = 0
    label: str = "engine"

    def drawn(self, names: Sequence[str], deployments: Sequence[Api | GpuPool], count: int) -> F64:
        """(replicas of all pools, count, 2) seconds; infinite where a pool does not fail at random, nothing where none does.

        Of a larger count they are the same, and more.
        """
        parts = []
        given_ = (pool.failures for pool in deployments if isinstance(pool, GpuPool))
        if not any(one is not None and one.mtbf_h is not None for one in given_):
            return np.zeros((0, count, 2))
        for name, pool in zip(names, deployments, strict=True):
            if not isinstance(pool, GpuPool):
                continue
            given = pool.failures
            for place in range(pool.most_replicas * pool.data_parallel):
                if given is None or given.mtbf_h is None or given.mttr_h is None:
                    parts.append(np.full((count, 2), np.inf))
                    continue
                u = uniforms(self.seed, f"{self.label}/failures/{name}/{place}", count, 2)
                parts.append(-np.log(u) * 3600.0 * np.array([given.mtbf_h, given.mttr_h]))
        return np.stack(parts)


@dataclass(frozen=True)
class Fleets:
    """What decides on replicas' lives, of all deployments.

    Attributes:
        of: (deployments,) records of :data:`FLEET`.
        step_s, step_replicas: of all schedules, from ``first_step`` of each on.
        counts, wanted: rings of what was seen and wanted at each look, from ``ring`` of each on.
    """

    of: NDArray[Any]
    step_s: F64
    step_replicas: I64
    counts: I64
    wanted: I64


def fleets_of(deployments: Sequence[Api | GpuPool], last_arrival_s: float) -> Fleets:
    """As a run begins.

    Raises:
        InputError: more looks at the metric than a run can have.
        ValueError: a start-up whose time is not known.
    """
    of = np.zeros(len(deployments), dtype=FLEET)
    step_s: list[float] = []
    step_replicas: list[int] = []
    rings = 0
    for d, pool in enumerate(deployments):
        if not isinstance(pool, GpuPool):
            continue
        row, scaled = of[d], pool.autoscaling
        row["wanted"] = row["serving"] = row["active"] = pool.replicas
        row["least"], row["most"], row["changed_s"] = pool.replicas, pool.most_replicas, -np.inf
        row["at_random"] = pool.failures is not None and pool.failures.mtbf_h is not None
        if pool.start_up is not None:
            if pool.start_up.takes_s is None:
                raise ValueError("start_up: the weights of the model are not known")
            row["start_s"] = pool.start_up.takes_s
        if scaled is None:
            continue
        row["rule"], row["least"] = 1 + RULES.index(scaled.rule), scaled.least
        if scaled.schedule is not None:
            begins, counts, row["cycle_s"] = scaled.changes
            row["steps"], row["first_step"] = len(begins), len(step_s)
            step_s += begins
            step_replicas += counts
            continue
        every_s = row["every_s"] = scaled.looks_every_s
        if last_arrival_s / every_s > MOST_LOOKS:
            raise InputError(
                "run", "autoscaling.every_s", every_s, f"so many seconds that a run has at most {MOST_LOOKS:,} looks"
            )
        row["target"] = scaled.target * (pool.max_num_seqs if row["rule"] == UTILISATION else 1)
        row["tolerance"] = 0.1 if scaled.tolerance is None else scaled.tolerance
        row["percentile"], row["window_s"] = (scaled.percentile or 95.0) / 100.0, scaled.averaged_s
        row["looks_mean"] = _looks(scaled.averaged_s, every_s)
        for way in ("up", "down"):
            stabilised_s, row[f"cooldown_{way}_s"], row[f"step_{way}"] = scaled.held_back(way)
            row[f"looks_{way}"] = _looks(stabilised_s, every_s)
        row["ring"], row["ring_size"] = rings, max(row["looks_mean"], row["looks_up"], row["looks_down"])
        rings += int(row["ring_size"])
    fleets = Fleets(
        of,
        np.array(step_s, dtype=np.float64),
        np.array(step_replicas, dtype=np.int64),
        np.zeros(rings, dtype=np.int64),
        np.zeros(rings, dtype=np.int64),
    )
    for row in of[of["ring_size"] > 0]:
        fleets.wanted[row["ring"]] = row["wanted"]  # as if it had been looked at as the run began
    return fleets


def _looks(seconds: float, every_s: float) -> int:
    """Looks within so many seconds, that of now included."""
    return max(math.ceil(seconds / every_s - 1e-9), 1)


@register_jitable  # type: ignore[untyped-decorator]
def decides_at(one: Any, step_s: F64) -> float:
    """When the number that is wanted is decided on next, after ``one.look`` times; never if it is fixed."""
    look = one.look + 1
    if one.rule == SCHEDULE:
        if one.steps == 1:
            return np.inf
        return float(look // one.steps * one.cycle_s + step_s[one.first_step + look % one.steps])
    return np.inf if one.rule == FIXED else float(look * one.every_s)


@register_jitable  # type: ignore[untyped-decorator]
def replicas_needed(one: Any, counts: I64, running: int, waiting: int, ttft_s: float) -> float:
    """To bring the metric to its target; ``ttft_s`` is below 0 where none was seen, and then nothing is known of a busy pool."""
    if one.rule == TTFT:
        if ttft_s < 0:
            return float(one.wanted) if running + waiting > 0 else 0.0
        return float(one.wanted * ttft_s / one.target)
    seen = running + waiting
    if one.rule == UTILISATION:
        seen = running
    elif one.rule == QUEUE:
        seen = waiting
    counts[one.ring + one.look % one.ring_size] = seen
    looks, total = min(one.looks_mean, one.look), 0
    for back in range(looks):
        total += counts[one.ring + (one.look - back) % one.ring_size]
    return float(total / (looks * one.target))


@register_jitable  # type: ignore[untyped-decorator]
def replicas_wanted(one: Any, wanted: I64, needed: float, now_s: float) -> int:
    """From now on, by a rule that looks at a metric."""
    current = one.wanted
    asked = current
    if abs(needed - current) > one.tolerance * current + 1e-9:
        asked = min(max(math.ceil(min(needed, one.most) - 1e-9), one.least), one.most)
    wanted[one.ring + one.look % one.ring_size] = asked
    lowest = highest = asked
    for back in range(1, min(one.looks_up, one.look + 1)):
        lowest = min(lowest, wanted[one.ring + (one.look - back) % one.ring_size])
    for back in range(1, min(one.looks_down, one.look + 1)):
        highest = max(highest, wanted[one.ring + (one.look - back) % one.ring_size])
    asked = min(max(current, lowest), highest)
    if asked > current:
        return int(current if now_s < one.changed_s + one.cooldown_up_s else min(asked, current + one.step_up))
    if asked < current:
        return int(current if now_s < one.changed_s + one.cooldown_down_s else max(asked, current - one.step_down))
    return int(current)


@register_jitable  # type: ignore[untyped-decorator]
def place_of(percentile: float, count: int) -> int:
    """Of so many values in order, the least that such a part of them does not exceed."""
    return max(math.ceil(percentile * count - 1e-9) - 1, 0)


@register_jitable  # type: ignore[untyped-decorator]
def nth_smallest(values: F64, count: int, n: int) -> float:
    """Of the first ``count`` values, which change places; the smallest is number 0."""
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if n <= j:
            high = j
        elif n >= i:
            low = i
        else:
            break
    return float(values[n])


@register_jitable  # type: ignore[untyped-decorator]
def weight_of(session: int, place: int) -> int:
    """Of a place for a session whose own is not in service: the highest takes it (rendezvous hashing)."""
    x = (session * 48271 + place * 69621 + 1) & 0xFFFFFFFF
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 73244475) & 0xFFFFFFFF
    return int(x ^ (x >> 16))


@dataclass(frozen=True)
class FleetLog:
    """What replicas' states were over a run.

    Attributes:
        deployment: (replicas,) of each place; first_state: as the run begins.
        at_s, replica, state: of each change, in order.
    """

    deployment: I64
    first_state: I64
    at_s: F64
    replica: I64
    state: I64

    def level(self, d: int, states: Sequence[int]) -> tuple[F64, I64]:
        """Replicas of a deployment in one of the states: times of changes, the first minus infinity, and levels from then on.

        >>> log = FleetLog(np.zeros(2, int), np.array([2, 0]), np.array([5.0, 9.0]), np.array([1, 1]), np.array([1, 2]))
        >>> log.level(0, [IN_SERVICE])
        (array([-inf,   9.]), array([1, 2]))
        """
        inside = np.isin(self.state, states).astype(np.int64)
        order = np.argsort(self.replica, kind="stable")
        before = np.empty_like(inside)
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = np.diff(self.replica[order]) > 0
        before[order] = np.where(
            first, np.isin(self.first_state[self.replica[order]], states), np.roll(inside[order], 1)
        )
        by = np.where(self.deployment[self.replica] == d, inside - before, 0)
        at = np.flatnonzero(by)
        start = int(np.isin(self.first_state[self.deployment == d], states).sum())
        times, levels = np.concatenate([[-np.inf], self.at_s[at]]), np.concatenate([[start], start + np.cumsum(by[at])])
        last = np.append(np.diff(times) > 0, True)
        return times[last], levels[last].astype(np.int64)


PROVISIONED = (STARTING, IN_SERVICE, DRAINING, UNDER_REPAIR)
"""States that are paid for: a machine under repair stays reserved."""


def level_seconds(times: F64, levels: I64, begins: F64, ends: F64) -> F64:
    """Of a level that changes at ``times``, the integral over each stretch from ``begins`` to ``ends``, finite and in order.

    >>> level_seconds(np.array([-np.inf, 9.0]), np.array([1, 3]), np.array([0.0, 8.0]), np.array([8.0, 10.0]))
    array([8., 4.])
    """
    start_s = min(float(np.min(begins)), float(np.min(times[1:], initial=np.inf)))
    knots = np.concatenate([[start_s], times[1:]])
    upto = np.concatenate([[0.0], np.cumsum(np.diff(knots) * levels[:-1])])

    def integral(at_s: F64) -> F64:
        k = np.searchsorted(knots, at_s, side="right") - 1
        return np.asarray(upto[k] + (at_s - knots[k]) * levels[k])

    return integral(np.maximum(ends, begins)) - integral(begins)
