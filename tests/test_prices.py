"""Prices that depend on the length of the prompt, beside the price table's own reckoning."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import genai_prices
import numpy as np
import polars as pl
import pytest

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.scenario import Price, scenario_from_dict
from ttc_sim.serving.prices import TokenPrices, resolve_price
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.result import simulate

DAY = "2026-11-24"
MODELS = [("google", "gemini-2.5-pro"), ("openrouter", "qwen/qwen3-coder-flash"), ("anthropic", "claude-sonnet-4-5")]


def prices_of(provider: str, model: str, **stated: Any) -> TokenPrices:
    return resolve_price(Price(provider=provider, model=model, on=DAY, **stated), where="test", field="price")


@pytest.mark.parametrize(("provider", "model"), [*MODELS, ("openai", "gpt-5")])
def test_a_call_costs_what_the_table_says_at_any_length(provider: str, model: str) -> None:
    prices = prices_of(provider, model)
    assert bool(prices.long_prompts) == (model != "gpt-5")
    edges = [one.above for one in prices.long_prompts]
    prompt = np.array([1, 1000, 10**6, *edges, *(edge + 1 for edge in edges)])
    cached, hidden, shown = prompt // 3, prompt // 100 + 7, prompt // 50 + 1
    got = prices.cost_usd(prompt, cached, hidden, shown)
    noon = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
    for k in range(len(prompt)):
        usage = genai_prices.Usage(
            input_tokens=int(prompt[k]), cache_read_tokens=int(cached[k]), output_tokens=int(hidden[k] + shown[k])
        )
        table = genai_prices.calc_price(usage, model, provider_id=provider, genai_request_timestamp=noon)
        expected = float(table.total_price)
        assert np.asarray(got)[k] == pytest.approx(expected, rel=1e-12), int(prompt[k])


def test_calls_and_reasoning_cost_what_the_table_says() -> None:
    noon = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
    for model in ("sonar-pro", "sonar-deep-research"):
        usage = genai_prices.Usage(input_tokens=1000, output_tokens=100, output_reasoning_tokens=40)
        table = genai_prices.calc_price(usage, model, provider_id="perplexity", genai_request_timestamp=noon)
        got = prices_of("perplexity", model).cost_usd(1000, 0, 40, 60)
        assert got == pytest.approx(float(table.total_price), rel=1e-12)
    prices = prices_of("perplexity", "sonar-pro")
    assert prices.call == 0.014
    assert prices.cost_usd(4000, 0, 0, 0, calls=4) == pytest.approx(4 * 0.014 + 4000 * prices.input)
    assert prices.cost_usd([0, 100], 0, 0, 0) == pytest.approx(
        [0.0, 0.014 + 100 * prices.input]
    )  # the first was turned away
    assert prices.cost_usd(900, 300, 0, 0) == pytest.approx(0.014 + 600 * prices.input + 300 * prices.cached_input)
    assert prices_of("perplexity", "sonar-pro", usd_per_call=0.0).call == 0
    assert prices_of("perplexity", "sonar-pro", factor=0.5).call == 0.007


@pytest.mark.parametrize("broken", [False, True])
def test_a_call_that_is_not_turned_away_costs_its_price(broken: bool) -> None:
    """Whatever else is billed: so many calls at 0.01 more, a verifier's readings and attempts that broke among them."""
    raw: dict[str, Any] = {
        "name": "calls",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "even", "rate_per_s": 20.0},
            "requests": 200,
            "sources": {"maths": {"problem_set": "math", "subset": "aime24"}},
        },
        "deployments": {"small": api("openai", "gpt-5"), "judge": api("openai", "gpt-5")},
        "arms": {
            "only": {
                "profile": "math/qwen2.5-14b-instruct",
                "deployment": "small",
                "strategy": "BestOfN(n=4, auroc=0.8, verifier='judge', verifier_tokens=10)",
            }
        },
        "policy": "Always('only')",
    }
    if broken:
        raw["arms"]["only"]["strategy"] = "Single()"
        raw["deployments"]["small"]["errors"] = {"rate": 0.3, "after": "first_token"}
    cost, expected = [], []
    for usd in (0.0, 0.01):
        for name in ("small", "judge"):
            price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0, "usd_per_call": usd}
            raw["deployments"][name]["price"] = price
        result = simulate(scenario_from_dict(raw))
        cost.append(np.concatenate([run.cost_usd for run in result.runs]))
        expected.append(expect_arms(result.model).api_cost_usd[0])
    more = (cost[1] - cost[0]) / 0.01
    if not broken:
        assert more == pytest.approx(np.full_like(more, 5.0))  # one, and a reading of each sample
        assert expected[1] - expected[0] == pytest.approx(np.full_like(expected[0], 0.05), rel=1e-9)
    else:
        prompt = np.concatenate([run.requests.prompt_tokens for run in result.runs])
        taken_in = np.concatenate([run.prompt_tokens for run in result.runs])
        assert more == pytest.approx(taken_in / prompt)
        assert 1.3 < more.mean() < 1.6


