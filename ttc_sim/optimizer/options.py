"""What the optimizer chooses from: every arm under every cap, and what each would make of every problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ttc_sim.draws import F64, I64, uniforms
from ttc_sim.errors import InputError
from ttc_sim.outcomes import Outcome, Trial, carry_out
from ttc_sim.population import Population
from ttc_sim.scenario import Api, GpuPool, Scenario, scenario_from_dict
from ttc_sim.serving.step_time import StepTable, full_batch_seconds, step_seconds
from ttc_sim.simulation import Model, ResolvedArm, deployment_of, load_model, spread, trial_of
from ttc_sim.strategies import Single, can_cap, with_cap

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
    raw = scenario.model_dump(mode="python", exclude={"path", "policy", "responses"})
    arms: dict[str, object] = {}
    for name, arm in scenario.arms.items():
        strategy = arm.parsed(scenario.path, name)
        if name in scenario.search.caps and not can_cap(strategy):
            raise InputError(scenario.path, f"search.caps.{name}", repr(strategy), "an arm whose attempts have a cap")
        for cap in scenario.search.caps.get(name, [None]):
            label = name if cap is None or name not in scenario.search.caps else f"{name}@{cap}"
            said = repr(with_cap(strategy, cap)) if name in scenario.search.caps else raw["arms"][name]["strategy"]
            arms[label] = {**raw["arms"][name], "strategy": said}
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
        for table, values in zip(
            (correct, prompt, reasoning, visible, api_cost, gpu_s), _expectations(model, arm, rows), strict=True
        ):
            table[index, rows] = values
    return Options(model, correct, prompt, reasoning, visible, api_cost, gpu_s, offered)


def _replica_seconds(pool: GpuPool, table: StepTable, prompt: F64, output: F64, samples: int) -> F64:
    """Seconds of one replica that requests take up when its batch is as full as its limits and its KV cache allow."""
    batch = pool.max_num_seqs
    if pool.kv_cache_tokens is not None and len(output):
        batch = min(batch, max(int(pool.kv_cache_tokens / max(float(np.mean(prompt + output / 2)), 1.0)), 1))
    alone = full_batch_seconds(table, prompt, output, batch)
    # Further samples take in no prompt of their own.
    return alone + (samples - 1) * (alone - full_batch_seconds(table, prompt, np.zeros_like(output), batch))


def _spread_out(model: Model, arm: ResolvedArm, rows: I64) -> tuple[I64, Outcome]:
    """Equally weighted ways that requests on these problems may go: the position in ``rows`` of each, and its outcome."""
    attempts, strategy = arm.attempts, arm.strategy
    assert attempts is not None
    if isinstance(strategy, Single):
        count = attempts.count[rows]
        owner = np.repeat(np.arange(len(rows)), count)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        picks = (within + 0.5) / count[owner]
        forced_points = 8 if strategy.on_cap == "force_answer" and strategy.cap is not None else 1
        owner, picks = np.repeat(owner, forced_points), np.repeat(picks, forced_points)
        forced = np.tile((np.arange(forced_points) + 0.5) / forced_points, len(owner) // forced_points)
        given = {"pick": picks[:, None], "forced": forced[:, None]}
        return owner, carry_out(strategy, Trial(attempts, rows[owner], lambda stream, _: given[stream]))
    owner = np.repeat(np.arange(len(rows)), _VOTES)

    def drawn(stream: str, count: int) -> F64:
        return uniforms(0, f"options/{arm.name}/{stream}", len(owner), count)

    return owner, carry_out(strategy, trial_of(model, arm, rows[owner], drawn))


def _expectations(model: Model, arm: ResolvedArm, rows: I64) -> tuple[F64, F64, F64, F64, F64, F64]:
    """For each of the rows, chance of a right answer, expected prompt, reasoning and visible tokens, bill of API calls (US
    dollars) and replica seconds."""
    owner, outcome = _spread_out(model, arm, rows)
    weight = 1.0 / np.maximum(np.bincount(owner, minlength=len(rows)), 1)

    def mean(values: NDArray[Any]) -> F64:
        return np.bincount(owner, weights=values.astype(np.float64), minlength=len(rows)) * weight

    total = np.zeros((5, len(rows)))
    for stage in outcome.stages:
        at = deployment_of(model, arm, stage)
        hidden, shown = stage.cut_tokens
        share = mean(stage.runs)
        tokens = [
            mean(np.where(stage.runs, x, 0)) for x in (stage.prompt_tokens, hidden.sum(axis=1), shown.sum(axis=1))
        ]
        prices, pool, table = model.prices[at], model.deployments[at], model.step_tables[at]
        bill = seconds = np.zeros(len(rows))
        if prices is not None:
            bill = np.asarray(prices.cost_usd(tokens[0], 0, tokens[1], tokens[2]))
        if isinstance(pool, GpuPool) and table is not None:
            samples, often = hidden.shape[1], np.maximum(share, 1e-12)
            output = (tokens[1] + tokens[2]) / samples / often
            seconds = share * _replica_seconds(pool, table, tokens[0] / often, output, samples)
        total += [*tokens, bill, seconds]
    return (mean(outcome.correct), *total)


def late_share(options: Options, limits_s: F64, waiting: Mapping[str, Waiting]) -> F64:
    """Chance that a request takes longer than each limit, queue left aside: (limits, V, P); NaN where not offered.

    API times follow their log-normal laws; a pool's first token and token times are those last seen in simulation.
    A second answer, at index ``limits``, is the chance to run into the deployment's timeout: shape (limits + 1, V, P).
    """
    model = options.model
    out = np.full((len(limits_s) + 1, *options.correct.shape), np.nan)
    for index in range(len(model.arms)):
        rows, owner, took, timeout = _times(options, index, waiting)
        weight = 1.0 / np.maximum(np.bincount(owner, minlength=len(rows)), 1)
        for k, limit in enumerate([*limits_s, timeout]):
            out[k, index, rows] = np.bincount(owner, (took > limit).mean(axis=0), minlength=len(rows)) * weight
    return out


def expected_seconds(options: Options, waiting: Mapping[str, Waiting]) -> F64:
    """Expected latency, queue left aside and no longer than the timeout: (V, P); NaN where not offered."""
    out = np.full(options.correct.shape, np.nan)
    for index in range(len(options.model.arms)):
        rows, owner, took, timeout = _times(options, index, waiting)
        weight = 1.0 / np.maximum(np.bincount(owner, minlength=len(rows)), 1)
        mean = np.minimum(took, timeout).mean(axis=0)
        out[index, rows] = np.bincount(owner, mean, minlength=len(rows)) * weight
    return out


def _times(options: Options, index: int, waiting: Mapping[str, Waiting]) -> tuple[I64, I64, F64, float]:
    """Of one arm: its problems, equally weighted ways that each may go (the position of its problem), how long each way takes at
    equally likely speeds of the deployment, (speeds, ways) seconds, and the deployment's timeout."""
    model = options.model
    rows = np.flatnonzero(options.offered[index][options.population.source])
    owner, outcome = _spread_out(model, model.arms[index], rows)
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
