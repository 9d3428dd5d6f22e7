"""How a plan is found: propose by program, dispose by simulation, verify on fresh seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.draws import F64, I64, uniforms
from ttc_sim.errors import InputError, nearest
from ttc_sim.metrics import Summary, summarize
from ttc_sim.optimizer.options import (
    Options,
    Waiting,
    base_arm,
    build_options,
    expanded_model,
    late_share,
    load_model_like,
)
from ttc_sim.optimizer.plan import FrontierPoint, Plan, TargetCheck, policy_notation, targets_asked
from ttc_sim.optimizer.program import (
    LATENCY_TARGETS,
    Limits,
    Proposal,
    build_columns,
    candidate_scores,
    solve,
)
from ttc_sim.policies import Always, Banded, PerSource, Policy, Threshold
from ttc_sim.scenario import GpuPool, Scenario, Targets, scenario_from_dict
from ttc_sim.serving.step_time import StepTable, step_seconds
from ttc_sim.simulation import Model, Run, draw, load_model, run_once
from ttc_sim.strategies import cap_of

ROUNDS = 8  # proposals tried before giving up on a latency target
SEARCH_RUNS = 2  # independent runs behind each look at a proposal
FOLDS = 4  # parts of the problems for measuring optimism
FRONTIER_POINTS = 9

Progress = Callable[[str], None]


def optimize(scenario: Scenario, progress: Progress = lambda _: None) -> Plan:
    """Find the policy, caps and capacity that best meet the scenario's targets.

    A mixed-integer program over bands of predicted scores and arms proposes; simulation checks latency and timeouts, and
    tightens the program's limits until they hold; independent runs on fresh seeds verify. Accuracy and cost are corrected
    for having been chosen on the problems they are measured on.

    Args:
        scenario: with ``targets`` and sources of problems.
        progress: called with a line about each step.

    Raises:
        InputError: no targets, or no problems to judge accuracy on.

    >>> plan = optimize(load_scenario("reasoning-gateway"))  # doctest: +SKIP
    """
    if scenario.targets is None:
        raise InputError(scenario.path, "targets", None, "targets, such as {minimize: cost, accuracy: 0.7}")
    return plan_model(load_model(scenario), progress)


def plan_model(model: Model, progress: Progress = lambda _: None) -> Plan:
    """The same for a loaded model, for instance over a part of the problems (:meth:`Population.restricted`).

    Raises:
        InputError: no problems to judge accuracy on.
    """
    scenario = model.scenario
    if model.population is None:
        raise InputError(scenario.path, "workload.sources", {}, "sources of problems, to know accuracy from")
    assert scenario.targets is not None
    return _Planner(expanded_model(model), scenario.targets, progress).plan()


@dataclass(frozen=True)
class _Look:
    """A proposal and what simulation says of it."""

    proposal: Proposal
    model: Model
    policy: Policy
    summary: Summary
    checks: tuple[TargetCheck, ...]

    @property
    def worst(self) -> float:
        """Largest relative miss of a target; 0 if all hold."""
        return max([_miss(check) for check in self.checks], default=0.0)


class _Planner:
    """One search: what has been learnt about limits and waiting so far."""

    def __init__(self, model: Model, targets: Targets, progress: Progress) -> None:
        self.targets, self.progress = targets, progress
        self.options: Options = build_options(model)
        self.model = model
        self.population = self.options.population
        self.search = model.scenario.search
        self.scores = candidate_scores(self.options, self.search)
        for name in self.scores:
            if name not in self.population.scores:
                raise InputError(model.scenario.path, "search.scores", name, nearest(name, self.population.scores))
        self.rate_per_s = draw(model, 0, purpose="search").traffic.rate_per_s
        self.waiting = {
            name: _first_guess(table)
            for name, table in zip(model.deployment_names, model.step_tables, strict=True)
            if table is not None
        }
        self.limits = Limits(
            accuracy=targets.accuracy,
            cost_usd_per_request=targets.cost_usd_per_request,
            late={name: 1 - q for name, q in LATENCY_TARGETS.items() if getattr(targets, name) is not None},
            timeout_rate=targets.timeout_rate,
            utilization=self.search.utilization,
        )
        self.optimism: dict[str, float] = {"accuracy": 0.0, "cost_usd_per_request": 0.0}

    def plan(self) -> Plan:
        self._measure_optimism()
        found = self._search()
        final, found = self._verify(found)
        self.progress("comparing with the baselines on the same requests")
        baselines = self.baselines(found.proposal.policy, "verify")
        missed = tuple(check.name for check in final.checks if not check.holds)
        binding = tuple(dict.fromkeys([*found.proposal.excess, *missed]))
        return Plan(
            status="met" if not missed else "nearest",
            binding=binding if missed else (),
            scenario=found.model.scenario,
            predicted=final.summary,
            checks=final.checks,
            baselines=baselines,
            frontier=self._frontier(),
            optimism=self.optimism,
        )

    # ------------------------------------------------------------------------------------------- proposals

    def _late(self) -> F64:
        limits = np.array([float(getattr(self.targets, name)) for name in self.limits.late])
        return late_share(self.options, limits, self.waiting)

    def _propose(self, limits: Limits, weight: F64 | None = None, targets: Targets | None = None) -> Proposal:
        weight = self.population.weight if weight is None else weight
        columns = build_columns(self.options, self._late(), weight, self.scores, self.search.bands)
        return solve(self.options, columns, self.scores, targets or self.targets, limits, self.rate_per_s)

    def _measure_optimism(self) -> None:
        """Choose on some problems, look at the others: how much of the promise is only hindsight.

        Whole clusters are held out together. Each is held out once, so that what the folds differ in by chance cancels.
        """
        population = self.population
        clusters = int(population.cluster.max()) + 1
        fold = np.argsort(np.argsort(uniforms(0, "folds", clusters)[:, 0])) % FOLDS
        of_row = fold[population.cluster]
        weight = population.weight
        seen = {"accuracy": 0.0, "cost_usd_per_request": 0.0}
        unseen = dict(seen)
        for k in range(FOLDS):
            self.progress(f"measuring optimism: choosing without part {k + 1} of {FOLDS} of the problems")
            train = _renormalized(np.where(of_row == k, 0.0, weight), population.source, population.share)
            proposal = self._propose(self.limits, train)
            arm = proposal.policy.choose(population.as_requests(), self.model.arm_names)
            expected = self.options.expected(arm)
            held_out = np.where(of_row == k, weight, 0.0)
            for name, key in (("accuracy", "correct"), ("cost_usd_per_request", "api_cost_usd")):
                seen[name] += float(expected[key] @ train) / FOLDS
                unseen[name] += float(expected[key] @ held_out)
        self.optimism["accuracy"] = max(0.0, seen["accuracy"] - unseen["accuracy"])
        self.optimism["cost_usd_per_request"] = min(0.0, seen["cost_usd_per_request"] - unseen["cost_usd_per_request"])
        self._allow_for_optimism()

    def _allow_for_optimism(self) -> None:
        limits = self.limits
        if limits.accuracy is not None:
            limits = replace(limits, accuracy=limits.accuracy + self.optimism["accuracy"])
        if limits.cost_usd_per_request is not None:
            allowed = limits.cost_usd_per_request + self.optimism["cost_usd_per_request"]
            limits = replace(limits, cost_usd_per_request=max(allowed, 0.0))
        self.limits = limits

    # ------------------------------------------------------------------------------------------ simulation

    def _scenario_of(self, proposal: Proposal) -> Scenario:
        """The scenario with the proposal's policy, replicas and only the arms and deployments in use."""
        return _settled(self.model.scenario, policy_notation(proposal.policy), proposal.replicas)

    def _look(self, proposal: Proposal, purpose: str, runs: int) -> _Look:
        model = load_model_like(self.model, self._scenario_of(proposal))
        summary, done = self._figures(model, proposal.policy, purpose, runs)
        self._learn_waiting(model, done)
        return _Look(proposal, model, proposal.policy, summary, self._check(summary))

    def _figures(self, model: Model, policy: Policy, purpose: str, runs: int) -> tuple[Summary, list[Run]]:
        done = [run_once(model, policy, draw(model, k, purpose=purpose)) for k in range(runs)]
        arm = policy.choose(self.population.as_requests(), self.model.arm_names)
        summary = summarize(model, done, expected=self.options.expected(arm))
        return self._less_optimism(summary), done

    def _less_optimism(self, summary: Summary) -> Summary:
        cost = summary.cost_usd_per_request.shifted(-self.optimism["cost_usd_per_request"])
        per_day = -self.optimism["cost_usd_per_request"] * summary.rate_per_s * 86400
        accuracy = summary.accuracy
        return replace(
            summary,
            accuracy=None if accuracy is None else accuracy.shifted(-self.optimism["accuracy"]).clipped(0, 1),
            cost_usd_per_request=cost,
            cost_usd_per_day=summary.cost_usd_per_day.shifted(per_day),
        )

    def _learn_waiting(self, model: Model, runs: Sequence[Run]) -> None:
        """Times to first token and per token that the pools gave in simulation go into the next proposal."""
        for name in list(self.waiting):
            of_pool = np.array([model.deployment_names[arm.deployment] == name for arm in model.arms])
            first: list[F64] = []
            rest: list[F64] = []
            for run in runs:
                served = of_pool[run.arm] & ~np.isnan(run.result.first_token_s) & (run.result.status == 0)
                ttft = run.result.first_token_s - run.result.arrival_s
                tokens = (run.reasoning_tokens + run.visible_tokens).astype(np.float64)
                first.append(ttft[served])
                rest.append((run.latency_s - ttft)[served] / np.maximum(tokens[served] - 1, 1))
            if sum(len(part) for part in first) >= 20:
                self.waiting[name] = Waiting(
                    float(np.quantile(np.concatenate(first), 0.75)), float(np.quantile(np.concatenate(rest), 0.75))
                )

    def _check(self, summary: Summary) -> tuple[TargetCheck, ...]:
        checks = []
        for name, bound, at_least in targets_asked(self.targets):
            figure = summary.quantity(name)
            assert figure is not None
            above = figure.value >= bound
            checks.append(TargetCheck(name, bound, at_least, figure, above if at_least else figure.value <= bound, 0.0))
            checks[-1] = replace(checks[-1], chance=_chance(checks[-1]))
        return tuple(checks)

    # ------------------------------------------------------------------------------------------ the search

    def _search(self) -> _Look:
        """Propose, look, tighten what was missed, until the targets hold or there is nothing left to try."""
        best: _Look | None = None
        tried: set[str] = set()
        for round_ in range(ROUNDS):
            proposal = self._propose(self.limits)
            key = repr((proposal.policy, sorted(proposal.replicas.items())))
            if proposal.excess and best is not None:
                break  # the tightened program has no solution: the best so far is the nearest
            if key in tried and best is not None and best.worst == 0.0:
                break
            tried.add(key)
            look = self._look(proposal, "search", SEARCH_RUNS)
            self.progress(f"proposal {round_ + 1}: {_in_brief(look.summary)}")
            if best is None or self._rank(look) < self._rank(best):
                best = look
            if proposal.excess:
                break
            if look.worst > 0.0:
                self._tighten(look)
        assert best is not None
        return best

    def _rank(self, look: _Look) -> tuple[float, float]:
        """Misses first, then the objective."""
        figure = look.summary.cost_usd_per_request.value
        if self.targets.maximize is not None:
            figure = -look.summary.accuracy.value if look.summary.accuracy is not None else math.inf
        return (look.worst, figure)

    def _tighten(self, look: _Look) -> None:
        """Move the program's limits by what simulation saw missing."""
        limits = self.limits
        for check in look.checks:
            if check.holds:
                continue
            gap = abs(check.promised.value - check.bound)
            if check.name == "accuracy" and limits.accuracy is not None:
                limits = replace(limits, accuracy=limits.accuracy + 1.05 * gap + 1e-4)
            elif check.name == "cost_usd_per_request" and limits.cost_usd_per_request is not None:
                limits = replace(limits, cost_usd_per_request=max(limits.cost_usd_per_request - 1.05 * gap, 0.0))
            elif check.name in limits.late:
                excess = min(max(check.bound / check.promised.value, 0.5), 0.97)
                limits = replace(limits, late={**limits.late, check.name: limits.late[check.name] * excess})
                if any(arm in look.summary.per_arm for arm in self._pool_arms()):
                    limits = replace(limits, utilization=limits.utilization * 0.9)
            elif check.name == "timeout_rate" and limits.timeout_rate is not None:
                limits = replace(limits, timeout_rate=limits.timeout_rate * 0.7, utilization=limits.utilization * 0.9)
        self.limits = limits

    def _pool_arms(self) -> set[str]:
        return {arm.name for arm in self.model.arms if isinstance(self.model.deployments[arm.deployment], GpuPool)}

    def _verify(self, found: _Look) -> tuple[_Look, _Look]:
        """Look again on fresh seeds, with more runs; a plan that misses there by a little is tightened and tried again."""
        runs = self.model.scenario.replications
        best: tuple[_Look, _Look] | None = None
        for attempt in range(3):
            self.progress(
                f"verifying on fresh seeds: {runs} runs of {self.model.scenario.workload.requests:,} requests"
            )
            final = self._look(found.proposal, "verify", runs)
            if best is None or self._rank(final) < self._rank(best[0]):
                best = (final, found)
            if final.worst == 0.0 or found.proposal.excess or found.worst > 0.0 or attempt == 2:
                break
            self._tighten(final)
            proposal = self._propose(self.limits)
            if proposal.excess:
                break
            found = self._look(proposal, "search", SEARCH_RUNS)
        assert best is not None
        return best

    # ------------------------------------------------------------------------------------------- baselines

    def baselines(self, policy: PerSource | None, purpose: str) -> dict[str, Summary]:
        """Always one arm, and the policy without its caps, on the same requests as ``purpose`` draws."""
        options, population = self.options, self.population
        uncapped = self._uncapped_arms()
        single = {name: self._always(name, uncapped) for name in uncapped}
        expected = {
            name: options.expected(policy.choose(population.as_requests(), self.model.arm_names))
            for name, policy in single.items()
        }
        bill = {name: float(figures["api_cost_usd"] @ population.weight) for name, figures in expected.items()}
        for name in bill:
            deployment = self.model.deployments[self.model.arms[self.model.arm_names.index(name)].deployment]
            if isinstance(deployment, GpuPool):
                share = self._capacity(single[name]).items()
                hourly = sum(r * _pool(self.model, pool).hourly_usd for pool, r in share)
                bill[name] += hourly / 3600 / self.rate_per_s
        everywhere = [name for name in uncapped if len(self._arm_sources(name)) == len(population.sources)] or uncapped
        small = min(everywhere, key=lambda name: bill[name])
        large = max(uncapped, key=lambda name: bill[name])
        labels = {"always-small": small, "always-large": large}
        policies: dict[str, PerSource] = {label: single[name] for label, name in labels.items()}
        policies |= {f"always-{name}": single[name] for name in uncapped if name not in labels.values()}
        if policy is not None:
            policies["uncapped"] = _without_caps(policy, uncapped)
        out = {}
        for label, other in policies.items():
            replicas = self._capacity(other)
            model = load_model_like(self.model, _settled(self.model.scenario, policy_notation(other), replicas))
            runs = self.model.scenario.replications
            done = [run_once(model, other, draw(model, k, purpose=purpose)) for k in range(runs)]
            arm = other.choose(population.as_requests(), self.model.arm_names)
            out[label] = summarize(model, done, expected=options.expected(arm))
            self.progress(f"{label}: {_in_brief(out[label])}")
        return out

    def _uncapped_arms(self) -> list[str]:
        """Of each arm of the scenario the variant with no cap, or with the highest."""
        best: dict[str, str] = {}
        for arm in self.model.arms:
            base = base_arm(arm.name)
            held = best.get(base)
            cap = cap_of(arm.strategy)
            before = cap_of(self.model.arms[self.model.arm_names.index(held)].strategy) if held is not None else 0
            if held is None or (before is not None and (cap is None or cap > before)):
                best[base] = arm.name
        return list(best.values())

    def _arm_sources(self, name: str) -> tuple[str, ...]:
        return self.model.arms[self.model.arm_names.index(name)].sources

    def _always(self, name: str, uncapped: Sequence[str]) -> PerSource:
        """One arm for all; where it was not measured, the most accurate one that was."""
        policies: dict[str, Policy] = {}
        for s, source in enumerate(self.population.sources):
            used = name
            if source not in self._arm_sources(name):
                rows = self.population.source == s
                able = [other for other in uncapped if source in self._arm_sources(other)]
                used = max(able, key=lambda o: float(self.options.correct[self.model.arm_names.index(o)][rows].mean()))
            policies[source] = Always(used)
        return PerSource(policies)

    def _capacity(self, policy: Policy) -> dict[str, int]:
        """Fewest replicas, of those that may be chosen, that keep each pool's load within the limit; else the most."""
        arm: I64 = policy.choose(self.population.as_requests(), self.model.arm_names)
        load_s = self.options.gpu_s[arm, np.arange(len(arm))] * self.population.weight * self.rate_per_s
        replicas = {}
        for index, name in enumerate(self.model.deployment_names):
            pool = self.model.deployments[index]
            here = np.array([item.deployment == index for item in self.model.arms])[arm]
            if isinstance(pool, GpuPool) and here.any():
                choices = sorted(self.search.replicas.get(name, [pool.replicas]))
                needed = float(load_s[here].sum()) / self.search.utilization
                replicas[name] = next((r for r in choices if r >= needed), choices[-1])
        return replicas

    def _frontier(self) -> tuple[FrontierPoint, ...]:
        """Cheapest cost at evenly spaced levels of accuracy, with the latency limits that the search ended with."""
        self.progress("drawing the frontier of accuracy and cost")
        free = replace(self.limits, accuracy=None, cost_usd_per_request=None)
        cheapest = Targets(minimize="cost", accuracy=0.0)
        best = Targets(maximize="accuracy")
        low, high = self._propose(free, targets=cheapest), self._propose(free, targets=best)
        levels = np.linspace(low.accuracy, high.accuracy - 1e-4, FRONTIER_POINTS)
        points: list[FrontierPoint] = []
        for level in levels:
            proposal = self._propose(replace(free, accuracy=float(level)), targets=cheapest)
            if proposal.excess:
                continue
            point = FrontierPoint(
                accuracy=proposal.accuracy - self.optimism["accuracy"],
                cost_usd_per_request=proposal.cost_usd_per_request - self.optimism["cost_usd_per_request"],
                policy=repr(policy_notation(proposal.policy)),
            )
            if not points or point.policy != points[-1].policy:
                points.append(point)
        return tuple(points)


