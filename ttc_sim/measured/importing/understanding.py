"""What the numbers of a log mean, decided from all of its calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Progress, Step
from ttc_sim.measured.dates import Order
from ttc_sim.measured.importing.audit import Audit
from ttc_sim.measured.importing.call import OUTPUT_ESTIMATED, PROMPT_ESTIMATED, REASONING_ESTIMATED
from ttc_sim.measured.importing.counts import understand_counts
from ttc_sim.measured.importing.duplicates import written_twice
from ttc_sim.measured.importing.importer import Importer, Place
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.outcomes import Graded, graded
from ttc_sim.measured.importing.reading import Sample, decimal_mark
from ttc_sim.measured.importing.settling import settled
from ttc_sim.measured.importing.spool import Spool
from ttc_sim.measured.importing.suspicion import look_for_limits, look_for_made_up
from ttc_sim.measured.importing.times import Times, Unit, understand_times
from ttc_sim.measured.importing.traffic import Arrivals

_NAMED = 100  # models and sources in the audit


@dataclass(frozen=True)
class Answers:
    """What somebody who knows the log says of it, where it does not say so itself; ``None`` leaves it to the evidence.

    Attributes:
        reasoning: whether reasoning tokens are ``inside`` the output or ``outside``; cached: the same of cached and prompt tokens.
        time_unit: of times that are numbers; dates: order of day and month.
        correct_from: score from which on an answer counts as right.
    """

    reasoning: Place | None = None
    cached: Place | None = None
    time_unit: Unit | None = None
    dates: Order | None = None
    correct_from: float | None = None


@dataclass(frozen=True)
class Tables:
    """What is to be written of a log.

    Attributes:
        arrivals: of all requests; timed: whether the log says when they came.
        known: columns of requests that are known of some; outcome: problems and attempts, if answers are graded.
    """

    arrivals: Arrivals
    timed: bool
    known: tuple[str, ...]
    outcome: Graded | None


def understand(
    logs: list[tuple[LogFile, Sample]],
    importer: Importer,
    spool: Spool,
    audit: Audit,
    answers: Answers,
    progress: Progress,
) -> Tables:
    """Decide from all calls what their numbers mean, write that down in the audit, and leave parts as they will be written.

    Raises:
        InputError: nothing that can be used, or what only somebody who knows the log can tell.
    """
    where = str(logs[0][0].path)
    if not spool.parts:
        raise InputError(where, "log", "no call in it", f"{importer.title} with at least one row")
    progress(Step("understanding what was read"))
    every = spool.lazy()
    _count_read(every, logs, audit)
    kept = every.filter(pl.col("left_out").is_null())
    if not audit.read - sum(one.rows for one in audit.left_out.values()):
        reason, first = next(iter(audit.left_out.items()))
        raise InputError(
            where,
            first.first.partition(":")[0] or "row 1",
            f"no row that can be used of {audit.read:,}",
            f"{importer.title}; first: {reason}",
        )
    counts, said = understand_counts(kept, importer, reasoning=answers.reasoning, cached=answers.cached)
    _check_used(said, answers)
    audit.understood += said
    times, said = understand_times(
        kept,
        importer.title,
        importer.unit(logs[0][1]),
        unit=answers.time_unit,
        order=answers.dates,
        decimal=decimal_mark(logs[0][1]),
        where=where,
    )
    audit.understood += said
    twice = written_twice(kept, times, audit)
    limits = look_for_limits(kept)
    audit.made_up += look_for_made_up(kept)
    arrivals, known, found = settled(spool, counts, times, twice, limits, audit, progress)
    outcome = graded(found, audit, where, answers.correct_from, keyed=importer.keyed) if len(found) else None
    if answers.correct_from is not None and outcome is None:
        raise InputError("--correct-from", "score", answers.correct_from, "nothing: no row of this log has a grade")
    if not len(arrivals) and outcome is None:
        raise InputError(
            where,
            "log",
            _why_nothing(audit, times),
            "rows with times and token counts, or graded ones; a table of lengths alone can be `workload.lengths` of a scenario",
        )
    if outcome is not None and len(arrivals):
        audit.notes.append(
            "graded rows that have a time are traffic as well: leave it out of a scenario if they are no users' requests"
        )
    if outcome is None and not audit.answered:
        raise InputError(where, "log", f"no answer in {audit.read:,} rows", "at least one request that was answered")
    if not times.there:
        also = "; lengths.parquet has the requests without them, for `lengths` of a workload" if len(arrivals) else ""
        audit.notes.append(f"no times: no traffic is written, and arrivals are to be said in the scenario{also}")
    return Tables(arrivals, times.there, known, outcome)


def _check_used(said: Sequence[Any], answers: Answers) -> None:
    for option, what, value in (
        ("--reasoning", "reasoning tokens", answers.reasoning),
        ("--cached", "cached tokens", answers.cached),
    ):
        if value is not None and not any(one.what == what for one in said):
            raise InputError(
                option, "where they stand", value, f"nothing: no row has {what} beside a count of what may hold them"
            )


def _why_nothing(audit: Audit, times: Times) -> str:
    if audit.left_out:
        reason = max(audit.left_out, key=lambda one: audit.left_out[one].rows)
        return f"{audit.left_out[reason].rows:,} of {audit.read:,} rows left out: {reason}"
    return f"{audit.read:,} rows without {'a grade' if times.there else 'times or grades'}"


def _count_read(every: pl.LazyFrame, logs: list[tuple[LogFile, Sample]], audit: Audit) -> None:
    by_file = dict(every.group_by("file").len().collect(engine="streaming").iter_rows())
    audit.files = [
        {"name": log.path.name, "bytes": log.size, "rows": by_file.get(number, 0)}
        for number, (log, _) in enumerate(logs)
    ]
    audit.read = sum(by_file.values())
    reasons = (
        every.filter(pl.col("left_out").is_not_null())
        .group_by("left_out")
        .agg(
            pl.len().alias("rows"),
            pl.col("row").min(),
            pl.coalesce("said", "label").sort_by("file", "row").first().alias("said"),
        )
        .sort("rows", "left_out", descending=[True, False])
        .collect(engine="streaming")
    )
    for one in reasons.iter_rows(named=True):
        audit.leave_out(one["left_out"], one["rows"], f"row {one['row']}" + (f": {one['said']}" if one["said"] else ""))
    for role, named in (("model", audit.models), ("source", audit.sources)):
        kinds = (
            every.filter(pl.col(role).is_not_null()).group_by(role).len().sort("len", role, descending=[True, False])
        )
        named.update(kinds.head(_NAMED).collect(engine="streaming").iter_rows())
    for bit, what in ((PROMPT_ESTIMATED, "prompt"), (OUTPUT_ESTIMATED, "output"), (REASONING_ESTIMATED, "reasoning")):
        rows = int(
            every.select(((pl.col("estimated").fill_null(0) & bit) > 0).sum()).collect(engine="streaming").item()
        )
        if rows:
            audit.notes.append(
                f"{what} tokens of {rows:,} rows are estimated from their text: the log does not count them"
            )


__all__ = ["Answers", "Tables", "understand"]
