"""What the prompts of turns begin with, from which follows what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import I64

UNKNOWN = -2
"""Instead of a request whose prompt is reused, of turns of sessions of which nothing is known."""


@dataclass(frozen=True, eq=False)
class Beginnings:
    """Of ``n`` requests, those that are turns of sessions.

    Attributes:
        reuses: (n,) request of the same session that has sent (or had answered) what the prompt begins with again; -1 where that is
            nothing, :data:`UNKNOWN` of turns of which it is not known.
        head: (n,) tools and system prompt that it begins with, a row of ``heads``; -1 of none.
        answers: (n,) whether later prompts may have its answer in common with it.
        heads: (h, 3) number of the tools, -1 of those that sessions do not share; tokens of these, and of tools and system prompt.
    """

    reuses: I64
    head: I64
    answers: NDArray[np.bool_]
    heads: I64

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Beginnings):
            return NotImplemented
        return all(np.array_equal(getattr(self, one.name), getattr(other, one.name)) for one in fields(self))

    __hash__ = None  # type: ignore[assignment]

    @property
    def head_tokens(self) -> I64:
        """(n,) tokens of tools and system prompt; 0 of none."""
        return np.append(self.heads[:, 2], 0)[self.head]

    def taken(self, at: I64 | slice) -> Beginnings:
        """Of some of the requests, in order; none of them begins like one that is left out."""
        number = np.full(len(self.reuses) + 2, -1, dtype=np.int64)
        number[UNKNOWN] = UNKNOWN
        kept = np.arange(len(self.reuses))[at]
        number[kept] = np.arange(len(kept))
        return replace(self, reuses=number[self.reuses[at]], head=self.head[at], answers=self.answers[at])

    @staticmethod
    def beside(each: Sequence[tuple[Beginnings | None, I64 | None, int]]) -> Beginnings | None:
        """Of requests of several processes, one after another, which share nothing; ``None`` where nothing is known of any.

        Args:
            each: what is known of the requests of a process, their sessions, and how many they are.
        """
        if all(one is None for one, _, _ in each):
            return None
        parts, heads, first, tools = list[Beginnings](), 0, 0, 0
        for one, session, size in each:
            if one is None:
                none = np.full(size, -1, dtype=np.int64)
                reuses = none if session is None else np.where(session < 0, -1, UNKNOWN)
                one = Beginnings(reuses, none, np.zeros(size, dtype=np.bool_), np.empty((0, 3), dtype=np.int64))
            of = one.heads.copy()
            of[of[:, 0] >= 0, 0] += tools
            tools = max(int(of[:, 0].max(initial=-1)) + 1, tools)
            reuses = np.where(one.reuses < 0, one.reuses, one.reuses + first)
            parts.append(Beginnings(reuses, np.where(one.head < 0, -1, one.head + heads), one.answers, of))
            first, heads = first + size, heads + len(of)
        joined = (
            np.concatenate([getattr(one, name) for one in parts]) for name in ("reuses", "head", "answers", "heads")
        )
        return Beginnings(*joined)

    def ordered(self, order: I64) -> Beginnings:
        """Of all requests, in another order."""
        place = np.empty(len(order) + 2, dtype=np.int64)
        place[order], place[-1], place[UNKNOWN] = np.arange(len(order)), -1, UNKNOWN
        return replace(self, reuses=place[self.reuses[order]], head=self.head[order], answers=self.answers[order])


__all__ = ["UNKNOWN", "Beginnings"]
