"""Which known architecture a model's name stands for: its variants, fine-tunes and quantised checkpoints.

A variant has the shape of its base, so it takes the same time per token; what its name says of the weights' precision is taken
from there. A name is found by rules and tables that are written down here. Nothing is guessed from likeness: ``Qwen3-8B-Math``
may be a Qwen3-8B with other layers.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

ALIASES = {
    "meta-llama/Llama-3.1-8B": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Llama-3.1-70B-Instruct": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Llama-3.1-405B-Instruct": "meta-llama/Meta-Llama-3.1-405B",
}
"""Other names of the very same model, as lists and completions show them."""

_SAME_SHAPE = {
    "llama-3-8b": "meta-llama-3.1-8b",
    "llama-3-70b": "meta-llama-3.1-70b",
    "meta-llama-3-8b": "meta-llama-3.1-8b",
    "meta-llama-3-70b": "meta-llama-3.1-70b",
    "llama-3.1-8b": "meta-llama-3.1-8b",
    "llama-3.1-70b": "meta-llama-3.1-70b",
    "llama-3.3-70b": "meta-llama-3.1-70b",
    "meta-llama-3.3-70b": "meta-llama-3.1-70b",
    "llama-3.1-405b": "meta-llama-3.1-405b",
    "llama-3.1-nemotron-70b": "meta-llama-3.1-70b",
    "deepseek-r1-distill-llama-8b": "meta-llama-3.1-8b",
    "deepseek-r1-distill-llama-70b": "meta-llama-3.1-70b",
    "deepseek-r1-distill-qwen-14b": "qwen2.5-14b",
    "deepseek-r1-distill-qwen-32b": "qwen2.5-32b",
    "qwq-32b": "qwen2.5-32b",
    "qwen2.5-coder-14b": "qwen2.5-14b",
    "qwen2.5-coder-32b": "qwen2.5-32b",
    "mistral-small-3.1-24b": "mistral-small-24b",
    "mistral-small-3.2-24b": "mistral-small-24b",
    "deepseek-r1-0528-qwen3-8b": "qwen3-8b",
    "qwen3-coder-30b-a3b": "qwen3-30b-a3b",
    "deepseek-r1-zero": "deepseek-r1",
    "deepseek-v3.1": "deepseek-v3",
    "r1": "deepseek-r1",
    "v3": "deepseek-v3",
    "v3.1": "deepseek-v3",
    "v3.2": "deepseek-v3.2",
    "minimax-m2": "minimax-m2.5",
    "minimax-m2.1": "minimax-m2.5",
    "kimi-k2.6": "kimi-k2.5",
    "kimi-k2.7-code": "kimi-k2.5",
    "qwen3.6-27b": "qwen3.5-27b",
    "qwen3.6-35b-a3b": "qwen3.5-35b-a3b",
}
"""By names without organisation, variant and precision: those of another name with the same layers, widths and experts, by the
``config.json`` of both."""

_CONTEXTS = {
    "llama-3-8b": 8_192,
    "llama-3-70b": 8_192,
    "meta-llama-3-8b": 8_192,
    "meta-llama-3-70b": 8_192,
    "qwen3-coder-30b-a3b": 262_144,
    "deepseek-r1-0528-qwen3-8b": 131_072,
    "deepseek-r1-distill-qwen-14b": 131_072,
    "deepseek-r1-distill-qwen-32b": 131_072,
    "qwq-32b": 131_072,
    "mistral-small-3.1-24b": 131_072,
    "mistral-small-3.2-24b": 131_072,
}
"""Tokens of context of those whose base has another."""
_CONTEXT_OF_2507 = 262_144  # Qwen's of July 2025

UNMEASURED = ""
"""In place of a precision: one that no operators were measured of."""

_VARIANT = re.compile(
    r"(instruct|thinking|chat|it|pt|base|hf|preview|exp|speciale|terminus|reasoning|original|\d{4}|v\d{4})", re.ASCII
)
_PRECISIONS = {
    "fp8": r"fp8|f8|w8a8fp8",
    "fp4": r"nvfp4|mxfp4|fp4",
    "int4": r"awq|gptq|int4|w4a16|4bit|autoround",
    "bf16": r"bf16|bfloat16|fp16|float16|f16",
    UNMEASURED: r"int8|8bit|w8a8|w8a16|w4a8|w4afp8|gguf|bnb|nf4|[236]bit|q\d(_\w+)*|iq\d\w*|eetq|hqq|exl2|mlx|aqlm",
}
_PRECISION = {name: re.compile(pattern) for name, pattern in _PRECISIONS.items()}
_BESIDE_PRECISION = re.compile(
    r"(dynamic|static|block|kv|pertensor|channel|tensor|quantized|g\d+|sym|asym|marlin|unsloth)"
)


class Parsed(NamedTuple):
    """What a name says.

    Attributes:
        stem: the name without organisation, variant and precision, in small letters.
        precision: of the weights; ``None`` where it says nothing of it, or ``UNMEASURED``.
        dated: it is one of Qwen's of July 2025.
    """

    stem: str
    precision: str | None
    dated: bool


class Base(NamedTuple):
    """The known model that a name stands for.

    Attributes:
        model: by its own name.
        precision: of the weights, where the name says one for which the model has no name of its own; may be ``UNMEASURED``.
        context: tokens of the variant's context, where it is another than the base's.
    """

    model: str
    precision: str | None
    context: int | None = None


def parsed(name: str) -> Parsed:
    """Take a name apart.

    >>> parsed("Qwen/Qwen3-30B-A3B-Thinking-2507-FP8")
    Parsed(stem='qwen3-30b-a3b', precision='fp8', dated=True)
    >>> parsed("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w4a16").precision
    'int4'
    """
    words = [word for word in re.split(r"[-_.](?=\D)|[-_]", name.split("/")[-1].lower()) if word]
    found: set[str] = set()
    beside = dated = False
    kept = len(words)
    while kept > 1:
        word = words[kept - 1]
        precision = next((one for one, pattern in _PRECISION.items() if pattern.fullmatch(word)), None)
        if precision is not None:
            found.add(precision)
        elif _BESIDE_PRECISION.fullmatch(word):
            beside = True
        elif _VARIANT.fullmatch(word):
            dated |= word == "2507"
        else:
            break
        kept -= 1
    # Words such as "dynamic" belong to a precision; without any they are part of a name that is not understood.
    if beside and not found:
        return Parsed("-".join(words), None, False)
    # "GPTQ-Int8" and "bnb-4bit" are what their stranger half says; so are two that contradict each other.
    precision = None if not found else next(iter(found)) if len(found) == 1 else UNMEASURED
    return Parsed("-".join(words[:kept]), precision, dated)


def base_of(name: str, known: Collection[str]) -> Base | None:
    """The known model that a name stands for, if it does.

    Args:
        name: with or without organisation; letters' case does not count.
        known: names of the models whose shapes are known.

    >>> base_of("R1-0528", ["deepseek-ai/DeepSeek-R1"])
    Base(model='deepseek-ai/DeepSeek-R1', precision=None, context=None)
    >>> base_of("Qwen3-8B-AWQ", ["Qwen/Qwen3-8B"]).precision
    'int4'
    """
    if name in known:
        return Base(name, None)
    if name in ALIASES and ALIASES[name] in known:
        return Base(ALIASES[name], None)
    said = parsed(name)
    others: dict[str, list[tuple[str, str | None]]] = {}
    for one in known:
        its = parsed(one)
        others.setdefault(its.stem, []).append((one, its.precision))
    stems = [said.stem, *([_SAME_SHAPE[said.stem]] if said.stem in _SAME_SHAPE else [])]
    candidates = [one for stem in stems for one in sorted(others.get(stem, []))]
    context = _CONTEXTS.get(said.stem, _CONTEXT_OF_2507 if said.dated else None)
    if said.precision is not None:
        for one, precision in candidates:
            if precision == said.precision:
                return Base(one, None, context)
    for one, precision in candidates:
        if precision is None or precision == "bf16":
            return Base(one, said.precision, context)
    return None


__all__ = ["ALIASES", "UNMEASURED", "Base", "Parsed", "base_of", "parsed"]
