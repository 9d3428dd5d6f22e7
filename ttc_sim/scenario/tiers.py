"""Tiers of an endpoint and numbers of calls or sequences at once, to choose from: what of a deployment has a limit and a price.

A tier is whatever an endpoint's limits are sold by: a usage tier, reserved capacity, units of provisioned throughput.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.limits import MOST_REQUESTS
from ttc_sim.scenario.base import Model, NonNegative, Positive
from ttc_sim.scenario.deployments import PER_MINUTE, Api, GpuPool, Latency
from ttc_sim.scenario.fees import FEE_HOURS, check_fee, fee_usd_per_hour

MOST_CONFIGURATIONS = 1000
"""Combinations of tiers and concurrency, of all deployments together."""
LIMITS = (*PER_MINUTE, "concurrency")
TIMES = ("first_token", "per_token")


class Tier(Model):
    """One tier of an endpoint: its limits and what it costs.

    A key that any tier of the endpoint gives is decided by the tiers: one that leaves it out has no such limit, no fee, or a factor
    of 1. A key that none gives stays the endpoint's own.

    Args:
        name: of the tier.
        requests_per_minute, tokens_per_minute, input_tokens_per_minute, output_tokens_per_minute, concurrency: limits, as of an
            endpoint.
        usd_per_hour, usd_per_day, usd_per_month: its fixed fee, at most one of them; a month has 30 days.
        price_factor: the endpoint's prices times this; 0 where the fee pays for the tokens.
        first_token, per_token: times, as of an endpoint, where the tier is served faster or slower. All tiers have them, or none.
    """

    name: Annotated[str, Field(min_length=1)]
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    input_tokens_per_minute: Positive | None = None
    output_tokens_per_minute: Positive | None = None
    concurrency: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] | None = None
    usd_per_hour: NonNegative | None = None
    usd_per_day: NonNegative | None = None
    usd_per_month: NonNegative | None = None
    price_factor: NonNegative | None = None
    first_token: Latency | None = None
    per_token: Latency | None = None

    @model_validator(mode="after")
    def _one_fee(self) -> Tier:
        check_fee(self)
        return self

    @property
    def hourly_usd(self) -> float:
        """Its fixed fee."""
        return fee_usd_per_hour(self)


def _check_tiers(tiers: list[Tier]) -> list[Tier]:
    for k, one in enumerate(tiers):
        if any(one.name == other.name for other in tiers[:k]):
            raise ValueError(f"each tier once; {one.name} stands there twice")
        same = next((other.name for other in tiers[:k] if _content(other) == _content(one)), None)
        if same is not None:
            raise ValueError(f"tiers that differ: {same} and {one.name} are the same but for their names")
    for key in TIMES:
        without = [one.name for one in tiers if getattr(one, key) is None]
        if without and len(without) < len(tiers):
            raise ValueError(f"{key} of every tier or of none: {without[0]} has none")
    return tiers


def _content(tier: Tier) -> tuple[object, ...]:
    kept = [getattr(tier, key) for key in (*LIMITS, *TIMES)]
    return (*kept, tier.hourly_usd, 1.0 if tier.price_factor is None else tier.price_factor)


def _check_numbers(numbers: list[int]) -> list[int]:
    twice = next((one for k, one in enumerate(numbers) if one in numbers[:k]), None)
    if twice is not None:
        raise ValueError(f"each number once; {twice} stands there twice")
    return numbers


Tiers = Annotated[list[Tier], Field(min_length=1), AfterValidator(_check_tiers)]
Numbers = Annotated[
    list[Annotated[int, Field(ge=1, le=MOST_REQUESTS)]], Field(min_length=1), AfterValidator(_check_numbers)
]


def keys_of_tier(tier: Tier, tiers: Sequence[Tier], own: Api) -> dict[str, Any]:
    """What the tier makes of an endpoint: the keys that it decides, with their values."""
    fees = tuple(FEE_HOURS)
    keys: dict[str, Any] = {}
    for group in (*((limit,) for limit in LIMITS), fees):
        if any(getattr(one, key) is not None for one in tiers for key in group):
            keys |= {key: getattr(tier, key) for key in group}
    keys |= {key: given for key in TIMES if (given := getattr(tier, key)) is not None}
    if any(one.price_factor is not None for one in tiers):
        factor = 1.0 if tier.price_factor is None else tier.price_factor
        keys["price"] = own.price.model_copy(update={"factor": factor})
    return keys


def concurrency_key(item: Api | GpuPool) -> str:
    """The key that ``search.concurrency`` chooses: calls at once of an endpoint, sequences in a batch of a pool's replica."""
    return "max_num_seqs" if isinstance(item, GpuPool) else "concurrency"


