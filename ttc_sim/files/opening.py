"""Files that somebody gave: whether they can be read at all, and their text."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import FREE_OF_EXPANSION, at_most, most

_MB, _GB = 1_000_000, 1_000_000_000
_KINDS = {
    stat.S_ISDIR: "folder",
    stat.S_ISFIFO: "pipe",
    stat.S_ISCHR: "device",
    stat.S_ISBLK: "device",
    stat.S_ISSOCK: "socket",
}


def is_file(path: str | Path) -> bool:
    """Whether a file stands there; a name that no file can have is none's."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_there(path: str | Path) -> bool:
    """Whether anything stands there; under a name that nothing can have nothing does."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def is_folder(path: str | Path) -> bool:
    """Whether a folder stands there; a name that no folder can have is none's."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def readable(path: str | Path, field: str = "file", expected: str = "an existing file") -> int:
    """Size of a file, in bytes, that can be opened and read to its end: a pipe or a device may have none.

    Args:
        field: and ``expected`` that errors say where there is no such file.

    Raises:
        InputError: there is none, it is something else than a file, or may not be read.
    """
    try:
        status = Path(path).stat()
    except PermissionError:
        raise InputError(path, field, str(path), "a file that may be read: permission was denied") from None
    except (OSError, ValueError):  # not there, or a name that no file can have
        raise InputError(path, field, str(path), expected) from None
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for holds, name in _KINDS.items() if holds(status.st_mode)), "something else")
        raise InputError(path, field, f"a {kind}", "a file")
    if not os.access(path, os.R_OK):
        raise InputError(path, field, str(path), "a file that may be read: permission was denied")
    return status.st_size


def read_text(path: str | Path, field: str = "file", expected: str = "an existing file") -> str:
    """The text of a file in UTF-8, without the mark that some editors begin it with.

    Raises:
        InputError: as :func:`readable`; a file that is too large (``TTC_SIM_MAX_DOCUMENT_MB``), empty or in another encoding.
    """
    size = readable(path, field, expected)
    if size > most("TTC_SIM_MAX_DOCUMENT_MB") * _MB:
        raise InputError(path, field, f"{size / _MB:,.0f} MB", at_most("TTC_SIM_MAX_DOCUMENT_MB"))
    try:
        with Path(path).open("rb") as file:
            content = file.read(size + 1)  # what grows meanwhile is not followed
    except OSError as error:
        raise InputError(path, field, error.strerror or type(error).__name__, "a file that can be read") from None
    text = decoded(content, path, field)
    if not text.strip():
        raise InputError(path, field, "an empty file", expected.removeprefix("an existing ").removeprefix("a "))
    return text


def decoded(content: bytes, where: str | Path, field: str = "file") -> str:
    """Text in UTF-8.

    Raises:
        InputError: another encoding; says which it looks like.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(where, field, content[:8], "text in UTF-8; this is UTF-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        begin = content.rfind(b"\n", 0, error.start) + 1
        shown = content[max(begin, error.start - 20) : error.end + 10]
        expected = "text in UTF-8; this is in another encoding, such as Latin-1 (Windows-1252), or no text at all"
        raise InputError(where, f"line {line}", shown, expected) from None


def check_growth(where: str | Path, size: int, becomes: float, variable: str) -> None:
    """Refuse what a packed file of ``size`` bytes would become.

    Args:
        becomes: bytes; variable: that limits them, in GB.

    Raises:
        InputError: it is more than the limit, or far more than the file itself (``TTC_SIM_MAX_EXPANSION``).
    """
    if becomes > most(variable) * _GB:
        raise InputError(where, "file", f"{becomes / _GB:,.1f} GB once it is read", at_most(variable))
    if becomes > max(FREE_OF_EXPANSION, size * most("TTC_SIM_MAX_EXPANSION")):
        said = f"{size:,} bytes that become {becomes / _MB:,.0f} MB"
        raise InputError(where, "file", said, at_most("TTC_SIM_MAX_EXPANSION"))
