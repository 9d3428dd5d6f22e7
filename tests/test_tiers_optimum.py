"""Tiers and concurrency of a plan, beside every combination, policy and number of replicas, simulated."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.optimum import Space, figure
from tests.random_scenarios import Dice
from ttc_sim.base.draws import uniforms
from ttc_sim.optimizer.configurations import configurations_of
from ttc_sim.optimizer.planning import Choice, choose_policy
from ttc_sim.optimizer.space import expanded_model, load_model_like
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.scenario.tiers import tier_of
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model, load_model

SOURCE = {"easy": {"problem_set": "reasoning-gym", "subset": "reasoning-gym-easy"}}


def random_model(seed: int) -> Model:
    """A pool and an endpoint, both with more than one way to be set up, on a few hundred problems."""
    dice = Dice(seed, "apart", "tiers")
    usd = dice.of(0.5, 2.0, 4.0)
    fees = dice.of((0, 30, 300), (0, 5, 10), (2, 40, 60))
    tiers: list[dict[str, Any]] = [
        {"name": "small", "tokens_per_minute": dice.of(20_000, 60_000), "usd_per_day": fees[0]},
        {"name": "middle", "tokens_per_minute": dice.of(90_000, 120_000), "usd_per_day": fees[1]},
        {"name": "large", "tokens_per_minute": 400_000, "requests_per_minute": 600, "usd_per_day": fees[2]},
    ]
    if dice.of(True, False):
        tiers[2]["price_factor"] = dice.of(0.0, 0.8)
    endpoint = {
        "kind": "api",
        "price": {"input_usd_per_mtok": usd, "output_usd_per_mtok": 4 * usd},
        "first_token": {"median_s": 0.5, "p95_s": 1.0},
        "per_token": {"median_s": 0.007, "p95_s": 0.012},
        "concurrency": 50,
    }
    step = {"base_s": 0.007, "per_prefill_token_s": 6e-5, "per_sequence_s": 3e-4, "per_kv_token_s": 6e-8}
    pool = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": dice.of(1.0, 3.0), "step_time": step}
    search: dict[str, Any] = {"bands": 2, "max_bands": 2, "scores": ["difficulty"], "replicas": {"pool": [1, 2, 4]}}
    search |= {"tiers": {"api": tiers}, "concurrency": {"pool": [4, 24]}}
    if dice.of(True, False):
        search["concurrency"]["api"] = [2, 80]
    raw: dict[str, Any] = {
        "name": f"tiers-{seed}",
        "seed": seed,
        "replications": 2,
        "workload": {"arrivals": {"process": "poisson", "rate_per_s": dice.of(2.0, 4.0)}, "requests": 300},
        "deployments": {"pool": pool, "api": endpoint},
        "arms": {
            "own": {"profile": "reasoning-gym/mistral-small-3.1-24b-instruct", "deployment": "pool"},
            "bought": {"profile": "reasoning-gym/llama-4-maverick", "deployment": "api"},
        },
        "search": search,
        "targets": {
            "minimize": "cost",
            "accuracy": dice.of(0.2, 0.3, 0.35, 0.4),
            "latency_p95_s": dice.of(9.0, 12.0, 15.0, 25.0),
            "rejected_rate": 0.01,
            "confidence": 0.5,
        },
    }
    raw["workload"]["sources"] = SOURCE
    raw["arms"] = {name: {**arm, "strategy": "Single(cap=1024)"} for name, arm in raw["arms"].items()}
    whole = load_model(scenario_from_dict(raw))
    assert whole.population is not None
    keep = np.zeros(len(whole.population), dtype=np.bool_)
    keep[np.argsort(uniforms(seed, "problems", len(keep))[:, 0])[:200]] = True
    return load_model(whole.scenario, whole.population.restricted(keep))


def brute_force(choice: Choice, model: Model) -> dict[str, float]:
    """US dollars per 1,000 requests of the best of each combination that holds the targets."""
    whole, found = expanded_model(model), {}
    for one in configurations_of(whole.scenario):
        task = PlanningTask.of(expect_arms(load_model_like(whole, one.scenario)), choice.task.targets)
        seen = Space(replace(choice, task=task)).optimum()
        if seen is not None:
            found[one.label] = figure(seen)
    return found


@pytest.mark.parametrize("seed", [1, 8, 15])
def test_the_plan_is_the_best_of_all_tiers_concurrency_policies_and_replicas(seed: int) -> None:
    model = random_model(seed)
    choice = choose_policy(model)
    best = min(brute_force(choice, model).items(), key=lambda one: one[1], default=("none", math.inf))
    plan = choice.verified
    if best[1] < math.inf:  # where no threshold holds the targets, a plan by other policies may
        assert plan.meets_targets, best
        assert figure(plan) <= 1.01 * best[1], (figure(plan), best, plan.proposal)
    endpoint = plan.model.scenario.deployments["api"]
    assert tier_of(endpoint, model.scenario.search.tiers["api"]) is not None  # type: ignore[arg-type]
