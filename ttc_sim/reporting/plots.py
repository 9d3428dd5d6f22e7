"""Figures of results and plans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.plain import plain
from ttc_sim.scenario.targets import percentile_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttc_sim.evaluation.economics import VerifierCurve
    from ttc_sim.evaluation.evaluate import Evaluation
    from ttc_sim.measured.profiles import Profile
    from ttc_sim.optimizer.plan import Plan
    from ttc_sim.optimizer.validating import Validation
    from ttc_sim.serving.offers import Offer
    from ttc_sim.simulation.result import Result
    from ttc_sim.simulation.summary import Summary

# Okabe-Ito colours, told apart by readers with colour-blindness too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


def figure_of(columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of panels side by side, in inches."""
    # matplotlib takes a while to import, and most commands draw nothing.
    from ttc_sim.reporting.picture import Picture

    figure = Picture(width, height)
    return figure, [figure.add_subplot(1, columns, k + 1) for k in range(columns)]


def tidy(axes: Axes) -> None:
    """The one style of axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis whose numbers stand apart, however narrow or wide it is."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    within = LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]) if high < 10 * low else within)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, columns: int) -> None:
    """Names below the panels, where they cover nothing; the figure grows by what they take."""
    names = [text for axes in figure.axes for text in axes.get_legend_handles_labels()[1]]
    if names:
        figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(names) // columns))
        figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def named(name: str, most: int = 32) -> str:
    """A user's name as it stands, no longer than there is room for.

    matplotlib reads dollars as formulas, and leaves what begins with an underscore out of legends.
    """
    shown = plain(name)
    short = shown if len(shown) <= most else f"{shown[: most - 3]}..."
    return (" " if name.startswith("_") else "") + short.replace("$", r"\$")


def plot_result(result: Result) -> Figure:
    """Latency distribution, cost distribution and accuracy by arm."""
    figure, (left, middle, right) = figure_of(3, 13, 4)
    records = result.records
    parts = {str(arm[0]): rows for arm, rows in records.partition_by("arm", as_dict=True).items()}
    by_arm = [(label, parts[label]) for label in sorted(parts)]
    for color, (label, rows) in zip(COLORS * 8, by_arm, strict=False):
        for axes, column, unit in ((left, "latency_s", 1.0), (middle, "cost_usd", 1000.0)):
            values = rows[column].drop_nulls().to_numpy() * unit
            values = values[values > 0]
            if len(values):
                axes.ecdf(values, color=color, label=named(label) if axes is left else None)
    left.set(xlabel="latency (s)", ylabel="share of the arm's requests", title="Latency")
    middle.set(xlabel="cost of a request ($ / 1,000)", title="Cost")
    for axes in (left, middle):
        _logarithmic(axes)
    summary = result.summary()
    known = {name: part for name, part in summary.per_arm.items() if part.accuracy is not None}
    for k, part in enumerate(known[name] for name in sorted(known)):
        assert part.accuracy is not None
        right.bar(k, part.accuracy.value, color=COLORS[k % len(COLORS)], width=0.6)
        right.errorbar(k, part.accuracy.value, yerr=_bars(part.accuracy), color="black", capsize=3)
    labels = [f"{named(name)}: {100 * known[name].share:.3g}%" for name in sorted(known)]
    right.set_xticks(range(len(known)), labels, rotation=20, ha="right", fontsize=8)
    right.set(xlim=(-0.6, max(len(known), 3) - 0.4), ylim=(0, 1), title="Accuracy by arm (95% interval)")
    right.set_xlabel("arm: share of requests" if known else "not known: no problems behind these requests")
    for axes in (left, middle, right):
        tidy(axes)
    legend_below(figure, 5)
    return figure


def _bars(figure: Estimate) -> list[list[float]]:
    """Lengths of an interval's two sides; one that nothing bounds is not drawn."""
    up = figure.high - figure.value
    return [[max(figure.value - figure.low, 0.0)], [max(up, 0.0) if math.isfinite(up) else 0.0]]


