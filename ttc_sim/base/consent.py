"""A user's own Python, named by a file: a scenario, a plan or a command line says ``mine.py:function``.

Reading such a name runs nothing. It finds the file, which must lie in the folder of whatever names it, and notes what the file
holds by then. The file runs when the function is used, and only with consent: given for the call, or remembered for this very
file. What runs are the bytes that consent was looked up for, which are those that were found at reading, or it does not run.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, cast

from ttc_sim.base.errors import InputError, users_code

AllowCode: TypeAlias = bool | Literal["remember"]
"""Whether code in files may run; ``"remember"`` allows what runs now from now on, until its file changes."""

MOST_BYTES = 10_000_000
_LOG = logging.getLogger("ttc_sim")


@dataclass(frozen=True, eq=False)
class FileFunction:
    """A function that a user's file holds, not run yet.

    Attributes:
        said: as it was named; file: where that is; name: of the function.
        sha256: of the file when it was named.
        allow: whether it may run; a remembered file may in any case.
        where, field: that errors name; use: what it is for, as in "choose() would ...".
    """

    said: str
    file: Path
    name: str
    sha256: str
    allow: AllowCode
    where: str
    field: str
    use: str

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The function itself: the file is run when this is first asked for.

        Raises:
            InputError: no consent, a file that has changed since it was named or that fails, or no such function in it.
        """
        source, shown = self.check_consent(), repr(self.file.name)[1:-1]
        module = ModuleType(f"ttc_sim_user_{self.file.stem}")
        module.__file__ = str(self.file)
        sys.modules[module.__name__] = module  # dataclasses look their own module up
        with users_code(self.where, self.field, f"{shown} to run without an error"):
            exec(compile(source, str(self.file), "exec", dont_inherit=True), vars(module))
        function: Any = vars(module).get(self.name)
        if not callable(function):
            raise InputError(self.where, self.field, self.name, f"a function of {shown}")
        return cast("Callable[..., Any]", function)

    @property
    def named_file(self) -> str:
        """The file as it was named."""
        return self.said.rpartition(":")[0]

    @property
    def has_run(self) -> bool:
        """Whether the file was run for it."""
        return "function" in vars(self)

    def check_consent(self) -> bytes:
        """What would run: the file, if it may and is still what it was.

        Raises:
            InputError: no consent, or a file that has changed since it was named.
        """
        source = _content(self.file, self.where, self.field)
        if _digest(source) != self.sha256:
            expected = (
                f"{str(self.file)!r} as it was when it was read: it has changed since, so read what names it again"
            )
            raise InputError(self.where, self.field, self.said, expected)
        if self.allow == "remember":
            _remember(self.file, self.sha256, self.where, self.field)
        if self.allow or _is_remembered(self.file, self.sha256):
            return source
        raise InputError(
            self.where,
            self.field,
            self.said,
            f"consent to run code: {self.name}() of {str(self.file)!r} would {self.use}. Look at the file, then give --allow-code "
            "(in Python allow_code=True), or --remember-code to be asked again only when the file has changed",
        )

    def __getstate__(self) -> dict[str, Any]:
        # A module made here is not found elsewhere: another process runs the same bytes again.
        return {name: value for name, value in vars(self).items() if name != "function"}


