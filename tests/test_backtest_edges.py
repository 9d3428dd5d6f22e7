"""Backtests of odd runs: figures or one clear line, never a traceback and never a NaN."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.fidelity.experiments import backtest_experiments
from ttc_sim.fidelity.measured_run import load_run
from ttc_sim.fidelity.operating_points import Point, closed_loop
from ttc_sim.fidelity.runs import backtest_run, fit_host, replay
from ttc_sim.scenario import LinearStepTime
from ttc_sim.serving.catalogue import Served
from ttc_sim.serving.step_time import linear_table

STEP = LinearStepTime(base_s=0.03, per_prefill_token_s=0.0, per_sequence_s=1e-4, per_kv_token_s=0.0)


def write_run(folder: Path, requests: list[tuple[float, int, int, float, float]], **engine: Any) -> Path:
    """Requests as arrival, prompt and output tokens, seconds to the first and the last token."""
    folder.mkdir(exist_ok=True)
    lines = [
        {
            "arrival_time": 1.7e9 + at,
            "input_toks": prompt,
            "output_toks": output,
            "queued_ts": 500 + at,
            "first_token_ts": 500 + at + ttft,
            "last_token_ts": 500 + at + e2e,
        }
        for at, prompt, output, ttft, e2e in requests
    ]
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    blocks = engine.pop("num_gpu_blocks", None)
    kwargs = {"tensor_parallel_size": 1, "max_num_seqs": 32, "max_num_batched_tokens": 512, **engine}
    cache = {} if blocks is None else {"kv_cache": {"num_gpu_blocks": blocks}}
    (folder / "meta.json").write_text(json.dumps({"engine_kwargs": kwargs, **cache}))
    return folder


def as_simulated(folder: Path, output: int, n: int = 60) -> Path:
    """A run that went as the simulator says."""
    rng = np.random.default_rng(4)
    at, prompt = np.sort(rng.uniform(0, 8, n)), rng.integers(20, 300, n)
    rows = [(float(a), int(p), output, 1.0, 1.0 + (output > 1)) for a, p in zip(at, prompt, strict=True)]
    run = load_run(write_run(folder, rows))
    got = replay(run, linear_table(STEP, 512, 32))
    ttft, e2e = got.first_token_s - got.arrival_s, got.finished_s - got.arrival_s
    rows = [(r[0], r[1], r[2], float(f), float(e)) for r, f, e in zip(rows, ttft, e2e, strict=True)]
    return write_run(folder, rows)


def finite(got: Any) -> bool:
    if isinstance(got, dict):
        return all(finite(value) for value in got.values())
    if isinstance(got, list):
        return all(finite(value) for value in got)
    return not isinstance(got, float) or math.isfinite(got)


def test_answers_of_one_token_have_no_time_per_further_token(tmp_path: Path) -> None:
    run = as_simulated(tmp_path / "run", 1)
    got = backtest_run(run)
    assert got["tpot_s"] == {}
    assert got["notes"] == ["no time per further token: every answer is a single token"]
    assert got["ttft_s"] == got["e2e_s"]
    assert abs(got["e2e_s"]["mean"]["error_percent"]) < 1
    assert finite(got)
    shown = CliRunner().invoke(app, ["backtest", str(run), "--plot", str(tmp_path / "p.png")], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "per further token, s │ none" in shown.stdout
    assert "every answer is a single token" in shown.stdout
    assert "nan" not in shown.stdout
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_step_times_fitted_to_answers_of_one_token_foretell_such_answers(tmp_path: Path) -> None:
    """What they say of decoding is not known from them."""
    got = backtest_run(as_simulated(tmp_path / "one", 1), calibrate_on=[as_simulated(tmp_path / "more", 1, n=90)])
    assert abs(got["e2e_s"]["mean"]["error_percent"]) < 2
    assert got["tpot_s"] == {}


def test_answers_in_no_time_have_no_error_and_are_not_fitted_to(tmp_path: Path) -> None:
    at_once = write_run(tmp_path / "run", [(0.1 * k, 50, 1 + k % 3, 0.0, 0.0) for k in range(9)])
    with pytest.raises(InputError, match="last_token_ts: got 'as queued_ts'; expected answers that took time"):
        backtest_run(at_once)
    with pytest.raises(InputError, match="answers that took time"):
        fit_host([load_run(at_once)], tmp_path)
    other = as_simulated(tmp_path / "other", 40)
    got = backtest_run(at_once, calibrate_on=[other])
    assert got["per_request_median_error_percent"] is None
    assert got["e2e_s"]["mean"]["measured"] == 0
    assert got["e2e_s"]["mean"]["error_percent"] is None
    assert "no error of 9 requests that took no time as measured" in got["notes"]
    assert finite(got)
    words = ["backtest", str(at_once), "--calibrate-on", str(other), "--plot", str(tmp_path / "p.png")]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    # One such request among others takes nothing away from them.
    rows = [(0.5 * k, 50, 20, 0.03, 0.63) for k in range(9)]
    alone = backtest_run(write_run(tmp_path / "a", rows))
    beside = backtest_run(write_run(tmp_path / "b", [*rows, (5.0, 50, 20, 0.0, 0.0)]))
    assert beside["per_request_median_error_percent"] == pytest.approx(
        alone["per_request_median_error_percent"], abs=0.5
    )


def test_a_run_of_which_nothing_fits_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [(0.1 * k, 400, 5, 0.03, 0.2) for k in range(5)], num_gpu_blocks=3)
    says = "kv_cache: got '32 tokens'; expected room for a request at least, of which the shortest takes 405 tokens"
    with pytest.raises(InputError, match=says):
        backtest_run(run)
    got = backtest_run(run, calibrate_on=[as_simulated(tmp_path / "other", 40)])
    assert (got["requests"], got["rejected"]) == (0, 5)
    assert got["ttft_s"] == got["tpot_s"] == got["e2e_s"] == {}
    assert len(got["notes"]) == 1
    assert says in got["notes"][0]
    words = ["backtest", str(run), "--calibrate-on", str(tmp_path / "other"), "--plot", str(tmp_path / "p.png")]
    shown = CliRunner().invoke(app, words, catch_exceptions=False)
    assert shown.exit_code == 0
    assert "p.png is not drawn: no request was completed" in shown.stdout.replace("\n", " ").replace("  ", " ")
    # Those that do not fit are left out of what is fitted to, and of the figures.
    some = [(0.5 * k, 400 if k % 2 else 40, 5, 0.03, 0.15) for k in range(12)]
    part = backtest_run(write_run(tmp_path / "part", some, num_gpu_blocks=10))
    assert (part["requests"], part["rejected"]) == (6, 6)
    assert abs(part["e2e_s"]["mean"]["error_percent"]) < 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.0, 0.5, 1.0]),
            st.integers(1, 300),
            st.integers(1, 3),
            st.sampled_from([0.0, 0.02]),
            st.sampled_from([0.0, 0.05]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([None, 2, 10]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_small_run_has_figures_or_one_line(
    tmp_path: Path, rows: list[tuple[float, int, int, float, float]], blocks: int | None
) -> None:
    run = write_run(tmp_path / "run", [(a, p, o, f, f + e) for a, p, o, f, e in rows], num_gpu_blocks=blocks)
    try:
        got = backtest_run(run)
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
        assert finite(got)
        assert got["requests"] + got["rejected"] == len(rows)
        assert bool(got["e2e_s"]) == bool(got["requests"])
    assert not refused or "answers that took time" in refused or "room for a request" in refused


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        (
            "input_toks",
            3e9,
            "line 1, input_toks: got 3000000000.0; expected a whole number of tokens, from 1 to 100,000,000",
        ),
        ("output_toks", 2.5, "line 1, output_toks: got 2.5"),
        ("output_toks", 0, "line 1, output_toks: got 0.0"),
        ("arrival_time", [1], "line 1: got"),
    ],
)
def test_requests_that_cannot_be_are_refused_by_line(tmp_path: Path, field: str, value: Any, says: str) -> None:
    run = write_run(tmp_path / "run", [(0.0, 50, 20, 0.03, 0.63)])
    line = json.loads((run / "requests.jsonl").read_text())
    (run / "requests.jsonl").write_text(json.dumps({**line, field: value}))
    with pytest.raises(InputError, match=says):
        load_run(run)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"engine_kwargs": {"max_num_seqs": 10**19, "max_num_batched_tokens": 10**19}},
            "max_num_seqs: got 10000000000000000000",
        ),
        (
            {"engine_kwargs": {"max_num_seqs": 8, "max_num_batched_tokens": 8, "tensor_parallel_size": "two"}},
            "tensor_parallel_size",
        ),
        ({"kv_cache": {"num_gpu_blocks": 1}}, "kv_cache.num_gpu_blocks: got 1"),
        ({"kv_cache": {"num_gpu_blocks": "many"}}, "num_gpu_blocks: got 'many'"),
        ({"kv_cache": {"num_gpu_blocks": 100, "block_size": "16"}}, "block_size: got '16'"),
        ({"kv_cache": [100]}, r"kv_cache: got \[100\]"),
    ],
)
def test_engines_that_cannot_be_are_refused_by_field(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    run = write_run(tmp_path / "run", [(0.0, 50, 20, 0.03, 0.63)])
    meta = json.loads((run / "meta.json").read_text())
    (run / "meta.json").write_text(json.dumps({**meta, **change}))
    with pytest.raises(InputError, match=rf"meta\.json: {says}"):
        load_run(run)


# ---------------------------------------------------------------------------------------------------- experiments


EXPERIMENT: dict[str, Any] = {
    "id": "mine",
    "model": "m",
    "architecture": {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
    },
    "gpu": "H100",
    "tensor_parallel": 1,
    "precision": "BF16",
    "max_num_seqs": 64,
    "max_num_batched_tokens": 2048,
    "kv_blocks": 4000,
    "workload_spec": {
        "inference_perf": {
            "shared_prefix": {
                "num_unique_system_prompts": 2,
                "num_users_per_system_prompt": 3,
                "output_len": 40,
                "question_len": 200,
                "system_prompt_len": 100,
            },
            "stages": [{"rate": 2.0, "duration": 20}, {"rate": 0.001, "duration": 10}],
        }
    },
    "measured_ms": {
        "overall": {"e2e_mean": 400.0, "ttft_mean": 30.0, "itl_mean": 9.0, "e2e_p90": 500.0},
        "stage_0": {"e2e_mean": 400.0, "ttft_mean": 30.0, "itl_mean": 9.0},
        "stage_1": {"e2e_mean": 400.0, "ttft_mean": 0.0, "itl_mean": 9.0},
    },
}


def changed(path: str, value: Any) -> list[dict[str, Any]]:
    raw = copy.deepcopy(EXPERIMENT)
    place: Any = raw
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return [raw]


def test_a_stage_without_requests_and_a_measured_0_leave_the_other_figures(tmp_path: Path) -> None:
    file = tmp_path / "e.json"
    file.write_text(json.dumps(changed("measured_ms.overall.ttft_mean", 0.0)))
    got = backtest_experiments(file)
    one = got["experiments"][0]
    assert set(one["stages"]) == {"stage_0"}
    assert one["overall"]["ttft_mean"]["error_percent"] is None
    assert got["median_absolute_error_percent"]["ttft_mean"] is None
    assert one["overall"]["e2e_p90"]["measured"] == 500.0
    assert one["rejected"] == 0
    assert finite(got)
    assert CliRunner().invoke(app, ["backtest", "--experiments", str(file)], catch_exceptions=False).exit_code == 0


LOAD = "workload_spec.inference_perf"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("kv_blocks", 5, "kv_blocks: got 5; expected room for a request of 340 tokens"),
        ("kv_blocks", 1, "kv_blocks: got 1"),
        ("gpu", None, "gpu: got 'nothing'"),
        ("gpu", "abacus", "gpu: got 'abacus'"),
        ("max_num_seqs", 10**19, "max_num_seqs: got"),
        ("max_num_batched_tokens", 8, "max_num_batched_tokens"),
        (f"{LOAD}.shared_prefix.output_len", 1, f"{LOAD}.shared_prefix.output_len: got 1"),
        (f"{LOAD}.shared_prefix.question_len", 3_000_000_000, f"{LOAD}.shared_prefix.question_len: got 3000000000"),
        (f"{LOAD}.shared_prefix", None, f"{LOAD}.shared_prefix: got 'nothing'"),
        (f"{LOAD}.stages", [], f"{LOAD}.stages"),
        (f"{LOAD}.stages.0.rate", -1.0, f"{LOAD}.stages.0.rate: got -1.0"),
        (f"{LOAD}.stages", [{"rate": 0.001, "duration": 1}], "stages: got 'less than one request'"),
        ("measured_ms.overall", None, "overall in measured_ms"),
        ("measured_ms.overall.e2e_mean", 20.0, "ttft_mean below e2e_mean"),
        ("measured_ms.overall.itl_mean", "fast", "measured_ms.overall.itl_mean: got 'fast'"),
    ],
)
def test_experiments_that_cannot_be_are_refused_by_field(tmp_path: Path, path: str, value: Any, says: str) -> None:
    file = tmp_path / "e.json"
    file.write_text(json.dumps(changed(path, value)))
    with pytest.raises(InputError, match=f"e.json: experiment mine.*{says}") as caught:
        backtest_experiments(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_the_shortest_operating_points_have_prompts_and_answers(tokens: int) -> None:
    served = Served("meta-llama/Llama-3.1-8B-Instruct", "h100_sxm", precision="bf16")
    point = Point("p", served.model, served, tokens, max(tokens, 2), 4, 0.8, 1.0, 1.0)
    work = closed_loop(point)
    assert (work.prompt_tokens.min(), work.visible_tokens.min()) >= (1, 1)
    assert work.prompt_tokens.max() <= tokens
