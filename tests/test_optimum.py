"""How many replicas, what is nearest, and what a plan is compared with: beside brute force by simulation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ttc_sim as ttc
from benchmarks.optimum import compare
from ttc_sim.base.draws import uniforms
from ttc_sim.optimizer.baselines import always_proposals, compare_with_baselines
from ttc_sim.optimizer.capacities import affordable, pools_and_sizes
from ttc_sim.optimizer.hindsight import in_hindsight
from ttc_sim.optimizer.nearest import loosened
from ttc_sim.optimizer.plan import Plan
from ttc_sim.optimizer.planning import plan_model
from ttc_sim.optimizer.promises import check_targets
from ttc_sim.optimizer.space import load_model_like
from ttc_sim.optimizer.task import PlanningTask, Timing
from ttc_sim.policies import Always, Banded, PerSource, Policy, Threshold, Utility
from ttc_sim.scenario import Targets, scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.expected_times import Waiting, first_guess
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize

EASY = {"easy": {"problem_set": "reasoning-gym", "subset": "reasoning-gym-easy"}}
MISTRAL = "reasoning-gym/mistral-small-3.1-24b-instruct"
MAVERICK = "reasoning-gym/llama-4-maverick"


def pool(usd: float, replicas: int = 1, base_s: float = 0.012) -> dict[str, Any]:
    return {
        "kind": "gpu_pool",
        "replicas": replicas,
        "usd_per_replica_hour": usd,
        "max_num_seqs": 16,
        "max_num_batched_tokens": 2048,
        "step_time": {"base_s": base_s, "per_prefill_token_s": 6e-5, "per_sequence_s": 3e-4, "per_kv_token_s": 6e-8},
    }


def api(output_usd: float) -> dict[str, Any]:
    return {
        "kind": "api",
        "price": {"input_usd_per_mtok": 0.3, "output_usd_per_mtok": output_usd},
        "first_token": {"median_s": 0.5, "p95_s": 1.0},
        "per_token": {"median_s": 0.01, "p95_s": 0.02},
    }


def small(**changes: Any) -> Model:
    """One arm on one pool and its like, on a few hundred problems."""
    raw: dict[str, Any] = {
        "name": "small",
        "replications": 3,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 4.0},
            "requests": 400,
            "sources": EASY,
        },
        "deployments": {"p": pool(2.0)},
        "arms": {"a": {"profile": MISTRAL, "deployment": "p", "strategy": "Single(cap=1024)"}},
        "search": {"bands": 2, "max_bands": 2, "scores": ["difficulty"], "replicas": {"p": [1, 2, 3, 4, 5, 6, 8, 12]}},
        **changes,
    }
    whole = load_model(scenario_from_dict(raw))
    assert whole.population is not None
    keep = np.zeros(len(whole.population), dtype=np.bool_)
    keep[np.argsort(uniforms(0, "few", len(keep))[:, 0])[:300]] = True
    return load_model(whole.scenario, whole.population.restricted(keep))


def asking(model: Model, **targets: Any) -> Model:
    """Targets that hold by their figures' values, as those of others are compared."""
    asked = Targets(**{"confidence": 0.5, **targets})
    return load_model_like(model, model.scenario.model_copy(update={"targets": asked}))


def at(model: Model, policy: Policy, **replicas: int) -> Summary:
    """A policy on these replicas, on the draws that plans are verified on."""
    raw = model.scenario.model_dump(mode="python", exclude={"path"})
    for name, count in replicas.items():
        raw["deployments"][name]["replicas"] = count
    one = load_model_like(model, scenario_from_dict(raw))
    assert one.population is not None
    arm = policy.choose(one.population.as_requests(), one.arm_names)
    runs = [run_once(one, policy, draw(one, k, purpose="verify")) for k in range(one.scenario.replications)]
    return summarize(one, runs, expected=expect_arms(one).under(arm))


@pytest.mark.parametrize("number", [0, 3])
def test_the_plan_of_a_random_scenario_is_the_best_of_all(number: int) -> None:
    row = compare(number)
    assert row.within(0.01), row


