"""The optimizer: a search for each kind of policy, the choice among them, and all that is told of it.

Bands of one predicted score can be read by a person; ``Utility`` weighs what every arm is expected to make of a request. The
simplest kind is the plan unless what another gains is more than noise.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Counting, Progress, Step, silent
from ttc_sim.base.threads import one_thread
from ttc_sim.measured.folders import find_folder
from ttc_sim.measured.provenance import scores_name
from ttc_sim.optimizer.baselines import always_proposals, carry_out_uncapped, uncapped_proposal
from ttc_sim.optimizer.capacities import SEARCH_RUNS
from ttc_sim.optimizer.confidence_costs import ConfidenceCost, costs_of, look_at_confidences
from ttc_sim.optimizer.configurations import configured
from ttc_sim.optimizer.frontier import as_good_as, frontier_of, proposals_along, thinned
from ttc_sim.optimizer.gain import Gain, gain_of
from ttc_sim.optimizer.health.examine import examine
from ttc_sim.optimizer.health.subject import Subject
from ttc_sim.optimizer.looking import Simulated, simulate_proposal
from ttc_sim.optimizer.optimism import HeldOut, Optimism
from ttc_sim.optimizer.plan import Alternative, FrontierPoint, Plan
from ttc_sim.optimizer.predictor_worth import predictor_worth
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing import PROPOSERS
from ttc_sim.optimizer.proposing.proposal import Proposal
from ttc_sim.optimizer.refining import expectations_of_space
from ttc_sim.optimizer.searching import Found, nearer, search
from ttc_sim.optimizer.simpler import Simplest
from ttc_sim.optimizer.space import left_to_capacity
from ttc_sim.optimizer.taking import is_better, take_the_simplest
from ttc_sim.optimizer.task import PlanningTask, proposed_without
from ttc_sim.optimizer.without_problems import plan_for_traffic
from ttc_sim.scenario import GpuPool, Scenario, Targets
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.summary import Summary


@one_thread()
def plan_model(model: Model, progress: Progress = silent) -> Plan:
    """The same for a loaded model, for instance over a part of the problems (:meth:`Population.restricted`).

    Raises:
        InputError: no targets, or targets without which a plan that drops or cuts off what it can would be best.
    """
    if model.population is None:
        return plan_for_traffic(model, targets_of(model.scenario), progress)
    return plan_of(choose_policy(model, progress))


def plan_of(choice: Choice) -> Plan:
    """All that is told of the policy that was chosen."""
    task, found, verified = choice.task, choice.chosen, choice.verified
    proposal, learnt = verified.proposal, found.learnt
    missed = tuple(check.name for check in verified.checks if not check.holds)
    by = task.population.scored_by
    return Plan(
        status=verified.status,
        binding=tuple(dict.fromkeys([*(name for name in proposal.excess if name in missed), *missed])),
        scenario=verified.model.scenario.model_copy(update={"predictor_sha256": by.sha256 if by is not None else None}),
        predicted=replace(
            verified.summary,
            notes=(
                *verified.summary.notes,
                *_unscored(task),
                *left_to_capacity(task.model.scenario),
                *proposed_without(task.model),
            ),
        ),
        checks=verified.checks,
        baselines=choice.baselines,
        frontier=choice.frontier,
        optimism=verified.optimism.as_json(),
        alternatives={name: _alternative(one, found, task.targets) for name, one in choice.found.items()},
        gain=choice.gains["utility"],
        worth=predictor_worth(as_good_as(task, learnt, proposal), proposal, verified.optimism),
        novelty=task.novelty,
        confidence_costs=choice.confidence_costs,
        highest_confidence=choice.highest_confidence,
        tied=choice.simplest.tied(),
        health=examine(_examined(choice)),
    )


def _examined(choice: Choice) -> Subject:
    """The plan, for its checks."""
    verified, simplest = choice.verified, choice.simplest
    policy, highest = verified.proposal.policy, choice.highest_confidence
    return Subject(
        simplest.pooled,
        policy,
        verified.summary,
        verified.checks,
        highest,
        choice.task.novelty,
        simplest,
        choice.gains["utility"],
    )


def _unscored(task: PlanningTask) -> list[str]:
    """What to do where nothing is predicted of the problems, so that nothing can be routed by."""
    scenario = task.model.scenario
    if task.population.scores:
        return []
    sets = dict.fromkeys(str(source.problem_set) for source in scenario.workload.sources.values())
    said = []
    for name in sets:
        file = find_folder(name, "problem_set.yaml", scenario.folder) / scores_name(scenario.predictor)
        if file.is_file():
            said.append(
                f"no score in {file} is there for every problem, so that all requests of a source go to one arm"
            )
            continue
        command = f"ttc-sim predictor score PROMPTS --out {shlex.quote(str(_as_said(file, scenario)))}"
        said.append(
            f"problem set {name} has no predictor's scores, so that all requests of a source go to one arm: `{command}` "
            "makes them of a table with columns problem and prompt"
        )
    return said


def _as_said(file: Path, scenario: Scenario) -> Path:
    """A file beside the scenario, from where the scenario was said to be."""
    beside = file.is_relative_to(scenario.folder)
    return Path(scenario.path).parent / file.relative_to(scenario.folder) if beside else file


def _alternative(one: Found, plan: Found, targets: Targets) -> Alternative:
    seen = one.verified
    better = one is not plan and seen.rank(targets) < plan.verified.rank(targets)
    return Alternative(
        policy=seen.proposal.notation,
        status="within noise" if better else seen.status,
        predicted=seen.summary,
        chosen=one is plan,
        objective="cost_usd_per_request" if targets.cheapest else targets.objective,
    )


@dataclass(frozen=True)
class Choice:
    """Every kind of policy at its best, and the one that is the plan.

    Attributes:
        task: what was to be planned; found: by kind, what its search ended with.
        gains: by kind other than the simplest, what it gains over that.
        chosen: one of ``found``.
        baselines: by name, figures of other policies on the requests that the plan was verified on.
        frontier: what two figures cost each other.
        confidence_costs: the best plan for other confidences; highest_confidence: of all that was simulated.
        simplest: the plan beside the best that it cannot be told from.
    """

    task: PlanningTask
    found: Mapping[str, Found]
    gains: Mapping[str, Gain]
    chosen: Found
    baselines: Mapping[str, Summary]
    frontier: tuple[FrontierPoint, ...]
    confidence_costs: tuple[ConfidenceCost, ...]
    highest_confidence: float
    simplest: Simplest

    @property
    def verified(self) -> Simulated:
        """The plan."""
        return self.chosen.verified


@one_thread()
def choose_policy(model: Model, progress: Progress = silent) -> Choice:
    """Search for each kind of policy at its best, and choose among them, the baselines and what the frontier promises.

    Tiers and concurrency, where there are any to choose from, are chosen first (:mod:`ttc_sim.optimizer.configurations`). Each
    search starts from what the one before it has learnt of the pools' times.

    Raises:
        InputError: no targets, or no problems to judge accuracy on.
    """
    targets = targets_of(model.scenario)
    if model.population is None:
        raise InputError(model.scenario.path, "workload.sources", {}, "sources of problems, to know accuracy from")
    chosen_for = configured(expectations_of_space(model, targets, progress), targets, progress)
    return choose_for(chosen_for.task, progress, known=chosen_for.found)


def choose_for(
    task: PlanningTask,
    progress: Progress = silent,
    beside: Mapping[str, tuple[Proposal, Optimism]] | None = None,
    known: Mapping[str, Found] | None = None,
) -> Choice:
    """The same for a task.

    Args:
        beside: by kind, a proposal that may be its best too, and how optimistic the choice of it was.
        known: by kind, what was searched for already.
    """
    _check_paid(task)
    targets, timing = task.targets, task.timing()
    found: dict[str, Found] = {}
    for name, start in PROPOSERS.items():
        proposer = task.asking(start(task.expectations, timing.waiting))
        found[name] = (known or {}).get(name) or search(task, proposer, timing, progress)
        timing = found[name].learnt.timing
    for name, (proposal, optimism) in (beside or {}).items():
        _verify_beside(task, found, name, proposal, optimism)
    if not any(one.verified.meets_targets for one in found.values()):
        found = {name: nearer(task, one, progress) for name, one in found.items()}
    gains = {name: _gain_over(task, next(iter(found.values())), other) for name, other in list(found.items())[1:]}
    always = _verified_baselines(task, found, progress)
    chosen = _chosen(found, gains, targets)
    along = _along_frontier(task, found, chosen, progress)
    chosen = _chosen(found, gains, targets)
    progress(Step("looking at what confidence costs"))
    others = look_at_confidences(task, found[chosen], progress)
    for one in others:
        _keep(found, chosen, one.judged_by(targets), targets)
    plan = found[chosen].verified
    uncapped = uncapped_proposal(task, plan.proposal)
    if uncapped is not None:
        others.append(_verify_beside(task, found, chosen, uncapped, plan.optimism))
        plan = found[chosen].verified
    others += [*always.values(), *along, *found[chosen].looks.verified.values()]
    others = [one.judged_by(targets) for one in others]
    simplest = take_the_simplest(task, found, chosen, others, progress)
    plan = simplest.plan
    surest = max(one.chance for one in [plan, *others])
    others = [one for one in others if not is_better(one, plan, targets)]
    summaries = {name: _printed(task, one, plan) for name, one in always.items()}
    summaries["uncapped"] = carry_out_uncapped(task, plan)
    progress(Step("comparing with the plan without its caps", detail=f"{figures_in_brief(summaries['uncapped'])}"))
    frontier = frontier_of(plan, others, summaries.values(), targets)
    costs = costs_of(targets, plan, others)
    return Choice(task, found, gains, found[chosen], summaries, frontier, costs, surest, simplest)


def _chosen(found: Mapping[str, Found], gains: Mapping[str, Gain], targets: Targets) -> str:
    """The kind of policy that is the plan: the simplest stays unless another is better for sure, or alone meets the targets.

    Where none meets them it is the one that misses by the least.
    """
    (chosen, _), *others = found.items()
    for name, other in others:
        held, mine = found[chosen].verified, other.verified
        better = mine.rank(targets) < held.rank(targets)
        met, met_too = held.meets_targets, mine.meets_targets
        if better and ((met_too and (gains[name].more_than_noise or not met)) or (not met and not met_too)):
            chosen = name
    return chosen


def _verified_baselines(task: PlanningTask, found: dict[str, Found], progress: Progress) -> dict[str, Simulated]:
    """Always one arm, simulated like a plan: it is one of the simplest kind, chosen by no outcome, so without optimism."""
    simplest = next(iter(found))
    out: dict[str, Simulated] = {}
    proposals = always_proposals(task)
    tell = Counting(progress, "comparing with the baselines on the same requests", len(proposals), "baselines")
    for name, proposal in proposals.items():
        index = proposal.choose(task.population, task.model.arm_names)
        expected = task.expectations.under(index)
        held_out = HeldOut(expected["correct"], expected["api_cost_usd"])
        out[name] = _verify_beside(task, found, simplest, proposal, Optimism(0.0, 0.0, held_out))
        tell(len(out), f"{name}: {figures_in_brief(out[name].summary)}")
    return out


def _along_frontier(task: PlanningTask, found: dict[str, Found], kind: str, progress: Progress) -> list[Simulated]:
    """What may be on the frontier, simulated like the plan; it is the plan if it is better."""
    proposed, targets = proposals_along(task, found[kind]), task.targets
    if targets.frontier is not None:  # beside what was looked at on the way
        learnt = found[kind].learnt
        looked = [simulate_proposal(task, one, learnt, "search", SEARCH_RUNS)[0] for one in proposed]
        looked += [one for each in found.values() for one in each.looks.searched.values()]
        proposed = [one.proposal for one in thinned(looked, targets)]
    simulated: list[Simulated] = []
    tell = Counting(progress, "drawing the frontier", len(proposed), "points")
    for proposal in proposed:
        simulated.append(_verify_beside(task, found, kind, proposal, found[kind].learnt.optimism))
        tell(len(simulated), figures_in_brief(simulated[-1].summary))
    return simulated


def _verify_beside(
    task: PlanningTask, found: dict[str, Found], kind: str, proposal: Proposal, optimism: Optimism
) -> Simulated:
    """Simulate a proposal on the requests that plans are verified on; the better of it and the best of its kind is kept."""
    learnt = replace(found[kind].learnt, optimism=optimism)
    seen, _ = simulate_proposal(task, proposal, learnt, "verify", task.model.scenario.replications)
    _keep(found, kind, seen, task.targets)
    return seen


def _keep(found: dict[str, Found], kind: str, seen: Simulated, targets: Targets) -> None:
    """The better of what was simulated and the best of its kind is kept."""
    if seen.rank(targets) < found[kind].verified.rank(targets):
        found[kind] = replace(found[kind], verified=seen)


def _printed(task: PlanningTask, baseline: Simulated, plan: Simulated) -> Summary:
    """Figures of a baseline; those of the plan where both send every problem to the same arm."""
    names = task.model.arm_names
    same = baseline.proposal.choose(task.population, names) == plan.proposal.choose(task.population, names)
    return plan.summary if same.all() else baseline.summary


def targets_of(scenario: Scenario) -> Targets:
    """What the scenario asks for.

    Raises:
        InputError: it asks for nothing, or does not say what to make best of.
    """
    if scenario.targets is None:
        example = "accuracy: 0.7" if scenario.workload.has_problems else "latency_p95_s: 30"
        raise InputError(scenario.path, "targets", None, f"targets, such as {{minimize: cost, {example}}}")
    if scenario.targets.minimize is None and scenario.targets.maximize is None:
        raise InputError(
            scenario.path, "targets", "limits alone", "exactly one of 'minimize: cost' and 'maximize: accuracy'"
        )
    return scenario.targets


def _check_paid(task: PlanningTask) -> None:
    """Right answers per dollar say nothing where some cost none.

    Raises:
        InputError: an arm that nothing is paid for.
    """
    if task.targets.maximize != "accuracy_per_usd":
        return
    for index, arm in enumerate(task.model.arms):
        item = task.model.deployments[arm.deployment]
        paid = (
            item.hourly_usd > 0
            if isinstance(item, GpuPool)
            else bool((task.expectations.api_cost_usd[index] > 0).any())
        )
        if not paid and task.expectations.offered[index].any():
            expected = f"'maximize: accuracy': arm {arm.name} costs nothing, so that its right answers per dollar are without end"
            raise InputError(task.model.scenario.path, "targets.maximize", task.targets.maximize, expected)


def _gain_over(task: PlanningTask, simplest: Found, other: Found) -> Gain:
    price = other.verified.proposal.price_of_accuracy
    assert price is not None, "proposals of every kind but the simplest name their price of accuracy"
    held_out = simplest.learnt.optimism.held_out, other.learnt.optimism.held_out
    return gain_of(task, *held_out, price, simplest.learnt.timing)
