"""Arrays of small whole numbers, such as statuses and numbers of problems: looked up and counted without being sorted, and names as
such numbers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

_MOST = 256  # of numbers of one byte
_KEPT = 16  # arrays of names whose numbers are known: those of the problems that are simulated over and over
_numbered: OrderedDict[int, tuple[NDArray[np.str_], NDArray[np.int64]]] = OrderedDict()


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


def numbered(names: NDArray[np.str_]) -> NDArray[np.int64]:
    """Of each name the number that it has among the different ones, in their order; those of an array that comes again are kept.

    The array must not be changed.

    >>> numbered(np.array(["b", "a", "b"])).tolist()
    [1, 0, 1]
    """
    known = _numbered.get(id(names))
    if known is None or known[0] is not names:
        known = names, np.unique(names, return_inverse=True)[1].astype(np.int64)
        _numbered[id(names)] = known
        while len(_numbered) > _KEPT:
            _numbered.popitem(last=False)
    return known[1]


__all__ = ["among", "distinct", "numbered"]
