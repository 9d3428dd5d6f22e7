"""What is asked for: ranges of assumptions, and a figure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from ttc_sim.assumptions.dials import NO_PREDICTOR, PROBLEMS, Dial, Range
from ttc_sim.base.arguments import finite
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.optimizer.whatif.paths import factor_of
from ttc_sim.scenario import Scenario

WHERE = "sensitivity"
EXAMPLE = "NAME=LOW..HIGH, such as traffic=0.5..3 or prices=-30%..+10%"
_ASKED = "asked for"
_FIXED = {
    PROBLEMS: "no range: what other problems leave open is known from those that were measured",
    NO_PREDICTOR: "no range: there is one, or none; predictor-noise has a range",
}


def ranges_of(options: Sequence[str], option: str = "--range") -> dict[str, tuple[str, str]]:
    """Ranges as a command line says them: by name, both ends.

    Raises:
        InputError: no range.

    >>> ranges_of(["traffic=0.5..3"])
    {'traffic': ('0.5', '3')}
    """
    found: dict[str, tuple[str, str]] = {}
    for said in options:
        name, equals, ends = said.rpartition("=")  # the name of a source may hold one
        bounds = re.fullmatch(r"\s*(\S.*?)\s*\.\.\s*(\S.*?)\s*", ends)
        if not equals or bounds is None or not name.strip():
            raise InputError(option, "range", said, EXAMPLE)
        if name.strip() in found:
            raise InputError(option, name.strip(), said, "each assumption once")
        found[name.strip()] = bounds[1], bounds[2]
    return found


def asked_ranges(
    given: object, dials: Mapping[str, Dial], absent: Mapping[str, str], where: str = WHERE
) -> dict[str, Range]:
    """Ranges that were asked for, by assumption.

    Args:
        given: by name, both ends: numbers or, of factors, ``"0.5x"`` or ``"-30%"`` too.
        absent: assumptions that do not apply, and what they would need.

    Raises:
        InputError: no such assumption, one that does not apply or has no range, or no range.
    """
    if not isinstance(given, Mapping):
        raise InputError(where, "ranges", given, "both ends by assumption, such as {'traffic': (0.5, 3)}")
    found = {}
    for name, ends in given.items():
        if name not in dials:
            raise InputError(where, "range", name, nearest(str(name), dials))
        if name in absent:
            raise InputError(where, f"range of {name}", _shown(ends), f"none, it does not apply: {absent[name]}")
        if name in _FIXED:
            raise InputError(where, f"range of {name}", _shown(ends), _FIXED[name])
        found[name] = _range(dials[name], ends, where)
    return found


def _range(dial: Dial, ends: object, where: str) -> Range:
    field = f"range of {dial.name}"
    if not isinstance(ends, (list, tuple)) or len(ends) != 2:
        raise InputError(where, field, ends, "both ends, (low, high)")
    values = [_value(dial, one, field, where) for one in ends]
    for one in values:
        inside = dial.least < one <= dial.most if dial.factor else dial.least <= one <= dial.most
        if not inside:
            allowed = "a factor above 0" if dial.factor else f"numbers from {dial.least:g} to {dial.most:g}"
            raise InputError(where, field, one, allowed)
    if not values[0] < values[1]:
        raise InputError(where, field, _shown(ends), "the lower end first, and a higher one after it")
    return Range(values[0], values[1], _ASKED)


def _value(dial: Dial, given: object, field: str, where: str) -> float:
    if isinstance(given, str):
        if dial.factor and (factor := factor_of(given)) is not None:
            return factor
        with suppress(ValueError):
            given = float(given)
    if not finite(given):
        relative = ", or such as 0.5x or -30%" if dial.factor else ""
        raise InputError(where, field, given, f"a number at each end{relative}: {EXAMPLE}")
    return float(given)


def _shown(ends: object) -> str:
    return "..".join(str(one) for one in ends) if isinstance(ends, (list, tuple)) else str(ends)


def figure_asked(given: object, known: Iterable[str], scenario: Scenario) -> str:
    """The figure that assumptions are sorted by: the one that was asked for, else what the scenario makes best of, else cost.

    ``cost`` is that of a request, and of names of times ``_s`` may be left out.

    Raises:
        InputError: the scenario has no such figure.
    """
    names = list(known)
    if given is None:
        targets = scenario.targets
        best = None if targets is None else targets.minimize or targets.maximize
        return next((name for name in _named(best) if name in names), "cost_usd_per_request")
    for name in _named(given):
        if name in names:
            return name
    if given == "accuracy":
        raise InputError(
            WHERE, "figure", given, f"another one: no problems stand behind the requests; {_listed(names)}"
        )
    raise InputError(WHERE, "figure", given, nearest(str(given), ["cost", *names]))


def _named(given: object) -> tuple[str, ...]:
    """What a figure may be called in full."""
    return ("cost_usd_per_request",) if given == "cost" else (str(given), f"{given}_s", f"{given}_rate")


def _listed(names: Sequence[str]) -> str:
    return "one of " + ", ".join(sorted(names))


def check_size(given: object) -> int:
    """Points of a Sobol sequence, a power of two.

    Raises:
        InputError: it is none.
    """
    least, most = 8, 2**16
    expected = f"a power of two from {least} to {most}"
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        raise InputError(WHERE, "sobol", given, expected)
    if given & (given - 1):
        below = 1 << (given.bit_length() - 1)
        raise InputError(WHERE, "sobol", given, f"{expected}, such as {below} or {2 * below}")
    return given


__all__ = ["EXAMPLE", "asked_ranges", "check_size", "figure_asked", "ranges_of"]
