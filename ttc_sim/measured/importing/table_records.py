"""Records of tables: CSV with whatever mark between its columns, and Parquet."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import at_most, most
from ttc_sim.files.table_files import check_parquet
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.records import Left, Read, Sample

_DECIMAL_COMMA = re.compile(r"[+-]?(?:0,\d+|\d{4,},\d+|\d+,(?:\d{1,2}|\d{4,})|\d{1,3}(?:\.\d{3})+,\d+)")
_BATCH = 20_000


def read_csv(file: LogFile, stream: IO[bytes], tick: Callable[[], None]) -> Read:
    """Rows of a table of text by name of the column.

    Args:
        stream: of it, unpacked; tick: called now and then.

    Raises:
        InputError: no names of columns in the first line, or one of them twice.
    """
    longest = int(most("TTC_SIM_MAX_LINE_MB") * 1e6)
    before = csv.field_size_limit(longest)
    try:
        text = io.TextIOWrapper(stream, "utf-8", errors="replace", newline="")
        first = text.readline(longest)
        while first and not first.strip("\ufeff \t\r\n"):
            first = text.readline(longest)
        told = first.strip().lower().startswith("sep=")
        mark = first.strip()[4:5] if told else ""
        first = text.readline(longest) if told else first
        mark = mark or delimiter_of(first)
        names = _names(file.path, next(csv.reader([first.lstrip("\ufeff")], delimiter=mark), []))
        rows = csv.reader(_unbroken(text), delimiter=mark)
        number = 1
        while True:
            try:
                row = next(rows, None)
            except csv.Error:
                yield number, Left(f"a field of more than {longest / 1e6:g} MB, or quotes that are not closed")
                continue
            if row is None:
                return
            if not any(row):
                continue
            if row[0].strip() == names[0] and [cell.strip() for cell in row] == names:
                yield number, Left("the names of the columns once more")
            elif (len(row) != len(names) and any(cell.strip() for cell in row[len(names) :])) or len(row) < len(names):
                yield number, Left(f"{len(row)} fields where the first line has {len(names)}", mark.join(row)[:60])
            else:
                yield number, dict(zip(names, row, strict=False))
            number += 1
            if number % 4096 == 0:
                tick()
    finally:
        csv.field_size_limit(before)


def _unbroken(text: io.TextIOWrapper) -> Iterator[str]:
    for line in text:
        yield line.replace("\0", "") if "\0" in line else line


def delimiter_of(line: str) -> str:
    """The mark between the columns of a table, by the line of their names.

    >>> delimiter_of("a;b,c;d"), delimiter_of("a\\tb"), delimiter_of("only")
    (';', '\\t', ',')
    """
    counts = {mark: len(next(csv.reader([line], delimiter=mark), [])) for mark in (",", ";", "\t", "|")}
    return max(counts, key=lambda mark: counts[mark])


def _names(path: Path, given: list[str]) -> list[str]:
    names = [name.strip() for name in given]
    while names and not names[-1]:  # a mark at the end of each line
        names.pop()
    if not names:
        raise InputError(path, "line 1", ", ".join(given), "names of the columns")
    if len(names) > most("TTC_SIM_MAX_COLUMNS"):
        raise InputError(path, "columns", len(names), at_most("TTC_SIM_MAX_COLUMNS"))
    if all(_is_number(name) for name in names if name):
        raise InputError(path, "line 1", ", ".join(names), "names of the columns: this line has numbers alone")
    twice = next((name for name, times in Counter(names).items() if times > 1 and name), None)
    if twice is not None:
        raise InputError(
            path, "line 1", twice, "each column once; of several lines of names, the one that names them all"
        )
    return names


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def read_parquet(file: LogFile, at: Callable[[int], None]) -> Read:
    """Rows of a Parquet table by name of the column, times as text.

    Raises:
        InputError: it is damaged, or too large in one of its parts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_parquet(file.path, file.size, in_parts=True)
    number = 0
    try:
        with pq.ParquetFile(file.path) as table:
            rows = max(table.metadata.num_rows, 1)
            for batch in table.iter_batches(batch_size=_BATCH):
                frame = pl.DataFrame(pl.from_arrow(batch))
                times = [name for name, kind in frame.schema.items() if isinstance(kind, (pl.Datetime, pl.Date))]
                for record in frame.with_columns(pl.col(times).dt.to_string("iso")).iter_rows(named=True):
                    number += 1
                    yield number, record
                at(int(file.size * number / rows))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError):
        raise InputError(file.path, "file", file.path.name, "a Parquet table that is not damaged") from None


def decimal_mark(sample: Sample) -> str:
    """The mark before decimals in a table: a comma where some number has one that can be no mark of thousands.

    >>> decimal_mark(Sample("a", "table", ({"t": "0,5"},))), decimal_mark(Sample("a", "table", ({"t": "1,500"},)))
    (',', '.')
    """
    values = (value for record in sample.records if isinstance(record, Mapping) for value in record.values())
    return "," if any(isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value.strip()) for value in values) else "."
