"""``ttc-sim cross-validate``: plans made on a part of the problems, carried out on the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttc_sim.cli.options import (
    AllowCodeOption,
    JsonOption,
    PredictorOption,
    RememberCodeOption,
    ScenarioArgument,
    consent,
    inputs_of,
    scenario_routed_by,
)
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, write_results


def cross_validate(
    scenario: ScenarioArgument,
    folds: Annotated[
        int, typer.Option(help="Parts that the problems are cut into, at least 2: as many plans are made.")
    ] = 4,
    predictor: PredictorOption = None,
    table: Annotated[
        Path | None, typer.Option(help="Write one row per fold and figure to this Parquet, CSV or JSONL file.")
    ] = None,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Plan on a part of the problems, carry the plan out on the rest: print realized beside promised for every fold."""
    from ttc_sim.base.errors import Interrupted
    from ttc_sim.optimizer.cross_validating import cross_validate as carry_out
    from ttc_sim.reporting.text import print_cross_validation

    loaded = scenario_routed_by(scenario, predictor, consent(allow_code, remember_code))
    check_outputs(*inputs_of(loaded), table=table, json=json_file)
    left: Interrupted | None = None
    try:
        with progress() as say:
            found = carry_out(loaded, folds, say)
    except Interrupted as early:
        left, found = early, early.finished
    write_results(found, table=table, json_file=json_file)
    print_cross_validation(paper_for_tables(), found)
    if left is not None:
        left.add_note("they are printed, and written to the files that were asked for")
        raise left
