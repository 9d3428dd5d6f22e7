"""Results of SGLang's ``bench_serving``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttc_sim.measured.importing.call import find
from ttc_sim.measured.importing.formats.load_tests import ColumnsOfRequests
from ttc_sim.measured.importing.reading import Sample

_ITS_OWN = ("total_output_tokens_retokenized", "random_range_ratio", "sharegpt_output_len", "dataset_name")


class SGLangBench(ColumnsOfRequests):
    """``--output-file F --output-details``: a line a run. Requests' start times are not written by any version."""

    title = "SGLang bench_serving result"
    origin = "https://github.com/sgl-project/sglang (python/sglang/bench_serving.py, sglang/benchmark/serving.py)"
    cached = "inside"
    detail = "python -m sglang.bench_serving --output-details"

    def recognises(self, sample: Sample) -> int:
        if sample.kind != "json" or not sample.records or not isinstance(sample.records[0], dict):
            return 0
        own = sum(name in sample.records[0] for name in _ITS_OWN)
        return 2 + own if own >= 2 else 0

    def model(self, run: Mapping[str, Any]) -> Any:
        return find(run, "server_info", "served_model_name") or find(run, "server_info", "model_path")
