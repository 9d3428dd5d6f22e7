"""Caches, hours, days, least charges and factors in bills: beside the price table's own reckoning, by hand, and together."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import genai_prices
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ttc_sim.base.errors import InputError
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.cli import app
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.spending import REFUSE, Budgets
from ttc_sim.engine.work import EngineResult, Work
from ttc_sim.optimizer.robust.ready import changes_of
from ttc_sim.optimizer.whatif.paths import Base
from ttc_sim.scenario import Api, Price, scenario_from_dict
from ttc_sim.serving.prices import TokenPrices, price_of, resolve_price
from ttc_sim.simulation.billing import bill_run
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.offering import offer
from ttc_sim.simulation.result import simulate
from ttc_sim.simulation.summary import summarize
from ttc_sim.simulation.taken import what_was_taken

UTC = datetime.UTC


def priced(begins: datetime.datetime | None = None, **keys: Any) -> TokenPrices:
    return resolve_price(Price.model_validate(keys), where="test", field="price", begins=begins)


def table_usd(provider: str, model: str, at: datetime.datetime, **tokens: int) -> float:
    usage = genai_prices.Usage(**tokens)
    found = genai_prices.calc_price(usage, model, provider_id=provider, genai_request_timestamp=at)
    return float(found.total_price)


def trace(tmp_path: Path, rows: Mapping[str, Any], price: dict[str, Any], **more: Any) -> Any:
    """A scenario of one endpoint whose calls take a second and 10 ms a token."""
    pl.DataFrame(rows).write_csv(tmp_path / "t.csv")
    columns = {"arrival": "t", "prompt_tokens": "p", "output_tokens": "o"}
    arrivals = {"process": "trace", "file": "t.csv", "format": "csv", "columns": columns}
    raw: dict[str, Any] = {
        "name": "whole-price",
        "replications": 1,
        "workload": {"arrivals": arrivals, "requests": len(rows["t"]), **more.pop("workload", {})},
        "deployments": {
            "place": {
                "kind": "api",
                "price": price,
                "first_token": {"median_s": 1.0},
                "per_token": {"median_s": 0.01},
                **more.pop("deployment", {}),
            }
        },
        "arms": {"only": {"deployment": "place"}},
        "policy": "Always('only')",
        **more,
    }
    return scenario_from_dict(raw, str(tmp_path / "scenario.yaml"))


# ----------------------------------------------------------------------------------------------------------- caches


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-opus-4-6"),
        ("openai", "gpt-5"),
        ("deepseek", "deepseek-v4-pro"),
    ],
)
def test_reads_and_writes_cost_what_the_table_says(provider: str, model: str) -> None:
    prices = priced(provider=provider, model=model, on="2026-11-24")
    noon = datetime.datetime(2026, 11, 24, 12, tzinfo=UTC)
    for prompt, read, wrote in ((1000, 0, 0), (1000, 600, 0), (1000, 0, 1000), (250_000, 190_000, 59_000), (9, 3, 6)):
        tokens = {"input_tokens": prompt, "cache_read_tokens": read, "output_tokens": 70}
        if prices.cache_write != prices.input:
            tokens["cache_write_tokens"] = wrote
        got = prices.cost_usd(prompt, read, 20, 50, written=wrote)
        assert got == pytest.approx(table_usd(provider, model, noon, **tokens), rel=1e-12)


def with_cache(result: EngineResult, cached: list[int], written: list[int]) -> EngineResult:
    return replace(result, cached_tokens=(np.array(cached),), written_tokens=(np.array(written),))


def test_what_a_cache_holds_is_billed_at_its_price(tmp_path: Path) -> None:
    """By hand: $5 a million in, $0.5 read, $6.25 written, $25 out. Nothing else of what was taken moves."""
    rows = {"t": [0.0, 1.0, 2.0], "p": [10_000, 12_000, 400], "o": [100, 100, 100]}
    price = {"input_usd_per_mtok": 5.0, "cached_input_usd_per_mtok": 0.5, "output_usd_per_mtok": 25.0}
    price["cache_write_usd_per_mtok"] = 6.25
    run = simulate(trace(tmp_path, rows, price)).runs[0]
    model = simulate(trace(tmp_path, rows, price)).model
    offers = offer(model, run.draws, run.arm)
    plain = what_was_taken(model, offers, run.result)
    taken = what_was_taken(model, offers, with_cache(run.result, [0, 9_984, 0], [9_984, 1_984, 0]))
    by_hand = [
        (16 * 5 + 9_984 * 6.25 + 100 * 25) / 1e6,
        (32 * 5 + 9_984 * 0.5 + 1_984 * 6.25 + 100 * 25) / 1e6,
        (400 * 5 + 100 * 25) / 1e6,
    ]
    assert taken.api_cost_usd == pytest.approx(by_hand, rel=1e-12)
    assert plain.api_cost_usd - taken.api_cost_usd == pytest.approx(taken.cache_saved_usd, rel=1e-9)
    assert taken.cache_saved_usd[0] < 0 < taken.cache_saved_usd[1]
    assert taken.cached_tokens.tolist() == [0, 9_984, 0]
    assert taken.written_tokens.tolist() == [9_984, 1_984, 0]
    for name in ("planned_api_cost_usd", "api_output_usd", "tokens", "lost_usd"):
        assert (getattr(plain, name) == getattr(taken, name)).all()
    assert taken.api_usd.sum(axis=0) == pytest.approx(taken.api_cost_usd)


def test_a_cache_lowers_the_mean_by_what_it_saves() -> None:
    """Where problems stand behind requests, a mean is over all problems, and the run says what a cache changes."""
    raw = {
        "name": "cached",
        "replications": 1,
        "workload": {
            "arrivals": {"process": "even", "rate_per_s": 1.0},
            "requests": 60,
            "sources": {"maths": {"problem_set": "math", "subset": "aime24"}},
        },
        "deployments": {
            "place": {
                "kind": "api",
                "price": {"input_usd_per_mtok": 5.0, "cached_input_usd_per_mtok": 0.5, "output_usd_per_mtok": 25.0},
                "first_token": {"median_s": 1.0},
                "per_token": {"median_s": 0.01},
            }
        },
        "arms": {"only": {"profile": "math/qwen2.5-14b-instruct", "deployment": "place"}},
        "policy": "Always('only')",
    }
    result = simulate(scenario_from_dict(raw))
    model, run = result.model, result.runs[0]
    offers = offer(model, run.draws, run.arm)
    half = with_cache(run.result, (run.prompt_tokens // 2).tolist(), [0] * 60)
    cached = bill_run(model, run.draws, run.requests, run.arm, offers, half)
    expected = expect_arms(model).under(np.zeros(len(model.population or ()), dtype=np.int64))
    before = summarize(model, [run], expected=expected).cost_usd_per_request.value
    after = summarize(model, [cached], expected=expected).cost_usd_per_request.value
    saved = float((run.prompt_tokens // 2).mean()) * 4.5e-6
    assert before - after == pytest.approx(saved, rel=0.05)  # kinds of problems count for their share of the traffic


def test_writes_that_are_kept_for_an_hour_cost_more(tmp_path: Path) -> None:
    rows = {"t": [0.0], "p": [1000], "o": [10]}
    price = {"provider": "anthropic", "model": "claude-sonnet-4-5", "on": "2026-11-24"}
    write = {}
    for name, cache in (("no", None), ("short", {"provider": "anthropic"}), ("long", {"provider": "anthropic-1h"})):
        found = price_of(trace(tmp_path, rows, price, deployment={} if cache is None else {"cache": cache}), "place")
        assert found is not None
        write[name] = found.cache_write
        assert ("cache would say" in found.in_words) == (cache is None)
        assert "$0.3 cached" in found.in_words
    assert write == pytest.approx({"no": 3.75e-6, "short": 3.75e-6, "long": 6e-6})


# ---------------------------------------------------------------------------------------------------- hours and days


def test_each_hour_and_day_costs_what_the_table_says() -> None:
    """Of all models of the table whose price depends on the hour, or changes after the run begins: every half hour of some days."""
    begins = datetime.datetime(2026, 8, 15, 17, 20, tzinfo=UTC)
    looked = 0
    for provider, model in (
        ("deepseek", "deepseek-chat"),
        ("deepseek", "deepseek-reasoner"),
        ("deepseek", "deepseek-v4-flash"),
        ("deepseek", "deepseek-v4-pro"),
        ("deepseek", "deepseek-flash"),
        ("google", "gemini-4-argon"),
        ("mistral", "mistral-large-4"),
    ):
        prices = priced(begins, provider=provider, model=model)
        assert prices.schedule is not None
        at_s = np.concatenate([np.arange(0, 3 * 86400, 1800), 86400 * np.arange(0, 120, 7.3)]) + 7.0
        got = np.asarray(prices.cost_usd(900, 300, 10, 40, at_s=at_s))
        for k, s in enumerate(at_s.tolist()):
            moment = begins + datetime.timedelta(seconds=s)
            tokens = {"input_tokens": 900, "cache_read_tokens": 300, "output_tokens": 50}
            assert got[k] == pytest.approx(table_usd(provider, model, moment, **tokens), rel=1e-12), (model, moment)
            assert prices.at_moment(moment).cost_usd(900, 300, 10, 40) == pytest.approx(got[k], rel=1e-12)
        looked += len(set(got.tolist()))
    assert looked > 15


WORKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday"]
PEAK = [("01:00", "04:00"), ("06:00", "10:00")]
HOURS = [
    {"from_utc": "22:30", "until_utc": "01:00", "factor": 0.5},
    {"from_utc": "00:30", "until_utc": "00:45", "factor": 3.0},
]


def test_hours_past_midnight_and_a_change_by_hand(tmp_path: Path) -> None:
    """The run begins at 22:00 of the 24th, at UTC+1, so at 21:00 UTC; from the 26th on input costs 8."""
    hours = [0, 1.49, 1.51, 3.6, 3.9, 4.01, 27.0 - 0.01, 27.01]
    rows = {"t": [3600.0 * h for h in hours], "p": [1_000_000] * 8, "o": [10_000] * 8}
    price = {"input_usd_per_mtok": 4.0, "output_usd_per_mtok": 10.0, "hours": HOURS}
    price["changes"] = [{"from_day": "2026-11-26", "input_usd_per_mtok": 8.0}]
    scenario = trace(tmp_path, rows, price, workload={"begins": "2026-11-24 22:00+01:00"})
    # 21:00, 22:29, 22:31, 0:36 (the last that holds), 0:54, 1:01; then 23:59 of the 25th and 0:01 of the 26th.
    expected = [4.1, 4.1, 2.05, 12.3, 2.05, 4.1, 2.05, 4.05]
    result = simulate(scenario)
    # Times of the trace start with its first row; the first token comes a second later, the price is that of when it is accepted.
    assert result.records["cost_usd"].to_list() == pytest.approx(expected)
    assert result.runs[0].planned_api_cost_usd == pytest.approx(np.full(8, np.mean(expected)))
    said = result.summary().prices["place"].as_json()
    assert said["clock_begins"] == "2026-11-24T21:00:00+00:00"
    assert len(said["schedule"]) == 6  # type: ignore[arg-type]


def test_hours_of_weekdays(tmp_path: Path) -> None:
    """DeepSeek's peak hours since 2026-08-23, from Monday to Friday; what goes past midnight is of the day that it begins on."""
    peak = [{"from_utc": a, "until_utc": b, "factor": 2.0, "weekdays": WORKDAYS} for a, b in PEAK]
    night = {"from_utc": "22:00", "until_utc": "02:00", "factor": 4.0, "weekdays": ["saturday"]}
    price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 10.0, "hours": [*peak, night]}
    # Of Friday, 2026-11-27: 7:00, Saturday 7:00 and 23:00, Sunday 1:30, 7:00 and 23:00, Monday 1:30.
    hours = [0, 24, 40, 42.5, 48, 64, 66.5]
    rows = {"t": [3600.0 * h for h in hours], "p": [1_000_000] * 7, "o": [1] * 7}
    result = simulate(trace(tmp_path, rows, price, workload={"begins": "2026-11-27 07:00"}))
    assert result.records["cost_usd"].to_numpy() == pytest.approx(np.array([2, 1, 4, 4, 1, 1, 2]), rel=1e-4)
    said = result.summary().prices["place"].in_words
    assert "at 01:00 to 04:00 and 06:00 to 10:00 (Monday to Friday) UTC $2 in" in said


