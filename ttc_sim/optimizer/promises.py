"""What a plan promises: its figures, the targets beside them, and how sure it is that they hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ttc_sim.base.estimates import Estimate
from ttc_sim.scenario import Targets
from ttc_sim.simulation.summary import Summary
from ttc_sim.workload.population import Population

SHARES = ("accuracy", "timeout_rate", "cut_off_rate")
PROMISES = ("accuracy", "cost_usd_per_request", "latency_p50_s", "latency_p95_s", "latency_p99_s", *SHARES[1:])


@dataclass(frozen=True)
class TargetCheck:
    """One target beside what the plan promises.

    Attributes:
        name: key of the target; bound: the number in the scenario; at_least: whether it is a floor or a ceiling.
        promised: the plan's figure; holds: whether its value keeps the target.
        chance: probability that the target holds, by the figure's own uncertainty.
    """

    name: str
    bound: float
    at_least: bool
    promised: Estimate
    holds: bool
    chance: float

    @property
    def miss(self) -> float:
        """By how much the target is missed, relative to its bound; 0 if it holds."""
        if self.holds:
            return 0.0
        return abs(self.promised.value - self.bound) / max(abs(self.bound), 1e-9)


@dataclass(frozen=True)
class TargetVerdict:
    """One target beside what carrying the plan out came to.

    Attributes:
        name: key of the target; asked: the number in the scenario; at_least: whether it is a floor or a ceiling.
        realized: the figure, with its 95% interval.
    """

    name: str
    asked: float
    at_least: bool
    realized: Estimate

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
        return {"name": self.name, "asked": self.asked, "realized": as_mapping(self.realized), "met": self.met}


def promises(summary: Summary) -> dict[str, Estimate]:
    """The figures that a plan can be held to."""
    figures = {name: summary.quantity(name) for name in PROMISES}
    return {name: figure for name, figure in figures.items() if figure is not None}


def as_mapping(figure: Estimate) -> dict[str, float]:
    """``value``, ``low`` and ``high``."""
    return {"value": figure.value, "low": figure.low, "high": figure.high}


def targets_asked(targets: Targets) -> Sequence[tuple[str, float, bool]]:
    """Name, bound, and whether it is a floor, of every target in the scenario."""
    return [
        (name, float(bound), name == "accuracy") for name in PROMISES if (bound := getattr(targets, name)) is not None
    ]


def check_targets(summary: Summary, targets: Targets) -> tuple[TargetCheck, ...]:
    """Every target beside its figure."""
    checks = []
    for name, bound, at_least in targets_asked(targets):
        figure = summary.quantity(name)
        assert figure is not None
        holds = figure.value >= bound if at_least else figure.value <= bound
        check = TargetCheck(name, bound, at_least, figure, holds, 0.0)
        checks.append(replace(check, chance=_chance(check)))
    return tuple(checks)


def judge_targets(realized: Summary, targets: Targets, population: Population) -> tuple[TargetVerdict, ...]:
    """Every target beside the realized figure and its interval, which is for as few problems and runs as there are.

    A single problem (or task type, where these are resampled) says nothing for sure.
    """
    alone = int(population.cluster.max()) == 0
    found = []
    for name, asked, at_least in targets_asked(targets):
        figure = realized.quantity(name)
        if figure is None:
            continue
        if alone:
            figure = Estimate(figure.value, 0.0, 1.0 if name in SHARES else math.inf)
        found.append(TargetVerdict(name, asked, at_least, figure))
    return tuple(found)


def figures_in_brief(summary: Summary) -> str:
    """Accuracy, cost and 95th percentile in half a line."""
    accuracy = "unknown accuracy" if summary.accuracy is None else f"accuracy {summary.accuracy.value:.1%}"
    cost, p95 = summary.cost_usd_per_request.value, summary.latency_s["p95"].value
    return f"{accuracy}, ${cost:.5f} a request, p95 {p95:.1f} s"


def _chance(check: TargetCheck) -> float:
    """Probability that the target holds, taking the figure's error as normal."""
    room = check.promised.value - check.bound if check.at_least else check.bound - check.promised.value
    if check.promised.sd <= 0:
        return 1.0 if room >= 0 else 0.0
    return 0.5 * math.erfc(-room / check.promised.sd / math.sqrt(2))
