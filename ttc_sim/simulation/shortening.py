"""Contexts that a policy has made shorter, as a session has spent its budget: what is sent then, summaries and all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.policies import Policy, Requests, SessionBudget, choose_arms
from ttc_sim.policies.memory import places_of
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.drawing import Draws, as_requests, turns_of
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.turn_lengths import lengthened
from ttc_sim.workload import Part
from ttc_sim.workload.beginnings import UNKNOWN
from ttc_sim.workload.shortening import NEVER, shortened


def with_summaries(model: Model, policy: Policy, draws: Draws) -> Draws:
    """The requests that are sent, where the policy has contexts made shorter, if it does: from the turn on at which a session has
    spent its budget, summaries are asked for by requests of their own, and prompts are shorter.

    What is sent from then on, and where, depends on what is chosen, and, where an arm makes turns longer, when the budget is spent
    on that too. So the policy is asked again until what it chooses is what it was shown.

    Raises:
        InputError: requests of which it is not known what their prompts begin with; or a policy that never settles.
    """
    budgets = _budgets(model, policy)
    if not budgets or draws.traffic.session is None:
        return draws
    of = as_requests(model, draws)
    limits = np.array([_limits(budgets.get(name)) for name in of.sources], dtype=np.int64)[of.source]
    turns = np.bincount(np.maximum(draws.traffic.session + 1, 0))[1:]
    arm: I64 | None = None
    for _ in range(2 + int(turns.max(initial=0))):
        longer = draws if arm is None else lengthened(model, draws, arm)
        requests = as_requests(model, longer)
        from_here = _from_here(requests, _to_compact(budgets, requests, model.arm_names))
        made, at = longer, np.arange(len(draws))
        if from_here.any():
            _check(model, policy, longer, from_here)
            made, at = _shortened(longer, np.where(from_here, limits[:, 0], NEVER), limits[:, 1])
            requests = as_requests(model, made)
        again = choose_arms(policy, requests, model.arm_names)[at]
        if not model.turns_vary or (arm is not None and np.array_equal(again, arm)):
            return made if from_here.any() else draws
        arm = again
    expected = "one that settles: what it chooses makes a turn longer or shorter, and it then chooses another arm"
    raise InputError(model.scenario.path, "policy", repr(policy), expected)


def _budgets(model: Model, policy: Policy) -> dict[str, SessionBudget]:
    """By source, the policies that have contexts made shorter."""
    named = model.scenario.workload.sources if model.population is None else model.population.sources
    found = {name: policy.for_source(name) for name in (tuple(named) or ("traffic",))}
    return {name: one for name, one in found.items() if isinstance(one, SessionBudget) and one.at_end == "compact"}


def _limits(budget: SessionBudget | None) -> tuple[int, int]:
    if budget is None or budget.above_tokens is None or budget.to_tokens is None:
        return NEVER, NEVER
    return budget.above_tokens, budget.to_tokens


def _to_compact(budgets: dict[str, SessionBudget], requests: Requests, arms: Sequence[str]) -> NDArray[np.bool_]:
    found = np.zeros(len(requests), dtype=np.bool_)
    for name, budget in budgets.items():
        at = np.flatnonzero(requests.source == requests.sources.index(name))
        found[at] = budget.to_compact(requests.taken(at), arms)
    return found


def _from_here(requests: Requests, first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) turns from the first such one of their session on."""
    assert requests.turns is not None
    session = requests.turns.session
    begins = np.full(int(session.max(initial=-1)) + 2, len(session), dtype=np.int64)
    at = np.flatnonzero(first)[::-1]
    begins[session[at]] = at
    begins[-1] = len(session)  # what is of no session
    found: NDArray[np.bool_] = np.arange(len(session)) >= begins[session]
    return found


def _check(model: Model, policy: Policy, draws: Draws, from_here: NDArray[np.bool_]) -> None:
    known = draws.traffic.beginnings
    if draws.row is None and known is not None and not (known.reuses[from_here] == UNKNOWN).any():
        return
    expected = "one that leaves contexts as they are: only of arrivals of process: sessions it is known what their prompts hold"
    raise InputError(model.scenario.path, "policy", repr(policy), expected)


def _shortened(draws: Draws, above: I64, to: I64) -> tuple[Draws, I64]:
    """The requests with contexts made shorter, and (n,) where those that were there before now stand. A summary draws numbers of
    its own, so that all others keep theirs."""
    turns = turns_of(draws.traffic)
    assert turns is not None
    assert draws.traffic.prompt_tokens is not None
    traffic, of, place = shortened(draws.traffic, places_of(turns, draws.traffic.prompt_tokens), above, to)
    n, summary = len(draws), traffic.summary
    assert summary is not None
    asks = np.flatnonzero(summary)
    where, position = np.full(n, -1, dtype=np.int64), np.arange(n)
    parts = []
    for part in draws.parts or (Part(f"{draws.purpose}/{draws.run}", position, position),):
        where[:] = -1
        where[part.at] = part.position
        own = asks[where[of[asks]] >= 0]
        count = int(part.position.max(initial=-1)) + 1
        parts.append(
            Part(
                part.label,
                np.concatenate([place[part.at], own]),
                np.concatenate([part.position, count + where[of[own]]]),
            )
        )
    return replace(
        draws,
        traffic=traffic,
        row=None if draws.row is None else draws.row[of],
        source=None if draws.source is None else draws.source[of],
        parts=tuple(parts),
        memory=None,
    ), place


def summaries_share(runs: Sequence[Run]) -> float:
    """Part of the requests that ask for summaries."""
    return _asked(runs) / sum(len(run.draws) for run in runs)


def _asked(runs: Sequence[Run]) -> int:
    return sum(int(one.sum()) for run in runs if (one := run.draws.traffic.summary) is not None)


def notes_of_summaries(runs: Sequence[Run]) -> list[str]:
    """How many requests ask for summaries, if any do."""
    asked = _asked(runs)
    if not asked:
        return []
    of = sum(len(run.draws) for run in runs)
    return [
        f"{asked:,} of {of:,} requests ask for summaries, as contexts of sessions that have spent their budget are made shorter: "
        "figures count them as requests, so that bills compare by day or session; what answers lose by it is not known"
    ]


__all__ = ["notes_of_summaries", "summaries_share", "with_summaries"]
