"""US dollars per token: from the maintained ``genai-prices`` table, from the scenario, or both."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.scenario import Api, Price, Scenario

_MILLION = 1_000_000


KINDS = ("input", "cached_input", "reasoning", "output")
_CHEAPEST = {"input": 0.003, "output": 0.01}
"""US dollars per million tokens: no model of genai-prices 0.2.3 that generates text costs less, unless it is free."""
_BESIDE = (("cache_write_mtok", "tokens written to its cache, at ${}, are billed as others"),)


@dataclass(frozen=True)
class LongPrompts:
    """US dollars per token of each kind for calls whose whole prompt is longer than ``above`` tokens."""

    above: int
    input: float
    cached_input: float
    reasoning: float
    output: float


@dataclass(frozen=True)
class TokenPrices:
    """US dollars per token of each kind, and where they come from.

    ``long_prompts``: other prices of all tokens of a call, by the length of its prompt, in ascending order; the last that
    applies does. ``call``: US dollars of each call, whatever its length. ``caveats``: what of the
    provider's prices no bill here knows of, in words.

    >>> TokenPrices(3e-6, 3e-7, 15e-6, 15e-6, "stated").cost_usd(1000, 0, 2000, 100)
    0.0345
    """

    input: float
    cached_input: float
    reasoning: float
    output: float
    origin: str
    long_prompts: tuple[LongPrompts, ...] = ()
    call: float = 0.0
    caveats: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """US dollars per million tokens, and where they come from.

        >>> TokenPrices(3e-6, 3e-7, 15e-6, 15e-6, "stated").in_words
        '$3 in, $15 out per million tokens (stated)'
        """
        said = _in_words(self)
        said += "".join(
            f"; {_in_words(one)} where the prompt is longer than {one.above:,}" for one in self.long_prompts
        )
        beside = f", and ${1000 * self.call:.6g} per 1,000 calls" if self.call else ""
        line = f"{said} per million tokens{beside} ({self.origin})"
        return "; ".join([line, *self.caveats])

    def as_json(self) -> dict[str, object]:
        """US dollars per million tokens, and where they come from."""
        tiers = [{"prompt_tokens_above": one.above, **_per_million(one)} for one in self.long_prompts]
        of_call = {"usd_per_call": self.call} if self.call else {}
        beside = {"origin": self.origin, "caveats": list(self.caveats)}
        return {**_per_million(self), **of_call, "long_prompts": tiers, **beside}

    def __post_init__(self) -> None:
        for name in (*KINDS, "call"):
            price = getattr(self, name)
            if isinstance(price, bool) or not isinstance(price, Real) or not 0 <= float(price) < math.inf:
                raise InputError(
                    "TokenPrices", name, price, f"US dollars per {'call' if name == 'call' else 'token'}, at least 0"
                )

    def cost_usd(
        self,
        prompt: ArrayLike,
        cached: ArrayLike,
        reasoning: ArrayLike,
        visible: ArrayLike,
        calls: ArrayLike = 1,
    ) -> F64 | float:
        """US dollars of so many prompt tokens (``cached`` of them cached), reasoning and visible tokens.

        Args:
            prompt, cached, reasoning, visible: tokens of all calls together.
            calls: that they are shared out to evenly; what a token costs depends on how long the prompt of one is.
        """
        prompt, cached = np.asarray(prompt, dtype=np.float64), np.asarray(cached, dtype=np.float64)
        each = {kind: self.each(kind, prompt, calls) for kind in KINDS}
        cost = (prompt - cached) * each["input"] + cached * each["cached_input"]
        cost = cost + np.asarray(reasoning) * each["reasoning"] + np.asarray(visible) * each["output"]
        return cost if cost.ndim else float(cost)

    def times(self, factor: float) -> TokenPrices:
        """All of them times a factor."""

        def scaled(one: TokenPrices | LongPrompts) -> dict[str, Any]:
            return {kind: factor * getattr(one, kind) for kind in KINDS}

        long_prompts = tuple(LongPrompts(one.above, **scaled(one)) for one in self.long_prompts)
        origin = f"{self.origin}, times {factor:g}"
        return replace(self, **scaled(self), origin=origin, long_prompts=long_prompts, call=factor * self.call)

    def reasoning_usd(self, prompt: ArrayLike, reasoning: ArrayLike, calls: ArrayLike = 1) -> F64:
        """Of that, what the reasoning tokens cost."""
        return np.asarray(self.each("reasoning", np.asarray(prompt, dtype=np.float64), calls) * np.asarray(reasoning))

    def each(self, kind: str, prompt: F64, calls: ArrayLike) -> F64 | float:
        """US dollars of a token of one kind, by the prompt that it is generated for, whose tokens share what a call costs."""
        price: float | F64 = getattr(self, kind)
        if self.long_prompts:
            prices = np.array([price, *(getattr(one, kind) for one in self.long_prompts)])
            length = prompt / np.asarray(calls)
            price = np.asarray(prices[np.searchsorted([one.above for one in self.long_prompts], length)])
        if self.call and kind in ("input", "cached_input"):
            price = np.asarray(price + np.where(prompt > 0, self.call * np.asarray(calls) / np.maximum(prompt, 1), 0.0))
        return price

    @property
    def free(self) -> bool:
        """Whether no token of any kind, and no call, costs anything."""
        tiers: list[TokenPrices | LongPrompts] = [self, *self.long_prompts]
        return not self.call and not any(getattr(one, kind) for one in tiers for kind in KINDS)

    @property
    def by_call(self) -> bool:
        """Whether what a call costs is not in proportion to its tokens."""
        return bool(self.long_prompts or self.call)


def _per_million(prices: TokenPrices | LongPrompts) -> dict[str, float]:
    return {f"{kind}_usd_per_mtok": float(f"{getattr(prices, kind) * _MILLION:.12g}") for kind in KINDS}


def _in_words(prices: TokenPrices | LongPrompts) -> str:
    """Reasoning where it has a price of its own."""
    said = {kind: f"${getattr(prices, kind) * _MILLION:.6g}" for kind in KINDS}
    thinking = f", {said['reasoning']} thinking" if prices.reasoning != prices.output else ""
    return f"{said['input']} in{thinking}, {said['output']} out"


def price_of(scenario: Scenario, name: str) -> TokenPrices | None:
    """What the tokens of a deployment cost; ``None`` of a pool, which is paid by the hour.

    Raises:
        InputError: as :func:`resolve_price`.
    """
    item = scenario.deployments[name]
    if not isinstance(item, Api):
        return None
    return resolve_price(item.price, where=scenario.path, field=f"deployments.{name}.price")


def resolve_price(price: Price, *, where: str, field: str) -> TokenPrices:
    """Look the model up in the price table, for the day the scenario names, and put the scenario's own figures on top.

    Reasoning tokens are billed as output, cached input as input, unless the table or the scenario says otherwise.

    Raises:
        InputError: a provider or model that the table lacks, a day it cannot read, or no price at all.
    """
    table: dict[str, _Rate] = {}
    origin = "stated in the scenario"
    caveats: tuple[str, ...] = ()
    if price.provider is not None or price.model is not None:
        if price.provider is None or price.model is None:
            missing = "provider" if price.provider is None else "model"
            raise InputError(where, f"{field}.{missing}", None, "both provider and model, or neither")
        table, origin, caveats = _from_table(price, where, field)
    stated = {
        "input": price.input_usd_per_mtok,
        "cached_input": price.cached_input_usd_per_mtok,
        "reasoning": price.reasoning_usd_per_mtok,
        "output": price.output_usd_per_mtok,
    }
    of_calls = {"call": table.pop("call", _Rate(0.0)).base}
    if price.usd_per_call is not None:
        of_calls = {"call": price.usd_per_call}
    merged = {**table, **{kind: _Rate(value) for kind, value in stated.items() if value is not None}}
    for kind, listed in _CHEAPEST.items():
        if kind not in merged:
            raise InputError(
                where, f"{field}.{kind}_usd_per_mtok", None, "a price, or provider and model to look it up"
            )
        usd = stated[kind]
        if usd is not None and 0 < usd < listed:
            expected = f"US dollars per million tokens, at least {listed}, which the cheapest model costs: "
            expected += f"{1000 * usd:.6g} if it is per 1,000 tokens, {1e6 * usd:.6g} if it is per token"
            raise InputError(where, f"{field}.{kind}_usd_per_mtok", usd, expected)
    if all(0 < (stated[kind] or 0) < 10 * listed for kind, listed in _CHEAPEST.items()):
        caveats = ("if these are prices per 1,000 tokens, and not per million, it costs a thousand times as much",)
    if table and any(value is not None for value in (*stated.values(), price.usd_per_call)):
        origin += ", partly overridden in the scenario"
    if "cached_input" in merged and merged["cached_input"] != merged["input"]:
        said = f"tokens in its cache, at ${merged['cached_input'].base:.6g}, are billed as others: its cache is not modelled"
        caveats = (*caveats, said)
    merged = {"cached_input": merged["input"], "reasoning": merged["output"], **merged}
    starts = sorted({start for rate in merged.values() for start, _ in rate.above})
    found = TokenPrices(
        **{kind: merged[kind].base / _MILLION for kind in KINDS},
        origin=origin,
        long_prompts=tuple(
            LongPrompts(start, **{kind: merged[kind].at(start) / _MILLION for kind in KINDS}) for start in starts
        ),
        **of_calls,
        caveats=caveats,
    )
    return found if price.factor == 1 else found.times(price.factor)


@dataclass(frozen=True)
class _Rate:
    """US dollars per million tokens, and other ones for prompts longer than so many tokens."""

    base: float
    above: tuple[tuple[int, float], ...] = ()

    def at(self, start: int) -> float:
        return next((price for one, price in reversed(self.above) if one <= start), self.base)


def _from_table(price: Price, where: str, field: str) -> tuple[dict[str, _Rate], str, tuple[str, ...]]:
    # The table takes a third of a second to import, and scenarios with prices of their own do not need it.
    import genai_prices
    from genai_prices.data import providers
    from genai_prices.types import TimeOfDateConstraint

    try:
        day = datetime.date.fromisoformat(price.on) if price.on is not None else None
    except ValueError:
        raise InputError(where, f"{field}.on", price.on, "a day as YYYY-MM-DD") from None
    provider = next((item for item in providers if item.id == price.provider), None)
    if provider is None:
        raise InputError(
            where, f"{field}.provider", price.provider, nearest(str(price.provider), [p.id for p in providers])
        )
    if day is None:
        raise InputError(where, f"{field}.on", None, "the day whose prices hold, as YYYY-MM-DD: prices change")
    noon = datetime.datetime.combine(day, datetime.time(12), tzinfo=datetime.UTC)
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(input_tokens=_MILLION, output_tokens=_MILLION),
            model_ref=str(price.model),
            provider_id=str(price.provider),
            genai_request_timestamp=noon,
        )
    except LookupError:
        known = [model.id for model in provider.models]
        raise InputError(where, f"{field}.model", price.model, nearest(str(price.model), known)) from None
    rates = found.model_price
    table = {
        kind: rate
        for kind, given in (
            ("input", rates.input_mtok),
            ("cached_input", rates.cache_read_mtok),
            ("reasoning", rates.output_reasoning_mtok),
            ("output", rates.output_mtok),
            ("call", rates.requests_kcount),
        )
        if (rate := _rate(given)) is not None
    }
    if "call" in table:
        table["call"] = _Rate(table["call"].base / 1000)
    version = getattr(genai_prices, "__version__", "?")
    origin = f"genai-prices {version}: {found.provider.id}/{found.model.id} on {price.on}"
    caveats = []
    if isinstance(found.model.prices, list) and any(
        isinstance(one.constraint, TimeOfDateConstraint) for one in found.model.prices
    ):
        origin += ", at 12:00 UTC"
        caveats.append("at other hours of the day it costs something else")
    caveats += [words.format(f"{rate.base:.6g}") for key, words in _BESIDE if (rate := _rate(getattr(rates, key)))]
    return table, origin, tuple(caveats)


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


def _rate(given: object) -> _Rate | None:
    """A rate of the table, where it has tiers by prompt length with them."""
    base = getattr(given, "base", given)
    if not isinstance(base, (Decimal, int, float)):
        return None
    tiers = sorted((int(tier.start), float(tier.price)) for tier in getattr(given, "tiers", ()))
    return _Rate(float(base), tuple(tiers))
