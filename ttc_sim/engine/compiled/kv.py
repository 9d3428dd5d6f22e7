"""KV blocks of the compiled engine; the meaning is that of :class:`ttc_sim.engine.kv_cache.KvCache`.

The queue of free blocks is a ring of chains, each after a gap of blocks that belong to none; a replica's own entry of ``chains``
is where the ring begins, and its gap is what was freed last.
"""

from __future__ import annotations

from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.state import Records


@inlined
def blocks_for(tokens: int) -> int:
    return (tokens + 15) // 16


@compiled
def _unlink(chains: Records, chain: int) -> None:
    before, after = chains[chain].previous, chains[chain].following
    chains[before].following, chains[after].previous = after, before
    chains[after].gap += chains[chain].gap
    chains[chain].gap = chains[chain].count = 0
    chains[chain].following = -1


@compiled
def take(replicas: Records, chains: Records, r: int, blocks: int) -> None:
    replicas[r].free -= blocks
    while blocks > 0:
        front = chains[r].following
        used = min(blocks, chains[front].gap)
        chains[front].gap -= used
        blocks -= used
        if blocks > 0:
            used = min(blocks, chains[front].count)
            chains[front].count -= used
            chains[front].end -= used
            blocks -= used
            if chains[front].count == 0:
                _unlink(chains, front)


@inlined
def give(replicas: Records, chains: Records, r: int, blocks: int) -> None:
    replicas[r].free += blocks
    chains[r].gap += blocks


@compiled
def give_chain(replicas: Records, chains: Records, r: int, chain: int) -> None:
    blocks = chains[chain].end - chains[chain].start
    if blocks == 0:
        return
    replicas[r].free += blocks
    last = chains[r].previous
    chains[chain].previous, chains[chain].following = last, r
    chains[last].following = chains[r].previous = chain
    chains[chain].count = blocks
    chains[chain].gap = chains[r].gap
    chains[r].gap = 0


@compiled
def claim(replicas: Records, chains: Records, r: int, chain: int, end: int) -> None:
    if chains[chain].following >= 0:
        used = end - chains[chain].start
        replicas[r].free -= used
        chains[chain].gap += chains[chain].count - used
        _unlink(chains, chain)
    chains[chain].end = end


@compiled
def forget(chains: Records, chain: int) -> None:
    if chains[chain].following >= 0:
        chains[chain].gap += chains[chain].count
        _unlink(chains, chain)
    chains[chain].start = chains[chain].end = chains[chain].users = 0
