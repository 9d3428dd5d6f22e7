"""Requests that ServeGen generated, as JSON or a table; its clients' rates and distributions are none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.values import as_count, as_number

_PROMPT = ("text_tokens", "image_tokens", "audio_tokens", "video_tokens")
_FIELDS = {"input_tokens", "output_tokens", "reason_ratio", *_PROMPT}
_TABLES = ({"rate_per_s", "iat_cv"}, {"field", "value", "probability"})
_NO_REQUESTS = (
    "rates and distributions of clients, no requests: ServeGen's generate_workload makes requests of them, and a scenario's "
    "arrivals can have a client each"
)


class ServeGen(Importer):
    """``request_id``, ``timestamp`` and ``data`` (or its fields as columns); ``reason_ratio`` is the share of the output that is
    reasoning. A prompt of several kinds is the sum of them."""

    title = "ServeGen requests"
    origin = "https://github.com/alibaba/ServeGen (servegen/construct.py, data/*)"
    arrays = ("requests",)
    reasoning = "inside"
    time_unit = "s"

    def recognises(self, sample: Sample) -> int:
        first = sample.records[0] if sample.records else None
        if not isinstance(first, dict):
            return 0
        if any(set(sample.columns) >= names for names in _TABLES) or _is_distribution(first):
            return 4
        there = _FIELDS & set(_fields(first))
        own = {"reason_ratio", "text_tokens", "image_tokens"} & there or isinstance(first.get("data"), dict)
        named = "timestamp" in first and "request_id" in first and "output_tokens" in there
        return 3 + len(there) if named and own else 0

    def notes(self, sample: Sample) -> list[str]:
        said = ["requests are generated from distributions of production traffic, none was recorded"]
        if any("reason_ratio" in _fields(record) for record in sample.records):
            said.append("reasoning tokens: reason_ratio of the output tokens, rounded")
        return said

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        fields = _fields(record)
        if "output_tokens" not in fields or "timestamp" not in record:
            yield Call(left_out=_NO_REQUESTS)
            return
        prompt: Any = fields.get("input_tokens")
        if prompt is None:
            parts = [_sum(fields.get(name)) for name in _PROMPT if name in fields]
            prompt = sum(filter(None, parts)) if parts and None not in parts else None
        output, share = as_count(fields.get("output_tokens")), as_number(fields.get("reason_ratio"))
        thought = None if output is None or share is None or not 0 <= share <= 1 else round(share * output)
        yield Call(
            key=record.get("request_id"),
            at=record.get("timestamp"),
            source=record.get("client_id"),
            prompt=prompt,
            output=fields.get("output_tokens"),
            reasoning=thought,
        )


def _fields(record: Any) -> Mapping[str, Any]:
    if not isinstance(record, dict):
        return {}
    inner = record.get("data")
    return inner if isinstance(inner, dict) else record


def _is_distribution(first: Mapping[str, Any]) -> bool:
    """A client's dataset: seconds of a window, and in it each quantity's probabilities as the text of a dictionary."""
    window = next(iter(first.values()), None)
    return next(iter(first), "").isdigit() and isinstance(window, dict) and isinstance(window.get("output_tokens"), str)


def _sum(value: Any) -> int | None:
    """Tokens of one kind: a number, or a list of them."""
    found = [as_count(one) for one in (value if isinstance(value, list) else [value])]
    return None if None in found else sum(filter(None, found))
