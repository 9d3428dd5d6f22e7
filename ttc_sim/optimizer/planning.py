"""The optimizer: a search for each kind of policy, the choice among them, and all that is told of it.

Bands of one predicted score can be read by a person; ``Utility`` weighs what every arm is expected to make of a request. The
simplest kind is the plan unless what another gains is more than noise.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ttc_sim.base.arguments import function
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.base.threads import one_thread
from ttc_sim.measured.folders import find_folder
from ttc_sim.measured.provenance import scores_name
from ttc_sim.optimizer.baselines import always_proposals, carry_out_uncapped, uncapped_proposal
from ttc_sim.optimizer.confidence_costs import ConfidenceCost, costs_of, look_at_confidences
from ttc_sim.optimizer.configurations import configured
from ttc_sim.optimizer.frontier import Promise, frontier_of, promises_of
from ttc_sim.optimizer.gain import Gain, gain_of
from ttc_sim.optimizer.looking import Simulated, simulate_proposal
from ttc_sim.optimizer.optimism import HeldOut, Optimism
from ttc_sim.optimizer.plan import Alternative, FrontierPoint, Plan
from ttc_sim.optimizer.predictor_worth import predictor_worth
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing import PROPOSERS
from ttc_sim.optimizer.proposing.proposal import Proposal
from ttc_sim.optimizer.searching import Found, nearer, search
from ttc_sim.optimizer.space import left_to_capacity
from ttc_sim.optimizer.task import PlanningTask, Progress, proposed_without
from ttc_sim.optimizer.without_problems import plan_for_traffic
from ttc_sim.scenario import Scenario, Targets, as_scenario
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.summary import Summary


@one_thread()
def optimize(
    scenario: Scenario | str | Path, progress: Progress = lambda _: None, *, allow_code: AllowCode = False
) -> Plan:
    """Find the policy, caps and capacity that best meet the scenario's targets.

    A mixed-integer program over bands of predicted scores and arms proposes; simulation checks latency and timeouts, and
    tightens the program's limits until they hold; independent runs on fresh seeds verify. Accuracy and cost are corrected
    for having been chosen on the problems they are measured on. The same is done for the prices of ``Utility``; that is the plan
    where it gains more than noise, else the bands are, which a person can read.

    Of traffic without problems accuracy is unknown: caps, arms and capacity are chosen by cost, latency and the shares of requests
    that are dropped or cut off (:mod:`ttc_sim.optimizer.without_problems`).

    Args:
        scenario: with ``targets``: itself, its file, or the name of a shipped one.
        progress: called with a line about each step.
        allow_code: whether functions in files that arms name may run, beside what the scenario was given: every arm is carried
            out. See :func:`ttc_sim.load_scenario`.

    Raises:
        InputError: no targets, or such as nothing is known of, or a scenario that is wrong since it was changed in Python.

    >>> plan = optimize("reasoning-gateway")  # doctest: +SKIP
    """
    scenario = as_scenario(scenario, "optimize", allow_code)
    function("optimize", "progress", progress, "a function that takes a line of text")
    targets_of(scenario)
    scenario.check_consent()
    return plan_model(load_model(scenario), progress)


@one_thread()
def plan_model(model: Model, progress: Progress = lambda _: None) -> Plan:
    """The same for a loaded model, for instance over a part of the problems (:meth:`Population.restricted`).

    Raises:
        InputError: no targets, or targets without which a plan that drops or cuts off what it can would be best.
    """
    if model.population is None:
        return plan_for_traffic(model, targets_of(model.scenario), progress)
    choice = choose_policy(model, progress)
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
                *left_to_capacity(model.scenario),
                *proposed_without(task.model),
            ),
        ),
        checks=verified.checks,
        baselines=choice.baselines,
        frontier=choice.frontier,
        optimism=verified.optimism.as_json(),
        alternatives={name: _alternative(one, found, task.targets) for name, one in choice.found.items()},
        gain=choice.gains["utility"],
        worth=predictor_worth(task.question(learnt.limits, learnt.timing), proposal, verified.optimism),
        novelty=task.novelty,
        confidence_costs=choice.confidence_costs,
        highest_confidence=choice.highest_confidence,
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
        objective="cost_usd_per_request" if targets.maximize is None else "accuracy",
    )


@dataclass(frozen=True)
class Choice:
    """Every kind of policy at its best, and the one that is the plan.

    Attributes:
        task: what was to be planned; found: by kind, what its search ended with.
        gains: by kind other than the simplest, what it gains over that.
        chosen: one of ``found``.
        baselines: by name, figures of other policies on the requests that the plan was verified on.
        frontier: cheapest cost at each level of accuracy.
        confidence_costs: the best plan for other confidences; highest_confidence: of all that was simulated.
    """

    task: PlanningTask
    found: Mapping[str, Found]
    gains: Mapping[str, Gain]
    chosen: Found
    baselines: Mapping[str, Summary]
    frontier: tuple[FrontierPoint, ...]
    confidence_costs: tuple[ConfidenceCost, ...]
    highest_confidence: float

    @property
    def verified(self) -> Simulated:
        """The plan."""
        return self.chosen.verified


@one_thread()
def choose_policy(model: Model, progress: Progress = lambda _: None) -> Choice:
    """Search for each kind of policy at its best, and choose among them, the baselines and what the frontier promises.

    Tiers and concurrency, where there are any to choose from, are chosen first (:mod:`ttc_sim.optimizer.configurations`). Each
    search starts from what the one before it has learnt of the pools' times.

    Raises:
        InputError: no targets, or no problems to judge accuracy on.
    """
    targets = targets_of(model.scenario)
    if model.population is None:
        raise InputError(model.scenario.path, "workload.sources", {}, "sources of problems, to know accuracy from")
    chosen_for = configured(model, targets, progress)
    task = chosen_for.task
    timing = task.timing()
    found: dict[str, Found] = {}
    for name, start in PROPOSERS.items():
        known = chosen_for.found.get(name)
        found[name] = known or search(task, start(task.expectations, timing.waiting), timing, progress)
        timing = found[name].learnt.timing
    if not any(one.verified.meets_targets for one in found.values()):
        found = {name: nearer(task, one, progress) for name, one in found.items()}
    gains = {name: _gain_over(task, next(iter(found.values())), other) for name, other in list(found.items())[1:]}
    progress("comparing with the baselines on the same requests")
    always = _verified_baselines(task, found, progress)
    chosen = _chosen(found, gains, targets)
    progress("drawing the frontier of accuracy and cost")
    promised = promises_of(task, found[chosen])
    looked = _looked_at(task, found, chosen, promised, progress)
    chosen = _chosen(found, gains, targets)
    progress("looking at what confidence costs")
    others = look_at_confidences(task, found[chosen], progress)
    for one in others:
        _keep(found, chosen, one.judged_by(targets), targets)
    plan = found[chosen].verified
    uncapped = uncapped_proposal(task, plan.proposal)
    if uncapped is not None:
        others.append(_verify_beside(task, found, chosen, uncapped, plan.optimism))
        plan = found[chosen].verified
    others += [*always.values(), *looked, *found[chosen].looks.verified.values()]
    summaries = {name: _printed(task, one, plan) for name, one in always.items()}
    summaries["uncapped"] = carry_out_uncapped(task, plan)
    progress(f"uncapped: {figures_in_brief(summaries['uncapped'])}")
    frontier = frontier_of(promised, [*looked, plan], summaries.values(), targets)
    costs = costs_of(targets, plan, others)
    surest = max(one.chance for one in [plan, *others])
    return Choice(task, found, gains, found[chosen], summaries, frontier, costs, surest)


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
    out = {}
    for name, proposal in always_proposals(task).items():
        index = proposal.choose(task.population, task.model.arm_names)
        expected = task.expectations.under(index)
        held_out = HeldOut(expected["correct"], expected["api_cost_usd"])
        out[name] = _verify_beside(task, found, simplest, proposal, Optimism(0.0, 0.0, held_out))
        progress(f"{name}: {figures_in_brief(out[name].summary)}")
    return out


def _looked_at(
    task: PlanningTask, found: dict[str, Found], kind: str, promised: Sequence[Promise], progress: Progress
) -> list[Simulated]:
    """What of the frontier promises to be better than the plan, simulated like it; it is the plan if it holds."""
    looked: list[Simulated] = []
    for one in promised:
        if one.beats(found[kind].verified, task.targets, task.most_usd_per_request):
            seen = _verify_beside(task, found, kind, one.proposal, found[kind].learnt.optimism)
            progress(f"a point of the frontier that promised more: {figures_in_brief(seen.summary)}")
            looked.append(seen)
    return looked


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


def _gain_over(task: PlanningTask, simplest: Found, other: Found) -> Gain:
    price = other.verified.proposal.price_of_accuracy
    assert price is not None, "proposals of every kind but the simplest name their price of accuracy"
    return gain_of(task, simplest.learnt.optimism.held_out, other.learnt.optimism.held_out, price)
