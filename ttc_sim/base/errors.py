"""The one error a user can cause, and how it reads; and what is left of work that is interrupted."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ttc_sim.base.plain import plain

_SHOWN_BITS = 3300  # of a thousand digits: Python shows at most 4,300


class InputError(ValueError):
    """Something the user gave cannot be used.

    Reads as one line that names where the value stands, the value, and what was expected. The command line prints
    that line and exits with status 1; nothing has been written by then.

    >>> print(InputError("gateway.yaml", "targets.accuracy", 1.4, "a share between 0 and 1"))
    gateway.yaml: targets.accuracy: got 1.4; expected a share between 0 and 1
    """

    def __init__(self, where: str | Path, field: str, value: object, expected: str) -> None:
        self.where = str(where)
        self.field = field
        self.value = value
        self.expected = expected
        # SimPy, and pools of processes, make an exception again from its arguments.
        super().__init__(self.where, field, value, expected)

    def __str__(self) -> str:
        where, field, expected = (cut(part, 600) for part in (self.where, self.field, self.expected))
        # One line, also of what shows itself in several, such as a table.
        return plain(" ".join(f"{where}: {field}: got {shortened(self.value)}; expected {expected}".splitlines()))


class Interrupted(KeyboardInterrupt):
    """Ctrl-C after a part of the work was finished, which ``finished`` is a result of.

    >>> try:
    ...     raise Interrupted([1, 2])
    ... except KeyboardInterrupt as left:
    ...     left.finished
    [1, 2]
    """

    def __init__(self, finished: Any) -> None:
        self.finished = finished
        super().__init__(finished)


def cut(text: str, most: int) -> str:
    """The text, cut where it is longer.

    >>> cut("abcdefghij", 8)
    'abcde...'
    """
    return text if len(text) <= most else f"{text[: most - 3]}..."


def shortened(value: object, most: int = 120) -> str:
    """How a value shows itself, cut where that is long; whatever it is, it can be shown.

    >>> shortened(10**5000)
    'a whole number of 5,001 digits'
    """
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"a whole number of {int(value.bit_length() * math.log10(2)) + 1:,} digits"
    try:
        # Of a long text only the beginning is looked at: showing all of a gigabyte takes several.
        return cut(repr(value[:most] if isinstance(value, (str, bytes)) else value), most)
    except (Exception, RecursionError):  # the value's own, of a user's class; or an endless or a very long one in it
        return f"a value of type {type(value).__name__} that cannot be shown"


@contextmanager
def users_code(where: str | Path, field: str, expected: str) -> Iterator[None]:
    """Run code that a user wrote: what it raises becomes one line, an :class:`InputError` of its own is left as it is.

    >>> with users_code("mine.py", "policy", "the name of an arm"):
    ...     1 / 0
    Traceback (most recent call last):
    ttc_sim.base.errors.InputError: mine.py: policy: got 'ZeroDivisionError: division by zero'; expected the name of an arm
    """
    try:
        yield
    except InputError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() in it must not end what runs it, least of all as if all had gone well
        raise InputError(where, field, f"{type(error).__name__}: {error}", expected) from error


def from_validation(where: str | Path, error: ValidationError, whole: str) -> InputError:
    """The first thing that a model of pydantic's found wrong; ``whole`` names what was checked where it is no single field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or whole
    value = "nothing" if first["type"] == "missing" else first["input"]
    return InputError(where, field, value, in_our_words(first))


_KINDS = {
    "int_type": "a whole number (an integer)",
    "int_parsing": "a whole number (an integer)",
    "int_parsing_size": "a whole number that 64 bits hold",
    "int_from_float": "a whole number (an integer)",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_unicode": "text in UTF-8",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "is_instance_of": "an object of its class",
    "none_required": "nothing",
    "missing": "this key to be given",
    "extra_forbidden": "no key that is not known",
    "invalid_key": "a key that is text",
    "date_type": "a date",
    "date_from_datetime_parsing": "a date",
    "union_tag_not_found": "a key that says of which kind it is",
    "recursion_loop": "no value inside itself",
}


def in_our_words(found: ErrorDetails) -> str:
    """What was expected where a model of pydantic's found something wrong."""
    kind, context = found["type"], found.get("ctx", {})
    if kind in _KINDS:
        return _KINDS[kind]
    if kind in ("too_short", "string_too_short"):
        return f"at least {context.get('min_length')} of them" if kind == "too_short" else "a text that is not empty"
    if kind in ("too_long", "string_too_long"):
        return f"at most {context.get('max_length')} of them"
    if kind == "union_tag_invalid":
        return f"{context.get('discriminator')}: one of {context.get('expected_tags')}"
    return found["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``one of a, b, c`` or, for a likely slip, ``'b' (nearest of a, b, c)``.

    >>> nearest("ganma", ["gamma", "poisson"])
    "'gamma' (nearest of gamma, poisson)"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    shown = names if len(names) <= 24 else [*difflib.get_close_matches(name, names, n=8, cutoff=0.0), "..."]
    listed = ", ".join(shown) if names else "nothing: none is defined"
    return f"{close[0]!r} (nearest of {listed})" if close else f"one of {listed}"
