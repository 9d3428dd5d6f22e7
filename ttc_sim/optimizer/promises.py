"""What a plan promises: its figures, the targets beside them, and how sure it is that they hold."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ttc_sim.base.estimates import Z95, Estimate
from ttc_sim.optimizer.budget_promises import kept_within
from ttc_sim.optimizer.chances import chance_of, quantile_of
from ttc_sim.scenario import Target, Targets
from ttc_sim.scenario.targets import CONFIDENCE
from ttc_sim.simulation.pooling import UNKNOWN
from ttc_sim.simulation.result import Result
from ttc_sim.simulation.summary import Summary
from ttc_sim.workload.population import Population

SHARES = ("accuracy", "timeout_rate", "cut_off_rate")
"""Of the figures below, those from 0 to 1."""
PROMISES = ("accuracy", "cost_usd_per_request", "latency_p50_s", "latency_p95_s", "latency_p99_s", *SHARES[1:])
"""Figures that every plan is held to, as far as they are known, besides those that its targets are about."""
BALANCED = ("accuracy", "cost_usd_per_request", "cost_usd_per_day")
"""Targets that a frontier trades for one another; all others are kept along it."""


@dataclass(frozen=True)
class TargetCheck:
    """One target beside what the plan promises.

    Attributes:
        name: key of the target; bound: the number in the scenario; at_least: whether it is a floor or a ceiling.
        promised: the plan's figure.
        chance: probability that the target holds, by the figure's own uncertainty; confidence: that was asked for.
        hour: the worst, of a target that must hold in every hour; words: the target as tables have it.
        world: of a plan for several, in which the target is farthest from being kept; ``None`` of the scenario as it is.
    """

    name: str
    bound: float
    at_least: bool
    promised: Estimate
    chance: float
    confidence: float
    hour: int | None = None
    words: str = ""
    world: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the target holds with the chance that was asked for."""
        return self.chance >= self.confidence

    @property
    def gap(self) -> float:
        """How much better the figure would have to be, as uncertain as it is, for the target to hold; 0 if it does, NaN if nothing
        is known of it."""
        if self.holds:
            return 0.0
        room = self.promised.value - self.bound if self.at_least else self.bound - self.promised.value
        sure = quantile_of(self.chance) if 0 < self.chance < 1 else 0.0
        return max(quantile_of(self.confidence) * self._sd(room, sure) - room, 1e-6 * abs(self.bound))

    def _sd(self, room: float, sure: float) -> float:
        """Standard error of the figure towards its bound: as the chance has it, where that says something."""
        if room > 0 and sure > 0.05:
            return room / sure
        ends = self.promised.value - self.promised.low, self.promised.high - self.promised.value
        toward, away = ends if self.at_least else ends[::-1]
        return (toward if math.isfinite(toward) else away) / Z95

    @property
    def miss(self) -> float:
        """By how much the target is missed, relative to its bound; 0 if it holds, without end if nothing is known of it."""
        missed = self.gap / max(abs(self.bound), 1e-9)
        return math.inf if math.isnan(missed) else missed

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "name": self.name,
            "bound": self.bound,
            "at_least": self.at_least,
            "hour": self.hour,
            "holds": self.holds,
            "chance": self.chance,
            "confidence": self.confidence,
            "promised": as_mapping(self.promised),
            **({} if self.world is None else {"world": self.world}),
        }


@dataclass(frozen=True)
class TargetVerdict:
    """One target beside what carrying the plan out came to.

    Attributes:
        name: key of the target; asked: the number in the scenario; at_least: whether it is a floor or a ceiling.
        realized: the figure, with its 95% interval.
        hour: the worst, of a target that must hold in every hour; words: the target as tables have it.
        chance: that the target holds, by the figure's own uncertainty; confidence: with which the plan was to keep it.
    """

    name: str
    asked: float
    at_least: bool
    realized: Estimate
    hour: int | None = None
    words: str = ""
    chance: float = 0.5
    confidence: float = CONFIDENCE

    @property
    def met(self) -> bool | None:
        """Whether the target is met or missed for sure: the whole interval lies on that side; else ``None``."""
        room = [
            end - self.asked if self.at_least else self.asked - end for end in (self.realized.low, self.realized.high)
        ]
        if min(room) >= 0:
            return True
        return False if max(room) < 0 else None

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "name": self.name,
            "asked": self.asked,
            "at_least": self.at_least,
            "hour": self.hour,
            "realized": as_mapping(self.realized),
            "chance": self.chance,
            "confidence": self.confidence,
            "met": self.met,
        }


def promises(summary: Summary) -> dict[str, Estimate]:
    """The figures that a plan can be held to: what every plan promises, and what its targets are about."""
    figures = {name: summary.quantity(name) for name in dict.fromkeys((*PROMISES, *summary.asked))}
    return {name: figure for name, figure in figures.items() if figure is not None and not math.isnan(figure.value)}


def as_mapping(figure: Estimate) -> dict[str, float]:
    """``value``, ``low`` and ``high``."""
    return {"value": figure.value, "low": figure.low, "high": figure.high}


def check_targets(summary: Summary, targets: Targets) -> tuple[TargetCheck, ...]:
    """Every target beside its figure, and hard budgets whose end the runs are too short to show."""
    checks = []
    for target in targets.asked():
        figure = summary.quantity(target.name) or UNKNOWN
        chance, hour = chance_of(summary, target, figure), _hour(summary, target)
        checks.append(
            TargetCheck(
                target.name, target.bound, target.at_least, figure, chance, target.confidence, hour, target.words
            )
        )
    sure = targets.confidence if isinstance(targets.confidence, float) else CONFIDENCE
    for target, figure, words in kept_within(summary, sure):
        chance = chance_of(summary, target, figure)
        checks.append(TargetCheck(target.name, target.bound, False, figure, chance, sure, None, words))
    return tuple(checks)


def judge_targets(realized: Summary, targets: Targets, population: Population | None) -> tuple[TargetVerdict, ...]:
    """Every target beside the realized figure and its interval, which is for as few problems and runs as there are.

    A single problem (or task type, where these are resampled) says nothing for sure. A target on what is unknown has no verdict.
    """
    alone = population is not None and int(population.cluster.max()) == 0
    found = []
    for target in targets.asked():
        figure = realized.quantity(target.name)
        if figure is None:
            continue
        chance, hour = chance_of(realized, target, figure), _hour(realized, target)
        if alone:
            figure = Estimate(figure.value, 0.0, 1.0 if target.is_share else math.inf)
            chance = 0.5
        found.append(
            TargetVerdict(
                target.name, target.bound, target.at_least, figure, hour, target.words, chance, target.confidence
            )
        )
    return tuple(found)


def judged(result: Result) -> tuple[TargetVerdict, ...]:
    """The targets of a simulated scenario beside what they came to; nothing where it has none."""
    targets = result.model.scenario.targets
    return () if targets is None else judge_targets(result.summary(), targets, result.model.population)


def _hour(summary: Summary, target: Target) -> int | None:
    asked = summary.asked.get(target.name)
    return None if asked is None else asked.hour


def figures_in_brief(summary: Summary) -> str:
    """Accuracy, cost and 95th percentile in half a line."""
    accuracy = "unknown accuracy" if summary.accuracy is None else f"accuracy {summary.accuracy.value:.1%}"
    cost, p95 = summary.cost_usd_per_request.value, summary.latency_s["p95"].value
    return f"{accuracy}, ${cost:.5f} a request, p95 {p95:.1f} s"
