"""Time of one decision: ``python -m benchmarks.runtime [--json FILE] [--prompts N] [--threads N]``.

From a prompt's text to a decision, what is expected of it and the line in a log included, by plans of the shipped scenarios: by
bands, by utility over every arm, and with a share tried on purpose. On one core, one prompt at a time; then by several threads,
which share it. Prompts are as long as those that the shipped predictors learnt from (:mod:`benchmarks.predictor`).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

import ttc_sim as ttc
from benchmarks.predictor import prompts_like_measured
from ttc_sim.deploying import Runtime
from ttc_sim.files.writing import write_atomically
from ttc_sim.policies import parse_policy
from ttc_sim.scenario import Scenario
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.response_fit import with_responses

UTILITY = "Utility(price_of_accuracy=0.01)"
CASES: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "bands": ("reasoning-gateway", None, {}),
    "bands, 5% tried on purpose": ("reasoning-gateway", None, {"explore": 0.05, "seed": 1}),
    "utility, 4 arms": ("reasoning-gateway", UTILITY, {}),
    "least loaded": ("qa-gateway", "LeastLoaded(arms=['llama-8b', 'llama-70b'])", {}),
}


def runtime_of(folder: Path, name: str, policy: str | None, options: dict[str, Any]) -> Runtime:
    """A plan of a shipped scenario, at work."""
    scenario: Scenario = ttc.load_scenario(name)
    if policy is not None:
        scenario = scenario.model_copy(update={"policy": policy})
        population = with_responses(load_model(scenario), parse_policy(policy)).population
        if population is not None and population.responses is not None:
            scenario = scenario.model_copy(update={"responses": dict(population.responses)})
    content = scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw = {"ttc_sim_plan": 3, "promised": {}, "made_from": "scenario.yaml", "scenario": content}
    (folder / "plan.yaml").write_text(yaml.safe_dump(raw))
    runtime = ttc.load_plan(folder / "plan.yaml").runtime(log=folder / "log.jsonl", **options)
    assert isinstance(runtime, Runtime)
    return runtime


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=8)
    given = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    prompts = prompts_like_measured(given.prompts)
    table = Table(title="one decision, on one core")
    columns = ("plan", "to start, s", "p50, ms", "p99, ms", "a second", f"a second, {given.threads} threads")
    for column in columns:
        table.add_column(column, justify="left" if column == "plan" else "right")
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case, (name, policy, options) in CASES.items():
            start = time.perf_counter()
            runtime = runtime_of(Path(folder), name, policy, options)
            started_s = time.perf_counter() - start
            source = runtime.sources[0]
            taken = []
            for prompt in prompts:
                start = time.perf_counter()
                runtime.route(prompt, source)
                taken.append(time.perf_counter() - start)
            start = time.perf_counter()
            with ThreadPoolExecutor(given.threads) as threads:
                list(threads.map(lambda prompt, at=source, by=runtime: by.route(prompt, at), prompts))
            together_s = time.perf_counter() - start
            found = {
                "started_s": started_s,
                "p50_ms": float(np.quantile(taken, 0.5)) * 1e3,
                "p99_ms": float(np.quantile(taken, 0.99)) * 1e3,
                "per_s": len(prompts) / sum(taken),
                "per_s_threads": len(prompts) / together_s,
            }
            figures[case] = found
            shown = [f"{found['started_s']:.1f}", f"{found['p50_ms']:.2f}", f"{found['p99_ms']:.2f}"]
            table.add_row(case, *shown, f"{found['per_s']:,.0f}", f"{found['per_s_threads']:,.0f}")
    Console().print(table)
    if given.json is not None:
        write_atomically(given.json, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
