"""Write ``ttc_sim/serving/measured_ranges.json``: which batches and contexts were measured, by GPU and kind of model.

Needs ``pip install 'ttc-sim[gpus]'``. Of the measurements it keeps ranges, and errors of what is predicted now, alone. Errors are
those of operating points that nothing is fitted to, at least ``FEWEST`` of a model on a GPU; those of a single B200 are left out:
small models take as long there at any batch, and longer than on an H100.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import aiconfigurator_core
import numpy as np
import polars as pl

from ttc_sim.fidelity.measured_run import load_run
from ttc_sim.fidelity.operating_points import load_points
from ttc_sim.fidelity.served_points import ServedPoint, load_served_points, predict_served_points
from ttc_sim.files.writing import write_atomically
from ttc_sim.serving.catalogue import installed, kind_of
from ttc_sim.serving.measured_ranges import FILE

RUNS = {"rtx4090": "rtx4090", "rtxpro6000": "rtx_pro_6000_server"}
"""GPUs of runs, by the beginning of their folders' names."""


FEWEST = 3


def errors(points: Sequence[ServedPoint]) -> list[dict[str, object]]:
    """Median absolute error in percent of the median time between tokens, by model and GPU."""
    apart = [one for one in points if not one.fitted_to and (one.served.gpu, one.served.gpus) != ("b200_sxm", 1)]
    found: dict[tuple[str, str], list[float]] = {}
    for point, one in zip(apart, predict_served_points(apart), strict=True):
        if not isinstance(one, str):
            off = 100 * abs(one.median_ms / point.itl_ms - 1)
            found.setdefault((point.served.model, point.served.gpu), []).append(off)
    return [
        {"model": model, "gpu": gpu, "rows": len(here), "percent": round(float(np.median(here)), 1)}
        for (model, gpu), here in sorted(found.items())
        if len(here) >= FEWEST
    ]


def main() -> None:
    """Read all measurements, and write their ranges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with vllm-runs, operating-points and vllm-experiments")
    data = parser.parse_args().data
    seen: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def note(gpu: str, kind: str, sequences: float, context: float) -> None:
        seen.setdefault((gpu, kind), []).append((int(sequences), int(context)))

    silicon, _ = load_points(Path(aiconfigurator_core.__file__).parent / "systems" / "silicon_sample.csv", "vllm")
    for row in silicon:
        in_batch = row.concurrency / row.served.data_parallel
        note(row.served.gpu, kind_of(row.served.model), in_batch, row.prompt_tokens + row.output_tokens)
    served, _ = load_served_points(data / "operating-points" / "ml-energy.csv")
    for point in served:  # of contexts the mean answer alone was recorded
        note(point.served.gpu, kind_of(point.served.model), point.users, point.output_tokens)
    for folder in sorted((data / "vllm-runs").iterdir()):
        run = load_run(folder)
        running = pl.read_csv(folder / "timeseries.csv")["running"].max()
        assert isinstance(running, int | float)
        gpu = next(name for start, name in RUNS.items() if folder.name.startswith(start))
        note(gpu, kind_of(run.model), running, np.max(run.prompt_tokens + run.output_tokens))
    for one in json.loads((data / "vllm-experiments" / "experiments.json").read_text(encoding="utf-8")):
        of = "experts" if one["architecture"].get("num_local_experts") else "dense"
        spec = one["workload_spec"]["inference_perf"]
        prefix = spec["shared_prefix"]
        stage = max(range(len(spec["stages"])), key=lambda i: spec["stages"][i]["rate"])
        measured = one["measured_ms"].get(f"stage_{stage}", one["measured_ms"]["overall"])
        at_once = spec["stages"][stage]["rate"] * measured["e2e_mean"] / 1e3  # Little's law
        length = prefix["system_prompt_len"] + prefix["question_len"] + prefix["output_len"]
        note("h100_sxm", of, min(at_once, one["max_num_seqs"]), length)
    content = {
        "origin": "ranges and errors alone, by scripts/measured_ranges.py, of: vLLM 0.19 runs (MIT, LLMServingSim), "
        f"systems/silicon_sample.csv of aiconfigurator-core {installed()} (Apache-2.0, NVIDIA), "
        "vLLM experiments (Apache-2.0, BLIS), operating points of the ML.ENERGY leaderboard",
        "ranges": [
            {
                "gpu": gpu,
                "kind": kind,
                "sequences": max(sequences for sequences, _ in rows),
                "context_tokens": max(context for _, context in rows),
                "measurements": len(rows),
            }
            for (gpu, kind), rows in sorted(seen.items())
        ],
        "errors": errors(served),
    }
    write_atomically(FILE, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
