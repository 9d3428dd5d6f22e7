"""A streamed answer put together, and the tokens it took."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ttc_sim.base.limits import MOST_TOKENS

OPENS, CLOSES = "<think>", "</think>"


class NonsenseError(Exception):
    """What was sent is no part of a chat completion."""


class ErrorInStreamError(NonsenseError):
    """An error that came in the middle of a stream; the endpoint's words for it."""


@dataclass(frozen=True)
class Usage:
    """What the endpoint says it counted; ``None`` where it says nothing."""

    prompt: int
    completion: int
    reasoning: int | None
    cached: int
    total: int | None


@dataclass(frozen=True)
class Tokens:
    """Tokens of an attempt, and how they were told apart (``counted``)."""

    prompt: int
    cached: int
    reasoning: int
    visible: int
    counted: str


SPECIAL_TOKENS = 16
"""That a count may hold beyond the limit of an answer."""


def is_over(tokens: Tokens, limit: int | None) -> bool:
    """Whether more was generated than was asked for."""
    return limit is not None and tokens.reasoning + tokens.visible > limit + SPECIAL_TOKENS


@dataclass
class Answer:
    """What was streamed so far.

    Attributes:
        content, thinking: pieces of text as they came; finish_reason: why the answer ended, once it has.
        ended: whether the stream said so itself.
    """

    content: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None
    served_model: str | None = None
    ended: bool = False

    def take(self, data: str) -> tuple[bool, bool]:
        """Add one event of the stream, and say whether it held text, and visible text.

        Raises:
            NonsenseError: it is no chunk of a chat completion, or an error (:class:`ErrorInStreamError`).
        """
        chunk = read_chunk(data)
        if chunk is None:
            self.ended = True
            return False, False
        if chunk.get("usage") is not None:
            self.usage = read_usage(chunk["usage"], data)
        if isinstance(chunk.get("model"), str):
            self.served_model = chunk["model"][:200]
        before = len(self.thinking), len(self.content)
        for choice in chunk["choices"]:
            if choice.get("index") in (None, 0):
                self.take_choice(choice, data)
        thought, shown = len(self.thinking) > before[0], len(self.content) > before[1]
        return thought or shown, shown

    def take_choice(self, choice: dict[str, Any], data: str) -> None:
        """Add what one choice of an event holds.

        Raises:
            NonsenseError: it is none.
        """
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            raise NonsenseError(data)
        # One server's name for it, or another's; gateways send both with the same text.
        for name in ("reasoning_content", "reasoning"):
            thought = delta.get(name)
            if isinstance(thought, str) and thought:
                self.thinking.append(thought)
                break
        self._take_content(delta.get("content"), data)
        if isinstance(delta.get("refusal"), str) and delta["refusal"]:
            self.content.append(delta["refusal"])
        reason = choice.get("finish_reason")
        if reason:  # some send an empty one until it has ended
            self.finish_reason = str(reason)[:60]

    def _take_content(self, content: object, data: str) -> None:
        if isinstance(content, str):
            if content:
                self.content.append(content)
            return
        if content is None:
            return
        if not isinstance(content, list):
            raise NonsenseError(data)
        for part in content:  # text and thinking in parts, as some providers send it
            if not isinstance(part, dict):
                raise NonsenseError(data)
            if isinstance(part.get("text"), str) and part["text"]:
                self.content.append(part["text"])
            elif part.get("type") == "thinking":
                inner = part.get("thinking")
                pieces = inner if isinstance(inner, list) else [{"text": inner}]
                self.thinking += [
                    one["text"]
                    for one in pieces
                    if isinstance(one, dict) and isinstance(one.get("text"), str) and one["text"]
                ]

    def parts(self, *, starts_thinking: bool = False) -> tuple[str, str, bool]:
        """Thinking, visible text, and whether tags in the text told them apart."""
        thinking, content = _whole(self.thinking), _whole(self.content)
        return (thinking, content, False) if thinking else split_at_tags(content, starts_thinking=starts_thinking)


def read_chunk(data: str) -> dict[str, Any] | None:
    """One event of a stream, with a list of ``choices``; ``None`` of the last, which says that it has ended.

    Raises:
        NonsenseError: it is no chunk of a chat completion, or an error (:class:`ErrorInStreamError`).
    """
    if data.strip() == "[DONE]":
        return None
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        raise NonsenseError(data) from None
    if not isinstance(chunk, dict):
        raise NonsenseError(data)
    if chunk.get("error"):
        raise ErrorInStreamError(said_in(chunk) or data)
    choices = chunk.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
        raise NonsenseError(data)
    if "choices" not in chunk and "usage" not in chunk:
        raise NonsenseError(data)
    return {**chunk, "choices": choices}


