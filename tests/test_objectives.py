"""What plans are made best of: each beside exhaustive search by simulation, figures beside those by hand, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ttc_sim as ttc
from benchmarks.optimum import Space, random_model
from tests.test_optimum import MISTRAL, asking, small
from tests.test_targets import api, plain
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Resampler
from ttc_sim.optimizer.planning import choose_policy, plan_model
from ttc_sim.optimizer.proposing.objectives import slowness_of
from ttc_sim.scenario import Targets, scenario_from_dict
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.expected_times import first_guess, late_share
from ttc_sim.simulation.model import Model

OBJECTIVES: dict[str, dict[str, Any]] = {
    "ratio": {"maximize": "accuracy_per_usd", "latency_p95_s": 30.0, "accuracy": 0.3},
    "percentile": {"minimize": "latency_p90_s", "accuracy": 0.3, "cost_usd_per_request": 0.002},
    "goodput": {"maximize": "goodput", "slo": {"latency_s": 12.0}, "accuracy": 0.3},
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_plan_is_as_good_as_the_best_of_all_policies_and_capacities(objective: str) -> None:
    """Everything with a threshold, on every number of replicas, simulated as plans are verified."""
    model = asking(random_model(1)[0], **OBJECTIVES[objective])
    choice = choose_policy(model)
    space = Space(choice)
    targets = choice.task.targets
    best = min((space.look(one) for one in space.proposals), key=lambda one: one.rank(targets))
    assert best.meets_targets
    assert choice.verified.meets_targets
    mine, its = choice.verified.rank(targets)[1], best.rank(targets)[1]
    assert mine <= its + 0.005 * abs(its)


def endpoints(**targets: Any) -> Model:
    """The same model behind two endpoints: a dear quick one, a cheap slow one."""
    quick = api(price={"input_usd_per_mtok": 4.0, "output_usd_per_mtok": 20.0}, per_token={"median_s": 0.002})
    arms = {
        name: {"profile": MISTRAL, "deployment": name, "strategy": "Single(cap=1024)"} for name in ("quick", "slow")
    }
    search = {"bands": 2, "max_bands": 2, "scores": ["difficulty"]}
    return asking(small(deployments={"quick": quick, "slow": api()}, arms=arms, search=search), **targets)


def test_right_answers_per_dollar_are_the_cheap_endpoint_s_and_the_least_latency_the_quick_one_s() -> None:
    """Both answer alike, so that nothing but price and speed tells them apart."""
    cheap = plan_model(endpoints(maximize="accuracy_per_usd"))
    assert set(cheap.predicted.per_arm) == {"slow"}
    ratio = cheap.predicted.quantity("accuracy_per_usd")
    assert ratio is not None
    assert cheap.predicted.accuracy is not None
    by_hand = cheap.predicted.accuracy.value / cheap.predicted.cost_usd_per_request.value
    assert ratio.value == pytest.approx(by_hand, rel=1e-9)
    for timed in ({"minimize": "tpot_p99_s"}, {"maximize": "goodput", "slo": {"tpot_s": 0.004}}):
        fast = plan_model(endpoints(accuracy=0.01, **timed))
        assert set(fast.predicted.per_arm) == {"quick"}
    dear = fast.predicted.cost_usd_per_request.value
    between = plan_model(endpoints(accuracy=0.01, minimize="latency_p50_s", cost_usd_per_request=0.6 * dear))
    assert set(between.predicted.per_arm) == {"quick", "slow"}
    assert between.predicted.cost_usd_per_request.value <= 0.6 * dear


def test_the_interval_of_a_ratio_is_what_resampled_problems_say() -> None:
    model = endpoints(maximize="accuracy_per_usd")
    assert model.population is not None
    plan = plan_model(model)
    ratio = plan.predicted.quantity("accuracy_per_usd")
    assert ratio is not None
    population, expectations = model.population, expect_arms(model)
    arm = plan.policy.choose(population.as_requests(), model.arm_names)
    expected = expectations.under(arm)
    resampler = Resampler.of(population.cluster, 2000)
    right, usd = (
        resampler.mean(expected[key], population.source, population.share)[1] for key in ("correct", "api_cost_usd")
    )
    assert ratio.sd == pytest.approx(float((right / usd).std()), rel=0.2)


def test_a_percentile_is_read_off_as_the_times_have_it() -> None:
    model = endpoints(maximize="accuracy")
    expectations, waiting = expect_arms(model), first_guess(model)
    assert model.population is not None
    slowness = slowness_of(expectations, "latency_p95_s", waiting)
    for v in range(2):
        arm = np.full(len(model.population), v)
        seconds = slowness.percentile(arm, model.population.weight)
        later = late_share(expectations, np.array([seconds]), waiting)[0, v] @ model.population.weight
        assert float(later) == pytest.approx(0.05, abs=0.005)


def test_traffic_without_problems_has_any_percentile_and_goodput() -> None:
    slow, quick = (
        api(),
        api(price={"input_usd_per_mtok": 9.0, "output_usd_per_mtok": 9.0}, per_token={"median_s": 0.002}),
    )
    raw = plain(
        deployments={"d": slow, "q": quick}, arms={"a": {"deployment": "d"}, "b": {"deployment": "q"}}, policy=None
    )
    for targets in ({"minimize": "tpot_p90_s"}, {"maximize": "goodput", "slo": {"latency_s": 1.5}}):
        plan = ttc.optimize(scenario_from_dict({**raw, "targets": targets}))
        assert set(plan.predicted.per_arm) == {"b"}
        assert plan.scenario.targets is not None
        worse = {name: one.quantity(plan.scenario.targets.objective) for name, one in plan.baselines.items()}
        mine = plan.predicted.quantity(plan.scenario.targets.objective)
        assert mine is not None
        sign = -1 if "maximize" in targets else 1
        assert all(one is not None and sign * mine.value <= sign * one.value + 1e-9 for one in worse.values())


@pytest.mark.parametrize(
    ("targets", "line"),
    [
        ({"maximize": "acuracy"}, r"targets.maximize: got 'acuracy'; expected 'accuracy' \(nearest of"),
        ({"minimize": "latency_p95"}, r"targets.minimize: got 'latency_p95'; expected 'latency_p95_s' \(nearest of"),
        (
            {"minimize": "latency_p100_s"},
            r"targets.minimize: got 'latency_p100_s'; expected a percentile above 0 and below 100",
        ),
        ({"minimize": "goodput"}, r"targets.minimize: got 'goodput'; expected 'maximize: goodput'"),
        ({"maximize": "ttft_p95_s"}, r"targets.maximize: got 'ttft_p95_s'; expected 'minimize: ttft_p95_s'"),
        ({"maximize": "goodput", "accuracy": 0.5}, r"targets.maximize: got 'goodput'; expected an slo beside it"),
        ({"maximize": "goodput", "slo": {"ttft_s": 1.0}}, r"an 'accuracy' target beside 'maximize: goodput'"),
        ({"minimize": "ttft_p95_s"}, r"an 'accuracy' target beside 'minimize: ttft_p95_s'"),
        (
            {"maximize": "goodput", "slo": {"ttft_s": 1.0}, "goodput": 0.9, "accuracy": 0.5},
            r"targets.goodput: got 0.9; expected none beside 'maximize: goodput'",
        ),
        (
            {"minimize": "ttft_p9_s", "ttft_p9_s": 2, "accuracy": 0.5},
            r"targets.ttft_p9_s: got 2.*; expected none beside",
        ),
        ({"maximize": "accuracy", "frontier": ["cost", "cost"]}, r"targets.frontier: .*two different objectives"),
        ({"maximize": "accuracy", "frontier": ["cost"]}, r"targets.frontier: .*two different objectives"),
        ({"maximize": "accuracy", "frontier": ["cost", "acuracy"]}, r"'accuracy' \(nearest of .* instead of 'acuracy'"),
        (
            {"maximize": "accuracy", "frontier": ["cost", "tpot_p0_s"]},
            r"a percentile above 0 .* instead of 'tpot_p0_s'",
        ),
        ({"maximize": "accuracy", "frontier": ["cost", "goodput"]}, r"targets.frontier: .*expected an slo beside it"),
        (
            {"accuracy": 0.5, "frontier": ["cost", "accuracy"]},
            r"targets.frontier: .*'minimize' or 'maximize' beside it",
        ),
    ],
)
def test_what_cannot_be_made_best_of_is_one_clear_line(targets: dict[str, Any], line: str) -> None:
    raw = small().scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    with pytest.raises(InputError, match=line) as raised:
        scenario_from_dict({**raw, "targets": targets})
    assert "\n" not in str(raised.value)


def test_an_arm_that_costs_nothing_has_no_right_answers_per_dollar() -> None:
    free = api(price={"input_usd_per_mtok": 0.0, "output_usd_per_mtok": 0.0})
    arms = {"a": {"profile": MISTRAL, "deployment": "f"}}
    model = asking(small(deployments={"f": free}, arms=arms, search={}), maximize="accuracy_per_usd")
    with pytest.raises(InputError, match="arm a costs nothing"):
        plan_model(model)


def test_a_level_keeps_every_other_target_s_confidence() -> None:
    own = {"x": {"latency_p95_s": 5.0, "confidence": 0.9}, "y": {"latency_p95_s": 6.0, "accuracy": 0.2}}
    targets = Targets(minimize="latency_p95_s", accuracy=0.4, confidence=0.7, sources=own)  # type: ignore[arg-type]
    before = {one.name: (one.bound, one.confidence) for one in targets.asked()}
    after = {one.name: (one.bound, one.confidence) for one in targets.at_level("latency_p95_s", 3.0).asked()}
    assert after.pop("latency_p95_s") == (3.0, 0.5)
    assert after == before
