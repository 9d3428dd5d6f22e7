"""What the optimizer chooses from: every arm under every cap, and what each would make of every problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from ttc_sim import outcomes
from ttc_sim.draws import F64, I64, uniforms
from ttc_sim.population import Population
from ttc_sim.scenario import Api, GpuPool, Scenario, scenario_from_dict
from ttc_sim.serving.prices import TokenPrices
from ttc_sim.serving.step_time import StepTable, full_batch_seconds
from ttc_sim.simulation import Model, ResolvedArm, load_model, spread
from ttc_sim.strategies import Single, with_cap

# Equally likely points of the two log-normal times of an API call, first token and further tokens.
_POINTS = ndtri((np.arange(8) + 0.5) / 8)
# Draws a problem for strategies whose expectation over attempts has no short closed form.
_VOTES = 32


def expand_caps(scenario: Scenario) -> Scenario:
    """The scenario with an arm of its own for each cap that ``search.caps`` allows.

    An arm ``reasoner`` with caps ``[4096, null]`` becomes ``reasoner@4096`` and ``reasoner``.
    """
    if not scenario.search.caps:
        return scenario
    raw = scenario.model_dump(mode="python", exclude={"path", "policy"})
    arms: dict[str, object] = {}
    for name, arm in scenario.arms.items():
        strategy = arm.parsed(scenario.path, name)
        for cap in scenario.search.caps.get(name, [strategy.cap]):
            label = name if cap is None or name not in scenario.search.caps else f"{name}@{cap}"
            arms[label] = {**raw["arms"][name], "strategy": repr(with_cap(strategy, cap))}
    search = {**raw["search"], "caps": {}}
    return scenario_from_dict({**raw, "arms": arms, "search": search}, scenario.path)


def base_arm(name: str) -> str:
    """Name of the arm that a capped one was made from.

    >>> base_arm("reasoner@4096")
    'reasoner'
    """
    return name.split("@")[0]


@dataclass(frozen=True)
class Waiting:
    """Times that a GPU pool's own queue and batch give a request, as seen in the last simulation."""

    first_token_s: float
    per_token_s: float


@dataclass(frozen=True)
class Options:
    """Expectations over the measured attempts, for each of ``V`` arms and ``P`` problems; NaN where not offered.

    Attributes:
        model: with the arms expanded by cap.
        correct: (V, P) chance of a right answer, before timeouts.
        prompt, reasoning, visible: (V, P) tokens.
        api_cost_usd: (V, P) bill of API calls.
        gpu_s: (V, P) seconds of a replica at full batch.
        offered: (V, S) whether the arm may serve the source.
    """

    model: Model
    correct: F64
    prompt: F64
    reasoning: F64
    visible: F64
    api_cost_usd: F64
    gpu_s: F64
    offered: np.ndarray[tuple[int, int], np.dtype[np.bool_]]

    @property
    def population(self) -> Population:
        """The problems."""
        assert self.model.population is not None
        return self.model.population

    def expected(self, arm: I64) -> dict[str, F64]:
        """Per problem, the expectations under the arm it is sent to: what :func:`ttc_sim.metrics.summarize` takes."""
        at = np.arange(len(arm))
        return {
            "correct": self.correct[arm, at],
            "api_cost_usd": self.api_cost_usd[arm, at],
            "prompt": self.prompt[arm, at],
            "reasoning": self.reasoning[arm, at],
            "visible": self.visible[arm, at],
        }


def build_options(model: Model) -> Options:
    """Work out every arm on every problem."""
    population = model.population
    assert population is not None
    shape = (len(model.arms), len(population))
    correct, prompt, reasoning, visible, api_cost, gpu_s = (np.full(shape, np.nan) for _ in range(6))
    offered = np.zeros((len(model.arms), len(population.sources)), dtype=np.bool_)
    for index, arm in enumerate(model.arms):
        offered[index] = [source in arm.sources for source in population.sources]
        rows = np.flatnonzero(offered[index][population.source])
        mean = _expectations(arm, rows)
        correct[index, rows], prompt[index, rows] = mean[0], mean[1]
        reasoning[index, rows], visible[index, rows] = mean[2], mean[3]
        deployment, prices = model.deployments[arm.deployment], model.prices[arm.deployment]
        api_cost[index, rows] = 0.0 if prices is None else _bill(prices, mean)
        table = model.step_tables[arm.deployment]
        if isinstance(deployment, GpuPool) and table is not None:
            gpu_s[index, rows] = _replica_seconds(deployment, table, mean)
        else:
            gpu_s[index, rows] = 0.0
    return Options(model, correct, prompt, reasoning, visible, api_cost, gpu_s, offered)


def _bill(prices: TokenPrices, mean: tuple[F64, F64, F64, F64]) -> F64:
    return np.asarray(prices.cost_usd(mean[1], 0, mean[2], mean[3]))


