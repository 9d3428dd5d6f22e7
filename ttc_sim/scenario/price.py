"""What the tokens of an API cost, as a scenario says it."""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ttc_sim.base.times import DAY_S
from ttc_sim.scenario.base import Model, NonNegative, errors_at
from ttc_sim.scenario.shapes import WEEKDAYS

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_CLOCK = re.compile(r"(\d\d):(\d\d)")


def _day(given: object) -> object:
    """YAML reads a day that stands without quotes as a date."""
    return given.isoformat() if type(given) is datetime.date else given


Day = Annotated[str, BeforeValidator(_day)]
"""``YYYY-MM-DD``."""


def day_of(text: str) -> datetime.date | None:
    """The day that a text names, ``None`` if it is none.

    >>> day_of("2026-11-24"), day_of("24 Nov")
    (datetime.date(2026, 11, 24), None)
    """
    try:
        return datetime.date.fromisoformat(text) if len(text) == len("2026-11-24") else None
    except ValueError:
        return None


class Rates(Model):
    """US dollars per million tokens of each kind, and of a call; what is left out stays as it is otherwise.

    Args:
        input_usd_per_mtok: prompt tokens, those read from a cache or written to it left aside.
        cached_input_usd_per_mtok: prompt tokens that the provider's cache held; billed as input unless given, here or by the table.
        cache_write_usd_per_mtok: prompt tokens that its cache was made to keep; likewise.
        output_usd_per_mtok: tokens of answers, hidden ones left aside where they have a price of their own.
        reasoning_usd_per_mtok: hidden reasoning tokens; billed as output unless given, here or by the table.
        usd_per_call: of each call that is not turned away, whatever its length; none if left out, here and by the table.
        least_usd_per_call: what such a call costs at the least, all that it is billed for together.
    """

    input_usd_per_mtok: NonNegative | None = None
    cached_input_usd_per_mtok: NonNegative | None = None
    cache_write_usd_per_mtok: NonNegative | None = None
    reasoning_usd_per_mtok: NonNegative | None = None
    output_usd_per_mtok: NonNegative | None = None
    usd_per_call: NonNegative | None = None
    least_usd_per_call: NonNegative | None = None

    @property
    def stated(self) -> dict[str, float]:
        """What is given, by kind."""
        kinds = {name: name.removesuffix("_usd_per_mtok") for name in Rates.model_fields}
        kinds |= {"usd_per_call": "call", "least_usd_per_call": "least"}
        return {kind: usd for name, kind in kinds.items() if (usd := getattr(self, name)) is not None}


class PriceHours(Rates):
    """Prices at some hours of each day.

    Args:
        from_utc: when they begin, such as ``"16:30"`` of UTC; until_utc: when they end, past midnight if that is earlier.
        weekdays: on which they begin, such as ``[monday, friday]``, of UTC; all if left out.
        factor: all prices times this, at these hours.
    """

    from_utc: str
    until_utc: str
    weekdays: Annotated[list[Weekday], Field(min_length=1)] | None = None
    factor: NonNegative = 1.0

    @model_validator(mode="before")
    @classmethod
    def _times_of_day(cls, given: Any) -> Any:
        for key in ("from_utc", "until_utc"):
            at = given.get(key) if isinstance(given, dict) else None
            if isinstance(at, int) and not isinstance(at, bool):  # what YAML makes of 16:30
                expected = (
                    f"quotes around it, such as '{at // 60:02d}:{at % 60:02d}': YAML reads a clock's time as a number"
                )
                raise errors_at({key: ("value_error", at, expected)})
            if isinstance(at, str) and _seconds_of(at) is None:
                raise errors_at({key: ("value_error", at, "a time of day of UTC, such as '16:30'")})
        return given

    @model_validator(mode="after")
    def _some_time(self) -> PriceHours:
        if self.from_s == self.until_s:
            raise errors_at(
                {"until_utc": ("value_error", self.until_utc, f"another time than from_utc {self.from_utc}")}
            )
        _check_says_something(self)
        return self

    @property
    def from_s(self) -> float:
        """Seconds from midnight of UTC to when they begin."""
        return _seconds_of(self.from_utc) or 0.0

    @property
    def until_s(self) -> float:
        """Seconds from midnight of UTC to when they end."""
        return _seconds_of(self.until_utc) or 0.0

    def hold_at(self, weekday: int, second: float) -> bool:
        """Whether they hold so many seconds after midnight of UTC, on a day of the week, 0 for Monday."""
        if self.from_s < self.until_s:
            return self.from_s <= second < self.until_s and self._begin_on(weekday)
        return (second >= self.from_s and self._begin_on(weekday)) or (
            second < self.until_s and self._begin_on((weekday - 1) % 7)
        )

    def _begin_on(self, weekday: int) -> bool:
        return self.weekdays is None or WEEKDAYS[weekday] in self.weekdays


