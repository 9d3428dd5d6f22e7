"""Strategies against brute force over the attempts."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.strategies import MajorityVote, Single, Strategy, carry_out, parse_strategy
from ttc_sim.strategies.outcomes import Attempts, Outcome, pick_attempts, seeded_trial, vote


def attempts_of(rows: list[list[tuple[int, int, bool, int]]], *, reasoning_known: bool = True) -> Attempts:
    """Rows of (reasoning, visible, correct, answer) by problem."""
    flat = [attempt for row in rows for attempt in row]
    return Attempts(
        name="test",
        start=np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
        prompt_tokens=np.full(len(flat), 7, dtype=np.int64),
        reasoning_tokens=np.array([a[0] for a in flat], dtype=np.int64),
        visible_tokens=np.array([a[1] for a in flat], dtype=np.int64),
        correct=np.array([a[2] for a in flat], dtype=np.bool_),
        answer=np.array([a[3] for a in flat], dtype=np.int64),
        reasoning_known=reasoning_known,
    )


def carried(strategy: Strategy, attempts: Attempts, requests: int, problem: int = 0) -> Outcome:
    return carry_out(strategy, seeded_trial(attempts, np.full(requests, problem, dtype=np.int64), 3))


@given(count=st.integers(1, 6), n=st.integers(1, 8), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_picks_use_every_attempt_once_before_any_twice(count: int, n: int, seed: int) -> None:
    attempts = attempts_of([[(0, 1, True, 0)] * 3, [(0, 1, True, 0)] * count])
    chosen = pick_attempts(attempts, np.ones(40, dtype=np.int64), uniforms(seed, "p", 40, n)) - 3
    for row in chosen:
        used = Counter(row.tolist())
        assert set(used) <= set(range(count))
        assert max(used.values()) - min([used[k] for k in range(count)]) <= 1


def test_picks_are_uniform_over_ordered_choices() -> None:
    attempts = attempts_of([[(0, 1, True, 0)] * 4])
    chosen = pick_attempts(attempts, np.zeros(48_000, dtype=np.int64), uniforms(1, "p", 48_000, 2))
    counts = Counter(map(tuple, chosen.tolist()))
    assert set(counts) == set(permutations(range(4), 2))
    expected = 48_000 / 12
    chi2 = sum((c - expected) ** 2 / expected for c in counts.values())
    assert chi2 < 31.3  # 99.9% of chi-squared with 11 degrees of freedom


@given(st.lists(st.lists(st.integers(-1, 3), min_size=5, max_size=5), min_size=1, max_size=20), st.floats(0.001, 0.999))
@settings(max_examples=80, deadline=None)
def test_vote_against_counting(answers: list[list[int]], tie: float) -> None:
    answer = np.array(answers, dtype=np.int64)
    correct = answer == 2
    got = vote(answer, correct, np.full(len(answers), tie))
    for row, right in zip(answers, got, strict=True):
        counts = Counter(a for a in row if a >= 0)
        best = [a for a in dict.fromkeys(row) if a >= 0 and counts[a] == max(counts.values())] if counts else []
        winner = best[min(int(tie * len(best)), len(best) - 1)] if best else None
        assert right == (winner == 2)


def test_vote_ties_are_won_in_equal_shares() -> None:
    answer = np.tile(np.array([[0, 1, 2]]), (30_000, 1))
    got = vote(answer, answer == 1, uniforms(5, "tie", 30_000)[:, 0])
    assert abs(got.mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / 30_000)


def test_majority_of_all_attempts_matches_exact_enumeration() -> None:
    # 5 attempts, answers A A B B C, A is right; vote of 3 without replacement.
    attempts = attempts_of([[(10, 1, a == 0, a) for a in (0, 0, 1, 1, 2)]])
    exact = Fraction(0)
    orders = list(permutations(range(5), 3))
    for order in orders:
        counts = Counter((0, 0, 1, 1, 2)[k] for k in order)
        best = [a for a, c in counts.items() if c == max(counts.values())]
        exact += Fraction(int(0 in best), len(best) * len(orders))
    got = carried(MajorityVote(n=3), attempts, 60_000).correct.mean()
    assert abs(got - float(exact)) < 4 * np.sqrt(0.25 / 60_000)


def test_truncation_cuts_tokens_and_loses_the_answer() -> None:
    attempts = attempts_of([[(100, 50, True, 1)], [(20, 10, True, 1)]])
    cut = carried(Single(cap=120), attempts, 3)
    assert cut.reasoning_tokens.tolist() == [100] * 3
    assert cut.visible_tokens.tolist() == [20] * 3
    assert not cut.correct.any()
    deep = carried(Single(cap=60), attempts, 3)
    assert (deep.reasoning_tokens[0], deep.visible_tokens[0]) == (60, 0)
    fits = carried(Single(cap=30), attempts, 3, problem=1)
    assert fits.correct.all()
    assert (fits.reasoning_tokens[0], fits.visible_tokens[0]) == (20, 10)


def test_forced_answers_stand_as_often_as_measured() -> None:
    attempts = attempts_of([[(1000, 40, True, 1)], [(1000, 40, False, 2)]])
    forced = carried(Single(cap=500, on_cap="force_answer"), attempts, 40_000)
    assert 0.38 < forced.correct.mean() < 0.47  # two in five need at most half; fewer where thinking is short
    assert (forced.reasoning_tokens == 500).all()
    assert (forced.visible_tokens == 40).all()
    assert not carried(Single(cap=500, on_cap="force_answer"), attempts, 100, problem=1).correct.any()
    loose = carried(Single(cap=1000, on_cap="force_answer"), attempts, 100)
    assert loose.correct.all()


@given(cap=st.integers(1, 400), on_cap=st.sampled_from(["truncate", "force_answer"]), known=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_cap_never_adds_tokens_nor_right_answers(cap: int, on_cap: str, known: bool) -> None:
    rows = [[(k * 37 % 300 if known else 0, 1 + k * 11 % 60, k % 3 == 0, k % 4) for k in range(8)]]
    attempts = attempts_of(rows, reasoning_known=known)
    free = carried(Single(), attempts, 50)
    capped = carried(Single(cap=cap, on_cap=on_cap), attempts, 50)  # type: ignore[arg-type]
    assert (capped.reasoning_tokens <= free.reasoning_tokens).all()
    assert (capped.visible_tokens <= free.visible_tokens).all()
    assert (capped.correct <= free.correct).all()
    if on_cap == "truncate":
        assert (capped.reasoning_tokens + capped.visible_tokens <= cap).all()
    assert (capped.reasoning_tokens + capped.visible_tokens >= 1).all()


def test_the_same_request_makes_the_same_attempt_under_any_cap() -> None:
    attempts = attempts_of([[(k, 1, True, 0) for k in range(1, 200)]])
    free, capped = carried(Single(), attempts, 500), carried(Single(cap=10_000), attempts, 500)
    assert (free.reasoning_tokens == capped.reasoning_tokens).all()


def test_a_vote_without_recorded_answers_uses_the_model_of_how_wrong_ones_agree() -> None:
    right = [k % 10 < 4 for k in range(400)]
    silent = Attempts(**{**attempts_of([[(1, 1, r, 0) for r in right]]).__dict__, "answer": None})
    got = carried(MajorityVote(n=25), silent, 4000).correct.mean()
    # Four in ten are right and wrong answers agree by chance sqrt(0.2) of their 60%: the right answer leads, not always.
    assert 0.7 < got < 1.0


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Single(cap=0)", "cap"),
        ("Single(cap=-5)", "cap"),
        ("Single(cap=1.5)", "cap"),
        ("Single(cap=True)", "cap"),
        ("Single(on_cap='stop')", "on_cap"),
        ("MajorityVote(n=0)", "n"),
        ("MajorityVote()", "n"),
        ("MajorityVote(n=2, votes=3)", "votes"),
        ("Sinlge(cap=5)", "'Single'"),
        ("__import__('os').system('true')", "Single"),
        ("Single(", "a call"),
        ("", "a call"),
        ("Single(1, 'truncate', 3)", "at most 2"),
    ],
)
def test_bad_strategies_are_refused_by_name(text: str, names: str) -> None:
    with pytest.raises(InputError, match=names.replace("(", r"\(")) as caught:
        parse_strategy(text, where="file.yaml", field="arms.a.strategy")
    assert "\n" not in str(caught.value)


@given(st.one_of(st.none(), st.integers(1, 10**6)), st.integers(1, 64), st.sampled_from(["truncate", "force_answer"]))
def test_repr_is_the_notation(cap: int | None, n: int, on_cap: str) -> None:
    for strategy in (Single(cap, on_cap), MajorityVote(n, cap, on_cap)):  # type: ignore[arg-type]
        assert parse_strategy(repr(strategy)) == strategy
