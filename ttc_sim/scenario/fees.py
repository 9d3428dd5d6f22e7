"""What an endpoint costs for being there: a subscription, reserved capacity, provisioned throughput."""

from __future__ import annotations

from typing import Protocol

MONTH_DAYS = 30  # as everywhere here
FEE_HOURS = {"usd_per_hour": 1.0, "usd_per_day": 24.0, "usd_per_month": 24.0 * MONTH_DAYS}
"""Hours that a fee is paid for, by its key."""


class HasFee(Protocol):
    """What may have a fixed fee, said in one of three ways."""

    @property
    def usd_per_hour(self) -> float | None: ...  # noqa: D102
    @property
    def usd_per_day(self) -> float | None: ...  # noqa: D102
    @property
    def usd_per_month(self) -> float | None: ...  # noqa: D102


def fees_of(item: HasFee) -> dict[str, float]:
    """Those given, by key."""
    given = {"usd_per_hour": item.usd_per_hour, "usd_per_day": item.usd_per_day, "usd_per_month": item.usd_per_month}
    return {key: usd for key, usd in given.items() if usd is not None}


def check_fee(item: HasFee) -> None:
    """Refuse a fee that is said twice.

    Raises:
        ValueError: more than one key of a fee.
    """
    given = list(fees_of(item))
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} to exclude each other: a fee is said once")


def fee_usd_per_hour(item: HasFee) -> float:
    """The fee, US dollars an hour; 0 without any. A month has 30 days."""
    return sum(usd / FEE_HOURS[key] for key, usd in fees_of(item).items())
