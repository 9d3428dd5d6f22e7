"""Contexts of a run's sessions made shorter, from where a policy has it on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import I64
from ttc_sim.base.prefix_tree import PrefixTree, beside_one_another
from ttc_sim.measured.session_turns import SessionTurns
from ttc_sim.policies.memory import Places
from ttc_sim.policies.turns import BLOCK
from ttc_sim.workload.beginnings import UNKNOWN, Beginnings
from ttc_sim.workload.compacting import made_shorter
from ttc_sim.workload.session_trees import tree_of
from ttc_sim.workload.traffic import Traffic

NEVER = np.iinfo(np.int64).max


def shortened(traffic: Traffic, places: Places, above: I64, to: I64) -> tuple[Traffic, I64, I64]:
    """The requests, with contexts made shorter as :func:`ttc_sim.workload.compacting.compacted` does it: a request of its own asks
    for a summary, which takes the place of what the prompt held, and what follows is shorter.

    Args:
        places: which conversations they are of.
        above, to: (n,) length of prompts above which they are made shorter, :data:`NEVER` for none, and that they are left with.

    Returns:
        All requests; (m,) of each the one that was there before, of a summary that which it is sent before; and (n,) where those
        that were there before now stand.
    """
    known, prompt, visible = traffic.beginnings, traffic.prompt_tokens, traffic.visible_tokens
    session, turn, again = traffic.session, traffic.turn, traffic.reused_tokens
    assert known is not None
    assert prompt is not None
    assert visible is not None
    assert session is not None
    assert turn is not None
    assert again is not None
    head = np.minimum(known.head_tokens, prompt)
    at, written, prompt, reused, reuses, place = made_shorter(prompt, again, known.reuses, head, above, to, BLOCK)
    summary = written > 0
    asks = np.flatnonzero(summary)
    # The turn waits for the summary, which waits for what the turn did.
    arrival_s = traffic.arrival_s[at]
    arrival_s[asks + 1] = np.nan
    after = np.full(len(session), -1) if traffic.after is None else traffic.after
    waits = np.where(after < 0, -1, place[after])[at]
    waits[asks + 1] = asks
    think_s = np.zeros(len(at)) if traffic.think_s is None else traffic.think_s[at]
    think_s[asks + 1] = 0.0
    hidden, ends = traffic.reasoning_tokens, traffic.with_ends().ends
    assert ends is not None
    times = len(at) / len(session)
    made = replace(
        traffic,
        arrival_s=arrival_s,
        client=traffic.client[at],
        prompt_tokens=prompt,
        visible_tokens=np.where(summary, written, visible[at]),
        reasoning_tokens=None if hidden is None else np.where(summary, 0, hidden[at]),
        think_s=think_s,
        after=waits,
        session=session[at],
        turn=turn[at] + _before(places.conversation[at], summary),
        reused_tokens=reused,
        recorded=None if traffic.recorded is None else traffic.recorded[at],
        ends=ends[at] & ~summary,
        beginnings=Beginnings(
            np.where(known.reuses[at] == UNKNOWN, UNKNOWN, reuses), known.head[at], known.answers[at], known.heads
        ),
        summary=summary,
        rate_per_s=times * traffic.rate_per_s,
        goes_on_per_s=tuple(times * rate_per_s for rate_per_s in traffic.goes_on_per_s),
    )
    return _with_prefixes(made, traffic, at), at, place


def _before(conversation: I64, summary: NDArray[np.bool_]) -> I64:
    """(m,) summaries of its conversation that stand before each request."""
    order = np.argsort(conversation, kind="stable")
    upto: I64 = np.cumsum(summary[order]) - summary[order]
    begins = np.diff(conversation[order], prepend=-2) != 0
    found = np.empty(len(order), dtype=np.int64)
    found[order] = upto - np.maximum.accumulate(np.where(begins, upto, 0))
    return np.where(conversation < 0, 0, found)


def _with_prefixes(made: Traffic, traffic: Traffic, at: I64) -> Traffic:
    """The same, with the prefixes that follow from what turns begin with, and those of other requests as they were."""
    known, session, prompt, visible = made.beginnings, made.session, made.prompt_tokens, made.visible_tokens
    assert known is not None
    assert session is not None
    assert prompt is not None
    assert visible is not None
    turns = (session >= 0) & (known.reuses != UNKNOWN)
    of = np.flatnonzero(turns)
    of = of[np.argsort(session[of], kind="stable")]
    tree, node, tokens = _tree(made, of)
    prefix, ends = np.full(len(session), -1, dtype=np.int64), np.zeros(len(session), dtype=np.int64)
    rest, others = np.flatnonzero(~turns), PrefixTree.of_roots(0)
    if traffic.prefix_id is not None and len(rest):
        before = traffic.prefix_id[at[rest]]
        others = traffic.prefixes or PrefixTree.of_roots(int(traffic.prefix_id.max(initial=-1)) + 1)
        others, number = others.kept(before)
        prefix[rest] = number[before]
        ends[rest] = prompt[rest] if traffic.prefix_tokens is None else traffic.prefix_tokens[at[rest]]
    prefix[of] = np.where(node < 0, -1, node + len(others))
    ends[of] = tokens
    return replace(made, prefix_id=prefix, prefix_tokens=ends, prefixes=beside_one_another([others, tree]))


def _tree(made: Traffic, of: I64) -> tuple[PrefixTree, I64, I64]:
    """What some turns have in common, one session after another; the node of each, and the tokens that are of its path."""
    known, prompt, visible = made.beginnings, made.prompt_tokens, made.visible_tokens
    assert known is not None
    assert made.session is not None
    assert made.reused_tokens is not None
    assert prompt is not None
    assert visible is not None
    place = np.full(len(made.session) + 1, -1, dtype=np.int64)
    place[of] = np.arange(len(of))
    # Sessions that keep their heads to themselves begin with nothing that others do.
    row = known.head[of]
    row = np.where(np.append(known.heads[:, 0], -1)[row] < 0, -1, row)
    used, head = np.unique(row, return_inverse=True)
    none = int(np.searchsorted(used, 0))
    hidden = 0 if made.reasoning_tokens is None else made.reasoning_tokens[of]
    answer = np.where(known.answers[of], hidden + visible[of], 0)
    turns = SessionTurns(
        start=np.append(np.flatnonzero(np.diff(made.session[of], prepend=-1)), len(of)),
        agent=np.zeros(len(of), dtype=np.int64),
        think_s=np.zeros(len(of)),
        prompt_tokens=prompt[of],
        reasoning_tokens=np.zeros(len(of), dtype=np.int64),
        visible_tokens=answer,
        reused_tokens=made.reused_tokens[of],
        reuses=place[known.reuses[of]],
        head=head - none,
        heads=known.heads[used[none:]],
    )
    found = tree_of(turns, answers=True)
    return found.tree, found.node, found.tokens


__all__ = ["NEVER", "shortened"]
