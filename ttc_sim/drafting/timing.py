"""How long an endpoint takes, from what a log says of its answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.optimize import nnls

from ttc_sim.base.draws import F64

LEAST_ROWS = 5
"""Answers with times: of fewer, nothing is said."""
_SHORT = 10  # tokens: an answer of fewer says little of the time that each takes
_LEAST_S = 1e-6


@dataclass(frozen=True)
class Timing:
    """Median and 95th percentile of the time to the first token, and of that per further token; and where they come from."""

    first_token: tuple[float, float]
    per_token: tuple[float, float]
    first_from: str
    per_from: str


ASSUMED = Timing((0.6, 1.8), (0.015, 0.03), "assumed: not in the log", "assumed: not in the log")


def timing_of(traffic: pl.DataFrame | None, model: str | None) -> Timing:
    """What a log says of a model's answers, or what is assumed where it says nothing.

    A client sees the first token of a thinking model's answer once it has thought; so those times count of answers without hidden
    reasoning alone, and of the others the time that they take as a whole.

    Args:
        traffic: as ``ttc-sim import`` leaves it.
        model: ``None`` where the traffic names none.
    """
    if traffic is None:
        return ASSUMED
    rows = traffic.filter(pl.col("reasoning_tokens") + pl.col("visible_tokens") > 0)
    if "status" in rows.columns:
        rows = rows.filter(pl.col("status") == "ok")
    if "model" in rows.columns and model is not None:
        rows = rows.filter(pl.col("model") == model)
    tokens = _numbers(rows.select((pl.col("reasoning_tokens") + pl.col("visible_tokens")).alias("tokens")), "tokens")
    hidden = _numbers(rows, "reasoning_tokens") > 0
    first, whole = _numbers(rows, "first_token_s"), _numbers(rows, "latency_s")
    seen = (first > 0) & ~hidden
    timed = whole > 0
    if seen.sum() >= LEAST_ROWS:
        begun = _median_p95(first[seen])
        first_from = f"of {int(seen.sum()):,} answers in the log"
        both = seen & timed & (whole > first) & (tokens > 1)
        each = (whole - first)[both] / (tokens[both] - 1)
        long = tokens[both] > _SHORT
        if both.sum() < LEAST_ROWS:
            return Timing(begun, ASSUMED.per_token, first_from, ASSUMED.per_from)
        each = each[long] if long.sum() >= LEAST_ROWS else each
        return Timing(begun, _median_p95(each), first_from, f"of {len(each):,} answers in the log")
    if timed.sum() < LEAST_ROWS:
        return ASSUMED
    return _along_a_line(tokens[timed], whole[timed])


def _along_a_line(tokens: F64, seconds: F64) -> Timing:
    """Of answers whose time is known as a whole: what it comes to at one token, and what each further one adds."""
    rest = tokens - 1
    # By relative errors: long answers are late by more.
    start, _ = nnls(np.column_stack([np.ones(len(rest)), rest]) / seconds[:, None], np.ones(len(tokens)))[0]
    first = min(max(float(start), _LEAST_S), float(seconds.min()))
    each = np.maximum(seconds - first, _LEAST_S) / np.maximum(rest, 1)
    long = tokens > _SHORT
    each = each[long] if long.sum() >= LEAST_ROWS else each
    count = f"of {len(seconds):,} answers in the log that say how long they took as a whole"
    return Timing((first, first), _median_p95(each), f"where a line begins through the times {count}", count)


def _numbers(rows: pl.DataFrame, column: str) -> F64:
    if column not in rows.columns:
        return np.full(len(rows), np.nan)
    found: F64 = rows[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return found


def _median_p95(seconds: F64) -> tuple[float, float]:
    low, high = np.quantile(seconds, [0.5, 0.95])
    return max(float(low), _LEAST_S), max(float(low), float(high), _LEAST_S)
