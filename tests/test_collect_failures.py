"""A server process that turns away, fails, stops half-way and hangs, runs that are killed, and the dollars of all that."""

from __future__ import annotations

import datetime
import email.utils
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import ttc_sim as ttc
from tests.endpoints import IN, KEY, OUT, PRICE, ROOT, Server, line_of, many, process, prompts, run, server, worst
from ttc_sim.collecting import plan_collecting, running
from ttc_sim.collecting.asking import _asked_to_wait
from ttc_sim.collecting.budget import Budget, prompt_bound
from ttc_sim.serving.prices import LongPrompts, TokenPrices

__all__ = ["process", "server"]


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


def test_what_has_no_limit_may_have_cost_anything(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, {"say": "x", "first": [500]})
    assert run(server, file, **PRICE).maybe_usd == float("inf")
    with pytest.raises(ttc.InputError, match="--endpoint-limit-tokens") as caught:
        run(server, file, caps=[5], budget_usd=1.0, **PRICE)
    line_of(caught)
    found = run(server, file, caps=[5], budget_usd=1.0, endpoint_limit_tokens=100, **PRICE)
    assert found.maybe_usd == pytest.approx(worst(file, 100)[0])


def test_a_prompt_in_a_dearer_tier_is_reserved_for_at_its_price() -> None:
    prices = TokenPrices(1e-6, 1e-7, 2e-6, 3e-6, "x", (LongPrompts(1000, 4e-6, 1e-6, 5e-6, 5e-6),))
    budget = Budget(1.0, prices, None)
    assert budget.worst_usd(1000, 10) == pytest.approx(1000 * 1e-6 + 10 * 3e-6)
    assert budget.worst_usd(1001, 10) == pytest.approx(1001 * 4e-6 + 10 * 5e-6)
    assert budget.worst_usd(10, None) == float("inf")


def test_an_attempt_that_fails_for_good_is_missing_and_said(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, {"say": "x"}, {"say": "x", "first": ["hang"] * 9}, {"say": "y", "first": [400]})
    found = run(server, file, timeout_s=0.8, concurrency=1)
    assert server.requests().most_common()[0][1] == 2  # tries of what hangs, not five
    assert found.table["problem"].to_list() == ["p0"]
    assert not found.complete
    reasons = list(found.failures)
    assert found.failures == dict.fromkeys(reasons, 1)
    assert any("within 0.8 s" in reason for reason in reasons)
    assert any("status 400" in reason for reason in reasons)
    assert not any("\x1b" in reason for reason in reasons)
    # The same call asks for them again, and for nothing else.
    again = run(server, file, timeout_s=0.8, concurrency=1, retries=0)
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
    with pytest.raises(ttc.InputError, match=r"cannot be reached.*TLS") as caught:
        run(
            server,
            prompts(tmp_path, {"say": "x"}),
            endpoint=server.url.replace("http:", "https:"),
            out=tmp_path / "b.csv",
        )
    line_of(caught)


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
    tokenizer: dict[str, Any] = {"grade": "regex:\\d+", "tokenizer": tmp_path / "tokenizer.json"}
    capped: dict[str, Any] = {"caps": [50], "budget_usd": 1.0, **PRICE, **tokenizer}
    with pytest.raises(ttc.InputError, match="--endpoint-limit-tokens"):
        run(server, file, **capped)
    found = run(server, file, endpoint_limit_tokens=100, **capped)
    assert found.complete
    assert found.earlier == 0  # of another cap
    found = run(server, file, **tokenizer)
    assert found.earlier == 1
    assert found.table.select("reasoning_tokens", "visible_tokens").rows() == [(6, 3)] * 3
    assert all("tokenizer" in said for said in found.table["tokens_from"])
    assert set(server.requests().values()) == {2}
    # With a count of the whole, it tells the visible part.
    file = prompts(tmp_path, {"say": "it is 3", "think": 6, "how": "content"})
    found = run(server, file, tokenizer=tmp_path / "tokenizer.json", out=tmp_path / "c.csv")
    assert found.table.select("reasoning_tokens", "visible_tokens").rows() == [(6, 3)]


def in_a_process(server: Server, file: Path, **options: Any) -> subprocess.Popen[str]:
    given = {
        "endpoint": server.url,
        "model": "m",
        "out": str(file.parent / "out.parquet"),
        "no_budget": True,
        **options,
    }
    code = (
        "import sys, json, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # where the tests run in the background
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
    until = time.monotonic() + 60
    while len(server.asked()) < requests:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_run_goes_on_and_nothing_is_paid_twice(server: Server, tmp_path: Path) -> None:
    file = prompts(tmp_path, *many(16, pause=0.2))
    options = {"caps": [20], "budget_usd": 0.05, "concurrency": 4, **PRICE}
    killed = in_a_process(server, file, caps=[20], concurrency=4)  # dollars can be counted later
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
    stopped = in_a_process(server, file, caps=[20], concurrency=3)
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
    left = in_a_process(server, file, caps=[20])
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
