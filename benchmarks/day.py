"""A day of production traffic on a pool that scales itself: ``python -m benchmarks.day [--json FILE] [--duration '24 h']``.

DeepSeek-R1's traffic as ServeGen measured it (1.4 million requests), answered by a 32-billion-parameter model on pairs of H100
whose number follows the sequences in progress, recorded by hour: what ``ttc-sim simulate --hours`` does, part by part, on one
thread and after compilation. Processor time is what counts on a machine that does other things too; wall time stands beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from ttc_sim import simulate
from ttc_sim.base.threads import one_thread
from ttc_sim.engine import compiled
from ttc_sim.files.writing import write_atomically
from ttc_sim.scenario import Scenario, scenario_from_dict
from ttc_sim.simulation import result as simulating
from ttc_sim.simulation import running

HOUR_S = 3600.0
# What `simulate` calls: where it looks the name up, the name, and the part that it is counted to.
PARTS = (
    (simulating, "draw", "drawing"),
    (running, "offer", "work"),
    (compiled, "run", "engine"),
    (running, "bill_run", "billing"),
)


def scenario(duration: str = "24 h", **pool: Any) -> Scenario:
    """The day, and the pool that serves it."""
    scaling = {"minimum": 4, "maximum": 60, "target_concurrency": 64}
    server = {
        "kind": "gpu_pool",
        "replicas": 20,
        "model": "Qwen/Qwen2.5-32B-Instruct",
        "gpu": "h100_sxm",
        "tensor_parallel": 2,
        "precision": "bf16",
        "timeout_s": 600,
        "autoscaling": scaling,
        "start_up": {"boot_s": 120, "load_gb_per_s": 2},
        **pool,
    }
    return scenario_from_dict(
        {
            "name": "day",
            "replications": 1,
            "workload": {"arrivals": {"process": "clients", "traffic": "servegen-r1"}, "duration": duration},
            "deployments": {"pool": server},
            "arms": {"r1": {"deployment": "pool"}},
            "policy": "Always('r1')",
        }
    )


class Stopwatch:
    """Seconds of processor and of wall time by part, in the order that they began in."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile to this part."""
        processor, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            before = self.seconds.get(name, (0.0, 0.0))
            spent = time.process_time() - processor, time.perf_counter() - wall
            self.seconds[name] = before[0] + spent[0], before[1] + spent[1]

    def counted(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The same function, each call of which counts to this part."""

        def timed(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*arguments, **named)

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--duration", default="24 h", help="of the day, from its first hour on")
    given = parser.parse_args()
    compiled.warm_up()
    day, watch = scenario(given.duration), Stopwatch()
    simulate(day, requests=100, interval_s=HOUR_S).summary()  # step times are looked up, and everything is loaded
    with one_thread(), ExitStack() as patched:
        for where, name, part in PARTS:
            patched.enter_context(patch.object(where, name, watch.counted(getattr(where, name), part)))
        with watch.part("all"):
            result = simulate(day, interval_s=HOUR_S)
            with watch.part("by hour"):
                hours = result.over_time(HOUR_S)
            with watch.part("summary"):
                summary = result.summary()
    whole = watch.seconds.pop("all")
    rest = tuple(all_of - sum(part[k] for part in watch.seconds.values()) for k, all_of in enumerate(whole))
    parts = {**watch.seconds, "rest": rest, "all": whole}
    requests, provided = len(result.runs[0].arm), result.runs[0].provisioned["pool"]
    print(
        f"{requests:,} requests of {given.duration}, {provided.replicas:.1f} replicas in the mean, {provided.most_replicas} at most"
    )
    table = Table()
    for column in ("part", "processor s", "wall s"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, (processor_s, wall_s) in parts.items():
        table.add_row(name, f"{processor_s:.2f}", f"{wall_s:.2f}", style="bold" if name == "all" else None)
    Console().print(table)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{requests / whole[0]:,.0f} requests a second of processor time; peak memory {memory_mb:,.0f} MB")
    if given.json is not None:
        figures = {
            "requests": requests,
            "seconds": {name: {"processor": a, "wall": b} for name, (a, b) in parts.items()},
            "peak_memory_mb": memory_mb,
            "mean_replicas": provided.replicas,
            "most_replicas": provided.most_replicas,
            "usd": float(hours["usd"].sum()),
            "latency_p95_s": summary.latency_s["p95"].value,
        }
        write_atomically(given.json, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
