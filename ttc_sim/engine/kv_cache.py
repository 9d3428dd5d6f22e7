"""The KV cache of one replica in the reference engine: blocks of 16 tokens, of which free ones remember what they held."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from ttc_sim.base.prefix_tree import PrefixTree

BLOCK = 16
UNLIMITED = 1 << 40


def blocks_for(tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // BLOCK)


def stretches(prefixes: PrefixTree | None, node: int, blocks: int) -> list[tuple[int, int, int]]:
    """The nodes that the first so many full blocks of a prompt belong to, from the root on: node, first block, end.

    A block that two nodes have tokens in is the latter's: what it holds depends on it.

    >>> import numpy as np
    >>> stretches(PrefixTree(np.array([-1, 0, 1]), np.array([0, 40, 45])), 2, 9)
    [(0, 0, 2), (2, 2, 9)]
    """
    path = [node] if prefixes is None else prefixes.path(node)
    starts = [0] if prefixes is None else [int(prefixes.start[one]) // BLOCK for one in path]
    ends = [min(end, blocks) for end in [*starts[1:], blocks]]
    return [one for one in zip(path, starts, ends, strict=True) if one[1] < one[2]]


@dataclass(eq=False)
class Chain:
    """Consecutive full blocks ``start`` to ``end`` of a prompt that can be found again; in use by ``users`` sequences."""

    start: int = 0
    end: int = 0
    users: int = 0
    freed: _Freed | None = None


@dataclass(eq=False)
class _Freed:
    """Neighbouring free blocks, of a chain or of none."""

    blocks: int
    chain: Chain | None


class KvCache:
    """Counts blocks; those that were free the longest are taken first, a chain's from its end.

    >>> cache = KvCache(10)
    >>> chain = Chain(start=0, end=4)
    >>> cache.take(6)
    >>> cache.give(4, chain)
    >>> cache.take(5); chain.end, cache.free
    (3, 3)
    >>> cache.claim(chain, 2); chain.end, cache.free
    (2, 1)
    """

    def __init__(self, blocks: int) -> None:
        self.total = self.free = blocks
        first = _Freed(blocks, None)
        self.queue: OrderedDict[int, _Freed] = OrderedDict({id(first): first})

    def take(self, blocks: int) -> None:
        """Take so many blocks, which must be free; what they held is forgotten."""
        self.free -= blocks
        while blocks:
            freed = next(iter(self.queue.values()))
            taken = min(blocks, freed.blocks)
            self._shrink(freed, taken)
            blocks -= taken

    def give(self, blocks: int, chain: Chain | None = None) -> None:
        """Free so many blocks; those of a chain can be claimed until they are taken."""
        if not blocks:
            return
        self.free += blocks
        freed = _Freed(blocks, chain)
        self.queue[id(freed)] = freed
        if chain is not None:
            chain.freed = freed

    def claim(self, chain: Chain, end: int) -> None:
        """Take a chain's blocks back into use, up to ``end``; the rest of it is forgotten."""
        freed = chain.freed
        if freed is not None:
            freed.chain = chain.freed = None
            self.free -= end - chain.start
            self._shrink(freed, end - chain.start)
        chain.end = end

    def _shrink(self, freed: _Freed, blocks: int) -> None:
        freed.blocks -= blocks
        if freed.chain is not None:
            freed.chain.end -= blocks
        if not freed.blocks:
            del self.queue[id(freed)]
            if freed.chain is not None:
                freed.chain.freed = None
