"""``ttc-sim schema``: what a scenario's file may say, for editors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ttc_sim.cli.output import check_outputs, paper_for_tables


def schema(
    out: Annotated[
        Path | None, typer.Option(help="Write it to this file instead of standard output: NAME.json.")
    ] = None,
) -> None:
    """Write the JSON schema of scenario files, by which editors complete and check them.

    A scenario whose first line is `# yaml-language-server: $schema=scenario.schema.json` is checked by the file of that name beside
    it. The shipped scenarios have one, and `ttc-sim scenario init` writes one. Arrival processes and step times of installed
    packages are in it.
    """
    from ttc_sim.files.writing import write_atomically
    from ttc_sim.scenario.schema import scenario_schema, schema_text

    out = None if out == Path("-") else out
    check_outputs(json=out)
    text = schema_text(scenario_schema())
    if out is None:
        sys.stdout.write(text)
        return
    write_atomically(out, text)
    paper_for_tables().say(f"written to {out}")
