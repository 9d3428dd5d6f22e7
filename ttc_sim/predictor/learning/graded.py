"""Graded examples, read from a user's tables and dealt into task types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.files.tables import find_column, read_table
from ttc_sim.measured.building import USUAL_NAMES
from ttc_sim.measured.problem_tables import MODEL, ProblemTables, read_problem_tables
from ttc_sim.predictor.judging.measured import heads_like
from ttc_sim.predictor.reading.features import MAX_BYTES

LEAST = 5
"""Different prompts of a task type, below which nothing is learnt of it."""
MOST = 500
"""Different prompts in all: more would be looked through for each prompt that is scored."""
ONE_TYPE = "examples"
"""What the task type is called where the problems name none."""
_COUNTED = (*USUAL_NAMES["output_tokens"], *USUAL_NAMES["visible_tokens"])


@dataclass(frozen=True)
class Examples:
    """``E`` different prompts of one task type, and what ``H`` models made of them.

    Attributes:
        task_type: its name; prompts: (E,) texts; attempts: at all of them.
        share: (E, H) of a model's attempts that were right; log_mean: (E, H) mean logarithm of their output tokens. NaN where there
            were no attempts, or no tokens were counted.
    """

    task_type: str
    prompts: tuple[str, ...]
    attempts: int
    share: F64
    log_mean: F64


def read_examples(
    problems: str | Path, attempts: str | Path, heads: Sequence[str]
) -> tuple[list[Examples], tuple[str, ...]]:
    """Read a table of problems and one of graded attempts (:func:`ttc_sim.measured.problem_tables.read_problem_tables`).

    Prompts that are equal as far as a predictor reads are one example, whose attempts are put together.

    Args:
        heads: names of the models that the predictor knows.

    Returns:
        Examples by task type, and what was left out.

    Raises:
        InputError: tables that cannot be used, an attempt by a model that is none of the heads, too few different prompts of every
            task type, or too many in all.
    """
    tries = read_table(attempts)
    named = find_column(tries, attempts, "model", MODEL, required=False) is not None
    counted = named and any(column in tries.columns for column in _COUNTED)
    tables = read_problem_tables(problems, attempts, with_tokens=counted)
    notes = () if counted else ("the attempts have no output tokens, each of its own: what is predicted of them stays",)
    made = _by_example(tables, attempts, heads, counted=counted)
    found, few = [], []
    for (task_type,), rows in made.partition_by("group", as_dict=True, maintain_order=True).items():
        prompts = rows["read"].unique(maintain_order=True)
        if len(prompts) < LEAST:
            few.append((str(task_type), len(prompts)))
            continue
        place = rows.join(pl.DataFrame({"read": prompts}).with_row_index("example"), on="read", maintain_order="left")
        share, log_mean = (np.full((len(prompts), len(heads)), np.nan) for _ in range(2))
        at = place["example"].to_numpy(), place["head"].to_numpy()
        share[at] = place["share"].to_numpy()
        if counted:
            log_mean[at] = place["log_mean"].to_numpy()
        found.append(Examples(str(task_type), tuple(prompts), int(rows["attempts"].sum()), share, log_mean))
    if not found:
        task_type, count = max(few, key=lambda one: one[1])
        field = "examples" if task_type == ONE_TYPE else f"examples of {task_type}"
        raise InputError(problems, field, count, f"at least {LEAST} different prompts with graded attempts")
    total = sum(len(one.prompts) for one in found)
    if total > MOST:
        expected = f"at most {MOST} different prompts: of more, `ttc-sim predictor train` learns more"
        raise InputError(problems, "examples", total, expected)
    left = tuple(f"{name} is left out: {count} of at least {LEAST} different prompts" for name, count in few)
    return found, (*notes, *left)


def _by_example(tables: ProblemTables, attempts: str | Path, heads: Sequence[str], *, counted: bool) -> pl.DataFrame:
    """A row for each task type, prompt as far as it is read, and head, in the order of the problems' keys."""
    listed = tables.attempts["model"].unique().sort().to_list()
    known = pl.DataFrame({"model": listed, "head": [_head(name, attempts, heads) for name in listed]})
    asked = tables.problems.select(
        "problem",
        group=pl.when(pl.col("group") == "").then(pl.lit(ONE_TYPE)).otherwise("group"),
        read=pl.col("prompt").str.slice(0, MAX_BYTES),
    )
    tokens = [pl.col("output_tokens").clip(lower_bound=1).log().mean().alias("log_mean")] if counted else []
    return (
        tables.attempts.join(known, on="model")
        .join(asked, on="problem")
        .group_by("group", "read", "head")
        .agg(
            pl.col("problem").min(),
            pl.col("correct").cast(pl.Float64).sort().mean().alias("share"),
            pl.len().alias("attempts"),
            *tokens,
        )
        .with_columns(pl.col("problem").min().over("group", "read"))
        .sort("group", "problem", "read", "head")
    )


def _head(name: str, attempts: str | Path, heads: Sequence[str]) -> int:
    """Index of the head that a model's name stands for."""
    found = heads_like(name, heads)
    if not found:
        raise InputError(attempts, "model", name, f"a model that the predictor knows: {nearest(name, heads)}")
    if len(found) > 1:
        raise InputError(attempts, "model", name, f"one model: {' or '.join(found)}")
    return list(heads).index(found[0])


__all__ = ["LEAST", "MOST", "ONE_TYPE", "Examples", "read_examples"]