_AXES = {
    "accuracy": ("accuracy", 1.0),
    "goodput": ("goodput", 1.0),
    "cost_usd_per_request": ("cost ($ per 1,000 requests)", 1000.0),
}


def _axis(name: str) -> tuple[str, float]:
    """What a figure is called on an axis, and what it is multiplied by there."""
    percentile = percentile_of(name)
    if percentile is None:
        return _AXES[name]
    time = {"latency": "latency", "ttft": "time to the first token", "tpot": "time per further token"}[percentile[0]]
    return f"p{100 * percentile[1]:g} {time} (s)", 1.0


_SHAPES = "osD^vP*X"


def plot_comparison(rows: Mapping[str, Summary], highlight: str) -> Figure:
    """Accuracy over cost of several policies, with 95% intervals; of unknown accuracy the 95th percentile of latency.

    Args:
        rows: by name; highlight: the one that is drawn large.
    """
    figure, (axes,) = figure_of(1, 8, 3.6)
    known = all(summary.accuracy is not None for summary in rows.values())
    drawn: dict[tuple[Estimate, Estimate], list[str]] = {}
    for name, summary in rows.items():
        other = summary.accuracy if known else summary.latency_s["p95"]
        assert other is not None
        drawn.setdefault((summary.cost_usd_per_request.scaled(1000), other), []).append(name)
    for k, ((cost, other), names) in enumerate(drawn.items()):
        axes.errorbar(
            cost.value,
            other.value,
            xerr=_bars(cost),
            yerr=_bars(other),
            fmt=_SHAPES[k % len(_SHAPES)],
            color=COLORS[k % len(COLORS)],
            markersize=11 if highlight in names else 7,
            linewidth=1.2,
            label=named(" = ".join(names), 60),
        )
    axes.set(xlabel="cost ($ per 1,000 requests)", ylabel="accuracy" if known else "p95 latency (s)")
    axes.set_xlim(left=0)
    if known:
        from matplotlib.ticker import PercentFormatter

        axes.yaxis.set_major_formatter(PercentFormatter(1))
    else:
        axes.set_ylim(bottom=0)
    tidy(axes)
    legend_below(figure, 4)
    return figure


