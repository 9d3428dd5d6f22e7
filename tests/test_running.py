"""A plan run on live requests: routed, carried out and logged as one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ttc_sim as ttc
from tests.replaying import (
    MANNER,
    PROBLEMS,
    Replaying,
    endpoint,
    question,
    scenario,
    server,
    write_plan,
    write_profile,
)

__all__ = ["server"]


def test_a_request_is_routed_carried_out_and_logged(server: Replaying, tmp_path: Path) -> None:
    arms = {"arm": {"strategy": "MajorityVote(n=4)", "fallback": "other"}, "other": {"deployment": "v"}}
    planned = scenario(arms, path=str(write_profile(tmp_path, PROBLEMS)))
    plan = ttc.load_plan(write_plan(tmp_path / "plan.yaml", planned))
    at = {name: endpoint(server) for name in planned.deployments}
    runtime = plan.runtime(endpoints=at, log=tmp_path / "log.jsonl", manner=MANNER)
    outcome, reply = runtime.run(question("run", PROBLEMS["b"]))
    other, _ = runtime.run(question("run again", PROBLEMS["b"], first=[400] * 5))
    assert (outcome.status, outcome.arm, reply.text) == ("answered", "arm", "wrong")
    assert (other.status, other.arm) == ("answered", "other")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["request"] for line in lines] == [outcome.request] * 2 + [other.request] * 2
    assert lines[1] == outcome.as_line()
    assert sum(runtime.load.in_progress.values()) == 0
    assert runtime.counts["to arm"] == 2
    runtime.run("a short name for it", messages=[{"role": "user", "content": question("whole", PROBLEMS["a"])}])
    assert len(server.asked("whole")) == 1
    with pytest.raises(ttc.InputError, match="d: got 'nothing'; expected an url and a model"):
        plan.runtime().run("hello")
    with pytest.raises(ttc.InputError, match="manner"):
        plan.runtime(endpoints=at, manner="quickly").run("hello")
