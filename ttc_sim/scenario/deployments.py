"""Where requests are served: API endpoints and GPU pools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from ttc_sim.base.errors import nearest
from ttc_sim.base.limits import MOST_GPUS, MOST_IN_BATCH, MOST_KV_TOKENS, MOST_REPLICAS, MOST_REQUESTS
from ttc_sim.base.plugins import Registry
from ttc_sim.scenario.base import Model, NonNegative, Positive, read_settings
from ttc_sim.scenario.gpu_prices import GPU_PRICES, GPUS_WITHOUT_PRICE


class Price(Model):
    """US dollars per million tokens: from a maintained price table, from the scenario, or both (the scenario wins).

    Args:
        provider: provider's name in the ``genai-prices`` table, with ``model``; ``on`` fixes the day (``YYYY-MM-DD``).
        reasoning_usd_per_mtok: hidden reasoning tokens; billed as output unless given.
    """

    provider: str | None = None
    model: str | None = None
    on: str | None = None
    input_usd_per_mtok: NonNegative | None = None
    cached_input_usd_per_mtok: NonNegative | None = None
    reasoning_usd_per_mtok: NonNegative | None = None
    output_usd_per_mtok: NonNegative | None = None


class Latency(Model):
    """A log-normal time: its median and 95th percentile; constant if only the median is given."""

    median_s: Positive
    p95_s: Positive | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Latency:
        if self.p95_s is not None and self.p95_s < self.median_s:
            raise ValueError(f"p95_s {self.p95_s} must be at least median_s {self.median_s}")
        return self


class Retry(Model):
    """What a client does on 429: wait ``base_s * 2**attempt``, at most ``max_s``, times a jitter of 0.5 to 1.5."""

    retries: Annotated[int, Field(ge=0, le=100)] = 6
    base_s: Positive = 1.0
    max_s: Positive = 60.0


class Api(Model):
    """An API endpoint: prices, limits, latency.

    Args:
        first_token: time from the accepted request to the first generated token, reasoning included.
        per_token: time per further generated token of one request.
        requests_per_minute: token-bucket limit; likewise ``tokens_per_minute`` (prompt and output together).
        concurrency: most requests in progress at once.
        timeout_s: the client gives up so long after the request was made; what was generated is billed all the same.
    """

    kind: Literal["api"]
    price: Price
    first_token: Latency
    per_token: Latency
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] | None = None
    timeout_s: Positive | None = None
    retry: Retry = Retry()


class LinearStepTime(Model):
    """Seconds of one iteration: base + per prompt token prefilled + per sequence decoding + per KV token attended to."""

    base_s: NonNegative
    per_prefill_token_s: NonNegative
    per_sequence_s: NonNegative
    per_kv_token_s: NonNegative

    @model_validator(mode="after")
    def _takes_time(self) -> LinearStepTime:
        if self.base_s + self.per_sequence_s <= 0:
            raise ValueError("base_s and per_sequence_s cannot both be 0: a decode step would take no time")
        if self.base_s + self.per_prefill_token_s <= 0:
            raise ValueError("base_s and per_prefill_token_s cannot both be 0: taking in a prompt would take no time")
        return self


class LayerStepTime(Model):
    """Step times from microseconds per layer, measured on the GPU; see :mod:`ttc_sim.serving.gpu_profile`.

    Args:
        gpu_profile: folder of the measurements, from the scenario's own folder.
        tensor_parallel: GPUs of one replica.
        host_s: seconds per iteration in which the GPU waits for the host.
    """

    gpu_profile: str
    tensor_parallel: Annotated[int, Field(ge=1, le=MOST_GPUS)] = 1
    host_s: NonNegative = 0.0


class PhysicsStepTime(Model):
    """Step times from the model's shape and the GPU's data sheet; see :mod:`ttc_sim.serving.physics`.

    Args:
        model: a name that the physics model knows, or the model's ``config.json``, from the scenario's own folder.
        gpu: name of the GPU.
        tensor_parallel: GPUs of one replica, joined by NVLink.
        precision: of the weights and matrix products.
    """

    model: str
    gpu: str
    tensor_parallel: Annotated[int, Field(ge=1, le=MOST_GPUS)] = 1
    precision: Literal["FP8", "FP16", "BF16"] = "BF16"


class StepTime(Model):
    """Step times that a scenario names by their ``kind``: the base of those that a user adds by :func:`ttc_sim.register`.

    Its fields are the keys of ``step_time``; the table must follow from them, and from files that they name, alone.
    :class:`ttc_sim.testing.StepTimeConformance` tests it.

    Args:
        kind: name of the kind.
    """

    kind: str

    def table(self, max_tokens: int, max_sequences: int, folder: Path) -> object:
        """A :class:`ttc_sim.serving.step_time.StepTable`, as :func:`ttc_sim.serving.step_time.step_table` puts it together.

        Args:
            max_tokens: most tokens in a batch, prefill and decode together.
            max_sequences: most sequences in a batch.
            folder: that relative paths start from.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method table(max_tokens, max_sequences, folder)")


