"""The three heaps: events by time, replicas by their next boundary, a replica's sequences by the iteration that ends them."""

from __future__ import annotations

from ttc_sim.draws import I64
from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.state import ACTIVE, EVENTS, STAMP, Records

# ------------------------------------------------------------------------------------------------------- events


@inlined
def _earlier(events: Records, a: int, b: int) -> bool:
    return events[a].at_s < events[b].at_s or (events[a].at_s == events[b].at_s and events[a].order < events[b].order)


@compiled
def push_event(events: Records, counters: I64, at_s: float, kind: int, request: int, stage: int, attempt: int) -> None:
    i = counters[EVENTS]
    counters[EVENTS] += 1
    counters[STAMP] += 1
    order = counters[STAMP]
    while i > 0:
        up = (i - 1) // 2
        if events[up].at_s <= at_s:
            break
        events[i] = events[up]
        i = up
    events[i].at_s, events[i].order, events[i].kind = at_s, order, kind
    events[i].request, events[i].stage, events[i].attempt = request, stage, attempt


@compiled
def pop_event(events: Records, counters: I64) -> None:
    counters[EVENTS] -= 1
    last = counters[EVENTS]
    i = 0
    while True:
        down = 2 * i + 1
        if down >= last:
            break
        if down + 1 < last and _earlier(events, down + 1, down):
            down += 1
        if not _earlier(events, down, last):
            break
        events[i] = events[down]
        i = down
    events[i] = events[last]


# ----------------------------------------------------------------------------------------------------- replicas


@inlined
def _sooner(replicas: Records, a: int, b: int) -> bool:
    if replicas[a].at_s != replicas[b].at_s:
        return bool(replicas[a].at_s < replicas[b].at_s)
    if replicas[a].phase != replicas[b].phase:
        return bool(replicas[a].phase < replicas[b].phase)
    return a < b


@compiled
def schedule(replicas: Records, active: I64, counters: I64, r: int, at_s: float, phase: int) -> None:
    """Set what a replica does next, and when."""
    replicas[r].at_s, replicas[r].phase = at_s, phase
    i = replicas[r].place
    if i < 0:
        i = counters[ACTIVE]
        counters[ACTIVE] += 1
    moved = False
    while i > 0:
        up = (i - 1) // 2
        if not _sooner(replicas, r, active[up]):
            break
        active[i] = active[up]
        replicas[active[i]].place = i
        i = up
        moved = True
    count = counters[ACTIVE]
    while not moved:
        down = 2 * i + 1
        if down >= count:
            break
        if down + 1 < count and _sooner(replicas, active[down + 1], active[down]):
            down += 1
        if not _sooner(replicas, active[down], r):
            break
        active[i] = active[down]
        replicas[active[i]].place = i
        i = down
    active[i] = r
    replicas[r].place = i


@compiled
def sleep(replicas: Records, active: I64, counters: I64, r: int) -> None:
    """Take a replica that has nothing to do out of the heap."""
    i = replicas[r].place
    replicas[r].place = -1
    counters[ACTIVE] -= 1
    last = active[counters[ACTIVE]]
    if last != r:
        active[i] = last
        replicas[last].place = i
        schedule(replicas, active, counters, last, replicas[last].at_s, replicas[last].phase)


# ---------------------------------------------------------------------------------------------------- sequences


@inlined
def _ends_before(sequences: Records, a: int, b: int) -> bool:
    if sequences[a].end != sequences[b].end:
        return bool(sequences[a].end < sequences[b].end)
    return bool(sequences[a].order < sequences[b].order)


@compiled
def _settle(sequences: Records, ends: I64, base: int, count: int, i: int, q: int) -> None:
    while i > 0:
        up = (i - 1) // 2
        if not _ends_before(sequences, q, ends[base + up]):
            break
        ends[base + i] = ends[base + up]
        sequences[ends[base + i]].place = i
        i = up
    while True:
        down = 2 * i + 1
        if down >= count:
            break
        if down + 1 < count and _ends_before(sequences, ends[base + down + 1], ends[base + down]):
            down += 1
        if not _ends_before(sequences, ends[base + down], q):
            break
        ends[base + i] = ends[base + down]
        sequences[ends[base + i]].place = i
        i = down
    ends[base + i] = q
    sequences[q].place = i


@inlined
def push_end(replicas: Records, sequences: Records, ends: I64, r: int, q: int) -> None:
    replicas[r].ends += 1
    _settle(sequences, ends, replicas[r].ends_base, replicas[r].ends, replicas[r].ends - 1, q)


@compiled
def remove_end(replicas: Records, sequences: Records, ends: I64, r: int, q: int) -> None:
    replicas[r].ends -= 1
    base, count, i = replicas[r].ends_base, replicas[r].ends, sequences[q].place
    last = ends[base + count]
    if last != q:
        _settle(sequences, ends, base, count, i, last)


@compiled
def delay_end(replicas: Records, sequences: Records, ends: I64, r: int, q: int) -> None:
    sequences[q].end += 1
    _settle(sequences, ends, replicas[r].ends_base, replicas[r].ends, sequences[q].place, q)
