"""Stretches of prompts that are always used together, as one: the turns of a session need not be looked at one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import I64
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.engine.compiled.jit import kept
from ttc_sim.engine.work import Work

_SIZE, _PLACE, _NEXT, _AT, _REACH, _CHILDREN, _EARLY = range(7)
_LOOKS = 64


@kept
def _join(
    parent: I64, start: I64, at: I64, least: I64, upto: I64, after: I64, goes: I64, of: NDArray[np.int64]
) -> None:
    """Of each node, the one it goes with; ``of`` is scratch. A node goes with its parent where that has one child and one request,
    for whose answer wait all that are at the node or below, so that nobody uses the parent alone once the node is used."""
    nodes = len(parent)
    for node in range(nodes):
        goes[node] = node
        for k in range(7):
            of[k, node] = 0
        of[_SIZE, node] = 1
    for node in range(nodes - 1, -1, -1):
        before = parent[node]
        if before >= 0:
            of[_SIZE, before] += of[_SIZE, node]
            of[_CHILDREN, before] += 1
    roots = 0
    for node in range(nodes):  # places in a walk over the tree: all below a node stand in a row behind it
        before = parent[node]
        if before < 0:
            of[_PLACE, node] = roots
            roots += of[_SIZE, node]
        else:
            of[_PLACE, node] = of[_NEXT, before]
            of[_NEXT, before] += of[_SIZE, node]
        of[_NEXT, node] = of[_PLACE, node] + 1
    for request in range(len(at)):
        node = at[request]
        if node < 0:
            continue
        of[_AT, node] += 1
        of[_REACH, node] = max(of[_REACH, node], upto[request])
        before = parent[node]
        if before < 0:
            continue
        if least[request] < start[node]:
            of[_EARLY, node] += 1  # it ends within a stretch that others use whole
        waits, found = after[request], False
        for _ in range(_LOOKS):  # one of another conversation may stand between
            if waits < 0 or found:
                break
            there = at[waits]
            behind = of[_PLACE, there] - of[_PLACE, before] if there >= 0 else -1
            found = behind >= 0 and behind < of[_SIZE, before]
            waits = after[waits]
        if not found:
            of[_EARLY, node] += 1  # it may come before who is at its parent
    for node in range(nodes - 1, -1, -1):
        if parent[node] >= 0:
            of[_EARLY, parent[node]] += of[_EARLY, node]
    for node in range(nodes):
        before = parent[node]
        if before < 0 or of[_CHILDREN, before] != 1 or of[_AT, before] != 1 or of[_EARLY, node] > 0:
            continue
        if of[_REACH, before] <= start[node]:
            goes[node] = goes[before]


def joined_stretches(works: Sequence[Work], tree: PrefixTree) -> tuple[PrefixTree, I64]:
    """The tree with such stretches as one, and of each node the one that it is now part of."""
    first, same = works[0], np.arange(len(tree))
    alike = all(len(one.deployment) == one.requests and np.array_equal(one.prefix_id, first.prefix_id) for one in works)
    if first.after is None or not alike or not (tree.parent >= 0).any():
        return tree, same
    upto: list[I64] = [work.prompt_tokens if work.prefix_tokens is None else work.prefix_tokens for work in works]
    if not _join.nopython_signatures:
        row = "int64[::1]"
        _join.compile(f"void({', '.join([row] * 7)}, int64[:,::1])")
    least = np.min([*upto, *(work.prompt_tokens for work in works)], axis=0)
    given = (tree.parent, tree.start, first.prefix_id, least, np.max(upto, axis=0), first.after)
    goes = same.copy()
    _join(*(np.ascontiguousarray(one, dtype=np.int64) for one in given), goes, np.empty((7, len(tree)), dtype=np.int64))
    return PrefixTree(np.where(tree.parent < 0, -1, goes[tree.parent]), tree.start), goes


__all__ = ["joined_stretches"]
