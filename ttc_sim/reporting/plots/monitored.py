"""Does a plan at work keep what it promised?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ttc_sim.base.times import DAY_S
from ttc_sim.deploying.monitoring import Monitored
from ttc_sim.deploying.monitoring.figures import moment
from ttc_sim.deploying.monitoring.keeping import Judged
from ttc_sim.reporting.plots.style import (
    COLORS,
    MIDDLE,
    as_percent,
    figure_of,
    fitted,
    legend_below,
    named,
    tidy,
    titled,
)
from ttc_sim.scenario.targets import FLOORS, SHARES, percentile_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_MOST = 9
_UNITS = {"cost_usd_per_request": "$ per 1,000 requests", "cost_usd_per_day": "$ a day"}


def plot_monitored(found: Monitored) -> Figure:
    """A panel for each promise: the promise as a band, targets as lines, and all that came until each look."""
    shown = [one for one in found.judged if one.asked.kind == "promise" and one.looks][:_MOST]
    targets = {one.asked.name: one for one in found.judged if one.asked.kind == "target"}
    named_so = {one.asked.name for one in shown}
    alone = [x for x in targets.values() if x.looks and (x.asked.name not in named_so or percentile_of(x.asked.key))]
    shown = (shown + alone)[:_MOST]
    columns = min(max(len(shown), 1), _COLUMNS)
    rows = max(-(-len(shown) // columns), 1)
    figure, axes = figure_of(columns, 4.4 * columns, 3.1 * rows + 0.3, rows, max(len(shown), 1))
    if not shown:
        titled(axes[0], "Too few requests to say anything")
        axes[0].set(xticks=[], yticks=[])
    for k, (one, panel) in enumerate(zip(shown, axes, strict=False)):
        _panel(panel, one, targets.get(one.asked.name), found, labelled=k == 0)
    legend_below(figure, 5)
    return fitted(figure)


def _panel(axes: Axes, one: Judged, target: Judged | None, found: Monitored, *, labelled: bool) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    def label(text: str) -> str | None:
        return text if labelled else None

    asked = one.asked
    part = percentile_of(asked.key)
    times = 1000.0 if asked.key == "cost_usd_per_request" else 1.0
    at = np.array([look.at_s / DAY_S for look in one.looks])  # days since 1970, as matplotlib counts
    value, low, high = (
        times * np.array([getattr(look.figure, name) for look in one.looks]) for name in ("value", "low", "high")
    )
    seen = np.concatenate([value, low])
    most = float(seen[np.isfinite(seen)].max(initial=0.0))
    if part is not None:
        promised = (0.0, 1 - part[1])
        said = "promised" if asked.kind == "promise" else "asked"
        later = f"later than {asked.high:.3g} s" if math.isfinite(asked.high) else "no bound"
        title = f"{later}, {said} of {named(asked.name)}"
        unit = "share of requests (%)"
    else:
        promised = (times * asked.low, times * asked.high)
        title = {"cost_usd_per_request": "Cost", "cost_usd_per_day": "Cost"}.get(asked.key, named(asked.name))
        unit = _UNITS.get(asked.key, "share (%)" if asked.key in (*FLOORS, *SHARES) else "time (s)")
    top = max(
        most, promised[1] if math.isfinite(promised[1]) else most, float(high[-1]) if math.isfinite(high[-1]) else 0.0
    )
    drawn = np.where(np.isfinite(high), high, 10 * top)
    if asked.kind == "promise":
        axes.axhspan(promised[0], promised[1], color=COLORS[2], alpha=0.18, label=label("promised, with its interval"))
    bound = None if target is None else 1 - part[1] if part is not None else times * target.asked.value
    if bound is not None and (part is None or asked.kind == "target"):
        axes.axhline(bound, color=MIDDLE, linestyle="--", linewidth=1.2)
    if labelled:
        axes.plot([], [], color=MIDDLE, linestyle="--", linewidth=1.2, label="target")
    axes.fill_between(at, low, drawn, color=COLORS[0], alpha=0.2, label=label("surely between, at every look"))
    axes.plot(at, value, color=COLORS[0], marker="o", markersize=3, linewidth=1.4, label=label("realized until then"))
    both = [one] if target is None or part is not None else [one, target]
    broken = [k for k in range(len(at)) if any(each.looks[k].sure for each in both)]
    axes.plot(at[broken], value[broken], "X", color=COLORS[1], markersize=6, label=label("broken for sure"))
    share = part is not None or asked.key in (*FLOORS, *SHARES)
    bottom = 0.0 if asked.key not in FLOORS else max(0.0, float(min(low.min(), promised[0])) - 0.05)
    axes.set(ylim=(bottom, min(1.15 * top, 1.0 if share else math.inf) or 1.0), xlabel="time (UTC)", ylabel=unit)
    titled(axes, title)
    if share:
        as_percent(axes.yaxis)
    if len(at) > 1:
        locator = AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    else:
        axes.set_xticks(at, [moment(one.looks[0].at_s)[:16]])
    tidy(axes)


__all__ = ["plot_monitored"]
