"""The simplest plan of a kind, among all that was simulated and what is simpler still."""

from __future__ import annotations

from dataclasses import replace

from ttc_sim.base.progress import Progress, Step
from ttc_sim.optimizer.baselines import uncapped_proposal
from ttc_sim.optimizer.looking import Simulated, simulate_proposal
from ttc_sim.optimizer.searching import Found
from ttc_sim.optimizer.simpler import STAGE, Simplest, look_at_simpler, simplest_of
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.scenario import Targets


def take_the_simplest(
    task: PlanningTask, found: dict[str, Found], kind: str, others: list[Simulated], progress: Progress
) -> Simplest:
    """The simplest of its kind that is as good as the best is the plan; what is simulated for that joins the others.

    Args:
        found: by kind; the plan takes its place there. others: all that was simulated on the requests of plans, beside the targets.
    """
    best, learnt = found[kind].verified, found[kind].learnt
    progress(Step(STAGE))
    looked = look_at_simpler(task, found[kind].proposer, learnt, best, [best, *others], progress)
    others += looked
    best = min([best, *looked], key=lambda one: one.rank(task.targets))  # the program's own gap, and what times came to
    found[kind] = replace(found[kind], verified=best)
    # Between kinds it has been decided on problems kept from both.
    priced = best.proposal.price_of_accuracy is not None
    alike = [one for one in others if (one.proposal.price_of_accuracy is not None) == priced]
    simplest = simplest_of(task, best, alike, progress)
    if simplest.plan is not best:
        uncapped = uncapped_proposal(task, simplest.plan.proposal)
        if uncapped is not None:
            runs = task.model.scenario.replications
            seen, _ = simulate_proposal(
                task, uncapped, replace(learnt, optimism=simplest.plan.optimism), "verify", runs
            )
            others.append(seen)
            if is_better(seen, simplest.plan, task.targets):
                simplest = simplest_of(task, best, [*alike, seen], progress)
        found[kind] = replace(found[kind], verified=simplest.plan)
    return simplest


def is_better(one: Simulated, plan: Simulated, targets: Targets) -> bool:
    """Whether it holds all targets and would be the better plan, if by no more than noise."""
    return one is not plan and one.meets_targets and plan.meets_targets and one.rank(targets) < plan.rank(targets)