def _replica_seconds(pool: GpuPool, table: StepTable, mean: tuple[F64, F64, F64, F64]) -> F64:
    """Seconds of one replica that requests take up when its batch is as full as its limits and its KV cache allow."""
    tokens = mean[2] + mean[3]
    batch = pool.max_num_seqs
    if pool.kv_cache_tokens is not None and len(tokens):
        batch = min(batch, max(int(pool.kv_cache_tokens / float(np.mean(mean[1] + tokens / 2))), 1))
    return full_batch_seconds(table, mean[1], tokens, batch)


def _spread_out(arm: ResolvedArm, rows: I64) -> tuple[I64, outcomes.Outcome]:
    """Equally weighted ways that requests on these problems may go: the position in ``rows`` of each, and its outcome."""
    attempts = arm.attempts
    assert attempts is not None
    if isinstance(arm.strategy, Single):
        count = attempts.count[rows]
        owner = np.repeat(np.arange(len(rows)), count)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        picks = (within + 0.5) / count[owner]
        forced_points = 8 if arm.strategy.on_cap == "force_answer" and arm.strategy.cap is not None else 1
        owner, picks = np.repeat(owner, forced_points), np.repeat(picks, forced_points)
        forced = np.tile((np.arange(forced_points) + 0.5) / forced_points, len(owner) // forced_points)
        tie = np.full(len(owner), 0.5)
        return owner, outcomes.carry_out(arm.strategy, attempts, rows[owner], picks[:, None], forced[:, None], tie)
    owner = np.repeat(np.arange(len(rows)), _VOTES)
    n = arm.strategy.samples
    draws = uniforms(0, f"options/{arm.name}", len(owner), 2 * n + 1)
    return owner, outcomes.carry_out(
        arm.strategy, attempts, rows[owner], draws[:, :n], draws[:, n : 2 * n], draws[:, 2 * n]
    )


def _expectations(arm: ResolvedArm, rows: I64) -> tuple[F64, F64, F64, F64]:
    """Chance of a right answer and expected prompt, reasoning and visible tokens, for each of the rows."""
    owner, outcome = _spread_out(arm, rows)
    weight = 1.0 / np.maximum(np.bincount(owner, minlength=len(rows)), 1)

    def mean(values: F64) -> F64:
        return np.bincount(owner, weights=values, minlength=len(rows)) * weight

    return (
        mean(outcome.correct.astype(np.float64)),
        mean(outcome.prompt_tokens.astype(np.float64)),
        mean(outcome.reasoning_tokens.sum(axis=1).astype(np.float64)),
        mean(outcome.visible_tokens.sum(axis=1).astype(np.float64)),
    )


def late_share(options: Options, limits_s: F64, waiting: Mapping[str, Waiting]) -> F64:
    """Chance that a request takes longer than each limit, queue left aside: (limits, V, P); NaN where not offered.

    API times follow their log-normal laws; a pool's first token and token times are those last seen in simulation.
    A second answer, at index ``limits``, is the chance to run into the deployment's timeout: shape (limits + 1, V, P).
    """
    model, population = options.model, options.population
    out = np.full((len(limits_s) + 1, len(model.arms), len(population)), np.nan)
    for index, arm in enumerate(model.arms):
        rows = np.flatnonzero(options.offered[index][population.source])
        owner, outcome = _spread_out(arm, rows)
        tokens = (outcome.reasoning_tokens + outcome.visible_tokens).max(axis=1).astype(np.float64)
        deployment, name = model.deployments[arm.deployment], model.deployment_names[arm.deployment]
        if isinstance(deployment, Api):
            first = deployment.first_token.median_s * np.exp(spread(deployment.first_token) * _POINTS)
            rest = deployment.per_token.median_s * np.exp(spread(deployment.per_token) * _POINTS)
        else:
            seen = waiting[name]
            first, rest = np.array([seen.first_token_s]), np.array([seen.per_token_s])
        weight = 1.0 / np.maximum(np.bincount(owner, minlength=len(rows)), 1) / (len(first) * len(rest))
        timeout = deployment.timeout_s if deployment.timeout_s is not None else np.inf
        for k, limit in enumerate([*limits_s, timeout]):
            late = np.zeros(len(owner))
            for f in first:
                late += (f + (tokens - 1)[:, None] * rest[None, :] > limit).sum(axis=1)
            out[k, index, rows] = np.bincount(owner, weights=late, minlength=len(rows)) * weight
    return out


def expanded_model(model: Model) -> Model:
    """The model with an arm for each cap of its search space."""
    return load_model_like(model, expand_caps(model.scenario))


def load_model_like(model: Model, scenario: Scenario) -> Model:
    """Another scenario over the same problems: profiles are not read again."""
    population = model.population
    if population is None:
        return load_model(scenario)
    offered = {
        name: population.offered[name if name in population.offered else base_arm(name)] for name in scenario.arms
    }
    return load_model(scenario, _with_offers(population, offered))


def _with_offers(population: Population, offered: Mapping[str, tuple[str, ...]]) -> Population:
    from dataclasses import replace

    return replace(population, offered=offered)
