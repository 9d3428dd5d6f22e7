"""The catalogue of measured GPU operators: which models run where, and what an iteration of them takes.

The numbers are those of ``aiconfigurator-core`` (Apache-2.0, NVIDIA): times of matrix products, attention, experts and
collectives measured one by one on the GPUs, and the shapes of current models. It is an optional part,
``pip install 'ttc-sim[gpus]'``; deployments of the shipped scenarios come with their numbers and do without it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ttc_sim.errors import InputError, nearest
from ttc_sim.serving.operators import CHUNKS, CONTEXTS, KV, MOST_DECODING, SEQUENCES, TOKENS, OperatorTimes

PACKAGE = "aiconfigurator-core"
BACKENDS = ("vllm", "sglang", "trtllm")
PRECISIONS = ("bf16", "fp8", "fp4", "int4")
MEMORY_SHARE = 0.9
"""Share of the GPU's memory that a server uses: vLLM's ``gpu_memory_utilization`` unless told otherwise."""

ALIASES = {
    "meta-llama/Llama-3.1-8B": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Llama-3.1-70B-Instruct": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Llama-3.3-70B-Instruct": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Llama-3.1-405B-Instruct": "meta-llama/Meta-Llama-3.1-405B",
}
"""Names that a model of the same shape goes by."""


def _llama(layers: int, hidden: int, heads: int, ffn: int, vocab: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": ffn,
        "vocab_size": vocab,
        "max_position_embeddings": 32768,
        "torch_dtype": "bfloat16",
    }


SHAPES: dict[str, dict[str, Any]] = {
    "mistralai/Mistral-Small-24B-Instruct-2501": _llama(40, 5120, 32, 32768, 131072),
    "Qwen/Qwen2.5-14B-Instruct": _llama(48, 5120, 40, 13824, 152064),
    "Qwen/Qwen2.5-32B-Instruct": _llama(64, 5120, 40, 27648, 152064),
}
"""Models that the catalogue has no shape of but whose operators it can look up: all that counts is in their ``config.json``."""

_LINK = re.compile(r"(_ar(_\d)?$|allreduce|dispatch|p2p)")
_ORIGIN = "{package} {version} (Apache-2.0, NVIDIA), operators of {backend} {measured}"


class Served(NamedTuple):
    """What serves a model: all that its operators' times depend on.

    Attributes:
        model, gpu, backend: by the catalogue's names.
        tensor_parallel: GPUs that share every layer.
        expert_parallel: GPUs among which experts are divided whole; those of ``tensor_parallel`` each hold a part of every
            expert if 1.
        data_parallel: servers that each attend to requests of their own and share the experts.
        precision: of the weights; ``None`` for the model's own.
    """

    model: str
    gpu: str
    backend: str = "vllm"
    tensor_parallel: int = 1
    expert_parallel: int = 1
    data_parallel: int = 1
    precision: str | None = None

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor_parallel * self.data_parallel


def installed() -> str | None:
    """Version of the catalogue, ``None`` without it."""
    return metadata.version(PACKAGE) if find_spec("aiconfigurator_core") is not None else None


def need(where: str | Path, field: str, value: object) -> None:
    """Refuse to go on without the catalogue.

    Raises:
        InputError: that says what to install.
    """
    if installed() is None:
        raise InputError(where, field, value, "the catalogue of GPU operators: pip install 'ttc-sim[gpus]'")


@cache
def models() -> tuple[str, ...]:
    """Models whose shapes the catalogue holds, sorted."""
    from aiconfigurator_core.sdk.common import DefaultHFModels

    return tuple(sorted({*SHAPES, *(name for name in DefaultHFModels if _config(name) is not None)}))


@cache
def gpus() -> dict[str, dict[str, Any]]:
    """GPUs with measured operators, by name: the data sheet's ``gpu`` and ``node``."""
    from aiconfigurator_core.sdk import perf_database

    folder = Path(perf_database.get_systems_paths()[0])
    measured = {file.stem for file in (folder / "support_matrix").glob("*.csv")}
    return {name: dict(perf_database.load_system_spec(name)) for name in sorted(measured)}


@cache
def supported() -> frozenset[tuple[str, str, str]]:
    """(model, GPU, backend) whose operators were all measured, by the catalogue's own tests."""
    from aiconfigurator_core.sdk.common import get_support_matrix

    found = {
        (row["HuggingFaceID"], row["System"], row["Backend"])
        for row in get_support_matrix()
        if row["Mode"] == "agg" and row["Status"] == "PASS" and row.get("Source", "silicon") == "silicon"
    }
    # These are of the shape of a Llama, and need no operators that it does not.
    llama = {(gpu, backend) for model, gpu, backend in found if model == "meta-llama/Meta-Llama-3.1-8B"}
    return frozenset(found | {(name, gpu, backend) for name in SHAPES for gpu, backend in llama})


