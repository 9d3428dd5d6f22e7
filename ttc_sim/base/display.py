"""How results show themselves: as a picture, and in a notebook as tables with it.

What is drawn and written is the business of the reporting, which comes later in the data's way than any result. So a result only
names what it wants, and the reporting registers how each class is shown.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Renderer(NamedTuple):
    """How one class is shown.

    Attributes:
        plot: draws it; html: its tables, and the picture with them.
    """

    plot: Callable[[Any], Figure]
    html: Callable[[Any], str]


RENDERERS: dict[type, Renderer] = {}
_LATER: list[str] = []  # modules that register renderers when they are imported


def rendered_by(module: str) -> None:
    """Name the module that registers renderers; it is imported when the first is needed."""
    _LATER.append(module)


def renderer(shown: object) -> Renderer:
    """How it is shown.

    Raises:
        LookupError: nothing was registered for its class.
    """
    while _LATER:
        importlib.import_module(_LATER[0])
        _LATER.pop(0)
    for kind in type(shown).__mro__:
        if kind in RENDERERS:
            return RENDERERS[kind]
    raise LookupError(f"no way to show {type(shown).__name__} was registered")


class Displayed:
    """Base of results that can be drawn, and that a notebook shows as tables with the picture."""

    def plot(self) -> Figure:
        """A matplotlib figure of it."""
        return renderer(self).plot(self)

    def _repr_html_(self) -> str:
        return renderer(self).html(self)


def in_short(shown: object, most: int = 60) -> str:
    """Its notation, cut where it is long."""
    said = repr(shown)
    return said if len(said) <= most else f"{said[: most - 3]}..."
