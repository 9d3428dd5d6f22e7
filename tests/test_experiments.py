"""Load experiments: what is fitted to what, and what cannot be as it is written down."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.test_backtest_edges import EXPERIMENT
from ttc_sim.cli import app
from ttc_sim.fidelity.experiments import _arrivals, backtest_experiments, load_experiments
from ttc_sim.serving import physics
from ttc_sim.serving.measured_stages import shipped_stages

FIGURES = ("e2e_mean", "ttft_mean", "itl_mean")


def experiment(name: str, **changes: Any) -> dict[str, Any]:
    """Of a model like no shipped one, measured as the physics model has it."""
    made = copy.deepcopy(EXPERIMENT)
    del made["measured_ms"]["stage_1"]
    made["workload_spec"]["inference_perf"]["stages"] = [{"rate": 2.0, "duration": 20}]
    for figures in made["measured_ms"].values():
        figures.update(e2e_mean=350.0, ttft_mean=27.0, itl_mean=8.3)
    return {**made, "id": name, "model": name, **changes}


def backtest(folder: Path, *experiments: dict[str, Any]) -> dict[str, Any]:
    file = folder / "e.json"
    file.write_text(json.dumps(experiments))
    return backtest_experiments(file)


def predicted(one: dict[str, Any]) -> list[float]:
    return [one["overall"][name]["predicted"] for name in FIGURES]


def slower(one: dict[str, Any], times: float) -> dict[str, Any]:
    measured = {stage: {k: v * times for k, v in of.items()} for stage, of in one["measured_ms"].items()}
    return {**one, "measured_ms": measured}


def wide() -> dict[str, Any]:
    """Another model: a shape of its own."""
    return {**EXPERIMENT["architecture"], "intermediate_size": 28672}


def test_what_was_measured_of_a_model_says_nothing_of_it(tmp_path: Path) -> None:
    """Neither of the experiment nor of others of its shape, under another name and on more GPUs; those of other models do."""
    mine, other = experiment("a"), experiment("b", architecture=wide())
    finetune = experiment("a-finetuned", tensor_parallel=2)
    before = backtest(tmp_path, mine, finetune, other)["experiments"]
    after = backtest(tmp_path, slower(mine, 1.4), slower(finetune, 1.7), other)["experiments"]
    assert predicted(before[0]) == predicted(after[0])
    assert predicted(before[1]) == predicted(after[1])
    assert predicted(before[2]) != predicted(after[2])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"measured_ms": {"overall": {"e2e_mean": 60.0, "ttft_mean": 20.0, "itl_mean": 8.0}}}, "answers ended early"),
        ({"max_model_len": 300}, "at most 300: vLLM refuses"),
        ({"architecture": {**wide(), "max_position_embeddings": 339}}, "at most 339"),
    ],
)
def test_what_cannot_be_is_said_and_spoils_no_other(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    alone = backtest(tmp_path, experiment("a"))
    got = backtest(tmp_path, experiment("a"), experiment("b", **{"architecture": wide(), **change}))
    assert got["experiments"] == alone["experiments"]
    assert got["median_absolute_error_percent"] == alone["median_absolute_error_percent"]
    assert [one["id"] for one in got["excluded"]] == ["b"]
    assert says in got["excluded"][0]["reason"]
    shown = CliRunner().invoke(app, ["backtest", "--experiments", str(tmp_path / "e.json")], catch_exceptions=False)
    assert "b is in no figure" in shown.output


def test_a_model_just_long_enough_is_predicted_and_one_excluded_alone_leaves_no_figure(tmp_path: Path) -> None:
    assert not backtest(tmp_path, experiment("a", max_model_len=340))["excluded"]
    got = backtest(tmp_path, experiment("a", max_model_len=339))
    assert got["experiments"] == []
    assert set(got["median_absolute_error_percent"].values()) == {None}


def test_pieces_without_text_are_said(tmp_path: Path) -> None:
    one = experiment("a")
    one["measured_ms"]["overall"]["itl_mean"] = 11.0
    assert "came in 30 pieces" in backtest(tmp_path, one)["experiments"][0]["notes"][0]
    assert backtest(tmp_path, experiment("a"))["experiments"][0]["notes"] == []


def test_a_stage_is_as_its_tool_makes_it(tmp_path: Path) -> None:
    """``int(rate * duration)`` requests, the last at its end."""
    file = tmp_path / "e.json"
    one = experiment("a")
    one["workload_spec"]["inference_perf"]["stages"] = [{"rate": 2.9, "duration": 30.0}, {"rate": 0.7, "duration": 2.0}]
    file.write_text(json.dumps([one]))
    first, second = _arrivals(load_experiments(file)[0], file)
    assert (len(first), len(second)) == (87, 1)
    assert first[-1] == pytest.approx(30.0)
    assert second[-1] == pytest.approx(2.0)
    assert (np.diff(first) > 0).all()
    # Exponential intervals: their standard deviation is their mean.
    assert 0.7 < np.diff(first).std() / np.diff(first).mean() < 1.3


def test_a_second_stage_finds_an_idle_server_and_a_full_cache(tmp_path: Path) -> None:
    """What the first stage took in costs the second one nothing."""
    one = experiment("a", kv_blocks=20_000)
    one["workload_spec"]["inference_perf"]["stages"] = [{"rate": 12.0, "duration": 20}] * 2
    one["workload_spec"]["inference_perf"]["shared_prefix"].update(question_len=1900, num_users_per_system_prompt=30)
    one["measured_ms"]["stage_1"] = one["measured_ms"]["stage_0"]
    stages = backtest(tmp_path, one)["experiments"][0]["stages"]
    first, second = (stages[name]["ttft_mean"]["predicted"] for name in ("stage_0", "stage_1"))
    assert second < 0.8 * first


def test_what_measurements_do_not_show_stays_as_it_is_taken_for_granted() -> None:
    dense = [stage.step for stage in shipped_stages() if not stage.step.architecture.experts]
    alone = [step for step in dense if step.tensor_parallel == 1]
    got = physics.fit(dense)
    assert got.moe_layer_s == pytest.approx(physics.PRIOR["moe_layer_s"][0])
    assert got.all_reduce_s == pytest.approx(physics.Coefficients().all_reduce_s, rel=0.1)
    assert physics.fit(alone).all_reduce_s == pytest.approx(physics.PRIOR["all_reduce_s"][0])


def test_shipped_coefficients_follow_from_the_shipped_stages() -> None:
    stages = shipped_stages()
    got, known = physics.fit([stage.step for stage in stages]), physics.Coefficients()
    for name in ("host_s", "weight_time", "kv_time", "all_reduce_s", "peer_bytes_per_s", "moe_layer_s"):
        assert getattr(known, name) == pytest.approx(getattr(got, name), rel=5e-3)
    frontend_s, steps = physics.fit_first_token([(stage.step.seconds, stage.first_token_s) for stage in stages])
    assert pytest.approx(frontend_s, rel=0.02) == physics.FRONTEND_S
    assert pytest.approx(steps, rel=0.02) == physics.PIPELINE_STEPS


def test_one_measurement_far_off_moves_coefficients_little() -> None:
    steps = [stage.step for stage in shipped_stages()]
    before = physics.fit(steps)
    spoiled = [*steps, replace(steps[-1], seconds=3 * steps[-1].seconds)]
    after = physics.fit(spoiled)
    assert after.weight_time == pytest.approx(before.weight_time, rel=0.03)
    assert after.kv_time == pytest.approx(before.kv_time, rel=0.05)


def test_whole_models_left_out_are_predicted(shared: Path) -> None:
    got = backtest_experiments(shared / "vllm-experiments" / "experiments.json")
    assert not got["excluded"]
    for one in got["experiments"]:
        assert abs(one["overall"]["e2e_mean"]["error_percent"]) < 5
        assert abs(one["overall"]["ttft_mean"]["error_percent"]) < 10
