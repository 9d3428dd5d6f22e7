"""The routing proxy as an ASGI application: chat completions go where the plan sends them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ttc_sim.base.errors import InputError, shortened
from ttc_sim.deploying.carrying import Carrying
from ttc_sim.deploying.decisions import Decision
from ttc_sim.deploying.proxy.answering import Answering, Step
from ttc_sim.deploying.proxy.asked import Asked, read_asked
from ttc_sim.deploying.proxy.calling import client
from ttc_sim.deploying.proxy.figures import figures
from ttc_sim.deploying.proxy.refusals import RefusedError
from ttc_sim.deploying.proxy.replying import Reply
from ttc_sim.deploying.proxy.several import Several, is_one_call
from ttc_sim.deploying.proxy.upstreams import Upstream
from ttc_sim.deploying.runtime import Runtime
from ttc_sim.deploying.sessions import CompactFirstError, SessionEndedError

MOST_BODY = 32_000_000
"""Bytes of a request, pictures included."""
_log = logging.getLogger("ttc_sim")


@dataclass
class Proxy:
    """A plan's runtime, and where its deployments are asked.

    Attributes:
        carrying: carries arms of several calls out; ``None`` where there are none.
        own_key: whether callers' Authorization is passed on to deployments without a key.
        ended: how many requests ended how, by arm and status; started: when the proxy did, in seconds since 1970.
    """

    runtime: Runtime
    upstreams: Mapping[str, Upstream]
    carrying: Carrying | None = None
    own_key: bool = False
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    started: int = field(default_factory=lambda: int(time.time()))
    http: httpx2.AsyncClient | None = None

    def app(self) -> Starlette:
        """The application."""
        routes = [
            Route("/v1/chat/completions", _Completions(self), methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/health", self._health),
            Route("/metrics", self._metrics),
        ]
        return Starlette(routes=routes, lifespan=self._running, exception_handlers={HTTPException: _elsewhere})

    @asynccontextmanager
    async def _running(self, _: Starlette) -> AsyncGenerator[None]:
        async with client() as self.http:
            yield
        if self.carrying is not None:
            await self.carrying.aclose()

    async def answer(self, asked: Asked, reply: Reply) -> None:
        """Answer one request.

        Raises:
            RefusedError: nothing answers it.
        """
        decision = await asyncio.to_thread(self._decide, asked)
        request = self._on_its_way(asked, decision, reply)
        reply.where = lambda: request.where
        try:
            await request.answer()
        finally:
            if request.outcome is not None:
                self.ended[request.outcome.arm, request.outcome.status] += 1

    def _on_its_way(self, asked: Asked, decision: Decision, reply: Reply) -> Answering | Several:
        arms, scenario = (decision.arm, *decision.fallbacks), self.runtime.scenario
        if self.carrying is not None and not all(is_one_call(self.runtime.strategies[arm]) for arm in arms):
            return Several(self.runtime, self.carrying, asked, decision, to=reply)
        assert self.http is not None
        steps = tuple(
            Step(arm, self.upstreams[scenario.arms[arm].deployment], self.runtime.strategies[arm].attempt_cap)
            for arm in arms
        )
        return Answering(self.runtime, self.http, asked, decision, steps, to=reply, own_key=self.own_key)

    def _decide(self, asked: Asked) -> Decision:
        try:
            head = None if asked.session is None else len(asked.head) // 4
            said_of_turn: Any = {"session": asked.session, "summary": asked.summary, "head_tokens": head}
            return self.runtime.route(asked.prompt, source=asked.source, **said_of_turn)
        except CompactFirstError as error:
            said = f"session {shortened(asked.session)} has spent its budget: make its context shorter first, to "
            said += f"{error.to_tokens:,} tokens, by a summary that is asked for with header x-ttc-summary: true"
            raise RefusedError(409, said, code="compact_context") from None
        except SessionEndedError as error:
            said = f"session {shortened(error.value)} has spent its budget, and ends here"
            raise RefusedError(403, said, code="session_ended") from None
        except InputError as error:
            if error.field != "source":
                raise RefusedError(500, f"{error.field}: expected {error.expected}") from None
            got = "none" if error.value is None else shortened(error.value)
            said = f"source: got {got}; expected {error.expected}, as header x-ttc-source or metadata.source"
            raise RefusedError(400, said, param="metadata.source", code="unknown_source") from None

    async def _models(self, _: Request) -> Response:
        name = self.runtime.scenario.name
        model = {"id": name, "object": "model", "created": self.started, "owned_by": "ttc-sim"}
        return JSONResponse({"object": "list", "data": [model]})

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "plan": self.runtime.scenario.name})

    async def _metrics(self, _: Request) -> Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return PlainTextResponse(figures(self.runtime.counts, self.ended), headers={"content-type": kind})


def carrying_for(runtime: Runtime) -> Carrying | None:
    """What carries those of a runtime's arms out that take several calls; ``None`` where there are none.

    Raises:
        InputError: an arm that cannot be carried out where its deployments stand.
    """
    path = runtime.scenario.path_of
    several = [
        name for name in runtime.strategies if not all(is_one_call(runtime.strategies[arm]) for arm in path(name))
    ]
    if not several:
        return None
    return Carrying(runtime.scenario, runtime.endpoints, arms=several, sent=runtime.sent, ended=runtime.ended)


class _Completions:
    """Chat completions, as an application of their own: a caller who leaves is noticed while nothing is sent, too."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = Reply(send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            content = await _body(receive, headers)
        except RefusedError as error:
            await reply.refuse(error)
            return
        if content is None:
            return
        async with anyio.create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope)
            try:
                await self._proxy.answer(read_asked(content, headers), reply)
            except RefusedError as error:
                await reply.refuse(error)
            except Exception as error:
                # Neither its words nor its trace, which may hold parts of the prompt.
                _log.error("a request failed by an error of the proxy's own: %s", type(error).__name__)
                if reply.begun:
                    await reply.part(RefusedError(500, "an error of the proxy's own").event())
                    await reply.end()
                else:
                    await reply.refuse(RefusedError(500, "an error of the proxy's own"))
            group.cancel_scope.cancel()


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _body(receive: Receive, headers: Mapping[str, str]) -> bytes | None:
    """The whole body; ``None`` if the caller leaves before.

    Raises:
        RefusedError: too large, of another kind, or from a web page.
    """
    if "origin" in headers:
        raise RefusedError(
            403, "requests of web pages are refused: they would spend the keys of whoever runs the proxy"
        )
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "expected a body of content type application/json")
    large = RefusedError(413, f"a body of at most {MOST_BODY:,} bytes is taken")
    length = headers.get("content-length", "")
    if length.isdecimal() and len(length) < 20 and int(length) > MOST_BODY:
        raise large
    content = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        content += message.get("body", b"")
        if len(content) > MOST_BODY:
            raise large
        if not message.get("more_body"):
            return bytes(content)


async def _elsewhere(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = "POST /v1/chat/completions, GET /v1/models, /health and /metrics"
    refused = RefusedError(error.status_code, f"{request.method} {request.url.path[:100]} is not here; {known} are")
    headers: Any = error.headers
    return Response(refused.body(), refused.status, headers, "application/json")


__all__ = ["MOST_BODY", "Proxy", "carrying_for"]
