"""NVIDIA GenAI-Perf's ``profile_export.json``, which Perf Analyzer writes: requests and answers as they were sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.documents import nested
from ttc_sim.measured.importing.formats.load_tests import OWN_ARRIVALS
from ttc_sim.measured.importing.formats.openai_chat import prompt_text
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Left, Read, Sample
from ttc_sim.measured.importing.values import as_number

_PATHS = ("experiments.item.requests.item",)
_FOR_SAMPLE = 64_000_000
_NS = 1e-9


class GenAIPerf(Importer):
    """``experiments[].requests[]``: when each was sent and each piece of its answer came, nanoseconds.

    Tokens are those of the answers' ``usage`` where the server sent it; otherwise they are estimated from the texts.
    """

    title = "GenAI-Perf profile export"
    origin = "https://github.com/triton-inference-server/perf_analyzer (genai-perf, profile_data_parser)"
    arrays = ("experiments",)
    reasoning = "inside"
    cached = "inside"
    time_unit = "ns"

    def sample(self, file: LogFile) -> Sample | None:
        if file.kind != "json":
            return super().sample(file)
        return Sample(file.path.name, "json", tuple(islice(self._requests(file, lambda _: None, _FOR_SAMPLE), 3)))

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        yield from enumerate(self._requests(file, at), 1)

    def _requests(self, file: LogFile, at: Callable[[int], None], within: float = float("inf")) -> Iterator[Any]:
        for one in nested(file, _PATHS, "experiments.item", (), at, within=within):
            yield one if isinstance(one, Left) else {**one["record"], "experiment": one["number"]}

    def recognises(self, sample: Sample) -> int:
        records = [record for record in sample.records if isinstance(record, dict)]
        requests = [record for record in records if "response_timestamps" in record]
        for record in records:
            inner = record.get("requests")
            if isinstance(inner, list) and "experiment" in record:
                requests += [one for one in inner[:3] if isinstance(one, dict) and "response_timestamps" in one]
        return 5 if requests and "request_inputs" in requests[0] else 0

    def notes(self, sample: Sample) -> list[str]:
        return [OWN_ARRIVALS]

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict) or "response_timestamps" not in record:
            return
        sent, came = as_number(record.get("timestamp")), record.get("response_timestamps")
        outputs = record.get("response_outputs")
        outputs = outputs if isinstance(outputs, list) else []
        answers = [_pieces(one) for one in outputs]
        pieces = [piece for answer in answers for piece in answer]
        times = [as_number(one) for one in came] if isinstance(came, list) else []
        # Pieces without text (who speaks, the usage, the end) are no tokens.
        with_text = [when for when, answer in zip(times, answers, strict=False) if any(map(_text, answer))]
        times = with_text or times
        usage: dict[str, Any] = next(
            (piece["usage"] for piece in reversed(pieces) if isinstance(piece.get("usage"), dict)), {}
        )
        body = _parsed(find(record, "request_inputs", "payload"))
        text = "".join(filter(None, map(_text, pieces)))
        failed = not times or any("error" in piece for piece in pieces)
        first, last = (times[0], times[-1]) if times else (None, None)
        yield Call(
            at=record.get("timestamp"),
            model=find(body, "model"),
            session=find(record, "request_inputs", "session_id"),
            prompt=usage.get("prompt_tokens"),
            cached=find(usage, "prompt_tokens_details", "cached_tokens"),
            output=usage.get("completion_tokens"),
            reasoning=find(usage, "completion_tokens_details", "reasoning_tokens"),
            total=usage.get("total_tokens"),
            status="failed" if failed else "ok",
            reason=next((reason for piece in reversed(pieces) if (reason := _reason(piece))), None),
            first_token_s=None if sent is None or first is None else (first - sent) * _NS,
            latency_s=None if sent is None or last is None else (last - sent) * _NS,
            text=prompt_text(find(body, "messages") or find(body, "prompt")),
            answer_text=text or None,
        )


def _pieces(output: Any) -> list[dict[str, Any]]:
    """Objects of a piece of an answer: it is one, or server-sent events (``data: {...}``)."""
    said = output.get("response") if isinstance(output, dict) else None
    if not isinstance(said, str):
        return []
    lines = said.splitlines() if "data:" in said[:32] else [said]
    found = (_parsed(line.strip().removeprefix("data:")) for line in lines)
    return [piece for piece in found if isinstance(piece, dict)]


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return None


def _choice(piece: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = piece.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _text(piece: Mapping[str, Any]) -> str | None:
    choice = _choice(piece)
    found = (find(choice, where, "content") for where in ("delta", "message"))
    return next(
        (text for text in (*found, choice.get("text"), piece.get("text_output")) if isinstance(text, str)), None
    )


def _reason(piece: Mapping[str, Any]) -> Any:
    return _choice(piece).get("finish_reason")
