"""From logs to tables: read in a stream, understood as a whole, written together."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ttc_sim.base.errors import InputError, users_code
from ttc_sim.base.plugins import called
from ttc_sim.files.opening import is_folder
from ttc_sim.files.writing import check_room, unwritable, written_together, written_whole
from ttc_sim.measured.dates import Order
from ttc_sim.measured.importing.audit import Audit
from ttc_sim.measured.importing.call import OUTPUT_ESTIMATED, PROMPT_ESTIMATED, REASONING_ESTIMATED, Call, as_rows
from ttc_sim.measured.importing.counts import Counts, understand_counts, with_counts
from ttc_sim.measured.importing.detecting import importer_of, recognise
from ttc_sim.measured.importing.duplicates import written_twice
from ttc_sim.measured.importing.importer import Importer, Place
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.outcomes import Graded, graded
from ttc_sim.measured.importing.reading import Left, Sample, decimal_mark
from ttc_sim.measured.importing.spool import FOLDER, Spool, check_own, write_part
from ttc_sim.measured.importing.suspicion import Limits, limits_line, look_for_limits, look_for_made_up, stopped_at
from ttc_sim.measured.importing.times import Times, Unit, understand_times, with_times
from ttc_sim.measured.importing.traffic import ALWAYS, KIND, WHERE_KNOWN, Arrivals, write_lengths, write_traffic
from ttc_sim.measured.provenance import ScoredBy


@dataclass(frozen=True)
class Scoring:
    """What predicts how hard prompts are.

    Attributes:
        score: predictions of prompts, a row each in their order, columns as in a problem set's scores without ``problem``.
        by: the predictor, which the file of scores names.
    """

    score: Callable[[Sequence[str]], pl.DataFrame]
    by: ScoredBy


OUTPUTS = (
    "import.json",
    "traffic.parquet",
    "lengths.parquet",
    "problems.parquet",
    "attempts.parquet",
    "scores.parquet",
)
_ROWS_AT_ONCE = 50_000
_LETTERS_AT_ONCE = 32_000_000
_OF_AN_ID = 40  # bytes of a prefix block's id, as letters are counted
_EVERY_S = 1.0
_NAMED = 100  # models and sources in the audit
_WORTH_KEEPING = 100_000_000


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


def import_logs(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    format: str | None = None,  # what users call it
    columns: Mapping[str, str] | None = None,
    answers: Answers | None = None,
    keep_prompts: bool = False,
    scoring: Scoring | None = None,
    replace: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Turn logs of calls into ``traffic.parquet`` (``lengths.parquet`` where nothing says when calls came) and, where answers are
    graded, ``problems.parquet`` and ``attempts.parquet`` in ``out``.

    Memory does not grow with the size of a log; an interrupted import goes on where it was when it is called again.

    Args:
        files: logs of one format, or folders of them.
        out: folder to write to; what an earlier import wrote there is replaced with ``replace`` alone.
        format: a name of :data:`~ttc_sim.measured.importing.importer.IMPORTERS`; found out if left out.
        columns: of a table whose columns have other names than the usual ones, by role (``ROLES`` of
            :mod:`~ttc_sim.measured.importing.formats.table`).
        answers: what the log does not say of itself.
        keep_prompts: write the prompts' text too; otherwise it is forgotten.
        scoring: by what prompts are scored before they are forgotten.
        progress: told how far it is.

    Returns:
        The audit, which stands in ``import.json`` as well.

    Raises:
        InputError: a log that cannot be read, an unknown format, no row that can be used, outputs that are there already.
    """
    out, answers = Path(out), answers or Answers()
    _check_out(out, replace)
    name, logs, notes = _recognised(files, format, columns)
    importer = importer_of(name, columns)
    audit = Audit(name, importer.title, notes=notes)
    identity = [(str(log.path.resolve()), log.size, log.path.stat().st_mtime_ns) for log, _ in logs]
    identity.append((str(dict(columns or {})), 0, 0))
    check_own(out / FOLDER)
    made = not out.exists()
    spool, goes_on = Spool.begun(
        out, {"files": identity, "format": name, "keep": keep_prompts, "scored": str(scoring and scoring.by)}
    )
    if goes_on:
        audit.notes.append("went on where an interrupted import had left off")
    try:
        _spool_all(logs, importer, spool, keep_prompts, scoring, progress)
    except InputError:
        spool.clear()
        _remove_if_empty(out, made)
        raise
    try:
        found = _understand(logs, importer, spool, audit, answers, out, keep_prompts, scoring, progress)
    except InputError:
        # What took long to read is there for a second try, such as one that answers a question.
        if sum(log.size for log, _ in logs) < _WORTH_KEEPING:
            spool.clear()
            _remove_if_empty(out, made)
        raise
    spool.clear()
    return found


def _remove_if_empty(folder: Path, made: bool) -> None:
    if made:
        with suppress(OSError):
            folder.rmdir()


