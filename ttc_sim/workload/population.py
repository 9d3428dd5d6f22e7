"""The problems that requests are drawn from, with their predicted scores and every model's measured attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.measured.aligning import align, predicted
from ttc_sim.measured.problem_sets import ProblemSet, load_problem_set
from ttc_sim.measured.profiles import Profile, load_profile
from ttc_sim.measured.provenance import ScoredBy
from ttc_sim.policies import DIFFICULTY, NOVELTY, Requests
from ttc_sim.policies.costs import ArmCosts
from ttc_sim.policies.responses import Response
from ttc_sim.policies.turns import Turns
from ttc_sim.scenario import Scenario, Source
from ttc_sim.strategies.outcomes import Attempts
from ttc_sim.workload.expected import shares

# A profile that covers fewer of a source's problems than this is not offered there: what it did on so few says little.
LEAST_COVERAGE = 0.5
_BY_MODEL = ("p:", "tokens:", "tokens_p50:", "tokens_p90:")


@dataclass(frozen=True)
class Population:
    """``P`` problems over all sources; a problem of two sources stands here twice.

    Attributes:
        sources: names of the sources; share: (S,) their parts of the requests that are expected in a run; NaN where these follow
            from the run (:func:`ttc_sim.workload.expected.shares`).
        problem: (P,) keys; group: (P,) task types or categories.
        source: (P,) index into sources.
        cluster: (P,) what is resampled together for intervals: the problem or its group, by ``targets.generalize``, else by the
            problem set's card.
        prompt_tokens: (P,).
        scores: predictions by name, each (P,).
        attempts: by profile name, aligned with the problems.
        offered: per arm, the sources whose problems its profile measures.
        notes: what a reader of any figure must know (filled lengths, problems left out).
        responses: by arm, what it is expected to make of a request, for the policy ``Utility``; ``None`` if not fitted.
        scored_by: the predictor that the scores are by; ``None`` without scores.
        turns, costs: of requests of traffic that stand in for problems, as :class:`ttc_sim.policies.Requests` has them.
    """

    sources: tuple[str, ...]
    share: F64
    problem: NDArray[np.str_]
    group: NDArray[np.str_]
    source: I64
    cluster: I64
    prompt_tokens: I64
    scores: Mapping[str, F64]
    attempts: Mapping[str, Attempts]
    offered: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    responses: Mapping[str, Response] | None = None
    scored_by: ScoredBy | None = None
    turns: Turns | None = None
    costs: Mapping[str, ArmCosts] | None = None

    def __len__(self) -> int:
        return len(self.source)

    @property
    def weight(self) -> F64:
        """(P,) probability that a request is this problem; sums to 1.

        Raises:
            InputError: only the run tells which part of the requests each source sends.
        """
        if np.isnan(self.share).any():
            expected = "arrivals with a rate: how many requests users send beside others follows from the run"
            raise InputError("workload", "sources", ", ".join(self.sources), expected)
        size = np.bincount(self.source, minlength=len(self.sources))
        return (self.share / size)[self.source]

    def as_requests(self) -> Requests:
        """Each problem as one request, for policies."""
        return Requests(
            arrival_s=np.zeros(len(self)),
            source=self.source,
            sources=self.sources,
            prompt_tokens=self.prompt_tokens,
            scores=self.scores,
            responses=self.responses,
            turns=self.turns,
            costs=self.costs,
        )

    def restricted(self, keep: NDArray[np.bool_]) -> Population:
        """The same population with some of its problems only."""
        return self.taken(np.flatnonzero(keep))

    def taken(self, rows: I64) -> Population:
        """The same population with these of its problems, each as often as it stands there."""
        none = np.zeros(len(rows), dtype=np.int64)
        return replace(
            self,
            problem=self.problem[rows],
            group=self.group[rows],
            source=self.source[rows],
            cluster=np.unique(self.cluster[rows], return_inverse=True)[1].astype(np.int64),
            prompt_tokens=self.prompt_tokens[rows],
            scores={name: values[rows] for name, values in self.scores.items()},
            attempts={name: one.between(rows, none, one.count[rows]) for name, one in self.attempts.items()},
            turns=None if self.turns is None else self.turns.taken(rows),
        )


def load_population(scenario: Scenario) -> Population:
    """Load what the scenario names, by name from the shipped profiles or from folders beside the scenario.

    Raises:
        InputError: what is named is not there or is bad, or the scores are by another predictor than the scenario's.
    """
    problem_sets = {
        name: load_problem_set(name, scenario.folder, scenario.predictor_at)
        for name in dict.fromkeys(str(source.problem_set) for source in scenario.workload.sources.values())
    }
    for problem_set in problem_sets.values():
        by = problem_set.scored_by
        if by is not None and scenario.predictor_sha256 not in (None, by.sha256):
            expected = f"the predictor that the plan was made with, sha256 {str(scenario.predictor_sha256)[:12]}"
            raise InputError(scenario.path, "predictor", str(by), expected)
    profiles = {
        name: load_profile(name, scenario.folder)
        for arm_name in scenario.arms
        for name in _profiles_of(scenario, arm_name)
    }
    for arm_name, others in scenario.search.efforts.items():
        own = profiles[str(scenario.arms[arm_name].profile)].card.model
        for name in others:
            if profiles[name].card.model != own:
                expected = f"a profile of {own} at another effort: this one is of {profiles[name].card.model}"
                raise InputError(scenario.path, f"search.efforts.{arm_name}", name, expected)
    return build_population(scenario, problem_sets, profiles)


def build_population(
    scenario: Scenario, problem_sets: Mapping[str, ProblemSet], profiles: Mapping[str, Profile]
) -> Population:
    """Put problems, scores and attempts side by side.

    A source keeps the problems that every arm offered to it has been measured on, so that all arms are compared on the
    same problems. An arm that sends requests on to others is measured where those are, too.

    Raises:
        InputError: an empty source, an arm measured on none of its sources' problems, missing scores.
    """
    path = scenario.path
    sources = scenario.workload.sources
    tables: list[pl.DataFrame] = []
    notes = [note for problem_set in problem_sets.values() for note in problem_set.notes]
    notes += _strays(problem_sets, profiles)
    offered: dict[str, list[str]] = {name: [] for name in scenario.arms}
    covered: dict[str, list[str]] = {name: [] for name in scenario.arms}
    measured = {name: profile.attempts["problem"].unique().implode() for name, profile in profiles.items()}
    stages = {name: scenario.parsed_strategy(name).other_arms for name in scenario.arms}
    by_arm = {
        name: [profile for one in (name, *stages[name]) for profile in _profiles_of(scenario, one)]
        for name in scenario.arms
    }
    # Arms that are offered to nobody, and that others fall back on, or that a budget degrades to.
    degraded = [
        one for to in (scenario.budget.arms if scenario.budget is not None else ()) for one in scenario.path_of(to)
    ]
    behind = {
        name: [one for one in (*scenario.path_of(name)[1:], *degraded) if scenario.arms[one].sources == []]
        for name in scenario.arms
    }
    for index, (name, source) in enumerate(sources.items()):
        table = _problems_of(problem_sets[str(source.problem_set)], source, path, name)
        total = len(table)
        kept = table
        for arm_name, arm in scenario.arms.items():
            covers = pl.Series(np.ones(total, dtype=np.bool_))
            for profile in by_arm[arm_name]:
                covers &= table["problem"].is_in(measured[profile])
            asked = arm.sources is not None and name in arm.sources
            if arm.sources is not None and not asked:
                continue
            if asked and not covers.any():
                models = " and ".join(dict.fromkeys(by_arm[arm_name]))
                raise InputError(path, f"arms.{arm_name}.sources", name, f"a source that {models} was measured on")
            covered[arm_name].append(f"{int(covers.sum()):,} of the {total:,} of {name}")
            if asked or covers.sum() >= LEAST_COVERAGE * total:
                offered[arm_name].append(name)
                for profile in [*by_arm[arm_name], *(one for other in behind[arm_name] for one in by_arm[other])]:
                    kept = kept.filter(kept["problem"].is_in(measured[profile]))
        if kept.is_empty():
            raise InputError(
                path, f"workload.sources.{name}", source.problem_set, "problems that its arms were measured on"
            )
        if len(kept) < total:
            notes.append(
                f"{name}: {total - len(kept)} of {total} problems left out: not every arm was measured on them"
            )
        tables.append(kept.with_columns(source=pl.lit(index, dtype=pl.Int64)))
    for arm_name, where in offered.items():
        models = " and ".join(dict.fromkeys(by_arm[arm_name]))
        if not where and scenario.arms[arm_name].sources == []:
            if not any(arm_name in others for others in (*stages.values(), *behind.values())):
                expected = (
                    "a source, or an arm whose strategy or fallback names this one: nothing would ever come to it"
                )
                raise InputError(path, f"arms.{arm_name}.sources", [], expected)
        elif not where:
            expected = f"a profile measured on at least {LEAST_COVERAGE:.0%} of a source's problems"
            expected += ", as those of the arms that it names," if stages[arm_name] else ""
            expected += f", not on {', '.join(covered[arm_name])}; or `sources`, to keep to those that were"
            raise InputError(path, f"arms.{arm_name}.profile", scenario.arms[arm_name].profile, expected)
        elif len(where) < len(sources) and scenario.arms[arm_name].sources is None:
            absent = ", ".join(source for source in sources if source not in where)
            notes.append(f"arm {arm_name} is not offered on {absent}: {models} was not measured there")
    notes += [
        f"thinking lengths of {measured_one.name} are not its own: {measured_one.card.reasoning_source}"
        for measured_one in profiles.values()
        if measured_one.card.reasoning == "filled"
    ]
    table = pl.concat(tables, how="diagonal_relaxed")
    by_group = any(problem_sets[str(source.problem_set)].card.cluster == "group" for source in sources.values())
    if scenario.targets is not None and scenario.targets.generalize is not None:
        by_group = scenario.targets.generalize == "new"
    cluster = table["group" if by_group else "problem"].to_numpy()
    share = shares(scenario.workload, scenario.folder, path)
    scores = _scores(table)
    scored_by = [one.scored_by for one in problem_sets.values() if one.scored_by is not None]
    return Population(
        sources=tuple(sources),
        share=share,
        problem=table["problem"].to_numpy().astype(np.str_),
        group=table["group"].to_numpy().astype(np.str_),
        source=table["source"].to_numpy().astype(np.int64),
        cluster=np.unique(cluster.astype(np.str_), return_inverse=True)[1].astype(np.int64),
        prompt_tokens=table["prompt_tokens"].to_numpy().astype(np.int64),
        scores=scores,
        attempts={name: align(profile, table["problem"], predicted(table, name)) for name, profile in profiles.items()},
        offered={name: tuple(where) for name, where in offered.items()},
        notes=tuple(notes),
        scored_by=scored_by[0] if scores and scored_by else None,
    )


def _profiles_of(scenario: Scenario, arm: str) -> list[str]:
    """An arm's profile, and those at other efforts that it may be given."""
    own = scenario.arms[arm].profile
    return list(dict.fromkeys([*([] if own is None else [own]), *scenario.search.efforts.get(arm, [])]))


