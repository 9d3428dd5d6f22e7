"""The one style of plots: looks that stay apart in colour and in grey, tidy axes, names that fit, legends beside the data.

A plot is drawn in three steps: panels (:func:`figure_of`), what stands in them, and :func:`fitted`, which lays the figure out and
changes what would be cut or would overlap.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.plain import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

# Okabe and Ito's, told apart by readers with colour-blindness too; without their yellow, which white paper swallows.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, MIDDLE, SOFT, FAINT = "#000000", "#444444", "#999999", "#dddddd"
"""What is no colour; the HTML report draws these in the colours of its page, light or dark."""
_MARKERS = "osD^vPX<>ph"
_INSIDES = ("full", "none", "left")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (9, 2)))
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++", "||||")

TITLE, LABEL, SMALL = 10.0, 9.0, 8.0
"""Sizes of letters, in points: titles, axes, and all that stands there by the dozen."""
ROW_IN = 0.22
"""Height of a row with a name, in inches."""
_POINTS_PER_INCH = 72.0


class Look(NamedTuple):
    """How one of several is drawn."""

    color: str
    marker: str
    dash: Any
    hatch: str
    inside: Any = "full"

    @property
    def point(self) -> dict[str, Any]:
        """Options of a mark alone."""
        return {"color": self.color, "marker": self.marker, "fillstyle": self.inside}

    @property
    def line(self) -> dict[str, Any]:
        """Options of a line with marks."""
        return {**self.point, "linestyle": self.dash, "markersize": 4.5, "linewidth": 1.5}

    @property
    def fill(self) -> dict[str, Any]:
        """Options of an area."""
        return {"facecolor": self.color, "edgecolor": "#ffffff", "hatch": self.hatch, "linewidth": 0.5}


def look(k: int) -> Look:
    """How the ``k``-th is drawn. Marks alone, full, hollow or half, tell 33 apart, so that grey is enough; with dashes it is 165.

    >>> len({(look(k).marker, look(k).inside) for k in range(33)}), len({look(k) for k in range(1000)})
    (33, 1000)
    """
    return Look(COLORS[k % 7], _MARKERS[k % 11], _DASHES[k % 5], _HATCHES[k % 8], _INSIDES[k // 11 % 3])


# ------------------------------------------------------------------------------------------------- figures and axes


def figure_of(
    columns: int, width: float, height: float, rows: int = 1, count: int | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of panels, row by row, in inches.

    Args:
        count: of the panels, where the last row is not full.
    """
    # matplotlib takes a while to import, and most commands draw nothing.
    from ttc_sim.reporting.picture import Picture

    figure = Picture(width, height)
    many = rows * columns if count is None else count
    return figure, [figure.add_subplot(rows, columns, k + 1) for k in range(many)]


def time_unit(lasts_s: float, hours_from: float) -> tuple[float, str]:
    """Seconds of the unit that times are drawn in, and its name: hours above so many, minutes above five, else seconds.

    >>> time_unit(9000.0, hours_from=2)
    (3600.0, 'h')
    """
    return (3600.0, "h") if lasts_s > hours_from * 3600 else (60.0, "min") if lasts_s > 300 else (1.0, "s")


def tidy(axes: Axes) -> None:
    """The one style of axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", which="both", labelsize=SMALL)
    axes.xaxis.label.set_fontsize(LABEL)
    axes.yaxis.label.set_fontsize(LABEL)


def titled(axes: Axes, title: str) -> None:
    """A title over the left end of the axes."""
    axes.set_title(title, loc="left", fontsize=TITLE, fontweight="bold")


def logarithmic(axis: Axis) -> None:
    """A logarithmic axis whose numbers stand apart, however narrow or wide it is."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

    axis._set_axes_scale("log")  # type: ignore[attr-defined]  # of either axis of the two
    low, high = sorted(axis.get_view_interval())
    within = LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0, 3.0) if high < 3000 * low else (1.0,))
    narrow = high < 10 * low
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]) if narrow else within)
    axis.set_major_formatter(_plain_number)
    axis.set_minor_formatter(NullFormatter())
    if narrow:
        axis.set_minor_locator(NullLocator())


