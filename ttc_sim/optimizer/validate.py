"""Carry a plan out on measured problems that it has never seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.measured.filling import resample_reasoning
from ttc_sim.measured.problem_sets import ProblemSet, load_problem_set
from ttc_sim.measured.problem_tables import read_problem_tables
from ttc_sim.measured.profiles import Profile, load_profile
from ttc_sim.optimizer.plan import PROMISES, SavedPlan, as_mapping, load_plan, promises
from ttc_sim.optimizer.search import best_in_hindsight
from ttc_sim.policies import UserFunction
from ttc_sim.predictor import Predictor
from ttc_sim.scenario import Scenario
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize
from ttc_sim.workload.population import Population, build_population

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Verdict:
    """One figure of the plan beside what really came.

    Attributes:
        promised: as the plan has it, with the interval that problems as many as these should fall into.
        realized: on the new problems; its interval says how well they pin it down.
    """

    promised: Estimate
    realized: Estimate

    @property
    def inside(self) -> bool:
        """Whether the realized value lies in the promised interval."""
        return self.promised.low <= self.realized.value <= self.promised.high


@dataclass(frozen=True)
class Validation:
    """What :func:`validate` found.

    Attributes:
        verdicts: by figure: ``accuracy``, ``cost_usd_per_request``, ``latency_p95_s``, ...
        realized: all figures on the new problems.
        best_in_hindsight: the cheapest policy of the plan's space that meets the targets on these very problems, by
            expectation; ``None`` if none does.
        problems: problems carried out on; left_out: problems that could not be, and why.
        new_groups: share of the problems whose task type the plan's problems do not have; ``by_novelty`` gives the
            realized accuracy on those and on the others.
    """

    verdicts: Mapping[str, Verdict]
    realized: Summary
    best_in_hindsight: Mapping[str, object] | None
    problems: int
    notes: tuple[str, ...]
    new_groups: float
    by_novelty: Mapping[str, Estimate]

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON."""
        return {
            **{
                name: {
                    "promised": as_mapping(verdict.promised),
                    "realized": as_mapping(verdict.realized),
                    "inside": verdict.inside,
                }
                for name, verdict in self.verdicts.items()
            },
            "best_in_hindsight": self.best_in_hindsight,
            "problems": self.problems,
            "new_groups_share": self.new_groups,
            "accuracy_by_novelty": {name: as_mapping(figure) for name, figure in self.by_novelty.items()},
            "per_arm": self.realized.as_json()["per_arm"],
            "notes": list(self.notes),
        }


def validate(
    plan: str | Path | SavedPlan,
    problems: str | Path,
    attempts: str | Path,
    progress: Progress = lambda _: None,
    *,
    predictor: str | Path | None = None,
) -> Validation:
    """Carry a plan out on measured problems: scores from their prompts, outcomes and tokens from their attempts.

    Args:
        plan: a saved plan, or its file.
        problems: table with a column of keys and one of prompts; where a scenario's source has a subset, a column
            ``dataset`` or ``subset`` tells which problems belong to it.
        attempts: table with problem, model, output tokens and correctness.
        predictor: ONNX file; the shipped one that the scenario names if left out.

    Raises:
        InputError: a column that is missing, or no problem of a source with attempts by all of its arms' models.
    """
    saved = load_plan(plan) if isinstance(plan, (str, Path)) else plan
    scenario = saved.scenario
    policy = scenario.parsed_policy()
    assert policy is not None
    if policy.uses_responses and scenario.responses is None:
        # A scenario by hand: what it was planned on is its own problems.
        fitted = with_responses(load_model(scenario), policy).population
        assert fitted is not None
        scenario = scenario.model_copy(update={"responses": dict(fitted.responses or {})})
    scenario, population, absent = on_measured(scenario, problems, attempts, progress, predictor=predictor)
    model = load_model(scenario, population)
    assert model.population is not None
    population = model.population
    policy = scenario.parsed_policy()  # of the sources that are present
    assert policy is not None
    progress(f"carrying the plan out on {len(population):,} problems")
    runs = [run_once(model, policy, draw(model, k, purpose="validate")) for k in range(scenario.replications)]
    expectations = expect_arms(model)
    expected = None
    if not isinstance(policy, UserFunction):
        expected = expectations.under(policy.choose(population.as_requests(), model.arm_names))
    realized = summarize(model, runs, expected=expected)
    figures = promises(realized)
    verdicts = {
        name: Verdict(prediction(saved.promised[name], figures[name]), figures[name])
        for name in PROMISES
        if name in saved.promised and name in figures
    }
    progress("looking for the best policy in hindsight")
    new, by_novelty = _by_novelty(scenario, population, expected)
    return Validation(
        verdicts=verdicts,
        realized=realized,
        best_in_hindsight=best_in_hindsight(model) if scenario.targets is not None else None,
        problems=len(population),
        notes=(*absent, *_own_problems(scenario, population), *population.notes),
        new_groups=new,
        by_novelty=by_novelty,
    )


