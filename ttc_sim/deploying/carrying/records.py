"""What was sent for a live request, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["answered", "timed_out", "rejected", "failed"]
Purpose = Literal["attempt", "continuation", "verifier", "judge"]


class NoAnswerError(Exception):
    """A call, or an arm, that gave no answer.

    Attributes:
        status: what becomes of a request that ends so; reason: in one line.
        why: of the reasons that a deployment's ``retry`` names; ``None`` where asking again is hopeless.
        wait_s: that the endpoint asks to wait, if it does.
        for_good: whether its deadline is why, so that no other arm takes over.
    """

    def __init__(
        self,
        status: Literal["timed_out", "rejected", "failed"],
        reason: str,
        why: tuple[str, ...] = (),
        wait_s: float | None = None,
        *,
        for_good: bool = False,
    ) -> None:
        super().__init__(reason)
        self.status, self.reason, self.why, self.wait_s, self.for_good = status, reason, why, wait_s, for_good


@dataclass(frozen=True)
class Call:
    """One call that was sent.

    Attributes:
        arm: that it was for; deployment: that it went to; purpose: of it.
        status: ``"answered"``; ``"stopped"``, ended here because no more of it was needed; ``"timed_out"``, ``"rejected"``,
            ``"failed"``, with the ``reason`` in a line.
        answers: that it asked for.
        prompt_tokens, cached_tokens, reasoning_tokens, visible_tokens: of all its answers, as far as they came; cached ones are
            among those of the prompt.
        usd: at the deployment's price; 0 at a pool.
        counted: how the tokens were told: by the endpoint's usage, or estimated from what came.
        sent_s, ended_s: when, since the request came; first_token_s: likewise, of its first token.
    """

    arm: str
    deployment: str
    purpose: Purpose
    status: Literal["answered", "stopped", "timed_out", "rejected", "failed"]
    reason: str | None
    answers: int
    prompt_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    visible_tokens: int
    usd: float
    counted: str
    sent_s: float
    first_token_s: float | None
    ended_s: float


@dataclass(frozen=True)
class Sample:
    """One attempt at a request.

    Attributes:
        text: visible; ``None`` where none came.
        thinking: as far as it was sent.
        tokens: of output, over all calls that it took.
        cut_off: whether a limit ended it before its answer was whole.
        forced: whether its thinking was ended; extended: how often it was made to go on.
        answer: what was taken for its answer in a vote; score: that it was given by a verifier.
    """

    text: str | None
    thinking: str
    tokens: int
    cut_off: bool
    forced: bool = False
    extended: int = 0
    answer: str | None = None
    score: float | None = None

    @property
    def answered(self) -> bool:
        """Whether there is a whole answer."""
        return not self.cut_off and bool(self.text and self.text.strip())


@dataclass(frozen=True)
class Reply:
    """The answer to a live request, and how it came about.

    Attributes:
        text: visible; what there is of it where a cap cut it off; ``None`` where nothing came.
        cut_off: whether a cap ended it.
        samples: attempts of the stage that answered, as they ended; those that were stopped are none.
        share: of the votes that the answer had, where there was a vote.
        calls: all that were sent, in the order that they ended.
        notes: what is to be known of it, a sentence each: figures that are estimates, answers that could not be read.
    """

    text: str | None
    cut_off: bool
    samples: tuple[Sample, ...]
    share: float | None
    calls: tuple[Call, ...]
    notes: tuple[str, ...]


__all__ = ["Call", "NoAnswerError", "Purpose", "Reply", "Sample", "Status"]
