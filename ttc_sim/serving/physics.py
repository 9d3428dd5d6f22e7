"""Step times from a model's architecture and a GPU's data sheet.

A roofline: every part takes as long as its bytes take through memory or its operations through the tensor cores, whichever is
longer, at efficiencies fitted to measured vLLM servers (:class:`Coefficients`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np
from scipy.optimize import least_squares

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.files.documents import read_json
from ttc_sim.serving.model_shape import check_heads, check_shape, experts_of
from ttc_sim.serving.step_time import StepTable, step_table


@dataclass(frozen=True)
class Architecture:
    """Shape of a decoder-only transformer.

    Attributes:
        layers, hidden, heads, kv_heads, head_dim, vocab: as published in its ``config.json``.
        ffn: width of a dense feed-forward block, or of the experts' layers without experts.
        experts: experts of a layer; 0 for a dense model.
        experts_per_token: experts that a token is routed to.
        expert_ffn: width of one expert.
        shared_ffn: width of the expert that every token passes, 0 if there is none.
        moe_every: one layer in so many has experts.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    ffn: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    moe_every: int = 1

    def moe_layers(self, layers: int | None = None) -> int:
        """Layers with experts, among all or the first so many."""
        return (self.layers if layers is None else layers) // self.moe_every if self.experts else 0


ARCHITECTURES: dict[str, Architecture] = {
    "meta-llama/Llama-3.1-8B": Architecture(32, 4096, 32, 8, 128, 128256, ffn=14336),
    "Qwen/Qwen3-32B": Architecture(64, 5120, 64, 8, 128, 151936, ffn=25600),
    "Qwen/Qwen3-30B-A3B-Instruct-2507": Architecture(
        48, 2048, 32, 4, 128, 151936, experts=128, experts_per_token=8, expert_ffn=768
    ),
    "meta-llama/Llama-3.1-70B-Instruct": Architecture(80, 8192, 64, 8, 128, 128256, ffn=28672),
    "mistralai/Mistral-Nemo-Instruct-2407": Architecture(40, 5120, 32, 8, 128, 131072, ffn=14336),
    "01-ai/Yi-34B": Architecture(60, 7168, 56, 8, 128, 64000, ffn=20480),
    "meta-llama/Llama-2-7b-hf": Architecture(32, 4096, 32, 32, 128, 32000, ffn=11008),
    "RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic": Architecture(
        48, 5120, 40, 8, 128, 202048, ffn=16384, experts=16, experts_per_token=1, expert_ffn=8192, shared_ffn=8192
    ),
}


def architecture_from(config: Mapping[str, Any], where: str | Path, field: str) -> Architecture:
    """Shape of a model from the keys of its ``config.json`` on Hugging Face.

    Args:
        config: the file's content; ``where``: the file, and ``field`` the key, that an error names.

    Raises:
        InputError: a key that is missing, or a number that no model has.

    >>> config = {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8}
    >>> architecture_from({**config, "intermediate_size": 14336, "vocab_size": 128256}, "config.json", "").head_dim
    128
    """
    check_shape(config, where, field)
    for key in ("num_attention_heads", "hidden_size", "num_hidden_layers", "vocab_size"):
        if config.get(key) is None:
            raise InputError(where, field, f"no {key}", "the model's shape as in its config.json")
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        experts = experts_of(config)
        moe = {}
        if experts:
            apart = "intermediate_size_mlp" in config  # Llama 4 names the experts' width like the dense one's elsewhere
            moe = {
                "experts": experts,
                "experts_per_token": config["num_experts_per_tok"],
                "expert_ffn": config.get("moe_intermediate_size") or config["intermediate_size"],
                "moe_every": config.get("interleave_moe_layer_step") or 1,
                "shared_ffn": config["intermediate_size"] if apart else 0,
            }
        made = Architecture(
            layers=config["num_hidden_layers"],
            hidden=hidden,
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or hidden // heads,
            ffn=config.get("intermediate_size_mlp") or config["intermediate_size"],
            vocab=config["vocab_size"],
            **moe,
        )
        if None in vars(made).values():
            raise KeyError("intermediate_size" if made.ffn is None else "num_experts_per_tok")
        return made
    except KeyError as error:
        raise InputError(where, field, f"no {error.args[0]}", "the model's shape as in its config.json") from None


