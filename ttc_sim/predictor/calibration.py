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

from ttc_sim.draws import F64, I64
from ttc_sim.predictor.data import TrainingSet

QUANTILES = (0.5, 0.9)
MOST_VARIANCE = 2.0
"""A log-normal mean takes no more variance than this: beyond it the tail is a limit on tokens, not a distribution's."""
LEAST = 20
"""Problems that calibration needs; a model with fewer is left as it is."""
_NORMAL_P90 = 1.2816
_PENALTY = 3.0
_TOPS = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125)


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

    def scaled_novelty(self, far: float) -> F64:
        """(n,) distance over ``far``, at most 1; strange prompts are as novel as they are strange."""
        return np.minimum(np.maximum(self.novelty / far, self.strange), 1)

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
    """Trust is ``top`` up to distance ``near``, 0 from ``far`` on, and linear between; each (H,)."""

    near: F64
    far: F64
    top: F64

    def trust(self, raw: Raw) -> F64:
        """(n, H)."""
        near = np.clip((self.far - raw.novelty[:, None]) / (self.far - self.near), 0, 1)
        return self.top * near * (1 - raw.strange[:, None])


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
    for k in range(heads):
        known = ~np.isnan(data.share[:, k])
        if known.sum() >= LEAST:
            slope[k], offset[k] = _platt(raw.logit[known, k], data.share[known, k])
    trust = np.ones_like(raw.logit) if shrink is None else shrink.trust(raw)
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


def _platt(z: F64, share: F64) -> tuple[float, float]:
    def loss(at: F64) -> tuple[float, F64]:
        logit = at[1] + at[0] * z
        error = 1 / (1 + np.exp(-np.clip(logit, -30, 30))) - share
        value = float(np.mean(np.logaddexp(0, logit) - share * logit)) + 1e-4 * float(((at - [1, 0]) ** 2).sum())
        return value, np.array([np.mean(error * z), np.mean(error)]) + 2e-4 * (at - [1, 0])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, 3), (-5, 5)]).x
    return float(found[0]), float(found[1])


def _weighted_quantiles(values: F64, weight: F64) -> tuple[float, float]:
    order = np.argsort(values, kind="stable")
    rank = (np.cumsum(weight[order]) - weight[order] / 2) / weight.sum()
    found = np.interp(QUANTILES, rank, values[order])
    return float(found[0]), float(found[1])


def fit_shrink(
    calibration: Calibration, new: Raw, new_share: F64, unseen: Raw, unseen_share: F64, group: I64
) -> Shrink:
    """How fast trust must fall.

    For each model, the distances and the greatest trust with the least squared error on problems left out and on task types left
    out, where by how much the latter may be worse than that of the training rate (one standard error over task types above the
    estimate) counts threefold.

    Args:
        new, new_share: predictions and outcomes of problems left out; unseen, unseen_share: of task types left out.
        group: (n,) task type of each of the latter.
    """
    levels = [
        *np.quantile(new.novelty, [0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 0.995]),
        *np.quantile(unseen.novelty, [0.0, 0.1, 0.25, 0.5, 0.75, 0.95]),
        # Farther than anything measured nothing is trusted, however well the farthest measured did.
        farthest := float(max(new.novelty.max(), unseen.novelty.max())),
        1.2 * farthest + 0.01,
    ]
    edges = np.unique(np.round(levels, 4))
    pairs = np.array([(a, b) for k, a in enumerate(edges) for b in edges[k + 1 :]])
    heads = new.logit.shape[1]
    best = np.zeros((heads, 3))
    for k in range(heads):
        loss = np.zeros((len(_TOPS), len(pairs)))
        for raw, share, cluster in ((new, new_share, None), (unseen, unseen_share, group)):
            known = ~np.isnan(share[:, k])
            if not known.any():
                continue
            rate = raw.rate[known, k]
            off = probability(raw, calibration.slope, calibration.offset)[known, k] - rate
            wrong = rate - share[known, k]
            near = np.clip((pairs[:, 1:] - raw.novelty[known]) / (pairs[:, 1:] - pairs[:, :1]), 0, 1)
            trust = near * (1 - raw.strange[known])
            for at, top in enumerate(_TOPS):
                excess = 2 * top * trust * (off * wrong) + (top * trust * off) ** 2
                gain = excess.mean(axis=1)
                loss[at] += gain
                if cluster is not None:
                    loss[at] += _PENALTY * np.maximum(gain + _clustered_error(excess, cluster[known]), 0)
        which, pair = np.unravel_index(int(np.argmin(loss)), loss.shape)
        best[k] = (*pairs[pair], _TOPS[int(which)])
    return Shrink(best[:, 0], best[:, 1], best[:, 2])


def _clustered_error(values: F64, cluster: I64) -> F64:
    """Standard error of the mean of each row, over clusters of columns."""
    _, index = np.unique(cluster, return_inverse=True)
    member = np.zeros((values.shape[1], int(index.max()) + 1))
    member[np.arange(values.shape[1]), index] = 1
    centred = (values - values.mean(axis=1, keepdims=True)) @ member
    return np.asarray(np.sqrt((centred**2).sum(axis=1)) / values.shape[1])
