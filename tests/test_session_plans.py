"""Plans for sessions without problems: the best of all that can be listed, on as few replicas as their caches need."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ttc_sim as ttc
from tests.test_session_accuracy import agent
from tests.test_session_figures import API, POOL, OwnSessions
from ttc_sim.optimizer.session_budgets import budgets_between, by_budget, by_compacting
from ttc_sim.optimizer.session_kinds import BY_SESSION, NOT_BY_LOAD, edges_of, kinds_of
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.traffic_alone import as_population
from ttc_sim.policies import PROMPT_TOKENS, Always, Banded, SessionBudget, Threshold, parse_policy
from ttc_sim.scenario import Scenario, scenario_from_dict, with_changes
from ttc_sim.scenario.traffic import ARRIVALS
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import load_model


@pytest.fixture(autouse=True)
def _own_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ARRIVALS, "_registered", {})
    ttc.register(OwnSessions)


CACHED = {**API, "cache": {"provider": "deepseek"}}


def scenario(changes: dict[str, Any] | None = None, **process: Any) -> Scenario:
    raw = {
        "name": "sessions",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "own_sessions", "turns": [4, 8], "sessions_per_s": 0.3, **process},
            "requests": 400,
        },
        "deployments": {"api": CACHED, "pool": POOL},
        "arms": {"hosted": {"deployment": "api"}, "own": {"deployment": "pool"}},
        "targets": {"minimize": "cost", "timeout_rate": 0.05, "confidence": 0.5},
        **(changes or {}),
    }
    return scenario_from_dict(raw)


SHORT = {**POOL, "kv_cache_tokens": 2048}  # longer prompts are turned away


def test_a_plan_is_as_good_as_every_threshold() -> None:
    """Prompts grow beyond what the pool can hold: what is sent to the API before they do costs more, and after it is lost."""
    given = scenario({"deployments": {"api": CACHED, "pool": {**SHORT, "usd_per_replica_hour": 0.2}}})
    plan = ttc.optimize(given)
    assert plan.status == "met"
    assert plan.alternatives[BY_SESSION].chosen
    assert isinstance(plan.policy.for_source("traffic"), Banded)
    usd = ttc.simulate(given, plan.policy.for_source("traffic")).summary().cost_usd_per_request.value
    for at, (below, above) in product((1100, 1300, 1600, 1900, 2200, 2500), (("own", "hosted"), ("hosted", "own"))):
        policy = Threshold(at=at, below=below, above=above, score=PROMPT_TOKENS)
        found = ttc.simulate(given, policy).summary()
        if found.unserved_rate.value <= 0.05:
            assert usd <= 1.000001 * found.cost_usd_per_request.value, policy
    for arm in ("own", "hosted"):
        found = ttc.simulate(given, Always(arm)).summary()
        assert found.unserved_rate.value > 0.05 or usd < found.cost_usd_per_request.value
    # A plan says what sessions come to, and is what its simulation comes to.
    assert plan.predicted.sessions is not None
    assert plan.predicted.sessions.switches.value > 0
    assert ttc.simulate(plan.scenario).summary().cost_usd_per_request.value == pytest.approx(usd)


def test_no_more_replicas_than_prompts_that_are_found_again_need() -> None:
    long = {"first": 40_000, "more": 400, "sessions_per_s": 0.02, "turns": [20], "think_s": 5.0}
    changes = {
        "deployments": {"pool": {**POOL, "usd_per_replica_hour": 3.6}},
        "arms": {"own": {"deployment": "pool"}},
        "search": {"replicas": {"pool": [1, 2, 3, 4]}},
        "targets": {"minimize": "cost", "latency_p95_s": 15.0, "timeout_rate": 0.2, "confidence": 0.5},
    }
    plan = ttc.optimize(scenario(changes, **long))
    assert (plan.status, plan.predicted.replicas) == ("met", {"pool": 1})
    # Without the cache each prompt is taken in anew.
    changes["deployments"] = {"pool": {**POOL, "prefix_caching": False}}
    without = ttc.optimize(scenario(changes, **long))
    assert without.predicted.replicas["pool"] >= 2
    assert without.predicted.cost_usd_per_request.value > plan.predicted.cost_usd_per_request.value


def test_what_is_expected_counts_what_was_sent_before() -> None:
    model = as_population(load_model(scenario()))
    population, expectations = model.population, expect_arms(model)
    assert population is not None
    assert population.turns is not None
    prompt, reused = population.prompt_tokens, population.turns.reused_tokens
    hosted = model.arm_names.index("hosted")
    usd = (prompt - reused) * 1e-6 + reused * 0.1e-6 + 64 * 5e-6
    np.testing.assert_allclose(expectations.api_cost_usd[hosted], usd)
    plain = as_population(
        load_model(scenario({"deployments": {"api": API, "pool": {**POOL, "prefix_caching": False}}}))
    )
    without = expect_arms(plain)
    np.testing.assert_allclose(without.api_cost_usd[hosted], prompt * 1e-6 + 64 * 5e-6)
    assert (without.gpu_s[1 - hosted] >= expectations.gpu_s[1 - hosted]).all()
    assert (without.gpu_s[1 - hosted][reused > 0] > expectations.gpu_s[1 - hosted][reused > 0]).all()


@pytest.mark.parametrize("turns", [[1], [1, 1, 30]])
def test_edges_lie_among_the_prompts(turns: list[int]) -> None:
    given = scenario(turns=turns)
    assert given.targets is not None
    task = PlanningTask.of(expect_arms(as_population(load_model(given))), given.targets)
    assert task.of_sessions
    assert len(kinds_of(task)) == 3
    prompt = task.population.prompt_tokens
    assert all(prompt.min() < one <= prompt.max() for one in edges_of(task, prompt))
    assert (len(edges_of(task, prompt)) == 0) == (turns == [1])


def test_budgets_are_what_parts_of_the_sessions_spend() -> None:
    """In dollars of an endpoint, each of whose sessions has the turns by hand; a session costs nothing of a pool."""
    given = scenario()
    assert given.targets is not None
    task = PlanningTask.of(expect_arms(as_population(load_model(given))), given.targets)
    turns, prompt = task.population.turns, task.population.prompt_tokens
    assert turns is not None
    usd: dict[int, float] = {}
    for s, tokens, again in zip(turns.session.tolist(), prompt.tolist(), turns.reused_tokens.tolist(), strict=True):
        usd[s] = usd.get(s, 0.0) + 1e-6 * (tokens - again) + 1e-7 * again + 5e-6 * 64
    listed = [one for one in by_budget(task) if isinstance(one, SessionBudget)]
    found = {name: [one.usd for one in listed if one.policy == Always(name) and one.usd] for name in ("hosted", "own")}
    expected = sorted({float(np.quantile(list(usd.values()), part)) for part in (0.5, 0.75, 0.9)})
    assert found["hosted"] == pytest.approx(expected, rel=5e-3)
    assert found["own"] == []
    assert {one.to for one in listed if one.policy == Always("own")} == {"hosted"}
    # Nothing is made shorter where nobody has said how long contexts may be.
    assert list(by_compacting(task)) == []
    best, more = SessionBudget(Always("own"), usd=1.0, to="hosted"), SessionBudget(Always("own"), usd=4.0, to="hosted")
    others = SessionBudget(Always("own"), usd=2.0, at_end="stop"), SessionBudget(Always("own"), tokens=9, to="hosted")
    assert list(budgets_between(best, [best, more, *others])) == [SessionBudget(Always("own"), usd=2.0, to="hosted")]
    assert list(budgets_between(others[1], [best, *others])) == []


def test_sessions_of_one_turn_are_planned_for() -> None:
    plan = ttc.optimize(scenario(turns=[1]))
    assert plan.status == "met"
    assert BY_SESSION not in plan.alternatives
    assert parse_policy(str(plan.scenario.policy)).arm_names()


def test_arms_that_write_more_are_not_chosen_by_live_load() -> None:
    """How long later prompts are is fixed before a run, so that such policies are left out, and that is said."""
    arms = {"hosted": {"deployment": "api"}, "own": {"deployment": "pool", "turn_tokens": 1.5}}
    plan = ttc.optimize(scenario({"arms": arms}))
    assert plan.status == "met"
    assert NOT_BY_LOAD in plan.predicted.notes
    assert NOT_BY_LOAD not in ttc.optimize(scenario()).predicted.notes


def test_no_plan_rests_on_sessions_that_several_agents_answer(tmp_path: Path) -> None:
    """The last answer counts: small turns first and a large one at the end would look as right, and cost a fraction."""
    few, many = ({f"i{k}": [int(k < right)] for k in range(200)} for right in (80, 160))
    small, large = agent(tmp_path, "few", few), agent(tmp_path, "many", many)
    dear = {**CACHED, "price": {"input_usd_per_mtok": 10.0, "output_usd_per_mtok": 50.0}}
    changes = {
        "deployments": {"api": CACHED, "dear": dear},
        "arms": {"small": {"deployment": "api", "profile": small}, "large": {"deployment": "dear", "profile": large}},
        "targets": {"minimize": "cost", "accuracy": 0.6, "timeout_rate": 0.1, "confidence": 0.5},
    }
    raw = scenario(changes).model_dump(mode="json", exclude={"path"}, exclude_none=True)
    given = scenario_from_dict(raw, str(tmp_path / "s.yaml"))
    mixed = Banded(edges=[2000], arms=["small", "large"], score=PROMPT_TOKENS)
    tempting = ttc.simulate(given, mixed).summary()
    assert tempting.session_accuracy is not None
    assert tempting.session_accuracy.several_arms_share > 0.4
    plan = ttc.optimize(given)
    assert plan.status == "met"
    assert plan.policy.for_source("traffic") == Always("large")
    assert any("several arms answer one session were not searched" in note for note in plan.predicted.notes)
    assert tempting.cost_usd_per_request.value < plan.predicted.cost_usd_per_request.value
    # Where accuracy does not count, they are.
    asked = {"minimize": "cost", "latency_p95_s": 60.0, "timeout_rate": 0.1, "confidence": 0.5}
    free = ttc.optimize(with_changes(given, {"targets": asked}))
    assert free.policy.for_source("traffic") == Always("small")
    assert not any("were not searched" in note for note in free.predicted.notes)
