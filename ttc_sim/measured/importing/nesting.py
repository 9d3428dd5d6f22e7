"""Spans of traces, of which some hold others: what is counted in a span and once more in the one around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Span = tuple[Any, Any, bool]
"""Id, id of the span around it, and whether it is a call of a model."""


def around_calls(spans: Iterable[Span]) -> frozenset[int]:
    """Names (:func:`name_of`) of the spans that have a call of a model somewhere inside.

    >>> found = around_calls([("agent", None, False), ("step", "agent", False), ("chat", "step", True)])
    >>> [name_of(one) in found for one in ("agent", "step", "chat")]
    [True, True, False]
    """
    above: dict[int, int] = {}
    calls: list[int] = []
    for name, parent, is_call in spans:
        if parent not in (None, ""):
            above[name_of(name)] = name_of(parent)
        if is_call:
            calls.append(name_of(name))
    found: set[int] = set()
    for call in calls:
        for outer in _upwards(call, above):
            if outer in found:
                break
            found.add(outer)
    return frozenset(found)


def _upwards(name: int, above: dict[int, int]) -> Iterator[int]:
    while (parent := above.get(name)) is not None:
        yield parent
        name = parent


def name_of(span: Any) -> int:
    """A span's id as a number: spans are many, and texts are large."""
    text = str(span)[:64]
    try:
        return int(text, 16)
    except ValueError:
        return hash(text)