def _strays(problem_sets: Mapping[str, ProblemSet], profiles: Mapping[str, Profile]) -> list[str]:
    """What is said of attempts at problems that are in none of the sets."""
    known = pl.concat([problem_set.problems["problem"] for problem_set in problem_sets.values()]).implode()
    said = []
    for name, profile in profiles.items():
        strays = profile.attempts.filter(~pl.col("problem").is_in(known))
        if len(strays):
            first, sets = strays["problem"][0], " or ".join(problem_sets)
            said.append(f"{name}: {len(strays):,} attempts are at problems that are not in {sets}, {first} first")
    return said


def _problems_of(problem_set: ProblemSet, source: Source, path: str | Path, name: str) -> pl.DataFrame:
    table = problem_set.problems
    if source.subset is None:
        return table
    wanted = [source.subset] if isinstance(source.subset, str) else source.subset
    known = table["subset"].unique().to_list()
    for subset in wanted:
        if subset not in known:
            raise InputError(path, f"workload.sources.{name}.subset", subset, nearest(subset, known))
    return table.filter(table["subset"].is_in(wanted))


def _scores(table: pl.DataFrame) -> dict[str, F64]:
    """Scores that every problem has: a score missing in one source cannot route."""
    names = [name for name in table.columns if name in (DIFFICULTY, NOVELTY) or name.startswith(_BY_MODEL)]
    return {name: table[name].to_numpy().astype(np.float64) for name in names if table[name].null_count() == 0}
