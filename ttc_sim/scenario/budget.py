"""Hard budgets: how much API calls may cost a day, and what becomes of requests once that is spent."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ttc_sim.scenario.base import Model, errors_at

AtEnd = Literal["degrade", "queue", "refuse"]
Usd = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]

_CLOCK = re.compile(r"(\d\d):(\d\d)")


class DailyBudget(Model):
    """How much may be spent a day, and what becomes of requests that come once it is.

    Args:
        usd_per_day: US dollars that API calls may cost, above 0, counted to the billionth. A call counts when the provider is done
            with it, with what it is billed: the budget is exhausted by the call that reaches it, and what is under way by then is
            finished, so that more is spent by as much as that comes to. GPU pools cost their hours, and count nothing.
        at_end: of a request that comes then, to an arm whose calls may cost anything: ``degrade``, it goes to the arm ``to``
            instead, whose calls are billed and counted beyond the budget; ``queue``, it waits for the day to end and is then sent
            on, in the order of arrival; ``refuse``, it is rejected.
        to: with ``degrade``, the arm; of those offered to the requests, or of ``sources: []``.
    """

    usd_per_day: Usd | None = None
    at_end: AtEnd | None = None
    to: str | None = None

    @model_validator(mode="after")
    def _says_what_happens(self) -> DailyBudget:
        if self.usd_per_day is None:
            for key in ("at_end", "to"):
                if getattr(self, key) is not None:
                    raise errors_at({"usd_per_day": ("value_error", None, f"US dollars a day, beside {key}")})
            return self
        if self.at_end is None:
            raise errors_at({"at_end": ("value_error", None, "degrade, queue or refuse")})
        if self.at_end == "degrade" and self.to is None:
            raise errors_at(
                {"to": ("value_error", None, "the arm that requests go to instead, beside at_end: degrade")}
            )
        if self.at_end != "degrade" and self.to is not None:
            expected = f"no arm beside at_end: {self.at_end}, which sends nothing to another one"
            raise errors_at({"to": ("value_error", self.to, expected)})
        return self


class SourceBudget(DailyBudget):
    """The same for the requests of a source, beside the budget of all."""

    @model_validator(mode="after")
    def _limits_something(self) -> SourceBudget:
        if self.usd_per_day is None:
            raise errors_at({"usd_per_day": ("missing", None, "this key to be given")})
        return self


class SpendingBudget(DailyBudget):
    """Hard budgets a day, of all requests and of those of sources.

    A request that comes finds each of its two budgets exhausted or not; of several rules the strictest holds (refuse, queue,
    degrade), and to be degraded it goes where its source's says.

    Args:
        resets: time of day at which a day begins, on the workload's clock: that of the ``starts`` of its shapes; without any the
            run begins at 00:00. The first day is as long as is left of it then, with the whole budget.
        sources: budgets of their own, by source.
    """

    resets: str = "00:00"
    sources: dict[str, SourceBudget] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _is_a_time_of_day(cls, given: Any) -> Any:
        resets = given.get("resets", "00:00") if isinstance(given, dict) else "00:00"
        if isinstance(resets, int) and not isinstance(resets, bool):  # what YAML makes of 18:00
            expected = f"quotes around it, such as '{resets // 60:02d}:{resets % 60:02d}': YAML reads a clock's time as a number"
            raise errors_at({"resets": ("value_error", resets, expected)})
        found = _CLOCK.fullmatch(resets) if isinstance(resets, str) else None
        if found is None or int(found[1]) > 23 or int(found[2]) > 59:
            raise errors_at({"resets": ("value_error", resets, "a time of day such as '06:00'")})
        return given

    @model_validator(mode="after")
    def _limits_something(self) -> SpendingBudget:
        if self.usd_per_day is None and not self.sources:
            raise ValueError("usd_per_day with at_end, of all requests, or sources with budgets of their own")
        return self

    @property
    def resets_s(self) -> float:
        """Seconds from 0:00 to the beginning of a day."""
        hours, minutes = self.resets.split(":")
        return 3600.0 * int(hours) + 60.0 * int(minutes)

    @property
    def of_all(self) -> dict[str | None, DailyBudget]:
        """All budgets: by source, that of all requests under ``None``."""
        own: dict[str | None, DailyBudget] = {} if self.usd_per_day is None else {None: self}
        own.update(self.sources)
        return own

    def of_sources(self, names: Collection[str]) -> SpendingBudget | None:
        """The same with those of some sources alone; ``None`` if none is left."""
        sources = {name: one for name, one in self.sources.items() if name in names}
        return self.model_copy(update={"sources": sources}) if self.usd_per_day is not None or sources else None

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that requests are degraded to."""
        return tuple(dict.fromkeys(one.to for one in self.of_all.values() if one.to is not None))


__all__ = ["AtEnd", "DailyBudget", "SourceBudget", "SpendingBudget"]
