"""``ttc-sim import``: other people's logs, and an audit of what was made of them."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttc_sim.base.errors import InputError
from ttc_sim.cli import completing
from ttc_sim.cli.options import JsonOption
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, styled, write_json

if TYPE_CHECKING:
    from ttc_sim.measured.importing import Audit, Scoring
    from ttc_sim.reporting.paper import Paper


class Place(StrEnum):
    """Where a part of a count stands."""

    inside = "inside"
    outside = "outside"


class Unit(StrEnum):
    """Of times that are numbers."""

    s = "s"
    ms = "ms"
    us = "us"
    ns = "ns"


class Dates(StrEnum):
    """Order of day and month."""

    day_first = "day-first"
    month_first = "month-first"


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(help="Logs of one format, or folders of them; packed by gzip, bzip2, xz or zstd too."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of the logs; found out if left out. See docs/import.md.",
            autocompletion=completing.formats,
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=NAME of a table's column that has none of the usual names, such as prompt_tokens=p."),
    ] = None,
    reasoning: Annotated[
        Place | None, typer.Option(help="Reasoning tokens are inside the output tokens, or stand outside of them.")
    ] = None,
    cached: Annotated[
        Place | None, typer.Option(help="Cached tokens are inside the prompt tokens, or stand outside of them.")
    ] = None,
    time_unit: Annotated[Unit | None, typer.Option(help="Unit of times that are numbers.")] = None,
    dates: Annotated[Dates | None, typer.Option(help="Order of day and month in dates with the year last.")] = None,
    correct_from: Annotated[float | None, typer.Option(help="Score from which on an answer counts as right.")] = None,
    keep_prompts: Annotated[
        bool, typer.Option("--keep-prompts", help="Write the text of prompts too; it is forgotten otherwise.")
    ] = False,
    no_scores: Annotated[
        bool,
        typer.Option(
            "--no-scores", help="Do not predict how hard the prompts are, which takes the longest where a log has them."
        ),
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace what an earlier import wrote there.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Turn logs into tables of traffic, problems and attempts, and say how everything was understood."""
    from ttc_sim.measured.importing import Answers, import_logs

    check_outputs(*files, json=json_file)
    answers = Answers(
        reasoning.value if reasoning else None,
        cached.value if cached else None,
        time_unit.value if time_unit else None,
        dates.value if dates else None,
        correct_from,
    )
    with progress() as say:
        audit = import_logs(
            files,
            out,
            format=format_,
            columns=_named(column or []),
            answers=answers,
            keep_prompts=keep_prompts,
            scoring=None if no_scores else _scoring(),
            replace=replace,
            progress=say,
        )
    if json_file is not None:
        write_json(json_file, audit.as_json())
    _print(paper_for_tables(), audit, out)


def _named(columns: list[str]) -> dict[str, str]:
    """Roles and names of ``ROLE=NAME``."""
    made: dict[str, str] = {}
    for one in columns:
        role, mark, name = one.partition("=")
        if not mark or not name:
            raise InputError("--column", "column", one, "ROLE=NAME, such as prompt_tokens=p")
        made[role] = name
    return made


def _scoring() -> Scoring:
    """Scores by the shipped predictor, which is loaded when the first prompts come."""
    from ttc_sim.measured.importing import Scoring
    from ttc_sim.measured.provenance import FAST, identify
    from ttc_sim.predictor import Predictor

    @cache
    def predictor() -> Predictor:
        return Predictor.load(None)

    return Scoring(lambda prompts: predictor().score(prompts).table(), identify(FAST))


def _print(paper: Paper, audit: Audit, out: Path) -> None:
    names = ", ".join(one["name"] for one in audit.files[:5]) + (", ..." if len(audit.files) > 5 else "")
    paper.say(styled((audit.title, "bold"), f"  {names}"))
    kept = f"{audit.answered:,} answered, {audit.failed:,} failed, {audit.partial:,} broken off"
    paper.say(f"{audit.read:,} rows read; {audit.kept:,} kept: {kept}")
    for reason, left in audit.left_out.items():
        paper.say(f"left out {left.rows:,}: {reason}" + (f" ({left.first})" if left.first else ""))
    for one in audit.understood:
        paper.say(one.line())
    if audit.stopped is not None:
        stopped = audit.stopped
        paper.say(f"stopped at a limit: {stopped['rows']:,} of {stopped['of']:,} answers ({stopped['how']})")
    for line in audit.made_up:
        paper.say(f"looks made up: {line}", "yellow")
    for line in audit.notes:
        paper.say(line, "dim")
    for question in audit.questions:
        paper.say(f"question: {question}", "yellow")
    for name, rows in audit.outputs.items():
        paper.say(f"{out / name}: {rows:,} rows")
    paper.say(f"{out / 'import.json'}: this audit")
