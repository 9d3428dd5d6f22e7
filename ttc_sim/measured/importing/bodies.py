"""Responses of APIs as people log them: bare, beside their requests, packed as text, or as the pieces of a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ttc_sim.measured.importing.call import find
from ttc_sim.measured.importing.reading import Read
from ttc_sim.measured.importing.statuses import status_of
from ttc_sim.measured.importing.values import as_count, as_number

RESPONSES = ("response", "response_body", "responseBody")
REQUESTS = ("request", "request_body", "requestBody", "body", "input")
_PIECES = ("chunks", "events", "stream", *RESPONSES)
_BEGAN = (
    "timestamp", "ts", "time", "datetime", "start_time", "startTime", "started_at", "startedAt", "request_time", "requestTime",
    "requested_at", "request_timestamp", "request_created_at", "sent_at", "created_at", "createdAt",
)  # fmt: skip
_ENDED = ("end_time", "endTime", "ended_at", "finished_at", "completed_at", "response_created_at")
_SECONDS: dict[str, dict[str, float]] = {
    "first_token_s": {"first_token_s": 1, "ttft_s": 1, "time_to_first_token_s": 1, "ttft_ms": 1e-3, "first_token_ms": 1e-3,
                      "time_to_first_token_ms": 1e-3},
    "latency_s": {"latency_s": 1, "duration_s": 1, "latency_seconds": 1, "duration_seconds": 1, "e2e_latency_s": 1,
                  "latency_ms": 1e-3, "duration_ms": 1e-3, "e2e_latency_ms": 1e-3, "response_time_ms": 1e-3, "delay_ms": 1e-3},
}  # fmt: skip
_SESSION = ("session_id", "sessionId", "session", "conversation_id", "conversationId", "thread_id", "chat_id")
_SOURCE = ("source", "route", "application", "app", "service", "team", "use_case")
_OF_OTHERS = frozenset(
    {"call_type", "litellm_params", "resourceSpans", "spanId", "schemaType", "observations", "usageDetails", "usage_details",
     "parentObservationId"}
)  # fmt: skip
_SINCE_1970 = 1e8
_MOST_OPEN = 256
SEVERAL = "several answers to one prompt, whose tokens are counted together"


def as_object(value: Any) -> dict[str, Any] | None:
    """An object of JSON, also where it stands as text; ``None`` if it is none.

    >>> as_object('{"a": 1}'), as_object("a")
    ({'a': 1}, None)
    """
    found = unpacked(value)
    return found if isinstance(found, dict) else None


def unpacked(value: Any) -> Any:
    """What text stands for that is an object or a list of JSON; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def response_of(record: Any) -> dict[str, Any] | None:
    """The response in a record: what stands under ``response`` (or its ``body``), or the record itself."""
    if not isinstance(record, dict):
        return None
    for name in RESPONSES:
        if (response := as_object(record.get(name))) is not None:
            body = as_object(response.get("body"))
            return response if body is None else body
    return record


def request_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The request beside a response: what stands under ``request``, ``body`` or ``input``, or the body of it; empty if nothing
    does."""
    for name in REQUESTS:
        if (request := as_object(record.get(name))) is not None:
            body = as_object(request.get("body"))
            return request if body is None else body
    return {}


def pieces_of(record: Any) -> list[dict[str, Any]]:
    """The pieces of a stream, where a record is a list of them, holds one, or holds the stream's text; empty if it is none.

    >>> pieces_of({"response": 'data: {"id": 1}\\n\\ndata: [DONE]'})
    [{'id': 1}]
    """
    if isinstance(record, list):
        return [piece for piece in record if isinstance(piece, dict)]
    if not isinstance(record, dict):
        return []
    for name in _PIECES:
        value = record.get(name)
        if isinstance(value, str) and value.lstrip().startswith(("data:", "event:")):
            lines = (line.strip() for line in value.splitlines())
            found = (as_object(line.removeprefix("data:").strip()) for line in lines if line.startswith("data:"))
            return [piece for piece in found if piece is not None]
        value = unpacked(value)
        if isinstance(value, list):
            return [piece for piece in value if isinstance(piece, dict)]
    return []


def of_another_format(record: Any) -> bool:
    """Whether a record is a gateway's or a tracer's, which have importers of their own and may hold such responses."""
    return isinstance(record, dict) and not _OF_OTHERS.isdisjoint(record)


def began(record: Any, body: Any = None) -> Any:
    """When a call came, by the log's own words beside the response; ``None`` if it has none."""
    if not isinstance(record, dict):
        return None
    names = _BEGAN if record is not body else _BEGAN[:-2]  # of the response itself
    return next((record[name] for name in names if record.get(name) is not None), None)


