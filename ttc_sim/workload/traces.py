"""Replay of recorded traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.tables import find_column, read_table
from ttc_sim.scenario import Columns, Trace
from ttc_sim.workload.traffic import Traffic

_AZURE = Columns(arrival="TIMESTAMP", prompt_tokens="ContextTokens", output_tokens="GeneratedTokens")
_MOONCAKE = Columns(arrival="timestamp", prompt_tokens="input_length", output_tokens="output_length")


def replay(trace: Trace, requests: int, *, folder: Path) -> Traffic:
    """Replay a trace: its first requests or, if more are asked for, all of it over and over.

    Between the end of one pass and the start of the next lies one mean gap. ``rate_per_s`` stretches the time axis.

    Raises:
        InputError: a file that cannot be read, a missing column, times out of order, tokens below 0.
    """
    path = folder / trace.file
    table = read_table(path)
    if trace.format == "csv" and trace.columns is None:
        raise InputError(path, "workload.arrivals.columns", None, "the columns of a csv trace, at least arrival")
    columns = {"azure": _AZURE, "mooncake": _MOONCAKE}.get(trace.format) or trace.columns
    assert columns is not None
    arrival_s = _times(table, path, columns.arrival, 1e-3 if trace.format == "mooncake" else 1.0)
    prompt = _tokens(table, path, columns.prompt_tokens, 1)
    output = _tokens(table, path, columns.output_tokens, 1)
    reasoning = _tokens(table, path, columns.reasoning_tokens, 0)
    prefix = _prefix(table, path) if trace.format == "mooncake" else None
    n = len(arrival_s)
    span_s = float(arrival_s[-1] - arrival_s[0])
    period_s = span_s * n / max(n - 1, 1) if span_s > 0 else 1.0
    index = np.arange(requests)
    cycle, at = np.divmod(index, n)
    times = cycle * period_s + (arrival_s[at] - arrival_s[0])
    rate_per_s = n / period_s
    if trace.rate_per_s is not None:
        times, rate_per_s = times * rate_per_s / trace.rate_per_s, trace.rate_per_s
    hidden = None
    if output is not None:
        hidden = np.zeros(n, dtype=np.int64) if reasoning is None else np.minimum(reasoning, output - 1)
    return Traffic(
        arrival_s=times,
        client=np.zeros(requests, dtype=np.int64),
        prompt_tokens=None if prompt is None else prompt[at],
        reasoning_tokens=None if hidden is None else hidden[at],
        visible_tokens=None if output is None or hidden is None else (output - hidden)[at],
        prefix_id=None if prefix is None else prefix[at],
        rate_per_s=rate_per_s,
    )


def _times(table: pl.DataFrame, path: Path, column: str, unit_s: float) -> F64:
    find_column(table, path, "arrival", (column,))
    values = table[column]
    if values.dtype == pl.String and values.cast(pl.Float64, strict=False).null_count() == values.null_count():
        values = values.cast(pl.Float64)
    if values.dtype == pl.String:
        try:
            stamps = values.str.to_datetime(time_unit="ns", strict=True)
        except pl.exceptions.PolarsError:
            raise InputError(
                path, f"column {column}", values[0], "seconds, or times such as 2023-11-16 18:17:03.97"
            ) from None
        values = (stamps - stamps[0]).dt.total_nanoseconds().cast(pl.Float64) * 1e-9
    elif not values.dtype.is_numeric():
        raise InputError(
            path, f"column {column}", str(values.dtype), "seconds, or times such as 2023-11-16 18:17:03.97"
        )
    times = values.cast(pl.Float64).fill_null(float("nan")).to_numpy() * unit_s
    bad = np.flatnonzero(~np.isfinite(times))
    if len(bad):
        raise InputError(path, f"column {column}, row {bad[0] + 1}", float(times[bad[0]]), "a finite time")
    back = np.flatnonzero(np.diff(times) < 0)
    if len(back):
        raise InputError(path, f"column {column}, row {back[0] + 2}", float(times[back[0] + 1]), "times in order")
    return times


def _tokens(table: pl.DataFrame, path: Path, column: str | None, least: int) -> I64 | None:
    """A column of token counts; those of 0 count as ``least``."""
    if column is None:
        return None
    find_column(table, path, "tokens", (column,))
    values = table[column]
    if not values.dtype.is_numeric():
        raise InputError(path, f"column {column}", str(values.dtype), "whole numbers of tokens")
    counts = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    bad = np.flatnonzero(~(counts >= 0) | (counts != np.floor(counts)))
    if len(bad):
        raise InputError(path, f"column {column}, row {bad[0] + 1}", float(counts[bad[0]]), "a whole number of tokens")
    whole: I64 = np.maximum(counts.astype(np.int64), least)
    return whole


def _prefix(table: pl.DataFrame, path: Path) -> I64:
    find_column(table, path, "prefix blocks", ("hash_ids",))
    first: I64 = table["hash_ids"].list.first().fill_null(-1).to_numpy().astype(np.int64)
    return first