def plot_plan(plan: Plan) -> Figure:
    """What is traded, with the frontier and the baselines, and what each costs in latency: accuracy over cost or, of traffic
    without problems, the 95th percentile of latency over cost; the two figures of the frontier where one was asked for."""
    figure, (left, right) = figure_of(2, 12, 4.6)
    known = plan.predicted.accuracy is not None
    targets = plan.scenario.targets
    across, up = ("cost_usd_per_request", "accuracy" if known else "latency_p95_s")
    if plan.frontier:
        # Cost is drawn across, whichever was named first.
        across, up = sorted(plan.frontier[0].axes, key=lambda name: name != "cost_usd_per_request")
    (label, times), (label_up, times_up) = _axis(across), _axis(up)
    if plan.frontier:
        pairs = [(point.figures[across], point.figures[up]) for point in plan.frontier]
        left.errorbar(
            [times * one.value for one, _ in pairs],
            [times_up * one.value for _, one in pairs],
            xerr=np.concatenate([times * np.array(_bars(one)) for one, _ in pairs], axis=1),
            yerr=np.concatenate([times_up * np.array(_bars(one)) for _, one in pairs], axis=1),
            color="#888888",
            ecolor="#cccccc",
            elinewidth=0.8,
            marker=".",
            label="frontier, by the points' numbers",
        )
        for k, (one, other) in enumerate(pairs, 1):
            place = (times * one.value, times_up * other.value)
            left.annotate(str(k), place, xytext=(3, -9), textcoords="offset points", fontsize=7, color="#666666")
    rows = {"plan": plan.predicted, **plan.baselines}
    for k, (name, summary) in enumerate(rows.items()):
        color = COLORS[k % len(COLORS)]
        both = summary.quantity(across), summary.quantity(up)
        if both[0] is not None and both[1] is not None and np.isfinite([both[0].value, both[1].value]).all():
            left.errorbar(
                times * both[0].value,
                times_up * both[1].value,
                xerr=times * np.array(_bars(both[0])),
                yerr=times_up * np.array(_bars(both[1])),
                fmt="*" if name == "plan" else "o",
                markersize=14 if name == "plan" else 6,
                color=color,
                elinewidth=0.8,
                label=named(name),
            )
        p50, p95, p99 = (summary.latency_s[q] for q in ("p50", "p95", "p99"))
        right.plot([p50.value, p99.value], [k, k], color=color, linewidth=2)
        right.plot(p50.value, k, "|", color=color, markersize=12)
        right.errorbar(p95.value, k, xerr=_bars(p95), fmt="o", color=color, capsize=3)
        right.plot(p99.value, k, "|", color=color, markersize=12)
    asked = {} if targets is None else {one.name: one.bound for one in targets.asked()}
    if up in asked:
        said = {"accuracy": "accuracy target", "latency_p95_s": "p95 target"}.get(up, f"{label_up} target")
        left.axhline(times_up * asked[up], color="black", linestyle=":", linewidth=1, label=said)
    if across in asked:
        said = "cost target" if across == "cost_usd_per_request" else f"{label} target"
        left.axvline(times * asked[across], color="black", linestyle="--", linewidth=1, label=said)
    if "latency_p95_s" in asked:
        right.axvline(asked["latency_p95_s"], color="black", linestyle=":", linewidth=1)
        right.annotate("p95 target", (asked["latency_p95_s"], len(rows) - 0.45), fontsize=8, ha="center")
    left.set(xlabel=label, ylabel=label_up)
    if plan.frontier and percentile_of(up) is not None:
        left.set_yscale("log")  # baselines may take many times as long
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter("{x:g}")
        left.tick_params(axis="y", which="minor", labelsize=7)
    plain_title = (across, up) == ("cost_usd_per_request", "accuracy")
    left.set_title("Accuracy and cost (95% intervals)" if plain_title else "What is traded (95% intervals)")
    if not known and not plan.frontier:
        left.set(ylabel="p95 latency (s)", title="Latency and cost (95% intervals); accuracy unknown")
    right.set_yticks(range(len(rows)), [named(name) for name in rows])
    right.set(xlabel="latency (s): p50 |, p95 with interval, p99 |", title="Latency", ylim=(-0.6, len(rows) - 0.2))
    _logarithmic(right)
    for axes in (left, right):
        tidy(axes)
    legend_below(figure, 5)
    return figure


# Title, what it is multiplied by, and how it is written on the axis and for one value.
_PROMISED = {
    "accuracy": ("accuracy", 100, "{x:g}%", "{x:.3g}%"),
    "cost_usd_per_request": ("$ per 1,000 requests", 1000, "{x:g}", "{x:.3g}"),
    "latency_p50_s": ("p50 (s)", 1, "{x:g}", "{x:.3g}"),
    "latency_p95_s": ("p95 (s)", 1, "{x:g}", "{x:.3g}"),
    "latency_p99_s": ("p99 (s)", 1, "{x:g}", "{x:.3g}"),
    "timeout_rate": ("not answered in time", 100, "{x:g}%", "{x:.3g}%"),
    "cut_off_rate": ("cut off at a cap", 100, "{x:g}%", "{x:.3g}%"),
}


def _titled(name: str) -> str:
    """Of a target's figure, over two lines where it is of a source."""
    source, _, key = name.removeprefix("sources.").rpartition(".") if name.startswith("sources.") else ("", "", name)
    return named(key, 24) + (f"\n{named(source, 24)}" if source else "")


