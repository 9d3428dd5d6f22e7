"""Logs of Amazon Bedrock: its model invocation log (S3 or CloudWatch), responses of Converse, and batches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from functools import reduce
from typing import Any

from ttc_sim.measured.importing.bodies import (
    as_object,
    became,
    began,
    of_another_format,
    own_of,
    prompt_text,
    request_of,
    response_of,
    unpacked,
)
from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.formats.anthropic import with_event
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.values import as_number

_SCHEMA = "ModelInvocationLog"
_NO_TEXT = re.compile(r"embed|rerank|image|canvas|nova-reel|stability|sonic", re.IGNORECASE)
_OPERATIONS = ("Converse", "InvokeModel")


class Bedrock(Importer):
    """A record of the invocation log a call; ``inputTokenCount`` does not hold the tokens of the cache, which stand beside it.

    CloudWatch packs records as text into ``message``. Of a body that is Anthropic's, what the log itself leaves out is taken.
    ``totalTokens`` is not: models differ in whether it holds the tokens of the cache.
    """

    title = "Amazon Bedrock log"
    origin = (
        "https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html, .../prompt-caching.html and "
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html"
    )
    arrays = ("events", "Records", "records", "logEvents")
    reasoning = "inside"
    cached = "outside"

    def recognises(self, sample: Sample) -> int:
        return max((_marks(record) for record in sample.records), default=0)

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        inner = _inner(record)
        if inner is None:
            return
        if _is_logged(inner):
            yield from _logged(inner)
        elif "modelOutput" in inner or ("recordId" in inner and inner.get("error")):
            body, asked = as_object(inner.get("modelOutput")) or {}, as_object(inner.get("modelInput")) or {}
            yield Call(
                key=inner.get("recordId"),
                status="failed" if inner.get("error") else "ok",
                text=prompt_text(asked.get("messages") or asked.get("prompt")),
                **_of_body(body),
            )
        else:
            yield from _converse(inner)


def _is_logged(record: Mapping[str, Any]) -> bool:
    operation = record.get("operation")
    named = isinstance(operation, str) and operation.startswith(_OPERATIONS) and "modelId" in record
    return named or record.get("schemaType") == _SCHEMA


def _logged(record: Mapping[str, Any]) -> Iterable[Call]:
    put, out = as_object(record.get("input")) or {}, as_object(record.get("output")) or {}
    status = "failed" if record.get("errorCode") or record.get("error") else "ok"
    model = record.get("modelId")
    if out.get("outputTokenCount") is None and status == "ok" and isinstance(model, str) and _NO_TEXT.search(model):
        return
    body, asked = _answered(out.get("outputBodyJson")), as_object(put.get("inputBodyJson")) or {}
    if status == "ok" and body.get("type") == "message" and "stop_reason" in body and body["stop_reason"] is None:
        status = "partial"
    found = _of_body(body)
    for field, holder, name in (
        ("prompt", put, "inputTokenCount"),
        ("cached", put, "cacheReadInputTokenCount"),
        ("cache_write", put, "cacheWriteInputTokenCount"),
        ("output", out, "outputTokenCount"),
    ):
        if holder.get(name) is not None:
            found[field] = holder[name]
    yield Call(
        key=record.get("requestId"),
        at=record.get("timestamp"),
        model=model,
        source=find(record, "requestMetadata", "source") or find(asked, "requestMetadata", "source"),
        status=status,
        text=prompt_text(asked.get("messages") or asked.get("prompt") or asked.get("inputText")),
        **found,
    )


def _converse(record: Mapping[str, Any]) -> Iterable[Call]:
    body = response_of(record) or {}
    request, status = request_of(record), became(record, body)
    if not _is_converse(body):
        if status != "ok":
            yield Call(status=status, at=began(record, body), model=request.get("modelId"), **own_of(record, body))
        return
    meta = as_object(body.get("ResponseMetadata")) or {}
    own = began(record, body)
    said = own_of(record, body)
    found = _of_body(body)
    found |= {name: value for name, value in said.items() if value is not None}
    yield Call(
        key=meta.get("RequestId"),
        at=own if own is not None else _date(find(meta, "HTTPHeaders", "date")),
        model=request.get("modelId") or record.get("modelId"),
        status=status,
        text=prompt_text(request.get("messages")),
        **found,
    )


def _marks(record: Any) -> int:
    inner = _inner(record)
    if inner is None:
        return 0
    if _is_logged(inner):
        return 6
    if of_another_format(inner):
        return 0
    if "modelInput" in inner and "recordId" in inner:
        return 4
    return 3 + ("ResponseMetadata" in inner) if _is_converse(response_of(inner) or {}) else 0


def _is_converse(body: Mapping[str, Any]) -> bool:
    return find(body, "usage", "inputTokens") is not None and ("stopReason" in body or "metrics" in body)


def _inner(record: Any) -> dict[str, Any] | None:
    """The record itself, or what CloudWatch packed."""
    if not isinstance(record, dict):
        return None
    for name in ("message", "@message"):
        packed = as_object(record.get(name))
        if packed is not None and ("schemaType" in packed or "modelId" in packed):
            return packed
    return record


def _answered(body: Any) -> dict[str, Any]:
    """The body of an answer; of a stream, whose body is the list of its events, what they come to."""
    body = unpacked(body)
    if not isinstance(body, list):
        return body if isinstance(body, dict) else {}
    events = [event for event in body if isinstance(event, dict)]
    if any(event.get("type") == "message_start" for event in events):
        return reduce(with_event, events, None) or {}
    made: dict[str, Any] = {}
    for event in events:  # of Converse, and of models that repeat their fields in each chunk
        for value in (event, event.get("metadata"), event.get("messageStop")):
            if isinstance(value, dict):
                made |= {name: one for name, one in value.items() if one is not None}
    return made


def _of_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Counts, reason and seconds in the body of an answer, as Converse, Anthropic's, Meta's and Amazon's models have them."""
    usage, metrics = as_object(body.get("usage")) or {}, as_object(body.get("metrics")) or {}
    marks = as_object(body.get("amazon-bedrock-invocationMetrics")) or metrics
    first = body.get("results") or body.get("outputs")
    result = first[0] if isinstance(first, list) and first and isinstance(first[0], dict) else {}
    latency, byte = (
        as_number(marks.get("latencyMs", marks.get("invocationLatency"))),
        as_number(marks.get("firstByteLatency")),
    )
    return {
        "prompt": _first(usage, "inputTokens", "input_tokens") if usage else body.get("prompt_token_count"),
        "cached": _first(usage, "cacheReadInputTokens", "cacheReadInputTokenCount", "cache_read_input_tokens"),
        "cache_write": _first(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount", "cache_creation_input_tokens"),
        "output": _first(usage, "outputTokens", "output_tokens") if usage else body.get("generation_token_count"),
        "reasoning": find(usage, "output_tokens_details", "thinking_tokens"),
        "reason": _first(body, "stopReason", "stop_reason", "finish_reason") or _first(result, "stop_reason", "completionReason"),
        "latency_s": None if latency is None else latency / 1000,
        "first_token_s": None if byte is None else byte / 1000,
    }  # fmt: skip


def _first(holder: Mapping[str, Any], *names: str) -> Any:
    return next((holder[name] for name in names if holder.get(name) is not None), None)


def _date(value: Any) -> float | None:
    """Seconds since 1970 of a date in an HTTP header."""
    try:
        return parsedate_to_datetime(value).timestamp() if isinstance(value, str) and len(value) < 64 else None
    except (ValueError, TypeError, OverflowError):
        return None
