"""Make a profile from a user's own table of attempts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.tables import find_column
from ttc_sim.measured.cards import ProfileCard
from ttc_sim.measured.profiles import ATTEMPT_COLUMNS, SCORE, Profile, check_profile

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "problem": ("problem", "problem_id", "question_id", "task_id", "id"),
    "attempt": ("attempt", "sample", "attempt_id"),
    "prompt_tokens": ("prompt_tokens", "input_tokens"),
    "reasoning_tokens": ("reasoning_tokens", "thinking_tokens"),
    "visible_tokens": ("visible_tokens",),
    "output_tokens": ("output_tokens", "completion_tokens", "generated_tokens"),
    "correct": ("correct", "is_correct", "passed"),
    "truncated": ("truncated", "stopped_at_limit"),
    "answer": ("answer", "prediction"),
}


def build_profile(
    table: pl.DataFrame,
    where: str | Path,
    name: str,
    card: dict[str, object],
    columns: dict[str, str | None] | None = None,
) -> tuple[Profile, list[str]]:
    """Turn a table of attempts into a checked profile.

    Args:
        table: a row an attempt.
        where: the file that errors name.
        name: of the profile.
        card: the card's fields, without ``reasoning``.
        columns: columns named by the user, by role; the usual names are looked for otherwise.

    Returns:
        The profile, and lines that say what was taken for what.

    Raises:
        InputError: a missing column or a value that cannot be what its column says.
    """
    named = columns or {}
    needed = {"problem", "prompt_tokens", "correct"}
    found = {
        role: find_column(table, where, role, usual, named.get(role), required=role in needed)
        for role, usual in USUAL_NAMES.items()
    }
    said = [f"{role}: column {column}" for role, column in found.items() if column is not None]
    if found["output_tokens"] is None and found["visible_tokens"] is None:
        have = ", ".join(table.columns)
        raise InputError(
            where, "column for output_tokens", have, "output_tokens, or visible_tokens beside reasoning_tokens"
        )
    problem = table[str(found["problem"])].cast(pl.String)
    if problem.null_count():
        raise InputError(where, f"column {found['problem']}", "empty", "a key in every row")
    counts = {
        role: as_tokens(table, where, column)
        for role, column in found.items()
        if column is not None and role.endswith("_tokens")
    }
    reasoning = counts.get("reasoning_tokens", pl.Series(np.zeros(len(table), dtype=np.int64)))
    visible = counts.get("visible_tokens")
    if visible is None:
        visible = counts["output_tokens"] - reasoning
        if visible.min() < 0:  # type: ignore[operator]  # a minimum of whole numbers is one
            row = int(np.argmin(visible.to_numpy())) + 1
            raise InputError(
                where, f"output_tokens, row {row}", counts["output_tokens"][row - 1], "at least reasoning_tokens"
            )
    if found["reasoning_tokens"] is None:
        said.append("no column of reasoning tokens: all output counts as visible")
    empty = (reasoning + visible) == 0
    if empty.any():
        said.append(f"{empty.sum()} attempts without output count as 1 token")
        visible = visible + empty.cast(visible.dtype)
    made = pl.DataFrame(
        {
            "problem": problem,
            "prompt_tokens": counts["prompt_tokens"],
            "reasoning_tokens": reasoning,
            "visible_tokens": visible,
            "correct": as_booleans(table, where, str(found["correct"])),
            "truncated": as_booleans(table, where, found["truncated"]) if found["truncated"] else [False] * len(table),
            "answer": table[found["answer"]].cast(pl.String) if found["answer"] else pl.Series([None] * len(table)),
        }
    )
    attempt = pl.col("attempt") if found["attempt"] else pl.int_range(pl.len()).over("problem").alias("attempt")
    if found["attempt"]:
        made = made.with_columns(attempt=table[found["attempt"]])
    made = made.with_columns(attempt)
    try:
        kept = [pl.col(column).cast(kind) for column, kind in ATTEMPT_COLUMNS.items()]
        if SCORE in table.columns:
            made = made.with_columns(table[SCORE])
            kept.append(pl.col(SCORE).cast(pl.Float64))
        made = made.select(kept)
    except pl.exceptions.PolarsError as error:
        raise InputError(where, "table", str(error).splitlines()[0], "columns of a profile's types") from None
    how = "recorded" if found["reasoning_tokens"] else "none"
    checked = ProfileCard.model_validate({**card, "reasoning": how})
    profile = Profile(name, checked, made.sort("problem", "attempt"))
    check_profile(profile, where)
    return profile, said


def as_tokens(table: pl.DataFrame, where: str | Path, column: str) -> pl.Series:
    """A column of token counts, or an error that names the first row that holds none."""
    values = table[column]
    if not values.dtype.is_numeric():
        raise InputError(where, f"column {column}", str(values.dtype), "whole numbers of tokens")
    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    bad = np.flatnonzero(~(numbers >= 0) | (numbers != np.floor(numbers)) | (numbers > 2**31 - 1))
    if len(bad):
        raise InputError(
            where, f"column {column}, row {bad[0] + 1}", float(numbers[bad[0]]), "a whole number of tokens"
        )
    return pl.Series(numbers.astype(np.int64))


def as_booleans(table: pl.DataFrame, where: str | Path, column: str) -> pl.Series:
    """A column of 0 and 1 or true and false, or an error that names a value that is neither."""
    values = table[column]
    if values.dtype == pl.Boolean and values.null_count() == 0:
        return values
    if values.dtype.is_numeric():
        bad = table.filter(~pl.col(column).is_in([0, 1]) | pl.col(column).is_null())
        if bad.is_empty():
            return values.cast(pl.Boolean)
        raise InputError(where, f"column {column}", bad[column][0], "0 or 1, or true or false")
    raise InputError(where, f"column {column}", values[0], "0 or 1, or true or false, in every row")
