"""What a sweep found: a table, and the Parquet file that holds it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ttc_sim.base.errors import InputError
from ttc_sim.files.opening import readable
from ttc_sim.files.writing import unwritable, written_whole
from ttc_sim.sweeping.identity import check_identity
from ttc_sim.sweeping.point import Row
from ttc_sim.sweeping.varying import Varied

KEY = b"ttc_sim_sweep"
_WHOLE, _TEXT = ("requests", "runs"), ("verdict", "error")


@dataclass(frozen=True)
class Sweep:
    """Points of a sweep, simulated.

    Attributes:
        table: a row for each point, in the order of the points: ``point`` (its number, 0 first), the varied values by path, and
            figures with the ends of their 95% intervals, under the names that ``ttc-sim simulate --json`` has. ``error`` says why a
            point could not be simulated; its figures are null then.
        identity: what it is of: scenario, its hash, seed, requests, what is varied, versions.
        notes: what a reader of the figures must know, of any point.
    """

    table: pl.DataFrame
    identity: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def varied(self) -> tuple[str, ...]:
        """Paths that are varied."""
        return tuple(self.identity["varied"])

    @property
    def failed(self) -> pl.DataFrame:
        """Points that could not be simulated."""
        return self.table.filter(pl.col("error").is_not_null())

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON."""
        return {**self.identity, "rows": self.table.to_dicts(), "notes": list(self.notes)}

    def __repr__(self) -> str:
        return f"<Sweep: {len(self.table):,} points of {self.identity['scenario']}, over {', '.join(self.varied)}>"

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def save(self, path: str | Path) -> None:
        """Write the table to a Parquet file, with what it is of in the file's metadata.

        Raises:
            InputError: it cannot be written; what stood there is kept.
        """
        path = Path(path)
        if path.suffix.lower() != ".parquet":
            raise InputError(path, "file", path.suffix, "a name ending in .parquet")
        about = json.dumps({**self.identity, "notes": list(self.notes)})
        table = self.table.to_arrow().replace_schema_metadata({KEY: about.encode()})
        with written_whole(path) as beside:
            try:
                pq.write_table(table, beside, compression="zstd", write_page_checksum=True)
            except OSError as error:
                raise unwritable(path, error) from None


def sweep_of(rows: Sequence[Row], varied: Varied, identity: Mapping[str, Any]) -> Sweep:
    """Put rows together, in the order of the points."""
    columns: dict[str, pl.Series] = {"point": pl.Series("point", range(len(rows)), dtype=pl.Int64)}
    for path in varied.paths:
        columns[path] = _column(path, [point[path] for point in varied.points])
    names = next((list(row) for row in rows if row.get("error") is None), ["error"])
    for name in names:
        if name != "notes":
            kind = pl.String if name in _TEXT else pl.Int64 if name in _WHOLE else pl.Float64
            columns[name] = pl.Series(name, [row.get(name) for row in rows], dtype=kind)
    table = pl.DataFrame(list(columns.values()))
    numbers = [name for name in names if table.schema.get(name) == pl.Float64]
    told = Counter(note for row in rows for note in row.get("notes") or ())
    of = sum(row.get("error") is None for row in rows)
    notes = [note if count == of else f"{note} ({count:,} of {of:,} points)" for note, count in told.items()]
    notes += [varied.note] if varied.note else []
    return Sweep(table.with_columns(pl.col(numbers).fill_nan(None)), dict(identity), tuple(notes))


def _column(path: str, values: list[Any]) -> pl.Series:
    """Numbers, truth values and texts as they are, anything else as JSON."""
    kinds = {type(value) for value in values if value is not None}
    for kind, dtype in ((bool, pl.Boolean), (int, pl.Int64), (float, pl.Float64), (str, pl.String)):
        if kinds <= ({int, float} if kind is float else {kind}):
            try:
                return pl.Series(path, values, dtype=dtype, strict=kind is not float)
            except (pl.exceptions.PolarsError, OverflowError, TypeError):
                break
    texts = [value if value is None or isinstance(value, str) else json.dumps(value, default=str) for value in values]
    return pl.Series(path, texts, dtype=pl.String)


def read_results(path: Path, identity: Mapping[str, object], varied: Varied) -> Sweep | None:
    """What stands in a results file of this very sweep; ``None`` if there is none.

    Raises:
        InputError: another file, of another sweep, or a damaged one.
    """
    if not path.exists():
        return None
    readable(path)
    try:
        found = pq.read_table(path, page_checksum_verification=True)
        about = json.loads((found.schema.metadata or {})[KEY])
        table = pl.DataFrame(found)
    except (pa.ArrowException, OSError, LookupError, ValueError, TypeError, pl.exceptions.PolarsError):
        expected = "whole results of a sweep, or another --out; what stands there is kept"
        raise InputError(path, "file", "another file, or a damaged one", expected) from None
    check_identity(about, identity, path)
    again = sweep_of([{"error": ""} for _ in varied.points], varied, identity).table
    same = ["point", *varied.paths]
    if not set(same) <= set(table.columns) or "error" not in table.columns or not table[same].equals(again[same]):
        raise InputError(path, "file", "other rows", "results of this sweep, or another --out")
    return Sweep(table, dict(identity), tuple(str(note) for note in about.get("notes", ())))


__all__ = ["Sweep", "read_results", "sweep_of"]
