"""Graded answers: which problem each belongs to, which attempt it is, and whether it is right."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.measured.grades import GOLD, as_grades, is_gold
from ttc_sim.measured.importing.audit import Audit, Understood
from ttc_sim.measured.profiles import MOST_ATTEMPTS

_ALL = "all"


@dataclass(frozen=True)
class Graded:
    """``problems`` and ``attempts`` as they are written, the problems with ``text_hash`` of their prompts."""

    problems: pl.DataFrame
    attempts: pl.DataFrame


def graded(
    rows: pl.DataFrame, audit: Audit, where: str, correct_from: float | None, *, keyed: bool = False
) -> Graded | None:
    """Problems and attempts of the rows that have a grade; ``None`` if none has.

    Args:
        rows: that are kept, with counts; correct_from: score from which on an answer counts as right.
        keyed: keys tell problems apart, whatever their prompts.

    Raises:
        InputError: grades that are neither right nor wrong, no keys, too many attempts at one problem.
    """
    rows = rows.filter(pl.col("label").is_not_null() & (pl.col("label").str.strip_chars() != ""))
    if rows.is_empty():
        return None
    failed = rows.filter(pl.col("status") != "ok")
    audit.leave_out("graded, but failed or broken off: no attempt", len(failed))
    rows = rows.filter(pl.col("status") == "ok")
    rows = rows.with_columns(correct=_right(rows, audit, where, correct_from))
    counted = pl.col("visible_tokens").is_not_null() & pl.col("prompt_tokens").is_not_null()
    uncounted = rows.filter(~counted)
    if len(uncounted) == len(rows):
        if len(rows):
            audit.notes.append(
                f"{len(rows):,} graded rows have no token counts and no text: no profile can be made of them"
            )
        return None
    audit.leave_out("graded, but without token counts", len(uncounted))
    rows = _keyed(rows.filter(counted), audit, where, keyed)
    rows = _with_given_answers(rows, audit)
    again = rows.select("problem", "model", "attempt").drop_nulls().is_duplicated().sum()
    if again:
        audit.notes.append(f"{again:,} attempts share their number with another at the same problem: counted on")
    rows = rows.sort("problem", "model", "attempt", "file", "row", "call", nulls_last=True)
    number = pl.int_range(pl.len()).over("problem", "model")
    attempts = rows.select(
        "problem",
        model=pl.col("model").fill_null("unnamed"),
        attempt=number.cast(pl.Int64),
        prompt_tokens=pl.max_horizontal("prompt_tokens", pl.lit(1)),
        reasoning_tokens="reasoning_tokens",
        visible_tokens="visible_tokens",
        correct="correct",
        truncated="truncated",
        answer="answer",
        finish_reason="reason",
        arrival_s="arrival_s",
        text_hash="text_hash",
        subset="subset",
        group="group",
    )
    most = int(attempts["attempt"].max() or 0) + 1  # type: ignore[arg-type]
    if most > MOST_ATTEMPTS:
        raise InputError(
            where, "attempts", f"{most:,} at one problem", f"at most {MOST_ATTEMPTS:,}: is this column its key?"
        )
    problems = attempts.group_by("problem", maintain_order=True).agg(
        pl.col("subset").first().fill_null(_ALL),
        pl.col("group").first(),
        pl.col("prompt_tokens").median().round().cast(pl.Int64),
        pl.col("text_hash").first(),
    )
    problems = problems.with_columns(group=pl.coalesce("group", "subset")).sort("problem")
    attempts = attempts.drop("text_hash", "subset", "group")
    attempts = attempts.drop(
        [name for name in ("answer", "finish_reason", "arrival_s") if attempts[name].is_null().all()]
    )
    return Graded(problems, attempts)


def _right(rows: pl.DataFrame, audit: Audit, where: str, correct_from: float | None) -> pl.Series:
    grades = as_grades(rows["label"])
    strange = (~grades.is_finite()).fill_null(value=False).arg_true()
    if len(strange):
        row = rows.row(int(strange[0]), named=True)
        expected = "1 or 0, true or false, yes or no, pass or fail, correct or incorrect, or a percentage"
        raise InputError(where, f"grade, row {row['row']}", row["label"], expected)
    if correct_from is not None:
        audit.understood.append(Understood("grades", f"right from {correct_from:g} on", "--correct-from says so"))
        return grades >= correct_from
    between = (~grades.is_in([0.0, 1.0])).arg_true()
    if len(between):
        row = rows.row(int(between[0]), named=True)
        expected = (
            "right or wrong; a share of several attempts is a row for each of them, and of a score `--correct-from 0.99` says "
            "from where on an answer is right"
        )
        raise InputError(where, f"grade, row {row['row']}", row["label"], expected)
    kinds = sorted({str(value) for value in rows["label"].unique().to_list()})
    audit.understood.append(Understood("grades", "right or wrong", f"they are {' or '.join(kinds[:6])}"))
    return grades == 1.0


def _keyed(rows: pl.DataFrame, audit: Audit, where: str, keyed: bool) -> pl.DataFrame:
    """Rows with ``problem`` as it tells problems apart."""
    named = pl.col("problem").is_not_null()
    if rows.select((~named & pl.col("text_hash").is_null()).any()).item():
        row = rows.filter(~named & pl.col("text_hash").is_null()).row(0, named=True)
        raise InputError(
            where, f"row {row['row']}", "neither a key nor a prompt", "a key of the problem in each graded row"
        )
    if not rows.select(named.all()).item():
        keyless = int(rows.select((~named).sum()).item())
        audit.notes.append(f"{keyless:,} graded rows have no key: their problems are told apart by their prompts")
    by_text = pl.format("prompt-{}", pl.col("text_hash"))
    keys = rows.filter(named).group_by("subset", "problem").agg(pl.col("text_hash").drop_nulls().n_unique())
    several = keys.filter(pl.col("text_hash") > 1)
    if len(several) and keyed:
        audit.notes.append(f"{len(several):,} problems were asked in several wordings: their keys tell them apart")
    elif len(several):
        example = several.sort("problem")["problem"][0]
        audit.understood.append(
            Understood(
                "problems",
                "told apart by their prompts",
                f"key {example} and {len(several) - 1:,} others have several prompts",
            )
        )
        return rows.with_columns(problem=pl.when(pl.col("text_hash").is_not_null()).then(by_text).otherwise("problem"))
    within = rows.filter(named).group_by("problem").agg(pl.col("subset").fill_null("").n_unique())
    if len(within) and int(within["subset"].max()) > 1:  # type: ignore[arg-type]
        audit.understood.append(Understood("problems", "subset/key", "keys start anew in each subset"))
        full = pl.concat_str(pl.col("subset").fill_null(_ALL), "problem", separator="/")
        return rows.with_columns(problem=pl.coalesce(full, by_text))
    return rows.with_columns(problem=pl.coalesce("problem", by_text))


def _with_given_answers(rows: pl.DataFrame, audit: Audit) -> pl.DataFrame:
    """Rows without ``answer`` where it holds the right one of each problem, whatever was answered."""
    if not is_gold(rows["problem"], rows["answer"], rows["correct"]):
        return rows
    audit.understood.append(Understood("answers", "left out: they are the right ones", GOLD))
    return rows.with_columns(answer=pl.lit(None, dtype=pl.String))
