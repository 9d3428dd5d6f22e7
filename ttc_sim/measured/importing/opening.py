"""A log's file as it is: packed or not, in whatever encoding, a table or JSON."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from ttc_sim.base.errors import InputError
from ttc_sim.files.opening import readable

Kind = Literal["json", "table", "parquet", "zip"]
_LOOKED_AT = 1 << 18
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
UNPACKING = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What packed files raise that are damaged or cut off."""


@dataclass(frozen=True)
class LogFile:
    """A file of a log.

    Attributes:
        path: of it; size: as it stands on the disk, bytes.
        kind: what it holds; encoding: of its text.
        packed: by what, or empty.
        notes: how it was taken that could be doubted.
    """

    path: Path
    size: int
    kind: Kind
    encoding: str = "utf-8"
    packed: str = ""
    notes: tuple[str, ...] = ()


def look_at(path: Path) -> LogFile:
    """What a file is, by what it begins with.

    Raises:
        InputError: it cannot be read, is empty or holds no text.
    """
    size = readable(path)
    with path.open("rb") as file:
        begins = file.read(8)
    if not size:
        raise InputError(path, "file", "an empty file", "a log with at least one row")
    if begins.startswith(b"PAR1"):
        return LogFile(path, size, "parquet")
    if begins.startswith(b"PK\x03\x04"):
        return LogFile(path, size, "zip")
    packed = _packing(begins)
    bare = LogFile(path, size, "json", packed=packed)
    with _bytes(bare) as (stream, _):
        try:
            head = stream.read(_LOOKED_AT)
        except UNPACKING:
            raise cut_off(path, packed) from None
    if packed and (head.startswith((b"PAR1", b"PK\x03\x04")) or _packing(head[:8])):
        raise InputError(path, "file", f"a packed file inside of {packed}", "a log that is packed once at most")
    mark = next((name for bom, name in _BOMS.items() if head.startswith(bom)), None)
    notes: tuple[str, ...] = ()
    if mark is not None:
        encoding = mark
    else:
        encoding, notes = _encoding(path, head)
    text = head.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    if not text:
        raise InputError(path, "file", "nothing but blanks", "a log with at least one row")
    return LogFile(path, size, "json" if text[0] in "{[" else "table", encoding, packed, notes)


def _packing(begins: bytes) -> str:
    marks = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
    return next((name for mark, name in marks.items() if begins.startswith(mark)), "")


def _encoding(path: Path, head: bytes) -> tuple[str, tuple[str, ...]]:
    """Of text without a mark: UTF-8, UTF-16 by its zero bytes, or the Windows encoding, which is said."""
    zeros = head[:400].count(0)
    if zeros > len(head[:400]) // 3:
        return ("utf-16-be" if head[:1] == b"\0" else "utf-16-le"), (
            f"{path.name}: read as UTF-16, which it does not say",
        )
    if zeros:
        raise InputError(path, "file", head[:8], "a log of text or Parquet: this holds something else")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last letter may be cut
    except UnicodeDecodeError:
        return "cp1252", (f"{path.name}: not in UTF-8; read as Windows-1252 (Western European)",)
    return "utf-8", ()


def cut_off(path: Path, packed: str) -> InputError:
    """The error of a packed file that cannot be unpacked."""
    return InputError(
        path, "file", f"a damaged {packed} file" if packed else "a file that cannot be read", "a whole file"
    )


@contextmanager
def _bytes(file: LogFile) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """What is in it, unpacked; and the file itself, whose position says how far the reading is."""
    with file.path.open("rb") as raw:
        if file.packed == "gzip":
            with gzip.open(raw) as stream:
                yield cast("IO[bytes]", stream), raw
        elif file.packed == "bzip2":
            with bz2.open(raw) as stream:
                yield cast("IO[bytes]", stream), raw
        elif file.packed == "xz":
            with lzma.open(raw) as stream:
                yield cast("IO[bytes]", stream), raw
        elif file.packed == "zstd":
            import pyarrow as pa

            with pa.CompressedInputStream(pa.PythonFile(raw), "zstd") as packed:
                yield io.BufferedReader(_Readable(packed), 1 << 16), raw
        else:
            yield raw, raw


class _Readable(io.RawIOBase):
    """Arrow's streams lack what buffers ask for."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        block = self._stream.read(len(view))
        view[: len(block)] = block
        return len(block)


@contextmanager
def open_bytes(file: LogFile) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """As UTF-8 without a mark, whatever the file's encoding; and the file itself, whose position says how far the reading is."""
    with _bytes(file) as (stream, raw):
        if file.encoding == "utf-8":
            yield stream, raw
        elif file.encoding == "utf-8-sig":
            stream.read(len(codecs.BOM_UTF8))
            yield stream, raw
        else:
            reader = codecs.getreader(file.encoding)(stream, "replace")
            yield io.BufferedReader(_Recoded(reader), 1 << 16), raw


class _Recoded(io.RawIOBase):
    def __init__(self, reader: codecs.StreamReader) -> None:
        self._reader, self._left = reader, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        while not self._left:
            text = self._reader.read(1 << 15)
            if not text:
                return 0
            self._left = text.encode("utf-8", "replace")
        block, self._left = self._left[: len(view)], self._left[len(view) :]
        view[: len(block)] = block
        return len(block)
