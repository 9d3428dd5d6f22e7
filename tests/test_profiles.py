"""Profiles: round trip, bad input, and that the shipped numbers are the measured ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.measured.building import build_profile
from ttc_sim.measured.cards import CARD_FILES
from ttc_sim.measured.filling import fill_reasoning, resample_reasoning
from ttc_sim.measured.folders import list_profiles
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.profiles import load_profile, save_profile
from ttc_sim.measured.summaries import summarize_profile
from ttc_sim.measured.traffic import load_traffic

from .conftest import ROOT

CARD: dict[str, Any] = {
    "model": "mine",
    "origin": "test",
    "licence": "CC0",
    "date": "2026-11-24",
    "tokenizer": "bytes",
    "limits": "made up",
}


def table(**columns: Any) -> pl.DataFrame:
    base = {
        "question_id": ["a", "a", "b"],
        "prompt_tokens": [5, 5, 9],
        "output_tokens": [10, 0, 30],
        "correct": [True, False, True],
        "answer": ["x", "", "z"],
    }
    return pl.DataFrame({**base, **columns})


def test_build_save_and_load_give_the_same_profile(tmp_path: Path) -> None:
    profile, said = build_profile(table(), "t.csv", "mine", CARD)
    assert any("count as 1 token" in line for line in said)
    save_profile(profile, tmp_path / "mine")
    again = load_profile(str(tmp_path / "mine"))
    assert again.attempts.equals(profile.attempts)
    assert again.card == profile.card
    assert again.attempts["attempt"].to_list() == [0, 1, 0]
    with pytest.raises(InputError, match="does not exist yet"):
        save_profile(profile, tmp_path / "mine")
    assert load_profile("mine", tmp_path).name == "mine"


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"prompt_tokens": [5, 0, 9]}, "prompt_tokens of problem a"),
        ({"prompt_tokens": [5, None, 9]}, "prompt_tokens, row 2"),
        ({"output_tokens": [10, -1, 30]}, "output_tokens, row 2"),
        ({"output_tokens": [10.0, 1.5, 30.0]}, "output_tokens, row 2"),
        ({"output_tokens": ["10", "1", "30"]}, "whole numbers"),
        ({"correct": [1, 2, 0]}, "correct"),
        ({"correct": ["maybe", "no", "no"]}, "correct"),
        ({"correct": [True, None, False]}, "correct"),
        ({"reasoning_tokens": [11, 0, 0]}, "output_tokens, row 1"),
        ({"attempt": [0, 0, 0]}, "each attempt of a problem once"),
        ({"question_id": ["a", None, "b"]}, "question_id"),
    ],
)
def test_bad_attempts_are_refused(columns: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names):
        build_profile(table(**columns), "t.csv", "mine", CARD)


def test_named_columns_and_missing_ones() -> None:
    renamed = table().rename({"correct": "ok"})
    with pytest.raises(InputError, match="column for correct"):
        build_profile(renamed, "t.csv", "mine", CARD)
    assert build_profile(renamed, "t.csv", "mine", CARD, {"correct": "ok"})[0].attempts["correct"].sum() == 2
    with pytest.raises(InputError, match="'ok'"):
        build_profile(renamed, "t.csv", "mine", CARD, {"correct": "okk"})


def test_the_command_line_builds_shows_and_draws(tmp_path: Path) -> None:
    table().write_csv(tmp_path / "t.csv")
    runner = CliRunner()
    given = [f"--{key}={value}" for key, value in CARD.items()]
    built = runner.invoke(app, ["profile", "build", str(tmp_path / "t.csv"), str(tmp_path / "mine"), *given])
    assert built.exit_code == 0, built.output
    assert "2 problems, 3 attempts" in built.output
    shown = runner.invoke(app, ["profile", "show", str(tmp_path / "mine"), "--plot", str(tmp_path / "p.png")])
    assert shown.exit_code == 0, shown.output
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_broken_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    good = ROOT / "profiles" / "math" / "sky-t1-32b"
    (folder / "profile.yaml").write_text((good / "profile.yaml").read_text())
    (folder / "attempts.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="readable parquet"):
        load_profile(str(folder))
    (folder / "profile.yaml").write_text("model: x\n")
    with pytest.raises(InputError, match="nothing"):
        load_profile(str(folder))
    load_profile(str(good)).attempts.clear().write_parquet(folder / "attempts.parquet")
    (folder / "profile.yaml").write_text((good / "profile.yaml").read_text())
    with pytest.raises(InputError, match="at least one row"):
        load_profile(str(folder))


def test_summary_against_counting() -> None:
    profile = load_profile("math/sky-t1-32b")
    summary = summarize_profile(profile)
    rows = profile.attempts.to_dicts()
    by_problem: dict[str, list[bool]] = {}
    for row in rows:
        by_problem.setdefault(row["problem"], []).append(row["correct"])
    assert summary.accuracy == pytest.approx(np.mean([np.mean(v) for v in by_problem.values()]))
    output = sorted(row["reasoning_tokens"] + row["visible_tokens"] for row in rows)
    assert summary.tokens["output"]["max"] == output[-1]
    assert output[len(output) // 2 - 1] <= summary.tokens["output"]["p50"] <= output[len(output) // 2]


def test_shipped_cards_are_complete_and_small() -> None:
    names = list_profiles()
    assert sum(name.startswith("reasoning-gym/") for name in names) == 11
    assert sum(name.startswith("mmlu-pro/") for name in names) == 7
    for name in names:
        card = load_profile(name).card
        assert card.licence == "Apache-2.0"
        assert len(card.limits) > 20
        if name.split("/")[-1] in ("deepseek-r1", "o3-mini", "qwq-32b", "grok-3-mini-beta"):
            assert card.reasoning == "filled"
            assert "ServeGen" in str(card.reasoning_source)
    assert load_traffic("servegen-r1").arrivals["client"].n_unique() == 73
    shipped = [file for file in (ROOT / "profiles").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in shipped) < 15e6
    # No agent profile is shipped.
    assert {file.name for file in shipped if file.suffix == ".yaml"} == set(CARD_FILES) - {"agent.yaml"}
    gym = load_problem_set("reasoning-gym")
    assert gym.problems["group"].n_unique() >= 77
    assert gym.problems["difficulty"].null_count() == 0


def test_no_prompt_text_is_shipped() -> None:
    for file in (ROOT / "profiles").rglob("*.parquet"):
        for name, kind in pl.read_parquet_schema(file).items():
            if kind == pl.String:
                lengths = pl.read_parquet(file, columns=[name])[name].str.len_chars().fill_null(0).to_numpy()
                assert lengths.max() <= 60, (file, name)


def test_filled_lengths_keep_their_source_and_are_longer_for_wrong_attempts() -> None:
    profile = load_profile("reasoning-gym/deepseek-r1")
    finished = profile.attempts.filter(~pl.col("truncated"))
    right = finished.filter(pl.col("correct"))["reasoning_tokens"].to_numpy()
    wrong = finished.filter(~pl.col("correct"))["reasoning_tokens"].to_numpy()
    assert np.median(wrong) > 1.5 * np.median(right)
    correct = np.arange(5000) % 3 > 0
    source = np.arange(1, 5001, dtype=np.int64) ** 2
    given_ = fill_reasoning(
        correct, np.arange(5000) // 2, source, np.linspace(0, 0.7, 50), np.linspace(0.4, 1, 50), 0.5, 3
    )
    assert np.sort(given_).tolist() == source.tolist()
    again = resample_reasoning(profile, correct, np.zeros(5000, dtype=np.bool_), 1)
    assert np.median(again[correct]) == pytest.approx(np.median(right), rel=0.1)
    assert np.median(again[~correct]) == pytest.approx(np.median(wrong), rel=0.1)


def test_shipped_numbers_are_the_measured_ones(shared: Path) -> None:
    gym = pl.read_parquet(shared / "reasoning-gym/attempts.parquet")
    for model in ("claude-sonnet-4", "llama-4-maverick", "deepseek-r1"):
        raw = gym.filter(pl.col("model") == model)
        mine = load_profile(f"reasoning-gym/{model}").attempts
        assert len(mine) == len(raw)
        assert mine["correct"].sum() == raw["correct"].sum()
        assert abs(int(mine["visible_tokens"].sum()) - int(raw["output_tokens"].sum())) < 10
    sky = load_profile("math/sky-t1-32b").attempts.filter(pl.col("problem").str.starts_with("aime24"))
    assert sky.filter("truncated").height / sky.height == pytest.approx(0.45, abs=0.05)
