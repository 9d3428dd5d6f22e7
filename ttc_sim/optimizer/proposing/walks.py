"""Walks over the bands of one source, each looked at: where there are few, that is faster than a program, and exact."""

from __future__ import annotations

from itertools import product

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.optimizer.proposing.programs import Program
from ttc_sim.optimizer.proposing.strides import Strides

_MOST_WALKS = 200_000
_MOST_LOOKS = 5_000_000  # walks times combinations of replicas
_KEPT = 1e-9  # of a limit's own size: rounding, not a miss


def every_walk(strides: Strides, max_bands: int, combinations: int) -> list[I64] | None:
    """Every walk of at most so many strides, neighbours on different arms; ``None`` if there are several sources or too many walks.

    Args:
        combinations: of numbers of replicas that each walk would be looked at with.

    Returns:
        For each number of strides, (walks, strides) their indices.
    """
    if len(np.unique(strides.source)) != 1:
        return None
    most = min(_MOST_WALKS, _MOST_LOOKS // max(combinations, 1))
    end = np.zeros(int(strides.score.max()) + 1, dtype=np.int64)
    np.maximum.at(end, strides.score, strides.last)
    place = strides.score * (int(end.max()) + 1)  # of the first node of each score, all scores in a row
    start, finish = place + strides.first, strides.last == end[strides.score]
    every = np.argsort(start, kind="stable")
    walks: list[I64] = []
    on = np.flatnonzero((strides.first == 0) & (finish | (max_bands > 1)))[:, None]
    for count in range(1, max_bands + 1):
        tip = on[:, -1]
        walks.append(on[finish[tip]])
        on, tip = on[~finish[tip]], tip[~finish[tip]]
        order = every if count + 1 < max_bands else every[finish[every]]  # the last stride goes to the end
        here = place[tip] + strides.last[tip]
        low, high = np.searchsorted(start[order], here), np.searchsorted(start[order], here, side="right")
        if sum(map(len, walks)) + int((high - low).sum()) > most:
            return None
        which = np.repeat(np.arange(len(on)), high - low)
        after = order[np.arange(len(which)) - np.repeat(np.cumsum(high - low) - high, high - low)]
        other = strides.arm[after] != strides.arm[on[which, -1]]
        on = np.hstack([on[which[other]], after[other, None]])
    return [some for some in walks if len(some)]


def best_walk(program: Program, walks: list[I64]) -> tuple[F64, I64] | None:
    """As :meth:`Program.best`, over these walks; ``None`` if none keeps the limits.

    Variables beside the choices are misses: each stands in one row alone.
    """
    n = program.choices
    rows = program.most.toarray()
    cost = np.concatenate([program.cost[of_walk].sum(axis=1) for of_walk in walks])
    taken = np.concatenate([rows[:, of_walk].sum(axis=2) for of_walk in walks], axis=1)
    unit = -rows[:, n:].sum(axis=1)  # of a miss; 0 where the row must be kept
    soft = unit > 0
    slack = _KEPT * np.maximum(np.abs(program.limit), np.abs(taken).max(axis=1, initial=0.0))
    best: tuple[float, int, I64] | None = None
    for counts in product(*program.sizes):
        replicas = np.array(counts, dtype=np.int64)
        over = taken - program.limits_at(replicas.astype(np.float64))[:, None]
        total = cost + float(replicas @ program.usd)
        for k in np.flatnonzero(soft):
            total = total + np.maximum(over[k], 0.0) / unit[k]
        total[(over[~soft] > slack[~soft, None]).any(axis=0)] = np.inf
        at = int(total.argmin())
        if total[at] < np.inf and (best is None or total[at] < best[0]):
            best = float(total[at]), at, replicas
    if best is None:
        return None
    _, at, replicas = best
    found = np.zeros(len(program.cost))
    over = taken[:, at] - program.limits_at(replicas.astype(np.float64))
    for of_walk in walks:
        if at < len(of_walk):
            found[of_walk[at]] = 1.0
            break
        at -= len(of_walk)
    misses = np.where(soft, np.maximum(over, 0.0) / np.where(soft, unit, 1.0), 0.0)
    for column in range(n, len(program.cost)):
        found[column] = misses[rows[:, column] < 0].max(initial=0.0)
    return found, replicas
