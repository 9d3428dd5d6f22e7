"""What deployments took in of prompts that had been sent before: found in a cache, or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.work import EngineResult
from ttc_sim.scenario import Api
from ttc_sim.serving.prices import TokenPrices
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.offering import Offers
from ttc_sim.simulation.token_times import sums
from ttc_sim.workload import Traffic

_ROUNDING = 1e-12  # relative, of a bill


@dataclass(frozen=True)
class Prompts:
    """Prompts of one run that were taken in; (k,) one for each stage of a request, and one more where attempts of it were lost.

    Attributes:
        request: whose it is; deployment: index of where it was taken in.
        tokens: that were taken in; cached: those of them found in a cache; written: those that an API's cache was made to keep.
        saved_usd: what the cache made the bill of API calls less by: with what writing to it cost, so that it may be below 0.
        cold: tokens that the session had sent or had answered before, and that were not found.
        cold_usd: by how much less the bill of API calls would be, had they been; 0 of an API that has no cache.
        moved: (n,) whether a request is a turn of a session that went to another deployment than the one before it.
    """

    request: I64
    deployment: I64
    tokens: I64
    cached: I64
    written: I64
    saved_usd: F64
    cold: I64
    cold_usd: F64
    moved: np.ndarray[tuple[int], np.dtype[np.bool_]]

    def of_requests(self, values: I64 | F64) -> F64:
        """(n,) sums of something by request."""
        return np.bincount(self.request, weights=values, minlength=len(self.moved)).astype(np.float64)


def prompts_taken_in(model: Model, offers: Offers, traffic: Traffic, result: EngineResult, by: I64) -> Prompts | None:
    """Prompts of a run; ``None`` where no two have anything in common.

    Args:
        offers: what the engine was offered; result: what it made of it.
        by: (n,) the arm that answered each request, or was the last to try.
    """
    if model.population is not None or (traffic.prefix_id is None and traffic.session is None):
        return None
    n = len(by)
    reused = np.zeros(n, dtype=np.int64) if traffic.reused_tokens is None else traffic.reused_tokens
    parts = [
        part
        for index, here in enumerate(offers.taken(result))
        if here.any()
        for part in _of_offer(model, offers, result, index, here, reused)
    ]
    found: list[Any] = [*(np.concatenate(values) for values in zip(*parts, strict=True)), moved(model, traffic, by)]
    return Prompts(*found)


def _of_offer(
    model: Model,
    offers: Offers,
    result: EngineResult,
    index: int,
    here: np.ndarray[tuple[int], np.dtype[np.bool_]],
    reused: I64,
) -> list[tuple[I64 | F64, ...]]:
    """Of the stages of an offer, kept and lost, all that :class:`Prompts` has of each, in its order."""
    carried, attempts = offers.carried[index], result.attempts
    work = carried.work
    owner = np.repeat(np.arange(len(here)), np.diff(work.stage_start))
    nothing, generated = np.zeros(len(owner), dtype=np.int64), result.generated_tokens[index]
    written = result.written_tokens[index] if result.written_tokens else nothing
    hidden = np.minimum(generated, work.reasoning_tokens)
    many = [
        (
            result.prefilled_tokens[index],
            result.cached_tokens[index],
            written,
            generated,
            hidden,
            carried.calls,
            reused[owner],
        )
    ]
    if attempts is not None and (lost := attempts.lost_prefilled[index]).any():
        calls = np.maximum(np.rint(carried.calls * lost / work.prompt_tokens), 1).astype(np.int64)
        written = attempts.lost_written[index] if attempts.lost_written else nothing
        made = attempts.lost_generated[index], attempts.lost_reasoning[index]
        many.append((lost, attempts.lost_cached[index], written, *made, calls, nothing))
    found: list[tuple[I64 | F64, ...]] = []
    for taken_in, cached, kept, output, thought, calls, sent_before in many:
        at = np.flatnonzero(here[owner] & (taken_in > 0))
        tokens, known, of_cache = (values[at].astype(np.int64) for values in (taken_in, cached, kept))
        cold = np.maximum(np.minimum(sent_before[at] * calls[at], tokens) - known, 0)
        thinking, shown = (sums(values, work.sample_start)[at] for values in (thought, output - thought))
        calls_of = _Calls(tokens, thinking, shown, calls[at], result.started_s[owner[at]])
        saved, more = np.zeros(len(at)), np.zeros(len(at))
        for d, prices in enumerate(model.prices):
            of, served = np.flatnonzero(work.deployment[at] == d), model.deployments[d]
            if prices is None or not len(of):
                continue
            usd = calls_of.usd(prices, of, known, of_cache)
            without = calls_of.usd(prices, of, np.zeros_like(known), np.zeros_like(known))
            saved[of] = np.where(np.abs(without - usd) <= _ROUNDING * without, 0.0, without - usd)
            if isinstance(served, Api) and served.cache is not None:  # without one it would be found nowhere
                more[of] = usd - calls_of.usd(prices, of, known + cold, np.maximum(of_cache - cold, 0))
        found.append((owner[at], work.deployment[at], tokens, known, of_cache, saved, cold, more))
    return found


@dataclass(frozen=True)
class _Calls:
    """Tokens of calls, and when they were made, but for what a cache had to do with them."""

    prompt: I64
    thinking: I64
    shown: I64
    calls: I64
    at_s: F64

    def usd(self, prices: TokenPrices, of: I64, cached: I64, written: I64) -> F64:
        """The bill of some of them, had so many tokens been found, and so many been kept."""
        spent = self.prompt[of], cached[of], self.thinking[of], self.shown[of], self.calls[of]
        return np.asarray(prices.cost_usd(*spent, written=written[of], at_s=self.at_s[of]))


def moved(model: Model, traffic: Traffic, by: I64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(n,) whether a request is a turn of a session that went to another deployment than the one before it."""
    before = turn_before(traffic)
    at = np.array([arm.deployment for arm in model.arms], dtype=np.int64)[by]
    return np.asarray((before >= 0) & (at != at[before]))


def turn_before(traffic: Traffic) -> I64:
    """(n,) the turn of its session that a request follows: the one that it waits for, else the one before; -1 of the first.

    >>> from dataclasses import replace
    >>> three = Traffic.of(np.zeros(3), 1.0)
    >>> turn_before(replace(three, session=np.array([0, 1, 0]))).tolist()
    [-1, -1, 0]
    """
    n = len(traffic.arrival_s)
    before = np.full(n, -1, dtype=np.int64)
    if traffic.session is None:
        return before
    session = traffic.session
    order = np.argsort(session, kind="stable")
    alike = (session[order[1:]] == session[order[:-1]]) & (session[order[1:]] >= 0)
    before[order[1:][alike]] = order[:-1][alike]
    if traffic.after is not None:
        waits = traffic.after >= 0
        waits &= session[traffic.after] == session
        before = np.where(waits & (session >= 0), traffic.after, before)
    return before


__all__ = ["Prompts", "prompts_taken_in", "turn_before"]
