"""JSON documents whose calls stand deep inside, or column by column: read in a stream, whatever the document's size."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import IO, Any, Literal

from ttc_sim.measured.importing.opening import UNPACKING, LogFile, cut_off, open_bytes
from ttc_sim.measured.importing.reading import Left

Column = Literal["values", "sums", "marks"]
"""What is kept of a column: its values; the sum of each list in it; whether anything stands there."""

_NO_NUMBER = re.compile(r"-?\bInfinity\b|\bNaN\b")
_LETTERS, _LONGEST = "-INafinty", 9
_EVERY = 1000
DAMAGED = "the document is damaged or cut off from here on"


class Lenient(io.RawIOBase):
    """JSON as Python writes it, for a parser that is strict: NaN and Infinity become null, what is no UTF-8 question marks.

    Inside of text too, which is not for keeping then.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left, self._held = b"", ""

    def readable(self) -> bool:  # noqa: D102 as in the base
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: D102 as in the base
        while not self._left:
            block = self._stream.read(1 << 16)
            text = self._held + self._decoder.decode(block, final=not block)
            # A word may go on in the next block: nothing is cut inside of one.
            cut = max(len(text.rstrip(_LETTERS)), len(text) - _LONGEST) if block else len(text)
            self._held = text[cut:]
            self._left = _NO_NUMBER.sub("null", text[:cut]).encode("utf-8", "replace")
            if not block and not self._left:
                return 0
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


def runs(file: LogFile, columns: Mapping[str, Column], at: Callable[[int], None]) -> Iterator[dict[str, Any] | Left]:
    """Objects that hold their calls column by column, one after the other or in an array: of each the columns that are named, and
    what else it holds that is no list.

    Raises:
        InputError: a packed file that is damaged.
    """
    import ijson

    try:
        with open_bytes(file) as (stream, raw):
            events = ijson.basic_parse(Lenient(stream), use_float=True, multiple_values=True)
            try:
                for run in _runs(events, columns):
                    at(raw.tell())
                    yield run
            except ijson.JSONError:
                yield Left(DAMAGED)
    except UNPACKING:
        raise cut_off(file.path, file.packed) from None


def beginning(file: LogFile, columns: Collection[str]) -> dict[str, Any]:
    """What the first object of such a document holds before the first of its columns, and that column as an empty list."""
    import ijson

    found: dict[str, Any] = {}
    level, key = 0, ""
    with open_bytes(file) as (stream, _):
        try:
            for event, value in ijson.basic_parse(Lenient(stream), use_float=True, multiple_values=True):
                level += (event == "start_map") - (event == "end_map")
                if level != 1 or event == "end_map":
                    if level == 0:
                        break
                elif event == "map_key":
                    key = value
                elif event == "start_array" and key in columns:
                    found[key] = []
                    break
                elif event in ("string", "number", "boolean", "null"):
                    found[key] = value
        except ijson.JSONError:
            return found
    return found


def _runs(events: Any, columns: Mapping[str, Column]) -> Iterator[dict[str, Any]]:
    run: dict[str, Any] | None = None
    level, key, inner = 0, "", ""
    kind: Column | None = None
    place: Any = None  # a column or an object of the run that is being read
    total: float | None = None  # of a list in a column
    for event, value in events:
        if total is not None and event == "number":  # by far the most
            total += value
        elif event in ("start_map", "start_array"):
            if run is None:
                run = {} if event == "start_map" else None
                continue
            level += 1
            if level == 1:
                kind = columns.get(key) if event == "start_array" else None
                place = [] if kind else {} if event == "start_map" else None
                if place is not None:
                    run[key] = place
            elif level == 2 and kind:
                total = 0.0 if kind == "sums" else None
        elif event in ("end_map", "end_array"):
            if run is None:
                continue
            if level == 0:
                yield run
                run = None
                continue
            if level == 2 and kind:
                place.append(total)
                total = None
            elif level == 1:
                place = kind = None
            level -= 1
        elif event == "map_key":
            key, inner = (value, inner) if level == 0 else (key, value)
        elif run is None or total is not None:
            continue
        elif level == 0:
            run[key] = value
        elif level == 1 and kind:
            place.append(bool(value) if kind == "marks" else value)
        elif level == 1 and place is not None:
            place[inner] = value


def nested(
    file: LogFile,
    paths: Collection[str],
    each: str,
    kept: Collection[str],
    at: Callable[[int], None],
    *,
    within: float = float("inf"),
) -> Iterator[dict[str, Any] | Left]:
    """Objects that stand at paths of a document, such as ``benchmarks.item.requests.errored.item``.

    Args:
        paths: of the objects; each: path of what they stand in, whose values at the paths ``kept`` go with them.
        within: bytes in which the first of them must stand.

    Yields:
        ``path``, ``record``, ``kept`` by path, and ``number`` of what it stands in, from 1.

    Raises:
        InputError: a packed file that is damaged.
    """
    import ijson
    from ijson.common import ObjectBuilder

    builder: Any = None
    where = ""
    found: dict[str, Any] = {}
    number = count = 0
    try:
        with open_bytes(file) as (stream, raw):
            try:
                for path, event, value in ijson.parse(Lenient(stream), use_float=True):
                    if builder is not None:
                        builder.event(event, value)
                        if event == "end_map" and path == where:
                            yield {"path": path, "record": builder.value, "kept": found, "number": number}
                            builder, count = None, count + 1
                            if count % _EVERY == 0:
                                at(raw.tell())
                    elif event == "start_map":
                        if path in paths:
                            builder, where = ObjectBuilder(), path
                            builder.event(event, value)
                        elif path == each:
                            found, number = {}, number + 1
                    elif path in kept and event in ("string", "number"):
                        found[path] = value
                    elif not count and raw.tell() > within:
                        return
            except ijson.JSONError:
                yield Left(DAMAGED)
    except UNPACKING:
        raise cut_off(file.path, file.packed) from None
