"""An export on the disk: a folder with all of its files or none, beside a list of what they were when they were written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.deploying.exports.target import Export
from ttc_sim.files.whole_folders import folder_written_whole
from ttc_sim.files.writing import unwritable

MARK = "ttc-sim-export.json"
"""The list, in the folder itself."""
SCHEMA = 1


def write_export(export: Export, to: str, folder: Path, *, replace: bool = False) -> None:
    """Write an export's files, all of them or none.

    What an earlier export to the same consumer left is replaced; other files stay as they are.

    Args:
        to: name of the consumer.
        folder: made if there is none.
        replace: whatever stands there under the files' names, and whatever consumer an earlier export was for.

    Raises:
        InputError: see :func:`check_folder`; or a place that cannot be written to.
    """
    before = check_folder(to, folder, replace=replace)
    files = {name: text.encode() if isinstance(text, str) else text for name, text in export.files.items()}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    mark = {"ttc_sim_export": SCHEMA, "to": to, "files": digests, "not_expressed": list(export.not_expressed)}
    files[MARK] = (json.dumps(mark, indent=2, ensure_ascii=False) + "\n").encode()
    with folder_written_whole(folder, list(files)) as beside:
        for name, content in files.items():
            (beside / name).write_bytes(content)
        for gone in (beside / name for name in before if name not in files):
            if gone.parent.resolve() == gone.parent:  # what a link leads to stays as it is
                gone.unlink(missing_ok=True)


def check_folder(to: str, folder: Path, *, replace: bool = False) -> tuple[str, ...]:
    """Refuse a folder that holds anything but an earlier export to the same consumer, as it was written.

    Returns:
        Names of the files of the earlier export.

    Raises:
        InputError: a file, a folder with something else in it, or files that were changed since.
    """
    try:
        return _checked(to, folder, replace)
    except OSError as error:  # no name that a folder can have, or one that may not be looked into
        raise unwritable(folder, error) from None


def _checked(to: str, folder: Path, replace: bool) -> tuple[str, ...]:
    found = _files_of_mark(folder)
    if replace and (folder.is_dir() or not folder.exists()):
        return tuple(found[1]) if found is not None else ()
    if (folder.is_dir() and not any(folder.iterdir())) or (not folder.exists() and not folder.is_symlink()):
        return ()
    expected = "a new or empty folder, or one with an earlier export; --replace writes over files of the same names"
    if found is None:
        raise InputError("ttc-sim export", "--out", str(folder), expected)
    consumer, files = found
    if consumer != to:
        raise InputError("ttc-sim export", "--out", f"{folder}, an export to {consumer}", expected)
    for name, digest in files.items():
        with suppress(FileNotFoundError):
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                expected = "the file as it was exported: it was changed since, and --replace writes over it"
                raise InputError("ttc-sim export", "--out", str(folder / name), expected)
    return tuple(files)


def _files_of_mark(folder: Path) -> tuple[str, Mapping[str, str]] | None:
    """Consumer and files of an earlier export; ``None`` where there is none that can be read."""
    try:
        mark: Any = json.loads((folder / MARK).read_bytes())
        known = mark["ttc_sim_export"] == SCHEMA and isinstance(mark["to"], str)
        files = {str(name): str(digest) for name, digest in mark["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    inside = all(name and not Path(name).is_absolute() and ".." not in Path(name).parts for name in files)
    return (mark["to"], files) if known and inside else None


__all__ = ["MARK", "check_folder", "write_export"]
