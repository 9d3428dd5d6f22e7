"""Sessions of a user's own arrivals, looked at before anything is simulated with them."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.arrays import refuse, truth_values, whole_numbers
from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.workload.traffic import Traffic


class OfSessions(TypedDict, total=False):
    """Which turn of which session each request is."""

    session: I64
    turn: I64
    reused_tokens: I64
    recorded: I64
    ends: NDArray[np.bool_]


def of_sessions(made: Traffic, n: int, where: str) -> OfSessions:
    """Sessions, turns, what was sent before, and which turns end a session, of ``n`` requests; nothing without sessions.

    Sessions are numbered from 0, in the order of the user's own numbers.

    Raises:
        InputError: some of them are missing, or no such numbers; more was sent before than the prompt has.
    """
    given = {"session": made.session, "turn": made.turn, "reused_tokens": made.reused_tokens}
    if all(values is None for values in given.values()) and made.ends is None:
        return {}
    for name, values in given.items():
        if values is None:
            expected = "given too: session, turn and reused_tokens belong together"
            raise InputError(where, name, None, expected)
    session, turn, reused = (whole_numbers(where, name, values, (n,)) for name, values in given.items())
    refuse(where, "session", session, session < -1, "a number, at least 0, or -1 of a request that is of none")
    refuse(where, "turn", turn, turn < 0, "which turn of its session it is, from 0")
    refuse(where, "reused_tokens", reused, reused < 0, "at least 0 tokens")
    if made.prompt_tokens is not None:
        prompt = whole_numbers(where, "prompt_tokens", made.prompt_tokens, (n,))
        refuse(where, "reused_tokens", reused, reused > prompt, "at most the tokens of the prompt")
    found: OfSessions = {"session": _numbered(session), "turn": turn, "reused_tokens": reused}
    if made.ends is not None:
        ends = truth_values(where, "ends", made.ends, (n,))
        refuse(where, "ends", ends, ends & (session < 0), "False of a request that is of no session")
        again = ends.copy()
        again[np.flatnonzero(ends)[np.unique(session[ends], return_index=True)[1]]] = False
        refuse(where, "ends", ends, again, "one end of each session at most")
        found["ends"] = ends
    if made.recorded is not None:
        recorded = whole_numbers(where, "recorded", made.recorded, (n,))
        refuse(where, "recorded", recorded, recorded < -1, "a number, at least 0, or -1 of none")
        found["recorded"] = _numbered(recorded)
    return found


def _numbered(given: I64) -> I64:
    """From 0, in their order; those of none stay so."""
    return np.where(given < 0, -1, np.searchsorted(np.unique(given[given >= 0]), given))


__all__ = ["of_sessions"]
