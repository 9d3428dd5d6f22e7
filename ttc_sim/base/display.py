"""How results show themselves: as a picture, and in a notebook as tables with it.

What is drawn and written is the business of the reporting, which comes later in the data's way than any result. So a result only
names what it wants, and the reporting registers how each class is shown.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Renderer(NamedTuple):
    """How one class is shown.

    Attributes:
        plots: draw it, each by the question that it answers; the first where none is asked.
        html: its tables, and the first picture with them.
    """

    plots: Mapping[str, Callable[[Any], Figure]]
    html: Callable[[Any], str]


RENDERERS: dict[type, Renderer] = {}
_LATER: list[str] = []  # modules that register renderers when they are imported


def rendered_by(module: str) -> None:
    """Name the module that registers renderers; it is imported when the first is needed."""
    _LATER.append(module)


def renderer(kind: type) -> Renderer:
    """How things of that class are shown.

    Raises:
        LookupError: nothing was registered for it.
    """
    while _LATER:
        importlib.import_module(_LATER[0])
        _LATER.pop(0)
    for one in kind.__mro__:
        if one in RENDERERS:
            return RENDERERS[one]
    raise LookupError(f"no way to show {kind.__name__} was registered")


def plot_for(kind: type, question: str | None, where: str, field: str = "question") -> Callable[[Any], Figure]:
    """What draws things of that class for a question; ``None``: the first of them.

    Args:
        where, field: where the question stands.

    Raises:
        InputError: no such question.
    """
    # Importing the package shall load no library, and errors take one.
    from ttc_sim.base.errors import InputError, nearest

    plots = renderer(kind).plots
    if question is None:
        return next(iter(plots.values()))
    if not isinstance(question, str) or question not in plots:
        raise InputError(where, field, question, nearest(str(question), plots))
    return plots[question]


class Displayed:
    """Base of results that can be drawn, and that a notebook shows as tables with the picture."""

    def plot(self, question: str | None = None) -> Figure:
        """A matplotlib figure of it.

        Args:
            question: which of its plots; the first of them if left out. Of a result ``arms``, ``latency``, ``day``, ``spend`` and
                ``requests``; of strategies side by side ``tokens`` and ``budget``; of capacity ``day`` and those of a result; of
                anything else there is one.

        Raises:
            InputError: no such question.
        """
        return plot_for(type(self), question, f"{type(self).__name__}.plot")(self)

    def _repr_html_(self) -> str:
        return renderer(type(self)).html(self)


def in_short(shown: object, most: int = 60) -> str:
    """Its notation, cut where it is long."""
    said = repr(shown)
    return said if len(said) <= most else f"{said[: most - 3]}..."
