"""Whether deployments keep up with what is sent to them: a verdict of each run.

What waits is counted: requests that have not been begun, and those that take more than twice as long as they would alone, which is
how a crowded batch or a queue before a later stage shows. A deployment falls behind in a stretch of the arrivals where that number
grows by more than chance, or where requests are turned away because of the load (late though they would be in time alone, or
rejected though they fit), which is how timeouts and full queues hide a growing number. So it does where requests fail because
replicas do. A pool whose replicas come and go is overloaded only where it would be with as many as it may have, or has in the long
run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.contexts import context_of
from ttc_sim.engine.fleet import IN_SERVICE, level_seconds
from ttc_sim.engine.speculation import longest_held
from ttc_sim.engine.work import COMPLETED, FAILED, REJECTED, TIMED_OUT, EngineResult
from ttc_sim.scenario import Api, ClosedLoop, GpuPool, Trace, Workload
from ttc_sim.serving.api_limits import held_by
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.taken import AtArm, Taken

Word = Literal["stable", "backlogged", "overloaded"]
_Kind = Literal["users", "replay", "rates"]
WORDS: tuple[Word, ...] = ("stable", "backlogged", "overloaded")  # from best to worst

_SLICES = 48  # of the arrivals, at most: half an hour of a day
_LEAST = 50  # requests of a slice
_LEFT = 0.05  # of the requests of a stretch, left waiting or turned away: fewer are nothing to speak of
_SURE, _LIKELY = 4.0, 1.5  # standard deviations of what a busy queue grows by


@dataclass(frozen=True)
class Verdict:
    """How one deployment, or all of them, stood up to the load.

    Attributes:
        verdict: ``stable``; ``backlogged``: it fell behind, and caught up within the run or, as arrivals go in the long run, would;
            ``overloaded``: more is sent to it than it can serve.
        longest_wait_s: longest time that a request waited to be begun, or to be given up or rejected; NaN of a deployment that only
            later stages of requests come to: when those were begun is not recorded.
        behind_at_end: whether it was still behind as the last request arrived.
    """

    verdict: Word
    longest_wait_s: float
    behind_at_end: bool


@dataclass(frozen=True)
class Standing:
    """Verdict on one deployment in one run.

    Attributes:
        behind: whether it was still behind as the last request arrived.
        growth_per_s: requests by which those that wait grew in number over the second half of the arrivals, per second.
    """

    verdict: Word
    longest_wait_s: float
    behind: bool
    growth_per_s: float


def stand(model: Model, draws: Draws, taken: Taken, result: EngineResult) -> dict[str, Standing]:
    """Verdicts on the deployments that requests of a run came to."""
    workload = model.scenario.workload
    attempts, never = result.attempts, np.isnan(result.started_s)
    begun_s = np.where(never, result.finished_s, result.started_s)
    # Of what a gateway keeps back for a budget no deployment knows.
    sent = np.ones(len(never), dtype=np.bool_) if result.spending is None else ~np.isnan(result.spending.sent_s)
    came_s = result.arrival_s if result.spending is None else np.fmax(result.arrival_s, result.spending.sent_s)
    seen = _Seen(came_s, begun_s, result.finished_s, result.status, ~never)
    if attempts is None or not attempts.fallbacks.any():
        served = _served(model, taken.at_first, seen, None if attempts is None else attempts.errors == 0)
        who = np.arange(len(never))
    else:
        # Who fell back came to two arms one after another: the first turned it away, at the moment at which the last got it.
        whole, fell = attempts.errors == 0, attempts.fallbacks > 0
        early = result.started_s < attempts.begun_s
        first = replace(
            seen,
            begun_s=np.where(fell, np.fmin(result.started_s, attempts.begun_s), begun_s),
            left_s=np.where(fell, attempts.begun_s, result.finished_s),
            status=np.where(fell, np.where(early, np.int8(TIMED_OUT), np.int8(REJECTED)), result.status),
            started=np.where(fell, early, ~never),
        )
        last = replace(seen, arrival_s=attempts.begun_s, begun_s=np.fmax(begun_s, attempts.begun_s))
        parts = _served(model, taken.at_first, first, whole), _served(model, taken.at_last, last, whole).of(fell)
        who = np.concatenate([np.arange(len(never)), np.flatnonzero(fell)])
        served = _Served(**{name: np.concatenate([getattr(one, name) for one in parts]) for name in vars(parts[0])})
    if not sent.all():
        served, who = served.of(sent[who]), who[sent[who]]
    at = np.union1d(served.first, served.delayed).tolist()
    here = {d: np.bincount(who[(served.first == d) | (served.delayed == d)], minlength=len(never)) for d in at}
    return {
        model.deployment_names[d]: _standing(served, d, *_coming(workload, draws, here[d]), _more(model, result, d))
        for d in at
    }


def _coming(workload: Workload, draws: Draws, times: I64) -> tuple[_Kind, float | None]:
    """What sends a deployment its requests, and how many come a second in the long run; ``None`` where what came says it.

    Args:
        times: (n,) how often each request came there.
    """
    parts = [times] if not draws.parts else [times[part.at] for part in draws.parts]
    senders = [one for one, part in zip(workload.processes, parts, strict=True) if part.any()]
    users, recorded = ([isinstance(one.begins, kind) for one in senders] for kind in (ClosedLoop, Trace))
    if all(users):
        return "users", None
    if any(users) or any(recorded):
        return "replay" if all(recorded) else "rates", None
    rates = draws.traffic.goes_on_per_s or (draws.traffic.rate_per_s,)
    per_s = sum(rate * float(part.mean()) for rate, part in zip(rates, parts, strict=True) if part.any())
    return "rates", per_s


def _more(model: Model, result: EngineResult, d: int) -> Callable[[float, float], float]:
    """How many times the replicas that were in service over a stretch a pool may have, or has in the long run."""
    pool = model.deployments[d]
    if not isinstance(pool, GpuPool) or not pool.changes or result.fleet is None:
        return lambda _from, _to: 1.0
    times, levels = result.fleet.level(d, [IN_SERVICE])
    scaled, failing = pool.autoscaling, pool.failures
    most = float(pool.most_replicas)
    if scaled is not None and scaled.schedule is not None:
        most = scaled.mean_replicas
    if failing is not None and failing.mtbf_h is not None and failing.mttr_h is not None:
        away_h = failing.mttr_h + float((pool.start_up.takes_s if pool.start_up is not None else 0.0) or 0.0) / 3600.0
        most *= failing.mtbf_h / (failing.mtbf_h + away_h)

    def more(from_s: float, to_s: float) -> float:
        had_s = float(level_seconds(times, levels, np.array([from_s]), np.array([to_s]))[0])
        return most * (to_s - from_s) / had_s if had_s > 0 else np.inf

    return more


@dataclass(frozen=True)
class _Seen:
    """When requests came to an arm, were begun (or given up) and left, how that ended, and whether they had been begun."""

    arrival_s: F64
    begun_s: F64
    left_s: F64
    status: NDArray[np.int8]
    started: NDArray[np.bool_]


def _served(model: Model, at: AtArm, seen: _Seen, whole: NDArray[np.bool_] | None) -> _Served:
    """What befell them there; one that broke on its way, which is not ``whole``, says nothing of the load.

    But at a pool, which may have too few replicas for those that fail.
    """
    limits = [(item.timeout_s, item.deadline_s) for item in model.deployments]
    timeout_s = np.array([min((one for one in pair if one is not None), default=np.inf) for pair in limits])
    # Those that were slow by themselves, or never fitted, say nothing of the load.
    in_time = 2 * at.alone_s < timeout_s[at.delayed]
    late = (seen.status == TIMED_OUT) & (~seen.started | in_time)
    rejected = (seen.status == REJECTED) & (at.longest_tokens - 1 <= _most_held(model)[at.delayed])
    for key, asked in (
        ("tokens", at.asked_tokens),
        ("input_tokens", at.asked_input),
        ("output_tokens", at.asked_output),
    ):
        rejected &= asked <= _most_asked(model, f"{key}_per_minute")[at.delayed]
    lost, begun_s, alone_s = late | rejected, seen.begun_s, at.alone_s
    if whole is not None:
        lost, begun_s, alone_s = (
            lost & whole,
            np.where(whole, begun_s, seen.arrival_s),
            np.where(whole, alone_s, np.inf),
        )
    own = np.array([isinstance(item, GpuPool) for item in model.deployments])
    failed = (seen.status == FAILED) & own[at.delayed]
    return _Served(
        first=at.first,
        delayed=at.delayed,
        arrival_s=seen.arrival_s,
        begun_s=begun_s,
        left_s=seen.left_s,
        alone_s=alone_s,
        started=seen.started,
        completed=seen.status == COMPLETED,
        lost=lost | failed,
        failed=failed,
        waited_s=seen.begun_s - seen.arrival_s,
    )


def _most_held(model: Model) -> F64:
    """(deployments,) tokens of one sequence, but for its last, that fit into a pool's KV cache and its context."""
    most = np.full(len(model.deployments), np.inf)
    for d, item in enumerate(model.deployments):
        for pool in (item, item.prefill_pool) if isinstance(item, GpuPool) else ():
            held = None if pool is None else longest_held(pool)
            most[d] = most[d] if held is None else min(most[d], held)
        if (context := context_of(item)) is not None:
            most[d] = min(most[d], context - 1)
    return most


