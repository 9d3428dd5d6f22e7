"""Files of tables, looked at before they are read: what they would become, and what is wrong where they cannot be read."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_NESTED, at_most, most
from ttc_sim.base.shipped import is_shipped
from ttc_sim.files.documents import parse_json
from ttc_sim.files.opening import check_growth, decoded

UTF8_MARK = b"\xef\xbb\xbf"
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_BLOCK = 1 << 20
_LINES = 4096
_NEW_LINE = ord("\n")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}\n"))
_STEPS = np.array([(mark in b"[{") - (mark in b"]}") for mark in range(256)], dtype=np.int64)
_CELL = 8  # bytes of a value, text or number, at the least
_NOT_PARSED = re.compile(r"could not parse `(.*?)` as dtype `\w+` at column '(.*?)'", re.DOTALL)


def check_parquet(path: Path, size: int, *, in_parts: bool = False) -> None:
    """Refuse a Parquet file by what it says of itself, before anything of it is unpacked.

    Args:
        size: of the file, bytes; in_parts: it is read a row group at a time.

    Raises:
        InputError: no Parquet, too large once read, or columns too many.
    """
    if is_shipped(path, "profiles"):
        return
    from pyarrow import ArrowException
    from pyarrow.parquet import read_metadata

    try:
        found = read_metadata(path)
        groups = [found.row_group(k) for k in range(found.num_row_groups)]
        columns = range(found.num_columns)
        becomes = [max(one.total_byte_size, _CELL * sum(one.column(k).num_values for k in columns)) for one in groups]
        rows = found.num_rows
    except NotImplementedError:  # types that Polars has and Arrow has not: whole numbers of 128 bits
        lazy = pl.scan_parquet(path, glob=False)
        columns, rows = range(len(lazy.collect_schema())), int(lazy.select(pl.len()).collect().item())
        becomes = [_CELL * rows * len(columns)]
    except (ArrowException, OSError, ValueError):
        raise _no_parquet(path) from None
    if rows < 0 or any(part < 0 for part in becomes):
        raise _no_parquet(path)
    check_columns(path, len(columns))
    check_growth(path, size, max(becomes, default=0) if in_parts else sum(becomes), "TTC_SIM_MAX_TABLE_GB")


def _no_parquet(path: Path) -> InputError:
    with path.open("rb") as file:
        begins = file.read(8)
    expected = "a readable parquet table: this file is damaged, cut off, or something else"
    return InputError(path, "file", begins or "an empty file", expected)


def check_texts(table: pl.DataFrame, path: Path, size: int) -> None:
    """Refuse texts that stand once in a Parquet file and so often in the table that they come to far more than the file.

    Raises:
        InputError: they do.
    """
    kinds = (pl.String, pl.Categorical)
    texts = [name for name, kind in table.schema.items() if kind in kinds] if not is_shipped(path, "profiles") else []
    if texts:
        sizes = table.select(pl.col(texts).cast(pl.String).str.len_bytes().cast(pl.Int64).sum())
        check_growth(path, size, sum(sizes.row(0)), "TTC_SIM_MAX_TABLE_GB")


def check_text(path: Path, size: int, *, in_parts: bool = False) -> int:
    """Refuse a file of lines by its bytes, before any of it is taken apart.

    Returns:
        Its lines.

    Raises:
        InputError: packed, in UTF-16, too large, or with a line too long.
    """
    if not in_parts:
        check_growth(path, size, size, "TTC_SIM_MAX_TABLE_GB")
    longest = most("TTC_SIM_MAX_LINE_MB") * 1e6
    lines, length = 1, 0
    with path.open("rb") as file:
        begins = file.read(8)
        kind = next((name for mark, name in _PACKED.items() if begins.startswith(mark)), None)
        kind = "zlib" if begins.startswith(_ZLIB) and not begins.isascii() else kind
        if kind is not None:
            raise InputError(path, "file", begins, f"text: this is packed by {kind}, and is read once it is unpacked")
        decoded(begins[:2] if begins.startswith((b"\xff", b"\xfe")) else b"", path)
        file.seek(0)
        while block := file.read(_BLOCK):
            first, last = block.find(b"\n"), block.rfind(b"\n")
            begun = length + (len(block) if first < 0 else first)
            length = begun if first < 0 else len(block) - last - 1
            if max(begun, length) > longest:
                at = lines if begun > longest else lines + block.count(b"\n")
                expected = at_most("TTC_SIM_MAX_LINE_MB")
                raise InputError(path, f"line {at}", f"more than {longest / 1e6:,.12g} MB", expected)
            lines += block.count(b"\n")
    return lines


def check_columns(path: Path, columns: int, rows: int = 0, size: int = 0) -> None:
    """Refuse too many columns, and rows that come to far more values with them than the file has bytes.

    Raises:
        InputError: there are.
    """
    if columns > most("TTC_SIM_MAX_COLUMNS"):
        raise InputError(path, "columns", columns, at_most("TTC_SIM_MAX_COLUMNS"))
    check_growth(path, size, _CELL * columns * rows, "TTC_SIM_MAX_TABLE_GB")


def csv_names(path: Path) -> list[str]:
    """Names of the columns of a CSV file, each once.

    Raises:
        InputError: another mark between columns than a comma, one name twice, or not in UTF-8.
    """
    with path.open("rb") as file:
        line = file.readline()
    text = decoded(line, path).strip("\r\n")
    for mark, between in ((";", "semicolons"), ("\t", "tabs")):
        if mark in text and "," not in text:
            expected = f"commas between columns where this file has {between}, and points in decimal numbers"
            expected += "; `ttc-sim import` reads such files"
            raise InputError(path, "file", text, expected)
    try:
        names = next(csv.reader([text]), [])
    except csv.Error:
        expected = "lines that end with a line feed, and a carriage return at most before it"
        raise InputError(path, "line 1", text, expected) from None
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise InputError(path, "line 1", twice, "each column once")
    return names


def check_json_lines(path: Path, size: int, lines: int) -> None:
    """Refuse a file of JSON objects by how deep they are and how many keys they have: either takes Polars hours.

    Raises:
        InputError: too many levels in a line, or keys in all of them.
    """
    deep = set(_seemingly_deep(path, min(most("TTC_SIM_MAX_DEPTH"), MOST_NESTED)))
    columns: set[str] = set()
    with path.open("rb") as file:
        if deep:
            for number, line in enumerate(file, 1):
                if number in deep:
                    parse_json(line, path, f"line {number}", "a JSON object")
            file.seek(0)
        while part := b"".join(islice(file, _LINES)):
            part = part.removeprefix(UTF8_MARK).strip()
            if part:
                columns.update(pl.scan_ndjson(io.BytesIO(part), infer_schema_length=None).collect_schema())
                check_columns(path, len(columns), lines, size)


def _seemingly_deep(path: Path, allowed: float) -> Iterator[int]:
    """Numbers of lines with more brackets open at once than allowed, those in texts counted too."""
    level, begun, number = 0, 0, 1
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            marks = np.frombuffer(block.translate(None, _NO_BRACKETS), dtype=np.uint8)
            if not len(marks):
                continue
            levels = level + np.cumsum(_STEPS[marks])
            ends = marks == _NEW_LINE
            # Each line is counted from where it begins.
            last = np.maximum.accumulate(np.where(ends, np.arange(len(marks)), -1))
            above = levels - np.where(last < 0, begun, levels[last])
            yield from np.unique(number + np.cumsum(ends)[above > allowed]).tolist()
            level, begun = int(levels[-1]), int(levels[last[-1]]) if last[-1] >= 0 else begun
            number += int(ends.sum())


def check_levels(table: pl.DataFrame, path: Path) -> None:
    """Refuse columns of lists in lists, and so on.

    Raises:
        InputError: there are too many levels.
    """
    allowed = min(most("TTC_SIM_MAX_DEPTH"), MOST_NESTED)
    try:
        kinds = list(table.schema.items())
    except RecursionError:
        raise InputError(path, "columns", "very many levels", at_most("TTC_SIM_MAX_DEPTH")) from None
    for name, kind in kinds:
        levels, here = 0, [kind]
        while here := [one for one in here if one.is_nested()]:
            levels += 1
            if levels > allowed:
                raise InputError(path, f"column {name}", f"{levels} levels", at_most("TTC_SIM_MAX_DEPTH"))
            here = [inner for one in here for inner in _inside(one)]


def _inside(kind: Any) -> list[Any]:
    return [field.dtype for field in kind.fields] if isinstance(kind, pl.Struct) else [kind.inner]


def unreadable(path: Path, error: BaseException) -> InputError:
    """What is wrong with a table that Polars could not read."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return _no_parquet(path)
        if suffix == ".csv":
            _look_through_csv(path)
        else:
            _look_through_json(path)
    except InputError as found:
        # The place within the file stands behind it.
        return found if found.field == "file" else InputError(path, f"file, {found.field}", found.value, found.expected)
    except OSError as found:
        return InputError(path, "file", found.strerror or type(found).__name__, "a file that can be read")
    if said := _NOT_PARSED.search(str(error)):
        return InputError(path, f"file, column {said[2]}", said[1], "numbers that 64 bits hold, or text in quotes")
    expected = f"a readable {suffix[1:]} table: one kind of value in each column, and numbers that 64 bits hold"
    return InputError(path, "file", path.name, expected)


