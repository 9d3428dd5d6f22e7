"""Attempts of the compiled engine's clients: when one is given up, and what becomes of a request that was not answered."""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled.heaps import push_event
from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.state import (
    FALLBACK,
    FOLLOW,
    GIVE_UP,
    HAS_AFTER,
    KEEPS_ATTEMPTS,
    LATE,
    MOST_KEPT,
    NONE,
    REQUESTS,
    RETRIES,
    RETRY,
    UNFINISHED,
    WORKS,
    Memory,
)


@compiled
def finish(m: Memory, request: int, status: int, now_s: float) -> None:
    m.status[request] = status
    m.finished_s[request] = now_s
    m.counters[UNFINISHED] -= 1
    if m.counters[HAS_AFTER]:
        after = m.next_of[request]
        while after >= 0:
            push_event(m, now_s + m.think_s[after], FOLLOW, after, NONE, NONE)
            after = m.beside[after]


@inlined
def deadline_of(m: Memory, request: int, d: int, now_s: float) -> float:
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
    if m.counters[MOST_KEPT] > 0:
        m.lost_written[stage] += m.written[stage]
        m.written[stage] = 0
    for sample in range(m.sample_start[stage], m.sample_start[stage + 1]):
        generated = m.generated[sample]
        m.lost_generated[sample] += generated
        m.lost_reasoning[sample] += min(generated, m.reasoning[sample])
        m.generated[sample] = 0
    if stage == m.stage_start[m.arm[request] * (m.counters[REQUESTS] + 1) + request]:
        m.first_token_s[request] = np.nan


@compiled
def fall_back(m: Memory, request: int, status: int, now_s: float) -> None:
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
    finish(m, request, status, now_s)


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
        fall_back(m, request, status, now_s)
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
