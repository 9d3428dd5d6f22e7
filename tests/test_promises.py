"""What a plan is held to: the predictor it was made with, its targets, and what could have been done in hindsight."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from scipy.optimize import linprog
from typer.testing import CliRunner

import ttc_sim as ttc
from tests.test_predictor import KINDS, sums
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.cli import app
from ttc_sim.measured.problem_sets import ProblemSet
from ttc_sim.measured.provenance import ScoredBy, identify, said_by
from ttc_sim.optimizer.hindsight import in_hindsight
from ttc_sim.optimizer.new_problems import over_new_problems
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.optimizer.promises import TargetVerdict, judge_targets
from ttc_sim.optimizer.validating import Verdict, validate
from ttc_sim.policies import UserFunction
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.learning import network, train
from ttc_sim.scenario import Targets, load_scenario, scenario_from_dict
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.result import simulate
from ttc_sim.workload.population import load_population

CARD = {"origin": "made up", "licence": "none", "date": "2026", "tokenizer": "none", "limits": "made up"}
API = {"kind": "api", "first_token": {"median_s": 0.5, "p95_s": 1.0}, "per_token": {"median_s": 0.01, "p95_s": 0.02}}


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def write_set(folder: Path, problems: pl.DataFrame, attempts: pl.DataFrame) -> None:
    """A problem set ``mine`` beside the scenario, with a profile for each model; keys are those of the tables."""
    place = folder / "profiles" / "mine"
    place.mkdir(parents=True)
    (place / "problem_set.yaml").write_text(yaml.safe_dump({**CARD, "kind": "problems", "cluster": "problem"}))
    key = pl.col("id").cast(pl.String).alias("problem")
    problems.select(key, group=pl.col("task"), subset=pl.lit("all"), prompt_tokens=pl.lit(20, pl.Int32)).write_parquet(
        place / "problems.parquet"
    )
    for model in ("weak", "strong"):
        (place / model).mkdir()
        card = {**CARD, "kind": "model", "model": model, "problem_set": "mine", "reasoning": "none"}
        (place / model / "profile.yaml").write_text(yaml.safe_dump(card))
        attempts.filter(pl.col("model") == model).select(
            key,
            pl.col("attempt").cast(pl.Int16),
            prompt_tokens=pl.lit(20, pl.Int32),
            reasoning_tokens=pl.lit(0, pl.Int32),
            visible_tokens=pl.col("output_tokens").cast(pl.Int32),
            correct="correct",
            truncated=pl.lit(False),
            answer=pl.lit(None, pl.String),
        ).write_parquet(place / model / "attempts.parquet")


def scenario(**changes: Any) -> dict[str, Any]:
    def api(usd: float) -> dict[str, Any]:
        return {**API, "price": {"input_usd_per_mtok": usd / 5, "output_usd_per_mtok": usd}}

    raw: dict[str, Any] = {
        "name": "mine",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 1.0},
            "requests": 300,
            "sources": {"all": {"problem_set": "mine"}},
        },
        "deployments": {"small": api(0.5), "large": api(10.0)},
        "arms": {
            "weak": {"profile": "mine/weak", "deployment": "small"},
            "strong": {"profile": "mine/strong", "deployment": "large"},
        },
        "search": {"bands": 6, "max_bands": 2, "scores": ["difficulty"]},
        "targets": {"minimize": "cost", "accuracy": 0.55},
    }
    return {**raw, **changes}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A predictor of one's own, a problem set scored by it, and the plan that was made with it."""
    folder = tmp_path_factory.mktemp("promises")
    problems, attempts = sums(1, 300, KINDS)
    problems.write_parquet(folder / "p.parquet")
    attempts.write_parquet(folder / "a.parquet")
    write_set(folder, problems, attempts)
    problems.select(pl.col("id").cast(pl.String).alias("problem"), "prompt").write_parquet(folder / "prompts.parquet")
    tables = ["--problems", folder / "p.parquet", "--attempts", folder / "a.parquet"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train, "RECIPES", (network.Recipe(16, 2, 0.2),))
        got = run("predictor", "train", *tables, "--out", folder / "own.onnx", "--workers", 1)
    assert got.exit_code == 0, got.output
    scores = folder / "profiles" / "mine" / "scores-own.parquet"
    assert (
        run("predictor", "score", folder / "prompts.parquet", "--model", folder / "own.onnx", "--out", scores).exit_code
        == 0
    )
    (folder / "s.yaml").write_text(yaml.safe_dump(scenario(predictor="own.onnx")))
    got = run("optimize", folder / "s.yaml", "--plan", folder / "plan.yaml", "--json", folder / "plan.json")
    assert got.exit_code == 0, got.output
    return SimpleNamespace(folder=folder, tables=tables, plan=folder / "plan.yaml", scores=scores, prompts=problems)