def plot_validation(validation: Validation) -> Figure:
    """What was promised beside what came, a panel a figure, each with its interval."""
    verdicts = validation.verdicts
    figure, panels = figure_of(len(verdicts), 2.1 * len(verdicts) + 0.4, 3.2)
    for axes, (name, verdict) in zip(panels, verdicts.items(), strict=True):
        title, times, on_axis, written = _PROMISED.get(name, (_titled(name), 1, "{x:g}", "{x:.3g}"))
        labels = []
        color = COLORS[0 if verdict.inside else 1]
        for k, (label, one) in enumerate((("promised", verdict.promised), ("realized", verdict.realized))):
            value, error = times * one.value, [[times * x[0]] for x in _bars(one)]
            axes.errorbar(k, value, yerr=error, fmt="o", color=color if k else "#888888", capsize=4, elinewidth=1.5)
            labels.append(f"{label}\n{written.format(x=value)}")
        if math.isinf(verdict.promised.high):
            axes.axhspan(times * verdict.promised.low, axes.get_ylim()[1], color="#eeeeee", zorder=0)
        else:
            axes.axhspan(times * verdict.promised.low, times * verdict.promised.high, color="#eeeeee", zorder=0)
        tidy(axes)
        axes.grid(visible=False, axis="x")
        axes.set_xticks([0, 1], labels)
        axes.set(xlim=(-0.6, 1.6))
        axes.set_title(title, fontsize=10)
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter(on_axis)
    return figure


def plot_profile(profile: Profile) -> Figure:
    """Distribution of output lengths by outcome, on a logarithmic axis."""
    from ttc_sim.measured.summaries import outcome_tables

    figure, (axes,) = figure_of(1, 8, 4)
    tables = {name: values.to_numpy() for name, values in outcome_tables(profile).items() if len(values)}
    total = sum(len(values) for values in tables.values())
    most = max(float(values.max()) for values in tables.values())
    bins = np.geomspace(1, most * 1.01, 40)
    colors = {"correct": COLORS[2], "wrong": COLORS[1], "stopped at the limit": COLORS[4]}
    axes.hist(
        list(tables.values()),
        bins=list(bins),
        weights=[np.full(len(values), 1 / total) for values in tables.values()],
        stacked=True,
        color=[colors[name] for name in tables],
        label=[
            f"{name} ({len(values) / total:.0%}, median {np.median(values):,.0f})" for name, values in tables.items()
        ],
    )
    source = " (thinking lengths from another source)" if profile.card.reasoning == "filled" else ""
    axes.set(
        xscale="log",
        xlabel="output tokens of an attempt" + source,
        ylabel="share of attempts",
        title=named(profile.name, 60),
    )
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    return figure


def plot_backtest(got: Mapping[str, Any]) -> Figure:
    """Predicted over measured end-to-end times of a backtest, a dot per request.

    Args:
        got: what :func:`ttc_sim.fidelity.runs.backtest_run` returns.
    """
    measured, predicted = (np.array(got["per_request"][f"{name}_e2e_s"]) for name in ("measured", "predicted"))
    most = max(measured.max(), predicted.max()) * 1.05 or 1.0
    figure, (axes,) = figure_of(1, 5.2, 5.0)
    axes.plot([0, most], [0, most], color="0.6", linewidth=1)
    axes.scatter(measured, predicted, s=10, alpha=0.6, color=COLORS[0])
    tidy(axes)
    error = got["per_request_median_error_percent"]
    axes.set(
        title=named(got["run"], 40) + ("" if error is None else f": median error {error:.2f}%"),
        xlabel="measured end to end, s",
        ylabel="predicted end to end, s",
        xlim=(0, most),
        ylim=(0, most),
    )
    return figure


