"""docs/formats.md, carried out: from a log to a plan."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import polars as pl

import ttc_sim as ttc
from tests.packages import ROOT, command, python
from ttc_sim.base.draws import uniforms
from ttc_sim.measured.importing.traffic import ALWAYS, WHERE_KNOWN
from ttc_sim.optimizer.plan import load_plan

TEXT = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
BLOCKS: dict[str, str] = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
QUICKLY, BY_HAND = TEXT.split("\n## 1. ")


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("ttc-sim ")]


def log(rows: int) -> list[dict[str, object]]:
    """Tickets of two kinds, one of which the small model seldom gets right."""
    u = uniforms(1, "tickets", rows, 6)
    out: list[dict[str, object]] = []
    for k in range(rows):
        hard = u[k, 0] < 0.4
        prompt = (
            f"Refund {k} euro of order {k + 7}" if not hard else f"Why did service {k} fail after migration {k + 3}? "
        ) * 2
        for j, (model, right) in enumerate((("small", 0.15 if hard else 0.95), ("large", 0.9))):
            thinking = 0 if model == "small" else int(200 + 600 * u[k, 4] * (2 if hard else 1))
            said = int(50 + 100 * u[k, 2 + j])
            one = {"id": k, "route": "desk", "prompt": prompt, "model": model, "prompt_tokens": 20}
            tokens = {"output_tokens": thinking + said, "reasoning_tokens": thinking}
            out.append({**one, **tokens, "correct": int(u[k, 1 if j == 0 else 5] < right)})
    return out


def test_from_a_log_to_a_plan(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, log(300))) + "\n")
    for name, text in BLOCKS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert python(tmp_path, "tables.py", path=(ROOT,)).returncode == 0
    done, said = [], []
    for words in commands(BY_HAND):
        result = command(tmp_path, *words, path=(ROOT,))
        assert result.returncode == 0, result.stdout + result.stderr
        done.append(words[0])
        said.append(result.stdout)
    assert done == ["profile", "predictor", "optimize", "optimize", "simulate"]
    assert "predictor score" not in said[2]
    assert "nothing is known of accuracy" in " ".join(said[3].split())
    # The predictor tells the two kinds of tickets apart, so that both models are worth having.
    plan = load_plan(tmp_path / "plan.yaml").scenario
    per_arm = ttc.simulate(plan, requests=300, replications=1).summary().per_arm
    assert {name.split("@")[0] for name in per_arm} == {"small", "large"}
    for table, file in (("problems", "problems"), ("scores-NAME", "scores-mine")):
        columns = pl.read_parquet_schema(tmp_path / f"profiles/tickets/{file}.parquet")
        spoken = TEXT[TEXT.index(f"| `{table}.parquet`") :].split("\n\n")[0]
        for column in columns:
            assert f"`{column.replace('tickets/small', 'PROFILE').replace('tickets/large', 'PROFILE')}`" in spoken, (
                column
            )
    for column in pl.read_parquet_schema(tmp_path / "profiles/tickets/small/attempts.parquet"):
        assert f"`{column}`" in TEXT


def test_from_a_log_to_a_plan_in_three_commands(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, log(120))) + "\n")
    words = commands(QUICKLY)
    assert [line[0] for line in words] == ["import", "scenario", "optimize"]
    for line in words:
        result = command(tmp_path, *line, path=(ROOT,))
        assert result.returncode == 0, result.stdout + result.stderr
        if line[0] == "scenario":
            assert result.stdout.splitlines()[-1] == shlex.join(["ttc-sim", *words[-1]])
    per_arm = ttc.simulate(load_plan(tmp_path / "tickets" / "plan.yaml").scenario, replications=1).summary().per_arm
    assert {name.split("@")[0] for name in per_arm} == {"small", "large"}


def test_the_columns_of_traffic_are_told() -> None:
    spoken = QUICKLY[QUICKLY.index("| `traffic.parquet`") :].split("\n\n")[0]
    for column in (*ALWAYS, *WHERE_KNOWN):
        assert f"`{column}`" in spoken
