"""The three heaps: events by time, replicas by their next boundary, a replica's sequences by the iteration that ends them."""

from __future__ import annotations

from ttc_sim.engine.compiled import state
from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.state import ACTIVE, EVENTS, STAMP, Memory

# ------------------------------------------------------------------------------------------------------- events


@inlined
def _earlier(m: Memory, a: int, b: int) -> bool:
    if state.events(m)[a].at_s != state.events(m)[b].at_s:
        return bool(state.events(m)[a].at_s < state.events(m)[b].at_s)
    return bool(state.events(m)[a].order < state.events(m)[b].order)


@compiled
def push_event(m: Memory, at_s: float, kind: int, request: int, stage: int, attempt: int) -> None:
    i = state.counters(m)[EVENTS]
    state.counters(m)[EVENTS] += 1
    state.counters(m)[STAMP] += 1
    order = state.counters(m)[STAMP]
    while i > 0:
        up = (i - 1) // 2
        if state.events(m)[up].at_s <= at_s:
            break
        state.events(m)[i] = state.events(m)[up]
        i = up
    state.events(m)[i].at_s, state.events(m)[i].order, state.events(m)[i].kind = at_s, order, kind
    state.events(m)[i].request, state.events(m)[i].stage, state.events(m)[i].attempt = request, stage, attempt


@compiled
def pop_event(m: Memory) -> None:
    state.counters(m)[EVENTS] -= 1
    last = state.counters(m)[EVENTS]
    i = 0
    while True:
        down = 2 * i + 1
        if down >= last:
            break
        if down + 1 < last and _earlier(m, down + 1, down):
            down += 1
        if not _earlier(m, down, last):
            break
        state.events(m)[i] = state.events(m)[down]
        i = down
    state.events(m)[i] = state.events(m)[last]


# ----------------------------------------------------------------------------------------------------- replicas


@inlined
def _sooner(m: Memory, a: int, b: int) -> bool:
    if state.replicas(m)[a].at_s != state.replicas(m)[b].at_s:
        return bool(state.replicas(m)[a].at_s < state.replicas(m)[b].at_s)
    if state.replicas(m)[a].phase != state.replicas(m)[b].phase:
        return bool(state.replicas(m)[a].phase < state.replicas(m)[b].phase)
    return a < b


@compiled
def schedule(m: Memory, r: int, at_s: float, phase: int) -> None:
    """Set what a replica does next, and when."""
    state.replicas(m)[r].at_s, state.replicas(m)[r].phase = at_s, phase
    i = state.replicas(m)[r].place
    if i < 0:
        i = state.counters(m)[ACTIVE]
        state.counters(m)[ACTIVE] += 1
    moved = False
    while i > 0:
        up = (i - 1) // 2
        if not _sooner(m, r, state.active(m)[up]):
            break
        state.active(m)[i] = state.active(m)[up]
        state.replicas(m)[state.active(m)[i]].place = i
        i = up
        moved = True
    count = state.counters(m)[ACTIVE]
    while not moved:
        down = 2 * i + 1
        if down >= count:
            break
        if down + 1 < count and _sooner(m, state.active(m)[down + 1], state.active(m)[down]):
            down += 1
        if not _sooner(m, state.active(m)[down], r):
            break
        state.active(m)[i] = state.active(m)[down]
        state.replicas(m)[state.active(m)[i]].place = i
        i = down
    state.active(m)[i] = r
    state.replicas(m)[r].place = i


@compiled
def sleep(m: Memory, r: int) -> None:
    """Take a replica that has nothing to do out of the heap."""
    i = state.replicas(m)[r].place
    state.replicas(m)[r].place = -1
    state.counters(m)[ACTIVE] -= 1
    last = state.active(m)[state.counters(m)[ACTIVE]]
    if last != r:
        state.active(m)[i] = last
        state.replicas(m)[last].place = i
        schedule(m, last, state.replicas(m)[last].at_s, state.replicas(m)[last].phase)


# ---------------------------------------------------------------------------------------------------- sequences


@inlined
def _ends_before(m: Memory, a: int, b: int) -> bool:
    if state.sequences(m)[a].end != state.sequences(m)[b].end:
        return bool(state.sequences(m)[a].end < state.sequences(m)[b].end)
    return bool(state.sequences(m)[a].order < state.sequences(m)[b].order)


@compiled
def _settle(m: Memory, base: int, count: int, i: int, q: int) -> None:
    while i > 0:
        up = (i - 1) // 2
        if not _ends_before(m, q, state.ends(m)[base + up]):
            break
        state.ends(m)[base + i] = state.ends(m)[base + up]
        state.sequences(m)[state.ends(m)[base + i]].place = i
        i = up
    while True:
        down = 2 * i + 1
        if down >= count:
            break
        if down + 1 < count and _ends_before(m, state.ends(m)[base + down + 1], state.ends(m)[base + down]):
            down += 1
        if not _ends_before(m, state.ends(m)[base + down], q):
            break
        state.ends(m)[base + i] = state.ends(m)[base + down]
        state.sequences(m)[state.ends(m)[base + i]].place = i
        i = down
    state.ends(m)[base + i] = q
    state.sequences(m)[q].place = i


@inlined
def push_end(m: Memory, r: int, q: int) -> None:
    state.replicas(m)[r].ends += 1
    _settle(m, state.replicas(m)[r].ends_base, state.replicas(m)[r].ends, state.replicas(m)[r].ends - 1, q)


@compiled
def remove_end(m: Memory, r: int, q: int) -> None:
    state.replicas(m)[r].ends -= 1
    base, count, i = state.replicas(m)[r].ends_base, state.replicas(m)[r].ends, state.sequences(m)[q].place
    last = state.ends(m)[base + count]
    if last != q:
        _settle(m, base, count, i, last)


@compiled
def delay_end(m: Memory, r: int, q: int) -> None:
    state.sequences(m)[q].end += 1
    _settle(m, state.replicas(m)[r].ends_base, state.replicas(m)[r].ends, state.sequences(m)[q].place, q)
