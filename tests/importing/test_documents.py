"""Documents that are read in a stream, whatever their size: the same as read at once."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.importing.helping import imported, lines, traffic
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing import json_records
from ttc_sim.measured.importing.call import COUNTS, Call, as_rows
from ttc_sim.measured.importing.documents import DAMAGED, Column, Lenient, nested, runs
from ttc_sim.measured.importing.formats import genai_perf, guidellm
from ttc_sim.measured.importing.opening import look_at
from ttc_sim.measured.importing.reading import Left
from ttc_sim.measured.importing.traffic import Arrivals

LOGS = Path(__file__).parent / "logs"
TYPED = {"text", "answer_text", "thinking_text", "hash_ids", "left_out", "status", "block_tokens"}
COLUMNS: dict[str, Column] = {"plain": "values", "lists": "sums", "texts": "marks"}


def anything(rng: random.Random, depth: int = 0) -> Any:
    """Some value of JSON."""
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind == 6:
        return [anything(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {f"k{k}": anything(rng, depth + 1) for k in range(rng.randrange(4))}
    return [None, True, rng.randrange(9), rng.random(), 'NaN, "x" [1] {', "", -1, 2.5][kind]


def test_columns_in_a_stream_are_what_json_has(tmp_path: Path) -> None:
    """Random runs, one after the other or in an array, against reading them at once."""
    rng = random.Random(5)
    for number in range(60):
        made = []
        for _ in range(rng.randrange(1, 4)):
            n = rng.randrange(4)
            run = {f"o{k}": anything(rng) for k in range(rng.randrange(5))}
            run["plain"] = [rng.choice([1, 2.5, "x", None]) for _ in range(n)]
            run["lists"] = [[rng.randrange(9) / 4 for _ in range(rng.randrange(5))] for _ in range(n)]
            run["texts"] = [rng.choice(["", "wrong", "0"]) for _ in range(n)]
            run["end"] = number
            made.append(run)
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(made) if number % 2 else lines(made))
        found = list(runs(look_at(path), COLUMNS, lambda _: None))
        assert len(found) == len(made)
        for one, run in zip(found, made, strict=True):
            assert isinstance(one, dict)
            assert one["plain"] == run["plain"]
            assert one["lists"] == [sum(values) for values in run["lists"]]
            assert one["texts"] == [bool(text) for text in run["texts"]]
            assert one["end"] == number


def test_a_stream_cut_off_anywhere_gives_what_stood_before(tmp_path: Path) -> None:
    text = lines([{"plain": [1, 2], "lists": [[1], [2, 3]]}, {"plain": [3], "lists": [[4]]}])
    first = len(text.splitlines()[0])
    path = tmp_path / "log.json"
    for end in range(1, len(text) - 1):
        path.write_text(text[:end])
        found = list(runs(look_at(path), COLUMNS, lambda _: None))
        assert [one.why for one in found if isinstance(one, Left)] in ([DAMAGED], [])
        assert sum(isinstance(one, dict) for one in found) == (end >= first)


def test_no_numbers_become_null_wherever_a_block_ends() -> None:
    for space in range(65_520, 65_545):
        text = '{"a":' + " " * space + '-Infinity, "b": NaN, "c": Infinity, "d": "\xff"}'
        assert json.loads(io.BufferedReader(Lenient(io.BytesIO(text.encode("latin-1")))).read()) == {
            "a": None,
            "b": None,
            "c": None,
            "d": "\ufffd",
        }


def test_nested_records_go_with_what_stands_beside_them(tmp_path: Path) -> None:
    document = {
        "groups": [{"name": "a", "rows": [{"n": 1}, {"n": [{"n": 2}]}]}, {"rows": [{"n": 3}]}],
        "rows": [{"n": 9}],
    }
    path = tmp_path / "log.json"
    path.write_text(json.dumps(document))
    found = list(
        nested(look_at(path), ("groups.item.rows.item",), "groups.item", ("groups.item.name",), lambda _: None)
    )
    assert [
        (one["record"]["n"], one["number"], list(one["kept"].values())) for one in found if isinstance(one, dict)
    ] == [
        (1, 1, ["a"]),
        ([{"n": 2}], 1, ["a"]),
        (3, 2, []),
    ]


@pytest.mark.parametrize(
    "name", ["vllm-bench/detailed.json", "guidellm/benchmarks.json", "genai-perf/profile_export.json"]
)
def test_a_document_too_large_to_be_read_at_once_is_recognised(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (LOGS / name).read_bytes()
    _, small = imported(tmp_path, content, "log.json")
    monkeypatch.setenv("TTC_SIM_MAX_LINE_MB", "0.0005")
    monkeypatch.setattr(json_records, "_WHOLE", 500)
    monkeypatch.setattr(guidellm, "_FOR_SAMPLE", 10_000)
    monkeypatch.setattr(genai_perf, "_FOR_SAMPLE", 10_000)
    audit, large = imported(tmp_path, content, "log.json")
    assert audit.format == name.split("/")[0]
    assert traffic(large).equals(traffic(small))


@pytest.mark.parametrize("text", ['{"a": ', '[{"input_lens": [1', '{"benchmarks": [{"requests": '])
def test_what_is_cut_off_before_anything_can_be_known_is_refused_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="damaged or cut off"):
        imported(tmp_path, text)


def test_a_number_of_a_turn_that_no_table_holds_is_none(tmp_path: Path) -> None:
    rows = [{"timestamp": k, "input_length": 9, "output_length": 5, "turn": 10**30 if k else 1} for k in range(2)]
    _, out = imported(tmp_path, lines(rows))
    assert traffic(out)["turn"].to_list() == [1, None]


def test_rows_made_together_are_rows_made_one_by_one() -> None:
    """Whatever stands in the fields of others: columns never mix."""
    rng = random.Random(8)
    odd: list[Any] = [
        None,
        "",
        "many",
        -1,
        1e308,
        float("nan"),
        True,
        [],
        {},
        10**12,
        "1,234",
        "7.5",
        "n/a",
        5,
        12.0,
        "\ud800x",
        "0012",
    ]
    calls = []
    for number in range(1, 301):
        named: dict[str, Any] = {
            one: rng.choice(odd) for one in Call.__dataclass_fields__ if one not in TYPED and rng.random() < 0.4
        }
        typed: dict[str, Any] = {
            "text": rng.choice([None, None, "a b 12"]),
            "answer_text": rng.choice([None, "one two", "<think>three</think> four"]),
            "thinking_text": rng.choice([None, None, "five six"]),
            "hash_ids": rng.choice([None, [1, "a", 2**64, -3]]),
            "left_out": rng.choice([None] * 9 + ["why"]),
        }
        calls.append((number, Call(**named, **typed, status=rng.choice(["ok", "failed"]), block_tokens=16)))
    together = as_rows(calls, 3)
    assert together.equals(pl.concat([as_rows([one], 3) for one in calls]))
    left = together.filter(pl.col("left_out").is_not_null())
    assert 0 < len(left) < len(together)
    assert left.select(pl.col(*COUNTS, "at", "key", "text").is_not_null().any()).row(0) == (False,) * (len(COUNTS) + 3)


def test_ranges_of_time_hold_about_as_many_whatever_the_parts() -> None:
    rng = random.Random(4)
    sizes = [40_000, *[rng.randrange(1, 400) for _ in range(60)]]
    parts = [np.array([rng.expovariate(0.1) + 5 * k for _ in range(size)]) for k, size in enumerate(sizes)]
    found = Arrivals()
    for part in parts:
        found.add(part)
    every = np.concatenate(parts)
    assert (len(found), found.first, found.last) == (len(every), every.min(), every.max())
    held = np.histogram(every, [*found.edges(20), np.inf])[0]
    assert held.sum() == len(every)
    assert held.max() < 1.3 * len(every) / 20
    same = Arrivals()
    same.add(np.full(1000, 7.0))
    assert same.edges(5).tolist() == [7.0]


def test_counts_that_are_mostly_one_number_are_said(tmp_path: Path) -> None:
    rows = [{"timestamp": k, "input_length": 512 if k % 20 else k + 1, "output_length": k + 1} for k in range(400)]
    audit, _ = imported(tmp_path, lines(rows))
    assert audit.made_up == ["prompt tokens are the same in 95% of 400 rows"]
    few = [{**row, "input_length": 512 if k % 5 else k + 1} for k, row in enumerate(rows)]
    assert imported(tmp_path, lines(few))[0].made_up == []
