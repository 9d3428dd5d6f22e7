"""vLLM's cache, block by block: hashes, reference counts and a queue of free blocks, beside a replica of the reference engine."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Hashable
from typing import Any

import pytest

from ttc_sim.engine.kv_cache import BLOCK
from ttc_sim.engine.replica import Replica


class BlockPool:
    """As ``vllm/v1/core/block_pool.py`` has it: a block that is free remembers what it held until it is taken."""

    def __init__(self, blocks: int) -> None:
        self.queue = OrderedDict.fromkeys(range(blocks))
        self.users = [0] * blocks
        self.holds: list[Hashable] = [None] * blocks
        self.found: dict[Hashable, OrderedDict[int, None]] = defaultdict(OrderedDict)
        self.held: dict[Any, list[int]] = {}

    def hit(self, sequence: Any) -> list[int]:
        """Leading blocks of a sequence that are here; its last token has to be computed."""
        blocks: list[int] = []
        for k in range((sequence.length - 1) // BLOCK):
            same = self.found.get(content(sequence, k))
            if not same:
                break
            blocks.append(next(iter(same)))
        return blocks

    def use(self, sequence: Any, blocks: list[int]) -> None:
        for block in blocks:
            if self.users[block] == 0:
                del self.queue[block]
            self.users[block] += 1
        self.held[sequence] = list(blocks)

    def grow(self, sequence: Any, count: int) -> None:
        while len(self.held[sequence]) < count:
            block, _ = self.queue.popitem(last=False)
            if self.holds[block] is not None:
                del self.found[self.holds[block]][block]
            self.holds[block], self.users[block] = None, 1
            self.held[sequence].append(block)

    def keep(self, sequence: Any, tokens: int) -> None:
        """Let the full blocks among so many tokens be found."""
        for k, block in enumerate(self.held[sequence][: tokens // BLOCK]):
            if self.holds[block] is None:
                self.holds[block] = content(sequence, k)
                self.found[self.holds[block]][block] = None

    def free(self, sequence: Any) -> None:
        for block in reversed(self.held.pop(sequence)):
            self.users[block] -= 1
            if self.users[block] == 0:
                self.queue[block] = None


def content(sequence: Any, k: int) -> Hashable:
    """What a block of a sequence holds, with all that is before it."""
    stage = sequence.stage
    end = BLOCK * (k + 1)
    several = len(stage.tokens) > 1
    of_prefix = min(stage.prefix_tokens, stage.prompt) if several else stage.prefix_tokens
    if stage.prefix_id >= 0 and end <= of_prefix:
        if stage.prefixes is None:
            return "prefix", stage.prefix_id, k
        path = stage.prefixes.path(stage.prefix_id)
        return "prefix", [node for node in path if stage.prefixes.start[node] < end][-1], k
    if end <= stage.prompt:
        return "prompt", stage.number, k if several else (sequence, k)
    return "answer", sequence, k


def compare_with_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on each replica of the reference engine has such a cache beside it, and finds what that finds.

    Returns:
        Blocks that were found so far, of each sequence that was admitted.
    """
    pools: dict[int, BlockPool] = {}
    kept: list[Any] = []  # so that no other gets the number of one that is gone
    seen: list[int] = []
    admit, allocate, release = Replica._admit, Replica._allocate, Replica._release

    def pool_of(replica: Replica) -> BlockPool:
        if id(replica) not in pools:
            kept.append(replica)
            pools[id(replica)] = BlockPool(replica.kv.total)
        return pools[id(replica)]

    def admits(self: Replica, sequence: Any, budget: int) -> int:
        pool = pool_of(self)
        blocks = pool.hit(sequence)
        tokens = admit(self, sequence, budget)
        if tokens:
            assert sequence.computed // BLOCK == len(blocks)
            seen.append(len(blocks))
            pool.use(sequence, blocks)
            pool.grow(sequence, sequence.blocks)
            pool.keep(sequence, sequence.computed + tokens)
            assert len(pool.queue) == self.kv.free
        return tokens

    def allocates(self: Replica, sequence: Any, tokens: int) -> bool:
        pool, fits = pool_of(self), allocate(self, sequence, tokens)
        if fits:
            pool.grow(sequence, sequence.blocks)
            if sequence.prefilling:
                pool.keep(sequence, sequence.computed + tokens)
            assert len(pool.queue) == self.kv.free
        return fits

    def releases(self: Replica, sequence: Any) -> None:
        pool = pool_of(self)
        pool.keep(sequence, sequence.computed)
        pool.free(sequence)
        release(self, sequence)
        assert len(pool.queue) == self.kv.free

    monkeypatch.setattr(Replica, "_admit", admits)
    monkeypatch.setattr(Replica, "_allocate", allocates)
    monkeypatch.setattr(Replica, "_release", releases)
    return seen
