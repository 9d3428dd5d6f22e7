"""Strategies, efforts, cascades and ranges of caps as a space to search: its arms, its optimum by brute force, what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ttc_sim as ttc
from benchmarks.optimum import Space, figure
from tests.test_optimum import MAVERICK, MISTRAL, api, pool
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.measured.folders import find_folder
from ttc_sim.measured.profiles import load_profile
from ttc_sim.optimizer.baselines import compare_with_baselines
from ttc_sim.optimizer.new_problems import over_new_problems
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.optimizer.planning import choose_policy, plan_model
from ttc_sim.optimizer.proposing import dominated
from ttc_sim.optimizer.proposing.bands import solve
from ttc_sim.optimizer.proposing.strides import lay_out_strides
from ttc_sim.optimizer.refining import CLOSE, expectations_of_space
from ttc_sim.optimizer.space import expand_arms, expanded_model
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.scenario import Scenario, scenario_from_dict
from ttc_sim.scenario.arm_space import base_arm, without_cap
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.expected_times import Waiting
from ttc_sim.simulation.model import load_model
from ttc_sim.strategies.choices import Span, read_choices

EASY = {"easy": {"problem_set": "reasoning-gym", "subset": "reasoning-gym-easy"}}


def scenario(search: dict[str, Any], **changes: Any) -> Scenario:
    raw: dict[str, Any] = {
        "name": "space",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 2.0},
            "requests": 200,
            "sources": EASY,
        },
        "deployments": {"web": api(1.0), "large": api(4.0), "judge": api(0.1)},
        "arms": {
            "a": {"profile": MISTRAL, "deployment": "web"},
            "b": {"profile": MAVERICK, "deployment": "large", "strategy": "Single(cap=8192)"},
        },
        "search": {"bands": 3, "max_bands": 2, "scores": ["difficulty"], **search},
    }
    return scenario_from_dict({**raw, **changes})


def arms_of(search: dict[str, Any], **changes: Any) -> dict[str, str]:
    return {name: arm.strategy for name, arm in expand_arms(scenario(search, **changes)).arms.items()}


# ------------------------------------------------------------------------------------------------------- the arms


def test_a_notation_stands_for_every_choice_in_it() -> None:
    text = "BestOfN(n=[2, 4], auroc=0.8, verifier='judge', of=[Single(cap=[512, null]), BudgetForcing(cap=2048)])"
    found = [one.notation(()) for one in read_choices(text, where="s", field="f", most=100)]
    said = "BestOfN(n={n}, auroc=0.8, verifier='judge', of={of})"
    each = ("Single(cap=512)", "Single(cap=None)", "BudgetForcing(cap=2048)")
    assert found == [said.format(n=n, of=of) for n in (2, 4) for of in each]
    # A list that an argument takes anyway is no list of choices.
    stages = read_choices("Cascade([Single(cap=[9, 10]), Single()], tpr=1, fpr=[0, 0.5])", where="s", field="f", most=9)
    assert len(stages) == 4
    # What does not go together is left out.
    forced = read_choices("BudgetForcing(min_tokens=[0, 900], cap=[500, 1000])", where="s", field="f", most=9)
    assert [one.notation(()) for one in forced] == [
        "BudgetForcing(min_tokens=0, cap=500)",
        "BudgetForcing(min_tokens=0, cap=1000)",
        "BudgetForcing(min_tokens=900, cap=1000)",
    ]


def test_arms_are_named_after_what_they_do_and_lead_back_to_their_own() -> None:
    found = arms_of(
        {
            "strategies": {"a": ["Single()", "MajorityVote(n=[3, 5])", "BestOfN(n=2, auroc=0.7)"]},
            "caps": {"a": [1024, None], "b": {"from": 500, "to": 1000, "uncapped": True}},
            "cascades": [{"stages": ["a", "b"], "tpr": 0.9, "fpr": 0.2, "judge": "judge"}],
        }
    )
    of_a = ["a@1024", "a", *(f"a[MajorityVote n {n}]{cap}" for n in (3, 5) for cap in ("@1024", ""))]
    of_a += ["a[BestOfN n 2 auroc 0.7]@1024", "a[BestOfN n 2 auroc 0.7]"]
    of_b = ["b@500", "b@1000", "b"]
    assert list(found) == [*of_a, *of_b, *(f"{one} then {other}" for one in of_a for other in of_b)]
    assert found["a[MajorityVote n 3]@1024"] == "MajorityVote(n=3, cap=1024)"
    assert found["b"] == "Single()"
    said = "Cascade(stages=['a@1024', 'b@500'], tpr=0.9, fpr=0.2, judge='judge')"
    assert found["a@1024 then b@500"] == said
    assert {base_arm(name) for name in found} == {"a", "b", "a then b"}
    assert {without_cap(name) for name in of_b} == {"b"}
    # A name of the user's own is left as it is.
    assert (base_arm("gpt-4.1[v2]"), base_arm("mail@home"), base_arm("x[MajorityVote n 3] then y")) == (
        "gpt-4.1[v2]",
        "mail@home",
        "x then y",
    )


def test_an_arm_that_is_not_searched_keeps_its_name_and_strategy() -> None:
    found = arms_of({"strategies": {"a": ["MajorityVote(n=3)"]}})
    assert found == {"a[MajorityVote n 3]": "MajorityVote(n=3)", "b": "Single(cap=8192)"}
    pairs = arms_of(
        {"cascades": [{"arms": ["a", "b"], "tpr": 0.9, "fpr": 0.2}, {"arms": ["a", "b"], "tpr": 1, "fpr": 0}]}
    )
    assert list(pairs) == ["a", "b", "a then b", "a then b #2"]


def test_an_arm_that_a_searched_cascade_names_stays_what_it_is() -> None:
    cascade = "Cascade(['b', Single(cap=[512, null])], tpr=0.9, fpr=0.1)"
    search = {"strategies": {"a": ["Single()", cascade]}, "caps": {"b": [1024]}}
    found = expanded_model(load_model(scenario(search)))
    names = ["a", "a[Cascade stages b Single cap 512 tpr 0.9 fpr 0.1]", "a[Cascade stages b Single tpr 0.9 fpr 0.1]"]
    assert [*found.arm_names] == [*names, "b@1024", "b"]
    assert {arm.name: arm.sources for arm in found.arms}["b"] == ()  # there for the cascades alone
    assert [arm.sources for arm in found.arms][:4] == [("easy",)] * 4


def test_efforts_are_profiles_of_the_same_model(tmp_path: Path) -> None:
    source = find_folder(MAVERICK, "profile.yaml")
    for name in ("low", "high"):
        shutil.copytree(source, tmp_path / name)
    high = tmp_path / "high" / "profile.yaml"
    of_b = {"profile": "low", "deployment": "large"}
    arms = {"a": {"profile": MISTRAL, "deployment": "web"}, "b": of_b}
    raw = scenario({"efforts": {"b": ["high"]}, "caps": {"b": [512, None]}}, arms=arms).model_dump(exclude={"path"})
    here = scenario_from_dict(raw, str(tmp_path / "s.yaml"))
    model = expanded_model(load_model(here))
    names = ["b@512", "b", "b[effort high]@512", "b[effort high]"]
    assert [name for name in model.arm_names if base_arm(name) == "b"] == names
    made = expect_arms(model)
    # Both were measured alike here, so they come to the same.
    index = [model.arm_names.index(name) for name in names]
    assert np.array_equal(made.correct[index[0]], made.correct[index[2]])
    high.write_text(high.read_text().replace("model: ", "model: other-", 1))
    with pytest.raises(InputError, match=r"search\.efforts\.b: got 'high'; expected a profile of .* at another effort"):
        load_model(here)


# ----------------------------------------------------------------------------------------------------- brute force


@pytest.mark.parametrize("number", range(4))
def test_the_plan_is_as_good_as_the_best_of_all_arms_by_simulation(number: int) -> None:
    u = uniforms(number, "strategies", 20)[:, 0]
    caps = [[512, 2048], [1024, None]][number % 2]
    search = {
        "strategies": {"a": [f"Single(cap={caps})", f"MajorityVote(n=[{2 + number}], cap=1024)"]},
        "cascades": [{"stages": ["a", "b"], "tpr": 0.6 + 0.4 * u[0], "fpr": 0.3 * u[1]}],
    }
    asked: dict[str, Any] = {"maximize": "accuracy", "cost_usd_per_request": float(f"{0.0004 + 0.001 * u[2]:.3g}")}
    if number % 2:
        asked = {"minimize": "cost", "accuracy": round(0.3 + 0.15 * u[3], 3)}
    whole = scenario(search, targets={**asked, "latency_p95_s": round(30 + 40 * u[4], 1)})
    model = load_model(whole)
    assert model.population is not None
    keep = np.zeros(len(model.population), dtype=np.bool_)
    keep[np.argsort(uniforms(number, "problems", len(keep))[:, 0])[:300]] = True
    model = load_model(whole, model.population.restricted(keep))
    choice = choose_policy(model)
    assert len(choice.task.model.arms) == 7
    best = Space(choice).optimum()
    plan = choice.verified
    assert plan.meets_targets or best is None
    if best is not None:
        assert figure(plan) <= figure(best) + 1e-6 * abs(figure(best))


# ------------------------------------------------------------------------------------------------ what reads plans


def test_everything_that_takes_a_plan_takes_one_over_strategies(tmp_path: Path) -> None:
    search = {
        "strategies": {"a": ["MajorityVote(n=2)"]},
        "caps": {"a": {"from": 512, "to": 1024}},
        "cascades": [{"stages": ["a", "b"], "tpr": 1.0, "fpr": 0.0}],
    }
    whole = load_model(scenario(search, targets={"maximize": "accuracy", "cost_usd_per_request": 0.0015}))
    assert whole.population is not None
    plan = plan_model(
        load_model(whole.scenario, whole.population.restricted(np.arange(len(whole.population)) % 9 == 0))
    )
    assert plan.status == "met"
    used = {name for one in plan.policy.policies.values() for name in one.arm_names()}  # type: ignore[attr-defined]
    used |= set(plan.scenario.responses or {})
    assert any("[" in name for name in used)
    assert any(" then " in name for name in used)
    plan.save(tmp_path / "plan.yaml")
    saved = load_plan(tmp_path / "plan.yaml")
    assert not saved.scenario.search.varies_arms
    summary = ttc.simulate(saved.scenario, requests=50, replications=1).summary()
    assert summary.accuracy is not None
    changed = ttc.what_if(saved.scenario, {"narrow": {"ready.cap:a": 100}}, requests=50, replications=1)
    assert changed.variations


def test_a_policy_over_an_arm_whose_own_strategy_is_not_searched_is_compared_with_what_is() -> None:
    """The arm has no variant without its cap, so the policy has none either; that of the other arm is there."""
    space = scenario({"strategies": {"b": ["MajorityVote(n=2)"]}}, policy="Threshold(at=0.5, below='a', above='b')")
    result = ttc.simulate(space, requests=50)
    found = compare_with_baselines(result, result.summary(), requests=50)
    assert {*found} == {"always-small", "always-large"}
    searched = scenario({"caps": {"b": [8192, None]}}, policy="Threshold(at=0.5, below='a', above='b')")
    result = ttc.simulate(searched, requests=50)
    assert "uncapped" in compare_with_baselines(result, result.summary(), requests=50)


def test_without_a_range_nothing_is_looked_at_twice() -> None:
    """The arms are those of before, in their order, with the same expectations."""
    model = load_model(scenario({"caps": {"a": [512, None]}}))
    targets = scenario({}, targets={"maximize": "accuracy"}).targets
    assert targets is not None
    one, other = expectations_of_space(model, targets), expect_arms(expanded_model(model))
    assert one.model.arm_names == other.model.arm_names == ("a@512", "a", "b")
    for name in ("correct", "prompt", "reasoning", "visible", "api_cost_usd", "gpu_s", "offered"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name


# ------------------------------------------------------------------------------------------------- ranges refined


def test_rungs_span_the_range() -> None:
    for low, high in ((1, 2), (512, 16384), (0, 5000), (100, 101), (1, 100_000_000)):
        rungs = Span(low, high).rungs
        assert (rungs[0], rungs[-1]) == (low, high)
        assert all(b <= 3.3 * max(a, 1) for a, b in pairwise(rungs) if a > 20)


def test_a_cap_from_a_range_is_as_good_as_every_cap_close_by() -> None:
    """By expectation: no cap of a grid twice as fine keeps the targets at less, but for what 5% make."""
    targets = {"minimize": "cost", "accuracy": 0.3, "confidence": 0.5}
    only = {"b": {"profile": MAVERICK, "deployment": "large"}}
    ranged = scenario({"caps": {"b": {"from": 64, "to": 8192}}, "scores": []}, arms=only, targets=targets)
    assert ranged.targets is not None
    found = expectations_of_space(load_model(ranged), ranged.targets)
    grid = sorted({round(64 * 1.025**k) for k in range(197)})
    fine = expect_arms(
        expanded_model(load_model(scenario({"caps": {"b": grid}, "scores": []}, arms=only, targets=targets)))
    )
    weight = fine.population.weight
    enough = fine.correct @ weight >= 0.3
    least = min(cap for cap, held in zip(grid, enough, strict=True) if held)
    caps = [arm.strategy.attempt_cap for arm in found.model.arms]
    held = [cap for cap, right in zip(caps, found.correct @ weight, strict=True) if right >= 0.3 and cap is not None]
    assert least / 1.025 <= min(held) <= CLOSE * least


def test_a_range_of_traffic_without_problems_ends_close_to_what_may_be_cut_off() -> None:
    raw = {
        "name": "lengths",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 2.0},
            "requests": 2000,
            "lengths": {"prompt_tokens": 100, "output_tokens": {"median": 300, "p95": 2000}},
        },
        "deployments": {"web": api(1.0)},
        "arms": {"a": {"deployment": "web"}},
        "search": {"caps": {"a": {"from": 100, "to": 10000}}},
        "targets": {"minimize": "cost", "cut_off_rate": 0.05, "confidence": 0.5},
    }
    plan = ttc.optimize(scenario_from_dict(raw))
    assert plan.status == "met"
    (name,) = plan.policy.arm_names()
    cap = int(name.split("@")[1])
    # The 95th percentile is 2,000 by construction; runs of 2,000 requests say it to a few percent.
    assert 2000 / 1.12 <= cap <= 2000 * 1.12


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"strategies": {"c": ["Single()"]}}, "search.strategies: got 'c'; expected one of a, b"),
        ({"strategies": {"a": []}}, "search.strategies.a: got []; expected at least 1"),
        ({"strategies": {"a": ["Single(cap=[])"]}}, "search.strategies.a.0: cap: got []; expected at least one choice"),
        ({"strategies": {"a": ["Singel()"]}}, "search.strategies.a.0: got 'Singel'; expected 'Single' (nearest"),
        ({"strategies": {"a": ["Single("]}}, "search.strategies.a.0: got 'Single('; expected a call"),
        ({"strategies": {"a": ["MajorityVote(n=[0, 3])"]}}, "MajorityVote: n: got 0; expected a whole number"),
        ({"strategies": {"a": ["Single(cap='900..100')"]}}, "cap: got '900..100'; expected a range whose end is above"),
        (
            {"strategies": {"a": ["BudgetForcing(min_tokens=[900], cap=[100])"]}},
            "min_tokens: got 900; expected at most the cap, 100",
        ),
        (
            {"strategies": {"a": ["Single(cap=[512, 1024])"]}, "caps": {"a": [512]}},
            "search.strategies.a.0: got 'Single(cap=512)'; expected no cap of its own beside search.caps.a",
        ),
        (
            {"strategies": {"a": ["Cascade([Single(cap=9), Single()], tpr=1, fpr=0)"]}, "caps": {"a": [512]}},
            "search.caps.a: got 'Cascade(stages=[Single(cap=9), Single()], tpr=1, fpr=0)'; expected an arm whose attempts",
        ),
        ({"caps": {"a": {"from": 900, "to": 100}}}, "search.caps.a.to: got 100; expected more than from (900)"),
        ({"caps": {"a": {"from": 0, "to": 100}}}, "search.caps.a.from: got 0; expected greater than or equal to 1"),
        (
            {"caps": {"a": {"from": 1, "upto": 100}}},
            "search.caps.a: got {'from': 1, 'upto': 100}; expected a list such as",
        ),
        ({"caps": {"a": {"from": 1, "to": 9, "uncapped": 1}}}, "search.caps.a.uncapped: got 1; expected true or false"),
        ({"caps": {"a": ["512..128"]}}, "search.caps.a.0: got '512..128'; expected a range"),
        ({"caps": {"a": ["many"]}}, "search.caps.a.0: got 'many'; expected a whole number of output tokens, null, or"),
        ({"caps": {"a": []}}, "search.caps.a: got []; expected at least 1 of them"),
        ({"efforts": {"c": [MISTRAL]}}, "search.efforts: got 'c'; expected one of a, b"),
        (
            {"cascades": [{"stages": ["a", "c"], "tpr": 1, "fpr": 0}]},
            "search.cascades.0.stages: got 'c'; expected one of a, b",
        ),
        (
            {"cascades": [{"stages": ["a"], "tpr": 1, "fpr": 0}]},
            "search.cascades.0.stages: got ['a']; expected at least 2",
        ),
        ({"cascades": [{"tpr": 1, "fpr": 0}]}, "expected either stages, two of them, or arms"),
        (
            {"cascades": [{"stages": ["a", 5], "tpr": 1, "fpr": 0}]},
            "search.cascades.0.stages.1: got 5; expected the name of",
        ),
        ({"cascades": [{"stages": ["a", "b"], "tpr": 1.5, "fpr": 0}]}, "search.cascades.0.tpr: got 1.5; expected less"),
        (
            {"cascades": [{"stages": ["a", "b"], "tpr": 1, "fpr": 0, "judge": "jugde"}]},
            "search.cascades.0.judge: got 'jugde'; expected 'judge' (nearest",
        ),
        (
            {"strategies": {"a": ["BestOfN(n=[2, 3], auroc=0.8, verifier='jugde')"]}},
            "search.strategies.a.0: got 'jugde'; expected 'judge' (nearest",
        ),
        (
            {"strategies": {"a": ["Cascade(['c', Single()], tpr=1, fpr=[0, 0.1])"]}},
            "search.strategies.a.0: got 'c'; expected one of a, b",
        ),
        (
            {
                "strategies": {"a": ["Cascade([Single(cap=9), Single()], tpr=1, fpr=0)"]},
                "cascades": [{"stages": ["a", "b"], "tpr": 1, "fpr": 0}],
            },
            "expected arms that are no cascades themselves",
        ),
        (
            {"strategies": {"a": [f"MajorityVote(n={list(range(1, 40))}, cap={list(range(10, 20))})"]}},
            "search.strategies.a.0: got '390 strategies'; expected at most 200: shorter lists of choices",
        ),
        (
            {
                "strategies": {"a": [f"MajorityVote(n={list(range(1, 30))})"]},
                "cascades": [{"stages": ["a", "b"], "tpr": 1, "fpr": 0}],
                "caps": {"b": list(range(1, 11))},
            },
            "search: got '329 arms'; expected at most 200 arms to choose from: shorter lists of choices or fewer ranges",
        ),
    ],
)
def test_what_cannot_be_searched_is_one_clear_line(search: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        scenario(search)
    assert said in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_an_arm_that_is_called_like_one_that_is_made_is_refused() -> None:
    arms = {name: {"profile": MISTRAL, "deployment": "web"} for name in ("a", "a@512")}
    with pytest.raises(InputError, match=r"arms: got 'a@512'; expected another name"):
        scenario({"caps": {"a": [512]}}, arms=arms)


def test_a_stage_that_nobody_is_sent_to_is_refused() -> None:
    arms = {
        "a": {"profile": MISTRAL, "deployment": "web", "sources": []},
        "b": {"profile": MAVERICK, "deployment": "large", "fallback": "a"},
    }
    with pytest.raises(
        InputError, match=r"search\.cascades\.0\.arms: got 'a'; expected an arm that requests may be sent"
    ):
        scenario({"cascades": [{"arms": ["a", "b"], "tpr": 1, "fpr": 0}]}, arms=arms)


def test_what_is_late_is_worked_out_anew_where_times_changed_and_only_there() -> None:
    """A pool's new times reach its own arm, and cascades and verifiers that run there; all is as if worked out from the start."""
    search = {
        "caps": {"a": [512, 2048]},
        "strategies": {"b": ["Single()", "BestOfN(n=2, auroc=0.8, verifier='pool')"]},
        "cascades": [{"arms": ["a", "b"], "tpr": 0.9, "fpr": 0.2}],
    }
    deployments = {"pool": pool(2.0), "other": pool(3.0), "large": api(4.0)}
    arms = {
        "a": {"profile": MISTRAL, "deployment": "pool"},
        "b": {"profile": MAVERICK, "deployment": "large"},
        "c": {"profile": MISTRAL, "deployment": "other"},
    }
    whole = load_model(
        scenario(search, deployments=deployments, arms=arms, targets={"maximize": "accuracy", "latency_p95_s": 20})
    )
    assert whole.population is not None
    few = load_model(whole.scenario, whole.population.restricted(np.arange(len(whole.population)) % 20 == 0))
    assert few.scenario.targets is not None
    before = PlanningTask.of(expect_arms(expanded_model(few)), few.scenario.targets).timing()
    assert before.late is not None
    after = before.after({("pool", 1): Waiting(30.0, 0.02)})
    anew = replace(before, waiting=after.waiting)
    assert "late" not in anew.__dict__
    assert np.array_equal(after.late, anew.late, equal_nan=True)
    names = before.expectations.model.arm_names
    changed = {
        name for v, name in enumerate(names) if not np.array_equal(before.late[:, v], after.late[:, v], equal_nan=True)
    }
    assert changed == set(names) - {"b", "c"}


