"""Prompts as hashed n-grams: no vocabulary to fit or ship, any language, any bytes, no state.

A prompt becomes counts of its word 1- and 2-grams and its 4-byte strings, each hashed into one of
``BUCKETS`` buckets (the "hashing trick": Weinberger et al., 2009, https://arxiv.org/abs/0902.2206). Words fill the
lower half of the buckets and byte strings the upper half, so that neither crowds out the other. Inverse document
frequencies and the L2 norm belong to a trained model and are applied by it. Beside them go the figures of
:mod:`ttc_sim.predictor.surface`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ttc_sim.predictor.structure import TELLING, Words, first_of
from ttc_sim.predictor.surface import COUNT, surface

U64 = NDArray[np.uint64]

BUCKETS = 2**16
MAX_BYTES = 16_384
"""Bytes of a prompt that are read; the rest is ignored (the longest prompt learnt from has 14,916)."""

_WORD_BUCKETS = BUCKETS // 2
_BYTE_GRAMS = (4,)
_ROWS_AT_ONCE = 2**15  # a row and a bucket share 32 bits, which sort several times faster than 64

# Odd, so invertible modulo 2**64: the hash of any stretch of text is a difference of two running sums times a power.
_BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(_BASE, -1, 2**64)


@dataclass(frozen=True)
class Features:
    """Hashed counts of a batch of prompts, one row a prompt.

    Attributes:
        ids: buckets, int32 of shape (prompts, k), ascending within a row; k is the longest row's count, at least 1.
        values: ``1 + ln(count)`` of each bucket, float32 of the same shape; 0 marks padding.
        surface: (prompts, ``surface.COUNT``) figures of each prompt, float32.
        tokens: of a predictor with a text encoder (:mod:`ttc_sim.predictor.tokens`), int32 of shape (prompts, t).
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
    found = featurize_rows(prompts)
    counts = np.bincount(found.row, minlength=len(prompts)) if len(prompts) else np.zeros(0, dtype=np.int64)
    width = max(1, int(counts.max(initial=0)))
    padded_ids = np.zeros((len(prompts), width), dtype=np.int32)
    padded_values = np.zeros((len(prompts), width), dtype=np.float32)
    columns = np.arange(len(found.row)) - np.repeat(np.cumsum(counts) - counts, counts)
    padded_ids[found.row, columns] = found.ids
    padded_values[found.row, columns] = found.values
    return Features(padded_ids, padded_values, found.surface)


def featurize_rows(prompts: Sequence[str]) -> Rows:
    """Hash a batch of prompts into triples."""
    parts = [_rows(prompts[at : at + _ROWS_AT_ONCE], at) for at in range(0, len(prompts), _ROWS_AT_ONCE)]
    if not parts:
        return Rows(
            np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros((0, COUNT), np.float32)
        )
    return Rows(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.surface for part in parts]),
    )


def _rows(prompts: Sequence[str], first_row: int) -> Rows:
    # Lone surrogates cannot be encoded strictly; they must not be an error here.
    encoded = [text[:MAX_BYTES].encode("utf-8", "surrogatepass")[:MAX_BYTES] for text in prompts]
    sizes = np.fromiter((len(text) for text in encoded), dtype=np.int64, count=len(encoded))
    joined = b"".join(encoded)
    text = np.frombuffer(joined.lower(), dtype=np.uint8)
    row_of = np.repeat(np.arange(len(encoded), dtype=np.uint32), sizes)
    left = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(text))  # bytes from here to the end of the prompt

    words = _words_of(text, row_of)
    key = np.sort(np.concatenate([*_byte_grams(text, row_of, left), _word_grams(words)]))
    starts = np.flatnonzero(first_of(key))
    counts = np.diff(starts, append=len(key))
    key = key[starts]
    return Rows(
        (key >> np.uint32(16)).astype(np.int64) + first_row,
        (key & np.uint32(0xFFFF)).astype(np.int32),
        (1.0 + np.log(counts)).astype(np.float32),
        surface(np.frombuffer(joined, dtype=np.uint8), sizes, words, *_telling()),
    )


