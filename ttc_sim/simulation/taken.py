"""What requests took of the deployments: tokens, API calls' US dollars, and seconds of GPU pools' replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.work import COMPLETED, FAILED, EngineResult, Work, prefill_busy_s, tokens_when_answered
from ttc_sim.scenario import Api, GpuPool, has_fixed_cost
from ttc_sim.serving.prices import TokenPrices
from ttc_sim.serving.step_time import StepTable, decode_seconds, prefill_seconds
from ttc_sim.simulation.carrying import Carried
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.offering import Offers
from ttc_sim.simulation.outside import Reached
from ttc_sim.simulation.pool_seconds import typical_batch
from ttc_sim.simulation.token_times import greatest, outlasts_its_client, sums, tokens_in_a_row
from ttc_sim.strategies.outcomes.trial import DEFAULT_FORCED


@dataclass(frozen=True)
class AtArm:
    """What waits of each of ``n`` requests at an arm are judged by.

    Attributes:
        first: (n,) deployment of its first stage.
        delayed: (n,) deployment that a delay is put down to: where it stopped or, if it was answered, the endpoint that refused its
            calls, else the pool that it takes longest on.
        alone_s: (n,) seconds that it would take on idle servers.
        longest_tokens: (n,) of its longest sequence, prompt and output together; asked_tokens: of its largest stage, all samples;
            asked_input, asked_output: the most of either part in any stage.
    """

    first: I64
    delayed: I64
    alone_s: F64
    longest_tokens: I64
    asked_tokens: I64
    asked_input: I64
    asked_output: I64

    @classmethod
    def of(cls, n: int) -> AtArm:
        """To be filled in."""
        first, delayed, *tokens = (np.zeros(n, dtype=np.int64) for _ in range(6))
        return cls(first, delayed, np.zeros(n), *tokens)


@dataclass(frozen=True)
class Taken:
    """Of each of ``n`` requests; ``D`` deployments.

    Attributes:
        tokens: (3, n) prompt tokens taken in, reasoning and visible tokens generated; planned_tokens: the same, had it run to its
            end.
        api_cost_usd: (n,) bill of API calls; planned_api_cost_usd: likewise.
        api_usd: (D, n) that bill by deployment.
        cached_tokens: (n,) prompt tokens of API calls that were found in a cache; written_tokens: (n,) those that one was made to
            keep; cache_saved_usd: (n,) by how much less they cost than as if they were neither, below 0 where they cost more.
        api_output_usd: (3, n) part of it for reasoning tokens, part of that for those after the answer stood, and part of it for
            visible tokens.
        pool_s: (D, n) seconds of a replica that it took, as it shared it with others: a prompt's tokens as they were taken in, but
            for those found in the prefix cache, and each generated token's part of an iteration at the pool's typical batch.
        pool_output_s: (3, D, n) parts of them, as for API calls.
        fee_tokens: (D, n) tokens of endpoints with a fixed fee, prompt and output, lost ones too; 0 elsewhere. fee_output_tokens:
            (3, D, n) parts of them, as for API calls; fee_lost_tokens: (D, n) those that were lost.
        sent: (D, n) whether a stage of it belongs there.
        at_first, at_last: at the arm that it was sent to, and at the last one that tried, which is the same without fallbacks.
        in_a_row: (n,) output tokens that came one after another; outlasts: (n,) whether calls of it run on when its client gives up
            (:mod:`ttc_sim.simulation.token_times`).
        lost_tokens: (n,) of attempts that broke or were made again, and of arms that a fallback came after, prompt and output.
        lost_usd: (n,) their part of the bill of API calls; lost_pool_s: (D, n) their part of ``pool_s``.
        correct: (n,) whether it is right in the end; NaN where that is unknown. planned_correct: the same, had the arm that it was
            sent to answered, or would have been sent to but for a budget.
        cut_off: (n,) whether a cap ends it before it is whole; NaN where accuracy is known.
        reached: by deployment, how far the run went on a pool.
    """

    tokens: I64
    planned_tokens: I64
    api_cost_usd: F64
    planned_api_cost_usd: F64
    api_usd: F64
    cached_tokens: I64
    written_tokens: I64
    cache_saved_usd: F64
    api_output_usd: F64
    pool_s: F64
    pool_output_s: F64
    fee_tokens: F64
    fee_output_tokens: F64
    fee_lost_tokens: F64
    sent: NDArray[np.bool_]
    at_first: AtArm
    at_last: AtArm
    in_a_row: I64
    outlasts: NDArray[np.bool_]
    lost_tokens: I64
    lost_usd: F64
    lost_pool_s: F64
    correct: F64
    planned_correct: F64
    cut_off: F64
    reached: dict[int, Reached] = field(default_factory=dict)


def what_was_taken(model: Model, offers: Offers, result: EngineResult) -> Taken:
    """Add up what each request took of all that it was offered.

    What was planned for it is what the first would have come to; what it is in the end, the last.
    """
    n, count = len(result.arm), len(model.deployments)
    taken = Taken(
        tokens=np.zeros((3, n), dtype=np.int64),
        planned_tokens=np.zeros((3, n), dtype=np.int64),
        api_cost_usd=np.zeros(n),
        planned_api_cost_usd=np.zeros(n),
        api_usd=np.zeros((count, n)),
        cached_tokens=np.zeros(n, dtype=np.int64),
        written_tokens=np.zeros(n, dtype=np.int64),
        cache_saved_usd=np.zeros(n),
        api_output_usd=np.zeros((3, n)),
        pool_s=np.zeros((count, n)),
        pool_output_s=np.zeros((3, count, n)),
        fee_tokens=np.zeros((count, n)),
        fee_output_tokens=np.zeros((3, count, n)),
        fee_lost_tokens=np.zeros((count, n)),
        sent=np.zeros((count, n), dtype=np.bool_),
        at_first=AtArm.of(n),
        at_last=AtArm.of(n),
        in_a_row=np.zeros(n, dtype=np.int64),
        outlasts=np.zeros(n, dtype=np.bool_),
        lost_tokens=np.zeros(n, dtype=np.int64),
        lost_usd=np.zeros(n),
        lost_pool_s=np.zeros((count, n)),
        correct=np.full(n, np.nan),
        planned_correct=np.full(n, np.nan),
        cut_off=np.full(n, np.nan),
    )
    on_pools: list[list[_OnPool]] = [[] for _ in range(count)]
    first = result.arm if result.attempts is None else result.attempts.first
    chosen, spending = offers.chosen(result), result.spending
    sent = np.ones(n, dtype=np.bool_) if spending is None else ~np.isnan(spending.sent_s)
    for index, (offer, here) in enumerate(zip(offers.carried, offers.taken(result), strict=True)):
        planned = chosen == index
        if here.any() or planned.any():
            which = _Which(here, (first == index) & here, (result.arm == index) & here, planned, sent & here)
            _add(model, taken, offer, which, index, result, on_pools)
            if result.attempts is not None:
                _add_lost(model, taken, offer, which, index, result, on_pools)
    for d, parts in enumerate(on_pools):
        table, pool = model.step_tables[d], model.deployments[d]
        if parts and table is not None and isinstance(pool, GpuPool):
            prompt, cached, output = (
                np.concatenate([getattr(part, name) for part in parts]) for name in ("prompt", "cached", "output")
            )
            ranks = pool.data_parallel
            busy_s = float(result.busy_s[d]) - (0.0 if table.apart is None else prefill_busy_s(result, d))
            batch = typical_batch(pool, table, prompt, cached, output, ranks * busy_s)
            longest = max((float(np.max(part.context + part.output, initial=0.0)) for part in parts), default=0.0)
            taken.reached[d] = Reached(batch, int(longest))
            for part in parts:
                _share(taken, d, part, table, batch, ranks)
    return taken


@dataclass(frozen=True)
class _OnPool:
    """Stages on one pool: prompt tokens taken in, those cached, and their requests; then likewise their samples, with the prompt
    each has before it, tokens generated, and ``parts`` of them: hidden, hidden after the answer stood, visible; ``width`` of them a
    stage. ``attempts``: over how many of each stage that is summed, one if left out; ``lost``: (n,) whose are lost, nobody's if
    left out."""

    prompt: F64
    cached: F64
    request: I64
    context: F64
    output: F64
    parts: F64
    sample_request: I64
    width: I64
    attempts: I64 | None = None
    lost: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Which:
    """Of an offer, (n,) requests that took it; those among them that took it first, and last; those that it was planned for,
    which a budget may have kept from it; and those among the first that anything was sent for."""

    here: NDArray[np.bool_]
    first: NDArray[np.bool_]
    last: NDArray[np.bool_]
    planned: NDArray[np.bool_]
    sent: NDArray[np.bool_]


def _add(
    model: Model,
    taken: Taken,
    offer: Carried,
    which: _Which,
    index: int,
    result: EngineResult,
    on_pools: list[list[_OnPool]],
) -> None:
    """All but the seconds of pools, of the requests that took this offer; what those need goes to ``on_pools``."""
    work, here, n = offer.work, which.here, len(which.here)
    # Only stages that began have taken anything in.
    generated, taken_in = result.generated_tokens[index], result.prefilled_tokens[index]
    hidden = np.minimum(generated, work.reasoning_tokens)
    made = [sums(values, work.sample_start) for values in (hidden, generated - hidden)]
    answered = tokens_when_answered(work, model.deployments)
    planned_hidden = np.minimum(answered, work.reasoning_tokens)
    planned = [sums(values, work.sample_start) for values in (planned_hidden, answered - planned_hidden)]
    whole = sums(work.reasoning_tokens + work.visible_tokens, work.sample_start)
    after = np.rint(hidden * (1 - DEFAULT_FORCED.needed(hidden.astype(np.float64)))) if hidden.any() else hidden
    spent = made[0], sums(after, work.sample_start), made[1]
    taken.correct[which.last] = offer.correct[which.last]
    taken.planned_correct[which.planned] = offer.correct[which.planned]
    taken.cut_off[which.last] = offer.cut_off[which.last]
    for row, values in zip(taken.tokens, (taken_in, *made), strict=True):
        row[here] += sums(values, work.stage_start)[here]
    for row, values in zip(taken.planned_tokens, (work.prompt_tokens, *planned), strict=True):
        row[which.planned] = sums(values, work.stage_start)[which.planned]
    owner = np.repeat(np.arange(n), np.diff(work.stage_start))
    alone_s = np.zeros(len(owner))
    tokens = work.reasoning_tokens + work.visible_tokens
    longest = greatest(tokens, work.sample_start)
    took_s = greatest(work.first_token_s + (tokens - 1) * work.per_token_s, work.sample_start)
    for d, prices in enumerate(model.prices):
        stages = np.flatnonzero((work.deployment == d) & (here if prices is None else here | which.planned)[owner])
        if not len(stages):
            continue
        who, table = owner[stages], model.step_tables[d]
        taken.sent[d, who[which.sent[who]]] = True
        if prices is None:
            assert table is not None
            alone_s[stages] = _alone(table, work.prompt_tokens[stages], longest[stages])
            if (moved := getattr(model.deployments[d], "kv_transfer", None)) is not None:
                alone_s[stages] += moved.seconds(work.prompt_tokens[stages])
            on_pools[d].append(
                _on_pool(work, stages, who, taken_in, result.cached_tokens[index], generated, hidden, after)
            )
            continue
        alone_s[stages] = took_s[stages] * _slowness(model, d, result.started_s[who])
        calls, at_s = offer.calls[stages], result.started_s[who]
        _add_output(taken, prices, who, taken_in[stages], [part[stages] for part in spent], calls, at_s)
        kept = _in_cache(result, index, stages)
        billed = taken_in[stages], made[0][stages], made[1][stages], calls, at_s
        spent_usd = _with_cache(taken, prices, who, kept, billed)
        # As it is expected before any run: nothing is cached, and prices that change are their mean.
        planned_usd = prices.cost_usd(work.prompt_tokens[stages], 0, planned[0][stages], planned[1][stages], calls)
        each = np.bincount(who, weights=spent_usd, minlength=n)
        taken.api_cost_usd[:] += each
        taken.api_usd[d] += each
        taken.planned_api_cost_usd[:] += np.where(
            which.planned, np.bincount(who, weights=planned_usd, minlength=n), 0.0
        )
        if has_fixed_cost(model.deployments[d]):
            of_stages = taken_in[stages] + made[0][stages] + made[1][stages]
            _add_tokens(taken, d, who, of_stages, [part[stages] for part in spent])
    taken.in_a_row[which.last] = tokens_in_a_row(work, generated)[which.last]
    taken.outlasts[which.last] = outlasts_its_client(work, model.deployments)[which.last]
    on_pool = np.array([prices is None for prices in model.prices])
    answered_here = (result.status == COMPLETED) & which.last
    delaying = _delaying(work, on_pool, alone_s, taken_in, made[0] + made[1], whole, result.retries, answered_here)
    found = AtArm(
        first=work.deployment[work.stage_start[:-1]],
        delayed=work.deployment[delaying],
        alone_s=sums(alone_s, work.stage_start, np.float64),
        longest_tokens=greatest(work.prompt_tokens + longest, work.stage_start),
        asked_tokens=greatest(work.prompt_tokens + whole, work.stage_start),
        asked_input=greatest(work.prompt_tokens, work.stage_start),
        asked_output=greatest(whole, work.stage_start),
    )
    for filled, rows in ((taken.at_first, which.first), (taken.at_last, which.last)):
        for name, values in vars(found).items():
            getattr(filled, name)[rows] = values[rows]


def _add_lost(
    model: Model,
    taken: Taken,
    offer: Carried,
    which: _Which,
    index: int,
    result: EngineResult,
    on_pools: list[list[_OnPool]],
) -> None:
    """What attempts that were made again took of this offer; and which of all that it took is lost."""
    attempts, work, n = result.attempts, offer.work, len(which.here)
    assert attempts is not None
    generated, hidden, prompt = (
        found[index] for found in (attempts.lost_generated, attempts.lost_reasoning, attempts.lost_prefilled)
    )
    made = [sums(values, work.sample_start) for values in (hidden, generated - hidden)]
    for row, values in zip(taken.tokens, (prompt, *made), strict=True):
        row[which.here] += sums(values, work.stage_start)[which.here]
    # All of an arm that did not answer, and of an attempt that broke and was the last.
    for_nothing = which.here & (~which.last | (result.status == FAILED))
    kept, taken_in = result.generated_tokens[index], result.prefilled_tokens[index]
    tokens = sums(prompt + made[0] + made[1], work.stage_start)
    tokens += np.where(for_nothing, sums(taken_in + sums(kept, work.sample_start), work.stage_start), 0)
    taken.lost_tokens[which.here] += tokens[which.here]
    after = np.rint(hidden * (1 - DEFAULT_FORCED.needed(hidden.astype(np.float64)))) if hidden.any() else hidden
    spent = made[0], sums(after, work.sample_start), made[1]
    owner = np.repeat(np.arange(n), np.diff(work.stage_start))
    for d, prices in enumerate(model.prices):
        stages = np.flatnonzero((work.deployment == d) & which.here[owner])
        if not len(stages):
            continue
        who = owner[stages]
        if prices is None:
            on_pools[d][-1] = replace(on_pools[d][-1], lost=for_nothing)  # what was kept of this offer
            many = attempts.lost_attempts[index][stages]
            again = _on_pool(work, stages, who, prompt, attempts.lost_cached[index], generated, hidden, after)
            on_pools[d].append(replace(again, attempts=np.maximum(many, 1), lost=np.ones(n, dtype=np.bool_)))
            continue
        # A call that was not kept had the whole prompt, or nothing.
        calls = offer.calls[stages] * np.maximum(prompt[stages] / np.maximum(work.prompt_tokens[stages], 1), 1)
        at_s = result.started_s[who]
        _add_output(taken, prices, who, prompt[stages], [part[stages] for part in spent], calls, at_s)
        in_cache = attempts.lost_cached[index][stages], _zeros_or(attempts.lost_written, index, stages)
        billed = prompt[stages], made[0][stages], made[1][stages], calls, at_s
        usd = np.bincount(who, _with_cache(taken, prices, who, in_cache, billed), minlength=n)
        taken.api_cost_usd[:] += usd
        taken.api_usd[d] += usd
        if has_fixed_cost(model.deployments[d]):
            tokens_lost = prompt[stages] + made[0][stages] + made[1][stages]
            _add_tokens(taken, d, who, tokens_lost, [part[stages] for part in spent])
            kept_tokens = (taken_in + sums(kept, work.sample_start))[stages]
            of_kept = np.where(for_nothing, np.bincount(who, kept_tokens, minlength=n), 0.0)
            taken.fee_lost_tokens[d] += np.bincount(who, tokens_lost, minlength=n) + of_kept
        hidden_kept = np.minimum(kept, work.reasoning_tokens)
        parts = [sums(values, work.sample_start)[stages] for values in (hidden_kept, kept - hidden_kept)]
        cached, written = _in_cache(result, index, stages)
        kept_usd = prices.cost_usd(
            taken_in[stages], cached, parts[0], parts[1], offer.calls[stages], written=written, at_s=at_s
        )
        taken.lost_usd[:] += usd + np.where(for_nothing, np.bincount(who, kept_usd, minlength=n), 0.0)


def _in_cache(result: EngineResult, index: int, stages: I64) -> tuple[I64, I64]:
    """Prompt tokens of some stages that were found in a cache, and those that it was made to keep."""
    return result.cached_tokens[index][stages], _zeros_or(result.written_tokens, index, stages)


def _zeros_or(tokens: tuple[I64, ...], index: int, stages: I64) -> I64:
    return tokens[index][stages] if tokens else np.zeros(len(stages), dtype=np.int64)


def _with_cache(
    taken: Taken,
    prices: TokenPrices,
    who: I64,
    in_cache: tuple[I64, I64],
    billed: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], F64],
) -> F64:
    """The bill of some stages: prompt, hidden and visible tokens, calls, and when; what a cache had to do with it is noted."""
    prompt, hidden, visible, calls, at_s = billed
    cached, written = in_cache
    usd = np.asarray(prices.cost_usd(prompt, cached, hidden, visible, calls, written=written, at_s=at_s))
    if cached.any() or written.any():
        n = len(taken.cached_tokens)
        for total, tokens in ((taken.cached_tokens, cached), (taken.written_tokens, written)):
            total += np.bincount(who, weights=tokens, minlength=n).astype(np.int64)
        without = np.asarray(prices.cost_usd(prompt, 0, hidden, visible, calls, at_s=at_s))
        taken.cache_saved_usd[:] += np.bincount(who, weights=without - usd, minlength=n)
    return usd


def _add_output(
    taken: Taken,
    prices: TokenPrices,
    who: I64,
    prompt: NDArray[Any],
    spent: Sequence[NDArray[Any]],
    calls: NDArray[Any],
    at_s: F64,
) -> None:
    """What output tokens of some stages cost: those hidden, those of them after the answer stood, and those visible."""
    for k, tokens in enumerate(spent):
        usd = prices.output_usd("output" if k == 2 else "reasoning", prompt, tokens, calls, at_s=at_s)
        taken.api_output_usd[k] += np.bincount(who, weights=usd, minlength=taken.api_output_usd.shape[1])


def _add_tokens(taken: Taken, d: int, who: I64, tokens: I64, output: Sequence[NDArray[Any]]) -> None:
    """Tokens of some stages at an endpoint that is paid by a fee: what its limits count, so that the fee is shared by them."""
    n = taken.fee_tokens.shape[1]
    taken.fee_tokens[d] += np.bincount(who, weights=tokens, minlength=n)
    for k, part in enumerate(output):
        taken.fee_output_tokens[k, d] += np.bincount(who, weights=part, minlength=n)


def _on_pool(
    work: Work,
    stages: I64,
    who: I64,
    taken_in: NDArray[Any],
    cached: NDArray[Any],
    generated: NDArray[Any],
    hidden: NDArray[Any],
    after: NDArray[Any],
) -> _OnPool:
    width = np.diff(work.sample_start)[stages]
    samples = np.repeat(work.sample_start[stages] - np.cumsum(width) + width, width) + np.arange(int(width.sum()))
    return _OnPool(
        prompt=taken_in[stages].astype(np.float64),
        cached=cached[stages].astype(np.float64),
        request=who,
        context=np.repeat(work.prompt_tokens[stages], width).astype(np.float64),
        output=generated[samples].astype(np.float64),
        parts=np.stack([hidden[samples], after[samples], (generated - hidden)[samples]]).astype(np.float64),
        sample_request=np.repeat(who, width),
        width=width,
    )


def _share(taken: Taken, d: int, part: _OnPool, table: StepTable, batch: int, ranks: int) -> None:
    """Add a pool's seconds of some stages; those of one of so many ranks are that part of its replica's."""
    n = taken.pool_s.shape[1]
    times = 1 if part.attempts is None else part.attempts
    per_sample = 1 if part.attempts is None else np.repeat(part.attempts, part.width)
    prefill_s = times * prefill_seconds(table, part.prompt / times, part.cached / times, batch) / ranks
    decode_s = per_sample * decode_seconds(table, part.context, part.output / per_sample, batch) / ranks
    took_s = np.bincount(part.request, weights=prefill_s, minlength=n)
    taken.pool_s[d] += took_s
    more_s = np.bincount(part.sample_request, weights=decode_s, minlength=n)
    taken.pool_s[d] += more_s
    if part.lost is not None:
        taken.lost_pool_s[d] += np.where(part.lost, took_s + more_s, 0.0)
    per_token_s = decode_s / np.maximum(part.output, 1)
    for k, tokens in enumerate(part.parts):
        weights = per_token_s * tokens
        taken.pool_output_s[k, d] += np.bincount(part.sample_request, weights=weights, minlength=n)


def _slowness(model: Model, d: int, started_s: F64) -> F64 | float:
    """By how much an endpoint's calls take longer, as they begin."""
    item = model.deployments[d]
    if not isinstance(item, Api) or item.errors is None or item.errors.slow is None:
        return 1.0
    factor = np.ones(len(started_s))
    for one in item.errors.slow:
        factor[(started_s >= one.from_s) & (started_s < one.until_s)] = one.factor
    return factor


