"""Compilation, kept on disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
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


# Only compiled code calls these functions, so they need no way in from Python, which would take longer to compile than they do.
INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _PartCompiler}
"""Options of ``numba.njit`` for functions that only other compiled functions call."""


def kept(name: str, sources: Sequence[Path], **options: Any) -> Callable[[F], F]:
    """Compile at the first call and keep the result in the user's cache directory, under a key of all sources that take part.

    Numba itself looks only at the file of the function, and would go on with an old version of what it calls. The directory is
    that of ``NUMBA_CACHE_DIR``, or else of ``XDG_CACHE_HOME``, or else ``~/.cache``. Where it cannot be written, each process
    compiles for itself.

    Args:
        name: of the folder in the cache.
        sources: files of the function and of all that it calls.
        options: of ``numba.njit``.
    """
    key = hashlib.sha256(b"".join(source.read_bytes() for source in [Path(__file__), *sources])).hexdigest()[:16]

    def decorate(function: F) -> F:
        before = config.CACHE_DIR
        try:
            folder = _cache_root() / "ttc-sim" / f"{name}-{key}"
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()  # Numba would go on to other places, without the key
            config.CACHE_DIR = str(folder)
            made: F = numba.njit(**options, nogil=True, cache=True)(function)
        except (OSError, RuntimeError):
            made = numba.njit(**options, nogil=True)(function)
        finally:
            config.CACHE_DIR = before
        return made

    return decorate


def _cache_root() -> Path:
    named = config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else Path.home() / ".cache"


__all__ = ["INNER", "kept"]
