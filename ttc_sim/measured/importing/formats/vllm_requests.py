"""Requests as vLLM's engine saw them: lengths, and times of its own clock (``queued_ts``, ``first_token_ts``, ...)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.values import as_number

_TIMES = {"queued_ts", "first_token_ts", "last_token_ts"}
_PROMPT = ("input_toks", "num_prompt_tokens", "prompt_tokens")
_OUTPUT = ("output_toks", "num_generation_tokens", "output_tokens")


class VLLMRequests(Importer):
    """A line a request: ``arrival_time`` of the wall clock, ``queued_ts``, ``scheduled_ts``, ``first_token_ts`` and
    ``last_token_ts`` of the engine's, seconds."""

    title = "vLLM request times"
    origin = "https://github.com/vllm-project/vllm (v1/metrics/stats.py, RequestStateStats), as LLMServingSim's runs have them"
    reasoning = "inside"
    time_unit = "s"

    def recognises(self, sample: Sample) -> int:
        first = sample.records[0] if sample.records else None
        if not isinstance(first, dict) or not set(first) >= _TIMES:
            return 0
        return 4 + any(name in first for name in _PROMPT) + any(name in first for name in _OUTPUT)

    def notes(self, sample: Sample) -> list[str]:
        return [
            "first token and latency count from queued_ts, by the engine's clock: the way from the client is not in them"
        ]

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict):
            yield Call(left_out="no JSON object")
            return
        queued, first, last = (as_number(record.get(name)) for name in ("queued_ts", "first_token_ts", "last_token_ts"))
        yield Call(
            key=record.get("request_id"),
            at=record.get("arrival_time"),
            model=record.get("model"),
            prompt=next((record[name] for name in _PROMPT if name in record), None),
            cached=record.get("num_cached_tokens"),
            output=next((record[name] for name in _OUTPUT if name in record), None),
            first_token_s=_since(queued, first),
            latency_s=_since(queued, last),
        )


def _since(begun: float | None, end: float | None) -> float | None:
    """Seconds between two times; 0 is what the engine has not come to yet."""
    return None if not begun or not end else end - begun
