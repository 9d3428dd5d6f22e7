"""The three heaps: events by time, replicas by their next boundary, a replica's sequences by the iteration that ends them."""

from __future__ import annotations

from ttc_sim.engine.compiled.jit import compiled, inlined, merged
from ttc_sim.engine.compiled.state import (
    ACTIVE,
    ACTS,
    BOUNDARY,
    CHANGE,
    CHANGES,
    EVENTS,
    GIVES_UP,
    LANDED,
    LANDS,
    RETRY,
    TIMEOUT,
    Memory,
)

# ------------------------------------------------------------------------------------------------------- events


@inlined
def _earlier(m: Memory, a: int, b: int) -> bool:
    if m.events[a].at_s != m.events[b].at_s:
        return bool(m.events[a].at_s < m.events[b].at_s)
    return bool(m.events[a].order < m.events[b].order)


@compiled
def push_event(m: Memory, at_s: float, kind: int, request: int, stage: int, attempt: int) -> None:
    i = m.counters[EVENTS]
    m.counters[EVENTS] += 1
    order = request
    if kind >= RETRY:
        order += ACTS
    elif kind >= TIMEOUT:
        order += GIVES_UP
    elif kind == CHANGE:
        order += CHANGES
    elif kind == LANDED:
        order += LANDS
    while i > 0:
        up = (i - 1) // 2
        if m.events[up].at_s < at_s or (m.events[up].at_s == at_s and m.events[up].order <= order):
            break
        m.events[i] = m.events[up]
        i = up
    m.events[i].at_s, m.events[i].order, m.events[i].kind = at_s, order, kind
    m.events[i].request, m.events[i].stage, m.events[i].attempt = request, stage, attempt


@merged
def pop_event(m: Memory) -> None:
    m.counters[EVENTS] -= 1
    last = m.counters[EVENTS]
    i = 0
    while True:
        down = 2 * i + 1
        if down >= last:
            break
        if down + 1 < last and _earlier(m, down + 1, down):
            down += 1
        if not _earlier(m, down, last):
            break
        m.events[i] = m.events[down]
        i = down
    m.events[i] = m.events[last]


# ----------------------------------------------------------------------------------------------------- replicas


@inlined
def _sooner(m: Memory, a: int, b: int) -> bool:
    if m.replicas[a].at_s != m.replicas[b].at_s:
        return bool(m.replicas[a].at_s < m.replicas[b].at_s)
    if m.replicas[a].phase != m.replicas[b].phase:
        return bool(m.replicas[a].phase < m.replicas[b].phase)
    return a < b


@compiled
def schedule(m: Memory, r: int, at_s: float, phase: int) -> None:
    """Set what a replica does next, and when."""
    rep = m.replicas[r]
    rep.at_s, rep.phase = at_s, phase
    i = rep.place
    if i < 0:
        i = m.counters[ACTIVE]
        m.counters[ACTIVE] += 1
    moved = False
    while i > 0:
        up = (i - 1) // 2
        if not _sooner(m, r, m.active[up]):
            break
        m.active[i] = m.active[up]
        m.replicas[m.active[i]].place = i
        i = up
        moved = True
    count = m.counters[ACTIVE]
    while not moved:
        down = 2 * i + 1
        if down >= count:
            break
        if down + 1 < count and _sooner(m, m.active[down + 1], m.active[down]):
            down += 1
        if not _sooner(m, m.active[down], r):
            break
        m.active[i] = m.active[down]
        m.replicas[m.active[i]].place = i
        i = down
    m.active[i] = r
    rep.place = i


@merged
def happens_at(m: Memory, now_s: float) -> bool:
    """Whether there is an event, or the end of an iteration, at this instant."""
    if m.counters[EVENTS] > 0 and m.events[0].at_s == now_s:
        return True
    if m.counters[ACTIVE] == 0:
        return False
    r = m.active[0]
    return bool(m.replicas[r].at_s == now_s and m.replicas[r].phase == BOUNDARY)


@merged
def sleep(m: Memory, r: int) -> None:
    """Take a replica that has nothing to do out of the heap."""
    rep = m.replicas[r]
    i = rep.place
    rep.place = -1
    m.counters[ACTIVE] -= 1
    last = m.active[m.counters[ACTIVE]]
    if last != r:
        m.active[i] = last
        m.replicas[last].place = i
        schedule(m, last, m.replicas[last].at_s, m.replicas[last].phase)


# ---------------------------------------------------------------------------------------------------- sequences


@inlined
def _ends_before(m: Memory, a: int, b: int) -> bool:
    if m.sequences[a].end != m.sequences[b].end:
        return bool(m.sequences[a].end < m.sequences[b].end)
    return bool(m.sequences[a].order < m.sequences[b].order)


@compiled
def _settle(m: Memory, base: int, count: int, i: int, q: int) -> None:
    while i > 0:
        up = (i - 1) // 2
        if not _ends_before(m, q, m.ends[base + up]):
            break
        m.ends[base + i] = m.ends[base + up]
        m.sequences[m.ends[base + i]].place = i
        i = up
    while True:
        down = 2 * i + 1
        if down >= count:
            break
        if down + 1 < count and _ends_before(m, m.ends[base + down + 1], m.ends[base + down]):
            down += 1
        if not _ends_before(m, m.ends[base + down], q):
            break
        m.ends[base + i] = m.ends[base + down]
        m.sequences[m.ends[base + i]].place = i
        i = down
    m.ends[base + i] = q
    m.sequences[q].place = i


@merged
def push_end(m: Memory, r: int, q: int) -> None:
    rep = m.replicas[r]
    rep.ends += 1
    _settle(m, rep.ends_base, rep.ends, rep.ends - 1, q)


@merged
def remove_end(m: Memory, r: int, q: int) -> None:
    rep = m.replicas[r]
    rep.ends -= 1
    base, count, i = rep.ends_base, rep.ends, m.sequences[q].place
    last = m.ends[base + count]
    if last != q:
        _settle(m, base, count, i, last)


@merged
def delay_end(m: Memory, r: int, q: int) -> None:
    rep = m.replicas[r]
    one = m.sequences[q]
    one.end += 1
    _settle(m, rep.ends_base, rep.ends, one.place, q)
