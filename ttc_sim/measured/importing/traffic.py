"""The table of traffic, in order of arrival, whatever the size of the log: in ranges of time that fit into memory; and of lengths
alone, where nothing says when requests came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64
from ttc_sim.measured.importing.spool import Spool

ROWS_AT_ONCE, BYTES_AT_ONCE = 250_000, 60_000_000
_SAMPLED = 256
KIND = "ready"
ALWAYS = ("arrival_s", "prompt_tokens", "cached_tokens", "reasoning_tokens", "visible_tokens", "status")
WHERE_KNOWN = (
    "source", "model", "session", "turn", "first_token_s", "latency_s", "finish_reason", "truncated", "hash_ids", "block_tokens",
    "difficulty", "novelty", "prompt",
)  # fmt: skip


@dataclass
class Arrivals:
    """When requests came, part by part: how many, the first and the last, and a sample that says how they are spread."""

    count: int = 0
    first: float = np.inf
    last: float = -np.inf
    samples: list[F64] = field(default_factory=list)
    weights: list[F64] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def add(self, at: F64) -> None:
        """Those of a part, at least one."""
        self.count += len(at)
        self.first, self.last = min(self.first, float(at.min())), max(self.last, float(at.max()))
        sample = np.sort(at)[:: -(-len(at) // _SAMPLED)]
        self.samples.append(sample)
        self.weights.append(np.full(len(sample), len(at) / len(sample)))

    def edges(self, ranges: int) -> F64:
        """Where each of so many ranges begins that hold about as many arrivals each; fewer where many came at one time."""
        at, weight = np.concatenate(self.samples), np.concatenate(self.weights)
        order = np.argsort(at, kind="stable")
        below = np.cumsum(weight[order])
        inner = at[order][np.searchsorted(below, below[-1] * np.arange(1, ranges) / ranges)]
        return np.unique(np.concatenate([[self.first], inner]))


def write_traffic(spool: Spool, arrivals: Arrivals, known: tuple[str, ...], path: Path) -> int:
    """Write parts of requests in order of ``arrival_s``, with seconds counted from the first.

    Args:
        arrivals: of all requests; known: of :data:`WHERE_KNOWN`, the columns that some row has.

    Returns:
        Requests written.
    """
    start = arrivals.first
    columns = [*ALWAYS, *known]
    parts = [part for part in (spool.part(number, KIND) for number in range(spool.parts)) if part.is_file()]
    edges = arrivals.edges(-(-len(arrivals) // _rows_at_once(parts)))

    def ranges() -> Iterator[pl.DataFrame]:
        for k, low in enumerate(edges):
            here = pl.col("arrival_s") >= low
            if k + 1 < len(edges):
                here = here & (pl.col("arrival_s") < edges[k + 1])
            rows = pl.scan_parquet(parts, glob=False).filter(here).collect(engine="streaming")
            if not rows.is_empty():
                rows = rows.sort("arrival_s", "file", "row", "call")
                yield rows.with_columns(arrival_s=(pl.col("arrival_s") - start).round(9)).select(columns)

    return _write(ranges(), path)


def _rows_at_once(parts: Sequence[Path]) -> int:
    """How many requests fit into memory, by some of them."""
    some = [pl.read_parquet(part, glob=False) for part in {parts[0], parts[len(parts) // 2], parts[-1]}]
    widest = max(rows.estimated_size() / len(rows) for rows in some)
    return max(min(ROWS_AT_ONCE, int(BYTES_AT_ONCE / widest)), 1)


def write_lengths(spool: Spool, known: tuple[str, ...], path: Path) -> int:
    """Write parts of requests without arrivals, in the log's order.

    Args:
        known: of :data:`WHERE_KNOWN`, the columns that some row has.

    Returns:
        Requests written.
    """
    columns = [*(name for name in ALWAYS if name != "arrival_s"), *known]
    return _write((rows.select(columns) for rows in spool.each(KIND)), path)


def _write(parts: Iterable[pl.DataFrame], path: Path) -> int:
    """Write one part after the other into a table; how many rows that were."""
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None
    written = 0
    try:
        for rows in parts:
            table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            written += len(rows)
    finally:
        if writer is not None:
            writer.close()
    return written
