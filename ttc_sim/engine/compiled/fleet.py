"""Replicas' lives in the compiled engine; the meaning is that of :class:`ttc_sim.engine.reference_fleet.Fleet`."""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled.batch import own_chain, write_down
from ttc_sim.engine.compiled.clients import fail_stage
from ttc_sim.engine.compiled.heaps import push_event, sleep
from ttc_sim.engine.compiled.iterate import blocks_of_leap, cut
from ttc_sim.engine.compiled.jit import compiled, inlined, merged
from ttc_sim.engine.compiled.kv import drop_chain
from ttc_sim.engine.compiled.levels import note_leap, note_replica
from ttc_sim.engine.compiled.speculation import length_of
from ttc_sim.engine.compiled.state import (
    BATCH,
    BOUNDARY,
    CHANGE,
    DECODE,
    DRAWN,
    EVENTS,
    FREE_GROUPS,
    FREE_SEQUENCES,
    FURTHER,
    HEARD,
    INTERVALS,
    LEVELS,
    LOG_ROOM,
    LOGGED,
    NONE,
    OWN,
    PLAN,
    PREFIXES,
    REPLICAS,
    REQUESTS,
    ROOM,
    UNFINISHED,
    Memory,
)
from ttc_sim.engine.fleet import (
    DECIDE,
    DRAINING,
    FAIL,
    IN_SERVICE,
    OFF,
    READY,
    REPAIRED,
    SCHEDULE,
    STARTING,
    TTFT,
    UNDER_REPAIR,
    decides_at,
    nth_smallest,
    order_of,
    place_of,
    replicas_needed,
    replicas_wanted,
)

# One copy for both engines.
_decides_at, _nth_smallest, _replicas_needed, _replicas_wanted = map(
    compiled, (decides_at, nth_smallest, replicas_needed, replicas_wanted)
)
_order_of, _place_of = inlined(order_of), inlined(place_of)


@merged
def has_room_for_change(m: Memory, request: int, number: int) -> bool:
    """Whether what happens to replicas next finds room for the events, states and draws that follow from it."""
    what, held = request >> 32, 0
    if what == FAIL:
        held = m.replicas[number].running + m.replicas[number].waiting
    if what == READY and m.replicas[number].lives >= m.counters[DRAWN]:
        return False
    held += min(held * m.counters[FURTHER], m.counters[REQUESTS])
    replicas = m.counters[REPLICAS]
    logs = m.counters[LOGGED] + 4 * replicas + 8 <= m.counters[LOG_ROOM]
    return bool(logs and m.counters[EVENTS] + held + 2 * replicas + m.counters[BATCH] + 8 <= m.counters[ROOM])


@compiled
def change(m: Memory, request: int, number: int, extra: int, now_s: float) -> None:
    """What happens to replicas, of the heap: once no request is left nobody looks any more."""
    if m.counters[UNFINISHED] == 0:
        return
    what = request >> 32
    if what == DECIDE:
        _decide(m, number, now_s)
        return
    rep = m.replicas[number]
    d = rep.deployment
    if what == FAIL:
        _fail(m, number, extra, now_s)
    elif what == REPAIRED:
        if m.fleets[d].active < m.fleets[d].wanted:
            _start(m, number, now_s)
        else:
            _become(m, number, OFF, now_s)
            _reconcile(m, d, now_s)
    elif rep.state == STARTING and rep.starts == extra:
        _become(m, number, IN_SERVICE, now_s)
        if m.fleets[d].at_random:
            fails_s = m.fails_s[2 * (number * m.counters[DRAWN] + rep.lives)]
            rep.lives += 1
            push_event(m, now_s + fails_s, CHANGE, _order_of(FAIL, number), number, rep.lives)


@compiled
def drained(m: Memory, r: int, now_s: float) -> None:
    """One that drains has nothing left to do."""
    _become(m, r, OFF, now_s)
    _wipe(m, r)
    _reconcile(m, m.replicas[r].deployment, now_s)


