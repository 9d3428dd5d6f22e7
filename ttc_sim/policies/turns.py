"""Sessions as a policy knows them: which conversation each request is a turn of."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64

BLOCK = 64
"""Tokens: what was sent before is known in such blocks, and a summary that takes the place of fewer saves nothing."""


@dataclass(frozen=True)
class Turns:
    """What is known of ``n`` requests as turns of sessions, when they come.

    Attributes:
        session: (n,) its session's number; -1 of a request that is of none.
        turn: (n,) which turn of its session (or of a sub-agent's within it) it is, from 0.
        after: (n,) the request whose answer it waits for; -1 of those that begin.
        think_s: (n,) seconds between that answer and this request; 0 of those that begin.
        reused_tokens: (n,) leading tokens of its prompt that an earlier request of its session has sent, or had answered.
        output_tokens: (n,) that it is expected to be answered with: its own where the workload carries them.
        head_tokens: (n,) leading tokens of its prompt, tools and system prompt, that no summary takes the place of; 0 if ``None``.
        summary: (n,) whether it asks for a summary of its conversation, which takes the place of that in the next turn's prompt; no
            turn does if ``None``.
    """

    session: I64
    turn: I64
    after: I64
    think_s: F64
    reused_tokens: I64
    output_tokens: I64
    head_tokens: I64 | None = None
    summary: NDArray[np.bool_] | None = None

    def taken(self, at: I64) -> Turns:
        """Some of them, in order."""
        number = np.full(len(self.session) + 1, -1, dtype=np.int64)
        number[at] = np.arange(len(at))
        values = {one.name: known[at] for one in fields(self) if (known := getattr(self, one.name)) is not None}
        return replace(self, **{**values, "after": number[values["after"]]})


__all__ = ["BLOCK", "Turns"]
