"""Problems measured by the user, in the place of a scenario's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Progress, Step, silent
from ttc_sim.measured.filling import resample_reasoning
from ttc_sim.measured.problem_sets import ProblemSet, load_problem_set
from ttc_sim.measured.problem_tables import read_problem_tables
from ttc_sim.measured.profiles import Profile, load_profile
from ttc_sim.measured.provenance import ScoredBy, identify
from ttc_sim.predictor import Predictor
from ttc_sim.scenario import Scenario
from ttc_sim.workload.population import Population, build_population


def over_new_problems(
    scenario: Scenario,
    problems: str | Path,
    attempts: str | Path,
    progress: Progress = silent,
    *,
    predictor: str | Path | None = None,
    scores: pl.DataFrame | None = None,
) -> tuple[Scenario, Population, list[str]]:
    """A scenario over newly measured problems instead of its own.

    Args:
        scenario: its sources that these problems have nothing of are left out.
        problems, attempts, predictor: as for :func:`ttc_sim.optimizer.validating.validate`.
        scores: instead of running the predictor, a table of ``problem`` and scores; other problems are left out.

    Returns:
        The scenario, its population, and notes on what was left out.
    """
    problem_table, attempt_table = _read(problems, attempts)
    progress(Step(f"scoring {len(problem_table):,} prompts"))
    if scores is None:
        by: ScoredBy | None = identify(predictor or scenario.predictor_at)
        scored = _scored(problem_table, predictor or scenario.predictor_at)
    else:
        by = None
        scored = problem_table.drop("prompt").join(scores, on="problem", how="inner", maintain_order="left")
    measured = {
        arm.profile: load_profile(arm.profile, scenario.folder)
        for arm in scenario.arms.values()
        if arm.profile is not None
    }
    models = [one.card.model for one in measured.values()]
    profiles = {
        name: _profile_of(one, attempt_table, attempts, scenario.seed, alone=models.count(one.card.model) == 1)
        for name, one in measured.items()
    }
    scenario, absent = _with_sources_present(scenario, scored, problems)
    if scenario.search.efforts:
        absent.append("search.efforts is left out: the new attempts are those of the arms' own efforts")
        scenario = scenario.model_copy(update={"search": scenario.search.model_copy(update={"efforts": {}})})
    absent += [
        f"what {name} would have answered on its way (forced.csv) is known of its own problems alone: on the new ones an "
        "attempt that was wrong in the end counts as wrong wherever an answer is forced"
        for name, one in measured.items()
        if one.probes is not None
    ]
    problem_sets = {
        name: ProblemSet(name, load_problem_set(name, scenario.folder, None).card, scored, scored_by=by)
        for name in dict.fromkeys(str(source.problem_set) for source in scenario.workload.sources.values())
    }
    population = build_population(scenario, problem_sets, profiles)
    return scenario, population, absent


def _read(problems: str | Path, attempts: str | Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Problems with attempts, as problem sets have them and with their prompts; and the attempts, numbered."""
    tables = read_problem_tables(problems, attempts, with_tokens=True)
    listed = tables.attempts.with_columns(
        pl.col("output_tokens", "reasoning_tokens", "prompt_tokens").cast(pl.Int32),
        pl.col("correct").cast(pl.Boolean),
        attempt=pl.int_range(pl.len(), dtype=pl.Int16).over("problem", "model"),
    )
    made = tables.problems.with_columns(group=pl.when(pl.col("group") == "").then("subset").otherwise("group"))
    tokens = listed.group_by("problem").agg(pl.col("prompt_tokens").median().cast(pl.Int32))
    return made.join(tokens, on="problem", how="inner", maintain_order="left"), listed


def _scored(table: pl.DataFrame, predictor: str | Path) -> pl.DataFrame:
    scores = Predictor.load(predictor).score(table["prompt"].to_list())
    return pl.concat([table.drop("prompt"), scores.table()], how="horizontal")


def _profile_of(shipped: Profile, table: pl.DataFrame, where: str | Path, seed: int, *, alone: bool) -> Profile:
    """The new attempts as if they were the profile's; what it could not record is filled as it was filled there.

    Args:
        alone: whether no other profile of the plan's is of this model, so that all of its attempts are this one's.
    """
    model, names = shipped.card.model, [shipped.name, shipped.name.split("/")[-1]]
    mine = table.filter(pl.col("model").is_in([model, *names] if alone else names))
    if mine.is_empty() and not alone:
        expected = (
            f"attempts by {names[-1]}: the plan uses {model} at several efforts, which the profiles' names tell apart"
        )
        raise InputError(where, "model", ", ".join(sorted(table["model"].unique().to_list())[:12]), expected)
    if mine.is_empty() and shipped.card.source_models:
        mine = table.filter(pl.col("model").is_in(shipped.card.source_models)).with_columns(
            attempt=pl.int_range(pl.len(), dtype=pl.Int16).over("problem")
        )
    if mine.is_empty():
        known = ", ".join(sorted(table["model"].unique().to_list())[:12])
        raise InputError(where, "model", known, f"attempts by {model}, which the plan uses")
    output = mine["output_tokens"].to_numpy().astype(np.int64)
    truncated = mine["truncated"].to_numpy()
    if mine["reasoning_tokens"].null_count() == 0:
        reasoning = mine["reasoning_tokens"].to_numpy().astype(np.int64)
        visible = output - reasoning
    elif shipped.card.reasoning == "filled":
        visible = output
        truncated = truncated | (output == 0)
        reasoning = resample_reasoning(shipped, mine["correct"].to_numpy(), truncated, seed)
    else:
        reasoning, visible = np.zeros_like(output), output
    visible = np.where(reasoning + visible > 0, visible, 1)
    attempts = mine.select("problem", "attempt", "prompt_tokens", "correct", "answer").with_columns(
        reasoning_tokens=pl.Series(reasoning, dtype=pl.Int32),
        visible_tokens=pl.Series(visible, dtype=pl.Int32),
        truncated=pl.Series(truncated),
    )
    return Profile(name=shipped.name, card=shipped.card, attempts=attempts, forced=shipped.forced)


def _with_sources_present(scenario: Scenario, table: pl.DataFrame, where: str | Path) -> tuple[Scenario, list[str]]:
    """Leave out sources that the new problems have nothing of; the others keep their relative shares."""
    present = set(table["subset"].to_list())
    sources, notes = {}, []
    for name, source in scenario.workload.sources.items():
        wanted = [source.subset] if isinstance(source.subset, str) else source.subset
        if wanted is None:
            sources[name] = source
        elif here := [subset for subset in wanted if subset in present]:
            sources[name] = source.model_copy(update={"subset": here}) if len(here) < len(wanted) else source
            if absent := [subset for subset in wanted if subset not in present]:
                notes.append(
                    f"no problem of {', '.join(absent)} among the new ones of source {name}: the others stand for them"
                )
        else:
            notes.append(f"no problem of source {name} among the new ones: its share of the promise is not tested")
    if not sources:
        subsets = ", ".join(sorted(present)[:8])
        raise InputError(where, "subset", subsets, "problems of a subset that the plan has sources for")
    if sources == scenario.workload.sources:
        return scenario, notes
    workload = scenario.workload.with_sources(sources)
    policy = scenario.policy
    if isinstance(policy, dict):
        policy = {name: text for name, text in policy.items() if name in sources}
    targets = None if scenario.targets is None else scenario.targets.of_sources(sources)
    budget = None if scenario.budget is None else scenario.budget.of_sources(sources)
    changes = {"workload": workload, "policy": policy, "targets": targets, "budget": budget}
    return scenario.model_copy(update=changes), notes
