"""KV blocks of the compiled engine; the meaning is that of :class:`ttc_sim.engine.kv_cache.KvCache`.

The queue of free blocks is a ring of chains, each after a gap of blocks that belong to none; a replica's own entry of ``chains``
is where the ring begins, and its gap is what was freed last.
"""

from __future__ import annotations

from ttc_sim.engine.compiled import state
from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.state import Memory


@inlined
def blocks_for(tokens: int) -> int:
    return (tokens + 15) // 16


@compiled
def _unlink(m: Memory, chain: int) -> None:
    before, after = state.chains(m)[chain].previous, state.chains(m)[chain].following
    state.chains(m)[before].following, state.chains(m)[after].previous = after, before
    state.chains(m)[after].gap += state.chains(m)[chain].gap
    state.chains(m)[chain].gap = state.chains(m)[chain].count = 0
    state.chains(m)[chain].following = -1


@compiled
def take(m: Memory, r: int, blocks: int) -> None:
    state.replicas(m)[r].free -= blocks
    while blocks > 0:
        front = state.chains(m)[r].following
        used = min(blocks, state.chains(m)[front].gap)
        state.chains(m)[front].gap -= used
        blocks -= used
        if blocks > 0:
            used = min(blocks, state.chains(m)[front].count)
            state.chains(m)[front].count -= used
            state.chains(m)[front].end -= used
            blocks -= used
            if state.chains(m)[front].count == 0:
                _unlink(m, front)


@inlined
def give(m: Memory, r: int, blocks: int) -> None:
    state.replicas(m)[r].free += blocks
    state.chains(m)[r].gap += blocks


@compiled
def give_chain(m: Memory, r: int, chain: int) -> None:
    blocks = state.chains(m)[chain].end - state.chains(m)[chain].start
    if blocks == 0:
        return
    state.replicas(m)[r].free += blocks
    last = state.chains(m)[r].previous
    state.chains(m)[chain].previous, state.chains(m)[chain].following = last, r
    state.chains(m)[last].following = state.chains(m)[r].previous = chain
    state.chains(m)[chain].count = blocks
    state.chains(m)[chain].gap = state.chains(m)[r].gap
    state.chains(m)[r].gap = 0


@compiled
def claim(m: Memory, r: int, chain: int, end: int) -> None:
    if state.chains(m)[chain].following >= 0:
        used = end - state.chains(m)[chain].start
        state.replicas(m)[r].free -= used
        state.chains(m)[chain].gap += state.chains(m)[chain].count - used
        _unlink(m, chain)
    state.chains(m)[chain].end = end


@compiled
def forget(m: Memory, chain: int) -> None:
    if state.chains(m)[chain].following >= 0:
        state.chains(m)[chain].gap += state.chains(m)[chain].count
        _unlink(m, chain)
    state.chains(m)[chain].start = state.chains(m)[chain].end = state.chains(m)[chain].users = 0
