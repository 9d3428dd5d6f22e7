"""YAML and JSON as one reader reads them: within limits, nothing twice, and one line for what is wrong."""

from __future__ import annotations

import contextlib
import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import Resolver

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_DIGITS, MOST_NESTED, at_most, most
from ttc_sim.files.opening import read_text

_LONG = re.compile(rf"[0-9]{{{MOST_DIGITS + 1}}}")
_TAG = "tag:yaml.org,2002:"
_PLAIN = "mappings, lists, text, numbers, true, false, null and dates, without tags"
_IN_OUR_WORDS = (
    ("mapping values are not allowed", "one key and its value on a line; a text with a colon in it in quotes"),
    ("could not find expected ':'", "a colon after the key"),
    ("found character '\\t'", "spaces where this line has a tab"),
    ("found unexpected end of stream", "the quotation mark that ends the text"),
    ("found undefined alias", "an anchor of that name (&name) before its alias (*name)"),
    ("found duplicate anchor", "each anchor (&name) once"),
    ("expected <block end>", "lines of one list or mapping that begin in the same column"),
    ("expected a mapping or list of mappings for merging", "a mapping after '<<'"),
    ("expected ',' or", "a comma, or the bracket that closes the list or mapping"),
    ("but found another document", "one document in the file"),
)


def read_yaml(path: str | Path, field: str = "file", expected: str = "an existing YAML file") -> Any:
    """What a YAML file holds.

    Raises:
        InputError: as :func:`~ttc_sim.files.opening.read_text`, or as :func:`parse_yaml`.
    """
    return parse_yaml(read_text(path, field, expected), path)


def parse_yaml(text: str, where: str | Path) -> Any:
    """What a YAML text says; ``where`` it stands, for errors.

    Raises:
        InputError: not YAML, a key twice, tags, a date that does not exist, a number too long, values too many
            (``TTC_SIM_MAX_NODES``) or too deep (``TTC_SIM_MAX_DEPTH``).

    >>> parse_yaml("{caps: [512, null]}", "mine.yaml")
    {'caps': [512, None]}
    >>> parse_yaml("cap: 1\\ncap: 2", "mine.yaml")
    Traceback (most recent call last):
    ttc_sim.base.errors.InputError: mine.yaml: line 2: got 'cap'; expected each key once
    """
    if _QUICK is not None and "\t" not in text and "\ufeff" not in text:  # of which the two think differently
        # What is wrong with a text is the other loader's to say, so that it is said in the same words everywhere.
        with contextlib.suppress(yaml.YAMLError, UnicodeEncodeError):
            return _loaded(_QUICK, text, where)
    try:
        return _loaded(_Plain, text, where)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            where, f"line {line}", chr(int(error.character)), "valid YAML: no control characters"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 0 if mark is None else mark.line
        said = " ".join(part for part in (error.context, error.problem) if part)
        why = next((ours for theirs, ours in _IN_OUR_WORDS if theirs in said), "")
        expected = f"valid YAML: {why}" if why else "valid YAML"
        lines = text.splitlines() or [""]
        raise InputError(where, f"line {line + 1}", lines[min(line, len(lines) - 1)].strip(), expected) from None


