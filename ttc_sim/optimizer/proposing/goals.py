"""What a program makes best of, where that is no sum over problems: ratios and percentiles, as programs that have one.

Right answers per dollar are most where, at the price that a right answer then costs, nothing is gained by paying more or less
(W. Dinkelbach, 1967): each program's ratio is the price of the next. A percentile is at most so many seconds where few enough
requests take longer, which is a sum over problems; so the least seconds at which a program can do that are halved in on. Most
halvings need no whole strides, only the program's relaxation, which takes a twentieth of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.optimizer.proposing.objectives import Goal, Slowness
from ttc_sim.optimizer.proposing.proposal import Proposal, Question

_ROUNDS = 4  # of Dinkelbach's, with whole strides; it takes one or two
_CLOSE = 0.01  # relative difference of seconds, or of prices, that is next to none
_HALVINGS = 24
_WHOLE = 2  # programs with whole strides, once the relaxation's seconds are known
_FREE = 1e-12  # US dollars a request that are none


Solve = Callable[[Question], Proposal]
"""The best policy by a question's goal."""
Relax = Callable[[Question], tuple[float, float, float] | None]
"""Accuracy, US dollars and what is broken of the goal of the best mixture; ``None`` if the limits cannot be kept."""


def best_of(question: Question, solve: Solve, relax: Relax) -> Proposal:
    """The best policy by what the question's targets make best of.

    Args:
        solve: by the question's goal, with its limits missed by the least where they cannot be kept; relax: its bound.
    """
    targets = question.targets
    if targets.maximize == "accuracy_per_usd":
        found = _most_per_usd(question, solve, relax)
    elif question.slowness is not None:
        found = _fastest(question, question.slowness, solve, relax)
    elif question.bad is not None:
        found = solve(_broken(question, question.bad))
    else:
        found = solve(question)
    return replace(found, value=_value(question, found))


def _most_per_usd(question: Question, solve: Solve, relax: Relax) -> Proposal:
    """The most right answers per dollar."""
    price, before = 0.0, relax(replace(question, goal=Goal(usd=1.0)))
    for _ in range(_HALVINGS if before is not None else 0):
        assert before is not None
        accuracy, usd, _ = before
        if usd <= _FREE or accuracy <= 0 or usd / accuracy == price:
            break
        price = usd / accuracy
        before = relax(replace(question, goal=Goal(usd=1.0, right=price)))
        if before is None or before[1] - price * before[0] >= -1e-6 * before[1]:
            break
    best: Proposal | None = None
    for _ in range(_ROUNDS):
        one = solve(replace(question, goal=Goal(usd=1.0, right=price)))
        paid = one.cost_usd_per_request / one.accuracy if one.accuracy > 0 else np.inf
        if best is not None and (one.excess or paid >= best.cost_usd_per_request / best.accuracy):
            break
        best = one
        if one.excess or not np.isfinite(paid) or paid <= price * (1 + _CLOSE / 10):
            break
        price = paid
    assert best is not None
    return best


def _fastest(question: Question, slowness: Slowness, solve: Solve, relax: Relax) -> Proposal:
    """The least percentile."""

    def at(seconds: float) -> Question:
        return _broken(question, slowness.at(seconds))

    low, high = float(slowness.seconds[0]), float(slowness.seconds[-1])
    if relax(at(high)) is None:
        return solve(at(high))  # the limits cannot be kept at all
    for _ in range(_HALVINGS):
        if high <= low * (1 + _CLOSE):
            break
        middle = float(np.sqrt(low * high))
        found = relax(at(middle))
        if found is not None and found[2] <= slowness.most + 1e-9:
            high = middle
        else:
            low = middle
    best: Proposal | None = None
    reached = np.inf
    low, seconds = high, high
    for _ in range(_WHOLE):
        one = solve(at(seconds))
        took = np.inf if one.excess else _value(question, one)
        if best is None or took < reached:
            best, reached = one, took
        if one.excess or reached <= low * (1 + 3 * _CLOSE):
            break
        seconds = float(np.sqrt(low * min(reached, float(slowness.seconds[-1]))))
    assert best is not None
    return best


def _value(question: Question, proposal: Proposal) -> float:
    arm = proposal.choose(question.expectations.population, question.expectations.model.arm_names)
    return question.value(arm, proposal.accuracy, proposal.cost_usd_per_request)


def _broken(question: Question, share: F64) -> Question:
    """To make least what is broken of something."""
    late = np.concatenate([question.late[:-1], share[None], question.late[-1:]])
    return replace(question, late=late, goal=Goal(broken=1.0))
