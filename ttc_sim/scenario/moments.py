"""Moments of time, as a scenario says them."""

from __future__ import annotations

import datetime

_EXPECTED = "a moment such as '2026-11-24 08:00', of UTC, or '2026-11-24 08:00+01:00'"


def as_moment(given: object) -> object:
    """The text of a moment; YAML reads some that stand without quotes as times, and days as dates.

    Raises:
        ValueError: no moment.
    """
    if isinstance(given, datetime.datetime):
        given = given.isoformat(sep=" ")
    if type(given) is datetime.date or (isinstance(given, str) and ":" not in given) or isinstance(given, int | float):
        raise ValueError(f"{_EXPECTED}: the time of day too")
    if isinstance(given, str):
        try:
            datetime.datetime.fromisoformat(given)
        except ValueError:
            raise ValueError(_EXPECTED) from None
    return given


def moment_of(text: str | None) -> datetime.datetime | None:
    """The moment that a text names, of UTC if it names no other zone.

    >>> moment_of("2026-11-24 08:00")
    datetime.datetime(2026, 11, 24, 8, 0, tzinfo=datetime.timezone.utc)
    """
    if text is None:
        return None
    found = datetime.datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)


__all__ = ["as_moment", "moment_of"]
