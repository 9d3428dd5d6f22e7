"""From what networks say to what can be relied on: calibration, and a return to the base rate far from the training data.

A probability is ``rate + trust * (calibrated - rate)``, where ``rate`` is the share of right answers in training and ``trust``
falls from 1 to 0 as a prompt's distance from the training data grows. Lengths return to their training mean and spread likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ttc_sim.base.draws import F64, I64
from ttc_sim.predictor.learning.data import TrainingSet

QUANTILES = (0.5, 0.9)
MOST_VARIANCE = 2.0
"""A log-normal mean takes no more variance than this: beyond it the tail is a limit on tokens, not a distribution's."""
LEAST = 20
"""Problems that calibration needs; a model with fewer is left as it is."""
_PLATT_SPREAD = 0.5
"""Around slope 1 and offset 0: on few problems an outcome or two decide else, on thousands it does not show."""
_NORMAL_P90 = 1.2816
_PENALTY = 1.0
_POOLING = 4.0
_FLOORS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0)


@dataclass(frozen=True)
class Raw:
    """Uncalibrated predictions for n prompts and H models, each (n, H) but for the (n,) ``novelty`` and ``strange``.

    Attributes:
        logit: of the chance to be right; location, log_sigma: mean and log spread of the logarithm of output tokens.
        novelty: distance from the training data, 0 to 1; strange: 0, or up to 1 for what is like no text trained on.
        rate, base_location, base_log_sigma: what holds for the training data as a whole.
    """

    logit: F64
    location: F64
    log_sigma: F64
    novelty: F64
    strange: F64
    rate: F64
    base_location: F64
    base_log_sigma: F64

    def rows(self, which: NDArray[np.bool_]) -> Raw:
        """Those of some of the prompts."""
        return Raw(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    def scaled_novelty(self, edge: float, far: float) -> F64:
        """(n,) 0 to 0.5 at a distance of ``edge``, and on to 1 at ``far``; strange prompts are as novel as they are strange."""
        within, beyond = self.novelty / edge, (self.novelty - edge) / (far - edge)
        return np.maximum((np.minimum(within, 1) + np.clip(beyond, 0, 1)) / 2, self.strange)

    @classmethod
    def assembled(cls, parts: Sequence[Raw], fold: I64) -> Raw:
        """Predictions made fold by fold, in the order of the prompts; ``fold`` (n,) says which part holds each."""
        return cls(
            **{field.name: by_fold([getattr(part, field.name) for part in parts], fold) for field in fields(cls)}
        )


def by_fold(parts: Sequence[F64], fold: I64) -> F64:
    """Rows of the parts, in the order of the prompts."""
    whole = np.empty((len(fold), *parts[0].shape[1:]))
    for k, part in enumerate(parts):
        whole[fold == k] = part
    return whole


@dataclass(frozen=True)
class Prediction:
    """What is said of n prompts and H models: ``p``, ``tokens``, ``tokens_p50``, ``tokens_p90`` (n, H), ``trust`` (n, H)."""

    p: F64
    tokens: F64
    tokens_p50: F64
    tokens_p90: F64
    trust: F64

    @classmethod
    def assembled(cls, parts: Sequence[Prediction], fold: I64) -> Prediction:
        """Predictions made fold by fold, in the order of the prompts."""
        return cls(
            **{field.name: by_fold([getattr(part, field.name) for part in parts], fold) for field in fields(cls)}
        )


@dataclass(frozen=True)
class Calibration:
    """Of H models, each (H,).

    Attributes:
        slope, offset: of the logit (Platt scaling).
        p50, p90: quantiles of (log tokens - location) / spread; log_mean: what the log-normal mean is off by.
    """

    slope: F64
    offset: F64
    p50: F64
    p90: F64
    log_mean: F64


@dataclass(frozen=True)
class Shrink:
    """How trust falls with distance, for H models.

    Attributes:
        near, far, floor: (H,) trust is 1 up to ``near`` and ``floor`` from ``far`` on.
        end: the farthest distance that was measured; trust is 0 from ``end * 1.2 + 0.01`` on. Each step is linear.
    """

    near: F64
    far: F64
    floor: F64
    end: float

    def trust(self, raw: Raw) -> F64:
        """(n, H)."""
        novelty = raw.novelty[:, None]
        near = self.floor + (1 - self.floor) * np.clip((self.far - novelty) / (self.far - self.near), 0, 1)
        known = np.clip((self.end - novelty) / (0.2 * self.end + 0.01) + 1, 0, 1)
        return near * known * (1 - raw.strange[:, None])


def probability(raw: Raw, slope: F64, offset: F64) -> F64:
    """Calibrated, before trust."""
    return np.asarray(1 / (1 + np.exp(-np.clip(offset + slope * raw.logit, -30, 30))))


def lengths(raw: Raw, trust: F64) -> tuple[F64, F64]:
    """Location and spread of log tokens, drawn to those of the training data where trust is low."""
    location = raw.base_location + trust * (raw.location - raw.base_location)
    return location, np.exp(raw.base_log_sigma + trust * (raw.log_sigma - raw.base_log_sigma))


def predict(raw: Raw, calibration: Calibration, shrink: Shrink | None) -> Prediction:
    """What is said of each prompt."""
    trust = np.ones_like(raw.logit) if shrink is None else shrink.trust(raw)
    p = raw.rate + trust * (probability(raw, calibration.slope, calibration.offset) - raw.rate)
    location, sigma = lengths(raw, trust)
    return Prediction(
        p=p,
        tokens=np.exp(location + np.minimum(sigma**2, MOST_VARIANCE) / 2 + calibration.log_mean),
        tokens_p50=np.exp(location + calibration.p50 * sigma),
        tokens_p90=np.exp(location + calibration.p90 * sigma),
        trust=trust,
    )


def fit_calibration(raw: Raw, data: TrainingSet, shrink: Shrink | None) -> Calibration:
    """Learn from predictions of problems that the models had not seen."""
    heads = raw.logit.shape[1]
    slope, offset = np.ones(heads), np.zeros(heads)
    trust = np.ones_like(raw.logit) if shrink is None else shrink.trust(raw)
    for k in range(heads):
        known = ~np.isnan(data.share[:, k])
        if known.sum() >= LEAST:
            slope[k], offset[k] = platt(raw.logit[known, k], raw.rate[known, k], trust[known, k], data.share[known, k])
    location, sigma = lengths(raw, trust)
    at = data.row, data.head
    log_tokens = np.log(data.tokens)
    standard = (log_tokens - location[at]) / sigma[at]
    mean = np.exp(location[at] + np.minimum(sigma[at] ** 2, MOST_VARIANCE) / 2)
    weight = 1 / data.tries[at]
    p50, p90, log_mean = np.zeros(heads), np.full(heads, _NORMAL_P90), np.zeros(heads)
    for k in range(heads):
        mine = data.head == k
        if mine.sum() < LEAST:
            continue
        p50[k], p90[k] = _weighted_quantiles(standard[mine], weight[mine])
        log_mean[k] = np.log((weight[mine] * data.tokens[mine]).sum() / (weight[mine] * mean[mine]).sum())
    return Calibration(slope, offset, p50, p90, log_mean)


def platt(z: F64, rate: F64, trust: F64, share: F64) -> tuple[float, float]:
    """Slope and offset that are likeliest from what is said after trust, if they lie normally around 1 and 0; the gradient is
    that of ``-share * log(p) - (1 - share) * log(1 - p)``."""

    tie = 0.5 / (_PLATT_SPREAD**2 * len(z))

    def loss(at: F64) -> tuple[float, F64]:
        s = 1 / (1 + np.exp(-np.clip(at[1] + at[0] * z, -30, 30)))
        p = np.clip(rate + trust * (s - rate), 1e-9, 1 - 1e-9)
        off = at - [1, 0]
        value = -float(np.mean(share * np.log(p) + (1 - share) * np.log1p(-p))) + tie * float((off**2).sum())
        error = (p - share) / (p * (1 - p)) * trust * s * (1 - s)
        return value, np.array([np.mean(error * z), np.mean(error)]) + 2 * tie * off

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, 3), (-5, 5)]).x
    return float(found[0]), float(found[1])


