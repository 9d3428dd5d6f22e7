"""Profiles: measured behaviour of models, the problems they share, and measured traffic."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ttc_sim.base.arguments import location
from ttc_sim.base.draws import I64, uniforms
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.shipped import is_shipped, shipped_folders
from ttc_sim.base.tables import read_table
from ttc_sim.measured.provenance import FAST, ScoredBy, check_scores, identify, is_predictor, scores_name

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


class Card(BaseModel):
    """What every card names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: str
    licence: str
    date: str
    tokenizer: str
    limits: str


class ProfileCard(Card):
    """Card of a model profile.

    Args:
        model: the model; ``source_models``: names under which its attempts stand in the source.
        effort: effort setting, where the model has one.
        problem_set: problems that the attempts are on.
        output_limit_tokens: limit at which attempts were stopped, if known.
        reasoning: whether hidden reasoning tokens were ``recorded``, there are ``none``, or they were ``filled`` from the
            other measured source that ``reasoning_source`` names.
        limits: what the numbers do not cover.
    """

    kind: Literal["model"] = "model"
    model: str
    source_models: list[str] = []
    effort: str | None = None
    problem_set: str | None = None
    output_limit_tokens: int | None = None
    reasoning: Literal["recorded", "none", "filled"]
    reasoning_source: str | None = None

    @model_validator(mode="after")
    def _source_named(self) -> ProfileCard:
        if self.reasoning == "filled" and not self.reasoning_source:
            raise ValueError("reasoning_source must name the source when reasoning is 'filled'")
        return self


class ProblemSetCard(Card):
    """Card of a problem set. ``cluster`` is what to resample for intervals: the task type (``group``) where the types are
    themselves a sample of those that will come, else the ``problem``."""

    kind: Literal["problems"] = "problems"
    cluster: Literal["group", "problem"]


class TrafficCard(Card):
    """Card of measured traffic."""

    kind: Literal["traffic"] = "traffic"


@dataclass(frozen=True)
class Profile:
    """A model's attempts: columns as in ``ATTEMPT_COLUMNS`` (and ``verifier_score``, if any), sorted by problem and attempt.

    ``forced``: of some attempts, ``thinking_tokens`` and the ``needed_percent`` of them from which on a forced answer equals the
    final one (``forced.csv`` in the profile's folder); ``None`` if that was not measured.
    """

    name: str
    card: ProfileCard
    attempts: pl.DataFrame
    forced: pl.DataFrame | None = None


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


@dataclass(frozen=True)
class TrafficProfile:
    """Clients' arrivals per window (``client``, ``t_start_s``, ``rate_per_s``, ``iat_cv``, ``iat_family``, ``iat_shape``,
    ``iat_scale``) and lengths (``client``, ``window_start_s``, ``field``, ``value``, ``probability``)."""

    name: str
    card: TrafficCard
    arrivals: pl.DataFrame
    lengths: pl.DataFrame


CARD_FILES = {"profile.yaml": ProfileCard, "problem_set.yaml": ProblemSetCard, "traffic.yaml": TrafficCard}
AnyCard = TypeVar("AnyCard", bound=Card)


def search_folders(folder: str | Path | None = None) -> list[Path]:
    """Where profiles are looked for by name, nearest first."""
    places = []
    if folder is not None:
        at = location("profiles", "folder", folder, "a folder to look for profiles in")
        places = [at / "profiles", at]
    if os.environ.get("TTC_SIM_PROFILES"):
        places.append(Path(os.environ["TTC_SIM_PROFILES"]))
    return [place for place in [*places, Path("profiles"), *shipped_folders("profiles")] if place.is_dir()]


def list_profiles(folder: str | Path | None = None, *, card_file: str = "profile.yaml") -> list[str]:
    """Names of all profiles found; of problem sets or traffic with their ``card_file``."""
    names = {
        card.parent.relative_to(place).as_posix() for place in search_folders(folder) for card in place.rglob(card_file)
    }
    return sorted(names)


def find_folder(name: str | Path, card_file: str, folder: str | Path | None = None) -> Path:
    """The folder of that name or path that holds such a card.

    Raises:
        InputError: there is none; names the nearest.
    """
    kind = {"profile.yaml": "profile", "problem_set.yaml": "problem set", "traffic.yaml": "traffic profile"}[card_file]
    location(kind, "name", name, f"the name of a {kind}, or its folder")
    for place in [Path(name), *(place / name for place in search_folders(folder))]:
        if (place / card_file).is_file():
            return place
    expected = nearest(str(name), list_profiles(folder, card_file=card_file))
    raise InputError(name, kind, str(name), f"a folder with {card_file}, or {expected}")


