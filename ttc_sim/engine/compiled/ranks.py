"""Data-parallel ranks of one server in the compiled engine; the meaning is that of :mod:`ttc_sim.engine.ranks`."""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled.batch import found_blocks
from ttc_sim.engine.compiled.heaps import schedule
from ttc_sim.engine.compiled.iterate import cut_ranks, end_of_leap, iterations_that_fit, kv_demand, settle
from ttc_sim.engine.compiled.jit import compiled, inlined, merged
from ttc_sim.engine.compiled.memory import tables
from ttc_sim.engine.compiled.state import BOUNDARY, HAS_PREFIX_TOKENS, Memory
from ttc_sim.engine.ranks import HEARD_EVERY_S, WAITING_COUNTS, iterations_slowest, tokens_together
from ttc_sim.engine.work import far_apart, holds_enough
from ttc_sim.serving.step_time import decode_line, iterations_on_line, seconds_at

# One copy for both engines.
_iterations_slowest, _tokens_together = inlined(iterations_slowest), inlined(tokens_together)
_iterations_on_line = inlined(iterations_on_line)
_far_apart, _holds_enough = inlined(far_apart), inlined(holds_enough)


@compiled
def begins_at(m: Memory, r: int, now_s: float) -> float:
    """When a replica that has had nothing to do begins: now, or with the ranks that it steps together with."""
    begins_s = now_s
    if m.replicas[r].ranks_to > 0:
        cut_ranks(m, r, now_s)
        for other in range(m.replicas[r].ranks_from, m.replicas[r].ranks_to):
            if m.replicas[other].place >= 0 and m.replicas[other].phase == BOUNDARY:
                begins_s = m.replicas[other].at_s
    return float(begins_s)


@compiled
def _begin_line(m: Memory, first: int, end: int, d: int, now_s: float) -> None:
    """How long the iteration takes, and the line on which those after it lie if none of the ranks takes in prompt."""
    dep = m.deployments[d]
    most_tokens = total = idle = prefill = awake = 0
    for r in range(first, end):
        rep = m.replicas[r]
        if rep.place < 0:
            idle += 1
            continue
        awake += 1
        prefill += rep.step_prefill
        tokens = rep.step_prefill + rep.scheduled * (rep.drafts + 1)
        most_tokens, total = max(most_tokens, tokens), total + tokens
        rep.own_s = seconds_at(
            tables(m), d, rep.step_prefill, rep.step_pairs, rep.scheduled, rep.step_kv / rep.parts, rep.step_sampled
        )
    slowest_s, more_s = -1.0, 0.0
    line = 1 << 60
    for r in range(first, end):
        rep = m.replicas[r]
        if rep.place < 0:
            continue
        rep.own_more_s = 0.0
        if prefill == 0:
            attended, more = rep.step_kv / rep.parts, rep.scheduled * rep.advance / rep.parts
            slope, kv_end = decode_line(tables(m), d, rep.scheduled, attended)
            rep.own_more_s = slope * more
            line = min(line, _iterations_on_line(attended, more, kv_end))
        if rep.own_s > slowest_s or (rep.own_s == slowest_s and rep.own_more_s > more_s):
            slowest_s, more_s = rep.own_s, rep.own_more_s
    for r in range(first, end):
        if m.replicas[r].place >= 0:
            line = min(line, _iterations_slowest(slowest_s, more_s, m.replicas[r].own_s, m.replicas[r].own_more_s))
    shared_s = tables(m).shared_s[
        d, _tokens_together(most_tokens, total, idle, end - first, dep.max_seqs, dep.max_tokens)
    ]
    for r in range(first, end):
        rep = m.replicas[r]
        if rep.place >= 0:
            rep.begun_s, rep.first_step_s, rep.more_s = now_s, slowest_s + shared_s, more_s
            rep.most, rep.passed = line if prefill == 0 else 0, 0
    m.replicas[first].on_line = awake if prefill == 0 else 0


