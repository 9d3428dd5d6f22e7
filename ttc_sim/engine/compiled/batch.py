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
    WAITING,
    State,
)


@inlined
def own_chain(s: State, slot: int, left: int) -> int:
    """Chain of a group's prompt (0), or of what a preempted sequence left in the cache (1)."""
    return len(s.replicas) * (1 + s.prefixes) + 2 * slot + left


@inlined
def enqueue(s: State, r: int, q: int, first: bool) -> None:
    level = r * s.counters[LEVELS] + s.sequences[q].level
    head, tail = s.waiting_first[level], s.waiting_last[level]
    if first:
        s.sequences[q].previous, s.sequences[q].next = -1, head
        if head >= 0:
            s.sequences[head].previous = q
        else:
            s.waiting_last[level] = q
        s.waiting_first[level] = q
    else:
        s.sequences[q].previous, s.sequences[q].next = tail, -1
        if tail >= 0:
            s.sequences[tail].next = q
        else:
            s.waiting_first[level] = q
        s.waiting_last[level] = q
    s.sequences[q].state = WAITING
    s.replicas[r].waiting += 1
    s.replicas[r].waiting_blocks += blocks_for(s.sequences[q].length)
    s.deployments[s.replicas[r].deployment].waiting += 1


@inlined
def dequeue(s: State, r: int, q: int) -> None:
    level = r * s.counters[LEVELS] + s.sequences[q].level
    before, after = s.sequences[q].previous, s.sequences[q].next
    if before >= 0:
        s.sequences[before].next = after
    else:
        s.waiting_first[level] = after
    if after >= 0:
        s.sequences[after].previous = before
    else:
        s.waiting_last[level] = before
    s.replicas[r].waiting -= 1
    s.replicas[r].waiting_blocks -= blocks_for(s.sequences[q].length)
    s.deployments[s.replicas[r].deployment].waiting -= 1


@inlined
def head_of_queue(s: State, r: int) -> int:
    for level in range(r * s.counters[LEVELS], (r + 1) * s.counters[LEVELS]):
        if s.waiting_first[level] >= 0:
            return int(s.waiting_first[level])
    return -1


@inlined
def append_running(s: State, r: int, q: int) -> None:
    last = s.replicas[r].last
    s.sequences[q].previous, s.sequences[q].next = last, -1
    if last >= 0:
        s.sequences[last].next = q
    else:
        s.replicas[r].first = q
    s.replicas[r].last = q
    s.replicas[r].running += 1
    s.deployments[s.replicas[r].deployment].running += 1


@inlined
def _remove_running(s: State, r: int, q: int) -> None:
    before, after = s.sequences[q].previous, s.sequences[q].next
    if before >= 0:
        s.sequences[before].next = after
    else:
        s.replicas[r].first = after
    if after >= 0:
        s.sequences[after].previous = before
    else:
        s.replicas[r].last = before
    if s.replicas[r].partial == q:
        s.replicas[r].partial = -1
    if s.replicas[r].prefill == q:
        s.replicas[r].prefill = after
    s.replicas[r].running -= 1
    s.deployments[s.replicas[r].deployment].running -= 1


# ----------------------------------------------------------------------------------------------------- decoding


@inlined
def begin_decoding(s: State, r: int, q: int) -> None:
    """From the iteration that has just ended, in which it got a token, on."""
    seq = s.sequences
    iteration = s.replicas[r].iteration
    seq[q].state = DECODE
    seq[q].offset = seq[q].length - iteration
    seq[q].end = iteration + seq[q].output - (seq[q].length - seq[q].prompt)
    s.due[r, (2 - seq[q].offset) & 15] += 1
    s.replicas[r].decoding += 1
    s.replicas[r].kv += seq[q].length
    push_end(s.replicas, seq, s.ends, r, q)


@inlined
def _stop_decoding(s: State, r: int, q: int) -> None:
    seq = s.sequences
    seq[q].length = seq[q].offset + s.replicas[r].iteration
    seq[q].computed = seq[q].length - 1
    seq[q].blocks = blocks_for(seq[q].computed)
    s.due[r, (2 - seq[q].offset) & 15] -= 1
    s.replicas[r].decoding -= 1
    s.replicas[r].kv -= seq[q].length
    remove_end(s.replicas, seq, s.ends, r, q)


@inlined
def skip_iteration(s: State, r: int, q: int) -> None:
    """Let a decoding sequence sit out the next iteration."""
    offset = s.sequences[q].offset
    s.due[r, (2 - offset) & 15] -= 1
    s.due[r, (3 - offset) & 15] += 1
    s.sequences[q].offset -= 1
    delay_end(s.replicas, s.sequences, s.ends, r, q)


# ------------------------------------------------------------------------------------------------ shared blocks


@inlined
def _lead(s: State, q: int, chain: int, limit: int, full: int) -> None:
    end = min(full, limit)
    shared = s.sequences[q].shared
    if s.chains[chain].start <= shared and shared == s.chains[chain].end and shared < end:
        s.chains[chain].end = end
        s.sequences[q].shared = end


