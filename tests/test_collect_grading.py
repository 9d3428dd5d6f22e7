"""How collected answers are graded."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

import ttc_sim as ttc
from tests.endpoints import Server, line_of, many, process, prompts, run, server
from ttc_sim.collecting import grading, patterns
from ttc_sim.collecting.patterns import Pattern

__all__ = ["process", "server"]


def test_exact_is_the_same_text_or_the_same_number(server: Server, tmp_path: Path) -> None:
    says = ["42", " 42.0 ", "it is 42", "x" * 300, ""]
    for k, (targets, right) in enumerate(
        (([42] * 5, [True, True, False, False, False]), (["42"] * 5, [True, False, False, False, False]))
    ):
        file = prompts(tmp_path, *({"say": say, "n": f"{k}{say}"} for say in says), targets=targets)
        found = run(server, file, grade="exact", out=tmp_path / f"{k}.csv")
        assert found.table["correct"].to_list() == right
        answers = found.table["answer"].to_list()
        assert answers[1] == ("42" if k == 0 else "42.0")  # as the target is written, where it is right
        assert re.fullmatch("sha256:[0-9a-f]{16}", answers[3])
        assert answers[4] is None


def test_a_pattern_finds_its_last_match() -> None:
    for pattern, text, found in (
        (r"\d+", "1 and 23, then 456.", "456"),
        (r"\\boxed\{(.*?)\}", r"\boxed{1} or \boxed{x+1}", "x+1"),
        (r"A: (\w+)|B: (\w+)", "A: one B: two", "two"),
        (r"(?im)^answer:\s*(.*)$", "Answer: no\nANSWER: été\n", "été"),
        (r"zzz", "none of it", None),
        (r"(?<=is )\S+", "it is\nnot, it is \U0001f642\n", "\U0001f642"),
    ):
        with Pattern(pattern, "--grade") as one:
            assert one.last(text) == found
            assert one.last(text + "\n" * 200_000) == found


def test_a_pattern_that_takes_for_ever_is_ended_and_nothing_is_lost(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "LIMIT_S", 0.4)
    monkeypatch.setattr(grading, "Pattern", lambda pattern, where: Pattern(pattern, where, 0.4))
    file = prompts(tmp_path, *({"say": "a" * 60 + f"!{k}"} for k in range(3)))
    start = time.monotonic()
    with pytest.raises(ttc.InputError, match="nested repetitions") as caught:
        run(server, file, grade="regex:(a+)+$")
    line_of(caught)
    assert time.monotonic() - start < 30
    asked = len(server.asked())
    found = run(server, file, grade="regex:!(\\d)")
    assert found.accuracy == 1.0
    assert set(server.requests().values()) == {1}
    assert found.earlier == asked


def test_texts_that_are_kept_can_be_graded_again(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, *({"say": f"it is {k}"} for k in range(3)))
    found = run(server, file, keep_answers=True)
    assert found.accuracy is None
    assert found.table["correct"].null_count() == found.table["answer"].null_count() == 3
    assert run(server, file, keep_answers=True, grade="exact").accuracy == 0.0
    assert run(server, file, keep_answers=True, grade="regex:\\d").accuracy == 1.0
    # Another right answer is another grade.
    changed = file.read_text().replace('"target": "2"', '"target": "3"')
    file.write_text(changed)
    assert run(server, file, keep_answers=True, grade="regex:\\d").table["correct"].to_list() == [True, True, False]
    assert len(server.asked()) == 3


def test_an_own_function_grades_with_consent_and_what_it_breaks_is_not_lost(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    file = prompts(tmp_path, *many(4))
    own = tmp_path / "own.py"
    own.write_text("open('ran', 'w')\ndef right(answer, row):\n    return answer.split()[-1] == row['target']\n")
    with pytest.raises(ttc.InputError, match="consent to run code") as caught:
        run(server, file, grade="own.py:right")
    line_of(caught)
    assert not (tmp_path / "ran").exists()
    assert not server.asked()
    assert run(server, file, grade="own.py:right", allow_code=True).accuracy == 1.0
    # Another function, another table: its first mistake ends it, and what was answered stays.
    for body in ("1 / 0", "return 'yes'", "return (1, 2)", "raise SystemExit(0)"):
        own.write_text(f"def right(answer, row):\n    {body}\n")
        with pytest.raises(ttc.InputError, match="problem p") as caught:
            run(server, file, grade="own.py:right", allow_code=True, out=tmp_path / "b.csv", concurrency=1)
        line_of(caught)
        asked = len(server.asked())
    own.write_text("def right(answer, row):\n    return (None if row['problem'] == 'p1' else True), answer[-1]\n")
    found = run(server, file, grade="own.py:right", allow_code=True, out=tmp_path / "b.csv")
    assert found.table["correct"].to_list() == [True, None, True, True]
    assert found.table["answer"].to_list() == ["0", "1", "2", "3"]
    assert len(server.asked()) == 8
    assert found.earlier == asked - 4
    # Once it is graded and no text is kept, it cannot be graded in another way.
    with pytest.raises(ttc.InputError, match="was not kept"):
        run(server, file, grade="none", out=tmp_path / "b.csv")
