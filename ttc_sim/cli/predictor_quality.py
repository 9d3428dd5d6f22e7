"""``ttc-sim predictor evaluate`` and ``check``: what a predictor is worth, and whether it still is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from ttc_sim.base.figures import dollars_of, number, percent, percent_of, seconds
from ttc_sim.base.limits import MOST_SEED
from ttc_sim.cli import completing
from ttc_sim.cli.ending import UNREACHABLE
from ttc_sim.cli.options import AllowCodeOption, JsonOption, RememberCodeOption, consent, inputs_of
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, write_json, written_together
from ttc_sim.policies import NOVEL

if TYPE_CHECKING:
    from ttc_sim.base.estimates import Estimate
    from ttc_sim.optimizer.routers import RouterInScenario
    from ttc_sim.predictor.judging.drift import Drift
    from ttc_sim.predictor.judging.report import Report
    from ttc_sim.reporting.paper import Paper

_SHORT = {
    "constant_per_category": "category",
    "prompt_length": "length",
    "tfidf_logistic": "TF-IDF",
    "nearest_neighbours": "k-NN",
}

ModelOption = Annotated[
    Path | None,
    typer.Option(
        help="Predictor's ONNX file, or fast or encoder of the shipped ones; fast if left out.",
        autocompletion=completing.predictors,
    ),
]


def evaluate(
    problems: Annotated[Path, typer.Option(help="Table of problems with prompts (Parquet, CSV or JSONL).")],
    attempts: Annotated[Path, typer.Option(help="Table of the models' attempts on them; may be the same file.")],
    model: ModelOption = None,
    weak: Annotated[str | None, typer.Option(help="Route between this model ...")] = None,
    strong: Annotated[str | None, typer.Option(help="... and this stronger one.")] = None,
    scenario: Annotated[
        str | None, typer.Option(help="Scenario with an arm for each: the router in dollars and seconds.")
    ] = None,
    out_of_fold: Annotated[
        bool, typer.Option(help="Read the shipped problems' scores, each by a model that has not seen it.")
    ] = False,
    subset: Annotated[str | None, typer.Option(help="Only problems of this dataset.")] = None,
    cluster: Annotated[
        Literal["group", "problem"] | None,
        typer.Option(help="What intervals resample; task types where the table names them, else problems."),
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="Show cheap baselines beside it, cross-validated on this data.")
    ] = True,
    folds_by: Annotated[
        Literal["text", "group"], typer.Option(help="Folds of the baselines: by text, or whole task types.")
    ] = "text",
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Resamples behind the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of resamples and folds.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw reliability and the router's curves to this file: PNG, SVG or PDF.")
    ] = None,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """What a predictor is worth on measured problems: as a forecaster, as a router, in dollars and in seconds."""
    from ttc_sim.base.errors import InputError
    from ttc_sim.predictor.judging.evaluate import evaluate_predictor
    from ttc_sim.predictor.judging.shipped import shipped_scores

    if scenario is not None and weak is None:
        raise InputError("evaluate", "--scenario", scenario, "--weak and --strong beside it: models to route between")
    loaded = None
    if scenario is not None:
        from ttc_sim.scenario import load_scenario

        loaded = load_scenario(scenario, allow_code=consent(allow_code, remember_code))
    read = [] if loaded is None else inputs_of(loaded)
    check_outputs(problems, attempts, model, *read, plot=plot, json=json_file)
    with progress() as say:
        report = evaluate_predictor(
            problems,
            attempts,
            model=model,
            weak=weak,
            strong=strong,
            out_of_fold=out_of_fold,
            subset=subset,
            cluster=cluster,
            with_baselines=baselines,
            folds_by=folds_by,
            resamples=resamples,
            seed=seed,
            progress=say,
        )
        in_scenario = None
        if loaded is not None and weak is not None and strong is not None:
            from ttc_sim.optimizer.routers import route_in_scenario

            scores = shipped_scores(model) if out_of_fold else None
            in_scenario = route_in_scenario(
                loaded, problems, attempts, weak, strong, predictor=model, scores=scores, progress=say
            )
    with written_together():
        if json_file is not None:
            beside = None if in_scenario is None else in_scenario.as_json()
            write_json(json_file, {**report.as_json(), "scenario": beside})
        if plot is not None:
            from ttc_sim.reporting.plots import plot_report

            plot_report(report, in_scenario).savefig(plot, dpi=150)
    paper = paper_for_tables()
    _print_report(paper, report)
    if in_scenario is not None:
        _print_router_in_scenario(paper, in_scenario)
        if subset is not None:
            paper.say(f"- the scenario's own sources say which problems it takes, not --subset {subset}")


def check(
    logs: Annotated[list[Path], typer.Argument(help="Recent logs with prompts and, where known, model and correct.")],
    reference: Annotated[
        str | None,
        typer.Option(
            help="Earlier log or scores (a file), or a shipped problem set. If left out, all of these; with --model, its card."
        ),
    ] = None,
    model: ModelOption = None,
    alpha: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Chance of a false alarm, over all comparisons.")
    ] = 0.05,
    json_file: JsonOption = None,
) -> None:
    """Whether scores or calibration have moved on recent logs; exit status 2 if they have."""
    from ttc_sim.predictor.judging.drift import check_drift

    check_outputs(*logs, reference, model, json=json_file)
    drift = check_drift(logs, reference=reference, model=model, alpha=alpha)
    if json_file is not None:
        write_json(json_file, drift.as_json())
    _print_drift(paper_for_tables(), drift)
    if drift.moved:
        raise typer.Exit(UNREACHABLE)


def _print_drift(paper: Paper, drift: Drift) -> None:
    title = f"{drift.prompts:,} recent prompts beside {drift.origin}"
    table = Table(
        title=title + (f" ({drift.reference_prompts:,})" if drift.reference_prompts else ""), header_style="bold"
    )
    for name in ("", "of", "reference", "now", "PSI", "p", "p, corrected"):
        table.add_column(name, justify="left" if name in ("", "of") else "right")
    for test in drift.tests:
        table.add_row(
            test.what,
            test.of,
            f"{test.reference:.3f}",
            f"{test.now:.3f}",
            "" if test.psi is None else f"{test.psi:.3f}",
            f"{test.p_value:.2g}",
            f"{test.adjusted:.2g}" + (" moved" if test.adjusted < drift.alpha else ""),
        )
    paper.print(table)
    for model, found in drift.now.items():
        before = drift.reference.get(model)
        parts = [
            f"{label} {_shown(getattr(found, name))}"
            + ("" if before is None else f", was {getattr(before, name).value:.3f}")
            for name, label in (("auroc", "AUROC"), ("brier", "Brier"), ("calibration_error", "calibration error"))
        ]
        paper.say(f"- {model}: {'; '.join(parts)}", "dim")
    paper.say(
        "- scores: mean, by the Kolmogorov-Smirnov test; PSI under 0.1 is small, over 0.25 large. Calibration in the large: "
        "intercept in logits (0 is perfect); slope: 1 is perfect",
        "dim",
    )
    for note in drift.notes:
        paper.say(f"- {note}", "dim")
    paper.say(drift.verdict, "bold")


def _print_report(paper: Paper, report: Report) -> None:
    table = Table(title=f"{report.predictor}: {report.problems:,} problems", header_style="bold")
    for name in ("model", "problems", "AUROC", "Brier", "constant's", "ECE"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=name != "model", overflow="fold")
    for name, one in report.models.items():
        found = one.quality
        cells = [found.auroc, found.brier, found.brier_constant, found.calibration_error]
        row = [name, f"{found.problems:,}", *(_shown(cell) for cell in cells)]
        table.add_row(*row)
    paper.print(table)
    if any(one.by_novelty is not None for one in report.models.values()):
        paper.print(_by_novelty(report))
    if report.baselines:
        table = Table(
            title="beside cheap baselines: AUROC, and what the predictor gains on the best", header_style="bold"
        )
        table.add_column("model", overflow="fold")
        for name in (*(_SHORT[name] for name in report.baselines), "predictor", "gain"):
            table.add_column(name, justify="right", no_wrap=True)
        for name in report.models:
            table.add_row(name, *_beside_baselines(report, name))
        paper.print(table)
    if report.router is not None:
        router = report.router
        table = Table(
            title=f"router between {router.weak} ({router.routing.weak.value:.1%}) and {router.strong} "
            f"({router.routing.strong.value:.1%}), {router.problems:,} problems",
            header_style="bold",
        )
        for name in ("", "APGR", "CPT(50%)", "CPT(80%)", "gap to the oracle"):
            table.add_column(name, justify="right" if name else "left")
        others = {name.replace("_", " "): found.router for name, found in report.baselines.items()}
        for name, one_router in {"predictor": router.routing, **others}.items():
            if one_router is not None:
                cells = [one_router.apgr, one_router.cpt50, one_router.cpt80, one_router.oracle_gap]
                table.add_row(name, *(_shown(cell) for cell in cells))
        paper.print(table)
        paper.say(f"- routed by {router.score}; a router that draws lots has APGR 0.5", "dim")
    paper.say(f"- 95% intervals resample {report.resampled}", "dim")
    for note in report.notes:
        paper.say(f"- {note}", "dim")


def _by_novelty(report: Report) -> Table:
    """Brier score and the constant's on prompts like and unlike those trained on."""
    table = Table(title=f"familiar prompts, and novel ones (novelty of at least {NOVEL:g})", header_style="bold")
    for name in ("model", "familiar", "Brier", "constant's", "novel", "Brier", "constant's"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=name != "model", overflow="fold")
    for name, one in report.models.items():
        row = [name]
        for part in (one.by_novelty or {}).values():
            few = math.isnan(part.brier.value)
            row += [f"{part.problems:,}", *("too few" if few else _shown(x) for x in (part.brier, part.brier_constant))]
        table.add_row(*row)
    return table


