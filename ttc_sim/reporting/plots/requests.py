"""What becomes of single requests: how long do they queue, prefill, think and answer?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ttc_sim.reporting.plots.style import (
    COLORS,
    INK,
    SOFT,
    figure_of,
    fitted,
    height_of_rows,
    legend_below,
    rows_of,
    tidy,
    time_unit,
    titled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ttc_sim.simulation.result import Result

MOST = 36
PHASES = {
    "queue": ("waits", SOFT, "...."),
    "prefill": ("until the first token", COLORS[4], "\\\\\\\\"),
    "thinking": ("thinks (by its share of the tokens)", COLORS[0], ""),
    "answering": ("answers", COLORS[5], "////"),
}
_ENDS = {"timed_out": ("x", "timed out"), "rejected": ("v", "rejected"), "failed": ("X", "failed")}


def plot_requests(result: Result) -> Figure:
    """Requests of the first run that come one after another, over the clock: those of them that wait longest in all.

    A request's stretch from the first token to the last is parted by its tokens, thinking first: records do not say when the one
    became the other. What waits between two stages of a strategy is in it too.
    """
    first = result.records.filter(pl.col("run") == result.records["run"][0]).sort("arrival_s", "request")
    shown = _longest_waits(first)
    rows = phases(shown)
    figure, (axes,) = figure_of(1, 10.5, height_of_rows(len(shown), 2.2))
    begin_s = float(rows["arrival_s"].min())  # type: ignore[arg-type]
    last_s = max(float(rows["end_s"].max()), begin_s + 1e-9)  # type: ignore[arg-type]
    unit_s, unit = time_unit(last_s - begin_s, 3)
    # Of a day, the clock's own time would be a long number; the requests' own begins at 0.
    left = rows["arrival_s"].to_numpy() - begin_s
    for name, (label, color, hatch) in PHASES.items():
        width = rows[f"{name}_s"].to_numpy()
        if width.any():
            axes.barh(
                np.arange(len(rows)),
                width / unit_s,
                left=left / unit_s,
                height=0.72,
                color=color,
                hatch=hatch,
                edgecolor="#ffffff",
                linewidth=0.4,
                label=label,
            )
        left = left + width
    for status, (marker, label) in _ENDS.items():
        at = np.flatnonzero(rows["status"].to_numpy() == status)
        if len(at):
            ended = (rows["end_s"].to_numpy()[at] - begin_s) / unit_s
            axes.plot(ended, at, marker, color=INK, markersize=6, label=label, clip_on=False)
    axes.set_xlim(0, 1.02 * (last_s - begin_s) / unit_s)
    arms = shown["arm"].to_list()
    several = len(set(arms)) > 1
    rows_of(
        axes, arms if several else [""] * len(arms), 1.8, [f"  {number:,}" for number in shown["request"].to_list()]
    )
    axes.set_xlabel(f"time since the first of them arrived ({unit})")
    axes.set_ylabel("arm, number of the request" if several else "number of the request")
    tidy(axes)
    axes.grid(visible=False, axis="y")
    said = (
        "All requests of a run"
        if len(shown) == len(first)
        else f"{len(shown)} requests in a row: those that wait longest"
    )
    titled(axes, said)
    legend_below(figure)
    return fitted(figure)


def phases(records: pl.DataFrame) -> pl.DataFrame:
    """Seconds that each request waits (``queue_s``), until its first token (``prefill_s``), thinks and answers, and when it ends.

    They add up to its latency. What is not known of one that ended early counts to the phase that it was in.
    """
    end = pl.col("finished_s").fill_null(pl.col("arrival_s"))
    started = pl.min_horizontal(pl.col("started_s").fill_null(end), end)
    first = pl.min_horizontal(pl.col("first_token_s").fill_null(end), end)
    tokens = pl.col("reasoning_tokens") + pl.col("visible_tokens")
    thinking = pl.when(tokens > 0).then(pl.col("reasoning_tokens") / tokens).otherwise(0.0)
    return records.with_columns(
        end_s=end,
        queue_s=pl.max_horizontal(started - pl.col("arrival_s"), 0.0),
        prefill_s=pl.max_horizontal(first - started, 0.0),
        thinking_s=(end - first) * thinking,
        answering_s=(end - first) * (1 - thinking),
    )


def _longest_waits(first: pl.DataFrame) -> pl.DataFrame:
    """So many that arrive one after another, as wait longest until their first tokens."""
    if len(first) <= MOST:
        return first
    parts = phases(first)
    waits = np.concatenate([[0.0], np.cumsum((parts["queue_s"] + parts["prefill_s"]).to_numpy())])
    return first.slice(int(np.argmax(waits[MOST:] - waits[:-MOST])), MOST)


__all__ = ["MOST", "PHASES", "phases", "plot_requests"]
