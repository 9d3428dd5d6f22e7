"""Problem sets: the problems that profiles share, and what a predictor says of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.base.shipped import is_shipped
from ttc_sim.files.tables import read_table
from ttc_sim.measured.cards import ProblemSetCard, read_card
from ttc_sim.measured.columns import as_keys, as_numbers, as_tokens
from ttc_sim.measured.folders import find_folder
from ttc_sim.measured.provenance import FAST, ScoredBy, check_scores, identify, is_predictor, scores_name
from ttc_sim.policies.requests import DIFFICULTY, NOVELTY

_LENGTHS = ("tokens:", "tokens_p50:", "tokens_p90:")


@dataclass(frozen=True)
class ProblemSet:
    """Problems: ``problem``, ``subset``, ``group``, ``prompt_tokens`` and, where scored, ``difficulty``, ``p:PROFILE``, ...

    ``notes``: what a reader of any figure must know of them; ``scored_by``: the predictor, where they are scored.
    """

    name: str
    card: ProblemSetCard
    problems: pl.DataFrame
    notes: tuple[str, ...] = ()
    scored_by: ScoredBy | None = None


def load_problem_set(
    name: str | Path, folder: str | Path | None = None, predictor: str | Path | None = FAST
) -> ProblemSet:
    """Load a problem set, with its scores by a predictor where it has any.

    Args:
        predictor: a shipped one's name, or an ONNX file; its scores stand in ``scores.parquet`` (of the fast one) or
            ``scores-NAME.parquet``, and must be by this very file. ``None`` leaves scores out.

    Raises:
        InputError: no such set, a column is missing, a key that stands twice, a number that cannot be, no scores by another
            predictor than the fast one, or scores by one that is not asked for.
    """
    if predictor is not None and not (isinstance(predictor, (str, Path)) and is_predictor(str(predictor))):
        expected = f"a shipped predictor, such as {FAST}, or an ONNX file"
        raise InputError("load_problem_set", "predictor", predictor, expected)
    place = find_folder(name, "problem_set.yaml", folder)
    card = read_card(place / "problem_set.yaml", ProblemSetCard)
    problems = _problems(place / "problems.parquet")
    if predictor is None:
        return ProblemSet(str(name), card, problems)
    scores_file = place / scores_name(predictor)
    if predictor != FAST:
        identify(predictor)
        if not scores_file.is_file():
            expected = (
                f"{FAST}, or this file: `ttc-sim predictor score PROMPTS --model {predictor} --out {scores_file}`"
            )
            raise InputError(scores_file, "predictor", str(predictor), expected)
    if not scores_file.is_file():
        return ProblemSet(str(name), card, problems)
    scored_by, notes = check_scores(scores_file, predictor, shipped=is_shipped(place, "profiles"))
    scores = _scores(scores_file)
    both = [column for column in scores.columns[1:] if column in problems.columns]
    for column in both:
        if _is_score(column):
            raise InputError(scores_file, "columns", column, f"no column of {place / 'problems.parquet'}")
    scores = scores.drop(both)  # those of the table that was scored
    unknown = scores.filter(~pl.col("problem").is_in(problems["problem"].implode()))
    if len(unknown) == len(scores):
        raise InputError(scores_file, "column problem", scores["problem"][0], f"keys of {place / 'problems.parquet'}")
    if len(unknown):
        first = unknown["problem"][0]
        stray = f"{name}: {len(unknown):,} of {len(scores):,} scores are of problems not in the set, {first} first"
        notes = (*notes, stray)
    joined = problems.join(scores, on="problem", how="left", maintain_order="left")
    return ProblemSet(str(name), card, joined, notes, scored_by)


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
        elif column.startswith(_LENGTHS):
            as_numbers(table, file, column, 0, MOST_TOKENS, above=True, gaps=True)
    return table


def _is_score(column: str) -> bool:
    return column in (DIFFICULTY, NOVELTY) or column.startswith(("p:", *_LENGTHS))
