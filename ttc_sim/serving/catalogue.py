"""The catalogue of measured GPU operators: which models run where, and what an iteration of them takes.

The numbers are those of ``aiconfigurator-core`` (Apache-2.0, NVIDIA): times of matrix products, attention, experts and
collectives measured one by one on the GPUs, and the shapes of current models. It is an optional part,
``pip install 'ttc-sim[gpus]'``; deployments of the shipped scenarios come with their numbers and do without it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.files.documents import read_json
from ttc_sim.files.leftovers import temporary_folder
from ttc_sim.files.opening import is_file, is_folder
from ttc_sim.serving.model_names import ALIASES as ALIASES
from ttc_sim.serving.model_names import UNMEASURED, Base, base_of, parsed
from ttc_sim.serving.model_shape import check_heads, check_shape

PACKAGE = "aiconfigurator-core"
BACKENDS = ("vllm", "sglang", "trtllm")
PRECISIONS = ("bf16", "fp8", "fp4", "int4")


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


def _nemotron(pattern: str, hidden: int, ffn: int) -> dict[str, Any]:
    """A Nemotron-H: a letter per layer, ``M`` of Mamba, ``-`` of an MLP, ``*`` of attention."""
    return {
        "architectures": ["NemotronHForCausalLM"],
        "hybrid_override_pattern": pattern,
        "num_hidden_layers": len(pattern),
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "attention_head_dim": 128,
        "mamba_num_heads": 128,
        "mamba_head_dim": 80,
        "ssm_state_size": 128,
        "conv_kernel": 4,
        "n_groups": 8,
        "chunk_size": 128,
        "vocab_size": 131072,
        "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    }


_QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 40960}

SHAPES: dict[str, dict[str, Any]] = {
    "mistralai/Mistral-Small-24B-Instruct-2501": _llama(40, 5120, 32, 32768, 131072),
    "Qwen/Qwen2.5-14B-Instruct": _llama(48, 5120, 40, 13824, 152064),
    "Qwen/Qwen2.5-32B-Instruct": _llama(64, 5120, 40, 27648, 152064),
    "Qwen/Qwen3-4B": _llama(36, 2560, 32, 9728, 151936) | _QWEN3,
    "Qwen/Qwen3-14B": _llama(40, 5120, 40, 17408, 151936) | _QWEN3,
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": _nemotron(
        "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-", 4480, 15680
    ),
    "nvidia/NVIDIA-Nemotron-Nano-12B-v2": _nemotron(
        "M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-", 5120, 20480
    ),
}
"""Models that the catalogue has no shape of but whose operators it can look up: all that counts is in their ``config.json``."""

_ATTEND_IN_PART = ("NemotronH", "Qwen3_5", "KimiK3")
"""Beginnings of architectures with layers of linear attention or of state spaces."""

_LIKE = {
    "LlamaForCausalLM": "meta-llama/Meta-Llama-3.1-8B",
    "Qwen3ForCausalLM": "Qwen/Qwen3-32B",
    "NemotronHForCausalLM": "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
}


class Served(NamedTuple):
    """What serves a model: all that its operators' times depend on.

    Attributes:
        model, gpu, backend: by the catalogue's names.
        tensor_parallel: GPUs that share every layer.
        expert_parallel: GPUs among which experts are divided whole; those of ``tensor_parallel`` each hold a part of every
            expert if 1.
        data_parallel: servers that each attend to requests of their own and share the experts.
        precision: of the weights; ``None`` for the model's own.
        kv_cache_dtype: ``bf16`` or ``fp8``; ``None`` for what the catalogue takes with that precision.
    """

    model: str
    gpu: str
    backend: str = "vllm"
    tensor_parallel: int = 1
    expert_parallel: int = 1
    data_parallel: int = 1
    precision: str | None = None
    kv_cache_dtype: str | None = None

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

    return tuple(sorted({*SHAPES, *filter(is_shipped, DefaultHFModels)}))


def is_shipped(name: str) -> bool:
    """Whether it is one of :func:`models`, without reading the shapes of all."""
    from aiconfigurator_core.sdk.common import DefaultHFModels

    return name in SHAPES or (name in DefaultHFModels and config_of(name) is not None)


@cache
def gpus() -> dict[str, dict[str, Any]]:
    """GPUs with measured operators, by name: the data sheet's ``gpu`` and ``node``."""
    from aiconfigurator_core.sdk import perf_database

    folder = Path(perf_database.get_systems_paths()[0])
    measured = {file.stem for file in (folder / "support_matrix").glob("*.csv")}
    return {name: dict(perf_database.load_system_spec(name)) for name in sorted(measured)}


