"""A vLLM server as it is started, read as the keys of a pool: ``engine_args``, a pasted command or a mapping of its arguments."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from ttc_sim.base.errors import nearest
from ttc_sim.scenario.base import errors_at
from ttc_sim.scenario.engine_arguments import MODELLED, NO_EFFECT, OF_STEP_TIME, REFUSED, first_refused

_PROGRAMS = (("vllm", "serve"), ("python", "-m", "vllm.entrypoints.openai.api_server"))
_SHORT = {
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "dcp": "decode_context_parallel_size",
    "pcp": "prefill_context_parallel_size",
    "dpn": "data_parallel_rank",
    "dpr": "data_parallel_start_rank",
    "dpl": "data_parallel_size_local",
    "dpa": "data_parallel_address",
    "dpp": "data_parallel_rpc_port",
    "dpb": "data_parallel_backend",
    "dph": "data_parallel_hybrid_lb",
    "dpe": "data_parallel_external_lb",
    "ep": "enable_expert_parallel",
    "n": "nnodes",
    "r": "node_rank",
    "q": "quantization",
    "sc": "speculative_config",
    "cc": "compilation_config",
    "ac": "attention_config",
    "asc": "api_server_count",
}
_SUFFIX = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
_NUMBER = re.compile(r"(-?(?:\d+(?:\.\d+)?|\.\d+))([kmgKMG]?)")
_PRECISION = {
    "fp8": "fp8",
    "fbgemm_fp8": "fp8",
    "ptpc_fp8": "fp8",
    "modelopt": "fp8",
    "modelopt_fp4": "fp4",
    "mxfp4": "fp4",
    "awq": "int4",
    "awq_marlin": "int4",
    "gptq": "int4",
    "gptq_marlin": "int4",
}
"""Of the weights, by vLLM's name of what quantised them."""
_FURTHER_FLAGS = re.split(
    r"\s+",
    "allow_deprecated_quantization use_tqdm_on_load ray_workers_use_nsight fail_on_environ_validation specialize_active_lora "
    "language_model_only interleave_mm_strings mm_encoder_only skip_mm_profiling aggregate_engine_logging kv_cache_metrics "
    "cudagraph_metrics log_error_stack use_v2_block_manager return_tokens_as_token_ids allow_credentials "
    "multi_step_stream_outputs",
)
_FLAGS = frozenset(
    {
        *(name for name in MODELLED if name.startswith("enable_")),
        *(name for name, (usual, _) in REFUSED.items() if usual and all(isinstance(one, bool) for one in usual)),
        *(name for name, usual in OF_STEP_TIME.items() if usual and all(isinstance(one, bool) for one in usual)),
        *(name for name in NO_EFFECT if name.startswith(("enable_", "disable_", "trust_", "exclude_", "fully_"))),
        *_FURTHER_FLAGS,
    }
)
"""Arguments that stand alone on a command line, and are turned around by ``--no-``."""


_SEVERAL = frozenset(
    re.split(
        r"\s+",
        "served_model_name cudagraph_capture_sizes cuda_graph_sizes lora_modules api_key middleware logits_processors "
        "allowed_origins lora_target_modules kv_cache_dtype_skip_layers collect_detailed_traces ignore_patterns",
    )
)
"""Arguments that take any number of values."""


def from_engine_args(given: Mapping[str, Any], usual_sequences: int) -> dict[str, Any]:
    """The pool that a mapping describes, with ``engine_args`` read as the keys that they stand for.

    Args:
        given: of a pool, as it stands in a scenario.
        usual_sequences: most of a batch, where nothing says another number.

    Raises:
        ValidationError: an argument that is unknown or refused, or that says something else than another key of the pool.
    """
    said = given.get("engine_args")
    if said is None:
        return dict(given)
    if given.get("backend") not in (None, "vllm"):
        raise _wrong("", said, f"none with backend {given['backend']}: they are vLLM's")
    arguments = _of_command(said) if isinstance(said, str) else _of_mapping(said)
    step_time = given.get("step_time")
    measured = step_time is not None and not _worked_out(step_time)
    found = first_refused(arguments, measured=measured)
    if found is not None:
        raise _wrong(*found)
    modelled = {name: value for name, value in arguments.items() if name in MODELLED and value is not None}
    keys = _pool_keys(modelled, given, usual_sequences)
    for key, value in keys.items():
        if given.get(key, value) != value:
            expected = f"{value}, as engine_args say, or no such key"
            raise errors_at({key: ("value_error", given[key], expected)})
    rest = {key: value for key, value in given.items() if key != "engine_args"}
    return {**rest, **keys}


