"""Score tables of any length: read a part, score it, write it, forget it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import at_most, most
from ttc_sim.base.progress import Step
from ttc_sim.files.documents import parse_json
from ttc_sim.files.opening import readable
from ttc_sim.files.table_files import (
    UTF8_MARK,
    check_columns,
    check_levels,
    check_parquet,
    check_text,
    check_texts,
    csv_names,
    unreadable,
)
from ttc_sim.files.tables import find_column
from ttc_sim.files.writing import written_whole
from ttc_sim.measured.columns import texts
from ttc_sim.measured.problem_tables import PROMPT
from ttc_sim.measured.provenance import ScoredBy
from ttc_sim.predictor.running.session import Predictor

ROWS = 512
BYTES = 4_000_000
SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Batch:
    """Some prompts, and the columns beside them that can be written to any format."""

    prompts: list[str]
    beside: pl.DataFrame


def read_batches(source: str, column: str | None, stdin_format: str = "text") -> Iterator[Batch]:
    """Prompts in the order of the file; ``-`` is standard input.

    Raises:
        InputError: no such file or column, prompts that are not text, nothing to read, or a table that cannot be read.
    """
    if stdin_format not in ("text", "jsonl"):
        raise InputError("--stdin-format", "format", stdin_format, "text or jsonl")
    where = "standard input" if source == "-" else source
    if source != "-":
        tables = _scanned(Path(source))
    elif stdin_format == "jsonl":
        tables = _json_lines(_lines_of(sys.stdin.buffer, where), where)
    else:
        return _some(_plain_lines(), where, "prompts, one a line")
    return _some(_with_prompts(tables, where, column), where, "at least one row")


def _some(batches: Iterator[Batch], where: str, expected: str) -> Iterator[Batch]:
    # The first batch is read at once, so that a bad file is an error before any work.
    first = next(batches, None)
    if first is None:
        raise InputError(where, "prompts", "nothing", expected)
    return chain([first], batches)


def _parts(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Lines in parts of at most ``ROWS``, and of about ``BYTES``."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        part.append(line)
        size += len(line)
        if len(part) == ROWS or size >= BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _plain_lines() -> Iterator[Batch]:
    done = 0
    for part in _parts(_lines_of(sys.stdin.buffer, "standard input")):
        prompts = [line.rstrip(b"\r\n").decode("utf-8", "replace") for line in part]
        yield Batch(prompts, pl.DataFrame({"line": range(done + 1, done + len(part) + 1)}))
        done += len(part)


def _json_lines(lines: Iterable[bytes], where: str) -> Iterator[pl.DataFrame]:
    done = 0
    columns: dict[str, None] = {}
    for part in _parts(lines):
        rows: list[dict[str, Any]] = []
        for at, line in enumerate(part, done + 1):
            if not line.strip():
                continue
            row = parse_json(line, where, f"line {at}", "a JSON object")
            if not isinstance(row, dict):
                raise InputError(where, f"line {at}", line[:60].decode("utf-8", "replace"), "a JSON object")
            rows.append(row)
        first, done = done + 1, done + len(part)
        if not rows:
            continue
        columns = columns or dict.fromkeys(name for row in rows for name in row)
        check_columns(Path(where), len(columns))
        try:
            table = pl.DataFrame([{**dict.fromkeys(columns), **row} for row in rows], infer_schema_length=None)
            check_levels(table, Path(where))
        except InputError:
            raise
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError, RecursionError):
            raise InputError(where, f"lines from {first}", _kinds(rows), "one type in each column") from None
        yield table


def _kinds(rows: Sequence[dict[str, Any]]) -> str:
    """The first column whose values are of several kinds."""
    for name in dict.fromkeys(name for row in rows for name in row):
        kinds = {type(row[name]).__name__ for row in rows if row.get(name) is not None}
        if len(kinds) > 1:
            return f"column {name} of {' and '.join(sorted(kinds))}"
    return "values that fit into no table"


def _lines_of(file: BinaryIO, where: str) -> Iterator[bytes]:
    """Lines; none is read to its end that has none."""
    longest = int(min(most("TTC_SIM_MAX_LINE_MB") * 1e6, sys.maxsize - 2))
    number = 0
    while line := file.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise InputError(where, f"line {number}", line[:60], at_most("TTC_SIM_MAX_LINE_MB"))
        yield line.removeprefix(UTF8_MARK) if number == 1 else line


def _json_file(path: Path) -> Iterator[pl.DataFrame]:
    try:
        with path.open("rb") as file:
            yield from _json_lines(_lines_of(file, str(path)), str(path))
    except OSError as error:
        raise InputError(path, "file", error.strerror or str(error), "a file that can be read") from None


def _csv_rows(path: Path) -> Iterator[pl.DataFrame]:
    """Parts of a CSV file, of the types that its first rows have; Polars would read far ahead."""
    check_columns(path, len(csv_names(path)))
    schema = pl.scan_csv(path, glob=False).collect_schema()
    csv.field_size_limit(2**31 - 1)
    done = 0
    part: list[list[str | None]] = []
    size = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        if next(rows, None) is None:
            return
        for row in rows:
            if not row:
                continue
            if len(row) != len(schema):
                expected = f"{len(schema)} fields in every row"
                raise InputError(path, f"line {rows.line_num}", f"{len(row)} fields", expected)
            part.append([value or None for value in row])
            size += sum(map(len, row))
            if len(part) == ROWS or size >= BYTES:
                yield _typed(part, schema, path, done)
                done += len(part)
                part, size = [], 0
    if part:
        yield _typed(part, schema, path, done)


_TRUTH = {"true": True, "false": False}


def _typed(rows: list[list[str | None]], schema: pl.Schema, path: Path, done: int) -> pl.DataFrame:
    """Rows of a CSV file, those from ``done`` on, in the types that its first rows have."""
    table = pl.DataFrame(rows, schema=dict.fromkeys(schema, pl.String), orient="row")
    typed = table.with_columns(
        pl.col(name).str.to_lowercase().replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)
        if kind == pl.Boolean
        else pl.col(name).cast(kind, strict=False)
        for name, kind in schema.items()
        if kind != pl.String
    )
    for name, kind in schema.items():
        lost = (typed[name].is_null() & table[name].is_not_null()).arg_true()
        if len(lost):
            what = "true or false" if kind == pl.Boolean else "whole numbers" if kind.is_integer() else "numbers"
            row = f"column {name}, row {done + lost[0] + 1}"
            raise InputError(path, row, table[name][lost[0]], f"{what}, as in the first rows")
    return typed


def _scanned(path: Path) -> Iterator[pl.DataFrame]:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(path, "file", path.suffix, "a name ending in " + ", ".join(SUFFIXES))
    size = readable(path)
    if not size:
        return
    if path.suffix.lower() == ".parquet":
        check_parquet(path, size, in_parts=True)
    else:
        check_text(path, size, in_parts=True)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_file(path)
        return
    try:
        if path.suffix.lower() == ".csv":
            yield from _csv_rows(path)
        else:
            for table in pl.scan_parquet(path, glob=False).collect_batches(chunk_size=ROWS, maintain_order=True):
                check_texts(table, path, size)
                yield table
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error) from None


def _with_prompts(tables: Iterator[pl.DataFrame], where: str, column: str | None) -> Iterator[Batch]:
    done = 0
    for whole in tables:
        for at in range(0, len(whole), ROWS):
            table = whole[at : at + ROWS]
            name = str(find_column(table, where, "prompts", PROMPT, column))
            prompts = texts(table, where, name)
            flat = [item for item, kind in table.schema.items() if item != name and not kind.is_nested()]
            beside = table.select(flat) if flat else pl.DataFrame({"row": range(done + 1, done + len(table) + 1)})
            yield Batch(prompts.to_list(), beside)
            done += len(table)


def scored(predictor: Predictor, batch: Batch) -> pl.DataFrame:
    """The columns beside the prompts, and the scores; a column of a score's name is replaced."""
    scores = predictor.score(batch.prompts).table()
    taken = [name for name in batch.beside.columns if name in scores.columns]
    return pl.concat([batch.beside.drop(taken), scores], how="horizontal")


