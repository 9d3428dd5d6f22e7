"""What an arm is expected to make of one request, from what is predicted of it before it is answered.

A response is a small regression per arm, fitted on measured attempts (:mod:`ttc_sim.optimizer.fit`): its chance of a right
answer is logistic, its bill, seconds of a GPU and latency are log-linear in a few features of the request. It knows nothing of
the arm's strategy, so a vote, a cascade or a user's own strategy is predicted like a single attempt. A plan carries its
responses along: what is carried out later is what was planned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator
from scipy.special import expit, logit, ndtr

from ttc_sim.draws import F64
from ttc_sim.errors import InputError, nearest

if TYPE_CHECKING:
    from ttc_sim.policies import Requests, Utility

_Z90 = 1.2815515655446004  # standard normal 90th percentile


class Response(BaseModel):
    """Expectations of one arm, as weights of features.

    Args:
        sources: of requests that the arm may serve.
        features: names as :func:`feature` reads them; ``ranges``: least and greatest value of each that was fitted on: beyond
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


@dataclass(frozen=True)
class Predicted:
    """Expectations of one arm for ``n`` requests, arrays of (n,).

    Attributes:
        arm: its index; offered: whether it may serve the request's source; the others are undefined where it may not.
        correct: chance of a right answer, 0 to 1.
        api_cost_usd: bill of API calls; gpu_s: replica seconds, each charged ``gpu_usd_per_s``.
        seconds: latency.
    """

    arm: int
    offered: NDArray[np.bool_]
    correct: F64
    api_cost_usd: F64
    gpu_s: F64
    seconds: F64
    gpu_usd_per_s: float

    def value(self, utility: Utility) -> F64:
        """(n,) US dollars that the arm is worth for each request."""
        cost_usd = self.api_cost_usd + self.gpu_usd_per_s * self.gpu_s
        worth: F64 = utility.price_of_accuracy * self.correct - cost_usd - utility.price_of_second * self.seconds
        return worth


def predict(responses: Mapping[str, Response], requests: Requests, arms: Sequence[str]) -> Iterator[Predicted]:
    """Expectations of each of the arms that has a response, in their order.

    Raises:
        InputError: a score that the responses were fitted on is not among the requests' scores.
    """
    made: dict[str, F64] = {}
    for index, name in enumerate(arms):
        response = responses.get(name)
        if response is None:
            continue
        table = design(response.features, requests, made)
        for column, (low, high) in zip(table.T, response.ranges, strict=True):
            np.clip(column, low, high, out=column)
        serves = np.array([source in response.sources for source in requests.sources])
        yield Predicted(
            arm=index,
            offered=serves[requests.source],
            correct=expit(table @ np.array(response.correct)),
            api_cost_usd=_exp(table, response.api_cost_usd),
            gpu_s=_exp(table, response.gpu_s),
            seconds=_exp(table, response.seconds),
            gpu_usd_per_s=response.gpu_usd_per_s,
        )


def _exp(table: F64, weights: tuple[float, ...] | None) -> F64:
    return np.zeros(len(table)) if weights is None else np.exp(table @ np.array(weights))


def design(features: Sequence[str], requests: Requests, made: dict[str, F64]) -> F64:
    """(n, features) values; those in ``made`` are not worked out again."""
    for name in features:
        if name not in made:
            made[name] = feature(name, requests)
    return np.stack([made[name] for name in features], axis=1)


def feature(name: str, requests: Requests) -> F64:
    """One feature of each request, (n,).

    ``1``; ``source NAME``: 1 for its requests; ``novelty``; ``log prompt_tokens``; ``logit SCORE``: log-odds of a predicted
    chance; ``log SCORE``: of predicted tokens; ``within CAP MODEL``: chance that the model's predicted tokens stay below a cap.

    Raises:
        InputError: a feature that is not known, or that the requests have no score for.
    """
    kind, _, rest = name.partition(" ")
    if name == "1":
        return np.ones(len(requests))
    if kind == "source":
        served = np.array([source == rest for source in requests.sources], dtype=np.float64)
        return np.asarray(served[requests.source])
    if name == "log prompt_tokens":
        return np.asarray(np.log(np.maximum(requests.prompt_tokens, 1)))
    if kind == "within":
        cap, _, model = rest.partition(" ")
        middle, high = (_log_tokens(requests, f"{tokens}:{model}") for tokens in ("tokens_p50", "tokens_p90"))
        return np.asarray(ndtr((math.log(int(cap)) - middle) / np.maximum((high - middle) / _Z90, 0.05)))
    readings: dict[str, Callable[[], F64]] = {
        "logit": lambda: np.asarray(logit(np.clip(_score(requests, rest), 0.005, 0.995))),
        "log": lambda: _log_tokens(requests, rest),
        "novelty": lambda: _score(requests, "novelty"),
    }
    if kind not in readings:
        raise InputError("responses", "features", name, "a feature such as 'logit difficulty' or 'log prompt_tokens'")
    return readings[kind]()


def _log_tokens(requests: Requests, name: str) -> F64:
    tokens: F64 = np.log(np.maximum(_score(requests, name), 1.0))
    return tokens


def _score(requests: Requests, name: str) -> F64:
    if name not in requests.scores:
        raise InputError("responses", "score", name, nearest(name, requests.scores))
    return requests.scores[name]
