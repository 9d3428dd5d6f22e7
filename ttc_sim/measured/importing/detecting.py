"""Which format a log is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError, users_code
from ttc_sim.base.plugins import called, find
from ttc_sim.measured.importing.importer import IMPORTERS, Importer
from ttc_sim.measured.importing.opening import LogFile, look_at
from ttc_sim.measured.importing.reading import Sample, inside, sample_of

GENERIC = "table"
"""The importer that takes any table by the usual names of its columns, where no other knows it."""


def recognise(path: Path, named: str | None, columns: Mapping[str, str] | None = None) -> tuple[str, LogFile, Sample]:
    """The format of a log: the one that is named, if it can be, or the one whose marks it bears.

    Raises:
        InputError: no such format, another format than the named one, none that is known, or two that it may be.
    """
    if named is not None:
        find(IMPORTERS, named, where="--format", field="format")
    if columns:
        if named not in (None, GENERIC):
            raise InputError(
                "--column", "columns", ", ".join(columns), f"none beside --format {named}, whose columns are known"
            )
        named = GENERIC
    file = look_at(path)
    if file.kind == "zip" and not any(importer_of(name).zips for name in IMPORTERS):
        raise InputError(path, "file", "a zip file", "a log that is no zip file: unpack it first")
    marks: dict[str, tuple[int, Sample]] = {}
    samples = _Samples(file)
    for name in IMPORTERS:
        importer = importer_of(name, columns)
        sample = samples.of(importer)
        if sample is None or not sample.records:
            continue
        with users_code(path, f"format {name}: {called(type(importer))}.recognises", "a number of marks"):
            count = int(importer.recognises(sample))
        if count > 0:
            marks[name] = count, sample
    if named is not None:
        if named in marks:
            return named, file, marks[named][1]
        best = _best(marks)
        looks = f"; this looks like {importer_of(best[0]).title}, --format {best[0]}" if best else ""
        raise InputError(path, "format", path.name, f"{importer_of(named).title}{looks}")
    if not marks:
        if (error := samples.error()) is not None:
            raise error
        known = ", ".join(IMPORTERS)
        raise InputError(
            path,
            "format",
            _shown(file, samples.of(importer_of(GENERIC))),
            f"a log of a known format ({known}), or columns of the usual names",
        )
    best = _best(marks)
    if len(best) > 1:
        said = " or ".join(f"--format {name}" for name in best)
        raise InputError(path, "format", path.name, f"one format: it may be {said}")
    return best[0], file, marks[best[0]][1]


def _best(marks: dict[str, tuple[int, Sample]]) -> list[str]:
    known = {name: count for name, (count, _) in marks.items() if name != GENERIC} or {
        name: count for name, (count, _) in marks.items()
    }
    most = max(known.values(), default=0)
    return [name for name, count in known.items() if count == most]


class _Samples:
    """A file's beginning as each importer sees it, read as few times as can be."""

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._whole: Sample | None = None
        self._large: dict[tuple[str, ...], Sample | InputError] = {}
        self._own: set[tuple[str, ...]] = set()
        if file.kind != "zip":
            try:
                self._whole = sample_of(file)
            except InputError as error:  # a document that is too large to be read as one record, or nothing at all
                self._large[()] = error

    def of(self, importer: Importer) -> Sample | None:
        if self._file.kind == "zip":
            return importer.sample(self._file) if importer.zips else None
        if self._whole is not None:
            return inside(self._whole, importer.arrays)
        own = type(importer).sample is not Importer.sample
        key = (type(importer).__name__,) if own else importer.arrays
        if own:
            self._own.add(key)
        if key not in self._large:
            try:
                sample = importer.sample(self._file)
            except InputError as error:
                self._large[key] = error
            else:
                if sample is None:
                    return None
                self._large[key] = sample
        found = self._large[key]
        return None if isinstance(found, InputError) else found

    def error(self) -> InputError | None:
        """Why nothing could be read: as an importer says it that knows the file, if any does."""
        common = [one for key, one in self._large.items() if key not in self._own]
        found = [one for one in common if isinstance(one, InputError)]
        if not found or len(found) < len(common):
            return None
        own = (one for key, one in self._large.items() if key in self._own and isinstance(one, InputError))
        return next((one for one in own if str(one) != str(found[0])), found[0])


def _shown(file: LogFile, sample: Sample | None) -> str:
    first = sample.records[0] if sample is not None and sample.records else None
    names: Sequence[Any] = list(first) if isinstance(first, dict) else []
    return ", ".join(map(str, names)) or file.path.name


def importer_of(name: str, columns: Mapping[str, str] | None = None) -> Importer:
    """An importer by its format's name; a table's knows columns that somebody named."""
    made = IMPORTERS[name]
    return made(columns) if name == GENERIC and columns else made()  # type: ignore[call-arg]
