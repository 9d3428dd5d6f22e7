"""Results of ``vllm bench serve``, and of ``benchmark_serving.py`` before it."""

from __future__ import annotations

from ttc_sim.measured.importing.formats.load_tests import ColumnsOfRequests
from ttc_sim.measured.importing.reading import Sample

_ITS_OWN = ("model_id", "tokenizer_id", "num_prompts", "total_token_throughput")


class VLLMBench(ColumnsOfRequests):
    """``--save-result --save-detailed``; with ``--append-result`` several runs in one file. Versions before 0.10 have no start
    times."""

    title = "vLLM bench serve result"
    origin = "https://github.com/vllm-project/vllm (vllm/benchmarks/serve.py)"
    detail = "vllm bench serve --save-result --save-detailed"

    def recognises(self, sample: Sample) -> int:
        if sample.kind != "json" or not sample.records or not isinstance(sample.records[0], dict):
            return 0
        first = sample.records[0]
        own = sum(name in first for name in _ITS_OWN)
        run = "request_throughput" in first or "input_lens" in first
        return 2 + own if own >= 2 and run and "total_output_tokens_retokenized" not in first else 0
