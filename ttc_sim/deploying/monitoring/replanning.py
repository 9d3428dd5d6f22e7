"""What planning anew would save today: the plan and a new one, on the traffic of the logs and the same random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Progress, Step, within
from ttc_sim.deploying.monitoring.reference import Reference
from ttc_sim.deploying.monitoring.served import Served
from ttc_sim.deploying.monitoring.todays import Today
from ttc_sim.optimizer.planning import plan_model, targets_of
from ttc_sim.optimizer.promises import TargetVerdict, as_mapping, judge_targets
from ttc_sim.optimizer.space import load_model_like
from ttc_sim.optimizer.whatif.carrying_out import Desk, Given
from ttc_sim.optimizer.whatif.ready import Effect
from ttc_sim.optimizer.whatif.saying import Variation
from ttc_sim.scenario import Scenario
from ttc_sim.simulation.differences import Compared, compare
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.summary import Summary, summarize_pooled

FEWEST = 200
"""Requests below which nothing is planned by."""
FIGURES = ("cost_usd_per_day", "cost_usd_per_request", "accuracy", "latency_p95_s", "timeout_rate")


@dataclass(frozen=True)
class Replanned:
    """The plan as it is and a new one, both on today's traffic.

    Attributes:
        compared: by figure, the plan (before), the new one (after) and the difference, paired.
        missed: targets that the plan misses today for sure; missed_anew: those that the new one does.
        policy: of the new one, as scenarios write it; status: ``"met"`` or ``"nearest"``.
        assumed: what is taken to be as planned.
    """

    compared: Mapping[str, Compared]
    missed: tuple[str, ...]
    missed_anew: tuple[str, ...]
    policy: Mapping[str, str] | str
    status: str
    assumed: tuple[str, ...]

    @property
    def saves_usd_per_day(self) -> Compared:
        """Of the dollars a day; what is saved stands with a minus there."""
        return self.compared["cost_usd_per_day"]

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "figures": {
                name: {
                    "plan": as_mapping(one.before),
                    "replanned": as_mapping(one.after),
                    "difference": as_mapping(one.difference),
                    "more_than_noise": one.more_than_noise,
                }
                for name, one in self.compared.items()
            },
            "missed": list(self.missed),
            "missed_replanned": list(self.missed_anew),
            "policy": self.policy if isinstance(self.policy, str) else dict(self.policy),
            "status": self.status,
            "assumed": list(self.assumed),
        }


def replanned(
    scenario: Scenario, now: Served, planned: Reference, today: Today | None, progress: Progress
) -> Replanned | str:
    """Plan anew for what came, or say why that cannot be done."""
    if planned.model.population is None:
        return (
            "the plan's traffic has no problems, by which arms are chosen: nothing says what another plan would come to"
        )
    if len(now) < FEWEST:
        return f"too few requests to plan by: {len(now):,}, where it takes {FEWEST}"
    if today is None:
        return "all requests came at one moment: they have no rate"
    try:
        targets_of(scenario)
        scenario.check_consent()
        progress(Step("the plan on today's traffic"))
        return _compared(scenario, today, progress)
    except InputError as error:
        return f"today's scenario cannot be planned for: {error}"


def _compared(scenario: Scenario, today: Today, progress: Progress) -> Replanned:
    desk = Desk(Given(scenario, True, scenario.replications, None), progress)
    effects: tuple[Effect, ...] = ()
    model, policy = desk.model, desk.policy
    if today.changes:
        prepared = desk.prepared(Variation("today", today.changes))
        (model, policy), effects = desk.loaded(prepared), prepared.effects
    assert model.population is not None
    responses = model.population.responses
    population = replace(today.population(model.population), responses=responses)
    model = with_responses(load_model(model.scenario, population), policy)
    kept = desk.pooled(model, policy, effects)
    bare: Model = replace(model, population=replace(population, responses=None))

    plan = plan_model(bare, within(progress, "planned anew"))
    new = desk.pooled(load_model_like(bare, plan.scenario), plan.policy, effects)
    summaries = summarize_pooled(kept), summarize_pooled(new)
    chosen = plan.scenario.policy
    assert chosen is not None
    return Replanned(
        compare(kept, new, *summaries, names=FIGURES),
        _missed(kept, summaries[0]),
        _missed(new, summaries[1]),
        chosen,
        plan.status,
        (
            *today.assumed,
            "figures of the new plan are as simulated, not corrected for having been chosen on the same problems",
        ),
    )


def _missed(pooled: Pooled, summary: Summary) -> tuple[str, ...]:
    targets = pooled.model.scenario.targets
    found: tuple[TargetVerdict, ...] = ()
    if targets is not None:
        found = judge_targets(summary, targets, pooled.model.population)
    return tuple(one.name for one in found if one.met is False)


__all__ = ["FEWEST", "Replanned", "replanned"]
