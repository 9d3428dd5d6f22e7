"""Coroutines for code that waits: they run in an event loop of its own, in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ttc_sim.base.errors import InputError

LOOK_S = 0.2
T = TypeVar("T")


def waited(begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What a coroutine returns, or raises. Ctrl-C ends it.

    No future says how it ended: Ctrl-C can strike while the thread that waits holds a future's lock, and the loop, with all that
    others wait for, would stand still. And it is heard between two looks, whichever thread the system tells of it.
    """
    loop, over = _loop_of_its_own(), threading.Lock()
    found, failed = list[T](), list[BaseException]()
    tasks: list[asyncio.Task[None]] = []

    async def carried() -> None:
        try:
            found.append(await begin())
        except BaseException as error:
            failed.append(error)
        finally:
            over.release()

    over.acquire()
    try:
        loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(carried())))
        while not over.acquire(timeout=LOOK_S):
            pass
    except BaseException:
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        raise
    if failed:
        raise failed[0]
    return found[0]


_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process: a fork has threads of its own
_lock = threading.Lock()


def _with_a_lock_of_its_own() -> None:
    """In a forked process nobody releases what another thread held."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_with_a_lock_of_its_own)


def _loop_of_its_own() -> asyncio.AbstractEventLoop:
    """An event loop in a thread that ends with the process."""
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, daemon=True, name="ttc-sim calls").start()
    try:
        running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is loop:
        raise InputError("run", "called", "in the event loop of run itself", "await carry_out(...) there")
    return loop


__all__ = ["waited"]
