"""Azure's public traces of 2023 and 2024: ``TIMESTAMP,ContextTokens,GeneratedTokens``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample

_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


class Azure(Importer):
    """A row a request; requests that generated nothing failed."""

    title = "Azure LLM inference trace"
    origin = "https://github.com/Azure/AzurePublicDataset (AzureLLMInferenceDataset2023.md and 2024)"

    def recognises(self, sample: Sample) -> int:
        return 3 if sample.kind == "table" and set(_COLUMNS) <= set(sample.columns) else 0

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        yield Call(at=record["TIMESTAMP"], prompt=record["ContextTokens"], output=record["GeneratedTokens"])
