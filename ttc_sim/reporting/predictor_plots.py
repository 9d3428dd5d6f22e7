"""Figures of what a predictor is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ttc_sim.predictor.judging.report import Report, RouterReport
from ttc_sim.predictor.judging.routing import SHARES, Routing
from ttc_sim.reporting.plots import COLORS, named, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttc_sim.optimizer.routers import RouterInScenario

_MOST_MODELS = 8
_NAMES = {
    "constant_per_category": "constant per category",
    "prompt_length": "prompt length",
    "tfidf_logistic": "TF-IDF + logistic",
    "nearest_neighbours": "nearest neighbours",
}


def plot_report(report: Report, in_scenario: RouterInScenario | None = None) -> Figure:
    """Reliability, the router's curve beside the baselines' and, in a scenario, accuracy and latency over dollars."""
    count = 1 + (report.router is not None) + 2 * (in_scenario is not None)
    figure, axes = _panels(count)
    _reliability(axes[0], report)
    if report.router is not None:
        routers = {name: found.router for name, found in report.baselines.items() if found.router is not None}
        _router(axes[1], report.router, routers)
    if in_scenario is not None:
        _dollars(axes[-2], in_scenario)
        _seconds(axes[-1], in_scenario)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Side by side up to two, else in two rows."""
    from ttc_sim.reporting.picture import Picture

    columns, rows = min(count, 2), -(-count // 2)
    figure = Picture(6.2 * columns, 5.2 * rows)
    return figure, [figure.add_subplot(rows, columns, k + 1) for k in range(count)]


def _reliability(axes: Axes, report: Report) -> None:
    """Share right over predicted probability, a line a model; intervals where there are few enough models to tell apart."""
    router = report.router
    shown = [router.weak, router.strong] if router is not None else []
    shown += [name for name in report.models if name not in shown]
    shown = [name for name in shown if name in report.models][: 2 if router is not None else _MOST_MODELS]
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--", label="perfectly calibrated")
    for color, name in zip(COLORS, shown, strict=False):
        found = report.models[name].quality
        x = [one.predicted for one in found.reliability]
        y = np.array([one.right.value for one in found.reliability])
        low, high = (np.array([getattr(one.right, end) for one in found.reliability]) for end in ("low", "high"))
        label = f"{named(name)} (ECE {found.calibration_error.value:.3f})"
        if len(shown) <= 3:
            axes.errorbar(x, y, yerr=[y - low, high - y], color=color, marker="o", ms=4, capsize=2, lw=1, label=label)
        else:
            axes.plot(x, y, color=color, marker="o", ms=3, lw=1, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted chance to be right", ylabel="share right", title="Reliability")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    tidy(axes)


def _router(axes: Axes, report: RouterReport, others: Mapping[str, Routing]) -> None:
    found = report.routing
    axes.plot(SHARES, found.oracle, color="#000000", lw=1, linestyle=":", label="oracle")
    axes.plot(SHARES, found.accuracy, color=COLORS[0], lw=2.2, label=f"predictor (APGR {found.apgr.value:.3f})")
    for color, (name, other) in zip(COLORS[1:], others.items(), strict=False):
        axes.plot(SHARES, other.accuracy, color=color, lw=1, label=f"{_NAMES[name]} ({other.apgr.value:.3f})")
    ends = [found.weak.value, found.strong.value]
    axes.plot([0, 1], ends, color="#888888", lw=1, linestyle="--", label="drawing lots (0.500)")
    for part, cpt in ((0.5, found.cpt50), (0.8, found.cpt80)):
        height = ends[0] + part * (ends[1] - ends[0])
        axes.plot([cpt.value], [height], color=COLORS[0], marker="o", ms=6)
        axes.annotate(
            f"CPT({part:.0%}) {cpt.value:.0%}", (cpt.value, height), (8, -12), textcoords="offset points", fontsize=8
        )
    axes.set(
        xlim=(0, 1),
        xlabel="share of strong calls",
        ylabel="accuracy",
        title=f"Router: {named(report.weak)} / {named(report.strong)}",
    )
    axes.title.set_fontsize(10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    tidy(axes)


def _dollars(axes: Axes, in_scenario: RouterInScenario) -> None:
    if in_scenario.curve is not None:
        axes.plot(
            1000 * in_scenario.curve[:, 4],
            in_scenario.curve[:, 3],
            color="#000000",
            lw=1,
            linestyle=":",
            label="oracle, expected",
        )
        axes.plot(
            1000 * in_scenario.curve[:, 2], in_scenario.curve[:, 1], color=COLORS[0], lw=1, label="router, expected"
        )
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
        lw=0 if in_scenario.curve is not None else 1,
        elinewidth=1,
        label="router, simulated (95%)",
    )
    for at, value, point in zip(x, y, points, strict=True):
        axes.annotate(f"{point.strong_share:.0%}", (at, value), (5, -11), textcoords="offset points", fontsize=8)
    axes.set(
        xlabel="$ / 1,000 requests",
        ylabel="accuracy",
        title=f"{named(in_scenario.scenario)}: dollars (marks: strong calls)",
    )
    axes.title.set_fontsize(10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    tidy(axes)


def _seconds(axes: Axes, in_scenario: RouterInScenario) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    x = [1000 * point.cost_usd_per_request.value for point in in_scenario.points]
    for color, name, label in ((COLORS[2], "latency_p50_s", "p50"), (COLORS[1], "latency_p95_s", "p95")):
        found = [getattr(point, name) for point in in_scenario.points]
        y = np.array([one.value for one in found])
        spread = [y - [one.low for one in found], [one.high for one in found] - y]
        axes.errorbar(x, y, yerr=np.maximum(spread, 0), color=color, marker="o", ms=4, capsize=2, lw=1, label=label)
    axes.set(xlabel="$ / 1,000 requests", ylabel="latency (s)", yscale="log", title="Seconds (95%)")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.title.set_fontsize(10)
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)


__all__ = ["plot_report"]
