"""Calls as requests, once it is known what their numbers mean: parts as they will be written, and the graded rows."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl

from ttc_sim.base.progress import Progress, counted
from ttc_sim.measured.importing.audit import Audit
from ttc_sim.measured.importing.counts import Counts, with_counts
from ttc_sim.measured.importing.spool import Spool, write_part
from ttc_sim.measured.importing.suspicion import Limits, limits_line, stopped_at
from ttc_sim.measured.importing.times import Times, with_times
from ttc_sim.measured.importing.traffic import ALWAYS, KIND, WHERE_KNOWN, Arrivals


def settled(
    spool: Spool,
    counts: Counts,
    times: Times,
    twice: pl.DataFrame,
    limits: Limits,
    audit: Audit,
    progress: Progress,
) -> tuple[Arrivals, tuple[str, ...], pl.DataFrame]:
    """Parts as they will be written: arrivals of all requests (NaN where there are no times), the columns that are known of some,
    and the graded rows."""
    arrivals = Arrivals()
    known: set[str] = set()
    found: list[pl.DataFrame] = []
    last, back, stopped, answered = -np.inf, 0, 0, 0
    for number in counted(range(spool.parts), progress, "understanding", "parts"):
        rows = pl.read_parquet(spool.part(number), glob=False).filter(pl.col("left_out").is_null())
        if len(twice):
            rows = rows.join(twice, on=["file", "row", "call"], how="anti", maintain_order="left")
        rows = with_times(with_counts(rows, counts), times)
        rows = _with_status(rows, times).with_columns(truncated=stopped_at(limits))
        scores = spool.part(number, "scores")
        if scores.is_file():
            predicted = pl.read_parquet(scores, glob=False)
            named = [name for name in ("difficulty", "novelty") if name in predicted.columns]
            rows = rows.join(predicted.select("text_hash", *named), on="text_hash", how="left", maintain_order="left")
        # Parts without a prompt have no scores, and all parts have the same columns.
        scored = {name: pl.col(name) if name in rows.columns else pl.lit(None) for name in ("difficulty", "novelty")}
        rows = rows.with_columns(**{name: value.cast(pl.Float64) for name, value in scored.items()})
        left = rows.filter(pl.col("left_out").is_not_null())
        for (why,), some in left.group_by("left_out", maintain_order=True):
            first = some.row(0, named=True)
            audit.leave_out(
                str(why), len(some), f"row {first['row']}" + (f": {first['said']}" if first["said"] else "")
            )
        rows = rows.filter(pl.col("left_out").is_null())
        timed = pl.col("arrival").is_not_null() if times.there else pl.col("label").is_null()
        # What failed arrived, whether or not its prompt was counted.
        here = rows.filter(timed & (pl.col("prompt_tokens").is_not_null() | (pl.col("status") != "ok")))
        if len(here):
            ready = _ready(here)
            known |= {name for name in WHERE_KNOWN if name in ready.columns and ready[name].is_not_null().any()}
            write_part(ready, spool.part(number, KIND))
            at = ready["arrival_s"].to_numpy()
            arrivals.add(at)
            back += int((np.diff(at, prepend=last) < 0).sum())
            last = float(at[-1])
        audit.kept += len(rows)
        audit.failed += int((rows["status"] == "failed").sum())
        audit.partial += int((rows["status"] == "partial").sum())
        answers = rows.filter((pl.col("status") == "ok") & pl.col("visible_tokens").is_not_null())
        answered += len(answers)
        stopped += int(answers["truncated"].sum())
        marked = rows.filter(pl.col("label").is_not_null())
        if len(marked):
            found.append(marked.drop("hash_ids", "text"))
    audit.answered = answered
    if answered:
        audit.stopped = limits_line(limits, stopped, answered)
    if back:
        audit.notes.append(f"sorted by time: {back:,} of the rows were earlier than the row above them")
    if times.epoch and len(arrivals):
        audit.day = datetime.fromtimestamp(arrivals.last, UTC).strftime("%Y-%m-%d")
    start = arrivals.first if len(arrivals) and times.there else 0.0
    marked = pl.concat(found, how="diagonal_relaxed") if found else pl.DataFrame()
    if len(marked):
        marked = marked.with_columns(arrival_s=pl.col("arrival") - start)
    return arrivals, tuple(name for name in WHERE_KNOWN if name in known), marked


def _with_status(rows: pl.DataFrame, times: Times) -> pl.DataFrame:
    """Rows as requests: those that got no token failed; those without what a request must have are left out."""
    tokens = pl.col("visible_tokens") + pl.col("reasoning_tokens").fill_null(0)
    ungraded = pl.col("label").is_null()
    ok = pl.col("status") == "ok"
    rows = rows.with_columns(
        status=pl.when(ok & (tokens == 0) & ungraded).then(pl.lit("failed")).otherwise(pl.col("status"))
    )
    ok = pl.col("status") == "ok"
    wrong = {
        "a retry: the call that it repeats has a row of its own": pl.col("status") == "retry",
        "no count of output tokens": ok & pl.col("visible_tokens").is_null() & ungraded,
        "no count of prompt tokens": ok & pl.col("prompt_tokens").is_null() & ungraded,
        "no time that can be read": pl.lit(times.there) & pl.col("arrival").is_null() & ungraded,
    }
    for why, bad in wrong.items():
        here = pl.col("left_out").is_null() & bad.fill_null(value=False)
        rows = rows.with_columns(
            said=pl.when(here & pl.lit("time" in why)).then("at_text").otherwise(pl.col("said")),
            left_out=pl.when(here).then(pl.lit(why)).otherwise(pl.col("left_out")),
        )
    return rows


def _ready(rows: pl.DataFrame) -> pl.DataFrame:
    """Columns of the table of traffic, before times are counted from the first."""
    made = rows.with_columns(
        arrival_s="arrival",
        prompt_tokens=pl.col("prompt_tokens").fill_null(0),
        reasoning_tokens=pl.col("reasoning_tokens").fill_null(0),
        visible_tokens=pl.col("visible_tokens").fill_null(0),
        finish_reason="reason",
        prompt="text",
        truncated=pl.when(pl.col("status") == "ok").then("truncated"),
    )
    return made.select("file", "row", "call", *ALWAYS, *(name for name in WHERE_KNOWN if name in made.columns))


__all__ = ["settled"]
