"""What was asked and answered, a line each, on the disk before anything follows from it.

A request stands here before it is sent and an answer once it is there. Whatever is killed, nothing finished is asked again, and
what was on its way is known: it may have been paid for.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ttc_sim.base.errors import InputError
from ttc_sim.collecting.answers import tokens_in
from ttc_sim.files.writing import unwritable, write_atomically

Key: TypeAlias = tuple[str, int | None, int]
"""Problem, cap (``None`` for none) and number of an attempt."""

FORMAT = 1
_OWN = "a journal that this command wrote; another --out begins anew"


@dataclass(frozen=True)
class Lost:
    """A request that may have been paid for and left no answer: most tokens of its prompt, and its cap."""

    prompt_bound: int
    cap: int | None


@dataclass
class Past:
    """What earlier runs left: answers by attempt, and what may have been paid for without one."""

    done: dict[Key, dict[str, Any]] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)
    _open: dict[Key, Lost] = field(default_factory=dict)

    def take(self, line: Mapping[str, Any]) -> None:
        """Add a line.

        Raises:
            LookupError, TypeError, ValueError: it is none of a journal's.
        """
        if "lost" in line:
            self.lost.append(Lost(int(line["lost"][0]), line["lost"][1]))
        elif "sent" in line:
            key = _key(line["sent"])
            if key in self._open:  # sent again: what was sent before was never heard of
                self.lost.append(self._open[key])
            self._open[key] = Lost(int(line["prompt_bound"]), key[1])
        elif "failed" in line:
            found = self._open.pop(_key(line["failed"]))
            if line["billed"]:
                self.lost.append(found)
        else:
            key = _key(line["done"])
            self._open.pop(key, None)
            _ = [line[name] for name in ("prompt", "finish_reason", "latency_s", "usage")]
            int(line["tries"]), int(line["prompt_bound"]), tokens_in(line)
            datetime.datetime.fromisoformat(line["started_at"])
            if "graded" in line:
                _ = [line["graded"][name] for name in ("by", "correct", "answer")]
            self.done[key] = dict(line)

    def settle(self) -> None:
        """What is open at the end was on its way when its run ended."""
        self.lost += self._open.values()
        self._open = {}


def _key(said: Any) -> Key:
    problem, cap, attempt = said
    if not isinstance(problem, str) or not isinstance(attempt, int) or not (cap is None or isinstance(cap, int)):
        raise TypeError
    return problem, cap, attempt


def read_journal(path: Path, settings: Mapping[str, Any]) -> Past:
    """What a journal says; nothing if there is none.

    Raises:
        InputError: it is no journal, or of requests with other settings.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Past()
    except OSError as error:
        raise InputError(path, "file", error.strerror, "a journal that can be read") from None
    return _read(content, path, settings)[0]


def _read(content: bytes, path: Path, settings: Mapping[str, Any]) -> tuple[Past, int]:
    """What the content says, and how many bytes of it are whole lines."""
    past, whole = Past(), 0
    lines = content.splitlines(keepends=True)
    for number, text in enumerate(lines, 1):
        try:
            if not text.endswith(b"\n"):
                raise ValueError
            line = json.loads(text)
            if not isinstance(line, dict):
                raise TypeError
            if number == 1:
                _check_settings(line, path, settings)
            else:
                past.take(line)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            if number == len(lines) and number > 1:  # a run was killed as it wrote it
                break
            raise InputError(path, f"line {number}", text[:60].decode("utf-8", "replace"), _OWN) from None
        whole += len(text)
    past.settle()
    return past, whole


def _check_settings(line: Mapping[str, Any], path: Path, settings: Mapping[str, Any]) -> None:
    if line.get("collect") != FORMAT or not isinstance(line.get("settings"), dict):
        raise ValueError
    for name, given in settings.items():
        before = line["settings"].get(name)
        if before != given:
            expected = f"{before!r}, as in what is there already: another --out begins anew"
            raise InputError(path, name, given, expected)


def _in_use(path: Path) -> InputError:
    return InputError(path, "file", "in use", "no other run that writes to the same --out")


class Journal:
    """A journal that is being written, by one run at a time.

    Args:
        settings: what all its requests have in common.

    Raises:
        InputError: as :func:`read_journal`, another run is writing it, or it cannot be written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self._settings = path, dict(settings)
        self._writing = threading.Lock()
        try:
            # Answers stand in it: for the user's eyes alone.
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise unwritable(path, error) from None
        try:
            self.past = self._taken_over()
        except OSError as error:
            os.close(self._file)
            raise unwritable(path, error) from None
        except BaseException:
            os.close(self._file)
            raise

    def _taken_over(self) -> Past:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise InputError(self.path, "file", str(self.path), "a file")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(self.path) from None
        if not os.path.samestat(os.fstat(self._file), self.path.stat()):  # replaced by the run that has just ended
            raise _in_use(self.path)
        content = self.path.read_bytes()
        if content:
            past, whole = _read(content, self.path, self._settings)
            os.ftruncate(self._file, whole)
            return past
        self.write({"collect": FORMAT, "settings": self._settings})
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return Past()

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line, and wait until it is on the disk; any thread may.

        Raises:
            InputError: it cannot be written.
        """
        content = (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "replace")
        with self._writing:
            try:
                while content:
                    content = content[os.write(self._file, content) :]
                os.fsync(self._file)
            except OSError as error:
                raise unwritable(self.path, error) from None

    def rewrite(self, done: Mapping[Key, Mapping[str, Any]], lost: list[Lost]) -> None:
        """Put this in place of all its lines, at once or not at all.

        Raises:
            InputError: it cannot be written.
        """
        lines: list[Mapping[str, Any]] = [{"collect": FORMAT, "settings": self._settings}]
        lines += [{"lost": [one.prompt_bound, one.cap]} for one in lost]
        lines += done.values()
        write_atomically(self.path, "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))

    def close(self) -> None:
        """Let the next run have it."""
        os.close(self._file)


__all__ = ["FORMAT", "Journal", "Key", "Lost", "Past", "read_journal"]
