"""Policies by what a session has spent, for the search: tokens or US dollars, and then another arm, or contexts made shorter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.traffic_alone import as_population
from ttc_sim.policies import Always, Policy, SessionBudget
from ttc_sim.simulation.expectations import Expectations, expect_arms

_PARTS = (0.5, 0.75, 0.9)  # of the sessions, that spend less than a first budget


def offered_to_all(task: PlanningTask) -> list[str]:
    """Arms that requests may be sent to."""
    offered = task.expectations.offered[:, 0]
    return [name for name, here in zip(task.model.arm_names, offered, strict=True) if here]


def by_budget(task: PlanningTask) -> Iterator[Policy]:
    """One arm until a session has spent so much, then another."""
    if _of_several_turns(task):
        for first, then in permutations(offered_to_all(task), 2):
            yield from (SessionBudget(Always(first), to=then, **most) for most in _budgets(task, first, then))


def by_compacting(task: PlanningTask) -> Iterator[Policy]:
    """One arm, whose contexts are made shorter as soon as they are long, or once a session has spent so much; where the scenario
    says how long they may be."""
    shorter = task.model.scenario.search.compact
    if shorter is None or not _of_several_turns(task):
        return
    lengths: dict[str, Any] = {"at_end": "compact", **shorter.model_dump()}
    for name in offered_to_all(task):
        yield SessionBudget(Always(name), tokens=shorter.above_tokens, **lengths)
        yield from (SessionBudget(Always(name), **most, **lengths) for most in _budgets(task, name))


def _of_several_turns(task: PlanningTask) -> bool:
    turns = task.population.turns
    return turns is not None and bool(turns.turn.any())


def _budgets(task: PlanningTask, *arms: str) -> Iterator[dict[str, Any]]:
    """Tokens, and US dollars at the first of the arms where all have prices, that parts of the sessions spend no more than."""
    turns, costs = task.population.turns, task.population.costs or {}
    assert turns is not None

    def spent(each: F64) -> Iterator[float]:
        of = turns.session >= 0
        sums = np.bincount(turns.session[of], weights=each[of])
        yield from sorted({float(np.quantile(sums, part)) for part in _PARTS})

    for tokens in spent((task.population.prompt_tokens + turns.output_tokens).astype(np.float64)):
        if tokens >= 1:
            yield {"tokens": int(tokens)}
    if all(name in costs for name in arms):
        for usd in spent(task.expectations.api_cost_usd[task.model.arm_names.index(arms[0])]):
            if usd > 0:  # of a pool, which is paid by the hour, a session costs nothing
                yield {"usd": _few_digits(usd)}


def budgets_between(best: SessionBudget, tried: Iterable[Policy]) -> Iterator[SessionBudget]:
    """The same with budgets halfway between its own and the next below and above that were tried, on a logarithmic scale."""
    alike = [one for one in tried if isinstance(one, SessionBudget) and one.at_end == best.at_end]
    if best.tokens is not None:
        for tokens in _halfway(best.tokens, [one.tokens for one in alike]):
            yield replace(best, tokens=max(round(tokens), 1))
    elif best.usd is not None:
        for usd in _halfway(best.usd, [one.usd for one in alike]):
            yield replace(best, usd=_few_digits(usd))


def _halfway(value: float, tried: Iterable[float | None]) -> Iterator[float]:
    others = [one for one in tried if one is not None]
    for side in (
        max((one for one in others if one < value), default=None),
        min((one for one in others if one > value), default=None),
    ):
        if side is not None:
            yield float((value * side) ** 0.5)


def _few_digits(value: float) -> float:
    return float(f"{value:.3g}")


def made_shorter(task: PlanningTask, policy: SessionBudget) -> tuple[Expectations, float]:
    """What is expected of the requests that are sent where a policy has contexts made shorter, of its arms; and how many these are
    for each that came."""
    model, used = as_population(replace(task.model, population=None), policy), policy.arm_names()
    assert model.population is not None
    turns = model.population.turns
    summaries = 0.0 if turns is None or turns.summary is None else float(turns.summary.mean())
    only = [k for k, name in enumerate(model.arm_names) if name in used]
    return expect_arms(model, only), 1.0 / (1.0 - summaries)


__all__ = ["budgets_between", "by_budget", "by_compacting", "made_shorter", "offered_to_all"]
