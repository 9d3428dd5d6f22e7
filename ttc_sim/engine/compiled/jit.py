"""How the engine's functions are compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

from ttc_sim.base import compilation

F = TypeVar("F", bound=Callable[..., Any])

# Nothing is allocated and nothing counts references: the state's arrays belong to Python.
_LEAN = {"error_model": "numpy", "_nrt": False, "no_rewrites": True}
_INNER = {**_LEAN, **compilation.INNER}
compiled: Callable[[F], F] = numba.njit(**_INNER)
# Short ones become part of their callers.
inlined: Callable[[F], F] = numba.njit(**_INNER, forceinline=True)
# Those that are called in one place become part of it before types are inferred: nothing is compiled on its own.
merged: Callable[[F], F] = numba.njit(**_LEAN, inline="always")


def kept(function: Callable[..., Any]) -> Any:
    """A function that Python calls: the result of compiling it is kept on disk, under a key of all the engine's sources."""
    engine = Path(__file__).parents[1]
    serving = [engine.parent / "serving" / name for name in ("api_limits.py", "step_time.py")]
    sources = [
        *sorted(engine.glob("compiled/*.py")),
        *(engine / name for name in ("fleet.py", "ranks.py", "speculation.py", "spending.py", "work.py")),
        *serving,
    ]
    return compilation.kept("engine", sources, **_LEAN)(function)
