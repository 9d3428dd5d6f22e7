"""How long each arm is expected to take for each problem, and how often too long, queue left aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from ttc_sim.base.draws import F64, I64
from ttc_sim.scenario import Api
from ttc_sim.serving.step_time import step_seconds
from ttc_sim.simulation.expectations import Expectations, spread_out
from ttc_sim.simulation.model import Model, deployment_of, spread

# Equally likely points of the two log-normal times of an API call, first token and further tokens.
_POINTS = ndtri((np.arange(8) + 0.5) / 8)


@dataclass(frozen=True)
class Waiting:
    """Times that a GPU pool's own queue and batch give a request, as seen in the last simulation."""

    first_token_s: float
    per_token_s: float


def late_share(expectations: Expectations, limits_s: F64, waiting: Mapping[str, Waiting]) -> F64:
    """Chance that a request takes longer than each limit, queue left aside: (limits, V, P); NaN where not offered.

    API times follow their log-normal laws; a pool's first token and token times are those last seen in simulation.
    A second answer, at index ``limits``, is the chance to run into the deployment's timeout: shape (limits + 1, V, P).
    """
    model = expectations.model
    out = np.full((len(limits_s) + 1, *expectations.correct.shape), np.nan)
    for index in range(len(model.arms)):
        rows, owner, took, timeout = _times(expectations, index, waiting)
        weight = 1.0 / np.maximum(np.bincount(owner, minlength=len(rows)), 1)
        for k, limit in enumerate([*limits_s, timeout]):
            out[k, index, rows] = np.bincount(owner, (took > limit).mean(axis=0), minlength=len(rows)) * weight
    return out


def expected_seconds(expectations: Expectations, waiting: Mapping[str, Waiting]) -> F64:
    """Expected latency, queue left aside and no longer than the timeout: (V, P); NaN where not offered."""
    out = np.full(expectations.correct.shape, np.nan)
    for index in range(len(expectations.model.arms)):
        rows, owner, took, timeout = _times(expectations, index, waiting)
        weight = 1.0 / np.maximum(np.bincount(owner, minlength=len(rows)), 1)
        mean = np.minimum(took, timeout).mean(axis=0)
        out[index, rows] = np.bincount(owner, mean, minlength=len(rows)) * weight
    return out


def _times(expectations: Expectations, index: int, waiting: Mapping[str, Waiting]) -> tuple[I64, I64, F64, float]:
    """Of one arm: its problems, equally weighted ways that each may go (the position of its problem), how long each way takes at
    equally likely speeds of the deployment, (speeds, ways) seconds, and the deployment's timeout."""
    model = expectations.model
    rows = np.flatnonzero(expectations.offered[index][expectations.population.source])
    owner, outcome = spread_out(model, model.arms[index], rows)
    # Stages follow one another; each lasts until the last sample that it needs. All are as fast or slow as the first.
    took = np.zeros((len(_POINTS) ** 2, len(owner)))
    timeout = np.inf
    for stage in outcome.stages:
        at = deployment_of(model, model.arms[index], stage)
        hidden, shown = stage.cut_tokens
        tokens = (hidden + shown).max(axis=1).astype(np.float64)
        deployment = model.deployments[at]
        if isinstance(deployment, Api):
            first = deployment.first_token.median_s * np.exp(spread(deployment.first_token) * _POINTS)
            rest = deployment.per_token.median_s * np.exp(spread(deployment.per_token) * _POINTS)
        else:
            seen = waiting[model.deployment_names[at]]
            first, rest = np.full(len(_POINTS), seen.first_token_s), np.full(len(_POINTS), seen.per_token_s)
        times = np.repeat(first, len(_POINTS))[:, None] + np.tile(rest, len(_POINTS))[:, None] * (tokens - 1)
        took += np.where(stage.runs, times, 0.0)
        timeout = min(timeout, np.inf if deployment.timeout_s is None else deployment.timeout_s)
    return rows, owner, took, timeout


def first_guess(model: Model) -> dict[str, Waiting]:
    """Per GPU pool, times of a half-full batch of a thousand tokens each, before anything has been simulated."""
    found = {}
    for name, table in zip(model.deployment_names, model.step_tables, strict=True):
        if table is not None:
            batch, prompt = max((len(table.decode_s) - 1) // 2, 1), min(1000, len(table.dense_s) - 1)
            per_token = step_seconds(table, 0, 0.0, batch, 1000 * batch, batch)
            first = per_token + step_seconds(table, prompt, prompt**2 / 2, 0, 0, 1)
            found[name] = Waiting(first_token_s=first, per_token_s=per_token)
    return found
