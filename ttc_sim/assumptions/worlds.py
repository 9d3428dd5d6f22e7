"""A scenario carried out in worlds in which some of its assumptions are otherwise, on the same random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ttc_sim.assumptions.dials import Dial, Moved, dials_of
from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.promises import TargetCheck, check_targets
from ttc_sim.optimizer.whatif.carrying_out import drawn_with
from ttc_sim.optimizer.whatif.paths import Base
from ttc_sim.optimizer.whatif.ready import Effect
from ttc_sim.policies import DIFFICULTY, Always, Banded, LeastLoaded, Overflow, PerSource, Policy, Threshold
from ttc_sim.scenario import Scenario, with_changes
from ttc_sim.simulation.expectations import expected_under
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize_pooled
from ttc_sim.workload.expected import shares
from ttc_sim.workload.population import Population


@dataclass(frozen=True)
class Given:
    """What every process gets.

    Attributes:
        scenario: as it stands; requests: of every run, instead of the scenario's.
    """

    scenario: Scenario
    requests: int | None


class Worlds:
    """Carries a scenario out as it stands, and in other worlds. The policy stays, with what it expects of the arms."""

    def __init__(self, given: Given) -> None:
        self.given = given
        policy = given.scenario.parsed_policy()
        assert policy is not None
        policy.get_ready()
        self.policy = policy
        self.model = with_responses(load_model(given.scenario), policy)
        self.base = Base(self.model, given.scenario)
        self.dials: dict[str, Dial] = {one.name: one for one in dials_of(self.base)}
        targets = given.scenario.targets
        # Figures of sources take as long as all others, and only targets on sources read them.
        self._parts = targets is not None and any(one.source is not None for one in targets.asked())

    @cached_property
    def _population(self) -> Population | None:
        """That of the scenario, with the scores that are read alone: of dozens a policy reads one or two."""
        population, read = self.model.population, _scores_of(self.policy)
        if population is None or read is None:
            return population
        kept = {name: values for name, values in population.scores.items() if name in (*read, DIFFICULTY)}
        return replace(population, scores=kept)

    @cached_property
    def standing(self) -> tuple[Pooled, Summary]:
        """What the scenario comes to as it stands, with the figures of its arms."""
        pooled = self.pooled({})
        return pooled, summarize_pooled(pooled)

    def summary(self, pooled: Pooled) -> Summary:
        """All figures that are looked at."""
        return summarize_pooled(pooled, parts=self._parts)

    def checks(self, summary: Summary) -> tuple[TargetCheck, ...]:
        """Every target beside its figure."""
        targets = self.given.scenario.targets
        return () if targets is None else check_targets(summary, targets)

    def why_not(self, dial: Dial) -> str | None:
        """What a dial would need that there is not; ``None`` if it applies."""
        near = dial.between(dial.usual.low if dial.usual is not None else dial.most, 0.02)
        if near == dial.neutral:
            near = dial.between(dial.usual.high if dial.usual is not None else dial.most, 0.02)
        try:
            effect = dial.at(self.base, near)
            if effect is not None:
                self._check_draws(effect)
        except InputError as error:
            return error.expected
        return None

    def check(self, effect: Effect) -> None:
        """See that there is such a world, without a run of it.

        Raises:
            InputError: there is none.
        """
        self._model([effect])
        self._check_draws(effect)

    def _check_draws(self, effect: Effect) -> None:
        if effect.draws is not None:
            effect.draws(drawn_with(self.model, 0, self.given.requests, ()))

    def pooled(self, values: Mapping[str, float]) -> Pooled:
        """All runs in a world.

        Args:
            values: of dials, by name; of the others that of the scenario.

        Raises:
            InputError: no such world, such as one with answers longer than any can be.
        """
        effects = [
            effect for name, value in values.items() if (effect := self.dials[name].at(self.base, value)) is not None
        ]
        model = self._model(effects)
        runs = [
            run_once(model, self.policy, drawn_with(model, k, self.given.requests, effects))
            for k in range(self.given.scenario.replications)
        ]
        return Pooled(model, runs, expected_under(model, self.policy, runs))

    def _model(self, effects: Sequence[Effect]) -> Model:
        changes = {path: value for effect in effects for path, value in effect.changes.items()}
        scenario = with_changes(self.given.scenario, changes) if changes else self.given.scenario
        population = self._population
        if population is not None:
            if any(path.startswith("workload.") for path in changes):
                found = shares(scenario.workload, scenario.folder, scenario.path)
                population = replace(population, share=found)
            for effect in effects:
                population = population if effect.population is None else effect.population(population)
        model = load_model(scenario, population) if effects else self.model
        for effect in effects:
            if isinstance(effect, Moved) and effect.model is not None:
                model = effect.model(model)
        return model


def _scores_of(policy: Policy) -> tuple[str, ...] | None:
    """Scores that a policy may read; ``None`` where that may be any."""
    if isinstance(policy, PerSource):
        each = [_scores_of(one) for one in policy.policies.values()]
        known = [one for one in each if one is not None]
        return tuple(name for one in known for name in one) if len(known) == len(each) else None
    if type(policy) in (Banded, Threshold):
        return (policy.score,)  # type: ignore[attr-defined]
    return () if type(policy) in (Always, LeastLoaded, Overflow) else None  # one made from these may read more


__all__ = ["Given", "Worlds"]
