"""How much thinking is enough: where does accuracy peak over what is spent?"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.reporting.plots.style import (
    FAINT,
    INK,
    MIDDLE,
    Beside,
    as_percent,
    drawn_in,
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
from ttc_sim.strategies import parse_strategy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttc_sim.evaluation.evaluate import Evaluation

_MOST = 8
_SAME = 0.0005
_NUMBER = re.compile(r"(?<![\w.])(?:\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?|None)")


def plot_budget(found: Sequence[Evaluation]) -> Figure:
    """Accuracy over the tokens that are spent, a line for each family of strategies that differ in their numbers alone, with its
    peak; beside it one of them, that with the most members, by predicted difficulty: each band has a peak of its own."""
    families = families_of(found)
    largest = max(families, key=lambda name: len(families[name].members)) if families else ""
    of_bands = families[largest] if families else Family([], [])
    banded = len(of_bands.members) > 1 and all(one.by_band for one in of_bands.members)
    figure, panels = figure_of(1 + banded, 6.2 * (1 + banded), 4.2)
    curves = {
        name: [
            (one.tokens_per_request, one.accuracy, numbers)
            for one, numbers in zip(family.members, family.numbers, strict=True)
        ]
        for name, family in families.items()
    }
    shown = dict(list(curves.items())[:_MOST] if len(curves) > _MOST + 1 else curves)
    peaks = [_curves(panels[0], shown)]
    left_out = len(curves) - len(shown)
    titled(panels[0], "Accuracy over the budget" + (f" (without {others(left_out)})" if left_out else ""))
    if banded:
        bands: dict[str, list[tuple[float, Estimate, str]]] = {}
        for one, numbers in zip(of_bands.members, of_bands.numbers, strict=True):
            for band, part in one.by_band.items():
                point = float(part["tokens_per_request"]), Estimate(**part["accuracy"]), numbers
                bands.setdefault(f"difficulty {band}", []).append(point)
        titled(panels[1], f"By predicted difficulty: {named(largest, 46)}")
        by_band = {name: sorted(points, key=lambda point: point[0]) for name, points in bands.items()}
        peaks.append(_curves(panels[1], by_band, first=len(shown)))
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
        write_beside(axes, labels, covers=drawn_in(axes))
    return figure


class Family(NamedTuple):
    """Strategies that differ in their numbers alone, in the order of what they spend; and, of each, the numbers that differ."""

    members: list[Evaluation]
    numbers: list[str]


def families_of(found: Sequence[Evaluation]) -> dict[str, Family]:
    """By what they have in common. A number that all of a family share stands in its name; one that differs is dots there."""
    alike: dict[object, list[tuple[Evaluation, dict[str, str]]]] = {}
    for one in found:
        kind, values = _taken_apart(one.strategy)
        key = kind, tuple((name, _NUMBER.sub("#", value)) for name, value in values.items())
        alike.setdefault(key, []).append((one, values))
    families = {}
    for members in alike.values():
        members.sort(key=lambda pair: pair[0].tokens_per_request)
        kind, values = _taken_apart(members[0][0].strategy)
        differ = [name for name in values if len({mine[name] for _, mine in members}) > 1]
        said = [
            f"{name}={_NUMBER.sub('...', value)}" if name in differ else f"{name}={value}"
            for name, value in values.items()
        ]
        # What nobody wrote, as all of them leave it at its default, needs no words.
        written = [
            one
            for name, one in zip(values, said, strict=True)
            if name in differ or _wrote(members[0][0].strategy, name)
        ]
        name = members[0][0].strategy if len(members) == 1 or not values else f"{kind}({', '.join(written)})"
        numbers = [", ".join(_differing(field, mine[field]) for field in differ) for _, mine in members]
        families[name] = Family([one for one, _ in members], numbers)
    return families


def _taken_apart(strategy: str) -> tuple[str, dict[str, str]]:
    """Its kind and all of its fields; of a strategy that is a user's function there are none."""
    try:
        read = parse_strategy(strategy)
    except InputError:
        return strategy, {}
    if not dataclasses.is_dataclass(read):
        return strategy, {}
    return type(read).__name__, {one.name: repr(getattr(read, one.name)) for one in dataclasses.fields(read)}


def _wrote(strategy: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}=", strategy) is not None


def _differing(name: str, value: str) -> str:
    """A number with its name; of a strategy within a strategy its numbers alone."""
    if _NUMBER.fullmatch(value):
        return f"{name} {'none' if value == 'None' else _short(value)}"
    return ", ".join(_short(one) for one in _NUMBER.findall(value) if one != "None")


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
        # Where it stays the same, the peak is where it is first reached.
        top = int(np.argmax(y >= y.max() - _SAME))
        if len(x) > 1:
            axes.plot(x[top], y[top], "*", color=drawn.color, markersize=13, markeredgecolor=INK, markeredgewidth=0.6)
            said = points[top][2]
            peaks.append(
                Beside(float(x[top]), float(y[top]), f"{100 * y[top]:.1f}%" + (f" at {said}" if said else ""), MIDDLE)
            )
    return peaks


__all__ = ["Family", "families_of", "plot_budget"]
