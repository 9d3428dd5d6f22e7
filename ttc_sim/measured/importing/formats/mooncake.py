"""Mooncake's traces: arrival in milliseconds, lengths, and ids of 512-token blocks of the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample

_BLOCK = 512


class Mooncake(Importer):
    """A line a request: ``timestamp``, ``input_length``, ``output_length``, ``hash_ids``."""

    title = "Mooncake trace"
    origin = "https://github.com/kvcache-ai/Mooncake (FAST25-release/traces)"
    time_unit = "ms"

    def recognises(self, sample: Sample) -> int:
        if sample.kind != "json" or not isinstance(sample.records[0], dict):
            return 0
        first = sample.records[0]
        return 3 + ("hash_ids" in first) if {"timestamp", "input_length", "output_length"} <= set(first) else 0

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        ids = record.get("hash_ids")
        yield Call(
            at=record.get("timestamp"),
            prompt=record.get("input_length"),
            output=record.get("output_length"),
            session=record.get("chat_id", record.get("session_id")),
            turn=record.get("turn"),
            hash_ids=ids if isinstance(ids, list) and ids else None,
            block_tokens=_BLOCK,
        )
