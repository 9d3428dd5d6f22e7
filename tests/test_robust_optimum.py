"""Plans for several worlds beside brute force: every policy and capacity of a small space, simulated in every world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.optimum import Space, random_model
from ttc_sim.base.draws import uniforms
from ttc_sim.optimizer.looking import Simulated
from ttc_sim.optimizer.planning import Choice, choose_for
from ttc_sim.optimizer.robust import read_worlds
from ttc_sim.optimizer.robust.proposing import InWorlds, WorldsQuestion
from ttc_sim.optimizer.robust.task import WorldsTask
from ttc_sim.optimizer.robust.worlds import looked_up
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.scenario import GpuPool
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model


def random_worlds(model: Model, number: int) -> dict[str, Any]:
    """Two or three worlds, among them one in which what is cheap is not."""
    u = uniforms(number, "worlds", 20)[:, 0]
    first, *others = model.scenario.deployments.items()
    dear: dict[str, Any] = {}
    for name, one in [first, *others[:1]]:
        times = f"{1 + float(u[len(dear)]):.2f}x"
        key = "usd_per_replica_hour" if isinstance(one, GpuPool) else "price.output_usd_per_mtok"
        dear[f"deployments.{name}.{key}"] = times
    worlds: dict[str, Any] = {"long": {"ready.lengths": f"{1 + 0.5 * float(u[5]):.2f}x"}, "dear": dear}
    if u[6] < 0.6:
        worlds["busy"] = {"ready.traffic": f"{1 + 0.6 * float(u[7]):.2f}x"}
    return worlds


def several_of(model: Model, worlds: object, share: float = 1.0) -> WorldsTask:
    targets = model.scenario.targets
    assert targets is not None
    base = PlanningTask.of(expect_arms(expanded_model(model)), targets)
    found, _ = looked_up(read_worlds(worlds, model.scenario.path), model, targets, base)
    return WorldsTask.over_worlds(found, share)


def best_of_all(several: WorldsTask, choice: Choice) -> Simulated | None:
    """The first that keeps the targets, in the order of what the policies are expected to come to over the worlds."""
    space = Space(replace(choice, task=several))
    question = several.question(several.limits(), several.timing())
    assert isinstance(question, WorldsQuestion)
    rows = InWorlds(several.worlds, several.over, several.targets)
    names = several.model.arm_names

    def promise(proposal: Any) -> float:
        arm = proposal.choose(several.population, names)
        each = []
        for k in range(len(several.worlds)):
            one = rows.expected(question, proposal, k, rows.sent(proposal, k, arm))
            each.append(one.cost_usd_per_request if several.targets.maximize is None else -one.accuracy)
        return several.over.of(each)

    for proposal in sorted(space.proposals, key=promise):
        seen = space.look(proposal)
        if seen.meets_targets:
            return seen
    return None


@pytest.mark.parametrize("number", [3])
def test_the_plan_for_random_worlds_is_the_best_of_all(number: int) -> None:
    model, _ = random_model(number)
    several = several_of(model, random_worlds(model, number))
    choice = choose_for(several)
    best = best_of_all(several, choice)
    mine = choice.verified.rank(several.targets)
    if best is None:
        assert not choice.verified.meets_targets
        return
    theirs = best.rank(several.targets)
    assert mine[0] == 0
    assert mine[1] <= theirs[1] + 0.01 * abs(theirs[1])
