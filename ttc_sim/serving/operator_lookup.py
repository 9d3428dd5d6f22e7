"""Looking the times of a deployment's operators up in the catalogue."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ttc_sim.base.errors import InputError
from ttc_sim.serving.catalogue import (
    PACKAGE,
    Served,
    config_of,
    gpus,
    has_experts,
    installed,
    layers,
    own_precision,
    path_of,
    quiet,
)
from ttc_sim.serving.operators import CHUNKS, CONTEXTS, KV, MOST_DECODING, SEQUENCES, TOKENS, OperatorTimes

MEMORY_SHARE = 0.9
"""Share of the GPU's memory that a server uses: vLLM's ``gpu_memory_utilization`` unless told otherwise."""

_LINK = re.compile(r"(_ar(_\d)?$|allreduce|dispatch|p2p)")
_ORIGIN = "{package} {version} (Apache-2.0, NVIDIA), operators of {backend} {measured}"


def estimator_arguments(served: Served) -> tuple[str, dict[str, Any]]:
    """Checkpoint and arguments for the catalogue's estimator."""
    model, own = served.model, own_precision(served.model)
    config = config_of(model)
    assert config is not None
    algorithm = str(config["raw_config"].get("quant_algo") or "")
    moe = has_experts(model)
    modes: dict[str, Any] = {}
    # As the checkpoints do that NVIDIA publishes: with weights in 8 or 4 bits, keys and values are kept in 8.
    kv = {"kvcache_quant_mode": "fp8"}
    if served.precision is None or served.precision == own:
        if algorithm == "fp8_block":
            # The catalogue measured block-scaled matrix products of vLLM with a constant time for each (0.18 ms on B200), which
            # servers do not show: those scaled as a whole stand in.
            modes["gemm_quant_mode"] = "fp8"
    elif served.precision == "bf16":
        modes = {"gemm_quant_mode": "bfloat16", **({"moe_quant_mode": "bfloat16"} if moe else {})}
    elif served.precision == "fp8":
        modes = {"gemm_quant_mode": "fp8_static", **({"moe_quant_mode": "fp8_block"} if moe else {}), **kv}
    elif served.precision == "fp4":
        sibling = f"nvidia/{model.split('/')[-1]}-NVFP4"
        if config_of(sibling) is not None:
            model = sibling
        else:
            modes = {"gemm_quant_mode": "nvfp4", **({"moe_quant_mode": "nvfp4"} if moe else {}), **kv}
    else:
        modes = {"gemm_quant_mode": "int4_wo", **({"moe_quant_mode": "int4_wo"} if moe else {})}
    if served.kv_cache_dtype is not None:
        modes |= {"kvcache_quant_mode": {"bf16": "bfloat16"}.get(served.kv_cache_dtype, served.kv_cache_dtype)}
    sizes: dict[str, Any] = {"tp_size": served.tensor_parallel}
    if moe:
        sizes |= {
            "attention_dp_size": served.data_parallel,
            "moe_ep_size": served.expert_parallel,
            "moe_tp_size": served.gpus // served.expert_parallel,
        }
    return path_of(model), {**sizes, **modes}


def measure(served: Served, where: str | Path, field: str = "") -> OperatorTimes:
    """Look up the times of a deployment's operators in the catalogue; takes one to five seconds.

    Args:
        served: by the catalogue's own names, see :func:`checked`.
        where, field: that errors name.

    Raises:
        InputError: operators of this model were not measured on this GPU, with the catalogue's own reason.
    """
    from aiconfigurator_core.sdk.engine import EngineHandle

    model, arguments = estimator_arguments(served)
    try:
        with quiet():
            handle = EngineHandle.compile(model, served.gpu, served.backend, **arguments)
            return _times(served, handle, _memory(served, model, arguments))
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(
            where,
            f"{field}model",
            served.model,
            f"a model measured on {served.gpu} with {served.backend}: {_reason(error)}",
        ) from None


def _reason(error: Exception) -> str:
    """The catalogue's own words, without paths."""
    text = re.sub(r"\s+(at|from|first:)\s+\S*/\S*/\S+", "", str(error))
    text = re.sub(r"\S*/\S*/\S+", "the catalogue", text).removeprefix("perf database error: ")
    return " ".join(text.split())[:300]


def state_bytes(served: Served) -> float:
    """Bytes that each sequence holds on one GPU in layers that do not attend: states of Mamba or linear attention, in 32 bits.

    As vLLM keeps them by default, where a model's ``config.json`` says nothing else. ``served`` by the catalogue's names.
    """
    config = config_of(served.model)
    assert config is not None
    said = config["extra_params"]
    mamba = str(getattr(said, "hybrid_override_pattern", "")).count("M")
    linear = tuple(getattr(said, "layer_types", ())).count("linear_attention")
    numbers = 0
    if mamba:
        numbers = mamba * said.mamba_num_heads * said.mamba_head_dim * said.ssm_state_size
    elif linear and hasattr(said, "kda_num_heads"):
        numbers = linear * said.kda_num_heads * said.kda_head_dim**2
    elif linear:
        numbers = linear * said.linear_num_value_heads * said.linear_key_head_dim * said.linear_value_head_dim
    return 4.0 * numbers / served.tensor_parallel


