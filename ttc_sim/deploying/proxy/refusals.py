"""What a caller is told where there is no answer, in the format of OpenAI's errors."""

from __future__ import annotations

import json
from typing import Any

from ttc_sim.base.plain import plain

_KINDS = {429: "rate_limit_error", 504: "timeout_error"}


class RefusedError(Exception):
    """A request that gets no answer.

    Attributes:
        status: of HTTP; message: in a line, without any key or any of the prompt.
        kind: ``type`` of the error; ``param`` and ``code``: as in OpenAI's.
        wait_s: after which it may be asked again, if that is known.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        param: str | None = None,
        code: str | None = None,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.wait_s = status, plain(message), param, code, wait_s
        self.kind = kind or _KINDS.get(status) or ("invalid_request_error" if status < 500 else "server_error")

    def body(self) -> bytes:
        """The error as it is sent."""
        said: dict[str, Any] = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"error": said}).encode()

    def event(self) -> bytes:
        """The same in a stream that has begun."""
        return b"data: " + self.body() + b"\n\n"


__all__ = ["RefusedError"]
