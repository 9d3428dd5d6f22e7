"""Arguments and options that several commands take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ttc_sim.scenario import Scenario

ScenarioArgument = Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as JSON.")]
PredictorOption = Annotated[
    str | None,
    typer.Option(help="Route by this predictor's scores instead of the scenario's: fast, encoder, or an ONNX file."),
]


def scenario_routed_by(scenario: str, predictor: str | None) -> Scenario:
    """The scenario, with that predictor instead of its own if one is given."""
    from ttc_sim.base.shipped import PREDICTORS
    from ttc_sim.measured.provenance import identify
    from ttc_sim.scenario import load_scenario

    loaded = load_scenario(scenario)
    if predictor is None:
        return loaded
    identify(predictor)
    if predictor not in PREDICTORS:
        # As a scenario names it: from where the scenario stands.
        predictor = Path(os.path.relpath(Path(predictor).resolve(), loaded.folder)).as_posix()
    return loaded.model_copy(update={"predictor": predictor, "predictor_sha256": None})