def _plain_number(value: float, _: float | None = None) -> str:
    """Without exponents, as far as that is readable."""
    if value and (abs(value) >= 1e7 or abs(value) < 1e-4):
        return f"{value:g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"


def as_percent(axis: Axis) -> None:
    """Shares, 0 to 1, written as percent."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(lambda value, _: f"{100 * value:.6g}%")


def as_numbers(axis: Axis, bins: int = 5) -> None:
    """A few numbers, without exponents."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(bins))
    axis.set_major_formatter(_plain_number)


def sides(figure: Estimate, times: float = 1.0) -> list[list[float]]:
    """Lengths of an interval's two sides; one that nothing bounds is not drawn."""
    up, down = figure.high - figure.value, figure.value - figure.low
    return [[times * max(one, 0.0) if math.isfinite(one) else 0.0] for one in (down, up)]


def spread(
    axes: Axes, k: float, times: Sequence[float], drawn: Look, interval: Estimate | None = None, size: float = 6.0
) -> None:
    """A row of times: from the median to the 99th percentile, with the 95th and, pale behind it, its interval.

    Args:
        times: median, 95th and 99th percentile.
    """
    p50, p95, p99 = times
    if interval is not None and math.isfinite(interval.low) and math.isfinite(interval.high):
        ends = [interval.low, interval.high]
        axes.plot(ends, [k, k], color=drawn.color, alpha=0.3, linewidth=9, solid_capstyle="butt", zorder=1.5)
    axes.plot([p50, p99], [k, k], color=drawn.color, linewidth=1.8)
    axes.plot([p50, p99], [k, k], "|", color=drawn.color, markersize=9, markeredgewidth=1.8)
    edge = INK if drawn.marker == "*" else drawn.color
    axes.plot(
        p95, k, drawn.marker, color=drawn.color, markersize=size, markeredgecolor=edge, markeredgewidth=0.7, zorder=3
    )


def key_of_spread(interval: str = "its 95% interval") -> list[Any]:
    """What a legend says of such rows."""
    from matplotlib.lines import Line2D

    line: dict[str, Any] = {"color": COLORS[0]}
    return [
        Line2D(
            [],
            [],
            **line,
            marker="|",
            markersize=9,
            markeredgewidth=1.8,
            linewidth=1.8,
            label="median to 99th percentile",
        ),
        Line2D([], [], **line, marker="o", linestyle="", markersize=6, label="95th percentile"),
        Line2D([], [], **line, alpha=0.3, linewidth=9, solid_capstyle="butt", label=interval),
    ]


# ------------------------------------------------------------------------------------------------------------ names


def named(name: str, most: int = 32) -> str:
    """A user's name as it stands, no longer than there is room for.

    matplotlib reads dollars as formulas, and leaves what begins with an underscore out of legends.
    """
    shown = plain(name)
    short = shown if len(shown) <= most else f"{shown[: most - 3]}..."
    return (" " if name.startswith("_") else "") + _literal(short)


def _literal(text: str) -> str:
    return text.replace("$", r"\$")


def named_within(figure: Figure, name: str, inches: float, size: float = SMALL, most: int = 60) -> str:
    """A name, cut to what goes into so many inches: letters differ in width."""
    letters = min(most, max(len(plain(name)), 4))
    probe = figure.text(0, 0, named(name, letters), fontsize=size)
    try:
        while (width := width_of(probe)) > inches and letters > 4:
            letters = max(min(int(letters * inches / width), letters - 1), 4)
            probe.set_text(named(name, letters))
        return probe.get_text()
    finally:
        probe.remove()


def width_of(text: Text) -> float:
    """In inches."""
    with _silent():
        figure = text.get_figure(root=True)
        assert figure is not None
        return float(text.get_window_extent().width) / figure.dpi


