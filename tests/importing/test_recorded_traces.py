"""Public traces of traffic: what their columns are documented to mean."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.importing.helping import imported, lines, traffic, understood
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.formats import bailian

LOGS = Path(__file__).parent / "logs"


def from_log(folder: Path, name: str) -> tuple[object, pl.DataFrame]:
    audit, out = imported(folder, (LOGS / name).read_bytes(), Path(name).name)
    return audit, traffic(out)


def test_azure_of_three_years(tmp_path: Path) -> None:
    _, old = from_log(tmp_path, "azure/AzureLLMInferenceTrace_conv.csv")
    assert old["arrival_s"].to_list() == pytest.approx([0.0, 4.314579, 4.541877], abs=1e-6)  # ticks of 100 ns, no zone
    assert old["status"].to_list() == ["ok", "ok", "failed"]  # nothing generated
    _, zoned = from_log(tmp_path, "azure/AzureLLMInferenceTrace_code_1week.csv")
    # Of a whole second no fraction is written; 02:00:01.5 in a zone two hours east is 00:00:01.5.
    assert zoned["arrival_s"].to_list() == pytest.approx([0.0, 0.99007, 1.49007], abs=1e-6)
    assert zoned["prompt_tokens"].to_list() == [2162, 2399, 76]
    audit, images = from_log(tmp_path, "azure/AzureLMMInferenceTrace_multimodal.csv")
    assert images["arrival_s"].to_list() == pytest.approx([0.0, 5.55, 6.244])
    assert any("NumImages" in line for line in audit.notes)  # type: ignore[attr-defined]


def test_burstgpt_of_two_releases(tmp_path: Path) -> None:
    audit, rows = from_log(tmp_path, "burstgpt/BurstGPT_2.csv")
    assert rows["arrival_s"].to_list() == [0.0, 5.5, 5.5, 30.0]
    assert rows["status"].to_list() == ["ok", "ok", "failed", "ok"]
    assert rows["latency_s"].to_list() == [9.5, 3.25, 0.5, 4.0]
    assert rows["session"].to_list() == ["12.0", None, None, "12.0"]
    assert rows["source"].to_list() == ["Conversation log", "API log", "API log", "Conversation log"]
    assert audit.failed == 1  # type: ignore[attr-defined]
    _, first = from_log(tmp_path, "burstgpt/BurstGPT_1.csv")
    assert first["arrival_s"].to_list() == [0.0, 40.0, 113.0]
    assert first["visible_tokens"].to_list() == [18, 230, 0]
    assert "latency_s" not in first.columns


def test_mooncake_ids_of_any_kind_or_none(tmp_path: Path) -> None:
    _, rows = from_log(tmp_path, "mooncake/toolagent_trace.jsonl")
    assert rows["arrival_s"].to_list() == [0.0, 3.053, 3.518, 4.018]  # milliseconds
    assert rows["hash_ids"].to_list()[2:] == [None, None]
    assert rows["block_tokens"].to_list() == [512, 512, None, None]
    odd = [{"timestamp": k, "input_length": 900, "output_length": 5, "hash_ids": ids} for k, ids in
           enumerate([[2**63 + 7, -5], ["a1", "b2"], ["a1", {"x": 1}], "none", 7])]  # fmt: skip
    _, out = imported(tmp_path, lines(odd))
    ids = traffic(out)["hash_ids"].to_list()
    assert ids[0][0] == 2**63 + 7
    assert ids[1][0] == ids[2][0] != ids[1][1]
    assert ids[3:] == [None, None]


def test_blocks_of_another_size_are_found_by_how_many_ids_there_are(tmp_path: Path) -> None:
    rows = [{"timestamp": k, "input_length": n, "output_length": 5, "hash_ids": list(range(-(-n // 64)))}
            for k, n in enumerate((130, 700, 1000, 64))]  # fmt: skip
    audit, out = imported(tmp_path, lines(rows))
    assert traffic(out)["block_tokens"].to_list() == [64] * 4
    assert any("blocks: 64 tokens" in line for line in audit.notes)


def test_bailian_is_in_seconds_and_its_chains_are_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit, rows = from_log(tmp_path, "bailian/qwen_traceA_blksz_16.jsonl")
    assert rows["arrival_s"].to_list() == pytest.approx([0.0, 8.75, 29.864, 68.25])
    assert rows["session"].to_list() == ["55", "60", "55", "55"]  # 160 follows 159, which follows 55
    assert rows["turn"].to_list() == [1, 1, 2, 3]
    assert rows["block_tokens"].to_list() == [16] * 4
    assert understood(audit, "times") == ["seconds"]  # type: ignore[arg-type]
    # What is remembered of chains is bounded; within the bound nothing changes.
    monkeypatch.setattr(bailian, "_REMEMBERED", 2)
    assert from_log(tmp_path, "bailian/qwen_traceA_blksz_16.jsonl")[1].equals(rows)


def test_servegen_s_reasoning_is_a_share_and_prompts_of_several_kinds_are_sums(tmp_path: Path) -> None:
    _, rows = from_log(tmp_path, "servegen/requests.jsonl")
    assert rows["reasoning_tokens"].to_list() == [100, 500]  # a quarter of 400, half of 1001
    assert rows["visible_tokens"].to_list() == [300, 501]
    images = {
        "text_tokens": 130,
        "image_tokens": [525, 714],
        "audio_tokens": [],
        "video_tokens": [],
        "output_tokens": 20,
    }
    _, out = imported(tmp_path, json.dumps({"requests": [{"request_id": 0, "timestamp": 1.0, "data": images}]}))
    assert traffic(out)["prompt_tokens"].to_list() == [130 + 525 + 714]
    table = "request_id,timestamp,input_tokens,output_tokens,reason_ratio\n0,0.5,81,400,0.25\n1,0.75,10,4,1.0\n"
    _, out = imported(tmp_path, table, "requests.csv")
    assert traffic(out)["visible_tokens"].to_list() == [300, 0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("chunk-1-dataset.json", '{"0": {"input_tokens": "{81: 1.0}", "output_tokens": "{}"}}', "generate_workload"),
        ("arrivals.csv", "client,t_start_s,rate_per_s,iat_cv\n0,0,0.5,1.1\n", "generate_workload"),
        ("chunk-1-trace.csv", "0,0,0,,0,0\n600,0.5,1.2,Gamma,0.7,2.0\n", "this line has numbers alone"),
    ],
)
def test_servegen_s_clients_are_no_requests(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        imported(tmp_path, content, name)


def test_sessions_have_no_common_clock(tmp_path: Path) -> None:
    """Each begins at 0: as arrivals all sessions would begin at one instant."""
    audit, out = imported(tmp_path, (LOGS / "sessions/requests.csv").read_bytes(), "requests.csv")
    rows = pl.read_parquet(out / "lengths.parquet")
    assert audit.outputs == {"lengths.parquet": 3}
    assert rows["cached_tokens"].to_list() == [0, 15808, 0]
    assert rows["latency_s"].to_list() == [5.23, 3.36, 2.0]
    assert rows["first_token_s"].to_list() == [None, 1.25, None]
    assert rows["turn"].to_list() == [41, 42, 1]


def test_a_session_s_document_with_its_sub_agents(tmp_path: Path) -> None:
    document = json.loads((LOGS / "sessions/session.json").read_text())
    other = {**document, "id": "trace_0003"}
    _, out = imported(tmp_path, lines([document, other]))
    rows = pl.read_parquet(out / "lengths.parquet")
    assert rows["source"].to_list() == ["main", "agent_001", "main"] * 2
    assert rows["prompt_tokens"].to_list() == [130, 90, 200] * 2
    ids = rows["hash_ids"].to_list()
    assert ids[2][:3] == ids[0]  # the same blocks within a session
    assert not set(ids[0]) & set(ids[3])  # none of another's: ids are each session's own


def test_agents_calls_one_by_one(tmp_path: Path) -> None:
    _, rows = from_log(tmp_path, "copilot-agents/shard-0000.jsonl")
    assert rows["arrival_s"].to_list() == pytest.approx([0.0, 9.75, 59.75])
    assert rows["status"].to_list() == ["ok", "partial", "failed"]
    assert rows["prompt_tokens"].to_list() == [1000, 1200, 50]
    assert rows["cached_tokens"].to_list() == [768, 1024, 0]
    assert rows["turn"].to_list() == [1, 2, 1]
    assert rows["latency_s"].to_list() == [2.5, 1.5, 0.9]


def test_request_times_of_the_engine_s_clock(tmp_path: Path) -> None:
    _, rows = from_log(tmp_path, "vllm-requests/requests.jsonl")
    assert rows["arrival_s"].to_list() == [0.0, 0.5]
    assert rows["first_token_s"].to_list() == [0.75, 0.375]  # from queued_ts, the same clock
    assert rows["latency_s"].to_list() == [18.0, 25.25]


def test_measured_runs_come_in_as_they_are_read_for_calibration(tmp_path: Path, shared: Path) -> None:
    from ttc_sim.fidelity.measured_run import load_run

    for folder in sorted((shared / "vllm-runs").iterdir()):
        if not (folder / "requests.jsonl").exists():
            continue
        run = load_run(folder)
        _, out = imported(tmp_path, (folder / "requests.jsonl").read_bytes())
        rows = traffic(out)
        assert rows["arrival_s"].to_numpy() == pytest.approx(run.arrival_s, abs=1e-5)
        assert rows["prompt_tokens"].to_list() == run.prompt_tokens.tolist()
        assert rows["visible_tokens"].to_list() == run.output_tokens.tolist()
        # The client's clock adds the way to the engine, which is never negative.
        assert (run.e2e_s - rows["latency_s"].to_numpy() > -1e-6).all()
