"""Dollars: what was spent, what may have been, and what the requests in flight could come to."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_AMOUNT, MOST_TOKENS
from ttc_sim.collecting.answers import Tokens

if TYPE_CHECKING:
    from ttc_sim.serving.prices import LongPrompts, TokenPrices

TEMPLATE_TOKENS = 512
"""Beyond the prompt's own: the chat template, and a system prompt that it may add."""
_ROUNDING = 1e-12  # of sums of dollars


def prompt_bound(*texts: str | None) -> int:
    """Most tokens that texts can come to in a prompt: a token is a byte at the least.

    >>> prompt_bound("2+2?", None)
    516
    """
    return TEMPLATE_TOKENS + sum(len(text.encode("utf-8", "replace")) for text in texts if text)


def prices_for(
    price: str | None, input_usd_per_mtok: float | None, output_usd_per_mtok: float | None
) -> tuple[TokenPrices | None, int | None]:
    """Prices of today, and the length of context that the price table names, if any.

    Raises:
        InputError: a provider or model that the table lacks, or half a price.
    """
    stated = {"--input-usd-per-mtok": input_usd_per_mtok, "--output-usd-per-mtok": output_usd_per_mtok}
    for name, usd in stated.items():
        if usd is not None and not 0 <= usd <= MOST_AMOUNT:
            raise InputError("collect", name, usd, "US dollars per million tokens, at least 0")
    given = [name for name, usd in stated.items() if usd is not None]
    if price is None:
        if not given:
            return None, None
        if input_usd_per_mtok is None or output_usd_per_mtok is None:
            expected = "both --input-usd-per-mtok and --output-usd-per-mtok, or --price"
            raise InputError("collect", "price", given[0], expected)
        from ttc_sim.serving.prices import TokenPrices

        each = input_usd_per_mtok / 1e6, output_usd_per_mtok / 1e6
        return TokenPrices(each[0], each[0], each[1], each[1], "given"), None
    if given:
        raise InputError("collect", "--price", price, f"either --price or {given[0]}")
    provider, slash, model = price.partition("/")
    if not slash or not provider or not model:
        raise InputError("collect", "--price", price, "PROVIDER/MODEL as genai-prices names them, such as openai/gpt-5")
    from ttc_sim.scenario import Price
    from ttc_sim.serving.prices import resolve_price

    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    looked_up = Price(provider=provider, model=model, on=today)
    return resolve_price(looked_up, where="collect", field="--price"), _context_of(provider, model)


def _context_of(provider: str, model: str) -> int | None:
    from genai_prices.data import providers

    for one in providers:
        found = one.find_model(model) if one.id == provider else None
        window = getattr(found, "context_window", None)
        if window:
            return int(window)
    return None


@dataclass
class Budget:
    """A limit in US dollars that holds whatever is in flight.

    Attributes:
        limit_usd: ``None`` for no limit.
        prices: ``None`` where dollars are not known.
        most_output: tokens that the endpoint generates at the most where no cap is asked for.
        spent_usd: of answers; maybe_usd: of tries that failed after they were sent, at their worst (infinite where a length had no
            limit); reserved_usd: of those in
            flight.
    """

    limit_usd: float | None
    prices: TokenPrices | None
    most_output: int | None
    spent_usd: float = 0.0
    maybe_usd: float = 0.0
    reserved_usd: float = 0.0

    def worst_usd(self, prompt_tokens: int, cap: int | None) -> float:
        """Most that one request can cost; infinite where its length has no limit that is known.

        Args:
            prompt_tokens: at the most.
        """
        if self.prices is None:
            return 0.0
        output = cap if cap is not None else self.most_output
        if output is None:
            return math.inf
        return max(_most_usd(one, prompt_tokens, output) for one in self.prices.at_all_times)

    def cost_usd(self, tokens: Tokens) -> float:
        """What an answer cost."""
        if self.prices is None:
            return 0.0
        return float(self.prices.cost_usd(tokens.prompt, tokens.cached, tokens.reasoning, tokens.visible))

    @property
    def held_usd(self) -> float:
        """Everything that is, may be, or can still become spent."""
        return self.spent_usd + self.maybe_usd + self.reserved_usd

    def fits(self, usd: float) -> bool:
        """Whether a request that can cost so much would keep within the limit."""
        return self.limit_usd is None or self.held_usd + usd <= self.limit_usd * (1 + _ROUNDING)

    def reserve(self, usd: float) -> None:
        """Hold it until :meth:`release`."""
        self.reserved_usd += 0.0 if math.isinf(usd) else usd

    def release(self, usd: float, *, spent: float = 0.0, maybe: float = 0.0) -> None:
        """End a request: what was reserved for it, what it cost, what it may have cost."""
        self.reserved_usd = max(self.reserved_usd - (0.0 if math.isinf(usd) else usd), 0.0)
        self.spent_usd += spent
        self.maybe_usd += maybe


def _most_usd(prices: TokenPrices, prompt_tokens: int, output: int) -> float:
    # What a token costs may depend on how long the prompt turns out to be.
    tiers: list[TokenPrices | LongPrompts] = [prices]
    tiers += [one for one in prices.long_prompts if one.above < prompt_tokens]
    dearest_in = max(float(getattr(one, kind)) for one in tiers for kind in ("input", "cached_input", "cache_write"))
    dearest_out = max(max(one.reasoning, one.output) for one in tiers)
    return max(prompt_tokens * dearest_in + output * dearest_out + prices.call, prices.least)


def checked_limit(budget_usd: float | None, no_budget: bool, *, priced: bool) -> float | None:
    """The limit in dollars; ``None`` if there shall be none.

    Raises:
        InputError: neither a limit nor word that there is none, both, no price to keep it by, or no dollars at all.
    """
    if budget_usd is None:
        if not no_budget:
            expected = "--budget-usd X, or --no-budget for an endpoint that costs nothing"
            raise InputError("collect", "budget", None, expected)
        return None
    if no_budget:
        raise InputError("collect", "--budget-usd", budget_usd, "either a budget or --no-budget")
    if not 0 < budget_usd <= MOST_AMOUNT:
        raise InputError("collect", "--budget-usd", budget_usd, "US dollars above 0")
    if not priced:
        expected = "a price to keep it by: --price PROVIDER/MODEL, or --input-usd-per-mtok and --output-usd-per-mtok"
        raise InputError("collect", "--budget-usd", budget_usd, expected)
    return budget_usd


def most_output_of(given: int | None, context: int | None) -> int | None:
    """Most tokens of an answer without a cap: as given, else as long as the model's context is."""
    if given is not None and not 0 < given <= MOST_TOKENS:
        raise InputError("collect", "--endpoint-limit-tokens", given, f"tokens, from 1 to {MOST_TOKENS:,}")
    return given if given is not None else context


__all__ = ["TEMPLATE_TOKENS", "Budget", "checked_limit", "most_output_of", "prices_for", "prompt_bound"]
