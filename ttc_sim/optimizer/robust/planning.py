"""A plan for several worlds at once, beside the plan for the scenario as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate, Resampler
from ttc_sim.base.progress import Counting, Progress, Step, silent
from ttc_sim.base.threads import one_thread
from ttc_sim.optimizer.looking import Learnt, Simulated, simulate_proposal
from ttc_sim.optimizer.optimism import Optimism
from ttc_sim.optimizer.plan import Plan
from ttc_sim.optimizer.planning import Choice, choose_for, plan_of, targets_of
from ttc_sim.optimizer.proposing.proposal import Proposal
from ttc_sim.optimizer.robust.judging import SimulatedInWorlds
from ttc_sim.optimizer.robust.reading import Said, in_scenario
from ttc_sim.optimizer.robust.task import WorldsTask
from ttc_sim.optimizer.robust.worlds import looked_up
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.without_problems import plan_traffic, traffic_task
from ttc_sim.optimizer.worlds import InWorld, Outcome, Robustness
from ttc_sim.scenario import Scenario
from ttc_sim.scenario.arm_space import families_of
from ttc_sim.scenario.robust import WORST, Robust, World
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model


@one_thread()
def plan_for_worlds(model: Model, said: Said | None = None, progress: Progress = silent) -> Plan:
    """The plan whose worst world is the best or, of a share of the worlds, the worst of those where it does best.

    Args:
        model: of the scenario; said: the worlds, else those that the scenario's targets name.

    Raises:
        InputError: no targets, or a world that cannot be planned for.
    """
    asked = targets_of(model.scenario)
    if said is None:
        assert asked.robust is not None
        said = in_scenario(asked.robust, model.scenario.path)
    if asked.maximize not in (None, "accuracy") or (asked.fastest and model.population is not None):
        key, made_best = ("minimize", asked.minimize) if asked.fastest else ("maximize", asked.maximize)
        expected = "'minimize: cost' or 'maximize: accuracy', where there are several worlds to plan for"
        raise InputError(model.scenario.path, f"targets.{key}", made_best, expected)
    for key in ("tiers", "concurrency"):
        if choices := getattr(model.scenario.search, key):
            expected = "none where there are several worlds to plan for: choose them with a plan for the scenario as it is first"
            raise InputError(model.scenario.path, f"search.{key}", list(choices), expected)
    targets = asked.model_copy(update={"robust": None})
    plain = replace(model, scenario=model.scenario.model_copy(update={"targets": targets}))
    if plain.population is None:
        task = traffic_task(plain, targets, refined=False)
    else:
        task = PlanningTask.of(expect_arms(expanded_model(plain)), targets)
    worlds, notes = looked_up(said, plain, targets, task)
    if any(family.spans for ones in families_of(plain.scenario).values() for family in ones):
        notes = [*notes, _RUNGS]
    over = said.judged_over
    several = WorldsTask.over_worlds(worlds, 1.0 if over == WORST else float(over))
    pace = _Pace(progress, len(worlds))
    choose = _plan_for_problems if plain.population is not None else _plan_for_traffic
    made, seen, before = choose(task, several, plain.scenario, pace)
    standing = [World(name=one.name) for one in worlds] if said.robust is None else said.robust.worlds
    robust = Robust.model_validate({"worlds": standing, "over": over})
    found = _robustness(several, seen, before, over, notes)
    return replace(
        made,
        scenario=made.scenario.model_copy(update={"targets": targets.model_copy(update={"robust": robust})}),
        predicted=replace(made.predicted, notes=(*made.predicted.notes, _FIGURES)),
        frontier=(),
        robust=found,
    )


_RUNGS = (
    "numbers from ranges of the search space were tried at their rungs alone, up to a factor of 3.2 apart: give those in between "
    "as a list to choose from them too"
)
_FIGURES = (
    "planned for several worlds at once: targets and their chances are of the world that is farthest from keeping each, all other "
    "figures of the scenario as it is; no frontier of accuracy and cost was drawn over worlds"
)


class _Pace:
    """Tells each step of a search; that for all worlds is taken to have as many as the plain one had."""

    def __init__(self, progress: Progress, worlds: int) -> None:
        self.progress, self.worlds = progress, worlds
        self.lines = 0
        self.tell: Counting | None = None

    def plain(self, line: str) -> None:
        """A step of the search for the scenario as it is."""
        self.lines += 1
        self.progress(Step("planning for the scenario as it is", detail=line))

    def begin(self) -> None:
        """The search for all worlds begins."""
        self.tell = Counting(self.progress, f"planning for {self.worlds} worlds", self.lines, "steps, as one takes")

    def robust(self, line: str) -> None:
        """A step of the search for all worlds."""
        assert self.tell is not None
        self.tell(self.tell.done + 1, line)


def _plan_for_problems(
    task: PlanningTask, several: WorldsTask, scenario: Scenario, pace: _Pace
) -> tuple[Plan, SimulatedInWorlds, SimulatedInWorlds]:
    """The plan, and what simulation says of it and of the plain one in every world."""
    targets, runs = task.targets, scenario.replications
    plain = choose_for(task, pace.plain)
    before = _in_worlds(several, plain.verified.proposal, plain.verified.optimism, runs)
    if len(several.worlds) == 1:
        return plan_of(plain), before, before
    pace.begin()
    beside = {kind: (one.verified.proposal, one.verified.optimism) for kind, one in plain.found.items()}
    choice = choose_for(several, pace.robust, beside)
    kind = next(name for name, one in plain.found.items() if one is plain.chosen)
    if before.rank(targets) < choice.verified.rank(targets):
        # A kind whose gain is no more than noise is left for a simpler one, but not for a worse case.
        choice = replace(choice, chosen=choice.found[kind], confidence_costs=())
    seen = choice.verified
    assert isinstance(seen, SimulatedInWorlds)
    return plan_of(_for_the_base(choice, task)), seen, before


def _for_the_base(choice: Choice, task: PlanningTask) -> Choice:
    """The choice with what is expected of the plan in the scenario as it is: what a predictor is worth is told of that."""
    found = {}
    for name, one in choice.found.items():
        proposal = one.verified.proposal
        expected = task.expectations.under(proposal.choose(task.population, task.model.arm_names))
        weight = task.population.weight
        cost = float(expected["api_cost_usd"] @ weight) + task.pools_usd_per_request(proposal.replicas)
        based = replace(proposal, accuracy=float(expected["correct"] @ weight), cost_usd_per_request=cost)
        found[name] = replace(one, verified=replace(one.verified, proposal=based))
    kind = next(name for name, one in choice.found.items() if one is choice.chosen)
    return replace(choice, task=task, found=found, chosen=found[kind])


def _plan_for_traffic(
    task: PlanningTask, several: WorldsTask, scenario: Scenario, pace: _Pace
) -> tuple[Plan, SimulatedInWorlds, SimulatedInWorlds]:
    """The same for traffic without problems."""
    plain, chosen = plan_traffic(task, scenario, pace.plain)
    before = _in_worlds(several, chosen.proposal, chosen.optimism, scenario.replications)
    if len(several.worlds) == 1:
        return plain, before, before
    pace.begin()
    kind = next(name for name, one in plain.alternatives.items() if one.chosen)
    made, seen = plan_traffic(several, scenario, pace.robust, {kind: chosen.proposal})
    assert isinstance(seen, SimulatedInWorlds)
    return made, seen, before


def _in_worlds(several: WorldsTask, proposal: Proposal, optimism: Optimism, runs: int) -> SimulatedInWorlds:
    learnt = Learnt(several.limits(), several.timing(), optimism)
    seen, _ = simulate_proposal(several, proposal, learnt, "verify", runs)
    assert isinstance(seen, SimulatedInWorlds)
    return seen


def _robustness(
    several: WorldsTask, plan: SimulatedInWorlds, plain: SimulatedInWorlds, over: str | float, notes: Sequence[str]
) -> Robustness:
    """All that is told of the worlds."""
    targets, counted = several.targets, plan.counted(several.targets)
    worlds = [
        InWorld(
            name=world.name,
            changes=world.shown,
            why=world.asked.why,
            weight=world.weight,
            counted=k in counted,
            plan=_outcome(plan.parts[k]),
            plain=_outcome(plain.parts[k]),
            notes=world.notes,
        )
        for k, world in enumerate(several.worlds)
    ]
    sign = 1.0 if targets.maximize is None else -1.0
    decides = max(counted, key=lambda k: (plan.parts[k].rank(targets)[1], -k))
    accuracy = None
    if plan.summary.accuracy is not None:
        accuracy = _difference(several, plan, plain, "correct")
    policy, replicas = several.written(plain.proposal), plain.proposal.replicas
    return Robustness(
        over=over,
        objective=targets.objective,
        worst=sign * plan.rank(targets)[1],
        worst_plain=sign * plain.rank(targets)[1],
        worlds=tuple(worlds),
        binding={check.name: check.world or several.worlds[0].name for check in plan.checks},
        decides=several.worlds[decides].name,
        same_as_plain=_same(plan, plain),
        cost_usd_per_request=_difference(several, plan, plain, "api_cost_usd"),
        accuracy=accuracy,
        policy_plain=policy,
        replicas_plain=replicas,
        notes=tuple(notes),
    )


def _outcome(seen: Simulated) -> Outcome:
    return Outcome(seen.summary, seen.checks)


def _same(one: Simulated, other: Simulated) -> bool:
    mine, its = one.proposal, other.proposal
    return (mine.policy, mine.replicas, mine.responses) == (its.policy, its.replicas, its.responses)


def _difference(several: WorldsTask, plan: Simulated, plain: Simulated, key: str) -> Estimate:
    """How much more the robust plan comes to in the scenario as it is; the interval is over the problems, both on the same."""
    figures = [one.summary.accuracy if key == "correct" else one.summary.cost_usd_per_request for one in (plan, plain)]
    mine, its = figures
    assert mine is not None
    assert its is not None
    value = mine.value - its.value
    if plan.proposal.policy.looks_at_load or plain.proposal.policy.looks_at_load:
        return Estimate.around(value, math.hypot(mine.sd, its.sd))  # requests go here or there as the load has it
    population, names = several.population, several.model.arm_names
    arms = [one.proposal.choose(population, names) for one in (plan, plain)]
    each: list[F64] = [several.expectations.under(arm)[key] for arm in arms]
    _, resampled = Resampler.of(population.cluster).mean(each[0] - each[1], population.source, population.share)
    return Estimate.around(value, float(np.std(resampled)))


__all__ = ["plan_for_worlds"]
