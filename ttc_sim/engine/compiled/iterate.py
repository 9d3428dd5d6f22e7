"""A replica's iterations: one step where prompts are taken in or blocks run out, a leap where sequences only decode."""

from __future__ import annotations

import math

import numpy as np

from ttc_sim.engine.compiled.batch import admit, begin_decoding, head_of_queue, leave, preempt, share, skip_iteration
from ttc_sim.engine.compiled.handing import admit_ready, fetch, take_in
from ttc_sim.engine.compiled.heaps import push_event, schedule, sleep
from ttc_sim.engine.compiled.jit import compiled, inlined, merged
from ttc_sim.engine.compiled.kv import blocks_for, take
from ttc_sim.engine.compiled.levels import note_leap
from ttc_sim.engine.compiled.memory import tables
from ttc_sim.engine.compiled.speculation import (
    blocks_needed,
    due_at,
    expect_first_blocks,
    parts_of,
    speculative_blocks,
    speculative_iterations_that_fit,
)
from ttc_sim.engine.compiled.state import (
    ANSWER,
    BOUNDARY,
    DECODE,
    HEARD,
    HEARS,
    INTERVALS,
    NONE,
    PREFILL,
    REQUESTS,
    Memory,
)
from ttc_sim.serving.step_time import behind_s, decode_line, iterations_on_line, line_seconds, seconds_at

# One copy for both engines, here made part of what calls it.
_line_seconds, _iterations_on_line, _behind_s = inlined(line_seconds), inlined(iterations_on_line), inlined(behind_s)


@inlined
def end_of_leap(m: Memory, r: int, iterations: int) -> float:
    """When so many further iterations of a line have ended: each attends to as many more KV tokens as there are sequences."""
    rep = m.replicas[r]
    return float(rep.begun_s + _line_seconds(rep.first_step_s, rep.more_s, rep.passed + iterations))


