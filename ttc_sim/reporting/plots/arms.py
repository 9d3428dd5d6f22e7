"""What does each arm come to: how long its requests take, what they cost, how many are right?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from ttc_sim.base.figures import percent
from ttc_sim.reporting.plots.style import (
    INK,
    SOFT,
    Look,
    as_percent,
    figure_of,
    fitted,
    height_of_rows,
    legend_below,
    logarithmic,
    look,
    named,
    others,
    rows_of,
    sides,
    tidy,
    titled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttc_sim.simulation.result import Result
    from ttc_sim.simulation.summary import Summary

MOST_CURVES = 8
"""Of more arms the rest are one curve: nobody follows thirty."""


def plot_result(result: Result) -> Figure:
    """Latency and cost of the requests of each arm, as shares of them, and its accuracy; the arm with the most requests first."""
    summary, records = result.summary(), result.records
    names = by_share(summary, records)
    figure, (left, middle, right) = figure_of(3, 13.5, height_of_rows(len(names), 3.9))
    _curves(left, middle, records, names)
    left.set(xlabel="latency (s)", ylabel="share of the arm's requests (%)")
    middle.set(xlabel="cost ($ per 1,000 requests)")
    for axes, title in ((left, "Latency"), (middle, "Cost")):
        logarithmic(axes.xaxis)
        as_percent(axes.yaxis)
        axes.set_ylim(0, 1.02)
        titled(axes, title)
    _accuracy(right, summary, names)
    for axes in (left, middle, right):
        tidy(axes)
    rows_of(right, names, extra=[f"  {percent(summary.per_arm[name].share)}" for name in names])
    legend_below(figure)
    return fitted(figure)


def by_share(summary: Summary, records: pl.DataFrame) -> list[str]:
    """Arms that requests were sent to, that with the most first."""
    sent = set(records["arm"].unique().to_list())
    return sorted(
        (name for name in summary.per_arm if name in sent), key=lambda name: (-summary.per_arm[name].share, name)
    )


def _curves(left: Axes, middle: Axes, records: pl.DataFrame, names: list[str]) -> None:
    shown = names if len(names) <= MOST_CURVES + 1 else names[:MOST_CURVES]
    rest = names[len(shown) :]
    groups: list[tuple[str, list[str], Look | None]] = [(named(name), [name], look(k)) for k, name in enumerate(shown)]
    groups += [(f"the {others(len(rest), 'arm')} together", rest, None)] if rest else []
    for label, members, drawn in groups:
        rows = records.filter(pl.col("arm").is_in(members))
        style: dict[str, Any] = {"color": SOFT, "linewidth": 2.5} if drawn is None else drawn.line
        for axes, column, times in ((left, "latency_s", 1.0), (middle, "cost_usd", 1000.0)):
            values = rows[column].drop_nulls().to_numpy() * times
            values = values[values > 0]
            if len(values):
                # Marks at a few places, as many on a long curve as on a short one.
                marks = (0.04 * (hash_of(label) % 5), 0.2)
                axes.ecdf(values, **style, markevery=marks, label=label if axes is left else None)


def hash_of(label: str) -> int:
    """The same number for the same name, in every process."""
    return sum(map(ord, label))


def _accuracy(axes: Axes, summary: Summary, names: list[str]) -> None:
    """Accuracy of each, or the share of requests where it is unknown."""
    parts = [summary.per_arm[name] for name in names]
    known = any(part.accuracy is not None for part in parts)
    for k, part in enumerate(parts):
        drawn = look(k) if k < MOST_CURVES or len(parts) == MOST_CURVES + 1 else Look(SOFT, "o", "-", "")
        if not known:
            axes.barh(k, part.share, color=drawn.color, height=0.6)
        elif part.accuracy is not None:
            axes.errorbar(
                part.accuracy.value,
                k,
                xerr=sides(part.accuracy),
                **drawn.point,
                markersize=6,
                ecolor=INK,
                elinewidth=1,
                capsize=3,
            )
    axes.set_xlim(0, 1)
    as_percent(axes.xaxis)
    axes.set_xlabel("accuracy (%), 95% interval" if known else "share of requests (%); accuracy is not known")
    titled(axes, "Accuracy, and share of requests" if known else "Share of requests")


__all__ = ["MOST_CURVES", "by_share", "plot_result"]
