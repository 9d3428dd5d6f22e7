"""The clients' side of the compiled engine: arrivals, stages, load balancers, API calls. See :mod:`ttc_sim.engine.reference`."""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled import state
from ttc_sim.engine.compiled.batch import enqueue, leave, own_chain
from ttc_sim.engine.compiled.heaps import push_event, schedule
from ttc_sim.engine.compiled.iterate import blocks_of_leap, cut, iterations_until
from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.kv import blocks_for
from ttc_sim.engine.compiled.state import (
    ANSWER,
    CHOICES,
    DEPLOYMENTS,
    FOLLOW,
    FREE_GROUPS,
    FREE_SEQUENCES,
    GIVE_UP,
    HAS_AFTER,
    HAS_LEVEL,
    HAS_NEEDED,
    HAS_PREFIX_TOKENS,
    LIMIT,
    NONE,
    ONE,
    OVERFLOW,
    PLAN,
    PREFIXES,
    RELEASE,
    RELEASE_AND_ANSWER,
    REPLICAS,
    REQUESTS,
    RETRIES,
    RETRY,
    TIMEOUT,
    WAITING,
    Memory,
)
from ttc_sim.engine.work import COMPLETED, REJECTED, TIMED_OUT, pick_live


@compiled
def _finish(m: Memory, request: int, status: int, now_s: float) -> None:
    state.status(m)[request] = status
    state.finished_s(m)[request] = now_s
    if state.counters(m)[HAS_AFTER] and state.next_of(m)[request] >= 0:
        after = state.next_of(m)[request]
        push_event(m, now_s + state.think_s(m)[after], FOLLOW, after, NONE, NONE)


@compiled
def arrive(m: Memory, request: int, now_s: float) -> None:
    """A request arrives: choose its arm, begin its first stage."""
    if state.counters(m)[HAS_AFTER]:
        state.arrived_s(m)[request] = now_s
    n = state.counters(m)[REQUESTS]
    choices = state.counters(m)[CHOICES]
    if choices > 0:
        at = state.load_at(m)[:choices]
        for i in range(choices):
            at[i] = state.deployment_of(m)[
                state.stage_start(m)[state.route(m)[request * choices + i] * (n + 1) + request]
            ]
        for d in range(state.counters(m)[DEPLOYMENTS]):
            state.load_waiting(m)[d] = state.deployments(m)[d].waiting
            state.load_in_progress(m)[d] = state.deployments(m)[d].running + state.deployments(m)[d].in_progress
        overflow = state.counters(m)[OVERFLOW] == 1
        picked = pick_live(
            overflow,
            state.counters(m)[LIMIT],
            at,
            state.load_waiting(m),
            state.load_in_progress(m),
            state.most(m),
        )
        state.arm(m)[request] = state.route(m)[request * choices + picked]
    begin_stage(m, request, state.stage_start(m)[state.arm(m)[request] * (n + 1) + request], now_s)


@compiled
def end_stage(m: Memory, request: int, now_s: float) -> None:
    """A stage has its answer: on to the next, or done."""
    n = state.counters(m)[REQUESTS]
    stage = state.stage(m)[request] + 1
    if stage < state.stage_start(m)[state.arm(m)[request] * (n + 1) + request + 1]:
        begin_stage(m, request, stage, now_s)
    else:
        _finish(m, request, COMPLETED, now_s)


@compiled
def begin_stage(m: Memory, request: int, stage: int, now_s: float) -> None:
    state.stage(m)[request] = stage
    d = state.deployment_of(m)[stage]
    if state.deployments(m)[d].kind == 1:
        _submit(m, request, stage, d, now_s)
    else:
        _call(m, request, stage, d, NONE, now_s)


# ------------------------------------------------------------------------------------------------------ GPU pool


@inlined
def _kv_demand(m: Memory, r: int, now_s: float) -> int:
    used = state.replicas(m)[r].total - state.replicas(m)[r].free + state.replicas(m)[r].waiting_blocks
    if state.replicas(m)[r].place >= 0 and state.replicas(m)[r].leap > 0:
        used += blocks_of_leap(m, r, iterations_until(m, r, now_s))
    return int(used)


@compiled
def _balance(m: Memory, d: int, session: int, now_s: float) -> int:
    first, count = state.deployments(m)[d].first_replica, state.deployments(m)[d].replicas
    kind = state.deployments(m)[d].balancer
    if kind == 0:
        state.deployments(m)[d].turn += 1
        return int(first + (state.deployments(m)[d].turn - 1) % count)
    if kind == 3 and session >= 0:
        return int(first + session % count)
    best = first
    least = least_kv = np.iinfo(np.int64).max
    for r in range(first, first + count):
        unfinished = state.replicas(m)[r].running + state.replicas(m)[r].waiting
        demand = _kv_demand(m, r, now_s) if kind == 2 else 0
        if demand < least_kv or (demand == least_kv and unfinished < least):
            best, least, least_kv = r, unfinished, demand
    return int(best)


