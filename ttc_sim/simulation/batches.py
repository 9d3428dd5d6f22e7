"""Sessions as the units that a run is made of: which request belongs to which, and batches of whole ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.intervals import NONE, Variance
from ttc_sim.workload import Traffic


def sessions_of(traffics: Sequence[Traffic]) -> I64 | None:
    """(n,) number of the session of each request of all runs side by side, from 0 in order of their first turns; a request of none
    is one of its own. ``None`` without sessions.

    >>> from dataclasses import replace
    >>> four = replace(Traffic.of(np.zeros(4), 1.0), session=np.array([7, -1, 7, -1]))
    >>> sessions_of([four, four]).tolist()
    [0, 1, 0, 2, 3, 4, 3, 5]
    """
    if all(one.session is None for one in traffics):
        return None
    numbers, most = [], 0
    for one in traffics:
        n = len(one.arrival_s)
        session = np.full(n, -1, dtype=np.int64) if one.session is None else one.session
        alone = session < 0
        highest = int(session.max(initial=-1)) + 1
        numbers.append(most + np.where(alone, highest + np.cumsum(alone) - 1, session))
        most += highest + int(alone.sum())
    together = np.concatenate(numbers)
    _, first, which = np.unique(together, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[which], dtype=np.int64)


def recorded_of(traffics: Sequence[Traffic]) -> I64 | None:
    """(n,) number of the recorded session that each request of all runs was drawn from, -1 of none; ``None`` without any."""
    if all(one.recorded is None for one in traffics):
        return None
    return np.concatenate(
        [np.full(len(one.arrival_s), -1) if one.recorded is None else one.recorded for one in traffics]
    )


def between_recorded(influence: F64, recorded: I64, session: I64, scale: float) -> Variance:
    """Variance of a figure of sessions that were drawn from recorded ones, over other recorded ones like these.

    What sessions differ by is already in the variance between runs, or batches of them.

    Args:
        influence: (k,) what each request, or session, adds to the figure's deviation; recorded, session: (k,) of each.
        scale: what a single recorded session leaves uncertain.
    """
    known = recorded >= 0
    if not known.any():
        return NONE
    drawn = np.bincount(session[known], weights=influence[known])
    return intervals.of_units(influence[known], recorded[known], scale=scale, own=float(drawn @ drawn))


def in_batches(session: I64, groups: int) -> tuple[I64, int]:
    """Batches of whole sessions, of about as many requests each: (n,) the batch of each request, and how many there are.

    >>> in_batches(np.array([0, 0, 0, 1, 2, 2]), 2)
    (array([0, 0, 0, 1, 1, 1]), 2)
    """
    number = np.unique(session, return_inverse=True)[1]
    size = np.bincount(number)
    middle = np.cumsum(size) - size / 2
    _, batch = np.unique(np.floor(middle * groups / len(session)).astype(np.int64), return_inverse=True)
    return np.asarray(batch[number], dtype=np.int64), int(batch.max()) + 1


def dealt_whole(run: I64, session: I64, groups: int) -> tuple[I64, int]:
    """Of some requests as they are, unless they lie in few of the batches: then in batches of their own."""
    if 2 * np.count_nonzero(np.bincount(run, minlength=groups)) >= groups:
        return run, groups
    return in_batches(session, min(groups, len(run)))


__all__ = ["between_recorded", "dealt_whole", "in_batches", "recorded_of", "sessions_of"]