@compiled
def blocks_of_leap(m: Memory, r: int, iterations: int) -> int:
    """Blocks that the next so many decode iterations take: each sequence one in 16."""
    rep = m.replicas[r]
    if rep.drafts > 0:
        return speculative_blocks(m, r, iterations)
    blocks = (iterations // 16) * rep.decoding
    at = rep.iteration + 1
    for i in range(iterations & 15):
        blocks += m.due[r * 16 + ((at + i) & 15)]
    return int(blocks)


@compiled
def iterations_until(m: Memory, r: int, at_s: float) -> int:
    """Which iteration of a leap is the first to end at or after a moment."""
    rep = m.replicas[r]
    since = at_s - rep.begun_s
    half = rep.more_s / 2
    linear = rep.first_step_s - half
    root = linear * linear + 4 * half * since
    most = rep.leap
    k = most
    if root >= 0 and linear + math.sqrt(root) > 0:
        k = min(max(int(math.ceil(2 * since / (linear + math.sqrt(root)))) - rep.passed, 1), most)
    while k > 1 and end_of_leap(m, r, k - 1) >= at_s:
        k -= 1
    while k < most and end_of_leap(m, r, k) < at_s:
        k += 1
    return int(k)


@compiled
def settle(m: Memory, r: int, now_s: float) -> None:
    """Take the blocks of the iterations of a leap that have begun, so that what the cache holds by now can be seen."""
    rep = m.replicas[r]
    if rep.place >= 0 and rep.leap > 0:
        blocks = blocks_of_leap(m, r, iterations_until(m, r, now_s)) - rep.settled
        if blocks > 0:
            take(m, r, blocks)
            rep.settled += blocks


@merged
def kv_demand(m: Memory, r: int, now_s: float) -> int:
    """Blocks in use, and those that waiting sequences will need at first."""
    rep = m.replicas[r]
    used = rep.total - rep.free + rep.waiting_blocks
    if rep.place >= 0 and rep.leap > 0:
        used += blocks_of_leap(m, r, iterations_until(m, r, now_s)) - rep.settled
    return int(used)


@compiled
def cut_ranks(m: Memory, r: int, at_s: float) -> None:
    """The same of ranks that step together, of which one has something new."""
    for other in range(m.replicas[r].ranks_from, m.replicas[r].ranks_to):
        rank = m.replicas[other]
        if rank.place >= 0 and rank.phase == BOUNDARY and rank.leap > 1:
            k = iterations_until(m, other, at_s)
            if k < rank.leap:
                rank.leap = k
                schedule(m, other, end_of_leap(m, other, k), BOUNDARY)


@compiled
def cut(m: Memory, r: int, at_s: float) -> None:
    """End a leap with the iteration in progress, so that what has happened can be seen."""
    rep = m.replicas[r]
    if rep.ranks_to > 0:
        cut_ranks(m, r, at_s)
        return
    if rep.phase != BOUNDARY or rep.leap <= 1:
        return
    k = iterations_until(m, r, at_s)
    if k < rep.leap:
        rep.leap = k
        schedule(m, r, end_of_leap(m, r, k), BOUNDARY)


@merged
def iterations_that_fit(m: Memory, r: int, most: int) -> int:
    """Decode iterations until the KV blocks are used up, at most so many."""
    rep = m.replicas[r]
    if rep.drafts > 0:
        return int(speculative_iterations_that_fit(m, r, most))
    free, decoding = rep.free, rep.decoding
    if free >= decoding * (most // 16 + 1):
        return most
    k = 16 * (free // decoding)
    free -= (k // 16) * decoding
    while k < most:
        need = m.due[r * 16 + ((rep.iteration + 1 + k) & 15)]
        if need > free:
            break
        free -= need
        k += 1
    return int(min(k, most))


@compiled
def _serve_in_order(m: Memory, r: int, now_s: float) -> tuple[bool, int, int, int, int]:
    """Serve the running sequences one by one where blocks are short, preempting as vLLM does.

    So are those of pools that take long prompts in bit by bit, where several may be half done, and the last may find no room.

    Returns:
        Whether any was preempted, and of those served: the sequences that decode, their KV tokens, the prompt tokens of those
        that take in prompt, and the first of these.
    """
    rep = m.replicas[r]
    d = rep.deployment
    dep = m.deployments[d]
    seq = m.sequences
    by_priority = dep.by_priority
    budget = dep.max_tokens
    stamp = rep.iteration + 1
    decoding = kv = chunk = 0
    preempted = False
    q = rep.first
    while q >= 0 and budget > 0:
        decodes = seq[q].state == DECODE
        if decodes and rep.drafts > 0:
            length = parts_of(m, r, q)
            tokens, need = rep.drafts + 1, blocks_needed(m, r, q)
        elif decodes:
            length = seq[q].offset + rep.iteration
            tokens, need = 1, 1 if length & 15 == 1 else 0
        else:
            length = seq[q].length
            tokens = min(min(length - seq[q].computed, dep.chunk), budget)
            need = blocks_for(seq[q].computed + tokens + rep.drafts) - seq[q].blocks
        gone = False
        while need > rep.free:
            victim = rep.last
            if by_priority:
                other = seq[victim].previous
                while other >= 0:
                    if seq[other].level > seq[victim].level or (
                        seq[other].level == seq[victim].level and seq[other].order > seq[victim].order
                    ):
                        victim = other
                    other = seq[other].previous
            served = seq[victim].stamp == stamp
            if served:
                if seq[victim].state == DECODE and rep.drafts > 0:
                    budget += rep.drafts + 1
                    decoding -= 1
                    kv -= parts_of(m, r, victim)
                    expect_first_blocks(m, r, victim, 1)
                elif seq[victim].state == DECODE:
                    budget += 1
                    decoding -= 1
                    kv -= seq[victim].offset + rep.iteration
                else:
                    budget += seq[victim].chunk
                    chunk -= seq[victim].chunk
                seq[victim].stamp = -1
            preempted = True
            gone = victim == q
            preempt(m, r, victim, served)
            if gone:
                break
        if gone:
            break
        take(m, r, need)
        seq[q].stamp = stamp
        budget -= tokens
        if decodes:
            decoding += 1
            kv += length
            if rep.drafts > 0:
                expect_first_blocks(m, r, q, -1)
        else:
            seq[q].chunk = tokens
            seq[q].blocks += need
            share(m, q, seq[q].computed + tokens)
            chunk += tokens
        q = seq[q].next
    if (preempted or q >= 0) and decoding + chunk > 0:
        # Those that the loop did not come to sit the iteration out, if there is one.
        q = rep.first
        while q >= 0:
            if seq[q].stamp != stamp:
                if seq[q].state == DECODE:
                    skip_iteration(m, r, q)
                else:
                    seq[q].chunk = 0
            q = seq[q].next
    return preempted, decoding, kv, chunk, rep.partial if chunk > 0 else -1


@compiled
def plan(m: Memory, r: int, now_s: float) -> None:
    """Decide on the next iteration, or on as many as decoding goes on undisturbed."""
    rep = m.replicas[r]
    d = rep.deployment
    dep = m.deployments[d]
    seq = m.sequences
    while True:
        if rep.running == 0 and rep.waiting == 0 and rep.handed == 0:
            rep.busy_s += now_s - rep.woke_s
            sleep(m, r)
            return
        due = due_at(m, r, 1) if rep.drafts > 0 else m.due[r * 16 + ((rep.iteration + 1) & 15)]
        partial, chunk, need = rep.partial, 0, due
        if partial >= 0:
            room = dep.max_tokens - rep.decoding * (rep.drafts + 1)
            chunk = min(min(seq[partial].length - seq[partial].computed, dep.chunk), room)
            need += blocks_for(seq[partial].computed + chunk + rep.drafts) - seq[partial].blocks
        preempted, decoding, kv = False, rep.decoding, rep.kv
        short = need > rep.free or (partial >= 0 and dep.chunk < dep.max_tokens)
        if short:
            preempted, decoding, kv, chunk, partial = _serve_in_order(m, r, now_s)
            if decoding == 0 and chunk == 0:
                continue  # the only one that could run has been preempted, and can now be admitted
        elif partial >= 0:
            grown = blocks_for(seq[partial].computed + chunk + rep.drafts) - seq[partial].blocks
            take(m, r, need)
            seq[partial].blocks += grown
            seq[partial].chunk = chunk
            share(m, partial, seq[partial].computed + chunk)
        taken = short or partial >= 0
        budget = dep.max_tokens - decoding * (rep.drafts + 1) - chunk
        pairs, prefill, sampled = 0.0, chunk, decoding
        first = partial
        left, q = chunk, partial
        while left > 0:
            if seq[q].state == PREFILL:
                pairs += seq[q].chunk * (seq[q].computed + 0.5 * seq[q].chunk)
                sampled += seq[q].computed + seq[q].chunk == seq[q].length
                left -= seq[q].chunk
            q = seq[q].next
        if not preempted and rep.ready_first >= 0 and budget > 0 and rep.running < dep.max_seqs:
            if not taken and due > 0:
                take(m, r, due)
                taken = True
            q = rep.ready_first
            count, more = admit_ready(m, r, budget)
            first = q if first < 0 else first
            budget, prefill, pairs, sampled = budget - count, prefill + count, pairs + more, sampled + count
        if not preempted and rep.waiting > 0:
            hopeful = rep.running < dep.max_seqs
            if hopeful and not taken and due > 0:
                hopeful = admit(m, r, head_of_queue(m, r), budget, due, now_s) > 0
                if hopeful:
                    take(m, r, due)  # running sequences come first
                    taken = True
            while hopeful and rep.waiting > 0 and budget > 0 and rep.running < dep.max_seqs:
                q = head_of_queue(m, r)
                tokens = admit(m, r, q, budget, NONE, now_s)
                if tokens == 0:
                    break
                if first < 0:
                    first = q
                budget -= tokens
                prefill += tokens
                pairs += tokens * (seq[q].computed + 0.5 * tokens)
                sampled += seq[q].computed + tokens == seq[q].length
        if rep.coming_first >= 0 and not preempted and rep.waiting == 0 and budget > 0 and rep.running < dep.max_seqs:
            taken = fetch(m, r, 0 if taken else due, now_s) or taken
        if prefill == 0 and decoding == 0:  # those that are here wait for KV blocks that are on their way elsewhere
            rep.busy_s += now_s - rep.woke_s
            sleep(m, r)
            return
        if (taken or prefill > 0) and not short:
            rep.due_once = 0
        goes_on = rep.passed < rep.most and prefill == 0 and rep.scheduled == decoding
        rep.scheduled = decoding
        rep.prefill = first
        rep.leap = 0
        if rep.ranks_to > 0:  # until all ranks have their batch nobody knows how long it takes
            rep.goes_on, rep.taken = 1 if goes_on else 0, 1 if taken or prefill > 0 else 0
            rep.step_prefill, rep.step_pairs, rep.step_kv, rep.step_sampled = prefill, pairs, kv, sampled
            schedule(m, r, np.inf, BOUNDARY)
            return
        if not goes_on:
            attended, more = kv / rep.parts, decoding * rep.advance / rep.parts
            seconds = seconds_at(tables(m), d, prefill, pairs, decoding, attended, sampled)
            rep.most = 0
            if prefill > 0:
                schedule(m, r, now_s + seconds, BOUNDARY)
                return
            slope, kv_end = decode_line(tables(m), d, decoding, attended)
            rep.begun_s, rep.first_step_s, rep.more_s = now_s, seconds, slope * more
            rep.most = _iterations_on_line(attended, more, kv_end)
            rep.passed = 0
        if taken:
            schedule(m, r, end_of_leap(m, r, 1), BOUNDARY)
            return
        k = min(seq[m.ends[rep.ends_base]].end - rep.iteration, rep.most - rep.passed)
        rep.leap = iterations_that_fit(m, r, k)
        schedule(m, r, end_of_leap(m, r, rep.leap), BOUNDARY)
        return


@compiled
def _hand_out(m: Memory, request: int, late_s: float, now_s: float) -> None:
    """A stage's last token has been made, and is on its way to the client."""
    stage = m.stage[request]
    if stage == m.stage_start[m.arm[request] * (m.counters[REQUESTS] + 1) + request]:
        m.first_token_s[request] += late_s
    m.group[request] = -1
    push_event(m, now_s + late_s, ANSWER, request, stage, m.attempt[request])


@compiled
def end_iterations(m: Memory, r: int, now_s: float) -> int:
    """The end of a leap or a step; returns how many stages have their answer with it, listed in ``finished``."""
    rep = m.replicas[r]
    seq = m.sequences
    leap = rep.leap
    if leap > 0:
        blocks = blocks_of_leap(m, r, leap)
        if blocks > 0:
            if m.counters[INTERVALS] > 0:
                note_leap(m, r, blocks)
            take(m, r, blocks - rep.settled)
        rep.settled = rep.due_once = 0
        rep.passed += leap
        rep.iteration += leap
        rep.kv += rep.decoding * leap * rep.advance
        rep.leap = 0
    else:
        rep.passed += 1
        rep.iteration += 1
        rep.kv += rep.scheduled * rep.advance
        q = rep.prefill
        if q >= 0:
            rep.partial = -1
        while q >= 0:
            if seq[q].state == PREFILL:
                seq[q].computed += seq[q].chunk
                seq[q].prefilled = max(seq[q].prefilled, min(seq[q].computed, seq[q].prompt))
                if seq[q].computed == seq[q].length and m.deployments[rep.deployment].takes_in:
                    if seq[q].dropped == 0:
                        take_in(m, r, q, now_s)
                elif seq[q].computed == seq[q].length:
                    seq[q].length += 1
                    request = m.groups[seq[q].group].request
                    if seq[q].dropped == 0 and np.isnan(m.first_token_s[request]):
                        m.first_token_s[request] = now_s
                        if m.counters[HEARS] > 0:
                            at = m.counters[HEARD]
                            m.heard_at[at], m.heard_s[at] = rep.deployment, now_s
                            m.heard_ttft_s[at] = now_s - m.arrived_s[request]
                            m.counters[HEARD] += 1
                    begin_decoding(m, r, q, now_s)
                elif rep.partial < 0:
                    rep.partial = q
            q = seq[q].next
        rep.prefill = -1
    q = rep.first
    while rep.drops > 0 and q >= 0:
        after = seq[q].next
        if seq[q].dropped:
            rep.drops -= 1
            leave(m, r, q)
        q = after
    ended = 0
    while rep.ends > 0:
        q = m.ends[rep.ends_base]
        if seq[q].end > rep.iteration:
            break
        g = seq[q].group
        took_s, iterations, prompt = now_s - seq[q].began_s, rep.iteration - seq[q].began, seq[q].prompt
        leave(m, r, q)
        m.groups[g].ended += 1
        if m.groups[g].ended == m.groups[g].needed:
            while m.groups[g].unfinished > 0:
                leave(m, r, m.groups[g].first)
            dep = m.deployments[rep.deployment]
            late_s = _behind_s(dep.frontend_s + dep.prompt_token_s * prompt, dep.pipeline_steps, took_s, iterations)
            if late_s > 0:
                _hand_out(m, m.groups[g].request, late_s, now_s)
            else:
                m.finished[ended] = m.groups[g].request
                ended += 1
    return ended
