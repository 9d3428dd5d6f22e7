"""A model's ``config.json``, looked at before anything is computed from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError

_MOST = {
    **dict.fromkeys(("num_hidden_layers", "interleave_moe_layer_step", "num_nextn_predict_layers"), 10_000),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "head_dim"), 100_000),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "num_experts_per_tok"), 100_000),
    **dict.fromkeys(("hidden_size", "intermediate_size", "intermediate_size_mlp", "moe_intermediate_size"), 10_000_000),
    "vocab_size": 100_000_000,
}
"""What are whole numbers, and the most that each may be."""
_NONE_OF_THEM = (
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "num_experts_per_tok",
    "num_nextn_predict_layers",
)


def check_shape(config: Mapping[str, Any], where: str | Path, field: str) -> None:
    """Refuse numbers that a model's shape cannot have; keys that are missing are for whoever needs them.

    Raises:
        InputError: text or another value where a whole number is meant, or a number that is out of range.

    >>> check_shape({"num_hidden_layers": "32"}, "config.json", "file")
    Traceback (most recent call last):
    ttc_sim.base.errors.InputError: config.json: file: num_hidden_layers: got '32'; expected a whole number from 1 to 10,000
    """
    for name, most in _MOST.items():
        value, least = config.get(name), 0 if name in _NONE_OF_THEM else 1
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InputError(where, f"{field}: {name}", value, f"a whole number from {least} to {most:,}")
    heads = config.get("num_attention_heads")
    for name, whole in (("num_key_value_heads", heads), ("num_experts_per_tok", experts_of(config) or None)):
        part = config.get(name)
        if part is not None and whole is not None and part > whole:
            raise InputError(where, f"{field}: {name}", part, f"at most {whole}")
    hidden = config.get("hidden_size")
    if config.get("head_dim") is None and heads is not None and hidden is not None and hidden < heads:
        raise InputError(where, f"{field}: hidden_size", hidden, f"at least the attention heads, {heads}")


def check_heads(
    heads: int, kv_heads: int, tensor_parallel: int, where: str | Path, field: str = "tensor_parallel"
) -> None:
    """Refuse GPUs that cannot share a model's attention heads evenly, as vLLM does.

    Raises:
        InputError: they do not divide the heads; or neither do they divide the heads of keys and values, nor those them.

    >>> check_heads(56, 8, 7, "physics")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ttc_sim.base.errors.InputError: physics: tensor_parallel: got 7; expected GPUs that share 56 attention heads evenly, ...
    """
    able = [n for n in range(1, heads + 1) if heads % n == 0 and (kv_heads % n == 0 or n % kv_heads == 0)]
    if tensor_parallel not in able:
        listed = ", ".join(map(str, able[:12]))
        expected = f"GPUs that share {heads} attention heads evenly, and {kv_heads} of keys and values: one of {listed}"
        raise InputError(where, field, tensor_parallel, expected)


def experts_of(config: Mapping[str, Any]) -> int:
    """Experts of a layer; 0 of a dense model."""
    return int(config.get("num_local_experts") or config.get("num_experts") or config.get("n_routed_experts") or 0)


__all__ = ["check_heads", "check_shape", "experts_of"]
