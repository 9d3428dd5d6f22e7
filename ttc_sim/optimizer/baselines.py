"""What a policy is compared against: always one arm, and the policy itself without its caps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.base.progress import Counting, Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.optimizer.looking import Simulated, carry_out
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing.proposal import Proposal, allowed_replicas
from ttc_sim.optimizer.space import base_arm, expanded_model, without_cap
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.policies import Always, Banded, PerSource, Policy, Requests, Threshold, Utility
from ttc_sim.policies.responses import Response
from ttc_sim.scenario import has_fixed_cost
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import Expectations, expect_arms
from ttc_sim.simulation.model import Model, ResolvedArm
from ttc_sim.simulation.result import Result
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize


@dataclass(frozen=True)
class _Uncapped(Policy):
    """A policy whose choice is replaced by the arm's variant with no cap, or with the highest.

    Attributes:
        policy: that chooses among ``own``, with what it expects of them.
        widest: by arm of its own, the variant that serves instead.
    """

    policy: Policy
    own: tuple[str, ...]
    responses: Mapping[str, Response] | None
    widest: Mapping[str, str]

    def arm_names(self) -> tuple[str, ...]:
        """The widest variants."""
        return tuple(dict.fromkeys(self.widest.values()))

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index of the widest variant of the policy's choice."""
        index = np.array([list(arms).index(self.widest[name]) for name in self.own], dtype=np.int64)
        return index[self.policy.choose(replace(requests, responses=self.responses), self.own)]


@shows_progress()
@one_thread()
def compare_with_baselines(
    result: Result, own: Summary, *, requests: int | None = None, progress: Telling = None
) -> dict[str, Summary]:
    """Figures of always one arm and of the policy without its caps, on the very requests and replicas that the policy ran on.

    A policy that looks at live load, or is the user's own function, has no caps to take away, so only the other baselines are
    given. A baseline that sends every request where the policy does is the policy: it is not simulated again.

    Args:
        result: of the policy; own: its summary.
        requests: of each run, as :func:`ttc_sim.simulate` was asked for; the scenario's if left out.
    """
    say = telling("compare_with_baselines", progress)
    model, policy = result.model, result.policy
    if model.population is None or np.isnan(model.population.share).any():
        return {}
    whole = expanded_model(model)
    uncapped = _one_of_each(_uncapped_arms(whole))
    widest = _widest(whole, model.arm_names)
    served = {*uncapped, *widest.values()}
    expectations = expect_arms(whole, {v for v, name in enumerate(whole.arm_names) if name in served})
    rivals: dict[str, Policy] = {**_always_rivals(expectations, uncapped, None)}
    # An arm whose strategy is none of those that are searched has no variant there.
    if _has_caps(policy) and {*widest.values()} <= {*whole.arm_names}:
        rivals["uncapped"] = _Uncapped(policy, model.arm_names, model.population.responses, widest)
    out: dict[str, Summary] = {}
    known: list[tuple[I64, Summary]] = []
    tell = Counting(say, "comparing with baselines", len(rivals), "baselines")
    for number, (label, other) in enumerate(rivals.items(), 1):
        arm = other.choose(expectations.population.as_requests(), whole.arm_names)
        same = next((summary for choice, summary in known if (choice == arm).all()), None)
        if same is not None:
            out[label] = same
        elif _runs_alike(result, other, whole, arm):
            out[label] = own
        else:
            draws = [draw(whole, run.number, requests=requests) for run in result.runs]
            done = [run_once(whole, other, one) for one in draws]
            out[label] = summarize(whole, done, expected=expectations.under(arm))
        known.append((arm, out[label]))
        tell(number, f"{label}: {figures_in_brief(out[label])}")
    return out


def _runs_alike(result: Result, other: Policy, whole: Model, arm: I64) -> bool:
    """Whether another policy sends every problem, and every request that was sent, to what the policy sends it to.

    Args:
        arm: (P,) index of the arm of ``whole`` that the other policy sends each problem to.
    """
    model = result.model
    assert model.population is not None
    mine, others = ([_served_by(one, arm.name) for arm in one.arms] for one in (model, whole))
    alike = np.array([[a == b for b in others] for a in mine])
    if not alike.any(axis=1).any():
        return False
    live = result.policy.looks_at_load
    if not live:
        own = result.policy.choose(model.population.as_requests(), model.arm_names)
        if not alike[own, arm].all():
            return False
    return all(alike[run.arm, other.choose(run.requests, whole.arm_names)].all() for run in result.runs)


