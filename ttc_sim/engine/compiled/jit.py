"""Compilation, kept on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.typed_passes import AnnotateTypes

F = TypeVar("F", bound=Callable[..., Any])


class _Part(JITCodeLibrary):  # type: ignore[misc]
    """Code that others take into their own: nothing calls it where it stands, so no machine code is made of it.

    Numba would make machine code of every function and again of each with all that it calls: a third of the time to compile.
    """

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        """Left to the callers, which see it all."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> _Part:
        return self

    def set_env(self, name: str, env: object) -> None:
        """There is no machine code that could look its environment up."""


@register_pass(mutates_CFG=False, analysis_only=True)
class _AsPart(LoweringPass):  # type: ignore[misc]
    _name = "as_part"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return True


class _PartCompiler(CompilerBase):  # type: ignore[misc]
    def define_pipelines(self) -> list[Any]:
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.add_pass_after(_AsPart, AnnotateTypes)
        manager.finalize()
        return [manager]


# Nothing is allocated and nothing counts references: the state's arrays belong to Python. Only compiled code calls these
# functions, so they need no way in from Python, which would take longer to compile than they do.
_LEAN = {"error_model": "numpy", "_nrt": False, "no_rewrites": True}
_INNER = {**_LEAN, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _PartCompiler}
compiled: Callable[[F], F] = numba.njit(**_INNER)
# Short ones become part of their callers.
inlined: Callable[[F], F] = numba.njit(**_INNER, forceinline=True)
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
