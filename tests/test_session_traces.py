"""Recorded sessions as JSON files, with the ids of their blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ttc_sim.base.errors import InputError
from ttc_sim.measured.session_tables import read_sessions
from ttc_sim.scenario import Even, Sessions
from ttc_sim.workload import generate
from ttc_sim.workload.session_trees import tree_of


def turn(t: float, ids: list[Any], tokens: int, think_time: float = 1.0) -> dict[str, Any]:
    return {"t": t, "type": "n", "in": tokens, "out": 7, "hash_ids": ids, "api_time": 2.0, "think_time": think_time}


def session(**changed: Any) -> dict[str, Any]:
    sub = {
        "type": "subagent",
        "t": 30.0,
        "tool_tokens": 20,
        "system_tokens": 5,
        "requests": [turn(0.0, [50, 51], 35, 0.0), turn(6.0, [50, 51, 52], 50, 4.0)],
    }
    requests = [
        turn(0.0, [1, 2, 3], 50, 0.0),
        sub,
        turn(20.0, [1, 2, 3, 4, 5], 83, 18.0),
        turn(30.0, [1, 9], 40, 8.0),
        turn(40.0, [1, 2, 3, 4, 6], 90, 8.0),
    ]
    return {"id": "a", "block_size": 16, "tool_tokens": 30, "system_tokens": 4, "requests": requests, **changed}


def written(folder: Path, *traces: dict[str, Any]) -> Path:
    for k, one in enumerate(traces):
        (folder / f"trace_{k}.json").write_text(json.dumps(one))
    return folder


def test_what_was_sent_before_follows_from_the_blocks(tmp_path: Path) -> None:
    turns = read_sessions(written(tmp_path, session()))
    assert turns.agent.tolist() == [0, 1, 1, 0, 0, 0]
    assert turns.reused_tokens.tolist() == [0, 0, 32, 48, 16, 64]
    assert turns.reuses.tolist() == [-1, -1, 1, 0, 3, 3]
    # The main agent went on 18 s after its answer, in which the sub-agent took 2 + 4 + 2.
    assert turns.think_s.tolist() == [0.0, 0.0, 4.0, 10.0, 8.0, 8.0]


@pytest.mark.parametrize("name", [str, lambda k: f"block {k}", lambda k: k if k % 2 else str(k), lambda k: 10**30 + k])
def test_ids_may_be_of_any_kind(tmp_path: Path, name: Any) -> None:
    for one in (plain := tmp_path / "plain", named := tmp_path / "named"):
        one.mkdir()
    other = session()
    for request in [*other["requests"], *other["requests"][1]["requests"]]:
        if "hash_ids" in request:
            request["hash_ids"] = [name(k) for k in request["hash_ids"]]
    expected, found = read_sessions(written(plain, session())), read_sessions(written(named, other))
    for column, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, column), values, err_msg=column)


def test_a_number_and_a_text_are_two_ids(tmp_path: Path) -> None:
    requests = [turn(0.0, [1, 2], 32), turn(5.0, ["1", "2"], 32), turn(9.0, [1, "2"], 32)]
    turns = read_sessions(written(tmp_path, session(requests=requests)))
    assert turns.reused_tokens.tolist() == [0, 0, 16]


@pytest.mark.parametrize("scope", ["local", "global"])
def test_ids_of_all_files_say_which_heads_are_the_same(tmp_path: Path, scope: str) -> None:
    other = session(requests=[turn(0.0, [1, 8, 3], 50)], hash_id_scope=scope)
    turns = read_sessions(written(tmp_path, session(hash_id_scope=scope), other))
    tree = tree_of(turns)
    one, two = (tree.tree.path(int(tree.node[i])) for i in (0, 6))
    common = [node for node in one if node in two]
    end = min(int(tree.tree.start[path[len(common)]]) for path in (one, two) if len(path) > len(common))
    # By lengths tools of 30 tokens and a system prompt of 4 are the same; by ids the first block of 16 is.
    assert end == (34 if scope == "local" else 16)
    traffic = generate(
        Sessions(process="sessions", file=str(tmp_path), starts=Even(process="even", rate_per_s=1.0)),
        50,
        1,
        folder=Path(),
        where="",
    )
    assert len(traffic.arrival_s) == 50


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"requests": 3},
        "requests: got 'id, block_size, tool_tokens, system_tokens, requests'; expected a recorded session",
    ),
    ({"requests": []}, "requests: got 'none'; expected at least one request"),
    ({"block_size": 0}, "block_size: got 0"),
    ({"hash_id_scope": "world"}, "hash_id_scope: got 'world'; expected local or global"),
    ({"requests": [turn(0.0, [[1]], 20)]}, "requests[0].hash_ids[0]: got [1]; expected an id of a block"),
    ({"requests": [turn(0.0, [1, None], 20)]}, "requests[0].hash_ids[1]: got None"),
    ({"requests": [turn(0.0, [1, True], 20)]}, "requests[0].hash_ids[1]: got True"),
    ({"requests": [turn(0.0, [1], 20), turn(-3.0, [1], 20)]}, "requests[1].t: got -3.0; expected seconds, at least 0"),
    (
        {"requests": [turn(9.0, [1], 20), turn(3.0, [1], 20)]},
        "requests[1].t: got 3.0; expected a time that is not before 9",
    ),
    ({"requests": [{**turn(0.0, [1], 20), "in": "many"}]}, "requests[0].in: got 'many'; expected a number of tokens"),
    ({"requests": [{**turn(0.0, [1], 20), "think_time": -2}]}, "requests[0].think_time: got -2; expected seconds"),
    (
        {"requests": [{"type": "subagent", "t": 0.0}]},
        "requests[0].requests: got 'nothing'; expected a list of the sub-agent's",
    ),
    ({"requests": [7]}, "requests[0]: got 7; expected a request"),
]


@pytest.mark.parametrize(("changed", "said"), BAD)
def test_what_is_wrong_is_named(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_sessions(written(tmp_path, session(**changed)))
    assert said in str(caught.value)
    assert "trace_0.json" in str(caught.value)


def test_a_folder_without_sessions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder with recorded sessions"):
        read_sessions(tmp_path)
