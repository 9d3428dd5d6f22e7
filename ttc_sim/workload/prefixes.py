"""What prompts have in common, from the ids of their blocks, in the terms of a server's prefix cache."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.base.prefix_tree import PrefixTree


def shared_prefixes(blocks: Sequence[Sequence[Hashable]], block_tokens: I64) -> tuple[PrefixTree, I64, I64]:
    """The tree of what prompts begin with, as far as two of them have it in common.

    A stretch of the tree ends where prompts part, or where one of them ends or goes on with what no other has.

    Args:
        blocks: per request, the ids of its prompt's blocks from the first on; any values that can be told apart. Equal ids that
            stand behind unequal ones are two blocks.
        block_tokens: (n,) tokens that each of a request's ids stands for; equal where ids are.

    Returns:
        The tree, in tokens; (n,) the node that each prompt is at, -1 where no other begins as it does; and (n,) its leading
        tokens that are those of its path.

    >>> tree, prefix, tokens = shared_prefixes([[7], [7, 8], [7, 8, 9], [5]], np.full(4, 512))
    >>> tree.parent.tolist(), tree.start.tolist(), prefix.tolist(), tokens.tolist()
    ([-1, 0], [0, 512], [0, 1, 1, -1], [512, 1024, 1024, 0])
    """
    node_of: dict[tuple[int, Hashable], int] = {}
    parent, depth, requests, size = [-1], [0], [0], [0]
    ends = []
    for ids, tokens in zip(blocks, block_tokens.tolist(), strict=True):
        at = 0
        for block in ids:
            after = node_of.setdefault((at, block), len(parent))
            if after == len(parent):
                parent.append(at)
                depth.append(depth[at] + 1)
                requests.append(0)
                size.append(tokens)
            at = after
            requests[at] += 1
        ends.append(at)
    stretch, shared = [-1] * len(parent), [0] * len(parent)
    before: list[int] = []
    start: list[int] = []
    for node in range(1, len(parent)):
        at = parent[node]
        stretch[node], shared[node] = stretch[at], shared[at]
        if requests[node] > 1:
            shared[node] = depth[node]
            if at == 0 or requests[node] < requests[at]:
                stretch[node] = len(before)
                before.append(stretch[at])
                start.append((depth[node] - 1) * size[node])
    tree = PrefixTree(np.array(before, dtype=np.int64), np.array(start, dtype=np.int64))
    prefix = np.array([stretch[end] for end in ends], dtype=np.int64)
    return tree, prefix, np.array([shared[end] for end in ends], dtype=np.int64) * block_tokens
