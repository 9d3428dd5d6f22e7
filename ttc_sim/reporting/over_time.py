"""A result over time: tables by interval, and one picture of the day."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from ttc_sim.base.figures import count, dollars, number, percent
from ttc_sim.reporting.paper import Paper
from ttc_sim.reporting.plots import COLORS, legend_below, named, tidy
from ttc_sim.simulation.over_time import PERCENTILES, OverTime

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HOUR_S = 3600
_MOST_ROWS = 400
_DAY_H = 24
_OF_SOURCES = ("#000000", "#E69F00", "#CC79A7", "#56B4E9", "#009E73")
_GREYS = {"p50": "#999999", "p95": "#444444", "p99": "#000000"}
_LINE: dict[str, Any] = {"linewidth": 1.6, "baseline": None}
_STYLES = {"p50": ":", "p95": "-", "p99": "--"}

# Heading, column, and how it is written.
_REQUESTS = {
    "arrivals": ("arrivals", lambda x: number(x, 0)),
    "TTFT p95 s": ("ttft_p95_s", lambda x: number(x, 2)),
    "per token p95 s": ("tpot_p95_s", lambda x: number(x, 3)),
    "p50 s": ("latency_p50_s", lambda x: number(x, 1)),
    "p95 s": ("latency_p95_s", lambda x: number(x, 1)),
    "timed out": ("timed_out", lambda x: number(x, 0)),
    "rejected": ("rejected", lambda x: number(x, 0)),
    "failed": ("failed", lambda x: number(x, 0)),
    "goodput": ("goodput", percent),
}
_BUDGETS = {name: (name, lambda x: number(x, 0)) for name in ("degraded", "queued", "refused")}
_SPENT = {"$ of the budget": ("spent_usd", dollars)}
_ATTEMPTS = {name: (name, lambda x: number(x, 0)) for name in ("errors", "retries", "fallbacks")}
_SERVERS = {
    "running": ("running", lambda x: number(x, 1)),
    "waiting": ("waiting", lambda x: number(x, 1)),
    "KV": ("kv_share", percent),
    "busy": ("utilisation", percent),
}
_REPLICAS = {
    "replicas": ("replicas", lambda x: number(x, 1)),
    "GPU-hours": ("provisioned_gpu_hours", lambda x: number(x, 1)),
}
_TOKENS = {"output tokens": ("output_tokens", count)}
_DOLLARS = {"$": ("usd", dollars)}


def print_over_time(console: Console, found: OverTime) -> None:
    """By interval: all requests, then by deployment and by source where there are several."""
    paper = Paper.of(console)
    title = "By hour" if found.interval_s == _HOUR_S else f"By {found.interval_s:g} s"
    replicas = _REPLICAS if _changing(found) else {}
    several = found.deployments["deployment"].n_unique() > 1
    if several:
        columns = {**_REQUESTS, **_BUDGETS, **_ATTEMPTS, **_SERVERS, **_TOKENS, **_DOLLARS, **_SPENT}
        paper.print(_table(title, found, found.all, columns))
        columns = {**_REQUESTS, **_SERVERS, **replicas, **_DOLLARS}
        paper.print(_table(f"{title} and deployment", found, found.deployments, columns, "deployment"))
    else:
        columns = {**_REQUESTS, **_BUDGETS, **_ATTEMPTS, **_SERVERS, **replicas, **_DOLLARS, **_SPENT}
        paper.print(_table(title, found, _with_spent(found), columns))
    if found.sources["source"].n_unique() > 1:
        columns = {**_REQUESTS, **_BUDGETS, **_TOKENS, **_DOLLARS, **_SPENT}
        paper.print(_table(f"{title} and source", found, found.sources, columns, "source"))
    last = found.all.tail(1)
    if last["partial"][0]:
        lasts_s = float(last["ends_s"][0] - last["begins_s"][0])
        paper.say(f"The last row is cut short: the run ends {number(lasts_s)} s into it.", "dim")


def _with_spent(found: OverTime) -> pl.DataFrame:
    """The rows of a single deployment, with what a budget counted, which stands with those of all."""
    if "spent_usd" not in found.all.columns:
        return found.deployments
    return found.deployments.with_columns(found.all["spent_usd"])


def _table(title: str, found: OverTime, rows: pl.DataFrame, columns: Mapping[str, Any], by: str = "") -> Table:
    """Of these columns those of which anything is known."""
    shown = {
        name: (column, written)
        for name, (column, written) in columns.items()
        if column in rows.columns and rows[column].null_count() < len(rows)
    }
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("from")
    if by:
        table.add_column(by)
    for name in shown:
        table.add_column(name, justify="right")
    left_out = len(rows) - _MOST_ROWS
    if left_out > 0:  # nobody reads them, and to lay them out takes minutes
        table.title = f"{title}: the first and the last {_MOST_ROWS // 2} of {count(len(rows))} rows; --json has all"
        rows = pl.concat([rows.head(_MOST_ROWS // 2), rows.tail(_MOST_ROWS // 2)])
    for at, row in enumerate(rows.iter_rows(named=True)):
        if left_out > 0 and at == _MOST_ROWS // 2:
            table.add_row("...")
        cells = ("-" if row[column] is None else written(row[column]) for column, written in shown.values())
        table.add_row(_at(row["begins_s"], found.interval_s), *([str(row[by])] if by else []), *cells)
    return table


def _at(at_s: float, interval_s: float) -> str:
    """Of the clock, as finely as intervals begin.

    >>> _at(5400.0, 3600.0), _at(90.0, 30.0), _at(0.5, 0.25)
    ('1:30', '0:01:30', '0.5 s')
    """
    if interval_s % 1:
        return f"{at_s:g} s"
    minutes, rest = divmod(round(at_s), 60)
    said = f"{minutes // 60}:{minutes % 60:02d}"
    return said if interval_s % 60 == 0 else f"{said}:{rest:02d}"


def plot_over_time(found: OverTime) -> Figure:
    """Arrivals, queue, what is running, KV cache, and percentiles of the times, over the hours of the run."""
    from matplotlib.ticker import MultipleLocator, PercentFormatter

    from ttc_sim.reporting.picture import Picture

    changing = _changing(found)
    figure = Picture(12, 11.2 if changing else 8.4)
    axes = [figure.add_subplot(4 if changing else 3, 2, k + 1) for k in range(8 if changing else 6)]
    arrivals, waiting, running, memory, first, latency, *rest = axes
    edges = np.append(found.all["begins_s"].to_numpy(), found.all["ends_s"][-1]) / _HOUR_S
    lasts_s = np.maximum(np.diff(edges) * _HOUR_S, 1e-12)
    sources, deployments = _by(found.sources, "source"), _by(found.deployments, "deployment")
    for k, (name, rows) in enumerate(sources.items()):
        color = _OF_SOURCES[k % len(_OF_SOURCES)]
        label = "arrivals" if len(sources) == 1 else f"arrivals of {named(name)}"
        arrivals.stairs(_values(rows, "arrivals") / lasts_s, edges, color=color, **_LINE, label=label)
    share = found.deployments["kv_share"].null_count() < len(found.deployments)
    for k, (name, rows) in enumerate(deployments.items()):
        color = COLORS[k % len(COLORS)]
        for one, column, unit in (
            (waiting, "waiting", 1.0),
            (running, "running", 1.0),
            (memory, "kv_share" if share else "kv_tokens", 1.0 if share else 1e-3),
        ):
            values = unit * _values(rows, column)
            one.stairs(values, edges, color=color, **_LINE, label=named(name) if one is running else None)
        for one, column in zip(rest, ("replicas", "utilisation"), strict=False):
            if name in changing:
                one.stairs(_values(rows, column), edges, color=color, **_LINE)
    for part in PERCENTILES:
        for one, name in ((first, "ttft"), (latency, "latency")):
            values = _values(found.all, f"{name}_{part}_s")
            style: dict[str, Any] = {"color": _GREYS[part], "linestyle": _STYLES[part], **_LINE}
            one.stairs(values, edges, **style, label=part if one is latency else None)
    arrivals.set(title="Requests that arrive, a second")
    waiting.set(title="Waiting, in the mean")
    running.set(title="Running, in the mean")
    memory.set(title="KV cache in use" if share else "KV cache in use, thousand tokens")
    if share:
        memory.yaxis.set_major_formatter(PercentFormatter(1))
    first.set(title="Time to first token, s")
    latency.set(title="Time to last token, s")
    for one in axes:
        tidy(one)
        one.set_xlim(edges[0], edges[-1])
        if _DAY_H <= edges[-1] - edges[0] <= 2 * _DAY_H:
            one.xaxis.set_major_locator(MultipleLocator(3 if edges[-1] < _DAY_H + 1 else 6))
        _from_zero(one, logarithmic=one in (first, latency))
    if rest:
        rest[0].set(title="Replicas provided, in the mean")
        rest[1].set(title="Share of the time provided that they are busy")
        rest[1].yaxis.set_major_formatter(PercentFormatter(1))
    for one in rest or (first, latency):
        one.set_xlabel("hours of the run")
    legend_below(figure, 5)
    return figure


def _changing(found: OverTime) -> set[str]:
    """Pools whose number of replicas is not the same in all intervals."""
    spread = found.deployments.group_by("deployment").agg(
        (pl.col("replicas").max() - pl.col("replicas").min()).alias("by"), pl.col("replicas").max().alias("most")
    )
    return set(spread.filter(pl.col("by") > 1e-9 * pl.col("most"))["deployment"].to_list())


def _by(rows: pl.DataFrame, column: str) -> dict[str, pl.DataFrame]:
    return {str(name): rows.filter(pl.col(column) == name) for name in rows[column].unique(maintain_order=True)}


def _values(rows: pl.DataFrame, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return rows[column].cast(pl.Float64).fill_null(math.nan).to_numpy()


def _from_zero(axes: Axes, *, logarithmic: bool) -> None:
    """From 0 up; logarithmic where an hour is so much slower than the others that those could not be read."""
    from matplotlib.patches import StepPatch

    drawn = np.concatenate([one.get_data()[0] for one in axes.patches if isinstance(one, StepPatch)])
    seen = drawn[np.isfinite(drawn) & (drawn > 0)]
    if logarithmic and len(seen) and seen.max() > 30 * seen.min():
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_yscale("log")
        # Powers of ten alone would leave a narrow range with a single number, which says nothing of the others.
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if seen.max() < 300 * seen.min() else (1.0,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    axes.set_ylim(0, float(seen.max(initial=0.0)) * 1.08 or 1.0)
