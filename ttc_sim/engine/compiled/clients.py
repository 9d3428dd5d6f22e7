"""The clients' side of the compiled engine: arrivals, stages, load balancers, API calls. See :mod:`ttc_sim.engine.reference`."""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled.batch import enqueue, leave, own_chain
from ttc_sim.engine.compiled.heaps import happens_at, push_event, schedule
from ttc_sim.engine.compiled.iterate import blocks_of_leap, cut, iterations_until
from ttc_sim.engine.compiled.jit import compiled, inlined, merged
from ttc_sim.engine.compiled.kv import blocks_for
from ttc_sim.engine.compiled.levels import note_endpoint, note_replica
from ttc_sim.engine.compiled.state import (
    ANSWER,
    BOUNDARY,
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
    INTERVALS,
    LEAVE,
    LEAVE_AND_RELEASE,
    LIMIT,
    NEXT_STAGE,
    NONE,
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
    UNFINISHED,
    WAITING,
    Memory,
)
from ttc_sim.engine.fleet import IN_SERVICE, weight_of
from ttc_sim.engine.work import COMPLETED, FAILED, REJECTED, TIMED_OUT, pick_live
from ttc_sim.serving.api_limits import generated_by

_generated_by, _weight_of = inlined(generated_by), inlined(weight_of)  # one copy for both engines


@compiled
def _finish(m: Memory, request: int, status: int, now_s: float) -> None:
    m.status[request] = status
    m.finished_s[request] = now_s
    m.counters[UNFINISHED] -= 1
    if m.counters[HAS_AFTER] and m.next_of[request] >= 0:
        after = m.next_of[request]
        push_event(m, now_s + m.think_s[after], FOLLOW, after, NONE, NONE)


@compiled
def arrive(m: Memory, request: int, now_s: float) -> int:
    """A request arrives: choose its arm; returns the stage that begins."""
    if m.counters[HAS_AFTER]:
        m.arrived_s[request] = now_s
    n = m.counters[REQUESTS]
    choices = m.counters[CHOICES]
    if choices > 0:
        for i in range(choices):
            m.load_at[i] = m.deployment_of[m.stage_start[m.route[request * choices + i] * (n + 1) + request]]
        for d in range(m.counters[DEPLOYMENTS]):
            m.load_waiting[d] = m.deployments[d].waiting
            m.load_in_progress[d] = m.deployments[d].running + m.deployments[d].in_progress
        overflow = m.counters[OVERFLOW] == 1
        picked = pick_live(
            overflow,
            m.counters[LIMIT],
            choices,
            m.load_at,
            m.load_waiting,
            m.load_in_progress,
            m.most,
        )
        m.arm[request] = m.route[request * choices + picked]
    return int(m.stage_start[m.arm[request] * (n + 1) + request])


@compiled
def end_stage(m: Memory, request: int, now_s: float) -> int:
    """A stage has its answer; returns the next one, which begins when it is the request's turn, or -1 if the request is done."""
    n = m.counters[REQUESTS]
    stage = m.stage[request] + 1
    if stage < m.stage_start[m.arm[request] * (n + 1) + request + 1]:
        m.stage[request] = stage
        return int(stage)
    _finish(m, request, COMPLETED, now_s)
    return -1


@compiled
def fail_stage(m: Memory, request: int, now_s: float) -> None:
    """What served the stage that a request is at broke down before it was done."""
    _finish(m, request, FAILED, now_s)


@compiled
def begin_stage(m: Memory, request: int, stage: int, attempt: int, now_s: float) -> None:
    m.stage[request] = stage
    d = m.deployment_of[stage]
    if m.deployments[d].kind == 1:
        _submit(m, request, stage, d, now_s)
    else:
        _call(m, request, stage, d, attempt, now_s)
        if m.counters[INTERVALS] > 0:
            note_endpoint(m, d, now_s)


@compiled
def take_turn(m: Memory, request: int, stage: int, now_s: float, others: bool) -> None:
    """Begin a stage after servers have ended what they did: now, if there are no others whose turn may come before."""
    if others or happens_at(m, now_s):
        push_event(m, now_s, NEXT_STAGE, request, stage, NONE)
    else:
        begin_stage(m, request, stage, NONE, now_s)


# ------------------------------------------------------------------------------------------------------ GPU pool


