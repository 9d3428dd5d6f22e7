"""``ttc-sim collect`` against a server process: what is measured, what it writes, and what stands nowhere."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from polars.testing import assert_frame_equal

import ttc_sim as ttc
from tests.endpoints import KEY, PRICE, ROOT, Server, line_of, many, process, prompts, run, server, worst
from ttc_sim import cli
from ttc_sim.collecting import plan_collecting
from ttc_sim.collecting.journal import Journal
from ttc_sim.collecting.tabulating import COLUMNS, TEXTS
from ttc_sim.files.tables import read_table
from ttc_sim.measured.building import build_profile

__all__ = ["process", "server"]


def test_tokens_are_told_apart_however_they_are_sent(server: Server, tmp_path: Path) -> None:
    hows = ["counted", "hidden", "beside", "content", "reasoning", "tags"]
    file = prompts(tmp_path, *({"say": "the answer is 42", "think": 12, "how": how} for how in hows))
    found = run(server, file, samples=2, caps=[5, None], grade="regex:is (\\d+)")
    table = found.table
    assert found.complete
    assert len(table) == 6 * 2 * 2
    assert table.select("problem", "cap", "attempt").rows() == [
        (f"p{k}", cap, sample) for k in range(6) for cap in ("5", "none") for sample in range(2)
    ]
    whole, cut = (table.filter(pl.col("cap") == cap, pl.col("attempt") == 0) for cap in ("none", "5"))
    # A word is a token: the sum is what the server made, whoever told the parts apart.
    assert (whole["reasoning_tokens"] + whole["visible_tokens"]).to_list() == [16] * 6
    assert whole["reasoning_tokens"][:3].to_list() == [12] * 3
    # 12 times "hm" and 11 spaces beside "the answer is 42": 35 characters and 16.
    assert whole["visible_tokens"][3:].to_list() == [round(16 * 16 / 51)] * 3
    assert cut.select("reasoning_tokens", "visible_tokens").rows() == [(5, 0)] * 6
    assert cut["truncated"].all()
    assert not whole["truncated"].any()
    assert whole["tokens_from"].to_list()[0] == "usage"
    assert all("characters" in said for said in whole["tokens_from"].to_list()[3:])
    assert "</think>" in whole["tokens_from"][5]
    assert whole["answer"].to_list() == ["42"] * 6  # thinking is no part of what is graded
    assert cut["answer"].null_count() == 6
    assert (table["first_token_s"] <= table["latency_s"]).all()
    assert set(table["served_model"]) == {"served-1"}
    assert any("served-1" in note for note in found.notes)
    assert any("share of characters" in note for note in found.notes)
    assert "text" not in table.columns


def test_thinking_that_the_template_opens_is_told_by_its_end_or_by_word(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, {"say": "4", "think": 10, "how": "closing tag"})
    given: dict[str, Any] = {"caps": [6, None], "grade": "regex:hm|4"}
    found = run(server, file, **given)
    assert found.table.select("reasoning_tokens", "visible_tokens", "answer").rows()[0] == (0, 6, "hm")
    assert any("--starts-thinking" in note for note in found.notes)
    known = run(server, file, starts_thinking=True, out=tmp_path / "b.csv", **given)
    assert known.table.select("reasoning_tokens", "visible_tokens", "answer").rows()[0] == (6, 0, None)
    assert not any("--starts-thinking" in note for note in known.notes)
    assert known.table["reasoning_tokens"][1] == found.table["reasoning_tokens"][1] >= 9


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_the_table_is_what_profiles_are_built_from(server: Server, tmp_path: Path, ending: str) -> None:
    file = prompts(tmp_path, *many(3))
    out = tmp_path / f"out.{ending}"
    run(server, file, samples=2, caps=[4, None], grade="regex:\\d+", out=out)
    table = read_table(out)
    card: dict[str, object] = {
        "model": "m",
        "origin": "a test",
        "licence": "internal",
        "date": "2026-11-26",
        "tokenizer": "words",
        "limits": "none",
    }
    rows = table.filter(pl.col("cap").cast(pl.String) == "none")
    profile, said = build_profile(rows, out, "mine", card)
    assert len(profile.attempts) == 6
    assert profile.attempts["reasoning_tokens"].to_list() == [3, 3, 4, 4, 5, 5]
    assert profile.attempts["correct"].all()
    assert "attempt: column attempt" in said
    with pytest.raises(ttc.InputError, match="each attempt of a problem once"):
        build_profile(table, out, "mine", card)  # the caps together are no profile


def test_times_are_those_of_the_stream(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, {"say": "a b c d", "think": 4, "pause": 0.8, "first": [429], "wait": "0.5"})
    start = time.monotonic()
    row = run(server, file).table.row(0, named=True)
    took_s = time.monotonic() - start
    assert row["tries"] == 2
    assert 0.1 <= row["first_token_s"] < row["first_visible_s"]
    assert 0.5 <= row["first_visible_s"] < row["latency_s"]
    assert 0.8 <= row["latency_s"] < took_s - 0.5  # of the answer alone, without the wait before it


def test_results_do_not_depend_on_how_many_at_once(server: Server, tmp_path: Path) -> None:
    tables = []
    for concurrency in (1, 8):
        folder = tmp_path / str(concurrency)
        folder.mkdir()
        file = prompts(folder, *(many(4) + many(3, first=["cut"])), targets=["0", "1", "2", "x", "4", "5", "6"])
        file.write_text(file.read_text().replace(f"{concurrency}/", "same/"))
        found = run(server, file, samples=3, caps=[4, None], seed=7, concurrency=concurrency, grade="regex:\\d+")
        times = ["first_token_s", "first_visible_s", "latency_s", "started_at", "tries"]
        tables.append(found.table.drop(times))
    assert_frame_equal(tables[0], tables[1])
    asked = server.asked()
    assert max(line["at_once"] for line in asked) > 1  # how many, a busy machine decides
    # Each attempt has a seed of its own, the same under each cap and in each run.
    seeds = [{(line["prompt"], line["seed"]) for line in asked if line["cap"] == cap} for cap in (4, None)]
    assert seeds[0] == seeds[1]
    assert len(seeds[0]) == 7 * 3


def test_texts_are_kept_only_if_asked_for(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, {"say": "a quite private answer", "think": 2})
    found = run(server, file, keep_answers=True)
    assert found.table.select("text", "reasoning_text").rows() == [("a quite private answer", "hm hm")]
    assert "private" in found.journal.read_text()
    found = run(server, file)  # asks nothing
    assert "text" not in found.table.columns
    assert "private" not in found.journal.read_text()
    found = run(server, file, keep_answers=True)
    assert any("were not kept" in note for note in found.notes)
    assert len(server.asked()) == 1
    assert found.journal.stat().st_mode & 0o077 == 0


def test_the_key_is_sent_and_stands_nowhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # is not asked
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    home = tmp_path / "home"
    home.mkdir()
    file = prompts(home, *many(2), {"say": "x", "first": [500]}, {"say": "x", "first": [400]})
    words = ["collect", "--endpoint", server.url, "--model", "m", "--prompts", str(file), "--out", str(home / "sub")]
    words += [
        "--no-budget",
        "--key-env",
        "MY_KEY",
        "--json",
        str(home / "f.json"),
        "--concurrency",
        "1",
        "--grade",
        "regex:\\d+",
    ]
    monkeypatch.setattr(sys, "argv", ["ttc-sim", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2  # one failed for good
    out, err = capsys.readouterr()
    assert "3 of 4 answers" in out
    assert "profile build" not in err
    assert {line["auth"] for line in server.asked()} == {f"Bearer {KEY}"}
    files = [one for one in home.rglob("*") if one.is_file()]
    assert {one.name for one in files} == {"prompts.jsonl", "attempts.parquet", "attempts.parquet.journal", "f.json"}
    assert not any(KEY.encode() in one.read_bytes() for one in files)
    assert KEY not in out + err
    assert "\x1b" not in out + err
    figures = json.loads((home / "f.json").read_text())
    assert figures["answers"] == 3
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert list(figures["failures"].values()) == [1]


def test_what_a_server_does_not_know_can_be_left_out(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, {"say": "x"})
    given: dict[str, Any] = {"temperature": 0.5, "stream_options": None}
    stop: dict[str, Any] = {"stop": ("a", "b")}
    for _ in range(2):  # the second asks nothing, and is not taken for another kind of request
        assert run(server, file, body=stop, out=tmp_path / "stop.csv").complete
    run(server, file, body=given, system="Be brief.")
    assert server.asked()[-1]["keys"] == ["messages", "model", "stream", "temperature"]


def test_a_proxy_is_used_where_that_is_asked_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    file = prompts(tmp_path, {"say": "x"})
    assert run(server, file, endpoint="http://models.invalid/v1", env_proxy=True).complete
    assert server.asked()[-1]["path"] == "http://models.invalid/v1/chat/completions"
    with pytest.raises(ttc.InputError, match="cannot be reached"):
        run(server, file, endpoint="http://models.invalid/v1", out=tmp_path / "b.csv")


def test_progress_says_how_far_it_is_and_what_is_spent(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, *many(3), {"say": "x", "first": [500]}, {"say": "y", "pause": 5.0})
    said: list[str] = []
    given: dict[str, Any] = {"endpoint": server.url, "model": "m", "out": tmp_path / "o.csv", "caps": [20], **PRICE}
    plan_collecting(file, budget_usd=1.0, concurrency=2, **given).run(said.append)
    assert any(
        re.fullmatch(r"collecting: 4 of 5 answers; 1 on their way, \$\S+ spent, .* of \$1.00", one) for one in said
    )
    assert [said[0], said[-1].partition(";")[0]] == ["collecting: 0 of 5 answers", "collecting: 5 of 5 answers"]


def test_a_dry_run_says_what_it_could_cost_and_asks_nothing(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, *many(5))
    given: dict[str, Any] = {"endpoint": server.url, "model": "m", "out": tmp_path / "o.csv", "dry": True}
    planned = plan_collecting(file, samples=3, caps=[100, None], endpoint_limit_tokens=1000, **PRICE, **given).dry_run()
    assert planned.requests == 30
    assert planned.by_cap == {"100": 15, "none": 15}
    assert planned.worst_usd == pytest.approx(3 * sum(worst(file, 100) + worst(file, 1000)))
    assert plan_collecting(file, caps=[None], **PRICE, **given).dry_run().worst_usd == float("inf")
    assert plan_collecting(file, caps=[None], **given).dry_run().worst_usd is None
    known = plan_collecting(file, caps=[None], price="openai/gpt-5", **given).dry_run()
    assert known.worst_usd is not None
    assert known.worst_usd > 5 * 400_000 * 10e-6 * 0.99  # its context at 10 dollars a million
    assert not server.asked()
    assert {one.name for one in tmp_path.iterdir()} == {"prompts.jsonl"}


def test_a_journal_is_for_one_run_of_one_kind(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, *many(2))
    run(server, file)
    for changes, says in (
        ({"model": "other"}, "model: got 'other'; expected 'm'"),
        ({"system": "Be brief."}, "system"),
        ({"body": {"temperature": 0}}, "body"),
        ({"seed": 3}, "seed"),
    ):
        with pytest.raises(ttc.InputError, match=re.escape(says)) as caught:
            run(server, file, **changes)
        line_of(caught)
    more = run(server, file, samples=2, caps=[None, 3])
    assert more.earlier == 2
    assert more.asked == 6
    fewer = run(server, file)
    assert len(fewer.table) == 2
    assert run(server, file, samples=2, caps=[None, 3]).asked == 0  # those left out stay paid for
    changed = prompts(tmp_path, {"say": "another"}, *many(1))
    with pytest.raises(ttc.InputError, match="problem p0") as caught:
        run(server, changed)
    line_of(caught)
    journal = tmp_path / "out.parquet.journal"
    held = Journal(journal, {})
    with pytest.raises(ttc.InputError, match="in use"):
        run(server, file)
    held.close()
    journal.write_text("id,correct\n1,1\n")
    with pytest.raises(ttc.InputError, match="journal that this command wrote"):
        run(server, file)
    journal.unlink()
    with pytest.raises(ttc.InputError, match="--out"):
        run(server, file)  # the table is somebody's


def test_the_page_about_it_names_what_there_is() -> None:
    text = (ROOT / "docs" / "collect.md").read_text(encoding="utf-8")
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]  # a group has them
    known = {
        option
        for command in (commands["collect"], commands["profile"].commands["build"])
        for one in command.params
        for option in one.opts
    }
    # Rows are chosen by `profile build --where`.
    assert set(re.findall(r"(?<!\S)`?(--[a-z][a-z-]+)", text)) - {"--where"} <= known
    assert set(re.findall(r"`(\w+)`", text)) >= {*COLUMNS, *TEXTS}


def test_it_can_be_called_where_an_event_loop_runs_already(server: Server, tmp_path: Path) -> None:
    async def as_in_a_notebook() -> bool:
        return run(server, prompts(tmp_path, *many(2))).complete

    assert asyncio.run(as_in_a_notebook())
