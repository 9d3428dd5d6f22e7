"""A table of recorded requests of sessions, read as turns that wait for one another."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_AMOUNT
from ttc_sim.files.opening import is_folder
from ttc_sim.files.tables import find_column, read_table
from ttc_sim.measured.columns import as_keys, as_numbers, as_text, as_tokens
from ttc_sim.measured.session_traces import TracedTurn, files_of_traces, traced
from ttc_sim.measured.session_turns import SessionTurns

_PROMPT = ("input_tokens", "prompt_tokens")
_OUTPUT = ("output_tokens",)


def read_sessions(path: Path) -> SessionTurns:
    """Read a table of recorded requests (Parquet, CSV or JSONL), a row each; or recorded sessions of kv-cache-tester, a JSON file
    or a folder of them (:mod:`~ttc_sim.measured.session_traces`).

    Columns of a table: ``session``, ``input_tokens``, ``output_tokens``, ``reused_tokens``, and ``think_s``, or ``t_s`` and
    ``api_s`` that it follows from. Optional: ``agent`` (sub-agents have their own), ``order`` (else that of the file),
    ``tool_tokens`` and ``system_tokens`` (what prompts begin with), ``reasoning_tokens`` (in the output).

    Raises:
        InputError: a column that is missing, or a value in it that cannot be: a turn without a session, a time that goes back, a
            prompt shorter than what it reuses.
    """
    if is_folder(path) or path.suffix.lower() == ".json":
        return _of_traces(path)
    return turns_of_table(read_table(path), path)


def _of_traces(path: Path) -> SessionTurns:
    """The sessions of a folder of traces: what each prompt has in common with those before it follows from its blocks."""
    found = [list(traced(one)) for one in files_of_traces(path)]
    turns = [turn for session in found for turn in session]
    starts = np.cumsum([0, *(len(session) for session in found)])
    columns = ("session", "agent", "t_s", "think_s", "api_s", "input_tokens", "output_tokens", "reused_tokens")
    table = pl.DataFrame({name: [getattr(one, name) for one in turns] for name in columns}).with_columns(
        pl.col("think_s", "api_s").fill_nan(None),
        tool_tokens=pl.Series([one.tools for one in turns]),
        system_tokens=pl.Series([one.system for one in turns]),
    )
    sent_by = np.array([one.reuses for one in turns], dtype=np.int64)
    made = turns_of_table(
        table, path, sent_by=np.where(sent_by < 0, -1, sent_by + np.repeat(starts[:-1], np.diff(starts)))
    )
    if any(one.of_all is not None for one in turns):
        head, heads = _heads_by_id(turns, made.head)
        return replace(made, head=head, heads=heads)
    return made


def _heads_by_id(turns: list[TracedTurn], head: I64) -> tuple[I64, I64]:
    """Heads that are the same where their blocks are: ids that mean the same in all files say so, others that only lengths tell."""
    tools, number, heads = dict[object, int](), dict[object, int](), list[tuple[int, int, int]]()
    found = np.full(len(turns), -1, dtype=np.int64)
    for i in np.flatnonzero(head >= 0).tolist():
        one = turns[i]
        lengths = one.tools, one.tools + one.system
        of_tools, whole = one.of_all if one.of_all is not None else (lengths[:1], lengths)
        scope = one.of_all is not None
        known = tools.setdefault((scope, of_tools), len(tools))
        found[i] = number.setdefault((scope, whole, len(of_tools)), len(number))
        if found[i] == len(heads):
            heads.append((known, *lengths))
    return found, np.array(heads, dtype=np.int64).reshape(-1, 3)


def turns_of_table(
    table: pl.DataFrame, path: Path, *, after_any: bool = False, sent_by: I64 | None = None
) -> SessionTurns:
    """The turns of such a table.

    Args:
        after_any: whether ``think_s`` is from the answer to the turn before, of whichever agent; else of the same agent's.
        sent_by: which row has sent what each reuses, -1 none; found by what is likely if left out. Sessions stand together then.

    Raises:
        InputError: as :func:`read_sessions`.
    """
    find_column(table, path, "sessions", ("session",))
    table = _in_order(table.with_columns(as_keys(table, path, "session")).with_row_index("row", offset=1), path)
    rows = table["row"].to_numpy()
    session = table["session"].rank("dense").to_numpy().astype(np.int64)
    start = np.concatenate([[0], np.flatnonzero(np.diff(session)) + 1, [len(session)]]).astype(np.int64)
    agent = _agents(table, path, start)
    notes = list[str]()
    prompt = _tokens(table, path, "prompts", _PROMPT)
    output = _tokens(table, path, "answers", _OUTPUT)
    hidden = np.zeros_like(output)
    if "reasoning_tokens" in table.columns:
        hidden = _tokens(table, path, "reasoning", ("reasoning_tokens",))
        _refuse(path, "reasoning_tokens", rows, hidden, hidden > output, "at most its output, which holds it")
    prompt, hidden, output = _answered(path, prompt, hidden, output, notes)
    reused = _tokens(table, path, "what was sent before", ("reused_tokens",))
    _refuse(path, "reused_tokens", rows, reused, reused > prompt, "at most its prompt, of which it is a part")
    tools, system = (
        _tokens(table, path, name, (name,)) if name in table.columns else np.zeros_like(prompt)
        for name in ("tool_tokens", "system_tokens")
    )
    if (long := tools + system > prompt).any():
        said = (
            f"{long.sum():,} of {len(prompt):,} rows of {path.name} have prompts shorter than tools and system prompt: "
        )
        notes.append(f"{said}nothing of theirs is taken to be what other sessions begin with")
        tools, system = np.where(long, 0, tools), np.where(long, 0, system)
    think_s = _think_s(table, path, agent, start, rows, notes, after_any=after_any)
    head, heads = _heads(tools, system)
    if sent_by is None:
        reused, reuses = _reuses(prompt, reused, agent, head, heads, start, path, notes)
    else:
        reuses = np.where(reused > 0, sent_by, -1)
    return SessionTurns(
        start=start,
        agent=agent,
        think_s=think_s,
        prompt_tokens=prompt,
        reasoning_tokens=hidden,
        visible_tokens=output - hidden,
        reused_tokens=reused,
        reuses=reuses,
        head=head,
        heads=heads,
        notes=tuple(notes),
    )


def _in_order(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Sessions as they first appear, each in its order."""
    first = table.group_by("session", maintain_order=True).agg(pl.len()).select("session").with_row_index("appears")
    table = table.join(first, on="session", how="left", maintain_order="left")
    by = ["appears"]
    if "order" in table.columns:
        table = table.with_columns(as_numbers(table, path, "order", -math.inf, math.inf))
        by.append("order")
    return table.sort(*by, maintain_order=True).with_columns(session=pl.col("appears"))


