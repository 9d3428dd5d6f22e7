"""The turns of sessions one after another, compiled: what is warm where, what a turn is billed, and what policies make of it.

A simulation goes over all turns at once, a runtime over each as it comes: both by these loops, over the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.compilation import INNER, kept
from ttc_sim.base.draws import F64, I64

F = TypeVar("F", bound=Callable[..., Any])
Bools = NDArray[np.bool_]

_compiled = kept("sessions", [Path(__file__)], error_model="numpy")
_part: Callable[[F], F] = numba.njit(**INNER, error_model="numpy")

MOST_LOOKED = 64  # conversations of a session in which a turn's own is looked for
# Columns of a cost table's rules, and of its prices.
_KEEPS, _ANSWERS, _TTL, _LEAST, _STEP, _CALL = range(6)
_ABOVE, _INPUT, _CACHED, _WRITTEN, _OUTPUT = range(5)
# Columns of what a policy keeps of a conversation.
_ARM, _MOVES, _WANTED, _TIMES = range(4)
# Of what was told of a conversation, and of what a session has spent.
_BEGUN, _TOKENS, _ANSWERED = range(3)
_USD, _ALL, _OVER = range(3)
_AS_ASKED = -2


@_compiled
def placed(session: I64, turn: I64, prompt: I64, reused: I64, summary: Bools, sessions: int) -> tuple[I64, I64, int]:
    """See :func:`ttc_sim.policies.memory.places_of`."""
    n = len(session)
    conversation, parent = np.full(n, -1, dtype=np.int64), np.full(n, -1, dtype=np.int64)
    latest = np.full(sessions, -1, dtype=np.int64)  # conversation of the session's turn before
    newest = np.full(sessions, -1, dtype=np.int64)  # of its conversations
    before = np.full(n, -1, dtype=np.int64)
    summed_up = np.zeros(sessions, dtype=np.bool_)  # whether the session's turn before asked for a summary
    reached, length = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)  # of each, its last turn and prompt
    count = 0
    for i in range(n):
        s = session[i]
        if s < 0:
            continue
        last = latest[s]
        found = -1
        if last >= 0 and turn[i] > 0 and summed_up[s]:
            found = last  # it is for this turn, which begins with little of what was sent
        elif last >= 0 and turn[i] > 0:
            nearest, c = -1, last
            for k in range(MOST_LOOKED):
                if c < 0:
                    break
                off = abs(length[c] - reused[i])
                if reached[c] == turn[i] - 1 and (nearest < 0 or off < nearest):
                    found, nearest = c, off
                c = newest[s] if k == 0 else before[c]
            if found < 0:
                found = last
        parent[i] = last
        if found < 0:
            found = count
            before[found] = newest[s]
            newest[s] = found
            count += 1
        conversation[i] = found
        reached[found], length[found] = turn[i], prompt[i]
        latest[s], summed_up[s] = found, summary[i]
    return conversation, parent, count


@_part
def tier(usd: F64, arm: int, prompt: int) -> int:
    """Which prices hold for a prompt of that length."""
    found = 0
    for k in range(1, usd.shape[1]):
        if prompt > usd[arm, k, _ABOVE]:
            found = k
    return found


@_part
def found_of(tokens: float, rules: F64, arm: int) -> float:
    """What an arm's cache finds of so many leading tokens that it has."""
    if rules[arm, _KEEPS] == 0:
        return 0.0
    found = tokens - tokens % rules[arm, _STEP]
    return found if found >= rules[arm, _LEAST] else 0.0


@_part
def read_usd(usd: F64, rules: F64, arm: int, prompt: int, warm: float) -> float:
    """What a prompt is billed of which so much is warm."""
    t = tier(usd, arm, prompt)
    kept = rules[arm, _KEEPS] != 0 and prompt >= rules[arm, _LEAST]
    fresh = float(usd[arm, t, _WRITTEN] if kept else usd[arm, t, _INPUT])
    return float(rules[arm, _CALL] + warm * usd[arm, t, _CACHED] + (prompt - warm) * fresh)


@_part
def come(c: int, parent: int, s: int, think: float, reused: int, kept: F64, used: F64, clock: F64, told: F64) -> None:
    """A turn comes: its session's clock goes on, and its conversation is what its prompt still begins with."""
    clock[s] += think
    if told[c, _BEGUN] == 0:
        told[c, _BEGUN] = 1
        if parent >= 0:
            kept[c], used[c] = kept[parent], used[parent]
    for d in range(kept.shape[1]):
        kept[c, d] = min(kept[c, d], reused)


