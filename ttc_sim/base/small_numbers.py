"""Arrays of small whole numbers, such as statuses and numbers of problems: looked up and counted without being sorted."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

_MOST = 256  # of numbers of one byte


def among(values: NDArray[np.int8], some: Collection[int]) -> NDArray[np.bool_]:
    """Whether each is one of some; as ``np.isin``, of numbers from 0 on.

    >>> among(np.array([0, 2, 1], dtype=np.int8), [1, 2]).tolist()
    [False, True, True]
    """
    table = np.zeros(_MOST, dtype=np.bool_)
    table[list(some)] = True
    return table[values]


def distinct(values: NDArray[np.int64]) -> int:
    """How many different numbers there are, from 0 on.

    >>> distinct(np.array([3, 0, 3]))
    2
    """
    return int(np.count_nonzero(np.bincount(values)))


__all__ = ["among", "distinct"]
