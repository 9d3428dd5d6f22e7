"""Rows that were written twice."""

from __future__ import annotations

import polars as pl

from ttc_sim.measured.importing.audit import Audit
from ttc_sim.measured.importing.times import Times

_SAME = (
    "at", "at_text", "source", "model", "session", "turn", "prompt", "cached", "output", "reasoning", "visible",
    "status", "latency_s",
    "first_token_s", "problem", "subset", "attempt", "label", "answer", "text_hash", "blocks_hash",
)  # fmt: skip
_MOSTLY = 0.4
_PLACE = ("file", "row")


def written_twice(calls: pl.LazyFrame, times: Times, audit: Audit) -> pl.DataFrame:
    """Places (``file``, ``row``) of rows that another row stands for: of those with one key the most complete counts, the last
    of equals.

    Rows without a key that are equal in every column are taken to be written twice where their times are finer than a second or
    nearly
    every row has its like; otherwise they are kept, and said.
    """
    keyed = calls.filter(pl.col("key").is_not_null())
    again = keyed.group_by("key").len().filter(pl.col("len") > 1).select("key").collect(engine="streaming")
    dropped = [pl.DataFrame(schema={"file": pl.Int32(), "row": pl.Int64()})]
    if len(again):
        complete = (
            (pl.col("status") == "ok").cast(pl.Int8),
            (pl.col("label").is_not_null()).cast(pl.Int8),
            pl.coalesce("output", "visible").fill_null(-1),
        )
        several = keyed.join(again.lazy(), on="key", how="semi").collect(engine="streaming")
        best = several.sort(*complete, *_PLACE).group_by("key", maintain_order=True).agg(pl.col(*_PLACE).last())
        dropped.append(several.join(best, on=list(_PLACE), how="anti").select(_PLACE))
        audit.leave_out("written again: another row has the same id, and more in it or comes later", len(dropped[-1]))
    rest = calls.filter(pl.col("key").is_null()).select(*_PLACE, hash=pl.struct(_SAME).hash(seed=1))
    equal = rest.group_by("hash").agg(pl.len(), pl.col("file").first(), pl.col("row").first()).filter(pl.col("len") > 1)
    found = equal.collect(engine="streaming")
    if not len(found):
        return pl.concat(dropped)
    more = int((found["len"] - 1).sum())
    total = int(calls.select(pl.len()).collect(engine="streaming").item())
    fine = times.there and bool(calls.select(_finer(times)).collect(engine="streaming").item())
    if not fine and more < _MOSTLY * total:
        audit.notes.append(
            f"{more:,} rows are equal to another in every column: kept, since times in whole seconds or none tell nothing"
        )
        return pl.concat(dropped)
    twice = rest.join(found.lazy().select("hash"), on="hash", how="semi").collect(engine="streaming")
    dropped.append(twice.filter(pl.struct(_PLACE) != pl.struct(_PLACE).first().over("hash")).select(_PLACE))
    audit.leave_out("written again: equal to another row in every column", len(dropped[-1]))
    return pl.concat(dropped)


def _finer(times: Times) -> pl.Expr:
    """Whether most times are finer than a second."""
    scale = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[times.unit]
    number = pl.col("at") % scale != 0
    text = pl.col("at_text").str.contains(r"\d[.,]\d*[1-9]")
    return pl.coalesce(number, text).mean() > 0.5
