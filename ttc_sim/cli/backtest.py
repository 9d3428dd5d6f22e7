"""``ttc-sim backtest``: predicted beside measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ttc_sim.base.errors import InputError
from ttc_sim.base.figures import number, signed
from ttc_sim.cli import completing
from ttc_sim.cli.options import JsonOption
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, write_json, written_together

if TYPE_CHECKING:
    from ttc_sim.reporting.paper import Paper

FILES_OF_RUN = ("requests.jsonl", "meta.json")
_NAMES = {"ttft_s": "first token, s", "tpot_s": "per further token, s", "e2e_s": "end to end, s"}


def backtest(
    run: Annotated[Path | None, typer.Argument(help="Folder with requests.jsonl and meta.json of a vLLM run.")] = None,
    gpu_profile: Annotated[Path | None, typer.Option(help="Folder with times per layer of that model and GPU.")] = None,
    calibrate_on: Annotated[
        list[str] | None,
        typer.Option(help="Another run to fit to: RUN, or with --gpu-profile RUN=PROFILE of its own GPU."),
    ] = None,
    experiments: Annotated[Path | None, typer.Option(help="File of multi-turn load experiments instead.")] = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="GPU of the run, to predict it from the catalogue.", autocompletion=completing.gpus),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Of the weights, with --gpu: bf16, fp8, fp4 or int4.", autocompletion=completing.precisions),
    ] = None,
    silicon: Annotated[Path | None, typer.Option(help="File of measured operating points instead (CSV).")] = None,
    backend: Annotated[
        str | None, typer.Option(help="Its rows of vllm, sglang or trtllm only.", autocompletion=completing.backends)
    ] = None,
    operating_points: Annotated[
        Path | None, typer.Option(help="File of servers' measured times between tokens instead (CSV, as ML.ENERGY's).")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw predicted over measured to this file: PNG, SVG or PDF.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Replay a measured run's arrivals and lengths, and put predicted beside measured times."""
    from ttc_sim.fidelity.calibrating import split_calibration
    from ttc_sim.fidelity.experiments import backtest_experiments
    from ttc_sim.fidelity.runs import backtest_run

    if sum(given is not None for given in (run, experiments, silicon, operating_points)) != 1:
        expected = "the folder of a run, or one of --experiments FILE, --silicon FILE and --operating-points FILE"
        raise InputError("backtest", "RUN", None, expected)
    of_run = {"--gpu-profile": gpu_profile, "--calibrate-on": calibrate_on, "--gpu": gpu, "--plot": plot}
    files = ((experiments, "--json"), (silicon, "--backend and --json"), (operating_points, "--json"))
    for file, allowed in files:
        for option, value in of_run.items() if file is not None else ():
            if value:
                raise InputError("backtest", option, str(value), f"no other option than {allowed} beside the file")
    if backend is not None and silicon is None:
        raise InputError("backtest", "--backend", backend, "--silicon FILE, whose rows it picks")
    if precision is not None and gpu is None:
        raise InputError("backtest", "--precision", precision, "--gpu GPU, which it is for")
    others = [split_calibration(one)[0] for one in calibrate_on or []]
    read = [folder / name for folder in (run, *others) if folder is not None for name in FILES_OF_RUN]
    check_outputs(*read, experiments, silicon, operating_points, plot=plot, json=json_file)
    if silicon is not None:
        from ttc_sim.fidelity.operating_points import backtest_operating_points

        with progress() as say:
            got = backtest_operating_points(silicon, backend, say)
        show = _print_silicon
    elif operating_points is not None:
        from ttc_sim.fidelity.served_points import backtest_served_points

        with progress() as say:
            got = backtest_served_points(operating_points, say)
        show = _print_served
    elif experiments is not None:
        got = backtest_experiments(experiments)
        show = _print_experiments
    else:
        assert run is not None
        fitted = (gpu_profile, calibrate_on or [])
        got = backtest_run(run, *fitted) if gpu is None else backtest_run(run, gpu=gpu, precision=precision)
        if gpu is not None and any(fitted):
            got["beside"] = backtest_run(run, *fitted)
        show = _print_run
    with written_together():
        if plot is not None and got["requests"]:
            from ttc_sim.reporting.plots import plot_backtest

            plot_backtest(got).savefig(plot, dpi=120)
        if json_file is not None:
            write_json(json_file, got)
    paper = paper_for_tables()
    show(paper, got)
    if "beside" in got:
        show(paper, got["beside"])
    if plot is not None and not got["requests"]:
        paper.say(f"{plot} is not drawn: no request was completed")