def _agents(table: pl.DataFrame, path: Path, start: I64) -> I64:
    """(n,) agents by number, in order of appearance within their session."""
    if "agent" not in table.columns:
        return np.zeros(len(table), dtype=np.int64)
    named = as_text(table, path, "agent").fill_null("").to_list()
    found = np.empty(len(named), dtype=np.int64)
    for first, end in zip(start[:-1].tolist(), start[1:].tolist(), strict=True):
        seen: dict[str, int] = {}
        for i in range(first, end):
            found[i] = seen.setdefault(named[i], len(seen))
    return found


def _tokens(table: pl.DataFrame, path: Path, role: str, names: tuple[str, ...]) -> I64:
    column = find_column(table, path, role, names)
    assert column is not None
    as_tokens(table.select("row", column).sort("row"), path, column)  # rows are named as they stand in the file
    counts: I64 = as_tokens(table, path, column).to_numpy()
    return counts


def _refuse(
    path: Path, column: str, rows: NDArray[np.integer], values: NDArray[np.generic], bad: NDArray[np.bool_], said: str
) -> None:
    """Name the first row that is bad, as it stands in the file."""
    if bad.any():
        at = int(np.flatnonzero(bad)[np.argmin(rows[bad])])
        raise InputError(path, f"column {column}, row {rows[at]}", values[at].item(), said)


def _answered(path: Path, prompt: I64, hidden: I64, output: I64, notes: list[str]) -> tuple[I64, I64, I64]:
    """Prompts of at least a token, and answers: those of turns that failed are as long as the one before them."""
    if (empty := prompt == 0).any():
        notes.append(f"{empty.sum():,} of {len(prompt):,} rows of {path.name} have no prompt tokens: one is counted")
    failed = output == 0
    if failed.all():
        raise InputError(path, "column output_tokens", "0 in every row", "a row that was answered")
    if failed.any():
        like = np.flatnonzero(~failed)[np.maximum(np.cumsum(~failed) - 1, 0)]
        said = f"{failed.sum():,} of {len(prompt):,} rows of {path.name} have no output tokens, as failed requests: "
        notes.append(f"{said}they are answered as the answered turn before them")
        hidden, output = hidden[like], output[like]
    return np.maximum(prompt, 1), hidden, output


