"""What a predictor says of an import's problems: trained out of fold, taken from the import, or how to come by it."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Progress
from ttc_sim.drafting.imported import PROBLEMS, SCORES, Imported
from ttc_sim.drafting.measured import Measured
from ttc_sim.measured.provenance import FAST, scores_name

MODEL = "predictor.onnx"
CARD = "predictor.card.yaml"


@dataclass(frozen=True)
class Scored:
    """By what requests can be routed.

    Attributes:
        predictor: as the scenario names it, ``None`` for the shipped one's or for none; scores: the file of scores in the problem
            set's folder, ``None`` without any.
        why: in words; how: to come by scores, where there are none: a sentence with the command.
    """

    predictor: str | None
    scores: str | None
    why: str
    how: str | None = None


def score(
    imported: Imported,
    measured: Measured,
    names: Mapping[str, str],
    folder: Path,
    problem_set: str,
    to: Path,
    *,
    train: bool,
    say: Progress,
) -> Scored:
    """Train a predictor, or take the import's scores, into a folder that the scenario stands in.

    Args:
        names: of the profiles, by model; folder: to write to; to: where it will stand, for commands.
        train: whether a predictor may be trained.
    """
    place = folder / "profiles" / problem_set
    reason = _why_not(measured, train)
    if reason is None:
        try:
            return _trained(measured, names, folder, place, problem_set, imported.origin, say)
        except InputError as error:
            reason = f"{error.field}: {error.value}; training takes {error.expected}"
    if imported.scores is not None:
        table = pl.read_parquet(imported.scores, glob=False)
        kept = table.filter(pl.col("problem").cast(pl.String).is_in(measured.problems["problem"].implode()))
        if len(kept):
            metadata = {k: v for k, v in pl.read_parquet_metadata(imported.scores).items() if k.startswith("ttc_sim.")}
            kept.write_parquet(place / SCORES, metadata=metadata)
            return Scored(None, SCORES, f"Scores of the import: no predictor of your own, as {reason}.")
    stood = to / "profiles" / problem_set / SCORES
    if stood.is_file():
        (place / SCORES).write_bytes(stood.read_bytes())
        return Scored(None, SCORES, f"Scores that stood there: no predictor of your own, as {reason}.")
    return Scored(None, None, f"No predictor: {reason}.", _how(imported, measured, to, problem_set))


def _why_not(measured: Measured, train: bool) -> str | None:
    from ttc_sim.predictor.learning.data import LEAST_PROBLEMS

    if measured.prompts is None:
        return "the import holds no prompts"
    different = measured.prompts["prompt"].n_unique()
    if different < LEAST_PROBLEMS:
        return f"there are {different:,} different prompts, and training takes {LEAST_PROBLEMS}"
    if len(measured.profiles) < 2:
        return "there is one model, so that nothing is to be chosen by it"
    if not train:
        return "none was wanted"
    if any(importlib.util.find_spec(package) is None for package in ("onnx", "threadpoolctl")):
        return "training needs pip install 'ttc-sim[train]'"
    return None


def _trained(
    measured: Measured,
    names: Mapping[str, str],
    folder: Path,
    place: Path,
    problem_set: str,
    origin: str,
    say: Progress,
) -> Scored:
    from ttc_sim.predictor.learning.card import Origin, write_model
    from ttc_sim.predictor.learning.data import read_training_set
    from ttc_sim.predictor.learning.train import train

    assert measured.prompts is not None
    problems, attempts = folder / "train-problems.parquet", folder / "train-attempts.parquet"
    measured.prompts.write_parquet(problems)
    # A model is called what its profile is called.
    called = {model: f"{problem_set}/{names[model]}" for model in measured.profiles}
    measured.attempts.with_columns(pl.col("model").replace_strict(called)).write_parquet(attempts)
    data = read_training_set(problems, attempts)
    sets = {"data": data}
    scores = scores_name(MODEL)
    write_model(
        folder / MODEL, train(sets, 0, say, workers=2), sets, Origin(origin, "not stated"), {"data": place / scores}
    )
    for file in (problems, attempts):
        file.unlink()
    without = (
        f" It knows nothing of {', '.join(line.partition(':')[0] for line in data.left_out)}." if data.left_out else ""
    )
    return Scored(
        MODEL, scores, f"A predictor trained on these problems; each was scored by models that never saw it.{without}"
    )


def _how(imported: Imported, measured: Measured, to: Path, problem_set: str) -> str:
    scores = to / "profiles" / problem_set / scores_name(FAST)
    if measured.prompts is not None:
        files = [shlex.quote(str(folder / PROBLEMS)) for folder in imported.folders if (folder / PROBLEMS).is_file()]
        command = f"ttc-sim predictor score {files[0]} --column prompt --out {shlex.quote(str(scores))}"
        return f"The shipped one's scores: `{command}`"
    named = " ".join(shlex.quote(name) for name in imported.files) or "FILE..."
    command = f"ttc-sim import {named} --out {shlex.quote(str(imported.folders[0]))} --keep-prompts"
    return f"With prompts: `{command}`, and this again with --replace"
