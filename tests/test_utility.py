"""The policy ``Utility``: its choice, its prices, the responses behind it, and what a plan says of them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.optimize import linprog
from typer.testing import CliRunner

import ttc_sim as ttc
from tests.test_optimizer import gateway, propose, propose_corrected
from ttc_sim.base.draws import F64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate, Resampler
from ttc_sim.cli import app
from ttc_sim.engine import compiled, reference
from ttc_sim.optimizer.gain import Gain
from ttc_sim.optimizer.novelty import novelty_of, widened_for_novelty
from ttc_sim.optimizer.optimism import HeldOut, Optimism
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.optimizer.planning import plan_model
from ttc_sim.optimizer.predictor_worth import predictor_worth
from ttc_sim.optimizer.proposing.mixtures import ArmSums, best_mixture, sums_by_arm
from ttc_sim.optimizer.proposing.proposal import Limits
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.validating import validate
from ttc_sim.policies import NOVEL, Always, PerSource, Requests, Utility, parse_policy
from ttc_sim.policies.predicted import predict
from ttc_sim.policies.responses import Response
from ttc_sim.reporting.text import alternatives_in_words
from ttc_sim.scenario import Targets, scenario_from_dict
from ttc_sim.simulation.carrying import carry
from ttc_sim.simulation.drawing import as_requests, draw
from ttc_sim.simulation.expectations import Expectations, expect_arms
from ttc_sim.simulation.expected_times import expected_seconds, first_guess
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.response_fit import fit_responses, regress, with_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.workload.population import Population


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(scenario_from_dict(gateway()))


@pytest.fixture(scope="module")
def expectations(model: Model) -> Expectations:
    return expect_arms(model)


def flat(
    correct: float, cost_usd: float, seconds: float, sources: tuple[str, ...] = ("a",), slope: float = 0.0
) -> Response:
    """A response that expects the same of every request, but for a slope in its difficulty."""
    return Response(
        sources=sources,
        features=("1", "logit difficulty"),
        ranges=((1.0, 1.0), (-5.0, 5.0)),
        correct=(float(np.log(correct / (1 - correct))), slope),
        api_cost_usd=(float(np.log(cost_usd)), 0.0),
        seconds=(float(np.log(seconds)), 0.0),
    )


def some_requests(n: int, responses: dict[str, Response] | None, sources: int = 1) -> Requests:
    return Requests(
        arrival_s=np.arange(n, dtype=np.float64),
        source=np.arange(n, dtype=np.int64) % sources,
        sources=("a", "b")[:sources],
        prompt_tokens=np.full(n, 100, dtype=np.int64),
        scores={"difficulty": uniforms(3, "difficulty", n)[:, 0]},
        responses=responses,
    )


# --------------------------------------------------------------------------------------------------- the choice


@pytest.mark.parametrize("prices", [(0.0, 0.0), (0.01, 0.0), (0.01, 1e-4), (0.3, 1e-3)])
def test_the_choice_is_the_best_arm_by_brute_force(prices: tuple[float, float]) -> None:
    responses = {
        "small": flat(0.4, 1e-4, 2.0, ("a", "b"), -1.0),
        "large": flat(0.8, 4e-3, 5.0, ("a", "b"), -0.4),
        "slow": flat(0.9, 2e-3, 60.0, ("b",), -0.1),
    }
    requests, names = some_requests(400, responses, 2), ["slow", "unknown", "small", "large"]
    chosen = Utility(*prices).choose(requests, names)
    odds = np.log(requests.scores["difficulty"] / (1 - requests.scores["difficulty"]))
    for i, arm in enumerate(chosen):
        worth = {}
        for name, r in responses.items():
            if requests.sources[requests.source[i]] in r.sources:
                assert r.api_cost_usd is not None
                p = 1 / (1 + np.exp(-(r.correct[0] + r.correct[1] * odds[i])))
                worth[name] = prices[0] * p - np.exp(r.api_cost_usd[0]) - prices[1] * np.exp(r.seconds[0])
        assert names[arm] == max(worth, key=lambda name: worth[name])


def test_at_no_price_the_cheapest_arm_and_at_a_high_one_the_most_accurate(
    model: Model, expectations: Expectations
) -> None:
    able = with_responses(model, Utility(0.0)).population
    assert able is not None
    requests = able.as_requests()
    expected = list(predict(able.responses or {}, requests, model.arm_names))
    cheapest = np.argmin([one.api_cost_usd for one in expected], axis=0)
    assert (Utility(0.0).choose(requests, model.arm_names) == cheapest).all()
    surest = np.argmax([one.correct for one in expected], axis=0)
    assert (Utility(1e9).choose(requests, model.arm_names) == surest).all()
    fastest = np.argmin([one.seconds for one in expected], axis=0)
    assert (Utility(0.0, 1e9).choose(requests, model.arm_names) == fastest).all()


def test_one_notation_and_bad_prices(tmp_path: Path) -> None:
    made = parse_policy(repr(Utility(0.01, 2e-5)), where="x", field="policy", folder=tmp_path)
    assert made == Utility(price_of_accuracy=0.01, price_of_second=2e-5)
    for bad in (
        "Utility(-1)",
        "Utility(1e999)",
        "Utility('much')",
        "Utility(1, price_of_second=-1e-9)",
        "Utility(True)",
    ):
        with pytest.raises(InputError, match="finite number of US dollars"):
            parse_policy(bad, where="x", field="policy", folder=tmp_path)
    with pytest.raises(InputError, match="price_of_accuracy"):
        parse_policy("Utility()", where="x", field="policy", folder=tmp_path)
    with pytest.raises(InputError, match="finite number"):
        Utility(float("nan"))


def test_nothing_predicted_is_one_clear_line() -> None:
    raw: dict[str, Any] = gateway(arms={"mid": {"deployment": "mid"}}, policy="Utility(1.0)")
    raw["workload"] = {"arrivals": {"process": "clients", "traffic": "servegen-r1"}, "requests": 20}
    raw.pop("targets")
    with pytest.raises(InputError, match="something is predicted"):
        scenario_from_dict(raw)
    raw.pop("policy")
    with pytest.raises(InputError, match="nothing is predicted") as caught:
        ttc.simulate(scenario_from_dict(raw), Utility(1.0))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no response"):
        Utility(1.0).choose(some_requests(4, {"x": flat(0.5, 1.0, 1.0)}, 2), ["x"])
    with pytest.raises(InputError, match="responses: got 'clade'"):
        scenario_from_dict(gateway(responses={"clade": flat(0.5, 1.0, 1.0).model_dump()}))
    short = {**flat(0.5, 1.0, 1.0).model_dump(), "correct": [1.0]}
    with pytest.raises(InputError, match="one for each feature"):
        scenario_from_dict(gateway(responses={"claude": short}))


def test_both_engines_agree_and_sources_may_have_policies_of_their_own() -> None:
    raw = gateway(policy={"easy": "Utility(0.02, 1e-5)", "hard": "Always('maverick')"})
    raw["workload"]["requests"] = 120
    raw["workload"]["sources"]["hard"] = {"problem_set": "reasoning-gym", "subset": "reasoning-gym-hard"}
    scenario = scenario_from_dict(raw)
    policy = scenario.parsed_policy()
    assert policy is not None
    model = with_responses(load_model(scenario), policy)
    draws = draw(model, 0)
    arm = policy.choose(as_requests(model, draws), model.arm_names)
    assert len(np.unique(arm)) > 1
    work = carry(model, draws, arm).work
    servers = model.deployment_names, model.deployments
    fast = compiled.run([work], *servers, None, tables=model.step_tables)
    plain = reference.run([work], *servers, None, tables=model.step_tables)
    assert fast.finished_s == pytest.approx(plain.finished_s, rel=1e-9)
    assert (fast.status == plain.status).all()
    run = run_once(model, policy, draws)
    assert run.result.finished_s.tobytes() == fast.finished_s.tobytes()
    assert (run.arm[run.requests.source == 1] == model.arm_names.index("maverick")).all()


# ------------------------------------------------------------------------------------------------ the responses


def test_regressions_find_the_weights_that_made_the_data() -> None:
    x = np.column_stack([np.ones(4000), uniforms(1, "x", 4000, 2) * 4 - 2])
    w = np.ones(4000)
    p = 1 / (1 + np.exp(-(x @ [0.5, -1.0, 0.3])))
    assert regress(x, p, w, "logistic", np.zeros(3)) == pytest.approx([0.5, -1.0, 0.3], abs=0.02)
    y = np.exp(x @ [-5.0, 0.4, -0.2])
    assert regress(x, y, w, "log", np.zeros(3)) == pytest.approx([-5.0, 0.4, -0.2], abs=0.02)
    noisy = (uniforms(1, "y", 4000)[:, 0] < p).astype(np.float64)
    fitted = 1 / (1 + np.exp(-(x @ regress(x, noisy, w, "logistic", np.zeros(3)))))
    assert fitted.mean() == pytest.approx(noisy.mean(), abs=1e-4)
    # Separable, constant and extreme columns must not break it.
    odd = np.column_stack([x, np.zeros(4000), 1e6 * x[:, 1]])
    assert np.isfinite(regress(odd, (x[:, 1] > 0).astype(np.float64), w, "logistic", np.zeros(5))).all()


def test_any_strategy_is_predicted_out_of_fold_better_than_by_its_mean() -> None:
    arms = gateway()["arms"]
    arms["vote"] = {**arms["mistral"], "strategy": "MajorityVote(n=3)"}
    arms["cascade"] = {**arms["maverick"], "strategy": "Cascade(stages=['mistral', 'claude'], tpr=0.9, fpr=0.2)"}
    expectations = expect_arms(load_model(scenario_from_dict(gateway(arms=arms))))
    seconds = expected_seconds(expectations, {})
    population = expectations.population
    fold = uniforms(0, "half", int(population.cluster.max()) + 1)[:, 0][population.cluster] < 0.5
    responses = fit_responses(expectations, seconds, np.where(fold, population.weight, 0.0))
    requests = replace(population, responses=responses).as_requests()
    for one in predict(responses, requests, expectations.model.arm_names):
        # Whole task types are held out. A bill of a cheap model hardly depends on what is known; it must not be worse.
        for made, real, share in (
            (one.correct, expectations.correct[one.arm], 0.9),
            (one.api_cost_usd, expectations.api_cost_usd[one.arm], 1.05),
            (one.seconds, seconds[one.arm], 1.05),
        ):
            assert np.mean((made - real)[~fold] ** 2) < share * np.mean((real[fold].mean() - real[~fold]) ** 2)


def without_lengths(model: Model) -> Population:
    """The problems with no more predicted of them than difficulty and chances."""
    assert model.population is not None
    kept = {k: v for k, v in model.population.scores.items() if k == "difficulty" or k.startswith("p:")}
    return replace(model.population, scores=kept)


def test_tokens_and_novelty_are_used_where_the_predictor_gives_them(model: Model, expectations: Expectations) -> None:
    model = replace(model, population=without_lengths(model))
    expectations = replace(expectations, model=model)
    assert model.population is not None
    name = "reasoning-gym/claude-sonnet-4"
    tokens = expectations.visible[model.arm_names.index("claude")] + 1.0
    scores = {
        **model.population.scores,
        "novelty": uniforms(5, "novelty", len(tokens))[:, 0],
        f"tokens:{name}": tokens,
        f"tokens_p50:{name}": tokens * 0.9,
        f"tokens_p90:{name}": tokens * 1.5,
    }
    told = replace(expectations, model=replace(model, population=replace(model.population, scores=scores)))
    seconds = expected_seconds(expectations, {})
    responses = fit_responses(told, seconds)
    assert {"novelty", f"log tokens:{name}", f"within 4096 {name}"} <= set(responses["claude"].features)
    assert "novelty" in responses["mistral"].features

    def error(fitted: dict[str, Response], given: Expectations) -> float:
        made = list(predict(fitted, given.population.as_requests(), model.arm_names))[2]
        return float(np.mean((made.api_cost_usd - expectations.api_cost_usd[2]) ** 2))

    assert error(responses, told) < 0.5 * error(fit_responses(expectations, seconds), expectations)
    with pytest.raises(InputError, match=r"score|novelty"):
        list(predict(responses, model.population.as_requests(), model.arm_names))


# ------------------------------------------------------------------------------------------------ the optimum


def small_table(seed: int, problems: int = 40, pools: int = 0) -> ArmSums:
    u = uniforms(seed, "table", 3, 2 * problems).reshape(3, 2, problems)
    dear = np.array([0.2, 1.0, 3.0])[:, None]
    correct = np.clip(u[:, 0] * 0.6 + np.array([0.0, 0.2, 0.4])[:, None], 0, 1) / problems
    load = np.zeros((pools, 3, problems))
    if pools:
        load[0, 0] = 2.0 * (0.5 + u[0, 1]) / problems
    return ArmSums(
        correct=correct,
        cost=dear * (0.5 + u[:, 1]) / problems * (np.array([0.0, 1, 1])[:, None] if pools else 1.0),
        late=np.stack([dear / 4 * u[:, 0], np.zeros((3, problems))]) / problems,
        load=load,
        pools=tuple(range(pools)),
        usd=np.full(pools, 0.15),
        sizes=((1, 2, 4),) * pools,
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("accuracy", [0.45, 0.6, 0.7])
def test_optimum_and_prices_equal_the_linear_program_over_problems(seed: int, accuracy: float) -> None:
    table = small_table(seed)
    targets = Targets(minimize="cost", accuracy=accuracy)
    got = best_mixture(table, targets, Limits(accuracy=accuracy, late={"latency_p95_s": 0.25}))
    v, r = table.correct.shape
    once = np.kron(np.ones((1, v)), np.eye(r))
    rows = np.stack([-table.correct.ravel(), table.late[0].ravel()])
    whole = linprog(table.cost.ravel(), rows, [-accuracy, 0.25], once, np.ones(r), method="highs")
    if whole.x is None:
        assert got is None
        return
    assert got is not None
    assert whole.fun is not None
    assert got.cost_usd_per_request == pytest.approx(float(whole.fun), rel=1e-4)
    duals = -np.asarray(whole.ineqlin.marginals)
    # At a corner the price is one of a range: it must give the same value of the dual program.
    assert got.prices["accuracy"] == pytest.approx(duals[0], rel=0.15, abs=1e-6)
    best = (table.cost - got.prices["accuracy"] * table.correct + got.prices["latency_p95_s"] * table.late[0]).min(
        axis=0
    )
    dual = float(best.sum()) + got.prices["accuracy"] * accuracy - got.prices["latency_p95_s"] * 0.25
    assert dual == pytest.approx(float(whole.fun), rel=1e-4)
    arm = (got.prices["accuracy"] * table.correct - table.cost - got.prices["latency_p95_s"] * table.late[0]).argmax(
        axis=0
    )
    # Utility at these prices makes the program's choice but for as many problems as there are limits.
    assert table.of_choice(arm)[0] == pytest.approx(accuracy, abs=2.5 / r)


@pytest.mark.parametrize("seed", range(3))
def test_optimum_with_whole_replicas_equals_exhaustive_search(seed: int) -> None:
    table = small_table(seed, problems=5, pools=1)
    # Five rows sent whole: mixtures can only be better, and replicas are whole numbers.
    best = np.inf
    for arms in itertools.product(range(3), repeat=5):
        found = table.of_choice(np.array(arms))
        size = next((s for s in (0, 1, 2, 4) if 0.8 * s >= found[-1] - 1e-12), None)
        if size is not None and found[0] >= 0.55:
            best = min(best, float(found[1]) + size * 0.15)
    got = best_mixture(table, Targets(minimize="cost", accuracy=0.55), Limits(accuracy=0.55))
    assert got is not None
    assert got.replicas[0] in (0.0, 1.0, 2.0, 4.0)
    assert got.cost_usd_per_request <= best + 1e-9
    assert got.accuracy >= 0.55 - 1e-6
    assert got.cost_usd_per_request >= 0.7 * best  # a fraction of one row is all that mixing can save


def test_a_target_that_nothing_reaches_has_no_optimum() -> None:
    assert best_mixture(small_table(1), Targets(minimize="cost", accuracy=0.99), Limits(accuracy=0.99)) is None


def test_prices_are_the_best_pair_of_a_grid(model: Model, expectations: Expectations) -> None:
    """The search for the prices beside every pair of a grid."""
    assert model.scenario.targets is not None
    task = PlanningTask.of(expectations, model.scenario.targets)
    got = propose(task, "utility")
    assert not got.excess
    able = replace(expectations.population, responses=got.responses).as_requests()
    late, weight = task.timing().late, expectations.population.weight
    at = np.arange(len(weight))
    best = np.inf
    for accuracy, second in itertools.product(np.geomspace(1e-4, 1.0, 120), [0.0, 1e-6, 1e-5, 1e-4]):
        arm = Utility(float(accuracy), second).choose(able, model.arm_names)
        if expectations.correct[arm, at] @ weight >= 0.55 and late[0][arm, at] @ weight <= 0.05:
            best = min(best, float(expectations.api_cost_usd[arm, at] @ weight))
    assert got.cost_usd_per_request <= best * 1.005
    chosen = got.choose(expectations.population, model.arm_names)
    assert expectations.correct[chosen, at] @ weight == pytest.approx(got.accuracy, rel=1e-12)
    assert expectations.api_cost_usd[chosen, at] @ weight == pytest.approx(got.cost_usd_per_request, rel=1e-9)


# --------------------------------------------------------------------------------------------------- the plan


def test_a_plan_with_utility_says_what_it_gains_and_reads_back(tmp_path: Path) -> None:
    raw = gateway(search={"bands": 4, "max_bands": 3, "caps": {"claude": [512, 4096]}})
    plan = ttc.optimize(scenario_from_dict(raw))
    assert set(plan.alternatives) == {"bands", "utility"}
    assert sum(one.chosen for one in plan.alternatives.values()) == 1
    bands, utility = plan.alternatives["bands"], plan.alternatives["utility"]
    saved = bands.predicted.cost_usd_per_request.value - utility.predicted.cost_usd_per_request.value
    assert plan.gain is not None
    assert utility.chosen == (plan.gain.more_than_noise and utility.status == "met" and saved > 0)
    said = plan.as_json()
    json.dumps(said)
    assert {"alternatives", "utility_gain", "predictor", "novelty"} <= set(said)
    again = ttc.optimize(scenario_from_dict(raw))
    plan.save(tmp_path / "plan.yaml")
    again.save(tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_bytes() == (tmp_path / "plan.yaml").read_bytes()
    assert load_plan(tmp_path / "plan.yaml").scenario.parsed_policy() == plan.policy
    for chosen, gain, words in (
        (utility, Gain(0.02, 0.01, 0.03, "accuracy"), ["more than noise; the plan is Utility"]),
        (bands, Gain(0.02, 0.01, 0.03, "accuracy"), ["more than noise; yet simulated", "the plan is by bands"]),
        (bands, Gain(0.02, -0.01, 0.05, "accuracy"), ["no more than noise; the plan is by bands"]),
    ):
        both = {"bands": replace(bands, chosen=chosen is bands), "utility": replace(utility, chosen=chosen is utility)}
        (line,) = alternatives_in_words(replace(plan, gain=gain, alternatives=both))
        assert all(part in line for part in words), line


def test_a_plan_lies_between_a_perfect_predictor_and_none(model: Model, expectations: Expectations) -> None:
    assert model.scenario.targets is not None
    task = PlanningTask.of(expectations, model.scenario.targets)
    proposal = propose(task, "utility")
    nothing = np.zeros(len(task.population))
    worth = predictor_worth(
        task.question(task.limits(), task.timing()), proposal, Optimism(0.0, 0.0, HeldOut(nothing, nothing))
    )
    assert worth.perfect.cost_usd_at_same_accuracy is not None
    assert worth.none.cost_usd_at_same_accuracy is not None
    assert worth.perfect.accuracy_at_same_cost is not None
    assert worth.none.accuracy_at_same_cost is not None
    assert worth.perfect.cost_usd_at_same_accuracy <= worth.cost_usd_per_request + 1e-9
    assert worth.cost_usd_per_request <= worth.none.cost_usd_at_same_accuracy * 1.02
    assert worth.perfect.accuracy_at_same_cost >= worth.accuracy - 1e-9
    assert worth.accuracy >= worth.none.accuracy_at_same_cost - 0.01


def test_a_saved_plan_with_utility_is_carried_out_as_it_was_planned(shared: Path, tmp_path: Path) -> None:
    """The responses in the file choose, on other problems too, and the command line says so."""
    path = tmp_path / "plan.yaml"
    scenario = scenario_from_dict(gateway(policy="Utility(0.012, 1e-6)"), str(path))
    policy = scenario.parsed_policy()
    assert policy is not None
    model = with_responses(load_model(scenario), policy)
    assert model.population is not None
    fitted = scenario.model_copy(update={"responses": model.population.responses})
    figures = ttc.simulate(fitted, replications=2).summary()
    assert figures.accuracy is not None
    other = model.population.restricted(uniforms(1, "part", len(model.population))[:, 0] < 0.3)
    import yaml

    from ttc_sim.optimizer.plan import FORMAT
    from ttc_sim.optimizer.promises import as_mapping, promises

    raw = {
        "ttc_sim_plan": FORMAT,
        "status": "met",
        "promised": {name: as_mapping(figure) for name, figure in promises(figures).items()},
        "made_from": "plan.yaml",
        "scenario": fitted.model_dump(mode="json", exclude={"path"}, exclude_none=True),
    }
    path.write_text(yaml.safe_dump(raw))
    saved = load_plan(path)
    assert saved.scenario.responses == model.population.responses
    elsewhere = load_model(saved.scenario, replace(other, responses=None)).population
    assert elsewhere is not None
    chosen = policy.choose(elsewhere.as_requests(), model.arm_names)
    assert (chosen == policy.choose(other.as_requests(), model.arm_names)).all()
    data = shared / "reasoning-gym"
    problems = pl.read_parquet(data / "problems.parquet").filter(pl.col("dataset") == "reasoning-gym-easy")[::5]
    problems.write_parquet(tmp_path / "p.parquet")
    found = validate(path, tmp_path / "p.parquet", data / "attempts.parquet")
    assert found.verdicts["accuracy"].realized.value > figures.accuracy.value - 0.06
    written = ["--json", str(tmp_path / "v.json"), "--problems", str(tmp_path / "p.parquet")]
    got = CliRunner().invoke(app, ["validate", str(path), "--attempts", str(data / "attempts.parquet"), *written])
    assert got.exit_code == 0, got.output


def test_promises_of_utility_hold_on_problems_that_were_held_back(model: Model) -> None:
    """Fit and plan on half of the task types, carry the plan out on the other half, over and over."""
    assert model.population is not None
    population = model.population
    targets = Targets(minimize="cost", accuracy=0.55)
    inside, gaps = 0, []
    for trial in range(10):
        keep = (uniforms(trial, "half", int(population.cluster.max()) + 1)[:, 0] < 0.5)[population.cluster]
        made_on = expanded_model(load_model(model.scenario, population.restricted(keep)))
        task = PlanningTask.of(expect_arms(made_on), targets)
        proposal, optimism = propose_corrected(task, "utility")
        arm = proposal.choose(task.population, made_on.arm_names)
        value, resampled = Resampler.of(task.population.cluster).mean(
            task.expectations.under(arm)["correct"], task.population.source, task.population.share
        )
        promised = Estimate.around(value - optimism.accuracy, float(resampled.std()))
        fresh = expect_arms(expanded_model(load_model(model.scenario, population.restricted(~keep))))
        arm = proposal.choose(fresh.population, fresh.model.arm_names)
        real, spread = Resampler.of(fresh.population.cluster).mean(
            fresh.under(arm)["correct"], fresh.population.source, fresh.population.share
        )
        gaps.append(real - promised.value)
        inside += abs(real - promised.value) <= 1.96 * np.hypot(promised.sd, float(spread.std()))
    assert inside >= 8
    assert abs(np.mean(gaps)) < 0.06


def test_novel_traffic_is_said_and_widens_promises(model: Model) -> None:
    population = without_lengths(model)
    assert novelty_of(population) is None
    kinds = np.unique(population.group)[:10]
    novel = np.where(np.isin(population.group, kinds), NOVEL, 0.1)
    scored = replace(population, scores={**population.scores, "novelty": novel})
    found = novelty_of(scored)
    assert found is not None
    assert found.share == pytest.approx(float(population.weight[novel >= NOVEL].sum()))
    assert found.kinds == len(kinds)
    told = load_model(model.scenario, scored)
    expectations = expect_arms(told)
    arm = Always("maverick").choose(scored.as_requests(), told.arm_names)
    expected = expectations.under(arm)
    plain = ttc.simulate(model.scenario, Always("maverick"), replications=2).summary()
    wide = widened_for_novelty(plain, found, scored, expected)
    assert plain.accuracy is not None
    assert wide.accuracy is not None
    mean = np.array([expected["correct"][population.group == kind].mean() for kind in kinds])
    count = np.array([(population.group == kind).sum() for kind in kinds])
    between = np.sqrt(np.average((mean - np.average(mean, weights=count)) ** 2, weights=count))
    assert wide.accuracy.sd == pytest.approx(np.hypot(plain.accuracy.sd, found.share * between))
    assert wide.accuracy.value == plain.accuracy.value
    assert wide.cost_usd_per_request.sd > plain.cost_usd_per_request.sd
    assert any("farther from what the predictor was trained on" in note for note in wide.notes)
    assert widened_for_novelty(plain, None, population, expected) == plain
    plan = plan_model(load_model(scenario_from_dict(gateway(search={"bands": 3, "max_bands": 2})), scored))
    assert plan.novelty == found
    assert any("farther from what the predictor was trained on" in note for note in plan.predicted.notes)


def test_gpu_pools_are_charged_and_utility_keeps_their_capacity() -> None:
    raw = gateway()
    raw["deployments"]["cheap"] = {
        "kind": "gpu_pool",
        "replicas": 1,
        "usd_per_replica_hour": 2.5,
        "max_num_seqs": 64,
        "max_num_batched_tokens": 2048,
        "step_time": {"base_s": 0.0186, "per_prefill_token_s": 9.5e-5, "per_sequence_s": 5e-5, "per_kv_token_s": 6e-8},
    }
    raw["search"]["replicas"] = {"cheap": [1, 2, 3]}
    model = load_model(scenario_from_dict(raw))
    expectations = expect_arms(model)
    assert model.scenario.targets is not None
    task = PlanningTask.of(expectations, model.scenario.targets)
    got = propose(task, "utility")
    assert not got.excess
    arm = got.choose(expectations.population, model.arm_names)
    load = np.nansum(expectations.gpu_s[arm, np.arange(len(arm))] * expectations.population.weight) * task.rate_per_s
    replicas = got.replicas.get("cheap", 0)
    assert load <= 0.8 * replicas + 1e-9
    bill = float(expectations.api_cost_usd[arm, np.arange(len(arm))] @ expectations.population.weight)
    assert got.cost_usd_per_request == pytest.approx(bill + replicas * 2.5 / 3600 / task.rate_per_s)
    fitted = fit_responses(expectations, expected_seconds(expectations, first_guess(model)))
    assert fitted["mistral"].gpu_usd_per_s == pytest.approx(2.5 / 3600 / 0.8, rel=1e-5)
    assert fitted["mistral"].api_cost_usd is None
    table = sums_by_arm(task.question(task.limits(), task.timing()))
    assert table.of_choice(arm)[-1] == pytest.approx(load)
    best = best_mixture(table, model.scenario.targets, task.limits())
    assert best is not None
    assert best.cost_usd_per_request <= got.cost_usd_per_request + 1e-9
    assert isinstance(got.policy, PerSource)


def test_the_seconds_expected_match_simulation(model: Model, expectations: Expectations) -> None:
    """Without a queue the mean latency of a run is what the arm is expected to take."""
    expected: F64 = expected_seconds(expectations, {})
    index = model.arm_names.index("maverick")
    run = run_once(model, Always("maverick"), draw(model, 0, requests=6000))
    assert run.latency_s.mean() == pytest.approx(float(expected[index] @ expectations.population.weight), rel=0.05)
