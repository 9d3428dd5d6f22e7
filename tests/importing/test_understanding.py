"""What counts, times, grades and keys mean: decided on evidence, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.importing.helping import imported, lines, table, traffic, understood
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing import Audit

INSIDE, OUTSIDE = "a part of the output tokens", "beside the output tokens, added to them"


def call(k: int, **more: Any) -> dict[str, Any]:
    return {"arrival_s": 1.5 * k, "prompt_tokens": 100 + k, **more}


def test_reasoning_above_the_output_stands_beside_it(tmp_path: Path) -> None:
    rows = [call(k, output_tokens=50, reasoning_tokens=80 if k == 7 else 30) for k in range(30)]
    audit, out = imported(tmp_path, lines(rows))
    assert understood(audit, "reasoning tokens") == [OUTSIDE]
    assert traffic(out)["visible_tokens"].to_list() == [50] * 30
    audit, out = imported(tmp_path, lines(rows), reasoning="inside")
    assert (
        len(traffic(out)),
        audit.left_out["more reasoning tokens than output tokens that should hold them"].rows,
    ) == (29, 1)


@pytest.mark.parametrize(("beside", "taken"), [(0, INSIDE), (1, OUTSIDE)])
def test_totals_tell_where_reasoning_stands(tmp_path: Path, beside: int, taken: str) -> None:
    rows = [
        call(k, output_tokens=50 + k, reasoning_tokens=20, total_tokens=150 + 2 * k + 20 * beside) for k in range(30)
    ]
    audit, out = imported(tmp_path, lines(rows))
    assert understood(audit, "reasoning tokens") == [taken]
    assert not audit.questions
    assert traffic(out)["visible_tokens"].sum() == sum(50 + k for k in range(30)) - (0 if beside else 600)


def test_each_model_is_understood_by_itself(tmp_path: Path) -> None:
    """As a proxy's log has them: one provider counts thinking inside the output, another beside it."""
    rows = [call(k, model="gpt", output_tokens=50, reasoning_tokens=20, total_tokens=150 + k) for k in range(20)]
    rows += [call(k, model="grok", output_tokens=50, reasoning_tokens=20, total_tokens=170 + k) for k in range(20)]
    audit, out = imported(tmp_path, lines(rows))
    assert {one.of: one.taken for one in audit.understood if one.what == "reasoning tokens"} == {
        "gpt": INSIDE,
        "grok": OUTSIDE,
    }
    by = traffic(out).group_by("model").agg(pl.col("visible_tokens").sum()).sort("model")
    assert by.rows() == [("gpt", 600), ("grok", 1000)]


def test_counts_in_objects_are_found(tmp_path: Path) -> None:
    rows = [
        {"meta": {"ts": 1795511702 + k}, "usage": {"promptTokens": 9, "completionTokens": 50 + k}, "other": {"t": 1}}
        for k in range(3)
    ]
    audit, out = imported(tmp_path, lines(rows))
    assert traffic(out).select("arrival_s", "prompt_tokens", "visible_tokens").rows() == [
        (0, 9, 50),
        (1, 9, 51),
        (2, 9, 52),
    ]
    assert "prompt_tokens: column usage.promptTokens" in audit.notes


def test_what_nothing_tells_is_asked(tmp_path: Path) -> None:
    rows = [call(k, output_tokens=50, reasoning_tokens=20) for k in range(30)]
    audit, out = imported(tmp_path, lines(rows))
    assert "--reasoning outside" in audit.questions[0]
    assert traffic(out)["visible_tokens"].sum() == 900
    audit, out = imported(tmp_path, lines(rows), reasoning="outside")
    assert traffic(out)["visible_tokens"].sum() == 1500
    assert not audit.questions


