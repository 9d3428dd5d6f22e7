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
    BREAK,
    BROKEN,
    CALLS_AGAIN,
    CALLS_BREAK,
    CHOICES,
    DEPLOYMENTS,
    FALLBACK,
    FOLLOW,
    FREE_GROUPS,
    FREE_SEQUENCES,
    GIVE_UP,
    HAS_AFTER,
    HAS_LEVEL,
    HAS_NEEDED,
    HAS_PREFIX_TOKENS,
    INTERVALS,
    KEEPS_ATTEMPTS,
    LATE,
    LEAVE,
    LEAVE_AND_RELEASE,
    LIMIT,
    NEVER,
    NEXT_STAGE,
    NONE,
    OVERFLOW,
    PLAN,
    PREFIXES,
    REFUSED,
    RELEASE,
    RELEASE_AND_ANSWER,
    REPLICAS,
    REQUESTS,
    RETRIES,
    RETRY,
    SAMPLES,
    TIMEOUT,
    UNFINISHED,
    WAITING,
    WORKS,
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
    if m.counters[KEEPS_ATTEMPTS]:
        m.begun_s[request] = now_s
        m.first[request] = m.arm[request]
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
    if m.counters[KEEPS_ATTEMPTS]:
        m.errors[request] += 1
    not_answered(m, request, FAILED, BROKEN, True, now_s)


@compiled
def begin_stage(m: Memory, request: int, stage: int, again: bool, now_s: float) -> None:
    """Ask for a stage, for the first time or ``again``."""
    m.stage[request] = stage
    if not again:
        m.attempt[request] = 0
        if m.counters[KEEPS_ATTEMPTS]:
            m.lost_calls[request] = 0
    d = m.deployment_of[stage]
    if m.deployments[d].kind == 1:
        _submit(m, request, stage, d, now_s)
    else:
        _call(m, request, stage, d, now_s)
        if m.counters[INTERVALS] > 0:
            note_endpoint(m, d, now_s)


# ------------------------------------------------------------------------------- attempts that were not answered


@inlined
def _deadline(m: Memory, request: int, d: int, now_s: float) -> float:
    """When the client gives up an attempt that is made now."""
    dep = m.deployments[d]
    if m.counters[KEEPS_ATTEMPTS] == 0:
        return float(m.arrived_s[request] + dep.timeout_s)
    from_s = now_s if dep.per_attempt else m.begun_s[request]
    return float(min(from_s + dep.timeout_s, m.arrived_s[request] + dep.deadline_s))


@compiled
def _lose(m: Memory, request: int, stage: int) -> None:
    """What an attempt has had is lost, and so is what is still to come of it."""
    had = m.prefilled[stage]
    if m.deployments[m.deployment_of[stage]].kind == 1 and m.group[request] >= 0:
        m.groups[m.group[request]].lost = had
    m.lost_calls[request] += 1
    m.lost_attempts[stage] += 1 if had > 0 else 0
    m.lost_prefilled[stage] += had
    m.lost_cached[stage] += m.cached[stage]
    m.prefilled[stage] = m.cached[stage] = 0
    for sample in range(m.sample_start[stage], m.sample_start[stage + 1]):
        generated = m.generated[sample]
        m.lost_generated[sample] += generated
        m.lost_reasoning[sample] += min(generated, m.reasoning[sample])
        m.generated[sample] = 0
    if stage == m.stage_start[m.arm[request] * (m.counters[REQUESTS] + 1) + request]:
        m.first_token_s[request] = np.nan


@compiled
def _fall_back(m: Memory, request: int, status: int, now_s: float) -> None:
    """An arm has not answered: the next one takes the request, or it has its end."""
    works = m.counters[WORKS]
    if works > 0:
        after = m.following[request * works + m.arm[request]]
        d = m.deployment_of[m.stage[request]]
        if after >= 0 and now_s < m.arrived_s[request] + m.deployments[d].deadline_s:
            m.arm[request] = after
            stage = m.stage_start[after * (m.counters[REQUESTS] + 1) + request]
            m.stage[request] = stage
            m.first_token_s[request] = np.nan
            push_event(m, now_s, FALLBACK, request, stage, NONE)
            return
    _finish(m, request, status, now_s)


