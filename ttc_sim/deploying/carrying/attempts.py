"""Attempts at a request side by side: in one call or several, with forced answers, until enough have ended."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ttc_sim.deploying.carrying.counting import Phase
from ttc_sim.deploying.carrying.live import Live
from ttc_sim.deploying.carrying.messages import Messages
from ttc_sim.deploying.carrying.records import NoAnswerError, Purpose, Sample
from ttc_sim.deploying.carrying.streamed import Piece
from ttc_sim.strategies import BudgetForcing, Single

_CONTINUED = {"continue_final_message": True, "add_generation_prompt": False}
_TAG = "</think>"


def forces(of: Single | BudgetForcing) -> bool:
    """Whether it may have to send back what an answer began with."""
    if isinstance(of, BudgetForcing):
        return of.cap is not None or extends(of)
    return of.cap is not None and of.on_cap == "force_answer"


def extends(of: Single | BudgetForcing) -> bool:
    """Whether it may make thinking go on."""
    return isinstance(of, BudgetForcing) and of.min_tokens > 0 and of.extensions > 0


async def make_attempts(
    live: Live,
    name: str,
    n: int,
    of: Single | BudgetForcing,
    enough: Callable[[Sequence[Sample]], Awaitable[bool]] | None = None,
) -> list[Sample]:
    """Attempts on a deployment, in the order that they ended.

    Args:
        enough: looks at those that have ended by then: whether the rest is stopped.

    Raises:
        NoAnswerError: none ended, or time was up before enough had.
    """
    firsts: list[asyncio.Future[Piece | NoAnswerError]] = [asyncio.get_running_loop().create_future() for _ in range(n)]
    together = live.place(name).endpoint.takes_n
    groups = [list(range(n))] if together else [[k] for k in range(n)]
    tokens: dict[int, int] = {}
    feeding: list[asyncio.Task[None]] = []
    number, order = itertools.count(), dict[int, int]()

    async def attempt(k: int) -> Sample:
        if isinstance(of, BudgetForcing) and extends(of):
            made = await _extended(live, name, of)
        else:
            made = await _begun(live, name, of, firsts[k])
        order[k] = next(number)
        return made

    if not extends(of):
        feeding = [asyncio.create_task(_feed(live, name, firsts, group, of.cap, tokens)) for group in groups]
    for feeder in feeding:
        feeder.add_done_callback(lambda over: _pass_on(over, firsts))
    tasks = {asyncio.create_task(attempt(k)): k for k in range(n)}
    waiting, ended, failed = set(tasks), list[tuple[int, Sample]](), list[NoAnswerError]()
    try:
        stop = False
        while waiting and not stop:
            over, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(over, key=lambda one: order.get(tasks[one], n)):
                try:
                    ended.append((tasks[task], task.result()))
                except NoAnswerError as error:
                    if error.status == "timed_out":
                        raise
                    failed.append(error)
                    continue
                if enough is not None and await enough([sample for _, sample in ended]):
                    stop = True
                    break
        live.reached = live.now()
        # Calls all of whose answers have ended still say what those took, whatever is decided; the others stop at once.
        whole = [call for call, group in zip(feeding, groups, strict=False) if all(firsts[k].done() for k in group)]
        _cancel([*tasks, *(call for call in feeding if call not in whole)])
        await asyncio.gather(*whole)
    finally:
        begun: list[asyncio.Task[Any]] = [*tasks, *feeding]
        _cancel(begun)
        await asyncio.gather(*begun, return_exceptions=True)
    if not ended:
        raise failed[-1]
    if failed:
        live.note(f"attempts that failed are not among those that were chosen from: {failed[-1].reason}")
    # What the endpoint counted of an attempt that was a call of its own, beside what was estimated while it came.
    counted = {} if forces(of) else tokens
    return [replace(made, tokens=counted.get(k, made.tokens)) for k, made in ended]


def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for one in tasks:
        one.cancel()


def _pass_on(over: asyncio.Task[None], firsts: Sequence[asyncio.Future[Piece | NoAnswerError]]) -> None:
    """Nobody waits for what an error keeps from coming."""
    error = None if over.cancelled() else over.exception()
    for first in firsts if error is not None else ():
        if not first.done():
            assert error is not None
            first.set_exception(error)


async def _feed(
    live: Live,
    name: str,
    firsts: Sequence[asyncio.Future[Piece | NoAnswerError]],
    group: Sequence[int],
    limit: int | None,
    tokens: dict[int, int],
) -> None:
    """Ask for the first piece of some attempts, in one call as long as the endpoint takes that."""

    def left() -> list[int]:
        return [k for k in group if not firsts[k].done()]

    async def once() -> None:
        asked = left()

        def ends(number: int, piece: Piece) -> None:
            holds = piece.thinking or piece.visible.strip() or not piece.whole
            if holds and not firsts[asked[number]].done():
                firsts[asked[number]].set_result(piece)

        _, call = await live.once(
            name,
            "attempt",
            live.messages,
            n=len(asked),
            limit=limit,
            prompt_tokens=live.prompt_tokens,
            ends=ends,
        )
        if len(left()) == len(asked):
            raise NoAnswerError("failed", "it answered nothing", ("error",))
        if len(asked) == 1:
            tokens[asked[0]] = call.reasoning_tokens + call.visible_tokens

    try:
        await live.tried(name, once)
        if left():
            live.note(f"{name} answered fewer times than it was asked to in one call: takes_n: false asks one by one")
    except NoAnswerError as failed:
        hopeless = failed.status == "failed" and not failed.why
        if not hopeless or len(left()) <= 1:
            for k in left():
                firsts[k].set_result(failed)
        else:
            live.note(f"{name} refused to answer several times in one call: takes_n: false asks one by one")
    if left():
        await asyncio.gather(*(_feed(live, name, firsts, [k], limit, tokens) for k in left()))


async def _begun(
    live: Live, name: str, of: Single | BudgetForcing, first: asyncio.Future[Piece | NoAnswerError]
) -> Sample:
    """An attempt from its first piece on; what a cap ended is answered from there, if it is to be."""
    piece = await first
    if isinstance(piece, NoAnswerError):
        raise piece
    if piece.whole or not forces(of):
        return Sample(piece.visible or None, piece.thinking, sum(piece.tokens), cut_off=not piece.whole)
    if piece.thinking and not piece.visible.strip():
        return await _closed(live, name, piece.thinking, sum(piece.tokens), forced=True)
    # The thinking had ended before, and so the cap is not what ends the answer; without any, all of it was thinking.
    manner = live.manner
    prefix, visible = "", piece.visible
    if piece.thinking:
        prefix = manner.opens + piece.thinking.strip("\n") + manner.closes
    else:
        visible += manner.final
    tokens = sum(piece.tokens)
    rest = await _continued(live, name, prefix + visible, tokens)
    made = Sample(visible + _all_of(rest), piece.thinking, tokens + sum(rest.tokens), cut_off=not rest.whole)
    return replace(made, forced=not piece.thinking)


async def _closed(live: Live, name: str, thinking: str, tokens: int, extended: int = 0, *, forced: bool) -> Sample:
    """The answer to thinking that is over."""
    manner = live.manner
    rest = await _continued(live, name, manner.opens + thinking.strip("\n") + manner.closes, tokens)
    text, made = _all_of(rest), tokens + sum(rest.tokens)
    return Sample(text or None, thinking, made, cut_off=not rest.whole, forced=forced, extended=extended)


async def _extended(live: Live, name: str, of: BudgetForcing) -> Sample:
    """Thinking piece by piece, until there is enough of it or it has gone on as often as it may; then the answer."""
    manner, thinking, used, extended = live.manner, "", 0, 0
    more: dict[str, Any] = {"stop": [_TAG]}
    while True:
        limit = None if of.cap is None else of.cap - used
        if thinking:
            piece = await _continued(live, name, manner.opens + thinking, used, "thinking", limit, more)
        else:
            piece = await _asked(live, name, "attempt", live.messages, live.prompt_tokens, None, limit, more)
        # What comes without a mark before it ended is thinking, whatever the server takes it for.
        visible = piece.visible if piece.thinking else ""
        thinking += (piece.thinking or piece.visible).removesuffix(_TAG)
        used += piece.tokens[0] + (0 if visible.strip() else piece.tokens[1])
        at_cap = not piece.whole or (of.cap is not None and used >= of.cap)
        if at_cap or used >= of.min_tokens or extended == of.extensions:
            break
        thinking, extended = thinking.rstrip("\n") + f"\n{manner.wait}", extended + 1
    if visible.strip() and piece.whole:  # it did not stop where its thinking ended, and need not be asked again
        return Sample(visible, thinking, used + piece.tokens[1], cut_off=False, extended=extended)
    return await _closed(live, name, thinking, used, extended, forced=at_cap)


def _all_of(piece: Piece) -> str:
    """Whatever a server takes the rest of an answer for, it is what the answer goes on with."""
    return piece.thinking + piece.visible


async def _continued(
    live: Live,
    name: str,
    prefix: str,
    tokens: int,
    phase: Phase = "answer",
    limit: int | None = None,
    more: Mapping[str, Any] | None = None,
) -> Piece:
    """What an answer that began so, with so many tokens, goes on with."""
    messages = [*live.messages, {"role": "assistant", "content": prefix}]
    more = {**_CONTINUED, **(more or {})}
    return await _asked(live, name, "continuation", messages, live.prompt_tokens + tokens, phase, limit, more)


async def _asked(
    live: Live,
    name: str,
    purpose: Purpose,
    messages: Messages,
    prompt_tokens: int,
    phase: Phase,
    limit: int | None,
    more: Mapping[str, Any],
) -> Piece:
    """One answer, with its tokens as the endpoint counted them, if it did."""

    async def once() -> Piece:
        streamed, call = await live.once(
            name, purpose, messages, limit=limit, more=more, phase=phase, prompt_tokens=prompt_tokens
        )
        return replace(streamed.piece(0), tokens=(call.reasoning_tokens, call.visible_tokens))

    return await live.tried(name, once)


__all__ = ["extends", "forces", "make_attempts"]
