"""Train the shipped predictor from the measured data beside the checkout, and score the shipped problems out of fold.

A shipped problem's score comes from a model of the same recipe that has not seen it: with scores from a model trained on
it, every plan would promise too much.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import polars as pl
import yaml
from scipy import sparse

from ttc_sim.draws import F64, I64
from ttc_sim.predictor import train
from ttc_sim.predictor.export import to_onnx
from ttc_sim.profiles import list_profiles, load_problem_set, load_profile

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
MODEL = ROOT / "ttc_sim" / "predictor" / "model"
FOLDS = 5
STRENGTH = {"reasoning-gym": 10.0, "mmlu-pro": 0.3, "math": 1.0}
SOURCES = {"reasoning-gym": "reasoning-gym", "mmlu-pro": "mmlu-pro", "math": "math-attempts"}


def main() -> None:
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there: the predictor can only be retrained beside the measured data")
    tables = {name: load_set(name) for name in SOURCES}
    counts = {name: train.features(table["prompt"].to_list()) for name, table in tables.items()}
    stacked = sparse.vstack(list(counts.values()), format="csr")
    idf = train.inverse_frequencies(stacked)
    card: dict[str, object] = {}
    scored: dict[str, pl.DataFrame] = {}
    parts: list[train.Linear] = []
    slopes: list[F64] = []
    fold = {name: folds_of(table) for name, table in tables.items()}
    fits = {}
    for name, table in tables.items():
        heads = [column for column in table.columns if column.startswith("p:")]
        targets = table.select(heads).to_numpy().astype(np.float64)
        say(f"{name}: {len(table)} problems, {len(heads)} models, {FOLDS} folds")
        added, base = train.out_of_fold(counts[name], targets, heads, STRENGTH[name], idf, fold[name])
        fits[name] = (heads, targets, added, base, train.calibrate(added, base, targets))
        parts.append(train.fit(counts[name], targets, heads, STRENGTH[name], idf))
        slopes.append(fits[name][4])
    say("difficulty over all sets")
    hard = np.concatenate([table["difficulty"].to_numpy() for table in tables.values()])[:, None]
    all_folds = np.concatenate(list(fold.values()))
    hard_added, hard_base = train.out_of_fold(stacked, hard, ["difficulty"], 3.0, idf, all_folds)
    hard_slope = train.calibrate(hard_added, hard_base, hard)
    difficulty = train.fit(stacked, hard, ["difficulty"], 3.0, idf)

    say("whole task types left out")
    heads, targets, _, base, slope = fits["reasoning-gym"]
    by_task = np.array([zlib.crc32(task.encode()) % FOLDS for task in tables["reasoning-gym"]["group"]], dtype=np.int64)
    left, _ = train.out_of_fold(counts["reasoning-gym"], targets, heads, STRENGTH["reasoning-gym"], idf, by_task)
    card["left_out_task_types"] = metrics(train.probabilities(left, base, slope), targets, heads)

    start = 0
    for name, table in tables.items():
        heads, targets, added, base, slope = fits[name]
        rows = slice(start, start + len(table))
        start += len(table)
        p = train.probabilities(added, base, slope)
        d = train.probabilities(hard_added[rows], hard_base, hard_slope)[:, 0]
        columns = {"problem": table["problem"], "difficulty": d, **{head: p[:, k] for k, head in enumerate(heads)}}
        card[name] = metrics(p, targets, heads)
        if name == "reasoning-gym":
            easy = (table["subset"] == "reasoning-gym-easy").to_numpy()
            card["reasoning-gym-easy"] = metrics(p[easy], targets[easy], heads)
        scored[name] = pl.DataFrame(columns).with_columns(pl.exclude("problem").cast(pl.Float32))
    merged = train.Linear(
        heads=(*(head for part in parts for head in part.heads), "difficulty"),
        idf=idf,
        weight=np.column_stack([*(part.weight for part in parts), difficulty.weight]),
        base=np.concatenate([*(part.base for part in parts), difficulty.base]),
        bias=np.concatenate([*(part.bias for part in parts), difficulty.bias]),
    )
    write(merged, np.concatenate([*slopes, hard_slope]), card, scored)


def say(line: str) -> None:
    print(line, flush=True)


def load_set(name: str) -> pl.DataFrame:
    """Prompts, and for each model of the set the share of its attempts that were right."""
    raw = pl.read_parquet(DATA / SOURCES[name] / "problems.parquet")
    key = (
        pl.format("{}/{}", "dataset", "problem_id")
        if "dataset" in raw.columns
        else pl.col("problem_id").cast(pl.String)
    )
    prompts = raw.select(problem=key, prompt="prompt")
    table = load_problem_set(name).problems.select("problem", "subset", "group").join(prompts, on="problem")
    names = [profile for profile in list_profiles() if profile.startswith(f"{name}/")]
    for profile in names:
        share = load_profile(profile).attempts.group_by("problem").agg(pl.col("correct").mean().alias(f"p:{profile}"))
        table = table.join(share, on="problem", how="left", maintain_order="left")
    solved = pl.mean_horizontal([f"p:{profile}" for profile in names])
    return table.with_columns(difficulty=1 - solved).filter(pl.col("difficulty").is_not_null())


def folds_of(table: pl.DataFrame) -> I64:
    """Folds by the problem's text: the same text in two subsets falls in the same fold."""
    return np.array([zlib.crc32(prompt.encode()) % FOLDS for prompt in table["prompt"]], dtype=np.int64)


def metrics(p: F64, targets: F64, heads: list[str]) -> dict[str, dict[str, float]]:
    found = {}
    for k, head in enumerate(heads):
        known = ~np.isnan(targets[:, k])
        if known.sum() < 20:
            continue
        constant = np.full_like(p[:, k], np.nanmean(targets[:, k]))
        found[head.removeprefix("p:")] = {
            "auroc": round(train.auroc(p[:, k], targets[:, k]), 4),
            "brier": round(float(train.brier(p[known, k], targets[known, k])), 4),
            "brier_constant": round(float(train.brier(constant[known], targets[known, k])), 4),
            "calibration_error": round(train.calibration_error(p[:, k], targets[:, k]), 4),
        }
    return found


def write(merged: train.Linear, slope: F64, card: dict[str, object], scored: dict[str, pl.DataFrame]) -> None:
    MODEL.mkdir(parents=True, exist_ok=True)
    content = to_onnx(merged, slope)
    (MODEL / "difficulty.onnx").write_bytes(content)
    header = {
        "model": "hashed word 1-2-grams and byte 3-5-grams, TF-IDF, one logistic head per model, temperature-scaled",
        "licence": "Apache-2.0",
        "data": "reasoning-gym-eval, MMLU-Pro and SkyThought evaluation logs (all Apache-2.0); no text is kept",
        "split": f"{FOLDS} folds by problem; left_out_task_types: {FOLDS} folds by whole task type",
        "metrics": card,
    }
    (MODEL / "card.yaml").write_text(yaml.safe_dump(header, sort_keys=False, width=110), encoding="utf-8")
    for name, table in scored.items():
        table.write_parquet(
            ROOT / "profiles" / name / "scores.parquet", compression="zstd", compression_level=19, statistics=False
        )
    say(f"model {len(content) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
