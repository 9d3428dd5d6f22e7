"""NVIDIA AIPerf's ``profile_export.jsonl``: a line a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.formats.load_tests import OWN_ARRIVALS
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.statuses import status_of
from ttc_sim.measured.importing.values import as_number

_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0,
            "nanoseconds": 1e-9, "microseconds": 1e-6, "milliseconds": 1e-3, "seconds": 1.0}  # fmt: skip
_CANCELLED = 499
_STATISTICS = {"Metric", "avg", "p99"}


class AIPerf(Importer):
    """``metadata``, ``metrics`` with a ``value`` and a ``unit`` each, and ``error``.

    The server's own counts are taken where it gave them (``usage_*``), otherwise those of AIPerf's tokenizer, in which the output
    holds the reasoning too; the two are never mixed in one row. Sequence lengths of requests that failed are ``error_isl``.
    """

    title = "AIPerf profile export"
    origin = "https://github.com/ai-dynamo/aiperf (docs/tutorials/working-with-profile-exports.md, common/models/record_models.py)"
    reasoning = "inside"
    cached = "inside"
    time_unit = "ns"

    def recognises(self, sample: Sample) -> int:
        if sample.kind == "table":
            return 4 if set(sample.columns) >= _STATISTICS else 0
        return max((_marks(record) for record in sample.records if isinstance(record, dict)), default=0)

    def notes(self, sample: Sample) -> list[str]:
        if not any(isinstance(record, dict) and _marks(record) == _OF_REQUESTS for record in sample.records):
            return []
        usage = any(find(record, "metrics", "usage_completion_tokens") is not None for record in sample.records)
        counted = "the server's usage where it gave one" if usage else "AIPerf's tokenizer, not by the server"
        return [OWN_ARRIVALS, f"tokens are counted by {counted}"]

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        meta, metrics = find(record, "metadata"), find(record, "metrics")
        if not isinstance(meta, dict):
            yield Call(left_out="statistics alone: the requests stand in profile_export.jsonl of the same run")
            return
        if not isinstance(metrics, dict):
            yield Call(left_out="raw answers without counts: these stand in profile_export.jsonl of the same run")
            return
        if meta.get("benchmark_phase") == "warmup" or meta.get("phase_kind") == "warmup":
            yield Call(left_out="a warm-up request")
            return
        error = record.get("error")
        cancelled = meta.get("was_cancelled") is True or find(error, "code") == _CANCELLED
        thought = _value(metrics, "usage_reasoning_tokens")
        theirs = _value(metrics, "usage_completion_tokens")
        if theirs is None or (thought is None and _value(metrics, "reasoning_token_count") is not None):
            output, thought = _value(metrics, "output_sequence_length"), _value(metrics, "reasoning_token_count")
        else:
            output = theirs
        prompt = _value(metrics, "usage_prompt_tokens")
        own = _value(metrics, "input_sequence_length")
        yield Call(
            key=meta.get("x_request_id"),
            at=meta.get("request_start_ns"),
            session=meta.get("x_correlation_id") or meta.get("conversation_id"),
            turn=meta.get("turn_index"),
            prompt=prompt if prompt is not None else own if own is not None else _value(metrics, "error_isl"),
            cached=_value(metrics, "usage_prompt_cache_read_tokens"),
            cache_write=_value(metrics, "usage_prompt_cache_write_tokens"),
            output=output,
            reasoning=thought,
            total=_value(metrics, "usage_total_tokens") if output is theirs else None,
            status="partial" if cancelled else status_of(None, error),
            first_token_s=_seconds(metrics, "time_to_first_token"),
            latency_s=_seconds(metrics, "request_latency"),
        )


_OF_REQUESTS = 6


def _marks(record: Mapping[str, Any]) -> int:
    meta = record.get("metadata")
    if isinstance(meta, dict) and "request_start_ns" in meta and "benchmark_phase" in meta:
        return _OF_REQUESTS if "metrics" in record else 5
    latency = record.get("request_latency")
    return 4 if isinstance(latency, dict) and "avg" in latency and "unit" in latency else 0


def _value(metrics: Mapping[str, Any], tag: str) -> Any:
    found = metrics.get(tag)
    return found.get("value") if isinstance(found, dict) else found


def _seconds(metrics: Mapping[str, Any], tag: str) -> float | None:
    number, unit = as_number(_value(metrics, tag)), find(metrics, tag, "unit")
    scale = _SECONDS.get(unit) if isinstance(unit, str) else None
    return None if number is None or scale is None else number * scale
