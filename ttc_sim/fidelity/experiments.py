"""Load experiments, simulated again by the physics model: what it says beside what was measured.

The load is that of inference-perf (kubernetes-sigs), which made it: of each stage ``int(rate * duration)`` requests, exponential
intervals stretched to the stage's duration, and the next stage a second after the last answer of the one before. Users send their
prompt again and again: with ``enable_multi_turn_chat`` too prompts do not grow with the answers before, which the measured first
tokens show, and which was traced for these experiments (inference-sim, issue 481).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

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
from ttc_sim.serving.measured_stages import MeasuredStage, shipped_stages
from ttc_sim.serving.model_context import context_in, context_of_model

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
    cpu_kv_blocks: Annotated[int, Field(ge=0)] = 0
    max_model_len: Count | None = None
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
    def longest(self) -> int | None:
        """Most tokens of a prompt and its answer: of the server, or that its model was made for; ``None`` where it is not known."""
        known = context_in(self.architecture, f"experiment {self.id}", "architecture") or context_of_model(self.model)
        return self.max_model_len or known

    @property
    def load(self) -> InferencePerf:
        """What was sent."""
        return self.workload_spec.inference_perf


@one_thread()
def backtest_experiments(file: str | Path) -> dict[str, Any]:
    """Predicted beside measured means of the experiments of a file, each with coefficients fitted to other models.

    Fitted are the file's experiments and the shipped stages (:mod:`ttc_sim.serving.measured_stages`), without any of the model that
    is predicted, whatever its GPUs and load.

    Returns:
        ``experiments``: by experiment ``overall`` and per stage, ``e2e_mean``, ``ttft_mean`` and ``itl_mean`` (ms), the number
        of requests ``rejected`` (the figures are of the others), ``notes`` on what the measurement leaves open, and the peers'
        errors that the file carries; ``excluded``: the ``id`` of those that cannot be as they are written down, and the ``reason``;
        ``median_absolute_error_percent`` over experiments; ``fitting``.

    Raises:
        InputError: a file that cannot be read, a value that is missing or cannot be, an experiment of which no request would
            be completed.
    """
    file = Path(file)
    experiments = load_experiments(file)
    reasons = [cannot_be(one, file) for one in experiments]
    stages = [stages_of(one, file) for one in experiments]
    known = [stage for part, reason in zip(stages, reasons, strict=True) if reason is None for stage in part]
    results, excluded = [], []
    for one, reason in zip(experiments, reasons, strict=True):
        if reason is not None:
            excluded.append({"id": one.id, "model": one.model, "reason": reason})
            continue
        shape = _architecture(one, file)
        others = [s for s in (*shipped_stages(), *known) if s.model != one.model and s.step.architecture != shape]
        results.append(_experiment(one, _fitted(tuple(dict.fromkeys(others))), file))
    errors = {name: [one["overall"][name]["error_percent"] for one in results] for name in _MEANS}
    return {
        "experiments": results,
        "excluded": excluded,
        "median_absolute_error_percent": {
            name: float(np.median([abs(one) for one in of if one is not None]))
            if any(one is not None for one in of)
            else None
            for name, of in errors.items()
        },
        "fitting": "physics model; coefficients of decoding and of the time to first token are fitted to stages of other models: "
        f"those of the file and the {len(shipped_stages())} shipped ones",
    }


_MEANS = ("e2e_mean", "ttft_mean", "itl_mean")
BETWEEN_STAGES_S = 1.0
"""Seconds that inference-perf waits after a stage's last answer, unless told otherwise."""
LEAST_OF_READING = 0.95
"""Share of the time that reading weights and KV takes at the data sheet's bandwidth, below which no measured iteration can be."""


class Fitted(NamedTuple):
    """What stages of other models say."""

    known: physics.Coefficients
    frontend_s: float
    pipeline_steps: float


@lru_cache(maxsize=64)
def _fitted(stages: tuple[MeasuredStage, ...]) -> Fitted:
    if not stages:
        return Fitted(physics.Coefficients(), physics.FRONTEND_S, physics.PIPELINE_STEPS)
    timed = [(stage.step.seconds, stage.first_token_s) for stage in stages if stage.first_token_s > 0]
    first = physics.fit_first_token(timed) if timed else (physics.FRONTEND_S, physics.PIPELINE_STEPS)
    return Fitted(physics.fit([stage.step for stage in stages]), *first)


def load_experiments(file: Path) -> list[Experiment]:
    """Read a file of experiments.

    Raises:
        InputError: a file that cannot be read, a value that is missing or cannot be.
    """
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


