"""How a prompt is built: a head and a list of items (the options of a question), the numbers in both, telling words.

A list may be labelled (``A.``, ``b)``, ``(C)``, ``12.``) or bulleted. Whether options are numbers, how far apart, how much of the
head they repeat, or whether the question asks what is *not* so, says how hard a question is in any subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
Columns = list[NDArray[Any]]
Bytes = NDArray[np.uint8]

TELLING = (
    "not except least never false incorrect cannot no without",
    "which what who when where why how whose",
    "find calculate determine compute estimate evaluate prove show solve derive",
    "none all both neither either",
    "statement statements argument passage following scenario",
    "most best primarily likely always only must",
)
"""Words that are counted, a group each. English: in other languages these figures are 0."""
NAMES = (
    "items",
    "mean item",
    "spread of items",
    "shortest item",
    "longest item",
    "share of items with more digits than letters",
    "share of items with digits",
    "head",
    "sentences in head",
    "head ends in ?",
    "head ends in :",
    "head ends in .",
    "head has __",
    "head begins with a capital",
    *(f"words like {group.split()[0]!r}" for group in TELLING),
    "numbers in head",
    "numbers with decimals",
    "largest number in head",
    "years in head",
    "numbers in items",
    "smallest number in items",
    "largest number in items",
    "range of numbers in items",
    "distinct numbers in items",
    "share of words in items that are in head too",
    "distinct words in items",
    "distinct words in head",
    "words in items over distinct ones",
    "mean word in head",
    "share of words in head above 9 bytes",
    "share of words in head above 12 bytes",
    "capitalised words in head",
    "words of capitals",
)
COUNT = len(NAMES)
_PADDING = 16  # bytes after the text that may be looked at
_LONGEST_NUMBER = 9  # digits; of longer ones the first nine count


@dataclass(frozen=True)
class Lines:
    """Lines of a batch: where each starts and ends (bytes), and whose it is. A prompt has at least one."""

    start: I64
    end: I64
    owner: I64


@dataclass(frozen=True)
class Words:
    """Words of a batch, in order: whose each is, where it begins, how many bytes it has, and its hash in small letters."""

    row: I64
    begin: I64
    length: I64
    key: NDArray[np.uint64]


@dataclass(frozen=True)
class Numbers:
    """Runs of digits of a batch, in order: whose each is, where it begins and ends (bytes)."""

    row: I64
    begin: I64
    end: I64


def structure(
    text: Bytes,
    sizes: I64,
    lines: Lines,
    words: Words,
    numbers: Numbers,
    digits: I64,
    letters: I64,
    telling: NDArray[np.uint64],
    group: I64,
) -> tuple[Columns, I64]:
    """Figures of each prompt, ``COUNT`` columns (n,) in the order of ``NAMES``; lengths, counts and values as ``ln(1 + x)``.
    And how many different words each prompt has, (n,).

    Args:
        text: bytes of all prompts, one after the other; sizes: (n,) bytes of each.
        lines, words, numbers: of all prompts.
        digits, letters: (bytes + 1,) running counts.
        telling, group: hashes of the words of ``TELLING``, ascending, and the group of each.
    """
    n, last = len(sizes), np.cumsum(sizes)
    first = last - sizes
    padded = np.concatenate([text, np.zeros(_PADDING, dtype=np.uint8)])
    labels = _labels(padded, lines)
    listed = np.flatnonzero(labels > 0)
    owner, begin, end = lines.owner[listed], lines.start[listed] + labels[listed], lines.end[listed]
    head_end = last.copy()
    np.minimum.at(head_end, owner, lines.start[listed])
    of_words, distinct = _words(padded, words, words.begin < head_end[words.row], n)
    columns = [
        *_items(owner, begin, end, digits, letters, n),
        *_head(padded, first, last, head_end),
        *_telling(words, telling, group, n),
        *_numbers(padded, numbers, first, head_end, begin, end),
        *of_words,
    ]
    return columns, distinct


def _labels(padded: Bytes, lines: Lines) -> I64:
    """Bytes of each line's label, 0 if it has none."""
    size = lines.end - lines.start
    c = padded[lines.start[:, None] + np.arange(4)].T
    alnum, spaced, closed = _IS_ALNUM[c], c == 32, (c == ord(".")) | (c == ord(")"))
    found = np.zeros(len(size), dtype=np.int64)
    found[((c[0] == ord("-")) | (c[0] == ord("*"))) & spaced[1] & (size >= 2)] = 2
    found[alnum[0] & closed[1] & spaced[2] & (size >= 3)] = 3
    found[(c[0] == ord("(")) & alnum[1] & (c[2] == ord(")")) & (size >= 3)] = 3
    found[IS_DIGIT[c[0]] & IS_DIGIT[c[1]] & closed[2] & spaced[3] & (size >= 4)] = 4
    return found


