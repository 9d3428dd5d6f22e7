"""What does each variation change, on the same requests?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ttc_sim.optimizer.whatif import Varied, WhatIf
from ttc_sim.reporting.plots.style import (
    COLORS,
    INK,
    SOFT,
    as_numbers,
    figure_of,
    fitted,
    height_of_rows,
    legend_below,
    rows_of,
    tidy,
    titled,
)
from ttc_sim.reporting.what_if import IN_BRIEF

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Title, unit of differences, and what stands before and after the base's figure.
_TITLES = {
    "accuracy": ("Accuracy", "points", "", ""),
    "cost_usd_per_month": ("Cost", "$ a month", r"\$", " a month"),
    "latency_p95_s": ("95th percentile of the latency", "s", "", " s"),
    "timeout_rate": ("Dropped", "points", "", ""),
}


def plot_what_if(found: WhatIf) -> Figure:
    """What each variation changes, a panel a figure: a point with its interval for each, and a line where nothing changes."""
    names = [
        name
        for name in ("accuracy", "cost_usd_per_month", "latency_p95_s", "timeout_rate")
        if name in found.base.figures
    ]
    rows = list(found.variations)
    replanned = any(one.replanned is not None for one in rows)
    figure, panels = figure_of(
        len(names), 2.8 * len(names) + 2.4, height_of_rows(len(rows) * (2 if replanned else 1), 1.9)
    )
    drawn: dict[str, Any] = {}
    for axes, name in zip(panels, names, strict=True):
        shown = IN_BRIEF[name]
        _forest(axes, name, shown.times, rows, replanned, drawn)
        title, unit, before, after = _TITLES[name]
        rows_of(axes, [one.name for one in rows])
        axes.set_xlabel(f"difference ({unit})")
        titled(axes, f"{title}\nbase: {before}{shown.value(found.base.figures[name].value)}{after}")
        as_numbers(axes.xaxis, 4)
        tidy(axes)
        axes.grid(visible=False, axis="y")
    for axes in panels[1:]:
        axes.tick_params(axis="y", labelleft=False)
    legend_below(figure, 4, [drawn[name] for name in sorted(drawn)])
    return fitted(figure)


def _forest(axes: Axes, name: str, times: float, rows: list[Varied], replanned: bool, drawn_so: dict[str, Any]) -> None:
    ends = [0.0]
    drawn = []
    for at, one in enumerate(rows):
        for kind, carried in (("same policy", one.kept), ("replanned", one.replanned)):
            beside = None if carried is None else carried.compared.get(name)
            if beside is None:
                continue
            y = at + (0.0 if not replanned else -0.16 if kind == "same policy" else 0.16)
            difference = beside.difference.scaled(times)
            drawn.append((y, kind, difference, beside.more_than_noise))
            ends += [end for end in (difference.value, difference.low, difference.high) if math.isfinite(end)]
    low, high = min(ends), max(ends)
    room = 0.08 * (high - low) or 1.0
    axes.set_xlim(low - room, high + room)
    axes.axvline(0, color=INK, linewidth=0.8)
    for y, kind, difference, sure in drawn:
        color = COLORS[0] if kind == "same policy" else COLORS[1]
        left, right = max(difference.low, low - room), min(difference.high, high + room)
        axes.plot([left, right], [y, y], color=color if sure else SOFT, linewidth=1.6)
        # Hollow: no more than noise, which grey alone would not say.
        (point,) = axes.plot(
            difference.value,
            y,
            "o" if kind == "same policy" else "D",
            color=color if sure else SOFT,
            markerfacecolor=color if sure else "#ffffff",
            markersize=5.5,
        )
        name_of_kind = kind if sure else f"{kind}, no more than noise"
        if name_of_kind not in drawn_so:
            point.set_label(name_of_kind)
            drawn_so[name_of_kind] = point


__all__ = ["plot_what_if"]
