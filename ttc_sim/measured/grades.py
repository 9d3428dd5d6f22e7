"""Grades in all the ways that tables write them."""

from __future__ import annotations

import polars as pl

RIGHT = ("true", "t", "yes", "y", "pass", "passed", "correct", "right", "c", "success", "resolved", "ok")
WRONG = ("false", "f", "no", "n", "fail", "failed", "incorrect", "wrong", "i", "failure", "unresolved")
"""Words for 1 and 0, in lower case; ``c`` and ``i`` are Inspect's."""


def as_grades(values: pl.Series) -> pl.Series:
    """Grades as numbers, empty ones null, ``NaN`` for what is none: words, numbers, and percentages where they end in a percent
    sign or
    are all 0 or 100 and some are 100.

    >>> as_grades(pl.Series(["TRUE", "0.0", "pass", "100%", "", "many"])).to_list()
    [1.0, 0.0, 1.0, 1.0, None, nan]
    """
    if values.dtype == pl.Boolean or values.dtype.is_numeric():
        numbers = values.cast(pl.Float64)
    else:
        said = values.cast(pl.String).str.strip_chars().str.to_lowercase()
        plain = said.str.strip_suffix("%").str.strip_chars()
        scale = pl.Series([0.01 if end else 1.0 for end in said.str.ends_with("%").fill_null(value=False)])
        frame = pl.DataFrame({"said": said, "number": plain.cast(pl.Float64, strict=False) * scale})
        numbers = frame.select(
            pl.when(pl.col("said") == "").then(None)
            .when(pl.col("said").is_in(RIGHT)).then(1.0)
            .when(pl.col("said").is_in(WRONG)).then(0.0)
            .when(pl.col("said").is_not_null()).then(pl.col("number").fill_null(float("nan")))
        ).to_series()  # fmt: skip
    known = numbers.drop_nulls().drop_nans()
    if len(known) and known.is_in([0.0, 100.0]).all() and (known == 100.0).any():
        numbers = numbers / 100
    return numbers.alias(values.name)


GOLD = "those of wrong attempts are always those of right attempts at the same problem"
"""Why a column of answers is taken for the right ones."""


def is_gold(problem: pl.Series, answer: pl.Series, correct: pl.Series) -> bool:
    """Whether answers are the right ones of each problem, not those that were given: wrong attempts have the same as right ones.

    >>> is_gold(pl.Series(["a", "a"]), pl.Series(["7", "7"]), pl.Series([True, False]))
    True
    >>> is_gold(pl.Series(["a", "a"]), pl.Series(["7", "8"]), pl.Series([True, False]))
    False
    """
    rows = pl.DataFrame({"problem": problem, "answer": answer, "correct": correct}).drop_nulls()
    right = rows.filter(pl.col("correct"))
    wrong = rows.filter(~pl.col("correct")).join(right, on="problem", how="semi")
    return len(wrong) > 0 and wrong.join(right, on=["problem", "answer"], how="anti").is_empty()
