"""Mooncake's traces: arrival in milliseconds, lengths, and ids of 512-token blocks of the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.prefix_blocks import block_note, block_of
from ttc_sim.measured.importing.reading import Sample

_BLOCK = 512
_COLUMNS = {"timestamp", "input_length", "output_length"}


class Mooncake(Importer):
    """A line a request: ``timestamp``, ``input_length``, ``output_length``, ``hash_ids``; of the conversation, tool and agent, and
    synthetic traces, and of what is written in their form (``session_id``)."""

    title = "Mooncake trace"
    origin = "https://github.com/kvcache-ai/Mooncake (FAST25-release/traces)"
    time_unit = "ms"

    def recognises(self, sample: Sample) -> int:
        first = sample.records[0] if sample.kind == "json" and sample.records else None
        if not isinstance(first, dict) or not set(first) >= _COLUMNS or "parent_chat_id" in first:
            return 0
        return 3 + ("hash_ids" in first)

    def prepared(self, sample: Sample) -> dict[str, Any]:
        return {"block": block_of(sample, _BLOCK)}

    def notes(self, sample: Sample) -> list[str]:
        return block_note(sample, _BLOCK)

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict):
            yield Call(left_out="no JSON object")
            return
        ids = record.get("hash_ids")
        yield Call(
            at=record.get("timestamp"),
            prompt=record.get("input_length"),
            output=record.get("output_length"),
            session=record.get("session_id", record.get("chat_id")),
            turn=record.get("turn"),
            hash_ids=ids if isinstance(ids, list) and ids else None,
            block_tokens=head.get("block", _BLOCK),
        )
