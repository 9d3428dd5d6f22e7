"""What in a log looks as if it had not been measured, and answers that end at a limit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from ttc_sim.measured.building import STOPPED

_FEW = 20
_MOSTLY = 0.9
_PILE, _PILE_SHARE = 5, 0.01  # answers of one length, and their share, that make a pile
_NEAR, _HALF, _SHORT = 0.9, 0.5, 16
_THINKS = re.compile(
    r"(^|[/:_\s-])(o[134](-|$|\b)|gpt-5|qwq|grok-(3-mini|4)|magistral|(deepseek-)?r1(\b|-))|reason|think(?!less)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Limits:
    """By model, the length at which answers pile up; whether the log says itself why answers ended."""

    said: bool
    piles: dict[str | None, int]


def look_for_limits(calls: pl.LazyFrame) -> Limits:
    """Where the log does not say which answers were stopped, find the lengths at which they pile up."""
    known = (
        calls.select((pl.col("reason").is_not_null() | pl.col("truncated").is_not_null()).any())
        .collect(engine="streaming")
        .item()
    )
    if known:
        return Limits(said=True, piles={})
    length = pl.coalesce(pl.col("output"), pl.col("visible") + pl.col("reasoning").fill_null(0))
    counted = calls.select("model", length=length).filter(pl.col("length") > 0).group_by("model", "length").len("rows")
    near = pl.col("length") >= _NEAR * pl.col("length").max()
    found = (
        counted.group_by("model")
        .agg(
            # Of the longest, the length that most have: another tokenizer's counts lie a little to both sides of the limit.
            pl.col("length")
            .filter(near)
            .sort_by(pl.col("rows").filter(near), pl.col("length").filter(near))
            .last()
            .alias("limit"),
            pl.col("rows").filter(near).max().alias("piled"),
            pl.col("rows").filter(near).sum().alias("longest"),
            pl.col("rows").sum().alias("rows"),
        )
        .collect(engine="streaming")
    )
    piles = {
        row["model"]: int(row["limit"])
        for row in found.iter_rows(named=True)
        if row["limit"] >= _SHORT
        and row["piled"] >= _HALF * row["longest"]
        and max(_PILE, _PILE_SHARE * row["rows"]) <= row["piled"] <= _MOSTLY * row["rows"]
    }
    return Limits(said=False, piles=piles)


def stopped_at(limits: Limits) -> pl.Expr:
    """Which answers were stopped at a limit."""
    if limits.said:
        by_reason = pl.col("reason").str.to_lowercase().is_in(STOPPED)
        return pl.coalesce("truncated", by_reason, pl.lit(value=False))
    found = pl.lit(value=False)
    for model, length in limits.piles.items():
        mine = pl.col("model").is_null() if model is None else (pl.col("model") == model)
        total = pl.col("visible_tokens") + pl.col("reasoning_tokens").fill_null(0)
        found = found | (mine & (total >= length)).fill_null(value=False)
    return found


def limits_line(limits: Limits, stopped: int, answers: int) -> dict[str, Any]:
    """For the audit: how many answers were stopped, and how that is known."""
    if limits.said:
        how = "the log says so of each answer"
    elif limits.piles:
        shown = ", ".join(
            f"{length:,}{f' of {model}' if model else ''}"
            for model, length in sorted(limits.piles.items(), key=str)[:6]
        )
        how = f"by lengths at which answers pile up: {shown}; the log gives no reasons"
    else:
        how = "the log gives no reasons, and answers pile up at no length"
    return {"rows": stopped, "of": answers, "how": how}


def look_for_made_up(calls: pl.LazyFrame) -> list[str]:
    """What looks as if it had not been measured, a line each."""
    columns = ("prompt", "output", "visible", "cached", "reasoning")
    counts = calls.filter(pl.col("status") == "ok").group_by("model")
    seen = counts.agg(
        pl.len().alias("rows"),
        *(pl.col(name).is_not_null().sum().alias(f"{name}_given") for name in columns),
        *(pl.col(name).min().alias(f"{name}_least") for name in columns),
        *(pl.col(name).max().alias(f"{name}_most") for name in columns),
        *((pl.col(name) == 0).sum().alias(f"{name}_zero") for name in columns),
        (pl.col("estimated") & 1).sum().alias("prompt_estimated"),
    ).sort("model", nulls_last=True).collect(engine="streaming")  # fmt: skip
    same = {name: _most_alike(calls, name) for name in columns[:3]}
    said: list[str] = []
    for row in seen.iter_rows(named=True):
        of = f" of {row['model']}" if row["model"] else ""
        if row["rows"] < _FEW:
            continue
        for name in columns[:3]:
            given = row[f"{name}_given"]
            if given < _FEW:
                continue
            if row[f"{name}_most"] == 0:
                said.append(f"{name} tokens{of} are 0 in all {given:,} rows")
            elif row[f"{name}_least"] == row[f"{name}_most"]:
                said.append(f"{name} tokens{of} are {row[f'{name}_most']:,} in all {given:,} rows")
            elif (alike := same[name][row["model"]]) > _MOSTLY * given:
                said.append(f"{name} tokens{of} are the same in {alike / given:.0%} of {given:,} rows")
        if row["model"] and _THINKS.search(row["model"]) and not row["reasoning_most"]:
            said.append(f"{row['model']} is a model that thinks, and no row counts its reasoning tokens")
    return said


def _most_alike(calls: pl.LazyFrame, name: str) -> dict[str | None, int]:
    """By model, how many answered rows have the most frequent count."""
    kinds = calls.filter((pl.col("status") == "ok") & pl.col(name).is_not_null()).group_by("model", name).len("rows")
    return dict(kinds.group_by("model").agg(pl.col("rows").max()).collect(engine="streaming").iter_rows())
