"""What a server takes beside its GPU: in its loop, behind it, and how runs are calibrated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tests.test_backtest_edges import write_run
from tests.test_gpu_operators import catalogue_pool, small
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import single_stage
from ttc_sim.fidelity import runs
from ttc_sim.fidelity.measured_run import load_run
from ttc_sim.fidelity.runs import MOST_HOST_S, backtest_run, replay
from ttc_sim.scenario import GpuPool, scenario_from_dict
from ttc_sim.serving import operator_store, pools
from ttc_sim.serving.corrections import fitted, measured_host, token_s
from ttc_sim.serving.host import host_times, with_host
from ttc_sim.serving.operators import operator_table
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.step_time import StepTable, step_seconds

SAMPLED_S, GREEDY_S = (1e-6 * float(measured_host()[name]) for name in ("sampled_us", "greedy_us"))


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the numbers of every deployment were shipped."""
    monkeypatch.setattr(operator_store, "_shipped", lambda served: small())
    operator_store.operator_times.cache_clear()
    pools._catalogue_table.cache_clear()


def pool_of(**changes: Any) -> GpuPool:
    pool = scenario_from_dict(catalogue_pool(**changes)).deployments["pool"]
    assert isinstance(pool, GpuPool)
    return pool


def decoding(table: StepTable, sequences: int, held: int = 500) -> float:
    return step_seconds(table, 0, 0.0, sequences, sequences * held, sequences)


@pytest.mark.usefixtures("known_times")
def test_each_sequence_takes_its_time_whatever_the_operators_take() -> None:
    off = {"host": {"sequence_s": 0.0, "token_s": 0.0}}
    bare, sampled = pool_table(pool_of(**off)), pool_table(pool_of(host={"token_s": 0.0}))
    greedy = pool_table(pool_of(sampling="greedy", host={"token_s": 0.0}))
    own = pool_table(pool_of(host={"sequence_s": 1e-3, "step_s": 5e-3, "token_s": 0.0}))
    for n in (1, 7, 300, 1024):
        for held in (10, 5000):
            plain = decoding(bare, n, held)
            assert decoding(sampled, n, held) == pytest.approx(plain + n * SAMPLED_S, rel=1e-12)
            assert decoding(greedy, n, held) == pytest.approx(plain + n * GREEDY_S, rel=1e-12)
            assert decoding(own, n, held) == pytest.approx(plain + 5e-3 + n * 1e-3, rel=1e-12)
    # A prompt taken in yields one token, and is one sequence more.
    more = step_seconds(sampled, 900, 900**2 / 2, 20, 9000, 21) - step_seconds(bare, 900, 900**2 / 2, 20, 9000, 21)
    assert more == pytest.approx(21 * SAMPLED_S, rel=1e-9)


@pytest.mark.usefixtures("known_times")
def test_no_more_tokens_leave_a_server_than_its_front_end_hands_out() -> None:
    slow = 2e-3
    ones = {count: pool_table(pool_of(api_servers=count, host={"token_s": slow})) for count in (1, 2, 4, 64)}
    free = pool_table(pool_of(host={"token_s": 0.0}))
    for n in (1, 8, 100, 1024):
        for held in (1, 700, 40_000):
            alone = decoding(free, n, held)
            took = [decoding(table, n, held) for table in ones.values()]
            assert took == sorted(took, reverse=True)  # more processes are never slower
            for (count, _), seconds in zip(ones.items(), took, strict=True):
                slower = max(n * slow / count, alone)
                # Between two knots both are taken for the straight line from the longer at one to the longer at the other.
                assert slower * (1 - 1e-12) <= seconds <= slower * 1.25
    assert decoding(ones[1], 1000, 1) == pytest.approx(1000 * slow)
    assert decoding(ones[64], 1, 40_000) == decoding(free, 1, 40_000)
    usual = pool_table(pool_of(sampling="greedy"))
    assert decoding(usual, 1024, 1) >= 1024 * token_s() * (1 - 1e-12)


