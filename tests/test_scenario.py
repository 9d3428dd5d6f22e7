"""Bad input gets one line that names file, field, value and what was expected."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttc_sim.base.errors import InputError
from ttc_sim.policies import Banded
from ttc_sim.scenario import load_scenario, scenario_from_dict
from ttc_sim.simulation.model import load_model

GOOD: dict[str, Any] = {
    "name": "small",
    "workload": {
        "arrivals": {"process": "poisson", "rate_per_s": 1.0},
        "requests": 50,
        "sources": {"maths": {"problem_set": "math", "subset": ["aime24", "amc23"]}},
    },
    "deployments": {
        "api": {
            "kind": "api",
            "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0},
            "first_token": {"median_s": 0.5},
            "per_token": {"median_s": 0.01},
        },
        "pool": {
            "kind": "gpu_pool",
            "replicas": 1,
            "usd_per_replica_hour": 2.0,
            "step_time": {"base_s": 0.01, "per_prefill_token_s": 1e-4, "per_sequence_s": 1e-5, "per_kv_token_s": 1e-8},
        },
    },
    "arms": {
        "small": {"profile": "math/qwen2.5-14b-instruct", "deployment": "pool"},
        "large": {"profile": "math/sky-t1-32b", "deployment": "api", "strategy": "Single(cap=8192)"},
    },
    "policy": "Threshold(at=0.5, below='small', above='large')",
    "targets": {"minimize": "cost", "accuracy": 0.5, "latency_p95_s": 200},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place = raw
    for key in parents:
        place = place[key]
    place[last] = value
    return raw


def test_the_good_one_is_good() -> None:
    assert scenario_from_dict(GOOD).arms["large"].deployment == "api"


@pytest.mark.parametrize(
    ("path", "value", "names"),
    [
        ("polcy", "x", ["polcy", "'policy'"]),
        ("workload.request", 5, ["workload", "request", "'requests'"]),
        ("workload", {3.5: 1}, ["workload", "'3.5'", "arrivals"]),
        ("workload", 3, ["workload", "3", "a mapping"]),
        ("workload.arrivals.rate", 5, ["workload.arrivals", "rate", "rate_per_s"]),
        ("workload.arrivals.process", "gama", ["workload.arrivals", "gamma"]),
        ("workload.arrivals.rate_per_s", "4/min", ["rate_per_s", "4/min", "number"]),
        ("workload.arrivals.rate_per_s", -1.0, ["rate_per_s", "-1.0", "greater than 0"]),
        ("workload.arrivals.rate_per_s", float("nan"), ["rate_per_s", "nan", "finite"]),
        ("workload.requests", 0, ["workload.requests", "0", "greater than"]),
        ("deployments.api.price.output_usd_per_mtok", -2.0, ["output_usd_per_mtok", "-2.0"]),
        ("deployments.api.price.output_usd", 2.0, ["price", "output_usd"]),
        ("deployments.api.first_token.p95_s", 0.1, ["first_token", "at least median_s"]),
        ("deployments.api.first_token.p95_s", 5001.0, ["first_token", "at most 10,000 times median_s"]),
        ("deployments.api.timeout_ms", 5, ["deployments.api", "timeout_ms", "timeout_s"]),
        ("deployments.pool.replicas", 1.5, ["replicas", "1.5"]),
        ("deployments.pool.max_num_seqs", 4096, ["max_num_batched_tokens"]),
        ("arms.small.deployment", "pol", ["arms.small.deployment", "'pool'"]),
        ("arms.small.strategy", "Single(cap=0)", ["arms.small.strategy", "cap", "at least 1"]),
        ("arms.small.sources", ["math"], ["arms.small.sources", "maths"]),
        ("policy", "Always('tiny')", ["policy", "tiny", "large, small"]),
        ("policy", "Banded(edges=[0.5, 0.2], arms=['small', 'large', 'small'])", ["edges", "increasing"]),
        ("policy", "Banded(edges=[0.5], arms=['small'])", ["arms", "2 arms"]),
        ("policy", "nowhere.py:route", ["nowhere.py", "existing Python file"]),
        ("targets.accuracy", 1.4, ["targets.accuracy", "1.4", "less than or equal to 1"]),
        ("targets.accuracy", "high", ["targets.accuracy", "high", "number"]),
        ("targets.latency_p95_s", "30s", ["latency_p95_s", "30s", "number"]),
        ("targets.latency_p95_ms", 30, ["targets", "latency_p95_ms", "latency_p95_s"]),
        ("targets.maximize", "accuracy", ["targets", "exactly one"]),
        ("search", {"caps": {"tiny": [5]}}, ["search.caps", "tiny"]),
        ("search", {"caps": {"small": [0]}}, ["search.caps.small", "0"]),
        ("search", {"replicas": {"api": [1]}}, ["search.replicas", "api", "pool"]),
        ("seed", -1, ["seed", "-1"]),
    ],
)
def test_a_wrong_value_is_named(path: str, value: Any, names: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        scenario_from_dict(changed(path, value), "mine.yaml")
    line = str(caught.value)
    assert line.startswith("mine.yaml: ")
    assert "\n" not in line
    for name in names:
        assert name in line


@pytest.mark.parametrize(
    ("path", "value", "names"),
    [
        ("arms.small.profile", "math/qwen2.5-14b-instrukt", ["qwen2.5-14b-instruct"]),
        ("workload.sources.maths.problem_set", "maths", ["maths", "'math'"]),
        ("workload.sources.maths.subset", "aime", ["subset", "'aime24'"]),
        ("arms.small.profile", "mmlu-pro/llama-3.1-8b-instruct", ["arms.small.profile", "measured on"]),
        ("arms.small.strategy", "BestOfN(n=3, scores=True)", ["arms.small.strategy", "verifier_score", "not recorded"]),
        (
            "arms.small.strategy",
            "BestOfN(n=3, auroc=0.8, verifier='judge')",
            ["arms.small.strategy", "judge", "api, pool"],
        ),
        (
            "deployments.api.price",
            {"provider": "openai", "model": "gpt-17", "on": "2026-11-24"},
            ["gpt-17", "price.model"],
        ),
        ("deployments.api.price", {"provider": "openai"}, ["price.model"]),
        ("deployments.api.price", {"provider": "openai", "model": "o3-mini", "on": "soon"}, ["price.on", "YYYY-MM-DD"]),
        ("deployments.api.price", {"input_usd_per_mtok": 1.0}, ["output_usd_per_mtok"]),
    ],
)
def test_what_a_scenario_names_must_exist(path: str, value: Any, names: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_model(scenario_from_dict(changed(path, value), "mine.yaml"))
    for name in names:
        assert name in str(caught.value)


def run_cli(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ttc_sim.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=300)


def test_the_command_line_prints_one_line_and_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(changed("targets.accuracy", 1.4)))
    got = run_cli("optimize", str(file), "--plan", str(tmp_path / "plan.yaml"))
    assert got.returncode == 1
    assert got.stderr.count("\n") == 1
    assert "targets.accuracy" in got.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["mine.yaml"]
    file.write_text("name: [unclosed")
    assert "valid YAML" in run_cli("simulate", str(file)).stderr
    assert "reasoning-gateway" in run_cli("simulate", "reasoning-gatewy").stderr


def test_shipped_things_are_found_from_anywhere(tmp_path: Path) -> None:
    got = run_cli("profile", "list", cwd=tmp_path)
    assert got.returncode == 0
    assert "reasoning-gym/claude-sonnet-4" in got.stdout
    assert load_scenario("qa-gateway").name == "qa-gateway"


def test_importing_is_quick_and_starts_no_session() -> None:
    code = "import sys, ttc_sim, ttc_sim.scenario; print('onnxruntime' in sys.modules, 'matplotlib' in sys.modules)"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert got.stdout.split() == ["False", "False"]


def test_bands_at_their_edges() -> None:
    import numpy as np

    from ttc_sim.policies import Requests

    scores = np.array([0.0, 0.2999, 0.3, 0.31, 1.0])
    zeros = np.zeros(5, dtype=np.int64)
    requests = Requests(np.zeros(5), zeros, ("s",), zeros, {"difficulty": scores})
    assert Banded([0.3], ["a", "b"]).choose(requests, ["b", "a"]).tolist() == [1, 1, 0, 0, 0]
