"""When calls came: the unit, form and zone of a log's times, decided from all of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.measured.dates import FORMS, Dates, Order, as_day_and_second, look_at_dates
from ttc_sim.measured.importing.audit import Understood

Unit = Literal["s", "ms", "us", "ns"]
UNITS: tuple[Unit, ...] = ("s", "ms", "us", "ns")
SECONDS: dict[str, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_EPOCH = 1e8  # seconds: since 1970, where it is more (1973 and later)
_LATEST = 1e11  # seconds: the year 5138
_FOR_MEDIAN = 1_000_000


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
    size = number.abs()
    seen = (
        calls.select(
            given=(pl.col("at").is_not_null() | pl.col("at_text").is_not_null()).sum(),
            numbers=number.is_not_null().sum(),
            largest=size.max(),
        )
        .collect(engine="streaming")
        .row(0, named=True)
    )
    if not seen["given"]:
        return Times(there=False), []
    # A median wants all values at once: of a large log that of a part, spread over all of it.
    some = calls.filter((pl.col("file") + pl.col("row")) % max(seen["given"] // _FOR_MEDIAN, 1) == 0)
    seen["middle"] = some.select(size.median()).collect(engine="streaming").item()
    dates = look_at_dates(calls, "at_text", number.is_not_null())
    if not seen["numbers"] and not dates.count:
        raise InputError(where, "times", dates.example, f"seconds, {FORMS}")
    said: list[Understood] = []
    taken: Unit = "s"
    if seen["numbers"]:
        taken, how = _unit(seen, title, known, unit)
        if seen["largest"] * SECONDS[taken] > _LATEST:
            given = calls.select(number.filter(size == seen["largest"]).first()).collect(engine="streaming").item()
            raise InputError(
                where, "times", given, f"{WORDS[taken]}, at most {_LATEST / SECONDS[taken]:.0e} before or after 0"
            )
        said.append(how)
    elif unit is not None:
        raise InputError("--time-unit", "unit", unit, "nothing: the times of this log are dates")
    way: Order = "day-first"
    if dates.year_last:
        way, how = _order(dates, order, where)
        said.append(how)
    elif order is not None:
        raise InputError("--dates", "order", order, "nothing: no date of this log has its year last")
    if dates.count:
        said.append(_zone(dates.zoned, dates.count))
    epoch = dates.count > 0 or (seen["middle"] or 0) * SECONDS[taken] > _EPOCH
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
        day = datetime.fromtimestamp(middle * SECONDS[by_size], UTC).strftime("%Y-%m-%d")
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


def _order(dates: Dates, asked: Order | None, where: str) -> tuple[Order, Understood]:
    """Which of the first two numbers of a date is the day."""
    if asked is not None:
        bad = dates.first_above if asked == "month-first" else dates.second_above
        if bad:
            raise InputError("--dates", "order", asked, f"the other order: {bad:,} dates have a month above 12 so")
        return asked, Understood("dates", asked, "--dates says so")
    try:
        order = dates.order()
    except ValueError as error:
        raise InputError(where, "dates", str(error), "dates in one order") from None
    if order is None:
        expected = "one order: both are possible for all of them; `--dates day-first` or `--dates month-first` says it"
        raise InputError(where, "dates", "such as 03/04/2026", expected)
    above = max(dates.first_above, dates.second_above)
    if above:
        return order, Understood("dates", order, f"one number is above 12 in {above:,} of them")
    question = "which number is the day? `--dates month-first` says the other"
    if dates.one_day:
        return order, Understood("dates", order, "all are of one day: no distance hangs on it", question)
    return order, Understood("dates", order, "points between the numbers, as in 24.11.2026", question)


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
    seconds = _numbers(times.decimal) * SECONDS[times.unit]
    day, second = as_day_and_second("at_text", times.order)
    return rows.with_columns(arrival=pl.coalesce(seconds, day * 86400.0 + second))
