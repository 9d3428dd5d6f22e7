"""``ttc-sim collect`` against a server process that streams, turns away, fails, stops half-way, hangs and talks nonsense."""

from __future__ import annotations

import datetime
import email.utils
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import ttc_sim as ttc
from ttc_sim import cli
from ttc_sim.collecting import Collected, collect, grading, patterns, plan_collecting, running
from ttc_sim.collecting.answers import Answer, NonsenseError, count_tokens, read_usage
from ttc_sim.collecting.asking import _asked_to_wait
from ttc_sim.collecting.budget import Budget, prompt_bound
from ttc_sim.collecting.journal import Journal, read_journal
from ttc_sim.collecting.patterns import Pattern
from ttc_sim.measured.building import build_profile
from ttc_sim.serving.prices import LongPrompts, TokenPrices

ROOT = Path(__file__).resolve().parents[1]
KEY = "sk-secret-of-the-test"
IN, OUT = 1.0, 10.0  # US dollars per million tokens
PRICE: dict[str, Any] = {"input_usd_per_mtok": IN, "output_usd_per_mtok": OUT}


class Server:
    """A server process, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "endpoint_server.py"), str(folder)], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def asked(self) -> list[dict[str, Any]]:
        file = self.folder / "asked.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def requests(self) -> Counter[str]:
        """How often each prompt was asked."""
        return Counter(line["prompt"] for line in self.asked())

    def bill_usd(self) -> float:
        """What it would charge, failures included."""
        return float(sum(IN * line["prompt_tokens"] + OUT * line["output_tokens"] for line in self.asked())) / 1e6


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def server(process: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The one process; each test has prompts of its own, and so a count of its own."""
    monkeypatch.setattr(running, "FIRST_WAIT_S", 0.03)
    (process.folder / "asked.jsonl").unlink(missing_ok=True)
    return process


