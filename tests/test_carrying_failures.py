"""Servers that answer nonsense, half a stream, too late or never: a counted failure, the next arm, and never a hang."""

from __future__ import annotations

import _thread
import asyncio
import doctest
import json
import signal
import socket
import threading
import time
from typing import Any

import pytest

from tests.replaying import (
    MANNER,
    PROMPT,
    Attempt,
    Decided,
    Replaying,
    api,
    carrying,
    endpoint,
    question,
    scenario,
    server,
)
from ttc_sim.deploying.carrying import Carrying, Manner, Reply, final_answer
from ttc_sim.deploying.carrying import live as one_live
from ttc_sim.deploying.carrying import manner as manner_module
from ttc_sim.deploying.decisions import Outcome

__all__ = ["server"]
ONCE = {"retries": 0}
RIGHT: list[Attempt] = [(4, "it is right")]
IN, THOUGHT, OUT = 3e-6, 11e-6, 15e-6
WHOLE_USD = PROMPT * IN + 4 * THOUGHT + 3 * OUT


def carried(
    server: Replaying,
    asked: str,
    *,
    strategy: str = "Single()",
    fallback: bool = False,
    manner: Manner = MANNER,
    client: Any = None,
    more: dict[str, Any] | None = None,
    **item: Any,
) -> tuple[Outcome, Reply]:
    """By an arm on ``d``, whose fallback is one on ``v``."""
    arms = {"arm": {"strategy": strategy}, "other": {"deployment": "v"}}
    deployments = {"d": api(**{"retry": ONCE, **item}), "v": api(retry=ONCE)}
    made = carrying(server, scenario(arms, deployments), manner, **(more or {}))
    return made.run(Decided(asked, "arm", ("other",) if fallback else ()), asked, client)


