"""Logs of OpenAI evals, promptfoo and DeepEval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.importing.evaluations import LOGS, as_document, as_lines, columns, imported, left_out, read_or_refused
from ttc_sim.measured.importing.values import estimated_tokens


def event(kind: str, key: str, number: int, **data: Any) -> dict[str, Any]:
    return {
        "run_id": "r",
        "event_id": number,
        "sample_id": key,
        "type": kind,
        "data": data,
        "created_by": "",
        "created_at": "",
    }


def test_openai_evals_join_what_was_sampled_and_how_it_was_graded(tmp_path: Path) -> None:
    attempts, audit = imported(next((LOGS / "openai-evals").iterdir()), out=tmp_path / "out")
    assert columns(attempts, "problem", "prompt_tokens", "visible_tokens", "correct", "answer") == [
        ("arithmetic.dev.0", 20, 6, True, "4"),
        ("arithmetic.dev.1", 22, 6, False, None),
    ]
    assert audit["rows"]["read"] == 2


def test_openai_evals_graded_by_a_model_count_the_first_sampling_and_threads_interleave(tmp_path: Path) -> None:
    spec = {"spec": {"completion_fns": ["gpt-4o"], "eval_name": "e"}}
    rows = [
        spec,
        event("sampling", "a", 0, prompt="1 + 3?", sampled=["4"]),
        event("sampling", "b", 1, prompt="1 + 4?", sampled=["a long answer"]),
        event("sampling", "a", 2, prompt="Is 4 right? " * 50, sampled=["Y"]),
        event("metrics", "a", 3, choice="Y", score=1.0),
        event("metrics", "b", 4, choice="N", score=0),
        event("error", "c", 5, message="timeout"),
        event("sampling", "d", 6, prompt="x", sampled=["x"]),
        event("sampling", "d", 7, prompt="y", sampled=["y"]),
        event("match", "d", 8, correct=True),
        {"final_report": {"accuracy": 0.5}},
    ]
    attempts, audit = imported(as_lines(tmp_path / "a.jsonl", rows), out=tmp_path / "out")
    assert columns(attempts, "problem", "prompt_tokens", "visible_tokens", "correct") == [
        ("a", estimated_tokens("1 + 3?"), 1, True),
        ("b", estimated_tokens("1 + 4?"), estimated_tokens("a long answer"), False),
    ]
    assert left_out(audit) == {"several calls of a model for one sample": 1}
    assert audit["rows"]["failed"] == 1


def test_promptfoo_counts_of_its_own_cache_are_no_cached_prompts(tmp_path: Path) -> None:
    attempts, audit = imported(LOGS / "promptfoo" / "results.json", out=tmp_path / "out")
    counts = columns(attempts, "prompt_tokens", "reasoning_tokens", "visible_tokens", "correct", "answer")
    # The last came from promptfoo's cache, which keeps the total alone: its tokens are estimated.
    estimated = (estimated_tokens("Capital number 3?"), None, 1, True, "Paris")
    assert sorted(counts, key=str) == sorted(
        [(20, None, 10, True, "Paris"), (20, 16, 9, False, "Rome"), estimated], key=str
    )
    assert left_out(audit) == {"not graded: a test without assertions": 1}
    assert audit["rows"]["failed"] == 1


def test_promptfoo_repeats_are_attempts_at_what_was_asked_and_lines_are_read_too(tmp_path: Path) -> None:
    def result(number: int, model: str) -> dict[str, Any]:
        response = {"output": "2", "tokenUsage": {"prompt": 9, "completion": 1, "total": 10}}
        asked = {"promptIdx": 0, "testIdx": number, "testCase": {}, "vars": {}, "prompt": {"raw": "1 + 1?"}}
        graded = {"success": True, "gradingResult": {"pass": True, "reason": "ok"}, "failureReason": 0}
        return {"id": f"r{number}", "provider": {"id": model}, "response": response, **asked, **graded}

    rows = [result(k, "a" if k < 3 else "b") for k in range(5)]
    for path in (
        as_lines(tmp_path / "a.jsonl", rows),
        as_document(tmp_path / "a.json", {"version": 2, "results": rows, "table": {}}),
    ):
        attempts, _ = imported(path, out=tmp_path / path.suffix)
        assert columns(attempts, "model", "attempt") == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
        assert attempts["problem"].n_unique() == 1


def test_deepeval_test_cases(tmp_path: Path) -> None:
    attempts, _ = imported(LOGS / "deepeval" / "test_run.json", out=tmp_path / "out")
    assert sorted(columns(attempts, "prompt_tokens", "visible_tokens", "correct", "model")) == sorted([
        (estimated_tokens("What is 0 + 1?"), 1, True, "gpt-4o-mini"),
        (estimated_tokens("What is 1 + 1?"), estimated_tokens("It is three"), False, "gpt-4o-mini"),
        (50, 9, True, "gpt-4o-mini"),
    ])  # fmt: skip


@pytest.mark.parametrize("value", [[], {}, 3, "x", [None], [[1]], True, None])
def test_hostile_values_do_no_harm(tmp_path: Path, value: Any) -> None:
    run = {"testCases": [{"name": "a", "input": "1", "actualOutput": "1", "success": True, "metricsData": []}] * 2}
    foo = {
        "promptIdx": 0,
        "testIdx": 0,
        "testCase": {},
        "success": True,
        "gradingResult": {"pass": True},
        "prompt": {"raw": "x"},
        "vars": {},
    }
    logs: list[dict[str, Any]] = [
        {"testCases": [run["testCases"][0], {**run["testCases"][0], name: value}]}
        for name in ("input", "actualOutput", "success")
    ]
    logs += [
        {"results": {"results": [foo, {**foo, name: value}]}}
        for name in ("gradingResult", "response", "provider", "prompt", "success", "id")
    ]
    for number, document in enumerate([*logs, {"results": {"results": [foo, value]}}, {"results": value}]):
        read_or_refused(as_document(tmp_path / "a.json", document), out=tmp_path / str(number))
    rows = [event("sampling", "a", 0, prompt="x", sampled="y"), event("match", "a", 1, correct=True)]
    for name in ("type", "data", "sample_id", "event_id"):
        log = as_lines(tmp_path / "a.jsonl", [*rows, {**rows[0], name: value}, {**rows[1], name: value}])
        read_or_refused(log, out=tmp_path / name)
