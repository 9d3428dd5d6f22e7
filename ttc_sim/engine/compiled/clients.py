"""The clients' side of the compiled engine: arrivals, stages, load balancers, API calls. See :mod:`ttc_sim.engine.reference`."""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled.batch import enqueue, leave, own_chain
from ttc_sim.engine.compiled.heaps import push_event, schedule
from ttc_sim.engine.compiled.iterate import blocks_of_leap, cut, iterations_until
from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.kv import blocks_for
from ttc_sim.engine.compiled.state import (
    ANSWER,
    FOLLOW,
    FREE_GROUPS,
    FREE_SEQUENCES,
    GIVE_UP,
    LIMIT,
    OVERFLOW,
    PLAN,
    RELEASE,
    RELEASE_AND_ANSWER,
    RETRY,
    TIMEOUT,
    WAITING,
    State,
)
from ttc_sim.engine.work import COMPLETED, REJECTED, TIMED_OUT, pick_live


@compiled
def _finish(s: State, request: int, status: int, now_s: float) -> None:
    s.status[request] = status
    s.finished_s[request] = now_s
    if len(s.next_of) and s.next_of[request] >= 0:
        after = s.next_of[request]
        push_event(s.events, s.counters, now_s + s.think_s[after], FOLLOW, after, 0, 0)


@compiled
def arrive(s: State, request: int, now_s: float) -> None:
    """A request arrives: choose its arm, begin its first stage."""
    if len(s.next_of):
        s.arrived_s[request] = now_s
    n = len(s.arrival_s)
    choices = s.route.shape[1]
    if choices > 0:
        at = np.empty(choices, dtype=np.int64)
        for i in range(choices):
            at[i] = s.deployment_of[s.stage_start[s.route[request, i] * (n + 1) + request]]
        for d in range(len(s.deployments)):
            s.load[0, d] = s.deployments[d].waiting
            s.load[1, d] = s.deployments[d].running + s.deployments[d].in_progress
        overflow = s.counters[OVERFLOW] == 1
        s.arm[request] = s.route[request, pick_live(overflow, s.counters[LIMIT], at, s.load[0], s.load[1], s.most)]
    begin_stage(s, request, s.stage_start[s.arm[request] * (n + 1) + request], now_s)


@compiled
def end_stage(s: State, request: int, now_s: float) -> None:
    """A stage has its answer: on to the next, or done."""
    n = len(s.arrival_s)
    stage = s.stage[request] + 1
    if stage < s.stage_start[s.arm[request] * (n + 1) + request + 1]:
        begin_stage(s, request, stage, now_s)
    else:
        _finish(s, request, COMPLETED, now_s)


@compiled
def begin_stage(s: State, request: int, stage: int, now_s: float) -> None:
    s.stage[request] = stage
    d = s.deployment_of[stage]
    if s.deployments[d].kind == 1:
        _submit(s, request, stage, d, now_s)
    else:
        _call(s, request, stage, d, 0, now_s)


# ------------------------------------------------------------------------------------------------------ GPU pool


@inlined
def _kv_demand(s: State, r: int, now_s: float) -> int:
    used = s.replicas[r].total - s.replicas[r].free + s.replicas[r].waiting_blocks
    if s.replicas[r].place >= 0 and s.replicas[r].leap > 0:
        used += blocks_of_leap(s, r, iterations_until(s, r, now_s))
    return int(used)


@compiled
def _balance(s: State, d: int, session: int, now_s: float) -> int:
    first, count = s.deployments[d].first_replica, s.deployments[d].replicas
    kind = s.deployments[d].balancer
    if kind == 0:
        s.deployments[d].turn += 1
        return int(first + (s.deployments[d].turn - 1) % count)
    if kind == 3 and session >= 0:
        return int(first + session % count)
    best = first
    least = least_kv = np.iinfo(np.int64).max
    for r in range(first, first + count):
        unfinished = s.replicas[r].running + s.replicas[r].waiting
        demand = _kv_demand(s, r, now_s) if kind == 2 else 0
        if demand < least_kv or (demand == least_kv and unfinished < least):
            best, least, least_kv = r, unfinished, demand
    return int(best)


