"""Records of a log, one after the other, whatever its size: of lines of JSON, of a JSON document, of CSV or of Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import at_most, most
from ttc_sim.files.table_files import check_parquet
from ttc_sim.measured.importing.call import find
from ttc_sim.measured.importing.opening import UNPACKING, LogFile, cut_off, open_bytes

SAMPLED = 50
_DECIMAL_COMMA = re.compile(r"[+-]?(?:0,\d+|\d{4,},\d+|\d+,(?:\d{1,2}|\d{4,})|\d{1,3}(?:\.\d{3})+,\d+)")
_WHOLE = 64_000_000  # bytes of a JSON document that is read at once; a larger one is read item by item
_LOOKED_INTO = 2 * _WHOLE  # bytes of a document that are searched for its first record
_BATCH = 20_000


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


def read_records(
    file: LogFile,
    arrays: tuple[str, ...],
    at: Callable[[int], None],
    head: dict[str, Any],
    *,
    within: float = math.inf,
) -> Read:
    """The records of a log.

    Args:
        arrays: keys of a document that is one object under which its records may stand.
        at: told now and then how many bytes of the file have been read.
        head: filled with what such a document holds beside its records.
        within: bytes of a JSON document within which its first record must stand.

    Raises:
        InputError: the file cannot be read as what it begins like.
    """
    if file.kind == "parquet":
        yield from _parquet(file, at)
        return
    try:
        with open_bytes(file) as (stream, raw):
            if file.kind == "table":
                yield from _table(file, stream, lambda: at(raw.tell()))
            else:
                yield from _json(file, stream, arrays, lambda: at(raw.tell()), head, within)
    except UNPACKING as error:
        raise cut_off(file.path, file.packed, error) from None


def sample_of(file: LogFile, arrays: tuple[str, ...] = ()) -> Sample:
    """The beginning of a log, for recognising its format.

    Raises:
        InputError: none of its first records can be read.
    """
    head: dict[str, Any] = {}
    records = read_records(file, arrays, lambda _: None, head, within=_LOOKED_INTO)
    found = [record for _, record in islice(records, SAMPLED)]
    good = tuple(record for record in found if not isinstance(record, Left))
    if found and not good:
        first = next(record for record in found if isinstance(record, Left))
        raise InputError(file.path, "file", first.said or file.path.name, f"a log; here: {first.why}")
    if file.kind in ("table", "parquet"):
        return Sample(file.path.name, "table", good, tuple(good[0]) if good else (), path=file.path)
    return Sample(file.path.name, "json", good, head=head, path=file.path)


def inside(sample: Sample, arrays: tuple[str, ...]) -> Sample:
    """The sample of a document's records, from that of the document as one record; the same sample if it is none."""
    if sample.kind == "json" and len(sample.records) == 1 and isinstance(sample.records[0], dict):
        head: dict[str, Any] = {}
        records = tuple(record for _, record in islice(_document(sample.records[0], arrays, head), SAMPLED))
        return Sample(sample.name, "json", records, head=head, path=sample.path)
    return sample


def _json(
    file: LogFile,
    stream: IO[bytes],
    arrays: tuple[str, ...],
    tick: Callable[[], None],
    head: dict[str, Any],
    within: float,
) -> Read:
    longest = int(most("TTC_SIM_MAX_LINE_MB") * 1e6)
    first = b""
    number = 0
    while not first.strip():
        first = stream.readline(_WHOLE + 1)
        number += 1
        if not first:
            return
    begun = first.lstrip()
    if begun.startswith(b"{"):
        record = _parsed(first) if len(first) <= longest else Left("", "")
        if not isinstance(record, Left):
            second = _next_line(stream, longest)
            if second is None:  # one line, one object: a document
                yield from _document(record, arrays, head)
                return
            yield number, record
            yield from _lines(stream, longest, tick, number + 1, second)
            return
        if first.rstrip().endswith((b"}", b'"')) and len(first) <= longest and begun.rstrip() != b"{":
            # No whole object: a line that is damaged, of a log of lines, if the next one is an object.
            second = _next_line(stream, longest)
            if second is not None and not isinstance(_parsed(second), Left):
                yield number, record
                yield from _lines(stream, longest, tick, number + 1, second)
                return
            first += second or b""
    yield from _whole(file, first, stream, arrays, tick, head, within)


def _next_line(stream: IO[bytes], longest: int) -> bytes | None:
    """The next line that is not empty, or ``None`` at the end."""
    while line := stream.readline(longest + 1):
        if line.strip():
            return line
    return None