def test_the_fewest_replicas_that_are_fast_enough_are_planned() -> None:
    model = small()
    p95 = {count: at(model, Always("a"), p=count).latency_s["p95"].value for count in (2, 3, 4, 5)}
    load = np.nanmean(expect_arms(model).gpu_s) * 4.0
    assert 1.0 < load / 0.8 <= 2.0  # two at least, by load
    for limit_s in (0.5 * (p95[3] + p95[4]), 1.5 * p95[2]):
        fewest = min(count for count, seconds in p95.items() if seconds <= limit_s)
        plan = plan_model(asking(model, minimize="cost", accuracy=0.01, latency_p95_s=float(limit_s)))
        assert plan.status == "met"
        assert plan.predicted.replicas == {"p": fewest}
        assert plan.predicted.latency_s["p95"].value == pytest.approx(p95[fewest])


def test_what_the_most_replicas_do_not_reach_is_not_promised_and_the_nearest_is_the_fastest() -> None:
    model = small()
    best_s = at(model, Always("a"), p=12).latency_s["p95"].value
    plan = plan_model(asking(model, minimize="cost", accuracy=0.01, latency_p95_s=0.9 * best_s))
    assert plan.status == "nearest"
    assert plan.binding == ("latency_p95_s",)
    assert plan.predicted.latency_s["p95"].value <= best_s * 1.001


def test_a_load_that_no_number_of_replicas_carries_gives_a_nearest_plan() -> None:
    """It ended in a traceback: the program had no solution, however far its limits were loosened."""
    model = small(search={"bands": 2, "max_bands": 1, "scores": ["difficulty"], "replicas": {"p": [1]}})
    plan = plan_model(asking(model, minimize="cost", accuracy=0.01, latency_p95_s=1.0))
    assert plan.status == "nearest"
    assert plan.predicted.replicas == {"p": 1}


def test_of_three_kinds_of_gpu_the_cheapest_that_is_fast_enough_is_taken() -> None:
    deployments = {"slow": pool(1.0, base_s=0.03), "mid": pool(2.2), "fast": pool(3.5, base_s=0.006)}
    sizes = [1, 2, 4]
    model = small(
        deployments=deployments,
        arms={name: {"profile": MISTRAL, "deployment": name, "strategy": "Single(cap=1024)"} for name in deployments},
        search={"bands": 2, "max_bands": 1, "scores": ["difficulty"], "replicas": dict.fromkeys(deployments, sizes)},
    )
    gpu_s = np.nanmean(expect_arms(model).gpu_s, axis=1) * 4.0
    limit_s = 14.0
    cost: dict[tuple[str, int], float] = {}
    for name, busy in zip(deployments, gpu_s, strict=True):
        for count in sizes:
            if busy <= 0.8 * count:
                seen = at(model, Always(name), **{name: count})
                if seen.latency_s["p95"].value <= limit_s:
                    cost[name, count] = seen.cost_usd_per_request.value
    plan = plan_model(asking(model, minimize="cost", accuracy=0.01, latency_p95_s=limit_s))
    assert plan.status == "met"
    assert plan.predicted.cost_usd_per_request.value <= min(cost.values()) * (1 + 1e-6)


def test_times_seen_with_some_replicas_say_nothing_of_others() -> None:
    model = small()
    guess = first_guess(model)
    timing = Timing(expect_arms(model), Targets(minimize="cost", accuracy=0.1, latency_p95_s=10.0), guess)
    seen = Waiting(50.0, 0.5)
    after = timing.after({("p", 2): seen})
    assert after.at({"p": 2}).waiting == {"p": seen}
    assert after.at({"p": 4}).waiting == guess
    assert (after.at({"p": 2}).late[0] >= after.at({"p": 4}).late[0]).all()
    assert after.at({"p": 4}).late == pytest.approx(timing.late)


DAY = {
    "process": "piecewise",
    "steps": [{"duration_s": 200, "rate_per_s": 1.0}, {"duration_s": 200, "rate_per_s": 8.0}],
}


