"""Test runs of DeepEval: a test case each, passed or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample


class DeepEval(Importer):
    """A test case an attempt; it passed if all of its metrics did."""

    title = "DeepEval test run"
    origin = "https://github.com/confident-ai/deepeval (deepeval/test_run/api.py: LLMApiTestCase)"
    arrays = ("testCases", "test_cases")

    def recognises(self, sample: Sample) -> int:
        first = sample.first
        if sample.kind != "json" or not isinstance(first, dict) or "success" not in first:
            return 0
        found = sum(name in first for name in ("actualOutput", "metricsData", "expectedOutput", "runDuration"))
        return 2 + found if found > 1 else 0

    def prepared(self, sample: Sample) -> dict[str, Any]:
        return {"model": find(sample.head, "hyperparameters", "model")}

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        asked = record.get("input") if isinstance(record, dict) else None
        if not isinstance(asked, str) or not isinstance(record.get("success"), bool):
            yield Call(left_out="not graded")
            return
        said = record.get("actualOutput")
        yield Call(
            attempt=record.get("order"),
            model=head["model"],
            prompt=record.get("inputTokenCount"),
            output=record.get("outputTokenCount"),
            text=asked,
            answer_text=said if isinstance(said, str) else None,
            label=record["success"],
        )
