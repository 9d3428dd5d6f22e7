"""Carry a plan out on measured problems that it has never seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ttc_sim.base.arguments import location
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.display import Displayed
from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.progress import Step, Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.optimizer.hindsight import Regret, in_hindsight
from ttc_sim.optimizer.new_problems import over_new_problems
from ttc_sim.optimizer.plan import Plan, SavedPlan, load_plan
from ttc_sim.optimizer.promises import TargetVerdict, as_mapping, judge_targets, promises
from ttc_sim.policies import Policy
from ttc_sim.predictor.running.planned import planned_predictor
from ttc_sim.scenario import Scenario, as_scenario
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expected_under
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize
from ttc_sim.workload.population import Population


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
        """Whether the realized value lies in the promised interval, rounding left aside: that of a fixed price has no width."""
        value = self.realized.value
        ends = self.promised.low, self.promised.high
        return ends[0] <= value <= ends[1] or any(math.isclose(value, end, rel_tol=1e-9) for end in ends)

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        both = {"promised": as_mapping(self.promised), "realized": as_mapping(self.realized)}
        return {**both, "inside": self.inside}


@dataclass(frozen=True)
class Validation(Displayed):
    """What :func:`validate` found.

    Attributes:
        verdicts: by figure: ``accuracy``, ``cost_usd_per_request``, ``latency_p95_s``, ...
        realized: all figures on the new problems.
        best_in_hindsight: the best policy found of the plan's space on these very problems, as accurate as the plan was on them
            (or as cheap, where accuracy is maximized), by expectation; ``None`` without an objective, or where it
            follows from times or the policy looks at live load.
        problems: problems carried out on.
        new_groups: share of the problems whose task type the plan's problems do not have; ``by_novelty`` gives the
            realized accuracy on those and on the others.
        targets: every target of the plan's scenario beside what was realized.
        regret: how far the plan stayed behind what no choice of arms could have beaten on these very problems.
    """

    verdicts: Mapping[str, Verdict]
    realized: Summary
    best_in_hindsight: Mapping[str, object] | None
    problems: int
    notes: tuple[str, ...]
    new_groups: float
    by_novelty: Mapping[str, Estimate]
    targets: tuple[TargetVerdict, ...] = ()
    regret: Regret | None = None

    @property
    def missed(self) -> tuple[str, ...]:
        """Names of the targets that are missed for sure."""
        return tuple(target.name for target in self.targets if target.met is False)

    def __repr__(self) -> str:
        missed = f"; misses {', '.join(self.missed)}" if self.missed else ""
        inside = sum(verdict.inside for verdict in self.verdicts.values())
        return (
            f"<Validation on {self.problems:,} problems: {inside} of {len(self.verdicts)} figures as promised{missed}>"
        )

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON."""
        return {
            **{name: verdict.as_json() for name, verdict in self.verdicts.items()},
            "targets": [target.as_json() for target in self.targets],
            "best_in_hindsight": self.best_in_hindsight,
            "regret": None if self.regret is None else self.regret.as_json(),
            "problems": self.problems,
            "new_groups_share": self.new_groups,
            "accuracy_by_novelty": {name: as_mapping(figure) for name, figure in self.by_novelty.items()},
            "per_arm": self.realized.as_json()["per_arm"],
            "notes": list(self.notes),
        }


