"""Bills: pools by the time that they are provided, requests by the time that they take, and all parts add up."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.intervals import problems
from ttc_sim.policies import Always, LeastLoaded, Overflow, Policy, Threshold
from ttc_sim.scenario import Scenario, scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.result import Result, simulate
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize

STEP = {"base_s": 0.02, "per_prefill_token_s": 0.0, "per_sequence_s": 0.0, "per_kv_token_s": 0.0}
POOL = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 3.6, "max_num_seqs": 8, "step_time": STEP}
API = {
    "kind": "api",
    "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0, "reasoning_usd_per_mtok": 2.0},
    "first_token": {"median_s": 0.3, "p95_s": 0.9},
    "per_token": {"median_s": 0.01},
}


def replayed(folder: Path, rows: Sequence[tuple[float, int, int]], **pool: Any) -> Scenario:
    """Requests (seconds, prompt tokens, output tokens) on one pool at $0.001 a second."""
    lines = "\n".join(f"{t},{p},{o}" for t, p, o in rows)
    (folder / "trace.csv").write_text("t,p,o\n" + lines + "\n")
    columns = {"arrival": "t", "prompt_tokens": "p", "output_tokens": "o"}
    arrivals = {"process": "trace", "file": "trace.csv", "format": "csv", "columns": columns}
    raw = {
        "name": "bill",
        "replications": 1,
        "workload": {"arrivals": arrivals, "requests": len(rows)},
        "deployments": {"pool": {**POOL, **pool}},
        "arms": {"only": {"deployment": "pool"}},
        "policy": "Always('only')",
    }
    return scenario_from_dict(raw, str(folder / "s.yaml"))


def on_problems(arrivals: dict[str, Any], requests: int, **pool: Any) -> dict[str, Any]:
    return {
        "name": "bill",
        "replications": 2,
        "workload": {"arrivals": arrivals, "requests": requests, "sources": {"all": {"problem_set": "made-up"}}},
        "deployments": {"pool": {**POOL, **pool}, "api": copy.deepcopy(API)},
        "arms": {"own": {"profile": "a", "deployment": "pool"}, "other": {"profile": "b", "deployment": "api"}},
    }


def carried_out(raw: dict[str, Any], policy: Policy, runs: int = 2, by_problem: bool = False) -> tuple[Result, Summary]:
    model = load_model(scenario_from_dict(raw), problems(30, 3, 5, False))
    done = tuple(run_once(model, policy, draw(model, k)) for k in range(runs))
    expected = None
    if by_problem:
        assert model.population is not None
        expected = expect_arms(model).under(policy.choose(model.population.as_requests(), model.arm_names))
    return Result(model, policy, done), summarize(model, done, expected=expected)


# ------------------------------------------------------------------------------------------- how long a pool is paid for


def test_a_burst_is_paid_until_its_last_answer(tmp_path: Path) -> None:
    # 8 at a time, 50 iterations of 0.02 s each: 1,000 requests take 125 rounds of 1 s.
    result = simulate(replayed(tmp_path, [(7.0, 200, 50)] * 1000, max_num_batched_tokens=4096))
    summary = result.summary()
    assert summary.cost_usd_per_request.value == pytest.approx(125 * 0.001 / 1000)
    assert summary.cost_usd_per_day.value == pytest.approx(86.4)
    assert result.records["cost_usd"].sum() == pytest.approx(125 * 0.001)


@pytest.mark.parametrize("replicas", [1, 3])
def test_an_overload_is_paid_until_its_last_answer(tmp_path: Path, replicas: int) -> None:
    recorded = simulate(replayed(tmp_path, [(0.01 * i, 20, 50) for i in range(2000)], replicas=replicas)).records
    arriving = on_problems({"process": "poisson", "rate_per_s": 40.0}, 2000, replicas=replicas)
    drawn = carried_out(arriving, Always("own"), runs=1)[0].records
    for records in (recorded, drawn):
        provided_s = float(records["finished_s"].max() - records["arrival_s"].min())  # type: ignore[operator, arg-type]
        assert provided_s > 2 * records["arrival_s"].max()  # type: ignore[operator]
        assert records["cost_usd"].sum() == pytest.approx(replicas * 0.001 * provided_s)


@pytest.mark.parametrize(
    ("arrivals", "seconds_per_request"),
    [
        ({"process": "poisson", "rate_per_s": 0.5}, 2.0),
        ({"process": "gamma", "rate_per_s": 0.5, "cv": 3.0}, 2.0),
        # An empty hour is paid like any other.
        (
            {
                "process": "piecewise",
                "steps": [
                    {"duration_s": 10, "rate_per_s": 2.0},
                    {"duration_s": 90, "rate_per_s": 0.0},
                    {"duration_s": 60, "rate_per_s": 1.0},
                ],
            },
            2.0,
        ),
    ],
)
def test_a_steady_bill_does_not_depend_on_how_many_were_asked_for(
    arrivals: dict[str, Any], seconds_per_request: float
) -> None:
    for requests in (80, 800):
        _, summary = carried_out(on_problems(arrivals, requests), Always("own"))
        assert summary.verdict == "stable"
        assert summary.cost_usd_per_request.value == pytest.approx(0.001 * seconds_per_request)
        assert summary.cost_usd_per_day.value == pytest.approx(86.4)


@pytest.mark.parametrize("requests", [40, 400, 4003])
def test_users_who_wait_for_answers_pay_for_the_pace_they_get(requests: int) -> None:
    raw = on_problems({"process": "closed_loop", "users": 8, "think_s": 0}, requests)
    model = load_model(scenario_from_dict(raw), problems(1, 1, 5, False))
    output = float(model.population.attempts["a"].visible_tokens.mean())  # type: ignore[union-attr]
    summary = summarize(model, [run_once(model, Always("own"), draw(model, k)) for k in range(4)])
    # Eight users on eight places: each answer of n tokens takes n iterations of 0.02 s.
    assert summary.cost_usd_per_request.value == pytest.approx(0.001 * 0.02 * output / 8, rel=0.5 / requests**0.25)


def test_a_pool_that_only_rejects_is_paid_for(tmp_path: Path) -> None:
    never = {"kv_cache_tokens": 64, "prefix_caching": False}
    result = simulate(replayed(tmp_path, [(float(i), 200, 50) for i in range(101)], **never))
    assert (result.records["status"] == "rejected").all()
    assert result.records["cost_usd"].to_numpy() == pytest.approx(0.1 / 101)
    assert result.summary().cost_usd_per_request.value == pytest.approx(0.1 / 101)


def test_a_pool_that_stood_by_for_an_overflow_is_paid_for() -> None:
    """Two pools, the second of which no request ever needed: both stood there all the time."""
    raw = on_problems({"process": "even", "rate_per_s": 0.05}, 50)
    raw["deployments"]["spare"] = {**POOL, "usd_per_replica_hour": 7.2}
    raw["arms"]["other"] |= {"deployment": "spare"}
    result, summary = carried_out(raw, Overflow(["own", "other"], waiting=3))
    assert set(result.records["arm"]) == {"own"}
    assert summary.replicas == {"pool": 1, "spare": 1}
    assert summary.cost_usd_per_request.value == pytest.approx((0.001 + 0.002) * 20)
    assert result.records["cost_usd"].sum() == pytest.approx(2 * 50 * 0.06)


def test_a_pool_that_nothing_is_sent_to_is_not_paid_for() -> None:
    result, summary = carried_out(on_problems({"process": "poisson", "rate_per_s": 2.0}, 300), Always("other"))
    assert summary.replicas == {}
    records = result.records
    by_tokens = 1e-6 * records["prompt_tokens"] + 5e-6 * records["visible_tokens"]
    assert records["cost_usd"].to_numpy() == pytest.approx(by_tokens.to_numpy())


# ------------------------------------------------------------------------------------------------ who pays how much of it


def test_requests_pay_for_the_time_that_they_take(tmp_path: Path) -> None:
    """Long prompts and long answers, mixed, pay in the proportion in which crowds of only the one or the other take time."""
    step = {"base_s": 0.005, "per_prefill_token_s": 5e-5, "per_sequence_s": 2e-4, "per_kv_token_s": 1e-8}
    pool = {"step_time": step, "max_num_seqs": 32}
    kinds = {"prompt": (4000, 40), "answer": (40, 4000)}
    alone = {
        name: simulate(replayed(tmp_path, [(0.0, *kind)] * 320, **pool)).summary().cost_usd_per_request.value
        for name, kind in kinds.items()
    }
    mixed = simulate(replayed(tmp_path, [(0.0, *kinds[k]) for _ in range(160) for k in kinds], **pool)).records
    usd, prompts = mixed["cost_usd"].to_numpy(), mixed["prompt_tokens"].to_numpy()
    cost = {name: float(usd[prompts == kind[0]].mean()) for name, kind in kinds.items()}
    ratio = cost["answer"] / cost["prompt"]
    assert ratio == pytest.approx(alone["answer"] / alone["prompt"], rel=0.25)
    assert ratio > 3


def test_a_prompt_found_in_the_cache_costs_no_prefill(tmp_path: Path) -> None:
    step = {**STEP, "per_prefill_token_s": 1e-4}
    blocks = list(range(20))
    lines = [
        json.dumps({"timestamp": 60_000 * i, "input_length": 10_240, "output_length": 10, "hash_ids": blocks})
        for i in range(3)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    costs = {}
    for caching in (True, False):
        raw = {
            "name": "cache",
            "replications": 1,
            "workload": {"arrivals": {"process": "trace", "file": "t.jsonl", "format": "mooncake"}, "requests": 3},
            "deployments": {"pool": {**POOL, "step_time": step, "prefix_caching": caching}},
            "arms": {"only": {"deployment": "pool"}},
        }
        records = simulate(scenario_from_dict(raw, str(tmp_path / "s.yaml")), Always("only")).records
        usd = records["cost_usd"].to_numpy()
        costs[caching] = usd / usd.sum()
    assert costs[False] == pytest.approx(1 / 3)
    # Prefill takes 1 s, the answer 0.2 s.
    assert costs[True][1:] / costs[True][0] == pytest.approx(0.2 / 1.2, rel=0.15)


@pytest.mark.parametrize("usd", [0.0, 1.0, 4.0])
def test_thinking_costs_its_price(tmp_path: Path, usd: float) -> None:
    (tmp_path / "t.csv").write_text("t,p,r,o\n" + "".join(f"{i},100,{50 * i},{50 * i + 30}\n" for i in range(1, 30)))
    columns = {"arrival": "t", "prompt_tokens": "p", "reasoning_tokens": "r", "output_tokens": "o"}
    raw = {
        "name": "thinking",
        "replications": 1,
        "workload": {
            "arrivals": {"process": "trace", "file": "t.csv", "format": "csv", "columns": columns},
            "requests": 29,
        },
        "deployments": {"api": {**API, "price": {**API["price"], "reasoning_usd_per_mtok": usd}}},  # type: ignore[dict-item]
        "arms": {"only": {"deployment": "api"}},
    }
    result = simulate(scenario_from_dict(raw, str(tmp_path / "s.yaml")), Always("only"))
    records = result.records
    assert records["thinking_cost_usd"].to_numpy() == pytest.approx(1e-6 * usd * records["reasoning_tokens"].to_numpy())
    share = records["thinking_cost_usd"].to_numpy().sum() / records["cost_usd"].to_numpy().sum()
    assert result.summary().thinking_cost_share == pytest.approx(share)


# --------------------------------------------------------------------------------------------------------- it adds up


@given(
    rate=st.sampled_from([0.3, 2.0, 30.0]),
    requests=st.sampled_from([1, 2, 7, 150]),
    replicas=st.integers(1, 3),
    timeout_s=st.sampled_from([None, 1.234567, 20.1234567]),
    queue_limit=st.sampled_from([None, 0, 2]),
    kv=st.sampled_from([None, 512, 4096]),
    strategy=st.sampled_from(
        ["Single()", "Single(cap=60)", "MajorityVote(n=3)", "BestOfN(n=2, auroc=0.8, verifier='api')"]
    ),
    policy=st.sampled_from(
        [Always("own"), Always("other"), Threshold(0.5, "own", "other"), LeastLoaded(["own", "other"])]
    ),
)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_bills_add_up(
    rate: float,
    requests: int,
    replicas: int,
    timeout_s: float | None,
    queue_limit: int | None,
    kv: int | None,
    strategy: str,
    policy: Policy,
) -> None:
    limits = {"timeout_s": timeout_s, "queue_limit": queue_limit, "kv_cache_tokens": kv, "replicas": replicas}
    raw = on_problems({"process": "poisson", "rate_per_s": rate}, requests, **limits)
    raw["arms"]["own"]["strategy"] = strategy
    static = not policy.looks_at_load
    result, summary = carried_out(raw, policy, by_problem=static)
    for run in result.runs:
        pools = run.cost_usd.sum() - run.api_cost_usd.sum()
        assert pools == pytest.approx((0.001 * replicas * run.paid_s) if run.replicas else 0.0, abs=1e-12)
        assert (run.cost_usd >= 0).all()
        assert (run.thinking_cost_usd <= run.cost_usd + 1e-15).all()
        assert (run.idle_cost_usd <= run.thinking_cost_usd + 1e-15).all()
        assert (run.visible_cost_usd >= 0).all()
        assert (run.thinking_cost_usd + run.visible_cost_usd <= run.cost_usd + 1e-15).all()
        if policy == Always("other"):
            # Of an endpoint whose prices are per token, what is left is for the prompt.
            of_prompts = run.cost_usd - run.thinking_cost_usd - run.visible_cost_usd
            assert of_prompts == pytest.approx(1e-6 * run.prompt_tokens, abs=1e-15)
    cost = summary.cost_usd_per_request.value
    tokens = summary.tokens_per_request["output"].value
    for parts in (summary.per_arm, summary.per_source, summary.per_band):
        assert sum(part.share for part in parts.values()) == pytest.approx(1.0)
        assert sum(part.share * part.cost_usd_per_request.value for part in parts.values()) == pytest.approx(cost)
        assert sum(part.share * part.tokens_per_request for part in parts.values()) == pytest.approx(tokens)
    if not static:
        assert cost == pytest.approx(result.records["cost_usd"].mean())
    if policy == Always("other"):
        said = summary.tokens_per_request
        by_tokens = 1e-6 * said["prompt"].value + 2e-6 * said["reasoning"].value + 5e-6 * said["visible"].value
        assert cost == pytest.approx(by_tokens)


def test_what_is_planned_is_what_is_expected() -> None:
    """Tokens and bills of requests that run to their end agree with the expectations over problems that headlines rest on."""
    raw = on_problems({"process": "poisson", "rate_per_s": 1.0}, 6000)
    raw["arms"]["other"]["strategy"] = "BestOfN(n=2, auroc=0.8, verifier='api')"
    result, _ = carried_out(raw, Always("other"), runs=1)
    run, model = result.runs[0], result.model
    assert model.population is not None
    under = expect_arms(model).under(np.ones(len(model.population), dtype=np.int64))
    weight = model.population.weight
    for k, name in enumerate(("prompt", "reasoning", "visible")):
        assert run.planned_tokens[k].mean() == pytest.approx(float(under[name] @ weight), rel=0.05)
    assert run.planned_api_cost_usd.mean() == pytest.approx(float(under["api_cost_usd"] @ weight), rel=0.05)
