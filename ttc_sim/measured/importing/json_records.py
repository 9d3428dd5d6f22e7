"""Records of JSON: of lines, of a document that is read at once, or of one that is read item by item."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import IO, Any

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import most
from ttc_sim.measured.importing.call import find
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.records import Left, Read

_WHOLE = 64_000_000  # bytes of a JSON document that is read at once; a larger one is read item by item


def read_json(
    file: LogFile,
    stream: IO[bytes],
    arrays: tuple[str, ...],
    tick: Callable[[], None],
    head: dict[str, Any],
    within: float,
) -> Read:
    """Records of a log of JSON, as :func:`~ttc_sim.measured.importing.reading.read_records` gives them.

    Args:
        stream: of it, unpacked; tick: called now and then.

    Raises:
        InputError: a document without a record that can be read.
    """
    longest = int(most("TTC_SIM_MAX_LINE_MB") * 1e6)
    first = b""
    number = 0
    while not first.strip():
        first = stream.readline(_WHOLE + 1)
        number += 1
        if not first:
            return
    begun = first.lstrip()
    if begun.startswith(b"{"):
        record = _parsed(first) if len(first) <= longest else Left("", "")
        if not isinstance(record, Left):
            second = _next_line(stream, longest)
            if second is None:  # one line, one object: a document
                yield from records_of(record, arrays, head)
                return
            yield number, record
            yield from _lines(stream, longest, tick, number + 1, second)
            return
        if first.rstrip().endswith((b"}", b'"')) and len(first) <= longest and begun.rstrip() != b"{":
            # No whole object: a line that is damaged, of a log of lines, if the next one is an object.
            second = _next_line(stream, longest)
            if second is not None and not isinstance(_parsed(second), Left):
                yield number, record
                yield from _lines(stream, longest, tick, number + 1, second)
                return
            first += second or b""
    yield from _whole(file, first, stream, arrays, tick, head, within)


def _next_line(stream: IO[bytes], longest: int) -> bytes | None:
    """The next line that is not empty, or ``None`` at the end."""
    while line := stream.readline(longest + 1):
        if line.strip():
            return line
    return None


def _lines(stream: IO[bytes], longest: int, tick: Callable[[], None], number: int, line: bytes) -> Read:
    while line:
        if len(line) > longest and not line.endswith(b"\n"):
            while (more := stream.readline(longest)) and not more.endswith(b"\n"):
                pass
            yield number, Left(f"a line of more than {longest / 1e6:g} MB")
        elif line.strip():
            record = _parsed(line)
            if isinstance(record, Left) and not line.endswith(b"\n"):
                record = Left("the last line is cut off", record.said)
            yield number, record
        if number % 512 == 0:
            tick()
        line = stream.readline(longest + 1)
        number += 1


def _parsed(line: bytes) -> Any:
    """An object of JSON; what is no UTF-8 in it becomes question marks."""
    try:
        try:
            record = json.loads(line)
        except UnicodeDecodeError:
            record = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return Left("no JSON object", line[:60].decode("utf-8", "replace"))
    return record if isinstance(record, (dict, list)) else Left("no JSON object", str(record)[:60])


def records_of(document: Any, arrays: tuple[str, ...], head: dict[str, Any]) -> Read:
    """Records of a document that is there as a whole."""
    if isinstance(document, list):
        yield from enumerate(document, 1)
        return
    found = ((name.partition(".")[0], find(document, *name.split("."))) for name in arrays)
    key, records = next(((key, value) for key, value in found if isinstance(value, list)), (None, None))
    if records is None:
        yield 1, document
        return
    head.update({name: value for name, value in document.items() if name != key})
    yield from enumerate(records, 1)


def _whole(
    file: LogFile,
    begun: bytes,
    stream: IO[bytes],
    arrays: tuple[str, ...],
    tick: Callable[[], None],
    head: dict[str, Any],
    within: float,
) -> Read:
    block = stream.read(_WHOLE + 1)
    if len(block) <= _WHOLE:
        try:
            document = json.loads((begun + block).decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, (dict, list)):
            tick()
            yield from records_of(document, arrays, head)
            return
    # Large, damaged or cut off: item by item, as far as it can be read.
    yield from _items(file, _Again(begun + block, stream), arrays, tick, head, within)


class _Again(io.RawIOBase):
    """What has been read of a stream already, and the rest of it."""

    def __init__(self, begun: bytes, stream: IO[bytes]) -> None:
        self._begun, self._stream, self.passed = io.BytesIO(begun), stream, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._begun.read(len(buffer)) or self._stream.read(len(buffer))
        buffer[: len(block)] = block
        self.passed += len(block)
        return len(block)


def _items(
    file: LogFile,
    stream: _Again,
    arrays: tuple[str, ...],
    tick: Callable[[], None],
    head: dict[str, Any],
    within: float,
) -> Read:
    import ijson
    from ijson.common import ObjectBuilder

    number, builder, wanted, key = 0, None, None, None
    expected = f"a JSON array of records, or an object with {' or '.join(arrays) or 'one'}"
    within = within if arrays else min(within, 1 << 20)  # of an object that is a record itself
    try:
        for prefix, event, value in ijson.parse(io.BufferedReader(stream, 1 << 16), use_float=True):
            if wanted is None and stream.passed > within:
                raise InputError(file.path, "file", file.path.name, expected)
            if builder is None and prefix == "" and event == "start_array":
                wanted = "item"
            elif prefix == "" and event == "map_key":
                key = value
            elif wanted is None and event == "start_array" and prefix in arrays:
                wanted = f"{prefix}.item"
            elif builder is None and wanted and prefix == wanted and event in ("start_map", "start_array"):
                builder = ObjectBuilder()
            elif builder is None and prefix == key and event in ("string", "number", "boolean") and key is not None:
                head[key] = value
            if builder is not None:
                builder.event(event, value)
                if prefix == wanted and event in ("end_map", "end_array"):
                    number += 1
                    yield number, builder.value
                    builder = None
                    if number % 64 == 0:
                        tick()
    except ijson.JSONError:
        if not number:
            expected = (
                "a JSON document, or one JSON object in each line: this is damaged or cut off before its first record"
            )
            raise InputError(file.path, "file", file.path.name, expected) from None
        yield number + 1, Left("the document is damaged or cut off from here on")
    if not number and wanted is None:
        raise InputError(file.path, "file", file.path.name, expected)