def _beside_baselines(report: Report, model: str) -> list[str]:
    """AUROC of each baseline and of the predictor, and the predictor's gain on the best of them."""
    found = {name: one.models[model].auroc.value for name, one in report.baselines.items()}
    one = report.models[model]
    gain = one.auroc_gain[max(found, key=lambda key: found[key])]
    figures = [f"{value:.3f}" for value in (*found.values(), one.quality.auroc.value)]
    return [*figures, f"{gain.value:+.3f} ({gain.low:+.3f}, {gain.high:+.3f})"]


def _print_router_in_scenario(paper: Paper, in_scenario: RouterInScenario) -> None:
    table = Table(
        title=f"{in_scenario.scenario}: below the threshold {in_scenario.weak_arm}, above it {in_scenario.strong_arm}",
        header_style="bold",
    )
    for name in ("strong calls", "accuracy", "$ / 1k requests", "p50 s", "p95 s"):
        table.add_column(name, justify="right")
    for point in in_scenario.points:
        table.add_row(
            percent(point.strong_share, 0),
            percent_of(point.accuracy),
            dollars_of(point.cost_usd_per_request, 1000),
            seconds(point.latency_p50_s.value),
            seconds(point.latency_p95_s.value),
        )
    paper.print(table)
    for part, usd in in_scenario.usd_at_pgr.items():
        paper.say(
            f"- {part.removeprefix('pgr')}% of the gap is recovered at ${number(1000 * usd, 3)} / 1k requests", "dim"
        )
    for note in in_scenario.notes:
        paper.say(f"- {note}", "dim")


def _shown(figure: Estimate) -> str:
    if math.isnan(figure.low):
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f}-{figure.high:.3f})"
