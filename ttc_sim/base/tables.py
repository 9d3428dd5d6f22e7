"""Read a user's table, whatever its format, find the columns in it, and write one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.writing import unwritable, written_whole


def _read_csv(path: Path) -> pl.DataFrame:
    with path.open(encoding="utf-8", errors="replace") as file:
        names = file.readline().strip()
    for mark, between in ((";", "semicolons"), ("\t", "tabs")):
        if mark in names and "," not in names:
            expected = f"commas between columns where this file has {between}, and points in decimal numbers"
            raise InputError(path, "file", names, expected)
    return pl.read_csv(path, infer_schema_length=None)


READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    ".csv": _read_csv,
    # Types by all rows: a column may be empty in the first hundred.
    ".jsonl": partial(pl.read_ndjson, infer_schema_length=None),
    ".ndjson": partial(pl.read_ndjson, infer_schema_length=None),
}


def read_table(path: str | Path) -> pl.DataFrame:
    """Read Parquet, CSV or JSONL, told apart by the file's ending.

    Raises:
        InputError: the file is missing, has another ending, cannot be read as what its ending says, or has no rows.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise InputError(path, "file", path.suffix, "a name ending in " + ", ".join(READERS))
    if not path.is_file():
        raise InputError(path, "file", str(path), "an existing file")
    try:
        table = READERS[path.suffix.lower()](path)
    except InputError:
        raise
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(path, "file", first_line, f"a readable {path.suffix[1:]} table") from error
    if table.is_empty():
        raise InputError(path, "file", "0 rows", "at least one row")
    return table


def find_column(
    table: pl.DataFrame,
    where: str | Path,
    role: str,
    usual_names: Sequence[str],
    named: str | None = None,
    *,
    required: bool = True,
) -> str | None:
    """Name the column that plays ``role``: the one the user named, else the first of its usual names.

    Raises:
        InputError: the named column is not there, or none of the usual names is and the column is required.
    """
    if named is not None:
        if named not in table.columns:
            raise InputError(where, f"column for {role}", named, nearest(named, table.columns))
        return named
    for name in usual_names:
        if name in table.columns:
            return name
    if required:
        have = ", ".join(table.columns)
        raise InputError(where, f"column for {role}", have, "a column named " + " or ".join(usual_names))
    return None


def write_table(table: pl.DataFrame, path: str | Path) -> None:
    """Write Parquet, CSV or JSONL by the file's ending, all at once or not at all.

    Values are written as they are, text that a spreadsheet would take for a formula (``=1+1``) too: what is read back is the same.

    Raises:
        InputError: columns of a kind that the format cannot hold, another ending, or a folder that cannot be written to.
    """
    path = Path(path)
    writers: dict[str, Callable[[Path], object]] = {
        ".parquet": table.write_parquet,
        ".csv": table.write_csv,
        ".jsonl": table.write_ndjson,
        ".ndjson": table.write_ndjson,
    }
    suffix = path.suffix.lower()
    if suffix not in writers:
        raise InputError(path, "file", path.suffix, "a name ending in " + ", ".join(writers))
    with written_whole(path) as beside:
        try:
            writers[suffix](beside)
        except pl.exceptions.PolarsError as error:
            if "(os error" in str(error):
                raise unwritable(path, error) from None
            first_line = str(error).strip().splitlines()[0]
            raise InputError(path, "file", first_line, f"columns that a {suffix[1:]} file can hold") from None
