"""What was measured: how long are a model's answers, and how near comes a simulation to a measured run?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ttc_sim.reporting.plots.style import (
    COLORS,
    SOFT,
    as_numbers,
    as_percent,
    figure_of,
    fitted,
    legend_below,
    logarithmic,
    named,
    tidy,
    titled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ttc_sim.measured.profiles import Profile

_OUTCOMES = {
    "correct": (COLORS[2], ""),
    "wrong": (COLORS[1], "////"),
    "stopped at the limit": (COLORS[4], "...."),
}


def plot_profile(profile: Profile) -> Figure:
    """Distribution of output lengths by outcome, on a logarithmic axis."""
    from ttc_sim.measured.summaries import outcome_tables

    figure, (axes,) = figure_of(1, 8, 4)
    tables = {name: values.to_numpy() for name, values in outcome_tables(profile).items() if len(values)}
    total = sum(len(values) for values in tables.values())
    most = max(float(values.max()) for values in tables.values())
    least = max(min(float(values.min()) for values in tables.values()), 1.0)
    bins = np.geomspace(0.98 * least, 1.02 * most, 40)
    below = np.zeros(len(bins) - 1)
    for name, values in tables.items():
        counts = np.histogram(values, bins=bins)[0] / total
        color, hatch = _OUTCOMES[name]
        axes.bar(
            bins[:-1],
            counts,
            width=np.diff(bins),
            align="edge",
            bottom=below,
            color=color,
            hatch=hatch,
            edgecolor="#ffffff",
            linewidth=0.4,
            label=f"{name} ({len(values) / total:.0%}, median {np.median(values):,.0f} tokens)",
        )
        below = below + counts
    source = " (thinking lengths from another source)" if profile.card.reasoning == "filled" else ""
    axes.set(xlim=(bins[0], bins[-1]), xlabel=f"output tokens of an attempt{source}", ylabel="share of attempts (%)")
    titled(axes, named(profile.name, 60))
    logarithmic(axes.xaxis)
    as_percent(axes.yaxis)
    tidy(axes)
    legend_below(figure, 3)
    return fitted(figure)


def plot_backtest(got: Mapping[str, Any]) -> Figure:
    """Predicted over measured end-to-end times of a backtest, a dot per request.

    Args:
        got: what :func:`ttc_sim.fidelity.runs.backtest_run` returns.
    """
    measured, predicted = (np.array(got["per_request"][f"{name}_e2e_s"]) for name in ("measured", "predicted"))
    most = max(measured.max(), predicted.max()) * 1.05 or 1.0
    figure, (axes,) = figure_of(1, 5.4, 5.2)
    axes.plot([0, most], [0, most], color=SOFT, linewidth=1.2, label="predicted as measured")
    axes.scatter(measured, predicted, s=12, alpha=0.6, color=COLORS[0], linewidths=0, label="a request")
    axes.set(xlabel="measured, end to end (s)", ylabel="predicted, end to end (s)", xlim=(0, most), ylim=(0, most))
    error = got["per_request_median_error_percent"]
    titled(axes, named(got["run"], 40) + ("" if error is None else f": median error {error:.2f}%"))
    for axis in (axes.xaxis, axes.yaxis):
        as_numbers(axis)
    tidy(axes)
    legend_below(figure, 2)
    return fitted(figure)


__all__ = ["plot_backtest", "plot_profile"]