@compiled
def not_answered(m: Memory, request: int, status: int, reason: int, begun: bool, now_s: float) -> None:
    """An attempt has ended without an answer: the client asks again, goes on to the next arm, or has had its end.

    ``status`` is what becomes of the request if nobody asks again; ``begun``: whether a server took the attempt in.
    """
    d = m.deployment_of[m.stage[request]]
    dep = m.deployments[d]
    attempt = m.attempt[request]
    over = False
    last_s = m.arrived_s[request] + dep.timeout_s
    if m.counters[KEEPS_ATTEMPTS]:
        last_s = m.arrived_s[request] + dep.deadline_s
        over = reason == LATE and last_s <= now_s
        if dep.per_attempt == 0:
            last_s = min(last_s, m.begun_s[request] + dep.timeout_s)
    if (dep.retry_on >> reason) & 1 == 0 or attempt == dep.retries or over:
        _fall_back(m, request, status, now_s)
        return
    stage = m.stage[request]
    if begun:
        _lose(m, request, stage)
    wait_s = min(dep.backoff_max_s, dep.backoff_base_s * 2.0 ** min(attempt, 60))
    wait_s *= 0.5 + m.backoff[request * m.counters[RETRIES] + attempt]
    m.attempt[request] = attempt + 1
    if dep.kind == 0:
        dep.waiting += 1
    if last_s <= now_s + wait_s:
        push_event(m, last_s, GIVE_UP, request, stage, NONE)
    else:
        push_event(m, now_s + wait_s, RETRY, request, stage, reason)


@compiled
def take_turn(m: Memory, request: int, stage: int, now_s: float, others: bool) -> None:
    """Begin a stage after servers have ended what they did: now, if there are no others whose turn may come before."""
    if others or happens_at(m, now_s):
        push_event(m, now_s, NEXT_STAGE, request, stage, NONE)
    else:
        begin_stage(m, request, stage, False, now_s)


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
    deadline_s = _deadline(m, request, d, now_s)
    if deadline_s <= now_s:
        not_answered(m, request, TIMED_OUT, LATE, False, now_s)
        return
    lo, hi = m.sample_start[stage], m.sample_start[stage + 1]
    prompt = m.prompt_tokens[stage]
    r = _balance(m, d, m.prefix_id[stage], now_s)
    if r < 0:
        if m.counters[KEEPS_ATTEMPTS]:
            m.errors[request] += 1
        not_answered(m, request, FAILED, BROKEN, False, now_s)
        return
    rep = m.replicas[r]
    limit = dep.queue_limit
    unfinished = rep.running + rep.waiting
    fits = True
    for sample in range(lo, hi):
        fits = fits and blocks_for(prompt + m.output_tokens[sample] - 1) <= rep.total
    if not fits or (limit >= 0 and unfinished + hi - lo > dep.max_seqs + limit):
        not_answered(m, request, REJECTED, REFUSED if fits else NEVER, False, now_s)
        return
    m.counters[FREE_GROUPS] -= 1
    g = m.free_groups[m.counters[FREE_GROUPS]]
    group = m.groups[g]
    group.request, group.arm, group.stage, group.replica = request, m.arm[request], stage, r
    group.unfinished, group.ended, group.first_sample = hi - lo, 0, lo
    group.needed = m.needed[stage] if m.counters[HAS_NEEDED] else hi - lo
    group.prefix, group.limit, group.own_limit = -1, 0, 0
    group.lost = -1
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
        push_event(m, deadline_s, TIMEOUT, request, stage, m.attempt[request])
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
        push_event(m, now_s, TIMEOUT, request, m.stage[request], m.attempt[request])
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
    not_answered(m, request, TIMED_OUT, LATE, True, now_s)


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


@merged
def _is_down(m: Memory, d: int, now_s: float) -> bool:
    """Whether an outage is on; those that are over are passed."""
    dep = m.deployments[d]
    if now_s > dep.known_until_s:
        dep.unknown = 1
    while dep.outage < dep.outages_end and m.outage_until_s[dep.outage] <= now_s:
        dep.outage += 1
    return bool(dep.outage < dep.outages_end and m.outage_from_s[dep.outage] <= now_s)


