"""Values that nobody expects, and what can become of trees, texts, bytes and tables."""

from __future__ import annotations

import copy
import datetime
import io
import json
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from fuzzing.dice import Dice

# fmt: off
NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 100, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**19, 10**40, -(2**63), -(10**30)),
    *(0.0, -0.0, 0.5, 1.0, 1.5, -0.5, 1e-9, 1e-300, 5e-324, 1e9, 1e15, 1e300, 0.1 + 0.2, 1 - 1e-16),
    *(math.nan, math.inf, -math.inf, True, False),
)
TEXTS: tuple[str, ...] = (
    *("", " ", "0", "1", "-1", "1e3", "nan", "NaN", "inf", "null", "None", "true", "yes", "on", "a", "b", "all", "small", "large"),
    *("thinker [/v2]", "[bold red]x[/]", "[link=file:///etc]x[/link]", "\x1b[31mred\x1b[0m", "\x1b]8;;http://x\x07y", "\x00"),
    *("\ufeffname", "ä", "日本", "\ud7ff", "e\u0301", "\u202eabc", "🙂"),
    *("x" * 300, "x" * 5000, "a\nb", "a\r\nb", "a\tb", "'", '"', "`", "\\", "%s", "{}"),
    *("../..", "/", "/dev/null", "/etc/passwd", ".", "..", "~", "first.yaml", "C:\\x", "file:///x"),
    *("-", "--help", "a,b", "a;b", "#", "!!x"),
    *("2026-11-24", "2026-13-45", "9999-12-31", "0000-00-00", "12:30"),
    *("1_000", "0x1f", "1" * 400, "٣", "½", "Single()", "Always('small')"),
    *("tiny/small", "tiny", "difficulty", "p:tiny/small", "cost", "accuracy", "api", "gpu_pool", "BF16", "H100", "fast", "encoder"),
)
# fmt: on
# A run that is only long is no finding: large numbers under these keys, and no hang of theirs.
COSTLY = {
    "requests",
    "replications",
    "users",
    "replicas",
    "extensions",
    "bands",
    "max_bands",
    "folds",
    "resamples",
    "retries",
}
LARGEST = 50


def scalar(dice: Dice) -> Any:
    """Anything that is not made of parts."""
    kind = dice.whole(0, 9)
    if kind < 4:
        return dice.of(NUMBERS)
    if kind < 8:
        return dice.of(TEXTS)
    return dice.of((None, datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, 12), b"\xff\x00"))


def anything(dice: Dice) -> Any:
    """A scalar, or a list or mapping of some, perhaps a deep one."""
    kind = dice.whole(0, 11)
    if kind < 8:
        return scalar(dice)
    if kind == 8:
        return [scalar(dice) for _ in range(dice.whole(0, 4))]
    if kind == 9:
        return {dice.of(TEXTS): scalar(dice) for _ in range(dice.whole(0, 3))}
    deep: Any = scalar(dice)
    for _ in range(dice.of((1, 3, 30, 300))):
        deep = [deep] if kind == 10 else {dice.of(("a", "kind", "of")): deep}
    return deep


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found


def tree(given: Any, dice: Dice) -> Any:
    """A copy of nested mappings and lists, changed in a few places."""
    changed = copy.deepcopy(given)
    for _ in range(dice.few()):
        places = _places(changed)
        if not places:
            return anything(dice)
        holder, key = dice.of(places)
        _change(holder, key, places, dice)
    return changed


