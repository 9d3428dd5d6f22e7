"""Accuracy of sessions, with intervals for other instances like those that agents were run at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import percent
from ttc_sim.base.intervals import Variance
from ttc_sim.base.small_numbers import distinct
from ttc_sim.engine.work import COMPLETED
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.session_outcomes import first_requests, instances_of, lost_sessions, missing, of_sessions

Bools = NDArray[np.bool_]
_BATCHES = 20  # of whole sessions, where runs are too few to say how they differ
_FEW_RUNS = 3


@dataclass(frozen=True)
class SessionAccuracy:
    """What stands behind the accuracy of sessions. Shares are of the sessions that it is of.

    Attributes:
        sessions: that were over within a run, in the mean of the runs; instances: that they may be at.
        unfinished_share: of all sessions, those that were not over when the run ended, of which nothing is said.
        lost_share: a turn of which was not answered, cut short, or never sent as a budget had ended them: they count as not right.
        several_arms_share: that more than one arm answered: they count as runs of the last one's agent.
        measured_usd: what the measured runs that they stand for cost, in the mean; ``None`` where that is not known of all.
    """

    sessions: float
    instances: int
    unfinished_share: float
    lost_share: float
    several_arms_share: float
    measured_usd: Estimate | None


class Ended:
    """The sessions of all runs that were over within them, one after another.

    Attributes:
        at: (S,) position of each one's last request, among those of all runs; run: (S,) its run; session: (S,) its number there.
        instance: (S,) that it is at; cluster: (S,) what is resampled with it.
        usd: (S,) of the measured run that it stands for, NaN where that is unknown.
        lost: (S,) whether a turn of it was lost or cut short; several: (S,) whether several arms answered it.
        begun: sessions that began, over or not; runs: how many; instances: keys of those that sessions may be at.
    """

    def __init__(self, model: Model, runs: Sequence[Run]) -> None:
        assert model.instances is not None
        found = [_ended(model, run) for run in runs]
        first = np.cumsum([0, *(len(run.arm) for run in runs)])
        self.at = np.concatenate([one.at + start for one, start in zip(found, first, strict=False)])
        self.run = np.repeat(np.arange(len(runs)), [len(one.at) for one in found])
        self.session = np.concatenate([one.session for one in found])
        self.instances = model.instances.instance
        self.instance = np.concatenate([one.instance for one in found])
        self.cluster = model.instances.cluster[self.instance]
        self.usd = np.concatenate([one.usd for one in found])
        self.lost = np.concatenate([one.lost for one in found])
        self.several = np.concatenate([one.several for one in found])
        self.begun = sum(one.begun for one in found)
        self.runs = len(runs)

    def __len__(self) -> int:
        return len(self.at)

    def mean(self, values: F64, of: Bools, *, share: bool) -> Estimate:
        """Mean of something of some sessions (at least one), for other instances like these, and other runs."""
        at = np.flatnonzero(of)
        kept, n = values[at], len(at)
        value = float(kept.mean())
        influence = (kept - value) / n
        scale = float(np.sqrt(max(value * (1 - value), 0.0))) if share else abs(value)
        variance = self.variance(influence, at, scale, share=share)
        if not share:
            return intervals.mean(value, variance)
        return intervals.share(value, variance, distinct(self.cluster[at]))

    def variance(self, influence: F64, at: I64, scale: float, *, share: bool) -> Variance:
        """Of a mean over the sessions ``at``, by what each adds to its deviation."""
        return _variance(influence, self.run[at], self.runs, self.cluster[at], scale, share=share)


def _variance(influence: F64, run: I64, runs: int, cluster: I64, scale: float, *, share: bool) -> Variance:
    """Of a mean over sessions, by what each adds to its deviation: between runs, and between instances."""
    if runs < _FEW_RUNS:
        runs = min(_BATCHES * runs, len(influence))
        run = np.arange(len(influence)) * runs // len(influence)
    by_chance = Variance(scale**2) if runs < 2 else intervals.of_runs(influence, run, runs)
    # Sums over an instance's sessions vary by the sessions too, which is already in the variance between runs.
    own = float(influence @ influence)
    return by_chance.plus(intervals.of_units(influence, cluster, scale=scale, own=own, one_more=share))


@dataclass(frozen=True)
class _OfRun:
    at: I64
    session: I64
    instance: I64
    usd: F64
    lost: Bools
    several: Bools
    begun: int


def _ended(model: Model, run: Run) -> _OfRun:
    traffic = run.draws.traffic
    assert traffic.session is not None
    assert traffic.ends is not None
    at = np.flatnonzero(traffic.ends)
    session, which = traffic.session, traffic.session[at]
    lost = lost_sessions(session, *missing(run.draws, (run.result.status != COMPLETED) | (run.cut_off == 1.0)))[which]
    least, most = _extremes(session, run.answered_by)
    first = first_requests(session)
    instance = instances_of(model, run.draws, which)
    usd = np.full(len(at), np.nan)
    for index in np.flatnonzero(np.bincount(run.answered_by[at], minlength=len(model.arms))).tolist():
        runs, by = model.arms[index].runs, run.answered_by[at] == index
        if runs is not None:
            usd[by] = runs.usd[runs.picked(instance[by], of_sessions(run.draws, f"runs/{runs.name}", which[by]))]
    return _OfRun(at, which, instance, usd, lost, (least < most)[which], int((first >= 0).sum()))


def _extremes(session: I64, values: I64) -> tuple[I64, I64]:
    """(sessions,) the least and the greatest of some values of each one's requests."""
    count = int(session.max(initial=-1)) + 2
    least, most = np.full(count, np.iinfo(np.int64).max), np.full(count, -1, dtype=np.int64)
    np.minimum.at(least, session, values)
    np.maximum.at(most, session, values)
    return least[:-1], most[:-1]


