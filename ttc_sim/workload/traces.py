"""Replay of recorded traces."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.prefix_tree import PrefixTree, beside_one_another
from ttc_sim.files.tables import find_column, read_table
from ttc_sim.measured.columns import as_tokens
from ttc_sim.measured.dates import as_day_and_second, look_at_dates
from ttc_sim.scenario import Columns, Trace
from ttc_sim.workload.imported import block_sizes, without_failed
from ttc_sim.workload.prefixes import shared_prefixes
from ttc_sim.workload.recorded import check_held, failed_requests, state_of, without_prompt
from ttc_sim.workload.traffic import Traffic

_AZURE = Columns(arrival="TIMESTAMP", prompt_tokens="ContextTokens", output_tokens="GeneratedTokens")
_MOONCAKE = Columns(arrival="timestamp", unit="ms", prompt_tokens="input_length", output_tokens="output_length")
_MOONCAKE_BLOCK = 512  # tokens of the prompt that one of its hash ids stands for
_TRAFFIC = Columns(
    arrival="arrival_s",
    prompt_tokens="prompt_tokens",
    reasoning_tokens="reasoning_tokens",
    visible_tokens="visible_tokens",
)

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_LAST_S = 1e11  # seconds since 1970 until the year 5138: what is beyond is in another unit
_TIMES = "seconds, or times such as 2023-11-16 18:17:03.97"


@dataclass(frozen=True)
class Recorded:
    """A trace as it stands in its file, a row a request.

    Attributes:
        arrival_s: (n,) seconds from the first arrival.
        prompt_tokens, reasoning_tokens, visible_tokens: (n,), or ``None`` where the trace has none.
        prefix_id, prefix_tokens: (n,) as :class:`~ttc_sim.workload.traffic.Traffic` has them, or ``None``; so are ``prefixes``.
        notes: how rows were read that could be doubted.
    """

    arrival_s: F64
    prompt_tokens: I64 | None
    reasoning_tokens: I64 | None
    visible_tokens: I64 | None
    prefix_id: I64 | None = None
    prefix_tokens: I64 | None = None
    prefixes: PrefixTree | None = None
    notes: tuple[str, ...] = ()


def replay(trace: Trace, requests: int, *, folder: Path) -> Traffic:
    """Replay a trace: its first requests or, if more are asked for, all of it over and over, with prompts that are new ones.

    Between the end of one pass and the start of the next lies one mean gap. ``rate_per_s`` stretches the time axis.

    Raises:
        InputError: a file that cannot be read, a missing column, times out of order, tokens that are no whole numbers or too
            many, more requests than rows of a trace whose rows all have one time and that is given no rate.
    """
    path = folder / trace.file
    found = recorded(trace, folder)
    n = len(found.arrival_s)
    span_s = float(found.arrival_s[-1])
    if span_s == 0 and requests > n and trace.rate_per_s is None:
        expected = f"at most {n:,}, the trace's rows: they have one time, so that nothing says when to repeat them; or rate_per_s"
        raise InputError(path, "requests", requests, expected)
    period_s = span_s * n / max(n - 1, 1) if span_s > 0 else 1.0
    cycle, at = np.divmod(np.arange(requests), n)
    times = cycle * period_s + found.arrival_s[at]
    rate_per_s = n / period_s if span_s > 0 else np.nan
    if trace.rate_per_s is not None:
        times, rate_per_s = times * (n / period_s) / trace.rate_per_s, trace.rate_per_s

    def of(values: I64 | None) -> I64 | None:
        return None if values is None else values[at]

    prefix, prefixes = of(found.prefix_id), found.prefixes
    if prefix is not None and prefixes is not None:
        prefix = np.where(prefix < 0, -1, prefix + cycle * len(prefixes))
        prefixes = beside_one_another([prefixes] * (int(cycle[-1]) + 1))
    return Traffic(
        arrival_s=times,
        client=np.zeros(requests, dtype=np.int64),
        prompt_tokens=of(found.prompt_tokens),
        reasoning_tokens=of(found.reasoning_tokens),
        visible_tokens=of(found.visible_tokens),
        prefix_id=prefix,
        rate_per_s=rate_per_s,
        prefix_tokens=of(found.prefix_tokens),
        notes=found.notes,
        prefixes=prefixes,
    )


def recorded(trace: Trace, folder: Path) -> Recorded:
    """The trace as it stands in its file."""
    path = folder / trace.file
    return _recorded(trace, path, *state_of(path))


def come(trace: Trace, at_s: float, folder: Path) -> int:
    """Requests of a trace that is played over and over that come before a moment; those that come later, where all have one time
    and no rate, are none."""
    time_s = recorded(trace, folder).arrival_s
    n, span_s = len(time_s), float(time_s[-1])
    if span_s == 0 and trace.rate_per_s is None:
        return n if at_s > 0 else 0
    period_s = span_s * n / max(n - 1, 1) if span_s > 0 else 1.0
    stretch = 1.0 if trace.rate_per_s is None else (n / period_s) / trace.rate_per_s
    cycle = int(at_s / stretch // period_s)
    near = np.arange(max(cycle - 1, 0), cycle + 2)
    times = near[:, None] * period_s + time_s
    if trace.rate_per_s is not None:
        times = times * (n / period_s) / trace.rate_per_s  # as replay has it, so that rounding leaves none out
    return int(near[0]) * n + int((times < at_s).sum())


@lru_cache(maxsize=4)
def _recorded(trace: Trace, path: Path, changed_ns: int, size: int) -> Recorded:
    """The file, read once for all runs as long as it stays as it is."""
    table = read_table(path)
    if trace.format == "csv" and trace.columns is None:
        raise InputError(path, "workload.arrivals.columns", None, "the columns of a csv trace, at least arrival")
    columns = {"azure": _AZURE, "mooncake": _MOONCAKE, "traffic": _TRAFFIC}.get(trace.format) or trace.columns
    assert columns is not None
    times = _times(table, path, columns.arrival, columns.unit)
    prompt = _tokens(table, path, columns.prompt_tokens)
    output, said = _output(table, path, columns), list[str]()
    if trace.format == "traffic":
        output = without_failed(table, path, output, said)
    # An import counts no prompt of what failed early on; in other traces a prompt of none is one.
    asked, hidden, visible, notes = _answered(prompt if trace.format == "traffic" else None, *output, path)
    prompt = prompt if asked is None else asked
    prompt, more = _asked(prompt, path)
    found = Recorded(times - times[0], prompt, hidden, visible, notes=(*said, *notes, *more))
    if trace.format not in ("mooncake", "traffic") or "hash_ids" not in table.columns or found.prompt_tokens is None:
        return found
    blocks, block_tokens = _blocks(table, path), np.full(len(table), _MOONCAKE_BLOCK)
    if trace.format == "traffic":
        block_tokens = block_sizes(table, path)
        # Equal ids of blocks of unequal size are of two logs, and mean two things.
        blocks = [[(each, one) for one in ids] for each, ids in zip(block_tokens.tolist(), blocks, strict=True)]
    tree, prefix, tokens = shared_prefixes(blocks, block_tokens)
    shared = np.minimum(tokens, found.prompt_tokens)
    return replace(found, prefix_id=prefix, prefix_tokens=shared, prefixes=tree)


def _times(table: pl.DataFrame, path: Path, column: str, unit: str) -> F64:
    find_column(table, path, "arrival", (column,))
    values = table[column]
    if values.dtype == pl.String and values.cast(pl.Float64, strict=False).null_count() == values.null_count():
        values = values.cast(pl.Float64)
    if values.dtype == pl.Null or not len(values.drop_nulls()):
        raise InputError(path, f"column {column}", "no value", _TIMES)
    times: F64
    if values.dtype == pl.String:
        times = _dates(values, path, column)
    elif isinstance(values.dtype, (pl.Datetime, pl.Date)):
        since = values.cast(pl.Datetime("ns")) - values.drop_nulls().cast(pl.Datetime("ns"))[0]
        times = since.dt.total_nanoseconds().cast(pl.Float64).fill_null(float("nan")).to_numpy() * 1e-9
    elif values.dtype.is_numeric():
        times = values.cast(pl.Float64).fill_null(float("nan")).to_numpy() * _SECONDS[unit]
    else:
        raise InputError(path, f"column {column}", str(values.dtype), _TIMES)
    bad = np.flatnonzero(~np.isfinite(times))
    if len(bad):
        raise InputError(path, f"column {column}, row {bad[0] + 1}", float(times[bad[0]]), "a finite time")
    late = np.flatnonzero(np.abs(times) > _LAST_S)
    if len(late):
        found = abs(float(times[late[0]]))
        other = next((name for name, scale in _SECONDS.items() if found * scale <= _LAST_S), None)
        expected = "seconds" if unit == "s" else f"times in {unit}"
        if unit == "s" and other is not None:
            expected += f"; these can only be {other} since 1970, which 'unit: {other}' in the trace's columns says"
        raise InputError(path, f"column {column}, row {late[0] + 1}", values[int(late[0])], expected)
    back = np.flatnonzero(np.diff(times) < 0)
    if len(back):
        raise InputError(path, f"column {column}, row {back[0] + 2}", float(times[back[0] + 1]), "times in order")
    return times


def _dates(values: pl.Series, path: Path, column: str) -> F64:
    """Seconds from the first of dates that are text.

    Raises:
        InputError: a value that is no date, or dates whose day cannot be told from their month.
    """
    table = values.alias("at").to_frame()
    dates = look_at_dates(table.lazy(), "at")
    if dates.example is not None or not dates.count:
        row = int((values == dates.example).arg_max() or 0) + 1
        raise InputError(path, f"column {column}, row {row}", dates.example, _TIMES)
    try:
        order = dates.order()
    except ValueError as error:
        raise InputError(path, f"column {column}", str(error), "dates in one order") from None
    if order is None and dates.year_last:
        row = int(values.is_not_null().arg_max() or 0)
        expected = "dates that tell the day from the month, such as 2026-04-03 10:00:00"
        raise InputError(path, f"column {column}, row {row + 1}", values[row], expected)
    day, second = as_day_and_second("at", order or "day-first")
    found = table.select(day=day, second=second)
    start = found.drop_nulls().row(0) if len(found.drop_nulls()) else (0.0, 0.0)
    since = (found["day"] - start[0]) * 86400.0 + (found["second"] - start[1])
    times: F64 = since.fill_null(float("nan")).to_numpy()
    return times


def _tokens(table: pl.DataFrame, path: Path, column: str | None) -> I64 | None:
    if column is None:
        return None
    find_column(table, path, "tokens", (column,))
    counts: I64 = as_tokens(table, path, column).to_numpy()
    return counts


def _output(table: pl.DataFrame, path: Path, columns: Columns) -> tuple[I64 | None, I64 | None]:
    """Reasoning and visible tokens."""
    reasoning = _tokens(table, path, columns.reasoning_tokens)
    visible = _tokens(table, path, columns.visible_tokens)
    output = _tokens(table, path, columns.output_tokens)
    if visible is not None:
        return np.zeros_like(visible) if reasoning is None else reasoning, visible
    if output is None:
        return None, None
    if reasoning is None:
        return np.zeros_like(output), output
    beside = str(columns.reasoning_tokens), reasoning
    check_held(path, beside, (str(columns.output_tokens), output), "the trace's columns")
    hidden = np.minimum(reasoning, np.maximum(output - 1, 0))
    return hidden, output - hidden


def _answered(
    prompt: I64 | None, hidden: I64 | None, visible: I64 | None, path: Path
) -> tuple[I64 | None, I64 | None, I64 | None, tuple[str, ...]]:
    """Tokens of prompts and answers. Requests that got none failed where they were recorded: here they are served like those beside
    them, and ask as much where they failed before their prompt was counted, if prompts are given.

    Raises:
        InputError: no row has output tokens.
    """
    if hidden is None or visible is None:
        return prompt, hidden, visible, ()
    answered = hidden + visible > 0
    if answered.all():
        return prompt, hidden, visible, ()
    if not answered.any():
        raise InputError(path, "output tokens", "0 in every row", "a row that was answered")
    number = np.cumsum(answered) - 1  # of the last answered row so far
    like = np.flatnonzero(answered)[np.maximum(number, 0)]
    failed = failed_requests(path, int(answered.sum()), len(answered))
    note = f"{failed}: they come when they came, and are served like the answered request before them"
    if prompt is not None and (uncounted := ~answered & (prompt == 0)).any():
        note += f"; {uncounted.sum():,} of them have no prompt tokens either: they ask as much as that one"
        prompt = np.where(uncounted, prompt[like], prompt)
    return prompt, hidden[like], visible[like], (note,)


def _asked(prompt: I64 | None, path: Path) -> tuple[I64 | None, tuple[str, ...]]:
    """Tokens of prompts, at least 1."""
    empty = 0 if prompt is None else int((prompt == 0).sum())
    if prompt is None or not empty:
        return prompt, ()
    return np.maximum(prompt, 1), (without_prompt(path, empty, len(prompt)),)


def _blocks(table: pl.DataFrame, path: Path) -> list[list[Hashable]]:
    ids = table["hash_ids"]
    inner = ids.dtype.inner if isinstance(ids.dtype, pl.List) else None
    if ids.dtype != pl.Null and (inner is None or not (inner.is_integer() or inner in (pl.String, pl.Null))):
        raise InputError(path, "column hash_ids", str(ids.dtype), "a list of block ids in every row")
    found: list[list[Hashable]] = [one or [] for one in ids.to_list()]
    empty = next((row for row, one in enumerate(found) if None in one), None)
    if empty is not None:
        raise InputError(path, f"column hash_ids, row {empty + 1}", None, "an id for each block")
    return found
