"""Sessions by laws, and laws fitted to sessions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.measured.session_turns import SessionTurns
from ttc_sim.measured.sessions import load_sessions
from ttc_sim.scenario import Even, Sessions
from ttc_sim.scenario.session_laws import Generated
from ttc_sim.workload import generate
from ttc_sim.workload.session_fitting import compare, fitted
from ttc_sim.workload.session_generating import mean_turns, probability, quantile, turns_by
from ttc_sim.workload.session_trees import tree_of

PLAIN: dict[str, Any] = {"turns": 4, "first_prompt": 100, "output": 10, "added": 5, "think_s": 2.0}
FULL: dict[str, Any] = {
    "turns": {"median": 9, "p95": 40},
    "first_prompt": {"median": 900, "p95": 3000},
    "first_with_turns": -0.4,
    "tools": {"tokens": {"quantiles": [300, 500]}, "kinds": 3},
    "system": {"tokens": 64, "kinds": 2},
    "output": {"median": 60, "p95": 300, "alike": 0.4},
    "added": {"median": 100, "p95": 900},
    "think_s": {"median": 5, "p95": 20, "alike": 0.2},
    "rewritten": 0.02,
    "person": {"share": 0.2, "think_s": {"median": 400, "p95": 900}, "rewritten": 0.1},
    "starts_over": {"left": 1200, "above": {"median": 4000, "p95": 9000}, "share": 0.01},
    "sub_agents": {"share": 0.05, "turns": 3, "first_prompt": 700, "tools": {"tokens": 200}},
}


def made(laws: dict[str, Any], count: int = 2000, seed: int = 1) -> SessionTurns:
    return turns_by(Generated.model_validate(laws), count, seed, "here", "here")


def test_a_prompt_is_the_one_before_its_answer_and_what_was_added() -> None:
    turns = made(PLAIN, 2)
    assert turns.prompt_tokens.tolist() == [100, 115, 130, 145] * 2
    assert turns.reused_tokens.tolist() == [0, 100, 115, 130] * 2
    assert turns.reuses.tolist() == [-1, 0, 1, 2, -1, 4, 5, 6]
    assert turns.think_s.tolist() == [0, 2, 2, 2] * 2
    assert turns.head.max() == -1


def test_contexts_start_over_where_they_are_too_long() -> None:
    turns = made({**PLAIN, "tools": {"tokens": 40}, "starts_over": {"left": 60, "above": 129}}, 1)
    assert turns.prompt_tokens.tolist() == [100, 115, 60, 75]
    assert turns.reused_tokens.tolist() == [0, 100, 40, 60]
    always = made({**PLAIN, "starts_over": {"left": 60, "share": 1.0}}, 1)
    assert always.prompt_tokens.tolist() == [100, 60, 60, 60]
    assert always.reused_tokens.tolist() == [0, 0, 0, 0]
    rewritten = made({**PLAIN, "system": {"tokens": 40}, "rewritten": 1.0}, 1)
    assert rewritten.prompt_tokens.tolist() == [100, 115, 130, 145]
    assert rewritten.reused_tokens.tolist() == [0, 40, 40, 40]


def test_sub_agents_are_waited_for_and_go_on_from_their_own_prompts() -> None:
    sub = {"share": 1.0, "turns": 2, "first_prompt": 30}
    turns = made({**PLAIN, "turns": 2, "sub_agents": sub}, 1)
    assert turns.agent.tolist() == [0, 1, 1, 0, 2, 2]
    assert turns.prompt_tokens.tolist() == [100, 30, 45, 115, 30, 45]
    assert turns.reuses.tolist() == [-1, -1, 1, 0, -1, 4]


def test_shares_and_what_turns_have_alike_are_as_asked_for() -> None:
    turns = made({**FULL, "turns": 20, "sub_agents": None, "starts_over": None}, 3000)
    later = ~turns.first
    person = turns.think_s[later] > 60
    assert person.mean() == pytest.approx(0.2, abs=0.01)
    assert np.median(turns.think_s[later][person]) == pytest.approx(400, rel=0.05)
    scores = np.log(turns.output_tokens)
    means = np.bincount(turns.session, weights=scores) / turns.turns
    between = means.var() - scores.var() * 0.6 / 20
    assert between / scores.var() == pytest.approx(0.4, abs=0.03)
    assert np.median(turns.output_tokens) == pytest.approx(60, rel=0.05)
    first = turns.prompt_tokens[turns.first]
    few = made(FULL, 4000)
    ranks = [np.argsort(np.argsort(one)) for one in (few.turns, few.prompt_tokens[few.first])]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] == pytest.approx(-0.4, abs=0.06)
    assert np.median(first) == pytest.approx(900, rel=0.07)


def test_mean_turns_are_those_of_the_law() -> None:
    laws = Generated.model_validate(FULL)
    assert len(made(FULL, 20_000)) / 20_000 == pytest.approx(mean_turns(laws), rel=0.02)


def test_the_first_sessions_do_not_depend_on_how_many_there_are() -> None:
    arrivals = Sessions.model_validate(
        {"process": "sessions", "generated": FULL, "starts": {"process": "poisson", "rate_per_s": 0.2}}
    )
    few, many = (generate(arrivals, n, 3, folder=Path(), where="here") for n in (150, 4000))
    for name in vars(few):
        if isinstance(values := getattr(few, name), np.ndarray):
            np.testing.assert_array_equal(values, getattr(many, name)[:150], err_msg=name)
    turns = made(FULL)
    assert (turns.reused_tokens <= turns.prompt_tokens).all()
    assert (turns.reused_tokens[turns.reuses >= 0] <= turns.prompt_tokens[turns.reuses[turns.reuses >= 0]]).all()
    tree = tree_of(turns)
    assert tree.shared <= 3 + 3 * 2 + 1 + 1
    assert (tree.tokens <= turns.prompt_tokens).all()


def test_quantiles_and_probabilities_are_inverse() -> None:
    u = np.linspace(0.001, 0.999, 50)
    for law in (Generated.model_validate(FULL).turns, Generated.model_validate(FULL).think_s):
        np.testing.assert_allclose(probability(law, quantile(law, u)), u, atol=1e-9)
    uneven = Generated.model_validate({**PLAIN, "output": {"quantiles": [1, 10, 100], "at": [0, 0.9, 1]}}).output
    np.testing.assert_allclose(quantile(uneven, np.array([0.0, 0.9, 1.0])), [1, 10, 100])


def test_laws_fitted_to_generated_sessions_are_those_they_came_of() -> None:
    turns = made({**FULL, "turns": {"quantiles": [20, 60]}, "rewritten": 0.03, "starts_over": None}, 1500)
    laws = fitted(turns)
    assert laws.person is not None
    assert laws.person.share == pytest.approx(0.2, abs=0.01)
    assert laws.output.alike == pytest.approx(0.4, abs=0.04)
    assert laws.think_s.alike == pytest.approx(0.2, abs=0.05)
    assert laws.first_with_turns == pytest.approx(-0.4, abs=0.08)
    assert laws.tools is not None
    assert laws.system is not None
    assert (laws.tools.kinds, laws.system.kinds) == (3, 2)
    assert laws.sub_agents is not None
    assert laws.sub_agents.share == pytest.approx(0.05, abs=0.005)
    assert quantile(laws.sub_agents.turns, np.array([0.5]))[0] == pytest.approx(3)
    assert laws.rewritten == pytest.approx(0.03, abs=0.006)
    np.testing.assert_allclose(quantile(laws.output, np.array([0.5, 0.95])), [60, 300], rtol=0.05)


def test_what_is_generated_is_like_sessions_that_it_was_not_fitted_to() -> None:
    """The recorded halves are as far from one another as the last column says; generated ones are little farther from either."""
    compared = compare(load_sessions("coding-agent").turns)
    assert compared.fitted_to == compared.held_back == 243
    distance = {one.name: one.distance for one in compared.matches}
    for name in ("turns a session", "first prompt, tokens"):
        assert distance[name] < 0.1, name
    for name in ("growth a turn, tokens", "answer, tokens", "pause before a turn, s"):
        assert distance[name] < 0.05, name
    assert distance["reused part of a session"] < 0.15
    recorded, generated = compared.reused
    assert generated == pytest.approx(recorded, abs=0.006)


def test_the_command_shows_the_match_and_writes_laws_that_a_scenario_takes(tmp_path: Path) -> None:
    laws, figures = tmp_path / "laws.yaml", tmp_path / "figures.json"
    done = CliRunner().invoke(app, ["sessions", "coding-agent", "--fit", "--laws", str(laws), "--json", str(figures)])
    assert done.exit_code == 0, done.output
    assert "laws fitted to 243 of them" in done.output
    written = json.loads(figures.read_text())
    assert written["compared"]["quantities"]["turns a session"]["recorded"]["p50"] == 53
    arrivals = {
        "process": "sessions",
        **yaml.safe_load(laws.read_text()),
        "starts": {"process": "even", "rate_per_s": 1.0},
    }
    made = generate(Sessions.model_validate(arrivals), 500, 1, folder=Path(), where="here")
    assert len(made.arrival_s) == 500
    shown = CliRunner().invoke(app, ["sessions", "coding-agent"])
    assert "96.34% were sent before" in shown.output
    refused = CliRunner().invoke(app, ["sessions", str(tmp_path / "none.parquet")])
    assert isinstance(refused.exception, InputError)


def test_too_few_sessions_are_not_fitted_to() -> None:
    with pytest.raises(InputError, match="at least 20 to fit to"):
        fitted(made(PLAIN, 19))
    assert fitted(made(PLAIN, 20)).person is None
    with pytest.raises(InputError, match="got '39 sessions'; expected at least 40: laws are fitted to half of them"):
        compare(made(PLAIN, 39))


def test_sessions_of_a_turn_each_have_neither_pauses_nor_growth(tmp_path: Path) -> None:
    rows = [f"s{k},{k}.0,0.0,{200 + k},{20 + k},0" for k in range(60)]
    header = "session,t_s,think_s,input_tokens,output_tokens,reused_tokens"
    (tmp_path / "s.csv").write_text("\n".join([header, *rows]))
    for more in ((), ("--fit", "--laws", str(tmp_path / "laws.yaml"))):
        figures = tmp_path / "figures.json"
        done = CliRunner().invoke(app, ["sessions", str(tmp_path / "s.csv"), "--json", str(figures), *more])
        assert done.exit_code == 0, done.output
        said = json.loads(figures.read_text())
        found = said["compared"]["quantities"] if more else said["quantities"]
        assert {"turns a session", "answer, tokens"} < set(found)
        assert not {"growth a turn, tokens", "pause before a turn, s"} & set(found)
    again = yaml.safe_load((tmp_path / "laws.yaml").read_text())["generated"]
    assert set(again["turns"]["quantiles"]) == {1.0}


def test_a_run_in_which_no_session_begins_is_refused() -> None:
    api = {"kind": "api", "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}}
    api |= {"first_token": {"median_s": 1.0}, "per_token": {"median_s": 0.1}}
    arrivals = {"process": "sessions", "generated": FULL, "starts": {"process": "poisson", "rate_per_s": 1e-6}}
    raw = {"name": "rare", "workload": {"arrivals": arrivals, "duration": "60 s"}, "deployments": {"api": api}}
    raw |= {"arms": {"a": {"deployment": "api"}}, "policy": "Always('a')"}
    with pytest.raises(InputError, match="expected a longer one: nothing arrives in it"):
        ttc.simulate(ttc.scenario_from_dict(raw))


def test_a_scenario_of_generated_sessions_runs() -> None:
    api = {"kind": "api", "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}}
    api |= {"first_token": {"median_s": 1.0}, "per_token": {"median_s": 0.1}}
    arrivals = {"process": "sessions", "generated": FULL, "starts": {"process": "poisson", "rate_per_s": 0.1}}
    compact = {"compact": {"above_tokens": 3000, "to_tokens": 900}}
    tokens = []
    for more in ({}, compact):
        scenario = {
            "name": "generated",
            "replications": 1,
            "workload": {"arrivals": {**arrivals, **more}, "duration": "30 min"},
            "deployments": {"api": api},
            "arms": {"api": {"strategy": "Single()", "deployment": "api"}},
            "policy": "Always('api')",
        }
        run = ttc.simulate(ttc.scenario_from_dict(scenario)).runs[0]
        assert (run.result.status == 0).all()
        tokens.append(run.prompt_tokens.max())
    assert tokens[1] < tokens[0]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"turns": 0}, "1 to 100,000 turns: sessions end"),
    ({"turns": 1e9}, "1 to 100,000 turns: sessions end"),
    ({"turns": float("inf")}, "finite"),
    ({"output": {"median": 5}}, "median and p95, or quantiles"),
    ({"output": {"median": 5, "p95": 3}}, "at least median 5"),
    ({"output": {"quantiles": [5, 3]}}, "two values or more, in order"),
    ({"output": {"quantiles": [3, 5], "at": [0, 0.5]}}, "2 probabilities from 0 to 1"),
    ({"output": {"quantiles": [3, 5], "median": 4, "p95": 5}}, "no quantiles beside"),
    ({"output": {"median": 3, "p95": 5, "at": [0, 1]}}, "quantiles beside it"),
    ({"turns": {"median": 4, "p95": 5, "alike": 0.5}}, "alike"),
    ({"starts_over": {"left": 5}}, "else nothing starts over"),
    ({"first_with_turns": 1.0}, "less than 1"),
    ({"added": -3}, "greater than or equal to 0"),
]


@pytest.mark.parametrize(("changed", "said"), BAD)
def test_laws_that_cannot_be_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Generated.model_validate({**PLAIN, **changed})


def test_contexts_that_never_end_are_refused() -> None:
    with pytest.raises(InputError, match="a prompt grows to more tokens than there can be"):
        made({**PLAIN, "turns": 1000, "added": 10_000_000}, 1)


def test_sessions_are_of_one_origin() -> None:
    starts = Even(process="even", rate_per_s=1.0)
    for given in ({}, {"sessions": "coding-agent", "generated": PLAIN}, {"sessions": "a", "file": "b"}):
        with pytest.raises(ValueError, match="one of the three"):
            Sessions.model_validate({"process": "sessions", "starts": starts, **given})
