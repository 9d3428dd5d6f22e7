"""One call to a deployment, its answer passed on as it comes; and what is known of it afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import anyio
import httpx2

from ttc_sim.base.errors import cut
from ttc_sim.collecting.answers import ErrorInStreamError, NonsenseError, Tokens, said_in
from ttc_sim.collecting.asking import FailedError, beginning, broken, refusal
from ttc_sim.collecting.endpoints import Endpoint as Address
from ttc_sim.deploying.carrying.manner import Manner
from ttc_sim.deploying.carrying.streamed import Streamed
from ttc_sim.deploying.proxy.asked import Asked
from ttc_sim.deploying.proxy.events import MOST_EVENT, Events, data_of
from ttc_sim.deploying.proxy.refusals import RefusedError
from ttc_sim.deploying.proxy.upstreams import Upstream

CONNECT_S = 10.0
SILENT_S = Manner().first_s
"""After which a deployment that sends nothing is given up, where the plan does not say when."""
MOST_ANSWER = 64_000_000
"""Bytes of an answer that comes in one piece."""
_LINGER_S = 0.25
_STREAM = "text/event-stream"

Why = Literal["busy", "error", "timeout", "set up", "refused"]


def client() -> httpx2.AsyncClient:
    """For all deployments: follows no redirect, and takes no proxy of the environment's."""
    return httpx2.AsyncClient(
        headers={"Accept-Encoding": "identity", "User-Agent": "ttc-sim"},
        follow_redirects=False,
        trust_env=False,
        timeout=httpx2.Timeout(None, connect=CONNECT_S),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
    )


class UnansweredError(Exception):
    """A call that left no answer.

    Attributes:
        why: ``busy``, turned away for now; ``error``, broken, nonsense or out of reach; ``timeout``; ``set up``, as the file of
            endpoints must be mended; ``refused``, as the request itself is wrong.
        reason: in a line, without a key.
        wait_s: that the deployment asks to wait; for_good: whether a deadline is why, so that no other arm takes over.
    """

    for_good = False

    def __init__(
        self,
        why: Why,
        reason: str,
        *,
        wait_s: float | None = None,
        status: int | None = None,
        details: Mapping[str, str | None] | None = None,
    ) -> None:
        super().__init__(reason)
        self.why, self.reason, self.wait_s = why, reason, wait_s
        self._status, self._details = status, details or {}

    def without_time(self, for_good: bool) -> UnansweredError:
        """The same, where there is no time left to ask again."""
        reason, status = f"{self.reason}; there is no time to ask again", self.refusal().status
        made = UnansweredError("timeout", reason, wait_s=self.wait_s, status=status, details=self._details)
        made.for_good = for_good
        return made

    def refusal(self) -> RefusedError:
        """What the caller is told."""
        status = self._status or (504 if self.why == "timeout" else 502)
        return RefusedError(status, self.reason, wait_s=self.wait_s, **self._details)


@dataclass
class Call:
    """What came of one call.

    Attributes:
        sent: when, by ``time.perf_counter()``; first_token: when the first output was there, of a stream.
        answer: what came so far; ended: when it was whole; stopped: whether it was given up from here.
    """

    sent: float
    answer: Streamed
    first_token: float | None = None
    ended: float | None = None
    stopped: bool = False

    @property
    def whole(self) -> bool:
        """Whether the answer came to its end."""
        return self.ended is not None

    def tokens(self, prompt_tokens: int) -> Tokens | None:
        """As the deployment counts them, else estimated from what came; ``None`` where nothing came that could be billed."""
        if not self.answer.began and not self.stopped:
            return None
        return self.answer.tokens(prompt_tokens, all_of_it=self.whole)


def new_call(asked: Asked) -> Call:
    """A call that is made now."""
    return Call(time.perf_counter(), Streamed(asked.answers, None, lambda _number, _piece: None, lambda _text: None))


class Receiver:
    """Who an answer is passed on to."""

    begun = False
    """Whether anything was passed on already."""

    async def begin(self) -> None:
        """A stream begins."""
        raise NotImplementedError

    async def part(self, content: bytes) -> None:
        """Some of it."""
        raise NotImplementedError

    async def end(self) -> None:
        """It is over."""
        raise NotImplementedError

    async def whole(self, content: bytes) -> None:
        """An answer in one piece."""
        raise NotImplementedError


