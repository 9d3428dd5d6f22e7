"""Beside vLLM Semantic Router's fleet simulator (``vllm-sr-sim``), on one question, in one run: ``make bench-fleet``.

How many H100 replicas answer DeepSeek-R1's production traffic (ServeGen) with 99% of first tokens within two seconds? The peer
takes a rate and a distribution of total lengths, cuts each length into 80% prompt and 20% output, finds replicas by formulas and
looks at them in a coarse simulation of slots. Between that and ``ttc-sim capacity`` lie several differences, so the traffic and the
servers change one at a time, from what the peer assumes to what was measured:

* ``slots``: the peer's traffic (Poisson at the day's mean rate, its lengths), its step times as coefficients, a batch no larger
  than its slots, each of which is kept for the longest request;
* ``paged``: KV blocks are given as sequences grow, so that the batch is as large as the GPU takes;
* ``lengths``: prompts and outputs as they were measured together;
* ``day``: arrivals of the measured clients, hour by hour, and the target kept in every hour;
* ``catalogue``: step times of Llama-3.1-70B on eight H100, which the peer's profile stands for, from measured operators.

Each row plans with ``ttc-sim capacity``; the answers of both are then simulated exactly on draws that neither planned on, and in
the peer's own simulation, which knows of no hours. A replica costs what the peer's profile says, that of the catalogue eight times
as much.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from rich.console import Console
from rich.table import Table

from ttc_sim import simulate
from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.files.writing import write_atomically
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.model import load_model

CONTEXT = 65_536  # tokens: what the longest request of the day fits into
POISSON_REQUESTS = 100_000
CLIENTS = {"process": "clients", "traffic": "servegen-r1"}
TTFT_S = 2.0
_PROFILE = """
import json
from fleet_sim.gpu_profiles.profiles import H100_80GB as gpu
names = ("W", "H", "calibration_ctx", "chunk", "blk_size", "total_kv_blks", "max_slots", "cost_per_hr")
print(json.dumps({name: getattr(gpu, name) for name in names}))
"""
_COARSE = """
import json, sys
from fleet_sim.gpu_profiles.profiles import H100_80GB as gpu
from fleet_sim.optimizer import FleetOptimizer
cdf, context, rate, counts = json.loads(sys.argv[1])
one = FleetOptimizer(gpu, gpu, B_short=context, long_max_ctx=context)
print(json.dumps([one._run_des(cdf, rate, 1.0, n, 0, 40_000)["p99_short_ms"] / 1e3 for n in counts]))
"""


@dataclass(frozen=True)
class Requests:
    """Arrival in seconds, prompt and output tokens of each request."""

    arrival_s: F64
    prompt: I64
    output: I64

    @property
    def total(self) -> I64:
        """Tokens of both."""
        return self.prompt + self.output

    def only(self, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> Requests:
        """Some of them."""
        return Requests(self.arrival_s[keep], self.prompt[keep], self.output[keep])

    def write(self, path: Path) -> dict[str, Any]:
        """As a trace that a scenario replays."""
        columns = {"arrival_s": self.arrival_s, "prompt_tokens": self.prompt, "visible_tokens": self.output}
        pl.DataFrame(columns).with_columns(reasoning_tokens=pl.lit(0, pl.Int64)).write_parquet(path)
        return {"process": "trace", "file": str(path), "format": "traffic"}


def measured_day(hours: int, run: int = 0) -> Requests:
    """The day, or its first hours, as its clients send it."""
    workload = {"arrivals": CLIENTS, "duration": f"{hours} h"}
    pool = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "step_time": dict.fromkeys(_STEPS, 1.0)}
    drawn = draw(load_model(scenario_from_dict({**_scenario(pool), "workload": workload})), run).traffic
    prompt, reasoning, visible = drawn.prompt_tokens, drawn.reasoning_tokens, drawn.visible_tokens
    assert prompt is not None
    assert reasoning is not None
    assert visible is not None
    return Requests(drawn.arrival_s, prompt, reasoning + visible)


def poisson(day: Requests, rate_per_s: float, seed: int, *, four_fifths: bool) -> Requests:
    """At an even rate, with lengths of the day; cut into prompt and output as the peer does, or as they were."""
    u = uniforms(seed, "poisson", POISSON_REQUESTS, 2)
    row = (u[:, 1] * len(day.total)).astype(np.int64)
    prompt, total = day.prompt[row], day.total[row]
    if four_fifths:
        prompt = np.maximum(1, (0.8 * total).astype(np.int64))
    return Requests(np.cumsum(-np.log(u[:, 0])) / rate_per_s, prompt, np.maximum(total - prompt, 1))


def distribution(total: I64) -> list[list[float]]:
    """Of the total lengths, as the peer reads it: bounds, and the share of requests up to each."""
    bounds = sorted({size for k in range(6, 16) for size in (2**k, 3 * 2 ** (k - 1))} | {CONTEXT})
    found = [[float(bound), float((total <= bound).mean())] for bound in bounds if bound <= CONTEXT]
    found[-1][1] = 1.0
    return [one for one in found if one[1] > 0]


_STEPS = ("base_s", "per_prefill_token_s", "per_sequence_s", "per_kv_token_s")


def peer_pool(gpu: Mapping[str, float], *, slots_of: int | None = None) -> dict[str, Any]:
    """A replica as the peer's profile says: an iteration takes W, and H for each 8192 tokens of context that are attended to.

    It takes in ``chunk`` prompt tokens of each sequence an iteration, at no cost; here an iteration takes as many for all together.
    """
    kv = int(gpu["total_kv_blks"] * gpu["blk_size"])
    sequences = int(gpu["max_slots"])
    if slots_of is not None:
        sequences = min(sequences * int(gpu["calibration_ctx"]) // slots_of, kv // slots_of)
    steps = dict(zip(_STEPS, (gpu["W"], 0.0, 0.0, gpu["H"] / gpu["calibration_ctx"]), strict=True))
    return {
        "kind": "gpu_pool",
        "replicas": 1,
        "usd_per_replica_hour": gpu["cost_per_hr"],
        "step_time": steps,
        "max_num_seqs": sequences,
        "kv_cache_tokens": kv,
        "max_num_batched_tokens": int(gpu["chunk"]) * sequences,
    }


def catalogue_pool(gpu: Mapping[str, float]) -> dict[str, Any]:
    server = {"model": "meta-llama/Meta-Llama-3.1-70B", "gpu": "h100_sxm", "tensor_parallel": 8, "precision": "bf16"}
    return {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 8 * gpu["cost_per_hr"], **server}


def _scenario(pool: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "fleet",
        "replications": 1,
        "deployments": {"pool": dict(pool)},
        "arms": {"r1": {"deployment": "pool"}},
        "policy": "Always('r1')",
    }


def timed(command: Sequence[str], folder: Path) -> tuple[str, float, float]:
    """What a command printed, its wall and its processor seconds, start-up and all."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peer_plan(python: str, folder: Path, rate_per_s: float, ttft_s: float, split: int | None) -> dict[str, Any]:
    """What ``vllm-sr-sim optimize`` answers: one pool or, cut at so many tokens, two."""
    tool = str(Path(python).parent / "vllm-sr-sim")
    options: dict[str, object] = {
        "cdf": "cdf.json",
        "lam": rate_per_s,
        "slo": 1e3 * ttft_s,
        "b-short": split or CONTEXT,
    }
    options |= {"long-max-ctx": CONTEXT, "gpu-short": "h100", "gpu-long": "h100", "gamma-max": 1.0, "out": "peer.json"}
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    _, wall, processor = timed([tool, "optimize", *arguments], folder)
    rows = json.loads((folder / "peer.json").read_text())
    best = next(row for row in rows if row["source"] == "simulated")
    return {
        "short": best["n_s"],
        "long": best["n_l"],
        "split": split,
        "holds": best["slo_met"],
        **_spent(wall, processor),
    }


