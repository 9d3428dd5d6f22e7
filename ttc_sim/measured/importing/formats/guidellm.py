"""GuideLLM's ``benchmarks.json``: benchmarks, and in each its requests by what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.documents import nested
from ttc_sim.measured.importing.formats.load_tests import OWN_ARRIVALS
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile, open_bytes
from ttc_sim.measured.importing.reading import Read, Sample
from ttc_sim.measured.importing.values import as_number

_EACH = "benchmarks.item"
_STATUS = {"successful": "ok", "errored": "failed", "incomplete": "partial"}
_PATHS = tuple(f"{_EACH}.requests.{group}.item" for group in _STATUS)
_MODELS = tuple(f"{_EACH}.{where}" for where in ("config.backend.model", "worker.backend_model", "args.backend.model"))
_CSV = (b"Run Info,", b"Type,Run Id,", b"Benchmark,Benchmark,")
_YAML = ("benchmarks:", "args:")
_FOR_SAMPLE = 64_000_000
_ELSEWHERE = "GuideLLM's benchmarks.json (--output kind=json): its CSV has summaries alone, and YAML is not read"


class GuideLLM(Importer):
    """``benchmarks[].requests.{successful,errored,incomplete}``, of versions from 0.2 on; incomplete ones were cut off when the
    time was up."""

    title = "GuideLLM benchmarks"
    origin = "https://github.com/vllm-project/guidellm (docs/guides/outputs.md, schemas/request_stats.py)"
    arrays = ("benchmarks",)
    reasoning = "inside"
    cached = "inside"
    time_unit = "s"

    def sample(self, file: LogFile) -> Sample | None:
        if file.kind == "table":
            with open_bytes(file) as (stream, _):
                if stream.read(64).startswith(_CSV):
                    raise InputError(file.path, "file", file.path.name, _ELSEWHERE)
        if file.kind != "json":
            return super().sample(file)
        return Sample(file.path.name, "json", tuple(islice(self._requests(file, lambda _: None, _FOR_SAMPLE), 3)))

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        if file.kind == "json":
            yield from enumerate(self._requests(file, at), 1)
        else:
            yield from super().read(file, at, head)

    def _requests(self, file: LogFile, at: Callable[[int], None], within: float = float("inf")) -> Iterator[Any]:
        return nested(file, _PATHS, _EACH, _MODELS, at, within=within)

    def recognises(self, sample: Sample) -> int:
        if sample.kind == "table":
            return 4 if sample.columns and sample.columns[0] in _YAML and len(sample.columns) == 1 else 0
        return max((_marks(record) for record in sample.records if isinstance(record, dict)), default=0)

    def prepared(self, sample: Sample) -> dict[str, Any]:
        return {"several": len(sample.records) > 1 or any(find(record, "path") for record in sample.records)}

    def notes(self, sample: Sample) -> list[str]:
        if sample.kind == "table":
            return []
        lines = [OWN_ARRIVALS]
        for record in sample.records:
            totals, requests = find(record, "metrics", "request_totals", "total"), find(record, "requests")
            totals = totals if totals is not None else find(record, "request_totals", "total")
            if isinstance(totals, int) and isinstance(requests, dict):
                there = sum(len(group) for group in requests.values() if isinstance(group, list))
                if there < totals:
                    lines.append(
                        f"{there:,} of the {totals:,} requests of a benchmark are in the file: a sample of them"
                    )
        return lines

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        path, one = find(record, "path"), find(record, "record")
        if not isinstance(path, str) or not isinstance(one, dict):
            yield Call(left_out=f"no request of a benchmark; wanted: {_ELSEWHERE}")
            return
        group = path.removeprefix(f"{_EACH}.requests.").removesuffix(".item")
        kept = find(record, "kept")
        first = as_number(one.get("time_to_first_token_ms"))
        start = one.get("request_start_time", one.get("start_time"))
        yield Call(
            key=one.get("request_id"),
            at=start if start is not None else find(one, "info", "timings", "request_start"),
            source=f"benchmark {record.get('number')}" if head.get("several") else None,
            model=next(iter(kept.values()), None) if isinstance(kept, dict) else None,
            session=find(one, "info", "conversation_id"),
            turn=find(one, "info", "turn_index") if find(one, "info", "conversation_id") else None,
            prompt=_tokens(one, "prompt_tokens", "input_metrics"),
            cached=find(one, "input_metrics", "cached_tokens"),
            output=_tokens(one, "output_tokens", "output_metrics"),
            status=_STATUS.get(group, "ok"),
            first_token_s=None if first is None or first <= 0 else first / 1000,
            latency_s=as_number(one.get("request_latency")),
        )


def _tokens(one: Mapping[str, Any], counted: str, metrics: str) -> Any:
    whole = find(one, metrics, "total_tokens")
    return whole if whole is not None else one.get(counted)


def _marks(record: Mapping[str, Any]) -> int:
    if isinstance(record.get("path"), str) and record["path"].startswith(_EACH):
        return 6
    requests = record.get("requests")
    kind = str(record.get("type_"))
    return 4 + 2 * (kind == "generative_benchmark") if isinstance(requests, dict) and "successful" in requests else 0
