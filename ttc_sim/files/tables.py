"""Read a user's table, whatever its format, find the columns in it, and write one."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import polars as pl

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.files.opening import readable
from ttc_sim.files.table_files import (
    UTF8_MARK,
    check_columns,
    check_json_lines,
    check_levels,
    check_parquet,
    check_text,
    check_texts,
    csv_names,
    unreadable,
)
from ttc_sim.files.writing import unwritable, written_whole


def _read_parquet(path: Path, size: int) -> pl.DataFrame:
    check_parquet(path, size)
    table = pl.read_parquet(path, glob=False)
    check_texts(table, path, size)
    return table


def _read_csv(path: Path, size: int) -> pl.DataFrame:
    lines = check_text(path, size)
    check_columns(path, len(csv_names(path)), lines, size)
    return pl.read_csv(path, glob=False, infer_schema_length=None)


def _read_json_lines(path: Path, size: int) -> pl.DataFrame:
    check_json_lines(path, size, check_text(path, size))
    with path.open("rb") as file:  # a path would be taken for a pattern
        marked = file.read(len(UTF8_MARK)) == UTF8_MARK
        file.seek(len(UTF8_MARK) if marked else 0)
        source = io.BytesIO(file.read()) if marked else file
        # Types by all rows: a column may be empty in the first hundred.
        return pl.read_ndjson(source, infer_schema_length=None)


READERS: dict[str, Callable[[Path, int], pl.DataFrame]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}


def read_table(path: str | Path) -> pl.DataFrame:
    """Read Parquet, CSV or JSONL, told apart by the file's ending.

    Raises:
        InputError: the file is missing, has another ending, cannot be read as what its ending says, is or becomes too large
            (:data:`~ttc_sim.base.limits.ADJUSTABLE`), or has no rows.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise InputError(path, "file", path.suffix, "a name ending in " + ", ".join(READERS))
    size = readable(path)
    try:
        if not size:
            raise InputError(path, "file", "an empty file", "at least one row")
        table = READERS[path.suffix.lower()](path, size)
        check_levels(table, path)
    except InputError:
        raise
    # What Polars itself does not foresee in a garbled file is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None
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


def find_columns(
    table: pl.DataFrame,
    where: str | Path,
    usual_names: Mapping[str, Sequence[str]],
    named: Mapping[str, str | None],
    needed: Collection[str],
) -> tuple[dict[str, str | None], list[str]]:
    """By role, the column that plays it, and lines that say so.

    Raises:
        InputError: as :func:`find_column`, of the roles that are needed.
    """
    found = {
        role: find_column(table, where, role, usual, named.get(role), required=role in needed)
        for role, usual in usual_names.items()
    }
    return found, [f"{role}: column {column}" for role, column in found.items() if column is not None]


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
