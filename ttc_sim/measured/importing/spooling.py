"""A log's calls, read in a stream, scored on the way, and kept on the disk in parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import polars as pl

from ttc_sim.base.errors import users_code
from ttc_sim.base.plugins import called
from ttc_sim.measured.importing.call import Call, as_rows
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Left, Sample, decimal_mark
from ttc_sim.measured.importing.spool import Spool, write_part
from ttc_sim.measured.provenance import ScoredBy

_ROWS_AT_ONCE = 50_000
_LETTERS_AT_ONCE = 32_000_000
_OF_AN_ID = 40  # bytes of a prefix block's id, as letters are counted
_EVERY_S = 1.0


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
    progress: Callable[[str], None],
) -> None:
    """Read all files of a log into the spool, from where an interrupted import had left off."""
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


__all__ = ["Scoring", "spool_all"]
