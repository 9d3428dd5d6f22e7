"""How many requests are expected of each process: shares of sources, mean rates, and the length of runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REQUESTS
from ttc_sim.base.memory import available_bytes
from ttc_sim.scenario import (
    Arrivals,
    Clients,
    ClosedLoop,
    Even,
    Piecewise,
    Poisson,
    Renewal,
    Sessions,
    Stream,
    Trace,
    Workload,
)
from ttc_sim.scenario.shapes import WHOLE_TRACE
from ttc_sim.workload.checking import own_arrivals
from ttc_sim.workload.clients import clock_of
from ttc_sim.workload.clock import Clock, of_shape, of_steps
from ttc_sim.workload.sessions import turns_a_session
from ttc_sim.workload.traces import come, recorded, replay


def is_own(arrivals: Arrivals) -> bool:
    """Whether a user's own code generates them, even where it inherits from a shipped process."""
    shipped = (Poisson, Renewal, Even, Piecewise, ClosedLoop, Clients, Trace, Sessions)
    return type(arrivals).generate is not Arrivals.generate or not isinstance(arrivals, shipped)


def clock(arrivals: Arrivals, folder: Path) -> Clock | None:
    """The rate of a process where it is known and changes."""
    if is_own(arrivals):
        return None
    if isinstance(arrivals, Sessions):
        begins = clock(arrivals.starts, folder)
        return begins and replace(begins, rate_per_s=begins.rate_per_s * turns_a_session(arrivals, folder))
    if isinstance(arrivals, Piecewise):
        return of_steps(arrivals) if any(step.rate_per_s for step in arrivals.steps) else None
    if isinstance(arrivals, Clients):
        return clock_of(arrivals, folder)
    if isinstance(arrivals, (Poisson, Renewal, Even)) and arrivals.shape is not None:
        return of_shape(arrivals.shape, arrivals.rate_per_s)
    return None


@contextmanager
def named_as(stream: Stream) -> Iterator[None]:
    """Errors on a process name it where it stands."""
    try:
        yield
    except InputError as error:
        if stream.source is None or not error.field.startswith("workload.arrivals"):
            raise
        field = stream.field + error.field.removeprefix("workload.arrivals")
        raise InputError(error.where, field, error.value, error.expected) from None


@contextmanager
def named_as_begun() -> Iterator[None]:
    """Errors on the process that sessions begin by name it where it stands."""
    try:
        yield
    except InputError as error:
        if not error.field.startswith("workload.arrivals"):
            raise
        field = "workload.arrivals.starts" + error.field.removeprefix("workload.arrivals")
        raise InputError(error.where, field, error.value, error.expected) from None


class Expected:
    """What is expected of the processes of a workload.

    Args:
        folder: where relative files start; where: the file that errors name.
        once: whether each trace is played once, and not over and over.
    """

    def __init__(self, workload: Workload, folder: Path, where: str, *, once: bool = False) -> None:
        self.workload, self.folder, self.where, self.once = workload, folder, where, once
        self.streams = workload.streams
        self.clocks: list[Clock | None] = []
        self.rates: list[float] = []
        for k, stream in enumerate(self.streams):
            with named_as(stream):
                self.clocks.append(clock(stream.arrivals, folder))
                self.rates.append(self._rate(stream.arrivals, self.clocks[k]))

    def _rate(self, arrivals: Arrivals, changing: Clock | None) -> float:
        """Mean rate in the long run, before growth; NaN where it follows from the run."""
        if changing is not None:
            return changing.mean_per_s
        if isinstance(arrivals, Sessions) and not is_own(arrivals):
            with named_as_begun():
                begins = self._rate(arrivals.starts, None)
            return begins * turns_a_session(arrivals, self.folder)
        if isinstance(arrivals, Piecewise) and not is_own(arrivals):
            rates = [step.rate_per_s for step in arrivals.steps]
            raise InputError(self.where, "workload.arrivals.steps", rates, "at least one rate above 0")
        if is_own(arrivals):
            return own_arrivals(arrivals, 1, 0, "rate", folder=self.folder, where=self.where).rate_per_s
        if isinstance(arrivals, Trace):
            return replay(arrivals, 1, folder=self.folder).rate_per_s
        return arrivals.rate_per_s if isinstance(arrivals, (Poisson, Renewal, Even)) else math.nan

    def until(self, k: int, at_s: float) -> float:
        """Requests that a process sends before a moment, in the mean; NaN where that follows from the run."""
        arrivals, changing = self.streams[k].arrivals, self.clocks[k]
        if isinstance(arrivals, Trace) and not is_own(arrivals):
            count = come(arrivals, at_s, self.folder)
            return min(count, len(recorded(arrivals, self.folder).arrival_s)) if self.once else count
        return self.rates[k] * at_s if changing is None else changing.expected(at_s)

    def seconds(self, requests: int) -> float:
        """When so many are expected of all processes together.

        Raises:
            InputError: rates that shrink so that so many never come.
        """
        if len(self.streams) == 1 and (one := self.clocks[0]) is not None:
            found = float(one.moments(np.array([float(requests)]))[0])
            return found if math.isfinite(found) else self.never(requests)
        if all(changing is None and not self._recorded(k) for k, changing in enumerate(self.clocks)):
            return requests / sum(self.rates)
        low, high = 0.0, 1.0
        while self._all(high) < requests:
            low, high = high, 2 * high
            if high > 1e18:
                self.never(requests)
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if self._all(middle) < requests else (low, middle)
        return high

    def _recorded(self, k: int) -> bool:
        arrivals = self.streams[k].arrivals
        return isinstance(arrivals, Trace) and not is_own(arrivals)

    def _all(self, at_s: float) -> float:
        return sum(self.until(k, at_s) for k in range(len(self.streams)))

    def never(self, requests: int) -> float:
        """Say that so many do not come."""
        raise InputError(self.where, "workload.requests", requests, "fewer: at these rates so many never come")

    def goes_on(self, at_s: float) -> tuple[float, ...]:
        """Mean rate of each process over the day, or the week, that follows a moment."""
        return tuple(
            rate if changing is None else rate * math.exp(min(changing.growth_per_s * at_s, 700.0))
            for rate, changing in zip(self.rates, self.clocks, strict=True)
        )


