"""What is a predictor worth: are its probabilities true, and what do they bring as a router?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.measured.problem_sets import ProblemSet
from ttc_sim.measured.profiles import load_profile
from ttc_sim.predictor.judging.metrics import Bootstrap, quality
from ttc_sim.predictor.judging.report import ModelReport, Report, RouterReport
from ttc_sim.predictor.judging.routing import SHARES, Routing
from ttc_sim.reporting.plots.style import (
    COLORS,
    INK,
    MIDDLE,
    SOFT,
    Beside,
    as_numbers,
    as_percent,
    drawn_in,
    figure_of,
    fitted,
    legend_under,
    logarithmic,
    look,
    named,
    others,
    tidy,
    titled,
    write_beside,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttc_sim.optimizer.routers import RouterInScenario

_MOST_MODELS = 8
_RESAMPLES = 200
_NAMES = {
    "constant_per_category": "constant per category",
    "prompt_length": "prompt length",
    "tfidf_logistic": "TF-IDF + logistic",
    "nearest_neighbours": "nearest neighbours",
}


def plot_report(report: Report, in_scenario: RouterInScenario | None = None) -> Figure:
    """Reliability, the router's curve beside the baselines' and, in a scenario, accuracy and latency over dollars."""
    count = 1 + (report.router is not None) + 2 * (in_scenario is not None)
    columns, rows = min(count, 2), -(-count // 2)
    figure, axes = figure_of(columns, 8.0 if count == 1 else 12.4, 5.0 if count == 1 else 4.4 * rows, rows, count)
    beside: list[tuple[Axes, list[Beside]]] = []
    _reliability(axes[0], report)
    if report.router is not None:
        routers = {name: found.router for name, found in report.baselines.items() if found.router is not None}
        beside.append((axes[1], _router(axes[1], report.router, routers)))
    if in_scenario is not None:
        beside.append((axes[-2], _dollars(axes[-2], in_scenario)))
        _seconds(axes[-1], in_scenario)
    for one in axes:
        tidy(one)
    taken = [legend_under(one) for one in axes]
    # A row of panels is as high as the longest legend in it.
    more = sum(max(taken[k : k + columns]) for k in range(0, count, columns))
    figure.set_figheight(figure.get_figheight() + more)
    fitted(figure)
    for one, labels in beside:
        write_beside(one, labels, covers=drawn_in(one))
    return figure


def plot_scores(problems: ProblemSet) -> Figure:
    """Reliability of the chances that a problem set is scored with, for each profile that is found by name and has one.

    Raises:
        InputError: no such chances.
    """
    models = {}
    for name in (column.removeprefix("p:") for column in problems.problems.columns if column.startswith("p:")):
        try:
            attempts = load_profile(name).attempts
        except InputError:
            continue
        rates = attempts.group_by("problem").agg(pl.col("correct").cast(pl.Float64).mean().alias("right"))
        both = problems.problems.join(rates, on="problem").drop_nulls(f"p:{name}")
        if len(both):
            groups = both["group"].rank("dense").to_numpy().astype(np.int64) - 1
            chance, right = (both[column].to_numpy().astype(np.float64) for column in (f"p:{name}", "right"))
            models[name] = ModelReport(quality(chance, right, Bootstrap(groups, _RESAMPLES)), f"p:{name}", "", {})
    if not models:
        raise InputError(
            problems.name, "problems", problems.problems.columns, "chances of profiles to be right, as p:PROFILE"
        )
    return plot_report(Report(problems.name, len(problems.problems), "task types", models, {}, None, ()))


def _reliability(axes: Axes, report: Report) -> None:
    """Share right over predicted probability, a line a model; intervals where there are few enough models to tell apart."""
    router = report.router
    shown = [router.weak, router.strong] if router is not None else []
    shown += [name for name in report.models if name not in shown]
    known = [name for name in shown if name in report.models]
    shown = known[: 2 if router is not None else _MOST_MODELS]
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1.2, linestyle="--", label="perfectly calibrated")
    for k, name in enumerate(shown):
        found = report.models[name].quality
        x = [one.predicted for one in found.reliability]
        y = np.array([one.right.value for one in found.reliability])
        low, high = (np.array([getattr(one.right, end) for one in found.reliability]) for end in ("low", "high"))
        label = f"{named(name)} (calibration error {found.calibration_error.value:.3f})"
        axes.plot(x, y, **look(k).line, label=label)
        if len(shown) <= 3:
            axes.errorbar(x, y, yerr=[y - low, high - y], fmt="none", ecolor=look(k).color, capsize=2, elinewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="predicted chance to be right (%)", ylabel="share that was right (%)")
    left_out = len(known) - len(shown)
    titled(axes, "Reliability" + (f" (without {others(left_out, 'model')})" if left_out else ""))
    as_percent(axes.xaxis)
    as_percent(axes.yaxis)


def _router(axes: Axes, report: RouterReport, baselines: Mapping[str, Routing]) -> list[Beside]:
    found = report.routing
    axes.plot(SHARES, found.oracle, color=INK, lw=1.4, linestyle=":", label="oracle")
    axes.plot(SHARES, found.accuracy, color=COLORS[0], lw=2.6, label=f"predictor (APGR {found.apgr.value:.3f})")
    for k, (name, other) in enumerate(baselines.items(), 1):
        axes.plot(
            SHARES,
            other.accuracy,
            **{**look(k).line, "linewidth": 1.1, "markersize": 4},
            markevery=0.17,
            label=f"{_NAMES[name]} ({other.apgr.value:.3f})",
        )
    ends = [found.weak.value, found.strong.value]
    axes.plot([0, 1], ends, color=SOFT, lw=1.2, linestyle="--", label="drawing lots (0.500)")
    labels = []
    for part, cpt in ((0.5, found.cpt50), (0.8, found.cpt80)):
        height = ends[0] + part * (ends[1] - ends[0])
        axes.plot([cpt.value], [height], color=COLORS[0], marker="o", ms=7, markeredgecolor=INK)
        labels.append(Beside(cpt.value, height, f"{part:.0%} of the gain at {cpt.value:.0%}", MIDDLE))
    axes.set(xlim=(0, 1), xlabel="share of calls to the strong model (%)", ylabel="accuracy (%)")
    titled(axes, f"Router: {named(report.weak, 24)} or {named(report.strong, 24)}")
    as_percent(axes.xaxis)
    as_percent(axes.yaxis)
    return labels


def _dollars(axes: Axes, in_scenario: RouterInScenario) -> list[Beside]:
    curve = in_scenario.curve
    if curve is not None:
        axes.plot(1000 * curve[:, 4], curve[:, 3], color=INK, lw=1.4, linestyle=":", label="oracle, expected")
        axes.plot(1000 * curve[:, 2], curve[:, 1], color=COLORS[0], lw=1.4, label="router, expected")
    points = in_scenario.points
    x = [1000 * point.cost_usd_per_request.value for point in points]
    y = np.array([point.accuracy.value for point in points])
    spread = [[value - point.accuracy.low for value, point in zip(y, points, strict=True)]]
    spread += [[point.accuracy.high - value for value, point in zip(y, points, strict=True)]]
    axes.errorbar(
        x,
        y,
        yerr=spread,
        color=COLORS[0],
        marker="o",
        ms=5,
        capsize=2,
        lw=0 if curve is not None else 1,
        elinewidth=1,
        label="router, simulated (95%)",
    )
    axes.set(xlabel="cost ($ per 1,000 requests)", ylabel="accuracy (%)")
    titled(axes, f"{named(in_scenario.scenario)}: dollars (at marks: strong calls)")
    as_percent(axes.yaxis)
    as_numbers(axes.xaxis)
    return [
        Beside(at, float(value), f"{point.strong_share:.0%}", MIDDLE)
        for at, value, point in zip(x, y, points, strict=True)
    ]


def _seconds(axes: Axes, in_scenario: RouterInScenario) -> None:
    x = [1000 * point.cost_usd_per_request.value for point in in_scenario.points]
    for k, (name, label) in enumerate((("latency_p50_s", "median"), ("latency_p95_s", "95th percentile"))):
        found = [getattr(point, name) for point in in_scenario.points]
        y = np.array([one.value for one in found])
        spread = [y - [one.low for one in found], [one.high for one in found] - y]
        axes.errorbar(x, y, yerr=np.maximum(spread, 0), **look(k + 1).line, capsize=2, label=label)
    axes.set(xlabel="cost ($ per 1,000 requests)", ylabel="latency (s)")
    titled(axes, "Seconds (95% intervals)")
    logarithmic(axes.yaxis)
    as_numbers(axes.xaxis)


__all__ = ["plot_report", "plot_scores"]