@merged
def _kv_demand(m: Memory, r: int, now_s: float) -> int:
    rep = m.replicas[r]
    used = rep.total - rep.free + rep.waiting_blocks
    if rep.place >= 0 and rep.leap > 0:
        used += blocks_of_leap(m, r, iterations_until(m, r, now_s))
    return int(used)


@compiled
def _balance_in_service(m: Memory, d: int, session: int, now_s: float) -> int:
    """The same where not all replicas are; -1 if none is."""
    dep = m.deployments[d]
    first, end, serving = dep.first_replica, dep.first_replica + dep.replicas, m.fleets[d].serving
    if serving == 0:
        return -1
    kind = dep.balancer
    if kind == 0:
        dep.turn += 1
        turn = (dep.turn - 1) % serving
        for r in range(first, end):
            if m.replicas[r].state == IN_SERVICE:
                if turn == 0:
                    return int(r)
                turn -= 1
    if kind == 3 and session >= 0 and m.replicas[first + session % dep.replicas].state == IN_SERVICE:
        return int(first + session % dep.replicas)
    best = -1
    least = least_kv = np.iinfo(np.int64).max
    for r in range(first, end):
        if m.replicas[r].state != IN_SERVICE:
            continue
        unfinished, demand = m.replicas[r].running + m.replicas[r].waiting, 0
        if kind == 2:
            demand = _kv_demand(m, r, now_s)
        elif kind == 3 and session >= 0:
            demand, unfinished = -_weight_of(session, r - first), 0
        if best < 0 or demand < least_kv or (demand == least_kv and unfinished < least):
            best, least, least_kv = r, unfinished, demand
    return int(best)


@compiled
def _balance(m: Memory, d: int, session: int, now_s: float) -> int:
    dep = m.deployments[d]
    first, count = dep.first_replica, dep.replicas
    kind = dep.balancer
    if dep.changes:
        return _balance_in_service(m, d, session, now_s)
    if kind == 0:
        dep.turn += 1
        return int(first + (dep.turn - 1) % count)
    if kind == 3 and session >= 0:
        return int(first + session % count)
    best = first
    least = least_kv = np.iinfo(np.int64).max
    for r in range(first, first + count):
        unfinished = m.replicas[r].running + m.replicas[r].waiting
        demand = _kv_demand(m, r, now_s) if kind == 2 else 0
        if demand < least_kv or (demand == least_kv and unfinished < least):
            best, least, least_kv = r, unfinished, demand
    return int(best)


