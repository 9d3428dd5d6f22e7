"""Linear algebra on one thread, so that sums are added up in one order whatever the machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import threadpoolctl

_lock = threading.Lock()
_inside = 0
_limits: list[threadpoolctl.threadpool_limits] = []
_here = threading.local()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS and OpenMP to one thread meanwhile; to be used as a decorator too.

    Divided among threads, a long product is added up in another order for each number of them, and ends in another last digit:
    enough to send a request elsewhere. The limits are the process's; the last to leave restores what was before the first came.

    >>> @one_thread()
    ... def squared(x):
    ...     return x @ x
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside
    _here.depth = getattr(_here, "depth", 0) + 1
    if _here.depth == 1:
        with _lock:
            _inside += 1
            _take_control()
            _limits.append(threadpoolctl.threadpool_limits(1))


def _leave() -> None:
    global _inside
    _here.depth -= 1
    if _here.depth == 0:
        with _lock:
            _inside -= 1
            _take_control()
            while _limits and not _inside:
                _limits.pop().restore_original_limits()


def _take_control() -> None:
    """Newer versions of threadpoolctl let only the thread that came first set OpenBLAS's number of threads."""
    clear = getattr(getattr(threadpoolctl, "OpenBLASController", None), "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


__all__ = ["one_thread"]