def _most_asked(model: Model, key: str) -> F64:
    """(deployments,) tokens of one call that an endpoint ever accepts by that limit; of prompts that it keeps any number."""
    most = []
    for item in model.deployments:
        limit = item.rate_limits.get(key) if isinstance(item, Api) else None
        if limit is None or not isinstance(item, Api):
            most.append(np.inf)
            continue
        free = item.cache_rules is not None and not item.cache_rules.reads_count and key != "output_tokens_per_minute"
        most.append(np.inf if free else held_by(limit, item.limit_window_s))
    return np.array(most, dtype=np.float64)


@dataclass(frozen=True)
class _Served:
    """What befell the requests of one run; arrays of (n,), times in seconds.

    ``first`` is the deployment of the first stage, ``delayed`` the one that a delay is put down to; the request was begun (or given
    up), and left: answered, rejected or given up. ``lost`` are those turned away because of the load, or because a pool ``failed``
    them; ``waited_s``: until it was begun, for whatever reason.
    """

    first: I64
    delayed: I64
    arrival_s: F64
    begun_s: F64
    left_s: F64
    alone_s: F64
    started: NDArray[np.bool_]
    completed: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    waited_s: F64

    def of(self, some: NDArray[np.bool_]) -> _Served:
        """Of some of them alone."""
        return _Served(**{name: values[some] for name, values in vars(self).items()})


