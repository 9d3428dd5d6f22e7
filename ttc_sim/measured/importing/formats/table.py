"""Any table, or flat objects of JSON, by the usual names of its columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.measured.building import BENCHMARK, USUAL_NAMES
from ttc_sim.measured.grades import RIGHT, WRONG
from ttc_sim.measured.importing.call import NOTHING, Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import look_at
from ttc_sim.measured.importing.reading import SAMPLED, Sample, read_records
from ttc_sim.measured.importing.statuses import status_of
from ttc_sim.measured.importing.values import as_count, as_number

NAMES: dict[str, tuple[str, ...]] = {
    "at": ("arrival_s", "arrival_ms", "arrival_us", "arrival", "arrival_time", "timestamp_ms", "unix_ms", "epoch_ms",
           "timestamp", "ts",
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
    "answer": (*USUAL_NAMES["answer"][:-1], "response_answer", "answer"),
    "answer_text": ("response", "response_text", "completion", "output", "output_text", "generation",
                    "model_output", "model_response"),
    "thinking_text": ("reasoning_content", "reasoning_text", "reasoning", "thinking", "thinking_text", "thoughts"),
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
    "response": "answer_text", "thinking": "thinking_text",
}  # fmt: skip
"""What columns can be named for, as users write it, and the field of a call."""
_NUMBERS = ("prompt", "output", "visible")
_TEXTS = ("text", "answer_text", "thinking_text")
_GRADING = ("success", "outcome", "status", "state")
"""Names of columns that say either whether a call came through or whether its answer was right."""
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
        found |= {role: None for role in _TEXTS if not isinstance(found.get(role), str)}
        yield Call(**found, status=status)

    def _columns(self, sample: Sample) -> dict[str, str]:
        return columns_of(_key(sample), tuple(self.named.items()))


class Columns(NamedTuple):
    """What is to be known of a table's columns: their names, which are the same in every row, whole numbers, or grades alone."""

    names: tuple[str, ...]
    constant: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    grades: tuple[str, ...] = ()


def _key(sample: Sample) -> Columns:
    records = [flat(record) for record in sample.records if isinstance(record, dict)]
    names = tuple(dict.fromkeys(str(name) for record in records for name in record))
    values = {name: [record[name] for record in records if record.get(name) not in (None, "")] for name in names}
    constant = tuple(
        name
        for name in names
        if _snake(name) == BENCHMARK and len(records) > 1 and len({str(record.get(name)) for record in records}) == 1
    )
    return Columns(
        names,
        tuple(
            name
            for name in constant
            if sample.path is None or _stays(sample.path, name, len(records), sample.path.stat().st_mtime_ns)
        ),
        tuple(name for name in names if values[name] and all(as_count(one) is not None for one in values[name])),
        tuple(name for name in names if _snake(name) in _GRADING and _are_grades(values[name])),
    )


@lru_cache(maxsize=64)
def _stays(path: Path, name: str, seen: int, changed: int) -> bool:
    """Whether a column stays what it is in the first rows: tables that are sorted by problem begin with many of the first."""
    del changed  # the cache knows it
    if seen < SAMPLED:
        return True
    rows = (
        flat(row) for _, row in read_records(look_at(path), Table.arrays, lambda _: None, {}) if isinstance(row, dict)
    )
    first = next(rows, {}).get(name)
    return all(row.get(name) == first for row in rows)


def _are_grades(values: list[Any]) -> bool:
    words = {str(value).strip().lower() for value in values}
    return words <= {*RIGHT, *WRONG, "0", "1"} and bool(words - {"success", "failure", "failed", "ok", "0", "1"})


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
def columns_of(columns: Columns, named: tuple[tuple[str, str], ...] = ()) -> dict[str, str]:
    """Which column plays which part.

    >>> columns_of(Columns(("Timestamp", "Request tokens", "responseTokens")))
    {'at': 'Timestamp', 'prompt': 'Request tokens', 'output': 'responseTokens'}
    """
    names, constant, numbers, grades = columns
    by_name: dict[str, str] = {}
    for name in names:
        by_name.setdefault(_snake(name), name)
    for name in names:
        by_name.setdefault(_snake(name.rpartition(".")[2]), name)
    taken: dict[str, str] = dict(named)
    for role, usual in NAMES.items():
        there = [by_name[name] for name in usual if name in by_name]
        if role == "problem":  # a benchmark's name is no key
            there = [name for name in there if name not in constant] or there
        elif role in _TEXTS:
            there = [name for name in there if name not in numbers]
        there = [name for name in there if name not in taken.values()]
        if there and role not in taken:
            taken[role] = there[0]
    if "at" not in taken and taken.get("status") in grades and "status" not in dict(named):
        if "label" in taken:
            del taken["status"]
        elif "problem" in taken:
            taken["label"] = taken.pop("status")
    pair = [by_name.get(name) for name in ("input", "output")]
    if all(name in numbers for name in pair) and not {"prompt", "output", "visible"} & set(taken):
        taken["prompt"], taken["output"] = map(str, pair)
    if "label" not in taken:
        for role in ("problem", "subset", "attempt", "answer", "group"):
            taken.pop(role, None)
        if "key" not in taken and "id" in by_name:
            taken["key"] = by_name["id"]
    return taken


def _snake(name: str) -> str:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")