def _print_run(paper: Paper, got: dict[str, Any]) -> None:
    table = Table(title=f"{got['run']}: step time {got['step_time']}")
    for column in ("", "figure", "measured", "predicted", "error"):
        table.add_column(column, justify="left" if column in ("", "figure") else "right")
    for key, name in _NAMES.items():
        if not got[key]:
            table.add_row(name, "none", "", "", "")
        for figure, pair in got[key].items():
            table.add_row(
                name if figure == "mean" else "",
                figure,
                f"{pair['measured']:.4g}",
                f"{pair['predicted']:.4g}",
                _percent(pair["error_percent"], signed),
            )
    paper.print(table)
    if got["fitted_step_time"] is not None:
        paper.say(
            "step_time: {" + ", ".join(f"{key}: {value:.4g}" for key, value in got["fitted_step_time"].items()) + "}"
        )
    paper.say(
        f"median error per request, end to end: {_percent(got['per_request_median_error_percent'], _error)}; "
        f"{got['preemptions']} preemptions; {got['requests']} requests, {got['rejected']} rejected"
    )
    for note in (*got["assumed"], *got["notes"]):
        paper.say(note)


def _percent(error: float | None, written: Callable[[float], str]) -> str:
    return "none" if error is None else f"{written(error)}%"


def _error(percent: float) -> str:
    return number(percent, 2)


def _print_experiments(paper: Paper, got: dict[str, Any]) -> None:
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
                f"{figures[key]['measured']:.5g}  {figures[key]['predicted']:.5g}  "
                + _percent(figures[key]["error_percent"], signed)
                for key in ("e2e_mean", "ttft_mean", "itl_mean")
            ]
            first = load == "overall"
            table.add_row(
                str(one["id"]) if first else "", one["model"] if first else "", load, *cells, said if first else ""
            )
    paper.print(table)
    median = got["median_absolute_error_percent"]
    paper.say(
        f"median absolute error: end to end {_percent(median['e2e_mean'], _error)}, "
        f"first token {_percent(median['ttft_mean'], _error)}, between tokens {_percent(median['itl_mean'], _error)}"
    )
    for one in got["experiments"]:
        if one["rejected"]:
            paper.say(f"{one['id']}: {one['rejected']:,} requests rejected, and in no figure")
        for note in one["notes"]:
            paper.say(f"{one['id']}: {note}")
    for one in got["excluded"]:
        paper.say(f"{one['id']} is in no figure and nothing is fitted to it: {one['reason']}")


def _print_silicon(paper: Paper, got: dict[str, Any]) -> None:
    table = Table(title="median absolute error of measured operating points")
    for column in ("model", "GPU", "rows", "first token", "per token", ""):
        table.add_column(column, justify="left" if column in ("model", "GPU", "") else "right")
    for one in got["by_model_gpu"]:
        median = one["median_absolute_error_percent"]
        doubt = "doubtful" if one["doubtful"] else ""
        table.add_row(
            one["model"], one["gpu"], str(one["rows"]), f"{median['ttft']:.1f}%", f"{median['tpot']:.1f}%", doubt
        )
    paper.print(table)
    for kind, name in (("dense", "dense models"), ("experts", "mixtures of experts")):
        if kind in got["held_out"]:
            held = got["held_out"][kind]
            paper.say(
                f"{name}, {held['rows']} rows that nothing was fitted to: per token {held['corrected']['tpot']:.1f}% "
                f"(uncorrected {held['uncorrected']['tpot']:.1f}%), first token {held['corrected']['ttft']:.1f}% "
                f"({held['uncorrected']['ttft']:.1f}%)"
            )
    median = got["median_absolute_error_percent"]
    if median is not None:
        paper.say(f"all {len(got['rows'])} rows: per token {median['tpot']:.1f}%, first token {median['ttft']:.1f}%")
    _print_refused(paper, got)


def _print_refused(paper: Paper, got: dict[str, Any]) -> None:
    reasons: dict[str, int] = {}
    for one in got["refused"]:
        reasons[one["reason"]] = reasons.get(one["reason"], 0) + 1
    for reason, count in reasons.items():
        paper.say(f"refused, {count} row{'s' if count > 1 else ''}: {reason}")


def _print_served(paper: Paper, got: dict[str, Any]) -> None:
    table = Table(title="median time between tokens: median absolute error, and error in the median")
    for column in ("model, or requests in progress", "GPU", "rows", "absolute", "error", ""):
        table.add_column(column, justify="right" if column in ("rows", "absolute", "error") else "left")
    for one in got["by_model_gpu"]:
        cells = (str(one["rows"]), f"{one['itl']:.1f}%", f"{signed(one['itl_median_error'])}%")
        table.add_row(one["model"], one["gpu"], *cells, "doubtful" if one["doubtful"] else "")
    table.add_section()
    for one in got["by_gpu_batch"]:
        cells = (str(one["rows"]), f"{one['itl']:.1f}%", f"{signed(one['itl_median_error'])}%")
        table.add_row(f"from {one['in_progress_from']} requests", one["gpu"], *cells, "")
    paper.print(table)
    for gpu, held in got["held_out"].items():
        paper.say(f"{gpu}, {held['rows']} rows that nothing may be fitted to: {held['itl']:.1f}%")
    median = got["median_absolute_error_percent"]
    if median is not None:
        paper.say(
            f"all {len(got['rows'])} rows: median time between tokens {median['itl']:.1f}%, mean {median['mean_itl']:.1f}%"
        )
    for said in (got["assumed"], *got["bases"]):
        if said:
            paper.say(said)
    _print_refused(paper, got)
