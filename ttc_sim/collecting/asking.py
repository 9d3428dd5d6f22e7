"""One request to an endpoint of OpenAI's kind, and what becomes of it."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import json
import math
import os
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import httpx2

from ttc_sim.collecting.answers import Answer, ErrorInStreamError, NonsenseError, said_in
from ttc_sim.collecting.endpoints import Endpoint

CONNECT_S = 30.0
MOST_BYTES = 256_000_000
"""Of one answer, as it is streamed: hundreds of bytes a token."""
_MOST_EVENT = 4_000_000
_MOST_ERROR = 65_536
_LINGER_S = 0.25
_STREAM = "text/event-stream"
_REFUSED_FIRST = (408, 425, 429, 503, 529)
"""Turned away before any work: nothing is billed. What other errors of servers cost is not known."""
_HOPELESS = (401, 402, 404, 405, 407)
_EXPECTED = "a stream of chat completion chunks"


def client_for(endpoint: Endpoint, connections: int) -> httpx2.AsyncClient:
    """For so many requests at once: follows no redirect, and no proxy unless it is asked to."""
    headers = {"Accept": _STREAM, "Accept-Encoding": "identity", "User-Agent": "ttc-sim"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    return httpx2.AsyncClient(
        headers=headers,
        follow_redirects=False,
        trust_env=endpoint.env_proxy,
        timeout=httpx2.Timeout(None, connect=min(CONNECT_S, endpoint.timeout_s)),
        limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
    )


class FailedError(Exception):
    """A request that left no answer.

    Attributes:
        reason: in one line.
        then: ``again`` is worth trying; ``never`` for this attempt; ``stop`` for all of them.
        billed: whether it may have been paid for.
        wait_s: that the endpoint asks to wait, if it does.
        late: whether it took too long.
        unlike: whether it is what something else than such an endpoint would do.
        away: whether it was turned away for now, before any work.
    """

    def __init__(
        self,
        reason: str,
        then: Literal["again", "never", "stop"],
        *,
        billed: bool,
        wait_s: float | None = None,
        late: bool = False,
        unlike: bool = False,
        away: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.then, self.billed = reason, then, billed
        self.wait_s, self.late, self.unlike, self.away = wait_s, late, unlike, away


@dataclass
class Timed:
    """An answer, and when it came: seconds since it was asked for on a connection that stood already."""

    answer: Answer
    started_at: datetime.datetime
    first_token_s: float | None
    first_visible_s: float | None
    latency_s: float


class _Clock:
    """When a request was sent, connecting not counted."""

    def __init__(self) -> None:
        self.sent: float | None = None
        self.at = datetime.datetime.now(datetime.UTC)

    async def trace(self, event: str, _: Mapping[str, Any]) -> None:
        if event.endswith("send_request_headers.started"):
            self.sent, self.at = time.perf_counter(), datetime.datetime.now(datetime.UTC)

    def passed(self) -> float:
        assert self.sent is not None
        return time.perf_counter() - self.sent


async def ask(
    client: httpx2.AsyncClient, endpoint: Endpoint, body: Mapping[str, Any], answer: Answer | None = None
) -> Timed:
    """Send one request, and take its answer to its end.

    Args:
        answer: what takes it in, and holds what had come where it raises; a new one if left out.

    Raises:
        FailedError: there is no whole answer.
    """
    clock = _Clock()
    content = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    asked = client.stream("POST", endpoint.url, content=content, headers=headers, extensions={"trace": clock.trace})
    try:
        async with asyncio.timeout(endpoint.timeout_s), asked as response:
            if response.status_code != 200:
                raise await _refused(response, endpoint)
            return await _read(response, endpoint, clock, Answer() if answer is None else answer)
    except TimeoutError:
        reason = f"no whole answer within {endpoint.timeout_s:g} s"
        raise FailedError(reason, "again", billed=clock.sent is not None, late=True) from None
    except ErrorInStreamError as error:
        raise FailedError(f"an error in the stream: {endpoint.shown(str(error))!r}", "again", billed=True) from None
    except NonsenseError as error:
        reason = f"it answered {endpoint.shown(str(error))!r} instead of {_EXPECTED}"
        raise FailedError(reason, "again", billed=True, unlike=True) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise broken(error, endpoint, sent=clock.sent is not None) from None


async def _read(response: httpx2.Response, endpoint: Endpoint, clock: _Clock, answer: Answer) -> Timed:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _STREAM or response.headers.get("content-encoding", "identity") != "identity":
        begins = (await beginning(response)).decode("utf-8", "replace")
        shown = endpoint.shown(f"{kind or 'no content type'}: {begins[:120]}")
        reason = f"it answered {shown!r} instead of {_EXPECTED} ({_STREAM})"
        raise FailedError(reason, "again", billed=True, unlike=True)
    first, first_visible, ended = None, None, None
    source = aiter(httpx2.EventSource(response, max_event_size=_MOST_EVENT))
    async with aclosing(cast("AsyncGenerator[httpx2.ServerSentEvent]", source)) as events:
        async for event in events:
            text, visible = answer.take(event.data)
            now = clock.passed()
            first = now if text and first is None else first
            first_visible = now if visible and first_visible is None else first_visible
            if response.num_bytes_downloaded > MOST_BYTES:
                raise FailedError(f"an answer of more than {MOST_BYTES:,} bytes", "never", billed=True)
            if answer.ended:
                ended = now
                break
        if answer.finish_reason is None or not (answer.ended or answer.usage):
            raise FailedError("the stream stopped half-way", "again", billed=True)
        took_s = clock.passed() if ended is None else ended
        # A connection that was read to its end can be used again.
        with suppress(TimeoutError, httpx2.HTTPError):
            async with asyncio.timeout(_LINGER_S):
                async for _ in events:
                    pass
    return Timed(answer, clock.at, first, first_visible, took_s)


async def beginning(response: httpx2.Response) -> bytes:
    """What an answer that is no stream begins with."""
    got = b""
    async for part in response.aiter_raw():
        got += part
        if len(got) > _MOST_ERROR:
            break
    return got[:_MOST_ERROR]


async def _refused(response: httpx2.Response, endpoint: Endpoint) -> FailedError:
    status = response.status_code
    content = "" if 300 <= status < 400 else (await beginning(response)).decode("utf-8", "replace")
    return refusal(status, response.headers, content, endpoint)


def refusal(status: int, headers: Mapping[str, str], content: str, endpoint: Endpoint) -> FailedError:
    """What a status other than 200 says, with its headers and the text that came with it."""
    if 300 <= status < 400:
        to = urlsplit(headers.get("location", "")).netloc or endpoint.url
        reason = (
            f"status {status}: it redirects to {endpoint.shown(to)!r}, which is not followed: give that as --endpoint"
        )
        return FailedError(reason, "stop", billed=False)
    try:
        said: Any = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    error = said.get("error") if isinstance(said, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    message = endpoint.shown(said_in(said) or content)
    reason = f"status {status}" + (f": {message!r}" if message else "")
    if status in _HOPELESS or code == "insufficient_quota":
        hint = "; --key-env names the variable with the key" if status == 401 and not endpoint.key else ""
        return FailedError(reason + hint, "stop", billed=False)
    if status in _REFUSED_FIRST:
        return FailedError(reason, "again", billed=False, wait_s=_asked_to_wait(headers), away=True)
    if status >= 500:
        return FailedError(reason, "again", billed=True, wait_s=_asked_to_wait(headers))
    if "stream_options" in message:
        reason += """; --body '{"stream_options": null}' leaves it out"""
    return FailedError(reason, "never", billed=False)


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of ``retry-after-ms`` or ``Retry-After``, which may be a date too; ``None`` without either."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            wait_s = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(wait_s) and wait_s >= 0:
            return wait_s
    try:
        until = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        return max((until - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):  # no date, or one without a zone
        return None


def broken(error: Exception, endpoint: Endpoint, *, sent: bool) -> FailedError:
    """What an error of the network means."""
    said = _cause(error)
    if isinstance(error, httpx2.ConnectTimeout):
        return FailedError("no connection in time", "again", billed=False, unlike=True)
    if "CERTIFICATE_VERIFY_FAILED" in said or "certificate" in said.lower():
        return FailedError("its certificate is not one that this system trusts", "stop", billed=False)
    if isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol)):
        return FailedError("no address that can be asked", "stop", billed=False)
    if isinstance(error, httpx2.SSEError):
        return FailedError(f"an event of more than {_MOST_EVENT:,} bytes in the stream", "again", billed=True)
    what = "the connection broke off" if sent else "it cannot be reached"
    reason = f"{what} ({endpoint.shown(said)})" if said else what
    return FailedError(reason, "again", billed=sent, unlike=not sent)


def _cause(error: BaseException | None) -> str:
    """What the system said, at the bottom of what libraries made of it."""
    said = ""
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
            continue
        if isinstance(error, ssl.SSLError):  # an OSError whose number is none of the system's
            said = f"TLS: {error.reason or type(error).__name__}"
        elif isinstance(error, OSError) and error.errno:
            named = isinstance(error, socket.gaierror)  # whose numbers are its own
            said = error.strerror or "" if named else os.strerror(error.errno)
        elif "CERTIFICATE" in str(error):
            said = str(error)
        error = error.__cause__ or error.__context__
    return said


__all__ = ["FailedError", "Timed", "ask", "beginning", "broken", "client_for", "refusal"]
