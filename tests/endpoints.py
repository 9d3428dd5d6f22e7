"""A server process that is asked, and tables of prompts that tell it how to answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import ttc_sim as ttc
from ttc_sim.collecting import Collected, collect, running
from ttc_sim.collecting.budget import prompt_bound

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


def worst(file: Path, cap: int) -> list[float]:
    return [(IN * prompt_bound(text) + OUT * cap) / 1e6 for text in pl.read_ndjson(file)["prompt"]]
