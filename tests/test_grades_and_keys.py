"""Grades, answers and keys as people's tables have them, in all that read such tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ttc_sim.base.errors import InputError
from ttc_sim.measured.building import build_profile
from ttc_sim.measured.columns import labels
from ttc_sim.measured.grades import as_grades, is_gold
from ttc_sim.measured.importing import import_logs
from ttc_sim.measured.problem_tables import read_problem_tables

CARD: dict[str, object] = {
    "model": "m", "origin": "tests", "licence": "none", "date": "2026-01-01", "tokenizer": "none", "limits": "made up",
}  # fmt: skip
RIGHT_WRONG: list[list[Any]] = [
    [1, 0], [1.0, 0.0], ["1", "0"], ["1.0", "0.0"], [True, False], ["true", "false"], ["TRUE", "FALSE"], [" True ", "False"],
    ["yes", "no"], ["Y", "N"], ["pass", "fail"], ["PASSED", "FAILED"], ["correct", "incorrect"], ["C", "I"], ["100%", "0%"],
    ["100 %", "0 %"], [100, 0], ["100", "0"], ["success", "failure"], ["resolved", "unresolved"],
]  # fmt: skip


def attempts(**columns: Any) -> pl.DataFrame:
    """Two attempts at each of two problems."""
    made = {
        "problem": ["a", "a", "b", "b"], "model": "m", "prompt": ["A?", "A?", "B?", "B?"], "prompt_tokens": [5, 5, 9, 9],
        "output_tokens": [10, 20, 30, 40], "correct": [1, 0, 0, 1],
    }  # fmt: skip
    return pl.DataFrame({**made, **columns})


@pytest.mark.parametrize("pair", RIGHT_WRONG, ids=str)
def test_every_reader_takes_grades_of_every_kind(tmp_path: Path, pair: list[Any]) -> None:
    table = attempts(correct=[pair[0], pair[1], pair[1], pair[0]])
    expected = [True, False, False, True]
    profile, _ = build_profile(table, "t", "mine", CARD)
    assert profile.attempts["correct"].to_list() == expected
    for ending in ("parquet", "csv"):
        path = tmp_path / f"t.{ending}"
        table.write_parquet(path) if ending == "parquet" else table.write_csv(path)
        for with_tokens in (True, False):
            found = read_problem_tables(path, path, with_tokens=with_tokens).attempts["correct"]
            assert found.cast(pl.Boolean).to_list() == expected
        import_logs([path], tmp_path / ending)
        assert pl.read_parquet(tmp_path / ending / "attempts.parquet")["correct"].to_list() == expected


@pytest.mark.parametrize("share", [0.5, "0.5", "50%", 0.999, "1e-3"])
def test_shares_are_refused_where_single_attempts_are_needed_with_a_hint(tmp_path: Path, share: Any) -> None:
    other = "1" if isinstance(share, str) else 1.0
    table = attempts(correct=[share, other, other, other])
    path = tmp_path / "t.parquet"
    table.write_parquet(path)
    for read in (
        lambda: build_profile(table, path, "mine", CARD),
        lambda: read_problem_tables(path, path, with_tokens=True),
        lambda: import_logs([path], tmp_path / "out"),
    ):
        with pytest.raises(InputError, match=r"row 1: got .*a share of several attempts is a row for each of them"):
            read()
    shares = read_problem_tables(path, path, with_tokens=False).attempts["correct"].to_list()
    assert shares[0] == pytest.approx({"50%": 0.5, "0.5": 0.5, "1e-3": 1e-3}.get(str(share), share))


def test_what_is_no_grade_is_refused_by_row() -> None:
    for values, shown in (
        (["1", "perhaps"], "perhaps"),
        (["100%", "250%"], "250%"),
        ([1.0, 100.0], "100.0"),
        (["n/a", "1"], "n/a"),
    ):
        with pytest.raises(InputError, match=f"got '?{shown}"):
            labels(pl.DataFrame({"x": values}), "t", "x", shares=True)
    for strange in ([["yes"]], [{"a": 1}]):
        with pytest.raises(InputError, match="column x: got"):
            labels(pl.DataFrame({"x": strange}), "t", "x", shares=True)
    # Numbers that are all 0 or 100 are percentages; one that is neither says that they are not.
    assert as_grades(pl.Series([0, 100, None])).to_list() == [0.0, 1.0, None]
    assert as_grades(pl.Series([0, 0])).to_list() == [0.0, 0.0]


def test_right_answers_are_not_taken_for_given_ones(tmp_path: Path) -> None:
    gold = attempts(answer=["4", "4", "7", "7"])
    profile, said = build_profile(gold, "t", "mine", CARD)
    assert profile.attempts["answer"].null_count() == 4
    assert [line for line in said if "answer" in line] == [
        "column answer holds the right answers, not given ones (those of wrong attempts are always those of right attempts at "
        "the same problem): left out"
    ]
    with pytest.raises(InputError, match="column answer: got 'the right answers'; expected answers that were given"):
        build_profile(gold, "t", "mine", CARD, {"answer": "answer"})
    path = tmp_path / "t.csv"
    gold.write_csv(path)
    assert read_problem_tables(path, path, with_tokens=True).attempts["answer"].null_count() == 4
    audit = import_logs([path], tmp_path / "out")
    assert "answer" not in pl.read_parquet(tmp_path / "out" / "attempts.parquet").columns
    assert [one.taken for one in audit.understood if one.what == "answers"] == ["left out: they are the right ones"]


def test_given_answers_stay_also_beside_right_ones(tmp_path: Path) -> None:
    given = ["4", "5", "9", "7"]
    for table in (attempts(answer=given), attempts(answer=["4", "4", "7", "7"], prediction=given)):
        profile, said = build_profile(table, "t", "mine", CARD)
        assert profile.attempts["answer"].to_list() == given
        assert not any("left out" in line for line in said)
        table.write_csv(tmp_path / "t.csv")
        assert (
            read_problem_tables(tmp_path / "t.csv", tmp_path / "t.csv", with_tokens=True).attempts["answer"].to_list()
            == given
        )
        import_logs([tmp_path / "t.csv"], tmp_path / "out", replace=True)
        assert pl.read_parquet(tmp_path / "out" / "attempts.parquet")["answer"].to_list() == given


@pytest.mark.parametrize(
    ("problem", "answer", "correct", "gold"),
    [
        (["a", "a"], ["1", "1"], [True, True], False),  # nothing wrong: nothing tells
        (["a", "b"], ["1", "1"], [True, False], False),  # of other problems
        (["a", "a", "a"], ["1", "1", None], [True, False, False], True),
        (["a", "a", "b", "b"], ["1", "1", "2", "3"], [True, False, True, False], False),
        (["a", "a"], [None, None], [True, False], False),
    ],
)
def test_what_tells_right_answers(
    problem: list[str], answer: list[str | None], correct: list[bool], gold: bool
) -> None:
    assert is_gold(pl.Series(problem), pl.Series(answer, dtype=pl.String), pl.Series(correct)) == gold


def test_a_benchmark_that_is_the_same_in_every_row_is_no_key(tmp_path: Path) -> None:
    table = attempts(task_id="gsm8k", id=["a", "a", "b", "b"]).drop("problem")
    profile, said = build_profile(table, "t", "mine", CARD)
    assert profile.attempts["problem"].to_list() == ["a", "a", "b", "b"]
    assert "problem: column id" in said
    table.write_csv(tmp_path / "t.csv")
    found = read_problem_tables(tmp_path / "t.csv", tmp_path / "t.csv", with_tokens=True)
    assert found.problems["problem"].to_list() == ["a", "b"]
    import_logs([tmp_path / "t.csv"], tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "problems.parquet")["problem"].to_list() == ["a", "b"]
    # Where it differs it is the key, and a number of rows is none.
    code = attempts(task_id=["HumanEval/0", "HumanEval/0", "HumanEval/1", "HumanEval/1"], id=[0, 1, 2, 3]).drop(
        "problem"
    )
    assert build_profile(code, "t", "mine", CARD)[0].attempts["problem"].n_unique() == 2
    alone = attempts(task_id="HumanEval/0").drop("problem")
    assert build_profile(alone, "t", "mine", CARD)[0].attempts["attempt"].to_list() == [0, 1, 2, 3]
