"""docs/formats.md, carried out: from a log to a plan."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

import ttc_sim as ttc
from tests.packages import ROOT
from ttc_sim.measured.importing.traffic import ALWAYS, WHERE_KNOWN
from ttc_sim.optimizer.plan import load_plan

sys.path.insert(0, str(ROOT / "scripts"))
TEXT = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


def test_from_a_log_to_a_plan(tmp_path: Path) -> None:
    import run_docs

    _, faults = run_docs.carried_out(TEXT, tmp_path)
    assert not faults, "\n".join(faults)
    # The predictors tell the two kinds of tickets apart, so that both models are worth having.
    for name in ("tickets/plan.yaml", "plan.yaml"):
        plan = load_plan(tmp_path / name).scenario
        per_arm = ttc.simulate(plan, requests=300, replications=1).summary().per_arm
        assert {arm.split("@")[0] for arm in per_arm} == {"small", "large"}, name
    for table, file in (("problems", "problems"), ("scores-NAME", "scores-mine")):
        columns = pl.read_parquet_schema(tmp_path / f"profiles/tickets/{file}.parquet")
        spoken = TEXT[TEXT.index(f"| `{table}.parquet`") :].split("\n\n")[0]
        for column in columns:
            assert f"`{column.replace('tickets/small', 'PROFILE').replace('tickets/large', 'PROFILE')}`" in spoken, (
                column
            )
    for column in pl.read_parquet_schema(tmp_path / "profiles/tickets/small/attempts.parquet"):
        assert f"`{column}`" in TEXT


def test_the_columns_of_traffic_are_told() -> None:
    spoken = TEXT[TEXT.index("| `traffic.parquet`") :].split("\n\n")[0]
    for column in (*ALWAYS, *WHERE_KNOWN):
        assert f"`{column}`" in spoken
