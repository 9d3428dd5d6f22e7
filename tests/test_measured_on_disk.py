"""Profiles and problem sets on disk: what a file says is checked, not cast; and what of a user's table is taken for what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.measured.building import build_profile
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.profiles import load_profile
from ttc_sim.scenario import Clients, scenario_from_dict
from ttc_sim.workload import generate
from ttc_sim.workload.population import load_population

CARD: dict[str, Any] = {
    "origin": "test",
    "licence": "CC0",
    "date": "2026-11-24",
    "tokenizer": "bytes",
    "limits": "made up",
}
ATTEMPTS: dict[str, list[Any]] = {
    "problem": ["a", "a", "b"],
    "attempt": [0, 1, 0],
    "prompt_tokens": [5, 5, 9],
    "reasoning_tokens": [0, 3, 0],
    "visible_tokens": [10, 1, 30],
    "correct": [True, False, True],
    "truncated": [False, True, False],
    "answer": ["x", None, "z"],
}
PROBLEMS: dict[str, list[Any]] = {
    "problem": ["a", "b"],
    "subset": ["s", "s"],
    "group": ["g", "h"],
    "prompt_tokens": [5, 9],
}
SCORES: dict[str, list[Any]] = {
    "problem": ["a", "b"],
    "difficulty": [0.25, 0.75],
    "novelty": [0.0, 1.0],
    "p:m": [1.0, 0.0],
    "tokens:m": [3.5, 800.0],
}


def profile_on_disk(folder: Path, **columns: Any) -> Path:
    (folder / "mine").mkdir(exist_ok=True)
    card = {**CARD, "kind": "model", "model": "m", "reasoning": "recorded"}
    (folder / "mine" / "profile.yaml").write_text(yaml.safe_dump(card))
    pl.DataFrame({**ATTEMPTS, **columns}, strict=False).write_parquet(folder / "mine" / "attempts.parquet")
    return folder / "mine"


def set_on_disk(folder: Path, problems: dict[str, Any], scores: dict[str, Any]) -> Path:
    (folder / "set").mkdir(exist_ok=True)
    (folder / "set" / "problem_set.yaml").write_text(yaml.safe_dump({**CARD, "kind": "problems", "cluster": "problem"}))
    for name, values in (("problems", problems), ("scores", scores)):
        pl.DataFrame(values, strict=False).write_parquet(folder / "set" / f"{name}.parquet")
    return folder / "set"


@pytest.mark.parametrize("right", [[True, False, True], [1, 0, 1], [1.0, 0.0, 1.0], ["true", "FALSE", "1"]])
def test_an_outcome_is_true_or_false_however_it_is_written(tmp_path: Path, right: list[Any]) -> None:
    profile = load_profile(str(profile_on_disk(tmp_path, correct=right)))
    assert profile.attempts["correct"].to_list() == [True, False, True]


@pytest.mark.parametrize("column", ["correct", "truncated"])
@pytest.mark.parametrize("value", [-1, 2, 0.3, float("nan"), float("inf"), None, "maybe"])
def test_another_outcome_is_refused_by_row(tmp_path: Path, column: str, value: Any) -> None:
    values = [1, value, 0] if not isinstance(value, str) else ["1", value, "0"]
    place = profile_on_disk(tmp_path, **{column: values})
    with pytest.raises(InputError, match=rf"attempts\.parquet: column {column}, row 2: got .*; expected 0 or 1,"):
        load_profile(str(place))


@pytest.mark.parametrize("column", ["prompt_tokens", "reasoning_tokens", "visible_tokens"])
@pytest.mark.parametrize("value", [-1, 1.5, float("nan"), None, MOST_TOKENS + 1, 2**31 + 5, 1e19])
def test_counts_of_tokens_are_checked_not_cast(tmp_path: Path, column: str, value: Any) -> None:
    place = profile_on_disk(tmp_path, **{column: [5.0, 3.0, value] if isinstance(value, float) else [5, 3, value]})
    with pytest.raises(InputError, match=f"column {column}, row 3: got .*; expected a whole number of tokens"):
        load_profile(str(place))
    kept = load_profile(str(profile_on_disk(tmp_path, **{column: [5, 3, MOST_TOKENS]})))
    assert kept.attempts[column].to_list() == [5, 3, MOST_TOKENS]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"attempt": [0, 0, 0]}, "got 'a attempt 0'; expected each attempt of a problem once"),
        ({"attempt": [0, 0.5, 0]}, "column attempt, row 2: got 0.5"),
        ({"attempt": [0, 40_000, 0]}, "column attempt, row 2: got 40000.0; expected a whole number, at most 32,767"),
        ({"problem": ["a", None, "b"]}, "column problem: got '1 empty values'"),
        ({"problem": ["a", "", "b"]}, "column problem: got '1 empty values'"),
        ({"prompt_tokens": [5, 0, 9]}, "column prompt_tokens, row 2: got 0.0; expected .* at least 1"),
        (
            {"verifier_score": [0.1, float("nan"), 0.3]},
            "column verifier_score, row 2: got nan; expected a finite number",
        ),
        ({"verifier_score": [0.1, None, 0.3]}, "column verifier_score, row 2: got None"),
        ({"answer": [["x"], ["y"], ["z"]]}, "column answer: got 'List"),
    ],
)
def test_attempts_that_cannot_be_are_refused(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        load_profile(str(profile_on_disk(tmp_path, **columns)))


@pytest.mark.parametrize(
    ("problems", "scores", "says"),
    [
        ({"problem": ["a", "a"]}, {}, r"problems\.parquet: column problem: got 'a'; expected each problem once"),
        ({"problem": ["a", None]}, {}, r"problems\.parquet: column problem: got '1 empty values'"),
        ({"subset": ["s", None]}, {}, r"problems\.parquet: column subset: got '1 empty values'"),
        ({"prompt_tokens": [5, 0]}, {}, "column prompt_tokens, row 2: got 0.0; expected .* at least 1"),
        (
            {"prompt_tokens": [5, 3e9]},
            {},
            "column prompt_tokens, row 2: got 3000000000.0; expected .* at most 100,000,000",
        ),
        ({"difficulty": [0.1, 0.2]}, {}, r"scores\.parquet: columns: got 'difficulty'; expected no column of"),
        ({}, {"problem": ["a", "a"]}, r"scores\.parquet: column problem: got 'a'; expected each problem once"),
        (
            {},
            {"problem": ["c", "d"]},
            r"scores\.parquet: column problem: got 'c'; expected keys of .*problems\.parquet",
        ),
        ({}, {"difficulty": [0.1, 7.0]}, "column difficulty, row 2: got 7.0; expected a number from 0 to 1"),
        ({}, {"difficulty": [0.1, float("nan")]}, "column difficulty, row 2: got nan"),
        ({}, {"difficulty": ["easy", "hard"]}, "column difficulty: got 'String'"),
        ({}, {"novelty": [-0.1, 0.5]}, "column novelty, row 1: got -0.1"),
        ({}, {"p:m": [0.5, 1.01]}, "column p:m, row 2: got 1.01"),
        ({}, {"tokens:m": [0.0, 5.0]}, "column tokens:m, row 1: got 0.0; expected a number above 0 to 100,000,000"),
        ({}, {"tokens_p90:m": [5.0, float("inf")]}, "column tokens_p90:m, row 2: got inf"),
    ],
)
def test_problem_sets_that_cannot_be_are_refused(
    tmp_path: Path, problems: dict[str, Any], scores: dict[str, Any], says: str
) -> None:
    place = set_on_disk(tmp_path, {**PROBLEMS, **problems}, {**SCORES, **scores})
    with pytest.raises(InputError, match=says):
        load_problem_set(str(place))


def test_a_problem_may_have_no_score_and_strays_are_said(tmp_path: Path) -> None:
    partly = {name: [values[0], "c" if name == "problem" else None] for name, values in SCORES.items()}
    place = set_on_disk(tmp_path, PROBLEMS, partly)
    found = load_problem_set(str(place))
    assert found.problems["difficulty"].to_list() == [0.25, None]
    profile_on_disk(tmp_path, problem=["a", "b", "elsewhere"], attempt=[0, 0, 0])
    api = {
        "kind": "api",
        "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0},
        "first_token": {"median_s": 0.5},
        "per_token": {"median_s": 0.01},
    }
    scenario = scenario_from_dict(
        {
            "name": "small",
            "workload": {
                "arrivals": {"process": "even", "rate_per_s": 1.0},
                "requests": 5,
                "sources": {"only": {"problem_set": "set"}},
            },
            "deployments": {"api": api},
            "arms": {"mine": {"profile": "mine", "deployment": "api"}},
        },
        str(tmp_path / "scenario.yaml"),
    )
    notes = load_population(scenario).notes
    assert "set: 1 of 2 scores are of problems not in the set, c first" in notes
    assert "mine: 1 attempts are at problems that are not in set, elsewhere first" in notes


@pytest.mark.parametrize("limit", [0, -5, 3_000_000_000, "many"])
def test_a_cards_limit_is_a_number_of_tokens(tmp_path: Path, limit: Any) -> None:
    place = profile_on_disk(tmp_path)
    card = {**CARD, "kind": "model", "model": "m", "reasoning": "recorded", "output_limit_tokens": limit}
    (place / "profile.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(InputError, match="output_limit_tokens: got"):
        load_profile(str(place))


ARRIVALS: dict[str, list[Any]] = {
    "client": [0, 0, 1, 1],
    "t_start_s": [0, 600, 0, 600],
    "rate_per_s": [1.0, 0.0, 0.5, 2.0],
    "iat_family": ["Gamma", None, "Weibull", "gamma"],
    "iat_shape": [0.5, None, 1.2, 2.0],
}
LENGTHS: dict[str, list[Any]] = {
    "client": [0, 0, 0],
    "window_start_s": [0, 0, 0],
    "field": ["input_tokens", "output_tokens", "reason_ratio"],
    "value": [100.0, 50.0, 0.5],
    "probability": [1.0, 1.0, 1.0],
}


@pytest.mark.parametrize(
    ("arrivals", "lengths", "says"),
    [
        ({"rate_per_s": [0.0] * 4}, {}, r"arrivals\.parquet: column rate_per_s: got 0; expected a rate above 0"),
        (
            {"rate_per_s": [1e-9, 0.0, 1e-9, 1e-9]},
            {},
            r"rate of all clients: got '1\.5e-09'; expected at least 3\.333e-06 a second",
        ),
        ({"rate_per_s": [1.0, -1.0, 1.0, 1.0]}, {}, r"column rate_per_s, row 2: got -1\.0"),
        ({"rate_per_s": [1.0, float("nan"), 1.0, 1.0]}, {}, "column rate_per_s, row 2: got nan"),
        ({"t_start_s": [0, 0, 0, 0]}, {}, "column t_start_s: .* windows of one length, at least two"),
        ({"t_start_s": [0, 600, 1800, 600]}, {}, "column t_start_s: .* windows of one length"),
        ({"iat_shape": [0.0, None, 1.0, 1.0]}, {}, r"column iat_shape, row 1: got 0\.0"),
        (
            {"iat_shape": [0.5, None, 1e-300, 1.0]},
            {},
            r"column iat_shape: got 1e-300; expected at least 0\.1479 of Weibull",
        ),
        ({"iat_shape": [0.5, None, 1.0, 1e-5]}, {}, r"column iat_shape: got 1e-05; expected at least 0\.0004 of Gamma"),
        ({"iat_family": ["Gamma", None, "Pareto", "gamma"]}, {}, "column iat_family: got 'pareto'"),
        ({"client": [0, 0, -1, 1]}, {}, "column client, row 3"),
        ({}, {"value": [3e9, 50.0, 0.5]}, r"lengths\.parquet: column value, row 1: got 3000000000"),
        ({}, {"value": [100.0, 50.0, 1.5]}, r"column value, row 1: got 1\.5; expected a number from 0 to 1"),
        ({}, {"probability": [1.0, 0.0, 1.0]}, "column field: got 'output_tokens'"),
        ({}, {"field": ["input_tokens", "output_tokens", "ratio"]}, "column field: got 'reason_ratio'"),
    ],
)
def test_traffic_that_cannot_be_is_refused(
    tmp_path: Path, arrivals: dict[str, Any], lengths: dict[str, Any], says: str
) -> None:
    def made(arrivals: dict[str, Any], lengths: dict[str, Any]) -> None:
        pl.DataFrame({**ARRIVALS, **arrivals}, strict=False).write_parquet(tmp_path / "arrivals.parquet")
        pl.DataFrame({**LENGTHS, **lengths}, strict=False).write_parquet(tmp_path / "lengths.parquet")

    (tmp_path / "traffic.yaml").write_text(yaml.safe_dump({**CARD, "kind": "traffic"}))
    clients = Clients(process="clients", traffic=str(tmp_path))
    made({}, {})
    traffic = generate(clients, 200, 1, folder=tmp_path, where="test.yaml")
    assert traffic.prompt_tokens is not None
    assert set(traffic.prompt_tokens.tolist()) == {100}
    made(arrivals, lengths)
    with pytest.raises(InputError, match=says):
        generate(clients, 200, 1, folder=tmp_path, where="test.yaml")


# ----------------------------------------------------------------------------------------- what is taken for what


def built(**columns: Any) -> tuple[pl.DataFrame, str]:
    base: dict[str, Any] = {
        "problem": ["a", "a", "b"],
        "prompt_tokens": [5, 5, 9],
        "output_tokens": [10, 20, 30],
        "correct": [1, 0, 1],
    }
    table = {name: values for name, values in {**base, **columns}.items() if values is not None}
    profile, said = build_profile(pl.DataFrame(table), "t.csv", "mine", {**CARD, "model": "m"})
    return profile.attempts, "\n".join(said)


def test_attempts_are_numbered_by_the_order_of_their_ids() -> None:
    assert built(attempt_id=[40_007, 40_001, 9])[0]["visible_tokens"].to_list() == [20, 10, 30]
    assert built(attempt_id=[40_007, 40_001, 9])[0]["attempt"].to_list() == [0, 1, 0]
    made, said = built(sample=["first try", "second try", "only try"])
    assert made["visible_tokens"].to_list() == [10, 20, 30]
    assert "column sample holds no numbers of attempts" in said
    with pytest.raises(InputError, match="each attempt of a problem once"):
        built(attempt_id=[40_001, 40_001, 1])


def test_reasons_for_the_end_say_what_was_stopped() -> None:
    for reasons in (["stop", "length", "stop"], ["end_turn", "max_tokens", None], ["STOP", "MAX_TOKENS", "STOP"]):
        made, said = built(finish_reason=reasons)
        assert made["truncated"].to_list() == [False, True, False]
        assert "column finish_reason, 1 attempts stopped at a limit" in said
    assert built(finish_reason=["stop", "length", "stop"], truncated=[1, 0, 0])[0]["truncated"].to_list() == [
        True,
        False,
        False,
    ]


def test_keys_that_start_anew_in_every_dataset_are_told_apart() -> None:
    made, said = built(dataset=["x", "y", "y"])
    assert made["problem"].to_list() == ["x/a", "y/a", "y/b"]
    assert "starts anew" in said
    assert built(dataset=["x", "x", "y"])[0]["problem"].to_list() == ["a", "a", "b"]


def test_a_prompt_is_all_of_it_where_its_cached_parts_stand_beside() -> None:
    parts = {"cache_creation_input_tokens": [100, None, 0], "cache_read_input_tokens": [1000, 0, 7]}
    made, said = built(prompt_tokens=None, input_tokens=[5, 6, 7], **parts)
    assert made["prompt_tokens"].to_list() == [1105, 6, 14]
    assert "what was cached" in said
    # Where the prompt has a column of its own, they are a part of it.
    assert built(prompt_tokens=[1105, 6, 14], **parts)[0]["prompt_tokens"].to_list() == [1105, 6, 14]


def test_reasoning_above_the_output_names_the_way_to_say_so() -> None:
    with pytest.raises(
        InputError, match=r"output_tokens, row 2: got 20; expected at least reasoning_tokens, 400"
    ) as said_so:
        built(reasoning_tokens=[1, 400, 2])
    assert "--visible-tokens-column output_tokens" in str(said_so.value)
    made, said = built(reasoning_tokens=[1, 15, 2])
    assert made["visible_tokens"].to_list() == [9, 5, 28]
    assert "reasoning_tokens are taken to be a part of output_tokens" in said


def test_shares_of_right_answers_are_refused_with_a_hint() -> None:
    with pytest.raises(InputError, match=r"column correct, row 2: got 0\.5; .*a row for each of them"):
        built(correct=[1.0, 0.5, 0.0])


def test_a_card_that_cannot_be_is_refused_by_field() -> None:
    table = pl.DataFrame({"problem": ["a"], "prompt_tokens": [5], "output_tokens": [10], "correct": [1]})
    with pytest.raises(InputError, match="mine: output_limit_tokens: got 3000000000"):
        build_profile(table, "t.csv", "mine", {**CARD, "model": "m", "output_limit_tokens": 3_000_000_000})
    with pytest.raises(InputError, match="mine: origin: got 'nothing'"):
        build_profile(table, "t.csv", "mine", {"model": "m"})