@cache
def supported() -> frozenset[tuple[str, str, str]]:
    """(model, GPU, backend) whose operators were all measured, by the catalogue's own tests.

    Raises:
        InputError: the locale's encoding, which the catalogue takes for its files', is another one.
    """
    from aiconfigurator_core.sdk.common import get_support_matrix

    try:
        rows = get_support_matrix()
    except UnicodeDecodeError as error:
        expected = "UTF-8, as the catalogue's files are: PYTHONUTF8=1, or a locale of it"
        raise InputError("catalogue", "encoding", error.encoding, expected) from None
    found = {
        (row["HuggingFaceID"], row["System"], row["Backend"])
        for row in rows
        if row["Mode"] == "agg" and row["Status"] == "PASS" and row.get("Source", "silicon") == "silicon"
    }
    # These need no operators that a model of the same kind does not.
    for name, config in SHAPES.items():
        like = _LIKE[config["architectures"][0]]
        found |= {(name, gpu, backend) for model, gpu, backend in found if model == like}
    return frozenset(found)


@cache
def config_of(model: str) -> Mapping[str, Any] | None:
    """Shape of a model of the catalogue; never asks a network for it."""
    from aiconfigurator_core.sdk import utils
    from aiconfigurator_core.sdk.common import DefaultHFModels

    if model not in SHAPES and model not in DefaultHFModels and not is_folder(model):
        return None
    folder = Path(model)
    if model not in SHAPES and model not in DefaultHFModels:
        config = read_json(folder / "config.json")
        if not isinstance(config, dict):
            raise InputError(folder / "config.json", "file", config, "an object with the model's shape")
        for part in (config, config.get("text_config")):
            if isinstance(part, dict):
                check_shape(part, folder / "config.json", "file")
    with quiet():
        try:
            found: Mapping[str, Any] = utils.get_model_config_from_model_path(path_of(model))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RuntimeError):
            return None
        except utils.HuggingFaceDownloadError:
            return None
    return found


@cache
def path_of(model: str) -> str:
    """What the estimator takes for a model: its name, or a folder with its ``config.json``."""
    if model not in SHAPES:
        return model
    folder = temporary_folder("shape")
    (folder / "config.json").write_text(json.dumps(SHAPES[model]), encoding="utf-8")
    return str(folder)


def shape(model: str) -> str:
    """All that is known of a model's shape, as text."""
    config = config_of(model)
    assert config is not None
    return json.dumps(config["raw_config"], sort_keys=True, default=str)


def own_precision(model: str) -> str:
    """Precision that a model's weights are published in."""
    config = config_of(model)
    assert config is not None
    algorithm = str(config["raw_config"].get("quant_algo") or "")
    if "fp4" in algorithm or "mixed" in algorithm:
        return "fp4"
    if "compressed" in algorithm:
        return "fp8" if _bits(config["raw_config"]) == {8} else "int4"
    if any(name in algorithm for name in ("int4", "awq", "gptq")):
        return "int4"
    return "fp8" if "fp8" in algorithm else "bf16"


def _bits(raw: Mapping[str, Any]) -> set[object]:
    """Of each weight, as compressed-tensors writes them down."""
    said = raw.get("quantization_config")
    groups = said.get("config_groups") if isinstance(said, dict) else None
    weights = (
        [one.get("weights") for one in groups.values() if isinstance(one, dict)] if isinstance(groups, dict) else []
    )
    return {one.get("num_bits") for one in weights if isinstance(one, dict)}