def prompts(folder: Path, *rows: dict[str, Any], targets: object = None) -> Path:
    """A table of prompts that tell the server how to answer; ``n`` makes them differ between tests too."""
    file = folder / "prompts.jsonl"
    lines = [
        {"problem": f"p{k}", "prompt": json.dumps({"n": f"{folder.name}/{k}", **row}), "target": f"{k}"}
        for k, row in enumerate(rows)
    ]
    if isinstance(targets, list):
        lines = [{**line, "target": target} for line, target in zip(lines, targets, strict=True)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def many(count: int, **row: Any) -> list[dict[str, Any]]:
    return [{"say": f"it is {k}", "think": 3 + k % 4, **row} for k in range(count)]


def run(server: Server, file: Path, **options: Any) -> Collected:
    given = {"endpoint": server.url, "model": "m", "out": file.parent / "out.parquet", "no_budget": True, **options}
    if "budget_usd" in given:
        del given["no_budget"]
    return collect(file, **given)


def line_of(error: pytest.ExceptionInfo[ttc.InputError]) -> str:
    said = str(error.value)
    assert len(said.splitlines()) == 1
    assert "\x1b" not in said
    return said


# ------------------------------------------------------------------------------------------------- what is measured


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


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_the_table_is_what_profiles_are_built_from(server: Server, tmp_path: Path, ending: str) -> None:
    file = prompts(tmp_path, *many(3))
    out = tmp_path / f"out.{ending}"
    run(server, file, samples=2, caps=[4, None], grade="regex:\\d+", out=out)
    table = ttc_table(out)
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


def ttc_table(path: Path) -> pl.DataFrame:
    from ttc_sim.files.tables import read_table

    return read_table(path)


def test_times_are_those_of_the_stream(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, {"say": "a b c d", "think": 4, "pause": 0.8, "first": [429], "wait": "0.5"})
    start = time.monotonic()
    row = run(server, file).table.row(0, named=True)
    took_s = time.monotonic() - start
    assert row["tries"] == 2
    assert 0.1 <= row["first_token_s"] < row["first_visible_s"] - 0.2
    assert 0.5 <= row["first_visible_s"] < row["latency_s"] - 0.2
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
    assert max(line["at_once"] for line in asked) > 2
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


# -------------------------------------------------------------------------------------------- what goes wrong, and dollars


def test_what_fails_is_tried_again_and_what_it_may_have_cost_is_counted(server: Server, tmp_path: Path) -> None:
    troubles: list[list[Any]] = [[], [429], [503], [500], ["cut"], ["end"], ["error"], [500, 429, "cut"]]
    rows = [{"say": f"it is {k}", "think": 5, "first": first} for k, first in enumerate(troubles)]
    file = prompts(tmp_path, *rows)
    found = run(server, file, caps=[20], budget_usd=1.0, grade="regex:\\d+", **PRICE)
    assert found.complete
    assert found.accuracy == 1.0
    assert found.asked == len(server.asked()) == 8 + 9
    assert found.table["tries"].to_list() == [1 + len(first) for first in troubles]
    # By hand: 8 answers of 8 tokens, and at their worst what came to nothing but was not turned away.
    asked = [line["prompt"] for line in pl.read_ndjson(file).iter_rows(named=True)]
    prompt = sum(len(text.split()) for text in asked)
    assert found.spent_usd == pytest.approx((IN * prompt + OUT * 8 * 8) / 1e6)
    failed = [text for text, first in zip(asked, troubles, strict=True) for one in first if one not in (429, 503)]
    assert found.maybe_usd == pytest.approx(sum(IN * prompt_bound(text) + OUT * 20 for text in failed) / 1e6)
    assert server.bill_usd() <= found.spent_usd + found.maybe_usd  # type: ignore[operator]
    again = run(server, file, caps=[20], budget_usd=1.0, grade="regex:\\d+", **PRICE)
    assert again.asked == 0
    assert again.spent_usd == pytest.approx(found.spent_usd)
    assert again.maybe_usd == pytest.approx(found.maybe_usd)
    assert_frame_equal(again.table, found.table)


def test_the_endpoint_is_given_the_time_it_asks_for(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, {"say": "x", "first": [429], "wait": "0.7"}, *many(5))
    start = time.monotonic()
    found = run(server, file, concurrency=1)
    assert found.complete
    assert time.monotonic() - start >= 0.7
    for wait, problem in (("3600", "asks to wait 3,600 s"), ("nonsense", None)):
        folder = tmp_path / wait
        folder.mkdir()
        file = prompts(folder, {"say": "x", "first": [429], "wait": wait})
        if problem is None:
            assert run(server, file).complete
            continue
        with pytest.raises(ttc.InputError, match=problem) as caught:
            run(server, file)
        line_of(caught)


def test_what_is_turned_away_has_not_failed(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = prompts(tmp_path, {"say": "x", "first": [429] * 6, "wait": "0"})
    assert run(server, file, retries=0).table["tries"].to_list() == [7]
    monkeypatch.setattr(running, "MOST_ASKED_WAIT_S", 0.3)
    file = prompts(tmp_path, {"say": "y", "first": [503] * 1000, "wait": "0"})
    with pytest.raises(ttc.InputError, match=r"status 503.*for 0 s") as caught:
        run(server, file, out=tmp_path / "b.csv")
    line_of(caught)
    assert 2 <= len(server.asked()) - 7 < 100


def test_waits_are_read_in_all_their_forms() -> None:
    def wait(**headers: str) -> float | None:
        return _asked_to_wait(httpx2.Headers({name.replace("_", "-"): value for name, value in headers.items()}))

    assert wait(retry_after="2") == 2.0
    assert wait(retry_after_ms="250", retry_after="9") == 0.25
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    assert 27 < (wait(retry_after=email.utils.format_datetime(soon, usegmt=True)) or 0) <= 30
    assert wait(retry_after="Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    for odd in ("", "-1", "nan", "inf", "soon", "Wed, 21 Oct 2015 07:28:00", "1e400"):
        assert wait(retry_after=odd) is None, odd


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_budget_holds(server: Server, tmp_path: Path, concurrency: int) -> None:
    rows = [
        {
            "say": f"it is {k}",
            "think": 20 + 5 * (k % 3),
            "pause": 0.01,
            "first": [[], ["cut"], [500], [429]][k % 4],
            "wait": "0",
        }
        for k in range(8)
    ]
    file = prompts(tmp_path, *rows)
    limit = 0.0125
    options = {"samples": 2, "caps": [30, None], "endpoint_limit_tokens": 60, "concurrency": concurrency, **PRICE}
    found = run(server, file, budget_usd=limit, **options)
    assert found.budget_spent
    assert not found.complete
    assert 5 < len(found.table) < 32
    assert found.spent_usd is not None
    assert found.maybe_usd is not None
    assert found.spent_usd + found.maybe_usd <= limit
    assert server.bill_usd() <= limit
    # The next request at its worst would not have fitted: nothing is left unused.
    assert found.spent_usd + found.maybe_usd + max(one for one in worst(file, 60)) > limit
    # First samples come first: what a budget is enough for covers the problems alike.
    counts = found.table.filter(pl.col("attempt") == 0).group_by("problem").len()["len"]
    assert counts.max() == 2
    for _ in range(
        3
    ):  # a smaller request may still fit, once nothing else is on its way; the limit holds over all runs
        found = run(server, file, budget_usd=limit, **options)
        assert found.asked <= 3
        assert found.spent_usd + found.maybe_usd <= limit  # type: ignore[operator]
        assert server.bill_usd() <= limit
    whole = run(server, file, budget_usd=1.0, **options)
    assert whole.complete
    assert whole.earlier == len(found.table)
    # Every attempt was answered once, besides what was turned away or failed.
    good = Counter(line["prompt"] for line in server.asked() if line["trouble"] is None)
    assert set(good.values()) == {4}
    assert server.bill_usd() <= whole.spent_usd + whole.maybe_usd  # type: ignore[operator]


def worst(file: Path, cap: int) -> list[float]:
    return [(IN * prompt_bound(text) + OUT * cap) / 1e6 for text in pl.read_ndjson(file)["prompt"]]


def test_a_prompt_in_a_dearer_tier_is_reserved_for_at_its_price() -> None:
    prices = TokenPrices(1e-6, 1e-7, 2e-6, 3e-6, "x", (LongPrompts(1000, 4e-6, 1e-6, 5e-6, 5e-6),))
    budget = Budget(1.0, prices, None)
    assert budget.worst_usd(1000, 10) == pytest.approx(1000 * 1e-6 + 10 * 3e-6)
    assert budget.worst_usd(1001, 10) == pytest.approx(1001 * 4e-6 + 10 * 5e-6)
    assert budget.worst_usd(10, None) == float("inf")


def test_an_attempt_that_fails_for_good_is_missing_and_said(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, {"say": "x"}, {"say": "x", "first": ["hang"] * 9}, {"say": "y", "first": [400]})
    found = run(server, file, timeout_s=0.4, concurrency=1)
    assert server.requests().most_common()[0][1] == 2  # tries of what hangs, not five
    assert found.table["problem"].to_list() == ["p0"]
    assert not found.complete
    reasons = list(found.failures)
    assert found.failures == dict.fromkeys(reasons, 1)
    assert any("within 0.4 s" in reason for reason in reasons)
    assert any("status 400" in reason for reason in reasons)
    assert not any("\x1b" in reason for reason in reasons)
    # The same call asks for them again, and for nothing else.
    again = run(server, file, timeout_s=0.4, concurrency=1, retries=0)
    assert again.table["problem"].to_list() == ["p0", "p2"]
    assert server.requests().most_common()[-1][1] == 1


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("html", "text/html"),
        ("json", "application/json"),
        ("nonsense", "no JSON at all"),
        (401, "status 401"),
        (400, "status 400"),
        (302, "redirects to '127.0.0.1:9'"),
    ],
)
def test_what_is_no_endpoint_is_one_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: object, says: str
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    file = prompts(tmp_path, *({"say": "x", "first": [trouble] * 9} for _ in range(6)))
    with pytest.raises(ttc.InputError) as caught:
        run(server, file, key_env="MY_KEY", concurrency=2)
    said = line_of(caught)
    assert says in said
    assert KEY not in said
    assert len(server.asked()) <= 2  # not the others too
    # Once it has answered, what one request comes to is no word on the others.
    file = prompts(
        tmp_path, {"say": "x", "n": "good"}, {"say": "y", "n": "bad", "first": [trouble]}, {"say": "z", "n": "last"}
    )
    if trouble in ("html", "json", "nonsense"):
        found = run(server, file, out=tmp_path / "other.parquet", concurrency=1)
        assert found.table["tries"].to_list() == [1, 2, 1]


def test_a_server_that_is_gone_is_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ttc.InputError, match="cannot be reached") as caught:
        run(server, prompts(tmp_path, {"say": "x"}), endpoint="http://127.0.0.1:9/v1")
    assert "refused" in line_of(caught)


