"""Which assumption moves a plan most?"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ttc_sim.assumptions import Assumed, Joint, Sensitivity
from ttc_sim.base.plain import plain
from ttc_sim.reporting.plots.style import (
    COLORS,
    INK,
    MIDDLE,
    as_numbers,
    figure_of,
    fitted,
    legend_below,
    named,
    rows_of,
    tidy,
    titled,
)
from ttc_sim.reporting.sensitivity import shown_as
from ttc_sim.reporting.what_if import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOW, _HIGH = COLORS[5], COLORS[1]  # light and dark in grey, too
_LETTER_IN, _NAMES_IN = 0.078, 1.2  # inches: of a letter of a label, and of what stands left of a panel
_LINE = 95  # letters below a panel
_ALONE, _TOGETHER = MIDDLE, "#c4c4c4"


def plot_sensitivity(found: Sensitivity) -> Figure:
    """A tornado: how far the figure moves to both ends of each range, the farthest first; beside it Sobol indices, if there are."""
    shown = shown_as(found.figure)
    rows = [one for one in found.assumptions if one.effect(found.figure) > 0]
    both = found.joint is not None
    figure, panels = figure_of(1 + both, 13.0 if both else 9.0, 1.5 + 0.34 * max(len(rows), 3))
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
    return fitted(figure)


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
                color=INK,
                linewidth=1.2,
                marker="|",
                markersize=6,
                label=once("95% interval of the difference"),
            )
    _label(axes, bars, base)
    axes.axvline(base, color=INK, linewidth=1.0)
    rows_of(axes, [one.name for one in rows])
    unit = " (%)" if shown.unit == "points" else f" ({shown.unit})" if shown.unit not in ("", shown.label) else ""
    label = f"cost ({shown.label})" if shown.label.startswith("$") else f"{shown.label.removesuffix(' s')}{unit}"
    axes.set_xlabel(label.replace("$", r"\$"))
    told = shown.value(found.figures[found.figure].value)
    told += f" {shown.unit}".replace("$", r"\$") if shown.unit not in ("", "points") else ""
    nothing = "" if rows else "\nnothing moves it"
    titled(axes, f"{named(found.name, 60)}\nas it stands: {told}{nothing}")
    as_numbers(axes.xaxis, 6)
    tidy(axes)
    axes.grid(visible=False, axis="y")


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
            said = "not varied" if indices else ""
            axes.annotate(said, (0, at), (4, 0), textcoords="offset points", fontsize=7.5, va="center", color=MIDDLE)
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
            axes.plot([each.low, each.high], [at + offset] * 2, color=COLORS[1], **line)  # type: ignore[arg-type]
            least, most = min(least, each.low), max(most, each.high)
    rows_of(axes, [""] * len(rows))
    axes.set(xlim=(least - 0.03, most + 0.03))
    axes.axvline(0, color=INK, linewidth=1.0)
    axes.set_xlabel("Sobol index: share of the variance, 0 to 1")
    title = f"All at once: {joint.runs:,} worlds"
    titled(axes, title if indices else f"{title}\nthe figure is the same in all, or unknown")
    tidy(axes)


__all__ = ["plot_sensitivity"]
