"""Logs of any size: memory stays bounded, an interrupted import goes on, and nothing is written by halves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.importing.helping import imported, lines, traffic
from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing import Scoring, call, import_logs, running, spooling
from ttc_sim.measured.importing import traffic as writing
from ttc_sim.measured.importing.output import OUTPUTS
from ttc_sim.measured.importing.spool import FOLDER
from ttc_sim.measured.provenance import FAST, identify


def many(rows: int, seed: int = 0) -> list[dict[str, object]]:
    """Requests in no order, some written twice, some failed."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(0, 1e5, rows).round(4)
    made = [
        {
            "request_id": f"r{k}",
            "timestamp": float(at[k]),
            "prompt_tokens": int(rng.integers(1, 999)),
            "output_tokens": k % 50,
        }
        for k in range(rows)
    ]
    return made + made[:: max(rows // 7, 1)]


def test_parts_and_ranges_of_time_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = lines(many(3000))
    whole_audit, whole = imported(tmp_path, log)
    monkeypatch.setattr(spooling, "_ROWS_AT_ONCE", 97)
    monkeypatch.setattr(writing, "ROWS_AT_ONCE", 211)
    parts_audit, parts = imported(tmp_path, log)
    assert traffic(parts).equals(traffic(whole))
    assert {**parts_audit.as_json(), "files": []} == {**whole_audit.as_json(), "files": []}
    assert traffic(whole)["arrival_s"].is_sorted()
    assert len(traffic(whole)) == 3000


def test_an_interrupted_import_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(lines(many(2000)))
    monkeypatch.setattr(spooling, "_ROWS_AT_ONCE", 100)
    import_logs([log], tmp_path / "whole")
    read: list[int] = []
    as_rows = call.as_rows

    def counted(calls: list[tuple[int, object]], *args: object, **how: object) -> pl.DataFrame:
        if len(read) == 7:
            read.append(0)
            raise KeyboardInterrupt
        read.append(len(calls))
        return as_rows(calls, *args, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(spooling, "as_rows", counted)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        import_logs([log], tmp_path / "parts")
    (kept,) = interrupted.value.__notes__
    assert str(tmp_path / "parts" / FOLDER) in kept
    assert "goes on from there" in kept
    assert not (tmp_path / "parts" / "import.json").exists()
    done = len(read)
    audit = import_logs([log], tmp_path / "parts")
    assert "went on where an interrupted import had left off" in audit.notes
    assert sum(read[done:]) == len(many(2000)) - 700
    assert traffic(tmp_path / "parts").equals(traffic(tmp_path / "whole"))
    assert not (tmp_path / "parts" / FOLDER).exists()


def test_killed_at_any_moment_the_next_one_comes_out_whole(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(lines(many(20_000)))
    import_logs([log], tmp_path / "whole")
    command = [
        sys.executable,
        "-c",
        "from ttc_sim.cli import main; main()",
        "import",
        str(log),
        "--out",
        str(tmp_path / "out"),
    ]
    for wait_s in (1.0, 1.6):
        running_ = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})
        time.sleep(wait_s)
        running_.send_signal(signal.SIGKILL)
        running_.wait()
        there = [name for name in OUTPUTS if (tmp_path / "out" / name).exists()]
        if there:
            break
    if not (tmp_path / "out" / "import.json").exists():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    assert traffic(tmp_path / "out").equals(traffic(tmp_path / "whole"))


def test_a_changed_log_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(lines(many(300)))
    with monkeypatch.context() as patched:
        patched.setattr(running, "understand", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_logs([log], tmp_path / "out")
    assert (tmp_path / "out" / FOLDER).is_dir()
    log.write_text(lines(many(500, seed=1)))
    assert import_logs([log], tmp_path / "out").read == len(many(500))


def test_what_stands_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    graded = [{"problem": k, "prompt_tokens": 9, "output_tokens": 5, "correct": k % 2} for k in range(8)]
    log = tmp_path / "log.jsonl"
    log.write_text(lines(graded))
    import_logs([log], tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("keep")
    log.write_text(lines(many(50)))
    with pytest.raises(
        InputError, match=r"got 'import.json, problems.parquet, attempts.parquet'; expected a folder without them"
    ):
        import_logs([log], tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "attempts.parquet")["correct"].sum() == 4
    import_logs([log], tmp_path / "out", replace=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["import.json", "mine.txt", "traffic.parquet"]


def test_prompts_are_scored_and_forgotten_unless_asked_for(tmp_path: Path) -> None:
    rows = [
        {
            "problem": k,
            "model": "m",
            "prompt": f"secret question {k}",
            "prompt_tokens": 9,
            "output_tokens": 5,
            "correct": k % 2,
            "arrival_s": k,
        }
        for k in range(9)
    ]
    seen: list[str] = []

    def score(prompts: list[str]) -> pl.DataFrame:
        seen.extend(prompts)
        return pl.DataFrame({"difficulty": [len(text) / 100 for text in prompts], "novelty": [0.5] * len(prompts)})

    scoring = Scoring(score, identify(FAST))  # type: ignore[arg-type]
    _, out = imported(tmp_path, lines([*rows, *rows]), scoring=scoring)
    assert sorted(seen) == sorted(str(row["prompt"]) for row in rows)
    assert pl.read_parquet(out / "scores.parquet")["difficulty"].to_list() == pytest.approx([0.17] * 9)
    assert traffic(out)["novelty"].to_list() == [0.5] * len(traffic(out))
    for file in out.iterdir():
        assert b"secret" not in file.read_bytes()
    _, out = imported(tmp_path, lines(rows), keep_prompts=True)
    assert pl.read_parquet(out / "problems.parquet")["prompt"][3] == "secret question 3"
    assert traffic(out)["prompt"][3] == "secret question 3"


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """The peak of four times the log is not much above that of the log."""
    code = (
        "import sys, resource; from ttc_sim.measured.importing import import_logs; import_logs([sys.argv[1]], sys.argv[2]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    text = "x" * 2000
    for rows in (20_000, 80_000):
        log = tmp_path / f"{rows}.jsonl"
        with log.open("w") as file:
            for k in range(rows):
                file.write(
                    json.dumps({"timestamp": k / 7, "prompt": text, "prompt_tokens": 500, "output_tokens": k % 97})
                    + "\n"
                )
        done = subprocess.run(
            [sys.executable, "-c", code, str(log), str(tmp_path / f"{rows}")],
            check=True,
            capture_output=True,
            text=True,
        )
        peaks.append(int(done.stdout) / 1000)
        log.unlink()
    assert peaks[1] < peaks[0] + 120  # MB, of 160 and 40 MB of logs
