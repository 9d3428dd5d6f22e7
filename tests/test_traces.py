"""Recorded traces: times, tokens and shared prefixes as they stand in files of many kinds, and what is refused by row."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.scenario import Columns, Trace, scenario_from_dict
from ttc_sim.simulation.result import Result, simulate
from ttc_sim.workload import Traffic, generate
from ttc_sim.workload.prefixes import shared_prefixes

COLUMNS = {"arrival": "t", "prompt_tokens": "p", "output_tokens": "o"}
POOL = {
    "kind": "gpu_pool",
    "replicas": 1,
    "usd_per_replica_hour": 2.5,
    "max_num_seqs": 64,
    "max_num_batched_tokens": 8192,
    "step_time": {"base_s": 0.02, "per_prefill_token_s": 1e-4, "per_sequence_s": 0.0, "per_kv_token_s": 0.0},
}


def replayed(folder: Path, rows: list[dict[str, Any]], requests: int | None = None, **trace: Any) -> Traffic:
    """A trace of these rows, in a file whose name is new each time."""
    file = folder / f"{len(list(folder.iterdir()))}.{'jsonl' if trace.get('format') == 'mooncake' else 'parquet'}"
    table = pl.DataFrame(rows)
    table.write_ndjson(file) if file.suffix == ".jsonl" else table.write_parquet(file)
    said = {"process": "trace", "file": str(file), "format": "csv", **trace}
    if said["format"] == "csv":
        said["columns"] = Columns.model_validate({**COLUMNS, **trace.get("columns", {})})
    return generate(Trace.model_validate(said), requests or len(rows), 1, folder=folder, where="test.yaml")


def row(t: Any = 0.0, p: Any = 10, o: Any = 5, **more: Any) -> dict[str, Any]:
    return {"t": t, "p": p, "o": o, **more}


@pytest.mark.parametrize("column", ["p", "o", "r"])
@pytest.mark.parametrize("count", [3_000_000_000, 2**53 + 1, 10**19, 1e19, float("inf"), float("nan"), -1, 2.5, None])
def test_counts_that_cannot_be_are_refused_by_row(tmp_path: Path, column: str, count: Any) -> None:
    rows = [row(0.0, r=1), row(1.0, r=1)]
    rows[1][column] = count
    with pytest.raises(InputError, match=rf"column {column}, row 2: got .*; expected a whole number of tokens"):
        replayed(tmp_path, rows, columns={"reasoning_tokens": "r"})


def test_the_most_tokens_are_simulated_and_billed(tmp_path: Path) -> None:
    """At the limit, with as many requests as a server holds, no sum wraps around."""
    rows = [row(float(k), MOST_TOKENS, MOST_TOKENS) for k in range(30)]
    pl.DataFrame(rows).write_parquet(tmp_path / "big.parquet")
    price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}
    times = {"first_token": {"median_s": 1.0}, "per_token": {"median_s": 1e-6}}
    found = simulated(
        tmp_path, "big.parquet", 30, {"kind": "api", "price": price, **times}, format="csv", columns=COLUMNS
    )
    summary = found.summary()
    assert summary.cost_usd_per_request.value == pytest.approx(MOST_TOKENS * 3e-6)
    assert summary.tokens_per_request["output"].value == MOST_TOKENS
    assert found.runs[0].visible_tokens.sum() == 30 * MOST_TOKENS


def simulated(folder: Path, file: str, requests: int, place: dict[str, Any], **trace: Any) -> Result:
    return simulate(
        scenario_from_dict(
            {
                "name": "trace",
                "replications": 1,
                "workload": {"arrivals": {"process": "trace", "file": file, **trace}, "requests": requests},
                "deployments": {"place": place},
                "arms": {"only": {"deployment": "place"}},
                "policy": "Always('only')",
            },
            str(folder / "scenario.yaml"),
        )
    )


@pytest.mark.parametrize(("unit", "scale"), [("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_epochs_are_read_in_the_unit_that_they_are_said_to_be_in(tmp_path: Path, unit: str, scale: float) -> None:
    times = [round((1_795_511_702.5 + 0.5 * k) * scale) for k in range(8)]
    rows = [row(t) for t in times]
    found = replayed(tmp_path, rows, columns={"unit": unit})
    assert found.arrival_s == pytest.approx(0.5 * np.arange(8), abs=1e-3)
    assert found.rate_per_s == pytest.approx(2.0, rel=1e-3)
    hint = f"these can only be {unit} since 1970, which 'unit: {unit}'"
    with pytest.raises(InputError, match=f"column t, row 1: got {times[0]}; expected seconds; {hint}"):
        replayed(tmp_path, rows)


def test_dates_of_a_table_are_times(tmp_path: Path) -> None:
    start = datetime.datetime(2026, 11, 24, 23, 59, 58)
    rows = [row(start + datetime.timedelta(seconds=1.5 * k)) for k in range(3)]
    assert replayed(tmp_path, rows).arrival_s == pytest.approx([0.0, 1.5, 3.0])


@pytest.mark.parametrize(
    ("texts", "seconds"),
    [
        (["24/11/2026 10:00", "24/11/2026 10:01", "01/12/2026 00:00"], [0, 60, 6 * 86400 + 14 * 3600]),
        (["11/24/2026 10:00 AM", "11/24/2026 12:30 PM", "12/01/2026 12:00 AM"], [0, 9000, 6 * 86400 + 14 * 3600]),
        (
            ["03/04/2026 10:00:00.5", "03/04/2026 10:00:01"],
            [0, 0.5],
        ),  # one day: its place in the year tells nothing here
        (["03.04.2026 10:00", "04.04.2026 10:00"], [0, 86400]),
        (["2026-10-25T02:30:00+02:00", "2026-10-25T02:10:00+01:00"], [0, 2400]),  # clocks were set back
        (["2026-11-24 10:00:00", "2026-11-24T10:00:01Z"], [0, 1]),
    ],
)
def test_dates_are_read_as_people_write_them(tmp_path: Path, texts: list[str], seconds: list[float]) -> None:
    found = replayed(tmp_path, [row(text) for text in texts])
    np.testing.assert_allclose(found.arrival_s, seconds, atol=1e-9)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (
            ["03/04/2026 10:00", "05/04/2026 10:00"],
            "row 1: got '03/04/2026 10:00'; expected dates that tell the day from",
        ),
        (["24/11/2026 10:00", "11/25/2026 10:00"], "both days and months above 12"),
        (["2026-11-24 10:00", "soon"], "row 2: got 'soon'"),
        (["2026-11-24 10:00", "2026-13-45 10:00"], "row 2: got nan"),
        ([None, "2026-11-24 10:00"], "row 1: got nan"),
        ([None, datetime.datetime(2026, 11, 24)], "row 1: got nan"),
    ],
)
def test_dates_that_cannot_be_told_are_refused(tmp_path: Path, texts: list[Any], says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        replayed(tmp_path, [row(text) for text in texts])


def test_rows_of_one_time_are_not_repeated_without_a_rate(tmp_path: Path) -> None:
    for rows in ([row(7.0)], [row(7.0), row(7.0), row(7.0)]):
        assert replayed(tmp_path, rows).arrival_s.tolist() == [0.0] * len(rows)
        with pytest.raises(InputError, match=f"requests: got 9; expected at most {len(rows)}, the trace's rows"):
            replayed(tmp_path, rows, 9)
        again = replayed(tmp_path, rows, 9, rate_per_s=2.0)
        assert again.arrival_s == pytest.approx(np.arange(9) // len(rows) * len(rows) / 2.0)


def test_reasoning_is_inside_the_output_or_beside_it_as_is_said(tmp_path: Path) -> None:
    rows = [row(0.0, 10, 100, r=40), row(1.0, 10, 1, r=400), row(2.0, 10, 0, r=7), row(3.0, 10, 0, r=0)]
    with pytest.raises(InputError, match=r"column r, row 2: got 400; expected at most o, 1, .*'visible_tokens: o'"):
        replayed(tmp_path, rows, columns={"reasoning_tokens": "r"})
    beside = replayed(tmp_path, rows, columns={"reasoning_tokens": "r", "output_tokens": None, "visible_tokens": "o"})
    assert beside.reasoning_tokens is not None
    assert beside.visible_tokens is not None
    assert beside.reasoning_tokens.tolist() == [40, 400, 7, 7]  # the last one failed
    assert beside.visible_tokens.tolist() == [100, 1, 0, 0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"columns": {"arrival": "t", "output_tokens": "o", "visible_tokens": "o"}}, "not both"),
        ({"columns": {"arrival": "t", "reasoning_tokens": "o"}}, "beside reasoning_tokens"),
        ({"format": "azure"}, "no columns"),
    ],
)
def test_columns_that_would_not_be_read_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        simulated(tmp_path, "t.csv", 5, POOL, **{"format": "csv", "columns": COLUMNS, **change})


# ------------------------------------------------------------------------------------------------ shared prefixes


TREES = st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=14)


def _alike(one: list[int], other: list[int]) -> int:
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def in_common(tree: PrefixTree, one: tuple[int, int], other: tuple[int, int]) -> int:
    """Tokens that two prompts begin with alike, as the tree has it; each is its node and its tokens of that."""
    (a, a_tokens), (b, b_tokens) = one, other
    paths = [*tree.path(a), -1], [*tree.path(b), -1]
    parts = next(k for k, (x, y) in enumerate(zip(*paths, strict=False)) if x != y or x < 0)
    ends = [
        tokens if path[parts] < 0 else int(tree.start[path[parts]])
        for path, tokens in zip(paths, (a_tokens, b_tokens), strict=True)
    ]
    return min(ends) if parts else 0


def findable(blocks: list[list[int]]) -> int:
    """Blocks that a cache of everything finds."""
    seen: set[tuple[int, ...]] = set()
    total = 0
    for ids in blocks:
        heads = [tuple(ids[: k + 1]) for k in range(len(ids))]
        total += sum(head in seen for head in heads)
        seen.update(heads)
    return total


@given(TREES)
@settings(max_examples=300, deadline=None)
def test_any_two_prompts_have_in_common_what_their_ids_say(blocks: list[list[int]]) -> None:
    tree, prefix, tokens = shared_prefixes(blocks, np.full(len(blocks), 512))
    tree.check()
    alike = [[_alike(one, other) for other in blocks] for one in blocks]
    prompts = list(zip(prefix.tolist(), tokens.tolist(), strict=True))
    for i, one in enumerate(prompts):
        others = [alike[i][j] for j in range(len(blocks)) if j != i]
        assert one[1] == 512 * max(others, default=0)
        assert (one[0] < 0) == (one[1] == 0)
        for j in range(i):
            assert in_common(tree, one, prompts[j]) == 512 * alike[i][j]
    # Stretches are used whole: all that are at a node end where its children begin.
    for node in range(len(tree)):
        ends = {*tokens[prefix == node].tolist(), *tree.start[tree.parent == node].tolist()}
        assert len(ends) == 1


def test_ids_of_any_kind_are_told_apart() -> None:
    blocks = [[7, 8, 9], [7, 8], [7, 9], [9, 8], []]
    expected = shared_prefixes(blocks, np.full(5, 16))
    for rename in (lambda one: 2**64 - one, lambda one: f"block {one}", lambda one: (one, "x"), lambda one: -one):
        renamed = shared_prefixes([[rename(one) for one in ids] for ids in blocks], np.full(5, 16))
        assert renamed[0].parent.tolist() == expected[0].parent.tolist()
        assert renamed[0].start.tolist() == expected[0].start.tolist()
        assert renamed[1].tolist() == expected[1].tolist()


def mooncake(folder: Path, blocks: list[Any], tokens: int = 2048, **more: Any) -> str:
    rows = [
        {
            "timestamp": 40_000 * k,
            "input_length": tokens,
            "output_length": 2,
            **({} if ids is None else {"hash_ids": ids}),
            **more,
        }
        for k, ids in enumerate(blocks)
    ]
    file = folder / f"{len(list(folder.iterdir()))}.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return file.name


@pytest.mark.parametrize(
    ("blocks", "cached"),
    [
        ([[0, 1, 2, 3], [0, 4, 5, 6], [0, 7, 8, 9]], 2 * 512),  # one block in common is one block in common
        ([[k, 10**6 * k, 2**63 - 1 - k, 7] for k in range(5)] * 2, 5 * 2047 // 16 * 16),
        ([[k] * 4 for k in range(5)], 0),
        ([[], [], []], 0),
        ([None, None], 0),
        ([[1, 2], None, [1, 2]], 1024),
        ([["a", "b", "c", "d"], ["a", "b", "x", "d"]], 1024),
    ],
)
def test_no_more_of_a_prompt_is_found_in_the_cache_than_was_sent(
    tmp_path: Path, blocks: list[Any], cached: int
) -> None:
    run = simulated(tmp_path, mooncake(tmp_path, blocks), len(blocks), POOL, format="mooncake").runs[0]
    assert run.result.cached_tokens[0].sum() == pytest.approx(cached, abs=16 * len(blocks))
    seconds = run.result.finished_s - run.result.arrival_s
    prefilled = 2048 * len(blocks) - run.result.cached_tokens[0].sum()
    assert seconds.sum() == pytest.approx(len(blocks) * 2 * 0.02 + 1e-4 * prefilled, rel=0.01)


def test_a_pass_over_the_trace_repeats_no_prompt(tmp_path: Path) -> None:
    file = mooncake(tmp_path, [[1, 2, 3, 4], [5, 6, 7, 8]])
    run = simulated(tmp_path, file, 10, POOL, format="mooncake").runs[0]
    assert run.result.cached_tokens[0].sum() == 0


def test_ids_that_are_no_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column hash_ids: got 'Int64'; expected a list of block ids"):
        simulated(tmp_path, mooncake(tmp_path, [None], hash_ids=4), 1, POOL, format="mooncake")


def test_the_recorded_conversations_find_all_that_they_sent_before_and_no_more(shared: Path, tmp_path: Path) -> None:
    """A server of endless memory; 37.4% is what the ids allow. Of a prompt that was sent before, the last token is computed."""
    file = shared / "traces" / "mooncake_conversation.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    prompt = np.array([one["input_length"] for one in rows])
    sent: set[int] = set()
    again = []
    for one in rows:
        again.append(next((k for k, block in enumerate(one["hash_ids"]) if block not in sent), len(one["hash_ids"])))
        sent.update(one["hash_ids"])
    allowed = np.minimum(512 * np.array(again), prompt)
    assert allowed.sum() / prompt.sum() == pytest.approx(0.374, abs=0.0005)
    shares = {}
    given: dict[str, dict[str, int]] = {"endless": {}, "small": {"kv_cache_tokens": 1_000_000}}
    for name, memory in given.items():
        run = simulated(tmp_path, str(file), len(rows), {**POOL, **memory}, format="mooncake").runs[0]
        cached = run.result.cached_tokens[0]
        assert (cached <= allowed).all()
        shares[name] = cached.sum() / prompt.sum()
        if not memory:
            assert cached.tolist() == (np.minimum(allowed, prompt - 1) // 16 * 16).tolist()
    assert 0.01 < shares["small"] < 0.8 * shares["endless"]


def test_no_word_of_a_traces_own_lengths_where_problems_have_theirs(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("t,o\n0,5\n1,0\n2,7\n")
    trace = {"process": "trace", "file": "t.csv", "format": "csv", "columns": {"arrival": "t", "output_tokens": "o"}}
    price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0}
    raw = {
        "name": "failed",
        "replications": 1,
        "workload": {"arrivals": trace, "requests": 3, "sources": {"q": {"problem_set": "mmlu-pro"}}},
        "deployments": {
            "web": {"kind": "api", "price": price, "first_token": {"median_s": 1.0}, "per_token": {"median_s": 0.02}}
        },
        "arms": {"only": {"profile": "mmlu-pro/phi-3-mini-4k-instruct", "deployment": "web"}},
        "policy": "Always('only')",
    }
    notes = ttc.simulate(scenario_from_dict(raw, str(tmp_path / "s.yaml"))).summary().notes
    assert not any("failed requests" in note for note in notes)
