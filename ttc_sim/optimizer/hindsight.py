"""How far a plan stayed behind what could have been done on the very problems that it was carried out on.

Two things could have been done: to choose another policy of the plan's space, knowing the problems; and to choose the best arm for
each problem, knowing what the arms made of it. No policy beats the latter: it is the least cost at the same accuracy (the most
accuracy at the same cost) of any choice. Both are expectations over the measured attempts, before any queue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate, Resampler
from ttc_sim.base.intervals import for_few
from ttc_sim.optimizer.promises import as_mapping
from ttc_sim.optimizer.proposing import PROPOSERS
from ttc_sim.optimizer.proposing.mixtures import ArmSums, best_mixture, sums_by_arm
from ttc_sim.optimizer.proposing.proposal import CHEAPEST, MOST_ACCURATE, Limits
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.policies import Policy
from ttc_sim.scenario import Targets
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model

_MOST_SIZES = 64  # combinations of numbers of replicas that are tried one by one
_TINY = 1e-9
_AROUND = np.concatenate([[0.0, 1.0], np.geomspace(1 / 8, 8, 30)])  # times the price of the optimum


@dataclass(frozen=True)
class Regret:
    """How far a plan stayed behind the bound that no choice of arms beats on the same problems.

    Attributes:
        accuracy, cost_usd_per_request: of the plan on these problems, GPU pools included.
        name: ``cost_ratio``, or ``accuracy_gap`` where accuracy is maximized.
        bound: least cost at the plan's accuracy, or most accuracy at its cost, of any choice of arms whatever its latency.
        figure: the plan's cost over the bound, at least 1; or the bound less the plan's accuracy, at least 0. With a single problem
            or task type nothing limits it from above.
    """

    accuracy: float
    cost_usd_per_request: float
    name: str
    bound: float
    figure: Estimate

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        bound = "least_cost_usd_per_request" if self.name == "cost_ratio" else "most_accuracy"
        return {
            "accuracy": self.accuracy,
            "cost_usd_per_request": self.cost_usd_per_request,
            bound: self.bound,
            self.name: as_mapping(self.figure),
        }


def in_hindsight(model: Model, policy: Policy) -> tuple[dict[str, object], Regret] | None:
    """A policy beside the best that could have been done on the model's problems.

    Returns:
        The best policy found of the space that is as accurate as this one (or, where accuracy is maximized, as cheap), which is
        this one if none is better; and the regret. ``None`` for a policy that looks at live load, as what it makes of a problem
        depends on the queue, and where a percentile or goodput is made best of, which does too.
    """
    targets, population = model.scenario.targets, model.population
    assert targets is not None
    assert population is not None
    if policy.looks_at_load or targets.timed:
        return None
    task = PlanningTask.of(expect_arms(model), targets)
    own = sums_by_arm(task.question(task.limits(), task.timing()))
    arm = policy.choose(population.as_requests(), model.arm_names)
    replicas = _replicas_in_use(model, own, arm)
    accuracy, cost = _of_choice(task, own, arm, replicas)
    wider = (
        task if not model.scenario.search.varies_arms else PlanningTask.of(expect_arms(expanded_model(model)), targets)
    )
    best: tuple[object, Mapping[str, int], float, float] = (model.scenario.policy, replicas, accuracy, cost)
    cheapest = not targets.most_accurate
    timing = wider.timing()
    limits = replace(
        wider.limits(), accuracy=accuracy if cheapest else None, cost_usd_per_request=None if cheapest else cost
    )
    question = wider.question(limits, timing, targets=CHEAPEST if cheapest else MOST_ACCURATE)
    space = own if wider is task else sums_by_arm(question)
    for start in PROPOSERS.values():
        one = start(wider.expectations, timing.waiting).propose(question)
        reached, paid = _of_choice(wider, space, one.choose(population, wider.model.arm_names), one.replicas)
        as_good = reached >= accuracy - _TINY if cheapest else paid <= cost * (1 + _TINY)
        if not one.excess and as_good and (paid < best[3] if cheapest else reached > best[2]):
            best = (one.notation, one.replicas, reached, paid)
    table = own if wider is task else _beside(own, space)
    bound, regret = _regret(task, table, arm, cost, replicas)
    found = dict(zip(("policy", "replicas", "accuracy", "cost_usd_per_request"), best, strict=True))
    return found, Regret(accuracy, cost, "cost_ratio" if cheapest else "accuracy_gap", bound, regret)


def _of_choice(task: PlanningTask, table: ArmSums, arm: I64, replicas: Mapping[str, int]) -> tuple[float, float]:
    """Accuracy, and US dollars per request with GPU pools."""
    accuracy, api = table.of_choice(arm)[:2]
    return float(accuracy), float(api) + task.pools_usd_per_request(replicas)


def _replicas_in_use(model: Model, table: ArmSums, arm: I64) -> dict[str, int]:
    loads = table.of_choice(arm)[len(table.late) + 2 :]
    used = [d for d, load in zip(table.pools, loads, strict=True) if load > 0]
    pools = {model.deployment_names[d]: model.deployments[d] for d in used}
    return {name: pool.planned_replicas for name, pool in pools.items()}


def _beside(one: ArmSums, other: ArmSums) -> ArmSums:
    """The arms of both, over the same problems and pools."""

    def both(mine: F64, theirs: F64) -> F64:
        return np.concatenate([mine, theirs], axis=-2)

    return replace(
        one,
        correct=both(one.correct, other.correct),
        cost=both(one.cost, other.cost),
        late=both(one.late, other.late),
        load=both(one.load, other.load),
    )


def _regret(
    task: PlanningTask, table: ArmSums, arm: I64, cost: float, replicas: Mapping[str, int]
) -> tuple[float, Estimate]:
    """The bound, and the regret with its interval from resampled problems."""
    population, cheapest = task.population, not task.targets.most_accurate
    resampler, weight = Resampler.of(population.cluster), population.weight

    def means(weighted: F64) -> F64:
        """The sum over problems, and those of the resamples."""
        value, resampled = resampler.mean(weighted / weight, population.source, population.share)
        return np.append(value, resampled)

    at = np.arange(len(arm))
    plan = _Plan(means(table.correct[arm, at]), means(table.cost[arm, at]) + task.pools_usd_per_request(replicas))
    own = [replicas.get(task.model.deployment_names[d], 0) for d in table.pools]
    loads = table.of_choice(arm)[len(table.late) + 2 :]
    utilization = max([1.0, *(float(load) / n for load, n in zip(loads, own, strict=True) if n)])
    bounds = [
        _bound(program, fixed_usd, task.targets, plan, utilization, means)
        for program, fixed_usd in _programs(table, own)
        if fixed_usd <= cost * (1 + _TINY)
    ]
    known = [one for one in bounds if one is not None]
    clusters = int(population.cluster.max()) + 1
    if not cheapest:
        most = max([plan.accuracy, *known], key=lambda one: float(one[0]))
        gap = most - plan.accuracy
        interval = for_few(Estimate.around(float(gap[0]), _error(gap)), clusters)
        return min(float(most[0]), 1.0), interval.clipped(0, 1)
    least = min([plan.cost, *known], key=lambda one: float(one[0]))
    if least[0] <= _TINY * cost:  # what is free cannot be compared with
        return max(float(least[0]), 0.0), Estimate(1.0 if cost <= 0 else math.inf, 1.0, math.inf)
    ratio = np.log(np.maximum(plan.cost, _TINY * cost) / np.maximum(least, _TINY * cost))
    interval = for_few(Estimate.around(float(ratio[0]), _error(ratio)), clusters).clipped(0)
    return float(least[0]), Estimate(*map(float, np.exp([interval.value, interval.low, interval.high])))


def _error(figures: F64) -> float:
    """How far resamples lie from the figure itself, which comes first: a best of few problems looks better than it is."""
    return float(np.sqrt(np.mean((figures[1:] - figures[0]) ** 2)))


@dataclass(frozen=True)
class _Plan:
    """Accuracy and cost of the plan: on the problems, then on each resample of them."""

    accuracy: F64
    cost: F64


def _programs(table: ArmSums, own: Sequence[int]) -> Iterator[tuple[ArmSums, float]]:
    """The arms with each combination of numbers of replicas, paid for beforehand, and US dollars per request of these.

    Where there are too many combinations, once with any numbers, whole or not, which are paid for as they are used.
    """
    sizes = [sorted({0, n, *choices}) for n, choices in zip(own, table.sizes, strict=True)]
    if math.prod(map(len, sizes)) > _MOST_SIZES:
        yield replace(table, sizes=tuple(map(tuple, sizes))), 0.0
        return
    for bought in product(*sizes):
        shut = np.zeros(table.correct.shape, dtype=np.bool_)
        for load, n in zip(table.load, bought, strict=True):
            shut |= (load > 0) & (n == 0)
        correct = np.where(shut, np.nan, table.correct)
        if not np.isnan(correct).all(axis=0).any():
            program = replace(
                table,
                correct=correct,
                cost=np.where(shut, np.nan, table.cost),
                load=np.where(shut, np.nan, table.load),
                late=np.where(shut, np.nan, table.late),
                usd=np.zeros_like(table.usd),
                sizes=tuple((n,) for n in bought),
            )
            yield program, float(table.usd @ np.array(bought, dtype=np.float64))


def _bound(
    program: ArmSums,
    fixed_usd: float,
    targets: Targets,
    plan: _Plan,
    utilization: float,
    means: Callable[[F64], F64],
) -> F64 | None:
    """What no choice of arms beats: on the problems, then on each resample.

    At any prices of the limits, what the arms come to with these prices is a bound (weak duality), and at the prices of the optimum
    it is the optimum. So the mixture is solved for once; for each resample of the problems the best of several prices of accuracy
    (or cost) around that of the optimum is taken.
    """
    cheapest = not targets.most_accurate
    budget = np.maximum(plan.cost - fixed_usd, 0.0)
    limits = Limits(
        accuracy=float(plan.accuracy[0]) if cheapest else None,
        cost_usd_per_request=None if cheapest else float(budget[0]),
        utilization=utilization,
    )
    best = best_mixture(program, targets, limits, whole=False)
    if best is None:
        return None
    of_load = np.array([best.prices[f"load {d}"] for d in program.pools])
    priced = (program.cost if cheapest else -program.correct) + np.tensordot(of_load, program.load, axes=1)
    most = np.array([max(sizes) for sizes in program.sizes], dtype=np.float64)
    optimal = best.prices["accuracy" if cheapest else "cost_usd_per_request"]
    found = []
    for price in optimal * _AROUND:
        # What is asked for costs this much a unit.
        limited, asked = (-program.correct, -plan.accuracy) if cheapest else (program.cost, budget)
        pools = np.minimum(program.usd * (1.0 if cheapest else price) - of_load * utilization, 0.0) @ most
        found.append(means(np.nanmin(priced + price * limited, axis=0)) - price * asked + pools)
    lower: F64 = np.max(found, axis=0)
    return lower + fixed_usd if cheapest else -lower
