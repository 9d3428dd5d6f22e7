"""Speed of the predictor: ``python -m benchmarks.predictor [--json FILE] [--prompts N] [--model FILE] [--device NAME]``.

From text to scores, hashing included, in batches of 1, 32 and 512, and the latency of one prompt at a time. On the CPU one core is
used. Prompts are stretches of Python's reference manual, with the lengths of the problems that the shipped predictors learnt from
(log-normal, median 440 bytes, 95% below 2,100).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from rich.console import Console
from rich.table import Table

from ttc_sim.files.writing import write_atomically
from ttc_sim.predictor import Predictor

BATCHES = (1, 32, 512)
LOG_BYTES = (6.08, 0.95)
"""Mean and spread of the logarithm of a prompt's bytes over the 17,049 problems that the shipped predictors were trained on."""


def prompts_like_measured(count: int, seed: int = 0) -> list[str]:
    """English text of realistic length, with numbers and code, that every Python has: its own reference manual."""
    rng = np.random.default_rng(seed)
    manual = "\n".join(topics.values())
    sizes = np.clip(np.exp(rng.normal(*LOG_BYTES, count)), 20, 15_000).astype(int)
    starts = rng.integers(0, len(manual) - sizes)
    return [manual[start : start + size] for start, size in zip(starts, sizes, strict=True)]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--prompts", type=int, default=4096)
    parser.add_argument("--model", type=Path, help="ONNX file, or fast or encoder of the shipped ones")
    parser.add_argument("--device")
    given = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    prompts = prompts_like_measured(given.prompts)
    start = time.perf_counter()
    predictor = Predictor.load(given.model, device=given.device)
    predictor.score(prompts[:8])
    figures: dict[str, object] = {"provider": predictor.provider, "seconds_to_load": time.perf_counter() - start}
    table = Table(title=f"predictor on {predictor.provider}, from text to scores")
    for column in ("batch", "prompts/s"):
        table.add_column(column, justify="right")
    for batch in BATCHES:
        rate = max(
            _rate(predictor, prompts[: max(batch, given.prompts // (8 if batch == 1 else 1))], batch) for _ in range(3)
        )
        figures[f"prompts_per_s_batch_{batch}"] = rate
        table.add_row(str(batch), f"{rate:,.0f}")
    taken = []
    for prompt in prompts[: min(1000, given.prompts)]:
        start = time.perf_counter()
        predictor.score([prompt])
        taken.append(time.perf_counter() - start)
    p50, p99 = (float(np.quantile(taken, q)) * 1e3 for q in (0.5, 0.99))
    figures |= {"latency_p50_ms": p50, "latency_p99_ms": p99}
    console = Console()
    console.print(table)
    console.print(f"one prompt at a time: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    if given.json is not None:
        write_atomically(given.json, json.dumps(figures, indent=2) + "\n")


def _rate(predictor: Predictor, prompts: list[str], batch: int) -> float:
    start = time.perf_counter()
    for at in range(0, len(prompts), batch):
        predictor.score(prompts[at : at + batch])
    return len(prompts) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