def test_a_day_between_the_same_prices_costs_the_same_at_any_hour() -> None:
    begins = datetime.datetime(2026, 11, 24, 5, tzinfo=UTC)
    keys: dict[str, Any] = {"input_usd_per_mtok": 4.0, "output_usd_per_mtok": 10.0}
    same = priced(begins, **keys, hours=[{"from_utc": "03:00", "until_utc": "07:00", "input_usd_per_mtok": 4.0}])
    assert same.schedule is None
    assert same.in_words.replace("stated", "") == priced(**keys).in_words.replace("stated", "")
    # A stated price holds at all hours of the table's.
    both = priced(begins, provider="deepseek", model="deepseek-v4-pro", input_usd_per_mtok=1.0)
    assert {one.input for one in both.at_all_times} == {1e-6}
    assert len({one.output for one in both.at_all_times}) > 1


def test_what_is_expected_is_the_mean_over_the_arrivals() -> None:
    """A constant rate over a day of which peak hours are seven: 17 parts at 1 and 7 at 2, and simulated means agree."""
    raw: dict[str, Any] = {
        "name": "peaks",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "even", "rate_per_s": 0.01},
            "duration": "24 h",
            "begins": "2026-11-24 00:00",
            "sources": {"maths": {"problem_set": "math", "subset": "aime24"}},
        },
        "deployments": {
            "place": {
                "kind": "api",
                "price": {"provider": "deepseek", "model": "deepseek-v4-pro"},
                "first_token": {"median_s": 1.0},
                "per_token": {"median_s": 0.01},
            }
        },
        "arms": {"only": {"profile": "math/qwen2.5-14b-instruct", "deployment": "place"}},
        "policy": "Always('only')",
    }
    result = simulate(scenario_from_dict(raw))
    schedule = result.model.prices[0].schedule  # type: ignore[union-attr]
    assert schedule is not None
    assert sorted(schedule.shares) == pytest.approx([7 / 24, 17 / 24], abs=2e-3)
    raw["workload"].pop("begins")
    raw["deployments"]["place"]["price"]["on"] = "2026-11-24"
    cheap = simulate(scenario_from_dict(raw))
    ratio = result.summary().cost_usd_per_request.value / cheap.summary().cost_usd_per_request.value
    assert ratio == pytest.approx(31 / 24, rel=0.03)
    expected = [expect_arms(one.model).api_cost_usd[0] for one in (result, cheap)]
    assert expected[0] == pytest.approx(31 / 24 * expected[1], rel=2e-3)


