"""Results of load generators: lengths and latencies are measured, arrivals are the generator's own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.importing.helping import imported, lines, traffic
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.formats.load_tests import OWN_ARRIVALS
from ttc_sim.scenario.lengths import Lengths
from ttc_sim.workload.lengths import with_lengths
from ttc_sim.workload.traffic import Traffic

LOGS = Path(__file__).parent / "logs"


def given(name: str) -> Any:
    return json.loads((LOGS / name).read_text())


def table_of_lengths(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "lengths.parquet")


VLLM = given("vllm-bench/detailed.json")
COLUMNS = ("input_lens", "output_lens", "ttfts", "itls", "start_times", "generated_texts", "errors")
SUMMARY = {name: value for name, value in VLLM.items() if name not in COLUMNS}


def test_vllm_columns_become_requests(tmp_path: Path) -> None:
    audit, out = imported(tmp_path, json.dumps(VLLM), "result.json")
    rows = traffic(out)
    assert (audit.format, audit.read, audit.answered, audit.failed) == ("vllm-bench", 4, 3, 1)
    assert rows["arrival_s"].to_list() == [0.0, 0.5, 0.75, 2.0]  # from 91234.5 on
    assert rows["prompt_tokens"].to_list() == [10, 20, 30, 40]
    assert rows["visible_tokens"].to_list() == [3, 2, 4, 0]
    assert rows["first_token_s"].to_list() == [0.05, 0.06, 0.5, None]
    assert rows["latency_s"].to_list() == pytest.approx([0.08, 0.09, 0.53, None])  # ttft and all between tokens
    assert rows["status"].to_list() == ["ok", "ok", "ok", "failed"]
    assert OWN_ARRIVALS in audit.notes


def test_appended_runs_stand_apart_and_summaries_among_them_are_left_out(tmp_path: Path) -> None:
    second = {**VLLM, "date": "20261001-102000", "duration": 9.9, "start_times": [91300.5, 91301.0, 91301.25, 91302.5]}
    labelled = {
        **second,
        "date": "20261001-103000",
        "label": "eager",
        "start_times": [92000.5, 92001.0, 92001.25, 92002.5],
    }
    log = "\n".join(json.dumps(run) for run in (VLLM, SUMMARY, second, labelled))  # as --append-result writes it
    audit, out = imported(tmp_path, log)
    assert audit.read == 13
    assert [(why[:16], left.rows) for why, left in audit.left_out.items()] == [("a summary alone:", 1)]
    assert traffic(out)["source"].to_list() == ["run 1"] * 4 + ["run 3"] * 4 + ["eager"] * 4
    assert traffic(out)["arrival_s"][4] == 66.0


def test_a_summary_is_refused_with_the_flag_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"json: row 1: got 'no row that can be used of 1'.*vllm bench serve --save-result --save-detailed",
    ):
        imported(tmp_path, json.dumps(SUMMARY), "result.json")
    sglang = json.loads((LOGS / "sglang-bench/runs.jsonl").read_text().splitlines()[0])
    with pytest.raises(InputError, match=r"sglang.bench_serving --output-details"):
        imported(tmp_path, json.dumps({name: value for name, value in sglang.items() if name not in COLUMNS}))


def test_a_run_imported_twice_counts_once(tmp_path: Path) -> None:
    audit, out = imported(tmp_path, json.dumps(VLLM) + "\n" + json.dumps(VLLM))
    assert len(traffic(out)) == 4
    assert sum(left.rows for left in audit.left_out.values()) == 4


@pytest.mark.parametrize("damage", ["cut", "columns", "texts", "embeddings"])
def test_damaged_runs_are_left_out_with_the_reason(tmp_path: Path, damage: str) -> None:
    whole = json.dumps({**VLLM, "date": "20261001-090000"})
    odd = {
        "cut": json.dumps(VLLM)[:-400],
        "columns": json.dumps({**VLLM, "ttfts": [0.1]}),
        "texts": json.dumps({**VLLM, "input_lens": ["many", -1, None, [1]]}),
        "embeddings": json.dumps({key: value for key, value in VLLM.items() if key != "output_lens"}),
    }[damage]
    audit, out = imported(tmp_path, f"{whole}\n{odd}")
    # Of the one whose numbers are no numbers a request stays that failed: nothing was counted of it.
    assert len(traffic(out)) == 4 + (damage == "texts")
    said = " ".join(audit.left_out)
    assert {"cut": "cut off", "columns": "different lengths", "texts": "no whole number", "embeddings": "no tokens"}[
        damage
    ] in said


def test_without_start_times_lengths_alone_come_out(tmp_path: Path) -> None:
    """SGLang's have none in any version, vLLM's before 0.10 neither."""
    audit, out = imported(tmp_path, (LOGS / "sglang-bench/runs.jsonl").read_bytes())
    rows = table_of_lengths(out)
    assert (audit.format, audit.answered, audit.failed) == ("sglang-bench", 3, 1)
    assert not (out / "traffic.parquet").exists()
    assert rows["prompt_tokens"].to_list() == [50, 40, 30, 100]
    assert rows["visible_tokens"].to_list() == [12, 8, 0, 7]
    assert rows["cached_tokens"].to_list() == [16, 0, 0, 64]
    assert rows["latency_s"].to_list() == pytest.approx([0.4, 0.45, None, 0.4])
    assert rows["source"].to_list() == ["run 1", "run 1", "run 1", "run 2"]
    assert set(rows["model"]) == {"qwen3-8b"}
    assert audit.outputs == {"lengths.parquet": 4}
    old = {key: value for key, value in VLLM.items() if key != "start_times"}
    assert len(table_of_lengths(imported(tmp_path, json.dumps(old))[1])) == 4


def test_lengths_without_times_are_what_a_workload_draws_from(tmp_path: Path) -> None:
    _, out = imported(tmp_path, (LOGS / "sglang-bench/runs.jsonl").read_bytes())
    none = np.zeros(200, dtype=np.int64)
    arrivals = Traffic(np.arange(200.0), none, None, None, None, None, 1.0)
    lengths = Lengths(prompt_tokens="prompt_tokens", visible_tokens="visible_tokens", file="lengths.parquet")
    drawn = with_lengths(lengths, arrivals, 1, "0", folder=out, where="test")
    assert drawn.prompt_tokens is not None
    assert drawn.visible_tokens is not None
    pairs = set(zip(drawn.prompt_tokens.tolist(), drawn.visible_tokens.tolist(), strict=True))
    assert pairs == {(50, 12), (40, 8), (100, 7)}  # the failed one is left out, and lengths stay together


def test_aiperf_by_the_units_it_names(tmp_path: Path) -> None:
    audit, out = imported(tmp_path, (LOGS / "aiperf/profile_export.jsonl").read_bytes())
    rows = traffic(out)
    assert audit.left_out["a warm-up request"].rows == 1
    assert (audit.answered, audit.failed, audit.partial) == (3, 1, 1)
    assert rows["arrival_s"].to_list() == pytest.approx([0, 1, 2, 3, 4], abs=1e-6)
    assert rows["first_token_s"].to_list()[:3] == pytest.approx([0.255886568, 0.1, 0.08])
    assert rows["latency_s"].to_list()[:3] == pytest.approx([0.297525228, 0.9, 0.7])
    # The tokenizer's counts, the output with its reasoning; then the server's usage; then what failed.
    assert rows["prompt_tokens"].to_list() == [550, 540, 612, 550, 551]
    assert rows["reasoning_tokens"].to_list() == [0, 21, 20, 0, 0]
    assert rows["visible_tokens"].to_list() == [9, 9, 13, 0, 0]
    assert rows["cached_tokens"].to_list() == [None, None, 512, None, None]
    assert rows["session"].to_list()[1:3] == ["c-1", "c-1"]
    assert rows["turn"].to_list()[1:3] == [0, 1]


def test_aiperf_counts_of_two_tokenizers_are_not_mixed(tmp_path: Path) -> None:
    """The server counts 40 tokens and no reasoning, AIPerf's tokenizer 45 of which 42 are reasoning: not 42 of 40."""
    record = json.loads((LOGS / "aiperf/profile_export.jsonl").read_text().splitlines()[1])
    counts = {"output_sequence_length": 45, "reasoning_token_count": 42, "usage_completion_tokens": 40}
    record["metrics"] |= {name: {"value": value, "unit": "tokens"} for name, value in counts.items()}
    record["metrics"]["request_latency"] = {"value": 2_500_000_000, "unit": "ns"}
    record["metrics"]["time_to_first_token"] = {"value": 4, "unit": "fortnights"}
    _, out = imported(tmp_path, lines([record]))
    assert traffic(out)["visible_tokens"].to_list() == [3]
    assert traffic(out)["reasoning_tokens"].to_list() == [42]
    assert traffic(out)["latency_s"].to_list() == [2.5]
    assert "first_token_s" not in traffic(out).columns


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("profile_export_aiperf.json", json.dumps({"request_latency": {"unit": "ms", "avg": 2.0}, "input_config": {}})),
        ("profile_export_aiperf.csv", "Metric,avg,min,max,p99\nRequest Latency (ms),2.0,1.0,3.0,3.0\n"),
        (
            "profile_export_raw.jsonl",
            lines([{"metadata": {"request_start_ns": 1, "benchmark_phase": "profiling"}}]),
        ),
    ],
)
def test_aiperf_statistics_are_refused_with_the_file_that_has_the_requests(
    tmp_path: Path, name: str, content: str
) -> None:
    with pytest.raises(InputError, match=r"profile_export\.jsonl of the same run"):
        imported(tmp_path, content, name)


