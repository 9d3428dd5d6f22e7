"""One live request under way: its calls, with the limits of time, retries and prices that the plan's deployments have.

What times count from, when a call is made again and when not any more is what it is in simulations
(:mod:`ttc_sim.engine.reference`, docs/errors-and-retries.md).
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import cut
from ttc_sim.base.plain import plain
from ttc_sim.collecting.answers import Tokens
from ttc_sim.deploying.carrying.counting import Counting, Phase
from ttc_sim.deploying.carrying.manner import Manner
from ttc_sim.deploying.carrying.messages import Messages
from ttc_sim.deploying.carrying.records import Call, NoAnswerError, Purpose
from ttc_sim.deploying.carrying.streamed import Piece, Streamed
from ttc_sim.deploying.carrying.transports import Send
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.serving.api_limits import backoff_s
from ttc_sim.serving.prices import TokenPrices

LINGER_S = 2.0
"""That usage is waited for once the answer is there."""
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A deployment of the plan, where it stands, and what its tokens cost: nothing by the token at a pool."""

    name: str
    item: Api | GpuPool
    endpoint: Endpoint
    prices: TokenPrices | None
    send: Send


class Live:
    """A request.

    Args:
        request: its name; messages: of it; prompt_tokens: that they are taken to have.
        place: gives a deployment by its name.
        sent, ended: told of a deployment when a sequence is sent there, and when it is over.

    Attributes:
        arm: that it is at, ``begun`` when it came there; reached: when what was wanted last was there (all on the loop's clock).
        calls: that are over; notes: a sentence each.
        at: deployment that was asked last.
        wanted, most: further keys, and the limit, of the calls that attempts are made of, as whoever asked wants them.
    """

    def __init__(
        self,
        request: str,
        messages: Messages,
        prompt_tokens: int,
        place: Callable[[str], Place],
        manner: Manner,
        sent: Callable[[str], object] | None,
        ended: Callable[[str], object] | None,
    ) -> None:
        self.request, self.messages, self.prompt_tokens = request, messages, prompt_tokens
        self.place, self.manner = place, manner
        self._sent, self._ended = sent, ended
        self._loop = asyncio.get_running_loop()
        self.arrived = self.begun = self.reached = self._loop.time()
        self.first_sent: float | None = None
        self.arm = ""
        self.at: Place | None = None
        self.calls: list[Call] = []
        self.notes: dict[str, None] = {}
        self.wanted: Mapping[str, Any] = {}
        self.most: int | None = None
        self._draws = 0
        self._counting = Counting(self.note)

    def now(self) -> float:
        """Of the loop's clock."""
        return self._loop.time()

    def begin(self, arm: str) -> None:
        """An arm gets it."""
        self.arm, self.begun = arm, self.now()

    def note(self, said: str) -> None:
        """Once each."""
        self.notes[said] = None

    def draw(self, stream: str) -> float:
        """A uniform number of its own."""
        self._draws += 1
        return float(uniforms(0, f"carrying/{self.request}/{stream}", 1, start=self._draws)[0, 0])

    # ------------------------------------------------------------------------------------------------------- time

    def deadline(self, item: Api | GpuPool) -> float:
        """When its client gives up for good."""
        return math.inf if item.deadline_s is None else self.arrived + item.deadline_s

    def gives_up_at(self, item: Api | GpuPool) -> float:
        """When its client gives up an attempt that is made now."""
        last = self.deadline(item)
        if item.timeout_s is None:
            return self.begun + self.manner.total_s if last == math.inf else last
        each = item.retry is not None and "timeout" in item.retry.reasons
        return min((self.now() if each else self.begun) + item.timeout_s, last)

    async def tried(self, name: str, once: Callable[[], Awaitable[T]]) -> T:
        """Ask, again and again as the deployment's ``retry`` has it.

        Raises:
            NoAnswerError: there is none, for good.
        """
        attempt = 0
        while True:
            try:
                return await once()
            except NoAnswerError as failed:
                await asyncio.sleep(self._wait_s(self.place(name).item, failed, attempt))
                attempt += 1

    def _wait_s(self, item: Api | GpuPool, failed: NoAnswerError, attempt: int) -> float:
        retry, now, last = item.retry, self.now(), self.deadline(item)
        if retry is None or attempt >= retry.retries or not set(failed.why) & set(retry.reasons):
            raise failed
        if failed.status == "timed_out" and last <= now:
            raise failed
        if item.timeout_s is not None and "timeout" not in retry.reasons:
            last = min(last, self.begun + item.timeout_s)
        elif item.timeout_s is None and last == math.inf:
            last = self.begun + self.manner.total_s
        wait_s = max(backoff_s(retry, attempt, self.draw("backoff")), failed.wait_s or 0.0)
        if now + wait_s >= last:  # a simulation's client waits until its time is up
            said = f"{failed.reason}; there is no time to ask again"
            raise NoAnswerError("timed_out", said, for_good=last == self.deadline(item))
        return wait_s

    # ------------------------------------------------------------------------------------------------------ calls

    async def once(
        self,
        name: str,
        purpose: Purpose,
        messages: Messages,
        *,
        n: int = 1,
        limit: int | None = None,
        more: Mapping[str, Any] | None = None,
        phase: Phase = None,
        prompt_tokens: int | None = None,
        ends: Callable[[int, Piece], None] = lambda _number, _piece: None,
    ) -> tuple[Streamed, Call]:
        """One call: what came of it, and its figures.

        Args:
            n: answers; limit: most tokens of each; more: keys of the body.
            phase: that all of its output belongs to, if it is one alone.
            prompt_tokens: that its messages are taken to have; about four characters each if left out.
            ends: told of each answer that ends, by its number.

        Raises:
            NoAnswerError: not all of its answers came to an end.
        """
        place = self.at = self.place(name)
        wanted: Mapping[str, Any] = {}
        if purpose in ("attempt", "continuation"):
            wanted = self.wanted
            limit = min((one for one in (limit, self.most) if one is not None), default=None)
        last, started = self.gives_up_at(place.item), self.now()
        if last <= started:
            raise NoAnswerError("timed_out", "no time is left")
        limited = place.item.timeout_s is not None or place.item.deadline_s is not None
        first: float | None = None
        done: float | None = None

        def heard(text: bool) -> None:
            nonlocal first, done
            if first is None and text:
                first = self.now()
            until = None
            if done is None and not streamed.missing:
                done = self.now()
                until = min(last, done + LINGER_S)
            elif timeout.when() != last and done is None:
                until = last
            if until is not None:
                with suppress(RuntimeError):  # it is over already
                    timeout.reschedule(until)

        streamed = Streamed(n, limit, ends, heard)
        body = self._body(place.endpoint, messages, n, limit, wanted, more or {})
        sequences = n if isinstance(place.item, GpuPool) else 1
        status, reason = "stopped", None
        self._tell(self._sent, name, sequences)
        self.first_sent = started if self.first_sent is None else self.first_sent
        timeout = asyncio.timeout_at(last if limited else min(last, started + self.manner.first_s))
        try:
            try:
                async with timeout:
                    await place.send(body, streamed, last - started)
            except TimeoutError:
                if done is None:
                    took = f"within {self.now() - started:.3g} s"
                    said = "no whole answer" if streamed.began else "not a sign of an answer"
                    raise NoAnswerError("timed_out", f"{said} {took}", ("timeout",)) from None
            except NoAnswerError:
                if done is None:  # what breaks once all is there breaks nothing
                    raise
            if phase != "thinking" and streamed.is_empty:
                raise NoAnswerError("failed", "it answered nothing", ("error",))
            status = "answered"
        except NoAnswerError as failed:
            status, reason = failed.status, failed.reason
            raise
        finally:
            self._tell(self._ended, name, sequences)
            took_s = (done or self.now()) - started
            tokens = self._counting.tokens(streamed, status, name, messages, prompt_tokens, took_s, phase)
            call = self._recorded(place, purpose, status, reason, n, tokens, started, first, done or self.now())
            if status in ("stopped", "timed_out") and isinstance(place.item, Api) and place.item.on_timeout == "finish":
                self.note(f"{name} may bill calls that were ended here to their end (on_timeout: finish)")
        self.reached = max(self.reached, done or self.now())
        return streamed, call

    def _body(
        self,
        endpoint: Endpoint,
        messages: Messages,
        n: int,
        limit: int | None,
        wanted: Mapping[str, Any],
        more: Mapping[str, Any],
    ) -> dict[str, Any]:
        asked = {"stream_options": {"include_usage": True}, **wanted, **endpoint.body, **more}
        asked |= {"model": endpoint.model, "messages": [dict(one) for one in messages], "stream": True}
        if asked["stream_options"] is None:
            del asked["stream_options"]
        if n > 1:
            asked["n"] = n
        if limit is not None:
            asked[endpoint.limit_by] = limit
        return asked

    def _recorded(
        self,
        place: Place,
        purpose: Purpose,
        status: Any,
        reason: str | None,
        n: int,
        tokens: Tokens,
        started: float,
        first: float | None,
        ended: float,
    ) -> Call:
        counts = tokens.prompt, tokens.cached, tokens.reasoning, tokens.visible
        call = Call(
            self.arm,
            place.name,
            purpose,
            status,
            None if reason is None else cut(reason, 400),
            n,
            *counts,
            usd=0.0 if place.prices is None else float(place.prices.now.cost_usd(*counts)),
            counted=tokens.counted,
            sent_s=started - self.arrived,
            first_token_s=None if first is None else first - self.arrived,
            ended_s=ended - self.arrived,
        )
        self.calls.append(call)
        return call

    def _tell(self, whom: Callable[[str], object] | None, name: str, times: int) -> None:
        for _ in range(times if whom is not None else 0):
            assert whom is not None
            whom(name)

    # ------------------------------------------------------------------------------------------- the user's functions

    async def users(self, field: str, function: Callable[..., Any], *given: Any) -> Any:
        """What a function of the user's returns; it may take its time, but no more than the request has.

        Raises:
            NoAnswerError: it failed, or took too long.
        """
        if str(getattr(function, "__module__", "")).startswith("ttc_sim."):
            return function(*given)
        last = self.begun + self.manner.total_s if self.at is None else self.gives_up_at(self.at.item)
        timeout = asyncio.timeout_at(last)
        try:
            async with timeout:
                if inspect.iscoroutinefunction(function):
                    return await function(*given)
                made = await asyncio.to_thread(function, *given)
                return await made if inspect.isawaitable(made) else made
        except Exception as error:
            if timeout.expired():
                raise NoAnswerError("timed_out", f"{field} took too long") from None
            what = plain(cut(" ".join(str(error).split()), 240))
            raise NoAnswerError("failed", f"{field} failed ({type(error).__name__}: {what})") from None


__all__ = ["LINGER_S", "Live", "Place"]