def test_new_attempts_at_several_efforts_are_told_apart_by_the_profiles_names(tmp_path: Path) -> None:
    """A plan that uses a model at two efforts is carried out with the attempts of each, or refuses."""
    for name in ("low", "high"):
        shutil.copytree(find_folder(MAVERICK, "profile.yaml"), tmp_path / name)
    arms = {name: {"profile": name, "deployment": "large"} for name in ("low", "high")}
    raw = scenario({}, arms=arms).model_dump(exclude={"path"})
    raw["workload"]["sources"]["easy"]["subset"] = None
    plan = scenario_from_dict(raw, str(tmp_path / "s.yaml"))
    keys = [f"p{k}" for k in range(4)]
    pl.DataFrame({"problem": keys, "prompt": "what?"}).write_csv(tmp_path / "p.csv")
    scores = pl.DataFrame({"problem": keys, "difficulty": [0.1, 0.2, 0.3, 0.4]})
    made = pl.DataFrame({"problem": keys * 2, "model": ["low"] * 4 + ["high"] * 4, "correct": [0] * 4 + [1] * 4})
    made = made.with_columns(output_tokens=pl.lit(50), prompt_tokens=pl.lit(9))
    made.write_csv(tmp_path / "a.csv")
    _, population, _ = over_new_problems(plan, tmp_path / "p.csv", tmp_path / "a.csv", lambda _: None, scores=scores)
    assert [population.attempts[name].correct.tolist() for name in ("low", "high")] == [[False] * 4, [True] * 4]
    model = load_profile(MAVERICK).card.model
    made.with_columns(model=pl.lit(model)).write_csv(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"expected attempts by low: the plan uses .* at several efforts"):
        over_new_problems(plan, tmp_path / "p.csv", tmp_path / "a.csv", lambda _: None, scores=scores)
    alike = {"arms": {"low": arms["low"]}, "search": {**raw["search"], "efforts": {"low": ["high"]}}}
    _, population, said = over_new_problems(
        scenario_from_dict({**raw, **alike}, str(tmp_path / "s.yaml")),
        tmp_path / "p.csv",
        tmp_path / "a.csv",
        lambda _: None,
        scores=scores,
    )
    assert set(population.attempts) == {"low"}
    assert any("search.efforts is left out" in line for line in said)


