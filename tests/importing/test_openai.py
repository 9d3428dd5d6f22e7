"""Logs of OpenAI's two APIs, and of servers that speak like them; the files under ``logs/`` are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.importing.helping import imported, left, lines, of_file, traffic, understood
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.formats.openai_chat import OpenAIChat
from ttc_sim.testing import ImporterConformance

AT = 1764064800
COUNTS = ("prompt_tokens", "cached_tokens", "reasoning_tokens", "visible_tokens")


def chat(number: int, usage: Any, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Paris."}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    body = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": AT + number, "model": "gpt-4o-mini"}
    return {**body, "choices": [choice], "usage": usage, **more}


def usage(prompt: int, output: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output, **more}


def test_requests_beside_their_responses(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "openai-chat/pairs.jsonl")
    found = traffic(out)
    assert (audit.read, audit.answered, audit.failed, left(audit)) == (5, 4, 1, {})
    assert found["arrival_s"].to_list() == [
        0,
        3.25,
        3.75,
        4.5,
        5.875,
    ]  # the log's own times, not the second of `created`
    # xAI's 50 + 10 + 300 = 360 stand beside each other; 90 + 260 = 350 of DeepSeek hold the 200 of reasoning.
    assert found.filter(status="ok").select(COUNTS).rows() == [
        (120, 64, 512, 188),
        (200, 128, 4096, 0),
        (50, 16, 300, 10),
        (90, 64, 200, 60),
    ]
    assert found["status"].to_list() == ["ok", "ok", "failed", "ok", "ok"]
    assert found["latency_s"].to_list() == [2.4, 5.0, 0.09, 1.2, 1.8]
    assert found["first_token_s"].to_list() == [0.8, 0.9, None, 0.3, None]
    assert found["truncated"].to_list() == [False, True, None, False, False]


def test_batches(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "openai-chat/batch_output.jsonl")
    assert traffic(out).select("arrival_s", *COUNTS).rows() == [(0, 1000, 0, 640, 260), (1, 1010, 0, 0, 300)]
    assert left(audit) == {"no time that can be read": 1}  # what failed in a batch has no time
    expired = {"id": "batch_req_3", "custom_id": "3", "response": None, "error": {"code": "batch_expired"}}
    with pytest.raises(InputError, match="no answer in 1 rows"):
        imported(tmp_path, lines([expired]))


def test_chunks_of_streams_that_are_mixed(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "openai-chat/chunks.jsonl")
    assert (audit.read, audit.answered, audit.partial) == (3, 2, 1)
    found = traffic(out)
    assert found.select("prompt_tokens", "visible_tokens", "finish_reason").rows() == [
        (11, 3, "stop"),
        (21, 6, "length"),
        (0, 1, None),  # broken off before anything was counted
    ]


def chunk(name: str, usage: Any = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}] if delta or finish else []
    return {
        "id": name,
        "object": "chat.completion.chunk",
        "created": AT,
        "model": "m",
        "choices": choices,
        "usage": usage,
    }


def test_streams_as_lists_as_text_and_as_lines_are_the_same(tmp_path: Path) -> None:
    """Also where each chunk counts anew, as vLLM's do when asked to."""
    chunks = [
        chunk("a", usage(30, 0), role="assistant", content=""),
        chunk("a", usage(30, 1), content="Par"),
        chunk("a", usage(30, 2), content="is"),
        chunk("a", usage(30, 3), finish="stop"),
    ]
    text = "".join(f"data: {line}\n\n" for line in lines(chunks).splitlines()) + "data: [DONE]\n\n"
    asked = {"model": "m", "messages": [{"role": "user", "content": "Capital?"}]}
    for rows in (
        chunks,
        [{"chunks": chunks}],
        [{"request": asked, "response": text}],
        [{"chunk": one} for one in chunks],
    ):
        _, out = imported(tmp_path, lines(rows))
        assert traffic(out).select("prompt_tokens", "visible_tokens", "status").rows() == [(30, 3, "ok")]


def test_ids_that_start_anew_are_other_calls(tmp_path: Path) -> None:
    stream = [chunk("0", role="assistant", content="a"), chunk("0", usage(5, 2), finish="stop")]
    audit, _ = imported(tmp_path, lines([*stream, *stream, *stream]))
    assert audit.read == 3