def _check_out(out: Path, replace: bool) -> None:
    try:
        if out.exists() and not out.is_dir():
            raise InputError(out, "folder", str(out), "a folder to write to")
        there = [name for name in OUTPUTS if (out / name).exists()]
        above = next(parent for parent in [out, *out.resolve().parents] if parent.exists())
        folder = above.is_dir()
    except (OSError, ValueError) as error:  # a name that no folder can have
        if isinstance(error, InputError):
            raise
        raise unwritable(out, error) from None
    if there and not replace:
        raise InputError(out, "folder", ", ".join(there), "a folder without them, or --replace")
    if not folder:
        raise InputError(out, "folder", str(above), "a folder, to write it in")
    check_room(out, above)


def _recognised(
    files: Sequence[str | Path], named: str | None, columns: Mapping[str, str] | None
) -> tuple[str, list[tuple[LogFile, Sample]], list[str]]:
    """The format, files with what they begin with, and what is to be said of them."""
    paths: list[tuple[Path, bool]] = []
    for given in files:
        path = Path(given)
        if is_folder(path):
            inside = sorted(one for one in path.rglob("*") if one.is_file() and not _hidden(one.relative_to(path)))
            if not inside:
                raise InputError(path, "folder", str(path), "a folder with logs in it")
            paths += [(one, True) for one in inside]
        else:
            paths.append((path, False))
    if not paths:
        raise InputError("import", "files", "none", "at least one log")
    notes: list[str] = []
    logs: list[tuple[LogFile, Sample]] = []
    formats: dict[str, Path] = {}
    skipped: list[InputError] = []
    for path, of_folder in paths:
        try:
            name, file, sample = recognise(path, named, columns)
        except InputError as error:
            if not of_folder:
                raise
            skipped.append(error)
            continue
        formats.setdefault(name, path)
        logs.append((file, sample))
        notes += [line for line in (*file.notes, *importer_of(name, columns).notes(sample)) if line not in notes]
    if not logs:
        raise skipped[0]
    again = next((path for path, times in Counter(log.path.resolve() for log, _ in logs).items() if times > 1), None)
    if again is not None:
        raise InputError(again, "file", str(again), "each file once")
    if skipped:
        notes.append(f"{len(skipped):,} files of the folder are no logs of a known format: {skipped[0].where} first")
    if len(formats) > 1:
        (first, one), (second, other), *_ = formats.items()
        raise InputError(other, "format", second, f"{first} as {one}: logs of one format at a time, or --format")
    return next(iter(formats)), logs, notes


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _spool_all(
    logs: list[tuple[LogFile, Sample]],
    importer: Importer,
    spool: Spool,
    keep_prompts: bool,
    scoring: Scoring | None,
    progress: Callable[[str], None],
) -> None:
    total = sum(log.size for log, _ in logs)
    clock = _Clock(total, progress)
    before = 0
    for number, (log, sample) in enumerate(logs):
        where = str(log.path)
        if where in spool.whole:
            clock.skipped += log.size
        else:
            tell = partial(clock.tell, log.path.name, before)
            done = spool.done.get(where, 0)
            for rows in _chunks(log, importer, number, sample, tell, done):
                if scoring is not None:
                    _add_scores(rows, spool, scoring)
                kept = rows if keep_prompts else rows.with_columns(text=pl.lit(None, dtype=pl.String))
                spool.add(kept, where, int(rows["row"][-1]))
            spool.finished(where)
        before += log.size


class _Clock:
    """Says now and then how far the reading is, and how long it will take."""

    def __init__(self, total: int, progress: Callable[[str], None]) -> None:
        self.total, self.progress = max(total, 1), progress
        self.begun = self.told = time.monotonic()
        self.skipped = 0

    def tell(self, name: str, before: int, at: int) -> None:
        now = time.monotonic()
        if now - self.told < _EVERY_S:
            return
        self.told = now
        done = before + at
        left = (now - self.begun) * (self.total - done) / max(done - self.skipped, 1)
        share = min(done / self.total, 1.0)
        self.progress(f"reading {name}: {share:.0%} of {self.total / 1e6:,.0f} MB, about {max(left, 0):,.0f} s left")


def _chunks(
    log: LogFile, importer: Importer, number: int, sample: Sample, tell: Callable[[int], None], done: int
) -> Iterator[pl.DataFrame]:
    """Calls of a file as columns, some at a time; the first ``done`` records are passed over."""
    head = importer.prepared(sample)
    decimal = decimal_mark(sample)
    calls = _calls(log, importer, tell, head, done)
    while True:
        some: list[tuple[int, Call]] = []
        letters = 0
        for row, call in islice(calls, _ROWS_AT_ONCE):
            some.append((row, call))
            letters += len(call.text or "") + len(call.answer_text or "") + _OF_AN_ID * len(call.hash_ids or ())
            if letters > _LETTERS_AT_ONCE:
                break
        if not some:
            return
        # A record may make several calls: all of them are in one part.
        last = some[-1][0]
        for row, call in calls:
            if row != last:
                calls = _put_back((row, call), calls)
                break
            some.append((row, call))
        yield as_rows(some, number, decimal=decimal)


def _put_back(first: tuple[int, Call], rest: Iterator[tuple[int, Call]]) -> Iterator[tuple[int, Call]]:
    yield first
    yield from rest


