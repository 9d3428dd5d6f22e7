"""What prompts have in common, from the ids of their blocks, in the terms of a server's prefix cache."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from ttc_sim.base.draws import I64


def shared_prefixes(blocks: Sequence[Sequence[Hashable]]) -> tuple[I64, I64]:
    """Put requests whose prompts begin alike under one prefix each, and say how far each follows it.

    The engines know one prefix a request, so that a prompt is found again only among those under the same one: of any two of
    them, the blocks up to the lesser depth are equal. Prompts are a tree of blocks, cut into paths that follow the branch of
    most requests; a path of few goes with the one that it branches off, where more of its blocks are found again that way.
    What is found is therefore never more than a cache could, and for conversations that grow by turns it is all.

    Args:
        blocks: per request, the ids of its prompt's blocks from the first on; any values that can be told apart.

    Returns:
        (n,) prefix of each request, numbered from 0 in order of appearance, or -1 for none; and (n,) its leading blocks that
        are that prefix's.

    >>> shared_prefixes([[7], [7, 8], [7, 8, 9], [5]])
    (array([ 0,  0,  0, -1]), array([1, 2, 3, 0]))
    """
    node_of: dict[tuple[int, Hashable], int] = {}
    parent, depth, requests = [-1], [0], [len(blocks)]
    ends = []
    for ids in blocks:
        at = 0
        for block in ids:
            after = node_of.setdefault((at, block), len(parent))
            if after == len(parent):
                parent.append(at)
                depth.append(depth[at] + 1)
                requests.append(0)
            at = after
            requests[at] += 1
        ends.append(at)
    largest = [-1] * len(parent)
    for node in range(1, len(parent)):
        before = largest[parent[node]]
        if before < 0 or requests[node] > requests[before]:
            largest[parent[node]] = node
    first = list(range(len(parent)))  # of each node's path
    for node in range(1, len(parent)):
        if parent[node] > 0 and largest[parent[node]] == node:
            first[node] = first[parent[node]]
    members: dict[int, list[int]] = {}  # of each path: how far its requests follow it
    for end in ends:
        members.setdefault(first[end], []).append(depth[end])
    joins = set()
    for node in range(len(parent) - 1, 0, -1):
        mine, branch = members.get(node, []), depth[node] - 1
        if first[node] == node and branch > 0 and sum(mine) - max(mine, default=0) < len(mine) * branch:
            joins.add(node)
            members.setdefault(first[parent[node]], []).extend(min(one, branch) for one in mine)
    goes_with: dict[int, tuple[int, int]] = {}  # of a path that joins: another, and the depth up to which they are one
    for node in sorted(joins):
        other, deepest = goes_with.get(first[parent[node]], (first[parent[node]], depth[node]))
        goes_with[node] = other, min(depth[node] - 1, deepest)
    prefix, follows = np.empty(len(ends), dtype=np.int64), np.empty(len(ends), dtype=np.int64)
    for i, end in enumerate(ends):
        other, deepest = goes_with.get(first[end], (first[end], depth[end]))
        prefix[i], follows[i] = other, min(deepest, depth[end])
    _, where, index, count = np.unique(prefix, return_index=True, return_inverse=True, return_counts=True)
    alone = (follows == 0) | (count[index] == 1)
    number = np.full(len(where), -1, dtype=np.int64)
    kept = np.unique(index[~alone])
    number[kept[np.argsort(where[kept], kind="stable")]] = np.arange(len(kept))
    return np.where(alone, -1, number[index]), np.where(alone, 0, follows)
