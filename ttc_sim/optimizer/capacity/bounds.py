"""What no simulation can beat: fewest replicas by conservation of work.

Requests that arrive in a window and keep a deadline are served between the window's beginning and its end plus the deadline, so the
replicas' seconds in that time are at least what these requests take. What they take at least is said by a price of a prompt token,
of a generated token and of a KV token read (:func:`prices_of`), which no iteration of the pool's step table undercuts, whatever
batch it runs. The requests that a target lets be late are left out, those that take most; so are requests that may be dropped.

What is proved is that no number of replicas below the bound can keep the targets on these very requests (docs/capacity.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.speculation import PARTS, advance_of, longest_held
from ttc_sim.engine.work import Work
from ttc_sim.optimizer.capacity.hardware import Choice
from ttc_sim.optimizer.capacity.trying import Trials
from ttc_sim.optimizer.dropping import LIMITS_OF_MEMORY, may_drop, most_dropped
from ttc_sim.scenario import GpuPool, SourceTargets, Targets
from ttc_sim.scenario.targets import percentile_of
from ttc_sim.serving.step_time import StepTable
from ttc_sim.simulation.pooling import HOUR_S
from ttc_sim.simulation.token_times import greatest, sums

_SLICES, _MOST_SLICES = 48, 512  # of the arrivals, that windows are made of
_RANKS = 128  # by which the requests that take most are told
_MOST_HOURS = 1000  # beyond which requests that may be late in some hour may all be late in one
_SAMPLE = 100_000  # requests by which ranks are made
_LOST = 20  # generated tokens of a sequence that preemptions may come to take the place of, see `Prices`
_SHARES = (1.0, 0.99, 0.97, 0.93, 0.85, 0.7, 0.5, 0.25, 0.0)
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Prices:
    """Seconds of a replica, or of one of its ranks, at least, that a prompt token, a generated token and a KV token read take."""

    prompt: float
    generated: float
    kv: float


@dataclass(frozen=True)
class Needs:
    """What requests take of one pool at least: arrays of (n,), all runs one after another.

    Attributes:
        prompt, generated, kv: tokens; first: prompt tokens before the first generated one.
    """

    prompt: F64
    generated: F64
    kv: F64
    first: F64


@dataclass(frozen=True)
class _Windows:
    """(windows,) seconds in which the work must be done, over all runs, and (windows, 3) tokens of it by price."""

    seconds: F64
    tokens: F64


@dataclass(frozen=True)
class _Promise:
    """What a target promises of some requests: all but a share of them are through by a deadline.

    Attributes:
        members: (n,) whose; late: share of them that need not be; deadline_s: (n,) from arrival.
        by_hour: whether the share is of each hour; first: whether by then only the first token must have come.
    """

    members: NDArray[np.bool_]
    late: float
    deadline_s: F64
    by_hour: bool
    first: bool


class Bounds:
    """Lower bounds for the pools of some trials."""

    def __init__(self, trials: Trials) -> None:
        self.trials, self.model = trials, trials.model
        works = trials.works()
        # Who waits for an answer before sending the next request sends at times that are not known beforehand.
        self.works = works if works and all(one.after is None for one in works) else []
        self.all_works = works or []
        self.promises = self._promises() if self.works else []

    def longest(self, pool: str) -> int:
        """Tokens of the longest sequence that is sent to a pool; 0 if that is not known beforehand."""
        d = self.model.deployment_names.index(pool)
        return max((int(longest_of(one, d).max(initial=0)) for one in self.all_works), default=0)

    def longest_prompt(self, pool: str) -> int:
        """Tokens of the longest prompt that is sent to a pool; 0 if that is not known beforehand."""
        d = self.model.deployment_names.index(pool)
        return max((int(one.prompt_tokens[one.deployment == d].max(initial=0)) for one in self.all_works), default=0)

    def too_long(self, pool: str, choice: Choice) -> tuple[int, int] | None:
        """The longest request or prompt that does not fit into a KV cache of that choice, and that cache's tokens."""
        for longest, of in ((self.longest(pool), choice.pool), (self.longest_prompt(pool), choice.pool.prefill_pool)):
            held = None if of is None else longest_held(of)
            if of is not None and held is not None and longest > held:
                return longest, held if of.speculative else of.kv_cache_tokens or 0
        return None

    def fewest(self, pool: str, choices: Sequence[Choice]) -> list[int]:
        """For each choice a number of replicas that is certainly needed, at least 1."""
        if not self.promises:
            return [1] * len(choices)
        d, longest = self.model.deployment_names.index(pool), max(self.longest(pool), 1)
        shared = any(shares_blocks(work) for work in self.works)
        found: dict[tuple[bool, bool, int | None, float], list[_Windows]] = {}
        out = []
        for one in choices:
            limit = longest_held(one.pool)
            fits = limit is None or longest <= limit
            key = limit is not None, one.pool.prefix_caching, None if fits else limit, one.table.advance
            if key not in found:
                found[key] = self._windows(d, one.pool)
            options = prices_of(one.table, one.pool, longest, shared)
            least = 1.0
            for windows in found[key]:
                for prices in options:
                    # Prompts that are taken in apart are no work of those that answer.
                    prompt = 0.0 if one.prefill else prices.prompt
                    seconds = windows.tokens @ np.array([prompt, prices.generated, prices.kv])
                    least = max(least, float(np.max(seconds / windows.seconds, initial=0.0)) / one.pool.data_parallel)
            out.append(int(np.ceil(least * (1 - 1e-9))))
        return out

    # ----------------------------------------------------------------------------------------- what targets promise

    def _promises(self) -> list[_Promise]:
        targets, sources = self.trials.targets, self.trials.ready[0].requests.sources
        source = np.concatenate([one.requests.source for one in self.trials.ready])
        gaps = np.concatenate([_tokens_in_a_row(work) for work in self.works]).astype(np.float64) - 1
        found = []
        for name, block in [(None, targets), *targets.sources.items()]:
            if name is not None and name not in sources:
                continue
            members = np.ones(len(source), dtype=np.bool_) if name is None else source == sources.index(name)
            found += self._of_block(targets, block, members, source, gaps)
        return [one for one in found if one.members.any() and one.late < 1]

    def _of_block(
        self, targets: Targets, block: SourceTargets, members: NDArray[np.bool_], source: I64, gaps: F64
    ) -> list[_Promise]:
        found: list[_Promise] = []
        hourly = block.every_hour

        def add(late: float, deadline_s: F64 | float, *, first: bool = False) -> None:
            found.append(_Promise(members, late, np.broadcast_to(deadline_s, gaps.shape), hourly, first))

        asked = [(*at, bound) for key, bound in block.bounds() if (at := percentile_of(key)) is not None]
        dropped = self._dropped(block)
        by_time = {time: [(1 - part + dropped, bound) for t, part, bound in asked if t == time] for time in _TIMES}
        for late, bound in by_time["latency"]:
            add(late, bound)
        for late, bound in by_time["ttft"]:
            add(late, bound, first=True)
            for more, each in by_time["tpot"]:
                add(late + more, bound + each * gaps)
        if block.goodput is not None:
            names = self.trials.ready[0].requests.sources
            limits = {
                key: np.array([np.inf if (b := getattr(targets.slo_of(n), key, None)) is None else b for n in names])[
                    source
                ]
                for key in ("ttft_s", "tpot_s", "latency_s")
            }
            together = limits["ttft_s"] + np.where(gaps > 0, limits["tpot_s"] * np.maximum(gaps, 1), 0.0)
            add(1 - block.goodput, np.minimum(limits["latency_s"], together))
            add(1 - block.goodput, np.minimum(limits["ttft_s"], limits["latency_s"]), first=True)
        return found

    def _dropped(self, block: SourceTargets) -> float:
        """Share of the block's requests that may go without an answer, and so count in no percentile or end early."""
        ways: dict[str, object] = dict(may_drop(self.model.scenario.deployments, LIMITS_OF_MEMORY))
        if self._too_long():
            ways["rejected_rate"] = None
        return most_dropped(block, ways)

    def _too_long(self) -> bool:
        """Whether a request may not fit into a pool's KV cache at all, and is rejected."""
        pools = self.trials.pools.items()
        return any(self.too_long(name, one) is not None for name, choices in pools for one in choices)

    # ------------------------------------------------------------------------------------------------ what they take

    def _needs(self, d: int, pool: GpuPool) -> Needs:
        parts = [needs_of(work, d, pool) for work in self.works]
        return Needs(*(np.concatenate([getattr(one, field.name) for one in parts]) for field in fields(Needs)))

    def _windows(self, d: int, pool: GpuPool) -> list[_Windows]:
        needs = self._needs(d, pool)
        arrival_s = np.concatenate([work.arrival_s for work in self.works])
        some = needs.prompt + needs.generated > 0
        found = []
        for one in self.promises:
            zeros = np.zeros_like(needs.prompt)
            tokens = [needs.first, zeros, zeros] if one.first else [needs.prompt, needs.generated, needs.kv]
            members = one.members & np.isfinite(one.deadline_s)
            if not (members & some).any():
                continue
            deadlines = one.deadline_s[members]
            if deadlines.min() == deadlines.max():
                deadlines = deadlines[:1]
            # Requests with deadlines of their own are taken together up to some deadline, by which all of them must be through.
            for last_s in np.unique(np.quantile(deadlines, [0.25, 0.5, 0.75, 0.9, 1.0], method="inverted_cdf")):
                here = members & (one.deadline_s <= last_s)
                found.append(_windows(one, here, arrival_s, tokens, float(last_s), len(self.works)))
        return found