@shows_progress()
@one_thread()
def validate(
    plan: str | Path | Plan | SavedPlan,
    problems: str | Path,
    attempts: str | Path,
    progress: Telling = None,
    *,
    predictor: str | Path | None = None,
    other_predictor: bool = False,
    allow_code: AllowCode = False,
) -> Validation:
    """Carry a plan out on measured problems: scores from their prompts, outcomes and tokens from their attempts.

    Args:
        plan: itself, or its file.
        problems: table with a column of keys and one of prompts; where a scenario's source has a subset, a column
            ``dataset`` or ``subset`` tells which problems belong to it.
        attempts: table with problem, model, output tokens and correctness.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        predictor: where the ONNX file of the plan's predictor stands now; where the plan says if left out.
        other_predictor: route by that predictor even if it is another one than the plan was made with.
        allow_code: whether functions in files that the plan names may run, as for :func:`ttc_sim.load_plan`.

    Raises:
        InputError: an argument of another kind, a column that is missing, no problem of a source with attempts by all of its
            arms' models, or another predictor than the plan was made with.
    """
    saved = _as_saved(plan, allow_code)
    location("validate", "problems", problems, "a table of problems")
    location("validate", "attempts", attempts, "a table of attempts")
    say = telling("validate", progress)
    if predictor is not None:
        location("validate", "predictor", predictor, "an ONNX file, 'fast' or 'encoder'")
    scenario = as_scenario(saved.scenario, "validate", allow_code)
    if not scenario.workload.has_problems:
        can = "`ttc-sim simulate PLAN` carries out one for traffic without any, of which no answer can be judged"
        raise InputError(scenario.path, "workload.sources", {}, f"a plan for problems: {can}")
    used, another = planned_predictor(scenario, predictor, other=other_predictor)
    policy = scenario.parsed_policy()
    if policy is None:
        raise InputError(scenario.path, "policy", None, "the policy that was planned")
    policy.get_ready()
    plans = scenario.targets is not None and bool(scenario.targets.minimize or scenario.targets.maximize)
    if plans and not policy.looks_at_load:
        scenario.check_consent()  # the best in hindsight may be any arm
    if policy.uses_responses and scenario.responses is None:
        # A scenario by hand: what it was planned on is its own problems.
        fitted = with_responses(load_model(scenario), policy).population
        assert fitted is not None
        scenario = scenario.model_copy(update={"responses": dict(fitted.responses or {})})
    scenario, population, absent = over_new_problems(scenario, problems, attempts, say, predictor=used)
    model = load_model(scenario, population)
    assert model.population is not None
    population = model.population
    policy = scenario.parsed_policy()  # of the sources that are present
    assert policy is not None
    say(Step(f"carrying the plan out on {len(population):,} problems"))
    realized, expected = carry_out(model, policy, "validate")
    say(Step("looking for the best policy in hindsight"))
    hindsight = in_hindsight(model, policy) if plans else None
    new, by_novelty = _by_novelty(scenario, population, expected)
    return Validation(
        verdicts=beside_promises(saved.promised, realized),
        realized=realized,
        best_in_hindsight=None if hindsight is None else hindsight[0],
        problems=len(population),
        notes=(
            *saved.notes,
            *another,
            *absent,
            *_own_problems(scenario, population),
            *population.notes,
            *_without_budget(scenario, hindsight is not None),
        ),
        new_groups=new,
        by_novelty=by_novelty,
        targets=() if scenario.targets is None else judge_targets(realized, scenario.targets, population),
        regret=None if hindsight is None else hindsight[1],
    )


def _without_budget(scenario: Scenario, hindsight: bool) -> list[str]:
    """What the best in hindsight was looked for without."""
    if scenario.budget is None or not hindsight:
        return []
    return [
        "the best policy in hindsight was looked for as if there were no hard budget, which the plan was carried out with"
    ]


def _as_saved(plan: object, allow_code: AllowCode) -> SavedPlan:
    if isinstance(plan, Plan):
        return plan.saved()
    if isinstance(plan, SavedPlan):
        return plan
    return load_plan(location("validate", "plan", plan, "a plan, or its file"), allow_code=allow_code)


def carry_out(model: Model, policy: Policy, purpose: str) -> tuple[Summary, dict[str, F64] | None]:
    """Figures of a policy on a model's problems, in as many runs as its scenario has.

    Args:
        purpose: keeps these draws apart from those that the policy was chosen by.

    Returns:
        The figures; and per problem, what is expected of the arm it is sent to, if it is always the same.
    """
    runs = [run_once(model, policy, draw(model, k, purpose=purpose)) for k in range(model.scenario.replications)]
    expected = expected_under(model, policy, runs)
    return summarize(model, runs, expected=expected), expected


def beside_promises(promised: Mapping[str, Estimate], realized: Summary) -> dict[str, Verdict]:
    """Each promised figure beside the realized one."""
    return {
        name: Verdict(prediction_interval(promised[name], figure), figure)
        for name, figure in promises(realized).items()
        if name in promised
    }


def prediction_interval(promised: Estimate, realized: Estimate) -> Estimate:
    """The interval that a sample as small as this one should fall into: the plan's variance and the sample's own."""
    return Estimate.around(promised.value, math.hypot(promised.sd, realized.sd)).clipped(0)


def _own_problems(scenario: Scenario, population: Population) -> list[str]:
    """A warning where the plan is carried out on problems that it, and the shipped predictor, were made on."""
    known: set[str] = set()
    for source in scenario.workload.sources.values():
        known |= set(load_problem_set(str(source.problem_set), scenario.folder, None).problems["problem"].to_list())
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
    expected: Mapping[str, F64] | None,
) -> tuple[float, dict[str, Estimate]]:
    """Share of problems of task types that the plan was not made on, and accuracy on both kinds."""
    known: set[str] = set()
    for source in scenario.workload.sources.values():
        known |= set(load_problem_set(str(source.problem_set), scenario.folder, None).problems["group"].to_list())
    new = ~np.isin(population.group, sorted(known))
    figures: dict[str, Estimate] = {}
    for label, here in (("known task types", ~new), ("new task types", new)):
        if expected is not None and here.any():
            values, weight = expected["correct"][here], population.weight[here] / population.weight[here].sum()
            mean = float(values @ weight)
            figures[label] = Estimate.around(mean, math.sqrt(float(((values - mean) ** 2) @ weight**2)))
    return float(new.mean()), figures
