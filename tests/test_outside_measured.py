"""A deployment outside of what was measured is said, in a line and in JSON; one inside is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ttc_sim.scenario import GpuPool, LinearStepTime, PhysicsStepTime
from ttc_sim.serving.corrections import DOUBTFUL_PERCENT, checked_pairs, doubt
from ttc_sim.serving.measured_ranges import measured_ranges, outside, served_errors
from ttc_sim.serving.step_time import linear_table, step_table
from ttc_sim.simulation.outside import Reached, in_a_line, outside_measured
from ttc_sim.simulation.result import simulate

HERE = Path()


def pool(**keys: object) -> GpuPool:
    return GpuPool.model_validate({"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0} | keys)


def test_each_limit_is_said_from_the_first_sequence_and_token_beyond_it() -> None:
    for (gpu, kind), (most, longest) in measured_ranges().items():
        assert not outside("p", gpu, kind, most, longest)
        assert [one.what for one in outside("p", gpu, kind, most + 1, longest)] == ["batch"]
        assert [one.what for one in outside("p", gpu, kind, most, longest + 1)] == ["context"]
        assert [one.value for one in outside("p", gpu, kind, most + 1, longest + 2)] == [most + 1, longest + 2]
    assert [one.what for one in outside("p", "l40s", "dense", 1, 1)] == ["gpu"]
    assert [one.what for one in outside("p", "rtx4090", "experts", 1, 1)] == ["model"]


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"model": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "h100_sxm"}, []),
        ({"model": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "l40s"}, ["gpu"]),
        ({"model": "nvidia/NVIDIA-Nemotron-Nano-9B-v2", "gpu": "h200_sxm"}, ["model"]),
        ({"step_time": PhysicsStepTime(model="meta-llama/Llama-3.1-8B", gpu="H100")}, []),
        ({"step_time": LinearStepTime(base_s=1, per_prefill_token_s=0, per_sequence_s=0, per_kv_token_s=0)}, []),
    ],
)
def test_a_pool_is_looked_up_by_its_gpu_and_its_kind_of_model(keys: dict[str, object], what: list[str]) -> None:
    found = outside_measured("p", pool(**keys), None, [Reached(8, 2000)], HERE)
    assert [one.what for one in found] == what
    assert len(in_a_line(found)) == (1 if what else 0)
    assert not outside_measured("p", pool(**keys), None, [], HERE)  # nothing was served there


def test_a_profile_is_left_where_its_own_measurements_end() -> None:
    knots = np.array([0.0, 16.0]), np.array([0.0, 100.0]), np.array([0.0, 32.0]), np.array([0.0, 4096.0])
    table = step_table(2048, 256, attention=(*knots, np.zeros((2, 2, 2, 2))))
    measured = pool(step_time={"gpu_profile": "a"})
    for reached, what in ((Reached(32, 4096), []), (Reached(33, 100), ["batch"]), (Reached(1, 4097), ["context"])):
        assert [one.what for one in outside_measured("p", measured, table, [reached], HERE)] == what
    runs = [Reached(33, 10), Reached(1, 4097)]
    assert [one.what for one in outside_measured("p", measured, table, runs, HERE)] == ["batch", "context"]
    no_attention = linear_table(
        LinearStepTime(base_s=1, per_prefill_token_s=0, per_sequence_s=0, per_kv_token_s=0), 64, 8
    )
    assert not outside_measured("p", measured, no_attention, [Reached(8, 99)], HERE)


def test_a_simulation_says_what_it_left_and_nothing_of_what_it_did_not_use() -> None:
    result = simulate("competition-maths", "Always('thinker-32b')", requests=60, replications=1)
    summary = result.summary()
    assert [(one.deployment, one.what) for one in summary.outside_measured] == [("sky-32b-pool", "context")]
    assert any(note.startswith("outside of what was measured: sky-32b-pool: sequences of") for note in summary.notes)
    said = summary.as_json()["outside_measured"]
    assert isinstance(said, list)
    assert set(said[0]) == {"deployment", "what", "value", "measured"}
    run = result.runs[0]
    reached = run.reached["sky-32b-pool"]
    tokens = run.prompt_tokens + run.reasoning_tokens + run.visible_tokens
    assert reached.context_tokens == tokens.max()
    # Little's law over the time that its replicas were busy, prompts and queues included.
    busy_s = float(run.result.busy_s.max())
    assert 1 <= reached.sequences <= np.sum(run.result.finished_s - run.result.started_s) / busy_s + 1


def test_a_model_that_was_far_off_on_measured_servers_is_doubted_under_each_of_its_names() -> None:
    for (model, gpu), one in served_errors().items():
        checked = checked_pairs().get((model, gpu))
        far = one.percent > DOUBTFUL_PERCENT or (checked is not None and checked.tpot_percent > DOUBTFUL_PERCENT)
        assert (doubt(model, gpu) is not None) == far, (model, gpu)
        assert one.rows >= 3
    variant, base = (doubt(name, "h100_sxm") for name in ("R1-0528", "deepseek-ai/DeepSeek-R1"))
    assert (variant is None) == (base is None)
    assert doubt("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "l40s") is None