def _items(owner: I64, begin: I64, end: I64, digits: I64, letters: I64, n: int) -> Columns:
    count, mean, spread, shortest, longest = runs(owner, np.maximum(end - begin, 0).astype(np.float64), n)
    whole = np.maximum(count, 1)
    digit = digits[end] - digits[begin]
    numeric = digit > letters[end] - letters[begin]
    return [
        *np.log1p([count, mean, spread, shortest, longest]),
        np.bincount(owner, numeric, n) / whole,
        np.bincount(owner, digit > 0, n) / whole,
    ]


def _head(padded: Bytes, first: I64, last: I64, end: I64) -> Columns:
    text = padded[:-_PADDING]
    # The last byte that is no space or line break, within a few bytes of the end.
    back = np.arange(4, 0, -1)
    tail = np.where(back <= (end - first)[:, None], padded[end[:, None] - back], 0)
    seen = tail > 32
    place = 3 - seen[:, ::-1].argmax(axis=1)
    closing = np.where(seen.any(axis=1), tail[np.arange(len(tail)), place], 0)
    some = last > first
    space = padded[1 : len(text) + 1] <= 32
    space[last[some] - 1] = True  # a sentence ends with its prompt
    stops = np.concatenate([[0], np.cumsum(_IS_STOP[text] & space)])
    low = text == ord("_")
    after_low = np.zeros(len(text), dtype=bool)
    after_low[1:] = low[:-1]
    after_low[first[some]] = False
    blanks = np.concatenate([[0], np.cumsum(low & after_low)])
    return [
        np.log1p(end - first),
        np.log1p(stops[end] - stops[first]),
        closing == ord("?"),
        closing == ord(":"),
        closing == ord("."),
        blanks[end] > blanks[first],
        _IS_CAPITAL[padded[first]] & (end > first),
    ]


def _telling(words: Words, telling: NDArray[np.uint64], group: I64, n: int) -> Columns:
    at = np.minimum(np.searchsorted(telling, words.key), len(telling) - 1)
    hit = np.flatnonzero(telling[at] == words.key)
    cell = words.row[hit] * len(TELLING) + group[at[hit]]
    counts = np.bincount(cell, minlength=n * len(TELLING)).reshape(n, len(TELLING))
    return list(np.log1p(counts).T)