@dataclass
class Code:
    """Code that a scenario, or a call, names by file: whether it may run, and what its files held when they were named first.

    It is no part of what a scenario says: two that say the same are equal whatever they may run.

    Attributes:
        allow: whether what is named may run.
        within: folders that files must lie in beside that of the scenario.
    """

    allow: AllowCode = field(default=False, compare=False)
    within: tuple[Path, ...] = field(default=(), compare=False)
    found: dict[Path, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        # "no" would be taken for a yes.
        if self.allow is not True and self.allow is not False and self.allow != "remember":
            raise InputError("arguments", "allow_code", self.allow, "True, False or 'remember'")

    def allowing(self, allow: AllowCode) -> Code:
        """The same files, with this consent beside the one that there is."""
        other = Code(allow, self.within, self.found)
        return other if other.allow else self

    def function(self, said: str, folder: str | Path, *, where: str, field: str, use: str) -> FileFunction:
        """What ``file.py:function`` names, without running anything.

        Args:
            folder: that the file must lie in, or below.
            use: what the function is for, as in "choose() would ...".

        Raises:
            InputError: no such file, one outside of the folder, or no name of a function.
        """
        named, _, name = said.rpartition(":")
        if not name.isidentifier():
            raise InputError(where, field, said, "FILE.py:NAME with the name of a function of the file")
        file = self._inside(named, Path(folder), where, field, said)
        if file not in self.found:
            self.found[file] = _digest(_content(file, where, field))
        return FileFunction(said, file, name, self.found[file], self.allow, where, field, use)

    def _inside(self, named: str, folder: Path, where: str, field: str, said: str) -> Path:
        """The file itself, links followed: it is where the bytes stand that counts."""
        try:
            file = (folder.resolve() / named).resolve()
            roots = [root.resolve() for root in (folder, *self.within)]
            is_file = file.is_file()
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, or links in a circle
            raise InputError(where, field, said, "an existing Python file") from None
        for root in roots:
            if not file.is_relative_to(root):
                expected = f"a file in {str(root)!r} or below it: code may only run from the folder of what names it"
                raise InputError(where, field, said, expected)
        if not is_file:
            raise InputError(where, field, str(folder / named), "an existing Python file")
        return file


def names_function(text: str) -> bool:
    """Whether the text is ``file.py:function``."""
    file, colon, _ = text.rpartition(":")
    return bool(colon) and file.endswith(".py")


def called_by(function: Callable[..., Any] | FileFunction) -> Callable[..., Any]:
    """What to call: a function itself, or what a file holds, which then runs."""
    return function.function if isinstance(function, FileFunction) else function


def store_of_consent() -> Path | None:
    """The file with what is remembered, one line each as ``sha256sum`` prints it; ``None`` for a user without a home."""
    try:
        root = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:
        return None
    return root / "ttc-sim" / "allowed-code"


def _line(file: Path, digest: str) -> str:
    return f"{digest}  {file}"


def _is_remembered(file: Path, digest: str) -> bool:
    store = store_of_consent()
    try:
        if store is None or not _is_own(store):
            return False
        return _line(file, digest) in store.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return False


def _is_own(store: Path) -> bool:
    """Whether nobody else can have written it."""
    found = store.stat()
    if not stat.S_ISREG(found.st_mode) or os.name != "posix":
        return stat.S_ISREG(found.st_mode)
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _remember(file: Path, digest: str, where: str, field: str) -> None:
    if _is_remembered(file, digest):
        return
    store, line = store_of_consent(), _line(file, digest)
    if store is None or not line.isprintable():
        expected = "a name that can be printed, and a home folder to remember it in: --allow-code needs neither"
        raise InputError(where, field, str(file), expected)
    try:
        store.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if store.exists() and not _is_own(store):
            raise PermissionError(errno.EPERM, "others may have written it")
        with os.fdopen(os.open(store, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as out:
            out.write(line + "\n")
    except (OSError, UnicodeEncodeError) as error:
        said = getattr(error, "strerror", None) or "a name that is not text"
        expected = "a file of one's own to remember code in: --allow-code needs none"
        raise InputError(store, "file", said, expected) from None
    _LOG.info("%r is remembered in %r", str(file), str(store))


def _content(file: Path, where: str, field: str) -> bytes:
    try:
        with file.open("rb") as opened:
            source = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(where, field, str(file), f"a file that can be read: {error.strerror}") from None
    if len(source) > MOST_BYTES:
        raise InputError(where, field, str(file), f"a Python file of at most {MOST_BYTES:,} bytes")
    return source


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


__all__ = [
    "AllowCode",
    "Code",
    "FileFunction",
    "called_by",
    "names_function",
    "store_of_consent",
]
