"""Arguments and options that several commands take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttc_sim.base.consent import AllowCode
from ttc_sim.base.display import plot_for
from ttc_sim.base.errors import InputError
from ttc_sim.cli import completing
from ttc_sim.cli.loudness import json_place

if TYPE_CHECKING:
    from ttc_sim.scenario import Scenario

ScenarioArgument = Annotated[
    str, typer.Argument(help="Scenario file, or the name of a shipped one.", autocompletion=completing.scenarios)
]
ScenarioOrPlanArgument = Annotated[
    str,
    typer.Argument(
        help="Scenario file, a plan's, or the name of a shipped scenario.", autocompletion=completing.scenarios
    ),
]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", callback=json_place, help="Write the figures to this file as JSON; - is standard output."),
]
PredictorOption = Annotated[
    str | None,
    typer.Option(
        help="Route by this predictor's scores instead of the scenario's: fast, encoder, or an ONNX file.",
        autocompletion=completing.predictors,
    ),
]
QuestionOption = Annotated[
    str | None,
    typer.Option(
        help="What --plot answers: arms, latency, day, spend or requests.", autocompletion=completing.questions
    ),
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


def check_question(kind: type, question: str | None, plot: Path | None) -> None:
    """Refuse, before any work, a question that no plot of such a result answers, and one without a plot."""
    if question is None:
        return
    plot_for(kind, question, "--question")
    if plot is None:
        raise InputError("--question", "--plot", None, "a file to draw the answer to")


def inputs_of(scenario: Scenario) -> list[Path]:
    """Files that a scenario is read from: its own, and whatever it names that stands beside it or among the profiles."""
    return [Path(scenario.path), *files_of(*_words(scenario.model_dump(mode="json")), folder=scenario.folder)]


def files_of(*names: str, folder: Path) -> list[Path]:
    """Files of those names, and all in the profiles, problem sets and traffic of those names."""
    from ttc_sim.measured.cards import CARD_FILES
    from ttc_sim.measured.folders import search_folders

    files = []
    for at in (place / name for name in names for place in (folder, *search_folders(folder))):
        with suppress(OSError, ValueError):  # most words in a scenario can be no name of a file at all
            if at.is_file():
                files.append(at)
            elif any((at / card).is_file() for card in CARD_FILES):
                files += [file for file in at.iterdir() if file.is_file()]
    return files


def _words(content: object) -> Iterator[str]:
    """Every text in it."""
    if isinstance(content, str):
        yield content
    for part in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _words(part)


def scenario_routed_by(
    scenario: str, predictor: str | None, allow_code: AllowCode, or_planned: bool = False
) -> Scenario:
    """The scenario, with that predictor instead of its own if one is given; also that of a plan's file, if ``or_planned``."""
    from ttc_sim.optimizer.plan import planned_scenario
    from ttc_sim.scenario import load_scenario
    from ttc_sim.scenario.load import NOTHING_TO_SCORE

    loaded = planned_scenario(scenario, allow_code) if or_planned else None
    loaded = load_scenario(scenario, allow_code=allow_code) if loaded is None else loaded
    if predictor is None:
        return loaded
    if not loaded.workload.has_problems:
        raise InputError("--predictor", "predictor", predictor, NOTHING_TO_SCORE)
    from ttc_sim.base.shipped import PREDICTORS
    from ttc_sim.measured.provenance import identify

    identify(predictor)
    if predictor not in PREDICTORS:
        # As a scenario names it: from where the scenario stands.
        predictor = Path(os.path.relpath(Path(predictor).resolve(), loaded.folder)).as_posix()
    return loaded.model_copy(update={"predictor": predictor, "predictor_sha256": None})