def test_cached_tokens_beside_the_prompt_are_added_to_it(tmp_path: Path) -> None:
    rows = [call(k, output_tokens=50, cache_read_tokens=4000, cache_write_tokens=300) for k in range(3)]
    audit, out = imported(tmp_path, lines(rows))
    assert understood(audit, "cached tokens") == ["beside the prompt tokens, added to them"]
    assert traffic(out)["prompt_tokens"].to_list() == [4400, 4401, 4402]
    assert traffic(out)["cached_tokens"].to_list() == [4000] * 3


def test_an_answer_to_what_is_not_asked_is_refused(tmp_path: Path) -> None:
    rows = lines([call(k, output_tokens=50) for k in range(3)])
    for answer in ({"reasoning": "inside"}, {"cached": "inside"}, {"dates": "day-first"}, {"correct_from": 0.5}):
        with pytest.raises(InputError, match="expected nothing"):
            imported(tmp_path, rows, **answer)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(
        st.tuples(st.integers(0, 900), st.integers(0, 900), st.integers(1, 900), st.integers(0, 900)),
        min_size=5,
        max_size=25,
    ),
    hidden_outside=st.booleans(),
    cached_outside=st.booleans(),
)
def test_no_token_is_lost_or_made_up_where_totals_are_given(
    tmp_path: Path, data: list[tuple[int, int, int, int]], hidden_outside: bool, cached_outside: bool
) -> None:
    """Prompt, cached, visible and hidden tokens come back whatever the way in which they were put together."""
    rows = [
        {
            "arrival_s": k / 7,
            "input_tokens": fresh + (0 if cached_outside else cached),
            "cached_tokens": cached,
            "output_tokens": visible + (0 if hidden_outside else hidden),
            "reasoning_tokens": hidden,
            "total_tokens": fresh + cached + visible + hidden,
        }
        for k, (fresh, cached, visible, hidden) in enumerate(data)
    ]
    # A row with neither, and ones with one of the two each, leave no doubt.
    _, out = imported(tmp_path, lines(rows))
    found = traffic(out)
    sure = [k for k, (_, cached, _, hidden) in enumerate(data) if cached != hidden]
    for k in sure:
        fresh, cached, visible, hidden = data[k]
        row = found.row(k, named=True)
        assert (
            row["prompt_tokens"] + row["reasoning_tokens"] + row["visible_tokens"] == fresh + cached + visible + hidden
        )


@pytest.mark.parametrize(
    ("times", "seconds", "taken"),
    [
        ([1795511702.5, 1795511703.0], 0.5, "seconds since 1970"),
        ([1795511702500, 1795511703000], 0.5, "milliseconds since 1970"),
        ([1795511702500000, 1795511703000000], 0.5, "microseconds since 1970"),
        ([1795511702500000000, 1795511703000000000], 0.5, "nanoseconds since 1970"),
        (["1795511702500", "1795511703000"], 0.5, "milliseconds since 1970"),
        ([0, 500], 500.0, "seconds"),
    ],
)
def test_the_unit_of_times_is_told_by_their_size(tmp_path: Path, times: list[Any], seconds: float, taken: str) -> None:
    rows = [{"timestamp": time, "prompt_tokens": 5, "output_tokens": 5 + k} for k, time in enumerate(times)]
    audit, out = imported(tmp_path, lines(rows))
    assert understood(audit, "times") == [taken]
    assert traffic(out)["arrival_s"].to_list() == pytest.approx([0, seconds], abs=1e-6)
    assert bool(audit.questions) == (taken == "seconds")
    assert audit.day == (None if taken == "seconds" else "2026-11-24")


def test_a_unit_that_cannot_be_is_refused(tmp_path: Path) -> None:
    rows = [{"timestamp": 1795511702500 + k, "prompt_tokens": 5, "output_tokens": 5} for k in range(3)]
    with pytest.raises(InputError, match="--time-unit: unit: got 's'; expected ms"):
        imported(tmp_path, lines(rows), time_unit="s")
    _, out = imported(tmp_path, lines([{**row, "timestamp": 250 * k} for k, row in enumerate(rows)]), time_unit="ms")
    assert traffic(out)["arrival_s"].to_list() == [0, 0.25, 0.5]


