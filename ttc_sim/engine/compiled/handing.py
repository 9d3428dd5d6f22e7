"""Prompts that are taken in by one replica and answered by another; the meaning is that of :mod:`ttc_sim.engine.splitting`."""

from __future__ import annotations

from ttc_sim.engine.compiled.batch import (
    append_running,
    enqueue,
    find_room,
    let_go,
    release,
    remove_ready,
    remove_running,
    share,
    write_down,
)
from ttc_sim.engine.compiled.heaps import push_event, schedule
from ttc_sim.engine.compiled.jit import compiled, merged
from ttc_sim.engine.compiled.kv import blocks_for, take
from ttc_sim.engine.compiled.levels import note_replica
from ttc_sim.engine.compiled.state import (
    COMING,
    GONE,
    HAND_OVER,
    HERE,
    INTERVALS,
    LANDED,
    MOVING,
    NONE,
    PLAN,
    PREFILL,
    READY,
    TAKEN_IN,
    TRANSFERS,
    WAITED_FOR,
    Memory,
)


@compiled
def wake(m: Memory, r: int, now_s: float) -> None:
    """Let a replica go on with iterations, if it does not and has anything to do."""
    rep = m.replicas[r]
    if rep.place < 0 and rep.waiting + rep.handed > 0:
        rep.woke_s = now_s
        schedule(m, r, now_s, PLAN)


# ---------------------------------------------------------------------------------------------------- prefill's side


@compiled
def take_in(m: Memory, r: int, q: int, now_s: float) -> None:
    """A prompt is whole: it leaves the batch but keeps its blocks, and is handed over when it is its client's turn."""
    one = m.sequences[q]
    group = m.groups[one.group]
    write_down(m, one.group, one.sample, 0, one.prefilled)
    remove_running(m, r, q)
    group.kv = TAKEN_IN
    push_event(m, now_s, HAND_OVER, group.request, group.stage, m.attempt[group.request])


@compiled
def free_prompt(m: Memory, g: int, now_s: float) -> None:
    """Free the blocks that a prompt has kept where it was taken in."""
    r, q = m.groups[g].replica, m.groups[g].first
    release(m, r, q, 0)
    let_go(m, q)
    wake(m, r, now_s)
    if m.counters[INTERVALS] > 0:
        note_replica(m, r, now_s)


# ----------------------------------------------------------------------------------------------------- decode's side


@compiled
def wait_for_prompt(m: Memory, r: int, g: int) -> None:
    """Let a group wait for blocks for its prompt."""
    rep, group = m.replicas[r], m.groups[g]
    count = group.unfinished
    group.kv, group.before, group.after = COMING, rep.coming_last, -1
    if rep.coming_last >= 0:
        m.groups[rep.coming_last].after = g
    else:
        rep.coming_first = g
    rep.coming_last = g
    rep.handed += count
    rep.waiting_blocks += count * blocks_for(m.sequences[group.first].prompt)
    m.deployments[rep.deployment].waiting += count
    m.counters[WAITED_FOR] += 1


@compiled
def _waits_no_more(m: Memory, r: int, g: int) -> None:
    rep = m.replicas[r]
    before, after = m.groups[g].before, m.groups[g].after
    if before >= 0:
        m.groups[before].after = after
    else:
        rep.coming_first = after
    if after >= 0:
        m.groups[after].before = before
    else:
        rep.coming_last = before
    m.counters[WAITED_FOR] -= 1


@compiled
def _not_on_its_way(m: Memory, r: int, g: int, blocks: int) -> None:
    """A group is no longer among those whose prompts are elsewhere; so many blocks were still waited for."""
    rep, count = m.replicas[r], m.groups[g].unfinished
    rep.handed -= count
    rep.waiting_blocks -= blocks
    m.deployments[rep.deployment].waiting -= count


@compiled
def drop_coming(m: Memory, r: int, g: int, now_s: float) -> None:
    """The client of a group that waits for blocks has given up."""
    prompt = m.sequences[m.groups[g].first].prompt
    _waits_no_more(m, r, g)
    _not_on_its_way(m, r, g, m.groups[g].unfinished * blocks_for(prompt))
    free_prompt(m, m.groups[g].source, now_s)
    _forget_group(m, g)


@merged
def _forget_group(m: Memory, g: int) -> None:
    while m.groups[g].unfinished > 0:
        let_go(m, m.groups[g].first)


@compiled
def fetch(m: Memory, r: int, due: int, now_s: float) -> bool:
    """Fetch prompts, as long as there is room for all of the next; returns whether ``due`` blocks have been taken before."""
    rep = m.replicas[r]
    dep = m.deployments[rep.deployment]
    taken = False
    while rep.coming_first >= 0:
        g = rep.coming_first
        q = m.groups[g].first
        prompt = m.sequences[q].prompt
        if not taken and due > 0:
            if find_room(m, r, q, prompt, prompt, due, now_s) == 0:
                break
            take(m, r, due)  # running sequences come first
            taken = True
        if find_room(m, r, q, prompt, prompt, NONE, now_s) == 0:
            break
        _waits_no_more(m, r, g)
        m.groups[g].kv = MOVING
        rep.waiting_blocks -= blocks_for(prompt)
        source = m.groups[m.groups[g].source].replica
        over_s = max(now_s, rep.link_s, m.replicas[source].link_s)
        over_s += (m.sequences[q].blocks - m.sequences[q].shared) * dep.per_block_s
        rep.link_s = m.replicas[source].link_s = over_s
        push_event(m, over_s + dep.latency_s, LANDED, m.counters[TRANSFERS], g, NONE)
        m.counters[TRANSFERS] += 1
    return taken


@compiled
def arrived(m: Memory, r: int, g: int, now_s: float) -> None:
    """A prompt's blocks are here."""
    rep, group = m.replicas[r], m.groups[g]
    q = group.first
    blocks = (group.unfinished - 1) * blocks_for(m.sequences[q].prompt)
    _not_on_its_way(m, r, g, blocks)
    free_prompt(m, group.source, now_s)
    if group.kv == GONE:
        release(m, r, q, 0)
        _forget_group(m, g)
        return
    group.kv = HERE
    one = m.sequences[q]
    one.computed = one.prompt - 1
    share(m, q, one.computed)
    one.state = READY
    one.previous, one.next = rep.ready_last, -1
    if rep.ready_last >= 0:
        m.sequences[rep.ready_last].next = q
    else:
        rep.ready_first = q
    rep.ready_last = q
    rep.handed += 1
    m.deployments[rep.deployment].waiting += 1
    other = one.sibling
    while other >= 0:
        enqueue(m, r, other, False)
        other = m.sequences[other].sibling


@compiled
def admit_ready(m: Memory, r: int, budget: int) -> tuple[int, float]:
    """Admit those whose prompts are here, a token each; how many, and the pairs of tokens that they attend to."""
    rep = m.replicas[r]
    most_seqs = m.deployments[rep.deployment].max_seqs
    count, pairs = 0, 0.0
    while rep.ready_first >= 0 and count < budget and rep.running < most_seqs:
        q = rep.ready_first
        one = m.sequences[q]
        remove_ready(m, r, q)
        append_running(m, r, q)
        one.state, one.chunk = PREFILL, 1
        share(m, q, one.length)
        pairs += one.computed + 0.5
        count += 1
    return count, pairs
