"""What every command needs to show and to write."""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from ttc_sim.base.errors import InputError
from ttc_sim.base.tables import write_atomically


class progress:  # noqa: N801  # reads as a context, not as a thing
    """A status line on a terminal; nothing where output is piped."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.status = self.console.status("starting")

    def __enter__(self) -> Callable[[str], None]:
        if self.console.is_terminal:
            self.status.start()
            return lambda line: self.status.update(line)
        return lambda line: print(line, file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        self.status.stop()


def console_for_tables() -> Console:
    """Wide enough for the tables when output goes to a file or a pipe."""
    console = Console(emoji=False)
    return console if console.is_terminal else Console(width=150, emoji=False)


def check_writable(*files: Path | None) -> None:
    """Long work must not end on a path that was wrong from the start."""
    for file in files:
        if file is not None and (not file.resolve().parent.is_dir() or file.is_dir()):
            raise InputError(file, "file", str(file), "a file in an existing folder")


def peak_memory_gb() -> float:
    """Most memory that this process has held so far, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


def write_json(path: Path, content: Any) -> None:
    """Write figures, all at once or not at all."""
    write_atomically(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def _plain(content: Any) -> Any:
    """JSON has no NaN: a figure that does not exist is null."""
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
