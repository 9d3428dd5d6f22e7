"""The catalogue of GPU operators: what is looked up, kept and refused. Skipped without ``ttc-sim[gpus]``."""

from __future__ import annotations

import csv
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ttc_sim.base.errors import InputError
from ttc_sim.cli import main
from ttc_sim.fidelity.operating_points import (
    COLUMNS,
    backtest_operating_points,
    closed_loop,
    load_points,
    predict,
    served_by,
)
from ttc_sim.scenario import GpuPool, Scenario
from ttc_sim.scenario.gpu_prices import GPU_PRICES, GPUS_WITHOUT_PRICE
from ttc_sim.serving import catalogue, operator_store
from ttc_sim.serving import offers as gpus
from ttc_sim.serving.catalogue import Served
from ttc_sim.serving.operator_lookup import estimator_arguments
from ttc_sim.serving.operator_store import cache_folder, operator_times
from ttc_sim.serving.operators import NONE, kv_bytes_of_a_token, operator_table, state_tokens
from ttc_sim.serving.pools import note_on_kv, with_memory
from ttc_sim.serving.step_time import step_seconds

pytestmark = pytest.mark.skipif(catalogue.installed() is None, reason="needs pip install 'ttc-sim[gpus]'")
QWEN = Served("Qwen/Qwen3-32B", "h100_sxm", tensor_parallel=2)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    operator_times.cache_clear()
    yield cache_folder()
    operator_times.cache_clear()


@pytest.mark.parametrize(
    "served",
    [
        QWEN._replace(precision="fp8"),
        Served("moonshotai/Kimi-K2.5", "b200_sxm", tensor_parallel=8, precision="fp4"),
    ],
)
def test_between_the_knots_the_table_is_the_estimator(served: Served) -> None:
    from aiconfigurator_core.sdk.engine import EngineHandle

    model, arguments = estimator_arguments(served)
    with catalogue.quiet():
        handle = EngineHandle.compile(model, served.gpu, served.backend, **arguments)
    table = operator_table(operator_times(served), NONE, 8192, 512)
    off = []
    for batch in (1, 5, 13, 40, 77, 200, 300, 450):
        for kv in (200, 777, 1800, 5000, 10000, 25000):
            # The estimator attends to isl + osl / 2 + 1 tokens.
            estimate = handle.decode_step_latency(batch, kv - 2, 2)
            off.append(1e3 * step_seconds(table, 0, 0.0, batch, batch * kv, batch) / estimate - 1)
    assert np.median(np.abs(off)) < 0.015
    assert np.quantile(np.abs(off), 0.85) < 0.035
    # Faster only where the catalogue has a larger batch take less time than a smaller one: a batch can be padded.
    assert max(off) < 0.03
    off = []
    for chunk, context in ((700, 0), (1500, 0), (3500, 0), (7000, 0), (1500, 3000), (3500, 12000)):
        shared, attention = handle.mixed_step_breakdown(chunk, 0, chunk + context, 2, prefix=context)[1:3]
        estimate = shared + attention * np.ceil((chunk + context) / chunk)
        off.append(1e3 * step_seconds(table, chunk, chunk * (context + chunk / 2), 0, 0, 1) / estimate - 1)
    if "Kimi" not in served.model:  # the estimator puts a mixed step of latent attention together in another way
        assert np.abs(off).max() < 0.05