def _numbers(padded: Bytes, numbers: Numbers, first: I64, head_end: I64, begin: I64, end: I64) -> Columns:
    row, start, stop, n = numbers.row, numbers.begin, numbers.end, len(first)
    # What follows "digit." is the fraction of the number before it.
    fraction = (padded[start - 1] == ord(".")) & IS_DIGIT[padded[start - 2]] & (start - 2 >= first[row])
    decimals = np.bincount(row[fraction], minlength=n)
    row, start, stop = row[~fraction], start[~fraction], stop[~fraction]
    size = np.minimum(stop - start, _LONGEST_NUMBER)[:, None]
    place = np.arange(_LONGEST_NUMBER)
    digit = np.where(place < size, padded[start[:, None] + place], 48) - 48.0
    value = (digit * _POWERS[np.maximum(size - 1 - place, 0)]).sum(axis=1)
    in_head = start < head_end[row]
    # Labels such as "12." belong to no item.
    item = np.searchsorted(begin, start, side="right") - 1
    in_items = item >= 0
    in_items[in_items] = start[in_items] < end[item[in_items]]
    a, b = row[in_head], row[in_items]
    year = in_head & (stop - start == 4) & (value >= 1500) & (value < 2100)
    least, most = _least_most(b, value[in_items], n)
    pairs = np.sort(b * 10**_LONGEST_NUMBER + value[in_items].astype(np.int64))
    pairs = pairs[first_of(pairs)]
    low, high = np.log1p(least), np.log1p(most)
    return [
        np.log1p(np.bincount(a, minlength=n)),
        np.log1p(decimals),
        np.log1p(_least_most(a, value[in_head], n)[1]),
        np.log1p(np.bincount(row[year], minlength=n)),
        np.log1p(np.bincount(b, minlength=n)),
        low,
        high,
        high - low,
        np.log1p(np.bincount(pairs // 10**_LONGEST_NUMBER, minlength=n)),
    ]


def _words(padded: Bytes, words: Words, inside: NDArray[np.bool_], n: int) -> tuple[Columns, I64]:
    row, length = words.row, words.length
    # Row and hash share 64 bits; the lowest says where the word stands.
    key = (row.astype(np.uint64) << np.uint64(40)) | ((words.key >> np.uint64(25)) << np.uint64(1))
    placed = np.sort(key | inside.astype(np.uint64))
    placed = placed[first_of(placed)]
    here, where = (placed >> np.uint64(40)).astype(np.int64), (placed & np.uint64(1)) > 0
    in_head, in_items = np.bincount(here[where], minlength=n), np.bincount(here[~where], minlength=n)
    twice = (placed[1:] >> np.uint64(1)) == (placed[:-1] >> np.uint64(1))
    both = np.bincount(here[1:][twice], minlength=n)
    capital = _IS_CAPITAL[padded[words.begin]]
    second = _IS_CAPITAL[padded[words.begin + 1]] & (length > 1)
    head_row, head_length = row[inside], length[inside]
    count = np.maximum(np.bincount(head_row, minlength=n), 1)
    columns = [
        both / np.maximum(in_items, 1),
        np.log1p(in_items),
        np.log1p(in_head),
        np.log1p(np.bincount(row[~inside], minlength=n) / np.maximum(in_items, 1)),
        np.log1p(np.bincount(head_row, head_length, n) / count),
        np.bincount(head_row[head_length > 9], minlength=n) / count,
        np.bincount(head_row[head_length > 12], minlength=n) / count,
        np.log1p(np.bincount(row[inside & capital & ~second], minlength=n)),
        np.log1p(np.bincount(row[capital & second], minlength=n)),
    ]
    return columns, in_head + in_items - both


def first_of(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which values differ from the one before; the first one does. (``np.diff`` takes several times as long on short arrays.)"""
    found = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=found[1:])
    return found


def runs(row: I64, length: NDArray[np.float64], n: int) -> Columns:
    """How many, mean length, spread, shortest, longest; each (n,), 0 without any. Rows ascend."""
    count = np.bincount(row, minlength=n)
    whole = np.maximum(count, 1)
    mean = np.bincount(row, length, n) / whole
    spread = np.sqrt(np.maximum(np.bincount(row, length * length, n) / whole - mean * mean, 0))
    return [count, mean, spread, *_least_most(row, length, n)]


def _least_most(row: I64, value: NDArray[np.float64], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) least and greatest value of each row; 0 without any. Rows ascend."""
    least, most = np.zeros(n), np.zeros(n)
    if len(row):
        starts = np.flatnonzero(first_of(row))
        least[row[starts]] = np.minimum.reduceat(value, starts)
        most[row[starts]] = np.maximum.reduceat(value, starts)
    return least, most


_POWERS = 10.0 ** np.arange(_LONGEST_NUMBER)
IS_DIGIT = np.zeros(256, dtype=bool)
IS_DIGIT[48:58] = True
_IS_CAPITAL = np.zeros(256, dtype=bool)
_IS_CAPITAL[65:91] = True
_IS_ALNUM = IS_DIGIT | _IS_CAPITAL
_IS_ALNUM[97:123] = True
_IS_STOP = np.zeros(256, dtype=bool)
_IS_STOP[[ord(byte) for byte in ".?!"]] = True
