"""OpenTelemetry traces of calls of models: OTLP as JSON, spans a line each, or what Python's console exporter writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ttc_sim.measured.importing.bodies import SEVERAL, as_object, between, prompt_text, unpacked
from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.nesting import COUNTED_INSIDE, Nesting, Span, name_of, nesting_of
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Read, Sample
from ttc_sim.measured.importing.values import as_count, as_number

_PROMPT = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.usage.prompt_tokens",
    "llm.token_count.prompt",
)
_OUTPUT = (
    "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens", "llm.token_count.completion",
)  # fmt: skip
_CACHED = (
    "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens", "gen_ai.usage.input_tokens.cached",
    "gen_ai.usage.details.cache_read_tokens", "gen_ai.usage.details.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read", "ai.usage.cachedInputTokens",
)  # fmt: skip
_WRITTEN = (
    "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.input_tokens.cache_write", "gen_ai.usage.details.cache_write_tokens",
    "gen_ai.usage.details.cache_creation_input_tokens", "llm.token_count.prompt_details.cache_write",
)  # fmt: skip
_REASONING = (
    "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens", "gen_ai.usage.output_tokens.reasoning",
    "gen_ai.usage.details.reasoning_tokens", "gen_ai.usage.details.thoughts_tokens", "llm.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning", "ai.usage.reasoningTokens",
)  # fmt: skip
_TOTAL = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total")
_REASON = (
    "gen_ai.response.finish_reasons", "gen_ai.response.finish_reason", "gen_ai.response.stop_reason",
    "gen_ai.completion.0.finish_reason", "llm.response.finish_reason", "llm.response.stop_reason", "ai.response.finishReason",
)  # fmt: skip
_FIRST = (
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.latency.time_to_first_token",
    "gen_ai.server.time_to_first_token",
)
_MODEL = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
_SESSION = ("gen_ai.conversation.id", "session.id")
_COUNT = ("gen_ai.request.choice.count", "gen_ai.request.n")
_CHAT = frozenset({"chat", "text_completion", "generate_content", "completion", "llm"})
_NO_CALL = frozenset(
    {"embeddings", "embedding", "execute_tool", "create_agent", "retrieval", "rerank", "tool", "chain", "retriever", "evaluator",
     "guardrail", "reranker", "workflow", "task", "prompt"}
)  # fmt: skip
_KINDS = ("gen_ai.operation.name", "llm.request.type", "traceloop.span.kind", "openinference.span.kind")
_CHUNK_EVENTS = ("llm.content.completion.chunk", "gen_ai.content.completion.chunk", "ai.stream.firstChunk")
_NESTING = "nesting"
_SCALARS = ("stringValue", "intValue", "doubleValue", "boolValue")
_NS = 1e9


class OtelGenAI(Importer):
    """A span of ``chat``, ``text_completion`` or ``generate_content`` a call. Spans of agents sum up their calls and are none; of
    calls that are traced twice (a framework's span around its client's, of as many tokens) the inner one counts.

    Cached tokens are a part of the input, and reasoning one of the output, says the convention; not all that write it hold to it.
    """

    title = "OpenTelemetry GenAI spans"
    origin = (
        "https://github.com/open-telemetry/semantic-conventions (docs/gen-ai/gen-ai-spans.md), "
        "https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding"
    )
    arrays = ("resourceSpans", "resource_spans", "batches", "spans", "data")
    reasoning = "inside"
    cached = "inside"
    time_unit = "ns"

    def recognises(self, sample: Sample) -> int:
        if sample.kind != "json":
            return 0
        return 8 if any(_kind(one) for record in sample.records for one, _ in _spans(record)) else 0

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        first = (record for _, record in super().read(file, lambda seen: at(seen // 2), {}))
        spans = (one for record in first for one, _ in _spans(record))
        head[_NESTING] = nesting_of(
            Span(one["id"], one["parent"], _kind(one) == "call", as_count(_first(one, _OUTPUT))) for one in spans
        )
        yield from super().read(file, lambda seen: at(file.size // 2 + seen // 2), head)

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        nesting: Nesting = head.get(_NESTING) or Nesting()
        for span, source in _spans(record):
            kind = _kind(span)
            if kind is None or (kind == "agent" and name_of(span["id"]) in nesting.around):
                continue
            if name_of(span["id"]) in nesting.twice:
                yield Call(left_out=COUNTED_INSIDE)
                continue
            if kind == "agent":
                yield Call(left_out="an agent's span: what calls without spans of their own used together")
                continue
            if (as_count(_first(span, _COUNT)) or 1) > 1:
                yield Call(left_out=SEVERAL)
                continue
            reason = unpacked(_first(span, _REASON))
            yield Call(
                key=f"{span['trace']}/{span['id']}",
                at=span["began"],
                source=source,
                model=_first(span, _MODEL),
                session=_first(span, _SESSION),
                prompt=_first(span, _PROMPT),
                cached=_first(span, _CACHED),
                cache_write=_first(span, _WRITTEN),
                output=_first(span, _OUTPUT),
                reasoning=_first(span, _REASONING),
                total=_first(span, _TOTAL),
                status=_status(span),
                reason=(reason[0] if reason else None) if isinstance(reason, (list, tuple)) else reason,
                first_token_s=_first_token(span),
                latency_s=_seconds(span["began"], span["ended"]),
                text=_asked(span["attributes"]),
            )


def _spans(record: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """The spans in a record in one form, each with the name of the service that sent it."""
    if not isinstance(record, dict):
        return
    whole = next((record[name] for name in ("resourceSpans", "resource_spans", "batches") if name in record), None)
    for resource in whole if isinstance(whole, list) else [record]:
        if not isinstance(resource, dict):
            continue
        scopes = next(
            (
                resource[name]
                for name in ("scopeSpans", "scope_spans", "instrumentationLibrarySpans")
                if name in resource
            ),
            None,
        )
        service = _attributes(find(resource, "resource", "attributes")).get("service.name")
        if not isinstance(scopes, list):
            if (made := _span(resource)) is not None:
                yield made, service
            continue
        for scope in scopes:
            spans = scope.get("spans") if isinstance(scope, dict) else None
            for one in spans if isinstance(spans, list) else ():
                if (made := _span(one)) is not None:
                    yield made, service


def _span(one: Any) -> dict[str, Any] | None:
    """A span of OTLP, or of Python's console exporter, in one form; ``None`` if it is none."""
    if not isinstance(one, dict) or "attributes" not in one:
        return None
    context = as_object(one.get("context")) or one
    name = _either(context, "spanId", "span_id")
    if name is None:
        return None
    return {
        "id": name,
        "trace": _either(context, "traceId", "trace_id"),
        "parent": next((one[key] for key in ("parentSpanId", "parent_span_id", "parent_id") if one.get(key)), None),
        "began": next(
            (one[key] for key in ("startTimeUnixNano", "start_time_unix_nano", "start_time") if one.get(key)), None
        ),
        "ended": next(
            (one[key] for key in ("endTimeUnixNano", "end_time_unix_nano", "end_time") if one.get(key)), None
        ),
        "status": one.get("status"),
        "events": one.get("events"),
        "attributes": _attributes(one.get("attributes")),
    }


