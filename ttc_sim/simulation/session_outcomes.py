"""How sessions end: each is at an instance, and as right as a measured run there by the agent that gave its last answer.

What an agent makes of an instance was measured over whole runs, so nothing is known of single turns, and a session that several
arms answered counts as the last one's. A session of which a turn was lost, or cut short by a cap, or that a policy ended, has no
answer that was measured: it counts as not right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.model import Model

Bools = NDArray[np.bool_]


def first_requests(session: I64) -> I64:
    """(sessions,) the first request of each session, by number; -1 of one that has none here."""
    first = np.full(int(session.max(initial=-1)) + 2, -1, dtype=np.int64)
    first[session[::-1]] = np.arange(len(session))[::-1]
    return first[:-1]  # what is of no session stands at the end


def instances_of(model: Model, draws: Draws, which: I64) -> I64:
    """(m,) the instance that some sessions are at: drawn uniformly, and the same whatever arms they are sent to."""
    assert model.instances is not None
    count = len(model.instances)
    return np.minimum((of_sessions(draws, "instance", which) * count).astype(np.int64), count - 1)


def of_sessions(draws: Draws, stream: str, which: I64) -> F64:
    """(m,) a number of a stream for some sessions: that of each one's first request, which is there however long a run is."""
    assert draws.traffic.session is not None
    return np.asarray(draws.uniform(stream)[first_requests(draws.traffic.session)[which], 0])


def lost_sessions(session: I64, *turns: Bools) -> Bools:
    """(sessions,) whether any turn of each is among some."""
    found = np.zeros(int(session.max(initial=-1)) + 2, dtype=np.bool_)
    for one in turns:
        found[session[one]] = True
    return found[:-1]


def missing(draws: Draws, lost: Bools) -> tuple[Bools, ...]:
    """(n,) turns for want of which a session has no answer: lost ones, and the last before a policy ended it."""
    return (lost,) if draws.stopped is None else (lost, draws.stopped)


def outcomes(model: Model, draws: Draws, answered_by: I64, lost: Bools) -> F64:
    """Whether sessions are right, at the last request of each.

    Args:
        answered_by: (n,) arm that answers each request; lost: (n,) those whose answer is lost, or cut short.

    Returns:
        (n,) 1.0 or 0.0 at the last request of a session; NaN at all others, where the arm that gives the last answer has no agent
        profile, and of sessions that go on after the run.
    """
    traffic = draws.traffic
    found = np.full(len(draws), np.nan)
    if traffic.session is None or traffic.ends is None:
        return found
    at = np.flatnonzero(traffic.ends)
    which = traffic.session[at]
    broken = lost_sessions(traffic.session, *missing(draws, lost))[which]
    instance = instances_of(model, draws, which)
    for index, arm in enumerate(model.arms):
        by = answered_by[at] == index
        if arm.runs is None or not by.any():
            continue
        u = of_sessions(draws, f"runs/{arm.runs.name}", which[by])
        right = arm.runs.correct[arm.runs.picked(instance[by], u)] & ~broken[by]
        found[at[by]] = right.astype(np.float64)
    return found


__all__ = ["first_requests", "instances_of", "lost_sessions", "missing", "of_sessions", "outcomes"]
