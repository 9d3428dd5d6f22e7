"""What an arm is expected to make of one request, from what is predicted of it before it is answered: as weights.

A response is a small regression per arm, fitted on measured attempts (:mod:`ttc_sim.simulation.response_fit`): its chance of a
right answer is logistic, its bill, seconds of a GPU and latency are log-linear in a few features of the request. It knows nothing
of the arm's strategy, so a vote, a cascade or a user's own strategy is predicted like a single attempt. A plan carries its
responses along: what is carried out later is what was planned.
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, model_validator


class Response(BaseModel):
    """Expectations of one arm, as weights of features.

    Args:
        sources: of requests that the arm may serve.
        features: names as :func:`feature` reads them; ranges: least and greatest value of each that was fitted on: beyond
            them a feature counts as its nearest edge.
        correct: weights of the log-odds of a right answer.
        api_cost_usd: weights of the logarithm of the bill of API calls; gpu_s: of the replica seconds at full batch; both left
            out where there are none.
        seconds: weights of the logarithm of the latency without a queue.
        gpu_usd_per_s: what a replica second is charged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[str, ...]
    features: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]
    correct: tuple[float, ...]
    api_cost_usd: tuple[float, ...] | None = None
    gpu_s: tuple[float, ...] | None = None
    seconds: tuple[float, ...]
    gpu_usd_per_s: float = 0.0

    @model_validator(mode="after")
    def _aligned(self) -> Response:
        for name in ("ranges", "correct", "api_cost_usd", "gpu_s", "seconds"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.features):
                raise ValueError(f"{len(self.features)} values in '{name}', one for each feature")
        numbers = [*self.correct, *(self.api_cost_usd or ()), *(self.gpu_s or ()), *self.seconds, self.gpu_usd_per_s]
        if not all(math.isfinite(x) for x in numbers):
            raise ValueError("finite numbers")
        return self
