"""A replica's queue and batch: who joins, who leaves, and the blocks that they hold. See :mod:`ttc_sim.engine.replica`."""

from __future__ import annotations

import numpy as np

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
    return int(m.counters[REPLICAS] * (1 + m.counters[PREFIXES]) + 2 * slot + left)


@inlined
def enqueue(m: Memory, r: int, q: int, first: bool) -> None:
    level = r * m.counters[LEVELS] + m.sequences[q].level
    head, tail = m.waiting_first[level], m.waiting_last[level]
    if first:
        m.sequences[q].previous, m.sequences[q].next = -1, head
        if head >= 0:
            m.sequences[head].previous = q
        else:
            m.waiting_last[level] = q
        m.waiting_first[level] = q
    else:
        m.sequences[q].previous, m.sequences[q].next = tail, -1
        if tail >= 0:
            m.sequences[tail].next = q
        else:
            m.waiting_first[level] = q
        m.waiting_last[level] = q
    m.sequences[q].state = WAITING
    m.replicas[r].waiting += 1
    m.replicas[r].waiting_blocks += blocks_for(m.sequences[q].length)
    m.deployments[m.replicas[r].deployment].waiting += 1


@inlined
def dequeue(m: Memory, r: int, q: int) -> None:
    level = r * m.counters[LEVELS] + m.sequences[q].level
    before, after = m.sequences[q].previous, m.sequences[q].next
    if before >= 0:
        m.sequences[before].next = after
    else:
        m.waiting_first[level] = after
    if after >= 0:
        m.sequences[after].previous = before
    else:
        m.waiting_last[level] = before
    m.replicas[r].waiting -= 1
    m.replicas[r].waiting_blocks -= blocks_for(m.sequences[q].length)
    m.deployments[m.replicas[r].deployment].waiting -= 1


@inlined
def head_of_queue(m: Memory, r: int) -> int:
    for level in range(r * m.counters[LEVELS], (r + 1) * m.counters[LEVELS]):
        if m.waiting_first[level] >= 0:
            return int(m.waiting_first[level])
    return -1


@inlined
def append_running(m: Memory, r: int, q: int) -> None:
    last = m.replicas[r].last
    m.sequences[q].previous, m.sequences[q].next = last, -1
    if last >= 0:
        m.sequences[last].next = q
    else:
        m.replicas[r].first = q
    m.replicas[r].last = q
    m.replicas[r].running += 1
    m.deployments[m.replicas[r].deployment].running += 1


@inlined
def _remove_running(m: Memory, r: int, q: int) -> None:
    before, after = m.sequences[q].previous, m.sequences[q].next
    if before >= 0:
        m.sequences[before].next = after
    else:
        m.replicas[r].first = after
    if after >= 0:
        m.sequences[after].previous = before
    else:
        m.replicas[r].last = before
    if m.replicas[r].partial == q:
        m.replicas[r].partial = -1
    if m.replicas[r].prefill == q:
        m.replicas[r].prefill = after
    m.replicas[r].running -= 1
    m.deployments[m.replicas[r].deployment].running -= 1


# ----------------------------------------------------------------------------------------------------- decoding


@inlined
def begin_decoding(m: Memory, r: int, q: int) -> None:
    """From the iteration that has just ended, in which it got a token, on."""
    seq = m.sequences
    iteration = m.replicas[r].iteration
    seq[q].state = DECODE
    seq[q].offset = seq[q].length - iteration
    seq[q].end = iteration + seq[q].output - (seq[q].length - seq[q].prompt)
    m.due[r * 16 + ((2 - seq[q].offset) & 15)] += 1
    m.replicas[r].decoding += 1
    m.replicas[r].kv += seq[q].length
    push_end(m, r, q)


@inlined
def _stop_decoding(m: Memory, r: int, q: int) -> None:
    seq = m.sequences
    seq[q].length = seq[q].offset + m.replicas[r].iteration
    seq[q].computed = seq[q].length - 1
    seq[q].blocks = blocks_for(seq[q].computed)
    m.due[r * 16 + ((2 - seq[q].offset) & 15)] -= 1
    m.replicas[r].decoding -= 1
    m.replicas[r].kv -= seq[q].length
    remove_end(m, r, q)


@inlined
def skip_iteration(m: Memory, r: int, q: int) -> None:
    """Let a decoding sequence sit out the next iteration."""
    offset = m.sequences[q].offset
    m.due[r * 16 + ((2 - offset) & 15)] -= 1
    m.due[r * 16 + ((3 - offset) & 15)] += 1
    m.sequences[q].offset -= 1
    delay_end(m, r, q)


# ------------------------------------------------------------------------------------------------ shared blocks


@inlined
def _lead(m: Memory, q: int, chain: int, limit: int, full: int) -> None:
    end = min(full, limit)
    shared = m.sequences[q].shared
    if m.chains[chain].start <= shared and shared == m.chains[chain].end and shared < end:
        m.chains[chain].end = end
        m.sequences[q].shared = end


