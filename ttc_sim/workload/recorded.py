"""What tables of requests have in common: files that are read once, outputs that hold their thinking, requests that failed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.files.opening import is_file


def state_of(path: Path) -> tuple[int, int]:
    """When a file was changed, in nanoseconds, and its size in bytes; zeros where there is none."""
    status = path.stat() if is_file(path) else None
    return (0, 0) if status is None else (status.st_mtime_ns, status.st_size)


def check_held(path: Path, hidden: tuple[str, I64], output: tuple[str, I64], place: str) -> None:
    """Reasoning tokens, a column's name and values, must be within the output that is said to hold them.

    Raises:
        InputError: there are more; ``place`` is where the user says that they stand beside it.
    """
    over = np.flatnonzero(hidden[1] > output[1])
    if len(over):
        row = int(over[0])
        expected = f"at most {output[0]}, {output[1][row]}, which holds it; where it stands beside it, "
        expected += f"'visible_tokens: {output[0]}' in {place} says so"
        raise InputError(path, f"column {hidden[0]}, row {row + 1}", int(hidden[1][row]), expected)


def without_prompt(path: Path, empty: int, rows: int) -> str:
    """The line on rows that were answered, and whose prompt was not counted."""
    return f"{empty:,} of {rows:,} rows of {path.name} have no prompt tokens: one is counted"


def failed_requests(path: Path, answered: int, rows: int) -> str:
    """The beginning of a line on rows without output."""
    return f"{rows - answered:,} of {rows:,} rows of {path.name} have no output tokens, as failed requests"
