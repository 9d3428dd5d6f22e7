"""Ready-made variations: what no path says, or many would."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.measured.folders import find_folder
from ttc_sim.optimizer.space import base_arm
from ttc_sim.optimizer.whatif.effects import Asked, Effect
from ttc_sim.optimizer.whatif.paths import Base, multiple
from ttc_sim.optimizer.whatif.predictors import KINDS, other_predictor
from ttc_sim.optimizer.whatif.ready_sessions import OF_SESSIONS, SAID_OF_SESSIONS
from ttc_sim.policies import PROMPT_TOKENS, Always, Banded, LeastLoaded, Overflow, PerSource, Policy, Threshold
from ttc_sim.scenario import Api, Arrivals, Scenario
from ttc_sim.serving.prices import resolve_price
from ttc_sim.simulation.drawing import Draws
from ttc_sim.strategies import BestOfN, Cascade, Strategy
from ttc_sim.strategies.outcomes import Attempts
from ttc_sim.workload.population import Population

_SURE = 1e-3  # rates nearer to 0 or 1 than this count as if they were so far away


def ready_made(path: str, value: object, where: str, base: Base, scenario: Scenario, *, replan: bool) -> Effect:
    """What a ready-made variation does to a scenario.

    Args:
        path: ``NAME`` or ``NAME:ARM``, without the prefix.
        base: that variations start from; scenario: with what else the variation changes.
        replan: whether a policy is planned for it too.

    Raises:
        InputError: there is none of that name, or nothing that it could change.
    """
    name, colon, arm = path.partition(":")
    if name not in READY_MADE:
        raise InputError(where, "ready", name, nearest(name, READY_MADE))
    make, of_arms = _MAKERS[name]
    asked = Asked(name, arm if colon else None, value, where)
    if asked.arm is not None:
        if not of_arms:
            raise InputError(where, "ready", path, f"{name} alone: it is not of an arm")
        if not any(asked.arm in (one, base_arm(one)) for one in scenario.arms):
            raise InputError(where, f"ready.{name}", asked.arm, nearest(asked.arm, scenario.arms))
    return make(asked, base, scenario, replan)


def _arms(asked: Asked, scenario: Scenario) -> list[str]:
    """Those that are meant: an arm and the variants of it that a plan has made, or all."""
    return [name for name in scenario.arms if asked.arm is None or asked.arm in (name, base_arm(name))]


def _traffic(asked: Asked, base: Base, scenario: Scenario, replan: bool) -> Effect:
    workload = scenario.workload
    processes = {"workload.arrivals": workload.arrivals}
    processes |= {f"workload.sources.{name}.arrivals": one.arrivals for name, one in workload.sources.items()}
    changes: dict[str, object] = {}
    stays = False  # whether a day stays a day: as many times the requests come in it
    for path, arrivals in processes.items():
        if arrivals is None:
            continue
        if arrivals.begins is not arrivals:
            path, arrivals = f"{path}.starts", arrivals.begins
        steps, users = getattr(arrivals, "steps", None), getattr(arrivals, "users", None)
        stays = (
            stays or steps is not None or arrivals.process == "clients" or getattr(arrivals, "shape", None) is not None
        )
        if steps is not None:
            changes[f"{path}.steps"] = [
                {**one.model_dump(), "rate_per_s": multiple(one.rate_per_s, asked.factor)} for one in steps
            ]
        elif users is not None:
            changes[f"{path}.users"] = multiple(users, asked.factor)
        else:
            changes[f"{path}.rate_per_s"] = multiple(_rate_of(asked, base, path, arrivals), asked.factor)
    if workload.requests is None or not stays:
        return Effect(changes)
    changes["workload.requests"] = max(round(workload.requests * asked.factor), 1)
    return Effect(changes, requests=asked.factor)


def _rate_of(asked: Asked, base: Base, path: str, arrivals: Arrivals) -> float:
    if not hasattr(arrivals, "rate_per_s"):
        raise asked.wrong("arrivals with a rate_per_s, steps or users that can be multiplied", arrivals.process)
    now = arrivals.rate_per_s
    now = base.in_effect(f"{path}.rate_per_s") if now is None else now
    if not isinstance(now, (int, float)):
        raise asked.wrong("arrivals that take some time, and one rate: these have none", arrivals.process)
    return float(now)


def _caps(asked: Asked, base: Base, scenario: Scenario, replan: bool) -> Effect:
    cap = None if asked.value in (None, "none") else asked.value
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise asked.wrong("a whole number of output tokens, at least 1, or none")
    changes: dict[str, object] = {}
    able = 0
    for name in _arms(asked, scenario):
        strategy = scenario.parsed_strategy(name)
        if not strategy.takes_cap:
            if asked.arm is not None:
                raise asked.wrong("an arm whose attempts have a cap", repr(strategy))
            continue
        able += 1
        capped = repr(strategy.with_cap(cap))
        if capped != repr(strategy):
            changes[f"arms.{name}.strategy"] = capped
    if not changes:
        raise asked.wrong("another cap than that of these arms" if able else "an arm whose attempts have a cap")
    return Effect(changes)


def _swap(asked: Asked, base: Base, scenario: Scenario, replan: bool) -> Effect:
    if asked.arm is None or asked.arm not in scenario.arms or not isinstance(asked.value, str):
        expected = "swap:ARM=OTHER, another arm or a profile, with @PROVIDER/MODEL after it for the price of that"
        raise asked.wrong(expected)
    path, arm = f"arms.{asked.arm}", scenario.arms[asked.arm]
    profile, at, priced = asked.value.partition("@")
    if profile in scenario.arms and not at:
        other = scenario.arms[profile]
        changes: dict[str, object] = {f"{path}.profile": other.profile, f"{path}.deployment": other.deployment}
        if (other.profile, other.deployment) == (arm.profile, arm.deployment):
            raise asked.wrong("an arm of another model, or on another deployment")
        return Effect(changes)
    if arm.profile is None:
        raise asked.wrong("another arm: without problems no profile says how a model fares")
    find_folder(profile, "profile.yaml", scenario.folder)
    served = scenario.deployments[arm.deployment]
    changes = {f"{path}.profile": profile}
    if not at:
        if profile == arm.profile:
            raise asked.wrong(f"another profile than that of arm {asked.arm}")
        note = f"{profile} is taken to have the price and the speed of {arm.deployment}"
        return Effect(changes, notes=(note,))
    provider, _, model = priced.partition("/")
    if not isinstance(served, Api):
        raise asked.wrong(f"no price: {arm.deployment} is a GPU pool, paid by the hour")
    sharing = [
        name
        for name, one in scenario.arms.items()
        if one.deployment == arm.deployment and base_arm(name) != base_arm(asked.arm)
    ]
    if sharing:
        raise asked.wrong(f"an arm with a deployment of its own: {arm.deployment} serves {', '.join(sharing)} too")
    day = served.price.on
    if day is None and scenario.workload.begins is None:
        raise asked.wrong(f"a day whose prices hold (`on`) in the price of {arm.deployment}")
    on = {} if day is None else {"on": day}
    changes[f"deployments.{arm.deployment}.price"] = {"provider": provider, "model": model, **on}
    return Effect(changes, notes=(f"{profile} is taken to have the speed of {arm.deployment}",))


def _prices_on(asked: Asked, base: Base, scenario: Scenario, replan: bool) -> Effect:
    day = str(asked.value)
    changes: dict[str, object] = {}
    moved = False
    for name, served in scenario.deployments.items():
        if isinstance(served, Api) and served.price.model is not None:
            changes[f"deployments.{name}.price.on"] = day
            field = f"deployments.{name}.price"
            then, now = (
                resolve_price(
                    served.price if on is None else served.price.model_copy(update={"on": on}),
                    where=asked.where,
                    field=field,
                    begins=scenario.workload.begins_utc,
                    cache=served.cache,
                )
                for on in (day, None)
            )
            moved |= replace(then, origin="", caveats=()) != replace(now, origin="", caveats=())
    if not changes:
        raise asked.wrong("an endpoint whose price is looked up: all prices are stated in the scenario")
    return Effect(changes, notes=() if moved else (f"the prices of {day} are those of the scenario",))


def _verifier(asked: Asked, base: Base, scenario: Scenario, replan: bool) -> Effect:
    auroc = asked.value
    if isinstance(auroc, bool) or not isinstance(auroc, (int, float)) or not 0 < auroc < 1:
        raise asked.wrong("an AUROC between 0 and 1")
    changes: dict[str, object] = {}
    for name in _arms(asked, scenario):
        strategy = scenario.parsed_strategy(name)
        other = with_auroc(strategy, float(auroc))
        if repr(other) != repr(strategy):
            changes[f"arms.{name}.strategy"] = repr(other)
    if not changes:
        expected = (
            "an arm with another verifier or judge, given by its auroc or its rates (BestOfN, Cascade): there is none"
        )
        raise asked.wrong(expected)
    return Effect(changes)


def with_auroc(strategy: Strategy, auroc: float) -> Strategy:
    """The same strategy with verifiers and judges of another AUROC.

    One that accepts or refuses, by a ``tpr`` and an ``fpr``, is taken to draw a line through normal scores of equal variance:
    d = z(tpr) - z(fpr), AUROC = Phi(d / sqrt 2). The new one has the d of the new AUROC and the same leaning to accept,
    z(tpr) + z(fpr). (Green and Swets 1966, Signal Detection Theory and Psychophysics.)

    >>> with_auroc(Cascade(stages=["small", "large"], tpr=0.9, fpr=0.1), 0.5).tpr
    0.5
    """
    if isinstance(strategy, BestOfN):
        if strategy.auroc is not None:
            return replace(strategy, auroc=auroc)
        if strategy.tpr is not None and strategy.fpr is not None:
            tpr, fpr = rates_of(strategy.tpr, strategy.fpr, auroc)
            return replace(strategy, tpr=tpr, fpr=fpr)
        return strategy
    if isinstance(strategy, Cascade):
        tpr, fpr = rates_of(strategy.tpr, strategy.fpr, auroc)
        stages = tuple(with_auroc(one, auroc) if isinstance(one, Strategy) else one for one in strategy.stages)
        return replace(strategy, tpr=tpr, fpr=fpr, stages=stages)
    return strategy


def rates_of(tpr: float, fpr: float, auroc: float) -> tuple[float, float]:
    """Rates of true and false acceptance of a judge with another AUROC that leans as much to accept; see :func:`with_auroc`."""
    high, low = (float(ndtri(min(max(rate, _SURE), 1 - _SURE))) for rate in (tpr, fpr))
    half, leaning = math.sqrt(2) * float(ndtri(auroc)) / 2, (high + low) / 2
    return float(f"{ndtr(leaning + half):.6g}"), float(f"{ndtr(leaning - half):.6g}")


def _predictor(asked: Asked, base: Base, scenario: Scenario, replan: bool) -> Effect:
    if not isinstance(asked.value, str):
        raise asked.wrong(KINDS)
    change = other_predictor(asked.value, asked.where)
    population = base.model.population
    if population is None or not population.scores:
        raise asked.wrong("a predictor's scores of the problems: there are none")
    policy = scenario.parsed_policy()
    if policy is not None and not reads_scores(policy) and not replan:
        raise asked.wrong("a policy that reads a predictor's scores", repr(policy))
    return Effect({}, population=change)


def reads_scores(policy: Policy) -> bool:
    """Whether a policy may choose by what is predicted."""
    if isinstance(policy, PerSource):
        return any(reads_scores(one) for one in policy.policies.values())
    if isinstance(policy, (Banded, Threshold)):
        return policy.score != PROMPT_TOKENS
    return not isinstance(policy, (Always, LeastLoaded, Overflow))


def _longer(asked: Asked, base: Base, scenario: Scenario, replan: bool) -> Effect:
    factor, whole = asked.factor, asked.name == "lengths"
    population = base.model.population
    if population is None:
        if asked.arm is not None:
            raise asked.wrong(f"{asked.name} alone: without problems lengths come with the traffic, whatever the arm")
        if replan:
            raise asked.wrong("no --replan: a plan for traffic without problems draws its lengths itself")
        return Effect({}, draws=lambda drawn: _longer_traffic(drawn, factor, whole, asked))
    profiles = {str(scenario.arms[name].profile) for name in _arms(asked, scenario)}
    thinking = {
        name
        for name, one in population.attempts.items()
        if name in profiles and (whole or (one.reasoning_known and one.reasoning_tokens.any()))
    }
    if not thinking and not whole:
        raise asked.wrong("an arm whose thinking was recorded apart; `lengths` makes the whole output longer")

    longest = max(
        int((population.attempts[name].reasoning_tokens + population.attempts[name].visible_tokens).max(initial=0))
        for name in profiles
    )
    if longest * factor > MOST_TOKENS:
        raise asked.wrong(
            f"less: the longest attempt has {longest:,} output tokens, and none may have more than {MOST_TOKENS:,}"
        )

    def longer(population: Population) -> Population:
        made = {
            name: _longer_attempts(one, factor, whole) if name in (profiles if whole else thinking) else one
            for name, one in population.attempts.items()
        }
        return replace(population, attempts=made)

    shared = [name for name, one in scenario.arms.items() if str(one.profile) in profiles]
    others = [name for name in shared if name not in _arms(asked, scenario)]
    notes = (f"{asked.name} of {', '.join(others)} too, on the same profile",) if others else ()
    return Effect({}, population=longer, notes=notes)


def _longer_attempts(attempts: Attempts, factor: float, whole: bool) -> Attempts:
    made = replace(attempts, reasoning_tokens=_times(attempts.reasoning_tokens, factor))
    return replace(made, visible_tokens=_times(attempts.visible_tokens, factor)) if whole else made


def _longer_traffic(drawn: Draws, factor: float, whole: bool, asked: Asked) -> Draws:
    traffic = drawn.traffic
    thinking = traffic.reasoning_tokens
    lengths = [one for one in (thinking, traffic.visible_tokens) if one is not None]
    if any(factor * int(one.max(initial=0)) > MOST_TOKENS for one in lengths):
        raise asked.wrong(f"less: no request may have more than {MOST_TOKENS:,} output tokens")
    if not whole and (thinking is None or not thinking.any()):
        raise asked.wrong("traffic whose thinking is known apart; `lengths` makes the whole output longer")
    made: dict[str, Any] = {"reasoning_tokens": None if thinking is None else _times(thinking, factor)}
    if whole and traffic.visible_tokens is not None:
        made["visible_tokens"] = _times(traffic.visible_tokens, factor)
    return replace(drawn, traffic=replace(traffic, **made))


def _times(tokens: I64, factor: float) -> I64:
    return np.asarray(np.where(tokens > 0, np.maximum(np.rint(tokens * factor), 1), 0), dtype=np.int64)


_Maker = Callable[[Asked, Base, Scenario, bool], Effect]
_MAKERS: dict[str, tuple[_Maker, bool]] = {
    "traffic": (_traffic, False),
    "cap": (_caps, True),
    "swap": (_swap, True),
    "prices-on": (_prices_on, False),
    "verifier": (_verifier, True),
    "predictor": (_predictor, False),
    "lengths": (_longer, True),
    "thinking": (_longer, True),
    **{name: (make, False) for name, make in OF_SESSIONS.items()},
}
READY_MADE = {
    "traffic": "traffic=2x: so many times the requests (rates, steps of a day, or users)",
    "cap": "cap=1024 or cap:ARM=1024, none: another cap of all arms that take one, or of an arm and a plan's variants of it",
    "swap": "swap:ARM=OTHER: another model: that of arm OTHER with its deployment, or a profile, @PROVIDER/MODEL its price",
    "prices-on": "prices-on=2026-01-31: prices of the table on another day",
    "verifier": "verifier=0.7 or verifier:ARM=0.7: verifiers and judges of another AUROC",
    "predictor": f"predictor=KIND: {KINDS}",
    "lengths": "lengths=1.5x or lengths:ARM=1.5x: so many times the output tokens; right and wrong as before, unless a cap cuts",
    "thinking": "thinking=1.5x or thinking:ARM=1.5x: the same of thinking alone",
    **SAID_OF_SESSIONS,
}
"""By name, what each takes and does."""

__all__ = ["READY_MADE", "Asked", "Effect", "rates_of", "reads_scores", "ready_made", "with_auroc"]