@pytest.mark.parametrize(
    ("arrivals", "requests"),
    [
        ({"process": "poisson", "rate_per_s": 4.0}, 400),
        (DAY, 300),  # half of them in the slow first part
        (DAY, 3000),
        ({"process": "trace", "format": "csv", "columns": {"arrival": "t"}}, 500),
    ],
    ids=["steady", "part of a day", "days", "part of a trace"],
)
def test_pools_are_priced_as_they_are_billed(arrivals: dict[str, Any], requests: int, tmp_path: Path) -> None:
    """By the time that the simulated requests take to come, not by the mean rate of a whole day or trace."""
    if arrivals["process"] == "trace":
        times = np.concatenate([np.arange(500) / 2.0, 250 + np.arange(2000) / 20.0])
        (tmp_path / "t.csv").write_text("t\n" + "\n".join(map(str, times)) + "\n")
        arrivals = {**arrivals, "file": str(tmp_path / "t.csv")}
    model = small(
        workload={"arrivals": arrivals, "requests": requests, "sources": EASY}, search={"replicas": {"p": [16]}}
    )
    task = PlanningTask.of(expect_arms(model), Targets(minimize="cost", accuracy=0.01))
    proposal = always_proposals(task)["always-small"]
    billed = at(model, proposal.policy, p=16).cost_usd_per_request.value
    assert proposal.cost_usd_per_request == pytest.approx(billed, rel=0.06 if arrivals["process"] == "trace" else 1e-9)


# ------------------------------------------------------------------------------- nothing beside the plan is better


def mixed(**changes: Any) -> Model:
    """A pool and an API, with caps to choose from."""
    return small(
        deployments={"p": pool(2.0), "web": api(2.0)},
        arms={
            "a": {"profile": MISTRAL, "deployment": "p"},
            "b": {"profile": MAVERICK, "deployment": "web"},
        },
        search={
            "bands": 4,
            "max_bands": 3,
            "caps": {"a": [1024, 4096], "b": [1024, 8192]},
            "replicas": {"p": [1, 2, 4]},
        },
        **changes,
    )


def miss_of(summary: Summary, targets: Targets) -> float:
    return max(check.miss for check in check_targets(summary, targets))


def is_not_beaten(plan: Plan) -> None:
    """By nothing that is printed beside it, as far as that is simulated."""
    targets = plan.scenario.targets
    assert targets is not None
    mine = miss_of(plan.predicted, targets)
    cost = plan.predicted.cost_usd_per_request.value
    for name, other in plan.baselines.items():
        assert miss_of(other, targets) >= mine - 1e-9, name
        if mine == 0 and miss_of(other, targets) == 0 and targets.maximize is None:
            assert other.cost_usd_per_request.value >= cost * (1 - 1e-9), name
    for name, one in plan.alternatives.items():
        assert miss_of(one.predicted, targets) >= mine - 1e-9
        said = one.as_json()[one.objective]
        if one.status == "within noise":
            assert plan.gain is not None
            assert not plan.gain.more_than_noise
            assert said is None
        elif one.status == "met" and mine == 0:
            usd, right = one.predicted.cost_usd_per_request.value, one.predicted.accuracy
            assert right is not None
            assert plan.predicted.accuracy is not None
            no_better = usd >= cost if targets.maximize is None else right.value <= plan.predicted.accuracy.value
            assert no_better, name
    points = [(p.accuracy, p.cost_usd_per_request) for p in plan.frontier]
    beside = [
        (s.accuracy.value, s.cost_usd_per_request.value)
        for s in plan.baselines.values()
        if s.accuracy is not None
        and all(check.holds for check in check_targets(s, targets) if check.name.startswith(("latency", "timeout")))
    ]
    for accuracy, usd in points:
        better = [one for one in [*points, *beside] if one[0] >= accuracy and one[1] <= usd and one != (accuracy, usd)]
        assert not better, (accuracy, usd, better)
        if targets.accuracy is not None and mine == 0 and accuracy >= targets.accuracy:
            assert usd >= cost * (1 - 1e-9)
        if targets.accuracy is not None and not targets.latency_p95_s and mine > 0:
            assert (targets.accuracy - accuracy) / targets.accuracy >= mine - 1e-9


def test_nothing_beside_a_plan_is_better_and_a_looser_target_costs_no_more() -> None:
    model, cost, optimistic = mixed(), 0.0, False
    for accuracy in (0.3, 0.45):
        plan = plan_model(asking(model, minimize="cost", accuracy=accuracy, latency_p95_s=60.0))
        assert plan.status == "met"
        is_not_beaten(plan)
        assert set(plan.predicted.same_types) == {"accuracy", "cost_usd_per_request"}
        optimistic |= plan.optimism["cost_usd_per_request"] < 0 or plan.optimism["accuracy"] > 0
        for parts in (plan.predicted.per_arm, plan.predicted.per_source, plan.predicted.per_band):
            bills = sum(p.share * p.cost_usd_per_request.value for p in parts.values())
            right = sum(p.share * p.accuracy.value for p in parts.values() if p.accuracy is not None)
            assert bills == pytest.approx(plan.predicted.cost_usd_per_request.value, rel=1e-9)
            assert plan.predicted.accuracy is not None
            assert right == pytest.approx(plan.predicted.accuracy.value, rel=1e-9)
        for name, figure in plan.predicted.same_types.items():
            headline = plan.predicted.quantity(name)
            assert headline is not None
            assert figure.value == pytest.approx(headline.value)  # one figure, two intervals
        assert plan.predicted.cost_usd_per_request.value >= cost
        cost = plan.predicted.cost_usd_per_request.value
    assert optimistic