def tier_of(item: Api, tiers: Sequence[Tier]) -> Tier | None:
    """The tier that an endpoint has, by its keys; ``None`` if it is none of them."""
    return next(
        (
            one
            for one in tiers
            if all(getattr(item, key) == value for key, value in keys_of_tier(one, tiers, item).items())
        ),
        None,
    )


def chosen_of(
    tiers: Mapping[str, Sequence[Tier]],
    concurrency: Mapping[str, Sequence[int]],
    deployments: Mapping[str, Api | GpuPool],
) -> dict[str, dict[str, Any]]:
    """By deployment that has any to choose from: the name of its ``tier``, ``None`` if it is none of them, and its concurrency."""
    found: dict[str, dict[str, Any]] = {}
    for name, item in deployments.items():
        chosen: dict[str, Any] = {}
        if isinstance(item, Api) and name in tiers:
            tier = tier_of(item, tiers[name])
            chosen["tier"] = None if tier is None else tier.name
        if name in concurrency:
            key = concurrency_key(item)
            chosen[key] = getattr(item, key)
        if chosen:
            found[name] = chosen
    return found


def check_configurations(
    path: str,
    tiers: Mapping[str, Sequence[Tier]],
    concurrency: Mapping[str, Sequence[int]],
    deployments: Mapping[str, Api | GpuPool],
) -> None:
    """See that tiers and concurrency are of deployments that have such limits, and that what is said of limits has any.

    Raises:
        InputError: they are not, or there are too many combinations.
    """
    apis = [name for name, item in deployments.items() if isinstance(item, Api)]
    for name in tiers:
        if name in deployments and name not in apis:
            expected = f"an API: {name} is a GPU pool, whose capacity is bought by search.replicas"
            raise InputError(path, "search.tiers", name, expected)
        if name not in apis:
            raise InputError(path, "search.tiers", name, nearest(name, apis))
    for name, numbers in concurrency.items():
        field = f"search.concurrency.{name}"
        item = deployments.get(name)
        if item is None:
            raise InputError(path, "search.concurrency", name, nearest(name, deployments))
        if isinstance(item, GpuPool):
            if max(numbers) > item.max_num_batched_tokens:
                expected = f"at most the pool's max_num_batched_tokens, {item.max_num_batched_tokens}"
                raise InputError(path, field, max(numbers), expected)
        elif any(one.concurrency is not None for one in tiers.get(name, ())):
            raise InputError(path, field, list(numbers), f"none beside the concurrency of search.tiers.{name}")
        elif item.concurrency is None:
            expected = f"deployments.{name}.concurrency to be given: any number of calls may be in progress there"
            raise InputError(path, field, list(numbers), expected)
    for name in apis:
        _check_limits(path, name, deployments[name], tiers.get(name, ()))
    count = math.prod(len(one) for one in (*tiers.values(), *concurrency.values()))
    if count > MOST_CONFIGURATIONS:
        named = "search.tiers" if tiers else "search.concurrency"
        expected = f"at most {MOST_CONFIGURATIONS:,} combinations of tiers and concurrency"
        raise InputError(path, named, f"{count:,} combinations", expected)


def _check_limits(path: str, name: str, item: Api | GpuPool, tiers: Sequence[Tier]) -> None:
    assert isinstance(item, Api)
    has = {key for key in PER_MINUTE for one in (item, *tiers) if getattr(one, key) is not None}
    if item.limit_window_s != 60 and not has:
        expected = f"none without a limit a minute: {', '.join(PER_MINUTE)}"
        raise InputError(path, f"deployments.{name}.limit_window_s", item.limit_window_s, expected)
    reads = None if item.cache is None else item.cache.reads_count
    if reads is not None and not has & {"tokens_per_minute", "input_tokens_per_minute"}:
        expected = "none without tokens_per_minute or input_tokens_per_minute, which it is about"
        raise InputError(path, f"deployments.{name}.cache.reads_count", reads, expected)
