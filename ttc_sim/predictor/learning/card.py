"""What a predictor's card says, and writing a trained predictor down."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray

from ttc_sim.base.draws import F64
from ttc_sim.files.writing import write_atomically, written_together, written_whole
from ttc_sim.measured.provenance import ScoredBy
from ttc_sim.policies import DIFFICULTY, NOVELTY
from ttc_sim.predictor.judging.card_figures import card_path
from ttc_sim.predictor.judging.metrics import auroc, brier, calibration_error
from ttc_sim.predictor.judging.score_quantiles import to_card
from ttc_sim.predictor.learning.calibration import Prediction
from ttc_sim.predictor.learning.data import TrainingSet
from ttc_sim.predictor.learning.embedding import DIMENSIONS
from ttc_sim.predictor.learning.export import to_onnx
from ttc_sim.predictor.learning.train import FOLDS, Held, Trained
from ttc_sim.predictor.reading.surface import COUNT
from ttc_sim.predictor.running.session import PER_MODEL, Scores


@dataclass(frozen=True)
class Origin:
    """What a user says of the training data.

    Attributes:
        data: where it comes from; licence: of the model.
        marked: by model, what a reader must know of its token counts.
        subsets: by name, a training set and which of its problems (n,) get figures of their own.
    """

    data: str
    licence: str
    marked: Mapping[str, str] = field(default_factory=dict)
    subsets: Mapping[str, tuple[str, NDArray[np.bool_]]] = field(default_factory=dict)


def describe(trained: Trained, sets: Mapping[str, TrainingSet], origin: Origin) -> dict[str, object]:
    """The card: what the model was trained on, and how good it is on what it was not trained on."""
    figures: dict[str, object] = {}
    for name, data in sets.items():
        held = trained.held[name]
        recipe = trained.recipes[name]
        figures[name] = {
            "problems": len(data.prompts),
            "attempts": len(data.row),
            "task_types": len(set(data.groups))
            if data.groups
            else "not known: clusters of like prompts stand for them",
            **({"left_out": list(data.left_out)} if data.left_out else {}),
            "network": {"hidden": recipe.hidden, "epochs": recipe.epochs, "dropout": recipe.dropout},
            "new_problems": measures(data, held.new, None),
            "new_task_types": measures(data, held.unseen, held.constant),
        }
    for name, (source, which) in origin.subsets.items():
        figures[name] = {"new_problems": measures(sets[source], trained.held[source].new, None, which)}
    heads: dict[str, dict[str, object]] = {}
    for expert in trained.model.experts:
        for k, head in enumerate(expert.heads):
            heads[head] = {"rate": round(float(expert.rate[k]), 6)}
            if head in origin.marked:
                heads[head]["tokens_note"] = origin.marked[head]
    text = trained.model.encoder.text
    meaning = "" if text is None else f", {trained.model.encoder.axes.shape[1]} dimensions of a frozen text encoder "
    if text is not None:
        meaning += f"({text.layers} layers of {text.width}, mean of the last)"
    return {
        "model": f"word 1-2-grams and byte 4-grams hashed to TF-IDF, reduced to {DIMENSIONS} dimensions{meaning}, and {COUNT} "
        "surface figures, into small networks over all models at once; Platt-scaled; drawn to the training rate far from the "
        "training data",
        "licence": origin.licence,
        "data": origin.data,
        "split": f"new_problems: {FOLDS} folds by the problem's text; new_task_types: {FOLDS} folds by whole task type; "
        "calibration and trust of each fold are learnt on the other folds; scores: their distribution over new_problems",
        "heads": heads,
        "metrics": figures,
        "scores": {name: to_card(_scores(data, trained.held[name])) for name, data in sets.items()},
    }


def measures(
    data: TrainingSet, said: Prediction, constant: F64 | None, which: NDArray[np.bool_] | None = None
) -> dict[str, dict[str, float]]:
    """By model: figures of the chance to be right, and of the lengths.

    ``brier_constant`` is the Brier score of the training rate; ``tokens_below_p90`` and ``_p50`` are shares of attempts, which
    should be 0.9 and 0.5; ``tokens_mean_ratio`` is predicted over measured tokens.
    """
    chosen = np.ones(len(data.prompts), dtype=bool) if which is None else which
    found = {}
    rates = np.nanmean(data.share, axis=0)
    weight = 1 / data.tries[data.row, data.head]
    for k, head in enumerate(data.heads):
        known = chosen & ~np.isnan(data.share[:, k])
        mine = (data.head == k) & chosen[data.row]
        share, p = data.share[known, k], said.p[known, k]
        if known.sum() < 20 or share.sum() == 0 or share.sum() == len(share):
            continue
        base: F64 = np.full(len(share), rates[k]) if constant is None else constant[known, k]
        at, w, tokens = data.row[mine], weight[mine], data.tokens[mine]
        figures = {
            "auroc": auroc(p, share),
            "brier": brier(p, share),
            "brier_constant": brier(base, share),
            "calibration_error": calibration_error(p, share),
            "tokens_mean_ratio": float((w * said.tokens[at, k]).sum() / (w * tokens).sum()),
            "tokens_below_p50": float((w * (tokens <= said.tokens_p50[at, k])).sum() / w.sum()),
            "tokens_below_p90": float((w * (tokens <= said.tokens_p90[at, k])).sum() / w.sum()),
            "tokens_log_error": float(
                np.sqrt((w * (np.log(tokens) - np.log(said.tokens_p50[at, k])) ** 2).sum() / w.sum())
            ),
            "tokens_log_spread": float(np.sqrt(np.cov(np.log(tokens), aweights=w))),
        }
        found[head] = {name: round(value, 4) for name, value in figures.items()}
    return found


def write_model(
    path: Path,
    trained: Trained,
    sets: Mapping[str, TrainingSet],
    origin: Origin,
    scores: Mapping[str, Path] | None = None,
) -> dict[str, object]:
    """Write the ONNX file and its card, together or not at all; return the card.

    Args:
        scores: by training set, where to write its scores out of fold (:func:`scores_out_of_fold`), as by this predictor.

    Raises:
        InputError: a folder cannot be written to.
    """
    card = describe(trained, sets, origin)
    said = written_card(card)
    model = to_onnx(trained.model)
    by = ScoredBy(path.name, hashlib.sha256(model).hexdigest()).as_metadata()
    with written_together():
        write_atomically(path, model)
        write_atomically(card_path(path), said)
        for name, file in (scores or {}).items():
            with written_whole(file) as beside:
                scores_out_of_fold(sets[name], trained.held[name]).write_parquet(beside, metadata=by)
    return card


def written_card(card: Mapping[str, object]) -> str:
    """A card as it stands in its file."""
    return yaml.dump(dict(card), Dumper=_Card, sort_keys=False, width=110, allow_unicode=True)


def scores_out_of_fold(data: TrainingSet, held: Held) -> pl.DataFrame:
    """Column ``problem`` and those of :meth:`Scores.table`, by models that were not trained on the problem."""
    said = held.new
    p, *tokens = (dict(zip(data.heads, getattr(said, kind).T, strict=True)) for kind in PER_MODEL)
    table = Scores(_difficulty(held.new), held.new_novelty, p, *tokens).table()
    return pl.concat([pl.DataFrame({"problem": data.problems}), table], how="horizontal")


def _scores(data: TrainingSet, held: Held) -> dict[str, F64]:
    """Scores by name, each (n,), of the problems by models that were not trained on them."""
    p = {f"p:{head}": held.shipped.p[:, k] for k, head in enumerate(data.heads)}
    return {DIFFICULTY: _difficulty(held.shipped), NOVELTY: held.new_novelty, **p}


def _difficulty(said: Prediction) -> F64:
    return np.asarray(1 - said.p.mean(axis=1))


class _Card(yaml.SafeDumper):
    """Lists of numbers stand in one line."""


_Card.add_representer(
    list, lambda dumper, numbers: dumper.represent_sequence("tag:yaml.org,2002:seq", numbers, flow_style=True)
)


__all__ = ["Origin", "describe", "measures", "scores_out_of_fold", "write_model", "written_card"]
