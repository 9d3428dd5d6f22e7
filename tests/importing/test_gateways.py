"""Logs of LiteLLM and exports of Langfuse; the files under ``logs/`` are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.importing.helping import imported, left, lines, of_file, table, traffic, understood
from ttc_sim.base.errors import InputError

COUNTS = ("prompt_tokens", "cached_tokens", "reasoning_tokens", "visible_tokens")
LITELLMS_OWN = "answered from LiteLLM's own cache: no model was called"
TWICE = "around another call that counts the same tokens"


@pytest.mark.parametrize("name", ["spend_logs.csv", "spend_logs.json"])
def test_spend_logs(tmp_path: Path, name: str) -> None:
    audit, out = of_file(tmp_path, f"litellm/{name}")
    found = traffic(out)
    assert (audit.read, audit.answered, audit.failed, left(audit)) == (4, 2, 1, {LITELLMS_OWN: 1})  # no embeddings
    assert found.select(*COUNTS, "status").rows() == [
        (1200, 1024, 200, 100, "ok"),
        (80, 0, 0, 20, "ok"),
        (0, None, 0, 0, "failed"),
    ]
    assert found["arrival_s"].to_list() == pytest.approx([0, 4.9, 7.9])
    assert found["latency_s"].to_list() == pytest.approx([2.5, 1, 0.2])
    assert found["first_token_s"].to_list() == [pytest.approx(0.8), None, None]  # where none streamed, it is the end
    assert set(found["source"]) == {"team-a"}


def payload(name: str, trace: str, at: float, status: str = "success", **more: Any) -> dict[str, Any]:
    times = {"startTime": at, "endTime": at + 1, "completionStartTime": at + 1}
    counts = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    made = {
        "id": name,
        "trace_id": trace,
        "call_type": "acompletion",
        "status": status,
        "model": "m",
        "model_group": "g",
    }
    return {**made, **times, **counts, "cache_hit": None, "metadata": {}, **more}


def test_standard_logging_payloads(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "litellm/payloads.jsonl")
    assert left(audit) == {"a retry: the call that it repeats has a row of its own": 1}
    found = traffic(out)
    assert found.select(*COUNTS, "status").rows() == [(600, 512, 0, 256, "ok"), (0, None, 0, 0, "failed")]
    assert found.select("first_token_s", "latency_s", "truncated").row(0) == (0.5, 3, True)


def test_a_failure_without_a_later_try_is_no_retry(tmp_path: Path) -> None:
    """A conversation may have one trace: only a call that says it was tried again makes a failure one of its tries."""
    rows = [payload("a", "t", 1e9, "failure"), payload("b", "t", 1e9 + 5), payload("c", "u", 1e9 + 6, "failure")]
    audit, _ = imported(tmp_path, lines(rows))
    assert (audit.answered, audit.failed, left(audit)) == (1, 2, {})
    again = [*rows, payload("d", "u", 1e9 + 7, hidden_params={"attempted_retries": 1})]
    audit, _ = imported(tmp_path, lines([{"standard_logging_object": row} for row in again]))
    assert (audit.answered, audit.failed, sum(left(audit).values())) == (2, 1, 1)


def test_odd_rows_of_litellm(tmp_path: Path) -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": "4"}, "completion_tokens_details": [7]}
    rows = [
        payload("a", "t", 1e9, prompt_tokens=[10]),
        payload("b", "t", 1e9 + 1, metadata=json.dumps({"usage_object": usage})),
        payload(
            "c", "t", 1e9 + 2, call_type="pass_through_endpoint", prompt_tokens=0, completion_tokens=0, total_tokens=0
        ),
        payload("d", "t", 1e9 + 3, cache_hit="True"),
        payload("b", "t", 1e9 + 1),
        payload("e", "t", 1e9 + 4, call_type="aimage_generation"),
    ]
    audit, out = imported(tmp_path, lines(rows))
    assert sorted(left(audit).values()) == [1, 1, 1]
    assert audit.read == 4
    assert len(traffic(out)) == 1


@pytest.mark.parametrize("name", ["observations.json", "observations.csv", "blob_observations.jsonl", "trace.json"])
def test_exports_of_langfuse(tmp_path: Path, name: str) -> None:
    audit, out = of_file(tmp_path, f"langfuse/{name}")
    found = traffic(out)
    assert (audit.read, audit.answered, audit.failed, left(audit)) == (5, 3, 1, {TWICE: 1})
    # 176 + 1024 of the cache, 100 + 200 of reasoning: parts, whose sum is the total of 1500.
    assert found.filter(status="ok").select(COUNTS).rows() == [
        (1200, 1024, 200, 100),
        (80, None, 0, 20),
        (300, None, 0, 60),
    ]
    assert found["latency_s"].to_list() == pytest.approx([2.5, 1, 0.2, 2])
    assert found["first_token_s"].to_list() == [pytest.approx(0.8), None, None, None]
    assert any("Langfuse counted the tokens itself" in one for one in audit.notes) == (name != "trace.json")
    if name == "trace.json":
        assert set(found["session"]) == {"chat-9"}


def generation(name: str, details: Any, second: int, **more: Any) -> dict[str, Any]:
    began = f"2025-11-25T10:00:{second:02}Z"
    return {"id": name, "traceId": "t", "type": "GENERATION", "startTime": began, "endTime": began, "model": "m",
            "usageDetails": details, "parentObservationId": None, **more}  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input": 30, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 20, "output": 9}, (100, 50, 0, 9)),
        (
            {"input": 30, "input_cache_read": 50, "input_cache_creation_5m": 20, "output": 9, "output_reasoning": 4},
            (100, 50, 4, 9),
        ),
        ({"input": 90, "input_audio_tokens": 10, "output": 9, "output_audio_tokens": 1}, (100, None, 0, 10)),
        # As LiteLLM sends it: the input holds the cache, and the total shows it.
        ({"input": 100, "cache_read_input_tokens": 50, "output": 9, "total": 109}, (100, 50, 0, 9)),
        ({"prompt_tokens": 100, "completion_tokens": 9, "total_tokens": 109, "input_priority": 100}, (100, None, 0, 9)),
    ],
)
def test_spellings_of_langfuses_usage(tmp_path: Path, usage: dict[str, int], expected: tuple[Any, ...]) -> None:
    _, out = imported(tmp_path, lines([generation("a", usage, 1)]))
    assert traffic(out).select(COUNTS).row(0) == expected
    if "total" not in usage and "total_tokens" not in usage:  # Langfuse's own sum is no evidence
        summed = {**usage, "total": sum(usage.values())}
        audit, out = imported(tmp_path, lines([generation("a", summed, 1, providedUsageDetails=usage)]))
        assert traffic(out).select(COUNTS).row(0) == expected
        assert not [one for one in audit.understood if "totals" in one.evidence]


def test_the_oldest_way_of_langfuse(tmp_path: Path) -> None:
    row = generation("a", None, 1, promptTokens=100, completionTokens=9, totalTokens=109)
    _, out = imported(
        tmp_path, lines([row, generation("b", None, 2, usage={"input": 5, "output": 6, "unit": "TOKENS"})])
    )
    assert traffic(out).select(COUNTS).rows() == [(100, None, 0, 9), (5, None, 0, 6)]


def test_a_generation_inside_another_is_a_call_of_its_own_where_it_counts_otherwise(tmp_path: Path) -> None:
    rows = [
        generation("inner", {"input": 5, "output": 40}, 2, parentObservationId="outer"),
        generation("outer", {"input": 900, "output": 500}, 1),
        generation("cut", {}, 3, level="ERROR", statusMessage="Request was cancelled"),
    ]
    for order in (rows, rows[::-1]):
        audit, out = imported(tmp_path, lines(order))
        assert left(audit) == {}
        assert sorted(traffic(out)["visible_tokens"]) == [0, 40, 500]
        assert audit.partial == 1


def test_scores_of_langfuse_are_grades(tmp_path: Path) -> None:
    rows = [
        generation(f"g{k}", {"input": 50 + k, "output": 9}, k, metadata={"dataset_item_id": f"i{k // 2}"})
        for k in range(4)
    ]
    packed = [
        {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}
        | {"correct": f"[{k % 2}]"}
        for k, row in enumerate(rows)
    ]
    scored = [{**row, "scores": {"correct": [k % 2], "tone": ["kind"]}} for k, row in enumerate(rows)]
    for log, name in ((lines(scored), "a.jsonl"), (table(packed), "a.csv")):
        audit, out = imported(tmp_path, log, name)
        attempts = pl.read_parquet(out / "attempts.parquet").sort("problem", "attempt")
        assert attempts.select("problem", "prompt_tokens", "correct").rows() == [
            ("i0", 50, False),
            ("i0", 51, True),
            ("i1", 52, False),
            ("i1", 53, True),
        ]
        assert understood(audit, "grades") == ["right or wrong"]


def test_judges_shares_are_asked_for(tmp_path: Path) -> None:
    rows = [generation("a", {"input": 5, "output": 6}, 1, input="Why?", scores={"correctness": [0.7]})]
    with pytest.raises(InputError, match="--correct-from"):
        imported(tmp_path, lines(rows))
    _, out = imported(tmp_path, lines(rows), correct_from=0.5)
    assert pl.read_parquet(out / "attempts.parquet")["correct"].to_list() == [True]
