"""Where progress is seen: a line that changes in a terminal or a notebook, now and then a line in a log."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from contextvars import ContextVar, copy_context
from typing import Any, NamedTuple

from ttc_sim.base.errors import InputError
from ttc_sim.base.plain import plain
from ttc_sim.base.progress import Pace, Progress, Step, Telling, duration, silent

LOG_EVERY_S = 10.0
"""Between two lines about one stage in a log."""
LISTENER_EVERY_S = 1.0
"""Between two counts of one stage that a function of the user's is told."""

_SHORT_S = 2.0  # work that a notebook shows nothing of
_UPDATED_EVERY_S = 0.25
_BAR = 24


class Seen(NamedTuple):
    """What is shown of work.

    Attributes:
        line: what is being done; share: of the stage that is done, ``None`` where nobody knows; left: how long the stage will
            take, in words, or how long work has taken where nobody knows that.
    """

    line: str
    share: float | None
    left: str

    def __str__(self) -> str:
        return plain(f"{self.line}, {self.left}" if self.left else self.line)


class Watch:
    """The stage that work is in, since when, and how fast it goes."""

    def __init__(self) -> None:
        self.began_s = self.stage_began_s = time.monotonic()
        self.stage: tuple[object, ...] = ()
        self.begins = False
        self._now = ("starting", Pace(self.began_s))  # both at once: other threads read them

    def __call__(self, line: str) -> None:
        """Note what was told, and whether a stage begins with it."""
        now_s, (_, pace) = time.monotonic(), self._now
        self.begins = False
        if isinstance(line, Step):
            stage = (line.stage, line.total, line.of)
            self.begins = stage != self.stage or line.done < pace.marks[-1][1]
            if self.begins:
                self.stage, self.stage_began_s, pace = stage, now_s, Pace(now_s, line.done)
            else:
                pace.mark(now_s, line.done)
        self._now = (line, pace)

    def seen(self) -> Seen:
        """What there is to show now."""
        now_s, (line, pace) = time.monotonic(), self._now
        share = left_s = None
        if isinstance(line, Step) and line.total:
            share, left_s = line.done / line.total, pace.left_s(line.total, now_s)
        if left_s is not None:
            return Seen(line, share, f"about {duration(left_s)} left" if left_s >= 0.5 else "")
        took_s = now_s - self.began_s
        return Seen(line, share, f"{duration(took_s)} so far" if took_s >= _SHORT_S else "")


class Lines:
    """A line each: whatever a reader should not miss, the beginning of a stage, and about its steps one now and then."""

    def __init__(self, write: Callable[[str], Any], every_s: float = LOG_EVERY_S) -> None:
        self.write, self.every_s = write, every_s
        self.watch, self.said_s = Watch(), 0.0
        self.said = ""

    def __call__(self, line: str) -> None:
        """Write it, if it is time for a line."""
        self.watch(line)
        if isinstance(line, Step) and not self.said and not line.done and line.total:
            return  # work that fails at once says why, and nothing before that
        now_s, later = time.monotonic(), isinstance(line, Step) and not self.watch.begins and bool(self.said)
        if isinstance(line, Step) and later:
            over = line.done == line.total and line != self.said and now_s - self.watch.stage_began_s >= self.every_s
            if now_s - self.said_s < self.every_s and not over:
                return
        self.said_s, self.said = now_s, line
        self.write(str(self.watch.seen()) if later else line)


class _Listener:
    """A function of the user's, which is spared most counts of a stage but its first and last."""

    def __init__(self, function: Progress) -> None:
        self.function = function
        self.stage: tuple[object, ...] = ()
        self.done, self.detail = 0.0, ""
        self.told_s = 0.0

    def __call__(self, line: str) -> None:
        if isinstance(line, Step):
            stage, now_s = (line.stage, line.total, line.of), time.monotonic()
            begins = stage != self.stage or (line.done == self.done and line.detail != self.detail)
            self.stage, self.done, self.detail = stage, line.done, line.detail
            if not begins and now_s - self.told_s < LISTENER_EVERY_S and line.done != line.total:
                return
            self.told_s = now_s
        self.function(line)