@_part
def warm_at(c: int, s: int, arm: int, on: I64, rules: F64, kept: F64, used: F64, clock: F64) -> float:
    """Leading tokens of a turn's prompt that an arm's cache has."""
    if clock[s] - used[c, on[arm]] > rules[arm, _TTL]:
        return 0.0
    return found_of(kept[c, on[arm]], rules, arm)


@_part
def sent(c: int, s: int, arm: int, prompt: int, on: I64, rules: F64, kept: F64, used: F64, clock: F64) -> None:
    """A turn is sent to an arm."""
    kept[c, on[arm]] = prompt if rules[arm, _KEEPS] != 0 else 0
    used[c, on[arm]] = clock[s]


@_compiled
def told_of(c: int, arm: int, output: float, on: I64, rules: F64, kept: F64, told: F64) -> None:
    """A turn is answered with so many tokens."""
    told[c, _TOKENS] += output
    told[c, _ANSWERED] += 1
    if rules[arm, _ANSWERS] != 0:
        kept[c, on[arm]] += output


@_compiled
def spent_of(s: int, arm: int, prompt: int, output: float, usd: F64, spent: F64) -> None:
    """What a session is answered with is paid for."""
    spent[s, _USD] += output * usd[arm, tier(usd, arm, prompt), _OUTPUT]
    spent[s, _ALL] += output


@_compiled
def escalated(rank: I64, conversation: I64, own: I64) -> I64:
    """(n,) the highest rank that each conversation has come to."""
    out = rank.copy()
    for i in range(len(rank)):
        c = conversation[i]
        if c >= 0:
            own[c, _ARM] = max(own[c, _ARM], rank[i])
            out[i] = own[c, _ARM]
    return out


@_compiled
def stayed(
    wanted: I64,
    places: tuple[I64, I64, I64],
    turns: tuple[I64, F64, I64, I64],
    table: tuple[I64, F64, F64],
    memory: tuple[F64, F64, F64, F64],
    own: I64,
    knobs: tuple[float, float, int, int, int],
    out: I64,
) -> None:
    """Arms of turns whose sessions stay where they are unless going elsewhere pays (:class:`ttc_sim.policies.sticky.Sticky`).

    Args:
        wanted: (n,) arms that are asked for; places: conversation, parent and session of each.
        turns: prompt tokens, seconds thought, reused tokens, output tokens; of those 0 where they are told later.
        knobs: ``worth_usd``, ``lost_tokens`` (NaN for none of both), ``turns``, ``patience``, ``moves`` (-1 for any number).
        out: (n,) is filled.
    """
    conversation, parent, session = places
    prompt, think, reused, output = turns
    on, usd, rules = table
    kept, used, clock, told = memory
    worth_usd, lost_tokens, ahead, patience, moves = knobs
    for i in range(len(wanted)):
        c, s, arm = conversation[i], session[i], wanted[i]
        out[i] = arm
        if c < 0:
            continue
        come(c, parent[i], s, think[i], min(reused[i], prompt[i]), kept, used, clock, told)
        stay = own[c, _ARM]
        if stay < 0 or arm == stay:
            own[c, _WANTED], own[c, _TIMES] = -1, 0
        else:
            own[c, _TIMES] = own[c, _TIMES] + 1 if own[c, _WANTED] == arm else 1
            own[c, _WANTED] = arm
            go = own[c, _TIMES] >= patience and (moves < 0 or own[c, _MOVES] < moves)
            here = warm_at(c, s, stay, on, rules, kept, used, clock)
            there = warm_at(c, s, arm, on, rules, kept, used, clock)
            if go and not np.isnan(lost_tokens):
                go = here - there <= lost_tokens
            if go and not np.isnan(worth_usd):
                n = prompt[i]
                answer = told[c, _TOKENS] / told[c, _ANSWERED] if told[c, _ANSWERED] > 0 else 0.0
                more = 0.0
                for sign, to, warm in ((1.0, arm, there), (-1.0, stay, here)):
                    again = read_usd(usd, rules, to, n, found_of(float(n), rules, to))
                    each = answer * usd[to, tier(usd, to, n), _OUTPUT]
                    more += sign * (read_usd(usd, rules, to, n, warm) + (ahead - 1) * again + ahead * each)
                go = more <= ahead * worth_usd
            if go:
                own[c, _MOVES] += 1
                own[c, _WANTED], own[c, _TIMES] = -1, 0
            else:
                arm = stay
        own[c, _ARM] = arm
        out[i] = arm
        sent(c, s, arm, prompt[i], on, rules, kept, used, clock)
        if output[i] > 0:
            told_of(c, arm, float(output[i]), on, rules, kept, told)


