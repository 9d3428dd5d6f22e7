"""What may be moved in a scenario: thresholds of its policy, caps of its arms, prices, replicas, traffic, speed of endpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.optimizer.space import base_arm
from ttc_sim.optimizer.whatif.carrying_out import Desk
from ttc_sim.optimizer.whatif.saying import Variation
from ttc_sim.policies import PROMPT_TOKENS, TURN, Banded, Overflow, PerSource, Policy, Threshold, Utility
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.strategies import Strategy

Value = float | int | None
Setting = Mapping[str, Value]
"""By knob, values of some of them; a cap may be none."""

_LEAST_CAP, _MOST_CAP, _MOST_REPLICAS = 128, 32_768, 8


@dataclass(frozen=True)
class Knob:
    """One number of the scenario that may be moved.

    Attributes:
        name: of the knob; group: that it is shown in; label: what it is, in words; unit: of its values.
        value: in the base; low, high, step: of its slider; other values may be typed in.
        least: the least value there is; whole: whether it is a whole number.
        options: of a cap, those to choose among in order, ``None`` for no cap; empty of all others.
        paths: that the value stands at; times: whether it multiplies what stands there.
        strategy: that a cap is one of; place: of a policy, the field and, of several edges, which.
    """

    name: str
    group: str
    label: str
    unit: str
    value: Value
    paths: tuple[str, ...]
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    least: float = -math.inf
    whole: bool = False
    options: tuple[int | None, ...] = ()
    times: bool = False
    strategy: Strategy | None = field(default=None, repr=False)
    place: tuple[str, int | None] | None = None

    def as_json(self) -> dict[str, object]:
        """What is needed to show it."""
        names = ("name", "group", "label", "unit", "value", "low", "high", "step", "whole")
        return {**{name: getattr(self, name) for name in names}, "options": list(self.options)}

    def checked(self, value: object) -> Value:
        """A value of it.

        Raises:
            InputError: it is none.
        """
        if self.options:
            if value in self.options and not isinstance(value, bool):
                return value
            raise InputError("explore", self.name, value, "one of " + ", ".join(map(said_cap, self.options)))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError("explore", self.name, value, "a number")
        if value < self.least or (self.whole and value != int(value)):
            what = "a whole number" if self.whole else "a number"
            raise InputError("explore", self.name, value, f"{what}, at least {self.least:g}")
        return int(value) if self.whole else float(f"{value:.12g}")


def said_cap(cap: int | None) -> str:
    """In words."""
    return "no cap" if cap is None else f"{cap:,}"


def changes_of(knobs: Mapping[str, Knob], setting: Setting, policy: Policy) -> dict[str, object]:
    """What a setting changes in the scenario, by path, as a variation of :func:`ttc_sim.what_if` has it; nothing of the base.

    Args:
        knobs: by name; setting: values of some of them; policy: of the base.

    Raises:
        InputError: a knob that is not there, or a value that it cannot have.
    """
    changes: dict[str, object] = {}
    of_policy: dict[str, dict[tuple[str, int | None], Value]] = {}
    for name, given in setting.items():
        if name not in knobs:
            raise InputError(
                "explore", "setting", name, nearest(name, knobs) if knobs else "none: nothing can be moved"
            )
        knob = knobs[name]
        value = knob.checked(given)
        if value == knob.value:
            continue
        if knob.place is not None:
            of_policy.setdefault(knob.paths[0], {})[knob.place] = value
        elif knob.strategy is not None:
            changes[knob.paths[0]] = repr(knob.strategy.with_cap(None if value is None else int(value)))
        else:
            changes |= dict.fromkeys(knob.paths, f"{value:.12g}x" if knob.times else value)
    for path, moved in of_policy.items():
        source = path.partition(".")[2]
        changes[path] = repr(_moved(policy.for_source(source) if source else policy, moved))
    return changes


def _moved(policy: Any, moved: Mapping[tuple[str, int | None], Value]) -> Policy:
    """A policy with other numbers: all at once, since edges must be in order only when all are moved."""
    now: dict[str, Any] = {}
    for (name, at), value in moved.items():
        if at is None:
            now[name] = value
        else:
            now.setdefault(name, list(getattr(policy, name)))[at] = value
    made: Policy = replace(policy, **now)
    return made


# ------------------------------------------------------------------------------------------------------- what there is


def knobs_of(desk: Desk) -> list[Knob]:
    """All that may be moved in the scenario of a desk, the policy's first."""
    arms = _arms(desk)
    used = {desk.model.arms[desk.model.arm_names.index(name)].deployment for name in arms}
    names = {desk.model.deployment_names[d] for d in used}
    names |= {one for name in arms for one in desk.given.scenario.parsed_strategy(name).verifiers}
    served = [name for name in desk.model.deployment_names if name in names]
    return [*_of_policy(desk), *_of_caps(desk, arms), *_of_prices(desk, served), *_of_load(desk, served)]


