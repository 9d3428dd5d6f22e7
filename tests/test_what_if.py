"""Variations beside the base: values by hand, paired intervals, paths, ready-made variations, and what is refused."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import spearmanr
from typer.testing import CliRunner

import ttc_sim as ttc
from benchmarks.differences import covered
from benchmarks.intervals import problems, world
from tests.test_bills import API, replayed
from tests.test_scenario import GOOD
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.cli import app
from ttc_sim.optimizer.whatif.paths import Base
from ttc_sim.optimizer.whatif.predictors import other_predictor
from ttc_sim.optimizer.whatif.ready import READY_MADE, rates_of
from ttc_sim.optimizer.whatif.saying import in_file, said
from ttc_sim.policies import Always
from ttc_sim.reporting.what_if import plot_what_if
from ttc_sim.scenario import GpuPool, Scenario, as_plain, scenario_from_dict, with_changes
from ttc_sim.scenario.gpu_prices import GPU_PRICES
from ttc_sim.simulation.differences import Compared, compare, figures
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expected_under
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import summarize_pooled
from ttc_sim.strategies import BestOfN

from .conftest import ROOT

NONE = Estimate(0.0, 0.0, 0.0)
LENGTHS = {"prompt_tokens": 300, "output_tokens": {"median": 300, "p95": 2000}, "reasoning_share": 0.5}


def maths(**changes: Any) -> Scenario:
    return scenario_from_dict({**copy.deepcopy(GOOD), **changes})


def traffic_alone(**changes: Any) -> Scenario:
    workload = {"arrivals": {"process": "poisson", "rate_per_s": 2.0}, "requests": 200, "lengths": LENGTHS}
    raw = {"name": "plain", "replications": 3, "workload": workload, "policy": "Always('only')"}
    only = {"deployments": {"api": copy.deepcopy(API)}, "arms": {"only": {"deployment": "api"}}}
    return scenario_from_dict({**raw, **only, **changes})


def exactly(found: Compared, value: float) -> bool:
    """Whether the difference is that, and nothing of it is uncertain."""
    low, high = found.difference.low, found.difference.high
    return found.difference.value == pytest.approx(value) and low == pytest.approx(high)


def side_by_side(one: Pooled, other: Pooled) -> Mapping[str, Compared]:
    return compare(one, other, summarize_pooled(one), summarize_pooled(other))


def kept(scenario: Scenario | str, changes: Mapping[str, object], **options: Any) -> Mapping[str, Compared]:
    """Every figure of one variation, the policy as it was."""
    return ttc.what_if(scenario, {"other": changes}, **options).variations[0].kept.compared


# ------------------------------------------------------------------------------------------------------- values


def test_base_and_variations_are_what_simulations_of_them_come_to() -> None:
    changes = {"arms.large.strategy": "Single(cap=2000)", "workload.arrivals.rate_per_s": 2.0}
    found = ttc.what_if(maths(), {"other": changes}, requests=80, replications=3)
    for scenario, carried in ((maths(), found.base), (with_changes(maths(), changes), found.variations[0].kept)):
        alone = ttc.simulate(scenario, requests=80, replications=3).summary()
        assert repr(carried.summary.as_json()) == repr(alone.as_json())
        assert carried.figures["accuracy"] == alone.accuracy
        assert carried.figures["latency_p95_s"] == alone.latency_s["p95"]
    for beside in found.variations[0].kept.compared.values():
        assert beside.difference.value == pytest.approx(beside.after.value - beside.before.value, rel=1e-9, abs=1e-12)
        assert beside.difference.low <= beside.difference.value <= beside.difference.high


def test_differences_of_a_replay_are_exact_and_as_by_hand(tmp_path: Path) -> None:
    rows = [(float(k), 100 * (k + 1), 50 * (k % 3 + 1)) for k in range(9)]
    raw = as_plain(replayed(tmp_path, rows))
    api = {**copy.deepcopy(API), "first_token": {"median_s": 0.3}}
    raw |= {"deployments": {"api": api}, "arms": {"only": {"deployment": "api"}}}
    scenario = scenario_from_dict({key: value for key, value in raw.items() if key != "path"}, str(tmp_path / "s.yaml"))
    found = kept(
        scenario, {"deployments.api.price.output_usd_per_mtok": "-30%", "deployments.api.per_token.median_s": "2x"}
    )
    output = np.array([out for _, _, out in rows])
    saved = float((1.5e-6 * output).mean())  # 30% of $5 a million
    assert exactly(found["cost_usd_per_request"], -saved)
    assert found["cost_usd_per_month"].difference.value == pytest.approx(
        30 * found["cost_usd_per_day"].difference.value
    )
    slower = 0.01 * (output - 1)
    assert exactly(found["latency_mean_s"], float(slower.mean()))
    assert found["latency_p50_s"].difference.value == pytest.approx(float(np.sort(slower)[4]))
    assert found["prompt_tokens_per_request"].difference == NONE
    assert found["timed_out_rate"].difference == NONE


def test_accuracy_lost_to_a_cap_is_that_of_the_measured_attempts() -> None:
    scenario, cap = maths(policy="Always('large')"), 3000
    attempts = load_model(scenario).arms[1].attempts
    assert attempts is not None
    within = attempts.correct & (attempts.reasoning_tokens + attempts.visible_tokens <= cap)
    before = attempts.correct & (attempts.reasoning_tokens + attempts.visible_tokens <= 8192)
    lost = np.bincount(attempts.owner, weights=within * 1.0 - before) / attempts.count
    found = kept(scenario, {"arms.large.strategy": f"Single(cap={cap})"})["accuracy"]
    assert found.difference.value == pytest.approx(lost.mean(), abs=1e-12)
    # By the textbook, of problems that are a sample: Student's interval of the mean of their differences.
    half = 1.96 * lost.std(ddof=1) / np.sqrt(len(lost))
    assert found.difference.high - found.difference.low == pytest.approx(2 * half, rel=0.15)
    assert found.more_than_noise


@pytest.mark.parametrize("requests", [1, 60])
def test_what_changes_nothing_differs_by_exactly_nothing(requests: int) -> None:
    arms = {**GOOD["arms"], "large": {**GOOD["arms"]["large"], "strategy": "Single()"}}
    found = ttc.what_if(
        maths(arms=arms),
        {"high cap": {"arms.large.strategy": "Single(cap=1000000)"}, "unused": {"deployments.pool.queue_limit": 10**6}},
        requests=requests,
        replications=2,
    )
    for one in found.variations:
        assert all(beside.difference == NONE for beside in one.kept.compared.values()), one.name
        assert "comes to the same" in one.notes[-1]


def test_prices_leave_everything_else_exactly_as_it_is() -> None:
    found = kept(maths(), {"deployments.api.price.output_usd_per_mtok": "+50%"}, requests=60, replications=3)
    assert found["cost_usd_per_request"].difference.low > 0
    assert {name for name, one in found.items() if one.difference != NONE} == {
        f"cost_usd_per_{unit}" for unit in ("request", "day", "month")
    }


def test_a_saving_is_never_said_to_be_a_loss() -> None:
    """What falls for every request or for none has an interval on that side, however few it falls for."""
    policy = "Threshold(at=0.35, below='large', above='small')"  # few problems are so easy
    found = kept(maths(policy=policy), {"deployments.api.price.output_usd_per_mtok": "-50%"})["cost_usd_per_request"]
    assert found.difference.value < 0
    assert found.difference.high < 0


def test_few_problems_that_happen_to_go_one_way_say_nothing() -> None:
    """A policy that sends two problems elsewhere, both of which happen to fare worse: they might as well have fared better."""
    scenario = maths(policy="Threshold(at=0.5, below='small', above='large')")
    population = load_model(scenario).population
    assert population is not None
    edge = np.sort(population.scores["difficulty"][population.scores["difficulty"] >= 0.5])[1]
    found = kept(scenario, {"policy": ttc.Threshold(at=float(edge) + 1e-9, below="small", above="large")})["accuracy"]
    assert found.difference.value < 0
    assert not found.more_than_noise


# ------------------------------------------------------------------------------------------------------- coverage


def test_intervals_cover_the_true_difference_and_are_narrower_than_unpaired() -> None:
    case = {"arrivals": {"process": "poisson", "rate_per_s": 4.0}, "variation": "cap", "types": 40, "runs": 4}
    found = covered(case, 60, requests=300, truth_runs=60, truth_types=2000)
    for name in ("accuracy", "output_tokens_per_request", "latency_mean_s", "latency_p95_s", "timed_out_rate"):
        assert found[name]["covered"] >= 0.86, (name, found[name])  # of 60 at 95%, fewer than 52 once in 200 times
    for name in ("accuracy", "output_tokens_per_request", "latency_mean_s", "latency_p50_s"):
        assert found[name]["width"] < 0.8, (name, found[name])
    assert found["latency_p95_s"]["width"] < 1.01


def test_sooner_or_later_for_all_shifts_quantiles_by_that_alone() -> None:
    """Half a second more to the first token for all is half a second more at every quantile, whatever the draws."""
    scenario = traffic_alone()
    model = load_model(scenario)
    runs = [run_once(model, Always("only"), draw(model, k)) for k in range(3)]
    later = [run_once(model, Always("only"), draw(model, k)) for k in range(3)]
    for run in later:
        run.result.finished_s[:] += 0.5
        run.result.first_token_s[:] += 0.5
    sides = [Pooled(model, each, expected_under(model, Always("only"), each)) for each in (runs, later)]
    found = side_by_side(*sides)
    assert exactly(found["latency_mean_s"], 0.5)
    for name in ("latency_p50_s", "latency_p90_s"):
        difference, alone = found[name].difference, found[name].before
        assert difference.value == pytest.approx(0.5)
        assert difference.high - difference.low < 0.35 * (alone.high - alone.low)


def test_variations_on_other_problems_are_not_paired_by_chance() -> None:
    """A problem of the one and another of the other are no pair, though they stand in one row."""
    scenario = world({"process": "poisson", "rate_per_s": 4.0}, 200)
    sides = []
    for seed in (1, 2):
        model = load_model(scenario, problems(50, 1, seed, False))
        model.population.problem[:] = [f"{seed}/{k}" for k in range(50)]  # type: ignore[union-attr]
        runs = [run_once(model, Always("other"), draw(model, k)) for k in range(3)]
        sides.append(Pooled(model, runs, expected_under(model, Always("other"), runs)))
    found = side_by_side(*sides)["accuracy"]
    apart = math.hypot(found.before.high - found.before.low, found.after.high - found.after.low)
    assert found.difference.high - found.difference.low == pytest.approx(apart, rel=0.2)


# ------------------------------------------------------------------------------------------------- relative values


def base_of(scenario: Scenario | str) -> Base:
    loaded = ttc.load_scenario(scenario) if isinstance(scenario, str) else scenario
    return Base(load_model(loaded), loaded)


def test_relative_values_are_of_what_stands_there_in_effect(tmp_path: Path) -> None:
    gateway, day = base_of("reasoning-gateway"), base_of("qa-gateway")
    price = "deployments.claude-api.price.output_usd_per_mtok"
    assert gateway.in_effect(price) == 15.0  # Claude Sonnet 4's list price, looked up
    assert gateway.times(price, "-30%", "x") == 10.5
    assert gateway.times("deployments.claude-api.timeout_s", "0.5x", "x") == 60
    assert gateway.times("deployments.claude-api.retry.base_s", "3x", "x") == 3.0  # a default
    assert gateway.times("deployments.mistral-pool.replicas", "+50%", "x") == 3
    assert day.times("workload.arrivals.steps.1.rate_per_s", "2x", "x") == 18.0
    held = day.model.deployments[1]
    assert isinstance(held, GpuPool)
    assert held.kv_cache_tokens is not None
    kv = day.times("deployments.llama-70b-pool.kv_cache_tokens", "0.5x", "x")
    assert abs(float(str(kv)) - held.kv_cache_tokens / 2) <= 0.5
    listed = with_changes("qa-gateway", {"deployments.llama-70b-pool.usd_per_replica_hour": None})
    usd = base_of(listed).times("deployments.llama-70b-pool.usd_per_replica_hour", "2x", "x")
    assert usd == pytest.approx(2 * 4 * GPU_PRICES["h100_sxm"].usd_per_hour)
    recorded = replayed(tmp_path, [(2.0 * k, 10, 5) for k in range(21)])
    rate = base_of(recorded).times("workload.arrivals.rate_per_s", "2x", "x")
    assert rate == pytest.approx(2 * load_rate(recorded))


def load_rate(scenario: Scenario) -> float:
    return draw(load_model(scenario), 0).traffic.rate_per_s


def test_a_price_with_tiers_has_no_one_multiple_unless_all_prompts_are_short() -> None:
    assert base_of("qa-gateway").times("deployments.gemini-api.price.output_usd_per_mtok", "2x", "x") == 10.0
    api = {**copy.deepcopy(API), "price": {"provider": "google", "model": "gemini-1.5-pro", "on": "2026-11-24"}}
    with pytest.raises(InputError, match="prompts of more than 128,000 tokens"):
        base_of(traffic_alone(deployments={"api": api})).times("deployments.api.price.input_usd_per_mtok", "2x", "x")


# ------------------------------------------------------------------------------------------------- ready-made ones


def gateway(**changes: Any) -> Scenario:
    raw = as_plain(ttc.load_scenario("reasoning-gateway"))
    arms = {
        **raw["arms"],
        "best": {**raw["arms"]["maverick"], "strategy": "BestOfN(n=3, auroc=0.9)"},
        "judged": {**raw["arms"]["maverick"], "strategy": "Cascade(stages=['maverick', 'r1'], tpr=0.9, fpr=0.2)"},
    }
    return scenario_from_dict({**{key: value for key, value in raw.items() if key != "path"}, "arms": arms, **changes})


ACCURACY, COST, P95 = "accuracy", "cost_usd_per_request", "latency_p95_s"


@pytest.mark.parametrize(
    ("policy", "change", "expected"),
    [
        (None, {"ready.traffic": "3x"}, {"cost_usd_per_month": 1, "output_tokens_per_request": 0}),
        (None, {"ready.cap:r1": 1024}, {ACCURACY: -1, COST: -1, P95: -1}),
        (None, {"ready.lengths:r1": "2x"}, {COST: 1, "latency_mean_s": 1, "reasoning_tokens_per_request": 1}),
        (None, {"ready.thinking": "0.5x"}, {COST: -1, "reasoning_tokens_per_request": -1}),
        (None, {"ready.swap:maverick": "claude"}, {COST: 1}),
        (None, {"ready.prices-on": "2025-06-01"}, {COST: -1, ACCURACY: 0, P95: 0}),
        (None, {"ready.predictor": "none"}, {COST: 1}),
        (None, {"ready.predictor": "noise:0"}, {ACCURACY: -1}),
        (None, {"ready.predictor": "perfect"}, {ACCURACY: 1}),
        (None, {"ready.predictor": "drift:+2"}, {ACCURACY: 1}),
        ("Always('best')", {"ready.verifier": 0.6}, {ACCURACY: -1, COST: 0}),
        ("Always('best')", {"ready.verifier": 0.99}, {ACCURACY: 1, COST: 0}),
        ("Always('judged')", {"ready.verifier:judged": 0.55}, {ACCURACY: -1}),
    ],
)
def test_every_ready_made_variation_does_what_it_says(
    policy: str | None, change: dict[str, object], expected: dict[str, int]
) -> None:
    sources = {"everyday": {"problem_set": "reasoning-gym", "subset": "reasoning-gym-easy"}}
    scenario = gateway(**({} if policy is None else {"policy": policy}))
    workload = {"workload.sources": sources, "replications": 3, "workload.requests": 300}
    found = kept(with_changes(scenario, workload), change)
    for name, sign in expected.items():
        beside = found[name]
        if sign == 0:
            assert beside.difference == NONE, name
        else:
            assert beside.more_than_noise, (name, beside)
            assert beside.difference.value * sign > 0, (name, beside)


def test_every_ready_made_variation_is_written_about() -> None:
    said_of = CliRunner().invoke(app, ["whatif", "--help"], env={"COLUMNS": "200"}).output
    for name in READY_MADE:
        assert f"{name}=" in said_of or f"{name}:" in said_of, name
        assert f"`{name}" in (ROOT / "docs" / "what-if.md").read_text(), name


def test_a_day_with_twice_the_traffic_is_as_long() -> None:
    found = ttc.what_if("qa-gateway", {"busy": {"ready.traffic": "2x"}}, requests=700, replications=2)
    base, busy = found.base.summary, found.variations[0].kept.summary
    assert (base.requests, busy.requests) == (700, 1400)
    assert busy.rate_per_s == pytest.approx(2 * base.rate_per_s)
    loop = {"process": "closed_loop", "users": 4, "think_s": 1.0}
    crowded = ttc.what_if(maths(workload={**GOOD["workload"], "arrivals": loop}), {"x": {"ready.traffic": "2x"}})
    assert crowded.variations[0].changes[1].now == 8


def test_lengths_of_traffic_without_problems_grow_too() -> None:
    found = kept(traffic_alone(), {"ready.lengths": "2x"})
    assert found["output_tokens_per_request"].after.value == pytest.approx(
        2 * found["output_tokens_per_request"].before.value, rel=0.01
    )
    thinking = kept(traffic_alone(), {"ready.thinking": "2x"})
    assert thinking["visible_tokens_per_request"].difference == NONE
    assert thinking["reasoning_tokens_per_request"].difference.low > 0


def test_other_predictors_are_what_they_are_said_to_be() -> None:
    population = load_model(ttc.load_scenario("reasoning-gateway")).population
    assert population is not None
    name = "p:reasoning-gym/llama-4-maverick"
    scores = population.scores[name]
    none = other_predictor("none", "x")(population).scores[name]
    assert np.ptp(none) == 0
    assert none[0] == pytest.approx(population.weight @ scores)
    attempts = population.attempts["reasoning-gym/llama-4-maverick"]
    right = np.bincount(attempts.owner, weights=attempts.correct, minlength=len(scores)) / attempts.count
    np.testing.assert_allclose(other_predictor("perfect", "x")(population).scores[name], right)
    for kept_part in (0.8, 0.4, 0.0):
        noisy = other_predictor(f"noise:{kept_part}", "x")(population).scores
        # The ranks of normal variables with correlation r have (6 / pi) arcsin(r / 2).
        expected = 6 / np.pi * np.arcsin(kept_part / 2)
        assert spearmanr(noisy[name], scores).statistic == pytest.approx(expected, abs=0.03)
        assert (noisy[name] < 0.5).mean() == pytest.approx((scores < 0.5).mean(), abs=0.02)
        if (
            kept_part == 0
        ):  # errors of all scores are the same: where it takes a problem for hard, no model is likely to be right
            assert spearmanr(noisy["difficulty"], noisy[name]).statistic < -0.9
    drifted = other_predictor("drift:+1", "x")(population).scores
    odds = [one / (1 - one) for one in (drifted["difficulty"], population.scores["difficulty"])]
    assert odds[0] / odds[1] == pytest.approx(math.e, rel=1e-6)
    assert (drifted[name] < scores).all()


def test_judges_of_another_auroc_have_it_and_lean_as_much() -> None:
    for auroc in (0.5, 0.7, 0.97):
        tpr, fpr = rates_of(0.9, 0.3, auroc)
        assert ndtr((ndtri(tpr) - ndtri(fpr)) / np.sqrt(2)) == pytest.approx(auroc, abs=1e-5)
        assert ndtri(tpr) + ndtri(fpr) == pytest.approx(ndtri(0.9) + ndtri(0.3), abs=1e-4)
    assert ttc.parse_strategy("BestOfN(n=2, tpr=0.9, fpr=0.3)") == BestOfN(2, tpr=0.9, fpr=0.3)


def test_the_policy_that_weighs_arms_stays_with_what_it_expected() -> None:
    """Where responses are fitted they are the base's: a variation changes the world, not what the policy knows of it."""
    scenario = maths(policy="Utility(price_of_accuracy=0.05)")
    found = ttc.what_if(scenario, {"dear": {"deployments.api.price.output_usd_per_mtok": "100x"}}, requests=60)
    shares = [one.summary.per_arm["large"].share for one in (found.base, found.variations[0].kept)]
    assert shares[0] == shares[1] > 0
    refitted = ttc.simulate(with_changes(scenario, {"deployments.api.price.output_usd_per_mtok": 200.0}), requests=60)
    assert "large" not in refitted.summary().per_arm


