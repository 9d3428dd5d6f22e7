"""What each arm of a plan is expected to make of a live request, worked out once from the problems that the plan was made on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import expit

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.plugins import is_shipped
from ttc_sim.base.threads import one_thread
from ttc_sim.deploying.arms import check_strategies, on_pools, reached
from ttc_sim.deploying.decisions import Predicted
from ttc_sim.policies import Policy, Requests, UserFunction, choose_arms, rule_of
from ttc_sim.policies.predicted import design
from ttc_sim.policies.responses import Response
from ttc_sim.scenario import Scenario
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.drawing import as_requests, draw
from ttc_sim.simulation.expectations import Expectations, expect_arms
from ttc_sim.simulation.expected_times import expected_seconds, first_guess
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.response_fit import fit_responses, regress
from ttc_sim.simulation.running import run_once

_LEAST = 30  # requests of a simulated run that say how long an arm takes on a pool
_MOST_SLOW = 5_000  # requests of a run by the reference engine
_NOTHING = Predicted()


@dataclass(frozen=True)
class ArmExpectation:
    """Of one arm, as weights of features of a request (:class:`ttc_sim.policies.responses.Response`).

    Attributes:
        response: chance of a right answer, bill of API calls, seconds of a pool's replica.
        tokens: weights of the logarithm of the output tokens; seconds: of the latency; ``None`` where they are not known.
        usd_per_gpu_s: what a second of a replica costs as the plan uses it; ``None`` where that is not known.
    """

    response: Response
    tokens: tuple[float, ...] | None
    seconds: tuple[float, ...] | None
    usd_per_gpu_s: float | None

    def of(self, requests: Requests) -> Predicted:
        """Of the first of the requests.

        Raises:
            InputError: a score that it was fitted on is not among the requests'.
        """
        row = _features(self.response, requests)[0]
        bill = _exp(row, self.response.api_cost_usd) or 0.0
        gpu_s = _exp(row, self.response.gpu_s)
        usd: float | None = bill
        if gpu_s is not None:
            usd = None if self.usd_per_gpu_s is None else bill + gpu_s * self.usd_per_gpu_s
        return Predicted(
            chance=float(expit(row @ np.array(self.response.correct))),
            tokens=_exp(row, self.tokens),
            usd=usd,
            seconds=_exp(row, self.seconds),
        )


def _features(response: Response, requests: Requests) -> F64:
    low, high = np.array(response.ranges).T
    return np.asarray(np.clip(design(response.features, requests, {}), low, high))


def _exp(row: F64, weights: tuple[float, ...] | None) -> float | None:
    return None if weights is None else float(np.exp(row @ np.array(weights)))


@dataclass(frozen=True)
class Expected:
    """What is known of a plan's arms.

    Attributes:
        arms: by name; without those of which nothing is known.
        used: per source, the share of its requests that each arm is expected to get; empty where that is not known.
        offered: per arm, the sources that it was measured for; ``None`` where that is not known.
        notes: what is not known, and why.
    """

    arms: Mapping[str, ArmExpectation] = field(default_factory=dict)
    used: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    offered: Mapping[str, tuple[str, ...]] | None = None
    notes: tuple[str, ...] = ()

    def of(self, arm: str, requests: Requests) -> Predicted:
        """Of a request on an arm; all ``None`` where nothing is known."""
        known = self.arms.get(arm)
        try:
            return _NOTHING if known is None else known.of(requests)
        except InputError:  # without the predictor's scores
            return _NOTHING


@one_thread()
def expect(scenario: Scenario, policy: Policy, names: Collection[str]) -> Expected:
    """Work out what these arms are expected to make of requests.

    Chances, tokens and dollars of API calls are fitted on the problems that the scenario names, as ``Utility`` has them (a plan
    for it brings all but the tokens along), and so are seconds at endpoints. What a second of a pool costs, and how long requests
    take there, is seen in one simulated run of the plan. Where the problems are not at hand, little is known, and the notes say so.
    """
    stored = scenario.responses or {}
    if not scenario.workload.has_problems:
        note = "nothing is predicted of requests: the plan is for traffic without problems"
        return Expected(notes=(note,))
    degraded = _of_budget(scenario)
    arms = reached(scenario, [*names, *(degraded or ())])
    try:
        model = load_model(scenario)
        model = replace(model, arms=tuple(arm for arm in model.arms if arm.name in arms))
        assert model.population is not None
        weight = model.population.weight
    except InputError as error:
        return _of_stored(scenario, stored, str(error))
    expectations = expect_arms(model)
    fitted = fit_responses(expectations, expected_seconds(expectations, first_guess(model)), weight)
    responses = {**fitted, **{name: one for name, one in stored.items() if name in fitted}}
    own = isinstance(policy, UserFunction) or not _all_shipped(policy, scenario)
    pools = [name for name in arms if on_pools(scenario, name)]
    asks = not own and degraded is not None and (bool(pools) or policy.looks_at_load)
    run, notes = _simulated(model, policy) if asks else (None, [])
    made = {}
    for index, arm in enumerate(model.arms):
        if arm.name in responses:
            seen = _seen(run, expectations, index, responses[arm.name])
            made[arm.name] = _expectation(expectations, index, responses[arm.name], weight, arm.name in pools, seen)
    unknown = [name for name in pools if name in names and name in made and made[name].seconds is None]
    if unknown:
        said = "few or none of the plan's requests go there" if run is not None else "the plan was not simulated"
        notes.append(f"how long requests take, and what they cost, on {', '.join(unknown)} is not known: {said}")
    used = {} if own else _used(model, policy, run)
    return Expected(made, used, model.population.offered, tuple(notes))


def _of_stored(scenario: Scenario, stored: Mapping[str, Response], why: str) -> Expected:
    """Without the problems: what a plan for ``Utility`` says itself."""
    made = {
        name: ArmExpectation(one, None, None if on_pools(scenario, name) else one.seconds, None)
        for name, one in stored.items()
    }
    what = "no tokens are predicted of requests, and nothing of pools" if stored else "nothing is predicted of requests"
    return Expected(made, notes=(f"{what}: {why}",))


def _of_budget(scenario: Scenario) -> tuple[str, ...] | None:
    """Arms that a budget degrades requests to; ``None`` where one of them is a strategy of one's own."""
    arms = reached(scenario, scenario.budget.arms if scenario.budget is not None else ())
    try:
        check_strategies(scenario, arms, scenario.path)
    except InputError:
        return None
    return arms