@merged
def _slowness(m: Memory, d: int, now_s: float) -> float:
    """By how much the times of a call that is accepted now are longer."""
    dep = m.deployments[d]
    while dep.slow < dep.slows_end and m.slow_until_s[dep.slow] <= now_s:
        dep.slow += 1
    if dep.slow < dep.slows_end and m.slow_from_s[dep.slow] <= now_s:
        return float(m.slow_factor[dep.slow])
    return 1.0


@inlined
def _first_s(m: Memory, sample: int, call: int) -> float:
    """Drawn time to first token of a call, from 0."""
    if call == 0:
        return float(m.first_token_draw_s[sample])
    return float(m.again_first_s[(call - 1) * m.counters[SAMPLES] + sample])


@inlined
def _per_token_s(m: Memory, sample: int, call: int) -> float:
    if call == 0:
        return float(m.per_token_draw_s[sample])
    return float(m.again_per_token_s[(call - 1) * m.counters[SAMPLES] + sample])


@inlined
def _error_at(m: Memory, request: int, stage: int, now_s: float, answered_s: float, call: int, factor: float) -> float:
    """When a call that is accepted now ends in an error, if it does."""
    lost, calls = m.lost_calls[request], m.counters[CALLS_BREAK]
    if lost >= calls or m.breaks[stage * calls + lost] == 0:
        return np.inf
    after = m.deployments[m.deployment_of[stage]].error_after
    if after == 0:
        return now_s
    if after == 2:
        return now_s + 0.5 * (answered_s - now_s)
    first_s = np.inf
    for sample in range(m.sample_start[stage], m.sample_start[stage + 1]):
        first_s = min(first_s, _first_s(m, sample, call) * factor)
    return first_s + now_s


@inlined
def _took_s(m: Memory, sample: int, call: int, factor: float) -> float:
    """Seconds to the last token of a sample."""
    rest_s = (m.output_tokens[sample] - 1) * (_per_token_s(m, sample, call) * factor)
    return float(_first_s(m, sample, call) * factor + rest_s)


@inlined
def _nth_smallest(m: Memory, lo: int, hi: int, n: int, call: int, factor: float) -> float:
    """Seconds by which ``n`` of the samples of a call have ended."""
    if hi - lo == 1:
        return _took_s(m, lo, call, factor)
    for a in range(lo, hi):
        mine = _took_s(m, a, call, factor)
        before = 0
        for b in range(lo, hi):
            other = _took_s(m, b, call, factor)
            before += other < mine or (other == mine and b <= a)
        if before == n:
            return float(mine)
    return np.inf


