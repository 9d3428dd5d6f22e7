"""What prompts have in common: a tree of stretches of tokens, each of which follows its parent's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import I64


@dataclass(frozen=True, eq=False)
class PrefixTree:
    """Stretches of tokens that prompts begin with. Two prompts have in common what their paths from the root have.

    A prompt is at one node: its tokens are those of the node's ancestors, each up to where the next begins, then the node's own, as
    far as the prompt follows it. A node's tokens end where its children begin, or with the longest prompt that is at it.

    Attributes:
        parent: (nodes,) a node of a lower number, or -1 of one that prompts begin with.
        start: (nodes,) tokens before it: 0 where it has no parent, and at least its parent's.

    >>> tree = PrefixTree(np.array([-1, 0, 0]), np.array([0, 1024, 1024]))
    >>> tree.path(2)
    [0, 2]
    """

    parent: I64
    start: I64

    def __len__(self) -> int:
        return len(self.parent)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrefixTree):
            return NotImplemented
        return np.array_equal(self.parent, other.parent) and np.array_equal(self.start, other.start)

    __hash__ = None  # type: ignore[assignment]

    def path(self, node: int) -> list[int]:
        """From the root to a node."""
        found = []
        while node >= 0:
            found.append(node)
            node = int(self.parent[node])
        return found[::-1]

    def check(self) -> None:
        """Refuse what is no tree of stretches.

        Raises:
            ValueError: a node whose parent is no earlier one, or that begins before it.
        """
        if self.parent.shape != self.start.shape:
            raise ValueError("prefixes: a parent and a start for each node")
        if (self.parent >= np.arange(len(self))).any() or (self.parent < -1).any():
            raise ValueError("prefixes: parents must be earlier nodes, or -1")
        if (self.start < np.where(self.parent < 0, 0, self.start[self.parent])).any():
            raise ValueError("prefixes: a node must not begin before its parent")
        if self.start[self.parent < 0].any():
            raise ValueError("prefixes: nodes without a parent must begin at 0")

    def deepest(self) -> int:
        """Nodes of the longest path; 0 without any."""
        depth = np.ones(len(self), dtype=np.int64)
        before = self.parent.copy()
        while (some := np.flatnonzero(before >= 0)).size:  # twice as far up each time
            depth[some], before[some] = depth[some] + depth[before[some]], before[before[some]]
        return int(depth.max(initial=0))

    def branches(self, at: I64) -> I64:
        """Where those part that are at these nodes: each goes with the branch of most of them that it follows.

        Returns:
            (nodes,) the node that its branch begins with: prompts on one branch are alike, as those of a conversation.
        """
        parent = self.parent.tolist()
        count = np.bincount(at[at >= 0], minlength=len(self)).tolist()
        for node in range(len(parent) - 1, -1, -1):
            if parent[node] >= 0:
                count[parent[node]] += count[node]
        most = [-1] * len(parent)
        for node, before in enumerate(parent):
            if before >= 0 and (most[before] < 0 or count[node] > count[most[before]]):
                most[before] = node
        first = list(range(len(parent)))
        for node, before in enumerate(parent):
            if before >= 0 and most[before] == node:
                first[node] = first[before]
        return np.array(first, dtype=np.int64)

    def kept(self, nodes: I64) -> tuple[PrefixTree, I64]:
        """The nodes that lead to some, in their order; and (nodes + 1,) the number that each now has, -1 of others and of none.

        >>> tree, number = PrefixTree(np.array([-1, 0, 0]), np.array([0, 1024, 1024])).kept(np.array([2]))
        >>> tree.parent, number
        (array([-1,  0]), array([ 0, -1,  1, -1]))
        """
        used = np.zeros(len(self) + 1, dtype=np.bool_)
        found = np.unique(nodes)
        while len(found := found[(found >= 0) & ~used[found]]):
            used[found] = True
            found = np.unique(self.parent[found])
        number = np.where(used, np.cumsum(used) - 1, -1)
        return PrefixTree(number[self.parent[used[:-1]]], self.start[used[:-1]]), number

    @staticmethod
    def of_roots(count: int) -> PrefixTree:
        """So many prefixes that have nothing in common."""
        return PrefixTree(np.full(count, -1, dtype=np.int64), np.zeros(count, dtype=np.int64))


def beside_one_another(trees: Sequence[PrefixTree]) -> PrefixTree:
    """Trees that have nothing in common, as one: the nodes of each are numbered on from those of the one before."""
    first = np.cumsum([0, *(len(tree) for tree in trees)])
    parents = [np.where(tree.parent < 0, -1, tree.parent + k) for tree, k in zip(trees, first, strict=False)]
    return PrefixTree(np.concatenate(parents), np.concatenate([tree.start for tree in trees]))


__all__ = ["PrefixTree", "beside_one_another"]
