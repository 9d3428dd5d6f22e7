"""A replica's queue and batch: who joins, who leaves, and the blocks that they hold. See :mod:`ttc_sim.engine.replica`."""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled import state
from ttc_sim.engine.compiled.heaps import delay_end, push_end, remove_end
from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.kv import blocks_for, claim, forget, give, give_chain, take
from ttc_sim.engine.compiled.state import (
    DECODE,
    FREE_GROUPS,
    FREE_SEQUENCES,
    LEVELS,
    PREFILL,
    PREFIXES,
    REPLICAS,
    WAITING,
    Memory,
)


@inlined
def own_chain(m: Memory, slot: int, left: int) -> int:
    """Chain of a group's prompt (0), or of what a preempted sequence left in the cache (1)."""
    return int(state.counters(m)[REPLICAS] * (1 + state.counters(m)[PREFIXES]) + 2 * slot + left)


@inlined
def enqueue(m: Memory, r: int, q: int, first: bool) -> None:
    level = r * state.counters(m)[LEVELS] + state.sequences(m)[q].level
    head, tail = state.waiting_first(m)[level], state.waiting_last(m)[level]
    if first:
        state.sequences(m)[q].previous, state.sequences(m)[q].next = -1, head
        if head >= 0:
            state.sequences(m)[head].previous = q
        else:
            state.waiting_last(m)[level] = q
        state.waiting_first(m)[level] = q
    else:
        state.sequences(m)[q].previous, state.sequences(m)[q].next = tail, -1
        if tail >= 0:
            state.sequences(m)[tail].next = q
        else:
            state.waiting_first(m)[level] = q
        state.waiting_last(m)[level] = q
    state.sequences(m)[q].state = WAITING
    state.replicas(m)[r].waiting += 1
    state.replicas(m)[r].waiting_blocks += blocks_for(state.sequences(m)[q].length)
    state.deployments(m)[state.replicas(m)[r].deployment].waiting += 1


@inlined
def dequeue(m: Memory, r: int, q: int) -> None:
    level = r * state.counters(m)[LEVELS] + state.sequences(m)[q].level
    before, after = state.sequences(m)[q].previous, state.sequences(m)[q].next
    if before >= 0:
        state.sequences(m)[before].next = after
    else:
        state.waiting_first(m)[level] = after
    if after >= 0:
        state.sequences(m)[after].previous = before
    else:
        state.waiting_last(m)[level] = before
    state.replicas(m)[r].waiting -= 1
    state.replicas(m)[r].waiting_blocks -= blocks_for(state.sequences(m)[q].length)
    state.deployments(m)[state.replicas(m)[r].deployment].waiting -= 1


@inlined
def head_of_queue(m: Memory, r: int) -> int:
    for level in range(r * state.counters(m)[LEVELS], (r + 1) * state.counters(m)[LEVELS]):
        if state.waiting_first(m)[level] >= 0:
            return int(state.waiting_first(m)[level])
    return -1


@inlined
def append_running(m: Memory, r: int, q: int) -> None:
    last = state.replicas(m)[r].last
    state.sequences(m)[q].previous, state.sequences(m)[q].next = last, -1
    if last >= 0:
        state.sequences(m)[last].next = q
    else:
        state.replicas(m)[r].first = q
    state.replicas(m)[r].last = q
    state.replicas(m)[r].running += 1
    state.deployments(m)[state.replicas(m)[r].deployment].running += 1


@inlined
def _remove_running(m: Memory, r: int, q: int) -> None:
    before, after = state.sequences(m)[q].previous, state.sequences(m)[q].next
    if before >= 0:
        state.sequences(m)[before].next = after
    else:
        state.replicas(m)[r].first = after
    if after >= 0:
        state.sequences(m)[after].previous = before
    else:
        state.replicas(m)[r].last = before
    if state.replicas(m)[r].partial == q:
        state.replicas(m)[r].partial = -1
    if state.replicas(m)[r].prefill == q:
        state.replicas(m)[r].prefill = after
    state.replicas(m)[r].running -= 1
    state.deployments(m)[state.replicas(m)[r].deployment].running -= 1


# ----------------------------------------------------------------------------------------------------- decoding