def _card(path: Path, kind: type[AnyCard]) -> AnyCard:
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return kind.model_validate(raw)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(path, "file", str(error).splitlines()[0], "valid YAML in UTF-8") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "card"
        value = "nothing" if first["type"] == "missing" else first["input"]
        raise InputError(path, field, value, first["msg"].removeprefix("Value error, ")) from None


def load_profile(name: str | Path, folder: str | Path | None = None) -> Profile:
    """Load a model profile by name or path.

    Raises:
        InputError: no such profile, a bad card, or a table that does not fit.

    >>> load_profile("reasoning-gym/llama-4-maverick").card.licence
    'Apache-2.0'
    """
    place = find_folder(name, "profile.yaml", folder)
    card = _card(place / "profile.yaml", ProfileCard)
    attempts = read_table(place / "attempts.parquet")
    profile = Profile(str(name), card, _conform(attempts, place / "attempts.parquet"), _forced(place / "forced.csv"))
    check_profile(profile, place / "attempts.parquet")
    return profile


def _forced(path: Path) -> pl.DataFrame | None:
    if not path.is_file():
        return None
    table = read_table(path)
    for column, least, most in (("thinking_tokens", 1, 1e9), ("needed_percent", 0, 101)):
        if column not in table.columns or not table[column].dtype.is_numeric():
            raise InputError(path, "columns", ", ".join(table.columns), f"a column {column} of numbers")
        wrong = table.filter(~pl.col(column).cast(pl.Float64).is_between(least, most).fill_null(value=False))
        if len(wrong):
            raise InputError(path, column, wrong[column][0], f"numbers from {least} to {most:g}")
    if len(table) < 20:
        raise InputError(path, "rows", len(table), "at least 20 to fit to")
    return table.select("thinking_tokens", "needed_percent")


def load_problem_set(
    name: str | Path, folder: str | Path | None = None, predictor: str | Path | None = FAST
) -> ProblemSet:
    """Load a problem set, with its scores by a predictor where it has any.

    Args:
        predictor: a shipped one's name, or an ONNX file; its scores stand in ``scores.parquet`` (of the fast one) or
            ``scores-NAME.parquet``, and must be by this very file. ``None`` leaves scores out.

    Raises:
        InputError: no such set, a column is missing, no scores by another predictor than the fast one, or scores by one that is
            not asked for.
    """
    if predictor is not None and not (isinstance(predictor, (str, Path)) and is_predictor(str(predictor))):
        expected = f"a shipped predictor, such as {FAST}, or an ONNX file"
        raise InputError("load_problem_set", "predictor", predictor, expected)
    place = find_folder(name, "problem_set.yaml", folder)
    problems = read_table(place / "problems.parquet")
    for column in ("problem", "subset", "group", "prompt_tokens"):
        if column not in problems.columns:
            raise InputError(place / "problems.parquet", "columns", ", ".join(problems.columns), f"a column {column}")
    notes: tuple[str, ...] = ()
    scored_by = None
    if predictor is not None:
        scores_file = place / scores_name(predictor)
        if predictor != FAST:
            identify(predictor)
        if predictor != FAST and not scores_file.is_file():
            expected = (
                f"{FAST}, or this file: `ttc-sim predictor score PROMPTS --model {predictor} --out {scores_file}`"
            )
            raise InputError(scores_file, "predictor", str(predictor), expected)
        if scores_file.is_file():
            scores = read_table(scores_file)
            scored_by, notes = check_scores(scores_file, predictor, shipped=is_shipped(place, "profiles"))
            problems = problems.join(scores, on="problem", how="left", maintain_order="left")
    return ProblemSet(str(name), _card(place / "problem_set.yaml", ProblemSetCard), problems, notes, scored_by)


def load_traffic(name: str, folder: Path | None = None) -> TrafficProfile:
    """Load measured traffic."""
    place = find_folder(name, "traffic.yaml", folder)
    return TrafficProfile(
        name,
        _card(place / "traffic.yaml", TrafficCard),
        read_table(place / "arrivals.parquet"),
        read_table(place / "lengths.parquet"),
    )


def _conform(attempts: pl.DataFrame, where: Path) -> pl.DataFrame:
    for column in ATTEMPT_COLUMNS:
        if column not in attempts.columns:
            raise InputError(where, "columns", ", ".join(attempts.columns), f"a column {column}")
    try:
        columns = [pl.col(name).cast(kind) for name, kind in ATTEMPT_COLUMNS.items()]
        if SCORE in attempts.columns:
            columns.append(pl.col(SCORE).cast(pl.Float64))
        table = attempts.select(columns)
    except pl.exceptions.PolarsError as error:
        raise InputError(where, "columns", str(error).splitlines()[0], "columns of the types of a profile") from None
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


