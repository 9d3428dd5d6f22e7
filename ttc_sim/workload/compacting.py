"""Contexts made shorter: what the turns of sessions become when a summary takes the place of what a prompt held."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ttc_sim.base.compilation import kept
from ttc_sim.base.draws import F64, I64
from ttc_sim.measured.session_turns import SessionTurns
from ttc_sim.policies.turns import BLOCK
from ttc_sim.scenario import Compact


def compacted(turns: SessionTurns, compact: Compact) -> SessionTurns:
    """The turns of agents whose contexts are made shorter.

    Where a prompt would be longer than ``above_tokens``, a request of its own, sent when the turn would be, reads it and answers
    with a summary. Then the turn is sent with tools, system prompt and that summary, ``to_tokens`` in all, and what follows it
    grows from there by as much as it did. A turn that goes back behind what was summed up has its prompt as it was, of which
    only tools and system prompt were sent before; one that begins with more than ``to_tokens`` anyway is left as it is.
    """
    head = np.zeros(len(turns), dtype=np.int64)
    has_head = turns.head >= 0
    head[has_head] = turns.heads[turns.head[has_head], 2]
    head = np.minimum(head, turns.prompt_tokens)
    above, to = (np.full(len(turns), tokens) for tokens in (compact.above_tokens, compact.to_tokens))
    at, written, prompt, reused, reuses, place = made_shorter(
        turns.prompt_tokens, turns.reused_tokens, turns.reuses, head, above, to, BLOCK
    )
    summary = written > 0
    think_s: F64 = turns.think_s[at].copy()
    think_s[np.flatnonzero(summary) + 1] = 0.0
    first = place[turns.start[:-1]]
    first -= (first > 0) & summary[first - 1]
    return SessionTurns(
        start=np.append(first, len(at)),
        agent=turns.agent[at],
        think_s=think_s,
        prompt_tokens=prompt,
        reasoning_tokens=np.where(summary, 0, turns.reasoning_tokens[at]),
        visible_tokens=np.where(summary, written, turns.visible_tokens[at]),
        reused_tokens=reused,
        reuses=reuses,
        head=turns.head[at],
        heads=turns.heads,
        notes=(*turns.notes, *_notes(turns, head, compact)),
    )


def _notes(turns: SessionTurns, head: I64, compact: Compact) -> tuple[str, ...]:
    long = (head + BLOCK >= compact.to_tokens) & (turns.prompt_tokens > compact.above_tokens)
    if not long.any():
        return ()
    sessions = len(np.unique(turns.session[long]))
    said = f"{sessions:,} of {turns.sessions:,} sessions have tools and system prompts as long as compact.to_tokens, "
    return (f"{said}{compact.to_tokens:,}: their contexts stay as they are",)


@kept("compacting", [Path(__file__)])
def made_shorter(
    prompt: I64, reused: I64, reuses: I64, head: I64, above: I64, to: I64, block: int
) -> tuple[I64, I64, I64, I64, I64, I64]:
    """Of each turn to be sent the one that it comes of, tokens of the summary that it writes (0 of those that were there before),
    of its prompt, and of what it reuses of which; and of each that was there before its new place.

    Args:
        prompt, reused, reuses, head: (n,) as of :class:`ttc_sim.measured.session_turns.SessionTurns`, heads in tokens.
        above, to: (n,) length of prompts above which they are made shorter, and that they are left with.
        block: tokens by which it is known what was sent before.
    """
    n = len(prompt)
    at, written = np.empty(2 * n, dtype=np.int64), np.zeros(2 * n, dtype=np.int64)
    length, again, by = np.empty(2 * n, dtype=np.int64), np.zeros(2 * n, dtype=np.int64), np.full(2 * n, -1)
    place = np.empty(n, dtype=np.int64)
    lacks = np.zeros(n, dtype=np.int64)  # tokens that its prompt was made shorter by
    since = np.zeros(n, dtype=np.int64)  # length of the prompt that was summed up
    k = 0
    for i in range(n):
        j, shared = reuses[i], reused[i]
        if j >= 0 and lacks[j] > 0:
            if shared > since[j] - block:
                lacks[i], since[i] = lacks[j], since[j]
                shared -= lacks[j]
            else:
                shared = min(shared, head[i], head[j])
        now = prompt[i] - lacks[i]
        after = place[j] if j >= 0 and shared > 0 else -1
        if after < 0:
            shared = 0
        if now > above[i] and head[i] + block < to[i]:
            at[k], length[k], again[k], by[k] = i, now, shared, after
            written[k] = to[i] - head[i]
            lacks[i], since[i] = prompt[i] - to[i], prompt[i]
            now, shared, after = to[i], head[i], k if head[i] > 0 else -1
            k += 1
        at[k], length[k], again[k], by[k] = i, now, shared, after
        place[i] = k
        k += 1
    return at[:k], written[:k], length[:k], again[:k], by[:k], place


__all__ = ["compacted", "made_shorter"]
