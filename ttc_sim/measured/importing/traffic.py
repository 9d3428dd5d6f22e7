"""The table of traffic, in order of arrival, whatever the size of the log: in ranges of time that fit into memory; and of lengths
alone, where nothing says when requests came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64
from ttc_sim.measured.importing.spool import Spool

ROWS_AT_ONCE = 1_000_000
KIND = "ready"
ALWAYS = ("arrival_s", "prompt_tokens", "cached_tokens", "reasoning_tokens", "visible_tokens", "status")
WHERE_KNOWN = (
    "source", "model", "session", "turn", "first_token_s", "latency_s", "finish_reason", "truncated", "hash_ids", "block_tokens",
    "difficulty", "novelty", "prompt",
)  # fmt: skip


def write_traffic(spool: Spool, arrivals: F64, known: tuple[str, ...], path: Path) -> int:
    """Write parts of requests in order of ``arrival_s``, with seconds counted from the first.

    Args:
        arrivals: of all requests, in any order; known: of :data:`WHERE_KNOWN`, the columns that some row has.

    Returns:
        Requests written.
    """
    import pyarrow.parquet as pq

    count = len(arrivals)
    ranges = max(-(-count // ROWS_AT_ONCE), 1)
    edges = (
        np.unique(np.quantile(arrivals, np.linspace(0, 1, ranges + 1))) if ranges > 1 else np.array([arrivals.min()])
    )
    start = float(arrivals.min())
    columns = [*ALWAYS, *known]
    parts = [part for part in (spool.part(number, KIND) for number in range(spool.parts)) if part.is_file()]
    writer: pq.ParquetWriter | None = None
    written = 0
    try:
        for k, low in enumerate(edges):
            here = pl.col("arrival_s") >= low
            if k + 1 < len(edges):
                here = here & (pl.col("arrival_s") < edges[k + 1])
            rows = pl.scan_parquet(parts, glob=False).filter(here).collect(engine="streaming")
            if rows.is_empty():
                continue
            rows = rows.sort("arrival_s", "file", "row").with_columns(arrival_s=(pl.col("arrival_s") - start).round(9))
            table = rows.select(columns).to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            written += len(rows)
    finally:
        if writer is not None:
            writer.close()
    return written


def write_lengths(spool: Spool, known: tuple[str, ...], path: Path) -> int:
    """Write parts of requests without arrivals, in the log's order.

    Args:
        known: of :data:`WHERE_KNOWN`, the columns that some row has.

    Returns:
        Requests written.
    """
    import pyarrow.parquet as pq

    columns = [*(name for name in ALWAYS if name != "arrival_s"), *known]
    writer: pq.ParquetWriter | None = None
    written = 0
    try:
        for rows in spool.each(KIND):
            table = rows.select(columns).to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            written += len(rows)
    finally:
        if writer is not None:
            writer.close()
    return written
