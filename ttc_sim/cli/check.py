"""``ttc-sim check``: the health of a plan's file, as of today."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ttc_sim.cli import completing
from ttc_sim.cli.ending import UNREACHABLE
from ttc_sim.cli.options import AllowCodeOption, JsonOption, RememberCodeOption, consent
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, styled, write_json

if TYPE_CHECKING:
    import datetime

Shown = Literal["failing", "all"]
ChecksOption = Annotated[
    Shown, typer.Option("--checks", help="Which checks of the plan's health to print: those that fail, or all.")
]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="DAY", help="Day that prices and profiles are old as of, YYYY-MM-DD; today if left out."
    ),
]


def day_asked(as_of: str | None) -> datetime.date | None:
    """The day of ``--as-of``; ``None`` without.

    Raises:
        InputError: no day.
    """
    from ttc_sim.optimizer.health.examine import day_of

    return None if as_of is None else day_of(as_of, "--as-of")


def check(
    plan: Annotated[
        Path, typer.Argument(help="Plan file that `ttc-sim optimize --plan` wrote.", autocompletion=completing.plans)
    ],
    checks: ChecksOption = "failing",
    as_of: AsOfOption = None,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Simulate a plan as it stands and print what is wrong with it, in words; exit status 2 if there is a problem.

    A plan of any format is examined, and against today's date: prices age, and profiles that it names may have changed.
    """
    from ttc_sim.optimizer.checking_plans import check_plan
    from ttc_sim.reporting.health import print_health

    day = day_asked(as_of)
    check_outputs(plan, json=json_file)
    with progress() as say:
        found = check_plan(plan, day, say, allow_code=consent(allow_code, remember_code))
    if json_file is not None:
        write_json(json_file, found.as_json())
    paper = paper_for_tables()
    paper.say(styled((found.plan.scenario.name, "bold"), f" {found.plan.scenario.description}"))
    print_health(paper, found.checks, everything=checks == "all")
    for note in found.plan.notes:
        paper.say(f"- {note}", "dim")
    if any(one.status == "problem" for one in found.checks):
        raise typer.Exit(UNREACHABLE)
