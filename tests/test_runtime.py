"""A plan at work: live requests go where a simulation of the plan sends them, with its caps, or the plan is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from tests.routing import Asked, routes_of, runtime_of, saved_plan, shipped_problems
from ttc_sim.base.errors import InputError
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.optimizer.new_problems import over_new_problems
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.policies import choose_arms, parse_policy
from ttc_sim.predictor import Predictor
from ttc_sim.scenario import Scenario, load_scenario, scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.result import simulate
from ttc_sim.simulation.running import run_once

PROMPTS = [
    text * (1 + k % 3)
    for k in range(20)
    for text in (f"What is {k} + {k + 1}? ", f"Prove that there are {k} such graphs and count their colourings. ")
]
CARD = {"origin": "test", "licence": "CC0", "date": "2026-11-24", "tokenizer": "bytes", "limits": "made up"}
UTILITY = {source: f"Utility(price_of_accuracy={price})" for source, price in (("easy", 0.03), ("hard", 0.3))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up problems."""
    return write_problems(tmp_path_factory.mktemp("home"))


def write_problems(place: Path) -> Path:
    """Problems with their scores by the shipped predictor, and attempts of a weak and a strong model at them."""
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
    return saved_plan(folder / "plan.yaml", planned)


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
    live = runtime_of(saved(folder, planned))
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


STRATEGIES = {
    "Single(cap=700, on_cap='force_answer')": None,
    "BudgetForcing(min_tokens=200, cap=500)": None,
    "MajorityVote(n=3, cap=400, stop_early=True)": 400,
    "MajorityVote(n=3, of=BudgetForcing(cap=400))": None,
    "BestOfN(n=2, auroc=0.8, verifier='cheap', cap=300)": 300,
    "Cascade(stages=['weak@150', Single(cap=800)], tpr=0.9, fpr=0.1, judge='cheap')": 800,
    "Cascade(stages=[Single(cap=50), Single()], tpr=0.9, fpr=0.1)": None,
}


def all_strategies() -> dict[str, Any]:
    more = {f"more{k}": strategy for k, strategy in enumerate(STRATEGIES)}
    return {
        "weak@150": {"profile": "weak", "deployment": "cheap", "strategy": "Single(cap=150)"},
        "weak": {"profile": "weak", "deployment": "cheap"},
        **{name: {"profile": "strong", "deployment": "dear", "strategy": one} for name, one in more.items()},
    }


@pytest.mark.parametrize("kind", ["bands", "utility"])
def test_every_strategy_is_routed_as_in_a_simulation(folder: Path, kind: str) -> None:
    arms = all_strategies()
    if kind == "bands":
        scores = np.sort(pl.read_parquet(folder / "set" / "scores.parquet")["difficulty"].to_numpy())
        edges = [round(float(edge), 6) for edge in scores[4::4][: len(arms) - 2]]
        policy: Any = f"Banded(edges={edges}, arms={list(arms)[1:]})"
    else:
        policy = {"easy": "Utility(price_of_accuracy=0.005)", "hard": "Utility(price_of_accuracy=1.0)"}
    planned = scenario(folder, policy, arms=arms)
    records = simulate(planned).records.unique(["problem", "source"], maintain_order=True)
    runtime = runtime_of(saved(folder, planned))
    for problem, source, arm in records.select("problem", "source", "arm").iter_rows():
        decision = runtime.route(PROMPTS[int(problem[1:])], source)
        assert (decision.arm, decision.deployment) == (arm, planned.arms[arm].deployment)
        assert decision.strategy == planned.parsed_strategy(arm)
        if arm.startswith("more"):
            assert decision.max_tokens == list(STRATEGIES.values())[int(arm[4:])]
        for figure in vars(decision.predicted).values():
            assert figure is not None
            assert figure > 0
    assert len(set(records["arm"])) > (len(STRATEGIES) if kind == "bands" else 1)


@pytest.mark.parametrize(
    ("name", "every", "policy"),
    [
        ("reasoning-gateway", 12, None),
        ("qa-gateway", 30, "Utility(price_of_accuracy=0.005)"),
        ("competition-maths", 1, None),
    ],
)
def test_the_shipped_problems_are_routed_alike_by_simulation_validation_and_runtime(
    shared: Path, tmp_path: Path, name: str, every: int, policy: str | None
) -> None:
    planned = load_scenario(name)
    if policy is not None:
        model = with_responses(load_model(planned), parse_policy(policy))
        assert model.population is not None
        planned = planned.model_copy(
            update={"policy": policy, "responses": dict(model.population.responses or {}), "targets": None}
        )
    plan = saved_plan(tmp_path / "plan.yaml", planned.model_copy(update={"path": str(tmp_path / "scenario.yaml")}))
    problem_set = str(next(iter(planned.workload.sources.values())).problem_set)
    problems, attempts = shipped_problems(shared, problem_set, every)
    problems.write_parquet(tmp_path / "p.parquet")
    attempts.write_parquet(tmp_path / "a.parquet")
    # The shipped scores are of predictors that have not seen the problem; a plan's own has, so its scores are taken for all.
    read = load_plan(plan).scenario
    _, population, _ = over_new_problems(read, tmp_path / "p.parquet", tmp_path / "a.parquet")
    model, rule = load_model(read, population), read.parsed_policy()
    assert model.population is not None
    assert rule is not None
    by_validation = choose_arms(rule, model.population.as_requests(), model.arm_names)
    run = run_once(model, rule, draw(model, 0))
    assert run.row is not None
    prompt = dict(problems.select(pl.col("key").cast(pl.String), "prompt").iter_rows())
    asked = [
        Asked(f"{row}", population.sources[population.source[row]], prompt[population.problem[row]], int(tokens))
        for row, tokens in enumerate(population.prompt_tokens)
    ]
    routes = routes_of(plan, asked)
    by_runtime = np.array([model.arm_names.index(routes[f"{row}"].arm) for row in range(len(asked))])
    assert len(asked) > 40
    assert len(set(by_runtime.tolist())) > 1
    assert (by_runtime == by_validation).all()
    assert (by_runtime[run.row] == run.arm).all()
    for route in routes.values():
        assert route.max_tokens == planned.parsed_strategy(route.arm).attempt_cap
        assert route.deployment == planned.arms[route.arm].deployment


