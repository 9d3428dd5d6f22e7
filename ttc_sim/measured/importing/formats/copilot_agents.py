"""GitHub Copilot's coding agents, June 2026 (Azure's public datasets): a line a session, turns and calls inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.values import as_number

_ANSWERED = frozenset({"success", "ok"})


class CopilotAgents(Importer):
    """``turns[].llm_calls[]``; tools stand in ``tool_batches`` and are no calls."""

    title = "GitHub Copilot coding agent trace"
    origin = "https://github.com/Azure/AzurePublicDataset (GitHubCopilotCodingAgentDataset2026.md, schema.json)"
    cached = "inside"

    def recognises(self, sample: Sample) -> int:
        first = sample.records[0] if sample.kind == "json" and sample.records else None
        turns = find(first, "turns") if isinstance(first, dict) else None
        turn = turns[0] if isinstance(turns, list) and turns else None
        return 6 if isinstance(turn, dict) and "llm_calls" in turn and "session_id" in (first or {}) else 0

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        turns = record.get("turns") if isinstance(record, dict) else None
        number = 0
        for turn in turns if isinstance(turns, list) else []:
            found = find(turn, "llm_calls")
            for one in found if isinstance(found, list) else []:
                number += 1
                if not isinstance(one, dict):
                    yield Call(left_out="no JSON object")
                    continue
                result, duration = str(one.get("result") or "success").lower(), as_number(one.get("duration_ms"))
                yield Call(
                    key=one.get("message_id"),
                    at=one.get("timestamp"),
                    source=one.get("initiator_type"),
                    model=one.get("model"),
                    session=record.get("session_id"),
                    turn=number,
                    prompt=find(one, "tokens", "prompt"),
                    cached=find(one, "tokens", "cached"),
                    output=find(one, "tokens", "completion"),
                    total=find(one, "tokens", "total"),
                    status="ok" if result in _ANSWERED else "partial" if "cancel" in result else "failed",
                    latency_s=None if duration is None else duration / 1000,
                )
