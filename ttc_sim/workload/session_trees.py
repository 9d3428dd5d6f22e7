"""What the prompts of sessions have in common, as a tree: each begins like another, up to where it goes its own way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.measured.session_turns import SessionTurns

_DEPTH = 1 << 28  # more than any prompt has tokens
_TAIL = 64  # tokens that are nobody else's and fewer than this need no node: they are of a block that is sent anew


@dataclass(frozen=True)
class SessionTree:
    """The prefixes of turns.

    Attributes:
        tree: the nodes that sessions share first, then those of each session, one session after another.
        shared: how many nodes sessions share.
        start: (S + 1,) nodes of session ``s`` are ``start[s]:start[s + 1]``.
        node: (n,) of each turn's prompt; -1 without any.
        tokens: (n,) leading tokens of the prompt, and of its answer, that are those of its path.
    """

    tree: PrefixTree
    shared: int
    start: I64
    node: I64
    tokens: I64


def with_answers(turns: SessionTurns) -> SessionTurns:
    """The turns, if those that go on from another whole begin with its answer too, where their prompts are long enough for that."""
    before = np.maximum(turns.reuses, 0)
    answered = turns.prompt_tokens[before] + turns.output_tokens[before]
    # What was sent before is known in blocks.
    whole = (turns.reuses >= 0) & (turns.reused_tokens > turns.prompt_tokens[before] - _TAIL)
    goes_on = whole & (turns.prompt_tokens >= answered)
    return replace(turns, reused_tokens=np.where(goes_on, answered, turns.reused_tokens))


def tree_of(turns: SessionTurns, *, shared_heads: bool = True, answers: bool = False) -> SessionTree:
    """The tree in which each turn has in common with the turns before it in its session what it reuses of one of them, and, if it
    begins anew, with other sessions the tools and the system prompt that are the same.

    Args:
        answers: whether what is reused may reach into the answer to that turn.
    """
    n, heads = len(turns), turns.heads if shared_heads else turns.heads[:0]
    _, one_of = np.unique(heads[:, 0], return_index=True)
    tools = heads[one_of]  # by number
    kinds, h = len(tools), len(heads)
    first = kinds + h  # the turns stand behind what they begin with
    with_head = turns.shares_head if h else np.zeros(n, dtype=np.bool_)
    of = np.full(n, -1, dtype=np.int64)
    of[with_head] = kinds + turns.head[with_head]
    reuses = turns.reuses >= 0
    of[reuses] = first + turns.reuses[reuses]
    begins = np.zeros(n, dtype=np.int64)
    begins[with_head] = np.minimum(heads[turns.head[with_head], 2], turns.prompt_tokens[with_head])
    begins[reuses] = turns.reused_tokens[reuses]
    number = np.searchsorted(tools[:, 0], heads[:, 0])
    parent = np.concatenate([np.full(kinds, -1), number, of])
    begin = np.concatenate([np.zeros(kinds, dtype=np.int64), heads[:, 1], begins])
    ends_at = turns.prompt_tokens + (turns.output_tokens if answers else 0)
    end = np.concatenate([tools[:, 1], heads[:, 2], ends_at])
    parent = _resolved(parent, begin)
    some = parent >= 0
    cuts = _distinct(parent[some] * _DEPTH + begin[some])
    deepest = begin.copy()
    np.maximum.at(deepest, cuts // _DEPTH, cuts % _DEPTH)
    least = np.where((np.arange(len(end)) < first) | (deepest == begin), 1, _TAIL)
    whole = np.flatnonzero(end - deepest >= least)
    pieces = _distinct(np.concatenate([cuts, whole * _DEPTH + end[whole]]))  # by whose they are, and where they end
    owner, ends = np.divmod(pieces, _DEPTH)
    again = np.concatenate([[False], owner[1:] == owner[:-1]])
    before = np.arange(len(pieces)) - 1
    starts = np.where(again, ends[before], begin[owner])
    above = np.where(again, before, _piece(pieces, parent[owner], begin[owner]))
    last = np.searchsorted(owner, np.arange(first, first + n), side="right") - 1
    mine = (last >= 0) & (owner[np.maximum(last, 0)] == np.arange(first, first + n)) if len(pieces) else last >= 0
    node = np.where(mine, last, _piece(pieces, parent[first:], begin[first:]))
    tokens = np.where(node < 0, 0, np.minimum(ends[node], ends_at)) if len(pieces) else np.zeros_like(node)
    start = np.searchsorted(owner, first + turns.start)
    return SessionTree(PrefixTree(above, starts), int(start[0]), start, node, tokens)


def _resolved(parent: I64, begin: I64) -> I64:
    """Of each, the one in whose own stretch it begins: what begins where that one does, or before, begins in one further up."""
    parent = np.where(begin > 0, parent, -1)
    raw = parent.copy()
    moving = np.flatnonzero(parent >= 0)
    while len(moving):
        moving = moving[(parent[moving] >= 0) & (begin[moving] <= begin[parent[moving]])]
        parent[moving] = raw[parent[moving]]
    return parent


def _distinct(keys: I64) -> I64:
    """As :func:`numpy.unique`, which hashes, and such keys badly."""
    keys = np.sort(keys)
    return keys[np.diff(keys, prepend=-1) > 0]


def _piece(pieces: I64, owner: I64, end: I64) -> I64:
    """The pieces that end there; -1 where there is no owner."""
    return np.where(owner < 0, -1, np.searchsorted(pieces, owner * _DEPTH + end))


__all__ = ["SessionTree", "tree_of", "with_answers"]
