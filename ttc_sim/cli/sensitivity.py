"""``ttc-sim sensitivity``: which assumption moves a plan most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttc_sim.cli.options import (
    AllowCodeOption,
    JsonOption,
    PredictorOption,
    RememberCodeOption,
    ScenarioOrPlanArgument,
    consent,
    inputs_of,
    scenario_routed_by,
)
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, write_results

_MOST_USEFUL = 8  # processes: there are about that many assumptions that take long


def sensitivity(
    plan: ScenarioOrPlanArgument,
    figure: Annotated[
        str | None,
        typer.Option(
            help="Sort by this one: cost, accuracy, latency_p95, ...; what the plan makes best of if left out."
        ),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range", metavar="NAME=LOW..HIGH", help="Other ends for an assumption. May be given several times."
        ),
    ] = None,
    sobol: Annotated[
        int | None, typer.Option(help="Vary all at once too, by so many points of a Sobol sequence: a power of two.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the worlds of --sobol to this Parquet file. What is finished stands in OUT.journal until all is; after "
            "an interruption the same command goes on."
        ),
    ] = None,
    predictor: PredictorOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the scenario's.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Requests of each run instead of the scenario's.")] = None,
    replications: Annotated[int | None, typer.Option(min=1, help="Independent runs instead of the scenario's.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes that share the work out; they change no figure. As many as CPUs if left out."
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Write one row per assumption, end and figure to this Parquet, CSV or JSONL file."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a tornado to this file: PNG, SVG or PDF.")] = None,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Print which assumption moves a plan, or a scenario with a policy, most, and where its targets break.

    Each is taken to both ends of a range in which it may well lie, all others as they stand and on the same random numbers.
    Differences from the plan stand with their paired 95% intervals, the largest first. Targets hold until some value on the
    way to an end; it is found by bisection, as far as they break in one direction.

    --range NAME=LOW..HIGH: factors for traffic, burstiness, lengths, thinking, prices, gpu-prices, first-token, per-token,
    step-time, rate-limits, verifier (how far its scores of right and wrong answers lie apart) and mix:SOURCE (odds), such as
    traffic=0.5..3 or prices=-30%..+10%; numbers for predictor-noise (0 to 1, what is left of the correlation) and
    predictor-drift (log-odds). What problems leave open is known from those that were measured, and has no range. What does
    not apply to the plan is said.

    --sobol N varies all at once: shares of the figure's variance that go with each alone, and with others. It needs SALib
    (pip install 'ttc-sim[sensitivity]') and simulates N times the number of assumptions plus two.
    """
    from ttc_sim.assumptions import sensitivity as run
    from ttc_sim.assumptions.asked import ranges_of
    from ttc_sim.base.workers import cpus
    from ttc_sim.reporting.sensitivity import print_sensitivity

    asked = ranges_of(ranges or [])
    allowed = consent(allow_code, remember_code)
    loaded = scenario_routed_by(plan, predictor, allowed, True)
    check_outputs(*inputs_of(loaded), Path(plan), results=out, table=table, plot=plot, json=json_file)
    with progress() as say:
        found = run(
            loaded,
            figure=figure,
            ranges=asked,
            sobol=sobol,
            out=out,
            seed=seed,
            requests=requests,
            replications=replications,
            workers=workers or min(cpus(), _MOST_USEFUL),
            progress=say,
            allow_code=allowed,
        )
    write_results(found, table=table, json_file=json_file, plot=plot)
    print_sensitivity(paper_for_tables(), found)
