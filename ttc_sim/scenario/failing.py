"""What may go wrong at a server, and what its clients do then: errors, outages, slow periods; retries."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ttc_sim.scenario.base import Model, NonNegative, Positive, Share, errors_at

MOST_RETRIES = 100

Reason = Literal["rate_limit", "queue_full", "error", "timeout"]


class Retry(Model):
    """What a client does when a call is not answered: wait ``base_s * 2**attempt``, at most ``max_s``, times a jitter of 0.5 to
    1.5, and ask again.

    Args:
        retries: how often one call is repeated at most, whatever the reasons.
        base_s: seconds of the first wait; max_s: most seconds of a wait.
        on: why it is: ``rate_limit``, the endpoint's 429; ``error``, it broke or the endpoint is down; ``timeout``, nothing came
            within ``timeout_s``, which then counts from the beginning of each attempt. 429s and errors if left out.
    """

    retries: Annotated[int, Field(ge=0, le=MOST_RETRIES)] = 6
    base_s: Positive = 1.0
    max_s: Positive = 60.0
    on: list[Literal["rate_limit", "error", "timeout"]] | None = None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why a call is repeated."""
        return ("rate_limit", "error") if self.on is None else tuple(self.on)


class PoolRetry(Model):
    """The same for a GPU pool, whose clients ask once unless this is given.

    Args:
        retries, base_s, max_s: as of an endpoint.
        on: why a request is sent again: ``queue_full``, the pool turned it away; ``error``, the replica that had it is gone;
            ``timeout``, as of an endpoint. The first two if left out.
    """

    retries: Annotated[int, Field(ge=0, le=MOST_RETRIES)] = 6
    base_s: Positive = 1.0
    max_s: Positive = 60.0
    on: list[Literal["queue_full", "error", "timeout"]] | None = None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why a request is sent again."""
        return ("queue_full", "error") if self.on is None else tuple(self.on)


class Outage(Model):
    """A stretch of time in which an endpoint is down.

    Args:
        from_s: on the run's clock, 0 at its beginning; duration_s: how long.
    """

    from_s: NonNegative
    duration_s: Positive

    @property
    def until_s(self) -> float:
        """When the endpoint is there again."""
        return self.from_s + self.duration_s


class Slow(Model):
    """A stretch of time in which an endpoint is slow.

    Args:
        from_s, until_s: on the run's clock; factor: of both times of the calls that are accepted in it.
    """

    from_s: NonNegative
    until_s: Positive
    factor: Positive

    @model_validator(mode="after")
    def _goes_forward(self) -> Slow:
        if self.until_s <= self.from_s:
            raise errors_at({"until_s": ("value_error", self.until_s, f"more than from_s ({self.from_s:g})")})
        return self


class Errors(Model):
    """What may go wrong at an endpoint.

    Args:
        rate: share of the accepted calls that end in an error; after: when. ``at_once``, nothing is generated or billed;
            ``first_token``, as soon as that has come; ``midway``, in the middle of the time that it would have taken. What had
            come by then is billed.
        outages: in which every call is answered by an error at once, and calls in progress break as they begin; in order.
        mtbf_h, mttr_h: or draw them: mean hours from the end of an outage (or the beginning of the run) to the next, and mean hours
            that one lasts, both exponential.
        slow: when calls take longer; in order.
    """

    rate: Share | None = None
    after: Literal["at_once", "first_token", "midway"] | None = None
    outages: Annotated[list[Outage], Field(min_length=1)] | None = None
    mtbf_h: Positive | None = None
    mttr_h: Positive | None = None
    slow: Annotated[list[Slow], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> Errors:
        if self.rate is None and self.outages is None and self.mtbf_h is None and self.mttr_h is None and not self.slow:
            raise ValueError("at least one of rate, outages, mtbf_h with mttr_h, and slow")
        if self.after is not None and not self.rate:
            raise errors_at({"after": ("value_error", self.after, "a rate above 0 beside it")})
        for one, other in (("mtbf_h", "mttr_h"), ("mttr_h", "mtbf_h")):
            if getattr(self, one) is not None and getattr(self, other) is None:
                raise errors_at({other: ("value_error", None, f"to be given beside {one}")})
        if self.outages is not None and self.mtbf_h is not None:
            raise errors_at({"outages": ("value_error", "given", "none beside mtbf_h, which draws them")})
        _in_order("outages", [(one.from_s, one.until_s) for one in self.outages or ()])
        _in_order("slow", [(one.from_s, one.until_s) for one in self.slow or ()])
        return self

    @property
    def breaks(self) -> bool:
        """Whether an accepted call may break."""
        return bool(self.rate) or self.outages is not None or self.mtbf_h is not None


def _in_order(name: str, stretches: list[tuple[float, float]]) -> None:
    for k, ((_, until_s), (from_s, _)) in enumerate(pairwise(stretches), start=1):
        if from_s < until_s:
            expected = f"at least {until_s:g}, when the one before it ends: they are in order and do not overlap"
            raise errors_at({f"{name}.{k}.from_s": ("value_error", from_s, expected)})


def check_timeouts(retry: Retry | PoolRetry | None, timeout_s: float | None, deadline_s: float | None) -> None:
    """Refuse retries after timeouts that never come, and a deadline that leaves no time for one attempt.

    Raises:
        ValidationError: either.
    """
    if retry is not None and "timeout" in retry.reasons and timeout_s is None:
        raise errors_at({"retry.on": ("value_error", "timeout", "a timeout_s beside it: nobody gives up without one")})
    if deadline_s is not None and timeout_s is not None and deadline_s < timeout_s:
        expected = f"at least timeout_s ({timeout_s:g}), which one attempt may take"
        raise errors_at({"deadline_s": ("value_error", deadline_s, expected)})
