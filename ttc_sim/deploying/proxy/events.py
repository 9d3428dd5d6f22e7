"""A stream of server-sent events, cut into events without changing a byte of them."""

from __future__ import annotations

import re

_END = re.compile(rb"\n\r?\n|\r\r")
MOST_EVENT = 4_000_000
"""Bytes of one event."""


class Events:
    r"""Bytes as they come, and the events that are whole by then.

    >>> events = Events()
    >>> events.take(b"data: 1\n"), events.take(b"\ndata: 2\n\nda")
    ([], [b'data: 1\n\n', b'data: 2\n\n'])
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def take(self, part: bytes) -> list[bytes]:
        """More bytes; the events that they end.

        Raises:
            OverflowError: an event of more than :data:`MOST_EVENT` bytes.
        """
        searched = max(len(self._rest) - 3, 0)
        self._rest += part
        found, start = [], 0
        for end in _END.finditer(self._rest, searched):
            found.append(bytes(self._rest[start : end.end()]))
            start = end.end()
        del self._rest[:start]
        if len(self._rest) > MOST_EVENT:
            raise OverflowError
        return found

    def end(self) -> list[bytes]:
        """What is left as the stream ends: an event, if anything, that nothing ended."""
        return [bytes(self._rest) + b"\n\n"] if self._rest.strip() else []


def data_of(event: bytes) -> str | None:
    r"""What an event says; ``None`` if it is a comment, as servers send to show that they are still there.

    >>> data_of(b"event: x\r\ndata: {\r\ndata:}\r\n\r\n"), data_of(b": PROCESSING\n\n")
    ('{\n}', None)
    """
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines).decode("utf-8", "replace") if lines else None


__all__ = ["MOST_EVENT", "Events", "data_of"]
