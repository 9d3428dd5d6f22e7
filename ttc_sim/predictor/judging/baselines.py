"""What a predictor has to beat: cheap guesses at each model's chance, made without it.

Each is cross-validated within the data given: a problem is predicted by a fit that has not seen its text (or, with folds by
group, no problem of its task type). Folds follow from the text (or the type) and the seed alone.
"""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.progress import Progress, Step, silent

FOLDS = 5
NEIGHBOURS = 50
DIMENSIONS = 100
_MOST_TERMS = 100_000
_ITERATIONS = 25
_STRENGTHS = (0.1, 0.5, 3.0, 10.0)
INSTALL = "the baselines need scikit-learn, which is not installed: pip install 'ttc-sim[train]'"


def available() -> bool:
    """Whether scikit-learn, which the baselines need, is installed."""
    return importlib.util.find_spec("sklearn") is not None


def folds_of(labels: Sequence[str], seed: int = 0, folds: int = FOLDS) -> I64:
    """(n,) fold of each label, 0 to ``folds - 1``: the same label always falls in the same fold.

    >>> folds_of(["a", "b", "a"]).tolist()[0] == folds_of(["a"]).tolist()[0]
    True
    """
    return np.array([zlib.crc32(f"{seed}/{label}".encode("utf-8", "replace")) % folds for label in labels], np.int64)


def baselines(
    prompts: Sequence[str],
    group: Sequence[str],
    shares: Mapping[str, F64],
    fold: I64,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, dict[str, F64]]:
    """Out-of-fold predictions of every baseline.

    Args:
        prompts: n prompts; group: their task types or categories.
        shares: by model, (n,) share right; NaN where it was not measured.
        fold: (n,) from :func:`folds_of`.
        seed: of the dimension reduction.

    Returns:
        By baseline (``constant_per_category``, ``prompt_length``, ``tfidf_logistic``, ``nearest_neighbours``) and model,
        (n,) probabilities; NaN where a model has no outcome outside the fold to learn from.
    """
    # Installed with scikit-learn. Sums that several threads share depend on their number in the last digit.
    from threadpoolctl import threadpool_limits

    models = list(shares)
    target = np.stack([shares[model] for model in models], axis=1)
    found: dict[str, F64] = {}
    with threadpool_limits(limits=1):
        progress(Step("baselines", detail="constant per category"))
        found["constant_per_category"] = _by_group(np.asarray(group), target, fold)
        progress(Step("baselines", detail="prompt length"))
        logs = np.log1p(np.array([len(prompt) for prompt in prompts], dtype=np.float64))[:, None]
        length = sparse.csr_matrix((logs - logs.mean()) / max(float(logs.std()), 1e-9))
        found["prompt_length"] = _logistic(length, target, fold, strength=1e6)
        progress(Step("baselines", detail="TF-IDF of words and characters"))
        found_terms = _tfidf(prompts)
        terms = length if found_terms is None else found_terms  # no prompt may hold a word
        strength = _best_strength(terms, target, fold)
        progress(Step("baselines", detail=f"logistic regression on TF-IDF, C = {strength}"))
        found["tfidf_logistic"] = _logistic(terms, target, fold, strength)
        progress(Step("baselines", detail="nearest neighbours"))
        found["nearest_neighbours"] = _neighbours(_embedded(terms, seed), target, fold)
    return {name: {model: values[:, k] for k, model in enumerate(models)} for name, values in found.items()}


def _by_group(group: np.ndarray[Any, Any], target: F64, fold: I64) -> F64:
    """Mean of the group in the other folds; of everything, for a group that they do not have."""
    index = np.unique(group, return_inverse=True)[1]
    out = np.full(target.shape, np.nan)
    for held, learnt in _splits(fold):
        for k in range(target.shape[1]):
            known = learnt & ~np.isnan(target[:, k])
            if not known.any():
                continue
            size = np.bincount(index[known], minlength=index.max() + 1)
            right = np.bincount(index[known], target[known, k], minlength=index.max() + 1)
            mean = np.where(size > 0, right / np.maximum(size, 1), target[known, k].mean())
            out[held, k] = mean[index[held]]
    return out


def _logistic(features: sparse.csr_matrix, target: F64, fold: I64, strength: float) -> F64:
    """Logistic regression of each model's share; ``strength`` is the inverse of the ridge penalty, as scikit-learn's ``C``."""
    out = np.full(target.shape, np.nan)
    for held, learnt in _splits(fold):
        known = ~np.isnan(target[learnt]).all(axis=0)
        if known.any():
            weight, bias = fit_logistic(features[learnt], target[learnt][:, known], strength)
            out[np.ix_(held, known)] = expit(features[held] @ weight + bias)
    return out


