"""Policies that look at live load, as proposals: what one deployment cannot take goes to another, or two share what comes.

The optimizer's programs know nothing of them, as what goes where follows from the queues. So they are listed, with the least that
each may cost, and simulated from the cheapest on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.optimizer.proposing.proposal import Proposal, allowed_replicas
from ttc_sim.optimizer.task import PlanningTask, Timing
from ttc_sim.optimizer.traffic_alone import SOURCE
from ttc_sim.policies import LeastLoaded, Overflow, PerSource, Policy
from ttc_sim.scenario import Api, GpuPool, has_fixed_cost
from ttc_sim.simulation.expected_times import expected_seconds

_WAITING = (1, 4, 16)  # sequences that may wait before what comes goes elsewhere
_MOST_SIZES = 12  # numbers of replicas of a pool that are tried
_SLACK = 1.25  # more, or fewer, may be late or cut off in the runs than is expected


@dataclass(frozen=True)
class _Arms:
    """What ``V`` arms are expected to come to: US dollars of API calls, replicas kept busy, seconds and answers that are whole, a
    request; and by limit, shares of requests that an endpoint is late for, whatever the load."""

    usd: F64
    load: F64
    seconds: F64
    whole: F64
    late: F64

    @classmethod
    def of(cls, task: PlanningTask, timing: Timing) -> _Arms:
        expectations, weight = task.expectations, task.population.weight
        endpoint = [isinstance(task.model.deployments[arm.deployment], Api) for arm in task.model.arms]
        return cls(
            usd=expectations.api_cost_usd @ weight,
            load=expectations.gpu_s @ weight * (0.0 if all(endpoint) else task.rate_per_s),
            seconds=expected_seconds(expectations, timing.waiting) @ weight,
            whole=expectations.correct @ weight,
            late=np.where(endpoint, timing.late @ weight, 0.0),
        )


def live_proposals(task: PlanningTask, timing: Timing) -> list[Proposal]:
    """Two arms by live load, on the replicas that may be chosen; first those that promise most of what is made least.

    What each costs is about the least that it may: as if a pool were filled to its last slot before anything goes elsewhere. None
    is listed that even so cuts off more, or has an endpoint that is late more often, than the targets allow.
    """
    arms, offered = _Arms.of(task, timing), np.flatnonzero(task.expectations.offered[:, 0]).tolist()
    found = [one for pair in permutations(offered, 2) for one in _of_pair(task, arms, *pair)]
    fastest = task.targets.timed
    return [one for _, one in sorted(found, key=lambda one: (one[0] if fastest else 0.0, one[1].cost_usd_per_request))]


def _of_pair(task: PlanningTask, arms: _Arms, first: int, second: int) -> Iterator[tuple[float, Proposal]]:
    """Two arms on each number of replicas that together carry the load: the seconds expected, and the proposal."""
    model, limits, both = task.model, task.limits(), [first, second]
    at = [model.arms[v].deployment for v in both]
    if at[0] == at[1]:
        return
    names, items = [model.deployment_names[d] for d in at], [model.deployments[d] for d in at]
    pools, fixed = [isinstance(item, GpuPool) for item in items], [has_fixed_cost(item) for item in items]
    named = [model.arm_names[v] for v in both]
    most_late = [*limits.late.values(), 1.0 if limits.timeout_rate is None else limits.timeout_rate]
    for counts in product(*(few_sizes(task, name) if paid else (0,) for name, paid in zip(names, fixed, strict=True))):
        # Of what comes, the part that each can take.
        room = [
            n / max(arms.load[v], 1e-12) if pool else np.inf for n, v, pool in zip(counts, both, pools, strict=True)
        ]
        if model.scenario.search.utilization * sum(room) < 1:
            continue
        replicas = {name: count for name, count, paid in zip(names, counts, fixed, strict=True) if paid}
        policies: list[tuple[Policy, float]] = []
        if _may_wait(items[0]):
            policies += [(Overflow(named, waiting), min(1.0, room[0])) for waiting in _WAITING]
        if first < second and _may_wait(items[0]) == _may_wait(items[1]):
            policies.append((LeastLoaded(named), 0.5 if np.isinf(room).any() else room[0] / sum(room)))
        for policy, taken in policies:
            share = np.array([taken, 1 - taken])
            whole = float(share @ arms.whole[both])
            if limits.accuracy is not None and 1 - whole > _SLACK * (1 - limits.accuracy) + 1e-9:
                continue
            if (arms.late[:, both] @ share > _SLACK * np.array(most_late) + 1e-9).any():
                continue
            usd = float(share @ arms.usd[both]) + (task.pools_usd_per_request(replicas) if replicas else 0.0)
            policy_of_all = PerSource({SOURCE: policy})
            yield float(share @ arms.seconds[both]), Proposal(policy_of_all, replicas, whole, usd, {})


def few_sizes(task: PlanningTask, pool: str) -> tuple[int, ...]:
    """The numbers of replicas that a pool may have or, of many, some of them from the least to the most."""
    sizes = allowed_replicas(task.model, pool)
    if len(sizes) <= _MOST_SIZES:
        return sizes
    return tuple(sizes[round(k * (len(sizes) - 1) / (_MOST_SIZES - 1))] for k in range(_MOST_SIZES))


def _may_wait(item: Api | GpuPool) -> bool:
    """Whether anything ever waits there: where nothing does, nothing goes elsewhere."""
    if isinstance(item, GpuPool):
        return True
    return item.limited