def test_what_cannot_be_one_request_is_left_out(tmp_path: Path) -> None:
    two = chat(1, usage(10, 8))
    two["choices"] = [*two["choices"], {**two["choices"][0], "index": 1}]
    embedding = {"object": "list", "data": [{"object": "embedding"}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    asked = {"request": {"messages": [{"role": "user", "content": "lost"}]}, "response": None}
    broken = [chat(2, usage(10, 4), finish=None), chat(3, None), chat(4, usage(7, 2))]
    audit, out = imported(tmp_path, lines([two, embedding, asked, *broken]) + '{"id": "chatcmpl-9", "cho')
    assert left(audit) == {
        "several answers to one prompt, whose tokens are counted together": 1,
        "a request without its response": 1,
        "the last line is cut off": 1,
        "no count of prompt tokens": 1,
    }
    assert traffic(out).select("prompt_tokens", "visible_tokens", "status").rows() == [(10, 4, "partial"), (7, 2, "ok")]


def test_counts_in_other_places(tmp_path: Path) -> None:
    """Top-level cached tokens (Moonshot), top-level reasoning tokens (SGLang), written ones (OpenRouter), none (vLLM)."""
    rows = [
        chat(1, usage(100, 9, cached_tokens=60)),
        chat(2, usage(100, 50, reasoning_tokens=40, prompt_tokens_details={"cached_tokens": 32})),
        chat(3, usage(100, 9, prompt_tokens_details={"cached_tokens": 10, "cache_write_tokens": 80})),
        chat(4, usage(100, 9, prompt_tokens_details=None)),
    ]
    rows[3]["choices"][0]["error"] = {"code": 502, "message": "upstream"}  # as OpenRouter says it
    _, out = imported(tmp_path, lines(rows))
    assert traffic(out).select(*COUNTS, "status").rows() == [
        (100, 60, 0, 9, "ok"),
        (100, 32, 40, 10, "ok"),
        (100, 10, 0, 9, "ok"),
        (100, None, 0, 9, "failed"),
    ]


def test_a_response_twice_and_a_response_as_text(tmp_path: Path) -> None:
    packed = {"request_body": "{}", "response_body": lines([chat(1, usage(10, 5))]).strip()}
    audit, out = imported(tmp_path, lines([chat(1, usage(10, 5)), packed, chat(2, usage(20, 5))]))
    assert traffic(out)["prompt_tokens"].to_list() == [10, 20]
    assert sum(left(audit).values()) == 1


def test_times_of_the_log_have_the_unit_they_have(tmp_path: Path) -> None:
    pairs = [{"timestamp": at, "response": chat(1 + k, usage(5, 5))} for k, at in enumerate((0, 1500, 3000))]
    audit, _ = imported(tmp_path, lines(pairs))
    assert any("--time-unit" in one for one in audit.questions)  # `created` is in seconds, these are in anything
    _, out = imported(tmp_path, lines(pairs), time_unit="ms")
    assert traffic(out)["arrival_s"].to_list() == [0, 1.5, 3]


def test_responses(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "openai-responses/responses.jsonl")
    assert (audit.read, audit.answered, audit.failed) == (4, 2, 1)
    assert left(audit) == {"not finished when it was logged": 1}
    assert understood(audit, "reasoning tokens") == ["a part of the output tokens"]
    found = traffic(out).select("arrival_s", *COUNTS, "truncated", "session")
    assert found.rows() == [
        (0, 328, 128, 192, 58, False, "conv_1"),
        (2, 100, 0, 1024, 0, True, None),
        (5, 0, None, 0, 0, None, None),  # failed
    ]


def test_events_of_responses(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "openai-responses/events.jsonl")
    assert (audit.read, audit.answered, audit.partial) == (2, 1, 1)
    assert traffic(out).select(COUNTS).rows() == [(77, 0, 20, 13), (0, None, 0, 0)]


def test_batches_of_responses(tmp_path: Path) -> None:
    audit, out = of_file(tmp_path, "openai-responses/batch_output.jsonl")
    assert (audit.format, traffic(out).select(COUNTS).rows()) == ("openai-responses", [(40, 0, 10, 20)])


class TestChat(ImporterConformance):
    importer = OpenAIChat()
    log = lines([chat(1, usage(10, 5)), {"request": {}, "response": chat(2, usage(20, 5))}])
    calls = 2
