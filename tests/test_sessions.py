"""Sessions: turns that wait for one another, and prompts that begin like those before them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ttc_sim as ttc
from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.measured.cards import SessionsCard
from ttc_sim.measured.session_tables import read_sessions
from ttc_sim.measured.session_turns import SessionTurns
from ttc_sim.measured.sessions import load_sessions, place_of_sessions, save_sessions
from ttc_sim.scenario import Even, Poisson, Sessions
from ttc_sim.workload import Traffic, generate
from ttc_sim.workload.session_trees import SessionTree, tree_of, with_answers

ROWS = {
    "session": ["a", "a", "a", "a", "b", "b"],
    "agent": ["main", "main.0", "main.0", "main", "main", "main"],
    "tool_tokens": [300, 100, 100, 300, 300, 300],
    "system_tokens": [100, 50, 50, 100, 100, 100],
    "t_s": [0.0, 0.0, 12.0, 40.0, 0.0, 9.0],
    "think_s": [0.0, 0.0, 10.0, 36.0, 0.0, None],
    "api_s": [4.0, 2.0, 3.0, 5.0, 6.0, None],
    "input_tokens": [1000, 500, 900, 2000, 700, 800],
    "output_tokens": [50, 20, 30, 40, 0, 60],
    "reused_tokens": [0, 0, 448, 960, 0, 640],
}


def written(folder: Path, **changed: list[Any]) -> Path:
    path = folder / "turns.parquet"
    pl.DataFrame({**ROWS, **changed}, strict=False).write_parquet(path)
    return path


def in_common(tree: SessionTree, i: int, j: int) -> int:
    """Leading tokens that two turns' prompts have in common, by walking the tree."""
    one, other = (tree.tree.path(int(tree.node[k])) for k in (i, j))
    depth = 0
    while depth < min(len(one), len(other)) and one[depth] == other[depth]:
        depth += 1
    ends = [int(tree.tree.start[path[depth]]) for path in (one, other) if depth < len(path)]
    return min([*ends, int(tree.tokens[i]), int(tree.tokens[j])]) if depth else 0


def most_in_common(turns: SessionTurns, tree: SessionTree, i: int) -> int:
    begins = int(turns.start[np.searchsorted(turns.start, i, side="right") - 1])
    return max([in_common(tree, i, j) for j in range(begins, i)], default=0)


def test_turns_wait_for_one_another_and_sub_agents_are_not_waited_for_twice(tmp_path: Path) -> None:
    turns = read_sessions(written(tmp_path))
    assert turns.start.tolist() == [0, 4, 6]
    assert turns.agent.tolist() == [0, 1, 1, 0, 0, 0]
    # 36 s until the main agent went on, of which the sub-agent took 2 + 10 + 3; 9 s less an answer of 6.
    assert turns.think_s.tolist() == [0.0, 0.0, 10.0, 21.0, 0.0, 3.0]
    assert turns.reuses.tolist() == [-1, -1, 1, 0, -1, 4]
    assert turns.output_tokens.tolist() == [
        50,
        20,
        30,
        40,
        40,
        60,
    ]  # a turn that failed is answered like the one before
    assert any("have no output tokens" in note for note in turns.notes)
    assert any("have no think_s" in note for note in turns.notes)


def test_the_tree_has_in_common_what_was_recorded_and_the_heads_of_sessions(tmp_path: Path) -> None:
    turns = read_sessions(written(tmp_path))
    tree = tree_of(turns)
    assert [most_in_common(turns, tree, i) for i in range(6)] == turns.reused_tokens.tolist()
    assert in_common(tree, 4, 0) == 400, "tools and system prompt are the same"
    assert in_common(tree, 1, 0) == 0, "a sub-agent's are others"
    apart = tree_of(turns, shared_heads=False)
    assert in_common(apart, 4, 0) == 0
    assert [most_in_common(turns, apart, i) for i in range(6)] == turns.reused_tokens.tolist()