def test_a_server_that_breaks_down_is_left_alone(server: Server, tmp_path: Path) -> None:
    """Not every one of its thousand attempts is tried to the end."""
    file = prompts(tmp_path, {"say": "x"}, *({"say": "y", "first": [500] * 9} for _ in range(60)))
    with pytest.raises(ttc.InputError, match="10 attempts failed in a row") as caught:
        run(server, file, retries=1, concurrency=4)
    line_of(caught)
    assert len(server.asked()) < 40


def test_a_cap_that_is_ignored_ends_it(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, *({"say": "x", "think": 100, "how": "ignores cap"} for _ in range(20)))
    with pytest.raises(ttc.InputError, match="--cap-field max_completion_tokens") as caught:
        run(server, file, caps=[10], concurrency=2, budget_usd=5.0, **PRICE)
    line_of(caught)
    asked = len(server.asked())
    assert asked <= 4
    # What was answered is no answer under a cap, and is not taken for one later.
    with pytest.raises(ttc.InputError, match="--cap-field max_completion_tokens"):
        run(server, file, caps=[10], concurrency=2, budget_usd=5.0, **PRICE)
    assert len(server.asked()) == asked
    with pytest.raises(ttc.InputError, match="larger --endpoint-limit-tokens"):
        run(server, file, budget_usd=5.0, endpoint_limit_tokens=50, out=tmp_path / "c.csv", **PRICE)
    assert {"max_tokens", "stream_options"} <= set(server.asked()[0]["keys"])
    file = prompts(tmp_path, {"say": "x y z"})
    run(server, file, caps=[2], cap_field="max_completion_tokens", out=tmp_path / "b.csv")
    assert "max_completion_tokens" in server.asked()[-1]["keys"]
    assert "max_tokens" not in server.asked()[-1]["keys"]