@inlined
def share(m: Memory, q: int, tokens: int) -> None:
    """Let others find the full blocks among so many tokens, where the sequence is the one that leads a chain."""
    g = m.sequences[q].group
    if m.groups[g].prefix >= 0:
        _lead(m, q, m.groups[g].prefix, m.groups[g].limit, tokens // 16)
    if m.groups[g].own_limit > 0:
        _lead(m, q, own_chain(m, g, 0), m.groups[g].own_limit, tokens // 16)


@inlined
def _unuse(m: Memory, r: int, chain: int) -> None:
    m.chains[chain].users -= 1
    if m.chains[chain].users == 0:
        give_chain(m, r, chain)


@compiled
def _release(m: Memory, r: int, q: int, left: int) -> None:
    """Free a sequence's blocks, the last ones first; ``left`` of them it may find again."""
    g = m.sequences[q].group
    give(m, r, m.sequences[q].blocks - m.sequences[q].shared - left)
    if left > 0:
        chain = own_chain(m, q, 1)
        m.chains[chain].start = m.sequences[q].shared
        m.chains[chain].end = m.sequences[q].shared + left
        give_chain(m, r, chain)
    if m.groups[g].own_limit > 0:
        _unuse(m, r, own_chain(m, g, 0))
    if m.groups[g].prefix >= 0:
        _unuse(m, r, m.groups[g].prefix)
    m.sequences[q].blocks = m.sequences[q].shared = 0


# ----------------------------------------------------------------------------------------------- join and leave


@compiled
def preempt(m: Memory, r: int, q: int, scheduled: bool) -> None:
    """Put a running sequence back into the queue; ``scheduled``: it has got its blocks of the next iteration already."""
    seq = m.sequences
    if seq[q].state == DECODE:
        _stop_decoding(m, r, q)
        if scheduled:
            seq[q].blocks = blocks_for(seq[q].length)
    _remove_running(m, r, q)
    left = 0
    if m.deployments[m.replicas[r].deployment].caching:
        left = max(seq[q].computed // 16 - seq[q].shared, 0)
    _release(m, r, q, left)
    seq[q].computed = 0
    m.preemptions[m.groups[seq[q].group].request] += 1
    enqueue(m, r, q, True)


@compiled
def admit(m: Memory, r: int, q: int, budget: int, reserved: int, now_s: float) -> int:
    """Find room for a waiting sequence; returns the tokens it takes in, 0 if there is no room.

    With ``reserved`` blocks that others are to get first, only says whether there may be room after that.
    """
    seq, chains = m.sequences, m.chains
    g = seq[q].group
    most = (seq[q].length - 1) // 16
    hit = claimed = 0
    prefix, own, left = m.groups[g].prefix, own_chain(m, g, 0), own_chain(m, q, 1)
    prefix_end = own_end = 0
    if prefix >= 0:
        prefix_end = hit = min(chains[prefix].end, m.groups[g].limit, most)
        if chains[prefix].users == 0:
            claimed += prefix_end
    if m.groups[g].own_limit > 0:
        own_end = chains[own].start
        if own_end == hit:
            own_end = hit = max(min(chains[own].end, m.groups[g].own_limit, most), own_end)
            if chains[own].users == 0:
                claimed += own_end - chains[own].start
    shared = hit
    if chains[left].following >= 0 and chains[left].start == hit:
        hit = min(chains[left].end, most)
        claimed += hit - chains[left].start
    tokens = min(seq[q].length - hit * 16, budget)
    blocks = blocks_for(hit * 16 + tokens)
    # As vLLM 0.19: only if all that is known of it fits, though the first chunk may be less.
    if blocks_for(seq[q].length) - hit + claimed > m.replicas[r].free - reserved:
        return 0
    if reserved > 0:
        return 1
    if prefix >= 0:
        if chains[prefix].users == 0:
            claim(m, r, prefix, prefix_end)
        chains[prefix].users += 1
    if m.groups[g].own_limit > 0:
        if chains[own].users == 0:
            claim(m, r, own, own_end)
        chains[own].users += 1
    if hit > shared:
        claim(m, r, left, hit)
    forget(m, left)
    take(m, r, blocks - hit)
    seq[q].blocks, seq[q].shared, seq[q].computed = blocks, shared, hit * 16
    seq[q].prefilled = max(seq[q].prefilled, min(hit * 16, seq[q].prompt))
    request, stage = m.groups[g].request, m.groups[g].stage
    if np.isnan(m.started_s[request]):
        m.started_s[request] = now_s
    if seq[q].sample == m.groups[g].first_sample and seq[q].length == seq[q].prompt:
        m.cached[stage] = max(m.cached[stage], shared * 16)
    share(m, q, hit * 16 + tokens)
    dequeue(m, r, q)
    append_running(m, r, q)
    seq[q].state = PREFILL
    seq[q].chunk = tokens
    return int(tokens)


@compiled
def leave(m: Memory, r: int, q: int) -> None:
    """Take a sequence out for good, and write down what it has had."""
    seq, g = m.sequences, m.sequences[q].group
    if seq[q].state == WAITING:
        dequeue(m, r, q)
        forget(m, own_chain(m, q, 1))
    else:
        if seq[q].state == DECODE:
            _stop_decoding(m, r, q)
        _remove_running(m, r, q)
        share(m, q, seq[q].computed)
        _release(m, r, q, 0)
    stage = m.groups[g].stage
    m.generated[seq[q].sample] = seq[q].length - seq[q].prompt
    m.prefilled[stage] = max(m.prefilled[stage], seq[q].prefilled)
    if m.groups[g].first == q:
        m.groups[g].first = seq[q].sibling
    else:
        other = m.groups[g].first
        while seq[other].sibling != q:
            other = seq[other].sibling
        seq[other].sibling = seq[q].sibling
    m.free_sequences[m.counters[FREE_SEQUENCES]] = q
    m.counters[FREE_SEQUENCES] += 1
    m.groups[g].unfinished -= 1
    if m.groups[g].unfinished == 0:
        if m.groups[g].own_limit > 0:
            forget(m, own_chain(m, g, 0))
        m.free_groups[m.counters[FREE_GROUPS]] = g
        m.counters[FREE_GROUPS] += 1
