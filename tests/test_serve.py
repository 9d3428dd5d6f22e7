"""`ttc-sim serve` between a real client and a real upstream: what passes, what is refused, and what a log says afterwards."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from typer.testing import CliRunner

from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.deploying.proxy.app import MOST_BODY
from ttc_sim.deploying.proxy.events import Events, data_of

from .proxy import (
    CALLERS,
    CAP,
    KEY,
    USAGE,
    USD,
    Exchange,
    Served,
    Upstream,
    asking,
    events_of,
    plainly,
    says,
    text_of,
    write_endpoints,
    write_plan,
)

pytestmark = pytest.mark.skipif(find_spec("uvicorn") is None, reason="uvicorn is not installed")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    made = Served(
        write_plan(folder), write_endpoints(folder, upstream.port), folder / "log.jsonl", "--pass-authorization"
    )
    yield made
    counts = made.client.get(made.url.removesuffix("v1") + "metrics").text
    assert "routed" in counts
    assert not [
        what
        for what in ("lines lost", "ended without being sent", "policy failed", "predictor failed")
        if f'what="{what}' in counts
    ]
    status, said = made.stop()
    assert (status, KEY in said, CALLERS in said) == (0, False, False)
    # No key, and no word of any prompt or answer.
    log = made.log_file.read_text()
    assert not [word for word in (KEY, CALLERS, "prompt of", "it is 4", "2 and 2") if word in log]


def test_an_answer_passes_as_it_is_and_the_log_counts_it(served: Served, upstream: Upstream) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    more: dict[str, Any] = {
        "temperature": 0.3,
        "tools": [tool],
        "response_format": {"type": "json_object"},
        "user": "u-1",
    }
    metadata = {"source": "plain", "team": "a"}
    got = served.post("prompt of one", None, **more, metadata=metadata)
    assert got.status_code == 200, got.text
    assert got.json()["choices"][0]["message"]["content"] == "it is 4"
    assert got.json()["usage"] == USAGE
    assert (got.headers["x-ttc-arm"], got.headers["x-ttc-deployment"]) == ("plain", "plain")
    assert "plain" in got.headers["x-ttc-why"]
    (exchange,) = upstream.asked("prompt of one")
    assert exchange.headers["Authorization"] == f"Bearer {KEY}"
    messages = asking("prompt of one")["messages"]
    assert exchange.body == {
        "model": "model-of-plain",
        "messages": messages,
        **more,
        "metadata": {"team": "a"},
        "max_tokens": CAP,
    }
    decision, outcome = (served.logged(got.headers["x-ttc-request"], kind) for kind in ("decision", "outcome"))
    assert (decision["source"], decision["session"], decision["arm"]) == ("plain", "u-1", "plain")
    assert decision["max_tokens"] == CAP
    tokens = {name: outcome[f"{name}_tokens"] for name in ("prompt", "cached", "reasoning", "visible")}
    assert tokens == {"prompt": 10, "cached": 4, "reasoning": 20, "visible": 10}
    assert outcome["usd"] == pytest.approx(USD)
    assert (outcome["status"], outcome["calls"], outcome["first_token_s"]) == ("answered", 1, None)
    assert outcome["estimated"] is False
    assert 0 < outcome["latency_s"] < 5


@pytest.mark.parametrize(
    ("source", "asked", "sent"),
    [
        ("plain", {}, {"max_tokens": CAP}),
        ("plain", {"max_tokens": 7}, {"max_tokens": 7}),
        ("plain", {"max_tokens": 700}, {"max_tokens": CAP}),
        ("plain", {"max_completion_tokens": 9, "max_tokens": 8}, {"max_tokens": 8}),
        ("plain", {"max_tokens": None}, {"max_tokens": CAP}),
        ("free", {}, {}),
        ("free", {"max_tokens": 7}, {"max_completion_tokens": 7}),
    ],
)
def test_the_smaller_of_the_callers_limit_and_the_arms_cap_is_asked_for(
    served: Served, upstream: Upstream, source: str, asked: dict[str, Any], sent: dict[str, Any]
) -> None:
    prompt = f"prompt of limits {source} {asked}"
    assert served.post(prompt, source, **asked).status_code == 200
    (exchange,) = upstream.asked(prompt)
    found = {name: exchange.body[name] for name in ("max_tokens", "max_completion_tokens") if name in exchange.body}
    assert found == sent
    assert exchange.body.get("reasoning_effort") == ("high" if source == "free" else None)


def test_a_callers_key_goes_only_where_there_is_none_of_the_deployments(served: Served, upstream: Upstream) -> None:
    for source, key in (("plain", KEY), ("free", CALLERS)):
        with served.stream("prompt of keys " + source, source) as response:
            response.read()
        (exchange,) = upstream.asked("prompt of keys " + source)
        assert exchange.headers["Authorization"] == f"Bearer {key}"


def test_a_stream_passes_piece_by_piece_while_it_is_made(served: Served, upstream: Upstream) -> None:
    seen = threading.Event()
    waited: list[bool] = []

    def slowly(exchange: Exchange) -> None:
        exchange.start()
        exchange.raw(b": still there\n\n")
        exchange.chunk({"role": "assistant", "content": ""})
        exchange.chunk({"content": "it is"})
        waited.append(seen.wait(5))  # only once the caller has this is there more
        exchange.chunk({"content": " 4"})
        exchange.end(linger_s=0.2)  # which is no part of the answer, and whoever asked need not wait for it

    upstream.told("prompt of slow", slowly)
    with served.stream("prompt of slow") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-ttc-arm"] == "plain"
        text = ""
        for part in response.iter_text():
            text += part
            if "it is" in text:
                seen.set()
    assert waited == [True]
    said = events_of(text)
    assert text_of(said) == "it is 4"
    assert said[-1] == "[DONE]"
    # The caller did not ask for tokens, the log has them all the same.
    assert not [one for one in said if one != "[DONE]" and not one["choices"]]
    outcome = served.logged(response.headers["x-ttc-request"])
    assert (outcome["status"], outcome["visible_tokens"]) == ("answered", 10)
    assert outcome["usd"] == pytest.approx(USD)
    assert 0 < outcome["first_token_s"] <= outcome["latency_s"]


def test_whoever_asks_for_tokens_gets_them_and_bytes_are_as_they_came(served: Served, upstream: Upstream) -> None:
    sent: list[bytes] = []

    def odd(exchange: Exchange) -> None:
        exchange.start()
        usage = json.dumps({"choices": [], "usage": USAGE})
        chunk = '{"choices":[{"index":0,"delta":{"content":"Grüße 😀"},"finish_reason":"stop"}],  "x":1}'
        content = f"id: 7\r\ndata: {chunk}\r\n\r\n: comment\n\ndata:{usage}\n\ndata: [DONE]".encode()
        sent.append(content)
        for k in range(0, len(content), 7):  # in the middle of characters and of line ends, too
            exchange.raw(content[k : k + 7])
        exchange.handler.wfile.write(b"0\r\n\r\n")

    upstream.told("prompt of bytes", odd)
    with served.stream("prompt of bytes", stream_options={"include_usage": True}) as response:
        assert response.read() == sent[0] + b"\n\n"


def test_a_caller_who_leaves_ends_the_upstreams_work(served: Served, upstream: Upstream) -> None:
    left = threading.Event()

    def endless(exchange: Exchange) -> None:
        exchange.start()
        exchange.chunk({"content": "it is " * 8})
        if exchange.gone():
            left.set()

    def silent(exchange: Exchange) -> None:
        if exchange.gone():
            left.set()

    upstream.told("prompt of leaving", endless)
    with served.stream("prompt of leaving") as response:
        next(response.iter_raw())
        request = response.headers["x-ttc-request"]
    assert left.wait(3)
    outcome = served.logged(request)
    # What had come is counted, about four characters each, as nobody told.
    assert (outcome["status"], outcome["visible_tokens"], outcome["estimated"]) == ("timed_out", 12, True)
    left.clear()
    upstream.told("prompt of leaving early", silent)
    with pytest.raises(httpx2.ReadTimeout):
        served.client.post(
            f"{served.url}/chat/completions",
            json=asking("prompt of leaving early"),
            headers={"x-ttc-source": "plain"},
            timeout=0.3,
        )
    assert left.wait(3)


def test_fifty_at_once_get_their_own_answers(served: Served, upstream: Upstream) -> None:
    together = threading.Barrier(50)

    def echo(exchange: Exchange) -> None:
        together.wait(10)  # answered once all fifty are on their way at once
        exchange.start()
        exchange.chunk({"content": exchange.body["user"]})
        exchange.end()

    upstream.told("prompt of many", echo)

    def ask(k: int) -> str:
        with served.stream("prompt of many", user=f"user {k}") as response:
            return text_of(events_of(response.read().decode()))

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(ask, range(50))) == [f"user {k}" for k in range(50)]


def refusing(status: int, content: object = None, **headers: str) -> Any:
    body = (
        {"error": {"message": f"no, {KEY}", "type": "t", "param": "p", "code": f"c {KEY}"}}
        if content is None
        else content
    )
    return lambda exchange: exchange.json(body, status, headers)


def half(exchange: Exchange) -> None:
    exchange.start()
    exchange.chunk({"content": "it is"})
    exchange.cut()


def early(exchange: Exchange) -> None:
    exchange.start()
    exchange.chunk({"content": "it is"})
    exchange.raw(b"data: [DONE]\n\n")
    exchange.handler.wfile.write(b"0\r\n\r\n")


def nonsense(exchange: Exchange) -> None:
    exchange.start()
    exchange.raw(f"data: welcome {KEY}\n\n".encode())
    exchange.handler.wfile.write(b"0\r\n\r\n")


def in_stream(exchange: Exchange) -> None:
    exchange.start()
    exchange.raw(b'data: {"error": {"message": "overloaded"}}\n\n')
    exchange.handler.wfile.write(b"0\r\n\r\n")


def never(exchange: Exchange) -> None:
    exchange.gone(10)


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("source", "trouble", "status", "ended", "calls", "says"),
    [
        ("plain", refusing(500), 502, "failed", 1, "status 500"),
        ("plain", refusing(429, **{"Retry-After": "7"}), 429, "rejected", 1, "status 429"),
        ("patient", refusing(500), 502, "failed", 3, "status 500"),
        ("plain", refusing(503), 503, "rejected", 1, "status 503"),
        # The caller's own fault, and the operator's: neither is tried again.
        ("patient", refusing(400), 400, "failed", 1, "no, "),
        ("patient", refusing(401), 502, "failed", 1, "status 401"),
        ("plain", refusing(200, b"<html>"), 502, "failed", 1, "no chat completion"),
        ("plain", refusing(200, {"choices": []}), 502, "failed", 1, "no chat completion"),
        ("plain", refusing(302, b"", Location="http://127.0.0.1:9/"), 502, "failed", 1, "status 302"),
        ("timed", never, 504, "timed_out", 1, "in the time that the plan gives it"),
        ("each", never, 504, "timed_out", 2, "in the time that the plan gives it"),
        # Given up for good: the arm to fall back on is not asked.
        ("over", never, 504, "timed_out", 1, "in the time that the plan gives it"),
        ("nobody-else", None, 502, "failed", 1, "cannot be reached"),
    ],
)
def test_what_no_deployment_answers_is_an_error_of_openais_kind(
    served: Served,
    upstream: Upstream,
    source: str,
    trouble: Any,
    status: int,
    ended: str,
    calls: int,
    says: str,
    streamed: bool,
) -> None:
    prompt = f"prompt of trouble {source} {id(trouble)} {streamed}"
    if trouble is not None:
        upstream.told(prompt, trouble)
    began = time.monotonic()
    got = served.post(prompt, source, stream=streamed)
    assert time.monotonic() - began < 3
    assert got.status_code == status
    error = got.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert says in error["message"]
    assert KEY not in got.text
    assert got.headers["x-ttc-arm"] == source
    if status == 429:
        assert got.headers["retry-after"] == "7"
    if status == 400:
        assert (error["type"], error["param"], error["code"]) == ("t", "p", "c [key]")
    outcome = served.logged(got.headers["x-ttc-request"])
    assert (outcome["status"], outcome["calls"]) == (ended, calls)
    # A call that was given up may be billed for its prompt.
    billed = (len(prompt) // 4 + 1) * 1e-6 * calls if ended == "timed_out" else 0
    assert outcome["usd"] == pytest.approx(billed)
    if trouble is not None:
        assert len(upstream.asked(prompt)) == calls


@pytest.mark.parametrize("trouble", [half, early, nonsense, in_stream, never, refusing(503), refusing(401)])
def test_an_arm_to_fall_back_on_answers_what_the_first_did_not_begin(
    served: Served, upstream: Upstream, trouble: Any
) -> None:
    name = getattr(trouble, "__name__", "")
    prompt = f"prompt of falling back {name} {id(trouble)}"
    upstream.told(prompt, trouble, plainly)
    began = trouble in (half, early)
    with served.stream(prompt, "backed") as response:
        said = events_of(response.read().decode())
    outcome = served.logged(response.headers["x-ttc-request"])
    if began:  # too late: some of it was passed on
        assert text_of(said) == "it is"
        assert "error" in said[-1]
        assert (outcome["status"], outcome["arm"], len(upstream.asked(prompt))) == ("failed", "backed", 1)
    else:
        assert text_of(said) == "it is 4"
        assert (outcome["status"], outcome["arm"], outcome["calls"]) == ("answered", "plain", 2)
        assert (response.headers["x-ttc-arm"], response.headers["x-ttc-deployment"]) == ("plain", "plain")
        assert "backed: " in response.headers["x-ttc-why"]
        assert KEY not in response.headers["x-ttc-why"]
        assert [one.body["model"] for one in upstream.asked(prompt)] == ["model-of-backed", "model-of-plain"]


def test_a_stream_that_stops_moving_is_ended_by_an_event_in_time(served: Served, upstream: Upstream) -> None:
    def stuck(exchange: Exchange) -> None:
        exchange.start()
        exchange.chunk({"content": "it is"})
        exchange.gone(10)

    upstream.told("prompt of stuck", stuck)
    began = time.monotonic()
    with served.stream("prompt of stuck", "timed") as response:
        said = events_of(response.read().decode())
    assert time.monotonic() - began < 2
    assert "in the time" in said[-1]["error"]["message"]
    assert served.logged(response.headers["x-ttc-request"])["status"] == "timed_out"


def test_a_deployment_that_recovers_is_asked_again(served: Served, upstream: Upstream) -> None:
    upstream.told("prompt of recovering", refusing(503), refusing(429), plainly)
    got = served.post("prompt of recovering", "patient")
    assert got.json()["choices"][0]["message"]["content"] == "it is 4"
    outcome = served.logged(got.headers["x-ttc-request"])
    assert (outcome["status"], outcome["calls"]) == ("answered", 3)
    upstream.told("prompt of a long wait", refusing(429, **{"Retry-After": "60"}), plainly)
    began = time.monotonic()
    got = served.post("prompt of a long wait", "patient")
    assert (got.status_code, got.headers["retry-after"]) == (429, "60")  # longer than there is time
    assert served.logged(got.headers["x-ttc-request"])["status"] == "timed_out"
    # A deadline is one for good: the arm to fall back on is not asked.
    upstream.told("prompt of a deadline", refusing(429, **{"Retry-After": "60"}), plainly)
    got = served.post("prompt of a deadline", "waits")
    assert (got.status_code, got.headers["x-ttc-arm"]) == (429, "waits")
    assert served.logged(got.headers["x-ttc-request"])["calls"] == 1
    assert time.monotonic() - began < 2


def test_a_pool_that_is_full_is_asked_again_and_its_tokens_cost_nothing(served: Served, upstream: Upstream) -> None:
    upstream.told("prompt of a full pool", refusing(503), plainly)
    got = served.post("prompt of a full pool", "pooled", n=2)
    outcome = served.logged(got.headers["x-ttc-request"])
    assert (outcome["status"], outcome["calls"], outcome["visible_tokens"], outcome["usd"]) == ("answered", 2, 10, 0)


def test_a_deployment_that_is_not_there_is_tried_again_and_then_left(served: Served, upstream: Upstream) -> None:
    got = served.post("prompt of nobody", "nobody")
    assert (got.status_code, got.headers["x-ttc-arm"]) == (200, "plain")
    assert "nobody: it cannot be reached" in got.headers["x-ttc-why"]
    assert served.logged(got.headers["x-ttc-request"])["calls"] == 3


@pytest.mark.parametrize(
    ("content", "param", "says"),
    [
        (b"{", None, "not valid JSON"),
        (b"[]", None, "JSON object"),
        (b'{"messages": [], "model": "m"}', "messages", "at least one"),
        (b'{"messages": ["x"]}', "messages[0]", "a role"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}', None, "not valid JSON"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}', None, "not valid JSON"),
        (b'{"messages": [{"role": "user", "content": "x"}], "stream": "yes"}', "stream", "true or false"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', "max_tokens", "a whole number"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": true}', "max_tokens", "a whole number"),
        (b'{"messages": [{"role": "user", "content": "x"}], "metadata": {"source": 3}}', "metadata.source", "a text"),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "metadata": {"source": "nowhere"}}',
            "metadata.source",
            "plain",
        ),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "metadata.source", "got none"),
        (b'{"messages": ' + b"[" * 100_000, None, "not valid JSON"),
    ],
)
def test_what_is_no_request_is_refused(served: Served, content: bytes, param: str | None, says: str) -> None:
    headers = {"content-type": "application/json"}
    got = served.client.post(f"{served.url}/chat/completions", content=content, headers=headers)
    assert got.status_code == 400
    error = got.json()["error"]
    assert error["param"] == param
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"


def test_bodies_too_large_web_pages_and_other_places_are_refused(served: Served) -> None:
    at, kind = f"{served.url}/chat/completions", {"content-type": "application/json"}
    page = served.client.post(at, json=asking("x"), headers={"origin": "http://page.example", "x-ttc-source": "plain"})
    form = served.client.post(at, content=b"{}", headers={"content-type": "text/plain"})
    large = served.client.post(at, content=b" " * (MOST_BODY + 1), headers=kind)
    elsewhere = served.client.post(f"{served.url}/completions", json={})
    method = served.client.get(at)
    statuses = [one.status_code for one in (page, form, large, elsewhere, method)]
    assert statuses == [403, 415, 413, 404, 405]
    assert all(
        set(one.json()["error"]) == {"message", "type", "param", "code"} for one in (page, form, large, elsewhere)
    )

    def pieces() -> Iterator[bytes]:  # without a length beforehand
        for _ in range(MOST_BODY // 1_000_000 + 1):
            yield b" " * 1_000_000

    assert served.client.post(at, content=pieces(), headers=kind).status_code == 413


def test_models_health_and_counts(served: Served, upstream: Upstream) -> None:
    (model,) = served.client.get(f"{served.url}/models").json()["data"]
    assert model["id"] == "tried"
    base = served.url.removesuffix("/v1")
    assert served.client.get(f"{base}/health").json() == {"status": "ok", "plan": "tried"}
    name = 'ttc_sim_requests_total{arm="patient",status="answered"}'

    def count() -> int:
        lines = served.client.get(f"{base}/metrics").text.splitlines()
        return next((int(line.split()[-1]) for line in lines if line.startswith(name)), 0)

    before = count()
    assert served.post("prompt of counting", "patient").status_code == 200
    assert count() == before + 1


def test_openais_client_is_none_the_wiser(served: Served, upstream: Upstream) -> None:
    openai = pytest.importorskip("openai", reason="openai is not installed")
    client = openai.OpenAI(base_url=served.url, api_key=CALLERS, max_retries=0)
    messages: Any = [{"role": "user", "content": "prompt of the client"}]
    metadata = {"source": "patient", "session": "s-1"}
    whole = client.chat.completions.create(model="tried", messages=messages, metadata=metadata)
    assert whole.choices[0].message.content == "it is 4"
    pieces = client.chat.completions.create(model="tried", messages=messages, metadata=metadata, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == "it is 4"
    with pytest.raises(openai.BadRequestError, match="expected one of"):
        client.chat.completions.create(model="tried", messages=messages, metadata={"source": "nowhere"})
    upstream.told("prompt of half", half)
    half_of_it = client.chat.completions.create(
        model="tried", messages=[{"role": "user", "content": "prompt of half"}], metadata=metadata, stream=True
    )
    with pytest.raises(openai.APIError, match="broke off"):
        list(half_of_it)


def test_votes_and_cascades_come_as_one_answer(served: Served, upstream: Upstream) -> None:
    upstream.told("prompt of a vote", says("7"), says("8"), says("8"))
    got = served.post("prompt of a vote", "voted", temperature=0.5, max_tokens=12, user="u-2")
    assert got.status_code == 200, got.text
    whole = got.json()
    assert (whole["object"], whole["choices"][0]["message"]["content"]) == ("chat.completion", "8")
    assert whole["choices"][0]["finish_reason"] == "stop"
    asked = upstream.asked("prompt of a vote")
    assert [(one.body["max_tokens"], one.body["temperature"], one.body["user"]) for one in asked] == [
        (12, 0.5, "u-2")
    ] * 3
    assert {one.headers["Authorization"] for one in asked} == {f"Bearer {KEY}"}
    assert (got.headers["x-ttc-arm"], got.headers["x-ttc-deployment"]) == ("voted", "voted")
    outcome = served.logged(got.headers["x-ttc-request"])
    assert (outcome["status"], outcome["calls"]) == ("answered", 3)
    assert whole["usage"]["total_tokens"] == 3 * (10 + 30)
    assert outcome["usd"] == pytest.approx(3 * USD)
    # The judge says no, and so the next stage answers; to whoever streams, in one piece.
    upstream.told("prompt of stages", says("7"), says("9"))
    with served.stream("prompt of stages", "staged", stream_options={"include_usage": True}) as response:
        said = events_of(response.read().decode())
    assert (text_of(said), said[-1]) == ("9", "[DONE]")
    assert said[-2]["usage"]["completion_tokens"] == 3 * 30
    models = [one.body["model"] for one in upstream.seen[-3:]]
    assert models == ["model-of-staged", "model-of-judge", "model-of-plain"]
    assert [one.body["max_tokens"] for one in upstream.asked("prompt of stages")] == [20, CAP]


def test_what_several_calls_do_not_go_with_or_do_not_answer_is_an_error(served: Served, upstream: Upstream) -> None:
    for more, param in (({"tools": [{"type": "function"}]}, "tools"), ({"n": 2}, "n"), ({"seed": 1}, "seed")):
        got = served.post("prompt of tools", "voted", **more)
        assert (got.status_code, got.json()["error"]["param"]) == (400, param)
    assert upstream.asked("prompt of tools") == []
    upstream.told("prompt of a failing vote", refusing(500))
    got = served.post("prompt of a failing vote", "voted")
    assert (got.status_code, KEY in got.text) == (502, False)
    assert "status 500" in got.json()["error"]["message"]
    upstream.told("prompt of a slow vote", never)
    began = time.monotonic()
    assert served.post("prompt of a slow vote", "voted").status_code == 504
    assert time.monotonic() - began < 3
    left = threading.Event()

    def silent(exchange: Exchange) -> None:
        if exchange.gone():
            left.set()

    upstream.told("prompt of leaving a vote", silent)
    with pytest.raises(httpx2.ReadTimeout):
        served.client.post(
            f"{served.url}/chat/completions",
            json=asking("prompt of leaving a vote"),
            headers={"x-ttc-source": "voted"},
            timeout=0.3,
        )
    assert left.wait(1.5)  # before its time was up
    last = json.loads(served.log_file.read_text().splitlines()[-2])
    outcome = served.logged(last["request"])
    assert (outcome["status"], outcome["calls"], outcome["arm"]) == ("timed_out", 3, "voted")


def test_a_session_that_has_spent_its_budget_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    """Its first turn, of 5 tokens and so many answered, is beyond 34 tokens once the proxy has told what was answered."""
    policy = {"plain": "SessionBudget(Always('plain'), tokens=34, at_end='stop')"}
    plan, endpoints = write_plan(tmp_path, ("plain",), policy=policy), write_endpoints(tmp_path, upstream.port)
    given = yaml.safe_load(endpoints.read_text())
    endpoints.write_text(yaml.safe_dump({"plain": given["plain"]}))
    served = Served(plan, endpoints, tmp_path / "log.jsonl")
    try:
        upstream.told("a turn of a session", plainly, plainly)
        for session, status in (("one", 200), ("one", 403), ("another", 200)):
            got = served.post("a turn of a session", metadata={"session": session})
            assert got.status_code == status, got.text
            if status == 403:
                assert got.json()["error"]["code"] == "session_ended"
    finally:
        served.stop()


def test_a_session_that_has_spent_its_budget_is_to_make_its_context_shorter(upstream: Upstream, tmp_path: Path) -> None:
    policy = {"plain": "SessionBudget(Always('plain'), tokens=34, at_end='compact', above_tokens=400, to_tokens=100)"}
    plan, endpoints = write_plan(tmp_path, ("plain",), policy=policy), write_endpoints(tmp_path, upstream.port)
    given = yaml.safe_load(endpoints.read_text())
    endpoints.write_text(yaml.safe_dump({"plain": given["plain"]}))
    served = Served(plan, endpoints, tmp_path / "log.jsonl")
    long = "a turn of a long session " * 80  # 501 tokens

    def post(prompt: str, session: str | None = "one", system: str = "", **headers: str) -> Any:
        named, body = {} if session is None else {"x-ttc-session": session}, asking(prompt)
        body["messages"] = [*([{"role": "system", "content": system}] if system else []), *body["messages"]]
        return served.client.post(
            f"{served.url}/chat/completions", json=body, headers={"x-ttc-source": "plain", **named, **headers}
        )

    try:
        upstream.told(long, plainly, plainly)
        upstream.told("short", plainly)
        assert post(long).status_code == 200
        got = post(long)
        assert got.status_code == 409, got.text
        assert got.json()["error"]["code"] == "compact_context"
        assert "to 100 tokens, by a summary that is asked for with header x-ttc-summary: true" in got.text
        assert post(long, **{"x-ttc-summary": "true"}).status_code == 200
        assert post("short").status_code == 200
        # What the system says stays: where that alone is as long as the rest is to be, nothing can be made shorter.
        assert post("short", system=long[: 4 * 300] + long).status_code == 200
        assert post("short", system=long[: 4 * 30], **{"x-ttc-summary": "false"}).status_code == 200
        assert post(long, system="short").status_code == 409
        wrong = post("short", **{"x-ttc-summary": "yes"})
        assert (wrong.status_code, "x-ttc-summary: expected true or false" in wrong.text) == (400, True)
        wrong = post("short", None, **{"x-ttc-summary": "true"})
        assert (wrong.status_code, "expected a session beside it" in wrong.text) == (400, True)
    finally:
        served.stop()


def test_events_are_cut_the_same_however_bytes_come() -> None:
    text = b"data: a\n\ndata: b\r\n\r\n: c\r\rid: 1\ndata: d\ndata: e\n\r\ndata: f"
    whole = Events()
    expected = [*whole.take(text), *whole.end()]
    assert [data_of(one) for one in expected] == ["a", "b", None, "d\ne", "f"]
    for size in range(1, len(text)):
        events, found = Events(), []
        for k in range(0, len(text), size):
            found += events.take(text[k : k + size])
        assert [data_of(one) for one in [*found, *events.end()]] == ["a", "b", None, "d\ne", "f"]


def words(tmp_path: Path, port: int, *more: str, **changes: Any) -> list[str]:
    plan, endpoints = write_plan(tmp_path, **changes), write_endpoints(tmp_path, 9)
    return ["serve", str(plan), "--endpoints", str(endpoints), "--port", str(port), *more]


def test_what_cannot_be_served_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIED_KEY", KEY)

    def refused(match: str, *given: str, port: int = 0, **changes: Any) -> None:
        with pytest.raises(InputError, match=match):
            CliRunner().invoke(app, words(tmp_path, port, *given, **changes), catch_exceptions=False)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused(r"--port: got \d+; expected a port that is free on 127\.0\.0\.1", port=taken.getsockname()[1])
    refused("--host: got 'no.such.host.invalid'", "--host", "no.such.host.invalid")
    refused("which this command reads", "--log", str(tmp_path / "plan.yaml"))
    refused("fallback_arm", "--fallback-arm", "nobody at all")
    monkeypatch.delenv("TRIED_KEY")
    refused(r"TRIED_KEY: got 'nothing'; expected the key of \w+, as key_env says in .*endpoints\.yaml")
    monkeypatch.setenv("TRIED_KEY", KEY)
    path = write_endpoints(tmp_path, 9)
    text = path.read_text()
    monkeypatch.setattr("tests.test_serve.write_endpoints", lambda *_: path)
    path.write_text(text.replace("timed:", "# timed:", 1).split("# timed:")[0])
    refused("and a model for timed too, which the plan uses")
    path.write_text(text.replace("127.0.0.1:9/plain/v1", "me:pass@127.0.0.1:9/plain/v1"))
    refused("plain.url: got '...@127.0.0.1'")
    monkeypatch.setattr("ttc_sim.cli.serve.find_spec", lambda name: None if name == "uvicorn" else name)
    refused(r"packages: uvicorn: got 'not installed'; expected pip install 'ttc-sim\[serve\]'")


def test_ctrl_c_lets_answers_under_way_end(upstream: Upstream, tmp_path: Path) -> None:
    endpoints = write_endpoints(tmp_path, upstream.port)
    served = Served(write_plan(tmp_path), endpoints, tmp_path / "log.jsonl")
    begun = threading.Event()

    def slowly(exchange: Exchange) -> None:
        exchange.start()
        exchange.chunk({"content": "it is"})
        begun.set()
        time.sleep(0.5)
        exchange.chunk({"content": " 4"})
        exchange.end()

    upstream.told("prompt of ending", slowly)
    with ThreadPoolExecutor(1) as pool:

        def ask() -> str:
            with served.stream("prompt of ending") as response:
                return text_of(events_of(response.read().decode()))

        answer = pool.submit(ask)
        assert begun.wait(10)
        served.process.send_signal(signal.SIGINT)
        assert answer.result(10) == "it is 4"
    status, said = served.stop()
    assert status == 130
    assert "Traceback" not in said
    # Without --pass-authorization a caller's key goes nowhere.
    assert [one.headers.get("Authorization") for one in upstream.asked("prompt of ending")] == [f"Bearer {KEY}"]
