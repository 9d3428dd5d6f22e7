"""How long each arm is expected to take for each problem, and how often too long, queue left aside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from ttc_sim.base.draws import F64, I64
from ttc_sim.scenario import Api, GpuPool, Latency
from ttc_sim.serving.step_time import step_seconds
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.simulation.model import Model, spread

_SURE = 1e-9  # a probability that is none
_CELLS = np.linspace(0.0, 1.0, 9)  # equally likely ranges of each of the two log-normal times of an API call


@dataclass(frozen=True)
class Waiting:
    """Times that a GPU pool's own queue and batch give a request, as seen in the last simulation."""

    first_token_s: float
    per_token_s: float


@dataclass(frozen=True)
class Most:
    """Most seconds that a request may take; ``answered``: and it must not run into the deployment's timeout."""

    latency_s: float = np.inf
    ttft_s: float = np.inf
    tpot_s: float = np.inf
    answered: bool = False


def late_share(expectations: Expectations, limits_s: F64, waiting: Mapping[str, Waiting]) -> F64:
    """Chance that a request takes longer than each limit, queue left aside: (limits, V, P); NaN where not offered.

    API times follow their log-normal laws; a pool's first token and token times are those last seen in simulation.
    A second answer, at index ``limits``, is the chance to run into the deployment's timeout: shape (limits + 1, V, P).
    """
    limits = [*(Most(latency_s=float(limit)) for limit in limits_s), Most(answered=True)]
    return broken_share(expectations, [[limit] * len(expectations.population.sources) for limit in limits], waiting)


def broken_share(
    expectations: Expectations,
    limits: Sequence[Sequence[Most | None]],
    waiting: Mapping[str, Waiting],
    only: Collection[int] | None = None,
) -> F64:
    """Chance that a request breaks each limit, queue left aside: (limits, V, P); NaN where not offered.

    Args:
        limits: each by source; ``None``: requests of that source break it never.
        only: arms that it is worked out of; of the others it is NaN then.
    """
    out = np.full((len(limits), *expectations.correct.shape), np.nan)
    asked = {most for by_source in limits for most in by_source if most is not None}
    first_s, rest_s = (sorted({getattr(one, name) for one in asked} - {np.inf}) for name in ("ttft_s", "tpot_s"))
    for index in range(len(expectations.model.arms)) if only is None else sorted(only):
        rows, owner, times = _times(expectations, index, waiting, first_s, rest_s)
        source = expectations.population.source[rows]
        weight = 1.0 / np.maximum(np.bincount(owner, minlength=len(rows)), 1)
        for k, by_source in enumerate(limits):
            broken = np.zeros(len(rows))
            for most in dict.fromkeys(one for one in by_source if one is not None):
                share = np.bincount(owner, times.mean(times.broken(most)), minlength=len(rows)) * weight
                here = np.isin(source, [s for s, one in enumerate(by_source) if one == most])
                broken = np.where(here, share, broken)
            out[k, index, rows] = broken
    return out


def expected_seconds(expectations: Expectations, waiting: Mapping[str, Waiting]) -> F64:
    """Expected latency, queue left aside and no longer than the timeout: (V, P); NaN where not offered."""
    out = np.full(expectations.correct.shape, np.nan)
    for index in range(len(expectations.model.arms)):
        rows, owner, times = _times(expectations, index, waiting)
        weight = 1.0 / np.maximum(np.bincount(owner, minlength=len(rows)), 1)
        mean = times.mean(np.minimum(times.took_s, times.timeout_s))
        out[index, rows] = np.bincount(owner, mean, minlength=len(rows)) * weight
    return out


@dataclass(frozen=True)
class _Ways:
    """How long one arm takes, (speeds, ways) seconds: to the last token and to the first; ``tokens``, (ways,), that come after it
    one after another; the deployment's timeout; and ``weight``, (speeds,), how likely each speed is."""

    weight: F64
    took_s: F64
    first_s: F64
    tokens: F64
    timeout_s: float

    def mean(self, values: NDArray[Any]) -> F64:
        """Over the speeds, of each way."""
        return np.asarray(self.weight @ values)

    def broken(self, most: Most) -> NDArray[np.bool_]:
        """Which of them break a limit; one that times out takes as long as its client waits."""
        late = np.zeros(self.took_s.shape, dtype=np.bool_)
        took_s = np.minimum(self.took_s, self.timeout_s) if np.isfinite(most.ttft_s + most.tpot_s) else self.took_s
        if np.isfinite(most.latency_s):
            late |= self.took_s > most.latency_s
        if np.isfinite(most.ttft_s):
            late |= np.minimum(self.first_s, self.timeout_s) > most.ttft_s
        if np.isfinite(most.tpot_s):
            late |= (took_s - self.first_s) > most.tpot_s * np.maximum(self.tokens, 1)
        return late | (self.took_s > self.timeout_s) if most.answered else late


