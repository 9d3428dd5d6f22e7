"""The best that any choice of arms could do, problem by problem, and the shadow prices of its limits.

Accuracy, cost, late requests and load are sums over problems of the arm each is sent to. Once every limit has a price the best
arm of each problem is plain, so only the prices are looked for: a linear program mixes the choices made so far, its duals
are the prices at which the next choice is made, and when that choice is not worth mixing in, the mixture is the optimum of the
program with a variable for every problem and arm (Dantzig and Wolfe, 1960). At most as many problems as there are limits are
split between two arms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.optimize import linprog

from ttc_sim.base.draws import F64, I64
from ttc_sim.optimizer.proposing.proposal import Limits, Question
from ttc_sim.scenario import Api, Targets, has_fixed_cost

_ROUNDS = 200
_PENALTY = 100.0
_LEAST_ROW = 1e-9  # a smaller bound is nothing beside what it limits, and nothing may be divided by it
_GAP = 1e-5  # of the objective: how far from the optimum it may stay


@dataclass(frozen=True)
class ArmSums:
    """What each of ``V`` arms adds to each sum for each of ``R`` rows (problems, or whole sources), NaN where not offered.

    Attributes:
        correct, cost: (V, R), weighted: summed over the rows' chosen arms they are accuracy and US dollars of API per request.
        late: (limits + 1, V, R) weighted chances of being late, timeouts last.
        load: (pools, V, R) replicas kept busy; of endpoints with a fixed fee so that all requests keep one as busy as it may be.
        pools: deployments that are GPU pools or have a fixed fee; usd: US dollars a request that one replica of each costs, or the
            fee; sizes: numbers of replicas of each to choose from.
    """

    correct: F64
    cost: F64
    late: F64
    load: F64
    pools: tuple[int, ...]
    usd: F64
    sizes: tuple[tuple[int, ...], ...]

    def grouped(self, group: I64) -> ArmSums:
        """The sums over groups of rows, all of which go to the same arm; ``group``: (R,) of each row, from 0."""

        def together(values: F64) -> F64:
            return np.stack([values[..., group == g].sum(axis=-1) for g in range(int(group.max()) + 1)], axis=-1)

        return replace(
            self,
            correct=together(self.correct),
            cost=together(self.cost),
            late=together(self.late),
            load=together(self.load),
        )

    def of_choice(self, arm: I64) -> F64:
        """Accuracy, cost, late shares, timeouts and loads, in this order, where each row goes to one arm, (R,)."""
        at = np.arange(len(arm))
        tables = [self.correct[None], self.cost[None], self.late, self.load]
        return np.concatenate([table[:, arm, at].sum(axis=1) for table in tables])


@dataclass(frozen=True)
class Mixture:
    """What the best choices, mixed, come to.

    Attributes:
        accuracy, cost_usd_per_request: expected, GPU pools included.
        replicas: per pool, by deployment.
        prices: by limit (a target's name, or ``load`` and the deployment's index), how much the objective (US dollars per request
            where cost is minimized, else accuracy) loses for each unit that the limit is tightened by, at least 0.
    """

    accuracy: float
    cost_usd_per_request: float
    replicas: Mapping[int, float]
    prices: Mapping[str, float]


def sums_by_arm(question: Question) -> ArmSums:
    """What the measured attempts add up to; rows are problems."""
    expectations, weight, rate_per_s = question.expectations, question.weight, question.rate_per_s
    model = expectations.model
    pools = [d for d, item in enumerate(model.deployments) if has_fixed_cost(item)]
    deployment = np.array([arm.deployment for arm in model.arms])
    busy = expectations.gpu_s * weight * rate_per_s
    hidden = np.where(np.isnan(expectations.correct), np.nan, 0.0)
    by_fee = hidden + question.limits.utilization * weight
    load = [
        np.where((deployment == d)[:, None], by_fee if isinstance(model.deployments[d], Api) else busy, hidden)
        for d in pools
    ]
    usd, sizes = [], []
    for d in pools:
        usd.append(model.deployments[d].hourly_usd / 3600 / rate_per_s)
        sizes.append(question.sizes(model.deployment_names[d]))
    return ArmSums(
        correct=expectations.correct * weight,
        cost=expectations.api_cost_usd * weight,
        late=question.late * weight,
        load=np.array(load).reshape(len(pools), *busy.shape),
        pools=tuple(pools),
        usd=np.array(usd),
        sizes=tuple(sizes),
    )


def best_mixture(
    table: ArmSums, targets: Targets, limits: Limits, *, whole: bool = True, every: int = 0
) -> Mixture | None:
    """The best choices within the limits, arms mixed freely; ``None`` if no choice keeps them.

    Args:
        whole: numbers of replicas are those of the search space: every combination near that of the program without this
            condition is tried. Else any number up to the most will do.
        every: every combination is tried, near or not, where there are no more than so many.
    """
    program = _MixtureProgram(table, targets, limits)
    loose = program.solve(None)
    if loose is None or not table.pools or not whole:
        return loose
    near = []
    all_sizes = [sorted({0, *sizes}) for sizes in table.sizes]
    few = math.prod(len(sizes) for sizes in all_sizes) <= every
    for d, sizes in zip(table.pools, all_sizes, strict=True):
        if few:
            near.append(sizes)
            continue
        asked = loose.replicas[d]
        above = [size for size in sizes if size >= asked - 1e-9][:2]
        near.append(sorted({*above, *[size for size in sizes if size < asked][-1:]}))
    best = [one for fixed in product(*near) if (one := program.solve(fixed)) is not None]
    if not targets.most_accurate:
        return min(best, key=lambda one: one.cost_usd_per_request, default=None)
    return max(best, key=lambda one: one.accuracy, default=None)


class _MixtureProgram:
    """Choices made so far, as the sums that each comes to, and the program that mixes them."""

    def __init__(self, table: ArmSums, targets: Targets, limits: Limits) -> None:
        self.table, self.limits = table, limits
        self.minimize = not targets.most_accurate
        self.found: list[F64] = []  # as ArmSums.of_choice has them
        self.matrices = np.concatenate([table.correct[None], table.cost[None], table.late, table.load])
        first_load = len(self.matrices) - len(table.pools)
        # Name, place among the sums, sign (-1: at least) and bound of every limit; the pools' loads come last.
        asked: list[tuple[str, int, float, float | None]] = [
            ("accuracy", 0, -1.0, limits.accuracy),
            ("cost_usd_per_request", 1, 1.0, limits.cost_usd_per_request),
            *((name, 2 + k, 1.0, most) for k, (name, most) in enumerate(limits.late.items())),
            ("timeout_rate", first_load - 1, 1.0, limits.timeout_rate),
            *((f"load {d}", first_load + k, 1.0, 0.0) for k, d in enumerate(table.pools)),
        ]
        limited = [(name, place, sign, sign * bound) for name, place, sign, bound in asked if bound is not None]
        self.names = [name for name, *_ in limited]
        self.place = np.array([place for _, place, *_ in limited], dtype=np.int64)
        self.sign = np.array([sign for *_, sign, _ in limited])
        self.bounds = np.array([bound for *_, bound in limited])
        # What a choice costs at most is the unit, so that the solver's tolerances, which are absolute, do not matter. A limit
        # missed by its own size costs more than anything that this could buy.
        pools_usd = (
            float(table.usd @ np.array([max(sizes, default=0) for sizes in table.sizes])) if table.pools else 0.0
        )
        self.unit = max(float(np.nanmax(np.abs(self.objective()), axis=0).sum()), pools_usd * self.minimize, 1e-12)
        self.row = np.where(self.bounds == 0, 1.0, np.maximum(np.abs(self.bounds), _LEAST_ROW))

    def objective(self) -> F64:
        """(V, R) what is made least."""
        values: F64 = self.matrices[1] if self.minimize else -self.matrices[0]
        return values

    def solve(self, fixed: Sequence[int] | None) -> Mixture | None:
        """The optimum for given numbers of replicas or, if ``None``, any numbers, whole or not."""
        table, names = self.table, self.names
        pools, limits = len(table.pools), len(names)
        shut = np.zeros(table.correct.shape, dtype=np.bool_)  # arms of pools that have no replica
        for k in range(pools if fixed is not None else 0):
            shut |= (table.load[k] > 0) & (fixed is not None and fixed[k] == 0)
        self.found += [table.of_choice(_best(np.where(shut, np.nan, self.objective())))]
        self.found += [
            table.of_choice(_best(np.where(shut, np.nan, sign * self.matrices[place])))
            for place, sign in zip(self.place, self.sign, strict=True)
        ]
        replicas = np.zeros((limits, pools))
        if "cost_usd_per_request" in names:
            replicas[names.index("cost_usd_per_request")] = table.usd / self.row[names.index("cost_usd_per_request")]
        replicas[limits - pools :] = -self.limits.utilization * np.eye(pools)
        most = [max(sizes, default=0) for sizes in table.sizes]
        bought = [(0.0, float(m)) for m in most] if fixed is None else [(float(f), float(f)) for f in fixed]
        for _ in range(_ROUNDS):
            columns = np.array(self.found)
            n = len(columns)
            gained = columns[:, 1] if self.minimize else -columns[:, 0]
            uses = (columns[:, self.place] * self.sign / self.row).T
            result = linprog(
                np.concatenate([gained / self.unit, table.usd * self.minimize / self.unit, np.full(limits, _PENALTY)]),
                np.hstack([uses, replicas, -np.eye(limits)]) if limits else None,
                self.bounds / self.row if limits else None,
                np.concatenate([np.ones(n), np.zeros(pools + limits)])[None],
                np.ones(1),
                bounds=[*[(0.0, 1.0)] * n, *bought, *[(0.0, np.inf)] * limits],
                method="highs",
            )
            if result.x is None or result.fun is None:
                return None
            share = np.asarray(result.x, dtype=np.float64)
            duals = np.asarray(result.ineqlin.marginals, dtype=np.float64)[:limits] * self.unit / self.row
            prices = np.zeros(len(self.matrices))
            np.add.at(prices, self.place, -duals * self.sign)
            reduced = np.where(shut, np.nan, self.objective() + np.tensordot(prices, self.matrices, axes=1))
            better = _best(reduced)
            gain = float(result.eqlin.marginals[0]) * self.unit - float(reduced[better, np.arange(len(better))].sum())
            if gain <= _GAP * abs(float(result.fun)) * self.unit + 1e-9 * self.unit:
                break
            self.found.append(table.of_choice(better))
        if share[n + pools :].sum() > 1e-6:
            return None
        accuracy, cost = columns[:, :2].T @ share[:n]
        return Mixture(
            accuracy=float(accuracy),
            cost_usd_per_request=float(cost + table.usd @ share[n : n + pools]),
            replicas=dict(zip(table.pools, map(float, share[n : n + pools]), strict=True)),
            prices={name: max(-float(dual), 0.0) for name, dual in zip(names, duals, strict=True)},
        )


def _best(values: F64) -> I64:
    """Of each row the arm with the least value among those offered."""
    arm: I64 = np.where(np.isnan(values), np.inf, values).argmin(axis=0)
    return arm