def test_the_nearest_misses_by_less_than_any_policy_that_is_tried_by_hand() -> None:
    """Accuracy against latency: what lies between both misses by less than what keeps either."""
    model = asking(mixed(), minimize="cost", accuracy=0.52, latency_p95_s=8.0)
    targets = model.scenario.targets
    assert targets is not None
    plan = plan_model(model)
    assert plan.status == "nearest"
    is_not_beaten(plan)
    mine = miss_of(plan.predicted, targets)
    arms = load_model_like(model, plan.scenario)
    names = arms.arm_names
    for policy in [*(Always(name) for name in names), *(Banded([0.5], [a, b]) for a in names for b in names if a != b)]:
        assert miss_of(at(arms, PerSource({"easy": policy}), p=4), targets) >= mine - 0.02, policy


def test_pools_of_one_size_each_keep_it_however_many_they_are() -> None:
    """Thirteen are more combinations than are counted, and none of their numbers can be left out."""
    names = [f"p{k}" for k in range(13)]
    arm = {"profile": MISTRAL, "strategy": "Single(cap=1024)"}
    model = small(
        deployments={name: pool(2.0) for name in names},
        arms={f"a{name}": {**arm, "deployment": name} for name in names},
        search={},
    )
    task = PlanningTask.of(expect_arms(model), Targets(minimize="cost", accuracy=0.1))
    assert pools_and_sizes(task) == dict.fromkeys(names, (0, 1))
    assert affordable(task, {"p7": 1})
    assert not affordable(task, {})  # nobody to serve the requests


def test_targets_are_loosened_alike() -> None:
    targets = Targets(minimize="cost", accuracy=0.8, latency_p95_s=10.0, timeout_rate=0.02)
    loose = loosened(targets, 0.25)
    assert loose.accuracy == pytest.approx(0.6)
    assert loose.latency_p95_s == pytest.approx(12.5)
    assert loose.timeout_rate == pytest.approx(0.025)
    assert loosened(Targets(maximize="accuracy", timeout_rate=0.9), 0.5).timeout_rate == 1.0


@pytest.mark.parametrize("minimize", [True, False])
def test_no_policy_beats_hindsight(minimize: bool) -> None:
    asked: dict[str, Any] = {"minimize": "cost", "accuracy": 0.3} if minimize else {"maximize": "accuracy"}
    model = asking(mixed(), **asked)
    policies: list[Policy] = [Always("a"), Always("b"), Banded([0.3, 0.7], ["a", "b", "a"]), Threshold(0.5, "b", "a")]
    for policy in policies:
        one = load_model_like(model, model.scenario.model_copy(update={"policy": repr(policy)}))
        found = in_hindsight(one, policy)
        assert found is not None
        best, regret = found
        realized = at(one, policy, p=2)
        assert realized.accuracy is not None
        if minimize:
            assert regret.bound <= float(str(best["cost_usd_per_request"])) <= regret.cost_usd_per_request
            assert regret.bound <= realized.cost_usd_per_request.value * 1.02
        else:
            assert regret.bound >= float(str(best["accuracy"])) >= regret.accuracy
            assert regret.bound >= realized.accuracy.value - 0.01
        assert regret.figure.low <= regret.figure.value <= regret.figure.high


# ---------------------------------------------------------------------------------- baselines run what the policy ran


def day(**changes: Any) -> Model:
    steps = [
        {"duration_s": 40, "rate_per_s": 2},
        {"duration_s": 40, "rate_per_s": 9},
        {"duration_s": 40, "rate_per_s": 4},
    ]
    return small(
        workload={
            "arrivals": {"process": "piecewise", "steps": steps},
            "requests": 400,
            "sources": EASY,
        },
        **changes,
    )