def _look_through_csv(path: Path) -> None:
    """Raises InputError for the first line that cannot be."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        with path.open("rb") as file:
            rows = csv.reader(_decoded_lines(file, path), strict=True)
            names = next(rows, [])
            for row in rows:
                if len(row) > len(names):
                    expected = f"{len(names)} fields, as in the first line; text with a comma in it stands in quotes"
                    raise InputError(path, f"line {rows.line_num}", f"{len(row)} fields", expected)
    except csv.Error:
        expected = 'quotes that are closed, and a quote inside of them doubled ("")'
        raise InputError(path, f"line {rows.line_num}", "quotes", expected) from None
    finally:
        csv.field_size_limit(limit)


def _decoded_lines(file: Iterable[bytes], path: Path) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield decoded(line, path)
        except InputError as error:
            raise InputError(path, f"line {number}", error.value, error.expected) from None


def _look_through_json(path: Path) -> None:
    """Raises InputError for the first line that is no JSON object."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(UTF8_MARK) if number == 1 else line
            if text.strip():
                found = parse_json(text, path, f"line {number}", "a JSON object")
                if not isinstance(found, dict):
                    raise InputError(path, f"line {number}", found, "a JSON object")


__all__ = [
    "UTF8_MARK",
    "check_columns",
    "check_json_lines",
    "check_levels",
    "check_parquet",
    "check_text",
    "check_texts",
    "csv_names",
    "unreadable",
]
