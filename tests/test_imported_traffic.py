"""Traffic as an import leaves it, as a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ttc_sim.base.errors import InputError
from ttc_sim.scenario import Trace
from ttc_sim.workload import Traffic, generate

BLOCKS = [[1, 2, 3, 4], [1, 2, 9], [7], [1, 2, 3, 4, 5], [7, 8], []]


def replayed(folder: Path, requests: int | None = None, **columns: Any) -> Traffic:
    """Traffic of these columns; those that are not given are those of six answered requests."""
    rows = len(next(iter(columns.values()), BLOCKS))
    base: dict[str, Any] = {
        "arrival_s": [1.5 * k for k in range(rows)],
        "prompt_tokens": [5000] * rows,
        "reasoning_tokens": [3] * rows,
        "visible_tokens": [10 + k for k in range(rows)],
        "status": ["ok"] * rows,
    }
    file = folder / f"{len(list(folder.iterdir()))}.parquet"
    table = pl.DataFrame({name: values for name, values in {**base, **columns}.items() if values is not None})
    table.write_parquet(file)
    trace = Trace(process="trace", file=file.name, format="traffic")
    return generate(trace, requests or rows, 1, folder=folder, where="test.yaml")


def test_times_and_tokens_are_those_of_the_table(tmp_path: Path) -> None:
    found = replayed(tmp_path, reasoning_tokens=[0, 7, 0], visible_tokens=[5, 0, 9], prompt_tokens=[1, 2, 3])
    assert found.arrival_s.tolist() == [0.0, 1.5, 3.0]
    assert found.prefix_id is None
    assert found.prompt_tokens is not None
    assert found.prompt_tokens.tolist() == [1, 2, 3]
    assert found.reasoning_tokens is not None
    assert found.visible_tokens is not None
    assert found.reasoning_tokens.tolist() == [0, 7, 0]
    assert found.visible_tokens.tolist() == [5, 0, 9]
    assert found.notes == ()


@pytest.mark.parametrize("tokens", [0, 4])
def test_failed_requests_come_and_are_served_like_the_answered_one_before(tmp_path: Path, tokens: int) -> None:
    found = replayed(
        tmp_path, status=["ok", "failed", "partial"], visible_tokens=[5, tokens, 9], reasoning_tokens=[1, 0, 0]
    )
    assert found.visible_tokens is not None
    assert found.visible_tokens.tolist() == [5, 5, 9]
    said = " ".join(found.notes)
    assert "1 of 3 rows" in said
    assert "1 of 3 rows of 0.parquet are partial" in said
    assert ("1 failed rows" in said) == (tokens > 0)


def test_what_failed_before_its_prompt_was_counted_asks_like_the_answered_one_before(tmp_path: Path) -> None:
    """Not like a prompt of one token; one that was counted is its own, and of an answered one nothing is borrowed."""
    failed: dict[str, Any] = {"status": ["failed", "ok", "failed", "failed", "ok"], "visible_tokens": [0, 5, 0, 0, 9]}
    asked = [0, 700, 0, 80, 0]
    found = replayed(tmp_path, prompt_tokens=asked, reasoning_tokens=[0] * 5, **failed)
    assert found.prompt_tokens is not None
    assert found.visible_tokens is not None
    assert found.prompt_tokens.tolist() == [700, 700, 700, 80, 1]
    assert found.visible_tokens.tolist() == [5, 5, 5, 5, 9]
    said = " ".join(found.notes)
    assert "3 of 5 rows of 0.parquet have no output tokens" in said
    assert "2 of them have no prompt tokens either: they ask as much as that one" in said
    assert "1 of 5 rows of 0.parquet have no prompt tokens: one is counted" in said
    ids = [[], [1, 2], [], [1, 2], []]
    shared = replayed(tmp_path, prompt_tokens=asked, hash_ids=ids, block_tokens=[300] * 5, **failed)
    assert shared.prefix_tokens is not None
    assert shared.prefix_tokens.tolist() == [0, 600, 0, 80, 0]  # nothing says what an uncounted prompt began with
    whole = replayed(tmp_path, prompt_tokens=[9, 700, 9, 80, 9], **failed)
    assert "no prompt tokens" not in " ".join(whole.notes)


def test_what_has_no_effect_is_said(tmp_path: Path) -> None:
    found = replayed(tmp_path, cached_tokens=[4000, None], session=["a", "a"], latency_s=[1.0, 2.0])
    assert found.notes == (
        "0.parquet: cached_tokens, session, latency_s are of the log, and have no effect on a trace",
    )
    assert found.prefix_id is None


KINDS: dict[str, list[Any]] = {
    "small": BLOCKS,
    "64 bits, unsigned": [[2**64 - 1 - one for one in ids] for ids in BLOCKS],
    "signed": [[-one * 10**15 for one in ids] for ids in BLOCKS],
    "text": [[f"block {one}" for one in ids] for ids in BLOCKS],
    "null for none": [ids or None for ids in BLOCKS],
}


@pytest.mark.parametrize("kind", KINDS)
def test_hash_ids_share_what_the_same_mooncake_trace_shares(tmp_path: Path, kind: str) -> None:
    inner = pl.UInt64 if kind.startswith("64") else pl.String if kind == "text" else pl.Int64
    ids = pl.Series(KINDS[kind], dtype=pl.List(inner))
    found = replayed(tmp_path, hash_ids=ids, block_tokens=[None if one is None else 512 for one in KINDS[kind]])
    (tmp_path / "same").mkdir()
    pl.DataFrame(
        {
            "timestamp": [1500 * k for k in range(len(BLOCKS))],
            "input_length": 5000,
            "output_length": 9,
            "hash_ids": BLOCKS,
        }
    ).write_ndjson(tmp_path / "same" / "m.jsonl")
    trace = Trace(process="trace", file="m.jsonl", format="mooncake")
    same = generate(trace, len(BLOCKS), 1, folder=tmp_path / "same", where="test.yaml")
    assert same.prefix_id is not None
    assert same.prefix_tokens is not None
    assert found.prefix_id is not None
    assert found.prefix_tokens is not None
    assert found.prefix_id.tolist() == same.prefix_id.tolist()
    assert found.prefix_tokens.tolist() == same.prefix_tokens.tolist()
    # By hand: 1 2 begins three prompts, of which two go on with 3 4; what one alone goes on with is no prefix.
    for one in (found, same):
        assert one.prefixes is not None
        assert one.prefixes.parent.tolist() == [-1, 0, -1]
        assert one.prefixes.start.tolist() == [0, 1024, 0]
    assert found.prefix_id.tolist() == [1, 0, 2, 1, 2, -1]
    assert (found.prefix_tokens / 512).tolist() == [4, 2, 1, 4, 1, 0]


def test_blocks_of_other_sizes_are_others(tmp_path: Path) -> None:
    one = replayed(tmp_path, hash_ids=[[1, 2], [1, 2], [1, 2]], block_tokens=[16, 512, 16])
    assert one.prefix_id is not None
    assert one.prefix_tokens is not None
    assert one.prefix_id.tolist() == [0, -1, 0]
    assert one.prefix_tokens.tolist() == [32, 0, 32]
    short = replayed(tmp_path, hash_ids=[[1, 2], [1, 2]], block_tokens=[512, 512], prompt_tokens=[600, 600])
    assert short.prefix_tokens is not None
    assert short.prefix_tokens.tolist() == [600, 600]


@pytest.mark.parametrize("ids", [pl.Series([[], []], dtype=pl.List(pl.Int64)), pl.Series([None, None]), [[], []]])
def test_no_ids_share_nothing(tmp_path: Path, ids: Any) -> None:
    found = replayed(tmp_path, hash_ids=ids, block_tokens=pl.Series([None, None], dtype=pl.Int64))
    assert found.prefix_id is not None
    assert found.prefix_id.tolist() == [-1, -1]
    assert found.prefix_tokens is not None
    assert not np.any(found.prefix_tokens)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"hash_ids": [[1], [1]]}, "column for block_tokens"),
        ({"hash_ids": [[1], [1]], "block_tokens": [512, None]}, "column block_tokens, row 2"),
        ({"hash_ids": [[1], [1]], "block_tokens": [512, 0]}, "column block_tokens, row 2: .* at least 1"),
        ({"hash_ids": [[1], [1]], "block_tokens": pl.Series(["512", "16"], dtype=pl.Categorical)}, "block_tokens: got"),
        ({"hash_ids": [[1], [1]], "block_tokens": pl.Series([b"1", b"2"])}, "block_tokens: .* whole numbers"),
        ({"hash_ids": [[1], [1, None]], "block_tokens": [512, 512]}, "column hash_ids, row 2: .* an id for each block"),
        ({"hash_ids": [1, 2], "block_tokens": [512, 512]}, "a list of block ids"),
        ({"status": ["ok", "error"]}, "column status, row 2: got 'error'; expected one of failed, ok, partial"),
        ({"status": ["failed", "failed"]}, "0 in every row"),
        ({"arrival_s": [1.0, 0.5]}, "times in order"),
        ({"status": ["ok"], "visible_tokens": None}, "visible_tokens"),
    ],
)
def test_what_is_no_traffic_is_refused(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        replayed(tmp_path, **columns)


def test_a_mooncake_block_without_an_id_is_refused(tmp_path: Path) -> None:
    """Two blocks that nothing is known of are not one."""
    (tmp_path / "m.jsonl").write_text(
        '{"timestamp": 0, "input_length": 9, "output_length": 1, "hash_ids": [1, null]}\n' * 2
    )
    trace = Trace(process="trace", file="m.jsonl", format="mooncake")
    with pytest.raises(InputError, match="column hash_ids, row 1: got None"):
        generate(trace, 2, 1, folder=tmp_path, where="test.yaml")
