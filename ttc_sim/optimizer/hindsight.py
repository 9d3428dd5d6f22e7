"""The best that could have been reached, had every problem been known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ttc_sim.optimizer.proposing.mixtures import best_mixture, sums_by_arm
from ttc_sim.optimizer.proposing.proposal import CHEAPEST, MOST_ACCURATE, Limits
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.scenario import GpuPool
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.summary import Summary

_COMBINATIONS = 100  # of numbers of replicas, all of which are tried
PROBLEM_BY_PROBLEM = "each problem to its own best arm"


def best_in_hindsight(model: Model, realized: Summary) -> dict[str, object] | None:
    """The best choice of arms, problem by problem, at the accuracy (or cost) that was really reached on these problems.

    It knows the outcomes it is judged on, so no policy of the search space does better on these problems, by expectation: it is the
    optimum over all choices, arms mixed freely (:mod:`ttc_sim.optimizer.proposing.mixtures`), held to no latency, which is a matter
    of the queue. Where cost is minimized it is the least cost at the accuracy reached, else the most accuracy at the cost.

    Args:
        model: that the policy was carried out on; realized: what that came to.

    Returns:
        ``policy`` (in words), ``replicas``, ``accuracy`` and ``cost_usd_per_request``; ``None`` where accuracy is unknown.
    """
    targets = model.scenario.targets
    assert targets is not None
    if realized.accuracy is None:
        return None
    task = PlanningTask.of(expect_arms(expanded_model(model)), targets)
    cost, accuracy = realized.cost_usd_per_request.value, realized.accuracy.value
    # A pool was loaded as far as the run loaded it; that it may be loaded so far is not for hindsight to doubt.
    question = task.question(Limits(), replace(task.timing(), limits_s=()))
    table = sums_by_arm(question)
    minimize = targets.maximize is None
    limits = Limits(utilization=max(_utilization(model, task), model.scenario.search.utilization))
    limits = replace(limits, accuracy=accuracy) if minimize else replace(limits, cost_usd_per_request=cost)
    best = best_mixture(table, CHEAPEST if minimize else MOST_ACCURATE, limits, every=_COMBINATIONS)
    found = (best.cost_usd_per_request, best.accuracy) if best is not None else (cost, accuracy)
    # What was really reached can be reached.
    counts = {} if best is None else {model.deployment_names[d]: count for d, count in best.replicas.items()}
    replicas = {name: round(count) for name, count in counts.items() if count > 0.5}
    return {
        "policy": PROBLEM_BY_PROBLEM,
        "replicas": replicas,
        "accuracy": max(found[1], accuracy),
        "cost_usd_per_request": min(found[0], cost),
    }


def _utilization(model: Model, task: PlanningTask) -> float:
    """The most that the policy loads a pool by expectation, as a share of its full-batch throughput."""
    policy = model.scenario.parsed_policy()
    if policy is None or policy.looks_at_load or not (policy.arm_names() or policy.uses_responses):
        return 1.0
    expectations = expect_arms(model)
    arm = policy.choose(expectations.population.as_requests(), model.arm_names)
    busy = expectations.gpu_s[arm, np.arange(len(arm))] * expectations.population.weight * task.rate_per_s
    deployment = np.array([one.deployment for one in model.arms])[arm]
    return max(
        (
            float(busy[deployment == d].sum()) / pool.replicas
            for d, pool in enumerate(model.scenario.deployments.values())
            if isinstance(pool, GpuPool)
        ),
        default=0.0,
    )
