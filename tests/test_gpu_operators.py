"""Step times from operators' times, and what a scenario makes of a model and a GPU by name; without the catalogue itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_scenario import GOOD, changed
from ttc_sim.base.errors import InputError
from ttc_sim.base.shipped import shipped_folders
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import single_stage
from ttc_sim.scenario import GpuPool, load_scenario, scenario_from_dict
from ttc_sim.scenario.gpu_prices import GPU_PRICES
from ttc_sim.serving import catalogue, operator_store
from ttc_sim.serving.catalogue import Served
from ttc_sim.serving.corrections import fitted
from ttc_sim.serving.operators import (
    CHUNKS,
    CONTEXTS,
    KV,
    NONE,
    SEQUENCES,
    TOKENS,
    Corrections,
    OperatorTimes,
    as_json,
    from_json,
    kv_tokens,
    operator_table,
)
from ttc_sim.serving.step_time import step_seconds
from ttc_sim.simulation.model import load_model


def shipped() -> list[Path]:
    return sorted(file for folder in shipped_folders("operators") for file in folder.glob("*.json"))


def small(moe: bool = False) -> OperatorTimes:
    """Times that follow plain formulas, so that sums can be done by hand."""
    tokens, decoding = TOKENS.tolist(), TOKENS[TOKENS <= 512].tolist()
    return OperatorTimes(
        origin="made up",
        moe=moe,
        layers=10,
        decode={
            "matrix": [1.0 + 0.01 * n for n in decoding],
            "experts": [0.5 * moe] * len(decoding),
            "link": [0.25] * len(decoding),
            "other": [0.125] * len(decoding),
        },
        prefill={
            "matrix": [2.0 + 0.02 * n for n in tokens],
            "experts": [0.001 * n * moe for n in tokens],
            "link": [0.0005 * n for n in tokens],
            "other": [0.0] * len(tokens),
        },
        head=[0.5] * len(SEQUENCES),
        decode_attention=[[1e-6 * n * kv for kv in KV] for n in SEQUENCES],
        prefill_attention=[[1e-6 * c * (p + c / 2) for p in CONTEXTS] for c in CHUNKS],
        memory_bytes=100e9,
        weight_bytes=40e9,
        activation_bytes=5e9,
        runtime_bytes=5e9,
        kv_bytes_per_token=1e5,
        memory_share=0.9,
        kv_tokens=400_000,
    )


def test_an_iteration_is_the_sum_of_its_operators() -> None:
    table = operator_table(small(moe=True), NONE, 2048, 64)
    decode_ms = (1.0 + 0.01 * 32) + 0.5 + 0.25 + 0.125 + 0.5 + 1e-6 * 32 * 1024
    assert 1e3 * step_seconds(table, 0, 0.0, 32, 32 * 1024, 32) == pytest.approx(decode_ms)
    mixed_ms = (2.0 + 0.02 * 1056) + 0.001 * 1056 + 0.0005 * 1056 + 0.5 + 1e-6 * (1024 * 512 + 32 * 1024)
    assert 1e3 * step_seconds(table, 1024, 1024 * 512.0, 32, 32 * 1024, 33) == pytest.approx(mixed_ms)
    known = Corrections(layer_us=20, prefill_layer_us=300, matrix=2, prefill=3, link=4, experts=5, attention=6)
    table = operator_table(small(moe=True), known, 2048, 64)
    decode_ms = 0.2 + 2 * (1.32 + 0.125) + 5 * 0.5 + 4 * 0.25 + 2 * 0.5 + 6e-6 * 32 * 1024
    assert 1e3 * step_seconds(table, 0, 0.0, 32, 32 * 1024, 32) == pytest.approx(decode_ms)
    mixed_ms = 0.2 + 3.0 + 3 * (2.0 + 0.021 * 1056) + 4 * 0.0005 * 1056 + 2 * 0.5 + 3e-6 * 1024 * 512 + 6e-6 * 32 * 1024
    assert 1e3 * step_seconds(table, 1024, 1024 * 512.0, 32, 32 * 1024, 33) == pytest.approx(mixed_ms)


def test_a_batch_takes_no_longer_than_a_larger_one_and_more_kv_never_less() -> None:
    for file in shipped():
        times = from_json(file.read_text())
        for known in (NONE, *fitted().values()):
            table = operator_table(times, known, 2048, 256)
            assert (np.diff(table.dense_s[1:513]) >= 0).all()
            assert (np.diff(table.dense_s[513:]) >= 0).all()
            batches = [step_seconds(table, 0, 0.0, n, 512 * n, n) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
            assert (np.diff(batches) > 0).all(), file.name
            longer = [step_seconds(table, 0, 0.0, 32, 32 * kv, 32) for kv in (512, 1024, 2048, 4096, 8192, 32768)]
            assert (np.diff(longer) > 0).all(), file.name


def test_memory_by_hand() -> None:
    # 90 GB to use, 50 GB of weights, activations and the rest: 40 GB at 100 kB a token.
    assert kv_tokens(small(), 0.9) == 400_000
    assert kv_tokens(small(), 0.95) == 450_000
    assert kv_tokens(small(), 0.4) == 0
    assert kv_tokens(replace(small(), weight_bytes=89e9, kv_tokens=0), 0.999) == 9_000


@pytest.mark.parametrize("file", shipped(), ids=lambda file: file.stem)
def test_shipped_memory_adds_up(file: Path) -> None:
    times = from_json(file.read_text())
    used = times.weight_bytes + times.activation_bytes + times.runtime_bytes
    left = times.memory_share * times.memory_bytes - used
    assert times.kv_tokens == pytest.approx(left / times.kv_bytes_per_token, rel=0.01)
    assert "Apache-2.0" in times.origin


def test_numbers_survive_being_written_down() -> None:
    times = small(moe=True)
    again = from_json(as_json(times))
    np.testing.assert_allclose(again.decode_attention, times.decode_attention, rtol=1e-4)
    assert from_json(as_json(again)) == again
    for wrong in ("", "[]", "{}", as_json(times)[:-40], as_json(times).replace("[0.5, ", "[-0.5, ", 1)):
        with pytest.raises(ValueError):  # noqa: PT011  # JSON's own error is one
            from_json(wrong)


@given(
    prompt=st.integers(1, 3000),
    output=st.integers(1, 400),
    count=st.integers(1, 40),
    seed=st.integers(0, 10),
    moe=st.booleans(),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_both_engines_agree_on_operator_times(prompt: int, output: int, count: int, seed: int, moe: bool) -> None:
    rng = np.random.default_rng(seed)
    work = single_stage(
        np.sort(rng.uniform(0, 2, count)),
        rng.integers(1, prompt + 1, count).astype(np.int64),
        rng.integers(1, output + 1, count).astype(np.int64),
    )
    table = operator_table(small(moe), fitted()["experts" if moe else "dense"], 512, 16)
    pool = GpuPool(
        kind="gpu_pool",
        replicas=1,
        usd_per_replica_hour=1.0,
        step_time=scenario_from_dict(GOOD).deployments["pool"].step_time,  # type: ignore[union-attr]
        max_num_seqs=16,
        max_num_batched_tokens=512,
        kv_cache_tokens=16_000,
    )
    fast = compiled.run([work], ["p"], [pool], tables=[table])
    slow = reference.run([work], ["p"], [pool], tables=[table])
    np.testing.assert_allclose(fast.finished_s, slow.finished_s, rtol=1e-9)
    np.testing.assert_allclose(fast.first_token_s, slow.first_token_s, rtol=1e-9)


def catalogue_pool(**changes: Any) -> dict[str, Any]:
    pool = {"kind": "gpu_pool", "replicas": 1, "model": "mine", "gpu": "h200_sxm", "tensor_parallel": 2}
    return changed("deployments.pool", {**pool, **changes})


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the numbers of every deployment were shipped."""
    monkeypatch.setattr(operator_store, "_shipped", lambda served: small())
    operator_store.operator_times.cache_clear()
    from ttc_sim.serving import pools

    pools._catalogue_table.cache_clear()


