"""Which of several answers is final: votes, verifiers, and when to stop waiting for more."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import betainc, log_ndtr, ndtr, ndtri

from ttc_sim.draws import F64, I64
from ttc_sim.outcomes.attempts import Bools

_PAIRS_AT_ONCE = 20_000_000  # pairs of answers compared at once, which bounds memory


def vote(answer: I64, correct: Bools, tie: F64, shortest: I64 | None = None) -> Bools:
    """Majority vote of each row: whether the most frequent answer is right.

    Args:
        answer: (m, n) answer codes; a negative one abstains.
        correct: (m, n) whether each is right; equal answers may differ here by the grader's noise, the first counts.
        tie: (m,) uniform draws: among the most frequent answers that one wins.
        shortest: (m, n) tokens; if given, a tie goes to the answer that the shortest attempt gave instead.

    >>> vote(np.array([[7, 7, 9]]), np.array([[True, True, False]]), np.array([0.5]))
    array([ True])
    """
    n = answer.shape[1]
    rows = max(_PAIRS_AT_ONCE // (n * n), 1)
    if len(answer) > rows:
        parts = [slice(at, at + rows) for at in range(0, len(answer), rows)]
        lengths = [None if shortest is None else shortest[part] for part in parts]
        done = [vote(answer[p], correct[p], tie[p], s) for p, s in zip(parts, lengths, strict=True)]
        return np.concatenate(done)
    same = answer[:, :, None] == answer[:, None, :]
    votes = same.sum(axis=2)
    first = ~np.tril(same, -1).any(axis=2)  # no equal answer further left
    votes = np.where(answer >= 0, votes, 0)
    best = votes.max(axis=1, keepdims=True)
    leading = (votes == best) & (best > 0)
    if shortest is not None:
        length = np.where(leading, shortest, np.iinfo(np.int64).max)
        quickest = np.take_along_axis(answer, length.argmin(axis=1)[:, None], axis=1)
        winner = first & leading & (answer == quickest)
    else:
        leading &= first
        rank = np.cumsum(leading, axis=1)
        wanted = 1 + np.minimum((tie * rank[:, -1]).astype(np.int64), n - 1)
        winner = leading & (rank == wanted[:, None])
    result: Bools = (winner & correct).any(axis=1)
    return result


def enough(answer: I64, tokens: I64, certainty: float) -> I64:
    """How many samples have to end, in order of their tokens, before the vote is decided.

    Args:
        answer: (m, n) codes; a negative one abstains; tokens: (m, n).
        certainty: 1.0: no further sample could change the winner; below: the leader's chance to stay ahead of the second, by
            a flat Beta prior (adaptive consistency, arXiv 2305.11860, equation 2).

    Returns:
        (m,) from 1 to n.

    >>> enough(np.array([[5, 5, 5, 8, 5]]), np.array([[1, 2, 3, 4, 5]]), 1.0)
    array([3])
    """
    m, n = answer.shape
    order = np.argsort(tokens, axis=1, kind="stable")
    ended = np.take_along_axis(answer, order, axis=1)
    needed = np.full(m, n, dtype=np.int64)
    open_ = np.ones(m, dtype=np.bool_)
    for k in range(1, n):
        rows = np.flatnonzero(open_)
        if not len(rows):
            break
        seen = ended[rows, :k]
        same = (seen[:, :, None] == seen[:, None, :]) & (seen >= 0)[:, :, None]
        votes = same.sum(axis=2)
        lead = votes.max(axis=1)
        leader = np.take_along_axis(seen, votes.argmax(axis=1)[:, None], axis=1)
        second = np.where(seen == leader, 0, votes).max(axis=1)
        sure = lead - second > n - k
        decided = sure if certainty >= 1.0 else sure | (betainc(second + 1.0, lead + 1.0, 0.5) >= certainty)
        needed[rows[decided]] = k
        open_[rows[decided]] = False
    return needed


@lru_cache(maxsize=256)
def _chances(auroc: float, n: int) -> tuple[float, ...]:
    if auroc in (0.0, 1.0):
        # Every right answer scores above every wrong one, or below.
        return tuple(float(k > 0 if auroc == 1.0 else k == n) for k in range(n + 1))
    apart = float(np.sqrt(2) * ndtri(auroc))
    z = np.linspace(-12.0, 12.0, 4801) + apart / 2
    step = z[1] - z[0]
    chance = np.zeros(n + 1)
    density = np.exp(-((z - apart) ** 2) / 2) / np.sqrt(2 * np.pi)
    for k in range(1, n + 1):
        # The best right answer is at z, and all others lie below.
        below = np.exp((k - 1) * log_ndtr(z - apart) + (n - k) * log_ndtr(z)) if k < n else None
        chance[k] = 1.0 if below is None else min(k * float(np.sum(density * below)) * step, 1.0)
    return tuple(chance)


def chance_by_auroc(auroc: float, n: int) -> F64:
    """(n + 1,) chance that the best-scored of n answers is right, by how many of them are.

    Scores of right and wrong answers are normal with equal variance, their means ``sqrt(2) * ndtri(auroc)`` apart (the
    binormal model). 0.5 picks blindly, 1.0 finds any right answer.

    >>> chance_by_auroc(0.5, 4).round(6).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if auroc == 0.5:
        return np.arange(n + 1) / n
    return np.array(_chances(float(auroc), n))


def chance_by_rates(tpr: float, fpr: float, n: int) -> F64:
    """(n + 1,) chance that one of the accepted answers, picked blindly (or of all, if none is), is right, by how many are.

    >>> chance_by_rates(1.0, 0.0, 3).tolist()
    [0.0, 1.0, 1.0, 1.0]
    """
    chance = np.zeros(n + 1)
    for k in range(n + 1):
        right, wrong = _binomial(k, tpr), _binomial(n - k, fpr)
        both = right[:, None] * wrong[None, :]
        accepted = np.arange(k + 1)[:, None] + np.arange(n - k + 1)[None, :]
        share = np.divide(np.arange(k + 1)[:, None], accepted, out=np.full(both.shape, k / n), where=accepted > 0)
        chance[k] = float((both * share).sum())
    return chance


def _binomial(n: int, p: float) -> F64:
    out = np.ones(1)
    for _ in range(n):
        out = np.convolve(out, [1 - p, p])
    return out


def auroc_of_gap(apart: float) -> float:
    """AUROC of normal scores whose means are so many standard deviations apart."""
    return float(ndtr(apart / np.sqrt(2)))