@compiled
def _submit(m: Memory, request: int, stage: int, d: int, now_s: float) -> None:
    dep = m.deployments[d]
    deadline_s = m.arrived_s[request] + dep.timeout_s
    if deadline_s <= now_s:
        _finish(m, request, TIMED_OUT, now_s)
        return
    lo, hi = m.sample_start[stage], m.sample_start[stage + 1]
    prompt = m.prompt_tokens[stage]
    r = _balance(m, d, m.prefix_id[stage], now_s)
    if r < 0:
        m.group[request] = -1
        fail_stage(m, request, now_s)
        return
    rep = m.replicas[r]
    limit = dep.queue_limit
    unfinished = rep.running + rep.waiting
    fits = limit < 0 or unfinished + hi - lo <= dep.max_seqs + limit
    for sample in range(lo, hi):
        fits = fits and blocks_for(prompt + m.output_tokens[sample] - 1) <= rep.total
    if not fits:
        _finish(m, request, REJECTED, now_s)
        return
    m.counters[FREE_GROUPS] -= 1
    g = m.free_groups[m.counters[FREE_GROUPS]]
    group = m.groups[g]
    group.request, group.arm, group.stage, group.replica = request, m.arm[request], stage, r
    group.unfinished, group.ended, group.first_sample = hi - lo, 0, lo
    group.needed = m.needed[stage] if m.counters[HAS_NEEDED] else hi - lo
    group.prefix, group.limit, group.own_limit = -1, 0, 0
    if dep.caching and m.prefix_id[stage] >= 0:
        most = prompt if hi - lo > 1 else prompt + m.output_tokens[lo] - 1
        shared = m.prefix_tokens[stage] if m.counters[HAS_PREFIX_TOKENS] else prompt
        limit = min(shared, most) // 16
        if limit > 0:
            group.prefix = m.counters[REPLICAS] + r * m.counters[PREFIXES] + m.prefix_id[stage]
            group.limit = limit
    if hi - lo > 1 and prompt // 16 > group.limit:
        own = own_chain(m, g, 0)
        m.chains[own].start = m.chains[own].end = group.limit
        m.chains[own].users = 0
        group.own_limit = prompt // 16
    last = -1
    was_waiting = rep.waiting
    level = m.level[request] if dep.by_priority and m.counters[HAS_LEVEL] else 0
    for sample in range(lo, hi):
        m.counters[FREE_SEQUENCES] -= 1
        q = m.free_sequences[m.counters[FREE_SEQUENCES]]
        one = m.sequences[q]
        one.group, one.sample, one.order, one.level = g, sample, rep.submitted, level
        one.prompt, one.length, one.output = prompt, prompt, m.output_tokens[sample]
        one.computed = one.blocks = one.shared = one.dropped = one.prefilled = 0
        one.stamp = one.sibling = -1
        rep.submitted += 1
        if last < 0:
            group.first = q
        else:
            m.sequences[last].sibling = q
        last = q
        enqueue(m, r, q, False)
    m.group[request] = g
    if m.counters[INTERVALS] > 0 and rep.place >= 0:
        note_replica(m, r, now_s)
    if deadline_s < np.inf:
        push_event(m, deadline_s, TIMEOUT, request, stage, NONE)
    if rep.place < 0:
        rep.woke_s = now_s
        schedule(m, r, now_s, PLAN)
        if m.counters[INTERVALS] > 0:
            note_replica(m, r, now_s)
    elif (was_waiting == 0 or dep.by_priority) and (rep.running < dep.max_seqs):
        # Behind others that wait for room there is nothing to see, and a full batch admits nobody.
        cut(m, r, now_s)


@compiled
def _time_out(m: Memory, request: int, now_s: float) -> None:
    g = m.group[request]
    r = m.groups[g].replica
    cut(m, r, now_s)
    if m.replicas[r].phase == BOUNDARY and m.replicas[r].at_s == now_s:
        # An iteration of the leap ends at this instant, and that comes first.
        push_event(m, now_s, TIMEOUT, request, m.stage[request], NONE)
        return
    q = m.groups[g].first
    while q >= 0:
        after = m.sequences[q].sibling
        if m.sequences[q].state == WAITING or m.replicas[r].phase == PLAN:
            leave(m, r, q)
        else:
            m.sequences[q].dropped = 1
            m.replicas[r].drops += 1
        q = after
    if m.counters[INTERVALS] > 0:
        note_replica(m, r, now_s)
    _finish(m, request, TIMED_OUT, now_s)


# ----------------------------------------------------------------------------------------------------------- API


@merged
def _accepts(m: Memory, d: int, tokens: int, now_s: float) -> bool:
    """As :class:`ttc_sim.serving.api_limits.ApiLimits`."""
    dep = m.deployments[d]
    if dep.concurrency >= 0 and dep.in_progress >= dep.concurrency:
        return False
    if dep.has_requests:
        level = dep.requests_level + (now_s - dep.requests_at) * dep.requests_rate
        dep.requests_level, dep.requests_at = min(dep.requests_most, level), now_s
        if dep.requests_level < 1 - 1e-9:
            return False
    if dep.has_tokens:
        level = dep.tokens_level + (now_s - dep.tokens_at) * dep.tokens_rate
        dep.tokens_level, dep.tokens_at = min(dep.tokens_most, level), now_s
        if dep.tokens_level < tokens * (1 - 1e-9):
            return False
        dep.tokens_level -= tokens
    if dep.has_requests:
        dep.requests_level -= 1
    return True


@inlined
def _nth_smallest(m: Memory, lo: int, hi: int, n: int) -> float:
    """Seconds by which ``n`` of the samples of a call have ended."""
    for a in range(lo, hi):
        mine = m.first_token_draw_s[a] + (m.output_tokens[a] - 1) * m.per_token_draw_s[a]
        before = 0
        for b in range(lo, hi):
            other = m.first_token_draw_s[b] + (m.output_tokens[b] - 1) * m.per_token_draw_s[b]
            before += other < mine or (other == mine and b <= a)
        if before == n:
            return float(mine)
    return np.inf


