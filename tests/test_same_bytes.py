"""The same command gives the same bytes, whatever the number of threads and processors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from ttc_sim.base.threads import one_thread

ROOT = Path(__file__).resolve().parents[1]

# Long enough for linear algebra to be divided among threads.
COMMANDS = """
import sys
from pathlib import Path
from typer.testing import CliRunner
from ttc_sim.cli import app
lines = (
    "simulate qa-gateway --no-baselines --requests 12000 --replications 2 --json simulated.json --records records.csv",
    "simulate qa-gateway --requests 3000 --replications 1 --policy Utility(price_of_accuracy=0.01) --json utility.json",
    "evaluate mmlu-pro/llama-3.1-8b-instruct --strategy MajorityVote(n=3) --json evaluated.json",
)
for line in lines:
    got = CliRunner().invoke(app, line.split())
    assert got.exit_code == 0, got.output
"""
SETTINGS = (
    {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
    {"OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "4", "POLARS_MAX_THREADS": "4"},
)


def test_the_number_of_threads_changes_no_byte(tmp_path: Path) -> None:
    found = []
    for number, setting in enumerate(SETTINGS):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **setting}
        got = subprocess.run(
            [sys.executable, "-c", COMMANDS], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert got.returncode == 0, got.stderr
        found.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()})
    assert len(found[0]) == 4
    assert found[0] == found[1]


def threads() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_threads_are_as_before_once_the_last_has_left() -> None:
    before = threads()
    inside, leave = threading.Event(), threading.Event()

    @one_thread()
    def stay() -> None:
        inside.set()
        leave.wait(30)

    other = threading.Thread(target=stay)
    with one_thread():
        assert threads() == {1}
        other.start()
        assert inside.wait(30)
    assert threads() == {1}
    leave.set()
    other.join()
    assert threads() == before
    with pytest.raises(RuntimeError, match="work"), one_thread():
        raise RuntimeError("work failed")
    assert threads() == before