@pytest.mark.parametrize(
    ("price", "workload", "said"),
    [
        ({"hours": HOURS}, {}, r"workload\.begins: got None; expected the moment at which the run begins"),
        ({"hours": [{"from_utc": "1:00", "until_utc": "02:00", "factor": 2}]}, {}, "a time of day of UTC"),
        ({"hours": [{"from_utc": "02:00", "until_utc": "02:00", "factor": 2}]}, {}, "another time than from_utc"),
        ({"hours": [{"from_utc": 990, "until_utc": "02:00"}]}, {}, "quotes around it, such as '16:30'"),
        ({"hours": [{"from_utc": "01:00", "until_utc": "02:00"}]}, {}, "nothing would change"),
        ({"changes": [{"from_day": "26-11-24", "factor": 2}]}, {}, "a day as YYYY-MM-DD"),
        (
            {"changes": [{"from_day": "2026-11-24", "factor": 2}, {"from_day": "2026-11-24", "factor": 3}]},
            {},
            r"changes\.1\.from_day.*a day after that",
        ),
        ({"processing": "batch"}, {}, "none without provider and model"),
        ({}, {"begins": "2026-11-24"}, "the time of day too"),
        ({}, {"begins": "yesterday 08:00"}, "a moment such as"),
        (
            {"hours": [{"from_utc": "01:00", "until_utc": "02:00", "input_usd_per_mtok": 0.002}]},
            {"begins": "2026-11-24 08:00"},
            r"hours\.0\.input_usd_per_mtok.*2 if it is per 1,000",
        ),
        ({"cached_input_usd_per_mtok": 0.0003}, {}, r"cached_input_usd_per_mtok.*0\.3 if it is per 1,000"),
        ({"cache_write_usd_per_mtok": 0.00375}, {}, r"cache_write_usd_per_mtok.*3\.75 if it is per 1,000"),
        ({"reasoning_usd_per_mtok": 0.015}, {}, r"reasoning_usd_per_mtok.*15 if it is per 1,000"),
    ],
)
def test_what_is_no_price_is_refused(
    tmp_path: Path, price: dict[str, Any], workload: dict[str, Any], said: str
) -> None:
    rows = {"t": [0.0], "p": [1000], "o": [10]}
    base = {"input_usd_per_mtok": 3.0, "output_usd_per_mtok": 15.0}
    with pytest.raises(InputError, match=said):
        simulate(trace(tmp_path, rows, {**base, **price}, workload=workload))


