"""Sequences that decode speculatively, see :mod:`ttc_sim.engine.speculation`.

A sequence that began to decode after iteration ``offset`` with ``length`` tokens has, after ``n`` further iterations of its
replica, ``n * advance // parts`` tokens more. It holds blocks for two drafts more: those that are verified, and those that the
drafter writes ahead. After ``due_period`` iterations it has whole blocks more, so the blocks that are due in an iteration are
counted by its number modulo that period, but for the first step of each sequence: what is due in those is ``due_once``.
"""

from __future__ import annotations

from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.kv import blocks_for
from ttc_sim.engine.compiled.state import Memory


@inlined
def length_of(m: Memory, r: int, q: int, more: int) -> int:
    """Tokens of a sequence that decodes, after so many iterations more; beyond its end, more than it ever has."""
    rep, one = m.replicas[r], m.sequences[q]
    if rep.drafts == 0:
        return int(one.offset + rep.iteration + more)
    return int(one.length + (rep.iteration - one.offset + more) * rep.advance // rep.parts)


@inlined
def parts_of(m: Memory, r: int, q: int) -> int:
    """Tokens that the next iteration attends to for a sequence, in parts of a token: its mean, with the fraction."""
    rep, one = m.replicas[r], m.sequences[q]
    return int(one.length * rep.parts + (rep.iteration - one.offset) * rep.advance)


@inlined
def _blocks(m: Memory, r: int, q: int, steps: int) -> int:
    """Blocks that a sequence holds in the step that follows so many."""
    rep, one = m.replicas[r], m.sequences[q]
    return blocks_for(one.length + steps * rep.advance // rep.parts + 2 * rep.drafts)


@inlined
def _held(m: Memory, r: int, q: int) -> int:
    """Blocks that a sequence has before its next step."""
    steps = m.replicas[r].iteration - m.sequences[q].offset
    if steps == 0:
        return int(m.sequences[q].blocks)
    return _blocks(m, r, q, steps - 1)


@compiled
def blocks_needed(m: Memory, r: int, q: int) -> int:
    """Blocks that the next step of a sequence takes."""
    return _blocks(m, r, q, m.replicas[r].iteration - m.sequences[q].offset) - _held(m, r, q)


@compiled
def expect_first_blocks(m: Memory, r: int, q: int, sign: int) -> None:
    """Of a sequence that has not had a step yet: what its first takes beyond what is counted by the period."""
    rep, one = m.replicas[r], m.sequences[q]
    if rep.iteration == one.offset:
        counted = _blocks(m, r, q, rep.due_period) - _blocks(m, r, q, rep.due_period - 1)
        rep.due_once += sign * (_blocks(m, r, q, 0) - one.blocks - counted)


@compiled
def _expect_blocks(m: Memory, r: int, q: int, sign: int) -> None:
    """Count the iterations of a period in which a sequence takes a block, or count them no longer."""
    rep, one = m.replicas[r], m.sequences[q]
    # The step after n others is iteration offset + n + 1.
    first = (one.offset + 1) % rep.due_period
    blocks = rep.due_period * rep.advance // (16 * rep.parts)
    missing = 16 * _blocks(m, r, q, 0) + 1 - (one.length + 2 * rep.drafts)
    for _ in range(blocks):
        at = first + (missing * rep.parts + rep.advance - 1) // rep.advance
        m.drafted_due[rep.due_base + (at if at < rep.due_period else at - rep.due_period)] += sign
        missing += 16


@compiled
def begin_speculating(m: Memory, r: int, q: int) -> None:
    """From the iteration that has just ended on."""
    rep, one = m.replicas[r], m.sequences[q]
    one.offset = rep.iteration
    left = one.output - (one.length - one.prompt)
    one.end = rep.iteration + (left * rep.parts + rep.advance - 1) // rep.advance
    _expect_blocks(m, r, q, 1)
    expect_first_blocks(m, r, q, 1)


@compiled
def stop_speculating(m: Memory, r: int, q: int) -> None:
    """Know its tokens and blocks for themselves again."""
    rep, one = m.replicas[r], m.sequences[q]
    _expect_blocks(m, r, q, -1)
    expect_first_blocks(m, r, q, -1)
    rep.kv -= parts_of(m, r, q)
    one.blocks = _held(m, r, q)
    one.length = length_of(m, r, q, 0)


@compiled
def sit_out(m: Memory, r: int, q: int) -> None:
    """Count the next iteration as none of a sequence's."""
    _expect_blocks(m, r, q, -1)
    m.sequences[q].offset += 1
    _expect_blocks(m, r, q, 1)


@inlined
def due_at(m: Memory, r: int, ahead: int) -> int:
    """Blocks that all sequences take in the iteration so many ahead, from 1."""
    rep = m.replicas[r]
    due = m.drafted_due[rep.due_base + (rep.iteration + ahead) % rep.due_period]
    return int(due + rep.due_once if ahead == 1 else due)


@compiled
def speculative_blocks(m: Memory, r: int, iterations: int) -> int:
    """Blocks that the next so many iterations take."""
    rep = m.replicas[r]
    if iterations == 0:
        return 0
    periods = iterations // rep.due_period
    blocks = rep.due_once + periods * rep.decoding * (rep.due_period * rep.advance // (16 * rep.parts))
    at = (rep.iteration + 1) % rep.due_period
    for _ in range(iterations - periods * rep.due_period):
        blocks += m.drafted_due[rep.due_base + at]
        at = at + 1 if at + 1 < rep.due_period else 0
    return int(blocks)


@compiled
def speculative_iterations_that_fit(m: Memory, r: int, most: int) -> int:
    """Iterations until the KV blocks are used up, at most so many."""
    rep = m.replicas[r]
    # Each sequence takes at most one block more than its tokens fill.
    if rep.free >= rep.due_once + rep.decoding * (most * rep.advance // (16 * rep.parts) + 2):
        return most
    free, k = rep.free - rep.due_once, 0
    at = (rep.iteration + 1) % rep.due_period
    while k < most:
        free -= m.drafted_due[rep.due_base + at]
        if free < 0:
            break
        at = at + 1 if at + 1 < rep.due_period else 0
        k += 1
    return k
