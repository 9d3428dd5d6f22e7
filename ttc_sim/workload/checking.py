"""Arrivals of a user's own process, looked at before anything is simulated with them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ttc_sim.base.arrays import numbers, refuse, whole_numbers
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError, users_code
from ttc_sim.base.plugins import called
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.scenario import Arrivals
from ttc_sim.workload.checking_sessions import of_sessions
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
    prefixes = _prefixes(made, prefix, where)
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
        prefixes=prefixes,
        **of_sessions(made, n, where),
    )


def _prefixes(made: Traffic, prefix: I64 | None, where: str) -> PrefixTree | None:
    """What the prefixes have in common, whose nodes they are."""
    if made.prefixes is None:
        return None
    if not isinstance(made.prefixes, PrefixTree):
        raise InputError(where, "prefixes", type(made.prefixes).__name__, "a PrefixTree")
    if prefix is None:
        raise InputError(where, "prefixes", "given", "'prefix_id', the nodes that prompts are at, beside them")
    size = np.shape(made.prefixes.parent)[:1] or (0,)
    parent = whole_numbers(where, "prefixes.parent", made.prefixes.parent, size)
    start = whole_numbers(where, "prefixes.start", made.prefixes.start, size)
    refuse(
        where, "prefixes.parent", parent, (parent < -1) | (parent >= np.arange(len(parent))), "-1, or an earlier node"
    )
    least = np.where(parent < 0, 0, start[parent])
    refuse(where, "prefixes.start", start, start < least, "at least as many tokens as its parent's")
    refuse(where, "prefixes.start", start, (parent < 0) & (start > 0), "0 tokens: nothing is before it")
    refuse(where, "prefix_id", prefix, prefix >= len(parent), "a node of prefixes")
    return PrefixTree(parent, start)


def _following(made: Traffic, n: int, where: str) -> tuple[I64 | None, F64 | None]:
    """Who waits for whose answer, and how long after it."""
    if made.after is None:
        if made.think_s is not None:
            raise InputError(where, "think_s", "given", "'after', the requests whose answers are waited for, beside it")
        return None, None
    after, think_s = whole_numbers(where, "after", made.after, (n,)), numbers(where, "think_s", made.think_s, (n,))
    refuse(where, "after", after, (after < -1) | (after >= np.arange(n)), "-1, or an earlier request")
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
