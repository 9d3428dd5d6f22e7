"""Instance-level rows of every_eval_ever: one vocabulary for the samples of all evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Left, Read, Sample, read_records
from ttc_sim.measured.importing.values import as_number, given_answer, hash_of

_MARKS = {"evaluation_id", "model_id", "sample_id", "interaction_type", "evaluation"}


_PROBLEM = ("evaluation_id", "model_id", "sample_id", "sample_hash")


class EveryEvalEver(Importer):
    """A line a sample and metric; where an answer has a line for each of several metrics, the first counts."""

    title = "every_eval_ever samples"
    origin = (
        "https://github.com/evaleval/every_eval_ever (schemas/instance_level_eval.schema.json, versions 0.2 and 0.3)"
    )

    def recognises(self, sample: Sample) -> int:
        first = sample.first
        if sample.kind != "json" or not isinstance(first, dict) or not isinstance(first.get("evaluation"), dict):
            return 0
        return len(_MARKS & set(first)) if {"sample_id", "evaluation_id"} <= set(first) else 0

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        """Rows, each with the number of its attempt, those of further metrics of an answer as :class:`Left`."""
        taken: dict[int, str] = {}
        tries: dict[int, int] = {}
        for number, record in read_records(file, self.arrays, at, head):
            if isinstance(record, Left) or not isinstance(record, dict):
                yield number, record
                continue
            metric = f"{record.get('evaluation_name')}|{record.get('evaluation_result_id')}"
            if taken.setdefault(_answer_key(record), metric) == metric:
                problem = hash_of(repr([metric, *(record.get(name) for name in _PROBLEM)]))
                tries[problem] = tries.get(problem, -1) + 1
                yield number, {**record, "attempt": tries[problem]}
            else:
                yield number, Left("another metric of the same answer; the first is taken")

    def notes(self, sample: Sample) -> list[str]:
        named = (find(one, "evaluation_result_id") or find(one, "evaluation_name") for one in sample.records[:1])
        return [f"graded by {name}, where answers have several grades" for name in named if isinstance(name, str)]

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict) or not isinstance(record.get("evaluation"), dict):
            yield Call(left_out="no sample")
            return
        usage = record.get("token_usage")
        usage = usage if isinstance(usage, dict) else {}
        several = record.get("interaction_type") in ("multi_turn", "agentic")
        if several and not usage:
            yield Call(left_out="several calls of a model, and no count of their tokens")
            return
        thought, said = _texts(find(record, "output", "reasoning_trace")), _texts(find(record, "output", "raw"))
        # Chat templates make formatted prompts differ between models: they are for counting alone.
        text = (None if usage else find(record, "input", "formatted")) or find(record, "input", "raw")
        name = record.get("evaluation_name")
        yield Call(
            model=record.get("model_id"),
            prompt=usage.get("input_tokens"),
            cached=usage.get("input_tokens_cache_read"),
            cache_write=usage.get("input_tokens_cache_write"),
            output=usage.get("output_tokens"),
            reasoning=usage.get("reasoning_tokens"),
            total=usage.get("total_tokens"),
            status="failed" if record.get("error") else "ok",
            text=text if isinstance(text, str) else None,
            answer_text=None if usage else said,
            thinking_text=None if usage else thought,
            problem=record.get("sample_id"),
            subset=name,
            group=name,
            attempt=record.get("attempt"),
            label=_label(record["evaluation"]),
            answer=given_answer(_given(record.get("answer_attribution")), said),
        )


def _label(evaluation: Mapping[str, Any]) -> Any:
    """``is_correct``, unless the score is neither 0 nor 1: writers set it for every score above 0."""
    score, right = as_number(evaluation.get("score")), evaluation.get("is_correct")
    return right if isinstance(right, bool) and score in (None, 0.0, 1.0) else evaluation.get("score")


def _answer_key(record: Mapping[str, Any]) -> int:
    said = find(record, "output", "raw")
    if said is None:
        said = record.get("messages")
    return hash_of(repr([*(record.get(name) for name in (*_PROBLEM, "performance")), said]))


def _texts(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    parts = [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
    return "\n".join(parts) if parts else None


def _given(attribution: Any) -> Any:
    """What was extracted from the last turn that answers."""
    found = [one for one in attribution if isinstance(one, dict)] if isinstance(attribution, list) else []
    last = next((one for one in reversed(found) if one.get("is_terminal") is not False), None)
    return last.get("extracted_value") if last else None
