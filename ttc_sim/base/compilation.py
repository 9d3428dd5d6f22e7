"""Compilation, kept on disk."""

from __future__ import annotations

import hashlib
import logging
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.caching import _Cache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, CompileResult, DefaultPassBuilder
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.serialize import dumps
from numba.core.typed_passes import AnnotateTypes

from ttc_sim.base import cache

_log = logging.getLogger(__name__)
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

    Numba's own cache looks only at the file of the function, and would go on with an old version of what it calls; and it takes
    what it finds for whole. The directory is that of ``NUMBA_CACHE_DIR``, or else of ``XDG_CACHE_HOME``, or else ``~/.cache``.
    Where it cannot be written, or somebody else can write to it, each process compiles for itself.

    Args:
        name: of the folder in the cache.
        sources: files of the function and of all that it calls.
        options: of ``numba.njit``.
    """
    key = hashlib.sha256(b"".join(source.read_bytes() for source in [Path(__file__), *sources])).hexdigest()[:16]

    def decorate(function: F) -> F:
        made: Any = numba.njit(**options, nogil=True)(function)
        if hasattr(made, "_cache"):  # and not the function itself, where compiling is switched off
            made._cache = _Kept(function, f"{name}-{key}", repr(sorted(options.items(), key=str)))
        return cast("F", made)

    return decorate


class _Kept(_Cache):  # type: ignore[misc]
    """Compiled code of one function on disk: a file for each signature."""

    def __init__(self, function: Callable[..., Any], folder: str, options: str) -> None:
        self._function, self._folder, self._options = function, folder, options

    @property
    def cache_path(self) -> str | None:
        """Its folder; ``None`` where there can be none."""
        try:
            return str(_cache_root() / "ttc-sim" / self._folder)
        except OSError:
            return None

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The function compiled for that signature, or ``None``."""
        target.refresh()
        made_by = self._made_by(target.codegen())
        try:
            path = self._path(signature, made_by)
            payload = cache.read_entry(path, made_by)
            if payload is None:
                return None
            return CompileResult._rebuild(target, *pickle.loads(payload))
        except OSError as error:
            self._say(error)
            return None
        except Exception as error:  # whatever unpickling and loading raise
            _log.warning("%s cannot be used (%s): it is compiled anew", path, error)
            cache.drop_entry(path)
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep what was compiled."""
        if result.library.has_dynamic_globals or result.lifted:
            return
        made_by = self._made_by(result.codegen)
        try:
            cache.write_entry(self._path(signature, made_by), made_by, dumps(result._reduce()))
        except OSError as error:
            self._say(error)

    def _path(self, signature: Any, made_by: list[str]) -> Path:
        of = (*made_by, self._options, str(signature), self._function.__qualname__)
        key = hashlib.sha256(repr(of).encode() + self._function.__code__.co_code).hexdigest()[:16]
        return _cache_root() / "ttc-sim" / self._folder / f"{self._function.__name__}-{key}.bin"

    @staticmethod
    def _made_by(codegen: Any) -> list[str]:
        """What code depends on besides its sources: libraries, Python, and the processor that it is for."""
        libraries = [f"{one.__name__} {one.__version__}" for one in (numba, llvmlite, np)]
        return [*libraries, sys.version, *map(str, codegen.magic_tuple())]

    def _say(self, error: OSError) -> None:
        why = (
            str(error) if isinstance(error, cache.NotTrustedError) else f"{self.cache_path}: {error.strerror or error}"
        )
        cache.say_once(f"compiled code is not kept ({why}): each run compiles for some seconds")

    def enable(self) -> None:
        """It always is."""

    def disable(self) -> None:
        """It never is."""

    def flush(self) -> None:
        """Nothing is held back."""


def kept_at() -> Path:
    """Folder of what is kept: of each function that is called from outside, and each version of its sources, a folder.

    Raises:
        OSError: there is no home directory.
    """
    return _cache_root() / "ttc-sim"


def _cache_root() -> Path:
    return Path(config.CACHE_DIR) if config.CACHE_DIR else cache.cache_root()


__all__ = ["INNER", "kept", "kept_at"]
