"""KV blocks of the compiled engine; the meaning is that of :class:`ttc_sim.engine.kv_cache.KvCache`.

The queue of free blocks is a ring of chains, each after a gap of blocks that belong to none; a replica's own entry of ``chains``
is where the ring begins, and its gap is what was freed last.
"""

from __future__ import annotations

from ttc_sim.engine.compiled.jit import compiled, inlined, merged
from ttc_sim.engine.compiled.state import FREE_CHAINS, OWN, PREFIXES, Memory


@inlined
def blocks_for(tokens: int) -> int:
    return (tokens + 15) // 16


@compiled
def _unlink(m: Memory, chain: int) -> None:
    mine = m.chains[chain]
    before, after = mine.previous, mine.following
    m.chains[before].following, m.chains[after].previous = after, before
    m.chains[after].gap += mine.gap
    mine.gap = mine.count = 0
    mine.following = -1


@inlined
def chain_of(m: Memory, r: int, node: int) -> int:
    """The chain that holds blocks of a prefix, or has users; 0 if there is none."""
    return int(m.chain_at[r * m.counters[PREFIXES] + node])


@compiled
def chain_for(m: Memory, r: int, node: int) -> int:
    """The same, and a new one if there is none; there must be room for it."""
    place = r * m.counters[PREFIXES] + node
    if m.chain_at[place] == 0:
        m.counters[FREE_CHAINS] -= 1
        chain = m.free_chains[m.counters[FREE_CHAINS]]
        m.chain_at[place] = chain
        one = m.chains[chain]
        one.start = one.end = m.prefix_start[node]
        one.users = 0
        one.following = -1
        one.place = place
    return int(m.chain_at[place])


@compiled
def drop_chain(m: Memory, chain: int) -> None:
    """Let go a prefix's chain that holds nothing, and that nobody uses."""
    m.chain_at[m.chains[chain].place] = 0
    m.free_chains[m.counters[FREE_CHAINS]] = chain
    m.counters[FREE_CHAINS] += 1


@compiled
def take(m: Memory, r: int, blocks: int) -> None:
    m.replicas[r].free -= blocks
    while blocks > 0:
        front = m.chains[r].following
        used = min(blocks, m.chains[front].gap)
        m.chains[front].gap -= used
        blocks -= used
        if blocks > 0:
            used = min(blocks, m.chains[front].count)
            m.chains[front].count -= used
            m.chains[front].end -= used
            blocks -= used
            if m.chains[front].count == 0:
                _unlink(m, front)
                if front < m.counters[OWN]:
                    drop_chain(m, front)


@merged
def give(m: Memory, r: int, blocks: int) -> None:
    m.replicas[r].free += blocks
    m.chains[r].gap += blocks


@compiled
def give_chain(m: Memory, r: int, chain: int) -> None:
    mine = m.chains[chain]
    blocks = mine.end - mine.start
    if blocks == 0:
        return
    m.replicas[r].free += blocks
    last = m.chains[r].previous
    mine.previous, mine.following = last, r
    m.chains[last].following = m.chains[r].previous = chain
    mine.count = blocks
    mine.gap = m.chains[r].gap
    m.chains[r].gap = 0


@compiled
def claim(m: Memory, r: int, chain: int, end: int) -> None:
    mine = m.chains[chain]
    if mine.following >= 0:
        used = end - mine.start
        m.replicas[r].free -= used
        mine.gap += mine.count - used
        _unlink(m, chain)
    mine.end = end


@compiled
def forget(m: Memory, chain: int) -> None:
    mine = m.chains[chain]
    if mine.following >= 0:
        mine.gap += mine.count
        _unlink(m, chain)
    mine.start = mine.end = mine.users = 0
