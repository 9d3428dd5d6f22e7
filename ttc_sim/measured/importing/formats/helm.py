"""Runs of HELM: ``per_instance_stats.json``, with the prompts and answers of ``scenario_state.json`` beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile, look_at
from ttc_sim.measured.importing.reading import Left, Read, Sample, read_records
from ttc_sim.measured.importing.values import given_answer

STATES, SPEC = "scenario_state.json", "run_spec.json"
_GRADES = (
    "chain_of_thought_correctness", "math_equiv_chain_of_thought", "math_equiv", "omni_math_accuracy", "ifeval_strict_accuracy",
    "final_number_exact_match", "code_eval_acc", "pass", "exact_match_with_references", "quasi_exact_match", "exact_match",
    "quasi_prefix_exact_match", "prefix_exact_match", "exact_set_match",
)  # fmt: skip
"""Metrics that grade an answer, the first of them that is there counts: those made for a task before those of all tasks."""
_COUNTS = (
    "num_prompt_tokens",
    "num_output_tokens",
    "finish_reason_length",
    "finish_reason_stop",
    "finish_reason_endoftext",
)
_WANTED = frozenset((*_GRADES, *_COUNTS))
_LARGEST_SPEC = 16_000_000


class HELM(Importer):
    """An instance and trial is an attempt; each of HELM's metrics writes rows of its own, which are put together."""

    title = "HELM run"
    origin = "https://crfm-helm.readthedocs.io (helm/benchmark/metrics/metric.py: PerInstanceStats, adaptation/request_state.py)"
    arrays = ("request_states",)
    keyed = True

    def recognises(self, sample: Sample) -> int:
        first = sample.first
        if sample.kind != "json" or not isinstance(first, dict):
            return 0
        if {"instance", "request", "train_trial_index"} <= set(first):
            expected = f"per_instance_stats.json of the same run, which has the grades; {STATES} is read beside it"
            raise InputError(sample.path or sample.name, "file", sample.name, expected)
        if {"instance_id", "train_trial_index"} <= set(first) and isinstance(first.get("stats"), list):
            return 6
        return 0

    def prepared(self, sample: Sample) -> dict[str, Any]:
        spec = _spec(sample.path)
        adapter = spec.get("adapter_spec")
        adapter = adapter if isinstance(adapter, dict) else {}
        folder = sample.path.resolve().parent.name if sample.path is not None else ""
        name = spec.get("name")
        name = (
            name if isinstance(name, str) else folder if ":" in folder else None
        )  # folders are named after their runs
        return {
            "model": adapter.get("model") or adapter.get("model_deployment"),
            "subset": _without_model(name),
            "group": name.partition(":")[0].partition(",")[0] if name else None,
            # Multiple choice asks for one answer, and takes `num_outputs` for how many likeliest tokens it wants to see.
            "outputs": None if str(adapter.get("method")).startswith("multiple_choice") else adapter.get("num_outputs"),
            "metric": next(iter(_graded(sample)), None),
        }

    def notes(self, sample: Sample) -> list[str]:
        found = self.prepared(sample)
        metrics = _graded(sample)
        lines = []
        if len(metrics) > 1:
            lines.append(f"{found['subset'] or sample.name}: graded by {metrics[0]}, not by {' or '.join(metrics[1:])}")
        if found["model"] is None:
            lines.append(f"{sample.name}: no {SPEC} beside it that names the model: it stays unnamed")
        if sample.path is not None and not (sample.path.parent / STATES).is_file():
            lines.append(f"{sample.name}: no {STATES} beside it: no prompts, and thinking would be in no count")
        return lines

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        """Instances with the numbers of all their metrics together, in the order of the requests."""
        merged: dict[Any, dict[str, Any]] = {}
        damaged: list[Left] = []
        for _, record in read_records(file, (), at, head):
            if isinstance(record, Left):
                damaged.append(record)
            elif isinstance(record, dict):
                place = _place(record.get("instance_id"), record)
                here = merged.setdefault(place, {"instance_id": place[0], "trial": place[1], "perturbation": place[2]})
                here.update(_numbers(record.get("stats")))
        number = 0
        states = file.path.parent / STATES
        for _, state in read_records(look_at(states), self.arrays, lambda _: None, {}) if states.is_file() else ():
            if isinstance(state, Left) or not isinstance(state, dict):
                continue
            instance = state.get("instance")
            found = merged.pop(
                _place(find(instance, "id") if isinstance(instance, dict) else None, state, instance), None
            )
            if found is not None:
                number += 1
                yield number, {**found, "state": state}
        for found in merged.values():
            number += 1
            yield number, found
        for left in damaged:
            number += 1
            yield number, left

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        state = record.get("state")
        state = state if isinstance(state, dict) else {}
        why = None
        if record.get("perturbation") is not None:
            why = "a perturbed copy of the problem"
        elif state.get("reference_index") is not None:
            why = "choices compared by likelihood: nothing was generated"
        elif _answers(state, head["outputs"]) > 1:
            why = "several answers counted together, not one by one"
        label = record.get(head["metric"]) if head["metric"] else None
        failed = find(state, "result", "success") is False
        if why is None and label is None and not failed:
            why = "not graded as right or wrong"
        if why is not None:
            yield Call(left_out=why)
            return
        completions = find(state, "result", "completions")
        answer = (
            completions[0] if isinstance(completions, list) and completions and isinstance(completions[0], dict) else {}
        )
        said, thought = answer.get("text"), find(answer, "thinking", "text")
        prompt = find(state, "request", "prompt")
        reason = next((name.removeprefix("finish_reason_") for name in _COUNTS[2:] if record.get(name) == 1), None)
        yield Call(
            model=head["model"],
            prompt=record.get("num_prompt_tokens"),
            visible=record.get("num_output_tokens"),
            status="failed" if failed else "ok",
            reason=reason or find(answer, "finish_reason", "reason"),
            text=prompt if isinstance(prompt, str) else None,
            answer_text=said if isinstance(said, str) else None,
            thinking_text=thought if isinstance(thought, str) else None,
            problem=record.get("instance_id"),
            subset=head["subset"],
            group=head["group"],
            attempt=record.get("trial"),
            label=label,
            answer=given_answer(said.strip(), said) if isinstance(said, str) else None,
        )


