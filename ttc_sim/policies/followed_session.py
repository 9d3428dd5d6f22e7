"""One session, followed as its turns come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttc_sim.policies.followed import Followed
from ttc_sim.policies.memory import Memory, Places
from ttc_sim.policies.requests import Requests
from ttc_sim.policies.session_budget import SessionBudget


class FollowedSession:
    """What is remembered of a session from turn to turn: a few kilobytes.

    Each turn is given its place (:meth:`of_agent`, or :meth:`of_turn` where turns are numbered), followed, and told what it was
    answered with, in this order. It is for one thread at a time, and one policy.
    """

    def __init__(self) -> None:
        self._memory: Memory | None = None
        self._reached: list[tuple[int, int]] = []  # by conversation, its last turn and prompt
        self._agents: dict[str, int] = {}
        self._last, self._summed_up = -1, False

    def of_agent(self, agent: str, prompt_tokens: int) -> tuple[Places, int]:
        """The place of the next turn of an agent, whose conversation is its own, and its number there."""
        mine = self._agents.get(agent, len(self._reached))
        self._agents[agent] = mine
        turn = 0 if mine == len(self._reached) else self._reached[mine][0] + 1
        return self._placed(mine, turn, prompt_tokens), turn

    def of_turn(self, turn: int, prompt_tokens: int, reused_tokens: int, *, summary: bool = False) -> Places:
        """The place of a turn of that number, as :func:`ttc_sim.policies.memory.places_of` finds it among all turns."""
        from ttc_sim.policies.following import MOST_LOOKED

        mine = len(self._reached)
        behind, self._summed_up = self._summed_up, summary
        if self._last >= 0 and turn > 0 and behind:
            mine = self._last
        elif self._last >= 0 and turn > 0:
            looked = (self._last, *range(len(self._reached) - 1, -1, -1))[:MOST_LOOKED]
            fits = [c for c in looked if self._reached[c][0] == turn - 1]
            mine = min(fits, key=lambda c: abs(self._reached[c][1] - reused_tokens), default=self._last)
        return self._placed(mine, turn, prompt_tokens)

    def _placed(self, mine: int, turn: int, prompt_tokens: int) -> Places:
        parent = self._last
        if mine == len(self._reached):
            self._reached.append((turn, prompt_tokens))
        self._reached[mine], self._last = (turn, prompt_tokens), mine
        at, before, session = (np.array([value], dtype=np.int64) for value in (mine, parent, 0))
        return Places(at, before, session, conversations=len(self._reached), sessions=1)

    def compacts_first(self, policy: Followed, prompt_tokens: int, head_tokens: int) -> bool:
        """Whether the context of a next turn is to be made shorter before it is sent, as the session has spent its budget."""
        if self._memory is None or not isinstance(policy, SessionBudget):
            return False
        return policy.compacts_at(self._memory, prompt_tokens, head_tokens)

    def follow(self, policy: Followed, requests: Requests, arms: Sequence[str], places: Places) -> int:
        """Index of the arm of the one turn that the requests are, or :data:`~ttc_sim.policies.followed.ENDED`."""
        if self._memory is None:
            self._memory = policy.memory(requests, arms, places)
        while len(self._memory.kept) < places.conversations:
            self._memory = self._memory.grown()
        return int(policy.follow(requests, arms, places, self._memory)[0])

    def answered(
        self, policy: Followed, requests: Requests, arms: Sequence[str], places: Places, arm: int, output_tokens: int
    ) -> None:
        """That turn is answered with so many tokens."""
        if self._memory is not None:
            policy.answered(requests, arms, places, self._memory, arm, output_tokens)


__all__ = ["FollowedSession"]