@pytest.mark.parametrize(
    "asked", [{"minimize": "cost", "accuracy": 0.3}, {"maximize": "accuracy", "latency_p95_s": 15}]
)
def test_strides_that_are_left_out_are_in_no_best_policy(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setattr(dominated, "_FEW", 0)
    deployments = {"web": pool(0.5, replicas=4), "large": api(4.0)}
    arms = {"a": {"profile": MISTRAL, "deployment": "web"}, "b": {"profile": MAVERICK, "deployment": "large"}}
    search = {
        "caps": {"a": [256, 1024, 1100, None], "b": [512, 2048, 2100, None]},
        "replicas": {"web": [1, 4]},
        "bands": 5,
    }
    whole = load_model(scenario(search, deployments=deployments, arms=arms, targets=asked))
    assert whole.population is not None
    few = load_model(whole.scenario, whole.population.restricted(np.arange(len(whole.population)) % 20 == 0))
    assert few.scenario.targets is not None
    task = PlanningTask.of(expect_arms(expanded_model(few)), few.scenario.targets)
    question = task.question(task.limits(), task.timing())
    every = lay_out_strides(question, ["difficulty"])
    some = dominated.without_dominated(every, question)
    assert 0 < len(some.arm) < len(every.arm)
    one, other = solve(question, every), solve(question, some)
    assert not one.excess
    assert not other.excess
    assert other.cost_usd_per_request == pytest.approx(one.cost_usd_per_request, rel=3e-3) or asked.get("maximize")
    assert other.accuracy == pytest.approx(one.accuracy, rel=3e-3) or asked.get("minimize")