def heads(model: str) -> int:
    """Attention heads of a model, that tensor parallelism must divide."""
    config = config_of(model)
    assert config is not None
    return int(config["n"])


def layers(model: str) -> int:
    """Layers of a model."""
    config = config_of(model)
    assert config is not None
    return int(config["layers"])


def has_experts(model: str) -> bool:
    """Whether a model is a mixture of experts."""
    config = config_of(model)
    return config is not None and bool(config["num_experts"])


def kind_of(model: str) -> str:
    """``experts`` of a mixture of experts, ``hybrid`` of one whose layers attend only in part, else ``dense``.

    Raises:
        InputError: the name stands for nothing known.
    """
    name = base_name(model)
    if name in ALIASES.values():
        return "dense"
    if name in SHAPES:
        return "hybrid" if SHAPES[name]["architectures"][0].startswith(_ATTEND_IN_PART) else "dense"
    config = config_of(known(model, "catalogue"))
    assert config is not None
    if str(config["architecture"]).startswith(_ATTEND_IN_PART):
        return "hybrid"
    return "experts" if config["num_experts"] else "dense"


def cuttable(model: str, ways: int, precision: str | None = None) -> bool:
    """Whether every expert of a model can be cut into so many parts.

    Weights scaled in blocks of 128 cannot be cut inside a block: such a model is served with whole experts on each GPU.
    """
    config = config_of(model)
    assert config is not None
    blocks = str(config["raw_config"].get("quant_algo")) == "fp8_block" and precision in (None, "fp8")
    return not blocks or int(config["moe_inter_size"]) % (128 * ways) == 0


@cache
def base(model: str) -> Base | None:
    """The model of the catalogue that a name stands for (:mod:`ttc_sim.serving.model_names`), or a folder with a shape of its own.

    Without the catalogue, of the models whose operators are shipped.
    """
    shipped = {*SHAPES, *ALIASES.values()}
    if model in shipped or model in ALIASES or installed() is None:
        return base_of(model, shipped)
    if not is_shipped(model) and is_file(Path(model) / "config.json"):
        return None if config_of(model) is None else Base(model, None)
    return base_of(model, models())


def base_name(model: str) -> str:
    """The catalogue's name of what a model's name stands for; the name itself where it stands for nothing known."""
    found = base(model)
    return model if found is None else found.model


def named(model: str, precision: str | None, where: str | Path, field: str = "") -> tuple[str, str | None]:
    """The catalogue's own name of a model, and the precision of its weights; ``None`` for the model's own.

    Args:
        model: as the user said it; ``precision``: likewise, ``None`` if nothing was said.
        where, field: that errors name.

    Raises:
        InputError: the catalogue is not installed or knows no such model (with the nearest names), the name says a precision of
            which no operators were measured, or another than ``precision``.
    """
    need(where, f"{field}model", model)
    found = base(model)
    if found is None:
        if is_file(Path(model) / "config.json"):
            raise InputError(Path(model) / "config.json", "architectures", _architectures(model), _EXPECTED_SHAPE)
        raise InputError(where, f"{field}model", model, nearest(model, {*models(), *ALIASES}))
    if found.precision == UNMEASURED:
        expected = f"a checkpoint in {', '.join(PRECISIONS)}: of this one's precision no operators were measured"
        raise InputError(where, f"{field}model", model, expected)
    said = found.precision or (own_precision(found.model) if parsed(model).precision is not None else None)
    if found.model != model and None not in (said, precision) and said != precision:
        raise InputError(where, f"{field}precision", precision, f"{said}, as the name of {model} says")
    return found.model, precision or found.precision


_EXPECTED_SHAPE = "an architecture and a shape that operators were measured of"


def _architectures(folder: str) -> object:
    config = read_json(Path(folder) / "config.json")
    return config.get("architectures") if isinstance(config, dict) else config


