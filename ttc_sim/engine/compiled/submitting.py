"""Load balancers of the compiled engine, and stages that come to a pool or are given up there."""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled.attempts import deadline_of, not_answered
from ttc_sim.engine.compiled.batch import enqueue, found_blocks, leave, own_chain
from ttc_sim.engine.compiled.handing import wait_for_prompt, wake
from ttc_sim.engine.compiled.heaps import push_event, schedule
from ttc_sim.engine.compiled.iterate import cut, kv_demand, settle
from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.kv import blocks_for
from ttc_sim.engine.compiled.landing import give_up_prompt
from ttc_sim.engine.compiled.levels import note_replica
from ttc_sim.engine.compiled.ranks import balance_ranks, begins_at
from ttc_sim.engine.compiled.state import (
    BOUNDARY,
    BROKEN,
    FREE_GROUPS,
    FREE_SEQUENCES,
    HAS_LEVEL,
    HAS_NEEDED,
    HAS_PREFIX_TOKENS,
    HERE,
    INTERVALS,
    KEEPS_ATTEMPTS,
    LATE,
    NEVER,
    PLAN,
    READY,
    REFUSED,
    TIMEOUT,
    WAITING,
    Memory,
)
from ttc_sim.engine.fleet import IN_SERVICE, weight_of
from ttc_sim.engine.speculation import most_held
from ttc_sim.engine.work import FAILED, REJECTED, TIMED_OUT, far_apart, holds_enough

# One copy for both engines.
_weight_of, _far_apart, _holds_enough = inlined(weight_of), inlined(far_apart), inlined(holds_enough)
_most_held = inlined(most_held)


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
        unfinished, demand = m.replicas[r].running + m.replicas[r].waiting + m.replicas[r].handed, 0
        if kind == 2:
            demand = kv_demand(m, r, now_s)
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
        unfinished = m.replicas[r].running + m.replicas[r].waiting + m.replicas[r].handed
        demand = kv_demand(m, r, now_s) if kind == 2 else 0
        if demand < least_kv or (demand == least_kv and unfinished < least):
            best, least, least_kv = r, unfinished, demand
    return int(best)


@compiled
def _balance_by_prefix(m: Memory, d: int, stage: int, now_s: float) -> int:
    dep = m.deployments[d]
    first, end = dep.first_replica, dep.first_replica + dep.replicas
    fewest, busiest = np.iinfo(np.int64).max, 0
    for r in range(first, end):
        if m.replicas[r].state == IN_SERVICE:
            unfinished = m.replicas[r].running + m.replicas[r].waiting + m.replicas[r].handed
            fewest, busiest = min(fewest, unfinished), max(busiest, unfinished)
    prompt, node = m.prompt_tokens[stage], m.stretch[stage]
    looks = dep.caching and node >= 0 and not _far_apart(fewest, busiest)
    limit = prompt - 1
    if m.counters[HAS_PREFIX_TOKENS]:
        limit = min(m.prefix_tokens[stage], limit)
    limit //= 16
    best, best_held = -1, 0
    fewest = np.iinfo(np.int64).max
    for r in range(first, end):
        if m.replicas[r].state != IN_SERVICE:
            continue
        held = 0
        if looks:
            settle(m, r, now_s)
            held, _ = found_blocks(m, r, node, limit, limit)
            if not _holds_enough(16 * held, prompt):
                held = 0
        unfinished = m.replicas[r].running + m.replicas[r].waiting + m.replicas[r].handed
        if best < 0 or held > best_held or (held == best_held and unfinished < fewest):
            best, best_held, fewest = r, held, unfinished
    return int(best)


@inlined
def _choose(m: Memory, d: int, stage: int, now_s: float) -> int:
    """The replica that a stage goes to; -1 if none is in service."""
    if m.deployments[d].ranks > 1:
        return int(balance_ranks(m, d, stage, m.sample_start[stage + 1] - m.sample_start[stage], now_s))
    if m.deployments[d].balancer == 4:
        return int(_balance_by_prefix(m, d, stage, now_s))
    return int(_balance(m, d, m.session[stage], now_s))


@compiled
def submit(m: Memory, request: int, stage: int, d: int, now_s: float) -> None:
    dep = m.deployments[d]
    deadline_s = deadline_of(m, request, d, now_s)
    if deadline_s <= now_s:
        not_answered(m, request, TIMED_OUT, LATE, False, now_s)
        return
    lo, hi = m.sample_start[stage], m.sample_start[stage + 1]
    prompt = m.prompt_tokens[stage]
    apart = dep.prefill >= 0
    d = dep.prefill if apart else d
    server = m.deployments[d]
    r = _choose(m, d, stage, now_s)
    if r < 0:
        if m.counters[KEEPS_ATTEMPTS]:
            m.errors[request] += 1
        not_answered(m, request, FAILED, BROKEN, False, now_s)
        return
    rep = m.replicas[r]
    limit = server.queue_limit
    unfinished = rep.running + rep.waiting
    fits = blocks_for(prompt) <= rep.total
    total = m.replicas[dep.first_replica].total if apart else rep.total
    for sample in range(lo, hi):
        fits = fits and blocks_for(_most_held(prompt, m.output_tokens[sample], rep.drafts)) <= total
    hi = lo + 1 if apart else hi
    if not fits or (limit >= 0 and unfinished + hi - lo > server.max_seqs + limit):
        not_answered(m, request, REJECTED, REFUSED if fits else NEVER, False, now_s)
        return
    was_waiting = rep.waiting
    g = _begin_group(m, request, stage, r, lo, hi)
    q = m.groups[g].first
    while q >= 0:
        enqueue(m, r, q, False)
        q = m.sequences[q].sibling
    if m.counters[INTERVALS] > 0 and rep.place >= 0:
        note_replica(m, r, now_s)
    if deadline_s < np.inf:
        push_event(m, deadline_s, TIMEOUT, request, stage, m.attempt[request])
    if rep.place < 0:
        rep.woke_s = now_s
        schedule(m, r, begins_at(m, r, now_s), PLAN)
        if m.counters[INTERVALS] > 0:
            note_replica(m, r, now_s)
    elif (was_waiting == 0 or dep.by_priority) and (rep.running < server.max_seqs):
        # Behind others that wait for room there is nothing to see, and a full batch admits nobody.
        cut(m, r, now_s)