def peer_split(python: str, folder: Path, rate_per_s: float, ttft_s: float) -> int:
    """Where ``vllm-sr-sim pareto`` recommends to cut the pool in two."""
    tool = str(Path(python).parent / "vllm-sr-sim")
    options = [
        "--cdf",
        "cdf.json",
        "--lam",
        str(rate_per_s),
        "--slo",
        str(1e3 * ttft_s),
        "--long-max-ctx",
        str(CONTEXT),
    ]
    said, _, _ = timed([tool, "pareto", *options, "--gpu-short", "h100", "--gpu-long", "h100"], folder)
    found = re.search(r"Recommended B_short = ([\d,]+)", said)
    assert found is not None, "the peer recommends no threshold"
    return int(found.group(1).replace(",", ""))


def our_plan(folder: Path, pool: Mapping[str, Any], workload: Mapping[str, Any], ttft_s: float) -> dict[str, Any]:
    """What ``ttc-sim capacity`` answers."""
    targets = {"ttft_p99_s": ttft_s, "rejected_rate": 0.0, "every_hour": "duration" in workload}
    asked = {
        **_scenario(pool),
        "workload": dict(workload),
        "targets": targets,
        "search": {"pools": {"pool": {"replicas": {"from": 1, "to": 400}}}},
    }
    (folder / "ours.yaml").write_text(yaml.safe_dump(asked))
    code = "from ttc_sim.cli import main; main()"
    _, wall, processor = timed([sys.executable, "-c", code, "capacity", "ours.yaml", "--json", "ours.json"], folder)
    found = json.loads((folder / "ours.json").read_text())
    one = found["pools"]["pool"]
    return {
        "short": one["replicas"],
        "long": 0,
        "split": None,
        "status": found["status"],
        "lower_bound": one["lower_bound"],
        **_spent(wall, processor),
    }


