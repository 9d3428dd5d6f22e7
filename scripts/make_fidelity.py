"""Write the tables of docs/fidelity.md from what backtests say; needs ``pip install 'ttc-sim[gpus]'`` and the measurements.

    python scripts/make_fidelity.py measure ../shared/data backtests      # runs every backtest, two minutes on two cores
    python scripts/make_fidelity.py write backtests                        # puts their tables into docs/fidelity.md

The page keeps its text; what stands between ``<!-- table NAME -->`` and ``<!-- end -->`` is written anew.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import aiconfigurator_core
import numpy as np

from ttc_sim.fidelity.experiments import backtest_experiments
from ttc_sim.fidelity.operating_points import Point, backtest_operating_points, load_points
from ttc_sim.fidelity.runs import backtest_run
from ttc_sim.fidelity.served_points import backtest_served_points
from ttc_sim.files.writing import write_atomically
from ttc_sim.serving.catalogue import has_experts
from ttc_sim.serving.corrections import fitted
from ttc_sim.serving.operators import Corrections

PAGE = Path(__file__).resolve().parents[1] / "docs" / "fidelity.md"
SILICON = Path(aiconfigurator_core.__file__).parent / "systems" / "silicon_sample.csv"
PROFILES = {
    "rtx4090_llama-3.1-8b": "rtx4090_meta-llama_llama-3.1-8b",
    "rtxpro6000_qwen3-32b": "rtxpro6000_qwen_qwen3-32b",
    "rtxpro6000_qwen3-30b-a3b-instruct-2507": "rtxpro6000_qwen_qwen3-30b-a3b-instruct-2507",
}
Row = Sequence[str]


def measure(data: Path, out: Path) -> None:
    """Run every backtest, and keep what each says as JSON."""
    out.mkdir(parents=True, exist_ok=True)
    made: dict[str, Callable[[], Any]] = {
        "runs": lambda: [
            backtest_run(data / "vllm-runs" / run, data / "gpu-profiles" / profile) for run, profile in PROFILES.items()
        ],
        "experiments": lambda: backtest_experiments(data / "vllm-experiments" / "experiments.json"),
        "silicon": lambda: backtest_operating_points(SILICON, "vllm"),
        "points": lambda: backtest_served_points(data / "operating-points" / "ml-energy.csv"),
    }
    for name, backtest in made.items():
        print(name, flush=True)
        (out / f"{name}.json").write_text(json.dumps(backtest()), encoding="utf-8")


def write(found: Path) -> None:
    """Put tables into the page."""
    page = PAGE.read_text(encoding="utf-8")
    got = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(found.glob("*.json"))}
    tables = {
        **runs(got["runs"]),
        **experiments(got["experiments"]),
        **silicon(got["silicon"]),
        **points(got["points"]),
        **corrections(),
    }
    for name, text in tables.items():
        page, count = re.subn(
            rf"(<!-- table {name} -->\n).*?(<!-- end -->)",
            lambda match, text=text: f"{match[1]}{text}\n{match[2]}",  # type: ignore[misc]
            page,
            flags=re.DOTALL,
        )
        if count != 1:
            raise SystemExit(f"docs/fidelity.md has {count} places for the table {name}")
    write_atomically(PAGE, page)


def table(head: Row, rows: Iterable[Row]) -> str:
    """A Markdown table; the first column is text."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def signed(percent: float | None) -> str:
    return "" if percent is None else f"{round(percent, 1) + 0.0:+.1f}%".replace("-", "−")


def share(percent: float) -> str:
    return f"{percent:.1f}%"


def runs(got: list[dict[str, Any]]) -> dict[str, str]:
    figures = (("e2e_s", "mean"), ("ttft_s", "mean"), ("tpot_s", "mean"), ("e2e_s", "p99"), ("ttft_s", "p99"))
    rows = [
        [
            one["run"],
            str(one["requests"]),
            *(signed(one[figure][of]["error_percent"]) for figure, of in figures),
            share(one["per_request_median_error_percent"]),
        ]
        for one in got
    ]
    head = ["run", "requests", "end to end", "first token", "per further token", "end to end, P99", "first token, P99"]
    return {"runs": table([*head, "a request, median"], rows)}


def experiments(got: dict[str, Any]) -> dict[str, str]:
    def error(one: dict[str, Any], name: str) -> str:
        return signed(one["overall"].get(name, {}).get("error_percent"))

    names = ("e2e_mean", "ttft_mean", "itl_mean", "e2e_p90", "e2e_p99", "ttft_p90", "ttft_p99")
    rows = []
    for one in got["experiments"]:
        peers = [p["e2e_mean"] for p in one["peer_percent_error_overall"].values() if p.get("e2e_mean") is not None]
        said = f"{signed(min(peers))} to {signed(max(peers))}" if peers else ""
        rows.append([f"{one['model'].split('/')[-1]} ({one['id']})", *(error(one, name) for name in names), said])
    median = got["median_absolute_error_percent"]
    rows.append(["**median absolute**", *(share(median[name]) for name in names[:3]), *[""] * 5])
    head = ["model", "end to end", "first token", "between tokens", "end to end P90", "P99", "first token P90", "P99"]
    excluded = "\n".join(f"- {one['model']} ({one['id']}): {one['reason']}" for one in got["excluded"])
    return {
        "experiments": table([*head, "peers, end to end"], rows),
        "experiments-excluded": excluded or "None of the file.",
    }


