"""A sweep from its points to its table."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ttc_sim.base.arguments import count, location
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError, cut, nearest
from ttc_sim.base.limits import MOST_REQUESTS, MOST_WORKERS
from ttc_sim.base.progress import Step, Telling, counted
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.files.writing import check_outputs
from ttc_sim.optimizer.whatif.paths import Base, factor_of
from ttc_sim.scenario import Scenario, as_plain, as_scenario
from ttc_sim.simulation.model import load_model
from ttc_sim.sweeping.backends import Backend
from ttc_sim.sweeping.backends.local import local
from ttc_sim.sweeping.backends.on_dask import on_dask
from ttc_sim.sweeping.backends.on_ray import on_ray
from ttc_sim.sweeping.found import Sweep, read_results, sweep_of
from ttc_sim.sweeping.identity import identity_of
from ttc_sim.sweeping.journal import Journal
from ttc_sim.sweeping.point import Setting, Simulator, versions
from ttc_sim.sweeping.varying import Range, Value, Varied, check_paths, grid, shown, sobol

BACKENDS: Mapping[str, Backend] = {"local": local, "ray": on_ray, "dask": on_dask}
"""Where points may be simulated."""


@shows_progress()
def sweep(
    scenario: Scenario | str | Path,
    varied: Mapping[str, Any],
    *,
    points: int | None = None,
    requests: int | None = None,
    out: str | Path | None = None,
    backend: str = "local",
    address: str | None = None,
    workers: int | None = None,
    progress: Telling = None,
    allow_code: AllowCode = False,
) -> Sweep:
    """Simulate many variations of a scenario, all on the same random numbers.

    Args:
        scenario: itself, its file, or the name of a shipped one; with a policy.
        varied: by path (keys joined by dots, as for :func:`ttc_sim.with_changes`), a list of values: every one with every other is
            a point. With ``points``, the two ends of a range, ``(low, high)`` or ``(low, high, "log")``.
        points: so many of a Sobol sequence, scrambled with the scenario's seed; best a power of two.
        requests: of each run, 1 to 100,000,000, instead of the scenario's.
        out: Parquet file to write. What is finished stands in ``OUT.journal`` until then, and the same call goes on from there.
        backend: ``local`` (processes of this machine), ``ray`` or ``dask``; figures are the same to the last digit.
        address: of a running cluster, such as ``10.0.0.5:6379`` (Ray; ``auto`` finds one on this machine) or
            ``tcp://10.0.0.5:8786`` (Dask); a cluster on this machine is begun and ended if left out.
        workers: points simulated at a time; 1, or as many as the cluster has CPUs, if left out.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        allow_code: as for :func:`ttc_sim.simulate`.

    Raises:
        InputError: a path that leads nowhere, a point that makes the scenario invalid (named, before anything is simulated),
            results of another sweep in ``out``, a cluster that cannot be reached, or points of which none can be simulated.

    >>> found = sweep("reasoning-gateway", {"policy": ["Always('r1')", "Always('maverick')"]}, requests=100)
    >>> found
    <Sweep: 2 points of reasoning-gateway, over policy>
    >>> found.table["cost_usd_per_request"][0] > found.table["cost_usd_per_request"][1]
    True
    """
    base = as_scenario(scenario, "sweep", allow_code)
    if requests is not None:
        requests = count("sweep", "requests", requests, 1, MOST_REQUESTS, "requests")
    if workers is not None:
        workers = count("sweep", "workers", workers, 1, MOST_WORKERS, "processes")
    if backend not in BACKENDS:
        raise InputError("sweep", "backend", backend, nearest(str(backend), BACKENDS))
    if address is not None and (not isinstance(address, str) or not address.strip()):
        raise InputError("sweep", "address", address, "where a cluster is, such as 10.0.0.5:6379")
    if address is not None and backend == "local":
        raise InputError("sweep", "address", address, "none with the backend local: it is this machine")
    say = telling("sweep", progress)
    made = _points(base, varied, points)
    if requests is not None and any(path.startswith("workload.requests") for path in made.paths):
        raise InputError(
            "sweep", "requests", requests, "no requests beside the path workload.requests, which says how many"
        )
    place = None if out is None else location("sweep", "out", out, "a Parquet file to write")
    if place is not None:
        check_outputs(base.path, results=place)
        if place.suffix.lower() != ".parquet":
            raise InputError(place, "file", place.suffix, "a name ending in .parquet")
    identity = identity_of(base, requests, made, versions())
    if place is not None and (before := read_results(place, identity, made)) is not None:
        say(f"all {len(made.points):,} points are in {place} already")
        return before
    setting = Setting(base, requests, load_model(base).population, versions())
    say(Step(f"looking at {len(made.points):,} points"))
    _check(setting, made)
    with journal_of(place, identity, len(made.points)) as journal:
        rows = dict(journal.done) if journal is not None else {}
        if rows:
            say(f"{len(rows):,} of {len(made.points):,} points were finished before")
        left = {number: point for number, point in enumerate(made.points) if number not in rows}
        if left:
            with each_line_once(), BACKENDS[backend](setting, left, workers, address) as done:
                for number, row in counted(done, say, "simulating", "points", total=len(made.points), done=len(rows)):
                    if journal is not None:
                        journal.add(number, row)
                    rows[number] = row
        found = sweep_of([rows[number] for number in range(len(made.points))], made, identity)
        if place is not None and len(found.failed) < len(found.table):
            found.save(place)
    _check_any(found, made)
    return found


def _points(base: Scenario, varied: object, points: int | None) -> Varied:
    if not isinstance(varied, Mapping):
        raise InputError(
            "sweep", "varied", varied, "values by path, such as {'workload.arrivals.rate_per_s': [2.0, 4.0]}"
        )
    now = Base(load_model(base), base)
    if points is None:
        for path, several in varied.items():
            if isinstance(several, Range) or not isinstance(several, (list, tuple, np.ndarray)):
                raise InputError(
                    "sweep", str(path), several, "a list of values; a range takes `points`, to say how many"
                )
        check_paths(varied, "sweep")
        return grid({path: [_absolute(path, one, now) for one in several] for path, several in varied.items()})
    check_paths(varied, "sweep")
    found = {path: _range(path, one, now) for path, one in varied.items()}
    return sobol(found, points, base.seed, {path: now.in_effect(path) for path in found})


def _absolute(path: str, value: Value, now: Base) -> Any:
    """A value, or what a relative one comes to."""
    return value if factor_of(value) is None else now.times(path, value, "sweep")


def _range(path: str, given: Value, now: Base) -> Range:
    if isinstance(given, (list, tuple)) and len(given) in (2, 3) and (len(given) == 2 or given[2] == "log"):
        given = Range(as_plain(given[0]), as_plain(given[1]), len(given) == 3)
    if not isinstance(given, Range):
        raise InputError("sweep", path, given, "the two ends of a range, (low, high) or (low, high, 'log')")
    low, high = (_absolute(path, one, now) for one in (given.low, given.high))
    return Range(low, high, given.log)


def _check(setting: Setting, varied: Varied) -> None:
    """Refuse a point that makes the scenario invalid, before anything is simulated."""
    simulator = Simulator(setting)
    for number, point in enumerate(varied.points):
        try:
            simulator.model(point)
        except InputError as error:
            where = cut(f"point {number} ({shown(point)})", 300)
            raise InputError(where, error.field, error.value, error.expected) from None


@contextmanager
def journal_of(
    out: Path | None, identity: Mapping[str, object], points: int, of: str = "points"
) -> Iterator[Journal | None]:
    """The journal beside the results; it goes once they stand there."""
    if out is None:
        yield None
        return
    journal = Journal(out.with_name(f"{out.name}.journal"), identity, points)
    finished = False
    try:
        yield journal
        finished = True
    except KeyboardInterrupt as interrupted:
        if kept := len(journal.done):
            interrupted.add_note(
                f"{kept:,} of {points:,} {of} are kept in {journal.path}: the same command goes on from there"
            )
        raise
    finally:
        journal.close(remove=finished)


@contextmanager
def each_line_once() -> Iterator[None]:
    """What every run would say in the log is said by the first."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        before = len(said)
        said.add(record.getMessage())
        return len(said) > before

    loggers = [
        logging.getLogger(name) for name in list(logging.Logger.manager.loggerDict) if name.startswith("ttc_sim")
    ]
    for logger in loggers:
        logger.addFilter(is_new)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_new)


def _check_any(found: Sweep, varied: Varied) -> None:
    """Refuse a sweep of which no point could be simulated."""
    if len(found.failed) == len(found.table):
        first = str(found.table["error"][0])
        raise InputError(
            "sweep", f"point 0 ({cut(shown(varied.points[0]), 200)})", first, "points that can be simulated: none can"
        )


__all__ = ["BACKENDS", "each_line_once", "journal_of", "sweep"]
