"""From a scenario to records: draws, policy, work, engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtri

from ttc_sim import outcomes
from ttc_sim.draws import F64, I64, columns, uniforms
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import COMPLETED, STATUS_NAMES, EngineResult, LiveRule, Work
from ttc_sim.errors import InputError, nearest
from ttc_sim.outcomes import Attempts, Outcome, Samples, Stage, Trial
from ttc_sim.outcomes.trial import DEFAULT_FORCED
from ttc_sim.policies import LeastLoaded, Load, Overflow, Policy, Requests, UserFunction
from ttc_sim.population import Population, load_population
from ttc_sim.scenario import Api, GpuPool, Latency, Scenario
from ttc_sim.serving.corrections import doubt
from ttc_sim.serving.pools import pool_table, with_memory
from ttc_sim.serving.prices import TokenPrices, resolve_price
from ttc_sim.serving.step_time import StepTable
from ttc_sim.strategies import Single, Strategy, cap_of, stage_names, uses_scores, verifiers, votes
from ttc_sim.workload import Traffic, generate

_LOG = logging.getLogger("ttc_sim")
_Z95 = 1.6448536269514722  # standard normal 95th percentile


@dataclass(frozen=True)
class ResolvedArm:
    """An arm with everything looked up."""

    name: str
    deployment: int
    strategy: Strategy
    attempts: Attempts | None
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """A scenario with everything it names looked up, ready to be run any number of times.

    Attributes:
        scenario: as the user wrote it, with the KV caches that follow from models and GPUs.
        population: problems and attempts; ``None`` when the lengths come with the traffic.
        arms: in the order of the scenario.
        deployment_names: in the order of the scenario.
        prices: per deployment; ``None`` for GPU pools.
        step_tables: per deployment; ``None`` for API endpoints.
    """

    scenario: Scenario
    population: Population | None
    arms: tuple[ResolvedArm, ...]
    deployment_names: tuple[str, ...]
    prices: tuple[TokenPrices | None, ...]
    step_tables: tuple[StepTable | None, ...]

    @property
    def deployments(self) -> tuple[Api | GpuPool, ...]:
        """Deployments in the order of their names."""
        return tuple(self.scenario.deployments[name] for name in self.deployment_names)

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Names of the arms, in the order of the scenario."""
        return tuple(arm.name for arm in self.arms)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of any figure must know."""
        modelled = [
            f"arm {arm.name} votes by a model of how wrong answers agree: {arm.attempts.name} has no recorded answers"
            for arm in self.arms
            if arm.attempts is not None and arm.attempts.answer is None and votes(arm.strategy)
        ]
        pools = [item for item in self.deployments if isinstance(item, GpuPool) and item.step_time is None]
        doubtful = [found for item in pools if (found := doubt(str(item.model), str(item.gpu))) is not None]
        return (*(self.population.notes if self.population is not None else ()), *modelled, *dict.fromkeys(doubtful))


def load_model(scenario: Scenario, population: Population | None = None) -> Model:
    """Look up all that the scenario names; ``population`` replaces its own problems (to carry out a plan on others)."""
    if population is None and scenario.workload.sources:
        population = load_population(scenario)
    if population is not None and scenario.responses is not None:
        population = replace(population, responses=scenario.responses)
    scenario = with_memory(scenario)
    names = tuple(scenario.deployments)
    prices = tuple(
        resolve_price(item.price, where=scenario.path, field=f"deployments.{name}.price")
        if isinstance(item, Api)
        else None
        for name, item in scenario.deployments.items()
    )
    arms = tuple(
        ResolvedArm(
            name=name,
            deployment=names.index(arm.deployment),
            strategy=arm.parsed(scenario.path, name),
            attempts=population.attempts[str(arm.profile)] if population is not None else None,
            sources=population.offered[name] if population is not None else (),
        )
        for name, arm in scenario.arms.items()
    )
    for arm in arms:
        if arm.attempts is None and not isinstance(arm.strategy, Single):
            raise InputError(
                scenario.path, f"arms.{arm.name}.strategy", repr(arm.strategy), "Single() without a profile"
            )
        if arm.attempts is not None and arm.attempts.verifier_score is None and uses_scores(arm.strategy):
            expected = f"a profile with a verifier_score: {arm.attempts.name} has none, they were not recorded"
            raise InputError(scenario.path, f"arms.{arm.name}.strategy", repr(arm.strategy), expected)
        for asked in verifiers(arm.strategy):
            if asked not in names:
                raise InputError(scenario.path, f"arms.{arm.name}.strategy", asked, nearest(asked, names))
    step_tables = tuple(
        pool_table(item, scenario.folder) if isinstance(item, GpuPool) else None
        for item in scenario.deployments.values()
    )
    return Model(scenario, population, arms, names, prices, step_tables)


@dataclass(frozen=True)
class Draws:
    """Everything random about ``n`` requests of one run, fixed before any policy is known.

    Attributes:
        seed: of the scenario; run: number of the independent run; purpose: keeps runs for different ends apart.
        traffic: arrivals and, without a population, lengths.
        row: (n,) problem of each request in the population; ``None`` without one.
    """

    seed: int
    run: int
    purpose: str
    traffic: Traffic
    row: I64 | None

    def __len__(self) -> int:
        return len(self.traffic.arrival_s)

    def uniform(self, stream: str, width: int = 1) -> F64:
        """(n, width) uniform numbers of a named stream of this run."""
        return uniforms(self.seed, f"{self.purpose}/{self.run}/{stream}", len(self), width)

    def samples(self, stream: str, count: int, members: I64) -> F64:
        """(m, count) numbers for some requests; those of sample ``j`` do not depend on how many samples there are."""
        return columns(self.seed, f"{self.purpose}/{self.run}/{stream}", len(self), count)[members]


def draw(model: Model, run: int, *, purpose: str = "simulate", requests: int | None = None) -> Draws:
    """Fix all that is random about one run."""
    scenario, population = model.scenario, model.population
    workload = scenario.workload
    count = requests or workload.requests
    # Runs for different purposes must not share arrivals either.
    label = f"{purpose}/{run}"
    traffic = generate(workload.arrivals, count, scenario.seed, folder=scenario.folder, where=scenario.path, run=label)
    drawn = Draws(seed=scenario.seed, run=run, purpose=purpose, traffic=traffic, row=None)
    if population is None:
        return drawn
    source = np.searchsorted(np.cumsum(population.share)[:-1], drawn.uniform("source")[:, 0], side="right")
    size = np.bincount(population.source, minlength=len(population.sources))
    rows = np.argsort(population.source, kind="stable")
    first = np.concatenate([[0], np.cumsum(size)])[:-1]
    within = (drawn.uniform("problem")[:, 0] * size[source]).astype(np.int64)
    return replace(drawn, row=rows[first[source] + within].astype(np.int64))


def view(model: Model, draws: Draws) -> Requests:
    """What a policy may know of the requests."""
    arrival_s = draws.traffic.arrival_s
    if model.population is None or draws.row is None:
        prompt = draws.traffic.prompt_tokens
        zeros = np.zeros(len(draws), dtype=np.int64)
        return Requests(arrival_s, zeros, ("traffic",), zeros if prompt is None else prompt, {})
    population = model.population
    return Requests(
        arrival_s=arrival_s,
        source=population.source[draws.row],
        sources=population.sources,
        prompt_tokens=population.prompt_tokens[draws.row],
        scores={name: values[draws.row] for name, values in population.scores.items()},
        responses=population.responses,
    )


@dataclass(frozen=True)
class Carried:
    """What the arms would make of the requests sent to them, before any queue.

    Attributes:
        work: for the engine.
        correct: (n,) 1.0 or 0.0; NaN where nothing is known of accuracy.
    """

    work: Work
    correct: F64


def carry(model: Model, draws: Draws, arm: I64) -> Carried:
    """Turn requests and their arms into work."""
    n = len(draws)
    correct = np.full(n, np.nan)
    parts: list[tuple[I64, int, Stage, int]] = []  # requests that run a stage, its number, the stage, its deployment
    stages = np.zeros(n, dtype=np.int64)
    for index, item in enumerate(model.arms):
        members = np.flatnonzero(arm == index)
        if not len(members):
            continue
        outcome = _outcome(model, item, draws, members)
        if item.attempts is not None:
            correct[members] = outcome.correct
        for number, stage in enumerate(outcome.stages):
            deployment = deployment_of(model, item, stage)
            parts.append((members, number, stage, deployment))
            stages[members] += stage.runs
    stage_start = np.concatenate([[0], np.cumsum(stages)]).astype(np.int64)
    total = int(stage_start[-1])
    deployment_at, prompt, width, needed = (np.zeros(total, dtype=np.int64) for _ in range(4))
    place = stage_start[:-1].copy()  # next stage of each request
    placed = []
    for members, number, stage, deployment in parts:
        rows = slice(None) if stage.runs.all() else np.flatnonzero(stage.runs)
        at = place[members[rows]]
        place[members[rows]] += 1
        deployment_at[at], prompt[at] = deployment, stage.prompt_tokens[rows]
        width[at], needed[at] = stage.visible_tokens.shape[1], stage.needed[rows]
        placed.append((members[rows], at, rows, number, stage, deployment))
    sample_start = np.concatenate([[0], np.cumsum(width)]).astype(np.int64)
    reasoning = np.empty(sample_start[-1], dtype=np.int64)
    visible = np.empty_like(reasoning)
    first_token_s, per_token_s = np.zeros(len(reasoning)), np.zeros(len(reasoning))
    for members, at, rows, number, stage, deployment in placed:
        count = stage.visible_tokens.shape[1]
        where = sample_start[at][:, None] + np.arange(count)
        reasoning[where], visible[where] = stage.reasoning_tokens[rows], stage.visible_tokens[rows]
        served = model.deployments[deployment]
        if isinstance(served, Api):
            stream = f"latency/{model.deployment_names[deployment]}" + (f"/{number}" if number else "")
            first_token_s[where] = _times(served.first_token, draws, f"{stream}/first", members, count)
            per_token_s[where] = _times(served.per_token, draws, f"{stream}/rest", members, count)
    retries = max([item.retry.retries for item in model.deployments if isinstance(item, Api)], default=0)
    prefix = draws.traffic.prefix_id
    prefix = np.full(n, -1, dtype=np.int64) if prefix is None else prefix
    work = Work(
        arrival_s=draws.traffic.arrival_s,
        stage_start=stage_start,
        deployment=deployment_at,
        prompt_tokens=prompt,
        prefix_id=prefix if total == n else np.repeat(prefix, stages),
        sample_start=sample_start,
        reasoning_tokens=reasoning,
        visible_tokens=visible,
        first_token_s=first_token_s,
        per_token_s=per_token_s,
        backoff=draws.uniform("backoff", max(retries, 1)) if retries else np.zeros((n, 1)),
        needed=None if (needed == width).all() else needed,
        priority=_priority(model, draws),
        after=draws.traffic.after,
        think_s=draws.traffic.think_s,
    )
    return Carried(work=work, correct=correct)


def deployment_of(model: Model, arm: ResolvedArm, stage: Stage) -> int:
    """Index of the deployment that a stage of an arm runs on."""
    if stage.deployment is not None:
        return model.deployment_names.index(stage.deployment)
    if stage.arm is not None:
        return model.arms[model.arm_names.index(stage.arm)].deployment
    return arm.deployment


def _priority(model: Model, draws: Draws) -> I64 | None:
    """By source; ``None`` where all are equal."""
    population, sources = model.population, model.scenario.workload.sources
    if population is None or draws.row is None or not any(source.priority for source in sources.values()):
        return None
    by_source = np.array([sources[name].priority for name in population.sources], dtype=np.int64)
    priority: I64 = by_source[population.source[draws.row]]
    return priority


def _outcome(model: Model, arm: ResolvedArm, draws: Draws, members: I64) -> Outcome:
    traffic = draws.traffic
    if arm.attempts is None or draws.row is None:
        if traffic.prompt_tokens is None or traffic.visible_tokens is None:
            raise InputError("workload", "arrivals", "no lengths", "a trace or clients that carry token lengths")
        reasoning = (
            np.zeros_like(traffic.visible_tokens) if traffic.reasoning_tokens is None else traffic.reasoning_tokens
        )
        reasoning, visible = reasoning[members], traffic.visible_tokens[members]
        cap = cap_of(arm.strategy)
        if cap is not None:
            reasoning = np.minimum(reasoning, cap)
            visible = np.minimum(visible, cap - reasoning)
        none = np.zeros((len(members), 1), dtype=np.bool_)
        zero = np.zeros((len(members), 1), dtype=np.int64)
        prompt = traffic.prompt_tokens[members]
        return Outcome.of(Samples(prompt, reasoning[:, None], visible[:, None], none, none, zero), none[:, 0])
    problem = draws.row[members]
    # One stream per profile, not per arm: the same request makes the same attempts whatever cap or arm it is given.
    return outcomes.carry_out(arm.strategy, trial_of(model, arm, problem, lambda s, k: draws.samples(s, k, members)))


def trial_of(model: Model, arm: ResolvedArm, problem: I64, draw: Callable[[str, int], F64]) -> Trial:
    """What an arm's strategy is carried out on: requests on these problems of the population."""
    assert arm.attempts is not None

    def drawn(name: str) -> Callable[[str, int], F64]:
        return lambda stream, count: draw(f"attempts/{name}/{stream}", count)

    others: dict[str, tuple[Strategy, Trial]] = {}
    for name in stage_names(arm.strategy):
        other = model.arms[model.arm_names.index(name)]
        assert other.attempts is not None
        others[name] = (other.strategy, Trial(other.attempts, problem, drawn(other.attempts.name)))
    return Trial(arm.attempts, problem, drawn(arm.attempts.name), others)


