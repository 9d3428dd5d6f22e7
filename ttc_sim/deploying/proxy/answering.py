"""A request to an arm of one call: asked for as patiently as the plan's scenario says, and passed on as it comes."""

from __future__ import annotations

import asyncio
import datetime
import math
import time
from dataclasses import dataclass, field
from itertools import count

import httpx2

from ttc_sim.base.draws import uniforms
from ttc_sim.deploying.carrying import Manner
from ttc_sim.deploying.carrying.streamed import ESTIMATED
from ttc_sim.deploying.decisions import Decision, Outcome
from ttc_sim.deploying.proxy.asked import Asked
from ttc_sim.deploying.proxy.calling import Call, Receiver, UnansweredError, call, new_call
from ttc_sim.deploying.proxy.replying import Where
from ttc_sim.deploying.proxy.upstreams import Upstream
from ttc_sim.deploying.runtime import Runtime
from ttc_sim.serving.api_limits import backoff_s

_STATUS = {"busy": "rejected", "timeout": "timed_out"}


@dataclass(frozen=True)
class Step:
    """An arm that a request may go to: who serves it, and its cap."""

    arm: str
    upstream: Upstream
    cap: int | None


@dataclass
class Answering:
    """One request on its way.

    Attributes:
        steps: arms that it goes to, one after another where the one before does not answer.
        own_key: whether the caller's Authorization goes along where a deployment has no key.
        at: arm that it is with now; before: why those before it left it, a line each.
        calls: sent so far; outcome: what became of it, once it has ended.
    """

    runtime: Runtime
    http: httpx2.AsyncClient
    asked: Asked
    decision: Decision
    steps: tuple[Step, ...]
    to: Receiver
    own_key: bool
    began: float = field(default_factory=time.perf_counter)
    before: list[str] = field(default_factory=list)
    calls: list[tuple[Step, Call]] = field(default_factory=list)
    at: Step = field(init=False)
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        self.at = self.steps[0]

    async def answer(self) -> None:
        """Answer it, and log what became of it.

        Raises:
            RefusedError: nothing did, and nothing was passed on yet. Later, the stream ends with an event that says so.
        """
        status = "failed"
        try:
            await self._steps()
            status = "answered"
        except UnansweredError as error:
            status = _STATUS.get(error.why, status)
            if not self.to.begun:
                raise error.refusal() from None
            await self.to.part(error.refusal().event())
            await self.to.end()
        except asyncio.CancelledError:
            # Whoever asked waits no longer, which is what a timeout is in a simulation too.
            status = "answered" if self._whole else "timed_out"
            raise
        finally:
            self.outcome = self._outcome(status)
            self.runtime.log(self.outcome.as_line())
            self.runtime.answered(self.decision, self.outcome.output_tokens)

    @property
    def _whole(self) -> bool:
        return bool(self.calls) and self.calls[-1][1].whole

    async def _steps(self) -> None:
        for step in self.steps:
            self.at = step
            try:
                await self._patiently(step)
                return
            except UnansweredError as error:
                late = error.for_good or time.perf_counter() >= self._deadline(step)
                if step is self.steps[-1] or error.why == "refused" or late or self.to.begun:
                    raise
                self.before.append(error.reason)

    def _deadline(self, step: Step) -> float:
        return self.began + (math.inf if step.upstream.deadline_s is None else step.upstream.deadline_s)

    async def _patiently(self, step: Step) -> None:
        """Ask one deployment, again and again as its scenario says."""
        upstream, retry = step.upstream, step.upstream.retry
        timeout_s = upstream.timeout_s
        if timeout_s is None:
            timeout_s = math.inf if upstream.deadline_s is not None else Manner().total_s
        each = "timeout" in retry.reasons  # the time is that of each attempt then
        over = min(self._deadline(step), math.inf if each else time.perf_counter() + timeout_s)
        for number in count():
            try:
                await self._once(step, min(over, time.perf_counter() + timeout_s))
                return
            except UnansweredError as error:
                reason = upstream.busy if error.why == "busy" else error.why
                if self.to.begun or number >= retry.retries or reason not in retry.reasons:
                    raise
                u = float(uniforms(0, f"serve/{self.decision.request}", 1, start=number)[0, 0])
                wait_s = max(backoff_s(retry, number, u), error.wait_s or 0.0)
                if time.perf_counter() + wait_s >= over:  # a simulation's client waits until its time is up
                    raise error.without_time(for_good=over == self._deadline(step)) from None
                await asyncio.sleep(wait_s)

    async def _once(self, step: Step, until: float) -> None:
        made, deployment = new_call(self.asked), step.upstream.deployment
        if until <= made.sent:
            raise UnansweredError("timeout", f"{deployment}: no time is left")
        self.calls.append((step, made))
        sequences = self.asked.answers if step.upstream.prices is None else 1  # each has a place in a pool's batch
        self.runtime.sent(deployment, sequences)
        try:
            async with asyncio.timeout(until - made.sent):
                await call(self.http, step.upstream, self.asked, step.cap, self.to, made, self.own_key)
        except TimeoutError:
            if not made.whole:
                made.stopped = True
                raise UnansweredError(
                    "timeout", f"{deployment}: no whole answer in the time that the plan gives it"
                ) from None
        except asyncio.CancelledError:
            made.stopped = not made.whole
            raise
        finally:
            self.runtime.ended(deployment, sequences)

    @property
    def where(self) -> Where:
        """Where it is answered."""
        why = "; ".join((self.decision.why, *self.before))
        return Where(self.at.arm, self.at.upstream.deployment, self.decision.request, why)

    def _outcome(self, status: str) -> Outcome:
        ended = self.calls[-1][1].ended if self.calls else None
        ended = time.perf_counter() if ended is None else ended
        sent = self.calls[0][1].sent if self.calls else ended
        first = next((made.first_token for _, made in self.calls if made.first_token is not None), None)
        billed = [
            (tokens, step.upstream.prices)
            for step, made in self.calls
            if (tokens := made.tokens(self.decision.prompt_tokens)) is not None
        ]
        counted = [tokens for tokens, _ in billed]
        return Outcome(
            request=self.decision.request,
            at=datetime.datetime.now(datetime.UTC),
            arm=self.at.arm,
            status=status,
            latency_s=ended - sent,
            first_token_s=None if first is None else first - sent,
            calls=len(self.calls),
            prompt_tokens=sum(one.prompt for one in counted),
            cached_tokens=sum(one.cached for one in counted),
            reasoning_tokens=sum(one.reasoning for one in counted),
            visible_tokens=sum(one.visible for one in counted),
            usd=float(
                sum(
                    prices.now.cost_usd(one.prompt, one.cached, one.reasoning, one.visible)
                    for one, prices in billed
                    if prices is not None
                )
            ),
            estimated=any(one.counted == ESTIMATED for one in counted),
        )


__all__ = ["Answering", "Step"]