def _cells(times: Sequence[Latency], limits_s: Sequence[float]) -> tuple[F64, F64]:
    """Standard normal points of log-normal times, and how likely each is: none stands for times on both sides of a limit."""
    if not times:
        return np.zeros(1), np.ones(1)
    limits = np.array(limits_s)
    edges = [ndtr(np.log(limits / one.median_s) / spread(one)) for one in times if spread(one) > 0]
    between = np.concatenate([np.zeros(0), *edges])
    cells = np.unique(np.concatenate([_CELLS, between[(between > _SURE) & (between < 1 - _SURE)]]))
    return ndtri((cells[1:] + cells[:-1]) / 2), np.diff(cells)


def _times(
    expectations: Expectations,
    index: int,
    waiting: Mapping[str, Waiting],
    first_limits_s: Sequence[float] = (),
    rest_limits_s: Sequence[float] = (),
) -> tuple[I64, I64, _Ways]:
    """Of one arm: its problems, equally weighted ways that each may go (the position of its problem), and how long each way takes
    at some speeds of the deployment.

    Args:
        first_limits_s, rest_limits_s: seconds to the first token, and for each further one, that speeds must tell apart.
    """
    ways = expectations.ways(index)
    deployments = [expectations.model.deployments[at] for at in ways.deployments]
    # Stages follow one another; each lasts until the last sample that it needs. All are as fast or slow as the first.
    apis = [item for item in deployments if isinstance(item, Api)]
    first_z, first_weight = _cells([item.first_token for item in apis], first_limits_s)
    rest_z, rest_weight = _cells([item.per_token for item in apis], rest_limits_s)
    speeds = len(first_z) * len(rest_z)
    took, begun = np.zeros((speeds, len(ways.owner))), np.zeros(len(ways.owner), dtype=np.bool_)
    first_s, in_a_row = np.zeros_like(took), np.zeros(len(ways.owner))
    timeout = np.inf
    for at, deployment, tokens, runs in zip(ways.deployments, deployments, ways.tokens, ways.runs, strict=True):
        if isinstance(deployment, Api):
            first = deployment.first_token.median_s * np.exp(spread(deployment.first_token) * first_z)
            rest = deployment.per_token.median_s * np.exp(spread(deployment.per_token) * rest_z)
        else:
            seen = waiting[expectations.model.deployment_names[at]]
            first, rest = np.full(len(first_z), seen.first_token_s), np.full(len(rest_z), seen.per_token_s)
        first = np.repeat(first, len(rest_z))[:, None]
        times = first + np.tile(rest, len(first_z))[:, None] * (tokens - 1)
        took += np.where(runs, times, 0.0)
        first_s = np.where(runs & ~begun, first, first_s)
        begun |= runs
        in_a_row += np.where(runs, tokens, 0.0)
        timeout = min(timeout, np.inf if deployment.timeout_s is None else deployment.timeout_s)
    at_speeds = _Ways(np.outer(first_weight, rest_weight).ravel(), took, first_s, in_a_row - 1, timeout)
    return ways.rows, ways.owner, at_speeds


def waits_for_pools(expectations: Expectations, index: int) -> bool:
    """Whether any stage of an arm runs on a GPU pool, so that its times follow from the pools' own."""
    ways, deployments = expectations.ways(index), expectations.model.deployments
    return len(ways.rows) > 0 and any(isinstance(deployments[at], GpuPool) for at in ways.deployments)


def first_guess(model: Model) -> dict[str, Waiting]:
    """Per GPU pool, times of a half-full batch of a thousand tokens each, before anything has been simulated."""
    found = {}
    for name, table in zip(model.deployment_names, model.step_tables, strict=True):
        if table is not None:
            batch, prompt = max((len(table.decode_s) - 1) // 2, 1), min(1000, len(table.dense_s) - 1)
            step_s = step_seconds(table, 0, 0.0, batch, 1000 * batch, batch)
            first = step_s + step_seconds(table, prompt, prompt**2 / 2, 0, 0, 1)
            found[name] = Waiting(first_token_s=first, per_token_s=step_s / table.advance)
    return found


def arms_on(model: Model, pools: Collection[str]) -> set[int]:
    """Arms whose requests may come to one of these deployments."""
    return {v for v, arm in enumerate(model.arms) if not model.reached_by(arm).isdisjoint(pools)}
