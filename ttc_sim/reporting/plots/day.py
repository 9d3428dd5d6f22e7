"""What happens over the day: what arrives, waits and runs, how full the KV cache is, and how long requests take?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ttc_sim.reporting.plots.style import (
    INK,
    MIDDLE,
    SOFT,
    Look,
    as_numbers,
    as_percent,
    figure_of,
    fitted,
    legend_below,
    logarithmic,
    look,
    named,
    others,
    tidy,
    time_unit,
    titled,
)
from ttc_sim.simulation.over_time import PERCENTILES, OverTime

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttc_sim.simulation.result import Result

_DAY_S = 86400.0
_MOST = 8
_INTERVALS = 48
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_GREYS = {"p50": SOFT, "p95": MIDDLE, "p99": INK}
_STYLES = {"p50": ":", "p95": "-", "p99": "--"}
_LATENCIES = {"p50": "median", "p95": "95th percentile", "p99": "99th percentile"}


def plot_day(result: Result) -> Figure:
    """:func:`plot_over_time` in some fifty intervals, or in hours where there are more of them."""
    lasts_s = max(float(run.result.finished_s.max()) for run in result.runs)
    interval_s = next((step for step in _STEPS_S if lasts_s / step <= _INTERVALS), _STEPS_S[-1])
    return plot_over_time(result.tables_over_time(float(interval_s)))


def plot_over_time(found: OverTime) -> Figure:
    """Arrivals, queue, what is running, KV cache, and percentiles of the times, over the run; replicas too where they change."""
    changing = found.changing_pools
    rows = 4 if changing else 3
    figure, axes = figure_of(2, 12, 2.55 * rows + 0.6, rows=rows)
    arrivals, waiting, running, memory, first, latency, *rest = axes
    ends_s = float(found.all["ends_s"][-1])
    unit_s, unit = time_unit(ends_s, 2)
    edges = np.append(found.all["begins_s"].to_numpy(), ends_s) / unit_s
    _arrivals(arrivals, found, edges, np.maximum(np.diff(edges) * unit_s, 1e-12))
    share = found.deployments["kv_share"].null_count() < len(found.deployments)
    _deployments((waiting, running, memory, *rest), found, edges, changing, share=share)
    for part in PERCENTILES:
        for one, name in ((first, "ttft"), (latency, "latency")):
            style: dict[str, Any] = {
                "color": _GREYS[part],
                "linestyle": _STYLES[part],
                "linewidth": 1.6,
                "baseline": None,
            }
            label = f"{_LATENCIES[part]} of the times" if one is latency else None
            one.stairs(_values(found.all, f"{name}_{part}_s"), edges, **style, label=label)
    said = [
        (arrivals, "Requests that arrive", "requests / s"),
        (waiting, "Waiting, in the mean", "sequences"),
        (running, "Running, in the mean", "sequences"),
        (memory, "KV cache in use", "share of the cache (%)" if share else "thousand tokens"),
        (first, "Time to the first token", "time (s)"),
        (latency, "Time to the last token", "time (s)"),
        *zip(
            rest, ("Replicas provided, in the mean", "Time that they are busy"), ("replicas", "share (%)"), strict=False
        ),
    ]
    for one, title, label in said:
        tidy(one)
        titled(one, title)
        one.set_ylabel(label)
        one.set_xlim(edges[0], edges[-1])
        _clock(one, edges[-1], unit)
        _from_zero(one, may_be_log=one in (first, latency))
    for one in (memory, *rest[1:]) if share else rest[1:]:
        as_percent(one.yaxis)
    for one in axes[-2:]:
        one.set_xlabel(f"time of the run ({unit})")
    legend_below(figure, 5)
    return fitted(figure)


def _arrivals(axes: Axes, found: OverTime, edges: Any, lasts_s: Any) -> None:
    """By source, the largest first; of many the rest together."""
    sources = _by(found.sources, "source")
    order = sorted(sources, key=lambda name: (-float(sources[name]["arrivals"].sum()), name))
    shown = order if len(order) <= _MOST + 1 else order[:_MOST]
    for k, name in enumerate(shown):
        values = _values(sources[name], "arrivals") / lasts_s
        label = "arrivals" if len(sources) == 1 else f"arrivals of {named(name)}"
        _stairs(axes, values, edges, look(k + 3) if len(sources) > 1 else Look(INK, "", "-", ""), label)
    if len(order) > len(shown):
        rest = np.sum([np.nan_to_num(_values(sources[name], "arrivals")) for name in order[len(shown) :]], axis=0)
        label = f"arrivals of {others(len(order) - len(shown), 'source')} together"
        axes.stairs(rest / lasts_s, edges, color=SOFT, linewidth=2.6, baseline=None, label=label)


def _deployments(
    panels: tuple[Axes, ...], found: OverTime, edges: Any, changing: frozenset[str], *, share: bool
) -> None:
    """By deployment; of many those with the most in them, and what is left of the queue and of what is running."""
    waiting, running, memory, *rest = panels
    tables = _by(found.deployments, "deployment")
    order = sorted(
        tables, key=lambda name: -float(np.nansum(_values(tables[name], "running") + _values(tables[name], "waiting")))
    )
    shown = order if len(order) <= _MOST + 1 else order[:_MOST]
    # In the order of the scenario, whatever the load.
    for k, name in enumerate(one for one in tables if one in shown):
        rows, drawn = tables[name], look(k)
        for one, column, times in (
            (waiting, "waiting", 1.0),
            (running, "running", 1.0),
            (memory, "kv_share" if share else "kv_tokens", 1.0 if share else 1e-3),
        ):
            _stairs(one, times * _values(rows, column), edges, drawn, named(name) if one is running else None)
        for one, column in zip(rest, ("replicas", "utilisation"), strict=False):
            if name in changing:
                _stairs(one, _values(rows, column), edges, drawn, None)
    if len(order) > len(shown):
        left = [tables[name] for name in order[len(shown) :]]
        for one, column in ((waiting, "waiting"), (running, "running")):
            values = np.sum([np.nan_to_num(_values(rows, column)) for rows in left], axis=0)
            label = f"{others(len(left), 'deployment')} together, queue and running alone" if one is running else None
            one.stairs(values, edges, color=SOFT, linewidth=2.6, baseline=None, label=label)


def _stairs(axes: Axes, values: Any, edges: Any, drawn: Look, label: str | None) -> None:
    """Steps, with a mark on a few of them where a colour alone would not do."""
    axes.stairs(values, edges, color=drawn.color, linestyle=drawn.dash, linewidth=1.6, baseline=None)
    middle = 0.5 * (edges[1:] + edges[:-1])
    every = max(len(middle) // 6, 1)
    options: dict[str, Any] = {**drawn.point, "linestyle": "", "markersize": 4}
    at = slice(sum(map(ord, drawn.marker)) % every, None, every)
    axes.plot(middle[at], values[at], **options)
    if label is not None:
        axes.plot(
            [],
            [],
            color=drawn.color,
            linestyle=drawn.dash,
            marker=drawn.marker,
            markersize=4,
            linewidth=1.6,
            label=label,
        )


def _by(rows: pl.DataFrame, column: str) -> dict[str, pl.DataFrame]:
    return {str(name): rows.filter(pl.col(column) == name) for name in rows[column].unique(maintain_order=True)}


def _values(rows: pl.DataFrame, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return rows[column].cast(pl.Float64).fill_null(math.nan).to_numpy()


def _clock(axes: Axes, end: float, unit: str) -> None:
    """Every third hour of a day, every sixth of two."""
    from matplotlib.ticker import MultipleLocator

    if unit == "h" and _DAY_S <= end * 3600 <= 2 * _DAY_S:
        axes.xaxis.set_major_locator(MultipleLocator(3 if end < _DAY_S / 3600 + 1 else 6))


def _from_zero(axes: Axes, *, may_be_log: bool) -> None:
    """From 0 up; logarithmic where an hour is so much slower than the others that those could not be read."""
    from matplotlib.patches import StepPatch

    drawn = np.concatenate([one.get_data()[0] for one in axes.patches if isinstance(one, StepPatch)] or [np.zeros(1)])
    seen = drawn[np.isfinite(drawn) & (drawn > 0)]
    if may_be_log and len(seen) and seen.max() > 30 * seen.min():
        axes.set_ylim(0.9 * seen.min(), 1.1 * seen.max())
        logarithmic(axes.yaxis)
        return
    axes.set_ylim(0, float(seen.max(initial=0.0)) * 1.08 or 1.0)
    as_numbers(axes.yaxis)


__all__ = ["plot_day", "plot_over_time"]