def _times(latency: Latency, draws: Draws, stream: str, members: I64, samples: int) -> F64:
    sigma = spread(latency)
    return latency.median_s * np.exp(sigma * ndtri(draws.samples(stream, samples, members)))


def spread(latency: Latency) -> float:
    """Standard deviation of the logarithm of a log-normal time with that median and 95th percentile."""
    return 0.0 if latency.p95_s is None else float(np.log(latency.p95_s / latency.median_s) / _Z95)


@dataclass(frozen=True)
class Run:
    """One run: who went where, what was planned and what came of it. Arrays are (n,), a request each.

    Attributes:
        answered_correctly: 1.0 if the answer was right and came in time; NaN where accuracy is unknown.
        planned_correct: the same, had no request timed out or been rejected.
        reasoning_tokens: generated hidden tokens, summed over samples; visible_tokens: likewise.
        prompt_tokens: prompt tokens taken in.
        thinking_cost_usd: part of the bill that is for reasoning tokens; idle_cost_usd: part of that for thinking on after the
            answer stood, in expectation (:class:`ttc_sim.outcomes.forcing.ForcedAnswers`).
        cost_usd: bill of API calls, and the request's part of the GPU pools' bill by its share of their tokens.
        api_cost_usd: bill of API calls alone; planned_api_cost_usd: the same, had every request run to its end.
        pool_cost_usd_per_request: bill of the GPU pools in use, per request of the workload.
        rate_per_s: mean rate of arrivals in the long run; replicas: of each GPU pool in use.
    """

    number: int
    row: I64 | None
    requests: Requests
    arm: I64
    result: EngineResult
    answered_correctly: F64
    planned_correct: F64
    prompt_tokens: I64
    reasoning_tokens: I64
    visible_tokens: I64
    cost_usd: F64
    thinking_cost_usd: F64
    idle_cost_usd: F64
    api_cost_usd: F64
    planned_api_cost_usd: F64
    pool_cost_usd_per_request: float
    rate_per_s: float
    replicas: Mapping[str, int]

    @cached_property
    def latency_s(self) -> F64:
        """From arrival to the last token or to giving up."""
        return self.result.finished_s - self.result.arrival_s

    def table(self, model: Model) -> pl.DataFrame:
        """One row per request."""
        population, rows, result = model.population, self.row, self.result
        columns: dict[str, object] = {
            "run": np.full(len(self.arm), self.number),
            "request": np.arange(len(self.arm)),
            "source": np.array(self.requests.sources)[self.requests.source],
            "arm": np.array(model.arm_names)[self.arm],
            "status": np.array(STATUS_NAMES)[result.status],
            "correct": self.answered_correctly,
            "arrival_s": result.arrival_s,
            "started_s": result.started_s,
            "first_token_s": result.first_token_s,
            "finished_s": result.finished_s,
            "ttft_s": result.first_token_s - result.arrival_s,
            "latency_s": self.latency_s,
            "retries": result.retries,
            "prompt_tokens": self.prompt_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "visible_tokens": self.visible_tokens,
            "cost_usd": self.cost_usd,
            "thinking_cost_usd": self.thinking_cost_usd,
            "idle_cost_usd": self.idle_cost_usd,
        }
        if population is not None and rows is not None:
            columns["problem"] = population.problem[rows]
            columns |= {name: values for name, values in self.requests.scores.items() if name == "difficulty"}
        return pl.DataFrame(columns).fill_nan(None)


