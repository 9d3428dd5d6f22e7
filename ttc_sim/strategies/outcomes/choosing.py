"""Which attempts are drawn, and which of several answers is final: votes, verifiers, and when to stop waiting for more."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import betainc, log_ndtr, ndtr, ndtri

from ttc_sim.base.draws import F64, I64
from ttc_sim.strategies.outcomes.attempts import Attempts, Bools
from ttc_sim.strategies.outcomes.kernels import needed_for_vote, pick, winners


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
    tokens = answer if shortest is None else shortest
    return winners(np.ascontiguousarray(answer), correct, tie, np.ascontiguousarray(tokens), shortest is not None)


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
    n = answer.shape[1]
    least_lead = np.full(n + 1, n + 1, dtype=np.int64)
    if certainty < 1.0:
        for second in range(n + 1):
            sure = betainc(second + 1.0, np.arange(second, n + 1) + 1.0, 0.5) >= certainty
            least_lead[second] = second + int(np.argmax(sure)) if sure.any() else n + 1
    return needed_for_vote(np.ascontiguousarray(answer), np.ascontiguousarray(tokens), least_lead)


def pick_attempts(attempts: Attempts, problem: I64, picks: F64) -> I64:
    """Choose attempts for each request: without repeats while there are any left, then all over again.

    Args:
        problem: (m,) problem of each request; each must have at least one attempt.
        picks: (m, n) uniform draws.

    Returns:
        (m, n) indices into the attempts.
    """
    count, start = attempts.count[problem], attempts.start[problem]
    if picks.shape[1] == 1:
        return (start + np.minimum((picks[:, 0] * count).astype(np.int64), count - 1))[:, None]
    return pick(start, count, int(count.max(initial=1)), np.ascontiguousarray(picks))


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