def random_turns(seed: int) -> SessionTurns:
    """Sessions that go on, start over, and go back to any turn before them."""
    rng = np.random.default_rng(seed)
    start = np.concatenate([[0], np.cumsum(rng.integers(1, 9, 6))])
    n = int(start[-1])
    prompt, reused, reuses = np.empty(n, np.int64), np.zeros(n, np.int64), np.full(n, -1)
    heads = np.array([[0, 0, 30], [1, 50, 50], [1, 50, 80], [2, 70, 90]])
    head = np.full(n, -1)
    for first, end in pairwise(start.tolist()):
        for i in range(first, end):
            if i > first and rng.random() < 0.8:
                reuses[i] = rng.integers(first, i)
                reused[i] = rng.integers(1, prompt[reuses[i]] + 1)
                if rng.random() < 0.5:
                    reused[i] = min(90, prompt[reuses[i]])
            elif i == first:
                head[i] = rng.integers(-1, 4)
            prompt[i] = max(reused[i], heads[head[i], 2] if head[i] >= 0 else 1) + rng.integers(0, 200)
    zero = np.zeros(n, dtype=np.int64)
    return SessionTurns(start, zero, np.zeros(n), prompt, zero, zero + 1, reused, reuses, head, heads)


@pytest.mark.parametrize("seed", range(8))
def test_any_sessions_tree_has_in_common_what_is_reused(seed: int) -> None:
    turns = random_turns(seed)
    tree = tree_of(turns)
    assert (tree.tree.parent < np.arange(len(tree.tree))).all()
    above = np.where(tree.tree.parent < 0, 0, tree.tree.start[tree.tree.parent])
    assert (tree.tree.start >= above).all()
    assert (tree.tree.start[tree.tree.parent < 0] == 0).all()
    assert (tree.tokens <= turns.prompt_tokens).all()
    for i in range(len(turns)):
        assert most_in_common(turns, tree, i) == turns.reused_tokens[i]
        if turns.reuses[i] >= 0:
            assert in_common(tree, i, int(turns.reuses[i])) == turns.reused_tokens[i]
    first = turns.start[:-1]
    for a in first:
        for b in first[first < a]:
            one, other = turns.heads[turns.head[[a, b]]]
            same = min(turns.head[[a, b]]) >= 0 and one[0] == other[0]
            expected = (min(one[2], other[2]) if one[2] == other[2] else one[1]) if same else 0
            assert in_common(tree, int(a), int(b)) == expected


@pytest.mark.parametrize("seed", range(4))
def test_answers_are_found_again_where_they_were_sent_back(seed: int) -> None:
    turns = replace(
        random_turns(seed), visible_tokens=np.random.default_rng(seed).integers(1, 60, len(random_turns(seed)))
    )
    found = with_answers(turns)
    tree = tree_of(found, answers=True)
    for i in range(len(turns)):
        j = int(turns.reuses[i])
        answered = int(turns.prompt_tokens[j] + turns.output_tokens[j])
        if j >= 0 and turns.reused_tokens[i] > turns.prompt_tokens[j] - 64 and turns.prompt_tokens[i] >= answered:
            assert found.reused_tokens[i] == answered
        else:
            assert found.reused_tokens[i] == turns.reused_tokens[i]
        assert most_in_common(found, tree, i) == found.reused_tokens[i]
    assert (found.reused_tokens > turns.reused_tokens).any()
    assert (tree.tokens <= turns.prompt_tokens + turns.output_tokens).all()


def sessions(path: Path, **more: Any) -> Sessions:
    starts = more.pop("starts", Even(process="even", rate_per_s=0.1))
    return Sessions(process="sessions", file=str(path), starts=starts, **more)


def made(path: Path, requests: int, **more: Any) -> Traffic:
    return generate(sessions(path, **more), requests, 1, folder=Path(), where="here")


def given(values: I64 | None) -> I64:
    assert values is not None
    return values


def test_sessions_are_begun_by_their_process_and_their_turns_follow(tmp_path: Path) -> None:
    few, many = made(written(tmp_path), 37), made(written(tmp_path), 400)
    begins = given(many.after) < 0
    assert np.allclose(many.arrival_s[begins], 10.0 * np.arange(1, begins.sum() + 1))
    assert np.isnan(many.arrival_s[~begins]).all()
    assert (given(many.after)[~begins] == np.flatnonzero(~begins) - 1).all()
    assert many.rate_per_s == pytest.approx(0.1 * 3)  # three turns a session in the mean
    for name in ("arrival_s", "prompt_tokens", "prefix_id", "prefix_tokens", "after", "think_s", "session", "turn"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:37], err_msg=name)
    tree = few.prefixes
    assert tree is not None
    assert len(tree) > given(few.prefix_id).max()
    lengths = np.bincount(given(many.session))[:-1]
    assert set(lengths.tolist()) == {2, 4}


