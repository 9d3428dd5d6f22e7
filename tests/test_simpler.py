"""Plans that cannot be told apart: beside brute force, what is taken of them, and what is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

import ttc_sim as ttc
from ttc_sim.base.draws import uniforms
from ttc_sim.base.estimates import Estimate
from ttc_sim.optimizer.health.check import Check
from ttc_sim.optimizer.health.promised import gain_over_simpler
from ttc_sim.optimizer.health.subject import Subject
from ttc_sim.optimizer.looking import Learnt, simulate_proposal
from ttc_sim.optimizer.optimism import Optimism
from ttc_sim.optimizer.plan import Plan
from ttc_sim.optimizer.promises import check_targets
from ttc_sim.optimizer.proposing.proposal import Proposal
from ttc_sim.optimizer.simpler import (
    BANDS,
    LIVE,
    STATIC,
    UTILITY,
    Beside,
    Simplicity,
    objective_of,
    simplest_of,
    simplicity_of,
)
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.policies import Always, Banded, PerSource, Policy
from ttc_sim.reporting.health import tied_in_words
from ttc_sim.scenario import Scenario, Targets, scenario_from_dict
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import load_model

from .test_health import CARD

PROBLEMS = 300


def world(folder: Path, gain: float = 0.0, problems: int = PROBLEMS) -> None:
    """Two models on the same problems; on the hard half the second is right more often, by so much."""
    keys = [f"q{k}" for k in range(problems)]
    difficulty = (np.arange(problems) + 0.5) / problems
    for name, file, more in (
        ("set", "problem_set", {"cluster": "problem"}),
        ("one", "profile", {"model": "one", "reasoning": "none"}),
        ("two", "profile", {"model": "two", "reasoning": "none"}),
    ):
        (folder / name).mkdir()
        (folder / name / f"{file}.yaml").write_text(yaml.safe_dump({**CARD, **more}))
    table = {"problem": keys, "subset": "all", "group": keys, "prompt_tokens": 100}
    pl.DataFrame(table).write_parquet(folder / "set" / "problems.parquet")
    pl.DataFrame({"problem": keys, "difficulty": difficulty}).write_parquet(folder / "set" / "scores.parquet")
    chance = uniforms(11, "simpler", 4 * problems, 1)[:, 0]
    for name, better in (("one", 0.0), ("two", gain)):
        hard = np.repeat(difficulty > 0.5, 4)
        attempts = {
            "problem": np.repeat(keys, 4),
            "attempt": np.tile(np.arange(4), problems),
            "prompt_tokens": 100,
            "reasoning_tokens": 0,
            "visible_tokens": (100 + 100 * uniforms(12, name, 4 * problems, 1)[:, 0]).astype(np.int64),
            "correct": chance < 0.5 + better * hard,
            "truncated": False,
            "answer": "x",
        }
        pl.DataFrame(attempts).write_parquet(folder / name / "attempts.parquet")


def api(output_usd: float) -> dict[str, Any]:
    return {
        "kind": "api",
        "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": output_usd},
        "first_token": {"median_s": 0.5},
        "per_token": {"median_s": 0.01},
    }


def of(folder: Path, targets: dict[str, Any], usd: tuple[float, float] = (5.0, 5.0), **changes: Any) -> Scenario:
    raw = {
        "name": "alike",
        "replications": 3,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 2.0},
            "requests": 400,
            "sources": {"all": {"problem_set": "set"}},
        },
        "deployments": {"first": api(usd[0]), "second": api(usd[1])},
        "arms": {"one": {"profile": "one", "deployment": "first"}, "two": {"profile": "two", "deployment": "second"}},
        "search": {"bands": 4, "max_bands": 3},
        "targets": {"confidence": 0.5, **targets},
        **changes,
    }
    return scenario_from_dict(raw, str(folder / "s.yaml"))


def holds_all(plan: Plan) -> None:
    """What is taken holds every target as surely as was asked, as do all that are said to be alike."""
    targets = plan.scenario.targets
    assert targets is not None
    assert all(check.holds for check in check_targets(plan.predicted, targets))
    if plan.tied:
        assert sum(one.is_plan for one in plan.tied) == 1
        assert plan.tied[-1].difference is None
        for one in plan.tied[:-1]:
            assert one.difference is not None
            assert one.simplicity < plan.tied[-1].simplicity
        mine = next(one for one in plan.tied if one.is_plan)
        assert dict(mine.policy) == plan.scenario.policy


def test_of_models_that_are_alike_the_plan_is_one_arm(tmp_path: Path) -> None:
    """Which of two equal models answers which problem is noise, however the attempts happen to have fallen."""
    world(tmp_path)
    plan = ttc.optimize(of(tmp_path, {"maximize": "accuracy"}))
    holds_all(plan)
    assert len(plan.predicted.per_arm) == 1
    assert isinstance(plan.policy.for_source("all"), Always)


def test_a_real_gain_is_not_given_away(tmp_path: Path) -> None:
    """On the hard half the dear model is right 30 points more often: bands stay, whatever is simpler."""
    world(tmp_path, gain=0.3)
    plan = ttc.optimize(of(tmp_path, {"minimize": "cost", "accuracy": 0.6}, (1.0, 20.0)))
    holds_all(plan)
    assert len(plan.predicted.per_arm) == 2
    dear = plan.baselines["always-large"]
    assert plan.predicted.cost_usd_per_request.value < 0.75 * dear.cost_usd_per_request.value
    gain = next(check for check in plan.health if check.name == "gain")
    assert gain.status == "ok"


def verified(task: PlanningTask, policy: Policy) -> Any:
    learnt = Learnt(task.limits(), task.timing(), Optimism.none(len(task.population)))
    proposal = Proposal(PerSource({"all": policy}), {}, 0.0, 0.0, {})
    return simulate_proposal(task, proposal, learnt, "verify", task.model.scenario.replications)[0]


def task_of(scenario: Scenario) -> PlanningTask:
    assert scenario.targets is not None
    return PlanningTask.of(expect_arms(load_model(scenario)), scenario.targets)


def test_differences_are_those_of_the_problems_by_hand(tmp_path: Path) -> None:
    """Everything to one arm beside bands: they differ on half of the problems, whose difference is a mean with its error."""
    world(tmp_path, gain=0.02)
    task = task_of(of(tmp_path, {"maximize": "accuracy"}))
    best = verified(task, Banded(edges=[0.5], arms=["one", "two"]))
    other = verified(task, Always("one"))
    found = simplest_of(task, best, [other], lambda _: None)
    (beside,) = found.beside
    right = task.expectations.correct
    hard = task.population.scores["difficulty"] >= 0.5
    lost = np.where(hard, right[1] - right[0], 0.0)
    assert beside.worse["accuracy"].value == pytest.approx(lost.mean(), abs=1e-9)
    assert beside.worse["accuracy"].sd == pytest.approx(lost.std() / np.sqrt(len(lost)), rel=0.2)
    assert beside.objective.value == pytest.approx(-lost.mean(), abs=1e-9)


def test_the_check_of_the_gain_says_which_of_them_it_is(tmp_path: Path) -> None:
    """Of 20 problems nothing can be told for sure; of a gain of 30 points on half of 300 problems it can."""

    def gain(problems: int, better: float, edge: float = 0.5) -> tuple[Check, bool]:
        folder = tmp_path / f"{problems}-{better}-{edge}"
        folder.mkdir()
        world(folder, better, problems)
        task = task_of(of(folder, {"maximize": "accuracy"}))
        best = verified(task, Banded(edges=[edge], arms=["one", "two"]))
        found = simplest_of(task, best, [verified(task, Always("one"))], lambda _: None)
        policy, plan = found.plan.proposal.policy, found.plan
        examined = Subject(found.pooled, policy, plan.summary, plan.checks, None, None, found)
        return gain_over_simpler(examined), found.plan is best

    unknown, kept = gain(20, 0.03)
    assert (unknown.status, kept) == ("warning", True)
    assert "less accuracy, paired -" in unknown.says
    clear, kept = gain(300, 0.3)
    assert (clear.status, kept) == ("ok", True)
    assert "more than noise" in clear.says
    alike, kept = gain(300, 0.0, edge=0.99)
    assert (alike.status, kept) == ("not applicable", False)
    assert "as simple as can be" in alike.says


def test_only_what_is_known_to_be_as_good_is_taken() -> None:
    def beside(value: float, sd: float, cost: float = 0.0) -> Beside:
        accuracy = Estimate.around(value, sd)
        worse = {"accuracy": accuracy, "cost_usd_per_request": Estimate.around(cost, 1e-6)}
        most = {"accuracy": 0.02, "cost_usd_per_request": 2e-5}
        return Beside(None, Simplicity(0, 1, 1, 1), accuracy, worse, most)  # type: ignore[arg-type]

    assert beside(0.0, 0.001).as_good
    assert beside(-0.05, 0.01).as_good  # better, for all that is known
    clear = beside(0.01, 0.002)
    assert not clear.alike
    assert not clear.as_good
    unknown = beside(0.005, 0.07)  # few problems: it cannot be told apart, and may be much worse
    assert unknown.alike
    assert not unknown.as_good
    assert not beside(0.0, 0.001, cost=1e-4).alike  # as accurate, and clearly dearer


def test_simplicity_is_in_the_order_that_is_stated(tmp_path: Path) -> None:
    world(tmp_path)
    task = task_of(of(tmp_path, {"maximize": "accuracy"}))
    always, bands = (
        simplicity_of(verified(task, one)) for one in (Always("one"), Banded(edges=[0.5], arms=["one", "two"]))
    )
    assert always == Simplicity(STATIC, 1, 1, 1)
    assert bands == Simplicity(BANDS, 2, 2, 2)
    ordered = [
        Simplicity(STATIC, 1, 1, 1),
        Simplicity(STATIC, 2, 2, 2),
        Simplicity(BANDS, 1, 2, 2),
        Simplicity(BANDS, 2, 2, 2),
        Simplicity(BANDS, 2, 2, 3),
        Simplicity(BANDS, 2, 3, 3),
        Simplicity(UTILITY, 1, 2, 1),
        Simplicity(LIVE, 2, 2, 1),
    ]
    shuffled = [*ordered[4:], *ordered[:4]]
    assert sorted(shuffled) == ordered
    assert Simplicity(STATIC, 1, 1, 1).words == "one arm for each source, 1 deployment, 1 arm"
    # A band that nobody comes to adds an arm that is not used.
    alone = simplicity_of(verified(task, Banded(edges=[2.0], arms=["one", "two"])))
    assert alone.arms == alone.deployments == 1


@pytest.mark.parametrize(
    ("targets", "name"),
    [
        ({"minimize": "cost", "accuracy": 0.5}, "cost_usd_per_request"),
        ({"minimize": "cost_usd_per_day", "accuracy": 0.5}, "cost_usd_per_day"),
        ({"maximize": "accuracy"}, "accuracy"),
        ({"minimize": "latency_p95_s"}, "latency_p95_s"),
    ],
)
def test_the_objective_is_the_figure_that_is_compared(targets: dict[str, Any], name: str) -> None:
    assert objective_of(Targets(**targets)) == name


def test_what_misses_a_target_is_never_taken(tmp_path: Path) -> None:
    """Always the cheap model would be as good by a hair, and misses the accuracy that is asked for."""
    world(tmp_path, gain=0.3)
    task = task_of(of(tmp_path, {"minimize": "cost", "accuracy": 0.6}))
    best, other = verified(task, Banded(edges=[0.5], arms=["one", "two"])), verified(task, Always("one"))
    assert best.meets_targets
    assert not other.meets_targets
    found = simplest_of(task, best, [other], lambda _: None)
    assert found.plan is best
    assert not found.beside
    assert not found.farther
    assert not found.tied()
    missed = replace(best, checks=other.checks)
    assert simplest_of(task, missed, [other], lambda _: None).plan is missed  # nothing to take where none holds


def test_it_is_said_in_text_json_and_the_plans_file(tmp_path: Path) -> None:
    world(tmp_path)
    plan = ttc.optimize(of(tmp_path, {"minimize": "cost", "accuracy": 0.45}, (5.0, 5.0)))
    holds_all(plan)
    again = ttc.optimize(of(tmp_path, {"minimize": "cost", "accuracy": 0.45}, (5.0, 5.0)))
    assert json.dumps(plan.as_json(), default=str) == json.dumps(again.as_json(), default=str)
    plan.save(tmp_path / "plan.yaml")
    content = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    assert content.get("tied", []) == [one.as_json() for one in plan.tied] == plan.as_json()["tied"]
    assert ttc.load_plan(tmp_path / "plan.yaml").scenario.policy == plan.scenario.policy
    said = tied_in_words(plan)
    assert bool(said) == bool(plan.tied)
    assert sum("the plan, " in line for line in said) == bool(plan.tied)


def test_of_traffic_alone_the_simplest_is_taken_too(tmp_path: Path) -> None:
    """Two endpoints that cost the same: bands of prompt length gain nothing over one."""
    workload = {"arrivals": {"process": "poisson", "rate_per_s": 2.0}, "requests": 300}
    workload["lengths"] = {"prompt_tokens": {"median": 300, "p95": 900}, "output_tokens": {"median": 150, "p95": 500}}
    raw = {
        "name": "traffic",
        "replications": 3,
        "workload": workload,
        "deployments": {"first": api(5.0), "second": api(5.0)},
        "arms": {"one": {"deployment": "first"}, "two": {"deployment": "second"}},
        "search": {"bands": 4, "max_bands": 2},
        "targets": {"minimize": "cost", "latency_p95_s": 60.0},
    }
    plan = ttc.optimize(scenario_from_dict(raw, str(tmp_path / "s.yaml")))
    holds_all(plan)
    assert len(plan.predicted.per_arm) == 1
    assert {check.name for check in plan.health} >= {"targets", "gain", "hours"}