def test_a_route_says_where_it_goes_next(folder: Path) -> None:
    planned = scenario(folder, "Always('weak')")
    weak = planned.arms["weak"].model_copy(update={"fallback": ["weak@150", "strong@500"]})
    falling = planned.model_copy(update={"arms": {**planned.arms, "weak": weak}})
    runtime = runtime_of(saved(folder, falling))
    assert runtime.route("x", "easy").fallbacks == ("weak@150", "strong@500")
    assert repr(runtime.strategies["strong@500"]) == "Single(cap=500)"
    assert runtime_of(saved(folder, planned)).route("x", "easy").fallbacks == ()


def test_the_source_is_told_not_guessed(folder: Path) -> None:
    live = runtime_of(saved(folder, scenario(folder, {"easy": "Always('weak')", "hard": "Always('strong')"})))
    assert [live.route("x", source).arm for source in ("easy", "hard")] == ["weak", "strong"]
    for source in (None, "esay"):
        with pytest.raises(InputError, match=f"plan.yaml: source: got {source!r}; expected .*easy.*hard"):
            live.route("x", source)
    one = scenario(folder, "Always('weak')")
    workload = one.workload.model_copy(update={"sources": {"easy": one.workload.sources["easy"]}})
    alone = runtime_of(saved(folder, one.model_copy(update={"workload": workload, "arms": {"weak": one.arms["weak"]}})))
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
    runtime = runtime_of(saved(folder, scenario(folder, policy, arms=arms)))
    with pytest.raises(InputError, match=r"scenario\.arms\.voting\.strategy: got .*; expected Single\(\)"):
        runtime.check_plain_calls()
    # One that no request goes to does not matter.
    runtime_of(saved(folder, scenario(folder, "Always('weak')", arms=arms))).check_plain_calls()


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
        runtime_of(saved(folder, scenario(folder, policy)), allow_code=True).check_plain_calls()


def test_a_users_own_function_is_called(folder: Path) -> None:
    (folder / "own.py").write_text(
        "def choose(request):\n    return 'weak' if request.difficulty < 0.4 else 'strong@500'\n"
    )
    live = runtime_of(saved(folder, scenario(folder, "own.py:choose")), allow_code=True)
    routes = [live.route(prompt, "easy") for prompt in PROMPTS]
    assert {route.arm for route in routes} == {"weak", "strong@500"}
    assert all((route.arm == "weak") == (route.scores["difficulty"] < 0.4) for route in routes)


def test_a_policy_without_what_it_was_planned_with_is_refused(folder: Path) -> None:
    planned = scenario(folder, UTILITY).model_copy(update={"responses": None})
    with pytest.raises(InputError, match=r"scenario\.responses: got None; expected the responses"):
        runtime_of(saved(folder, planned))
    with pytest.raises(InputError, match="score: got 'p:someone'; expected"):
        runtime_of(
            saved(folder, scenario(folder, "Threshold(at=0.4, below='weak', above='strong@500', score='p:someone')"))
        )


def test_the_predictor_is_the_plans_unless_another_is_asked_for(folder: Path) -> None:
    plan = saved(folder, scenario(folder, "Always('weak')"))
    shipped = PREDICTORS["fast"]
    (folder / "elsewhere.onnx").write_bytes(shipped.read_bytes())
    (folder / "mine.onnx").write_bytes(shipped.read_bytes() + b"\x32\x01x")  # a remark in it
    for stands_at in (None, "fast", folder / "elsewhere.onnx"):
        assert runtime_of(plan, predictor=stands_at).route("What is 2 + 2?", "easy").arm == "weak"
    other = runtime_of(plan, predictor=folder / "mine.onnx", other_predictor=True)
    assert [note for note in other.notes if "mine.onnx" in note and "another predictor than the plan's" in note]
    for another in ("encoder", folder / "mine.onnx"):
        with pytest.raises(InputError, match="the predictor that the plan was made with, fast"):
            runtime_of(plan, predictor=another)
