"""Azure's public traces of 2023, 2024 and 2025: ``TIMESTAMP,[NumImages,]ContextTokens,GeneratedTokens``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.reading import Sample

_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


class Azure(Importer):
    """A row a request; requests that generated nothing failed. Times of 2023 have no zone, those since have one."""

    title = "Azure LLM inference trace"
    origin = "https://github.com/Azure/AzurePublicDataset (AzureLLMInferenceDataset2023.md, 2024, AzureLMM...2025.md)"

    def recognises(self, sample: Sample) -> int:
        return 3 if sample.kind == "table" and set(_COLUMNS) <= set(sample.columns) else 0

    def notes(self, sample: Sample) -> list[str]:
        if "NumImages" not in sample.columns:
            return []
        return ["NumImages: not used; whether ContextTokens hold the tokens of images is not documented"]

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        at, prompt, output = map(record.get, _COLUMNS)
        yield Call(at=at, prompt=prompt, output=output)