# ------------------------------------------------------------------------------------------------- planned anew


def test_a_policy_planned_anew_is_told_apart(tmp_path: Path) -> None:
    targets = {"minimize": "cost", "accuracy": 0.55, "confidence": 0.5}
    scenario = maths(targets=targets, search={"bands": 4, "max_bands": 2}, replications=2)
    changes = {
        "free": {"deployments.api.price.output_usd_per_mtok": 0.0, "deployments.api.price.input_usd_per_mtok": 0.0}
    }
    found = ttc.what_if(scenario, changes, replan=True)
    one = found.variations[0]
    assert one.replanned is not None
    assert one.replanned.policy != found.base.policy == one.kept.policy
    # The better model costs nothing now: everything goes there.
    assert one.replanned.figures["cost_usd_per_request"].value == 0.0
    assert one.replanned.compared["accuracy"].difference.value > one.kept.compared["accuracy"].difference.value == 0
    raw = json.loads(json.dumps(found.as_json()))["variations"][0]
    assert raw["replanned"]["status"] == "met"
    assert raw["replanned"]["cost_usd_per_request"]["difference"]["value"] < 0
    assert set(found.table["policy"]) == {"kept", "replanned"}
    planned = ttc.optimize(with_changes(scenario, changes["free"]))
    told = planned.scenario.policy
    assert told == one.replanned.policy or repr(planned.policy) == one.replanned.policy
    # A search space matters to nothing else.
    with pytest.raises(InputError, match=r"search\.bands.*--replan"):
        ttc.what_if(scenario, {"x": {"search.bands": 8}})


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ("arms.large.strateg=Single()", ["--set arms.large.strateg", "'strategy'"]),
        ("arm.large.strategy=Single()", ["'arms'"]),
        ("arms.larg.strategy=Single()", ["'large'"]),
        ("arms.large.strategy=Single(cap=0)", ["--set arms.large.strategy=Single(cap=0)", "got 0", "at least 1"]),
        ("arms.large.strategy=Sngle()", ["arms.large.strategy", "'Single'"]),
        ("workload.arrivals.rate_per_s=-1", ["workload.arrivals.rate_per_s", "-1"]),
        ("workload.arrivals.rate_per_s=30%", ["workload.arrivals.rate_per_s", "30%", "number"]),
        ("deployments.pool.replicas=1.5x", ["deployments.pool.replicas", "1.5", "whole number"]),
        ("deployments.pool.timeout_s=2x", ["deployments.pool.timeout_s", "2x", "nothing stands there"]),
        ("arms.large.strategy=2x", ["arms.large.strategy", "'2x'"]),
        ("arms.large.strategy=Single(cap=8192)", ["another value"]),
        ("seed=7", ["seed", "same requests"]),
        ("replications=7", ["--replications"]),
        ("workload.requests=7", ["--requests"]),
        ("name=other", ["name", "depend on"]),
        ("search.bands=7", ["--replan"]),
        ("targets.minimize=cost_usd_per_day", ["--replan"]),
        ("policy=Always('nobody')", ["policy", "nobody", "large"]),
        ("workload.arrivals={process: poisson, rate_per_s: 1, cv: 2}", ["workload.arrivals", "cv"]),
        ("arms.large.profile=math/nonesuch", ["math/nonesuch"]),
        ("seed=7; seed=8", ["each path once"]),
        ("nothing", ["PATH=VALUE"]),
        ("seed=", ["seed", "a value"]),
        ("seed=[1", ["seed", "YAML"]),
    ],
)
def test_a_wrong_variation_is_one_clear_line(change: str, names: list[str]) -> None:
    with pytest.raises(InputError) as error:
        ttc.what_if(maths(), [said(change)], requests=5)
    line = str(error.value)
    assert "\n" not in line
    for name in names:
        assert name in line, line


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"ready.trafic": "2x"}, ["'traffic'"]),
        ({"ready.traffic": 2}, ["2x"]),
        ({"ready.traffic": "-100%"}, ["-100%"]),
        ({"ready.traffic:large": "2x"}, ["traffic alone"]),
        ({"ready.cap:larg": 5}, ["'large'"]),
        ({"ready.cap": 8192.5}, ["8192.5"]),
        ({"ready.cap:large": 8192}, ["another cap"]),
        ({"ready.swap:large": "large"}, ["another model"]),
        ({"ready.swap:large": "math/nonesuch"}, ["math/nonesuch"]),
        ({"ready.swap": "small"}, ["swap:ARM=OTHER"]),
        ({"ready.prices-on": "2026-01-01"}, ["looked up"]),
        ({"ready.verifier": 0.7}, ["BestOfN, Cascade"]),
        ({"ready.verifier": 1.7}, ["AUROC"]),
        ({"ready.predictor": "worse"}, ["noise:R"]),
        ({"ready.predictor": "noise:1"}, ["noise:R"]),
        ({"ready.lengths": "1e9x"}, ["100,000,000"]),
        ({"ready.cap:large": 5, "arms.large.strategy": "Single()"}, ["beside it"]),
    ],
)
def test_a_ready_made_variation_without_effect_is_refused(change: dict[str, object], names: list[str]) -> None:
    with pytest.raises(InputError) as error:
        ttc.what_if(maths(), {"mine": change}, requests=5)
    for name in ["mine", *names]:
        assert name in str(error.value), str(error.value)