def _unmeasured_states(served: Served, own_ms: Callable[[int], float]) -> Callable[[int], float]:
    """Milliseconds that reading and writing the states of so many sequences takes beyond what the catalogue says of it.

    Of Mamba no kernel was measured, and what stands in counts a token's inputs alone: no less than the states' bytes take through
    memory, at the share of its rate that the catalogue itself takes for what was not measured.
    """
    gpu = gpus()[served.gpu]["gpu"]
    each_ms = 2e3 * state_bytes(served) / (gpu["mem_bw"] * gpu["mem_bw_empirical_scaling_factor"])
    return lambda sequences: max(sequences * each_ms - own_ms(sequences), 0.0)


def _times(served: Served, handle: Any, memory: Mapping[str, Any]) -> OperatorTimes:
    prefill, decode = handle.evaluate_context_ops, handle.evaluate_generation_ops
    taking, giving = _names(prefill), _names(decode)

    def total(function: Any, which: list[int], **shape: int) -> float:
        return float(sum(one[1] for one in function(which, **shape))) if which else 0.0

    # Operators that attend are those whose time depends on what went before.
    attends = [
        {
            i
            for i in range(len(taking))
            if total(prefill, [i], batch_size=1, s=2048) != total(prefill, [i], batch_size=1, s=2048, prefix=8192)
        },
        {
            i
            for i in range(len(giving))
            if total(decode, [i], batch_size=64, s=1024) != total(decode, [i], batch_size=64, s=8192)
        },
    ]
    by_kind: list[dict[str, list[int]]] = []
    for names, attending in zip((taking, giving), attends, strict=True):
        kinds: dict[str, list[int]] = {kind: [] for kind in ("matrix", "experts", "link", "other", "head")}
        for i, name in enumerate(names):
            if i not in attending:
                kinds[_kind(name)].append(i)
        by_kind.append(kinds)
    decoding = [int(n) for n in TOKENS if n <= MOST_DECODING]
    states = [i for i, name in enumerate(giving) if name.endswith("mamba_ssm")]
    more_ms = _unmeasured_states(served, lambda n: total(decode, states, batch_size=n, s=1024)) if states else None
    kinds_here = [kind for kind in by_kind[0] if kind != "head"]
    version = installed()
    decode_ms = {k: [total(decode, by_kind[1][k], batch_size=n, s=1024) for n in decoding] for k in kinds_here}
    origin = _ORIGIN.format(package=PACKAGE, version=version, backend=served.backend, measured=memory["measured"])
    if more_ms is not None:
        decode_ms["other"] = [ms + more_ms(n) for ms, n in zip(decode_ms["other"], decoding, strict=True)]
        origin += "; Mamba's states by their bytes"
    return OperatorTimes(
        origin=origin,
        moe=has_experts(served.model),
        layers=layers(served.model),
        decode=decode_ms,
        prefill={k: [total(prefill, by_kind[0][k], batch_size=1, s=int(n)) for n in TOKENS] for k in kinds_here},
        head=[total(decode, by_kind[1]["head"], batch_size=int(n), s=1024) for n in SEQUENCES],
        decode_attention=[
            [total(decode, sorted(attends[1]), batch_size=int(n), s=int(kv)) for kv in KV] for n in SEQUENCES
        ],
        prefill_attention=[
            [total(prefill, sorted(attends[0]), batch_size=1, s=int(c), prefix=int(p)) for p in CONTEXTS]
            for c in CHUNKS
        ],
        state_bytes=state_bytes(served),
        **{key: value for key, value in memory.items() if key != "measured"},
    )


def _names(function: Any) -> list[str]:
    names: list[str] = []
    while True:
        try:
            names.append(str(function([len(names)], batch_size=1, s=64)[0][0]))
        except ValueError as error:
            if "out of range" in str(error):
                return names
            raise


def _kind(name: str) -> str:
    if _LINK.search(name):
        return "link"
    if "logits" in name:
        return "head"
    return "experts" if "moe" in name else "matrix" if "gemm" in name else "other"


def _memory(served: Served, model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes of one GPU, and the KV tokens that fit."""
    from aiconfigurator_core.sdk import perf_database
    from aiconfigurator_core.sdk.memory import KVCacheEstimator

    measured = perf_database.resolve_query_version(served.gpu, served.backend, "current")
    estimator = KVCacheEstimator.from_request(
        model, served.gpu, served.backend, measured, max_num_tokens=8192, max_batch_size=MOST_DECODING, **arguments
    )
    parts = estimator.breakdown
    try:
        kv_tokens = int(
            estimator.estimate(is_of_free=False, fraction=MEMORY_SHARE, gpu_memory_capacity_bytes_override=None)[
                "total_kv_size_tokens"
            ]
        )
    except ValueError:
        kv_tokens = 0
    # Of a Nemotron-H the catalogue counts keys and values of every layer, but few attend.
    pattern = str(getattr(config_of(served.model)["extra_params"], "hybrid_override_pattern", ""))  # type: ignore[index]
    attend = pattern.count("*") / len(pattern) if pattern else 1.0
    return {
        "measured": measured,
        "memory_bytes": float(parts["gpu_memory_capacity_bytes"]),
        "weight_bytes": float(parts["weights_bytes"]),
        "activation_bytes": float(parts["activations_bytes"]),
        "runtime_bytes": float(parts["runtime_overhead_bytes"] + parts["comm_overhead_bytes"]),
        "kv_bytes_per_token": attend * float(parts["kv_size_per_token_bytes"]),
        "memory_share": MEMORY_SHARE,
        "kv_tokens": int(kv_tokens / attend),
    }


def grid() -> list[list[float]]:
    """The knots, as part of a cache's key."""
    return [np.asarray(knots).tolist() for knots in (TOKENS, SEQUENCES, KV, CHUNKS, CONTEXTS)]
