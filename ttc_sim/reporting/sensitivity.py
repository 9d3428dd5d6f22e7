"""Which assumption moves a plan most: a table, and a tornado."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ttc_sim.assumptions import Assumed, End, Joint, Sensitivity
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import count, number, percent, seconds
from ttc_sim.base.plain import plain
from ttc_sim.reporting.paper import Paper
from ttc_sim.reporting.plots import COLORS, figure_of, legend_below, named, tidy
from ttc_sim.reporting.text import rests_on
from ttc_sim.reporting.what_if import IN_BRIEF, NOISE, Shown, difference_of, interval_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def shown_as(figure: str) -> Shown:
    """How a figure is read, whichever it is."""
    if figure in IN_BRIEF:
        known = IN_BRIEF[figure]
        return known._replace(label=known.label.partition(";")[0])
    if figure.endswith("_rate"):
        return Shown(figure.removesuffix("_rate").replace("_", " "), percent, 100.0, 2, "points")
    if figure.endswith("_s"):
        return Shown(figure.removesuffix("_s").replace("_", " ") + " s", seconds, 1.0, 2, "s")
    return Shown(figure.replace("_", " "), count, 1.0, 0, "tokens" if "tokens" in figure else "")


def print_sensitivity(console: Console, found: Sensitivity) -> None:
    """Every assumption beside what it does to the figure and to the targets, and what the figures rest on."""
    paper = Paper.of(console)
    shown, figure = shown_as(found.figure), found.figures[found.figure]
    ends = "" if figure.low == figure.high else f" (95%: {shown.value(figure.low)} to {shown.value(figure.high)})"
    paper.say(f"{found.name} as it stands: {shown.label} {shown.value(figure.value)}{ends}")
    missed = [one.name for one in found.checks if not one.holds]
    if found.checks:
        said = f"missed as it stands: {', '.join(missed)}" if missed else "all targets hold as it stands"
        paper.say(f"{said} (with the confidence that they ask for)")
    paper.print(_one_at_a_time(found, shown))
    paper.say(
        f"Differences from that, with 95% intervals; {NOISE} no more than noise. One assumption at a time, the policy as it is.",
        "dim",
    )
    if found.joint is not None:
        paper.print(_indices(found.joint, found.figure))
        _say_joint(paper, found.joint, found.figure, shown)
    paper.say()
    for one in found.assumptions:
        paper.say(f"{one.name}: {one.what}; {one.range.why}", "dim")
    for one in found.assumptions:
        for note in one.notes:
            paper.say(f"- {one.name}: {note}", "dim")
    for name, why in found.absent.items():
        paper.say(f"- {name} does not apply: it needs {why}", "dim")
    for line in rests_on(found.summary):
        paper.say(line, "dim")
    for note in found.notes:
        paper.say(f"- {note}", "dim")


def _one_at_a_time(found: Sensitivity, shown: Shown) -> Table:
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("assumption")
    for name in ("low", "high"):
        table.add_column(name, justify="right")
        table.add_column(f"{shown.unit or found.figure} (95%)", justify="right")
    if found.checks:
        table.add_column("targets", overflow="fold")
    for one in found.assumptions:
        cells = [cell for end in (one.low, one.high) for cell in _end(one, end, found.figure, shown)]
        table.add_row(one.name, *cells, *([_targets(one)] if found.checks else []))
    return table


def _end(one: Assumed, end: End | None, figure: str, shown: Shown) -> tuple[str, str]:
    if end is None:
        return "as it is", ""
    if figure not in end.differences:
        return end.shown, "unknown"
    difference = end.differences[figure]
    value = difference_of(shown, difference.value) if math.isfinite(difference.value) else "any"
    overloaded = "" if end.verdict == "stable" or not one.paired else f" {end.verdict}"
    if difference.low == difference.high:
        return end.shown, f"{value}{overloaded}"
    noise = "" if end.more_than_noise(figure) else NOISE
    return end.shown, f"{noise}{value} ({interval_of(shown, difference)}){overloaded}"


def _targets(one: Assumed) -> str:
    """Until where they hold and which breaks first, or from where all hold, and what is missed beyond that."""
    said = []
    for crossing in one.break_even:
        names = ", ".join(crossing.targets)
        said.append(f"hold until {crossing.shown}: {names}" if crossing.breaks else f"all hold from {crossing.shown}")
    told = {crossing.toward for crossing in one.break_even if crossing.breaks}
    for toward, end in one.ends.items():
        if end.breaks and toward not in told:
            said.append(f"missed at {end.shown}: {', '.join(end.breaks)}")
    return "; ".join(said) or "as they were"


def _indices(joint: Joint, figure: str) -> Table:
    table = Table(
        title=f"All at once: {joint.runs:,} worlds", title_justify="left", header_style="bold", pad_edge=False
    )
    table.add_column("assumption")
    for name in ("first order (95%)", "total (95%)", "only with others (95%)"):
        table.add_column(name, justify="right")
    for one in sorted(joint.indices.get(figure, ()), key=lambda index: -index.total.value):
        table.add_row(one.name, *(_index(each) for each in (one.first, one.total, one.interaction)))
    return table


def _index(one: Estimate) -> str:
    if one.value == 0 and one.low == one.high:
        return "0"
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


def _say_joint(paper: Paper, joint: Joint, figure: str, shown: Shown) -> None:
    if figure not in joint.spread:
        paper.say("unknown in some of these worlds: no indices", "dim")
    else:
        spread = joint.spread[figure]
        low, high = shown.value(spread.low), shown.value(spread.high)
        paper.say(f"{shown.label} there: {shown.value(spread.value)} in the mean, {low} to {high} in 95% of the worlds")
        if figure not in joint.indices:
            paper.say("the same in every world: nothing moves it", "dim")
    paper.say(
        "Sobol indices: shares of the figure's variance that go with an assumption alone, and with it at all. "
        f"{_laws(joint)}.",
        "dim",
    )
    mixed = [one for one in joint.indices.get(figure, ()) if one.interaction.low > 0]
    if mixed:
        names = ", ".join(one.name for one in sorted(mixed, key=lambda one: -one.interaction.value))
        paper.say(f"More than noise only together with others: {names}", "dim")
    for note in joint.notes:
        paper.say(f"- {note}", "dim")


def _laws(joint: Joint) -> str:
    """What values are drawn from: those that are alike together."""
    kinds: dict[str, list[str]] = {}
    for name, law in joint.laws.items():
        kinds.setdefault(law.partition(",")[0], []).append(name)
    return "; ".join(f"{law}: {', '.join(names)}" for law, names in kinds.items())


# ------------------------------------------------------------------------------------------------------------- picture

_LOW, _HIGH = COLORS[5], COLORS[1]  # light and dark in grey, too
_LONGEST = 34
_LETTER_IN, _NAMES_IN = 0.078, 1.2  # inches: of a letter of a label, and of what stands left of a panel
_LINE = 95  # letters below a panel
_ALONE, _TOGETHER = "#444444", "#c4c4c4"


def plot_sensitivity(found: Sensitivity) -> Figure:
    """A tornado: how far the figure moves to both ends of each range, the farthest first; beside it Sobol indices, if there are."""
    shown = shown_as(found.figure)
    rows = [one for one in found.assumptions if one.effect(found.figure) > 0]
    both = found.joint is not None
    figure, panels = figure_of(1 + both, 13.0 if both else 9.0, 1.6 + 0.36 * max(len(rows), 3))
    _tornado(panels[0], found, rows, shown)
    still = [one.name for one in found.assumptions if not one.effect(found.figure) > 0]
    if still:
        lines = textwrap.wrap(f"without any effect on it: {', '.join(still)}", _LINE)
        figure.set_figheight(figure.get_figheight() + 0.17 * len(lines))
        said = [panels[0].get_xlabel(), *map(plain, lines)]
        panels[0].set_xlabel("\n".join(said), fontsize=8.5)
    if found.joint is not None:
        _indices_beside(panels[1], found.joint, found.figure, rows)
    legend_below(figure, 5)
    return figure


@dataclass(frozen=True)
class _Bar:
    """One end of a range, in the units of the picture.

    Attributes:
        at: row; low: whether it is the low end of the range; value: of the difference; left, right: where bar and whisker end.
        whisker: the interval of the difference, as far as it is drawn; label: what stands beyond it.
    """

    at: int
    low: bool
    value: float
    left: float
    right: float
    whisker: tuple[float, float] | None
    label: str


def _bars(found: Sensitivity, rows: Sequence[Assumed], shown: Shown) -> list[_Bar]:
    drawn = [
        (at, toward == "low", one, end, end.differences[found.figure].scaled(shown.times))
        for at, one in enumerate(rows)
        for toward, end in one.ends.items()
        if found.figure in end.differences
    ]
    known = [abs(difference.value) for *_, difference in drawn if math.isfinite(difference.value)]
    # Of intervals that are very wide, or open, as much is drawn as bars take.
    most = 1.5 * max(known, default=0.0) or 1.0
    bars = []
    for at, low, one, end, difference in drawn:
        value, least, greatest = (min(max(x, -most), most) for x in (difference.value, difference.low, difference.high))
        whisker = (least, greatest) if one.paired and least < greatest else None
        reach = [0.0, value, *(whisker or ())]
        name = end.shown if one.paired else ("low" if low else "high")
        label = f"{name}: {shown.value(end.figures[found.figure])}" if found.figure in end.figures else name
        bars.append(_Bar(at, low, value, min(reach), max(reach), whisker, label))
    return bars


def _tornado(axes: Axes, found: Sensitivity, rows: Sequence[Assumed], shown: Shown) -> None:
    base = found.figures[found.figure].value * shown.times
    bars = _bars(found, rows, shown)
    labelled: set[str] = set()

    def once(label: str) -> str | None:
        known = label in labelled
        labelled.add(label)
        return None if known else label

    for bar in bars:
        axes.barh(
            bar.at,
            bar.value,
            left=base,
            height=0.62,
            color=_LOW if bar.low else _HIGH,
            hatch="" if bar.low else "///",
            edgecolor="#333333",
            linewidth=0.6,
            label=once("low end of the range" if bar.low else "high end of the range"),
        )
    for bar in bars:
        if bar.whisker is not None:
            axes.plot(
                [base + end for end in bar.whisker],
                [bar.at, bar.at],
                color="black",
                linewidth=1.2,
                marker="|",
                markersize=6,
                label=once("95% interval of the difference"),
            )
    _label(axes, bars, base)
    axes.axvline(base, color="black", linewidth=1.0)
    axes.set_yticks(range(len(rows)), [named(one.name, _LONGEST) for one in rows], fontsize=8)
    axes.set(ylim=(max(len(rows), 1) - 0.4, -0.6))
    unit = " (%)" if shown.unit == "points" else ""
    axes.set_xlabel(f"{shown.label}{unit}".replace("$", r"\$"), fontsize=9)
    told = shown.value(found.figures[found.figure].value)
    nothing = "" if rows else "\nnothing moves it"
    axes.set_title(f"{named(found.name, 60)}\nas it stands: {told}{nothing}", fontsize=9)
    axes.locator_params(axis="x", nbins=6)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_formatter(lambda x, _: number(x) if abs(x) >= 1000 else f"{x:.4g}")
    tidy(axes)


def _label(axes: Axes, bars: Sequence[_Bar], base: float) -> None:
    """The value of the assumption and what the figure is there, beyond bars and whiskers, with room for it."""
    sides: dict[tuple[int, bool], list[_Bar]] = {}
    for bar in bars:
        to_right = bar.value > 0 or (bar.value == 0 and not bar.low)
        sides.setdefault((bar.at, to_right), []).append(bar)
    left, right = min((bar.left for bar in bars), default=-1.0), max((bar.right for bar in bars), default=1.0)
    texts = []
    for (at, to_right), there in sides.items():
        # The whisker of the other end may reach over to this side.
        row = [bar for bar in bars if bar.at == at]
        far = max(bar.right for bar in row) if to_right else min(bar.left for bar in row)
        # Of two on one side the one that reaches farther stands farther out.
        words = [bar.label for bar in sorted(there, key=lambda bar: bar.value)]
        texts.append((at, to_right, far, "  |  ".join(words)))
    letter = _LETTER_IN / (axes.figure.get_figwidth() / len(axes.figure.axes) - _NAMES_IN)  # type: ignore[union-attr]
    room = [
        letter * max((len(text) for _, side, _, text in texts if side == to_right), default=0)
        for to_right in (False, True)
    ]
    width = (right - left) / max(1 - sum(room), 0.2)
    axes.set_xlim(base + left - room[0] * width, base + right + room[1] * width)
    for at, to_right, far, text in texts:
        axes.annotate(
            text.replace("$", r"\$"),
            (base + far, at),
            xytext=(5 if to_right else -5, 0),
            textcoords="offset points",
            ha="left" if to_right else "right",
            va="center",
            fontsize=7.5,
        )


def _indices_beside(axes: Axes, joint: Joint, figure: str, rows: Sequence[Assumed]) -> None:
    """First-order and total indices, in the order of the tornado."""
    indices = {one.name: one for one in joint.indices.get(figure, ())}
    least, most = 0.0, 1.0
    for at, one in enumerate(rows):
        index = indices.get(one.name)
        if index is None:
            axes.annotate("not varied" if indices else "", (0, at), fontsize=7.5, va="center", color="#555555")
            continue
        for offset, each, color, label in (
            (-0.18, index.first, _ALONE, "alone (first order)"),
            (0.18, index.total, _TOGETHER, "with others (total)"),
        ):
            first = at == next(k for k, row in enumerate(rows) if row.name in indices)
            axes.barh(
                at + offset,
                max(each.value, 0.0),
                height=0.34,
                color=color,
                edgecolor="#333333",
                linewidth=0.6,
                label=label if first else None,
            )
            line = {"linewidth": 1.0, "marker": "|", "markersize": 4}
            axes.plot([each.low, each.high], [at + offset] * 2, color="#D55E00", **line)  # type: ignore[arg-type]
            least, most = min(least, each.low), max(most, each.high)
    axes.set_yticks(range(len(rows)), [""] * len(rows))
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(least - 0.03, most + 0.03))
    axes.axvline(0, color="black", linewidth=1.0)
    axes.set_xlabel("Sobol index: share of the variance", fontsize=9)
    title = f"all at once: {joint.runs:,} worlds"
    axes.set_title(title if indices else f"{title}\nthe figure is the same in all, or unknown", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    tidy(axes)


__all__ = ["plot_sensitivity", "print_sensitivity", "shown_as"]