@pytest.mark.usefixtures("known_times")
def test_a_pool_follows_from_a_model_and_a_gpu() -> None:
    model = load_model(scenario_from_dict(catalogue_pool()))
    pool = model.scenario.deployments["pool"]
    assert isinstance(pool, GpuPool)
    assert (pool.max_num_seqs, pool.max_num_batched_tokens, pool.kv_cache_tokens) == (1024, 8192, 400_000)
    assert pool.hourly_usd == 2 * GPU_PRICES["h200_sxm"].usd_per_hour
    table = model.step_tables[1]
    assert table is not None
    assert len(table.dense_s) == 8193
    own = catalogue_pool(gpu="l40s", usd_per_replica_hour=1.5, kv_cache_tokens=4096, max_num_seqs=8)
    pool = load_model(scenario_from_dict(own)).scenario.deployments["pool"]
    assert isinstance(pool, GpuPool)
    assert (pool.hourly_usd, pool.kv_cache_tokens, pool.max_num_seqs, pool.max_num_batched_tokens) == (
        1.5,
        4096,
        8,
        2048,
    )


def test_a_model_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_store, "_shipped", lambda served: replace(small(), weight_bytes=95e9, kv_tokens=0))
    operator_store.operator_times.cache_clear()
    with pytest.raises(InputError, match=r"deployments.pool.tensor_parallel: got 2; expected more GPUs"):
        load_model(scenario_from_dict(catalogue_pool()))
    operator_store.operator_times.cache_clear()


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"gpu": None}, ["deployments.pool", "gpu to be given"]),
        ({"model": None}, ["deployments.pool", "model to be given"]),
        ({"tensor_parallel": 0}, ["deployments.pool.tensor_parallel", "greater than or equal to 1"]),
        ({"precision": "fp9"}, ["deployments.pool.precision", "'fp8'"]),
        ({"backend": "tgi"}, ["deployments.pool.backend", "'vllm'"]),
        ({"gpu": "h200"}, ["deployments.pool.gpu", "'h200'", "'h200_sxm'"]),
        ({"gpu": "gb300"}, ["usd_per_replica_hour to be given", "gb300"]),
        ({"tensor_paralel": 2}, ["tensor_paralel", "'tensor_parallel'"]),
        ({"step_time": GOOD["deployments"]["pool"]["step_time"]}, ["step_time and model to exclude each other"]),
    ],
)
def test_a_bad_pool_is_named(changes: dict[str, Any], names: list[str]) -> None:
    raw = catalogue_pool(**changes)
    raw["deployments"]["pool"] = {key: value for key, value in raw["deployments"]["pool"].items() if value is not None}
    with pytest.raises(InputError) as error:
        scenario_from_dict(raw)
    for name in names:
        assert name in str(error.value)


def test_without_the_catalogue_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "installed", lambda: None)
    operator_store.operator_times.cache_clear()
    with pytest.raises(InputError, match=r"deployments.pool.model: got 'mine'; .*pip install 'ttc-sim\[gpus\]'"):
        load_model(scenario_from_dict(catalogue_pool()))
    with pytest.raises(InputError, match="pip install"):
        operator_store.operator_times(Served("any", "h100_sxm"))


@pytest.mark.parametrize("name", ["reasoning-gateway", "qa-gateway", "competition-maths"])
def test_shipped_scenarios_need_no_catalogue(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalogue, "installed", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    operator_store.operator_times.cache_clear()
    model = load_model(load_scenario(name))
    pools = [pool for pool in model.deployments if isinstance(pool, GpuPool)]
    assert pools
    assert all(pool.kv_cache_tokens for pool in pools)
    assert not list(tmp_path.iterdir())


def test_every_price_says_when_and_whose() -> None:
    for price in GPU_PRICES.values():
        assert price.usd_per_hour > 0
        assert price.on.startswith("20")
        assert price.origin
