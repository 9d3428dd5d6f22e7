"""Beside NVIDIA's replay simulator (``ai-dynamo``, Rust), in one run: ``make bench-peers``.

Both simulate one server and 500 prompt tokens, evenly spaced at 4 requests a second, with 1,000 and with 5,000 output tokens.
Their speed is requests over the time that they themselves report for the simulation, without start-up; so is ours. What each
server can do differs (each keeps its own step times), the number of tokens simulated does not.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.engine import canonical
from ttc_sim.engine import compiled
from ttc_sim.files.writing import write_atomically

INTERVAL_S = 0.25
# Requests of the peer's run, so that it takes a few seconds, and what the issue of speed is about: output tokens.
WORKLOADS = {"canonical": (10_000, 1000), "long_outputs": (2_000, 5000)}


def peer_rate(python: str, requests: int, output_tokens: int) -> float:
    """Requests a second of ``python -m dynamo.replay``."""
    with tempfile.TemporaryDirectory() as folder:
        load = f"--input-tokens 500 --output-tokens {output_tokens} --request-count {requests}"
        arguments = [*load.split(), "--arrival-interval-ms", str(1e3 * INTERVAL_S), "--report-json", f"{folder}/r.json"]
        said = subprocess.run([python, "-m", "dynamo.replay", *arguments], capture_output=True, text=True, check=True)
    found = re.search(r"Wall Time \(ms\): ([\d,.]+)", said.stdout + said.stderr)
    assert found is not None, "the peer does not report its wall time"
    return requests / (float(found.group(1).replace(",", "")) / 1e3)


def our_rate(requests: int, output_tokens: int) -> float:
    """Requests a second of the compiled engine, the better of two runs."""
    work, pools = canonical(requests, output_tokens)
    work.arrival_s[:] = INTERVAL_S * np.arange(requests)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        compiled.run([work], ["server"], pools)
        seconds.append(time.perf_counter() - start)
    return requests / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=".venv-peers/bin/python", help="interpreter that has ai-dynamo")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--requests", type=int, default=1_000_000, help="of our own runs")
    given = parser.parse_args()
    compiled.warm_up()
    table = Table(title="requests simulated a second, one after the other on the same machine")
    for column in ("workload", "ai-dynamo replay", "ttc-sim", "ratio"):
        table.add_column(column, justify="left" if column == "workload" else "right")
    figures = {}
    for name, (requests, tokens) in WORKLOADS.items():
        theirs, ours = peer_rate(given.python, requests, tokens), our_rate(given.requests, tokens)
        figures[name] = {"peer_requests_per_s": theirs, "requests_per_s": ours, "ratio": ours / theirs}
        table.add_row(name, f"{theirs:,.0f}", f"{ours:,.0f}", f"{ours / theirs:,.0f}")
    Console().print(table)
    if given.json is not None:
        write_atomically(given.json, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