def _loaded(kind: type[_Loader], text: str, where: str | Path) -> Any:
    loader = kind(text, where)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(Composer, SafeConstructor, Resolver):
    """What is made of the events that a parser finds in a text."""

    def __init__(self, text: str, where: str | Path) -> None:
        self._where = where
        self._nodes = self._depth = self._deepest = 0
        self._sizes: dict[str, tuple[int, int]] = {}  # of anchors: values, and levels of them
        self._flattened: set[int] = set()
        self._most_nodes, self._most_depth = most("TTC_SIM_MAX_NODES"), min(most("TTC_SIM_MAX_DEPTH"), MOST_NESTED)
        self.parse(text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)

    def parse(self, text: str) -> None:
        """Make ready to parse a text."""
        raise NotImplementedError

    def peek_event(self) -> Any:
        """The event that comes next."""
        return super().peek_event()  # type: ignore[misc]

    def dispose(self) -> None:
        """Let go of the text."""
        super().dispose()  # type: ignore[misc]

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Counts what an alias stands for each time: nine lines can say a billion values."""
        event = self.peek_event()
        line, anchor = event.start_mark.line + 1, event.anchor
        before, above = self._nodes, self._deepest
        self._depth += 1
        if isinstance(event, yaml.AliasEvent):
            if anchor in self.anchors and anchor not in self._sizes:
                self.refuse(line, f"*{anchor}", "an alias outside of what it stands for")
            size, levels = self._sizes.get(anchor, (1, 0))
            self._nodes += size
        else:
            levels = 0
            self._nodes += 1
        self._deepest = self._depth + levels
        if self._nodes > self._most_nodes:
            self.refuse(line, "too many values", at_most("TTC_SIM_MAX_NODES"))
        if self._deepest > self._most_depth:
            self.refuse(line, f"{self._deepest} levels", at_most("TTC_SIM_MAX_DEPTH"))
        node = super().compose_node(parent, index)
        if anchor is not None and not isinstance(event, yaml.AliasEvent):
            self._sizes[anchor] = self._nodes - before, self._deepest - self._depth
        self._depth -= 1
        self._deepest = max(self._deepest, above)
        return node

    def flatten_mapping(self, node: MappingNode) -> None:
        """Before what is merged into a mapping comes to stand beside its own keys: those must be different ones."""
        if id(node) not in self._flattened:
            self._flattened.add(id(node))
            seen = set()
            for key, _ in node.value:
                line = key.start_mark.line + 1
                if not isinstance(key, ScalarNode):
                    self.refuse(line, "a list or mapping as a key", "a key that is text")
                if key.tag == f"{_TAG}merge":
                    continue
                name = self.construct_object(key)
                if name in seen:
                    self.refuse(line, name, "each key once")
                seen.add(name)
        super().flatten_mapping(node)

    def number(self, node: ScalarNode) -> int | float:
        """A whole number or a float, as large as one can be."""
        line = node.start_mark.line + 1
        if len(node.value) > MOST_DIGITS:
            self.refuse(line, node.value, f"a number of at most {MOST_DIGITS:,} digits")
        made = SafeConstructor.construct_yaml_int if node.tag == f"{_TAG}int" else SafeConstructor.construct_yaml_float
        try:
            found: int | float = made(self, node)
        except (ValueError, OverflowError, IndexError):
            self.refuse(line, node.value, "a number")
        if isinstance(found, float) and math.isinf(found) and "inf" not in node.value.lower():
            self.refuse(line, node.value, "a number up to 1.8e308")
        return found

    def date(self, node: ScalarNode) -> Any:
        """A date or time."""
        try:
            return SafeConstructor.construct_yaml_timestamp(self, node)
        except (ValueError, OverflowError):
            expected = "a date that exists; text that looks like one stands in quotes"
            self.refuse(node.start_mark.line + 1, node.value, expected)

    def truth(self, node: ScalarNode) -> bool:
        """true or false, however it is written."""
        found = self.bool_values.get(node.value.lower()) if isinstance(node, ScalarNode) else None
        if found is None:
            self.refuse(node.start_mark.line + 1, node.value, "true or false")
        return bool(found)

    def text(self, node: ScalarNode) -> str:
        """Text, of characters that there are."""
        found = str(self.construct_scalar(node))
        if not _are_characters(found):
            self.refuse(
                node.start_mark.line + 1, node.value, "text that UTF-8 can hold: no half of a pair of surrogates"
            )
        return found

    def tagged(self, node: Node) -> NoReturn:
        """A tag that asks for something else than plain values."""
        self.refuse(node.start_mark.line + 1, str(node.tag).replace(_TAG, "!!"), _PLAIN)

    def refuse(self, line: int, value: object, expected: str) -> NoReturn:
        """End with an error at a line."""
        raise InputError(self._where, f"line {line}", value, expected)


# As YAML 1.2 has it: on, off, yes and no are text, such as the key `on` of a price.
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in known if tag != f"{_TAG}bool"]
    for letter, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.yaml_constructors = {
    **{f"{_TAG}{name}": SafeConstructor.yaml_constructors[f"{_TAG}{name}"] for name in ("null", "seq", "map")},
    f"{_TAG}str": _Loader.text,
    f"{_TAG}value": _Loader.text,  # a lone equals sign
    f"{_TAG}bool": _Loader.truth,
    f"{_TAG}int": _Loader.number,
    f"{_TAG}float": _Loader.number,
    f"{_TAG}timestamp": _Loader.date,
    None: _Loader.tagged,
}


class _Plain(_Loader, yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    """With PyYAML's own parser."""

    def parse(self, text: str) -> None:
        """Make ready to parse a text."""
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)


def _quick_loader() -> type[_Loader] | None:
    """With libyaml's parser, which takes a fifth of the time; ``None`` where PyYAML came without it."""
    if not yaml.__with_libyaml__:
        return None
    from yaml.cyaml import CParser  # type: ignore[attr-defined]

    class Quick(_Loader, CParser):
        def parse(self, text: str) -> None:
            CParser.__init__(self, text)

    return Quick


