"""Graded examples of a new task type, as a shift of what a predictor says near them.

The log-odds of a right answer of prompt x by model h become those of the predictor plus ``gate(x) * (u(x) + v[h])``:

- ``gate`` is 0 where x lies nearer to something that the predictor was trained on than to any example, so that scores elsewhere
  stay as they are, and where its text has little in common with the examples' (:meth:`Shift.gate`). Nearness is the cosine between
  the unit vectors that the predictor measures novelty by. These know the words that it was trained on; TF-IDF over all hashed
  n-grams knows the others too.
- ``u`` is a Gaussian process shared by the models: a constant and a part that follows the likeness of prompts. Each example
  has a part of its own besides, which says nothing of other prompts: whether models fail together at one question must not
  be taken for so many observations of the type.
- ``v`` is each model's own shift.

All have the prior variance ``VARIANCE`` (in log-odds, squared), and what the examples say is weighed against it by Laplace's
approximation (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 3.4), so that without examples nothing
moves and examples that are all right or all wrong move by a finite amount. Logarithms of output tokens are shifted in the same way,
with normal errors as wide as the predictor says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from ttc_sim.base.draws import F64, I64

GATE = 0.1
"""The margin over the likeness of what is known within which the gate opens."""
COMMON = (0.25, 0.5)
"""A text that has less in common with the examples than the first times what they have with each other is of another type, from the
second times on of theirs."""
_USUAL = 0.1  # quantile of what one example has in common with the others
VARIANCE = 1.0
TOKEN_VARIANCE = 0.25
# Log-odds of the mean chance over what is each prompt's own, beside those of a prompt without it (MacKay, 1992).
_AVERAGED = float(1 / np.sqrt(1 + np.pi * VARIANCE / 8))
_STEPS = 50
_SMALL = 1e-9
_LEAST_WEIGHT = 1e-6
_Z90 = 1.2815515655446004  # standard normal 90th percentile

Slopes = Callable[[F64], tuple[F64, F64]]


@dataclass(frozen=True)
class Graded:
    """``E`` examples and what ``H`` models made of them.

    Attributes:
        points: (E, w) unit vectors; known: (E,) likeness of the nearest thing that the predictor was trained on.
        words: (E, BUCKETS) TF-IDF of hashed n-grams, words and byte strings of length 1 each.
        logit: (E, H) predicted log-odds; share: (E, H) of attempts that were right, NaN where there were none.
        log_tokens: (E, H) predicted median, log_spread: (E, H) predicted spread of the logarithm of output tokens.
        log_mean: (E, H) mean logarithm of the attempts' output tokens, NaN where that is not known.
    """

    points: F64
    known: F64
    words: sparse.csr_matrix
    logit: F64
    share: F64
    log_tokens: F64
    log_spread: F64
    log_mean: F64

    def __len__(self) -> int:
        return len(self.points)

    def rows(self, which: NDArray[np.generic]) -> Graded:
        """Some of the examples."""
        return Graded(**{name: values[which] for name, values in self.__dict__.items()})


@dataclass(frozen=True)
class Part:
    """A shift at gate 1: ``likeness @ local + constant`` for the models that were graded, and ``own`` of each.

    Attributes:
        local: (E,) weights of the likeness to each example; constant: shared by the graded models.
        own: (H,) each model's own, 0 of those not graded; graded: (H,) 1 of those graded, else 0.
    """

    local: F64
    constant: float
    own: F64
    graded: F64

    def __call__(self, likeness: F64) -> F64:
        """(n, H) shifts of prompts of likeness (n, E)."""
        return np.asarray((likeness @ self.local + self.constant)[:, None] * self.graded + self.own)


@dataclass(frozen=True)
class Shift:
    """What examples of one task type teach.

    Attributes:
        points: (E, w) of the examples; words: (BUCKETS,) half the mean of their TF-IDF, so that its product with a prompt's is the
            mean cosine; usual: what nine tenths of the examples have at least in common with the others by that.
        chance, tokens: shifts of log-odds, and of log tokens.
    """

    points: F64
    words: NDArray[np.float32]
    usual: float
    chance: Part
    tokens: Part

    def likeness(self, points: F64) -> F64:
        """(n, E) to each example."""
        return np.asarray(points @ self.points.T)

    def gate(self, likeness: F64, known: F64, words: sparse.csr_matrix) -> F64:
        """(n,) how far prompts are taken to be of the examples' type.

        0 where something known is nearer than all of them, or the text has less in common with them than the first of ``COMMON``
        says; linear from there on to 1.

        Args:
            likeness: (n, E) to the examples; known: (n,) to the nearest of what the predictor was trained on.
            words: (n, BUCKETS) TF-IDF of the prompts.
        """
        begin, end = (self.usual * part for part in COMMON)
        common = (words @ self.words - begin) / (end - begin)
        return np.asarray(np.clip(np.minimum((likeness.max(axis=1) - known) / GATE, common), 0, 1))


def in_common(words: sparse.csr_matrix) -> float:
    """What nine tenths of the examples have at least in common with the others: a mean cosine. Of one alone, 1."""
    count = words.shape[0]
    if count < 2:
        return 1.0
    likeness = (words @ words.T).toarray() / 2
    others = (likeness.sum(axis=1) - np.diag(likeness)) / (count - 1)
    return max(float(np.quantile(others, _USUAL)), _SMALL)


def learn_shift(examples: Graded) -> Shift:
    """Weigh examples of one task type against the prior."""
    likeness = np.asarray(examples.points @ examples.points.T)
    right = ~np.isnan(examples.share)
    share, logit = examples.share[right], examples.logit[right]

    def outcomes(shift: F64) -> tuple[F64, F64]:
        p = expit(logit + shift)
        return share - p, np.maximum(p * (1 - p), _LEAST_WEIGHT)

    timed = ~np.isnan(examples.log_mean)
    off = examples.log_mean[timed] - examples.log_tokens[timed]
    weight = 1 / examples.log_spread[timed] ** 2

    def lengths(shift: F64) -> tuple[F64, F64]:
        return (off - shift) * weight, weight

    chance = _part(likeness, right, outcomes, VARIANCE, _AVERAGED)
    words = np.asarray(examples.words.mean(axis=0) / 2, dtype=np.float32).ravel()
    tokens = _part(likeness, timed, lengths, TOKEN_VARIANCE, 1.0)
    return Shift(examples.points, words, in_common(examples.words), chance, tokens)


def _part(likeness: F64, known: NDArray[np.bool_], slopes: Slopes, variance: float, factor: float) -> Part:
    """The likeliest shift of one kind, times ``factor``.

    Args:
        likeness: (E, E); known: (E, H) which observations there are, in the order of which ``slopes`` gives derivatives of their
            log-likelihood by their shifts: the first, and the second with its sign changed.
    """
    example, model = (np.asarray(index, dtype=np.int64) for index in np.nonzero(known))
    residual, own = _likeliest(likeness, example, model, known.shape[1], slopes, variance)
    graded = np.asarray(known.any(axis=0), dtype=np.float64)
    return Part(
        local=factor * variance * residual,
        constant=float(factor * variance * residual.sum()),
        own=factor * own * graded,
        graded=graded,
    )


def _likeliest(
    likeness: F64, example: I64, model: I64, models: int, slopes: Slopes, variance: float
) -> tuple[F64, F64]:
    """By Newton's method, each example's sum of first derivatives (E,) and each model's own shift (H,)."""
    count = len(likeness)
    # Unknowns of variance 1, independent of each other, are what is solved for.
    root = np.linalg.cholesky(variance * (1 + likeness + np.eye(count)))
    wide = float(np.sqrt(variance))

    def at(unknown: F64) -> tuple[F64, F64, F64]:
        """Slope of the log-posterior, first derivatives by example, second ones."""
        first, second = slopes((root @ unknown[:count])[example] + wide * unknown[count + model])
        by_example, by_model = (
            np.bincount(index, first, many).astype(np.float64) for index, many in ((example, count), (model, models))
        )
        return np.concatenate([root.T @ by_example, wide * by_model]) - unknown, by_example, second

    unknown = np.zeros(count + models)
    slope, by_example, second = at(unknown)
    for _ in range(_STEPS):
        cross = np.zeros((count, models))
        np.add.at(cross, (example, model), second)
        across = root.T @ cross * wide
        of_examples = root.T @ (cross.sum(axis=1)[:, None] * root)
        curved = np.block([[of_examples, across], [across.T, np.diag(variance * cross.sum(axis=0))]])
        step = np.linalg.solve(curved + np.eye(count + models), slope)
        # The log-posterior is concave: a step that is short enough makes the slope less.
        size, further = 1.0, at(unknown + step)
        while np.linalg.norm(further[0]) > np.linalg.norm(slope) and size > _SMALL:
            size /= 2
            further = at(unknown + size * step)
        if np.linalg.norm(further[0]) >= np.linalg.norm(slope):
            break
        unknown = unknown + size * step
        slope, by_example, second = further
        if np.abs(step).max() < _SMALL:
            break
    return by_example, wide * unknown[count:]