def rows_of(axes: Axes, names: Sequence[str], inches: float = 2.4, extra: Sequence[str] | None = None) -> None:
    """A row for each name, the first on top.

    Args:
        inches: that names may take.
        extra: what stands after each name, whole.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    after = extra or [""] * len(names)
    labels = [named_within(figure, name, inches) + _literal(more) for name, more in zip(names, after, strict=True)]
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def height_of_rows(count: int, least: float = 2.0) -> float:
    """Inches of a panel with so many named rows."""
    return max(least, ROW_IN * count + 1.1)


def others(count: int, of: str = "") -> str:
    """What is said of those that are not shown one by one.

    >>> others(1, "arm"), others(23, "source")
    ('1 other arm', '23 other sources')
    """
    return f"{count:,} other{'' if not of else f' {of}'}{'s' if count > 1 else ''}"


# ---------------------------------------------------------------------------------------------------------- legends

_HANDLE, _PAD, _BETWEEN = 3.2, 0.6, 1.6  # in widths of the letter m, as matplotlib counts
_LINE_SPACE = 1.55
_LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": SMALL,
    "handlelength": _HANDLE,
    "handletextpad": _PAD,
    "columnspacing": _BETWEEN,
    "labelspacing": _LINE_SPACE - 1.16,
}


def legend_below(figure: Figure, most: int = 6, handles: Sequence[Any] | None = None) -> None:
    """Names below the panels, in as many columns as there is room for; the figure grows by what they take.

    Args:
        most: columns.
        handles: what is named, instead of all that has a label.
    """
    pairs = [(one, one.get_label()) for one in handles or ()] or [
        pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)
    ]
    if not pairs:
        return
    room = figure.get_figwidth() - 0.3
    columns, labels = _columns(figure, [str(label) for _, label in pairs], room, most)
    lines = -(-len(pairs) // columns)
    figure.set_figheight(figure.get_figheight() + lines * SMALL * _LINE_SPACE / _POINTS_PER_INCH + 0.08)
    figure.legend(
        [one for one, _ in pairs],
        labels,
        loc="outside lower center",
        ncols=columns,
        **_LEGEND,
        borderaxespad=0.3,
    )


def legend_under(axes: Axes, below_points: float = 36.0) -> float:
    """The names of one panel below it, where several panels each have their own; how many inches they take."""
    from matplotlib.transforms import ScaledTranslation

    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return 0.0
    figure = axes.get_figure(root=True)
    assert figure is not None
    panels = max(sum(other.get_subplotspec().rowspan == axes.get_subplotspec().rowspan for other in figure.axes), 1)  # type: ignore[union-attr]
    columns, labels = _columns(figure, [str(label) for label in labels], figure.get_figwidth() / panels - 0.75, 3)
    moved = ScaledTranslation(0, -below_points / _POINTS_PER_INCH, figure.dpi_scale_trans)
    axes.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=axes.transAxes + moved,
        ncols=columns,
        **_LEGEND,
        borderaxespad=0,
        borderpad=0,
    )
    return -(-len(labels) // columns) * SMALL * _LINE_SPACE / _POINTS_PER_INCH


def _columns(figure: Figure, labels: list[str], room: float, most: int) -> tuple[int, list[str]]:
    """In how many columns labels go into so many inches, and the labels: cut where one is longer than all of them."""
    em = SMALL / _POINTS_PER_INCH
    handle = (_HANDLE + _PAD) * em
    cut = [_cut(figure, label, room - handle) for label in labels]
    widths = [width for _, width in cut]
    for columns in range(min(most, len(labels)), 0, -1):
        # As matplotlib fills them: one after another, those first that have one more.
        each, more = divmod(len(widths), columns)
        ends = [sum(each + (k < more) for k in range(upto)) for upto in range(columns + 1)]
        total = sum(max(widths[a:b]) + handle for a, b in pairwise(ends)) + (columns - 1) * _BETWEEN * em
        if total <= room:
            return columns, [text for text, _ in cut]
    return 1, [text for text, _ in cut]


def _cut(figure: Figure, label: str, inches: float) -> tuple[str, float]:
    probe = figure.text(0, 0, label, fontsize=SMALL)
    try:
        width, raw = width_of(probe), label.replace(r"\$", "$")
        while width > inches and len(raw) > 4:
            raw = f"{raw[: max(int((len(raw) - 3) * min(0.98, inches / width)), 1)]}..."
            probe.set_text(_literal(raw))
            width = width_of(probe)
        return probe.get_text(), width
    finally:
        probe.remove()


# ----------------------------------------------------------------------------------------- labels beside their points


class Beside(NamedTuple):
    """What is written beside a point of the data."""

    x: float
    y: float
    text: str
    color: str = MIDDLE
    weight: str = "normal"


def write_beside(
    axes: Axes,
    labels: Sequence[Beside],
    size: float = SMALL,
    covers: Sequence[tuple[float, float]] = (),
    over_lines: int = 0,
) -> int:
    """Write each beside its point where it covers nothing; what has no such place is left out. How many are written.

    The figure must stand as it will be drawn (:func:`fitted`): places follow from sizes on the canvas.

    Args:
        covers: further points of the data that must stay free, such as those of a line.
        over_lines: how many of the first labels may cover those where there is no other place.
    """
    import numpy as np

    figure = axes.get_figure(root=True)
    assert figure is not None
    inside = axes.get_window_extent()
    point = figure.dpi / _POINTS_PER_INCH

    def around(places: Sequence[tuple[float, float]], half: float) -> Any:
        at = axes.transData.transform(places) if len(places) else np.zeros((0, 2))
        return np.hstack([at - half * point, at + half * point])

    taken, lines = around([(one.x, one.y) for one in labels], 4.5), around(covers, 1.5)
    written = 0
    for k, one in enumerate(labels):
        probe = figure.text(0, 0, one.text, fontsize=size, fontweight=one.weight)
        with _silent():
            box = probe.get_window_extent()
        probe.remove()
        x, y = axes.transData.transform((one.x, one.y))
        tries = [(far, side, True) for far in (7.0, 12.0, 18.0, 26.0) for side in _AROUND]
        tries += [(far, side, False) for far in (7.0, 12.0) for side in _AROUND if k < over_lines]
        for far, (dx, dy, ha, va), clear in tries:
            boxes = np.concatenate([taken, lines]) if clear else taken
            left = x + dx * far * point - box.width * {"left": 0.0, "center": 0.5, "right": 1.0}[ha]
            low = y + dy * far * point - box.height * {"bottom": 0.0, "center": 0.5, "top": 1.0}[va]
            there = np.array([left - 2, low - 1, left + box.width + 2, low + box.height + 1])
            within = inside.x0 <= there[0] and there[2] <= inside.x1 and inside.y0 <= there[1] and there[3] <= inside.y1
            if within and not ((boxes[:, :2] < there[2:]) & (there[:2] < boxes[:, 2:])).all(axis=1).any():
                axes.annotate(
                    one.text,
                    (one.x, one.y),
                    xytext=(dx * far, dy * far),
                    textcoords="offset points",
                    fontsize=size,
                    color=one.color,
                    fontweight=one.weight,
                    ha=ha,
                    va=va,
                )
                taken = np.vstack([taken, there])
                written += 1
                break
    return written


_AROUND = (
    (1.0, 0.0, "left", "center"),
    (0.0, 1.0, "center", "bottom"),
    (0.0, -1.0, "center", "top"),
    (-1.0, 0.0, "right", "center"),
    (0.7, 0.7, "left", "bottom"),
    (0.7, -0.7, "left", "top"),
    (-0.7, 0.7, "right", "bottom"),
    (-0.7, -0.7, "right", "top"),
)


def drawn_in(axes: Axes, steps: int = 12) -> list[tuple[float, float]]:
    """Points along all lines and intervals of a panel, as close as labels need them to keep off; in the data's coordinates."""
    import numpy as np
    from matplotlib.collections import LineCollection

    lines = [one.get_transform().transform(one.get_xydata()) for one in axes.lines]
    for group in axes.collections:
        if isinstance(group, LineCollection):
            lines += [axes.transData.transform(part) for part in group.get_segments()]
    found = []
    for placed in lines:
        known = placed[np.isfinite(placed).all(axis=1)]
        found += [np.linspace(a, b, steps) for a, b in pairwise(known)]
    return (
        [(float(x), float(y)) for x, y in axes.transData.inverted().transform(np.concatenate(found))] if found else []
    )


