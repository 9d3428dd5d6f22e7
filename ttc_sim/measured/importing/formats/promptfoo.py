"""Results of promptfoo, as JSON or JSON lines: a test of a prompt and provider each, passed or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.values import given_answer

_ERROR = 2  # failureReason: neither passed nor rejected by an assertion


class Promptfoo(Importer):
    """A result an attempt. Tests are numbered anew for each repetition: what was asked tells problems apart."""

    title = "promptfoo results"
    origin = "https://www.promptfoo.dev/docs/configuration/outputs (src/types/index.ts: EvaluateResult; shared.ts: TokenUsage)"
    arrays = ("results.results", "results")

    def recognises(self, sample: Sample) -> int:
        first = sample.first
        if sample.kind != "json" or not isinstance(first, dict):
            return 0
        found = sum(
            name in first for name in ("promptIdx", "testIdx", "testCase", "gradingResult", "namedScores", "vars")
        )
        return 1 + found if found > 2 and "success" in first else 0

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict) or "success" not in record:
            yield Call(left_out="no result")
            return
        grade = record.get("gradingResult")
        said = find(record, "response", "output")
        failed = record.get("failureReason") == _ERROR or (record.get("error") and said is None)
        asserted = isinstance(grade, dict) and grade.get("reason") != "No assertions"
        if not asserted and not failed:
            yield Call(left_out="not graded: a test without assertions")
            return
        provider = record.get("provider")
        usage = find(record, "response", "tokenUsage")
        usage = usage if isinstance(usage, dict) else {}
        text = find(record, "prompt", "raw")
        answer = said if isinstance(said, str) else None
        # ``cached`` counts what promptfoo's own cache gave: nothing that a provider had in its cache.
        yield Call(
            key=record.get("id"),
            model=(provider.get("label") or provider.get("id")) if isinstance(provider, dict) else provider,
            prompt=usage.get("prompt") or None,
            output=usage.get("completion") or None,
            reasoning=find(usage, "completionDetails", "reasoning") if usage.get("completion") else None,
            total=usage.get("total") if usage.get("completion") else None,
            status="failed" if failed else "ok",
            reason=find(record, "response", "finishReason"),
            text=text if isinstance(text, str) else None,
            answer_text=answer,
            label=find(grade, "pass") if isinstance(grade, dict) else None,
            answer=given_answer(answer, answer),
        )
