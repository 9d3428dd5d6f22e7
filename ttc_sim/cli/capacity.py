"""``ttc-sim capacity``: how many replicas of which GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttc_sim.cli.ending import UNREACHABLE
from ttc_sim.cli.options import (
    AllowCodeOption,
    JsonOption,
    PredictorOption,
    QuestionOption,
    RememberCodeOption,
    ScenarioOrPlanArgument,
    check_question,
    consent,
    inputs_of,
    scenario_routed_by,
)
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, styled, write_json, written_together


def capacity(
    scenario: ScenarioOrPlanArgument,
    predictor: PredictorOption = None,
    hours: Annotated[bool, typer.Option("--hours", help="Print the plan's runs hour by hour too.")] = False,
    plan_file: Annotated[
        Path | None, typer.Option("--plan", help="Save it to this YAML file, which `ttc-sim simulate` takes.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the day to this file: PNG, SVG or PDF.")] = None,
    question: QuestionOption = None,
    json_file: JsonOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Threads; as many as there are cores if left out.")
    ] = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Find the cheapest GPUs and the fewest replicas of every pool that meet the targets; exit status 2 if nothing does.

    What may be chosen stands in the scenario's search: pools (gpu, tensor_parallel, precision, replicas) and gpus, the budget.
    """
    from ttc_sim.optimizer.capacity.result import Capacity
    from ttc_sim.optimizer.capacity.sizing import capacity as find
    from ttc_sim.optimizer.plan import check_beside_code
    from ttc_sim.reporting.capacity import print_capacity

    loaded = scenario_routed_by(scenario, predictor, consent(allow_code, remember_code), True)
    check_outputs(*inputs_of(loaded), Path(scenario), plan=plan_file, plot=plot, json=json_file)
    check_question(Capacity, question, plot)
    if plan_file is not None:
        check_beside_code(loaded, plan_file)
    with progress() as say:
        found = find(loaded, say, hours=hours, workers=workers)
    with written_together():
        if plan_file is not None:
            found.save(plan_file)
        if json_file is not None:
            write_json(json_file, {"scenario": loaded.name, **found.as_json()})
        if plot is not None:
            found.plot(question).savefig(plot, dpi=150)
    paper = paper_for_tables()
    paper.say(styled((loaded.name, "bold"), f" {loaded.description}"))
    paper.say()
    print_capacity(paper, found, hours=hours)
    if found.status == "not met":
        raise typer.Exit(UNREACHABLE)
