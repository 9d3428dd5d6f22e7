"""How often targets are missed that plans were asked to hold: ``python -m benchmarks.confidence [--plans 60] [--only NAME]``.

A target asked for with confidence c should be missed on fresh problems at most 1 - c of the time, over many plans. Each plan is
made on a few problems and carried out on others:

* of made-up worlds whose truth is known, as many problems are drawn as it takes: new problems of the very task types that were
  planned on (``known types``), of new types (``new types``), or of an endless supply without types (``problems``);
* of the shipped problem sets a half is planned on, and the other stands for what comes. That is a sample itself, so that a target
  is missed more often there: at most as often as the plans' chances allow once that is counted in (``may``).

``said``: misses by the plans' own chances, most of which are above what was asked for, as few policies come close to a bound.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.intervals import problems
from ttc_sim.base.draws import uniforms
from ttc_sim.engine.work import REJECTED, TIMED_OUT
from ttc_sim.files.writing import write_atomically
from ttc_sim.optimizer.confidence_costs import LEVELS, ConfidenceCost, costs_of, look_at_confidences
from ttc_sim.optimizer.cross_validating import beside_realized
from ttc_sim.optimizer.planning import plan_model, targets_of
from ttc_sim.optimizer.proposing import PROPOSERS
from ttc_sim.optimizer.searching import search
from ttc_sim.optimizer.space import expanded_model, load_model_like
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.validating import carry_out
from ttc_sim.policies import Policy, parse_policy
from ttc_sim.policies.responses import Response
from ttc_sim.scenario import Scenario, load_scenario, scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.running import run_once
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
            "search": {"bands": 16, "max_bands": 2, "scores": ["difficulty"]},
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
LATE = {"minimize": "cost", "accuracy": 0.5, "latency_p95_s": 9.0, "timeout_rate": 0.02}
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
    """One target of one plan: with what confidence it was asked for and with what chance promised; whether it was kept."""

    level: float
    target: str
    chance: float
    kept: bool


def judged(case: Case, k: int, *, simplest: bool = False) -> list[Held]:
    """The plans of all confidences that one sample of problems gives, on fresh problems.

    Args:
        simplest: search for the simplest kind of policy alone, which takes a third of the time.
    """
    generalize = {} if case.generalize is None else {"generalize": case.generalize}
    scenario = world(**case.targets, **generalize)
    rows, responses = planned(load_model(scenario, case.sample(k)), simplest)
    return list(kept(rows, responses, load_model(scenario, case.fresh(k))))


def planned(model: Model, simplest: bool) -> tuple[Sequence[ConfidenceCost], Mapping[str, Response] | None]:
    """The best plan for each confidence, and what it expects of the arms."""
    if not simplest:
        plan = plan_model(model)
        return plan.confidence_costs, plan.scenario.responses
    targets = targets_of(model.scenario)
    task = PlanningTask.of(expect_arms(expanded_model(model)), targets)
    timing = task.timing()
    found = search(task, PROPOSERS["bands"](task.expectations, timing.waiting), timing)
    others = look_at_confidences(task, found)
    best = min([found.verified, *(one.judged_by(targets) for one in others)], key=lambda one: one.rank(targets))
    return costs_of(targets, best, [found.verified, *others]), None


def kept(rows: Sequence[ConfidenceCost], responses: Mapping[str, Response] | None, fresh: Model) -> Iterator[Held]:
    """Every target of every plan that was said to hold it, on fresh problems."""
    assert fresh.population is not None
    model = replace(fresh, population=replace(fresh.population, responses=responses))
    for row in rows:
        if row.status != "met" or row.confidence not in LEVELS:
            continue
        realized = carried_out(model, parse_policy(row.policy))
        for target in targets_of(fresh.scenario).asked():
            room = realized[target.key] - target.bound
            chance = row.chances[target.name]
            yield Held(
                row.confidence, target.name, chance, (room if target.at_least else -room) >= -_ROUNDING * target.bound
            )


def carried_out(model: Model, policy: Policy) -> dict[str, float]:
    """What a policy comes to: of what needs no queue over all problems, else over as many requests as it takes to know."""
    population = model.population
    assert population is not None
    run = run_once(model, policy, draw(model, 0, requests=20_000, purpose="truth"))
    expected = expect_arms(model).under(policy.choose(population.as_requests(), model.arm_names))
    right, paid = (float(expected[name] @ population.weight) for name in ("correct", "api_cost_usd"))
    return {
        "accuracy": right + float((run.answered_correctly - run.planned_correct).mean()),
        "cost_usd_per_request": paid + float((run.cost_usd - run.planned_api_cost_usd).mean()),
        "latency_p95_s": float(np.quantile(run.latency_s, 0.95)),
        "timeout_rate": float(np.isin(run.result.status, (TIMED_OUT, REJECTED)).mean()),
    }


@dataclass(frozen=True)
class Missed:
    """How many plans promised a target, how many of them missed it, and how many may by their own word."""

    promised: int
    missed: int
    said: float


def missed(held: Iterable[Held]) -> dict[str, dict[float, Missed]]:
    """By target and confidence."""
    out: dict[str, dict[float, Missed]] = {}
    for one in held:
        of = out.setdefault(one.target, {})
        before = of.get(one.level, Missed(0, 0, 0.0))
        of[one.level] = Missed(before.promised + 1, before.missed + (not one.kept), before.said + 1 - one.chance)
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


SHIPPED = {
    f"{name}, {generalize or 'problems'}": (name, generalize)
    for name, generalize in (
        ("reasoning-gateway", "known"),
        ("reasoning-gateway", "new"),
        ("qa-gateway", None),
        ("qa-gateway", "new"),
        ("competition-maths", None),
    )
}


def judged_on_the_rest(name: str, generalize: str | None, k: int) -> list[Held]:
    """The plan of one half of a shipped scenario's problems, on the other."""
    model, rest = splits(name, k, generalize)
    plan = plan_model(model)
    fresh = load_model_like(rest, plan.scenario)
    realized, _ = carry_out(fresh, plan.policy, "rest")
    found = [beside_realized(check, realized) for check in plan.checks]
    return [Held(one.confidence, one.name, one.chance, one.kept) for one in found if one.promised]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plans", type=int, default=60)
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument(
        "--simplest", action="store_true", help="made-up worlds: search for the simplest kind of policy alone"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    console, every = Console(width=150), {}
    for name in (name for name in [*CASES, *SHIPPED] if given.only in name):
        held: list[Held] = []
        for k in range(given.plans):
            if name in CASES:
                held += judged(CASES[name], k, simplest=given.simplest)
            else:
                held += judged_on_the_rest(*SHIPPED[name], k)
        every[name] = found = missed(held)
        table = Table(title=f"{name}: {given.plans} problem samples", header_style="bold")
        table.add_column("target")
        for column in ("confidence", "promised", "missed", "may" if name in SHIPPED else "said", "asked: at most"):
            table.add_column(column, justify="right")
        for target, levels in found.items():
            for level, one in sorted(levels.items()):
                share = one.missed / one.promised
                cells = (f"{share:.1%}", f"{one.said / one.promised:.1%}", f"{1 - level:.1%}")
                table.add_row(target, f"{level:g}", f"{one.promised}", *cells)
        console.print(table)
    if given.json is not None:
        raw = {
            name: {t: {str(c): asdict(m) for c, m in of.items()} for t, of in one.items()}
            for name, one in every.items()
        }
        write_atomically(given.json, json.dumps(raw, indent=2) + "\n")


if __name__ == "__main__":
    main()
