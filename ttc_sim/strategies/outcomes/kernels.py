"""The loops over requests that NumPy can only do by way of large temporary arrays, compiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ttc_sim.base.compilation import kept
from ttc_sim.base.draws import F64, I64
from ttc_sim.strategies.outcomes.attempts import Bools

_compiled = kept("outcomes", [Path(__file__)], error_model="numpy")


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
def normal_quantile(u: float) -> float:
    """Standard normal quantile of a number between 0 and 1, to nine digits (P. J. Acklam's rational approximation, 2003)."""
    u = min(max(u, 1e-12), 1 - 1e-12)
    if 0.02425 <= u <= 0.97575:
        q = u - 0.5
        r = q * q
        above = ((-39.69683028665376 * r + 220.9460984245205) * r - 275.9285104469687) * r + 138.3577518672690
        above = (above * r - 30.66479806614716) * r + 2.506628277459239
        below = ((-54.47609879822406 * r + 161.5858368580409) * r - 155.6989798598866) * r + 66.80131188771972
        return q * above / ((below * r - 13.28068155288572) * r + 1)
    q = np.sqrt(-2 * np.log(min(u, 1 - u)))
    above = ((-0.007784894002430293 * q - 0.3223964580411365) * q - 2.400758277161838) * q - 2.549732539343734
    above = (above * q + 4.374664141464968) * q + 2.938163982698783
    below = ((0.007784695709041462 * q + 0.3224671290700398) * q + 2.445134137142996) * q + 3.754408661907416
    value = float(above / (below * q + 1))
    return value if u < 0.5 else -value


@_compiled
def further(
    rows: I64,
    skipped: int,
    problem: I64,
    start: I64,
    right: I64,
    chance: tuple[F64, F64, F64],
    lengths: tuple[F64, F64, float, float, float, float, F64, I64, I64],
    codes: tuple[I64, Bools, I64, I64, F64, F64, int, int],
    picks: F64,
    chosen: I64,
    correct: Bools,
    answer: I64,
) -> None:
    """Fill in the attempts that were never made: see ``Trial.samples``.

    One uniform draw of an attempt settles one thing after another: what a choice leaves of it is uniform again. Each attempt is
    right by Polya's urn, which is a chance drawn once from the problem's Beta distribution, without its being drawn. Of wrong
    answers one is the problem's common one: that which two measured attempts gave or, if all differ, any of them may have been it.

    Args:
        rows: the requests to do; skipped: samples of each that are not looked at.
        problem: (m,) of each request; start: where the problems' attempts start; right: (P,) right ones among them.
        chance: ``a``, ``b`` and ``never`` of :class:`ttc_sim.strategies.outcomes.behaviour.Behaviour`.
        lengths: the fields of :class:`ttc_sim.strategies.outcomes.lengths.Lengths` but ``alike``.
        codes: answers of the attempts and whether they are right; ``right`` and ``wrong`` of
            :class:`ttc_sim.strategies.outcomes.behaviour.Answers`; ``common`` and ``silent`` of the problems' behaviour; codes of a
            common wrong answer never seen, and of the first answer that nobody else gives.
        picks: (m, n) uniform draws; what the choice of the first measured attempt leaves settles what is the same for a request.
        chosen: (m, n) indices of attempts that they are as long as; correct: (m, n) whether they are right; answer: (m, n) codes.
            These are written to, from the number of measured attempts on.
    """
    a, b, never = chance
    level, spread, noise, longer, base, step, place, made, first = lengths
    given, is_right, right_answer, wrong_answer, common, silent, unseen, own = codes
    last = place.shape[1] - 1
    for i in rows:
        p = problem[i]
        count = start[p + 1] - start[p]
        left = picks[i, 0] * count
        left -= min(int(left), count - 1)
        lost = False
        if right[p] == 0:
            lost = left < never[p]
            left = left / never[p] if lost else (left - never[p]) / (1 - never[p])
        usual = wrong_answer[p]
        if usual < 0:
            usual = np.int64(unseen)
            wrong = 0
            for k in range(start[p], start[p + 1]):
                wrong += not is_right[k] and given[k] >= 0
            others = (1 - common[p]) / common[p]
            left *= wrong + others
            seen = int(left)
            left = left - seen if seen < wrong else (left - wrong) / others
            for k in range(start[p], start[p + 1]):
                if not is_right[k] and given[k] >= 0:
                    if seen == 0:
                        usual = given[k]
                    seen -= 1
        ones, total = a[p], a[p] + b[p]
        around = level[p] + spread[p] * normal_quantile(left)
        for j in range(count, chosen.shape[1]):
            left = picks[i, j] * total
            good = not lost and left < ones
            if good:
                left /= ones
                ones += 1
                answer[i, j] = right_answer[p]
            else:
                left = left / total if lost else (left - ones) / (total - ones)
                if left < silent[p]:
                    left /= silent[p]
                    answer[i, j] = -1
                else:
                    left = (left - silent[p]) / (1 - silent[p])
                    if left < common[p]:
                        left /= common[p]
                        answer[i, j] = usual
                    else:
                        left = (left - common[p]) / (1 - common[p])
                        answer[i, j] = own + j
            total += 1
            correct[i, j] = good
            if j < skipped:
                continue
            at = (around + noise * normal_quantile(left) + (0.0 if good else longer) - base) / step
            at = min(max(at, 0.0), last - 1e-9)
            k, kind = int(at), int(good)
            where = place[kind, k] + (at - k) * (place[kind, k + 1] - place[kind, k])
            chosen[i, j] = made[min(first[kind] + int(where), first[kind + 1] - 1)]


@_compiled
def alike(
    rows: I64, problem: I64, start: I64, right: I64, right_first: I64, correct: Bools, picks: F64, chosen: I64
) -> I64:
    """Attempts at the problem that ended as those of ``rows`` that were never made; where there is none, what is ``chosen``."""
    out = chosen.copy()
    for i in rows:
        p = problem[i]
        begin, count, k = start[p], start[p + 1] - start[p], right[p]
        for j in range(count, chosen.shape[1]):
            first, many = (0, k) if correct[i, j] else (k, count - k)
            if many > 0:
                out[i, j] = right_first[begin + first + min(int(picks[i, j] * many), many - 1)]
    return out


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