def _change(holder: Any, key: Any, places: list[tuple[Any, Any]], dice: Dice) -> None:
    kind, old = dice.whole(0, 9), holder[key]
    if kind < 4:
        holder[key] = anything(dice)
    elif kind == 4:
        del holder[key]
    elif kind == 5 and isinstance(holder, dict):
        holder[dice.of((*TEXTS, *NUMBERS, None)) if dice.chance(0.5) else dice.of(places)[1]] = holder.pop(key)
    elif kind == 6:
        other, at = dice.of(places)
        holder[key] = copy.deepcopy(other[at])
    elif isinstance(old, (int, float)) and not isinstance(old, bool):
        holder[key] = dice.of(
            (
                old * 1000,
                -old,
                old + 1,
                old - 1,
                old / 3,
                str(old),
                [old],
                old * 1e12,
                round(old) if math.isfinite(old) else 0,
            )
        )
    elif isinstance(old, str):
        holder[key] = dice.of((text(old, dice), old.upper(), old + " ", old * 50, [old], {old: old}))
    elif isinstance(old, list):
        holder[key] = dice.of((old * 3, [], old[:1], old[::-1], [old], dict(enumerate(old))))
    else:
        holder[key] = dice.of(([old], {"a": old}, None, copy.deepcopy(old)))
    if isinstance(holder, dict) and key in COSTLY and isinstance(holder.get(key), (int, float)):
        holder[key] = min(holder[key], LARGEST) if dice.chance(0.9) else holder[key] + 10**13


PIECES = (
    *("&a ", "*a", "<<: ", "- ", ": ", "[", "]", "{", "}", "'", '"', "\n", "\t", "#", "!!python/object:os.x ", "---\n"),
    *(",", "(", ")", "=", "\0"),
)


def text(given: str, dice: Dice) -> str:
    """Characters or lines taken out, doubled, put in or exchanged."""
    for _ in range(dice.few()):
        at = dice.whole(0, len(given))
        to = min(len(given), at + dice.of((1, 1, 2, 8, 40)))
        lines = given.splitlines(keepends=True)
        kind = dice.whole(0, 6)
        if kind == 0:
            given = given[:at] + given[to:]
        elif kind == 1:
            given = given[:to] + given[at:]
        elif kind == 2:
            given = given[:at] + dice.of(PIECES) + given[at:]
        elif kind == 3:
            given = given[:at] + str(scalar(dice)) + given[to:]
        elif kind == 4 and lines:
            lines.insert(dice.whole(0, len(lines)), dice.of(lines))
            given = "".join(lines)
        elif kind == 5 and lines:
            del lines[dice.whole(0, len(lines) - 1)]
            given = "".join(lines)
        else:
            given = given[:at]
    return given


def raw(given: bytes, dice: Dice) -> bytes:
    """Bytes flipped, cut off, put in, or none at all."""
    for _ in range(dice.few()):
        at = dice.whole(0, max(0, len(given) - 1))
        kind = dice.whole(0, 5)
        if kind == 0:
            given = given[:at]
        elif kind == 1:
            given = given[:at] + dice.bytes(dice.of((1, 4, 64))) + given[at:]
        elif kind == 2 and dice.chance(0.2):
            given = dice.of(
                (b"", b"\xff\xfe" + given, b"\xef\xbb\xbf" + given, b"\0" * len(given), given + given, b"PAR1PAR1")
            )
        elif given:
            given = given[:at] + bytes([given[at] ^ (1 << dice.whole(0, 7))]) + given[at + 1 :]
    return given


