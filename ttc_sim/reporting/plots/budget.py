"""How much thinking is enough: where does accuracy peak over what is spent?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ttc_sim.base.estimates import Estimate
from ttc_sim.reporting.plots.style import (
    FAINT,
    INK,
    MIDDLE,
    Beside,
    along,
    as_percent,
    figure_of,
    fitted,
    legend_below,
    logarithmic,
    look,
    named,
    others,
    tidy,
    titled,
    write_beside,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttc_sim.evaluation.evaluate import Evaluation

_MOST = 8
_NUMBER = re.compile(r"(?<![\w.])\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?")


def plot_budget(found: Sequence[Evaluation]) -> Figure:
    """Accuracy over the tokens that are spent, a line for each family of strategies that differ in their numbers alone, with its
    peak; beside it one of them, that with the most members, by predicted difficulty: each band has a peak of its own."""
    families = families_of(found)
    largest = max(families, key=lambda name: len(families[name])) if families else ""
    banded = len(families.get(largest, ())) > 1 and all(one.by_band for one in families[largest])
    figure, panels = figure_of(1 + banded, 6.2 * (1 + banded), 4.2)
    curves = {
        name: [(one.tokens_per_request, one.accuracy, _numbers(one.strategy, name)) for one in members]
        for name, members in families.items()
    }
    shown = dict(list(curves.items())[:_MOST] if len(curves) > _MOST + 1 else curves)
    peaks = [_curves(panels[0], shown)]
    left_out = len(curves) - len(shown)
    titled(panels[0], "Accuracy over the budget" + (f" (without {others(left_out)})" if left_out else ""))
    if banded:
        bands: dict[str, list[tuple[float, Estimate, str]]] = {}
        for one in families[largest]:
            for band, part in one.by_band.items():
                point = float(part["tokens_per_request"]), Estimate(**part["accuracy"]), _numbers(one.strategy, largest)
                bands.setdefault(f"difficulty {band}", []).append(point)
        titled(panels[1], f"By predicted difficulty: {named(largest, 46)}")
        peaks.append(_curves(panels[1], {name: sorted(points, key=lambda point: point[0]) for name, points in bands.items()}, first=len(shown)))
    for axes in panels:
        axes.set_xlabel("output tokens of a request, in the mean")
        axes.set_ylabel("accuracy (%), 95% interval" if axes is panels[0] else "accuracy (%)")
        as_percent(axes.yaxis)
        logarithmic(axes.xaxis)
        tidy(axes)
    axes = panels[0]
    axes.plot([], [], marker="*", linestyle="", color=INK, markersize=11, label="peak")
    legend_below(figure, 3)
    fitted(figure)
    for axes, labels in zip(panels, peaks, strict=True):
        lines = [point for line in axes.lines for point in along(_finite(line.get_xdata(), line.get_ydata()), axes)]
        write_beside(axes, labels, covers=lines)
    return figure


def families_of(found: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Strategies that differ in their numbers alone, by what they have in common; in the order of what they spend.

    A number that all of a family share stands in its name.
    """
    templates: dict[str, list[Evaluation]] = {}
    for one in found:
        templates.setdefault(_NUMBER.sub("#", one.strategy), []).append(one)
    families = {}
    for template, members in templates.items():
        numbers = [_NUMBER.findall(one.strategy) for one in members]
        said = [values[0] if len(set(values)) == 1 else "..." for values in zip(*numbers, strict=True)]
        parts = template.split("#")
        name = parts[0] + "".join(number + part for number, part in zip(said, parts[1:], strict=True))
        families[name] = sorted(members, key=lambda one: one.tokens_per_request)
    return families


def _numbers(strategy: str, family: str) -> str:
    """What makes it one of its family: the numbers that differ."""
    shared = family.split("...")
    values = _NUMBER.findall(strategy)
    said = [number or "..." for number in re.findall(rf"{_NUMBER.pattern}|\.\.\.", family)]
    if len(shared) == 1 or len(said) != len(values):
        return ""
    return ", ".join(_short(value) for value, one in zip(values, said, strict=True) if one == "...")


def _short(value: str) -> str:
    number = float(value.replace("_", ""))
    return f"{number:,.0f}" if number.is_integer() else f"{number:g}"


def _curves(axes: Axes, curves: Mapping[str, Sequence[tuple[float, Estimate, str]]], first: int = 0) -> list[Beside]:
    """Lines with bands of their intervals, and what is to be written at the peaks."""
    peaks = []
    for k, (name, points) in enumerate(curves.items()):
        drawn = look(first + k)
        x = np.array([tokens for tokens, *_ in points])
        y, low, high = (np.array([getattr(one, end) for _, one, _ in points]) for end in ("value", "low", "high"))
        if first == 0 and len(curves) <= 3:
            axes.fill_between(x, low, high, color=drawn.color, alpha=0.15, linewidth=0)
        elif first == 0:
            axes.vlines(x, low, high, color=FAINT, linewidth=1)
        axes.plot(x, y, **drawn.line, label=named(name, 70))
        top = int(np.argmax(y))
        if len(x) > 1:
            axes.plot(x[top], y[top], "*", color=drawn.color, markersize=13, markeredgecolor=INK, markeredgewidth=0.6)
            said = points[top][2]
            peaks.append(Beside(float(x[top]), float(y[top]), f"{100 * y[top]:.1f}%" + (f" at {said}" if said else ""), MIDDLE))
    return peaks


def _finite(x: object, y: object) -> list[tuple[float, float]]:
    both = zip(np.asarray(x, dtype=float), np.asarray(y, dtype=float), strict=True)
    return [(float(a), float(b)) for a, b in both if np.isfinite(a) and np.isfinite(b)]


__all__ = ["families_of", "plot_budget"]
