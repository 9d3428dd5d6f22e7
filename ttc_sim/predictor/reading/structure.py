"""How a prompt is built: a head and a list of items (the options of a question), the numbers in both, telling words.

A list may be labelled (``A.``, ``b)``, ``(C)``, ``12.``) or bulleted. Whether options are numbers, how far apart, how much of the
head they repeat, or whether the question asks what is *not* so, says how hard a question is in any subject.
"""

from __future__ import annotations

from math import log1p

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.predictor.reading.parts import (
    F32,
    IS_ALNUM,
    IS_CAPITAL,
    IS_DIGIT,
    SPACE,
    U64,
    ZERO,
    Bytes,
    Spans,
    Words,
    compiled,
    digits_and_letters,
    empty_table,
    lengths,
    members,
    mix,
    place_of,
    put,
    words_of,
)

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

_TELLING_TEXT = np.frombuffer(" ".join(TELLING).encode(), dtype=np.uint8)
_TELLING_GROUP = np.repeat(np.arange(len(TELLING)), [len(group.split()) for group in TELLING])
_LONGEST_NUMBER = 9  # digits; of longer ones the first nine count
_NEAR_END = 4  # bytes that are looked at for the end of the head
_IS_BULLET, _IS_CLOSING, _IS_STOP = members("-*"), members(".)"), members(".?!")
_DOT, _COLON, _QUESTION, _LOW_LINE, _OPEN, _CLOSE = (np.uint8(ord(character)) for character in ".:?_()")
_ONE = np.uint64(1)
_UNUSED = np.uint64(25)  # bits of a word's hash; the other 39 tell words apart
_IN_HEAD, _IN_REST = 1, 2


@compiled
def write_structure(text: Bytes, lines: Spans, words: Words, numbers: Spans, figures: F32) -> int:
    """Write a prompt's figures, (COUNT,), in the order of ``NAMES``: lengths, counts and values as ``ln(1 + x)``.

    Returns:
        How many different words the prompt has.
    """
    items, head_end = _items_of(text, lines)
    at = put(figures, 0, _items(text, items))
    at = put(figures, at, _head(text, head_end))
    at = _put_telling(words, figures, at)
    at = put(figures, at, _numbers(text, numbers, items, head_end))
    head_words = _count_below(words.begin, head_end)
    in_head, in_rest, in_both = _different(words.key, head_words)
    at = put(figures, at, _vocabulary(len(words.key) - head_words, in_head, in_rest, in_both))
    put(figures, at, _style(text, words, head_words))
    return in_head + in_rest - in_both


@compiled
def _items_of(text: Bytes, lines: Spans) -> tuple[Spans, int]:
    """The items of a prompt's list without their labels, and where the head ends: at the first of them."""
    begin, end = np.empty_like(lines.begin), np.empty_like(lines.end)
    count, head_end = 0, len(text)
    for k in range(len(lines.begin)):
        label = _label(text, lines.begin[k], lines.end[k])
        if label == 0:
            continue
        if count == 0:
            head_end = lines.begin[k]
        begin[count], end[count] = lines.begin[k] + label, lines.end[k]
        count += 1
    return Spans(begin[:count], end[:count]), head_end


@compiled
def _label(text: Bytes, begin: int, end: int) -> int:
    """Bytes of a line's label, 0 if it has none."""
    size = end - begin
    if size >= 2 and _IS_BULLET[text[begin]] and text[begin + 1] == SPACE:
        return 2
    if size < 3:
        return 0
    first, second, third = text[begin], text[begin + 1], text[begin + 2]
    if IS_ALNUM[first] and _IS_CLOSING[second] and third == SPACE:
        return 3
    if first == _OPEN and IS_ALNUM[second] and third == _CLOSE:
        return 3
    if size >= 4 and IS_DIGIT[first] and IS_DIGIT[second] and _IS_CLOSING[third] and text[begin + 3] == SPACE:
        return 4
    return 0


@compiled
def _items(text: Bytes, items: Spans) -> tuple[float, ...]:
    count, mean, spread, shortest, longest = lengths(items.begin, items.end)
    numeric = with_digits = 0
    for k in range(len(items.begin)):
        digits, letters = digits_and_letters(text, items.begin[k], items.end[k])
        numeric += digits > letters
        with_digits += digits > 0
    whole = max(count, 1.0)
    return (
        log1p(count),
        log1p(mean),
        log1p(spread),
        log1p(shortest),
        log1p(longest),
        numeric / whole,
        with_digits / whole,
    )


@compiled
def _head(text: Bytes, end: int) -> tuple[float, ...]:
    stops = 0
    blank = False
    for i in range(end):
        # A sentence ends before a space or line break, and with its prompt.
        stops += _IS_STOP[text[i]] and (i + 1 == len(text) or text[i + 1] <= SPACE)
        blank |= i > 0 and text[i] == _LOW_LINE and text[i - 1] == _LOW_LINE
    closing = _closing(text, end)
    return (
        log1p(end),
        log1p(stops),
        1.0 if closing == _QUESTION else 0.0,
        1.0 if closing == _COLON else 0.0,
        1.0 if closing == _DOT else 0.0,
        1.0 if blank else 0.0,
        1.0 if end > 0 and IS_CAPITAL[text[0]] else 0.0,
    )


