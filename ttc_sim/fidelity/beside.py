"""What every comparison of measured with predicted times needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TypeVar

from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Counting, Progress, silent
from ttc_sim.scenario import LinearStepTime
from ttc_sim.serving.catalogue import Served
from ttc_sim.serving.operator_store import operator_times
from ttc_sim.serving.operators import OperatorTimes

Found = TypeVar("Found")

ANY_STEP = LinearStepTime(base_s=1.0, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0)
"""Of pools whose step times are handed to the engine beside them."""


def pair(measured: float, predicted: float) -> dict[str, float | None]:
    """A figure measured and predicted, and the error in percent of the measured one; ``None`` where that is 0."""
    error = (predicted / measured - 1) * 100 if measured else None
    return {"measured": measured, "predicted": predicted, "error_percent": error}


def may_be_fitted_to(name: str) -> bool:
    """Whether anything may be fitted to the point of this id: where its SHA-256 ends in an odd byte. The others are withheld."""
    return sha256(name.encode()).digest()[-1] % 2 == 1


def by_server(
    points: Sequence[Served],
    at: Callable[[Served, OperatorTimes, list[int]], Callable[[int], Found | str]],
    progress: Progress = silent,
    workers: int = 2,
) -> list[Found | str]:
    """What is found at each point, server by server, in the order of points; or the reason why nothing is.

    Args:
        points: what each was measured at.
        at: of a server, the times of its operators and the indices of its points, a function of such an index.
        progress: told what is being done.
        workers: threads; what comes out does not depend on them.
    """
    groups: dict[Served, list[int]] = {}
    for i, served in enumerate(points):
        groups.setdefault(served, []).append(i)
    out: list[Found | str] = ["" for _ in points]
    with ThreadPoolExecutor(workers) as pool:
        tell, done = Counting(progress, "simulating", len(points), "points"), 0
        for served, members in groups.items():
            tell.about(f"{served.model} on {served.gpus} {served.gpu}")
            try:
                times = operator_times(served)
            except InputError as error:
                for i in members:
                    out[i] = error.expected
                tell(done := done + len(members))
                continue
            for i, found in zip(members, pool.map(at(served, times, members), members), strict=True):
                out[i] = found
                tell(done := done + 1)
    return out


def no_room(held: int, longest: int) -> str:
    """Why a request of so many tokens cannot be simulated beside a KV cache of so many."""
    return f"a KV cache of {held} tokens is left beside the weights, {longest} are needed"
