"""Logs of OpenAI's evals (``oaieval``): lines of events, of which a sampling and a match make an attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.formats.openai_chat import prompt_text
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Left, Read, Sample, read_records

_GRADED = ("match", "metrics")


class OpenAIEvals(Importer):
    """A graded sample an attempt, with what was sampled for it before: of several samplings the first, others are graders'."""

    title = "OpenAI evals log"
    origin = "https://github.com/openai/evals (evals/record.py: record_sampling, record_match, record_metrics)"
    reasoning = "inside"
    cached = "inside"
    keyed = True

    def recognises(self, sample: Sample) -> int:
        if sample.kind != "json":
            return 0
        records = [one for one in sample.records if isinstance(one, dict)]
        spec = any(isinstance(one.get("spec"), dict) and "eval_name" in one["spec"] for one in records)
        events = any({"event_id", "sample_id", "type", "data"} <= set(one) for one in records)
        return 3 * spec + 4 * events if events else 0

    def prepared(self, sample: Sample) -> dict[str, Any]:
        spec: dict[str, Any] = next(
            (one["spec"] for one in sample.records if isinstance(one, dict) and isinstance(one.get("spec"), dict)), {}
        )
        names = spec.get("completion_fns")
        return {"model": names[0] if isinstance(names, list) and names else None, "task": spec.get("eval_name")}

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        """Graded samples, each with what was sampled for it."""
        waiting: dict[str, list[Any]] = {}
        for number, record in read_records(file, self.arrays, at, head):
            if isinstance(record, Left):
                yield number, record
                continue
            kind, key = (record.get("type"), str(record.get("sample_id"))) if isinstance(record, dict) else (None, "")
            if kind == "sampling":
                waiting.setdefault(key, []).append(record.get("data"))
            elif kind == "error":
                waiting.pop(key, None)
                yield number, {"key": key, "event": _event(record), "failed": True, "sampled": [], "data": {}}
            elif kind in _GRADED and isinstance(record.get("data"), dict):
                made = {"key": key, "event": _event(record), "type": kind, "data": record["data"]}
                yield number, {**made, "sampled": waiting.pop(key, [])}

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        data, sampled = record.get("data"), record.get("sampled")
        if not isinstance(data, dict) or not isinstance(sampled, list):
            return
        sampled = [one for one in sampled if isinstance(one, dict)]
        label = data.get("correct", data.get("score"))
        failed = record.get("failed", False)
        if label is None and not failed:
            return
        if len(sampled) > 1 and record.get("type") == "match":
            yield Call(left_out="several calls of a model for one sample")
            return
        first = sampled[0] if sampled else {}
        usage = first.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        said = first.get("sampled", data.get("sampled"))
        said = said[0] if isinstance(said, list) and len(said) == 1 else said
        picked = data.get("picked")
        yield Call(
            key=record.get("event"),
            model=first.get("model") or head["model"],
            prompt=usage.get("prompt_tokens"),
            cached=find(usage, "prompt_tokens_details", "cached_tokens"),
            output=usage.get("completion_tokens"),
            reasoning=find(usage, "completion_tokens_details", "reasoning_tokens"),
            total=usage.get("total_tokens"),
            status="failed" if failed else "ok",
            text=prompt_text(first.get("prompt")),
            answer_text=said if isinstance(said, str) else None,
            problem=record.get("key"),
            subset=head["task"],
            group=head["task"],
            label=label,
            answer=picked if isinstance(picked, str) else None,
        )


def _event(record: Mapping[str, Any]) -> str | None:
    """What names an event."""
    run, number = record.get("run_id"), record.get("event_id")
    return None if run is None or number is None else f"{run}/{number}"
