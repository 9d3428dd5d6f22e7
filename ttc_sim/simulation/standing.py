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
_LOST = 0.05  # of the requests of a slice, turned away because of the load
_CHANCE = 4.0  # standard deviations of what arrives and is served by chance


@dataclass(frozen=True)
class Verdict:
    """How one deployment, or all of them, stood up to the load.

    Attributes:
        verdict: ``stable``; ``backlogged``: it fell behind, and caught up within the run; or, of arrivals that go on as they are,
            it would in the long run; ``overloaded``: more is sent to it than it can serve.
        longest_wait_s: longest time that a request waited to be begun, or to be given up or rejected.
    """

    verdict: Word
    longest_wait_s: float


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
    in_time = 2 * taken.alone_s < timeout_s[taken.last]
    late = (result.status == TIMED_OUT) & (never | in_time)
    rejected = (result.status == REJECTED) & (taken.longest_tokens - 1 <= _most_tokens(model, "held")[taken.last])
    rejected &= taken.asked_tokens <= _most_tokens(model, "asked")[taken.last]
    served = _Served(
        first=taken.first,
        last=taken.last,
        arrival_s=result.arrival_s,
        begun_s=np.where(never, result.finished_s, result.started_s),
        left_s=result.finished_s,
        alone_s=taken.alone_s,
        completed=result.status == COMPLETED,
        lost=late | rejected,
    )
    at = np.union1d(taken.first, taken.last).tolist()
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

    ``first`` is the deployment of the first stage, ``last`` that of the last one that the request came to; it was begun (or given
    up), and left: answered, rejected or given up. ``lost`` are those turned away because of the load.
    """

    first: I64
    last: I64
    arrival_s: F64
    begun_s: F64
    left_s: F64
    alone_s: F64
    completed: NDArray[np.bool_]
    lost: NDArray[np.bool_]


def worst(found: Mapping[str, Verdict]) -> Verdict:
    """Of all deployments together."""
    words = [WORDS.index(one.verdict) for one in found.values()]
    waits = [one.longest_wait_s for one in found.values()]
    return Verdict(WORDS[max(words, default=0)], max(waits, default=0.0))


def over_runs(found: Sequence[Mapping[str, Standing]]) -> dict[str, Verdict]:
    """The verdict that at least half of the runs agree on or exceed, by deployment."""
    out = {}
    for name in dict.fromkeys(name for run in found for name in run):
        words = sorted((WORDS.index(run[name].verdict) if name in run else 0) for run in found)
        waits = [run[name].longest_wait_s for run in found if name in run]
        out[name] = Verdict(WORDS[words[len(words) // 2]], max(waits))
    return out


def _standing(served: _Served, d: int, process: str, rate_per_s: float) -> Standing:
    queued, kept = served.first == d, served.last == d
    here = queued | kept
    arrival_s = np.sort(served.arrival_s[here])
    start_s, end_s = float(arrival_s[0]), float(arrival_s[-1])
    overdue_s = served.begun_s + 2 * served.alone_s
    late = kept & (overdue_s < served.left_s)
    edges = np.linspace(start_s, end_s, min(max(len(arrival_s) // _LEAST, 1), _SLICES) + 1)

    def upto(times: F64, at: F64) -> I64:
        return np.searchsorted(np.sort(times), at, side="right")

    def waiting_at(at: F64) -> I64:
        unbegun = upto(served.arrival_s[queued], at) - upto(served.begun_s[queued], at)
        return unbegun + upto(overdue_s[late], at) - upto(served.left_s[late], at)

    came, waiting = upto(arrival_s, edges), waiting_at(edges)
    came[0] = waiting[0] = 0  # before the first
    chance = _chance(arrival_s, came)
    i, j = np.triu_indices(len(edges), 1)
    room = np.maximum(_LOST * (came[j] - came[i]), chance * np.sqrt(came[j] - came[i]))
    grown = (waiting[j] - waiting[i] > room) & (process != "closed_loop")
    slice_of = np.clip(np.searchsorted(edges, served.arrival_s[here], side="left") - 1, 0, len(edges) - 2)
    lost = np.bincount(slice_of, weights=served.lost[here], minlength=len(edges) - 1)
    lossy = lost > np.maximum(_LOST * np.diff(came), 2)
    tail = max(len(lossy) // 10, 1)
    lossy_end = bool(lost[-tail:].sum() > max(_LOST * (came[-1] - came[-1 - tail]), 2))
    high_end = bool(grown[j == len(edges) - 1].any() and 2 * waiting[-1] >= waiting.max())
    behind = lossy_end or high_end
    waits = np.where(queued, served.begun_s - served.arrival_s, served.left_s - served.begun_s - served.alone_s)[here]
    half = waiting_at(np.array([(start_s + end_s) / 2]))[0]
    grew = high_end and waiting[-1] - half > max(_LOST * len(arrival_s) / 2, chance * np.sqrt(len(arrival_s) / 2))
    growth = float(waiting[-1] - half) / ((end_s - start_s) / 2) if grew and end_s > start_s else 0.0

    def would_catch_up() -> bool:
        """Whether less comes in the long run than was answered while it was behind, or the load is over with its last request."""
        if process == "trace":
            # What takes a tenth of the time to come that it takes to be answered is a burst, whatever came before it.
            return float(served.left_s[here].max()) - end_s > 9 * (end_s - start_s)
        if process == "closed_loop" or end_s <= start_s:
            return False
        calm = np.flatnonzero(~lossy)
        since = int(calm[-1] + 1 if len(calm) else 0) if lossy_end else int(waiting[:-1].argmin())
        since = min(since, len(edges) - 2)
        done = served.left_s[here & served.completed]
        carried = float(((done > edges[since]) & (done <= end_s)).sum()) / (end_s - float(edges[since]))
        return rate_per_s * float(here.mean()) < 0.95 * carried

    word: Word = "stable"
    if lossy.any() or grown.any():
        word = "overloaded" if behind and not would_catch_up() else "backlogged"
    return Standing(word, max(float(waits.max()), 0.0), behind, growth)


def _chance(arrival_s: F64, came: I64) -> float:
    """By how many roots of the number of arrivals a busy queue may grow by chance: as the gaps within slices vary, and service."""
    variations = []
    for first, last in pairwise(came.tolist()):
        gaps = np.diff(arrival_s[first:last])
        if len(gaps) > 1 and gaps.mean() > 0:
            variations.append(float(gaps.var() / gaps.mean() ** 2))
    return _CHANCE * float(np.sqrt(1 + max(float(np.median(variations)), 1.0) if variations else 2.0))