def _weighted_quantiles(values: F64, weight: F64) -> tuple[float, float]:
    order = np.argsort(values, kind="stable")
    rank = (np.cumsum(weight[order]) - weight[order] / 2) / weight.sum()
    found = np.interp(QUANTILES, rank, values[order])
    return float(found[0]), float(found[1])


def fit_shrink(calibration: Calibration, new: Raw, new_share: F64, unseen: Raw, unseen_share: F64, fold: I64) -> Shrink:
    """How fast trust must fall, and how far.

    For each model, what gives the least squared error on problems left out and on task types left out, where by how much the
    latter is worse than that of the training rate in the worst of the folds is added. The mean of this over all models counts
    four times the model's own: on few task types, one model's outcomes decide too much.

    Args:
        new, new_share: predictions and outcomes of problems left out; unseen, unseen_share: of task types left out.
        fold: (n,) folds of task types of the latter.
    """
    end = float(max(new.novelty.max(), unseen.novelty.max()))
    levels = [
        *np.quantile(new.novelty, [0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 0.995]),
        *np.quantile(unseen.novelty, [0.0, 0.1, 0.25, 0.5, 0.75, 0.95]),
        end,
        1.2 * end + 0.01,
    ]
    edges = np.unique(np.round(levels, 4))
    options = [(a, b, floor) for k, a in enumerate(edges) for b in edges[k + 1 :] for floor in _FLOORS]
    heads = new.logit.shape[1]
    loss = np.zeros((heads, len(options)))
    off_new, wrong_new = _parts(calibration, new, new_share)
    off, wrong = _parts(calibration, unseen, unseen_share)
    counts_new = np.maximum((~np.isnan(new_share)).sum(axis=0), 1)
    parts = [fold == k for k in np.unique(fold)]
    counts = np.array([(~np.isnan(unseen_share[part])).sum(axis=0) for part in parts])
    for at, (near, far, floor) in enumerate(options):
        one = Shrink(np.array([near]), np.array([far]), np.array([floor]), end)
        trust = one.trust(new)
        loss[:, at] = ((2 * wrong_new + trust * off_new) * trust * off_new).sum(axis=0) / counts_new
        trust = one.trust(unseen)
        excess = (2 * wrong + trust * off) * trust * off
        sums = np.array([excess[part].sum(axis=0) for part in parts])
        loss[:, at] += sums.sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
        loss[:, at] += _PENALTY * np.maximum((sums / np.maximum(counts, 1)).max(axis=0), 0)
    loss += _POOLING * loss.mean(axis=0)
    best = np.array(options)[loss.argmin(axis=1)]
    return Shrink(best[:, 0], best[:, 1], best[:, 2], end)


def _parts(calibration: Calibration, raw: Raw, share: F64) -> tuple[F64, F64]:
    """(n, H) by how much the probability is off the training rate, and that is off the outcome; 0 where it is not known."""
    known = ~np.isnan(share)
    off = np.where(known, probability(raw, calibration.slope, calibration.offset) - raw.rate, 0)
    return off, np.where(known, raw.rate - np.nan_to_num(share), 0)
