"""Which assumption moves a plan most: what is found out of each, and of all together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import polars as pl

from ttc_sim.assumptions.dials import Dial, Range
from ttc_sim.base.display import Displayed
from ttc_sim.base.estimates import Estimate
from ttc_sim.optimizer.promises import TargetCheck
from ttc_sim.simulation.summary import Summary

EXACT = Estimate(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class End:
    """A world in which one assumption has another value.

    Attributes:
        value: of the assumption; shown: in words.
        figures: by name; differences: from the scenario as it stands, each with its paired interval.
        checks: every target beside its figure; breaks, mends: those that hold in the scenario as it stands and not here, and the
            other way round.
        verdict: whether servers keep up: ``stable``, ``overloaded``, ...
    """

    value: float
    shown: str
    figures: Mapping[str, float]
    differences: Mapping[str, Estimate]
    checks: tuple[TargetCheck, ...]
    breaks: tuple[str, ...]
    mends: tuple[str, ...]
    verdict: str

    @property
    def changes_nothing(self) -> bool:
        """Whether every figure is exactly as in the scenario as it stands."""
        return all(one == EXACT for one in self.differences.values())

    def more_than_noise(self, figure: str) -> bool:
        """Whether the interval of the difference lies on one side of 0."""
        return self.differences[figure].low > 0 or self.differences[figure].high < 0

    def as_json(self, *, paired: bool) -> dict[str, object]:
        """Plain mapping: the value, every figure with what it differs by, and the targets."""
        figures: dict[str, object] = {}
        for name, value in self.figures.items():
            beside: dict[str, object] = {**asdict(self.differences[name])} if name in self.differences else {}
            if paired and beside:
                beside["more_than_noise"] = self.more_than_noise(name)
            figures[name] = {"value": value, "difference": beside or None}
        return {
            "value": self.value,
            "figures": figures,
            "targets": [one.as_json() for one in self.checks],
            "breaks": list(self.breaks),
            "mends": list(self.mends),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class BreakEven:
    """Where on the way to an end of an assumption's range targets break first or, where some are missed as it is, all come to hold.

    Attributes:
        toward: ``low`` or ``high``; breaks: whether they break; targets: those that do, or that come to hold last.
        same_until: the farthest value seen at which all is as in the scenario; changed_at: the nearest at which it is not.
        shown: the one that is told, in words: the last at which targets hold, or the first at which all do.
    """

    toward: str
    breaks: bool
    targets: tuple[str, ...]
    same_until: float
    changed_at: float
    shown: str


@dataclass(frozen=True)
class Assumed:
    """One assumption, all others as they stand.

    Attributes:
        name, what: of the assumption; range: of its values; asked: whether the range was asked for, and is not the usual one.
        factor: whether values multiply what stands there.
        low, high: at the ends of its range; ``None`` for an end that is the scenario itself.
        break_even: where targets break, or come to hold, toward each end where they do.
        paired: whether differences are paired ones; those of the problems that happened to be measured are the ends of each
            figure's own interval.
        notes: what a reader must know.
    """

    name: str
    what: str
    range: Range
    asked: bool
    factor: bool
    low: End | None
    high: End | None
    break_even: tuple[BreakEven, ...]
    paired: bool
    notes: tuple[str, ...] = ()

    @property
    def ends(self) -> dict[str, End]:
        """Those that are not the scenario itself: ``low``, ``high``."""
        return {name: end for name, end in (("low", self.low), ("high", self.high)) if end is not None}

    def effect(self, figure: str) -> float:
        """The most that a figure moves by, either way; NaN where it is unknown at both ends."""
        moved = [abs(end.differences[figure].value) for end in self.ends.values() if figure in end.differences]
        known = [one for one in moved if not math.isnan(one)]
        return max(known, default=math.nan)

    def as_json(self) -> dict[str, object]:
        """Plain mapping: the range with its reason, both ends, where targets break, and what each figure moves by at most."""
        names = dict.fromkeys(name for end in self.ends.values() for name in end.differences)
        return {
            "name": self.name,
            "what": self.what,
            "low": self.range.low,
            "high": self.range.high,
            "factor": self.factor,
            "asked": self.asked,
            "why": self.range.why,
            "paired": self.paired,
            "ends": {name: end.as_json(paired=self.paired) for name, end in self.ends.items()},
            "break_even": [{**asdict(one), "targets": list(one.targets)} for one in self.break_even],
            "effect": {name: self.effect(name) for name in names},
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Index:
    """Sobol indices of an assumption, each with its 95% interval.

    Attributes:
        first: share of the figure's variance that goes with it alone; total: with it at all, whatever the others are.
        interaction: total less first: only together with others.
    """

    name: str
    first: Estimate
    total: Estimate
    interaction: Estimate


@dataclass(frozen=True)
class Joint:
    """All assumptions at once.

    Attributes:
        size: points of the sequence; runs: worlds simulated.
        indices: by figure, of every assumption; figures that are the same in every world have none.
        spread: by figure, its mean and 2.5% and 97.5% quantiles over the worlds.
        laws: by assumption, what its values are drawn from, in words.
        points: a row for each world: values and figures.
        notes: what a reader must know.
    """

    size: int
    runs: int
    indices: Mapping[str, tuple[Index, ...]]
    spread: Mapping[str, Estimate]
    laws: Mapping[str, str]
    points: pl.DataFrame
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Plain mapping, without the points."""
        return {
            "n": self.size,
            "runs": self.runs,
            "laws": dict(self.laws),
            "spread": {name: asdict(one) for name, one in self.spread.items()},
            "indices": {name: [asdict(one) for one in several] for name, several in self.indices.items()},
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Sensitivity(Displayed):
    """What :func:`ttc_sim.sensitivity` found.

    Attributes:
        name: of the scenario; figure: that was asked for.
        figures: of the scenario as it stands, by name; summary: all of them; checks: its targets.
        assumptions: those that move the figure most first.
        absent: assumptions that do not apply, and what they would need.
        joint: all of them at once, if that was asked for.
        notes: what a reader of any figure must know.
    """

    name: str
    figure: str
    figures: Mapping[str, Estimate]
    summary: Summary
    checks: tuple[TargetCheck, ...]
    assumptions: tuple[Assumed, ...]
    absent: Mapping[str, str]
    joint: Joint | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        first = [one.name for one in self.assumptions[:3] if one.effect(self.figure) > 0]
        most = f"moved most by {', '.join(first)}" if first else "moved by nothing"
        return f"<Sensitivity of {self.figure} of {self.name}: {most}>"

    def __getitem__(self, name: str) -> Assumed:
        """An assumption by its name."""
        return next(one for one in self.assumptions if one.name == name)

    @property
    def table(self) -> pl.DataFrame:
        """One row per assumption, end and figure."""
        rows = [
            (
                one.name,
                toward,
                end.value,
                figure,
                self.figures[figure].value,
                end.figures[figure],
                difference.value,
                difference.low,
                difference.high,
                end.more_than_noise(figure) if one.paired else None,
            )
            for one in self.assumptions
            for toward, end in one.ends.items()
            for figure, difference in end.differences.items()
        ]
        schema = {
            **dict.fromkeys(("assumption", "end"), pl.String),
            "at": pl.Float64,
            "figure": pl.String,
            **dict.fromkeys(("base", "value", "difference", "low", "high"), pl.Float64),
            "more_than_noise": pl.Boolean,
        }
        return pl.DataFrame(rows, schema=schema, orient="row")

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON: ``base``, ``assumptions`` in the order of their effect, ``absent``, ``sobol``."""
        return {
            "scenario": self.name,
            "figure": self.figure,
            "base": {
                "figures": {name: asdict(one) for name, one in self.figures.items()},
                "targets": [one.as_json() for one in self.checks],
                "verdict": self.summary.verdict,
            },
            "assumptions": [one.as_json() for one in self.assumptions],
            "absent": dict(self.absent),
            "sobol": None if self.joint is None else self.joint.as_json(),
            "notes": list(self.notes),
        }


def range_of(dial: Dial) -> Range:
    """That of a dial without a choice: the one other value that it has."""
    return dial.usual or Range(dial.neutral, dial.most, "the most that can be wrong with it")


__all__ = ["Assumed", "BreakEven", "End", "Index", "Joint", "Sensitivity", "range_of"]
