"""Plan on a part of the problems, carry the plan out on the rest: what promises are worth before anything is deployed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.arguments import count
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.draws import I64, uniforms
from ttc_sim.base.errors import InputError, Interrupted
from ttc_sim.base.progress import Counting, Progress, Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.optimizer.folds import clusters_by_source, deal_out_by_source, short_of_clusters
from ttc_sim.optimizer.planning import choose_policy, targets_of
from ttc_sim.optimizer.promises import TargetCheck, promises
from ttc_sim.optimizer.space import load_model_like
from ttc_sim.optimizer.validating import Verdict, beside_promises, carry_out
from ttc_sim.scenario import Scenario, as_scenario
from ttc_sim.scenario.robust import LEFT_ASIDE
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.pooling import UNKNOWN
from ttc_sim.simulation.summary import Summary
from ttc_sim.workload.population import Population

FEW_CLUSTERS = 10  # clusters below which a bootstrap's interval is more than a fifth too narrow


@dataclass(frozen=True)
class FoldTarget:
    """One target of a fold's plan, on the problems that were kept from it.

    Attributes:
        name: key of the target; asked: the number in the scenario; confidence: with which the plan had to keep it.
        promised: whether the plan said to; chance: that the figure keeps it on so few problems as there are in the fold.
        realized: the figure; kept: whether that keeps it.
    """

    name: str
    asked: float
    confidence: float
    promised: bool
    chance: float
    realized: float
    kept: bool


@dataclass(frozen=True)
class Fold:
    """One part of the problems, and the plan that was made without it.

    Attributes:
        scenario: complete, with the policy, caps and replicas of the plan.
        status: ``"met"`` if the plan promises to meet all targets, else ``"nearest"``.
        planned_on, problems: how many problems the plan was made on, and how many it was carried out on.
        promised, realized: all figures of the plan, and of carrying it out.
        verdicts: by figure that a plan is held to, both beside each other.
        targets: of the scenario, each beside what was realized.
    """

    scenario: Scenario
    status: str
    planned_on: int
    problems: int
    promised: Summary
    realized: Summary
    verdicts: Mapping[str, Verdict]
    targets: tuple[FoldTarget, ...]

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "status": self.status,
            "planned_on": self.planned_on,
            "problems": self.problems,
            "policy": self.scenario.policy,
            "replicas": dict(self.realized.replicas),
            "figures": {name: verdict.as_json() for name, verdict in self.verdicts.items()},
            "targets": [asdict(target) for target in self.targets],
        }


@dataclass(frozen=True)
class Agreement:
    """One figure over all folds: mean of what was promised, mean of what was realized, share of folds inside the interval."""

    promised: float
    realized: float
    inside: float


@dataclass(frozen=True)
class TargetAgreement:
    """One target over the folds whose plan promised to keep it.

    Attributes:
        confidence: that was asked for; promised: number of folds; kept: part of them in which it was kept, NaN of none.
        expected: part of them in which it should be, on so few problems as there are in a fold.
    """

    confidence: float
    promised: int
    kept: float
    expected: float


@dataclass(frozen=True)
class CrossValidation:
    """What :func:`cross_validate` found.

    Attributes:
        name: of the scenario; folds: one for each part of the problems; notes: what a reader of the intervals must know.
    """

    name: str
    folds: tuple[Fold, ...]
    notes: tuple[str, ...]

    @cached_property
    def overall(self) -> dict[str, Agreement]:
        """By figure, over all folds: each counts the same."""
        found = {}
        for name in dict.fromkeys(name for fold in self.folds for name in fold.verdicts):
            verdicts = [fold.verdicts[name] for fold in self.folds if name in fold.verdicts]
            found[name] = Agreement(
                promised=float(np.mean([verdict.promised.value for verdict in verdicts])),
                realized=float(np.mean([verdict.realized.value for verdict in verdicts])),
                inside=float(np.mean([verdict.inside for verdict in verdicts])),
            )
        return found

    @cached_property
    def targets(self) -> dict[str, TargetAgreement]:
        """By target, over all folds."""
        found = {}
        for name in dict.fromkeys(one.name for fold in self.folds for one in fold.targets):
            ours = [one for fold in self.folds for one in fold.targets if one.name == name]
            held = [one for one in ours if one.promised]
            kept, expected = (
                float(np.mean(each)) if held else math.nan
                for each in ([one.kept for one in held], [one.chance for one in held])
            )
            found[name] = TargetAgreement(ours[0].confidence, len(held), kept, expected)
        return found

    @cached_property
    def table(self) -> pl.DataFrame:
        """One row per fold and figure; ``low`` to ``high`` is where as many problems should fall, given what the plan rests on."""
        rows = [
            (number, name, *_bounds(verdict), verdict.inside)
            for number, fold in enumerate(self.folds, 1)
            for name, verdict in fold.verdicts.items()
        ]
        figures = ("promised", "low", "high", "realized", "realized_low", "realized_high")
        schema = {"fold": pl.Int64, "figure": pl.String, **dict.fromkeys(figures, pl.Float64), "inside": pl.Boolean}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON."""
        overall = {
            name: {"promised": one.promised, "realized": one.realized, "inside_share": one.inside}
            for name, one in self.overall.items()
        }
        folds = [fold.as_json() for fold in self.folds]
        targets = {
            name: {key: None if value != value else value for key, value in asdict(one).items()}
            for name, one in self.targets.items()
        }
        notes = list(self.notes)
        return {"scenario": self.name, "folds": folds, "overall": overall, "targets": targets, "notes": notes}


