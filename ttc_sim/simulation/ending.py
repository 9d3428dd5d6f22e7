"""What is sent of what is drawn: turns are not, as their session has come to its end, and summaries are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ttc_sim.policies import ENDED, Policy, ends_sessions
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.shortening import with_summaries
from ttc_sim.simulation.turn_lengths import chosen


def as_sent(model: Model, policy: Policy, draws: Draws) -> Draws:
    """The requests that are sent: with summaries where the policy has contexts made shorter, and without turns of sessions that it
    has ended, if it may."""
    return _without_ended(model, policy, with_summaries(model, policy, draws))


def _without_ended(model: Model, policy: Policy, draws: Draws) -> Draws:
    named = model.scenario.workload.sources if model.population is None else model.population.sources
    if not any(ends_sessions(policy.for_source(name)) for name in (*named, *(() if named else ("traffic",)))):
        return draws
    sent = chosen(model, policy, draws)[2] != ENDED
    if sent.all():
        return draws
    draws = replace(draws, traffic=draws.traffic.with_ends())
    return _stopped(draws.taken(np.flatnonzero(sent)), draws, sent)


def _stopped(kept: Draws, draws: Draws, sent: NDArray[np.bool_]) -> Draws:
    """The turns that are sent, the last ones of sessions that have been ended marked: these are over with them.

    As many sessions come a second as before, of fewer turns.
    """
    session, ends = kept.traffic.session, kept.traffic.ends
    assert draws.traffic.session is not None
    assert session is not None
    assert ends is not None
    last = np.full(int(draws.traffic.session.max()) + 2, -1, dtype=np.int64)  # what is of no session stands at the end
    last[session] = np.arange(len(session))
    at = last[np.unique(draws.traffic.session[~sent])]
    stopped = np.zeros(len(session), dtype=np.bool_)
    stopped[at[at >= 0]] = True
    share = float(sent.mean())
    traffic = replace(
        kept.traffic,
        ends=ends | stopped,
        rate_per_s=share * kept.traffic.rate_per_s,
        goes_on_per_s=tuple(share * rate_per_s for rate_per_s in kept.traffic.goes_on_per_s),
    )
    return replace(kept, traffic=traffic, ended=draws.ended + int((~sent).sum()), stopped=stopped)


def notes_of_ended(runs: Sequence[Run]) -> list[str]:
    """How many turns were not sent, if any were not."""
    ended = sum(run.draws.ended for run in runs)
    if not ended:
        return []
    of = ended + sum(len(run.draws) for run in runs)
    return [f"{ended:,} of {of:,} turns are not sent: their sessions have spent their budget before"]


__all__ = ["as_sent", "notes_of_ended"]