def split_at_tags(content: str, *, starts_thinking: bool = False) -> tuple[str, str, bool]:
    """Thinking and the rest of a text that holds both.

    Args:
        starts_thinking: the chat template has opened the thinking already, so that a text without any tag is all thinking.

    >>> split_at_tags("<think>2 and 2</think>4")
    ('2 and 2', '4', True)
    """
    begins = content.lstrip()
    if not starts_thinking and not begins.startswith(OPENS) and CLOSES not in content:
        return "", content, False
    thinking, _, visible = begins.removeprefix(OPENS).partition(CLOSES)
    return thinking, visible, True


def _whole(pieces: list[str]) -> str:
    """Halves of characters that came in two pieces are one; those that have no other half are marked."""
    return "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def said_in(body: object) -> str:
    """The message of an error as endpoints send it; empty if there is none."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error.get("code")
    return error if isinstance(error, str) else ""


def read_usage(usage: object, data: str) -> Usage | None:
    """Token counts; ``None`` where there are none.

    Raises:
        NonsenseError: counts that are none.
    """
    if not isinstance(usage, dict):
        raise NonsenseError(data)
    prompt, completion = _count(usage, "prompt_tokens", data), _count(usage, "completion_tokens", data)
    if not prompt or completion is None:
        return None
    inside, beside = usage.get("completion_tokens_details"), usage.get("prompt_tokens_details")
    reasoning = _count(inside if isinstance(inside, dict) else usage, "reasoning_tokens", data)
    cached = _count(beside if isinstance(beside, dict) else {}, "cached_tokens", data)
    if cached is None:
        cached = _count(usage, "prompt_cache_hit_tokens", data) or 0
    return Usage(prompt, completion, reasoning, min(cached, prompt), _count(usage, "total_tokens", data))


def _count(usage: dict[str, Any], name: str, data: str) -> int | None:
    value = usage.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2 * MOST_TOKENS:
        raise NonsenseError(data)
    return value


def count_tokens(
    usage: Usage | None, thinking: str, visible: str, prompt: str, tokenizer: Callable[[str], int] | None
) -> Tokens | None:
    """Tokens of an attempt from what is known of them; ``None`` where nothing was counted and there is no tokenizer.

    >>> count_tokens(Usage(10, 100, None, 0, None), "so it is 4", "4", "2+2?", None)
    Tokens(prompt=10, cached=0, reasoning=91, visible=9, counted='usage; reasoning by share of characters')
    """
    if usage is None:
        if tokenizer is None:
            return None
        counted = "tokenizer, of the texts without their template"
        return Tokens(max(tokenizer(prompt), 1), 0, tokenizer(thinking), tokenizer(visible), counted)
    prompt_tokens, completion, said = usage.prompt, usage.completion, usage.reasoning or 0
    if said > completion or (said and usage.total == prompt_tokens + completion + said):
        return Tokens(prompt_tokens, usage.cached, said, completion, "usage; reasoning beside completion_tokens")
    if said:
        return Tokens(prompt_tokens, usage.cached, said, completion - said, "usage")
    if not thinking and (visible or not completion or usage.reasoning is not None):
        counted = "usage" if usage.reasoning is not None else "usage; no reasoning was sent or counted"
        return Tokens(prompt_tokens, usage.cached, 0, completion, counted)
    if not visible:
        counted = "usage; all of it reasoning, as no visible text was sent"
        return Tokens(prompt_tokens, usage.cached, completion, 0, counted)
    if tokenizer is not None:
        shown, counted = tokenizer(visible), "usage; reasoning beyond the tokenizer's count of visible text"
    else:
        shown = round(completion * len(visible) / (len(visible) + len(thinking)))
        counted = "usage; reasoning by share of characters"
    shown = min(max(shown, 1), completion)
    return Tokens(prompt_tokens, usage.cached, completion - shown, shown, counted)


def tokens_in(line: Mapping[str, Any]) -> Tokens | None:
    """Tokens as a line of the journal holds them; ``None`` if they were not counted."""
    if line["counted"] is None:
        return None
    prompt, cached, reasoning, visible = (
        int(line[f"{name}_tokens"]) for name in ("prompt", "cached", "reasoning", "visible")
    )
    return Tokens(prompt, cached, reasoning, visible, str(line["counted"]))
