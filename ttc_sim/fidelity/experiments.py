"""Load experiments, simulated again by the physics model: what it says beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ttc_sim.base.draws import F64, uniforms
from ttc_sim.base.errors import InputError, from_validation
from ttc_sim.base.limits import MOST_REQUESTS, MOST_TOKENS
from ttc_sim.base.threads import one_thread
from ttc_sim.engine import compiled
from ttc_sim.engine.work import COMPLETED, single_stage
from ttc_sim.fidelity.beside import ANY_STEP, pair
from ttc_sim.files.documents import read_json
from ttc_sim.scenario import GpuPool
from ttc_sim.scenario.base import NonNegative, Positive, Rate
from ttc_sim.serving import physics

Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST_REQUESTS)]
Tokens = Annotated[int, Field(ge=0, le=MOST_TOKENS)]


class _Read(BaseModel):
    """A part of the file, which holds more than is read here."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Stage(_Read):
    """Requests at a constant rate for so many seconds."""

    rate: Rate
    duration: Positive


class SharedPrefix(_Read):
    """What each user sends: a system prompt in common with others, and a question of their own."""

    num_unique_system_prompts: Count
    num_users_per_system_prompt: Count
    system_prompt_len: Tokens
    question_len: Annotated[int, Field(ge=1, le=MOST_TOKENS)]
    output_len: Annotated[int, Field(ge=2, le=MOST_TOKENS)]


class InferencePerf(_Read):
    """The load, in the terms of the tool that made it."""

    shared_prefix: SharedPrefix
    stages: Annotated[list[Stage], Field(min_length=1)]


class WorkloadSpec(_Read):
    """Where the load stands in the file."""

    inference_perf: InferencePerf


class Measured(_Read):
    """Milliseconds."""

    e2e_mean: Positive
    ttft_mean: NonNegative
    itl_mean: NonNegative
    e2e_p90: NonNegative | None = None
    e2e_p99: NonNegative | None = None
    ttft_p90: NonNegative | None = None
    ttft_p99: NonNegative | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Measured:
        if self.ttft_mean >= self.e2e_mean:
            raise ValueError("ttft_mean below e2e_mean")
        return self


class Experiment(_Read):
    """A load experiment on one server."""

    id: str
    model: str
    architecture: dict[str, Any]
    gpu: str
    tensor_parallel: Count
    precision: str
    max_num_seqs: Count
    max_num_batched_tokens: Count
    kv_blocks: Annotated[int, Field(ge=2)]
    kv_block_size: Count = 16
    workload_spec: WorkloadSpec
    measured_ms: dict[str, Measured]
    peer_percent_error_overall: dict[str, dict[str, Finite | None]] = {}

    @model_validator(mode="after")
    def _measured_overall(self) -> Experiment:
        if "overall" not in self.measured_ms:
            raise ValueError("overall in measured_ms")
        return self

    @field_validator("precision")
    @classmethod
    def _of_weights(cls, precision: str) -> str:
        if precision.upper() not in physics.WEIGHT_BYTES:
            raise ValueError(" or ".join(physics.WEIGHT_BYTES))
        return precision

    @property
    def load(self) -> InferencePerf:
        """What was sent."""
        return self.workload_spec.inference_perf


@one_thread()
def backtest_experiments(file: str | Path) -> dict[str, Any]:
    """Predicted beside measured means of the experiments of a file, each with coefficients fitted to all the others.

    Returns:
        ``experiments``: by experiment ``overall`` and per stage, ``e2e_mean``, ``ttft_mean`` and ``itl_mean`` (ms), the number
        of requests ``rejected`` (the figures are of the others), and the peers' errors that the file carries;
        ``median_absolute_error_percent`` over experiments; ``fitting``.

    Raises:
        InputError: a file that cannot be read, a value that is missing or cannot be, an experiment of which no request would
            be completed.
    """
    file = Path(file)
    experiments = _load_experiments(file)
    steps = [_decode_steps(one, file) for one in experiments]
    results = []
    for index, one in enumerate(experiments):
        others = [step for other, part in enumerate(steps) if other != index for step in part]
        known = physics.fit(others) if others else physics.Coefficients()
        results.append(_experiment(one, known, file))
    errors = {name: [one["overall"][name]["error_percent"] for one in results] for name in _MEANS}
    return {
        "experiments": results,
        "median_absolute_error_percent": {
            name: float(np.median([abs(one) for one in of if one is not None]))
            if any(one is not None for one in of)
            else None
            for name, of in errors.items()
        },
        "fitting": f"physics model; of each of {len(results)} experiments, coefficients of decoding are fitted to the others; "
        "time to first token adds two constants fitted to all 15 shipped stages",
    }


_MEANS = ("e2e_mean", "ttft_mean", "itl_mean")


def _load_experiments(file: Path) -> list[Experiment]:
    raw = read_json(file)
    if not isinstance(raw, list) or not raw:
        raise InputError(file, "file", type(raw).__name__, "a list of experiments")
    out = []
    for number, one in enumerate(raw):
        try:
            out.append(Experiment.model_validate(one))
        except ValidationError as error:
            name = one.get("id", number) if isinstance(one, dict) else number
            found = from_validation(file, error, "values")
            raise InputError(file, f"experiment {name}.{found.field}", found.value, found.expected) from None
    return out


