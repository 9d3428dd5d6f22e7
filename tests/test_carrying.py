"""Strategies carried out on a real server: tokens and dollars are those of a simulation of the same attempts."""

from __future__ import annotations

import asyncio
import datetime
import json
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.replaying import (
    MANNER,
    PROBLEMS,
    PROMPT,
    Attempt,
    Decided,
    Replaying,
    carrying,
    endpoint,
    question,
    scenario,
    server,
    verifying,
    write_profile,
)
from ttc_sim.base.errors import InputError
from ttc_sim.deploying.carrying import Carrying, Manner, Reply
from ttc_sim.deploying.decisions import Outcome
from ttc_sim.simulation.result import simulate

__all__ = ["server"]
HOLD_S = 0.5
COUNTS = ("prompt_tokens", "reasoning_tokens", "visible_tokens")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_profile(tmp_path_factory.mktemp("home"), PROBLEMS)


def simulated(folder: Path, arms: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a simulation of the arms' first makes of each problem."""
    planned = scenario(arms, path=str(folder))
    records = simulate(planned).records.unique(["problem", *COUNTS, "correct"])
    assert len(records) == len(PROBLEMS), "the same each time"
    return {row["problem"]: row for row in records.iter_rows(named=True)}


def live(
    server: Replaying, folder: Path, arms: dict[str, Any], problem: str, name: str, attempts: list[Attempt], **more: Any
) -> tuple[Outcome, Reply]:
    made = carrying(server, scenario(arms, path=str(folder)), MANNER, **more)
    first = next(iter(arms))
    asked = question(f"{name} {problem}", attempts, hold=HOLD_S if "early" in arms["arm"]["strategy"] else 0)
    return made.run(Decided(f"{name}-{problem}", first), asked)


STRATEGIES = {
    "vote": "MajorityVote(n=4)",
    "decided": "MajorityVote(n=4, stop_early=True)",
    "sure": "MajorityVote(n=4, stop_early=0.7)",
    "best": "BestOfN(n=4, auroc=1.0, verifier='v', verifier_tokens=2)",
    "free": "BestOfN(n=4, auroc=1.0)",
}


CASES = [(name, problem) for name in ("vote", "best", "free") for problem in PROBLEMS]


@pytest.mark.parametrize(("name", "problem"), [*CASES, ("decided", "b"), ("sure", "c")])
def test_tokens_and_dollars_are_those_of_the_simulation(
    server: Replaying, folder: Path, name: str, problem: str
) -> None:
    arms = {"arm": {"strategy": STRATEGIES[name]}}
    if name == "free":
        manner = Manner(judge=lambda asked, answer: float(answer.endswith("right")))
        made = carrying(server, scenario(arms, path=str(folder)), manner)
        outcome, reply = made.run(Decided(f"free-{problem}", "arm"), question(f"free {problem}", PROBLEMS[problem]))
    else:
        outcome, reply = live(server, folder, arms, problem, name, PROBLEMS[problem])
    expected = simulated(folder, arms)[problem]
    if name == "best":  # what a verifier says is as long as it is, not as long as it may be
        expected["visible_tokens"] -= 4
        expected["cost_usd"] -= 4 * 15e-6
    assert outcome.status == "answered"
    assert {one: getattr(outcome, one) for one in COUNTS} == {one: expected[one] for one in COUNTS}
    assert outcome.usd == pytest.approx(expected["cost_usd"], rel=1e-9)
    assert reply.text is not None
    # One call for all attempts, as the simulation bills them; and one for each that is verified.
    assert outcome.calls == (5 if name == "best" else 1)
    tied = problem == "a" and name not in ("best", "free")
    assert tied or (reply.text.split()[-1] == "right") == expected["correct"]


@pytest.mark.parametrize("name", ["decided", "sure"])
def test_what_each_event_counts_of_a_stopped_vote_is_what_it_took(server: Replaying, folder: Path, name: str) -> None:
    """With usage in each event nothing is estimated: to one event, which comes as others are on their way."""
    arms = {"arm": {"strategy": STRATEGIES[name]}}
    planned = scenario(arms, path=str(folder))
    asked = question(f"each {name}", PROBLEMS["b"], hold=HOLD_S, usage="each")
    outcome, reply = carrying(server, planned).run(Decided(f"each-{name}", "arm"), asked)
    expected = simulated(folder, arms)["b"]
    assert (reply.calls[0].status, reply.calls[0].counted) == ("stopped", "usage")
    for one in COUNTS:
        assert getattr(outcome, one) == pytest.approx(expected[one], abs=3)
    assert not outcome.estimated
    assert not any("estimated" in said for said in reply.notes)


def test_calls_of_their_own_vote_alike_and_pay_for_each_prompt(server: Replaying, folder: Path) -> None:
    planned = scenario({"arm": {"strategy": "MajorityVote(n=4, stop_early=True)"}}, path=str(folder))
    attempts: list[Attempt] = [*[(3, "it is wrong")] * 3, (2000, "right")]
    asked = question("singly", attempts, pause=0.005)
    outcome, reply = carrying(server, planned, takes_n=False).run(Decided("singly", "arm"), asked)
    assert (reply.text, reply.share, len(reply.samples)) == ("it is wrong", 1.0, 3)
    assert (outcome.calls, outcome.prompt_tokens) == (4, 4 * PROMPT)
    assert sorted(one.status for one in reply.calls) == ["answered"] * 3 + ["stopped"]
    made = outcome.reasoning_tokens + outcome.visible_tokens
    assert outcome.usd == pytest.approx(sum(one.usd for one in reply.calls))
    # The server stopped too, long before it was done.
    until = time.monotonic() + 5
    while len(lines := server.asked("singly")) < 4 and time.monotonic() < until:
        time.sleep(0.02)
    assert made <= sum(line["output_tokens"] for line in lines) < 1000


def test_a_whole_answer_counts_as_its_usage_says_though_that_comes_after_the_vote_is_decided(
    server: Replaying, folder: Path
) -> None:
    planned = scenario({"arm": {"strategy": "MajorityVote(n=3, stop_early=True)"}}, path=str(folder))
    attempts: list[Attempt] = [(20, "right"), (20, "right"), (900, "wrong")]
    asked = question("late", attempts, pause=0.005, hidden=True, late=1.5)
    _, reply = carrying(server, planned, takes_n=False).run(Decided("late", "arm"), asked)
    whole = [one for one in reply.calls if one.status == "answered"]
    assert [(one.reasoning_tokens, one.counted) for one in whole] == [(20, "usage")] * 2
    stopped = next(one for one in reply.calls if one.status == "stopped")
    assert stopped.ended_s - max(one.ended_s for one in whole) < 1.0, "it is not waited for with the others"


def test_thinking_that_is_not_sent_is_counted_as_fast_as_that_of_others(server: Replaying, folder: Path) -> None:
    planned = scenario({"arm": {"strategy": "MajorityVote(n=3, stop_early=True)"}}, path=str(folder))
    asked = question("hidden", [(20, "right"), (20, "right"), (900, "wrong")], pause=0.01, hidden=True)
    outcome, reply = carrying(server, planned, takes_n=False).run(Decided("hidden", "arm"), asked)
    stopped = next(one for one in reply.calls if one.status == "stopped")
    whole = [one for one in reply.calls if one.status == "answered"]
    assert [one.reasoning_tokens for one in whole] == [20, 20]
    rate = max(21 / (one.ended_s - one.sent_s) for one in whole)
    assert 0 < stopped.reasoning_tokens <= round(rate * (stopped.ended_s - stopped.sent_s)) + 1
    assert stopped.reasoning_tokens == pytest.approx(20, abs=12)
    assert outcome.estimated


CASCADES: dict[str, dict[str, Any]] = {
    "judged": {"arm": {"strategy": "Cascade(stages=['one', 'two'], tpr=1.0, fpr=0.0, judge='v')"}},
    "by itself": {"arm": {"strategy": "Cascade(stages=[Single(), MajorityVote(n=3)], tpr=1.0, fpr=0.0, judge='v')"}},
}


@pytest.mark.parametrize("name", CASCADES)
@pytest.mark.parametrize("right", [True, False])
def test_cascades_stop_where_the_judge_accepts(server: Replaying, tmp_path: Path, name: str, right: bool) -> None:
    first = (4, "it is right") if right else (4, "it is wrong")
    more = [(7, "so right"), (7, "so right"), (7, "so right")]
    problem: dict[str, list[Attempt]] = {"q": [first, *more]}
    home = write_profile(tmp_path, problem)
    arms = dict(CASCADES[name])
    if name == "judged":
        arms["one"] = {"strategy": "Single()", "sources": []}
        arms["two"] = {"strategy": "BestOfN(n=3, auroc=1.0, verifier='v')", "sources": []}
    planned = scenario(arms, path=str(home))
    made = carrying(server, planned)
    outcome, reply = made.run(Decided(f"{name}-{right}", "arm"), question(f"{name} {right}", problem["q"]))
    assert outcome.status == "answered"
    assert reply.text == ("it is right" if right else "so right")
    judged = [one for one in reply.calls if one.purpose == "judge"]
    assert [one.visible_tokens for one in judged] == [1]
    # A simulated request that drew this first attempt; the others' lengths are equal.
    records = simulate(planned).records.filter(pl.col("arm") == "arm")
    same = records.filter(pl.col("prompt_tokens") == outcome.prompt_tokens)
    assert len(same)
    figures = {(row["reasoning_tokens"], row["visible_tokens"], round(row["cost_usd"], 12)) for row in same.to_dicts()}
    assert (outcome.reasoning_tokens, outcome.visible_tokens, round(outcome.usd, 12)) in figures


def test_a_stage_without_an_answer_is_not_judged(server: Replaying, tmp_path: Path) -> None:
    home = write_profile(tmp_path, {"q": [(4, "it is right")]})
    strategy = "Cascade(stages=[Single(cap=5), Single()], tpr=1.0, fpr=0.0, judge='v')"
    made = carrying(server, scenario({"arm": {"strategy": strategy}}, path=str(home)))
    outcome, reply = made.run(Decided("cut", "arm"), question("cut off", [(4, "it is right")]))
    assert (reply.text, reply.cut_off, outcome.calls) == ("it is right", False, 2)
    assert [one["limit"] for one in server.asked("cut off")] == [5, None]


def test_votes_of_a_stage_may_be_its_judge(server: Replaying, tmp_path: Path) -> None:
    home = write_profile(tmp_path, {"q": [(4, "it is right")]})
    strategy = "Cascade(stages=[MajorityVote(n=3), Single()], tpr=1.0, fpr=0.0)"
    planned = scenario({"arm": {"strategy": strategy}}, path=str(home))
    made = carrying(server, planned, Manner(extract=lambda text: text, accept=0.6))
    agree = made.run(Decided("agree", "arm"), question("agree", [(1, "x"), (1, "y"), (2, "x"), (3, "z")]))[1]
    differ = made.run(Decided("differ", "arm"), question("differ", [(1, "x"), (1, "y"), (2, "w"), (3, "z")]))[1]
    assert (agree.text, len(agree.calls)) == ("x", 1)
    assert agree.share == pytest.approx(2 / 3)
    assert (differ.text, differ.share, len(differ.calls)) == ("z", None, 2)


# ----------------------------------------------------------------------------------------------------- forced answers


@pytest.mark.parametrize("cap", [3, 8, 30])
@pytest.mark.parametrize("usage", ["end", "never"])
def test_forced_answers_take_what_the_simulation_says_and_the_prompt_again(
    server: Replaying, tmp_path: Path, cap: int, usage: str
) -> None:
    attempt = (7, "it is right")
    home = write_profile(tmp_path, {"q": [attempt]})
    planned = scenario({"arm": {"strategy": f"Single(cap={cap}, on_cap='force_answer')"}}, path=str(home))
    asked = question(f"forced {cap} {usage}", [attempt], usage=usage)
    outcome, reply = carrying(server, planned, takes_prefix=True).run(Decided(f"forced-{cap}", "arm"), asked)
    expected = simulate(planned).records.row(0, named=True)
    assert (reply.text, reply.cut_off) == ("it is right", False)
    assert reply.samples[0].forced == (cap == 3)
    for one in ("reasoning_tokens", "visible_tokens"):
        assert getattr(outcome, one) == expected[one], one
    again = [one for one in reply.calls if one.purpose == "continuation"]
    assert len(again) == (cap < 10)
    assert outcome.prompt_tokens - sum(one.prompt_tokens for one in again) == expected["prompt_tokens"]
    if again:
        sent = server.asked(f"forced {cap} {usage}")[1]["prefix"]
        assert sent == (
            "<think>\nhm hm hm\n</think>\n\n" if cap == 3 else "<think>\nhm hm hm hm hm hm hm\n</think>\n\nit"
        )


def test_votes_of_forced_answers_share_their_first_call(server: Replaying, tmp_path: Path) -> None:
    attempts: list[Attempt] = [(7, "it is right")] * 3
    home = write_profile(tmp_path, {"q": attempts})
    planned = scenario({"arm": {"strategy": "MajorityVote(n=3, cap=4, on_cap='force_answer')"}}, path=str(home))
    asked = question("forced votes", attempts)
    outcome, reply = carrying(server, planned, takes_prefix=True).run(Decided("votes", "arm"), asked)
    assert [one.purpose for one in reply.calls] == ["attempt", *["continuation"] * 3]
    assert (outcome.reasoning_tokens, outcome.visible_tokens, reply.share) == (12, 9, 1.0)


@pytest.mark.parametrize(
    ("strategy", "reasoning", "waits"),
    [
        ("BudgetForcing(min_tokens=10, extensions=3)", 5 + 3 + 3, 2),
        ("BudgetForcing(min_tokens=10, extensions=1)", 5 + 3, 1),
        ("BudgetForcing(min_tokens=4, extensions=3)", 5, 0),
        ("BudgetForcing(min_tokens=7, cap=7, extensions=3)", 7, 1),
        ("BudgetForcing(cap=3)", 3, 0),
    ],
)
def test_thinking_goes_on_until_there_is_enough(
    server: Replaying, tmp_path: Path, strategy: str, reasoning: int, waits: int
) -> None:
    home = write_profile(tmp_path, {"q": [(5, "it is right")]})
    made = carrying(server, scenario({"arm": {"strategy": strategy}}, path=str(home)), takes_prefix=True)
    asked = json.dumps(
        {"name": strategy, "prompt_tokens": PROMPT, "answers": [{"think": 5, "say": "it is right", "again": 3}]}
    )
    outcome, reply = made.run(Decided(strategy, "arm"), asked)
    assert (outcome.reasoning_tokens, outcome.visible_tokens) == (reasoning, 3)
    assert (reply.text, reply.samples[0].extended) == ("it is right", waits)
    assert reply.samples[0].tokens == reasoning + 3
    assert reply.samples[0].forced == ("cap" in strategy)
    assert reply.samples[0].thinking.count("Wait") == waits


# --------------------------------------------------------------------------------------------------- who sends what


def clients(server: Replaying) -> dict[str, Any]:
    openai = pytest.importorskip("openai")
    given = {"base_url": server.url, "api_key": "sk-x"}
    return {"openai": openai.OpenAI(**given), "asynchronous": openai.AsyncOpenAI(**given)}


@pytest.mark.parametrize("kind", ["openai", "asynchronous"])
def test_a_client_of_ones_own_gives_the_same_figures(server: Replaying, folder: Path, kind: str) -> None:
    client = clients(server)[kind]
    arms = {"arm": {"strategy": "BestOfN(n=4, auroc=1.0, verifier='v')"}}
    made = carrying(server, scenario(arms, path=str(folder)), body={"top_k": 3})
    asked = question(f"client {kind}", PROBLEMS["a"])
    for given in (client, {"d": client}):
        outcome, reply = made.run(Decided(kind, "arm"), asked, given)
        expected = simulated(folder, arms)["a"]
        assert {one: getattr(outcome, one) for one in COUNTS} == {one: expected[one] for one in COUNTS}
        assert outcome.usd == pytest.approx(expected["cost_usd"])
        assert reply.text is not None
        assert reply.text.endswith("right")
    assert all("top_k" in line["keys"] for line in server.asked(f"client {kind}"))
    stopping = carrying(server, scenario({"arm": {"strategy": "MajorityVote(n=4, stop_early=True)"}}, path=str(folder)))
    outcome, reply = stopping.run(Decided(kind, "arm"), question(f"stopped {kind}", PROBLEMS["b"], pause=0.02), client)
    assert [one.status for one in reply.calls] == ["stopped"]
    until = time.monotonic() + 5
    while not (lines := server.asked(f"stopped {kind}")) and time.monotonic() < until:
        time.sleep(0.02)
    assert lines[0]["output_tokens"] <= outcome.reasoning_tokens + outcome.visible_tokens + 4


def test_from_loops_and_threads_alike(server: Replaying, folder: Path) -> None:
    arms = {"arm": {"strategy": "MajorityVote(n=4)"}}
    made = carrying(server, scenario(arms, path=str(folder)))

    async def several() -> list[tuple[Outcome, Reply]]:
        waits = made.run(Decided("blocking", "arm"), question("blocking", PROBLEMS["a"]))  # as in a notebook
        both = [made.carry_out(Decided(f"l{k}", "arm"), question(f"l{k}", PROBLEMS["a"])) for k in range(5)]
        found = [waits, *await asyncio.gather(*both)]
        await made.aclose()
        made.close()
        return found

    found = asyncio.run(several())

    def one(k: int) -> None:
        found.append(made.run(Decided(f"t{k}", "arm"), question(f"t{k}", PROBLEMS["a"])))

    threads = [threading.Thread(target=one, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(outcome.usd, outcome.calls, reply.share) for outcome, reply in found}) == 1
    assert len(found) == 14


def test_load_is_told_of_calls_and_of_sequences_of_a_pool(server: Replaying, folder: Path) -> None:
    step = {"base_s": 0.01, "per_prefill_token_s": 1e-5, "per_sequence_s": 1e-5, "per_kv_token_s": 0}
    pool = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 4.0, "step_time": step}
    planned = scenario({"arm": {"strategy": "BestOfN(n=4, auroc=1.0, verifier='v')"}}, {"d": pool}, str(folder))
    sent: list[str] = []
    over: list[str] = []
    made = Carrying(
        planned, {name: endpoint(server) for name in ("d", "v")}, MANNER, sent=sent.append, ended=over.append
    )
    outcome, reply = made.run(Decided("load", "arm"), question("load", PROBLEMS["a"]))
    assert sorted(sent) == sorted(over) == ["d"] * 4 + ["v"] * 4
    # What runs on the pool is paid by its time: dollars are the verifier's.
    assert outcome.usd == pytest.approx(sum(one.usd for one in reply.calls if one.deployment == "v")) != 0
    assert next(one.usd for one in reply.calls if one.deployment == "d") == 0.0