@cache
def _config(model: str) -> Mapping[str, Any] | None:
    """Shape of a model of the catalogue; never asks a network for it."""
    from aiconfigurator_core.sdk import utils
    from aiconfigurator_core.sdk.common import DefaultHFModels

    if model not in SHAPES and model not in DefaultHFModels and not Path(model).is_dir():
        return None
    with quiet():
        try:
            found: Mapping[str, Any] = utils.get_model_config_from_model_path(_path(model))
        except (OSError, ValueError, KeyError, RuntimeError, utils.HuggingFaceDownloadError):
            return None
    return found


@cache
def _path(model: str) -> str:
    """What the estimator takes for a model: its name, or a folder with its ``config.json``."""
    if model not in SHAPES:
        return model
    folder = tempfile.TemporaryDirectory(prefix="ttc-sim-")
    _folders.append(folder)
    (Path(folder.name) / "config.json").write_text(json.dumps(SHAPES[model]), encoding="utf-8")
    return folder.name


_folders: list[tempfile.TemporaryDirectory[str]] = []  # kept until the process ends, and then removed


def shape(model: str) -> str:
    """All that is known of a model's shape, as text."""
    config = _config(model)
    assert config is not None
    return json.dumps(config["raw_config"], sort_keys=True, default=str)


def own_precision(model: str) -> str:
    """Precision that a model's weights are published in."""
    config = _config(model)
    assert config is not None
    algorithm = str(config["raw_config"].get("quant_algo") or "")
    if "fp4" in algorithm or "mixed" in algorithm:
        return "fp4"
    if "compressed" in algorithm or "int4" in algorithm:
        return "int4"
    return "fp8" if "fp8" in algorithm else "bf16"


def heads(model: str) -> int:
    """Attention heads of a model, that tensor parallelism must divide."""
    config = _config(model)
    assert config is not None
    return int(config["n"])


def layers(model: str) -> int:
    """Layers of a model."""
    config = _config(model)
    assert config is not None
    return int(config["layers"])


def has_experts(model: str) -> bool:
    """Whether a model is a mixture of experts."""
    config = _config(model)
    return config is not None and bool(config["num_experts"])


def cuttable(model: str, ways: int, precision: str | None = None) -> bool:
    """Whether every expert of a model can be cut into so many parts.

    Weights scaled in blocks of 128 cannot be cut inside a block: such a model is served with whole experts on each GPU.
    """
    config = _config(model)
    assert config is not None
    blocks = str(config["raw_config"].get("quant_algo")) == "fp8_block" and precision in (None, "fp8")
    return not blocks or int(config["moe_inter_size"]) % (128 * ways) == 0


def known(model: str, where: str | Path, field: str = "") -> str:
    """The catalogue's own name of a model.

    Raises:
        InputError: the catalogue is not installed, or knows no such model; with the nearest names.
    """
    need(where, f"{field}model", model)
    name = ALIASES.get(model, model)
    if _config(name) is None:
        raise InputError(where, f"{field}model", model, nearest(model, {*models(), *ALIASES}))
    return name


def checked(served: Served, where: str | Path, field: str = "") -> Served:
    """The deployment by the catalogue's own names.

    Args:
        served: as the user said it.
        where: file that errors name; ``field``: key in it that the deployment stands under, with its dot.

    Raises:
        InputError: the catalogue is not installed, a name is unknown, a parallelism does not divide the heads or goes over a
            node, or the GPU lacks the precision.
    """
    model = known(served.model, where, field)
    if served.backend not in BACKENDS:
        raise InputError(where, f"{field}backend", served.backend, nearest(served.backend, BACKENDS))
    if served.gpu not in gpus():
        raise InputError(where, f"{field}gpu", served.gpu, nearest(served.gpu, gpus()))
    sheet = gpus()[served.gpu]
    node = int(sheet["node"]["num_gpus_per_node"])
    count = heads(model)
    fitting = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= node and count % n == 0]
    if served.tensor_parallel not in range(1, node + 1) or count % served.tensor_parallel:
        expected = f"one of {', '.join(map(str, fitting))}: it must divide the {count} attention heads of {model}"
        raise InputError(
            where, f"{field}tensor_parallel", served.tensor_parallel, f"{expected} within a node of {node}"
        )
    if served.expert_parallel > 1 and not has_experts(model):
        raise InputError(where, f"{field}expert_parallel", True, f"a mixture of experts; {model} is dense")
    cut = served.gpus // served.expert_parallel
    if has_experts(model) and not cuttable(model, cut, served.precision):
        expected = f"true: an expert of {model} cannot be cut into {cut} parts"
        raise InputError(where, f"{field}expert_parallel", False, expected)
    precision = served.precision or own_precision(model)
    if precision not in PRECISIONS:
        raise InputError(where, f"{field}precision", precision, nearest(precision, PRECISIONS))
    lacking = _lacking(model, served.precision, sheet["gpu"])
    if lacking:
        asked = served.precision or f"{precision}, the model's own"
        raise InputError(where, f"{field}precision", asked, f"one that {served.gpu} has: it lacks {lacking}")
    return served._replace(model=model)


