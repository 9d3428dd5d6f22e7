"""What is fitted to a profile's attempts, for the attempts that were never made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.strategies.outcomes.attempts import Attempts
from ttc_sim.strategies.outcomes.lengths import Lengths, fit_lengths
from ttc_sim.strategies.outcomes.repeated import LEAST_PAIRS, Repeated, agreement, fit_repeated

OWN = np.int64(1) << np.int64(40)
"""Answers that no other sample gives, from here on, by sample."""
RIGHT, COMMON = int(OWN) * 2, int(OWN) * 2 + 1
"""Codes of a problem's right answer and of its common wrong one, where no attempt gave them."""
# What is believed of wrong answers before they are seen (docs/more-samples.md says where from): how much the logit of how often
# two agree rises with the logit of the chance to be right (with predictions, and without), how far off both logits may be, and
# how many pairs of a problem's wrong answers, and how many of its wrong attempts, say as much of it as all problems together.
_SLOPE, _SLOPE_ALONE = (0.4, 0.2), (0.15, 0.1)
_AGREEMENT = 0.7
_PAIRS, _WRONG = 1.5, 0.25


@dataclass(frozen=True, eq=False)
class Answers:
    """Which answers are the same.

    Attributes:
        answer: (attempts,) codes, modelled where they were not recorded.
        right: (P,) code of the right answer.
        wrong: (P,) code of the common wrong answer: that which two attempts gave; negative where no two gave the same.
    """

    answer: I64
    right: I64
    wrong: I64


@lru_cache(maxsize=32)
def answers_of(attempts: Attempts) -> Answers:
    """Answers of a profile's attempts."""
    owner = attempts.owner
    if attempts.answer is not None:
        answer = attempts.answer
        right, wrong = (np.full(len(attempts.count), code, dtype=np.int64) for code in (RIGHT, -1))
        given = ~attempts.correct & (answer >= 0)
        pair, times = _same(owner[given], answer[given])
        often = np.argsort(times, kind="stable")
        often = often[times[often] > 1]
        wrong[pair[0, often]] = pair[1, often]  # of several the most frequent one stays
    else:
        # Right answers are equal; a wrong one is the common wrong one with a chance that makes two agree as often as measured.
        common = uniforms(0, f"answers/{attempts.name}", len(owner))[:, 0] < np.sqrt(agreement(attempts))
        answer = np.where(attempts.correct, 0, np.where(common, 1, 2 + np.arange(len(owner))))
        if attempts.truncated is not None:
            answer = np.where(attempts.truncated & ~attempts.correct, -1, answer)
        right, wrong = (np.full(len(attempts.count), code, dtype=np.int64) for code in (0, 1))
    right[owner[attempts.correct][::-1]] = answer[attempts.correct][::-1]
    return Answers(answer, right, wrong)


def _same(owner: I64, answer: I64) -> tuple[I64, I64]:
    """(2, k) problems with each of their answers, and (k,) how often each was given."""
    if not len(owner):
        return np.zeros((2, 0), dtype=np.int64), np.zeros(0, dtype=np.int64)
    pair, times = np.unique(np.stack([owner, answer]), axis=1, return_counts=True)
    return pair, times


def _common(attempts: Attempts, chance: F64, doubted: float) -> F64:
    """(P,) chances that a further wrong answer is the problem's common one: the root of how often two wrong answers agree.

    The logit of how often they agree is linear in that of the chance to be right: on problems that a model often solves it errs
    in the same way more often. Of a problem's own wrong answers each pair counts as well.
    """
    count, agree = len(attempts.count), agreement(attempts)
    if attempts.answer is None:
        share = expit(logit(agree) + doubted * _AGREEMENT)
        return np.full(count, np.sqrt(share))
    given = ~attempts.correct & (attempts.answer >= 0)
    pair, times = _same(attempts.owner[given], attempts.answer[given])
    same = np.bincount(pair[0], weights=times * (times - 1) / 2, minlength=count)
    of_problem = np.bincount(attempts.owner[given], minlength=count)
    pairs = of_problem * (of_problem - 1) / 2
    x = logit(np.clip(chance, 0.005, 0.995))
    slope, doubt = _SLOPE if attempts.expected is not None else _SLOPE_ALONE
    known = pairs if pairs.sum() >= LEAST_PAIRS else of_problem
    middle = float(x @ known / known.sum()) if known.sum() else 0.0
    level = float(logit(np.clip(agree, 0.01, 0.99)))
    if pairs.sum() >= LEAST_PAIRS:

        def loss(p: F64) -> float:
            z = p[0] + p[1] * (x - middle)
            return float(pairs @ np.logaddexp(0, z) - same @ z + 0.5 * ((p[1] - slope) / doubt) ** 2)

        level, slope = minimize(loss, np.array([level, slope]), method="BFGS").x
    found = expit(level + slope * (x - middle) + doubted * _AGREEMENT)
    return np.asarray(np.sqrt((same + _PAIRS * found) / (pairs + _PAIRS)))


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What further attempts would come to.

    Attributes:
        repeated: chances to be right over problems; a, b: (P,) of a problem's further attempts, given those made.
        never: (P,) chance that a problem is never solved, given the attempts made.
        common: (P,) chance that a further wrong answer is the problem's common one; silent: (P,) that a further wrong attempt gives
            no answer at all.
        lengths: of further attempts.
        right_first: attempts of each problem, the right ones first.
    """

    repeated: Repeated
    a: F64
    b: F64
    never: F64
    common: F64
    silent: F64
    lengths: Lengths
    right_first: I64


@lru_cache(maxsize=64)
def behaviour(attempts: Attempts, doubted: float = 0.0) -> Behaviour:
    """Fit what :class:`Behaviour` lists.

    Args:
        attempts: of a profile.
        doubted: standard errors by which what the attempts do not say is off: above 0 towards problems that are always or never
            solved, wrong answers that agree, and attempts at a problem that are unlike in length.
    """
    right, count = attempts.right, attempts.count
    fitted = fit_repeated(right, count, attempts.expected).doubted(doubted)
    x = None if attempts.expected is None else logit(np.clip(attempts.expected, 0.01, 0.99))
    chance, owner, codes = fitted.next_right(right, count), attempts.owner, answers_of(attempts).answer
    unsaid = np.bincount(owner[~attempts.correct & (codes < 0)], minlength=len(count))
    missed = count - right
    return Behaviour(
        repeated=fitted,
        a=np.broadcast_to(fitted.a + right, right.shape).astype(np.float64),
        b=np.broadcast_to(fitted.b + count - right, right.shape).astype(np.float64),
        never=fitted.unsolvable(right, count),
        # Not 0 or 1, by which a draw would be divided.
        common=np.clip(_common(attempts, chance, doubted), 1e-6, 1 - 1e-9),
        silent=np.minimum((unsaid + _WRONG * unsaid.sum() / max(missed.sum(), 1)) / (missed + _WRONG), 1 - 1e-9),
        lengths=fit_lengths(attempts, chance, x, doubted),
        right_first=np.lexsort((~attempts.correct, owner)).astype(np.int64),
    )