@inlined
def _begin_group(m: Memory, request: int, stage: int, r: int, lo: int, hi: int) -> int:
    """The samples of a stage that comes to a replica, or its prompt alone to one that takes prompts in."""
    rep = m.replicas[r]
    dep = m.deployments[rep.deployment]
    prompt = m.prompt_tokens[stage]
    m.counters[FREE_GROUPS] -= 1
    g = m.free_groups[m.counters[FREE_GROUPS]]
    group = m.groups[g]
    group.request, group.arm, group.stage, group.replica = request, m.arm[request], stage, r
    group.unfinished, group.ended, group.first_sample = hi - lo, 0, lo
    group.needed = m.needed[stage] if m.counters[HAS_NEEDED] and not dep.takes_in else hi - lo
    group.prefix, group.limit, group.own_limit = -1, 0, 0
    group.lost, group.kv = -1, HERE
    if dep.caching and m.prefix_id[stage] >= 0:
        most = prompt if hi - lo > 1 or dep.takes_in else prompt + m.output_tokens[lo] - 1
        shared = m.prefix_tokens[stage] if m.counters[HAS_PREFIX_TOKENS] else prompt
        limit = min(shared, most) // 16
        if limit > 0:
            group.prefix = m.stretch[stage]
            group.limit = limit
    if hi - lo > 1 and prompt // 16 > group.limit:
        own = own_chain(m, g, 0)
        m.chains[own].start = m.chains[own].end = group.limit
        m.chains[own].users = 0
        group.own_limit = prompt // 16
    last = -1
    level = m.level[request] if dep.by_priority and m.counters[HAS_LEVEL] else 0
    for sample in range(lo, hi):
        m.counters[FREE_SEQUENCES] -= 1
        q = m.free_sequences[m.counters[FREE_SEQUENCES]]
        one = m.sequences[q]
        one.group, one.sample, one.order, one.level = g, sample, rep.submitted, level
        one.prompt, one.length, one.output = prompt, prompt, 1 if dep.takes_in else m.output_tokens[sample]
        one.computed = one.blocks = one.shared = one.dropped = one.prefilled = 0
        one.stamp = one.sibling = -1
        rep.submitted += 1
        if last < 0:
            group.first = q
        else:
            m.sequences[last].sibling = q
        last = q
    m.group[request] = g
    return int(g)


@compiled
def hand_over(m: Memory, request: int, stage: int, attempt: int, now_s: float) -> None:
    """A prompt has been taken in: choose who answers it, unless nobody waits for it any more."""
    source = m.group[request]
    if not np.isnan(m.finished_s[request]) or m.stage[request] != stage or m.attempt[request] != attempt:
        return
    r = _choose(m, m.deployment_of[stage], stage, now_s)
    rep = m.replicas[r]
    was_coming = rep.coming_first >= 0
    g = _begin_group(m, request, stage, r, m.sample_start[stage], m.sample_start[stage + 1])
    m.groups[g].source = source
    m.sequences[m.groups[g].first].prefilled = m.prompt_tokens[stage]
    wait_for_prompt(m, r, g)
    if not was_coming:
        cut(m, r, now_s)
    wake(m, r, now_s)
    if m.counters[INTERVALS] > 0:
        note_replica(m, r, now_s)


@compiled
def time_out(m: Memory, request: int, now_s: float) -> None:
    g = m.group[request]
    if g < 0:  # the answer is on its way
        if m.first_token_s[request] > now_s:
            m.first_token_s[request] = np.nan
        not_answered(m, request, TIMED_OUT, LATE, True, now_s)
        return
    if m.groups[g].kv != HERE:
        give_up_prompt(m, g, now_s)
        not_answered(m, request, TIMED_OUT, LATE, True, now_s)
        return
    r = m.groups[g].replica
    cut(m, r, now_s)
    if m.replicas[r].phase == BOUNDARY and m.replicas[r].at_s == now_s:
        # An iteration of the leap ends at this instant, and that comes first.
        push_event(m, now_s, TIMEOUT, request, m.stage[request], m.attempt[request])
        return
    q = m.groups[g].first
    while q >= 0:
        after = m.sequences[q].sibling
        waits = m.sequences[q].state == WAITING or m.sequences[q].state == READY
        if waits or m.replicas[r].phase == PLAN:
            leave(m, r, q)
        else:
            m.sequences[q].dropped = 1
            m.replicas[r].drops += 1
        q = after
    wake(m, r, now_s)
    if m.counters[INTERVALS] > 0:
        note_replica(m, r, now_s)
    not_answered(m, request, TIMED_OUT, LATE, True, now_s)