def _answers(state: Mapping[str, Any], outputs: Any) -> float:
    """How many answers were asked for at once: tokens are counted of all together."""
    completions = find(state, "result", "completions")
    if isinstance(completions, list) and completions:
        return len(completions)
    return outputs if isinstance(outputs, (int, float)) else 1


def _place(key: Any, record: Mapping[str, Any], instance: Any = None) -> tuple[str, Any, str | None]:
    """What rows of several files have in common: instance, trial, and how the instance was perturbed, if it was."""
    changed = instance.get("perturbation") if isinstance(instance, dict) else record.get("perturbation")
    name = find(changed, "name") if isinstance(changed, dict) else None
    trial = record.get("train_trial_index")
    return (
        str(key),
        trial if isinstance(trial, int) else 0,
        None if name in (None, "identity", "original") else str(name),
    )


def _numbers(stats: Any) -> dict[str, float]:
    """Means of the metrics that are needed, by name."""
    made: dict[str, float] = {}
    for stat in stats if isinstance(stats, list) else ():
        name = find(stat, "name", "name") if isinstance(stat, dict) else None
        if not isinstance(name, str) or name not in _WANTED:
            continue
        mean, total, count = stat.get("mean"), stat.get("sum"), stat.get("count")
        if mean is None and count == 1:
            mean = total
        if isinstance(mean, (int, float)):
            made[name] = mean
    return made


def _graded(sample: Sample) -> list[str]:
    """Metrics that grade answers here, best first."""
    there: set[str] = set()
    for record in sample.records:
        if isinstance(record, dict):
            there |= _numbers(record.get("stats")).keys()
    return [name for name in _GRADES if name in there]


def _spec(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        beside = path.parent / SPEC
        if beside.stat().st_size > _LARGEST_SPEC:
            return {}
        found = json.loads(beside.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _without_model(name: str | None) -> str | None:
    """Name of a run without the model, so that models share problems.

    >>> _without_model("mmlu:subject=anatomy,method=multiple_choice_joint,model=openai_gpt-4o")
    'mmlu:subject=anatomy,method=multiple_choice_joint'
    """
    if name is None:
        return None
    task, mark, arguments = name.partition(":")
    kept = [one for one in arguments.split(",") if not one.startswith(("model=", "model_deployment="))]
    return task + (mark + ",".join(kept) if any(kept) else "")