@compiled
def _become(m: Memory, r: int, state: int, now_s: float) -> None:
    rep = m.replicas[r]
    d = rep.deployment
    of = m.fleets[d]
    if rep.state == IN_SERVICE:
        of.serving -= 1
    if state == IN_SERVICE:
        of.serving += 1
    if rep.state == IN_SERVICE or rep.state == STARTING:
        of.active -= 1
    if state in (IN_SERVICE, STARTING):
        of.active += 1
    m.most[d] = of.serving * m.deployments[d].max_seqs
    rep.state = state
    at = m.counters[LOGGED]
    m.log_s[at], m.log_replica[at], m.log_state[at] = now_s, r, state
    m.counters[LOGGED] = at + 1


@compiled
def _start(m: Memory, r: int, now_s: float) -> None:
    rep = m.replicas[r]
    _become(m, r, STARTING, now_s)
    rep.starts += 1
    rep.ready_s = now_s + m.fleets[rep.deployment].start_s
    push_event(m, rep.ready_s, CHANGE, _order_of(READY, r), r, rep.starts)


@compiled
def _reconcile(m: Memory, d: int, now_s: float) -> None:
    of = m.fleets[d]
    r, end = m.deployments[d].first_replica, m.deployments[d].first_replica + m.deployments[d].replicas
    while of.active < of.wanted and r < end:
        if m.replicas[r].state == OFF:
            _start(m, r, now_s)
        r += 1


# ------------------------------------------------------------------------------------------------------- failures


@compiled
def _fail(m: Memory, r: int, extra: int, now_s: float) -> None:
    """``extra``: below 0 a failure that was given, and otherwise which time in service it ends."""
    rep = m.replicas[r]
    if rep.state == OFF or rep.state == UNDER_REPAIR:
        return
    if extra >= 0 and (rep.state == STARTING or rep.lives != extra):
        return
    if rep.place >= 0:
        cut(m, r, now_s)
        if rep.phase == BOUNDARY and rep.at_s == now_s:
            # An iteration of the leap ends at this instant, and that comes first.
            push_event(m, now_s, CHANGE, _order_of(FAIL, r), r, extra)
            return
    repair_s = m.given_repair_s[-1 - extra] if extra < 0 else m.fails_s[2 * (r * m.counters[DRAWN] + extra - 1) + 1]
    _become(m, r, UNDER_REPAIR, now_s)
    push_event(m, now_s + repair_s, CHANGE, _order_of(REPAIRED, r), r, NONE)
    if rep.place >= 0:
        _lose(m, r, now_s)
    _wipe(m, r)
    _reconcile(m, rep.deployment, now_s)


@compiled
def _blank(m: Memory, chain: int) -> None:
    one = m.chains[chain]
    one.start = one.end = one.users = one.previous = one.count = one.gap = 0
    one.following = -1


@compiled
def _lose(m: Memory, r: int, now_s: float) -> None:
    """Write down what those on a replica have had, and fail them; the iteration in progress is lost."""
    rep = m.replicas[r]
    if rep.phase == BOUNDARY and rep.leap > 0:
        blocks = blocks_of_leap(m, r, rep.leap)
        if m.counters[INTERVALS] > 0 and blocks > 0:
            note_leap(m, r, blocks)  # those of the iteration in progress were taken as it began
        rep.iteration += rep.leap - 1
    sat_out = rep.phase == BOUNDARY and rep.scheduled < rep.decoding
    for level in range(-1, m.counters[LEVELS]):
        q = rep.first if level < 0 else m.waiting_first[r * m.counters[LEVELS] + level]
        if level >= 0:
            m.waiting_first[r * m.counters[LEVELS] + level] = m.waiting_last[r * m.counters[LEVELS] + level] = -1
        while q >= 0:
            one = m.sequences[q]
            g, after, length = one.group, one.next, one.length
            group = m.groups[g]
            if one.state == DECODE:
                # Those that sit out an iteration are counted as having done so, though it has not ended.
                length = length_of(m, r, q, 1 if sat_out and one.stamp != rep.iteration + 1 else 0)
            write_down(m, g, one.sample, min(length - one.prompt, one.output), one.prefilled)
            _blank(m, own_chain(m, q, 1))
            m.free_sequences[m.counters[FREE_SEQUENCES]] = q
            m.counters[FREE_SEQUENCES] += 1
            group.unfinished -= 1
            if group.unfinished == 0:
                _blank(m, own_chain(m, g, 0))
                m.free_groups[m.counters[FREE_GROUPS]] = g
                m.counters[FREE_GROUPS] += 1
                if m.group[group.request] == g:  # and not at another attempt
                    m.group[group.request] = -1
                if not one.dropped:
                    fail_stage(m, group.request, now_s)
            q = after
    dep = m.deployments[rep.deployment]
    dep.running -= rep.running
    dep.waiting -= rep.waiting
    rep.busy_s += now_s - rep.woke_s
    sleep(m, r)


