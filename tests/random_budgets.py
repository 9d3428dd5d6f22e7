"""Budgets a day for the random scenarios of the engines, and what must hold of every run with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tests.random_scenarios import Case, Dice, Times, shuffled
from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.spending import DEGRADE, QUEUE, REFUSE, Budgets, Spending, clock_of, prices_of
from ttc_sim.engine.work import EngineResult
from ttc_sim.scenario import Api


@dataclass(frozen=True)
class Budgeted:
    case: Case
    budgets: Budgets


def with_budgets(case: Case, seed: int, times: Times, *, days: bool = True) -> Budgeted:
    """The same with one or two budgets for each request, of which the first day is short.

    Args:
        days: sometimes over several of them, and with requests that wait for one to end.
    """
    dice = Dice(seed, times, "budgets")
    works = case.works
    if len(works) == 1 and case.following is None:
        works = [*works, shuffled(works[0], 1)]  # what requests may be degraded to
    n, count = works[0].requests, dice.of(1, 2, 3)
    u = uniforms(seed, "budgets", n, 4)
    wait = QUEUE if days else DEGRADE
    # The strictest of two holds, so that the others are to be more.
    rule = np.array([dice.of(DEGRADE, DEGRADE, wait, wait, REFUSE) for _ in range(count)], dtype=np.int64)
    own = np.where(u[:, 0] < 0.2, -1, (u[:, 1] * count).astype(np.int64))
    of = np.stack([np.full(n, dice.of(0, 0, -1)), np.where(own == 0, -1, own)], axis=1)
    to = (u[:, 2:] * len(works)).astype(np.int64)
    on_api = np.array([isinstance(item, Api) for item in case.deployments])
    spends = np.stack([np.add.reduceat(on_api[work.deployment], work.stage_start[:-1]) > 0 for work in works])
    changes = np.array([4.0, 9.0])
    other = Dice(seed, times, "prices")
    clock = clock_of(
        other.of(-7000.3, 0.0),
        other.of(changes[:0], changes),
        other.of(np.zeros(1), np.array([0.0, 2.0, 7001.0])),
        other.of(86400.0, 8000.0),
    )
    prices = []
    for arm, work in enumerate(works):
        drawn = uniforms(seed, f"prices/{arm}", len(work.deployment), 3) * np.array([40.0, 6.0, 9.0])
        rest = uniforms(seed, f"prices/{arm}/rest", len(work.deployment), 3) * np.array([0.05, 0.05, 60.0])
        rest[:, 2] *= other.of(0, 1)
        drawn = np.concatenate([drawn, rest], axis=1)
        # Of all stages alike, so that a budget is met exactly now and then.
        drawn = np.where(dice.of(True, False), np.round(drawn[:1]), drawn)
        drawn = np.where(on_api[work.deployment][:, None], drawn, 0.0)
        at_times = 1 + uniforms(seed, f"prices/{arm}/times", prices_of(clock), 1)
        prices.append(drawn[:, None] * (at_times if prices_of(clock) > 1 else np.ones((1, 1))))
    limit = np.array([dice.of(1, 30, 100, 400, 2000, 1 << 60) for _ in range(count)], dtype=np.int64)
    first_turn_s = dice.when((0.713, 3.19, 86400.0), (0.5, 1.25, 4.0, 86400.0), (0.3, 1.1, 86400.0))
    stretch = dice.of(1, 1, 1, 100_000) if days else 1
    if stretch > 1:
        works = [replace(work, arrival_s=stretch * work.arrival_s) for work in works]
    return Budgeted(
        replace(case, works=works, until_s=case.until_s if stretch == 1 else None),
        Budgets(limit, rule, of, to, spends, tuple(prices), first_turn_s, clock),
    )


def flat_prices(prompt: F64 | I64, hidden: F64, visible: F64) -> F64:
    """Of stages: what their whole prompts cost, and hidden and visible tokens, whenever and whatever is cached."""
    return np.stack([prompt, hidden, visible, *np.zeros((3, len(prompt)))], axis=1)[:, None]


def run_both(given: Budgeted, interval_s: float | None = None) -> tuple[EngineResult, EngineResult]:
    """The reference engine's result, and the compiled one's."""
    case = given.case
    rest: dict[str, Any] = {"tables": case.tables, "following": case.following, "outages": case.outages}
    rest |= {"budgets": given.budgets, "interval_s": interval_s}
    until_s = None if interval_s is not None else case.until_s
    same = case.works, case.names, case.deployments, case.rule, until_s
    return reference.run(*same, **rest), compiled.run(*same, **rest)


def spending_differs(a: EngineResult, b: EngineResult) -> list[str]:
    """Names of what gateways did otherwise."""
    assert a.spending is not None
    assert b.spending is not None
    names = Spending.__dataclass_fields__
    return [
        name
        for name in names
        if (one := getattr(a.spending, name)) is not (other := getattr(b.spending, name))
        and not np.array_equal(one, other, equal_nan=name in ("sent_s", "exhausted_s"))
    ]
