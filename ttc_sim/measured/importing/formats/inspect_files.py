"""Files of Inspect AI's logs: members of a ``.eval`` zip file one by one, each within limits, and headers of large documents."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import FREE_OF_EXPANSION, most
from ttc_sim.measured.importing.opening import UNPACKING, LogFile, look_at, open_bytes
from ttc_sim.measured.importing.reading import Left, Read

_SAMPLE = re.compile(r"samples/[^/]*_epoch_\d+\.json")
_SHELL = re.compile(r"samples/.*_epoch_\d+/sample\.json", re.DOTALL)
"""What large samples are written as since 2026, beside their messages and events in parts."""
_HEADERS = ("header.json", "_journal/start.json")
_WHOLE = 16_000_000  # bytes of a sample that is read at once; of a larger one, what is needed
_WANTED = frozenset({"id", "epoch", "input", "target", "scores", "score", "output", "model_usage", "role_usage", "error",
                     "limit", "invalidation", "turn_count"})  # fmt: skip
_LARGEST_HEADER = 64_000_000
_ZSTD = 93
_BAD = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    RecursionError,
    OSError,
    struct.error,
)
"""What damaged members raise; encrypted ones too."""


class Members:
    """A ``.eval`` file, to be closed after use."""

    def __init__(self, file: LogFile) -> None:
        """Open it.

        Raises:
            InputError: no zip file that can be read.
        """
        self._file = file
        try:
            self._zip = zipfile.ZipFile(file.path)
        except _BAD:
            raise InputError(file.path, "file", file.path.name, "a zip file that is whole") from None
        self._names = {
            info.filename: info for info in self._zip.infolist()
        }  # the last of a name counts, as for every reader

    def __enter__(self) -> Members:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    @property
    def is_log(self) -> bool:
        """Whether it is Inspect's."""
        return any(name in self._names for name in _HEADERS)

    def header(self) -> dict[str, Any]:
        """What the log says of the evaluation; of one that did not end, what it began with."""
        for name in _HEADERS:
            if name in self._names:
                found = self._document(self._names[name], _LARGEST_HEADER)
                if isinstance(found, dict):
                    return found if "status" in found else {**found, "status": "started"}
        return {}

    def samples(self, at: Callable[[int], None]) -> Read:
        """Samples in the order of the file, numbered from 1; those that are damaged or too large as :class:`Left`."""
        number = 0
        for name, info in self._names.items():
            if _SAMPLE.fullmatch(name) or _SHELL.fullmatch(name):
                number += 1
                yield number, self._sample(info)
                at(min(info.header_offset + info.compress_size, self._file.size))

    def _sample(self, info: zipfile.ZipInfo) -> Any:
        if info.file_size > max(FREE_OF_EXPANSION, info.compress_size * most("TTC_SIM_MAX_EXPANSION")):
            return Left("a sample that becomes far more than it is packed", info.filename[:60])
        if info.file_size <= _WHOLE:
            return self._document(info, _WHOLE)
        try:
            with self._open(info) as stream:
                return _needed(stream)
        except _BAD:
            return Left("a damaged sample", info.filename[:60])

    def _document(self, info: zipfile.ZipInfo, largest: int) -> Any:
        if info.file_size > largest:
            return Left(f"a member of more than {largest / 1e6:g} MB", info.filename[:60])
        try:
            with self._open(info) as stream:
                text = stream.read(largest + 1)
            if len(text) != info.file_size:
                return Left("a damaged sample", info.filename[:60])
            return json.loads(text.decode("utf-8", "replace"))
        except _BAD:
            return Left("a damaged sample", info.filename[:60])

    def _open(self, info: zipfile.ZipInfo) -> IO[bytes]:
        if info.compress_type != _ZSTD:
            return self._zip.open(info)
        return io.BufferedReader(_Zstd(self._file.path, info), 1 << 16)


class _Zstd(io.RawIOBase):
    """A member packed by Zstandard, which Inspect writes and :mod:`zipfile` does not read: no more than it says it becomes."""

    def __init__(self, path: Path, info: zipfile.ZipInfo) -> None:
        import pyarrow as pa

        if info.flag_bits & 1:
            raise RuntimeError("encrypted")
        with path.open("rb") as file:
            file.seek(info.header_offset)
            local = file.read(30)
            if local[:4] != b"PK\x03\x04":
                raise zipfile.BadZipFile
            name, extra = struct.unpack("<HH", local[26:30])
            file.seek(name + extra, io.SEEK_CUR)
            packed = file.read(info.compress_size)
        self._stream = pa.CompressedInputStream(pa.BufferReader(packed), "zstd")
        self._left = info.file_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(min(len(buffer), self._left)) if self._left else b""
        buffer[: len(block)] = block
        self._left -= len(block)
        return len(block)


def _needed(stream: IO[bytes]) -> Any:
    """Of a large sample, what is needed of it: messages, events and attachments are passed over."""
    return dict(_parts(stream, _WANTED))


def _parts(stream: IO[bytes], wanted: frozenset[str], until: str = "") -> Iterator[tuple[str, Any]]:
    """Values of an object of JSON under the wanted keys, without building the others, as far as the key ``until``."""
    import ijson
    from ijson.common import ObjectBuilder

    key, builder = None, None
    try:
        for prefix, event, value in ijson.parse(stream, use_float=True):
            if prefix == "" and event == "map_key":
                if builder is not None and key is not None:
                    yield key, builder.value
                if value == until:
                    return
                key, builder = value, (ObjectBuilder() if value in wanted else None)
            elif prefix == "" and event in ("start_map", "end_map"):
                continue
            elif builder is not None:
                builder.event(event, value)
    except ijson.JSONError:
        raise ValueError from None
    if builder is not None and key is not None:
        yield key, builder.value


def header_of_document(path: Path) -> dict[str, Any]:
    """What a large ``.json`` log says of the evaluation before its samples."""
    found: dict[str, Any] = {}
    wanted = frozenset({"status", "eval", "results"})
    try:
        with open_bytes(look_at(path)) as (stream, _):
            found.update(_parts(stream, wanted, "samples"))
    except (InputError, ValueError, *UNPACKING):
        return found
    return found