@contextmanager
def on_terminal() -> Iterator[Progress]:
    """A line at the foot of the terminal, with a bar and the time left; it goes when the work ends."""
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True, emoji=False, highlight=False, markup=False)
    watch = Watch()
    spinner = Spinner("dots" if console.encoding.startswith("utf") else "line", style="status.spinner")

    def line() -> Table:
        said, share, left = watch.seen()
        bar = share is not None and console.width > 3 * _BAR
        # The words give way: how much is done, and how long it will take, are what people look for.
        taken = 2 + (1 + _BAR if bar else 0) + (5 if share is not None else 0) + (1 + len(left) if left else 0)
        words = Text(plain(said))
        words.truncate(max(console.width - taken - 1, 1), overflow="ellipsis", pad=True)
        row = Table.grid(padding=(0, 1, 0, 0))
        cells: list[Any] = [spinner, words]
        if bar:
            cells.append(ProgressBar(total=1, completed=share or 0.0, width=_BAR))
        if share is not None:
            cells.append(Text(f"{share:4.0%}"))
        if left:
            cells.append(Text(left, style="dim"))
        for _ in cells:
            row.add_column(no_wrap=True)
        row.add_row(*cells)
        return row

    # Rendered by its own thread, a few times a second, however often work tells of itself.
    with Live(get_renderable=line, console=console, refresh_per_second=1 / _UPDATED_EVERY_S, transient=True):
        yield watch


@contextmanager
def in_notebook(shell: Any) -> Iterator[Progress]:
    """A line below the cell, once the work has taken two seconds; it is emptied when the work ends."""
    from IPython import display as pages

    display: Any = pages.display
    update_display: Any = pages.update_display

    watch, over = Watch(), threading.Event()
    shown: list[Any] = []

    def show(now: Seen) -> None:
        data = {"text/plain": str(now) if now.share is None else f"{now.share:.0%}  {now}"}
        if shown:
            update_display(data, raw=True, display_id=shown[0])
        else:
            shown.append(display(data, raw=True, display_id=True).display_id)

    def keep_showing() -> None:
        if over.wait(_SHORT_S):
            return
        last = None
        while not over.is_set():
            if (now := watch.seen()) != last:
                last = now
                show(now)
            over.wait(2 * _UPDATED_EVERY_S)

    # The context says which cell it is.
    thread = threading.Thread(target=copy_context().run, args=(keep_showing,), name="progress", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
        if shown:
            update_display({}, raw=True, display_id=shown[0])


def notebook() -> Any:
    """IPython's shell where this runs in the kernel of a notebook, else ``None``; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


def _somebody_watches(shell: Any) -> bool:
    """Whether a person has the notebook open: what runs notebooks by itself says that it cannot be asked for input."""
    with suppress(Exception):
        return bool(shell.kernel.get_parent("shell")["content"]["allow_stdin"])
    return True


def changing_line() -> AbstractContextManager[Progress] | None:
    """A line that changes, where there is a notebook or a terminal for one."""
    if (shell := notebook()) is not None:
        return in_notebook(shell)
    return on_terminal() if is_terminal() else None


def is_terminal() -> bool:
    """Whether standard error is a terminal whose cursor can be moved."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _write(line: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(plain(line), file=sys.stderr, flush=True)


# ----------------------------------------------------------------------------------------------- arguments of functions


class _Scope:
    """Of the outermost public function that runs: what shows its progress."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.told = False


_scope: ContextVar[_Scope | None] = ContextVar("progress", default=None)


@contextmanager
def shows_progress() -> Iterator[None]:
    """What :func:`telling` opens meanwhile is taken away at the end; to be used as a decorator of public functions."""
    if _scope.get() is not None:  # inside another one
        yield
        return
    scope = _Scope()
    before = _scope.set(scope)
    try:
        with scope.stack:
            yield
    finally:
        _scope.reset(before)


def telling(where: str, progress: Telling) -> Progress:
    """What a public function tells of its progress, by the argument of that name.

    Args:
        where: the function.
        progress: a function that takes a line of text, often a :class:`~ttc_sim.base.progress.Step`; ``True`` for a line that
            changes in a notebook and on a terminal, and lines on standard error elsewhere; ``False`` for nothing; ``None`` for a
            line in a notebook that somebody has open, where the work takes more than two seconds, and nothing elsewhere. Functions
            that others call show nothing of their own accord.

    Raises:
        InputError: none of these.
    """
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise InputError(where, "progress", progress, "True, False, or a function that takes a line of text")
    scope = _scope.get()
    outermost = scope is not None and not scope.told
    if scope is not None:
        scope.told = True
    if callable(progress):
        return _Listener(progress) if outermost and not isinstance(progress, (Lines, Watch)) else progress
    if not outermost or progress is False:
        return silent
    assert scope is not None
    if progress is None:
        shell = notebook()
        return (
            silent if shell is None or not _somebody_watches(shell) else scope.stack.enter_context(in_notebook(shell))
        )
    line = changing_line()
    return Lines(_write) if line is None else scope.stack.enter_context(line)


__all__ = [
    "LISTENER_EVERY_S",
    "LOG_EVERY_S",
    "Lines",
    "Watch",
    "in_notebook",
    "is_terminal",
    "on_terminal",
    "shows_progress",
    "telling",
]