@inlined
def share(s: State, q: int, tokens: int) -> None:
    """Let others find the full blocks among so many tokens, where the sequence is the one that leads a chain."""
    g = s.sequences[q].group
    if s.groups[g].prefix >= 0:
        _lead(s, q, s.groups[g].prefix, s.groups[g].limit, tokens // 16)
    if s.groups[g].own_limit > 0:
        _lead(s, q, own_chain(s, g, 0), s.groups[g].own_limit, tokens // 16)


@inlined
def _unuse(s: State, r: int, chain: int) -> None:
    s.chains[chain].users -= 1
    if s.chains[chain].users == 0:
        give_chain(s.replicas, s.chains, r, chain)


@compiled
def _release(s: State, r: int, q: int, left: int) -> None:
    """Free a sequence's blocks, the last ones first; ``left`` of them it may find again."""
    g = s.sequences[q].group
    give(s.replicas, s.chains, r, s.sequences[q].blocks - s.sequences[q].shared - left)
    if left > 0:
        chain = own_chain(s, q, 1)
        s.chains[chain].start = s.sequences[q].shared
        s.chains[chain].end = s.sequences[q].shared + left
        give_chain(s.replicas, s.chains, r, chain)
    if s.groups[g].own_limit > 0:
        _unuse(s, r, own_chain(s, g, 0))
    if s.groups[g].prefix >= 0:
        _unuse(s, r, s.groups[g].prefix)
    s.sequences[q].blocks = s.sequences[q].shared = 0


# ----------------------------------------------------------------------------------------------- join and leave


@compiled
def preempt(s: State, r: int, q: int, scheduled: bool) -> None:
    """Put a running sequence back into the queue; ``scheduled``: it has got its blocks of the next iteration already."""
    seq = s.sequences
    if seq[q].state == DECODE:
        _stop_decoding(s, r, q)
        if scheduled:
            seq[q].blocks = blocks_for(seq[q].length)
    _remove_running(s, r, q)
    left = 0
    if s.deployments[s.replicas[r].deployment].caching:
        left = max(seq[q].computed // 16 - seq[q].shared, 0)
    _release(s, r, q, left)
    seq[q].computed = 0
    s.preemptions[s.groups[seq[q].group].request] += 1
    enqueue(s, r, q, True)


@compiled
def admit(s: State, r: int, q: int, budget: int, reserved: int, now_s: float) -> int:
    """Find room for a waiting sequence; returns the tokens it takes in, 0 if there is no room.

    With ``reserved`` blocks that others are to get first, only says whether there may be room after that.
    """
    seq, chains = s.sequences, s.chains
    g = seq[q].group
    most = (seq[q].length - 1) // 16
    hit = claimed = 0
    prefix, own, left = s.groups[g].prefix, own_chain(s, g, 0), own_chain(s, q, 1)
    prefix_end = own_end = 0
    if prefix >= 0:
        prefix_end = hit = min(chains[prefix].end, s.groups[g].limit, most)
        if chains[prefix].users == 0:
            claimed += prefix_end
    if s.groups[g].own_limit > 0:
        own_end = chains[own].start
        if own_end == hit:
            own_end = hit = max(min(chains[own].end, s.groups[g].own_limit, most), own_end)
            if chains[own].users == 0:
                claimed += own_end - chains[own].start
    shared = hit
    if chains[left].following >= 0 and chains[left].start == hit:
        hit = min(chains[left].end, most)
        claimed += hit - chains[left].start
    tokens = min(seq[q].length - hit * 16, budget)
    blocks = blocks_for(hit * 16 + tokens)
    if reserved > 0:
        # What the others take may be blocks that this one would find; it then needs as many new ones, unless it is the
        # budget that limits it.
        return 0 if tokens < budget and blocks - hit + claimed > s.replicas[r].free - reserved else 1
    if blocks - hit + claimed > s.replicas[r].free:
        return 0
    if prefix >= 0:
        if chains[prefix].users == 0:
            claim(s.replicas, chains, r, prefix, prefix_end)
        chains[prefix].users += 1
    if s.groups[g].own_limit > 0:
        if chains[own].users == 0:
            claim(s.replicas, chains, r, own, own_end)
        chains[own].users += 1
    if hit > shared:
        claim(s.replicas, chains, r, left, hit)
    forget(chains, left)
    take(s.replicas, chains, r, blocks - hit)
    seq[q].blocks, seq[q].shared, seq[q].computed = blocks, shared, hit * 16
    seq[q].prefilled = max(seq[q].prefilled, min(hit * 16, seq[q].prompt))
    request, stage = s.groups[g].request, s.groups[g].stage
    if np.isnan(s.started_s[request]):
        s.started_s[request] = now_s
    if seq[q].sample == s.groups[g].first_sample and seq[q].length == seq[q].prompt:
        s.cached[stage] = max(s.cached[stage], shared * 16)
    share(s, q, hit * 16 + tokens)
    dequeue(s, r, q)
    append_running(s, r, q)
    seq[q].state = PREFILL
    seq[q].chunk = tokens
    return int(tokens)


@compiled
def leave(s: State, r: int, q: int) -> None:
    """Take a sequence out for good, and write down what it has had."""
    seq, g = s.sequences, s.sequences[q].group
    if seq[q].state == WAITING:
        dequeue(s, r, q)
        forget(s.chains, own_chain(s, q, 1))
    else:
        if seq[q].state == DECODE:
            _stop_decoding(s, r, q)
        _remove_running(s, r, q)
        share(s, q, seq[q].computed)
        _release(s, r, q, 0)
    stage = s.groups[g].stage
    s.generated[seq[q].sample] = seq[q].length - seq[q].prompt
    s.prefilled[stage] = max(s.prefilled[stage], seq[q].prefilled)
    if s.groups[g].first == q:
        s.groups[g].first = seq[q].sibling
    else:
        other = s.groups[g].first
        while seq[other].sibling != q:
            other = seq[other].sibling
        seq[other].sibling = seq[q].sibling
    s.free_sequences[s.counters[FREE_SEQUENCES]] = q
    s.counters[FREE_SEQUENCES] += 1
    s.groups[g].unfinished -= 1
    if s.groups[g].unfinished == 0:
        if s.groups[g].own_limit > 0:
            forget(s.chains, own_chain(s, g, 0))
        s.free_groups[s.counters[FREE_GROUPS]] = g
        s.counters[FREE_GROUPS] += 1
