"""A figure without global state, that a notebook shows whether or not matplotlib was set up there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ttc_sim.base.errors import InputError
from ttc_sim.files.writing import write_atomically

# Without the day and what else differs from run to run: the same figure is the same bytes.
_UNDATED: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


class Picture(Figure):
    """Without pyplot there is no display to ask for, and none that would show it."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(self)

    def savefig(self, fname: Any, **options: Any) -> None:
        """As matplotlib's, with the file there whole or as it was before.

        Raises:
            InputError: a name with an ending that no picture has, or a place that cannot be written to.
        """
        if isinstance(fname, (str, os.PathLike)):
            path = Path(fname)
            kind = options.pop("format", None) or path.suffix[1:].lower() or "png"
            known = self.canvas.get_supported_filetypes()
            if kind not in known:
                raise InputError(path, "file", path.suffix, "a name ending in " + ", ".join(f".{one}" for one in known))
            write_atomically(path, as_bytes(self, kind, **options))
        else:
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        return as_png(self)


def as_png(figure: Figure, dpi: float = 100) -> bytes:
    """The figure as the bytes of a PNG file."""
    return as_bytes(figure, "png", dpi=dpi)


def as_bytes(figure: Figure, kind: str, **options: Any) -> bytes:
    """The figure as the bytes of a file of that kind."""
    out = BytesIO()
    options = {"metadata": _UNDATED.get(kind.removesuffix("z")), **options}
    with rc_context({"svg.hashsalt": "ttc-sim"}), letters_as_boxes():
        figure.savefig(out, format=kind, **options)
    return out.getvalue()


@contextmanager
def letters_as_boxes() -> Iterator[None]:
    """Names in letters that the font lacks are drawn as boxes, without a word."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ ")
        yield


__all__ = ["Picture", "as_bytes", "as_png", "letters_as_boxes"]
