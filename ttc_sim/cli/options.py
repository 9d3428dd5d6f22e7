"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ttc_sim.scenario import Scenario

ScenarioArgument = Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as JSON.")]
PredictorOption = Annotated[
    Literal["fast", "encoder"] | None,
    typer.Option(help="Route by the scores of this shipped predictor instead of the scenario's."),
]


def scenario_routed_by(scenario: str, predictor: Literal["fast", "encoder"] | None) -> Scenario:
    """The scenario, with that predictor instead of its own if one is given."""
    from ttc_sim.scenario import load_scenario

    loaded = load_scenario(scenario)
    return loaded if predictor is None else loaded.model_copy(update={"predictor": predictor})