@pytest.mark.parametrize(("usd", "kind"), [(3e-6, "input"), (0.0025, "input"), (1.5e-5, "output"), (0.009, "output")])
def test_a_price_in_another_unit_is_caught(usd: float, kind: str) -> None:
    stated: dict[str, Any] = {"input_usd_per_mtok": 3.0, "output_usd_per_mtok": 15.0, f"{kind}_usd_per_mtok": usd}
    with pytest.raises(
        InputError, match=rf"{kind}_usd_per_mtok.*per million tokens.*{1000 * usd:.6g} if it is per 1,000"
    ):
        resolve_price(Price(**stated), where="test", field="price")
    likely = resolve_price(Price(input_usd_per_mtok=0.003, output_usd_per_mtok=0.015), where="test", field="price")
    assert "per 1,000 tokens" in likely.in_words
    assert resolve_price(Price(input_usd_per_mtok=0, output_usd_per_mtok=0), where="test", field="price").caveats == ()


def test_many_calls_are_priced_by_the_prompt_of_one() -> None:
    prices = prices_of("google", "gemini-2.5-pro")
    one = prices.cost_usd(150_000, 0, 10, 1000)
    assert prices.cost_usd(4 * 150_000, 0, 40, 4000, calls=4) == pytest.approx(4 * float(one))
    assert prices.cost_usd(4 * 150_000, 0, 40, 4000) > 4 * float(one)
    assert prices.output_usd("reasoning", 600_000, 40, calls=4) == pytest.approx(40 * prices.reasoning)
    assert prices.output_usd("reasoning", 600_000, 40) == pytest.approx(40 * prices.long_prompts[0].reasoning)


def test_a_stated_price_holds_at_any_length() -> None:
    table, own = prices_of("google", "gemini-2.5-pro"), prices_of("google", "gemini-2.5-pro", input_usd_per_mtok=1.0)
    assert [one.input for one in own.long_prompts] == [1e-6]
    assert [one.output for one in own.long_prompts] == [one.output for one in table.long_prompts]
    flat = prices_of(
        "google", "gemini-2.5-pro", input_usd_per_mtok=1.0, output_usd_per_mtok=2.0, cached_input_usd_per_mtok=0.1
    )
    assert flat.long_prompts == ()


