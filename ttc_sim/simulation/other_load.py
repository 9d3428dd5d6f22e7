"""What more or less load would do to waits: as other problems, longer or shorter in the mean, would do to everybody's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.work import COMPLETED, Work
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.offering import offer, run_offers
from ttc_sim.simulation.token_times import times_of_works


@dataclass(frozen=True)
class OtherLoad:
    """One run again, with another load; arrays of (m,), a request each.

    Attributes:
        times: the load.
        request: of the run, that each is like.
        status, latency_s, ttft_s, tpot_s: as in the run.
        correct: 1.0 if it was answered, and right; NaN where that is unknown. done: what a budget did to it.
    """

    times: float
    request: I64
    status: NDArray[np.int8]
    latency_s: F64
    ttft_s: F64
    tpot_s: F64
    correct: F64
    done: NDArray[np.int8]


def with_load(model: Model, run: Run, times: float) -> OtherLoad:
    """So many times the requests in the same time, like those of the run and sent to the same arms.

    Raises:
        ValueError: arrivals that wait for answers.
    """
    arrival_s = run.draws.traffic.arrival_s
    n = len(arrival_s)
    at = np.arange(max(int(n * times), 1)) / times
    request = np.minimum(at.astype(np.int64), n - 1)
    offers = offer(model, run.draws, run.arm)
    arrives_s = np.interp(at, np.arange(n), arrival_s)
    works = [replace(_repeated(work, request), arrival_s=arrives_s) for work in offers.works]
    following = None if offers.following is None else offers.following[request]
    budgets = offers.budgets
    if budgets is not None:
        budgets = budgets.of_requests(request, [_stretches(work.stage_start, request)[0] for work in offers.works])
    result = run_offers(model, run.draws, works, following, budgets)
    ttft_s, tpot_s = times_of_works(result, works, model.deployments)
    right = np.stack([one.correct for one in offers.carried])[result.arm, request]
    done = np.zeros(len(request), dtype=np.int8) if result.spending is None else result.spending.done
    correct = np.where(result.status == COMPLETED, right, right * 0.0)
    return OtherLoad(times, request, result.status, result.finished_s - result.arrival_s, ttft_s, tpot_s, correct, done)


def _repeated(work: Work, request: I64) -> Work:
    """The work of these requests, each any number of times."""
    if work.after is not None:
        raise ValueError("requests that wait for answers cannot be repeated")
    stages, stage_start = _stretches(work.stage_start, request)
    samples, sample_start = _stretches(work.sample_start, stages)

    def of(values: NDArray[Any] | None, at: I64) -> Any:
        return None if values is None else values[at]

    return Work(
        arrival_s=work.arrival_s[request],
        stage_start=stage_start,
        deployment=work.deployment[stages],
        prompt_tokens=work.prompt_tokens[stages],
        prefix_id=work.prefix_id[stages],
        sample_start=sample_start,
        reasoning_tokens=work.reasoning_tokens[samples],
        visible_tokens=work.visible_tokens[samples],
        first_token_s=work.first_token_s[samples],
        per_token_s=work.per_token_s[samples],
        backoff=work.backoff[request],
        prefix_tokens=of(work.prefix_tokens, stages),
        needed=of(work.needed, stages),
        priority=of(work.priority, request),
        breaks=of(work.breaks, stages),
        again_s=None if work.again_s is None else work.again_s[:, :, samples],
    )


def _stretches(start: I64, chosen: I64) -> tuple[I64, I64]:
    """Positions of the stretches ``start[i]:start[i + 1]`` of those chosen, one after another, and where each begins."""
    size = np.diff(start)[chosen]
    begins = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    return np.repeat(start[:-1][chosen] - begins[:-1], size) + np.arange(begins[-1]), begins
