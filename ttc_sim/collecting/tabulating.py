"""What was collected, as the table of attempts that profiles are built from."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ttc_sim.collecting.answers import tokens_in
from ttc_sim.collecting.grading import Grade
from ttc_sim.collecting.journal import Key
from ttc_sim.collecting.wanted import Attempt
from ttc_sim.measured.building import STOPPED

COLUMNS: dict[str, pl.DataType] = {
    "problem": pl.String(),
    "cap": pl.String(),
    "attempt": pl.Int64(),
    "model": pl.String(),
    "served_model": pl.String(),
    "prompt_tokens": pl.Int64(),
    "cached_tokens": pl.Int64(),
    "reasoning_tokens": pl.Int64(),
    "visible_tokens": pl.Int64(),
    "tokens_from": pl.String(),
    "correct": pl.Boolean(),
    "truncated": pl.Boolean(),
    "answer": pl.String(),
    "finish_reason": pl.String(),
    "first_token_s": pl.Float64(),
    "first_visible_s": pl.Float64(),
    "latency_s": pl.Float64(),
    "status": pl.String(),
    "tries": pl.Int64(),
    "started_at": pl.Datetime("ms", "UTC"),
}
"""Of the table; ``cap`` is ``none`` where there was none. Texts stand behind them if they are kept."""
TEXTS = {"text": pl.String(), "reasoning_text": pl.String()}


@dataclass(frozen=True)
class Collected:
    """What came of collecting.

    Attributes:
        table: :data:`COLUMNS`, a row an answer, in the order of prompts, caps and attempts.
        wanted: attempts that were asked for; asked: requests that this run sent; earlier: answers that were there before.
        failures: attempts that failed for good, by the reason.
        spent_usd: of all answers; maybe_usd: at most, of requests that failed after they were sent, infinite where those had no
            limit. ``None`` without a price.
        out, journal: files; ``out`` is not written where there is no answer.
        budget_spent: whether the budget ended it.
        notes: what to know of the numbers.
    """

    table: pl.DataFrame
    wanted: int
    asked: int
    earlier: int
    failures: Mapping[str, int]
    spent_usd: float | None
    maybe_usd: float | None
    budget_usd: float | None
    price: str | None
    out: Path
    journal: Path
    budget_spent: bool
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every attempt that was asked for has its answer."""
        return len(self.table) == self.wanted

    @property
    def accuracy(self) -> float | None:
        """Share of graded answers that are right; ``None`` if none is graded."""
        graded = self.table["correct"].drop_nulls()
        return int(graded.sum()) / len(graded) if len(graded) else None

    def as_json(self) -> dict[str, Any]:
        """All figures, for files."""
        by_cap = self.table.group_by("cap", maintain_order=True).agg(
            attempts=pl.len(),
            accuracy=pl.col("correct").cast(pl.Float64).mean(),
            truncated=pl.col("truncated").mean(),
            reasoning_tokens=pl.col("reasoning_tokens").mean(),
            visible_tokens=pl.col("visible_tokens").mean(),
            first_token_s=pl.col("first_token_s").median(),
            latency_s=pl.col("latency_s").median(),
        )
        return {
            "wanted": self.wanted,
            "answers": len(self.table),
            "complete": self.complete,
            "earlier": self.earlier,
            "requests": self.asked,
            "failures": dict(self.failures),
            "accuracy": self.accuracy,
            "spent_usd": self.spent_usd,
            "maybe_usd": self.maybe_usd,
            "budget_usd": self.budget_usd,
            "budget_spent": self.budget_spent,
            "price": self.price,
            "caps": by_cap.to_dicts(),
            "tokens_from": dict(Counter(self.table["tokens_from"].to_list())),
            "out": str(self.out),
            "journal": str(self.journal),
            "notes": list(self.notes),
        }


def tabulate(
    attempts: Sequence[Attempt],
    done: Mapping[Key, Mapping[str, Any]],
    grades: Mapping[Key, Grade],
    model: str,
    *,
    keep_answers: bool,
) -> pl.DataFrame:
    """A row for each attempt that has an answer, in the order of the attempts."""
    columns = {**COLUMNS, **(TEXTS if keep_answers else {})}
    rows = [_row(attempt, done[attempt.key], grades[attempt.key], model) for attempt in attempts if attempt.key in done]
    return pl.DataFrame([{name: row[name] for name in columns} for row in rows], schema=columns)


def _row(attempt: Attempt, line: Mapping[str, Any], grade: Grade, model: str) -> dict[str, Any]:
    tokens = tokens_in(line)
    assert tokens is not None
    reason = str(line["finish_reason"])
    started = datetime.datetime.fromisoformat(str(line["started_at"]))
    return {
        "problem": attempt.prompt.problem,
        "cap": "none" if attempt.cap is None else str(attempt.cap),
        "attempt": attempt.number,
        "model": model,
        "served_model": line.get("served_model"),
        "prompt_tokens": tokens.prompt,
        "cached_tokens": tokens.cached,
        "reasoning_tokens": tokens.reasoning,
        "visible_tokens": tokens.visible,
        "tokens_from": tokens.counted,
        "correct": grade.correct,
        "truncated": reason.lower() in STOPPED,
        "answer": grade.answer,
        "finish_reason": reason,
        "first_token_s": line.get("first_token_s"),
        "first_visible_s": line.get("first_visible_s"),
        "latency_s": line["latency_s"],
        "status": "filtered" if reason == "content_filter" else "ok",
        "tries": line["tries"],
        "started_at": started.astimezone(datetime.UTC),
        "text": line.get("text"),
        "reasoning_text": line.get("reasoning_text"),
    }


def notes_on(table: pl.DataFrame, model: str) -> tuple[str, ...]:
    """What somebody who reads the numbers should know of them."""
    notes = []
    for counted, rows in Counter(table["tokens_from"].to_list()).items():
        if counted != "usage":
            notes.append(f"tokens of {rows:,} of {len(table):,} answers: {counted}")
    tagged = table["tokens_from"].str.contains("</think>", literal=True)
    unsure = table.filter(~tagged & pl.col("truncated") & (pl.col("reasoning_tokens") == 0))
    if tagged.any() and len(unsure):
        notes.append(
            f"{len(unsure):,} answers stopped at their cap before any </think>: their text counts as visible and was graded, "
            "though it may be thinking; --starts-thinking says that it is, and a server that sends reasoning apart needs no tags"
        )
    served = [name for name in table["served_model"].unique().drop_nulls().sort().to_list() if name != model]
    if served:
        notes.append(
            f"the endpoint says that it answered with {', '.join(served[:5])}{'...' if len(served) > 5 else ''}"
        )
    filtered = int((table["status"] == "filtered").sum())
    if filtered:
        notes.append(f"{filtered:,} answers were cut by a content filter")
    empty = int((table["visible_tokens"] + table["reasoning_tokens"] == 0).sum())
    if empty:
        notes.append(f"{empty:,} answers are empty: `profile build` counts them as 1 token")
    return tuple(notes)


__all__ = ["COLUMNS", "TEXTS", "Collected", "notes_on", "tabulate"]
