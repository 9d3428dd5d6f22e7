"""US dollars per token: from the maintained ``genai-prices`` table, from the scenario, or both."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.scenario import Price

_MILLION = 1_000_000


@dataclass(frozen=True)
class TokenPrices:
    """US dollars per token of each kind, and where they come from.

    >>> TokenPrices(3e-6, 3e-7, 15e-6, 15e-6, "stated").cost_usd(1000, 0, 2000, 100)
    0.0345
    """

    input: float
    cached_input: float
    reasoning: float
    output: float
    origin: str

    def __post_init__(self) -> None:
        for name in ("input", "cached_input", "reasoning", "output"):
            price = getattr(self, name)
            if isinstance(price, bool) or not isinstance(price, Real) or not 0 <= float(price) < math.inf:
                raise InputError("TokenPrices", name, price, "US dollars per token, at least 0")

    def cost_usd(self, prompt: ArrayLike, cached: ArrayLike, reasoning: ArrayLike, visible: ArrayLike) -> F64 | float:
        """US dollars of calls with so many prompt tokens (``cached`` of them cached), reasoning and visible tokens."""
        prompt, cached = np.asarray(prompt, dtype=np.float64), np.asarray(cached, dtype=np.float64)
        cost = (prompt - cached) * self.input + cached * self.cached_input
        cost = cost + np.asarray(reasoning) * self.reasoning + np.asarray(visible) * self.output
        return cost if cost.ndim else float(cost)


def resolve_price(price: Price, *, where: str, field: str) -> TokenPrices:
    """Look the model up in the price table, for the day the scenario names, and put the scenario's own figures on top.

    Reasoning tokens are billed as output, cached input as input, unless the table or the scenario says otherwise.

    Raises:
        InputError: a provider or model that the table lacks, a day it cannot read, or no price at all.
    """
    table: dict[str, float | None] = {}
    origin = "stated in the scenario"
    if price.provider is not None or price.model is not None:
        if price.provider is None or price.model is None:
            missing = "provider" if price.provider is None else "model"
            raise InputError(where, f"{field}.{missing}", None, "both provider and model, or neither")
        table, origin = _from_table(price, where, field)
    value = {
        "input": price.input_usd_per_mtok,
        "cached_input": price.cached_input_usd_per_mtok,
        "reasoning": price.reasoning_usd_per_mtok,
        "output": price.output_usd_per_mtok,
    }
    merged = {kind: stated if stated is not None else table.get(kind) for kind, stated in value.items()}
    for kind in ("input", "output"):
        if merged[kind] is None:
            raise InputError(
                where, f"{field}.{kind}_usd_per_mtok", None, "a price, or provider and model to look it up"
            )
    if table and any(stated is not None for stated in value.values()):
        origin += ", partly overridden in the scenario"
    input_price, output = merged["input"] or 0.0, merged["output"] or 0.0
    cached, reasoning = merged["cached_input"], merged["reasoning"]
    return TokenPrices(
        input=input_price / _MILLION,
        cached_input=(input_price if cached is None else cached) / _MILLION,
        reasoning=(output if reasoning is None else reasoning) / _MILLION,
        output=output / _MILLION,
        origin=origin,
    )


def _from_table(price: Price, where: str, field: str) -> tuple[dict[str, float | None], str]:
    # The table takes a third of a second to import, and scenarios with prices of their own do not need it.
    import genai_prices
    from genai_prices.data import providers

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
        "input": _base_rate(rates.input_mtok),
        "cached_input": _base_rate(rates.cache_read_mtok),
        "output": _base_rate(rates.output_mtok),
    }
    version = getattr(genai_prices, "__version__", "?")
    return table, f"genai-prices {version}: {found.provider.id}/{found.model.id} on {price.on}"


def _base_rate(rate: object) -> float | None:
    """The rate itself or, where it has tiers by prompt length, that of the shortest prompts."""
    if rate is None:
        return None
    base = getattr(rate, "base", rate)
    return float(base) if isinstance(base, (Decimal, int, float)) else None
