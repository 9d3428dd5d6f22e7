"""How variations are said: on the command line, in files, in Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError, cut
from ttc_sim.base.notation import split_outside
from ttc_sim.files.documents import lines_of_keys, parse_yaml, read_yaml
from ttc_sim.files.opening import read_text
from ttc_sim.optimizer.whatif.paths import standing
from ttc_sim.policies import Policy
from ttc_sim.strategies import Strategy

READY = "ready."
"""What the names of ready-made variations begin with where they stand among paths."""
_EXAMPLE = (
    "PATH=VALUE such as 'workload.arrivals.rate_per_s=2x', several joined by ';', with a name before as in 'busy: ...'"
)
_KINDS = ("kind", "process")  # a mapping that names another one has other keys too


@dataclass(frozen=True)
class Variation:
    """What one variation changes.

    Attributes:
        name: of the variation.
        changes: by path, the new value (or a relative one, as it was said) and where that was said, for errors.
    """

    name: str
    changes: Mapping[str, tuple[object, str]]

    def where(self, field: str) -> str:
        """Where what is wrong with a field was said: with the path that leads there, else with the first."""
        for path, (_, where) in self.changes.items():
            if field == path or field.startswith(f"{path}.") or path.startswith(f"{field}."):
                return where
        return next(iter(self.changes.values()))[1]


def said(text: str, option: str = "--set", *, ready: bool = False) -> Variation:
    """One variation on a command line: ``[NAME: ]PATH=VALUE[; PATH=VALUE ...]``, values in YAML.

    Args:
        option: that it was given by; ready: whether paths are names of ready-made variations.

    Raises:
        InputError: it is none.

    >>> said("busy: workload.arrivals.rate_per_s=2x; arms.r1.strategy=Single(cap=1024)").name
    'busy'
    """
    first, equals, _ = text.partition("=")
    if not equals:
        raise InputError(option, "variation", text, _EXAMPLE)
    name = None
    if named := re.match(r"([^=]*?):\s", first):
        name, text = named[1].strip(), text[named.end() :]
    where = f"{option} {cut(text.strip(), 80)}"
    changes: dict[str, tuple[object, str]] = {}
    for part in _parts(text):
        path, equals, value = part.partition("=")
        path = path.strip()
        if not equals or not path:
            raise InputError(option, "variation", part.strip(), _EXAMPLE)
        if not value.strip():
            raise InputError(where, path, "nothing", "a value; null for none")
        path = f"{READY}{path}" if ready else path
        if path in changes:
            raise InputError(where, path, value.strip(), "each path once in a variation")
        changes[path] = (parse_yaml(value.strip(), where), where)
    return Variation(name or text.strip(), changes)


def _parts(text: str) -> list[str]:
    """What stands between semicolons outside of quotes and brackets, but for parts that are empty; the text itself if it is one."""
    return [part for part in split_outside(text, ";") if part.strip() or part == text]


def in_file(given: str, content: Mapping[str, Any], option: str = "--vary") -> Variation:
    """The variation of a file, given as ``NAME=FILE`` or by the file alone, which then names it.

    It holds a part of a scenario, a mapping of paths to values, or a list of such mappings.

    Args:
        content: of the scenario that it varies.

    Raises:
        InputError: no such file, or none of these.
    """
    name, equals, file = given.partition("=")
    path = Path(file if equals else given)
    raw = read_yaml(path, expected="a file of paths and new values, or a part of a scenario")
    if isinstance(raw, list) and all(isinstance(one, dict) for one in raw):
        pairs = [(str(key), value) for one in raw for key, value in one.items()]
    elif isinstance(raw, dict):
        pairs = [(str(key), value) for key, value in raw.items()]
    else:
        raise InputError(path, "file", type(raw).__name__, "paths and new values, or a part of a scenario")
    lines = lines_of_keys(read_text(path, "file", "a file"))
    changes: dict[str, tuple[object, str]] = {}
    for key, value in pairs:
        for at, leaf in _leaves(key, value, content):
            where = f"{path}: line {lines[at]}" if at in lines else str(path)
            if at in changes:
                raise InputError(where, at, leaf, "each path once in a variation")
            changes[at] = (leaf, where)
    if not changes:
        raise InputError(path, "file", "nothing in it", "at least one path with another value")
    return Variation(name if equals and name else path.stem, changes)


def _leaves(path: str, value: Any, content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Paths of what a part of a scenario says anew: mappings are gone into as far as the scenario has mappings of that kind."""
    _, place = standing(content, path)
    alike = isinstance(place, Mapping) and isinstance(value, dict) and value
    if not alike or any(key in value and key in place and value[key] != place[key] for key in _KINDS):  # type: ignore[operator,index]
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{path}.{key}", inner, content)


def in_python(given: object) -> list[Variation]:
    """Variations as a mapping: by name, a mapping of paths to values.

    Raises:
        InputError: they are none.
    """
    expected = (
        "variations by name, each a mapping of paths to new values: {'busy': {'workload.arrivals.rate_per_s': '2x'}}"
    )
    if not isinstance(given, Mapping) or not given:
        raise InputError("what_if", "variations", given, expected)
    found = []
    for name, changes in given.items():
        if not isinstance(name, str) or not isinstance(changes, Mapping) or not changes:
            raise InputError("what_if", "variations", {name: changes}, expected)
        if not all(isinstance(path, str) for path in changes):
            raise InputError("what_if", f"variation {name}", dict(changes), "paths that are text")
        where = f"what_if: {cut(name, 80)}"
        found.append(Variation(name, {path: (_notation(value), where) for path, value in changes.items()}))
    return found


def _notation(value: object) -> object:
    """Of a strategy or policy, as files have it."""
    return repr(value) if isinstance(value, (Strategy, Policy)) else value


def check_names(variations: list[Variation]) -> None:
    """Refuse two variations of one name.

    Raises:
        InputError: there are such.
    """
    seen: set[str] = set()
    for one in variations:
        if one.name in seen or one.name == "base":
            where = next(iter(one.changes.values()))[1]
            raise InputError(where, "name", one.name, "a name of its own for each variation, and not 'base'")
        seen.add(one.name)


__all__ = ["READY", "Variation", "check_names", "in_file", "in_python", "said"]