def _served_by(model: Model, name: str) -> str:
    """All that says how an arm serves a request."""
    return repr(model.scenario.arms[name].model_dump(exclude={"sources", "strategy"})) + repr(
        model.arms[model.arm_names.index(name)].strategy
    )


def _has_caps(policy: Policy) -> bool:
    """Whether it is a policy that chooses arms by what is known of a request beforehand."""
    if isinstance(policy, PerSource):
        return all(_has_caps(one) for one in policy.policies.values())
    return isinstance(policy, (Always, Banded, Threshold, Utility))


def always_proposals(task: PlanningTask) -> dict[str, Proposal]:
    """Always one arm, as plans: by name."""
    whole = task.model
    uncapped = _one_of_each(_uncapped_arms(whole))
    return {
        label: _proposal(task, policy, None)
        for label, policy in _always_rivals(task.expectations, uncapped, task).items()
    }


def uncapped_proposal(task: PlanningTask, plan: Proposal) -> Proposal | None:
    """The plan without its caps, as a plan of its own; ``None`` for a policy that cannot be written down so."""
    widest = _widest(task.model, task.model.arm_names)
    policies: dict[str, Policy] = {}
    for source, one in plan.policy.policies.items():
        if isinstance(one, Always):
            policies[source] = Always(widest[one.arm])
        elif isinstance(one, Banded):
            policies[source] = _joined(one, [widest[name] for name in one.arms])
        else:
            return None
    return _proposal(task, PerSource(policies), plan.replicas)


def carry_out_uncapped(task: PlanningTask, plan: Simulated) -> Summary:
    """Figures of the plan's own choice without its caps, on the requests that it was verified on."""
    whole, proposal = task.model, plan.proposal
    names = whole.arm_names
    policy = _Uncapped(proposal.policy, names, proposal.responses, _widest(whole, names))
    arm = policy.choose(task.population.as_requests(), names)
    if (arm == proposal.choose(task.population, names)).all():
        return plan.summary
    summary = carry_out(task, policy, arm, proposal.replicas, None, "verify", whole.scenario.replications).summary
    return plan.optimism.taken_off(summary)


def _joined(policy: Banded, arms: Sequence[str]) -> Policy:
    """The bands with other arms; neighbours with the same arm are one."""
    edges = [edge for edge, a, b in zip(policy.edges, arms, arms[1:], strict=False) if a != b]
    kept = [arms[0], *(b for a, b in pairwise(arms) if a != b)]
    return Banded(edges=edges, arms=kept, score=policy.score) if edges else Always(kept[0])


def _proposal(task: PlanningTask, policy: PerSource, replicas: Mapping[str, int] | None) -> Proposal:
    """A policy by hand as a proposal, on the fewest replicas that carry its load."""
    arm = policy.choose(task.population.as_requests(), task.model.arm_names)
    expected, weight = task.expectations.under(arm), task.population.weight
    counts = _capacity(task.expectations, arm, task.rate_per_s) if replicas is None else replicas
    return Proposal(
        policy=policy,
        replicas=counts,
        accuracy=float(expected["correct"] @ weight),
        cost_usd_per_request=float(expected["api_cost_usd"] @ weight) + task.pools_usd_per_request(counts),
        excess={},
    )