def validated(made: SimpleNamespace, plan: Path, out: Path, *more: object) -> tuple[Any, dict[str, Any]]:
    got = run("validate", plan, *made.tables, "--json", out, *more)
    return got, json.loads(out.read_text()) if out.is_file() else {}


# ------------------------------------------------------------------------------------- a plan knows its predictor


def test_a_plan_routes_the_same_prompts_to_the_same_arms_by_the_predictor_it_was_made_with(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    saved = load_plan(made.plan)
    own = identify(made.folder / "own.onnx")
    assert saved.scenario.predictor == "own.onnx"
    assert saved.scenario.predictor_sha256 == own.sha256
    policy, arms = saved.scenario.parsed_policy(), list(saved.scenario.arms)
    assert policy is not None
    planned = load_population(saved.scenario)
    at_once = dict(zip(planned.problem, policy.choose(planned.as_requests(), arms), strict=True))
    assert len(set(at_once.values())) == 2
    _, carried_out, _ = over_new_problems(saved.scenario, made.folder / "p.parquet", made.folder / "a.parquet")
    here = dict(zip(carried_out.problem, policy.choose(carried_out.as_requests(), arms), strict=True))
    assert here == at_once
    # One prompt at a time, as a gateway sees them.
    predictor = saved.load_predictor()
    for key, prompt in made.prompts.select("id", "prompt").head(20).iter_rows():
        scores = {k: v.to_numpy().astype(np.float64) for k, v in predictor.score([prompt]).table().to_dict().items()}
        one = replace(carried_out.as_requests(), arrival_s=np.zeros(1), source=np.zeros(1, np.int64), scores=scores)
        assert policy.choose(replace(one, prompt_tokens=np.array([20])), arms)[0] == at_once[str(key)]
    shipped = Predictor.load().score(made.prompts["prompt"].to_list()).table()
    other = replace(
        planned.as_requests(), scores={k: v.to_numpy().astype(np.float64) for k, v in shipped.to_dict().items()}
    )
    assert (policy.choose(other, arms) != policy.choose(planned.as_requests(), arms)).mean() > 0.05
    got, said = validated(made, made.plan, tmp_path / "v.json")
    assert got.exit_code in (0, 2), got.output
    assert said["per_arm"].keys() <= set(arms)


def test_another_predictor_is_refused_unless_asked_for(made: SimpleNamespace, tmp_path: Path) -> None:
    files = made.folder / "p.parquet", made.folder / "a.parquet"
    for other in ("fast", ttc.predictor.running.session.SHIPPED):
        with pytest.raises(InputError, match=r"fast|difficulty\.onnx.*own\.onnx.*--other-predictor"):
            validate(made.plan, *files, predictor=other)
    with pytest.raises(InputError, match=r"own\.onnx"):
        load_plan(made.plan).load_predictor("fast")
    got, said = validated(made, made.plan, tmp_path / "v.json", "--predictor", "fast", "--other-predictor")
    assert got.exit_code in (0, 2), got.output
    assert any("another predictor than the plan's: by fast" in note for note in said["notes"])
    # The same content elsewhere is the same predictor.
    shutil.copy(made.folder / "own.onnx", tmp_path / "moved.onnx")
    assert not any("another" in note for note in validate(made.plan, *files, predictor=tmp_path / "moved.onnx").notes)


def test_a_predictor_trained_anew_is_another_one(made: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(made.folder, tmp_path / "copy")
    copy = tmp_path / "copy"
    content = bytearray((copy / "own.onnx").read_bytes())
    (copy / "own.onnx").write_bytes(content + b"\x9a\x01\x00")  # an unknown empty field at the end
    with pytest.raises(InputError, match=r"scores-own\.parquet.*own\.onnx \(sha256 .*ttc-sim predictor score"):
        simulate(load_scenario(copy / "s.yaml"), "Always('weak')", requests=10)
    by = identify(copy / "own.onnx").as_metadata()
    pl.read_parquet(made.scores).write_parquet(copy / "profiles" / "mine" / "scores-own.parquet", metadata=by)
    simulate(load_scenario(copy / "s.yaml"), "Always('weak')", requests=10)
    with pytest.raises(InputError, match="the predictor that the plan was made with"):
        simulate(load_plan(copy / "plan.yaml").scenario)
    with pytest.raises(InputError, match="--other-predictor"):
        validate(copy / "plan.yaml", copy / "p.parquet", copy / "a.parquet")


def test_a_plan_of_the_format_before_is_taken_to_be_by_the_shipped_predictor(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    raw = yaml.safe_load(made.plan.read_text())
    raw["ttc_sim_plan"], raw["made_from"] = 1, str(made.folder / "s.yaml")
    raw["scenario"].pop("predictor_sha256")
    raw["scenario"]["predictor"] = "fast"
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(raw))
    assert load_plan(tmp_path / "old.yaml").notes[0].endswith(f"taken to be {identify('fast')}")
    got, said = validated(made, tmp_path / "old.yaml", tmp_path / "v.json")
    assert got.exit_code in (0, 2), got.output
    assert "does not say which predictor" in said["notes"][0]
    with pytest.raises(InputError, match="made with, fast"):
        validate(
            tmp_path / "old.yaml",
            made.folder / "p.parquet",
            made.folder / "a.parquet",
            predictor=made.folder / "own.onnx",
        )


def test_scores_say_whose_they_are(made: SimpleNamespace, tmp_path: Path) -> None:
    assert said_by(made.scores) == identify(made.folder / "own.onnx")
    assert said_by(made.scores) == ScoredBy("own.onnx", identify(made.folder / "own.onnx").sha256)
    for tier in ("fast", "encoder"):
        # Shipped scores name none: the file's name tells.
        by = ttc.load_problem_set("math", None, tier)
        assert (by.scored_by, by.notes) == (identify(tier), ())
    out = tmp_path / "fast.parquet"
    assert run("predictor", "score", made.folder / "prompts.parquet", "--out", out).exit_code == 0
    assert said_by(out) == identify("fast")

    place = made.folder / "profiles" / "mine"
    shutil.copytree(place, tmp_path / "profiles" / "mine")
    mine = tmp_path / "profiles" / "mine" / "scores.parquet"

    def load(predictor: str | Path | None = "fast") -> ProblemSet:
        return ttc.load_problem_set("mine", tmp_path, predictor)

    assert load().scored_by is None
    shutil.copy(out, mine)
    assert load().scored_by == identify("fast")
    shutil.copy(made.scores, mine)
    with pytest.raises(
        InputError, match=r"own\.onnx.*expected scores by fast.*`predictor: own\.onnx`.*scores-own\.parquet"
    ):
        load()
    assert "difficulty" not in load(None).problems.columns
    # One's own table of scores that names no predictor: for a shipped one, what is assumed is said.
    pl.read_parquet(out).write_parquet(mine)
    assert load().scored_by == identify("fast")
    assert "taken to be by the shipped fast one" in load().notes[0]
    raw = {**scenario(), "policy": "Threshold(at=0.5, below='weak', above='strong')"}
    assert load().notes[0] in load_population(scenario_from_dict(raw, str(tmp_path / "s.yaml"))).notes
    pl.read_parquet(made.scores).write_parquet(tmp_path / "profiles" / "mine" / "scores-own.parquet")
    with pytest.raises(InputError, match=r"none that the file names.*--model .*own\.onnx --out .*scores-own\.parquet"):
        load(made.folder / "own.onnx")
    (tmp_path / "profiles" / "mine" / "scores-own.parquet").unlink()
    with pytest.raises(InputError, match=r"scores-own\.parquet.*ttc-sim predictor score"):
        load(made.folder / "own.onnx")


@pytest.mark.parametrize(
    ("predictor", "said"),
    [("slow", "'fast', 'encoder', or the path of an ONNX file"), ("none.onnx", "an existing ONNX file")],
)
def test_a_predictor_that_is_none_is_refused(predictor: str, said: str, made: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(scenario(predictor=predictor)))
    shutil.copytree(made.folder / "profiles", tmp_path / "profiles")
    with pytest.raises(InputError, match=said):
        simulate(path, "Always('weak')", requests=10)
    with pytest.raises(InputError, match="64 hexadecimal"):
        scenario_from_dict(scenario(predictor_sha256="abc"))
    assert isinstance(run("simulate", made.folder / "s.yaml", "--predictor", predictor).exception, InputError)


def test_the_command_line_routes_by_an_onnx_file(made: SimpleNamespace, tmp_path: Path) -> None:
    """``--predictor`` is looked up from where the command is given, not from where the scenario stands."""
    (made.folder / "plain.yaml").write_text(
        yaml.safe_dump(scenario(policy="Threshold(at=0.4, below='weak', above='strong')"))
    )
    results = []
    for name, more in (("s.yaml", ["--policy", "Threshold(at=0.4, below='weak', above='strong')"]), ("plain.yaml", [])):
        out = tmp_path / f"{name}.json"
        option = ["--predictor", made.folder / "own.onnx"] if name == "plain.yaml" else []
        got = run("simulate", made.folder / name, *more, *option, "--json", out)
        assert got.exit_code == 0, got.output
        results.append(json.loads(out.read_text())["cost_usd_per_request"])
    assert results[0] == results[1]


# ------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("low", "high", "floor", "ceiling"),
    [(0.5, 0.57, False, True), (0.58, 0.7, True, None), (0.581, 0.7, True, False), (0.5, 0.6, None, None)],
)
def test_a_target_is_met_or_missed_where_the_whole_interval_says_so(
    low: float, high: float, floor: bool | None, ceiling: bool | None
) -> None:
    figure = Estimate((low + high) / 2, low, high)
    assert TargetVerdict("accuracy", 0.58, True, figure).met is floor
    assert TargetVerdict("timeout_rate", 0.58, False, figure).met is ceiling


@pytest.mark.parametrize(("accuracy", "status", "met"), [(0.05, 0, True), (0.99, 2, False), ("as realized", 0, None)])
def test_validate_ends_in_0_1_or_2(
    accuracy: Any, status: int, met: bool | None, made: SimpleNamespace, tmp_path: Path
) -> None:
    if accuracy == "as realized":
        accuracy = validate(made.plan, made.folder / "p.parquet", made.folder / "a.parquet").targets[0].realized.value
    raw = yaml.safe_load(made.plan.read_text())
    raw["scenario"]["targets"]["accuracy"] = accuracy
    raw["made_from"] = str(made.folder / "s.yaml")
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(raw))
    got, said = validated(made, tmp_path / "plan.yaml", tmp_path / "v.json")
    assert got.exit_code == status, got.output
    (one,) = said["targets"]
    assert (one["name"], one["asked"], one["met"]) == ("accuracy", accuracy, met)
    assert {True: "yes", False: "no", None: "too few problems to tell"}[met] in got.output
    got, _ = validated(made, tmp_path / "none.yaml", tmp_path / "w.json")
    assert isinstance(got.exception, InputError)