def _think_s(
    table: pl.DataFrame,
    path: Path,
    agent: I64,
    start: I64,
    rows: NDArray[np.integer],
    notes: list[str],
    *,
    after_any: bool,
) -> F64:
    """(n,) seconds from the answer to the turn before in the session, of whichever agent, to this turn."""
    nothing = np.full(len(table), np.nan)
    for one in ("think_s", "t_s", "api_s"):
        if one in table.columns:
            as_numbers(table.select("row", one).sort("row"), path, one, 0, MOST_AMOUNT, gaps=True)
    think, at_s, api_s = (
        table[one].cast(pl.Float64).fill_null(np.nan).to_numpy() if one in table.columns else nothing
        for one in ("think_s", "t_s", "api_s")
    )
    if "think_s" not in table.columns and "t_s" not in table.columns:
        raise InputError(path, "columns", ", ".join(table.columns[:8]), "a column think_s, or t_s and api_s")
    before = _of_same_agent(agent, start)
    known = before >= 0
    since = np.where(known, at_s - at_s[np.maximum(before, 0)], np.nan)
    _refuse(path, "t_s", rows, at_s, since < 0, "a time that is not before that of the turn before it")
    took_s = np.nan_to_num(api_s)  # until its answer; 0 where nobody knows
    derived = np.maximum(since - took_s[np.maximum(before, 0)], 0.0)
    lacking = known & np.isnan(think)
    unknown = lacking & np.isnan(derived)
    _refuse(path, "think_s", rows, think, unknown, "seconds, or times t_s of it and the turn before to tell them by")
    if lacking.any() and "think_s" in table.columns:
        said = f"{lacking.sum():,} of {len(think):,} rows of {path.name} have no think_s: "
        notes.append(f"{said}it is the time since the turn before was sent, less api_s where that is known")
    think = np.where(known, np.where(lacking, derived, think), np.nan_to_num(think))
    think[start[:-1]] = 0.0
    if after_any:
        return think
    # What other agents did meanwhile is simulated, and not waited for once more.
    clock = np.cumsum(think + took_s)
    back = np.flatnonzero(known & (before < np.arange(len(think)) - 1))
    think[back] = np.maximum(think[back] - (clock[back - 1] - clock[before[back]]), 0.0)
    return think


def _of_same_agent(agent: I64, start: I64) -> I64:
    """(n,) the turn before of the same agent, or -1."""
    session = np.repeat(np.arange(len(start) - 1), np.diff(start))
    order = np.lexsort((np.arange(len(agent)), agent, session))
    same = (np.diff(session[order]) == 0) & (np.diff(agent[order]) == 0)
    before = np.full(len(agent), -1, dtype=np.int64)
    before[order[1:][same]] = order[:-1][same]
    return before


def _heads(tools: I64, system: I64) -> tuple[I64, I64]:
    """(n,) which head each turn has, -1 for none, and (h, 3) what these are, see :class:`SessionTurns`.

    Tools of as many tokens are the same tools, and so are system prompts of as many after the same tools.
    """
    pairs, head = np.unique(np.stack([tools, tools + system], axis=1), axis=0, return_inverse=True)
    _, number = np.unique(pairs[:, 0], return_inverse=True)
    heads = np.column_stack([number, pairs]).astype(np.int64)
    return np.where((tools + system) > 0, head.reshape(-1), -1), heads


def _reuses(
    prompt: I64, reused: I64, agent: I64, head: I64, heads: I64, start: I64, path: Path, notes: list[str]
) -> tuple[I64, I64]:
    """(n,) tokens that are reused, and the turn of the session that has sent them: the last of the same agent or, where its prompt
    is too short, the last one of the like that is long enough."""
    before = _of_same_agent(agent, start)
    fits = (before >= 0) & (prompt[np.maximum(before, 0)] >= reused)
    reuses = np.where(fits & (reused > 0), before, -1)
    reused, more = reused.copy(), 0
    session_start = np.repeat(start[:-1], np.diff(start))
    tools = np.where(head < 0, -1, heads[np.maximum(head, 0), 0])
    for i in np.flatnonzero((reused > 0) & ~fits).tolist():
        earlier = np.arange(session_start[i], i)
        long = earlier[prompt[earlier] >= reused[i]]
        if not len(long):
            more += 1
            if not len(earlier):
                reused[i] = 0
                continue
            long = earlier[[int(np.argmax(prompt[earlier]))]]
            reused[i] = prompt[long[0]]
        likeness = 4 * (agent[long] == agent[i]) + 2 * (head[long] == head[i]) + (tools[long] == tools[i])
        reuses[i] = long[np.flatnonzero(likeness == likeness.max())[-1]]
    if more:
        said = f"{more:,} of {len(prompt):,} rows of {path.name} reuse more than any turn of their session has sent before: "
        notes.append(f"{said}as much as the longest has")
    return reused, reuses


__all__ = ["read_sessions", "turns_of_table"]
