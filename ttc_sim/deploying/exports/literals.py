"""Data as a language's literals, over lines that can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Scalar = Callable[[Any], str]
_WIDTH = 100


def literal(value: object, scalar: Scalar, key: Scalar, indent: str = "") -> str:
    """Mappings, lists and what they hold, as Python, JavaScript and TypeScript write them alike.

    Args:
        scalar: of texts, numbers, truth values and nothing; key: of a mapping's key.

    >>> literal({"a": [1, 2]}, repr, repr)
    "{'a': [1, 2]}"
    """
    within = indent + "  "
    if isinstance(value, dict):
        parts = [f"{key(name)}: {literal(one, scalar, key, within)}" for name, one in value.items()]
        return _enclosed("{", parts, "}", indent)
    if isinstance(value, (list, tuple)):
        return _enclosed("[", [literal(one, scalar, key, within) for one in value], "]", indent)
    return scalar(value)


def _enclosed(begin: str, parts: list[str], end: str, indent: str) -> str:
    short = f"{begin}{', '.join(parts)}{end}"
    if len(short) + len(indent) <= _WIDTH and "\n" not in short:
        return short
    lines = "".join(f"{indent}  {part},\n" for part in parts)
    return f"{begin}\n{lines}{indent}{end}"


__all__ = ["literal"]
