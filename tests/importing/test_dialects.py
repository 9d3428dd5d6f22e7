"""One and the same traffic, however it is written down, comes out the same."""

from __future__ import annotations

import bz2
import datetime
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.importing.helping import imported, lines, table, traffic
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing import import_logs

START = datetime.datetime(2026, 11, 24, 9, 59, 58, tzinfo=datetime.UTC)
Row = tuple[int, int, int, int]  # milliseconds after the start, tokens of prompt, of reasoning, and of all output

ROWS = st.lists(
    st.tuples(st.integers(0, 90_000_000), st.integers(1, 200_000), st.integers(0, 3000), st.integers(1, 2000)),
    min_size=2,
    max_size=30,
    unique=True,
)


def when(ms: int) -> datetime.datetime:
    return START + datetime.timedelta(milliseconds=ms)


def zoned(ms: int) -> str:
    """The same moment on a clock elsewhere."""
    return (
        when(ms)
        .astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
        .isoformat(timespec="milliseconds")
    )


TIMES: dict[str, Callable[[int], Any]] = {
    "timestamp": lambda ms: when(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    "created_at": lambda ms: when(ms).strftime("%Y-%m-%d %H:%M:%S.%f"),
    "date": lambda ms: when(ms).strftime("%d/%m/%Y %H:%M:%S.%f"),
    "start_time": lambda ms: when(ms).strftime("%m/%d/%Y %I:%M:%S.%f %p"),
    "time": zoned,
    "arrival_ms": lambda ms: ms,
    "ts": lambda ms: int(when(ms).timestamp() * 1000 + 0.5),
    "requested_at": lambda ms: int(when(ms).timestamp() * 1000 + 0.5) * 1000,
    "arrival_s": lambda ms: ms / 1000,
}
NAMES = (
    ("prompt_tokens", "reasoning_tokens", "completion_tokens"),
    ("Input Tokens", "thinkingTokens", "output_tokens"),
)
WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "csv": lambda rows: table(rows).encode(),
    "excel.csv": lambda rows: ("sep=;\n" + table(rows, ";")).encode("utf-16"),
    "bom.csv": lambda rows: ("\ufeff" + table(rows)).encode(),
    "windows.txt": lambda rows: table([{**row, "Straße": "Köln"} for row in rows]).encode("cp1252"),
    "crlf.tsv": lambda rows: table(rows, "\t").replace("\n", "\r\n").encode(),
    "jsonl": lambda rows: lines(rows).encode(),
    "utf16.jsonl": lambda rows: lines(rows).encode("utf-16-le"),
    "json": lambda rows: json.dumps(rows, indent=1).encode(),
    "wrapped.json": lambda rows: json.dumps({"exported": "today", "data": rows}).encode(),
    "jsonl.gz": lambda rows: gzip.compress(lines(rows).encode()),
    "csv.bz2": lambda rows: bz2.compress(table(rows).encode()),
    "csv.xz": lambda rows: lzma.compress(table(rows).encode()),
    "csv.zst": lambda rows: pa.compress(table(rows).encode(), "zstd", asbytes=True),
    "parquet": lambda rows: _parquet(rows),
}


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import io

    made = io.BytesIO()
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(made)
    return made.getvalue()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=ROWS,
    column=st.sampled_from(sorted(TIMES)),
    names=st.sampled_from(NAMES),
    writer=st.sampled_from(sorted(WRITERS)),
    grouped=st.booleans(),
)
def test_the_same_traffic_comes_out_of_every_dialect(
    tmp_path: Path, rows: list[Row], column: str, names: tuple[str, ...], writer: str, grouped: bool
) -> None:
    if column in ("date", "start_time"):  # day and month are told apart by one that is above 12 alone
        rows = [*rows, (0, 1, 0, 200_001)]
    made = []
    for ms, prompt, reasoning, visible in rows:
        counts: list[Any] = [prompt, reasoning, reasoning + visible]
        if grouped and writer not in ("parquet", "excel.csv"):
            counts = [f"{count:,}" for count in counts]
        made.append(
            {column: TIMES[column](ms), **dict(zip(names, counts, strict=True)), "nobody asked": "FALSE", "user": 7}
        )
    _, out = imported(tmp_path, WRITERS[writer](made), f"log.{writer}", time_unit=None)
    found = traffic(out)
    first = min(row[0] for row in rows)
    expected = sorted(((ms - first) / 1000, prompt, reasoning, visible) for ms, prompt, reasoning, visible in rows)
    assert sorted(found.select("prompt_tokens", "reasoning_tokens", "visible_tokens").rows()) == sorted(
        row[1:] for row in expected
    )
    assert found["arrival_s"].to_list() == pytest.approx([row[0] for row in expected], abs=2e-6)


