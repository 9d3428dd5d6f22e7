"""Files of a log, line by line: what is no line of one is refused, with its file and line."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class Lines:
    """All lines of several files.

    Attributes:
        frame: a row for each, with its ``kind`` (index into ``KINDS``), ``file`` (index into ``paths``) and ``row`` (of those of
            its file that are not blank).
        torn: files whose last line was cut off as it was written; it is left out.
    """

    frame: pl.DataFrame
    paths: tuple[Path, ...]
    torn: int

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
        full = (number for number, line in _numbered(path.read_bytes()) if line.strip())
        return path, next(number for row_of, number in enumerate(full) if row_of == row["row"])


def read_lines(paths: Sequence[Path]) -> Lines:
    """Lines of all files.

    Raises:
        InputError: a file that cannot be read, or a line that is none of a log of this schema.
    """
    parts, torn = [], 0
    for index, path in enumerate(paths):
        readable(path, "log", "an existing file of log lines")
        content = path.read_bytes()
        whole = _without_torn(content.removeprefix(_BOM))
        torn += len(whole) < len(content.removeprefix(_BOM))
        try:
            part = pl.read_ndjson(io.BytesIO(whole), schema=_FIELDS) if whole.strip() else pl.DataFrame(schema=_FIELDS)
        except (pl.exceptions.PolarsError, UnicodeDecodeError):
            _name_what_is_wrong(path, whole)
        parts.append(part.with_row_index("row").with_columns(pl.lit(index).alias("file")))
    said = [pl.col(f"ttc_sim_{kind}").is_not_null() for kind in KINDS]
    kind = pl.when(said[0]).then(0).when(said[1]).then(1).otherwise(2).alias("kind")
    lines = Lines(pl.concat(parts).with_columns(kind), tuple(paths), torn)
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


def _without_torn(content: bytes) -> bytes:
    """Without a last line that nothing ended, unless it is whole all the same."""
    end = content.rfind(b"\n") + 1
    if not content[end:].strip():
        return content
    return content if isinstance(_parsed(content[end:]), dict) else content[:end]


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


def _name_what_is_wrong(path: Path, content: bytes) -> NoReturn:
    """Go through the lines one by one for the first that cannot be read."""
    for number, line in _numbered(content):
        if not line.strip():
            continue
        found = _parsed(line)
        if not isinstance(found, dict):
            raise InputError(path, f"line {number}", line.decode("utf-8", "replace").rstrip(), _LINE)
        for name, kind in _FIELDS.items():
            value = found.get(name)
            if value is not None and (expected := _unlike(value, kind)):
                raise InputError(path, f"line {number}: {name}", value, expected)
        scores = found.get("scores")
        if isinstance(scores, dict) and not all(finite(value) for value in scores.values()):
            raise InputError(path, f"line {number}: scores", scores, "a mapping of names to finite numbers")
    raise InputError(path, "log", f"{len(content):,} bytes", "lines of JSON, each " + _LINE.removeprefix("a line of "))


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
