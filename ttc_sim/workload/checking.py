"""Arrivals of a user's own process, looked at before anything is simulated with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ttc_sim.base.arrays import numbers, refuse, truth_values, whole_numbers
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError, users_code
from ttc_sim.base.plugins import called
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.scenario import Arrivals
from ttc_sim.workload.traffic import Traffic


def own_arrivals(arrivals: Arrivals, requests: int, seed: int, run: str, *, folder: Path, where: str) -> Traffic:
    """What a user's own process generates.

    Raises:
        InputError: it failed, or what it returned is no traffic of so many requests.
    """
    named = called(type(arrivals))
    with users_code(where, f"workload.arrivals: {named}.generate", f"a Traffic of {requests} requests"):
        made = arrivals.generate(requests, seed, run, folder, where)
    return checked(made, requests, f"{where}: {named}.generate", carries_lengths=arrivals.carries_lengths)


def checked(made: object, n: int, where: str, *, carries_lengths: bool) -> Traffic:
    """Traffic as it is said to be (:class:`ttc_sim.workload.Traffic`), of ``n`` requests.

    Raises:
        InputError: it is not.
    """
    if not isinstance(made, Traffic):
        raise InputError(where, "traffic", type(made).__name__, f"a Traffic of {n} requests")
    after, think_s = _following(made, n, where)
    arrival_s = numbers(where, "arrival_s", made.arrival_s, (n,))
    first = np.ones(n, dtype=np.bool_) if after is None else after < 0
    refuse(where, "arrival_s", arrival_s, first & ~(np.isfinite(arrival_s) & (arrival_s >= 0)), "seconds, at least 0")
    back = np.zeros(n, dtype=np.bool_)
    back[np.flatnonzero(first)[1:]] = np.diff(arrival_s[first]) < 0
    refuse(where, "arrival_s", arrival_s, back, "times in order, none before the one that stands before it")
    rate_per_s = made.rate_per_s
    number = isinstance(rate_per_s, (int, float, np.number)) and not isinstance(rate_per_s, bool)
    # Of a closed loop it follows from the run.
    if not number or (after is None and not (math.isfinite(rate_per_s) and rate_per_s > 0)):
        raise InputError(where, "rate_per_s", rate_per_s, "the mean rate in the long run, above 0: bills go by it")
    client = whole_numbers(where, "client", made.client, (n,))
    refuse(where, "client", client, client < 0, "an index, at least 0")
    prefix = None if made.prefix_id is None else whole_numbers(where, "prefix_id", made.prefix_id, (n,))
    if prefix is not None:
        refuse(where, "prefix_id", prefix, prefix < -1, "an id, at least 0, or -1 for none")
    shared = None if made.prefix_tokens is None else whole_numbers(where, "prefix_tokens", made.prefix_tokens, (n,))
    if shared is not None:
        if prefix is None:
            raise InputError(
                where, "prefix_tokens", "given", "'prefix_id', the prefixes that they belong to, beside it"
            )
        refuse(where, "prefix_tokens", shared, shared < 0, "at least 0 tokens")
    if not isinstance(made.notes, (list, tuple)) or not all(isinstance(note, str) for note in made.notes):
        raise InputError(where, "notes", made.notes, "a list of lines of text")
    lengths = _lengths(made, n, where, carries_lengths)
    return Traffic(
        arrival_s,
        client,
        *lengths,
        prefix,
        float(rate_per_s),
        after,
        think_s,
        prefix_tokens=shared,
        notes=tuple(made.notes),
        prefixes=_prefixes(made.prefixes, prefix, where),
        **_sessions(made, n, where),
    )


def _sessions(made: Traffic, n: int, where: str) -> dict[str, Any]:
    """Which session each is a turn of: numbers from 0, in the order of the user's own."""
    given = {name: getattr(made, name) for name in ("session", "turn", "reused_tokens")}
    if all(one is None for one in given.values()) and made.ends is None:
        return {}
    for name, values in given.items():
        if values is None:
            raise InputError(where, name, "None", "'session', 'turn' and 'reused_tokens', all of them or none")
    session, turn, reused = (whole_numbers(where, name, values, (n,)) for name, values in given.items())
    refuse(where, "session", session, session < -1, "a session's number, at least 0, or -1 for none")
    refuse(where, "turn", turn, turn < 0, "which turn of its session it is, from 0")
    refuse(where, "reused_tokens", reused, reused < 0, "at least 0 tokens")
    if made.prompt_tokens is not None:
        prompt = np.asarray(made.prompt_tokens)
        refuse(
            where, "reused_tokens", reused, reused > prompt, "at most the tokens of the prompt that they are part of"
        )
    found = {"session": np.where(session < 0, -1, np.searchsorted(np.unique(session[session >= 0]), session))}
    if made.ends is not None:
        ends = truth_values(where, "ends", made.ends, (n,))
        refuse(where, "ends", ends, ends & (session < 0), "False of a request that is of no session")
        again = ends.copy()
        again[np.flatnonzero(ends)[np.unique(session[ends], return_index=True)[1]]] = False
        refuse(where, "ends", ends, again, "one end of each session at most")
        found["ends"] = ends
    return {**found, "turn": turn, "reused_tokens": reused}


