"""Plans: the program against exhaustive search, promises against problems held back, targets that cannot be met."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

import ttc_sim as ttc
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Resampler
from ttc_sim.optimizer.looking import Simulated
from ttc_sim.optimizer.optimism import FOLDS, Optimism, measure_optimism
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.optimizer.proposing import PROPOSERS
from ttc_sim.optimizer.proposing.bands import solve
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal, Question
from ttc_sim.optimizer.proposing.strides import lay_out_strides
from ttc_sim.optimizer.searching import ROUNDS, search
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.validating import validate
from ttc_sim.policies import Always, Banded, PerSource
from ttc_sim.scenario import Targets, scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.expected_times import late_share
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import summarize

API = {"kind": "api", "first_token": {"median_s": 0.5, "p95_s": 1.0}, "per_token": {"median_s": 0.01, "p95_s": 0.02}}


def gateway(**changes: Any) -> dict[str, Any]:
    def api(input_price: float, output_price: float) -> dict[str, Any]:
        return {**API, "price": {"input_usd_per_mtok": input_price, "output_usd_per_mtok": output_price}}

    raw: dict[str, Any] = {
        "name": "test",
        "replications": 3,
        "workload": {
            "arrivals": {"process": "gamma", "rate_per_s": 2.0, "cv": 1.5},
            "requests": 500,
            "sources": {"easy": {"problem_set": "reasoning-gym", "subset": "reasoning-gym-easy"}},
        },
        "deployments": {"cheap": api(0.1, 0.3), "mid": api(0.3, 1.0), "dear": api(3.0, 15.0)},
        "arms": {
            "mistral": {"profile": "reasoning-gym/mistral-small-3.1-24b-instruct", "deployment": "cheap"},
            "maverick": {"profile": "reasoning-gym/llama-4-maverick", "deployment": "mid"},
            "claude": {
                "profile": "reasoning-gym/claude-sonnet-4",
                "deployment": "dear",
                "strategy": "Single(cap=4096)",
            },
        },
        "search": {"bands": 4, "max_bands": 3, "scores": ["difficulty"]},
        "targets": {"minimize": "cost", "accuracy": 0.55, "latency_p95_s": 60},
    }
    return {**raw, **changes}


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(scenario_from_dict(gateway()))


def propose(task: PlanningTask, kind: str) -> Proposal:
    """The proposal of one kind to the targets as they stand, before any simulation."""
    timing = task.timing()
    return PROPOSERS[kind](task.expectations, timing.waiting).propose(task.question(task.limits(), timing))


def propose_corrected(task: PlanningTask, kind: str) -> tuple[Proposal, Optimism]:
    """The same within limits that allow for its optimism."""
    timing = task.timing()
    proposer = PROPOSERS[kind](task.expectations, timing.waiting)
    optimism = measure_optimism(task, proposer, task.limits(), timing)
    return proposer.propose(task.question(optimism.allowed_for(task.limits()), timing)), optimism


@pytest.mark.parametrize("accuracy", [0.3, 0.45, 0.55, 0.62])
def test_the_program_equals_exhaustive_search(model: Model, accuracy: float) -> None:
    expectations = expect_arms(model)
    population = expectations.population
    weight = population.weight
    late = late_share(expectations, np.array([20.0]), {})
    targets = Targets(minimize="cost", accuracy=accuracy, latency_p95_s=20.0)
    limits = Limits(accuracy=accuracy, late={"latency_p95_s": 0.1})
    question = Question(expectations, targets, limits, late, weight, rate_per_s=2.0)
    strides = lay_out_strides(question, ["difficulty"])
    got = solve(question, strides, finer=False)
    edges = strides.edges[0, 0]
    rows = population.as_requests()
    at = np.arange(len(population))
    best = np.inf
    for arms in itertools.product(model.arm_names, repeat=len(edges) + 1):
        if 1 + sum(a != b for a, b in itertools.pairwise(arms)) > 3:
            continue
        arm = Banded(list(edges), list(arms)).choose(rows, model.arm_names)
        if expectations.correct[arm, at] @ weight >= accuracy and late[0][arm, at] @ weight <= 0.1:
            best = min(best, float(expectations.api_cost_usd[arm, at] @ weight))
    if np.isinf(best):
        assert got.excess
        return
    assert not got.excess
    assert got.cost_usd_per_request == pytest.approx(best, rel=1e-9)
    finer = solve(question, strides)
    assert finer.cost_usd_per_request <= got.cost_usd_per_request
    for one in (got, finer):
        chosen = one.policy.choose(rows, model.arm_names)
        assert expectations.api_cost_usd[chosen, at] @ weight == pytest.approx(one.cost_usd_per_request, rel=1e-9)
        assert expectations.correct[chosen, at] @ weight == pytest.approx(one.accuracy, rel=1e-9)
        assert expectations.correct[chosen, at] @ weight >= accuracy - 1e-9
        assert late[0][chosen, at] @ weight <= 0.1 + 1e-9


def test_thresholds_stand_between_quantiles_and_on_the_length_of_prompts() -> None:
    """Two prices of one model, one dear by the prompt and one by the answer: what a threshold anywhere on the prompt is worth."""
    raw = gateway(
        search={"bands": 4, "max_bands": 2, "scores": ["prompt_tokens"]}, targets={"minimize": "cost", "accuracy": 0.1}
    )
    prices = {"by_prompt": (20.0, 0.2), "by_answer": (0.2, 9.0)}
    raw["deployments"] |= {
        name: {
            "kind": "api",
            "price": {"input_usd_per_mtok": read, "output_usd_per_mtok": written},
            "first_token": {"median_s": 0.5, "p95_s": 1.0},
            "per_token": {"median_s": 0.01, "p95_s": 0.02},
        }
        for name, (read, written) in prices.items()
    }
    raw["arms"] = {name: {"profile": "reasoning-gym/llama-4-maverick", "deployment": name} for name in prices}
    model = load_model(scenario_from_dict({**raw, "policy": None}))
    task = PlanningTask.of(expect_arms(model), model.scenario.targets)  # type: ignore[arg-type]
    got = propose(task, "bands")
    tokens, usd = task.population.as_requests().prompt_tokens, task.expectations.api_cost_usd * task.population.weight
    exact = min(float(np.where(tokens < at, usd[0], usd[1]).sum()) for at in np.unique(tokens))
    question = task.question(task.limits(), task.timing())
    coarse = solve(question, lay_out_strides(question, ["prompt_tokens"]), finer=False)
    assert "score='prompt_tokens'" in repr(got.policy)
    assert exact <= got.cost_usd_per_request <= exact * 1.005
    assert coarse.cost_usd_per_request > exact * 1.01  # there is something to find
    with_all = load_model(scenario_from_dict({**raw, "policy": None, "search": {"bands": 4, "max_bands": 2}}))
    task = PlanningTask.of(expect_arms(with_all), with_all.scenario.targets)  # type: ignore[arg-type]
    assert propose(task, "bands").cost_usd_per_request <= got.cost_usd_per_request  # looked at without being named


def test_expectations_match_simulated_draws(model: Model) -> None:
    expectations = expect_arms(model)
    policy = Always("claude")
    runs = [run_once(model, policy, draw(model, k, requests=4000)) for k in range(4)]
    arm = policy.choose(expectations.population.as_requests(), model.arm_names)
    free, tied = summarize(model, runs), summarize(model, runs, expected=expectations.under(arm))
    assert free.accuracy is not None
    assert tied.accuracy is not None
    assert free.accuracy.value == pytest.approx(tied.accuracy.value, abs=4 * 0.5 / np.sqrt(16_000))
    assert free.cost_usd_per_request.value == pytest.approx(tied.cost_usd_per_request.value, rel=0.05)


def test_late_shares_match_simulation(model: Model) -> None:
    expectations = expect_arms(model)
    share = late_share(expectations, np.array([5.0, 20.0]), {})
    weight = expectations.population.weight
    run = run_once(model, Always("maverick"), draw(model, 0, requests=6000))
    index = model.arm_names.index("maverick")
    for k, limit in enumerate((5.0, 20.0)):
        assert (run.latency_s > limit).mean() == pytest.approx(float(share[k, index] @ weight), abs=0.02)


def test_bills_equal_generated_tokens_and_requests_are_conserved(model: Model) -> None:
    result = ttc.simulate(model.scenario, Banded([0.5], ["maverick", "claude"]), replications=2)
    records = result.records
    assert len(records) == 1000
    assert records["status"].is_in(["completed", "rejected", "timed_out", "in_flight"]).all()
    price = {"maverick": (0.3e-6, 1.0e-6), "claude": (3.0e-6, 15.0e-6)}
    output = records["reasoning_tokens"] + records["visible_tokens"]
    for arm, (per_input, per_output) in price.items():
        mine = records["arm"] == arm
        expected = records["prompt_tokens"].filter(mine) * per_input + output.filter(mine) * per_output
        assert records["cost_usd"].filter(mine).to_numpy() == pytest.approx(expected.to_numpy())


def test_two_policies_see_the_same_requests(model: Model) -> None:
    one, other = (run_once(model, Always(arm), draw(model, 0)) for arm in ("mistral", "maverick"))
    assert one.row is not None
    assert other.row is not None
    assert (one.row == other.row).all()
    assert one.requests.arrival_s.tobytes() == other.requests.arrival_s.tobytes()
    again = run_once(model, Always("mistral"), draw(model, 0))
    assert again.latency_s.tobytes() == one.latency_s.tobytes()
    assert draw(model, 1).traffic.arrival_s.tobytes() != one.requests.arrival_s.tobytes()


def test_a_function_of_the_users_routes_and_sees_load(tmp_path: Path) -> None:
    (tmp_path / "route.py").write_text(
        "def by_score(request):\n    return 'claude' if request.difficulty > 0.5 else 'maverick'\n"
        "def by_load(request, load):\n    return 'maverick' if load.in_progress['dear'] > 3 else 'claude'\n"
        "def wrong(request):\n    return 'gpt'\n"
    )
    scenario = scenario_from_dict(gateway(policy="route.py:by_score"), str(tmp_path / "s.yaml"), allow_code=True)
    banded = ttc.simulate(scenario, Banded([0.5], ["maverick", "claude"]), replications=2).records
    same = ttc.simulate(scenario, replications=2).records
    # A difficulty of exactly 0.5 aside, both say the same.
    assert (banded["arm"] == same["arm"]).to_numpy().mean() > 0.999
    load_aware = scenario_from_dict(gateway(policy="route.py:by_load"), str(tmp_path / "s.yaml"), allow_code=True)
    summary = ttc.simulate(load_aware, replications=2).summary()
    assert set(summary.per_arm) == {"claude", "maverick"}
    broken = scenario_from_dict(gateway(policy="route.py:wrong"), str(tmp_path / "s.yaml"), allow_code=True)
    with pytest.raises(InputError, match="gpt"):
        ttc.simulate(broken, replications=2)


def test_a_plan_meets_its_targets_and_reads_back(tmp_path: Path) -> None:
    scenario = scenario_from_dict(gateway(search={"bands": 6, "max_bands": 3, "caps": {"claude": [1024, 4096]}}))
    plan = ttc.optimize(scenario)
    assert plan.status == "met"
    assert all(check.holds for check in plan.checks)
    assert plan.predicted.cost_usd_per_request.value < plan.baselines["always-large"].cost_usd_per_request.value
    assert [p.cost_usd_per_request for p in plan.frontier] == sorted(p.cost_usd_per_request for p in plan.frontier)
    assert plan.optimism["accuracy"] >= 0
    plan.save(tmp_path / "plan.yaml")
    saved = load_plan(tmp_path / "plan.yaml")
    assert saved.scenario.parsed_policy() == plan.policy
    assert saved.promised["accuracy"].value == pytest.approx(plan.predicted.accuracy.value)  # type: ignore[union-attr]
    again = ttc.optimize(scenario)
    again.save(tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_bytes() == (tmp_path / "plan.yaml").read_bytes()


def test_an_unreachable_target_is_named_with_the_nearest_plan() -> None:
    plan = ttc.optimize(scenario_from_dict(gateway(targets={"minimize": "cost", "accuracy": 0.95})))
    assert plan.status == "nearest"
    assert plan.binding == ("accuracy",)
    # The nearest plan is as accurate as the arms allow.
    assert plan.predicted.accuracy is not None
    assert plan.predicted.accuracy.value > 0.58


def test_pools_cannot_be_sized_for_a_closed_loop() -> None:
    """Its rate follows from its answers; this ended in a traceback of the solver."""
    raw = gateway()
    raw["workload"]["arrivals"] = {"process": "closed_loop", "users": 8, "think_s": 1.0}
    assert ttc.optimize(scenario_from_dict(raw)).status == "met"
    step_time = {"base_s": 0.02, "per_prefill_token_s": 1e-4, "per_sequence_s": 5e-5, "per_kv_token_s": 6e-8}
    limits = {"max_num_seqs": 64, "max_num_batched_tokens": 2048, "step_time": step_time}
    raw["deployments"]["cheap"] = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 2.5, **limits}
    with pytest.raises(
        InputError, match=r"workload\.arrivals\.process: got 'closed_loop'; expected arrivals with a rate"
    ):
        ttc.optimize(scenario_from_dict(raw))


def test_most_accuracy_for_a_budget() -> None:
    plan = ttc.optimize(scenario_from_dict(gateway(targets={"maximize": "accuracy", "cost_usd_per_request": 0.004})))
    assert plan.status == "met"
    assert plan.predicted.cost_usd_per_request.value <= 0.004
    least = plan.baselines["always-maverick"].accuracy
    assert least is not None
    assert plan.predicted.accuracy is not None
    assert plan.predicted.accuracy.value > least.value


@pytest.mark.parametrize("targets", [Targets(minimize="cost", accuracy=0.5), Targets(maximize="accuracy")])
def test_of_policies_alike_in_the_objective_the_one_better_in_the_rest_is_taken(targets: Targets) -> None:
    """Seen on competition-maths: the same routing on two replicas and on one, and two were planned."""

    def simulated(largest_miss: float, cost: float, accuracy: float) -> Any:
        figures = {"cost_usd_per_request": cost, "accuracy": accuracy}
        estimates = {name: SimpleNamespace(value=value) for name, value in figures.items()}
        summary = SimpleNamespace(**estimates, quantity=estimates.get, summaries_share=0.0)
        return SimpleNamespace(largest_miss=largest_miss, summary=summary)

    def first(*each: tuple[float, float, float]) -> tuple[float, float, float]:
        return min(each, key=lambda one: Simulated.rank(simulated(*one), targets))

    assert first((0.0, 2.0, 0.6), (0.0, 1.0, 0.6)) == (0.0, 1.0, 0.6)
    assert first((0.0, 1.0, 0.5), (0.0, 1.0, 0.6)) == (0.0, 1.0, 0.6)
    assert first((0.1, 1.0, 0.6), (0.0, 2.0, 0.5)) == (0.0, 2.0, 0.5)
    best = (0.0, 1.0, 0.5) if targets.maximize is None else (0.0, 2.0, 0.6)
    assert first((0.0, 2.0, 0.6), (0.0, 1.0, 0.5)) == best


@dataclass(frozen=True)
class AlwaysProposer:
    """Another kind of policy: one arm for all. Remembers what it was asked."""

    arm: str
    asked: list[Question]

    def propose(self, question: Question) -> Proposal:
        self.asked.append(question)
        expectations = question.expectations
        policy = PerSource(dict.fromkeys(expectations.population.sources, Always(self.arm)))
        index = np.full(len(expectations.population), expectations.model.arm_names.index(self.arm))
        expected = expectations.under(index)
        accuracy, cost = (float(expected[name] @ question.weight) for name in ("correct", "api_cost_usd"))
        return Proposal(policy, {}, accuracy, cost, excess={})


def test_a_search_takes_any_proposer_and_tightens_what_it_asks(model: Model) -> None:
    expectations = expect_arms(model)
    # Claude's 95th percentile is between the two limits.
    for limit_s, meets in ((60.0, True), (2.0, False)):
        targets = Targets(minimize="cost", accuracy=0.3, latency_p95_s=limit_s)
        task = PlanningTask.of(expectations, targets)
        proposer = AlwaysProposer("claude", [])
        found = search(task, proposer, task.timing())
        assert found.verified.model.scenario.policy == {"easy": "Always(arm='claude')"}
        assert found.verified.meets_targets == meets
        assert found.verified.summary.runs == model.scenario.replications
        # What was not chosen by its outcomes has no optimism, and every problem was held out once.
        assert found.learnt.optimism.accuracy == pytest.approx(0.0, abs=0.005)
        index = model.arm_names.index("claude")
        assert found.learnt.optimism.held_out.correct == pytest.approx(expectations.correct[index])
        late = [question.limits.late["latency_p95_s"] for question in proposer.asked[FOLDS:]]
        if meets:
            assert len(late) == 2  # the same again: nothing is left to try
            assert len(set(late)) == 1
        else:
            assert len(late) == ROUNDS
            assert all(after < before for before, after in itertools.pairwise(late))
            assert found.learnt.limits.late["latency_p95_s"] < late[-1]


def test_promises_hold_on_problems_that_were_held_back(model: Model) -> None:
    """Plan on half of the task types, carry the plan out on the other half, over and over."""
    from ttc_sim.base.estimates import Estimate

    assert model.population is not None
    population = model.population
    clusters = int(population.cluster.max()) + 1
    inside, gaps = 0, []
    for trial in range(10):
        half = uniforms(trial, "half", clusters)[:, 0] < 0.5
        keep = half[population.cluster]
        made_on = load_model(model.scenario, population.restricted(keep))
        task = PlanningTask.of(expect_arms(expanded_model(made_on)), Targets(minimize="cost", accuracy=0.55))
        proposal, optimism = propose_corrected(task, "bands")
        arm = proposal.policy.choose(task.population.as_requests(), task.model.arm_names)
        value, resampled = Resampler.of(task.population.cluster).mean(
            task.expectations.under(arm)["correct"], task.population.source, task.population.share
        )
        promised = Estimate.around(value - optimism.accuracy, float(resampled.std()))
        fresh = expect_arms(expanded_model(load_model(model.scenario, population.restricted(~keep))))
        arm = proposal.policy.choose(fresh.population.as_requests(), fresh.model.arm_names)
        real, spread = Resampler.of(fresh.population.cluster).mean(
            fresh.under(arm)["correct"], fresh.population.source, fresh.population.share
        )
        gaps.append(real - promised.value)
        inside += abs(real - promised.value) <= 1.96 * np.hypot(promised.sd, float(spread.std()))
    assert inside >= 8
    assert abs(np.mean(gaps)) < 0.06


def test_validate_on_measured_problems(shared: Path, tmp_path: Path) -> None:
    scenario = scenario_from_dict(gateway(policy="Banded(edges=[0.5], arms=['maverick', 'claude'])"))
    result = ttc.simulate(scenario, replications=2).summary()
    raw = {
        "ttc_sim_plan": 1,
        "status": "met",
        "promised": {
            name: {"value": figure.value, "low": figure.low, "high": figure.high}
            for name in ("accuracy", "cost_usd_per_request", "latency_p95_s")
            if (figure := result.quantity(name)) is not None
        },
        "made_from": "s.yaml",
        "scenario": scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True),
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(raw))
    data = shared / "reasoning-gym"
    problems = pl.read_parquet(data / "problems.parquet").filter(pl.col("dataset") == "reasoning-gym-easy")[::4]
    problems.write_parquet(tmp_path / "p.parquet")
    found = validate(tmp_path / "plan.yaml", tmp_path / "p.parquet", data / "attempts.parquet")
    assert set(found.as_json()) >= {"accuracy", "cost_usd_per_request", "latency_p95_s", "best_in_hindsight"}
    # The shipped predictor was trained on these prompts, so it does at least as well as out of fold.
    assert found.verdicts["accuracy"].realized.value > result.accuracy.value - 0.06  # type: ignore[union-attr]
    assert found.best_in_hindsight is not None
    only = pl.read_parquet(data / "attempts.parquet").filter(pl.col("model") == "o3-mini")
    only.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="attempts by"):
        validate(tmp_path / "plan.yaml", tmp_path / "p.parquet", tmp_path / "a.parquet")


def test_a_plan_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for text, names in (("a: 1", "ttc_sim_plan"), ("- 1", "ttc_sim_plan"), ("ttc_sim_plan: 1\n", "promised")):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(InputError, match=names):
            load_plan(tmp_path / "x.yaml")


def test_resampled_intervals_cover() -> None:
    """The cluster bootstrap covers the truth about as often as it says."""
    inside = 0
    for trial in range(200):
        u = uniforms(trial, "cover", 40, 12)
        truth = u[:, 0] * 0.6 + 0.2
        values = (u[:, 1:] < truth[:, None]).astype(np.float64)
        cluster = np.repeat(np.arange(40), 11).astype(np.int64)
        mean, resampled = Resampler.of(cluster).mean(values.ravel(), np.zeros(440, dtype=np.int64), np.ones(1))
        inside += abs(mean - 0.5) <= 1.96 * resampled.std()
    assert 0.88 <= inside / 200 <= 0.99


def test_per_source_policies_choose_by_source(model: Model) -> None:
    policy = PerSource({"easy": Always("claude")})
    view = model.population.as_requests() if model.population is not None else None
    assert view is not None
    assert (policy.choose(view, model.arm_names) == model.arm_names.index("claude")).all()


def test_every_shipped_scenario_runs_on_the_command_line(tmp_path: Path) -> None:
    import json

    from typer.testing import CliRunner

    from ttc_sim.cli import app
    from ttc_sim.scenario import load_scenario

    for name in ("reasoning-gateway", "qa-gateway", "competition-maths"):
        raw = load_scenario(name).model_dump(mode="json", exclude={"path"}, exclude_none=True)
        raw["workload"]["requests"] = 150
        raw["replications"] = 2
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(raw))
        arguments = ["--json", str(tmp_path / "r.json"), "--records", str(tmp_path / "r.parquet")]
        got = CliRunner().invoke(app, ["simulate", str(tmp_path / "s.yaml"), *arguments])
        assert got.exit_code == 0, got.output
        figures = json.loads((tmp_path / "r.json").read_text())
        keys = {"accuracy", "cost_usd_per_request", "latency_s", "ttft_s", "tokens_per_request", "timeout_rate"}
        assert keys | {"per_arm", "per_band", "baselines"} <= set(figures)
        assert set(figures["latency_s"]) == {"mean", "p50", "p90", "p95", "p99"}
        assert {"value", "low", "high"} == set(figures["accuracy"])
        assert {"always-small", "always-large", "uncapped"} <= set(figures["baselines"])
        assert len(pl.read_parquet(tmp_path / "r.parquet")) == 300


def test_a_vote_is_an_arm() -> None:
    arms = gateway()["arms"]
    arms["maverick"] = {**arms["maverick"], "strategy": "MajorityVote(n=3)"}
    scenario = scenario_from_dict(gateway(arms=arms))
    voted = ttc.simulate(scenario, Always("maverick"), replications=2).summary()
    single = ttc.simulate(scenario_from_dict(gateway()), Always("maverick"), replications=2).summary()
    assert voted.tokens_per_request["output"].value == pytest.approx(
        3 * single.tokens_per_request["output"].value, rel=0.1
    )
    assert voted.tokens_per_request["prompt"].value == pytest.approx(single.tokens_per_request["prompt"].value)
    assert voted.accuracy is not None
    assert single.accuracy is not None
    assert voted.accuracy.value > single.accuracy.value - 0.01


def test_users_who_wait_for_answers_are_planned_for_where_nothing_is_paid_by_the_hour() -> None:
    """Their rate follows from the answers and is not known before: what costs nothing by the hour costs none of it."""
    raw: dict[str, Any] = {
        "name": "users",
        "replications": 1,
        "workload": {
            "arrivals": {"process": "closed_loop", "users": 3, "think_s": 2.0},
            "requests": 40,
            "sources": {"maths": {"problem_set": "math", "subset": "aime24"}},
        },
        "deployments": {
            "api": {
                "kind": "api",
                "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0},
                "first_token": {"median_s": 0.5},
                "per_token": {"median_s": 0.001},
            }
        },
        "arms": {"one": {"profile": "math/qwen2.5-14b-instruct", "deployment": "api"}},
        "targets": {"minimize": "cost", "accuracy": 0.05},
    }
    plan = ttc.optimize(scenario_from_dict(raw))
    assert plan.worth is not None
    assert plan.worth.cost_usd_per_request == pytest.approx(plan.predicted.cost_usd_per_request.value, rel=0.3)
