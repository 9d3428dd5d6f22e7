"""More attempts than were measured: a beta-binomial, and how wrong answers agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import betaln, comb, expit, gammaln, logit

from ttc_sim.base.draws import F64, I64
from ttc_sim.strategies.outcomes.attempts import Attempts

DEFAULT_CONCENTRATION = 2.0
"""Concentration at which published votes of reasoning models on AIME follow from the accuracy of one sample."""
AGREE = 0.20
"""Chance that two wrong answers to the same problem are the same, where answers were not recorded; measured on the 100
problems with 8 samples each of ``math/maj-example`` (SkyThought, Apache-2.0): see :func:`agreement`."""
LEAST_PAIRS = 50
"""Pairs of wrong answers below which how often they agree is taken from elsewhere."""

# What is believed of a problem set before its attempts are seen (docs/more-samples.md says where each comes from):
_LOG_SPREAD = float(np.log(0.5)), 0.7  # logarithm of the concentration of chances over its problems: mean, deviation
_NEVER = -3.0, 1.0  # logit of the share of problems that the model never solves
_SLOPE = 1.0, 0.5  # weight of the logit of a predicted chance
_MOST = 400.0  # concentration of problems that are as predicted
_STEP = 0.25  # predictions nearer than this, as logits, are taken for the same


@dataclass(frozen=True)
class Repeated:
    """Chances to be right over problems: a share that the model never solves, the others Beta-distributed.

    Attributes:
        a, b: of the Beta distribution: one for all problems, or (P,) one for each.
        never: share of problems that stay unsolved at any number of attempts.
        doubt: standard errors of the logarithm of what ``a + b`` would be if nothing told problems apart, and of the logit of
            ``never``.
    """

    a: float | F64
    b: float | F64
    never: float
    doubt: tuple[float, float] = (0.0, 0.0)

    @property
    def concentration(self) -> float:
        """a + b: how much alike problems are in difficulty; small where most are nearly always or nearly never solved."""
        return float(np.mean(self.a + self.b))

    def pass_at(self, n: int) -> float:
        """Chance that at least one of n attempts at a problem is right."""
        none = np.exp(betaln(self.a, self.b + n) - betaln(self.a, self.b))
        return float((1 - self.never) * (1 - np.mean(none)))

    def right_of(self, n: int) -> F64:
        """(n + 1,) chances that k of n attempts at a problem are right."""
        a, b = np.atleast_1d(self.a)[:, None], np.atleast_1d(self.b)[:, None]
        k = np.arange(n + 1)
        chance = np.exp(np.log(comb(n, k)) + betaln(a + k, b + n - k) - betaln(a, b)).mean(axis=0) * (1 - self.never)
        chance[0] += self.never
        return np.asarray(chance)

    def unsolvable(self, right: I64, count: I64) -> F64:
        """(problems,) chance that a problem is one of those never solved, after so many of its attempts were right."""
        none = np.exp(betaln(self.a, self.b + count) - betaln(self.a, self.b))
        return np.where(right == 0, self.never / (self.never + (1 - self.never) * none), 0.0)

    def next_right(self, right: I64, count: I64) -> F64:
        """(problems,) chance that a further attempt is right, after so many of a problem's attempts were."""
        chance: F64 = (1 - self.unsolvable(right, count)) * (self.a + right) / (self.a + self.b + count)
        return chance

    def given(self, right: I64, count: I64, n: int) -> F64:
        """(problems, n + 1) chances of k right among n new attempts, of problems with so many right among those measured."""
        never = self.unsolvable(right, count)
        a, b = (self.a + right)[:, None], (self.b + (count - right))[:, None]
        k = np.arange(n + 1)[None, :]
        log_comb = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        chance = np.exp(log_comb + betaln(a + k, b + n - k) - betaln(a, b)) * (1 - never)[:, None]
        chance[:, 0] += never
        return np.asarray(chance)

    def doubted(self, by: float) -> Repeated:
        """What is as likely ``by`` standard errors off, with the same mean: above 0 fewer problems that are solved at times."""
        if by == 0.0:
            return self
        a, b = np.atleast_1d(self.a), np.atleast_1d(self.b)
        told = _told_apart(a / (a + b), np.full(len(a), 1 / len(a)))
        alone = 1 / (told + (1 - told) / (self.concentration + 1)) - 1
        total = _within(alone * np.exp(-by * self.doubt[0]), told)
        never = float(expit(logit(self.never) + by * self.doubt[1])) if 0 < self.never < 1 else self.never
        was = logit(a / (a + b))
        wanted = (1 - self.never) * float(np.mean(a / (a + b)))

        def off(move: float) -> float:
            return (1 - never) * float(np.mean(expit(was + move))) - wanted

        mean = expit(was + brentq(off, -12.0, 12.0)) if off(12.0) > 0 > off(-12.0) else expit(was)
        return Repeated(total * mean, total * (1 - mean), never, self.doubt)