class PriceChange(Rates):
    """Prices from a day on.

    Args:
        from_day: ``YYYY-MM-DD``, of UTC.
        factor: all prices times this, from then on.
    """

    from_day: Day
    factor: NonNegative = 1.0

    @model_validator(mode="after")
    def _a_day(self) -> PriceChange:
        if day_of(self.from_day) is None:
            raise errors_at({"from_day": ("value_error", self.from_day, "a day as YYYY-MM-DD")})
        _check_says_something(self)
        return self

    @property
    def day(self) -> datetime.date:
        """The first day."""
        return datetime.date.fromisoformat(self.from_day)


class _Named(Model):
    """Where the price table has it; the first keys of a price."""

    provider: str | None = None
    model: str | None = None
    on: Day | None = None


class Price(Rates, _Named):
    """US dollars per million tokens: from a maintained price table, from the scenario, or both (the scenario wins).

    Args:
        provider: provider's name in the ``genai-prices`` table, with ``model``.
        model: the model's name there.
        on: day whose prices hold, ``YYYY-MM-DD``. Without it they are those of the run's own days, from ``workload.begins`` on.
        processing: another price of the table for the same tokens, as far as it has one: ``batch`` and ``flex`` are cheaper and
            slower, which the deployment's latency is to say; ``priority`` and ``fast`` are dearer.
        hours: other prices at hours of the day; of several that hold, the last.
        changes: other prices from a day on; of several, the last that has come.
        factor: all of these times this: 0.88 of a discount that was agreed on, 1.19 of a tax, 0 where a fixed fee pays for tokens.
    """

    processing: Literal["batch", "flex", "priority", "fast"] | None = None
    hours: Annotated[list[PriceHours], Field(min_length=1)] | None = None
    changes: Annotated[list[PriceChange], Field(min_length=1)] | None = None
    factor: NonNegative = 1.0

    @model_validator(mode="after")
    def _in_order(self) -> Price:
        days = [one.day for one in self.changes or ()]
        for k in range(1, len(days)):
            if days[k] <= days[k - 1]:
                expected = f"a day after that of the change before, {days[k - 1]}"
                raise errors_at({f"changes.{k}.from_day": ("value_error", days[k].isoformat(), expected)})
        if self.processing is not None and self.model is None:
            expected = "none without provider and model, whose prices the table has: factor says a discount"
            raise errors_at({"processing": ("value_error", self.processing, expected)})
        return self


def _seconds_of(clock: str) -> float | None:
    """Seconds from midnight to a time of day; 24:00 is the end of it."""
    found = _CLOCK.fullmatch(clock)
    if found is None or int(found[1]) > 23 or int(found[2]) > 59:
        return DAY_S if clock == "24:00" else None
    return 3600.0 * int(found[1]) + 60.0 * int(found[2])


def _check_says_something(one: PriceHours | PriceChange) -> None:
    if not one.stated and one.factor == 1:
        raise errors_at({"factor": ("value_error", one.factor, "a factor, or prices: as it is nothing would change")})


__all__ = ["Day", "Price", "PriceChange", "PriceHours", "Rates", "day_of"]
