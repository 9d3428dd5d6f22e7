"""What a prompt looks like, in numbers that need no vocabulary: lengths, lines, kinds of characters, words and numbers.

How long a question is, how its options differ in length, or how large the numbers in it are says as much about difficulty as the
words do, and it still says something where the words are new.
"""

from __future__ import annotations

from math import log1p

import numpy as np

from ttc_sim.predictor.reading import structure
from ttc_sim.predictor.reading.parts import (
    F32,
    Bytes,
    Spans,
    Words,
    compiled,
    digits_and_letters,
    lengths,
    lines_of,
    numbers_of,
    put,
)
from ttc_sim.predictor.reading.structure import write_structure

# Kinds of bytes that are counted, each a string of members.
_KINDS = (
    "0123456789",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    " \t",
    "\\",
    "$",
    "?",
    ".",
    ",",
    ":;",
    "()",
    "[]{}",
    "+-*/=^<>%",
    "'\"`",
    "_|#@&~",
)
_OWN_NAMES = (
    "bytes",
    "lines",
    *(f"count of {kind!r}" for kind in _KINDS),
    "count outside ASCII",
    *(f"share of {kind!r}" for kind in _KINDS[:4]),
    "share outside ASCII",
    "longest line",
    "mean line",
    "spread of lines",
    "first line",
    "last line",
    "share of lines with more digits than letters",
    "words",
    "mean word",
    "spread of words",
    "longest word",
    "distinct words over words",
    "numbers",
    "mean number",
    "longest number",
)
NAMES = (*_OWN_NAMES, *structure.NAMES)
COUNT = len(NAMES)

_OWN = len(_OWN_NAMES)
_COUNTED = len(_KINDS) + 1  # the kinds, and bytes outside ASCII
_SHARED = 4  # kinds of which the share is a figure too, like that of bytes outside ASCII
_NO_KIND = _COUNTED
_KIND_OF = np.full(256, _NO_KIND, dtype=np.int64)
for _kind, _members in enumerate(_KINDS):
    _KIND_OF[list(_members.encode())] = _kind
_KIND_OF[128:] = len(_KINDS)


@compiled
def write_surface(text: Bytes, words: Words, figures: F32) -> None:
    """Write a prompt's figures, (COUNT,), in the order of ``NAMES``: lengths and counts as ``ln(1 + x)``."""
    lines, numbers = lines_of(text), numbers_of(text)
    at = put(figures, 0, (log1p(len(text)), log1p(len(lines.begin))))
    at = _put_kinds(text, figures, at)
    at = put(figures, at, _lines(text, lines))
    different = write_structure(text, lines, words, numbers, figures[_OWN:])
    at = put(figures, at, _words(words, different))
    put(figures, at, _numbers(numbers))


@compiled
def _put_kinds(text: Bytes, figures: F32, at: int) -> int:
    """Count the bytes of each kind, and write the counts and the shares."""
    counts = np.zeros(_COUNTED + 1, np.int64)
    for byte in text:
        counts[_KIND_OF[byte]] += 1
    size = max(len(text), 1)
    for kind in range(_COUNTED):
        figures[at + kind] = log1p(counts[kind])
    at += _COUNTED
    for kind in range(_SHARED):
        figures[at + kind] = counts[kind] / size
    figures[at + _SHARED] = counts[_COUNTED - 1] / size
    return at + _SHARED + 1


@compiled
def _lines(text: Bytes, lines: Spans) -> tuple[float, ...]:
    count, mean, spread, _, longest = lengths(lines.begin, lines.end)
    numeric = 0
    for k in range(len(lines.begin)):
        digits, letters = digits_and_letters(text, lines.begin[k], lines.end[k])
        numeric += digits > letters
    first, last = lines.end[0] - lines.begin[0], lines.end[-1] - lines.begin[-1]
    return log1p(longest), log1p(mean), log1p(spread), log1p(first), log1p(last), numeric / count


@compiled
def _words(words: Words, different: int) -> tuple[float, ...]:
    count, mean, spread, _, longest = lengths(words.begin, words.end)
    return log1p(count), log1p(mean), log1p(spread), log1p(longest), (different + 1) / (count + 1)


@compiled
def _numbers(numbers: Spans) -> tuple[float, ...]:
    count, mean, _, _, longest = lengths(numbers.begin, numbers.end)
    return log1p(count), log1p(mean), log1p(longest)