def test_genai_perf_counts_from_the_first_piece_with_text(tmp_path: Path) -> None:
    audit, out = imported(tmp_path, (LOGS / "genai-perf/profile_export.json").read_bytes())
    rows = traffic(out)
    assert rows["first_token_s"].to_list() == pytest.approx([0.1, 0.5, None])  # not the 10 ms of the empty piece
    assert rows["latency_s"].to_list() == pytest.approx([0.15, 0.5, None])  # not the 160 ms of [DONE]
    assert rows["prompt_tokens"].to_list()[1] == 14
    assert rows["status"].to_list() == ["ok", "ok", "failed"]
    assert any("output tokens of 1 rows are estimated" in line for line in audit.notes)


def test_guidellm_by_what_became_of_requests(tmp_path: Path) -> None:
    audit, out = imported(tmp_path, (LOGS / "guidellm/benchmarks.json").read_bytes())
    rows = traffic(out)
    assert (audit.answered, audit.failed, audit.partial) == (3, 1, 1)
    assert rows["arrival_s"].to_list() == [0.0, 0.5, 1.0, 1.5, 59.0]
    assert rows["status"].to_list() == ["ok", "ok", "failed", "partial", "ok"]
    assert rows["prompt_tokens"].to_list() == [256, 260, 256, 255, 256]
    assert rows["visible_tokens"].to_list() == [128, 128, 0, 40, 128]
    assert rows["first_token_s"].to_list() == [0.12, 0.13, None, 0.11, 0.3]
    assert rows["latency_s"].to_list() == [1.5, 1.6, 0.1, 0.6, 3.0]
    assert rows["source"].to_list() == ["benchmark 1"] * 4 + ["benchmark 2"]
    assert set(rows["model"]) == {"Qwen/Qwen3-8B"}


def test_guidellm_of_its_first_schema_and_a_sample_of_its_requests(tmp_path: Path) -> None:
    packed = gzip.compress((LOGS / "guidellm/version-0-2.json").read_bytes())
    audit, out = imported(tmp_path, packed, "benchmarks.json.gz")
    assert traffic(out)["prompt_tokens"].to_list() == [100, 110, 90]
    assert traffic(out)["status"].to_list() == ["ok", "ok", "failed"]
    assert set(traffic(out)["model"]) == {"meta-llama/Llama-3.1-8B"}
    assert any("3 of the 4 requests" in line for line in audit.notes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("benchmarks.csv", "Run Info,Run Info,Benchmark\nRun ID,Run Index,Type\n,,\nx,0,generative_benchmark\n"),
        ("benchmarks.yaml", "benchmarks:\n- config:\n    id_: b0\n  requests:\n    successful: []\n"),
    ],
)
def test_guidellm_s_other_outputs_are_refused_with_the_one_to_take(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(InputError, match=r"GuideLLM's benchmarks\.json"):
        imported(tmp_path, content, name)
