"""Prompts as hashed n-grams: no vocabulary to fit or ship, any language, any bytes, no state.

A prompt becomes counts of its word 1- and 2-grams and its 4-byte strings, each hashed into one of
``BUCKETS`` buckets (the "hashing trick": Weinberger et al., 2009, https://arxiv.org/abs/0902.2206). Words fill the
lower half of the buckets and byte strings the upper half, so that neither crowds out the other. Inverse document
frequencies and the L2 norm belong to a trained model and are applied by it. Beside them go the figures of
:mod:`ttc_sim.predictor.reading.surface`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.compilation import kept
from ttc_sim.predictor.reading.parts import LOWER, Bytes, Words, compiled, mix, pair_key, words_of
from ttc_sim.predictor.reading.surface import COUNT, write_surface

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

BUCKETS = 2**16
MAX_BYTES = 16_384
"""Bytes of a prompt that are read; the rest is ignored (the longest prompt learnt from has 14,916)."""

_STRING = 4  # bytes
_STRING_BASE, _STRING_START = np.uint64(257), np.uint64(_STRING << 56)
_WORD_BUCKETS = BUCKETS // 2
_FOR_WORDS, _FOR_STRINGS = np.uint64(_WORD_BUCKETS), np.uint64(BUCKETS - _WORD_BUCKETS)
_SOURCES = [Path(__file__).with_name(f"{name}.py") for name in ("features", "parts", "structure", "surface")]


@dataclass(frozen=True)
class Features:
    """Hashed counts of a batch of prompts, one row a prompt.

    Attributes:
        ids: buckets, int32 of shape (prompts, k), ascending within a row; k is the longest row's count, at least 1.
        values: ``1 + ln(count)`` of each bucket, float32 of the same shape; 0 marks padding.
        surface: (prompts, ``surface.COUNT``) figures of each prompt, float32.
        tokens: of a predictor with a text encoder (:mod:`ttc_sim.predictor.reading.tokens`), int32 of shape (prompts, t).
    """

    ids: NDArray[np.int32]
    values: NDArray[np.float32]
    surface: NDArray[np.float32]
    tokens: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class Rows:
    """The same as (row, bucket, value) triples, sorted by row and bucket, and the ``surface`` of each prompt."""

    row: NDArray[np.int64]
    ids: NDArray[np.int32]
    values: NDArray[np.float32]
    surface: NDArray[np.float32]


def featurize(prompts: Sequence[str]) -> Features:
    """Hash a batch of prompts.

    Letter case (of ASCII letters) is ignored, and so is what follows the first ``MAX_BYTES`` bytes of UTF-8.

    Args:
        prompts: any text, empty text included.

    Returns:
        One row for each prompt; a row does not depend on the other prompts, but for its padding.

    >>> batch = featurize(["one two", ""])
    >>> batch.ids.shape == batch.values.shape, int((batch.values[1] > 0).sum())
    (True, 0)
    """
    found, surface = _each(prompts)
    width = max([1, *(len(ids) for ids, _ in found)])
    padded_ids = np.zeros((len(found), width), dtype=np.int32)
    padded_values = np.zeros((len(found), width), dtype=np.float32)
    for row, (ids, values) in enumerate(found):
        padded_ids[row, : len(ids)] = ids
        padded_values[row, : len(ids)] = values
    return Features(padded_ids, padded_values, surface)


def featurize_rows(prompts: Sequence[str]) -> Rows:
    """Hash a batch of prompts into triples."""
    found, surface = _each(prompts)
    return Rows(
        np.repeat(np.arange(len(found)), np.array([len(ids) for ids, _ in found], dtype=np.int64)),
        np.concatenate([np.zeros(0, dtype=np.int32), *(ids for ids, _ in found)]),
        np.concatenate([np.zeros(0, dtype=np.float32), *(values for _, values in found)]),
        surface,
    )


def _each(prompts: Sequence[str]) -> tuple[list[tuple[I32, F32]], F32]:
    surface = np.empty((len(prompts), COUNT), dtype=np.float32)
    found = []
    for prompt, figures in zip(prompts, surface, strict=True):
        # Lone surrogates cannot be encoded strictly; they must not be an error here.
        text = prompt[:MAX_BYTES].encode("utf-8", "surrogatepass")[:MAX_BYTES]
        found.append(_features_of(np.frombuffer(text, dtype=np.uint8), figures))
    return found, surface


@kept("predictor", _SOURCES, error_model="numpy")
def _features_of(text: Bytes, figures: F32) -> tuple[I32, F32]:
    """Ids and values of a prompt's n-grams; its figures are written to ``figures``."""
    words = words_of(text)
    write_surface(text, words, figures)
    ids = _ids(text, words)
    _sort(ids)
    return _counted(ids)


@compiled
def _ids(text: Bytes, words: Words) -> I32:
    """Buckets of all words, pairs of words and strings, in no order."""
    strings = max(len(text) - _STRING + 1, 0)
    ids = np.empty(strings + 2 * len(words.key), np.int32)
    for i in range(strings):
        string = np.uint64(0)
        for k in range(_STRING):
            string = string * _STRING_BASE + np.uint64(LOWER[text[i + k]])
        ids[i] = _FOR_WORDS + mix(string + _STRING_START) % _FOR_STRINGS
    count = strings
    for k in range(len(words.key)):
        ids[count] = words.key[k] % _FOR_WORDS
        count += 1
        if k > 0:
            ids[count] = pair_key(words.key[k - 1], words.key[k]) % _FOR_WORDS
            count += 1
    return ids[:count]


@compiled
def _sort(ids: I32) -> None:
    """Sort buckets, by their low and then by their high byte: several times as fast as sorting by comparison."""
    spare = np.empty_like(ids)
    _sort_by_byte(ids, spare, 0)
    _sort_by_byte(spare, ids, 8)


@compiled
def _sort_by_byte(ids: I32, into: I32, shift: int) -> None:
    place = np.zeros(257, np.int64)
    for bucket in ids:
        place[((bucket >> shift) & 255) + 1] += 1
    for byte in range(256):
        place[byte + 1] += place[byte]
    for bucket in ids:
        byte = (bucket >> shift) & 255
        into[place[byte]] = bucket
        place[byte] += 1


@compiled
def _counted(ids: I32) -> tuple[I32, F32]:
    """The different ones of sorted buckets, and ``1 + ln(count)`` of each."""
    different = 0
    for k in range(len(ids)):
        different += k == 0 or ids[k] != ids[k - 1]
    found, values = np.empty(different, np.int32), np.empty(different, np.float32)
    at = start = 0
    for k in range(1, len(ids) + 1):
        if k == len(ids) or ids[k] != ids[start]:
            found[at], values[at] = ids[start], 1.0 + math.log(k - start)
            at, start = at + 1, k
    return found, values


__all__ = ["BUCKETS", "MAX_BYTES", "Features", "Rows", "featurize", "featurize_rows"]