@compiled
def begin_together(m: Memory, r: int, now_s: float) -> None:
    """Begin the iteration, or as many as decoding goes on undisturbed, if this rank is the last to have its batch."""
    first, end = m.replicas[r].ranks_from, m.replicas[r].ranks_to
    for other in range(r + 1, end):
        if m.replicas[other].place >= 0:
            return
    awake, goes_on, alone = 0, True, True
    for other in range(first, end):
        rep = m.replicas[other]
        if rep.place >= 0:
            awake += 1
            goes_on = goes_on and rep.goes_on == 1
            alone = alone and rep.taken == 0
    if awake == 0:
        m.replicas[first].on_line = 0
        return
    if not goes_on or awake != m.replicas[first].on_line:
        _begin_line(m, first, end, m.replicas[r].deployment, now_s)
    leap = 1
    if alone:
        leap = 1 << 60
        for other in range(first, end):
            rep = m.replicas[other]
            if rep.place >= 0:
                k = min(m.sequences[m.ends[rep.ends_base]].end - rep.iteration, rep.most - rep.passed)
                leap = min(leap, iterations_that_fit(m, other, min(k, leap)))
    for other in range(first, end):
        rep = m.replicas[other]
        if rep.place >= 0:
            rep.leap = leap if rep.taken == 0 else 0
            schedule(m, other, end_of_leap(m, other, leap), BOUNDARY)


@merged
def _of_ranks(m: Memory, first: int, end: int, kind: int, now_s: float) -> tuple[int, int]:
    """Blocks that a replica's ranks use or will need, if that is what counts, and their unfinished sequences."""
    demand = unfinished = 0
    for r in range(first, end):
        unfinished += m.replicas[r].running + m.replicas[r].waiting
        if kind == 2:
            demand += kv_demand(m, r, now_s)
    return demand, unfinished


@merged
def _held(m: Memory, first: int, end: int, stage: int, now_s: float) -> int:
    """Leading blocks of a stage's prompt that are in the cache of one of the ranks, if they are enough to go by."""
    limit = m.prompt_tokens[stage] - 1
    if m.counters[HAS_PREFIX_TOKENS]:
        limit = min(m.prefix_tokens[stage], limit)
    limit //= 16
    most = 0
    for r in range(first, end):
        settle(m, r, now_s)
        held, _ = found_blocks(m, r, m.stretch[stage], limit, limit)
        most = max(most, held)
    return most if _holds_enough(16 * most, m.prompt_tokens[stage]) else 0


@compiled
def balance_ranks(m: Memory, d: int, stage: int, samples: int, now_s: float) -> int:
    """The rank that a stage goes to: of the replica that the load balancer picks, the one that its front end picks."""
    dep = m.deployments[d]
    kind, ranks, count, session = dep.balancer, dep.ranks, dep.replicas, m.session[stage]
    start = dep.first_replica
    best = 0
    if kind == 0:
        dep.turn += 1
        best = (dep.turn - 1) % count
    elif kind == 3 and session >= 0:
        best = session % count
    else:
        fewest, busiest = np.iinfo(np.int64).max, 0
        looks = kind == 4 and dep.caching and m.stretch[stage] >= 0
        for place in range(count if looks else 0):
            _, unfinished = _of_ranks(m, start + place * ranks, start + (place + 1) * ranks, kind, now_s)
            fewest, busiest = min(fewest, unfinished), max(busiest, unfinished)
        looks = looks and not _far_apart(fewest, busiest)
        least = least_unfinished = np.iinfo(np.int64).max
        for place in range(count):
            first, end = start + place * ranks, start + (place + 1) * ranks
            demand, unfinished = _of_ranks(m, first, end, kind, now_s)
            if looks:
                demand = -_held(m, first, end, stage, now_s)
            if demand < least or (demand == least and unfinished < least_unfinished):
                best, least, least_unfinished = place, demand, unfinished
    first = start + best * ranks
    front = m.replicas[first]
    if front.ranks_to == 0:
        front.turn += 1
        return int(first + (front.turn - 1) % ranks)
    if now_s >= front.seen_s + HEARD_EVERY_S:
        front.seen_s = now_s
        for r in range(first, first + ranks):
            m.replicas[r].seen_running, m.replicas[r].seen_waiting = m.replicas[r].running, m.replicas[r].waiting
    found, lowest = first, np.iinfo(np.int64).max
    for r in range(first, first + ranks):
        counts = WAITING_COUNTS * m.replicas[r].seen_waiting + m.replicas[r].seen_running
        if counts < lowest:
            found, lowest = r, counts
    m.replicas[found].seen_waiting += samples
    return int(found)