def _calls(
    log: LogFile, importer: Importer, tell: Callable[[int], None], head: dict[str, Any], done: int
) -> Iterator[tuple[int, Call]]:
    said = f"format {importer.title}: {called(type(importer))}.calls"
    for row, record in importer.read(log, tell, head):
        if row <= done:
            continue
        if isinstance(record, Left):
            yield row, Call(left_out=record.why, label=record.said)
            continue
        try:
            made = list(importer.calls(record, head))
        except BaseException:
            with users_code(log.path, f"{said}, record {row}", "calls"):
                raise
        for call in made:
            yield row, call


def _add_scores(rows: pl.DataFrame, spool: Spool, scoring: Scoring) -> None:
    """Predictions of a part's prompts, each once."""
    texts = rows.select("text_hash", "text").drop_nulls().unique("text_hash", keep="first", maintain_order=True)
    if len(texts):
        found = scoring.score(texts["text"].to_list())
        write_part(texts.select("text_hash").hstack(found), spool.part(spool.parts, "scores"))


def _understand(
    logs: list[tuple[LogFile, Sample]],
    importer: Importer,
    spool: Spool,
    audit: Audit,
    answers: Answers,
    out: Path,
    keep_prompts: bool,
    scoring: Scoring | None,
    progress: Callable[[str], None],
) -> Audit:
    where = str(logs[0][0].path)
    if not spool.parts:
        raise InputError(where, "log", "no call in it", f"{importer.title} with at least one row")
    progress("understanding what was read")
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
    arrivals, known, found = _settled(spool, counts, times, twice, limits, audit, progress)
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
    progress("writing")
    _write(spool, arrivals, times.there, known, outcome, audit, out, keep_prompts, scoring)
    return audit


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


def _settled(
    spool: Spool,
    counts: Counts,
    times: Times,
    twice: pl.DataFrame,
    limits: Limits,
    audit: Audit,
    progress: Callable[[str], None],
) -> tuple[Arrivals, tuple[str, ...], pl.DataFrame]:
    """Parts as they will be written: arrivals of all requests (NaN where there are no times), the columns that are known of some,
    and the graded rows."""
    arrivals = Arrivals()
    known: set[str] = set()
    found: list[pl.DataFrame] = []
    last, back, stopped, answered = -np.inf, 0, 0, 0
    for number in range(spool.parts):
        if number % 20 == 19:
            progress(f"understanding: {number / spool.parts:.0%}")
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
        audit.notes.append(f"{back:,} rows came before the row above them: sorted by time")
    if times.epoch and len(arrivals):
        audit.day = datetime.fromtimestamp(min(arrivals.last, 2e11), UTC).strftime("%Y-%m-%d")
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


def _write(
    spool: Spool,
    arrivals: Arrivals,
    timed: bool,
    known: tuple[str, ...],
    outcome: Graded | None,
    audit: Audit,
    out: Path,
    keep_prompts: bool,
    scoring: Scoring | None,
) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from None
    with written_together():
        if len(arrivals) and not timed:
            with written_whole(out / "lengths.parquet") as beside:
                audit.outputs["lengths.parquet"] = write_lengths(spool, known, beside)
        elif len(arrivals):
            with written_whole(out / "traffic.parquet") as beside:
                audit.outputs["traffic.parquet"] = write_traffic(spool, arrivals, known, beside)
        if outcome is not None:
            problems = outcome.problems
            if keep_prompts:
                texts = _of_problems(spool, "calls", problems).select("text_hash", prompt="text")
                problems = problems.join(texts, on="text_hash", how="left", maintain_order="left")
            tables = {"problems": problems.drop("text_hash"), "attempts": outcome.attempts}
            scores = _of_problems(spool, "scores", problems)
            if len(scores):
                keys = outcome.problems.select("problem", "text_hash")
                tables["scores"] = keys.join(scores, on="text_hash", how="inner", maintain_order="left").drop(
                    "text_hash"
                )
            for name, table in tables.items():
                with written_whole(out / f"{name}.parquet") as beside:
                    metadata = scoring.by.as_metadata() if scoring is not None and name == "scores" else None
                    table.write_parquet(beside, metadata=metadata)
                audit.outputs[f"{name}.parquet"] = len(table)
        with written_whole(out / "import.json") as beside:
            beside.write_text(json.dumps(audit.as_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    for name in OUTPUTS:  # of an earlier import that this one has nothing of
        if name != "import.json" and name not in audit.outputs:
            (out / name).unlink(missing_ok=True)


def _of_problems(spool: Spool, kind: str, problems: pl.DataFrame) -> pl.DataFrame:
    """Rows of parts that belong to prompts of problems, each once."""
    wanted = problems.select("text_hash").drop_nulls()
    found = [part.join(wanted, on="text_hash", how="semi", maintain_order="left") for part in spool.each(kind)]
    if not found:
        return pl.DataFrame(schema={"text_hash": pl.UInt64()})
    joined = pl.concat(found, how="diagonal_relaxed").unique("text_hash", keep="first", maintain_order=True)
    return joined.filter(pl.col("text").is_not_null()) if kind == "calls" else joined


__all__ = ["OUTPUTS", "Answers", "Scoring", "import_logs"]
