"""Traffic as ``ttc-sim import`` leaves it (docs/formats.md): what its table holds beside times and tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.files.tables import find_column
from ttc_sim.measured.columns import as_text, as_tokens

STATUSES = ("ok", "partial", "failed")
"""A request was answered; its answer ended before its time; it got none."""
_READ = ("arrival_s", "prompt_tokens", "reasoning_tokens", "visible_tokens", "status", "hash_ids", "block_tokens")


def without_failed(
    table: pl.DataFrame, path: Path, output: tuple[I64 | None, I64 | None], said: list[str]
) -> tuple[I64 | None, I64 | None]:
    """Reasoning and visible tokens, none of requests that failed; ``said`` gets lines on what else the table says of them.

    Raises:
        InputError: a status that is none.
    """
    others = [name for name in table.columns if name not in _READ]
    if others:
        said.append(f"{path.name}: {', '.join(others)} are of the log, and have no effect on a trace")
    hidden, visible = output
    if "status" not in table.columns or hidden is None or visible is None:
        return output
    status = as_text(table, path, "status").fill_null("")
    strange = (~status.is_in(STATUSES)).arg_true()
    if len(strange):
        raise InputError(path, f"column status, row {strange[0] + 1}", status[strange[0]], nearest("", STATUSES))
    failed, partial = (status == "failed").to_numpy(), int((status == "partial").sum())
    kept = int((failed & (hidden + visible > 0)).sum())
    if kept:
        said.append(f"{kept:,} failed rows of {path.name} have output tokens, which are not counted")
    if partial:
        said.append(
            f"{partial:,} of {len(table):,} rows of {path.name} are partial: their answers end where they ended then"
        )
    return np.where(failed, 0, hidden), np.where(failed, 0, visible)


def block_sizes(table: pl.DataFrame, path: Path) -> I64:
    """(n,) tokens of the prompt that each of a row's ``hash_ids`` stands for.

    Raises:
        InputError: no column ``block_tokens``, or none in a row that has ids.
    """
    column = str(find_column(table, path, "block_tokens", ("block_tokens",)))
    if table["hash_ids"].dtype == pl.Null:
        return np.ones(len(table), dtype=np.int64)
    if not table[column].dtype.is_numeric() and table[column].null_count() < len(table):
        return as_tokens(table, path, column).to_numpy()  # refuses it
    named = pl.when(pl.col("hash_ids").list.len().fill_null(0) == 0).then(pl.col(column).fill_null(1))
    sizes: I64 = as_tokens(table.with_columns(named.otherwise(column).alias(column)), path, column, least=1).to_numpy()
    return sizes