def own_of(record: Any, body: Any) -> dict[str, Any]:
    """What the log itself says beside a response: seconds, session and source, as fields of a call."""
    if not isinstance(record, dict):
        return {}
    found: dict[str, Any] = {}
    for field, names in _SECONDS.items():
        for name, scale in names.items():
            if name in record and (number := as_number(record[name])) is not None:
                found[field] = number * scale
                break
    if "latency_s" not in found and record is not body:
        ended = next((record[name] for name in _ENDED if record.get(name) is not None), None)
        found["latency_s"] = between(began(record, body), ended)
    found["session"] = next((record[name] for name in _SESSION if record.get(name) is not None), None)
    source = next((record[name] for name in _SOURCE if record.get(name) is not None), None)
    found["source"] = find(request_of(record), "metadata", "source") or source
    return found


def became(record: Any, body: Mapping[str, Any]) -> str:
    """What became of a call, by its HTTP status and by errors beside the response or in it."""
    code, error = None, body.get("error")
    if isinstance(record, dict):
        inner = next((found for name in RESPONSES if (found := as_object(record.get(name))) is not None), {})
        for holder in (inner, record):
            if holder is not body:
                code = code if code is not None else holder.get("status_code", holder.get("http_status"))
                code = code if code is not None else holder.get("response_status", holder.get("status"))
            error = error or holder.get("error")
    return status_of(code, error)


def prompt_text(messages: Any) -> str | None:
    """The text of a prompt or of messages, parts of a message joined; ``None`` if there is none."""
    texts = list(_texts(unpacked(messages), 0))
    if not texts and isinstance(messages, str):
        return messages or None
    return "\n".join(texts) or None


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth < 8:
        for one in value:
            yield from _texts(one, depth + 1)
    elif isinstance(value, dict) and depth < 8:
        for name in ("text", "content", "parts"):
            if value.get(name) is not None:
                yield from _texts(value[name], depth + 1)
                return


def added(*values: Any) -> Any:
    """The sum of counts, those left out that are ``None``; ``None`` if all are, and what is no count as it is.

    >>> added(3, None, "4"), added(None), added(1, "many")
    (7, None, 'many')
    """
    given = [value for value in values if value is not None]
    counts = [as_count(value) for value in given]
    bad = next((value for value, count in zip(given, counts, strict=True) if count is None or count < 0), None)
    if bad is not None or not given:
        return bad
    return sum(count for count in counts if count is not None)


def moment(value: Any) -> float | None:
    """Seconds since 1970 of a date as text, or of a number whose size tells its unit; ``None`` of anything else.

    >>> moment("1970-01-01T00:00:01.5Z"), moment(1_700_000_000_000), moment(12)
    (1.5, 1700000000.0, None)
    """
    number = as_number(value)
    if number is not None:
        units = (number * scale for scale in (1.0, 1e-3, 1e-6, 1e-9))
        return next((seconds for seconds in units if _SINCE_1970 <= seconds < 1e11), None)
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        at = datetime.fromisoformat(value.strip().strip('"'))
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def between(first: Any, last: Any) -> float | None:
    """Seconds from one time to another; ``None`` where one of them is unknown, or the other way round.

    >>> between("2026-11-24T10:00:00Z", "2026-11-24T10:00:02.5Z")
    2.5
    """
    a, b = moment(first), moment(last)
    return round(b - a, 6) if a is not None and b is not None and b >= a else None


def merged(
    records: Read,
    name_of: Callable[[Any], str | None],
    fold: Callable[[dict[str, Any] | None, Any], dict[str, Any]],
    ended: Callable[[dict[str, Any]], bool],
    anew: Callable[[dict[str, Any], Any], bool],
) -> Read:
    """Records with the pieces of streams, which may be mixed with each other, put together into one record a stream.

    Args:
        name_of: of the stream that a record is a piece of; ``None`` passes the record on.
        fold: the stream so far (``None`` at its beginning) with one more piece.
        ended: whether nothing more belongs to it; a stream without an end is passed on at the end of the log.
        anew: whether a piece begins another stream of the same name.
    """
    streams: dict[str, dict[str, Any]] = {}
    last = 1
    for last, record in records:
        name = name_of(record)
        if name is None:
            yield last, record
            continue
        stream = streams.pop(name, None)
        if stream is not None and anew(stream, record):
            yield last, stream
            stream = None
        stream = fold(stream, record)
        if ended(stream):
            yield last, stream
            continue
        streams[name] = stream
        if len(streams) > _MOST_OPEN:
            yield last, streams.pop(next(iter(streams)))
    for stream in streams.values():
        yield last, stream
