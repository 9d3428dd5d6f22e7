"""Problem sets: the problems that profiles share, and what a predictor says of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.base.tables import read_table
from ttc_sim.measured.cards import ProblemSetCard, read_card
from ttc_sim.measured.columns import as_keys, as_numbers, as_tokens
from ttc_sim.measured.folders import find_folder
from ttc_sim.policies.requests import DIFFICULTY, NOVELTY

FAST = "fast"
"""The predictor that scores are by where nothing else is said."""


@dataclass(frozen=True)
class ProblemSet:
    """Problems: ``problem``, ``subset``, ``group``, ``prompt_tokens`` and, where scored, ``difficulty``, ``p:PROFILE``, ...

    ``notes``: what a reader of any figure must know of them.
    """

    name: str
    card: ProblemSetCard
    problems: pl.DataFrame
    notes: tuple[str, ...] = ()


def load_problem_set(name: str | Path, folder: str | Path | None = None, predictor: str = FAST) -> ProblemSet:
    """Load a problem set, with its scores by a predictor (``scores.parquet`` of the fast one) where it has any.

    Raises:
        InputError: no such set, a column is missing, a key that stands twice, a number that cannot be, or no scores by another
            predictor than the fast one.
    """
    if not isinstance(predictor, str):
        raise InputError("load_problem_set", "predictor", predictor, f"the name of a predictor, such as {FAST}")
    place = find_folder(name, "problem_set.yaml", folder)
    card = read_card(place / "problem_set.yaml", ProblemSetCard)
    problems = _problems(place / "problems.parquet")
    scores_file = place / scores_name(predictor)
    if predictor != FAST and not scores_file.is_file():
        raise InputError(scores_file, "predictor", predictor, f"{FAST}, or scores by this predictor in this file")
    if not scores_file.is_file():
        return ProblemSet(str(name), card, problems)
    scores = _scores(scores_file)
    for column in scores.columns[1:]:
        if column in problems.columns:
            raise InputError(scores_file, "columns", column, f"no column of {place / 'problems.parquet'}")
    unknown = scores.filter(~pl.col("problem").is_in(problems["problem"].implode()))
    if len(unknown) == len(scores):
        raise InputError(scores_file, "column problem", scores["problem"][0], f"keys of {place / 'problems.parquet'}")
    notes: tuple[str, ...] = ()
    if len(unknown):
        first = unknown["problem"][0]
        notes = (f"{name}: {len(unknown):,} of {len(scores):,} scores are of problems not in the set, {first} first",)
    return ProblemSet(str(name), card, problems.join(scores, on="problem", how="left", maintain_order="left"), notes)


def _problems(file: Path) -> pl.DataFrame:
    table = read_table(file)
    for column in ("problem", "subset", "group", "prompt_tokens"):
        if column not in table.columns:
            raise InputError(file, "columns", ", ".join(table.columns), f"a column {column}")
    names = [as_keys(table, file, column) for column in ("problem", "subset", "group")]
    _each_once(names[0], file)
    tokens = as_tokens(table, file, "prompt_tokens", least=1)
    return _checked(table.with_columns(*names, tokens.cast(pl.Int32)), file)


def _scores(file: Path) -> pl.DataFrame:
    table = read_table(file)
    if "problem" not in table.columns:
        raise InputError(file, "columns", ", ".join(table.columns), "a column problem")
    keys = as_keys(table, file, "problem")
    _each_once(keys, file)
    return _checked(table.select(keys, pl.exclude("problem")), file)


def _each_once(keys: pl.Series, file: Path) -> None:
    twice = keys.filter(keys.is_duplicated())
    if len(twice):
        raise InputError(file, "column problem", twice[0], "each problem once")


def _checked(table: pl.DataFrame, file: Path) -> pl.DataFrame:
    """The table, if what is predicted in it can be; a problem may have no prediction."""
    for column in table.columns:
        if column in (DIFFICULTY, NOVELTY) or column.startswith("p:"):
            as_numbers(table, file, column, 0, 1, gaps=True)
        elif column.startswith(("tokens:", "tokens_p50:", "tokens_p90:")):
            as_numbers(table, file, column, 0, MOST_TOKENS, above=True, gaps=True)
    return table


def scores_name(predictor: str) -> str:
    """Name of the file, in a problem set's folder, of its scores by a predictor."""
    return "scores.parquet" if predictor == FAST else f"scores-{predictor}.parquet"
