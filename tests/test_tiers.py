"""Fixed fees of endpoints, and tiers and concurrency to choose from: bills by hand, what is chosen, what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.scenario import Api, Scenario, scenario_from_dict

DAY_S = 86_400.0
API: dict[str, Any] = {
    "kind": "api",
    "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0},
    "first_token": {"median_s": 0.5},
    "per_token": {"median_s": 0.01},
}
STEP = {"base_s": 0.01, "per_prefill_token_s": 1e-5, "per_sequence_s": 1e-3, "per_kv_token_s": 0.0}
POOL = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 2.0, "step_time": STEP, "max_num_seqs": 8}


def lengths(prompt: int, output: int) -> dict[str, Any]:
    """Near enough to constant that rounding makes them so."""
    return {
        "prompt_tokens": {"median": prompt, "p95": prompt + 1e-4},
        "output_tokens": {"median": output, "p95": output + 1e-4},
    }


def raw(rate_per_s: float = 2.0, **changes: Any) -> dict[str, Any]:
    """Requests of 1,000 tokens and 200 to answer, evenly spaced, to an endpoint."""
    return {
        "name": "tiers",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "even", "rate_per_s": rate_per_s},
            "requests": 1200,
            "lengths": lengths(1000, 200),
        },
        "deployments": {"api": copy.deepcopy(API)},
        "arms": {"a": {"deployment": "api"}},
        "policy": "Always('a')",
        **changes,
    }


def scenario(rate_per_s: float = 2.0, **changes: Any) -> Scenario:
    return scenario_from_dict(raw(rate_per_s, **changes))


CALL_USD = (1000 * 1.0 + 200 * 4.0) / 1e6


# ------------------------------------------------------------------------------------------------------- the fixed fee


@pytest.mark.parametrize(
    ("fee", "usd_per_day"),
    [({"usd_per_hour": 1.5}, 36.0), ({"usd_per_day": 36.0}, 36.0), ({"usd_per_month": 1080.0}, 36.0)],
)
def test_a_fee_adds_itself_to_a_day_and_its_share_to_each_request(fee: dict[str, float], usd_per_day: float) -> None:
    found = ttc.simulate(scenario(deployments={"api": {**API, **fee}}))
    summary = found.summary()
    assert summary.cost_usd_per_request.value == pytest.approx(CALL_USD + usd_per_day / (2.0 * DAY_S), rel=1e-9)
    assert summary.cost_usd_per_day.value == pytest.approx(CALL_USD * 2.0 * DAY_S + usd_per_day, rel=1e-9)
    assert summary.fees_usd_per_day == {"api": pytest.approx(usd_per_day)}
    assert summary.rate_per_s == ttc.simulate(scenario()).summary().rate_per_s
    for run in found.runs:  # requests' bills add up to what was paid
        assert run.cost_usd.sum() == pytest.approx(1200 * CALL_USD + usd_per_day / DAY_S * run.paid_s, rel=1e-9)


def test_a_fee_of_a_duration_is_paid_for_as_long_as_that_lasts() -> None:
    workload = {"arrivals": {"process": "poisson", "rate_per_s": 0.5}, "duration": "600s", "lengths": lengths(100, 10)}
    found = ttc.simulate(scenario(workload=workload, deployments={"api": {**API, "usd_per_day": 100.0}}))
    for run in found.runs:
        assert run.cost_usd.sum() - run.api_cost_usd.sum() == pytest.approx(100.0 * 600 / DAY_S)
    free = ttc.simulate(scenario(workload=workload)).summary()
    assert found.summary().cost_usd_per_day.value == pytest.approx(free.cost_usd_per_day.value + 100.0)


def test_only_an_endpoint_in_use_is_paid_for() -> None:
    deployments = {"api": API, "other": {**API, "usd_per_month": 1e6}}
    arms = {"a": {"deployment": "api"}, "b": {"deployment": "other"}}
    summary = ttc.simulate(scenario(deployments=deployments, arms=arms)).summary()
    assert summary.cost_usd_per_request.value == pytest.approx(CALL_USD)
    assert summary.fees_usd_per_day == {}
    stands_by = {**arms, "a": {"deployment": "api", "fallback": "b"}}
    summary = ttc.simulate(scenario(deployments=deployments, arms=stands_by)).summary()
    assert summary.fees_usd_per_day == {"other": pytest.approx(1e6 / 30)}
    assert summary.cost_usd_per_day.value == pytest.approx(CALL_USD * 2.0 * DAY_S + 1e6 / 30)


def test_a_fee_beside_a_pool_is_paid_for_the_pools_time_and_shared_by_tokens() -> None:
    deployments = {"api": {**API, "usd_per_day": 50.0, "price": {**API["price"], "factor": 0.0}}, "pool": POOL}
    arms = {"a": {"deployment": "api"}, "b": {"deployment": "pool"}}
    rows = {"process": "even", "rate_per_s": 0.5}
    spread = {
        "prompt_tokens": {"median": 300, "p95": 900},
        "output_tokens": {"median": 50, "p95": 150},
        "reasoning_share": 0.5,
    }
    workload = {"arrivals": rows, "requests": 200, "lengths": {k: v for k, v in spread.items() if k.endswith("tokens")}}
    policy = "Banded(edges=[300], arms=['a', 'b'], score='prompt_tokens')"
    found = ttc.simulate(scenario(workload=workload, deployments=deployments, arms=arms, policy=policy))
    for run in found.runs:
        paid = 50.0 / DAY_S * run.paid_s, 2.0 / 3600 * run.paid_s
        for index, usd in enumerate(paid):
            assert run.cost_usd[run.arm == index].sum() == pytest.approx(usd)
        here = run.arm == 0
        assert here.any()
        assert not run.api_cost_usd.any()
        tokens = (run.prompt_tokens + run.reasoning_tokens + run.visible_tokens)[here]
        np.testing.assert_allclose(run.cost_usd[here] / run.cost_usd[here].sum(), tokens / tokens.sum())


def test_what_fails_shares_the_fee_and_lost_tokens_have_their_part() -> None:
    broken = {
        **API,
        "usd_per_day": 50.0,
        "price": {**API["price"], "factor": 0.0},
        "errors": {"rate": 0.3, "after": "midway"},
    }
    found = ttc.simulate(scenario(deployments={"api": broken}))
    for run in found.runs:
        assert run.cost_usd.sum() == pytest.approx(50.0 / DAY_S * run.paid_s)
        whole = run.prompt_tokens + run.reasoning_tokens + run.visible_tokens
        assert run.lost_tokens.any()
        np.testing.assert_allclose(run.lost_usd, run.cost_usd.sum() * run.lost_tokens / whole.sum())


def test_intervals_of_a_run_add_up_to_its_bill() -> None:
    found = ttc.simulate(scenario(deployments={"api": {**API, "usd_per_day": 50.0}}))
    mean = np.mean([run.cost_usd.sum() for run in found.runs])
    by_time = found.over_time(60.0)
    assert by_time["usd"].sum() == pytest.approx(mean)


def test_users_who_wait_pay_a_fee_for_as_long_as_they_are_there() -> None:
    workload = {
        "arrivals": {"process": "closed_loop", "users": 5, "think_s": 1.0},
        "requests": 300,
        "lengths": lengths(100, 50),
    }
    found = ttc.simulate(scenario(workload=workload, deployments={"api": {**API, "usd_per_day": 100.0}}))
    summary = found.summary()
    calls = (100 * 1.0 + 50 * 4.0) / 1e6
    assert summary.cost_usd_per_day.value == pytest.approx(calls * summary.rate_per_s * DAY_S + 100.0, rel=1e-6)


def test_prices_times_a_factor() -> None:
    half = ttc.simulate(scenario(deployments={"api": {**API, "price": {**API["price"], "factor": 0.5}}})).summary()
    assert half.cost_usd_per_request.value == pytest.approx(CALL_USD / 2)
    asked = {"dearer": {"deployments.api.price.output_usd_per_mtok": "2x"}}
    base = scenario(
        deployments={"api": {**API, "price": {"provider": "openai", "model": "gpt-4o", "on": "2026-01-01"}}}
    )
    changed = base.model_copy(
        update={
            "deployments": {
                "api": base.deployments["api"].model_copy(
                    update={"price": base.deployments["api"].price.model_copy(update={"factor": 0.5})}  # type: ignore[union-attr]
                )
            }
        }
    )
    whole, factored = (ttc.what_if(one, asked) for one in (base, changed))
    values = [
        found.as_json()["variations"][0]["cost_usd_per_request"]["value"]  # type: ignore[index]
        for found in (whole, factored)
    ]
    assert values[1] == pytest.approx(values[0] / 2)


# ------------------------------------------------------------------------------------------------------- what is chosen

TIERS = [
    {"name": "t1", "tokens_per_minute": 100_000},
    {"name": "t2", "tokens_per_minute": 160_000, "usd_per_month": 300},
    {"name": "t3", "tokens_per_minute": 400_000, "usd_per_month": 3000},
]
ASKED = {"minimize": "cost", "rejected_rate": 0.01, "latency_p95_s": 5}


@pytest.mark.parametrize(
    ("rate_per_s", "tier", "usd_per_day"),
    [(1.0, "t1", 0.0), (2.0, "t2", 10.0), (4.0, "t3", 100.0)],  # 72,000, 144,000 and 288,000 tokens a minute
)
def test_the_cheapest_tier_that_holds_by_hand(rate_per_s: float, tier: str, usd_per_day: float) -> None:
    said: list[str] = []
    plan = ttc.optimize(scenario(rate_per_s, search={"tiers": {"api": TIERS}}, targets=ASKED, policy=None), said.append)
    assert plan.status == "met"
    assert plan.as_json()["configuration"] == {"api": {"tier": tier}}
    assert plan.predicted.cost_usd_per_day.value == pytest.approx(CALL_USD * rate_per_s * DAY_S + usd_per_day)
    chosen = next(one for one in TIERS if one["name"] == tier)
    endpoint = plan.scenario.deployments["api"]
    assert isinstance(endpoint, Api)
    assert endpoint.tokens_per_minute == chosen["tokens_per_minute"]
    assert endpoint.hourly_usd * 24 == pytest.approx(usd_per_day)
    assert any("choosing tiers and concurrency: 3 combinations" in line for line in said)
    assert any(f"api on {tier}: holds" in line for line in said)
    simulated = ttc.simulate(plan.scenario).summary()
    assert simulated.cost_usd_per_day.value == pytest.approx(plan.predicted.cost_usd_per_day.value)


def test_limits_of_input_and_output_are_each_of_their_own() -> None:
    """Two requests a second: 120,000 input and 24,000 output tokens a minute."""
    tiers = [
        {"name": "little input", "input_tokens_per_minute": 90_000, "output_tokens_per_minute": 90_000},
        {"name": "little output", "input_tokens_per_minute": 140_000, "output_tokens_per_minute": 18_000},
        {"name": "both", "input_tokens_per_minute": 140_000, "output_tokens_per_minute": 28_000, "usd_per_month": 300},
    ]
    plan = ttc.optimize(scenario(2.0, search={"tiers": {"api": tiers}}, targets=ASKED, policy=None))
    assert plan.as_json()["configuration"] == {"api": {"tier": "both"}}


def test_a_plan_planned_anew_chooses_as_its_scenario_does(tmp_path: Path) -> None:
    """What the tiers decide does not stay behind from the tier that was chosen before."""
    tiers = [
        {"name": "slow", "tokens_per_minute": 100_000, "concurrency": 9},
        {"name": "fast", "usd_per_day": 30, "price_factor": 0.5},
    ]
    asked = {"search": {"tiers": {"api": tiers}}, "targets": ASKED, "policy": None}
    plan = ttc.optimize(scenario(4.0, **asked))
    endpoint = plan.scenario.deployments["api"]
    assert isinstance(endpoint, Api)
    assert (endpoint.tokens_per_minute, endpoint.concurrency, endpoint.usd_per_day) == (None, None, 30)
    assert endpoint.price.factor == 0.5
    plan.save(tmp_path / "plan.yaml")
    again = ttc.optimize(ttc.load_plan(tmp_path / "plan.yaml").scenario)
    assert again.scenario.deployments == plan.scenario.deployments
    assert again.predicted.cost_usd_per_day == plan.predicted.cost_usd_per_day


def test_a_fee_that_does_not_pay_is_not_paid() -> None:
    """Half the price for a fee: it pays for itself at 2 requests a second and more, by 155.52 dollars a day of calls."""
    deployments = {
        "api": API,
        "reserved": {**API, "price": {**API["price"], "factor": 0.5}, "usd_per_day": 150.0},
    }
    arms = {"a": {"deployment": "api"}, "b": {"deployment": "reserved"}}
    for rate_per_s, arm in ((2.0, "b"), (1.8, "a")):
        plan = ttc.optimize(
            scenario(rate_per_s, deployments=deployments, arms=arms, policy=None, targets={"minimize": "cost"})
        )
        assert plan.scenario.policy == f"Always(arm='{arm}')"


def test_the_fewest_calls_at_once_that_hold() -> None:
    """Each call takes 2.49 s: two a second are five at once."""
    search = {"concurrency": {"api": [2, 4, 5, 8, 40, 80]}}
    plan = ttc.optimize(
        scenario(search=search, deployments={"api": {**API, "concurrency": 3}}, targets=ASKED, policy=None)
    )
    assert plan.as_json()["configuration"] == {"api": {"concurrency": 5}}


def test_more_sequences_in_a_batch_save_replicas_until_tokens_are_too_slow() -> None:
    deployments = {"pool": {**POOL, "max_num_batched_tokens": 2048}}
    workload = {**raw()["workload"], "arrivals": {"process": "poisson", "rate_per_s": 3.0}}
    found = {}
    for asked in ({"tpot_p95_s": 0.0142}, {"latency_p95_s": 30.0}):
        plan = ttc.optimize(
            scenario(
                deployments=deployments,
                arms={"a": {"deployment": "pool"}},
                search={"replicas": {"pool": [1, 2, 3, 4, 6, 8]}, "concurrency": {"pool": [4, 16, 64]}},
                targets={"minimize": "cost", **asked},
                policy=None,
                workload=workload,
            )
        )
        assert plan.status == "met"
        item = plan.scenario.deployments["pool"]
        found[next(iter(asked))] = item.max_num_seqs, item.replicas  # type: ignore[union-attr]
    # A step of 64 sequences takes 74 ms, one of 4 takes 14; a replica serves 4.3 requests a second with 64, and 1.4 with 4.
    assert found == {"tpot_p95_s": (4, 3), "latency_p95_s": (64, 1)}


# ------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tiers": {"pool": TIERS}}, ["search.tiers", "'pool'", "GPU pool"]),
        ({"tiers": {"apj": TIERS}}, ["search.tiers", "'apj'", "nearest", "'api'"]),
        ({"tiers": {"api": []}}, ["search.tiers.api", "at least 1"]),
        ({"tiers": {"api": [TIERS[0], TIERS[0]]}}, ["search.tiers.api", "t1 stands there twice"]),
        ({"tiers": {"api": [TIERS[0], {**TIERS[0], "name": "t9"}]}}, ["search.tiers.api", "t1 and t9 are the same"]),
        (
            {"tiers": {"api": [{"name": "t", "tokens_per_minute": 0}]}},
            ["tiers.api.0.tokens_per_minute", "greater than 0"],
        ),
        ({"tiers": {"api": [{"name": "t", "usd_per_day": -1}]}}, ["tiers.api.0.usd_per_day"]),
        (
            {"tiers": {"api": [{"name": "t", "usd_per_day": 1, "usd_per_month": 30}]}},
            ["tiers.api.0", "usd_per_day and usd_per_month to exclude each other"],
        ),
        ({"tiers": {"api": [{"name": "t", "tokens_per_minite": 9}]}}, ["tokens_per_minite", "'tokens_per_minute'"]),
        (
            {"tiers": {"api": [{"name": "t", "per_token": {"median_s": 0.1}}, TIERS[0]]}},
            ["search.tiers.api", "per_token of every tier or of none", "t1"],
        ),
        ({"concurrency": {"api": [4]}}, ["search.concurrency.api", "deployments.api.concurrency to be given"]),
        ({"concurrency": {"pol": [4]}}, ["search.concurrency", "'pol'", "'pool'"]),
        ({"concurrency": {"pool": []}}, ["search.concurrency.pool", "at least 1"]),
        ({"concurrency": {"pool": [0]}}, ["search.concurrency.pool.0", "1"]),
        ({"concurrency": {"pool": [8, 8]}}, ["search.concurrency.pool", "8 stands there twice"]),
        ({"concurrency": {"pool": [8, 4096]}}, ["search.concurrency.pool", "4096", "max_num_batched_tokens"]),
        (
            {"tiers": {"api": [{"name": "t", "concurrency": 3}]}, "concurrency": {"api": [4]}},
            ["search.concurrency.api", "none beside the concurrency of search.tiers.api"],
        ),
        (
            {"concurrency": {"pool": list(range(1, 1002))}},
            ["search.concurrency", "1,001 combinations", "at most 1,000"],
        ),
    ],
)
def test_bad_choices_are_one_clear_line(changes: dict[str, Any], words: list[str]) -> None:
    deployments, arms = {"api": API, "pool": POOL}, {"a": {"deployment": "api"}, "b": {"deployment": "pool"}}
    with pytest.raises(InputError) as error:
        scenario(deployments=deployments, arms=arms, search=changes)
    said = str(error.value)
    assert "\n" not in said
    for word in words:
        assert word in said, said


def test_a_fee_said_twice_and_a_loop_that_has_no_rate_are_refused() -> None:
    with pytest.raises(InputError, match=r"deployments\.api.*usd_per_hour and usd_per_month to exclude each other"):
        scenario(deployments={"api": {**API, "usd_per_hour": 1, "usd_per_month": 2}})
    workload = {
        "arrivals": {"process": "closed_loop", "users": 5, "think_s": 1.0},
        "requests": 100,
        "lengths": lengths(100, 50),
    }
    with pytest.raises(InputError, match="arrivals with a rate of their own, to weigh fixed fees by"):
        ttc.optimize(scenario(workload=workload, search={"tiers": {"api": TIERS}}, targets=ASKED, policy=None))
    with pytest.raises(
        InputError, match=r"rejected_rate|timeout_rate"
    ):  # a tier may drop requests, and nothing speaks of it
        ttc.optimize(scenario(search={"tiers": {"api": TIERS}}, targets={"minimize": "cost"}, policy=None))


# ------------------------------------------------------------------------------------------------------- on paper


def test_commands_say_what_is_chosen_and_what_is_kept(tmp_path: Path) -> None:
    deployments, arms = {"api": API, "pool": POOL}, {"a": {"deployment": "api"}, "b": {"deployment": "pool"}}
    said = raw(
        deployments=deployments,
        arms=arms,
        search={"tiers": {"api": TIERS}, "concurrency": {"pool": [2, 8]}, "replicas": {"pool": [1]}},
        targets={**ASKED, "confidence": 0.5},
        policy=None,
    )
    file, plan = tmp_path / "s.yaml", tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(said))
    runner = CliRunner()
    got = runner.invoke(app, ["optimize", str(file), "--plan", str(plan), "--json", str(tmp_path / "p.json")])
    assert got.exit_code == 0, got.output
    assert "api: tier " in got.output
    assert "pool: max_num_seqs " in got.output
    figures = json.loads((tmp_path / "p.json").read_text())
    assert set(figures["configuration"]) == {"api", "pool"}
    saved = yaml.safe_load(plan.read_text())["scenario"]
    saved["deployments"]["api"] |= {"tokens_per_minute": 160_000, "usd_per_month": 300}
    saved["policy"] = "LeastLoaded(arms=['a', 'b'])"
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(saved))
    got = runner.invoke(app, ["simulate", str(tmp_path / "t.yaml"), "--no-baselines"])
    assert got.exit_code == 0, got.output
    assert "api: $10 a day is a fixed fee" in got.output
    got = runner.invoke(app, ["capacity", str(tmp_path / "t.yaml")])
    assert got.exit_code in (0, 2), got.output
    assert "Tiers and concurrency are as they stand (api: tier t2; pool: max_num_seqs" in " ".join(got.output.split())