def _all_shipped(policy: Policy, scenario: Scenario) -> bool:
    each = [policy.for_source(source) for source in scenario.workload.sources]
    return all(is_shipped(type(one)) and not isinstance(one, UserFunction) for one in each)


def _simulated(model: Model, policy: Policy) -> tuple[Run | None, list[str]]:
    """One run of the plan; or why there is none."""
    try:
        draws = draw(model, 0, purpose="runtime")
        slow = policy.looks_at_load and rule_of(policy, as_requests(model, draws), model.arm_names) is None
        if slow and len(draws) > _MOST_SLOW:
            said = f"{len(draws):,} requests, which are sent in different ways for different sources, take too long"
            return None, [f"the plan is not simulated here: {said}"]
        return run_once(model, policy, draws), []
    except InputError as error:
        return None, [f"the plan cannot be simulated here: {error}"]


def _seen(run: Run | None, expectations: Expectations, index: int, response: Response) -> _Seen:
    """What a run says of an arm's time and of what it pays for pools."""
    if run is None or run.row is None:
        return _Seen(None, None)
    here = np.flatnonzero((run.arm == index) & (run.answered_by == index) & np.isfinite(run.latency_s))
    if len(here) < _LEAST:
        return _Seen(None, None)
    rows, latency_s = run.row[here], run.latency_s[here]
    table = _features(response, _taken(expectations, rows))
    weights = None
    if (latency_s > 0).all():
        weights = _fitted(table, latency_s, np.ones(len(rows)))
    gpu_s = float(expectations.gpu_s[index, rows].sum())
    paid = float((run.cost_usd - run.api_cost_usd)[here].sum())
    return _Seen(weights, paid / gpu_s if gpu_s > 0 else None)


@dataclass(frozen=True)
class _Seen:
    """Of an arm in a run: weights of its latency, and US dollars a second of a replica; ``None`` if it says too little."""

    seconds: tuple[float, ...] | None
    usd_per_gpu_s: float | None


def _taken(expectations: Expectations, rows: I64) -> Requests:
    all_of_them = expectations.population.as_requests()
    return replace(
        all_of_them,
        arrival_s=all_of_them.arrival_s[rows],
        source=all_of_them.source[rows],
        prompt_tokens=all_of_them.prompt_tokens[rows],
        scores={name: values[rows] for name, values in all_of_them.scores.items()},
    )


def _fitted(table: F64, values: F64, weight: F64) -> tuple[float, ...]:
    found = regress(table, values, weight * len(weight) / weight.sum(), "log", np.zeros(table.shape[1]))
    return tuple(map(float, found))


def _expectation(
    expectations: Expectations, index: int, response: Response, weight: F64, pool: bool, seen: _Seen
) -> ArmExpectation:
    population = expectations.population
    rows = np.flatnonzero(expectations.offered[index][population.source] & (weight > 0))
    tokens = (expectations.reasoning + expectations.visible)[index, rows]
    table = _features(response, _taken(expectations, rows))
    return ArmExpectation(
        response=response,
        tokens=_fitted(table, tokens, weight[rows]) if len(rows) and (tokens > 0).any() else None,
        seconds=seen.seconds if pool else response.seconds,
        usd_per_gpu_s=seen.usd_per_gpu_s,
    )


def _used(model: Model, policy: Policy, run: Run | None) -> dict[str, dict[str, float]]:
    """Share of each source's requests by arm: as expected or, by live load, as in the run."""
    population = model.population
    assert population is not None
    if policy.looks_at_load:
        if run is None:
            return {}
        arm, source = run.arm, run.requests.source
    else:
        arm, source = choose_arms(policy, population.as_requests(), model.arm_names), population.source
    found = {}
    for at, name in enumerate(population.sources):
        count = np.bincount(arm[source == at], minlength=len(model.arms))
        found[name] = {model.arm_names[k]: float(count[k] / count.sum()) for k in np.flatnonzero(count).tolist()}
    return found


__all__ = ["ArmExpectation", "Expected", "expect"]
