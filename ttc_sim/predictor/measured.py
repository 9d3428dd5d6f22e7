"""Problems with prompts and what models made of them, read from a user's tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.draws import F64
from ttc_sim.errors import InputError, nearest
from ttc_sim.predictor.stream import PROMPT
from ttc_sim.profile_build import USUAL_NAMES
from ttc_sim.tables import find_column, read_table

PROBLEM = ("problem", "problem_id", "question_id", "id", "task_id")
SUBSET = ("subset", "dataset")
TASK = ("group", "task")
CATEGORY = ("category", "subject")
MODEL = ("model", "profile")
CORRECT = USUAL_NAMES["correct"]
_WIDE = "_correct"


@dataclass(frozen=True)
class Measured:
    """``n`` problems and the attempts of models on them.

    Attributes:
        problem: keys, ``<dataset>/<id>`` where there are datasets; prompt: their texts.
        subset, group: (n,) dataset, and task type or category; empty where the table has none.
        group_is_task: whether groups are task types, themselves a sample of those that will come, so that intervals
            resample them; categories and subjects are taken as given and problems are resampled.
        right: by model, (n,) attempts that were right; tried: (n,) attempts made.
    """

    problem: tuple[str, ...]
    prompt: tuple[str, ...]
    subset: NDArray[np.str_]
    group: NDArray[np.str_]
    group_is_task: bool
    right: dict[str, F64]
    tried: dict[str, F64]

    def __len__(self) -> int:
        return len(self.problem)

    def share(self, model: str) -> F64:
        """(n,) share of the model's attempts that were right; NaN where it made none."""
        with np.errstate(invalid="ignore"):
            return np.where(self.tried[model] > 0, self.right[model] / self.tried[model], np.nan)

    def kept(self, keep: NDArray[np.bool_]) -> Measured:
        """Some of the problems only."""
        rows = np.flatnonzero(keep)
        return Measured(
            problem=tuple(self.problem[k] for k in rows),
            prompt=tuple(self.prompt[k] for k in rows),
            subset=self.subset[rows],
            group=self.group[rows],
            group_is_task=self.group_is_task,
            right={model: values[rows] for model, values in self.right.items()},
            tried={model: values[rows] for model, values in self.tried.items()},
        )

    def with_pooled(self, name: str, models: Sequence[str]) -> Measured:
        """With the attempts of several models put together under one more name."""
        right = np.sum([self.right[model] for model in models], axis=0)
        tried = np.sum([self.tried[model] for model in models], axis=0)
        return replace(self, right={**self.right, name: right}, tried={**self.tried, name: tried})


def read_measured(problems: str | Path, attempts: str | Path, *, subset: str | None = None) -> Measured:
    """Read both tables (Parquet, CSV or JSONL).

    Args:
        problems: a row a problem, with a key and a prompt; ``dataset`` or ``subset``, and ``task``, ``group``, ``category`` or
            ``subject`` are used where they are there.
        attempts: a row an attempt, with the key, ``model`` and ``correct`` (0 or 1, or a share); or a row a problem with a column
            ``NAME_correct`` for each model, as RouteLLM's pairs have. It may be the same file as ``problems``.
        subset: only problems of this dataset.

    Raises:
        InputError: a missing column, a label outside 0 to 1, one key with two prompts, no attempt on any problem.
    """
    table = read_table(problems)
    key = _named(table, problems, "problem", PROBLEM)
    prompt = _named(table, problems, "prompt", PROMPT)
    if table[prompt].dtype != pl.String:
        raise InputError(problems, f"column {prompt}", str(table[prompt].dtype), "text")
    dataset = find_column(table, problems, "subset", SUBSET, required=False)
    task = find_column(table, problems, "task", TASK, required=False)
    group = task or find_column(table, problems, "category", CATEGORY, required=False)
    tries = read_table(attempts)
    tries_dataset = find_column(tries, attempts, "subset", SUBSET, required=False) if dataset else None
    made = table.select(
        problem=_key(key, dataset if tries_dataset else None),
        prompt=pl.col(prompt).fill_null(""),
        subset=pl.col(dataset).cast(pl.String).fill_null("") if dataset else pl.lit(""),
        group=pl.col(group).cast(pl.String).fill_null("") if group else pl.lit(""),
    )
    if subset is not None:
        known = made["subset"].unique().to_list()
        if subset not in known:
            raise InputError(problems, "subset", subset, nearest(subset, known))
        made = made.filter(pl.col("subset") == subset)
    if made["problem"].null_count():
        raise InputError(problems, f"column {key}", "an empty value", "a key in every row")
    made = made.unique(["problem", "prompt"], keep="first", maintain_order=True)
    twice = made.filter(pl.col("problem").is_duplicated())
    if len(twice):
        raise InputError(problems, f"column {key}", twice["problem"][0], "one prompt for each problem")
    outcomes = _outcomes(tries, attempts, tries_dataset)
    counted = (
        made.select("problem")
        .with_row_index("row")
        .join(outcomes, on="problem", how="inner")
        .group_by("row", "model")
        .agg(right=pl.col("correct").sum(), tried=pl.len())
        .sort("model", "row")
    )
    if counted.is_empty():
        few = ", ".join(outcomes["problem"].head(3).to_list())
        raise InputError(attempts, "problem", few, f"problems that stand in {problems}")
    right: dict[str, F64] = {}
    tried: dict[str, F64] = {}
    for (model,), rows in counted.partition_by("model", as_dict=True, maintain_order=True).items():
        at = rows["row"].to_numpy()
        right[str(model)], tried[str(model)] = np.zeros(len(made)), np.zeros(len(made))
        right[str(model)][at] = rows["right"].to_numpy()
        tried[str(model)][at] = rows["tried"].to_numpy()
    return Measured(
        problem=tuple(made["problem"].to_list()),
        prompt=tuple(made["prompt"].to_list()),
        subset=made["subset"].to_numpy().astype(np.str_),
        group=made["group"].to_numpy().astype(np.str_),
        group_is_task=task is not None,
        right=right,
        tried=tried,
    )


