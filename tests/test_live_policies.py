"""Policies that look at live load: for all sources or for some, in both engines, and what their headline says."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.intervals import problems
from tests.test_bills import on_problems
from ttc_sim.engine import reference
from ttc_sim.policies import Always, LeastLoaded, LiveRule, Load, Overflow, PerSource, Policy, Request, UserFunction
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.carrying import carry
from ttc_sim.simulation.drawing import as_requests, draw
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.result import Result
from ttc_sim.simulation.running import run_once


@pytest.fixture(scope="module")
def model() -> Model:
    """Two sources; both deployments queue."""
    raw = on_problems({"process": "poisson", "rate_per_s": 3.0}, 600, max_num_seqs=4)
    raw["workload"]["sources"] = {name: {"problem_set": "made-up"} for name in ("chat", "code")}
    raw["deployments"]["api"] |= {"concurrency": 5}
    population = problems(40, 2, 5, False)
    return load_model(
        scenario_from_dict(raw),
        replace(
            population,
            sources=("chat", "code"),
            share=np.array([0.6, 0.4]),
            source=np.arange(len(population), dtype=np.int64) % 2,
            offered={"own": ("chat", "code"), "other": ("chat", "code")},
        ),
    )


def ran(model: Model, policy: Policy) -> Result:
    return Result(model, policy, (run_once(model, policy, draw(model, 0)), run_once(model, policy, draw(model, 1))))


LIVE = (LeastLoaded(["own", "other"]), Overflow(["own", "other"], waiting=2))


@pytest.mark.parametrize("policy", LIVE)
def test_the_same_for_each_source_is_the_same(model: Model, policy: Policy) -> None:
    whole, parts = ran(model, policy), ran(model, PerSource(dict.fromkeys(("chat", "code"), policy)))
    assert set(np.unique(whole.runs[0].arm)) == {0, 1}
    assert whole.records.equals(parts.records)
    assert whole.summary() == parts.summary()


@pytest.mark.parametrize("policy", LIVE)
def test_one_source_may_look_at_load_and_the_other_not(model: Model, policy: Policy) -> None:
    """The compiled engine by one rule, the reference engine by a choice for each request: the same."""
    mixed = PerSource({"chat": policy, "code": Always("own")})
    draws = draw(model, 0)
    requests = as_requests(model, draws)
    assert isinstance(mixed.live_rule(requests, model.arm_names), LiveRule)
    run = run_once(model, mixed, draws)
    assert (run.arm[requests.source == 1] == 0).all()
    assert (run.arm[requests.source == 0] == 1).any()
    offers = [carry(model, draws, np.full(len(draws), a, dtype=np.int64)).work for a in range(2)]
    rule = policy.live_rule(requests, model.arm_names)
    assert rule is not None

    class Mixed(reference.Simulation):
        def _choose(self, request: int) -> int:
            self.route = rule if requests.source[request] == 0 else (lambda *_: 0)
            return super()._choose(request)

    slow = Mixed(offers, model.deployment_names, model.deployments, None, None, model.step_tables).run(None)
    assert (slow.arm == run.arm).all()
    np.testing.assert_allclose(slow.finished_s, run.result.finished_s)


def test_sources_with_rules_of_different_kinds(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ttc_sim"):
        mixed = ran(model, PerSource({"chat": LIVE[0], "code": Overflow(["other", "own"], waiting=1)}))
    assert "reference engine" in caplog.text
    source, arm = mixed.runs[0].requests.source, mixed.runs[0].arm
    assert set(arm[source == 0]) == set(arm[source == 1]) == {0, 1}
    in_python = UserFunction("overflow", lambda _, load: "other" if load.waiting["api"] < 1 else "own")
    assert mixed.records.equals(ran(model, PerSource({"chat": LIVE[0], "code": in_python})).records)


def test_a_function_of_one_source_sees_the_load(model: Model) -> None:
    seen: list[Load] = []

    def by_load(request: Request, load: Load) -> str:
        assert request.source == "chat"
        seen.append(load)
        return "other" if load.in_progress["pool"] >= 2 else "own"

    function = UserFunction("by_load", by_load)
    result = ran(model, PerSource({"chat": function, "code": Always("own")}))
    assert len(seen) == sum(int((run.requests.source == 0).sum()) for run in result.runs)
    assert {load.in_progress["pool"] >= 2 for load in seen} == {True, False}
    sent = np.concatenate([run.arm[run.requests.source == 0] for run in result.runs])
    assert (sent == [load.in_progress["pool"] >= 2 for load in seen]).all()


def counting() -> Policy:
    """Every third request to the other arm, whatever it is."""
    return UserFunction("counting", lambda request: "other" if request.index % 3 == 0 else "own")


@pytest.mark.parametrize(
    "policy",
    [
        *LIVE,
        PerSource({"chat": LIVE[0], "code": Always("own")}),
        counting(),
        PerSource(dict.fromkeys(("chat", "code"), counting())),
    ],
)
def test_the_headline_is_of_the_arms_that_were_chosen(model: Model, policy: Policy) -> None:
    result = ran(model, policy)
    records, summary = result.records, result.summary()
    assert len(summary.per_arm) == 2
    assert summary.accuracy is not None
    assert summary.accuracy.value == pytest.approx(records["correct"].mean())
    assert summary.cost_usd_per_request.value == pytest.approx(records["cost_usd"].mean())


def test_a_policy_by_the_clock_is_not_taken_for_one_by_problem(model: Model) -> None:
    class Nights(Policy):
        def choose(self, requests: Any, arms: Any) -> Any:
            return (requests.arrival_s % 20 > 10).astype(np.int64)

    result = ran(model, Nights())
    assert result.summary().cost_usd_per_request.value == pytest.approx(result.records["cost_usd"].mean())


def test_a_function_of_one_source_is_called_for_its_requests_alone(model: Model) -> None:
    """Beside a policy by load as beside one that looks at nothing; one that two sources share counts over both."""
    seen: list[str] = []

    def counting(request: Request) -> str:
        seen.append(request.source)
        return "other" if len(seen) % 2 else "own"

    for beside in (Always("own"), LIVE[0]):
        seen.clear()
        result = ran(model, PerSource({"chat": UserFunction("counting", counting), "code": beside}))
        assert set(seen) == {"chat"}
        assert len(seen) == sum(int((run.requests.source == 0).sum()) for run in result.runs)
    seen.clear()
    draws = draw(model, 0)
    shared = UserFunction("counting", counting)
    arm = run_once(model, PerSource({"chat": shared, "code": shared}), draws).arm
    assert (arm == (1 - np.arange(len(draws)) % 2)).all()


@pytest.mark.parametrize("order", [["a", "b", "c"], ["c", "a", "b"]])
def test_the_least_loaded_of_endpoints_without_a_limit_is_the_one_with_the_fewest(order: list[str]) -> None:
    """Each is at 0 of what it can do: then what they have in progress counts, and steady load is shared out evenly."""
    raw = on_problems({"process": "poisson", "rate_per_s": 20.0}, 900)
    api = dict(raw["deployments"]["api"])
    for limit in ("concurrency", "requests_per_minute", "tokens_per_minute"):
        api.pop(limit, None)
    raw["deployments"] = {name: dict(api) for name in order}
    raw["arms"] = {name: {**raw["arms"]["other"], "deployment": name} for name in order}
    raw["policy"] = repr(LeastLoaded(order))
    everywhere = problems(40, len(order), 5, False)
    model = load_model(scenario_from_dict(raw), replace(everywhere, offered=dict.fromkeys(order, everywhere.sources)))
    run = run_once(model, LeastLoaded(order), draw(model, 0))
    assert np.bincount(run.arm, minlength=3).min() > 0.25 * len(run.arm)
    in_progress = np.zeros(3, dtype=np.int64)
    events = sorted(
        [(t, 1, i) for i, t in enumerate(run.result.arrival_s)]
        + [(t, 0, i) for i, t in enumerate(run.result.finished_s)]
    )
    for _, arrives, i in events:
        if arrives:
            assert in_progress[run.arm[i]] == in_progress.min()
        in_progress[run.arm[i]] += 1 if arrives else -1


def test_a_pool_that_no_policy_names_is_not_paid_for(model: Model) -> None:
    """Rules of different kinds, which the reference engine runs, stand by on the arms that they name alone."""
    raw = model.scenario.model_dump(mode="python", exclude={"path"})
    raw["deployments"]["far"], raw["arms"]["far"] = raw["deployments"]["pool"], {"profile": "a", "deployment": "far"}
    assert model.population is not None
    offered = {**model.population.offered, "far": ("chat", "code")}
    three = load_model(scenario_from_dict(raw), replace(model.population, offered=offered))
    seen: list[str] = []

    def counting(request: Request) -> str:
        seen.append(request.source)
        return "other"

    mixed = PerSource({"chat": LIVE[0], "code": Overflow(["other", "own"], waiting=1)})
    assert ran(three, mixed).summary().replicas == {"pool": 1}
    # A function that looks at the load might choose any arm; one that does not is called for its own source alone.
    by_load = UserFunction("by_load", lambda _, load: "own" if load.waiting["pool"] < 2 else "other")
    result = ran(three, PerSource({"chat": UserFunction("counting", counting), "code": by_load}))
    assert result.summary().replicas == {"pool": 1, "far": 1}
    assert set(seen) == {"chat"}