def load_architecture(path: str | Path) -> Architecture:
    """Read a model's ``config.json``.

    Raises:
        InputError: no such file, not JSON, or a key that is missing.
    """
    path = Path(path)
    config = read_json(path, "model", f"an existing config.json, or {nearest(path.name, ARCHITECTURES)}")
    if not isinstance(config, dict):
        raise InputError(path, "file", type(config).__name__, "an object with the model's shape")
    return architecture_from(config, path, "file")


@dataclass(frozen=True)
class Gpu:
    """Data sheet of a GPU.

    Attributes:
        tflops_16bit: dense tensor-core operations per second / 1e12, 16-bit.
        tflops_8bit: the same, FP8.
        tb_per_s: bytes per second of its memory / 1e12.
    """

    tflops_16bit: float
    tflops_8bit: float
    tb_per_s: float


GPUS: dict[str, Gpu] = {
    "H100": Gpu(989.5, 1979.0, 3.35),
    "H200": Gpu(989.5, 1979.0, 4.8),
    "A100": Gpu(312.0, 312.0, 2.039),
    "L40S": Gpu(362.0, 733.0, 0.864),
    "RTX4090": Gpu(165.0, 330.0, 1.008),
    "RTXPRO6000": Gpu(503.0, 1006.0, 1.792),
}

T = TypeVar("T")

WEIGHT_BYTES = {"FP8": 1, "FP16": 2, "BF16": 2}
ACTIVATION_BYTES = 2  # activations and LM head stay in 16 bits beside FP8 weights too
KV_BYTES = {"auto": ACTIVATION_BYTES, "bf16": ACTIVATION_BYTES, "fp8": 1}

ROUTING_SKEW = 0.8
"""How unequally experts are used: popularity falls as ``rank ** -skew``. 0.8 fits three runs of Llama-4 Scout better than 0."""


def activated_experts(tokens: F64, shape: Architecture, skew: float = ROUTING_SKEW) -> F64:
    """Mean number of experts of a layer that so many tokens activate, if an expert's popularity falls as ``rank ** -skew``."""
    active: F64 = (1 - (1 - _popularity(shape, skew)[None, :]) ** tokens[:, None]).sum(axis=1)
    return active


def on_busiest_gpu(tokens: F64, shape: Architecture, gpus: int, skew: float = ROUTING_SKEW) -> tuple[F64, F64]:
    """Of experts divided whole among GPUs, by chance: how many are activated on the GPU that has the most to do, and tokens that
    its experts compute, counted as if each went to all of its experts there. All others wait for that GPU in every layer.

    The largest of so many draws from a normal distribution lies as many standard deviations above the mean as Blom (1958) has it.

    >>> shape = ARCHITECTURES["Qwen/Qwen3-30B-A3B-Instruct-2507"]
    >>> experts, tokens = on_busiest_gpu(np.array([1.0, 1000.0]), shape, 2, skew=0.0)
    >>> [round(float(one), 2) for one in (*experts, *tokens)]
    [5.14, 64.0, 0.6, 503.3]
    """
    share = _popularity(shape, skew)
    chance = 1 - (1 - share[None, :]) ** tokens[:, None]
    above = NormalDist().inv_cdf((gpus - 0.375) / (gpus + 0.25))
    # Which experts meet on a GPU is chance, and so is which of them a batch takes.
    met = shape.experts / gpus * (1 - 1 / gpus)
    experts = chance.sum(axis=1) / gpus + above * np.sqrt(
        (chance * (1 - chance)).sum(axis=1) / gpus + met * chance.var(axis=1)
    )
    pairs = tokens * shape.experts_per_token / gpus
    pairs = pairs + above * np.sqrt(met * share.var() * tokens**2 + pairs * (1 - 1 / gpus))
    return np.minimum(experts, shape.experts / gpus), np.minimum(pairs / shape.experts_per_token, tokens)


