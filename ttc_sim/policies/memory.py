"""What is remembered of sessions from turn to turn, whoever follows them: a simulation, or a runtime."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.policies.turns import Turns


@dataclass(frozen=True)
class Places:
    """Which conversation of which session each of ``n`` requests is a turn of. A sub-agent's is a conversation of its own.

    Attributes:
        conversation: (n,) its number, -1 of a request of no session.
        parent: (n,) the conversation of the session that had the turn before, -1 of none: a new one begins with what it shares.
        session: (n,) number of the session, -1 of none.
        conversations, sessions: how many there are.
    """

    conversation: I64
    parent: I64
    session: I64
    conversations: int
    sessions: int


def places_of(turns: Turns, prompt_tokens: I64) -> Places:
    """By numbers of turns: one that is the first of a conversation begins it, others go on with that whose turn was the one before;
    where several are, with that whose last prompt is as long as what is used of it again, nearly, or with the latest. What
    comes behind a request for a summary goes on with that."""
    from ttc_sim.policies.following import placed

    numbers, session = np.unique(turns.session, return_inverse=True)
    none = int(np.searchsorted(numbers, 0))  # sessions of a number below 0 are none
    session = np.where(turns.session < 0, -1, session - none).astype(np.int64)
    turn, prompt, reused = (
        np.ascontiguousarray(one, dtype=np.int64) for one in (turns.turn, prompt_tokens, turns.reused_tokens)
    )
    summary = np.zeros(len(session), dtype=np.bool_) if turns.summary is None else turns.summary
    conversation, parent, count = placed(
        session, turn, prompt, reused, np.ascontiguousarray(summary), len(numbers) - none
    )
    return Places(conversation, parent, session, int(count), len(numbers) - none)


@dataclass
class Memory:
    """Of ``C`` conversations, ``S`` sessions and ``D`` deployments.

    Attributes:
        kept: (C, D) leading tokens of the conversation that the deployment was sent, as far as they are still those of its prompts.
        used: (C, D) the session's clock when it was.
        clock: (S,) seconds that its turns were waited for, thinking and tools, from its first on.
        told: (C, 3) whether it has begun, output tokens, and turns answered with any.
        own: (C, 4) what the policy keeps of each conversation; spent: (S, 3) and of each session.
        inner: of the policy inside.
    """

    kept: F64
    used: F64
    clock: F64
    told: F64
    own: I64
    spent: F64
    inner: Memory | None = field(default=None)

    @staticmethod
    def of(conversations: int, sessions: int, deployments: int, inner: Memory | None = None) -> Memory:
        """Nothing yet."""
        own = np.zeros((conversations, 4), dtype=np.int64)
        own[:, 0] = own[:, 2] = -1
        return Memory(
            kept=np.zeros((conversations, deployments)),
            used=np.zeros((conversations, deployments)),
            clock=np.zeros(sessions),
            told=np.zeros((conversations, 3)),
            own=own,
            spent=np.zeros((sessions, 3)),
            inner=inner,
        )

    def grown(self) -> Memory:
        """With one conversation more, of which nothing is known yet."""
        more = Memory.of(1, 0, self.kept.shape[1])
        joined = {
            name: np.concatenate([getattr(self, name), getattr(more, name)]) for name in ("kept", "used", "told", "own")
        }
        return replace(self, **joined, inner=None if self.inner is None else self.inner.grown())


__all__ = ["Memory", "Places", "places_of"]
