"""Several logs at a time, of which some have what others lack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from tests.importing.helping import left, lines
from ttc_sim.measured.importing import Scoring, import_logs
from ttc_sim.measured.provenance import ScoredBy


def test_logs_with_and_without_prompts_are_scored_together(tmp_path: Path) -> None:
    """Only those with a prompt can be; the others are requests all the same, whichever comes first."""

    def score(prompts: Sequence[str]) -> pl.DataFrame:
        return pl.DataFrame({"difficulty": [len(prompt) / 10 for prompt in prompts]})

    usage = {"prompt_tokens": 9, "completion_tokens": 4}
    bare = {"id": "b", "object": "chat.completion", "created": 1764064801, "model": "m", "usage": usage,
            "choices": [{"index": 0, "message": {}, "finish_reason": "stop"}]}  # fmt: skip
    asked = {"request": {"messages": [{"role": "user", "content": "Why?"}]}, "response": {**bare, "id": "a"}}
    for number, order in enumerate(((bare, asked), (asked, bare))):
        folder = tmp_path / str(number)
        folder.mkdir()
        for k, row in enumerate(order):
            (folder / f"{k}.jsonl").write_text(lines([row]))
        out = tmp_path / f"out-{number}"
        import_logs([folder], out, scoring=Scoring(score, ScoredBy("mine", "0" * 64)))
        found = pl.read_parquet(out / "traffic.parquet")["difficulty"].to_list()
        assert sorted(found, key=str) == [0.4, None]


def test_what_a_line_that_is_left_out_says_stands_in_the_audit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp,prompt_tokens,output_tokens\n1,2,3\n4,5\n6,7,8\n")
    audit = import_logs([tmp_path / "a.csv"], tmp_path / "out")
    assert left(audit) == {"2 fields where the first line has 3": 1}
    assert audit.left_out["2 fields where the first line has 3"].first == "row 2: 4,5"
