"""Profiles of some rows of a table, and of each model in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.measured.building import build_profile
from ttc_sim.measured.naming import folder_names
from ttc_sim.measured.profiles import load_profile
from ttc_sim.measured.selecting import rows_where

from .test_profiles import CARD

HOSTILE = ["../../etc/x", "a/b", "a b", "A/B", "[red]x[/red]", "\x1b[31m", "x" * 300, ".", "", "é\n", "profile.yaml"]


def log(**columns: Any) -> pl.DataFrame:
    base = {
        "id": [1, 2, 1, 2, 3],
        "model": ["a", "a", "b/c", "b/c", "b/c"],
        "prompt_tokens": [5, 6, 5, 6, 7],
        "output_tokens": [10, 20, 30, 40, 50],
        "correct": [1, 0, 1, 1, 0],
    }
    return pl.DataFrame({**base, **columns})


def build(table: pl.DataFrame, folder: Path, *words: str) -> str:
    file = folder / "log.parquet"
    table.write_parquet(file)
    card = [f"--{key}={CARD[key]}" for key in ("origin", "licence", "date", "tokenizer")]
    found = CliRunner().invoke(app, ["profile", "build", str(file), str(folder / "out"), *card, *words])
    if isinstance(found.exception, InputError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_profiles_by_model_are_those_of_a_file_for_each(tmp_path: Path) -> None:
    said = build(log(), tmp_path, "--by", "model")
    assert "b-c (model b/c)" in said
    assert tree(tmp_path / "out") == [
        name for one in ("a", "b-c") for name in (one, f"{one}/attempts.parquet", f"{one}/profile.yaml")
    ]
    for model, name in (("a", "a"), ("b/c", "b-c")):
        alone, _ = build_profile(log().filter(pl.col("model") == model), "t", name, {**CARD, "model": model})
        found = load_profile(tmp_path / "out" / name)
        assert found.attempts.equals(alone.attempts)
        assert found.card.model == model
    build(log(), tmp_path / "out", "--where", "model=b/c", "--model", "x")
    assert load_profile(tmp_path / "out" / "out").attempts.equals(alone.attempts)


def test_one_bad_model_and_none_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"log.parquet \(model b/c\): column prompt_tokens, row 2"):
        build(log(prompt_tokens=[5, 6, 5, None, 7]), tmp_path, "--by", "model")
    assert tree(tmp_path) == ["log.parquet"]
    build(log(), tmp_path, "--by", "model", "--where", "model=b/c")
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"out/b-c: folder: .* or --replace"):
        build(log(), tmp_path, "--by", "model")
    assert tree(tmp_path) == before
    (tmp_path / "out" / "b-c" / "forced.csv").write_text("kept")
    (tmp_path / "out" / "notes").write_text("kept")
    build(log(correct=[1] * 5), tmp_path, "--by", "model", "--replace")
    assert load_profile(tmp_path / "out" / "a").attempts["correct"].all()
    assert {"out/b-c/forced.csv", "out/notes"} <= set(tree(tmp_path))


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    """A profile is not written through a link that stands in its place."""
    (tmp_path / "elsewhere").mkdir()
    build(log(), tmp_path / "elsewhere", "--where", "model=a", "--model", "x")
    before = load_profile(tmp_path / "elsewhere" / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere" / "out")
    with pytest.raises(InputError, match="a link"):
        build(log(correct=[0] * 5), tmp_path, "--by", "model", "--replace")
    assert load_profile(tmp_path / "elsewhere" / "out").attempts.equals(before.attempts)


def test_names_of_folders_are_safe_and_unlike(tmp_path: Path) -> None:
    names = folder_names(HOSTILE, taken=["profile.yaml"])
    assert list(names) == HOSTILE
    assert len({name.casefold() for name in names.values()}) == len(HOSTILE)
    for name in names.values():
        (tmp_path / "in" / name).mkdir(parents=True)  # a name of one folder, no path
        assert name.isprintable()
        assert name[0].isalnum()
    assert len(list((tmp_path / "in").iterdir())) == len(HOSTILE)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_models_of_any_name_are_told_apart(tmp_path: Path) -> None:
    models = [name for name in HOSTILE if name]
    table = pl.concat(log().filter(pl.col("model") == "a").with_columns(model=pl.lit(one)) for one in models)
    said = build(table, tmp_path, "--by", "model")
    assert "\x1b" not in said
    found = [load_profile(one).card.model for one in (tmp_path / "out").iterdir()]
    assert sorted(found) == sorted(models)
    assert {path.split("/")[0] for path in tree(tmp_path)} == {"log.parquet", "out"}


def test_conditions_on_one_column_are_either_and_on_several_all() -> None:
    table = log(share=[0.5, 1.0, 1.0, None, 2.0], right=[True, False, True, True, False])

    def ids(*conditions: str) -> list[int]:
        return rows_where(table, "log", conditions)["output_tokens"].to_list()

    assert ids() == [10, 20, 30, 40, 50]
    assert ids("model=a", "model=b/c") == [10, 20, 30, 40, 50]
    assert ids("model=b/c", "id=1") == [30]
    assert ids("share=1") == ids("share=1.0") == [20, 30]
    assert ids("share=") == [40]
    assert ids("right=True") == ids("right=true") == [10, 30, 40]
    named = table.rename({"model": "a=b"})
    assert rows_where(named, "log", ["a=b=a"]).height == 2
    for condition, says in (
        ("model", "COLUMN=VALUE"),
        ("modle=a", "'model' .nearest"),
        ("model=c", "one of a, b/c"),
        ("share=x", "--where share"),
    ):
        with pytest.raises(InputError, match=says):
            ids(condition)


def test_keys_are_the_same_for_all_models_of_a_table(tmp_path: Path) -> None:
    """Numbers start anew in each data set; that a model was tried on one alone does not make them other problems."""
    table = log(dataset=["x", "x", "x", "x", "y"], id=[1, 2, 1, 2, 1])
    build(table, tmp_path, "--by", "model")
    keys = [load_profile(tmp_path / "out" / name).attempts["problem"].to_list() for name in ("a", "b-c")]
    assert keys == [["x/1", "x/2"], ["x/1", "x/2", "y/1"]]
    build(table, tmp_path / "out", "--where", "model=a", "--model", "m")
    assert load_profile(tmp_path / "out" / "out").attempts["problem"].to_list() == ["x/1", "x/2"]


def test_failed_attempts_are_left_out_and_counted(tmp_path: Path) -> None:
    status = ["ok", "Failed", "ok", "error", None]
    tokens = [10, 0, 30, None, 50]
    profile, said = build_profile(log(status=status, output_tokens=tokens), "t", "m", {**CARD, "model": "m"})
    assert profile.attempts["visible_tokens"].to_list() == [10, 30, 50]
    assert "2 of 5 attempts failed, by column status: they are left out" in said
    with pytest.raises(InputError, match="an attempt that did not fail"):
        build_profile(log(status="error"), "t", "m", {**CARD, "model": "m"})
    numbers, _ = build_profile(log(status=[200, 200, 500, 200, 200]), "t", "m", {**CARD, "model": "m"})
    assert len(numbers.attempts) == 5


def test_what_would_have_no_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--model"):
        build(log(), tmp_path)
    with pytest.raises(InputError, match="column for --by: got 'engine'"):
        build(log(), tmp_path, "--by", "engine")
    with pytest.raises(InputError, match="column model: got '1 empty values'"):
        build(log(model=["a", "b", None, "b", "c"]), tmp_path, "--by", "model")


def test_reasoning_that_was_not_recorded_is_no_reasoning(tmp_path: Path) -> None:
    """Of one model none is recorded, of the other not all."""
    table = log(reasoning_tokens=[None, None, 5, None, 7])
    said = build(table, tmp_path, "--by", "model")
    assert "column reasoning_tokens is empty: all output counts as visible" in said
    assert "reasoning_tokens: 1 of 3 are not recorded: all output of these counts as visible" in said
    a, b = (load_profile(tmp_path / "out" / name) for name in ("a", "b-c"))
    assert (a.card.reasoning, b.card.reasoning) == ("none", "recorded")
    assert b.attempts.select("reasoning_tokens", "visible_tokens").rows() == [(5, 25), (0, 40), (7, 43)]
