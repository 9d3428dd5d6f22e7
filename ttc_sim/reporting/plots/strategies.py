"""What do strategies make of a model: accuracy over what is spent, and over how long it takes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ttc_sim.base.estimates import Estimate
from ttc_sim.reporting.plots.style import (
    COLORS,
    INK,
    SOFT,
    as_percent,
    figure_of,
    fitted,
    legend_below,
    logarithmic,
    look,
    named,
    sides,
    tidy,
    titled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ttc_sim.evaluation.economics import VerifierCurve
    from ttc_sim.evaluation.evaluate import Evaluation


def plot_strategies(families: Mapping[str, Sequence[Evaluation]]) -> Figure:
    """Accuracy over the tokens spent, and over those spent one after another, a line for each family of strategies."""
    figure, (left, right) = figure_of(2, 11.5, 4.2)
    for k, (name, found) in enumerate(families.items()):
        accuracy = [one.accuracy.value for one in found]
        for axes, x in (
            (left, [one.tokens_per_request for one in found]),
            (right, [one.tokens_in_a_row for one in found]),
        ):
            axes.plot(x, accuracy, **look(k).line, label=named(name, 140) if axes is left else None)
            if len(found) == 1:
                axes.errorbar(x, accuracy, yerr=sides(found[0].accuracy), color=look(k).color, elinewidth=0.8, zorder=1)
    left.set(xlabel="output tokens of a request, in the mean", ylabel="accuracy (%)")
    right.set(xlabel="output tokens one after another, in the mean")
    titled(left, "What it costs")
    titled(right, "How long it takes")
    for axes in (left, right):
        logarithmic(axes.xaxis)
        as_percent(axes.yaxis)
        tidy(axes)
    legend_below(figure, 4)
    return fitted(figure)


def plot_evaluation(evaluation: Evaluation) -> Figure:
    """Accuracy and output tokens of all problems, and by predicted difficulty."""
    figure, (left, right) = figure_of(2, 9, 3.6)
    bars = {"all": (evaluation.accuracy, evaluation.tokens_per_request)}
    bars |= {k: (Estimate(**band["accuracy"]), band["tokens_per_request"]) for k, band in evaluation.by_band.items()}
    for k, (accuracy, tokens) in enumerate(bars.values()):
        color = COLORS[0] if k else SOFT
        left.bar(k, accuracy.value, color=color, width=0.6)
        left.errorbar(k, accuracy.value, yerr=sides(accuracy), color=INK, capsize=3, elinewidth=1)
        right.bar(k, tokens, color=color, width=0.6)
    left.set(ylim=(0, 1.02), ylabel="accuracy (%), 95% interval")
    as_percent(left.yaxis)
    right.set_ylabel("output tokens of a request, in the mean")
    right.yaxis.set_major_formatter("{x:,.0f}")
    titled(left, "Accuracy")
    titled(right, "Tokens")
    for axes in (left, right):
        axes.set_xticks(range(len(bars)), list(bars))
        axes.set_xlabel("predicted difficulty, 0 to 1" if evaluation.by_band else "")
        tidy(axes)
        axes.grid(visible=False, axis="x")
    figure.suptitle(named(evaluation.strategy, 100), fontsize=10)
    return fitted(figure)


def plot_verifiers(curves: Mapping[str, VerifierCurve]) -> Figure:
    """Accuracy over the number of samples with each verifier, between a vote and a perfect verifier."""
    figure, (axes,) = figure_of(1, 7.5, 4.2)
    for k, (name, curve) in enumerate(curves.items()):
        axes.plot(curve.n, curve.best_of, **look(k).line, label=named(name))
    first = next(iter(curves.values()))
    axes.plot(first.n, first.pass_at, color=INK, linestyle=":", linewidth=1.8, label="perfect verifier (pass@n)")
    axes.plot(first.n, first.vote, color=INK, linestyle="--", linewidth=1.8, label="majority vote")
    axes.set(xlabel="samples of a request", ylabel="accuracy (%)")
    titled(axes, "What a verifier is worth")
    logarithmic(axes.xaxis)
    as_percent(axes.yaxis)
    tidy(axes)
    legend_below(figure, 3)
    return fitted(figure)


__all__ = ["plot_evaluation", "plot_strategies", "plot_verifiers"]