def small(folder: Path, right: dict[str, list[bool]], tokens: dict[str, list[int]], **changes: Any) -> Model:
    """A model of so few problems, one attempt each."""
    count = len(right["weak"])
    problems = pl.DataFrame({"id": range(count), "task": [f"t{k}" for k in range(count)]})
    attempts = pl.concat(
        pl.DataFrame(
            {"id": range(count), "model": name, "attempt": 0, "correct": right[name], "output_tokens": tokens[name]}
        )
        for name in right
    )
    write_set(folder, problems, attempts)
    file = folder / "profiles" / "mine" / "problems.parquet"
    pl.read_parquet(file).with_columns(difficulty=uniforms(4, "difficulty", count)[:, 0]).write_parquet(file)
    return load_model(scenario_from_dict(scenario(**changes), str(folder / "s.yaml")))


@pytest.mark.parametrize(("count", "asked", "met"), [(1, 0.5, None), (2, 0.5, None), (3, 0.4, None), (40, 0.5, False)])
def test_a_few_problems_that_all_go_wrong_do_not_miss_for_sure(
    count: int, asked: float, met: bool | None, tmp_path: Path
) -> None:
    """At a true accuracy of ``asked``, all go wrong with probability (1 - asked) ** count."""
    assert ((1 - asked) ** count < 0.025) == (met is False)
    model = small(
        tmp_path, dict.fromkeys(("weak", "strong"), [False] * count), dict.fromkeys(("weak", "strong"), [9] * count)
    )
    assert model.population is not None
    found = simulate(model.scenario, "Always('weak')", replications=2, requests=50).summary()
    targets = Targets(minimize="cost", accuracy=asked, cost_usd_per_request=1e-9)
    accuracy, cost = judge_targets(found, targets, model.population)
    assert accuracy.met is met
    assert cost.met is (None if count == 1 else False)


