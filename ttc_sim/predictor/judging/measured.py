"""Problems with prompts and what models made of them, read from a user's tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.draws import F64
from ttc_sim.measured.problem_tables import read_problem_tables


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
    """Read both tables, see :func:`ttc_sim.measured.problem_tables.read_problem_tables`; labels may be shares.

    Args:
        attempts: may also be a row a problem with a column ``NAME_correct`` for each model, as RouteLLM's pairs have.
        subset: only problems of this dataset.

    Raises:
        InputError: tables that cannot be used.
    """
    tables = read_problem_tables(problems, attempts, with_tokens=False, subset=subset)
    made = tables.problems
    counted = (
        made.select("problem")
        .with_row_index("row")
        .join(tables.attempts, on="problem", how="inner")
        .group_by("row", "model")
        .agg(right=pl.col("correct").sum(), tried=pl.len())
        .sort("model", "row")
    )
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
        group_is_task=tables.group_is_task,
        right=right,
        tried=tried,
    )


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
    from ttc_sim.measured.cards import ProfileCard, read_card
    from ttc_sim.measured.folders import find_folder, list_profiles

    if head not in list_profiles():
        return []
    card = read_card(find_folder(head, "profile.yaml") / "profile.yaml", ProfileCard)
    return [card.model, *card.source_models]


__all__ = ["Measured", "data_models", "heads_like", "read_measured"]
