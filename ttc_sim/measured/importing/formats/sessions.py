"""Recorded sessions of agents (kv-cache-tester): a JSON document a session, or all of them as one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.values import as_count

_TABLE = {"session", "t_s", "input_tokens", "output_tokens", "reused_tokens"}
_DOCUMENT = {"id", "block_size", "requests"}
_LARGEST_BLOCK = 1_000_000


class Sessions(Importer):
    """Requests with seconds from the start of their session. When sessions began is not recorded: there are no arrivals, since all
    of them would begin at one instant."""

    title = "agent sessions (kv-cache-tester)"
    origin = "https://github.com/callanjfox/kv-cache-tester (docs/trace_replay_tester.md)"
    cached = "inside"

    def recognises(self, sample: Sample) -> int:
        first = sample.records[0] if sample.records else None
        if not isinstance(first, dict):
            return 0
        if set(first) >= _TABLE:
            return len(_TABLE) + 2
        requests = first.get("requests")
        inner = requests[0] if isinstance(requests, list) and requests else None
        return 5 if set(first) >= _DOCUMENT and isinstance(inner, dict) and {"t", "type"} <= set(inner) else 0

    def notes(self, sample: Sample) -> list[str]:
        said = [
            "times are each session's own clock, and when sessions began is not recorded: no arrivals are taken from them"
        ]
        if any(isinstance(record, dict) and "reused_tokens" in record for record in sample.records):
            said.append(
                "cached tokens: reused_tokens, what an earlier request of the session had sent, not what a server reused"
            )
        return said

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict):
            yield Call(left_out="no JSON object")
        elif "requests" in record:
            yield from self._of_document(record)
        else:
            yield Call(
                key=f"{record.get('session')}/{record.get('agent')}/{record.get('order')}"
                if "order" in record
                else None,
                source=record.get("agent"),
                model=record.get("model"),
                session=record.get("session"),
                turn=record.get("order"),
                prompt=record.get("input_tokens"),
                cached=record.get("reused_tokens"),
                output=record.get("output_tokens"),
                reason=record.get("stop") or None,
                first_token_s=record.get("ttft_s"),
                latency_s=record.get("api_s"),
            )

    def _of_document(self, record: Mapping[str, Any]) -> Iterable[Call]:
        block, session = as_count(record.get("block_size")), record.get("id")
        block = block if block is not None and 0 < block <= _LARGEST_BLOCK else None
        for number, (agent, one) in enumerate(_requests(record.get("requests"), "main"), 1):
            ids = one.get("hash_ids")
            # Ids are the session's own: what they stand for is another block in another session.
            own = [f"{session}/{value}" for value in ids] if isinstance(ids, list) and ids else None
            yield Call(
                key=f"{session}/{agent}/{number}",
                source=agent,
                model=one.get("model"),
                session=session,
                turn=number,
                prompt=one.get("in"),
                output=one.get("out"),
                reason=one.get("stop") or None,
                first_token_s=one.get("ttft"),
                latency_s=one.get("api_time"),
                hash_ids=None if block is None else own,
                block_tokens=block,
            )


def _requests(requests: Any, agent: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Calls in their order, each with its agent; those of sub-agents stand inside of a marker."""
    for one in requests if isinstance(requests, list) else []:
        if isinstance(one, dict) and one.get("type") == "subagent":
            if agent == "main":
                yield from _requests(one.get("requests"), str(one.get("agent_id")))
        elif isinstance(one, dict):
            yield agent, one