def run_once(model: Model, policy: Policy, draws: Draws) -> Run:
    """Carry one run out: policy, work, engine, bill."""
    requests = view(model, draws)
    live = _live_route(policy, requests, model.arm_names)
    if live is None:
        arm = policy.choose(requests, model.arm_names)
        _check_offered(model, requests, arm)
        offers = [carry(model, draws, arm)]
    else:
        offers = [carry(model, draws, np.full(len(draws), a, dtype=np.int64)) for a in range(len(model.arms))]
    works = [offer.work for offer in offers]
    servers = model.deployment_names, model.deployments
    if live is None or isinstance(live, LiveRule):
        result = compiled.run(works, *servers, live, tables=model.step_tables)
    else:
        _LOG.info(
            "the policy is a Python function that looks at live load: run by the reference engine, which is slower"
        )
        result = reference.run(works, *servers, live, tables=model.step_tables)
    picked = np.zeros(len(draws), dtype=np.int64)
    if live is not None:
        arm = picked = result.arm.astype(np.int64)
        _check_offered(model, requests, arm)
    return _bill(model, draws, requests, arm, offers, picked, result)


def _live_route(
    policy: Policy, requests: Requests, arms: Sequence[str]
) -> LiveRule | Callable[[int, Load], int] | None:
    """How the engine chooses arms as requests arrive, if the policy looks at live load."""
    if isinstance(policy, (Overflow, LeastLoaded)):
        order = np.array([list(arms).index(name) for name in policy.arms], dtype=np.int64)
        choices = np.broadcast_to(order, (len(requests), len(order)))
        if isinstance(policy, Overflow):
            return LiveRule("overflow", choices, policy.waiting)
        return LiveRule("least_loaded", choices)
    if isinstance(policy, UserFunction) and policy.looks_at_load:
        return lambda index, load: policy.choose_one(requests, index, arms, load)
    return None