def test_a_predictor_matters_only_to_what_reads_it() -> None:
    for scenario in (maths(policy="Always('large')"), traffic_alone()):
        with pytest.raises(InputError, match="predictor"):
            ttc.what_if(scenario, {"x": {"ready.predictor": "none"}}, requests=5)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: ttc.what_if(maths(), {}), ["variations"]),
        (lambda: ttc.what_if(maths(), {"x": {}}), ["variations"]),
        (lambda: ttc.what_if(maths(), 5), ["variations", "5"]),  # type: ignore[arg-type]
        (lambda: ttc.what_if(maths(), {"base": {"ready.traffic": "2x"}}), ["base"]),
        (lambda: ttc.what_if(maths(), {"x": {"ready.traffic": "2x"}}, requests=0), ["requests", "0"]),
        (lambda: ttc.what_if(maths(), {"x": {"ready.traffic": "2x"}}, workers=0), ["workers", "0"]),
        (lambda: ttc.what_if(maths(policy=None), {"x": {"ready.traffic": "2x"}}), ["policy", "--replan"]),
        (lambda: ttc.what_if("reasoning-gatewy", {"x": {"ready.traffic": "2x"}}), ["'reasoning-gateway'"]),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], object], names: list[str]) -> None:
    with pytest.raises(InputError) as error:
        call()
    for name in names:
        assert name in str(error.value), str(error.value)


