"""A log of a runtime: a file that lines of JSON are appended to, each by one write, from any number of threads and processes."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttc_sim.base.arguments import location
from ttc_sim.base.errors import InputError

_LOG = logging.getLogger("ttc_sim")
_MODE = 0o640  # of a new file: it says what requests cost and, if they are named so, who sent them


class LogFile:
    """Appends lines to a file, which is opened anew for each: one that was moved away by a rotation is begun again.

    Args:
        path: of the file; it is made if there is none.

    Raises:
        InputError: it cannot be written to.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = location("runtime", "log", path, "a file to append to")
        self.begin()
        try:
            os.close(self._open())
        except OSError as error:
            raise InputError("runtime", "log", str(path), f"a file that can be written to: {error.strerror}") from None

    def begin(self) -> None:
        """Begin anew, as in a process that was forked."""
        self._lock = threading.Lock()
        self._torn = self._said = False

    def append(self, line: Mapping[str, Any]) -> bool:
        """Append one line; whether it stands there. That it does not is said once, and is no error: requests go on.

        Raises:
            InputError: something that JSON does not have.
        """
        try:
            text = json.dumps(line, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
        except (TypeError, ValueError, RecursionError):
            raise InputError("runtime", "log", line, "a line of texts and finite numbers, as JSON has them") from None
        with self._lock:
            # What was cut short is ended first, so that it spoils no further line.
            whole = b"\n" + text if self._torn else text
            try:
                file = self._open()
                try:
                    written = os.write(file, whole)
                finally:
                    os.close(file)
            except OSError as error:
                self._warn(error.strerror or str(error))
                return False
            self._torn = written < len(whole)
            if self._torn:
                self._warn(f"{written} of {len(whole)} bytes were written")
            return not self._torn

    def _open(self) -> int:
        # Of a pipe that nobody reads, an error instead of waiting.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        return os.open(self._path, flags, _MODE)

    def _warn(self, why: str) -> None:
        if not self._said:
            self._said = True
            _LOG.warning("lines of %s are lost: %s", self._path, why)


__all__ = ["LogFile"]
