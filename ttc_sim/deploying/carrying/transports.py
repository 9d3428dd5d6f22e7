"""How a call is sent: over HTTP from here, or by a client of OpenAI's kind that the user has."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from ttc_sim.base.errors import InputError, cut
from ttc_sim.base.plain import plain
from ttc_sim.collecting.answers import ErrorInStreamError, NonsenseError
from ttc_sim.collecting.endpoints import Endpoint as Address
from ttc_sim.collecting.endpoints import address, key_from
from ttc_sim.deploying.carrying.records import NoAnswerError
from ttc_sim.deploying.carrying.streamed import EndlessError, Streamed
from ttc_sim.deploying.endpoints import Endpoint

OWN = ("model", "messages", "stream", "n", "max_tokens", "max_completion_tokens", "stop")
"""Keys of a call's body that are not the user's to set."""
_CONNECTIONS = 1000
_NO_LIMIT_S = 1e6  # the calls have limits of their own
_HINTS = {
    ": give that as --endpoint": ": give that as its url",
    "; --key-env names": "; key_env names",
    """; --body '{"stream_options": null}' leaves it out""": "; body: {stream_options: null} leaves it out",
}
Send = Callable[[dict[str, Any], Streamed, float], Awaitable[None]]
"""Sends a body, and lets the stream take what comes, for at most so many seconds; raises :class:`NoAnswerError`."""


def refused(status: str, reason: str, *, away: bool, again: bool, wait_s: float | None) -> NoAnswerError:
    """What a refusal means for those who might ask again."""
    if away:
        return NoAnswerError("rejected", reason, ("rate_limit", "queue_full"), wait_s)
    if status == "timed_out":
        return NoAnswerError("timed_out", reason, ("timeout",), wait_s)
    return NoAnswerError("failed", reason, ("error",) if again else (), wait_s)


class Direct:
    """Calls over HTTP, of one deployment.

    Raises:
        InputError: no address that can be asked, or a key that is not there.
    """

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        if importlib.util.find_spec("httpx2") is None:
            raise InputError("packages", "httpx2", "not installed", "pip install 'ttc-sim[collect]', or a client")
        try:
            url = address(endpoint.url)
        except InputError as error:
            raise InputError("endpoints", f"{name}.url", endpoint.url.split("?")[0], error.expected) from None
        try:
            key = key_from(endpoint.key_env)
        except InputError as error:
            expected = f"a key: that of deployment {name}, as its key_env says"
            raise InputError("environment", str(endpoint.key_env), error.value, expected) from None
        self.address = Address(url, endpoint.model, endpoint.limit_by, None, {}, _NO_LIMIT_S, key=key)
        # Connections belong to the event loop that they were made in.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    async def __call__(self, body: dict[str, Any], streamed: Streamed, within_s: float) -> None:
        """See :data:`Send`."""
        from ttc_sim.collecting.asking import FailedError, ask, client_for

        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = client_for(self.address, _CONNECTIONS)
        try:
            await ask(self._clients[loop], self.address, body, streamed)
        except FailedError as failed:
            reason = _for_endpoints(failed.reason)
            again, status = failed.then == "again", "timed_out" if failed.late else "failed"
            raise refused(status, reason, away=failed.away, again=again, wait_s=failed.wait_s) from None
        except EndlessError:
            raise _endless() from None

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        if (client := self._clients.pop(asyncio.get_running_loop(), None)) is not None:
            await client.aclose()


class ByClient:
    """Calls by a client of OpenAI's kind, synchronous or not.

    Raises:
        InputError: something else.
    """

    def __init__(self, client: Any) -> None:
        create = getattr(getattr(getattr(client, "chat", None), "completions", None), "create", None)
        if not callable(create):
            expected = "a client with chat.completions.create, as openai.OpenAI and AsyncOpenAI have it"
            raise InputError("run", "client", client, expected)
        self._client = client
        self._asynchronous = inspect.iscoroutinefunction(inspect.unwrap(create))

    async def __call__(self, body: dict[str, Any], streamed: Streamed, within_s: float) -> None:
        """See :data:`Send`."""
        client = self._client
        # Calls that it makes again of itself are not counted, and nobody waits for them.
        if callable(getattr(client, "with_options", None)):
            client = client.with_options(max_retries=0, timeout=within_s)
        own = {name: value for name, value in body.items() if name in (*OWN, "stream_options")}
        more = {name: value for name, value in body.items() if name not in own}
        asked = {**own, **({"extra_body": more} if more else {})}
        try:
            if self._asynchronous:
                await _take(await client.chat.completions.create(**asked), streamed)
            else:
                await _in_a_thread(lambda: client.chat.completions.create(**asked), streamed)
        except EndlessError:
            raise _endless() from None
        except ErrorInStreamError as error:
            raise refused("failed", f"an error in the stream: {_shown(error)}", **_AGAIN) from None
        except NonsenseError as error:
            reason = f"it answered {_shown(error)} instead of chat completion chunks"
            raise refused("failed", reason, **_AGAIN) from None
        except NoAnswerError:
            raise
        except Exception as error:  # the client's own, of whatever library it is
            raise _of_client(error) from None
        if streamed.finish_reason is None:
            raise refused("failed", "the stream stopped half-way", **_AGAIN)


_AGAIN: Any = {"away": False, "again": True, "wait_s": None}


def _for_endpoints(reason: str) -> str:
    """What the command that collects would have one do, as a file of endpoints has it."""
    for said, here in _HINTS.items():
        reason = reason.replace(said, here)
    return reason


def _endless() -> NoAnswerError:
    return NoAnswerError("failed", "it goes on far beyond the limit of tokens that it was asked to keep")


def _as_event(chunk: Any) -> str:
    """As the endpoint sent it."""
    try:
        if isinstance(chunk, Mapping):
            return json.dumps(dict(chunk))
        if callable(getattr(chunk, "model_dump_json", None)):
            return str(chunk.model_dump_json(warnings=False))
        return json.dumps(chunk)
    except (TypeError, ValueError, RecursionError):
        raise NonsenseError(repr(type(chunk))) from None


async def _take(stream: Any, streamed: Streamed) -> None:
    try:
        async for chunk in stream:
            streamed.take(_as_event(chunk))
    finally:
        close = getattr(stream, "close", None)
        if callable(close):
            with suppress(Exception):
                closed = close()
                if inspect.isawaitable(closed):
                    await closed


async def _in_a_thread(create: Callable[[], Any], streamed: Streamed) -> None:
    """Read a stream that blocks; a thread that nobody waits for any more ends with the next event, or with the client's timeout."""
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    stopped = threading.Event()

    def tell(kind: str, what: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know
            loop.call_soon_threadsafe(events.put_nowait, (kind, what))

    def read() -> None:
        stream: Any = None
        try:
            stream = create()
            if hasattr(stream, "__aiter__") or inspect.isawaitable(stream):
                late, stream = stream, None  # not to be closed from here
                tell("asynchronous", late)
                return
            for chunk in stream:
                if stopped.is_set():
                    break
                tell("chunk", chunk)
            tell("end", None)
        except BaseException as error:
            tell("error", error)
        finally:
            close = getattr(stream, "close", None)
            if callable(close) and not inspect.iscoroutinefunction(close):
                with suppress(Exception):
                    close()

    threading.Thread(target=read, daemon=True, name="ttc-sim call").start()
    try:
        while True:
            kind, what = await events.get()
            if kind == "end":
                return
            if kind == "error":
                raise what if isinstance(what, Exception) else RuntimeError(type(what).__name__)
            if kind == "asynchronous":
                await _take(await what if inspect.isawaitable(what) else what, streamed)
                return
            streamed.take(_as_event(what))
    finally:
        stopped.set()


def _of_client(error: Exception) -> NoAnswerError:
    from ttc_sim.collecting.asking import refusal

    name, response = type(error).__name__, getattr(error, "response", None)
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        body = getattr(error, "body", None)
        whole = body if isinstance(body, dict) and "error" in body else {"error": body}
        content = json.dumps(whole, default=repr) if isinstance(body, dict) else str(error)
        nowhere = Address("", "", "", None, {}, _NO_LIMIT_S)
        found = refusal(status, dict(getattr(response, "headers", None) or {}), content, nowhere)
        reason = _for_endpoints(found.reason)
        return refused("failed", reason, away=found.away, again=found.then == "again", wait_s=found.wait_s)
    if isinstance(error, TimeoutError) or "Timeout" in name:
        return refused("timed_out", f"the client gave up ({name})", **_AGAIN)
    reason = f"the client failed ({name}: {_shown(error)})"
    return refused("failed", reason, away=False, again=not isinstance(error, (TypeError, ValueError)), wait_s=None)


def _shown(error: object) -> str:
    return repr(plain(cut(" ".join(str(error).split()), 240)))


__all__ = ["OWN", "ByClient", "Direct", "Send", "refused"]
