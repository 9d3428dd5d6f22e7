"""Calls on their way: parts on the disk, so that memory holds one of them, and an interrupted import goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.files.writing import unwritable

FOLDER = ".ttc-sim-import"
_STATE = "state.json"


@dataclass
class Spool:
    """A folder of parts, and how far they go.

    Attributes:
        folder: of the parts; wanted: fingerprint of what is imported and how.
        parts: their number; done: by file, its records that are in them; whole: files that are in them to the end.
    """

    folder: Path
    wanted: str
    parts: int = 0
    done: dict[str, int] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)

    @classmethod
    def begun(cls, out: Path, wanted: dict[str, Any]) -> tuple[Spool, bool]:
        """The spool of an import into ``out``, and whether it goes on with what an interrupted one has left there.

        Raises:
            InputError: the folder cannot be written.
        """
        text = json.dumps(wanted, sort_keys=True, default=str)
        made = cls(out / FOLDER, hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest())
        try:
            state = json.loads((made.folder / _STATE).read_text(encoding="utf-8"))
            fits = state["wanted"] == made.wanted and all(made.part(k).is_file() for k in range(state["parts"]))
        except (OSError, ValueError, KeyError, TypeError):
            fits = False
        if fits:
            made.parts, made.done, made.whole = state["parts"], state["done"], state["whole"]
            return made, made.parts > 0
        made.clear()
        try:
            made.folder.mkdir(parents=True)
        except OSError as error:
            raise unwritable(made.folder, error) from None
        return made, False

    def part(self, number: int, kind: str = "calls") -> Path:
        """Where a part stands."""
        return self.folder / f"{kind}-{number:06d}.parquet"

    def add(self, rows: pl.DataFrame, file: str, records: int) -> None:
        """Keep a part, with which the first ``records`` of a file are in.

        Raises:
            InputError: there is no room.
        """
        write_part(rows, self.part(self.parts))
        self.parts += 1
        self.done[file] = records
        self._note()

    def finished(self, file: str) -> None:
        """All of a file is in."""
        self.whole.append(file)
        self._note()

    def _note(self) -> None:
        state = {
            "wanted": self.wanted,
            "parts": self.parts,
            "done": self.done,
            "whole": self.whole,
        }
        beside = self.folder / f"{_STATE}.new"
        try:
            beside.write_text(json.dumps(state), encoding="utf-8")
            beside.replace(self.folder / _STATE)
        except OSError as error:
            raise unwritable(self.folder, error) from None

    def each(self, kind: str = "calls") -> Iterator[pl.DataFrame]:
        """The parts, one after the other."""
        for number in range(self.parts):
            path = self.part(number, kind)
            if path.is_file():
                yield pl.read_parquet(path, glob=False)

    def lazy(self) -> pl.LazyFrame:
        """All calls, to be read in a stream."""
        return pl.scan_parquet([self.part(number) for number in range(self.parts)], glob=False)

    def clear(self) -> None:
        """Take the parts away."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_part(rows: pl.DataFrame, path: Path) -> None:
    """Write a part, whole or not at all.

    Raises:
        InputError: there is no room.
    """
    beside = path.with_suffix(".new")
    try:
        rows.write_parquet(beside, compression="zstd", compression_level=1)
        beside.replace(path)
    except pl.exceptions.PolarsError as error:
        raise unwritable(path, error) from None
    except OSError as error:
        raise unwritable(path, error) from None


def check_own(folder: Path) -> None:
    """Refuse a folder of that name that holds something else.

    Raises:
        InputError: it does.
    """
    if folder.exists() and not (
        folder.is_dir()
        and all(
            one.name.split("-")[0].split(".")[0] in ("calls", "ready", "state", "sorted") for one in folder.iterdir()
        )
    ):
        raise InputError(
            folder, "folder", str(folder), "nothing else of this name: an interrupted import leaves its parts here"
        )
