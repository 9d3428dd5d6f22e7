"""The command line: ``ttc-sim``."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.completion

from ttc_sim import __version__
from ttc_sim.base.errors import InputError
from ttc_sim.cli import (
    backtest,
    capacity,
    check,
    collect,
    completing,
    cross_validate,
    doctor,
    evaluate,
    export,
    gpus,
    importing,
    listing,
    monitor,
    off_policy,
    predictor,
    prices,
    profile,
    report,
    schema,
    sensitivity,
    serve,
    sessions,
    sweep,
    whatif,
)
from ttc_sim.cli import scenario as scenario_commands
from ttc_sim.cli.commands import Commands
from ttc_sim.cli.ending import STATUSES, UNREACHABLE, carry_out
from ttc_sim.cli.options import (
    AllowCodeOption,
    JsonOption,
    PredictorOption,
    QuestionOption,
    RememberCodeOption,
    ScenarioArgument,
    ScenarioOrPlanArgument,
    check_question,
    consent,
    inputs_of,
    scenario_routed_by,
)
from ttc_sim.cli.output import (
    PlainLines,
    check_outputs,
    on_any_terminal,
    paper_for_tables,
    peak_memory_gb,
    progress,
    styled,
    write_json,
    written_together,
)
from ttc_sim.cli.worlds import OptimizeCommand, OverOption, RobustOption, share_of_worlds

if TYPE_CHECKING:
    from ttc_sim.scenario import Scenario

COMPLETION = "_TTC_SIM_COMPLETE"
"""Environment variable by which shells ask: ``eval "$(_TTC_SIM_COMPLETE=source_bash ttc-sim)"`` sets it up."""

app = Commands(
    name="ttc-sim",
    help="Plan test-time compute before you deploy: accuracy, cost and latency from measured data.",
    no_args_is_help=True,
    epilog=STATUSES,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(evaluate.evaluate)
app.command()(backtest.backtest)
app.command()(capacity.capacity)
app.command()(check.check)
app.command()(gpus.gpus)
app.command()(prices.prices)
app.command()(report.report)
app.command()(sessions.sessions)
app.command()(collect.collect)
app.command()(sweep.sweep)
app.command("cross-validate")(cross_validate.cross_validate)
app.command()(whatif.whatif)
app.command()(sensitivity.sensitivity)
app.command()(doctor.doctor)
app.command("list")(listing.list_)
app.command()(schema.schema)
app.command()(serve.serve)
app.command()(export.export)
app.command()(monitor.monitor)
app.command("import")(importing.import_)
app.command("off-policy")(off_policy.off_policy)
app.add_typer(profile.app, name="profile", help="Build, list and show measured profiles.")
app.add_typer(scenario_commands.app, name="scenario", help="Make a scenario from an import.")
app.add_typer(predictor.app, name="predictor", help="Predict how hard prompts are.")


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    lines = logging.StreamHandler()
    lines.setFormatter(PlainLines())
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    logging.getLogger("ttc_sim").setLevel(logging.INFO)


@app.command()
def simulate(
    scenario: ScenarioOrPlanArgument,
    policy: Annotated[
        str | None, typer.Option(help="Policy instead of the scenario's, such as \"Always('small')\".")
    ] = None,
    predictor: PredictorOption = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests of each run, not the scenario's or its duration.")
    ] = None,
    replications: Annotated[int | None, typer.Option(min=1, help="Independent runs instead of the scenario's.")] = None,
    no_baselines: Annotated[
        bool, typer.Option("--no-baselines", help="Run the policy alone, nothing to compare it with.")
    ] = False,
    records: Annotated[
        Path | None, typer.Option(help="Write one row per request to this Parquet, CSV or JSONL file.")
    ] = None,
    hours: Annotated[
        bool, typer.Option("--hours", help="Print it hour by hour too; --plot then draws the day, and --json has it.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the result to this file: PNG, SVG or PDF.")] = None,
    question: QuestionOption = None,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Run a scenario's policy and print what it comes to."""
    from ttc_sim.optimizer.baselines import compare_with_baselines
    from ttc_sim.optimizer.promises import judged
    from ttc_sim.policies import parse_policy
    from ttc_sim.reporting.over_time import print_over_time
    from ttc_sim.reporting.text import print_summary
    from ttc_sim.simulation.pooling import HOUR_S
    from ttc_sim.simulation.result import Result
    from ttc_sim.simulation.result import simulate as run

    allowed = consent(allow_code, remember_code)
    loaded = scenario_routed_by(scenario, predictor, allowed, True)
    chosen = None
    if policy is not None:
        chosen = parse_policy(policy, where="--policy", field="policy", folder=Path(), allow_code=allowed)
    check_outputs(*inputs_of(loaded), Path(scenario), table=records, plot=plot, json=json_file)
    check_question(Result, question, plot)
    if not no_baselines:
        _check_consent_to_baselines(loaded)
    with progress() as say:
        start = time.perf_counter()
        interval_s = HOUR_S if hours else None
        result = run(loaded, chosen, replications=replications, requests=requests, progress=say, interval_s=interval_s)
        summary = result.summary()
        took_s, memory_gb = time.perf_counter() - start, peak_memory_gb()
        verdicts = judged(result)
        day = result.tables_over_time() if hours else None
        baselines = {} if no_baselines else compare_with_baselines(result, summary, requests=requests, progress=say)
    with written_together():
        if json_file is not None:
            beside = {name: other.as_json() for name, other in baselines.items()}
            targets = [one.as_json() for one in verdicts]
            by_hour = {} if day is None else {"hours": day.as_json()}
            figures = {**summary.as_json(), "targets": targets, **by_hour, "baselines": beside}
            write_json(json_file, {"scenario": loaded.name, **figures})
        if records is not None:
            from ttc_sim.files.tables import write_table

            write_table(result.records, records)
        if plot is not None:
            asks_for_day = question in (None, "day")
            (day.plot() if day is not None and asks_for_day else result.plot(question)).savefig(plot, dpi=150)
    paper = paper_for_tables()
    print_summary(paper, summary, baselines, verdicts)
    if day is not None:
        print_over_time(paper, day)
    paper.say(
        f"{sum(len(one.arm) for one in result.runs):,} requests, from draws to intervals, in {took_s:.1f} s; "
        f"peak memory {memory_gb:.2f} GB",
        "dim",
    )


