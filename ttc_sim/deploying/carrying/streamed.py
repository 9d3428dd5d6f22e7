"""Several answers to one call, put together as they are streamed, and the tokens that they took."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ttc_sim.collecting.answers import Answer, Tokens, Usage, count_tokens, read_chunk, read_usage

_CHARACTERS, _MOST = 4, 6  # of a token, about, and of events that hold one each
_BEYOND, _FACTOR = 1000, 4
USAGE, ESTIMATED = "usage", "estimated from what came: usage was not sent"


class EndlessError(Exception):
    """It goes on far beyond the limit that was asked for."""


@dataclass(frozen=True)
class Piece:
    """One answer of a call that has ended.

    Attributes:
        thinking, visible: its texts; whole: whether it came to an end of its own rather than to a limit.
        tokens: (reasoning, visible), estimated from what came.
        first_token: log-probabilities of what its first token might have been, if they were sent.
    """

    thinking: str
    visible: str
    whole: bool
    tokens: tuple[int, int]
    first_token: Mapping[str, float]


class Streamed(Answer):
    """What has come of a call so far, of ``n`` answers.

    Args:
        limit: most tokens of each that was asked for.
        ends: told of each that ends, by its number; heard: of each event, whether it held text.

    Attributes:
        began: whether anything came.
    """

    def __init__(
        self, n: int, limit: int | None, ends: Callable[[int, Piece], None], heard: Callable[[bool], None]
    ) -> None:
        super().__init__()
        self.n, self._limit, self._ends, self._heard = n, limit, ends, heard
        self.answers = [Answer() for _ in range(n)]
        self._by_answer: dict[int, Usage] = {}
        self._first_token: dict[int, Mapping[str, float]] = {}
        self.began = False

    def take(self, data: str) -> tuple[bool, bool]:
        """Add one event of the stream."""
        chunk = read_chunk(data)
        if chunk is None:
            self.ended = True
            return False, False
        self.began = True
        choices = [one for one in chunk["choices"] if self._number(one) is not None]
        if chunk.get("usage") is not None:
            usage = read_usage(chunk["usage"], data)
            # With each event some servers say what one answer has had so far; at the end, what all have.
            if usage is not None and self.n > 1 and len(choices) == 1:
                self._by_answer[self._number(choices[0]) or 0] = usage
            elif usage is not None:
                self.usage = usage
        text = shown = False
        for choice in choices:
            number = self._number(choice) or 0
            answer = self.answers[number]
            before, done = (len(answer.thinking), len(answer.content)), answer.finish_reason
            answer.take_choice(choice, data)
            text |= (len(answer.thinking), len(answer.content)) != before
            shown |= len(answer.content) != before[1]
            if number not in self._first_token and (found := _first_token(choice)):
                self._first_token[number] = found
            if answer.finish_reason is not None and done is None:
                self._ends(number, self.piece(number))
            elif self._limit is not None and sum(_events(answer)) > _FACTOR * self._limit + _BEYOND:
                raise EndlessError
        seen = [one for one in self.answers if one.finish_reason is not None or any(_events(one))]
        if seen and all(one.finish_reason is not None for one in seen):
            self.finish_reason = seen[0].finish_reason
        else:
            self.finish_reason = None
        self._heard(text)
        return text, shown

    def _number(self, choice: Mapping[str, Any]) -> int | None:
        index = choice.get("index")
        if index is None:
            return 0
        return index if isinstance(index, int) and 0 <= index < self.n else None

    @property
    def missing(self) -> list[int]:
        """Answers of which nothing came."""
        return [k for k, one in enumerate(self.answers) if one.finish_reason is None]

    @property
    def is_empty(self) -> bool:
        """Whether it has come to its end and holds nothing."""
        pieces = [self.piece(k) for k in range(self.n)]
        return all(one.whole and not one.thinking and not one.visible.strip() for one in pieces)

    def piece(self, number: int) -> Piece:
        """One answer as it stands."""
        answer = self.answers[number]
        thinking, visible, _ = answer.parts()
        whole = answer.finish_reason not in (None, "length")
        return Piece(thinking, visible, whole, self._estimated(answer), self._first_token.get(number, {}))

    def _estimated(self, answer: Answer) -> tuple[int, int]:
        """Reasoning and visible tokens."""
        thinking, visible, tagged = answer.parts()
        thought, shown = _events(answer)
        if tagged:
            share = len(thinking) / max(len(thinking) + len(visible), 1)
            thought, shown = round(shown * share), shown - round(shown * share)
        return _tokens(len(thinking), thought), _tokens(len(visible), shown)

    def tokens(self, prompt: int, *, all_of_it: bool) -> Tokens:
        """Of all answers, as far as they came.

        Args:
            prompt: tokens that the prompt is taken to have, where the endpoint does not say.
            all_of_it: whether the call came to its end; otherwise what the endpoint said of it may be old.
        """
        parts = [one.parts() for one in self.answers]
        thinking, visible = "".join(one[0] for one in parts), "".join(one[1] for one in parts)
        if self.usage is not None and (all_of_it or self.n == 1):
            found = count_tokens(self.usage, thinking, visible, "", None)
            assert found is not None
            return found
        heard = [k for k, one in enumerate(self.answers) if any(_events(one))]
        if self._by_answer and all(k in self._by_answer for k in heard):
            each = [count_tokens(one, *parts[k][:2], "", None) for k, one in self._by_answer.items()]
            known = [one for one in each if one is not None]
            first = known[0]
            made = sum(one.reasoning for one in known), sum(one.visible for one in known)
            return Tokens(first.prompt, first.cached, *made, USAGE)
        guessed = [self._estimated(one) for one in self.answers]
        reasoning, shown = sum(one[0] for one in guessed), sum(one[1] for one in guessed)
        return Tokens(prompt, 0, reasoning, shown, ESTIMATED)


def _tokens(characters: int, events: int) -> int:
    """Most servers send a token in each event; others more, which shows in how long they are."""
    return events if characters <= _MOST * events else math.ceil(characters / _CHARACTERS)


def _events(answer: Answer) -> tuple[int, int]:
    """That held thinking, and visible text."""
    return len(answer.thinking), len(answer.content)


def _first_token(choice: Mapping[str, Any]) -> dict[str, float]:
    """Log-probabilities of the first token in an event, as far as they are any."""
    said = choice.get("logprobs")
    content = said.get("content") if isinstance(said, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    top = first.get("top_logprobs") if isinstance(first, dict) else None
    listed = [*(top if isinstance(top, list) else ()), first]
    return {
        one["token"]: float(one["logprob"])
        for one in listed
        if isinstance(one, dict)
        and isinstance(one.get("token"), str)
        and isinstance(one.get("logprob"), (int, float))
        and math.isfinite(one["logprob"])
    }


__all__ = ["ESTIMATED", "USAGE", "EndlessError", "Piece", "Streamed"]
