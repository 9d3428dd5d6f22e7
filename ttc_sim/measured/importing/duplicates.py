"""Rows that were written twice."""

from __future__ import annotations

import polars as pl

from ttc_sim.measured.importing.audit import Audit
from ttc_sim.measured.importing.call import ROWS
from ttc_sim.measured.importing.times import Times

_SAME = (
    "at", "at_text", "source", "model", "session", "turn", "prompt", "cached", "output", "reasoning", "visible",
    "status", "latency_s",
    "first_token_s", "problem", "subset", "attempt", "label", "answer", "text_hash", "blocks_hash",
)  # fmt: skip
_MOSTLY, _FEW = 0.4, 5
_ROWS_AT_ONCE = 4_000_000
_PLACE = ("file", "row", "call")


def written_twice(calls: pl.LazyFrame, times: Times, audit: Audit) -> pl.DataFrame:
    """Places (``file``, ``row``, ``call``) of calls that another one stands for: of those with one key the most complete counts,
    the last of equals.

    Rows without a key that are equal in every column are taken to be written twice where their times are finer than a second or
    nearly
    every row has its like; otherwise they are kept, and said.
    """
    total = int(calls.select(pl.len()).collect(engine="streaming").item())
    passes = max(-(-total // _ROWS_AT_ONCE), 1)
    none = pl.DataFrame(schema={name: ROWS[name] for name in _PLACE})
    dropped = [none, *(_of_one_key(calls.filter(pl.col("key") % passes == k)) for k in range(passes))]
    audit.leave_out("written again: another row has the same id, and more in it or comes later", sum(map(len, dropped)))
    rest = calls.filter(pl.col("key").is_null()).select(*_PLACE, hash=pl.struct(_SAME).hash(seed=1))
    twice = pl.concat([none, *(_equal(rest.filter(pl.col("hash") % passes == k)) for k in range(passes))])
    if not len(twice):
        return pl.concat(dropped)
    fine = times.there and bool(calls.select(_finer(times)).collect(engine="streaming").item())
    if not times.there or (not fine and len(twice) < max(_MOSTLY * total, _FEW)):
        why = (
            "times in whole seconds tell nothing"
            if times.there
            else "without times nothing tells what was written twice"
        )
        audit.notes.append(f"rows equal to another in every column: {len(twice):,}, kept, since {why}")
        return pl.concat(dropped)
    audit.leave_out("written again: equal to another row in every column", len(twice))
    return pl.concat([*dropped, twice])


def _of_one_key(calls: pl.LazyFrame) -> pl.DataFrame:
    """Places of rows whose key stands in a row that is more complete, or as complete and later."""
    again = calls.group_by("key").len().filter(pl.col("len") > 1).select("key").collect(engine="streaming")
    complete = {
        "ok": pl.col("status") == "ok",
        "graded": pl.col("label").is_not_null(),
        "tokens": pl.coalesce("output", "visible").fill_null(-1),
    }
    several = calls.join(again.lazy(), on="key", how="semi").select(*_PLACE, "key", **complete)
    rows = several.collect(engine="streaming").sort(*complete, *_PLACE)
    return rows.filter(pl.int_range(pl.len()).over("key") < pl.len().over("key") - 1).select(_PLACE)


def _equal(rows: pl.LazyFrame) -> pl.DataFrame:
    """Places of rows before which one with the same hash stands."""
    again = rows.group_by("hash").len().filter(pl.col("len") > 1).select("hash").collect(engine="streaming")
    found = rows.join(again.lazy(), on="hash", how="semi").collect(engine="streaming").sort(*_PLACE)
    return found.filter(pl.int_range(pl.len()).over("hash") > 0).select(_PLACE)


def _finer(times: Times) -> pl.Expr:
    """Whether most times are finer than a second."""
    scale = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[times.unit]
    number = pl.col("at") % scale != 0
    text = pl.col("at_text").str.contains(r"\d[.,]\d*[1-9]")
    return pl.coalesce(number, text).mean() > 0.5
