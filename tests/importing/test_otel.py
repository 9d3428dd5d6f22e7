"""Traces of OpenTelemetry; the files under ``logs/`` are made up."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.importing.helping import imported, left, lines, of_file, traffic
from ttc_sim.measured.importing.nesting import Span, name_of, nesting_of

COUNTS = ("prompt_tokens", "cached_tokens", "reasoning_tokens", "visible_tokens")
NS = 1764064800 * 10**9
TWICE = "around another call that counts the same tokens"


def span(name: str, parent: str, at: float, attributes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A bare span of OTLP."""
    kinds = {int: "intValue", float: "doubleValue", str: "stringValue"}
    pairs = [{"key": key, "value": {kinds[type(value)]: value}} for key, value in attributes.items()]
    times = {"startTimeUnixNano": str(NS + int(at * 1e9)), "endTimeUnixNano": str(NS + int(at * 1e9) + 10**9)}
    return {
        "traceId": "ab" * 16,
        "spanId": name * 8,
        "parentSpanId": parent * 8,
        "name": "x",
        **times,
        "attributes": pairs,
        **more,
    }


def chat(given: int, output: int, **more: Any) -> dict[str, Any]:
    made = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    return {**made, "gen_ai.usage.input_tokens": given, "gen_ai.usage.output_tokens": output, **more}


def test_otlp(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "otel-genai/otlp.jsonl")
    alone = "an agent's span: what calls without spans of their own used together"
    assert (audit.read, audit.answered, audit.failed, left(audit)) == (4, 2, 1, {alone: 1})
    found = traffic(out)
    assert found.select(*COUNTS, "truncated", "source", "session").rows() == [
        (1200, 1024, 200, 100, False, "shop", "conv-1"),
        (90, None, 0, 64, True, "shop", None),
        (0, None, 0, 0, None, "shop", None),  # failed
    ]
    assert found["arrival_s"].to_list()[:2] == pytest.approx([0, 2.9])
    assert found["latency_s"].to_list()[:2] == [2.5, 1]
    assert found["first_token_s"].to_list()[:2] == [0.8, None]


def test_spans_of_pythons_console_exporter_traced_twice(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "otel-genai/console.jsonl")
    assert left(audit) == {TWICE: 1}
    assert traffic(out).select(*COUNTS, "model", "first_token_s", "latency_s").rows() == [
        (30, None, 0, 12, "gpt-4o-2024-08-06", 0.5, 2.0)
    ]


def test_calls_count_once_whatever_the_order_of_spans(tmp_path: Path) -> None:
    spans = [
        span(
            "a1",
            "",
            0,
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.usage.input_tokens": 70,
                "gen_ai.usage.output_tokens": 30,
            },
        ),
        span("b1", "a1", 0, {"http.method": "POST"}),
        span("c1", "b1", 0, chat(30, 10)),
        span("d1", "c1", 0, chat(30, 10)),  # the client's own span of the same call
        span("e1", "b1", 1, chat(40, 20)),
    ]
    for order in itertools.islice(itertools.permutations(spans), 0, 120, 17):
        audit, out = imported(tmp_path, lines(order))
        assert traffic(out)["visible_tokens"].to_list() == [10, 20]
        assert left(audit) == {TWICE: 1}


def test_a_call_made_within_anothers_stream_is_its_own() -> None:
    found = nesting_of([Span("1", None, True, 500), Span("2", "1", True, 40), Span("3", "2", True, 40)])
    assert found.twice == {name_of("2")}
    # A framework's span that counts nothing, of a call that failed and was asked again inside.
    found = nesting_of([Span("1", None, True, None), Span("2", "1", True, None), Span("3", "1", True, 9)])
    assert found.twice == {name_of("1")}
    # The client counts nothing of its stream, and the framework does: that is the call.
    found = nesting_of([Span("1", None, True, 9), Span("2", "1", True, None)])
    assert found.twice == frozenset()
    assert nesting_of([Span("1", "2", True, 5), Span("2", "1", True, 5)]).around  # a circle ends


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"gen_ai.usage.prompt_tokens": 9, "gen_ai.usage.completion_tokens": 4, "llm.request.type": "chat"}, (9, None, 0, 4)),
        ({"llm.token_count.prompt": 9, "llm.token_count.completion": 4, "openinference.span.kind": "LLM",
          "llm.token_count.prompt_details.cache_read": 3, "llm.token_count.completion_details.reasoning": 1}, (9, 3, 1, 3)),
        ({"gen_ai.usage.prompt_tokens": 9, "gen_ai.usage.completion_tokens": 4, "gen_ai.latency.e2e": 1.5}, (9, None, 0, 4)),
        ({"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 4, "ai.usage.cachedInputTokens": 2,
          "ai.usage.reasoningTokens": 3, "operation.name": "ai.generateText.doGenerate"}, (9, 2, 3, 1)),
        (chat(9, 4, **{"gen_ai.usage.cache_read_input_tokens": 80}), (89, 80, 0, 4)),  # not as the convention has it
        (chat(9, 4, **{"gen_ai.usage.reasoning_tokens": 7, "gen_ai.usage.total_tokens": 20}), (9, None, 7, 4)),
    ],
)  # fmt: skip
def test_names_of_other_instrumentations(tmp_path: Path, attributes: dict[str, Any], expected: tuple[Any, ...]) -> None:
    _, out = imported(tmp_path, lines([span("a1", "", 0, attributes)]))
    assert traffic(out).select(COUNTS).row(0) == expected


def test_what_is_no_call_or_failed(tmp_path: Path) -> None:
    rows = [
        span("a1", "", 0, chat(9, 4)),
        span("b1", "", 1, {**chat(9, 0), "gen_ai.operation.name": "embeddings"}),
        span("c1", "", 2, {"gen_ai.operation.name": "chat", "error.type": "CancelledError"}),
        span("d1", "", 3, {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 9}, status={"code": 2}),
        span("e1", "", 4, {"gen_ai.operation.name": "chat"}, status={"code": "STATUS_CODE_ERROR"}),
        span("f1", "", 5, chat(9, 12, **{"gen_ai.request.choice.count": 3})),
        span("a1", "", 0, chat(9, 4)),
        {
            "traceId": 1,
            "spanId": ["x"],
            "attributes": {"gen_ai.operation.name": ["chat"], "gen_ai.usage.input_tokens": {}},
        },
    ]
    audit, out = imported(tmp_path, lines(rows) + '{"traceId": "')
    assert (audit.answered, audit.failed, audit.partial) == (1, 2, 1)
    assert sum(left(audit).values()) == 4  # several answers, written twice, no count, cut off
    assert traffic(out)["status"].to_list() == ["ok", "partial", "failed", "failed"]


def test_of_a_batch_only_the_span_that_was_sent_again_is_left_out(tmp_path: Path) -> None:
    def batch(*names: str) -> dict[str, Any]:
        spans = [span(name, "", k, chat(9, int(name, 16))) for k, name in enumerate(names)]
        return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": spans}]}]}

    audit, out = imported(tmp_path, lines([batch("a1", "b2", "c3"), batch("d4", "b2", "e5")]))
    assert sum(left(audit).values()) == 1
    assert sorted(traffic(out)["visible_tokens"]) == [0xA1, 0xB2, 0xC3, 0xD4, 0xE5]