def test_memory_of_a_model_by_hand() -> None:
    times = operator_times(Served("meta-llama/Llama-3.1-8B-Instruct", "h100_sxm"))
    # Two matrices of 128256 x 4096, 32 layers of attention (4096 x (2 * 4096 + 2 * 1024)) and three of 4096 x 14336.
    weights = 2 * 128256 * 4096 + 32 * (4096 * (2 * 4096 + 2 * 1024) + 3 * 4096 * 14336)
    assert times.weight_bytes == pytest.approx(2 * weights, rel=0.01)
    assert times.kv_bytes_per_token == 2 * 32 * 8 * 128 * 2
    # Two GPUs hold half of the keys and values each, so that more than twice as many tokens fit.
    two = operator_times(Served("meta-llama/Llama-3.1-8B-Instruct", "h100_sxm", tensor_parallel=2))
    assert two.kv_bytes_per_token == times.kv_bytes_per_token / 2
    assert two.kv_tokens > 2 * times.kv_tokens
    # Weights in 8 bits take half, but for what stays in 16 (embedding and LM head); their keys and values are in 8 too.
    eight = operator_times(Served("meta-llama/Llama-3.1-8B-Instruct", "h100_sxm", precision="fp8"))
    assert times.weight_bytes / 2 < eight.weight_bytes < 0.6 * times.weight_bytes
    assert eight.kv_bytes_per_token == times.kv_bytes_per_token / 2


def test_a_table_is_kept_and_a_corrupt_one_is_made_again(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    start = time.process_time()
    first = operator_times(QWEN)
    assert time.process_time() - start < 10
    (file,) = cache.glob("*.json")
    content = file.read_bytes()
    operator_times.cache_clear()
    start = time.process_time()
    assert operator_times(QWEN) == first
    assert time.process_time() - start < 0.5
    for wrong in (content.replace(b"0.", b"1.", 1), content[: len(content) // 2], b"", b"\xff\xfe"):
        file.write_bytes(wrong)
        operator_times.cache_clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert operator_times(QWEN) == first
            assert operator_times(QWEN) == first
        assert [str(file) in one.getMessage() for one in caplog.records] == [True]
        assert file.read_bytes() == content
    assert not list(cache.glob(".*"))


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ttc-sim").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    operator_times.cache_clear()
    assert operator_times(QWEN).kv_tokens > 0
    assert "cannot be" in caplog.text
    operator_times.cache_clear()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "Qwen/Qwen3-32"}, "x.model: got 'Qwen/Qwen3-32'; expected 'Qwen/Qwen3-32B'"),
        ({"gpu": "h200"}, "x.gpu: got 'h200'; expected 'h200_sxm'"),
        ({"backend": "vlm"}, "x.backend: got 'vlm'; expected 'vllm'"),
        ({"tensor_parallel": 3}, "x.tensor_parallel: got 3; expected one of 1, 2, 4, 8: it must divide the 64"),
        ({"tensor_parallel": 16}, "x.tensor_parallel: got 16; expected one of 1, 2, 4, 8"),
        (
            {"gpu": "a100_sxm", "precision": "fp8"},
            "x.precision: got 'fp8'; expected one that a100_sxm has: it lacks FP8",
        ),
        ({"precision": "fp4"}, "x.precision: got 'fp4'; expected one that h100_sxm has: it lacks FP4"),
        ({"precision": "fp7"}, "x.precision: got 'fp7'; expected 'fp"),
        ({"expert_parallel": 2}, "x.expert_parallel: got True; expected a mixture of experts"),
        ({"model": "MiniMaxAI/MiniMax-M2.5", "tensor_parallel": 8}, "x.expert_parallel: got False; expected true"),
        (
            {"model": "moonshotai/Kimi-K2.5", "gpu": "l40s", "tensor_parallel": 1},
            "x.model: got 'moonshotai/Kimi-K2.5'; expected a model measured on",
        ),
    ],
)
def test_what_cannot_be_served_is_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        operator_times(QWEN._replace(**changes), "scenario.yaml", "x.")
    assert str(error.value).startswith(f"scenario.yaml: {says}")
    assert "\n" not in str(error.value)
    assert "site-packages" not in str(error.value)


