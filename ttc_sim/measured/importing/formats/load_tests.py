"""What results of load generators have in common: arrivals that are their own, and columns of requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.documents import Column, beginning, runs
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Left, Read, Sample, sample_of
from ttc_sim.measured.importing.values import as_number

OWN_ARRIVALS = (
    "arrivals are the load generator's own (a rate or a number at a time that it was told), no traffic of users: lengths and "
    "latencies are measured, the scenario wants arrivals of its own"
)
"""A line for the audit of every load generator's results."""

COLUMNS: dict[str, Column] = {
    "input_lens": "values",
    "output_lens": "values",
    "cached_tokens": "values",
    "ttfts": "values",
    "itls": "sums",
    "start_times": "values",
    "errors": "marks",
}


class ColumnsOfRequests(Importer):
    """Results with a list a quantity, an entry a request; one object a run, runs one after the other in one file.

    An attribute beside those of every importer: ``detail``, the option without which a result is a summary. Latency is the time to
    the first token and all between tokens; requests that failed have neither.
    """

    reasoning = "inside"
    time_unit = "s"
    detail: ClassVar[str]

    def sample(self, file: LogFile) -> Sample | None:
        if file.kind != "json":
            return super().sample(file)
        try:
            return sample_of(file, self.arrays)
        except InputError:  # one line that is too long to be read as a whole
            return Sample(file.path.name, "json", (beginning(file, COLUMNS),))

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        if file.kind != "json":
            yield from super().read(file, at, head)
            return
        number = 0
        for index, run in enumerate(runs(file, COLUMNS, at), 1):
            for request in [run] if isinstance(run, Left) else self._requests(run, index):
                number += 1
                yield number, request

    def notes(self, sample: Sample) -> list[str]:
        timed = [record for record in sample.records if isinstance(record, dict) and record.get("start_times")]
        if timed:
            clock = "start times are of the machine's clock since it was started"
            several = f"; the {len(timed)} runs have it in common, if it was the same machine" if len(timed) > 1 else ""
            return [OWN_ARRIVALS, clock + several]
        return ["requests have no start times: lengths and latencies alone"]

    def prepared(self, sample: Sample) -> dict[str, Any]:
        return {"several": len(sample.records) > 1}

    def model(self, run: Mapping[str, Any]) -> Any:
        """As a run calls it."""
        return run.get("model_id")

    def _requests(self, run: dict[str, Any], index: int) -> Iterable[dict[str, Any] | Left]:
        columns = {name: run[name] for name in COLUMNS if isinstance(run.get(name), list)}
        prompts, outputs = columns.get("input_lens"), columns.get("output_lens")
        if prompts is None:
            return [Left(f"a summary alone: requests are there with {self.detail}")]
        if outputs is None:
            return [Left("a run that generates no tokens (embeddings, scores)")]
        lengths = {len(values) for values in columns.values() if values}
        if len(lengths) > 1:
            return [Left("columns of different lengths", ", ".join(map(str, sorted(lengths))))]
        name = f"{run.get('date')}/{run.get('duration')}"
        common = {"run": index, "name": name, "model": self.model(run), "label": run.get("label", run.get("tag"))}
        return (
            {**common, "index": k, **{column: values[k] for column, values in columns.items() if values}}
            for k in range(len(prompts))
        )

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict) or "index" not in record:
            yield Call(left_out="no run of requests")
            return
        failed = bool(record.get("errors"))
        first, rest = as_number(record.get("ttfts")), as_number(record.get("itls"))
        if failed or not first:  # 0 is what was not measured
            first = rest = None
        whole = None if first is None or rest is None else first + rest
        label = record.get("label")
        yield Call(
            key=f"{record.get('name')}/{record['index']}",
            at=record.get("start_times"),
            source=label if isinstance(label, str) else f"run {record.get('run')}" if head.get("several") else None,
            model=record.get("model"),
            prompt=record.get("input_lens"),
            cached=record.get("cached_tokens"),
            output=record.get("output_lens"),
            status="failed" if failed else "ok",
            first_token_s=first,
            latency_s=whole,
        )