def _worked_out(step_time: object) -> bool:
    """Whether step times are not those of the server as it ran, but of a model and a GPU."""
    keys = step_time if isinstance(step_time, dict) else getattr(type(step_time), "model_fields", {})
    return any(key in keys for key in ("gpu_profile", "gpu", "model"))


def _of_mapping(said: object) -> dict[str, Any]:
    if not isinstance(said, Mapping) or not all(isinstance(name, str) for name in said):
        raise _wrong("", said, "a command that begins with vllm serve, or a mapping of its arguments")
    return {str(name).removeprefix("--").replace("-", "_"): value for name, value in said.items()}


def _of_command(said: str) -> dict[str, Any]:
    """Arguments of a command line by name, as YAML would have them."""
    try:
        # A backslash that ends a line, also where a folded text has made one line of several.
        words = shlex.split(re.sub(r"(^|\s)\\(\s|$)", r"\1\2", said), comments=True)
    except ValueError as error:
        raise _wrong("", said, f"a command line whose quotes are closed ({error})".lower()) from None
    words = _without_program(words, said)
    found: dict[str, Any] = {}
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if not _is_name(name):
            if "model" in found or _NUMBER.fullmatch(word):
                raise _wrong("", word, "an argument that begins with --")
            found["model"] = word
            continue
        level = re.fullmatch(r"-O(\d)", name)
        name, on = _long(name)
        parts = [value] if equals else [level[1]] if level else []
        if not parts and name not in _FLAGS:
            while words and not _is_name(words[0]):
                parts.append(words.pop(0))
                if name not in _SEVERAL:
                    break
        if not parts and name not in _FLAGS:
            known = (*MODELLED, *NO_EFFECT, *OF_STEP_TIME, *REFUSED)
            raise _wrong(name, word, "a value after it" if name in known else nearest(name, known))
        outer, _, inner = name.partition(".")
        if outer in found and not (inner and isinstance(found[outer], dict)):
            raise _wrong(name, word, "each argument once")
        read = on if not parts else _value(parts[0]) if len(parts) == 1 else [_value(one) for one in parts]
        if name in _FLAGS and parts and not isinstance(read, bool):
            raise _wrong(name, parts[0], "true or false, or no value")
        found[outer] = {**found.get(outer, {}), inner: read} if inner else read
    return found


def _without_program(words: list[str], said: str) -> list[str]:
    for program in _PROGRAMS:
        if [re.sub(r"^(.*/)?python3?(\.\d+)?$", "python", word) for word in words[: len(program)]] == list(program):
            return words[len(program) :]
    if not words or _is_name(words[0]):
        return words
    expected = "a command that begins with vllm serve, or its arguments alone"
    if re.match(r"\w+=", words[0]):
        expected += ": what environment variables change is not modelled"
    raise _wrong("", said, expected)


def _is_name(word: str) -> bool:
    return re.match(r"--?[A-Za-z]", word) is not None


def _long(name: str) -> tuple[str, bool]:
    """An argument's full name, and whether ``no`` does not stand before it."""
    plain = name.lstrip("-").replace("-", "_") if "." not in name else name.lstrip("-")
    if not name.startswith("--") and re.fullmatch(r"O\d?", plain):
        return "optimization_level", True
    outer, dot, inner = plain.partition(".")
    outer = outer.replace("-", "_")
    full = outer if name.startswith("--") else _SHORT.get(outer, outer)
    if full.startswith("no_") and full[3:] in _FLAGS:
        return full[3:], False
    return full + dot + inner, True


def _value(word: str) -> Any:
    """A word as the number, truth value or mapping that it is."""
    number = _NUMBER.fullmatch(word)
    if number:
        times = _SUFFIX.get(number[2], 1)
        value = float(number[1]) * times
        return int(value) if value == int(value) and ("." not in number[1] or number[2]) else value
    if word.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[word.lower()]
    if word[:1] in "{[":
        try:
            return json.loads(word)
        except ValueError:
            return word
    return word