@compiled
def _wipe(m: Memory, r: int) -> None:
    """As new: nothing in the batch, the queue or the caches."""
    rep = m.replicas[r]
    rep.first = rep.last = rep.prefill = rep.partial = -1
    rep.running = rep.waiting = rep.waiting_blocks = rep.leap = rep.decoding = rep.kv = rep.scheduled = 0
    rep.ends = rep.drops = rep.passed = rep.most = rep.settled = rep.due_once = 0
    rep.phase, rep.free = PLAN, rep.total
    for i in range(16):
        m.due[16 * r + i] = 0
    for i in range(rep.due_period):
        m.drafted_due[rep.due_base + i] = 0
    for chain in range(m.counters[REPLICAS], m.counters[OWN]):
        place = m.chains[chain].place
        if m.chain_at[place] == chain and place // m.counters[PREFIXES] == r:
            _blank(m, chain)
            drop_chain(m, chain)
    m.chains[r].previous = m.chains[r].following = r
    m.chains[r].gap = rep.total


# ---------------------------------------------------------------------------------------------------- autoscaling


@compiled
def _ttft_s(m: Memory, d: int, now_s: float) -> float:
    """Percentile over the window of times to first tokens that came from a deployment; -1 without any."""
    of, heard = m.fleets[d], m.counters[HEARD]
    since_s = now_s - of.window_s
    while of.heard_from < heard and m.heard_s[of.heard_from] <= since_s:
        of.heard_from += 1
    count = 0
    for i in range(of.heard_from, heard):
        if m.heard_at[i] == d:
            m.seen_s[count] = m.heard_ttft_s[i]
            count += 1
    return _nth_smallest(m.seen_s, count, _place_of(of.percentile, count)) if count > 0 else -1.0


@compiled
def _decide(m: Memory, d: int, now_s: float) -> None:
    of = m.fleets[d]
    of.look += 1
    if of.rule == SCHEDULE:
        wanted = m.step_replicas[of.first_step + of.look % of.steps]
    else:
        dep = m.deployments[d]
        ttft_s = _ttft_s(m, d, now_s) if of.rule == TTFT else -1.0
        needed = _replicas_needed(of, m.looks_seen, dep.running, dep.waiting, ttft_s)
        wanted = _replicas_wanted(of, m.looks_wanted, needed, now_s)
    if wanted != of.wanted:
        of.wanted, of.changed_s = wanted, now_s
        while of.active > wanted:
            _drain(m, _leaving(m, d), now_s)
        _reconcile(m, d, now_s)
    push_event(m, _decides_at(of, m.step_s), CHANGE, _order_of(DECIDE, d), d, NONE)


@compiled
def _leaving(m: Memory, d: int) -> int:
    """The one that would be the last to be ready, or else that with the fewest unfinished; of equal ones the last."""
    first, end = m.deployments[d].first_replica, m.deployments[d].first_replica + m.deployments[d].replicas
    found, latest_s, fewest = -1, -np.inf, 0
    for r in range(first, end):
        if m.replicas[r].state == STARTING and m.replicas[r].ready_s >= latest_s:
            found, latest_s = r, m.replicas[r].ready_s
    if found >= 0:
        return int(found)
    for r in range(first, end):
        unfinished = m.replicas[r].running + m.replicas[r].waiting
        if m.replicas[r].state == IN_SERVICE and (found < 0 or unfinished <= fewest):
            found, fewest = r, unfinished
    return int(found)


@compiled
def _drain(m: Memory, r: int, now_s: float) -> None:
    if m.replicas[r].state == STARTING:
        _become(m, r, OFF, now_s)
    elif m.replicas[r].place < 0:
        _become(m, r, OFF, now_s)
        _wipe(m, r)
    else:
        _become(m, r, DRAINING, now_s)


@merged
def note_change(m: Memory, request: int, number: int, now_s: float) -> None:
    """Write down what is on a replica after something has happened to it."""
    if request >> 32 != DECIDE:
        note_replica(m, number, now_s)
