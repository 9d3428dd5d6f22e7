"""How a plan is found: propose by program, dispose by simulation, verify on fresh seeds.

Two kinds of policy are searched for in the same way: bands of one predicted score, which a person can read, and ``Utility``, which
weighs what every arm is expected to make of a request. The second is the plan only where what it gains is more than noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.optimizer.baselines import baselines, in_brief, settled
from ttc_sim.optimizer.plan import Alternative, FrontierPoint, Plan, TargetCheck, policy_notation, targets_asked
from ttc_sim.optimizer.program import (
    LATENCY_TARGETS,
    Limits,
    Proposal,
    build_columns,
    candidate_scores,
    solve,
)
from ttc_sim.optimizer.space import expanded_model, load_model_like
from ttc_sim.optimizer.utility import propose_utility
from ttc_sim.optimizer.worth import HeldOut, PredictorWorth, gain_of, novelty_of, predictor_worth, widened
from ttc_sim.scenario import GpuPool, Scenario, Targets
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import Expectations, expect_arms
from ttc_sim.simulation.expected_times import Waiting, expected_seconds, first_guess, late_share
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize

ROUNDS = 8  # proposals tried before giving up on a latency target
SEARCH_RUNS = 2  # independent runs behind each look at a proposal
FOLDS = 4  # parts of the problems for measuring optimism
FRONTIER_POINTS = 9

Progress = Callable[[str], None]


def optimize(scenario: Scenario, progress: Progress = lambda _: None) -> Plan:
    """Find the policy, caps and capacity that best meet the scenario's targets.

    A mixed-integer program over bands of predicted scores and arms proposes; simulation checks latency and timeouts, and
    tightens the program's limits until they hold; independent runs on fresh seeds verify. Accuracy and cost are corrected
    for having been chosen on the problems they are measured on. The same is done for the prices of ``Utility``; that is the plan
    where it gains more than noise, else the bands are, which a person can read.

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
    bands = _Planner(expanded_model(model), scenario.targets, progress)
    found = bands.find()
    utility = _UtilityPlanner(bands)
    other = utility.find()
    gain = gain_of(bands.expectations, scenario.targets, bands.held_out, utility.held_out, other.found.proposal)
    # The simpler policy stays unless the other is better for sure, or alone meets the targets.
    met, met_too = found.final.worst == 0.0, other.final.worst == 0.0
    better = bands.rank(other.final) < bands.rank(found.final)
    switch = met_too and better and (gain.more_than_noise or not met)
    chosen = other if switch else found
    planner = utility if switch else bands
    alternatives = {
        name: Alternative(
            policy=policy_notation(one.found.proposal.policy),
            status="met" if one.final.worst == 0.0 else "nearest",
            predicted=one.final.summary,
            chosen=one is chosen,
        )
        for name, one in (("bands", found), ("utility", other))
    }
    progress("comparing with the baselines on the same requests")
    proposal = chosen.found.proposal
    beside = baselines(
        planner.expectations, planner.rate_per_s, proposal.policy, proposal.responses, "verify", progress
    )
    missed = tuple(check.name for check in chosen.final.checks if not check.holds)
    return Plan(
        status="nearest" if missed else "met",
        binding=tuple(dict.fromkeys([*proposal.excess, *missed])) if missed else (),
        scenario=chosen.found.model.scenario,
        predicted=chosen.final.summary,
        checks=chosen.final.checks,
        baselines=beside,
        frontier=planner.frontier(),
        optimism=planner.optimism,
        alternatives=alternatives,
        gain=gain,
        worth=planner.worth(proposal),
        novelty=planner.novelty,
    )


@dataclass(frozen=True)
class _Look:
    """A proposal and what simulation says of it."""

    proposal: Proposal
    model: Model
    summary: Summary
    checks: tuple[TargetCheck, ...]

    @property
    def worst(self) -> float:
        """Largest relative miss of a target; 0 if all hold."""
        return max([_miss(check) for check in self.checks], default=0.0)


