"""What a policy is compared against: always one arm, and the policy itself without its caps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.space import base_arm, expanded_model, load_model_like, with_decisions
from ttc_sim.optimizer.task import Progress
from ttc_sim.policies import Always, Banded, PerSource, Policy, Requests, Threshold, Utility
from ttc_sim.policies.responses import Response
from ttc_sim.scenario import GpuPool, scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import Expectations, expect_arms
from ttc_sim.simulation.expected_times import expected_seconds, first_guess
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.response_fit import fit_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize

BASELINE_REQUESTS = 20_000


@dataclass(frozen=True)
class _Uncapped(Policy):
    """A policy whose choice is replaced by the arm's variant with no cap, or with the highest."""

    policy: Policy
    widest: Mapping[str, str]

    def arm_names(self) -> tuple[str, ...]:
        """The widest variants."""
        return tuple(self.widest.values())

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index of the widest variant of the policy's choice."""
        index = np.array([list(arms).index(self.widest[base_arm(name)]) for name in arms], dtype=np.int64)
        return index[self.policy.choose(requests, arms)]


def compare_with_baselines(model: Model, policy: Policy, progress: Progress = lambda _: None) -> dict[str, Summary]:
    """Figures of always one arm and of the policy without its caps, on the requests that ``simulate`` draws.

    A policy that is the user's own function has no caps to take away, so only the other baselines are given. Of more requests
    than are needed to tell policies apart, baselines serve the first ``BASELINE_REQUESTS``.
    """
    if model.population is None:
        return {}
    per_source = _per_source(policy, model.population.sources)
    raw = model.scenario.model_dump(mode="python", exclude={"path"})
    if raw["workload"]["requests"] > BASELINE_REQUESTS:
        raw["workload"]["requests"] = BASELINE_REQUESTS
        model = load_model_like(model, scenario_from_dict(raw, model.scenario.path))
    expectations = expect_arms(expanded_model(model))
    rate_per_s = draw(expectations.model, 0, purpose="search").traffic.rate_per_s
    responses = None
    if policy.uses_responses:
        fitted = fit_responses(expectations, expected_seconds(expectations, first_guess(expectations.model)))
        responses = {name: fitted[name] for name in _uncapped_arms(expectations.model)}
    return simulate_baselines(expectations, rate_per_s, per_source, responses, "simulate", progress)


def simulate_baselines(
    expectations: Expectations,
    rate_per_s: float,
    policy: PerSource | None,
    responses: Mapping[str, Response] | None,
    purpose: str,
    progress: Progress,
) -> dict[str, Summary]:
    """Always one arm, and the policy without its caps, on the same requests as ``purpose`` draws.

    Args:
        expectations: every arm on every problem.
        rate_per_s: mean rate of all requests.
        policy: whose caps are taken away, if any; ``responses``: what it expects of the arms, where it needs that.
    """
    whole, population = expectations.model, expectations.population
    uncapped = _uncapped_arms(whole)
    single = {name: _always(expectations, name, uncapped) for name in uncapped}
    bill = {}
    for name, one in single.items():
        arm = one.choose(population.as_requests(), whole.arm_names)
        bill[name] = float(expectations.under(arm)["api_cost_usd"] @ population.weight)
        if isinstance(whole.deployments[whole.arms[whole.arm_names.index(name)].deployment], GpuPool):
            for pool, count in _capacity(expectations, arm, rate_per_s).items():
                item = whole.scenario.deployments[pool]
                assert isinstance(item, GpuPool)
                bill[name] += count * item.hourly_usd / 3600 / rate_per_s
    everywhere = [name for name in uncapped if len(_arm_sources(whole, name)) == len(population.sources)] or uncapped
    labels = {
        "always-small": min(everywhere, key=lambda name: bill[name]),
        "always-large": max(uncapped, key=lambda name: bill[name]),
    }
    rivals: dict[str, Policy] = {label: single[name] for label, name in labels.items()}
    rivals |= {f"always-{name}": single[name] for name in uncapped if name not in labels.values()}
    if policy is not None:
        rivals["uncapped"] = _Uncapped(policy, {base_arm(name): name for name in uncapped})
    able = replace(population, responses=responses)
    out = {}
    for label, other in rivals.items():
        arm = other.choose(able.as_requests(), whole.arm_names)
        model = load_model_like(
            whole, with_decisions(whole.scenario, None, _capacity(expectations, arm, rate_per_s), responses)
        )
        done = [run_once(model, other, draw(model, k, purpose=purpose)) for k in range(whole.scenario.replications)]
        out[label] = summarize(model, done, expected=expectations.under(arm))
        progress(f"{label}: {figures_in_brief(out[label])}")
    return out


def _per_source(policy: Policy, sources: Sequence[str]) -> PerSource | None:
    if isinstance(policy, PerSource):
        parts = [_per_source(one, [source]) for source, one in policy.policies.items()]
        known = [part for part in parts if part is not None]
        return (
            PerSource({k: v for part in known for k, v in part.policies.items()}) if len(known) == len(parts) else None
        )
    if isinstance(policy, Threshold):
        policy = Banded(edges=[policy.at], arms=[policy.below, policy.above], score=policy.score)
    return PerSource(dict.fromkeys(sources, policy)) if isinstance(policy, (Always, Banded, Utility)) else None


def _uncapped_arms(model: Model) -> list[str]:
    """Of each arm of the scenario the variant with no cap, or with the highest."""
    best: dict[str, str] = {}
    for arm in model.arms:
        base = base_arm(arm.name)
        held = best.get(base)
        cap = arm.strategy.attempt_cap
        before = model.arms[model.arm_names.index(held)].strategy.attempt_cap if held is not None else 0
        if held is None or (before is not None and (cap is None or cap > before)):
            best[base] = arm.name
    return list(best.values())


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
        if isinstance(pool, GpuPool) and any(here):
            choices = sorted(search.replicas.get(name, [pool.replicas]))
            needed = float(load_s[here].sum()) / search.utilization
            replicas[name] = next((r for r in choices if r >= needed), choices[-1])
    return replicas
