"""All assumptions at once: Sobol indices of every figure over their ranges.

First-order and total indices by the estimators of A. Saltelli et al. (Comput. Phys. Commun. 181, 2010, pp. 259-270), by SALib, on
``n (k + 2)`` worlds for ``k`` assumptions: two matrices of a scrambled Sobol sequence, and the one with each column of the other.
Intervals are of resamples of its rows, the same for first and total, so that their difference has one too.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ttc_sim.assumptions.dials import PROBLEMS, Dial, Range
from ttc_sim.assumptions.found import Index, Joint
from ttc_sim.assumptions.resampling import WORLDS
from ttc_sim.assumptions.worlds import Given, Worlds
from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError, cut
from ttc_sim.base.estimates import Z95, Estimate
from ttc_sim.base.progress import Progress, counted
from ttc_sim.base.threads import one_thread
from ttc_sim.base.workers import in_any_order
from ttc_sim.simulation.differences import figures
from ttc_sim.sweeping.backends import MOST_DEATHS
from ttc_sim.sweeping.carrying_out import each_line_once, journal_of
from ttc_sim.sweeping.found import Sweep, read_results, sweep_of
from ttc_sim.sweeping.identity import identity_of
from ttc_sim.sweeping.point import Row, versions
from ttc_sim.sweeping.varying import Point, Varied, shown

_RESAMPLES = 1000
_WHERE = "sensitivity"
_ALIKE = 1e-12  # relative spread of a figure that is the same in every world


def salib(name: str) -> ModuleType:
    """A module of SALib.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(f"SALib.{name}")
    except ImportError:
        raise InputError(_WHERE, "sobol", "no SALib", "that library: pip install 'ttc-sim[sensitivity]'") from None


def worlds_of(dials: Mapping[str, tuple[Dial, Range]], size: int, seed: int) -> Varied:
    """Points of the sequence: values of every dial within its range.

    Args:
        seed: of the scrambling.
    """
    names = list(dials)
    problem = {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}
    # A generator of its own for the seed, so that 0 is one too.
    unit = salib("sample.sobol").sample(problem, size, calc_second_order=False, seed=np.random.default_rng(seed))
    points = [
        {
            name: dial.within(span.low, span.high, float(u))
            for (name, (dial, span)), u in zip(dials.items(), row, strict=True)
        }
        for row in unit
    ]
    said: dict[str, object] = {
        name: {"low": span.low, "high": span.high, "factor": dial.factor} for name, (dial, span) in dials.items()
    }
    return Varied(said, tuple(points))


# --------------------------------------------------------------------------------------------------- in a process

_HERE: list[Worlds] = []


def _begin(given: Given) -> None:
    _HERE[:] = [Worlds(given)]


@one_thread()
def _carry_out(point: Point) -> Row:
    worlds = _HERE[0]
    try:
        summary = worlds.summary(worlds.pooled(point))
    except InputError as error:
        return {"error": str(error)}
    values = {name: one.value for name, one in figures(summary).items()}
    return {**values, "verdict": summary.verdict, "error": None, "notes": list(summary.notes)}


# ---------------------------------------------------------------------------------------------------------- all points


def all_at_once(
    given: Given,
    dials: Mapping[str, tuple[Dial, Range]],
    size: int,
    *,
    out: Path | None,
    workers: int,
    progress: Progress,
) -> Joint:
    """Sobol indices of every figure.

    Raises:
        InputError: no SALib, nothing to vary, results of something else in ``out``, or a world that cannot be simulated.
    """
    salib("analyze.sobol")
    if not dials:
        raise InputError(_WHERE, "sobol", size, "an assumption that applies: there is none to vary")
    varied = worlds_of(dials, size, given.scenario.seed)
    found = _simulated(given, varied, out, workers, progress)
    if len(found.failed):
        first = found.failed.row(0, named=True)
        values = shown({name: first[name] for name in varied.paths})
        said = f"worlds that can be simulated, {len(found.failed):,} of {len(found.table):,} cannot: a narrower --range"
        raise InputError(_WHERE, f"world {first['point']} ({cut(values, 300)})", cut(str(first["error"]), 300), said)
    indices, spread = {}, {}
    left_out = []
    for name in _figures_of(found, varied):
        column: F64 = found.table[name].to_numpy().astype(np.float64)
        if np.isnan(column).any():
            left_out.append(name)
            continue
        low, high = (float(x) for x in np.quantile(column, (0.025, 0.975)))
        spread[name] = Estimate(float(column.mean()), low, high)
        if float(np.ptp(column)) > _ALIKE * float(np.abs(column).max()):
            indices[name] = _indices(list(dials), column, given.scenario.seed)
    laws = {name: _law(dial, span) for name, (dial, span) in dials.items()}
    return Joint(size, len(found.table), indices, spread, laws, found.table, _notes(found, left_out))


