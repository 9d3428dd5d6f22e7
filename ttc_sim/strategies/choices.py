"""A notation with choices in it: every strategy that it stands for, for the optimizer to choose from.

An argument may be a list of choices, ``MajorityVote(n=[3, 5], cap=[1024, None])``, and a whole number may be a range of them,
``cap='512..16384'``.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ttc_sim.base import notation
from ttc_sim.base.arguments import whole
from ttc_sim.base.consent import AllowCode, Code, names_function
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.strategies.reading import STRATEGIES, parse_strategy

WIDEST_STEP = 3.2
"""Most that neighbouring numbers of a range differ by, as a factor, before the optimizer looks closer."""
_SPAN = re.compile(r"\s*(\d{1,9})\s*\.\.\s*(\d{1,9})\s*")
_PLACE = re.compile(r"_from(\d+)to(\d+)_")
_SEVERAL = re.compile(r"tuple|list|sequence|mapping|dict|array|I64|F64", re.IGNORECASE)
_YAML = {"null": None, "true": True, "false": False}


@dataclass(frozen=True)
class Span:
    """Whole numbers from ``low`` to ``high``, both among them.

    >>> Span(512, 16384).rungs
    (512, 1625, 5161, 16384)
    """

    low: int
    high: int

    @property
    def rungs(self) -> tuple[int, ...]:
        """A few of them, evenly spaced on a logarithmic scale."""
        low = max(self.low, 1)
        steps = max(math.ceil(math.log(self.high / low) / math.log(WIDEST_STEP) - 1e-9), 1)
        between = (round(low * (self.high / low) ** (k / steps)) for k in range(1, steps))
        return tuple(sorted({self.low, low, *between, self.high}))


def read_span(said: object, *, where: str, field: str) -> Span | None:
    """The range that ``512..16384`` stands for; ``None`` of anything else.

    Raises:
        InputError: its end is not above its beginning, or is no number of tokens.
    """
    found = _SPAN.fullmatch(said) if isinstance(said, str) else None
    if found is None:
        return None
    low, high = int(found[1]), int(found[2])
    whole(where, field, high, 1, MOST_TOKENS)
    if low >= high:
        raise InputError(where, field, said, "a range whose end is above its beginning, such as 512..16384")
    return Span(low, high)


@dataclass(frozen=True)
class Choices:
    """Strategies that differ in numbers from ranges alone; a single one without ranges.

    Attributes:
        parts: of the notation, with a number between each two; spans: that these are from.
    """

    parts: tuple[str, ...]
    spans: tuple[Span, ...]

    def notation(self, numbers: Sequence[int]) -> str:
        """With these numbers.

        >>> Choices(("Single(cap=", ")"), (Span(1, 9),)).notation([5])
        'Single(cap=5)'
        """
        return self.parts[0] + "".join(f"{number}{part}" for number, part in zip(numbers, self.parts[1:], strict=True))


def read_choices(
    text: str,
    *,
    where: str,
    field: str,
    most: int,
    folder: str | Path = ".",
    allow_code: AllowCode | Code = False,
) -> list[Choices]:
    """What a notation stands for, in the order that it says it.

    Combinations that cannot be, such as a ``min_tokens`` above the cap, are left out.

    Args:
        text: a notation whose arguments may be lists of choices and ranges.
        where: the file, and ``field`` the key, that an error names.
        most: strategies that it may stand for.

    Raises:
        InputError: it cannot be read, a list without choices, a choice that no strategy can have, or more than so many.

    >>> [one.parts for one in read_choices("MajorityVote(n=[3, 5])", where="s", field="f", most=9)]
    [('MajorityVote(n=3)',), ('MajorityVote(n=5)',)]
    """
    if names_function(text):
        parse_strategy(text, where=where, field=field, folder=folder, allow_code=allow_code)
        return [Choices((text,), ())]
    notation.check_size(text, STRATEGIES, where, field)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        tree = None
    if tree is None:
        parse_strategy(text, where=where, field=field)  # says what is wrong with it
        raise InputError(where, field, text, "a strategy such as MajorityVote(n=[3, 5])")
    reader = _Reader(text, where, field)
    count = reader.count(tree)
    if count > most:
        raise InputError(where, field, f"{count:,} strategies", f"at most {most}: shorter lists of choices")
    found, failed = [], []
    for node, chosen in reader.expanded(tree):
        said = ast.unparse(ast.fix_missing_locations(ast.Expression(node)))
        spans = tuple(Span(int(low), int(high)) for low, high in _PLACE.findall(said))
        one = Choices(tuple(_PLACE.sub("\0", said).split("\0")), spans)
        error = _error_of(one, where, field)
        if error is None:
            found.append((one, chosen))
        else:
            failed.append((error, chosen))
    possible = {choice for _, chosen in found for choice in chosen}
    for error, chosen in failed:
        if not found or not possible.issuperset(chosen):
            raise error
    return list(dict.fromkeys(one for one, _ in found))


def points_of(choices: Choices) -> Iterator[tuple[int, ...]]:
    """A few numbers of each range, with those of the others."""
    yield from product(*(span.rungs for span in choices.spans))


def _error_of(choices: Choices, where: str, field: str) -> InputError | None:
    """Why none of them can be; ``None`` if one can."""
    error = None
    for numbers in points_of(choices):
        try:
            parse_strategy(choices.notation(numbers), where=where, field=field)
        except InputError as found:
            error = error or found
        else:
            return None
    return error


@dataclass(frozen=True)
class _Reader:
    """Makes the choices in a notation; what a chosen one is of is said by where it stands."""

    text: str
    where: str
    field: str

    def count(self, node: ast.expr) -> int:
        """How many notations it stands for, before any is made."""
        if isinstance(node, ast.Call):
            return math.prod(
                sum(self.count(one) for one in values) if is_choice else math.prod(self.count(one) for one in values)
                for _, values, is_choice in self._arguments(node)
            )
        return 1

    def expanded(self, node: ast.expr, above: str = "") -> Iterator[tuple[ast.expr, tuple[tuple[str, str], ...]]]:
        """Every notation, and the choices that were made for it."""
        if isinstance(node, ast.Constant):
            place = f"{self.field}: {above.strip('.')}" if above else self.field
            span = read_span(node.value, where=self.where, field=place)
            yield (node if span is None else ast.Name(f"_from{span.low}to{span.high}_")), ()
            return
        if isinstance(node, ast.Name) and node.id in _YAML:
            yield ast.Constant(_YAML[node.id]), ()
            return
        if not isinstance(node, ast.Call):
            yield node, ()
            return
        ways = []
        for name, values, is_choice in self._arguments(node):
            inner = f"{above}{name}."
            if is_choice:
                ways.append(
                    [
                        (made, ((inner, ast.unparse(value)), *chosen))
                        for value in values
                        for made, chosen in self.expanded(value, inner)
                    ]
                )
                continue
            listed = self._is_list(node, name)
            places = [f"{inner}{k}." if listed else inner for k in range(len(values))]
            together = product(*(list(self.expanded(*one)) for one in zip(values, places, strict=True)))
            ways.append(
                [
                    (
                        ast.List([made for made, _ in one]) if listed else one[0][0],
                        tuple(choice for _, chosen in one for choice in chosen),
                    )
                    for one in together
                ]
            )
        in_order = len(node.args)
        for picked in product(*ways):
            values = [made for made, _ in picked]
            keywords = [
                ast.keyword(keyword.arg, value) for keyword, value in zip(node.keywords, values[in_order:], strict=True)
            ]
            yield (
                ast.Call(node.func, values[:in_order], keywords),
                tuple(choice for _, chosen in picked for choice in chosen),
            )

    def _arguments(self, node: ast.Call) -> Iterator[tuple[str, list[ast.expr], bool]]:
        """Name and values of each argument, and whether these are choices."""
        known = self._fields(node)
        names = [*known, *(str(k) for k in range(len(known), len(node.args)))][: len(node.args)]
        for name, value in [*zip(names, node.args, strict=True), *((str(one.arg), one.value) for one in node.keywords)]:
            if not isinstance(value, (ast.List, ast.Tuple)):
                yield name, [value], False
                continue
            if not value.elts:
                raise InputError(self.where, f"{self.field}: {name}", [], "at least one choice")
            yield name, value.elts, not _SEVERAL.search(known.get(name, ""))

    def _is_list(self, node: ast.Call, name: str) -> bool:
        given = {str(one.arg): one.value for one in node.keywords}
        given |= dict(zip(self._fields(node), node.args, strict=False))
        return isinstance(given.get(name), (ast.List, ast.Tuple))

    def _fields(self, node: ast.Call) -> Mapping[str, str]:
        """Names of the arguments of what is called, in order, and of what type each is."""
        made = STRATEGIES.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if made is None or not dataclasses.is_dataclass(made):
            return {}
        return {one.name: str(one.type) for one in dataclasses.fields(made) if one.init and not one.kw_only} | {
            one.name: str(one.type) for one in dataclasses.fields(made) if one.init and one.kw_only
        }
