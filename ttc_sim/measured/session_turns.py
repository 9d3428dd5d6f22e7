"""Recorded sessions: turns that wait for one another, and what of each prompt was sent before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64


@dataclass(frozen=True)
class SessionTurns:
    """``n`` turns of ``S`` sessions, one session after another; a turn stands after the one that it waits for.

    Attributes:
        start: (S + 1,) turns of session ``s`` are ``start[s]:start[s + 1]``.
        agent: (n,) which agent of its session sends it: 0 the first, others are sub-agents.
        think_s: (n,) seconds from the answer that it waits for, which is the one to the turn before; 0 of a session's first.
        prompt_tokens, reasoning_tokens, visible_tokens: (n,) the first at least 1, the others together too.
        reused_tokens: (n,) leading tokens of its prompt that an earlier turn of its session has sent.
        reuses: (n,) that turn, or -1 where nothing is reused.
        head: (n,) tools and system prompt that it begins with, a row of ``heads``; -1 for none.
        heads: (h, 3) number of its tools, tokens of these, and of tools and system prompt together.
        notes: how rows were read that could be doubted.
    """

    start: I64
    agent: I64
    think_s: F64
    prompt_tokens: I64
    reasoning_tokens: I64
    visible_tokens: I64
    reused_tokens: I64
    reuses: I64
    head: I64
    heads: I64
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    @property
    def sessions(self) -> int:
        """How many there are."""
        return len(self.start) - 1

    @property
    def turns(self) -> I64:
        """(S,) of each session."""
        return np.diff(self.start)

    @property
    def session(self) -> I64:
        """(n,) of each turn."""
        return np.repeat(np.arange(self.sessions), self.turns)

    @property
    def output_tokens(self) -> I64:
        """(n,) whole answers."""
        return self.reasoning_tokens + self.visible_tokens

    @property
    def first(self) -> NDArray[np.bool_]:
        """(n,) whether it begins its session."""
        first = np.zeros(len(self), dtype=np.bool_)
        first[self.start[:-1]] = True
        return first

    @property
    def shares_head(self) -> NDArray[np.bool_]:
        """(n,) whether it may have its head in common with other sessions: one that begins anew, where no turn of its session
        before it has the same tools; it would have reused them."""
        found = (self.reuses < 0) & (self.head >= 0)
        begins = np.repeat(self.start[:-1], self.turns)
        tools = np.where(self.head < 0, -1, self.heads[:, 0][self.head] if len(self.heads) else -1)
        for i in np.flatnonzero(found & ~self.first).tolist():
            found[i] = not (tools[begins[i] : i] == tools[i]).any()
        return found

    def of_sessions(self, which: I64) -> SessionTurns:
        """The turns of some sessions, one after another; one that is named twice is there twice."""
        count = self.turns[which]
        start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        moved = self.start[which] - start[:-1]
        at = np.arange(start[-1]) + np.repeat(moved, count)
        reuses = self.reuses[at]
        return SessionTurns(
            start=start,
            agent=self.agent[at],
            think_s=self.think_s[at],
            prompt_tokens=self.prompt_tokens[at],
            reasoning_tokens=self.reasoning_tokens[at],
            visible_tokens=self.visible_tokens[at],
            reused_tokens=self.reused_tokens[at],
            reuses=np.where(reuses < 0, -1, reuses - np.repeat(moved, count)),
            head=self.head[at],
            heads=self.heads,
            notes=self.notes,
        )


__all__ = ["SessionTurns"]
