"""Rows of every_eval_ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.importing.evaluations import LOGS, as_lines, columns, imported, left_out
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing import Answers
from ttc_sim.measured.importing.values import estimated_tokens


def row(sample: str, right: bool, score: float, said: str, **more: Any) -> dict[str, Any]:
    """A line of version 0.2 or 0.3."""
    made = {
        "schema_version": "0.3.0", "evaluation_id": "e", "model_id": "acme/small", "evaluation_name": "sums",
        "evaluation_result_id": "sums/accuracy", "sample_id": sample, "interaction_type": "single_turn",
        "input": {"raw": f"{sample}?", "reference": ["4"]}, "output": {"raw": [said]},
        "answer_attribution": [], "evaluation": {"score": score, "is_correct": right},
    }  # fmt: skip
    return {**made, **more}


def test_one_row_of_an_answer_counts_and_totals_say_where_cached_and_reasoning_stand(tmp_path: Path) -> None:
    log = next((LOGS / "every-eval-ever").iterdir())
    attempts, audit = imported(log, out=tmp_path / "out")
    # The second row: 13 + 9 + 20 cached = 42 in all; 4 of the 9 are reasoning.
    assert columns(attempts, "problem", "prompt_tokens", "reasoning_tokens", "visible_tokens", "correct", "answer") == [
        ("2 + 2", 12, None, 5, True, "4"),
        ("2 + 3", 33, 4, 5, False, "4"),
    ]
    assert left_out(audit) == {"another metric of the same answer; the first is taken": 1}


def test_rows_of_one_metric_are_attempts_also_where_their_answers_are_the_same(tmp_path: Path) -> None:
    log = as_lines(tmp_path / "a_samples.jsonl", [row("1 + 3", True, 1.0, "4")] * 3 + [row("1 + 3", False, 0.0, "5")])
    attempts, audit = imported(log, out=tmp_path / "out")
    assert columns(attempts, "attempt", "correct") == [(0, True), (1, True), (2, True), (3, False)]
    assert not audit["rows"]["why"]


def test_a_share_is_no_grade_though_it_is_called_correct(tmp_path: Path) -> None:
    log = as_lines(tmp_path / "a_samples.jsonl", [row("1", True, 1.0, "4"), row("2", True, 0.25, "5")])
    with pytest.raises(InputError, match=r"row 2: got '0\.25'; expected right or wrong; a share"):
        imported(log, out=tmp_path / "out")
    attempts, _ = imported(log, out=tmp_path / "out", answers=Answers(correct_from=0.5))
    assert attempts["correct"].to_list() == [True, False]


def test_without_counts_tokens_are_estimated_and_conversations_left_out(tmp_path: Path) -> None:
    thought = {"output": {"raw": ["4"], "reasoning_trace": ["one and three"]}}
    turns = {
        "interaction_type": "agentic",
        "output": None,
        "messages": [{"turn_idx": 0, "role": "user", "content": "1"}],
    }
    failed = {"error": "timeout", "token_usage": {"input_tokens": 5, "output_tokens": 0, "total_tokens": 5}}
    rows = [row("1", True, 1.0, "4", **thought), row("2", True, 1.0, "", **turns), row("3", False, 0.0, "", **failed)]
    attempts, audit = imported(as_lines(tmp_path / "a_samples.jsonl", rows), out=tmp_path / "out")
    assert columns(attempts, "problem", "reasoning_tokens", "visible_tokens") == [
        ("1", estimated_tokens("one and three"), 1)
    ]
    assert left_out(audit) == {
        "several calls of a model, and no count of their tokens": 1,
        "graded, but failed or broken off: no attempt": 1,
    }
    assert audit["rows"]["failed"] == 1
