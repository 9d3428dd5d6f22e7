"""Backtests: on measured runs where they are at hand, and on a run written here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ttc_sim.base.errors import InputError
from ttc_sim.fidelity.experiments import backtest_experiments
from ttc_sim.fidelity.measured_run import load_run
from ttc_sim.fidelity.runs import backtest_run, replay
from ttc_sim.scenario import LinearStepTime
from ttc_sim.serving.step_time import linear_table

TRUE = LinearStepTime(base_s=0.02, per_prefill_token_s=8e-5, per_sequence_s=2e-4, per_kv_token_s=3e-7)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run that went exactly as the simulator says under a known step time."""
    rng = np.random.default_rng(3)
    n = 120
    arrival = np.sort(rng.uniform(0, 20, n))
    prompt, output = rng.integers(20, 1500, n), rng.integers(2, 400, n)
    write_run(tmp_path, arrival, prompt.tolist(), output.tolist(), arrival, arrival)
    run = load_run(tmp_path)
    got = replay(run, linear_table(TRUE, run.pool.max_num_batched_tokens, run.pool.max_num_seqs))
    write_run(tmp_path, arrival, prompt.tolist(), output.tolist(), got.first_token_s, got.finished_s)
    return tmp_path


def write_run(folder: Path, arrival, prompt, output, first, last) -> None:  # type: ignore[no-untyped-def]
    lines = [
        json.dumps(
            {
                "arrival_time": 1e9 + float(a),
                "input_toks": int(p),
                "output_toks": int(o),
                "queued_ts": float(a),
                "first_token_ts": max(float(f) + float(arrival[0]), float(a)) if f is not arrival else float(a),
                "last_token_ts": max(float(e) + float(arrival[0]), float(a)),
            }
        )
        for a, p, o, f, e in zip(arrival, prompt, output, first, last, strict=True)
    ]
    (folder / "requests.jsonl").write_text("\n".join(lines) + "\n")
    kwargs = {"tensor_parallel_size": 1, "max_num_seqs": 32, "max_num_batched_tokens": 512}
    (folder / "meta.json").write_text(json.dumps({"engine_kwargs": kwargs, "kv_cache": {"num_gpu_blocks": 2000}}))


def test_a_linear_fit_finds_the_step_time_behind_a_run(run_folder: Path) -> None:
    got = backtest_run(run_folder)
    assert abs(got["e2e_s"]["mean"]["error_percent"]) < 0.5
    assert got["per_request_median_error_percent"] < 1.0
    assert "no test" in got["step_time"]


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("requests.jsonl", lambda text: text.replace('"input_toks"', '"input"', 1), "input_toks"),
        ("requests.jsonl", lambda text: text.replace("1000000000", 'NaN, "x": 1', 1), "finite"),
        ("requests.jsonl", lambda text: "", "no requests"),
        ("meta.json", lambda text: text.replace('"max_num_seqs": 32', '"max_num_seqs": 9999'), "max_num_seqs"),
        ("meta.json", lambda text: "{", "valid JSON"),
    ],
)
def test_a_bad_run_is_refused(run_folder: Path, file: str, change, says: str) -> None:  # type: ignore[no-untyped-def]
    path = run_folder / file
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=says):
        load_run(run_folder)


@pytest.mark.parametrize(
    ("run", "profile"),
    [
        ("rtx4090_llama-3.1-8b", "rtx4090_meta-llama_llama-3.1-8b"),
        ("rtxpro6000_qwen3-32b", "rtxpro6000_qwen_qwen3-32b"),
    ],
)
def test_measured_runs_are_predicted_from_their_layers(shared: Path, run: str, profile: str) -> None:
    got = backtest_run(shared / "vllm-runs" / run, shared / "gpu-profiles" / profile)
    assert abs(got["e2e_s"]["mean"]["error_percent"]) < 2
    assert abs(got["ttft_s"]["mean"]["error_percent"]) < 5
    assert got["per_request_median_error_percent"] < 2


def test_experiments_are_predicted_by_coefficients_fitted_to_the_others(shared: Path) -> None:
    got = backtest_experiments(shared / "vllm-experiments" / "experiments.json")
    median = got["median_absolute_error_percent"]
    assert median["e2e_mean"] < 5
    assert median["itl_mean"] < 5
    assert median["ttft_mean"] < 10