@compiled
def _closing(text: Bytes, end: int) -> int:
    """The last byte that is no space or line break, within a few bytes of the end; 0 without one."""
    for i in range(end - 1, max(end - _NEAR_END, 0) - 1, -1):
        if text[i] > SPACE:
            return int(text[i])
    return 0


@compiled
def _put_telling(words: Words, figures: F32, at: int) -> int:
    """Count the words of each group of ``TELLING``, and write the counts."""
    telling = words_of(_TELLING_TEXT).key
    table = empty_table(len(telling))
    group = np.full(len(table), -1, np.int64)
    for k in range(len(telling)):
        place = place_of(table, telling[k])
        table[place], group[place] = telling[k], _TELLING_GROUP[k]
    counts = np.zeros(len(TELLING), np.int64)
    for key in words.key:
        found = group[place_of(table, key)]
        if found >= 0:
            counts[found] += 1
    for k in range(len(counts)):
        figures[at + k] = log1p(counts[k])
    return at + len(counts)


@compiled
def _numbers(text: Bytes, numbers: Spans, items: Spans, head_end: int) -> tuple[float, ...]:
    in_head = in_items = decimals = years = different = 0
    largest = least = most = item = 0
    seen = empty_table(len(numbers.begin))
    for k in range(len(numbers.begin)):
        begin, end = numbers.begin[k], numbers.end[k]
        if _is_fraction(text, begin):
            decimals += 1
            continue
        value = _value(text, begin, end)
        if begin < head_end:
            in_head += 1
            largest = max(largest, value)
            years += end - begin == 4 and 1500 <= value < 2100
            continue
        while item < len(items.begin) and items.end[item] <= begin:
            item += 1
        # Labels such as "12." belong to no item.
        if item == len(items.begin) or begin < items.begin[item]:
            continue
        least = value if in_items == 0 else min(least, value)
        most = max(most, value)
        in_items += 1
        key = mix(np.uint64(value) + _ONE)
        place = place_of(seen, key)
        different += seen[place] == 0
        seen[place] = key
    return (
        log1p(in_head),
        log1p(decimals),
        log1p(largest),
        log1p(years),
        log1p(in_items),
        log1p(least),
        log1p(most),
        log1p(most) - log1p(least),
        log1p(different),
    )


@compiled
def _is_fraction(text: Bytes, begin: int) -> bool:
    """Whether digits are the fraction of the number before them: what follows "digit."."""
    return begin >= 2 and text[begin - 1] == _DOT and IS_DIGIT[text[begin - 2]]


@compiled
def _value(text: Bytes, begin: int, end: int) -> int:
    value = 0
    for i in range(begin, min(end, begin + _LONGEST_NUMBER)):
        value = 10 * value + text[i] - ZERO
    return value


@compiled
def _count_below(ascending: I64, bound: int) -> int:
    count = 0
    while count < len(ascending) and ascending[count] < bound:
        count += 1
    return count


@compiled
def _different(keys: U64, head_words: int) -> tuple[int, int, int]:
    """How many different words there are in the head, in the rest, and in both."""
    table = empty_table(len(keys))
    where = np.zeros(len(table), np.uint8)
    in_head = in_rest = in_both = 0
    for k in range(len(keys)):
        key = (keys[k] >> _UNUSED) + _ONE
        place = place_of(table, key)
        table[place] = key
        part = _IN_HEAD if k < head_words else _IN_REST
        if where[place] & part:
            continue
        where[place] |= part
        in_head += part == _IN_HEAD
        in_rest += part == _IN_REST
        in_both += where[place] == _IN_HEAD | _IN_REST
    return in_head, in_rest, in_both


@compiled
def _vocabulary(words_in_rest: int, in_head: int, in_rest: int, in_both: int) -> tuple[float, ...]:
    whole = max(in_rest, 1)
    return in_both / whole, log1p(in_rest), log1p(in_head), log1p(words_in_rest / whole)


@compiled
def _style(text: Bytes, words: Words, head_words: int) -> tuple[float, ...]:
    size = above_9 = above_12 = capitalised = capitals = 0
    for k in range(len(words.begin)):
        begin, end = words.begin[k], words.end[k]
        capital = IS_CAPITAL[text[begin]]
        second = end - begin > 1 and IS_CAPITAL[text[begin + 1]]
        capitals += capital and second
        if k < head_words:
            size += end - begin
            above_9 += end - begin > 9
            above_12 += end - begin > 12
            capitalised += capital and not second
    whole = max(head_words, 1)
    return log1p(size / whole), above_9 / whole, above_12 / whole, log1p(capitalised), log1p(capitals)
