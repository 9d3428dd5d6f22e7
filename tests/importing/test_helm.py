"""Runs of HELM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.importing.evaluations import as_document, columns, imported, left_out, read_or_refused
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.values import estimated_tokens


def stat(name: str, value: float) -> dict[str, Any]:
    return {
        "name": {"name": name, "split": "test"},
        "count": 1,
        "sum": value,
        "min": value,
        "max": value,
        "mean": value,
    }


def instance(key: str, trial: int = 0, perturbation: str | None = None, **stats: float) -> dict[str, Any]:
    """A record of per_instance_stats.json: each metric that HELM ran writes one of its own."""
    made: dict[str, Any] = {
        "instance_id": key,
        "train_trial_index": trial,
        "stats": [stat(*one) for one in stats.items()],
    }
    return made if perturbation is None else {**made, "perturbation": {"name": perturbation, "robustness": True}}


def state(key: str, said: str, trial: int = 0, **more: Any) -> dict[str, Any]:
    """A request of scenario_state.json."""
    result = {
        "success": True,
        "completions": [{"text": said, "tokens": [], **more.pop("completion", {})}],
        "cached": False,
    }
    request = {"prompt": f"Example {trial}. {key}?"}
    return {"instance": {"id": key}, "train_trial_index": trial, "request": request, "result": result, **more}


def run(folder: Path, stats: list[Any], states: list[Any] | None, model: str = "acme/small", outputs: int = 1) -> Path:
    """A folder of a run, as helm-run writes it."""
    spec = {
        "name": f"mmlu:subject=anatomy,method=joint,model={model.replace('/', '_')}",
        "adapter_spec": {"model": model, "num_outputs": outputs},
    }
    as_document(folder / "run_spec.json", spec)
    as_document(folder / "stats.json", [stat("exact_match", 0.5)])
    if states is not None:
        as_document(folder / "scenario_state.json", {"adapter_spec": spec["adapter_spec"], "request_states": states})
    as_document(folder / "per_instance_stats.json", stats)
    return folder


def test_rows_of_all_metrics_are_one_attempt_and_trials_are_attempts(tmp_path: Path) -> None:
    stats = [
        instance("id1", num_prompt_tokens=50, num_output_tokens=8, finish_reason_length=0, finish_reason_stop=1),
        instance("id1", 1, num_prompt_tokens=52, num_output_tokens=9, finish_reason_length=1, finish_reason_stop=0),
        instance("id1", exact_match=0, chain_of_thought_correctness=1),
        instance("id1", 1, exact_match=1, chain_of_thought_correctness=0),
        instance("id1", 0, "typos", num_prompt_tokens=50, num_output_tokens=8),
    ]
    run(tmp_path / "run", stats, [state("id1", "B", 1), state("id1", "A"), state("id9", "C")])
    attempts, audit = imported(tmp_path / "run", out=tmp_path / "out")
    assert columns(
        attempts, "problem", "attempt", "prompt_tokens", "visible_tokens", "correct", "truncated", "answer", "model"
    ) == [
        ("id1", 0, 50, 8, True, False, "A", "acme/small"),
        ("id1", 1, 52, 9, False, True, "B", "acme/small"),
    ]
    assert left_out(audit) == {"a perturbed copy of the problem": 1}
    assert any("graded by chain_of_thought_correctness, not by exact_match" in line for line in audit["notes"])
    assert pl.read_parquet(tmp_path / "out" / "problems.parquet")["subset"].to_list() == [
        "mmlu:subject=anatomy,method=joint"
    ]


def test_models_share_problems_and_prompts_are_kept_if_asked_for(tmp_path: Path) -> None:
    for model, right in (("acme/small", 0), ("acme/large", 1)):
        stats = [instance("id1", num_prompt_tokens=50, num_output_tokens=8, exact_match=right)]
        run(tmp_path / "runs" / model.replace("/", "_"), stats, [state("id1", "A")], model)
    attempts, _ = imported(tmp_path / "runs", out=tmp_path / "out")
    assert sorted(columns(attempts, "problem", "model", "correct")) == [
        ("id1", "acme/large", True),
        ("id1", "acme/small", False),
    ]


def test_thinking_is_in_no_count_of_helm_and_is_estimated(tmp_path: Path) -> None:
    stats = [instance("id1", num_prompt_tokens=50, num_output_tokens=8, exact_match=1)]
    run(tmp_path / "run", stats, [state("id1", "A", completion={"thinking": {"text": "it must be A"}})])
    attempts, audit = imported(tmp_path / "run", out=tmp_path / "out")
    assert columns(attempts, "reasoning_tokens", "visible_tokens") == [(estimated_tokens("it must be A"), 8)]
    assert any(line.startswith("reasoning tokens of 1 rows are estimated") for line in audit["notes"])


def test_what_is_no_attempt_is_left_out(tmp_path: Path) -> None:
    counts: dict[str, Any] = {"num_prompt_tokens": 50, "num_output_tokens": 8}
    stats = [instance("a", **counts, exact_match=1), instance("b", **counts, exact_match=1), instance("c", **counts),
             instance("d", **counts, exact_match=0)]  # fmt: skip
    states = [state("b", "A", reference_index=0), state("d", "A")]
    states[1]["result"] = {"success": False, "completions": [], "error": "content policy"}
    attempts, audit = imported(run(tmp_path / "run", stats, states), out=tmp_path / "out")
    assert attempts["problem"].to_list() == ["a"]
    assert left_out(audit) == {
        "choices compared by likelihood: nothing was generated": 1,
        "not graded as right or wrong": 1,
        "graded, but failed or broken off: no attempt": 1,
    }
    several = state("a", "A")
    several["result"]["completions"] *= 5
    for number, asked in enumerate((None, [several])):
        run(tmp_path / f"several{number}", stats[:1], asked, outputs=5)
        with pytest.raises(InputError, match="several answers counted together"):
            imported(tmp_path / f"several{number}", out=tmp_path / "none")


@pytest.mark.parametrize("with_states", [True, False])
def test_multiple_choice_asks_for_one_answer_whatever_num_outputs_says(tmp_path: Path, with_states: bool) -> None:
    stats = [instance("a", num_prompt_tokens=50, num_output_tokens=1, exact_match=1)]
    folder = run(tmp_path / "run", stats, [state("a", "A")] if with_states else None, outputs=5)
    spec = {"name": "mmlu:model=m", "adapter_spec": {"model": "m", "num_outputs": 5, "method": "multiple_choice_joint"}}
    as_document(folder / "run_spec.json", spec)
    attempts, _ = imported(folder, out=tmp_path / "out")
    assert columns(attempts, "visible_tokens", "correct") == [(1, True)]


def test_requests_alone_have_no_grades_and_the_file_that_has_them_is_named(tmp_path: Path) -> None:
    run(tmp_path / "run", [instance("a", exact_match=1)], [state("a", "A")])
    with pytest.raises(InputError, match=r"expected per_instance_stats\.json of the same run"):
        imported(tmp_path / "run" / "scenario_state.json", out=tmp_path / "out")


def test_a_file_that_is_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    stats = [instance(f"id{k}", num_prompt_tokens=50, num_output_tokens=8, exact_match=k % 2) for k in range(4)]
    folder = run(tmp_path / "run", stats, None)
    path = folder / "per_instance_stats.json"
    path.write_bytes(path.read_bytes()[:-30])
    attempts, audit = imported(path, out=tmp_path / "out")
    assert attempts["problem"].to_list() == ["id0", "id1", "id2"]
    assert left_out(audit) == {"the document is damaged or cut off from here on": 1}


@pytest.mark.parametrize("value", [[], {}, 3, "x", [None], [[1]], float("nan"), True, None])
def test_hostile_values_do_no_harm(tmp_path: Path, value: Any) -> None:
    good = instance("a", num_prompt_tokens=50, num_output_tokens=8, exact_match=1)
    for name in ("instance_id", "train_trial_index", "stats", "perturbation"):
        folder = run(
            tmp_path / name, [good, {**good, "instance_id": "b", name: value}], [value, state("a", "A", instance=value)]
        )
        as_document(folder / "run_spec.json", value)
        read_or_refused(folder / "per_instance_stats.json", out=tmp_path / name / "out")