def _popularity(shape: Architecture, skew: float) -> F64:
    """(experts,) chance of each to be picked by a token."""
    share = np.arange(1, shape.experts + 1, dtype=np.float64) ** -skew
    share *= shape.experts_per_token / share.sum()
    for _ in range(64):
        # No expert is picked by more than every token: what is over goes to the others.
        over = share > 1
        if not over.any():
            break
        share[over] = 1.0
        rest = share < 1
        share[rest] *= (shape.experts_per_token - (~rest).sum()) / share[rest].sum()
    return share


@dataclass(frozen=True)
class Coefficients:
    """What the data sheet does not say.

    The first six are fitted by :func:`fit` to 15 load stages of 8 H100 servers with vLLM (dense models of 7 to 70 billion
    parameters on 1 to 4 GPUs, 16-bit, and Llama-4 Scout, FP8), published with BLIS (inference-sim, Apache-2.0);
    ``scripts/fit_physics.py`` makes them again. Those servers took nearly every prompt from the prefix cache, so they say nothing
    about prefill: ``flops_share`` and ``ring_bytes_per_s`` are common figures for H100s, not fitted.

    Attributes:
        host_s: seconds per iteration in which the GPU waits for the host. Of servers without asynchronous scheduling.
        weight_time: time to read weights, over bytes / data-sheet bandwidth.
        kv_time: time to read KV, over bytes / data-sheet bandwidth.
        all_reduce_s: latency of one all-reduce.
        peer_bytes_per_s: at which a GPU reads its peers' activations in a small all-reduce; it reads each of the others'.
        moe_layer_s: routing, sorting and quantising around the experts of one layer.
        flops_share: share of the data-sheet operations per second that large matrix products reach.
        ring_bytes_per_s: of a large all-reduce, over NVLink.
        routing_skew: see ``ROUTING_SKEW``.
    """

    host_s: float = 2.12e-3
    weight_time: float = 1.057
    kv_time: float = 1.083
    all_reduce_s: float = 17.0e-6
    peer_bytes_per_s: float = 107e9
    moe_layer_s: float = 96e-6
    flops_share: float = 0.6
    ring_bytes_per_s: float = 300e9
    routing_skew: float = ROUTING_SKEW


FRONTEND_S = 5.4e-3
"""Seconds of a first token outside of the server's loop (HTTP, tokeniser, client), fitted with the next to the same 15 stages
(:func:`fit_first_token`)."""

PIPELINE_STEPS = 1.2
"""Iterations by which a first token comes later than its own iteration's end. Time to first token of a cached prompt was
5.4 ms + 2.7 iterations: half an iteration to wait, one of its own, and these."""


def behind_a_front_end(table: StepTable) -> StepTable:
    """The table with what measured servers take outside of their loop."""
    return table._replace(frontend_s=FRONTEND_S, pipeline_steps=PIPELINE_STEPS)


@dataclass(frozen=True)
class DecodeStep:
    """A measured mean time between tokens, to fit to.

    Attributes:
        architecture, gpu, tensor_parallel, precision: as for :func:`physics_table`.
        sequences: mean number of sequences decoding.
        kv_tokens: mean number of tokens that they attend to, together.
        seconds: of one iteration.
    """

    architecture: Architecture
    gpu: Gpu
    tensor_parallel: int
    precision: str
    sequences: float
    kv_tokens: float
    seconds: float