@compiled
def _submit(m: Memory, request: int, stage: int, d: int, now_s: float) -> None:
    deadline_s = state.arrived_s(m)[request] + state.deployments(m)[d].timeout_s
    if deadline_s - now_s <= 0:
        _finish(m, request, TIMED_OUT, now_s)
        return
    lo, hi = state.sample_start(m)[stage], state.sample_start(m)[stage + 1]
    prompt = state.prompt_tokens(m)[stage]
    r = _balance(m, d, state.prefix_id(m)[stage], now_s)
    limit = state.deployments(m)[d].queue_limit
    unfinished = state.replicas(m)[r].running + state.replicas(m)[r].waiting
    fits = limit < 0 or unfinished + hi - lo <= state.deployments(m)[d].max_seqs + limit
    for sample in range(lo, hi):
        fits = fits and blocks_for(prompt + state.output_tokens(m)[sample] - 1) <= state.replicas(m)[r].total
    if not fits:
        _finish(m, request, REJECTED, now_s)
        return
    state.counters(m)[FREE_GROUPS] -= 1
    g = state.free_groups(m)[state.counters(m)[FREE_GROUPS]]
    group = state.groups(m)
    group[g].request, group[g].arm, group[g].stage, group[g].replica = request, state.arm(m)[request], stage, r
    group[g].unfinished, group[g].ended, group[g].first_sample = hi - lo, 0, lo
    group[g].needed = state.needed(m)[stage] if state.counters(m)[HAS_NEEDED] else hi - lo
    group[g].prefix, group[g].limit, group[g].own_limit = -1, 0, 0
    if state.deployments(m)[d].caching and state.prefix_id(m)[stage] >= 0:
        most = prompt if hi - lo > 1 else prompt + state.output_tokens(m)[lo] - 1
        shared = state.prefix_tokens(m)[stage] if state.counters(m)[HAS_PREFIX_TOKENS] else prompt
        limit = min(shared, most) // 16
        if limit > 0:
            group[g].prefix = state.counters(m)[REPLICAS] + r * state.counters(m)[PREFIXES] + state.prefix_id(m)[stage]
            group[g].limit = limit
    if hi - lo > 1 and prompt // 16 > group[g].limit:
        own = own_chain(m, g, 0)
        state.chains(m)[own].start = state.chains(m)[own].end = group[g].limit
        state.chains(m)[own].users = 0
        group[g].own_limit = prompt // 16
    last = -1
    was_waiting = state.replicas(m)[r].waiting
    level = state.level(m)[request] if state.deployments(m)[d].by_priority and state.counters(m)[HAS_LEVEL] else 0
    for sample in range(lo, hi):
        state.counters(m)[FREE_SEQUENCES] -= 1
        q = state.free_sequences(m)[state.counters(m)[FREE_SEQUENCES]]
        one = state.sequences(m)
        one[q].group, one[q].sample, one[q].order, one[q].level = g, sample, state.replicas(m)[r].submitted, level
        one[q].prompt, one[q].length, one[q].output = prompt, prompt, state.output_tokens(m)[sample]
        one[q].computed = one[q].blocks = one[q].shared = one[q].dropped = one[q].prefilled = 0
        one[q].stamp = one[q].sibling = -1
        state.replicas(m)[r].submitted += 1
        if last < 0:
            group[g].first = q
        else:
            one[last].sibling = q
        last = q
        enqueue(m, r, q, False)
    state.group(m)[request] = g
    if deadline_s < np.inf:
        push_event(m, deadline_s, TIMEOUT, request, stage, NONE)
    if state.replicas(m)[r].place < 0:
        schedule(m, r, now_s, PLAN)
    elif (was_waiting == 0 or state.deployments(m)[d].by_priority) and (
        state.replicas(m)[r].running < state.deployments(m)[d].max_seqs
    ):
        # Behind others that wait for room there is nothing to see, and a full batch admits nobody.
        cut(m, r, now_s)


@compiled
def _time_out(m: Memory, request: int, now_s: float) -> None:
    g = state.group(m)[request]
    r = state.groups(m)[g].replica
    q = state.groups(m)[g].first
    while q >= 0:
        after = state.sequences(m)[q].sibling
        if state.sequences(m)[q].state == WAITING:
            leave(m, r, q)
        else:
            state.sequences(m)[q].dropped = 1
            state.replicas(m)[r].drops += 1
        q = after
    cut(m, r, now_s)
    _finish(m, request, TIMED_OUT, now_s)


# ----------------------------------------------------------------------------------------------------------- API


