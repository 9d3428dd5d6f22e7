"""Compilation, kept on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config

F = TypeVar("F", bound=Callable[..., Any])

# Nothing is allocated and nothing counts references: the state's arrays belong to Python. Only compiled code calls these
# functions, so they need no way in from Python, which would take longer to compile than they do.
_LEAN = {"error_model": "numpy", "_nrt": False}
compiled: Callable[[F], F] = numba.njit(**_LEAN, no_cpython_wrapper=True, no_cfunc_wrapper=True)
# Short ones become part of their callers.
inlined: Callable[[F], F] = numba.njit(**_LEAN, forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
# Those that are called in one place become part of it before types are inferred: nothing is compiled on its own.
merged: Callable[[F], F] = numba.njit(**_LEAN, inline="always")


def kept(function: Callable[..., Any]) -> Any:
    """Compile and keep the result in the user's cache directory, under a key of all sources that take part.

    Numba itself looks only at the file of the function, and would go on with an old version of what it calls.
    """
    engine = Path(__file__).parents[1]
    sources = [*sorted(engine.glob("compiled/*.py")), engine / "work.py", engine.parent / "serving" / "step_time.py"]
    key = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    before = config.CACHE_DIR
    try:
        config.CACHE_DIR = str(root / "ttc-sim" / f"engine-{key}")
        return numba.njit(**_LEAN, nogil=True, cache=True)(function)
    except (OSError, RuntimeError):
        return numba.njit(**_LEAN, nogil=True)(function)
    finally:
        config.CACHE_DIR = before