def plot_strategies(families: Mapping[str, Sequence[Evaluation]]) -> Figure:
    """Accuracy over the tokens spent, and over those spent one after another, a line for each family of strategies."""
    from matplotlib.ticker import PercentFormatter

    figure, (left, right) = figure_of(2, 11, 4.2)
    for color, (name, found) in zip(COLORS * -(-len(families) // len(COLORS)), families.items(), strict=False):
        accuracy = [one.accuracy.value for one in found]
        marker = "o" if len(found) < 12 else None
        left.plot(
            [one.tokens_per_request for one in found], accuracy, marker=marker, color=color, label=named(name, 140)
        )
        right.plot([one.tokens_in_a_row for one in found], accuracy, marker=marker, color=color)
    left.set(xlabel="output tokens of a request", ylabel="accuracy", title="What it costs")
    right.set(xlabel="output tokens in a row", title="How long it takes")
    legend_below(figure, 1 if max(map(len, families), default=0) > 40 else 3)
    for axes in (left, right):
        _logarithmic(axes)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        tidy(axes)
    return figure


def plot_evaluation(evaluation: Evaluation) -> Figure:
    """Accuracy and output tokens of all problems, and by predicted difficulty."""
    from matplotlib.ticker import PercentFormatter

    figure, (left, right) = figure_of(2, 9, 3.4)
    whole = evaluation.accuracy
    bars = {"all": (whole, evaluation.tokens_per_request)}
    bars |= {k: (Estimate(**band["accuracy"]), band["tokens_per_request"]) for k, band in evaluation.by_band.items()}
    for k, (accuracy, tokens) in enumerate(bars.values()):
        color = COLORS[0] if k else "#888888"
        left.bar(k, accuracy.value, yerr=_bars(accuracy), color=color, width=0.6, capsize=3)
        right.bar(k, tokens, color=color, width=0.6)
    left.set(ylim=(0, 1), title="Accuracy (95% interval)")
    left.yaxis.set_major_formatter(PercentFormatter(1))
    right.set(title="Output tokens of a request")
    right.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (left, right):
        axes.set_xticks(range(len(bars)), list(bars))
        axes.set_xlabel("predicted difficulty" if evaluation.by_band else "")
        tidy(axes)
    figure.suptitle(named(evaluation.strategy, 100), fontsize=10)
    return figure


def plot_verifiers(curves: Mapping[str, VerifierCurve]) -> Figure:
    """Accuracy over the number of samples with each verifier, between a vote and a perfect verifier."""
    from matplotlib.ticker import PercentFormatter

    figure, (axes,) = figure_of(1, 6.5, 4.2)
    for color, (name, curve) in zip(COLORS * 8, curves.items(), strict=False):
        axes.plot(curve.n, curve.best_of, color=color, label=named(name))
    first = next(iter(curves.values()))
    axes.plot(first.n, first.pass_at, color="black", linestyle=":", label="perfect (pass@n)")
    axes.plot(first.n, first.vote, color="black", linestyle="--", label="majority vote")
    axes.set(xscale="log", xlabel="samples of a request", ylabel="accuracy", title="What a verifier is worth")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)
    return figure


def plot_offers(offers: Sequence[Offer], title: str) -> Figure:
    """Price of a million output tokens at a full batch over the speed of a request alone, a line per GPU."""
    figure, (axes,) = figure_of(1, 9, 5.5)
    by_gpu: dict[str, list[Offer]] = {}
    for one in offers:
        if one.usd_per_million_output_tokens is not None:
            by_gpu.setdefault(one.gpu, []).append(one)
    for k, (gpu, mine) in enumerate(by_gpu.items()):
        speed = [one.tokens_per_s_alone for one in mine]
        price = [float(one.usd_per_million_output_tokens or 0.0) for one in mine]
        style = "--" if mine[0].warning else "-"
        name = f"{gpu} (doubtful)" if mine[0].warning else gpu
        color = COLORS[k % len(COLORS)]
        axes.plot(speed, price, marker="o", linestyle=style, color=color, label=named(name))
        for one, x, y in zip(mine, speed, price, strict=True):
            axes.annotate(str(one.tensor_parallel), (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set(xscale="log", yscale="log", title=named(title, 160))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
        axis.set_tick_params(which="minor", labelsize=8)
    axes.set(xlabel="output tokens per second of a request alone", ylabel="$ per million output tokens, full batch")
    if by_gpu:
        axes.legend(frameon=False, fontsize=8, title="GPU (numbers: how many)", title_fontsize=8)
    tidy(axes)
    return figure