@pytest.mark.parametrize("far", [-1e29, 1e18, -2e30])
def test_a_time_beyond_all_dates_is_refused(tmp_path: Path, far: float) -> None:
    rows = [{"timestamp": time, "prompt_tokens": 5, "output_tokens": 5} for time in (1795511702, far, 1795511703)]
    with pytest.raises(InputError, match=r"times: got .*; expected seconds, at most 1e\+11 before or after 0"):
        imported(tmp_path, lines(rows))


def test_dates_that_could_be_both_are_asked(tmp_path: Path) -> None:
    rows = [{"date": f"0{3 + k}/04/2026 10:00", "prompt_tokens": 5, "output_tokens": 5} for k in range(3)]
    with pytest.raises(InputError, match="`--dates day-first` or `--dates month-first`"):
        imported(tmp_path, lines(rows))
    _, out = imported(tmp_path, lines(rows), dates="day-first")
    assert traffic(out)["arrival_s"].to_list() == [0, 86400, 2 * 86400]
    _, out = imported(tmp_path, lines(rows), dates="month-first")
    assert traffic(out)["arrival_s"].to_list() == [0, 31 * 86400, 61 * 86400]


def test_what_failed_arrived_and_what_was_written_again_did_not(tmp_path: Path) -> None:
    rows = [
        {**call(k, output_tokens=50 + k), "request_id": f"r{k}", "status": 200, "latency_ms": 1500} for k in range(30)
    ]
    rows[4].update(output_tokens=0, status=429)
    rows[5].update(output_tokens=0)
    rows[6].update(status="cancelled", output_tokens=7)
    rows[7].update(status="retry", output_tokens=0)
    again = [{**rows[9], "output_tokens": 3, "status": "cancelled"}, rows[12]]  # a part of its stream, and all of it
    audit, out = imported(tmp_path, lines([*rows, *again]))
    found = traffic(out)
    assert (audit.read, len(found)) == (32, 29)
    assert found["status"].value_counts().sort("status").rows() == [("failed", 2), ("ok", 26), ("partial", 1)]
    assert sorted(one.rows for one in audit.left_out.values()) == [1, 2]
    assert found["latency_s"].unique().to_list() == [1.5]
    assert found.filter(pl.col("arrival_s") == 13.5)["visible_tokens"].to_list() == [59]