def scenario(path: Path, extent: dict[str, Any], **arrivals: Any) -> ttc.Scenario:
    api = {
        "kind": "api",
        "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0},
        "first_token": {"median_s": 1.0},
        "per_token": {"median_s": 0.1},
    }
    return ttc.scenario_from_dict(
        {
            "name": "agents",
            "replications": 1,
            "workload": {"arrivals": {"process": "sessions", "file": str(path), **arrivals}, **extent},
            "deployments": {"api": api},
            "arms": {"api": {"strategy": "Single()", "deployment": "api"}},
            "policy": "Always('api')",
        }
    )


def test_the_next_turn_is_sent_a_think_time_after_the_last_answer(tmp_path: Path) -> None:
    result = ttc.simulate(scenario(written(tmp_path), {"requests": 30}, starts={"process": "even", "rate_per_s": 0.1}))
    run = result.runs[0]
    traffic = run.draws.traffic
    waits = given(traffic.after) >= 0
    since = run.result.arrival_s[waits] - run.result.finished_s[given(traffic.after)[waits]]
    assert traffic.think_s is not None
    np.testing.assert_allclose(since, traffic.think_s[waits], atol=1e-9)


def test_sessions_may_be_begun_by_users_one_after_another(tmp_path: Path) -> None:
    users = {"process": "closed_loop", "users": 3, "think_s": 5.0}
    result = ttc.simulate(scenario(written(tmp_path), {"duration": "10 min"}, starts=users))
    run = result.runs[0]
    traffic, at = run.draws.traffic, run.result.arrival_s
    assert (at < 600).all()
    assert at.max() > 590
    begun, over = given(traffic.session), given(traffic.after)
    follows = (given(traffic.turn) == 0) & (over >= 0) & (begun != begun[np.maximum(over, 0)])
    assert follows.sum() > 20
    assert (given(traffic.after) < 0).sum() == 3


@pytest.mark.parametrize(
    "starts", [{"process": "poisson", "rate_per_s": 0.05}, {"process": "even", "rate_per_s": 0.05}]
)
def test_a_duration_holds_what_is_sent_in_it(tmp_path: Path, starts: dict[str, Any]) -> None:
    result = ttc.simulate(scenario(written(tmp_path), {"duration": "30 min"}, starts=starts))
    run = result.runs[0]
    assert (run.result.arrival_s < 1800).all()
    assert run.draws.traffic.rate_per_s == pytest.approx(0.15)
    assert 150 < len(run.draws) < 400
    assert (given(run.draws.traffic.turn) >= 0).all()
    said_of_traffic = run.draws.traffic.notes
    assert tuple(note for note in result.summary().notes if note in said_of_traffic) == said_of_traffic
    tree = run.draws.traffic.prefixes
    assert tree is not None
    assert len(tree) <= len(run.draws) + 20


def test_turns_that_come_after_the_run_are_said(tmp_path: Path) -> None:
    long = [0.0, 0.0, 10.0, 4000.0, 0.0, 3000.0]
    path = written(tmp_path, think_s=long, t_s=[0.0, 0.0, 12.0, 4000.0, 0.0, 3000.0])
    result = ttc.simulate(scenario(path, {"duration": "30 min"}, starts={"process": "even", "rate_per_s": 0.01}))
    run = result.runs[0]
    of = np.bincount(given(run.draws.traffic.session))
    # Of each session only the first turn of its agent comes in time, with the sub-agent's.
    assert set(of.tolist()) <= {1, 2, 3}
    (said,) = [note for note in run.draws.traffic.notes if "would come after it" in note]
    assert said.startswith(f"{len(of)} turns of the sessions that begin within 30 min")


def test_a_session_is_of_one_source(tmp_path: Path) -> None:
    sources = {"x": {"share": 1}, "y": {"share": 3}}
    starts = {"process": "even", "rate_per_s": 1.0}
    run = ttc.simulate(scenario(written(tmp_path), {"requests": 3000, "sources": sources}, starts=starts)).runs[0]
    source, session = given(run.draws.source), given(run.draws.traffic.session)
    assert (source == source[np.searchsorted(session, session)]).all()
    assert 0.7 < source.mean() < 0.8


def test_recorded_sessions_reuse_what_was_recorded(shared: Path) -> None:
    path = shared / "agent-sessions" / "requests.parquet"
    turns = read_sessions(path)
    assert turns.sessions == 486
    assert turns.reused_tokens.sum() / turns.prompt_tokens.sum() == pytest.approx(0.9634, abs=1e-4)
    tree = tree_of(turns)
    for s in (0, 1, 60, 250):
        for i in range(int(turns.start[s]), min(int(turns.start[s + 1]), int(turns.start[s]) + 80)):
            assert most_in_common(turns, tree, i) == turns.reused_tokens[i]
    traffic = generate(
        sessions(path, starts=Poisson(process="poisson", rate_per_s=1.0)), 20_000, 1, folder=Path(), where=""
    )
    assert len(traffic.arrival_s) == 20_000