def _decode_steps(one: Experiment, file: Path) -> list[physics.DecodeStep]:
    """Mean state of the batch in each stage, by Little's law from the measured times."""
    shape = _architecture(one, file)
    gpu = _gpu(one, file)
    shared = one.load.shared_prefix
    out = []
    for number, stage in enumerate(one.load.stages):
        measured = one.measured_ms.get(f"stage_{number}", one.measured_ms["overall"])
        seconds = (measured.e2e_mean - measured.ttft_mean) / 1e3
        length = shared.output_len
        sequences = stage.rate * seconds
        context = shared.system_prompt_len + shared.question_len + length / 2
        out.append(
            physics.DecodeStep(
                shape,
                gpu,
                one.tensor_parallel,
                one.precision.upper(),
                sequences,
                sequences * context,
                seconds / (length - 1),
            )
        )
    return out


def _experiment(one: Experiment, known: physics.Coefficients, file: Path) -> dict[str, Any]:
    shared = one.load.shared_prefix
    pool = _pool(one, file)
    table = physics.physics_table(
        _architecture(one, file),
        _gpu(one, file),
        one.tensor_parallel,
        one.precision.upper(),
        pool.max_num_batched_tokens,
        pool.max_num_seqs,
        known,
    )
    arrival, stage_index = _arrivals(one, file)
    n = len(arrival)
    prompt = shared.system_prompt_len + shared.question_len
    # The measured first tokens show no time for prefill: the same users' prompts come again and are found in the cache.
    users = shared.num_unique_system_prompts * shared.num_users_per_system_prompt
    work = single_stage(
        arrival,
        np.full(n, prompt, dtype=np.int64),
        np.full(n, shared.output_len, dtype=np.int64),
        prefix_id=np.arange(n, dtype=np.int64) % users,
    )
    got = compiled.run([work], ["server"], [pool], tables=[table])
    done = got.status == COMPLETED
    if not done.any():
        expected = f"room for a request of {prompt + shared.output_len:,} tokens"
        raise InputError(file, f"experiment {one.id}.kv_blocks", one.kv_blocks, expected)
    itl_s = (got.finished_s - got.first_token_s) / (shared.output_len - 1)
    late_s = physics.FRONTEND_S + physics.PIPELINE_STEPS * itl_s
    predicted = {
        "e2e": got.finished_s - got.arrival_s + late_s,
        "ttft": got.first_token_s - got.arrival_s + late_s,
        "itl": itl_s,
    }
    stages = {f"stage_{number}": stage_index == number for number in range(len(one.load.stages))}
    return {
        "id": one.id,
        "model": one.model,
        "overall": _figures(one.measured_ms["overall"], {name: s[done] for name, s in predicted.items()}),
        "stages": {
            name: _figures(one.measured_ms[name], {figure: s[here & done] for figure, s in predicted.items()})
            for name, here in stages.items()
            if name in one.measured_ms and (here & done).any()
        },
        "rejected": int((~done).sum()),
        "peer_percent_error_overall": one.peer_percent_error_overall,
    }


def _pool(one: Experiment, file: Path) -> GpuPool:
    try:
        return GpuPool(
            kind="gpu_pool",
            replicas=1,
            usd_per_replica_hour=0.0,
            step_time=ANY_STEP,
            max_num_seqs=one.max_num_seqs,
            max_num_batched_tokens=one.max_num_batched_tokens,
            kv_cache_tokens=(one.kv_blocks - 1) * one.kv_block_size,
        )
    except ValidationError as error:
        found = from_validation(file, error, "server")
        raise InputError(file, f"experiment {one.id}.{found.field}", found.value, found.expected) from None


def _arrivals(one: Experiment, file: Path) -> tuple[F64, F64]:
    """Times of the requests of all stages, one after another, and the stage of each: Poisson arrivals, given their number."""
    times, stage_of, begun_s = [], [], 0.0
    for number, stage in enumerate(one.load.stages):
        count = round(stage.rate * stage.duration)
        if count > MOST_REQUESTS:
            raise InputError(file, f"experiment {one.id}.stages.{number}", count, f"at most {MOST_REQUESTS:,} requests")
        draws = np.sort(uniforms(1, f"experiment/{one.id}/{number}", count)[:, 0])
        times.append(begun_s + stage.duration * draws)
        stage_of.append(np.full(count, float(number)))
        begun_s += stage.duration
    if not sum(map(len, times)):
        raise InputError(
            file, f"experiment {one.id}.stages", "less than one request", "a rate and a duration of at least one"
        )
    return np.concatenate(times), np.concatenate(stage_of)


def _figures(measured: Measured, predicted_s: Mapping[str, F64]) -> dict[str, dict[str, float | None]]:
    out = {}
    for name, here in predicted_s.items():
        out[f"{name}_mean"] = pair(getattr(measured, f"{name}_mean"), 1e3 * float(np.mean(here)))
        for share in (90, 99):
            beside = getattr(measured, f"{name}_p{share}", None)
            if beside is not None:
                out[f"{name}_p{share}"] = pair(beside, 1e3 * float(np.quantile(here, share / 100)))
    return out


def _architecture(one: Experiment, file: Path) -> physics.Architecture:
    return physics.architecture_from(one.architecture, file, f"experiment {one.id}.architecture")


def _gpu(one: Experiment, file: Path) -> physics.Gpu:
    given = one.gpu.upper()
    for name, gpu in physics.GPUS.items():
        if name.upper() == given or name.upper().startswith(given):
            return gpu
    raise InputError(file, f"experiment {one.id}.gpu", one.gpu, "one of " + ", ".join(physics.GPUS))
