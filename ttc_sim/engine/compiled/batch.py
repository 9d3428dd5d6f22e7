"""A replica's queue and batch: who joins, who leaves, and the blocks that they hold. See :mod:`ttc_sim.engine.replica`."""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled.heaps import delay_end, push_end, remove_end
from ttc_sim.engine.compiled.jit import compiled, inlined, merged
from ttc_sim.engine.compiled.kv import (
    blocks_for,
    chain_for,
    chain_of,
    claim,
    drop_chain,
    forget,
    give,
    give_chain,
    take,
)
from ttc_sim.engine.compiled.speculation import begin_speculating, sit_out, stop_speculating
from ttc_sim.engine.compiled.state import (
    DECODE,
    FREE_GROUPS,
    FREE_SEQUENCES,
    LEVELS,
    OWN,
    PREFILL,
    READY,
    WAITING,
    Memory,
)


@inlined
def own_chain(m: Memory, slot: int, left: int) -> int:
    """Chain of a group's prompt (0), or of what a preempted sequence left in the cache (1)."""
    return int(m.counters[OWN] + 2 * slot + left)


@inlined
def enqueue(m: Memory, r: int, q: int, first: bool) -> None:
    rep = m.replicas[r]
    one = m.sequences[q]
    level = r * m.counters[LEVELS] + one.level
    head, tail = m.waiting_first[level], m.waiting_last[level]
    if first:
        one.previous, one.next = -1, head
        if head >= 0:
            m.sequences[head].previous = q
        else:
            m.waiting_last[level] = q
        m.waiting_first[level] = q
    else:
        one.previous, one.next = tail, -1
        if tail >= 0:
            m.sequences[tail].next = q
        else:
            m.waiting_first[level] = q
        m.waiting_last[level] = q
    one.state = WAITING
    rep.waiting += 1
    rep.waiting_blocks += blocks_for(one.length)
    m.deployments[rep.deployment].waiting += 1


@inlined
def dequeue(m: Memory, r: int, q: int) -> None:
    rep = m.replicas[r]
    one = m.sequences[q]
    level = r * m.counters[LEVELS] + one.level
    before, after = one.previous, one.next
    if before >= 0:
        m.sequences[before].next = after
    else:
        m.waiting_first[level] = after
    if after >= 0:
        m.sequences[after].previous = before
    else:
        m.waiting_last[level] = before
    rep.waiting -= 1
    rep.waiting_blocks -= blocks_for(one.length)
    m.deployments[rep.deployment].waiting -= 1


@inlined
def head_of_queue(m: Memory, r: int) -> int:
    for level in range(r * m.counters[LEVELS], (r + 1) * m.counters[LEVELS]):
        if m.waiting_first[level] >= 0:
            return int(m.waiting_first[level])
    return -1


@merged
def append_running(m: Memory, r: int, q: int) -> None:
    rep = m.replicas[r]
    one = m.sequences[q]
    last = rep.last
    one.previous, one.next = last, -1
    if last >= 0:
        m.sequences[last].next = q
    else:
        rep.first = q
    rep.last = q
    rep.running += 1
    m.deployments[rep.deployment].running += 1


@inlined
def remove_running(m: Memory, r: int, q: int) -> None:
    rep = m.replicas[r]
    one = m.sequences[q]
    before, after = one.previous, one.next
    if before >= 0:
        m.sequences[before].next = after
    else:
        rep.first = after
    if after >= 0:
        m.sequences[after].previous = before
    else:
        rep.last = before
    if rep.partial == q:
        rep.partial = after
        while rep.partial >= 0 and m.sequences[rep.partial].state != PREFILL:
            rep.partial = m.sequences[rep.partial].next
    if rep.prefill == q:
        rep.prefill = after
    rep.running -= 1
    m.deployments[rep.deployment].running -= 1


# ----------------------------------------------------------------------------------------------------- decoding