# ------------------------------------------------------------------------------------------------- how they are said


def test_values_may_hold_what_joins_variations() -> None:
    text = "two caps: arms.a.strategy=MajorityVote(n=3, of=Single(cap=5)); policy=Threshold(at=0.5, below='a; b', above='c')"
    found = said(text)
    assert found.name == "two caps"
    assert [(path, value) for path, (value, _) in found.changes.items()] == [
        ("arms.a.strategy", "MajorityVote(n=3, of=Single(cap=5))"),
        ("policy", "Threshold(at=0.5, below='a; b', above='c')"),
    ]
    assert said("traffic=2x", "--ready", ready=True).changes["ready.traffic"][0] == "2x"


FILES = {
    "a part of a scenario": "deployments: {pool: {replicas: 2}, api: {timeout_s: 40}}\nworkload: {arrivals: {rate_per_s: 2x}}\n",
    "paths": "deployments.pool.replicas: 2\ndeployments.api.timeout_s: 40\nworkload.arrivals.rate_per_s: 2x\n",
    "a list": "- deployments.pool.replicas: 2\n- deployments.api: {timeout_s: 40}\n- workload.arrivals.rate_per_s: 2x\n",
}


def test_files_say_the_same_in_three_ways(tmp_path: Path) -> None:
    found = []
    for name, text in FILES.items():
        (tmp_path / f"{name}.yaml").write_text(text)
        variation = in_file(f"mine={tmp_path / f'{name}.yaml'}", as_plain(maths()))
        assert variation.name == "mine"
        found.append(ttc.what_if(maths(), [variation], requests=20, replications=1).variations[0].as_json())
    assert found[0]["set"] == {
        "deployments.pool.replicas": 2,
        "deployments.api.timeout_s": 40,
        "workload.arrivals.rate_per_s": 2.0,
    }
    assert repr(found[0]) == repr(found[1]) == repr(found[2])