_TIMES = ("latency", "ttft", "tpot")


def _windows(
    promise: _Promise, here: NDArray[np.bool_], arrival_s: F64, tokens: Sequence[F64], deadline_s: float, runs: int
) -> _Windows:
    """Of every stretch of slices of the arrivals: the tokens of requests that must be through, less those that may be late."""
    first_s, last_s = float(arrival_s.min()), float(arrival_s.max())
    # As fine as deadlines are, for a crowd that comes at once shows in no long window.
    most = min(max(int(2 * (last_s - first_s) / max(deadline_s, 1e-9)), _SLICES), _MOST_SLICES)
    hour = np.asarray(arrival_s // HOUR_S, dtype=np.int64)
    late = np.floor(promise.late * np.bincount(hour[promise.members]) + _ROUNDING) if promise.by_hour else np.zeros(1)
    if promise.by_hour and len(late) <= _MOST_HOURS:
        hours = int(last_s // HOUR_S) + 1
        each = max(min(most, int(most * HOUR_S / max(last_s, HOUR_S))), 1)
        edges = np.arange(hours * each + 1) * (HOUR_S / each)
        within = ((arrival_s - hour * HOUR_S) / (HOUR_S / each)).astype(np.int64)
        slot = hour * each + np.minimum(within, each - 1)
        i, j = _stretches(hours * each)
        upto = np.concatenate([[0.0], np.cumsum(late), np.full(hours - len(late), late.sum())])
        allowed = upto[j // each + 1] - upto[i // each]
    else:
        edges = np.linspace(first_s, last_s, most + 1)
        slot = np.clip(np.searchsorted(edges, arrival_s, side="right") - 1, 0, most - 1)
        i, j = _stretches(most)
        whole = late.sum() if promise.by_hour else np.floor(promise.late * promise.members.sum() + _ROUNDING)
        allowed = np.full(len(i), whole)
    slots = len(edges) - 1
    left = np.stack([_without_most(one[here], slot[here], slots, i, j, allowed) for one in tokens], axis=1)
    # What one window's requests take is done between its beginning and its end plus the deadline.
    return _Windows(runs * (edges[j + 1] - edges[i] + deadline_s), left)


def _stretches(slots: int) -> tuple[I64, I64]:
    """First and last slot of stretches of 1, 2, 3, 4, 6, 8, 11, ... slots, wherever they begin, and of all."""
    first, last, length = [], [], 1
    while length < slots:
        first.append(np.arange(slots - length + 1))
        last.append(first[-1] + length - 1)
        length = max(length + 1, int(1.4 * length))
    return np.concatenate([*first, [0]]), np.concatenate([*last, [slots - 1]])


def _without_most(values: F64, slot: I64, slots: int, i: I64, j: I64, allowed: F64) -> F64:
    """Sums over slots ``i`` to ``j``, less as many of the largest values there as are allowed, or somewhat more than those."""
    if not values.any():
        return np.zeros(len(i))
    some = values[:: max(len(values) // _SAMPLE, 1)]
    edges = np.unique([*np.quantile(some, np.linspace(0, 1, _RANKS + 1)), values.max()])
    rank = np.searchsorted(edges, values, side="left")  # values are at most the edge of their rank
    cell = slot * len(edges) + rank
    shape = slots, len(edges)
    counts = np.bincount(cell, minlength=slots * len(edges)).reshape(shape)
    totals = np.bincount(cell, weights=values, minlength=slots * len(edges)).reshape(shape)
    counts, totals = (np.concatenate([np.zeros((1, len(edges))), np.cumsum(one, axis=0)]) for one in (counts, totals))
    inside, total = counts[j + 1] - counts[i], totals[j + 1] - totals[i]
    above = np.cumsum(inside[:, ::-1], axis=1)[:, ::-1] - inside
    taken = np.clip(allowed[:, None] - above, 0, inside)
    cut = np.where(taken >= inside, total, np.minimum(taken * edges, total))
    return np.asarray(np.maximum(total.sum(axis=1) - cut.sum(axis=1), 0.0))


# ----------------------------------------------------------------------------------------------------- tokens of requests


def shares_blocks(work: Work) -> bool:
    """Whether sequences may have KV blocks in common, so that more tokens are attended to than the cache holds."""
    return bool((np.diff(work.sample_start) > 1).any() or (work.prefix_id >= 0).any())


def longest_of(work: Work, d: int) -> I64:
    """(n,) tokens of each request's longest sequence on a deployment, 0 where it has none; the last one is never held."""
    output = work.reasoning_tokens + work.visible_tokens
    by_stage = np.where(work.deployment == d, work.prompt_tokens + greatest(output, work.sample_start) - 1, 0)
    return np.asarray(greatest(by_stage, work.stage_start), dtype=np.int64)


def _tokens_in_a_row(work: Work) -> I64:
    """(n,) output tokens one after another, at most."""
    return np.asarray(sums(greatest(work.reasoning_tokens + work.visible_tokens, work.sample_start), work.stage_start))


def needs_of(work: Work, d: int, pool: GpuPool) -> Needs:
    """What each request takes of a pool at least; nothing where it never fits."""
    width = np.diff(work.sample_start)
    here = work.deployment == d
    stage = np.repeat(np.arange(len(width)), width)
    output = (work.reasoning_tokens + work.visible_tokens).astype(np.float64)
    if work.needed is not None and (work.needed < width).any():
        # The shortest may be those that decide, and the others are then cancelled.
        order = np.lexsort((output, stage))
        within = np.arange(len(stage)) - work.sample_start[:-1][stage]
        counted = np.zeros(len(output), dtype=np.bool_)
        counted[order] = within < work.needed[stage]
        output = np.where(counted, output, 1.0)
    prompt = work.prompt_tokens.astype(np.float64)
    cached = np.zeros(len(prompt))
    prefixed = pool.prefix_caching & (work.prefix_id >= 0)
    cached = np.where(prefixed, prompt if work.prefix_tokens is None else work.prefix_tokens, cached)
    fresh = np.maximum(prompt - cached, 0.0)
    after = output - 1
    context = prompt[stage]
    # Steps begin where the one before has ended, with as many tokens more as it yields; prices divide by that.
    advance = advance_of(pool) / PARTS
    kv = after * context + after * np.maximum(after - advance, 0.0) / 2
    if pool.kv_cache_tokens is not None:
        shares = (width > 1) | prefixed
        few = shares[stage] | (context < _LOST)
        kv = np.where(shares[stage], after * np.maximum(after - advance, 0.0) / 2, kv)
        after = np.where(few, np.maximum(after - _LOST, 0.0), after)
        # What was generated in an earlier turn, or the turn itself, may be found in the cache after a preemption.
        own = prefixed & (cached > prompt)
        kv, after = np.where(own[stage], 0.0, kv), np.where(own[stage], 0.0, after)
    if (limit := longest_held(pool)) is not None:
        unfit = np.repeat(longest_of(work, d) > limit, np.diff(work.stage_start))
        here = here & ~unfit
    first_stage = np.zeros(len(width), dtype=np.bool_)
    first_stage[work.stage_start[:-1]] = True

    def by_request(values: F64) -> F64:
        return np.asarray(sums(np.where(here, values, 0.0), work.stage_start, np.float64), dtype=np.float64)

    def by_stage(values: F64) -> F64:
        return np.asarray(np.bincount(stage, values, len(width)), dtype=np.float64)

    return Needs(
        prompt=by_request(fresh),
        generated=by_request(by_stage(after)),
        kv=by_request(by_stage(kv)),
        first=by_request(np.where(first_stage, fresh, 0.0)),
    )


# ------------------------------------------------------------------------------------------------------ seconds of tokens


def prices_of(table: StepTable, pool: GpuPool, longest: int, shared: bool) -> list[Prices]:
    """Prices that no iteration undercuts: one of ``c`` prompt tokens and ``d`` sequences that decode, attending to ``d * k`` KV
    tokens, takes at least ``prompt * c + generated * d * a + kv * d * k * a`` seconds, where it yields ``a`` tokens a sequence.

    There are many such prices; which say most depends on the traffic, so some are given back. They are checked on cells of ``c``
    and ``d``: the seconds at a cell's least corner, by tables that were made to rise, against what is asked at its greatest. In
    ``k`` step times are straight between knots, so the knots will do. A sequence that was preempted gets a token by taking its
    tokens in again instead of by decoding: where the KV cache is limited, a prompt token costs at least a KV token and a 20th of a
    generated one, so that this saves at most some tokens of a sequence, which are not counted.

    Args:
        longest: tokens of the longest sequence; shared: whether sequences have KV blocks in common.
    """
    if table.ranks > 1:  # those of the others' tokens come on top
        table = table._replace(dense_s=table.dense_s + table.shared_s[: len(table.dense_s)])
    most, batch = len(table.dense_s) - 1, min(pool.max_num_seqs, len(table.decode_s) - 1)
    limit = pool.kv_cache_tokens
    held = np.inf if limit is None or shared else float(limit)
    low_d, high_d = _cells(1, int(min(batch, held)), 64, 1.05)
    low_c, high_c = _cells(1, most, 8, 1.08)
    rising = [np.minimum.accumulate(one[::-1])[::-1] for one in _parts(table)]
    dense, prefill, decode, sampled = rising
    known = table.kv if len(table.kv) > 1 else np.zeros(1)
    knots = np.unique(np.concatenate([[1.0], known[(known > 1) & (known < longest)], [float(longest)]]))
    k = np.minimum(knots[None, :], np.maximum(held / low_d, 1.0)[:, None])  # (d, k)
    fixed = table.base_s + decode[low_d] + sampled[low_d * table.verified]
    decoding = (fixed + dense[low_d * table.verified])[:, None] + _attention(table, np.zeros(1), low_d, k)[0]
    # Prompt tokens may come with no sequence that decodes.
    with_none = np.concatenate([[0], low_d]), np.concatenate([[0], high_d])
    k_more = np.concatenate([np.zeros((1, k.shape[1])), k])
    some_d = with_none[0]
    mixed = _attention(table, low_c, some_d, k_more)  # (c, d, k)
    verified = some_d * table.verified
    mixed += (table.base_s + decode[some_d] + sampled[verified])[None, :, None] + prefill[low_c][:, None, None]
    mixed += dense[np.minimum(low_c[:, None] + verified[None, :], most)][:, :, None]
    feasible = (low_c[:, None] + verified[None, :]) <= most
    read, read_more = high_d[:, None] * k, with_none[1][:, None] * k_more
    steepest = float(((decoding - decoding[:, :1]) / np.maximum(read - read[:, :1], 1e-300)).max(initial=0.0))
    found = []
    for kv in np.unique([0.0, *(steepest * np.array([1e-3, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0]))]):
        generated = float(((decoding - kv * read) / high_d[:, None]).min())
        if generated < 0:
            continue
        for share in _SHARES:
            one, each = share * generated, share * kv
            rest = np.where(feasible[:, :, None], mixed - one * with_none[1][:, None] - each * read_more, np.inf)
            prompt = float((rest.min(axis=(1, 2)) / high_c).min())
            if prompt < 0 or (limit is not None and prompt < each + one / _LOST):
                continue
            # What every KV token takes by itself is paid whatever the batch; but a prompt token must cost as much.
            room = np.inf if limit is None else prompt - each - one / _LOST
            found.append(Prices(prompt, one / table.advance, (each + min(table.per_kv_s, room)) / table.advance))
    return found


def _parts(table: StepTable) -> tuple[F64, F64, F64, F64]:
    return table.dense_s, table.prefill_s, table.decode_s, table.sampled_s


def _cells(first: int, last: int, whole: int, ratio: float) -> tuple[I64, I64]:
    """Least and greatest number of cells that cover ``first`` to ``last``: single numbers up to ``whole``, then wider and wider."""
    low = list(range(first, min(last, whole) + 1))
    while low[-1] < last:
        low.append(max(low[-1] + 1, int(low[-1] * ratio)) if low[-1] * ratio < last else last)
    high = [*(one - 1 for one in low[1:]), last]
    return np.array(low, dtype=np.int64), np.array(high, dtype=np.int64)


def _rising_attention(table: StepTable) -> F64 | None:
    """(chunks, sequences, kv) the least of all contexts and of all that lies beyond; ``None`` if there is none to count on."""
    if table.attention_s.size <= 1:
        return None
    for axis in range(4):
        along = np.moveaxis(table.attention_s, axis, -1)
        if (along[..., -1] < along[..., -2]).any():  # beyond its last knots it would fall, to below 0 in the end
            return None
    least = table.attention_s.min(axis=1)
    for axis in range(3):
        least = np.flip(np.minimum.accumulate(np.flip(least, axis), axis), axis)
    return np.asarray(least)


def _attention(table: StepTable, c: F64 | I64, d: I64, k: F64) -> F64:
    """(c, d, k) seconds of attention, at least; beyond the last knots those of the last.

    Args:
        k: (d, k) KV tokens of a sequence.
    """
    rising = _rising_attention(table)
    if rising is None:
        return np.zeros((len(c), *k.shape))
    of_c, of_d = _weights(table.chunks, c), _weights(table.sequences, d)
    at_knots = np.einsum("ci,dj,ijk->cdk", of_c, of_d, rising, optimize=True)
    low = np.clip(np.searchsorted(table.kv, k, side="right") - 1, 0, len(table.kv) - 2)
    share = np.clip((k - table.kv[low]) / (table.kv[low + 1] - table.kv[low]), 0.0, 1.0)
    here = np.arange(len(d))[:, None]
    return np.asarray((1 - share) * at_knots[:, here, low] + share * at_knots[:, here, low + 1])


def _weights(knots: F64, at: F64 | I64) -> F64:
    """(points, knots) of each knot at each point; points beyond the last knot are put there."""
    at = np.clip(np.asarray(at, dtype=np.float64), knots[0], knots[-1])
    low = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    share = (at - knots[low]) / (knots[low + 1] - knots[low])
    out = np.zeros((len(at), len(knots)))
    here = np.arange(len(at))
    out[here, low], out[here, low + 1] = 1 - share, share
    return out
