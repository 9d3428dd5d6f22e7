"""The optimizer: a search for each kind of policy, the choice among them, and all that is told of it.

Bands of one predicted score can be read by a person; ``Utility`` weighs what every arm is expected to make of a request. The
simplest kind is the plan unless what another gains is more than noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ttc_sim.base.arguments import function
from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.baselines import simulate_baselines
from ttc_sim.optimizer.frontier import frontier_of
from ttc_sim.optimizer.gain import Gain, gain_of
from ttc_sim.optimizer.plan import Alternative, Plan
from ttc_sim.optimizer.predictor_worth import predictor_worth
from ttc_sim.optimizer.proposing import PROPOSERS
from ttc_sim.optimizer.searching import Found, search
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.optimizer.task import PlanningTask, Progress
from ttc_sim.scenario import Scenario, Targets, as_scenario
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model, load_model


def optimize(scenario: Scenario | str | Path, progress: Progress = lambda _: None) -> Plan:
    """Find the policy, caps and capacity that best meet the scenario's targets.

    A mixed-integer program over bands of predicted scores and arms proposes; simulation checks latency and timeouts, and
    tightens the program's limits until they hold; independent runs on fresh seeds verify. Accuracy and cost are corrected
    for having been chosen on the problems they are measured on. The same is done for the prices of ``Utility``; that is the plan
    where it gains more than noise, else the bands are, which a person can read.

    Args:
        scenario: with ``targets`` and sources of problems: itself, its file, or the name of a shipped one.
        progress: called with a line about each step.

    Raises:
        InputError: no targets, no problems to judge accuracy on, or a scenario that is wrong since it was changed in Python.

    >>> plan = optimize("reasoning-gateway")  # doctest: +SKIP
    """
    scenario = as_scenario(scenario, "optimize")
    function("optimize", "progress", progress, "a function that takes a line of text")
    targets_of(scenario)
    return plan_model(load_model(scenario), progress)


def plan_model(model: Model, progress: Progress = lambda _: None) -> Plan:
    """The same for a loaded model, for instance over a part of the problems (:meth:`Population.restricted`).

    Raises:
        InputError: no targets, or no problems to judge accuracy on.
    """
    choice = choose_policy(model, progress)
    task, found = choice.task, choice.chosen
    verified, learnt = found.verified, found.learnt
    proposal = verified.proposal
    progress("comparing with the baselines on the same requests")
    baselines = simulate_baselines(
        task.expectations, task.rate_per_s, proposal.policy, proposal.responses, "verify", progress
    )
    missed = tuple(check.name for check in verified.checks if not check.holds)
    progress("drawing the frontier of accuracy and cost")
    by = task.population.scored_by
    return Plan(
        status=verified.status,
        binding=tuple(dict.fromkeys([*proposal.excess, *missed])) if missed else (),
        scenario=verified.model.scenario.model_copy(update={"predictor_sha256": by.sha256 if by is not None else None}),
        predicted=verified.summary,
        checks=verified.checks,
        baselines=baselines,
        frontier=frontier_of(task, found),
        optimism=learnt.optimism.as_json(),
        alternatives={
            name: Alternative(
                policy=one.verified.proposal.notation,
                status=one.verified.status,
                predicted=one.verified.summary,
                chosen=one is found,
            )
            for name, one in choice.found.items()
        },
        gain=choice.gains["utility"],
        worth=predictor_worth(task.question(learnt.limits, learnt.timing), proposal, learnt.optimism),
        novelty=task.novelty,
    )


@dataclass(frozen=True)
class Choice:
    """Every kind of policy at its best, and the one that is the plan.

    Attributes:
        task: what was to be planned; found: by kind, what its search ended with.
        gains: by kind other than the simplest, what it gains over that.
        chosen: one of ``found``.
    """

    task: PlanningTask
    found: Mapping[str, Found]
    gains: Mapping[str, Gain]
    chosen: Found


def choose_policy(model: Model, progress: Progress = lambda _: None) -> Choice:
    """Search for each kind of policy at its best, and choose among them; nothing is told of the choice yet.

    Each search starts from what the one before it has learnt of the pools' times.

    Raises:
        InputError: no targets, or no problems to judge accuracy on.
    """
    targets = targets_of(model.scenario)
    if model.population is None:
        raise InputError(model.scenario.path, "workload.sources", {}, "sources of problems, to know accuracy from")
    task = PlanningTask.of(expect_arms(expanded_model(model)), targets)
    timing = task.timing()
    found: dict[str, Found] = {}
    for name, start in PROPOSERS.items():
        found[name] = search(task, start(task.expectations, timing.waiting), timing, progress)
        timing = found[name].learnt.timing
    (_, simplest), *others = found.items()
    chosen, gains = simplest, {}
    for name, other in others:
        gains[name] = _gain_over(task, simplest, other)
        # The simpler policy stays unless the other is better for sure, or alone meets the targets.
        met, met_too = chosen.verified.meets_targets, other.verified.meets_targets
        better = other.verified.rank(targets) < chosen.verified.rank(targets)
        if met_too and better and (gains[name].more_than_noise or not met):
            chosen = other
    return Choice(task, found, gains, chosen)


def targets_of(scenario: Scenario) -> Targets:
    """What the scenario asks for.

    Raises:
        InputError: it asks for nothing.
    """
    if scenario.targets is None:
        raise InputError(scenario.path, "targets", None, "targets, such as {minimize: cost, accuracy: 0.7}")
    return scenario.targets


def _gain_over(task: PlanningTask, simplest: Found, other: Found) -> Gain:
    price = other.verified.proposal.price_of_accuracy
    assert price is not None, "proposals of every kind but the simplest name their price of accuracy"
    return gain_of(task, simplest.learnt.optimism.held_out, other.learnt.optimism.held_out, price)
