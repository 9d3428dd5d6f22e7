"""Variations carried out beside the base, on the same random numbers."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ttc_sim.base.arguments import count, function, whole
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REQUESTS, MOST_WORKERS
from ttc_sim.base.threads import one_thread
from ttc_sim.base.workers import processes
from ttc_sim.optimizer.plan import Plan, SavedPlan, planned_scenario
from ttc_sim.optimizer.planning import plan_model, targets_of
from ttc_sim.optimizer.promises import judge_targets
from ttc_sim.optimizer.space import load_model_like
from ttc_sim.optimizer.task import Progress
from ttc_sim.optimizer.whatif.found import CarriedOut, Change, Varied, WhatIf
from ttc_sim.optimizer.whatif.paths import Base, factor_of
from ttc_sim.optimizer.whatif.ready import Effect, ready_made
from ttc_sim.optimizer.whatif.saying import READY, Variation, check_names, in_python
from ttc_sim.policies import PerSource, Policy
from ttc_sim.scenario import MOST_REPLICATIONS, Scenario, as_plain, as_scenario, with_changes
from ttc_sim.simulation.differences import compare, figures
from ttc_sim.simulation.drawing import Draws, draw
from ttc_sim.simulation.expectations import expected_under
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize_pooled

_NAMES = ("name", "description")
_ONLY_TO_PLAN_BY = ("targets.minimize", "targets.maximize")


@one_thread()
def what_if(
    scenario: Scenario | Plan | SavedPlan | str | Path,
    variations: Mapping[str, Mapping[str, object]] | Sequence[Variation],
    *,
    replan: bool = False,
    replications: int | None = None,
    requests: int | None = None,
    workers: int = 1,
    progress: Progress = lambda _: None,
    allow_code: AllowCode = False,
) -> WhatIf:
    """Carry a scenario or plan out as it is and in variations, and say what each changes, with paired intervals.

    All see the same random numbers, request by request, so that what a variation changes is known far better than either figure.

    Args:
        scenario: itself, a plan, the file of either, or the name of a shipped scenario.
        variations: by name, new values by the keys that lead to them, joined by dots: ``{"busy": {"workload.arrivals.rate_per_s":
            "2x"}}``. Text such as ``2x``, ``+10%`` or ``-30%`` multiplies what stands there in effect, be it a default, a looked-up
            price or a list price. Ready-made ones stand among the paths as ``ready.NAME``: ``ready.traffic``, ``ready.cap``,
            ``ready.swap``, ``ready.prices-on``, ``ready.verifier``, ``ready.predictor``, ``ready.lengths``, ``ready.thinking``.
        replan: beside the base's policy, plan anew for each variation too.
        replications, requests: of every run, instead of the scenario's.
        workers: processes that share the variations out; the figures do not depend on them.
        progress: called with a line about each step.
        allow_code: as for :func:`ttc_sim.simulate`.

    Raises:
        InputError: no policy, a path that leads nowhere, a variation that makes the scenario invalid or changes nothing that is
            simulated, or an argument out of its range.

    >>> found = what_if("reasoning-gateway", {"capped": {"arms.r1.strategy": "Single(cap=1024)"}}, requests=300)
    >>> found.variations[0].kept.compared["accuracy"].more_than_noise
    True
    """
    function("what_if", "progress", progress, "a function that takes a line of text")
    whole("what_if", "workers", workers, 1, MOST_WORKERS, "processes")
    read = [one for one in variations if isinstance(one, Variation)] if isinstance(variations, (list, tuple)) else []
    asked = read if read and len(read) == len(variations) else in_python(variations)
    if not asked:
        raise InputError("what_if", "variations", variations, "at least one variation")
    check_names(asked)
    if replications is not None:
        replications = count("what_if", "replications", replications, 1, MOST_REPLICATIONS, "runs")
    if requests is not None:
        requests = count("what_if", "requests", requests, 1, MOST_REQUESTS, "requests")
    loaded, is_plan = scenario_of(scenario, allow_code)
    if replan:
        loaded.check_consent()
        targets_of(loaded)
    elif loaded.parsed_policy() is None:
        expected = "a policy such as Always('small'), a plan that `ttc-sim optimize` made, or --replan"
        raise InputError(loaded.path, "policy", None, expected)
    if loaded.parsed_policy() is None:
        progress("planning the base")
        loaded, is_plan = plan_model(load_model(loaded), progress).scenario, True
    given = Given(loaded, replan, replications or loaded.replications, requests)
    desk = Desk(given, progress)
    for one in asked:  # what is wrong with any is said before any is run
        desk.prepared(one)
    progress("base")
    base = desk.carried_out(desk.policy, *desk.base)
    if workers == 1 or len(asked) == 1:
        found = [desk.varied(one) for one in asked]
    else:
        found = []
        with processes(min(workers, len(asked)), _open, (given,)) as mapped:
            for varied in mapped(_varied, asked):
                found.append(varied)
                progress(f"{varied.name}: done")
    notes = [*base.summary.notes]
    if replan and not is_plan:
        notes.append(
            "the base's policy is as it was written, not planned: replanned figures differ by what planning gains, too"
        )
    if replan:
        notes.append(
            "figures of replanned policies are as simulated, not corrected for having been chosen on the same problems"
        )
    return WhatIf(loaded.name, base, tuple(found), tuple(notes))


def scenario_of(given: object, allow_code: AllowCode, function: str = "what_if") -> tuple[Scenario, bool]:
    """The scenario, and whether its policy was planned; ``function`` takes it, for errors."""
    if isinstance(given, (Plan, SavedPlan)):
        return as_scenario(given.scenario, function, allow_code), True
    if isinstance(given, (str, Path)):
        planned = planned_scenario(given, allow_code)
        if planned is not None:
            return planned, True
    return as_scenario(given, function, allow_code), False  # type: ignore[arg-type]


@dataclass(frozen=True)
class Given:
    """What is needed to carry variations out: the scenario, whether to plan anew, runs, and requests of each."""

    scenario: Scenario
    replan: bool
    replications: int
    requests: int | None


_DESKS: list[Desk] = []


def _open(given: Given) -> None:
    _DESKS[:] = [Desk(given, lambda _: None)]


def _varied(variation: Variation) -> Varied:
    with one_thread():
        return _DESKS[0].varied(variation)


@dataclass(frozen=True)
class Prepared:
    """A variation, ready to be carried out: the changed scenario, and what changes in what is looked up and drawn."""

    scenario: Scenario
    changes: tuple[Change, ...]
    effects: tuple[Effect, ...]

    @property
    def requests(self) -> float:
        """How many times as many requests a run has."""
        return math.prod(one.requests for one in self.effects)


class Desk:
    """Where variations are carried out: the base and what it was looked up from."""

    def __init__(self, given: Given, progress: Progress) -> None:
        self.given, self.progress = given, progress
        policy = given.scenario.parsed_policy()
        assert policy is not None
        policy.get_ready()
        self.policy = policy
        self.model = with_responses(load_model(given.scenario), policy)
        self.start = Base(self.model, given.scenario)

    @cached_property
    def base(self) -> tuple[Pooled, Summary]:
        """What the scenario comes to as it is."""
        return self._simulated(self.model, self.policy, ())

    # ------------------------------------------------------------------------------------------------ what is asked

    def prepared(self, variation: Variation) -> Prepared:
        """Read a variation.

        Raises:
            InputError: a path that leads nowhere, a scenario that is invalid, or no change that has an effect.
        """
        with said_of(variation):
            return self._prepared(variation)

    def _prepared(self, variation: Variation) -> Prepared:
        new: dict[str, tuple[object, str]] = {}
        made: list[Change] = []
        for path, (value, where) in variation.changes.items():
            if path.startswith(READY):
                continue
            self._check_simulated(path, value, where)
            if factor_of(value) is not None and not isinstance(self.start.in_effect(path), str):
                value = self.start.times(path, value, where)
            new[path] = (value, where)
            made.append(Change(path, _shown(self.start.in_effect(path)), _shown(value)))
        scenario = self.start.changed(new) if new else self.given.scenario
        effects = []
        for path, (value, where) in variation.changes.items():
            if not path.startswith(READY):
                continue
            name = path.removeprefix(READY)
            effect = ready_made(name, value, where, self.start, scenario, replan=self.given.replan)
            made.append(Change(path, None, _shown(value)))
            for key, now in effect.changes.items():
                if key in new:
                    raise InputError(where, path, value, f"no {key} beside it, which it sets itself")
                new[key] = (now, where)
                made.append(Change(key, _shown(self.start.in_effect(key)), _shown(now)))
            if effect.changes:
                scenario = with_changes(scenario, effect.changes)
            effects.append(effect)
        prepared = Prepared(scenario, tuple(made), tuple(effects))
        self._check_pairs(variation, prepared)
        return prepared

    def _check_simulated(self, path: str, value: object, where: str) -> None:
        """Refuse what no figure depends on."""
        if path in _NAMES:
            raise InputError(where, path, value, "a path that figures depend on: names and descriptions change none")
        if not self.given.replan and (path in _ONLY_TO_PLAN_BY or path.split(".")[0] == "search"):
            raise InputError(
                where, path, value, "--replan (replan=True) beside it: without it nothing is planned by this"
            )

    def _check_pairs(self, variation: Variation, prepared: Prepared) -> None:
        """Refuse other random numbers than the base's, and what changes nothing."""
        base, other = self.given.scenario, prepared.scenario
        first = variation.where
        if other.seed != base.seed:
            raise InputError(
                first("seed"), "seed", other.seed, "the seed of the base, so that both see the same requests"
            )
        if other.replications != base.replications:
            expected = "no other number of runs than the base's; --replications (replications=...) sets that of all"
            raise InputError(first("replications"), "replications", other.replications, expected)
        if other.workload.requests != base.workload.requests and prepared.requests == 1:
            expected = "no other number of requests than the base's; --requests (requests=...) sets that of all"
            raise InputError(first("workload.requests"), "workload.requests", other.workload.requests, expected)
        drawn = any(one.population is not None or one.draws is not None for one in prepared.effects)
        if other == base and not drawn:
            change = prepared.changes[0]
            raise InputError(first(change.path), change.path, change.now, "another value than what stands there")

    # ------------------------------------------------------------------------------------------------- carrying out

    def varied(self, variation: Variation) -> Varied:
        """Carry a variation out."""
        with said_of(variation):
            prepared = self._prepared(variation)
            self.progress(variation.name)
            model, policy = self.loaded(prepared)
            kept = self.carried_out(policy, *self._simulated(model, policy, prepared.effects))
            replanned = self._replanned(variation.name, prepared, model) if self.given.replan else None
        own = [note for note in kept.summary.notes if note not in self.base[1].notes]
        own += [note for effect in prepared.effects for note in effect.notes]
        if kept.comes_to_the_same and prepared.scenario.targets == self.given.scenario.targets:
            own.append("comes to the same as the base in everything: no request meets what it changes")
        return Varied(variation.name, prepared.changes, kept, replanned, tuple(own))

    def loaded(self, prepared: Prepared) -> tuple[Model, Policy]:
        """What a variation is carried out by: its scenario looked up, and its policy."""
        model, policy = self._model(prepared), prepared.scenario.parsed_policy()
        assert policy is not None
        policy.get_ready()
        return with_responses(model, policy), policy

    def _model(self, prepared: Prepared) -> Model:
        """The changed scenario over the base's problems or its own, with what the base's policy expects of arms."""
        population = self.model.population
        if not _on_the_same_problems(self.given.scenario, prepared.scenario):
            responses = None if population is None else population.responses
            population = load_model(prepared.scenario).population
            if population is not None and population.responses is None:
                population = replace(population, responses=responses)
        for effect in prepared.effects:
            if effect.population is not None and population is not None:
                population = effect.population(population)
        return load_model(prepared.scenario, population)

    def _replanned(self, name: str, prepared: Prepared, model: Model) -> CarriedOut:
        def say(line: str) -> None:
            self.progress(f"{name}, planned anew: {line}")

        bare = model.population if model.population is None else replace(model.population, responses=None)
        plan = plan_model(replace(model, population=bare), say)
        planned = load_model_like(replace(model, population=bare), plan.scenario)
        found = self.carried_out(plan.policy, *self._simulated(planned, plan.policy, prepared.effects))
        return replace(found, status=plan.status)

    def _simulated(self, model: Model, policy: Policy, effects: Sequence[Effect]) -> tuple[Pooled, Summary]:
        pooled = self.pooled(model, policy, effects)
        return pooled, summarize_pooled(pooled)

    def pooled(self, model: Model, policy: Policy, effects: Sequence[Effect]) -> Pooled:
        """All runs side by side."""
        runs = [run_once(model, policy, self.drawn(model, k, effects)) for k in range(self.given.replications)]
        return Pooled(model, runs, expected_under(model, policy, runs))

    def drawn(self, model: Model, run: int, effects: Sequence[Effect]) -> Draws:
        """All that is random about a run."""
        requests = self.given.requests
        if requests is not None:
            requests = max(round(requests * math.prod(one.requests for one in effects)), 1)
        drawn = draw(model, run, requests=requests)
        for effect in effects:
            drawn = drawn if effect.draws is None else effect.draws(drawn)
        return drawn

    def carried_out(self, policy: Policy, pooled: Pooled, summary: Summary) -> CarriedOut:
        """What a policy comes to, beside the base unless it is that."""
        before, base = self.base
        scenario, population = pooled.model.scenario, pooled.model.population
        verdicts = () if scenario.targets is None else judge_targets(summary, scenario.targets, population)
        beside = {} if pooled is before else compare(before, pooled, base, summary)
        told: str | dict[str, str] = repr(policy)
        if isinstance(policy, PerSource):
            told = {source: repr(one) for source, one in policy.policies.items()}
        return CarriedOut(told, figures(summary), summary, verdicts, beside)


def _on_the_same_problems(one: Scenario, other: Scenario) -> bool:
    def problems(scenario: Scenario) -> object:
        arms = {
            name: (arm.profile, arm.sources, scenario.parsed_strategy(name).other_arms)
            for name, arm in scenario.arms.items()
        }
        return scenario.workload.sources, scenario.predictor, scenario.predictor_sha256, arms

    return problems(one) == problems(other)


def _shown(value: object) -> object:
    """A value as files hold it."""
    plain = as_plain(value)
    return plain.isoformat() if isinstance(plain, datetime.date) else plain


@contextmanager
def said_of(variation: Variation) -> Iterator[None]:
    """What is wrong with a variation is said with where it was said."""
    try:
        yield
    except InputError as error:
        wheres = {where for _, where in variation.changes.values()}
        if error.where in wheres:
            raise
        field = error.field if error.field != "file" else f"{error.where}: {error.field}"
        raise InputError(variation.where(error.field), field, error.value, error.expected) from None


__all__ = ["Desk", "Given", "said_of", "scenario_of", "what_if"]
