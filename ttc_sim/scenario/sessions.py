"""Sessions: conversations whose turns are sent when the one before is answered."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, model_validator

from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.base.plugins import is_shipped
from ttc_sim.scenario.base import Model, by_name, errors_at
from ttc_sim.scenario.session_laws import Generated
from ttc_sim.scenario.traffic import ARRIVALS, Arrivals, Workload


class Compact(Model):
    """A context that is made shorter when it is long: a summary takes its place, after what all prompts begin with.

    Args:
        above_tokens: prompts longer than this are made shorter.
        to_tokens: what is left of them.
    """

    above_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)]
    to_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)]

    @model_validator(mode="after")
    def _shorter(self) -> Compact:
        if self.to_tokens >= self.above_tokens:
            raise errors_at(
                {"to_tokens": ("value_error", self.to_tokens, f"less than above_tokens {self.above_tokens}")}
            )
        return self


class Sessions(Arrivals):
    """Sessions that begin as ``starts`` has it, and whose turns are sent a think time after the last answer.

    Args:
        sessions: name of a session profile, such as ``coding-agent``, or its folder; or
        file: a table of recorded requests, or a folder of recorded sessions; or
        generated: laws that sessions are made by.
        starts: how sessions begin.
        shared_heads: whether sessions whose prompts begin with tools and a system prompt of the same lengths have them in common.
        answers_reused: whether a turn that goes on from another finds the answer to that one too, which clients send back as it was
            and servers have kept; else it is new when it is first part of a prompt.
        compact: how long contexts are made shorter; never if left out.
    """

    carries_lengths = True
    _unshaped = "that their sessions begin with has one: starts.shape"
    process: Literal["sessions"]
    sessions: str | None = None
    file: str | None = None
    generated: Generated | None = None
    starts: Annotated[SerializeAsAny[Arrivals], by_name(ARRIVALS)]
    shared_heads: bool = True
    answers_reused: bool = False
    compact: Compact | None = None

    @property
    def begins(self) -> Arrivals:
        """The process that sessions begin by."""
        return self.starts

    @model_validator(mode="after")
    def _from_one_place(self) -> Sessions:
        given = [name for name in ("sessions", "file", "generated") if getattr(self, name) is not None]
        if len(given) != 1:
            expected = "the name of a session profile, or file, or generated: one of the three"
            raise errors_at({given[1] if given else "sessions": ("value_error", " and ".join(given) or None, expected)})
        if self.starts.carries_lengths:
            raise errors_at({"starts": ("value_error", self.starts.process, "a process that carries no lengths")})
        return self


def may_have_sessions(workload: Workload) -> bool:
    """Whether requests may be turns of sessions: those of a process of a user's own are if it says so."""
    return any(isinstance(one, Sessions) or not is_shipped(type(one)) for one in workload.processes)


__all__ = ["Compact", "Sessions", "may_have_sessions"]