@inlined
def begin_decoding(m: Memory, r: int, q: int) -> None:
    """From the iteration that has just ended, in which it got a token, on."""
    seq = state.sequences(m)
    iteration = state.replicas(m)[r].iteration
    seq[q].state = DECODE
    seq[q].offset = seq[q].length - iteration
    seq[q].end = iteration + seq[q].output - (seq[q].length - seq[q].prompt)
    state.due(m)[r * 16 + ((2 - seq[q].offset) & 15)] += 1
    state.replicas(m)[r].decoding += 1
    state.replicas(m)[r].kv += seq[q].length
    push_end(m, r, q)


@inlined
def _stop_decoding(m: Memory, r: int, q: int) -> None:
    seq = state.sequences(m)
    seq[q].length = seq[q].offset + state.replicas(m)[r].iteration
    seq[q].computed = seq[q].length - 1
    seq[q].blocks = blocks_for(seq[q].computed)
    state.due(m)[r * 16 + ((2 - seq[q].offset) & 15)] -= 1
    state.replicas(m)[r].decoding -= 1
    state.replicas(m)[r].kv -= seq[q].length
    remove_end(m, r, q)


@inlined
def skip_iteration(m: Memory, r: int, q: int) -> None:
    """Let a decoding sequence sit out the next iteration."""
    offset = state.sequences(m)[q].offset
    state.due(m)[r * 16 + ((2 - offset) & 15)] -= 1
    state.due(m)[r * 16 + ((3 - offset) & 15)] += 1
    state.sequences(m)[q].offset -= 1
    delay_end(m, r, q)


# ------------------------------------------------------------------------------------------------ shared blocks


@inlined
def _lead(m: Memory, q: int, chain: int, limit: int, full: int) -> None:
    end = min(full, limit)
    shared = state.sequences(m)[q].shared
    if state.chains(m)[chain].start <= shared and shared == state.chains(m)[chain].end and shared < end:
        state.chains(m)[chain].end = end
        state.sequences(m)[q].shared = end