def _best_strength(features: sparse.csr_matrix, target: F64, fold: I64) -> float:
    """The strength with the least log loss on one fold, of fits to the folds after it: too weak a ridge would make this
    baseline easier to beat than it is."""
    folds = np.unique(fold)
    if len(folds) < 3:
        return _STRENGTHS[0]
    held, learnt = fold == folds[1], fold > folds[1]
    known = ~(np.isnan(target[held]).all(axis=0) | np.isnan(target[learnt]).all(axis=0))
    if not known.any():
        return _STRENGTHS[0]
    losses = []
    for strength in _STRENGTHS:
        weight, bias = fit_logistic(features[learnt], target[learnt][:, known], strength)
        z = features[held] @ weight + bias
        losses.append(float(np.nanmean(np.logaddexp(0, z) - target[held][:, known] * z)))
    return _STRENGTHS[int(np.argmin(losses))]


def fit_logistic(features: sparse.csr_matrix, target: F64, strength: float) -> tuple[F64, F64]:
    """Weights (d, H) and intercepts (H,) of logistic regressions on the same features, all at once.

    What scikit-learn's ``LogisticRegression(C=strength)`` finds for each column where it is measured, with a share of right
    outcomes counted as a right and a wrong one of those weights.

    Args:
        features: (n, d); target: (n, H) shares from 0 to 1, NaN where not measured.
    """
    width, heads = features.shape[1], target.shape[1]
    measured, wanted = ~np.isnan(target), np.nan_to_num(target)
    # By columns both ways: what is looked up at random is then as long as the rows are many, and stays in the cache.
    by_column = features.tocsc()
    transposed = by_column.T
    rate = np.clip(np.nanmean(target, axis=0), 0.002, 0.998)
    size = width * heads

    def loss(flat: F64) -> tuple[float, F64]:
        weight = flat[:size].reshape(width, heads)
        z = by_column @ weight.astype(features.dtype) + flat[size:]
        nats = float((np.logaddexp(0, z) - wanted * z)[measured].sum())
        error = np.where(measured, expit(z) - wanted, 0)
        slope = transposed @ error.astype(features.dtype) + weight / strength
        return nats + 0.5 / strength * float(flat[:size] @ flat[:size]), np.append(slope, error.sum(axis=0))

    start = np.append(np.zeros(size), np.log(rate / (1 - rate)))
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS, "maxcor": 6, "ftol": 1e-6}
    ).x
    return found[:size].reshape(width, heads), found[size:]


def _tfidf(prompts: Sequence[str]) -> sparse.csr_matrix | None:
    """Words and their pairs beside strings of 3 to 5 characters; the vocabulary sees all texts, but no outcome."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [prompt[:20_000] for prompt in prompts]
    parts = []
    least = 2 if len(texts) >= 50 else 1
    for options in ({"ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (3, 5)}):
        made = TfidfVectorizer(sublinear_tf=True, min_df=least, max_features=_MOST_TERMS, dtype=np.float32, **options)
        try:
            parts.append(made.fit_transform(texts))
        except ValueError:  # an empty vocabulary
            continue
    return sparse.hstack(parts, format="csr") if parts else None


def _embedded(features: sparse.csr_matrix, seed: int) -> F64:
    """Latent semantic analysis: (n, d) unit vectors from the singular vectors of the TF-IDF matrix."""
    from sklearn.decomposition import TruncatedSVD

    most = min(features.shape) - 1
    if most < 2:
        dense = features.toarray()
    else:
        dense = TruncatedSVD(min(DIMENSIONS, most), random_state=seed, n_iter=2).fit_transform(features)
    length = np.linalg.norm(dense, axis=1, keepdims=True)
    return np.asarray(dense / np.maximum(length, 1e-12), dtype=np.float64)


def _neighbours(embedding: F64, target: F64, fold: I64, at_once: int = 1000) -> F64:
    """Mean of the nearest texts (by cosine) in the other folds that the model was measured on."""
    out = np.full(target.shape, np.nan)
    # Models measured on the same problems share their neighbours.
    measured, which = np.unique(~np.isnan(target), axis=1, return_inverse=True)
    for held, learnt in _splits(fold):
        for pattern in range(measured.shape[1]):
            pool = np.flatnonzero(learnt & measured[:, pattern])
            if not len(pool):
                continue
            alike = np.flatnonzero(which == pattern)
            near = min(NEIGHBOURS, len(pool))
            rows = np.flatnonzero(held)
            for at in range(0, len(rows), at_once):
                here = rows[at : at + at_once]
                likeness = embedding[here] @ embedding[pool].T
                nearest = pool[np.argpartition(-likeness, near - 1, axis=1)[:, :near]]
                out[here[:, None], alike] = target[nearest[:, :, None], alike].mean(axis=1)
    return out


def _splits(fold: I64) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Rows held out and rows learnt from, for every fold."""
    return [(fold == k, fold != k) for k in np.unique(fold)]


__all__ = ["FOLDS", "INSTALL", "available", "baselines", "folds_of"]