def save_folder(
    folder: str | Path, card_file: str, card: Card, tables: dict[str, pl.DataFrame], *, replace: bool
) -> None:
    """Write a card and its tables so that the folder is there whole or not at all.

    Raises:
        InputError: the folder exists and is not to be replaced, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not replace:
        raise InputError(folder, "folder", str(folder), "a folder that does not exist yet, or --replace")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir(parents=True)
        content = card.model_dump(exclude_none=True)
        text = yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)
        (beside / card_file).write_text(text, encoding="utf-8")
        for name, table in tables.items():
            table.write_parquet(beside / f"{name}.parquet", compression="zstd", compression_level=19, statistics=False)
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise InputError(folder, "folder", error.strerror or str(error), "a place that can be written to") from None


def save_profile(profile: Profile, folder: str | Path, *, replace: bool = False) -> None:
    """Write a profile folder."""
    tables = {"attempts": profile.attempts}
    save_folder(folder, "profile.yaml", profile.card, tables, replace=replace)


# ------------------------------------------------------------------------------- lengths from another source


def fill_reasoning(
    correct: NDArray[np.bool_],
    problem: I64,
    source: I64,
    ranks_right: NDArray[np.float64],
    ranks_wrong: NDArray[np.float64],
    correlation: float,
    seed: int,
) -> I64:
    """Give attempts the reasoning lengths of another source, longer ones to those that failed.

    The marginal distribution of the result is the source's. How an attempt's rank in it depends on its outcome, and how
    alike the ranks of one problem's attempts are, are measured on a model whose lengths were recorded.

    Args:
        correct: (n,) outcome of each attempt; problem: (n,) its problem.
        source: lengths to hand out, in tokens, any number of equally likely ones.
        ranks_right, ranks_wrong: ranks (0 to 1) that right and wrong attempts had there.
        correlation: of two attempts at one problem there, 0 to 1, on the scale of normal scores.
        seed: of the draws.

    Returns:
        (n,) reasoning tokens.
    """
    from scipy.special import ndtr, ndtri

    shared = ndtri(uniforms(seed, "fill/problem", int(problem.max()) + 1)[:, 0])
    own = ndtri(uniforms(seed, "fill/attempt", len(correct))[:, 0])
    u = ndtr(np.sqrt(correlation) * shared[problem] + np.sqrt(1 - correlation) * own)
    rank = np.where(correct, np.quantile(ranks_right, u), np.quantile(ranks_wrong, u))
    # Ranking again makes the marginal exactly the source's; the draws break ties.
    order = np.lexsort((u, rank))
    quantile = np.empty(len(correct))
    quantile[order] = (np.arange(len(correct)) + 0.5) / len(correct)
    ordered = np.sort(source)
    return ordered[np.minimum((quantile * len(ordered)).astype(np.int64), len(ordered) - 1)].astype(np.int64)


def resample_reasoning(profile: Profile, correct: NDArray[np.bool_], truncated: NDArray[np.bool_], seed: int) -> I64:
    """Reasoning lengths for new attempts of a model whose own were not recorded.

    Drawn from the profile's attempts with the same outcome; an attempt that used up its limit takes those that did.
    """
    table = profile.attempts
    u = uniforms(seed, f"resample/{profile.name}", len(correct))[:, 0]
    out = np.zeros(len(correct), dtype=np.int64)
    everything = np.sort(table["reasoning_tokens"].to_numpy().astype(np.int64))
    for stopped in (False, True):
        for right in (False, True):
            mine = (truncated == stopped) & (correct == right)
            like = table.filter((pl.col("truncated") == stopped) & (pl.col("correct") == right))
            pool = np.sort(like["reasoning_tokens"].to_numpy().astype(np.int64)) if len(like) else everything
            out[mine] = pool[np.minimum((u[mine] * len(pool)).astype(np.int64), len(pool) - 1)]
    return out


__all__ = [
    "ATTEMPT_COLUMNS",
    "Card",
    "ProblemSet",
    "ProblemSetCard",
    "Profile",
    "ProfileCard",
    "TrafficCard",
    "TrafficProfile",
    "check_profile",
    "fill_reasoning",
    "find_folder",
    "list_profiles",
    "load_problem_set",
    "load_profile",
    "load_traffic",
    "resample_reasoning",
    "save_folder",
    "save_profile",
]
