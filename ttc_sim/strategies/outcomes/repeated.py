"""More attempts than were measured: a beta-binomial, and how wrong answers agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaincinv, betaln, comb, gammaln

from ttc_sim.base.draws import F64, I64
from ttc_sim.strategies.outcomes.attempts import Attempts

_GRID = 64
DEFAULT_CONCENTRATION = 2.0
AGREE = 0.20
"""Chance that two wrong answers to the same problem are the same, where answers were not recorded; measured on the 100
problems with 8 samples each of ``math/maj-example`` (SkyThought, Apache-2.0): see :func:`agreement`."""


@dataclass(frozen=True)
class Repeated:
    """Chances to be right over problems: a share that the model never solves, the others Beta-distributed.

    Attributes:
        a, b: of the Beta distribution.
        never: share of problems that stay unsolved at any number of attempts.
    """

    a: float
    b: float
    never: float

    @property
    def concentration(self) -> float:
        """a + b: how much alike problems are in difficulty; small where most are nearly always or nearly never solved."""
        return self.a + self.b

    def pass_at(self, n: int) -> float:
        """Chance that at least one of n attempts at a problem is right."""
        none = np.exp(betaln(self.a, self.b + n) - betaln(self.a, self.b))
        return float((1 - self.never) * (1 - none))

    def right_of(self, n: int) -> F64:
        """(n + 1,) chances that k of n attempts at a problem are right."""
        k = np.arange(n + 1)
        chance = np.exp(np.log(comb(n, k)) + betaln(self.a + k, self.b + n - k) - betaln(self.a, self.b))
        chance *= 1 - self.never
        chance[0] += self.never
        return np.asarray(chance)

    def given(self, right: I64, count: I64, n: int) -> F64:
        """(problems, n + 1) chances of k right among n new attempts, of problems with so many right among those measured."""
        zero = np.exp(betaln(self.a, self.b + count) - betaln(self.a, self.b))
        never = np.where(right == 0, self.never / (self.never + (1 - self.never) * zero), 0.0)
        a, b = self.a + right[:, None], self.b + (count - right)[:, None]
        k = np.arange(n + 1)[None, :]
        log_comb = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        chance = np.exp(log_comb + betaln(a + k, b + n - k) - betaln(a, b)) * (1 - never)[:, None]
        chance[:, 0] += never
        return np.asarray(chance)


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


def fit_repeated(right: I64, count: I64) -> Repeated:
    """Maximum likelihood from right attempts out of so many, by problem; problems without attempts do not count.

    With one attempt each nothing tells alike problems from unlike ones; the concentration is then that of a typical reasoning
    benchmark, ``DEFAULT_CONCENTRATION``.

    >>> fit_repeated(np.array([0, 1, 1, 0]), np.array([1, 1, 1, 1])).pass_at(1)
    0.5
    """
    known = count > 0
    right, count = right[known], count[known]
    if not len(right) or int(count.max(initial=0)) < 2:
        mean = float(np.clip(right.sum() / max(count.sum(), 1), 1e-3, 1 - 1e-3))
        return Repeated(mean * DEFAULT_CONCENTRATION, (1 - mean) * DEFAULT_CONCENTRATION, 0.0)
    pairs, weight = np.unique(np.stack([right, count]), axis=1, return_counts=True)
    k, n = pairs

    def loss(p: F64) -> float:
        a, b, never = np.exp(p[0]), np.exp(p[1]), 1 / (1 + np.exp(-p[2]))
        chance = (1 - never) * np.exp(betaln(a + k, b + n - k) - betaln(a, b)) + never * (k == 0)
        # Two attempts tell never from seldom solved no better than chance; a weak prior says that few are never solved.
        prior = 0.02 * (p[0] ** 2 + p[1] ** 2) + 0.5 * (p[2] + 3) ** 2
        return float(-np.sum(weight * np.log(np.maximum(chance, 1e-300))) + prior)

    best = minimize(loss, np.array([0.0, 0.0, -2.0]), method="Nelder-Mead", options={"maxiter": 3000, "xatol": 1e-6})
    a, b, p = best.x
    return Repeated(float(np.exp(a)), float(np.exp(b)), float(1 / (1 + np.exp(-p))))


def chances(attempts: Attempts, fitted: Repeated) -> F64:
    """(P, 64) quantiles of each problem's chance to be right, whose mean is the share of its attempts that were.

    A problem that no attempt solved stays unsolved; how far others may lie from their own share is the fitted concentration
    and the attempts behind it.
    """
    share = attempts.right / np.maximum(attempts.count, 1)
    total = fitted.concentration + attempts.count
    u = (np.arange(_GRID) + 0.5) / _GRID
    out = np.repeat(share[:, None], _GRID, axis=1)
    inside = (share > 0) & (share < 1)
    a, b = (total * share)[inside, None], (total * (1 - share))[inside, None]
    found = betaincinv(a, b, u[None, :])
    out[inside] = found * (share[inside] / found.mean(axis=1))[:, None]
    return np.minimum(out, 1.0)


def agreement(attempts: Attempts) -> float:
    """Chance that two wrong answers to the same problem are the same; ``AGREE`` if answers were not recorded.

    Attempts without an answer are left out.
    """
    if attempts.answer is None:
        return AGREE
    owner = np.repeat(np.arange(len(attempts.count)), attempts.count)
    wrong = ~attempts.correct & (attempts.answer >= 0)
    pair = np.stack([owner[wrong], attempts.answer[wrong]])
    of_problem = np.bincount(owner[wrong])
    _, of_answer = np.unique(pair, axis=1, return_counts=True)
    pairs = float((of_problem * (of_problem - 1)).sum())
    return float((of_answer * (of_answer - 1)).sum() / pairs) if pairs >= 100 else AGREE


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
