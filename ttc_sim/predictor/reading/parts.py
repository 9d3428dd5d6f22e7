"""Words, numbers and lines of a prompt, found by walking its bytes; and what counting them takes. Compiled.

A prompt is an array of its bytes of UTF-8. Positions are bytes from its start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.compilation import INNER
from ttc_sim.base.draws import I64

Bytes = NDArray[np.uint8]
F32 = NDArray[np.float32]
U64 = NDArray[np.uint64]
F = TypeVar("F", bound=Callable[..., Any])

compiled: Callable[[F], F] = numba.njit(**INNER, error_model="numpy")

LINE_BREAK, SPACE, ZERO = ord("\n"), ord(" "), ord("0")


def members(*texts: str) -> NDArray[np.bool_]:
    """Which bytes occur in some ASCII text, (256,)."""
    found = np.zeros(256, dtype=np.bool_)
    found[list("".join(texts).encode())] = True
    return found


_SMALL = "abcdefghijklmnopqrstuvwxyz"
_OUTSIDE_ASCII = np.arange(256) >= 128
IS_DIGIT = members("0123456789")
IS_CAPITAL = members(_SMALL.upper())
IS_ALNUM = members("0123456789", _SMALL, _SMALL.upper())
IS_LETTER = members(_SMALL, _SMALL.upper()) | _OUTSIDE_ASCII
IS_WORD = IS_ALNUM | members("_") | _OUTSIDE_ASCII
LOWER = np.frombuffer(bytes(range(256)).lower(), dtype=np.uint8)

_BASE = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR, _SECOND_FACTOR = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# Numba makes floats of unsigned and signed integers together, so that constants must be unsigned too.
_ONE, _27, _30, _31 = np.uint64(1), np.uint64(27), np.uint64(30), np.uint64(31)


class Spans(NamedTuple):
    """Parts of a prompt, in order: where each begins and ends, (count,) each."""

    begin: I64
    end: I64


class Words(NamedTuple):
    """Words of a prompt, in order: where each begins and ends, and its hash in small letters, (count,) each."""

    begin: I64
    end: I64
    key: U64


@compiled
def mix(value: np.uint64) -> np.uint64:
    """Spread every bit over the whole word (finaliser of SplitMix64)."""
    value = (value ^ (value >> _30)) * _FIRST_FACTOR
    value = (value ^ (value >> _27)) * _SECOND_FACTOR
    return value ^ (value >> _31)


@compiled
def pair_key(first: np.uint64, second: np.uint64) -> np.uint64:
    """Hash of two words that follow each other."""
    return mix(first * _BASE + second)


@compiled
def words_of(text: Bytes) -> Words:
    """Longest runs of letters, digits, ``_`` and bytes outside ASCII."""
    begin, end = _runs_of(text, IS_WORD)
    key = np.empty(len(begin), np.uint64)
    for k in range(len(begin)):
        total, power = np.uint64(0), _ONE
        for i in range(begin[k], end[k]):
            total += (np.uint64(LOWER[text[i]]) + _ONE) * power
            power *= _BASE
        key[k] = mix(total + np.uint64(end[k] - begin[k]))
    return Words(begin, end, key)


@compiled
def numbers_of(text: Bytes) -> Spans:
    """Longest runs of digits."""
    return _runs_of(text, IS_DIGIT)


@compiled
def _runs_of(text: Bytes, wanted: NDArray[np.bool_]) -> Spans:
    """Longest runs of the bytes that are wanted, (256,)."""
    most = (len(text) + 1) // 2
    begin, end = np.empty(most, np.int64), np.empty(most, np.int64)
    count = i = 0
    while i < len(text):
        if not wanted[text[i]]:
            i += 1
            continue
        begin[count] = i
        while i < len(text) and wanted[text[i]]:
            i += 1
        end[count] = i
        count += 1
    return Spans(begin[:count], end[:count])


@compiled
def lines_of(text: Bytes) -> Spans:
    """Lines without their breaks. There is one line more than breaks, so that empty text is an empty line."""
    count = 1
    for byte in text:
        count += byte == LINE_BREAK
    begin, end = np.empty(count, np.int64), np.empty(count, np.int64)
    at = start = 0
    for i in range(len(text)):
        if text[i] == LINE_BREAK:
            begin[at], end[at] = start, i
            at, start = at + 1, i + 1
    begin[at], end[at] = start, len(text)
    return Spans(begin, end)


@compiled
def digits_and_letters(text: Bytes, begin: int, end: int) -> tuple[int, int]:
    """How many of either; bytes outside ASCII are letters."""
    digits = letters = 0
    for i in range(begin, end):
        digits += IS_DIGIT[text[i]]
        letters += IS_LETTER[text[i]]
    return digits, letters


@compiled
def lengths(begin: I64, end: I64) -> tuple[float, float, float, float, float]:
    """How many parts, and the mean, spread, least and greatest of their lengths (bytes); 0 without any."""
    count = len(begin)
    if count == 0:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    total = squares = 0
    least = most = end[0] - begin[0]
    for k in range(count):
        length = end[k] - begin[k]
        total += length
        squares += length * length
        least, most = min(least, length), max(most, length)
    mean = total / count
    spread = np.sqrt(max(squares / count - mean * mean, 0.0))
    return float(count), mean, spread, float(least), float(most)


@compiled
def empty_table(count: int) -> U64:
    """A hash table with room for so many keys, at most half full: 0 is an empty place."""
    size = 8
    while size < 2 * count:
        size *= 2
    return np.zeros(size, np.uint64)


@compiled
def place_of(table: U64, key: np.uint64) -> np.uint64:
    """Where a key above 0 stands in the table, or else the empty place where it belongs."""
    last = np.uint64(len(table) - 1)
    place = key & last
    while table[place] != key and table[place] != 0:
        place = (place + _ONE) & last
    return place


@compiled
def put(figures: F32, at: int, values: tuple[float, ...]) -> int:
    """Write figures from a place on; the place after them."""
    for value in values:
        figures[at] = value
        at += 1
    return at