@inlined
def _accepts(m: Memory, d: int, tokens: int, now_s: float) -> bool:
    """As :class:`ttc_sim.serving.api_limits.ApiLimits`."""
    api = state.deployments(m)
    if api[d].concurrency >= 0 and api[d].in_progress >= api[d].concurrency:
        return False
    if api[d].has_requests:
        level = api[d].requests_level + (now_s - api[d].requests_at) * api[d].requests_rate
        api[d].requests_level, api[d].requests_at = min(api[d].requests_most, level), now_s
        if api[d].requests_level < 1 - 1e-9:
            return False
    if api[d].has_tokens:
        level = api[d].tokens_level + (now_s - api[d].tokens_at) * api[d].tokens_rate
        api[d].tokens_level, api[d].tokens_at = min(api[d].tokens_most, level), now_s
        if api[d].tokens_level < tokens * (1 - 1e-9):
            return False
        api[d].tokens_level -= tokens
    if api[d].has_requests:
        api[d].requests_level -= 1
    return True


@inlined
def _nth_smallest(m: Memory, lo: int, hi: int, n: int) -> float:
    """Seconds by which ``n`` of the samples of a call have ended."""
    for a in range(lo, hi):
        mine = state.first_token_draw_s(m)[a] + (state.output_tokens(m)[a] - 1) * state.per_token_draw_s(m)[a]
        before = 0
        for b in range(lo, hi):
            other = state.first_token_draw_s(m)[b] + (state.output_tokens(m)[b] - 1) * state.per_token_draw_s(m)[b]
            before += other < mine or (other == mine and b <= a)
        if before == n:
            return float(mine)
    return np.inf


@compiled
def _call(m: Memory, request: int, stage: int, d: int, attempt: int, now_s: float) -> None:
    lo, hi = state.sample_start(m)[stage], state.sample_start(m)[stage + 1]
    api = state.deployments(m)
    asked = state.prompt_tokens(m)[stage]
    for sample in range(lo, hi):
        asked += state.output_tokens(m)[sample]
    never = (api[d].has_tokens and asked > api[d].tokens_most) or (api[d].has_requests and api[d].requests_most < 1)
    left_s = state.arrived_s(m)[request] + api[d].timeout_s - now_s
    if never:
        _finish(m, request, REJECTED, now_s)
        return
    if not _accepts(m, d, asked, now_s):
        if attempt == api[d].retries:
            _finish(m, request, REJECTED, now_s)
            return
        wait_s = min(api[d].backoff_max_s, api[d].backoff_base_s * 2.0 ** min(attempt, 60))
        wait_s *= 0.5 + state.backoff(m)[request * state.counters(m)[RETRIES] + attempt]
        api[d].waiting += 1
        if left_s <= wait_s:
            push_event(m, now_s + max(left_s, 0.0), GIVE_UP, request, stage, attempt)
        else:
            push_event(m, now_s + wait_s, RETRY, request, stage, attempt + 1)
        return
    api[d].in_progress += 1
    if api[d].in_progress == 1:
        api[d].busy_since_s = now_s
    if np.isnan(state.started_s(m)[request]):
        state.started_s(m)[request] = now_s
    first_s = np.inf
    for sample in range(lo, hi):
        first_s = min(first_s, state.first_token_draw_s(m)[sample])
        state.generated(m)[sample] = state.output_tokens(m)[sample]
    state.prefilled(m)[stage] = state.prompt_tokens(m)[stage]
    released_s = _nth_smallest(m, lo, hi, hi - lo)
    answered_s = _nth_smallest(m, lo, hi, state.needed(m)[stage]) if state.counters(m)[HAS_NEEDED] else released_s
    if np.isnan(state.first_token_s(m)[request]) and first_s <= left_s:
        state.first_token_s(m)[request] = now_s + first_s
    in_time = answered_s <= left_s
    if in_time and answered_s == released_s:
        push_event(m, now_s + released_s, RELEASE_AND_ANSWER, request, stage, ONE)
        return
    push_event(m, now_s + released_s, RELEASE, request, stage, NONE)
    push_event(
        m,
        now_s + max(min(answered_s, left_s), 0.0),
        ANSWER,
        request,
        stage,
        1 if in_time else 0,
    )


@compiled
def happen(m: Memory, kind: int, request: int, stage: int, attempt: int, now_s: float) -> None:
    """One event of the heap."""
    if kind == FOLLOW:
        arrive(m, request, now_s)
        return
    d = state.deployment_of(m)[stage]
    if kind == TIMEOUT:
        if state.stage(m)[request] == stage and np.isnan(state.finished_s(m)[request]):
            _time_out(m, request, now_s)
        return
    if kind == RETRY:
        state.deployments(m)[d].waiting -= 1
        state.retries(m)[request] += 1
        _call(m, request, stage, d, attempt, now_s)
        return
    if kind == GIVE_UP:
        state.deployments(m)[d].waiting -= 1
        _finish(m, request, TIMED_OUT, now_s)
        return
    if kind != ANSWER:
        state.deployments(m)[d].in_progress -= 1
        if state.deployments(m)[d].in_progress == 0:
            state.deployments(m)[d].busy_s += now_s - state.deployments(m)[d].busy_since_s
    if kind != RELEASE:
        if attempt:
            end_stage(m, request, now_s)
        else:
            _finish(m, request, TIMED_OUT, now_s)