@compiled
def _submit(s: State, request: int, stage: int, d: int, now_s: float) -> None:
    deadline_s = s.arrived_s[request] + s.deployments[d].timeout_s
    if deadline_s - now_s <= 0:
        _finish(s, request, TIMED_OUT, now_s)
        return
    lo, hi = s.sample_start[stage], s.sample_start[stage + 1]
    prompt = s.prompt_tokens[stage]
    r = _balance(s, d, s.prefix_id[stage], now_s)
    limit = s.deployments[d].queue_limit
    unfinished = s.replicas[r].running + s.replicas[r].waiting
    fits = limit < 0 or unfinished + hi - lo <= s.deployments[d].max_seqs + limit
    for sample in range(lo, hi):
        fits = fits and blocks_for(prompt + s.output_tokens[sample] - 1) <= s.replicas[r].total
    if not fits:
        _finish(s, request, REJECTED, now_s)
        return
    s.counters[FREE_GROUPS] -= 1
    g = s.free_groups[s.counters[FREE_GROUPS]]
    group = s.groups
    group[g].request, group[g].arm, group[g].stage, group[g].replica = request, s.arm[request], stage, r
    group[g].unfinished, group[g].ended, group[g].first_sample = hi - lo, 0, lo
    group[g].needed = s.needed[stage] if len(s.needed) else hi - lo
    group[g].prefix, group[g].limit, group[g].own_limit = -1, 0, 0
    if s.deployments[d].caching and s.prefix_id[stage] >= 0:
        most = prompt if hi - lo > 1 else prompt + s.output_tokens[lo] - 1
        shared = s.prefix_tokens[stage] if len(s.prefix_tokens) else prompt
        limit = min(shared, most) // 16
        if limit > 0:
            group[g].prefix = len(s.replicas) + r * s.prefixes + s.prefix_id[stage]
            group[g].limit = limit
    if hi - lo > 1 and prompt // 16 > group[g].limit:
        own = own_chain(s, g, 0)
        s.chains[own].start = s.chains[own].end = group[g].limit
        s.chains[own].users = 0
        group[g].own_limit = prompt // 16
    last = -1
    was_waiting = s.replicas[r].waiting
    level = s.level[request] if s.deployments[d].by_priority and len(s.level) else 0
    for sample in range(lo, hi):
        s.counters[FREE_SEQUENCES] -= 1
        q = s.free_sequences[s.counters[FREE_SEQUENCES]]
        one = s.sequences
        one[q].group, one[q].sample, one[q].order, one[q].level = g, sample, s.replicas[r].submitted, level
        one[q].prompt, one[q].length, one[q].output = prompt, prompt, s.output_tokens[sample]
        one[q].computed = one[q].blocks = one[q].shared = one[q].dropped = one[q].prefilled = 0
        one[q].stamp = one[q].sibling = -1
        s.replicas[r].submitted += 1
        if last < 0:
            group[g].first = q
        else:
            one[last].sibling = q
        last = q
        enqueue(s, r, q, False)
    s.group[request] = g
    if deadline_s < np.inf:
        push_event(s.events, s.counters, deadline_s, TIMEOUT, request, stage, 0)
    if s.replicas[r].place < 0:
        schedule(s.replicas, s.active, s.counters, r, now_s, PLAN)
    elif was_waiting == 0 or s.deployments[d].by_priority:
        # Behind others that wait for room there is nothing to see; a full batch admits nobody.
        if s.replicas[r].running < s.deployments[d].max_seqs:
            cut(s, r, now_s)


@compiled
def _time_out(s: State, request: int, now_s: float) -> None:
    g = s.group[request]
    r = s.groups[g].replica
    q = s.groups[g].first
    while q >= 0:
        after = s.sequences[q].sibling
        if s.sequences[q].state == WAITING:
            leave(s, r, q)
        else:
            s.sequences[q].dropped = 1
            s.replicas[r].drops += 1
        q = after
    cut(s, r, now_s)
    _finish(s, request, TIMED_OUT, now_s)


# ----------------------------------------------------------------------------------------------------------- API