@_compiled
def within_budget(
    wanted: I64,
    places: tuple[I64, I64, I64],
    turns: tuple[I64, F64, I64, I64],
    table: tuple[I64, F64, F64],
    memory: tuple[F64, F64, F64, F64],
    spent: F64,
    most: tuple[float, float],
    then: int,
    shorter: tuple[I64, Bools, int, int],
    out: I64,
    wanted_shorter: Bools,
) -> None:
    """Arms of turns whose sessions may spend so much (:class:`ttc_sim.policies.session_budget.SessionBudget`).

    Args:
        most: US dollars and tokens, NaN for any; then: arm that sessions go to which have spent it, -1 for none, -2 for those
            that are asked for.
        shorter: leading tokens of each that stay, and whether it asks for a summary; length of prompts above which contexts of such
            sessions are made shorter (-1 for never), if less than so many tokens of them stay.
        out: (n,) is filled; wanted_shorter: (n,) too, with whether the context is to be made shorter before the turn is sent.
        Others: as for :func:`stayed`.
    """
    conversation, parent, session = places
    prompt, think, reused, output = turns
    on, usd, rules = table
    kept, used, clock, told = memory
    head, summary, above, below = shorter
    for i in range(len(wanted)):
        c, s, arm = conversation[i], session[i], wanted[i]
        out[i], wanted_shorter[i] = arm, False
        if c < 0:
            continue
        come(c, parent[i], s, think[i], min(reused[i], prompt[i]), kept, used, clock, told)
        if spent[s, _USD] >= most[0] or spent[s, _ALL] >= most[1]:
            spent[s, _OVER] = 1
            arm = arm if then == _AS_ASKED else then
            wanted_shorter[i] = above >= 0 and not summary[i] and prompt[i] > above and head[i] < below
        out[i] = arm
        if arm < 0:
            continue
        spent[s, _USD] += read_usd(usd, rules, arm, prompt[i], warm_at(c, s, arm, on, rules, kept, used, clock))
        spent[s, _ALL] += prompt[i]
        sent(c, s, arm, prompt[i], on, rules, kept, used, clock)
        if output[i] > 0:
            told_of(c, arm, float(output[i]), on, rules, kept, told)
            spent_of(s, arm, prompt[i], float(output[i]), usd, spent)


@_compiled
def worthiest(
    worth: F64,
    places: tuple[I64, I64, I64],
    turns: tuple[I64, F64, I64, I64],
    table: tuple[I64, F64, F64],
    memory: tuple[F64, F64, F64, F64],
    out: I64,
) -> None:
    """Arms that are worth most with what is warm there (:class:`ttc_sim.policies.utility.Utility`).

    Args:
        worth: (A, n) of each arm, were nothing warm; -inf of those that are not offered. Others: as for :func:`stayed`.
    """
    conversation, parent, session = places
    prompt, think, reused, output = turns
    on, usd, rules = table
    kept, used, clock, told = memory
    for i in range(worth.shape[1]):
        c, s = conversation[i], session[i]
        if c >= 0:
            come(c, parent[i], s, think[i], min(reused[i], prompt[i]), kept, used, clock, told)
        best, arm = -np.inf, -1
        for a in range(worth.shape[0]):
            value = worth[a, i]
            if c >= 0 and value > -np.inf:
                n = prompt[i]
                plain = rules[a, _CALL] + n * usd[a, tier(usd, a, n), _INPUT]
                value += plain - read_usd(usd, rules, a, n, warm_at(c, s, a, on, rules, kept, used, clock))
            if value > best:
                best, arm = value, a
        out[i] = arm
        if c >= 0 and arm >= 0:
            sent(c, s, arm, prompt[i], on, rules, kept, used, clock)
            if output[i] > 0:
                told_of(c, arm, float(output[i]), on, rules, kept, told)


__all__ = ["MOST_LOOKED", "escalated", "placed", "spent_of", "stayed", "told_of", "within_budget", "worthiest"]
