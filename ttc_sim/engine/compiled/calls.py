"""API calls of the compiled engine: limits, outages, errors and times."""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled.attempts import deadline_of, not_answered
from ttc_sim.engine.compiled.heaps import push_event
from ttc_sim.engine.compiled.jit import compiled, inlined, merged
from ttc_sim.engine.compiled.prompt_cache import find_kept, has_prefix, shared_of, use_kept
from ttc_sim.engine.compiled.state import (
    ANSWER,
    BREAK,
    BROKEN,
    BUDGETS,
    CALLS_AGAIN,
    CALLS_BREAK,
    HAS_NEEDED,
    KEEPS_ATTEMPTS,
    LATE,
    LEAVE,
    LEAVE_AND_RELEASE,
    MOST_KEPT,
    NEVER,
    NONE,
    REFUSED,
    RELEASE,
    RELEASE_AND_ANSWER,
    SAMPLES,
    Memory,
)
from ttc_sim.engine.spending import PARTS, bill_of, prices_at, prices_of
from ttc_sim.engine.work import FAILED, REJECTED, TIMED_OUT
from ttc_sim.serving.api_limits import generated_by

# One copy for both engines.
_generated_by, _bill_of = inlined(generated_by), inlined(bill_of)
_prices_at, _prices_of = inlined(prices_at), inlined(prices_of)


@merged
def _accepts(m: Memory, d: int, prompt: int, output: int, now_s: float) -> bool:
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
        if dep.tokens_level < (prompt + output) * (1 - 1e-9):
            return False
    if dep.has_input:
        level = dep.input_level + (now_s - dep.input_at) * dep.input_rate
        dep.input_level, dep.input_at = min(dep.input_most, level), now_s
        if dep.input_level < prompt * (1 - 1e-9):
            return False
    if dep.has_output:
        level = dep.output_level + (now_s - dep.output_at) * dep.output_rate
        dep.output_level, dep.output_at = min(dep.output_most, level), now_s
        if dep.output_level < output * (1 - 1e-9):
            return False
        dep.output_level -= output
    if dep.has_input:
        dep.input_level -= prompt
    if dep.has_tokens:
        dep.tokens_level -= prompt + output
    if dep.has_requests:
        dep.requests_level -= 1
    return True


@inlined
def _never(m: Memory, d: int, prompt: int, output: int) -> bool:
    """Whether a call is more than the endpoint ever accepts."""
    dep = m.deployments[d]
    if (dep.has_input and prompt > dep.input_most) or (dep.has_output and output > dep.output_most):
        return True
    return bool((dep.has_tokens and prompt + output > dep.tokens_most) or (dep.has_requests and dep.requests_most < 1))


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
def _bill(m: Memory, request: int, stage: int) -> int:
    """What a call comes to, in billionths of a US dollar, by the tokens that have been written down."""
    hidden = whole = 0
    for sample in range(m.sample_start[stage], m.sample_start[stage + 1]):
        hidden += min(m.generated[sample], m.reasoning[sample])
        whole += m.generated[sample]
    clock = m.budget_prices_clock
    written = m.written[stage] if m.counters[MOST_KEPT] > 0 else 0
    first = PARTS * (stage * _prices_of(clock) + _prices_at(clock, m.started_s[request]))
    empty = m.prefilled[stage] == 0
    return int(_bill_of(m.budget_prices, first, empty, hidden, whole - hidden, m.cached[stage], written))


@compiled
def call(m: Memory, request: int, stage: int, d: int, now_s: float) -> None:
    dep = m.deployments[d]
    lo, hi = m.sample_start[stage], m.sample_start[stage + 1]
    prompt = counted = m.prompt_tokens[stage]
    output = shared = found = 0
    for sample in range(lo, hi):
        output += m.output_tokens[sample]
    if dep.cache >= 0:
        shared = shared_of(m, d, stage, prompt)
        if dep.cache_uncounted:
            counted -= shared
    deadline_s = deadline_of(m, request, d, now_s)
    if deadline_s <= now_s:
        not_answered(m, request, TIMED_OUT, LATE, False, now_s)
        return
    if _never(m, d, counted, output):
        not_answered(m, request, REJECTED, NEVER, False, now_s)
        return
    if m.counters[KEEPS_ATTEMPTS] and _is_down(m, d, now_s):
        m.errors[request] += 1
        m.outage_errors[request] += 1
        not_answered(m, request, FAILED, BROKEN, False, now_s)
        return
    if shared > 0:
        found = find_kept(m, d, stage, shared, now_s)
        if dep.cache_uncounted:
            counted = prompt - found
    if not _accepts(m, d, counted, output, now_s):
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
    if dep.cache >= 0 and has_prefix(m, stage):
        last_s = leaves_s if dep.stops else over_s
        begins = first_s <= last_s and first_s < dep.until_s and not at_once
        answer = 0
        if dep.cache_answers and hi == lo + 1 and begins and ends_s <= last_s:
            answer = shared_of(m, d, stage, prompt + output)
        m.cached[stage] = 0 if at_once else found
        m.written[stage] = use_kept(m, d, stage, shared, found, now_s, first_s if begins else np.inf, answer, ends_s)
    if np.isnan(m.first_token_s[request]) and first_s <= leaves_s and first_s < dep.until_s and not at_once:
        m.first_token_s[request] = first_s
    # The event at which the provider is done with the call brings its bill with it.
    nanos = _bill(m, request, stage) if m.counters[BUDGETS] > 0 else NONE
    if broken_s <= leaves_s:
        push_event(m, leaves_s, BREAK, request, stage, 2 * nanos + (1 if down_s < error_s else 0))
        return
    if released_s == leaves_s:
        push_event(m, leaves_s, RELEASE_AND_ANSWER if in_time else LEAVE_AND_RELEASE, request, stage, 2 * nanos)
        return
    push_event(m, leaves_s, ANSWER if in_time else LEAVE, request, stage, NONE)
    push_event(m, released_s, RELEASE, request, stage, 2 * nanos)
