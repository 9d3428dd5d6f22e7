"""One notation for strategies and policies: the Python call that would make them.

``Single(cap=4096, on_cap='truncate')`` means the same in YAML, on the command line and in Python, and is what
``repr`` prints. Only calls of the given classes with literal arguments are read; nothing is evaluated.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ttc_sim.base import plugins
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.limits import MOST_DIGITS, MOST_NESTED, at_most, most

MOST_LETTERS = 100_000
_OPEN, _CLOSE = "([{", ")]}"


def split_outside(text: str, mark: str) -> list[str]:
    """What stands between marks, of one letter, that are outside of quotes and brackets.

    >>> split_outside("Single(cap=1, on_cap='a,b'),[2, 3],", ",")
    ["Single(cap=1, on_cap='a,b')", '[2, 3]', '']
    """
    depth, quote, begin, parts = 0, "", 0, []
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not text[begin:at].rstrip()[-1:].isalnum():  # an apostrophe in a name is none
            quote = letter
        elif letter in _OPEN:
            depth += 1
        elif letter in _CLOSE:
            depth -= 1
        elif letter == mark and depth <= 0:
            parts.append(text[begin:at])
            begin = at + 1
    return [*parts, text[begin:]]


def parse(text: str, classes: Mapping[str, type], *, where: str, field: str) -> Any:
    """Build the object that ``text`` names.

    Args:
        text: a call such as ``MajorityVote(n=3)``; a bare name means a call without arguments.
        classes: the dataclasses that may be named.
        where: the file, and ``field`` the key, that an error names.

    Raises:
        InputError: unknown name, unknown or missing argument, a value that the class refuses, or a text too long or too deep.
    """
    check_size(text, classes, where, field)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's own on texts such as '1if'
            tree = ast.parse(text.strip(), mode="eval").body
        return _build(tree, text, classes, where, field)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(where, field, text, "a call such as " + _example(classes)) from None


def check_size(text: str, classes: Mapping[str, type], where: str, field: str) -> None:
    """Refuse what Python's parser would take long for, or fall over."""
    if len(text) > MOST_LETTERS:
        raise InputError(where, field, text, f"at most {MOST_LETTERS:,} letters")
    if digits := re.search(rf"[0-9_]{{{MOST_DIGITS + 1},}}", text):
        raise InputError(where, field, digits[0], f"numbers of at most {MOST_DIGITS:,} digits")
    levels = deepest = 0
    for mark in re.findall(r"[\[({})\]]", text):
        levels += 1 if mark in "[({" else -1
        deepest = max(deepest, levels)
    if deepest > min(most("TTC_SIM_MAX_DEPTH"), MOST_NESTED):
        raise InputError(where, field, text, f"a call such as {_example(classes)}, of {at_most('TTC_SIM_MAX_DEPTH')}")


def _example(classes: Mapping[str, type]) -> str:
    return " or ".join(f"{name}(...)" for name in classes)


def _build(node: ast.expr, text: str, classes: Mapping[str, type], where: str, field: str) -> Any:
    if isinstance(node, ast.Name) and node.id in list(classes):
        node = ast.Call(func=node, args=[], keywords=[])
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_build(item, text, classes, where, field) for item in node.elts]
    if not isinstance(node, ast.Call):
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError):
            raise InputError(where, field, text, "numbers, text, lists, or " + _example(classes)) from None
    if not isinstance(node.func, ast.Name):
        raise InputError(where, field, text, "a call such as " + _example(classes))
    name = node.func.id
    made: type[Any] = plugins.find(classes, name, where=where, field=field)
    fields = [item for item in dataclasses.fields(made) if item.init]
    names = [item.name for item in fields]
    in_order = [item.name for item in fields if not item.kw_only]
    if len(node.args) > len(in_order):
        raise InputError(where, field, text, f"at most {len(in_order)} arguments: " + ", ".join(in_order))
    values = {key: _build(arg, text, classes, where, field) for key, arg in zip(in_order, node.args, strict=False)}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg not in names:
            raise InputError(where, f"{field}: {name}", keyword.arg, nearest(str(keyword.arg), names))
        if keyword.arg in values:
            raise InputError(where, f"{field}: {name}", keyword.arg, "each argument once")
        values[keyword.arg] = _build(keyword.value, text, classes, where, field)
    needed = [
        item.name
        for item in fields
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if not values.keys() >= set(needed):
        raise InputError(where, f"{field}: {name}", text, "the arguments " + ", ".join(needed))
    try:
        return made(**values)
    except InputError as error:
        raise InputError(where, f"{field}: {name}: {error.field}", error.value, error.expected) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # What a user's own class raises is theirs to see; a shipped one was given a value of another kind.
        said = text if plugins.is_shipped(made) else f"{type(error).__name__}: {error}"
        called = name if plugins.is_shipped(made) else plugins.called(made)
        raise InputError(where, f"{field}: {called}", said, "arguments of the kinds that it takes") from error


def call_of(made: Any) -> str:
    """The call that makes a dataclass again, without what is left at its default; the bare name of another class."""
    if not dataclasses.is_dataclass(made):
        return type(made).__name__
    said = []
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        value = value.item() if isinstance(value, np.generic) else value
        if field.init and (field.default is dataclasses.MISSING or value != field.default):
            said.append(f"{field.name}={list(value) if isinstance(value, tuple) else value!r}")
    return f"{type(made).__name__}({', '.join(said)})"
