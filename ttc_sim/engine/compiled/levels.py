"""How many are there over time: changes of each interval of the clock, as in :class:`ttc_sim.engine.recording.Levels`."""

from __future__ import annotations

from ttc_sim.engine.compiled.jit import compiled, inlined, merged
from ttc_sim.engine.compiled.speculation import due_at
from ttc_sim.engine.compiled.state import BEGINS, DEPLOYMENTS, ENDS, INTERVAL, INTERVALS, LENGTH, Memory
from ttc_sim.engine.work import BUSY, KV_BLOCKS, LEVELS, MOST_INTERVALS, QUEUED, RUNNING, interval_of
from ttc_sim.serving.step_time import line_seconds

_interval_of, _line_seconds = inlined(interval_of), inlined(line_seconds)
_LEVELS = len(LEVELS)


@merged
def enter_interval(m: Memory, at_s: float) -> bool:
    """Go on to the interval that a moment lies in, or to the first of more than a run may have; whether there is room for it."""
    k = m.counters[INTERVAL]
    while (k + 1) * m.clock[LENGTH] <= at_s and k < MOST_INTERVALS:
        k += 1
    m.counters[INTERVAL] = k
    m.clock[BEGINS], m.clock[ENDS] = k * m.clock[LENGTH], (k + 1) * m.clock[LENGTH]
    return bool(k < m.counters[INTERVALS] and k < MOST_INTERVALS)


@inlined
def _add(m: Memory, k: int, d: int, level: int, by: float, by_left: float) -> None:
    at = 2 * ((k * m.counters[DEPLOYMENTS] + d) * _LEVELS + level)
    m.changes[at] += by
    m.changes[at + 1] += by_left


@compiled
def note_replica(m: Memory, r: int, now_s: float) -> None:
    """Write down what is there from now on, in the interval that the clock is in."""
    rep = m.replicas[r]
    k, d, left_s = m.counters[INTERVAL], rep.deployment, m.clock[ENDS] - now_s
    by = rep.running - rep.noted_running
    if by != 0:
        rep.noted_running = rep.running
        _add(m, k, d, RUNNING, by, by * left_s)
    by = rep.waiting + rep.handed - rep.noted_waiting
    if by != 0:
        rep.noted_waiting = rep.waiting + rep.handed
        _add(m, k, d, QUEUED, by, by * left_s)
    used = rep.total - rep.free - rep.settled
    by = used - rep.noted_used
    if by != 0:
        rep.noted_used = used
        _add(m, k, d, KV_BLOCKS, by, by * left_s)
    awake = 1 if rep.place >= 0 else 0
    by = awake - rep.noted_awake
    if by != 0:
        rep.noted_awake = awake
        _add(m, k, d, BUSY, by, by * left_s)


@compiled
def note_endpoint(m: Memory, d: int, now_s: float) -> None:
    """Likewise of an API."""
    dep = m.deployments[d]
    k, left_s = m.counters[INTERVAL], m.clock[ENDS] - now_s
    by = dep.in_progress - dep.noted_running
    if by != 0:
        busy = (1 if dep.in_progress > 0 else 0) - (1 if dep.noted_running > 0 else 0)
        dep.noted_running = dep.in_progress
        _add(m, k, d, RUNNING, by, by * left_s)
        _add(m, k, d, BUSY, busy, busy * left_s)
    by = dep.waiting - dep.noted_waiting
    if by != 0:
        dep.noted_waiting = dep.waiting
        _add(m, k, d, QUEUED, by, by * left_s)


@compiled
def note_leap(m: Memory, r: int, blocks: int) -> None:
    """Write down the blocks that a leap, which ends now, took as it went on: each at the beginning of an iteration."""
    rep = m.replicas[r]
    rep.noted_used += blocks
    d, due, iterations, passed = rep.deployment, r * 16, rep.leap, rep.passed
    first_s, more_s = rep.first_step_s, rep.more_s
    if rep.drafts > 0 or rep.begun_s + _line_seconds(first_s, more_s, passed) < m.clock[BEGINS]:
        for i in range(iterations):  # over the end of an interval: one by one
            by = due_at(m, r, 1 + i) if rep.drafts > 0 else m.due[due + ((rep.iteration + 1 + i) & 15)]
            if by != 0:
                at_s = rep.begun_s + _line_seconds(first_s, more_s, passed + i)
                k = _interval_of(at_s, m.clock[LENGTH])
                _add(m, k, d, KV_BLOCKS, by, by * ((k + 1) * m.clock[LENGTH] - at_s))
        return
    # Those of iteration i, i + 16, ... come at times that are quadratic in the iteration, as the line has them: their sums have a
    # closed form in moments of what is due over 16 of them.
    whole, rest = iterations >> 4, iterations & 15
    lag_s = 0.0
    for part in range(2):
        lo, hi = (0, rest) if part == 0 else (rest, 16)
        count = whole + 1 - part
        if count == 0 or lo == hi:
            continue
        n = i1 = i2 = 0
        for i in range(lo, hi):
            by = m.due[due + ((rep.iteration + 1 + i) & 15)]
            at = passed + i
            n += by
            i1 += by * at
            i2 += by * at * at
        # Sums over t below count of (i + 16 t), and of its square.
        sum1 = count * i1 + 8.0 * count * (count - 1) * n
        sum2 = count * i2 + 16.0 * count * (count - 1) * i1 + 128.0 / 3.0 * (count - 1) * count * (2 * count - 1) * n
        lag_s += first_s * sum1 + more_s / 2 * (sum2 - sum1)
    _add(m, m.counters[INTERVAL], d, KV_BLOCKS, blocks, blocks * (m.clock[ENDS] - rep.begun_s) - lag_s)
