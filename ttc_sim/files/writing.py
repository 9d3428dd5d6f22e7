"""Every file is written here: it is there whole or as it was before, and those of one command together or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ttc_sim.base.errors import InputError
from ttc_sim.files.leftovers import clear_left, temporary_names

ENDINGS = {
    "json": (".json",),
    "plan": (".yaml", ".yml"),
    "plot": (".png", ".svg", ".pdf"),
    "table": (".parquet", ".csv", ".jsonl", ".ndjson"),
    "model": (".onnx",),
}
"""By kind of output, what its name may end in."""
ROOM = 2**20
"""Bytes: with less left on the disk, no work is begun."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DESCRIPTOR = re.compile(r"(?:/dev/fd|/proc/self/fd)/(\d+)")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_MOST_LINKS = 40


class _Target(NamedTuple):
    """Where the content of an output goes.

    Attributes:
        path: as it was named; place: with links followed.
        descriptor: the number N of ``/dev/fd/N``.
        before: of what stands there; ``None`` if nothing does.
    """

    path: Path
    place: Path
    descriptor: int | None
    before: os.stat_result | None

    @property
    def takes_a_stream(self) -> bool:
        """A device, a pipe or what is open already: written into, never replaced."""
        return self.descriptor is not None or (self.before is not None and not stat.S_ISREG(self.before.st_mode))


@dataclass(frozen=True)
class _Prepared:
    target: _Target
    beside: Path


_PREPARED: ContextVar[list[_Prepared] | None] = ContextVar("prepared", default=None)


def check_outputs(*inputs: str | Path | None, **outputs: Path | None) -> None:
    """Refuse, before any work, outputs that could not be written when it is done.

    Args:
        inputs: files that the command reads.
        outputs: by kind (a key of :data:`ENDINGS`, or any other word for a file of any name), where it shall be written; ``None``
            where it is not asked for.

    Raises:
        InputError: no such folder, or one that cannot be written to; a folder where a file shall be; a name with another ending;
            one file for two outputs, or for an output and an input; a disk with less than a megabyte left.
    """
    read: dict[object, Path] = {}
    for given in inputs:
        if given is not None and (identity := _identity(Path(given))) is not None:
            read[identity] = Path(given)
    written: dict[object, Path] = {}
    for kind, path in outputs.items():
        if path is None:
            continue
        target = checked(path, ENDINGS.get(kind, ()))
        if target.takes_a_stream:
            continue
        here: object = _identity(path) or str(target.place)
        if here in read:
            raise InputError(path, "file", str(path), f"another file than {read[here]}, which this command reads")
        if here in written:
            raise InputError(path, "file", str(path), f"another file than {written[here]}, which is written too")
        written[here] = path


def checked(path: Path, endings: Iterable[str] = ()) -> _Target:
    """Where an output goes, if it can be written there.

    Raises:
        InputError: as :func:`check_outputs`.
    """
    try:
        target = _standing(path)
        if target.takes_a_stream:
            return target
        if endings and path.suffix.lower() not in endings:
            raise InputError(path, "file", path.suffix, "a name ending in " + ", ".join(endings))
        if not target.place.parent.is_dir():
            raise InputError(path, "file", str(path), "a file in an existing folder")
        check_room(path, target.place.parent)
        return target
    except OSError as error:
        raise unwritable(path, error) from None


def check_room(path: Path, folder: Path) -> None:
    """Refuse a folder in which ``path`` cannot be written: not allowed, or no room.

    Raises:
        InputError: the reason.
    """
    try:
        tempfile.TemporaryFile(dir=folder).close()  # what may be written to is known for sure only by doing so
        total, _, free = shutil.disk_usage(folder)
    except OSError as error:
        raise unwritable(path, error) from None
    if total and free < ROOM:
        raise InputError(path, "file", f"{free:,} bytes free", f"at least {ROOM:,} bytes of room on its disk")


def unwritable(path: Path, error: Exception) -> InputError:
    """What the system said, in one line; libraries pass its number on in their own ways."""
    said = _OS_ERROR.search(str(error))
    number = int(said[1]) if said else getattr(error, "errno", None)
    reason = os.strerror(number) if number else str(error) or type(error).__name__
    expected = "room for it; what stood there before is kept" if number in _FULL else "a place that can be written to"
    return InputError(path, "file", reason, expected)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text in UTF-8, or bytes, so that a reader sees the old file or the new one, never a part.

    Raises:
        InputError: it cannot be written to; what stood there is kept.
    """
    with written_whole(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def written_together() -> Iterator[None]:
    """What is written inside comes to stand at its places at the end, all of it, or nothing if anything fails.

    Raises:
        InputError: a place that cannot be written to; what stood at all of them is kept.
    """
    if _PREPARED.get() is not None:
        yield
        return
    prepared: list[_Prepared] = []
    before = _PREPARED.set(prepared)
    try:
        yield
        _settle(prepared)
    finally:
        _PREPARED.reset(before)
        for one in prepared:
            one.beside.unlink(missing_ok=True)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place to write to: its content becomes the file's at the end, and is gone if anything fails.

    The file keeps its mode. What a link points to is written, and the link stays; a device, a pipe and what is open already
    (``/dev/stdout``) are written into.

    Raises:
        InputError: it cannot be written to; what stood there is kept.
    """
    with written_together():
        try:
            one = _prepare(Path(path))
            yield one.beside
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unwritable(path, error) from None


