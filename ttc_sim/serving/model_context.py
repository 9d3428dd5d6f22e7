"""How many tokens a model was made for: what a server takes as ``max_model_len`` unless it is told less."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.files.documents import read_json, read_yaml
from ttc_sim.files.opening import is_file
from ttc_sim.scenario import GpuPool, LayerStepTime, PhysicsStepTime
from ttc_sim.scenario.deployments import check_cache_holds
from ttc_sim.serving.catalogue import SHAPES, base, config_of, installed

_KNOWN = {
    "meta-llama/Llama-3.1-8B": 131_072,
    "meta-llama/Meta-Llama-3.1-8B": 131_072,
    "meta-llama/Llama-3.1-70B-Instruct": 131_072,
    "meta-llama/Meta-Llama-3.1-70B": 131_072,
    "Qwen/Qwen3-32B": 40_960,
    "Qwen/Qwen3-30B-A3B-Instruct-2507": 262_144,
    "01-ai/Yi-34B": 4_096,
    "meta-llama/Llama-2-7b-hf": 4_096,
    "RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic": 10_485_760,
}
"""``max_position_embeddings`` as published, of models whose shapes or times come with the project: whether or not the catalogue is
installed. (Mistral Nemo's has been published as 1,024,000 and as 131,072: nothing is taken for it.)"""

_UNSTRETCHED = ("default", "su", "longrope", "llama3", "mrope", "proportional")


def context_in(config: Mapping[str, Any], where: str | Path, field: str = "file") -> int | None:
    """Tokens that a model was made for, by its ``config.json``; ``None`` if it does not say.

    As vLLM 0.19 works it out (``_get_and_verify_max_len``): with position embeddings that are stretched, so many times as much.

    Raises:
        InputError: something else than a number of tokens.

    >>> context_in({"max_position_embeddings": 40960, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "config.json")
    81920
    """
    text = config.get("text_config")
    part = text if isinstance(text, Mapping) and text.get("max_position_embeddings") is not None else config
    most = part.get("max_position_embeddings")
    if most is None:
        return None
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST_TOKENS:
        raise InputError(where, f"{field}: max_position_embeddings", most, f"tokens, from 1 to {MOST_TOKENS:,}")
    scaling = part.get("rope_scaling") or part.get("rope_parameters")
    kind = (scaling.get("rope_type") or scaling.get("type")) if isinstance(scaling, Mapping) else None
    if not isinstance(scaling, Mapping) or kind is None or kind in _UNSTRETCHED or scaling.get("factor") is None:
        return most
    factor, original = scaling["factor"], scaling.get("original_max_position_embeddings", most)
    for name, value in (("factor", factor), ("original_max_position_embeddings", original)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MOST_TOKENS:
            raise InputError(where, f"{field}: rope_scaling.{name}", value, "a number above 0")
    return int((original if kind == "yarn" else most) * factor)


def context_of_model(model: str, folder: str | Path = ".") -> int | None:
    """Tokens that a model was made for; ``None`` where that is not known.

    Args:
        model: its name, or its ``config.json`` or the folder of that, from ``folder``.

    >>> context_of_model("01-ai/Yi-34B"), context_of_model("my-own/model")
    (4096, None)
    """
    if model in _KNOWN:
        return _KNOWN[model]
    for path in (Path(folder) / model, Path(folder) / model / "config.json"):
        if is_file(path):
            described = read_json(path)
            return context_in(described, path) if isinstance(described, Mapping) else None
    found = base(model)
    if found is not None and found.context is not None:
        return found.context
    name = model if found is None else found.model
    if name in _KNOWN:
        return _KNOWN[name]
    if name in SHAPES:
        return int(SHAPES[name]["max_position_embeddings"])
    config = config_of(name) if installed() is not None else None
    return None if config is None else context_in(config["raw_config"], "catalogue", name)


def context_of_pool(pool: GpuPool, folder: str | Path = ".") -> tuple[str, int] | None:
    """A pool's model and the tokens that it was made for, where both are known."""
    model: object = pool.model
    if isinstance(pool.step_time, PhysicsStepTime):
        model = pool.step_time.model
    elif isinstance(pool.step_time, LayerStepTime):
        meta = Path(folder) / pool.step_time.gpu_profile / "meta.yaml"
        described = read_yaml(meta) if is_file(meta) else None
        model = described.get("model") if isinstance(described, dict) else None
    elif pool.step_time is not None:
        return None
    most = context_of_model(model, folder) if isinstance(model, str) else None
    return None if most is None else (str(model), most)


def with_context(pool: GpuPool, folder: str | Path, where: str | Path = "pool", field: str = "") -> GpuPool:
    """The pool with the context of its model as ``max_model_len``, or what its KV cache holds, unless it has one of its own.

    Args:
        folder: that relative paths start from.
        where: file that errors name; field: key in it that the pool stands under, with its dot.

    Raises:
        InputError: more than the model was made for, or than the cache holds; or, without ``chunked_prefill``, more than an
            iteration takes in.
    """
    if pool.max_model_len is not None and pool.kv_cache_tokens is not None:
        try:
            check_cache_holds(pool.kv_cache_tokens, pool.max_model_len)
        except ValueError as error:
            raise InputError(where, f"{field}max_model_len", pool.max_model_len, str(error)) from None
    known = context_of_pool(pool, folder)
    if known is None:
        if not pool.chunked_prefill and pool.max_model_len is None:
            expected = (
                "the longest prompt that is ever taken in, without chunked_prefill: nothing is known of the model's"
            )
            raise InputError(where, f"{field}max_model_len", "nothing", expected)
        return pool
    model, most = known
    if pool.max_model_len is not None and pool.max_model_len > most:
        expected = f"at most {most}, which {model} was made for"
        raise InputError(where, f"{field}max_model_len", pool.max_model_len, expected)
    if pool.max_model_len is not None:
        return pool
    most = most if pool.kv_cache_tokens is None else min(most, pool.kv_cache_tokens)
    try:
        pool.check_whole_prompts(most)
    except ValueError as error:
        raise InputError(where, f"{field}max_num_batched_tokens", pool.max_num_batched_tokens, str(error)) from None
    return pool.model_copy(update={"max_model_len": most})


__all__ = ["context_in", "context_of_model", "context_of_pool", "with_context"]
