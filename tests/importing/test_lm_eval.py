"""Samples of lm-evaluation-harness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.importing.evaluations import LOGS, as_document, as_lines, columns, imported, left_out, read_or_refused
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.values import estimated_tokens

DATE = "2026-01-21T03-44-18.458309"
PROMPT = "Question: 1 + 1?\nAnswer:"


def sample(doc: int, said: str, got: Any, right: Any, **more: Any) -> dict[str, Any]:
    """A line as versions since 0.4.3 write it."""
    made = {
        "doc_id": doc,
        "doc": {"question": "1 + 1?", "answer": "2"},
        "target": "2",
        "arguments": {"gen_args_0": {"arg_0": PROMPT, "arg_1": {"until": ["\n"]}}},
        "resps": [[said]],
        "filtered_resps": [got],
        "filter": "none",
        "metrics": ["exact_match"],
        "exact_match": right,
    }
    return {**made, **more}


def test_first_filter_counts_and_the_others_are_no_further_attempts(tmp_path: Path) -> None:
    log = LOGS / "lm-eval" / f"samples_gsm8k_{DATE}.jsonl"
    attempts, audit = imported(log, out=tmp_path / "out")
    assert columns(attempts, "problem", "attempt", "correct", "answer") == [("0", 0, True, "3"), ("1", 0, False, None)]
    said = [estimated_tokens("3 and nothing is 3.\n#### 3"), estimated_tokens("It is 5")]
    assert attempts["visible_tokens"].to_list() == said
    assert left_out(audit) == {"another filter of the same answers; strict-match is taken": 2}
    assert any("estimated" in line and "output" in line for line in audit["notes"])
    assert any("filter strict-match" in line for line in audit["notes"])


def test_documents_are_numbered_anew_in_each_task_and_models_come_from_beside_them(tmp_path: Path) -> None:
    for model, right in (("acme__small", 1.0), ("acme__large", 0.0)):
        for task in ("sums", "gsm8k_cot_zeroshot"):
            as_lines(
                tmp_path / "logs" / model / f"samples_{task}_{DATE}.jsonl", [sample(0, f"{model} {task}", "2", right)]
            )
    results = {"model_name": "acme/small-8B", "config": {"model_args": "pretrained=other"}, "results": {}}
    as_document(tmp_path / "logs" / "acme__small" / f"results_{DATE}.json", results)
    attempts, audit = imported(tmp_path / "logs", out=tmp_path / "out")
    assert sorted(columns(attempts, "problem", "model", "correct")) == [
        ("gsm8k_cot_zeroshot/0", "acme/large", False),
        ("gsm8k_cot_zeroshot/0", "acme/small-8B", True),
        ("sums/0", "acme/large", False),
        ("sums/0", "acme/small-8B", True),
    ]
    assert audit["rows"]["read"] == 4


def test_models_share_problems_though_their_chat_templates_differ(tmp_path: Path) -> None:
    logs = []
    for model, prompt in (("a__a", "<s>[INST] 1 + 1? [/INST]"), ("b__b", '[{"role": "user", "content": "1 + 1?"}]')):
        arguments: dict[str, Any] = {"gen_args_0": {"arg_0": prompt if model == "a__a" else [prompt], "arg_1": {}}}
        logs.append(
            as_lines(tmp_path / model / f"samples_t_{DATE}.jsonl", [sample(7, "2", "2", 1, arguments=arguments)])
        )
    attempts, audit = imported(*logs, out=tmp_path / "out")
    assert attempts["problem"].to_list() == ["7", "7"]
    assert attempts["prompt_tokens"].to_list() == [
        estimated_tokens("<s>[INST] 1 + 1? [/INST]"),
        estimated_tokens("1 + 1?"),
    ]
    assert any("several wordings" in line for line in audit["notes"])


def test_thinking_in_an_answer_is_told_from_the_rest(tmp_path: Path) -> None:
    log = as_lines(tmp_path / f"samples_t_{DATE}.jsonl", [sample(0, "<think>one and one</think>2", "2", 1.0)])
    attempts, audit = imported(log, out=tmp_path / "out")
    assert columns(attempts, "reasoning_tokens", "visible_tokens") == [(estimated_tokens("one and one"), 1)]
    assert any(line.startswith("reasoning tokens of 1 rows are estimated") for line in audit["notes"])


def test_before_version_043_arguments_were_lists_and_metrics_were_not_listed(tmp_path: Path) -> None:
    old = {"doc_id": 3, "doc": {}, "target": "2", "arguments": [[PROMPT, {"until": []}]], "resps": [["2"]],
           "filtered_resps": ["2"], "acc": True}  # fmt: skip
    attempts, _ = imported(as_lines(tmp_path / "out_sums.jsonl", [old]), out=tmp_path / "out")
    assert columns(attempts, "problem", "prompt_tokens", "correct") == [("3", estimated_tokens(PROMPT), True)]


def test_what_is_no_attempt_is_left_out(tmp_path: Path) -> None:
    votes = sample(1, "2", "2", 1.0, resps=[["2", "3", "2"]], filter="none", filtered_resps=[["2", "3", "2"]])
    choices = sample(2, "", "", 1, resps=[[["-1.5", "False"]], [["-0.5", "True"]]], filtered_resps=[["-1.5", "False"]])
    bypass = sample(3, "2", "2", None, metrics=["bypass"], bypass=999)
    log = as_lines(tmp_path / f"samples_t_{DATE}.jsonl", [sample(0, "2", "2", 1.0), votes, choices, bypass])
    attempts, audit = imported(log, out=tmp_path / "out")
    assert attempts["problem"].to_list() == ["0"]
    assert left_out(audit) == {
        "several answers graded together, not one by one": 1,
        "choices compared by likelihood: nothing was generated": 1,
        "not graded": 1,
    }


def test_first_of_repeated_answers_is_the_graded_one(tmp_path: Path) -> None:
    rows = [sample(0, "", "2", 1.0, resps=[["2", "a long answer of many words"]], filter="score-first"),
            sample(0, "", "2", 1.0, resps=[["2", "a long answer of many words"]], filter="maj@2")]  # fmt: skip
    attempts, audit = imported(as_lines(tmp_path / f"samples_t_{DATE}.jsonl", rows), out=tmp_path / "out")
    assert columns(attempts, "visible_tokens", "correct") == [(1, True)]
    assert left_out(audit) == {"another filter of the same answers; score-first is taken": 1}


def test_a_task_of_choices_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    row = sample(
        0, "", "", 1.0, resps=[[["-1.5", "False"]]], filtered_resps=[["-1.5", "False"]], metrics=["acc"], acc=1.0
    )
    with pytest.raises(InputError, match="choices compared by likelihood"):
        imported(as_lines(tmp_path / f"samples_mmlu_{DATE}.jsonl", [row]), out=tmp_path / "out")


def test_a_log_that_is_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    log = as_lines(tmp_path / f"samples_t_{DATE}.jsonl", [sample(0, "2", "2", 1.0), sample(1, "3", "3", 0.0)])
    log.write_bytes(log.read_bytes()[:-40])
    attempts, audit = imported(log, out=tmp_path / "out")
    assert attempts["problem"].to_list() == ["0"]
    assert left_out(audit) == {"the last line is cut off": 1}


@pytest.mark.parametrize("value", [[], {}, "x" * 100_000, 1e400, [[[]]], {"gen_args_0": 3}, [None], True])
def test_hostile_values_do_no_harm(tmp_path: Path, value: Any) -> None:
    for name in ("doc_id", "arguments", "resps", "filtered_resps", "metrics", "exact_match", "target"):
        bad = {**sample(1, "3", "3", 0.0), name: value}
        log = as_lines(tmp_path / f"samples_t_{DATE}.jsonl", [sample(0, "2", "2", 1.0), bad])
        read_or_refused(log, out=tmp_path / name)
