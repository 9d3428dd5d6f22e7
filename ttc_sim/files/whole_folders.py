"""A folder replaced in one step: at any moment the old one or the new one stands there, whole."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.files.leftovers import clear_left, temporary_names
from ttc_sim.files.writing import keep_owner_and_mode, sync, unwritable

_NOT_HERE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV)
_AT_FDCWD = -100
_SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS


@contextmanager
def folder_written_whole(folder: Path, own: Collection[str]) -> Iterator[Path]:
    """A folder to write files named ``own`` into: it becomes ``folder`` at the end, or is gone if anything fails.

    What else stands in ``folder`` stays in it.

    Args:
        own: names of files, in folders of ``folder``'s too (``small/profile.yaml``), which are there to be written into.

    Raises:
        InputError: a place that cannot be written to, or a link where a folder of ``own`` should be; what stood there is kept.
    """
    place = Path(os.path.realpath(folder))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        clear_left(place.parent)
        beside = next(name for name in temporary_names(place) if not name.exists())
        try:
            _begin(place, beside, own)
            yield beside
            for name in own:
                sync(beside / name)
                if (place / name).exists():
                    keep_owner_and_mode(beside / name, (place / name).stat())
            _take_place(place, beside)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise unwritable(folder, error) from None


def _begin(place: Path, beside: Path, own: Collection[str]) -> None:
    """What is not written anew is in both folders."""
    beside.mkdir()
    if place.exists():
        left_out: dict[str, list[str]] = {}
        for name in own:
            left_out.setdefault(str((place / name).parent), []).append(Path(name).name)
        shutil.copytree(
            place,
            beside,
            symlinks=True,
            ignore=lambda at, _: left_out.get(str(at), ()),
            copy_function=_linked,
            dirs_exist_ok=True,
        )
        keep_owner_and_mode(beside, place.stat())
    for name in own:
        within = [beside / parent for parent in Path(name).parents]
        if link := next((parent for parent in within if parent.is_symlink()), None):
            said = str(place / link.relative_to(beside))
            raise InputError(said, "folder", "a link", "a folder, or none yet: what a link leads to stays as it is")
        (beside / name).parent.mkdir(parents=True, exist_ok=True)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # no links on this file system, or not of a file of somebody else's
        shutil.copy2(source, target)


def _take_place(place: Path, beside: Path) -> None:
    if not place.exists():
        beside.rename(place)
        return
    if swap(place, beside):
        return
    # Two steps: killed between them, the old folder is put back by `clear_left`.
    old = next(name for name in temporary_names(place, "old") if not name.exists())
    place.rename(old)
    try:
        beside.rename(place)
    except OSError:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def swap(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; ``False`` where the system or the file system cannot.

    Raises:
        OSError: they cannot be renamed.
    """
    names = os.fsencode(one), os.fsencode(other)
    call, arguments = None, (names[0], names[1], _SWAP)
    with suppress(OSError, TypeError):  # Windows
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            call = getattr(library, "renameat2", None)
            arguments = (_AT_FDCWD, names[0], _AT_FDCWD, names[1], _SWAP)  # type: ignore[assignment]
        elif sys.platform == "darwin":
            call = getattr(library, "renamex_np", None)
    if call is None:
        return False
    if call(*arguments) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_HERE:
        return False
    raise OSError(code, os.strerror(code))


__all__ = ["folder_written_whole", "swap"]
