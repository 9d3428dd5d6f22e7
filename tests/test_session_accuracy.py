"""Accuracy of sessions: by the last answer, from measured runs of agents, and unknown without them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.measured.agents import (
    build_agent_profile,
    load_agent_profile,
    save_agent_profile,
    summarize_agent_profile,
    turn_ratio,
)
from ttc_sim.policies import Always
from ttc_sim.scenario import Arrivals, Scenario, scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import summarize
from ttc_sim.workload import Traffic

CARD: dict[str, object] = {
    "model": "m",
    "origin": "made up",
    "licence": "none",
    "date": "2026-11-26",
    "tokenizer": "none",
    "limits": "none",
}


class Chats(Arrivals):
    """Sessions of equally many turns, one every so many seconds, whose prompts grow by what was answered and a question."""

    process: Literal["test_chats"] = "test_chats"
    carries_lengths = True
    turns: int = 3
    every_s: float = 10.0
    think_s: float = 1.0
    prompt: int = 100
    output: int = 20
    asked: int = 30
    alone: int = 0  # how many of the first requests are of no session

    def generate(self, requests: int, seed: int, run: str, folder: Path, where: str) -> object:
        request = np.arange(requests)
        session, turn = request // self.turns, request % self.turns
        begins = turn == 0
        prompt = self.prompt + turn * (self.output + self.asked)
        return Traffic(
            arrival_s=np.where(begins, session * self.every_s, np.nan),
            client=np.zeros(requests, dtype=np.int64),
            prompt_tokens=prompt,
            reasoning_tokens=None,
            visible_tokens=np.full(requests, self.output),
            prefix_id=session,
            rate_per_s=self.turns / self.every_s,
            after=np.where(begins, -1, request - 1),
            think_s=np.where(begins, 0.0, self.think_s),
            session=np.where(request < self.alone, -1, session),
            turn=turn,
            reused_tokens=np.where(begins, 0, prompt - self.asked),
            ends=(turn == self.turns - 1) & (request >= self.alone),
        )


ttc.register(Chats)


def api(**changed: Any) -> dict[str, Any]:
    return {
        "kind": "api",
        "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0},
        "first_token": {"median_s": 0.5},
        "per_token": {"median_s": 0.01},
        **changed,
    }


def scenario(folder: Path, agents: dict[str, str | None], **changed: Any) -> Scenario:
    raw: dict[str, Any] = {
        "name": "sessions",
        "replications": 4,
        "policy": f"Always({next(iter(agents))!r})",
        "workload": {"arrivals": {"process": "test_chats", **changed.pop("arrivals", {})}, "requests": 300},
        "deployments": {name: api() for name in agents},
        "arms": {
            name: {"deployment": name, **({} if profile is None else {"profile": profile})}
            for name, profile in agents.items()
        },
    }
    for path, value in changed.items():
        *way, last = path.split("__")
        at = raw
        for key in way:
            at = at[key]
        at[last] = value
    return scenario_from_dict(raw, str(folder / "scenario.yaml"))


def agent(folder: Path, name: str, right: dict[str, list[int]], **columns: Any) -> str:
    """An agent profile: by instance, whether each of its runs was right."""
    rows = [{"instance": one, "resolved": ok} for one, found in right.items() for ok in found]
    table = pl.DataFrame(rows).with_columns(**{key: pl.Series(values) for key, values in columns.items()})
    card = {**CARD, **({"cluster": columns.pop("cluster")} if "cluster" in columns else {})}
    save_agent_profile(build_agent_profile(table, "table", name, card)[0], folder / "profiles" / name)
    return name


def test_what_agents_always_or_never_solve_is_what_sessions_come_to(tmp_path: Path) -> None:
    good = agent(tmp_path, "good", {f"i{k}": [1] for k in range(10)}, usd=[0.5] * 10)
    bad = agent(tmp_path, "bad", {f"i{k}": [0] for k in range(10)})
    of = scenario(tmp_path, {"good": good, "bad": bad})
    right = ttc.simulate(of, "Always('good')").summary()
    assert right.accuracy is not None
    assert right.accuracy.value == 1.0
    assert right.accuracy.low < 0.85  # ten instances do not make it sure
    assert right.session_accuracy is not None
    assert (right.session_accuracy.sessions, right.session_accuracy.instances) == (100, 10)
    assert right.session_accuracy.measured_usd is not None
    assert right.session_accuracy.measured_usd.value == pytest.approx(0.5)
    wrong = ttc.simulate(of, "Always('bad')").summary()
    assert wrong.accuracy is not None
    assert wrong.accuracy.value == 0.0
    assert wrong.session_accuracy is not None
    assert wrong.session_accuracy.measured_usd is None


def test_the_last_answer_counts_and_only_it(tmp_path: Path) -> None:
    good = agent(tmp_path, "good", {f"i{k}": [1] for k in range(10)})
    bad = agent(tmp_path, "bad", {f"i{k}": [0] for k in range(10)})
    of = scenario(tmp_path, {"good": good, "bad": bad})
    for arms, value in (("'bad', 'good'", 1.0), ("'good', 'bad'", 0.0)):
        result = ttc.simulate(of, f"Banded(score='prompt_tokens', edges=[200], arms=[{arms}])")
        summary = result.summary()
        assert summary.accuracy is not None
        assert summary.accuracy.value == value
        assert any("answered by several arms" in note for note in summary.notes)
        assert summary.session_accuracy is not None
        assert summary.session_accuracy.several_arms_share == 1.0
        last = result.records.filter(pl.col("request") % 3 == 2)
        assert last["correct"].to_list() == [value] * 400
        assert result.records.filter(pl.col("request") % 3 < 2)["correct"].null_count() == 800
        assert summary.per_arm["good" if value else "bad"].accuracy is not None
        assert summary.per_arm["bad" if value else "good"].accuracy is None  # gave no last answer


def test_without_agent_profiles_accuracy_is_unknown_and_said_to_be(tmp_path: Path) -> None:
    good = agent(tmp_path, "good", {"a": [1], "b": [0]})
    nothing = ttc.simulate(scenario(tmp_path, {"plain": None})).summary()
    assert nothing.accuracy is None
    assert any("no arm has an agent profile" in note for note in nothing.notes)
    both = scenario(tmp_path, {"good": good, "plain": None})
    half = ttc.simulate(both, "Always('plain')").summary()
    assert half.accuracy is None
    assert half.session_accuracy is None
    assert any("arm plain gave some of the last answers" in note for note in half.notes)
    assert ttc.simulate(both, "Always('good')").summary().accuracy is not None
    mixed = ttc.simulate(scenario(tmp_path, {"good": good}, arrivals={"alone": 3})).summary()
    assert mixed.accuracy is None
    assert any("turns of no session" in note for note in mixed.notes)
    written = json.loads(json.dumps(half.as_json()))
    assert written["accuracy"] is None
    assert "session_accuracy" not in written


def test_a_session_is_at_one_instance_whatever_arm_it_is_sent_to(tmp_path: Path) -> None:
    """Two agents that solve opposite instances: on the same draws, one is right exactly where the other is wrong."""
    odd = agent(tmp_path, "odd", {f"i{k}": [k % 2] for k in range(7)})
    even = agent(tmp_path, "even", {f"i{k}": [1 - k % 2] for k in range(7)})
    of = scenario(tmp_path, {"odd": odd, "even": even})
    one, other = (ttc.simulate(of, f"Always('{name}')").records["correct"].drop_nulls() for name in ("odd", "even"))
    assert (one + other).to_list() == [1.0] * 400
    assert 0.3 < np.mean(one.to_list()) < 0.6  # 3 of 7


def test_an_agent_with_several_runs_is_right_as_often_as_they_were(tmp_path: Path) -> None:
    runs = {"a": [1, 0, 0, 0], "b": [1, 1, 1, 0], "c": [0], "d": [1, 1]}
    of = scenario(tmp_path, {"agent": agent(tmp_path, "agent", runs)}, workload__requests=12_000)
    summary = ttc.simulate(of).summary()
    expected = np.mean([np.mean(ok) for ok in runs.values()])
    assert summary.accuracy is not None
    assert summary.accuracy.value == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 16_000))
    # Four instances say little, however many sessions are at them.
    assert summary.accuracy.high - summary.accuracy.low > 0.4


@pytest.mark.parametrize("by", ["instance", "group"])
def test_intervals_cover_other_instances(tmp_path: Path, by: str) -> None:
    """Instances (or whole groups of them, all alike) are drawn from a population whose accuracy is known."""
    rng, covered, count, size = np.random.default_rng(7), 0, 100, 5 if by == "group" else 1
    name = agent(tmp_path, "a", {str(k): [1] for k in range(100)})
    model = load_model(scenario(tmp_path, {"a": name}, arrivals={"turns": 1}))
    assert model.instances is not None
    for k in range(count):
        draws = [draw(model, 3 * k + run, requests=300) for run in range(3)]
        runs = replace(model.instances.runs[name], correct=np.repeat(rng.random(100 // size) < 0.6, size))
        instances = replace(model.instances, cluster=np.arange(100) // size, runs={name: runs})
        other = replace(model, instances=instances, arms=(replace(model.arms[0], runs=runs),))
        accuracy = summarize(other, [run_once(other, Always("a"), one) for one in draws], parts=False).accuracy
        assert accuracy is not None
        covered += accuracy.low <= 0.6 <= accuracy.high
    assert covered >= 0.9 * count


def test_sessions_that_lose_a_turn_are_not_right(tmp_path: Path) -> None:
    """A turn of 40 tokens takes longer than the timeout where the first token is late; a cap cuts all answers short."""
    good = agent(tmp_path, "good", {f"i{k}": [1] for k in range(10)})
    slow = scenario(
        tmp_path,
        {"good": good},
        deployments__good=api(first_token={"median_s": 0.5, "p95_s": 3.0}, timeout_s=2.0),
    )
    result = ttc.simulate(slow)
    lost = result.records.with_columns(session=pl.col("request") // 3, out=pl.col("status") != "completed")
    by_session = lost.group_by("run", "session").agg(pl.col("out").any())["out"]
    accuracy = result.summary().accuracy
    assert accuracy is not None
    assert 0.05 < float(by_session.mean()) < 0.95  # type: ignore[arg-type]
    assert accuracy.value == pytest.approx(1 - float(by_session.mean()))  # type: ignore[arg-type]
    assert any("had a turn that was not answered" in note for note in result.summary().notes)
    cut = ttc.simulate(
        scenario(
            tmp_path, {"good": good}, arms__good={"deployment": "good", "profile": good, "strategy": "Single(cap=5)"}
        )
    )
    assert cut.summary().accuracy is not None
    assert cut.summary().accuracy.value == 0.0  # type: ignore[union-attr]


def test_sessions_that_the_run_ends_before_count_in_nothing(tmp_path: Path) -> None:
    good = agent(tmp_path, "good", {f"i{k}": [1] for k in range(10)})
    of = scenario(tmp_path, {"good": good}, workload__requests=301)
    result = ttc.simulate(of)
    found = result.summary().session_accuracy
    assert found is not None
    assert found.sessions == 100
    assert found.unfinished_share == pytest.approx(1 / 101)
    assert any("were not over when the run ended" in note for note in result.summary().notes)
    alone = ttc.simulate(scenario(tmp_path, {"good": good}, workload__requests=2)).summary()
    assert alone.accuracy is None
    assert any("no session was over" in note for note in alone.notes)


def test_sessions_that_a_budget_ends_are_over_and_not_right(tmp_path: Path) -> None:
    """Prompts of 100, 150 and 200 tokens with answers of 20: 120 tokens are spent after a turn, 290 after two."""
    good = agent(tmp_path, "good", {f"i{k}": [1] for k in range(10)})
    of = scenario(tmp_path, {"good": good})
    for tokens, value in ((200, 0.0), (300, 1.0)):
        summary = ttc.simulate(of, f"SessionBudget(policy=Always('good'), tokens={tokens}, at_end='stop')").summary()
        assert summary.accuracy is not None
        assert summary.accuracy.value == value
        assert summary.session_accuracy is not None
        assert summary.session_accuracy.unfinished_share == 0.0
        assert summary.session_accuracy.lost_share == 1.0 - value


def test_a_session_of_one_turn_and_a_single_session(tmp_path: Path) -> None:
    good = agent(tmp_path, "good", {"a": [1]})
    for turns, requests in ((1, 1), (1, 5), (3, 3)):
        of = scenario(tmp_path, {"good": good}, arrivals={"turns": turns}, workload__requests=requests, replications=1)
        accuracy = ttc.simulate(of).summary().accuracy
        assert accuracy is not None
        assert (accuracy.value, accuracy.high) == (1.0, 1.0)
        assert accuracy.low < 0.5


def test_paired_differences_are_by_session(tmp_path: Path) -> None:
    """An agent beside one that solves the same and a tenth more: the difference is surer than either."""
    base = {f"i{k:03}": [int(k % 2)] for k in range(200)}
    more = {**base, **{f"i{k:03}": [1] for k in range(0, 40, 2)}}
    a, b = agent(tmp_path, "a", base), agent(tmp_path, "b", more)
    of = scenario(tmp_path, {"a": a, "b": b}, workload__requests=3000, policy="Always('a')")
    found = ttc.what_if(of, {"other": {"policy": "Always('b')"}})
    difference = found.variations[0].kept.compared["accuracy"].difference
    assert difference.value == pytest.approx(0.1, abs=0.03)
    assert difference.low > 0
    assert difference.high - difference.low < 0.1
    same = ttc.what_if(of, {"dearer": {"deployments.a.price.input_usd_per_mtok": 2.0}})
    assert same.variations[0].kept.compared["accuracy"].difference.high == 0.0


def test_instances_are_those_that_all_agents_were_run_at(tmp_path: Path) -> None:
    a = agent(tmp_path, "a", {"x": [1], "y": [1]})
    b = agent(tmp_path, "b", {"y": [0], "z": [1]})
    of = scenario(tmp_path, {"a": a, "b": b})
    model = load_model(of)
    assert model.instances is not None
    assert model.instances.instance.tolist() == ["y"]
    assert "2 of 3 instances left out: not every agent was run at them" in model.notes
    summary = ttc.simulate(of, "Always('b')").summary()
    assert summary.accuracy is not None
    assert summary.accuracy.value == 0.0
    c = agent(tmp_path, "c", {"z": [1]})
    with pytest.raises(InputError, match="instances that all of a and c were run at"):
        load_model(scenario(tmp_path, {"a": a, "c": c}))


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    good = agent(tmp_path, "good", {"a": [1]})
    with pytest.raises(InputError, match=r"arms\.good\.profile.*arrivals of sessions"):
        scenario(
            tmp_path,
            {"good": good},
            workload__arrivals={"process": "poisson", "rate_per_s": 1.0},
            workload__lengths={"prompt_tokens": 10, "output_tokens": 10},
        )
    with pytest.raises(InputError, match=r"agent\.yaml"):
        load_model(scenario(tmp_path, {"good": "reasoning-gym/deepseek-r1"}))
    with pytest.raises(InputError, match=r"nothing is known of other attempts"):
        load_model(
            scenario(
                tmp_path,
                {"good": good},
                arms__good={"deployment": "good", "profile": good, "strategy": "MajorityVote(n=3)"},
            )
        )
    table = pl.DataFrame({"instance": ["a", "b"], "resolved": [1, None]})
    with pytest.raises(InputError, match="row 2"):
        build_agent_profile(table, "runs.csv", "x", CARD)
    with pytest.raises(InputError, match="column for correct"):
        build_agent_profile(table.drop("resolved"), "runs.csv", "x", CARD)
    twice = pl.DataFrame({"instance": ["a", "a"], "run": [1, 1], "resolved": [1, 0]})
    with pytest.raises(InputError, match="each run of an instance once"):
        build_agent_profile(twice, "runs.csv", "x", CARD)
    with pytest.raises(InputError, match=r"cost, row 1"):
        build_agent_profile(pl.DataFrame({"instance": ["a"], "resolved": [1], "cost": [-1.0]}), "runs.csv", "x", CARD)
    with pytest.raises(InputError, match="cluster: group"):
        build_agent_profile(table.with_columns(resolved=1), "runs.csv", "x", {**CARD, "cluster": "group"})


def test_the_same_bytes_and_the_same_sessions_whatever_else_is_drawn(tmp_path: Path) -> None:
    runs = agent(tmp_path, "runs", {f"i{k}": [1, 0] for k in range(10)})
    of = scenario(tmp_path, {"runs": runs})
    first, again = ttc.simulate(of).records, ttc.simulate(of).records
    assert first.equals(again)
    longer = ttc.simulate(scenario(tmp_path, {"runs": runs}, workload__requests=600), replications=1).records
    assert longer["correct"][:300].to_list() == first["correct"][:300].to_list()
    draws = draw(load_model(of), 0)
    kept = draws.taken(np.arange(0, 299))  # the last session loses its end
    assert kept.traffic.ends is not None
    assert kept.traffic.ends.sum() == 99


def test_a_table_of_runs_becomes_a_profile_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs.csv").write_text(
        "model,instance_id,resolved,cost,api_calls,output_tokens\n"
        "big,a,true,0.5,10,1000\nbig,b,false,1.5,30,3000\nsmall,a,true,0.1,20,4000\nsmall,b,,0.2,20,4000\n"
    )
    about = ["--origin", "x", "--licence", "x", "--date", "2026-11-26", "--tokenizer", "none"]
    run = CliRunner()
    refused = run.invoke(app, ["profile", "build", "runs.csv", "out", "--runs", "--by", "model", *about])
    assert refused.exit_code == 1
    assert not Path("out").exists()
    Path("runs.csv").write_text(Path("runs.csv").read_text().replace("b,,", "b,false,"))
    built = run.invoke(app, ["profile", "build", "runs.csv", "out", "--runs", "--by", "model", *about])
    assert built.exit_code == 0, built.output
    assert "2 instances, 2 runs; accuracy 50.0%" in built.output
    big, small = load_agent_profile("out/big"), load_agent_profile("out/small")
    assert summarize_agent_profile(big).usd == pytest.approx(1.0)
    assert big.runs["turns"].to_list() == [10, 30]
    ratio = turn_ratio(small, big)
    assert ratio.value == pytest.approx(2.0)
    assert ratio.instances == 2
    shown = run.invoke(app, ["profile", "show", "out/small", "--than", "out/big", "--json", "small.json"])
    assert shown.exit_code == 0, shown.output
    assert "output tokens a turn: 2 times those of out/big" in shown.output
    assert json.loads(Path("small.json").read_text())["turn_tokens"]["value"] == pytest.approx(2.0)
    refused = run.invoke(
        app, ["profile", "build", "runs.csv", "o2", "--runs", "--model", "m", "--answer-column", "x", *about]
    )
    assert refused.exit_code == 1


def test_of_a_source_of_sessions_beside_others_it_is_known(tmp_path: Path) -> None:
    good = agent(tmp_path, "good", {f"i{k}": [1] for k in range(10)})
    starts = {"process": "poisson", "rate_per_s": 0.01}
    sources = {
        "agents": {"arrivals": {"process": "sessions", "sessions": "coding-agent", "starts": starts}},
        "chat": {
            "arrivals": {"process": "poisson", "rate_per_s": 0.02},
            "lengths": {"prompt_tokens": 500, "output_tokens": 100},
        },
    }
    of = scenario(tmp_path, {"good": good}, workload={"duration": "1 h", "sources": sources}, replications=2)
    summary = ttc.simulate(of).summary()
    assert summary.accuracy is None
    assert summary.per_source["chat"].accuracy is None
    known = summary.per_source["agents"].accuracy
    assert known is not None
    assert known.value == 1.0
    assert any("turns of no session" in note for note in summary.notes)
    assert any("were not over when the run ended" in note for note in summary.notes)
