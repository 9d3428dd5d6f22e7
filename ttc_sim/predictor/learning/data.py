"""What a predictor learns from: prompts, and models' attempts at them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.measured.problem_tables import read_problem_tables
from ttc_sim.predictor.reading.features import MAX_BYTES

LEAST_PROBLEMS = 100


@dataclass(frozen=True)
class TrainingSet:
    """``n`` problems and the attempts of ``H`` models at them.

    Attributes:
        problems: (n,) keys; prompts: (n,) their texts; groups: (n,) task types, ``None`` if not known.
        heads: names of the models.
        row, head, tokens, correct: (attempts,) problem, model, output tokens (reasoning included, at least 1) and whether
            right, of each attempt.
        left_out: models of which too little is known to learn from, and why, a line each.
    """

    problems: tuple[str, ...]
    prompts: tuple[str, ...]
    groups: tuple[str, ...] | None
    heads: tuple[str, ...]
    row: I64
    head: I64
    tokens: F64
    correct: NDArray[np.bool_]
    left_out: tuple[str, ...] = ()

    @cached_property
    def tries(self) -> F64:
        """(n, H) attempts."""
        return self._summed(np.ones(len(self.row)))

    @cached_property
    def share(self) -> F64:
        """(n, H) share of attempts that were right; NaN where there were none."""
        return self._averaged(self.correct.astype(np.float64))

    @cached_property
    def log_mean(self) -> F64:
        """(n, H) mean logarithm of output tokens; NaN where there were no attempts."""
        return self._averaged(np.log(self.tokens))

    @cached_property
    def log_square(self) -> F64:
        """(n, H) mean squared logarithm of output tokens; NaN where there were no attempts."""
        return self._averaged(np.log(self.tokens) ** 2)

    def rows(self, which: NDArray[np.bool_]) -> TrainingSet:
        """Some of the problems, with their attempts."""
        kept = which[self.row]
        place = np.cumsum(which) - 1
        index = np.flatnonzero(which)
        return TrainingSet(
            tuple(self.problems[i] for i in index),
            tuple(self.prompts[i] for i in index),
            None if self.groups is None else tuple(self.groups[i] for i in index),
            self.heads,
            place[self.row[kept]],
            self.head[kept],
            self.tokens[kept],
            self.correct[kept],
        )

    def _summed(self, values: F64) -> F64:
        heads = len(self.heads)
        flat = np.bincount(self.row * heads + self.head, values, minlength=len(self.prompts) * heads)
        return flat.astype(np.float64).reshape(-1, heads)

    def _averaged(self, values: F64) -> F64:
        return np.where(self.tries > 0, self._summed(values) / np.maximum(self.tries, 1), np.nan)


def read_training_set(problems: str | Path, attempts: str | Path) -> TrainingSet:
    """Read a table of problems (a key, a prompt, perhaps a task type) and one of attempts (key, model, right or not, tokens).

    Problems without attempts are left out, and so are models with attempts at fewer than 100 different prompts, or with right or
    wrong ones alone; the tables are those of :func:`ttc_sim.measured.problem_tables.read_problem_tables`.

    Raises:
        InputError: tables that cannot be used, or no model left.
    """
    tables = read_problem_tables(problems, attempts, with_tokens=True)
    # Equal prompts are one to learn from, and lie in one fold.
    read = tables.problems.select("problem", read=pl.col("prompt").str.slice(0, MAX_BYTES))
    known = (
        tables.attempts.join(read, on="problem")
        .group_by("model")
        .agg(pl.col("read").n_unique(), right=pl.col("correct").max(), wrong=1 - pl.col("correct").min())
        .sort("model")
    )
    lacking: dict[str, tuple[str, str]] = {}
    for model, count, right, wrong in known.iter_rows():
        if count < LEAST_PROBLEMS:
            expected = f"at least {LEAST_PROBLEMS} that differ in their first {MAX_BYTES // 1024} KB"
            lacking[model] = f"attempts at {count} different prompts", expected
        elif not right or not wrong:
            lacking[model] = f"{'right' if right else 'wrong'} attempts alone", "both right and wrong attempts"
    if len(lacking) == len(known):
        model, (got, expected) = next(iter(lacking.items()))
        raise InputError(attempts, f"model {model}", got, expected)
    made = tables.attempts.filter(~pl.col("model").is_in(list(lacking)))
    asked = tables.problems.join(made.select("problem"), on="problem", how="semi").sort("problem")
    heads = made["model"].unique().sort()
    made = made.join(asked.select("problem").with_row_index("row"), on="problem").join(
        pl.DataFrame({"model": heads}).with_row_index("head"), on="model"
    )
    made = made.with_columns(pl.col("output_tokens").clip(lower_bound=1)).sort(
        "row", "head", "output_tokens", "correct"
    )
    return TrainingSet(
        problems=tuple(asked["problem"].to_list()),
        prompts=tuple(asked["prompt"].to_list()),
        groups=tuple(asked["group"].to_list()) if tables.has_groups else None,
        heads=tuple(heads.to_list()),
        row=made["row"].to_numpy().astype(np.int64),
        head=made["head"].to_numpy().astype(np.int64),
        tokens=made["output_tokens"].to_numpy().astype(np.float64),
        correct=made["correct"].to_numpy().astype(np.bool_),
        left_out=tuple(f"{model}: {got}; expected {expected}" for model, (got, expected) in lacking.items()),
    )