def _spent(wall: float, processor: float) -> dict[str, float]:
    return {"wall_s": wall, "processor_s": processor}


def exactly(
    folder: Path,
    pool: Mapping[str, Any],
    pools: Mapping[str, Mapping[str, Any]],
    traffic: Requests,
    plan: Mapping[str, Any],
) -> dict[str, float]:
    """99th percentile of the time to first token in the engine: of all, and of the worst hour."""
    split = plan["split"]
    parts = (
        {"short": traffic}
        if split is None
        else {
            "short": traffic.only(traffic.total <= split),
            "long": traffic.only(traffic.total > split),
        }
    )
    counts = {"short": plan["short"], "long": plan["long"]}
    asked = {
        **_scenario(pool),
        "workload": {
            "duration": "whole trace",
            "sources": {name: {"arrivals": one.write(folder / f"{name}.parquet")} for name, one in parts.items()},
        },
        "deployments": {name: {**pools.get(name, pool), "replicas": counts[name]} for name in parts},
        "arms": {name: {"deployment": name} for name in parts},
        "policy": {name: f"Always('{name}')" for name in parts},
    }
    result = simulate(scenario_from_dict(asked, str(folder / "exact.yaml")), interval_s=3600.0)
    hours = result.over_time(3600.0).filter(~pl.col("partial"))["ttft_p99_s"].max()
    whole = float(np.nanpercentile(result.runs[0].ttft_s, 99))
    return {"ttft_p99_s": whole, "worst_hour_ttft_p99_s": whole if hours is None else float(hours)}  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=".venv-peers/bin/python", help="interpreter that has vllm-sr-sim")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ttft-s", type=float, default=TTFT_S, help="99%% of first tokens within so many seconds")
    parser.add_argument("--hours", type=int, default=24, help="of the day, from its first on")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = compare(str(Path(given.python).absolute()), Path(folder), given.ttft_s, given.hours)
    report(figures)
    if given.json is not None:
        write_atomically(given.json, json.dumps(figures, indent=2) + "\n")


