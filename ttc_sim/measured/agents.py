"""Agent profiles: how a model's runs at whole tasks ended, what they cost, and how many turns they took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import ValidationError

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError, from_validation
from ttc_sim.base.estimates import Z95
from ttc_sim.base.limits import MOST_AMOUNT, MOST_TOKENS
from ttc_sim.files.tables import find_columns, read_table
from ttc_sim.measured.cards import AgentCard, ProfileCard, read_card
from ttc_sim.measured.columns import as_booleans, as_keys, as_numbers, as_text, as_whole
from ttc_sim.measured.folders import find_folder, save_folder
from ttc_sim.measured.profiles import MOST_ATTEMPTS

CARD = "agent.yaml"
RUN_COLUMNS: dict[str, pl.DataType] = {
    "instance": pl.String(),
    "run": pl.Int16(),
    "correct": pl.Boolean(),
    "usd": pl.Float64(),
    "turns": pl.Int64(),
    "output_tokens": pl.Int64(),
    "group": pl.String(),
}
RUN_NAMES: dict[str, tuple[str, ...]] = {
    "instance": ("instance", "instance_id", "task_id", "problem", "problem_id", "id"),
    "run": ("run", "attempt", "trial", "sample"),
    "correct": ("resolved", "correct", "passed", "success", "solved", "is_correct"),
    "usd": ("usd", "cost_usd", "total_cost_usd", "cost", "total_cost", "instance_cost"),
    "turns": ("turns", "api_calls", "instance_calls", "num_turns", "n_calls", "steps"),
    "output_tokens": ("output_tokens", "completion_tokens", "generated_tokens"),
    "group": ("group", "repo", "repository", "category"),
}
"""Usual names of the columns of a table of runs, by what they hold."""


@dataclass(frozen=True)
class AgentProfile:
    """A model's runs: columns as in ``RUN_COLUMNS``, sorted by instance and run.

    ``usd`` is what a run cost where it was measured, ``turns`` its requests, ``output_tokens`` those of all its turns: each empty
    where it was not recorded.
    """

    name: str
    card: AgentCard
    runs: pl.DataFrame


@dataclass(frozen=True)
class AgentSummary:
    """Figures of an agent profile.

    Attributes:
        accuracy: mean over instances of the share of runs that were right, with a 95% interval over instances.
        usd, turns, output_tokens: of a run, the mean over those that have it; ``None`` where none has.
    """

    name: str
    instances: int
    runs: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    usd: float | None
    turns: float | None
    output_tokens: float | None


def build_agent_profile(
    table: pl.DataFrame,
    where: str | Path,
    name: str,
    card: dict[str, object],
    columns: dict[str, str | None] | None = None,
) -> tuple[AgentProfile, list[str]]:
    """Turn a table of runs into a checked agent profile.

    A run that broke off is one that was not right: unlike attempts, none is left out.

    Args:
        table: a row a run of an agent at an instance.
        where: the file that errors name.
        name: of the profile; card: the card's fields.
        columns: columns named by the user, by role; the usual names are looked for otherwise.

    Returns:
        The profile, and lines that say what was taken for what.

    Raises:
        InputError: a missing column or a value that cannot be what its column says.
    """
    named = columns or {}
    found, said = find_columns(table, where, RUN_NAMES, named, {"instance", "correct"})
    instance = as_keys(table, where, str(found["instance"]))
    rows = pl.DataFrame({"instance": instance})
    column = found["run"]
    if column is not None and (table[column].dtype.is_numeric() or named.get("run") is not None):
        rows = rows.with_columns(given=as_numbers(table, where, column, -np.inf, np.inf))
        if len(twice := rows.filter(rows.is_duplicated())):
            value = f"{twice['instance'][0]} run {twice['given'][0]:g}"
            raise InputError(where, f"columns {found['instance']}, {column}", value, "each run of an instance once")
        number = pl.col("given").rank("dense").over("instance") - 1
    else:
        said[:] = [line for line in said if line != f"run: column {column}"]
        number = pl.int_range(pl.len()).over("instance")
        if rows["instance"].is_duplicated().any():
            said.append("runs of an instance are counted in the order of the file")
    made = pl.DataFrame(
        {
            "instance": instance,
            "run": rows.select(number.cast(pl.Int64).alias("run"))["run"],
            "correct": as_booleans(table, where, str(found["correct"])),
            "usd": _amounts(table, where, found["usd"]),
            "turns": _counts(table, where, found["turns"], least=1),
            "output_tokens": _counts(table, where, found["output_tokens"], least=0),
            "group": as_text(table, where, found["group"]) if found["group"] else pl.Series([None] * len(table)),
        }
    )
    said += [f"{one}: not recorded" for one in ("usd", "turns", "output_tokens") if found[one] is None]
    try:
        checked = AgentCard.model_validate(card)
    except ValidationError as error:
        raise from_validation(name, error, "card") from None
    if int(made["run"].max()) >= MOST_ATTEMPTS:  # type: ignore[arg-type]  # whole numbers have a whole maximum
        raise InputError(where, "runs", f"{int(made['run'].max()) + 1:,} at one instance", f"at most {MOST_ATTEMPTS:,}")  # type: ignore[arg-type]
    profile = AgentProfile(name, checked, made.cast(dict(RUN_COLUMNS)).sort("instance", "run"))  # type: ignore[arg-type]
    _check(profile, where)
    return profile, said


def load_agent_profile(name: str | Path, folder: str | Path | None = None) -> AgentProfile:
    """Load an agent profile by name or path.

    Raises:
        InputError: no such profile, a bad card, or a table that does not fit.
    """
    place = find_folder(name, CARD, folder)
    card, where = read_card(place / CARD, AgentCard), place / "runs.parquet"
    table = read_table(where)
    for column in RUN_COLUMNS:
        if column not in table.columns:
            raise InputError(where, "columns", ", ".join(table.columns), f"a column {column}")
    runs = pl.DataFrame(
        {
            "instance": as_keys(table, where, "instance"),
            "run": as_whole(table, where, "run", 0, MOST_ATTEMPTS - 1),
            "correct": as_booleans(table, where, "correct"),
            "usd": _amounts(table, where, "usd"),
            "turns": _counts(table, where, "turns", least=1),
            "output_tokens": _counts(table, where, "output_tokens", least=0),
            "group": as_text(table, where, "group"),
        }
    ).cast(dict(RUN_COLUMNS))  # type: ignore[arg-type]
    profile = AgentProfile(str(name), card, runs.sort("instance", "run"))
    _check(profile, where)
    return profile


def profile_card(name: str | Path, folder: str | Path | None = None) -> ProfileCard | AgentCard:
    """The card of a profile of attempts, or of an agent's runs.

    Raises:
        InputError: neither is there, or a bad card.
    """
    try:
        place = find_folder(name, "profile.yaml", folder)
    except InputError:
        return read_card(find_folder(name, CARD, folder) / CARD, AgentCard)
    return read_card(place / "profile.yaml", ProfileCard)


def save_agent_profile(profile: AgentProfile, folder: str | Path, *, replace: bool = False) -> None:
    """Write an agent profile's folder: its card and its runs.

    Raises:
        InputError: the folder exists and is not to be replaced, is no agent profile's, or cannot be written.
    """
    save_folder(folder, CARD, profile.card, {"runs": profile.runs}, replace=replace)


def summarize_agent_profile(profile: AgentProfile) -> AgentSummary:
    """Count and measure a profile's runs."""
    runs = profile.runs
    each = runs.group_by("instance", maintain_order=True).agg(pl.col("correct").mean())["correct"].to_numpy()
    accuracy = float(each.mean())
    half = Z95 * float(each.std(ddof=1)) / np.sqrt(len(each)) if len(each) > 1 else 1.0
    means = {name: runs[name].mean() for name in ("usd", "turns", "output_tokens")}
    return AgentSummary(
        name=profile.name,
        instances=len(each),
        runs=len(runs),
        accuracy=accuracy,
        accuracy_low=max(0.0, accuracy - half),
        accuracy_high=min(1.0, accuracy + half),
        **{name: None if value is None else float(value) for name, value in means.items()},  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class TurnRatio:
    """How many times the output tokens of a turn one model writes that another does.

    Attributes:
        value: ratio of the means, over instances that both ran; low, high: of a 95% interval over instances, ends 0 and infinity
            where a single one was.
        instances: that both ran with output tokens and turns recorded.
    """

    value: float
    low: float
    high: float
    instances: int


def turn_ratio(profile: AgentProfile, than: AgentProfile) -> TurnRatio:
    """Ratio of output tokens a turn, on the instances that both were run at.

    Each model's tokens and turns are summed over its runs of an instance and averaged over those, so that an instance counts alike
    for both. The interval is of a ratio of sums over instances (the delta method, on its logarithm).

    Raises:
        InputError: none was run by both with output tokens and turns recorded, or one of them wrote nothing.
    """
    one, other = _by_instance(profile), _by_instance(than)
    shared = one.join(other, on="instance", suffix="_than").sort("instance")
    if shared.is_empty():
        expected = f"instances that {than.name} ran too, with output_tokens and turns recorded in both"
        raise InputError(profile.name, "turn_tokens", "no such instance", expected)
    tokens, turns, than_tokens, than_turns = (
        shared[name].to_numpy() for name in ("tokens", "turns", "tokens_than", "turns_than")
    )
    if not tokens.sum() or not than_tokens.sum():
        silent = profile.name if not tokens.sum() else than.name
        raise InputError(silent, "output_tokens", 0, "output tokens, of which there is a ratio")
    value = float(tokens.sum() / turns.sum() / (than_tokens.sum() / than_turns.sum()))
    each: F64 = (
        tokens / tokens.sum() - turns / turns.sum() - than_tokens / than_tokens.sum() + than_turns / than_turns.sum()
    )
    n = len(each)
    if n < 2:
        return TurnRatio(value, 0.0, float("inf"), n)
    half = Z95 * float(np.sqrt(n / (n - 1) * ((each - each.mean()) ** 2).sum()))
    return TurnRatio(value, value * float(np.exp(-half)), value * float(np.exp(half)), n)


def _by_instance(profile: AgentProfile) -> pl.DataFrame:
    known = profile.runs.filter(pl.col("output_tokens").is_not_null() & pl.col("turns").is_not_null())
    return known.group_by("instance").agg(
        pl.col("output_tokens").mean().alias("tokens"), pl.col("turns").mean().alias("turns")
    )


def _amounts(table: pl.DataFrame, where: str | Path, column: str | None) -> pl.Series:
    """US dollars, or empty."""
    if column is None:
        return pl.Series([None] * len(table), dtype=pl.Float64)
    return as_numbers(table, where, column, 0, MOST_AMOUNT, gaps=True)


def _counts(table: pl.DataFrame, where: str | Path, column: str | None, *, least: int) -> pl.Series:
    """Whole numbers, or empty."""
    if column is None:
        return pl.Series([None] * len(table), dtype=pl.Int64)
    numbers = as_numbers(table, where, column, least, MOST_TOKENS, gaps=True)
    broken = (numbers != numbers.floor()).fill_null(value=False).arg_true()
    if len(broken):
        row = broken[0]
        raise InputError(where, f"column {column}, row {row + 1}", numbers[row], "a whole number, or nothing")
    return numbers.cast(pl.Int64)


def _check(profile: AgentProfile, where: str | Path) -> None:
    """Each run of an instance once, and an instance in one group."""
    runs = profile.runs
    twice = runs.filter(runs.select("instance", "run").is_duplicated())
    if len(twice):
        value = f"{twice['instance'][0]} run {twice['run'][0]}"
        raise InputError(where, "instance, run", value, "each run of an instance once")
    several = runs.group_by("instance", maintain_order=True).agg(pl.col("group").n_unique()).filter(pl.col("group") > 1)
    if len(several):
        raise InputError(where, f"group of instance {several['instance'][0]}", "several", "one group an instance")
    if profile.card.cluster == "group" and runs["group"].null_count():
        expected = "a group of every instance, as the card says cluster: group"
        raise InputError(where, "group", f"{runs['group'].null_count()} empty values", expected)


__all__ = [
    "RUN_COLUMNS",
    "RUN_NAMES",
    "AgentProfile",
    "AgentSummary",
    "TurnRatio",
    "build_agent_profile",
    "load_agent_profile",
    "profile_card",
    "save_agent_profile",
    "summarize_agent_profile",
    "turn_ratio",
]
