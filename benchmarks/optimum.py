"""How often a plan is the true optimum: random small scenarios beside exhaustive search by simulation, and beside Optuna.

``python -m benchmarks.optimum [--scenarios 20]``. Every scenario has one to three deployments (GPU pools with two to six numbers of
replicas, or an API), an arm on each with one to three caps, and a threshold on predicted difficulty. Exhaustive search simulates
policies and capacities in the order of what they promise until one keeps the targets, on the draws and in as many runs as a plan is
verified by. Optuna (left out where it is not installed) may simulate as often as the plan did.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttc_sim.base.draws import uniforms
from ttc_sim.optimizer.capacities import objective
from ttc_sim.optimizer.looking import Learnt, Simulated, simulate_proposal
from ttc_sim.optimizer.optimism import HeldOut, Optimism
from ttc_sim.optimizer.planning import Choice, choose_policy
from ttc_sim.optimizer.proposing.proposal import Proposal, allowed_replicas
from ttc_sim.optimizer.proposing.strides import lay_out_strides
from ttc_sim.optimizer.space import expanded_model, load_model_like
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.policies import Always, Banded, PerSource, Policy
from ttc_sim.scenario import has_fixed_cost, scenario_from_dict
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model, load_model

PROFILES = (
    "reasoning-gym/mistral-small-3.1-24b-instruct",
    "reasoning-gym/llama-4-maverick",
    "reasoning-gym/claude-sonnet-4",
)
PROBLEMS = 500


def main() -> None:
    """Print a row for each scenario, and how often the plan is the optimum."""
    parser = argparse.ArgumentParser(description="Plans beside exhaustive search and Optuna.")
    parser.add_argument("--scenarios", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="Number of the first scenario.")
    args = parser.parse_args()
    optuna = installed_optuna()
    if optuna is None:
        print("Optuna is not installed (pip install optuna): left out")
    print("scenario  space  asked                     plan         optimum      optuna       looks  seconds")
    right = near = beaten = 0
    for number in range(args.first, args.first + args.scenarios):
        start = time.perf_counter()
        row = compare(number, optuna)
        right += row.right
        near += row.within(0.01)
        beaten += row.optuna_worse
        print(
            f"{number:8d}  {row.space:5d}  {row.asked:24s}  {_shown(row.plan):11s}  {_shown(row.optimum):11s}  "
            f"{_shown(row.optuna):11s}  {row.looks:5d}  {time.perf_counter() - start:7.1f}",
            flush=True,
        )
    print(f"the optimum, or better: {right} of {args.scenarios}; within 1% of it: {near} of {args.scenarios}")
    if optuna is not None:
        print(f"Optuna, with as many simulations, is worse than the plan in {beaten} of {args.scenarios}")


@dataclass(frozen=True)
class Row:
    """One scenario. Objectives are US dollars per 1,000 requests, or minus the accuracy; ``None`` where no target is kept.

    Attributes:
        space: policies and capacities; looks: simulations behind the plan.
    """

    space: int
    asked: str
    plan: float | None
    optimum: float | None
    optuna: float | None
    looks: int

    @property
    def right(self) -> bool:
        """Whether the plan is the optimum, or better: its policies are not only thresholds."""
        return self.within(1e-6)

    def within(self, share: float) -> bool:
        """Whether the plan is no more than this share worse."""
        if self.optimum is None or self.plan is None:
            return self.optimum is None
        return self.plan <= self.optimum + share * abs(self.optimum)

    @property
    def optuna_worse(self) -> bool:
        """Whether Optuna found nothing, or something worse than the plan."""
        return self.plan is not None and (self.optuna is None or self.optuna > self.plan + 1e-6 * abs(self.plan))


def compare(number: int, optuna: Any = None) -> Row:
    """The plan of a random scenario beside the best of all."""
    model, asked = random_model(number)
    choice = choose_policy(model)
    plan = choice.verified
    space = Space(choice)
    looks = len(choice.task.carried_out)
    best = space.optimum()
    tried = None if optuna is None else by_optuna(optuna, space, looks, number)
    return Row(
        space=space.size,
        asked=asked,
        plan=figure(plan) if plan.meets_targets else None,
        optimum=None if best is None else figure(best),
        optuna=None if tried is None else figure(tried),
        looks=looks,
    )


def figure(seen: Simulated) -> float:
    """US dollars per 1,000 requests where cost is minimized, else minus the accuracy."""
    targets = seen.model.scenario.targets
    assert targets is not None
    assert seen.summary.accuracy is not None
    if targets.maximize is None:
        return 1000 * seen.summary.cost_usd_per_request.value
    return -seen.summary.accuracy.value


def random_model(number: int) -> tuple[Model, str]:
    """A small random scenario, and its targets in words."""
    u: Iterator[float] = iter(uniforms(number, "optimum", 200)[:, 0].tolist())

    def between(low: float, high: float) -> float:
        return low + (high - low) * next(u)

    def one_of(values: Any) -> Any:
        return values[int(next(u) * len(values))]

    count = one_of((1, 2, 2, 3))
    same = next(u) < 0.25  # the same profile on pools of different kinds
    deployments: dict[str, Any] = {}
    arms: dict[str, Any] = {}
    caps: dict[str, Any] = {}
    replicas: dict[str, Any] = {}
    for k in range(count):
        name = f"d{k}"
        if k > 0 and not same and next(u) < 0.35:
            deployments[name] = {
                "kind": "api",
                "price": {"input_usd_per_mtok": between(0.1, 1.0), "output_usd_per_mtok": between(0.5, 6.0)},
                "first_token": {"median_s": 0.5, "p95_s": 1.0},
                "per_token": {"median_s": between(0.004, 0.012), "p95_s": 0.02},
            }
        else:
            slow = between(0.5, 2.0)
            deployments[name] = {
                "kind": "gpu_pool",
                "replicas": 1,
                "usd_per_replica_hour": round(between(1.0, 8.0), 2),
                "max_num_seqs": one_of((8, 16, 32)),
                "max_num_batched_tokens": 2048,
                "step_time": {
                    "base_s": 0.012 * slow,
                    "per_prefill_token_s": 6e-5 * slow,
                    "per_sequence_s": 2e-4 * slow,
                    "per_kv_token_s": 6e-8 * slow,
                },
            }
            replicas[name] = sorted({1 + int(next(u) * 8) for _ in range(one_of((2, 3, 4, 6)))} | {8})
        arms[f"a{k}"] = {"profile": PROFILES[0 if same else k], "deployment": name}
        caps[f"a{k}"] = sorted({one_of((512, 1024, 2048, 4096)) for _ in range(one_of((1, 2, 3)))})
    maximize = next(u) < 0.25
    raw: dict[str, Any] = {
        "name": f"random-{number}",
        "seed": number,
        "replications": 3,
        "workload": {
            "arrivals": {"process": "gamma", "rate_per_s": round(between(2.0, 8.0), 1), "cv": one_of((1.0, 1.5))},
            "requests": 400,
            "sources": {"easy": {"problem_set": "reasoning-gym", "subset": "reasoning-gym-easy"}},
        },
        "deployments": deployments,
        "arms": arms,
        "search": {"bands": 3, "max_bands": 2, "scores": ["difficulty"], "caps": caps, "replicas": replicas},
        "targets": {"minimize": "cost", "accuracy": 0.1},
    }
    whole = load_model(scenario_from_dict(raw))
    assert whole.population is not None
    keep = np.zeros(len(whole.population), dtype=np.bool_)
    keep[np.argsort(uniforms(number, "problems", len(keep))[:, 0])[:PROBLEMS]] = True
    model = load_model(whole.scenario, whole.population.restricted(keep))
    # Targets that something reaches: those of a random policy on random replicas, more or less.
    expectations = expect_arms(expanded_model(model))
    task = PlanningTask.of(expectations, model.scenario.targets)  # type: ignore[arg-type]
    space = Space(Choice(task, {}, {}, None, {}, (), (), 0.0, None))  # type: ignore[arg-type]
    proposals = [one for one in space.proposals if one.accuracy > 0.15]
    some = proposals[int(next(u) * len(proposals))]
    seen = space.look(some)
    targets: dict[str, Any] = {"latency_p95_s": round(seen.summary.latency_s["p95"].value * between(0.8, 1.3), 2)}
    if maximize:
        targets |= {"maximize": "accuracy", "cost_usd_per_request": float(f"{some.cost_usd_per_request * 1.2:.3g}")}
    else:
        targets |= {"minimize": "cost", "accuracy": round(0.9 * some.accuracy, 3)}
    asked = f"p95 {targets['latency_p95_s']:g} s, " + (
        f"${1000 * targets['cost_usd_per_request']:.3g}" if maximize else f"accuracy {targets['accuracy']:.3f}"
    )
    return load_model_like(model, scenario_from_dict({**raw, "targets": targets})), asked


class Space:
    """Every policy with a threshold, on every capacity that carries its load."""

    def __init__(self, choice: Choice) -> None:
        self.task = task = choice.task
        optimism = choice.found["bands"].learnt.optimism if choice.found else None
        nothing = HeldOut(np.zeros(0), np.zeros(0))
        self.learnt = Learnt(task.limits(), task.timing(), optimism or Optimism(0.0, 0.0, nothing))
        strides = lay_out_strides(task.question(task.limits(), task.timing()), ["difficulty"])
        (source,), names = task.population.sources, task.model.arm_names
        self.policies: list[Policy] = [Always(name) for name in names]
        self.policies += [
            Banded([float(edge)], [low, high])
            for edge in strides.edges[0, 0]
            for low, high in itertools.permutations(names, 2)
        ]
        self.pools = [name for name, item in task.model.scenario.deployments.items() if has_fixed_cost(item)]
        self.sizes = {name: allowed_replicas(task.model, name) for name in self.pools}
        self.proposals = [
            proposal for policy in self.policies for proposal in self._on_all(PerSource({source: policy}))
        ]

    @property
    def size(self) -> int:
        """Policies times capacities."""
        return len(self.proposals)

    def _on_all(self, policy: PerSource) -> Iterator[Proposal]:
        task, population = self.task, self.task.population
        arm = policy.choose(population.as_requests(), task.model.arm_names)
        expected = task.expectations.under(arm)
        busy = task.expectations.gpu_s[arm, np.arange(len(arm))] * population.weight * task.rate_per_s
        where = np.array([task.model.deployment_names[one.deployment] for one in task.model.arms])[arm]
        load = {name: float(busy[where == name].sum()) for name in self.pools if (where == name).any()}
        most = task.model.scenario.search.utilization
        for counts in itertools.product(*(self.sizes[name] for name in load)):
            replicas = dict(zip(load, counts, strict=True))
            if all(load[name] <= most * count + 1e-9 for name, count in replicas.items()):
                cost = float(expected["api_cost_usd"] @ population.weight) + task.pools_usd_per_request(replicas)
                yield Proposal(policy, replicas, float(expected["correct"] @ population.weight), cost, {})

    def look(self, proposal: Proposal) -> Simulated:
        """Simulated as plans are verified."""
        return simulate_proposal(self.task, proposal, self.learnt, "verify", self.task.model.scenario.replications)[0]

    def optimum(self) -> Simulated | None:
        """The first that keeps the targets, in the order of what they promise."""
        targets, optimism = self.task.targets, self.learnt.optimism
        for proposal in sorted(self.proposals, key=lambda one: objective(one, targets)):
            if targets.accuracy is not None and proposal.accuracy - optimism.accuracy < targets.accuracy:
                continue
            most = targets.cost_usd_per_request
            if most is not None and proposal.cost_usd_per_request - optimism.cost_usd_per_request > 1.02 * most:
                continue
            seen = self.look(proposal)
            if seen.meets_targets:
                return seen
        return None


def installed_optuna() -> Any:
    """The module, if it is installed."""
    try:
        import optuna  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def by_optuna(optuna: Any, space: Space, looks: int, seed: int) -> Simulated | None:
    """The best of as many trials, each a policy on some replicas: what misses is worth the less, the more it misses."""
    held: list[Simulated] = []
    targets = space.task.targets

    def value(trial: Any) -> float:
        policy = space.policies[trial.suggest_categorical("policy", list(range(len(space.policies))))]
        arms = set(policy.arm_names())
        used = {space.task.model.deployment_names[one.deployment] for one in space.task.model.arms if one.name in arms}
        replicas = {
            name: space.sizes[name][trial.suggest_int(name, 0, len(space.sizes[name]) - 1)]
            for name in space.pools
            if name in used
        }
        (source,) = space.task.population.sources
        proposal = Proposal(PerSource({source: policy}), replicas, math.nan, math.nan, {})
        seen = space.look(proposal)
        if seen.meets_targets:
            held.append(seen)
        miss, main, _ = seen.rank(targets)
        return 100.0 * miss + (1000 * main if targets.maximize is None else main)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(value, n_trials=looks)
    return min(held, key=figure, default=None)


def _shown(value: float | None) -> str:
    if value is None:
        return "not met"
    return f"${value:.4f}" if value > 0 else f"{-value:.2%}"


if __name__ == "__main__":
    main()
