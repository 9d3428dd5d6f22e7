"""What a user of the package reaches by ``ttc.``: which names, what each takes, and what it says of a wrong argument."""

from __future__ import annotations

import ast
import copy
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

import ttc_sim as ttc
from ttc_sim.policies import POLICIES, UserFunction
from ttc_sim.scenario import GpuPool, Workload, checked
from ttc_sim.strategies import STRATEGIES

from .conftest import ROOT
from .test_scenario import GOOD

PROFILE = "math/sky-t1-32b"


def small(**changes: Any) -> ttc.Scenario:
    return ttc.scenario_from_dict({**copy.deepcopy(GOOD), **changes})


def records(*given: Any, **options: Any) -> pl.DataFrame:
    return ttc.simulate(*given, requests=60, replications=2, **options).records


# ---------------------------------------------------------------------------------------------- names


def test_the_names_are_said_once_and_alike() -> None:
    """Type checkers read the imports, Python the homes, and people ``dir``."""
    tree = ast.parse((ROOT / "ttc_sim" / "__init__.py").read_text())
    imports = next(node for node in tree.body if isinstance(node, ast.If)).body
    typed = {
        name.name: (node.module or "").removeprefix("ttc_sim.")
        for node in imports
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert typed == ttc._HOME
    assert sorted([*typed, "__version__"]) == sorted(ttc.__all__) == dir(ttc)
    for name in typed:
        assert getattr(ttc, name).__name__ == name
    with pytest.raises(AttributeError, match="simulat"):
        ttc.simulat  # type: ignore[attr-defined]  # noqa: B018


def test_what_is_written_about_is_there() -> None:
    for file in [ROOT / "README.md", *(ROOT / "examples").glob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]:
        for name in re.findall(r"\bttc\.(\w+)", file.read_text()):
            assert name in dir(ttc), f"{file.name}: ttc.{name}"
    assert set(POLICIES.shipped) | set(STRATEGIES.shipped) <= set(dir(ttc))


def test_importing_loads_no_library() -> None:
    code = "import sys, ttc_sim; dir(ttc_sim); print({'numpy', 'polars', 'pydantic', 'rich'} & set(sys.modules))"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert got.stdout.strip() == "set()"


# ------------------------------------------------------------------------------- names, files, notations


def test_a_scenario_may_be_named_and_a_policy_written(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    wanted = records(small(), ttc.Always("large"))
    for scenario in (small(), str(file), file):
        for policy in (ttc.Always("large"), "Always('large')", {"maths": "Always('large')"}, lambda request: "large"):
            assert records(scenario, policy).equals(wanted)
    by_name = records("qa-gateway", "Always('llama-8b')")
    assert by_name.equals(records(ttc.load_scenario("qa-gateway"), ttc.Always("llama-8b")))


def test_a_function_chooses_as_the_policy_it_imitates() -> None:
    wanted = records(small(), "Threshold(at=0.5, below='small', above='large')")

    def by_difficulty(request: ttc.Request, *, at: float = 0.5) -> str:
        return "small" if request.difficulty < at else "large"

    assert set(wanted["arm"]) == {"small", "large"}
    assert records(small(), by_difficulty).equals(wanted)
    assert records(small(), {"maths": by_difficulty}).equals(wanted)
    assert not UserFunction("f", by_difficulty).looks_at_load

    seen: list[ttc.Load] = []

    def by_load(request: ttc.Request, load: ttc.Load) -> str:
        seen.append(load)
        return "small" if load.in_progress["pool"] < 1 else "large"

    assert set(records(small(), by_load)["arm"]) == {"small", "large"}
    assert {type(load) for load in seen} == {ttc.Load}


def test_strategies_may_be_written_one_or_several() -> None:
    wanted = ttc.evaluate(PROFILE, [ttc.Single(cap=2048)], subset="aime24")
    profile = ttc.load_profile(PROFILE)

    def mine(trial: ttc.Trial) -> ttc.Outcome:
        return ttc.Single(cap=2048).carry_out(trial)

    for given in ("Single(cap=2048)", ttc.Single(cap=2048), ["Single(cap=2048)"], (one for one in ["Single(2048)"])):
        assert ttc.evaluate(profile, given, subset="aime24") == wanted
    assert ttc.evaluate(PROFILE, mine, subset="aime24")[0].accuracy == wanted[0].accuracy
    both = ttc.evaluate(PROFILE, ["Single(cap=2048)", ttc.MajorityVote(n=3)], subset="aime24")
    assert len(both) == 2
    assert both[:1] == wanted
    assert list(both) == [both[0], both[-1]]


def tables(folder: Path) -> tuple[Path, Path]:
    """Two models' shipped attempts at half of the shipped problems, under prompts of their own."""
    problems = ttc.load_problem_set("math").problems.filter(pl.col("subset").is_in(["aime24", "amc23"]))[::2]
    asked = problems.select("problem", "subset", prompt=pl.format("Find the number {}.", "problem"))
    made = [
        ttc.load_profile(name).attempts.select(
            "problem",
            "correct",
            "reasoning_tokens",
            model=pl.lit(ttc.load_profile(name).card.model),
            output_tokens=pl.col("reasoning_tokens") + pl.col("visible_tokens"),
        )
        for name in ("math/qwen2.5-14b-instruct", PROFILE)
    ]
    files = folder / "problems.parquet", folder / "attempts.parquet"
    asked.with_columns(pl.col("problem").str.split("/").list.last()).write_parquet(files[0])
    pl.concat(made).with_columns(
        subset=pl.col("problem").str.split("/").list.first(), problem=pl.col("problem").str.split("/").list.last()
    ).write_parquet(files[1])
    return files


def test_a_plan_may_be_the_plan_itself_or_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**GOOD, "replications": 2}))
    plan = ttc.optimize(str(file))
    plan.save(tmp_path / "plan.yaml")
    asked = tables(tmp_path)
    found = [ttc.validate(given, *asked).as_json() for given in (plan, plan.saved(), tmp_path / "plan.yaml")]
    assert found[0] == found[1] == found[2]
    assert found[0]["problems"] > 10  # type: ignore[operator]