# ----------------------------------------------------------------------------------------------------- what must fit


def laid_out(figure: Figure) -> None:
    """Put panels, titles and legends where they will be drawn."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


def fitted(figure: Figure) -> Figure:
    """Lay the figure out; titles and labels of axes that are too long become several lines, numbers that overlap are left out."""
    with _silent():
        for _ in range(2):
            laid_out(figure)
            changed = [_broken(figure), *(_thinned(axis) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis))]
            if not any(changed):
                break
        else:
            laid_out(figure)
    # Laid out once and for all: matplotlib would do so again whenever it draws, each time from where it stood before.
    figure.set_layout_engine("none")
    return figure


def _silent() -> AbstractContextManager[None]:
    from ttc_sim.reporting.picture import letters_as_boxes

    return letters_as_boxes()


def _broken(figure: Figure) -> bool:
    """Whether a title or a label was longer than its room, and was broken into lines."""
    canvas, changed = figure.bbox, False
    for axes in figure.axes:
        box = axes.get_window_extent()
        right = [other.get_window_extent().x0 for other in figure.axes]
        beside = [x for x in right if x > box.x1 + 1]
        # Titles reach to the next panel, less what its numbers take.
        end = min([canvas.x1, *beside]) - 4
        for text in (axes._left_title, axes.title):  # type: ignore[attr-defined]  # matplotlib has no public way to them
            start = box.x0 if text is not axes.title else box.x0 + 0.5 * box.width - 0.5 * (end - box.x0)
            changed |= _break(text, end - max(start, canvas.x0))
        middle = 0.5 * (box.x0 + box.x1)
        changed |= _break(axes.xaxis.label, min(1.1 * box.width, 2 * min(middle, canvas.x1 - middle) - 4))
        changed |= _break(axes.yaxis.label, 1.04 * box.height, upright=True)
    return changed


def _break(text: Text, room: float, *, upright: bool = False) -> bool:
    """Into as few lines as go into so many pixels."""

    def length() -> float:
        box = text.get_window_extent()
        return float(box.height if upright else box.width)

    said, escaped = text.get_text().replace(r"\$", "$"), r"\$" in text.get_text()
    if not said.strip() or room < 20 or (now := length()) <= room:
        return False
    letters = max(map(len, said.split("\n")))
    for _ in range(8):
        letters = max(min(int(letters * room / now), letters - 1), 6)
        lines = [part for line in said.split("\n") for part in textwrap.wrap(line, letters) or [""]]
        text.set_text(_literal("\n".join(lines)) if escaped else "\n".join(lines))
        now = length()
        if now <= room:
            break
    return True


def _thinned(axis: Axis) -> bool:
    """Whether numbers of an axis overlapped, and every second was left out."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

    if isinstance(axis.get_major_formatter(), FixedFormatter):
        return False  # names, which have a row each
    changed = False
    minor = [label for label in axis.get_minorticklabels() if label.get_text()]
    shown = visible_ticks(axis)
    if minor:
        axis.set_minor_formatter(NullFormatter())
        changed = True
    boxes = [label.get_window_extent() for _, label in shown]
    gap = 4 if axis.axis_name == "x" else 0  # type: ignore[attr-defined]
    if any(_touch(one, other, gap) for one, other in pairwise(boxes)) and len(shown) > 1:
        kept = [at for at, _ in shown]
        axis.set_major_locator(FixedLocator(kept[:: 2 if len(kept) > 2 else len(kept)]))
        changed = True
    return changed


def visible_ticks(axis: Axis) -> list[tuple[float, Text]]:
    """Numbers of an axis that are seen, and where they stand."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    return [
        (float(tick.get_loc()), tick.label1)
        for tick in axis.get_major_ticks()
        if tick.label1.get_text() and low - slack <= tick.get_loc() <= high + slack
    ]


def _touch(one: Bbox, other: Bbox, gap: float) -> bool:
    return bool(one.x0 - gap < other.x1 and other.x0 - gap < one.x1 and one.y0 < other.y1 and other.y0 < one.y1)


__all__ = [
    "COLORS",
    "FAINT",
    "INK",
    "LABEL",
    "MIDDLE",
    "SMALL",
    "SOFT",
    "TITLE",
    "Beside",
    "Look",
    "as_numbers",
    "as_percent",
    "drawn_in",
    "figure_of",
    "fitted",
    "height_of_rows",
    "key_of_spread",
    "laid_out",
    "legend_below",
    "legend_under",
    "logarithmic",
    "look",
    "named",
    "named_within",
    "others",
    "rows_of",
    "sides",
    "spread",
    "tidy",
    "time_unit",
    "titled",
    "visible_ticks",
    "write_beside",
]
