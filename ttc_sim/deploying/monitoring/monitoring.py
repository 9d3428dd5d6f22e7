"""``ttc.monitor``: did a plan at work keep its promise, what broke, and what would planning anew save?"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from ttc_sim.base.arguments import finite, location
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Step, Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.base.times import DAY_S
from ttc_sim.deploying.decisions import PLAN_DIGITS
from ttc_sim.deploying.logs import STATUSES, Logs, read_logs
from ttc_sim.deploying.monitoring.causes import find_causes
from ttc_sim.deploying.monitoring.found import Monitored, Period
from ttc_sim.deploying.monitoring.keeping import Clock, all_asked, judge, seconds_open
from ttc_sim.deploying.monitoring.moved import compared
from ttc_sim.deploying.monitoring.plainly import by_arm, by_source, plainly
from ttc_sim.deploying.monitoring.reference import as_planned, longest_wait_s
from ttc_sim.deploying.monitoring.replanning import Replanned, replanned
from ttc_sim.deploying.monitoring.scores import scores_read
from ttc_sim.deploying.monitoring.served import COMPLETED, FAILED, REJECTED, TIMED_OUT, Served
from ttc_sim.deploying.monitoring.todays import as_it_is
from ttc_sim.optimizer.plan import Plan, SavedPlan, load_plan
from ttc_sim.predictor.judging.drift import FEWEST

_BLOCKS = 24  # of a period: an hour of a day
_SHORTEST_S = 60.0
_MOST_PERIODS = 4000
_CODES = {"answered": COMPLETED, "timed_out": TIMED_OUT, "rejected": REJECTED, "failed": FAILED}


@shows_progress()
@one_thread()
def monitor(
    plan: str | Path | Plan | SavedPlan,
    logs: str | Path | Sequence[str | Path],
    *,
    since: str | datetime.date | None = None,
    until: str | datetime.date | None = None,
    every: float = DAY_S,
    replan: bool = True,
    other_plan: bool = False,
    progress: Telling = None,
    allow_code: AllowCode = False,
) -> Monitored:
    """Put what a plan came to at work beside what it promised.

    Verdicts may be looked at as often as one likes: over all figures and all looks together, the chance that any is said to be
    broken where all are kept is at most 5% (:mod:`ttc_sim.deploying.monitoring.sequences` says on what assumptions).

    Args:
        plan: its file, as the decisions name it by its content; or a plan, for logs of which no matter what file it had.
        logs: files of decisions, outcomes and grades, in any order.
        since, until: first and last day to look at, such as ``"2026-11-26"``, of UTC; all if left out.
        every: seconds of a period, at least 60: a look is taken at the end of each, and blocks that are taken to be independent
            are a 24th of it.
        replan: whether to say what planning anew would save, which takes as long as planning does.
        other_plan: take decisions of other plans too, as long as they have the same arms and sources.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        allow_code: as for :func:`ttc_sim.load_plan`.

    Raises:
        InputError: no plan, no decision of it in the logs or none in those days, or a line that says what cannot be.

    >>> found = monitor("plan.yaml", "november.jsonl")  # doctest: +SKIP
    >>> found.broken  # doctest: +SKIP
    ('cost_usd_per_request',)
    """
    say = telling("monitor", progress)
    if not (finite(every) and every >= _SHORTEST_S):
        raise InputError("monitor", "every", every, f"seconds, at least {_SHORTEST_S:.0f}")
    if not isinstance(logs, (str, Path)) and not (isinstance(logs, (list, tuple)) and logs):
        raise InputError("monitor", "logs", logs, "files of log lines, one at least")
    saved, digest = _plan(plan, allow_code)
    begins, ends = _days(since, until)
    say(Step("reading the logs"))
    read = read_logs(logs, saved, digest=None if other_plan else digest)
    say(Step("carrying the plan out in simulation, as it was planned"))
    planned = as_planned(saved)
    whole, notes = _served(read, begins, ends, longest_wait_s(planned.model))
    read_by_policy = scores_read(saved.scenario, whole.sources, whole.scores)
    whole = replace(whole, scores={name: one for name, one in whole.scores.items() if name in read_by_policy})
    if len(whole) == 0:
        expected = "a decision whose end is known" + (" in those days" if since or until else "")
        raise InputError("monitor", "logs", "none", expected)
    clock, edges_s = _clock(whole, float(every), planned.standing_usd_per_s)
    notes += (
        [f"times without any request that are longer than {every:g} s: {len(clock.idle_s):,}, taken to be not logged"]
        if clock.idle_s
        else []
    )
    asked = all_asked(saved.promised, saved.scenario)
    if any(
        target.every_hour for target in (saved.scenario.targets.asked() if saved.scenario.targets is not None else ())
    ):
        notes.append("targets that must hold in every hour are judged over all hours together")
    say(Step("promises and targets"))
    judged = judge(whole, asked, saved.scenario, clock)
    seconds = seconds_open(whole, clock)
    promised = {name: figure.value for name, figure in saved.promised.items()}
    say(Step("which assumption broke"))
    causes = find_causes(whole, planned, promised, clock.block_s, seconds)
    moved = compared(whole, planned, edges_s, clock.block_s)
    rate_per_s = len(whole) / seconds if seconds > 0 else 0.0
    today = as_it_is(whole, planned, rate_per_s) if rate_per_s > 0 and len(whole) >= FEWEST else None
    anew: Replanned | str = "not asked for"
    if replan:
        anew = replanned(saved.scenario, whole, planned, today, say)
    return Monitored(
        name=saved.scenario.name,
        from_s=float(whole.at_s[0]),
        to_s=float(whole.at_s[-1]),
        every_s=float(every),
        block_s=clock.block_s,
        judged=judged,
        realized=plainly(whole),
        planned=plainly(planned.served),
        sources=(by_source(whole), by_source(planned.served)),
        arms=(by_arm(whole), by_arm(planned.served)),
        standing_usd_per_request=(
            planned.standing_usd_per_s / rate_per_s if rate_per_s else math.nan,
            planned.standing_usd_per_request,
        ),
        rates_per_s=(rate_per_s, planned.rate_per_s),
        periods=_periods(whole, clock, edges_s),
        causes=causes,
        moved=moved,
        differs=() if today is None else today.said,
        replanned=anew,
        counts=read.counts,
        notes=(*saved.notes, *read.counts.notes, *notes, *_of_grades(whole)),
    )


def _plan(plan: object, allow_code: AllowCode) -> tuple[SavedPlan, str | None]:
    """A plan, and the digits that its decisions are logged with."""
    if isinstance(plan, (Plan, SavedPlan)):
        return plan.saved() if isinstance(plan, Plan) else plan, None
    path = location("monitor", "plan", plan, "a plan's file")
    saved = load_plan(path, allow_code=allow_code)
    assert saved.sha256 is not None  # it was read from a file
    return saved, saved.sha256[:PLAN_DIGITS]


def _days(since: object, until: object) -> tuple[float, float]:
    """Seconds since 1970 that the days begin at, and that the last one ends at."""
    first, last = (_day(name, value) for name, value in (("since", since), ("until", until)))
    if first is not None and last is not None and first > last:
        raise InputError("monitor", "until", str(last), f"a day that is not before {first}")
    begins = -math.inf if first is None else _seconds(first)
    return begins, math.inf if last is None else _seconds(last) + DAY_S


def _day(name: str, value: object) -> datetime.date | None:
    if value is None:
        return None
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    try:
        return datetime.date.fromisoformat(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise InputError("monitor", name, value, "a day such as 2026-11-26") from None


def _seconds(day: datetime.date) -> float:
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp()


def _served(logs: Logs, begins: float, ends: float, wait_s: float) -> tuple[Served, list[str]]:
    """Requests of those days whose end is known, and a word on the others."""
    here = (logs.at >= begins) & (logs.at < ends)
    last = max(float(logs.at.max()), float(np.nanmax(logs.ended_at)) if logs.has_outcome.any() else -math.inf)
    unknown = here & ~logs.has_outcome
    lost = int((unknown & (logs.at < last - wait_s)).sum())
    still = int(unknown.sum()) - lost
    notes = []
    if still:
        notes.append(f"requests that were still on their way when the log ended: {still:,}, in no figure")
    if lost:
        notes.append(
            f"requests without an outcome though {wait_s:,.0f} s have passed, after which every client has given up: {lost:,}, "
            "lost and in no figure"
        )
    if early := int((here & logs.has_outcome & (logs.ended_at < logs.at - 1.0)).sum()):
        notes.append(f"{early:,} outcomes stand before their decisions: clocks differ")
    codes = np.array([_CODES[name] for name in STATUSES])
    keep = np.flatnonzero(here & logs.has_outcome)
    nothing = np.full(len(keep), np.nan)
    served = Served(
        at_s=logs.at[keep],
        sources=logs.sources,
        arms=logs.arms,
        source=logs.source[keep],
        arm=logs.arm[keep],
        answered_by=logs.answered_by[keep],
        status=codes[logs.status[keep]].astype(np.int64),
        latency_s=logs.latency_s[keep],
        first_token_s=logs.first_token_s[keep],
        calls=logs.calls[keep],
        prompt=logs.read_tokens[keep],
        cached=logs.cached_tokens[keep],
        reasoning=logs.reasoning_tokens[keep],
        visible=logs.visible_tokens[keep],
        usd=logs.usd[keep],
        correct=logs.correct[keep],
        told=logs.prompt_tokens[keep].astype(np.float64),
        scores={name: values[keep] for name, values in logs.scores.items()},
        chance=logs.predicted.get("chance", nothing)[keep] if "chance" in logs.predicted else nothing,
        problem=np.full(len(keep), -1),
    )
    explored = int((logs.propensity[keep] < 1).sum())
    if explored:
        notes.append(
            f"{explored:,} requests were chosen for among several arms, to try some: they count like all others"
        )
    return served, notes


def _clock(served: Served, every_s: float, standing_usd_per_s: float) -> tuple[Clock, tuple[float, ...]]:
    """When is looked, and where periods begin and end."""
    first, last = float(served.at_s[0]), float(served.at_s[-1])
    begins = math.floor(first / every_s)
    count = math.floor(last / every_s) - begins + 1
    if count > _MOST_PERIODS:
        raise InputError(
            "monitor", "every", every_s, f"longer periods: at most {_MOST_PERIODS:,}, where these make {count:,}"
        )
    edges = tuple((begins + k) * every_s for k in range(count + 1))
    looks = (*edges[1:-1], last)
    gaps = np.flatnonzero(np.diff(served.at_s) > every_s)
    idle = tuple((float(served.at_s[k]), float(served.at_s[k + 1])) for k in gaps.tolist())
    return Clock(looks, every_s / _BLOCKS, standing_usd_per_s, idle), edges


def _periods(served: Served, clock: Clock, edges_s: tuple[float, ...]) -> tuple[Period, ...]:
    found = []
    for begins, ends in pairwise(edges_s):
        here = served.taken((served.at_s >= begins) & (served.at_s < ends))
        if not len(here):
            continue
        whole = served.at_s[0] < begins + clock.block_s and served.at_s[-1] >= ends - clock.block_s
        seconds = ends - begins if whole else seconds_open(here, clock)
        standing = clock.standing_usd_per_s * seconds / len(here)
        found.append(Period(begins, ends, plainly(here), standing, not whole))
    return tuple(found)


def _of_grades(served: Served) -> list[str]:
    """How many answers are graded, and whether those are like the others."""
    answered, graded = served.answered, served.graded
    n, of = int(graded.sum()), int(answered.sum())
    if not n or n == of:
        return []
    said = f"{n:,} of {of:,} answers are graded ({n / of:.1%}): accuracy is of those"
    chance = served.chance
    both = ~np.isnan(chance) & answered
    if (both & graded).sum() >= 2 and (both & ~graded).sum() >= 2:
        ours, others = chance[both & graded], chance[both & ~graded]
        error = math.sqrt(float(ours.var()) / len(ours) + float(others.var()) / len(others))
        apart = float(ours.mean() - others.mean())
        if abs(apart) > 3 * error:
            how = "easier" if apart > 0 else "harder"
            return [
                f"{said}, which were expected to be {how}: right with a chance of {ours.mean():.1%}, and of {others.mean():.1%} "
                "those without a grade; see 'which were graded' among the parts"
            ]
        return [f"{said}, which were expected to be as hard as the others ({ours.mean():.1%} and {others.mean():.1%})"]
    return [f"{said}; nothing tells whether these are like the others"]


__all__ = ["monitor"]
