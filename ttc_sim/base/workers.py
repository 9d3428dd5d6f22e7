"""Work shared out to processes, which an interruption ends at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from ttc_sim.base.arguments import whole
from ttc_sim.base.limits import MOST_WORKERS

A = TypeVar("A")
B = TypeVar("B")
K = TypeVar("K", bound=Hashable)
Mapped = Callable[[Callable[[A], B], Sequence[A]], Iterator[B]]


def cpus() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (begin, given))

    def mapped(work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
        with _interruptions_left_to_the_parent():
            return pool.map(work, items)

    try:
        yield mapped
    except BaseException:
        _end(pool)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def in_any_order(
    workers: int,
    begin: Callable[..., None],
    given: tuple[Any, ...],
    work: Callable[[A], B],
    items: Mapping[K, A],
    deaths: int,
    died: Callable[[K], Exception],
) -> Generator[tuple[K, B], None, None]:
    """Results by key, each as soon as it is there; over no processes with one worker. A process that dies is replaced.

    Args:
        begin: called in each process first, with ``given``.
        deaths: processes that may die of one item; then ``died`` makes the error of its key.

    Raises:
        InputError: no such number of workers.
    """
    whole("workers", "workers", workers, 1, MOST_WORKERS, "processes")
    if workers == 1 or len(items) < 2:
        begin(*given)
        for key, item in items.items():
            yield key, work(item)
        return
    left, suspects = dict(items), Counter[K]()
    while left:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (begin, given))
        running: dict[Future[B], K] = {}
        # What was under way when a process died comes first, alone: it may be what kills.
        waiting = deque(sorted(left, key=lambda key: not suspects[key]))
        try:
            while waiting or running:
                alone = any(suspects.values())
                while waiting and len(running) < (1 if alone else workers + 1):
                    with _interruptions_left_to_the_parent():
                        running[pool.submit(work, left[waiting[0]])] = waiting[0]
                    waiting.popleft()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    key = running.pop(future)
                    del left[key], suspects[key]
                    yield key, result
        except BrokenProcessPool:
            suspects.update(running.values())
            worst = next((key for key, times in suspects.items() if times >= deaths), None)
            if worst is not None and len(running) == 1:
                raise died(worst) from None
        except BaseException:
            _end(pool)
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _end(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):  # before Python 3.14 there is no public way
        process.terminate()


def _begin(begin: Callable[..., None], given: tuple[Any, ...]) -> None:
    """A process that is killed takes those with it that it began: nobody else would end them."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*given)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _interruptions_left_to_the_parent() -> Iterator[None]:
    """Processes begun here ignore the keyboard from their start on: it reaches the parent, who ends them.

    An interruption that comes meanwhile breaks into no process that is just beginning, and is taken note of after that.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    came: list[tuple[int, Any]] = []
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):
        yield
        return
    blocks = hasattr(signal, "pthread_sigmask")
    # Other threads still let it through, so that a mask, which is what processes inherit, is not enough.
    signal.signal(signal.SIGINT, (lambda *given: came.append(given)) if blocks else signal.SIG_IGN)
    if blocks:
        resource_tracker.ensure_running()  # which would unblock it when it begins
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if blocks:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, before)
        if came:
            before(*came[0])


__all__ = ["in_any_order", "processes"]