def _always_rivals(
    expectations: Expectations, uncapped: Sequence[str], task: PlanningTask | None
) -> dict[str, PerSource]:
    """Always one arm, by label; the cheapest and the dearest have names of their own.

    Args:
        task: whose rule says how many replicas a pool has; ``None`` for the scenario's own.
    """
    whole, population = expectations.model, expectations.population
    single = {name: _always(expectations, name, uncapped) for name in uncapped}
    rate_per_s = draw(whole, 0, purpose="search").traffic.rate_per_s if task is None else task.rate_per_s
    bill = {}
    for name, one in single.items():
        arm = one.choose(population.as_requests(), whole.arm_names)
        bill[name] = float(expectations.under(arm)["api_cost_usd"] @ population.weight)
        if has_fixed_cost(whole.deployments[whole.arms[whole.arm_names.index(name)].deployment]):
            for pool, count in _capacity(expectations, arm, rate_per_s).items():
                item = whole.scenario.deployments[pool]
                bill[name] += (item.planned_replicas if task is None else count) * item.hourly_usd / 3600 / rate_per_s
    everywhere = [name for name in uncapped if len(_arm_sources(whole, name)) == len(population.sources)] or uncapped
    labels = {
        "always-small": min(everywhere, key=lambda name: bill[name]),
        "always-large": max(uncapped, key=lambda name: bill[name]),
    }
    rivals = {label: single[name] for label, name in labels.items()}
    return rivals | {f"always-{name}": single[name] for name in uncapped if name not in labels.values()}


def _uncapped_arms(model: Model) -> list[str]:
    """Of each arm of the scenario that requests may be sent to, and each strategy of it that is searched, the variant with no cap,
    or with the highest."""
    best: dict[str, str] = {}
    for arm in model.arms:
        if not arm.sources:
            continue
        base = without_cap(arm.name)
        if base not in best or _width(model, arm) > _width(model, model.arms[model.arm_names.index(best[base])]):
            best[base] = arm.name
    return list(best.values())


def _width(model: Model, arm: ResolvedArm) -> tuple[int, int]:
    """How many of its stages have no cap, and how many tokens the caps of the others let through."""
    others = [other for other in model.arms if other.name in arm.strategy.other_arms]
    caps = [other.strategy.attempt_cap for other in others] or [arm.strategy.attempt_cap]
    return sum(cap is None for cap in caps), sum(cap or 0 for cap in caps)


def _widest(model: Model, names: Sequence[str]) -> dict[str, str]:
    """Of each of these arms the variant with no cap, or with the highest; itself, where requests may be sent to none."""
    widest = {without_cap(name): name for name in _uncapped_arms(model)}
    return {name: widest.get(without_cap(name), name) for name in names}


def _one_of_each(uncapped: Sequence[str]) -> list[str]:
    """Of each arm of the scenario one variant: that of its own strategy, if it is there."""
    own: dict[str, str] = {}
    for name in uncapped:
        base = base_arm(name)
        if base not in own or without_cap(name) == base:
            own[base] = name
    return list(own.values())


def _arm_sources(model: Model, name: str) -> tuple[str, ...]:
    return model.arms[model.arm_names.index(name)].sources


def _always(expectations: Expectations, name: str, uncapped: Sequence[str]) -> PerSource:
    """One arm for all; where it was not measured, the most accurate one that was."""
    model, population = expectations.model, expectations.population
    policies: dict[str, Policy] = {}
    for s, source in enumerate(population.sources):
        used = name
        if source not in _arm_sources(model, name):
            rows = population.source == s
            able = [other for other in uncapped if source in _arm_sources(model, other)]
            used = max(able, key=lambda o: float(expectations.correct[model.arm_names.index(o)][rows].mean()))
        policies[source] = Always(used)
    return PerSource(policies)


def _capacity(expectations: Expectations, arm: I64, rate_per_s: float) -> dict[str, int]:
    """Fewest replicas, of those that may be chosen, that keep each pool's load within the limit; else the most.

    Args:
        arm: (P,) that each problem is sent to.
    """
    model, search = expectations.model, expectations.model.scenario.search
    load_s = expectations.gpu_s[arm, range(len(arm))] * expectations.population.weight * rate_per_s
    replicas = {}
    for index, name in enumerate(model.deployment_names):
        pool = model.deployments[index]
        here = [model.arms[a].deployment == index for a in arm]
        if has_fixed_cost(pool) and any(here):
            choices = allowed_replicas(model, name)
            needed = float(load_s[here].sum()) / search.utilization
            replicas[name] = next((r for r in choices if r >= needed), choices[-1])
    return replicas
