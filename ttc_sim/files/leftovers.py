"""Temporary files and folders: names that say whose they are, and the removal of those that killed runs left."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import count
from pathlib import Path

OLD_S = 24 * 3600
"""Age from which on what another machine made, whose processes cannot be seen from here, is left over."""

_LEFT = re.compile(r"\.(?P<name>.+)\.ttc-sim-(?P<pid>\d+)-(?P<machine>[0-9a-f]{6})-\d+\.(?P<what>tmp|old)", re.DOTALL)


def temporary_names(place: Path, what: str = "tmp") -> Iterator[Path]:
    """Names beside a file or folder that :func:`clear_left` knows: they say whose they are."""
    name = os.fsdecode(os.fsencode(place.name)[:180]) if what == "tmp" else place.name
    for number in count():
        yield place.with_name(f".{name}.ttc-sim-{os.getpid()}-{_machine()}-{number}.{what}")


def temporary_folder(name: str) -> Path:
    """A folder of this process alone, removed at its end; where it is killed, by the next that makes one."""
    root = Path(tempfile.gettempdir())
    clear_left(root)
    for folder in temporary_names(root / name):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            break
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def clear_left(folder: Path) -> None:
    """Remove what killed runs left in a folder, and put back a folder that one had moved away to replace it."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _LEFT.fullmatch(entry.name)
            if found is None or entry.is_symlink():
                continue
            with suppress(OSError):
                _clear(Path(entry.path), found, entry.stat(follow_symlinks=False))


def put_back(folder: Path) -> None:
    """Put a folder back that a run had moved away to replace it when it was killed."""
    with suppress(OSError):
        if folder.exists():
            return
        for left in folder.parent.iterdir():
            found = _LEFT.fullmatch(left.name)
            if found is not None and found["name"] == folder.name and found["what"] == "old":
                _clear(left, found, left.lstat())


def _clear(left: Path, found: re.Match[str], at: os.stat_result) -> None:
    if os.name == "posix" and os.geteuid() not in (0, at.st_uid):
        return
    if os.name == "posix" and found["machine"] == _machine():
        if _running(int(found["pid"])):
            return
    elif time.time() - at.st_ctime < OLD_S:
        return
    home = left.with_name(found["name"])
    if found["what"] == "old" and not home.exists():
        left.rename(home)
    elif stat.S_ISDIR(at.st_mode):
        shutil.rmtree(left)
    else:
        left.unlink()


def _running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # somebody else's
    return True


@lru_cache(maxsize=1)
def _machine() -> str:
    """Where process numbers mean the same: a host, or a container on it; a folder may be shared between several."""
    where = socket.gethostname()
    with suppress(OSError):
        where += str(Path("/proc/self/ns/pid").stat().st_ino)
    return hashlib.sha256(where.encode()).hexdigest()[:6]


__all__ = ["clear_left", "put_back", "temporary_folder", "temporary_names"]