def silicon(got: dict[str, Any]) -> dict[str, str]:
    """Of the rows that nothing was fitted to."""
    known = {point.id: point for point in load_points(SILICON, "vllm")[0]}
    rows = [(known[row["id"]], row) for row in got["rows"] if not known[row["id"]].fitted_to]

    def grouped(head: str, of: Callable[[Point], Any]) -> str:
        groups: dict[Any, list[tuple[Point, dict[str, Any]]]] = {}
        for point, row in rows:
            groups.setdefault(of(point), []).append((point, row))
        lines = [
            [str(name[-1]), str(len(here)), *errors([row for _, row in here])] for name, here in sorted(groups.items())
        ]
        return table([head, "rows", "per token", "", "first token", ""], lines)

    def errors(here: list[dict[str, Any]]) -> list[str]:
        out = []
        for name in ("tpot_ms", "ttft_ms"):
            percent = np.array([row[name]["error_percent"] for row in here])
            out += [share(float(np.median(np.abs(percent)))), signed(float(np.median(percent)))]
        return out

    kinds = {False: "dense models", True: "mixtures of experts"}
    held = [row for _, row in rows]
    summary = grouped("kind", lambda point: (has_experts(point.served.model), kinds[has_experts(point.served.model)]))
    summary += "\n| " + " | ".join(["all", str(len(held)), *errors(held)]) + " |"
    concurrency = grouped("requests at once", lambda point: (band(point.concurrency), band_name(point.concurrency)))
    lengths = grouped(
        "prompt and answer, tokens",
        lambda point: (
            point.prompt_tokens,
            point.output_tokens,
            f"{point.prompt_tokens:,} and {point.output_tokens:,}",
        ),
    )
    return {
        "silicon": summary,
        "silicon-models": grouped("model on GPU", lambda point: (f"{point.model} on {point.served.gpu}",)),
        "silicon-concurrency": concurrency,
        "silicon-lengths": lengths,
        "silicon-excluded": reasons(got["refused"]),
    }


def corrections() -> dict[str, str]:
    """What is fitted, a column for each kind; a name that all have in common stands for all of them."""
    kinds = fitted()
    names = [field.name for field in fields(Corrections)]
    rows = [[name.replace("_", " "), *(f"{getattr(one, name):.3g}" for one in kinds.values())] for name in names]
    return {"corrections": table(["", *(kind.removeprefix("experts, ") for kind in kinds)], rows)}


def points(got: dict[str, Any]) -> dict[str, str]:
    held = [row for row in got["rows"] if row["held_out"]]

    def grouped(head: str, of: Callable[[dict[str, Any]], Any], rows: list[dict[str, Any]]) -> str:
        groups: dict[Any, list[float]] = {}
        for row in rows:
            groups.setdefault(of(row), []).append(row["itl_ms"]["error_percent"])
        lines = [
            [str(name[-1]), str(len(here)), share(float(np.median(np.abs(here)))), signed(float(np.median(here)))]
            for name, here in sorted(groups.items())
        ]
        return table([head, "points", "between tokens", ""], lines)

    def batch(row: dict[str, Any]) -> tuple[Any, ...]:
        gpu, running = row["gpu"], row["in_progress"]
        return gpu, band(running), f"{gpu}, {band_name(running)}"

    gpus = sorted({row["gpu"] for row in held})
    return {
        "points": grouped("GPU", lambda row: (row["gpu"],), held),
        "points-trend": table(["GPU", "error", "of one model on as many GPUs"], [trend(gpu, held) for gpu in gpus]),
        "points-batch": grouped("GPU, requests in progress", batch, held),
        "points-models": grouped("model", lambda row: (row["model"],), held),
        "points-excluded": reasons(got["refused"]),
    }


def trend(gpu: str, rows: list[dict[str, Any]]) -> list[str]:
    """By how much errors grow each time twice as many requests are in progress, ± a standard error: over all, and within models."""
    here = [row for row in rows if row["gpu"] == gpu]
    doubled = np.log2([row["in_progress"] for row in here])
    off = 100 * np.log([row["itl_ms"]["predicted"] / row["itl_ms"]["measured"] for row in here])
    of = np.unique([f"{row['model']} {row['gpus']}" for row in here], return_inverse=True)[1]
    said = []
    for groups in (np.zeros(len(here), dtype=np.int64), of):
        counts = np.bincount(groups)
        x, y = (one - (np.bincount(groups, one) / counts)[groups] for one in (doubled, off))
        slope = float(x @ y / (x @ x))
        left = y - slope * x
        said.append(f"{signed(slope)} ± {np.sqrt(left @ left / (len(x) - len(counts) - 1) / (x @ x)):.1f}%")
    return [gpu, *said]


def band(running: float) -> int:
    return next(least for least in (512, 256, 128, 64, 32, 16, 8, 0) if running >= least)


def band_name(running: float) -> str:
    least = band(running)
    return {0: "below 8", 512: "512 and more"}.get(least, f"{least} to {2 * least - 1}")


def reasons(refused: list[dict[str, str]]) -> str:
    counts: dict[str, int] = {}
    for one in refused:
        counts[one["reason"]] = counts.get(one["reason"], 0) + 1
    return (
        "\n".join(f"- {count} row{'s' if count > 1 else ''}: {reason}" for reason, count in counts.items()) or "None."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    first = parts.add_parser("measure", help="run every backtest")
    first.add_argument(
        "data", type=Path, help="folder with vllm-runs, gpu-profiles, vllm-experiments and operating-points"
    )
    for part in (first, parts.add_parser("write", help="put tables into docs/fidelity.md")):
        part.add_argument("found", type=Path, help="folder of the backtests' JSON")
    args = parser.parse_args()
    if args.part == "measure":
        measure(args.data, args.found)
    else:
        write(args.found)


if __name__ == "__main__":
    main()