TROUBLES: dict[Any, tuple[str, str]] = {
    "html": ("failed", "instead of a stream of chat completion chunks"),
    "nothing": ("failed", "the connection broke off"),
    "hang": ("timed_out", "not a sign of an answer within"),
    "silent": ("timed_out", "no whole answer within"),
    "nonsense": ("failed", "instead of a stream of chat completion chunks"),
    "empty": ("failed", "it answered nothing"),
    "endless": ("failed", "far beyond the limit"),
    "cut": ("failed", ""),
    500: ("failed", "status 500"),
    400: ("failed", "status 400"),
    401: ("failed", "key_env names the variable with the key"),
    302: ("failed", "redirects to '127.0.0.1:9', which is not followed: give that as its url"),
    429: ("rejected", "status 429"),
    503: ("rejected", "status 503"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_whatever_a_server_does_is_one_counted_failure_and_the_next_arm(server: Replaying, trouble: Any) -> None:
    status, says = TROUBLES[trouble]
    begun = time.monotonic()
    for fallback in (False, True):
        asked = question(f"{trouble} {fallback}", RIGHT, first=[trouble])
        outcome, reply = carried(
            server, asked, strategy="Single(cap=50)", fallback=fallback, timeout_s=3 if trouble == "endless" else 0.8
        )
        first = reply.calls[0]
        assert (first.status, first.deployment, first.arm) == (status, "d", "arm")
        assert first.reason is not None
        assert says in first.reason
        assert "--" not in first.reason, "no options of a command that is not run"
        assert any("arm did not answer" in said for said in reply.notes)
        expected = ("answered", "other", "it is right", 2) if fallback else (status, "arm", None, 1)
        assert (outcome.status, outcome.arm, reply.text, outcome.calls) == expected
        assert outcome.usd == pytest.approx(first.usd + (WHOLE_USD if fallback else 0.0))
        if isinstance(trouble, int) or trouble in ("html", "nothing"):
            assert first.usd == 0.0, "nothing was generated"
        json.dumps(outcome.as_line(), allow_nan=False)
    assert time.monotonic() - begun < 15


def test_what_broke_off_half_way_is_billed_as_far_as_it_came(server: Replaying) -> None:
    asked = question("half", [(6, "it is right at last")], first=["cut"])
    outcome, reply = carried(server, asked)
    assert (reply.calls[0].reasoning_tokens, reply.calls[0].visible_tokens) == (4, 0)
    assert outcome.usd == pytest.approx(PROMPT * IN + 4 * THOUGHT)
    assert outcome.estimated
    assert "estimated" in reply.calls[0].counted


def test_calls_are_made_again_as_the_plan_says(server: Replaying) -> None:
    retry = {"retries": 4, "base_s": 0.01, "max_s": 0.02}
    asked = question("again", RIGHT, first=[429, 500, "cut", "html"], wait="0.3")
    outcome, reply = carried(server, asked, retry=retry)
    assert [one.status for one in reply.calls] == ["rejected", "failed", "failed", "failed", "answered"]
    assert (outcome.status, reply.text) == ("answered", "it is right")
    assert outcome.latency_s > 0.3, "as long as the endpoint asked to wait"
    # The first token that counts is that of the call that was answered.
    last = reply.calls[-1]
    assert outcome.first_token_s is not None
    assert last.first_token_s is not None
    assert outcome.first_token_s == pytest.approx(last.first_token_s - reply.calls[0].sent_s)
    # Of the one that broke off, what had come is billed with its prompt.
    assert outcome.usd == pytest.approx(WHOLE_USD + PROMPT * IN + 2 * THOUGHT)
    for first, on, calls in (
        ([429, 500], ["rate_limit"], 2),
        ([500, 429], ["error"], 2),
        ([500, 500, 500], ["error"], 3),
        ([400], ["rate_limit", "error"], 1),
    ):
        asked = question(f"{first} {on}", RIGHT, first=[*first, 429])
        outcome, reply = carried(server, asked, retry={**retry, "retries": 2, "on": on})
        assert (outcome.status == "answered", outcome.calls) == (False, calls), (first, on)


def test_what_times_count_from(server: Replaying) -> None:
    """Per attempt where timeouts are asked again; else over all of them, waits among them."""
    retry = {"retries": 2, "base_s": 0.01, "on": ["error", "timeout"]}
    outcome, reply = carried(server, question("each", RIGHT, first=["hang", "hang"]), timeout_s=0.7, retry=retry)
    assert [one.status for one in reply.calls] == ["timed_out", "timed_out", "answered"]
    outcome, reply = carried(
        server,
        question("all", RIGHT, first=[500, 500]),
        timeout_s=0.3,
        retry={"retries": 5, "base_s": 0.25, "max_s": 5},
    )
    assert (outcome.status, outcome.latency_s < 0.35) == ("timed_out", True)
    # A deadline is for good: no fallback, whatever the arm.
    begun = time.monotonic()
    asked = question("deadline", RIGHT, first=["hang"])
    outcome, reply = carried(server, asked, fallback=True, timeout_s=0.3, deadline_s=0.3)
    assert (outcome.status, outcome.arm, outcome.calls) == ("timed_out", "arm", 1)
    assert 0.29 < outcome.latency_s <= time.monotonic() - begun < 2.0
    # With time left, the fallback has its own.
    outcome, _ = carried(server, question("later", RIGHT, first=["hang"]), fallback=True, timeout_s=0.3, deadline_s=5)
    assert (outcome.status, outcome.arm) == ("answered", "other")


@pytest.mark.parametrize("trouble", ["hang", "endless", "silent"])
def test_nothing_hangs_where_the_plan_has_no_limits(server: Replaying, trouble: str) -> None:
    manner = Manner(first_s=0.8, total_s=1.2)
    begun = time.monotonic()
    outcome, reply = carried(server, question(f"no limits {trouble}", RIGHT, always=trouble), manner=manner)
    assert outcome.status == "timed_out"
    assert time.monotonic() - begun < 2.8
    if trouble == "endless":
        assert reply.calls[0].visible_tokens > 50


def test_an_answer_that_is_there_is_not_kept_waiting(server: Replaying, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_live, "LINGER_S", 0.2)
    begun = time.monotonic()
    outcome, reply = carried(server, question("no end", RIGHT, first=["never ends"]))
    assert time.monotonic() - begun < 3.5, "the server's stream ends after 4 s"
    assert (outcome.status, reply.text) == ("answered", "it is right")
    assert outcome.usd == pytest.approx(WHOLE_USD)
    assert outcome.latency_s < time.monotonic() - begun - 0.15


def test_a_port_where_nobody_is(server: Replaying) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        outcome, reply = carried(server, question("nobody", RIGHT), more={"url": url})
    assert (outcome.status, outcome.calls, outcome.usd) == ("failed", 1, 0.0)
    assert "cannot be reached" in str(reply.calls[0].reason)


# --------------------------------------------------------------------------------------------------------- several


@pytest.mark.parametrize("how", [{"ignores n": True}, {"refuses n": True, "always": 400}])
def test_who_does_not_take_several_answers_in_one_call_is_asked_one_by_one(
    server: Replaying, how: dict[str, Any]
) -> None:
    attempts: list[Attempt] = [(1, "right"), (2, "right"), (3, "wrong")]
    asked = question(f"singly {how}", attempts, **how)
    outcome, reply = carried(server, asked, strategy="MajorityVote(n=3)")
    assert reply.text == "right"
    assert reply.share == pytest.approx(2 / 3)
    assert outcome.prompt_tokens == 3 * PROMPT
    assert any("takes_n: false" in said for said in reply.notes)


def test_one_attempt_that_fails_is_no_vote_and_all_are_a_failure(server: Replaying) -> None:
    attempts: list[Attempt] = [(1, "right"), (2, "right"), (3, "wrong")]
    given: dict[str, Any] = {"strategy": "MajorityVote(n=3)", "more": {"takes_n": False}}
    outcome, reply = carried(server, question("one fails", attempts, first=[500]), **given)
    assert (outcome.status, outcome.calls, len(reply.samples)) == ("answered", 3, 2)
    assert any("status 500" in said for said in reply.notes)
    outcome, reply = carried(server, question("all fail", attempts, always=500), **given, fallback=True)
    assert (outcome.status, outcome.calls) == ("failed", 4)
    # One that is too late is what the simulation says of all of them.
    asked = question("one late", attempts, first=["hang"])
    outcome, reply = carried(server, asked, **given, timeout_s=1.0)
    assert outcome.status == "timed_out"
    assert sum(one.status == "answered" for one in reply.calls) == 2, "they are paid for"


def test_a_call_that_breaks_is_made_again_for_what_is_missing(server: Replaying) -> None:
    attempts: list[Attempt] = [(1, "right"), (9, "right"), (9, "right")]
    asked = question("rest", attempts, first=["cut"])
    _, reply = carried(server, asked, strategy="MajorityVote(n=3)", retry={"retries": 1, "base_s": 0.01})
    assert (reply.text, reply.share) == ("right", 1.0)
    assert [one.answers for one in reply.calls] == [3, 2]


def says(reply: str, **more: Any) -> Manner:
    """A verifier that replies so."""

    def verifying(asked: str, answer: str) -> str:
        name = json.loads(asked)["name"]
        said = reply if "right" in answer else "No"
        return question(f"{name} verified {answer}", [(0, said)], **more)

    return Manner(verifying=verifying)


def test_verifiers_that_cannot_be_read_or_do_not_reply(server: Replaying) -> None:
    strategy = "BestOfN(n=2, auroc=1.0, verifier='v', verifier_tokens=9)"
    attempts: list[Attempt] = [(1, "wrong"), (5, "right")]
    _, reply = carried(server, question("perhaps", attempts), strategy=strategy, manner=says("It depends"))
    assert (reply.text, [one.score for one in reply.samples]) == ("wrong", [0.0, None])
    assert any("'It depends'" in said for said in reply.notes)
    _, reply = carried(server, question("share", attempts), strategy=strategy, manner=says("8/10"))
    assert (reply.text, reply.samples[1].score) == ("right", 0.8)
    thinking = Manner(verifying=lambda _, answer: question(f"thinks {answer}", [(20, "Yes")]))
    _, reply = carried(server, question("thinks", attempts), strategy=strategy, manner=thinking)
    assert [one.score for one in reply.samples] == [None, None], "its limit ended it before it said anything"
    told = says("Hm", logprobs={"Yes": -0.2, "No": -1.7})
    _, reply = carried(server, question("told", attempts), strategy=strategy, manner=told)
    assert reply.samples[1].score == pytest.approx(0.8176, abs=1e-4)  # exp(-0.2) / (exp(-0.2) + exp(-1.7))
    outcome, reply = carried(
        server, question("broken", attempts), strategy=strategy, manner=says("Yes", always=400), fallback=True
    )
    assert (outcome.status, outcome.arm) == ("answered", "other")


def broken(*_: object) -> Any:
    raise OSError("no sandbox")


@pytest.mark.parametrize(
    ("manner", "strategy", "reason"),
    [
        ({"extract": broken}, "MajorityVote(n=2, stop_early=True)", "extract failed (OSError: no sandbox)"),
        ({"extract": lambda _: 4}, "MajorityVote(n=2)", "extract returned 4"),
        ({"judge": broken}, "BestOfN(n=2, auroc=0.9)", "judge failed (OSError: no sandbox)"),
        ({"judge": lambda *_: "good"}, "BestOfN(n=2, auroc=0.9)", "score 'good'"),
        ({"judge": lambda *_: time.sleep(2.0)}, "BestOfN(n=2, auroc=0.9)", "judge took too long"),
    ],
)
def test_functions_of_ones_own_that_fail_are_a_counted_failure(
    server: Replaying, manner: dict[str, Any], strategy: str, reason: str
) -> None:
    asked = question(reason, [(1, "right"), (2, "right")])
    outcome, reply = carried(server, asked, strategy=strategy, manner=Manner(**manner), fallback=True, timeout_s=0.4)
    assert (outcome.status, outcome.arm) == ("answered", "other")
    assert any(reason in said for said in reply.notes), reply.notes


def test_a_judge_of_ones_own_may_be_asynchronous(server: Replaying) -> None:
    async def judge(asked: str, answer: str) -> float:
        await asyncio.sleep(0.01)
        return float(answer == "right")

    strategy = "Cascade(stages=[Single(), Single()], tpr=1.0, fpr=0.0)"
    asked = question("own judge", [(1, "wrong"), (2, "right")])
    outcome, reply = carried(server, asked, strategy=strategy, manner=Manner(judge=judge))
    assert (reply.text, outcome.calls) == ("right", 2)


# ------------------------------------------------------------------------------------------- clients of one's own


class Stub:
    """A client that answers as it is told to, with dictionaries; it may be asynchronous without saying so."""

    def __init__(self, events: list[Any], asynchronous: bool = False) -> None:
        self.chat = self.completions = self
        self.events, self.asynchronous, self.asked = events, asynchronous, list[dict[str, Any]]()

    def create(self, **asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(self.events, Exception):
            raise self.events
        return self._late() if self.asynchronous else iter(self._all())

    def _all(self) -> Any:
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            if event == "hang":
                time.sleep(1.5)
            yield event

    async def _late(self) -> Any:
        async def stream() -> Any:
            for event in self._all():
                yield event

        return stream()


class RefusedError(Exception):
    status_code = 429


def event(text: str, finish: str | None = None, usage: Any = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], "usage": usage}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_any_client_that_looks_like_it_will_do(server: Replaying, asynchronous: bool) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    client = Stub([event("ri"), event("ght", "stop", usage)], asynchronous)
    outcome, reply = carried(server, "hello", strategy="Single(cap=5)", client=client)
    assert (outcome.status, reply.text) == ("answered", "right")
    assert (outcome.prompt_tokens, outcome.cached_tokens, outcome.visible_tokens) == (7, 4, 2)
    assert client.asked[0]["messages"] == [{"role": "user", "content": "hello"}]
    assert (client.asked[0]["max_tokens"], client.asked[0]["stream"]) == (5, True)


@pytest.mark.parametrize(
    ("events", "status", "reason"),
    [
        ([event("ri")], "failed", "stopped half-way"),
        ([], "failed", "stopped half-way"),
        ([event("ri"), ConnectionError("reset")], "failed", "ConnectionError"),
        (["nonsense"], "failed", "instead of chat completion chunks"),
        ([{"error": {"message": "overloaded"}}], "failed", "overloaded"),
        ([object()], "failed", "instead of chat completion chunks"),
        (RefusedError("slow down"), "rejected", "status 429"),
        (TimeoutError(), "timed_out", "the client gave up"),
        (TypeError("unexpected keyword"), "failed", "TypeError"),
        (["hang"], "timed_out", "not a sign of an answer"),
    ],
)
def test_clients_that_fail(server: Replaying, events: Any, status: str, reason: str) -> None:
    outcome, reply = carried(server, "hello", client=Stub(events), timeout_s=0.4)
    assert (outcome.status, outcome.calls) == (status, 1)
    assert reason in str(reply.calls[0].reason)


# ------------------------------------------------------------------------------------------------ what answers say


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Let me think.\n\nThe answer is **42**.", "42"),
        (r"**Answer:** $1{,}250$", "1250"),
        ("I will answer this.\n7", "7"),
        ("so it is 1,250.0", "so it is 1,250.0"),
        ("\n1,250.00\n", "1250"),
        ("1e999999999", "1e999999999"),
        (r"thus \boxed{x^{2} + 1} and \boxed{7.50}", "7.5"),
        (r"\boxed{never closed", r"\boxed{never closed"),
        ("-0.0", "0"),
        ("10", "10"),
        ("Paris.", "paris"),
        ("  \n ", None),
        ("", None),
    ],
)
def test_answers_that_are_equal_are_read_alike(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_examples_of_how_answers_are_read_are_what_they_say() -> None:
    assert doctest.testmod(manner_module).failed == 0


def test_long_texts_take_no_longer_than_they_are() -> None:
    begun = time.perf_counter()
    for text in ("answer " * 200_000, "\\boxed{" * 200_000, "1," * 400_000, "{" * 10**6, "answer:" + " " * 10**6):
        final_answer(text)
    assert time.perf_counter() - begun < 2.0


def test_an_endpoint_of_a_plan_may_stand_elsewhere_than_its_fallback(
    server: Replaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_A_TEST", "sk-of-a-test")
    other = {"deployment": "v", "strategy": "Single(cap=9)"}
    planned = scenario({"arm": {}, "other": other}, {"d": api(retry=ONCE)})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gone = endpoint(server, url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        more: dict[str, Any] = {"model": "other-model", "key_env": "KEY_OF_A_TEST", "limit_by": "max_completion_tokens"}
        more["body"] = {"reasoning_effort": "low"}
        made = Carrying(planned, {"d": gone, "v": endpoint(server, **more)}, MANNER)
        asked = question("elsewhere", RIGHT)
        outcome, _ = made.run(Decided("elsewhere", "arm", ("other",)), asked)
    assert (outcome.status, outcome.arm) == ("answered", "other")
    (line,) = server.asked("elsewhere")
    assert (line["model"], line["auth"], line["limit"]) == ("other-model", "Bearer sk-of-a-test", 9)
    assert {"max_completion_tokens", "reasoning_effort"} < set(line["keys"])
    assert "max_tokens" not in line["keys"]


def test_what_the_caller_wants_goes_with_attempts_alone(server: Replaying) -> None:
    planned = scenario({"arm": {"strategy": "BestOfN(n=2, auroc=1.0, verifier='v', cap=50)"}}, {"d": api(retry=ONCE)})
    made = carrying(server, planned)
    asked = question("wanted", [(4, "it is right"), (1, "right")])
    decision = Decided("wanted", "arm")
    outcome, reply = asyncio.run(made.carry_out(decision, asked, body={"temperature": 0.3}, limit=4))
    first, verified = server.asked("wanted")
    assert ("temperature" in first["keys"], first["limit"]) == (True, 4)
    assert ("temperature" in verified["keys"], verified["limit"]) == (False, 1)
    assert (reply.text, outcome.calls) == ("right", 2), "what its limit cut off is no answer"


def test_nobody_waits_and_what_it_took_is_told(server: Replaying) -> None:
    planned = scenario({"arm": {"strategy": "MajorityVote(n=2)"}}, {"d": api(retry=ONCE)})
    made, told = carrying(server, planned), list[Outcome]()

    async def leave() -> None:
        asked = question("left", [(4000, "right"), (5000, "right")], pause=0.005)
        task = asyncio.create_task(made.carry_out(Decided("left", "arm"), asked, left=told.append))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert (told[0].calls, told[0].prompt_tokens) == (1, PROMPT)
    assert 0 < told[0].reasoning_tokens < 1000


def test_ctrl_c_ends_what_is_on_its_way_and_strands_nothing(server: Replaying, request: pytest.FixtureRequest) -> None:
    """Whichever thread the system tells of it, and whatever locks are held as it strikes."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("Ctrl-C is for the main thread")
    made = carrying(server, scenario({"arm": {}}, {"d": api(retry=ONCE)}))
    # What is run in the background ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    for number in range(2):
        asked = question(f"interrupted {number}", [(3000, "right")], pause=0.005)
        threading.Timer(0.4, _thread.interrupt_main).start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            made.run(Decided(f"interrupted-{number}", "arm"), asked)
        assert time.monotonic() - begun < 8
    outcome, _ = made.run(Decided("after", "arm"), question("after", RIGHT))
    assert outcome.status == "answered"
    until = time.monotonic() + 5
    while len(lines := server.asked("interrupted")) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert all(line["output_tokens"] < 2000 for line in lines)
