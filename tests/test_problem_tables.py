"""The tables of problems and attempts: what each column means, and bad ones on each command that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.files.tables import write_table
from ttc_sim.measured.columns import labels
from ttc_sim.measured.problem_tables import ProblemTables, read_problem_tables
from ttc_sim.predictor.learning import network, train

SUBSET = "reasoning-gym-easy"


def made(**changes: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """120 problems and the attempts of two models; columns of either replaced by name (``p_prompt``, ``a_correct``)."""
    rng = np.random.default_rng(1)
    problems = pl.DataFrame(
        {"problem_id": range(120), "prompt": [f"add {k} and {k % 7}" for k in range(120)], "dataset": SUBSET}
    )
    attempts = pl.DataFrame(
        {
            "problem_id": [*range(120)] * 2,
            "dataset": SUBSET,
            "model": ["mistral-small-3.1-24b-instruct"] * 120 + ["llama-4-maverick"] * 120,
            "correct": rng.integers(0, 2, 240),
            "output_tokens": rng.integers(1, 900, 240),
        }
    )
    for name, values in changes.items():
        table, column = name.split("_", 1)
        new = pl.Series(column, values if isinstance(values, list) else [values] * (120 if table == "p" else 240))
        if table == "p":
            problems = problems.with_columns(new)
        else:
            attempts = attempts.with_columns(new)
    return problems, attempts


def read(folder: Path, problems: pl.DataFrame, attempts: pl.DataFrame, *, with_tokens: bool = True) -> ProblemTables:
    write_table(problems, folder / "p.parquet")
    write_table(attempts, folder / "a.parquet")
    return read_problem_tables(folder / "p.parquet", folder / "a.parquet", with_tokens=with_tokens)


def two(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame({"id": ["1", "1"], **columns})


# ------------------------------------------------------------------------------------------- what columns mean


def test_keys_carry_their_dataset_where_both_tables_or_only_the_problems_name_it(tmp_path: Path) -> None:
    problems = two(dataset=["a", "b"], prompt=["x", "y"])
    said = {"model": "m", "correct": [True, False], "output_tokens": [3, 4]}
    both = read(tmp_path, problems, two(subset=["b", "a"], **said))
    assert both.attempts["problem"].to_list() == ["b/1", "a/1"]
    with pytest.raises(
        InputError, match=r"p\.parquet: keys: got '1 of several datasets'; .* a column dataset in .*a\.parquet"
    ):
        read(tmp_path, problems, two(**said))
    different = problems.with_columns(id=pl.Series(["1", "2"]))
    alone = read(tmp_path, different, two(**said))
    assert alone.problems["problem"].to_list() == ["a/1", "b/2"]
    assert alone.attempts["problem"].to_list() == ["a/1", "a/1"]
    with pytest.raises(InputError, match=r"a\.parquet: keys: got '1 of several datasets'"):
        read(tmp_path, different.drop("dataset"), two(dataset=["a", "b"], **said))
    one = read(tmp_path, different.drop("dataset"), two(dataset=["a", "a"], **said))
    assert one.problems["problem"].to_list() == ["1", "2"]
    assert one.attempts["correct"].to_list() == [1, 0]


def test_a_problem_may_stand_twice_with_the_same_prompt_only(tmp_path: Path) -> None:
    attempts = two(model="m", correct=[1, 0], output_tokens=1)
    once = read(tmp_path, two(prompt=["x", "x"], category=["c", "d"]), attempts)
    assert once.problems.rows() == [("1", "x", "", "c")]
    assert len(once.attempts) == 2
    assert (once.has_groups, once.group_is_task) == (True, False)
    with pytest.raises(InputError, match="column id: got '1'; expected each once, or with the same prompt each time"):
        read(tmp_path, two(prompt=["x", "y"]), attempts)


@pytest.mark.parametrize(
    ("columns", "output", "reasoning"),
    [
        ({"output_tokens": [5, 9]}, [5, 9], [None, None]),
        ({"completion_tokens": [5, 9], "thinking_tokens": [2, None]}, [5, 9], [2, None]),
        ({"visible_tokens": [5, 0], "reasoning_tokens": [2, 7]}, [7, 7], [2, 7]),
        ({"visible_tokens": [5, 6], "reasoning_tokens": [None, 7]}, [5, 13], [None, 7]),  # as an import leaves them
        ({"visible_tokens": [5, 6], "reasoning_tokens": [None, None]}, [5, 6], [None, None]),
        ({"visible_tokens": [5, 9], "output_tokens": [6, 9], "reasoning_tokens": [1, 0]}, [6, 9], [1, 0]),
        ({"visible_tokens": [5.0, 9.0]}, [5, 9], [None, None]),
    ],
)
def test_output_tokens_hold_the_reasoning(
    tmp_path: Path, columns: dict[str, Any], output: list[int], reasoning: list[int | None]
) -> None:
    found = read(tmp_path, two(prompt="x"), two(model="m", correct=[1, 0], **columns)).attempts
    assert found["output_tokens"].to_list() == output
    assert found["reasoning_tokens"].to_list() == reasoning
    assert found["truncated"].to_list() == [False, False]
    assert found["prompt_tokens"].to_list() == [1, 1]


def test_labels_are_numbers_from_0_to_1() -> None:
    def of(values: list[Any], *, shares: bool = True) -> list[float | None]:
        return labels(pl.DataFrame({"correct": values}), "t", "correct", shares=shares).to_list()

    assert of([1, 0, None]) == of([True, False, None]) == of([1.0, 0.0, None], shares=False) == [1, 0, None]
    assert of([0.25, None]) == [0.25, None]
    assert of([None, None]) == [None, None]
    assert of(["True", "0", "", None, "1"], shares=False) == [1, 0, None, None, 1]
    for values, shares in (([0.25], False), ([2], True), ([-1, 1], True), ([float("nan")], False)):
        with pytest.raises(InputError, match=f"got {values[0]}; expected 0 or 1, true or false"):
            of(values, shares=shares)
    with pytest.raises(InputError, match="got 'maybe'"):
        of(["1", "maybe"])


@pytest.mark.parametrize(
    ("attempts", "says"),
    [
        (
            {"model": "m", "correct": [1, 0], "output_tokens": [5, 9], "reasoning_tokens": [6, 1]},
            "row 1: got 5; expected at least",
        ),
        (
            {"model": "m", "correct": [1, 0], "output_tokens": [5, None]},
            "row 2: got nan; expected a whole number of tokens",
        ),
        (
            {"model": "m", "correct": [1, 0], "output_tokens": 5, "prompt_tokens": [7, 0]},
            "column prompt_tokens, row 2: got 0; expected at least 1 token",
        ),
        (
            {"model": "m", "correct": [1, 0], "output_tokens": [5, 3_000_000_000]},
            r"column output_tokens, row 2: got 3000000000\.0; expected a whole number of tokens, at most 100,000,000",
        ),
        ({"model": ["m", None], "correct": [1, 0], "output_tokens": 1}, "column model: got '1 empty values'"),
        ({"m_correct": [1, 0], "n_correct": [1, 0]}, "a column named model or profile"),
        (
            {"model": "m", "correct": [0.5, 0], "output_tokens": 1},
            "column correct, row 1: got 0.5; expected 0 or 1, true or false; a share of several attempts is a row for each",
        ),
        ({"model": [["m"], ["n"]], "correct": [1, 0], "output_tokens": 1}, r"column model: got 'List\(String\)'"),
    ],
)
def test_single_attempts_are_whole(tmp_path: Path, attempts: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(tmp_path, two(prompt="x"), two(**attempts))


# ------------------------------------------------------------------------------------------ on every command


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan between two models of Reasoning Gym."""
    api = {
        "kind": "api",
        "first_token": {"median_s": 0.5, "p95_s": 1.0},
        "per_token": {"median_s": 0.01, "p95_s": 0.02},
    }
    price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}
    names = {"mistral": "mistral-small-3.1-24b-instruct", "maverick": "llama-4-maverick"}
    scenario = {
        "name": "test",
        "replications": 1,
        "workload": {
            "arrivals": {"process": "gamma", "rate_per_s": 2.0, "cv": 1.5},
            "requests": 100,
            "sources": {"easy": {"problem_set": "reasoning-gym", "subset": SUBSET}},
        },
        "deployments": {"cloud": {**api, "price": price}},
        "arms": {arm: {"profile": f"reasoning-gym/{name}", "deployment": "cloud"} for arm, name in names.items()},
        "policy": "Banded(edges=[0.5], arms=['mistral', 'maverick'])",
    }
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    promised = {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}
    path.write_text(yaml.safe_dump({"ttc_sim_plan": 1, "promised": promised, "scenario": scenario}))
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks too small to be any good, but soon trained."""
    monkeypatch.setattr(train, "RECIPES", (network.Recipe(8, 1, 0.1),))
    monkeypatch.setattr(network, "MEMBERS", 1)


def outcomes(folder: Path, plan: Path, problems: Path, attempts: Path) -> dict[str, str | None]:
    """By command, the error's one line, or ``None`` where there is a result."""
    asked = ["--problems", str(problems), "--attempts", str(attempts)]
    commands = {
        "train": ["predictor", "train", *asked, "--out", str(folder / "m.onnx"), "--workers", "1"],
        "evaluate": ["predictor", "evaluate", *asked, "--no-baselines", "--resamples", "100"],
        "validate": ["validate", str(plan), *asked],
    }
    found: dict[str, str | None] = {}
    for name, arguments in commands.items():
        try:
            CliRunner().invoke(app, arguments, catch_exceptions=False, standalone_mode=False)
        except InputError as error:
            found[name] = str(error)
        else:
            found[name] = None
    assert not any("\n" in line for line in found.values() if line is not None)
    return found