def spread_of(median: F64, p90: F64) -> F64:
    """Spread of the logarithm of output tokens, from two of their quantiles; at least 0.05."""
    return np.asarray(np.maximum(np.log(p90 / median) / _Z90, 0.05))


@dataclass(frozen=True)
class LeftOut:
    """Examples that each shift was learnt without.

    Attributes:
        before, after: Brier score of the predictor, and with the shift; opened: mean gate.
    """

    before: float
    after: float
    opened: float


def left_out(examples: Graded, folds: int = 10) -> LeftOut:
    """What the shift is worth on examples: each is judged by a shift that was learnt without its fold."""
    fold = np.arange(len(examples)) % min(folds, len(examples))
    p = np.empty_like(examples.logit)
    opened = np.empty(len(examples))
    for k in range(int(fold.max()) + 1):
        held = examples.rows(fold == k)
        shift = learn_shift(examples.rows(fold != k))
        likeness = shift.likeness(held.points)
        opened[fold == k] = shift.gate(likeness, held.known, held.words)
        p[fold == k] = expit(held.logit + opened[fold == k][:, None] * shift.chance(likeness))
    known = ~np.isnan(examples.share)
    share = examples.share[known]

    def score(p: F64) -> float:
        return float(np.mean(share * (1 - p) ** 2 + (1 - share) * p**2))

    return LeftOut(score(expit(examples.logit[known])), score(p[known]), float(opened.mean()))


__all__ = [
    "COMMON",
    "GATE",
    "Graded",
    "LeftOut",
    "Part",
    "Shift",
    "in_common",
    "learn_shift",
    "left_out",
    "spread_of",
]
