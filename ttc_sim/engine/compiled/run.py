"""The compiled engine's loop, and the way in."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.engine.compiled.arrays import (
    begin,
    grow,
    keep_more,
    levels_of,
    longer,
    more,
    more_chains,
    more_days,
    spending_found,
)
from ttc_sim.engine.compiled.batch import write_down
from ttc_sim.engine.compiled.clients import arrive, begin_stage, end_stage, happen, take_turn
from ttc_sim.engine.compiled.fleet import change, drained, has_room_for_change, note_change
from ttc_sim.engine.compiled.heaps import pop_event, schedule
from ttc_sim.engine.compiled.iterate import end_iterations, iterations_until, plan
from ttc_sim.engine.compiled.jit import kept
from ttc_sim.engine.compiled.landing import land
from ttc_sim.engine.compiled.levels import enter_interval, note_replica
from ttc_sim.engine.compiled.memory import memory, memory_at
from ttc_sim.engine.compiled.ranks import begin_together
from ttc_sim.engine.compiled.speculation import length_of
from ttc_sim.engine.compiled.spending import enter_day
from ttc_sim.engine.compiled.state import (
    ACTIVE,
    ACTS,
    ARRIVED,
    BOUNDARY,
    BUDGETS,
    CHAINS_NEEDED,
    CHANGE,
    DECODE,
    DEPLOYMENTS,
    DOING,
    DONE,
    DRAWN,
    ENDS,
    EVENTS,
    EVENTS_NEEDED,
    FREE_CHAINS,
    FREE_GROUPS,
    FREE_KEPT,
    FREE_SEQUENCES,
    GROW,
    HAPPENED,
    INTERVALS,
    KEEP_MORE,
    LANDED,
    LEAPS,
    LEVELS,
    LOGGED,
    LONGER,
    MORE,
    MORE_CHAINS,
    MORE_DAYS,
    MOST_KEPT,
    NEXT,
    PAUSE,
    PLAN,
    PLANS,
    REPLICAS,
    REQUESTS,
    RETRY,
    ROOM,
    STEPS,
    TIMEOUT,
    TURNS,
    UNFINISHED,
    WAITED_FOR,
)
from ttc_sim.engine.contexts import within_context
from ttc_sim.engine.fleet import (
    DRAINING,
    FailureTimes,
)
from ttc_sim.engine.spending import Budgets, check_budgets
from ttc_sim.engine.work import (
    Attempts,
    Down,
    EngineResult,
    Work,
    busy_replicas,
    check_clock,
    check_following,
    check_intervals,
    check_work,
    end_of_run,
    fleet_log,
    has_api_cache,
    may_break,
)
from ttc_sim.policies import LiveRule
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.serving.step_time import StepTable

_EVENTS_AT_A_TIME = 2_000_000
_DRAWN = 16  # of how long a replica serves; more where that is not enough


@kept
def _advance(addresses: I64, until_s: float, samples: int, events: int) -> int:
    """Go on for so many events, or until something has to grow (``samples`` is the most that one stage brings)."""
    m = memory_at(addresses)
    counters, n = m.counters, m.counters[REQUESTS]
    for _ in range(events):
        if (
            counters[FREE_SEQUENCES] < samples
            or counters[FREE_GROUPS] < 1
            or counters[EVENTS] + counters[EVENTS_NEEDED] + counters[WAITED_FOR] > counters[ROOM]
        ):
            return GROW
        if counters[FREE_CHAINS] < counters[CHAINS_NEEDED]:
            return MORE_CHAINS
        if counters[FREE_KEPT] < counters[MOST_KEPT]:
            return KEEP_MORE
        # Requests that follow another come by event; their own time is not a number.
        while counters[NEXT] < n and np.isnan(m.arrival_s[counters[NEXT]]):
            counters[NEXT] += 1
        arrival_s = m.arrival_s[counters[NEXT]] if counters[NEXT] < n else np.inf
        event_s = m.events[0].at_s if counters[EVENTS] > 0 else np.inf
        sooner_s = min(arrival_s, event_s)
        if counters[INTERVALS] > 0:
            next_s = sooner_s if counters[ACTIVE] == 0 else min(sooner_s, m.replicas[m.active[0]].at_s)
            # What happens to replicas once no request is left is of no interest, however late it is.
            idle = counters[UNFINISHED] == 0 and counters[ACTIVE] == 0 and counters[EVENTS] > 0
            idle = idle and m.events[0].kind == CHANGE
            if m.clock[ENDS] <= next_s < np.inf and not idle and not enter_interval(m, next_s):
                return LONGER
        if counters[ACTIVE] > 0:
            r = m.active[0]
            now_s = m.replicas[r].at_s
            boundary = m.replicas[r].phase == BOUNDARY
            if now_s < sooner_s or (now_s == sooner_s and boundary):
                if now_s >= until_s:
                    return DONE
                if boundary:
                    counters[DOING] = STEPS if m.replicas[r].leap == 0 else LEAPS
                    ended = end_iterations(m, r, now_s)
                    if counters[INTERVALS] > 0:
                        note_replica(m, r, now_s)
                    schedule(m, r, now_s, PLAN)
                    for i in range(ended):
                        stage = end_stage(m, m.finished[i], now_s)
                        if stage >= 0:
                            take_turn(m, m.finished[i], stage, now_s, ended > 1 or now_s == sooner_s)
                else:
                    counters[DOING] = PLANS
                    plan(m, r, now_s)
                    if m.replicas[r].ranks_to > 0:
                        begin_together(m, r, now_s)
                    if m.replicas[r].place < 0 and m.replicas[r].state == DRAINING:
                        drained(m, r, now_s)
                    if counters[INTERVALS] > 0:
                        note_replica(m, r, now_s)
                counters[counters[DOING]] += 1
                continue
        if sooner_s >= until_s or sooner_s == np.inf:
            return DONE
        if event_s < arrival_s or (event_s == arrival_s and m.events[0].order < ACTS + counters[NEXT]):
            counters[DOING] = HAPPENED
            event = m.events[0]
            kind, request, stage, attempt = event.kind, event.request, event.stage, event.attempt
            if kind == CHANGE and not has_room_for_change(m, request, stage):
                return MORE
            turns = counters[BUDGETS] > 0 and kind != CHANGE and m.budget_clock[TURNS] <= event_s
            if turns and not enter_day(m, event_s):
                return MORE_DAYS
            pop_event(m)
            if kind == CHANGE:
                change(m, request, stage, attempt, event_s)
                if counters[INTERVALS] > 0:
                    note_change(m, request, stage, event_s)
                continue
            if kind == LANDED:
                land(m, request, stage, event_s)
                continue
            stage = happen(m, kind, request, stage, attempt, event_s)
            if stage >= 0 and kind < TIMEOUT:
                take_turn(m, request, stage, event_s, event_s == arrival_s)
            elif stage >= 0:
                begin_stage(m, request, stage, kind == RETRY, event_s)
        else:
            counters[DOING] = ARRIVED
            if counters[BUDGETS] > 0 and m.budget_clock[TURNS] <= arrival_s and not enter_day(m, arrival_s):
                return MORE_DAYS
            request = counters[NEXT]
            counters[NEXT] += 1
            stage = arrive(m, request, arrival_s)
            if stage >= 0:
                begin_stage(m, request, stage, False, arrival_s)
        counters[counters[DOING]] += 1
    return PAUSE


@kept
def _stop(addresses: I64, until_s: float) -> None:
    """Write down what those in flight have had when the clock is stopped."""
    m = memory_at(addresses)
    for r in range(m.counters[REPLICAS]):
        if m.replicas[r].place >= 0 and m.replicas[r].phase == BOUNDARY and m.replicas[r].leap > 0:
            # The one that ends at that moment or later is not done.
            m.replicas[r].iteration += iterations_until(m, r, until_s) - 1
        if m.replicas[r].place >= 0:
            m.replicas[r].busy_s += until_s - m.replicas[r].woke_s
        sat_out = m.replicas[r].phase == BOUNDARY and m.replicas[r].scheduled < m.replicas[r].decoding
        for level in range(-1, m.counters[LEVELS]):
            q = m.replicas[r].first if level < 0 else m.waiting_first[r * m.counters[LEVELS] + level]
            while q >= 0:
                one = m.sequences[q]
                length = one.length
                if one.state == DECODE:
                    # Those that sit out an iteration are counted as having done so, though it has not ended.
                    sits_out = sat_out and one.stamp != m.replicas[r].iteration + 1
                    length = length_of(m, r, q, 1 if sits_out else 0)
                write_down(m, one.group, one.sample, min(length - one.prompt, one.output), one.prefilled)
                q = one.next
    for d in range(m.counters[DEPLOYMENTS]):
        if m.deployments[d].kind == 0 and m.deployments[d].in_progress > 0:
            m.deployments[d].busy_s += until_s - m.deployments[d].busy_since_s


def run(
    works: Sequence[Work],
    names: Sequence[str],
    deployments: Sequence[Api | GpuPool],
    route: LiveRule | None = None,
    until_s: float | None = None,
    tables: Sequence[StepTable | None] | None = None,
    watch: Callable[[I64], object] | None = None,
    interval_s: float | None = None,
    failure_times: FailureTimes | None = None,
    following: I64 | None = None,
    outages: Sequence[Down | None] | None = None,
    budgets: Budgets | None = None,
) -> EngineResult:
    """Run all requests to their end; arguments, result and errors are those of :func:`ttc_sim.engine.reference.run`.

    ``tables`` are step times by deployment, instead of the pools' own. A policy that looks at live load is given as a
    :class:`LiveRule`. Can be interrupted from the keyboard. ``watch`` gets the engine's counters before it starts; another thread
    can read there what is being done.
    """
    check_clock(until_s)
    check_intervals(interval_s, until_s)
    warm_up()
    for work in works:
        check_work(work)
    works = [within_context(work, deployments) for work in works]
    check_following(following, works)
    check_budgets(budgets, len(works), works[0].requests)
    times = failure_times or FailureTimes()
    drawn_s = times.drawn(names, deployments, _DRAWN)
    arrays = begin(works, deployments, route, tables, drawn_s, following, outages, budgets)
    if interval_s is not None:
        arrays = longer(arrays, interval_s)
    most_samples = max(int(np.diff(work.sample_start).max(initial=1)) for work in works)
    clock_s = np.inf if until_s is None else until_s
    arrays.deployments["until_s"] = clock_s
    if watch is not None:
        watch(arrays.counters)
    while True:
        outcome = _advance(memory(arrays), clock_s, most_samples, _EVENTS_AT_A_TIME)
        if outcome == DONE:
            break
        if outcome == GROW:
            arrays = grow(arrays, most_samples)
        if outcome == MORE_CHAINS:
            arrays = more_chains(arrays)
        if outcome == KEEP_MORE:
            arrays = keep_more(arrays)
        if outcome == MORE:
            drawn = int(arrays.counters[DRAWN])
            short = int(arrays.replicas["lives"].max()) >= drawn
            arrays = more(arrays, times.drawn(names, deployments, 2 * drawn if short else drawn))
        if outcome == LONGER and interval_s is not None:
            arrays = longer(arrays, interval_s)
        if outcome == MORE_DAYS:
            arrays = more_days(arrays)
    if until_s is not None:
        _stop(memory(arrays), until_s)
        arrays.first_token_s[arrays.first_token_s >= until_s] = np.nan
    busy_s = np.array([arrays.deployments[d]["busy_s"] for d in range(len(deployments))])
    at, prefill_busy_s = arrays.replicas["deployment"], np.zeros(len(deployments))
    np.add.at(busy_s, arrays.deployments["owner"][at], arrays.replicas["busy_s"])
    apart = at >= len(deployments)
    np.add.at(prefill_busy_s, arrays.deployments["owner"][at[apart]], arrays.replicas["busy_s"][apart])
    busy_s /= [item.data_parallel if isinstance(item, GpuPool) else 1 for item in deployments]

    def by_work(values: I64, sizes: list[int]) -> tuple[I64, ...]:
        return tuple(np.split(values, np.cumsum(sizes)[:-1]))

    stages, logged = [len(work.deployment) for work in works], int(arrays.counters[LOGGED])
    return EngineResult(
        status=arrays.status,
        arm=arrays.arm,
        arrival_s=arrays.arrived_s,
        started_s=arrays.started_s,
        first_token_s=arrays.first_token_s,
        finished_s=arrays.finished_s,
        retries=arrays.retries,
        preemptions=arrays.preemptions,
        generated_tokens=by_work(arrays.generated, [work.samples for work in works]),
        prefilled_tokens=by_work(arrays.prefilled, stages),
        cached_tokens=by_work(arrays.cached, stages),
        written_tokens=by_work(arrays.written, stages) if has_api_cache(deployments) else (),
        busy_s=busy_s,
        prefill_busy_s=prefill_busy_s,
        end_s=end_of_run(arrays.finished_s, until_s),
        levels_s=None if interval_s is None else busy_replicas(levels_of(arrays, interval_s), deployments),
        fleet=fleet_log(deployments, arrays.log_s[:logged], arrays.log_replica[:logged], arrays.log_state[:logged]),
        attempts=None
        if not may_break(deployments, following)
        else Attempts(
            first=arrays.first,
            begun_s=arrays.begun_s,
            errors=arrays.errors,
            outage_errors=arrays.outage_errors,
            error_retries=arrays.error_retries,
            timeout_retries=arrays.timeout_retries,
            fallbacks=arrays.fallbacks,
            lost_generated=by_work(arrays.lost_generated, [work.samples for work in works]),
            lost_reasoning=by_work(arrays.lost_reasoning, [work.samples for work in works]),
            lost_prefilled=by_work(arrays.lost_prefilled, stages),
            lost_cached=by_work(arrays.lost_cached, stages),
            lost_written=by_work(arrays.lost_written, stages) if has_api_cache(deployments) else (),
            lost_attempts=by_work(arrays.lost_attempts, stages),
            known=not arrays.deployments["unknown"].any(),
        ),
        spending=None if budgets is None else spending_found(arrays, interval_s),
    )


def warm_up() -> None:
    """Compile, or load what has been compiled, before something is timed."""
    if _stop.nopython_signatures:
        return
    collects = gc.isenabled()
    # A compiler makes many objects and drops few: looking for those takes a tenth of its time.
    gc.disable()
    try:
        _advance.compile("int64(int64[::1], float64, int64, int64)")
        _stop.compile("void(int64[::1], float64)")
    finally:
        if collects:
            gc.enable()
