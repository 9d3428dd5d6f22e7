"""Columns of a user's table as what they should hold, or one line that names the first row that holds something else."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.measured.grades import as_grades


def as_tokens(
    table: pl.DataFrame, where: str | Path, column: str, *, least: int = 0, empty: int | None = None
) -> pl.Series:
    """A column of token counts, from ``least`` to :data:`~ttc_sim.base.limits.MOST_TOKENS`.

    Args:
        empty: what an empty value stands for.

    Raises:
        InputError: an empty value, another number, or no number.
    """
    return as_whole(table, where, column, least, MOST_TOKENS, "of tokens", empty)


def as_whole(
    table: pl.DataFrame,
    where: str | Path,
    column: str,
    least: int,
    most: int,
    what: str = "",
    empty: int | None = None,
) -> pl.Series:
    """A column of whole numbers from ``least`` to ``most``; ``empty`` is what an empty value stands for, if for anything.

    Raises:
        InputError: an empty value, another number, or no number.
    """
    values = table[column]
    if empty is not None and (values.dtype.is_numeric() or values.null_count() == len(values)):
        values = values.cast(pl.Float64).fill_null(empty)
    if not values.dtype.is_numeric():
        raise InputError(where, f"column {column}", str(values.dtype), f"whole numbers {what}".strip())
    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    bad = np.flatnonzero(~(numbers >= least) | (numbers != np.floor(numbers)) | (numbers > most))
    if len(bad):
        value, expected = float(numbers[bad[0]]), f"a whole number {what}".strip()
        if value > most:
            expected += f", at most {most:,}"
        elif value < least:
            expected += f", at least {least}"
        raise InputError(where, f"column {column}, row {bad[0] + 1}", value, expected)
    return pl.Series(column, numbers.astype(np.int64))


def as_numbers(
    table: pl.DataFrame,
    where: str | Path,
    column: str,
    least: float,
    most: float,
    *,
    above: bool = False,
    gaps: bool = False,
) -> pl.Series:
    """A column of finite numbers from ``least`` (or ``above`` it) to ``most``; with ``gaps`` rows may be empty.

    Raises:
        InputError: another number, or no number.
    """
    expected = (
        f"a number {'above' if above else 'from'} {least:g} to {most:,.12g}" if most < math.inf else "a finite number"
    )
    values = table[column]
    if not values.dtype.is_numeric() and values.null_count() < len(values):
        raise InputError(where, f"column {column}", str(values.dtype), expected)
    numbers = values.cast(pl.Float64)
    good = numbers.is_finite() & ((numbers > least) if above else (numbers >= least)) & (numbers <= most)
    bad = (~good.fill_null(value=gaps)).arg_true()
    if len(bad):
        raise InputError(where, f"column {column}, row {bad[0] + 1}", values[bad[0]], expected)
    return numbers


def as_text(table: pl.DataFrame, where: str | Path, column: str) -> pl.Series:
    """A column of text or numbers, as text; empty ones stay empty.

    Raises:
        InputError: lists, records, bytes or lengths of time.
    """
    kind = table[column].dtype
    if kind.is_nested() or kind in (pl.Binary, pl.Object, pl.Duration):
        raise InputError(where, f"column {column}", str(kind), "text or numbers")
    return table[column].cast(pl.String)


def as_keys(table: pl.DataFrame, where: str | Path, column: str) -> pl.Series:
    """A column of names, as text.

    Raises:
        InputError: an empty one, lists, records or bytes.
    """
    found = as_text(table, where, column)
    empty = int((found.fill_null("") == "").sum())
    if empty:
        raise InputError(where, f"column {column}", f"{empty:,} empty values", "a value in every row")
    return found


def as_booleans(table: pl.DataFrame, where: str | Path, column: str) -> pl.Series:
    """A column of 0 and 1, true and false or the like, a value in every row.

    Raises:
        InputError: an empty value, or another.
    """
    found = labels(table, where, column, shares=False)
    if found.null_count():
        row = found.is_null().arg_true()[0] + 1
        raise InputError(where, f"column {column}, row {row}", table[column][row - 1], "0 or 1, or true or false")
    return found.cast(pl.Boolean)


def labels(table: pl.DataFrame, where: str | Path, column: str, *, shares: bool) -> pl.Series:
    """Outcomes as numbers from 0 to 1, however a table writes them (:mod:`~ttc_sim.measured.grades`); empty ones stay empty.

    Args:
        shares: whether they may lie between 0 and 1.

    Raises:
        InputError: another word or number, or lists, records, dates.
    """
    expected = "0 or 1, true or false" + (", or a share between them" if shares else "")
    values = table[column]
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.String, pl.Null, pl.Categorical, pl.Enum)):
        raise InputError(where, f"column {column}", str(values.dtype), expected)
    numbers = as_grades(values)
    good = numbers.is_between(0, 1) if shares else numbers.is_in([0.0, 1.0])
    bad = (~good.fill_null(value=True)).arg_true()
    if len(bad):
        if not shares and 0 < (numbers[bad[0]] or 0) < 1:
            expected += "; a share of several attempts is a row for each of them"
        raise InputError(where, f"column {column}, row {bad[0] + 1}", values[bad[0]], expected)
    return numbers


def texts(table: pl.DataFrame, where: str | Path, column: str) -> pl.Series:
    """Prompts; an empty one is an empty text.

    Raises:
        InputError: they are not text.
    """
    if table[column].dtype not in (pl.String, pl.Null):
        raise InputError(where, f"column {column}", str(table[column].dtype), "text")
    return table[column].cast(pl.String).fill_null("")
