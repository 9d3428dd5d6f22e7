"""A log's calls, read in a stream, scored on the way, and kept on the disk in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import polars as pl

from ttc_sim.base.errors import users_code
from ttc_sim.base.plugins import called
from ttc_sim.base.progress import Counting, Progress
from ttc_sim.measured.importing.call import Call, as_rows
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Left, Sample, decimal_mark
from ttc_sim.measured.importing.spool import Spool, write_part
from ttc_sim.measured.provenance import ScoredBy

_ROWS_AT_ONCE = 50_000
_LETTERS_AT_ONCE = 32_000_000
_OF_AN_ID = 40  # bytes of a prefix block's id, as letters are counted
_MANY_BYTES = 10_000_000


@dataclass(frozen=True)
class Scoring:
    """What predicts how hard prompts are.

    Attributes:
        score: predictions of prompts, a row each in their order, columns as in a problem set's scores without ``problem``.
        by: the predictor, which the file of scores names.
    """

    score: Callable[[Sequence[str]], pl.DataFrame]
    by: ScoredBy


def spool_all(
    logs: list[tuple[LogFile, Sample]],
    importer: Importer,
    spool: Spool,
    keep_prompts: bool,
    scoring: Scoring | None,
    progress: Progress,
) -> None:
    """Read all files of a log into the spool, from where an interrupted import had left off."""
    total = sum(log.size for log, _ in logs)
    before = sum(log.size for log, _ in logs if str(log.path) in spool.whole)
    size, unit = (1e6, "MB") if total >= _MANY_BYTES else (1e3, "kB")
    tell = Counting(progress, "reading", total / size, unit, before / size)
    for number, (log, sample) in enumerate(logs):
        where = str(log.path)
        if where not in spool.whole:

            def at(here: int, name: str = log.path.name, before: int = before) -> None:
                tell((before + here) / size, name)

            done = spool.done.get(where, 0)
            for rows in _chunks(log, importer, number, sample, at, done):
                if scoring is not None:
                    _add_scores(rows, spool, scoring)
                kept = rows if keep_prompts else rows.with_columns(text=pl.lit(None, dtype=pl.String))
                spool.add(kept, where, int(rows["row"][-1]))
            spool.finished(where)
            before += log.size
            tell(before / size)


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


__all__ = ["Scoring", "spool_all"]
