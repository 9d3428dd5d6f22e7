"""What more or less load would do to waits: as other problems, longer or shorter in the mean, would do to everybody's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.work import COMPLETED
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.gathering import gathered, stretches
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.offering import Offers, offer, run_offers
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
    if run.draws.traffic.after is not None:
        raise ValueError("requests that wait for answers cannot be repeated")
    offers, memory = offer(model, run.draws, run.arm), run.draws.memory
    if memory is None or offers.following is not None or offers.budgets is not None:
        return _with_load(model, run, offers, times)
    kept: OtherLoad = memory.ran(model, offers.works, times, lambda: _with_load(model, run, offers, times))
    return kept


def _with_load(model: Model, run: Run, offers: Offers, times: float) -> OtherLoad:
    arrival_s, draws = run.draws.traffic.arrival_s, replace(run.draws, memory=None)
    n = len(arrival_s)
    at = np.arange(max(int(n * times), 1)) / times
    request = np.minimum(at.astype(np.int64), n - 1)
    arrives_s = np.interp(at, np.arange(n), arrival_s)
    works = [replace(gathered(work, request), arrival_s=arrives_s) for work in offers.works]
    following = None if offers.following is None else offers.following[request]
    budgets = offers.budgets
    if budgets is not None:
        budgets = budgets.of_requests(request, [stretches(work.stage_start, request)[0] for work in offers.works])
    result = run_offers(model, draws, works, following, budgets)
    ttft_s, tpot_s = times_of_works(result, works, model.deployments)
    right = np.stack([one.correct for one in offers.carried])[result.arm, request]
    done = np.zeros(len(request), dtype=np.int8) if result.spending is None else result.spending.done
    correct = np.where(result.status == COMPLETED, right, right * 0.0)
    return OtherLoad(times, request, result.status, result.finished_s - result.arrival_s, ttft_s, tpot_s, correct, done)