@shows_progress()
@one_thread()
def cross_validate(
    scenario: Scenario | str | Path,
    folds: int = 4,
    progress: Telling = None,
    *,
    allow_code: AllowCode = False,
) -> CrossValidation:
    """Cut the problems into parts; for each, plan on all the others and carry the plan out on it.

    Whole clusters (task types, or problems, by the problem set's card) stay together, and every part has its share of every
    source. The plan is the one that :func:`ttc_sim.optimize` would make of those problems; it is carried out with fresh draws,
    in as many runs as the scenario has replications. Scores are taken as they are; those of shipped problems are out of fold. The
    same scenario gives the same figures.

    Args:
        scenario: with ``targets`` and sources of problems: itself, its file, or the name of a shipped one.
        folds: number of parts, at least 2: as many plans are made.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        allow_code: as for :func:`ttc_sim.optimize`.

    Raises:
        InputError: no targets, no problems, or too few of a source for so many parts.
        Interrupted: a KeyboardInterrupt, after a fold or more; its ``finished`` is a :class:`CrossValidation` of these.

    >>> found = cross_validate("reasoning-gateway", folds=2)  # doctest: +SKIP
    >>> found.table  # doctest: +SKIP
    """
    scenario = as_scenario(scenario, "cross_validate", allow_code)
    folds = count(scenario.path, "folds", folds, 2, math.inf, "parts")
    say = telling("cross_validate", progress)
    targets_of(scenario)
    scenario.check_consent()
    population = load_model(scenario).population
    if population is None:
        raise InputError(scenario.path, "workload.sources", {}, "sources of problems, to know accuracy from")
    part = _parts(scenario, population, folds)
    notes = _notes(population, part, folds)
    if scenario.targets is not None and scenario.targets.robust is not None:
        notes = (*notes, LEFT_ASIDE)
    found: list[Fold] = []
    tell = Counting(say, "cross-validating", folds, "folds")
    try:
        for k in range(folds):
            found.append(_fold(scenario, population, part == k, k, tell.about))
            tell(k + 1)
    except KeyboardInterrupt as left:
        if not found:
            raise
        only = f"interrupted: only {len(found)} of {folds} folds were finished, and are counted here"
        interrupted = Interrupted(CrossValidation(scenario.name, tuple(found), (only, *notes)))
        interrupted.add_note(f"{len(found)} of {folds} folds are finished")
        raise interrupted from left
    return CrossValidation(scenario.name, tuple(found), notes)


def _fold(
    scenario: Scenario, population: Population, kept_from_it: NDArray[np.bool_], number: int, say: Progress
) -> Fold:
    """Plan on all problems but those of the fold (P,), and carry the plan out on these."""
    planned_on, problems = int((~kept_from_it).sum()), int(kept_from_it.sum())
    say(f"planning on the other {planned_on:,} of {len(population):,} problems")
    plan = choose_policy(load_model(scenario, population.restricted(~kept_from_it)), say).chosen.verified
    new = load_model_like(load_model(scenario, population.restricted(kept_from_it)), plan.model.scenario)
    policy = new.scenario.parsed_policy()
    assert policy is not None
    say(f"carrying the plan out on the {problems:,} problems of this fold")
    realized, _ = carry_out(new, policy, f"cross-validate/{number}")
    return Fold(
        scenario=new.scenario,
        status=plan.status,
        planned_on=planned_on,
        problems=problems,
        promised=plan.summary,
        realized=realized,
        verdicts=beside_promises(promises(plan.summary), realized),
        targets=tuple(beside_realized(check, realized) for check in plan.checks),
    )


def beside_realized(check: TargetCheck, realized: Summary) -> FoldTarget:
    """A promised target beside what came; the chance is less, or more, far from a half the more uncertain that is too."""
    figure = realized.quantity(check.name) or UNKNOWN
    own, both = check.promised.sd, math.hypot(check.promised.sd, figure.sd)
    chance = check.chance
    if 0 < chance < 1 and math.isfinite(both) and both > 0:
        chance = NormalDist().cdf(NormalDist().inv_cdf(chance) * own / both)
    kept = figure.value >= check.bound if check.at_least else figure.value <= check.bound
    return FoldTarget(check.name, check.bound, check.confidence, check.holds, chance, figure.value, kept)


def _parts(scenario: Scenario, population: Population, folds: int) -> I64:
    """(P,) part of each problem."""
    member = clusters_by_source(population)
    rarest = int(member.sum(axis=0).argmin())
    short = [(population.sources[rarest], int(member[:, rarest].sum()))]
    if folds <= short[0][1]:
        part = deal_out_by_source(population, folds, uniforms(scenario.seed, "cross-validate", len(member))[:, 0])
        # Resampling a single one would say that nothing is uncertain; of one, none can be kept from the choice to judge it by.
        short = short_of_clusters(population, part, folds, inside=2, outside=2)
        if not short:
            return part
    source, clusters = short[0]
    expected = (
        "a number of parts that gives each at least two task types (or problems, where those are resampled) of every source: "
        f"source {source} has {clusters}"
    )
    raise InputError(scenario.path, "folds", folds, expected)


def _notes(population: Population, part: I64, folds: int) -> tuple[str, ...]:
    """A warning where parts are so small that resampling them says too little of what is uncertain."""
    fewest = {
        source: min(len(np.unique(population.cluster[(part == k) & (population.source == s)])) for k in range(folds))
        for s, source in enumerate(population.sources)
    }
    return tuple(
        f"a fold has only {count} task types (or problems, where those are resampled) of source {source}: its intervals are too "
        "narrow, so fewer figures are inside than should be"
        for source, count in fewest.items()
        if count < FEW_CLUSTERS
    )


def _bounds(verdict: Verdict) -> tuple[float, ...]:
    return tuple(x for figure in (verdict.promised, verdict.realized) for x in (figure.value, figure.low, figure.high))
