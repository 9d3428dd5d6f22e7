"""Arguments of public functions, checked like the keys of a file: one clear line names what is wrong."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TypeGuard

import numpy as np

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS


def whole(where: str | Path, field: str, value: object, least: int, most: float, what: str = "") -> None:
    """Refuse what is no whole number (of ``what``) within the limits.

    >>> whole("simulate", "requests", 0, 1, math.inf, "requests")
    Traceback (most recent call last):
    ttc_sim.base.errors.InputError: simulate: requests: got 0; expected a whole number of requests, at least 1
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        number = f"a whole number of {what}" if what else "a whole number"
        limited = f"at least {least}, at most {most:,.0f}" if math.isfinite(most) else f"at least {least}"
        allowed = f"from {least} to {most:.0f}" if most < MOST_TOKENS else limited
        raise InputError(where, field, value, f"{number}, {allowed}")


def count(where: str, field: str, value: object, least: int, most: float, what: str = "") -> int:
    """A whole number within the limits, NumPy's own too, as Python's.

    >>> count("simulate", "requests", np.int64(5), 1, math.inf)
    5
    """
    if isinstance(value, np.integer):
        value = value.item()
    whole(where, field, value, least, most, what)
    assert isinstance(value, int)
    return value


def finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float can hold, and no truth value.

    >>> finite(1.5), finite(float("inf")), finite(10**400), finite(True)
    (True, False, False, False)
    """
    most = sys.float_info.max
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -most <= value <= most


def in_python(made: object, *fields: str) -> None:
    """NumPy's numbers and arrays in a frozen dataclass become Python's: its notation is to be read back."""
    for name in fields:
        value = getattr(made, name)
        if isinstance(value, (np.generic, np.ndarray)):
            object.__setattr__(made, name, value.tolist())


def share(where: str, field: str, value: object) -> None:
    """Refuse what is no number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(where, field, value, "a number from 0 to 1")


def function(where: str, field: str, value: object, expected: str) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise InputError(where, field, value, expected)


def location(where: str | Path, field: str, value: object, expected: str) -> Path:
    """A path, whether or not anything is there.

    Raises:
        InputError: neither text nor a path, or a name that no file can have, such as a file's content instead of its name.
    """
    try:
        if not isinstance(value, (str, os.PathLike)):
            raise TypeError
        path = Path(value)
        if "\0" in str(path):
            raise ValueError
        path.exists()
    except (OSError, TypeError, ValueError):
        raise InputError(where, field, value, expected) from None
    return path
