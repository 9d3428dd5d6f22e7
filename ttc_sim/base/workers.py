"""Work shared out to processes, which an interruption ends at once."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from ttc_sim.base.arguments import whole
from ttc_sim.base.limits import MOST_WORKERS

A = TypeVar("A")
B = TypeVar("B")
Mapped = Callable[[Callable[[A], B], Sequence[A]], Iterator[B]]


@contextmanager
def processes(workers: int, begin: Callable[..., None], given: tuple[Any, ...]) -> Iterator[Mapped[Any, Any]]:
    """A ``map`` over this many processes; over none with one worker: ``begin`` and the work are then called here.

    Args:
        begin: called in each process first, with ``given``.

    Raises:
        InputError: no such number of workers.
    """
    whole("workers", "workers", workers, 1, MOST_WORKERS, "processes")
    if workers == 1:
        begin(*given)
        yield map
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), begin, given)

    def mapped(work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
        with _interruptions_left_to_the_parent():
            return pool.map(work, items)

    try:
        yield mapped
    except BaseException:
        for process in list((pool._processes or {}).values()):  # before Python 3.14 there is no public way
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interruptions_left_to_the_parent() -> Iterator[None]:
    """Processes begun here ignore the keyboard from their start on: it reaches the parent, who ends them."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


__all__ = ["processes"]