def test_what_counts_no_tokens_is_refused_or_counted_here(server: Server, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    file = prompts(tmp_path, *({"say": "it is 3", "think": 6, "how": "no usage"} for _ in range(3)))
    with pytest.raises(ttc.InputError, match="--tokenizer"):
        run(server, file, concurrency=1, grade="regex:\\d+")
    assert len(server.asked()) == 1
    with pytest.raises(ttc.InputError, match="--tokenizer") as caught:
        run(server, file, grade="regex:\\d+")
    line_of(caught)
    found = run(
        server,
        file,
        grade="regex:\\d+",
        tokenizer=tmp_path / "tokenizer.json",
        budget_usd=1.0,
        caps=[50, None][:1],
        **PRICE,
    )
    assert found.earlier == 0  # of another cap
    found = run(server, file, grade="regex:\\d+", tokenizer=tmp_path / "tokenizer.json")
    assert found.earlier == 1
    assert found.table.select("reasoning_tokens", "visible_tokens").rows() == [(6, 3)] * 3
    assert all("tokenizer" in said for said in found.table["tokens_from"])
    assert set(server.requests().values()) == {2}
    # With a count of the whole, it tells the visible part.
    file = prompts(tmp_path, {"say": "it is 3", "think": 6, "how": "content"})
    found = run(server, file, tokenizer=tmp_path / "tokenizer.json", out=tmp_path / "c.csv")
    assert found.table.select("reasoning_tokens", "visible_tokens").rows() == [(6, 3)]


# ------------------------------------------------------------------------------------------------- interrupted


def in_a_process(server: Server, file: Path, **options: Any) -> subprocess.Popen[str]:
    given = {"endpoint": server.url, "model": "m", "out": str(file.parent / "out.parquet"), **PRICE, **options}
    code = (
        "import sys, json\n"
        "from ttc_sim.collecting import collect\n"
        "try:\n"
        "    collect(sys.argv[1], progress=lambda line: print(line, flush=True), **json.loads(sys.argv[2]))\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(file), json.dumps(given)], env=environment, stdout=subprocess.PIPE, text=True
    )


def wait_for(server: Server, requests: int) -> None:
    until = time.monotonic() + 20
    while len(server.asked()) < requests:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_run_goes_on_and_nothing_is_paid_twice(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, *many(16, pause=0.2))
    options = {"caps": [20], "budget_usd": 0.05, "concurrency": 4, **PRICE}
    killed = in_a_process(server, file, **options)
    wait_for(server, 7)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    journal = file.parent / "out.parquet.journal"
    lines = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]
    done = {tuple(line["done"]) for line in lines if "done" in line}
    open_ = {tuple(line["sent"]) for line in lines if "sent" in line} - done
    assert done
    assert open_
    with journal.open("a") as torn:
        torn.write('{"done":["p15",20,0],"prom')
    texts = dict(pl.read_ndjson(file).select("problem", "prompt").iter_rows())
    found = run(server, file, **options)
    assert found.complete
    assert found.earlier == len(done)
    asked = server.requests()
    assert all(asked[texts[problem]] == 1 for problem, _, _ in done)
    assert sum(asked.values()) <= 16 + len(open_)
    # What was on its way may be on the bill.
    sent_for = sum(IN * prompt_bound(texts[problem]) + OUT * 20 for problem, _, _ in open_) / 1e6
    assert found.maybe_usd == pytest.approx(sent_for)
    assert server.bill_usd() <= found.spent_usd + found.maybe_usd  # type: ignore[operator]
    assert found.table["problem"].to_list() == list(texts)


