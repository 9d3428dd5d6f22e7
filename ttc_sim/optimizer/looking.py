"""A proposal, simulated: what it comes to once requests queue, beside the targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ttc_sim.base.draws import I64
from ttc_sim.optimizer.novelty import widened_for_novelty
from ttc_sim.optimizer.optimism import Optimism
from ttc_sim.optimizer.promises import TargetCheck, check_targets
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal
from ttc_sim.optimizer.space import with_decisions
from ttc_sim.optimizer.task import CarriedOut, PlanningTask, Timing, times_seen
from ttc_sim.policies import Policy
from ttc_sim.policies.responses import Response
from ttc_sim.scenario import Targets
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize


@dataclass(frozen=True)
class Learnt:
    """What a search has learnt so far; each of its steps hands on the next.

    Attributes:
        limits: for the next proposal; timing: of the arms; optimism: of choices such as its own.
    """

    limits: Limits
    timing: Timing
    optimism: Optimism


@dataclass(frozen=True)
class Simulated:
    """A proposal and what simulation says of it.

    Attributes:
        model: of the scenario with the proposal's policy and replicas.
        summary: figures, corrected for optimism, with intervals that allow for novel traffic.
        checks: every target beside its figure.
        optimism: that was taken off.
    """

    proposal: Proposal
    model: Model
    summary: Summary
    checks: tuple[TargetCheck, ...]
    optimism: Optimism

    @property
    def meets_targets(self) -> bool:
        """Whether every target holds."""
        return all(check.holds for check in self.checks)

    @property
    def status(self) -> str:
        """``"met"`` if all targets hold, else ``"nearest"``."""
        return "met" if self.meets_targets else "nearest"

    def judged_by(self, targets: Targets) -> Simulated:
        """The same beside other targets."""
        return replace(self, checks=check_targets(self.summary, targets))

    @property
    def chance(self) -> float:
        """Of the target that is least sure to hold; 1 without any."""
        return min((check.chance for check in self.checks), default=1.0)

    @property
    def largest_miss(self) -> float:
        """Largest relative miss of a target; 0 if all hold."""
        return max([check.miss for check in self.checks], default=0.0)

    def rank(self, targets: Targets) -> tuple[float, float, float]:
        """Misses first, then the objective; of two that are alike in that, the cheaper, the more accurate or, where nothing is
        known of accuracy, the one that cuts fewer answers off. Lower is better."""
        figures = self.summary
        made, cost = figures.quantity(targets.objective), figures.cost_usd_per_request.value
        value = math.inf if made is None or math.isnan(made.value) else made.value
        if (
            targets.objective == "cost_usd_per_request"
        ):  # of those that came: summaries that a policy adds make no bill less
            value /= 1.0 - figures.summaries_share
        if targets.maximize is not None and math.isfinite(value):
            value = -value
        if not targets.cheapest and targets.maximize != "accuracy_per_usd":
            return self.largest_miss, value, cost
        if figures.accuracy is not None:
            return self.largest_miss, value, -figures.accuracy.value
        return self.largest_miss, value, 0.0 if figures.cut_off_rate is None else figures.cut_off_rate.value


@dataclass
class Looks:
    """All that was simulated for one kind of policy; what was verified on fresh seeds is believed before what was not.

    Attributes:
        targets: that looks are ranked by; searched, verified: by what was proposed.
    """

    targets: Targets
    searched: dict[str, Simulated] = field(default_factory=dict)
    verified: dict[str, Simulated] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.searched)

    def add(self, seen: Simulated, *, verified: bool = False) -> None:
        """Remember a look."""
        (self.verified if verified else self.searched)[key_of(seen.proposal)] = seen

    def get(self, proposal: Proposal) -> Simulated | None:
        """What is known of this policy on these replicas."""
        key = key_of(proposal)
        return self.verified.get(key) or self.searched.get(key)

    @property
    def believed(self) -> list[Simulated]:
        """Of each policy and capacity what is known, best first."""
        return sorted({**self.searched, **self.verified}.values(), key=lambda one: one.rank(self.targets))

    @property
    def best(self) -> Simulated | None:
        """The best that holds all targets, if any does."""
        first = next(iter(self.believed), None)
        return first if first is not None and first.meets_targets else None

    @property
    def best_verified(self) -> Simulated | None:
        """The best, or the nearest, of those verified."""
        return min(self.verified.values(), key=lambda one: one.rank(self.targets), default=None)


def key_of(proposal: Proposal) -> str:
    """What tells a policy on some replicas from others."""
    return repr((proposal.policy, sorted(proposal.replicas.items()), proposal.responses))


def simulate_proposal(
    task: PlanningTask, proposal: Proposal, learnt: Learnt, purpose: str, runs: int
) -> tuple[Simulated, Learnt]:
    """Simulate a proposal, and learn how long requests wait.

    Args:
        purpose: keeps the draws of a search apart from those that verify it; runs: independent runs.

    Returns:
        What simulation says of it; and what has been learnt, with the times that the pools gave.
    """
    if task.simulator is not None:
        seen, after = task.simulator(task, proposal, learnt, purpose, runs)
        return seen, after
    arm = proposal.choose(task.population, task.model.arm_names)
    expected = task.expectations.under(arm)
    decided = with_decisions(task.model.scenario, task.written(proposal), proposal.replicas, proposal.responses)
    carried_out = carry_out(task, proposal.policy, arm, proposal.replicas, proposal.responses, purpose, runs)
    summary = carried_out.summary
    if not task.traffic_alone:
        summary = learnt.optimism.taken_off(summary)
        summary = widened_for_novelty(summary, task.novelty, task.population, expected)
    model = task.load(decided)
    simulated = Simulated(proposal, model, summary, check_targets(summary, task.targets), learnt.optimism)
    return simulated, replace(learnt, timing=learnt.timing.after(carried_out.times))


def carry_out(
    task: PlanningTask,
    policy: Policy,
    arm: I64,
    replicas: Mapping[str, int],
    responses: Mapping[str, Response] | None,
    purpose: str,
    runs: int,
) -> CarriedOut:
    """Simulate a policy on these replicas; the same choice of arms on the same replicas is simulated once.

    Args:
        arm: (P,) that the policy sends each problem to; responses: what it expects of the arms, where it needs that.
        purpose: of the draws; runs: independent runs.
    """
    # What a policy makes of sessions shows in no choice for a request alone.
    live = repr(policy) if policy.looks_at_load or task.of_sessions else ""
    key = (purpose, runs, live, arm.tobytes(), tuple(sorted(replicas.items())))
    if key not in task.carried_out:
        done = run_proposal(task, policy, replicas, responses, purpose, runs)
        summary = summarize(done.model, done.runs, expected=task.expectations.under(arm))
        task.carried_out[key] = CarriedOut(summary, times_seen(done.model, done.runs))
    return task.carried_out[key]


@dataclass(frozen=True)
class Done:
    """Runs of a policy, and the model that they are of."""

    model: Model
    runs: Sequence[Run]


def run_proposal(
    task: PlanningTask,
    policy: Policy,
    replicas: Mapping[str, int],
    responses: Mapping[str, Response] | None,
    purpose: str,
    runs: int,
) -> Done:
    """Run a policy on these replicas, request by request; arguments as of :func:`carry_out`."""
    model = task.load(with_decisions(task.model.scenario, None, replicas, responses))
    return Done(model, [run_once(model, task.for_all(policy), task.drawn(model, k, purpose)) for k in range(runs)])
