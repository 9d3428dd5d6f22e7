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
    came_s, begun_s, overdue_s, left_s = (
        served.arrival_s[queued],
        served.begun_s[queued],
        overdue_s[late],
        served.left_s[late],
    )

    def overdue_at(at: F64) -> I64:
        return _upto(overdue_s, at) - _upto(left_s, at)

    def waiting_at(at: F64) -> I64:
        return _upto(came_s, at) - _upto(begun_s, at) + overdue_at(at)

    came, lost = _upto(arrival_s, edges), _upto(served.arrival_s[here & served.lost], edges)
    waiting = waiting_at(edges)
    came[0] = waiting[0] = lost[0] = 0  # before the first
    middle = int(waiting_at(edges[:1] / 2 + edges[-1:] / 2)[0])
    return _Counts(edges, came, waiting, overdue_at(edges), lost, middle, _by_chance(arrival_s, came))


def _standing(served: _Served, d: int, process: str, rate_per_s: float) -> Standing:
    queued, delayed = served.first == d, served.delayed == d
    here = queued | delayed
    n = _count(served, queued, delayed)
    start_s, end_s = float(n.edges[0]), float(n.edges[-1])
    longest_s = float(np.max((served.begun_s - served.arrival_s)[queued])) if queued.any() else np.nan
    if process == "closed_loop":
        # Users who wait send nothing, so that a queue cannot grow.
        turned_away = bool(n.lost[-1] > max(_LEFT * n.came[-1], 2))
        return Standing("overloaded" if turned_away else "stable", longest_s, turned_away, 0.0)
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
    done = int(((done_s > n.edges[calm]) & (done_s <= end_s)).sum())
    goes_on = process != "trace" and stretch_s > 0
    sent = rate_per_s * float(here.mean()) * stretch_s if goes_on else float(arrived)
    # A load that is over in a tenth of the time that it takes to be served was a burst.
    burst = process == "trace" and float(served.left_s[here].max()) - end_s > 9 * (end_s - start_s)
    overloaded = bool(behind) and not burst and sent - done > 2 * np.sqrt(done) + _LEFT * done
    half_s, grew = (end_s - start_s) / 2, int(n.waiting[-1]) - n.middle
    grows = overloaded and half_s > 0 and grew > n.margin(n.came[-1:] // 2, _LIKELY)[0]
    word: Word = "overloaded" if overloaded else "backlogged" if fell else "stable"
    return Standing(word, longest_s, bool(behind) and word != "stable", grew / half_s if grows else 0.0)


def _upto(times: F64, at: F64) -> I64:
    """How many of the times have come at each moment, these in order."""
    place = np.searchsorted(at, times, side="left")
    return np.asarray(np.cumsum(np.bincount(place, minlength=len(at) + 1)[:-1]))


def _by_chance(arrival_s: F64, came: I64) -> float:
    """Standard deviation of what a busy queue grows by, in roots of the number of arrivals, that come and are served by chance.

    Gaps vary within slices, so that the shape of a day is no chance.
    """
    variations = []
    for first, last in pairwise(came.tolist()):
        gaps = np.diff(arrival_s[first:last])
        if len(gaps) > 1 and (mean := gaps.mean()) > 0:
            variations.append(float(gaps.var() / mean**2))
    return float(np.sqrt(1 + max(float(np.median(variations)), 1.0))) if variations else float(np.sqrt(2))