def test_rows_written_twice_without_ids(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    at = np.cumsum(rng.exponential(1.0, 60)).round(3)
    rows = [{"timestamp": float(t), "prompt_tokens": int(rng.integers(9, 99)), "output_tokens": 9} for t in at]
    _, out = imported(tmp_path, lines([row for row in rows for _ in range(2)]))
    assert len(traffic(out)) == 60
    few = [rows[0], *rows]
    assert len(traffic(imported(tmp_path, lines(few))[1])) == 60  # to the millisecond the same
    whole = [{**row, "timestamp": int(row["timestamp"]) // 9} for row in few]
    audit, out = imported(tmp_path, lines(whole))
    assert len(traffic(out)) == 61
    assert any("kept, since times in whole seconds" in note for note in audit.notes)


def graded(folder: Path, rows: list[dict[str, Any]], **how: Any) -> tuple[Audit, pl.DataFrame, pl.DataFrame]:
    audit, out = imported(folder, table(rows), "log.csv", **how)
    return audit, pl.read_parquet(out / "problems.parquet"), pl.read_parquet(out / "attempts.parquet")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (1, 0),
        ("1.0", "0.0"),
        ("true", "false"),
        ("TRUE", "FALSE"),
        ("yes", "no"),
        ("Pass", "Fail"),
        ("100%", "0%"),
        (100, 0),
        ("C", "I"),
    ],
)
def test_grades_of_every_kind(tmp_path: Path, right: Any, wrong: Any) -> None:
    rows = [
        {"problem_id": k, "model": "m", "prompt_tokens": 9, "output_tokens": 5, "passed": right if k % 3 else wrong}
        for k in range(12)
    ]
    _, problems, attempts = graded(tmp_path, rows)
    assert attempts["correct"].sum() == 8
    assert len(problems) == 12


def test_shares_are_refused_with_a_hint(tmp_path: Path) -> None:
    rows = [{"problem_id": k, "prompt_tokens": 9, "output_tokens": 5, "score": k / 4} for k in range(5)]
    with pytest.raises(InputError, match=r"grade, row 2: got '0\.25'.*--correct-from 0\.99"):
        graded(tmp_path, rows)
    _, _, attempts = graded(tmp_path, rows, correct_from=0.5)
    assert attempts["correct"].to_list() == [False, False, True, True, True]


def test_keys_that_are_the_same_in_every_row_or_start_anew(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"task_id": "exam", "dataset": part, "question_id": k, "prompt_tokens": 9, "output_tokens": 5, "correct": k % 2}
        for part in ("a", "b")
        for k in range(6)
    ]
    _, problems, attempts = graded(tmp_path, rows)
    assert problems["problem"].to_list() == [f"{part}/{k}" for part in ("a", "b") for k in range(6)]
    assert attempts["attempt"].to_list() == [0] * 12
    rows = [{**row, "prompt": f"{row['dataset']}? {row['question_id'] // 3}", "dataset": "all"} for row in rows]
    audit, problems, attempts = graded(tmp_path, [{**row, "question_id": row["question_id"] % 3} for row in rows])
    assert (len(problems), attempts.group_by("problem").len()["len"].to_list()) == (4, [3] * 4)
    assert understood(audit, "problems") == ["told apart by their prompts"]


def test_attempts_are_counted_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    rows = [
        {"problem": k // 3, "sample": 100 - k, "prompt_tokens": 9, "output_tokens": k + 1, "correct": 1}
        for k in range(9)
    ]  # numbers run on over all problems
    _, _, attempts = graded(tmp_path, rows)
    assert attempts.select("attempt", "visible_tokens").rows()[:3] == [(0, 3), (1, 2), (2, 1)]


def test_answers_that_pile_up_at_one_length_were_stopped(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [call(k, output_tokens=min(int(rng.exponential(900)), 2048)) for k in range(300)]
    at_limit = sum(row["output_tokens"] == 2048 for row in rows)
    audit, out = imported(tmp_path, lines(rows))
    assert audit.stopped is not None
    assert audit.stopped["rows"] == at_limit == traffic(out)["truncated"].sum()
    said = [{**row, "finish_reason": "MAX_TOKENS" if k % 100 == 0 else "stop"} for k, row in enumerate(rows)]
    audit, out = imported(tmp_path, lines(said))
    assert audit.stopped is not None
    assert audit.stopped["rows"] == 3 - sum(row["output_tokens"] == 0 for row in rows[::100])


def test_what_looks_made_up_is_said(tmp_path: Path) -> None:
    rows = [call(k, model="deepseek-r1", output_tokens=50) for k in range(40)]
    audit, _ = imported(tmp_path, lines(rows))
    assert "output tokens of deepseek-r1 are 50 in all 40 rows" in audit.made_up
    assert any("deepseek-r1 is a model that thinks" in line for line in audit.made_up)


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    rows: list[Any] = [call(k, output_tokens=50) for k in range(40)]
    rows[3]["output_tokens"] = "many"
    rows[4]["prompt_tokens"] = -1
    rows[5]["output_tokens"] = 10**12
    rows[6].pop("output_tokens")
    rows[7]["arrival_s"] = "soon"
    rows[8]["prompt_tokens"] = float("nan")
    audit, out = imported(tmp_path, lines(rows) + "{broken\n")
    assert (audit.read, audit.kept, len(traffic(out))) == (41, 34, 34)
    assert sum(one.rows for one in audit.left_out.values()) == 7
    assert "row 4: many" in audit.left_out["output is no whole number of tokens"].first