def test_a_target_is_judged_by_the_interval_that_is_printed(tmp_path: Path) -> None:
    """Not by a wider one: a plan that keeps a target by more than its figure's own error is not too close to call."""
    right = [bool(x) for x in uniforms(6, "right", 60)[:, 0] < 0.7]
    tokens = (100 + 400 * uniforms(6, "tokens", 60)[:, 0]).astype(int).tolist()
    model = small(tmp_path, dict.fromkeys(("weak", "strong"), right), dict.fromkeys(("weak", "strong"), tokens))
    assert model.population is not None
    found = simulate(model.scenario, "Always('weak')", replications=3, requests=300).summary()
    assert found.accuracy is not None
    for asked in (found.accuracy.low - 1e-9, found.accuracy.low + 1e-9):
        targets = Targets(minimize="cost", accuracy=asked, cost_usd_per_request=1.0, latency_p95_s=30, timeout_rate=0.5)
        judged = judge_targets(found, targets, model.population)
        assert [one.realized for one in judged] == [found.quantity(one.name) for one in judged]
        assert judged[0].met is (True if asked < found.accuracy.low else None)


# ------------------------------------------------------------------------------------- hindsight


def tables(seed: int, count: int, folder: Path, **changes: Any) -> Model:
    u = uniforms(seed, "tables", count, 4)
    right = {"weak": (u[:, 0] < 0.4).tolist(), "strong": (u[:, 1] < 0.7).tolist()}
    tokens = {"weak": (u[:, 2] * 500 + 1).astype(int).tolist(), "strong": (u[:, 3] * 900 + 1).astype(int).tolist()}
    return small(folder, right, tokens, **changes)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("objective", ["cost", "accuracy"])
