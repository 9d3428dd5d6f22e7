"""How long a run lasts, and how its rate changes over the day, the week and from week to week."""

from __future__ import annotations

import math
import re
from itertools import product
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from ttc_sim.base.limits import MOST_AMOUNT
from ttc_sim.scenario.base import Model, NonNegative, errors_at

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WHOLE_TRACE = "whole trace"
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds in a unit of a duration."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)")
_CLOCK = re.compile(r"(?:([a-z]+) )?(\d\d):(\d\d)")
_WITH_UNIT = f"a time with its unit ({', '.join(UNITS)}), such as '24 h' or '90 min', or '{WHOLE_TRACE}'"


def seconds_of(duration: str) -> float | None:
    """Seconds that a duration says, ``None`` if it is no time with a unit.

    >>> seconds_of("1.5 h"), seconds_of("whole trace")
    (5400.0, None)
    """
    found = _DURATION.fullmatch(duration)
    return None if found is None else float(found[1]) * UNITS[found[2]]


def time_in_words(seconds: float) -> str:
    """Seconds in the largest unit of which they are at least one.

    >>> time_in_words(86400), time_in_words(5400)
    ('1 d', '1.5 h')
    """
    name = next((name for name in reversed(UNITS) if seconds >= UNITS[name]), "s")
    return f"{seconds / UNITS[name]:.6g} {name}"


def _a_duration(given: Any) -> str:
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        raise ValueError(f"{_WITH_UNIT}: a bare number may be seconds or hours")
    if not isinstance(given, str) or (given != WHOLE_TRACE and seconds_of(given) is None):
        raise ValueError(_WITH_UNIT)
    seconds = seconds_of(given)
    if seconds is not None and not 0 < seconds <= MOST_AMOUNT:
        raise ValueError(f"above 0 s, at most {MOST_AMOUNT:g} s")
    return given


Duration = Annotated[str, BeforeValidator(_a_duration)]
"""``24 h`` and the like, or ``whole trace``."""


class Shape(Model):
    """How a rate changes over the day and the week, and grows: factors relative to one another.

    ``rate_per_s`` beside it stays the mean over a whole day (a whole week, with ``by_weekday``) before growth.

    Args:
        by_hour: 24 factors, of the hour from 0:00 on first; by_weekday: one for each day, from Monday on or by its name.
        starts: when the run starts: ``"08:00"``, or ``"monday 08:00"`` beside ``by_weekday``. Midnight, of a Monday, if left out.
        growth_per_week: relative growth, compounded continuously from the start of the run: 0.05 is 5% more at the end of each
            week than at its beginning.

    >>> Shape(by_hour=[1.0] * 12 + [3.0] * 12, starts="08:00").starts_h
    8.0
    """

    by_hour: list[NonNegative] | None = None
    by_weekday: list[NonNegative] | dict[str, NonNegative] | None = None
    starts: str | None = None
    growth_per_week: Annotated[float, Field(gt=-1, le=1000, allow_inf_nan=False)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _says_each_hour_and_day(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        hours, days, starts = given.get("by_hour"), given.get("by_weekday"), given.get("starts")
        if isinstance(starts, int) and not isinstance(starts, bool):  # what YAML makes of 18:00
            expected = f"quotes around it, such as '{starts // 60:02d}:{starts % 60:02d}': YAML reads a clock's time as a number"
            raise errors_at({"starts": ("value_error", starts, expected)})
        if hours is not None:
            _check_factors("by_hour", hours, 24, "24 numbers, one for each hour of the day")
        if isinstance(days, dict):
            for day in days:
                if day not in WEEKDAYS:
                    raise errors_at({f"by_weekday.{day}": ("value_error", day, f"one of {', '.join(WEEKDAYS)}")})
            if missing := [day for day in WEEKDAYS if day not in days]:
                expected = f"all seven days: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
                raise errors_at({"by_weekday": ("value_error", days, expected)})
            _check_factors("by_weekday", list(days.values()), 7, "seven numbers")
        elif days is not None:
            _check_factors("by_weekday", days, 7, "seven numbers, from Monday on, or a number by the name of each day")
        return given

    @model_validator(mode="after")
    def _has_an_effect(self) -> Shape:
        if self.by_hour is None and self.by_weekday is None and not self.growth_per_week:
            raise ValueError("at least one of by_hour, by_weekday and growth_per_week")
        if self.starts is None:
            return self
        if self.by_hour is None and self.by_weekday is None:
            expected = "no start without by_hour or by_weekday: growth begins with the run"
            raise errors_at({"starts": ("value_error", self.starts, expected)})
        found = _CLOCK.fullmatch(self.starts)
        hour, minute = (int(found[2]), int(found[3])) if found else (24, 0)
        if found is None or hour > 23 or minute > 59 or (found[1] or "monday") not in WEEKDAYS:
            expected = "an hour such as '08:00', after a day where by_weekday is given: 'monday 08:00'"
            raise errors_at({"starts": ("value_error", self.starts, expected)})
        if found[1] is None and self.by_weekday is not None:
            expected = "a day too, such as 'monday 08:00': by_weekday tells them apart"
            raise errors_at({"starts": ("value_error", self.starts, expected)})
        if found[1] is not None and self.by_weekday is None:
            expected = "an hour alone, such as '08:00': without by_weekday all days are alike"
            raise errors_at({"starts": ("value_error", self.starts, expected)})
        return self

    @property
    def starts_h(self) -> float:
        """Hours from 0:00, of a Monday where days differ, to the start of the run."""
        found = _CLOCK.fullmatch(self.starts or "00:00")
        assert found is not None
        return 24.0 * WEEKDAYS.index(found[1] or "monday") + int(found[2]) + int(found[3]) / 60

    @property
    def factors(self) -> tuple[float, ...]:
        """One for each hour of a day or, where days differ, of a week from Monday 0:00 on; their mean is 1."""
        hours = [1.0] * 24 if self.by_hour is None else self.by_hour
        days = [1.0]
        if isinstance(self.by_weekday, dict):
            days = [self.by_weekday[day] for day in WEEKDAYS]
        elif self.by_weekday is not None:
            days = self.by_weekday
        found = [day * hour for day, hour in product(_of_mean_1(days), _of_mean_1(hours))]
        return tuple(found)


def _of_mean_1(factors: list[float]) -> list[float]:
    most = max(factors)
    mean = math.fsum(one / most for one in factors) / len(factors)
    return [one / most / mean for one in factors]


def _check_factors(key: str, given: Any, count: int, expected: str) -> None:
    """See that there are so many, none below 0, and one above it."""
    if not isinstance(given, list):
        raise errors_at({key: ("value_error", given, expected)})
    if len(given) != count:
        raise errors_at({key: ("value_error", f"{len(given)} numbers", expected)})
    for at, one in enumerate(given):
        if isinstance(one, bool) or not isinstance(one, (int, float)) or not 0 <= one <= MOST_AMOUNT:
            raise errors_at({f"{key}.{at}": ("value_error", one, "a factor, at least 0")})
    if not any(given):
        raise errors_at({key: ("value_error", "all 0", "a factor above 0, or nothing ever comes")})


__all__ = ["UNITS", "WEEKDAYS", "WHOLE_TRACE", "Duration", "Shape", "seconds_of", "time_in_words"]