@dataclass(frozen=True)
class _Found:
    """A proposal that the search ended with, and what fresh seeds say of it."""

    found: _Look
    final: _Look


class _Planner:
    """One search: what has been learnt about limits and waiting so far."""

    def __init__(
        self, model: Model, targets: Targets, progress: Progress, expectations: Expectations | None = None
    ) -> None:
        self.targets, self.progress = targets, progress
        self.expectations: Expectations = expect_arms(model) if expectations is None else expectations
        self.model = model
        self.population = self.expectations.population
        self.search = model.scenario.search
        self.scores = candidate_scores(self.expectations, self.search)
        for name in self.scores:
            if name not in self.population.scores:
                raise InputError(model.scenario.path, "search.scores", name, nearest(name, self.population.scores))
        self.rate_per_s = draw(model, 0, purpose="search").traffic.rate_per_s
        self.waiting = first_guess(model)
        self.limits = Limits(
            accuracy=targets.accuracy,
            cost_usd_per_request=targets.cost_usd_per_request,
            late={name: 1 - q for name, q in LATENCY_TARGETS.items() if getattr(targets, name) is not None},
            timeout_rate=targets.timeout_rate,
            utilization=self.search.utilization,
        )
        self.optimism: dict[str, float] = {"accuracy": 0.0, "cost_usd_per_request": 0.0}
        self.held_out = HeldOut.nothing(self.population)
        self.novelty = novelty_of(self.population)
        self._late_seen: tuple[object, F64] | None = None

    def find(self) -> _Found:
        """Search, then verify."""
        self._measure_optimism()
        return self._verify(self._search())

    # ------------------------------------------------------------------------------------------- proposals

    def _late(self) -> F64:
        """Chances of being late; worked out anew only where the pools' times have changed."""
        if self._late_seen is None or self._late_seen[0] != self.waiting:
            limits = np.array([float(getattr(self.targets, name)) for name in self.limits.late])
            self._late_seen = dict(self.waiting), late_share(self.expectations, limits, self.waiting)
        return self._late_seen[1]

    def _propose(self, limits: Limits, weight: F64 | None = None, targets: Targets | None = None) -> Proposal:
        weight = self.population.weight if weight is None else weight
        columns = build_columns(self.expectations, self._late(), weight, self.scores, self.search.bands)
        return solve(self.expectations, columns, self.scores, targets or self.targets, limits, self.rate_per_s)

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
            arm = proposal.choose(population, self.model.arm_names)
            expected = self.expectations.under(arm)
            held_out = np.where(of_row == k, weight, 0.0)
            self.held_out.put(of_row == k, expected, self._pools_usd(proposal))
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

    def _pools_usd(self, proposal: Proposal) -> float:
        """Bill of the proposal's replicas, US dollars per request."""
        hourly = 0.0
        for name, count in proposal.replicas.items():
            pool = self.model.scenario.deployments[name]
            assert isinstance(pool, GpuPool)
            hourly += count * pool.hourly_usd
        return hourly / 3600 / self.rate_per_s

    def _scenario_of(self, proposal: Proposal) -> Scenario:
        """The scenario with the proposal's policy and replicas."""
        policy = policy_notation(proposal.policy)
        return settled(self.model.scenario, policy, proposal.replicas, proposal.responses)

    def _look(self, proposal: Proposal, purpose: str, runs: int) -> _Look:
        model = load_model_like(self.model, self._scenario_of(proposal))
        done = [run_once(model, proposal.policy, draw(model, k, purpose=purpose)) for k in range(runs)]
        expected = self.expectations.under(proposal.choose(self.population, self.model.arm_names))
        summary = self._less_optimism(summarize(model, done, expected=expected))
        summary = widened(summary, self.novelty, self.population, expected)
        self._learn_waiting(model, done)
        return _Look(proposal, model, summary, self._check(summary))

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
            self.progress(f"proposal {round_ + 1}: {in_brief(look.summary)}")
            if best is None or self.rank(look) < self.rank(best):
                best = look
            if proposal.excess:
                break
            if look.worst > 0.0:
                self._tighten(look)
        assert best is not None
        return best

    def rank(self, look: _Look) -> tuple[float, float, float]:
        """Misses first, then the objective; of two that are alike in that, the cheaper or the more accurate."""
        cost = look.summary.cost_usd_per_request.value
        wrong = -look.summary.accuracy.value if look.summary.accuracy is not None else math.inf
        return (look.worst, cost, wrong) if self.targets.maximize is None else (look.worst, wrong, cost)

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

    def _verify(self, found: _Look) -> _Found:
        """Look again on fresh seeds, with more runs; a plan that misses there by a little is tightened and tried again."""
        runs = self.model.scenario.replications
        best: _Found | None = None
        for attempt in range(3):
            self.progress(
                f"verifying on fresh seeds: {runs} runs of {self.model.scenario.workload.requests:,} requests"
            )
            final = self._look(found.proposal, "verify", runs)
            if best is None or self.rank(final) < self.rank(best.final):
                best = _Found(found, final)
            if final.worst == 0.0 or found.proposal.excess or found.worst > 0.0 or attempt == 2:
                break
            self._tighten(final)
            proposal = self._propose(self.limits)
            if proposal.excess:
                break
            found = self._look(proposal, "search", SEARCH_RUNS)
        assert best is not None
        return best

    # ------------------------------------------------------------------------------- what is told of the plan

    def worth(self, proposal: Proposal) -> PredictorWorth:
        """What a perfect predictor, and none, would reach under the same limits."""
        return predictor_worth(
            self.expectations, self._late(), self.targets, self.limits, self.rate_per_s, proposal, self.optimism
        )

    def frontier(self) -> tuple[FrontierPoint, ...]:
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


