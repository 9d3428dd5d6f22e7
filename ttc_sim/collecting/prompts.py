"""The prompts that are asked, and what their right answers are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.files.tables import find_column, read_table
from ttc_sim.measured.columns import as_keys, as_text, texts
from ttc_sim.measured.problem_tables import PROBLEM, PROMPT

TARGET = ("target", "answer", "gold", "solution", "expected", "label")
Target = str | Decimal


@dataclass(frozen=True)
class Prompt:
    """One problem to be asked.

    Attributes:
        target: its right answer, a number where the column holds numbers; ``None`` without such a column.
        row: all that its table says of it, by column.
    """

    problem: str
    text: str
    target: Target | None
    row: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Of the text: whether it is still what was asked."""
        return digest(self.text)


def digest(value: object) -> str:
    """A short name of whatever JSON can say, or of how it shows itself."""
    return hashlib.sha256(json.dumps(value, default=repr, sort_keys=True).encode()).hexdigest()[:16]


def read_prompts(
    path: str | Path,
    *,
    problem: str | None = None,
    prompt: str | None = None,
    target: str | None = None,
    needs_target: bool = False,
) -> list[Prompt]:
    """Read a table of prompts (Parquet, CSV or JSONL), in its order.

    Args:
        problem, prompt, target: columns named by the user; the usual names are looked for otherwise.
        needs_target: whether there must be a right answer in every row.

    Raises:
        InputError: no such column, an empty or a repeated problem, an empty prompt, or no right answer where one is needed.
    """
    table = read_table(path)
    key = str(find_column(table, path, "problem", PROBLEM, problem))
    asked = str(find_column(table, path, "prompt", PROMPT, prompt))
    right = find_column(table, path, "target", TARGET, target, required=needs_target)
    problems, prompts = as_keys(table, path, key), texts(table, path, asked)
    twice = problems.is_duplicated().arg_true()
    if len(twice):
        raise InputError(path, f"column {key}, row {twice[0] + 1}", problems[twice[0]], "each problem in one row")
    empty = (prompts.str.strip_chars() == "").arg_true()
    if len(empty):
        raise InputError(path, f"column {asked}, row {empty[0] + 1}", prompts[empty[0]], "a prompt that is not empty")
    targets = _targets(table, path, right, needed=needs_target) if right is not None else [None] * len(table)
    rows = table.iter_rows(named=True)
    return [Prompt(*one) for one in zip(problems, prompts, targets, rows, strict=True)]


def _targets(table: pl.DataFrame, path: str | Path, column: str, *, needed: bool) -> list[Target | None]:
    values = table[column]
    if not needed and (values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object, pl.Duration)):
        return [None] * len(values)
    found = as_text(table, path, column)
    missing = found.is_null() | (found.str.strip_chars() == "")
    if values.dtype.is_float():
        missing |= ~values.is_finite()
    if needed and missing.any():
        row = missing.arg_true()[0]
        raise InputError(path, f"column {column}, row {row + 1}", values[row], "the right answer in every row")
    if values.dtype.is_numeric():
        return [
            None if gone else Decimal(str(value)) for value, gone in zip(values, missing.fill_null(True), strict=True)
        ]
    return [None if text is None else text.strip() for text in found]
