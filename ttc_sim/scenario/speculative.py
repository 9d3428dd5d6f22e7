"""Speculative decoding of a GPU pool: tokens are drafted, and several of them verified in one iteration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ttc_sim.base.errors import nearest
from ttc_sim.base.limits import MOST_AMOUNT
from ttc_sim.scenario.acceptance_lengths import ACCEPTANCE_LENGTHS
from ttc_sim.scenario.base import InSchema, Model, NonNegative, Share, errors_at

MOST_DRAFTED = 16
"""Draft tokens that may be verified in one step."""

_PARTS = 100  # acceptance lengths are counted in hundredths, as they are measured


def _by_drafted(least: float, most: float) -> BeforeValidator:
    """A number, or numbers by draft tokens, whose keys are texts in a file of JSON; each within bounds."""
    expected = f"a number from {least:g} to {most:g}"

    def checked(given: Any) -> Any:
        if given is None:
            return given
        by_drafted = given if isinstance(given, dict) else {None: given}
        found: dict[int | None, float] = {}
        for key, value in by_drafted.items():
            drafted = int(key) if isinstance(key, str) and key.isdigit() else key
            if drafted is not None and (type(drafted) is not int or not 1 <= drafted <= MOST_DRAFTED):
                raise ValueError(f"numbers by draft tokens from 1 to {MOST_DRAFTED}, such as {{1: ..., 2: ...}}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                if drafted is None:
                    raise ValueError(f"{expected}, or such numbers by draft tokens")
                raise errors_at({str(drafted): ("value_error", value, expected)})
            found[drafted] = float(value)
        if not found:
            raise ValueError("at least one number of draft tokens")
        return found if isinstance(given, dict) else found[None]

    return BeforeValidator(checked)


def _said(given: Any) -> Any:
    """YAML reads ``on`` and ``off`` as truth values."""
    return {True: "on", False: "off"}[given] if isinstance(given, bool) else given


_Drafted = Annotated[int, Field(ge=1, le=MOST_DRAFTED)]
_Length = Annotated[float, Field(ge=1, le=MOST_DRAFTED + 1)]
_Lengths = Annotated[dict[_Drafted, _Length], Field(min_length=1)]
_Seconds = Annotated[dict[_Drafted, NonNegative], Field(min_length=1)]


ASSUMED_SHARE = 0.05
"""Of a plain iteration that drafting a token takes, where a scenario does not say: one layer and the LM head of a model of 70
billion parameters are 3% of its weights, of one of 8 billion 9%."""


class Speculative(Model):
    """How a pool drafts and verifies.

    Args:
        draft_tokens: of each decoding sequence, that a step verifies; 0 for plain decoding.
        acceptance_length: mean tokens that a sequence gets of a step, the accepted draft tokens and one that the model itself adds;
            in hundredths, from 1 to ``draft_tokens`` + 1. By number of draft tokens, such as ``{2: 2.1, 4: 2.6}``, if that is to be
            chosen.
        profile: instead, a measured table: ``ttc_sim.scenario.acceptance_lengths``.
        thinking: whether the model thinks, where the profile was measured both ways.
        draft_s: seconds that drafting takes in each step in which sequences decode; by number of draft tokens, if that is to be
            chosen.
        draft_share: instead, the time that drafting one token takes, of that of a plain iteration for the same sequences: a drafter
            of one layer takes about one in as many as the model has layers, and what the LM head takes beside them. Without either,
            0.05 is assumed, and each result says so.
    """

    draft_tokens: Annotated[int, Field(ge=0, le=MOST_DRAFTED)]
    acceptance_length: Annotated[_Length | _Lengths | None, _by_drafted(1, MOST_DRAFTED + 1)] = None
    profile: str | None = None
    thinking: (
        Annotated[
            Literal["on", "off"],
            BeforeValidator(_said),
            InSchema(lambda one: {"anyOf": [one, {"type": "boolean"}]}),
        ]
        | None
    ) = None
    draft_s: Annotated[NonNegative | _Seconds | None, _by_drafted(0, MOST_AMOUNT)] = None
    draft_share: Share | None = None

    @model_validator(mode="after")
    def _said_once(self) -> Speculative:
        if (self.acceptance_length is None) == (self.profile is None):
            raise ValueError("either acceptance_length or profile to be given")
        if self.draft_s is not None and self.draft_share is not None:
            raise ValueError(
                "draft_s and draft_share to exclude each other: what drafting takes; draft_s: 0 for nothing"
            )
        if self.profile is None and self.thinking is not None:
            raise ValueError("no thinking without a profile: it has no effect")
        return self

    @model_validator(mode="after")
    def _known(self) -> Speculative:
        lengths = self.lengths
        for drafted, length in lengths.items():
            at = "acceptance_length" if not isinstance(self.acceptance_length, dict) else f"acceptance_length.{drafted}"
            if length > drafted + 1:
                expected = f"at most {drafted + 1}: {drafted} draft tokens, and one that the model itself adds"
                raise errors_at({at: ("value_error", length, expected)})
            if abs(round(_PARTS * length) - _PARTS * length) > 1e-6:
                raise errors_at({at: ("value_error", length, "a number of hundredths, such as 2.54")})
        if self.draft_tokens and self.draft_tokens not in lengths:
            expected = f"one of {', '.join(map(str, lengths))}, for which an acceptance length is known"
            raise errors_at({"draft_tokens": ("value_error", self.draft_tokens, expected)})
        if self.draft_tokens and isinstance(self.draft_s, dict) and self.draft_tokens not in self.draft_s:
            expected = f"one of {', '.join(map(str, self.draft_s))}, for which draft_s is known"
            raise errors_at({"draft_tokens": ("value_error", self.draft_tokens, expected)})
        return self

    @property
    def share_of_a_draft(self) -> float:
        """Time of drafting one token, of a plain iteration; 0 where ``draft_s`` says it."""
        if self.draft_share is not None:
            return self.draft_share
        return ASSUMED_SHARE if self.draft_s is None else 0.0

    @property
    def lengths(self) -> dict[int, float]:
        """Acceptance lengths that are known, by number of draft tokens."""
        if isinstance(self.acceptance_length, dict):
            return self.acceptance_length
        if self.acceptance_length is not None:
            return {self.draft_tokens: self.acceptance_length}
        if self.profile not in ACCEPTANCE_LENGTHS:
            raise errors_at({"profile": ("value_error", self.profile, nearest(str(self.profile), ACCEPTANCE_LENGTHS))})
        measured = ACCEPTANCE_LENGTHS[str(self.profile)].by_thinking
        if self.thinking is None and len(measured) > 1:
            expected = f"on or off: {self.profile} was measured both ways"
            raise errors_at({"thinking": ("value_error", self.thinking, expected)})
        thinking = self.thinking or min(measured)
        if thinking not in measured:
            expected = f"{next(iter(measured))}: {self.profile} was not measured otherwise"
            raise errors_at({"thinking": ("value_error", self.thinking, expected)})
        return dict(enumerate(measured[thinking], start=1))

    def with_draft_tokens(self, drafted: int) -> Speculative | None:
        """The same with so many draft tokens; ``None`` for 0, which is plain decoding.

        Raises:
            ValueError: nothing is known of so many.
        """
        if drafted == 0:
            return None
        for name, known in (("acceptance_length", self.lengths), ("draft_s", self.draft_s)):
            if drafted != self.draft_tokens and isinstance(getattr(self, name), float):
                raise ValueError(
                    f"{name} by number of draft tokens, such as {{{self.draft_tokens}: ..., {drafted}: ...}}"
                )
            if isinstance(known, dict) and drafted not in known:
                raise ValueError(f"0 or one of {', '.join(map(str, known))}, for which {name} is known")
        return self.model_copy(update={"draft_tokens": drafted})

    @property
    def length(self) -> float:
        """Mean tokens that a sequence gets of a step."""
        return self.lengths[self.draft_tokens] if self.draft_tokens else 1.0

    @property
    def drafting_s(self) -> float:
        """Seconds of drafting in each step, as far as they are said."""
        if self.draft_s is None or not self.draft_tokens:
            return 0.0
        return self.draft_s[self.draft_tokens] if isinstance(self.draft_s, dict) else self.draft_s
