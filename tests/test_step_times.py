"""Step times that a scenario names, and what the optimizer's estimates make of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_scenario import changed
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import Work, single_stage
from ttc_sim.policies import Always
from ttc_sim.scenario import GpuPool, scenario_from_dict
from ttc_sim.serving.physics import ARCHITECTURES, load_architecture
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.step_time import full_batch_seconds
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.result import simulate
from ttc_sim.simulation.summary import queue_growth

PHYSICS = {"model": "Qwen/Qwen3-32B", "gpu": "H100", "tensor_parallel": 2, "precision": "BF16"}
LINEAR = {"base_s": 0.01, "per_prefill_token_s": 2e-5, "per_sequence_s": 4e-5, "per_kv_token_s": 5e-8}
CONFIG = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def pool(step: Mapping[str, object], **changes: object) -> GpuPool:
    plain = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "step_time": step}
    return GpuPool.model_validate({**plain, **changes})


def crowd(count: int, prompt: int, output: int) -> Work:
    """So many requests, all at once."""
    return single_stage(np.zeros(count), np.full(count, prompt, dtype=np.int64), np.full(count, output, dtype=np.int64))


@given(
    prompt=st.integers(50, 3000),
    output=st.integers(200, 2000),
    batch=st.sampled_from([8, 32, 128]),
    step=st.sampled_from([LINEAR, PHYSICS]),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_crowded_server_takes_as_long_as_estimated(prompt: int, output: int, batch: int, step: dict) -> None:  # type: ignore[type-arg]
    server = pool(step, max_num_seqs=batch)
    count = 12 * batch
    table = pool_table(server)
    took = compiled.run([crowd(count, prompt, output)], ["p"], [server]).end_s / count
    estimate = float(full_batch_seconds(table, np.array([float(prompt)]), np.array([float(output)]), batch)[0])
    assert estimate == pytest.approx(took, rel=0.12)


def test_a_model_named_in_the_scenario_serves_it_in_both_engines() -> None:
    scenario = scenario_from_dict(changed("deployments.pool.step_time", PHYSICS))
    model = load_model(scenario)
    table = model.step_tables[model.deployment_names.index("pool")]
    assert table is not None
    # Reading 65 GB of weights over two H100s takes at least 9.8 ms an iteration.
    assert 0.0098 < table.dense_s[1] < 0.03
    server = scenario.deployments["pool"]
    assert isinstance(server, GpuPool)
    work = crowd(20, 300, 50)
    fast = compiled.run([work], ["pool"], [server])
    slow = reference.run([work], ["pool"], [server])
    np.testing.assert_allclose(fast.finished_s, slow.finished_s, rtol=1e-9)
    given_linear = compiled.run([work], ["pool"], [pool(LINEAR)], tables=[table])
    with_tables = reference.run([work], ["pool"], [pool(LINEAR)], tables=[table])
    np.testing.assert_allclose(given_linear.finished_s, with_tables.finished_s, rtol=1e-9)


def test_a_config_file_says_the_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert load_architecture(tmp_path / "config.json") == ARCHITECTURES["meta-llama/Llama-3.1-8B"]


@pytest.mark.parametrize(
    ("step", "names"),
    [
        ({**PHYSICS, "gpu": "H1000"}, ["gpu", "H1000", "'H100'"]),
        ({**PHYSICS, "model": "Qwen/Qwen3-32"}, ["model", "Qwen3-32", "Qwen/Qwen3-32B"]),
        ({**PHYSICS, "precision": "FP4"}, ["deployments.pool.step_time.precision", "FP4", "FP8"]),
        ({**PHYSICS, "tensor_paralel": 2}, ["deployments.pool.step_time", "tensor_paralel", "'tensor_parallel'"]),
        ({"gpu_profile": "nowhere"}, ["nowhere", "an existing folder"]),
        ({**LINEAR, "base": 1.0}, ["deployments.pool.step_time", "base", "'base_s'"]),
    ],
)
def test_a_bad_step_time_is_named(step: dict, names: list[str]) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError) as error:
        load_model(scenario_from_dict(changed("deployments.pool.step_time", step)))
    for name in names:
        assert name in str(error.value)


def test_a_queue_that_cannot_drain_is_reported_with_its_growth() -> None:
    raw = changed("workload.requests", 3000)
    raw["workload"]["arrivals"]["rate_per_s"] = 4.0
    raw["deployments"]["pool"] |= {"max_num_seqs": 4, "step_time": {**LINEAR, "base_s": 0.05}}
    raw["replications"] = 2
    result = simulate(scenario_from_dict(raw), Always("small"))
    growth = result.summary().queue_growth_per_s
    # What does not get away: arrivals less completions while all four places are taken.
    served = []
    for run in result.runs:
        end_s = run.result.arrival_s[-1]
        finished = run.result.finished_s
        served.append(((finished > end_s / 2) & (finished <= end_s)).sum() / (end_s / 2))
    assert growth == {"pool": pytest.approx(4.0 - np.mean(served), rel=0.1)}
    raw["workload"]["arrivals"]["rate_per_s"] = 0.05
    calm = simulate(scenario_from_dict(raw), Always("small"))
    assert queue_growth(calm.model, calm.runs) == {}
