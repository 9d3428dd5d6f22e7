"""Train the shipped predictors from the measured data beside the checkout, and score the shipped problems out of fold.

``python scripts/train_predictor.py [fast] [encoder]`` trains those named, or both.

A shipped problem's scores come from models of the same recipe that have not seen it: with scores from a model trained on
it, every plan would promise too much.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.files.writing import written_whole
from ttc_sim.measured.folders import list_profiles
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.profiles import load_profile
from ttc_sim.measured.provenance import identify, scores_name
from ttc_sim.predictor.learning.card import Origin, scores_out_of_fold, write_model
from ttc_sim.predictor.learning.data import TrainingSet
from ttc_sim.predictor.learning.text_encoder import installed_encoder, read_text_encoder
from ttc_sim.predictor.learning.train import train
from ttc_sim.predictor.running.session import TIERS

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
SOURCES = {"reasoning-gym": "reasoning-gym", "mmlu-pro": "mmlu-pro", "math": "math-attempts"}


def main() -> None:
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there: the predictor can only be retrained beside the measured data")
    start = time.perf_counter()
    sets: dict[str, TrainingSet] = {}
    marked: dict[str, str] = {}
    for name in SOURCES:
        sets[name], notes = load_set(name)
        marked |= notes
    for tier in sys.argv[1:] or TIERS:
        text = read_text_encoder(installed_encoder()) if tier == "encoder" else None

        def say(line: str, tier: str = tier) -> None:
            print(f"{time.perf_counter() - start:6.0f} s  {tier}: {line}", flush=True)

        trained = train(sets, 0, say, workers=2, text=text)
        origin = Origin(
            data="reasoning-gym-eval, MMLU-Pro and SkyThought evaluation logs (all Apache-2.0); no text is kept"
            + ("" if text is None else "; text encoder all-MiniLM-L6-v2 (Apache-2.0)"),
            licence="Apache-2.0",
            marked=marked,
            subsets={"reasoning-gym-easy": ("reasoning-gym", easy(sets["reasoning-gym"]))},
        )
        write_model(TIERS[tier], trained, sets, origin)
        for name, data in sets.items():
            write_scores(name, tier, scores_out_of_fold(data, trained.held[name]))


def write_scores(name: str, tier: str, scores: pl.DataFrame) -> None:
    file = ROOT / "profiles" / name / scores_name(tier)
    by = identify(tier).as_metadata()
    with written_whole(file) as beside:
        scores.write_parquet(beside, compression="zstd", compression_level=19, statistics=False, metadata=by)


def easy(data: TrainingSet) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([problem.startswith("reasoning-gym-easy/") for problem in data.problems])


def load_set(name: str) -> tuple[TrainingSet, dict[str, str]]:
    """Prompts and all attempts of the set's profiles; and by profile, whose thinking its token counts take over."""
    raw = pl.read_parquet(DATA / SOURCES[name] / "problems.parquet")
    key = (
        pl.format("{}/{}", "dataset", "problem_id")
        if "dataset" in raw.columns
        else pl.col("problem_id").cast(pl.String)
    )
    prompts = raw.select(problem=key, prompt="prompt")
    table = (
        load_problem_set(name, None, None)
        .problems.select("problem", "group")
        .join(prompts, on="problem", maintain_order="left")
    )
    profiles = [load_profile(profile) for profile in list_profiles() if profile.startswith(f"{name}/")]
    attempts = pl.concat(
        [
            profile.attempts.select(
                "problem",
                "correct",
                tokens=(pl.col("reasoning_tokens") + pl.col("visible_tokens")).cast(pl.Float64),
                head=pl.lit(k, pl.Int64),
            )
            for k, profile in enumerate(profiles)
        ]
    )
    table = table.join(attempts.select("problem"), on="problem", how="semi", maintain_order="left")
    attempts = attempts.join(table.select("problem").with_row_index("row"), on="problem").sort("row", "head", "tokens")
    marked = {one.name: str(one.card.reasoning_source) for one in profiles if one.card.reasoning == "filled"}
    return (
        TrainingSet(
            problems=tuple(table["problem"].to_list()),
            prompts=tuple(table["prompt"].to_list()),
            groups=tuple(table["group"].to_list()),
            heads=tuple(profile.name for profile in profiles),
            row=attempts["row"].to_numpy().astype(np.int64),
            head=attempts["head"].to_numpy().astype(np.int64),
            tokens=attempts["tokens"].to_numpy().astype(np.float64),
            correct=attempts["correct"].to_numpy().astype(np.bool_),
        ),
        marked,
    )


if __name__ == "__main__":
    main()
