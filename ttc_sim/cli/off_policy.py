"""``ttc-sim off-policy``: another plan on the logs of the one that was carried out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttc_sim.cli import completing
from ttc_sim.cli.options import AllowCodeOption, JsonOption, RememberCodeOption, consent
from ttc_sim.cli.output import check_outputs, paper_for_tables, write_results


def off_policy(
    plan: Annotated[
        str, typer.Argument(help="File of the plan that was carried out.", autocompletion=completing.plans)
    ],
    logs: Annotated[list[Path], typer.Argument(help="Its log files, in any order.")],
    instead: Annotated[
        str, typer.Option(metavar="PLAN", help="Another plan's file, or a policy on the same arms: \"Always('r1')\".")
    ],
    table: Annotated[
        Path | None, typer.Option(help="Write one row per figure, method and plan to this Parquet, CSV or JSONL file.")
    ] = None,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Estimate what another plan would have come to on the requests that a plan's runtime logged.

    Of each request it is worked out where the other plan would have sent it; those that were sent there, by the plan or
    because the runtime tried it on purpose, stand for the others, weighted by how likely that was. Accuracy, bills, times
    and tokens stand beside those of the plan, with the paired difference, by three estimators: doubly robust, self-normalized
    and plain inverse propensity.

    Where the other plan wants an arm that requests had no chance to be sent to, the logs cannot tell: the figures are of the
    other requests, and those of all lie between bounds. A runtime that explores no share of the requests tells of little.
    """
    from ttc_sim.deploying.off_policy import off_policy as estimated
    from ttc_sim.reporting.off_policy import print_off_policy

    check_outputs(Path(plan), *logs, Path(instead), table=table, json=json_file)
    found = estimated(plan, logs, instead, allow_code=consent(allow_code, remember_code))
    write_results(found, table=table, json_file=json_file)
    print_off_policy(paper_for_tables(), found)
