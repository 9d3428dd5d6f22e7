"""Messages of a request, as the API takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ttc_sim.base.errors import InputError

Messages = Sequence[Mapping[str, Any]]


def checked_messages(messages: str | Messages) -> Messages:
    """What is asked, as a list of messages.

    Raises:
        InputError: none, or what cannot be sent.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    fine = isinstance(messages, Sequence) and all(
        isinstance(one, Mapping) and isinstance(one.get("role"), str) for one in messages
    )
    if not fine or not messages or not is_json([dict(one) for one in messages]):
        raise InputError("run", "messages", messages, "a text, or a list of messages with a role and content each")
    return messages


def text_of(content: Any) -> str:
    """Of a message's content, as far as it is text."""
    if isinstance(content, list):
        return "\n".join(str(one.get("text", "")) for one in content if isinstance(one, Mapping))
    return content if isinstance(content, str) else ""


def question_in(messages: Messages) -> str:
    """What a verifier is told that was asked."""
    if len(messages) == 1:
        return text_of(messages[0].get("content"))
    return "\n\n".join(f"{one.get('role')}: {text_of(one.get('content'))}" for one in messages)


def is_json(value: Any) -> bool:
    """Whether it can be sent."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


__all__ = ["Messages", "checked_messages", "is_json", "question_in", "text_of"]
