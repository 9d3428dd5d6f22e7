"""What tables and sentences say of results, and what they must not say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from rich.console import Console
from typer.testing import CliRunner

from tests.test_bills import API, carried_out, on_problems, replayed
from ttc_sim.cli import app
from ttc_sim.policies import Always
from ttc_sim.reporting.text import print_summary
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.result import simulate
from ttc_sim.simulation.summary import Summary


def said_of(summary: Summary, **baselines: Summary) -> str:
    console = Console(width=220, record=True)
    print_summary(console, summary, baselines)
    return console.export_text()


def test_small_figures_are_not_0_and_a_replay_is_no_sample(tmp_path: Path) -> None:
    said = said_of(simulate(replayed(tmp_path, [(0.0, 200, 50)] * 1000)).summary())
    assert "0.13" in said  # $ per 1,000 requests
    assert not re.search(r"\b0\.0+ \(", said)
    assert "replay" in said
    assert "independent" not in said
    assert "catches up after the last request has come; the longest wait was 124.0 s" in said


def test_nothing_is_said_of_wasted_thinking_where_no_answer_is_known(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("t,p,r,o\n" + "".join(f"{i},100,900,1000\n" for i in range(50)))
    columns = {"arrival": "t", "prompt_tokens": "p", "reasoning_tokens": "r", "output_tokens": "o"}
    raw = {
        "name": "thinking",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "trace", "file": "t.csv", "format": "csv", "columns": columns},
            "requests": 50,
        },
        "deployments": {"api": API},
        "arms": {"only": {"deployment": "api"}},
    }
    summary = simulate(scenario_from_dict(raw, str(tmp_path / "s.yaml")), Always("only")).summary()
    said = said_of(summary)
    assert summary.idle_thinking_cost_share > 0
    assert "hidden tokens a day" in said
    assert "changed nothing" not in said


def test_timed_out_and_rejected_are_told_apart() -> None:
    raw = on_problems({"process": "poisson", "rate_per_s": 8.0}, 600, timeout_s=20, queue_limit=20)
    _, summary = carried_out(raw, Always("own"))
    said = said_of(summary)
    timed_out, rejected = summary.timeout_rate.value, summary.rejected_rate.value
    assert timed_out > 0.01
    assert rejected > 0.01
    row = next(line for line in said.splitlines() if "policy (overloaded)" in line)
    cells = [cell.strip() for cell in row.split("│")]
    assert f"{timed_out:.1%}" in cells
    assert f"{rejected:.1%}" in cells
    assert "pool cannot keep up" in said


def test_rows_that_are_the_same_are_shown_once() -> None:
    raw = on_problems({"process": "poisson", "rate_per_s": 1.0}, 200)
    (_, own), (_, other) = carried_out(raw, Always("own")), carried_out(raw, Always("other"))
    said = said_of(own, **{"always-small": own, "always-other": other, "always-large": other})
    assert "policy = always-small" in said
    assert "always-other = always-large" in said
    assert "beside always-small" not in said
    assert said.count("beside ") == 1


def test_the_command_line_says_the_verdict_and_writes_it(tmp_path: Path) -> None:
    raw = {
        "name": "cli",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 30.0},
            "requests": 400,
            "sources": {"easy": {"problem_set": "reasoning-gym", "subset": "reasoning-gym-easy"}},
        },
        "deployments": {"pool": {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 2.5, "max_num_seqs": 8}},
        "arms": {"own": {"profile": "reasoning-gym/mistral-small-3.1-24b-instruct", "deployment": "pool"}},
        "policy": "Always('own')",
    }
    raw["deployments"]["pool"]["step_time"] = {  # type: ignore[index]
        "base_s": 0.01,
        "per_prefill_token_s": 1e-5,
        "per_sequence_s": 1e-4,
        "per_kv_token_s": 1e-8,
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(raw))
    got = CliRunner().invoke(app, ["simulate", str(tmp_path / "s.yaml"), "--json", str(tmp_path / "r.json")])
    assert got.exit_code == 0, got.output
    assert "cannot keep up" in got.output
    assert "For new problems of the same task types: accuracy" in got.output
    figures = json.loads((tmp_path / "r.json").read_text())
    assert figures["verdict"] == figures["verdicts"]["pool"]["verdict"] == "overloaded"
    assert figures["longest_wait_s"] > 10
    assert set(figures["same_types"]) == {"accuracy", "cost_usd_per_request"}
    assert set(figures["per_source"]) == {"easy"}
