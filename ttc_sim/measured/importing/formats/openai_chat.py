"""Logs of OpenAI's chat completions: responses, requests beside responses, or lines of its Batch API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.statuses import status_of


class OpenAIChat(Importer):
    """An object a call: a ``chat.completion``, or one under ``response`` (or ``response.body`` as the Batch API has it)."""

    title = "OpenAI chat completions log"
    origin = "https://platform.openai.com/docs/api-reference/chat/object and .../batch/request-output"
    arrays = ("data", "responses", "completions")
    reasoning = "inside"
    cached = "inside"
    time_unit = "s"

    def recognises(self, sample: Sample) -> int:
        marks = 0
        for record in sample.records:
            body = response_body(record)
            if body is None:
                continue
            usage = body.get("usage")
            marks = max(
                marks,
                2 * (body.get("object") in ("chat.completion", "text_completion"))
                + isinstance(body.get("choices"), list)
                + (isinstance(usage, dict) and "completion_tokens" in usage)
                + ("custom_id" in record),
            )
        return marks if marks >= 2 else 0

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict):
            return
        body = response_body(record) or {}
        usage, choices = body.get("usage") or {}, body.get("choices") or []
        request = request_body(record)
        code = find(record, "response", "status_code")
        failed = status_of(code if code is not None else record.get("status"), record.get("error") or body.get("error"))
        reason = choices[0].get("finish_reason") if choices and isinstance(choices[0], dict) else None
        partial = bool(choices) and reason is None and failed == "ok"
        yield Call(
            key=body.get("id") or record.get("custom_id"),
            at=body.get("created") or record.get("created") or record.get("timestamp"),
            model=body.get("model") or request.get("model"),
            source=find(request, "metadata", "source") or record.get("source"),
            prompt=usage.get("prompt_tokens"),
            cached=find(usage, "prompt_tokens_details", "cached_tokens"),
            output=usage.get("completion_tokens"),
            reasoning=find(usage, "completion_tokens_details", "reasoning_tokens"),
            total=usage.get("total_tokens"),
            status="partial" if partial else failed,
            reason=reason,
            text=prompt_text(request.get("messages") or request.get("prompt")),
        )


def response_body(record: Any) -> dict[str, Any] | None:
    """The response in a record: the record itself, or what stands under ``response`` or its ``body``."""
    if not isinstance(record, dict):
        return None
    response = record.get("response")
    if isinstance(response, dict):
        body = response.get("body")
        return body if isinstance(body, dict) else response
    return record


def request_body(record: Mapping[str, Any]) -> dict[str, Any]:
    """The request beside a response: what stands under ``request``, ``body`` or ``input``, or the body of it; empty if nothing
    does."""
    for name in ("request", "body", "input"):
        request = record.get(name)
        if isinstance(request, dict):
            body = request.get("body")
            return body if isinstance(body, dict) else request
    return {}


def prompt_text(messages: Any) -> str | None:
    """The text of a prompt or of messages, parts of a message joined; ``None`` if there is none."""
    if isinstance(messages, str):
        return messages
    if not isinstance(messages, list):
        return None
    texts: list[str] = []
    for message in messages:
        content = message.get("content", message.get("parts")) if isinstance(message, dict) else message
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts += [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(texts) or None
