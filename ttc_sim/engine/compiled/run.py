"""The compiled engine's loop, and the way in."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.compiled.clients import arrive, begin_stage, end_stage, happen, take_turn
from ttc_sim.engine.compiled.heaps import pop_event, schedule
from ttc_sim.engine.compiled.iterate import end_iterations, iterations_until, plan
from ttc_sim.engine.compiled.jit import kept
from ttc_sim.engine.compiled.levels import enter_interval, note_replica
from ttc_sim.engine.compiled.memory import memory, memory_at
from ttc_sim.engine.compiled.state import (
    ACTIVE,
    ACTS,
    ARRIVED,
    BATCH,
    BOUNDARY,
    CHAIN,
    CHOICES,
    COUNTERS,
    DECODE,
    DEPLOYMENT,
    DEPLOYMENTS,
    DOING,
    DONE,
    ENDS,
    EVENT,
    EVENTS,
    FREE_GROUPS,
    FREE_SEQUENCES,
    GROUP,
    GROW,
    HAPPENED,
    HAS_AFTER,
    HAS_LEVEL,
    HAS_NEEDED,
    HAS_PREFIX_TOKENS,
    INTERVAL,
    INTERVALS,
    LEAPS,
    LEVELS,
    LIMIT,
    LONGER,
    NEXT,
    NONE,
    OVERFLOW,
    PAUSE,
    PLAN,
    PLANS,
    PREFIXES,
    REPLICA,
    REPLICAS,
    REQUESTS,
    RETRIES,
    ROOM,
    SEQUENCE,
    STEPS,
    TIMEOUT,
    State,
)
from ttc_sim.engine.kv_cache import BLOCK, UNLIMITED
from ttc_sim.engine.work import (
    IN_FLIGHT,
    EngineResult,
    Work,
    capacity,
    check_clock,
    check_count,
    check_intervals,
    check_work,
    end_of_run,
    levels_over_time,
)
from ttc_sim.engine.work import LEVELS as LEVELS_RECORDED
from ttc_sim.policies import LiveRule
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.step_time import StepTable, no_steps, stack_tables

_BALANCERS = ("round_robin", "least_outstanding", "least_kv", "session")
_EVENTS_AT_A_TIME = 2_000_000


@kept
def _advance(addresses: I64, until_s: float, samples: int, events: int) -> int:
    """Go on for so many events, or until something has to grow (``samples`` is the most that one stage brings)."""
    m = memory_at(addresses)
    counters, n = m.counters, m.counters[REQUESTS]
    for _ in range(events):
        if (
            counters[FREE_SEQUENCES] < samples
            or counters[FREE_GROUPS] < 1
            or counters[EVENTS] + m.counters[BATCH] + 2 > m.counters[ROOM]
        ):
            return GROW
        # Requests that follow another come by event; their own time is not a number.
        while counters[NEXT] < n and np.isnan(m.arrival_s[counters[NEXT]]):
            counters[NEXT] += 1
        arrival_s = m.arrival_s[counters[NEXT]] if counters[NEXT] < n else np.inf
        event_s = m.events[0].at_s if counters[EVENTS] > 0 else np.inf
        sooner_s = min(arrival_s, event_s)
        if counters[INTERVALS] > 0:
            next_s = sooner_s if counters[ACTIVE] == 0 else min(sooner_s, m.replicas[m.active[0]].at_s)
            if m.clock[ENDS] <= next_s < np.inf and not enter_interval(m, next_s):
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
            pop_event(m)
            stage = happen(m, kind, request, stage, event_s)
            if stage >= 0 and kind < TIMEOUT:
                take_turn(m, request, stage, event_s, event_s == arrival_s)
            elif stage >= 0:
                begin_stage(m, request, stage, attempt, event_s)
        else:
            counters[DOING] = ARRIVED
            request = counters[NEXT]
            counters[NEXT] += 1
            begin_stage(m, request, arrive(m, request, arrival_s), NONE, arrival_s)
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
                    length = one.offset + m.replicas[r].iteration
                    if sat_out and one.stamp != m.replicas[r].iteration + 1:
                        length += 1  # counted as sitting out an iteration that has not ended
                m.generated[one.sample] = length - one.prompt
                stage = m.groups[one.group].stage
                m.prefilled[stage] = max(m.prefilled[stage], one.prefilled)
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
    arrays = _begin(works, deployments, route, tables)
    if interval_s is not None:
        arrays = _longer(arrays, interval_s)
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
            arrays = _grow(arrays, most_samples)
        if outcome == LONGER and interval_s is not None:
            arrays = _longer(arrays, interval_s)
    if until_s is not None:
        _stop(memory(arrays), until_s)
    busy_s = np.array([arrays.deployments[d]["busy_s"] for d in range(len(deployments))])
    np.add.at(busy_s, arrays.replicas["deployment"], arrays.replicas["busy_s"])

    def by_work(values: I64, sizes: list[int]) -> tuple[I64, ...]:
        return tuple(np.split(values, np.cumsum(sizes)[:-1]))

    stages = [len(work.deployment) for work in works]
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
        busy_s=busy_s,
        end_s=end_of_run(arrays.finished_s, until_s),
        levels_s=None if interval_s is None else _levels_of(arrays, interval_s),
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


# ---------------------------------------------------------------------------------------------------- the arrays


def _joined(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _begin(
    works: Sequence[Work],
    deployments: Sequence[Api | GpuPool],
    route: LiveRule | None,
    given: Sequence[StepTable | None] | None,
) -> State:
    first = works[0]
    n = first.requests
    stages, samples = sum(len(work.deployment) for work in works), sum(work.samples for work in works)
    none_i, none_f = np.zeros(0, dtype=np.int64), np.zeros(0)

    def optional(name: str) -> I64:
        """Of all works, if any has it; the others get what leaving it out means."""
        values = [getattr(work, name) for work in works]
        if all(value is None for value in values):
            return none_i
        meant = [w.prompt_tokens if name == "prefix_tokens" else np.diff(w.sample_start) for w in works]
        return np.ascontiguousarray(_joined([m if v is None else v for m, v in zip(meant, values, strict=True)]))

    def shifted(name: str, offsets: Sequence[int]) -> I64:
        return np.ascontiguousarray(
            _joined([getattr(w, name) + o if o else getattr(w, name) for w, o in zip(works, offsets, strict=True)])
        )

    stage_offset = np.cumsum([0, *(len(work.deployment) for work in works)]).tolist()
    sample_offset = np.cumsum([0, *(work.samples for work in works)]).tolist()
    sample_start = _joined(
        [
            w.sample_start[:-1] + o if i + 1 < len(works) else w.sample_start + o
            for i, (w, o) in enumerate(zip(works, sample_offset, strict=False))
        ]
    )
    prefix_id = _joined([work.prefix_id for work in works])
    caching = any(isinstance(item, GpuPool) and item.prefix_caching for item in deployments)
    prefixes = 0
    if (prefix_id >= 0).any():
        known = np.unique(prefix_id)
        if caching:
            prefixes = int(prefix_id.max()) + 1
            if prefixes > 4 * len(known) + 1024:
                raise ValueError("prefix_id: ids must be numbered from 0 without large gaps")
    level, levels = none_i, 1
    if first.priority is not None and len(first.priority):
        _, level = np.unique(first.priority, return_inverse=True)
        levels = int(level.max()) + 1
    next_of = none_i
    if first.after is not None:
        next_of = np.full(n, -1, dtype=np.int64)
        next_of[first.after[first.after >= 0]] = np.flatnonzero(first.after >= 0)
    dep, rep = _servers(deployments)
    most_seqs = int(dep["max_seqs"].max(initial=1))
    counters = np.zeros(COUNTERS, dtype=np.int64)
    counters[LEVELS] = levels
    if route is not None:
        counters[OVERFLOW], counters[LIMIT] = route.kind == "overflow", route.limit
    counters[REQUESTS], counters[REPLICAS], counters[DEPLOYMENTS], counters[PREFIXES] = n, len(rep), len(dep), prefixes
    counters[CHOICES] = 0 if route is None else route.arms.shape[1]
    counters[BATCH], counters[RETRIES] = most_seqs, first.backoff.shape[1]
    counters[HAS_AFTER], counters[HAS_LEVEL] = first.after is not None, first.priority is not None
    prefix_tokens, needed = optional("prefix_tokens"), optional("needed")
    counters[HAS_PREFIX_TOKENS], counters[HAS_NEEDED] = len(prefix_tokens) > 0, len(needed) > 0
    chains = np.zeros(len(rep) * (1 + prefixes), dtype=CHAIN)
    chains["following"] = -1
    for r in range(len(rep)):
        chains[r]["previous"] = chains[r]["following"] = r
        chains[r]["gap"] = rep[r]["total"]
    tables = stack_tables(
        [
            own or (pool_table(item) if isinstance(item, GpuPool) else no_steps())
            for item, own in zip(deployments, given or [None] * len(deployments), strict=True)
        ]
    )
    arrival_s = first.arrival_s if first.after is None else np.where(first.after < 0, first.arrival_s, np.nan)
    return State(
        arrival_s=arrival_s,
        stage_start=shifted("stage_start", stage_offset[:-1]),
        deployment_of=_joined([work.deployment for work in works]),
        prompt_tokens=_joined([work.prompt_tokens for work in works]),
        prefix_id=prefix_id,
        prefix_tokens=prefix_tokens,
        sample_start=np.ascontiguousarray(sample_start),
        output_tokens=_joined([work.reasoning_tokens + work.visible_tokens for work in works]),
        first_token_draw_s=_joined([work.first_token_s for work in works]),
        per_token_draw_s=_joined([work.per_token_s for work in works]),
        backoff=np.ascontiguousarray(first.backoff).reshape(-1),
        needed=needed,
        level=np.ascontiguousarray(level, dtype=np.int64),
        next_of=next_of,
        think_s=none_f if first.think_s is None else first.think_s,
        route=none_i if route is None else np.ascontiguousarray(route.arms, dtype=np.int64).reshape(-1),
        status=np.full(n, IN_FLIGHT, dtype=np.int8),
        arm=np.zeros(n, dtype=np.int32),
        arrived_s=arrival_s if first.after is None else arrival_s.copy(),
        started_s=np.full(n, np.nan),
        first_token_s=np.full(n, np.nan),
        finished_s=np.full(n, np.nan),
        retries=np.zeros(n, dtype=np.int32),
        preemptions=np.zeros(n, dtype=np.int32),
        generated=np.zeros(samples, dtype=np.int64),
        prefilled=np.zeros(stages, dtype=np.int64),
        cached=np.zeros(stages, dtype=np.int64),
        deployments=dep,
        replicas=rep,
        sequences=np.zeros(0, dtype=SEQUENCE),
        groups=np.zeros(0, dtype=GROUP),
        chains=chains,
        events=np.zeros(0, dtype=EVENT),
        free_sequences=none_i,
        free_groups=none_i,
        ends=np.zeros(int(dep["max_seqs"] @ dep["replicas"]) or 1, dtype=np.int64),
        due=np.zeros(len(rep) * 16, dtype=np.int64),
        waiting_first=np.full(len(rep) * levels, -1, dtype=np.int64),
        waiting_last=np.full(len(rep) * levels, -1, dtype=np.int64),
        active=np.zeros(max(len(rep), 1), dtype=np.int64),
        stage=np.zeros(n, dtype=np.int32),
        group=np.zeros(n, dtype=np.int32),
        finished=np.zeros(most_seqs, dtype=np.int64),
        load_at=np.zeros(1 if route is None else route.arms.shape[1], dtype=np.int64),
        load_waiting=np.zeros(len(deployments), dtype=np.int64),
        load_in_progress=np.zeros(len(deployments), dtype=np.int64),
        most=np.array([capacity(item) for item in deployments]),
        counters=counters,
        clock=np.full(3, np.inf),
        changes=none_f,
        **{f"table_{name}": values for name, values in tables._asdict().items()},
        table_shape=np.array(
            [*tables.dense_s.shape, tables.decode_s.shape[1], tables.knots.shape[2], *tables.attention_s.shape[1:], 4]
        ),
    )


def _servers(deployments: Sequence[Api | GpuPool]) -> tuple[NDArray[Any], NDArray[Any]]:
    dep = np.zeros(len(deployments), dtype=DEPLOYMENT)
    replicas: list[Any] = []
    ends_base = 0
    for d, item in enumerate(deployments):
        row = dep[d]
        row["timeout_s"] = np.inf if item.timeout_s is None else item.timeout_s
        row["capacity"] = capacity(item)
        if isinstance(item, GpuPool):
            row["kind"], row["first_replica"], row["replicas"] = 1, len(replicas), item.replicas
            row["max_seqs"], row["max_tokens"] = item.max_num_seqs, item.max_num_batched_tokens
            row["queue_limit"] = -1 if item.queue_limit is None else item.queue_limit
            row["balancer"] = _BALANCERS.index(item.load_balancer)
            row["by_priority"], row["caching"] = item.scheduling == "priority", item.prefix_caching
            for _ in range(item.replicas):
                replica = np.zeros(1, dtype=REPLICA)[0]
                replica["deployment"], replica["ends_base"] = d, ends_base
                for name in ("place", "first", "last", "prefill", "partial"):
                    replica[name] = -1
                blocks = UNLIMITED if item.kv_cache_tokens is None else item.kv_cache_tokens // BLOCK
                replica["free"] = replica["total"] = blocks
                replicas.append(replica)
                ends_base += item.max_num_seqs
            continue
        row["concurrency"] = -1 if item.concurrency is None else item.concurrency
        row["retries"], row["stops"] = item.retry.retries, item.on_timeout == "stop"
        row["backoff_base_s"], row["backoff_max_s"] = item.retry.base_s, item.retry.max_s
        for name, per_minute in (("requests", item.requests_per_minute), ("tokens", item.tokens_per_minute)):
            if per_minute is not None:
                row[f"has_{name}"] = 1
                row[f"{name}_most"] = row[f"{name}_level"] = per_minute
                row[f"{name}_rate"] = per_minute / 60.0
    return dep, np.array(replicas, dtype=REPLICA)


def _longer(arrays: State, interval_s: float) -> State:
    """Twice the room for intervals, and enough for the one that the clock has come to."""
    now = int(arrays.counters[INTERVAL])
    check_count(now + 1, interval_s)
    intervals = max(2 * int(arrays.counters[INTERVALS]), now + 1, 64)
    each = len(arrays.deployments) * len(LEVELS_RECORDED) * 2
    changes = np.zeros(intervals * each)
    changes[: len(arrays.changes)] = arrays.changes
    arrays.counters[INTERVALS] = intervals
    clock = np.array([interval_s, now * interval_s, (now + 1) * interval_s], dtype=np.float64)
    return arrays._replace(changes=changes, clock=clock)


def _levels_of(arrays: State, interval_s: float) -> F64:
    shape = int(arrays.counters[INTERVALS]), len(arrays.deployments), len(LEVELS_RECORDED), 2
    return levels_over_time(arrays.changes.reshape(shape), interval_s)


def _grow(arrays: State, samples: int) -> State:
    """Twice the room for sequences, groups and events in flight."""
    slots = len(arrays.sequences)
    more = max(slots, 1024, samples)
    events = max(2 * len(arrays.events), 1024, len(arrays.events) + len(arrays.finished) + 2)
    chains = np.zeros(2 * more, dtype=CHAIN)
    chains["following"] = -1

    def enlarged(values: NDArray[Any], size: int) -> NDArray[Any]:
        out = np.zeros(size, dtype=values.dtype)
        out[: len(values)] = values
        return out

    fresh = np.arange(slots, slots + more, dtype=np.int64)
    free_sequences, free_groups = (
        enlarged(np.concatenate([free[: arrays.counters[count]], fresh]), slots + more)
        for free, count in ((arrays.free_sequences, FREE_SEQUENCES), (arrays.free_groups, FREE_GROUPS))
    )
    arrays.counters[FREE_SEQUENCES] += more
    arrays.counters[FREE_GROUPS] += more
    arrays.counters[ROOM] = events
    return arrays._replace(
        sequences=enlarged(arrays.sequences, slots + more),
        groups=enlarged(arrays.groups, slots + more),
        chains=np.concatenate([arrays.chains, chains]),
        events=enlarged(arrays.events, events),
        free_sequences=free_sequences,
        free_groups=free_groups,
    )