def accuracy_of_sessions(ended: Ended, correct: F64, members: Bools) -> Estimate | None:
    """Share of some sessions that are right, with an interval; ``None`` where that is not known of all, or none has ended.

    Args:
        correct: (n,) of the last request of each session, of all runs; members: (n,) requests whose sessions they are.
    """
    of = members[ended.at]
    values = correct[ended.at]
    if not of.any() or np.isnan(values[of]).any():
        return None
    return ended.mean(values, of, share=True)


def difference_of_accuracy(before: tuple[Ended, F64], after: tuple[Ended, F64]) -> tuple[Variance, bool]:
    """Variance of the difference of two accuracies of sessions, and whether every session ended as right in both.

    Sessions of the same runs and numbers are the same ones, at the same instances, where both are drawn from the same of these.

    Args:
        before, after: sessions that have ended, and (n,) of the last request of each whether it was right.
    """
    (one, right), (other, right_after) = before, after
    first, second = right[one.at], right_after[other.at]
    scale = float(np.sqrt(max(first.mean() * (1 - first.mean()), second.mean() * (1 - second.mean()), 0.0)))
    influences = [(first - first.mean()) / len(first), (second - second.mean()) / len(second)]
    same = np.array_equal(one.instances, other.instances) and one.runs == other.runs
    if not same:
        sides = zip((one, other), influences, strict=True)
        parts = [side.variance(added, np.arange(len(side)), scale, share=True) for side, added in sides]
        return parts[0].plus(parts[1]), False
    numbers = max(int(one.session.max()), int(other.session.max())) + 1
    keys = [one.run * numbers + one.session, other.run * numbers + other.session]
    every, place = np.unique(np.concatenate(keys), return_inverse=True)
    influence = np.bincount(place, weights=np.concatenate([-influences[0], influences[1]]))
    cluster = np.empty(len(every), dtype=np.int64)
    cluster[place] = np.concatenate([one.cluster, other.cluster])
    alike = np.array_equal(keys[0], keys[1]) and np.array_equal(first, second)
    return _variance(
        np.asarray(influence, dtype=np.float64), every // numbers, one.runs, cluster, scale, share=True
    ), alike


