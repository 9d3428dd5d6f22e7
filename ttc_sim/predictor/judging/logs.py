"""Recent logs, earlier ones and shipped problem sets as samples of scores and outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64, I64
from ttc_sim.files.tables import find_column, read_table
from ttc_sim.measured.building import usual_names
from ttc_sim.measured.columns import as_numbers, as_text, labels, texts
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.problem_tables import CORRECT, MODEL, PROMPT
from ttc_sim.measured.profiles import load_profile
from ttc_sim.measured.provenance import FAST
from ttc_sim.policies import DIFFICULTY, NOVELTY
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.judging.measured import heads_like
from ttc_sim.predictor.judging.metrics import clusters_of


@dataclass(frozen=True)
class Outcomes:
    """Attempts of one model: predicted chance, share right (0 to 1), and the prompt that each belongs to."""

    p: F64
    right: F64
    prompt: I64


@dataclass(frozen=True)
class Sample:
    """Scores by name, one a distinct prompt, and outcomes by model as far as they are known."""

    scores: Mapping[str, F64]
    outcomes: Mapping[str, Outcomes]
    origin: str

    @property
    def prompts(self) -> int:
        """Distinct prompts."""
        return len(self.scores[DIFFICULTY])


def read_log(path: str | Path, predictor: Predictor, notes: list[str]) -> Sample:
    """A log with prompts, scored now, or a table of earlier scores with whatever else it kept."""
    table = read_table(path)
    if DIFFICULTY in table.columns and not any(name in table.columns for name in PROMPT):
        scores = table.select(
            pl.col(name) for name in table.columns if name in (DIFFICULTY, NOVELTY) or name.startswith("p:")
        )
        scores = scores.with_columns(as_numbers(table, path, name, 0, 1) for name in scores.columns)
        key = find_column(table, path, "problem", usual_names(table, "problem"), required=False)
        prompt = clusters_of(as_text(table, path, key).fill_null("")) if key else np.arange(len(table))
    else:
        asked = texts(table, path, str(find_column(table, path, "prompt", PROMPT)))
        different, prompt = np.unique(np.asarray(asked.to_list(), dtype=object), return_inverse=True)
        scores = predictor.score(different.tolist()).table()[prompt.tolist()]
    first = np.unique(prompt, return_index=True)[1]
    by_row = {name: scores[name].to_numpy().astype(np.float64) for name in scores.columns}
    kept = {
        name: values[first] for name, values in by_row.items() if name in (DIFFICULTY, NOVELTY) or name.startswith("p:")
    }
    return Sample(kept, _outcomes(table, path, by_row, prompt.astype(np.int64), notes), str(path))


def _outcomes(
    table: pl.DataFrame, path: str | Path, scores: Mapping[str, F64], prompt: I64, notes: list[str]
) -> dict[str, Outcomes]:
    correct = find_column(table, path, "correct", CORRECT, required=False)
    if correct is None:
        return {}
    right = labels(table, path, correct, shares=True).to_numpy().astype(np.float64)
    named = find_column(table, path, "model", MODEL, required=False)
    models: Any = as_text(table, path, named).fill_null("").to_numpy() if named else np.full(len(table), "")
    heads = [name.removeprefix("p:") for name in scores if name.startswith("p:")]
    parts: dict[str, list[np.ndarray[Any, Any]]] = {}
    for name in sorted(set(models)):
        found = heads_like(str(name), heads)
        if len(found) != 1:
            said = name or "rows that name no model"
            why = f"{len(found)} heads have this name" if found else "the predictor has no head for it"
            notes.append(f"{said}: {why}; calibration of 1 - difficulty is tested for it")
        head = found[0] if len(found) == 1 else str(name) or "all models"
        parts.setdefault(head, []).append(np.flatnonzero((models == name) & ~np.isnan(right)))
    gathered = {head: np.sort(np.concatenate(rows)) for head, rows in parts.items()}
    return {
        head: Outcomes(scores.get(f"p:{head}", 1 - scores[DIFFICULTY])[rows], right[rows], clusters_of(prompt[rows]))
        for head, rows in gathered.items()
        if len(rows)
    }


def shipped_sample(name: str, model: str | Path | None = None) -> Sample:
    """A shipped problem set: scores of a shipped predictor out of fold, outcomes of its profiles."""
    table = load_problem_set(name, None, str(model or FAST)).problems
    table = table.filter(pl.col(DIFFICULTY).is_not_null()).with_row_index("row")
    names = [item for item in table.columns if item in (DIFFICULTY, NOVELTY) or item.startswith("p:")]
    scores = {item: table[item].to_numpy().astype(np.float64) for item in names if table[item].null_count() == 0}
    outcomes = {}
    for profile in (item.removeprefix("p:") for item in scores if item.startswith("p:")):
        tried = table.select("row", "problem").join(load_profile(profile).attempts, on="problem").sort("row", "attempt")
        row = tried["row"].to_numpy().astype(np.int64)
        right = tried["correct"].to_numpy().astype(np.float64)
        outcomes[profile] = Outcomes(scores[f"p:{profile}"][row], right, clusters_of(row))
    return Sample(scores, outcomes, f"shipped problem set {name} (out of fold)")


def join(samples: Sequence[Sample]) -> Sample:
    """Several samples as one, each score from those that have it. The same prompt in two files counts twice."""
    if len(samples) == 1:
        return samples[0]
    gathered: dict[str, list[Outcomes]] = {}
    for sample in samples:
        for model, found in sample.outcomes.items():
            gathered.setdefault(model, []).append(found)
    outcomes = {}
    for model, parts in gathered.items():
        starts = np.cumsum([0, *(int(part.prompt.max()) + 1 for part in parts)])
        prompt = np.concatenate([part.prompt + start for part, start in zip(parts, starts, strict=False)])
        p, right = (np.concatenate([getattr(part, name) for part in parts]) for name in ("p", "right"))
        outcomes[model] = Outcomes(p, right, prompt)
    names = dict.fromkeys(name for sample in samples for name in sample.scores)
    scores = {
        name: np.concatenate([sample.scores[name] for sample in samples if name in sample.scores]) for name in names
    }
    return Sample(scores, outcomes, "; ".join(sample.origin for sample in samples))


__all__ = ["Outcomes", "Sample", "join", "read_log", "shipped_sample"]