@pytest.mark.parametrize("options", [{}, {"requests": 40, "replications": 1}])
@pytest.mark.parametrize("search", [{}, {"replicas": {"p": [3, 4]}}])
def test_a_policy_beside_itself_differs_by_nothing(options: dict[str, Any], search: dict[str, Any]) -> None:
    scenario = day(search=search).scenario
    for policy in (Always("a"), Threshold(0.5, "a", "a"), PerSource({"easy": Always("a")})):
        result = ttc.simulate(scenario, policy, **options)
        beside = compare_with_baselines(result, result.summary(), requests=options.get("requests"))
        assert set(beside) == {"always-small", "always-large", "uncapped"}
        for other in beside.values():
            assert other == result.summary()


def test_an_arm_under_two_names_gives_one_figure() -> None:
    arm = {"profile": MAVERICK, "deployment": "web"}
    model = small(deployments={"web": api(2.0)}, arms={"one": arm, "other": dict(arm)}, search={})
    result = ttc.simulate(model.scenario, Banded([0.5], ["one", "other"]), requests=100, replications=2)
    beside = compare_with_baselines(result, result.summary(), requests=100)
    mine = result.summary()
    for other in beside.values():
        for figure in ("accuracy", "cost_usd_per_request", "latency_s", "timeout_rate"):
            assert getattr(other, figure) == getattr(mine, figure)


def test_baselines_serve_as_many_requests_in_as_many_runs() -> None:
    scenario = mixed().scenario
    result = ttc.simulate(scenario, Always("b"), requests=90, replications=2)
    beside = compare_with_baselines(result, result.summary(), requests=90)
    assert {(one.requests, one.runs) for one in beside.values()} == {(90, 2)}
    small_one = ttc.simulate(load_model_like(mixed(), scenario).scenario, Always("a"), requests=90, replications=2)
    raw = scenario.model_dump(mode="python", exclude={"path"})
    raw["arms"]["a"]["strategy"] = "Single(cap=4096)"
    wide = ttc.simulate(scenario_from_dict(raw), Always("a"), requests=90, replications=2).summary()
    again = compare_with_baselines(small_one, small_one.summary(), requests=90)
    label = "always-small" if again["always-small"].replicas else "always-large"
    assert again[label].latency_s == wide.latency_s
    assert again[label].cost_usd_per_request == wide.cost_usd_per_request


def test_uncapped_is_the_plans_own_choice_in_simulate_and_optimize_alike() -> None:
    plan = plan_model(asking(mixed(), minimize="cost", accuracy=0.45, latency_p95_s=60.0))
    for policy in (plan.policy, Utility(0.002)):
        scenario = plan.scenario.model_copy(update={"policy": None})
        result = ttc.simulate(scenario, policy, replications=2)
        uncapped = compare_with_baselines(result, result.summary())["uncapped"]
        assert result.model.population is not None
        expectations = expect_arms(result.model)
        names = result.model.arm_names
        chosen = policy.choose(result.model.population.as_requests(), names)
        widest = {"a": "a@4096", "b": "b@8192"}
        arm = np.array([names.index(widest[names[index][0]]) for index in chosen])
        accuracy = float(expectations.correct[arm, np.arange(len(arm))] @ expectations.population.weight)
        assert uncapped.accuracy is not None
        assert uncapped.accuracy.value == pytest.approx(accuracy, abs=1e-9)
    assert plan.baselines["uncapped"].accuracy is not None


def test_without_scores_there_is_a_plan_and_a_word_on_what_makes_them() -> None:
    """Nothing to route by: one arm for each source."""
    model = small(search={"bands": 2, "scores": [], "replicas": {"p": [2, 3]}})
    assert model.population is not None
    plan = plan_model(asking(model, minimize="cost", accuracy=0.01, latency_p95_s=60.0))
    assert plan.policy == PerSource({"easy": Always("a")})
    assert not any("predictor score" in note for note in plan.predicted.notes)
    search = {"bands": 2, "replicas": {"p": [2, 3]}}
    bare = load_model(small(search=search).scenario, replace(model.population, scores={}))
    plan = plan_model(asking(bare, minimize="cost", accuracy=0.01, latency_p95_s=60.0))
    assert plan.policy == PerSource({"easy": Always("a")})
    # The set on the disk has scores: what makes them is not said where they are there, but not of every problem.
    assert sum("no score in" in note and "scores.parquet" in note for note in plan.predicted.notes) == 1