def best_in_hindsight(model: Model) -> dict[str, object] | None:
    """The best policy of the model's search space on its own problems, by expectation; ``None`` if targets cannot be met.

    It knows the outcomes it is judged on, so no plan made beforehand can be expected to reach it.
    """
    targets = model.scenario.targets
    assert targets is not None
    planner = _Planner(expanded_model(model), targets, lambda _: None)
    proposal = planner._propose(planner.limits)
    if proposal.excess:
        return None
    return {
        "policy": policy_notation(proposal.policy),
        "replicas": dict(proposal.replicas),
        "accuracy": proposal.accuracy,
        "cost_usd_per_request": proposal.cost_usd_per_request,
    }


BASELINE_REQUESTS = 20_000


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
    planner = _Planner(expanded_model(model), Targets(maximize="accuracy"), progress)
    return planner.baselines(per_source, "simulate")


def _per_source(policy: Policy, sources: Sequence[str]) -> PerSource | None:
    if isinstance(policy, PerSource):
        parts = [_per_source(one, [source]) for source, one in policy.policies.items()]
        known = [part for part in parts if part is not None]
        return (
            PerSource({k: v for part in known for k, v in part.policies.items()}) if len(known) == len(parts) else None
        )
    if isinstance(policy, Threshold):
        policy = Banded(edges=[policy.at], arms=[policy.below, policy.above], score=policy.score)
    return PerSource(dict.fromkeys(sources, policy)) if isinstance(policy, (Always, Banded)) else None