@pytest.mark.usefixtures("known_times")
@pytest.mark.parametrize("draft", [{"draft_s": 0.0}, {"draft_s": 0.004}, {"draft_share": 0.1}])
def test_accepted_drafts_wait_for_the_front_end_too(draft: dict[str, float]) -> None:
    said = {"draft_tokens": 3, "acceptance_length": 2.5, **draft}
    slow = 8e-4
    free, bound = (
        pool_table(pool_of(max_num_seqs=256, speculative=said, host={"token_s": each})) for each in (0.0, slow)
    )
    for n in (1, 8, 100, 256):
        for held in (1, 700, 40_000):
            alone, took = (step_seconds(table, 0, 0.0, n, n * held, n) for table in (free, bound))
            slower = max(n * 2.5 * slow, alone)
            assert slower * (1 - 1e-12) <= took <= slower * 1.25
    assert step_seconds(bound, 0, 0.0, 256, 256, 256) == pytest.approx(256 * 2.5 * slow)
    assert step_seconds(bound, 0, 0.0, 1, 40_000, 1) == step_seconds(free, 0, 0.0, 1, 40_000, 1)


def test_ranks_share_their_replica_s_front_ends() -> None:
    usual, one, two = (
        host_times(pool_of(data_parallel=4, **more)) for more in ({}, {"api_servers": 1}, {"api_servers": 2})
    )
    assert usual == host_times(pool_of())
    assert (one.token_s, two.token_s) == (4 * usual.token_s, 2 * usual.token_s)


@pytest.mark.parametrize("token_s", [0.0, 3e-4, 5e-3])
def test_both_engines_agree_beside_a_slow_front_end(token_s: float) -> None:
    rng = np.random.default_rng(5)
    work = single_stage(np.sort(rng.uniform(0, 2, 60)), rng.integers(1, 3000, 60), rng.integers(1, 400, 60))
    table = with_host(operator_table(small(), fitted()["dense"], 512, 16), 1e-3, 1e-4, token_s)
    pool = pool_of(max_num_seqs=16, max_num_batched_tokens=512, kv_cache_tokens=16_000)
    fast = compiled.run([work], ["p"], [pool], tables=[table])
    slow = reference.run([work], ["p"], [pool], tables=[table])
    assert fast.finished_s.tobytes() == slow.finished_s.tobytes()
    assert fast.first_token_s.tobytes() == slow.first_token_s.tobytes()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"api_servers": 0}, "api_servers"),
        ({"api_servers": 1000}, "api_servers"),
        ({"host": {"sequence_s": -1e-6}}, "sequence_s"),
        ({"host": {"sequences_s": 1e-6}}, "sequence_s"),
        ({"sampling": "argmax"}, "greedy"),
        ({"sampling": "greedy", "host": {"sequence_s": 0.0}}, "exclude each other"),
        ({"sampling": "sampled", "backend": "sglang"}, "was not measured"),
    ],
)
def test_times_that_cannot_be_are_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        pool_of(**changes)


@pytest.mark.parametrize("key", [{"sampling": "greedy"}, {"api_servers": 2}, {"host": {"step_s": 0.001}}])
def test_whole_iterations_have_their_host_within(key: dict[str, Any]) -> None:
    step = {"base_s": 0.02, "per_prefill_token_s": 1e-4, "per_sequence_s": 1e-4, "per_kv_token_s": 0.0}
    with pytest.raises(InputError, match=f"no {next(iter(key))} beside this step_time"):
        pool_of(model=None, gpu=None, tensor_parallel=None, usd_per_replica_hour=1.0, step_time=step, **key)


def profile_of(folder: Path, model: str, gpu: str) -> Path:
    """A made-up profile: every layer takes the same, whatever the batch."""
    (folder / "tp1").mkdir(parents=True)
    (folder / "meta.yaml").write_text(f"model: {model}\ngpu: {gpu}\n")
    layers = ("embedding", "final_layernorm", "layernorm", "o_proj", "qkv_proj", "rotary_emb", "act_fn", "down_proj")
    rows = [(one, n, 20.0 + n / 100) for one in (*layers, "gate_up_proj") for n in (1, 2048)]
    pl.DataFrame(rows, schema=["layer", "tokens", "time_us"], orient="row").write_csv(folder / "tp1" / "dense.csv")
    rows = [(one, n, 10.0) for one in ("lm_head", "sampler") for n in (1, 256)]
    pl.DataFrame(rows, schema=["layer", "sequences", "time_us"], orient="row").write_csv(
        folder / "tp1" / "per_sequence.csv"
    )
    grid = [(c, p, n, k, 1.0 + (c + n) / 50) for c in (0, 512) for p in (0, 512) for n in (0, 32) for k in (0, 4096)]
    columns = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"]
    pl.DataFrame(grid, schema=columns, orient="row").write_csv(folder / "tp1" / "attention.csv")
    return folder


