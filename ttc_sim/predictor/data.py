"""What a predictor learns from: prompts, and models' attempts at them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.draws import F64, I64
from ttc_sim.errors import InputError
from ttc_sim.predictor.measured import MODEL, SUBSET
from ttc_sim.predictor.stream import PROMPT
from ttc_sim.profile_build import USUAL_NAMES, as_booleans, as_tokens
from ttc_sim.tables import find_column, read_table

PROBLEM = USUAL_NAMES["problem"]
GROUP = ("group", "task", "category", "subject")
LEAST_PROBLEMS = 100


@dataclass(frozen=True)
class TrainingSet:
    """``n`` problems and the attempts of ``H`` models at them.

    Attributes:
        problems: (n,) keys; prompts: (n,) their texts; groups: (n,) task types, ``None`` if not known.
        heads: names of the models.
        row, head, tokens, correct: (attempts,) problem, model, output tokens (reasoning included, at least 1) and whether
            right, of each attempt.
    """

    problems: tuple[str, ...]
    prompts: tuple[str, ...]
    groups: tuple[str, ...] | None
    heads: tuple[str, ...]
    row: I64
    head: I64
    tokens: F64
    correct: NDArray[np.bool_]

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

    Problems without attempts are left out. Where both tables have a column ``dataset`` or ``subset``, keys are unique within
    one only.

    Raises:
        InputError: a missing column, labels that are not 0 or 1, token counts that are not whole numbers, a key twice, or
            fewer than 100 problems with attempts of a model, all alike.
    """
    table, tries = read_table(problems), read_table(attempts)
    key, prompt = (
        str(find_column(table, problems, role, names)) for role, names in (("problem", PROBLEM), ("prompt", PROMPT))
    )
    group = find_column(table, problems, "group", GROUP, required=False)
    if table[prompt].dtype != pl.String:
        raise InputError(problems, f"column {prompt}", str(table[prompt].dtype), "text")
    try_key, model, correct = (
        str(find_column(tries, attempts, role, names))
        for role, names in (("problem", PROBLEM), ("model", MODEL), ("correct", USUAL_NAMES["correct"]))
    )
    within = find_column(table, problems, "subset", SUBSET, required=False)
    also = find_column(tries, attempts, "subset", SUBSET, required=False)
    both = within is not None and also is not None
    asked = pl.DataFrame(
        {
            "problem": _key(table, problems, key, within if both else None),
            "prompt": table[prompt].fill_null(""),
            "group": table[group].cast(pl.String).fill_null("") if group else [""] * len(table),
        }
    )
    if asked["problem"].n_unique() < len(asked):
        raise InputError(
            problems, f"column {key}", asked.filter(asked["problem"].is_duplicated())["problem"][0], "each once"
        )
    made = pl.DataFrame(
        {
            "problem": _key(tries, attempts, try_key, also if both else None),
            "model": tries[model].cast(pl.String),
            "correct": as_booleans(tries, attempts, correct),
            "tokens": _output(tries, attempts),
        }
    )
    if made["model"].null_count():
        raise InputError(attempts, f"column {model}", "empty", "a model in every row")
    made = made.join(asked.select("problem"), on="problem", how="semi")
    if made.is_empty():
        raise InputError(attempts, f"column {try_key}", tries[try_key][0], f"keys of the problems in {problems}")
    asked = asked.join(made.select("problem"), on="problem", how="semi").sort("problem")
    heads = made["model"].unique().sort()
    made = made.join(asked.select("problem").with_row_index("row"), on="problem").join(
        pl.DataFrame({"model": heads}).with_row_index("head"), on="model"
    )
    made = made.sort("row", "head", "tokens", "correct")
    for name, part in made.group_by("model"):
        count = part["problem"].n_unique()
        if count < LEAST_PROBLEMS:
            raise InputError(
                attempts, f"model {name[0]}", f"{count} problems", f"at least {LEAST_PROBLEMS} with attempts"
            )
        if part["correct"].n_unique() < 2:
            raise InputError(
                attempts, f"model {name[0]}", f"{part['correct'][0]} alone", "both right and wrong attempts"
            )
    return TrainingSet(
        problems=tuple(asked["problem"].to_list()),
        prompts=tuple(asked["prompt"].to_list()),
        groups=tuple(asked["group"].to_list()) if group else None,
        heads=tuple(heads.to_list()),
        row=made["row"].to_numpy().astype(np.int64),
        head=made["head"].to_numpy().astype(np.int64),
        tokens=made["tokens"].to_numpy().astype(np.float64),
        correct=made["correct"].to_numpy().astype(np.bool_),
    )


def _key(table: pl.DataFrame, where: str | Path, column: str, within: str | None) -> pl.Series:
    """Keys as in the shipped problem sets: ``<dataset>/<problem_id>`` where there are datasets."""
    key = table[column].cast(pl.String)
    if within is not None:
        key = table[within].cast(pl.String) + "/" + key
    if key.null_count():
        raise InputError(where, f"column {column}", "empty", "a key in every row")
    return key


def _output(table: pl.DataFrame, where: str | Path) -> pl.Series:
    """Output tokens with reasoning, at least 1."""
    visible = find_column(table, where, "visible_tokens", USUAL_NAMES["visible_tokens"], required=False)
    reasoning = find_column(table, where, "reasoning_tokens", USUAL_NAMES["reasoning_tokens"], required=False)
    output = find_column(table, where, "output_tokens", USUAL_NAMES["output_tokens"], required=visible is None)
    if output is not None:
        total = as_tokens(table, where, output)
    else:
        total = as_tokens(table, where, str(visible))
        if reasoning is not None:
            total = total + as_tokens(table, where, reasoning)
    return total.clip(lower_bound=1)