def _law(dial: Dial, span: Range) -> str:
    if dial.name == PROBLEMS:
        return f"one of {WORLDS} resamples of the problems, each as likely"
    between = f"{dial.shown(span.low)} to {dial.shown(span.high)}"
    return f"{'log-uniform' if dial.factor else 'uniform'}, {between}"


def _notes(found: Sweep, left_out: list[str]) -> tuple[str, ...]:
    notes = []
    overloaded = int((found.table["verdict"] != "stable").sum())
    if overloaded:
        notes.append(
            f"servers do not keep up in {overloaded:,} of {len(found.table):,} worlds: times there are those of runs of this length"
        )
    if left_out:
        notes.append(f"no indices of {', '.join(left_out)}: unknown in some of the worlds")
    return tuple(notes)


def _figures_of(found: Sweep, varied: Varied) -> list[str]:
    other = {"point", *varied.paths, "verdict", "error"}
    return [name for name in found.table.columns if name not in other]


def _indices(names: list[str], values: F64, seed: int) -> tuple[Index, ...]:
    problem = {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of assumptions without an effect, whose indices are 0
        found: Any = salib("analyze.sobol").analyze(
            problem,
            values,
            calc_second_order=False,
            num_resamples=_RESAMPLES,
            keep_resamples=True,
            seed=seed + 1,  # it takes 0 for none
        )
    first, total = (np.asarray(found[f"{kind}_conf_all"]) for kind in ("S1", "ST"))
    return tuple(
        Index(
            name,
            _around(found["S1"][k], first[:, k]),
            _around(found["ST"][k], total[:, k]),
            _around(found["ST"][k] - found["S1"][k], total[:, k] - first[:, k]),
        )
        for k, name in enumerate(names)
    )


def _around(value: float, resamples: F64) -> Estimate:
    """With a normal interval by the spread of the resamples, as SALib has it."""
    sd = float(resamples.std(ddof=1))
    return Estimate(float(value), float(value - Z95 * sd), float(value + Z95 * sd))


def _simulated(given: Given, varied: Varied, out: Path | None, workers: int, progress: Progress) -> Sweep:
    """All points, those that were finished before taken from what stands in the file or its journal."""
    identity = identity_of(given.scenario, given.requests, varied, versions())
    if out is not None and (before := read_results(out, identity, varied)) is not None:
        progress(f"all {len(varied.points):,} worlds are in {out} already")
        return before

    def died(number: int) -> InputError:
        expected = (
            "processes that live: each one that began with it died, as of too little memory; in a script of your own, "
            "begin it under `if __name__ == '__main__':`"
        )
        return InputError(_WHERE, f"world {number}", shown(varied.points[number]), expected)

    with journal_of(out, identity, len(varied.points), "worlds") as journal:
        rows: dict[int, Row] = dict(journal.done) if journal is not None else {}
        if rows:
            progress(f"{len(rows):,} of {len(varied.points):,} worlds were finished before")
        left = {number: point for number, point in enumerate(varied.points) if number not in rows}
        done = in_any_order(workers, _begin, (given,), _carry_out, left, MOST_DEATHS, died)
        with each_line_once(), closing(done):
            for number, row in counted(
                done, progress, "simulating", "worlds", total=len(varied.points), done=len(rows)
            ):
                if journal is not None:
                    journal.add(number, row)
                rows[number] = row
        found = sweep_of([rows[number] for number in range(len(varied.points))], varied, identity)
        if out is not None and not len(found.failed):
            found.save(out)
    return found


__all__ = ["all_at_once", "salib", "worlds_of"]
