"""Times that are written as dates, in the forms that logs and spreadsheets have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

Order = Literal["day-first", "month-first"]
FORMS = "2026-11-24T10:00:00.5Z, 2026-11-24 10:00:00, 24.11.2026 10:00 or 11/24/2026 10:00 AM"

_CLOCK = (
    r"(?:[T ,]+(?P<h>\d{1,2}):(?P<mi>\d{2})(?::(?P<s>\d{2})(?:[.,](?P<f>\d+))?)?"
    r"\s*(?P<half>[AaPp])?\.?(?:[Mm]\.?)?)?"
)
_ZONE = r"\s*(?P<zone>[Zz]|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2})?(?:\s*UTC)?\s*$"
_YEAR_FIRST = r"^\s*(?P<y>\d{4})[-/.](?P<mo>\d{1,2})[-/.](?P<d>\d{1,2})" + _CLOCK + _ZONE
_YEAR_LAST = r"^\s*(?P<a>\d{1,2})(?P<mark>[-/.])(?P<b>\d{1,2})[-/.](?P<y>\d{4})" + _CLOCK + _ZONE


@dataclass(frozen=True)
class Dates:
    """What the dates of a column have in common.

    Attributes:
        year_first, year_last: how many are of either form; zoned: how many say their zone.
        first_above, second_above: of those with the year last, how many have a first or second number above 12.
        one_day: whether those are all of one day; points: whether all have points between the numbers.
        example: a value that is no date, if there is one.
    """

    year_first: int
    year_last: int
    zoned: int
    first_above: int
    second_above: int
    one_day: bool
    points: bool
    example: str | None

    @property
    def count(self) -> int:
        """Dates of any form."""
        return self.year_first + self.year_last

    def order(self) -> Order | None:
        """Which number is the day where the year is last, as far as the dates tell; ``None`` where they do not.

        Raises:
            ValueError: they contradict each other.
        """
        if self.first_above and self.second_above:
            raise ValueError("both days and months above 12 in one place")
        if self.first_above or self.one_day or self.points:
            return "month-first" if self.second_above else "day-first"
        return "month-first" if self.second_above else None


def look_at_dates(table: pl.LazyFrame, column: str, besides: pl.Expr | None = None) -> Dates:
    """What the dates in a column of text are like; values for which ``besides`` holds are something else and not looked at."""
    text = pl.col(column)
    first, last = text.str.extract_groups(_YEAR_FIRST), text.str.extract_groups(_YEAR_LAST)
    a, b = last.struct.field("a").cast(pl.Int64), last.struct.field("b").cast(pl.Int64)
    is_first, is_last = first.struct.field("y").is_not_null(), last.struct.field("y").is_not_null()
    other = text.is_not_null() & ~is_first & ~is_last
    other = other if besides is None else other & ~besides
    found = (
        table.select(
            year_first=is_first.sum(),
            year_last=is_last.sum(),
            zoned=pl.coalesce(first.struct.field("zone"), last.struct.field("zone")).is_not_null().sum(),
            first_above=(a > 12).sum(),
            second_above=(b > 12).sum(),
            kinds=pl.struct(a, b, last.struct.field("y")).filter(is_last).n_unique(),
            points=(last.struct.field("mark") == ".").sum(),
            example=text.filter(other).first(),
        )
        .collect(engine="streaming")
        .row(0, named=True)
    )
    kinds, points = found.pop("kinds"), found.pop("points")
    return Dates(**found, one_day=kinds == 1, points=points == found["year_last"] > 0)


def as_day_and_second(column: str, order: Order) -> tuple[pl.Expr, pl.Expr]:
    """Days since 1970 and seconds into the day (UTC, or of the clock where no zone is given); null where there is no date.

    Args:
        column: of text; order: of day and month where the year is last.
    """
    text = pl.col(column)
    first, last = text.str.extract_groups(_YEAR_FIRST), text.str.extract_groups(_YEAR_LAST)
    day, month = ("a", "b") if order == "day-first" else ("b", "a")
    days = pl.coalesce(_days(first, "mo", "d"), _days(last, month, day))
    return days, pl.coalesce(_seconds(first), _seconds(last))


def _days(groups: pl.Expr, month: str, day: str) -> pl.Expr:
    parts = [groups.struct.field("y"), *(groups.struct.field(name).str.zfill(2) for name in (month, day))]
    return pl.concat_str(parts, separator="-").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int32).cast(pl.Float64)


def _seconds(groups: pl.Expr) -> pl.Expr:
    def number(name: str) -> pl.Expr:
        return groups.struct.field(name).cast(pl.Int32, strict=False).fill_null(0)

    half = groups.struct.field("half").str.to_lowercase()
    hour = number("h")
    hour = pl.when(half == "p").then(hour % 12 + 12).when(half == "a").then(hour % 12).otherwise(hour)
    digits = pl.concat_str(pl.lit("0."), groups.struct.field("f").str.slice(0, 9))
    fraction = digits.cast(pl.Float64, strict=False).fill_null(0.0)
    zone = groups.struct.field("zone")
    sign = pl.when(zone.str.starts_with("-")).then(-1.0).otherwise(1.0)
    offset = zone.str.replace_all(r"\D", "")
    hours, minutes = (offset.str.slice(at, 2).cast(pl.Float64, strict=False) for at in (0, 2))
    ahead = (sign * (hours * 3600.0 + minutes.fill_null(0.0) * 60.0)).fill_null(0.0)
    there = pl.when(groups.struct.field("y").is_not_null())
    return there.then(hour * 3600.0 + number("mi") * 60.0 + number("s") + fraction - ahead)