@inlined
def _accepts(s: State, d: int, tokens: int, now_s: float) -> bool:
    """As :class:`ttc_sim.serving.api_limits.ApiLimits`."""
    api = s.deployments
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
def _nth_smallest(s: State, lo: int, hi: int, n: int) -> float:
    """Seconds by which ``n`` of the samples of a call have ended."""
    for a in range(lo, hi):
        mine = s.first_token_draw_s[a] + (s.output_tokens[a] - 1) * s.per_token_draw_s[a]
        before = 0
        for b in range(lo, hi):
            other = s.first_token_draw_s[b] + (s.output_tokens[b] - 1) * s.per_token_draw_s[b]
            before += other < mine or (other == mine and b <= a)
        if before == n:
            return float(mine)
    return np.inf


@compiled
def _call(s: State, request: int, stage: int, d: int, attempt: int, now_s: float) -> None:
    lo, hi = s.sample_start[stage], s.sample_start[stage + 1]
    api = s.deployments
    asked = s.prompt_tokens[stage]
    for sample in range(lo, hi):
        asked += s.output_tokens[sample]
    never = (api[d].has_tokens and asked > api[d].tokens_most) or (api[d].has_requests and api[d].requests_most < 1)
    left_s = s.arrived_s[request] + api[d].timeout_s - now_s
    if never:
        _finish(s, request, REJECTED, now_s)
        return
    if not _accepts(s, d, asked, now_s):
        if attempt == api[d].retries:
            _finish(s, request, REJECTED, now_s)
            return
        wait_s = min(api[d].backoff_max_s, api[d].backoff_base_s * 2.0 ** min(attempt, 60))
        wait_s *= 0.5 + s.backoff[request, attempt]
        api[d].waiting += 1
        if left_s <= wait_s:
            push_event(s.events, s.counters, now_s + max(left_s, 0.0), GIVE_UP, request, stage, attempt)
        else:
            push_event(s.events, s.counters, now_s + wait_s, RETRY, request, stage, attempt + 1)
        return
    api[d].in_progress += 1
    if api[d].in_progress == 1:
        api[d].busy_since_s = now_s
    if np.isnan(s.started_s[request]):
        s.started_s[request] = now_s
    first_s = np.inf
    for sample in range(lo, hi):
        first_s = min(first_s, s.first_token_draw_s[sample])
        s.generated[sample] = s.output_tokens[sample]
    s.prefilled[stage] = s.prompt_tokens[stage]
    released_s = _nth_smallest(s, lo, hi, hi - lo)
    answered_s = _nth_smallest(s, lo, hi, s.needed[stage]) if len(s.needed) else released_s
    if np.isnan(s.first_token_s[request]) and first_s <= left_s:
        s.first_token_s[request] = now_s + first_s
    in_time = answered_s <= left_s
    if in_time and answered_s == released_s:
        push_event(s.events, s.counters, now_s + released_s, RELEASE_AND_ANSWER, request, stage, 1)
        return
    push_event(s.events, s.counters, now_s + released_s, RELEASE, request, stage, 0)
    push_event(
        s.events, s.counters, now_s + max(min(answered_s, left_s), 0.0), ANSWER, request, stage, 1 if in_time else 0
    )


@compiled
def happen(s: State, kind: int, request: int, stage: int, attempt: int, now_s: float) -> None:
    """One event of the heap."""
    if kind == FOLLOW:
        arrive(s, request, now_s)
        return
    d = s.deployment_of[stage]
    if kind == TIMEOUT:
        if s.stage[request] == stage and np.isnan(s.finished_s[request]):
            _time_out(s, request, now_s)
        return
    if kind == RETRY:
        s.deployments[d].waiting -= 1
        s.retries[request] += 1
        _call(s, request, stage, d, attempt, now_s)
        return
    if kind == GIVE_UP:
        s.deployments[d].waiting -= 1
        _finish(s, request, TIMED_OUT, now_s)
        return
    if kind != ANSWER:
        s.deployments[d].in_progress -= 1
        if s.deployments[d].in_progress == 0:
            s.deployments[d].busy_s += now_s - s.deployments[d].busy_since_s
    if kind != RELEASE:
        if attempt:
            end_stage(s, request, now_s)
        else:
            _finish(s, request, TIMED_OUT, now_s)