@inlined
def share(m: Memory, q: int, tokens: int) -> None:
    """Let others find the full blocks among so many tokens, where the sequence is the one that leads a chain."""
    g = state.sequences(m)[q].group
    if state.groups(m)[g].prefix >= 0:
        _lead(m, q, state.groups(m)[g].prefix, state.groups(m)[g].limit, tokens // 16)
    if state.groups(m)[g].own_limit > 0:
        _lead(m, q, own_chain(m, g, 0), state.groups(m)[g].own_limit, tokens // 16)


@inlined
def _unuse(m: Memory, r: int, chain: int) -> None:
    state.chains(m)[chain].users -= 1
    if state.chains(m)[chain].users == 0:
        give_chain(m, r, chain)


@compiled
def _release(m: Memory, r: int, q: int, left: int) -> None:
    """Free a sequence's blocks, the last ones first; ``left`` of them it may find again."""
    g = state.sequences(m)[q].group
    give(m, r, state.sequences(m)[q].blocks - state.sequences(m)[q].shared - left)
    if left > 0:
        chain = own_chain(m, q, 1)
        state.chains(m)[chain].start = state.sequences(m)[q].shared
        state.chains(m)[chain].end = state.sequences(m)[q].shared + left
        give_chain(m, r, chain)
    if state.groups(m)[g].own_limit > 0:
        _unuse(m, r, own_chain(m, g, 0))
    if state.groups(m)[g].prefix >= 0:
        _unuse(m, r, state.groups(m)[g].prefix)
    state.sequences(m)[q].blocks = state.sequences(m)[q].shared = 0


# ----------------------------------------------------------------------------------------------- join and leave


@compiled
def preempt(m: Memory, r: int, q: int, scheduled: bool) -> None:
    """Put a running sequence back into the queue; ``scheduled``: it has got its blocks of the next iteration already."""
    seq = state.sequences(m)
    if seq[q].state == DECODE:
        _stop_decoding(m, r, q)
        if scheduled:
            seq[q].blocks = blocks_for(seq[q].length)
    _remove_running(m, r, q)
    left = 0
    if state.deployments(m)[state.replicas(m)[r].deployment].caching:
        left = max(seq[q].computed // 16 - seq[q].shared, 0)
    _release(m, r, q, left)
    seq[q].computed = 0
    state.preemptions(m)[state.groups(m)[seq[q].group].request] += 1
    enqueue(m, r, q, True)


@compiled
def admit(m: Memory, r: int, q: int, budget: int, reserved: int, now_s: float) -> int:
    """Find room for a waiting sequence; returns the tokens it takes in, 0 if there is no room.

    With ``reserved`` blocks that others are to get first, only says whether there may be room after that.
    """
    seq, chains = state.sequences(m), state.chains(m)
    g = seq[q].group
    most = (seq[q].length - 1) // 16
    hit = claimed = 0
    prefix, own, left = state.groups(m)[g].prefix, own_chain(m, g, 0), own_chain(m, q, 1)
    prefix_end = own_end = 0
    if prefix >= 0:
        prefix_end = hit = min(chains[prefix].end, state.groups(m)[g].limit, most)
        if chains[prefix].users == 0:
            claimed += prefix_end
    if state.groups(m)[g].own_limit > 0:
        own_end = chains[own].start
        if own_end == hit:
            own_end = hit = max(min(chains[own].end, state.groups(m)[g].own_limit, most), own_end)
            if chains[own].users == 0:
                claimed += own_end - chains[own].start
    shared = hit
    if chains[left].following >= 0 and chains[left].start == hit:
        hit = min(chains[left].end, most)
        claimed += hit - chains[left].start
    tokens = min(seq[q].length - hit * 16, budget)
    blocks = blocks_for(hit * 16 + tokens)
    # As vLLM 0.19: only if all that is known of it fits, though the first chunk may be less.
    if blocks_for(seq[q].length) - hit + claimed > state.replicas(m)[r].free - reserved:
        return 0
    if reserved > 0:
        return 1
    if prefix >= 0:
        if chains[prefix].users == 0:
            claim(m, r, prefix, prefix_end)
        chains[prefix].users += 1
    if state.groups(m)[g].own_limit > 0:
        if chains[own].users == 0:
            claim(m, r, own, own_end)
        chains[own].users += 1
    if hit > shared:
        claim(m, r, left, hit)
    forget(m, left)
    take(m, r, blocks - hit)
    seq[q].blocks, seq[q].shared, seq[q].computed = blocks, shared, hit * 16
    seq[q].prefilled = max(seq[q].prefilled, min(hit * 16, seq[q].prompt))
    request, stage = state.groups(m)[g].request, state.groups(m)[g].stage
    if np.isnan(state.started_s(m)[request]):
        state.started_s(m)[request] = now_s
    if seq[q].sample == state.groups(m)[g].first_sample and seq[q].length == seq[q].prompt:
        state.cached(m)[stage] = max(state.cached(m)[stage], shared * 16)
    share(m, q, hit * 16 + tokens)
    dequeue(m, r, q)
    append_running(m, r, q)
    seq[q].state = PREFILL
    seq[q].chunk = tokens
    return int(tokens)


@compiled
def leave(m: Memory, r: int, q: int) -> None:
    """Take a sequence out for good, and write down what it has had."""
    seq, g = state.sequences(m), state.sequences(m)[q].group
    if seq[q].state == WAITING:
        dequeue(m, r, q)
        forget(m, own_chain(m, q, 1))
    else:
        if seq[q].state == DECODE:
            _stop_decoding(m, r, q)
        _remove_running(m, r, q)
        share(m, q, seq[q].computed)
        _release(m, r, q, 0)
    stage = state.groups(m)[g].stage
    state.generated(m)[seq[q].sample] = seq[q].length - seq[q].prompt
    state.prefilled(m)[stage] = max(state.prefilled(m)[stage], seq[q].prefilled)
    if state.groups(m)[g].first == q:
        state.groups(m)[g].first = seq[q].sibling
    else:
        other = state.groups(m)[g].first
        while seq[other].sibling != q:
            other = seq[other].sibling
        seq[other].sibling = seq[q].sibling
    state.free_sequences(m)[state.counters(m)[FREE_SEQUENCES]] = q
    state.counters(m)[FREE_SEQUENCES] += 1
    state.groups(m)[g].unfinished -= 1
    if state.groups(m)[g].unfinished == 0:
        if state.groups(m)[g].own_limit > 0:
            forget(m, own_chain(m, g, 0))
        state.free_groups(m)[state.counters(m)[FREE_GROUPS]] = g
        state.counters(m)[FREE_GROUPS] += 1
