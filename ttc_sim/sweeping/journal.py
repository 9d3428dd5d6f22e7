"""Points that are finished, a line each, on the disk as soon as they are: whatever is killed, none is simulated again."""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.files.writing import unwritable
from ttc_sim.sweeping.identity import check_identity
from ttc_sim.sweeping.point import Row

_OWN = "a journal that this command wrote; another --out begins anew"


class Journal:
    """The journal of one sweep, beside its results; nobody else writes into it meanwhile.

    Attributes:
        path: where it stands; done: rows by the number of their point.
    """

    def __init__(self, path: Path, identity: Mapping[str, object], points: int) -> None:
        """Open it, or begin it.

        Raises:
            InputError: it is of another sweep, damaged, in use, or cannot be written.
        """
        self.path = path
        self.done: dict[int, Row] = {}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise unwritable(path, error) from None
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(path, "file", "in use", "no other run that writes to the same --out") from None
            content = self._content()
            whole = self._read(content, identity, points)
            if whole < len(content):  # a run was killed as it wrote
                os.ftruncate(self._file, whole)
            if not whole:
                self._write(dict(identity))
        except BaseException:
            os.close(self._file)
            raise

    def _content(self) -> bytes:
        size, content = os.fstat(self._file).st_size, b""
        while len(content) < size and (more := os.pread(self._file, size - len(content), len(content))):
            content += more
        return content

    def _read(self, content: bytes, identity: Mapping[str, object], points: int) -> int:
        """Take in what it holds, and return how many bytes of that are whole lines."""
        lines, whole = content.splitlines(keepends=True), 0
        for number, text in enumerate(lines, 1):
            line = _unsealed(text)
            if line is None:
                if number == len(lines) and not text.endswith(b"\n"):
                    break
                raise InputError(self.path, f"line {number}", text.decode("utf-8", "replace").strip(), _OWN)
            if number == 1:
                check_identity(line, identity, self.path)
            else:
                point, row = line.get("point"), line.get("row")
                if not isinstance(point, int) or not 0 <= point < points or not isinstance(row, dict):
                    raise InputError(self.path, f"line {number}", point, _OWN)
                self.done[point] = row
            whole += len(text)
        return whole

    def add(self, point: int, row: Row) -> None:
        """Write down a finished point.

        Raises:
            InputError: there is no room for it.
        """
        self._write({"point": point, "row": row})
        self.done[point] = row

    def _write(self, line: dict[str, Any]) -> None:
        # The numbers are written so that they are read back to the last digit, those that are none too.
        text = json.dumps(line)
        sealed = f"{zlib.crc32(text.encode()):08x} {text}\n".encode()
        try:
            while sealed:
                sealed = sealed[os.write(self._file, sealed) :]
        except OSError as error:
            raise unwritable(self.path, error) from None

    def close(self, *, remove: bool) -> None:
        """Let others have it, or remove it once what it holds stands elsewhere, or where it holds nothing."""
        if remove or not self.done:
            self.path.unlink(missing_ok=True)
        os.close(self._file)


def _unsealed(text: bytes) -> dict[str, Any] | None:
    """What a line holds; ``None`` if it is not as it was written."""
    seal, _, rest = text.rstrip(b"\n").partition(b" ")
    if not text.endswith(b"\n") or seal != f"{zlib.crc32(rest):08x}".encode():
        return None
    try:
        line = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


__all__ = ["Journal"]
