"""How sessions are generated: laws of turns, prompts, answers and pauses."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from ttc_sim.base.limits import MOST_AMOUNT, MOST_TOKENS
from ttc_sim.scenario.base import InSchema, Model, Share, errors_at

MOST_TURNS = 100_000
"""Turns of a session: one of more would never end."""

_MOST_KINDS = 1000  # of tools, and of system prompts after the same tools


class Amount(Model):
    """A law of tokens, turns or seconds: log-normal by its median and 95th percentile, or by its quantiles.

    Args:
        median, p95: of a log-normal law.
        quantiles: values in order, at least two; between them it is even in logarithms.
        at: their probabilities, from 0 to 1; equal steps if left out.
    """

    median: Annotated[float, Field(gt=0, le=MOST_AMOUNT)] | None = None
    p95: Annotated[float, Field(gt=0, le=MOST_AMOUNT)] | None = None
    quantiles: tuple[Annotated[float, Field(ge=0, le=MOST_AMOUNT, allow_inf_nan=False)], ...] | None = None

    at: tuple[Share, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _lists_are_quantiles(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return {k: tuple(v) if k in ("quantiles", "at") and isinstance(v, list) else v for k, v in given.items()}
        return given

    @model_validator(mode="after")
    def _one_law(self) -> Amount:
        if self.quantiles is None:
            if self.median is None or self.p95 is None:
                raise errors_at({"median": ("value_error", self.median, "median and p95, or quantiles")})
            if self.p95 < self.median:
                raise errors_at({"p95": ("value_error", self.p95, f"at least median {self.median:g}")})
            if self.at is not None:
                raise errors_at({"at": ("value_error", self.at, "quantiles beside it")})
            return self
        if self.median is not None or self.p95 is not None:
            raise errors_at({"quantiles": ("value_error", "given", "no quantiles beside median and p95")})
        if len(self.quantiles) < 2 or any(one > other for one, other in pairwise(self.quantiles)):
            raise errors_at({"quantiles": ("value_error", self.quantiles, "two values or more, in order")})
        at = self.at
        if at is not None and (
            len(at) != len(self.quantiles) or (at[0], at[-1]) != (0, 1) or any(p >= q for p, q in pairwise(at))
        ):
            expected = f"{len(self.quantiles)} probabilities from 0 to 1, in order, one for each quantile"
            raise errors_at({"at": ("value_error", at, expected)})
        return self

    @property
    def most(self) -> float:
        """Its highest quantile, or its 95th percentile."""
        return self.quantiles[-1] if self.quantiles is not None else float(self.p95 or 0.0)


class OfTurns(Amount):
    """A law of something that each turn has.

    Args:
        alike: which part of its variation is between sessions, 0 to 1; the rest is between the turns of each.
    """

    alike: Share = 0.0


def _from_number(given: Any) -> Any:
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return {"quantiles": (float(given), float(given))}
    return given


_OR_NUMBER = InSchema(lambda law: {"anyOf": [{"type": "number"}, law]})
Law = Annotated[Amount, BeforeValidator(_from_number), _OR_NUMBER]
"""A number, the same for all, or an :class:`Amount`."""

LawOfTurns = Annotated[OfTurns, BeforeValidator(_from_number), _OR_NUMBER]
"""A number, the same for all, or an :class:`OfTurns`."""


class Head(Model):
    """What prompts begin with: tools, or a system prompt.

    Args:
        tokens: how long each kind is.
        kinds: how many there are among all sessions, each as likely as the others; those of one kind are the same.
    """

    tokens: Law
    kinds: Annotated[int, Field(ge=1, le=_MOST_KINDS)] = 1


class Person(Model):
    """Turns that a person sends, and not the tools that were asked for.

    Args:
        share: of the turns after the first.
        think_s: seconds between the answer and such a turn.
        rewritten: share of them before which the context is rewritten, so that only its head was sent before.
    """

    share: Share
    think_s: LawOfTurns
    rewritten: Share = 0.0


class StartsOver(Model):
    """Contexts that start over: what is left is sent as new, but for the head.

    Args:
        left: tokens of such a prompt.
        above: tokens from which on a prompt is too long, the same for all turns of a session: of those lengths that are longer than
            its first prompt, where there are any.
        share: of the turns after the first that start over whatever their length.
    """

    left: Law
    above: Law | None = None
    share: Share = 0.0

    @model_validator(mode="after")
    def _ever(self) -> StartsOver:
        if self.above is None and not self.share:
            raise errors_at({"above": ("value_error", None, "above, or a share above 0: else nothing starts over")})
        return self


class SubAgents(Model):
    """Sub-agents, that an agent sends out and waits for.

    Args:
        share: of the agent's turns that are followed by one.
        turns: of each; first_prompt: tokens of its first.
        tools, system: what its prompts begin with; that of the agent is another.
    """

    share: Share
    turns: Law
    first_prompt: Law
    tools: Head | None = None
    system: Head | None = None


class Generated(Model):
    """Sessions by laws. A turn's prompt is the one before it, its answer, and what is ``added``.

    Args:
        turns: of a session, sub-agents' aside.
        first_prompt: tokens of the first, its head among them.
        first_with_turns: correlation (of ranks) of these two, -1 to 1.
        tools, system: what prompts begin with, the same in all turns of a session and in all sessions of its kind.
        output: tokens of an answer.
        added: tokens that tools return or a person says, of each turn after the first.
        think_s: seconds between an answer and the next turn.
        rewritten: share of these turns before which the context is rewritten, so that only its head was sent before.
        person: turns that a person sends; none if left out.
        starts_over: contexts that start over; none if left out.
        sub_agents: none if left out.
    """

    turns: Law
    first_prompt: Law
    output: LawOfTurns
    added: LawOfTurns
    think_s: LawOfTurns
    first_with_turns: Annotated[float, Field(gt=-1, lt=1)] = 0.0
    tools: Head | None = None
    system: Head | None = None
    rewritten: Share = 0.0
    person: Person | None = None
    starts_over: StartsOver | None = None
    sub_agents: SubAgents | None = None

    @model_validator(mode="after")
    def _can_be(self) -> Generated:
        subs = self.sub_agents
        for name, law in {"turns": self.turns, "sub_agents.turns": None if subs is None else subs.turns}.items():
            if law is not None and not 1 <= law.most <= MOST_TURNS:
                raise errors_at({name: ("value_error", law.most, f"1 to {MOST_TURNS:,} turns: sessions end")})
        tokens = {"first_prompt": self.first_prompt, "output": self.output, "added": self.added}
        for name, law in tokens.items():
            if law.most > MOST_TOKENS:
                raise errors_at({name: ("value_error", law.most, f"at most {MOST_TOKENS:,} tokens")})
        return self


__all__ = ["MOST_TURNS", "Amount", "Generated", "Head", "OfTurns", "Person", "StartsOver", "SubAgents"]