def test_ctrl_c_waits_for_what_is_on_its_way(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, *many(9, pause=0.3))
    options = {"caps": [20], "budget_usd": 0.05, "concurrency": 3, **PRICE}
    stopped = in_a_process(server, file, **options)
    wait_for(server, 3)
    stopped.send_signal(signal.SIGINT)
    out, _ = stopped.communicate(timeout=30)
    assert stopped.returncode == 130
    assert "Ctrl-C again" in out
    assert len(server.asked()) < 9
    found = run(server, file, **options)
    assert found.complete
    assert found.earlier >= 3
    assert found.maybe_usd == 0
    assert set(server.requests().values()) == {1}


def test_ctrl_c_again_leaves_it_and_counts_it(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, *many(3, pause=60))
    options = {"caps": [20], "budget_usd": 0.05, **PRICE}
    left = in_a_process(server, file, **options)
    wait_for(server, 3)
    left.send_signal(signal.SIGINT)
    assert left.stdout is not None
    while "Ctrl-C again" not in left.stdout.readline():
        assert left.poll() is None
    start = time.monotonic()
    left.send_signal(signal.SIGINT)
    left.communicate(timeout=30)
    assert left.returncode == 130
    assert time.monotonic() - start < 30
    planned = plan_collecting(file, endpoint=server.url, model="m", out=tmp_path / "out.parquet", **options).dry_run()
    assert planned.held_usd == pytest.approx(sum(worst(file, 20)))
    assert planned.requests == 3


# ------------------------------------------------------------------------------------------------- grading


def test_exact_is_the_same_text_or_the_same_number(server: Server, tmp_path: Path) -> None:
    says = ["42", " 42.0 ", "it is 42", "x" * 300, ""]
    for k, (targets, right) in enumerate(
        (([42] * 5, [True, True, False, False, False]), (["42"] * 5, [True, False, False, False, False]))
    ):
        file = prompts(tmp_path, *({"say": say, "n": f"{k}{say}"} for say in says), targets=targets)
        found = run(server, file, grade="exact", out=tmp_path / f"{k}.csv")
        assert found.table["correct"].to_list() == right
        answers = found.table["answer"].to_list()
        assert answers[1] == ("42" if k == 0 else "42.0")  # as the target is written, where it is right
        assert re.fullmatch("sha256:[0-9a-f]{16}", answers[3])
        assert answers[4] is None


