"""Measured points of servers at work: what is read, and times between tokens against a brute-force count of iterations."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ttc_sim.base.errors import InputError
from ttc_sim.cli import main
from ttc_sim.fidelity.served_points import (
    COLUMNS,
    MAX_NUM_BATCHED_TOKENS,
    Load,
    ServedPoint,
    backtest_served_points,
    closed_loop,
    load_served_points,
    predict_served_points,
    simulate_served_point,
)
from ttc_sim.scenario import LinearStepTime
from ttc_sim.serving import catalogue
from ttc_sim.serving.catalogue import Served
from ttc_sim.serving.step_time import StepTable, linear_table, step_seconds

needs_catalogue = pytest.mark.skipif(catalogue.installed() is None, reason="needs pip install 'ttc-sim[gpus]'")


def point(in_progress: float, output_tokens: float, load: Load, servers: int = 1) -> ServedPoint:
    served = Served("Qwen/Qwen3-8B", "h100_sxm")
    return ServedPoint("a", "chat", "m", served, servers, load, in_progress, output_tokens, 1.0, 1.0)


def counted(one: ServedPoint, table: StepTable) -> tuple[float, float]:
    """Median and mean milliseconds between tokens, iteration by iteration."""
    work = closed_loop(one)
    prompts, outputs = work.prompt_tokens.tolist(), work.visible_tokens.tolist()
    running: dict[int, int] = {}  # by request, the tokens that it has had
    coming, gaps = list(range(one.users)), []
    while coming or running:
        kv = sum(prompts[i] + had for i, had in running.items())
        prefill = sum(prompts[i] for i in coming)
        assert prefill + len(running) <= MAX_NUM_BATCHED_TOKENS
        pairs = sum(prompts[i] ** 2 / 2 for i in coming)
        seconds = step_seconds(table, prefill, pairs, len(running), kv, len(running) + len(coming))
        gaps += [seconds] * len(running)
        running = {i: had + 1 for i, had in (running | dict.fromkeys(coming, 0)).items()}
        ended = [i for i, had in running.items() if had == outputs[i]]
        running = {i: had for i, had in running.items() if had < outputs[i]}
        coming = [i + one.users for i in ended if i + one.users < work.requests]
    return 1e3 * float(np.median(gaps)), 1e3 * float(np.mean(gaps))


@pytest.mark.parametrize(
    ("in_progress", "output_tokens", "load"),
    [
        (1, 40, Load(30, 0.5, 5)),
        (8, 400, Load(100, 0.6, 40)),  # iterations that take in a prompt are few
        (24, 30, Load(200, 0.8, 120)),  # most take one in
        (3, 1, Load(50, 0.8, 10)),
    ],
)
def test_times_between_tokens_are_those_of_counted_iterations(
    in_progress: float, output_tokens: float, load: Load
) -> None:
    step = LinearStepTime(base_s=5e-3, per_prefill_token_s=1e-4, per_sequence_s=3e-4, per_kv_token_s=1e-7)
    table = linear_table(step, MAX_NUM_BATCHED_TOKENS, int(in_progress))
    one = point(in_progress, output_tokens, load)
    got = simulate_served_point(one, table, 1_000_000)
    median, mean = counted(one, table)
    assert got.mean_ms == pytest.approx(mean, rel=1e-9)
    assert got.median_ms == pytest.approx(median, rel=0.01)


def test_the_load_has_the_measured_mean_and_so_many_at_once() -> None:
    for in_progress, servers, count in ((8, 1, 198), (512, 1, 594), (512, 4, 148)):
        work = closed_loop(point(in_progress, 7000.0, Load(250, 0.6, 198), servers))
        assert work.after is not None
        assert (work.after < 0).sum() == in_progress // servers
        assert work.requests == count
        assert work.visible_tokens.mean() == pytest.approx(7000, rel=1e-4)
        assert work.visible_tokens.std() / 7000 == pytest.approx(0.6, rel=0.05)


def row(**changes: Any) -> dict[str, Any]:
    plain = {"task": "gpqa", "model_id": "Qwen/Qwen3-8B", "gpu_model": "H100", "num_gpus": 1, "tensor_parallel": 1}
    plain |= {"data_parallel": 1, "expert_parallel": 1, "weight_precision": "bfloat16", "max_num_seqs": 8}
    plain |= {"avg_batch_size": 7.9, "avg_output_len": 100.5, "median_itl_ms": 8.0}
    return plain | {"output_throughput_tokens_per_sec": 950.0} | changes


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@needs_catalogue
@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({}, Served("Qwen/Qwen3-8B", "h100_sxm", precision="bf16")),
        (
            {"num_gpus": 2.0, "tensor_parallel": 2},
            Served("Qwen/Qwen3-8B", "h100_sxm", tensor_parallel=2, precision="bf16"),
        ),
        # Dense servers side by side share nothing.
        ({"num_gpus": 2, "data_parallel": 2}, Served("Qwen/Qwen3-8B", "h100_sxm", precision="bf16")),
        # All GPUs attend together and hold whole experts: the benchmark names them as expert_parallel alone.
        (
            {"model_id": "Qwen/Qwen3-30B-A3B-Thinking-2507", "gpu_model": "B200", "num_gpus": 4, "expert_parallel": 4},
            Served("Qwen/Qwen3-30B-A3B", "b200_sxm", tensor_parallel=4, expert_parallel=4, precision="bf16"),
        ),
        (
            {"model_id": "Qwen/Qwen3-30B-A3B-FP8", "weight_precision": "fp8", "num_gpus": 4}
            | {"data_parallel": 4, "expert_parallel": 4},
            Served("Qwen/Qwen3-30B-A3B-FP8", "h100_sxm", expert_parallel=4, data_parallel=4, precision="fp8"),
        ),
        (
            {"model_id": "openai/gpt-oss-20b", "gpu_model": "h200_sxm", "weight_precision": "mxfp4"},
            Served("openai/gpt-oss-20b", "h200_sxm", precision="fp4"),
        ),
    ],
)
def test_the_parallelism_of_a_row_is_as_given(tmp_path: Path, changes: dict[str, Any], served: Served) -> None:
    points, refused = load_served_points(write(tmp_path / "rows.csv", [row(**changes)]))
    assert not refused
    assert points[0].served == served
    assert points[0].users == round(7.9 / changes.get("data_parallel", 1))


@needs_catalogue
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_gpus": 2}, "num_gpus is 2 where tensor_parallel 1 times data_parallel 1 was expected"),
        ({"num_gpus": 4, "tensor_parallel": 2, "expert_parallel": 4}, "num_gpus is 4 where tensor_parallel 2"),
        ({"num_gpus": 3, "tensor_parallel": 3}, "tensor_parallel is 3 where one of 1, 2, 4, 8"),
        ({"num_gpus": 4, "expert_parallel": 4}, "expert_parallel is True where a mixture of experts"),
        ({"tensor_parallel": 0}, "tensor_parallel is 0 where a whole number"),
        ({"gpu_model": "MI300X"}, "gpu_model is 'MI300X' where"),
        ({"model_id": "google/gemma-3-27b-it"}, "model is 'google/gemma-3-27b-it' where"),
        ({"model_id": "Qwen/Qwen3-8B-AWQ"}, "precision is 'bf16' where int4, as the name"),
        ({"weight_precision": "int8"}, "precision is 'int8' where"),
        ({"weight_precision": "mxfp4"}, "precision is 'fp4' where one that h100_sxm has"),
        ({"median_itl_ms": 0.0}, "median_itl_ms is 0.0 where a number above 0"),
        ({"avg_output_len": ""}, "avg_output_len is None where"),
        ({"avg_output_len": 1.9}, "avg_output_len is 1.9 where at least 2"),
        ({"num_gpus": 1.5}, "num_gpus is 1.5 where a whole number"),
        ({"avg_batch_size": 20.0}, "avg_batch_size is 20 where at most max_num_seqs 8"),
    ],
)
def test_a_row_that_cannot_be_simulated_says_why(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    points, refused = load_served_points(write(tmp_path / "rows.csv", [row(), row(**changes)]))
    assert len(points) == 1
    assert refused[0]["line"] == "3"
    assert refused[0]["reason"].startswith(says)


@needs_catalogue
def test_points_are_simulated_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        row(),
        row(task="other", model_id="Qwen3-30B-A3B-Thinking-2507", num_gpus=2, expert_parallel=2),
        row(model_id="deepseek-ai/DeepSeek-R1", num_gpus=1, weight_precision="fp8"),
        row(model_id="who/knows"),
    ]
    file = write(tmp_path / "rows.csv", rows)
    words = ["ttc-sim", "backtest", "--operating-points", str(file), "--json", str(tmp_path / "got.json")]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    got = json.loads((tmp_path / "got.json").read_text())
    assert [one["model"] for one in got["rows"]] == ["Qwen/Qwen3-8B", "Qwen3-30B-A3B-Thinking-2507"]
    assert {one["id"].split("|")[1] for one in got["refused"]} == {"deepseek-ai/DeepSeek-R1", "who/knows"}
    for one in got["rows"]:
        assert one["itl_ms"]["measured"] == 8.0
        assert one["mean_itl_ms"]["measured"] == pytest.approx(1e3 * 7.9 / 950)
        assert 1 < one["itl_ms"]["predicted"] <= 1.1 * one["mean_itl_ms"]["predicted"] < 100
    errors = [abs(one["itl_ms"]["error_percent"]) for one in got["rows"]]
    assert got["median_absolute_error_percent"]["itl"] == pytest.approx(np.median(errors))
    said = capsys.readouterr().out
    assert "Qwen3-30B-A3B-Thinking-2507 is served as Qwen/Qwen3-30B-A3B," in " ".join(said.split())
    assert "other: prompts of 500 tokens" in " ".join(said.split())
    points, _ = load_served_points(file)
    one, two = (predict_served_points(points, workers=n) for n in (1, 2))
    assert one == two


@needs_catalogue
def test_a_file_that_is_no_such_file_is_one_line(tmp_path: Path) -> None:
    file = write(tmp_path / "less.csv", [{key: one for key, one in row().items() if key != "avg_batch_size"}])
    with pytest.raises(InputError, match="avg_batch_size"):
        load_served_points(file)
    file.write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(InputError, match="at least one"):
        backtest_served_points(file)


@needs_catalogue
def test_nine_in_ten_rows_of_the_measured_points_are_resolved(shared: Path) -> None:
    points, refused = load_served_points(shared / "operating-points" / "ml-energy.csv")
    assert len(points) >= 9 * len(refused)
    assert 0.4 < np.mean([one.fitted_to for one in points]) < 0.6
