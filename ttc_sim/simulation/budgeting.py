"""A scenario's budgets a day, as the engines take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.spending import DEGRADE, NANOS, PARTS, QUEUE, REFUSE, Budgets, clock_of, nanos_of, prices_of
from ttc_sim.scenario import first_turn_s
from ttc_sim.serving.prices import KINDS, TokenPrices
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
    clock = _clock(model)
    spends = np.array([may_cost(model, arm) for arm in model.arms])
    return Budgets(
        limit=np.array([nanos_of(float(one.usd_per_day or 0.0)) for one in budget.of_all.values()], dtype=np.int64),
        rule=np.array([_RULES[str(one.at_end)] for one in budget.of_all.values()], dtype=np.int64),
        of=of,
        to=degraded,
        spends=np.stack([spends[arm] for arm in arms]),
        prices=tuple(_prices(model, one, clock) for one in carried),
        first_turn_s=first_turn_s(model.scenario),
        clock=clock,
    )


def may_cost(model: Model, arm: ResolvedArm) -> bool:
    """Whether anything that an arm sends requests to bills calls, by what its strategy names; its fallbacks left aside."""
    names = model.arm_names
    places = {arm.deployment, *(model.deployment_names.index(name) for name in arm.strategy.verifiers)}
    places |= {model.arms[names.index(name)].deployment for name in arm.strategy.other_arms}
    prices = [model.prices[d] for d in places]
    return any(one is not None and not one.free for one in prices)


def _prices(model: Model, carried: Carried, clock: F64) -> F64:
    """(stages, prices, parts) as :class:`Budgets` has them."""
    work = carried.work
    found = np.zeros((len(work.deployment), prices_of(clock), PARTS))
    for d, prices in enumerate(model.prices):
        at = np.flatnonzero(work.deployment == d)
        if prices is None or not len(at):
            continue
        prompt, calls = work.prompt_tokens[at].astype(np.float64), carried.calls[at].astype(np.float64)
        for number, one in enumerate(_by_clock(prices, clock)):
            each = {kind: NANOS * np.asarray(one.each(kind, prompt, calls)) for kind in KINDS}
            parts = (
                prompt * each["input"] + NANOS * one.call * calls,
                each["reasoning"],
                each["output"],
                each["input"] - each["cached_input"],
                each["cache_write"] - each["input"],
                NANOS * one.least * calls,
            )
            for part, values in enumerate(parts):
                found[at, number, part] = values
    return found


def _clock(model: Model) -> F64:
    """When the prices of any deployment change."""
    schedules = [one.schedule for one in model.prices if one is not None and one.schedule is not None]
    if not schedules:
        return clock_of(0.0, np.zeros(0), np.zeros(1))
    longest = max(schedules, key=lambda one: one.period_s)
    # What goes by the day goes by the week, too.
    edges = [
        start_s + np.array(one.clock_s)
        for one in schedules
        for start_s in np.arange(0.0, longest.period_s, one.period_s)
    ]
    days_s = np.unique(np.concatenate([one.days_s for one in schedules]))
    return clock_of(longest.origin_s, days_s, np.unique(np.concatenate(edges)), longest.period_s)


def _by_clock(prices: TokenPrices, clock: F64) -> list[TokenPrices]:
    """Those that hold at each of the clock's times."""
    if prices.schedule is None:
        return [prices] * prices_of(clock)
    days = int(clock[2])
    return [
        prices.schedule.prices[k] for k in prices.schedule.on_clock(clock[4 : 4 + days], clock[4 + days :]).tolist()
    ]
