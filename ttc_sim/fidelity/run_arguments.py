"""Arguments of the engine that a run was recorded on: each is modelled, changes no time, or is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_GPUS
from ttc_sim.scenario.engine_arguments import OF_STEP_TIME, refusal
from ttc_sim.serving.model_context import context_of_model
from ttc_sim.serving.model_shape import check_heads
from ttc_sim.serving.physics import ARCHITECTURES

_RESOLVED: dict[str, tuple[str, ...]] = {
    "cache_config": (
        "block_size",
        "cache_dtype",
        "enable_prefix_caching",
        "kv_offloading_size",
        "num_gpu_blocks_override",
        "kv_sharing_fast_prefill",
    ),
    "scheduler_config": (
        "async_scheduling",
        "enable_chunked_prefill",
        "long_prefill_token_threshold",
        "max_num_partial_prefills",
        "max_long_partial_prefills",
        "max_num_batched_tokens",
        "max_num_seqs",
        "num_scheduler_steps",
        "policy",
        "scheduler_cls",
        "scheduler_reserve_full_isl",
        "stream_interval",
    ),
    "parallel_config": (
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "data_parallel_external_lb",
        "data_parallel_hybrid_lb",
        "prefill_context_parallel_size",
        "decode_context_parallel_size",
        "enable_expert_parallel",
        "enable_dbo",
        "enable_eplb",
        "enable_elastic_ep",
        "all2all_backend",
        "disable_custom_all_reduce",
        "nnodes",
    ),
    "model_config": ("max_model_len", "enforce_eager", "disable_sliding_window"),
    "kernel_config": ("moe_backend",),
}
"""Where an engine writes down what it took in the end, of what an argument may ask for."""
_NAMES = {"cache_dtype": "kv_cache_dtype", "policy": "scheduling_policy"}
_WHOLE = ("speculative_config", "kv_transfer_config", "ec_transfer_config")


def run_arguments(meta: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Arguments of a run by name: what the engine took, where ``resolved_config`` says it, else what it was started with.

    Args:
        meta: content of ``meta.json``, which lies at ``path``.

    Raises:
        InputError: an argument that is not known, or that is not modelled.
    """
    given = meta["engine_kwargs"]
    found = {str(name): value for name, value in given.items()}
    for name, value in found.items():
        _refuse(name, value, path, f"engine_kwargs.{name}")
    resolved = meta.get("resolved_config")
    if resolved is None:
        return found
    if not isinstance(resolved, Mapping):
        raise InputError(path, "resolved_config", resolved, "an object")
    for section, names in _RESOLVED.items():
        part = resolved.get(section)
        if not isinstance(part, Mapping):
            continue
        for name in names:
            if part.get(name) is not None:
                known = _NAMES.get(name, name)
                _refuse(known, part[name], path, f"resolved_config.{section}.{name}")
                found[known] = part[name]
    for name in _WHOLE:
        if resolved.get(name) is not None:
            _refuse(name, resolved[name], path, f"resolved_config.{name}")
    if resolved.get("lora_config") is not None:
        raise InputError(
            path, "resolved_config.lora_config", resolved["lora_config"], "null: adapters are not modelled"
        )
    return found


def _refuse(name: str, value: object, path: Path, field: str) -> None:
    expected: str | None
    if name in ("speculative_config", "speculative_model", "num_speculative_tokens") and value:
        expected = "it left out: a run does not say how many of the drafted tokens were accepted"
        raise InputError(path, field, value, expected)
    if name == "kv_cache_memory_bytes":  # kv_cache.num_gpu_blocks says what came of it
        return
    expected = refusal(name, value, measured=True)
    if expected is not None:
        raise InputError(path, field, value, expected)


def check_memory(arguments: Mapping[str, Any], blocks: int, path: Path) -> None:
    """Refuse a share of memory of which nobody knows how many tokens it holds.

    Args:
        blocks: of the KV cache, 0 where they were not recorded.

    Raises:
        InputError: as said.
    """
    for name, usual in (("gpu_memory_utilization", 0.9), ("kv_cache_memory_bytes", None)):
        if not blocks and arguments.get(name) not in (None, usual):
            expected = "kv_cache.num_gpu_blocks beside it, which says what the cache holds"
            raise InputError(path, f"engine_kwargs.{name}", arguments[name], expected)


def check_parallel(arguments: Mapping[str, Any], meta: Mapping[str, Any], path: Path) -> None:
    """Refuse GPUs that cannot share the model, or that the machine does not have.

    Raises:
        InputError: as said.
    """
    tensor, data = (_count(arguments, f"{kind}_parallel_size", path) for kind in ("tensor", "data"))
    shape = ARCHITECTURES.get(str(arguments.get("model")))
    if shape is not None:
        check_heads(shape.heads, shape.kv_heads, tensor, path, "engine_kwargs.tensor_parallel_size")
    if arguments.get("enable_expert_parallel") and shape is not None and not shape.experts:
        expected = f"false: {arguments['model']} has no experts"
        raise InputError(path, "engine_kwargs.enable_expert_parallel", True, expected)
    hardware = meta.get("hardware")
    devices = hardware.get("device_count") if isinstance(hardware, Mapping) else None
    if isinstance(devices, int) and not isinstance(devices, bool) and 0 < devices < tensor * data:
        said = f"{tensor} of tensor_parallel_size times {data} of data_parallel_size"
        expected = f"at most the {devices} GPUs of hardware.device_count"
        raise InputError(path, "engine_kwargs", f"{said}, {tensor * data} GPUs", expected)


def _count(arguments: Mapping[str, Any], name: str, path: Path) -> int:
    value = arguments.get(name, 1)
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_GPUS:
        raise InputError(path, f"engine_kwargs.{name}", value, f"a whole number, from 1 to {MOST_GPUS:,}")
    return value


def longest(arguments: Mapping[str, Any], path: Path) -> int | None:
    """Most tokens of a prompt and its answer: as the engine was told, or what its model was made for; ``None`` if not known.

    Raises:
        InputError: no number of tokens, or more than the model was made for.
    """
    given, model = arguments.get("max_model_len"), str(arguments.get("model", ""))
    most = context_of_model(model) if model else None
    if given in (None, -1, "auto"):  # as much as fits, of which requests that were answered are part
        return most if given is None else None
    if isinstance(given, bool) or not isinstance(given, int) or given < 2:
        raise InputError(path, "engine_kwargs.max_model_len", given, "a whole number of tokens, at least 2")
    if most is not None and given > most:
        raise InputError(path, "engine_kwargs.max_model_len", given, f"at most {most:,}, which {model} was made for")
    return given


def check_worked_out(arguments: Mapping[str, Any], path: Path, *, kv_cache: bool) -> None:
    """Refuse arguments that change how long iterations take, where that is not measured on the server itself.

    Args:
        kv_cache: the step times may be those of a KV cache of 8 bits.

    Raises:
        InputError: the first of them.
    """
    for name, value in arguments.items():
        expected = refusal(name, value, measured=False) if name in OF_STEP_TIME else None
        if name == "kv_cache_dtype" and str(value).startswith("fp8") and not kv_cache:
            expected = "auto: the profile was measured with a KV cache of 16 bits"
        if name == "quantization" and value is not None:
            expected = "it left out: the weights' precision is that of the profile, or of --precision"
        if expected is not None:
            raise InputError(path, f"engine_kwargs.{name}", value, expected)


__all__ = ["check_memory", "check_parallel", "check_worked_out", "longest", "run_arguments"]