def _check_offered(model: Model, requests: Requests, arm: I64) -> None:
    """A policy may only send a request to an arm that was measured on its source's problems."""
    if model.population is None:
        return
    for index, item in enumerate(model.arms):
        for source in np.unique(requests.source[arm == index]):
            name = requests.sources[int(source)]
            if name not in item.sources:
                able = [other.name for other in model.arms if name in other.sources]
                expected = f"an arm whose profile was measured on source {name}: " + ", ".join(able)
                raise InputError(model.scenario.path, "policy", item.name, expected)


def _sums(values: NDArray[Any], start: I64) -> I64:
    """Sum over each of the stretches ``start[i]:start[i + 1]``."""
    if len(values) == len(start) - 1:
        return values.astype(np.int64)
    upto = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return np.asarray(upto[start[1:]] - upto[start[:-1]])


def _bill(
    model: Model,
    draws: Draws,
    requests: Requests,
    arm: I64,
    offers: Sequence[Carried],
    picked: I64,
    result: EngineResult,
) -> Run:
    n = len(draws)
    # A closed loop sends as fast as it is answered.
    rate_per_s = n / max(result.end_s, 1e-9) if draws.traffic.after is not None else draws.traffic.rate_per_s
    prompt, reasoning, visible = (np.zeros(n, dtype=np.int64) for _ in range(3))
    api_cost, planned_cost, pool_cost = np.zeros(n), np.zeros(n), np.zeros(n)
    correct = np.full(n, np.nan)
    pool_tokens = np.zeros((len(model.deployments), n))
    thinking = np.zeros((2, n))  # US dollars of API calls: all thinking, and what came after the answer stood
    pool_thinking = np.zeros((2, len(model.deployments), n))  # tokens, likewise
    for index, offer in enumerate(offers):
        here = picked == index
        work = offer.work
        # Only stages that began have taken anything in.
        generated, taken_in = result.generated_tokens[index], result.prefilled_tokens[index]
        hidden = np.minimum(generated, work.reasoning_tokens)
        by_stage = [_sums(values, work.sample_start) for values in (hidden, generated - hidden)]
        planned = [_sums(values, work.sample_start) for values in (work.reasoning_tokens, work.visible_tokens)]
        if work.needed is not None:
            planned = [
                np.where(work.needed < np.diff(work.sample_start), np.minimum(a, b), b)
                for a, b in zip(by_stage, planned, strict=True)
            ]
        after = np.rint(hidden * (1 - DEFAULT_FORCED.needed(hidden.astype(np.float64)))) if hidden.any() else hidden
        spent = by_stage[0], _sums(after, work.sample_start)
        correct[here] = offer.correct[here]
        for total, values in ((prompt, taken_in), (reasoning, by_stage[0]), (visible, by_stage[1])):
            total[here] = _sums(values, work.stage_start)[here]
        owner = np.repeat(np.arange(n), np.diff(work.stage_start))
        for d, prices in enumerate(model.prices):
            stages = np.flatnonzero((work.deployment == d) & here[owner])
            if not len(stages):
                continue
            who = owner[stages]
            if prices is None:
                tokens = (taken_in + by_stage[0] + by_stage[1])[stages]
                pool_tokens[d] += np.bincount(who, weights=tokens, minlength=n)
                for k in (0, 1):
                    pool_thinking[k, d] += np.bincount(who, weights=spent[k][stages], minlength=n)
                continue
            for k in (0, 1):
                thinking[k] += np.bincount(who, weights=prices.reasoning * spent[k][stages], minlength=n)
            for bill, one in (
                (api_cost, prices.cost_usd(taken_in[stages], 0, by_stage[0][stages], by_stage[1][stages])),
                (planned_cost, prices.cost_usd(work.prompt_tokens[stages], 0, planned[0][stages], planned[1][stages])),
            ):
                bill += np.bincount(who, weights=one, minlength=n)
    pool_per_request = 0.0
    replicas: dict[str, int] = {}
    for index, item in enumerate(model.deployments):
        if not isinstance(item, GpuPool) or not pool_tokens[index].any():
            continue
        per_request = item.replicas * item.hourly_usd / 3600.0 / rate_per_s
        pool_per_request += per_request
        replicas[model.deployment_names[index]] = item.replicas
        per_token = per_request * n / pool_tokens[index].sum()
        pool_cost += per_token * pool_tokens[index]
        thinking += per_token * pool_thinking[:, index]
    return Run(
        number=draws.run,
        row=draws.row,
        requests=requests,
        arm=arm,
        result=result,
        answered_correctly=np.where(result.status == COMPLETED, correct, np.where(np.isnan(correct), np.nan, 0.0)),
        planned_correct=correct,
        prompt_tokens=prompt,
        reasoning_tokens=reasoning,
        visible_tokens=visible,
        cost_usd=api_cost + pool_cost,
        thinking_cost_usd=thinking[0],
        idle_cost_usd=thinking[1],
        api_cost_usd=api_cost,
        planned_api_cost_usd=planned_cost,
        pool_cost_usd_per_request=pool_per_request,
        rate_per_s=rate_per_s,
        replicas=replicas,
    )
