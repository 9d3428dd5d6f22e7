"""Sessions of live requests, followed from turn to turn as a simulation follows them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ttc_sim.base.arguments import count, finite
from ttc_sim.base.display import in_short
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.deploying.asking import Asked
from ttc_sim.policies import ENDED, Followed, FollowedSession, Policy, Requests
from ttc_sim.policies.costs import ArmCosts
from ttc_sim.policies.memory import Places
from ttc_sim.policies.turns import Turns

MOST_UNANSWERED = 64
"""Turns of a session that may be on their way, of which the runtime is still to be told what they were answered with."""


class SessionEndedError(InputError):
    """A turn of a session that has spent its budget, under a policy that ends it then: it is not to be sent."""


@dataclass(frozen=True)
class Turn:
    """What is said of a live request as a turn of a session.

    Attributes:
        session: its name; agent: whose conversation within the session it is, ``""`` for the main one.
        reused_tokens: leading tokens of its prompt that the session has sent, or had answered, before; ``None`` for all of its
            conversation's turn before.
        think_s: seconds since the turn before was answered; ``None`` for those that have passed here.
    """

    session: str
    agent: str = ""
    reused_tokens: int | None = None
    think_s: float | None = None


@dataclass
class _Live:
    """One session, as it is followed."""

    followed: FollowedSession = field(default_factory=FollowedSession)
    lock: threading.Lock = field(default_factory=threading.Lock)
    length: dict[int, int] = field(default_factory=dict)  # by conversation, tokens of its turn before, answer and all
    at: dict[int, str] = field(default_factory=dict)  # and the arm of that turn
    heard_s: float | None = None
    unanswered: OrderedDict[str, tuple[Requests, Places, int]] = field(default_factory=OrderedDict)


class LiveSessions:
    """All of a runtime's. It may be used from any number of threads: turns of one session wait for one another.

    Args:
        most: sessions that are remembered, those that had a turn last; costs: by arm; clock: seconds.
    """

    def __init__(
        self, most: int, costs: Callable[[], Mapping[str, ArmCosts]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._costs, self._clock = most, costs, clock
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], _Live] = OrderedDict()
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._known)

    def _of(self, source: str, session: str) -> _Live:
        with self._lock:
            found = self._known.setdefault((source, session), _Live())
            self._known.move_to_end((source, session))
            while len(self._known) > self._most:
                self._known.popitem(last=False)
                self.forgotten += 1
        return found

    def next_turn(
        self,
        policy: Policy,
        asked: Asked,
        arms: Sequence[str],
        turn: Turn,
        request: str,
        choose: Callable[[Asked], tuple[int, str]],
    ) -> tuple[int, str]:
        """Index of the arm of the next turn of a session, and why.

        Args:
            request: its name, by which :meth:`answered` tells what it was answered with.
            choose: how a policy is asked that does not follow sessions.

        Raises:
            SessionEndedError: the session has spent its budget. InputError: as the policy.
        """
        source = asked.requests.sources[int(asked.requests.source[0])]
        mine = self._of(source, turn.session)
        with mine.lock:
            prompt = int(asked.requests.prompt_tokens[0])
            places, number = mine.followed.of_agent(turn.agent, prompt)
            c, now_s = int(places.conversation[0]), self._clock()
            think_s = turn.think_s
            if think_s is None:
                think_s = 0.0 if mine.heard_s is None else max(now_s - mine.heard_s, 0.0)
            reused = min(mine.length.get(c, 0), prompt) if turn.reused_tokens is None else turn.reused_tokens
            requests = replace(asked.requests, turns=_turns(number, think_s, reused), costs=self._costs())
            mine.heard_s, mine.length[c] = now_s, prompt
            if not isinstance(policy, Followed):
                return choose(replace(asked, requests=requests))
            arm = mine.followed.follow(policy, requests, arms, places)
            before = mine.at.get(c)
            if arm == ENDED:
                expected = f"one that has not spent its budget: {in_short(policy)} ends it"
                raise SessionEndedError("route", "session", turn.session, expected)
            mine.at[c] = arms[arm]
            mine.unanswered[request] = requests, places, arm
            while len(mine.unanswered) > MOST_UNANSWERED:
                mine.unanswered.popitem(last=False)
        went = "begins" if before is None else "stays" if before == arms[arm] else f"moves from {before}"
        return arm, f"turn {number + 1} of its session {went}, as {in_short(policy)} has it"

    def answered(
        self, policy: Policy, source: str, session: str, request: str, arms: Sequence[str], output_tokens: int
    ) -> bool:
        """A turn was answered with so many tokens; whether it was one that is remembered."""
        with self._lock:
            mine = self._known.get((source, session))
        if mine is None:
            return False
        with mine.lock:
            found = mine.unanswered.pop(request, None)
            if found is None or not isinstance(policy, Followed):
                return False
            requests, places, arm = found
            mine.heard_s = self._clock()
            c = int(places.conversation[0])
            mine.length[c] = int(requests.prompt_tokens[0]) + output_tokens
            mine.followed.answered(policy, requests, arms, places, arm, output_tokens)
        return True


def turn_of(session: object, agent: object, reused_tokens: object, think_s: Any, prompt_tokens: int) -> Turn | None:
    """What is said of a request as a turn, if it is one.

    Raises:
        InputError: what cannot be, or what is said of a turn without a session.
    """
    if session is not None and not isinstance(session, str):
        raise InputError("route", "session", session, "a name, or nothing")
    if not isinstance(agent, str):
        raise InputError("route", "agent", agent, "a name, or nothing")
    if session is None:
        for name, value in (("agent", agent or None), ("reused_tokens", reused_tokens), ("think_s", think_s)):
            if value is not None:
                raise InputError("route", name, value, "a session beside it, which it is of")
        return None
    reused = None
    if reused_tokens is not None:
        reused = count("route", "reused_tokens", reused_tokens, 0, MOST_TOKENS, "tokens")
        if reused > prompt_tokens:
            expected = f"at most the {prompt_tokens:,} tokens of the prompt, which they are the first of"
            raise InputError("route", "reused_tokens", reused, expected)
    if think_s is not None and (not finite(think_s) or think_s < 0):
        raise InputError("route", "think_s", think_s, "seconds, at least 0")
    return Turn(session, agent, reused, think_s)


def of_no_session(asked: Asked) -> Asked:
    """A request of no session, where others are turns."""
    turns = replace(_turns(0, 0.0, 0), session=np.array([-1], dtype=np.int64))
    return replace(asked, requests=replace(asked.requests, turns=turns))


def _turns(number: int, think_s: float, reused: int) -> Turns:
    def one(value: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([value], dtype=np.int64)

    return Turns(one(0), one(number), one(-1), np.array([think_s]), one(reused), one(0))


__all__ = ["LiveSessions", "SessionEndedError", "Turn", "of_no_session", "turn_of"]