# ------------------------------------------------------------------------------------------------ refused at start


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        ("Single(cap=5, on_cap='force_answer')", "takes_prefix"),
        ("MajorityVote(n=2, of=BudgetForcing(cap=5))", "takes_prefix"),
        ("Cascade(stages=[BudgetForcing(min_tokens=9), Single()], tpr=1, fpr=0, judge='v')", "takes_prefix"),
        ("BestOfN(n=2, auroc=0.9)", "verifier"),
        ("Cascade(stages=[Single(), Single()], tpr=1, fpr=0)", "judge"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_before_the_first_request(
    server: Replaying, folder: Path, strategy: str, says: str
) -> None:
    with pytest.raises(InputError, match=says) as error:
        carrying(server, scenario({"arm": {"strategy": strategy}}, path=str(folder)))
    assert "arms.arm.strategy" in str(error.value)
    carrying(server, scenario({"arm": {"strategy": "BudgetForcing()"}}, path=str(folder)))


def test_what_is_missing_is_named(server: Replaying, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = scenario({"arm": {"strategy": "BestOfN(n=2, auroc=1, verifier='v')"}}, path=str(folder))
    with pytest.raises(InputError, match="v: got 'nothing'; expected an url and a model, as arm arm needs it"):
        Carrying(planned, {"d": endpoint(server)})
    with pytest.raises(InputError, match=r"d\.body: got 'max_tokens'"):
        Carrying(planned, {name: endpoint(server, body={"max_tokens": 9}) for name in "dv"})
    with pytest.raises(InputError, match=r"d\.body: got .* what JSON can say"):
        Carrying(planned, {name: endpoint(server, body={"day": datetime.date(2026, 1, 1)}) for name in "dv"})
    with pytest.raises(InputError, match="no tools"):
        Carrying(planned, {name: endpoint(server, body={"tools": []}) for name in "dv"})
    for body in ({"seed": 0}, {"temperature": 0.0}):
        with pytest.raises(InputError, match="attempts would be alike"):
            Carrying(planned, {name: endpoint(server, body=body) for name in "dv"})
        Carrying(planned, {"d": endpoint(server), "v": endpoint(server, body=body)})
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    made = carrying(server, planned, key_env="NO_SUCH_KEY")
    for call, says in (
        ((Decided("x", "arm"), "hello"), "NO_SUCH_KEY"),
        ((Decided("x", "other"), "hello"), "arm: got 'other'"),
        ((Decided("x", "arm", ("other",)), "hello"), "arm: got 'other'"),
        ((Decided("x", "arm"), "hello", object()), "client"),
        ((Decided("x", "arm"), []), "messages"),
        ((Decided("x", "arm"), [{"role": "user", "content": b"hello"}]), "messages"),
        ((Decided("x", "arm"), "hello", {"w": None}), "client"),
    ):
        with pytest.raises(InputError, match=says):
            made.run(*call)
    with pytest.raises(InputError, match="seconds above 0"):
        Manner(total_s=0)
    with pytest.raises(InputError, match="a function"):
        Manner(verifying="yes?")  # type: ignore[arg-type]
    assert verifying(question("q"), "right")
