"""Train the predictor: one logistic head per model over hashed TF-IDF features, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize, minimize_scalar

from ttc_sim.draws import F64, I64
from ttc_sim.predictor.features import BUCKETS, featurize_rows

WORDS = BUCKETS // 2  # words hash below, byte strings above
ITERATIONS = 40
_EPSILON = 1e-6


@dataclass(frozen=True)
class Linear:
    """Linear heads over hashed TF-IDF features.

    Attributes:
        heads: names of the H heads.
        idf: (BUCKETS,) inverse document frequencies.
        weight: (BUCKETS, H); base: (H,) logit of the base rate; bias: (H,) what the heads add to it.
    """

    heads: tuple[str, ...]
    idf: NDArray[np.float32]
    weight: NDArray[np.float32]
    base: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, scaled: sparse.csr_matrix) -> F64:
        """What the heads add to the base rate's logit, (n, H)."""
        return np.asarray(scaled @ self.weight + self.bias, dtype=np.float64)


def features(prompts: Sequence[str]) -> sparse.csr_matrix:
    """Sublinear counts of hashed n-grams, (n, BUCKETS)."""
    rows, ids, values = featurize_rows(prompts)
    return sparse.csr_matrix((values, (rows, ids)), shape=(len(prompts), BUCKETS))


def scale(counts: sparse.csr_matrix, idf: NDArray[np.float32]) -> sparse.csr_matrix:
    """TF-IDF with words and byte strings each brought to length 1."""
    scaled = counts.copy().astype(np.float32)
    scaled.data = scaled.data * idf[scaled.indices]
    row = np.repeat(np.arange(scaled.shape[0]), np.diff(scaled.indptr))
    word = scaled.indices < WORDS
    for part in (word, ~word):
        length = np.sqrt(np.bincount(row[part], scaled.data[part] ** 2, minlength=scaled.shape[0])) + _EPSILON
        scaled.data[part] /= length[row[part]]
    return scaled


def inverse_frequencies(counts: sparse.csr_matrix) -> NDArray[np.float32]:
    """Smoothed inverse document frequencies, (BUCKETS,), as scikit-learn defines them."""
    frequency = np.bincount(counts.indices, minlength=BUCKETS)
    return (np.log((1 + counts.shape[0]) / (1 + frequency)) + 1).astype(np.float32)


def fit(
    counts: sparse.csr_matrix, targets: F64, heads: Sequence[str], strength: float, idf: NDArray[np.float32]
) -> Linear:
    """Fit all heads at once by L-BFGS.

    Args:
        counts: (n, BUCKETS) from :func:`features`.
        targets: (n, H) shares from 0 to 1; NaN where a head was not measured.
        strength: inverse of the ridge penalty, as scikit-learn's ``C``.
        idf: (BUCKETS,) inverse document frequencies, shared by all heads of a predictor.
    """
    width = targets.shape[1]
    scaled = scale(counts, idf)
    transposed = scaled.T.tocsr()
    measured = ~np.isnan(targets)
    wanted = np.nan_to_num(targets).astype(np.float32)
    rate = np.clip(np.nanmean(targets, axis=0), 0.005, 0.995)
    base = np.log(rate / (1 - rate)).astype(np.float32)
    size = BUCKETS * width

    def loss(flat: F64) -> tuple[float, F64]:
        weight = flat[:size].reshape(BUCKETS, width).astype(np.float32)
        z = scaled @ weight + flat[size:].astype(np.float32) + base
        nats = (np.logaddexp(0, z) - wanted * z)[measured].sum() * strength
        error = np.where(measured, 1 / (1 + np.exp(-z)) - wanted, 0).astype(np.float32) * strength
        slope = np.concatenate([(transposed @ error).ravel() + flat[:size], error.sum(axis=0)])
        return float(nats + 0.5 * (flat[:size] ** 2).sum()), slope.astype(np.float64)

    found = minimize(
        loss, np.zeros(size + width), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "maxcor": 6}
    ).x
    return Linear(
        heads=tuple(heads),
        idf=idf,
        weight=found[:size].reshape(BUCKETS, width).astype(np.float32),
        base=base,
        bias=found[size:].astype(np.float32),
    )


def probabilities(added: F64, base: NDArray[np.float32], slope: F64) -> F64:
    """Calibrated probabilities, (n, H).

    Args:
        added: (n, H) from :meth:`Linear.logits`.
        base: (H,) logit of the base rate; slope: (H,) calibration.
    """
    return np.asarray(1 / (1 + np.exp(-(base + slope * added))))


def calibrate(added: F64, base: NDArray[np.float32], targets: F64) -> F64:
    """Slope of each head that makes its out-of-fold predictions most likely (temperature scaling)."""
    slopes = np.ones(added.shape[1])
    for head in range(added.shape[1]):
        known = ~np.isnan(targets[:, head])
        z, y = added[known, head], targets[known, head]

        def nats(log_slope: float, z: F64 = z, y: F64 = y, b: float = float(base[head])) -> float:
            logit = b + np.exp(log_slope) * z
            return float(np.mean(np.logaddexp(0, logit) - y * logit))

        slopes[head] = float(np.exp(minimize_scalar(nats, bounds=(-2.5, 1.5), method="bounded").x))
    return slopes


def brier(p: F64, targets: F64) -> F64:
    """(H,) mean squared error of a probability against outcomes, where a target is a share of right outcomes."""
    return np.asarray(np.nanmean(targets * (1 - p) ** 2 + (1 - targets) * p**2, axis=0))


def auroc(p: F64, share: F64) -> float:
    """Area under the ROC curve, where each row stands for ``share`` right and ``1 - share`` wrong outcomes."""
    known = ~np.isnan(share)
    order = np.argsort(p[known], kind="stable")
    score, right = p[known][order], share[known][order]
    group = np.cumsum(np.concatenate([[True], np.diff(score) > 0])) - 1
    rights = np.bincount(group, right)
    wrongs = np.bincount(group, 1 - right)
    below = np.cumsum(wrongs) - wrongs
    return float((rights * (below + wrongs / 2)).sum() / (rights.sum() * wrongs.sum()))


def calibration_error(p: F64, share: F64, bins: int = 15) -> float:
    """Expected calibration error over bins of equal size."""
    known = ~np.isnan(share)
    order = np.argsort(p[known], kind="stable")
    parts = zip(np.array_split(p[known][order], bins), np.array_split(share[known][order], bins), strict=True)
    return float(sum(len(a) * abs(a.mean() - b.mean()) for a, b in parts if len(a)) / known.sum())


def out_of_fold(
    counts: sparse.csr_matrix,
    targets: F64,
    heads: Sequence[str],
    strength: float,
    idf: NDArray[np.float32],
    fold: I64,
) -> tuple[F64, NDArray[np.float32]]:
    """What models that have not seen a row add to the base rate's logit, (n, H), and the mean base, (H,)."""
    added = np.zeros(targets.shape)
    bases = []
    for k in np.unique(fold):
        held = np.flatnonzero(fold == k)
        model = fit(counts[fold != k], targets[fold != k], heads, strength, idf)
        added[held] = model.logits(scale(counts[held], model.idf))
        bases.append(model.base)
    return added, np.mean(bases, axis=0)
