"""What a sweep varies: a grid of values, or Sobol points within ranges."""

from __future__ import annotations

import itertools
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy.stats import qmc

from ttc_sim.base.arguments import finite
from ttc_sim.base.errors import InputError, cut
from ttc_sim.base.notation import split_outside
from ttc_sim.files.documents import parse_yaml
from ttc_sim.scenario import as_plain

Value: TypeAlias = Any
Point: TypeAlias = dict[str, Value]
"""By path, the value there."""

MOST_POINTS = 1_000_000
MOST_RANGES = 1_000
EXAMPLE = "PATH=VALUE,VALUE,... such as workload.arrivals.rate_per_s=2,4,8"
RANGE = "PATH=LOW..HIGH or PATH=LOW..HIGH:log, such as workload.arrivals.rate_per_s=1..16:log"
_NOWHERE = ("name", "description", "search", "targets")


@dataclass(frozen=True)
class Range:
    """Values from ``low`` to ``high``, alike in density or, with ``log``, in density of their logarithms.

    Whole numbers where both ends are, and no number with a fraction stands there now.
    """

    low: Value
    high: Value
    log: bool = False


@dataclass(frozen=True)
class Varied:
    """Points of a sweep.

    Attributes:
        said: what they come of, for a reader and to tell one sweep from another: by path, values or a range.
        points: one after another; note: what a reader must know of them.
    """

    said: Mapping[str, object]
    points: tuple[Point, ...]
    note: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """What is varied."""
        return tuple(self.said)


# ------------------------------------------------------------------------------------------------- as it is said


def grid_of(options: Sequence[str], option: str = "--grid") -> dict[str, list[Value]]:
    """Values by path, as a command line says them; values are YAML.

    Raises:
        InputError: no values by path.

    >>> grid_of(["seed=1,2", "policy=Always('r1'),Threshold(at=0.5, below='r1', above='maverick')"])["policy"][0]
    "Always('r1')"
    """
    found: dict[str, list[Value]] = {}
    for said in options:
        path, values = _halves(said, option, EXAMPLE)
        if path in found:
            raise InputError(option, path, said, "each path once, with all of its values")
        found[path] = [_read(part, f"{option} {cut(said, 80)}", path) for part in split_outside(values, ",")]
    return found


def ranges_of(options: Sequence[str], option: str = "--range") -> dict[str, Range]:
    """Ranges by path, as a command line says them.

    Raises:
        InputError: no ranges by path.

    >>> ranges_of(["workload.arrivals.rate_per_s=1..16:log"])
    {'workload.arrivals.rate_per_s': Range(low=1, high=16, log=True)}
    """
    found: dict[str, Range] = {}
    for said in options:
        path, values = _halves(said, option, RANGE)
        if path in found:
            raise InputError(option, path, said, "each path once")
        bounds = re.fullmatch(r"(.+?)\.\.(.+?)(:log)?", values.strip())
        if bounds is None:
            raise InputError(option, path, values.strip(), RANGE)
        low, high = (_read(bounds[k], f"{option} {cut(said, 80)}", path) for k in (1, 2))
        found[path] = Range(low, high, bounds[3] is not None)
    return found


def _halves(said: str, option: str, example: str) -> tuple[str, str]:
    path, equals, values = said.partition("=")
    if not equals or not path.strip():
        raise InputError(option, "path", said, example)
    if not values.strip():
        raise InputError(option, path.strip(), "nothing", example)
    return path.strip(), values


def _read(said: str, where: str, path: str) -> Value:
    if not said.strip():
        raise InputError(where, path, "nothing", "a value between commas; null for none")
    return parse_yaml(said.strip(), where)


# --------------------------------------------------------------------------------------------------- as it comes


def grid(values: Mapping[str, Sequence[Value]], where: str = "sweep") -> Varied:
    """Every value with every other; those of the last path change fastest.

    Raises:
        InputError: no path or no value, one of them twice, or too many points.
    """
    check_paths(values, where)
    said: dict[str, list[Value]] = {}
    for path, several in values.items():
        if not isinstance(several, (list, tuple, np.ndarray)) or not len(several):
            raise InputError(where, path, several, "at least one value")
        said[path] = [as_plain(one) for one in several]
        seen = [json.dumps(one, sort_keys=True, default=repr) for one in said[path]]
        twice = [one for k, one in enumerate(said[path]) if seen[k] in seen[:k]]
        if twice:
            raise InputError(where, path, twice[0], "each value once")
    count = math.prod(len(several) for several in said.values())
    if count > MOST_POINTS:
        raise InputError(where, "points", count, f"at most {MOST_POINTS:,}")
    points = tuple(dict(zip(said, one, strict=True)) for one in itertools.product(*said.values()))
    return Varied(said, points)


