"""Turns that are not sent, as their session has come to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ttc_sim.policies import ENDED, Policy, choose_arms, ends_sessions
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.drawing import Draws, as_requests
from ttc_sim.simulation.model import Model


def without_ended(model: Model, policy: Policy, draws: Draws) -> Draws:
    """The requests that are sent: without turns of sessions that the policy has ended, if it may."""
    named = model.scenario.workload.sources if model.population is None else model.population.sources
    if not any(ends_sessions(policy.for_source(name)) for name in (*named, *(() if named else ("traffic",)))):
        return draws
    sent = choose_arms(policy, as_requests(model, draws), model.arm_names) != ENDED
    if sent.all():
        return draws
    return replace(draws.taken(np.flatnonzero(sent)), ended=draws.ended + int((~sent).sum()))


def notes_of_ended(runs: Sequence[Run]) -> list[str]:
    """How many turns were not sent, if any were not."""
    ended = sum(run.draws.ended for run in runs)
    if not ended:
        return []
    of = ended + sum(len(run.draws) for run in runs)
    return [f"{ended:,} of {of:,} turns are not sent: their sessions have spent their budget before"]


__all__ = ["notes_of_ended", "without_ended"]