def _check_consent_to_baselines(scenario: Scenario) -> None:
    try:
        scenario.check_consent()  # every arm is one
    except InputError as error:
        expected = f"{error.expected}; --no-baselines runs no other arms than the policy's"
        raise InputError(error.where, error.field, error.value, expected) from None


@app.command(cls=OptimizeCommand)
def optimize(
    scenario: ScenarioArgument,
    predictor: PredictorOption = None,
    robust: RobustOption = None,
    over: OverOption = None,
    plan_file: Annotated[Path | None, typer.Option("--plan", help="Save the plan to this YAML file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the plan and the frontier to this file: PNG, SVG or PDF.")
    ] = None,
    point: Annotated[
        int | None, typer.Option(help="Take this point of the frontier, by its number there, for the plan.")
    ] = None,
    checks: check.ChecksOption = "failing",
    as_of: check.AsOfOption = None,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Find the policy, caps and capacity that meet the scenario's targets; exit status 2 if none does.

    With --robust they must be met in several worlds at once, beside the scenario as it is: in all of them, or in a share
    (--over 0.9). Ready-made: busy (1.5x the requests), long (1.3x the output tokens), dear (1.2x the prices), slow (APIs
    at 0.7 of their speed), misrouted (0.8 of the predictor's correlation), misjudged (verifiers worse). --robust alone
    takes all that have something to change; --robust busy,long some; --robust WORLDS.yaml those of a file: a list of
    `{name: ..., set: {PATH: VALUE}, weight: ...}`, PATH and VALUE as for `ttc-sim whatif --set`.
    """
    from ttc_sim.files.opening import is_file
    from ttc_sim.optimizer.optimizing import optimize as find
    from ttc_sim.optimizer.plan import check_beside_code
    from ttc_sim.reporting.text import print_plan

    day = check.day_asked(as_of)
    loaded = scenario_routed_by(scenario, predictor, consent(allow_code, remember_code))
    worlds = [Path(robust)] if robust is not None and is_file(robust) else []
    check_outputs(*inputs_of(loaded), *worlds, plan=plan_file, plot=plot, json=json_file)
    if plan_file is not None:
        check_beside_code(loaded, plan_file)
    with progress() as say:
        plan = find(loaded, say, robust=robust, over=share_of_worlds(over))
    if point is not None:
        plan = plan.at(point)
    plan = plan if day is None else plan.as_of(day)
    with written_together():
        if plan_file is not None:
            plan.save(plan_file)
        if json_file is not None:
            write_json(json_file, {"scenario": loaded.name, **plan.as_json()})
        if plot is not None:
            plan.plot().savefig(plot, dpi=150)
    paper = paper_for_tables()
    paper.say(styled((loaded.name, "bold"), f" {loaded.description}"))
    paper.say()
    print_plan(paper, plan, all_checks=checks == "all")
    if plan.status != "met":
        raise typer.Exit(UNREACHABLE)


@app.command()
def validate(
    plan: Annotated[
        Path, typer.Argument(help="Plan file that `ttc-sim optimize --plan` wrote.", autocompletion=completing.plans)
    ],
    problems: Annotated[Path, typer.Option(help="Table of problems with prompts (Parquet, CSV or JSONL).")],
    attempts: Annotated[Path, typer.Option(help="Table of the models' attempts on them.")],
    predictor: Annotated[
        Path | None,
        typer.Option(
            "--predictor",
            "--model",
            help="Where the ONNX file of the plan's predictor stands now; where the plan says if left out.",
        ),
    ] = None,
    other_predictor: Annotated[
        bool, typer.Option("--other-predictor", help="Route by --predictor even if the plan was made with another one.")
    ] = False,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Carry a plan out on measured problems it has never seen, and print realized beside promised and beside the targets.

    Exit status 2 if a target is missed for sure, by the whole of the 95% interval; 0 if all are met or the problems are too few to
    tell; 1 where the input is bad.
    """
    from ttc_sim.optimizer.validating import validate as carry_out
    from ttc_sim.reporting.text import print_validation

    check_outputs(plan, problems, attempts, predictor, json=json_file)
    with progress() as say:
        found = carry_out(
            plan,
            problems,
            attempts,
            say,
            predictor=predictor,
            other_predictor=other_predictor,
            allow_code=consent(allow_code, remember_code),
        )
    if json_file is not None:
        write_json(json_file, found.as_json())
    print_validation(paper_for_tables(), found)
    if found.missed:
        raise typer.Exit(UNREACHABLE)


@on_any_terminal()
def main() -> None:
    """Entry point: a user's mistake is one line and status 1, and nothing is a traceback (:mod:`ttc_sim.cli.ending`)."""
    if COMPLETION in os.environ:  # a shell asks what might come next
        typer.completion.completion_init()  # type: ignore[attr-defined]
        typer.main.get_command(app)(prog_name="ttc-sim")
    raise SystemExit(carry_out(typer.main.get_command(app), sys.argv[1:]))