def compare(python: str, folder: Path, ttft_s: float, hours: int) -> dict[str, Any]:
    """Both tools' answers, and what they come to."""
    day, fresh = measured_day(hours), measured_day(hours, 1)
    mean, busiest = len(day.total) / (3600 * hours), np.bincount((day.arrival_s // 3600).astype(np.int64)).max() / 3600
    cdf = distribution(day.total)
    (folder / "cdf.json").write_text(json.dumps(cdf))
    gpu = json.loads(subprocess.run([python, "-c", _PROFILE], capture_output=True, text=True, check=True).stdout)
    split = peer_split(python, folder, mean, ttft_s)
    peers = {
        "mean rate": peer_plan(python, folder, mean, ttft_s, None),
        "mean rate, two pools": peer_plan(python, folder, mean, ttft_s, split),
        "busiest hour's rate": peer_plan(python, folder, busiest, ttft_s, None),
    }
    # How our answers look to the peer, and the other way round: replicas of one pool at the mean rate.
    paged, slots = peer_pool(gpu), peer_pool(gpu, slots_of=CONTEXT)
    steps: dict[str, dict[str, Any]] = {
        "slots": {"pool": slots, "two": {"short": peer_pool(gpu, slots_of=split)}},
        "paged": {"pool": paged},
        "lengths": {"pool": paged},
        "day": {"pool": paged},
        "catalogue": {"pool": catalogue_pool(gpu)},
    }
    rows = {}
    for name, step in steps.items():
        if name in ("day", "catalogue"):
            workload: dict[str, object] = {"arrivals": CLIENTS, "duration": f"{hours} h"}
            seen = fresh
        else:
            made, seen = (poisson(day, mean, seed, four_fifths=name != "lengths") for seed in (1, 2))
            workload = {"arrivals": made.write(folder / "planned.parquet"), "requests": POISSON_REQUESTS}
        ours = our_plan(folder, step["pool"], workload, ttft_s)
        answers = {"ttc-sim": ours, **peers}
        rows[name] = {
            "plan": ours,
            "usd_per_day": 24 * ours["short"] * step["pool"]["usd_per_replica_hour"],
            "exact": {
                who: exactly(folder, step["pool"], step.get("two", {}), seen, plan) for who, plan in answers.items()
            },
        }
    counts = sorted(
        {row["plan"]["short"] for row in rows.values()}
        | {one["short"] for one in peers.values() if one["split"] is None}
    )
    coarse = subprocess.run(
        [python, "-c", _COARSE, json.dumps([cdf, CONTEXT, mean, counts])], capture_output=True, text=True, check=True
    )
    return {
        "rate_per_s": mean,
        "busiest_hour_rate_per_s": float(busiest),
        "ttft_p99_s": ttft_s,
        "profile": gpu,
        "peer": {
            name: {**one, "usd_per_day": 24 * (one["short"] + one["long"]) * gpu["cost_per_hr"]}
            for name, one in peers.items()
        },
        "steps": rows,
        "coarse_ttft_p99_s": dict(zip(map(str, counts), json.loads(coarse.stdout), strict=True)),
    }


def report(figures: Mapping[str, Any]) -> None:
    """Tables of :func:`compare`."""
    console, coarse = Console(width=130), figures["coarse_ttft_p99_s"]
    said = (
        f"{figures['rate_per_s']:.1f} requests a second, {figures['busiest_hour_rate_per_s']:.1f} in the busiest hour"
    )
    table = Table(title=f"Replicas for 99% of first tokens within {figures['ttft_p99_s']:g} s: {said}")
    for column in (
        "who",
        "question",
        "replicas",
        "bound",
        "$ a day",
        "wall s",
        "processor s",
        "p99 s, the peer's simulation",
    ):
        table.add_column(column, justify="left" if column in ("who", "question") else "right")
    for name, one in figures["peer"].items():
        replicas = str(one["short"]) if one["split"] is None else f"{one['short']} + {one['long']}"
        replicas += "" if one["holds"] else " (fails its own check)"
        here = coarse[str(one["short"])] if one["split"] is None else None
        _row(table, "vllm-sr-sim", name, replicas, "-", one["usd_per_day"], one, here)
    for name, row in figures["steps"].items():
        plan = row["plan"]
        status = "" if plan["status"] == "met" else f" ({plan['status']})"
        here = coarse[str(plan["short"])] if name != "catalogue" else None
        _row(
            table, "ttc-sim", name, f"{plan['short']}{status}", str(plan["lower_bound"]), row["usd_per_day"], plan, here
        )
    console.print(table)
    table = Table(title="The same answers in exact simulation: p99 of the time to first token, s (of the worst hour)")
    who = list(next(iter(figures["steps"].values()))["exact"])
    for column in ("question", *(f"vllm-sr-sim, {one}" if one != "ttc-sim" else "ttc-sim capacity" for one in who)):
        table.add_column(column, justify="left" if column == "question" else "right")
    for name, row in figures["steps"].items():
        cells = []
        for one in who:
            found = row["exact"][one]
            hour = f" ({found['worst_hour_ttft_p99_s']:,.2f})" if name in ("day", "catalogue") else ""
            cells.append(f"{found['ttft_p99_s']:,.2f}{hour}")
        table.add_row(name, *cells)
    console.print(table)


def _row(
    table: Table,
    who: str,
    question: str,
    replicas: str,
    bound: str,
    usd: float,
    spent: Mapping[str, float],
    p99: float | None,
) -> None:
    seconds = (f"{spent['wall_s']:.1f}", f"{spent['processor_s']:.1f}")
    table.add_row(who, question, replicas, bound, f"{usd:,.0f}", *seconds, "-" if p99 is None else f"{p99:,.2f}")


if __name__ == "__main__":
    main()
