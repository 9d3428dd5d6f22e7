"""What must hold of any plot, by the boxes of what is drawn: no text cut or covered, everything told apart, in grey too."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SLACK = 1.0  # pixels
_GREY = 0.1
"""By how much two greys must differ, of 1, to be told apart by themselves."""
_UNIT = re.compile(r"\(|\bs\b|token|request|share|sequence|replica|point|sample|\$|%|UTC|difficulty|0 to 1|number")


def faults_of(figure: Figure) -> list[str]:
    """All that is wrong with it, a line each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ ")
        figure.draw_without_rendering()
        texts = [(one, one.get_window_extent()) for one in visible_texts(figure)]
        return [
            *_cut(figure, texts),
            *_overlapping(texts),
            *_legends_on_data(figure),
            *_alike(figure),
            *_without_unit(figure),
        ]


def visible_texts(figure: Figure) -> list[Text]:
    """Texts that are drawn: of an axis the numbers within its range, of what is named all."""
    hidden: set[int] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-9 * (high - low)
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                outside = not low - slack <= tick.get_loc() <= high + slack
                hidden |= {id(one) for one in (tick.label1, tick.label2) if outside or not one.get_visible()}
            # matplotlib keeps ticks that it drew before and does not draw now.
            drawn = {id(tick) for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]}
            for tick in [*axis.majorTicks, *axis.minorTicks]:
                hidden |= {id(one) for one in (tick.label1, tick.label2) if id(tick) not in drawn}
    found = figure.findobj(Text)
    return [
        one
        for one in found
        if isinstance(one, Text) and one.get_visible() and one.get_text().strip() and id(one) not in hidden
    ]


def _cut(figure: Figure, texts: list[tuple[Text, Bbox]]) -> Iterator[str]:
    page = figure.bbox
    for text, box in texts:
        if box.x0 < page.x0 - SLACK or box.y0 < page.y0 - SLACK or box.x1 > page.x1 + SLACK or box.y1 > page.y1 + SLACK:
            yield f"cut: {text.get_text()!r}"


def _overlapping(texts: list[tuple[Text, Bbox]]) -> Iterator[str]:
    edges = np.array([box.extents for _, box in texts]).reshape(-1, 4)
    order = np.argsort(edges[:, 0])
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            if edges[j, 0] >= edges[i, 2] - SLACK:
                break
            if min(edges[i, 3], edges[j, 3]) - max(edges[i, 1], edges[j, 1]) > SLACK:
                yield f"overlap: {texts[i][0].get_text()!r} and {texts[j][0].get_text()!r}"


def _legends_on_data(figure: Figure) -> Iterator[str]:
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    for legend in legends:
        if isinstance(legend, Legend):
            box = legend.get_window_extent()
            for axes in figure.axes:
                over = Bbox.intersection(box, axes.get_window_extent())
                if over is not None and over.width > SLACK and over.height > SLACK:
                    yield f"a legend on the data of {axes.get_xlabel()!r}"


def grey_of(color: Any) -> float:
    """How light a colour is, 0 to 1, as a printer without colours has it."""
    red, green, blue = to_rgb(color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _alike(figure: Figure) -> Iterator[str]:
    for axes in figure.axes:
        looks = list(_looks(axes))
        for (name, one), (other_name, other) in combinations(looks, 2):
            if one["shape"] == other["shape"] and abs(one["grey"] - other["grey"]) < _GREY:
                yield f"alike in grey: {name!r} and {other_name!r}"


def _looks(axes: Axes) -> Iterator[tuple[str, dict[str, Any]]]:
    """What has a name in a legend, and how it is drawn: what a reader tells it by without colours."""
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        one: Any = handle
        kind = type(one).__name__
        if isinstance(one, BarContainer):
            one = one.patches[0]
        elif hasattr(one, "lines") and isinstance(one, tuple):
            one = one[0] if one[0] is not None else one[2][0]
        if isinstance(one, (Rectangle, StepPatch, PolyCollection)):
            color: Any = one.get_facecolor()
            hatch = one.get_hatch()
            if isinstance(one, StepPatch):
                color, hatch = one.get_edgecolor(), str(one.get_linestyle())
            color = color[0] if np.ndim(color) == 2 else color
            yield str(label), {"grey": grey_of(color), "shape": (kind, hatch, one.get_alpha())}
        elif isinstance(one, LineCollection):
            yield str(label), {"grey": grey_of(one.get_color()[0]), "shape": (kind, "lines")}
        elif hasattr(one, "get_marker"):
            dash = str(getattr(one, "_unscaled_dash_pattern", one.get_linestyle()))
            hollow = str(one.get_markerfacecolor()) == "#ffffff"
            shape = (dash, one.get_marker(), one.get_fillstyle(), hollow, one.get_linewidth(), one.get_alpha())
            yield str(label), {"grey": grey_of(one.get_color()), "shape": shape}


def _without_unit(figure: Figure) -> Iterator[str]:
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            said, numbers = axis.label.get_text(), [one.get_text() for one in axis.get_ticklabels()]
            counted = any(re.fullmatch(r"[\d.,%\s−-]+", one) for one in numbers if one.strip())
            if counted and axis.label.get_visible() and said and not _UNIT.search(said):
                yield f"no unit: {said!r}"
