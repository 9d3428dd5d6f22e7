"""The shipped problems and their scores, each by a model that has not seen it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.measured.folders import list_profiles
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.provenance import FAST
from ttc_sim.policies import DIFFICULTY, NOVELTY
from ttc_sim.predictor.judging.measured import Measured


def is_shipped(data: Measured) -> NDArray[np.bool_]:
    """(n,) whether each problem is in a shipped problem set. Prompts are not shipped, so keys tell; a plain number, which any
    table may have, counts only if the category is the shipped problem's too."""
    sets = [load_problem_set(name).problems for name in list_profiles(card_file="problem_set.yaml")]
    group = {problem: name for table in sets for problem, name in table.select("problem", "group").iter_rows()}
    same = [
        key in group and ("/" in key or group[key] == name)
        for key, name in zip(data.problem, data.group.tolist(), strict=True)
    ]
    return np.array(same, dtype=np.bool_)


def shipped_scores(model: str | Path | None = None) -> pl.DataFrame:
    """``problem``, ``difficulty``, ``novelty`` and ``p:PROFILE`` of the shipped problems, each by a model that has not seen it.

    Args:
        model: name of a shipped predictor; the fast one if left out.
    """
    tier = str(model or FAST)
    sets = [load_problem_set(name, None, tier).problems for name in list_profiles(card_file="problem_set.yaml")]
    table = pl.concat(sets, how="diagonal_relaxed")
    scores = [name for name in table.columns if name in (DIFFICULTY, NOVELTY) or name.startswith("p:")]
    return table.select("problem", *scores).filter(pl.col(DIFFICULTY).is_not_null())


def scores_of_shipped(data: Measured, model: str | Path | None) -> tuple[Measured, dict[str, F64], list[str]]:
    """Scores of the shipped problems among these, each by a model that has not seen it."""
    listed = pl.DataFrame({"problem": data.problem}).with_row_index("row").filter(is_shipped(data))
    joined = listed.join(shipped_scores(model), on="problem", how="inner").sort("row")
    if joined.is_empty():
        raise InputError("evaluate", "--out-of-fold", data.problem[0], "problems of a shipped problem set")
    keep = np.zeros(len(data), dtype=np.bool_)
    keep[joined["row"].to_numpy()] = True
    names = [name for name in joined.columns if name in (DIFFICULTY, NOVELTY) or name.startswith("p:")]
    scores = {name: joined[name].to_numpy().astype(np.float64) for name in names if joined[name].null_count() == 0}
    left = len(data) - int(keep.sum())
    notes = [f"{left:,} problems are left out: they are in no shipped problem set"] if left else []
    return data.kept(keep), scores, notes