def row(**changes: Any) -> dict[str, Any]:
    plain = dict.fromkeys(COLUMNS)
    plain |= {"id": "a", "backend": "vllm", "mode": "agg", "system": "h100_sxm", "model_path": "openai/gpt-oss-120b"}
    plain |= {"silicon_data_source": "x; silicon_concurrency=8; y", "isl": 1024, "osl": 128, "batch_size": 4}
    plain |= {"tp_size": 2, "pp_size": 1, "attention_dp_size": 1, "moe_tp_size": 2, "moe_ep_size": 1}
    return plain | {"precision": "fp4", "silicon_ttft_ms": 100.0, "silicon_tpot_ms": 10.0} | changes


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({}, (2, 1, 1)),
        # Four GPUs that the file counts twice: each attends to requests of its own and holds a quarter of the experts.
        ({"tp_size": 4, "attention_dp_size": 4, "moe_tp_size": 1, "moe_ep_size": 16}, (1, 4, 4)),
        ({"tp_size": 2, "attention_dp_size": None, "moe_tp_size": 4}, (2, 1, 2)),
        ({"model_path": "MiniMaxAI/MiniMax-M2.5", "precision": "fp8", "tp_size": 8, "moe_tp_size": 8}, (8, 8, 1)),
        ({"model_path": "meta-llama/Llama-3.1-70B", "precision": "fp8", "tp_size": 8, "moe_tp_size": 8}, (8, 1, 1)),
    ],
)
def test_the_parallelism_of_a_row(changes: dict[str, Any], served: tuple[int, int, int]) -> None:
    got = served_by(row(**changes))
    assert (got.tensor_parallel, got.expert_parallel, got.data_parallel) == served


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_rows_are_simulated_or_refused_with_a_reason(tmp_path: Path) -> None:
    rows = [
        row(id="good"),
        row(id="dense", model_path="meta-llama/Llama-3.1-70B", precision="fp8", moe_tp_size=2),
        row(id="disagg", mode="disagg"),
        row(id="no time", silicon_tpot_ms=0.0),
        row(id="pipeline", pp_size=2),
        row(id="unknown", model_path="who/knows"),
        row(id="too large", model_path="moonshotai/Kimi-K2.5", precision="int4", tp_size=1, moe_tp_size=1),
        row(id="elsewhere", backend="sglang"),
    ]
    file = write(tmp_path / "rows.csv", rows)
    said: list[str] = []
    got = backtest_operating_points(file, "vllm", said.append)
    assert [one["id"] for one in got["rows"]] == ["good", "dense"]
    assert said
    for one in got["rows"]:
        for key in ("ttft_ms", "tpot_ms"):
            pair = one[key]
            assert pair["error_percent"] == pytest.approx(100 * (pair["predicted"] / pair["measured"] - 1))
    reasons = {one["id"]: one["reason"] for one in got["refused"]}
    assert set(reasons) == {"disagg", "no time", "pipeline", "unknown", "too large"}
    assert "who/knows" not in reasons["unknown"] or "one of" in reasons["unknown"]
    assert "KV cache" in reasons["too large"] or "measured" in reasons["too large"]
    assert got["median_absolute_error_percent"]["tpot"] == pytest.approx(
        np.median([abs(one["tpot_ms"]["error_percent"]) for one in got["rows"]])
    )
    assert sum(one["rows"] for one in got["by_model_gpu"]) == 2
    with pytest.raises(InputError, match="'vllm'"):
        load_points(file, "vlm")
    with pytest.raises(InputError, match="silicon_tpot_ms"):
        load_points(write(tmp_path / "less.csv", [{k: v for k, v in rows[0].items() if k != "silicon_tpot_ms"}]))


def test_predictions_do_not_depend_on_threads_and_follow_littles_law(tmp_path: Path) -> None:
    points, _ = load_points(write(tmp_path / "rows.csv", [row(id=str(n), isl=256 * (n + 1)) for n in range(4)]))
    known = {"dense": NONE, "experts": NONE}
    one, two = (predict(points, known, workers=n) for n in (1, 2))
    assert one == two
    work = closed_loop(points[0])
    assert work.after is not None
    assert (work.after < 0).sum() == points[0].concurrency
    assert work.prompt_tokens.min() >= 0.8 * 256 - 1
    assert work.prompt_tokens.max() <= 256


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["ttc-sim", *words])
    try:
        main()
        status = 0
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    out = capsys.readouterr()
    return status, out.out, out.err


