"""Logs of Anthropic's Messages API: messages, requests beside messages, events of streams, batches, Claude Code's transcripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from ttc_sim.measured.importing.bodies import (
    as_object,
    became,
    began,
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
from ttc_sim.measured.importing.reading import Left, Read, Sample

_EVENTS = frozenset(
    {"message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta", "content_block_stop", "ping"}
)  # fmt: skip
_NAMED = ("request_id", "requestId", "stream_id", "call_id", "message_id", "id")
_BATCHED = ("succeeded", "errored", "canceled", "expired")


class Anthropic(Importer):
    """An object a call: a ``message``, or one under ``response``, ``message`` (Claude Code) or ``result`` (batches).

    ``input_tokens`` are those that were neither read from the cache nor written to it; thinking is a part of ``output_tokens``.
    Events of a stream, a line each or as a list, are put together.
    """

    title = "Anthropic messages log"
    origin = (
        "https://docs.anthropic.com/en/api/messages, .../messages-streaming, .../retrieving-message-batch-results and "
        ".../build-with-claude/prompt-caching"
    )
    arrays = ("data", "responses")
    reasoning = "inside"
    cached = "outside"

    def recognises(self, sample: Sample) -> int:
        return max((_marks(record) for record in sample.records), default=0)

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        return _joined(super().read(file, at, head))

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        events = [event for piece in pieces_of(record) if (event := _event(piece)) is not None]
        body = reduce(with_event, events, None) if events else _message(record)
        if body is None:
            return
        if body.get("mixed") is True:
            yield Call(left_out="events of several streams, mixed, and nothing tells which are whose")
            return
        request = request_of(record) if isinstance(record, dict) else {}
        batched = find(record, "result", "type") if isinstance(record, dict) else None
        if batched == "canceled":
            yield Call(left_out="a request of a batch that was canceled before it was sent to the model")
            return
        status = "failed" if batched in ("errored", "expired") else became(record, body)
        if body.get("type") == "error" or (isinstance(record, dict) and record.get("isApiErrorMessage") is True):
            status = "failed"
        if body.get("type") != "message" and status == "ok":
            if prompt_text(request.get("messages")) is not None:
                yield Call(left_out="a request without its response")
            return
        if status == "ok" and "stop_reason" in body and body["stop_reason"] is None:
            status = "partial"
        usage, own = as_object(body.get("usage")) or {}, began(record, body)
        yield Call(
            key=body.get("id") or find(record, "custom_id"),
            at=own if own is not None else body.get("timestamp"),
            model=body.get("model") or request.get("model"),
            prompt=find(usage, "input_tokens"),
            cached=find(usage, "cache_read_input_tokens"),
            cache_write=find(usage, "cache_creation_input_tokens"),
            output=find(usage, "output_tokens"),
            reasoning=find(usage, "output_tokens_details", "thinking_tokens"),
            status=status,
            reason=body.get("stop_reason"),
            truncated=True if body.get("stop_reason") == "model_context_window_exceeded" else None,
            text=_asked(request),
            **own_of(record, body),
        )


def _marks(record: Any) -> int:
    if any(_event(piece) is not None for piece in (pieces_of(record) or [record])):
        return 4
    if not isinstance(record, dict) or of_another_format(record):
        return 0
    if find(record, "result", "type") in _BATCHED and "custom_id" in record:
        return 5
    body = _message(record) or {}
    if body.get("type") != "message":
        return 0
    return 2 + ("stop_reason" in body) + 2 * (find(body, "usage", "input_tokens") is not None)


def _message(record: Any) -> dict[str, Any] | None:
    """The message in a record, wherever it stands."""
    if not isinstance(record, dict):
        return None
    for held in (find(record, "result", "message"), record.get("message")):
        if isinstance(held, dict) and held.get("type") == "message":
            return held
    return response_of(record)


def _event(record: Any) -> dict[str, Any] | None:
    """The event of a stream in a record, bare or under ``data`` or ``event``; with the time that stands beside it."""
    if not isinstance(record, dict):
        return None
    for held in (record, record.get("data"), record.get("event")):
        event = as_object(held)
        kind = None if event is None else event.get("type")
        if event is not None and (isinstance(kind, str) and kind in _EVENTS):
            return event if event is record else {**event, "timestamp": began(record, event)}
    return None


def with_event(message: dict[str, Any] | None, event: Mapping[str, Any]) -> dict[str, Any]:
    """A message as far as it has come, with one more event of its stream."""
    made = message or {"type": "message", "stop_reason": None, "usage": {}, "timestamp": event.get("timestamp")}
    start = event.get("message")
    if isinstance(start, dict):
        made |= {name: start.get(name) for name in ("id", "model")}
    for usage in (find(start, "usage") if isinstance(start, dict) else None, event.get("usage")):
        if isinstance(usage, dict):
            made["usage"] |= {name: count for name, count in usage.items() if count is not None}
    made["stop_reason"] = find(event, "delta", "stop_reason") or made["stop_reason"]
    made["error"] = event.get("error") or made.get("error")
    if event.get("type") == "message_stop" and isinstance(event.get("amazon-bedrock-invocationMetrics"), dict):
        made["metrics"] = event["amazon-bedrock-invocationMetrics"]
    return made


@dataclass
class _Stream:
    """Events that follow each other: the message they are making, and those that may be mixed with it."""

    open: dict[str, Any] | None = None
    held: list[dict[str, Any]] = field(default_factory=list)

    def settled(self) -> list[dict[str, Any]]:
        """Messages that nothing more belongs to."""
        made, self.held = self.held, []
        return made

    def take(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """One more event; the messages that are whole by it."""
        kind, done = event["type"], []
        if kind == "message_start":
            done = self.settled()
            if self.open is not None:  # broke off, or is mixed with this one: what comes after them tells
                self.held.append(self.open)
            self.open = with_event(None, event)
        elif self.open is not None:
            self.open = with_event(self.open, event)
            if kind == "message_stop":
                self.held.append(self.open)
                self.open = None
                done = self.settled() if len(self.held) == 1 else []
        elif kind in ("message_delta", "message_stop"):
            for message in self.held:
                message["mixed"] = True
        return done


def _joined(records: Read) -> Read:
    """Records with the events of a stream as one message. Events do not name theirs: where the log names none either, those of
    one follow each other, or none of them is used."""
    streams: dict[str, _Stream] = {}
    last = 1
    for last, record in records:
        event = None if isinstance(record, Left) else _event(record)
        failed = isinstance(record, dict) and record.get("type") == "error" and len(streams) == 1
        if event is None and failed and (open_one := next(iter(streams.values())).open) is not None:
            open_one["error"] = record.get("error") or True
        elif event is None:
            yield last, record
        else:
            named = next((record[name] for name in _NAMED if record is not event and record.get(name)), "")
            stream = streams.setdefault(str(named)[:128], _Stream())
            for message in stream.take(event):
                yield last, message
            if named and stream.open is None and not stream.held:
                del streams[str(named)[:128]]
    for stream in streams.values():
        for message in [*stream.settled(), *([stream.open] if stream.open is not None else [])]:
            yield last, message


def _asked(request: Mapping[str, Any]) -> str | None:
    if (text := prompt_text(request.get("messages") or request.get("prompt"))) is None:
        return None
    told = prompt_text(request.get("system"))
    return text if told is None else f"{told}\n{text}"
