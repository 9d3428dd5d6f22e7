"""One assumption at a time: what both ends of its range do, and where on the way there targets break."""

from __future__ import annotations

import math
from collections.abc import Callable

from ttc_sim.assumptions.dials import NO_PREDICTOR, PROBLEMS, Dial, Range
from ttc_sim.assumptions.found import Assumed, BreakEven, End, range_of
from ttc_sim.assumptions.worlds import Worlds
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.optimizer.promises import TargetCheck
from ttc_sim.simulation.differences import Compared, compare, figures

_NEAR = 0.005  # as far off as a break-even may be: relative, or of the way to the end of a range of no factors
_STEPS = 40
_LOOKED_AT = (0.5, 1.0)  # parts of the way to an end, before it is looked at more closely

Missed = frozenset[str]


def looked_at(worlds: Worlds, dial: Dial, asked: Range | None) -> Assumed:
    """What an assumption does, all others as they stand.

    Raises:
        InputError: an end of its range that makes no world.
    """
    span = asked or range_of(dial)
    if dial.name == PROBLEMS:
        return _problems(worlds, dial, span)
    ends = {
        toward: _end(worlds, dial, value)
        for toward, value in (("low", span.low), ("high", span.high))
        if value != dial.neutral
    }
    found: list[BreakEven] = []
    notes: list[str] = []
    for toward, end in ends.items():
        if end.changes_nothing or dial.name == NO_PREDICTOR:
            continue
        way = _Way(worlds, dial, toward, end)
        found += way.break_even()
        notes += way.notes()
    if all(end.changes_nothing for end in ends.values()):
        notes = ["changes nothing: no request meets it"]
    low, high = ends.get("low"), ends.get("high")
    asked_for = asked is not None
    return Assumed(dial.name, dial.what, span, asked_for, dial.factor, low, high, tuple(found), True, tuple(notes))


def _end(worlds: Worlds, dial: Dial, value: float) -> End:
    pooled = worlds.pooled({dial.name: value})
    summary = worlds.summary(pooled)
    before, base = worlds.standing
    beside: dict[str, Compared] = compare(before, pooled, base, summary)
    checks = worlds.checks(summary)
    held, holds = _missed(worlds.checks(base)), _missed(checks)
    return End(
        value,
        dial.shown(value),
        {name: figure.value for name, figure in figures(summary).items()},
        {name: one.difference for name, one in beside.items()},
        checks,
        tuple(sorted(holds - held)),
        tuple(sorted(held - holds)),
        summary.verdict,
    )


def _missed(checks: tuple[TargetCheck, ...]) -> Missed:
    """Targets that do not hold with the confidence that is asked for."""
    return frozenset(one.name for one in checks if not one.holds)


# ------------------------------------------------------------------------------------------------------- break-even


class _Way:
    """From the scenario as it stands to an end of a range: what is missed at some part of it, 0 to 1."""

    def __init__(self, worlds: Worlds, dial: Dial, toward: str, end: End) -> None:
        self.worlds, self.dial, self.toward, self.end = worlds, dial, toward, end
        self.standing = _missed(worlds.checks(worlds.standing[1]))
        self._seen: dict[float, Missed] = {0.0: self.standing, 1.0: _missed(end.checks)}

    def missed(self, part: float) -> Missed:
        if part not in self._seen:
            pooled = self.worlds.pooled({self.dial.name: self.value(part)})
            self._seen[part] = _missed(self.worlds.checks(self.worlds.summary(pooled)))
        return self._seen[part]

    def value(self, part: float) -> float:
        return self.dial.between(self.end.value, part)

    def breaks(self, part: float) -> bool:
        """Whether a target that holds in the scenario as it stands does not."""
        return bool(self.missed(part) - self.standing)

    def mends(self, part: float) -> bool:
        """Whether all targets hold, unlike in the scenario as it stands."""
        return bool(self.standing) and not self.missed(part)

    def break_even(self) -> list[BreakEven]:
        """Where the first of the targets that hold breaks and, where some do not, where all come to hold."""
        found = []
        for changed in (self.breaks, self.mends) if self.end.checks else ():
            stretch = next((part for part in _LOOKED_AT if changed(part)), None)
            if stretch is None:
                continue
            first = _LOOKED_AT.index(stretch)
            same, other = self._bisected(changed, _LOOKED_AT[first - 1] if first else 0.0, stretch)
            breaking = changed == self.breaks
            targets = self.missed(other) - self.standing if breaking else self.standing
            values = self.value(same), self.value(other)
            told = rounded(values[0] if breaking else values[1], self.dial.neutral, toward_neutral=breaking)
            shown = self.dial.shown(told)
            found.append(BreakEven(self.toward, breaking, tuple(sorted(targets)), *values, shown))
        return found

    def notes(self) -> list[str]:
        """Where it does not go in one direction, so that there may be more to it than one value."""
        if any(changed(0.5) and not changed(1.0) for changed in (self.breaks, self.mends) if self.end.checks):
            return [
                f"half way to {self.end.shown} targets change that are as before there: it goes not in one direction"
            ]
        return []

    def _bisected(self, changed: Callable[[float], bool], same: float, other: float) -> tuple[float, float]:
        """Parts of the way at which it has not changed yet, and has, as near as need be."""
        for _ in range(_STEPS):
            one, two = self.value(same), self.value(other)
            size = abs(one) if self.dial.factor else abs(self.end.value - self.dial.neutral)
            if abs(two - one) <= _NEAR * size:
                break
            middle = (same + other) / 2
            same, other = (same, middle) if changed(middle) else (middle, other)
        return same, other


def rounded(value: float, neutral: float, *, toward_neutral: bool) -> float:
    """To three digits, so that what is said of the value is true of the rounded one."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    up = (value < neutral) == toward_neutral
    steps = value / unit
    near = round(steps)
    whole = near if math.isclose(steps, near, rel_tol=1e-9) else math.ceil(steps) if up else math.floor(steps)
    return float(f"{whole * unit:.12g}")


# --------------------------------------------------------------------------------------------------------- problems


def _problems(worlds: Worlds, dial: Dial, span: Range) -> Assumed:
    """Both ends of the scenario's own intervals: what other problems, and other runs, leave open is known already."""
    _, base = worlds.standing
    found, checks = figures(base), worlds.checks(base)

    def end(toward: str) -> End:
        values = {name: getattr(one, toward) for name, one in found.items()}
        moved = {name: value - found[name].value for name, value in values.items()}
        breaks = tuple(one.name for one in checks if one.holds and _beyond(one, one.promised, toward))
        return End(
            math.nan,
            f"{toward} end",
            values,
            {name: Estimate(value, value, value) for name, value in moved.items()},
            (),
            breaks,
            (),
            base.verdict,
        )

    note = "the ends of each figure's own interval (95%), of the problems and of the runs; targets break where those miss them"
    return Assumed(dial.name, dial.what, span, False, False, end("low"), end("high"), (), False, (note,))


def _beyond(check: TargetCheck, figure: Estimate, toward: str) -> bool:
    value = getattr(figure, toward)
    return bool(value < check.bound if check.at_least else value > check.bound)


def check_ends(worlds: Worlds, dial: Dial, span: Range, where: str) -> None:
    """Refuse a range one end of which makes no world.

    Raises:
        InputError: the reason.
    """
    for value in (span.low, span.high):
        try:
            effect = dial.at(worlds.base, value)
            if effect is not None:
                worlds.check(effect)
        except InputError as error:
            raise InputError(where, dial.name, f"{span.low:g}..{span.high:g}", error.expected) from None


__all__ = ["check_ends", "looked_at", "rounded"]
