"""Rows of a user's table: those that were asked for, and those of each value of a column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ttc_sim.base.errors import InputError, cut, nearest
from ttc_sim.files.tables import find_column
from ttc_sim.measured.columns import as_keys, as_text

_MOST_NAMED = 1000  # values of a column that a mistaken one is compared with


def rows_where(table: pl.DataFrame, where: str | Path, conditions: Sequence[str]) -> pl.DataFrame:
    """Rows whose columns have the values that are asked for.

    Args:
        conditions: ``column=value``; a column that is named twice has either of the values, several columns must all have theirs.
            An empty value is an empty cell.

    Raises:
        InputError: no condition, no such column, or a value that it has nowhere in the rows that the columns before it leave.

    >>> rows_where(pl.DataFrame({"model": ["a", "b"], "right": [1, 0]}), "log.csv", ["model=b"])["right"].to_list()
    [0]
    """
    wanted: dict[str, list[str]] = {}
    for condition in conditions:
        # A column's name may hold an equals sign itself.
        column = max((name for name in table.columns if condition.startswith(f"{name}=")), key=len, default=None)
        if column is None:
            name, equals, _ = condition.partition("=")
            if not equals:
                raise InputError(where, "--where", condition, "COLUMN=VALUE")
            column = find_column(table, where, "--where", (name,), name)
        wanted.setdefault(str(column), []).append(condition[len(str(column)) + 1 :])
    for column, values in wanted.items():
        texts = as_text(table, where, column).fill_null("")
        matches = pl.repeat(False, len(table), eager=True)
        for value in values:
            same = _same(table[column], texts, value)
            if not same.any():
                known = texts.unique()
                expected = nearest(value, known.to_list()) if len(known) <= _MOST_NAMED else "a value that stands in it"
                raise InputError(where, f"--where {column}", value, expected)
            matches |= same
        table = table.filter(matches)
    return table


def _same(values: pl.Series, texts: pl.Series, wanted: str) -> pl.Series:
    if values.dtype == pl.Boolean:
        return texts == wanted.lower()
    if values.dtype.is_numeric():
        try:
            return (values == float(wanted)).fill_null(value=False)
        except ValueError:
            return texts == wanted
    return texts == wanted


def rows_by(table: pl.DataFrame, where: str | Path, column: str) -> dict[str, pl.DataFrame]:
    """The rows of each value of a column, in order of appearance.

    Raises:
        InputError: no such column, or an empty value.
    """
    named = str(find_column(table, where, "--by", (column,), column))
    parts = table.with_columns(as_keys(table, where, named).alias(named)).partition_by(named, maintain_order=True)
    return {str(part[named][0]): part for part in parts}


def part_of(where: str | Path, column: str, value: str) -> str:
    """What errors call a part of a file; rows are then counted in it."""
    return f"{where} ({column} {cut(value, 80)})"
