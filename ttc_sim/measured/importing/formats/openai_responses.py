"""Logs of OpenAI's Responses API: responses, requests beside responses, events of streams, batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any

from ttc_sim.measured.importing.bodies import (
    as_object,
    became,
    began,
    merged,
    of_another_format,
    own_of,
    pieces_of,
    prompt_text,
    request_of,
    response_of,
)
from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Read, Sample

_STATUS = {
    "completed": "ok",
    "incomplete": "ok",  # answered, and cut off for the reason that stands beside it
    "failed": "failed",
    "cancelled": "partial",
}
_RUNNING = ("queued", "in_progress")


class OpenAIResponses(Importer):
    """An object a call: a ``response``, or one under ``response`` (or ``response.body`` as the Batch API has it).

    Events of a stream are put together: the last one holds the whole response.
    """

    title = "OpenAI Responses log"
    origin = "https://platform.openai.com/docs/api-reference/responses/object and .../responses-streaming"
    arrays = ("data", "responses")
    reasoning = "inside"
    cached = "inside"

    def recognises(self, sample: Sample) -> int:
        return max((_marks(record) for record in sample.records), default=0)

    def unit(self, sample: Sample) -> str | None:
        own = any(began(record, response_of(record)) is not None for record in sample.records)
        return None if own else "s"

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        return merged(super().read(file, at, head), _stream, _with_event, lambda one: one["ended"], lambda *_: False)

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        events = [event for event in pieces_of(record) if _event(event) is not None]
        streamed = reduce(_with_event, events, None) if events else record if _is_stream(record) else None
        body = streamed["response"] if streamed is not None else response_of(record)
        if body is None:
            return
        request = request_of(record) if isinstance(record, dict) else {}
        status = became(None if streamed is not None else record, body)
        if body.get("object") != "response":
            asked = request or (record if isinstance(record, dict) else {})
            if status != "ok":
                key = record.get("custom_id") if isinstance(record, dict) else None
                asked_at = began(record, body)
                yield Call(key=key, status=status, at=asked_at, model=request.get("model"), **own_of(record, body))
            elif asked is not body and prompt_text(asked.get("input") or asked.get("messages")) is not None:
                yield Call(left_out="a request without its response")
            return
        said = body.get("status")
        if status == "ok" and isinstance(said, str):
            if said in _RUNNING and streamed is None:
                yield Call(left_out="not finished when it was logged")
                return
            status = "partial" if said in _RUNNING else _STATUS.get(said, "ok")
        usage = as_object(body.get("usage")) or {}
        own = began(record, body) if streamed is None else streamed.get("timestamp")
        found = own_of(record, body)
        talk = body.get("conversation")
        yield Call(
            key=body.get("id"),
            at=own if own is not None else body.get("created_at"),
            model=body.get("model") or request.get("model"),
            prompt=find(usage, "input_tokens"),
            cached=find(usage, "input_tokens_details", "cached_tokens"),
            cache_write=find(usage, "input_tokens_details", "cache_write_tokens"),
            output=find(usage, "output_tokens"),
            reasoning=find(usage, "output_tokens_details", "reasoning_tokens"),
            total=find(usage, "total_tokens"),
            status=status,
            reason=find(body, "incomplete_details", "reason") or said,
            text=_asked(body, request),
            session=found.pop("session", None) or (talk.get("id") if isinstance(talk, dict) else talk),
            **found,
        )


def _marks(record: Any) -> int:
    if any(_event(piece) is not None for piece in (pieces_of(record) or [record])):
        return 5
    body = response_of(record)
    if body is None or body.get("object") != "response" or of_another_format(record):
        return 0
    return 3 + isinstance(body.get("output"), list) + (find(body, "usage", "output_tokens") is not None)


def _event(record: Any) -> dict[str, Any] | None:
    """The event of a stream in a record, bare or under ``data`` or ``event``."""
    if isinstance(record, dict):
        for held in (record, record.get("data"), record.get("event")):
            event = as_object(held)
            if event is not None and isinstance(event.get("type"), str) and event["type"].startswith("response."):
                return event
    return None


def _is_stream(record: Any) -> bool:
    return isinstance(record, dict) and isinstance(record.get("response"), dict) and "ended" in record


def _stream(record: Any) -> str | None:
    """Events within a response name none: only those that hold it count."""
    name = find(_event(record) or {}, "response", "id")
    return None if name is None else str(name)[:256]


def _with_event(stream: dict[str, Any] | None, record: Any) -> dict[str, Any]:
    event = _event(record) or {}
    made = stream or {"response": {}, "ended": False, "timestamp": began(record, event)}
    response = event.get("response")
    if isinstance(response, dict):
        made["response"] = response
        made["ended"] = response.get("status") not in _RUNNING
    return made


def _asked(body: Mapping[str, Any], request: Mapping[str, Any]) -> str | None:
    asked = [holder.get("input") for holder in (request, body) if holder.get("input") is not None]
    told = request.get("instructions") or body.get("instructions")
    return prompt_text([*([told] if isinstance(told, str) else []), asked[0]]) if asked else None