def _prepare(path: Path) -> _Prepared:
    target = _standing(path)
    place = Path(tempfile.gettempdir()) / target.place.name if target.takes_a_stream else target.place
    clear_left(place.parent)
    mode = 0o666 if target.before is None else 0o600
    for beside in temporary_names(place):
        with suppress(FileExistsError):
            descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
            break
    one = _Prepared(target, beside)
    prepared = _PREPARED.get()
    assert prepared is not None
    prepared.append(one)
    with os.fdopen(descriptor, "wb"):
        if target.before is not None and not target.takes_a_stream:
            keep_owner_and_mode(beside, target.before)
    return one


def keep_owner_and_mode(path: Path, before: os.stat_result) -> None:
    """Give a new file or folder the owner, where that is allowed, and the mode of the one it is for."""
    with suppress(OSError, AttributeError):  # nobody but root gives files away, and Windows knows no owners
        os.chown(path, before.st_uid, before.st_gid)
    with suppress(PermissionError):
        path.chmod(stat.S_IMODE(before.st_mode))


def _settle(prepared: list[_Prepared]) -> None:
    """All are on the disk before the first takes its place; a stream can still fail, and so comes before them."""
    broken: BrokenPipeError | None = None
    one: _Prepared | None = None
    try:
        for one in prepared:
            if not one.target.takes_a_stream:
                sync(one.beside)
                _standing(one.target.path)
        for one in prepared:
            if one.target.takes_a_stream:
                try:
                    _pour(one)
                except BrokenPipeError as error:
                    broken = error
        for one in prepared:
            if not one.target.takes_a_stream:
                one.beside.replace(one.target.place)
    except OSError as error:
        assert one is not None
        raise unwritable(one.target.path, error) from None
    if broken is not None:
        raise broken


def sync(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _pour(one: _Prepared) -> None:
    target = one.target
    if target.descriptor is not None:
        sys.stdout.flush()
        descriptor = os.dup(target.descriptor)
    else:
        descriptor = os.open(target.place, os.O_WRONLY)
    with one.beside.open("rb") as content, os.fdopen(descriptor, "wb") as out:
        shutil.copyfileobj(content, out)


def _standing(path: Path) -> _Target:
    """Where an output goes, if what stands there can be written or replaced."""
    target = _target(path)
    at, before = target.place, target.before
    if before is None:
        return target
    if stat.S_ISDIR(before.st_mode):
        raise InputError(path, "file", str(path), "a file in an existing folder: this is a folder")
    if target.descriptor is not None:
        may = _open_for_writing(target.descriptor)
    else:
        may = os.access(at, os.W_OK) and (target.takes_a_stream or _replaceable(before, at.parent))
    if not may:
        raise InputError(path, "file", str(path), "a file that may be written to")
    return target


def _open_for_writing(descriptor: int) -> bool:
    try:
        os.write(descriptor, b"")
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def _target(path: Path) -> _Target:
    """Follow links one by one: the last but one may be ``/dev/fd/N``, which is no name of what is open there."""
    place = Path.cwd() / path
    for _ in range(_MOST_LINKS):
        if found := _DESCRIPTOR.fullmatch(str(place)):
            descriptor = int(found[1])
            return _Target(path, place, descriptor, os.fstat(descriptor))
        place = Path(os.path.realpath(place.parent)) / place.name
        if not place.is_symlink():
            break
        place = place.parent / place.readlink()
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    try:
        return _Target(path, place, None, place.stat())
    except FileNotFoundError:
        return _Target(path, place, None, None)


def _identity(path: Path) -> tuple[int, int] | None:
    """The same for all names of one file; ``None`` if there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return None if stat.S_ISDIR(found.st_mode) else (found.st_dev, found.st_ino)


def _replaceable(before: os.stat_result, folder: Path) -> bool:
    """In a folder that all share, such as ``/tmp``, nobody replaces the files of others."""
    at = folder.stat()
    return not at.st_mode & stat.S_ISVTX or os.name != "posix" or os.geteuid() in (0, before.st_uid, at.st_uid)


__all__ = [
    "ENDINGS",
    "check_outputs",
    "check_room",
    "checked",
    "keep_owner_and_mode",
    "sync",
    "unwritable",
    "write_atomically",
    "written_together",
    "written_whole",
]
