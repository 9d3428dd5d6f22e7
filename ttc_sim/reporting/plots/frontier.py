"""What do accuracy and cost cost each other, where on that line is the plan, and what is it compared with?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ttc_sim.base.estimates import Estimate
from ttc_sim.reporting.plots.style import (
    FAINT,
    INK,
    MIDDLE,
    SOFT,
    Beside,
    Look,
    as_numbers,
    as_percent,
    drawn_in,
    figure_of,
    fitted,
    height_of_rows,
    key_of_spread,
    legend_below,
    logarithmic,
    look,
    named,
    named_within,
    rows_of,
    sides,
    spread,
    tidy,
    titled,
    write_beside,
)
from ttc_sim.scenario.targets import percentile_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttc_sim.optimizer.plan import Plan
    from ttc_sim.simulation.summary import Summary

_PLAN = Look("#D55E00", "*", "-", "")
"""Of the plan alone."""
_AXES = {
    "accuracy": ("accuracy (%)", 1.0),
    "goodput": ("goodput (%)", 1.0),
    "cost_usd_per_request": ("cost ($ per 1,000 requests)", 1000.0),
}
_SHARES = ("accuracy", "goodput")


class _Row(NamedTuple):
    name: str
    drawn: Look
    summary: Summary


def _axis(name: str) -> tuple[str, float]:
    """What a figure is called on an axis, and what it is multiplied by there."""
    percentile = percentile_of(name)
    if percentile is None:
        return _AXES[name]
    time = {"latency": "latency", "ttft": "time to the first token", "tpot": "time for each further token"}[
        percentile[0]
    ]
    return f"{100 * percentile[1]:g}th percentile of the {time} (s)", 1.0


def _looks(names: Sequence[str]) -> list[Look]:
    """The plan's own for the first, and for the others all but its colour."""
    free = [one for one in (look(k) for k in range(2 * len(names) + 2)) if one.color != _PLAN.color]
    return [_PLAN, *free][: len(names)]


def plot_plan(plan: Plan) -> Figure:
    """What is traded, with the frontier and the baselines, and what each costs in latency: accuracy over cost or, of traffic
    without problems, the 95th percentile of latency over cost; the two figures of the frontier where one was asked for."""
    known = plan.predicted.accuracy is not None
    across, up = ("cost_usd_per_request", "accuracy" if known else "latency_p95_s")
    if plan.frontier:
        # Cost is drawn across, whichever was named first.
        across, up = sorted(plan.frontier[0].axes, key=lambda name: name != "cost_usd_per_request")
    summaries = {"plan": plan.predicted, **plan.baselines}
    rows = [
        _Row(name, drawn, one) for (name, one), drawn in zip(summaries.items(), _looks(list(summaries)), strict=True)
    ]
    figure, (left, right) = figure_of(2, 12.5, height_of_rows(len(rows), 4.6))
    asked = {} if plan.scenario.targets is None else {one.name: one.bound for one in plan.scenario.targets.asked()}
    numbers = _frontier(left, plan, across, up)
    points = _points(left, rows, across, up)
    _targets(left, asked, across, up)
    _traded(left, across, up)
    plain_title = (across, up) == ("cost_usd_per_request", "accuracy")
    titled(
        left, "Accuracy and cost" if plain_title else "What is traded" if known or plan.frontier else "Latency and cost"
    )
    _latencies(right, rows, asked.get("latency_p95_s"))
    named_lines = [one for axes in (left, right) for one in axes.get_legend_handles_labels()[0]]
    legend_below(figure, 6, [*named_lines, *key_of_spread()])
    fitted(figure)
    beside = [
        Beside(x, y, named_within(figure, row.name, 1.7), *((INK, "bold") if row.name == "plan" else (MIDDLE,)))
        for row, (x, y) in points
    ]
    # Names first: numbers of the frontier may be left out, and stand in its table.
    write_beside(left, [*beside, *numbers], covers=drawn_in(left), over_lines=len(beside))
    return figure


def _frontier(axes: Axes, plan: Plan, across: str, up: str) -> list[Beside]:
    """The line, and the points' numbers."""
    if not plan.frontier:
        return []
    (_, times), (_, times_up) = _axis(across), _axis(up)
    pairs = [(point.figures[across], point.figures[up]) for point in plan.frontier]
    x, y = [times * one.value for one, _ in pairs], [times_up * one.value for _, one in pairs]
    axes.errorbar(
        x,
        y,
        xerr=np.concatenate([np.array(sides(one, times)) for one, _ in pairs], axis=1),
        yerr=np.concatenate([np.array(sides(one, times_up)) for _, one in pairs], axis=1),
        color=SOFT,
        ecolor=FAINT,
        elinewidth=0.8,
        linewidth=1.6,
        marker=".",
        markersize=6,
        label="frontier, by the numbers of its points",
        zorder=1.5,
    )
    return [Beside(x[k], y[k], str(k + 1), SOFT) for k in range(len(pairs))]


