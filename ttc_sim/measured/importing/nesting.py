"""Spans of traces, of which some hold others: what is counted in a span and once more in the one around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

_DEEPEST = 200
_SLACK = 0.02
COUNTED_INSIDE = "around another call that counts the same tokens"


class Span(NamedTuple):
    """Id, id of the span around it, whether it is a call of a model, and what it counts: tokens of the answer."""

    id: Any
    parent: Any
    is_call: bool
    tokens: int | None = None


@dataclass(frozen=True)
class Nesting:
    """Names (:func:`name_of`) of spans: ``around`` calls of models, and ``twice``, which are calls that another one inside of them
    counts as well."""

    around: frozenset[int] = frozenset()
    twice: frozenset[int] = frozenset()


def nesting_of(spans: Iterable[Span]) -> Nesting:
    """Which spans hold which calls, whatever their order.

    A call around others is one more record of the same where it counts the tokens that they count together, or none; otherwise it
    is a call of its own (another one was made before its stream was read to its end).

    >>> spans = [Span("agent", None, False), Span("client", "agent", True, 12), Span("api", "client", True, 12)]
    >>> found = nesting_of(spans)
    >>> [name_of(one) in found.around for one in ("agent", "client", "api")], name_of("client") in found.twice
    ([True, True, False], True)
    """
    above: dict[int, int] = {}
    calls: dict[int, int | None] = {}
    for one in spans:
        name = name_of(one.id)
        if one.parent not in (None, ""):
            above[name] = name_of(one.parent)
        if one.is_call:
            calls[name] = one.tokens
    inside: dict[int, int | None] = {}
    twice: set[int] = set()
    for call in sorted(calls, key=lambda name: sum(1 for _ in _upwards(name, above)), reverse=True):
        own, held = calls[call], inside.get(call)
        if call in inside and (own is None or (held is not None and abs(own - held) <= max(2, _SLACK * own))):
            twice.add(call)
            continue
        for outer in _upwards(call, above):
            before = inside.get(outer)
            inside[outer] = before if own is None else own + (before or 0)
    return Nesting(frozenset(inside), frozenset(twice))


def _upwards(name: int, above: dict[int, int]) -> Iterator[int]:
    for _ in range(_DEEPEST):
        parent = above.get(name)
        if parent is None:
            return
        yield parent
        name = parent


def name_of(span: Any) -> int:
    """A span's id as a number: spans are many, and texts are large."""
    text = str(span)[:64]
    try:
        return int(text, 16)
    except ValueError:
        return hash(text)