def session_accuracy(ended: Ended, instances: int) -> SessionAccuracy | None:
    """What stands behind the accuracy of all sessions; ``None`` where none was over."""
    if not len(ended):
        return None
    everyone = np.ones(len(ended), dtype=np.bool_)
    usd = None if np.isnan(ended.usd).any() else ended.mean(ended.usd, everyone, share=False)
    return SessionAccuracy(
        sessions=len(ended) / ended.runs,
        instances=instances,
        unfinished_share=1.0 - len(ended) / ended.begun,
        lost_share=float(ended.lost.mean()),
        several_arms_share=float(ended.several.mean()),
        measured_usd=usd,
    )


def notes_on_sessions(model: Model, runs: Sequence[Run], found: SessionAccuracy | None, *, known: bool) -> list[str]:
    """What a reader must know of the accuracy of sessions, or of its lack."""
    if all(run.draws.traffic.session is None for run in runs) or model.population is not None:
        return []
    if model.instances is None:
        return [_NOTHING_KNOWN]
    if found is None:
        return ["no session was over within a run: how they end is unknown, a longer run says more"]
    if not known:  # of all; of a source it may be
        some = any(part.draws.source is not None for part in runs)
        return [_unknown_of(model, runs), *(_rests_on(found) if some else ())]
    return [
        f"accuracy is that of sessions, by their last answers: as measured runs at {found.instances:,} instances ended, one of "
        "them drawn for each session",
        *_rests_on(found),
    ]


def _rests_on(found: SessionAccuracy) -> list[str]:
    """What was left out of it, and what counts as it was not measured."""
    notes: list[str] = []
    if found.measured_usd is not None:
        notes.append(
            f"the measured runs that stand for the sessions cost ${found.measured_usd.value:.4g} each in the mean "
            f"({found.measured_usd.low:.4g} to {found.measured_usd.high:.4g}), whatever the simulated turns come to"
        )
    if found.unfinished_share > 0:
        notes.append(
            f"{percent(found.unfinished_share)} of the sessions were not over when the run ended: nothing is said of how they "
            "end, and long ones are among them more often than others"
        )
    if found.lost_share > 0:
        notes.append(
            f"{percent(found.lost_share)} of the sessions that were over had a turn that was not answered, was cut short by a "
            "cap, or was not sent as a policy had ended them: they count as not right"
        )
    if found.several_arms_share > 0:
        notes.append(
            f"{percent(found.several_arms_share)} of the sessions were answered by several arms: each counts as a run of the "
            "agent that gave its last answer, which no run has measured"
        )
    return notes


_NOTHING_KNOWN = (
    "accuracy of sessions is unknown: no arm has an agent profile, which says how measured runs at whole tasks ended "
    "(docs/session-accuracy.md)"
)


def _unknown_of(model: Model, runs: Sequence[Run]) -> str:
    """Whose answers nothing is known of, or that some requests are of no session."""
    if any((run.draws.traffic.session is None or (run.draws.traffic.session < 0).any()) for run in runs):
        return (
            "accuracy is unknown: some requests are turns of no session, and only of sessions it is known how they end"
        )
    last = {
        model.arms[a].name
        for run in runs
        for a in np.unique(run.answered_by[run.draws.traffic.ends]).tolist()
        if model.arms[a].runs is None
    }
    arms = f"arm{'s' if len(last) > 1 else ''} {', '.join(sorted(last))}"
    return f"accuracy of sessions is unknown: {arms} gave some of the last answers, and no agent profile says how such runs end"


__all__ = [
    "Ended",
    "SessionAccuracy",
    "accuracy_of_sessions",
    "difference_of_accuracy",
    "notes_on_sessions",
    "session_accuracy",
]