BAD: list[tuple[dict[str, list[Any]], str]] = [
    ({"session": ["a", None, "a", "a", "b", "b"]}, "column session: got '1 empty values'"),
    ({"reused_tokens": [0, 0, 901, 960, 0, 640]}, "column reused_tokens, row 3: got 901; expected at most its prompt"),
    ({"t_s": [0.0, 5.0, 3.0, 40.0, 0.0, 9.0]}, "column t_s, row 3: got 3.0; expected a time that is not before"),
    ({"think_s": [0.0, 0.0, -1.0, 36.0, 0.0, 1.0]}, "column think_s, row 3: got -1.0"),
    ({"think_s": [0.0, 0.0, float("inf"), 36.0, 0.0, 1.0]}, "column think_s, row 3"),
    ({"input_tokens": [1000, 500, 900, None, 700, 800]}, "column input_tokens, row 4"),
    ({"t_s": [0.0, 0.0, 12.0, 40.0, 0.0, None]}, "column think_s, row 6"),
    ({"output_tokens": [0] * 6}, "column output_tokens: got '0 in every row'"),
]


@pytest.mark.parametrize(("changed", "said"), BAD)
def test_a_bad_value_is_named_by_its_row(tmp_path: Path, changed: dict[str, list[Any]], said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_sessions(written(tmp_path, **changed))
    assert said in str(caught.value)


def test_reuse_of_what_nobody_sent_is_cut_and_counted(tmp_path: Path) -> None:
    turns = read_sessions(written(tmp_path, reused_tokens=[64, 0, 448, 1500, 0, 640]))
    assert turns.reused_tokens.tolist() == [0, 0, 448, 1000, 0, 640]
    assert "2 of 6 rows of turns.parquet reuse more than any turn of their session has sent before" in turns.notes[-1]


def test_the_shipped_profile_is_what_was_recorded(shared: Path) -> None:
    shipped, recorded = (
        load_sessions("coding-agent").turns,
        read_sessions(shared / "agent-sessions" / "requests.parquet"),
    )
    assert shipped.notes == ()
    for name, values in vars(recorded).items():
        if name != "notes":
            np.testing.assert_array_equal(getattr(shipped, name), values, err_msg=name)
    folder = place_of_sessions("coding-agent")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 300_000


def test_a_profile_that_is_written_is_read_again(tmp_path: Path) -> None:
    turns = read_sessions(written(tmp_path))
    card = SessionsCard(origin="a test", licence="none", date="2026-11-26", tokenizer="none", limits="made up")
    save_sessions(tmp_path / "profiles" / "mine", card, turns)
    again = load_sessions("mine", tmp_path).turns
    for name, values in vars(turns).items():
        if name != "notes":
            np.testing.assert_array_equal(getattr(again, name), values, err_msg=name)
    arrivals = Sessions(process="sessions", sessions="mine", starts=Even(process="even", rate_per_s=1.0))
    one = generate(arrivals, 20, 1, folder=tmp_path, where="here")
    other = made(written(tmp_path), 20)
    np.testing.assert_array_equal(given(one.prompt_tokens), given(other.prompt_tokens))
    with pytest.raises(InputError, match=r"a folder with sessions\.yaml, or 'coding-agent'"):
        load_sessions("coding-agents")


def test_twice_the_traffic_is_twice_the_sessions(tmp_path: Path) -> None:
    starts = {"process": "poisson", "rate_per_s": 0.2}
    base = scenario(written(tmp_path), {"duration": "10 min"}, starts=starts)
    compact = {"above_tokens": 1500, "to_tokens": 700}
    found = ttc.what_if(base, {"busy": {"ready.traffic": "2x"}, "short": {"workload.arrivals.compact": compact}})
    busy, short = (one.kept.compared for one in found.variations)
    assert busy["cost_usd_per_day"].after.value > 1.7 * busy["cost_usd_per_day"].before.value
    assert busy["cost_usd_per_request"].difference.value == pytest.approx(0, abs=2e-4)
    assert short["cost_usd_per_request"].after.value != short["cost_usd_per_request"].before.value
