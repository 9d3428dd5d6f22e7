"""Problem sets: the problems that profiles share, and what a predictor says of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.tables import read_table
from ttc_sim.measured.cards import ProblemSetCard, read_card
from ttc_sim.measured.folders import find_folder

FAST = "fast"
"""The predictor that scores are by where nothing else is said."""


@dataclass(frozen=True)
class ProblemSet:
    """Problems: ``problem``, ``subset``, ``group``, ``prompt_tokens`` and, where scored, ``difficulty``, ``p:PROFILE``, ..."""

    name: str
    card: ProblemSetCard
    problems: pl.DataFrame


def load_problem_set(name: str, folder: Path | None = None, predictor: str = FAST) -> ProblemSet:
    """Load a problem set, with its scores by a predictor (``scores.parquet`` of the fast one) where it has any.

    Raises:
        InputError: no such set, a column is missing, or no scores by another predictor than the fast one.
    """
    place = find_folder(name, "problem_set.yaml", folder)
    problems = read_table(place / "problems.parquet")
    for column in ("problem", "subset", "group", "prompt_tokens"):
        if column not in problems.columns:
            raise InputError(place / "problems.parquet", "columns", ", ".join(problems.columns), f"a column {column}")
    scores_file = place / scores_name(predictor)
    if predictor != FAST and not scores_file.is_file():
        raise InputError(scores_file, "predictor", predictor, f"{FAST}, or scores by this predictor in this file")
    if scores_file.is_file():
        scores = read_table(scores_file)
        problems = problems.join(scores, on="problem", how="left", maintain_order="left")
    return ProblemSet(name, read_card(place / "problem_set.yaml", ProblemSetCard), problems)


def scores_name(predictor: str) -> str:
    """Name of the file, in a problem set's folder, of its scores by a predictor."""
    return "scores.parquet" if predictor == FAST else f"scores-{predictor}.parquet"
