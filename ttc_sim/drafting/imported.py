"""What ``ttc-sim import`` left in a folder: its audit, traffic, problems and attempts."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.files.documents import read_json
from ttc_sim.files.opening import is_file
from ttc_sim.files.tables import read_table
from ttc_sim.measured.columns import as_booleans, as_keys, as_numbers, as_text, as_tokens, texts
from ttc_sim.measured.importing.output import OUTPUTS

AUDIT, TRAFFIC, LENGTHS, PROBLEMS, ATTEMPTS, SCORES = OUTPUTS


@dataclass(frozen=True)
class Imported:
    """One or more imports, taken together.

    Attributes:
        folders: they stand in.
        files: that were imported, by their names; day: of the newest request, ``None`` if no times are known.
        origin: formats and files, in words; tokens: how counts were understood, in words.
        problems: each once: ``problem``, ``subset``, ``group``, ``prompt_tokens`` and, where known, ``prompt``.
        attempts: at them: ``problem``, ``model``, ``correct``, tokens and what else the import knew.
        scores: the file of the problems' scores, where there is one.
        traffic: a row a request, and the file that it stands in; without ``arrival_s`` where no times are known.
        said: what was made of them that a reader must know, a line each.
    """

    folders: tuple[Path, ...]
    files: tuple[str, ...]
    day: str | None
    origin: str
    tokens: str
    problems: pl.DataFrame | None
    attempts: pl.DataFrame | None
    scores: Path | None
    traffic: pl.DataFrame | None
    traffic_file: Path | None
    said: tuple[str, ...]

    @property
    def timed(self) -> bool:
        """Whether it is known when requests came."""
        return self.traffic_file is not None and self.traffic_file.name == TRAFFIC


def read_imports(folders: Sequence[Path]) -> Imported:
    """Read what imports left.

    Raises:
        InputError: a folder without an import, one without attempts at its problems or without either, two with traffic, a problem
            that is not the same in two of them, or a table that is not what an import leaves.
    """
    audits = [_audit(folder) for folder in folders]
    graded = [folder for folder in folders if is_file(folder / PROBLEMS) or is_file(folder / ATTEMPTS)]
    asked = [file for folder in folders for file in (folder / TRAFFIC, folder / LENGTHS) if is_file(file)]
    if len(asked) > 1:
        first, second = asked[:2]
        expected = f"traffic in one of them, and {first.parent} has some: "
        expected += "`ttc-sim import` of all their files puts requests in order"
        raise InputError(second.parent, "folder", second.name, expected)
    if not graded and not asked:
        expected = (
            f"{TRAFFIC} or {LENGTHS}, or {PROBLEMS} and {ATTEMPTS}: the import kept no request; its {AUDIT} says why"
        )
        raise InputError(folders[0], "folder", "neither", expected)
    said: list[str] = []
    problems = _problems([folder / PROBLEMS for folder in graded], said) if graded else None
    attempts = None if problems is None else _attempts([folder / ATTEMPTS for folder in graded], problems, said)
    scored = [folder / SCORES for folder in graded if is_file(folder / SCORES)]
    if len(graded) > 1 and scored:
        said.append(f"scores of {scored[0]} are not used: the problems are those of several imports")
    file = asked[0] if asked else None
    days = [audit["day"] for audit in audits if audit["day"] is not None]
    return Imported(
        folders=tuple(folders),
        files=tuple(name for audit in audits for name in audit["files"]),
        day=max(days, default=None),
        origin="; ".join(f"{audit['format']}: {', '.join(audit['files'])}" for audit in audits),
        tokens="; ".join(dict.fromkeys(audit["tokens"] for audit in audits)),
        problems=problems,
        attempts=attempts,
        scores=scored[0] if len(graded) == 1 and scored else None,
        traffic=None if file is None else _traffic(file),
        traffic_file=file,
        said=tuple(said),
    )


def _audit(folder: Path) -> dict[str, Any]:
    file = folder / AUDIT
    if not is_file(file):
        expected = f"a folder that `ttc-sim import FILE... --out {folder}` wrote: there is no {AUDIT}"
        raise InputError(folder, "folder", str(folder), expected)
    audit = read_json(file)
    if not isinstance(audit, dict):
        raise InputError(file, "file", audit, "an object, the audit of an import")
    files, day = audit.get("files", []), audit.get("day")
    names = [one.get("name") if isinstance(one, dict) else None for one in files] if isinstance(files, list) else [None]
    if not all(isinstance(name, str) for name in names):
        raise InputError(file, "files", files, "a list of files, each with its name")
    if day is not None:
        try:
            day = datetime.date.fromisoformat(day).isoformat()
        except (TypeError, ValueError):
            raise InputError(file, "day", day, "a day as YYYY-MM-DD, or null") from None
    return {
        "format": str(audit.get("format", "not stated")),
        "files": names,
        "day": day,
        "tokens": _in_words(audit.get("tokens")),
    }


def _in_words(understood: object) -> str:
    """How token counts were understood, of each model."""
    said = []
    for one in understood if isinstance(understood, list) else ():
        if isinstance(one, dict):
            of = f" of {one['of']}" if one.get("of") else ""
            said.append(f"{one.get('what', 'tokens')}{of}: {one.get('taken', 'not stated')}")
    return "; ".join(said) or "as the log counts them"


def _table(file: Path, columns: Sequence[str]) -> pl.DataFrame:
    if not is_file(file):
        other = ATTEMPTS if file.name == PROBLEMS else PROBLEMS
        raise InputError(file, "file", "no such file", f"{file.name} beside {other}, as `ttc-sim import` writes them")
    table = read_table(file)
    for column in columns:
        if column not in table.columns:
            raise InputError(file, "columns", ", ".join(table.columns), f"a column {column}")
    return table


def _problems(files: Sequence[Path], said: list[str]) -> pl.DataFrame:
    parts: list[pl.DataFrame] = []
    for file in files:
        table = _table(file, ("problem", "prompt_tokens"))
        named = [
            as_text(table, file, column).fill_null("").replace("", "all").alias(column)
            if column in table.columns
            else pl.repeat("all", len(table), eager=True).alias(column)
            for column in ("subset", "group")
        ]
        part = table.select(
            as_keys(table, file, "problem"), *named, as_tokens(table, file, "prompt_tokens", empty=0).clip(1)
        )
        if "prompt" in table.columns and table["prompt"].null_count() == 0:
            part = part.with_columns(texts(table, file, "prompt"))
        for before in parts:
            _check_same(part, before, file)
        parts.append(part)
    table = pl.concat(parts, how="diagonal")
    if "prompt" in table.columns and table["prompt"].null_count():
        said.append("prompts are known in some of the imports only, and not used")
        table = table.drop("prompt")
    return table.unique("problem", keep="first", maintain_order=True)


def _check_same(part: pl.DataFrame, before: pl.DataFrame, file: Path) -> None:
    """A key in two imports must be one problem."""
    both = part.join(before, on="problem", suffix=" before")
    for column in ("subset", "prompt"):
        if f"{column} before" in both.columns and (
            len(other := both.filter(pl.col(column) != pl.col(f"{column} before")))
        ):
            expected = f"one {column} of a problem in all imports: keys that mean several problems cannot be told apart"
            raise InputError(file, f"problem {other['problem'][0]}, {column}", other[column][0], expected)


def _attempts(files: Sequence[Path], problems: pl.DataFrame, said: list[str]) -> pl.DataFrame:
    parts = []
    for file in files:
        table = _table(file, ("problem", "model", "correct"))
        ungraded = table["correct"].is_null()
        if ungraded.any():
            said.append(f"{ungraded.sum():,} of {len(table):,} attempts of {file} are not graded, and left out")
            table = table.filter(~ungraded)
        keys = [as_keys(table, file, column) for column in ("problem", "model")]
        tokens = [as_tokens(table, file, "prompt_tokens", empty=0)] if "prompt_tokens" in table.columns else []
        table = table.with_columns(*keys, *tokens, as_booleans(table, file, "correct"))
        # Numbers of attempts are those within one import.
        parts.append(table if len(files) == 1 else table.drop("attempt", strict=False))
    table = pl.concat(parts, how="diagonal_relaxed")
    known = table["problem"].is_in(problems["problem"].implode())
    if not known.all():
        said.append(f"{(~known).sum():,} attempts are at problems that do not stand in {PROBLEMS}, and left out")
        table = table.filter(known)
    if table.is_empty():
        raise InputError(files[0], "attempts", "0 rows", "graded attempts at the problems")
    return table


def _traffic(file: Path) -> pl.DataFrame:
    timed = file.name == TRAFFIC
    table = _table(file, (*(["arrival_s"] if timed else []), "prompt_tokens", "reasoning_tokens", "visible_tokens"))
    named = [as_text(table, file, column) for column in ("source", "model", "status") if column in table.columns]
    times = [
        as_numbers(table, file, column, float("-inf"), float("inf"), gaps=True).alias(column)
        for column in ("first_token_s", "latency_s")
        if column in table.columns
    ]
    tokens = [as_tokens(table, file, f"{kind}_tokens") for kind in ("prompt", "reasoning", "visible")]
    if "cached_tokens" in table.columns:
        as_tokens(table, file, "cached_tokens", empty=0)  # what is not known stays so
    arrival = [as_numbers(table, file, "arrival_s", 0, float("inf"))] if timed else []
    return table.with_columns(*named, *times, *tokens, *arrival)
