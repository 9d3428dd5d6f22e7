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
from numpy.typing import NDArray
from scipy import sparse

from ttc_sim.draws import F64, I64
from ttc_sim.predictor import train
from ttc_sim.predictor.export import to_onnx
from ttc_sim.profiles import list_profiles, load_profile, load_problem_set

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
        added, new, base = train.out_of_fold(counts[name], targets, heads, STRENGTH[name], idf, fold[name])
        fits[name] = (heads, targets, added, new, base, train.calibrate(added, base, targets))
        parts.append(train.fit(counts[name], targets, heads, STRENGTH[name], idf))
        slopes.append(fits[name][5])
    say("difficulty over all sets")
    hard = np.concatenate([table["difficulty"].to_numpy() for table in tables.values()])[:, None]
    all_folds = np.concatenate(list(fold.values()))
    hard_added, hard_new, hard_base = train.out_of_fold(stacked, hard, ["difficulty"], 3.0, idf, all_folds)
    hard_slope = train.calibrate(hard_added, hard_base, hard)
    difficulty = train.fit(stacked, hard, ["difficulty"], 3.0, idf)

    say("whole task types left out")
    gym = tables["reasoning-gym"]
    heads, targets, added, new, base, slope = fits["reasoning-gym"]
    by_task = np.array([zlib.crc32(task.encode()) % FOLDS for task in gym["group"]], dtype=np.int64)
    with_hard = np.column_stack([targets, gym["difficulty"].to_numpy()])
    # As in service, the other sets count as seen when novelty is measured.
    others = sparse.vstack([counts["mmlu-pro"], counts["math"]], format="csr")
    left_added, left_new = left_out(counts["reasoning-gym"], with_hard, [*heads, "difficulty"], by_task, others, idf)
    gym_rows = slice(0, len(gym))
    familiar, strange = fit_shrink(added, hard_new[gym_rows], left_added[:, :-1], left_new, base, slope, targets)
    say(f"predictions fade out between novelty {familiar:.2f} and {strange:.2f}")

    start = 0
    for name, table in tables.items():
        heads, targets, added, _, base, slope = fits[name]
        rows = slice(start, start + len(table))
        start += len(table)
        keep = train.keep_of(hard_new[rows], familiar, strange)
        p = train.probabilities(added, base, slope, keep)
        d = train.probabilities(hard_added[rows], hard_base, hard_slope, keep)[:, 0]
        columns = {"problem": table["problem"], "difficulty": d, "novelty": hard_new[rows]}
        columns |= {head: p[:, k] for k, head in enumerate(heads)}
        if name == "reasoning-gym":
            unseen_keep = train.keep_of(left_new, familiar, strange)
            unseen = train.probabilities(left_added[:, :-1], base, slope, unseen_keep)
            unseen_d = train.probabilities(left_added[:, -1:], hard_base, hard_slope, unseen_keep)[:, 0]
            columns |= {"unseen:difficulty": unseen_d, "unseen:novelty": left_new}
            columns |= {f"unseen:{head}": unseen[:, k] for k, head in enumerate(heads)}
            card["left_out_task_types"] = metrics(unseen, targets, heads)
        card[name] = metrics(p, targets, heads)
        if name == "reasoning-gym":
            easy = (table["subset"] == "reasoning-gym-easy").to_numpy()
            card["reasoning-gym-easy"] = metrics(p[easy], targets[easy], heads)
        scored[name] = pl.DataFrame(columns).with_columns(pl.exclude("problem").cast(pl.Float32))
    merged = train.Linear(
        heads=tuple(head for part in parts for head in part.heads) + ("difficulty",),
        idf=idf,
        seen=difficulty.seen,
        weight=np.column_stack([*(part.weight for part in parts), difficulty.weight]),
        base=np.concatenate([*(part.base for part in parts), difficulty.base]),
        bias=np.concatenate([*(part.bias for part in parts), difficulty.bias]),
        familiar=familiar,
        strange=strange,
    )
    write(merged, np.concatenate([*slopes, hard_slope]), card, scored)


def say(line: str) -> None:
    print(line, flush=True)


def load_set(name: str) -> pl.DataFrame:
    """Prompts, and for each model of the set the share of its attempts that were right."""
    raw = pl.read_parquet(DATA / SOURCES[name] / "problems.parquet")
    key = pl.format("{}/{}", "dataset", "problem_id") if "dataset" in raw.columns else pl.col("problem_id").cast(pl.String)
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


def left_out(
    counts: sparse.csr_matrix, targets: F64, heads: list[str], fold: I64, others: sparse.csr_matrix, idf: NDArray[np.float32]
) -> tuple[F64, F64]:
    """Logits and novelty for task types that the model has not seen."""
    added, new = np.zeros(targets.shape), np.zeros(len(targets))
    for k in range(FOLDS):
        say(f"  fold {k + 1} of {FOLDS}")
        held = np.flatnonzero(fold == k)
        model = train.fit(counts[fold != k], targets[fold != k], heads, STRENGTH["reasoning-gym"], idf)
        added[held] = model.logits(train.scale(counts[held], model.idf))
        seen = np.bincount(np.concatenate([counts[fold != k].indices, others.indices]), minlength=train.BUCKETS) >= 2
        wide = train.Linear((), idf, seen.astype(np.float32), model.weight, model.base, model.bias)
        new[held] = train.novelty(counts[held], wide)
    return added, new


def fit_shrink(
    added: F64,
    new: F64,
    left_added: F64,
    left_new: F64,
    base: NDArray[np.float32],
    slope: F64,
    targets: F64,
) -> tuple[float, float]:
    """Novelty between which predictions fade to the base rate: least Brier score on known and on unseen task types."""
    levels = np.quantile(np.concatenate([new, left_new]), np.linspace(0.02, 0.98, 25))
    best = (np.inf, 1.0, 2.0)
    for a in levels:
        for b in levels[levels > a]:
            known = train.brier(train.probabilities(added, base, slope, train.keep_of(new, a, b)), targets).mean()
            unseen = train.brier(train.probabilities(left_added, base, slope, train.keep_of(left_new, a, b)), targets).mean()
            best = min(best, (float(known + unseen), float(a), float(b)))
    return best[1], best[2]


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
        "novelty": {"familiar": round(merged.familiar, 4), "strange": round(merged.strange, 4)},
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