def worst(found: Mapping[str, Verdict]) -> Verdict:
    """Of all deployments together."""
    words = [WORDS.index(one.verdict) for one in found.values()]
    waits = [one.longest_wait_s for one in found.values() if not np.isnan(one.longest_wait_s)]
    behind = any(one.behind_at_end for one in found.values())
    return Verdict(WORDS[max(words, default=0)], max(waits, default=0.0), behind)


def over_runs(found: Sequence[Mapping[str, Standing]]) -> dict[str, Verdict]:
    """The verdict that at least half of the runs agree on or exceed, by deployment."""
    out = {}
    for name in dict.fromkeys(name for run in found for name in run):
        words = sorted((WORDS.index(run[name].verdict) if name in run else 0) for run in found)
        here = [run[name] for run in found if name in run]
        word = WORDS[words[len(words) // 2]]
        behind = word != "stable" and 2 * sum(one.behind for one in here) >= len(here)
        waits = [one.longest_wait_s for one in here if not np.isnan(one.longest_wait_s)]
        out[name] = Verdict(word, max(waits, default=np.nan), behind)
    return out


@dataclass(frozen=True)
class _Counts:
    """Of one deployment, at the edges of slices of the arrivals: how many came, wait and were turned away so far.

    ``overdue`` are those among the waiting that were begun, and ``middle`` those that wait halfway through the arrivals.
    """

    edges: F64
    came: I64
    waiting: I64
    overdue: I64
    lost: I64
    middle: int
    by_chance: float

    def margin(self, arrived: I64, deviations: float) -> F64:
        """How many of so many arrivals may be left by chance."""
        noise = deviations * self.by_chance * np.sqrt(arrived)
        return np.asarray(np.maximum(np.maximum(_LEFT * arrived, noise), 2.0))


def _count(served: _Served, queued: NDArray[np.bool_], delayed: NDArray[np.bool_]) -> _Counts:
    here = queued | delayed
    arrival_s = np.sort(served.arrival_s[here])
    edges = np.linspace(arrival_s[0], arrival_s[-1], min(max(len(arrival_s) // _LEAST, 1), _SLICES) + 1)
    overdue_s = served.begun_s + 2 * served.alone_s
    late = delayed & (overdue_s < served.left_s)
    came_s = arrival_s if queued.all() else np.sort(served.arrival_s[queued])
    begun_s, late_s, left_s = np.sort(served.begun_s[queued]), np.sort(overdue_s[late]), np.sort(served.left_s[late])
    at = np.append(edges, edges[0] / 2 + edges[-1] / 2)  # and in the middle
    overdue = _upto(late_s, at) - _upto(left_s, at)
    waiting = _upto(came_s, at) - _upto(begun_s, at) + overdue
    middle = int(waiting[-1])
    came, lost = _upto(arrival_s, edges), _upto(np.sort(served.arrival_s[here & served.lost]), edges)
    came[0] = waiting[0] = lost[0] = 0  # before the first
    return _Counts(edges, came, waiting[:-1], overdue[:-1], lost, middle, _by_chance(arrival_s, came))


def _standing(
    served: _Served, d: int, kind: _Kind, per_s: float | None, more: Callable[[float, float], float]
) -> Standing:
    queued, delayed = served.first == d, served.delayed == d
    here = queued | delayed
    n = _count(served, queued, delayed)
    start_s, end_s = float(n.edges[0]), float(n.edges[-1])
    longest_s = float(np.max(served.waited_s[queued])) if queued.any() else np.nan
    if kind == "users":
        # Users who wait send nothing, so that a queue cannot grow.
        most = max(_LEFT * n.came[-1], 2)
        failed = int((served.failed & here).sum())
        turned_away = bool(n.lost[-1] - failed > most)
        return Standing(
            "overloaded" if turned_away else "backlogged" if failed > most else "stable", longest_s, turned_away, 0.0
        )
    unserved = n.waiting + n.lost
    i, j = np.triu_indices(len(n.edges), 1)
    fell = bool((unserved[j] - unserved[i] > n.margin(n.came[j] - n.came[i], _SURE)).any())
    # The stretch from when it was last calm to the last arrival.
    calm = int(np.flatnonzero(n.waiting[:-1] <= 0.1 * n.waiting.max())[-1])
    arrived, left, stretch_s = n.came[-1] - n.came[calm], unserved[-1] - unserved[calm], end_s - float(n.edges[calm])
    tail = -1 - max((len(n.edges) - 1) // 10, 1)
    losing = n.lost[-1] - n.lost[tail] > max(_LEFT * (n.came[-1] - n.came[tail]), 2)
    behind = (losing or 2 * n.waiting[-1] >= n.waiting.max()) and left > n.margin(arrived, _LIKELY)
    # A crowded batch begins all and ends too few; a queue ends all that it begins.
    crowded = 2 * n.overdue[-1] > left
    done_s = served.left_s[here & served.completed] if crowded else served.begun_s[here & served.started & ~served.lost]
    done = float(((done_s > n.edges[calm]) & (done_s <= end_s)).sum()) * more(float(n.edges[calm]), end_s)
    sent = per_s * stretch_s if per_s is not None and stretch_s > 0 else float(arrived)
    # A load that is over in a tenth of the time that it takes to be served was a burst.
    burst = kind == "replay" and float(served.left_s[here].max()) - end_s > 9 * (end_s - start_s)
    overloaded = bool(behind) and not burst and sent - done > 2 * np.sqrt(done) + _LEFT * done
    half_s, grew = (end_s - start_s) / 2, int(n.waiting[-1]) - n.middle
    grows = overloaded and half_s > 0 and grew > n.margin(n.came[-1:] // 2, _LIKELY)[0]
    word: Word = "overloaded" if overloaded else "backlogged" if fell else "stable"
    return Standing(word, longest_s, bool(behind) and word != "stable", grew / half_s if grows else 0.0)


def _upto(times: F64, at: F64) -> I64:
    """How many of the times, in order, have come at each moment; of those that are NaN none has."""
    return np.asarray(np.searchsorted(times, at, side="right"))


def _by_chance(arrival_s: F64, came: I64) -> float:
    """Standard deviation of what a busy queue grows by, in roots of the number of arrivals, that come and are served by chance.

    Gaps vary within slices, so that the shape of a day is no chance.
    """
    # Gaps between those of a slice; one of fewer than three has no two.
    gaps, count = np.diff(arrival_s), np.maximum(np.diff(came) - 1, 0)
    slices = np.repeat(np.arange(len(count)), count)
    here = gaps[np.repeat(came[:-1], count) + np.arange(len(slices)) - np.repeat(np.cumsum(count) - count, count)]
    mean = np.bincount(slices, weights=here, minlength=len(count)) / np.maximum(count, 1)
    squares = np.bincount(slices, weights=(here - mean[slices]) ** 2, minlength=len(count)) / np.maximum(count, 1)
    some = (count > 1) & (mean > 0)
    if not some.any():
        return float(np.sqrt(2))
    return float(np.sqrt(1 + max(float(np.median(squares[some] / mean[some] ** 2)), 1.0)))
