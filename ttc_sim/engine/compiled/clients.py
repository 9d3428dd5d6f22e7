"""The clients' side of the compiled engine: arrivals, stages, load balancers, API calls. See :mod:`ttc_sim.engine.reference`."""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled.attempts import fall_back, finish, not_answered
from ttc_sim.engine.compiled.calls import call
from ttc_sim.engine.compiled.heaps import happens_at, push_event
from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.levels import note_endpoint
from ttc_sim.engine.compiled.spending import count_bill, pass_gateway
from ttc_sim.engine.compiled.state import (
    ANSWER,
    BREAK,
    BROKEN,
    BUDGETS,
    CHOICES,
    DEPLOYMENTS,
    FALLBACK,
    FOLLOW,
    GIVE_UP,
    HAND_OVER,
    HAS_AFTER,
    INTERVALS,
    KEEPS_ATTEMPTS,
    LATE,
    LEAVE,
    LIMIT,
    NEXT_STAGE,
    NONE,
    OVERFLOW,
    REFUSED,
    RELEASE_AND_ANSWER,
    REQUESTS,
    RETRY,
    SEND_ON,
    TIMEOUT,
    Memory,
)
from ttc_sim.engine.compiled.submitting import hand_over, submit, time_out
from ttc_sim.engine.work import COMPLETED, FAILED, TIMED_OUT, pick_live


@compiled
def arrive(m: Memory, request: int, now_s: float) -> int:
    """A request arrives: choose its arm; returns the stage that begins, or -1 if the gateway does not send it on."""
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
        for d in range(m.counters[DEPLOYMENTS]):
            owner = m.deployments[d].owner
            if owner != d:
                m.load_waiting[owner] += m.load_waiting[d]
                m.load_in_progress[owner] += m.load_in_progress[d]
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
    if m.counters[BUDGETS] > 0:
        m.gate_chosen[request] = m.arm[request]
        return int(pass_gateway(m, request, now_s))
    return int(m.stage_start[m.arm[request] * (n + 1) + request])


@compiled
def end_stage(m: Memory, request: int, now_s: float) -> int:
    """A stage has its answer; returns the next one, which begins when it is the request's turn, or -1 if the request is done."""
    n = m.counters[REQUESTS]
    stage = m.stage[request] + 1
    if stage < m.stage_start[m.arm[request] * (n + 1) + request + 1]:
        m.stage[request] = stage
        return int(stage)
    finish(m, request, COMPLETED, now_s)
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
        submit(m, request, stage, d, now_s)
    else:
        call(m, request, stage, d, now_s)
        if m.counters[INTERVALS] > 0:
            note_endpoint(m, d, now_s)


@compiled
def take_turn(m: Memory, request: int, stage: int, now_s: float, others: bool) -> None:
    """Begin a stage after servers have ended what they did: now, if there are no others whose turn may come before."""
    if others or happens_at(m, now_s):
        push_event(m, now_s, NEXT_STAGE, request, stage, NONE)
    else:
        begin_stage(m, request, stage, False, now_s)


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
        if kind == HAND_OVER:
            hand_over(m, request, stage, attempt, now_s)
            return -1
        if kind == SEND_ON:
            return int(pass_gateway(m, request, now_s))
        if kind == FALLBACK:
            m.begun_s[request] = now_s
            m.fallbacks[request] += 1
        elif kind == RETRY:
            _ask_again(m, request, stage, attempt)
        return stage
    if kind == TIMEOUT:
        if np.isnan(m.finished_s[request]) and m.stage[request] == stage and m.attempt[request] == attempt:
            time_out(m, request, now_s)
        return -1
    d = m.deployment_of[stage]
    dep = m.deployments[d]
    if kind == ANSWER and dep.kind == 1:
        waits = np.isnan(m.finished_s[request]) and m.stage[request] == stage and m.attempt[request] == attempt
        return int(end_stage(m, request, now_s)) if waits else -1
    if kind == GIVE_UP:
        if dep.kind == 0 and attempt == NONE:  # or else it waited at the gateway
            dep.waiting -= 1
        fall_back(m, request, TIMED_OUT, now_s)
    elif kind not in (ANSWER, LEAVE):
        dep.in_progress -= 1
        if dep.in_progress == 0:
            dep.busy_s += now_s - dep.busy_since_s
        if m.counters[BUDGETS] > 0:
            count_bill(m, request, attempt >> 1, now_s)
    if kind == BREAK:
        m.errors[request] += 1
        m.outage_errors[request] += attempt & 1
        not_answered(m, request, FAILED, BROKEN, True, now_s)
    elif kind >= LEAVE:
        not_answered(m, request, TIMED_OUT, LATE, True, now_s)
    if m.counters[INTERVALS] > 0 and dep.kind == 0:
        note_endpoint(m, d, now_s)
    if kind in (ANSWER, RELEASE_AND_ANSWER):
        return int(end_stage(m, request, now_s))
    return -1
