"""Logs of the gateway LiteLLM: rows of its table ``LiteLLM_SpendLogs``, and its standard logging payload."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.bodies import as_object, between, prompt_text, unpacked
from ttc_sim.measured.importing.call import NOTHING, Call, find
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Read, Sample
from ttc_sim.measured.importing.statuses import status_of
from ttc_sim.measured.importing.values import as_count

_ROW = frozenset({"request_id", "call_type", "startTime", "endTime", "prompt_tokens", "completion_tokens"})
_PAYLOAD = frozenset({"id", "call_type", "startTime", "endTime", "prompt_tokens", "completion_tokens"})
_CALLS = ("completion", "text_completion", "responses", "anthropic_messages", "generate_content", "pass_through")
_SUCCESS, _FAILURE = "success", "failure"
_RETRIED = "retried"


class LiteLLM(Importer):
    """A row or payload a call. LiteLLM brings all providers' usage into OpenAI's form: prompt tokens hold those of the cache, and
    completion tokens those of reasoning.

    What it answered from its own cache (``cache_hit``) called no model and is left out. A failed try is a retry where a later
    payload of the same trace and group of models says that it was tried again.
    """

    title = "LiteLLM spend log"
    origin = (
        "https://github.com/BerriAI/litellm: schema.prisma (LiteLLM_SpendLogs), "
        "litellm/proxy/spend_tracking/spend_tracking_utils.py and https://docs.litellm.ai/docs/proxy/logging_spec"
    )
    arrays = ("data", "logs", "spend_logs", "rows")
    reasoning = "inside"
    cached = "inside"
    time_unit = "s"

    def recognises(self, sample: Sample) -> int:
        if sample.kind == "table":
            return 8 if set(sample.columns) >= _ROW else 0
        return max((_marks(record) for record in sample.records), default=0)

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        payloads = (_payload(record) for _, record in super().read(file, lambda seen: at(seen // 2), {}))
        head[_RETRIED] = _tried_again(payloads)
        yield from super().read(file, lambda seen: at(file.size // 2 + seen // 2), head)

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        record = _payload(record)
        if record is None or not _is_model_call(record.get("call_type")):
            return
        if "pass_through" in str(record.get("call_type")) and not as_count(record.get("total_tokens")):
            return  # of anything
        if str(record.get("cache_hit")).strip().lower() == "true":
            yield Call(left_out="answered from LiteLLM's own cache: no model was called")
            return
        meta = as_object(record.get("metadata")) or {}
        usage = as_object(meta.get("usage_object")) or as_object(find(record, "hidden_params", "usage_object")) or {}
        more = as_object(meta.get("additional_usage_values")) or {}
        said = record.get("status") or meta.get("status")
        status = status_of(said if said in (_SUCCESS, _FAILURE) else None, record.get("error_str"))
        if status == "failed" and record.get("trace_id") and _group(record) in head.get(_RETRIED, ()):
            status = "retry"
        answered = as_object(record.get("response")) or {}
        began, ended, first = (_said(record.get(name)) for name in ("startTime", "endTime", "completionStartTime"))
        streamed = first is not None and first != ended  # without a stream, LiteLLM writes the end for the first token
        yield Call(
            key=record.get("request_id") or record.get("id"),
            at=began,
            source=record.get("team_id") or find(meta, "user_api_key_team_id") or find(meta, "user_api_key_alias"),
            model=record.get("model") or record.get("model_group"),
            session=record.get("session_id") or record.get("trace_id"),
            prompt=record.get("prompt_tokens"),
            cached=_detail(usage, more, "prompt_tokens_details", "cached_tokens", "cache_read_input_tokens"),
            cache_write=_detail(
                usage, more, "prompt_tokens_details", "cache_creation_tokens", "cache_creation_input_tokens"
            ),
            output=record.get("completion_tokens"),
            reasoning=_detail(usage, more, "completion_tokens_details", "reasoning_tokens", "reasoning_tokens"),
            total=record.get("total_tokens"),
            status=status,
            reason=_reason(answered),
            first_token_s=between(began, first) if streamed else None,
            latency_s=between(began, ended),
            text=_asked(record),
        )


def _payload(record: Any) -> dict[str, Any] | None:
    if not isinstance(record, dict):
        return None
    inner = as_object(record.get("standard_logging_object"))
    return record if inner is None else inner


def _marks(record: Any) -> int:
    found = _payload(record)
    if found is None:
        return 0
    return 8 if found.keys() >= _ROW or found.keys() >= _PAYLOAD else 0


def _is_model_call(kind: Any) -> bool:
    """Whether a type of call is one of text: ``acompletion``, ``aresponses``, ..., or empty as older versions left it."""
    return not isinstance(kind, str) or not kind or any(name in kind for name in _CALLS)


def _tried_again(payloads: Iterable[dict[str, Any] | None]) -> frozenset[tuple[str, str]]:
    """Traces and groups of models with a call that says it is not the first try; rows of spend logs have no failed tries."""
    found: set[tuple[str, str]] = set()
    for payload in payloads:
        if payload is None:
            continue
        if "trace_id" not in payload:
            break
        holders = [as_object(payload.get(name)) or {} for name in ("metadata", "hidden_params")]
        if any((as_count(one.get("attempted_retries")) or 0) > 0 or one.get("previous_models") for one in holders):
            found.add(_group(payload))
    return frozenset(found)


def _group(record: Mapping[str, Any]) -> tuple[str, str]:
    return str(record.get("trace_id"))[:128], str(record.get("model_group"))[:128]


def _detail(usage: Mapping[str, Any], more: Mapping[str, Any], details: str, name: str, flat: str) -> Any:
    for holder in (usage, more):
        inner = as_object(holder.get(details)) or {}
        if (found := inner.get(name)) is not None:
            return found
        if (found := holder.get(flat)) is not None:
            return found
    return None


def _said(value: Any) -> Any:
    """A time as it stands, without what tables have for nothing."""
    return None if isinstance(value, str) and value.strip().lower() in NOTHING else value


def _reason(answered: Mapping[str, Any]) -> Any:
    choices = answered.get("choices")
    return (
        choices[0].get("finish_reason")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict)
        else None
    )


def _asked(record: Mapping[str, Any]) -> str | None:
    for messages in (record.get("messages"), find(as_object(record.get("proxy_server_request")) or {}, "messages")):
        messages = unpacked(messages)
        if isinstance(messages, list) and (text := prompt_text(messages)) is not None:
            return text
    return None