def test_a_pattern_finds_its_last_match() -> None:
    for pattern, text, found in (
        (r"\d+", "1 and 23, then 456.", "456"),
        (r"\\boxed\{(.*?)\}", r"\boxed{1} or \boxed{x+1}", "x+1"),
        (r"A: (\w+)|B: (\w+)", "A: one B: two", "two"),
        (r"(?im)^answer:\s*(.*)$", "Answer: no\nANSWER: été\n", "été"),
        (r"zzz", "none of it", None),
        (r"(?<=is )\S+", "it is\nnot, it is \U0001f642\n", "\U0001f642"),
    ):
        with Pattern(pattern, "--grade") as one:
            assert one.last(text) == found
            assert one.last(text + "\n" * 200_000) == found


def test_a_pattern_that_takes_for_ever_is_ended_and_nothing_is_lost(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "LIMIT_S", 0.4)
    monkeypatch.setattr(grading, "Pattern", lambda pattern, where: Pattern(pattern, where, 0.4))
    file = prompts(tmp_path, *({"say": "a" * 60 + f"!{k}"} for k in range(3)))
    start = time.monotonic()
    with pytest.raises(ttc.InputError, match="nested repetitions") as caught:
        run(server, file, grade="regex:(a+)+$")
    line_of(caught)
    assert time.monotonic() - start < 30
    asked = len(server.asked())
    found = run(server, file, grade="regex:!(\\d)")
    assert found.accuracy == 1.0
    assert set(server.requests().values()) == {1}
    assert found.earlier == asked


def test_an_own_function_grades_with_consent_and_what_it_breaks_is_not_lost(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    file = prompts(tmp_path, *many(4))
    own = tmp_path / "own.py"
    own.write_text("open('ran', 'w')\ndef right(answer, row):\n    return answer.split()[-1] == row['target']\n")
    with pytest.raises(ttc.InputError, match="consent to run code") as caught:
        run(server, file, grade="own.py:right")
    line_of(caught)
    assert not (tmp_path / "ran").exists()
    assert not server.asked()
    assert run(server, file, grade="own.py:right", allow_code=True).accuracy == 1.0
    # Another function, another table: its first mistake ends it, and what was answered stays.
    for body in ("1 / 0", "return 'yes'", "return (1, 2)", "raise SystemExit(0)"):
        own.write_text(f"def right(answer, row):\n    {body}\n")
        with pytest.raises(ttc.InputError, match="problem p") as caught:
            run(server, file, grade="own.py:right", allow_code=True, out=tmp_path / "b.csv", concurrency=1)
        line_of(caught)
        asked = len(server.asked())
    own.write_text("def right(answer, row):\n    return (None if row['problem'] == 'p1' else True), answer[-1]\n")
    found = run(server, file, grade="own.py:right", allow_code=True, out=tmp_path / "b.csv")
    assert found.table["correct"].to_list() == [True, None, True, True]
    assert found.table["answer"].to_list() == ["0", "1", "2", "3"]
    assert len(server.asked()) == 8
    assert found.earlier == asked - 4
    # Once it is graded and no text is kept, it cannot be graded in another way.
    with pytest.raises(ttc.InputError, match="was not kept"):
        run(server, file, grade="none", out=tmp_path / "b.csv")


# ------------------------------------------------------------------------------------------------- keys, files, the command


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
    file = prompts(tmp_path, *many(3), {"say": "x", "first": [500]}, {"say": "y", "pause": 0.3})
    said: list[str] = []
    given: dict[str, Any] = {"endpoint": server.url, "model": "m", "out": tmp_path / "o.csv", "caps": [20], **PRICE}
    plan_collecting(file, budget_usd=1.0, concurrency=2, **given).run(said.append, every_s=0)
    assert any(
        re.fullmatch(r"4 of 5 answers, 1 on their way; \$\S+ spent, .* of \$1.00; about \d+ s left", one)
        for one in said
    )
    assert "0 on their way" not in said[0]


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


# ------------------------------------------------------------------------------------------------- odd streams, odd journals


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
