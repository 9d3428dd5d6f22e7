"""``ttc-sim backtest``: predicted beside measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ttc_sim.cli.output import check_writable, console_for_tables, write_json
from ttc_sim.errors import InputError

_NAMES = {"ttft_s": "first token, s", "tpot_s": "per further token, s", "e2e_s": "end to end, s"}


def backtest(
    run: Annotated[Path | None, typer.Argument(help="Folder with requests.jsonl and meta.json of a vLLM run.")] = None,
    gpu_profile: Annotated[Path | None, typer.Option(help="Folder with times per layer of that model and GPU.")] = None,
    calibrate_on: Annotated[list[Path] | None, typer.Option(help="Another run of that server, to fit to.")] = None,
    experiments: Annotated[Path | None, typer.Option(help="File of multi-turn load experiments instead.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw predicted over measured to this PNG.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as JSON.")] = None,
) -> None:
    """Replay a measured run's arrivals and lengths, and put predicted beside measured times."""
    from ttc_sim import backtest as engine

    if (run is None) == (experiments is None):
        raise InputError("backtest", "RUN", None, "either the folder of a run or --experiments FILE")
    check_writable(plot, json_file)
    if experiments is not None:
        if gpu_profile is not None or calibrate_on or plot is not None:
            raise InputError("backtest", "--experiments", str(experiments), "no other option but --json")
        got = engine.backtest_experiments(experiments)
        _print_experiments(got)
    else:
        assert run is not None
        got = engine.backtest_run(run, gpu_profile, calibrate_on or [])
        _print_run(got)
        if plot is not None:
            from ttc_sim.plots import plot_backtest

            plot_backtest(got).savefig(plot, dpi=120)
    if json_file is not None:
        write_json(json_file, got)


def _print_run(got: dict[str, Any]) -> None:
    table = Table(title=f"{got['run']}: step time {got['step_time']}")
    for column in ("", "figure", "measured", "predicted", "error"):
        table.add_column(column, justify="left" if column in ("", "figure") else "right")
    for key, name in _NAMES.items():
        for figure, pair in got[key].items():
            table.add_row(
                name if figure == "mean" else "",
                figure,
                f"{pair['measured']:.4g}",
                f"{pair['predicted']:.4g}",
                f"{pair['error_percent']:+.1f}%",
            )
    console_for_tables().print(table)
    if got["fitted_step_time"] is not None:
        print("step_time: {" + ", ".join(f"{key}: {value:.4g}" for key, value in got["fitted_step_time"].items()) + "}")
    print(
        f"median error per request, end to end: {got['per_request_median_error_percent']:.2f}%; "
        f"{got['preemptions']} preemptions; {got['requests']} requests, {got['rejected']} rejected"
    )


def _print_experiments(got: dict[str, Any]) -> None:
    table = Table(title="mean times, ms: measured, predicted, error", caption=got["fitting"])
    for column in ("experiment", "model", "load", "end to end", "first token", "between tokens", "peers, end to end"):
        table.add_column(column)
    for one in got["experiments"]:
        peers = one["peer_percent_error_overall"]
        said = ", ".join(
            f"{name} {peer['e2e_mean']:+.0f}%" for name, peer in peers.items() if peer.get("e2e_mean") is not None
        )
        rows = {"overall": one["overall"], **one["stages"]}
        for load, figures in rows.items():
            cells = [
                f"{figures[key]['measured']:.5g}  {figures[key]['predicted']:.5g}  {figures[key]['error_percent']:+.1f}%"
                for key in ("e2e_mean", "ttft_mean", "itl_mean")
            ]
            first = load == "overall"
            table.add_row(
                str(one["id"]) if first else "", one["model"] if first else "", load, *cells, said if first else ""
            )
    console_for_tables().print(table)
    median = got["median_absolute_error_percent"]
    print(
        f"median absolute error: end to end {median['e2e_mean']:.1f}%, first token {median['ttft_mean']:.1f}%, "
        f"between tokens {median['itl_mean']:.1f}%"
    )
