"""``ttc-sim export``: a folder with all files or none, earlier exports and others' files told apart, mistakes in a line."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.cli import app
from ttc_sim.deploying.exports import TARGETS, export_plan
from ttc_sim.deploying.exports.folder import MARK


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return planned(tmp_path)


def planned(place: Path, name: str = "plan.yaml", version: int = 3, **changes: Any) -> Path:
    made = ttc.load_scenario("qa-gateway").model_copy(
        update={"policy": "Threshold(at=0.4, below='llama-8b', above='gemini')", **changes}
    )
    content = made.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw = {
        "ttc_sim_plan": version,
        "status": "met",
        "promised": {},
        "made_from": "scenario.yaml",
        "scenario": content,
    }
    (place / name).write_text(yaml.safe_dump(raw))
    return place / name


def exported(plan: Path, to: str, out: Path, *more: str) -> str:
    shown = CliRunner().invoke(app, ["export", str(plan), "--to", to, "--out", str(out), *more], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    return shown.output


def refused(plan: Path, to: str, out: Path, expected: str, *more: str) -> None:
    """The mistake is a line; the folder is as it was."""
    before = contents(out)
    with pytest.raises(InputError, match=expected) as error:
        CliRunner().invoke(app, ["export", str(plan), "--to", to, "--out", str(out), *more], catch_exceptions=False)
    assert "\n" not in str(error.value)
    assert contents(out) == before


def contents(folder: Path) -> dict[str, bytes]:
    with contextlib.suppress(OSError):
        return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return {}


def test_files_what_is_not_expressed_and_how_to_run_it(plan: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "new" / "folder", tmp_path / "said.json"
    shown = exported(plan, "gemini", out, "--json", str(said))
    made = export_plan(ttc.load_plan(plan), "gemini")
    assert {file.name for file in out.iterdir()} == {"arms.json", MARK}
    assert (out / "arms.json").read_text() == made.files["arms.json"]
    for line in (f"wrote {out / 'arms.json'}", *(f"  - {line}" for line in made.not_expressed), *made.how):
        assert line in shown.replace("\n", ""), line
    found = json.loads(said.read_text())
    assert found["to"] == "gemini"
    assert found["files"] == ["arms.json"]
    assert found["not_expressed"] == list(made.not_expressed)
    assert found["how"] == list(made.how)


def test_help_names_every_consumer() -> None:
    said = CliRunner().invoke(app, ["export", "--help"], env={"COLUMNS": "200"}).output
    assert [name for name in TARGETS if not re.search(rf"\b{name}\b", said)] == []


def test_an_earlier_export_is_replaced_and_nothing_else(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(plan, "litellm", out)
    assert "config-tiers.yaml" in {file.name for file in out.iterdir()}
    (out / ".env").write_text("KEY=1")
    other = planned(tmp_path, "other.yaml", policy="Always('gemini')")
    exported(other, "litellm", out)
    assert {file.name for file in out.iterdir()} == {"config.yaml", "ttc_sim_router.py", MARK, ".env"}
    assert (out / ".env").read_text() == "KEY=1"
    again = contents(out)
    exported(other, "litellm", out)
    assert contents(out) == again
    # What was changed by hand, or deleted.
    (out / "config.yaml").write_text("model_list: []")
    refused(
        other, "litellm", out, "config.yaml.*; expected the file as it was exported", "--json", str(tmp_path / "x.json")
    )
    assert not (tmp_path / "x.json").exists()
    exported(other, "litellm", out, "--replace")
    assert contents(out) == again
    (out / "config.yaml").unlink()
    exported(other, "litellm", out)
    assert contents(out) == again
    refused(other, "gemini", out, "an export to litellm'; expected a new or empty folder")
    exported(other, "gemini", out, "--replace")
    assert {file.name for file in out.iterdir()} == {"arms.json", MARK, ".env"}


def test_other_folders_are_refused(plan: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    exported(plan, "gemini", full)
    for mark in ("{}", "[]", "not json", '{"ttc_sim_export": 1, "to": "gemini", "files": {"../plan.yaml": "0"}}'):
        (full / MARK).write_text(mark)
        refused(plan, "gemini", full, "expected a new or empty folder, or one with an earlier export")
    exported(plan, "gemini", full, "--replace")
    assert plan.exists()
    refused(plan, "gemini", plan, "expected a new or empty folder")
    refused(plan, "gemini", plan, "expected a new or empty folder", "--replace")
    refused(plan, "gemini", tmp_path / ("x" * 300), "File name too long")
    refused(plan, "gemini", full, "a file outside of", "--json", str(full / "x.json"))


def test_mistakes_are_a_line(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(plan, "litelm", out, "to: got 'litelm'; expected .*litellm")
    refused(
        planned(tmp_path, "new.yaml", version=99), "litellm", out, "ttc_sim_plan: got 99; expected a plan of format"
    )
    refused(
        plan,
        "anthropic",
        out,
        "gemini'; expected an arm .* Anthropic's .*: its deployment gemini-api is served by google",
    )
    stands = tmp_path / "stands.yaml"
    stands.write_text("gemini-ap: {url: http://x/v1, model: x}")
    refused(plan, "litellm", out, "deployment: got 'gemini-ap'; expected .*gemini-api", "--endpoints", str(stands))
    refused(plan, "litellm", out, "endpoints", "--endpoints", str(tmp_path / "none.yaml"))
    assert not out.exists()


@pytest.mark.parametrize("to", TARGETS)
def test_a_predictor_that_is_missing_or_another_is_refused_where_it_is_needed(tmp_path: Path, to: str) -> None:
    out, file = tmp_path / "out", tmp_path / "mine.onnx"
    shutil.copyfile(PREDICTORS["fast"], file)
    own: dict[str, Any] = {
        "predictor": "mine.onnx",
        "predictor_sha256": ttc.load_scenario("qa-gateway").predictor_sha256,
    }
    plan = planned(tmp_path, **{**own, "predictor_sha256": "0" * 64})
    refused(
        plan, to, out, r"predictor: got 'mine \(sha256|predictor: got .*; expected the predictor that the plan was made"
    )
    file.unlink()
    plan = planned(tmp_path, **own)
    refused(plan, to, out, "mine.onnx")
    if to not in ("onnx", "anthropic", "openai"):
        arm = "gemini" if to == "gemini" else "llama-8b"
        exported(planned(tmp_path, **{**own, "policy": f"Always({arm!r})"}), to, out)