def _arms(desk: Desk) -> list[str]:
    """Those that requests may come to: the policy's, or all where it names none, what they send on to and fall back on."""
    scenario, policy = desk.given.scenario, desk.policy
    able = set(policy.arm_names() or scenario.arms)
    if isinstance(policy, PerSource) and not all(one.arm_names() for one in policy.policies.values()):
        able = set(scenario.arms)
    new = able
    while new:
        further = {other for name in new for other in scenario.parsed_strategy(name).other_arms}
        further |= {other for name in new for other in scenario.arms[name].fallbacks}
        new = further - able
        able = able | new
    return [name for name in scenario.arms if name in able]


def _of_policy(desk: Desk) -> Iterator[Knob]:
    policy = desk.policy
    if isinstance(policy, PerSource):
        for source, one in policy.policies.items():
            yield from _of_one(desk, one, f"policy.{source}", f"{source}: ")
    else:
        yield from _of_one(desk, policy, "policy", "")


def _of_one(desk: Desk, policy: Policy, path: str, of: str) -> Iterator[Knob]:
    """Of the policy of all requests, or of those of a source."""
    if isinstance(policy, Threshold):
        edges: Sequence[float] = [policy.at]
        arms = [policy.below, policy.above]
    elif isinstance(policy, Banded):
        edges, arms = policy.edges, list(policy.arms)
    else:
        edges, arms = [], []
    for k, edge in enumerate(edges):
        assert isinstance(policy, (Threshold, Banded))
        low, high, step = _range_of(desk, policy.score, edge)
        yield Knob(
            name=f"{path}.{'at' if isinstance(policy, Threshold) else f'edges.{k}'}",
            group="Thresholds",
            label=f"{of}{policy.score}: below it {arms[k]}, from it on {arms[k + 1]}",
            unit="tokens" if "tokens" in policy.score else "",
            value=edge,
            paths=(path,),
            low=low,
            high=high,
            step=step,
            place=("at", None) if isinstance(policy, Threshold) else ("edges", k),
        )
    if isinstance(policy, Utility):
        for field_name, label in (
            ("price_of_accuracy", "what a right answer is worth"),
            ("price_of_second", "what a second of waiting costs"),
        ):
            now = getattr(policy, field_name)
            high = _nice(3 * now) if now > 0 else 0.001
            knob = Knob(f"{path}.{field_name}", "Thresholds", of + label, "$", now, (path,), 0.0, high, high / 200, 0.0)
            yield replace(knob, place=(field_name, None))
    if isinstance(policy, Overflow):
        high, label = max(2.0 * policy.waiting, 20.0), f"{of}waiting sequences from which on the next arm is taken"
        knob = Knob(f"{path}.waiting", "Thresholds", label, "sequences", policy.waiting, (path,), 0.0, high, 1.0, 0.0)
        yield replace(knob, whole=True, place=("waiting", None))


