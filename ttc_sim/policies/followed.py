"""What policies share that follow sessions from turn to turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.policies.costs import CostTable, cost_table
from ttc_sim.policies.memory import Memory, Places, places_of
from ttc_sim.policies.policy import Policy, choose_arms
from ttc_sim.policies.requests import Requests
from ttc_sim.policies.turns import Turns

ENDED = -1
"""Instead of an arm: the session has come to its end, and the turn is not sent."""


class Followed(Policy):
    """A policy whose choice for a turn depends on those before it in its session.

    :meth:`follow` is the one thing that chooses: :meth:`choose` calls it with all turns and an empty memory, a runtime with each
    turn as it comes and what it remembers of that session.
    """

    def memory(self, requests: Requests, arms: Sequence[str], places: Places) -> Memory:
        """Of so many conversations and sessions, of which nothing has come yet."""
        return Memory.of(places.conversations, places.sessions, self.table(requests, arms).deployments)

    def table(self, requests: Requests, arms: Sequence[str]) -> CostTable:
        """What the arms cost, as far as it is needed."""
        return cost_table(requests.costs, arms, where=repr(self), needed=False)

    def follow(self, requests: Requests, arms: Sequence[str], places: Places, memory: Memory) -> I64:
        """(n,) index of each turn's arm, or :data:`ENDED`; the memory goes on."""
        raise NotImplementedError

    def answered(
        self, requests: Requests, arms: Sequence[str], places: Places, memory: Memory, arm: int, output_tokens: int
    ) -> None:
        """The first of the turns, which was followed without its ``output_tokens``, is answered with so many by an arm."""
        from ttc_sim.policies.following import told_of

        c, table = int(places.conversation[0]), self.table(requests, arms)
        if output_tokens > 0:
            told_of(c, arm, float(output_tokens), table.on, table.rules, memory.kept, memory.told)

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index of each request's arm, its session followed from its first turn; one of no session is a session of one turn."""
        if requests.turns is None:
            requests = replace(requests, turns=_of_no_session(len(requests)))
        assert requests.turns is not None
        places = places_of(requests.turns, requests.prompt_tokens)
        return self.follow(requests, arms, places, self.memory(requests, arms, places))

    @property
    def looks_at_problem_alone(self) -> bool:
        """It does not: the turns before count."""
        return False


class Around(Followed):
    """One that asks another policy, and goes by what it says and by the session."""

    policy: Policy

    def arm_names(self) -> tuple[str, ...]:
        """Those of the policy inside."""
        return self.policy.arm_names()

    @property
    def uses_responses(self) -> bool:
        """Whether the policy inside does."""
        return self.policy.uses_responses

    def get_ready(self) -> None:
        """The policy inside is."""
        self.policy.get_ready()


def plainly(policy: Policy, requests: Requests, arms: Sequence[str]) -> I64:
    """What a policy chooses as if nothing were warm anywhere."""
    return choose_arms(policy, replace(requests, costs=None), arms)


def turns_of(requests: Requests) -> tuple[I64, F64, I64, I64]:
    """As the loops over turns take them."""
    turns = requests.turns
    assert turns is not None
    prompt, reused, output = (
        np.ascontiguousarray(one, dtype=np.int64)
        for one in (requests.prompt_tokens, turns.reused_tokens, turns.output_tokens)
    )
    return prompt, np.ascontiguousarray(turns.think_s, dtype=np.float64), reused, output


def innermost(policy: Policy) -> Policy:
    """The policy that is asked about each turn alone, inside those that follow sessions; itself, if it is none of them."""
    while isinstance(policy, Around):
        policy = policy.policy
    return policy


def follows_sessions(policy: Policy) -> bool:
    """Whether what it chooses for a turn depends on the turns before, whatever there is to be known of caches."""
    return isinstance(policy, Around)


def ends_sessions(policy: Policy) -> bool:
    """Whether it may choose to end a session."""
    return getattr(policy, "at_end", None) == "stop"


def _of_no_session(n: int) -> Turns:
    none: Any = np.full(n, -1, dtype=np.int64)
    zeros: Any = np.zeros(n, dtype=np.int64)
    return Turns(none, zeros, none, np.zeros(n), zeros, zeros)


__all__ = [
    "ENDED",
    "Around",
    "Followed",
    "ends_sessions",
    "follows_sessions",
    "innermost",
    "plainly",
    "turns_of",
]
