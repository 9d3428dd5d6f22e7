"""``ttc-sim monitor``: did a plan at work keep its promise?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttc_sim.cli import completing
from ttc_sim.cli.ending import UNREACHABLE
from ttc_sim.cli.options import AllowCodeOption, JsonOption, RememberCodeOption, consent, inputs_of
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, write_results


def monitor(
    plan: Annotated[
        Path, typer.Argument(help="Plan file that `ttc-sim optimize --plan` wrote.", autocompletion=completing.plans)
    ],
    logs: Annotated[
        list[Path], typer.Argument(help="What its runtime logged: decisions, outcomes, grades (JSON Lines).")
    ],
    since: Annotated[
        str | None, typer.Option(metavar="DAY", help="First day to look at, such as 2026-11-26, UTC.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="Last day to look at.")] = None,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", help="Length of a period: a look is taken at the end of each.")
    ] = 86400.0,
    replan: Annotated[
        bool, typer.Option("--replan/--no-replan", help="Say what planning anew would save today, which takes a while.")
    ] = True,
    other_plan: Annotated[
        bool,
        typer.Option("--other-plan", help="Take decisions of other plans too, if they have the same arms and sources."),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw promised and realized over time to this file: PNG, SVG or PDF.")
    ] = None,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Put what a plan came to at work beside what it promised, and say what broke and what planning anew would save.

    It may be run every day: the chance that anything is ever said to be broken where all is kept is 5% at most. Exit status 2 if a
    promise or a target is broken for sure; 0 if not, or not yet; 1 where the input is bad.
    """
    from ttc_sim.deploying.monitoring import monitor as look
    from ttc_sim.optimizer.plan import load_plan
    from ttc_sim.reporting.monitoring import print_monitored

    allowed = consent(allow_code, remember_code)
    check_outputs(plan, *logs, *inputs_of(load_plan(plan, allow_code=allowed).scenario), plot=plot, json=json_file)
    with progress() as say:
        found = look(
            plan,
            logs,
            since=since,
            until=until,
            every=every,
            replan=replan,
            other_plan=other_plan,
            progress=say,
            allow_code=allowed,
        )
    write_results(found, json_file=json_file, plot=plot)
    print_monitored(paper_for_tables(), found)
    if found.broken:
        raise typer.Exit(UNREACHABLE)
