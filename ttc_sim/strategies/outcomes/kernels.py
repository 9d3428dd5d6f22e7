"""The loops over requests that NumPy can only do by way of large temporary arrays, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.strategies.outcomes.attempts import Bools

F = TypeVar("F", bound=Callable[..., Any])
_compiled: Callable[[F], F] = numba.njit(cache=True, error_model="numpy")


@_compiled
def pick(start: I64, count: I64, most: int, picks: F64) -> I64:
    """See :func:`ttc_sim.strategies.outcomes.attempts.pick_attempts`."""
    m, n = picks.shape
    chosen = np.empty((m, n), dtype=np.int64)
    order = np.empty(most, dtype=np.int64)
    for i in range(m):
        c = count[i]
        for k in range(c):
            order[k] = k
        # A partial Fisher-Yates shuffle of the request's own attempts, again and again where there are too few.
        for j in range(n):
            at = j % c
            swap = at + min(int(picks[i, j] * (c - at)), c - at - 1)
            order[at], order[swap] = order[swap], order[at]
            chosen[i, j] = start[i] + order[at]
    return chosen


@_compiled
def more(
    rows: I64, problem: I64, start: I64, right: I64, right_first: I64, chance: F64, level: F64, u: F64, picks: F64
) -> I64:
    """Attempts that stand for those never made, of some rows: see ``Trial.samples``.

    Each is right with the problem's chance (at its quantile ``level``), and stands for one of those that ended alike.
    """
    n = picks.shape[1]
    chosen = np.empty((len(rows), n), dtype=np.int64)
    for i in range(len(rows)):
        row = rows[i]
        p = problem[row]
        begin, k, count = start[p], right[p], start[p + 1] - start[p]
        level_chance = chance[p, int(level[row] * chance.shape[1])]
        for j in range(n):
            if u[row, j] < level_chance:
                at = min(int(picks[row, j] * k), k - 1)
            else:
                at = k + min(int(picks[row, j] * (count - k)), count - k - 1)
            chosen[i, j] = right_first[begin + at]
    return chosen


@_compiled
def winners(answer: I64, correct: Bools, tie: F64, tokens: I64, by_length: bool) -> Bools:
    """See :func:`ttc_sim.strategies.outcomes.choosing.vote`."""
    m, n = answer.shape
    right = np.zeros(m, dtype=np.bool_)
    votes = np.empty(n, dtype=np.int64)
    for i in range(m):
        best = leaders = 0
        for j in range(n):
            votes[j] = 0
            if answer[i, j] < 0:
                continue
            # Votes stand with the first of equal answers.
            first = j
            for k in range(j):
                if answer[i, k] == answer[i, j]:
                    first = k
                    break
            votes[first] += 1
        for j in range(n):
            if votes[j] > best:
                best, leaders = votes[j], 0
            leaders += votes[j] == best
        if best == 0:
            continue
        if by_length:
            shortest = -1
            for j in range(n):
                if answer[i, j] < 0 or (shortest >= 0 and tokens[i, j] >= tokens[i, shortest]):
                    continue
                for k in range(j + 1):
                    if answer[i, k] == answer[i, j]:
                        if votes[k] == best:
                            shortest = j
                        break
            for k in range(n):
                if answer[i, k] == answer[i, shortest]:
                    right[i] = correct[i, k]
                    break
        else:
            wanted = min(int(tie[i] * leaders), leaders - 1)
            for j in range(n):
                if votes[j] == best:
                    if wanted == 0:
                        right[i] = correct[i, j]
                        break
                    wanted -= 1
    return right


@_compiled
def needed_for_vote(answer: I64, tokens: I64, least_lead: I64) -> I64:
    """See :func:`~ttc_sim.strategies.outcomes.choosing.enough`; ``least_lead[second]`` is the lead that decides so far ahead."""
    m, n = answer.shape
    needed = np.full(m, n, dtype=np.int64)
    order = np.empty(n, dtype=np.int64)
    votes = np.empty(n, dtype=np.int64)
    for i in range(m):
        for j in range(n):
            k = j
            while k > 0 and tokens[i, order[k - 1]] > tokens[i, j]:
                order[k] = order[k - 1]
                k -= 1
            order[k] = j
            votes[j] = 0
        lead = second = 0
        leader = np.int64(-1)
        for ended in range(1, n):
            a = answer[i, order[ended - 1]]
            if a >= 0:
                first = ended - 1
                for k in range(ended - 1):
                    if answer[i, order[k]] == a:
                        first = k
                        break
                votes[first] += 1
                if a == leader:
                    lead += 1
                elif votes[first] > lead:
                    second, lead, leader = lead, votes[first], a
                elif votes[first] > second:
                    second = votes[first]
            if lead - second > n - ended or lead >= least_lead[second]:
                needed[i] = ended
                break
    return needed
