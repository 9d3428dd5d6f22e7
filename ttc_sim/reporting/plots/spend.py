"""Where do tokens and dollars go: which kind of tokens, which source, how difficult a request?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from ttc_sim.base.figures import percent
from ttc_sim.reporting.plots.style import (
    COLORS,
    MIDDLE,
    SMALL,
    SOFT,
    as_numbers,
    figure_of,
    fitted,
    height_of_rows,
    legend_below,
    others,
    rows_of,
    tidy,
    titled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttc_sim.simulation.result import Result

_MOST = 24
KINDS = {
    "input": (SOFT, ""),
    "input found in a cache": ("#dddddd", "||||"),
    "thinking": (COLORS[0], ""),
    "thinking on after the answer stood": (COLORS[5], "////"),
    "visible answer": (COLORS[4], "...."),
}


class _Group(NamedTuple):
    """Some of the requests: their share of all, and of each kind tokens of a request and dollars of a thousand."""

    name: str
    share: float
    tokens: dict[str, float]
    usd: dict[str, float]


def plot_spend(result: Result) -> Figure:
    """Tokens of a request, and dollars of a thousand, by kind: of all requests, of each source and of each band of difficulty.

    Beside each bar stands what part of all tokens, and of the whole bill, such requests take. Dollars for input are with what a
    call costs whatever its tokens, and with what caches save.
    """
    groups, left_out = _groups(result)
    figure, (left, right) = figure_of(2, 12.5, height_of_rows(len(groups), 2.4))
    for axes, what in ((left, "tokens"), (right, "usd")):
        _bars(axes, [getattr(group, what) for group in groups], [group.share for group in groups])
    left.set_xlabel("tokens of a request, in the mean")
    right.set_xlabel("cost ($ per 1,000 requests)")
    titled(left, "Tokens, and their part of all")
    titled(right, "Dollars, and their part of the bill")
    for axes in (left, right):
        rows_of(axes, [group.name for group in groups])
        as_numbers(axes.xaxis)
        tidy(axes)
        axes.grid(visible=False, axis="y")
    right.tick_params(axis="y", labelleft=False)
    if left_out:
        left.set_xlabel(f"{left.get_xlabel()}\nsources with the most requests; not shown: {others(left_out, 'source')}")
    legend_below(figure, handles=_key(left, right))
    return fitted(figure)


def _groups(result: Result) -> tuple[list[_Group], int]:
    """All requests, then sources, then bands; and how many sources there is no room for."""
    summary, records = result.summary(), result.records
    tokens = {kind: figure.value for kind, figure in summary.tokens_per_request.items()}
    found = [_group("all requests", 1.0, records, tokens, summary.cost_usd_per_request.value)]
    sources = sorted(summary.per_source, key=lambda name: -summary.per_source[name].share)
    sources = sources if len(sources) > 1 else []
    parts = [(f"source {name}", summary.per_source[name], pl.col("source") == name) for name in sources[:_MOST]]
    for band, part in summary.per_band.items():
        low, high = (float(end) for end in band.split("-"))
        here = (pl.col("difficulty") >= low) & ((pl.col("difficulty") < high) | (high >= 1.0))
        parts.append((f"difficulty {band}", part, here))
    for name, part, here in parts:
        reasoning = part.reasoning_tokens_per_request
        output = {"reasoning": reasoning, "visible": part.tokens_per_request - reasoning}
        rows = records.filter(here)
        if len(rows):
            found.append(_group(name, part.share, rows, output, part.cost_usd_per_request.value))
    return found, max(len(sources) - _MOST, 0)


def _group(name: str, share: float, rows: pl.DataFrame, output: dict[str, float], usd: float) -> _Group:
    """By kind. Totals are those of the tables; how input and dollars are parted is as it came in the runs."""
    taken_in = output.get("prompt", float(rows["prompt_tokens"].to_numpy().mean()))
    cached = _part(rows, "cached_tokens", "prompt_tokens") if "cached_tokens" in rows.columns else 0.0
    thinking, idle = (_part(rows, column, "cost_usd") for column in ("thinking_cost_usd", "idle_cost_usd"))
    each = 1000 * usd
    visible = _part(rows, "visible_cost_usd", "cost_usd")
    bill = {
        "input": each * max(1 - thinking - visible, 0.0),
        "thinking": each * (thinking - idle),
        "thinking on after the answer stood": each * idle,
        "visible answer": each * visible,
    }
    idle_share = idle / thinking if thinking > 0 else 0.0
    tokens = {
        "input": taken_in * (1 - cached),
        "input found in a cache": taken_in * cached,
        "thinking": output["reasoning"] * (1 - idle_share),
        "thinking on after the answer stood": output["reasoning"] * idle_share,
        "visible answer": output["visible"],
    }
    return _Group(name, share, tokens, bill)


def _part(rows: pl.DataFrame, column: str, of: str) -> float:
    whole = float(rows[of].sum())
    return float(rows[column].sum()) / whole if whole > 0 else 0.0


def _bars(axes: Axes, groups: list[dict[str, float]], shares: list[float]) -> None:
    totals = np.array([sum(group.values()) for group in groups])
    left = np.zeros(len(groups))
    for kind in groups[0]:
        color, hatch = KINDS[kind]
        width = np.array([group[kind] for group in groups])
        if width.any():
            axes.barh(
                np.arange(len(groups)),
                width,
                left=left,
                height=0.7,
                color=color,
                hatch=hatch,
                edgecolor="#ffffff",
                linewidth=0.4,
                label=kind,
            )
        left += width
    most = float(totals.max(initial=0.0)) or 1.0
    for k, (total, share) in enumerate(zip(totals, shares, strict=True)):
        # The part that such requests take of all: how many they are times what each takes.
        part = share * total / totals[0] if totals[0] > 0 else 0.0
        axes.annotate(
            "100%" if k == 0 else percent(min(part, 1.0)),
            (total, k),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=MIDDLE,
        )
    axes.set_xlim(0, 1.18 * most)


def _key(left: Axes, right: Axes) -> list[object]:
    """Each kind once, in the order of the bars."""
    found = {container.get_label(): container for axes in (left, right) for container in axes.containers}
    return [found[kind] for kind in KINDS if kind in found]


__all__ = ["KINDS", "plot_spend"]