def on_measured(
    scenario: Scenario,
    problems: str | Path,
    attempts: str | Path,
    progress: Progress = lambda _: None,
    *,
    predictor: str | Path | None = None,
    scores: pl.DataFrame | None = None,
) -> tuple[Scenario, Population, list[str]]:
    """A scenario over measured problems instead of its own.

    Args:
        scenario: its sources that these problems have nothing of are left out.
        problems, attempts, predictor: as for :func:`validate`.
        scores: instead of running the predictor, a table of ``problem`` and scores; other problems are left out.

    Returns:
        The scenario, its population, and notes on what was left out.
    """
    problem_table, attempt_table = _read(problems, attempts)
    progress(f"scoring {len(problem_table):,} prompts")
    if scores is None:
        scored = _scored(problem_table, predictor or scenario.predictor)
    else:
        scored = problem_table.drop("prompt").join(scores, on="problem", how="inner", maintain_order="left")
    profiles = {
        arm.profile: _profile_of(load_profile(arm.profile, scenario.folder), attempt_table, attempts, scenario.seed)
        for arm in scenario.arms.values()
        if arm.profile is not None
    }
    scenario, absent = _with_sources_present(scenario, scored, problems)
    problem_sets = {
        source.problem_set: ProblemSet(
            source.problem_set, load_problem_set(source.problem_set, scenario.folder).card, scored
        )
        for source in scenario.workload.sources.values()
    }
    population = build_population(scenario, problem_sets, profiles)
    return scenario, population, absent


def prediction(promised: Estimate, realized: Estimate) -> Estimate:
    """The interval that a sample as small as this one should fall into: the plan's variance and the sample's own."""
    return Estimate.around(promised.value, math.hypot(promised.sd, realized.sd)).clipped(0)


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


def _profile_of(shipped: Profile, table: pl.DataFrame, where: str | Path, seed: int) -> Profile:
    """The new attempts as if they were the profile's; what it could not record is filled as it was filled there."""
    model = shipped.card.model
    mine = table.filter(pl.col("model").is_in([model, shipped.name, shipped.name.split("/")[-1]]))
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
    kept, notes = {}, []
    for name, source in scenario.workload.sources.items():
        wanted = [source.subset] if isinstance(source.subset, str) else source.subset
        if wanted is None:
            kept[name] = source
        elif here := [subset for subset in wanted if subset in present]:
            kept[name] = source.model_copy(update={"subset": here})
        else:
            notes.append(f"no problem of source {name} among the new ones: its share of the promise is not tested")
    if not kept:
        subsets = ", ".join(sorted(present)[:8])
        raise InputError(where, "subset", subsets, "problems of a subset that the plan has sources for")
    if len(kept) == len(scenario.workload.sources):
        return scenario, notes
    workload = scenario.workload.model_copy(update={"sources": kept})
    policy = scenario.policy
    if isinstance(policy, dict):
        policy = {name: text for name, text in policy.items() if name in kept}
    return scenario.model_copy(update={"workload": workload, "policy": policy}), notes


def _own_problems(scenario: Scenario, population: Population) -> list[str]:
    """A warning where the plan is carried out on problems that it, and the shipped predictor, were made on."""
    known: set[str] = set()
    for source in scenario.workload.sources.values():
        known |= set(load_problem_set(source.problem_set, scenario.folder).problems["problem"].to_list())
    own = int(np.isin(population.problem, sorted(known)).sum())
    if not own:
        return []
    return [
        f"{own:,} of these {len(population):,} problems are the plan's own: the predictor was trained on them and scores them "
        "better than new ones, so this is no test of the plan"
    ]


def _by_novelty(
    scenario: Scenario,
    population: Population,
    expected: Mapping[str, np.ndarray[tuple[int], np.dtype[np.float64]]] | None,
) -> tuple[float, dict[str, Estimate]]:
    """Share of problems of task types that the plan was not made on, and accuracy on both kinds."""
    known: set[str] = set()
    for source in scenario.workload.sources.values():
        known |= set(load_problem_set(source.problem_set, scenario.folder).problems["group"].to_list())
    new = ~np.isin(population.group, sorted(known))
    figures: dict[str, Estimate] = {}
    for label, here in (("known task types", ~new), ("new task types", new)):
        if expected is not None and here.any():
            values, weight = expected["correct"][here], population.weight[here] / population.weight[here].sum()
            mean = float(values @ weight)
            figures[label] = Estimate.around(mean, math.sqrt(float(((values - mean) ** 2) @ weight**2)))
    return float(new.mean()), figures


__all__ = ["Validation", "Verdict", "on_measured", "prediction", "validate"]
