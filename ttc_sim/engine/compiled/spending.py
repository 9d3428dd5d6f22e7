"""The gateway of the compiled engine: budgets a day. The meaning is that of :class:`ttc_sim.engine.spending.Ledger`."""

from __future__ import annotations

from ttc_sim.base.times import DAY_S
from ttc_sim.engine.compiled.attempts import finish
from ttc_sim.engine.compiled.heaps import push_event
from ttc_sim.engine.compiled.jit import compiled, merged
from ttc_sim.engine.compiled.state import (
    BUDGETS,
    DAY,
    DAYS,
    FIRST_TURN,
    GIVE_UP,
    INTERVAL,
    INTERVALS,
    KEEPS_ATTEMPTS,
    NONE,
    REQUESTS,
    SEND_ON,
    TURNS,
    Memory,
)
from ttc_sim.engine.spending import DEGRADE, MOST_NANOS, QUEUE, REFUSE
from ttc_sim.engine.work import REJECTED


@merged
def enter_day(m: Memory, at_s: float) -> bool:
    """Go on to the day that a moment lies in; whether there is room for it."""
    while m.budget_clock[TURNS] <= at_s:
        m.counters[DAY] += 1
        m.budget_clock[TURNS] = m.budget_clock[FIRST_TURN] + m.counters[DAY] * DAY_S
    return bool(m.counters[DAY] < m.counters[DAYS])


@compiled
def count_bill(m: Memory, request: int, nanos: int, now_s: float) -> None:
    """A provider is done with a call of a request."""
    if nanos == 0:
        return
    count = m.counters[BUDGETS]
    for i in range(2):
        budget = m.budget_of[2 * request + i]
        if budget < 0:
            continue
        at, limit = m.counters[DAY] * count + budget, m.budget_limit[budget]
        before = m.spent[at]
        m.spent[at] = min(before + nanos, MOST_NANOS)
        if before < limit and limit <= m.spent[at]:
            m.exhausted_s[at] = now_s
        if m.counters[INTERVALS] > 0:
            m.spent_over[m.counters[INTERVAL] * count + budget] += nanos


@compiled
def pass_gateway(m: Memory, request: int, now_s: float) -> int:
    """A request has come, or has waited for a day to end; the stage that begins, -1 if none does."""
    n, arm = m.counters[REQUESTS], m.arm[request]
    rule = 0
    to = -1
    if m.budget_spends[arm * n + request]:
        for i in range(2):
            budget = m.budget_of[2 * request + i]
            if budget < 0 or m.spent[m.counters[DAY] * m.counters[BUDGETS] + budget] < m.budget_limit[budget]:
                continue
            if m.budget_rule[budget] >= rule:
                rule, to = m.budget_rule[budget], m.budget_to[2 * request + i]
    if rule in (REFUSE, QUEUE):
        m.gate_done[request] |= rule
        m.stage[request] = m.stage_start[arm * (n + 1) + request]
        if rule == REFUSE:
            finish(m, request, REJECTED, now_s)
            return -1
        stage, turn_s = m.stage[request], m.budget_clock[TURNS]
        last_s = m.arrived_s[request] + m.deployments[m.deployment_of[stage]].deadline_s
        if last_s <= turn_s:
            push_event(m, last_s, GIVE_UP, request, stage, 1)
        else:
            push_event(m, turn_s, SEND_ON, request, stage, NONE)
        return -1
    if rule == DEGRADE and to != arm:
        m.gate_done[request] |= DEGRADE
        m.arm[request] = arm = to
    m.gate_sent_s[request] = now_s
    if m.counters[KEEPS_ATTEMPTS]:
        m.begun_s[request] = now_s
        m.first[request] = arm
    return int(m.stage_start[arm * (n + 1) + request])