class _UtilityPlanner(_Planner):
    """The same search for the prices of ``Utility``; starts from what the search for bands has learnt of waiting."""

    def __init__(self, bands: _Planner) -> None:
        super().__init__(bands.model, bands.targets, bands.progress, bands.expectations)
        self.waiting = dict(bands.waiting)
        self._seconds = expected_seconds(self.expectations, self.waiting)

    def _propose(self, limits: Limits, weight: F64 | None = None, targets: Targets | None = None) -> Proposal:
        weight = self.population.weight if weight is None else weight
        targets = targets or self.targets
        return propose_utility(self.expectations, self._late(), self._seconds, weight, targets, limits, self.rate_per_s)


def best_in_hindsight(model: Model) -> dict[str, object] | None:
    """The best policy of the model's search space on its own problems, by expectation; ``None`` if targets cannot be met.

    It knows the outcomes it is judged on, so no plan made beforehand can be expected to reach it.
    """
    targets = model.scenario.targets
    assert targets is not None
    bands = _Planner(expanded_model(model), targets, lambda _: None)
    kept = [one for planner in (bands, _UtilityPlanner(bands)) if not (one := planner._propose(planner.limits)).excess]
    if not kept:
        return None
    sign = 1.0 if targets.minimize == "cost" else -1.0
    proposal = min(kept, key=lambda one: sign * (one.cost_usd_per_request if sign > 0 else one.accuracy))
    return {
        "policy": policy_notation(proposal.policy),
        "replicas": dict(proposal.replicas),
        "accuracy": proposal.accuracy,
        "cost_usd_per_request": proposal.cost_usd_per_request,
    }


def _renormalized(weight: F64, source: I64, share: F64) -> F64:
    """Weights that again give each source its share."""
    total = np.bincount(source, weights=weight, minlength=len(share))
    return weight * (share / np.maximum(total, 1e-12))[source]


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


__all__ = ["best_in_hindsight", "optimize", "plan_model"]
