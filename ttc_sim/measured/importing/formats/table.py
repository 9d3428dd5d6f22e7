"""Any table, or flat objects of JSON, by the usual names of its columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.measured.importing.call import NOTHING, Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.statuses import status_of
from ttc_sim.measured.importing.values import as_number

NAMES: dict[str, tuple[str, ...]] = {
    "at": ("arrival_s", "arrival_ms", "arrival_us", "arrival", "arrival_time", "timestamp_ms", "timestamp", "ts",
           "time", "created_at", "created",
           "start_time", "started_at", "request_time", "requested_at", "datetime", "date_time", "date", "t"),
    "key": ("request_id", "response_id", "call_id", "generation_id", "completion_id", "uuid"),
    "source": ("source", "route", "application", "app", "service", "team", "use_case", "endpoint", "log_type"),
    "model": ("model", "model_name", "model_id", "profile", "llm"),
    "session": ("session", "session_id", "conversation_id", "conversation", "thread_id", "chat_id"),
    "turn": ("turn", "turn_id", "turn_index"),
    "prompt": ("prompt_tokens", "input_tokens", "context_tokens", "request_tokens", "prompt_token_count",
               "input_token_count", "input_length",
               "prompt_length", "prompt_len", "input_len", "num_prompt_tokens", "num_input_tokens", "tokens_in",
               "tokens_input", "n_prompt_tokens"),
    "cached": ("cached_tokens", "cache_read_input_tokens", "cached_input_tokens", "cache_read_tokens", "cached_prompt_tokens",
               "cached_content_token_count", "prompt_cached_tokens"),
    "cache_write": ("cache_creation_input_tokens", "cache_write_input_tokens", "cache_write_tokens", "cache_creation_tokens"),
    "output": ("output_tokens", "completion_tokens", "generated_tokens", "response_tokens", "output_token_count",
               "completion_token_count",
               "output_length", "output_len", "num_output_tokens", "num_generated_tokens", "num_completion_tokens",
               "tokens_out", "tokens_output"),
    "reasoning": ("reasoning_tokens", "thinking_tokens", "thoughts_token_count", "reasoning_output_tokens",
                  "thought_tokens", "thoughts_tokens"),
    "visible": ("visible_tokens", "candidates_token_count", "candidates_tokens", "answer_tokens"),
    "total": ("total_tokens", "total_token_count", "tokens_total"),
    "status": ("status", "status_code", "http_status", "outcome", "success", "state"),
    "error": ("error", "error_message", "error_code", "exception"),
    "reason": ("finish_reason", "stop_reason"),
    "truncated": ("truncated", "stopped_at_limit"),
    "first_token_s": ("first_token_s", "ttft_s", "time_to_first_token_s", "ttft_ms", "first_token_ms", "time_to_first_token_ms"),
    "latency_s": ("latency_s", "duration_s", "latency_seconds", "duration_seconds", "e2e_latency_s", "latency_ms",
                  "duration_ms", "e2e_latency_ms",
                  "response_time_ms"),
    "text": ("prompt", "question", "text", "input", "query"),
    "problem": ("problem", "problem_id", "question_id", "task_id", "doc_id", "instance_id", "example_id", "item_id", "id"),
    "subset": ("subset", "dataset", "benchmark"),
    "group": ("group", "task", "task_name", "category", "subject"),
    "attempt": ("attempt", "attempt_id", "sample", "trial", "repeat", "epoch", "run"),
    "label": ("correct", "is_correct", "passed", "is_right", "resolved", "grade", "graded_correct", "score", "acc", "accuracy"),
    "answer": ("prediction", "predicted_answer", "extracted_answer", "model_answer", "response_answer", "given_answer", "answer"),
}  # fmt: skip
"""By field of a :class:`~ttc_sim.measured.importing.call.Call`, the usual names of columns in snake case, the first that is
there counts."""
ROLES = {
    "arrival": "at", "request_id": "key", "source": "source", "model": "model", "session": "session", "turn": "turn",
    "prompt_tokens": "prompt", "cached_tokens": "cached", "cache_write_tokens": "cache_write", "output_tokens": "output",
    "reasoning_tokens": "reasoning", "visible_tokens": "visible", "total_tokens": "total", "status": "status", "error": "error",
    "finish_reason": "reason", "truncated": "truncated", "first_token_s": "first_token_s", "latency_s": "latency_s",
    "prompt": "text", "problem": "problem",
    "subset": "subset", "group": "group", "attempt": "attempt", "correct": "label", "answer": "answer",
}  # fmt: skip
"""What columns can be named for, as users write it, and the field of a call."""
_NUMBERS = ("prompt", "output", "visible")
_DEEPEST = 3
_UNITS = {"_ms": 1e-3, "_us": 1e-6}


class Table(Importer):
    """A row a call."""

    title = "table with the usual names of columns"
    origin = "the names that traces, gateways and evaluations use"
    arrays = ("data", "rows", "requests", "records", "results")

    def __init__(self, named: Mapping[str, str] | None = None) -> None:
        """Take columns for roles (:data:`ROLES`) as somebody named them.

        Raises:
            InputError: no such role.
        """
        self.named: dict[str, str] = {}
        for role, column in (named or {}).items():
            if role not in ROLES:
                raise InputError("--column", "role", role, nearest(role, ROLES))
            self.named[ROLES[role]] = column

    def recognises(self, sample: Sample) -> int:
        taken = self._columns(sample)
        for role, column in self.named.items():
            if column not in _key(sample)[0]:
                raise InputError(sample.name, f"column for {role}", column, nearest(column, _key(sample)[0]))
        counts = any(role in taken for role in _NUMBERS) or "label" in taken
        return len(taken) if counts and len(taken) >= 2 else 0

    def unit(self, sample: Sample) -> str | None:
        # What the name of the column says; :meth:`calls` makes seconds of it.
        return "s" if self._columns(sample).get("at", "").lower().endswith(("_s", *_UNITS)) else None

    def prepared(self, sample: Sample) -> dict[str, Any]:
        return {"columns": self._columns(sample)}

    def notes(self, sample: Sample) -> list[str]:
        taken = self._columns(sample)
        words = {role: word for word, role in ROLES.items()}
        lines = [f"{words[role]}: column {column}" for role, column in taken.items() if role != "error"]
        rest = [name for name in _key(sample)[0] if name not in taken.values()]
        return [*lines, *([f"not used: {', '.join(rest[:20])}{', ...' if len(rest) > 20 else ''}"] if rest else [])]

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict):
            yield Call(left_out="no JSON object")
            return
        taken: Mapping[str, str] = head["columns"]
        values = flat(record)
        found = {role: values.get(column) for role, column in taken.items()}
        found = {
            role: None if isinstance(value, str) and value.strip().lower() in NOTHING else value
            for role, value in found.items()
        }
        for role in ("first_token_s", "latency_s", "at"):
            scale = next((unit for end, unit in _UNITS.items() if str(taken.get(role, "")).lower().endswith(end)), None)
            if scale is not None and (number := as_number(found[role])) is not None:
                found[role] = number * scale
        status = status_of(found.pop("status", None), found.pop("error", None))
        text = found.pop("text", None)
        yield Call(**found, status=status, text=text if isinstance(text, str) else None)

    def _columns(self, sample: Sample) -> dict[str, str]:
        return columns_of(_key(sample), tuple(self.named.items()))


def _key(sample: Sample) -> tuple[tuple[str, ...], tuple[str, ...]]:
    records = [flat(record) for record in sample.records if isinstance(record, dict)]
    names = tuple(dict.fromkeys(str(name) for record in records for name in record))
    constant = tuple(
        name for name in names if len(records) > 1 and len({str(record.get(name)) for record in records}) == 1
    )
    return names, constant


def flat(record: Mapping[Any, Any], before: str = "", depth: int = 0) -> dict[str, Any]:
    """Values of a record by name, those of objects in it by names with a point, such as ``usage.prompt_tokens``.

    >>> flat({"model": "m", "usage": {"prompt_tokens": 7}})
    {'model': 'm', 'usage.prompt_tokens': 7}
    """
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict) and depth < _DEEPEST:
            found |= flat(value, f"{before}{name}.", depth + 1)
        else:
            found[f"{before}{name}"] = value
    return found


@lru_cache(maxsize=64)
def columns_of(key: tuple[tuple[str, ...], tuple[str, ...]], named: tuple[tuple[str, str], ...] = ()) -> dict[str, str]:
    """Which column plays which part, by the names of all columns and of those that are the same in every row.

    >>> columns_of((("Timestamp", "Request tokens", "responseTokens"), ()))
    {'at': 'Timestamp', 'prompt': 'Request tokens', 'output': 'responseTokens'}
    """
    names, constant = key
    by_name: dict[str, str] = {}
    for name in names:
        by_name.setdefault(_snake(name), name)
    for name in names:
        by_name.setdefault(_snake(name.rpartition(".")[2]), name)
    taken: dict[str, str] = dict(named)
    for role, usual in NAMES.items():
        there = [by_name[name] for name in usual if name in by_name]
        if role == "problem":  # what is the same in every row is no key
            there = [name for name in there if name not in constant] or there
        there = [name for name in there if name not in taken.values()]
        if there and role not in taken:
            taken[role] = there[0]
    if "label" not in taken:
        for role in ("problem", "subset", "attempt", "answer", "group"):
            taken.pop(role, None)
        if "key" not in taken and "id" in by_name:
            taken["key"] = by_name["id"]
    return taken


def _snake(name: str) -> str:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")