def test_a_clock_that_nothing_reads_is_said(tmp_path: Path) -> None:
    """And a day that is pinned: hours are those of the table then, on whatever day the run begins."""
    rows = {"t": [0.0, 3600.0], "p": [1_000_000] * 2, "o": [1] * 2}
    flat = {"input_usd_per_mtok": 4.0, "output_usd_per_mtok": 10.0}
    for price, said in ((flat, True), ({"provider": "openai", "model": "gpt-5"}, False)):
        result = simulate(trace(tmp_path, rows, price, workload={"begins": "2026-11-24 00:30"}))
        assert ("workload.begins changes nothing" in " ".join(result.summary().notes)) == said
    pinned = {"provider": "deepseek", "model": "deepseek-v4-pro", "on": "2026-08-20"}
    result = simulate(trace(tmp_path, rows, pinned, workload={"begins": "2026-01-01 00:30"}))
    assert result.records["cost_usd"].to_numpy() == pytest.approx(np.array([0.66, 1.32]), rel=1e-4)


def test_a_clock_that_the_shape_contradicts_is_refused() -> None:
    shape = {"by_hour": [1.0] * 12 + [2.0] * 12, "starts": "07:00"}
    raw = {
        "name": "clock",
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 1.0, "shape": shape},
            "requests": 10,
            "lengths": {"prompt_tokens": 10, "output_tokens": 10},
            "begins": "2026-11-24 08:00+01:00",
        },
        "deployments": {
            "place": {
                "kind": "api",
                "price": {"input_usd_per_mtok": 3.0, "output_usd_per_mtok": 15.0},
                "first_token": {"median_s": 1.0},
                "per_token": {"median_s": 0.01},
            }
        },
        "arms": {"only": {"deployment": "place"}},
        "policy": "Always('only')",
    }
    with pytest.raises(InputError, match=r"shape\.starts.*'07:00'; expected '08:00', when the run begins"):
        scenario_from_dict(raw)
    shape["starts"] = "08:00"
    assert scenario_from_dict(raw).workload.begins_utc == datetime.datetime(2026, 11, 24, 7, tzinfo=UTC)


