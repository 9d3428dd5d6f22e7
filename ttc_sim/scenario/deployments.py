"""Where requests are served: API endpoints and GPU pools."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from ttc_sim.scenario.base import Model, NonNegative, Positive


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
    concurrency: Annotated[int, Field(ge=1)] | None = None
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
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
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
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    precision: Literal["FP8", "FP16", "BF16"] = "BF16"


def _step_time_kind(value: Any) -> str:
    given = value if isinstance(value, dict) else dict(value) if isinstance(value, Model) else {}
    return "layers" if "gpu_profile" in given else "physics" if "gpu" in given or "model" in given else "linear"


# Told apart by their keys.
StepTime = Annotated[
    Annotated[LinearStepTime, Tag("linear")]
    | Annotated[LayerStepTime, Tag("layers")]
    | Annotated[PhysicsStepTime, Tag("physics")],
    Discriminator(_step_time_kind),
]


class GpuPool(Model):
    """Replicas of a continuous-batching server.

    Args:
        replicas: how many.
        load_balancer: which replica a request goes to: in turn, the one with the fewest unfinished sequences, the one with the
            least KV cache in use or waited for, or by session (the conversation's, so that its prefix is found again).
        usd_per_replica_hour: price of one replica, busy or idle, while the policy uses the pool.
        step_time: how long an iteration takes: coefficients, measurements per layer, or a model and a GPU by name.
        max_num_seqs: most sequences in one replica's batch.
        max_num_batched_tokens: most tokens, prefill and decode together, in one iteration.
        kv_cache_tokens: that one replica's KV cache holds, in blocks of 16; without limit if left out.
        prefix_caching: find prompts again that another request, or an earlier turn, has left in the KV cache.
        scheduling: who waits first and is preempted last: who came first, or the lowest priority number of the source.
        queue_limit: sequences that may wait at one replica beyond a full batch; further requests are rejected.
        timeout_s: the client gives up so long after the request was made; the server then stops working on it.
    """

    kind: Literal["gpu_pool"]
    replicas: Annotated[int, Field(ge=1, le=10_000)]
    usd_per_replica_hour: NonNegative
    step_time: StepTime
    max_num_seqs: Annotated[int, Field(ge=1)] = 256
    max_num_batched_tokens: Annotated[int, Field(ge=1)] = 2048
    kv_cache_tokens: Annotated[int, Field(ge=16)] | None = None
    prefix_caching: bool = True
    load_balancer: Literal["round_robin", "least_outstanding", "least_kv", "session"] = "least_outstanding"
    scheduling: Literal["fcfs", "priority"] = "fcfs"
    queue_limit: Annotated[int, Field(ge=0)] | None = None
    timeout_s: Positive | None = None

    @model_validator(mode="after")
    def _batch_fits(self) -> GpuPool:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens {self.max_num_batched_tokens} must be at least max_num_seqs {self.max_num_seqs}"
            )
        return self


Deployment = Annotated[Api | GpuPool, Field(discriminator="kind")]
