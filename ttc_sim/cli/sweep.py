"""``ttc-sim sweep``: many variations of a scenario."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import dollars_of, percent_of, seconds_of
from ttc_sim.cli import completing
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
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, write_json

if TYPE_CHECKING:
    from ttc_sim.reporting.paper import Paper
    from ttc_sim.sweeping import Sweep

_SHOWN = 24  # points that are printed
_A_PROCESS = 16  # points that are worth one: it takes seconds to begin


def sweep(
    scenario: ScenarioOrPlanArgument,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            help="PATH=VALUE,VALUE,... such as workload.arrivals.rate_per_s=2,4,8. May be given several times: every value "
            "with every other.",
            autocompletion=completing.paths,
        ),
    ] = None,
    sobol: Annotated[
        int | None, typer.Option(help="So many points of a Sobol sequence within --range, best a power of two.")
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            help="PATH=LOW..HIGH, or PATH=LOW..HIGH:log, for --sobol. May be given several times.",
            autocompletion=completing.paths,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write a row per point to this Parquet file. What is finished stands in OUT.journal until all is; after an "
            "interruption the same command goes on."
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="local (processes of this machine), ray or dask: the figures are the same.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="HOST:PORT of a running cluster; without, one is begun on this machine.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Points simulated at a time; as many as there are CPUs if left out.")
    ] = None,
    requests: Annotated[int | None, typer.Option(help="Requests of each run instead of the scenario's.")] = None,
    predictor: PredictorOption = None,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Simulate many variations of a scenario, all on the same random numbers."""
    from ttc_sim.sweeping import sweep as run
    from ttc_sim.sweeping.varying import grid_of, ranges_of

    if bool(grid) == (sobol is not None):
        given = "both" if grid else "neither"
        raise InputError(
            "sweep", "--grid, --sobol", given, "--grid PATH=VALUES, or --sobol N with --range PATH=LOW..HIGH"
        )
    if (sobol is not None) != bool(ranges):
        expected = "--sobol N with it: how many points" if ranges else "--range PATH=LOW..HIGH with it"
        raise InputError("sweep", "--range" if ranges else "--sobol", ranges[0] if ranges else sobol, expected)
    by_value = grid_of(grid or [])
    allowed = consent(allow_code, remember_code)
    loaded = scenario_routed_by(scenario, predictor, allowed, True)
    check_outputs(*inputs_of(loaded), Path(scenario), results=out, json=json_file)
    if workers is None and backend == "local":
        workers = _as_many_as_pay(sobol or math.prod(len(values) for values in by_value.values()))
    with progress() as say:
        found = run(
            loaded,
            ranges_of(ranges) if ranges else by_value,
            points=sobol,
            requests=requests,
            out=out,
            backend=backend,
            address=address,
            workers=workers,
            progress=say,
            allow_code=allowed,
        )
    if json_file is not None:
        write_json(json_file, found.as_json())
    print_sweep(paper_for_tables(), found, out)


def _as_many_as_pay(points: int) -> int:
    from ttc_sim.base.workers import cpus

    return max(min(cpus(), points // _A_PROCESS), 1)


def print_sweep(paper: Paper, found: Sweep, out: Path | None) -> None:
    """The first points with their main figures, and what a reader must know."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    rows = found.table.head(_SHOWN).to_dicts()
    paths = found.varied
    for name in ("point", *paths, "accuracy (95%)", "$ / 1k requests", "p50 s", "p95 s", "unserved", ""):
        table.add_column(name, overflow="fold")
    for row in rows:
        said = [str(row["point"]), *(str(row[path]) for path in paths)]
        if row["error"] is not None:
            table.add_row(*said, "", "", "", "", "", "failed")
            continue
        accuracy = _estimate(row, "accuracy")
        table.add_row(
            *said,
            "unknown" if accuracy is None else percent_of(accuracy),
            *(dollars_of(one, 1000) for one in (_known(row, "cost_usd_per_request"),)),
            seconds_of(_known(row, "latency_p50_s")),
            seconds_of(_known(row, "latency_p95_s")),
            percent_of(_known(row, "unserved_rate")),
            "" if row["verdict"] == "stable" else str(row["verdict"]),
        )
    paper.print(table)
    if len(found.table) > len(rows):
        paper.say(f"the first {len(rows)} of {len(found.table):,} points")
    for note in found.notes:
        paper.say(f"- {note}")
    failed = found.failed
    if len(failed):
        first = failed["error"][0]
        paper.say(
            f"{len(failed):,} of {len(found.table):,} points could not be simulated; the first, {failed['point'][0]}: {first}"
        )
    if out is not None:
        paper.say(f"written to {out}: {len(found.table):,} rows, {len(found.table.columns)} columns", "dim")


def _estimate(row: dict[str, float | None], name: str) -> Estimate | None:
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    return None if value is None or low is None or high is None else Estimate(value, low, high)


def _known(row: dict[str, float | None], name: str) -> Estimate:
    return _estimate(row, name) or Estimate(float("nan"), float("nan"), float("nan"))
