"""Logs of OpenAI's chat completions, and of servers that speak like it: responses, requests beside responses, streams, batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any

from ttc_sim.measured.importing.bodies import (
    REQUESTS,
    SEVERAL,
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
    unpacked,
)
from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Read, Sample

__all__ = ["OpenAIChat", "prompt_text"]

_OBJECTS = ("chat.completion", "text_completion")
_CHUNK = "chat.completion.chunk"
_BROKEN = ("abort", "insufficient_system_resource", "cancelled")
_CACHED = (
    ("prompt_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),  # DeepSeek
    ("cached_tokens",),  # Moonshot, Together
    ("cache_read_input_tokens",),  # LiteLLM, where the model is Anthropic's
)
_WRITTEN = (("prompt_tokens_details", "cache_write_tokens"), ("cache_creation_input_tokens",))
_REASONING = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("reasoning_tokens",),
)  # the second: SGLang, Perplexity
_TEXT = "text of a stream"


class OpenAIChat(Importer):
    """An object a call: a ``chat.completion`` or ``text_completion``, or one under ``response`` (or ``response.body`` as the Batch
    API has it). Chunks of a stream, a line each or as a list, are put together.

    xAI counts reasoning beside ``completion_tokens``: its totals say so.
    """

    title = "OpenAI chat completions log"
    origin = (
        "https://platform.openai.com/docs/api-reference/chat/object, .../chat/streaming and .../batch/request-output"
    )
    arrays = ("data", "responses", "completions")
    reasoning = "inside"
    cached = "inside"

    def recognises(self, sample: Sample) -> int:
        if any(_of_responses(record) for record in sample.records):
            return 0
        marks = max((_marks(record) for record in sample.records), default=0)
        return marks if marks >= 2 else 0

    def unit(self, sample: Sample) -> str | None:
        # ``created`` is in seconds; times that the log has beside the response are in whatever it likes.
        own = any(began(record, response_of(record)) is not None for record in sample.records)
        return None if own else "s"

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        return merged(super().read(file, at, head), _stream, _with_chunk, lambda one: one["ended"], _anew)

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        chunks = [chunk for piece in pieces_of(record) if (chunk := _chunk(piece)) is not None]
        body = reduce(_with_chunk, chunks, None) if chunks else response_of(record)
        if body is None:
            return
        request = request_of(record) if isinstance(record, dict) else {}
        choices, usage, status = _choices(body), as_object(body.get("usage")), became(record, body)
        if not choices and usage is None and status == "ok":
            if prompt_text(request.get("messages") or request.get("prompt")) is not None:
                yield Call(left_out="a request without its response")
            return
        if not choices and status == "ok" and body.get("object") not in _OBJECTS:
            return  # embeddings and the like
        if len(choices) > 1:
            yield Call(left_out=SEVERAL)
            return
        choice = choices[0] if choices else {}
        usage = usage or {}
        own = began(record, body)
        yield Call(
            key=body.get("id") or (record.get("custom_id") if isinstance(record, dict) else None),
            at=own if own is not None else body.get("timestamp") or body.get("created"),
            model=body.get("model") or request.get("model"),
            prompt=usage.get("prompt_tokens"),
            cached=_first(usage, _CACHED),
            cache_write=_first(usage, _WRITTEN),
            output=usage.get("completion_tokens"),
            reasoning=_first(usage, _REASONING),
            total=usage.get("total_tokens"),
            status=_ended(choice, status),
            reason=choice.get("finish_reason"),
            text=_asked(record, request),
            answer_text=_answered(choice, body) if usage.get("completion_tokens") is None else None,
            **own_of(record, body),
        )


def _marks(record: Any) -> int:
    if any(_chunk(piece) is not None for piece in (pieces_of(record) or [record])):
        return 4
    body = response_of(record)
    if body is None or of_another_format(record):
        return 0
    named, choices = body.get("object") in _OBJECTS, bool(_choices(body))
    if named or choices:
        counted = "completion_tokens" in (as_object(body.get("usage")) or {})
        return 2 * named + choices + counted + ("custom_id" in record)
    failed = str(record.get("id")).startswith("batch_req_") and body.get("object") is None
    return 3 * failed


def _of_responses(record: Any) -> bool:
    """Whether it is of the Responses API, whose batches have the same envelope."""
    return (response_of(record) or {}).get("object") == "response"


def _chunk(record: Any) -> dict[str, Any] | None:
    if isinstance(record, dict):
        for piece in (record, record.get("data"), record.get("chunk")):
            if isinstance(piece, dict) and piece.get("object") == _CHUNK:
                return piece
    return None


def _choices(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = unpacked(body.get("choices"))
    if not isinstance(choices, list):
        return []
    marks = {"message", "text", "delta", "finish_reason"}
    return [one for one in choices if isinstance(one, dict) and not marks.isdisjoint(one)]


def _first(usage: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> Any:
    return next((found for path in paths if (found := find(usage, *path)) is not None), None)


def _ended(choice: Mapping[str, Any], status: str) -> str:
    reason = choice.get("finish_reason")
    if status != "ok":
        return status
    if choice.get("error") or reason == "error":
        return "failed"
    cut = reason in _BROKEN if isinstance(reason, str) else "finish_reason" in choice
    return "partial" if cut else "ok"


def _asked(record: Any, request: Mapping[str, Any]) -> str | None:
    here = record if isinstance(record, dict) and not any(name in record for name in REQUESTS) else {}
    for holder in (request, here):
        if (text := prompt_text(holder.get("messages") or holder.get("prompt"))) is not None:
            return text
    return None


def _answered(choice: Mapping[str, Any], body: Mapping[str, Any]) -> str | None:
    if isinstance(body.get(_TEXT), list):
        return "".join(one for one in body[_TEXT] if isinstance(one, str)) or None
    message = choice.get("message")
    if not isinstance(message, dict):
        return choice["text"] if isinstance(choice.get("text"), str) else None
    thought = message.get("reasoning_content") or message.get("reasoning")
    return prompt_text([one for one in (thought, message.get("content")) if one is not None])


def _stream(record: Any) -> str | None:
    chunk = _chunk(record)
    return None if chunk is None else str(chunk.get("id"))[:256]


def _anew(stream: Mapping[str, Any], record: Any) -> bool:
    """Whether a finished stream is followed by another one with the same id."""
    finished = any(one.get("finish_reason") is not None for one in stream["choices"])
    return finished and any(find(one, "delta", "role") for one in _choices(_chunk(record) or {}))


def _with_chunk(stream: dict[str, Any] | None, record: Any) -> dict[str, Any]:
    chunk = _chunk(record) or {}
    made = stream or {
        "object": _OBJECTS[0],
        "choices": [],
        _TEXT: [],
        "ended": False,
        "timestamp": began(record, chunk),
    }
    for name in ("id", "created", "model", "error"):
        made[name] = made.get(name) or chunk.get(name)
    here = _choices(chunk)
    for one in here:
        index = one.get("index", 0)
        kept = next((other for other in made["choices"] if other["index"] == index), None)
        if kept is None:
            kept = {"index": index, "finish_reason": None}
            made["choices"].append(kept)
        kept["finish_reason"] = one.get("finish_reason") or kept["finish_reason"]
        kept["error"] = one.get("error") or kept.get("error")
        delta = one.get("delta")
        for name in ("content", "reasoning_content", "reasoning"):
            if isinstance(delta, dict) and isinstance(delta.get(name), str):
                made[_TEXT].append(delta[name])
    usage = chunk.get("usage") or find(chunk, "x_groq", "usage")
    if isinstance(usage, dict):
        made["usage"] = usage
        made["ended"] = not here
    return made