@dataclass(frozen=True)
class Alike:
    """Problems that are all solved with the same chance ``p``."""

    p: float

    def pass_at(self, n: int) -> float:
        """Chance that at least one of n attempts at a problem is right."""
        return 1 - (1 - self.p) ** n

    def right_of(self, n: int) -> F64:
        """(n + 1,) chances that k of n attempts at a problem are right."""
        k = np.arange(n + 1)
        return np.asarray(comb(n, k) * self.p**k * (1 - self.p) ** (n - k))


def fit_repeated(right: I64, count: I64, expected: F64 | None = None) -> Repeated:
    """Most likely chances to be right, from right attempts out of so many, by problem.

    The mean moves with the predicted chance, if there is one (a logistic regression), the concentration is the same for all. With
    one attempt a problem nothing tells alike problems from unlike ones; what problem sets with several attempts have shown is
    believed then, and doubted as much as those differ. Problems without attempts do not count.

    Args:
        right, count: (P,) right attempts, and all.
        expected: (P,) predicted chances to be right, by which problems are alike.

    >>> round(fit_repeated(np.array([0, 1, 1, 0]), np.array([1, 1, 1, 1])).pass_at(1), 3)
    0.5
    """
    x = np.zeros(len(right)) if expected is None else _STEP * np.round(logit(np.clip(expected, 0.01, 0.99)) / _STEP)
    known = count > 0
    rows, weight = np.unique(np.stack([x, right, count], axis=1)[known], axis=0, return_counts=True)
    at, k, n = rows.T
    total = weight.sum()

    def loss(p: F64) -> float:
        mean, never = expit(p[0] + p[3] * at), expit(p[2])
        concentration = _within(np.exp(p[1]), _told_apart(mean, weight / total))
        a, b = concentration * mean, concentration * (1 - mean)
        chance = (1 - never) * np.exp(betaln(a + k, b + n - k) - betaln(a, b)) + never * (k == 0)
        believed = _off(p[1], _LOG_SPREAD) + _off(p[2], _NEVER) + _off(p[3], _SLOPE)
        average = float(weight @ mean) / total * (1 - never)
        jeffreys = -0.5 * np.log(average * (1 - average))
        return float(believed + jeffreys - weight @ np.log(np.maximum(chance, 1e-300)))

    share = (k @ weight + 0.5) / (n @ weight + 1)
    first = np.array([logit(share), _LOG_SPREAD[0], _NEVER[0], _SLOPE[0]])
    free = 4 if expected is not None else 3

    def of_free(p: F64) -> float:
        return loss(np.concatenate([p, first[free:]]))

    best = minimize(
        of_free, first[:free], method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-5, "fatol": 1e-7}
    )
    found = np.concatenate([best.x, first[free:]])
    never = float(expit(found[2]))
    deviation = np.sqrt(np.diag(np.linalg.inv(_curvature(of_free, best.x))))
    doubt = float(min(deviation[1], _LOG_SPREAD[1])), float(min(deviation[2], _NEVER[1]))
    concentration = _within(np.exp(found[1]), _told_apart(expit(found[0] + found[3] * at), weight / total))
    means = expit(found[0] + (0.0 if expected is None else found[3] * x))
    return Repeated(concentration * means, concentration * (1 - means), never, doubt)


