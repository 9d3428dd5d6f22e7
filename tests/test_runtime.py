"""A plan at work: live requests go where a simulation of the plan sends them, with its caps, or the plan is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.deploying import Runtime
from ttc_sim.predictor import Predictor
from ttc_sim.scenario import Scenario, scenario_from_dict
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.result import simulate

PROMPTS = [
    text * (1 + k % 3)
    for k in range(20)
    for text in (f"What is {k} + {k + 1}? ", f"Prove that there are {k} such graphs and count their colourings. ")
]
CARD = {"origin": "test", "licence": "CC0", "date": "2026-11-24", "tokenizer": "bytes", "limits": "made up"}
UTILITY = {source: f"Utility(price_of_accuracy={price})" for source, price in (("easy", 0.03), ("hard", 0.3))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Problems with their scores by the shipped predictor, and attempts of a weak and a strong model at them."""
    place = tmp_path_factory.mktemp("home")
    for name, file, more in (
        ("set", "problem_set", {"cluster": "problem"}),
        ("weak", "profile", {"model": "weak", "reasoning": "none"}),
        ("strong", "profile", {"model": "strong", "reasoning": "none"}),
    ):
        (place / name).mkdir()
        (place / name / f"{file}.yaml").write_text(yaml.safe_dump({**CARD, **more}))
    keys = [f"q{k}" for k in range(len(PROMPTS))]
    tokens = [len(prompt) // 4 + 1 for prompt in PROMPTS]
    subsets = ["easy" if k % 3 else "hard" for k in range(len(PROMPTS))]
    problems = {"problem": keys, "subset": subsets, "group": keys, "prompt_tokens": tokens}
    pl.DataFrame(problems).write_parquet(place / "set" / "problems.parquet")
    scores = Predictor.load().score(PROMPTS).table()
    scores.insert_column(0, pl.Series("problem", keys)).write_parquet(place / "set" / "scores.parquet")
    rng = np.random.default_rng(2)
    for name, strength, length in (("weak", 0.9, 100), ("strong", 0.2, 400)):
        right = rng.uniform(size=3 * len(keys)) > strength * np.repeat(scores["difficulty"].to_numpy(), 3)
        attempts = {
            "problem": np.repeat(keys, 3),
            "attempt": np.tile(np.arange(3), len(keys)),
            "prompt_tokens": np.repeat(tokens, 3),
            "reasoning_tokens": 0,
            "visible_tokens": rng.integers(length, 3 * length, 3 * len(keys)),
            "correct": right,
            "truncated": False,
            "answer": "x",
        }
        pl.DataFrame(attempts).write_parquet(place / name / "attempts.parquet")
    return place


def scenario(folder: Path, policy: Any, **changes: Any) -> Scenario:
    api = {"kind": "api", "first_token": {"median_s": 0.5}, "per_token": {"median_s": 0.01}}
    arms = {
        "weak@150": {"profile": "weak", "deployment": "cheap", "strategy": "Single(cap=150)"},
        "weak": {"profile": "weak", "deployment": "cheap"},
        "strong": {"profile": "strong", "deployment": "dear", "strategy": "Single(cap=1000)", "sources": ["hard"]},
        "strong@500": {"profile": "strong", "deployment": "dear", "strategy": "Single(cap=500)"},
    }
    raw = {
        "name": "live",
        "replications": 1,
        "workload": {
            "arrivals": {"process": "even", "rate_per_s": 5.0},
            "requests": 300,
            "sources": {name: {"problem_set": "set", "subset": name} for name in ("easy", "hard")},
        },
        "deployments": {
            "cheap": {**api, "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.5}},
            "dear": {**api, "price": {"input_usd_per_mtok": 2.0, "output_usd_per_mtok": 10.0}},
        },
        "arms": arms,
        "policy": policy,
        **changes,
    }
    made = scenario_from_dict(raw, str(folder / "scenario.yaml"))
    chosen = made.parsed_policy()
    assert chosen is not None
    if not chosen.uses_responses:
        return made
    fitted = with_responses(load_model(made), chosen).population
    assert fitted is not None
    return made.model_copy(update={"responses": dict(fitted.responses or {})})


def saved(folder: Path, planned: Scenario) -> Path:
    """As :meth:`ttc_sim.optimizer.plan.Plan.save` writes it."""
    path = folder / "plan.yaml"
    content = planned.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    path.write_text(
        yaml.safe_dump({"ttc_sim_plan": 1, "promised": {}, "made_from": "scenario.yaml", "scenario": content})
    )
    return path


def started(plan: Path, *, allow_code: bool = False, **options: Any) -> Runtime:
    runtime = ttc.load_plan(plan, allow_code=allow_code).runtime(**options)
    assert isinstance(runtime, Runtime)
    return runtime


POLICIES: list[Any] = [
    UTILITY,
    "Utility(price_of_accuracy=0.03, price_of_second=0.0001)",
    "Always('weak@150')",
    "Threshold(at=0.4, below='weak', above='strong@500')",
    {"easy": "Banded(edges=[0.2, 0.5], arms=['weak@150', 'weak', 'strong@500'])", "hard": "Always('strong')"},
]


@pytest.mark.parametrize("policy", POLICIES)
def test_live_requests_go_where_a_simulation_sends_them(folder: Path, policy: Any) -> None:
    planned = scenario(folder, policy)
    records = simulate(planned).records.unique(["problem", "source"], maintain_order=True)
    live = started(saved(folder, planned))
    assert len(records) > 30
    for problem, source, arm in records.select("problem", "source", "arm").iter_rows():
        prompt = PROMPTS[int(problem[1:])]
        route = live.route(prompt, source)
        assert (route.arm, route.deployment) == (arm, planned.arms[arm].deployment)
        assert route.max_tokens == {"weak": None, "weak@150": 150, "strong": 1000, "strong@500": 500}[arm]
        again = live.route(prompt, source, prompt_tokens=len(prompt) // 4 + 1)
        assert (again.arm, again.prompt_tokens, again.scores) == (route.arm, route.prompt_tokens, route.scores)
        assert again.request != route.request
        assert arm in live.arms[source]
    if policy == UTILITY:
        arms = {name: set(records.filter(pl.col("source") == name)["arm"]) for name in ("easy", "hard")}
        assert "strong" in arms["hard"]
        assert len(arms["hard"]) > 1
        assert "strong" not in live.arms["easy"]


def test_a_route_says_where_it_goes_next(folder: Path) -> None:
    planned = scenario(folder, "Always('weak')")
    weak = planned.arms["weak"].model_copy(update={"fallback": ["weak@150", "strong@500"]})
    falling = planned.model_copy(update={"arms": {**planned.arms, "weak": weak}})
    runtime = started(saved(folder, falling))
    assert runtime.route("x", "easy").fallbacks == ("weak@150", "strong@500")
    assert repr(runtime.strategies["strong@500"]) == "Single(cap=500)"
    assert started(saved(folder, planned)).route("x", "easy").fallbacks == ()


def test_the_source_is_told_not_guessed(folder: Path) -> None:
    live = started(saved(folder, scenario(folder, {"easy": "Always('weak')", "hard": "Always('strong')"})))
    assert [live.route("x", source).arm for source in ("easy", "hard")] == ["weak", "strong"]
    for source in (None, "esay"):
        with pytest.raises(InputError, match=f"plan.yaml: source: got {source!r}; expected .*easy.*hard"):
            live.route("x", source)
    one = scenario(folder, "Always('weak')")
    workload = one.workload.model_copy(update={"sources": {"easy": one.workload.sources["easy"]}})
    alone = started(saved(folder, one.model_copy(update={"workload": workload, "arms": {"weak": one.arms["weak"]}})))
    assert alone.route("x").arm == "weak"


@pytest.mark.parametrize(
    "strategy",
    [
        "MajorityVote(n=3)",
        "BestOfN(n=2, auroc=0.8)",
        "Cascade(stages=[Single(cap=50), Single()], tpr=0.9, fpr=0.1)",
        "BudgetForcing(cap=500)",
        "Single(cap=500, on_cap='force_answer')",
    ],
)
@pytest.mark.parametrize(
    "policy", ["Threshold(at=0.4, below='weak', above='voting')", "Utility(price_of_accuracy=0.004)"]
)
def test_an_arm_of_more_than_one_call_is_refused_where_one_is_made(folder: Path, strategy: str, policy: str) -> None:
    arms = {
        "weak": {"profile": "weak", "deployment": "cheap"},
        "voting": {"profile": "strong", "deployment": "dear", "strategy": strategy},
    }
    runtime = started(saved(folder, scenario(folder, policy, arms=arms)))
    with pytest.raises(InputError, match=r"scenario\.arms\.voting\.strategy: got .*; expected Single\(\)"):
        runtime.check_plain_calls()
    # One that no request goes to does not matter.
    started(saved(folder, scenario(folder, "Always('weak')", arms=arms))).check_plain_calls()


@pytest.mark.parametrize(
    "policy",
    [
        "LeastLoaded(arms=['weak', 'strong@500'])",
        {"easy": "Overflow(arms=['weak', 'strong@500'], waiting=3)", "hard": "Always('strong')"},
        "looks.py:choose",
    ],
)
def test_a_policy_that_looks_at_live_load_is_refused_where_none_is_told(folder: Path, policy: Any) -> None:
    (folder / "looks.py").write_text("def choose(request, load):\n    return 'weak'\n")
    with pytest.raises(InputError, match=r"scenario\.policy of source easy: got .* alone: the deployments' live load"):
        started(saved(folder, scenario(folder, policy)), allow_code=True).check_plain_calls()


def test_a_users_own_function_is_called(folder: Path) -> None:
    (folder / "own.py").write_text(
        "def choose(request):\n    return 'weak' if request.difficulty < 0.4 else 'strong@500'\n"
    )
    live = started(saved(folder, scenario(folder, "own.py:choose")), allow_code=True)
    routes = [live.route(prompt, "easy") for prompt in PROMPTS]
    assert {route.arm for route in routes} == {"weak", "strong@500"}
    assert all((route.arm == "weak") == (route.scores["difficulty"] < 0.4) for route in routes)


def test_a_policy_without_what_it_was_planned_with_is_refused(folder: Path) -> None:
    planned = scenario(folder, UTILITY).model_copy(update={"responses": None})
    with pytest.raises(InputError, match=r"scenario\.responses: got None; expected the responses"):
        started(saved(folder, planned))
    with pytest.raises(InputError, match="score: got 'p:someone'; expected"):
        started(
            saved(folder, scenario(folder, "Threshold(at=0.4, below='weak', above='strong@500', score='p:someone')"))
        )


def test_the_predictor_is_the_plans_unless_another_is_asked_for(folder: Path) -> None:
    plan = saved(folder, scenario(folder, "Always('weak')"))
    shipped = PREDICTORS["fast"]
    (folder / "elsewhere.onnx").write_bytes(shipped.read_bytes())
    (folder / "mine.onnx").write_bytes(shipped.read_bytes() + b"\x00")
    for stands_at in (None, "fast", folder / "elsewhere.onnx"):
        assert started(plan, predictor=stands_at).route("What is 2 + 2?", "easy").arm == "weak"
    for another in ("encoder", folder / "mine.onnx"):
        with pytest.raises(InputError, match="the predictor that the plan was made with, fast"):
            started(plan, predictor=another)
