"""Tables of graded answers as people export them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.importing.evaluations import as_lines, columns, imported, left_out
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing import import_logs
from ttc_sim.measured.importing.values import estimated_tokens


def csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_that_is_sorted_by_problem_keeps_its_key(tmp_path: Path) -> None:
    # The first 50 rows, by which columns are chosen, are all of one problem, and `id` numbers the rows.
    rows: list[dict[str, Any]] = [
        {"task_id": f"HumanEval/{k // 60}", "id": k, "prompt_tokens": 9, "output_tokens": 10 + k, "passed": k % 3 == 0}
        for k in range(180)
    ]
    attempts, _ = imported(as_lines(tmp_path / "a.jsonl", rows), out=tmp_path / "out")
    assert attempts["problem"].n_unique() == 3
    assert attempts["attempt"].to_list() == [*range(60)] * 3
    same = [{**row, "task_id": "humaneval", "id": row["id"] // 60} for row in rows]
    attempts, audit = imported(as_lines(tmp_path / "a.jsonl", same), out=tmp_path / "same")
    assert attempts["problem"].unique().sort().to_list() == ["0", "1", "2"]
    assert "problem: column id" in audit["notes"]


def test_attempts_numbered_through_are_numbered_by_problem(tmp_path: Path) -> None:
    text = "problem,attempt,prompt_tokens,output_tokens,correct\n" + "".join(
        f"p{k % 4},{k},5,{10 + k},{k % 2}\n" for k in range(12)
    )
    attempts, _ = imported(csv(tmp_path / "a.csv", text), out=tmp_path / "out")
    assert attempts["attempt"].to_list() == [0, 1, 2] * 4
    assert attempts.filter(pl.col("problem") == "p1")["visible_tokens"].to_list() == [11, 15, 19]


@pytest.mark.parametrize(
    ("columns_", "right"),
    [
        ({"success": [True, False, True]}, [True, False, True]),
        ({"status": ["passed", "failed", "PASSED"]}, [True, False, True]),
        ({"outcome": ["correct", "incorrect", "correct"]}, [True, False, True]),
        ({"correct": [1, 0, 1], "success": [True, False, True]}, [True, False, True]),
        ({"correct": [1, 0, 1], "status": ["pass", "fail", "pass"]}, [True, False, True]),
        ({"correct": [1, 0, 1], "status": ["ok", "error", "ok"]}, [True, True]),
        ({"correct": [1, 0, 1], "status_code": [200, 500, 200]}, [True, True]),
    ],
    ids=str,
)
def test_whether_a_word_grades_an_answer_or_says_that_a_call_failed(
    tmp_path: Path, columns_: dict[str, Any], right: list[bool]
) -> None:
    table = pl.DataFrame(
        {"problem_id": ["a", "b", "c"], "prompt_tokens": 5, "completion_tokens": [7, 8, 9], **columns_}
    )
    table.write_parquet(tmp_path / "a.parquet")
    attempts, audit = imported(tmp_path / "a.parquet", out=tmp_path / "out")
    assert attempts["correct"].to_list() == right
    assert audit["rows"]["failed"] == 3 - len(right)


def test_traffic_keeps_success_as_a_status(tmp_path: Path) -> None:
    log = csv(
        tmp_path / "a.csv",
        "arrival_s,prompt_tokens,output_tokens,success\n0.5,5,7,True\n1.5,5,7,False\n2.25,6,7,True\n",
    )
    assert import_logs([log], tmp_path / "out").failed == 1


def test_texts_stand_for_counts_that_are_missing_and_numbers_are_counts(tmp_path: Path) -> None:
    rows = [{"question_id": 1, "question": "What is 2 + 2?", "response": "<think>two and two</think>It is 4", "is_correct": "yes"},
            {"question_id": 2, "question": "And 3 + 3?", "response": "7", "is_correct": "no"}]  # fmt: skip
    attempts, audit = imported(as_lines(tmp_path / "a.jsonl", rows), out=tmp_path / "out")
    assert columns(attempts, "prompt_tokens", "reasoning_tokens", "visible_tokens", "correct") == [
        (estimated_tokens("What is 2 + 2?"), estimated_tokens("two and two"), estimated_tokens("It is 4"), True),
        (estimated_tokens("And 3 + 3?"), None, 1, False),
    ]
    assert any(line.startswith("output tokens of 2 rows are estimated") for line in audit["notes"])
    log = csv(tmp_path / "b.csv", 'id,input,output,grade\na,"1,200",350,pass\nb,900,20,fail\n')
    attempts, audit = imported(log, out=tmp_path / "counts")
    assert columns(attempts, "problem", "prompt_tokens", "visible_tokens", "correct") == [
        ("a", 1200, 350, True),
        ("b", 900, 20, False),
    ]
    assert not any("estimated" in line for line in audit["notes"])


def test_two_lines_of_names(tmp_path: Path) -> None:
    units = "problem,prompt_tokens,output_tokens,correct\nkey,tokens,tokens,0/1\na,5,7,1\nb,5,9,0\n"
    attempts, audit = imported(csv(tmp_path / "a.csv", units), out=tmp_path / "out")
    assert attempts["correct"].to_list() == [True, False]
    assert left_out(audit) == {"prompt is no whole number of tokens": 1}
    grouped = ",tokens,tokens,\nproblem,prompt_tokens,output_tokens,correct\na,5,7,1\n"
    with pytest.raises(
        InputError, match="line 1: got 'tokens'; expected each column once; of several lines of names, the one"
    ):
        imported(csv(tmp_path / "b.csv", grouped), out=tmp_path / "grouped")


def test_shares_are_refused_with_a_hint_and_percentages_are_grades(tmp_path: Path) -> None:
    head = "problem,prompt_tokens,output_tokens,accuracy\n"
    with pytest.raises(
        InputError, match=r"row 2: got '0\.75'; expected right or wrong; a share of several attempts is a row for each"
    ):
        imported(csv(tmp_path / "a.csv", head + "a,5,7,1\nb,5,9,0.75\n"), out=tmp_path / "out")
    attempts, _ = imported(csv(tmp_path / "b.csv", head + "a,5,7,100%\nb,5,9,0%\n"), out=tmp_path / "percent")
    assert attempts["correct"].to_list() == [True, False]


def test_keys_that_start_anew_in_each_dataset(tmp_path: Path) -> None:
    rows = [
        {"dataset": d, "doc_id": k, "prompt_tokens": 5, "output_tokens": 5 + k, "correct": k % 2}
        for d in ("x", "y")
        for k in range(3)
    ]
    attempts, audit = imported(as_lines(tmp_path / "a.jsonl", rows), out=tmp_path / "out")
    assert attempts["problem"].to_list() == ["x/0", "x/1", "x/2", "y/0", "y/1", "y/2"]
    assert json.dumps(audit["understood"]).count("keys start anew") == 1