def table(given: pl.DataFrame, dice: Dice) -> pl.DataFrame:
    """Columns that are gone, others, of other kinds, with values that cannot be; rows that are too few, doubled, in disorder."""
    for _ in range(dice.few()):
        if not given.columns:
            return given
        name = dice.of(given.columns)
        kind = dice.whole(0, 9)
        if kind == 0:
            given = given.drop(name)
        elif kind == 1:
            new = dice.of((*TEXTS, *given.columns))
            given = (
                given.rename({name: new}) if new not in given.columns else given.with_columns(given[name].alias(new))
            )
        elif kind == 2:
            rows = dice.of((0, 1, 2, len(given) // 2))
            given = given.head(rows)
        elif kind == 3:
            given = dice.of(
                (
                    given.reverse(),
                    pl.concat([given, given]),
                    given.sample(fraction=1.0, shuffle=True, seed=dice.whole(0, 99)),
                )
            )
        elif kind < 7:
            given = given.with_columns(_with_values(given[name], dice))
        else:
            given = given.with_columns(_of_kind(given[name], dice))
    return given


def _with_values(column: pl.Series, dice: Dice) -> pl.Series:
    values = column.to_list()
    new = scalar(dice)
    everywhere = dice.chance(0.2)
    for row in range(len(values)):
        if everywhere or dice.chance(0.1):
            values[row] = new
    try:
        return pl.Series(column.name, values)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series(column.name, [str(value) for value in values])


def _of_kind(column: pl.Series, dice: Dice) -> pl.Series:
    rows = len(column)
    made: tuple[Callable[[], pl.Series], ...] = (
        lambda: column.cast(pl.String, strict=False),
        lambda: column.cast(pl.Float32, strict=False),
        lambda: column.cast(pl.Int8, strict=False),
        lambda: column.cast(pl.Boolean, strict=False),
        lambda: column.cast(pl.String, strict=False).cast(pl.Categorical),
        lambda: column.implode().new_from_index(0, rows) if rows else column,
        lambda: pl.DataFrame({"x": column, "y": column}).to_struct(column.name),
        lambda: pl.Series([b"\xff\x00"] * rows, dtype=pl.Binary),
        lambda: pl.Series([None] * rows),
        lambda: pl.Series([datetime.datetime(2026, 1, 1)] * rows, dtype=pl.Datetime),
        lambda: pl.Series([datetime.timedelta(1)] * rows, dtype=pl.Duration),
        lambda: column.cast(pl.Decimal(38, 2), strict=False),
    )
    try:
        return dice.of(made)().alias(column.name)
    except pl.exceptions.PolarsError:
        return column


def mutate_file(path: Path, dice: Dice) -> None:
    """Change a file: what it says, or now and then its bytes."""
    if dice.chance(0.15):
        path.write_bytes(raw(path.read_bytes(), dice))
    elif path.suffix in (".yaml", ".json") and dice.chance(0.75):
        changed = tree(_content(path.read_text(encoding="utf-8")), dice)
        path.write_text(
            json.dumps(changed, default=str) if path.suffix == ".json" else _as_yaml(changed), encoding="utf-8"
        )
    elif path.suffix == ".jsonl" and dice.chance(0.5):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        changed = tree(rows, dice)
        lines = changed if isinstance(changed, list) else [changed]
        path.write_text("".join(json.dumps(line, default=str) + "\n" for line in lines), encoding="utf-8")
    elif path.suffix in (".parquet", ".csv", ".jsonl") and (path.suffix == ".parquet" or dice.chance(0.6)):
        path.write_bytes(written(table(readable(path), dice), path.suffix))
    elif path.suffix == ".onnx":
        path.write_bytes(raw(path.read_bytes(), dice))
    else:
        path.write_text(text(path.read_text(encoding="utf-8"), dice), encoding="utf-8", errors="surrogateescape")


_NOT_IN_CSV = (pl.Binary, pl.Duration)


@lru_cache(maxsize=64)
def _content(said: str) -> Any:
    return yaml.safe_load(said)


def _as_yaml(content: Any) -> str:
    try:
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    except (yaml.YAMLError, RecursionError):
        return repr(content)


def readable(path: Path) -> pl.DataFrame:
    """A table of the corpus."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path, glob=False)
    return pl.read_csv(path, glob=False) if path.suffix == ".csv" else pl.read_ndjson(path)


def written(content: pl.DataFrame, suffix: str) -> bytes:
    """The table in that format; columns that CSV has no form for as text."""
    buffer = io.BytesIO()
    if suffix == ".parquet":
        content.write_parquet(buffer)
    elif suffix == ".csv":
        plain = [
            pl.Series(one.name, [str(value) for value in one])
            if one.dtype.is_nested() or one.dtype in _NOT_IN_CSV
            else one
            for one in content
        ]
        pl.DataFrame(plain).write_csv(buffer)
    else:
        rows = "".join(json.dumps(row, default=str) + "\n" for row in content.rows(named=True))
        buffer.write(rows.encode("utf-8", "surrogatepass"))
    return buffer.getvalue()
