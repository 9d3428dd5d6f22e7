"""A vLLM run as it was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError, from_validation
from ttc_sim.base.limits import MOST_GPUS, MOST_TOKENS
from ttc_sim.fidelity.beside import ANY_STEP
from ttc_sim.fidelity.run_arguments import check_memory, check_parallel, longest, run_arguments
from ttc_sim.files.documents import parse_json, read_json
from ttc_sim.files.opening import readable
from ttc_sim.files.table_files import UTF8_MARK, check_text
from ttc_sim.scenario import GpuPool


@dataclass(frozen=True)
class MeasuredRun:
    """A vLLM run: ``requests.jsonl`` and ``meta.json`` of a folder. Arrays are (n,), in order of arrival.

    Attributes:
        arrival_s: seconds from the first arrival.
        prompt_tokens, output_tokens: of each request.
        ttft_s, e2e_s: measured, from arrival.
        model: name of the model; empty if not recorded.
        tensor_parallel: GPUs of the server, or of each of its data-parallel ranks.
        pool: one replica with the engine's limits and ranks; its step time is to be replaced.
        arguments: of the engine, by vLLM's names.
        expert_parallel: whether experts are divided among the GPUs whole.
        gpu: name of the GPU; empty if not recorded.
    """

    path: Path
    arrival_s: F64
    prompt_tokens: I64
    output_tokens: I64
    ttft_s: F64
    e2e_s: F64
    model: str
    tensor_parallel: int
    pool: GpuPool
    arguments: Mapping[str, Any]
    expert_parallel: bool = False
    gpu: str = ""


def load_run(folder: str | Path) -> MeasuredRun:
    """Read a measured run.

    The server's clock is not the client's; the request that waited the least before it was queued ties them together.

    Raises:
        InputError: a file that is missing or cannot be read, a field that is missing, times that are not numbers or go back,
            tokens that are no whole numbers or too many, an engine's argument that is not modelled.
    """
    folder = Path(folder)
    meta = read_json(folder / "meta.json")
    if not isinstance(meta, dict):
        raise InputError(folder / "meta.json", "file", meta, "an object with engine_kwargs")
    path = folder / "requests.jsonl"
    size = readable(path, expected="a folder with requests.jsonl and meta.json")
    if size:
        check_text(path, size)
    lines = path.read_bytes().removeprefix(UTF8_MARK).splitlines()
    rows = [_request(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InputError(path, "file", "no requests", "one JSON object per line")
    table = np.array(rows)
    table = table[np.argsort(table[:, 0], kind="stable")]
    arrival, prompt, output, queued, first, last = table.T
    offset = (queued - arrival).min()
    _field(meta, "engine_kwargs", dict, folder / "meta.json")
    kwargs = run_arguments(meta, folder / "meta.json")
    gpus, ranks = (_field(kwargs, f"{name}_parallel_size", int, folder / "meta.json", 1) for name in ("tensor", "data"))
    for name, count in (("tensor_parallel_size", gpus), ("data_parallel_size", ranks)):
        if not 1 <= count <= MOST_GPUS:
            raise InputError(folder / "meta.json", name, count, f"GPUs of one server, from 1 to {MOST_GPUS:,}")
    check_parallel(kwargs, meta, folder / "meta.json")
    pool = _pool(meta, kwargs, folder / "meta.json", ranks)
    whole = int((prompt + output).max())
    if pool.max_model_len is not None and whole > pool.max_model_len:
        expected = f"at least {whole:,}, the tokens of a prompt and its answer in requests.jsonl"
        raise InputError(folder / "meta.json", "engine_kwargs.max_model_len", pool.max_model_len, expected)
    return MeasuredRun(
        path=folder,
        arrival_s=arrival - arrival[0],
        prompt_tokens=prompt.astype(np.int64),
        output_tokens=output.astype(np.int64),
        ttft_s=first - arrival - offset,
        e2e_s=last - arrival - offset,
        model=str(kwargs.get("model", "")),
        tensor_parallel=gpus,
        pool=pool,
        arguments=kwargs,
        expert_parallel=_field(kwargs, "enable_expert_parallel", bool, folder / "meta.json", False),
        gpu=str(_field(meta, "hardware", dict, folder / "meta.json", {}).get("device_name") or ""),
    )


_MOST_S = 1e15  # seconds on any clock; beyond it what lies between two requests is lost
_FIELDS = ("arrival_time", "input_toks", "output_toks", "queued_ts", "first_token_ts", "last_token_ts")


def _request(line: bytes, path: Path, number: int) -> list[float]:
    """The fields of one line."""
    row = parse_json(line, path, f"line {number}", "a JSON object")
    if not isinstance(row, dict):
        raise InputError(path, f"line {number}", row, "a JSON object")
    values = []
    for field in _FIELDS:
        if field not in row:
            raise InputError(path, f"line {number}", f"no {field}", "the fields " + ", ".join(_FIELDS))
        value = row[field]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > _MOST_S:
            raise InputError(path, f"line {number}", value, f"a finite number as {field}")
        values.append(float(value))
    for field, tokens in zip(_FIELDS[1:3], values[1:3], strict=True):
        if not 1 <= tokens <= MOST_TOKENS or tokens != int(tokens):
            raise InputError(
                path, f"line {number}, {field}", tokens, f"a whole number of tokens, from 1 to {MOST_TOKENS:,}"
            )
    if not values[3] <= values[4] <= values[5]:
        raise InputError(path, f"line {number}", values[3:], "queued, first and last token in this order")
    return values


def _pool(meta: Any, kwargs: Any, path: Path, ranks: int) -> GpuPool:
    """One replica with the engine's limits, which are those of each rank."""
    cache = _field(meta, "kv_cache", dict, path, {})
    blocks = _field(cache, "num_gpu_blocks", int, path, 0) or _field(kwargs, "num_gpu_blocks_override", int, path, 0)
    size = _field(cache, "block_size", int, path, 16)
    if size != 16:
        raise InputError(path, "kv_cache.block_size", size, "16, which the KV cache is counted in")
    check_memory(kwargs, blocks, path)
    context, held = longest(kwargs, path), 16 * blocks
    if blocks and context is not None and held < context:
        expected = f"at most the {held:,} tokens of kv_cache.num_gpu_blocks: vLLM does not start otherwise"
        raise InputError(path, "engine_kwargs.max_model_len", context, expected)
    sequences, tokens = (_field(kwargs, name, int, path) for name in ("max_num_seqs", "max_num_batched_tokens"))
    if not 1 <= sequences <= tokens:
        raise InputError(path, "max_num_seqs", sequences, f"1 to max_num_batched_tokens, {tokens}")
    if (blocks or cache.get("num_gpu_blocks") is not None) and blocks < 2:
        raise InputError(path, "kv_cache.num_gpu_blocks", blocks, "a whole number of at least 2")
    caching = _field(kwargs, "enable_prefix_caching", bool, path, True)
    given = {
        "kind": "gpu_pool",
        "replicas": 1,
        "usd_per_replica_hour": 0.0,
        "step_time": ANY_STEP,
        "max_num_seqs": sequences,
        "max_num_batched_tokens": tokens,
        # vLLM keeps one block as a placeholder.
        "kv_cache_tokens": (blocks - 1) * size if blocks else None,
        "max_model_len": context,
        "chunked_prefill": _field(kwargs, "enable_chunked_prefill", bool, path, True),
        "long_prefill_token_threshold": _field(kwargs, "long_prefill_token_threshold", int, path, 0),
        "prefix_caching": _field(cache, "enable_prefix_caching", bool, path, caching),
        "scheduling": _field(kwargs, "scheduling_policy", str, path, "fcfs"),
        "data_parallel": ranks,
    }
    try:
        return GpuPool.model_validate(given)
    except ValidationError as error:
        raise from_validation(path, error, "meta") from None


_KINDS = {int: "a whole number", bool: "true or false", dict: "an object", str: "text"}


def _field(raw: Any, name: str, kind: type, path: Path, default: Any = None) -> Any:
    value = raw.get(name) if isinstance(raw, dict) else raw
    if value is None and default is not None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(path, name, value, _KINDS[kind])
    return value
