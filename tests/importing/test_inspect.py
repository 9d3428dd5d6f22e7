"""Logs of Inspect AI."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.importing.evaluations import LOGS, as_document, columns, imported, left_out, read_or_refused
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing import Answers
from ttc_sim.measured.importing.formats import inspect_files
from ttc_sim.measured.importing.values import estimated_tokens

MODEL = "openai/o4-mini"


def usage(fresh: int, output: int, **more: int) -> dict[str, int]:
    """As ``ModelUsage``: the total holds what was cached, ``input_tokens`` does not."""
    cached = more.get("input_tokens_cache_read", 0) + more.get("input_tokens_cache_write", 0)
    return {"input_tokens": fresh, "output_tokens": output, "total_tokens": fresh + cached + output, **more}


def sample(key: Any, value: Any, use: Any = None, *, epoch: int = 1, **more: Any) -> dict[str, Any]:
    """A sample that took one call."""
    use = use or usage(20, 10, reasoning_tokens=4)
    answer = {"role": "assistant", "content": "4"}
    made = {
        "id": key, "epoch": epoch, "input": "2 + 2?", "target": "4",
        "messages": [{"role": "user", "content": "2 + 2?"}, answer],
        "output": {"model": "o4-mini", "choices": [{"message": answer, "stop_reason": "stop"}], "usage": use},
        "scores": {"match": {"value": value, "answer": "4"}}, "model_usage": {MODEL: use}, "events": [],
    }  # fmt: skip
    return {**made, **more}


def log(samples: list[Any], **more: Any) -> dict[str, Any]:
    """A document of version 2."""
    spec = {"task": "sums", "model": MODEL, "dataset": {"name": "numbers"}}
    return {
        "version": 2,
        "status": "success",
        "eval": spec,
        "plan": {},
        "results": None,
        "stats": {},
        **more,
        "samples": samples,
    }


def as_eval(path: Path, document: dict[str, Any], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    """The same log as a ``.eval`` file."""
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("header.json", json.dumps({name: value for name, value in document.items() if name != "samples"}))
        for one in document["samples"]:
            file.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
        file.writestr("summaries.json", "[]")
    return path


def test_a_log_that_inspect_wrote_packed_by_zstandard(tmp_path: Path) -> None:
    # Two samples of two epochs. Each took a call with 10 or 11 fresh, 90 cached, 7 output tokens, 3 of them reasoning; and one of
    # 1,000 fresh tokens by its grader, which is the same model.
    attempts, audit = imported(LOGS / "inspect" / "sums.eval", out=tmp_path / "out")
    assert columns(attempts, "problem", "attempt", "correct", "answer") == [
        ("a", 0, True, "4"), ("a", 1, True, "4"), ("b", 0, False, "5"), ("b", 1, False, "5"),
    ]  # fmt: skip
    assert set(attempts["prompt_tokens"].to_list()) <= {100, 101}
    assert set(columns(attempts, "reasoning_tokens", "visible_tokens")) == {(3, 4)}
    assert any("graded by match" in line and "model_graded_qa" in line for line in audit["notes"])


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, None])
def test_both_forms_of_a_log_are_the_same(tmp_path: Path, kind: int | None) -> None:
    samples = [
        sample(1, "C", usage(20, 10, reasoning_tokens=4, input_tokens_cache_read=30)),
        sample(1, "I", epoch=2),
        sample(2, "N"),
    ]
    document = log(samples)
    path = as_document(tmp_path / "a.json", document) if kind is None else as_eval(tmp_path / "a.eval", document, kind)
    attempts, _ = imported(path, out=tmp_path / "out")
    assert columns(attempts, "problem", "attempt", "prompt_tokens", "reasoning_tokens", "visible_tokens", "correct") == [
        ("1", 0, 50, 4, 6, True), ("1", 1, 20, 4, 6, False), ("2", 0, 20, 4, 6, False),
    ]  # fmt: skip
    assert attempts["model"].unique().to_list() == [MODEL]
    assert pl.read_parquet(tmp_path / "out" / "problems.parquet")["subset"].unique().to_list() == ["numbers"]


def test_calls_of_an_agent_are_summed_without_those_of_its_grader(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "let me see"},
        {"role": "assistant", "content": "4"},
    ]
    by_model = {MODEL: usage(100, 50), "openai/gpt-4o": usage(900, 9)}
    call = {"event": "model", "model": MODEL, "output": {"usage": usage(30, 10)}}
    spans = [
        call,
        call,
        {"event": "span_begin", "type": "scorer", "id": "s"},
        call,
        {"event": "span_end", "id": "s"},
        call,
    ]
    steps = [call, {"event": "step", "action": "begin", "type": "scorer"}, call, call]
    by_role: dict[str, Any] = {"role_usage": {"grader": usage(25, 5)}}
    samples = [
        sample(1, "C", messages=turns, model_usage=by_model),
        sample(2, "C", messages=turns, model_usage=by_model, events=spans),
        sample(3, "C", messages=turns, model_usage=by_model, events=steps),
        sample(4, "C", messages=turns, model_usage=by_model, **by_role),
    ]
    document = log(samples)
    document["eval"]["model_roles"] = {"grader": {"model": MODEL}}
    attempts, audit = imported(as_document(tmp_path / "a.json", document), out=tmp_path / "out")
    assert columns(attempts, "prompt_tokens", "visible_tokens") == [(100, 50), (70, 40), (40, 30), (75, 45)]
    assert any("4 of the first 4 samples took several calls" in line for line in audit["notes"])


def test_errors_limits_and_other_scores(tmp_path: Path) -> None:
    limited: dict[str, Any] = {"limit": {"type": "token", "limit": 100}}
    long = sample(3, "I")
    long["output"]["choices"][0]["stop_reason"] = "max_tokens"
    samples = [
        sample(1, "C"), sample(2, "I", **limited), long,
        sample(4, None, error={"message": "boom"}, scores=None), sample(5, {"a": 1}), sample(6, "C", scores={}),
        sample(7, "C", invalidation={"author": "me"}), sample(8, True), sample(9, "0"),
    ]  # fmt: skip
    attempts, audit = imported(as_document(tmp_path / "a.json", log(samples, status="cancelled")), out=tmp_path / "out")
    assert columns(attempts, "problem", "correct", "truncated") == [
        ("1", True, False), ("2", False, True), ("3", False, True), ("8", True, False), ("9", False, False),
    ]  # fmt: skip
    assert attempts["finish_reason"].to_list()[:3] == ["stop", "token_limit", "max_tokens"]
    assert left_out(audit) == {"not graded: no score that is one value": 2, "a sample that was declared invalid": 1}
    assert audit["rows"]["failed"] == 1
    assert any("was cancelled" in line for line in audit["notes"])


def test_partial_answers_are_refused_unless_somebody_says_from_where_on_they_are_right(tmp_path: Path) -> None:
    path = as_document(tmp_path / "a.json", log([sample(1, "C"), sample(2, "P")]))
    with pytest.raises(InputError, match=r"row 2: got '0\.5'"):
        imported(path, out=tmp_path / "out")
    attempts, _ = imported(path, out=tmp_path / "out", answers=Answers(correct_from=0.5))
    assert attempts["correct"].to_list() == [True, True]


def test_a_sample_that_a_retried_evaluation_copied_counts_once(tmp_path: Path) -> None:
    first, again = sample(1, "C", uuid="u1"), sample(2, "I", uuid="u2")
    logs = [
        as_document(tmp_path / "a.json", log([first], status="error")),
        as_document(tmp_path / "b.json", log([first, again])),
    ]
    attempts, _ = imported(*logs, out=tmp_path / "out")
    assert attempts["problem"].to_list() == ["1", "2"]


def test_old_logs_had_one_score_without_a_name_and_answers_from_a_cache_count_their_own_tokens(tmp_path: Path) -> None:
    old = sample(1, "C")
    old["score"] = old.pop("scores")["match"]
    cached = sample(2, "I", usage(33, 7), model_usage={})
    plain = sample(3, "I", model_usage={})
    del plain["output"]["usage"]
    attempts, audit = imported(as_document(tmp_path / "a.json", log([old, cached, plain])), out=tmp_path / "out")
    expected = [("1", 20, 6), ("2", 33, 7), ("3", estimated_tokens("2 + 2?"), 1)]
    assert columns(attempts, "problem", "prompt_tokens", "visible_tokens") == expected
    assert any(line.startswith("output tokens of 1 rows are estimated") for line in audit["notes"])


def test_totals_overrule_what_later_versions_document(tmp_path: Path) -> None:
    # Early versions gave Gemini's candidates as output, thoughts beside them, and prompts with what was cached.
    use = {
        "input_tokens": 100,
        "output_tokens": 5,
        "total_tokens": 145,
        "reasoning_tokens": 40,
        "input_tokens_cache_read": 60,
    }
    attempts, _ = imported(as_document(tmp_path / "a.json", log([sample(1, "C", use)])), out=tmp_path / "out")
    assert columns(attempts, "prompt_tokens", "reasoning_tokens", "visible_tokens") == [(100, 40, 5)]


def test_large_samples_are_read_without_their_messages_and_documents_without_being_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = log([sample(k, "C" if k else "I", turn_count=1, store={"x": ["y" * 500] * 8}) for k in range(3)])
    monkeypatch.setattr(inspect_files, "_WHOLE", 1_000)
    monkeypatch.setattr("ttc_sim.measured.importing.json_records._WHOLE", 2_000)
    for path in (as_eval(tmp_path / "a.eval", document), as_document(tmp_path / "a.json", document)):
        attempts, _ = imported(path, out=tmp_path / path.suffix)
        assert columns(attempts, "problem", "correct", "prompt_tokens", "model") == [
            ("0", False, 20, MODEL), ("1", True, 20, MODEL), ("2", True, 20, MODEL),
        ]  # fmt: skip


def test_logs_that_did_not_end_damaged_members_and_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("_journal/start.json", json.dumps({"version": 2, "eval": log([])["eval"]}))
        file.writestr("samples/1_epoch_1.json", json.dumps(sample(1, "C")))
        file.writestr("samples/2_epoch_1.json", "{not json")
        file.writestr("samples/3_epoch_1.json", json.dumps(sample(3, "C", store=" " * 1_000_000)))
        file.writestr("../samples/4_epoch_1.json", json.dumps(sample(4, "C")))
    monkeypatch.setattr(inspect_files, "FREE_OF_EXPANSION", 100_000)
    monkeypatch.setenv("TTC_SIM_MAX_EXPANSION", "100")
    attempts, audit = imported(path, out=tmp_path / "out")
    assert columns(attempts, "problem", "model") == [("1", MODEL)]
    assert left_out(audit) == {"a damaged sample": 1, "a sample that becomes far more than it is packed": 1}
    assert any("did not end" in line for line in audit["notes"])


def test_another_zip_file_and_one_that_is_cut_off_are_refused_in_our_words(tmp_path: Path) -> None:
    other, cut = tmp_path / "other.zip", tmp_path / "cut.eval"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("hello.txt", "hello")
    cut.write_bytes((LOGS / "inspect" / "sums.eval").read_bytes()[:9_000])
    for path in (other, cut):
        with pytest.raises(InputError) as caught:
            imported(path, out=tmp_path / "out")
        assert str(path) in str(caught.value)
        assert "Error" not in str(caught.value)
    damaged = bytearray((LOGS / "inspect" / "sums.eval").read_bytes())
    damaged[2_000:2_040] = b"\0" * 40
    (tmp_path / "damaged.eval").write_bytes(bytes(damaged))
    attempts, audit = imported(tmp_path / "damaged.eval", out=tmp_path / "out")
    assert (len(attempts), left_out(audit)) == (3, {"a damaged sample": 1})


def test_a_log_without_samples_is_refused_and_is_no_table(tmp_path: Path) -> None:
    document = log([])
    del document["samples"]
    with pytest.raises(InputError, match="samples: got 'none'; expected a log with samples"):
        imported(
            as_document(tmp_path / "a.json", {**document, "stats": {"model_usage": {MODEL: usage(9, 9)}}}),
            out=tmp_path / "out",
        )


@pytest.mark.parametrize("value", [[], {}, 3, "x", [None], {"match": 3}, [[1]], float("nan"), True])
def test_hostile_values_do_no_harm(tmp_path: Path, value: Any) -> None:
    for name in (
        "id",
        "epoch",
        "messages",
        "output",
        "scores",
        "model_usage",
        "role_usage",
        "events",
        "error",
        "limit",
        "input",
    ):
        path = as_document(tmp_path / "a.json", log([sample(1, "C"), sample(2, "I", **{name: value})]))
        read_or_refused(path, out=tmp_path / name)