def _attributes(given: Any) -> dict[str, Any]:
    """Attributes by name: as they are, or as OTLP has them, a list of keys and typed values."""
    given = unpacked(given)
    if isinstance(given, dict):
        return given
    pairs = given if isinstance(given, list) else ()
    return {str(one.get("key")): _value(one.get("value")) for one in pairs if isinstance(one, dict)}


def _value(typed: Any) -> Any:
    if not isinstance(typed, dict):
        return typed
    for kind, value in typed.items():
        if kind in _SCALARS:
            return value
        if kind == "arrayValue":
            values = value.get("values") if isinstance(value, dict) else None
            return [_value(one) for one in values] if isinstance(values, list) else None
    return None


def _kind(span: Mapping[str, Any]) -> str | None:
    """``call`` of a model, ``agent``, whose span sums up its calls, or ``None`` of anything else."""
    attributes = span["attributes"]
    said = [str(attributes[name]).lower() for name in _KINDS if attributes.get(name) is not None]
    if any(one in _CHAT for one in said):
        return "call"
    counted = _first(span, _PROMPT) is not None or _first(span, _OUTPUT) is not None
    if not counted or any(one in _NO_CALL for one in said):
        return None
    return "agent" if any("agent" in one or "workflow" in one for one in said) else "call"


def _first(span: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((span["attributes"][name] for name in names if span["attributes"].get(name) is not None), None)


def _either(holder: Mapping[str, Any], *names: str) -> Any:
    return next((holder[name] for name in names if holder.get(name) is not None), None)


def _status(span: Mapping[str, Any]) -> str:
    status = span["status"]
    code = _either(status, "code", "status_code") if isinstance(status, dict) else status
    kind = str(span["attributes"].get("error.type") or "")
    if "cancel" in kind.lower():
        return "partial"
    return "failed" if kind or str(code).rpartition(".")[2] in ("2", "ERROR", "STATUS_CODE_ERROR") else "ok"


def _seconds(first: Any, last: Any) -> float | None:
    """From one time to another: nanoseconds since 1970 as whole numbers or text, or dates."""
    a, b = as_count(first), as_count(last)
    if a is None or b is None:
        return between(first, last)
    return (b - a) / _NS if 0 <= b - a < 1e18 else None


def _first_token(span: Mapping[str, Any]) -> float | None:
    if (said := as_number(_first(span, _FIRST))) is not None:
        return said
    if (said := as_number(span["attributes"].get("ai.response.msToFirstChunk"))) is not None:
        return said / 1000
    events = span["events"]
    for event in events if isinstance(events, list) else ():
        if isinstance(event, dict) and event.get("name") in _CHUNK_EVENTS:
            return _seconds(span["began"], _either(event, "timeUnixNano", "time_unix_nano", "timestamp"))
    return None


def _asked(attributes: Mapping[str, Any]) -> str | None:
    messages = attributes.get("gen_ai.input.messages") or attributes.get("gen_ai.prompt")
    if messages is not None:
        return prompt_text(messages)
    texts: list[Any] = []
    while isinstance(text := attributes.get(f"gen_ai.prompt.{len(texts)}.content"), str):
        texts.append(text)
    return prompt_text(texts)