@compiled
def _call(m: Memory, request: int, stage: int, d: int, now_s: float) -> None:
    dep = m.deployments[d]
    lo, hi = m.sample_start[stage], m.sample_start[stage + 1]
    asked = m.prompt_tokens[stage]
    for sample in range(lo, hi):
        asked += m.output_tokens[sample]
    never = (dep.has_tokens and asked > dep.tokens_most) or (dep.has_requests and dep.requests_most < 1)
    deadline_s = _deadline(m, request, d, now_s)
    if deadline_s <= now_s:
        not_answered(m, request, TIMED_OUT, LATE, False, now_s)
        return
    if never:
        not_answered(m, request, REJECTED, NEVER, False, now_s)
        return
    if m.counters[KEEPS_ATTEMPTS] and _is_down(m, d, now_s):
        m.errors[request] += 1
        m.outage_errors[request] += 1
        not_answered(m, request, FAILED, BROKEN, False, now_s)
        return
    if not _accepts(m, d, asked, now_s):
        not_answered(m, request, REJECTED, REFUSED, False, now_s)
        return
    dep.in_progress += 1
    if dep.in_progress == 1:
        dep.busy_since_s = now_s
    if np.isnan(m.started_s[request]):
        m.started_s[request] = now_s
    keeps = m.counters[KEEPS_ATTEMPTS]
    call = 0
    factor = 1.0
    if keeps:
        call = min(m.lost_calls[request], m.counters[CALLS_AGAIN])
        factor = _slowness(m, d, now_s)
    ends_s = now_s + _nth_smallest(m, lo, hi, hi - lo, call, factor)
    answered_s = ends_s
    if m.counters[HAS_NEEDED]:
        answered_s = now_s + _nth_smallest(m, lo, hi, m.needed[stage], call, factor)
    error_s = down_s = np.inf
    if keeps:
        error_s = _error_at(m, request, stage, now_s, answered_s, call, factor)
        if dep.outage < dep.outages_end:
            down_s = m.outage_from_s[dep.outage]
        if ends_s > dep.known_until_s:
            dep.unknown = 1
    at_once = error_s < np.inf and dep.error_after == 0
    # An answer that comes as the endpoint goes down has come.
    broken_s = min(error_s, down_s) if error_s < np.inf or down_s < answered_s else np.inf
    over_s = min(ends_s, down_s) if broken_s == np.inf else broken_s
    in_time = min(answered_s, broken_s) <= deadline_s
    leaves_s = min(answered_s, broken_s) if in_time else deadline_s
    released_s = leaves_s if dep.stops else over_s
    # Where the clock is stopped before, what was to happen at that moment does not.
    upto_s = released_s if released_s < dep.until_s else np.nextafter(dep.until_s, -np.inf)
    m.prefilled[stage] = 0 if at_once else m.prompt_tokens[stage]
    first_s = np.inf
    for sample in range(lo, hi):
        first, tokens = _first_s(m, sample, call) * factor, m.output_tokens[sample]
        first_s = min(first_s, first)
        if at_once:
            tokens = 0
        elif upto_s < ends_s:
            tokens = _generated_by(upto_s, now_s, first, _per_token_s(m, sample, call) * factor, tokens)
        m.generated[sample] = tokens
    first_s += now_s
    if np.isnan(m.first_token_s[request]) and first_s <= leaves_s and first_s < dep.until_s and not at_once:
        m.first_token_s[request] = first_s
    if broken_s <= leaves_s:
        push_event(m, leaves_s, BREAK, request, stage, 1 if down_s < error_s else 0)
        return
    if released_s == leaves_s:
        push_event(m, leaves_s, RELEASE_AND_ANSWER if in_time else LEAVE_AND_RELEASE, request, stage, NONE)
        return
    push_event(m, leaves_s, ANSWER if in_time else LEAVE, request, stage, NONE)
    push_event(m, released_s, RELEASE, request, stage, NONE)


@inlined
def _ask_again(m: Memory, request: int, stage: int, reason: int) -> None:
    dep = m.deployments[m.deployment_of[stage]]
    if dep.kind == 0:
        dep.waiting -= 1
    if reason == REFUSED:
        m.retries[request] += 1
    elif reason == BROKEN:
        m.error_retries[request] += 1
    else:
        m.timeout_retries[request] += 1


@compiled
def happen(m: Memory, kind: int, request: int, stage: int, attempt: int, now_s: float) -> int:
    """One event of the heap; returns the stage that begins after it, or is tried again, or -1."""
    if kind >= RETRY:
        if kind == FOLLOW:
            return int(arrive(m, request, now_s))
        if kind == FALLBACK:
            m.begun_s[request] = now_s
            m.fallbacks[request] += 1
        elif kind == RETRY:
            _ask_again(m, request, stage, attempt)
        return stage
    if kind == TIMEOUT:
        if np.isnan(m.finished_s[request]) and m.stage[request] == stage and m.attempt[request] == attempt:
            _time_out(m, request, now_s)
        return -1
    d = m.deployment_of[stage]
    dep = m.deployments[d]
    if kind == GIVE_UP:
        if dep.kind == 0:
            dep.waiting -= 1
        _fall_back(m, request, TIMED_OUT, now_s)
    elif kind not in (ANSWER, LEAVE):
        dep.in_progress -= 1
        if dep.in_progress == 0:
            dep.busy_s += now_s - dep.busy_since_s
    if kind == BREAK:
        m.errors[request] += 1
        m.outage_errors[request] += attempt
        not_answered(m, request, FAILED, BROKEN, True, now_s)
    elif kind >= LEAVE:
        not_answered(m, request, TIMED_OUT, LATE, True, now_s)
    if m.counters[INTERVALS] > 0 and dep.kind == 0:
        note_endpoint(m, d, now_s)
    if kind in (ANSWER, RELEASE_AND_ANSWER):
        return int(end_stage(m, request, now_s))
    return -1
