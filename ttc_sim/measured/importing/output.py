"""The tables of an import and its audit, written together or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from ttc_sim.files.writing import unwritable, written_together, written_whole
from ttc_sim.measured.importing.audit import Audit
from ttc_sim.measured.importing.spool import Spool
from ttc_sim.measured.importing.traffic import write_lengths, write_traffic
from ttc_sim.measured.importing.understanding import Tables
from ttc_sim.measured.provenance import ScoredBy

OUTPUTS = (
    "import.json",
    "traffic.parquet",
    "lengths.parquet",
    "problems.parquet",
    "attempts.parquet",
    "scores.parquet",
)


def write_tables(
    spool: Spool, made: Tables, audit: Audit, out: Path, *, keep_prompts: bool, scored_by: ScoredBy | None
) -> None:
    """Write what there is of a log into its folder; what an earlier import had besides is taken away.

    Raises:
        InputError: a place that cannot be written to; what stood there is kept.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from None
    with written_together():
        if len(made.arrivals) and not made.timed:
            with written_whole(out / "lengths.parquet") as beside:
                audit.outputs["lengths.parquet"] = write_lengths(spool, made.known, beside)
        elif len(made.arrivals):
            with written_whole(out / "traffic.parquet") as beside:
                audit.outputs["traffic.parquet"] = write_traffic(spool, made.arrivals, made.known, beside)
        if made.outcome is not None:
            problems = made.outcome.problems
            if keep_prompts:
                texts = _of_problems(spool, "calls", problems).select("text_hash", prompt="text")
                problems = problems.join(texts, on="text_hash", how="left", maintain_order="left")
            tables = {"problems": problems.drop("text_hash"), "attempts": made.outcome.attempts}
            scores = _of_problems(spool, "scores", problems)
            if len(scores):
                keys = made.outcome.problems.select("problem", "text_hash")
                tables["scores"] = keys.join(scores, on="text_hash", how="inner", maintain_order="left").drop(
                    "text_hash"
                )
            for name, table in tables.items():
                with written_whole(out / f"{name}.parquet") as beside:
                    metadata = scored_by.as_metadata() if scored_by is not None and name == "scores" else None
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


__all__ = ["OUTPUTS", "write_tables"]