EMPTY = [1, *[None] * 239]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"a_correct": 2}, "column correct, row 1: got 2; expected 0 or 1"),
        ({"a_correct": "maybe"}, "column correct, row 1: got 'maybe'; expected 0 or 1"),
        ({"a_correct": EMPTY}, "column correct: got '239 empty values'"),
        ({"p_problem_id": 1}, "column problem_id: got 'reasoning-gym-easy/1'; expected each once"),
        ({"p_problem_id": [None] * 120}, "column problem_id: got '120 empty values'"),
        ({"a_problem_id": "other"}, "keys of the problems that stand in"),
        ({"a_model": [None] * 240}, "column model: got '240 empty values'"),
        ({"p_prompt": 7}, "column prompt: got 'Int64'; expected text"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_bad_values_are_the_same_error_everywhere(
    tmp_path: Path, plan: Path, changes: Mapping[str, Any], says: str, ending: str
) -> None:
    problems, attempts = tmp_path / f"p.{ending}", tmp_path / f"a.{ending}"
    for table, path in zip(made(**changes), (problems, attempts), strict=True):
        write_table(table, path)
    found = outcomes(tmp_path, plan, problems, attempts)
    assert all(one is not None and says in one for one in found.values()), found
    assert not (tmp_path / "m.onnx").exists()


def test_missing_columns_and_unreadable_files_are_named(tmp_path: Path, plan: Path) -> None:
    problems, attempts = made()
    write_table(problems, tmp_path / "p.csv")
    write_table(attempts, tmp_path / "a.csv")
    for table, name, columns in ((problems, "p", ("problem_id", "prompt")), (attempts, "a", ("model", "correct"))):
        for column in columns:
            write_table(table.drop(column), tmp_path / "less.csv")
            files = [tmp_path / ("less.csv" if which == name else f"{which}.csv") for which in ("p", "a")]
            for said in outcomes(tmp_path, plan, files[0], files[1]).values():
                assert said is not None
                assert "less.csv: column for" in said
    write_table(attempts.drop("output_tokens"), tmp_path / "less.csv")
    found = outcomes(tmp_path, plan, tmp_path / "p.csv", tmp_path / "less.csv")
    assert found["evaluate"] is None  # needs none
    assert all("column for output_tokens" in str(found[name]) for name in ("train", "validate"))
    for content in (b"", bytes(range(256)) * 40, b"problem_id,prompt\n"):
        for ending in ("csv", "parquet", "jsonl"):
            bad = tmp_path / f"bad.{ending}"
            bad.write_bytes(content)
            for files in ([bad, tmp_path / "a.csv"], [tmp_path / "p.csv", bad]):
                found = outcomes(tmp_path, plan, files[0], files[1])
                assert all(one is not None and f"bad.{ending}: file" in one for one in found.values()), found


@pytest.mark.parametrize("prompts", [[None] * 120, [""] * 120, ["x" * 1_000_000, *[f"add {k}" for k in range(119)]]])
def test_prompts_without_text_or_of_a_megabyte_have_a_result(
    tmp_path: Path, plan: Path, prompts: list[str | None]
) -> None:
    problems, attempts = made(p_prompt=prompts)
    write_table(problems, tmp_path / "p.jsonl")
    write_table(attempts, tmp_path / "a.csv")
    found = outcomes(tmp_path, plan, tmp_path / "p.jsonl", tmp_path / "a.csv")
    assert (found["evaluate"], found["validate"]) == (None, None)
    if len(set(prompts)) == 1:
        assert "attempts at 1 different prompts; expected at least 100" in str(found["train"]).replace("'", "")
    else:
        assert found["train"] is None