@merged
def begin_decoding(m: Memory, r: int, q: int, now_s: float) -> None:
    """From the iteration that has just ended, in which it got a token, on."""
    rep = m.replicas[r]
    one = m.sequences[q]
    iteration = rep.iteration
    one.state = DECODE
    one.began, one.began_s = iteration, now_s
    if rep.drafts > 0:
        begin_speculating(m, r, q)
    else:
        one.offset = one.length - iteration
        one.end = iteration + one.output - (one.length - one.prompt)
        m.due[r * 16 + ((2 - one.offset) & 15)] += 1
    rep.decoding += 1
    rep.kv += one.length * rep.parts
    rep.most = 0
    push_end(m, r, q)


@inlined
def _stop_decoding(m: Memory, r: int, q: int) -> None:
    rep = m.replicas[r]
    one = m.sequences[q]
    if rep.drafts > 0:
        stop_speculating(m, r, q)
    else:
        one.length = one.offset + rep.iteration
        one.blocks = blocks_for(one.length - 1)
        m.due[r * 16 + ((2 - one.offset) & 15)] -= 1
        rep.kv -= one.length
    one.computed = one.length - 1
    rep.decoding -= 1
    rep.most = 0
    remove_end(m, r, q)


@merged
def skip_iteration(m: Memory, r: int, q: int) -> None:
    """Let a decoding sequence sit out the next iteration."""
    one = m.sequences[q]
    if m.replicas[r].drafts > 0:
        sit_out(m, r, q)
    else:
        offset = one.offset
        m.due[r * 16 + ((2 - offset) & 15)] -= 1
        m.due[r * 16 + ((3 - offset) & 15)] += 1
        one.offset -= 1
    delay_end(m, r, q)


# ------------------------------------------------------------------------------------------------ shared blocks


@inlined
def _lead(m: Memory, q: int, chain: int, limit: int, full: int) -> None:
    one = m.sequences[q]
    mine = m.chains[chain]
    end = min(full, limit)
    shared = one.shared
    if mine.start <= shared and shared == mine.end and shared < end:
        mine.end = end
        one.shared = end


@compiled
def _lead_path(m: Memory, q: int, full: int) -> None:
    """The same of the chains of a prompt's prefixes, as far as so many blocks."""
    one = m.sequences[q]
    group = m.groups[one.group]
    node, end, count = group.prefix, group.limit, 0
    while True:
        start = m.prefix_start[node]
        if start < min(end, full):
            m.path[2 * count], m.path[2 * count + 1] = node, end
            count += 1
        if start <= one.shared:
            break
        end = min(end, start)
        node = m.prefix_parent[node]
    while count > 0:
        count -= 1
        _lead(m, q, chain_of(m, group.replica, m.path[2 * count]), m.path[2 * count + 1], full)