def _lines(stream: IO[bytes], longest: int, tick: Callable[[], None], number: int, line: bytes) -> Read:
    while line:
        if len(line) > longest and not line.endswith(b"\n"):
            while (more := stream.readline(longest)) and not more.endswith(b"\n"):
                pass
            yield number, Left(f"a line of more than {longest / 1e6:g} MB")
        elif line.strip():
            record = _parsed(line)
            if isinstance(record, Left) and not line.endswith(b"\n"):
                record = Left("the last line is cut off", record.said)
            yield number, record
        if number % 512 == 0:
            tick()
        line = stream.readline(longest + 1)
        number += 1


def _parsed(line: bytes) -> Any:
    """An object of JSON; what is no UTF-8 in it becomes question marks."""
    try:
        try:
            record = json.loads(line)
        except UnicodeDecodeError:
            record = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return Left("no JSON object", line[:60].decode("utf-8", "replace"))
    return record if isinstance(record, (dict, list)) else Left("no JSON object", str(record)[:60])


def _document(document: Any, arrays: tuple[str, ...], head: dict[str, Any]) -> Read:
    """Records of a document that is there as a whole."""
    if isinstance(document, list):
        yield from enumerate(document, 1)
        return
    found = ((name.partition(".")[0], find(document, *name.split("."))) for name in arrays)
    key, records = next(((key, value) for key, value in found if isinstance(value, list)), (None, None))
    if records is None:
        yield 1, document
        return
    head.update({name: value for name, value in document.items() if name != key})
    yield from enumerate(records, 1)


def _whole(
    file: LogFile,
    begun: bytes,
    stream: IO[bytes],
    arrays: tuple[str, ...],
    tick: Callable[[], None],
    head: dict[str, Any],
    within: float,
) -> Read:
    block = stream.read(_WHOLE + 1)
    if len(block) <= _WHOLE:
        try:
            document = json.loads((begun + block).decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, (dict, list)):
            tick()
            yield from _document(document, arrays, head)
            return
    # Large, damaged or cut off: item by item, as far as it can be read.
    yield from _items(file, _Again(begun + block, stream), arrays, tick, head, within)


class _Again(io.RawIOBase):
    """What has been read of a stream already, and the rest of it."""

    def __init__(self, begun: bytes, stream: IO[bytes]) -> None:
        self._begun, self._stream, self.passed = io.BytesIO(begun), stream, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._begun.read(len(buffer)) or self._stream.read(len(buffer))
        buffer[: len(block)] = block
        self.passed += len(block)
        return len(block)


def _items(
    file: LogFile,
    stream: _Again,
    arrays: tuple[str, ...],
    tick: Callable[[], None],
    head: dict[str, Any],
    within: float,
) -> Read:
    import ijson
    from ijson.common import ObjectBuilder

    number, builder, wanted, key = 0, None, None, None
    expected = f"a JSON array of records, or an object with {' or '.join(arrays) or 'one'}"
    within = within if arrays else min(within, 1 << 20)  # of an object that is a record itself
    try:
        for prefix, event, value in ijson.parse(io.BufferedReader(stream, 1 << 16), use_float=True):
            if wanted is None and stream.passed > within:
                raise InputError(file.path, "file", file.path.name, expected)
            if builder is None and prefix == "" and event == "start_array":
                wanted = "item"
            elif prefix == "" and event == "map_key":
                key = value
            elif wanted is None and event == "start_array" and prefix in arrays:
                wanted = f"{prefix}.item"
            elif builder is None and wanted and prefix == wanted and event in ("start_map", "start_array"):
                builder = ObjectBuilder()
            elif builder is None and prefix == key and event in ("string", "number", "boolean") and key is not None:
                head[key] = value
            if builder is not None:
                builder.event(event, value)
                if prefix == wanted and event in ("end_map", "end_array"):
                    number += 1
                    yield number, builder.value
                    builder = None
                    if number % 64 == 0:
                        tick()
    except ijson.JSONError:
        if not number:
            expected = (
                "a JSON document, or one JSON object in each line: this is damaged or cut off before its first record"
            )
            raise InputError(file.path, "file", file.path.name, expected) from None
        yield number + 1, Left("the document is damaged or cut off from here on")
    if not number and wanted is None:
        raise InputError(file.path, "file", file.path.name, expected)


def _table(file: LogFile, stream: IO[bytes], tick: Callable[[], None]) -> Read:
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


def _parquet(file: LogFile, at: Callable[[int], None]) -> Read:
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