def test_no_policy_beats_the_bound_and_a_program_over_all_problems_attains_it(
    seed: int, objective: str, tmp_path: Path
) -> None:
    count = (1, 2, 3, 8, 25, 60)[seed]
    targets = (
        {"minimize": "cost", "accuracy": 0.5}
        if objective == "cost"
        else {"maximize": "accuracy", "cost_usd_per_request": 1}
    )
    model = tables(seed, count, tmp_path, targets=targets)
    expected = expect_arms(model)
    for trial in range(4):
        arm = (uniforms(trial, f"arms/{seed}", count)[:, 0] < 0.5).astype(np.int64)
        policy = SimpleNamespace(looks_at_load=False, choose=lambda *_, arm=arm: arm)
        found = in_hindsight(model, policy)  # type: ignore[arg-type]
        assert found is not None
        best, regret = found
        at = np.arange(count)
        accuracy, cost = (table[arm, at].mean() for table in (expected.correct, expected.api_cost_usd))
        assert (regret.accuracy, regret.cost_usd_per_request) == pytest.approx((accuracy, cost))
        # Share of every problem sent to either arm, as one linear program.
        right, paid = expected.correct.ravel() / count, expected.api_cost_usd.ravel() / count
        each = np.tile(np.eye(count), 2)
        goal, limit, most = (paid * 1e3, -right, -accuracy) if objective == "cost" else (-right, paid * 1e3, cost * 1e3)
        solved = linprog(goal, limit[None], [most + 1e-12], each, np.ones(count), bounds=(0, 1))
        assert solved.fun is not None
        if objective == "cost":
            assert regret.bound == pytest.approx(solved.fun / 1e3, rel=1e-4)
            assert best["cost_usd_per_request"] <= cost * (1 + 1e-9)
            assert best["accuracy"] >= accuracy - 1e-9
            assert float(str(best["cost_usd_per_request"])) >= regret.bound - 1e-12
            assert regret.figure.value == pytest.approx(cost / regret.bound)
            assert 1 <= regret.figure.low <= regret.figure.value <= regret.figure.high
        else:
            assert regret.bound == pytest.approx(-solved.fun, abs=1e-4)
            assert best["accuracy"] >= accuracy - 1e-9
            assert best["cost_usd_per_request"] <= cost * (1 + 1e-9)
            assert regret.figure.value == pytest.approx(regret.bound - accuracy)
            assert 0 <= regret.figure.low <= regret.figure.value <= regret.figure.high <= 1
        if count == 1:
            assert regret.figure.high == (np.inf if objective == "cost" else 1)