def _range_of(desk: Desk, score: str, edge: float) -> tuple[float, float, float]:
    """Of a slider: from the least score of a problem to the greatest."""
    population = desk.model.population
    if population is None or (score == TURN and score not in population.scores):
        values = np.array([0.0, 2.0 * edge])
    elif score == PROMPT_TOKENS and score not in population.scores:
        values = population.prompt_tokens.astype(np.float64)
    else:
        values = population.scores[score]
    low, high = min(float(values.min()), edge), max(float(values.max()), edge)
    if low >= 0 and high <= 1 and "tokens" not in score:
        return 0.0, 1.0, 0.005
    step = max(_nice((high - low) / 400), 1.0)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _of_caps(desk: Desk, arms: Sequence[str]) -> Iterator[Knob]:
    scenario = desk.given.scenario
    for name in arms:
        strategy, attempts = scenario.parsed_strategy(name), desk.model.arms[desk.model.arm_names.index(name)].attempts
        if not strategy.takes_cap:
            continue
        longest = _MOST_CAP
        if attempts is not None and len(attempts.reasoning_tokens):
            longest = int((attempts.reasoning_tokens + attempts.visible_tokens).max())
        doubled = [_LEAST_CAP << k for k in range(20)]
        caps: set[int | None] = {one for one in doubled if one < longest}
        caps |= {None, *scenario.search.caps.get(base_arm(name), [])}
        # Of an attempt that a limit stopped before the cap nobody knows what it would have come to.
        able = {one for one in caps if attempts is None or not attempts.stopped_before(one)} | {strategy.attempt_cap}
        options = [one for one in able if _takes(strategy, one)]
        options.sort(key=lambda one: math.inf if one is None else one)
        yield Knob(
            name=f"arms.{name}.cap",
            group="Caps",
            label=f"cap of {name}",
            unit="output tokens",
            value=strategy.attempt_cap,
            paths=(f"arms.{name}.strategy",),
            options=tuple(options),
            strategy=strategy,
        )


def _takes(strategy: Strategy, cap: int | None) -> bool:
    try:
        strategy.with_cap(cap)
    except InputError:
        return False
    return True


def _of_prices(desk: Desk, served: Sequence[str]) -> Iterator[Knob]:
    for name in served:
        kinds = {f"price.{kind}_usd_per_mtok": f"{kind} tokens of {name}" for kind in ("input", "output")}
        unit = "$ per million"
        if isinstance(desk.model.scenario.deployments[name], GpuPool):
            kinds, unit = {"usd_per_replica_hour": f"a replica of {name}"}, "$ an hour"
        for key, label in kinds.items():
            path = f"deployments.{name}.{key}"
            now = desk.start.in_effect(path)
            if not isinstance(now, (int, float)) or not _able(desk, {path: "2x"} if now else {}):
                continue  # such as one that depends on how long the prompt is
            high = _nice(3 * now) if now > 0 else 10.0
            yield Knob(path, "Prices", label, unit, now, (path,), 0.0, high, high / 200, least=0.0)


def _of_load(desk: Desk, served: Sequence[str]) -> Iterator[Knob]:
    group = "Traffic, replicas and speed"
    if _able(desk, {"ready.traffic": "2x"}):
        rate_per_s = desk.start.in_effect("workload.arrivals.rate_per_s")
        of = f" (1 is {rate_per_s:g} requests a second)" if isinstance(rate_per_s, (int, float)) else ""
        yield Knob(
            "traffic", group, f"traffic{of}", "times", 1.0, ("ready.traffic",), 0.1, 4.0, 0.05, least=0.01, times=True
        )
    for name in served:
        item, at = desk.model.scenario.deployments[name], f"deployments.{name}"
        if isinstance(item, GpuPool) and item.autoscaling is None:
            most = float(max(_MOST_REPLICAS, 2 * item.replicas))
            label, path = f"replicas of {name}", f"{at}.replicas"
            yield Knob(path, group, label, "replicas", item.replicas, (path,), 1.0, most, 1.0, least=1.0, whole=True)
        if isinstance(item, Api):
            paths = [f"{at}.per_token.median_s", *([f"{at}.per_token.p95_s"] if item.per_token.p95_s else [])]
            label = f"time per token of {name} (1 is {1000 * item.per_token.median_s:g} ms)"
            knob = Knob(f"{at}.per_token", group, label, "times", 1.0, tuple(paths), 0.1, 3.0, 0.05, 0.001)
            yield replace(knob, times=True)


def _able(desk: Desk, changes: Mapping[str, object]) -> bool:
    """Whether that may be changed so."""
    try:
        if changes:
            desk.prepared(Variation("able", {path: (now, "explore") for path, now in changes.items()}))
    except InputError:
        return False
    return True


def _nice(value: float) -> float:
    """The next of 1, 2, 5, 10, ... that is as much."""
    size = 10.0 ** math.floor(math.log10(value))
    return float(f"{next(k for k in (1, 2, 5, 10) if k * size >= value * (1 - 1e-9)) * size:.12g}")


__all__ = ["Knob", "Setting", "Value", "changes_of", "knobs_of", "said_cap"]