# -------------------------------------------------------------------------------------- wrong arguments


def with_pool(**update: Any) -> ttc.Scenario:
    scenario = small()
    pool = scenario.deployments["pool"].model_copy(update=update)
    return scenario.model_copy(update={"deployments": {**scenario.deployments, "pool": pool}})


WRONG: list[tuple[Callable[[], object], list[str]]] = [
    (lambda: ttc.simulate(small(), requests=0), ["simulate: requests", "0", "at least 1|from 1"]),
    (lambda: ttc.simulate(small(), requests=True), ["simulate: requests", "True", "whole number"]),
    (lambda: ttc.simulate(small(), requests=1.5), ["simulate: requests", "1.5", "whole number"]),  # type: ignore[arg-type]
    (lambda: ttc.simulate(small(), requests=10**9), ["simulate: requests", "1000000000", "100000000"]),
    (lambda: ttc.simulate(small(), replications=0), ["simulate: replications", "0", "from 1 to 1000"]),
    (lambda: ttc.simulate(small(), progress=3), ["simulate: progress", "3", "function"]),  # type: ignore[arg-type]
    (lambda: ttc.simulate(None), ["simulate: scenario", "None", "name of a shipped one"]),  # type: ignore[arg-type]
    (lambda: ttc.simulate("qa-gatewy"), ["qa-gatewy", "qa-gateway"]),
    (lambda: ttc.simulate("name: x\n" * 600), ["load_scenario: path", "file"]),
    (lambda: ttc.simulate(small(), 3), ["simulate: policy", "3", "Always"]),  # type: ignore[arg-type]
    (lambda: ttc.simulate(small(), ttc.Always), ["simulate: policy", "Always", "function"]),  # type: ignore[arg-type]
    (lambda: ttc.simulate(small(), "Allways('small')"), ["simulate: policy", "Allways", "'Always'"]),
    (lambda: ttc.simulate(small(), "Always('tiny')"), ["policy", "tiny", "small, large"]),
    (lambda: ttc.simulate(small(), {"math": "Always('small')"}), ["policy", "'math'", "'maths'"]),
    (lambda: ttc.simulate(small(), {}), ["policy.maths", "every source"]),
    (lambda: ttc.simulate(small(), {"maths": 5}), ["policy.maths", "5", "Always"]),  # type: ignore[dict-item]
    (lambda: ttc.simulate(small(), lambda: "small"), ["policy", r"\(\)", "of a request"]),
    (lambda: ttc.simulate(small(), lambda request: "tiny"), ["request 0", "tiny", "large, small"]),
    (lambda: ttc.simulate(with_pool(replicas=0)), ["deployments.pool.replicas", "0", "at least|equal to 1"]),
    (lambda: ttc.simulate(with_pool(replica=3)), ["deployments.pool", "replica", "'replicas'"]),
    (lambda: ttc.simulate(with_pool(step_time=None)), ["deployments.pool", "step_time"]),
    (lambda: ttc.simulate(small().model_copy(update={"seed": -1})), ["seed", "-1"]),
    (lambda: ttc.simulate(small().model_copy(update={"workload": 3})), ["workload", "3"]),
    (lambda: ttc.simulate(ttc.Scenario.model_construct(name="x")), ["workload", "nothing"]),  # type: ignore[call-arg]
    (lambda: ttc.optimize(with_pool(replicas=0)), ["deployments.pool.replicas", "0"]),
    (lambda: ttc.optimize(5), ["optimize: scenario", "5"]),  # type: ignore[arg-type]
    (lambda: ttc.optimize(small(), 5), ["optimize: progress", "5"]),  # type: ignore[arg-type]
    (lambda: ttc.validate(5, "p.csv", "a.csv"), ["validate: plan", "5"]),  # type: ignore[arg-type]
    (lambda: ttc.validate("nofile", "p.csv", "a.csv"), ["nofile", "existing plan"]),
    (lambda: ttc.validate(ttc.SavedPlan(small(), {}, "met"), None, "a.csv"), ["validate: problems"]),  # type: ignore[arg-type]
    (lambda: ttc.validate(ttc.SavedPlan(small(policy=None), {}, "met"), "p.csv", "a.csv"), ["policy", "planned"]),
    (lambda: ttc.evaluate(5, "Single()"), ["evaluate: profile", "5"]),  # type: ignore[arg-type]
    (lambda: ttc.evaluate(small(), "Single()"), ["evaluate: profile"]),  # type: ignore[arg-type]
    (lambda: ttc.evaluate(PROFILE, [5]), [r"evaluate: strategies\[0\]", "5", "Single"]),  # type: ignore[list-item]
    (lambda: ttc.evaluate(PROFILE, []), ["evaluate: strategies", "at least one"]),
    (lambda: ttc.evaluate(PROFILE, ttc.Always("x")), ["evaluate: strategies", "Always"]),  # type: ignore[arg-type]
    (lambda: ttc.evaluate(PROFILE, ["Single()", "Singel()"]), [r"strategies\[1\]", "Singel", "'Single'"]),
    (lambda: ttc.evaluate(PROFILE, "Single()", seed=-1), ["evaluate: seed", "-1"]),
    (lambda: ttc.evaluate(PROFILE, "Single()", seed=1.0), ["evaluate: seed", "1.0"]),  # type: ignore[arg-type]
    (lambda: ttc.evaluate(PROFILE, "Single()", prices=5), ["evaluate: prices", "5"]),  # type: ignore[arg-type]
    (lambda: ttc.evaluate(PROFILE, "Single()", subset=5), ["evaluate: subset", "5"]),  # type: ignore[arg-type]
    (lambda: ttc.evaluate(PROFILE, "Single()", subset="aime"), ["subset", "aime", "aime24"]),
    (lambda: ttc.evaluate(PROFILE, "Single()", folder="nowhere"), ["evaluate: folder", "nowhere"]),
    (lambda: ttc.TokenPrices(-1e-6, 0, 0, 0, "x"), ["TokenPrices: input", "-1e-06"]),
    (lambda: ttc.TokenPrices(0, 0, 0, float("nan"), "x"), ["TokenPrices: output", "nan"]),
    (lambda: ttc.load_scenario(3), ["load_scenario: path", "3"]),  # type: ignore[arg-type]
    (lambda: ttc.load_plan(None), ["load_plan: path", "None"]),  # type: ignore[arg-type]
    (lambda: ttc.load_profile(3), ["profile: name", "3"]),  # type: ignore[arg-type]
    (lambda: ttc.list_profiles(3), ["folder", "3"]),  # type: ignore[arg-type]
    (lambda: ttc.Predictor.load(3), ["Predictor.load: path", "3"]),  # type: ignore[arg-type]
    (lambda: ttc.scenario_from_dict([3]), ["scenario", r"\[3\]", "mapping"]),  # type: ignore[arg-type]
    (lambda: ttc.parse_strategy(3), ["strategy", "3", "Single"]),  # type: ignore[arg-type]
    (lambda: ttc.parse_policy(3), ["policy", "3", "Always"]),  # type: ignore[arg-type]
    (lambda: ttc.parse_policy("Always(3)"), ["Always", "arm", "3"]),
    (lambda: ttc.parse_policy("Threshold(at=0.5, below='a', above='b', score=3)"), ["score", "3"]),
    (lambda: ttc.Banded(edges=None, arms=["a"]), ["Banded: edges", "None"]),  # type: ignore[arg-type]
    (lambda: ttc.Banded(edges=[0.5], arms=["a", 5]), ["Banded: arms", "5"]),  # type: ignore[list-item]
    (lambda: ttc.PerSource({"maths": "Always('a')"}), ["PerSource: policies.maths"]),  # type: ignore[dict-item]
    (lambda: ttc.BestOfN(3, auroc=0.8, verifier=5), ["BestOfN: verifier", "5"]),  # type: ignore[arg-type]
    (lambda: ttc.with_changes(small(), 5), ["with_changes: changes", "5"]),  # type: ignore[arg-type]
    (lambda: ttc.with_changes(small(), {"deployments.pol.replicas": 2}), ["deployments.pol", "'pool'"]),
    (lambda: ttc.with_changes(small(), {"deployments.pool.replica": 2}), ["deployments.pool", "'replicas'"]),
    (lambda: ttc.with_changes(small(), {"deployments.pool.replicas": 0}), ["deployments.pool.replicas", "0"]),
    (lambda: ttc.with_changes(small(), {"seed.of": 0}), ["seed.of", "below seed"]),
    (lambda: ttc.with_changes(small(), {"path": "x"}), ["path"]),
]


