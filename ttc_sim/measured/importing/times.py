"""When calls came: the unit, form and zone of a log's times, decided from all of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.audit import Understood

Unit = Literal["s", "ms", "us", "ns"]
Order = Literal["day-first", "month-first"]
UNITS: tuple[Unit, ...] = ("s", "ms", "us", "ns")
SECONDS: dict[str, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_EPOCH = 1e8  # seconds: since 1970, where it is more (1973 and later)
_LATEST = 1e11  # seconds: the year 5138

_CLOCK = (
    r"(?:[T ,]+(?P<h>\d{1,2}):(?P<mi>\d{2})(?::(?P<s>\d{2})(?:[.,](?P<f>\d+))?)?\s*(?P<half>[AaPp])?\.?(?:[Mm]\.?)?)?"
)
_ZONE = r"\s*(?P<zone>[Zz]|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2})?(?:\s*UTC)?\s*$"
_YEAR_FIRST = r"^\s*(?P<y>\d{4})[-/.](?P<mo>\d{1,2})[-/.](?P<d>\d{1,2})" + _CLOCK + _ZONE
_YEAR_LAST = r"^\s*(?P<a>\d{1,2})(?P<mark>[-/.])(?P<b>\d{1,2})[-/.](?P<y>\d{4})" + _CLOCK + _ZONE
FORMS = "seconds, 2026-11-24T10:00:00.5Z, 2026-11-24 10:00:00, 24.11.2026 10:00 or 11/24/2026 10:00 AM"


@dataclass(frozen=True)
class Times:
    """How times are read: ``unit`` of numbers, ``order`` of dates with the year last, and what was written as text."""

    unit: Unit = "s"
    order: Order = "day-first"
    decimal: str = "."
    there: bool = True
    epoch: bool = False


def understand_times(
    calls: pl.LazyFrame,
    title: str,
    known: str | None,
    *,
    unit: Unit | None = None,
    order: Order | None = None,
    decimal: str = ".",
    where: str = "log",
) -> tuple[Times, list[Understood]]:
    """Decide the unit and form of times.

    Args:
        title: of the format; known: unit of its numbers, where it says so.
        unit, order: what somebody said; decimal: mark before decimals of numbers that are text.

    Raises:
        InputError: dates whose day cannot be told from their month, times in a form that is not known.
    """
    number = _numbers(decimal)
    text = pl.col("at_text")
    first, last = text.str.extract_groups(_YEAR_FIRST), text.str.extract_groups(_YEAR_LAST)
    a, b = (last.struct.field(name).cast(pl.Int64) for name in ("a", "b"))
    zoned = pl.coalesce(first.struct.field("zone"), last.struct.field("zone"))
    size = number.abs()
    seen = (
        calls.select("at", "at_text", "row")
        .select(
            given=(pl.col("at").is_not_null() | text.is_not_null()).sum(),
            numbers=number.is_not_null().sum(),
            year_first=(first.struct.field("y").is_not_null()).sum(),
            year_last=(last.struct.field("y").is_not_null()).sum(),
            largest=size.max(), smallest=size.min(), middle=size.median(),
            whole=(number == number.floor()).all(),
            a_days=(a > 12).sum(), b_days=(b > 12).sum(), a_kinds=a.n_unique(), b_kinds=b.n_unique(),
            points=(last.struct.field("mark") == ".").sum(),
            zoned=zoned.is_not_null().sum(),
            example=text.filter(number.is_null() & first.struct.field("y").is_null() & last.struct.field("y").is_null()).first(),
        )
        .collect(engine="streaming")
        .row(0, named=True)
    )  # fmt: skip
    if not seen["given"]:
        return Times(there=False), []
    dated = seen["year_first"] + seen["year_last"]
    if not seen["numbers"] and not dated:
        raise InputError(where, "times", seen["example"], FORMS)
    said: list[Understood] = []
    taken: Unit = "s"
    if seen["numbers"]:
        taken, how = _unit(seen, title, known, unit)
        said.append(how)
    elif unit is not None:
        raise InputError("--time-unit", "unit", unit, "nothing: the times of this log are dates")
    way: Order = "day-first"
    if seen["year_last"]:
        way, how = _order(seen, order, where)
        said.append(how)
    elif order is not None:
        raise InputError("--dates", "order", order, "nothing: no date of this log has its year last")
    if dated:
        said.append(_zone(seen["zoned"], dated))
    epoch = dated > 0 or (seen["middle"] or 0) * SECONDS[taken] > _EPOCH
    return Times(taken, way, decimal, epoch=epoch), said


def _numbers(decimal: str) -> pl.Expr:
    text = pl.col("at_text").str.strip_chars()
    text = text.str.replace(",", ".", literal=True) if decimal == "," else text
    plain = pl.when(text.str.contains(r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$")).then(text)
    return pl.coalesce(pl.col("at"), plain.cast(pl.Float64, strict=False))


def _unit(seen: dict[str, float], title: str, known: str | None, asked: Unit | None) -> tuple[Unit, Understood]:
    """The unit of numbers: by size, where they are since 1970; otherwise as documented or said."""
    largest, middle = float(seen["largest"]), float(seen["middle"])
    by_size: Unit | None = None
    if largest > _EPOCH:
        fits = (name for name in UNITS if _EPOCH <= middle * SECONDS[name] < _LATEST)  # since 1970
        by_size = next(fits, None)
    if asked is not None:
        if middle * SECONDS[asked] > _LATEST:
            raise InputError("--time-unit", "unit", asked, f"{by_size}: the times are near {middle:.4g}, since 1970")
        return asked, Understood("times", WORDS[asked], "--time-unit says so")
    if by_size is not None:
        day = datetime.fromtimestamp(min(middle * SECONDS[by_size], 2e11), UTC).strftime("%Y-%m-%d")
        return by_size, Understood(
            "times", f"{WORDS[by_size]} since 1970", f"they are near {middle:.10g}, which is {day}"
        )
    if known is not None:
        unit = next(name for name in UNITS if name == known)
        return unit, Understood("times", WORDS[unit], f"{title} has them so")
    question = ""
    if largest > 0:
        question = (
            f"are the times, up to {largest:,.10g}, seconds? They were taken to be; `--time-unit ms` says otherwise"
        )
    return "s", Understood("times", "seconds", "numbers without a unit, not since 1970", question)


def _order(seen: dict[str, float], asked: Order | None, where: str) -> tuple[Order, Understood]:
    """Which of the first two numbers of a date is the day."""
    if asked is not None:
        bad = seen["a_days"] if asked == "month-first" else seen["b_days"]
        if bad:
            raise InputError("--dates", "order", asked, f"the other order: {bad:,} dates have a month above 12 so")
        return asked, Understood("dates", asked, "--dates says so")
    if seen["a_days"] and seen["b_days"]:
        raise InputError(where, "dates", "both days and months above 12 in one place", "dates in one order")
    if seen["a_days"]:
        return "day-first", Understood(
            "dates", "day-first", f"the first number is above 12 in {seen['a_days']:,} of them"
        )
    if seen["b_days"]:
        return "month-first", Understood(
            "dates", "month-first", f"the second number is above 12 in {seen['b_days']:,} of them"
        )
    if seen["a_kinds"] == seen["b_kinds"] == 1:
        question = (
            "day or month first? All are of one day, so that only the date itself hangs on it: `--dates month-first`"
        )
        return "day-first", Understood("dates", "day-first", "all of one day: the order changes no distance", question)
    if seen["points"] == seen["year_last"]:
        question = "day or month first? `--dates month-first` says the other"
        return "day-first", Understood("dates", "day-first", "points between the numbers, as in 24.11.2026", question)
    expected = (
        "to know the order: `--dates day-first` or `--dates month-first`, since both are possible for all of them"
    )
    raise InputError(where, "dates", "such as 03/04/2026", expected)


def _zone(zoned: int, dated: int) -> Understood:
    if zoned == dated:
        return Understood("time zone", "as each time says", f"all {dated:,} have one")
    if not zoned:
        return Understood(
            "time zone", "none: taken as UTC", "no time has one; distances hang on it only where clocks were changed"
        )
    return Understood("time zone", "as each time says, UTC where it says none", f"{zoned:,} of {dated:,} have one")


def with_times(rows: pl.DataFrame, times: Times) -> pl.DataFrame:
    """Add ``arrival``: seconds, since 1970 where times are; null where a row has no time that can be read."""
    if not times.there:
        return rows.with_columns(arrival=pl.lit(None, dtype=pl.Float64))
    text = pl.col("at_text")
    first, last = text.str.extract_groups(_YEAR_FIRST), text.str.extract_groups(_YEAR_LAST)
    day, month = ("a", "b") if times.order == "day-first" else ("b", "a")
    seconds = _numbers(times.decimal) * SECONDS[times.unit]
    return rows.with_columns(
        arrival=pl.coalesce(
            seconds,
            _since_1970(first, "y", "mo", "d"),
            _since_1970(last, "y", month, day),
        )
    )


def _since_1970(groups: pl.Expr, year: str, month: str, day: str) -> pl.Expr:
    def part(name: str) -> pl.Expr:
        return groups.struct.field(name)

    def number(name: str) -> pl.Expr:
        return part(name).cast(pl.Int32, strict=False)

    date = pl.concat_str(part(year), part(month).str.zfill(2), part(day).str.zfill(2), separator="-")
    days = date.str.to_date("%Y-%m-%d", strict=False).cast(pl.Int32).cast(pl.Float64)
    half = part("half").str.to_lowercase()
    hour = number("h").fill_null(0)
    hour = pl.when(half == "p").then(hour % 12 + 12).when(half == "a").then(hour % 12).otherwise(hour)
    clock = hour * 3600.0 + number("mi").fill_null(0) * 60.0 + number("s").fill_null(0)
    fraction = pl.concat_str(pl.lit("0."), part("f").str.slice(0, 9)).cast(pl.Float64, strict=False).fill_null(0.0)
    zone = part("zone")
    sign = pl.when(zone.str.starts_with("-")).then(-1.0).otherwise(1.0)
    digits = zone.str.replace_all(r"\D", "")
    hours, minutes = (
        digits.str.slice(0, 2).cast(pl.Float64, strict=False),
        digits.str.slice(2, 2).cast(pl.Float64, strict=False),
    )
    offset = (sign * (hours * 3600.0 + minutes.fill_null(0.0) * 60.0)).fill_null(0.0)
    return days * 86400.0 + clock + fraction - offset
