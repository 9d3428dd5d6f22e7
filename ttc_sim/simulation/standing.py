"""Whether deployments keep up with what is sent to them: a verdict of each run.

What waits is counted: requests that have not been begun, and those that take more than twice as long as they would alone, which is
how a crowded batch or a queue before a later stage shows. A deployment falls behind in a stretch of the arrivals where that number
grows by more than chance, or where requests are turned away because of the load (late though they would be in time alone, or
rejected though they fit), which is how timeouts and full queues hide a growing number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.kv_cache import BLOCK
from ttc_sim.engine.work import COMPLETED, REJECTED, TIMED_OUT, EngineResult
from ttc_sim.scenario import GpuPool
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.taken import Taken

Word = Literal["stable", "backlogged", "overloaded"]
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
    arrivals = model.scenario.workload.arrivals
    timeout_s = np.array([np.inf if item.timeout_s is None else item.timeout_s for item in model.deployments])
    never = np.isnan(result.started_s)
    # Those that were slow by themselves, or never fitted, say nothing of the load.
    in_time = 2 * taken.alone_s < timeout_s[taken.delayed]
    late = (result.status == TIMED_OUT) & (never | in_time)
    rejected = (result.status == REJECTED) & (taken.longest_tokens - 1 <= _most_tokens(model, "held")[taken.delayed])
    rejected &= taken.asked_tokens <= _most_tokens(model, "asked")[taken.delayed]
    served = _Served(
        first=taken.first,
        delayed=taken.delayed,
        arrival_s=result.arrival_s,
        begun_s=np.where(never, result.finished_s, result.started_s),
        left_s=result.finished_s,
        alone_s=taken.alone_s,
        started=~never,
        completed=result.status == COMPLETED,
        lost=late | rejected,
    )
    at = np.union1d(taken.first, taken.delayed).tolist()
    rate_per_s = draws.traffic.rate_per_s
    return {model.deployment_names[d]: _standing(served, d, arrivals.process, rate_per_s) for d in at}


def _most_tokens(model: Model, what: Literal["held", "asked"]) -> F64:
    """(deployments,) tokens of one sequence that fit into a pool's KV cache, or of one call that an endpoint ever accepts."""
    most = [
        (item.kv_cache_tokens // BLOCK * BLOCK if item.kv_cache_tokens is not None and what == "held" else None)
        if isinstance(item, GpuPool)
        else (item.tokens_per_minute if what == "asked" else None)
        for item in model.deployments
    ]
    return np.array([np.inf if one is None else one for one in most], dtype=np.float64)


@dataclass(frozen=True)
class _Served:
    """What befell the requests of one run; arrays of (n,), times in seconds.

    ``first`` is the deployment of the first stage, ``delayed`` the one that a delay is put down to; the request was begun (or given
    up), and left: answered, rejected or given up. ``lost`` are those turned away because of the load.
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


def _standing(served: _Served, d: int, process: str, rate_per_s: float) -> Standing:
    queued, kept = served.first == d, served.delayed == d
    here = queued | kept
    arrival_s = np.sort(served.arrival_s[here])
    start_s, end_s = float(arrival_s[0]), float(arrival_s[-1])
    overdue_s = served.begun_s + 2 * served.alone_s
    late = kept & (overdue_s < served.left_s)
    edges = np.linspace(start_s, end_s, min(max(len(arrival_s) // _LEAST, 1), _SLICES) + 1)

    def unbegun(at: F64) -> I64:
        return _upto(served.arrival_s[queued], at) - _upto(served.begun_s[queued], at)

    def overdue(at: F64) -> I64:
        return _upto(overdue_s[late], at) - _upto(served.left_s[late], at)

    came, waiting = _upto(arrival_s, edges), unbegun(edges) + overdue(edges)
    lost = _upto(served.arrival_s[here & served.lost], edges)
    came[0] = waiting[0] = lost[0] = 0  # before the first
    unserved = waiting + lost
    longest_s = float(np.max((served.begun_s - served.arrival_s)[queued], initial=0.0)) if queued.any() else np.nan
    if process == "closed_loop":
        # Users who wait send nothing, so that a queue cannot grow.
        turned_away = bool(lost[-1] > max(_LEFT * len(arrival_s), 2))
        return Standing("overloaded" if turned_away else "stable", longest_s, turned_away, 0.0)
    by_chance = _by_chance(arrival_s, came)

    def margin(arrived: I64, deviations: float) -> F64:
        return np.asarray(np.maximum(np.maximum(_LEFT * arrived, deviations * by_chance * np.sqrt(arrived)), 2.0))

    i, j = np.triu_indices(len(edges), 1)
    fell = bool((unserved[j] - unserved[i] > margin(came[j] - came[i], _SURE)).any())
    # The stretch from when it was last calm to the last arrival.
    calm = int(np.flatnonzero(waiting[:-1] <= 0.1 * waiting.max())[-1])
    arrived, stretch_s = came[-1] - came[calm], end_s - float(edges[calm])
    tail = -1 - max((len(edges) - 1) // 10, 1)
    losing = lost[-1] - lost[tail] > max(_LEFT * (came[-1] - came[tail]), 2)
    still = bool(losing) or 2 * waiting[-1] >= waiting.max()
    behind = still and bool(unserved[-1] - unserved[calm] > margin(arrived, _LIKELY))
    # A crowded batch begins all and ends too few; a queue ends all that it begins.
    hidden = overdue(edges[-1:])[0] > unserved[-1] - unserved[calm] - overdue(edges[-1:])[0]
    done_s = served.left_s[here & served.completed] if hidden else served.begun_s[here & served.started & ~served.lost]
    done = int(((done_s > edges[calm]) & (done_s <= end_s)).sum())
    goes_on = process != "trace" and stretch_s > 0
    sent = rate_per_s * float(here.mean()) * stretch_s if goes_on else float(arrived)
    # A load that is over in a tenth of the time that it takes to be served was a burst.
    burst = process == "trace" and float(served.left_s[here].max()) - end_s > 9 * (end_s - start_s)
    overloaded = behind and not burst and sent - done > 2 * np.sqrt(done) + _LEFT * done
    half_s = (end_s - start_s) / 2
    middle = np.array([start_s + half_s])
    grew = int(waiting[-1] - (unbegun(middle) + overdue(middle))[0])
    grows = overloaded and half_s > 0 and grew > margin(came[-1:] // 2, _LIKELY)[0]
    word: Word = "overloaded" if overloaded else "backlogged" if fell else "stable"
    return Standing(word, longest_s, behind and word != "stable", grew / half_s if grows else 0.0)


def _upto(times: F64, at: F64) -> I64:
    """How many of the times have come at each moment."""
    return np.searchsorted(np.sort(times), at, side="right")


def _by_chance(arrival_s: F64, came: I64) -> float:
    """Standard deviation of what a busy queue grows by, in roots of the number of arrivals, that come and are served by chance.

    Gaps vary within slices, so that the shape of a day is no chance.
    """
    variations = []
    for first, last in pairwise(came.tolist()):
        gaps = np.diff(arrival_s[first:last])
        if len(gaps) > 1 and gaps.mean() > 0:
            variations.append(float(gaps.var() / gaps.mean() ** 2))
    return float(np.sqrt(1 + max(float(np.median(variations)), 1.0))) if variations else float(np.sqrt(2))
