"""What every command needs to show and to write."""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from ttc_sim.base.plain import plain
from ttc_sim.base.progress import Progress, silent
from ttc_sim.base.showing import Lines, is_terminal, on_terminal
from ttc_sim.cli.loudness import loudness
from ttc_sim.files.writing import check_outputs, write_atomically, written_together
from ttc_sim.reporting import paper as reporting_paper
from ttc_sim.reporting.paper import Paper, styled, unprinted

BROKEN_PIPE = 141
"""Exit status where the reader of the output has left, as of a program that the signal for it ended."""


@contextmanager
def on_any_terminal() -> Iterator[None]:
    """What the terminal's encoding lacks is shown as a question mark, and a reader that leaves, as ``head`` does, is no error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # closed, or a stream of somebody else's, such as a test's
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        yield
    except BrokenPipeError:
        _leave(BROKEN_PIPE)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            _leave(BROKEN_PIPE)
        _flush()
        raise
    _flush()


def _flush() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _leave(BROKEN_PIPE)
    except OSError as error:
        note(f"error: {unprinted(error)}")
        _leave(1)


def _leave(status: int) -> NoReturn:
    # What is still buffered would be written, in vain, when Python ends.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(status) from None


@contextmanager
def progress(writes: bool = False) -> Iterator[Progress]:
    """A line that changes on a terminal; elsewhere lines now and then, and nothing where nobody reads them.

    A verbose command has lines everywhere, each with the time since it began; a quiet one has none.

    Args:
        writes: whether files are written meanwhile; else an interruption says that none were.
    """
    with ExitStack() as stack:
        try:
            yield _seen(stack)
        except KeyboardInterrupt as interrupted:
            if not writes and not hasattr(interrupted, "__notes__"):
                interrupted.add_note("nothing was written")
            raise


def _seen(stack: ExitStack) -> Progress:
    if loudness().quiet:
        return silent
    if loudness().verbose:
        began = time.perf_counter()
        return Lines(lambda line: note(f"{time.perf_counter() - began:7.1f} s  {line}"), every_s=1.0)
    return stack.enter_context(on_terminal()) if is_terminal() else Lines(note)


def note(line: str) -> None:
    """A line beside the results, unless the command is quiet; the work goes on whether or not somebody reads it."""
    if not loudness().quiet:
        warn(line)


def warn(line: str) -> None:
    """A line that a quiet command says too."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(plain(line), file=sys.stderr, flush=True)


def paper_for_tables() -> Paper:
    """What results are printed on: standard output; nothing where the command is quiet, or prints figures as JSON there."""
    return reporting_paper.paper_for_tables() if loudness().prints_results else Paper(quiet=True)


class PlainLines(logging.Formatter):
    """Log messages as single lines that no terminal takes for commands."""

    def format(self, record: logging.LogRecord) -> str:
        """The message alone."""
        return plain(record.getMessage())


def peak_memory_gb() -> float:
    """Most memory that this process has held so far, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


def write_json(path: Path, content: Any) -> None:
    """Write figures, all at once or not at all."""
    write_atomically(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def write_results(
    found: Any, *, table: Path | None = None, json_file: Path | None = None, plot: Path | None = None
) -> None:
    """Write what was found to the files that were asked for, together or not at all.

    Args:
        found: with a ``table``, ``as_json()`` and ``plot()``, as far as they are asked for.
    """
    from ttc_sim.files.tables import write_table

    with written_together():
        if table is not None:
            write_table(found.table, table)
        if json_file is not None:
            write_json(json_file, found.as_json())
        if plot is not None:
            found.plot().savefig(plot, dpi=150)


def _plain(content: Any) -> Any:
    """JSON has no NaN: a figure that does not exist is null."""
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


__all__ = [
    "PlainLines",
    "check_outputs",
    "note",
    "on_any_terminal",
    "paper_for_tables",
    "peak_memory_gb",
    "progress",
    "styled",
    "warn",
    "write_json",
    "write_results",
    "written_together",
]
