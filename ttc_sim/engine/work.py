"""What an engine takes and gives: flat arrays, the same for both engines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_sim.draws import F64, I64

COMPLETED, REJECTED, TIMED_OUT, IN_FLIGHT = 0, 1, 2, 3
STATUS_NAMES = ("completed", "rejected", "timed_out", "in_flight")


@dataclass(frozen=True)
class Work:
    """All that the engines need to know of ``n`` requests: stages in order, each of parallel samples.

    A request's stages run one after another; the samples of a stage start together, share their prompt, and the
    stage ends with the last of them.

    Attributes:
        arrival_s: (n,) seconds, not decreasing.
        stage_start: (n + 1,) stages of request ``i`` are ``stage_start[i]:stage_start[i + 1]``.
        deployment: (stages,) index into the system's deployments.
        prompt_tokens: (stages,) tokens of the prompt, at least 1.
        prefix_id: (stages,) shared prefix, or -1.
        sample_start: (stages + 1,) samples of stage ``k`` are ``sample_start[k]:sample_start[k + 1]``.
        reasoning_tokens: (samples,) hidden output; visible_tokens: (samples,) the rest. Their sum is at least 1.
        first_token_s: (samples,) drawn time to first token, used by API endpoints only.
        per_token_s: (samples,) drawn time per further token, used by API endpoints only.
        backoff: (n, retries) uniform draws for the jitter of the client's backoff.
    """

    arrival_s: F64
    stage_start: I64
    deployment: I64
    prompt_tokens: I64
    prefix_id: I64
    sample_start: I64
    reasoning_tokens: I64
    visible_tokens: I64
    first_token_s: F64
    per_token_s: F64
    backoff: F64

    @property
    def requests(self) -> int:
        """Number of requests."""
        return len(self.arrival_s)

    @property
    def samples(self) -> int:
        """Number of samples over all requests."""
        return len(self.reasoning_tokens)


@dataclass(frozen=True)
class EngineResult:
    """What happened, per request and per sample; times in seconds on the clock of ``arrival_s``, NaN = never.

    Attributes:
        status: (n,) ``COMPLETED``, ``REJECTED``, ``TIMED_OUT`` or ``IN_FLIGHT`` (the run was ended before it was).
        arm: (n,) which of the offered works was carried out.
        started_s: (n,) first scheduled on a server or accepted by an endpoint.
        first_token_s: (n,) first generated token, reasoning included.
        finished_s: (n,) last token, or the moment of rejection or timeout.
        retries: (n,) repeated calls after a 429.
        generated_tokens: per offered work, (samples,) output tokens that the server generated, so that are billed.
        prefilled_tokens: per offered work, (stages,) prompt tokens that were taken in, so that are billed.
        busy_s: (deployments,) seconds with at least one sequence in progress, summed over replicas.
        end_s: clock at the end of the run.
    """

    status: NDArray[np.int8]
    arm: I64
    started_s: F64
    first_token_s: F64
    finished_s: F64
    retries: I64
    generated_tokens: tuple[I64, ...]
    prefilled_tokens: tuple[I64, ...]
    busy_s: F64
    end_s: float
