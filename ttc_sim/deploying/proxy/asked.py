"""What a caller asks for, read from the body and the headers of a request."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NoReturn

from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.proxy.refusals import RefusedError
from ttc_sim.measured.importing.bodies import prompt_text

LIMITS = ("max_tokens", "max_completion_tokens")
MOST_ANSWERS = 128
OWN_KEYS = ("source", "session")
"""Of ``metadata``, meant for the proxy: not passed on."""


@dataclass(frozen=True)
class Asked:
    """A chat completion that a caller wants.

    Attributes:
        body: as it was sent.
        prompt: text of all messages, each on lines of its own, as logs are read for profiles.
        source, session: that it belongs to, if said.
        summary: whether it asks for a summary of its session's context; head: text of what stays then, the messages of the system
            or the developer that it begins with.
        limit: most output tokens that the caller wants, if said; answers: that it wants, ``n``.
        stream: whether it is to come in pieces; wants_usage: whether tokens are to be told at the end of them.
        authorization: the caller's own header.
    """

    body: Mapping[str, Any] = field(repr=False)
    prompt: str = field(repr=False)
    source: str | None
    session: str | None
    summary: bool
    head: str = field(repr=False)
    limit: int | None
    answers: int
    stream: bool
    wants_usage: bool
    authorization: str | None = field(default=None, repr=False)

    def passed_on(self) -> dict[str, Any]:
        """The body without limits of its own, and without what is meant for the proxy."""
        sent = {name: value for name, value in self.body.items() if name not in LIMITS}
        if isinstance(metadata := sent.pop("metadata", None), dict):
            metadata = {name: value for name, value in metadata.items() if name not in OWN_KEYS}
        return {**sent, "metadata": metadata} if metadata else sent

    def body_for(self, endpoint: Endpoint, cap: int | None) -> dict[str, Any]:
        """What the endpoint is sent: everything as the caller has it, but for the model, the limit, and what the endpoint adds.

        Args:
            endpoint: its ``body`` goes before the caller's: the plan was made with it.
            cap: of the arm; the smaller of it and the caller's own limit holds.
        """
        sent = {**self.passed_on(), **endpoint.body, "model": endpoint.model}
        limits = [self.limit, cap, *(sent.pop(name, None) for name in LIMITS)]
        if given := [limit for limit in limits if limit is not None]:
            sent[endpoint.limit_by] = min(given)
        if self.stream and "stream_options" not in endpoint.body:  # tokens are told to the proxy in any case
            sent["stream_options"] = {**(sent.get("stream_options") or {}), "include_usage": True}
        return {name: value for name, value in sent.items() if name != "stream_options" or value is not None}


def read_asked(content: bytes, headers: Mapping[str, str]) -> Asked:
    """A request for a chat completion.

    Args:
        content: of the body; headers: by their names in small letters.

    Raises:
        RefusedError: not such a request.
    """
    try:
        body = json.loads(content, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise RefusedError(400, "the body must be a JSON object, as of OpenAI's chat completions")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "a list of messages, at least one")
    for k, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _wrong(f"messages[{k}]", "an object with a role and a content")
    if not isinstance(body.get("model", ""), str):
        raise _wrong("model", "a name; which model answers is the plan's to choose")
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise _wrong("metadata", "an object")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _wrong("stream", "true or false")
    options = body.get("stream_options")
    if options is not None and not (stream and isinstance(options, dict)):
        raise _wrong("stream_options", "an object, with stream: true")
    said = {name: _name(metadata or {}, name) for name in OWN_KEYS}
    session = _header(headers, "x-ttc-session") or said["session"] or _name(body, "user", "")
    summary = _summary(headers, session)
    return Asked(
        body=body,
        prompt=_scored(messages),
        source=_header(headers, "x-ttc-source") or said["source"],
        session=session,
        summary=summary,
        head=_scored(list(takewhile(lambda one: one["role"] in ("system", "developer"), messages))),
        limit=min((limit for name in LIMITS if (limit := _count(body, name, MOST_TOKENS)) is not None), default=None),
        answers=_count(body, "n", MOST_ANSWERS) or 1,
        stream=bool(stream),
        wants_usage=bool((options or {}).get("include_usage")),
        authorization=headers.get("authorization"),
    )


def _summary(headers: Mapping[str, str], session: str | None) -> bool:
    value = headers.get("x-ttc-summary", "false").strip().lower()
    if value not in ("true", "false"):
        raise _wrong("x-ttc-summary", "true or false")
    if value == "true" and session is None:
        raise _wrong("x-ttc-summary", "a session beside it, whose context is summed up")
    return value == "true"


def _wrong(param: str, expected: str) -> RefusedError:
    return RefusedError(400, f"{param}: expected {expected}", param=param)


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _scored(messages: list[Any]) -> str:
    """Half characters, which JSON can say and nobody can read, are marked."""
    try:
        text = prompt_text(messages) or ""
    except RecursionError:
        text = ""
    return text.encode("utf-8", "replace").decode()


def _count(body: Mapping[str, Any], name: str, most: int) -> int | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most):
        raise _wrong(name, f"a whole number, 1 to {most:,}")
    return value


def _name(body: Mapping[str, Any], name: str, inside: str = "metadata.") -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise _wrong(f"{inside}{name}", "a text")
    return _shown(value)


def _header(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    if value is None:
        return None
    # Servers read headers as Latin-1, and callers write UTF-8.
    return _shown(value.encode("latin-1", "replace").decode("utf-8", "replace"))


def _shown(value: str | None) -> str | None:
    return value.encode("utf-8", "replace").decode().strip() or None if value is not None else None


__all__ = ["LIMITS", "OWN_KEYS", "Asked", "read_asked"]