def seconds_of_run(workload: Workload, folder: Path) -> float | None:
    """Seconds that a run lasts where a duration is asked for; ``None`` where a number of requests is.

    ``whole trace`` lasts until the last row of the longest trace.
    """
    if workload.duration != WHOLE_TRACE:
        return workload.duration_s
    return max(last_of(one, folder) for one in workload.processes if isinstance(one, Trace))


def last_of(trace: Trace, folder: Path) -> float:
    """When the last row of a trace comes, played once."""
    rows = len(recorded(trace, folder).arrival_s)
    return float(replay(trace, rows, folder=folder).arrival_s[-1])


def shares(workload: Workload, folder: Path, where: str) -> F64:
    """(S,) part of the requests of a run that each source is expected to send; NaN where it follows from the run, as of users who
    send when they are answered while others do when they like.

    Raises:
        InputError: a trace that cannot be read.
    """
    streams, sources = workload.streams, list(workload.sources.values())
    within = np.array([source.weight for source in sources])
    if len(streams) == 1:
        return np.asarray(within / within.sum())
    if workload.has_users:
        return np.full(len(sources), np.nan)
    expected = Expected(workload, folder, where, once=workload.duration == WHOLE_TRACE)
    at_s = seconds_of_run(workload, folder)
    if at_s is None:
        at_s = expected.seconds(workload.requests or 1)
    elif workload.duration == WHOLE_TRACE:
        at_s = float(np.nextafter(at_s, np.inf))
    found = np.zeros(len(sources))
    for k, stream in enumerate(streams):
        part = within[list(stream.sources)]
        found[list(stream.sources)] = part / part.sum() * expected.until(k, at_s)
    return np.asarray(found / found.sum())


def check_few_enough(expected: float, workload: Workload, where: str) -> None:
    """See that a run has no more requests than can be simulated, before memory is taken for them.

    Raises:
        InputError: it has.
    """
    if expected > MOST_REQUESTS:
        come = f"about {expected:,.3g} requests" if math.isfinite(expected) else "more requests than can be counted"
        said = f"a shorter one, or lower rates: {come} come in it, and a run has at most {MOST_REQUESTS:,}"
        raise InputError(where, "workload.duration", workload.duration, said)
    check_memory(expected, workload, where)


LEAST_BYTES = 500.0
"""That a simulated request takes, whatever it is: a day of a million of single stages takes twice as many."""


def check_memory(requests: float, workload: Workload, where: str) -> None:
    """See that there is memory for the records of so many requests, which the system would otherwise end the process for.

    Raises:
        InputError: there is not.
    """
    needed, left = LEAST_BYTES * requests, available_bytes()
    if needed > left:
        field, value = ("duration", workload.duration) if workload.requests is None else ("requests", workload.requests)
        less = "a shorter one" if workload.requests is None else "fewer"
        said = f"{less}: {requests:,.3g} requests take {needed / 1e9:.3g} GB of memory at least, and {left / 1e9:.3g} GB are free"
        raise InputError(where, f"workload.{field}", value, said)


__all__ = [
    "Expected",
    "check_few_enough",
    "check_memory",
    "is_own",
    "last_of",
    "named_as",
    "named_as_begun",
    "seconds_of_run",
    "shares",
]
