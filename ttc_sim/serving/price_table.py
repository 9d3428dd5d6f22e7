"""The maintained price table ``genai-prices``: what it has of a model, at which moment."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.scenario import Price
from ttc_sim.scenario.price import day_of

_MILLION = 1_000_000
_KEYS = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "reasoning": "output_reasoning_mtok",
    "output": "output_mtok",
}
PROCESSED = {"batch", "flex", "priority", "fast"}
"""Ways of processing that a scenario may name, of those that the table tells apart."""
_LONG_KEPT = "cache_write_1h_mtok"
_OF_CALLS = "requests_kcount"


@dataclass(frozen=True)
class Rate:
    """US dollars per million tokens, and other ones for prompts longer than so many tokens."""

    base: float
    above: tuple[tuple[int, float], ...] = ()

    def at(self, start: int) -> float:
        """That for prompts longer than so many tokens."""
        return next((price for one, price in reversed(self.above) if one <= start), self.base)


@dataclass(frozen=True)
class Listed:
    """A model of the table.

    Attributes:
        model: its entry; context: by which the table knows another price for the same tokens.
        on: the day whose prices hold; pinned: on all days of a run.
        origin: in words.
    """

    model: Any
    context: dict[str, str]
    on: datetime.date
    pinned: bool
    origin: str

    def rates(self, moment: datetime.datetime, long_kept: bool) -> dict[str, Rate]:
        """By kind, at a moment of UTC; ``long_kept``: whether what is written to its cache is kept for longer than usual."""
        if self.pinned:
            moment = moment.replace(year=self.on.year, month=self.on.month, day=self.on.day)
        prices = self.model.get_prices(moment, self.context or None)
        given = {kind: getattr(prices, key) for kind, key in _KEYS.items()}
        if long_kept and getattr(prices, _LONG_KEPT) is not None:
            given["cache_write"] = getattr(prices, _LONG_KEPT)
        found = {kind: rate for kind, one in given.items() if (rate := _rate(one)) is not None}
        if (of_calls := _rate(getattr(prices, _OF_CALLS))) is not None:
            found["call"] = Rate(of_calls.base / 1000)
        return found

    @property
    def days(self) -> tuple[datetime.date, ...]:
        """On which its prices change in a run."""
        return () if self.pinned else tuple(self._changes)

    @property
    def _changes(self) -> list[datetime.date]:
        from genai_prices.types import StartDateConstraint

        return sorted({one.start_date for one in self._constraints if isinstance(one, StartDateConstraint)})

    @property
    def clock_s(self) -> tuple[float, ...]:
        """Seconds after midnight of UTC at which its prices change each day."""
        from genai_prices.types import TimeOfDateConstraint

        edges = set()
        for one in self._constraints:
            if isinstance(one, TimeOfDateConstraint):
                for edge in (one.start_time, one.end_time):
                    off = edge.utcoffset() or datetime.timedelta()
                    at = datetime.timedelta(hours=edge.hour, minutes=edge.minute, seconds=edge.second) - off
                    edges.add(at.total_seconds() % 86_400)
        return tuple(sorted(edges))

    @property
    def by_hour(self) -> bool:
        """Whether its prices depend on the hour of the day."""
        return bool(self.clock_s)

    @property
    def _constraints(self) -> list[Any]:
        prices = self.model.prices if isinstance(self.model.prices, list) else []
        variants = [one for one in self.model.price_variants or () if self.context and one.when == self.context]
        return [one.constraint for one in (*prices, *variants) if one.constraint is not None]

    def caveats(self, by_clock: bool, overridden: bool) -> tuple[str, ...]:
        """What is not billed as the table has it, in words.

        Args:
            by_clock: whether it is known at what hours and on what days a run is; overridden: whether the scenario's own prices
                hold at all of them.
        """
        if overridden:
            return ()
        said = []
        if self.by_hour and not by_clock:
            said.append("at other hours of the day it costs something else: workload.begins would say when the run is")
        if self.by_hour and by_clock:
            said.append("the table knows no weekdays: these hours hold on all days (price.hours can name weekdays)")
        later = [day for day in self._changes if day > self.on]
        if self.pinned and later:
            said.append(f"from {later[0]} on it costs something else")
        return tuple(said)


def look_up(price: Price, begins: datetime.datetime | None, where: str, field: str) -> Listed:
    """A price's model in the table.

    Raises:
        InputError: a provider or model that it lacks, no day or none that can be read, or a way of processing that it has no price
            for.
    """
    # The table takes a third of a second to import, and scenarios with prices of their own do not need it.
    import genai_prices
    from genai_prices.data import providers

    day = None if price.on is None else day_of(price.on)
    if price.on is not None and day is None:
        raise InputError(where, f"{field}.on", price.on, "a day as YYYY-MM-DD")
    provider = next((item for item in providers if item.id == price.provider), None)
    if provider is None:
        raise InputError(
            where, f"{field}.provider", price.provider, nearest(str(price.provider), [p.id for p in providers])
        )
    if day is None and begins is None:
        raise InputError(where, f"{field}.on", None, "the day whose prices hold, as YYYY-MM-DD: prices change")
    on = begins.date() if day is None and begins is not None else day
    assert on is not None
    noon = datetime.datetime.combine(on, datetime.time(12), tzinfo=datetime.UTC)
    usage = genai_prices.Usage(input_tokens=_MILLION, output_tokens=_MILLION)
    try:
        found = genai_prices.calc_price(
            usage, model_ref=str(price.model), provider_id=str(price.provider), genai_request_timestamp=noon
        )
    except LookupError:
        known = [model.id for model in provider.models]
        raise InputError(where, f"{field}.model", price.model, nearest(str(price.model), known)) from None
    context = _context(price.processing, found.model, noon, where, field)
    version = getattr(genai_prices, "__version__", "?")
    processed = "" if price.processing is None else f", {price.processing}"
    when = f"on {on}" if day is not None else f"from {on} on"
    origin = f"genai-prices {version}: {found.provider.id}/{found.model.id}{processed} {when}"
    return Listed(found.model, context, on, day is not None, origin)


def _context(processing: str | None, model: Any, moment: datetime.datetime, where: str, field: str) -> dict[str, str]:
    """What the table tells another price for the same tokens by."""
    if processing is None:
        return {}
    variants = [one for one in model.price_variants or () if processing in one.when.values()]
    for one in variants:
        if one.constraint is None or one.constraint.active(moment):
            return dict(one.when)
    if variants:
        expected = f"a day on which it has a price: the table has one from {variants[0].constraint.start_date} on"
    else:
        known = sorted({name for one in model.price_variants or () for name in one.when.values()})
        known = [name for name in known if name in PROCESSED]
        expected = " or ".join(known) or "none: the table has no other price of it; factor says a discount"
    raise InputError(where, f"{field}.processing", processing, expected)


def also_processed(provider: str, model: str, day: datetime.date) -> tuple[str, ...]:
    """Ways of processing that the table has another price of a model's tokens for, on a day.

    >>> also_processed("anthropic", "claude-opus-4-8", datetime.date(2026, 11, 24))
    ('batch', 'fast')
    """
    from genai_prices.data import providers

    noon = datetime.datetime.combine(day, datetime.time(12), tzinfo=datetime.UTC)
    entry = next((one.find_model(model) for one in providers if one.id == provider), None)
    variants = [] if entry is None else entry.price_variants or ()
    there = {
        name for one in variants if one.constraint is None or one.constraint.active(noon) for name in one.when.values()
    }
    return tuple(sorted(there & PROCESSED))


def listed_as(model: str) -> tuple[str, str] | None:
    """Provider and model of the price table that a model's name stands for, ``None`` if it has none.

    A name may begin with its provider; otherwise the provider is the one that makes the model, where the table knows it by name.

    >>> listed_as("gpt-4o-2024-08-06"), listed_as("azure/gpt-4o"), listed_as("our-own")
    (('openai', 'gpt-4o-2024-08-06'), ('azure', 'gpt-4o'), None)
    """
    import genai_prices
    from genai_prices.data import providers

    first, slash, rest = model.partition("/")
    named = next((item.id for item in providers if slash and item.id == first.lower()), None)
    usage = genai_prices.Usage(input_tokens=_MILLION, output_tokens=_MILLION)
    try:
        found = genai_prices.calc_price(usage, model_ref=rest if named else model, provider_id=named)
    except LookupError:
        return None
    return found.provider.id, rest if named else model


def named_exactly(name: str) -> tuple[str, str] | None:
    """Provider and model that ``PROVIDER/MODEL`` names in the price table, or a model's name alone; ``None`` if it is none.

    >>> named_exactly("google/gemini-2.5-pro"), named_exactly("gemini")
    (('google', 'gemini-2.5-pro'), None)
    """
    found = listed_as(name)
    return found if found is not None and (found[1] in _models_of(found[0]) or "/" in name) else None


def models_like(name: str) -> list[str]:
    """Every ``PROVIDER/MODEL`` of the price table that has all words of a name in it.

    Raises:
        InputError: none has.
    """
    from genai_prices.data import providers

    known = [f"{provider.id}/{model.id}" for provider in providers for model in provider.models]
    words = name.lower().split()
    found = sorted(one for one in known if all(word in one.lower() for word in words)) if words else []
    if not found:
        raise InputError("prices", "name", name, nearest(name, known))
    return found


def _models_of(provider: str) -> set[str]:
    from genai_prices.data import providers

    return {model.id for one in providers if one.id == provider for model in one.models}


def _rate(given: object) -> Rate | None:
    """A rate of the table, where it has tiers by prompt length with them."""
    base = getattr(given, "base", given)
    if not isinstance(base, (Decimal, int, float)):
        return None
    tiers = sorted((int(tier.start), float(tier.price)) for tier in getattr(given, "tiers", ()))
    return Rate(float(base), tuple(tiers))


__all__ = ["Listed", "Rate", "also_processed", "listed_as", "look_up", "models_like", "named_exactly"]