def _byte_grams(
    text: NDArray[np.uint8], row_of: NDArray[np.uint32], left: NDArray[np.int64]
) -> list[NDArray[np.uint32]]:
    wide = text.astype(np.uint64)
    keys = []
    running = np.zeros(len(text), dtype=np.uint64)
    for n in range(1, max(_BYTE_GRAMS) + 1):
        end = max(0, len(text) - n + 1)
        running = running[:end] * np.uint64(257) + wide[n - 1 :]  # exact: the n bytes themselves, in base 257
        if n in _BYTE_GRAMS:
            inside = left[:end] >= n
            bucket = _mix(running[inside] + np.uint64(n << 56)) % np.uint64(BUCKETS - _WORD_BUCKETS)
            keys.append((row_of[:end][inside] << np.uint32(16)) | (bucket + np.uint64(_WORD_BUCKETS)).astype(np.uint32))
    return keys


def _words_of(text: NDArray[np.uint8], row_of: NDArray[np.uint32]) -> Words:
    is_word = _IS_WORD[text]
    # A word ends at a byte that is no part of words, and where a prompt ends.
    joined = np.zeros(len(text) + 1, dtype=bool)
    joined[1:-1] = is_word[1:] & is_word[:-1] & (row_of[1:] == row_of[:-1])
    begins = np.flatnonzero(is_word & ~joined[:-1])
    ends = np.flatnonzero(is_word & ~joined[1:]) + 1
    power, inverse = _powers(len(text))
    sums = np.zeros(len(text) + 1, dtype=np.uint64)
    np.cumsum((text.astype(np.uint64) + np.uint64(1)) * power[: len(text)], out=sums[1:])
    key = _mix((sums[ends] - sums[begins]) * inverse[begins] + (ends - begins).astype(np.uint64))
    return Words(row_of[begins].astype(np.int64), begins, ends - begins, key)


def _word_grams(words: Words) -> NDArray[np.uint32]:
    word, row = words.key, words.row.astype(np.uint32)
    same_row = row[1:] == row[:-1]
    pair = _mix(word[:-1] * np.uint64(_BASE) + word[1:])[same_row]
    grams = np.concatenate([word, pair]) % np.uint64(_WORD_BUCKETS)
    return (np.concatenate([row, row[1:][same_row]]) << np.uint32(16)) | grams.astype(np.uint32)


@cache
def _telling() -> tuple[U64, NDArray[np.int64]]:
    """Hashes of the words of ``TELLING``, ascending, and the group of each."""
    text = np.frombuffer(" ".join(TELLING).encode(), dtype=np.uint8)
    key = _words_of(text, np.zeros(len(text), dtype=np.uint32)).key
    group = np.repeat(np.arange(len(TELLING)), [len(group.split()) for group in TELLING])
    order = np.argsort(key)
    return key[order], group[order]


def _powers(count: int) -> tuple[U64, U64]:
    # Kept between calls: they are the same for every batch.
    have = _POWERS[0]
    if len(have) < count:
        size = max(2**16, 2 * count)
        for slot, base in enumerate((_BASE, _BASE_INVERSE)):
            steps = np.full(size, base, dtype=np.uint64)
            steps[0] = 1
            _POWERS[slot] = np.cumprod(steps, dtype=np.uint64)
    return _POWERS[0], _POWERS[1]


def _mix(value: U64) -> U64:
    """Spread every bit over the whole word (finaliser of SplitMix64)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


_POWERS: list[U64] = [np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint64)]
_IS_WORD = np.zeros(256, dtype=bool)
_IS_WORD[[byte for byte in range(256) if byte >= 128 or chr(byte).isalnum() or byte == ord("_")]] = True

__all__ = ["BUCKETS", "MAX_BYTES", "Features", "Rows", "featurize", "featurize_rows"]
