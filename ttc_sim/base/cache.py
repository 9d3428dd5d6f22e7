"""The user's cache directory: entries with a checksum and what made them, in folders that nobody else can write to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_MAGIC = b"ttc-sim cache 1"
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_LEFT_BEHIND_S = 3600.0
"""A temporary file older than that is of a process that was killed."""

_log = logging.getLogger(__name__)
_said: set[str] = set()


class BadEntryError(ValueError):
    """An entry that is damaged, or was made by something else; the text says which."""


class NotTrustedError(OSError):
    """A file or folder that somebody else could have written to; the text says how."""


def cache_root() -> Path:
    """``XDG_CACHE_HOME``, or ``~/.cache``.

    Raises:
        NotTrustedError: there is neither.
    """
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        raise NotTrustedError("no home directory is known") from None


def read_entry(path: Path, made_by: Sequence[str]) -> bytes | None:
    """What an entry holds; ``None`` if there is none.

    Args:
        path: the entry, two folders below the cache's root.
        made_by: versions of all that it depends on.

    Raises:
        BadEntryError: cut off, changed, or made by other versions.
        NotTrustedError: somebody else could have written it.
        OSError: it cannot be read.
    """
    _check_folders(path)
    try:
        with path.open("rb") as file:
            _check(path, os.fstat(file.fileno()), _OTHERS)
            content = file.read()
    except FileNotFoundError:
        return None
    magic, _, rest = content.partition(b"\n")
    digest, _, sealed = rest.partition(b"\n")
    if magic != _MAGIC or digest != _digest(sealed):
        raise BadEntryError("its content does not match its checksum")
    versions, _, payload = sealed.partition(b"\n")
    if versions != _versions(made_by):
        raise BadEntryError("it was made by other versions")
    return payload


def check_entry(path: Path) -> None:
    """See that an entry is whole, whoever made it.

    Raises:
        BadEntryError: cut off, or changed.
        NotTrustedError: somebody else could have written it.
        OSError: it cannot be read.
    """
    _check_folders(path)
    magic, _, rest = path.read_bytes().partition(b"\n")
    digest, _, sealed = rest.partition(b"\n")
    if magic != _MAGIC or digest != _digest(sealed):
        raise BadEntryError("its content does not match its checksum")


def write_entry(path: Path, made_by: Sequence[str], payload: bytes) -> None:
    """Keep an entry: readers see the old one or the new one, never a part. Folders that are made are the user's alone.

    Raises:
        NotTrustedError: somebody else could write to the folder.
        OSError: it cannot be written.
    """
    path.parent.parent.parent.mkdir(parents=True, exist_ok=True)
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    _check_folders(path)
    sealed = _versions(made_by) + b"\n" + payload
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with open(beside, "wb", opener=_for_the_user_alone) as file:
            file.write(b"\n".join((_MAGIC, _digest(sealed), sealed)))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _tidy(path.parent)


def drop_entry(path: Path) -> None:
    """Delete an entry that is of no use, if that can be done."""
    with contextlib.suppress(OSError):
        path.unlink()


def say_once(message: str) -> None:
    """Log a warning, the first time that this process has it."""
    if message not in _said:
        _said.add(message)
        _log.warning("%s", message)


def _for_the_user_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _versions(made_by: Sequence[str]) -> bytes:
    return json.dumps(list(made_by)).encode()


def _check_folders(path: Path) -> None:
    # Where groups are one user each, folders are often open to the group; what matters is the innermost, which is made closed.
    for folder, others in ((path.parent.parent, stat.S_IWOTH), (path.parent, _OTHERS)):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            _check(folder, folder.lstat(), others)


def _check(path: Path, found: os.stat_result, others: int) -> None:
    """What is read there runs, or decides figures: it must be this user's, or the system's, and nobody else's to change."""
    if not hasattr(os, "geteuid"):  # Windows keeps the folders of users apart
        return
    if found.st_uid not in (os.geteuid(), 0):
        raise NotTrustedError(f"{path} belongs to somebody else")
    if stat.S_ISLNK(found.st_mode):
        raise NotTrustedError(f"{path} is a link to another place")
    if found.st_mode & others:
        raise NotTrustedError(f"{path} can be written to by others (chmod go-w lets it be used)")


def _tidy(folder: Path) -> None:
    """Remove what processes that were killed have left behind."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - _LEFT_BEHIND_S:
                path.unlink()


__all__ = [
    "BadEntryError",
    "NotTrustedError",
    "cache_root",
    "check_entry",
    "drop_entry",
    "read_entry",
    "say_once",
    "write_entry",
]