def labels(table: pl.DataFrame, column: str, where: str | Path) -> pl.Series:
    """Outcomes as numbers from 0 to 1; empty ones stay empty.

    Raises:
        InputError: text, or a number outside 0 to 1.
    """
    values = table[column]
    if values.dtype == pl.Boolean:
        return values.cast(pl.Float64)
    if not values.dtype.is_numeric():
        if values.dtype == pl.Null:
            return values.cast(pl.Float64)
        raise InputError(where, f"column {column}", _first(values), "0 or 1, true or false, or a share between them")
    numbers = values.cast(pl.Float64)
    wrong = values.filter(~numbers.is_between(0, 1).fill_null(value=True) | numbers.is_nan().fill_null(value=False))
    if len(wrong):
        raise InputError(where, f"column {column}", wrong[0], "0 or 1, true or false, or a share between them")
    return numbers


def _outcomes(tries: pl.DataFrame, where: str | Path, dataset: str | None) -> pl.DataFrame:
    """One row an attempt: ``problem``, ``model``, ``correct`` from 0 to 1."""
    key = _named(tries, where, "problem", PROBLEM)
    model = find_column(tries, where, "model", MODEL, required=False)
    wide = [column for column in tries.columns if column.endswith(_WIDE) and column not in CORRECT]
    if model is None and wide:
        parts = [
            tries.select(
                problem=_key(key, dataset),
                model=pl.lit(column.removesuffix(_WIDE)),
                correct=labels(tries, column, where),
            )
            for column in wide
        ]
        found = pl.concat(parts)
    else:
        model = _named(tries, where, "model", MODEL)
        correct = _named(tries, where, "correct", CORRECT)
        found = tries.select(
            problem=_key(key, dataset), model=pl.col(model).cast(pl.String), correct=labels(tries, correct, where)
        )
    empty = found["correct"].null_count()
    if empty:
        raise InputError(where, "column for correct", f"{empty:,} empty values", "0 or 1 in every row")
    if found["model"].null_count():
        raise InputError(where, "column for model", "an empty value", "a model in every row")
    return found


def _named(table: pl.DataFrame, where: str | Path, role: str, usual: Sequence[str]) -> str:
    name = find_column(table, where, role, usual)
    assert name is not None
    return name


def _first(values: pl.Series) -> object:
    kept = values.drop_nulls()
    return kept[0] if len(kept) else None


def _key(key: str, dataset: str | None) -> pl.Expr:
    plain = pl.col(key).cast(pl.String)
    return plain if dataset is None else pl.col(dataset).cast(pl.String) + "/" + plain


# ---------------------------------------------------------------------------- names of models


def heads_like(name: str, heads: Iterable[str]) -> list[str]:
    """Heads of a predictor that a model's name may stand for: itself, ``SET/NAME``, or a profile that names it as its model or
    as one of its sources."""
    heads = list(heads)
    if name in heads:
        return [name]
    found = [head for head in heads if head.split("/")[-1] == name]
    return found or [head for head in heads if name in _names_of(head)]


def data_models(name: str, known: Iterable[str]) -> list[str]:
    """Models of the data that a name given by the user stands for; several where a profile pools them; none if unknown."""
    known = list(known)
    if name in known:
        return [name]
    names = [name.split("/")[-1], *_names_of(name)]
    return [model for model in known if model in names or name == model.split("/")[-1]]


def _names_of(head: str) -> list[str]:
    from ttc_sim.profiles import list_profiles, load_profile

    if head not in list_profiles():
        return []
    card = load_profile(head).card
    return [card.model, *card.source_models]


__all__ = ["Measured", "data_models", "heads_like", "labels", "read_measured"]