# A new kind is one file of serving/ and one name here, as "module:Class".
STEP_TIMES: Registry[StepTime] = Registry("step_times", StepTime, {}, key="kind")


def _read_step_time(given: Any) -> Any:
    """By its ``kind``, or, of the forms that have none, by its keys."""
    if not isinstance(given, dict):
        if not isinstance(given, (LinearStepTime, LayerStepTime, PhysicsStepTime, StepTime)):
            raise ValueError("a mapping with the keys of a step time")
        return given
    if "kind" in given and not len(STEP_TIMES):
        raise ValueError(
            "no 'kind': the shipped step times are told apart by their other keys, and no other is installed"
        )
    if "kind" in given:
        return read_settings(STEP_TIMES, given)
    if "gpu_profile" in given:
        return LayerStepTime.model_validate(given)
    return (PhysicsStepTime if "gpu" in given or "model" in given else LinearStepTime).model_validate(given)


AnyStepTime = Annotated[
    LinearStepTime | LayerStepTime | PhysicsStepTime | SerializeAsAny[StepTime], BeforeValidator(_read_step_time)
]


Precision = Literal["bf16", "fp8", "fp4", "int4"]

# What vLLM's server takes unless told otherwise, by the GPU's memory (EngineArgs, 0.11 to 0.19).
LARGE_GPU_LIMITS = {"max_num_seqs": 1024, "max_num_batched_tokens": 8192}
SMALL_GPU_LIMITS = {"max_num_seqs": 256, "max_num_batched_tokens": 2048}
SMALL_GPUS = ("a100_sxm", "a100_pcie", "a30", "l4", "l40s", "b60")


def limits_of(gpu: str) -> dict[str, int]:
    """Limits of a batch on that GPU, unless the scenario gives its own."""
    return SMALL_GPU_LIMITS if gpu in SMALL_GPUS else LARGE_GPU_LIMITS


