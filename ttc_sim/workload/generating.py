"""One arrival process: the first of its requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ttc_sim.base.errors import InputError
from ttc_sim.scenario import Arrivals, Clients, ClosedLoop, Even, Piecewise, Poisson, Renewal, Sessions, Trace
from ttc_sim.workload.arrivals import closed_loop, even, piecewise, renewal, shaped
from ttc_sim.workload.checking import own_arrivals
from ttc_sim.workload.clients import mixture
from ttc_sim.workload.expected import is_own, named_as_begun
from ttc_sim.workload.sessions import first_turns
from ttc_sim.workload.traces import replay
from ttc_sim.workload.traffic import Traffic


def generate(
    arrivals: Arrivals,
    requests: int,
    seed: int,
    *,
    folder: Path,
    where: str,
    run: str = "0",
) -> Traffic:
    """Generate the first ``requests`` arrivals of a process.

    Args:
        arrivals: the process as the scenario has it.
        requests: how many, at least 1.
        seed: of the draws; run: label of the independent run.
        folder: where relative trace files start; where: the file that errors name.

    Raises:
        InputError: a rate that shrinks so that so many never come, a trace that cannot be read, an unknown traffic profile, rates
            that are all zero, fewer requests than users of a closed loop, or a process of a user's own that failed or returned
            something else.

    >>> from ttc_sim.scenario import Poisson
    >>> traffic = generate(Poisson(process="poisson", rate_per_s=2.0), 5, 1, folder=Path(), where="doc")
    >>> len(traffic.arrival_s)
    5
    """
    made = first_of(arrivals, requests, seed, folder=folder, where=where, run=run)
    if np.isinf(made.arrival_s).any():
        most = int(np.isinf(made.arrival_s).argmax())
        said = f"at most {most:,}: with this growth_per_week no more ever come"
        raise InputError(where, "workload.requests", requests, said)
    return made


def first_of(arrivals: Arrivals, requests: int, seed: int, *, folder: Path, where: str, run: str) -> Traffic:
    """As :func:`generate`, but that requests which never come arrive at infinity."""
    if is_own(arrivals):
        return own_arrivals(arrivals, requests, seed, run, folder=folder, where=where)
    if isinstance(arrivals, (Poisson, Renewal, Even)) and arrivals.shape is not None:
        return shaped(arrivals, arrivals.shape, requests, seed, run)
    if isinstance(arrivals, Poisson):
        return renewal("gamma", arrivals.rate_per_s, 1.0, requests, seed, run)
    if isinstance(arrivals, Renewal):
        return renewal(arrivals.process, arrivals.rate_per_s, arrivals.cv, requests, seed, run)
    if isinstance(arrivals, Even):
        return even(arrivals.rate_per_s, requests)
    if isinstance(arrivals, Piecewise):
        return piecewise(arrivals, requests, seed, run, where=where)
    if isinstance(arrivals, ClosedLoop):
        return closed_loop(arrivals, requests, seed, run, where=where)
    if isinstance(arrivals, Clients):
        return mixture(arrivals, requests, seed, run, folder=folder)
    if isinstance(arrivals, Sessions):

        def begin(sessions: int) -> Traffic:
            if isinstance(arrivals.starts, ClosedLoop) and sessions < arrivals.starts.users:
                expected = f"at most {sessions:,}: so many sessions have the {requests:,} requests of a run, and every user begins "
                expected += "one"
                raise InputError(where, "workload.arrivals.starts.users", arrivals.starts.users, expected)
            with named_as_begun():
                return first_of(arrivals.starts, sessions, seed, folder=folder, where=where, run=run)

        return first_turns(arrivals, requests, seed, run, folder=folder, where=where, begin=begin)
    assert isinstance(arrivals, Trace)
    return replay(arrivals, requests, folder=folder)
