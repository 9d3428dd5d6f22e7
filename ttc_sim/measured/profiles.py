"""Profiles: measured behaviour of models, one row per attempt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.files.tables import read_table
from ttc_sim.files.whole_folders import folder_written_whole
from ttc_sim.measured.cards import ProfileCard, read_card
from ttc_sim.measured.columns import as_booleans, as_keys, as_numbers, as_text, as_tokens, as_whole
from ttc_sim.measured.folders import (
    check_folder_to_save,
    check_not_within,
    find_folder,
    save_folder,
    write_in_folder,
)

ATTEMPT_COLUMNS: dict[str, pl.DataType] = {
    "problem": pl.String(),
    "attempt": pl.Int16(),
    "prompt_tokens": pl.Int32(),
    "reasoning_tokens": pl.Int32(),
    "visible_tokens": pl.Int32(),
    "correct": pl.Boolean(),
    "truncated": pl.Boolean(),
    "answer": pl.String(),
}

SCORE = "verifier_score"
MOST_ATTEMPTS = 32_768
"""At one problem."""


@dataclass(frozen=True)
class Profile:
    """A model's attempts: columns as in ``ATTEMPT_COLUMNS`` (and ``verifier_score``, if any), sorted by problem and attempt.

    ``forced``: of some attempts, ``thinking_tokens`` and the ``needed_percent`` of them from which on a forced answer equals the
    final one (``forced.csv`` in the profile's folder); ``None`` if that was not measured.

    ``probes``: instead of that, in the same file, answers that attempts were made to give on their way: ``problem`` and
    ``attempt``, after how many ``thinking_tokens``, and whether each was ``correct``.
    """

    name: str
    card: ProfileCard
    attempts: pl.DataFrame
    forced: pl.DataFrame | None = None
    probes: pl.DataFrame | None = None


def load_profile(name: str | Path, folder: str | Path | None = None) -> Profile:
    """Load a model profile by name or path.

    Raises:
        InputError: no such profile, a bad card, or a table that does not fit.

    >>> load_profile("reasoning-gym/llama-4-maverick").card.licence
    'Apache-2.0'
    """
    place = find_folder(name, "profile.yaml", folder)
    card = read_card(place / "profile.yaml", ProfileCard)
    attempts = read_table(place / "attempts.parquet")
    made, beside = _conform(attempts, place / "attempts.parquet"), place / "forced.csv"
    table = read_table(beside) if beside.is_file() else None
    probed = table is not None and "correct" in table.columns
    profile = Profile(
        str(name),
        card,
        made,
        forced=None if table is None or probed else _forced(table, beside),
        probes=None if table is None or not probed else _probes(table, beside, made, thinks=card.reasoning != "none"),
    )
    check_profile(profile, place / "attempts.parquet")
    return profile


def _probes(table: pl.DataFrame, path: Path, attempts: pl.DataFrame, *, thinks: bool) -> pl.DataFrame:
    """Answers forced on the way, each of an attempt that was made."""
    for column in ("problem", "attempt", "thinking_tokens", "correct"):
        if column not in table.columns:
            expected = f"a column {column} beside correct, which says of answers on the way whether they were right"
            raise InputError(path, "columns", ", ".join(table.columns), expected)
    found = pl.DataFrame(
        {
            "problem": as_keys(table, path, "problem"),
            "attempt": as_whole(table, path, "attempt", 0, MOST_ATTEMPTS - 1),
            "thinking_tokens": as_tokens(table, path, "thinking_tokens"),
            "correct": as_booleans(table, path, "correct"),
        }
    ).cast({"problem": pl.String(), "attempt": pl.Int16()})
    spent = pl.col("reasoning_tokens") if thinks else pl.col("reasoning_tokens") + pl.col("visible_tokens")
    made = attempts.select("problem", "attempt", spent.alias("spent"))
    beside = found.with_row_index("row", offset=1).join(made, on=["problem", "attempt"], how="left").sort("row")
    wrong = beside.filter(pl.col("spent").is_null() | (pl.col("thinking_tokens") > pl.col("spent")))
    if len(wrong):
        row, problem, attempt, tokens, spent_tokens = wrong.select(
            "row", "problem", "attempt", "thinking_tokens", "spent"
        ).row(0)
        if spent_tokens is None:
            raise InputError(path, f"row {row}", f"{problem} attempt {attempt}", "an attempt of the profile's")
        expected = f"at most the {spent_tokens:,} tokens that this attempt thought"
        raise InputError(path, f"thinking_tokens, row {row}", tokens, expected)
    twice = found.filter(found.select("problem", "attempt", "thinking_tokens").is_duplicated())
    if len(twice):
        value = f"{twice['problem'][0]} attempt {twice['attempt'][0]} after {twice['thinking_tokens'][0]:,} tokens"
        raise InputError(path, "thinking_tokens", value, "each place of an attempt once")
    return found.sort("problem", "attempt", "thinking_tokens")


def _forced(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    for column, least, most in (("thinking_tokens", 1, 1e9), ("needed_percent", 0, 101)):
        if column not in table.columns or not table[column].dtype.is_numeric():
            raise InputError(path, "columns", ", ".join(table.columns), f"a column {column} of numbers")
        wrong = table.filter(~pl.col(column).cast(pl.Float64).is_between(least, most).fill_null(value=False))
        if len(wrong):
            raise InputError(path, column, wrong[column][0], f"numbers from {least} to {most:g}")
    if len(table) < 20:
        raise InputError(path, "rows", len(table), "at least 20 to fit to")
    return table.select("thinking_tokens", "needed_percent")


def _conform(attempts: pl.DataFrame, where: Path) -> pl.DataFrame:
    for column in ATTEMPT_COLUMNS:
        if column not in attempts.columns:
            raise InputError(where, "columns", ", ".join(attempts.columns), f"a column {column}")
    table = pl.DataFrame(
        {
            "problem": as_keys(attempts, where, "problem"),
            "attempt": as_whole(attempts, where, "attempt", 0, MOST_ATTEMPTS - 1),
            "prompt_tokens": as_tokens(attempts, where, "prompt_tokens", least=1),
            "reasoning_tokens": as_tokens(attempts, where, "reasoning_tokens"),
            "visible_tokens": as_tokens(attempts, where, "visible_tokens"),
            "correct": as_booleans(attempts, where, "correct"),
            "truncated": as_booleans(attempts, where, "truncated"),
            "answer": as_text(attempts, where, "answer"),
        }
    ).cast(dict(ATTEMPT_COLUMNS))  # type: ignore[arg-type]
    if SCORE in attempts.columns:
        table = table.with_columns(as_numbers(attempts, where, SCORE, -math.inf, math.inf).alias(SCORE))
    return table.sort("problem", "attempt")


def check_profile(profile: Profile, where: str | Path) -> None:
    """Refuse attempts that cannot be what they say.

    Raises:
        InputError: the first thing wrong: the file, the column, the value (with its problem), and what was expected.
    """
    table = profile.attempts
    if table.is_empty():
        raise InputError(where, "attempts", "0 rows", "at least one attempt")
    for column in ("problem", "attempt", "prompt_tokens", "reasoning_tokens", "visible_tokens", "correct", "truncated"):
        if missing := table[column].null_count():
            raise InputError(where, column, f"{missing} empty values", "a value in every row")
    for column, least in (("prompt_tokens", 1), ("reasoning_tokens", 0), ("visible_tokens", 0)):
        bad = table.filter(pl.col(column) < least)
        if len(bad):
            raise InputError(where, f"{column} of problem {bad['problem'][0]}", bad[column][0], f"at least {least}")
    bad = table.filter(pl.col("reasoning_tokens") + pl.col("visible_tokens") < 1)
    if len(bad):
        raise InputError(where, f"output tokens of problem {bad['problem'][0]}", 0, "at least 1")
    twice = table.filter(table.select("problem", "attempt").is_duplicated())
    if len(twice):
        value = f"{twice['problem'][0]} attempt {twice['attempt'][0]}"
        raise InputError(where, "problem, attempt", value, "each attempt of a problem once")
    if profile.card.reasoning == "none" and table["reasoning_tokens"].max() != 0:
        raise InputError(
            where, "reasoning_tokens", table["reasoning_tokens"].max(), "0, as the card says reasoning: none"
        )


def save_profile(profile: Profile, folder: str | Path, *, replace: bool = False) -> None:
    """Write a profile folder: its card and its attempts. What else stands there stays, a ``forced.csv`` too.

    Raises:
        InputError: the folder exists and is not to be replaced, is no profile's, or cannot be written.
    """
    tables = {"attempts": profile.attempts}
    save_folder(folder, "profile.yaml", profile.card, tables, replace=replace)


def save_profiles(profiles: Mapping[str, Profile], folder: str | Path, *, replace: bool = False) -> None:
    """Write several profiles, by the names of their folders in ``folder``: all of them or none.

    What else stands in ``folder``, or in the profiles' own, stays.

    Raises:
        InputError: as :func:`check_profile_folders`, or they cannot be written.
    """
    check_profile_folders(folder, list(profiles), replace=replace)
    own = [f"{name}/{file}" for name in profiles for file in ("profile.yaml", "attempts.parquet")]
    with folder_written_whole(Path(folder), own) as beside:
        for name, profile in profiles.items():
            write_in_folder(beside / name, "profile.yaml", profile.card, {"attempts": profile.attempts})


def check_profile_folders(
    folder: str | Path, names: Sequence[str], *, replace: bool = False, reads: str | Path | None = None
) -> None:
    """Refuse, before anything is written, folders that :func:`save_profiles` could not write.

    Raises:
        InputError: one of them as for :func:`check_profile_folder`, a link, or you are in the folder, which is replaced.
    """
    for name in names:
        if (Path(folder) / name).is_symlink():
            raise InputError(Path(folder) / name, "folder", "a link", "a folder, or none yet")
        check_profile_folder(Path(folder) / name, replace=replace, reads=reads)
    check_not_within(Path(folder))


def check_profile_folder(folder: str | Path, *, replace: bool = False, reads: str | Path | None = None) -> None:
    """Refuse, before any work, a folder that :func:`save_profile` could not write; ``reads`` is the table it comes from.

    Raises:
        InputError: as :func:`save_profile`, or the table is what would be replaced.
    """
    check_folder_to_save(Path(folder), "profile.yaml", replace=replace)
    own = Path(folder) / "attempts.parquet"
    if reads is not None and own.exists() and Path(reads).exists() and own.samefile(reads):
        raise InputError(reads, "file", str(reads), "another table than the one that is replaced")
