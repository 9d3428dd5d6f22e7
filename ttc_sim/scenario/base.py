"""What all parts of a scenario are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ttc_sim.base.limits import LEAST_RATE, MOST_RATE

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def _seen(rate_per_s: float) -> float:
    if not LEAST_RATE <= rate_per_s <= MOST_RATE:
        raise ValueError(f"from {LEAST_RATE:g} to {MOST_RATE:g} a second")
    return rate_per_s


Rate = Annotated[Positive, AfterValidator(_seen)]
"""Requests per second."""


class Model(BaseModel):
    """Base of all parts of a scenario: unknown keys and values of the wrong type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