def _first_guess(table: StepTable) -> Waiting:
    """Times of a half-full batch of a thousand tokens each, before anything has been simulated."""
    batch, most = max((len(table.decode_s) - 1) // 2, 1), len(table.dense_s) - 1
    per_token = step_seconds(table, 0, 0.0, batch, 1000 * batch, batch)
    prompt = min(1000, most)
    return Waiting(first_token_s=per_token + step_seconds(table, prompt, prompt**2 / 2, 0, 0, 1), per_token_s=per_token)


def _pool(model: Model, name: str) -> GpuPool:
    pool = model.scenario.deployments[name]
    assert isinstance(pool, GpuPool)
    return pool


def _renormalized(weight: F64, source: I64, share: F64) -> F64:
    """Weights that again give each source its share."""
    total = np.bincount(source, weights=weight, minlength=len(share))
    return weight * (share / np.maximum(total, 1e-12))[source]


def _settled(scenario: Scenario, policy: Mapping[str, str], replicas: Mapping[str, int]) -> Scenario:
    """The scenario with a policy and with numbers of replicas."""
    raw = scenario.model_dump(mode="python", exclude={"path"})
    for name, count in replicas.items():
        raw["deployments"][name]["replicas"] = count
    return scenario_from_dict({**raw, "policy": dict(policy)}, scenario.path)


def _without_caps(policy: PerSource, uncapped: Sequence[str]) -> PerSource:
    """The same policy with each arm replaced by its uncapped variant."""
    widest = {base_arm(name): name for name in uncapped}
    policies: dict[str, Policy] = {}
    for source, one in policy.policies.items():
        assert isinstance(one, (Always, Banded))  # what the program makes
        if isinstance(one, Always):
            policies[source] = Always(widest[base_arm(one.arm)])
        else:
            policies[source] = replace(one, arms=[widest[base_arm(name)] for name in one.arms])
    return PerSource(policies)


def _miss(check: TargetCheck) -> float:
    if check.holds:
        return 0.0
    return abs(check.promised.value - check.bound) / max(abs(check.bound), 1e-9)


def _chance(check: TargetCheck) -> float:
    """Probability that the target holds, taking the figure's error as normal."""
    room = check.promised.value - check.bound if check.at_least else check.bound - check.promised.value
    if check.promised.sd <= 0:
        return 1.0 if room >= 0 else 0.0
    return 0.5 * math.erfc(-room / check.promised.sd / math.sqrt(2))


def _in_brief(summary: Summary) -> str:
    accuracy = "unknown accuracy" if summary.accuracy is None else f"accuracy {summary.accuracy.value:.1%}"
    cost, p95 = summary.cost_usd_per_request.value, summary.latency_s["p95"].value
    return f"{accuracy}, ${cost:.5f} a request, p95 {p95:.1f} s"


__all__ = ["best_in_hindsight", "compare_with_baselines", "optimize", "plan_model"]
