"""Arrays that a user's own code returned, looked at before anything is computed from them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError

_KINDS = {"truth values": "b", "whole numbers": "iu", "numbers": "iuf"}


def whole_numbers(where: str, field: str, value: object, shape: tuple[int, ...]) -> I64:
    """Counts or indices, in 64 bits: sums of shorter ones would overflow unseen.

    Raises:
        InputError: something else, or of another shape.
    """
    return _array(where, field, value, "whole numbers", shape).astype(np.int64, copy=False)


def truth_values(where: str, field: str, value: object, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Truth values; numbers are none.

    Raises:
        InputError: something else, or of another shape.
    """
    return _array(where, field, value, "truth values", shape)


def numbers(where: str, field: str, value: object, shape: tuple[int, ...]) -> F64:
    """Floats or whole numbers, as floats; NaN and infinity are for the caller to refuse.

    Raises:
        InputError: something else, or of another shape.
    """
    return _array(where, field, value, "numbers", shape).astype(np.float64, copy=False)


def refuse(where: str, field: str, values: NDArray[Any], bad: NDArray[np.bool_], expected: str) -> None:
    """Name the first bad value, if there is one.

    >>> refuse("Debate()", "needed", np.array([1, 0]), np.array([False, True]), "at least 1")
    Traceback (most recent call last):
    ttc_sim.base.errors.InputError: Debate(): needed[1]: got 0; expected at least 1
    """
    if bad.any():
        at = np.unravel_index(int(bad.argmax()), bad.shape)
        raise InputError(where, f"{field}[{', '.join(str(k) for k in at)}]", values[at].item(), expected)


def _array(
    where: str,
    field: str,
    value: object,
    what: Literal["truth values", "whole numbers", "numbers"],
    shape: tuple[int, ...],
) -> NDArray[Any]:
    expected = f"an array of {what} of shape {shape}"
    if not isinstance(value, np.ndarray):
        raise InputError(where, field, value, expected)
    if value.dtype.kind not in _KINDS[what] or value.shape != shape:
        raise InputError(where, field, f"{value.dtype} of shape {value.shape}", expected)
    return value


__all__ = ["numbers", "refuse", "truth_values", "whole_numbers"]
