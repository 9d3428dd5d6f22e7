"""What collecting is given: mistakes of users, odd streams, odd journals."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import ttc_sim as ttc
from tests.endpoints import PRICE, Server, line_of, many, process, prompts, run, server
from ttc_sim import cli
from ttc_sim.collecting import collect
from ttc_sim.collecting.answers import Answer, NonsenseError, count_tokens, read_usage
from ttc_sim.collecting.journal import read_journal

__all__ = ["process", "server"]


def bad(folder: Path, **files: str) -> dict[str, Path]:
    made = {name: folder / f"{name}.csv" for name in files}
    for name, text in files.items():
        made[name].write_text(text)
    return made


FILES = {
    "good": "id,prompt,answer\n1,a,x\n2,b,y\n",
    "empty": "",
    "header": "id,prompt\n",
    "twice": "id,prompt\n1,a\n1,b\n",
    "promptless": "id,answer\n1,a\n",
    "keyless": "text,prompt\na,a\n",
    "blank": "id,prompt\n1,a\n2, \n",
    "half": "id,prompt,answer\n1,a,x\n2,b,\n",
}


@pytest.mark.parametrize(
    ("file", "options", "says"),
    [
        ("empty", {}, ["empty file", "at least one row"]),
        ("header", {}, ["0 rows"]),
        ("twice", {}, ["column id, row 1", "'1'", "each problem in one row"]),
        ("promptless", {}, ["column for prompt", "prompt or question"]),
        ("keyless", {}, ["column for problem"]),
        ("blank", {}, ["column prompt, row 2", "not empty"]),
        ("half", {"grade": "exact"}, ["column answer, row 2", "right answer in every row"]),
        ("good", {"caps": [0]}, ["--caps", "got 0"]),
        ("good", {"caps": [5, 5]}, ["--caps", "each once"]),
        ("good", {"caps": []}, ["--caps", "at least one"]),
        ("good", {"samples": 0}, ["--samples", "got 0"]),
        ("good", {"concurrency": 0}, ["--concurrency"]),
        ("good", {"timeout_s": 0.0}, ["--timeout-s"]),
        ("good", {"no_budget": False}, ["--budget-usd X, or --no-budget"]),
        ("good", {"budget_usd": 1.0, "no_budget": False}, ["--budget-usd", "--price", "--input-usd-per-mtok"]),
        ("good", {"budget_usd": 0.0, "no_budget": False, **PRICE}, ["--budget-usd", "got 0.0"]),
        ("good", {"budget_usd": float("nan"), "no_budget": False, **PRICE}, ["--budget-usd", "nan"]),
        ("good", {"budget_usd": 1.0, **PRICE}, ["either a budget or --no-budget"]),
        ("good", {"budget_usd": 1.0, "no_budget": False, **PRICE}, ["--endpoint-limit-tokens"]),
        ("good", {"budget_usd": 1e-6, "no_budget": False, "caps": [9], **PRICE}, ["--budget-usd", "at least 0.000603"]),
        ("good", {"input_usd_per_mtok": 1.0}, ["both --input-usd-per-mtok and --output-usd-per-mtok"]),
        ("good", {"price": "openai"}, ["PROVIDER/MODEL"]),
        ("good", {"price": "openai/gpt-99-huge"}, ["gpt-99-huge"]),
        ("good", {"price": "nobody/x"}, ["nobody"]),
        ("good", {"endpoint": "127.0.0.1:8000"}, ["--endpoint", "http://HOST"]),
        ("good", {"endpoint": "http://u:sk-1@h/v1"}, ["--key-env"]),
        ("good", {"endpoint": "http://h/v1?key=sk-1"}, ["--key-env"]),
        ("good", {"endpoint": "http://h:99999999/v1"}, ["--endpoint"]),
        ("good", {"endpoint": "http://h\x1b[31m/v1"}, ["--endpoint"]),
        ("good", {"model": " "}, ["--model"]),
        ("good", {"key_env": "NO_SUCH_KEY"}, ["environment: NO_SUCH_KEY"]),
        ("good", {"key_env": "ODD_KEY"}, ["environment: ODD_KEY"]),
        ("good", {"body": {"max_tokens": 5}}, ["--body", "max_tokens"]),
        ("good", {"body": [5]}, ["--body"]),
        ("good", {"body": {"temperature": float("nan")}}, ["--body", "JSON"]),
        ("good", {"body": {"stream_options": {}}}, ["--body", "stream_options"]),
        ("good", {"grade": "fuzzy"}, ["exact, regex:PATTERN"]),
        ("good", {"grade": "regex:("}, ["--grade", "regular expression"]),
        ("good", {"grade": "no.py:f"}, ["existing Python file"]),
        ("good", {"target_column": "gold"}, ["gold"]),
        ("good", {"cap_field": "limit"}, ["max_tokens"]),
        ("good", {"tokenizer": "no.json"}, ["tokenizer.json"]),
        ("good", {"out": "no/such/folder.csv"}, ["existing folder"]),
        ("good", {"out": "out.txt"}, [".parquet"]),
        ("good", {"out": "good.csv"}, ["another file"]),
        ("nowhere", {}, ["nowhere.csv"]),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, options: dict[str, Any], says: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODD_KEY", "sk 1\u00e9")
    bad(tmp_path, **FILES)
    given = {"endpoint": "http://127.0.0.1:9/v1", "model": "m", "out": "out.parquet", "no_budget": True, **options}
    with pytest.raises(ttc.InputError) as caught:
        collect(f"{file}.csv", **given)
    line = line_of(caught)
    for part in says:
        assert part in line, line
    assert "sk-1" not in line
    assert "cannot be reached" not in line
    assert {one.name for one in tmp_path.iterdir()} == {f"{name}.csv" for name in FILES}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--caps", "1024,none,x"], "--caps: got 'x'"),
        (["--caps", "-5"], "--caps: got '-5'"),
        (["--caps", "10", "--body", "{"], "--body"),
        (["--samples", "0"], "--samples"),
        ([], "--no-budget"),
    ],
)
def test_a_mistyped_command_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    bad(tmp_path, **FILES)
    given = [
        "collect",
        "--endpoint",
        "http://127.0.0.1:9/v1",
        "--model",
        "m",
        "--prompts",
        "good.csv",
        "--out",
        "o.csv",
    ]
    monkeypatch.setattr(sys, "argv", ["ttc-sim", *given, *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    _, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert says in err


def test_without_its_package_one_line_says_how_to_get_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(ttc.InputError, match=re.escape("pip install 'ttc-sim[collect]'")):
        run(server, prompts(tmp_path, {"say": "x"}))


def streamed(*events: object) -> Answer:
    answer = Answer()
    for event in events:
        answer.take(event if isinstance(event, str) else json.dumps(event))
    return answer


def delta(reason: str | None = None, **said: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": said, "finish_reason": reason}]}


def test_streams_of_many_servers_are_read() -> None:
    halves = streamed(delta(content="a \ud83d"), delta(content="\ude42"), delta(content="\ud83d!"))
    assert halves.parts() == ("", "a \U0001f642\ufffd!", False)
    both = streamed(delta(reasoning="so", reasoning_content="so", content=None), delta(content="4"))
    assert both.parts() == ("so", "4", False)
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "so"}]}, {"type": "text", "text": "4"}]
    assert streamed(delta(content=parts)).parts() == ("so", "4", False)
    assert streamed(delta(refusal="no")).parts() == ("", "no", False)
    assert streamed(delta(content="thought</think>\n4")).parts() == ("thought", "\n4", True)
    assert streamed(delta(content="\n<think>cut off")).parts() == ("cut off", "", True)
    early = streamed(delta("", content="4"), {"choices": [], "usage": None}, {"choices": None, "usage": {}})
    assert early.finish_reason is None
    assert early.usage is None
    others = {"choices": [{"index": 1, "delta": {"content": "another"}}], "model": "m"}
    assert streamed(others, delta("stop", content="4")).parts()[1] == "4"
    for odd in (
        "",
        "null",
        "[]",
        "3",
        "{",
        '{"id": 1}',
        '{"choices": [3]}',
        '{"choices": [{"delta": 3}]}',
        "[" * 100_000,
    ):
        with pytest.raises(NonsenseError):
            streamed(odd)
    for count in (-1, 1.5, "3", True, 10**12):
        with pytest.raises(NonsenseError):
            streamed({"choices": [], "usage": {"prompt_tokens": count, "completion_tokens": 1}})


@pytest.mark.parametrize(
    ("usage", "thinking", "visible", "tokens"),
    [
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}, "", "x", (4, 5)),
        ({"completion_tokens": 9, "reasoning_tokens": 4}, "", "x", (4, 5)),
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 0}}, "hm", "x", (6, 3)),
        ({"completion_tokens": 9, "completion_tokens_details": None}, "", "x", (0, 9)),
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 0}}, "", "", (0, 9)),
        ({"completion_tokens": 9}, "", "", (9, 0)),
        ({"completion_tokens": 0}, "", "", (0, 0)),
        ({"completion_tokens": 1}, "h" * 99, "x", (0, 1)),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 7}}, "", "x", (7, 5)),
        (
            {"completion_tokens": 9, "total_tokens": 23, "completion_tokens_details": {"reasoning_tokens": 4}},
            "",
            "x",
            (4, 9),
        ),
        (
            {"completion_tokens": 9, "total_tokens": 19, "completion_tokens_details": {"reasoning_tokens": 4}},
            "",
            "x",
            (4, 5),
        ),
    ],
)
def test_output_is_divided_by_what_is_known_of_it(
    usage: dict[str, Any], thinking: str, visible: str, tokens: tuple[int, int]
) -> None:
    cached = {"prompt_tokens_details": {"cached_tokens": 6}}
    read = read_usage({"prompt_tokens": 10, **usage, **cached}, "")
    found = count_tokens(read, thinking, visible, "prompt", None)
    assert found is not None
    assert (found.reasoning, found.visible) == tokens
    assert (found.prompt, found.cached) == (10, 6)


def test_a_journal_that_ends_anywhere_is_read(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, *many(3), {"say": "x", "first": [500]})
    run(server, file, keep_answers=True)
    path = tmp_path / "out.parquet.journal"
    settings = json.loads(path.read_text().splitlines()[0])["settings"]
    assert len(read_journal(path, settings).done) == 4
    sent = {"sent": ["p0", None, 1], "prompt_bound": 600}
    content = path.read_bytes() + "".join(json.dumps(one) + "\n" for one in (sent, sent)).encode()
    first = content.index(b"\n") + 1
    for end in range(first, len(content) + 1, 7):
        path.write_bytes(content[:end])
        past = read_journal(path, settings)
        whole = [json.loads(line) for line in content[:end].split(b"\n")[:-1]]
        assert len(past.done) == sum("done" in line for line in whole)
        assert len(past.lost) == sum("lost" in line or "sent" in line for line in whole)
    for middle in (
        b"null\n",
        b'{"done": 3}\n',
        b'{"done": ["p0", null, 0]}\n',
        b'{"sent": 1}\n',
        content[first:].split(b"\n")[1].replace(b'"tries":1', b'"tries":null') + b"\n",
        content[first:].split(b"\n")[1].replace(b'"visible_tokens"', b'"tokens"') + b"\n",
        content[first:].split(b"\n")[1].replace(b'"by"', b'"of"') + b"\n",
        b"\xff\n",
        b"\n",
        b"\0" * 40 + b"\n",
    ):
        path.write_bytes(content[:first] + middle + content[first:])
        with pytest.raises(ttc.InputError, match="line 2") as caught:
            read_journal(path, settings)
        line_of(caught)
    for beginning in (b"", b"x\n", b"[1]\n", b'{"collect": 2}\n', b'{"collect": 1, "settings": 3}\n'):
        path.write_bytes(beginning + content[first:])
        with pytest.raises(ttc.InputError) as caught:
            read_journal(path, settings)
        line_of(caught)