@cache
def shape_like(folder: str) -> str | None:
    """The known model whose layers, widths and experts a folder's ``config.json`` has; ``None``: a shape of its own.

    Of several the one in the same precision, or else in 16 bits. Fine-tunes may have added words to the vocabulary.
    """
    mine = _dimensions(folder)
    same = sorted(name for name in models() if _dimensions(name) == mine)
    wanted = {own: name for name in reversed(same) for own in [own_precision(name)]}
    return wanted.get(own_precision(folder), wanted.get("bf16", same[0] if same else None))


def _dimensions(model: str) -> dict[str, Any] | None:
    config = config_of(model)
    left_out = ("raw_config", "context", "vocab")
    return None if config is None else {key: one for key, one in config.items() if key not in left_out}


def measured_as(model: str) -> str:
    """The known model whose measurements say something of a model: its base, or the one of its shape; itself without any."""
    name = base_name(model)
    if installed() is None or is_shipped(name) or base(model) is None:
        return name
    return shape_like(name) or name


def said_base(model: str) -> str | None:
    """What a model's times rest on, where that is not the model of that very name; ``None`` otherwise."""
    found = base(model)
    if found is None:
        return None
    if found.model == model and installed() is not None and not is_shipped(model):
        like = shape_like(model)
        of = "a shape of its own" if like is None else f"the shape of {like}"
        mine, words = (int((config_of(name) or {}).get("vocab", 0)) for name in (model, like or model))
        of += "" if mine == words else f" with a vocabulary of {mine:,}"
        return f"{Path(model).name} is served as its config.json says: {of}, in {own_precision(model)}"
    if found.model == model or model in ALIASES:
        return None
    weights = "" if found.precision is None else f", with weights in {found.precision}"
    return f"{model} is served as {found.model}, which has its shape{weights}"


def known(model: str, where: str | Path, field: str = "") -> str:
    """The catalogue's own name of a model.

    Raises:
        InputError: as :func:`named`.
    """
    return named(model, None, where, field)[0]


def checked(served: Served, where: str | Path, field: str = "") -> Served:
    """The deployment by the catalogue's own names.

    Args:
        served: as the user said it.
        where: file that errors name; ``field``: key in it that the deployment stands under, with its dot.

    Raises:
        InputError: the catalogue is not installed, a name is unknown, a parallelism does not divide the heads or goes over a
            node, or the GPU lacks the precision.
    """
    model, weights = named(served.model, served.precision, where, field)
    kept = served.kv_cache_dtype or _kept_beside(served.model)
    served = served._replace(precision=weights, kv_cache_dtype=kept)
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
    config = config_of(model)
    if config is not None and config.get("n_kv"):
        check_heads(count, int(config["n_kv"]), served.tensor_parallel, where, f"{field}tensor_parallel")
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


def _kept_beside(model: str) -> str | None:
    """Precision of keys and values of a checkpoint whose name says that of its weights; ``None`` for what is usual with that.

    Those of NVIDIA, and those that say so, keep them in 8 bits; others leave them in 16, as vLLM then does.
    """
    said = parsed(model).precision
    in_eight = model.lower().startswith("nvidia/") or "-kv" in model.lower()
    # The catalogue's own checkpoints are served as its measured servers were.
    return None if is_shipped(model) or said in (None, "bf16") or in_eight else "bf16"


def _lacking(model: str, precision: str | None, sheet: Mapping[str, Any]) -> str | None:
    own = precision is None or precision == own_precision(model)
    config = config_of(model)
    assert config is not None
    # Weights in MXFP4 are multiplied in 16 bits where there is no better way; NVFP4 and FP8 need units of their own.
    widened = own and str(config["raw_config"].get("quant_algo")) == "mxfp4"
    wanted = precision or own_precision(model)
    if wanted == "fp4" and not widened and not sheet.get("fp4_tc_flops"):
        return "FP4"
    return "FP8" if wanted == "fp8" and not sheet.get("fp8_tc_flops") else None


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
