"""Logs of Anthropic's, Google's and Amazon's APIs; the files under ``logs/`` are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.importing.helping import imported, left, lines, of_file, table, traffic, understood
from ttc_sim.measured.importing.bodies import added, between, moment

COUNTS = ("prompt_tokens", "cached_tokens", "reasoning_tokens", "visible_tokens")


def message(number: int, given: int, output: int, stop: str | None = "end_turn", **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": given, "output_tokens": output, **more}
    content = [{"type": "text", "text": "Paris."}]
    made = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-5",
        "content": content,
    }
    return {**made, "stop_reason": stop, "stop_sequence": None, "usage": usage}


def test_messages_of_anthropic(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "anthropic/pairs.jsonl")
    found = traffic(out)
    assert (audit.read, audit.answered, audit.failed) == (3, 2, 1)
    # 12 neither read from the cache nor written to it, 2048 read and 100 written; 900 of 1024 were thought.
    assert found.filter(status="ok").select("arrival_s", *COUNTS, "latency_s", "truncated").rows() == [
        (0, 2160, 2048, 0, 80, 1.5, False),
        (2.5, 30, 0, 900, 124, 9.0, True),
    ]
    assert set(understood(audit, "cached tokens")) == {"beside the prompt tokens, added to them"}


def test_a_small_hit_is_beside_the_input_too(tmp_path: Path) -> None:
    """Nothing in the counts tells, and what the format documents does."""
    rows = [{"timestamp": "2025-11-25T10:00:00Z", "response": message(1, 500, 9, cache_read_input_tokens=100)}]
    _, out = imported(tmp_path, lines(rows))
    assert traffic(out).select(COUNTS).rows() == [(600, 100, 0, 9)]


def test_a_window_that_is_full_is_a_limit(tmp_path: Path) -> None:
    full = message(1, 5, 9, "model_context_window_exceeded")
    _, out = imported(
        tmp_path, lines([{"timestamp": 0, "response": full}, {"timestamp": 1, "response": message(2, 5, 9)}])
    )
    assert traffic(out)["truncated"].to_list() == [True, False]


def test_events_of_anthropic(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "anthropic/stream.jsonl")
    assert (audit.read, audit.answered, audit.partial) == (2, 1, 1)
    # The last count holds: 15, not the 1 of the beginning; the second stream broke off after it.
    assert traffic(out).select("arrival_s", *COUNTS, "status").rows() == [
        (0, 525, 500, 0, 15, "ok"),
        (5, 40, 0, 0, 1, "partial"),
    ]


def test_events_as_a_list_with_an_error(tmp_path: Path) -> None:
    start = {"type": "message_start", "message": message(1, 20, 1, None)}
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    rows: list[dict[str, Any]] = [
        {"timestamp": "2025-11-25T10:00:00Z", "events": [start, ended]},
        {
            "timestamp": "2025-11-25T10:00:01Z",
            "response": "".join(f"event: e\ndata: {json.dumps(one)}\n\n" for one in (start, ended)),
        },
    ]
    rows[1]["response"] = str(rows[1]["response"]).replace("msg_1", "msg_2")
    _, out = imported(tmp_path, lines(rows))
    assert traffic(out).select("prompt_tokens", "visible_tokens", "status").rows() == [(20, 7, "ok")] * 2
    audit, _ = imported(
        tmp_path, lines([{"ts": 1, "event": start}, error, {"ts": 2, "event": start}, {"ts": 2, "event": ended}])
    )
    assert (audit.read, sum(left(audit).values())) == (2, 1)  # one id: the whole one stays


def event(kind: str, number: int, at: int, **more: Any) -> dict[str, Any]:
    if kind == "message_start":
        more = {"message": message(number, 10 * number, 1, None)}
    if kind == "message_delta":
        more = {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 100 * number}}
    return {"timestamp": f"2025-11-25T10:00:0{at}Z", "event": {"type": kind, **more}}


def test_events_of_streams_that_are_mixed(tmp_path: Path) -> None:
    """Whose counts are whose nobody can tell, unless the log names the streams; those around them are not touched."""
    kinds = ("message_start", "message_delta", "message_stop")
    before, after = ([event(kind, number, at) for kind in kinds] for number, at in ((1, 0), (4, 9)))
    mixed = [event(kind, number, 2 + number) for kind in kinds for number in (2, 3)]
    audit, out = imported(tmp_path, lines([*before, *mixed, *after]))
    assert left(audit) == {"events of several streams, mixed, and nothing tells which are whose": 2}
    assert traffic(out).select("prompt_tokens", "visible_tokens").rows() == [(10, 100), (40, 400)]
    named = [{**one, "request_id": f"r{k % 2}"} for k, one in enumerate(mixed)]
    audit, out = imported(tmp_path, lines([*before, *named, *after]))
    assert traffic(out).select("prompt_tokens", "visible_tokens").rows() == [(10, 100), (20, 200), (30, 300), (40, 400)]


def test_transcripts_of_claude_code(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "anthropic/claude_code.jsonl")
    assert (audit.read, sum(left(audit).values())) == (3, 1)  # a message is written again with each of its blocks
    assert traffic(out).select(*COUNTS, "session").rows() == [(9504, 9000, 0, 210, "s-1"), (9706, 9700, 0, 90, "s-1")]
    assert traffic(out)["arrival_s"].to_list() == pytest.approx([0, 6.1])


def test_results_of_anthropics_batches(tmp_path: Path) -> None:
    results: list[Any] = [
        {"type": "succeeded", "message": message(1, 5, 9)},
        {"type": "errored", "error": {}},
        {"type": "canceled"},
    ]
    log = lines([{"custom_id": f"q{k}", "result": one} for k, one in enumerate(results)])
    audit, out = imported(tmp_path, log)  # batches have no times
    found = pl.read_parquet(out / "lengths.parquet")
    assert found.select("prompt_tokens", "visible_tokens", "status").rows() == [(5, 9, "ok"), (0, 0, "failed")]
    assert any("lengths.parquet has the requests without them" in note for note in audit.notes)


def test_gemini(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "gemini/responses.jsonl")
    found = traffic(out)
    # 12 + 65 of a tool; 12 + 65 + 71 + 89 = 237. The second thought until its limit, and has no candidates at all.
    assert found.filter(status="ok").select(*COUNTS, "truncated").rows() == [
        (77, 4, 89, 71, False),
        (20, None, 1000, 0, True),
    ]
    assert found["status"].to_list() == ["ok", "ok", "failed", "failed"]  # 429; a prompt that was blocked
    assert understood(audit, "reasoning tokens") == ["beside the output tokens, added to them"]


def test_gemini_without_totals_counts_thoughts_beside(tmp_path: Path) -> None:
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 500, "thoughtsTokenCount": 20}
    answer = {"content": {}, "finishReason": "STOP"}
    body = {"usageMetadata": usage, "createTime": "2025-11-25T10:00:00Z"}
    _, out = imported(tmp_path, lines([{**body, "candidates": [answer] * several} for several in (1, 2)]))
    assert traffic(out).select(COUNTS).rows() == [(10, None, 20, 500)]


def test_gemini_as_pythons_sdk_and_as_vertex_write_it(tmp_path: Path) -> None:
    _, out = of_file(tmp_path, "gemini/sdk.json")
    assert traffic(out).select(*COUNTS, "finish_reason").rows() == [(100, None, 300, 20, "STOP")]
    audit, out = of_file(tmp_path, "gemini/vertex_batch.jsonl")
    assert (audit.answered, audit.failed) == (1, 1)
    assert traffic(out)["arrival_s"].to_list() == [0, 3]


def test_a_stream_of_gemini(tmp_path: Path) -> None:
    pieces = [
        {"candidates": [{"content": {"parts": [{"text": "a"}]}}], "usageMetadata": {"promptTokenCount": 8, "totalTokenCount": 8}},
        {"candidates": [{"content": {"parts": [{"text": "b"}]}, "finishReason": "MAX_TOKENS"}],
         "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 4, "thoughtsTokenCount": 6, "totalTokenCount": 18}},
    ]  # fmt: skip
    _, out = imported(tmp_path, lines([{"timestamp": "2025-11-25T10:00:00Z", "chunks": pieces}]))
    assert traffic(out).select(*COUNTS, "truncated").rows() == [(8, None, 6, 4, True)]


def test_the_invocation_log_of_bedrock(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "bedrock/invocations.jsonl")
    found = traffic(out)
    assert (audit.read, audit.answered, audit.failed) == (4, 3, 1)  # embeddings are no calls
    # 12 + 2000 + 300; of the second the log leaves out what its body says was read from the cache.
    assert found.filter(status="ok").select("arrival_s", *COUNTS, "latency_s", "first_token_s", "truncated").rows() == [
        (0, 2312, 2000, 0, 90, 1.25, None, False),
        (3, 730, 700, 0, 64, 3.0, 0.6, True),
        (6, 5, None, 0, 16, None, None, True),
    ]


def test_bedrock_by_cloudwatch_and_converse(tmp_path: Path) -> None:
    _, out = of_file(tmp_path, "bedrock/cloudwatch.json")
    assert traffic(out)["prompt_tokens"].to_list() == [2312, 730]
    _, out = of_file(tmp_path, "bedrock/converse.jsonl")
    assert traffic(out).select(*COUNTS, "latency_s", "truncated").rows() == [(20, None, 0, 50, 0.8, True)]
    usage = {"inputTokens": 20, "outputTokens": 50, "totalTokens": 70, "cacheReadInputTokens": 10}
    body = {"stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}
    audit, out = imported(tmp_path, lines([{"timestamp": 0, "response": body}]))
    # A total of 70 is not that of all models: read from the cache are 10 more, as is documented.
    assert (audit.format, traffic(out).select(COUNTS).rows()) == ("bedrock", [(30, 10, 0, 50)])


def test_tables_whose_columns_hold_responses(tmp_path: Path) -> None:
    """CloudWatch's Logs Insights, Vertex's batches in BigQuery and gateways write bodies as text into columns."""
    logs = Path(__file__).parent / "logs"
    rows = [json.loads(line) for line in (logs / "bedrock" / "invocations.jsonl").read_text().splitlines()]
    audit, out = imported(tmp_path, table([{"@timestamp": "?", "@message": json.dumps(row)} for row in rows]), "a.csv")
    assert (audit.format, traffic(out)["prompt_tokens"].to_list()) == ("bedrock", [2312, 730, 0, 5])
    for name, expected in (("gemini/vertex_batch.jsonl", [30, 4]), ("openai-chat/pairs.jsonl", [120, 200, 7, 50, 90])):
        rows = [json.loads(line) for line in (logs / name).read_text().splitlines()]
        packed = [{key: json.dumps(one) if isinstance(one, dict) else one for key, one in row.items()} for row in rows]
        audit, out = imported(tmp_path, table(packed), "b.csv")
        assert (audit.format, traffic(out)["prompt_tokens"].to_list()) == (name.partition("/")[0], expected)


def test_a_log_of_bedrock_that_is_cut_off(tmp_path: Path) -> None:
    path = Path(__file__).parent / "logs" / "bedrock" / "invocations.jsonl"
    audit, out = imported(tmp_path, path.read_bytes()[:-40])
    assert left(audit) == {"the last line is cut off": 1}
    assert len(traffic(out)) == 3


def test_sums_and_times_of_anything() -> None:
    assert added(None, 3, "4") == 7
    assert added([1], 3) == [1]
    assert added(-1, 3) == -1
    assert moment("2025-11-25T10:00:00.123456789Z") == pytest.approx(1764064800.123456)
    assert moment(True) is moment({}) is moment("x" * 100) is None
    assert between("2025-11-25T10:00:01Z", "2025-11-25T10:00:00Z") is None  # a clock that went back
