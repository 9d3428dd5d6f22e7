"""Programs of many choices and few limits, for each number of replicas that pools may have.

With the replicas given, the relaxation in which choices may be made in part is nearly whole already: few choices can matter, those
whose reduced cost is no more than what a solution misses its bound by (reduced-cost fixing: Nemhauser and Wolsey, Integer and
Combinatorial Optimization, 1988, section II.5.2). And replicas stand on the right-hand sides alone, so that the duals at one number
of replicas bound the optimum at every other (Benders, 1962): most numbers are never looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from ttc_sim.base.draws import F64, I64

_FIRST = 150  # choices at least that the first solution is sought over
_WIDER = 4  # times more where those gave none
_MOST_COMBINATIONS = 50_000  # of numbers of replicas, that each have a bound of their own
_MISSED = 1e-7  # of limits, in their own units: more is a miss
_NODES = 20_000


@dataclass(frozen=True)
class Program:
    """Which choices, and how many replicas, make a cost least.

    Attributes:
        cost: (n,) of each variable: choices, 0 or 1, come first, then what may be any number from 0 on.
        choices: how many there are. Rows keep them from more than 1.
        same, value: (e, n) rows that equal their value; most, limit: (u, n) rows of at most their limit.
        room: (u, pools) by how much a replica raises each limit; usd: (pools,) what it costs.
        sizes: per pool, the numbers of replicas that it may have.
        gap: relative, within which a solution is the best.
    """

    cost: F64
    choices: int
    same: sparse.csr_array
    value: F64
    most: sparse.csr_array
    limit: F64
    room: F64
    usd: F64
    sizes: tuple[tuple[int, ...], ...]
    gap: float = 1e-4

    @property
    def combinations(self) -> int:
        """Of numbers of replicas."""
        return prod(len(sizes) for sizes in self.sizes)

    def limits_at(self, replicas: F64) -> F64:
        """(..., u) limits with these replicas, (..., pools)."""
        raised: F64 = self.limit + replicas @ self.room.T
        return raised

    def best(self) -> tuple[F64, I64] | None:
        """The variables and the numbers of replicas that cost the least; ``None`` if none keep the rows."""
        if self.combinations > _MOST_COMBINATIONS:
            return self._at_once()
        every = np.array(list(product(*self.sizes)), dtype=np.int64).reshape(self.combinations, len(self.sizes))
        limits, fixed = self.limits_at(every.astype(np.float64)), every @ self.usd
        root = self._relaxed(None, np.array([max(sizes, default=0) for sizes in self.sizes], dtype=np.float64))
        if root is None:
            return None
        bound = fixed + root.bounds(self.value, limits)
        best: tuple[float, F64, int] | None = None
        while True:
            k = int(bound.argmin())
            if bound[k] == np.inf or (best is not None and bound[k] >= best[0] - self.gap * abs(best[0])):
                break
            relaxed = self._relaxed(limits[k], None)
            if relaxed is None:
                bound[self._cannot_be(limits, k)] = np.inf
                continue
            np.maximum(bound, fixed + relaxed.bounds(self.value, limits), out=bound)
            least = fixed[k] + relaxed.optimum
            if best is None or least < best[0] - self.gap * abs(best[0]):
                found = self._whole(relaxed, limits[k], None if best is None else best[0] - fixed[k])
                if found is not None:
                    value = float(fixed[k] + self.cost @ found)
                    if best is None or value < best[0]:
                        best = value, found, k
            bound[k] = np.inf
        return None if best is None else (best[1], every[best[2]])

    def _at_once(self) -> tuple[F64, I64] | None:
        """The same as one program, in which each number of replicas is a choice too: slower, and for any number of pools."""
        numbers = [(pool, number) for pool, some in enumerate(self.sizes) for number in some if number]
        pool, number = np.array(numbers, dtype=np.int64).T
        n, bought = len(self.cost), len(numbers)
        one_each = sparse.csr_array(
            (np.ones(bought), (pool, n + np.arange(bought))), shape=(len(self.sizes), n + bought)
        )
        raised = sparse.hstack([self.most, sparse.csr_array(-self.room[:, pool] * number)], format="csr")
        same = sparse.hstack([self.same, sparse.csr_array((self.same.shape[0], bought))], format="csr")
        whole = np.concatenate([np.arange(n) < self.choices, np.ones(bought, dtype=np.bool_)])
        rows = [
            LinearConstraint(same, self.value, self.value),
            LinearConstraint(raised, -np.inf, self.limit),
            LinearConstraint(one_each, -np.inf, np.ones(len(self.sizes))),
        ]
        found = _best_of(np.concatenate([self.cost, self.usd[pool] * number]), rows, whole, self.gap)
        if found is None:
            return None
        replicas = np.zeros(len(self.sizes), dtype=np.int64)
        np.add.at(replicas, pool, number * np.round(found[n:]).astype(np.int64))
        return found[:n], replicas

    def mixture(self) -> tuple[F64, F64] | None:
        """Choices, and numbers of replicas, where both may be taken in part; ``None`` if even so nothing keeps the rows."""
        root = self._relaxed(None, np.array([max(sizes, default=0) for sizes in self.sizes], dtype=np.float64))
        return None if root is None else (root.x[: self.choices], root.x[len(self.cost) :])

    def _relaxed(self, limits: F64 | None, largest: F64 | None) -> _Relaxed | None:
        """The optimum where choices may be made in part, at these limits or with any number of replicas up to the largest."""
        cost, most, same = self.cost, self.most, self.same
        bounds: list[tuple[float, float]] = [(0.0, np.inf)] * len(cost)
        if largest is not None:
            cost = np.concatenate([cost, self.usd])
            most = sparse.hstack([most, sparse.csr_array(-self.room)], format="csr")
            same = sparse.hstack([same, sparse.csr_array((same.shape[0], len(self.usd)))], format="csr")
            bounds += [(0.0, float(number)) for number in largest]
        result = _least(cost, most, self.limit if limits is None else limits, same, self.value, bounds)
        if result.x is None or result.fun is None:
            return None
        return _Relaxed(
            optimum=float(result.fun),
            x=np.asarray(result.x, dtype=np.float64),
            of_same=np.asarray(result.eqlin.marginals, dtype=np.float64),
            of_most=np.minimum(np.asarray(result.ineqlin.marginals, dtype=np.float64), 0.0),
            reduced=np.asarray(result.lower.marginals, dtype=np.float64)[: len(self.cost)],
        )

    def _cannot_be(self, limits: F64, k: int) -> NDArray[np.bool_]:
        """Which combinations cannot keep the rows, as one of them is known not to: by the duals of how much it misses them."""
        u = len(self.limit)
        missed = np.concatenate([np.zeros(len(self.cost)), np.ones(u)])
        most = sparse.hstack([self.most, -sparse.identity(u)], format="csr")
        same = sparse.hstack([self.same, sparse.csr_array((self.same.shape[0], u))], format="csr")
        result = _least(missed, most, limits[k], same, self.value, [(0.0, np.inf)] * len(missed))
        out = np.zeros(len(limits), dtype=np.bool_)
        if result.x is not None:
            misses = _Relaxed(
                0.0, missed, np.asarray(result.eqlin.marginals), np.asarray(result.ineqlin.marginals), missed
            )
            out = misses.bounds(self.value, limits) > _MISSED
        out[k] = True
        return out

    def _whole(self, relaxed: _Relaxed, limits: F64, known: float | None) -> F64 | None:
        """The best variables at these limits; ``None`` if there are none, or none better than what is known."""
        order = np.sort(relaxed.reduced[: self.choices])
        count = min(_FIRST, self.choices)
        room = np.inf if known is None else known - relaxed.optimum
        near = min(float(order[count - 1]), room)
        while True:
            kept = np.flatnonzero(relaxed.reduced <= max(near, 0.0))
            kept = np.union1d(kept, np.arange(self.choices, len(self.cost)))
            found, whole = self._solved(kept, limits), len(kept) == len(self.cost)
            if found is not None:
                room = min(room, float(self.cost @ found) - relaxed.optimum)
            if whole or near >= room - self.gap * abs(relaxed.optimum):
                return found
            count = min(count * _WIDER, self.choices)
            near = min(float(order[count - 1]), room) if found is None else room

    def _solved(self, kept: I64, limits: F64) -> F64 | None:
        """The best of the variables kept, the others 0."""
        most, same = sparse.csc_array(self.most)[:, kept], sparse.csc_array(self.same)[:, kept]
        rows = [LinearConstraint(same, self.value, self.value), LinearConstraint(most, -np.inf, limits)]
        solution = _best_of(self.cost[kept], rows, kept < self.choices, self.gap)
        if solution is None:
            return None
        found = np.zeros(len(self.cost))
        found[kept] = solution
        return found


def _best_of(cost: F64, rows: list[LinearConstraint], whole: NDArray[np.bool_], gap: float) -> F64 | None:
    """The variables that cost the least, the whole ones 0 or 1, others any number from 0 on; ``None`` if none are found."""
    result = milp(
        cost,
        constraints=rows,
        integrality=whole.astype(np.int64),
        bounds=Bounds(np.zeros(len(cost)), np.where(whole, 1.0, np.inf)),
        # Presolve probes every choice for seconds and finds nothing: the rows already say it all.
        options={"mip_rel_gap": gap, "node_limit": _NODES, "presolve": False},
    )
    return None if result.x is None else np.where(whole, np.round(result.x), result.x)


def _least(cost: F64, most: Any, limit: F64, same: Any, value: F64, bounds: list[tuple[float, float]]) -> Any:
    """A linear program's solution, with the duals of its rows."""
    return linprog(cost, most, limit, same, value, bounds=bounds, method="highs")


@dataclass(frozen=True)
class _Relaxed:
    """What a relaxation came to: optimum and variables, duals of its rows, and by how much each variable costs more than that."""

    optimum: float
    x: F64
    of_same: F64
    of_most: F64
    reduced: F64

    def bounds(self, value: F64, limits: F64) -> F64:
        """(K,) what the variables cost at least, at each of the limits (K, u): the duals are feasible at them all."""
        bound: F64 = float(self.of_same @ value) + limits @ self.of_most
        return bound
