"""When requests' tokens came: seconds to the first, and for each after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.work import COMPLETED, FAILED, TIMED_OUT, EngineResult, Work
from ttc_sim.scenario import Api, GpuPool


def tokens_in_a_row(work: Work, generated: I64) -> I64:
    """(n,) output tokens that came one after another: stage after stage those of the longest of the samples side by side.

    Args:
        generated: (samples,) tokens of each.
    """
    return sums(greatest(generated, work.sample_start), work.stage_start)


def outlasts_its_client(work: Work, deployments: Sequence[Api | GpuPool]) -> NDArray[np.bool_]:
    """(n,) whether a stage belongs to an endpoint whose calls run to their end though nobody waits for them.

    Their tokens say nothing of how many had come when the client gave up.
    """
    finish = np.array([isinstance(item, Api) and item.on_timeout == "finish" for item in deployments], dtype=np.bool_)
    return np.asarray(greatest(finish[work.deployment], work.stage_start), dtype=np.bool_)


def token_times(result: EngineResult, in_a_row: I64, outlasts: NDArray[np.bool_]) -> tuple[F64, F64]:
    """Seconds of each request to its first token, and for each token after it in the mean; NaN where there is none.

    Of a request that timed out the token that it waited for counts as come when it gave up; one that failed has none.

    Args:
        in_a_row: (n,) as :func:`tokens_in_a_row` has them; outlasts: (n,) as :func:`outlasts_its_client` has it.
    """
    gave_up = result.status == TIMED_OUT
    first_s = np.where(gave_up & np.isnan(result.first_token_s), result.finished_s, result.first_token_s)
    gaps = np.where(gave_up, np.maximum(in_a_row - 1, 1), in_a_row - 1)
    counts = (gaps > 0) & ((result.status == COMPLETED) | (gave_up & ~outlasts))
    rest_s = result.finished_s - result.first_token_s
    first_s = np.where(result.status == FAILED, np.nan, first_s)
    return first_s - result.arrival_s, np.where(counts, rest_s / np.maximum(gaps, 1), np.nan)


def times_of_works(
    result: EngineResult, works: Sequence[Work], deployments: Sequence[Api | GpuPool]
) -> tuple[F64, F64]:
    """The same of works that were offered: of each request those of the one that it came to last."""
    rows, last = np.arange(len(result.arm)), result.arm
    in_a_row = np.stack([tokens_in_a_row(*pair) for pair in zip(works, result.generated_tokens, strict=True)])
    outlasts = np.stack([outlasts_its_client(work, deployments) for work in works])
    return token_times(result, in_a_row[last, rows], outlasts[last, rows])


def greatest(values: NDArray[Any], start: I64) -> NDArray[Any]:
    """The greatest over each of the stretches ``start[i]:start[i + 1]``, none of them empty."""
    return values if len(values) == len(start) - 1 else np.maximum.reduceat(values, start[:-1])


def sums(values: NDArray[Any], start: I64, dtype: type = np.int64) -> NDArray[Any]:
    """Sum over each of the stretches ``start[i]:start[i + 1]``."""
    if len(values) == len(start) - 1:
        return values.astype(dtype)
    upto = np.concatenate([np.zeros(1, dtype=dtype), np.cumsum(values, dtype=dtype)])
    return np.asarray(upto[start[1:]] - upto[start[:-1]])