_QUICK = _quick_loader()


def lines_of_keys(text: str, *, numbered: bool = False) -> dict[str, int]:
    """The line that each key of a YAML text stands in, by the keys that lead to it, joined by dots; of a text that was read before.

    Args:
        numbered: whether the entries of a list count among the keys, from 0; else the first that has a key stands for all.

    >>> lines_of_keys("arms:\n  small: {cap: 1}\n")
    {'arms': 1, 'arms.small': 2, 'arms.small.cap': 2}
    """
    found: dict[str, int] = {}
    _note_lines(yaml.compose(text, Loader=yaml.SafeLoader), "", found, numbered)
    return found


def _note_lines(node: Node | None, above: str, found: dict[str, int], numbered: bool) -> None:
    if isinstance(node, MappingNode):
        for key, inner in node.value:
            name = f"{above}{key.value}"
            found.setdefault(name, key.start_mark.line + 1)
            _note_lines(inner, f"{name}.", found, numbered)
    elif isinstance(node, SequenceNode):
        for k, inner in enumerate(node.value):
            if numbered:
                found.setdefault(f"{above}{k}", inner.start_mark.line + 1)
            _note_lines(inner, f"{above}{k}." if numbered else above, found, numbered)


def read_json(path: str | Path, field: str = "file", expected: str = "an existing JSON file") -> Any:
    """What a JSON file holds.

    Raises:
        InputError: as :func:`~ttc_sim.files.opening.read_text`, or as :func:`parse_json`.
    """
    return parse_json(read_text(path, field, expected), path)


def parse_json(text: str | bytes, where: str | Path, field: str | None = None, expected: str = "valid JSON") -> Any:
    """What a JSON text says; ``where`` it stands, and the ``field`` (else its line), for errors.

    Raises:
        InputError: not JSON, a key twice, NaN or infinity, a number too long, or values too deep (``TTC_SIM_MAX_DEPTH``).

    >>> parse_json('{"cap": 1, "cap": 2}', "mine.json")
    Traceback (most recent call last):
    ttc_sim.base.errors.InputError: mine.json: file: got 'cap'; expected each key of an object once
    """
    at = field or "file"

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            raise InputError(
                where, at, next(name for name in names if names.count(name) > 1), "each key of an object once"
            )
        return made

    def number(digits: str) -> float:
        found = float(digits)
        if math.isinf(found):
            raise InputError(where, at, digits, "a number up to 1.8e308")
        return found

    def whole(digits: str) -> int:
        if len(digits) > MOST_DIGITS:
            raise InputError(where, at, digits, f"a number of at most {MOST_DIGITS:,} digits")
        return int(digits)

    def constant(name: str) -> NoReturn:
        raise InputError(where, at, name, "finite numbers: JSON has no NaN or infinity")

    # Asking for the digits of each number takes several times as long as reading it.
    any_long = isinstance(text, bytes) or _LONG.search(text) is not None
    readers: dict[str, Any] = {"parse_float": number, "parse_int": whole if any_long else int}
    try:
        made = json.loads(text, object_pairs_hook=once, parse_constant=constant, **readers)
    except json.JSONDecodeError as error:
        lines = error.doc.splitlines() or [""]
        shown = lines[min(error.lineno, len(lines)) - 1][max(error.colno - 40, 0) : error.colno + 40]
        raise InputError(where, field or f"line {error.lineno}", shown, expected) from None
    except UnicodeDecodeError:
        raise InputError(where, at, text[:60], f"{expected} in UTF-8") from None
    except RecursionError:
        raise InputError(where, at, "very many levels", at_most("TTC_SIM_MAX_DEPTH")) from None
    if (levels := depth(made)) > min(most("TTC_SIM_MAX_DEPTH"), MOST_NESTED):
        raise InputError(where, at, f"{levels} levels", at_most("TTC_SIM_MAX_DEPTH"))
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if "\\u" in text and not _are_characters(json.dumps(made, ensure_ascii=False)):
        raise InputError(where, at, text[:80], "text that UTF-8 can hold: no half of a pair of surrogates")
    return made


def _are_characters(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def depth(value: object) -> int:
    """Levels of lists and mappings inside one another.

    >>> depth({"a": [1, [2]]})
    3
    """
    levels, here = 0, [value]
    while here := [one for one in here if isinstance(one, (dict, list))]:
        levels += 1
        here = [inner for one in here for inner in (one.values() if isinstance(one, dict) else one)]
    return levels


__all__ = ["depth", "lines_of_keys", "parse_json", "parse_yaml", "read_json", "read_yaml"]
