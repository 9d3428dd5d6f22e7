"""Rules of autoscaling to choose from: what capacity is planned with where a pool need not be of a fixed size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from ttc_sim.base.errors import in_our_words
from ttc_sim.scenario.base import OR_ONE, Model, NonNegative, Positive
from ttc_sim.scenario.fleet import RULES, Autoscaling, Count, ScaleRule, ScheduleStep

HOURLY = "hourly"
MOST_CANDIDATES = 1000  # of one rule

A = TypeVar("A")
OneOrMore = Annotated[
    list[A], Field(min_length=1), BeforeValidator(lambda given: given if isinstance(given, list) else [given]), OR_ONE
]
"""A list to choose from; a value alone is a list of one."""


def _steps_or_hourly(given: object) -> object:
    if given is not None and given != HOURLY and not isinstance(given, list):
        raise ValueError(f"{HOURLY!r}, or the steps of a schedule")
    return given


class AutoscalingRule(Model):
    """One rule of autoscaling with lists of its parameters, of which all combinations are tried; a value alone is a list of one.

    Keys are those of :class:`ttc_sim.scenario.Autoscaling`.

    Args:
        schedule: ``"hourly"``: the planner makes it, a number for each hour of the day, ``minimum`` to ``maximum`` where these are
            given. Or the steps of one.
    """

    schedule: Annotated[Literal["hourly"] | list[ScheduleStep] | None, BeforeValidator(_steps_or_hourly)] = None
    minimum: OneOrMore[Count] | None = None
    maximum: OneOrMore[Count] | None = None
    target_concurrency: OneOrMore[Positive] | None = None
    target_utilisation: OneOrMore[Annotated[float, Field(gt=0, le=1)]] | None = None
    target_queue: OneOrMore[Positive] | None = None
    target_ttft_s: OneOrMore[Positive] | None = None
    percentile: OneOrMore[Annotated[float, Field(gt=0, le=100)]] | None = None
    every_s: OneOrMore[Annotated[Positive, Field(ge=0.01)]] | None = None
    window_s: OneOrMore[Positive] | None = None
    tolerance: OneOrMore[Annotated[NonNegative, Field(le=1)]] | None = None
    scale_up: OneOrMore[ScaleRule] | None = None
    scale_down: OneOrMore[ScaleRule] | None = None

    @model_validator(mode="after")
    def _every_combination_is_one(self) -> AutoscalingRule:
        for name, given in self._lists().items():
            if any(one in given[:k] for k, one in enumerate(given)):
                raise ValueError(f"each of {name} once")
        if self.is_hourly:
            self._check_hourly()
        elif math.prod(len(given) for given in self._lists().values()) > MOST_CANDIDATES:
            raise ValueError(f"at most {MOST_CANDIDATES:,} combinations of a rule's parameters")
        else:
            self.combinations()
        return self

    def _check_hourly(self) -> None:
        others = [name for name in self._lists() if name not in ("minimum", "maximum")]
        if others:
            beside = "exactly one of " + ", ".join(RULES) if others[0] in RULES else f"no {others[0]} beside schedule"
            raise ValueError(beside)
        for name, given in self._lists().items():
            if len(given) > 1:
                raise ValueError(f"one {name} beside schedule: {HOURLY}, and no list")
        low, high = self.hourly_bounds
        if high is not None and low > high:
            raise ValueError(f"minimum {low} must be at most maximum {high}")

    def _lists(self) -> Mapping[str, list[Any]]:
        given = {name: getattr(self, name) for name in type(self).model_fields if name != "schedule"}
        return {name: one for name, one in given.items() if one is not None}

    @property
    def is_hourly(self) -> bool:
        """Whether the planner makes a schedule."""
        return self.schedule == HOURLY

    @property
    def hourly_bounds(self) -> tuple[int, int | None]:
        """Fewest and most replicas of a schedule that the planner makes."""
        return (self.minimum or [1])[0], None if self.maximum is None else self.maximum[0]

    def combinations(self) -> list[Autoscaling]:
        """Every one of its parameters; none of a schedule that is yet to be made.

        Raises:
            ValueError: one that cannot be.
        """
        if self.is_hourly:
            return []
        lists = self._lists()
        try:
            return [
                Autoscaling(schedule=self.schedule, **dict(zip(lists, values, strict=True)))  # type: ignore[arg-type]
                for values in product(*lists.values())
            ]
        except ValidationError as error:
            raise ValueError(in_our_words(error.errors()[0])) from None