def write_batches(
    tables: Iterator[pl.DataFrame],
    out: Path | None,
    say: Callable[[str], None] | None,
    scored_by: ScoredBy | None = None,
) -> int:
    """Write tables as they come: CSV to standard output, or a file that is there whole or not at all. Returns the rows.

    Args:
        scored_by: the predictor, which a Parquet file names in its metadata.

    Raises:
        InputError: a name with another ending, a place that cannot be written to, or parts whose columns differ.
    """
    if out is None:
        return _count(tables, lambda table, first: _print(_csv(table, first)), say)
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(out, "file", suffix, "a name ending in " + ", ".join(SUFFIXES))
    with written_whole(out) as beside:
        if suffix == ".parquet":
            return _write_parquet(tables, beside, say, {} if scored_by is None else scored_by.as_metadata())
        return _write_text(tables, beside, suffix, say)


def _count(
    tables: Iterator[pl.DataFrame], write: Callable[[pl.DataFrame, bool], object], say: Callable[[str], None] | None
) -> int:
    count = 0
    columns: list[str] | None = None
    for table in tables:
        if columns is not None and table.columns != columns:
            raise InputError("prompts", "columns", ", ".join(table.columns)[:80], "the same columns in every row")
        write(table, columns is None)
        columns = table.columns
        count += len(table)
        if say is not None:
            say(Step("scoring", detail=f"{count:,} prompts so far"))
    return count


def _print(text: str) -> None:
    """To a terminal in its own encoding; to a program or a file in UTF-8, as every table, whatever the terminal's."""
    binary = None if sys.stdout.isatty() else getattr(sys.stdout, "buffer", None)
    if binary is None:
        sys.stdout.write(text)
    else:
        binary.write(text.encode())


def _csv(table: pl.DataFrame, first: bool) -> str:
    return table.write_csv(include_header=first, float_precision=4)


def _write_text(tables: Iterator[pl.DataFrame], path: Path, suffix: str, say: Callable[[str], None] | None) -> int:
    with path.open("w", encoding="utf-8") as file:
        if suffix == ".csv":
            return _count(tables, lambda table, first: file.write(_csv(table, first)), say)
        return _count(tables, lambda table, _: file.write(table.write_ndjson()), say)


def _write_parquet(
    tables: Iterator[pl.DataFrame], path: Path, say: Callable[[str], None] | None, metadata: dict[str, str]
) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    writer: Any = None

    def write(table: pl.DataFrame, first: bool) -> None:
        nonlocal writer
        rows = table.to_arrow()
        if first:
            writer = parquet.ParquetWriter(path, rows.schema.with_metadata(metadata), compression="zstd")
        try:
            writer.write_table(rows.cast(writer.schema))
        except (pa.ArrowException, ValueError):
            before = zip(writer.schema, rows.schema, strict=False)
            other = next((f"{was.name} of {now.type}" for was, now in before if was.type != now.type), "other columns")
            raise InputError("prompts", "columns", other, "the same types in every row") from None

    try:
        return _count(tables, write, say)
    finally:
        if writer is not None:
            writer.close()