def _told_apart(mean: F64, weight: F64) -> float:
    """Share of all variance of outcomes that lies between problems' predicted means."""
    average = float(weight @ mean)
    return float(weight @ (mean - average) ** 2) / (average * (1 - average))


def _within(alone: float, told: float) -> float:
    """Concentration around predicted means, from what it would be if nothing told problems apart.

    The share of variance that lies between problems is ``1 / (1 + alone)``; predictions tell a part of it apart.
    """
    between = 1 / (1 + alone)
    return float(np.clip((1 - told) / max(between - told, 1e-9) - 1, 1e-3, _MOST))


def _off(value: float, believed: tuple[float, float]) -> float:
    return 0.5 * ((value - believed[0]) / believed[1]) ** 2


def _curvature(loss: Callable[[F64], float], at: F64) -> F64:
    """Second derivatives of a loss at its least value, kept positive."""
    k, step = len(at), 0.05 * np.eye(len(at))
    out = np.empty((k, k))
    for i in range(k):
        for j in range(k):
            both = loss(at + step[i] + step[j]) + loss(at - step[i] - step[j])
            out[i, j] = (both - loss(at + step[i] - step[j]) - loss(at - step[i] + step[j])) / (4 * 0.05**2)
    values, vectors = np.linalg.eigh(out)
    curved: F64 = (vectors * np.maximum(values, 0.1)) @ vectors.T
    return curved


def agreement(attempts: Attempts) -> float:
    """Chance that two wrong answers to the same problem are the same; ``AGREE`` if answers were not recorded.

    Attempts without an answer are left out.
    """
    if attempts.answer is None:
        return AGREE
    owner = attempts.owner
    wrong = ~attempts.correct & (attempts.answer >= 0)
    pair = np.stack([owner[wrong], attempts.answer[wrong]])
    of_problem = np.bincount(owner[wrong])
    _, of_answer = np.unique(pair, axis=1, return_counts=True)
    pairs = float((of_problem * (of_problem - 1)).sum())
    return float((of_answer * (of_answer - 1)).sum() / pairs) if pairs >= 2 * LEAST_PAIRS else AGREE


def silent_share(attempts: Attempts) -> float:
    """Share of wrong attempts that give no answer at all, and so do not vote."""
    wrong = ~attempts.correct
    if attempts.answer is None or not wrong.any():
        return 0.0
    return float((attempts.answer[wrong] < 0).mean())


def vote_chance(fitted: Repeated | Alike, agree: float, n: int, silent: float = 0.0) -> float:
    """Chance that a vote of n is right, over problems.

    Wrong answers fall on one common answer with chance ``sqrt(agree)`` and are all different otherwise; ties are broken blindly.

    Args:
        fitted: chances to be right over problems.
        agree: chance that two wrong answers are the same.
        silent: share of wrong attempts that give no answer.
    """
    shares = (1 - silent) * np.sqrt(agree), (1 - silent) * (1 - np.sqrt(agree))
    total = 0.0
    for k, chance in enumerate(fitted.right_of(n)):
        wrong = n - k
        # How many of the wrong ones give the common answer, and how many give one that nobody else gives.
        c, alone = np.meshgrid(np.arange(wrong + 1), np.arange(wrong + 1), indexing="ij")
        rest = wrong - c - alone
        ways = np.where(rest >= 0, comb(wrong, c) * comb(np.maximum(wrong - c, 0), alone), 0.0)
        spread = ways * shares[0] ** c * shares[1] ** alone * silent ** np.maximum(rest, 0)
        best = np.maximum(c, alone > 0)
        ties = (c == k) + (alone if k == 1 else 0)
        wins = np.where(k > best, 1.0, np.where((k == best) & (k > 0), 1 / (1 + ties), 0.0))
        total += chance * float((spread * wins).sum())
    return total
