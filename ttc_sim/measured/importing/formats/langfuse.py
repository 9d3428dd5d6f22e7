"""Exports of Langfuse: observations as its interface, its API and its blob storage write them, and traces that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ttc_sim.measured.importing.bodies import added, as_object, between, prompt_text, unpacked
from ttc_sim.measured.importing.call import NOTHING, Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.nesting import COUNTED_INSIDE, Nesting, Span, name_of, nesting_of
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Read, Sample
from ttc_sim.measured.importing.values import as_count

_KIND = "GENERATION"
_KINDS = frozenset(
    {_KIND, "SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL"}
)
_NESTING = "nesting"
_GRADES = ("correct", "is_correct", "correctness", "passed", "pass", "exact_match", "resolved", "accuracy")


class Langfuse(Importer):
    """A generation a call. Keys of ``usageDetails`` are parts that do not hold each other (``input`` is without
    ``input_cached_tokens``, ``output`` without ``output_reasoning_tokens``), whatever their spelling; what names input is prompt.
    Who sends other counts than that sends a total that shows it.

    Of a generation around others that counts their tokens once more, only those inside count.
    """

    title = "Langfuse export"
    origin = (
        "https://github.com/langfuse/langfuse: packages/shared/src/server/ingestion/types.ts (UsageDetails), "
        "worker/src/features/database-read-stream/observation-stream.ts; https://langfuse.com/docs/model-usage-and-cost"
    )
    arrays = ("data", "observations")
    reasoning = "outside"
    cached = "outside"

    def recognises(self, sample: Sample) -> int:
        found = max((_marks(one) for record in sample.records for one in _observations(record)), default=0)
        return found if found >= 4 else 0

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        first = (record for _, record in super().read(file, lambda seen: at(seen // 2), {}))
        head[_NESTING] = nesting_of(_span(one) for record in first for one in _observations(record))
        yield from super().read(file, lambda seen: at(file.size // 2 + seen // 2), head)

    def notes(self, sample: Sample) -> list[str]:
        seen = [one for record in sample.records for one in _observations(record) if one.get("type") == _KIND]
        estimated = sum(1 for one in seen if _counted_by_langfuse(one))
        said = f"of {estimated} of the first {len(seen)} generations, Langfuse counted the tokens itself: nobody reported them"
        return [said] if estimated else []

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        trace = isinstance(record, dict) and isinstance(record.get("observations"), list)
        outer: Mapping[str, Any] = record if trace else head
        nesting: Nesting = head.get(_NESTING) or Nesting()
        for one in _observations(record):
            if one.get("type") != _KIND:
                continue
            if name_of(one.get("id")) in nesting.twice:
                yield Call(left_out=COUNTED_INSIDE)
                continue
            unit = (as_object(one.get("usage")) or {}).get("unit") or _get(one, "unit")
            if isinstance(unit, str) and unit.upper() != "TOKENS":
                yield Call(left_out="counted in another unit than tokens", label=unit)
                continue
            began, ended, first = (_at(one, name) for name in ("startTime", "endTime", "completionStartTime"))
            item, dataset = _get(one, "experimentItemId"), _get(one, "experimentDatasetId")
            meta = as_object(one.get("metadata")) or {}
            yield Call(
                key=one.get("id"),
                at=began,
                source=_get(one, "traceName") or outer.get("name") or one.get("name"),
                model=_get(one, "model") or _get(one, "providedModelName"),
                session=_get(one, "sessionId") or _get(outer, "sessionId"),
                status=_status(one),
                first_token_s=between(began, first),
                latency_s=between(began, ended),
                text=_asked(one),
                label=_grade(one, outer),
                problem=item or meta.get("dataset_item_id") or meta.get("datasetItemId"),
                subset=dataset or meta.get("dataset_name"),
                **_usage(one),
            )


def _observations(record: Any) -> Iterator[dict[str, Any]]:
    """A record that is one, or those of a trace."""
    if isinstance(record, dict):
        inner = record.get("observations")
        if isinstance(inner, list):
            yield from (one for one in inner if isinstance(one, dict))
        else:
            yield record


def _marks(one: Mapping[str, Any]) -> int:
    kind = one.get("type")
    if not isinstance(kind, str) or kind not in _KINDS:
        return 0
    names = (
        "traceId",
        "startTime",
        "usageDetails",
        "providedUsageDetails",
        "parentObservationId",
        "completionStartTime",
    )
    return sum(name in one or _snake(name) in one for name in names)


def _span(one: Mapping[str, Any]) -> Span:
    usage = _usage(one)
    tokens = as_count(added(usage["output"], usage["reasoning"]))
    return Span(one.get("id"), _get(one, "parentObservationId"), one.get("type") == _KIND, tokens)


def _status(one: Mapping[str, Any]) -> str:
    if str(_get(one, "level")).upper() != "ERROR":
        return "ok"
    return "partial" if "cancel" in str(_get(one, "statusMessage")).lower() else "failed"


def _get(one: Mapping[str, Any], name: str) -> Any:
    """What stands under a name in camel case, or the same in snake case as the blob storage has it; tables' nothing is none."""
    found = one.get(name)
    found = one.get(_snake(name)) if found is None else found
    return None if isinstance(found, str) and found.strip().lower() in NOTHING else found


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _at(one: Mapping[str, Any], name: str) -> Any:
    """A time; tables of Langfuse have it in one more pair of quotes."""
    found = _get(one, name)
    return found.strip().strip('"') if isinstance(found, str) else found