def stages_of(one: Experiment, file: Path) -> list[MeasuredStage]:
    """Mean state of the batch in each stage, by Little's law from the measured times.

    Raises:
        InputError: an architecture or a GPU that cannot be.
    """
    shape, gpu, shared = _architecture(one, file), _gpu(one, file), one.load.shared_prefix
    out = []
    for number, stage in enumerate(one.load.stages):
        measured = one.measured_ms.get(f"stage_{number}", one.measured_ms["overall"])
        seconds = (measured.e2e_mean - measured.ttft_mean) / 1e3
        length = shared.output_len
        sequences = stage.rate * seconds
        context = shared.system_prompt_len + shared.question_len + length / 2
        step = physics.DecodeStep(
            shape,
            gpu,
            one.tensor_parallel,
            one.precision.upper(),
            sequences,
            sequences * context,
            seconds / (length - 1),
        )
        out.append(MeasuredStage(one.model, step, measured.ttft_mean / 1e3))
    return out


def cannot_be(one: Experiment, file: Path) -> str | None:
    """Why an experiment did not go as it is written down: answers ended early, or the server refuses such requests."""
    shared = one.load.shared_prefix
    whole = shared.system_prompt_len + shared.question_len + shared.output_len
    if one.longest is not None and whole > one.longest:
        return (
            f"prompts and answers have {whole:,} tokens, the model at most {one.longest:,}: vLLM refuses such requests"
        )
    for stage in stages_of(one, file):
        least_s = physics.reading_seconds(stage.step)
        if stage.step.seconds < LEAST_OF_READING * least_s:
            return (
                f"measured is {1e3 * stage.step.seconds:.2g} ms per token of answers of {shared.output_len:,} tokens, where "
                f"reading weights and KV alone takes {1e3 * least_s:.2g} ms: answers ended early, and how long they were is not "
                "written down"
            )
    return None


def _experiment(one: Experiment, fitted: Fitted, file: Path) -> dict[str, Any]:
    shared = one.load.shared_prefix
    pool = _pool(one, file)
    table = physics.physics_table(
        _architecture(one, file),
        _gpu(one, file),
        one.tensor_parallel,
        one.precision.upper(),
        pool.max_num_batched_tokens,
        pool.max_num_seqs,
        fitted.known,
    )
    prompt = shared.system_prompt_len + shared.question_len
    # The measured first tokens show no time for prefill: the same users' prompts come again and are found in the cache.
    users = shared.num_unique_system_prompts * shared.num_users_per_system_prompt
    arrival, stage_index = np.zeros(0), np.zeros(0)
    begun_s = 0.0
    for number, offsets in enumerate(_arrivals(one, file)):
        arrival = np.concatenate([arrival, begun_s + offsets])
        stage_index = np.concatenate([stage_index, np.full(len(offsets), float(number))])
        n = len(arrival)
        if not len(offsets):
            continue
        work = single_stage(
            arrival,
            np.full(n, prompt, dtype=np.int64),
            np.full(n, shared.output_len, dtype=np.int64),
            prefix_id=np.arange(n, dtype=np.int64) % users,
        )
        # What comes later changes nothing of a stage that has drained; what it leaves in the cache is there for the next.
        got = compiled.run([work], ["server"], [pool], tables=[table])
        begun_s = float(np.nanmax(np.append(got.finished_s, arrival[-1]))) + BETWEEN_STAGES_S
    done = got.status == COMPLETED
    if not done.any():
        expected = f"room for a request of {prompt + shared.output_len:,} tokens"
        raise InputError(file, f"experiment {one.id}.kv_blocks", one.kv_blocks, expected)
    itl_s = (got.finished_s - got.first_token_s) / (shared.output_len - 1)
    late_s = fitted.frontend_s + fitted.pipeline_steps * itl_s
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
        "notes": _notes(one, int(got.preemptions.sum())),
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


def _notes(one: Experiment, preemptions: int) -> list[str]:
    notes = []
    measured, length = one.measured_ms["overall"], one.load.shared_prefix.output_len
    if measured.itl_mean > 0:
        chunks = (measured.e2e_mean - measured.ttft_mean) / measured.itl_mean + 1
        if abs(chunks / length - 1) > 0.05:
            notes.append(
                f"answers of {length:,} tokens came in {chunks:,.0f} pieces: time between tokens was measured between pieces "
                "with text, and is not that of an iteration"
            )
    if one.cpu_kv_blocks and preemptions:
        notes.append(
            f"{preemptions:,} preemptions: blocks that the server moved to the host's memory are computed anew here"
        )
    return notes


def _arrivals(one: Experiment, file: Path) -> list[F64]:
    """Seconds from each stage's begin of its requests."""
    out = []
    for number, stage in enumerate(one.load.stages):
        count = int(stage.rate * stage.duration)
        if count > MOST_REQUESTS:
            raise InputError(file, f"experiment {one.id}.stages.{number}", count, f"at most {MOST_REQUESTS:,} requests")
        intervals = -np.log(uniforms(1, f"experiment/{one.id}/{number}", count)[:, 0])
        out.append(stage.duration * np.cumsum(intervals) / intervals.sum() if count else intervals)
    if not sum(map(len, out)):
        raise InputError(
            file, f"experiment {one.id}.stages", "less than one request", "a rate and a duration of at least one"
        )
    return out


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
