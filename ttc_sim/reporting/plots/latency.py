"""How long do requests wait, by arm and by source, and does that meet the targets?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import at_share
from ttc_sim.reporting.plots.arms import by_share
from ttc_sim.reporting.plots.style import (
    INK,
    MIDDLE,
    Look,
    figure_of,
    fitted,
    height_of_rows,
    key_of_spread,
    legend_below,
    logarithmic,
    look,
    others,
    rows_of,
    spread,
    tidy,
    titled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttc_sim.scenario.targets import Target
    from ttc_sim.simulation.result import Result

_MOST = 24
_TIMES = {"ttft": "to the first token (s)", "tpot": "for each token after it (s)", "latency": "to the last token (s)"}
_PARTS = (0.50, 0.95, 0.99)
_ALL = Look(INK, "D", "-", "")
_SOURCE = Look(MIDDLE, "s", "-", "")


class _Row(NamedTuple):
    """Of some of the requests: ``p95`` of the latency with its interval, and their records."""

    name: str
    drawn: Look
    p95: Estimate | None
    records: pl.DataFrame
    source: str | None


def plot_latency(result: Result) -> Figure:
    """Median, 95th and 99th percentile of three times: of all requests, of each arm's and of each source's, with the targets."""
    summary, records = result.summary(), result.records
    targets = result.model.scenario.targets
    asked = [] if targets is None else [one for one in targets.asked() if one.percentile is not None]
    rows = [_Row("all requests", _ALL, summary.latency_s["p95"], records, None)]
    arms = by_share(summary, records)
    rows += [
        _Row(f"arm {name}", look(k), summary.per_arm[name].latency_p95_s, records.filter(pl.col("arm") == name), None)
        for k, name in enumerate(arms[:_MOST])
    ]
    sources = sorted(summary.per_source, key=lambda name: -summary.per_source[name].share)
    sources = sources if len(sources) > 1 else []
    rows += [
        _Row(
            f"source {name}",
            _SOURCE,
            summary.per_source[name].latency_p95_s,
            records.filter(pl.col("source") == name),
            name,
        )
        for name in sources[:_MOST]
    ]
    known = [name for name in _TIMES if records[f"{name}_s"].null_count() < len(records)]
    shown = known or ["latency"]
    figure, panels = figure_of(len(shown), 3.6 * len(shown) + 2.4, height_of_rows(len(rows), 2.6))
    for axes, name in zip(panels, shown, strict=True):
        _panel(axes, name, rows, [one for one in asked if one.percentile and one.percentile[0] == name])
        titled(axes, {"ttft": "First token", "tpot": "Each further token", "latency": "Last token"}[name])
    for axes in panels[1:]:
        axes.tick_params(axis="y", labelleft=False)
    left_out = [others(len(rest) - _MOST, of) for rest, of in ((arms, "arm"), (sources, "source")) if len(rest) > _MOST]
    if left_out:
        panels[0].set_xlabel(
            f"{panels[0].get_xlabel()}\nthose with the most requests; not shown: {' and '.join(left_out)}"
        )
    legend_below(figure, handles=_key(asked))
    return fitted(figure)


def _panel(axes: Axes, name: str, rows: Sequence[_Row], asked: Sequence[Target]) -> None:
    for k, row in enumerate(rows):
        # A request that was turned away took no time.
        counted = (
            row.records if name != "latency" else row.records.filter(~pl.col("status").is_in(["rejected", "failed"]))
        )
        ordered = np.sort(counted[f"{name}_s"].drop_nulls().to_numpy())
        if not len(ordered) or not (ordered > 0).any():
            continue
        interval = row.p95 if name == "latency" else None
        spread(axes, k, [at_share(ordered, part) for part in _PARTS], row.drawn, interval)
    seen = [x for line in axes.lines for x in np.asarray(line.get_xdata(), dtype=float) if x > 0]
    for target in asked:
        part = 0.0 if target.percentile is None else target.percentile[1]
        at = [k for k, row in enumerate(rows) if row.source == target.source and (target.source or k == 0)]
        if target.source is None:
            axes.axvline(target.bound, color=INK, **_line_of(part))
        elif at:
            axes.plot([target.bound] * 2, [at[0] - 0.45, at[0] + 0.45], color=INK, **_line_of(part))
        else:
            continue
        seen.append(target.bound)
    if seen:
        axes.set_xlim(0.8 * min(seen), 1.25 * max(seen))
    rows_of(axes, [row.name for row in rows])
    axes.set_xlabel(f"time {_TIMES[name]}")
    if seen:
        logarithmic(axes.xaxis)
    tidy(axes)
    axes.grid(visible=False, axis="y")


def _line_of(part: float) -> dict[str, Any]:
    """The line of a target on such a percentile."""
    style = ":" if part <= 0.5 else "--" if part < 0.97 else "-."
    return {"linestyle": style, "linewidth": 1.3}


def _key(asked: Sequence[Target]) -> list[Any]:
    from matplotlib.lines import Line2D

    found = key_of_spread("its 95% interval (last token)")
    styles: dict[str, list[str]] = {}
    for part in sorted({one.percentile[1] for one in asked if one.percentile is not None}):
        styles.setdefault(_line_of(part)["linestyle"], []).append(f"p{100 * part:g}")
    short = " (short: of one source)" if any(one.source for one in asked) else ""
    for style, which in styles.items():
        said = f"target, {', '.join(which)}{short}"
        options: dict[str, Any] = {"linestyle": style, "linewidth": 1.3, "label": said}
        found.append(Line2D([], [], color=INK, **options))
    return found


__all__ = ["plot_latency"]