def test_a_comma_before_decimals_and_points_between_thousands(tmp_path: Path) -> None:
    log = "arrival_s;prompt_tokens;output_tokens\n0,5;1.200;80\n1,75;900;1.024\n3,0;10.000;7\n"
    _, out = imported(tmp_path, log, "log.csv")
    assert traffic(out).select("arrival_s", "prompt_tokens", "visible_tokens").rows() == [
        (0.0, 1200, 80),
        (1.25, 900, 1024),
        (2.5, 10000, 7),
    ]


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (b"", "an empty file"),
        (b"\n \n", "nothing but blanks"),
        (b"\xef\xbb\xbf", "nothing but blanks"),
        (b"PK\x03\x04 and so on", "zip"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "text or Parquet"),
        (gzip.compress(b'{"a": 1}\n' * 900, mtime=0)[:40], "damaged gzip"),
        (gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "packed once at most"),
        (b"1,2,3\n4,5,6\n", "names of the columns"),
        (b"timestamp,prompt_tokens,prompt_tokens\n1,2,3\n", "prompt_tokens'; expected each column once"),
        (b"colour,size\nred,3\n", "columns of the usual names"),
        (b"[1, 2, 3]", "known format"),
        (b'{"a": ', "damaged or cut off"),
        (b'"text"', "names of the columns|known format|usual names"),
    ],
)
def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path, log: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        imported(tmp_path, log, "log")
    assert len(str(caught.value).splitlines()) == 1
    assert not any(path.is_dir() for path in tmp_path.iterdir())


@pytest.mark.parametrize("writer", ["csv", "jsonl"])
def test_a_log_cut_in_the_middle_of_a_line_loses_that_line(tmp_path: Path, writer: str) -> None:
    rows = [{"timestamp": float(k), "prompt_tokens": 10, "output_tokens": 5} for k in range(40)]
    whole = WRITERS[writer](rows)
    audit, out = imported(tmp_path, whole[:-4], f"log.{writer}")
    assert (audit.read, len(traffic(out))) == (40, 39)
    ((why, left),) = audit.left_out.items()
    assert left.rows == 1
    assert "cut off" in why or "fields where the first line has 3" in why


def test_a_document_that_is_cut_off_gives_what_stands_before(tmp_path: Path) -> None:
    rows = [{"timestamp": float(k), "prompt_tokens": 10, "output_tokens": 5} for k in range(40)]
    audit, out = imported(tmp_path, json.dumps(rows)[:-30], "log.json")
    assert len(traffic(out)) == 39
    assert "cut off" in next(iter(audit.left_out))


def test_the_line_of_names_in_the_middle_is_no_row(tmp_path: Path) -> None:
    log = table([{"timestamp": float(k), "prompt_tokens": 10, "output_tokens": 5} for k in range(2)])
    audit, out = imported(tmp_path, log + log, "log.csv")
    assert (audit.read, len(traffic(out))) == (5, 4)
    assert audit.left_out["the names of the columns once more"].rows == 1


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "x/" * 3000, "missing"])
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, name: str) -> None:
    log = tmp_path / "log.csv"
    log.write_text("timestamp,prompt_tokens,output_tokens\n1,2,3\n")
    with pytest.raises(InputError):
        import_logs([name], tmp_path / "out")
    if name != "missing":
        with pytest.raises(InputError):
            import_logs([log], tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
