"""Prompts as the networks see them: figures, meaning and n-grams, on scales learnt from the training prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ttc_sim.base.draws import F64
from ttc_sim.predictor.learning import embedding
from ttc_sim.predictor.learning.text_encoder import TextEncoder
from ttc_sim.predictor.reading.features import featurize_rows

F32 = NDArray[np.float32]
LIMIT = 4.0
"""Standardised inputs are kept within this many standard deviations."""
FIGURE_LIMIT = 8.0
STRANGE_MARGIN = ((1.0, 0.25, 0.0), (1.2, 0.0, 0.4))
"""Of each kind of strangeness: it begins at the first times what 99.9% of the training set keep within, and is complete the second
plus the third times that further on."""


@dataclass(frozen=True)
class PromptFeatures:
    """What is known of ``n`` prompts before anything is learnt from them.

    Attributes:
        counts: (n, BUCKETS) hashed n-grams; surface: (n, COUNT) figures.
        vectors: (n, width) of a text encoder; width is 0 without one.
    """

    counts: sparse.csr_matrix
    surface: F32
    vectors: F32

    def rows(self, which: NDArray[np.bool_]) -> PromptFeatures:
        """Those of some of the prompts."""
        return PromptFeatures(self.counts[which], self.surface[which], self.vectors[which])


def features_of(prompts: Sequence[str], vectors: F32 | None = None) -> PromptFeatures:
    """Hash prompts; their vectors by a text encoder go with them."""
    rows = featurize_rows(prompts)
    vectors = np.zeros((len(prompts), 0), dtype=np.float32) if vectors is None else vectors
    return PromptFeatures(embedding.counts_of(rows), rows.surface, vectors)


@dataclass(frozen=True)
class Encoded:
    """Prompts as networks see them.

    Attributes:
        x: (n, d) inputs.
        points: (n, w) where the prompts lie: unit vectors, between which novelty is measured.
        strange: (n, 2) how rare the byte strings are (mean inverse document frequency), and how unusual the surface figures
            (mean square of standard deviations from their means).
    """

    x: F32
    points: F32
    strange: F32

    def rows(self, which: NDArray[np.generic] | slice) -> Encoded:
        """Those of some of the prompts."""
        return Encoded(self.x[which], self.points[which], self.strange[which])


@dataclass(frozen=True)
class Encoder:
    """Makes the networks' inputs: standardised surface figures, coordinates of meaning, coordinates of n-grams.

    Attributes:
        idf: (BUCKETS,); vectors: (BUCKETS, DIMENSIONS) directions in 8 bits; mean, spread: (d,).
        axes: (width, k) axes of the text encoder's vectors, and middle: (width,) their mean; of no size without one.
        text: the text encoder.
    """

    idf: F32
    vectors: NDArray[np.int8]
    mean: F32
    spread: F32
    axes: F32
    middle: F32
    text: TextEncoder | None = None

    def __call__(self, features: PromptFeatures) -> Encoded:
        """Inputs (n, d), and strangeness."""
        standard = (_coordinates(features, self.idf, self.vectors, self.axes) - self.mean) / self.spread
        figures, counts = standard[:, : features.surface.shape[1]], features.counts
        unlike = (np.clip(figures, -FIGURE_LIMIT, FIGURE_LIMIT) ** 2).mean(axis=1)
        strange = np.column_stack([embedding.rarity(counts, self.idf), unlike])
        x = np.asarray(np.clip(standard, -LIMIT, LIMIT), dtype=np.float32)
        points = embedding.unit(x[:, -embedding.DIMENSIONS :])
        if len(self.middle):
            # N-grams tell best that a task is new; meaning, that a question in familiar words is (docs/predictor.md).
            points = np.hstack([points, embedding.unit(features.vectors - self.middle)]) * np.float32(0.5**0.5)
        return Encoded(x, points, strange.astype(np.float32))


def fit_encoder(sets: Sequence[PromptFeatures], seed: int) -> Encoder:
    """Learn inverse document frequencies, directions, axes and scales from one or more sets of prompts.

    Each set has leading directions of its own: those of all together would be spent on the set whose prompts differ most.
    """
    together = joined(sets)
    idf = embedding.inverse_frequencies(together.counts)
    each = embedding.directions_for([len(part.surface) for part in sets])
    vectors = np.hstack(
        [
            embedding.leading_directions(embedding.scale(part.counts, idf), count, seed)
            for part, count in zip(sets, each, strict=True)
        ]
    )
    axes = embedding.principal_axes(together.vectors)
    raw = _coordinates(together, idf, vectors, axes)
    return Encoder(
        idf, vectors, raw.mean(axis=0), raw.std(axis=0) + np.float32(1e-3), axes, together.vectors.mean(axis=0)
    )


def joined(sets: Sequence[PromptFeatures]) -> PromptFeatures:
    """Those of all sets, one after the other."""
    return PromptFeatures(
        sparse.vstack([part.counts for part in sets], format="csr"),
        np.vstack([part.surface for part in sets]),
        np.vstack([part.vectors for part in sets]),
    )


def _coordinates(features: PromptFeatures, idf: F32, vectors: NDArray[np.int8], axes: F32) -> F32:
    grams = embedding.embed(embedding.scale(features.counts, idf), vectors)
    return np.hstack([features.surface, features.vectors @ axes, grams])


def strangeness(strange: F32, usual: F64) -> F64:
    """(n,) 0 (usual) to 1 (like nothing in the training set: another script, no text at all)."""
    found = np.zeros(len(strange))
    for k, (begin, plain, relative) in enumerate(STRANGE_MARGIN):
        over = strange[:, k] - begin * usual[k]
        found = np.maximum(found, np.clip(over / (plain + relative * usual[k]), 0, 1))
    return found


__all__ = [
    "FIGURE_LIMIT",
    "LIMIT",
    "STRANGE_MARGIN",
    "Encoded",
    "Encoder",
    "PromptFeatures",
    "features_of",
    "fit_encoder",
    "joined",
    "strangeness",
]