def test_replicas_of_the_bound_are_whole(tmp_path: Path) -> None:
    """With a pool that must be had or not, the bound is the cheaper of all choices with it and all without it."""
    pool = {
        "kind": "gpu_pool",
        "replicas": 1,
        "usd_per_replica_hour": 2.0,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 512,
        "step_time": {"base_s": 0.02, "per_prefill_token_s": 1e-4, "per_sequence_s": 5e-5, "per_kv_token_s": 1e-7},
    }
    raw = scenario()
    raw["deployments"]["small"] = pool
    model = tables(5, 40, tmp_path, deployments=raw["deployments"])
    expected = expect_arms(model)
    hour_usd = 2.0 / 3600 / 1.0  # a request, at one a second
    for arm, own in ((np.zeros(40, np.int64), hour_usd), (np.ones(40, np.int64), 0.0)):
        found = in_hindsight(model, SimpleNamespace(looks_at_load=False, choose=lambda *_, arm=arm: arm))  # type: ignore[arg-type]
        assert found is not None
        regret = found[1]
        at = np.arange(40)
        api = float(np.nan_to_num(expected.api_cost_usd)[arm, at].mean())
        assert regret.cost_usd_per_request == pytest.approx(api + own)
        # What is bought with the pool there: right answers that the weak model does not give, the cheapest first.
        wanted = 40 * regret.accuracy - expected.correct[0].sum()
        gained = expected.correct[1] - expected.correct[0]
        prices = np.sort(expected.api_cost_usd[1][gained > 0])
        with_pool = hour_usd + prices[: max(round(float(wanted)), 0)].sum() / 40
        without = expected.api_cost_usd[1].mean() if regret.accuracy <= expected.correct[1].mean() + 1e-9 else np.inf
        assert regret.bound == pytest.approx(min(with_pool, without, regret.cost_usd_per_request), rel=1e-4)


def test_regret_is_covered_by_its_interval(tmp_path: Path) -> None:
    """Samples of 60 from 4,000 problems: the interval holds the ratio on all of them about as often as it says."""
    model = tables(9, 4000, tmp_path)
    assert model.population is not None
    u = uniforms(3, "arm", 4000)[:, 0]
    whole = (u < 0.5).astype(np.int64)

    def ratio(model: Model, arm: np.ndarray[Any, Any]) -> Estimate:
        found = in_hindsight(model, SimpleNamespace(looks_at_load=False, choose=lambda *_: arm))  # type: ignore[arg-type]
        assert found is not None
        return found[1].figure

    truth = ratio(model, whole).value
    inside, trials = 0, 60
    for trial in range(trials):
        keep = np.zeros(4000, dtype=np.bool_)
        keep[np.argsort(uniforms(trial, "part", 4000)[:, 0])[:60]] = True
        figure = ratio(load_model(model.scenario, model.population.restricted(keep)), whole[keep])
        inside += figure.low <= truth <= figure.high
    assert inside >= 0.85 * trials


def test_a_live_policy_has_no_hindsight(tmp_path: Path) -> None:
    model = tables(2, 12, tmp_path)

    def live(request: Any, load: Any) -> str:
        return "weak"

    assert in_hindsight(model, UserFunction("live", live)) is None


def test_a_fixed_price_is_kept_whatever_its_last_digit() -> None:
    promised = Estimate(0.005555555555555556, 0.005555555555555556, 0.005555555555555556)
    assert Verdict(promised, Estimate(*[0.005555555555555555] * 3)).inside
    assert not Verdict(promised, Estimate(*[0.005556] * 3)).inside
