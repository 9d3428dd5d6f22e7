"""Did what was promised come?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ttc_sim.reporting.plots.style import COLORS, FAINT, SMALL, SOFT, figure_of, fitted, named, sides, tidy, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ttc_sim.optimizer.validating import Validation

_COLUMNS = 6
# Title, unit, what it is multiplied by, and how it is written on the axis and for one value.
_PROMISED = {
    "accuracy": ("Accuracy", "share (%)", 100, "{x:g}%", "{x:.3g}%"),
    "cost_usd_per_request": ("Cost", "$ per 1,000 requests", 1000, "{x:g}", "{x:.3g}"),
    "cost_usd_per_day": ("Cost", "$ a day", 1, "{x:g}", "{x:.4g}"),
    "latency_p50_s": ("Median latency", "time (s)", 1, "{x:g}", "{x:.3g}"),
    "latency_p95_s": ("p95 latency", "time (s)", 1, "{x:g}", "{x:.3g}"),
    "latency_p99_s": ("p99 latency", "time (s)", 1, "{x:g}", "{x:.3g}"),
    "timeout_rate": ("Not answered in time", "share (%)", 100, "{x:g}%", "{x:.3g}%"),
    "cut_off_rate": ("Cut off at a cap", "share (%)", 100, "{x:g}%", "{x:.3g}%"),
}


def _shown(name: str) -> tuple[str, str, float, str, str]:
    if name in _PROMISED:
        return _PROMISED[name]
    source, _, key = name.removeprefix("sources.").rpartition(".") if name.startswith("sources.") else ("", "", name)
    title, unit, times, axis, written = _PROMISED.get(key, (named(key, 24), _unit(key), 1, "{x:g}", "{x:.3g}"))
    return title + (f"\n{named(source, 24)}" if source else ""), unit, times, axis, written


def _unit(key: str) -> str:
    return "time (s)" if key.endswith("_s") else "share, 0 to 1"


def plot_validation(validation: Validation) -> Figure:
    """What was promised beside what came, a panel a figure, each with its interval; grey: where it was promised to be."""
    verdicts = validation.verdicts
    columns = min(max(len(verdicts), 1), _COLUMNS)
    lines = max(-(-len(verdicts) // columns), 1)
    figure, panels = figure_of(columns, 2.3 * columns + 0.4, 3.1 * lines, lines, len(verdicts))
    for axes, (name, verdict) in zip(panels, verdicts.items(), strict=True):
        title, unit, times, on_axis, written = _shown(name)
        labels = []
        color, mark = (COLORS[0], "o") if verdict.inside else (COLORS[1], "X")
        for k, (label, one) in enumerate((("promised", verdict.promised), ("realized", verdict.realized))):
            value = times * one.value
            axes.errorbar(
                k,
                value,
                yerr=sides(one, times),
                fmt=mark if k else "D",
                color=color if k else SOFT,
                markersize=6,
                capsize=4,
                elinewidth=1.5,
            )
            labels.append(f"{label}\n{written.format(x=value)}")
        top = axes.get_ylim()[1] if math.isinf(verdict.promised.high) else times * verdict.promised.high
        axes.axhspan(times * verdict.promised.low, top, color=FAINT, alpha=0.6, zorder=0)
        tidy(axes)
        axes.grid(visible=False, axis="x")
        axes.set_xticks([0, 1], labels)
        axes.set(xlim=(-0.7, 1.7), ylabel=unit)
        titled(axes, title)
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter(on_axis)
        axes.tick_params(labelsize=SMALL)
    return fitted(figure)


__all__ = ["plot_validation"]