def _usage(one: Mapping[str, Any]) -> dict[str, Any]:
    """Counts of a generation, from the newest of the ways in which Langfuse has had them."""
    details = as_object(_get(one, "usageDetails")) or as_object(one.get("usage")) or {}
    given = as_object(_get(one, "providedUsageDetails"))
    if not details:
        names = {"input": "promptTokens", "output": "completionTokens", "total": "totalTokens"}
        details = {name: one[old] for name, old in names.items() if one.get(old) is not None}
    parts: dict[str, list[Any]] = {
        "prompt": [],
        "cached": [],
        "cache_write": [],
        "output": [],
        "reasoning": [],
        "total": [],
    }
    for name, count in details.items():
        if (part := part_of(str(name))) is not None:
            parts[part].append(count)
    if given and not any(part_of(str(name)) == "total" for name in given):
        parts["total"] = []  # that is Langfuse's own sum, which is no evidence
    return {part: added(*counts) for part, counts in parts.items()}


def part_of(name: str) -> str | None:
    """Which count a key of ``usageDetails`` is a part of; ``None`` of what is no part of its own, such as tokens of a tier.

    >>> [part_of(name) for name in ("input", "input_cached_tokens", "cache_creation_input_tokens", "output_reasoning_tokens")]
    ['prompt', 'cached', 'cache_write', 'reasoning']
    """
    key = name.lower()
    if "priority" in key or "cost" in key or "unit" in key:
        return None
    if "total" in key:
        return "total"
    if "cache" in key:
        return "cache_write" if "creation" in key or "write" in key else "cached"
    if "reasoning" in key or "thinking" in key or "thought" in key:
        return "reasoning"
    if "input" in key or "prompt" in key:
        return "prompt"
    return "output" if "output" in key or "completion" in key or "candidates" in key else None


def _counted_by_langfuse(one: Mapping[str, Any]) -> bool:
    given = as_object(_get(one, "providedUsageDetails"))
    return given == {} and bool(as_object(_get(one, "usageDetails")))


def _grade(one: Mapping[str, Any], outer: Mapping[str, Any]) -> Any:
    """The score that says whether an answer is right, by its name: of the observation itself, or of its trace."""
    scores = unpacked(one.get("scores"))
    if isinstance(scores, dict):
        named = {str(name).lower(): value for name, value in scores.items()}
    else:
        named = {str(name).lower(): one[name] for name in one if str(name).lower() in _GRADES}
    held = unpacked(outer.get("scores"))
    for score in held if isinstance(held, list) else ():
        if isinstance(score, dict) and score.get("observationId") in (None, one.get("id")):
            value = score.get("value") if score.get("value") is not None else score.get("stringValue")
            named.setdefault(str(score.get("name")).lower(), value)
    value = unpacked(next((named[name] for name in _GRADES if named.get(name) is not None), None))
    if isinstance(value, list):
        return value[0] if len({str(each) for each in value}) == 1 else str(value)[:64] if value else None
    return value


def _asked(one: Mapping[str, Any]) -> str | None:
    asked = unpacked(one.get("input"))
    if isinstance(asked, dict):
        asked = asked.get("messages") or asked.get("contents") or asked.get("prompt") or asked.get("input")
    return prompt_text(asked)
