"""Requests side by side, within the budget, each tried until it is answered or hopeless.

The network has a thread and an event loop of its own. Grading, and whatever else is the user's code, runs in the thread that
called: it may take its time, and Ctrl-C reaches it.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.collecting.answers import Tokens, count_tokens, is_over, tokens_in
from ttc_sim.collecting.asking import FailedError, Timed, ask, client_for
from ttc_sim.collecting.budget import Budget, prompt_bound
from ttc_sim.collecting.endpoints import Endpoint, over_the_cap
from ttc_sim.collecting.journal import Journal
from ttc_sim.collecting.wanted import Attempt

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
MOST_ASKED_WAIT_S = 600.0
"""An endpoint that wants to be left alone for longer, or turns everything away for so long, is asked another day."""
_MOST_LATE = 2  # tries of one attempt that take too long: a third would too
_MOST_IN_A_ROW = 10  # attempts that fail for good, without an answer between them: something is wrong with the endpoint
_LOOK_S = 0.05
MOST_SEED = 2**31 - 1
"""What endpoints take."""


@dataclass(frozen=True)
class Pace:
    """How hard to try: requests at once, and further tries of one that fails."""

    concurrency: int
    retries: int


class Run:
    """One run over attempts that are still wanted.

    Attributes:
        answered: lines of the journal, as they come.
        failures: reasons of attempts that failed for good, and how many each.
        in_flight: requests on their way; tries: requests sent.
        stopping: whether nothing more is sent; short: whether the budget is why.
    """

    def __init__(
        self,
        attempts: Sequence[Attempt],
        endpoint: Endpoint,
        journal: Journal,
        budget: Budget,
        pace: Pace,
        seed: int | None,
        tokenizer: Callable[[str], int] | None,
        keep_answers: bool,
    ) -> None:
        self._todo: Iterator[Attempt] = iter(attempts)
        self._endpoint, self._journal, self._budget, self._pace = endpoint, journal, budget, pace
        self._seed, self._tokenizer, self._keep = seed, tokenizer, keep_answers
        self.answered: queue.SimpleQueue[tuple[Attempt, dict[str, Any]]] = queue.SimpleQueue()
        self.failures: Counter[str] = Counter()
        self.in_flight = self.tries = self._in_a_row = 0
        self._beyond = 0  # tokens that prompts turned out to have beyond what they were taken to have at the most
        self.short = self._reached = self.stopping = False
        self.error: InputError | None = None
        self._heard = time.monotonic()  # when the last answer was there
        self._not_before = 0.0  # time.monotonic(), for all: what the endpoint asked one to wait
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        """Carry it out, in a thread without an event loop."""
        asyncio.run(self._all())

    def stop(self) -> None:
        """Send nothing more; what is on its way is waited for. From any thread."""
        self.stopping = True

    def leave(self) -> None:
        """Do not wait for what is on its way either. From any thread."""
        self.stopping = True
        loop, task = self._loop, self._task
        if loop is not None and task is not None and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)

    async def _all(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        async with client_for(self._endpoint, self._pace.concurrency) as client, asyncio.TaskGroup() as group:
            for _ in range(self._pace.concurrency):
                group.create_task(self._worker(client))

    async def _worker(self, client: httpx2.AsyncClient) -> None:
        while not self.stopping and (attempt := next(self._todo, None)) is not None:
            try:
                await self._attempt(client, attempt)
            except InputError as error:  # the journal cannot be written, or the like
                self._end(error)

    def _end(self, error: InputError) -> None:
        self.error = self.error or error
        self.stopping = True

    async def _attempt(self, client: httpx2.AsyncClient, attempt: Attempt) -> None:
        failures = late = tries = 0
        while True:
            tries += 1
            try:
                await self._try(client, attempt, tries)
                return
            except FailedError as failed:
                # Where nothing was ever answered, what fails is the endpoint or how it is asked.
                if failed.then == "stop" or (not self._reached and (failed.then == "never" or failed.unlike)):
                    self._end(self._said(failed.reason))
                    return
                if failed.wait_s is not None and failed.wait_s > MOST_ASKED_WAIT_S:
                    self._end(self._said(f"{failed.reason}, and asks to wait {failed.wait_s:,.0f} s"))
                    return
                if failed.away:  # it has not failed: it is not its turn yet
                    if time.monotonic() - self._heard > MOST_ASKED_WAIT_S:
                        self._end(self._said(f"{failed.reason}, for {MOST_ASKED_WAIT_S:,.0f} s"))
                        return
                else:
                    failures, late = failures + 1, late + failed.late
                    if failed.then == "never" or failures > self._pace.retries or late == _MOST_LATE:
                        self._give_up(failed)
                        return
                await self._wait(attempt, tries - 1, failed.wait_s)

    def _said(self, reason: str) -> InputError:
        expected = "an OpenAI-compatible endpoint that streams chat completions, as --endpoint http://HOST/v1"
        return InputError(self._endpoint.url, "endpoint", reason, expected)

    def _give_up(self, failed: FailedError) -> None:
        self.failures[failed.reason] += 1
        self._in_a_row += 1
        if self._in_a_row >= _MOST_IN_A_ROW:
            self._end(self._said(f"{failed.reason} ({self._in_a_row} attempts failed in a row)"))

    async def _wait(self, attempt: Attempt, number: int, asked_s: float | None) -> None:
        """Longer each time, and not as long as others that failed at the same moment."""
        problem, cap, sample = attempt.key
        stream = f"collect/wait/{problem}/{cap}/{sample}"
        jitter = 0.5 + float(uniforms(self._seed or 0, stream, 1, start=number)[0, 0])
        wait_s = min(FIRST_WAIT_S * 2 ** min(number, 20), LONGEST_WAIT_S) * jitter
        if asked_s is not None:
            self._not_before = max(self._not_before, time.monotonic() + asked_s)
            wait_s = asked_s + min(wait_s, 0.1 * asked_s + 0.05)
        until = time.monotonic() + wait_s
        while time.monotonic() < until and not self.stopping:
            await asyncio.sleep(_LOOK_S)

    async def _try(self, client: httpx2.AsyncClient, attempt: Attempt, number: int) -> None:
        """Send one request, once the budget and the endpoint allow it; none where the run stops before.

        Raises:
            FailedError: it left no answer.
        """
        bound = prompt_bound(attempt.prompt.text, self._endpoint.system) + self._beyond
        worst = self._budget.worst_usd(bound, attempt.cap)
        while not self.stopping and (time.monotonic() < self._not_before or not self._budget.fits(worst)):
            if not self.in_flight and not self._budget.fits(worst):
                self.short = self.stopping = True
            await asyncio.sleep(_LOOK_S)
        if self.stopping:
            return
        self._budget.reserve(worst)
        self.in_flight += 1
        spent, maybe = 0.0, worst
        try:
            await asyncio.to_thread(self._journal.write, {"sent": attempt.key, "prompt_bound": bound})
            self.tries += 1
            try:
                timed = await ask(client, self._endpoint, self._body(attempt))
            except FailedError as failed:
                maybe = worst if failed.billed else 0.0
                line = {"failed": attempt.key, "billed": failed.billed, "why": failed.reason}
                await asyncio.to_thread(self._journal.write, line)
                raise
            line = self._line(attempt, timed, number)
            await asyncio.to_thread(self._journal.write, line)
            self._reached, self._in_a_row, self._heard = True, 0, time.monotonic()
            tokens = tokens_in(line)
            if tokens is not None:
                spent = self._budget.cost_usd(tokens)
                # What was counted here is not what the endpoint counts.
                maybe = 0.0 if line["usage"] else max(worst - spent, 0.0)
                self._beyond += max(tokens.prompt - bound, 0)
            self.answered.put((attempt, line))
            self._check(attempt, tokens)
        finally:
            self.in_flight -= 1
            self._budget.release(worst, spent=spent, maybe=maybe)

    def _body(self, attempt: Attempt) -> dict[str, Any]:
        seed = None
        if self._seed is not None:
            # The same for each cap: what a cap cuts off is the same answer.
            u = uniforms(self._seed, f"collect/{attempt.prompt.problem}", 1, start=attempt.number)[0, 0]
            seed = int(u * MOST_SEED)
        return self._endpoint.request(attempt.prompt.text, attempt.cap, seed)

    def _line(self, attempt: Attempt, timed: Timed, tries: int) -> dict[str, Any]:
        answer = timed.answer
        thinking, visible, tagged = answer.parts(starts_thinking=self._endpoint.starts_thinking)
        prompt = attempt.prompt.text + (self._endpoint.system or "")
        tokens = count_tokens(answer.usage, thinking, visible, prompt, self._tokenizer)
        line: dict[str, Any] = {
            "done": attempt.key,
            "prompt": attempt.prompt.digest,
            "finish_reason": answer.finish_reason,
            "served_model": answer.served_model,
            "first_token_s": timed.first_token_s,
            "first_visible_s": timed.first_visible_s,
            "latency_s": timed.latency_s,
            "started_at": timed.started_at.isoformat(timespec="milliseconds"),
            "tries": tries,
            "usage": answer.usage is not None,
            "prompt_bound": prompt_bound(attempt.prompt.text, self._endpoint.system),
            "counted": None if tokens is None else tokens.counted + ("; thinking told by </think>" if tagged else ""),
            "text": visible,
        }
        if tokens is not None:
            counts = {"prompt": tokens.prompt, "cached": tokens.cached, "reasoning": tokens.reasoning}
            line |= {f"{name}_tokens": count for name, count in {**counts, "visible": tokens.visible}.items()}
        if self._keep or tokens is None:
            line["reasoning_text"] = thinking
        return line

    def _check(self, attempt: Attempt, tokens: Tokens | None) -> None:
        """End where going on would measure nothing, or break the budget."""
        if tokens is None:
            expected = "usage at the end of the stream (stream_options.include_usage); or --tokenizer TOKENIZER.json, which counts"
            self._end(InputError(self._endpoint.url, "usage", "none with its answer", expected))
        elif is_over(tokens, attempt.cap):
            self._end(over_the_cap(self._endpoint, tokens, attempt.cap))
        elif self._budget.limit_usd is not None and is_over(
            tokens, self._budget.most_output if attempt.cap is None else None
        ):
            got = f"an answer of {tokens.reasoning + tokens.visible:,} tokens"
            expected = f"at most {self._budget.most_output:,}: a larger --endpoint-limit-tokens"
            self._end(InputError(self._endpoint.url, "--endpoint-limit-tokens", got, expected))


__all__ = ["Pace", "Run"]
