"""How often targets are missed that plans were asked to hold: ``python -m benchmarks.confidence [--plans 100] [--only NAME] [--json FILE]``.

A target asked for with confidence c should be missed on fresh problems at most 1 - c of the time, over many plans. Each plan is made
on a few problems and carried out on others:

* of made-up worlds whose truth is known, as many problems are drawn as it takes to know it: new problems of the very task types that
  were planned on (``known``), of new types (``new``), or of no types at all (``problems``);
* of the shipped problem sets a part is planned on and the rest stands for what comes. That rest is a sample too, so what is counted
  there is how often a target is missed by more than so many problems may by chance: ``for so many``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.intervals import problems
from ttc_sim.base.draws import uniforms
from ttc_sim.files.writing import write_atomically
from ttc_sim.optimizer.confidence_costs import LEVELS
from ttc_sim.optimizer.plan import Plan
from ttc_sim.optimizer.planning import plan_model
from ttc_sim.policies import parse_policy
from ttc_sim.scenario import Scenario, Targets, load_scenario, scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import summarize
from ttc_sim.workload.population import Population

FRESH = 4000  # problems that the truth of a made-up world is known from
_ROUNDING = 1e-9


def world(**targets: Any) -> Scenario:
    """Two endpoints, so that nothing but problems and times is random."""

    def api(usd: float, per_token_s: float) -> dict[str, Any]:
        return {
            "kind": "api",
            "price": {"input_usd_per_mtok": usd / 5, "output_usd_per_mtok": usd},
            "first_token": {"median_s": 0.5, "p95_s": 1.0},
            "per_token": {"median_s": per_token_s, "p95_s": 2 * per_token_s},
            "timeout_s": 20,
        }

    return scenario_from_dict(
        {
            "name": "confidence",
            "replications": 2,
            "workload": {
                "arrivals": {"process": "poisson", "rate_per_s": 4.0},
                "requests": 600,
                "sources": {"all": {"problem_set": "made-up"}},
            },
            "deployments": {"small": api(1.0, 0.01), "large": api(8.0, 0.02)},
            "arms": {"own": {"profile": "a", "deployment": "small"}, "other": {"profile": "b", "deployment": "large"}},
            "search": {"bands": 8, "max_bands": 2, "scores": ["difficulty"]},
            "targets": targets,
        }
    )


@dataclass(frozen=True)
class Case:
    """What is planned, on how many problems of how many types."""

    targets: Mapping[str, Any]
    types: int
    each: int
    generalize: str | None = None

    def sample(self, k: int) -> Population:
        """Problems to plan on."""
        return problems(self.types, self.each, 2 * k + 1, self.generalize == "new")

    def fresh(self, k: int) -> Population:
        """Problems to judge by."""
        by_type = self.generalize == "new"
        if self.generalize == "known":
            return problems(self.types, FRESH // self.types, 2 * k + 2, by_type, 2 * k + 1)
        return problems(FRESH, 1, 2 * k + 2, by_type)


ACCURACY = {"minimize": "cost", "accuracy": 0.62}
BUDGET = {"maximize": "accuracy", "cost_usd_per_request": 0.0012}
LATE = {"minimize": "cost", "accuracy": 0.55, "latency_p95_s": 9.0, "timeout_rate": 0.02}
CASES = {
    f"{name}, {about}": Case(targets, types, each, generalize)
    for about, targets in (("accuracy", ACCURACY), ("budget", BUDGET), ("late", LATE))
    for name, types, each, generalize in (
        ("problems", 300, 1, None),
        ("few problems", 40, 1, None),
        ("known types", 20, 15, "known"),
        ("new types", 40, 8, "new"),
        ("few new types", 12, 20, "new"),
    )
}


@dataclass(frozen=True)
class Held:
    """One target of one plan: with what confidence it was promised, and whether it was kept on fresh problems."""

    level: float
    target: str
    kept: bool


def judged(case: Case, k: int) -> list[Held]:
    """The plans of all confidences that one sample of problems gives, on fresh problems."""
    generalize = {} if case.generalize is None else {"generalize": case.generalize}
    scenario = world(**case.targets, **generalize)
    plan = plan_model(load_model(scenario, case.sample(k)))
    fresh = load_model(scenario, case.fresh(k))
    return list(_kept(plan, fresh, 20_000))


def _kept(plan: Plan, fresh: Model, requests: int) -> Iterator[Held]:
    targets = plan.scenario.targets
    assert targets is not None
    assert fresh.population is not None
    for row in plan.confidence_costs:
        if row.status != "met" or row.confidence not in LEVELS:
            continue
        policy = parse_policy(row.policy)
        model = replace(fresh, population=replace(fresh.population, responses=plan.scenario.responses))
        assert model.population is not None
        arm = policy.choose(model.population.as_requests(), model.arm_names)
        run = run_once(model, policy, draw(model, 0, requests=requests, purpose="truth"))
        truth = summarize(model, [run], expected=expect_arms(model).under(arm))
        for target in targets.asked():
            figure = truth.quantity(target.name)
            assert figure is not None
            room = figure.value - target.bound if target.at_least else target.bound - figure.value
            yield Held(row.confidence, target.name, room >= -_ROUNDING)


def missed(held: list[Held]) -> dict[str, dict[float, tuple[int, int]]]:
    """By target and confidence, how many plans promised it and how many of them missed it."""
    out: dict[str, dict[float, tuple[int, int]]] = {}
    for one in held:
        made, lost = out.setdefault(one.target, {}).get(one.level, (0, 0))
        out[one.target][one.level] = (made + 1, lost + (not one.kept))
    return out


# ------------------------------------------------------------------------------------------------- shipped problem sets


def splits(name: str, k: int, generalize: str | None, part: float = 0.5) -> tuple[Model, Model]:
    """A shipped scenario over a part of its problems, and over the rest: whole kinds go to one side, or as many of each to both."""
    raw = load_scenario(name).model_dump(mode="python", exclude={"path"}, exclude_none=True)
    raw["replications"], raw["workload"]["requests"] = 2, 600
    raw["search"] |= {"bands": 5, "max_bands": 2}
    if generalize is not None:
        raw["targets"]["generalize"] = generalize
    scenario = scenario_from_dict(raw)
    whole = load_model(scenario).population
    assert whole is not None
    lots = uniforms(k, "split", int(whole.cluster.max()) + 1)[:, 0]
    if generalize == "known":
        kind = np.zeros(len(lots), dtype=np.int64)
        kind[whole.cluster] = np.unique(whole.group, return_inverse=True)[1]
        order = np.lexsort((lots, kind))
        place = np.zeros(len(lots), dtype=np.int64)
        place[order] = np.arange(len(lots))
        lots = ((place - np.searchsorted(kind[order], kind)) + 0.5) / np.bincount(kind)[kind]
    keep = (lots < part)[whole.cluster]
    return load_model(scenario, whole.restricted(keep)), load_model(scenario, whole.restricted(~keep))
