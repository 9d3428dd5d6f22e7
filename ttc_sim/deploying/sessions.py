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
from ttc_sim.policies import ENDED, Followed, FollowedSession, Policy, Requests, SessionBudget
from ttc_sim.policies.costs import ArmCosts
from ttc_sim.policies.memory import Places
from ttc_sim.policies.turns import Turns

MOST_UNANSWERED = 64
"""Turns of a session that may be on their way, of which the runtime is still to be told what they were answered with."""


class SessionEndedError(InputError):
    """A turn of a session that has spent its budget, under a policy that ends it then: it is not to be sent."""


class CompactFirstError(InputError):
    """A turn of a session that has spent its budget, under a policy that has its context made shorter then: first a summary is to
    be asked for, as a turn of its own that says so, and then the turn to be sent with that in its prompt.

    Attributes:
        to_tokens: that the prompt is to have then.
    """

    to_tokens: int = 0


@dataclass(frozen=True)
class Turn:
    """What is said of a live request as a turn of a session.

    Attributes:
        session: its name; agent: whose conversation within the session it is, ``""`` for the main one.
        reused_tokens: leading tokens of its prompt that the session has sent, or had answered, before; ``None`` for all of its
            conversation's turn before.
        think_s: seconds since the turn before was answered; ``None`` for those that have passed here.
        summary: whether it asks for a summary of its conversation, which takes the place of that in the next turn's prompt.
        head_tokens: leading tokens of its prompt that stay then: tools and system prompt.
    """

    session: str
    agent: str = ""
    reused_tokens: int | None = None
    think_s: float | None = None
    summary: bool = False
    head_tokens: int = 0


@dataclass
class _Live:
    """One session, as it is followed."""

    followed: FollowedSession = field(default_factory=FollowedSession)
    lock: threading.Lock = field(default_factory=threading.Lock)
    length: dict[int, int] = field(default_factory=dict)  # by conversation, tokens of its turn before, answer and all
    at: dict[int, str] = field(default_factory=dict)  # and the arm of that turn
    summed_up: set[str] = field(default_factory=set)  # agents whose turn before asked for a summary
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
            SessionEndedError: the session has spent its budget.
            CompactFirstError: it has, and the turn's context is to be made shorter first.
            InputError: as the policy.
        """
        source = asked.requests.sources[int(asked.requests.source[0])]
        mine = self._of(source, turn.session)
        with mine.lock:
            prompt = int(asked.requests.prompt_tokens[0])
            summed_up = turn.agent in mine.summed_up
            if not turn.summary and not summed_up:  # whoever has just made it shorter has done so as far as it goes
                _check_length(policy, mine.followed, prompt, turn)
            places, number = mine.followed.of_agent(turn.agent, prompt)
            c, now_s = int(places.conversation[0]), self._clock()
            think_s = turn.think_s
            if think_s is None:
                think_s = 0.0 if mine.heard_s is None else max(now_s - mine.heard_s, 0.0)
            before = turn.head_tokens if summed_up else mine.length.get(c, 0)
            reused = min(before, prompt) if turn.reused_tokens is None else turn.reused_tokens
            turns = _turns(number, think_s, reused, turn.summary, turn.head_tokens)
            requests = replace(asked.requests, turns=turns, costs=self._costs())
            mine.heard_s, mine.length[c] = now_s, prompt
            (mine.summed_up.add if turn.summary else mine.summed_up.discard)(turn.agent)
            if not isinstance(policy, Followed):
                return choose(replace(asked, requests=requests))
            arm = mine.followed.follow(policy, requests, arms, places)
            was_at = mine.at.get(c)
            if arm == ENDED:
                expected = f"one that has not spent its budget: {in_short(policy)} ends it"
                raise SessionEndedError("route", "session", turn.session, expected)
            mine.at[c] = arms[arm]
            mine.unanswered[request] = requests, places, arm
            while len(mine.unanswered) > MOST_UNANSWERED:
                mine.unanswered.popitem(last=False)
        went = "begins" if was_at is None else "stays" if was_at == arms[arm] else f"moves from {was_at}"
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


def _check_length(policy: Policy, followed: FollowedSession, prompt_tokens: int, turn: Turn) -> None:
    if not isinstance(policy, SessionBudget) or not followed.compacts_first(policy, prompt_tokens, turn.head_tokens):
        return
    assert policy.to_tokens is not None
    expected = (
        f"at most {policy.above_tokens:,}, as session {in_short(turn.session)} has spent its budget: a summary in place of its "
        f"context, {policy.to_tokens:,} tokens in all, asked for by a turn of its own first, with summary=True"
    )
    error = CompactFirstError("route", "prompt_tokens", prompt_tokens, expected)
    error.to_tokens = policy.to_tokens
    raise error


def turn_of(
    session: object,
    agent: object,
    reused_tokens: object,
    think_s: Any,
    prompt_tokens: int,
    summary: object = False,
    head_tokens: object = None,
) -> Turn | None:
    """What is said of a request as a turn, if it is one.

    Raises:
        InputError: what cannot be, or what is said of a turn without a session.
    """
    if not isinstance(summary, bool):
        raise InputError("route", "summary", summary, "True or False")
    if session is not None and not isinstance(session, str):
        raise InputError("route", "session", session, "a name, or nothing")
    if not isinstance(agent, str):
        raise InputError("route", "agent", agent, "a name, or nothing")
    if session is None:
        of_turns = {"agent": agent or None, "reused_tokens": reused_tokens, "think_s": think_s}
        for name, value in {**of_turns, "summary": summary or None, "head_tokens": head_tokens}.items():
            if value is not None:
                raise InputError("route", name, value, "a session beside it, which it is of")
        return None
    reused = None if reused_tokens is None else _first_of(prompt_tokens, "reused_tokens", reused_tokens)
    head = 0 if head_tokens is None else _first_of(prompt_tokens, "head_tokens", head_tokens)
    if think_s is not None and (not finite(think_s) or think_s < 0):
        raise InputError("route", "think_s", think_s, "seconds, at least 0")
    return Turn(session, agent, reused, think_s, summary, head)


def _first_of(prompt_tokens: int, name: str, value: object) -> int:
    found = count("route", name, value, 0, MOST_TOKENS, "tokens")
    if found > prompt_tokens:
        expected = f"at most the {prompt_tokens:,} tokens of the prompt, which they are the first of"
        raise InputError("route", name, found, expected)
    return found


def of_no_session(asked: Asked) -> Asked:
    """A request of no session, where others are turns."""
    turns = replace(_turns(0, 0.0, 0), session=np.array([-1], dtype=np.int64))
    return replace(asked, requests=replace(asked.requests, turns=turns))


def _turns(number: int, think_s: float, reused: int, summary: bool = False, head: int = 0) -> Turns:
    def one(value: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([value], dtype=np.int64)

    asks = np.array([summary])
    return Turns(one(0), one(number), one(-1), np.array([think_s]), one(reused), one(0), one(head), asks)


__all__ = ["CompactFirstError", "LiveSessions", "SessionEndedError", "Turn", "of_no_session", "turn_of"]