class GpuPool(Model):
    """Replicas of a continuous-batching server.

    Args:
        replicas: how many.
        load_balancer: which replica a request goes to: in turn, the one with the fewest unfinished sequences, the one with the
            least KV cache in use or waited for, or by session (the conversation's, so that its prefix is found again).
        usd_per_replica_hour: price of one replica, busy or idle, while the policy uses the pool. With ``gpu``, that GPU's list
            price (:mod:`ttc_sim.scenario.gpu_prices`) times the GPUs of a replica unless given.
        step_time: how long an iteration takes: coefficients, measurements per layer, a model and a data sheet by name, or a
            ``kind`` of one's own (:class:`StepTime`).
        model: instead of ``step_time``, with ``gpu``: a model of the catalogue of measured GPU operators (``ttc-sim gpus``).
        gpu: a GPU of the catalogue, such as ``h200_sxm``.
        tensor_parallel: GPUs of one replica.
        expert_parallel: experts are divided among the GPUs whole, instead of each being cut.
        precision: of the weights: bf16, fp8, fp4 or int4; the model's own if left out.
        backend: serving framework: vllm, sglang or trtllm.
        max_num_seqs: most sequences in one replica's batch.
        max_num_batched_tokens: most tokens, prefill and decode together, in one iteration.
        kv_cache_tokens: that one replica's KV cache holds, in blocks of 16. If left out, what fits beside the weights of a
            model of the catalogue, and without limit otherwise.
        prefix_caching: find prompts again that another request, or an earlier turn, has left in the KV cache.
        scheduling: who waits first and is preempted last: who came first, or the lowest priority number of the source.
        queue_limit: sequences that may wait at one replica beyond a full batch; further requests are rejected.
        timeout_s: the client gives up so long after the request was made; the server then stops working on it.
    """

    kind: Literal["gpu_pool"]
    replicas: Annotated[int, Field(ge=1, le=MOST_REPLICAS)]
    usd_per_replica_hour: NonNegative | None = None
    step_time: AnyStepTime | None = None
    model: str | None = None
    gpu: str | None = None
    tensor_parallel: Annotated[int, Field(ge=1, le=MOST_GPUS)] | None = None
    expert_parallel: bool | None = None
    precision: Precision | None = None
    backend: Literal["vllm", "sglang", "trtllm"] | None = None
    max_num_seqs: Annotated[int, Field(ge=1, le=MOST_IN_BATCH)] = 256
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=MOST_IN_BATCH)] = 2048
    kv_cache_tokens: Annotated[int, Field(ge=16, le=MOST_KV_TOKENS)] | None = None
    prefix_caching: bool = True
    load_balancer: Literal["round_robin", "least_outstanding", "least_kv", "session"] = "least_outstanding"
    scheduling: Literal["fcfs", "priority"] = "fcfs"
    queue_limit: Annotated[int, Field(ge=0, le=MOST_REQUESTS)] | None = None
    timeout_s: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def _limits_of_the_gpu(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("gpu"), str):
            return given
        return {**limits_of(given["gpu"]), **given}

    @field_validator("gpu")
    @classmethod
    def _known_gpu(cls, gpu: str | None) -> str | None:
        known = {*GPU_PRICES, *GPUS_WITHOUT_PRICE}
        if gpu is not None and gpu not in known:
            raise ValueError(nearest(gpu, known))
        return gpu

    @model_validator(mode="after")
    def _served_by(self) -> GpuPool:
        named = [name for name in CATALOGUE_KEYS if getattr(self, name) is not None]
        if self.step_time is not None and named:
            raise ValueError(f"step_time and {named[0]} to exclude each other")
        if self.step_time is None and (self.model is None or self.gpu is None):
            missing = "gpu" if self.model is not None else "model" if self.gpu is not None else "step_time"
            raise ValueError(f"{missing} to be given: either step_time, or a model and a gpu of the catalogue")
        if self.usd_per_replica_hour is None and self.gpu not in GPU_PRICES:
            what = "step_time says nothing of it" if self.gpu is None else f"no list price of {self.gpu} is known"
            raise ValueError(f"usd_per_replica_hour to be given: {what}")
        return self

    @property
    def gpus(self) -> int:
        """GPUs of one replica, as far as the scenario says."""
        return self.tensor_parallel or 1

    @property
    def hourly_usd(self) -> float:
        """Price of one replica: the scenario's own, or the list price of its GPUs."""
        if self.usd_per_replica_hour is not None:
            return self.usd_per_replica_hour
        return self.gpus * GPU_PRICES[str(self.gpu)].usd_per_hour

    @model_validator(mode="after")
    def _batch_fits(self) -> GpuPool:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens {self.max_num_batched_tokens} must be at least max_num_seqs {self.max_num_seqs}"
            )
        return self


CATALOGUE_KEYS = ("model", "gpu", "tensor_parallel", "expert_parallel", "precision", "backend")

Deployment = Annotated[Api | GpuPool, Field(discriminator="kind")]