def _prefixes(tree: PrefixTree | None, prefix: I64 | None, where: str) -> PrefixTree | None:
    """What prompts have in common, as :class:`ttc_sim.base.prefix_tree.PrefixTree` has it."""
    if tree is None:
        return None
    if not isinstance(tree, PrefixTree):
        raise InputError(where, "prefixes", type(tree).__name__, "a PrefixTree, or None")
    if prefix is None:
        raise InputError(where, "prefixes", "given", "'prefix_id', each request's node, beside it")
    parent = whole_numbers(where, "prefixes.parent", tree.parent, (len(tree),))
    start = whole_numbers(where, "prefixes.start", tree.start, (len(tree),))
    refuse(where, "prefixes.parent", parent, (parent < -1) | (parent >= np.arange(len(tree))), "an earlier node, or -1")
    root, above = parent < 0, np.append(start, 0)[parent]
    refuse(
        where,
        "prefixes.start",
        start,
        np.where(root, start != 0, start < above),
        "0 of a root, else its parent's or more",
    )
    refuse(where, "prefix_id", prefix, prefix >= len(tree), f"a node of the {len(tree)} of prefixes")
    return PrefixTree(parent, start)


def _following(made: Traffic, n: int, where: str) -> tuple[I64 | None, F64 | None]:
    """Who waits for whose answer, and how long after it."""
    if made.after is None:
        if made.think_s is not None:
            raise InputError(where, "think_s", "given", "'after', the requests whose answers are waited for, beside it")
        return None, None
    after, think_s = whole_numbers(where, "after", made.after, (n,)), numbers(where, "think_s", made.think_s, (n,))
    refuse(where, "after", after, (after < -1) | (after >= np.arange(n)), "-1, or an earlier request")
    again = after >= 0
    again[np.unique(after, return_index=True)[1]] = False
    refuse(where, "after", after, again, "a request that no other waits for: each is followed by one at most")
    refuse(where, "think_s", think_s, ~(np.isfinite(think_s) & (think_s >= 0)), "seconds, at least 0")
    return after, think_s


def _lengths(made: Traffic, n: int, where: str, carried: bool) -> tuple[I64 | None, I64 | None, I64 | None]:
    given = {
        "prompt_tokens": (made.prompt_tokens, 1),
        "reasoning_tokens": (made.reasoning_tokens, 0),
        "visible_tokens": (made.visible_tokens, 0),
    }
    for name, (values, _) in given.items():
        if (values is not None) != carried and not (carried and name == "reasoning_tokens"):
            expected = "lengths, since carries_lengths is True" if carried else "None, since carries_lengths is False"
            raise InputError(where, name, "None" if values is None else "lengths", expected)
    found: list[I64 | None] = []
    for name, (values, least) in given.items():
        tokens = None if values is None else whole_numbers(where, name, values, (n,))
        if tokens is not None:
            refuse(where, name, tokens, tokens < least, f"at least {least} tokens")
        found.append(tokens)
    prompt, reasoning, visible = found
    if visible is not None:
        total = visible if reasoning is None else visible + reasoning
        refuse(where, "output tokens", total, total < 1, "at least 1 token, reasoning and visible together")
    return prompt, reasoning, visible


__all__ = ["checked", "own_arrivals"]
