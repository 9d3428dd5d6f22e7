"""Sessions: begun by any process, each with the turns of a recorded one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ttc_sim.base.draws import I64, uniforms
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.files.opening import is_folder
from ttc_sim.measured.session_tables import read_sessions
from ttc_sim.measured.session_turns import SessionTurns
from ttc_sim.measured.sessions import load_sessions, place_of_sessions
from ttc_sim.scenario import Compact, Sessions
from ttc_sim.scenario.session_laws import Generated
from ttc_sim.workload.beginnings import Beginnings
from ttc_sim.workload.compacting import compacted
from ttc_sim.workload.recorded import state_of
from ttc_sim.workload.session_generating import mean_turns, turns_by
from ttc_sim.workload.session_trees import SessionTree, tree_of, with_answers
from ttc_sim.workload.traffic import Traffic

_SESSIONS_TO_LOOK_AT = 2000  # where only they themselves say how many summaries are written

Begin = Callable[[int], Traffic]
"""The first of the moments at which sessions begin, so many of them."""


@dataclass(frozen=True)
class _Known:
    """Sessions to draw from, what their prompts have in common, and (n,) which turn of its session's agent each is, from 0; and
    whether heads and answers may be."""

    turns: SessionTurns
    tree: SessionTree
    turn: I64
    shared_heads: bool
    answers: bool


def turns_a_session(arrivals: Sessions, folder: Path) -> float:
    """Requests of a session, in the mean."""
    laws = arrivals.generated
    if laws is None:
        known = _known(arrivals, folder)
        return len(known.turns) / known.turns.sessions
    return mean_turns(laws) * _with_summaries(laws, arrivals.compact)


@lru_cache(maxsize=16)
def _with_summaries(laws: Generated, compact: Compact | None) -> float:
    """By how many times summaries make requests more."""
    if compact is None:
        return 1.0
    turns = turns_by(laws, _SESSIONS_TO_LOOK_AT, 0, "mean", "generated")
    return len(compacted(turns, compact)) / len(turns)


def first_turns(
    arrivals: Sessions, requests: int, seed: int, run: str, *, folder: Path, where: str, begin: Begin
) -> Traffic:
    """The first requests of sessions in the order in which these begin, each session's turns in theirs; those of the last session
    that would be more than were asked for are left out.

    Raises:
        InputError: sessions that cannot be read, or what the process that they begin by refuses.
    """
    expected = requests / turns_a_session(arrivals, folder)
    count = int(expected + 4 * np.sqrt(expected)) + 8
    while True:
        known, which = _sessions(arrivals, count, seed, run, folder, where)
        upto = np.cumsum(known.turns.turns[which])
        if upto[-1] >= requests:
            break
        count *= 2
    needed = int(np.searchsorted(upto, requests)) + 1
    return _turns_of(known, begin(needed), which[:needed], requests)


def all_turns(arrivals: Sessions, begun: Traffic, seed: int, run: str, *, folder: Path, where: str) -> Traffic:
    """All requests of the sessions that begin at those moments."""
    known, which = _sessions(arrivals, len(begun.arrival_s), seed, run, folder, where)
    return _turns_of(known, begun, which)


def _sessions(arrivals: Sessions, count: int, seed: int, run: str, folder: Path, where: str) -> tuple[_Known, I64]:
    """Sessions, and which of them each of those that begin is: of the recorded ones any, each as likely as the others."""
    if arrivals.generated is None:
        known = _known(arrivals, folder)
        return known, (uniforms(seed, f"sessions/{run}", count)[:, 0] * known.turns.sessions).astype(np.int64)
    turns = turns_by(arrivals.generated, count, seed, f"sessions/{run}", where)
    return _known_of(turns, arrivals), np.arange(count)


def _turns_of(known: _Known, begun: Traffic, which: I64, requests: int | None = None) -> Traffic:
    """Turns of those sessions, that begin then; the first of them."""
    turns, tree = known.turns, known.tree
    count = turns.turns[which]
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    n, session = int(start[-1]), np.repeat(np.arange(len(which)), count)
    at = np.arange(n) + np.repeat(turns.start[which] - start[:-1], count)
    after = np.arange(-1, n - 1)
    think_s, arrival_s = turns.think_s[at], np.full(n, np.nan)
    ends = np.zeros(n, dtype=np.bool_)
    ends[start[1:] - 1] = True
    first = start[:-1]
    after[first], arrival_s[first] = -1, begun.arrival_s
    if begun.after is not None and begun.think_s is not None:  # the next session begins when the last is over
        waits = begun.after >= 0
        after[first[waits]] = start[1:][begun.after[waits]] - 1
        think_s[first[waits]] = begun.think_s[waits]
    if requests is not None:
        at, after, session = at[:requests], after[:requests], session[:requests]
        arrival_s, think_s = arrival_s[:requests], think_s[:requests]
    nodes = np.diff(tree.start)[which]
    node_start = tree.shared + np.concatenate([[0], np.cumsum(nodes)]).astype(np.int64)
    moved = node_start[:-1] - tree.start[which]
    copied = np.arange(tree.shared, node_start[-1]) - np.repeat(moved, nodes)
    parent = tree.tree.parent[copied]
    parent = np.where(parent < tree.shared, parent, parent + np.repeat(moved, nodes))
    node = tree.node[at]
    return Traffic(
        arrival_s=arrival_s,
        client=begun.client[session],
        prompt_tokens=turns.prompt_tokens[at],
        reasoning_tokens=turns.reasoning_tokens[at],
        visible_tokens=turns.visible_tokens[at],
        prefix_id=np.where(node < tree.shared, node, node + moved[session]),
        rate_per_s=begun.rate_per_s * len(turns) / max(turns.sessions, 1),
        after=after,
        think_s=think_s,
        prefix_tokens=tree.tokens[at],
        notes=(*begun.notes, *turns.notes),
        prefixes=PrefixTree(
            np.concatenate([tree.tree.parent[: tree.shared], parent]),
            np.concatenate([tree.tree.start[: tree.shared], tree.tree.start[copied]]),
        ),
        session=session,
        ends=ends[: len(session)],
        turn=known.turn[at],
        reused_tokens=turns.reused_tokens[at],
        recorded=which[session],
        beginnings=_beginnings(known, at, np.repeat(turns.start[which] - start[:-1], count)[: len(at)]),
    )


def _beginnings(known: _Known, at: I64, moved: I64) -> Beginnings:
    """Of some turns, each of which stands so many places nearer to the first."""
    turns, heads = known.turns, known.turns.heads
    if not known.shared_heads:
        heads = np.concatenate([np.full((len(heads), 1), -1), heads[:, 1:]], axis=1)
    reuses = turns.reuses[at]
    answers = np.full(len(at), known.answers)
    return Beginnings(np.where(reuses < 0, -1, reuses - moved), turns.head[at], answers, heads)


def _numbered(turns: SessionTurns) -> I64:
    key = turns.session * (int(turns.agent.max(initial=0)) + 1) + turns.agent
    order = np.argsort(key, kind="stable")
    _, first, count = np.unique(key[order], return_index=True, return_counts=True)
    found = np.empty(len(turns), dtype=np.int64)
    found[order] = np.arange(len(turns)) - np.repeat(first, count)
    return found


def _known(arrivals: Sessions, folder: Path) -> _Known:
    """Recorded sessions."""
    without = arrivals.model_copy(update={"starts": None})
    if arrivals.sessions is not None:
        place = place_of_sessions(arrivals.sessions, folder)
        return _read(without, place, *state_of(place / "turns.parquet"))
    path = folder / str(arrivals.file)
    states = [state_of(one) for one in ([path, *sorted(path.glob("*.json"))] if is_folder(path) else [path])]
    return _read(without, path, max(changed for changed, _ in states), sum(size for _, size in states))


@lru_cache(maxsize=4)
def _read(arrivals: Sessions, path: Path, changed_ns: int, size: int) -> _Known:
    """Read once for all runs, as long as the file stays as it is."""
    return _known_of(read_sessions(path) if arrivals.sessions is None else load_sessions(path).turns, arrivals)


def _known_of(turns: SessionTurns, arrivals: Sessions) -> _Known:
    turns = turns if arrivals.compact is None else compacted(turns, arrivals.compact)
    turns = with_answers(turns) if arrivals.answers_reused else turns
    tree = tree_of(turns, shared_heads=arrivals.shared_heads, answers=arrivals.answers_reused)
    return _Known(turns, tree, _numbered(turns), arrivals.shared_heads, arrivals.answers_reused)


__all__ = ["all_turns", "first_turns", "turns_a_session"]
