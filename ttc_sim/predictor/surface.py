"""What a prompt looks like, in numbers that need no vocabulary: lengths, lines, kinds of characters, words and numbers.

How long a question is, how its options differ in length, or how large the numbers in it are says as much about difficulty as the
words do, and it still says something where the words are new.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ttc_sim.predictor import structure
from ttc_sim.predictor.structure import IS_DIGIT, Lines, Numbers, Words, first_of, runs

F32 = NDArray[np.float32]

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
NAMES = (
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
    *structure.NAMES,
)
COUNT = len(NAMES)


def surface(
    text: NDArray[np.uint8],
    sizes: NDArray[np.int64],
    words: Words,
    telling: NDArray[np.uint64],
    group: NDArray[np.int64],
) -> F32:
    """Figures of each prompt, (n, COUNT), in the order of ``NAMES``: lengths and counts as ``ln(1 + x)``.

    Args:
        text: bytes of all prompts, one after the other, before letters are made small.
        sizes: (n,) bytes of each.
        words: of all prompts.
        telling, group: hashes of the words of ``structure.TELLING``, ascending, and the group of each.
    """
    n = len(sizes)
    row = np.repeat(np.arange(n), sizes)
    kind = _KIND_OF[text]
    counts = np.bincount(row * _WIDTH + kind, minlength=n * _WIDTH).reshape(n, _WIDTH).astype(np.float64)
    counted = counts[:, 1 : len(_KINDS) + 2]  # the kinds, and bytes outside ASCII
    lines = _lines(text, sizes, row)
    digits = np.concatenate([[0], np.cumsum(IS_DIGIT[text])])
    letters = np.concatenate([[0], np.cumsum(_IS_LETTER[text])])
    word = runs(words.row, words.length.astype(np.float64), n)
    digit = kind == 1
    begins = np.flatnonzero(digit & ~_shifted(digit, row))
    ends = np.flatnonzero(digit & ~_shifted(digit[::-1], row[::-1])[::-1]) + 1
    numbers = Numbers(row[begins], begins, ends)
    number = runs(numbers.row, (ends - begins).astype(np.float64), n)
    line = _line_figures(lines, digits, letters, n)
    built, distinct = structure.structure(text, sizes, lines, words, numbers, digits, letters, telling, group)
    columns = [
        np.log1p(sizes),
        line[0],
        *np.log1p(counted).T,
        *(counted[:, [0, 1, 2, 3, -1]] / np.maximum(sizes, 1)[:, None]).T,
        *line[1:],
        *np.log1p([word[k] for k in (0, 1, 2, 4)]),
        (distinct + 1) / (word[0] + 1),
        *np.log1p([number[k] for k in (0, 1, 4)]),
        *built,
    ]
    # One array, made once: stacking a few columns here and there takes most of the time of a single prompt.
    return np.ascontiguousarray(np.array(columns, dtype=np.float32).T)


def _shifted(mask: NDArray[np.bool_], row: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the byte before, of the same prompt, is set too."""
    before = np.zeros_like(mask)
    before[1:] = mask[:-1] & (row[1:] == row[:-1])
    return before


def _lines(text: NDArray[np.uint8], sizes: NDArray[np.int64], row: NDArray[np.int64]) -> Lines:
    n = len(sizes)
    last = np.cumsum(sizes)
    breaks = np.flatnonzero(text == 10)
    # A line ends at its break, or where the prompt ends.
    ends = np.concatenate([breaks, last])
    owner = np.concatenate([row[breaks], np.arange(n)])
    order = np.lexsort((ends, owner))
    ends, owner = ends[order], owner[order]
    first = first_of(owner)
    starts = np.where(first, (last - sizes)[owner], np.concatenate([[0], ends[:-1] + 1]) if n else ends)
    return Lines(starts, ends, owner)


def _line_figures(lines: Lines, digits: NDArray[np.int64], letters: NDArray[np.int64], n: int) -> structure.Columns:
    """``ln(1 + x)`` of lines, longest, mean, spread, first and last; share of lines that are mostly digits."""
    length = (lines.end - lines.start).astype(np.float64)
    numeric = digits[lines.end] - digits[lines.start] > letters[lines.end] - letters[lines.start]
    count, mean, spread, _, longest = runs(lines.owner, length, n)
    at = np.cumsum(count)
    shares = np.bincount(lines.owner, numeric, n) / np.maximum(count, 1)
    first, last = length[first_of(lines.owner)], length[at - 1] if n else length
    return [*np.log1p([count, longest, mean, spread, first, last]), shares]


_WIDTH = len(_KINDS) + 3  # nothing special, the kinds, outside ASCII, line break
_KIND_OF = np.zeros(256, dtype=np.int64)
for _k, _members in enumerate(_KINDS):
    _KIND_OF[[ord(_member) for _member in _members]] = _k + 1
_KIND_OF[128:] = len(_KINDS) + 1
_KIND_OF[10] = len(_KINDS) + 2
_IS_LETTER = np.array([byte >= 128 or chr(byte).isalpha() for byte in range(256)])
