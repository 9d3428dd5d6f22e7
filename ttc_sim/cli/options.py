"""Arguments and options that several commands take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttc_sim.base.consent import AllowCode

if TYPE_CHECKING:
    from ttc_sim.scenario import Scenario

ScenarioArgument = Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as JSON.")]
PredictorOption = Annotated[
    str | None,
    typer.Option(help="Route by this predictor's scores instead of the scenario's: fast, encoder, or an ONNX file."),
]
AllowCodeOption = Annotated[
    bool, typer.Option("--allow-code", help="Run functions that are named as FILE.py:NAME; look at the file first.")
]
RememberCodeOption = Annotated[
    bool, typer.Option("--remember-code", help="The same, from now on: until the file that is run changes.")
]


def consent(allow_code: bool, remember_code: bool) -> AllowCode:
    """What the two options come to."""
    return "remember" if remember_code else allow_code


def scenario_routed_by(scenario: str, predictor: str | None, allow_code: AllowCode) -> Scenario:
    """The scenario, with that predictor instead of its own if one is given."""
    from ttc_sim.base.shipped import PREDICTORS
    from ttc_sim.measured.provenance import identify
    from ttc_sim.scenario import load_scenario

    loaded = load_scenario(scenario, allow_code=allow_code)
    if predictor is None:
        return loaded
    identify(predictor)
    if predictor not in PREDICTORS:
        # As a scenario names it: from where the scenario stands.
        predictor = Path(os.path.relpath(Path(predictor).resolve(), loaded.folder)).as_posix()
    return loaded.model_copy(update={"predictor": predictor, "predictor_sha256": None})
