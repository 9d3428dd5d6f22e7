"""Results of simple-evals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.importing.evaluations import LOGS, as_document, columns, imported, left_out, read_or_refused
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.values import estimated_tokens

NAME = "gpqa_o3-mini_high_20250709_102041_allresults.json"


def page(score: Any, extracted: Any, said: str = "") -> str:
    """A page as the template makes it: what models wrote is escaped in it, so that it cannot pass for a grade."""
    said = said.replace("<", "&lt;").replace(">", "&gt;")
    grades = f"<p>Correct Answer: B</p>\n<p>Extracted Answer: {extracted}</p>\n<p>Score: {score}</p>"
    return f"<pre>{said}</pre>\n<h3>Results</h3>\n{grades}"


def conversation(prompt: str, *said: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, *({"role": "assistant", "content": one} for one in said)]


def results(pages: list[str], convos: list[Any], metadata: list[Any] | None = None) -> dict[str, Any]:
    """In the order in which simple_evals.py writes them."""
    return {"score": 0.5, "metrics": {"chars": 12.0}, "htmls": pages, "convos": convos,
            "metadata": {"example_level_metadata": metadata or [None] * len(convos)}}  # fmt: skip


def test_grades_stand_in_pages_and_repeats_with_mixed_choices_are_one_problem(tmp_path: Path) -> None:
    first, mixed = "Which?\nA) one\nB) two", "Which?\nA) two\nB) one"
    pages = [page(1.0, "B", "<p>Score: 0.0</p>"), page(1.0, "A"), page(0.0, "B"), page(0.0, None)]
    convos = [
        conversation(first, "It is B"),
        conversation(mixed, "It is A"),
        conversation(mixed, "It is B"),
        conversation("Other?", "?"),
    ]
    attempts, audit = imported(as_document(tmp_path / NAME, results(pages, convos)), out=tmp_path / "out")
    counts = attempts.group_by("problem").len().sort("len")["len"].to_list()
    assert counts == [1, 3]
    three = attempts.filter(attempts["problem"].is_duplicated())
    # B of the first, A of the second and the wrong B of the third stand for "two", "two" and "one".
    assert columns(three, "attempt", "correct", "answer") == [(0, True, "two"), (1, True, "two"), (2, False, "one")]
    assert attempts["model"].unique().to_list() == ["o3-mini_high"]
    assert three["visible_tokens"].to_list() == [estimated_tokens("It is B")] * 3
    assert any("output tokens of 4 rows are estimated" in line for line in audit["notes"])


def test_what_its_own_code_wrote(tmp_path: Path) -> None:
    attempts, _ = imported(LOGS / "simple-evals" / NAME, out=tmp_path / "out")
    assert sorted(attempts["correct"].to_list()) == [False, True, True]


def test_usage_of_healthbench_counts(tmp_path: Path) -> None:
    usage = {
        "input_tokens": 40,
        "input_cached_tokens": 10,
        "output_tokens": 30,
        "output_reasoning_tokens": 12,
        "total_tokens": 70,
    }
    nothing = dict.fromkeys(usage)
    document = results(
        [page(1.0, "x"), page(0, "y")],
        [conversation("a", "b"), conversation("c", "d")],
        [{"usage": usage}, {"usage": nothing}],
    )
    attempts, _ = imported(
        as_document(tmp_path / "healthbench_hard_gpt-4.1_20250709_102041_allresults.json", document),
        out=tmp_path / "out",
    )
    assert sorted(columns(attempts, "prompt_tokens", "reasoning_tokens", "visible_tokens"), key=str) == [
        (1, None, 1),
        (40, 12, 18),
    ]
    assert attempts["model"].unique().to_list() == ["gpt-4.1"]


def test_answers_graded_together_and_requests_that_failed_are_no_attempts(tmp_path: Path) -> None:
    pages = [page(0.6, "[1, 0, 1, 1, 0]"), page(1.0, "x"), page(0.0, None), page(None, None)]
    convos = [
        conversation("a", *"12345"),
        conversation("b", "x"),
        conversation("c", "No response (bad request)."),
        conversation("d", "x"),
    ]
    attempts, audit = imported(as_document(tmp_path / NAME, results(pages, convos)), out=tmp_path / "out")
    assert attempts["correct"].to_list() == [True]
    assert left_out(audit) == {
        "several answers graded together, not one by one": 1,
        "not graded": 1,
        "graded, but failed or broken off: no attempt": 1,
    }


def test_averages_and_reports_alone_are_refused_and_the_file_with_the_answers_is_named(tmp_path: Path) -> None:
    averages = as_document(
        tmp_path / "gpqa_o1_20250709_102041.json", {"chars": 9.0, "chars:std": 1.0, "score": 0.7, "score:std": 0.4}
    )
    report = tmp_path / "gpqa_o1_20250709_102041.html"
    report.write_text("<!DOCTYPE html>\n<html>\n<body>a, b, c</body>\n", encoding="utf-8")
    for path, value in ((averages, "averages alone"), (report, "a page of HTML")):
        with pytest.raises(InputError, match=f"got '{value}'.*_allresults.json of the same run"):
            imported(path, out=tmp_path / "out")


def test_large_and_cut_off_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [page(float(k % 2), "x") for k in range(6)]
    path = as_document(tmp_path / NAME, results(pages, [conversation(f"{k} {'long ' * 50}", "x") for k in range(6)]))
    monkeypatch.setattr("ttc_sim.measured.importing.json_records._WHOLE", 500)
    attempts, _ = imported(path, out=tmp_path / "whole")
    assert (len(attempts), int(attempts["correct"].sum())) == (6, 3)
    path.write_bytes(path.read_bytes()[:-700])
    attempts, audit = imported(path, out=tmp_path / "cut")
    assert 0 < len(attempts) < 6
    assert left_out(audit) == {"the document is damaged or cut off from here on": 1}


@pytest.mark.parametrize("value", [[], {}, 3, "x", [None], [[1]], True, None])
def test_hostile_values_do_no_harm(tmp_path: Path, value: Any) -> None:
    good = results([page(1.0, "x")] * 2, [conversation("a", "b"), conversation("c", "d")])
    bad = [{**good, name: value} for name in ("htmls", "convos", "metadata", "score")]
    bad += [{**good, "convos": [good["convos"][0], value]}, {**good, "htmls": [page(1.0, "x"), value]}]
    bad += [{**good, "convos": [good["convos"][0], [value, {"role": "assistant", "content": value}]]}]
    for number, document in enumerate(bad):
        read_or_refused(as_document(tmp_path / NAME, document), out=tmp_path / str(number))