@compiled
def _call(m: Memory, request: int, stage: int, d: int, attempt: int, now_s: float) -> None:
    dep = m.deployments[d]
    lo, hi = m.sample_start[stage], m.sample_start[stage + 1]
    asked = m.prompt_tokens[stage]
    for sample in range(lo, hi):
        asked += m.output_tokens[sample]
    never = (dep.has_tokens and asked > dep.tokens_most) or (dep.has_requests and dep.requests_most < 1)
    deadline_s = m.arrived_s[request] + dep.timeout_s
    if deadline_s <= now_s:
        _finish(m, request, TIMED_OUT, now_s)
        return
    if never:
        _finish(m, request, REJECTED, now_s)
        return
    if not _accepts(m, d, asked, now_s):
        if attempt == dep.retries:
            _finish(m, request, REJECTED, now_s)
            return
        wait_s = min(dep.backoff_max_s, dep.backoff_base_s * 2.0 ** min(attempt, 60))
        wait_s *= 0.5 + m.backoff[request * m.counters[RETRIES] + attempt]
        dep.waiting += 1
        if deadline_s <= now_s + wait_s:
            push_event(m, deadline_s, GIVE_UP, request, stage, attempt)
        else:
            push_event(m, now_s + wait_s, RETRY, request, stage, attempt + 1)
        return
    dep.in_progress += 1
    if dep.in_progress == 1:
        dep.busy_since_s = now_s
    if np.isnan(m.started_s[request]):
        m.started_s[request] = now_s
    m.prefilled[stage] = m.prompt_tokens[stage]
    ends_s = now_s + _nth_smallest(m, lo, hi, hi - lo)
    answered_s = now_s + _nth_smallest(m, lo, hi, m.needed[stage]) if m.counters[HAS_NEEDED] else ends_s
    in_time = answered_s <= deadline_s
    leaves_s = answered_s if in_time else deadline_s
    released_s = leaves_s if dep.stops else ends_s
    first_s = np.inf
    # Where the clock is stopped before, what was to happen at that moment does not.
    upto_s = released_s if released_s < dep.until_s else np.nextafter(dep.until_s, -np.inf)
    for sample in range(lo, hi):
        first, tokens = m.first_token_draw_s[sample], m.output_tokens[sample]
        first_s = min(first_s, first)
        if upto_s < ends_s:
            tokens = _generated_by(upto_s, now_s, first, m.per_token_draw_s[sample], tokens)
        m.generated[sample] = tokens
    first_s += now_s
    if np.isnan(m.first_token_s[request]) and first_s <= leaves_s and first_s < dep.until_s:
        m.first_token_s[request] = first_s
    if released_s == leaves_s:
        push_event(m, leaves_s, RELEASE_AND_ANSWER if in_time else LEAVE_AND_RELEASE, request, stage, NONE)
        return
    push_event(m, leaves_s, ANSWER if in_time else LEAVE, request, stage, NONE)
    push_event(m, released_s, RELEASE, request, stage, NONE)


@compiled
def happen(m: Memory, kind: int, request: int, stage: int, now_s: float) -> int:
    """One event of the heap; returns the stage that begins after it, or is tried again, or -1."""
    if kind >= RETRY:
        if kind == FOLLOW:
            return int(arrive(m, request, now_s))
        if kind == RETRY:
            m.deployments[m.deployment_of[stage]].waiting -= 1
            m.retries[request] += 1
        return stage
    if kind == TIMEOUT:
        if m.stage[request] == stage and np.isnan(m.finished_s[request]):
            _time_out(m, request, now_s)
        return -1
    dep = m.deployments[m.deployment_of[stage]]
    if kind == GIVE_UP:
        dep.waiting -= 1
    elif kind not in (ANSWER, LEAVE):
        dep.in_progress -= 1
        if dep.in_progress == 0:
            dep.busy_s += now_s - dep.busy_since_s
    if m.counters[INTERVALS] > 0:
        note_endpoint(m, m.deployment_of[stage], now_s)
    if kind >= GIVE_UP:
        _finish(m, request, TIMED_OUT, now_s)
    elif kind != RELEASE:
        return int(end_stage(m, request, now_s))
    return -1