def test_a_mistake_in_a_file_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    for text, line, names in (
        ("arms:\n  large:\n    strategy: Single(cap=0)\n", 3, ["arms.large.strategy", "0"]),
        ("arms:\n  large:\n    strateg: Single()\n", 3, ["'strategy'"]),
        ("workload.arrivals.rate_per_s: 2\narms.larg.strategy: Single()\n", 2, ["'large'"]),
        ("- seed: 1\n- workload.arrivals.rate_per_s: -5\n", 2, ["-5"]),
    ):
        file.write_text(text)
        with pytest.raises(InputError) as error:
            ttc.what_if(maths(), [in_file(str(file), as_plain(maths()))], requests=5)
        for name in (f"wrong.yaml: line {line}", *names):
            assert name in str(error.value), str(error.value)


def test_an_arm_may_be_added_whole() -> None:
    new = {"profile": "math/sky-t1-32b", "deployment": "pool", "strategy": "Single(cap=2048)"}
    changes = {"arms.third": new, "policy": "Always('third')"}
    assert kept(maths(), changes, requests=20)["cost_usd_per_request"].difference.value != 0


# ------------------------------------------------------------------------------------------------- the command


def test_the_command_writes_what_the_function_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = "whatif competition-maths --requests 60 --replications 2 --json w.json --plot w.png --table w.csv"
    more = ["--set", "capped: arms.thinker-32b.strategy=Single(cap=4096)", "--ready", "traffic=2x"]
    got = CliRunner().invoke(app, [*words.split(), *more])
    assert got.exit_code == 0, got.output
    raw = json.loads((tmp_path / "w.json").read_text())
    found = ttc.what_if(
        "competition-maths",
        {"capped": {"arms.thinker-32b.strategy": "Single(cap=4096)"}, "traffic=2x": {"ready.traffic": "2x"}},
        requests=60,
        replications=2,
    )
    assert [one["name"] for one in raw["variations"]] == ["capped", "traffic=2x"]
    assert raw["variations"][0]["set"] == {"arms.thinker-32b.strategy": "Single(cap=4096)"}
    for one, mine in zip(raw["variations"], found.variations, strict=True):
        for name, beside in mine.kept.compared.items():
            assert one[name]["value"] == beside.after.value
            assert one[name]["difference"]["value"] == beside.difference.value
    assert raw["base"]["accuracy"]["value"] == found.base.figures["accuracy"].value
    assert {target["name"] for target in raw["base"]["targets"]} >= {"latency_p95_s"}
    assert f"{100 * found.variations[0].kept.compared['accuracy'].difference.value:+.2f}" in got.output
    assert (tmp_path / "w.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "w.csv").read_text().count("\n") == len(found.table) + 1


def test_the_number_of_workers_changes_no_byte() -> None:
    changes: dict[str, dict[str, object]] = {
        "a": {"ready.traffic": "2x"},
        "b": {"ready.predictor": "noise:0.5"},
        "c": {"ready.cap": 900},
    }
    alone, shared_out = (
        json.dumps(ttc.what_if(maths(), changes, requests=30, replications=2, workers=workers).as_json())
        for workers in (1, 2)
    )
    assert alone == shared_out


def test_shells_complete_paths() -> None:
    words = "ttc-sim whatif qa-gateway --set deployments.gemini-api.price.o"
    asked = {"_TTC_SIM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "4"}
    code = "from ttc_sim.cli import main; main()"
    got = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert got.stdout.split() == [
        "deployments.gemini-api.price.on=",
        "deployments.gemini-api.price.output_usd_per_mtok=",
    ], got.stderr


@pytest.mark.parametrize("count", [1, 9, 40])
def test_no_text_of_the_picture_overlaps(count: int) -> None:
    changes = {
        f"a rather long name of variation {k}, $x_{k}": {"workload.arrivals.rate_per_s": 1 + 0.1 * (k + 1)}
        for k in range(2)
    }
    found = ttc.what_if(maths(), changes, requests=20, replications=1)
    many = tuple(found.variations[k % 2] for k in range(count))
    figure = plot_what_if(type(found)(found.name, found.base, many, ()))
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [label.get_window_extent(renderer) for label in figure.axes[0].get_yticklabels()]
    for one, other in pairwise(boxes):
        assert not one.overlaps(other)
    for axes in figure.axes:
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        low, high = sorted(axes.get_xlim())
        shown = [
            one.get_window_extent(renderer)
            for one, at in zip(labels, axes.get_xticks(), strict=False)
            if low <= at <= high
        ]
        for one, other in pairwise(shown):
            assert not one.overlaps(other)
    titles = [axes.title.get_window_extent(renderer) for axes in figure.axes]
    for one, other in pairwise(titles):
        assert not one.overlaps(other)


def test_figures_have_the_names_of_targets() -> None:
    names = figures(ttc.simulate(maths(), requests=20).summary())
    for target in ("accuracy", "cost_usd_per_request", "cost_usd_per_day", "ttft_p95_s", "tpot_p99_s", "latency_p50_s"):
        assert target in names
    assert {"timeout_rate", "timed_out_rate", "rejected_rate"} <= set(names)
