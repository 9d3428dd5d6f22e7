"""Load experiments, simulated again by the physics model: what it says beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled
from ttc_sim.engine.work import single_stage
from ttc_sim.fidelity.beside import ANY_STEP, pair, read_json
from ttc_sim.scenario import GpuPool
from ttc_sim.serving import physics


def backtest_experiments(file: str | Path) -> dict[str, Any]:
    """Predicted beside measured means of the experiments of a file, each with coefficients fitted to all the others.

    Returns:
        ``experiments``: by experiment ``overall`` and per stage, ``e2e_mean``, ``ttft_mean`` and ``itl_mean`` (ms), and the
        peers' errors that the file carries; ``median_absolute_error_percent`` over experiments; ``fitting``.
    """
    file = Path(file)
    experiments = read_json(file)
    if not isinstance(experiments, list) or not experiments:
        raise InputError(file, "file", type(experiments).__name__, "a list of experiments")
    steps = [_decode_steps(one, file) for one in experiments]
    results = []
    for index, one in enumerate(experiments):
        others = [step for other, part in enumerate(steps) if other != index for step in part]
        known = physics.fit(others) if others else physics.Coefficients()
        results.append(_experiment(one, known, file))
    median = {
        name: float(np.median([abs(one["overall"][name]["error_percent"]) for one in results]))
        for name in ("e2e_mean", "ttft_mean", "itl_mean")
    }
    return {
        "experiments": results,
        "median_absolute_error_percent": median,
        "fitting": f"physics model; of each of {len(results)} experiments, coefficients of decoding are fitted to the others; "
        "time to first token adds two constants fitted to all 15 shipped stages",
    }


def _decode_steps(one: Mapping[str, Any], file: Path) -> list[physics.DecodeStep]:
    """Mean state of the batch in each stage, by Little's law from the measured times."""
    shared, stages = _load(one, file)
    shape = _architecture(one, file)
    gpu = _gpu(one, file)
    out = []
    for number, stage in enumerate(stages):
        measured = one["measured_ms"].get(f"stage_{number}", one["measured_ms"]["overall"])
        seconds = (measured["e2e_mean"] - measured["ttft_mean"]) / 1e3
        length = shared["output_len"]
        sequences = stage["rate"] * seconds
        context = shared["system_prompt_len"] + shared["question_len"] + length / 2
        out.append(
            physics.DecodeStep(
                shape,
                gpu,
                one["tensor_parallel"],
                _precision(one),
                sequences,
                sequences * context,
                seconds / (length - 1),
            )
        )
    return out


def _experiment(one: Mapping[str, Any], known: physics.Coefficients, file: Path) -> dict[str, Any]:
    shared, stages = _load(one, file)
    pool = GpuPool(
        kind="gpu_pool",
        replicas=1,
        usd_per_replica_hour=0.0,
        step_time=ANY_STEP,
        max_num_seqs=one["max_num_seqs"],
        max_num_batched_tokens=one["max_num_batched_tokens"],
        kv_cache_tokens=(one["kv_blocks"] - 1) * one.get("kv_block_size", 16),
    )
    table = physics.physics_table(
        _architecture(one, file),
        _gpu(one, file),
        one["tensor_parallel"],
        _precision(one),
        pool.max_num_batched_tokens,
        pool.max_num_seqs,
        known,
    )
    arrival_s, stage_of, begun_s = [], [], 0.0
    for number, stage in enumerate(stages):
        count = round(stage["rate"] * stage["duration"])
        # Poisson arrivals, given their number.
        draws = np.sort(uniforms(1, f"experiment/{one['id']}/{number}", count)[:, 0])
        arrival_s.append(begun_s + stage["duration"] * draws)
        stage_of.append(np.full(count, number))
        begun_s += stage["duration"]
    arrival, stage_index = np.concatenate(arrival_s), np.concatenate(stage_of)
    n = len(arrival)
    prompt = shared["system_prompt_len"] + shared["question_len"]
    # The measured first tokens show no time for prefill: the same users' prompts come again and are found in the cache.
    users = shared["num_unique_system_prompts"] * shared["num_users_per_system_prompt"]
    work = single_stage(
        arrival,
        np.full(n, prompt, dtype=np.int64),
        np.full(n, shared["output_len"], dtype=np.int64),
        prefix_id=np.arange(n, dtype=np.int64) % users,
    )
    got = compiled.run([work], ["server"], [pool], tables=[table])
    itl_s = (got.finished_s - got.first_token_s) / max(shared["output_len"] - 1, 1)
    late_s = physics.FRONTEND_S + physics.PIPELINE_STEPS * itl_s
    ttft_s = got.first_token_s - got.arrival_s + late_s
    e2e_s = got.finished_s - got.arrival_s + late_s

    def figures(measured: Mapping[str, float], here: Any) -> dict[str, dict[str, float]]:
        values = {"e2e_mean": e2e_s, "ttft_mean": ttft_s, "itl_mean": itl_s}
        out = {name: pair(measured[name], 1e3 * float(np.nanmean(part[here]))) for name, part in values.items()}
        for name, part in (("e2e", e2e_s), ("ttft", ttft_s)):
            for share in (90, 99):
                key = f"{name}_p{share}"
                if key in measured:
                    out[key] = pair(measured[key], 1e3 * float(np.nanquantile(part[here], share / 100)))
        return out

    return {
        "id": one["id"],
        "model": one["model"],
        "overall": figures(one["measured_ms"]["overall"], slice(None)),
        "stages": {
            f"stage_{number}": figures(one["measured_ms"][f"stage_{number}"], stage_index == number)
            for number in range(len(stages))
            if f"stage_{number}" in one["measured_ms"]
        },
        "peer_percent_error_overall": one.get("peer_percent_error_overall", {}),
    }


def _load(one: Mapping[str, Any], file: Path) -> tuple[Mapping[str, Any], Sequence[Mapping[str, float]]]:
    where = f"experiment {one.get('id', '?')}"
    for field in ("id", "model", "architecture", "gpu", "tensor_parallel", "precision", "max_num_seqs"):
        if field not in one:
            raise InputError(file, f"{where}.{field}", None, "a value")
    for field in ("max_num_batched_tokens", "kv_blocks", "measured_ms", "workload_spec"):
        if field not in one:
            raise InputError(file, f"{where}.{field}", None, "a value")
    try:
        load = one["workload_spec"]["inference_perf"]
        shared, stages = load["shared_prefix"], load["stages"]
        for field in (
            "num_unique_system_prompts",
            "num_users_per_system_prompt",
            "output_len",
            "question_len",
            "system_prompt_len",
        ):
            shared[field]
    except (KeyError, TypeError) as error:
        raise InputError(
            file, f"{where}.workload_spec", f"no {error}", "inference_perf with shared_prefix and stages"
        ) from None
    if shared["output_len"] < 2:
        raise InputError(file, f"{where}.output_len", shared["output_len"], "at least 2")
    return shared, stages


def _architecture(one: Mapping[str, Any], file: Path) -> physics.Architecture:
    return physics.architecture_from(one["architecture"], file, f"experiment {one['id']}.architecture")


def _gpu(one: Mapping[str, Any], file: Path) -> physics.Gpu:
    given = str(one["gpu"]).upper()
    for name, gpu in physics.GPUS.items():
        if name.upper() == given or name.upper().startswith(given):
            return gpu
    raise InputError(file, f"experiment {one['id']}.gpu", one["gpu"], "one of " + ", ".join(physics.GPUS))


def _precision(one: Mapping[str, Any]) -> str:
    return str(one["precision"]).upper()
