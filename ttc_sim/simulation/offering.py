"""The works that an engine is offered: of the arms chosen, or of each arm that live load may choose, and of their fallbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled
from ttc_sim.engine.spending import Budgets
from ttc_sim.engine.work import Down, EngineResult, Work
from ttc_sim.policies import LiveRule, Requests
from ttc_sim.scenario import Api
from ttc_sim.simulation.budgeting import budgets_of, degraded_to
from ttc_sim.simulation.carrying import Carried, carry
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.turn_lengths import refuse_live

Run = Callable[[list[Down | None] | None], EngineResult]
_LEAST_OUTAGES, _MOST_OUTAGES = 8, 1_000_000  # drawn at once


@dataclass(frozen=True)
class Offers:
    """What the engine may carry out for each of ``n`` requests.

    Attributes:
        carried: one or more; those that may be chosen come first, then those that they fall back on, and those of a budget's end.
        arm: of each, (n,) index of the arm of the scenario.
        following: (n, offers) which one a request falls back on, -1 for none; ``None`` where no arm has a fallback.
        budgets: what may be spent a day; ``None`` where the scenario has none.
    """

    carried: tuple[Carried, ...]
    arm: tuple[I64, ...]
    following: I64 | None = None
    budgets: Budgets | None = None

    @property
    def works(self) -> list[Work]:
        """For the engine."""
        return [one.work for one in self.carried]

    def arm_of(self, offer: I64) -> I64:
        """(n,) arm of the offer that each request took."""
        return np.asarray(np.stack(self.arm)[offer, np.arange(len(offer))])

    def chosen(self, result: EngineResult) -> I64:
        """(n,) the offer that each request was sent to first or, but for a budget, would have been."""
        if result.spending is not None:
            return result.spending.chosen
        return (result.arm if result.attempts is None else result.attempts.first).astype(np.int64)

    def taken(self, result: EngineResult) -> NDArray[np.bool_]:
        """(offers, n) which of them were begun: from the first to the last."""
        last = result.arm.astype(np.int64)
        rows = np.arange(len(last))
        taken = np.zeros((len(self.carried), len(last)), dtype=np.bool_)
        if result.attempts is None or self.following is None:
            taken[last, rows] = True
            return taken
        at = result.attempts.first.astype(np.int64)
        while True:
            taken[at, rows] = True
            if (at == last).all():
                return taken
            at = np.where(at == last, at, self.following[rows, at])


def offer(model: Model, draws: Draws, arm: I64) -> Offers:
    """Of requests whose arms are chosen, (n,): those, and their fallbacks one after another."""
    degraded = degraded_to(model, draws)
    arms, carried, following = list[I64](), list[Carried](), list[I64]()
    to = np.where(degraded == arm[:, None], 0, degraded)
    for k in range(1 + degraded.shape[1]):
        other = degraded[:, k - 1]
        if k and not ((other >= 0) & (other != arm)).any():
            continue
        first = len(arms)
        # Who has no such arm stands for another's place in the arrays, and is never carried out there.
        path, after = _path(model, np.where(other >= 0, other, arm) if k else arm)
        arms += path
        carried += [carry(model, draws, one, step) for step, one in enumerate(path)]
        following.append(np.where(after >= 0, after + first, -1))
        if k:
            to[:, k - 1] = np.where((other >= 0) & (other != arm), first, to[:, k - 1])
    after = np.concatenate(following, axis=1)
    budgets = budgets_of(model, draws, carried, arms, to)
    return Offers(tuple(carried), tuple(arms), after if (after >= 0).any() else None, budgets)


def _path(model: Model, arm: I64) -> tuple[list[I64], I64]:
    """Arms that requests are at one after another, (n,) each, and (n, arms) which of them comes next; -1 for none."""
    paths = paths_of(model)
    length = np.array([len(path) for path in paths])
    steps = int(length[np.flatnonzero(np.bincount(arm))].max(initial=1))
    table = np.array([(path + path[-1:] * steps)[:steps] for path in paths])
    after = np.where(np.arange(1, steps + 1) < length[arm][:, None], np.arange(1, steps + 1), -1)
    return [arm, *(table[arm, k] for k in range(1, steps))], after


def offer_all(model: Model, draws: Draws) -> Offers:
    """One of each arm, for live load to choose from, and what those fall back on."""
    refuse_live(model)
    n, paths = len(draws), paths_of(model)
    # What is left to be tried says what comes next: an arm may stand in several lists.
    nodes = [(0, tuple(path)) for path in paths]
    further = sorted({(k, tuple(path[k:])) for path in paths for k in range(1, len(path))})
    nodes = [*nodes, *further]
    arms = tuple(np.full(n, path[0], dtype=np.int64) for _, path in nodes)
    carried = tuple(carry(model, draws, arm, k) for arm, (k, _) in zip(arms, nodes, strict=True))
    budgets = budgets_of(model, draws, carried, arms, degraded_to(model, draws))
    if not further:
        return Offers(carried, arms, None, budgets)
    place = {node: len(paths) + at for at, node in enumerate(further)}
    after = np.array([place.get((k + 1, path[1:]), -1) for k, path in nodes])
    return Offers(carried, arms, np.tile(after, (n, 1)), budgets)


def paths_of(model: Model) -> list[list[int]]:
    """Of each arm, that and the arms that it falls back on, one after another."""
    return [[model.arm_names.index(name) for name in model.scenario.path_of(arm)] for arm in model.arm_names]


def run_offers(
    model: Model,
    draws: Draws,
    works: Sequence[Work],
    following: I64 | None,
    budgets: Budgets | None,
    live: LiveRule | None = None,
    interval_s: float | None = None,
) -> EngineResult:
    """Carry works out by the compiled engine, on deployments that may go down."""
    if draws.memory is not None and following is None and budgets is None and live is None and interval_s is None:
        bare = replace(draws, memory=None)
        kept: EngineResult = draws.memory.ran(model, works, None, lambda: run_offers(model, bare, works, None, None))
        return kept
    return until_known(
        model,
        draws,
        lambda outages: compiled.run(
            works,
            model.deployment_names,
            model.deployments,
            live,
            tables=model.step_tables,
            interval_s=interval_s,
            failure_times=draws.failure_times,
            following=following,
            outages=outages,
            budgets=budgets,
        ),
    )


def until_known(model: Model, draws: Draws, run: Run) -> EngineResult:
    """A run whose outages are drawn for as long as it lasts: drawn for longer, and run again, if it lasts longer."""
    hours = {
        name: (item.errors.mtbf_h, item.errors.mttr_h)
        for name, item in zip(model.deployment_names, model.deployments, strict=True)
        if isinstance(item, Api) and item.errors is not None and item.errors.mtbf_h and item.errors.mttr_h
    }
    if not hours:
        return run(None)
    # Twice as many as the arrivals are expected to meet are mostly enough.
    lasts_h = float(np.nanmax(draws.traffic.arrival_s)) / 3600.0
    expected = max(lasts_h / sum(means_h) for means_h in hours.values())
    count = int(min(max(_LEAST_OUTAGES, 2 * expected), _MOST_OUTAGES))
    while True:
        drawn = {name: drawn_outages(draws, name, *means_h, count) for name, means_h in hours.items()}
        result = run([drawn.get(name) for name in model.deployment_names])
        if result.attempts is None or result.attempts.known:
            return result
        count *= 2
        if count > _MOST_OUTAGES:
            often = min(hours, key=lambda name: sum(hours[name]))
            said = f"so many hours that a run has at most {_MOST_OUTAGES:,} outages"
            raise InputError(model.scenario.path, f"deployments.{often}.errors.mtbf_h", hours[often][0], said)


def drawn_outages(draws: Draws, name: str, mtbf_h: float, mttr_h: float, count: int) -> Down:
    """The first outages of an endpoint in a run; more of them begin with the same ones."""
    u = uniforms(draws.seed, f"{draws.purpose}/{draws.run}/outages/{name}", count, 2)
    lasts_s = -np.log(u) * np.array([mtbf_h, mttr_h]) * 3600.0
    edges: F64 = np.cumsum(lasts_s.reshape(-1))
    return Down(edges[::2], edges[1::2], float(edges[-1]))


def check_offered(model: Model, requests: Requests, arm: I64) -> None:
    """A request may only be sent to arms, and fall back on arms, that were measured on its source's problems.

    Raises:
        InputError: another one.
    """
    if model.population is None and not model.scenario.workload.sources:
        return
    what = "whose profile was measured on" if model.population is not None else "that is offered to"
    for index in np.flatnonzero(np.bincount(arm)).tolist():
        for source in np.flatnonzero(np.bincount(requests.source[arm == index])).tolist():
            name = requests.sources[source]
            for k, at in enumerate(paths_of(model)[index]):
                # One that nothing is sent to first was measured wherever others fall back on it.
                if name in model.arms[at].sources or (k and model.scenario.arms[model.arms[at].name].sources == []):
                    continue
                able = [other.name for other in model.arms if name in other.sources]
                expected = f"an arm {what} source {name}: " + ", ".join(able)
                field = "policy" if k == 0 else f"arms.{model.arms[index].name}.fallback"
                raise InputError(model.scenario.path, field, model.arms[at].name, expected)