def run_on(folder: Path, profile: Path, host_s: float, model: str, gpu: str) -> Path:
    """A run that took what its profile and the host say."""
    rng = np.random.default_rng(2)
    at, prompt, output = np.sort(rng.uniform(0, 3, 25)), rng.integers(20, 300, 25), rng.integers(20, 60, 25)
    rows = [(float(a), int(p), int(o), 1.0, 2.0) for a, p, o in zip(at, prompt, output, strict=True)]

    def named() -> None:
        meta = json.loads((folder / "meta.json").read_text())
        meta["engine_kwargs"]["model"] = model
        (folder / "meta.json").write_text(json.dumps({**meta, "hardware": {"device_name": gpu}}))

    write_run(folder, rows)
    named()
    run = load_run(folder)
    got = replay(run, runs._profile(run, profile, host_s))
    ttft, e2e = got.first_token_s - got.arrival_s, got.finished_s - got.arrival_s
    write_run(folder, [(r[0], r[1], r[2], float(f), float(e)) for r, f, e in zip(rows, ttft, e2e, strict=True)])
    named()
    return folder


QWEN, LLAMA = "Qwen/Qwen3-32B", "meta-llama/Llama-3.1-8B"


def test_a_run_of_another_gpu_calibrates_beside_its_own_profile(tmp_path: Path) -> None:
    here, there = profile_of(tmp_path / "here", LLAMA, "NVIDIA X"), profile_of(tmp_path / "there", QWEN, "Y")
    one = run_on(tmp_path / "one", here, 1.7e-3, LLAMA, "X")
    other = run_on(tmp_path / "other", there, 1.7e-3, QWEN, "NVIDIA Y")
    got = backtest_run(one, here, [f"{other}={there}"])
    assert "host 1.7 ms" in got["step_time"]
    assert abs(got["e2e_s"]["mean"]["error_percent"]) < 0.01
    assert got["notes"] == []
    # Beside a profile that is not its own it would be told from what neither took.
    for given, says in (
        ([other], f"of {LLAMA}"),
        ([f"{other}={here}"], f"the run's own model: other is of {QWEN}"),
    ):
        with pytest.raises(InputError, match=says):
            backtest_run(one, here, given)
    with pytest.raises(InputError, match="the profile of the run's own model: one is of"):
        backtest_run(one, there)
    (there / "meta.yaml").write_text(f"model: {QWEN}\ngpu: Z\n")
    with pytest.raises(InputError, match="the run's own GPU: other is of NVIDIA Y"):
        backtest_run(one, here, [f"{other}={there}"])


def test_linear_step_times_are_not_fitted_to_another_model_or_gpu(tmp_path: Path) -> None:
    here = profile_of(tmp_path / "here", LLAMA, "X")
    one, other = (run_on(tmp_path / name, here, 0.0, LLAMA, "X") for name in ("one", "other"))
    said = backtest_run(one, None, [other])["step_time"]
    assert said == "linear, fitted to 1 other run(s)"
    meta = json.loads((other / "meta.json").read_text())
    for change, says in (({"hardware": {"device_name": "Y"}}, "same GPU: one is of X"), ({}, "same model: one is of")):
        changed = {**meta, **change}
        changed["engine_kwargs"] = {**meta["engine_kwargs"], "model": LLAMA if change else QWEN}
        (other / "meta.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match=says):
            backtest_run(one, None, [other])
    got = CliRunner().invoke(app, ["backtest", str(one), "--calibrate-on", f"{other}={here}"])
    assert isinstance(got.exception, InputError)
    assert "RUN alone" in got.exception.expected


def test_a_fit_that_ends_at_its_bound_says_so(tmp_path: Path) -> None:
    here = profile_of(tmp_path / "here", LLAMA, "X")
    one, other = (run_on(tmp_path / name, here, 2 * MOST_HOST_S, LLAMA, "X") for name in ("one", "other"))
    got = backtest_run(one, here, [other])
    assert any("ended at its bound of 4 ms" in note for note in got["notes"])


def test_a_folder_may_have_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    here = profile_of(tmp_path / "a=b", LLAMA, "X")
    other = run_on(tmp_path / "run=1", here, 1e-3, LLAMA, "X")
    assert "host 1.0 ms" in backtest_run(other, here, [other])["step_time"]


def test_corrections_of_single_operators_leave_out_what_sequences_take() -> None:
    bare = replace(fitted()["dense"], greedy_us=0.0, sampled_us=0.0)
    tables = [operator_table(small(), one, 512, 64, sampled=True) for one in (bare, fitted()["dense"])]
    np.testing.assert_allclose(tables[1].sampled_s - tables[0].sampled_s, SAMPLED_S * np.arange(65), atol=1e-12)