def physics_table(
    architecture: Architecture | str,
    gpu: Gpu | str,
    tensor_parallel: int,
    precision: str,
    max_tokens: int,
    max_sequences: int,
    coefficients: Coefficients | None = None,
    *,
    data_parallel: int = 1,
    kv_cache_dtype: str = "auto",
) -> StepTable:
    """Step times of one server.

    Args:
        architecture: of the model, or its name in ``ARCHITECTURES``.
        gpu: data sheet, or its name in ``GPUS``.
        tensor_parallel: GPUs of the server, joined by NVLink.
        precision: of the weights and matrix products: FP8, FP16 or BF16.
        max_tokens: most tokens in a batch.
        max_sequences: most sequences in a batch.
        coefficients: by default those fitted to H100 servers.
        data_parallel: ranks of the server, each of ``tensor_parallel`` GPUs. Those of a mixture of experts step together: the
            experts are divided among all GPUs, and every layer's tokens are exchanged over NVLink.
        kv_cache_dtype: ``fp8`` for keys and values of one byte each; ``auto`` and ``bf16``: of two.

    Raises:
        InputError: an unknown name, or a number out of its range.
    """
    shape, sheet = _named("architecture", architecture, ARCHITECTURES), _named("gpu", gpu, GPUS)
    if kv_cache_dtype not in KV_BYTES:
        raise InputError("physics", "kv_cache_dtype", kv_cache_dtype, nearest(kv_cache_dtype, KV_BYTES))
    if precision not in WEIGHT_BYTES:
        raise InputError("physics", "precision", precision, nearest(precision, WEIGHT_BYTES))
    for name, value in (
        ("tensor_parallel", tensor_parallel),
        ("max_tokens", max_tokens),
        ("max_sequences", max_sequences),
        ("data_parallel", data_parallel),
    ):
        if value < 1:
            raise InputError("physics", name, value, "at least 1")
    check_heads(shape.heads, shape.kv_heads, tensor_parallel, "physics")
    known = coefficients or Coefficients()
    for name in ("peer_bytes_per_s", "ring_bytes_per_s", "flops_share"):
        if not getattr(known, name) > 0:
            raise InputError("physics", name, getattr(known, name), "a number above 0")
    tokens = np.arange(max_tokens + 1, dtype=np.float64)
    sequences = np.maximum(np.arange(max_sequences + 1, dtype=np.float64), 1.0)
    bandwidth = sheet.tb_per_s * 1e12 * tensor_parallel / known.weight_time
    kv_bandwidth = sheet.tb_per_s * 1e12 * tensor_parallel / known.kv_time
    flops_16bit = sheet.tflops_16bit * 1e12 * known.flops_share * tensor_parallel
    flops = sheet.tflops_8bit * 1e12 * known.flops_share * tensor_parallel if precision == "FP8" else flops_16bit

    ranks, shared = data_parallel if shape.experts else 1, None
    read = weight_bytes(tokens, shape, precision, known.routing_skew) / bandwidth
    compute = 2 * tokens * _weights(np.full_like(tokens, shape.experts_per_token), shape) / flops
    if ranks == 1:
        dense = np.maximum(read, compute) + shape.moe_layers() * known.moe_layer_s
        dense += 2 * shape.layers * _all_reduce_s(tokens, shape, tensor_parallel, known)
    else:
        alone = _weights(np.zeros_like(tokens), shape)
        dense = np.maximum(alone * WEIGHT_BYTES[precision] / bandwidth, 2 * tokens * alone / flops)
        dense += (2 * shape.layers - shape.moe_layers()) * _all_reduce_s(tokens, shape, tensor_parallel, known)
        together = np.arange(ranks * max_tokens + 1, dtype=np.float64)
        shared = _experts_s(together, shape, precision, ranks, bandwidth, flops, known)
    dense[0] = 0.0
    head = shape.vocab * shape.hidden
    return step_table(
        max_tokens,
        max_sequences,
        base_s=known.host_s,
        per_kv_s=kv_bytes_per_token(shape, tensor_parallel, kv_cache_dtype) / kv_bandwidth,
        # A score and a weighted value for each pair: two products of head_dim per head.
        per_pair_s=4 * shape.layers * shape.heads * shape.head_dim / flops_16bit,
        dense_s=dense,
        sampled_s=np.maximum(head * ACTIVATION_BYTES / bandwidth, 2 * head * sequences / flops_16bit),
        ranks=ranks,
        shared_s=shared,
    )


def _experts_s(
    tokens: F64, shape: Architecture, precision: str, ranks: int, bandwidth: float, flops: float, known: Coefficients
) -> F64:
    """Seconds of all layers' experts, divided among the GPUs of all ranks, with the exchange of tokens before and after.

    Args:
        tokens: of all ranks.
        bandwidth, flops: of one rank's GPUs.
    """
    alone = _weights(np.zeros_like(tokens), shape)
    # Of the parts that are one rank's GPUs'.
    active, computed = on_busiest_gpu(tokens, shape, ranks, known.routing_skew)
    read = (_weights(active, shape) - alone) * WEIGHT_BYTES[precision]
    used = _weights(np.full_like(tokens, shape.experts_per_token), shape) - alone
    seconds = np.maximum(read / bandwidth, 2 * computed * used / flops)
    size = tokens * shape.hidden * ACTIVATION_BYTES
    exchange = 2 * (known.all_reduce_s + (ranks - 1) / ranks * size / known.ring_bytes_per_s)
    seconds = seconds + shape.moe_layers() * (known.moe_layer_s + exchange)
    seconds[0] = 0.0
    return seconds