def test_words_narrow_the_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "list.json"
    status, out, _ = run(capsys, monkeypatch, "gpus", "qwen3-32b", "H200", "fp8", "--json", str(file))
    assert status == 0
    rows = json.loads(file.read_text())["together"]
    assert rows
    assert all(r["gpus"] == ["h200_sxm"] and r["precision"] == "fp8" and "Qwen3-32B" in r["model"] for r in rows)
    assert "Qwen/Qwen3-32B" in out
    everything = gpus.works_together()
    assert len({one.model for one in everything}) > 60
    assert not any(
        one.precision == "fp8" and "a100_sxm" in one.gpus for one in everything if one.model == "Qwen/Qwen3-32B"
    )
    for words, says in ((["h300"], "'h300'; expected"), (["qwen", "--plot", "x.png"], "whole name of one model")):
        status, out, err = run(capsys, monkeypatch, "gpus", *words)
        assert status == 1
        assert says in err
        assert err.count("\n") == 1


def test_a_model_is_offered_with_memory_speed_and_price(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    few = {name: catalogue.gpus()[name] for name in ("h100_sxm", "gb300")}
    monkeypatch.setattr(catalogue, "gpus", lambda: few)
    file, plot = tmp_path / "offers.json", tmp_path / "offers.png"
    words = ("gpus", "meta-llama/llama-3.1-70b-instruct", "--json", str(file), "--plot", str(plot))
    status, out, _ = run(capsys, monkeypatch, *words)
    assert status == 0
    offers = {(one["gpu"], one["tensor_parallel"]): one for one in json.loads(file.read_text())["offers"]}
    assert plot.stat().st_size > 10_000
    alone = offers["h100_sxm", 1]
    assert not alone["fits"]
    assert alone["gpus_needed"] == 4 if offers["h100_sxm", 2]["fits"] is False else 2
    assert "does not fit: needs" in out
    full = offers["h100_sxm", 4]
    assert full["weight_gib"] == pytest.approx(2 * 70.55e9 / 2**30, rel=0.02)
    assert full["batch"] == min(full["kv_tokens"] // 2048, 1024)
    usd = full["usd_per_hour"] / 3600 / full["tokens_per_s"] * 1e6
    assert full["usd_per_million_output_tokens"] == pytest.approx(usd)
    assert full["tokens_per_s"] > full["tokens_per_s_alone"] > 20
    assert offers["gb300", 1]["usd_per_hour"] is None


def test_a_measured_run_is_predicted_through_the_catalogue(shared: Path) -> None:
    from ttc_sim.fidelity.runs import backtest_run

    got = backtest_run(shared / "vllm-runs" / "rtxpro6000_qwen3-32b", gpu="rtx_pro_6000_server")
    assert abs(got["tpot_s"]["mean"]["error_percent"]) < 25
    assert "aiconfigurator-core" in got["step_time"]
    with pytest.raises(InputError, match="nearest of"):
        backtest_run(shared / "vllm-runs" / "rtxpro6000_qwen3-32b", gpu="rtx_pro_6000")


def test_scenarios_know_the_catalogues_gpus() -> None:
    assert {*GPU_PRICES, *GPUS_WITHOUT_PRICE} == set(catalogue.gpus())


def test_shipped_names_are_found() -> None:
    assert operator_store._shipped(Served("meta-llama/Llama-3.1-8B-Instruct", "l40s", precision="bf16")) is not None


def test_states_of_layers_that_do_not_attend_by_hand() -> None:
    """27 of 56 layers of Nemotron-Nano-9B are Mamba's, of 128 heads of 80 by 128 numbers of 32 bits; 4 attend, 8 heads of 128."""
    served = Served("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "h100_sxm")
    times, state = operator_times(served), 27 * 128 * 80 * 128 * 4
    assert times.state_bytes == state
    assert kv_bytes_of_a_token(times) == pytest.approx(4 * 2 * 8 * 128 * 2, rel=1e-3)
    assert state_tokens(times) == pytest.approx(state / (4 * 2 * 8 * 128 * 2), rel=2e-3)
    assert operator_times(served._replace(tensor_parallel=2)).state_bytes == state / 2
    # Each further sequence takes its states' bytes, read and written, through 80% of 3.35 TB/s, and a little for all else.
    table = operator_table(times, NONE, 2048, 256)
    more_s = [
        (step_seconds(table, 0, 0.0, n, 500 * n, n) - step_seconds(table, 0, 0.0, 64, 500 * 64, 64)) / (n - 64)
        for n in (128, 256)
    ]
    by_bytes_s = 2 * state / (0.8 * 3.35e12)
    assert all(by_bytes_s < seconds < 1.25 * by_bytes_s for seconds in more_s)
    dense = operator_times(QWEN)
    assert (dense.state_bytes, state_tokens(dense)) == (0.0, 0)
    linear = operator_times(Served("Qwen/Qwen3.5-27B", "h100_sxm", tensor_parallel=2))
    assert linear.state_bytes == 48 * 48 * 128 * 128 * 4 / 2


def test_a_pools_cache_is_what_the_states_of_a_full_batch_leave() -> None:
    def pool(seqs: int) -> str:
        return (
            "name: s\nworkload: {arrivals: {process: poisson, rate_per_s: 1}, requests: 5, "
            "lengths: {prompt_tokens: 9, output_tokens: 9}}\narms: {a: {deployment: p}}\ndeployments:\n  p: {kind: gpu_pool, "
            f"replicas: 1, model: nvidia/NVIDIA-Nemotron-Nano-9B-v2, gpu: h100_sxm, max_num_seqs: {seqs}}}\n"
        )

    def held(seqs: int) -> int:
        scenario = with_memory(Scenario.model_validate(yaml.safe_load(pool(seqs))))
        tokens = scenario.deployments["p"].kv_cache_tokens  # type: ignore[union-attr]
        assert tokens is not None
        return tokens

    times = operator_times(Served("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "h100_sxm"))
    assert held(1) - held(101) == 100 * state_tokens(times)
    with pytest.raises(
        InputError, match=r"max_num_seqs: got 1000; expected fewer, or more GPUs: each sequence holds 135 MiB"
    ):
        held(1000)


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        ("Qwen/Qwen3-32B", {}, False),
        ("Qwen/Qwen3-32B", {"precision": "fp8"}, True),
        ("Qwen/Qwen3-32B", {"precision": "fp8", "kv_cache_dtype": "bf16"}, False),
        ("Qwen/Qwen3-32B-FP8", {}, True),
        ("Qwen/Qwen3-14B-FP8", {}, False),
        ("Qwen/Qwen3-30B-A3B", {"precision": "fp8", "data_parallel": 2, "tensor_parallel": 1}, True),
        ("Qwen/Qwen3-235B-A22B", {"precision": "fp8", "tensor_parallel": 8, "expert_parallel": True}, True),
        ("openai/gpt-oss-120b", {}, False),  # windows halve what it keeps, not bits
    ],
)
def test_keys_and_values_in_8_bits_that_nobody_asked_for_are_said(model: str, more: dict[str, Any], said: bool) -> None:
    given = {"kind": "gpu_pool", "replicas": 1, "model": model, "gpu": "h100_sxm", "tensor_parallel": 2, **more}
    note = note_on_kv("chat", GpuPool.model_validate(given))
    assert (note is not None) == said
    if note is not None:
        assert note.startswith("chat is taken to keep keys and values in 8 bits")