def sobol(
    ranges: Mapping[str, Range], count: int, seed: int, standing: Mapping[str, Value], where: str = "sweep"
) -> Varied:
    """The first ``count`` points of a scrambled Sobol sequence (A. B. Owen, J. Complexity 14, 1998), which cover the ranges evenly.

    Args:
        seed: of the scrambling; standing: by path, what stands there in the scenario.

    Raises:
        InputError: no path, a range that is none or upside down, or no such number of points.
    """
    check_paths(ranges, where)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_POINTS:
        raise InputError(where, "sobol", count, f"a whole number of points, from 1 to {MOST_POINTS}")
    if len(ranges) > MOST_RANGES:
        raise InputError(where, "ranges", len(ranges), f"at most {MOST_RANGES} paths")
    for path, one in ranges.items():
        _check_range(one, path, where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the balance, which the note is about
        unit = qmc.Sobol(len(ranges), scramble=True, seed=np.random.default_rng(seed)).random(count)
    columns = [_within(one, unit[:, k], standing.get(path)) for k, (path, one) in enumerate(ranges.items())]
    points = tuple(dict(zip(ranges, one, strict=True)) for one in zip(*columns, strict=True))
    said: dict[str, object] = {path: {"low": one.low, "high": one.high, "log": one.log} for path, one in ranges.items()}
    return Varied(said, points, _balance(count))


def _balance(count: int) -> str:
    if count & (count - 1) == 0:
        return ""
    below = 1 << (count.bit_length() - 1)
    return f"Sobol points cover the ranges evenly in powers of two: {below:,} or {2 * below:,}, rather than {count:,}"


def _check_range(one: Range, path: str, where: str) -> None:
    for bound in (one.low, one.high):
        if not finite(bound):
            raise InputError(where, path, bound, f"a number on each side: {RANGE}")
    if not one.low < one.high:
        raise InputError(where, path, f"{one.low}..{one.high}", "the lower end first, and the higher end above it")
    if one.log and one.low <= 0:
        raise InputError(where, path, f"{one.low}..{one.high}:log", "a lower end above 0")


def _within(one: Range, unit: np.ndarray[Any, np.dtype[np.float64]], standing: Value) -> list[Value]:
    """Values of a range, alike in number in each part of it."""
    whole = isinstance(one.low, int) and isinstance(one.high, int) and not isinstance(standing, float)
    low, high = float(one.low), float(one.high) + whole
    if one.log:
        low, high = math.log(low), math.log(high)
    values = low + unit * (high - low)
    values = np.exp(values) if one.log else values
    if whole:
        return [min(max(int(value), one.low), one.high) for value in np.floor(values)]
    # As they are printed: a point that is read off a table is the one that was simulated.
    return [min(max(float(f"{value:.12g}"), one.low), one.high) for value in values]


def check_paths(paths: Mapping[str, object], where: str) -> None:
    """Refuse paths that change no figure, and two of which one holds the other.

    Raises:
        InputError: the reason.
    """
    if not paths:
        raise InputError(where, "paths", "nothing", "at least one path to vary: " + EXAMPLE)
    for path in paths:
        if not isinstance(path, str) or not path:
            raise InputError(where, "path", path, EXAMPLE)
        first = path.split(".")[0]
        if first in _NOWHERE and not (first == "targets" and "slo" in path.split(".")):
            raise InputError(
                where, "path", path, f"a path that a simulation depends on: {first} changes no figure of it"
            )
        inner = [other for other in paths if other.startswith(f"{path}.")]
        if inner:
            raise InputError(where, "path", path, f"no path above {inner[0]}, which is varied too")


def shown(point: Point) -> str:
    """A point in one line."""
    return ", ".join(f"{path}={value}" for path, value in point.items())


__all__ = [
    "MOST_POINTS",
    "Point",
    "Range",
    "Varied",
    "check_paths",
    "grid",
    "grid_of",
    "ranges_of",
    "shown",
    "sobol",
]
