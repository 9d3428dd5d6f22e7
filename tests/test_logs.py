"""Reading what a plan's runtime logged: joined as it was written, whatever the order; nonsense is named with its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.simulated_logs import EveryArm, Logged, every_arm, logged
from ttc_sim.base.errors import InputError
from ttc_sim.deploying.decisions import grade_line
from ttc_sim.deploying.logs import STATUSES, Logs, read_logs
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.scenario import load_scenario


@pytest.fixture(scope="module")
def every() -> EveryArm:
    return every_arm(load_scenario("reasoning-gateway"), 300)


@pytest.fixture(scope="module")
def made(every: EveryArm) -> Logged:
    return logged(every, 0.4, graded=0.6, graded_later=0.5)


def same(a: Logs, b: Logs) -> bool:
    return all(
        np.array_equal(np.asarray(x), np.asarray(vars(b)[name]), equal_nan=np.asarray(x).dtype.kind == "f")
        for name, x in vars(a).items()
        if name not in ("scores", "predicted", "counts")
    ) and all(np.array_equal(a.scores[name], b.scores[name]) for name in a.scores)


def test_what_was_logged_is_read(every: EveryArm, made: Logged, tmp_path: Path) -> None:
    (path,) = made.write(tmp_path / "a.jsonl")
    plan = SavedPlan(every.scenario, {}, "met")
    logs = read_logs(path, plan)
    assert len(logs) == 300
    order = [int(name.split("-")[1]) for name in logs.request]
    assert logs.arms == every.arms
    assert np.array_equal(logs.arm, made.arm[order])
    assert np.array_equal(logs.policy_arm, made.policy_arm[order])
    assert logs.propensity == pytest.approx(made.propensity[order], rel=1e-15)
    assert np.array_equal(logs.offered, every.offered[order])
    for name, values in every.requests.scores.items():
        assert np.array_equal(logs.scores[name], values[order])
    assert [logs.sources[k] for k in logs.source] == [every.requests.sources[k] for k in every.requests.source[order]]
    assert logs.at - logs.at[0] == pytest.approx(
        (every.requests.arrival_s - every.requests.arrival_s.min())[order], abs=2e-3
    )
    assert np.array_equal(logs.usd, every.figure("usd", made.arm)[order])
    assert np.array_equal(logs.output_tokens, every.figure("output_tokens", made.arm)[order])
    right = every.figure("correct", made.arm)[order]
    known = ~np.isnan(logs.correct)
    assert np.array_equal(logs.correct[known], right[known])
    answered = logs.status == STATUSES.index("answered")
    assert (logs.correct[~answered] == 0).all()
    assert 0.5 < known[answered].mean() < 0.7
    assert logs.counts.notes == ()
    assert same(logs, read_logs(made.write(tmp_path / "c", tmp_path / "b", tmp_path / "d")[::-1], plan))


def test_what_is_left_out_is_counted(made: Logged, tmp_path: Path) -> None:
    clean, odd = tmp_path / "clean", tmp_path / "odd"
    decisions = [line for line in made.lines if "ttc_sim_decision" in line]
    first, last = decisions[0], decisions[-1]
    kept = [line for line in made.lines if line["request"] not in (first["request"], last["request"])]
    clean.write_text("".join(json.dumps(line) + "\n" for line in [*kept, last]))
    alone = [line for line in made.lines if line["request"] == first["request"] and line is not first]
    elsewhere = [{**line, "request": f"other {line['request']}"} for line in kept[:3]]
    for line in elsewhere:
        if "ttc_sim_decision" in line:
            line["plan"] = "ffffffffffff"
    lines = [*alone[:1], *kept, last, *kept[:7], *elsewhere, grade_line("nobody", True)]
    text = "\n\n".join(json.dumps(line) for line in lines) + "\n" + json.dumps(first)[:57]
    odd.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (tmp_path / "empty").write_text("")
    logs = read_logs([odd, tmp_path / "empty"], digest="0123456789ab")
    assert same(logs, read_logs(clean))
    counts = logs.counts.as_json()
    others = sum("ttc_sim_decision" in line for line in elsewhere)
    assert counts == {
        "lines": len(lines),
        "torn": 1,
        "repeated": sum("ttc_sim_grade" not in line for line in kept[:7]),
        "other_plans": others,
        "without_outcome": 1,
        "outcomes_alone": 1,
        "grades_alone": 1,
        "regraded": 0,
        "fell_back": 0,
    }
    assert len(logs.counts.notes) == 6


def test_what_was_cut_off_spoils_no_other_line(made: Logged, tmp_path: Path) -> None:
    """Wherever a full disk, or the end of a process, cut a line off: at its end, or with the next line right after it."""
    clean, torn = tmp_path / "clean", tmp_path / "torn"
    whole = [json.dumps(line, separators=(",", ":")) for line in made.lines[:30]]
    clean.write_text("\n".join(whole) + "\n")
    logs = read_logs(clean)
    texts = whole[4:6]  # a decision and an outcome
    ends = [text[:at] for text in texts for at in range(1, len(text))]
    for sep, cut in (("\n", ends), ("", [*ends, "", ""])):
        lines = [end + sep + whole[k % len(whole)] for k, end in enumerate(cut)]
        torn.write_text("\n".join(lines[::-1]) + "\n")  # each whole line several times
        found = read_logs(torn)
        assert found.counts.torn == len(ends)
        assert same(found, logs)
    text = texts[0]
    odd = json.dumps({**made.lines[-2], "propensity": 7})
    torn.write_text(f"{text[:40]}\n\n{whole[0]}\n{text[:9]}{odd}\n")
    with pytest.raises(InputError, match="line 4: propensity: got 7"):
        read_logs(torn)


def test_the_last_grade_counts(made: Logged, tmp_path: Path) -> None:
    name = next(line["request"] for line in made.lines if line.get("status") == "answered" and line["correct"])
    path = tmp_path / "log"
    path.write_text(
        "".join(json.dumps(line) + "\n" for line in [grade_line(name, True), *made.lines, grade_line(name, False)])
    )
    logs = read_logs(path)
    assert logs.correct[logs.request.to_list().index(name)] == 0
    assert logs.counts.regraded == 1
    (tmp_path / "later").write_text(json.dumps(grade_line(name, True)) + "\n")
    with pytest.raises(InputError, match=f"correct of {name}"):  # which of the files is the later one?
        read_logs([path, tmp_path / "later"])


def edit(**changes: Any) -> Callable[[dict[str, Any]], str]:
    return lambda line: json.dumps({**line, **changes})


NONSENSE: list[tuple[str, Callable[[dict[str, Any]], str], str]] = [
    ("ttc_sim_decision", lambda _: "{]", "line 3: got '{]'; expected a line of JSON"),
    ("ttc_sim_decision", lambda _: '{"request": "', "line 3: got"),
    ("ttc_sim_decision", lambda line: json.dumps(line)[:-2] + ":", "line 3: got"),
    ("ttc_sim_decision", lambda _: "[1]", "line 3: got '[1]'"),
    ("ttc_sim_decision", lambda _: '{"request": "x"}', "line 3: kind: got 'nothing'"),
    ("ttc_sim_decision", edit(ttc_sim_outcome=1), "kind: got 'ttc_sim_decision, ttc_sim_outcome'"),
    ("ttc_sim_decision", edit(ttc_sim_decision=2), "line 3: ttc_sim_decision: got 2; expected 1"),
    ("ttc_sim_decision", edit(propensity=0.0), "propensity: got 0.0; expected a chance above 0"),
    ("ttc_sim_decision", edit(propensity=1.01), "propensity: got 1.01"),
    ("ttc_sim_decision", edit(propensity="0.5"), "line 3: propensity: got '0.5'; expected a finite number"),
    ("ttc_sim_decision", edit(propensity=None), "line 3: propensity: got 'nothing'"),
    (
        "ttc_sim_decision",
        lambda line: json.dumps(line).replace('"propensity": ', '"propensity": NaN, "x": '),
        "line 3: got",
    ),
    ("ttc_sim_decision", edit(propensity=0.5, arms=[]), "line 3: arms: got"),
    ("ttc_sim_decision", edit(arm="nobody", propensity=1.0, arms=[]), "line 3: arm: got 'nobody'; expected one of"),
    ("ttc_sim_decision", edit(policy_arm="R1"), "policy_arm: got 'R1'; expected one of"),
    ("ttc_sim_decision", edit(arms=["gpt", "mistral", "maverick", "claude", "r1"]), "line 3: arms: got"),
    ("ttc_sim_decision", edit(arms="mistral"), "line 3: arms: got 'mistral'; expected a list of names"),
    ("ttc_sim_decision", edit(source="nowhere"), "source: got 'nowhere'"),
    ("ttc_sim_decision", edit(deployment="x"), "deployment: got 'x'"),
    ("ttc_sim_decision", edit(strategy="Single(cap=7)"), "strategy: got 'Single(cap=7)'"),
    ("ttc_sim_decision", edit(at="2026-11-01T00:00:00"), "at: got '2026-11-01T00:00:00'; expected a moment"),
    ("ttc_sim_decision", edit(prompt_tokens=-1), "prompt_tokens: got -1"),
    ("ttc_sim_decision", edit(prompt_tokens=1.5), "prompt_tokens: got 1.5; expected a whole number"),
    (
        "ttc_sim_decision",
        edit(scores={"difficulty": "hard"}),
        "scores.difficulty: got 'hard'; expected a finite number",
    ),
    ("ttc_sim_decision", edit(scores={"difficulty": None}), "scores.difficulty: got None"),
    ("ttc_sim_decision", edit(scores={"difficulty": True}), "scores.difficulty: got True"),
    ("ttc_sim_decision", edit(scores=[0.5]), "scores: got"),
    ("ttc_sim_decision", lambda line: json.dumps(line).replace('"scores": {', '"scores": {"a": 1e999, '), "line 3"),
    ("ttc_sim_decision", edit(predicted={"chance": 1.2}), "predicted.chance: got 1.2; expected a chance"),
    ("ttc_sim_decision", edit(predicted={"seconds": -1}), "predicted.seconds: got -1.0"),
    ("ttc_sim_decision", edit(scores={"a": 10**400}), "line 3: scores"),
    ("ttc_sim_decision", edit(prompt_tokens=10**30), "line 3: prompt_tokens"),
    ("ttc_sim_outcome", edit(status="done"), "status: got 'done'; expected one of answered"),
    ("ttc_sim_outcome", edit(latency_s=-0.1), "latency_s: got -0.1"),
    ("ttc_sim_outcome", edit(usd=None), "usd: got 'nothing'"),
    ("ttc_sim_outcome", edit(correct=1), "correct: got 1; expected true or false"),
    ("ttc_sim_outcome", edit(status="timed_out", correct=True), "correct: got True; expected false or null"),
    ("ttc_sim_outcome", edit(cached_tokens=10**9), "cached_tokens: got 1000000000"),
]


@pytest.mark.parametrize(("kind", "make", "said"), NONSENSE)
def test_nonsense_is_named_with_its_line(
    every: EveryArm, made: Logged, tmp_path: Path, kind: str, make: Callable[[dict[str, Any]], str], said: str
) -> None:
    lines = [line for line in made.lines if kind in line][:4]
    text = [json.dumps(line) for line in lines]
    text[1] = make(lines[1])
    path = tmp_path / "odd.jsonl"
    path.write_text("\n" + "\n".join(text) + "\n")  # the odd line is the third, after a blank one
    with pytest.raises(InputError) as error:
        read_logs([*made.write(tmp_path / "good.jsonl"), path], SavedPlan(every.scenario, {}, "met"))
    assert said in str(error.value)
    assert "odd.jsonl: line 3" in str(error.value)


def test_a_request_has_one_decision_and_one_outcome(made: Logged, tmp_path: Path) -> None:
    for kind, field in (("ttc_sim_decision", "propensity"), ("ttc_sim_outcome", "usd")):
        line = next(line for line in made.lines if kind in line)
        (tmp_path / "more").write_text(json.dumps({**line, field: 0.987}) + "\n")
        with pytest.raises(InputError, match=r"more: line 1: request: got .* another one stands in .*good, line"):
            read_logs([*made.write(tmp_path / "good"), tmp_path / "more"])


def test_a_chance_may_miss_one_by_its_last_digit(made: Logged, tmp_path: Path) -> None:
    line = next(line for line in made.lines if "ttc_sim_decision" in line)
    for chance in (1 - 1e-16, 1 + 2.3e-16):
        (tmp_path / "log").write_text(json.dumps({**line, "propensity": chance, "arms": [line["arm"]]}) + "\n")
        assert read_logs(tmp_path / "log").propensity.tolist() == [1.0]


def test_there_must_be_decisions(made: Logged, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (path,) = made.write(tmp_path / "log")
    for given, digest in (
        ([tmp_path / "empty"], None),
        ([tmp_path / "none"], None),
        ([path, path], None),
        ([path], "0" * 12),
    ):
        with pytest.raises(InputError):
            read_logs(given, digest=digest)
