"""The predictor's features against readings of their definitions in plain Python, and against figures counted by hand."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import log, log1p, sqrt

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ttc_sim.predictor.reading.features import BUCKETS, MAX_BYTES, featurize, featurize_rows
from ttc_sim.predictor.reading.surface import NAMES

LAST = 2**64 - 1
BASE = 0x9E3779B97F4A7C15

WORD_IDS = [793, 3004, 3111, 10202, 15196, 19488, 21608, 21952, 31924]
STRING_IDS = [
    *(34224, 34748, 36317, 36812, 38579, 41305, 43708, 48106),
    *(49903, 51654, 52022, 53470, 57656, 58076, 63048, 65173),
]

# Whatever a prompt may be, longer and stranger than hypothesis draws it.
EXTREME = [
    "",
    "a",
    "_\n" * 3,
    "\x00\x01\x7f lone \ud800 surrogate",
    "日本の首都はどこですか 😀",
    "x" * 1_000_000,
    "\n" * 20_000,
    "7" * 20_000,
    "1.5 " * 9_000,
    "A. b\n" * 9_000,
    "a" * (MAX_BYTES - 1) + "é",  # cut inside a character
    "ab" + "日" * MAX_BYTES,
    " ".join(f"word{k}" for k in range(3_000)),
    "\n".join(f"{k % 100:02d}. {k}" for k in range(2_000)),
]
texts = st.one_of(
    st.text(max_size=120),
    st.text(st.characters(codec=None), max_size=40),
    st.text("aB1 \n.9,é_?", max_size=200),
    st.sampled_from(EXTREME),
)


def mixed(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & LAST
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & LAST
    return value ^ (value >> 31)


def read_bytes(prompt: str) -> bytes:
    return prompt.encode("utf-8", "surrogatepass")[:MAX_BYTES]


def expected_counts(prompt: str) -> dict[int, int]:
    raw = read_bytes(prompt).lower()
    words = [
        mixed((sum((byte + 1) * pow(BASE, k, 2**64) for k, byte in enumerate(word)) + len(word)) & LAST)
        for word in re.findall(rb"[0-9a-z_\x80-\xff]+", raw)
    ]
    pairs = [mixed((a * BASE + b) & LAST) for a, b in pairwise(words)]
    strings = [
        mixed(sum(byte * 257 ** (3 - k) for k, byte in enumerate(raw[i : i + 4])) + (4 << 56))
        for i in range(len(raw) - 3)
    ]
    half = BUCKETS // 2
    return Counter([*(key % half for key in words + pairs), *(half + key % half for key in strings)])


@given(texts)
@settings(max_examples=150, deadline=None)
def test_ids_against_plain_python(prompt: str) -> None:
    expected = sorted(expected_counts(prompt).items())
    found = featurize_rows([prompt])
    assert found.ids.tolist() == [bucket for bucket, _ in expected]
    assert found.values.tolist() == pytest.approx([1 + log(count) for _, count in expected], rel=1e-6)
    assert found.row.tolist() == [0] * len(expected)


@pytest.mark.parametrize("prompt", EXTREME, ids=range(len(EXTREME)))
def test_extreme_prompts_have_their_ids_and_finite_figures(prompt: str) -> None:
    expected = sorted(expected_counts(prompt).items())
    found = featurize([prompt])
    assert found.ids[0][found.values[0] > 0].tolist() == [bucket for bucket, _ in expected]
    assert np.isfinite(found.surface).all()
    assert found.surface[0][NAMES.index("bytes")] == np.float32(log1p(len(read_bytes(prompt))))


def test_ids_stay_what_shipped_models_were_trained_on() -> None:
    found = featurize(["Is 2 + 2 = 4? Is it"])
    assert found.ids[0].tolist() == [*WORD_IDS, *STRING_IDS]
    twice = found.ids[0][found.values[0] == np.float32(1 + log(2))]
    assert twice.tolist() == [3004, 3111]  # is, 2


@given(st.lists(texts, max_size=5))
@example(["", "x" * 1_000_000, "", "a b", "1. 2\n" * 4_000])
@settings(max_examples=60, deadline=None)
def test_a_row_does_not_depend_on_the_others(prompts: list[str]) -> None:
    together, rows = featurize(prompts), featurize_rows(prompts)
    assert together.ids.dtype == rows.ids.dtype == np.int32
    assert together.surface.tobytes() == rows.surface.tobytes()
    for row, prompt in enumerate(prompts):
        alone = featurize_rows([prompt])
        used = together.values[row] > 0
        mine = rows.row == row
        assert together.ids[row][used].tobytes() == rows.ids[mine].tobytes() == alone.ids.tobytes()
        assert together.values[row][used].tobytes() == rows.values[mine].tobytes() == alone.values.tobytes()
        assert not together.ids[row][~used].any()
        assert together.surface[row].tobytes() == alone.surface[0].tobytes()


def test_threads_do_not_disturb_each_other() -> None:
    prompts = [text for text in EXTREME if len(text) < 50_000] * 8
    alone = [featurize([prompt]) for prompt in prompts]
    with ThreadPoolExecutor(8) as pool:
        for a, b in zip(alone, pool.map(lambda prompt: featurize([prompt]), prompts), strict=True):
            assert (a.ids.tobytes(), a.values.tobytes()) == (b.ids.tobytes(), b.values.tobytes())
            assert a.surface.tobytes() == b.surface.tobytes()


QUESTION = "Which of these is NOT 3.5 times 12?\nA. 42\nB. 7 and 7\n(c) none of THESE 2024"
# Counted by hand. Words of the head: which of these is not 3 5 times 12; of the rest: a 42 b 7 and 7 c none of these 2024.
FIGURES = {
    "bytes": log1p(75),
    "lines": log1p(4),
    "count of '0123456789'": log1p(12),
    "count of 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'": log1p(11),
    "count of ' \\t'": log1p(15),
    "count of '?'": log1p(1),
    "count of '.'": log1p(3),
    "count of '()'": log1p(2),
    "share of '0123456789'": 12 / 75,
    "share of 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'": 11 / 75,
    "share of ' \\t'": 15 / 75,
    "longest line": log1p(35),
    "mean line": log1p(18),
    "spread of lines": log1p(sqrt((17**2 + 13**2 + 8**2 + 4**2) / 4)),
    "first line": log1p(35),
    "last line": log1p(22),
    "share of lines with more digits than letters": 1 / 4,
    "words": log1p(20),
    "mean word": log1p(51 / 20),
    "spread of words": log1p(sqrt(177 / 20 - (51 / 20) ** 2)),
    "longest word": log1p(5),
    "distinct words over words": 18 / 21,
    "numbers": log1p(7),
    "mean number": log1p(12 / 7),
    "longest number": log1p(4),
    "items": log1p(3),
    "mean item": log1p(28 / 3),
    "spread of items": log1p(sqrt((2**2 + 7**2 + 19**2) / 3 - (28 / 3) ** 2)),
    "shortest item": log1p(2),
    "longest item": log1p(19),
    "share of items with more digits than letters": 1 / 3,
    "share of items with digits": 1,
    "head": log1p(36),
    "sentences in head": log1p(1),
    "head ends in ?": 1,
    "head begins with a capital": 1,
    "words like 'not'": log1p(1),
    "words like 'which'": log1p(1),
    "words like 'none'": log1p(1),
    "numbers in head": log1p(2),
    "numbers with decimals": log1p(1),
    "largest number in head": log1p(12),
    "numbers in items": log1p(4),
    "smallest number in items": log1p(7),
    "largest number in items": log1p(2024),
    "range of numbers in items": log1p(2024) - log1p(7),
    "distinct numbers in items": log1p(3),
    "share of words in items that are in head too": 2 / 10,
    "distinct words in items": log1p(10),
    "distinct words in head": log1p(9),
    "words in items over distinct ones": log1p(11 / 10),
    "mean word in head": log1p(26 / 9),
    "capitalised words in head": log1p(1),
    "words of capitals": log1p(2),
}
TELEGRAM = (
    "In 1999 and 2100: Électricité __ TranscontinentaL runs\t$5 &\\frac{1}{2} most calculators, Find statements.\r\n"
)
# É and é take two bytes each. A final line break is followed by an empty line; what is listed nowhere is 0.
TELEGRAM_FIGURES = {
    "bytes": log1p(109),
    "lines": log1p(2),
    "count outside ASCII": log1p(4),
    "share outside ASCII": 4 / 109,
    "count of '\\\\'": log1p(1),
    "count of '$'": log1p(1),
    "count of ','": log1p(1),
    "count of ':;'": log1p(1),
    "count of '[]{}'": log1p(4),
    "count of '_|#@&~'": log1p(3),
    "last line": 0,
    "items": 0,
    "head": log1p(109),
    "sentences in head": log1p(1),
    "head ends in .": 1,
    "head ends in ?": 0,
    "head has __": 1,
    "years in head": log1p(1),
    "largest number in head": log1p(2100),
    "numbers in head": log1p(5),
    "words like 'find'": log1p(1),
    "words like 'statement'": log1p(1),
    "words like 'most'": log1p(1),
    "words like 'not'": 0,
    "share of words in head above 9 bytes": 4 / 16,
    "share of words in head above 12 bytes": 2 / 16,
    "capitalised words in head": log1p(3),
    "words of capitals": 0,
}


def test_all_figures_of_a_question_counted_by_hand() -> None:
    assert not set(FIGURES) - set(NAMES)
    found = dict(zip(NAMES, featurize(["", QUESTION]).surface[1].tolist(), strict=True))
    assert found == pytest.approx({name: FIGURES.get(name, 0) for name in NAMES}, rel=1e-6, abs=1e-6)


def test_other_figures_counted_by_hand() -> None:
    found = dict(zip(NAMES, featurize([TELEGRAM]).surface[0].tolist(), strict=True))
    assert {name: found[name] for name in TELEGRAM_FIGURES} == pytest.approx(TELEGRAM_FIGURES, rel=1e-6, abs=1e-6)


def test_figures_of_no_text() -> None:
    expected = {"lines": log1p(1), "distinct words over words": 1.0}
    found = dict(zip(NAMES, featurize([""]).surface[0].tolist(), strict=True))
    assert found == pytest.approx({name: expected.get(name, 0.0) for name in NAMES})


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A. x", {"items": log1p(1)}),
        ("12) \n7. y\n(z)\n* \n- ", {"items": log1p(5), "shortest item": 0, "longest item": log1p(1)}),
        ("A.x\n.5 x\n123. x\n(ab) x\n-x\n*\n A. x\n(a", {"items": 0}),
        # 55 cats; x 1; y
        (
            "A. 55 cats\nB. x 1\nC. y",
            {"shortest item": log1p(1), "longest item": log1p(7), "share of items with digits": 2 / 3},
        ),
        # Labels are no numbers of items.
        ("1. 8\n12) 16 24\n2. 8", {"numbers in items": log1p(4), "distinct numbers in items": log1p(3)}),
        # Of long numbers nine digits count.
        (
            "A. 9999999991 999999999 9999999980\nB. 8.25",
            {
                "largest number in items": log1p(999_999_999),
                "smallest number in items": log1p(8),
                "distinct numbers in items": log1p(3),
            },
        ),
        (".5 is .25", {"numbers with decimals": 0, "numbers in head": log1p(2), "largest number in head": log1p(25)}),
        ("v1.22.3", {"numbers with decimals": log1p(2), "largest number in head": log1p(1)}),
        ("No. Stop.", {"sentences in head": log1p(2)}),
        ("No.Stop.x", {"sentences in head": 0}),
        ("Why?\n \n", {"head ends in ?": 1}),
        ("Why?\n\n \n", {"head ends in ?": 0}),
        (
            "nine_____ ten_______ twelve______ thirteen_____",
            {"share of words in head above 9 bytes": 3 / 4, "share of words in head above 12 bytes": 1 / 4},
        ),
    ],
)
def test_more_figures_counted_by_hand(prompt: str, expected: dict[str, float]) -> None:
    found = dict(zip(NAMES, featurize([prompt]).surface[0].tolist(), strict=True))
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6, abs=1e-6)
