"""US dollars per token: from the maintained ``genai-prices`` table, from the scenario, or both."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ttc_sim.base.errors import InputError
from ttc_sim.base.times import DAY_S
from ttc_sim.scenario import Api, ApiCache, Price, PriceChange, PriceHours, Scenario
from ttc_sim.serving.price_table import Listed, Rate, also_processed, listed_as, look_up, models_like, named_exactly
from ttc_sim.serving.token_prices import KINDS, MILLION, LongPrompts, Schedule, TokenPrices, spans

_CHEAPEST = {"input": 0.003, "output": 0.01}
"""US dollars per million tokens: no model of genai-prices 0.2.3 that generates text costs less, unless it is free."""
_LEAST_SHARE = {"cached_input": ("input", 0.002), "cache_write": ("input", 0.05), "reasoning": ("output", 0.01)}
"""Of another price: no provider there gives more of a discount on such tokens."""
_NOON_S = 12 * 3600.0
_SHORT_S = 300.0
"""How long a cache keeps what is written at the lower price, where a provider has two (Anthropic)."""


def price_of(scenario: Scenario, name: str, price: Price | None = None) -> TokenPrices | None:
    """What the tokens of a deployment cost; ``None`` of a pool, which is paid by the hour.

    Args:
        price: instead of its own.

    Raises:
        InputError: as :func:`resolve_price`.
    """
    item = scenario.deployments[name]
    if not isinstance(item, Api):
        return None
    found = resolve_price(
        item.price if price is None else price,
        where=scenario.path,
        field=f"deployments.{name}.price",
        begins=scenario.workload.begins_utc,
        cache=item.cache,
    )
    if item.cache is None and any(one.cached_input != one.input for one in found.at_all_times):
        said = f"none of its prompt tokens are found in a cache: deployments.{name}.cache would say what it keeps"
        found = replace(found, caveats=(*found.caveats, said))
    return found


def resolve_price(
    price: Price,
    *,
    where: str,
    field: str,
    begins: datetime.datetime | None = None,
    cache: ApiCache | None = None,
) -> TokenPrices:
    """Look the model up in the price table, for the days that the scenario names, and put the scenario's own figures on top.

    Reasoning tokens are billed as output, tokens that a cache holds or is made to keep as input, unless the table or the scenario
    says otherwise. What the scenario states holds at any length of a prompt, hour and day, unless its ``hours`` and ``changes`` say
    otherwise.

    Args:
        begins: moment of UTC at which the run's clock stands at 0. Without it a price of the table that depends on the hour is
            that of noon.
        cache: what the deployment keeps of prompts, whose writes may cost more if they are kept for long.

    Raises:
        InputError: a provider or model that the table lacks, a day it cannot read, hours or changes without a clock, or no price at
            all.
    """
    table = None
    if price.provider is not None or price.model is not None:
        if price.provider is None or price.model is None:
            missing = "provider" if price.provider is None else "model"
            raise InputError(where, f"{field}.{missing}", None, "both provider and model, or neither")
        table = look_up(price, begins, where, field)
    for key, given in (("hours", price.hours), ("changes", price.changes)):
        if given is not None and begins is None:
            expected = f"the moment at which the run begins, such as '2026-11-24 08:00': {field}.{key} depend on it"
            raise InputError(where, "workload.begins", None, expected)
    _check_units(price, where, field)
    long_kept = cache is not None and (
        cache.provider == "anthropic-1h" if cache.ttl_s is None else cache.ttl_s > _SHORT_S
    )
    origin = "stated in the scenario" if table is None else table.origin
    if table is not None and (price.stated or price.hours or price.changes):
        origin += ", partly overridden in the scenario"
    schedule = None
    if begins is None:
        noon = datetime.date.max if table is None else table.on, 0, _NOON_S
        found = _at(price, table, noon, long_kept, where, field)
    else:
        second = (begins - begins.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()
        found = _at(price, table, (begins.date(), begins.weekday(), second), long_kept, where, field)
        schedule = _schedule(price, table, begins, long_kept, where, field)
    caveats: tuple[str, ...] = ()
    stated = price.stated
    if all(0 < stated.get(kind, 0.0) < 10 * listed for kind, listed in _CHEAPEST.items()):
        caveats = ("if these are prices per 1,000 tokens, and not per million, it costs a thousand times as much",)
    if table is not None:
        caveats = (*caveats, *table.caveats(begins is not None, {"input", "output"} <= set(stated)))
        if begins is None and table.by_hour:
            origin += ", at 12:00 UTC"
    origin += "" if price.factor == 1 else f", times {price.factor:g}"
    return replace(found, origin=origin, caveats=caveats, schedule=schedule)


def _schedule(
    price: Price, table: Listed | None, begins: datetime.datetime, long_kept: bool, where: str, field: str
) -> Schedule | None:
    """Prices of all hours and days from the beginning on; ``None`` if they are the same."""
    first = begins.date()
    days = {one.day for one in price.changes or ()} | (set() if table is None else set(table.days))
    seconds = {0.0} | (set() if table is None else set(table.clock_s))
    seconds |= {edge for one in price.hours or () for edge in (one.from_s, one.until_s)}
    weekly = any(one.weekdays is not None for one in price.hours or ())
    later = tuple(sorted(day for day in days if day > first))
    of_day = sorted(second for second in seconds if second < DAY_S)
    prices: list[TokenPrices] = []
    which = []
    for day in (first, *later):
        row = []
        for weekday in range(7 if weekly else 1):
            for second in of_day:
                one = _at(price, table, (day, weekday, second), long_kept, where, field)
                if one not in prices:
                    prices.append(one)
                row.append(prices.index(one))
        which.append(tuple(row))
    if len(prices) == 1:
        return None
    clock_s = tuple(DAY_S * weekday + second for weekday in range(7 if weekly else 1) for second in of_day)
    shares = tuple(float(k == 0) for k in range(len(prices)))
    found = Schedule(begins, later, clock_s, tuple(which), tuple(prices), shares, weekly)
    return found.on_average_at(np.zeros(1))


def _at(
    price: Price,
    table: Listed | None,
    at: tuple[datetime.date, int, float],
    long_kept: bool,
    where: str,
    field: str,
) -> TokenPrices:
    """Prices at a moment: on a day, of a weekday, so many seconds after midnight."""
    day, weekday, second = at
    layers: list[Price | PriceChange | PriceHours] = [price]
    layers += [one for one in price.changes or () if one.day <= day][-1:]
    layers += [one for one in price.hours or () if one.hold_at(weekday, second)][-1:]
    moment = datetime.datetime.combine(day, datetime.time(), tzinfo=datetime.UTC) + datetime.timedelta(seconds=second)
    rates: dict[str, Rate] = {} if table is None else table.rates(moment, long_kept)
    factor = 1.0
    for layer in layers:
        rates |= {kind: Rate(usd) for kind, usd in layer.stated.items()}
        factor *= layer.factor
    for kind in _CHEAPEST:
        if kind not in rates:
            raise InputError(
                where, f"{field}.{kind}_usd_per_mtok", None, "a price, or provider and model to look it up"
            )
    rates = {"cached_input": rates["input"], "cache_write": rates["input"], "reasoning": rates["output"], **rates}
    starts = sorted({start for kind in KINDS for start, _ in rates[kind].above})
    per_token: dict[str, Any] = {kind: factor * (rates[kind].base / MILLION) for kind in KINDS}
    tiers = tuple(
        LongPrompts(start, **{kind: factor * (rates[kind].at(start) / MILLION) for kind in KINDS}) for start in starts
    )
    call, least = (factor * rates[kind].base if kind in rates else 0.0 for kind in ("call", "least"))
    return TokenPrices(origin="", long_prompts=tiers, call=call, least=least, **per_token)


def _check_units(price: Price, where: str, field: str) -> None:
    """Refuse prices that are not per million tokens by all that is known of prices.

    Raises:
        InputError: such a price.
    """
    layers: list[tuple[str, Mapping[str, float]]] = [(field, price.stated)]
    for key, given in (("changes", price.changes), ("hours", price.hours)):
        layers += [(f"{field}.{key}.{k}", {**price.stated, **one.stated}) for k, one in enumerate(given or ())]
    for at, stated in layers:
        for kind, listed in _CHEAPEST.items():
            usd = stated.get(kind)
            if usd is not None and 0 < usd < listed:
                expected = f"US dollars per million tokens, at least {listed}, which the cheapest model costs: "
                expected += _other_units(usd)
                raise InputError(where, f"{at}.{kind}_usd_per_mtok", usd, expected)
        for kind, (other, share) in _LEAST_SHARE.items():
            usd, of = stated.get(kind), stated.get(other)
            if usd is not None and of is not None and 0 < usd < share * of:
                expected = f"US dollars per million tokens, at least {share:g} times those of {other} ({of:g}): "
                raise InputError(where, f"{at}.{kind}_usd_per_mtok", usd, expected + _other_units(usd))


def _other_units(usd: float) -> str:
    return f"{1000 * usd:.6g} if it is per 1,000 tokens, {1e6 * usd:.6g} if it is per token"


__all__ = [
    "KINDS",
    "LongPrompts",
    "Schedule",
    "TokenPrices",
    "also_processed",
    "listed_as",
    "models_like",
    "named_exactly",
    "price_of",
    "resolve_price",
    "spans",
]
