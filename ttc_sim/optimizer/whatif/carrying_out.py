"""Variations carried out beside the base, on the same random numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ttc_sim.base.arguments import count, whole
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REQUESTS, MOST_WORKERS
from ttc_sim.base.progress import Counting, Progress, Step, Telling, silent, within
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.base.workers import processes
from ttc_sim.optimizer.plan import Plan, SavedPlan, planned_scenario
from ttc_sim.optimizer.planning import plan_model, targets_of
from ttc_sim.optimizer.promises import judge_targets
from ttc_sim.optimizer.space import load_model_like
from ttc_sim.optimizer.whatif.found import CarriedOut, Varied, WhatIf
from ttc_sim.optimizer.whatif.paths import Base
from ttc_sim.optimizer.whatif.preparing import Prepared, prepare, said_of
from ttc_sim.optimizer.whatif.ready import Effect
from ttc_sim.optimizer.whatif.saying import Variation, check_names, in_python
from ttc_sim.policies import PerSource, Policy
from ttc_sim.scenario import MOST_REPLICATIONS, Scenario, as_scenario
from ttc_sim.scenario.robust import LEFT_ASIDE
from ttc_sim.simulation.differences import compare, figures
from ttc_sim.simulation.drawing import Draws, draw
from ttc_sim.simulation.expectations import expected_under
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize_pooled


@shows_progress()
@one_thread()
def what_if(
    scenario: Scenario | Plan | SavedPlan | str | Path,
    variations: Mapping[str, Mapping[str, object]] | Sequence[Variation],
    *,
    replan: bool = False,
    replications: int | None = None,
    requests: int | None = None,
    workers: int = 1,
    progress: Telling = None,
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
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        allow_code: as for :func:`ttc_sim.simulate`.

    Raises:
        InputError: no policy, a path that leads nowhere, a variation that makes the scenario invalid or changes nothing that is
            simulated, or an argument out of its range.

    >>> found = what_if("reasoning-gateway", {"capped": {"arms.r1.strategy": "Single(cap=1024)"}}, requests=300)
    >>> found.variations[0].kept.compared["accuracy"].more_than_noise
    True
    """
    say = telling("what_if", progress)
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
    loaded, is_plan = scenario_of(scenario, "what_if", allow_code)
    if replan:
        loaded.check_consent()
        targets_of(loaded)
    elif loaded.parsed_policy() is None:
        expected = "a policy such as Always('small'), a plan that `ttc-sim optimize` made, or --replan"
        raise InputError(loaded.path, "policy", None, expected)
    if loaded.parsed_policy() is None:
        loaded, is_plan = plan_model(load_model(loaded), within(say, "planning the base")).scenario, True
    given = Given(loaded, replan, replications or loaded.replications, requests)
    desk = Desk(given, silent)
    for one in asked:  # what is wrong with any is said before any is run
        desk.prepared(one)
    say(Step("the base"))
    base = desk.carried_out(desk.policy, *desk.base)
    found, tell = [], Counting(say, "what if", len(asked), "variations")
    if workers == 1 or len(asked) == 1:
        desk.progress = tell.about
        for done, one in enumerate(asked, 1):
            found.append(desk.varied(one))
            tell(done)
    else:
        with processes(min(workers, len(asked)), _open, (given,)) as mapped:
            for done, varied in enumerate(mapped(_varied, asked), 1):
                found.append(varied)
                tell(done, varied.name)
    notes = [*base.summary.notes]
    if replan and not is_plan:
        notes.append(
            "the base's policy is as it was written, not planned: replanned figures differ by what planning gains, too"
        )
    if replan and loaded.targets is not None and loaded.targets.robust is not None:
        notes.append(LEFT_ASIDE)
    if replan:
        notes.append(
            "figures of replanned policies are as simulated, not corrected for having been chosen on the same problems"
        )
    return WhatIf(loaded.name, base, tuple(found), tuple(notes))


def scenario_of(given: object, function: str, allow_code: AllowCode) -> tuple[Scenario, bool]:
    """The scenario of a plan, a file of either or a name, and whether its policy was planned; ``function``: that takes it.

    Raises:
        InputError: neither.
    """
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
    _DESKS[:] = [Desk(given, silent)]


def _varied(variation: Variation) -> Varied:
    with one_thread():
        return _DESKS[0].varied(variation)


def drawn_with(model: Model, run: int, requests: int | None, effects: Sequence[Effect]) -> Draws:
    """All that is random about a run, as some effects leave it.

    Args:
        requests: of a run before any effect, instead of the scenario's.
    """
    if requests is not None:
        requests = max(round(requests * math.prod(one.requests for one in effects)), 1)
    drawn = draw(model, run, requests=requests)
    for effect in effects:
        drawn = drawn if effect.draws is None else effect.draws(drawn)
    return drawn


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

    def prepared(self, variation: Variation) -> Prepared:
        """Read a variation.

        Raises:
            InputError: a path that leads nowhere, a scenario that is invalid, or no change that has an effect.
        """
        return prepare(variation, self.start, replan=self.given.replan)

    def varied(self, variation: Variation) -> Varied:
        """Carry a variation out."""
        prepared = self.prepared(variation)
        with said_of(variation):
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
        model, policy = prepared.model(self.model), prepared.scenario.parsed_policy()
        assert policy is not None
        policy.get_ready()
        return with_responses(model, policy), policy

    def _replanned(self, name: str, prepared: Prepared, model: Model) -> CarriedOut:
        say = within(self.progress, f"{name}, planned anew")
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
        return drawn_with(model, run, self.given.requests, effects)

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


__all__ = ["Desk", "Given", "drawn_with", "scenario_of", "what_if"]
