"""What a router between two models comes to in a scenario: accuracy, dollars and seconds at several shares of strong calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.progress import Telling, counted
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.optimizer.new_problems import over_new_problems
from ttc_sim.policies import Always, Policy, Threshold
from ttc_sim.predictor.judging.evaluate import router_score
from ttc_sim.predictor.judging.measured import heads_like
from ttc_sim.predictor.judging.routing import SHARES, dollars
from ttc_sim.scenario import Scenario, Search
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import summarize
from ttc_sim.workload.population import Population

STRONG_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares of requests sent to the strong model at which the scenario is simulated."""
ROUTER = "router"


@dataclass(frozen=True)
class RouterPoint:
    """One threshold, simulated; ``at`` is ``None`` where every request goes to one arm."""

    at: float | None
    strong_share: float
    accuracy: Estimate
    cost_usd_per_request: Estimate
    latency_p50_s: Estimate
    latency_p95_s: Estimate


@dataclass(frozen=True)
class RouterInScenario:
    """A router in a scenario.

    Attributes:
        weak_arm, strong_arm: the two arms; score: what it routes by.
        points: simulated, from no strong call to strong calls alone.
        curve: (21, 5) share of strong calls, expected accuracy and API bill in US dollars a request, and both of the oracle,
            before queues and timeouts; ``None`` where one of the arms is a GPU pool, whose bill depends on its load.
        usd_at_pgr: by performance gap recovered, the bill in US dollars a request at which the curve first reaches it.
    """

    scenario: str
    weak_arm: str
    strong_arm: str
    score: str
    points: tuple[RouterPoint, ...]
    curve: F64 | None
    usd_at_pgr: dict[str, float]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON."""
        names = ("strong_share", "accuracy", "cost_usd_per_request", "oracle_accuracy", "oracle_cost_usd_per_request")
        rows = [] if self.curve is None else self.curve.tolist()
        return {**asdict(self), "curve": [dict(zip(names, row, strict=True)) for row in rows]}


@shows_progress()
@one_thread()
def route_in_scenario(
    scenario: Scenario,
    problems: str | Path,
    attempts: str | Path,
    weak: str,
    strong: str,
    *,
    predictor: str | Path | None = None,
    scores: pl.DataFrame | None = None,
    shares: Sequence[float] = STRONG_SHARES,
    progress: Telling = None,
) -> RouterInScenario:
    """Simulate thresholds on the router's score.

    Args:
        scenario: its arms for the two models, their deployments and its traffic.
        problems, attempts, predictor, scores: as for :func:`ttc_sim.optimizer.new_problems.over_new_problems`.
        weak, strong: names of models or profiles.
        shares: of requests to send to the strong model.

    Raises:
        InputError: no arm for one of the models, or no source that both are offered to.
    """
    say = telling("route_in_scenario", progress)
    weak_arm, strong_arm = _arm_of(scenario, weak, "--weak"), _arm_of(scenario, strong, "--strong")
    if weak_arm == strong_arm:
        raise InputError(scenario.path, "arms", weak_arm, "an arm for each of the two models")
    without_budget = []
    if scenario.budget is not None:
        without_budget.append("the hard budget of the scenario is left out: it might send requests to other arms")
    two = {name: scenario.arms[name].model_copy(update={"fallback": None}) for name in (weak_arm, strong_arm)}
    scenario = scenario.model_copy(
        update={"arms": two, "policy": None, "search": Search(), "targets": None, "budget": None}
    )
    scenario, population, notes = over_new_problems(
        scenario, problems, attempts, say, predictor=predictor, scores=scores
    )
    common = [name for name in population.sources if all(name in population.offered[arm] for arm in two)]
    if not common:
        raise InputError(scenario.path, "arms", f"{weak_arm}, {strong_arm}", "two arms offered to the same source")
    if len(common) < len(population.sources):
        sources = {name: source for name, source in scenario.workload.sources.items() if name in common}
        workload = scenario.workload.with_sources(sources)
        scenario = scenario.model_copy(update={"workload": workload})
        scenario, population, notes = over_new_problems(
            scenario, problems, attempts, say, predictor=predictor, scores=scores
        )
        notes.append(f"only {', '.join(common)}: the other sources are not offered to both arms")
    heads = [name.removeprefix("p:") for name in population.scores if name.startswith("p:")]
    said, score = router_score(population.scores, _head(weak, heads), _head(strong, heads))
    population = replace(population, scores={**population.scores, ROUTER: score})
    model = load_model(scenario, population)
    expectations = expect_arms(model)
    points = []
    draws = [draw(model, k) for k in range(scenario.replications)]
    for share in counted(shares, say, "simulating", "shares of strong calls"):
        policy, at = _policy(population, score, share, weak_arm, strong_arm)
        chosen = policy.choose(population.as_requests(), model.arm_names)
        runs = [run_once(model, policy, drawn) for drawn in draws]
        found = summarize(model, runs, expected=expectations.under(chosen))
        assert found.accuracy is not None
        points.append(
            RouterPoint(
                at=at,
                strong_share=float(population.weight[chosen == model.arm_names.index(strong_arm)].sum()),
                accuracy=found.accuracy,
                cost_usd_per_request=found.cost_usd_per_request,
                latency_p50_s=found.latency_s["p50"],
                latency_p95_s=found.latency_s["p95"],
            )
        )
    curve = _expected_curve(model, expectations.correct, expectations.api_cost_usd, score, weak_arm, strong_arm)
    return RouterInScenario(
        scenario=scenario.name,
        weak_arm=weak_arm,
        strong_arm=strong_arm,
        score=said,
        points=tuple(points),
        curve=curve,
        usd_at_pgr={} if curve is None else {f"pgr{100 * part:.0f}": _usd_at(curve, part) for part in (0.5, 0.8)},
        notes=(*notes, *without_budget, *population.notes),
    )


def _arm_of(scenario: Scenario, name: str, option: str) -> str:
    """The first arm that the model answers on."""
    profiles = {str(arm.profile): arm_name for arm_name, arm in reversed(scenario.arms.items())}
    found = heads_like(name, profiles)
    if not found:
        listed = ", ".join(f"{arm_name} ({arm.profile})" for arm_name, arm in scenario.arms.items())
        raise InputError(scenario.path, option, name, f"a model that one of the arms serves: {listed}")
    return profiles[found[0]]


def _head(name: str, heads: Sequence[str]) -> str:
    return next(iter(heads_like(name, heads)), name)


def _policy(population: Population, score: F64, share: float, weak: str, strong: str) -> tuple[Policy, float | None]:
    """The threshold above which, by the workload's mix, that share of requests lies."""
    if share <= 0 or share >= 1:
        return Always(weak if share <= 0 else strong), None
    order = np.argsort(-score, kind="stable")
    reached = np.searchsorted(np.cumsum(population.weight[order]), share)
    at = float(score[order[min(int(reached), len(order) - 1)]])
    return Threshold(at=at, below=weak, above=strong, score=ROUTER), at


def _expected_curve(model: Model, correct: F64, bill: F64, score: F64, weak: str, strong: str) -> F64 | None:
    population = model.population
    assert population is not None
    low, high = model.arm_names.index(weak), model.arm_names.index(strong)
    if any(model.prices[model.arms[arm].deployment] is None for arm in (low, high)):
        return None
    weight = population.weight * len(population)
    columns = [SHARES]
    for by in (score, correct[high] - correct[low]):
        columns += [dollars(by, weight * table[low], weight * table[high]) for table in (correct, bill)]
    return np.stack(columns, axis=1)


def _usd_at(curve: F64, part: float) -> float:
    """The bill at which the curve first recovers that part of the gap between its ends; NaN if it has no gap."""
    accuracy, cost = curve[:, 1], curve[:, 2]
    if accuracy[-1] <= accuracy[0]:
        return float("nan")
    wanted = accuracy[0] + part * (accuracy[-1] - accuracy[0])
    after = int(np.argmax(accuracy >= wanted))
    step = slice(after - 1, after + 1)
    return float(np.interp(wanted, accuracy[step], cost[step]))