def _points(axes: Axes, rows: Sequence[_Row], across: str, up: str) -> list[tuple[_Row, tuple[float, float]]]:
    """Plan and baselines with their intervals, as far as both figures are known; where they stand."""
    (_, times), (_, times_up) = _axis(across), _axis(up)
    found = []
    for row in rows:
        one, other = row.summary.quantity(across), row.summary.quantity(up)
        if one is None or other is None or not np.isfinite([one.value, other.value]).all():
            continue
        place = times * one.value, times_up * other.value
        axes.errorbar(
            *place,
            xerr=sides(one, times),
            yerr=sides(other, times_up),
            linestyle="",
            **row.drawn.point,
            markersize=15 if row.drawn is _PLAN else 7,
            markeredgecolor=INK if row.drawn is _PLAN else row.drawn.color,
            markeredgewidth=0.9,
            elinewidth=1.0,
            zorder=3 if row.drawn is _PLAN else 2,
        )
        found.append((row, place))
    return found


def _targets(axes: Axes, asked: Mapping[str, float], across: str, up: str) -> None:
    for name, line, style in ((up, axes.axhline, ":"), (across, axes.axvline, "--")):
        if name in asked:
            label, times = _axis(name)
            said = {"accuracy": "accuracy", "cost_usd_per_request": "cost", "latency_p95_s": "p95"}.get(name, label)
            line(times * asked[name], color=INK, linestyle=style, linewidth=1.2, label=f"{said} target")


def _traded(axes: Axes, across: str, up: str) -> None:
    axes.set(xlabel=_axis(across)[0], ylabel=f"{_axis(up)[0]}, 95% intervals")
    axes.margins(0.08)
    for name, axis in ((across, axes.xaxis), (up, axes.yaxis)):
        if name in _SHARES:
            as_percent(axis)
        elif percentile_of(name) is not None:
            logarithmic(axis)  # baselines may take many times as long
        else:
            as_numbers(axis, 6)
    tidy(axes)


def _latencies(axes: Axes, rows: Sequence[_Row], target: float | None) -> None:
    """Median, 95th percentile with its interval, and 99th, a row each; marks and colours are those beside."""
    seen = []
    for k, row in enumerate(rows):
        p50, p95, p99 = (row.summary.latency_s[q] for q in ("p50", "p95", "p99"))
        if not np.isfinite(p95.value):
            continue
        spread(axes, k, [p50.value, p95.value, p99.value], row.drawn, p95, 12.0 if row.drawn is _PLAN else 6.5)
        seen += [p50.value, p99.value]
    if target is not None:
        axes.axvline(target, color=INK, linestyle="-.", linewidth=1.2, label="p95 target")
        seen.append(target)
    if seen and min(seen) > 0:
        axes.set_xlim(0.8 * min(seen), 1.25 * max(seen))
        logarithmic(axes.xaxis)
    rows_of(axes, [row.name for row in rows])
    axes.set_xlabel("time to the last token (s)")
    titled(axes, "Latency")
    tidy(axes)
    axes.grid(visible=False, axis="y")
    axes.get_yticklabels()[0].set_fontweight("bold")


def plot_comparison(rows: Mapping[str, Summary], highlight: str) -> Figure:
    """Accuracy over cost of several policies, with 95% intervals; of unknown accuracy the 95th percentile of latency.

    Args:
        rows: by name; highlight: the one that is drawn large.
    """
    figure, (axes,) = figure_of(1, 8, 3.6)
    known = all(summary.accuracy is not None for summary in rows.values())
    drawn: dict[tuple[Estimate, Estimate], list[str]] = {}
    for name, summary in rows.items():
        other = summary.accuracy if known else summary.latency_s["p95"]
        assert other is not None
        drawn.setdefault((summary.cost_usd_per_request.scaled(1000), other), []).append(name)
    first = sorted(drawn.items(), key=lambda pair: highlight not in pair[1])
    for ((cost, other), names), shown in zip(first, _looks([names[0] for _, names in first]), strict=True):
        axes.errorbar(
            cost.value,
            other.value,
            xerr=sides(cost),
            yerr=sides(other),
            linestyle="",
            **shown.point,
            markersize=14 if shown is _PLAN else 7,
            markeredgecolor=INK if shown is _PLAN else shown.color,
            markeredgewidth=0.9,
            linewidth=1.2,
            label=named(" = ".join(names), 60),
        )
    axes.set(
        xlabel="cost ($ per 1,000 requests)",
        ylabel="accuracy (%), 95% interval" if known else "95th percentile of the latency (s), 95% interval",
    )
    axes.set_xlim(left=0)
    as_numbers(axes.xaxis, 7)
    if known:
        as_percent(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
        as_numbers(axes.yaxis)
    tidy(axes)
    legend_below(figure)
    return fitted(figure)


__all__ = ["plot_comparison", "plot_plan"]
