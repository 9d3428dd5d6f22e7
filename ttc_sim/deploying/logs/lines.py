"""Files of a log, line by line: what is no line of one is refused, with its file and line."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from ttc_sim.base.arguments import finite
from ttc_sim.base.errors import InputError
from ttc_sim.deploying.decisions import SCHEMA
from ttc_sim.files.opening import readable

KINDS = ("decision", "outcome", "grade")
PREDICTED = ("chance", "tokens", "usd", "seconds")
_FIELDS: dict[str, pl.DataType] = {
    **{f"ttc_sim_{kind}": pl.Int64() for kind in KINDS},
    **dict.fromkeys(("request", "at", "plan", "source", "session", "arm", "policy_arm"), pl.String()),
    "arms": pl.List(pl.String()),
    "propensity": pl.Float64(),
    **dict.fromkeys(("deployment", "strategy", "scores", "fell_back", "status"), pl.String()),
    "predicted": pl.Struct(dict.fromkeys(PREDICTED, pl.Float64())),
    **dict.fromkeys(("max_tokens", "prompt_tokens", "calls"), pl.Int64()),
    **dict.fromkeys(("cached_tokens", "reasoning_tokens", "visible_tokens"), pl.Int64()),
    **dict.fromkeys(("latency_s", "first_token_s", "usd"), pl.Float64()),
    "correct": pl.Boolean(),
}
_LINE = "a line of JSON as a plan's runtime logs it: a decision, an outcome or a grade"
_BOM = b"\xef\xbb\xbf"
_BEGINNING = '{"ttc_sim_'
_LONGEST_ESCAPE = 7  # \\uXXXX, with its quotation mark


@dataclass(frozen=True)
class Lines:
    """All lines of several files.

    Attributes:
        frame: a row for each, with its ``kind`` (index into ``KINDS``), ``file`` (index into ``paths``) and ``row`` (of those of
            its file that are not blank).
        torn: for each file, numbers of lines that were cut off as they were written, from 1; what is left of them is left out.
    """

    frame: pl.DataFrame
    paths: tuple[Path, ...]
    torn: tuple[Mapping[int, bytes], ...]

    def refuse(self, row: dict[str, Any], field: str, value: object, expected: str) -> NoReturn:
        """Name where a row of the frame stands, and what is wrong with it.

        Raises:
            InputError: always.
        """
        path, line = self.place(row)
        raise InputError(path, f"line {line}: {field}", value, expected)

    def place(self, row: dict[str, Any]) -> tuple[Path, int]:
        """File and line of a row."""
        path = self.paths[row["file"]]
        content = _mended(path.read_bytes(), self.torn[row["file"]])
        full = (number for number, line in _numbered(content) if line.strip())
        return path, next(number for row_of, number in enumerate(full) if row_of == row["row"])


def read_lines(paths: Sequence[Path]) -> Lines:
    """Lines of all files.

    Raises:
        InputError: a file that cannot be read, or a line that is none of a log of this schema.
    """
    parts, torn = [], []
    for index, path in enumerate(paths):
        readable(path, "log", "an existing file of log lines")
        content = path.read_bytes()
        cut: Mapping[int, bytes] = {}
        part = _parsed_whole(content)
        if part is None:
            cut = _cut_off(path, content)
            part = _parsed_whole(_mended(content, cut))
        if part is None:
            raise InputError(path, "log", f"{len(content):,} bytes", "lines of JSON, as a plan's runtime logs them")
        torn.append(cut)
        parts.append(part.with_row_index("row").with_columns(pl.lit(index).alias("file")))
    said = [pl.col(f"ttc_sim_{kind}").is_not_null() for kind in KINDS]
    kind = pl.when(said[0]).then(0).when(said[1]).then(1).otherwise(2).alias("kind")
    lines = Lines(pl.concat(parts).with_columns(kind), tuple(paths), tuple(torn))
    _check_kinds(lines, pl.sum_horizontal(said))
    return lines


def _check_kinds(lines: Lines, said: pl.Expr) -> None:
    odd = lines.frame.filter(said != 1).head(1)
    for row in odd.iter_rows(named=True):
        kinds = [f"ttc_sim_{kind}" for kind in KINDS if row[f"ttc_sim_{kind}"] is not None]
        lines.refuse(row, "kind", ", ".join(kinds) or "nothing", f"one of {', '.join(f'ttc_sim_{k}' for k in KINDS)}")
    for kind in KINDS:
        for row in lines.frame.filter(pl.col(f"ttc_sim_{kind}") != SCHEMA).head(1).iter_rows(named=True):
            expected = f"{SCHEMA}: the schema of logs that this version reads"
            lines.refuse(row, f"ttc_sim_{kind}", row[f"ttc_sim_{kind}"], expected)


def _numbered(content: bytes) -> Iterator[tuple[int, bytes]]:
    return enumerate(content.removeprefix(_BOM).split(b"\n"), start=1)


def _parsed_whole(content: bytes) -> pl.DataFrame | None:
    """All lines at once; ``None`` where any is not as it should be."""
    content = content.removeprefix(_BOM)
    if not content.strip():
        return pl.DataFrame(schema=_FIELDS)
    try:
        return pl.read_ndjson(io.BytesIO(content), schema=_FIELDS)
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        return None


def _mended(content: bytes, torn: Mapping[int, bytes]) -> bytes:
    """The lines, of those that were cut off what is whole."""
    if not torn:
        return content
    return b"\n".join(torn.get(number, line) for number, line in _numbered(content))


def _cut_off(path: Path, content: bytes) -> dict[int, bytes]:
    """Lines that were cut off as they were written, and what is whole of each: nothing, or the line that was begun after it.

    Raises:
        InputError: the first line that is something else than a line of a log.
    """
    found = {}
    for number, line in _numbered(content):
        if not line.strip():
            continue
        read = _parsed(line)
        if read is None:
            after = line.rfind(b'{"ttc_sim_')
            rest = line[after:] if after > 0 else b""
            read = _parsed(rest) if rest else None
            if not isinstance(read, dict):
                rest = b""
            if rest or _begins_as_one(line):
                found[number] = rest
                read = read if rest else {}
        if not isinstance(read, dict):
            raise InputError(path, f"line {number}", line.decode("utf-8", "replace").rstrip(), _LINE)
        for name, kind in _FIELDS.items():
            value = read.get(name)
            if value is not None and (expected := _unlike(value, kind)):
                raise InputError(path, f"line {number}: {name}", value, expected)
        scores = read.get("scores")
        if isinstance(scores, dict) and not all(finite(value) for value in scores.values()):
            raise InputError(path, f"line {number}: scores", scores, "a mapping of names to finite numbers")
    return found


def _begins_as_one(line: bytes) -> bool:
    """Whether a line of a log may go on so: it begins as one, and nothing in it is wrong up to its end."""
    text = line.rstrip(b"\r\0").decode("utf-8", "ignore").rstrip()
    if not text.startswith(_BEGINNING[: len(text)]):
        return False
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        rest = text[error.pos :]
        return (
            not rest
            or error.msg.startswith("Unterminated string")
            or (error.msg.startswith("Invalid \\") and len(rest) < _LONGEST_ESCAPE)
            or any(word.startswith(rest) for word in ("true", "false", "null", "-", ".", "e-", "e+"))
        )
    return False


def _parsed(line: bytes) -> object:
    """What a line of JSON holds; ``None`` of what is none."""

    def refused(_: str) -> NoReturn:
        raise ValueError  # NaN and Infinity are no JSON

    def number(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else refused(text)

    try:
        return json.loads(line.decode("utf-8"), parse_constant=refused, parse_float=number)
    except (ValueError, RecursionError):
        return None


def _unlike(value: object, kind: pl.DataType) -> str:
    """What was expected instead; empty where it may be."""
    if isinstance(kind, pl.Boolean):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(kind, pl.Float64):
        return "" if finite(value) else "a finite number"
    if isinstance(kind, pl.Int64):
        good = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
        return "" if good else "a whole number"
    if isinstance(kind, pl.List):
        return "" if isinstance(value, list) else "a list of names"
    if isinstance(kind, pl.Struct):
        good = isinstance(value, dict) and all(value.get(one) is None or finite(value[one]) for one in PREDICTED)
        return "" if good else f"a mapping of {', '.join(PREDICTED)} to finite numbers"
    return ""


__all__ = ["KINDS", "PREDICTED", "Lines", "read_lines"]
