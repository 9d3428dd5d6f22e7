"""A plan's predictor as another program takes it: the same file, and the same scores by ONNX Runtime alone."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_export_functions import ODD, odd_plan
from ttc_sim.base.errors import InputError
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.deploying.exports import export_plan
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.predictor import Predictor
from ttc_sim.scenario import load_scenario


def written(plan: SavedPlan, folder: Path) -> dict[str, Any]:
    """The manifest; all files stand in the folder."""
    for name, content in export_plan(plan, "onnx").files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


@pytest.mark.parametrize("tier", ["fast", "encoder"])
def test_scores_are_those_of_the_runtime(tier: str, tmp_path: Path) -> None:
    if tier == "encoder":
        pytest.importorskip("tokenizers")
    scenario = load_scenario("qa-gateway").model_copy(update={"predictor": tier})
    manifest = written(SavedPlan(scenario, {}, "met"), tmp_path)
    copied = tmp_path / manifest["file"]
    assert copied.read_bytes() == PREDICTORS[tier].read_bytes()
    assert hashlib.sha256(copied.read_bytes()).hexdigest() == manifest["sha256"]
    assert (tmp_path / "predictor.card.yaml").read_bytes() == PREDICTORS[tier].with_suffix(".card.yaml").read_bytes()
    done = subprocess.run(
        [sys.executable, "-I", tmp_path / "example.py"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    runtime = Predictor.load(PREDICTORS[tier], device="cpu")
    assert len(found) == len(manifest["examples"]) > 1
    for one, example in zip(found, manifest["examples"], strict=True):
        own = {name: column[0] for name, column in runtime.score([one["prompt"]]).table().to_dict().items()}
        assert set(one["scores"]) == set(own) == set(example["scores"])
        for name, value in own.items():
            np.testing.assert_allclose([one["scores"][name], example["scores"][name]], value, rtol=1e-5, atol=1e-6)
    assert manifest["policy_reads"] == {"questions": ["difficulty"]}


def test_the_example_needs_onnxruntime_alone(tmp_path: Path) -> None:
    written(SavedPlan(load_scenario("qa-gateway"), {}, "met"), tmp_path)
    source = (tmp_path / "example.py").read_text()
    named = set(re.findall(r"^(?:import|from) (\w+)", source, flags=re.MULTILINE))
    assert named == {"json", "pathlib", "numpy", "onnxruntime"}  # which itself needs numpy
    assert len(source.splitlines()) <= 25


def test_what_is_read_is_said_by_source_and_what_stands_outside_the_graph_is_listed(tmp_path: Path) -> None:
    plan = odd_plan()
    manifest = written(plan, tmp_path)
    assert manifest["policy_reads"] == {
        ODD[0]: ["difficulty"],
        ODD[1]: ["prompt_tokens"],
        ODD[2]: [],
        ODD[3]: ["p:__proto__"],
        ODD[4]: ["1", "logit difficulty", "log prompt_tokens", "log tokens:a b", "within 900 a b", "novelty"],
        ODD[5]: ["toString"],
    }
    said = export_plan(plan, "onnx").not_expressed
    assert any("made outside the graph" in line for line in said)
    assert any("divided at" in line for line in said)


def test_a_plan_that_no_predictor_routes_is_refused() -> None:
    for policy in (
        f"Always({ODD[0]!r})",
        f"Threshold(at=9, below={ODD[0]!r}, above={ODD[1]!r}, score='prompt_tokens')",
    ):
        with pytest.raises(
            InputError, match=r"policy: got .*; expected a plan that routes requests by what a predictor says"
        ):
            export_plan(odd_plan(policy=policy), "onnx")


def test_another_predictor_than_the_plans_is_refused(tmp_path: Path) -> None:
    scenario = load_scenario("qa-gateway").model_copy(update={"predictor_sha256": "0" * 64})
    for to in ("onnx", "python"):
        with pytest.raises(InputError, match="the predictor that the plan was made with"):
            export_plan(SavedPlan(scenario, {}, "met"), to)
