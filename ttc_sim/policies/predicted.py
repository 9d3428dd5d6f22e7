"""Responses at work: features of requests, and what each arm is expected to make of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.policies.requests import Requests
from ttc_sim.policies.responses import Response

_Z90 = 1.2815515655446004  # standard normal 90th percentile


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

    def value(self, price_of_accuracy: float, price_of_second: float) -> F64:
        """(n,) US dollars that the arm is worth for each request, at these prices of a right answer and of a second."""
        cost_usd = self.api_cost_usd + self.gpu_usd_per_s * self.gpu_s
        worth: F64 = price_of_accuracy * self.correct - cost_usd - price_of_second * self.seconds
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
        low, high = np.array(response.ranges).T
        np.minimum(np.maximum(table, low, out=table), high, out=table)
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
        "logit": lambda: np.asarray(logit(np.clip(requests.score(rest, "responses"), 0.005, 0.995))),
        "log": lambda: _log_tokens(requests, rest),
        "novelty": lambda: requests.score("novelty", "responses"),
    }
    if kind not in readings:
        raise InputError("responses", "features", name, "a feature such as 'logit difficulty' or 'log prompt_tokens'")
    return readings[kind]()


def _log_tokens(requests: Requests, name: str) -> F64:
    tokens: F64 = np.log(np.maximum(requests.score(name, "responses"), 1.0))
    return tokens
