"""Small networks that learn, for all models at once, the chance to be right and the length of the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64

F32 = NDArray[np.float32]
MEMBERS = 4
_BATCH = 128
_RATE = 2e-3
_DECAY = 0.01
_TOKEN_WEIGHT = 0.2
LOG_SIGMA = (-3.0, 1.5)
"""Bounds of the logarithm of a predicted spread."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: hidden units of each member, passes over the data, share of hidden units left out."""

    hidden: int
    epochs: int
    dropout: float


RECIPES = (Recipe(64, 24, 0.35), Recipe(128, 30, 0.3), Recipe(128, 100, 0.15))


@dataclass(frozen=True)
class Targets:
    """What ``n`` problems showed of ``H`` models; NaN where a model was not measured.

    Attributes:
        share: (n, H) share of right attempts.
        mean, square: (n, H) mean of the logarithm of output tokens, and of its square, over a problem's attempts; in units in
            which a model's mean is 0 and its spread 1.
    """

    share: F64
    mean: F64
    square: F64

    def rows(self, which: NDArray[np.generic]) -> Targets:
        """Those of some of the problems."""
        return Targets(self.share[which], self.mean[which], self.square[which])


@dataclass(frozen=True)
class Network:
    """Members side by side: ``relu(x @ w1 + b1) @ w2 + b2``, (n, 3 H): logits, mean log tokens, log spread of them."""

    w1: F32
    b1: F32
    w2: F32
    b2: F32

    def __call__(self, x: F32) -> F64:
        """Outputs for inputs (n, d)."""
        return np.asarray(np.maximum(x @ self.w1 + self.b1, 0) @ self.w2 + self.b2, dtype=np.float64)


def logit(p: F64) -> F64:
    """Logarithm of the odds, of probabilities kept off 0 and 1."""
    p = np.clip(p, 0.005, 0.995)
    return np.asarray(np.log(p / (1 - p)))


def train_network(x: F32, targets: Targets, rate: F64, recipe: Recipe, seed: int) -> Network:
    """Train the members one after the other from different starts, and put them side by side.

    Args:
        x: (n, d) inputs; targets: of the n problems; rate: (H,) chances to be right that training starts from.
        recipe: how; seed: of the starts, the order of the problems and what is left out.
    """
    parts = [_member(x, targets, rate, recipe, seed=[seed, 3, k]) for k in range(MEMBERS)]
    return Network(
        w1=np.concatenate([part[0] for part in parts], axis=1),
        b1=np.concatenate([part[1] for part in parts]),
        w2=(np.concatenate([part[2] for part in parts]) / MEMBERS).astype(np.float32),
        b2=np.mean([part[3] for part in parts], axis=0, dtype=np.float32),
    )


def _member(x: F32, targets: Targets, rate: F64, recipe: Recipe, seed: Sequence[int]) -> list[F32]:
    """One network by Adam with decoupled weight decay, dropout and a cosine schedule."""
    rng = np.random.default_rng(seed)
    (n, d), heads, hidden = x.shape, targets.share.shape[1], recipe.hidden
    start = np.concatenate([logit(rate), np.zeros(2 * heads)])
    weights: list[F32] = [
        (rng.normal(size=(d, hidden)) / np.sqrt(d)).astype(np.float32),
        np.zeros(hidden, dtype=np.float32),
        (rng.normal(size=(hidden, 3 * heads)) * 0.1 / np.sqrt(hidden)).astype(np.float32),
        start.astype(np.float32),
    ]
    first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    keep_in, keep = np.float32(1 - recipe.dropout / 2), np.float32(1 - recipe.dropout)
    share, mean, square = (a.astype(np.float32) for a in (targets.share, targets.mean, targets.square))
    steps, t = recipe.epochs * -(-n // _BATCH), 0
    for _ in range(recipe.epochs):
        order = rng.permutation(n)
        for at in range(0, n, _BATCH):
            rows = order[at : at + _BATCH]
            inside: F32 = x[rows] * (rng.random((len(rows), d), dtype=np.float32) < keep_in) / keep_in
            raw = inside @ weights[0] + weights[1]
            mask = (rng.random(raw.shape, dtype=np.float32) < keep) / keep
            hidden_out: F32 = np.maximum(raw, np.float32(0)) * mask
            out: F32 = hidden_out @ weights[2] + weights[3]
            error = _slope(out, share[rows], mean[rows], square[rows])
            back = (error @ weights[2].T) * mask * (raw > 0)
            gradients = (inside.T @ back, back.sum(axis=0), hidden_out.T @ error, error.sum(axis=0))
            t += 1
            speed = np.float32(_RATE * 0.5 * (1 + np.cos(np.pi * t / steps)))
            for k, gradient in enumerate(gradients):
                first[k] = np.float32(0.9) * first[k] + np.float32(0.1) * gradient
                second[k] = np.float32(0.99) * second[k] + np.float32(0.01) * gradient * gradient
                step = (first[k] / np.float32(1 - 0.9**t)) / (
                    np.sqrt(second[k] / np.float32(1 - 0.99**t)) + np.float32(1e-8)
                )
                if k in (0, 2):
                    step += np.float32(_DECAY) * weights[k]
                weights[k] = weights[k] - speed * step
    return weights


def _slope(out: F32, share: F32, mean: F32, square: F32) -> F32:
    """Derivative of the mean loss by the outputs: log-loss of outcomes, and of log-normal lengths."""
    heads = share.shape[1]
    p = 1 / (1 + np.exp(-out[:, :heads]))
    location, log_sigma = out[:, heads : 2 * heads], np.clip(out[:, 2 * heads :], *LOG_SIGMA)
    precision = np.exp(-2 * log_sigma)
    off = square - 2 * location * mean + location * location
    error = np.concatenate(
        [p - share, _TOKEN_WEIGHT * (location - mean) * precision, _TOKEN_WEIGHT * (1 - off * precision)], axis=1
    )
    return np.asarray(np.nan_to_num(np.clip(error, -3, 3)) / len(share), dtype=np.float32)