def weight_bytes(tokens: F64, shape: Architecture, precision: str, skew: float = ROUTING_SKEW) -> F64:
    """Bytes of the weights that an iteration of so many tokens reads from all GPUs' memory, without the LM head."""
    active: F64 = activated_experts(tokens, shape, skew) if shape.experts else np.zeros_like(tokens)
    read: F64 = _weights(active, shape) * WEIGHT_BYTES[precision]
    return read


def held_bytes(shape: Architecture, precision: str) -> float:
    """Bytes of all weights: layers with all experts, and in 16 bits the LM head and the embeddings."""
    layers = float(_weights(np.array([float(shape.experts)]), shape)[0]) * WEIGHT_BYTES[precision]
    return layers + 2 * shape.vocab * shape.hidden * ACTIVATION_BYTES


def _weights(experts: F64, shape: Architecture) -> F64:
    """Parameters of all layers, with so many experts in each that has any."""
    attention = shape.hidden * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
    moe = shape.moe_layers()
    blocks = (shape.layers - moe) * shape.ffn + moe * (experts * shape.expert_ffn + shape.shared_ffn)
    total: F64 = shape.layers * attention + 3 * shape.hidden * blocks
    return total


def kv_bytes_per_token(shape: Architecture, tensor_parallel: int, kv_cache_dtype: str = "auto") -> float:
    """Bytes of a token's keys and values over all layers, once more for each GPU beyond the number of KV heads.

    >>> kv_bytes_per_token(ARCHITECTURES["Qwen/Qwen3-32B"], 1)
    262144.0
    """
    heads = max(shape.kv_heads, tensor_parallel)
    return 2.0 * shape.layers * heads * shape.head_dim * KV_BYTES[kv_cache_dtype]


def _all_reduce_s(tokens: F64, shape: Architecture, tensor_parallel: int, known: Coefficients) -> F64:
    """Seconds of one all-reduce: each GPU reads all others' activations, or, if that is faster, they go round a ring."""
    others = tensor_parallel - 1
    if others == 0:
        return np.zeros_like(tokens)
    size = tokens * shape.hidden * ACTIVATION_BYTES
    direct = others * size / known.peer_bytes_per_s
    ring = 2 * others / tensor_parallel * size / known.ring_bytes_per_s + known.all_reduce_s
    seconds: F64 = known.all_reduce_s + np.minimum(direct, ring)
    return seconds


PRIOR = {
    "host_s": (2.0e-3, 1.0e-3),
    "weight_time": (1.08, 0.06),
    "kv_time": (1.08, 0.06),
    "all_reduce_s": (15e-6, 7e-6),
    "peer_s_per_byte": (9e-12, 5e-12),
    "moe_layer_s": (85e-6, 30e-6),
}
"""What is taken for granted, and how firmly (mean, standard deviation), where measurements say nothing: without it a file of
dense models alone would make the experts of another model free.

Memory gives 0.88 to 0.98 of its data-sheet bandwidth (STREAM on data-centre GPUs); a host without asynchronous scheduling takes
1 to 3 ms an iteration and a small all-reduce 8 to 22 microseconds (vLLM). Experts: on H100s the catalogue's operators take 44 to
64 microseconds a layer beyond reading the weights, and measured servers a further 31 (``gpu_corrections.json``)."""

STAGE_ERROR = 0.02
"""Standard deviation of a measured stage around the model, relative."""

FAR = 2.5
"""Standard deviations beyond which a measurement's pull grows no more: one that is not what it says would spoil all others."""


