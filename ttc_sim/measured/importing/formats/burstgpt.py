"""BurstGPT's traces of ChatGPT and GPT-4 in a university: CSV of all releases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample

_COLUMNS = {"Timestamp", "Model", "Request tokens", "Response tokens"}
_MORE = {"Total tokens", "Log Type", "Session ID", "Elapsed time"}


class BurstGPT(Importer):
    """A row a request, seconds from midnight of the first day; no response tokens is a request that failed. Releases since 1.2
    have ``Session ID`` and ``Elapsed time`` (until the whole answer was there)."""

    title = "BurstGPT trace"
    origin = "https://github.com/HPMLL/BurstGPT (README, Schema)"
    time_unit = "s"

    def recognises(self, sample: Sample) -> int:
        there = set(sample.columns)
        return 4 + len(there & _MORE) if sample.kind == "table" and there >= _COLUMNS else 0

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        yield Call(
            at=record.get("Timestamp"),
            source=record.get("Log Type"),
            model=record.get("Model"),
            session=record.get("Session ID") or None,
            prompt=record.get("Request tokens"),
            output=record.get("Response tokens"),
            total=record.get("Total tokens"),
            latency_s=record.get("Elapsed time"),
        )
