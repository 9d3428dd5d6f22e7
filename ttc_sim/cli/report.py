"""``ttc-sim report``: a page to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ttc_sim.base.errors import InputError
from ttc_sim.cli import completing
from ttc_sim.cli.check import AsOfOption, day_asked
from ttc_sim.cli.options import AllowCodeOption, RememberCodeOption, consent
from ttc_sim.cli.output import check_outputs, note, progress

Format = Literal["html", "md"]


def report(
    file: Annotated[
        str,
        typer.Argument(
            help="A plan's file, a scenario's with a policy, the name of a shipped scenario, or JSON of simulate or optimize.",
            autocompletion=completing.scenarios,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Write the page to this file: .html or .md. Markdown goes to standard output without."),
    ] = None,
    kind: Annotated[
        Format | None, typer.Option("--format", help="html or md; by the name of the file if left out.")
    ] = None,
    no_variations: Annotated[
        bool, typer.Option("--no-variations", help="Leave the section on what if out; it takes most of the time.")
    ] = False,
    requests: Annotated[int | None, typer.Option(min=1, help="Requests of each run instead of the scenario's.")] = None,
    replications: Annotated[int | None, typer.Option(min=1, help="Independent runs instead of the scenario's.")] = None,
    as_of: AsOfOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Write one page on what a plan comes to: for who decides on the first screen, for who checks below.

    The HTML is one file that needs no network: the question, the answer, what it costs, the figures with intervals, what it was
    compared with, the day, what-if, the checks of its health, what it rests on and where the data are from, seeds and versions.
    Markdown is the same without pictures, for a pull request.
    """
    from ttc_sim.reporting.report.making import kind_of
    from ttc_sim.reporting.report.making import report as make

    day = day_asked(as_of)
    wanted = kind or (kind_of(out) if out is not None else None)
    if out is None and wanted != "md":
        raise InputError("report", "--out", None, "a file to write to, or --format md for standard output")
    if out is not None and kind is not None and kind_of(out) != kind:
        raise InputError("report", "--format", kind, f"{kind_of(out)}, as the name {out.name} says")
    check_outputs(Path(file), out=out)
    with progress() as say:
        page = make(
            file,
            say,
            vary=not no_variations,
            requests=requests,
            replications=replications,
            as_of=day,
            allow_code=consent(allow_code, remember_code),
        )
    if out is None:
        typer.echo(page.markdown, nl=False)
        return
    page.save(out)
    note(f"{out}: {out.stat().st_size / 1e3:,.0f} kB")