def _lacking(model: str, precision: str | None, sheet: Mapping[str, Any]) -> str | None:
    own = precision is None or precision == own_precision(model)
    config = _config(model)
    assert config is not None
    # Weights in MXFP4 are multiplied in 16 bits where there is no better way; NVFP4 and FP8 need units of their own.
    widened = own and str(config["raw_config"].get("quant_algo")) == "mxfp4"
    wanted = precision or own_precision(model)
    if wanted == "fp4" and not widened and not sheet.get("fp4_tc_flops"):
        return "FP4"
    return "FP8" if wanted == "fp8" and not sheet.get("fp8_tc_flops") else None


def _engine(served: Served) -> tuple[str, dict[str, Any]]:
    """Checkpoint and arguments for the catalogue's estimator."""
    model, own = served.model, own_precision(served.model)
    config = _config(model)
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
        if _config(sibling) is not None:
            model = sibling
        else:
            modes = {"gemm_quant_mode": "nvfp4", **({"moe_quant_mode": "nvfp4"} if moe else {}), **kv}
    else:
        modes = {"gemm_quant_mode": "int4_wo", **({"moe_quant_mode": "int4_wo"} if moe else {})}
    sizes: dict[str, Any] = {"tp_size": served.tensor_parallel}
    if moe:
        sizes |= {
            "attention_dp_size": served.data_parallel,
            "moe_ep_size": served.expert_parallel,
            "moe_tp_size": served.gpus // served.expert_parallel,
        }
    return _path(model), {**sizes, **modes}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the catalogue's remarks on its own data from the user."""
    logger = logging.getLogger("aiconfigurator_core")
    before, aside = logger.level, logging.root.manager.disable
    logger.setLevel(logging.CRITICAL)
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
        logging.disable(aside)


def measure(served: Served, where: str | Path, field: str = "") -> OperatorTimes:
    """Look up the times of a deployment's operators in the catalogue; takes one to five seconds.

    Args:
        served: by the catalogue's own names, see :func:`checked`.
        where, field: that errors name.

    Raises:
        InputError: operators of this model were not measured on this GPU, with the catalogue's own reason.
    """
    from aiconfigurator_core.sdk.engine import EngineHandle

    model, arguments = _engine(served)
    try:
        with quiet():
            handle = EngineHandle.compile(model, served.gpu, served.backend, **arguments)
            return _times(served, handle, _memory(served, model, arguments))
    except (ValueError, RuntimeError, KeyError) as error:
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
    kinds_here = [kind for kind in by_kind[0] if kind != "head"]
    version = installed()
    return OperatorTimes(
        origin=_ORIGIN.format(package=PACKAGE, version=version, backend=served.backend, measured=memory["measured"]),
        moe=has_experts(served.model),
        layers=layers(served.model),
        decode={k: [total(decode, by_kind[1][k], batch_size=n, s=1024) for n in decoding] for k in kinds_here},
        prefill={k: [total(prefill, by_kind[0][k], batch_size=1, s=int(n)) for n in TOKENS] for k in kinds_here},
        head=[total(decode, by_kind[1]["head"], batch_size=int(n), s=1024) for n in SEQUENCES],
        decode_attention=[
            [total(decode, sorted(attends[1]), batch_size=int(n), s=int(kv)) for kv in KV] for n in SEQUENCES
        ],
        prefill_attention=[
            [total(prefill, sorted(attends[0]), batch_size=1, s=int(c), prefix=int(p)) for p in CONTEXTS]
            for c in CHUNKS
        ],
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
    return {
        "measured": measured,
        "memory_bytes": float(parts["gpu_memory_capacity_bytes"]),
        "weight_bytes": float(parts["weights_bytes"]),
        "activation_bytes": float(parts["activations_bytes"]),
        "runtime_bytes": float(parts["runtime_overhead_bytes"] + parts["comm_overhead_bytes"]),
        "kv_bytes_per_token": float(parts["kv_size_per_token_bytes"]),
        "memory_share": MEMORY_SHARE,
        "kv_tokens": kv_tokens,
    }


def grid() -> list[list[float]]:
    """The knots, as part of a cache's key."""
    return [np.asarray(knots).tolist() for knots in (TOKENS, SEQUENCES, KV, CHUNKS, CONTEXTS)]