def _alone(table: StepTable, prompt: I64, longest: I64) -> F64:
    """Seconds of stages on an idle replica, whose samples run side by side."""
    tokens = prompt.astype(np.float64)
    seconds: F64 = prefill_seconds(table, tokens, np.zeros_like(tokens), 1)
    return seconds + decode_seconds(table, tokens, longest.astype(np.float64), 1)


def _delaying(
    work: Work,
    on_pool: NDArray[np.bool_],
    alone_s: F64,
    taken_in: NDArray[Any],
    made: I64,
    whole: I64,
    retries: NDArray[Any],
    answered: NDArray[np.bool_],
) -> I64:
    """(n,) the stage that a delay of each request is put down to."""
    first, end = work.stage_start[:-1], work.stage_start[1:]
    if len(taken_in) == len(first):
        return first
    number = np.arange(len(taken_in))
    # An endpoint's calls are no slower for the load once they are accepted.
    weight_s = np.where(on_pool[work.deployment], alone_s, np.where(np.repeat(retries, end - first) > 0, np.inf, 0.0))
    longest = np.repeat(greatest(weight_s, work.stage_start), end - first)
    slowest = greatest(np.where(weight_s == longest, number, -1), work.stage_start)
    begun = greatest(np.where((taken_in > 0) | (made > 0), number, -1), work.stage_start)
    stopped = np.maximum(begun, first)
    # Where the last stage that it began had ended, it waited for the next.
    stopped = np.where((made[stopped] == whole[stopped]) & (stopped + 1 < end), stopped + 1, stopped)
    return np.asarray(np.where(answered, slowest, stopped))