def fit(measured: Sequence[DecodeStep], start: Coefficients | None = None) -> Coefficients:
    """Fit what decode iterations show, by least squares of relative errors around ``PRIOR``, robust to single measurements far off.

    Weights and KV are held at no faster than the data sheet. ``start`` gives what is not fitted.

    Raises:
        InputError: no measurement.
    """
    if not measured:
        raise InputError("fit", "measured", 0, "at least one measurement")
    start = start or Coefficients()
    rows = np.array([_parts(one, start.routing_skew) for one in measured])
    rows /= STAGE_ERROR * np.array([one.seconds for one in measured])[:, None]
    mean, spread = np.array(list(PRIOR.values())).T

    def misses(x: F64) -> F64:
        return np.concatenate([_bounded(rows @ (x * spread) - 1 / STAGE_ERROR), x - mean / spread])

    lowest = np.array([0.0, 1.0, 1.0, 0.0, 1e-13, 0.0]) / spread
    best = least_squares(misses, mean / spread, bounds=(lowest, np.inf)).x * spread
    found = dict(zip(PRIOR, best.tolist(), strict=True))
    return replace(start, peer_bytes_per_s=1 / found.pop("peer_s_per_byte"), **found)


def fit_first_token(seconds_to_token: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """What a first token of a cached prompt takes beyond the iterations that it waits for and is made in.

    Args:
        seconds_to_token: measured mean seconds of an iteration, and to the first token.

    Returns:
        Seconds outside of the server's loop, and further iterations, as ``FRONTEND_S`` and ``PIPELINE_STEPS``. A request waits half
        an iteration and then takes one.

    >>> frontend_s, steps = fit_first_token([(0.007, 0.0243), (0.010, 0.0324), (0.020, 0.0594)])
    >>> round(1e3 * frontend_s, 1), round(steps, 1)
    (5.4, 1.2)
    """
    mean, spread = np.array([5e-3, 2.5]), np.array([5e-3, 1.0])
    rows = np.array([(1.0, step_s) for step_s, _ in seconds_to_token])
    rows /= STAGE_ERROR * np.array([first_s for _, first_s in seconds_to_token])[:, None]

    def misses(x: F64) -> F64:
        return np.concatenate([_bounded(rows @ (x * spread) - 1 / STAGE_ERROR), x - mean / spread])

    best = least_squares(misses, mean / spread, bounds=(np.array([0.0, 1.5]) / spread, np.inf)).x * spread
    return float(best[0]), float(best[1] - 1.5)


def _bounded(misses: F64) -> F64:
    """Misses whose squares grow linearly beyond ``FAR``."""
    bounded: F64 = np.sign(misses) * FAR * np.sqrt(2 * (np.sqrt(1 + (misses / FAR) ** 2) - 1))
    return bounded


def reading_seconds(one: DecodeStep) -> float:
    """Least seconds of an iteration: weights, of tokens that all go to the same experts, and KV, at the data sheet's bandwidth."""
    shape, gpus = one.architecture, one.tensor_parallel
    weights = float(_weights(np.array([float(shape.experts_per_token)]), shape)[0]) * WEIGHT_BYTES[one.precision]
    return (weights + one.kv_tokens * kv_bytes_per_token(shape, gpus)) / (one.gpu.tb_per_s * 1e12 * gpus)


def _parts(one: DecodeStep, skew: float) -> list[float]:
    """What each fitted coefficient (of the peers' speed, its inverse) is multiplied by."""
    shape, gpus = one.architecture, one.tensor_parallel
    bandwidth = one.gpu.tb_per_s * 1e12 * gpus
    read = float(weight_bytes(np.array([one.sequences]), shape, one.precision, skew)[0])
    head = shape.vocab * shape.hidden * ACTIVATION_BYTES
    return [
        1.0,
        (read + head) / bandwidth,
        one.kv_tokens * kv_bytes_per_token(shape, gpus) / bandwidth,
        2.0 * shape.layers * (gpus > 1),
        2.0 * shape.layers * one.sequences * shape.hidden * ACTIVATION_BYTES * (gpus - 1),
        float(shape.moe_layers()),
    ]


def _named(field: str, given: T | str, known: dict[str, T]) -> T:
    if not isinstance(given, str):
        return given
    if given not in known:
        raise InputError("physics", field, given, nearest(given, known))
    return known[given]
