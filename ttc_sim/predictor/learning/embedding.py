"""Prompts as short vectors: TF-IDF of hashed n-grams, its leading directions (latent semantic analysis), and cluster centres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ttc_sim.base.draws import I64
from ttc_sim.predictor.reading.features import BUCKETS, Rows

F32 = NDArray[np.float32]
WORDS = BUCKETS // 2  # words hash below, byte strings above
DIMENSIONS = 112
AXES = 64
_ROWS_FITTED = 6000
_EPSILON = 1e-6


def counts_of(rows: Rows) -> sparse.csr_matrix:
    """Sublinear counts of hashed n-grams, (n, BUCKETS)."""
    return sparse.csr_matrix((rows.values, (rows.row, rows.ids)), shape=(len(rows.surface), BUCKETS), dtype=np.float32)


def inverse_frequencies(counts: sparse.csr_matrix) -> F32:
    """Smoothed inverse document frequencies, (BUCKETS,), as scikit-learn defines them."""
    frequency = np.bincount(counts.indices, minlength=BUCKETS)
    return np.asarray(np.log((1 + counts.shape[0]) / (1 + frequency)) + 1, dtype=np.float32)


def scale(counts: sparse.csr_matrix, idf: F32) -> sparse.csr_matrix:
    """TF-IDF with words and byte strings each brought to length 1."""
    scaled = counts.copy()
    scaled.data = scaled.data * idf[scaled.indices]
    row = np.repeat(np.arange(scaled.shape[0]), np.diff(scaled.indptr))
    word = scaled.indices < WORDS
    for part in (word, ~word):
        length = np.sqrt(np.bincount(row[part], scaled.data[part] ** 2, minlength=scaled.shape[0])) + _EPSILON
        scaled.data[part] /= length[row[part]].astype(np.float32)
    return scaled


def rarity(counts: sparse.csr_matrix, idf: F32) -> F32:
    """(n,) mean inverse document frequency of a prompt's byte strings, by their weight; 0 without any."""
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    part = counts.indices >= WORDS
    weight, n = counts.data[part], counts.shape[0]
    total = np.bincount(row[part], weight * idf[counts.indices[part]], n)
    return np.asarray(total / (np.bincount(row[part], weight, n) + _EPSILON), dtype=np.float32)


def directions_for(problems: Sequence[int]) -> list[int]:
    """How many directions each training set gets, by its number of problems; at least one each, ``DIMENSIONS`` together.

    >>> directions_for([6083, 9681, 1311]), directions_for([500])
    ([40, 63, 9], [112])
    """
    ends = np.round(np.cumsum(problems) / sum(problems) * (DIMENSIONS - len(problems))).astype(int)
    return [int(count) + 1 for count in np.diff(ends, prepend=0)]


def leading_directions(scaled: sparse.csr_matrix, count: int, seed: int) -> NDArray[np.int8]:
    """The leading right singular vectors, (BUCKETS, count), each scaled to fill 8 bits.

    By subspace iteration from a random start (Halko, Martinsson and Tropp, 2011, https://arxiv.org/abs/0909.4061), on at most
    6,000 of the rows.
    """
    rng = np.random.default_rng([seed, 1])
    if scaled.shape[0] > _ROWS_FITTED:
        scaled = scaled[np.sort(rng.choice(scaled.shape[0], _ROWS_FITTED, replace=False))]
    transposed = scaled.T.tocsr()
    width = min(count + 12, *scaled.shape)
    basis = np.asarray(scaled @ rng.normal(size=(scaled.shape[1], width)).astype(np.float32))
    for _ in range(2):
        basis = np.linalg.qr(basis)[0]
        basis = np.asarray(scaled @ np.asarray(transposed @ basis))
    basis = np.linalg.qr(basis)[0]
    spanned = np.asarray(transposed @ basis, dtype=np.float64)
    power, turned = np.linalg.eigh(spanned.T @ spanned)
    kept = min(count, int((power > 1e-9 * power[-1]).sum()))
    vectors = np.zeros((scaled.shape[1], count))
    vectors[:, :kept] = spanned @ turned[:, ::-1][:, :kept]
    # Signs are arbitrary; a rule makes them the same everywhere.
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(count)]
    most = np.where(largest == 0, 1.0, largest)
    return np.round(vectors / most * 127).astype(np.int8)


def principal_axes(vectors: F32) -> F32:
    """The ``AXES`` directions in which vectors (n, d) differ most, (d, at most AXES)."""
    if not vectors.shape[1]:
        return np.zeros((0, 0), dtype=np.float32)
    apart = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    found = np.linalg.eigh(apart.T @ apart)[1][:, ::-1][:, :AXES]
    # Signs are arbitrary; a rule makes them the same everywhere.
    largest = found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])]
    return np.asarray(found * np.sign(largest), dtype=np.float32)


def embed(scaled: sparse.csr_matrix, vectors: NDArray[np.int8]) -> F32:
    """Coordinates along the directions, (n, DIMENSIONS)."""
    return np.asarray(scaled @ vectors.astype(np.float32), dtype=np.float32)


def unit(points: F32) -> F32:
    """Each row brought to length 1."""
    length = np.sqrt((points * points).sum(axis=1, keepdims=True))
    return np.asarray(points / (length + _EPSILON), dtype=np.float32)


def centres(points: F32, count: int, seed: int) -> F32:
    """Centres of ``count`` clusters by direction (spherical k-means), unit vectors, (count, d).

    Args:
        points: (n, d) unit vectors.
    """
    rng = np.random.default_rng([seed, 2])
    count = min(count, len(points))
    # Far apart from the start: each next centre is drawn by its squared distance to those there are (k-means++).
    chosen = [int(rng.integers(len(points)))]
    apart = np.maximum(1 - points @ points[chosen[0]], 0).astype(np.float64)
    for _ in range(count - 1):
        total = apart.sum()
        chosen.append(int(rng.choice(len(points), p=apart / total)) if total > 0 else int(rng.integers(len(points))))
        apart = np.minimum(apart, np.maximum(1 - points @ points[chosen[-1]], 0))
    found = points[chosen]
    for _ in range(12):
        nearest = nearest_centre(points, found)
        member = sparse.csr_matrix(
            (np.ones(len(points), np.float32), (nearest, np.arange(len(points)))), (count, len(points))
        )
        sums = np.asarray(member @ points)
        empty = np.bincount(nearest, minlength=count) == 0
        found = np.where(empty[:, None], found, unit(sums)).astype(np.float32)
    return found


def nearest_centre(points: F32, found: F32) -> I64:
    """Index of the nearest centre of each point."""
    return np.asarray((points @ found.T).argmax(axis=1), dtype=np.int64)


def novelty(points: F32, found: F32) -> F32:
    """(n,) distance in direction from the nearest centre, 0 (on it) to 1 (at right angles to it or more)."""
    return np.asarray(1 - np.clip((points @ found.T).max(axis=1), 0, 1), dtype=np.float32)
