"""One call to a deployment, its answer passed on as it comes; and what is known of it afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2

from ttc_sim.base.errors import cut
from ttc_sim.base.plain import plain
from ttc_sim.collecting.answers import Answer, ErrorInStreamError, NonsenseError, Tokens, count_tokens, said_in
from ttc_sim.collecting.asking import asked_to_wait, cause
from ttc_sim.deploying.proxy.asked import Asked
from ttc_sim.deploying.proxy.events import MOST_EVENT, Events, data_of
from ttc_sim.deploying.proxy.refusals import RefusedError
from ttc_sim.deploying.proxy.upstreams import Upstream

CONNECT_S = 10.0
SILENT_S = 600.0
"""After which a deployment that sends nothing is given up, where the plan says nothing sooner."""
MOST_ANSWER = 64_000_000
"""Bytes of an answer that comes in one piece."""
_MOST_ERROR = 65_536
_LINGER_S = 0.25
_STREAM = "text/event-stream"
_OPERATORS = (401, 402, 403, 404, 405, 407)
"""Statuses that are no fault of the caller's: the file of endpoints is wrong, or a bill is not paid."""

Why = Literal["busy", "error", "timeout", "set up", "refused"]


def client() -> httpx2.AsyncClient:
    """For all deployments: follows no redirect, and takes no proxy of the environment's."""
    return httpx2.AsyncClient(
        headers={"Accept-Encoding": "identity", "User-Agent": "ttc-sim"},
        follow_redirects=False,
        trust_env=False,
        timeout=httpx2.Timeout(SILENT_S, connect=CONNECT_S),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
    )


class UnansweredError(Exception):
    """A call that left no answer.

    Attributes:
        why: ``busy``, turned away for now; ``error``, broken, nonsense or out of reach; ``timeout``; ``set up``, as the file of
            endpoints must be mended; ``refused``, as the request itself is wrong.
        reason: in a line, without a key.
        wait_s: that the deployment asks to wait; refusal: what to tell the caller, if that is special.
    """

    def __init__(
        self, why: Why, reason: str, *, wait_s: float | None = None, refusal: RefusedError | None = None
    ) -> None:
        super().__init__(reason)
        self.why, self.reason, self.wait_s, self._refusal = why, reason, wait_s, refusal

    def refusal(self) -> RefusedError:
        """What the caller is told."""
        if self._refusal is not None:
            return self._refusal
        status = {"busy": 429, "timeout": 504}.get(self.why, 502)
        return RefusedError(status, self.reason, wait_s=self.wait_s)


@dataclass
class Call:
    """What came of one call.

    Attributes:
        sent: when, by ``time.perf_counter()``; first_token: when the first output was there, of a stream.
        answer: what came so far; whole: whether it came to its end.
    """

    sent: float
    first_token: float | None = None
    answer: Answer = field(default_factory=Answer)
    whole: bool = False

    def tokens(self, prompt_tokens: int) -> Tokens | None:
        """As the deployment counts them; about four characters each where it does not; ``None`` where nothing came."""
        thinking, visible, _ = self.answer.parts()
        if self.answer.usage is None and not thinking and not visible and not self.whole:
            return None
        counted = count_tokens(self.answer.usage, thinking, visible, "", lambda text: -(-len(text) // 4))
        assert counted is not None
        if self.answer.usage is None:
            return Tokens(prompt_tokens, 0, counted.reasoning, counted.visible, "about four characters each")
        return counted


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
    key = f"Bearer {upstream.key}" if upstream.key else asked.authorization if own_key else None
    headers = {"Content-Type": "application/json", "Accept": _STREAM if asked.stream else "application/json"}
    if key:
        headers["Authorization"] = key

    def failed(why: Why, reason: str, **more: Any) -> UnansweredError:
        if secret := (key or "").rpartition(" ")[2]:
            reason = reason.replace(secret, "[key]")
        return UnansweredError(why, f"{upstream.deployment}: {plain(cut(' '.join(reason.split()), 300))}", **more)

    try:
        content = json.dumps(asked.body_for(upstream.endpoint, cap)).encode()
        async with http.stream("POST", upstream.address, content=content, headers=headers) as response:
            if response.status_code != 200:
                raise _turned_away(response, await _beginning(response), failed)
            _check_kind(response, _STREAM if asked.stream else "application/json")
            await (_pass_stream(response, asked, to, made) if asked.stream else _pass_whole(response, to, made))
            if not made.whole:
                raise failed("error", "the stream stopped half-way")
    except ErrorInStreamError as error:
        raise failed("error", f"an error in the stream: {str(error)!r}") from None
    except NonsenseError as error:
        raise failed("error", f"it answered {str(error)[:120]!r}, which is no chat completion") from None
    except httpx2.TimeoutException as error:
        where = "no connection" if isinstance(error, httpx2.ConnectTimeout) else "nothing came"
        raise failed("timeout", f"{where} in time") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        said = cause(error)
        what = "it cannot be reached" if isinstance(error, httpx2.ConnectError) else "the connection broke off"
        raise failed("set up" if "certificate" in said.lower() else "error", f"{what} ({said})" if said else what) from None


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
    made.whole = True
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
        made.whole = True
        await to.end()
        with suppress(TimeoutError, httpx2.HTTPError, NonsenseError):
            async with asyncio.timeout(_LINGER_S):  # a connection that was read to its end can be used again
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


async def _beginning(response: httpx2.Response) -> str:
    got = b""
    async for part in response.aiter_bytes():
        got += part
        if len(got) > _MOST_ERROR:
            break
    return got[:_MOST_ERROR].decode("utf-8", "replace")


def _turned_away(response: httpx2.Response, content: str, failed: Callable[..., UnansweredError]) -> UnansweredError:
    status = response.status_code
    message = _error_in(content) or content
    reason = f"status {status}" + (f": {cut(message, 240)!r}" if message.strip() else "")
    wait_s = asked_to_wait(response.headers)
    if status == 429:
        # ... unless there is nothing left to pay with: waiting does not help then.
        quota = '"insufficient_quota"' in content
        return failed("set up" if quota else "busy", reason, wait_s=None if quota else wait_s)
    if status in _OPERATORS:
        return failed("set up", reason)
    if 400 <= status < 500 and status not in (408, 425):
        told = failed("refused", reason).reason
        return failed("refused", reason, refusal=RefusedError(status, told, **_details(content)))
    if status < 400:
        return failed("set up", f"{reason}: it redirects, or answers otherwise than a chat completion")
    return failed("timeout" if status in (408, 504) else "error", reason, wait_s=wait_s)


def _details(content: str) -> dict[str, str | None]:
    try:
        error = json.loads(content)["error"]
        return {name: str(error[said])[:120] if error.get(said) else None for name, said in _PASSED.items()}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}


_PASSED: Mapping[str, str] = {"kind": "type", "param": "param", "code": "code"}