def _pool_keys(arguments: Mapping[str, Any], given: Mapping[str, Any], usual_sequences: int) -> dict[str, Any]:
    """The pool's keys that arguments become."""
    keys: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in _MADE:
            keys.update(_MADE[name](value, given))
        elif name not in ("dtype", "block_size"):
            keys[name] = value
    if "data_parallel" in keys and "api_server_count" not in arguments and "api_servers" not in given:
        # As vLLM does unless it is told otherwise; what iterations were measured to take has it in it.
        step_time = given.get("step_time")
        if step_time is None or (isinstance(step_time, dict) and "gpu_profile" in step_time):
            keys["api_servers"] = keys["data_parallel"]
    if "max_num_batched_tokens" in keys and "max_num_seqs" not in keys | dict(given):
        # As vLLM does where it chooses by itself.
        keys["max_num_seqs"] = min(keys["max_num_batched_tokens"], usual_sequences)
    return keys


def _model(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    step_time = given.get("step_time")
    if step_time is None:
        return {"model": value}
    own = step_time.get("model") if isinstance(step_time, dict) else getattr(step_time, "model", None)
    if own is not None and own != value:
        raise _wrong("model", value, f"{own}, whose step_time the pool has")
    return {}


def _tensor_parallel(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    step_time = given.get("step_time")
    if step_time is None:
        return {"tensor_parallel": value}
    if _worked_out(step_time):
        of = (
            step_time.get("tensor_parallel", 1)
            if isinstance(step_time, dict)
            else getattr(step_time, "tensor_parallel", 1)
        )
        if of != value:
            raise _wrong("tensor_parallel_size", value, f"{of}, which the pool's step_time is of")
    return {}


def _precision(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    if value not in _PRECISION:
        raise _wrong("quantization", value, nearest(str(value), _PRECISION) + "; precision of the pool says the others")
    return {"precision": _PRECISION[value]} if given.get("step_time") is None else {}


def _kv_cache(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    kept = "fp8" if str(value).startswith("fp8") else "auto" if value == "auto" else "bf16"
    step_time = given.get("step_time")
    if step_time is None:
        return {"kv_cache_dtype": kept}
    own = (
        step_time.get("kv_cache_dtype", "auto")
        if isinstance(step_time, dict)
        else getattr(step_time, "kv_cache_dtype", "auto")
    )
    if (kept == "fp8") != (own == "fp8") and _worked_out(step_time):
        raise _wrong("kv_cache_dtype", value, f"{own}, which the pool's step_time is of")
    return {}


def _memory(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("kv_cache_tokens") is not None:
        return {}
    if given.get("step_time") is not None:
        raise _wrong("gpu_memory_utilization", value, "kv_cache_tokens of the pool: step_time says nothing of memory")
    return {"gpu_memory_utilization": value}


def _blocks(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, bool) or not isinstance(value, int) or value < 2:
        raise _wrong("num_gpu_blocks_override", value, "a whole number of at least 2")
    return {"kv_cache_tokens": 16 * (value - 1)}


def _front_ends(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    step_time = given.get("step_time")
    return {} if step_time is not None and not _worked_out(step_time) else {"api_servers": value}


def _experts(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("step_time") is not None and not _worked_out(given["step_time"]):
        return {}
    return {"expert_parallel": value} if value is not False else {}


_MADE: dict[str, Callable[[Any, Mapping[str, Any]], dict[str, Any]]] = {
    "model": _model,
    "tensor_parallel_size": _tensor_parallel,
    "data_parallel_size": lambda value, given: {} if value == 1 and value is not True else {"data_parallel": value},
    "api_server_count": _front_ends,
    "enable_expert_parallel": _experts,
    "quantization": _precision,
    "kv_cache_dtype": _kv_cache,
    "num_gpu_blocks_override": _blocks,
    "gpu_memory_utilization": _memory,
    "enable_chunked_prefill": lambda value, given: {"chunked_prefill": value},
    "enable_prefix_caching": lambda value, given: {"prefix_caching": value},
    "scheduling_policy": lambda value, given: {"scheduling": value},
}
"""What arguments become that are not the pool's key of the same name."""


def _wrong(name: str, value: object, expected: str) -> Exception:
    return errors_at({f"engine_args.{name}" if name else "engine_args": ("value_error", value, expected)})


__all__ = ["from_engine_args"]
