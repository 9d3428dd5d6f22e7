"""What a log is made of: its beginning, its records, and those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Sample:
    """The beginning of a log.

    Attributes:
        name: of the file; kind: ``json`` (objects, one a line or in one document) or ``table`` (CSV, TSV or Parquet).
        records: its first records: of a table, its first rows by name of the column.
        columns: names of a table's columns.
        head: of a JSON document that is one object, what it holds beside its records.
        path: of the file: some formats tell the model by its folder, or have more in files beside it.
    """

    name: str
    kind: Literal["json", "table"]
    records: tuple[Any, ...]
    columns: tuple[str, ...] = ()
    head: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def first(self) -> Any:
        """The first record; ``None`` without any."""
        return self.records[0] if self.records else None


@dataclass(frozen=True)
class Left:
    """A record that cannot be read, and why."""

    why: str
    said: str = ""


Read = Iterator[tuple[int, Any]]
"""Number of each record, from 1 (of lines: the line's), and the record or a :class:`Left`."""
