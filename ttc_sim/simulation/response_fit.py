"""Fit what each arm is expected to make of a request, from what it made of the measured problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.special import expit

from ttc_sim.base.draws import F64, I64
from ttc_sim.policies import DIFFICULTY, NOVELTY, Policy, Requests
from ttc_sim.policies.predicted import design
from ttc_sim.policies.responses import Response
from ttc_sim.scenario import GpuPool
from ttc_sim.simulation.expectations import Expectations, expect_arms
from ttc_sim.simulation.expected_times import expected_seconds, first_guess
from ttc_sim.simulation.model import Model

# Strength of the pull of each weight to what it would be if the predictor alone were believed, in problems.
RIDGE = 3.0
_STEPS = 30


def with_responses(model: Model, policy: Policy) -> Model:
    """The model with responses fitted on its own problems, where the policy needs them and the scenario gives none."""
    if not policy.uses_responses or model.population is None or model.population.responses is not None:
        return model
    expectations = expect_arms(model)
    responses = fit_responses(expectations, expected_seconds(expectations, first_guess(model)))
    return replace(model, population=replace(model.population, responses=responses))


def fit_responses(
    expectations: Expectations,
    seconds: F64,
    weight: F64 | None = None,
    gpu_usd_per_s: Mapping[int, float] | None = None,
) -> dict[str, Response]:
    """A response for every arm.

    Args:
        expectations: what each arm makes of each problem.
        seconds: (V, P) expected latency, queue left aside.
        weight: (P,) of each problem; the population's if left out. A problem with weight 0 is not fitted on.
        gpu_usd_per_s: by deployment, what a replica second is charged; if left out, what a replica costs.
    """
    population = expectations.population
    requests = population.as_requests()
    weight = population.weight if weight is None else weight
    prices = gpu_price(expectations.model) if gpu_usd_per_s is None else gpu_usd_per_s
    made: dict[str, F64] = {}
    responses = {}
    for v, arm in enumerate(expectations.model.arms):
        rows = np.flatnonzero(expectations.offered[v][population.source] & (weight > 0))
        if not len(rows):
            continue
        names = features(expectations.model, v, requests)
        table = design(names, requests, made)[rows]
        w = weight[rows] * len(rows) / weight[rows].sum()
        own = np.array([float(name == f"logit p:{arm.attempts.name}") if arm.attempts else 0.0 for name in names])

        def weights(
            values: F64,
            kind: Literal["logistic", "log"],
            prior: F64,
            rows: I64 = rows,
            table: F64 = table,
            w: F64 = w,
        ) -> tuple[float, ...] | None:
            y = values[rows]
            if not (y > 0).any():
                return None if kind == "log" else _rounded(-10.0 * (np.arange(table.shape[1]) == 0))
            return _rounded(regress(table, y, w, kind, prior))

        none = np.zeros(len(names))
        bill, gpu_s = weights(expectations.api_cost_usd[v], "log", none), weights(expectations.gpu_s[v], "log", none)
        correct, took = weights(expectations.correct[v], "logistic", own), weights(seconds[v], "log", none)
        assert correct is not None
        assert took is not None
        responses[arm.name] = Response(
            sources=arm.sources,
            features=names,
            ranges=tuple(
                (float(f"{low:.6g}"), float(f"{high:.6g}"))
                for low, high in zip(table.min(0), table.max(0), strict=True)
            ),
            correct=correct,
            api_cost_usd=bill,
            gpu_s=gpu_s,
            seconds=took,
            gpu_usd_per_s=0.0 if gpu_s is None else float(f"{prices.get(arm.deployment, 0.0):.6g}"),
        )
    return responses


def features(model: Model, v: int, requests: Requests) -> tuple[str, ...]:
    """What is known of a request that bears on one arm: the source, its prompt, and the scores of the models it runs."""
    arm = model.arms[v]
    assert arm.attempts is not None
    others = [model.arms[model.arm_names.index(name)].attempts for name in arm.strategy.other_arms]
    names = ["1", *(f"source {source}" for source in arm.sources[1:]), "log prompt_tokens"]
    scored = [f"logit {DIFFICULTY}"] if DIFFICULTY in requests.scores else []
    for profile in dict.fromkeys([arm.attempts.name, *(other.name for other in others if other is not None)]):
        scored += [f"logit {name}" for name in (f"p:{profile}",) if name in requests.scores]
        names += [f"log {name}" for name in (f"tokens:{profile}",) if name in requests.scores]
        cap = arm.strategy.attempt_cap
        known = all(f"{tokens}:{profile}" in requests.scores for tokens in ("tokens_p50", "tokens_p90"))
        if cap is not None and known:
            names.append(f"within {cap} {profile}")
    if NOVELTY in requests.scores:
        names.append(NOVELTY)
    return (*names, *scored)


def gpu_price(model: Model) -> dict[int, float]:
    """By deployment, US dollars that a replica second costs when pools are loaded as far as they may be."""
    most = model.scenario.search.utilization
    return {d: pool.hourly_usd / 3600 / most for d, pool in enumerate(model.deployments) if isinstance(pool, GpuPool)}


def _rounded(weights: F64) -> tuple[float, ...]:
    return tuple(float(f"{x:.6g}") for x in weights)


def regress(table: F64, y: F64, weight: F64, kind: Literal["logistic", "log"], prior: F64) -> F64:
    """Weights of a logistic (shares from 0 to 1) or log-linear (at least 0) regression, by Newton's method.

    The log-linear one is quasi-Poisson, so that over the rows fitted on, the sum of what is expected equals that of ``y``.

    Args:
        table: (n, k) features, the first constant.
        y: (n,) values; weight: (n,) of the rows, 1 on average.
        prior: (k,) weights that the ridge pulls to; the constant is left free.

    >>> x = np.array([[1.0, 0.0], [1.0, 1.0]] * 50)
    >>> regress(x, np.exp(1 + x[:, 1]), np.ones(100), "log", np.zeros(2)).round(1).tolist()
    [1.1, 0.9]
    """
    center, scale = table.mean(axis=0), table.std(axis=0)
    center[0], scale[0] = 0.0, 1.0
    alive = scale > 1e-9  # a feature that does not vary says nothing
    scale = np.where(alive, scale, 1.0)
    x = (table - center) / scale * alive
    unit = 1.0 if kind == "logistic" else float(np.average(y, weights=weight))
    target = y / unit
    pull = np.full(table.shape[1], RIDGE)
    pull[0] = 1e-6
    toward = prior * scale * alive
    beta = toward.copy()
    if kind == "logistic":
        mean = float(np.clip(np.average(y, weights=weight), 1e-4, 1 - 1e-4))
        beta[0] = np.log(mean / (1 - mean))
    for _ in range(_STEPS):
        eta = np.clip(x @ beta, -30, 30)
        expected = expit(eta) if kind == "logistic" else np.exp(eta)
        slope = expected * (1 - expected) if kind == "logistic" else expected
        gradient = x.T @ (weight * (target - expected)) - pull * (beta - toward)
        step = np.linalg.solve((x.T * (weight * slope)) @ x + np.diag(pull + 1e-9), gradient)
        beta = beta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    raw: F64 = beta / scale * alive
    raw[0] = beta[0] - float(center @ raw) + np.log(unit)
    return raw