# ------------------------------------------------------------------------------ least charges, processing, factors


def test_a_call_costs_its_least_at_the_least(tmp_path: Path) -> None:
    """$0.01: two short calls cost that, the long one what its tokens do; a factor is on that too."""
    rows = {"t": [0.0, 1.0, 2.0], "p": [100, 2_000, 100_000], "o": [10, 10, 10]}
    price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 10.0, "least_usd_per_call": 0.01}
    assert simulate(trace(tmp_path, rows, price)).records["cost_usd"].to_list() == pytest.approx([0.01, 0.01, 0.1001])
    price["factor"] = 1.19
    taxed = simulate(trace(tmp_path, rows, price)).records["cost_usd"].to_list()
    assert taxed == pytest.approx([0.0119, 0.0119, 0.119119])
    prices = priced(input_usd_per_mtok=1.0, output_usd_per_mtok=10.0, least_usd_per_call=0.01)
    assert prices.cost_usd(400, 0, 0, 40, calls=4) == pytest.approx(0.04)
    assert prices.cost_usd(0, 0, 0, 0) == 0  # turned away
    assert prices.by_call
    assert not priced(input_usd_per_mtok=0, output_usd_per_mtok=0, least_usd_per_call=0.01).free


def test_batches_cost_what_the_table_says_of_them() -> None:
    prices = priced(provider="anthropic", model="claude-opus-4-8", on="2026-11-24", processing="batch")
    usage = genai_prices.Usage(input_tokens=9000, cache_read_tokens=3000, cache_write_tokens=1000, output_tokens=50)
    noon = datetime.datetime(2026, 11, 24, 12, tzinfo=UTC)
    table = genai_prices.calc_price(
        usage,
        "claude-opus-4-8",
        provider_id="anthropic",
        genai_request_timestamp=noon,
        price_context={"processing": "batch"},
    )
    assert prices.cost_usd(9000, 3000, 0, 50, written=1000) == pytest.approx(float(table.total_price), rel=1e-12)
    assert "batch" in prices.origin
    with pytest.raises(InputError, match=r"price\.processing: got 'flex'; expected batch or fast"):
        priced(provider="anthropic", model="claude-opus-4-8", on="2026-11-24", processing="flex")
    with pytest.raises(InputError, match=r"processing.*from 2026-10-14 on"):
        priced(provider="anthropic", model="claude-opus-4-8", on="2026-10-01", processing="batch")
    with pytest.raises(InputError, match="no other price of it; factor says a discount"):
        priced(provider="perplexity", model="sonar-pro", on="2026-11-24", processing="batch")