async def call(
    http: httpx2.AsyncClient, upstream: Upstream, asked: Asked, cap: int | None, to: Receiver, made: Call, own_key: bool
) -> None:
    """Ask a deployment once, and pass its answer on as it comes.

    Args:
        cap: of the arm; made: is filled in as the answer comes; own_key: the caller's Authorization goes along where the
            deployment has no key.

    Raises:
        UnansweredError: no answer, or half of one.
    """
    key = upstream.address.key
    authorization = f"Bearer {key}" if key else asked.authorization if own_key else None
    headers = {"Content-Type": "application/json", "Accept": _STREAM if asked.stream else "application/json"}
    if authorization:
        headers["Authorization"] = authorization
    # Whatever key goes along is not repeated in what is said of the deployment.
    address = replace(upstream.address, key=(authorization or "").rpartition(" ")[2] or None)
    reached = False
    try:
        content = json.dumps(asked.body_for(upstream.endpoint, cap)).encode()
        limited = upstream.timeout_s is not None or upstream.deadline_s is not None
        patience = httpx2.Timeout(None if limited else SILENT_S, connect=CONNECT_S)
        async with http.stream("POST", address.url, content=content, headers=headers, timeout=patience) as response:
            reached = True
            if response.status_code != 200:
                begins = (await beginning(response)).decode("utf-8", "replace")
                failed = refusal(response.status_code, response.headers, begins, address)
                raise _unanswered(upstream, failed, response.status_code, _details(begins, address))
            _check_kind(response, _STREAM if asked.stream else "application/json")
            await (_pass_stream(response, asked, to, made) if asked.stream else _pass_whole(response, to, made))
            if not made.whole:
                raise _failed(upstream, "error", "the stream stopped half-way")
    except ErrorInStreamError as error:
        raise _failed(upstream, "error", f"an error in the stream: {address.shown(str(error))!r}") from None
    except NonsenseError as error:
        said = f"it answered {cut(address.shown(str(error)), 120)!r}, which is no chat completion"
        raise _failed(upstream, "error", said) from None
    except (httpx2.ReadTimeout, httpx2.WriteTimeout):
        raise _failed(upstream, "timeout", f"nothing came for {SILENT_S:g} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        sent = reached or not isinstance(error, httpx2.ConnectError)
        raise _unanswered(upstream, broken(error, address, sent=sent)) from None


def _failed(upstream: Upstream, why: Why, reason: str, **more: Any) -> UnansweredError:
    return UnansweredError(why, f"{upstream.deployment}: {reason}", **more)


def _unanswered(
    upstream: Upstream,
    failed: FailedError,
    status: int | None = None,
    details: Mapping[str, str | None] | None = None,
) -> UnansweredError:
    # What the command that collects would have one do is no option here.
    reason = failed.reason.partition("; --")[0].removesuffix(": give that as --endpoint")
    if failed.away:
        return _failed(upstream, "busy", reason, wait_s=failed.wait_s, status=429 if status == 429 else 503)
    if failed.then == "never" and status is not None:
        return _failed(upstream, "refused", reason, status=status, details=details)
    return _failed(upstream, "set up" if failed.then != "again" else "error", reason, wait_s=failed.wait_s)


def _check_kind(response: httpx2.Response, expected: str) -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != expected:
        raise NonsenseError(kind or "no content type")


async def _pass_whole(response: httpx2.Response, to: Receiver, made: Call) -> None:
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > MOST_ANSWER:
            raise NonsenseError(f"more than {MOST_ANSWER:,} bytes")
    text = content.decode("utf-8", "replace")
    try:
        said = json.loads(text)
        choices = said["choices"]
        # As if it had come in a stream of one piece.
        pieces = [{**one, "delta": one["message"]} for one in choices]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise (ErrorInStreamError if _error_in(text) else NonsenseError)(_error_in(text) or text) from None
    if not pieces or not all(isinstance(one["message"], dict) for one in pieces):
        raise NonsenseError(text)
    made.answer.take(json.dumps({**said, "choices": pieces}))
    made.ended = time.perf_counter()
    await to.whole(bytes(content))


def _error_in(text: str) -> str:
    """The message of an error as endpoints send it; empty if the text is none."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    return said_in(said) if isinstance(said, dict) and said.get("error") else ""


async def _pass_stream(response: httpx2.Response, asked: Asked, to: Receiver, made: Call) -> None:
    answer, held = made.answer, b""
    async with aclosing(_events(response)) as events:
        async for event in events:
            data = data_of(event)
            known = answer.usage
            if data is not None:
                text, _ = answer.take(data)
                if made.first_token is None and (text or b'"tool_calls"' in event):
                    made.first_token = time.perf_counter()
                if answer.ended and answer.finish_reason is None:
                    return
                if answer.usage is not known and not asked.wants_usage and not json.loads(data).get("choices"):
                    continue  # asked for by the proxy alone
            if data is None and not to.begun:
                held += event  # a comment: nothing is passed on before it is known that there is an answer
                continue
            if not to.begun:
                await to.begin()
            await to.part(held + event)
            held = b""
            if answer.ended:
                break
        if answer.finish_reason is None:
            return
        made.ended = time.perf_counter()
        await to.end()
        # A connection that was read to its end can be used again, also where the caller has left by now.
        with suppress(httpx2.HTTPError, NonsenseError), anyio.move_on_after(_LINGER_S, shield=True):
            async for _ in events:
                pass


async def _events(response: httpx2.Response) -> AsyncGenerator[bytes]:
    events = Events()
    try:
        async for part in response.aiter_bytes():
            for event in events.take(part):
                yield event
    except OverflowError:
        raise NonsenseError(f"an event of more than {MOST_EVENT:,} bytes") from None
    for event in events.end():
        yield event


def _details(content: str, address: Address) -> dict[str, str | None]:
    """What an error says besides its message."""
    try:
        error = json.loads(content)["error"]
        said = {name: error.get(key) for name, key in _PASSED.items()}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}
    return {name: address.shown(value) if isinstance(value, str) else None for name, value in said.items()}


_PASSED = {"kind": "type", "param": "param", "code": "code"}
