"""Logs of Google's Gemini: responses of ``generateContent``, streams of them, batches of Vertex AI and of the Gemini API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ttc_sim.measured.importing.bodies import (
    SEVERAL,
    added,
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
from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample


class Gemini(Importer):
    """An object a call: a response, or one under ``response``; keys as the API has them or as Python's SDK writes them.

    ``thoughtsTokenCount`` stands beside ``candidatesTokenCount``, and ``toolUsePromptTokenCount`` beside ``promptTokenCount``:
    ``totalTokenCount`` is the sum of the four. Cached tokens are a part of ``promptTokenCount``.
    """

    title = "Gemini log"
    origin = "https://ai.google.dev/api/generate-content#UsageMetadata; https://cloud.google.com/vertex-ai/docs, batch prediction"
    arrays = ("data", "responses", "inlinedResponses")
    reasoning = "outside"
    cached = "inside"

    def recognises(self, sample: Sample) -> int:
        return max((_marks(record) for record in sample.records), default=0)

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        pieces = [piece for piece in pieces_of(record) if _is_response(piece)]
        body = _together(pieces) if pieces else response_of(record)
        if body is None:
            return
        request = request_of(record) if isinstance(record, dict) else {}
        usage, candidates = _of(body, "usageMetadata"), body.get("candidates")
        status = became(record, body)
        if isinstance(record, dict) and isinstance(record.get("status"), str) and record["status"].strip():
            # Vertex's batches write what went wrong, in words, where nothing else has a status.
            status = "failed" if "candidates" not in body and not usage else status
        if not _is_response(body) and status == "ok":
            if prompt_text(request.get("contents")) is not None:
                yield Call(left_out="a request without its response")
            return
        answers = [one for one in candidates if isinstance(one, dict)] if isinstance(candidates, list) else []
        if len(answers) > 1:
            yield Call(left_out=SEVERAL)
            return
        reason = _get(answers[0], "finishReason") if answers else _get(_of(body, "promptFeedback"), "blockReason")
        if status == "ok" and answers and reason is None:
            status = "partial"
        if status == "ok" and not answers and reason is not None:
            status = "failed"  # the prompt was blocked
        given, own = _get(usage, "candidatesTokenCount"), began(record, body)
        if given is None and _get(usage, "totalTokenCount") is not None:
            given = 0  # left out where there is nothing: all went into thoughts, or the prompt was blocked
        yield Call(
            key=_get(body, "responseId") or (record.get("key") if isinstance(record, dict) else None),
            at=_first(
                _get(body, "createTime"), own, record.get("processed_time") if isinstance(record, dict) else None
            ),
            model=_get(body, "modelVersion")
            or request.get("model")
            or (record.get("model") if isinstance(record, dict) else None),
            prompt=added(_get(usage, "promptTokenCount"), _get(usage, "toolUsePromptTokenCount")),
            cached=_get(usage, "cachedContentTokenCount"),
            output=given,
            reasoning=_get(usage, "thoughtsTokenCount"),
            total=_get(usage, "totalTokenCount"),
            status=status,
            reason=reason.rpartition(".")[2] if isinstance(reason, str) else None,  # FinishReason.STOP
            text=_asked(request),
            **own_of(record, body),
        )


def _marks(record: Any) -> int:
    if of_another_format(record):
        return 0
    found = [piece for piece in pieces_of(record) if _is_response(piece)]
    body = found[-1] if found else response_of(record)
    if body is None:
        return 0
    usage, named = _of(body, "usageMetadata"), _get(body, "modelVersion") is not None
    counted = _get(usage, "promptTokenCount") is not None or _get(usage, "totalTokenCount") is not None
    return 3 * counted + _is_response(body) + named if counted or (_is_response(body) and named) else 0


def _is_response(body: Mapping[str, Any]) -> bool:
    candidates = body.get("candidates")
    answered = isinstance(candidates, list) and any(
        isinstance(one, dict) and ("content" in one or _get(one, "finishReason") is not None) for one in candidates
    )
    return answered or bool(_of(body, "usageMetadata")) or bool(_of(body, "promptFeedback"))


def _get(holder: Mapping[str, Any], name: str) -> Any:
    """What stands under a name in camel case, or the same in snake case."""
    if (found := holder.get(name)) is not None:
        return found
    return holder.get("".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name))


def _of(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    return as_object(_get(holder, name)) or {}


def _together(pieces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A stream's pieces as one response: counts and reasons are of the last that has them."""
    made: dict[str, Any] = {"usageMetadata": {}}
    ended: Any = None
    for piece in pieces:
        candidates = piece.get("candidates")
        for one in candidates if isinstance(candidates, list) else ():
            if isinstance(one, dict):
                ended = _get(one, "finishReason") or ended
        made["usageMetadata"] |= {
            name: count for name, count in _of(piece, "usageMetadata").items() if count is not None
        }
        for name in ("responseId", "modelVersion", "createTime", "promptFeedback", "error"):
            if (found := _get(piece, name)) is not None:
                made.setdefault(name, found)
    return {**made, "candidates": [{"finishReason": ended}]}


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _asked(request: Mapping[str, Any]) -> str | None:
    if (text := prompt_text(request.get("contents"))) is None:
        return None
    told = prompt_text(_get(request, "systemInstruction"))
    return text if told is None else f"{told}\n{text}"