def test_prices_times_a_factor_are_bills_times_a_factor() -> None:
    begins = datetime.datetime(2026, 11, 24, tzinfo=UTC)
    price = {"provider": "deepseek", "model": "deepseek-v4-pro", "usd_per_call": 0.001, "least_usd_per_call": 0.0015}
    one, taxed = priced(begins, **price), priced(begins, **price, factor=1.19)
    at_s = np.arange(0, 86400, 3600.0)
    args = (np.full(24, 3000), 1000, 50, 60)
    assert taxed.cost_usd(*args, at_s=at_s) == pytest.approx(1.19 * np.asarray(one.cost_usd(*args, at_s=at_s)))
    assert one.times(1.19).cost_usd(*args, at_s=at_s) == pytest.approx(taxed.cost_usd(*args, at_s=at_s))


# ---------------------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize("weekdays", [None, ["tuesday"]])
def test_a_budget_counts_what_is_billed(tmp_path: Path, weekdays: list[str] | None) -> None:
    """Calls over three days of peak hours, a change, a least charge and a fee: what a gateway counts is the bill, day by day."""
    n = 400
    t = np.sort(np.random.default_rng(3).uniform(0, 3 * 86400, n))
    rows = {"t": (t - t[0]).tolist(), "p": list(range(100, 100 + 37 * n, 37)), "o": [100] * n}
    hours = [{**one, "weekdays": weekdays} for one in HOURS]
    price = {"input_usd_per_mtok": 2.0, "output_usd_per_mtok": 10.0, "usd_per_call": 0.0005, "hours": hours}
    price |= {"least_usd_per_call": 0.004, "changes": [{"from_day": "2026-11-26", "factor": 1.5}]}
    scenario = trace(
        tmp_path,
        rows,
        price,
        workload={"begins": "2026-11-24 00:00"},
        budget={"usd_per_day": 1000.0, "at_end": "refuse"},
        deployment={"on_timeout": "finish"},
    )
    run = simulate(scenario).runs[0]
    spent = run.result.spending.spent[:, 0] / 1e9  # type: ignore[union-attr]
    day = ((run.result.finished_s) // 86400).astype(int)
    assert spent == pytest.approx(np.bincount(day, weights=run.cost_usd), abs=1e-6)
    assert len(spent) == 3


def test_a_budget_counts_what_a_cache_holds_and_keeps() -> None:
    """Two conversations of three turns: $4 a million in, $0.4 read, $5 written, $10 out; what a gateway counts is the bill."""
    tree = PrefixTree(np.array([-1, 0, 0]), np.array([0, 1500, 1500]))
    prompt, node = np.array([2000, 2500, 2600, 3000, 3600, 500]), np.array([1, 2, 1, 2, 1, 0])
    item = Api.model_validate(
        {
            "kind": "api",
            "price": {"input_usd_per_mtok": 4.0, "output_usd_per_mtok": 10.0, "cached_input_usd_per_mtok": 0.4},
            "first_token": {"median_s": 1.0},
            "per_token": {"median_s": 0.01},
            "cache": {"provider": "anthropic"},
        }
    )
    n = len(prompt)
    work = Work(
        arrival_s=np.linspace(0.0, 50.0, n),
        stage_start=np.arange(n + 1),
        deployment=np.zeros(n, dtype=np.int64),
        prompt_tokens=prompt,
        prefix_id=node,
        sample_start=np.arange(n + 1),
        reasoning_tokens=np.zeros(n, dtype=np.int64),
        visible_tokens=np.full(n, 100),
        first_token_s=np.ones(n),
        per_token_s=np.full(n, 0.01),
        backoff=np.full((n, 1), 0.5),
        prefix_tokens=prompt,
        prefixes=tree,
    )
    prices = np.stack([4000.0 * prompt, *(np.full(n, x) for x in (10e3, 10e3, 3600.0, 1000.0, 0.0))], axis=1)[:, None]
    budgets = Budgets(
        limit=np.array([10**12]),
        rule=np.array([REFUSE]),
        of=np.tile([0, -1], (n, 1)),
        to=np.full((n, 2), -1),
        spends=np.ones((1, n), dtype=np.bool_),
        prices=(prices,),
    )
    unit = TokenPrices(4e-6, 0.4e-6, 10e-6, 10e-6, "test", cache_write=5e-6)
    for engine in (reference, compiled):
        got = engine.run([work], ["api"], [item], budgets=budgets)
        cached, written = got.cached_tokens[0], got.written_tokens[0]
        assert cached.sum() > 5000
        assert written.sum() > 3000
        bill = np.asarray(unit.cost_usd(prompt, cached, 0, 100, written=written))
        assert got.spending is not None
        assert got.spending.spent.sum() == pytest.approx(1e9 * bill.sum(), abs=n)


# ------------------------------------------------------------------------------------------------------ the command


def test_the_command_shows_what_a_scenario_uses(tmp_path: Path) -> None:
    """Hours, later days, tiers, writes for an hour and other ways of processing; in JSON as a result has them."""
    runner = CliRunner()

    def shown(*words: str) -> str:
        return " ".join(runner.invoke(app, ["prices", *words]).output.split())

    said = shown("deepseek/deepseek-v4-pro", "--on", "2026-11-24", "--json", str(tmp_path / "p.json"))
    assert "at 01:00 to 04:00 and 06:00 to 10:00 UTC" in said
    assert "begins:" in said
    found = json.loads((tmp_path / "p.json").read_text())
    assert [one["input_usd_per_mtok"] for one in found["schedule"]] == [0.66, 1.32]
    assert "from 2026-12-01 on" in shown("google/gemini-4-argon", "--on", "2026-11-24")
    opus = shown("anthropic/claude-opus-4-8", "--on", "2026-11-24")
    assert "6.25" in opus
    assert "$10 for tokens that a cache is to keep for an hour" in opus
    assert "--processing batch or fast" in opus
    assert "2.5" in shown("anthropic/claude-opus-4-8", "--on", "2026-11-24", "--processing", "batch")
    assert "a day as YYYY-MM-DD" in str(runner.invoke(app, ["prices", "openai/gpt-5", "--on", "24"]).exception)


def test_a_dearer_world_multiplies_prices_that_depend_on_the_hour_or_the_length(tmp_path: Path) -> None:
    """Each of them has several, so that one price times 1.2 would say nothing of the others."""
    rows = {"t": [0.0, 7200.0], "p": [250_000, 1000], "o": [10, 10]}
    for price in (
        {"provider": "deepseek", "model": "deepseek-v4-pro"},
        {"provider": "google", "model": "gemini-2.5-pro"},
    ):
        scenario = trace(tmp_path, rows, price, workload={"begins": "2026-11-24 00:30"})
        base = Base(load_model(scenario), scenario)
        changes = {path: (base.times(path, value, "t"), "t") for path, value in changes_of("dear", base, "t").items()}
        dear = simulate(base.changed(changes)).records["cost_usd"].to_numpy()
        assert dear == pytest.approx(1.2 * simulate(scenario).records["cost_usd"].to_numpy())