def test_requests_are_billed_by_the_length_of_their_prompts(tmp_path: Path) -> None:
    """Prompts of 250,000 tokens at 2.50 and 15, of 100,000 at 1.25 and 10: a staircase, or the first price alone, are wrong."""
    rows = {"t": [0.0, 1.0], "p": [250_000, 100_000], "o": [1000, 1000]}
    pl.DataFrame(rows).write_csv(tmp_path / "t.csv")
    columns = {"arrival": "t", "prompt_tokens": "p", "output_tokens": "o"}
    scenario = scenario_from_dict(
        {
            "name": "long",
            "replications": 1,
            "workload": {
                "arrivals": {"process": "trace", "file": "t.csv", "format": "csv", "columns": columns},
                "requests": 2,
            },
            "deployments": {"gemini": api("google", "gemini-2.5-pro")},
            "arms": {"only": {"deployment": "gemini"}},
            "policy": "Always('only')",
        },
        str(tmp_path / "scenario.yaml"),
    )
    assert simulate(scenario).records["cost_usd"].to_list() == pytest.approx([0.640, 0.135])


def api(provider: str, model: str) -> dict[str, Any]:
    return {
        "kind": "api",
        "price": {"provider": provider, "model": model, "on": DAY},
        "first_token": {"median_s": 1.0},
        "per_token": {"median_s": 0.01},
    }


def test_a_verifiers_readings_are_calls_of_their_own_in_the_bill_and_in_what_is_expected() -> None:
    """Eight readings of some 40,000 tokens each are no prompt of 320,000."""
    raw: dict[str, Any] = {
        "name": "verified",
        "replications": 1,
        "workload": {
            "arrivals": {"process": "even", "rate_per_s": 1.0},
            "requests": 40,
            "sources": {"maths": {"problem_set": "math", "subset": "aime24"}},
        },
        "deployments": {
            "small": {**api("openai", "gpt-5"), "price": {"input_usd_per_mtok": 0.0, "output_usd_per_mtok": 0.0}}
        },
        "arms": {
            "only": {
                "profile": "math/qwen2.5-14b-instruct",
                "deployment": "small",
                "strategy": "BestOfN(n=1024, auroc=0.8, verifier='judge', verifier_tokens=10)",
            }
        },
        "policy": "Always('only')",
    }
    flat = {"input_usd_per_mtok": 1.25, "output_usd_per_mtok": 10.0}
    costs = []
    for price in ({"provider": "google", "model": "gemini-2.5-pro", "on": DAY}, flat):
        raw["deployments"]["judge"] = {**api("google", "gemini-2.5-pro"), "price": price}
        result = simulate(scenario_from_dict(raw))
        assert result.runs[0].prompt_tokens.min() > 200_000
        expected = expect_arms(result.model).api_cost_usd[0].mean()
        costs.append((float(result.runs[0].cost_usd.mean()), expected))
    assert costs[0] == pytest.approx(costs[1], rel=1e-9)
    assert costs[0][0] > 0


def test_the_day_of_a_price_needs_no_quotes(tmp_path: Path) -> None:
    """Neither the key, which YAML 1.1 takes for true, nor the day, which YAML takes for a date."""
    (tmp_path / "t.csv").write_text("t,p,o\n0,500,100\n1,500,100\n")
    text = """
name: on
workload:
  arrivals: {process: trace, file: t.csv, format: csv, columns: {arrival: t, prompt_tokens: p, output_tokens: o}}
  requests: 2
deployments:
  place:
    kind: api
    price: {provider: openrouter, model: deepseek/deepseek-r1, on: 2026-11-24}
    first_token: {median_s: 1.0}
    per_token: {median_s: 0.02}
arms: {only: {deployment: place}}
policy: Always('only')
"""
    bills = []
    for said in (text, text.replace("on: 2026-11-24", '"on": "2026-11-24"')):
        (tmp_path / "s.yaml").write_text(said)
        scenario = ttc.load_scenario(tmp_path / "s.yaml")
        assert scenario.name == "on"
        bills.append(ttc.simulate(scenario).summary().cost_usd_per_request.value)
    assert bills[0] == bills[1] > 0
    (tmp_path / "s.yaml").write_text(text.replace("2026-11-24", "2e-2"))
    with pytest.raises(InputError, match=r"price\.on: got '2e-2'; expected a day as YYYY-MM-DD"):
        ttc.simulate(tmp_path / "s.yaml")
