"""The one error a user can cause, and how it reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError


class InputError(ValueError):
    """Something the user gave cannot be used.

    Reads as one line that names where the value stands, the value, and what was expected. The command line prints
    that line and exits with status 1; nothing has been written by then.

    >>> print(InputError("gateway.yaml", "targets.accuracy", 1.4, "a share between 0 and 1"))
    gateway.yaml: targets.accuracy: got 1.4; expected a share between 0 and 1
    """

    def __init__(self, where: str | Path, field: str, value: object, expected: str) -> None:
        self.where = str(where)
        self.field = field
        self.value = value
        self.expected = expected
        shown = repr(value)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(f"{self.where}: {field}: got {shown}; expected {expected}")


def from_validation(where: str | Path, error: ValidationError, whole: str) -> InputError:
    """The first thing that a model of pydantic's found wrong; ``whole`` names what was checked where it is no single field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or whole
    value = "nothing" if first["type"] == "missing" else first["input"]
    return InputError(where, field, value, first["msg"].removeprefix("Value error, ").removeprefix("Input should be "))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``one of a, b, c`` or, for a likely slip, ``'b' (nearest of a, b, c)``.

    >>> nearest("ganma", ["gamma", "poisson"])
    "'gamma' (nearest of gamma, poisson)"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    shown = names if len(names) <= 24 else [*difflib.get_close_matches(name, names, n=8, cutoff=0.0), "..."]
    listed = ", ".join(shown) if names else "nothing: none is defined"
    return f"{close[0]!r} (nearest of {listed})" if close else f"one of {listed}"