@pytest.mark.parametrize(("call", "names"), WRONG)
def test_a_wrong_argument_is_one_line(call: Callable[[], object], names: list[str]) -> None:
    with pytest.raises(ttc.InputError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    for name in names:
        assert re.search(name, line), line


def test_what_shows_itself_in_several_lines_is_named_in_one() -> None:
    for value in (pl.DataFrame({"a": [1, 2]}), np.zeros((30, 3))):
        with pytest.raises(ttc.InputError, match="simulate: scenario") as caught:
            ttc.simulate(value)  # type: ignore[arg-type]
        assert len(str(caught.value).splitlines()) == 1


# --------------------------------------------------------------------------------- scenarios changed in Python


@pytest.mark.parametrize("file", sorted((ROOT / "scenarios").glob("*.yaml")), ids=lambda file: file.stem)
def test_what_was_read_passes_again(file: Path) -> None:
    scenario = ttc.load_scenario(file)
    assert checked(scenario) == scenario
    assert checked(scenario).path == scenario.path


def test_a_change_is_what_it_would_be_in_the_file() -> None:
    changes: dict[str, Any] = {
        "deployments.pool.replicas": np.int64(3),
        "workload.arrivals": {"process": "gamma", "rate_per_s": 2.0, "cv": 3.0},
        "search.caps.large": [1024, None],
        "arms": {**GOOD["arms"], "gpt-4.1": {"profile": PROFILE, "deployment": "api"}},
        "targets.accuracy": 0.6,
    }
    raw = copy.deepcopy(GOOD)
    raw["deployments"]["pool"]["replicas"] = 3
    raw["workload"]["arrivals"] = changes["workload.arrivals"]
    raw["search"] = {"caps": {"large": [1024, None]}}
    raw["arms"] = changes["arms"]
    raw["targets"]["accuracy"] = 0.6
    before = small()
    changed = ttc.with_changes(before, changes)
    assert changed == ttc.scenario_from_dict(raw)
    assert before == small()
    # A name may hold dots.
    dotted = ttc.with_changes(changed, {"arms.gpt-4.1.strategy": "Single(cap=64)"})
    assert dotted.arms["gpt-4.1"].strategy == "Single(cap=64)"
    # What was left out is begun; what is a model may be one.
    bare = ttc.with_changes(before, {"targets": None})
    assert ttc.with_changes(bare, {"targets.minimize": "cost", "targets.accuracy": 0.5}).targets is not None
    assert ttc.with_changes(before, {"workload": Workload.model_validate(GOOD["workload"])}) == before


def test_limits_follow_the_gpu_unless_they_were_given() -> None:
    pool = {"kind": "gpu_pool", "replicas": 1, "model": "Qwen/Qwen3-32B", "gpu": "h100_sxm"}
    given = small(deployments={**GOOD["deployments"], "pool": pool})
    for gpu in ("l40s", "h200_sxm"):
        wanted = GpuPool.model_validate({**pool, "gpu": gpu})
        assert ttc.with_changes(given, {"deployments.pool.gpu": gpu}).deployments["pool"] == wanted
    own = ttc.with_changes(given, {"deployments.pool.max_num_seqs": 100})
    changed = ttc.with_changes(own, {"deployments.pool.gpu": "l40s"}).deployments["pool"]
    assert isinstance(changed, GpuPool)
    assert (changed.max_num_seqs, changed.max_num_batched_tokens) == (100, 2048)
    both = {"deployments.pool.gpu": "l40s", "deployments.pool.max_num_batched_tokens": 8192}
    kept = ttc.with_changes(given, both).deployments["pool"]
    assert isinstance(kept, GpuPool)
    assert (kept.max_num_seqs, kept.max_num_batched_tokens) == (256, 8192)
