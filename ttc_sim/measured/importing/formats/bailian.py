"""Qwen's traces of Alibaba Cloud's Bailian: arrival in seconds, lengths, chains of requests, and ids of 16-token blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.prefix_blocks import block_note, block_of
from ttc_sim.measured.importing.reading import Read, Sample

_OWN = {"chat_id", "parent_chat_id", "timestamp", "input_length", "output_length"}
_BLOCK = 16
_REMEMBERED = 500_000


class Bailian(Importer):
    """A line a request. Each request has a ``chat_id`` of its own and names the one before it (``parent_chat_id``, -1 for none):
    the session is the first of the chain."""

    title = "Qwen-Bailian trace"
    origin = "https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon (README)"
    time_unit = "s"

    def recognises(self, sample: Sample) -> int:
        first = sample.records[0] if sample.kind == "json" and sample.records else None
        return len(_OWN) + ("turn" in first) if isinstance(first, dict) and set(first) >= _OWN else 0

    def prepared(self, sample: Sample) -> dict[str, Any]:
        return {"block": block_of(sample, _BLOCK)}

    def notes(self, sample: Sample) -> list[str]:
        return block_note(sample, _BLOCK)

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        roots: dict[Any, Any] = {}
        older: dict[Any, Any] = {}
        for number, record in super().read(file, at, head):
            if isinstance(record, dict):
                chat, parent = (record.get(name) for name in ("chat_id", "parent_chat_id"))
                if isinstance(chat, (int, str)) and isinstance(parent, (int, str)):
                    begun = str(parent) in ("-1", "")
                    roots[chat] = chat if begun else roots.get(parent, older.get(parent, parent))
                    record = {**record, "chat_id": roots[chat]}
                    if len(roots) >= _REMEMBERED:  # memory does not grow with the trace
                        roots, older = {}, roots
            yield number, record

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict):
            yield Call(left_out="no JSON object")
            return
        ids = record.get("hash_ids")
        yield Call(
            at=record.get("timestamp"),
            source=record.get("type"),
            session=record.get("chat_id"),
            turn=record.get("turn"),
            prompt=record.get("input_length"),
            output=record.get("output_length"),
            hash_ids=ids if isinstance(ids, list) and ids else None,
            block_tokens=head.get("block", _BLOCK),
        )
