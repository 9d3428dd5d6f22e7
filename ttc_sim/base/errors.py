"""The one error a user can cause, and how it reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


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
        # One line, also of what shows itself in several, such as a table.
        super().__init__(" ".join(f"{self.where}: {field}: got {shown}; expected {expected}".splitlines()))


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
