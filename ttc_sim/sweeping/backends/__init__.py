"""Where points are simulated: processes of this machine, or a cluster. Figures are the same wherever that is.

A backend is a function ``(setting, points, workers, address)`` that is a context: it gives an iterator over numbers of points and
their rows as they are done, whatever dies meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TypeAlias

from ttc_sim.sweeping.point import Row, Setting
from ttc_sim.sweeping.varying import Point

Done: TypeAlias = Iterator[tuple[int, Row]]
Backend: TypeAlias = Callable[[Setting, Mapping[int, Point], int | None, str | None], AbstractContextManager[Done]]

MOST_DEATHS = 3
"""Processes that may die of one point before it is taken to be the reason."""

__all__ = ["MOST_DEATHS", "Backend", "Done"]
