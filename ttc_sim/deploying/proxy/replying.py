"""An answer on its way back to the caller, with headers that say where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Send

from ttc_sim.deploying.proxy.calling import Receiver
from ttc_sim.deploying.proxy.refusals import RefusedError

_MOST_HEADER = 500


@dataclass(frozen=True)
class Where:
    """Who answers a request: the arm, and its deployment; the request's name in the log; and why, in a line."""

    arm: str
    deployment: str
    request: str
    why: str


class Reply(Receiver):
    """A caller, as an ASGI server reaches it.

    Attributes:
        where: says what the headers do, once it is decided where the request goes.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.where: Callable[[], Where] | None = None

    async def begin(self) -> None:
        """A stream begins: nothing on the way may keep it back."""
        await self._start(
            200, "text/event-stream; charset=utf-8", {"cache-control": "no-cache", "x-accel-buffering": "no"}
        )

    async def part(self, content: bytes) -> None:
        """Some of the stream."""
        await self._send({"type": "http.response.body", "body": content, "more_body": True})

    async def end(self) -> None:
        """The stream is over."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(self, content: bytes) -> None:
        """An answer in one piece."""
        await self._start(200, "application/json", {"content-length": str(len(content))})
        await self._send({"type": "http.response.body", "body": content, "more_body": False})

    async def refuse(self, error: RefusedError) -> None:
        """No answer, and why."""
        content = error.body()
        headers = {"content-length": str(len(content))}
        if error.wait_s is not None:
            headers["retry-after"] = f"{error.wait_s:.3f}".rstrip("0").rstrip(".")
        await self._start(error.status, "application/json", headers)
        await self._send({"type": "http.response.body", "body": content, "more_body": False})

    async def _start(self, status: int, kind: str, more: dict[str, str]) -> None:
        self.begun = True
        headers = {"content-type": kind, **more, **self._where()}
        lines = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": lines})

    def _where(self) -> dict[str, str]:
        if self.where is None:
            return {}
        # Headers are lines of ASCII.
        said = {f"x-ttc-{name}": text.encode("unicode_escape").decode() for name, text in vars(self.where()).items()}
        return {name: text[:_MOST_HEADER] for name, text in said.items()}


__all__ = ["Reply", "Where"]