@inlined
def share(m: Memory, q: int, tokens: int) -> None:
    """Let others find the full blocks among so many tokens, where the sequence is the one that leads a chain."""
    g = m.sequences[q].group
    group = m.groups[g]
    if group.prefix >= 0 and m.sequences[q].shared < min(tokens // 16, group.limit):
        _lead_path(m, q, tokens // 16)
    if group.own_limit > 0:
        _lead(m, q, own_chain(m, g, 0), group.own_limit, tokens // 16)


@inlined
def _unuse(m: Memory, r: int, chain: int) -> None:
    mine = m.chains[chain]
    mine.users -= 1
    if mine.users == 0:
        give_chain(m, r, chain)


@compiled
def release(m: Memory, r: int, q: int, left: int) -> None:
    """Free a sequence's blocks, the last ones first; ``left`` of them it may find again."""
    one = m.sequences[q]
    g = one.group
    group = m.groups[g]
    give(m, r, one.blocks - one.shared - left)
    if left > 0:
        chain = own_chain(m, q, 1)
        m.chains[chain].start = one.shared
        m.chains[chain].end = one.shared + left
        give_chain(m, r, chain)
    if group.own_limit > 0:
        _unuse(m, r, own_chain(m, g, 0))
    node, end = group.prefix, group.limit
    while node >= 0:
        if m.prefix_start[node] < end:
            end = m.prefix_start[node]
            chain = chain_of(m, r, node)
            _unuse(m, r, chain)
            if m.chains[chain].users == 0 and m.chains[chain].end == end:
                drop_chain(m, chain)
        node = m.prefix_parent[node]
    one.blocks = one.shared = 0


# ----------------------------------------------------------------------------------------------- join and leave


@compiled
def preempt(m: Memory, r: int, q: int, scheduled: bool) -> None:
    """Put a running sequence back into the queue; ``scheduled``: it has got its blocks of the next iteration already."""
    one = m.sequences[q]
    if one.state == DECODE:
        _stop_decoding(m, r, q)
        if scheduled:
            one.blocks = blocks_for(one.length + 2 * m.replicas[r].drafts)
    remove_running(m, r, q)
    left = 0
    if m.deployments[m.replicas[r].deployment].caching:
        left = max(one.computed // 16 - one.shared, 0)
    release(m, r, q, left)
    one.computed = 0
    m.preemptions[m.groups[one.group].request] += 1
    enqueue(m, r, q, True)


@compiled
def found_blocks(m: Memory, r: int, node: int, limit: int, most: int) -> tuple[int, int]:
    """Leading blocks of a prompt that are in the chains of its prefixes, and how many of them nobody uses."""
    hit, claimed, end = limit, 0, limit
    while node >= 0:
        start = m.prefix_start[node]
        if start < end:
            chain = chain_of(m, r, node)
            here = start
            if chain > 0:
                here = max(min(m.chains[chain].end, end, most), start)
            if here < end:  # what comes after is not found
                hit, claimed = here, 0
            if chain > 0 and m.chains[chain].users == 0:
                claimed += here - start
            end = start
        node = m.prefix_parent[node]
    return int(hit), int(claimed)


@compiled
def _use(m: Memory, r: int, node: int, limit: int, found: int) -> None:
    """Use the chains of a prompt's prefixes, of which so many leading blocks were found."""
    end = limit
    while node >= 0:
        start = m.prefix_start[node]
        if start < end:
            chain = chain_for(m, r, node)
            if m.chains[chain].users == 0:
                claim(m, r, chain, max(min(found, end), start))
            m.chains[chain].users += 1
            end = start
        node = m.prefix_parent[node]


@inlined
def find_room(m: Memory, r: int, q: int, chunk: int, budget: int, reserved: int, now_s: float) -> int:
    """The blocks of a sequence and as many of its tokens as a chunk, and the budget that is left, allow; returns the tokens that it
    does not find here, 0 if there is no room.

    With ``reserved`` blocks that others are to get first, only says whether there may be room after that.
    """
    one = m.sequences[q]
    chains, group = m.chains, m.groups[one.group]
    g = one.group
    most = (one.length - 1) // 16
    hit = claimed = own_end = 0
    own, left = own_chain(m, g, 0), own_chain(m, q, 1)
    if group.prefix >= 0:
        hit, claimed = found_blocks(m, r, group.prefix, group.limit, most)
    found = hit
    if group.own_limit > 0:
        own_end = chains[own].start
        if own_end == hit:
            own_end = hit = max(min(chains[own].end, group.own_limit, most), own_end)
            if chains[own].users == 0:
                claimed += own_end - chains[own].start
    shared = hit
    if chains[left].following >= 0 and chains[left].start == hit:
        hit = min(chains[left].end, most)
        claimed += hit - chains[left].start
    tokens = min(one.length - hit * 16, chunk)
    if m.deployments[m.replicas[r].deployment].whole and tokens > budget:
        return 0
    tokens = min(tokens, budget)
    blocks = blocks_for(hit * 16 + tokens)
    # As vLLM 0.19: only if all that is known of it fits, though the first chunk may be less.
    if blocks_for(one.length) - hit + claimed > m.replicas[r].free - reserved:
        return 0
    if reserved > 0:
        return 1
    if group.prefix >= 0:
        _use(m, r, group.prefix, group.limit, found)
    if group.own_limit > 0:
        if chains[own].users == 0:
            claim(m, r, own, own_end)
        chains[own].users += 1
    if hit > shared:
        claim(m, r, left, hit)
    forget(m, left)
    take(m, r, blocks - hit)
    one.blocks, one.shared, one.computed = blocks, shared, hit * 16
    request, stage = group.request, group.stage
    if np.isnan(m.started_s[request]):
        m.started_s[request] = now_s
    if one.sample == group.first_sample and one.prefilled == 0:
        m.cached[stage] = max(m.cached[stage], shared * 16)
    return int(tokens)


@compiled
def admit(m: Memory, r: int, q: int, budget: int, reserved: int, now_s: float) -> int:
    """Find room for a waiting sequence; returns the tokens it takes in, 0 if there is no room; ``reserved`` as above."""
    chunk = m.deployments[m.replicas[r].deployment].chunk
    tokens = find_room(m, r, q, chunk, budget, reserved, now_s)
    if tokens == 0 or reserved > 0:
        return int(tokens)
    one = m.sequences[q]
    one.prefilled = max(one.prefilled, min(one.computed, one.prompt))
    share(m, q, one.computed + tokens)
    dequeue(m, r, q)
    append_running(m, r, q)
    one.state = PREFILL
    one.chunk = tokens
    return int(tokens)


@inlined
def write_down(m: Memory, g: int, sample: int, generated: int, prefilled: int) -> None:
    """What a sequence of a group has had, of its output and of its prompt."""
    group = m.groups[g]
    stage = group.stage
    if group.lost < 0:
        m.generated[sample] = generated
        m.prefilled[stage] = max(m.prefilled[stage], prefilled)
        return
    m.lost_generated[sample] += generated
    m.lost_reasoning[sample] += min(generated, m.reasoning[sample])
    if prefilled > group.lost:
        m.lost_attempts[stage] += 1 if group.lost == 0 else 0
        m.lost_prefilled[stage] += prefilled - group.lost
        group.lost = prefilled


@compiled
def leave(m: Memory, r: int, q: int) -> None:
    """Take a sequence out for good, and write down what it has had."""
    one = m.sequences[q]
    if one.state == WAITING:
        dequeue(m, r, q)
        forget(m, own_chain(m, q, 1))
    else:
        if one.state == DECODE:
            _stop_decoding(m, r, q)
        if one.state == READY:
            remove_ready(m, r, q)
        else:
            remove_running(m, r, q)
        share(m, q, one.computed)
        release(m, r, q, 0)
    write_down(m, one.group, one.sample, min(one.length - one.prompt, one.output), one.prefilled)
    let_go(m, q)


@inlined
def remove_ready(m: Memory, r: int, q: int) -> None:
    """Of those whose prompts are here, that are not yet in the batch."""
    rep = m.replicas[r]
    before, after = m.sequences[q].previous, m.sequences[q].next
    if before >= 0:
        m.sequences[before].next = after
    else:
        rep.ready_first = after
    if after >= 0:
        m.sequences[after].previous = before
    else:
        rep.ready_last = before
    rep.handed -= 1
    m.deployments[rep.deployment].waiting -= 1


@compiled
def let_go(m: Memory, q: int) -> None:
    """Forget a sequence, and its group with its last one."""
    one, seq, g = m.sequences[q], m.sequences, m.sequences[q].group
    group = m.groups[g]
    if group.first == q:
        group.first = one.sibling
    else:
        other = group.first
        while seq[other].sibling != q:
            other = seq[other].sibling
        seq[other].sibling = one.sibling
    m.free_sequences[m.counters[FREE_SEQUENCES]] = q
    m.counters[FREE_SEQUENCES] += 1
    group.unfinished -= 1
    if group.unfinished == 0:
        if group.own_limit > 0:
            forget(m, own_chain(m, g, 0))
        m.free_groups[m.counters[FREE_GROUPS]] = g
        m.counters[FREE_GROUPS] += 1
