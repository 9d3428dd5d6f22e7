"""Folders as ``ttc-sim import`` leaves them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ttc_sim.base.draws import uniforms

PROMPTS = (
    "Refund {} euro of the order number {}, please, thank you. ",
    "Why did the service {} fail after migration {}? ",
)


def audit(**changes: Any) -> dict[str, Any]:
    base = {"format": "openai-chat", "files": [{"name": "log.jsonl", "bytes": 99, "rows": 9}], "notes": []}
    tokens = [{"what": "reasoning tokens", "taken": "a part of the output tokens", "of": "large"}]
    return {**base, "rows": {"read": 9, "kept": 9, "left_out": 0}, "day": "2026-11-24", "tokens": tokens, **changes}


def traffic(rows: int, models: Sequence[str] = ("small", "large"), **columns: Any) -> pl.DataFrame:
    """A request every half second; the second model thinks, and takes 0.4 s and 0.02 s a token where the first takes 0.01 s."""
    u = uniforms(7, "traffic", rows, 3)
    which = [k % len(models) for k in range(rows)]
    visible = [20 + int(200 * one) for one in u[:, 0]]
    hidden = [500 * (which[k] % 2) for k in range(rows)]
    slow = [0.02 if one % 2 else 0.01 for one in which]
    made = {
        "arrival_s": [0.5 * k for k in range(rows)],
        "prompt_tokens": [50 + int(100 * one) for one in u[:, 1]],
        "cached_tokens": [None] * rows,
        "reasoning_tokens": hidden,
        "visible_tokens": visible,
        "status": ["ok"] * rows,
        "model": [models[one] for one in which],
        "source": ["desk" if one < 0.75 else "mail" for one in u[:, 2]],
        "first_token_s": [0.4 + hidden[k] * slow[k] for k in range(rows)],
        "latency_s": [0.4 + (hidden[k] + visible[k] - 1) * slow[k] for k in range(rows)],
    }
    kinds = {"cached_tokens": pl.Int64, "first_token_s": pl.Float64, "latency_s": pl.Float64}
    made |= columns
    return pl.DataFrame({name: values for name, values in made.items() if values is not None}).cast(
        {name: kind for name, kind in kinds.items() if made[name] is not None}
    )


def graded(
    problems: int, models: Sequence[str] = ("small", "large"), *, prompts: bool = True
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Problems of two kinds, one of which the models but the last seldom get right, and an attempt of each model at each."""
    u = uniforms(3, "graded", problems, 2 + len(models))
    rows, tries = [], []
    for k in range(problems):
        hard = bool(u[k, 0] < 0.4)
        asked = {"prompt": PROMPTS[hard].format(k, k + 7) * 2} if prompts else {}
        kind = "mail" if hard else "desk"
        rows.append({"problem": f"p{k}", "subset": kind, "group": kind, "prompt_tokens": 20 + k % 5, **asked})
        for j, model in enumerate(models):
            last = j == len(models) - 1
            tries.append(
                {
                    "problem": f"p{k}",
                    "model": model,
                    "attempt": 0,
                    "prompt_tokens": 20 + k % 5,
                    "reasoning_tokens": int(200 + 600 * u[k, 1]) if last else 0,
                    "visible_tokens": int(50 + 100 * u[k, 1]),
                    "correct": bool(u[k, 2 + j] < (0.9 if last else 0.15 if hard else 0.95)),
                    "truncated": False,
                    "answer": None,
                    "finish_reason": "stop",
                }
            )
    return pl.DataFrame(rows), pl.DataFrame(tries, schema_overrides={"answer": pl.String})


def write_import(
    folder: Path,
    *,
    arrivals: pl.DataFrame | None = None,
    tables: tuple[pl.DataFrame, pl.DataFrame] | None = None,
    **said: Any,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "import.json").write_text(json.dumps(audit(**said)))
    if arrivals is not None:
        arrivals.write_parquet(folder / ("traffic.parquet" if "arrival_s" in arrivals.columns else "lengths.parquet"))
    if tables is not None:
        tables[0].write_parquet(folder / "problems.parquet")
        tables[1].write_parquet(folder / "attempts.parquet")
    return folder
