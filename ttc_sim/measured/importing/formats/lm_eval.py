"""Samples of EleutherAI's lm-evaluation-harness: a line a document and filter, of one task, without token counts."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.formats.openai_chat import prompt_text
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.values import given_answer

_GRADES = ("exact_match", "math_verify", "acc", "acc_norm", "em", "pass@1", "pass_at_1", "prompt_level_strict_acc",
           "extractive_match", "accuracy", "correct", "score")  # fmt: skip
"""Metrics that grade an answer, the first of them that is there counts."""
_NO_GRADES = frozenset({"doc_id", "bypass", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"})
_VOTES = re.compile(r"maj|vote|consensus|pass@|best[_-]?of", re.IGNORECASE)
_DATED = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d\d-\d\dT[\d.:-]+$")
_MODEL = re.compile(r"(?:^|,)(?:peft|delta|pretrained|model|path|engine)=([^,]+)")
_LARGEST_RESULTS = 64_000_000
_NO_ANSWER = "[invalid]"  # what filters put where they find nothing


class LMEval(Importer):
    """A file a task; a document has a row for each filter, of which the first in the file is taken."""

    title = "lm-evaluation-harness samples"
    origin = "https://github.com/EleutherAI/lm-evaluation-harness, --log_samples (evaluator.py, loggers/evaluation_tracker.py)"
    keyed = True

    def recognises(self, sample: Sample) -> int:
        first = sample.first
        if sample.kind != "json" or not isinstance(first, dict) or not {"doc_id", "doc", "resps"} <= set(first):
            return 0
        return 4 + ("filtered_resps" in first) + ("target" in first) + ("arguments" in first)

    def prepared(self, sample: Sample) -> dict[str, Any]:
        first = next((one for one in sample.records if isinstance(one, dict)), {})
        return {
            "task": _task(sample.name),
            "model": _model(sample.path),
            "filter": first.get("filter"),
            "metric": next(iter(_metrics(first)), None),
        }

    def notes(self, sample: Sample) -> list[str]:
        found = self.prepared(sample)
        where = f"task {found['task']}" if found["task"] else sample.name
        lines = []
        metrics = _metrics(next((one for one in sample.records if isinstance(one, dict)), {}))
        if len(metrics) > 1:
            lines.append(f"{where}: graded by {metrics[0]}, not by {' or '.join(metrics[1:])}")
        if found["filter"] not in (None, "none"):
            lines.append(f"{where}: filter {found['filter']} is taken, the first in the file")
        if found["model"] is None:
            lines.append(
                f"{sample.name}: no results_*.json beside it and no folder that names its model: it stays unnamed"
            )
        kinds = Counter(_text(_first(one.get("resps"))) is not None for one in sample.records if isinstance(one, dict))
        if kinds[False] and kinds[True]:
            lines.append(f"{where}: documents with and without an answer of text")
        return lines

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict) or "doc_id" not in record:
            yield Call(left_out="no sample")
            return
        if record.get("filter") != head["filter"]:
            yield Call(left_out=f"another filter of the same answers; {head['filter']} is taken")
            return
        why = _unusable(record)
        label = record.get(head["metric"]) if head["metric"] else None
        if why is None and (label is None or isinstance(label, (list, dict))):
            why = "not graded"
        if why is not None:
            yield Call(left_out=why)
            return
        filtered, said = _first(record.get("filtered_resps")), _text(_first(record.get("resps")))
        yield Call(
            model=head["model"],
            text=_prompt(record.get("arguments")),
            answer_text=said,
            problem=record["doc_id"],
            subset=head["task"],
            group=head["task"],
            label=label,
            answer=given_answer(filtered, said) if isinstance(filtered, str) and filtered != _NO_ANSWER else None,
        )


def _unusable(record: Mapping[str, Any]) -> str | None:
    """Why a row is no attempt, if it is none."""
    answers = _first(record.get("resps"))
    if _text(answers) is None:
        return "choices compared by likelihood: nothing was generated"
    several = isinstance(answers, list) and len(answers) > 1
    filtered = _first(record.get("filtered_resps"))
    if several and (isinstance(filtered, list) or _VOTES.search(str(record.get("filter")))):
        return "several answers graded together, not one by one"
    return None


def _metrics(record: Mapping[str, Any]) -> list[str]:
    """Metrics that may grade an answer, best first."""
    listed = record.get("metrics")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else list(_GRADES)
    there = [name for name in names if name not in _NO_GRADES and isinstance(record.get(name), (bool, int, float))]
    return sorted(there, key=lambda name: _GRADES.index(name) if name in _GRADES else len(_GRADES))


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _text(answers: Any) -> str | None:
    """The first answer, if it is text: of choices compared it is a pair of a log probability and whether it is likeliest."""
    first = _first(answers) if isinstance(answers, list) else answers
    return first if isinstance(first, str) else None


def _prompt(arguments: Any) -> str | None:
    """Of ``{"gen_args_0": {"arg_0": prompt, ...}}``, or of ``[[prompt, ...]]`` as before version 0.4.3."""
    prompt = find(arguments, "gen_args_0", "arg_0") if isinstance(arguments, dict) else _first(_first(arguments))
    if isinstance(prompt, list):  # a chat for an API, as text in a tuple of one
        prompt = _first(prompt)
    if not isinstance(prompt, str):
        return None
    if prompt.startswith("[{"):
        try:
            return prompt_text(json.loads(prompt)) or prompt
        except (ValueError, RecursionError):
            return prompt
    return prompt


def _task(name: str) -> str | None:
    stem = name.split(".jsonl")[0]
    found = _DATED.fullmatch(stem)
    if found:
        return found["task"]
    return stem.removeprefix("samples_") if stem.startswith("samples_") else stem


def _model(path: Path | None) -> str | None:
    """By the results beside the samples, else by the folder, as it is named after the model."""
    if path is None:
        return None
    beside = sorted(path.parent.glob("results_*.json"))
    dated = path.name.split(".jsonl")[0].rpartition("_")[2]
    for results in [one for one in beside if dated in one.name] or beside[-1:]:
        try:
            if results.stat().st_size > _LARGEST_RESULTS:
                continue
            found = json.loads(results.read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError, RecursionError):
            continue
        name = find(found, "model_name") if isinstance(found, dict) else None
        if isinstance(name, str) and name:
            return name
        arguments = find(found, "config", "model_args") if isinstance(found, dict) else None
        if isinstance(arguments, dict):
            named = next((arguments[key] for key in ("pretrained", "model", "path") if key in arguments), None)
            if isinstance(named, str):
                return named
        match = _MODEL.search(arguments) if isinstance(arguments, str) else None
        if match:
            return match[1]
    folder = path.resolve().parent.name
    return folder.replace("__", "/") if "__" in folder else None
