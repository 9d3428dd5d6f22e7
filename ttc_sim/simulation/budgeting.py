"""A scenario's budgets a day, as the engines take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.spending import DEGRADE, NANOS, QUEUE, REFUSE, Budgets, nanos_of
from ttc_sim.scenario import first_turn_s
from ttc_sim.simulation.carrying import Carried
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.model import Model, ResolvedArm

_RULES = {"degrade": DEGRADE, "queue": QUEUE, "refuse": REFUSE}


def degraded_to(model: Model, draws: Draws) -> I64:
    """(n, 2) arm that a request is degraded to by the budget of all, and by its source's; -1 for none."""
    budget, found = model.scenario.budget, np.full((len(draws), 2), -1, dtype=np.int64)
    if budget is None:
        return found
    number = {name: k for k, name in enumerate(model.arm_names)}
    if budget.to is not None:
        found[:, 0] = number[budget.to]
    if budget.sources and draws.source is not None:
        named = [budget.sources.get(name) for name in model.scenario.workload.sources]
        own = np.array([-1 if one is None or one.to is None else number[one.to] for one in named], dtype=np.int64)
        found[:, 1] = own[draws.source]
    return found


def budgets_of(
    model: Model, draws: Draws, carried: Sequence[Carried], arms: Sequence[I64], degraded: I64
) -> Budgets | None:
    """What an engine has to know of the budgets; ``None`` without any.

    Args:
        carried: all that is offered; arms: of each, (n,) the arm of each request.
        degraded: (n, 2) which of them a request is degraded to, as :func:`degraded_to` has the arms.
    """
    budget = model.scenario.budget
    if budget is None:
        return None
    named = list(budget.of_all)
    of = np.full((len(draws), 2), -1, dtype=np.int64)
    if None in named:
        of[:, 0] = named.index(None)
    if budget.sources and draws.source is not None:
        sources = model.scenario.workload.sources
        of[:, 1] = np.array([named.index(one) if one in named else -1 for one in sources], dtype=np.int64)[draws.source]
    spends = np.array([may_cost(model, arm) for arm in model.arms])
    return Budgets(
        limit=np.array([nanos_of(float(one.usd_per_day or 0.0)) for one in budget.of_all.values()], dtype=np.int64),
        rule=np.array([_RULES[str(one.at_end)] for one in budget.of_all.values()], dtype=np.int64),
        of=of,
        to=degraded,
        spends=np.stack([spends[arm] for arm in arms]),
        prices=tuple(_prices(model, one) for one in carried),
        first_turn_s=first_turn_s(model.scenario),
    )


def may_cost(model: Model, arm: ResolvedArm) -> bool:
    """Whether anything that an arm sends requests to bills calls, by what its strategy names; its fallbacks left aside."""
    names = model.arm_names
    places = {arm.deployment, *(model.deployment_names.index(name) for name in arm.strategy.verifiers)}
    places |= {model.arms[names.index(name)].deployment for name in arm.strategy.other_arms}
    prices = [model.prices[d] for d in places]
    return any(one is not None and not one.free for one in prices)


def _prices(model: Model, carried: Carried) -> F64:
    """(stages, 3) billionths of a US dollar: of the whole prompt, of a hidden and of a visible token."""
    work = carried.work
    found = np.zeros((len(work.deployment), 3))
    for d, prices in enumerate(model.prices):
        at = np.flatnonzero(work.deployment == d)
        if prices is None or not len(at):
            continue
        prompt, calls = work.prompt_tokens[at].astype(np.float64), carried.calls[at]
        each = [NANOS * np.asarray(prices.each(kind, prompt, calls)) for kind in ("input", "reasoning", "output")]
        found[at, 0], found[at, 1], found[at, 2] = prompt * each[0], each[1], each[2]
    return found
