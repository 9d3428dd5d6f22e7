"""Bills that others have published, with the tokens that they are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from ttc_sim.scenario import ApiCache, Price
from ttc_sim.serving.prices import resolve_price


@dataclass(frozen=True)
class Bill:
    """Tokens as they are reported: read from a cache and written to it beside the rest of the prompt."""

    source: str
    price: dict[str, Any]
    rest: int
    read: int
    written: int
    output: int
    usd: float
    within: float
    calls: int = 1
    hour_long: bool = False


REASONIX = "https://github.com/esengine/DeepSeek-Reasonix/blob/master/benchmarks/real-world-cache/README.md"
SESSION = "https://github.com/rajbos/ai-engineering-fluency/issues/1589"
CLAUDE_COST = "https://docs.rs/crate/claude-cost/0.1.0"
FLASH = {"input_usd_per_mtok": 0.139, "cached_input_usd_per_mtok": 0.028, "output_usd_per_mtok": 0.278}
PRO = {"input_usd_per_mtok": 1.667, "cached_input_usd_per_mtok": 0.139, "output_usd_per_mtok": 3.333}


def claude(model: str, on: str) -> dict[str, Any]:
    return {"provider": "anthropic", "model": model, "on": on}


BILLS = [
    # A day of one user's dashboard, at two prices, as it was and as if nothing had been cached.
    Bill(REASONIX, FLASH, 767_616, 435_033_856, 0, 179_763, 12.34, 0.005, 5000),
    Bill(REASONIX, FLASH, 767_616 + 435_033_856, 0, 0, 179_763, 60.63, 0.005, 5000),
    Bill(REASONIX, PRO, 767_616, 435_033_856, 0, 179_763, 62.35, 0.005, 5000),
    Bill(REASONIX, PRO, 767_616 + 435_033_856, 0, 0, 179_763, 727.08, 0.01, 5000),
    # A session of Claude Code by its own /usage, whose writes are kept for an hour; and as if they were kept for five minutes.
    Bill(SESSION, claude("claude-sonnet-4-6", "2026-07-12"), 352, 286_600, 46_500, 2_100, 0.3978, 0.001, 20, True),
    Bill(SESSION, claude("claude-sonnet-4-6", "2026-07-12"), 9, 240_177, 46_404, 2_086, 0.2774, 0.00005, 20),
    Bill(
        "https://github.com/mikhail-tokarev/greenbelt/pull/11",
        claude("claude-haiku-4-5", "2026-09-12"),
        3_000,
        0,
        0,
        69,
        0.0034,
        0.0001,
    ),
    Bill(CLAUDE_COST, claude("claude-sonnet-4-5", "2026-05-01"), 423, 380, 0, 18, 0.001653, 1e-9),
    Bill(f"{CLAUDE_COST}/source/src/lib.rs", claude("claude-sonnet-4-5", "2026-05-01"), 1_000, 0, 0, 500, 0.0105, 1e-9),
    Bill(
        "https://docs.rs/crate/ccboard-core/0.8.0/source/src/pricing/embedded.rs",
        claude("claude-opus-4-5", "2026-05-01"),
        1_000_000,
        10_000_000,
        1_000_000,
        0,
        16.25,
        1e-9,
        100,
    ),
]


@pytest.mark.parametrize("bill", BILLS, ids=lambda bill: f"{bill.source.rsplit('/', 3)[-1]} ${bill.usd}")
def test_published_bills(bill: Bill) -> None:
    cache = ApiCache(provider="anthropic-1h" if bill.hour_long else "anthropic")
    prices = resolve_price(Price.model_validate(bill.price), where="test", field="price", cache=cache)
    prompt = bill.rest + bill.read + bill.written
    got = prices.cost_usd(prompt, bill.read, 0, bill.output, bill.calls, written=bill.written)
    assert got == pytest.approx(bill.usd, abs=bill.within)


def test_a_long_prompt_of_three_times_the_length_costs_six_times_as_much() -> None:
    """https://docs.rs/crate/gemini-cost/0.1.0: 300,000 tokens at the price of those above 200,000, beside 100,000."""
    price = Price(provider="google", model="gemini-2.5-pro", on="2026-05-17")
    prices = resolve_price(price, where="test", field="price")
    long, short = (float(prices.cost_usd(tokens, 0, 0, 0)) for tokens in (300_000, 100_000))
    assert long == pytest.approx(6 * short) == pytest.approx(0.75)
